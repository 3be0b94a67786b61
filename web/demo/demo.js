// The demo: rows come from a shape, by the client as npm has it; writes go to three small
// endpoints of `coulomb dev`, and come back through the shape like anybody else's.
import { Shape, ShapeStream } from '@electric-sql/client'

const $ = (id) => document.getElementById(id)
const list = $('list')
const status = document.querySelector('[data-testid="status"]')

// --- What is read ---

// With the gatekeeper on, `coulomb dev` tells a secret: /demo?secret=…
const secret = new URL(location.href).searchParams.get('secret')

const stream = new ShapeStream({
    url: new URL('/v1/shape', location.href).href,
    params: { table: 'todos', ...(secret && { secret }) },
    // {}: go on with the same parameters. Network errors and 5xx are retried anyway.
    onError: (error) => {
        console.error(error)
        problem(`The server refused the shape: ${error.message}`)
        failed = true
    },
})
const shape = new Shape(stream)
let failed = false

/** Elements by key, so that only what changed is touched. */
const items = new Map()

function newItem(todo) {
    const li = document.createElement('li')
    li.dataset.testid = 'todo'
    const label = document.createElement('label')
    const box = document.createElement('input')
    box.type = 'checkbox'
    const text = document.createElement('span')
    text.className = 'text'
    label.append(box, text)
    const remove = document.createElement('button')
    remove.type = 'button'
    remove.textContent = '×'
    li.append(label, remove)
    box.addEventListener('change', () => write('PUT', `/${todo.id}`, { done: box.checked }).then(
        (done) => { if (!done) box.checked = !box.checked },
    ))
    remove.addEventListener('click', async (event) => {
        const near = li.nextElementSibling ?? li.previousElementSibling
        if (await write('DELETE', `/${todo.id}`) && event.detail === 0) near?.querySelector('button').focus()
    })
    return { li, box, text, remove, shown: '' }
}

function show(item, todo, animate) {
    const shown = `${todo.done}|${todo.text}`
    if (item.shown === shown) return
    item.shown = shown
    item.box.checked = todo.done
    item.text.textContent = todo.text
    item.remove.setAttribute('aria-label', `Delete "${todo.text}"`)
    item.remove.title = 'Delete'
    item.li.classList.toggle('done', todo.done)
    if (!animate) return
    item.li.classList.remove('fresh')
    void item.li.offsetWidth // begins the animation anew
    item.li.classList.add('fresh')
}

// int8 arrives as BigInt. Newest first, so that what is added is seen.
const newestFirst = (a, b) => (a.id < b.id ? 1 : a.id > b.id ? -1 : 0)

function render(rows) {
    const animate = list.dataset.filled === 'yes'
    const todos = [...rows].sort(newestFirst)
    const ids = new Set(todos.map((todo) => todo.id))
    for (const [id, item] of items)
        if (!ids.has(id)) {
            item.li.remove()
            items.delete(id)
        }
    todos.forEach((todo, at) => {
        let item = items.get(todo.id)
        if (!item) items.set(todo.id, (item = newItem(todo)))
        show(item, todo, animate)
        if (list.children[at] !== item.li) list.insertBefore(item.li, list.children[at] ?? null)
    })
    list.dataset.filled = 'yes'
    const open = todos.filter((todo) => !todo.done).length
    $('empty').hidden = todos.length > 0
    $('count').textContent = todos.length ? `${open} of ${todos.length} to do` : ''
    if (animate) $('change').textContent = new Date().toLocaleTimeString()
    about()
}

shape.subscribe(({ rows }) => render(rows))

// --- How it is connected ---

function about() {
    const state = failed ? 'failed'
        : stream.isConnected() && stream.isUpToDate ? 'live'
            : stream.lastSyncedAt() === undefined ? 'connecting' : 'reconnecting'
    if (status.dataset.state !== state) {
        status.dataset.state = state
        status.textContent = state
    }
    $('handle').textContent = stream.shapeHandle ?? '–'
    $('offset').textContent = stream.lastOffset
}

setInterval(about, 500)

// --- What is written ---

function problem(text) {
    $('problem').textContent = text
    $('problem').hidden = !text
}

/** True when Postgres has it. The list changes when the shape says so. */
async function write(method, path, body) {
    try {
        const reply = await fetch(`/demo/api/todos${path}`, {
            method,
            headers: { 'content-type': 'application/json' },
            body: body && JSON.stringify(body),
        })
        const result = await reply.json()
        problem(result.success ? '' : `Not written: ${result.error}`)
        return result.success
    } catch {
        problem('Not written: the server can\'t be reached.')
        return false
    }
}

$('add').addEventListener('submit', async (event) => {
    event.preventDefault()
    const input = $('new')
    const text = input.value.trim()
    if (!text) return
    if (await write('POST', '', { text })) input.value = ''
    input.focus()
})
