// The app's API (routes.json): what can be asked, and what an answer means to a write.
import { networkFetch, sleepOrOnline } from './network'
import type { Accepted, Write } from './types'

declare global {
    interface Window { API_URL: string }
}

export const apiUrl = (path: string) => new URL(path, window.API_URL).href

/** The server looked at the write and will not have it. Asking again won't help. */
export class Refused extends Error {}

/** The server could not be asked, or could not say. Asking again is safe. */
export class Unreachable extends Error {}

export async function call(
    method: string, path: string, body: unknown, key: string, fetcher = networkFetch,
): Promise<Accepted> {
    const headers: Record<string, string> = { 'idempotency-key': key }
    if (body !== undefined) headers['content-type'] = 'application/json'
    let response: Response
    try {
        response = await fetcher(apiUrl(path), {
            method, headers, body: body === undefined ? undefined : JSON.stringify(body),
        })
    } catch (error) {
        throw new Unreachable(error instanceof Error ? error.message : String(error))
    }
    const answer = await response.json().catch(() => ({}))
    if (response.ok) return { txid: answer.txid ?? null, lsn: String(answer.lsn ?? 0) }
    const reason = answer.code === 'not_found'
        ? 'The row is gone: somebody has deleted it'
        : answer.message ?? `The server answered ${response.status}`
    if (response.status >= 500 || response.status === 429) throw new Unreachable(reason)
    throw new Refused(reason)
}

export function send(write: Write, fetcher = networkFetch): Promise<Accepted> {
    const path = `/todos/${write.todoId}`
    const row = { ...write.value, write_id: write.id }
    if (write.operation === 'insert') {
        return call('POST', '/todos', { id: write.todoId, ...row }, write.id, fetcher)
    }
    if (write.operation === 'update') return call('PUT', path, row, write.id, fetcher)
    return call('DELETE', path, undefined, write.id, fetcher)
}

/** Sends until there is an answer, each time a little later. */
export async function sendUntilAnswered(write: Write): Promise<Accepted> {
    for (let attempt = 1; ; attempt++) {
        try {
            return await send(write)
        } catch (error) {
            if (!(error instanceof Unreachable)) throw error
            await sleepOrOnline(Math.min(300 * 2 ** attempt, 10_000))
        }
    }
}
