export interface Todo {
    id: string
    title: string
    completed: boolean
    created_at: Date
    /** A local write of it is not back from the server yet. */
    pending?: boolean
}

export type Operation = 'insert' | 'update' | 'delete'

/** What a user did, before any server has seen it. Only what changed is in `value`. */
export interface Write {
    /** Goes with the row to the server and comes back in the stream; also the key by which the
     *  server applies it once, however often it is sent. */
    id: string
    operation: Operation
    todoId: string
    value: { title?: string; completed?: boolean; created_at?: string }
}

/** What the server said of a write that it applied. */
export interface Accepted {
    /** As in the stream's headers.txids; null when nothing had to be written. */
    txid: number | null
    /** A stream that has reached it has the write. */
    lsn: string
}

export interface Actions {
    add(title: string): void
    toggle(todo: Todo): void
    rename(todo: Todo, title: string): void
    remove(todo: Todo): void
}
