import { createRoot } from 'react-dom/client'
import { Ask } from './components/ask'
import { QuestionAnswerList } from './components/question-answer-list'
import { SignIn } from './components/sign-in'
import { useConnectionStore } from './stores/connection-store'
import { signOut, useAuthStore } from './stores/auth-store'

function App() {
    const user = useAuthStore((state) => state.session?.user)
    const conversationId = useAuthStore((state) => state.session?.conversationId)
    const reachable = useConnectionStore((state) => state.reachable)
    if (!user || !conversationId) return <main><SignIn /></main>
    return <main className="app">
        <header>
            <h1>Questions &amp; answers</h1>
            <span className="face" aria-hidden>{user.name[0]}</span>
            <span data-testid="who">{user.name}</span>
            <button onClick={signOut}>Sign out</button>
        </header>
        <p className="away" role="status" data-testid="away" hidden={reachable}>
            The server is away. Trying again …</p>
        <QuestionAnswerList conversationId={conversationId} />
        <Ask conversationId={conversationId} />
    </main>
}

createRoot(document.getElementById('root')!).render(<App />)
