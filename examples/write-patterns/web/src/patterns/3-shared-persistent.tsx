// Pattern 3: optimistic state in a store that all components share and that outlives the page.
import { useSnapshot } from 'valtio'
import { fold, useTodos } from '../shape'
import type { Write } from '../types'
import { Card } from '../ui'
import { deleteOf, insertOf, updateOf } from '../writes'
import { addWrite, dropWrite, resendWrite, store } from './3-store'

export function SharedPersistent() {
    const { todos, loading } = useTodos()
    const { problem, writes: kept } = useSnapshot(store)
    const writes = Object.values(kept).sort((a, b) => a.at - b.at)
    const open = writes.filter((write) => !write.rejected)

    return <Card
        number={3} name="Shared persistent" loading={loading} todos={fold(todos, open as Write[])}
        notice={problem} onNoticeRead={() => { store.problem = '' }}
        queued={open.filter((write) => !write.accepted).length}
        about="Keeps writes in a store in localStorage, and sends them again after a reload."
        rejected={writes.filter((write) => write.rejected).map((write) => ({
            id: write.id, operation: write.operation, title: write.value.title,
            reason: write.rejected!,
            was: todos.find((todo) => todo.id === write.todoId)?.title,
            resend: (title) => resendWrite(write.id,
                { ...write.value, ...(title !== undefined && { title }) }),
            drop: () => dropWrite(write.id),
        }))}
        actions={{
            add: (title) => addWrite(insertOf(title)),
            toggle: (todo) => addWrite(updateOf(todo, { completed: !todo.completed })),
            rename: (todo, title) => addWrite(updateOf(todo, { title })),
            remove: (todo) => addWrite(deleteOf(todo)),
        }} />
}
