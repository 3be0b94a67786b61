// How a pattern looks: the same card for all four.
import { useState } from 'react'
import type { Actions, Operation, Todo } from './types'

export interface Rejected {
    id: string
    operation: Operation
    /** What the write would have the title be, if it says. */
    title?: string
    /** What the title is on the server. */
    was?: string
    reason: string
    resend(title?: string): void
    drop(): void
}

interface CardProps {
    number: number
    name: string
    about: string
    todos: Todo[]
    loading: boolean
    actions: Actions
    busy?: boolean
    queued?: number
    notice?: string
    onNoticeRead?: () => void
    rejected?: Rejected[]
}

const byAge = (a: Todo, b: Todo) =>
    a.created_at.getTime() - b.created_at.getTime() || (a.id < b.id ? -1 : 1)

function Item({ todo, actions, busy }: { todo: Todo; actions: Actions; busy?: boolean }) {
    const [draft, setDraft] = useState<string>()
    const rename = () => {
        if (draft?.trim() && draft.trim() !== todo.title) actions.rename(todo, draft.trim())
        setDraft(undefined)
    }
    return <li data-testid="todo" data-id={todo.id} data-pending={Boolean(todo.pending)}
        className={todo.completed ? 'done' : ''}>
        <input type="checkbox" checked={todo.completed} disabled={busy}
            aria-label={`${todo.title}: done`} onChange={() => actions.toggle(todo)} />
        {draft === undefined
            ? <button className="title" data-testid="title" disabled={busy} title="Rename"
                onClick={() => setDraft(todo.title)}>{todo.title}</button>
            : <form onSubmit={(event) => { event.preventDefault(); rename() }}>
                <input autoFocus data-testid="rename" value={draft} maxLength={200} onBlur={rename}
                    onChange={(event) => setDraft(event.target.value)} />
            </form>}
        <span className="pending" title="Not back from the server yet" />
        <button className="remove" data-testid="remove" disabled={busy}
            aria-label={`Delete ${todo.title}`} onClick={() => actions.remove(todo)}>×</button>
    </li>
}

const VERBS = { insert: 'Adding', update: 'Changing', delete: 'Deleting' }

function RejectedWrite({ write }: { write: Rejected }) {
    const [title, setTitle] = useState(write.title)
    return <li data-testid="rejected">
        <p><b>{VERBS[write.operation]} {write.was ? `“${write.was}”` : 'a todo'} was refused.</b>{' '}
            <span data-testid="reason">{write.reason}</span></p>
        <div className="decide">
            {title !== undefined && <input data-testid="mend" value={title} aria-label="Title"
                maxLength={200} onChange={(event) => setTitle(event.target.value)} />}
            <button data-testid="resend" onClick={() => write.resend(title)}>Send again</button>
            <button className="quiet" data-testid="drop" onClick={write.drop}>Drop</button>
        </div>
    </li>
}

export function Card(props: CardProps) {
    const { number, name, about, todos, loading, actions, busy, queued, notice, rejected } = props
    const [title, setTitle] = useState('')
    const add = () => {
        if (!title.trim()) return
        actions.add(title.trim())
        setTitle('')
    }
    return <section className={`card card-${number}`} data-testid={`pattern-${number}`}
        data-ready={!loading} aria-busy={busy}>
        <header>
            <span className="number">{number}</span>
            <h2>{name}</h2>
            {queued ? <span className="queued" data-testid="queued" title={`${queued} to send`}>
                ↑ {queued}</span> : null}
        </header>
        <p className="about">{about}</p>
        {loading
            ? <p className="loading">Loading …</p>
            : <ul className="todos">
                {[...todos].sort(byAge).map((todo) =>
                    <Item key={todo.id} todo={todo} actions={actions} busy={busy} />)}
                {todos.length === 0 && <li className="empty">Nothing to do.</li>}
            </ul>}
        <form className="new" onSubmit={(event) => { event.preventDefault(); add() }}>
            <input data-testid="new-todo" value={title} placeholder="What needs to be done?"
                aria-label={`New todo, ${name}`} maxLength={200} disabled={busy || loading}
                onChange={(event) => setTitle(event.target.value)} />
            <button disabled={busy || loading}>{busy ? <span className="spinner" /> : 'Add'}</button>
        </form>
        {notice && <div className="notice" role="alert" data-testid="notice">
            <p>{notice}</p>
            <button className="quiet" onClick={props.onNoticeRead}>OK</button>
        </div>}
        {rejected && rejected.length > 0 && <ul className="rejections" role="alert">
            {rejected.map((write) => <RejectedWrite key={write.id} write={write} />)}
        </ul>}
    </section>
}
