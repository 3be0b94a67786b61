import { useLiveQuery } from '@tanstack/react-db'
import { useEffect, useMemo, useRef } from 'react'
import { createMessagesCollection } from '../hooks/data/collections'

export function QuestionAnswerList({ conversationId }: { conversationId: string }) {
    const messagesCollection = useMemo(
        () => createMessagesCollection(conversationId), [conversationId])
    const { data: messages, isLoading } = useLiveQuery((q) =>
        q.from({ message: messagesCollection }).orderBy(({ message }) => message.created_at))

    // The newest is in view while it grows.
    const end = useRef<HTMLDivElement>(null)
    const grown = messages.length + (messages.at(-1)?.content.length ?? 0)
    useEffect(() => { void end.current?.scrollIntoView({ block: 'end' }) }, [grown])

    return <div className="message-container" data-testid="messages" data-loading={isLoading}>
        {!isLoading && messages.length === 0 && <p className="empty">
            Nothing asked yet. Whatever you ask here only you can read.</p>}
        {messages.map((msg) => (
            <div key={msg.id} className={`message role-${msg.role} status-${msg.status}`}
                data-testid="message" data-id={msg.id} data-role={msg.role} data-status={msg.status}>
                <p>{msg.content}</p>
            </div>
        ))}
        <div ref={end} />
    </div>
}
