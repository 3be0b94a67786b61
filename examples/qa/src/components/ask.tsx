import { useRef, useState } from 'react'
import { sendQuestionAction } from '../hooks/data/actions'
import { createMessagesCollection } from '../hooks/data/collections'

export function Ask({ conversationId }: { conversationId: string }) {
    const [content, setContent] = useState('')
    const [problem, setProblem] = useState('')
    // A question that failed may have arrived nevertheless: asked again, it has the same ids, and
    // the server takes it once.
    const failed = useRef<{ content: string; questionId: string; answerId: string }>(null)

    const ask = async () => {
        const question = content.trim()
        if (!question) return
        const { questionId, answerId } = failed.current?.content === question ? failed.current
            : { questionId: crypto.randomUUID(), answerId: crypto.randomUUID() }
        failed.current = null
        setContent('')
        setProblem('')
        if (createMessagesCollection(conversationId).has(questionId)) return
        try {
            await sendQuestionAction({ conversationId, questionContent: question, questionId, answerId })
        } catch (error) {
            failed.current = { content: question, questionId, answerId }
            const why = error instanceof TypeError ? 'the server can’t be reached' : (error as Error).message
            setProblem(`Not sent: ${why}`)
            setContent((now) => now || question)
        }
    }

    return <form className="ask" onSubmit={(event) => { event.preventDefault(); void ask() }}>
        {problem && <p className="problem" role="alert" data-testid="problem">{problem}</p>}
        <div>
            <textarea data-testid="question" rows={1} value={content} maxLength={2000} autoFocus
                placeholder="Ask something" aria-label="Question" dir="auto"
                onChange={(event) => setContent(event.target.value)}
                onKeyDown={(event) => {
                    // The Enter that ends the composition of a character is not meant for us.
                    if (event.key !== 'Enter' || event.shiftKey || event.nativeEvent.isComposing) return
                    event.preventDefault()
                    void ask()
                }} />
            <button disabled={!content.trim()}>Ask</button>
        </div>
    </form>
}
