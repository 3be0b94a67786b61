// Who is signed in, in this tab: the auth token, and its renewal while it is good still.
import { create } from 'zustand'
import { getApiBaseUrl } from '../lib/api'

export interface Session {
    token: string
    /** Unix time in seconds. */
    expiresAt: number
    user: { id: string; name: string }
    conversationId: string
}

const KEY = 'qa-session'

function kept(): Session | null {
    const session: Session | null = JSON.parse(sessionStorage.getItem(KEY) ?? 'null')
    return session && session.expiresAt * 1000 > Date.now() ? session : null
}

export const useAuthStore = create<{ session: Session | null }>(() => ({ session: kept() }))

function setSession(session: Session | null): void {
    if (session) sessionStorage.setItem(KEY, JSON.stringify(session))
    else sessionStorage.removeItem(KEY)
    useAuthStore.setState({ session })
}

export function getAuthToken(): string {
    return useAuthStore.getState().session?.token ?? ''
}

export async function signIn(name: string, password: string): Promise<void> {
    const response = await fetch(`${getApiBaseUrl()}/sign-in`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ name, password }),
    })
    const answer = await response.json().catch(() => ({}))
    if (!response.ok) throw new Error(answer.message ?? `The server answered ${response.status}`)
    setSession(answer)
}

/** A reload ends every collection and every token that this tab holds. */
export function signOut(): void {
    setSession(null)
    location.reload()
}

async function renew(): Promise<void> {
    const { session } = useAuthStore.getState()
    const left = (session?.expiresAt ?? 0) * 1000 - Date.now()
    if (!session) return
    try {
        const response = await fetch(`${getApiBaseUrl()}/renew`, {
            method: 'POST',
            headers: { 'Content-Type': 'application/json', 'Authorization': `Bearer ${session.token}` },
            body: '{}',
        })
        if (response.ok) return setSession(await response.json())
        if (response.status === 401) return signOut()
    } catch {
        // The network is away: there is time for another attempt.
    }
    if (left < 0) signOut()
    else setTimeout(renew, 500)
}

// At half of its life, whatever that is.
let timer: ReturnType<typeof setTimeout> | undefined
function schedule(session: Session | null): void {
    clearTimeout(timer)
    if (session) timer = setTimeout(renew, (session.expiresAt * 1000 - Date.now()) / 2)
}
useAuthStore.subscribe(({ session }) => schedule(session))
schedule(useAuthStore.getState().session)
