// Pattern 2: React's useOptimistic. A write shows at once, in this component and until a
// reload; it is dropped when the stream has it, or when the server refuses it.
import { startTransition, useOptimistic, useRef, useState } from 'react'
import { sendUntilAnswered } from '../api'
import { fold, observer, useTodos } from '../shape'
import type { Write } from '../types'
import { Card } from '../ui'
import { deleteOf, insertOf, updateOf } from '../writes'

const NONE: Write[] = []

export function OptimisticState() {
    const { todos, loading } = useTodos()
    // Writes, not rows: they are folded over whatever the stream brings meanwhile.
    const [writes, addWrite] = useOptimistic<Write[], Write>(NONE, (all, one) => [...all, one])
    // React ends all async transitions together. What is settled before that must not wait for
    // the rest: a refused write goes alone.
    const [settled, setSettled] = useState<ReadonlySet<string>>(new Set())
    const [notice, setNotice] = useState('')
    // One after the other: the last of two changes of a row must be the last to arrive.
    const before = useRef<Promise<unknown>>(Promise.resolve())

    const run = (write: Write) => startTransition(async () => {
        addWrite(write)
        const sent = before.current.then(() => sendUntilAnswered(write))
        before.current = sent.catch(() => {})
        try {
            await observer.observed(await sent)
        } catch (error) {
            setNotice((before) => [before, (error as Error).message].filter(Boolean).join('\n'))
        }
        setSettled((before) => new Set(before).add(write.id))
    })

    return <Card
        number={2} name="Optimistic state" loading={loading} notice={notice}
        todos={fold(todos, writes.filter((write) => !settled.has(write.id)))}
        onNoticeRead={() => setNotice('')}
        about="Shows a write at once and lets go when the stream has it. Lost on a reload."
        actions={{
            add: (title) => run(insertOf(title)),
            toggle: (todo) => run(updateOf(todo, { completed: !todo.completed })),
            rename: (todo, title) => run(updateOf(todo, { title })),
            remove: (todo) => run(deleteOf(todo)),
        }} />
}
