import { FetchError, type Row, type ShapeStreamOptions } from '@electric-sql/client'
import { getApiBaseUrl } from '../../lib/api'
import { getAuthToken } from '../../stores/auth-store'
import { watchedFetch } from '../../stores/connection-store'
import { useShapeTokenStore } from '../../stores/shape-token-store'

async function fetchShapeToken(table: string, params: Record<string, any>): Promise<string> {
    for (;;) {
        const response = await watchedFetch(`${getApiBaseUrl()}/shapes/auth-token`, {
            method: 'POST',
            headers: {
                'Content-Type': 'application/json',
                'Authorization': `Bearer ${getAuthToken()}`,
            },
            body: JSON.stringify({ table, params }),
        }).catch(() => undefined)
        if (response?.ok) return (await response.json()).token
        if (response && response.status < 500 && response.status !== 401) {
            throw new Error('Failed to fetch shape token')
        }
        // The server is away, or the auth token is just being renewed.
        await new Promise((done) => setTimeout(done, 500))
    }
}

export function createShapeConfig<T extends Row<unknown>>(
    table: string, params: Record<string, any>,
): Pick<ShapeStreamOptions<T>, 'params' | 'headers' | 'onError'> {
    const cacheKey = `${table}|${JSON.stringify(params)}`

    const getAuthHeader = async () => {
        const cachedToken = useShapeTokenStore.getState().getToken(cacheKey)
        if (cachedToken) return `Bearer ${cachedToken}`
        const newShapeToken = await fetchShapeToken(table, params)
        useShapeTokenStore.getState().setToken(cacheKey, newShapeToken)
        return `Bearer ${newShapeToken}`
    }

    const onErrorFunc = async (error: Error) => {
        // The token has come to its end: without it, the next request fetches another.
        if (error instanceof FetchError && error.status === 401) {
            console.warn('[Shape Auth] 401 Unauthorized. Invalidating token and retrying...')
            useShapeTokenStore.getState().removeToken(cacheKey)
            return {}
        }
        throw error
    }

    return {
        params: { table, ...params },
        headers: { Authorization: getAuthHeader },
        onError: onErrorFunc,
    }
}
