import { useState } from 'react'
import { sendQuestionAction } from '../hooks/data/actions'

export function Ask({ conversationId }: { conversationId: string }) {
    const [content, setContent] = useState('')
    const [problem, setProblem] = useState('')

    const ask = async () => {
        const question = content.trim()
        if (!question) return
        setContent('')
        setProblem('')
        try {
            await sendQuestionAction({
                conversationId, questionContent: question,
                questionId: crypto.randomUUID(), answerId: crypto.randomUUID(),
            })
        } catch (error) {
            setProblem(`Not sent: ${(error as Error).message}`)
            setContent((now) => now || question)
        }
    }

    return <form className="ask" onSubmit={(event) => { event.preventDefault(); void ask() }}>
        {problem && <p className="problem" role="alert" data-testid="problem">{problem}</p>}
        <div>
            <textarea data-testid="question" rows={1} value={content} maxLength={2000} autoFocus
                placeholder="Ask something" aria-label="Question"
                onChange={(event) => setContent(event.target.value)}
                onKeyDown={(event) => {
                    if (event.key !== 'Enter' || event.shiftKey) return
                    event.preventDefault()
                    void ask()
                }} />
            <button disabled={!content.trim()}>Ask</button>
        </div>
    </form>
}
