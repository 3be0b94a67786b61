import { z } from 'zod'

/** A row of messages, as the shape's columns are. */
export const selectMessageSchema = z.object({
    id: z.string(),
    conversation_id: z.string(),
    role: z.enum(['user', 'assistant']),
    status: z.enum(['pending', 'generating', 'completed']),
    content: z.string(),
    created_at: z.date(),
    updated_at: z.date(),
})

export type Message = z.infer<typeof selectMessageSchema>
