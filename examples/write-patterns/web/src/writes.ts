import type { Todo, Write } from './types'

export const insertOf = (title: string): Write => ({
    id: crypto.randomUUID(), operation: 'insert', todoId: crypto.randomUUID(),
    value: { title, created_at: new Date().toISOString() },
})

export const updateOf = (todo: Todo, value: Write['value']): Write => ({
    id: crypto.randomUUID(), operation: 'update', todoId: todo.id, value,
})

export const deleteOf = (todo: Todo): Write => ({
    id: crypto.randomUUID(), operation: 'delete', todoId: todo.id, value: {},
})
