// The todos as patterns 1 to 3 read them, and how a write is known to have come back.
import type { Message, ShapeStreamInterface } from '@electric-sql/client'
import { getShape, getShapeStream, useShape } from '@electric-sql/react'
import { useSnapshot } from 'valtio'
import { apiUrl } from './api'
import { network, networkFetch } from './network'
import type { Accepted, Todo, Write } from './types'

export type TodoRow = {
    id: string; title: string; completed: boolean; created_at: Date; write_id: string | null
}

const options = {
    url: apiUrl('/todos'),
    parser: { timestamptz: (text: string) => new Date(text) as any },
    fetchClient: networkFetch,
    backoffOptions: { initialDelay: 100, maxDelay: 1000, multiplier: 1.5 },
}

/** So many are remembered; of those before, `lsn` tells. */
const TXIDS_MAX = 10_000

/** Remembers which transactions the stream has delivered, as of its last commit point. */
export class Observer {
    private readonly txids = new Set<number>()
    private lsn = 0n
    private readonly changed = new Set<() => void>()

    constructor(stream: Pick<ShapeStreamInterface<any>, 'subscribe'>) {
        let arrived: number[] = []
        stream.subscribe((messages: Message<any>[]) => {
            for (const { headers } of messages) {
                if ('txids' in headers) arrived.push(...(headers.txids as number[]))
                if (!('control' in headers) || headers.control !== 'up-to-date') continue
                for (const txid of arrived) this.txids.add(txid)
                arrived = []
                for (const txid of this.txids) {
                    if (this.txids.size <= TXIDS_MAX) break
                    this.txids.delete(txid)
                }
                const seen = BigInt((headers as any).global_last_seen_lsn ?? 0)
                if (seen > this.lsn) this.lsn = seen
                for (const look of [...this.changed]) look()
            }
        }, () => {})
    }

    has({ txid, lsn }: Accepted): boolean {
        return txid === null || this.txids.has(txid) || (BigInt(lsn) > 0n && this.lsn >= BigInt(lsn))
    }

    /** Waits until the stream has the write: then, not before, the optimistic copy can go. */
    async observed(accepted: Accepted): Promise<void> {
        if (this.has(accepted)) return
        await new Promise<void>((done) => {
            const look = () => {
                if (!this.has(accepted)) return
                this.changed.delete(look)
                done()
            }
            this.changed.add(look)
        })
    }
}

// The shape subscribes first, so that it has a transaction's rows when the observer tells.
const stream = getShapeStream<TodoRow>(options as any)
getShape<TodoRow>(stream)
export const observer = new Observer(stream)

/** What the server said of a shape that it will not give. */
export const refusalOf = (error: Error): string =>
    `The server refused the todos: ${(error as any).json?.message ?? error.message}`

/** `loading`: why there are no todos yet. */
export function useTodos(): { todos: Todo[]; loading?: string } {
    const { data, isLoading, error } = useShape<TodoRow>(options as any)
    const { online, reachable } = useSnapshot(network)
    const loading = error ? refusalOf(error)
        : !isLoading ? undefined
            : online && reachable ? 'Loading …' : 'Waiting for the server …'
    return { todos: data as unknown as Todo[], loading }
}

/** The rows as they will be when all of these writes have been applied. */
export function fold(todos: Todo[], writes: readonly Write[]): Todo[] {
    const rows = new Map(todos.map((todo) => [todo.id, todo]))
    for (const { operation, todoId, value } of writes) {
        const row = rows.get(todoId)
        const { created_at, ...rest } = value
        if (operation === 'delete') rows.delete(todoId)
        else if (row) rows.set(todoId, { ...row, ...(operation === 'update' && rest), pending: true })
        else if (operation === 'insert') {
            rows.set(todoId, {
                id: todoId, title: value.title!, completed: false,
                created_at: new Date(created_at!), pending: true,
            })
        }
    }
    return [...rows.values()]
}
