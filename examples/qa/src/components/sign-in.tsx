import { useState } from 'react'
import { signIn } from '../stores/auth-store'

const PEOPLE = [{ name: 'Amira', password: 'lemon' }, { name: 'Noor', password: 'coffee' }]

export function SignIn() {
    const [name, setName] = useState('')
    const [password, setPassword] = useState('')
    const [problem, setProblem] = useState('')

    return <form className="sign-in" onSubmit={(event) => {
        event.preventDefault()
        signIn(name, password).catch((error) => setProblem(error.message))
    }}>
        <h1>Questions &amp; answers</h1>
        <p>Two people use this demo, each with a conversation of their own.</p>
        <div className="people">
            {PEOPLE.map((person) => <button type="button" key={person.name}
                onClick={() => { setName(person.name); setPassword(person.password) }}>
                <span className="face">{person.name[0]}</span>{person.name}</button>)}
        </div>
        <label>Name<input data-testid="name" value={name} autoComplete="username"
            onChange={(event) => setName(event.target.value)} /></label>
        <label>Password<input data-testid="password" type="password" value={password}
            autoComplete="current-password" onChange={(event) => setPassword(event.target.value)} /></label>
        {problem && <p className="problem" role="alert" data-testid="problem">{problem}</p>}
        <button className="main" data-testid="sign-in">Sign in</button>
    </form>
}
