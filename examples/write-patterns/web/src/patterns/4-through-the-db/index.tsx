// Pattern 4: the app reads and writes a local database; everything else happens behind it.
import { useEffect, useState } from 'react'
import { refusalOf } from '../../shape'
import type { Operation, Todo } from '../../types'
import { Card } from '../../ui'
import { openDatabase, syncTodos, type LocalDatabase } from './database'
import { ChangeLogSynchronizer } from './sync'

interface RejectedChange {
    id: number; operation: Operation; value: { title?: string }; reason: string; was: string | null
}

const OPENING = 'Opening the local database …'
const LOCK = 'through-the-db'

// One tab has the database; it is a file of the browser's that can't be shared.
let opening: Promise<LocalDatabase> | undefined
const open = (
    say: (what: string) => void, complain: (what: string) => void,
) => opening ??= new Promise<LocalDatabase>((opened, failed) => {
    void navigator.locks.query().then(({ held }) => {
        if (held?.some(({ name }) => name === LOCK)) {
            say('Another tab has the local database. It opens here when that one is closed.')
        }
    })
    void navigator.locks.request(LOCK, async () => {
        try {
            say(OPENING)
            const db = await openDatabase()
            await syncTodos(db, (error) => complain(refusalOf(error)))
            await new ChangeLogSynchronizer(db).start()
            say('Waiting for the server …')
            opened(db)
        } catch (error) {
            failed(error)
        }
        await new Promise(() => {}) // held until the tab is closed
    })
})

function useLive<T>(db: LocalDatabase | undefined, sql: string): T[] | undefined {
    const [rows, setRows] = useState<T[]>()
    useEffect(() => {
        if (!db) return
        const following = db.live.query<T>(sql, [], (result) => setRows(result.rows))
        return () => void following.then(({ unsubscribe }) => unsubscribe())
    }, [db, sql])
    return rows
}

export function ThroughTheDb() {
    const [db, setDb] = useState<LocalDatabase>()
    const [notice, setNotice] = useState('')
    const [loading, setLoading] = useState(OPENING)
    useEffect(() => {
        open(setLoading, setNotice).then(setDb, (error) => setLoading(`The local database: ${error.message}`))
    }, [])
    const todos = useLive<Todo>(db, 'SELECT * FROM todos ORDER BY created_at, id')
    const synced = useLive(db, 'SELECT FROM sync_state')
    const rejected = useLive<RejectedChange>(db,
        `SELECT c.id, c.operation, c.value, c.reason, s.title AS was
         FROM changes c LEFT JOIN todos_synced s ON s.id = c.todo_id
         WHERE c.state = 'rejected' ORDER BY c.id`)
    const queued = useLive<{ n: number }>(db,
        "SELECT count(*)::int AS n FROM changes WHERE state IN ('pending', 'sending')")

    const run = (sql: string, values: unknown[]) => {
        db?.query(sql, values).catch((error) => setNotice(error.message))
    }

    return <Card
        number={4} name="Through the DB" todos={todos ?? []} loading={todos?.length || synced?.length ? undefined : loading}
        notice={notice} onNoticeRead={() => setNotice('')} queued={queued?.[0]?.n ?? 0}
        about="Reads and writes a Postgres in the browser. Triggers log changes, a synchroniser sends them."
        rejected={(rejected ?? []).map((change) => ({
            id: String(change.id), operation: change.operation, title: change.value.title,
            reason: change.reason, was: change.was ?? undefined,
            resend: (title) => run('SELECT resend_change($1, $2)',
                [change.id, title === undefined ? {} : { title }]),
            drop: () => run('DELETE FROM changes WHERE id = $1', [change.id]),
        }))}
        actions={{
            add: (title) => run('INSERT INTO todos (id, title, created_at) VALUES ($1, $2, $3)',
                [crypto.randomUUID(), title, new Date()]),
            toggle: (todo) => run('UPDATE todos SET completed = NOT completed WHERE id = $1', [todo.id]),
            rename: (todo, title) => run('UPDATE todos SET title = $2 WHERE id = $1', [todo.id, title]),
            remove: (todo) => run('DELETE FROM todos WHERE id = $1', [todo.id]),
        }} />
}
