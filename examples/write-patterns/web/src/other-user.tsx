// Somebody else, with a network of their own: what they do comes to all four patterns through
// the stream.
import { useState } from 'react'
import { send } from './api'
import { useTodos } from './shape'
import type { Todo, Write } from './types'
import { deleteOf, insertOf, updateOf } from './writes'

const THINGS = ['Bring back the ladder', 'Book the rehearsal room', 'Pick lemons', 'Fix the gate',
    'Return the library books', 'Order more coffee']

export function OtherUser() {
    const { todos } = useTodos()
    const [said, setSaid] = useState('')
    const oldest = [...todos].sort((a, b) => a.created_at.getTime() - b.created_at.getTime())

    const run = async (write: Write | undefined, what: string) => {
        if (!write) return
        try {
            await send(write, fetch)
            setSaid(what)
        } catch (error) {
            setSaid((error as Error).message)
        }
    }
    const rename = (todo?: Todo) => todo && updateOf(todo, {
        title: `${todo.title.replace(/ \(Noor, .*\)$/, '')} (Noor, ${new Date().toLocaleTimeString()})`,
    })

    return <div className="other" data-testid="other-user" role="group" aria-label="Another user">
        <span className="who" aria-hidden>N</span>
        <span>Noor, somewhere else:</span>
        <button onClick={() => run(insertOf(THINGS[Math.floor(Math.random() * THINGS.length)]), 'added a todo')}>
            add</button>
        <button onClick={() => run(rename(oldest[0]), 'renamed the first')}>rename first</button>
        <button onClick={() => run(oldest[0] && updateOf(oldest[0], { completed: !oldest[0].completed }),
            'ticked the first')}>tick first</button>
        <button onClick={() => run(oldest.at(-1) && deleteOf(oldest.at(-1)!), 'deleted the last')}>
            delete last</button>
        <span className="said" role="status">{said}</span>
    </div>
}
