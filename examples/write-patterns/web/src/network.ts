// The page's network, with a switch and a delay. Everything that the four patterns ask of the
// server goes through networkFetch; the other user has a connection of their own.
import { proxy } from 'valtio'
import { subscribeKey } from 'valtio/utils'

export const network = proxy({
    /** The switch. */
    online: true,
    latencyMs: 0,
    /** False while the server gives no answers. */
    reachable: true,
})

export const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms))

const offline = () => new TypeError('The network is off')

/** Rejects as soon as the network is switched off. */
function orOffline<T>(work: Promise<T>): Promise<T> {
    return new Promise((done, fail) => {
        const forget = subscribeKey(network, 'online', (online) => {
            if (!online) fail(offline())
        }, true)
        work.then(done, fail).finally(forget)
    })
}

export const networkFetch: typeof fetch = async (input, init) => {
    if (!network.online) throw offline()
    const cut = new AbortController()
    init?.signal?.addEventListener('abort', () => cut.abort(init.signal!.reason))
    if (init?.signal?.aborted) cut.abort(init.signal.reason)
    const travel = async () => {
        await sleep(network.latencyMs / 2)
        if (!network.online) throw offline()
        const response = await fetch(input, { ...init, signal: cut.signal })
        await sleep(network.latencyMs / 2)
        return response
    }
    try {
        const response = await orOffline(travel())
        network.reachable = response.status < 500
        return response
    } catch (error) {
        if (network.online && !cut.signal.aborted) network.reachable = false
        cut.abort()
        throw error
    }
}

/** Waits so long, or until the network comes back if that is sooner. */
export async function sleepOrOnline(ms: number): Promise<void> {
    let forget = () => {}
    await Promise.race([sleep(ms), new Promise<void>((done) => {
        forget = subscribeKey(network, 'online', (online) => online && done(), true)
    })])
    forget()
}
