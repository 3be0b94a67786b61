import { createRoot } from 'react-dom/client'
import { Ask } from './components/ask'
import { QuestionAnswerList } from './components/question-answer-list'
import { SignIn } from './components/sign-in'
import { signOut, useAuthStore } from './stores/auth-store'

function App() {
    const user = useAuthStore((state) => state.session?.user)
    const conversationId = useAuthStore((state) => state.session?.conversationId)
    if (!user || !conversationId) return <SignIn />
    return <div className="app">
        <header>
            <h1>Questions &amp; answers</h1>
            <span className="face">{user.name[0]}</span>
            <span data-testid="who">{user.name}</span>
            <button onClick={signOut}>Sign out</button>
        </header>
        <QuestionAnswerList conversationId={conversationId} />
        <Ask conversationId={conversationId} />
    </div>
}

createRoot(document.getElementById('root')!).render(<App />)
