// How a pattern looks: the same card for all four.
import { useEffect, useRef, useState, type MouseEvent } from 'react'
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
    /** Why there are no todos yet. */
    loading?: string
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
    const title = useRef<HTMLButtonElement>(null)
    const byKey = useRef(false)
    const finish = (rename: boolean, key: boolean) => {
        if (draft === undefined) return
        if (rename && draft.trim() && draft.trim() !== todo.title) actions.rename(todo, draft.trim())
        byKey.current = key
        setDraft(undefined)
    }
    // Whoever uses the keyboard goes on where they were.
    useEffect(() => {
        if (draft !== undefined || !byKey.current) return
        byKey.current = false
        title.current?.focus()
    }, [draft])
    const remove = (event: MouseEvent<HTMLElement>) => {
        const item = event.currentTarget.closest('li')!
        if (event.detail === 0) {
            const near = item.nextElementSibling ?? item.previousElementSibling
            near?.querySelector<HTMLElement>('.remove')?.focus()
        }
        actions.remove(todo)
    }
    return <li data-testid="todo" data-id={todo.id} data-pending={Boolean(todo.pending)}
        className={todo.completed ? 'done' : ''}>
        <input type="checkbox" checked={todo.completed} aria-disabled={busy}
            aria-label={`${todo.title}: done`} onChange={() => busy || actions.toggle(todo)} />
        {draft === undefined
            ? <button className="title" data-testid="title" aria-disabled={busy} title="Rename"
                ref={title} onClick={() => busy || setDraft(todo.title)}>{todo.title}</button>
            : <form onSubmit={(event) => { event.preventDefault(); finish(true, true) }}>
                <input autoFocus data-testid="rename" value={draft} maxLength={200}
                    aria-label={`New title of ${todo.title}`}
                    onChange={(event) => setDraft(event.target.value)}
                    onBlur={() => finish(true, false)}
                    onKeyDown={(event) => { if (event.key === 'Escape') finish(false, true) }} />
            </form>}
        <span className="pending" role="img" aria-hidden={!todo.pending} title="Not back from the server yet"
            aria-label="Not back from the server yet" />
        <button className="remove" data-testid="remove" aria-disabled={busy}
            aria-label={`Delete ${todo.title}`} onClick={(event) => { if (!busy) remove(event) }}>×</button>
    </li>
}

const VERBS = { insert: 'Adding', update: 'Changing', delete: 'Deleting' }

function RejectedWrite({ write }: { write: Rejected }) {
    const [title, setTitle] = useState(write.title)
    return <li data-testid="rejected">
        <p role="alert"><b>{VERBS[write.operation]} {write.was ? `“${write.was}”` : 'a todo'} was refused.</b>{' '}
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
        if (busy || !title.trim()) return
        actions.add(title.trim())
        setTitle('')
    }
    return <section className={`card card-${number}`} data-testid={`pattern-${number}`}
        data-ready={loading === undefined} aria-busy={busy} aria-labelledby={`name-${number}`}>
        <header>
            <span className="number" aria-hidden>{number}</span>
            <h2 id={`name-${number}`}>{name}</h2>
            {queued ? <span className="queued" data-testid="queued" role="img" title={`${queued} to send`}
                aria-label={`${queued} to send`}>↑ {queued}</span> : null}
        </header>
        <p className="about">{about}</p>
        {loading !== undefined
            ? <p className="loading" role="status" data-testid="loading">{loading}</p>
            : <ul className="todos">
                {[...todos].sort(byAge).map((todo) =>
                    <Item key={todo.id} todo={todo} actions={actions} busy={busy} />)}
                {todos.length === 0 && <li className="empty">Nothing to do.</li>}
            </ul>}
        <form className="new" onSubmit={(event) => { event.preventDefault(); add() }}>
            <input data-testid="new-todo" value={title} placeholder="Add a todo"
                aria-label={`New todo, ${name}`} maxLength={200} disabled={loading !== undefined}
                onChange={(event) => setTitle(event.target.value)} />
            <button aria-disabled={busy} disabled={loading !== undefined}>
                {busy ? <span className="spinner" role="img" aria-label="Saving" /> : 'Add'}</button>
        </form>
        {notice && <div className="notice" role="alert" data-testid="notice">
            <p>{notice}</p>
            <button className="quiet" onClick={props.onNoticeRead}>OK</button>
        </div>}
        {rejected && rejected.length > 0 && <ul className="rejections" aria-label="Refused">
            {rejected.map((write) => <RejectedWrite key={write.id} write={write} />)}
        </ul>}
    </section>
}
