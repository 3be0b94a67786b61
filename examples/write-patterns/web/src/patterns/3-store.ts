// The store of pattern 3: writes in valtio for every component, and in localStorage for after a
// reload. Each write is an entry of its own there, so that tabs do not overwrite each other's.
import { proxy } from 'valtio'
import { Refused, sendUntilAnswered } from '../api'
import { observer } from '../shape'
import type { Accepted, Write } from '../types'

export interface StoredWrite extends Write {
    /** Its place in the order of writes. */
    at: number
    accepted?: Accepted
    /** Why the server refused it; it waits for the user's decision. */
    rejected?: string
}

const PREFIX = 'shared-persistent/'

export const store = proxy({
    writes: {} as Record<string, StoredWrite>,
    /** Why writes will not outlive the page; empty when they will. */
    problem: '',
})

const inOrder = (): StoredWrite[] => Object.values(store.writes).sort((a, b) => a.at - b.at)

function keep(write: StoredWrite): void {
    store.writes[write.id] = write
    try {
        localStorage.setItem(PREFIX + write.id, JSON.stringify(write))
    } catch (error) {
        store.problem = `This will not survive a reload: ${(error as Error).message}`
    }
}

function forget(id: string): void {
    delete store.writes[id]
    localStorage.removeItem(PREFIX + id)
}

function load(key: string, text: string | null): void {
    const id = key.slice(PREFIX.length)
    try {
        if (text === null) delete store.writes[id]
        else store.writes[id] = JSON.parse(text)
    } catch {
        localStorage.removeItem(key) // not of our making
    }
}

export function addWrite(write: Write): void {
    const last = inOrder().at(-1)?.at ?? 0
    keep({ ...write, at: Math.max(Date.now(), last + 1) })
    wake()
}

/** The write goes to the end of the queue, under a new id: the old one was refused. */
export function resendWrite(id: string, value: Write['value']): void {
    const { operation, todoId } = store.writes[id]
    forget(id)
    addWrite({ id: crypto.randomUUID(), operation, todoId, value })
}

export const dropWrite = forget

/** Waits for the stream, then drops the overlay. */
function settle(write: StoredWrite): void {
    void observer.observed(write.accepted!).then(() => forget(write.id))
}

let wake: () => void = () => {}

/** Sends in order, one at a time: a later write may depend on an earlier one. */
async function sendAll(): Promise<never> {
    for (;;) {
        const more = new Promise<void>((done) => (wake = done))
        const next = inOrder().find((write) => !write.accepted && !write.rejected)
        if (!next) {
            await more
            continue
        }
        const { at, ...write } = { ...next }
        try {
            const accepted = await sendUntilAnswered(write)
            if (store.writes[write.id]) {
                keep({ ...write, at, accepted })
                settle(store.writes[write.id])
            }
        } catch (error) {
            if (!(error instanceof Refused)) throw error
            keep({ ...write, at, rejected: error.message })
        }
    }
}

for (const key of Object.keys(localStorage)) {
    if (key.startsWith(PREFIX)) load(key, localStorage.getItem(key))
}
for (const write of inOrder()) if (write.accepted) settle(write)
addEventListener('storage', ({ key, newValue }) => {
    if (!key?.startsWith(PREFIX)) return
    load(key, newValue)
    wake()
})
// One tab sends. When it closes, another goes on: sending twice is harmless, see Write.id.
void navigator.locks.request('shared-persistent', () => sendAll())
