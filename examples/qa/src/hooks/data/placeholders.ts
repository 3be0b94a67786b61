import type { Message } from '../../db/schema'

export function createQuestionPlaceholder(data: Partial<Message>): Message {
    const now = new Date()
    return {
        id: data.id!,
        conversation_id: data.conversation_id!,
        content: data.content || '',
        role: 'user',
        status: 'completed',
        created_at: now,
        updated_at: now,
    }
}

export function createAnswerPlaceholder(data: Partial<Message>): Message {
    const now = new Date()
    return {
        id: data.id!,
        conversation_id: data.conversation_id!,
        content: 'Generating answer...',
        role: 'assistant',
        status: 'pending',
        created_at: new Date(now.getTime() + 1),
        updated_at: new Date(now.getTime() + 1),
    }
}
