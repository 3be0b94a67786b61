import { createRoot } from 'react-dom/client'
import { useSnapshot } from 'valtio'
import { network } from './network'
import { OtherUser } from './other-user'
import { OnlineWrites } from './patterns/1-online-writes'
import { OptimisticState } from './patterns/2-optimistic-state'
import { SharedPersistent } from './patterns/3-shared-persistent'
import { ThroughTheDb } from './patterns/4-through-the-db'

function Network() {
    const { online, latencyMs, reachable } = useSnapshot(network)
    const state = !online ? 'Offline' : reachable ? 'Online' : 'No answer'
    return <div className="network">
        <label className="switch" title={state === 'No answer' ? 'The server is away; trying again' : undefined}>
            <input type="checkbox" role="switch" data-testid="online" checked={online} aria-label="Network"
                onChange={(event) => { network.online = event.target.checked }} />
            <span role="status" data-testid="network" data-reachable={reachable}>{state}</span>
        </label>
        <label className="latency">
            <span>Round trip</span>
            <input type="range" min={0} max={3000} step={100} value={latencyMs} data-testid="latency"
                onChange={(event) => { network.latencyMs = Number(event.target.value) }} />
            <output>{latencyMs === 0 ? 'as it is' : `+ ${latencyMs / 1000} s`}</output>
        </label>
    </div>
}

const PATTERNS = [OnlineWrites, OptimisticState, SharedPersistent, ThroughTheDb]

/** ?show=1,3 shows those two. */
const shown = new URL(location.href).searchParams.get('show')?.split(',')
    ?? PATTERNS.map((_, at) => String(at + 1))

function App() {
    return <>
        <div className="top">
            <div>
                <h1>Four ways to write</h1>
                <p>The same todos four times, always read from one stream. Switch the network off,
                    make it slow, let somebody else write, or TRY A TITLE IN CAPITALS, which the
                    server refuses.</p>
            </div>
            <div className="controls"><Network /><OtherUser /></div>
        </div>
        <main>
            {PATTERNS.map((Pattern, at) =>
                shown.includes(String(at + 1)) && <Pattern key={at} />)}
        </main>
    </>
}

createRoot(document.getElementById('root')!).render(<App />)
