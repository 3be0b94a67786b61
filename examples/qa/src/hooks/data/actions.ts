import { createTransaction } from '@tanstack/react-db'
import { sendQuestionApi } from '../../lib/api'
import { createMessagesCollection } from './collections'
import { createAnswerPlaceholder, createQuestionPlaceholder } from './placeholders'

export async function sendQuestionAction(params: {
    conversationId: string
    questionContent: string
    questionId: string
    answerId: string
}) {
    const { conversationId, questionContent, questionId, answerId } = params
    const messagesCollection = createMessagesCollection(conversationId)

    const transaction = createTransaction({
        autoCommit: false,
        mutationFn: async () => {
            const response = await sendQuestionApi({
                conversationId, questionId, answerId, content: questionContent,
            })
            if (!response.txid) throw new Error('API did not return a transaction ID')
            // The rows of the server are there before the optimistic ones go.
            await messagesCollection.utils.awaitTxId(response.txid, 30_000)
        },
    })

    transaction.mutate(() => {
        const questionMessage = createQuestionPlaceholder({
            id: questionId,
            conversation_id: conversationId,
            content: questionContent,
        })
        const answerMessage = createAnswerPlaceholder({
            id: answerId,
            conversation_id: conversationId,
        })
        messagesCollection.insert([questionMessage, answerMessage])
    })

    await transaction.commit()
}
