import { useLiveQuery } from '@tanstack/react-db'
import { useMemo } from 'react'
import { createMessagesCollection } from '../hooks/data/collections'
import { useFollow } from '../hooks/use-follow'

export function QuestionAnswerList({ conversationId }: { conversationId: string }) {
    const messagesCollection = useMemo(
        () => createMessagesCollection(conversationId), [conversationId])
    const { data: messages, isLoading, isError } = useLiveQuery((q) =>
        q.from({ message: messagesCollection }).orderBy(({ message }) => message.created_at))
    const following = useFollow(messages)

    return <div className="message-container" data-testid="messages" data-loading={isLoading}
        role="log" aria-label="Conversation" tabIndex={0} {...following}>
        {messages.length === 0 && <p className="empty">
            {isError ? 'This conversation can’t be read now. A reload may help.'
                : isLoading ? 'Loading …'
                    : 'Nothing asked yet. Whatever you ask here only you can read.'}</p>}
        {messages.map((msg) => (
            <div key={msg.id} className={`message role-${msg.role} status-${msg.status}`}
                aria-busy={msg.status !== 'completed'}
                data-testid="message" data-id={msg.id} data-role={msg.role} data-status={msg.status}>
                <p dir="auto">{msg.content}</p>
            </div>
        ))}
    </div>
}
