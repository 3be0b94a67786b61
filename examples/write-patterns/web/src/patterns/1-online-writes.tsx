// Pattern 1: ask the server, and let the stream bring the result. While the request is on its
// way the page waits; without a network there is no writing.
import { useState } from 'react'
import { send, Unreachable } from '../api'
import { observer, useTodos } from '../shape'
import type { Write } from '../types'
import { Card } from '../ui'
import { deleteOf, insertOf, updateOf } from '../writes'

export function OnlineWrites() {
    const { todos, loading } = useTodos()
    const [busy, setBusy] = useState(false)
    const [notice, setNotice] = useState('')

    const run = async (write: Write) => {
        setBusy(true)
        setNotice('')
        try {
            await observer.observed(await send(write))
        } catch (error) {
            const why = (error as Error).message
            setNotice(error instanceof Unreachable ? `Not saved: ${why}` : why)
        } finally {
            setBusy(false)
        }
    }

    return <Card
        number={1} name="Online writes" todos={todos} loading={loading} busy={busy}
        notice={notice} onNoticeRead={() => setNotice('')}
        about="Asks the server, then shows what comes back. Simple, and only as quick as the network."
        actions={{
            add: (title) => void run(insertOf(title)),
            toggle: (todo) => void run(updateOf(todo, { completed: !todo.completed })),
            rename: (todo, title) => void run(updateOf(todo, { title })),
            remove: (todo) => void run(deleteOf(todo)),
        }} />
}
