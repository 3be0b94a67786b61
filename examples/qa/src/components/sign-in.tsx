import { useState } from 'react'
import { signIn } from '../stores/auth-store'

const PEOPLE = [{ name: 'Amira', password: 'lemon' }, { name: 'Noor', password: 'coffee' }]

export function SignIn() {
    const [name, setName] = useState('')
    const [password, setPassword] = useState('')
    const [problem, setProblem] = useState('')
    const [busy, setBusy] = useState(false)

    const enter = async () => {
        setBusy(true)
        setProblem('')
        try {
            await signIn(name, password)
        } catch (error) {
            setProblem(error instanceof TypeError ? 'The server can’t be reached' : (error as Error).message)
            setBusy(false)
        }
    }

    return <form className="sign-in" aria-busy={busy} onSubmit={(event) => {
        event.preventDefault()
        if (!busy) void enter()
    }}>
        <h1>Questions &amp; answers</h1>
        <p>Two people use this demo, each with a conversation of their own.</p>
        <div className="people">
            {PEOPLE.map((person) => <button type="button" key={person.name}
                onClick={() => { setName(person.name); setPassword(person.password) }}>
                <span className="face" aria-hidden>{person.name[0]}</span>{person.name}</button>)}
        </div>
        <label>Name<input data-testid="name" value={name} autoComplete="username"
            onChange={(event) => setName(event.target.value)} /></label>
        <label>Password<input data-testid="password" type="password" value={password}
            autoComplete="current-password" onChange={(event) => setPassword(event.target.value)} /></label>
        <p className="problem" role="alert" data-testid="problem">{problem}</p>
        <button className="main" data-testid="sign-in" aria-disabled={busy}>Sign in</button>
    </form>
}
