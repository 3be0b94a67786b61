// What client.c does, with @tanstack/db in its default settings: node client.mjs ingest|mutate ROWS
// [CHANGES] prints "seconds bytes".
import { createCollection } from '@tanstack/db'

const [mode, rowsText = '1000000', changesText = '10000'] = process.argv.slice(2)
const rows = Number(rowsText)
const changes = Number(changesText)
const BATCH = Number(process.env.BATCH ?? 1000)

const row = (i, quantity) => ({
  id: i,
  name: `item ${i}`,
  quantity,
  note: `a note about item ${i}, as long as this`,
  at: new Date(946684800000 + i * 1000),
})

const cpu = () => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

let sync
const collection = createCollection({
  id: 'items',
  getKey: (item) => item.id,
  startSync: true,
  sync: {
    rowUpdateMode: 'full',
    sync: (params) => {
      sync = params
    },
  },
  onUpdate: async () => {},
})

function ingest(items) {
  for (let i = 0; i < items.length; i++) {
    if (i % BATCH === 0) sync.begin()
    sync.write({ type: 'insert', value: items[i] })
    if (i % BATCH === BATCH - 1 || i + 1 === items.length) sync.commit()
  }
  sync.markReady()
}

async function mutate(count, first) {
  for (let n = 0; n < count; n++) {
    const i = (n * 7919) % rows
    const tx = collection.update(i, (draft) => {
      draft.quantity = n + first
    })
    await tx.isPersisted.promise
    sync.begin()
    sync.write({ type: 'update', value: row(i, n + first) })
    sync.commit()
  }
}

const resident = () => {
  globalThis.gc?.()
  return process.memoryUsage.rss()
}

// The rows lie in memory before, as they do in client.c. There the collection copies them, here it
// keeps the objects that it is given: what they take counts as the collection's.
const empty = resident()
const items = Array.from({ length: rows }, (_, i) => row(i, i % 1000))
const own = resident() - empty
if (mode === 'ingest') {
  const before = resident()
  const from = cpu()
  ingest(items)
  const seconds = cpu() - from
  if (collection.size !== rows) process.exit(1)
  console.log(seconds.toFixed(6), process.resourceUsage().maxRSS * 1024 - before + own)
} else {
  ingest(items)
  let heard = 0
  collection.subscribeChanges((batch) => {
    heard += batch.length
  }, { includeInitialState: true })
  await mutate(changes / 10, 5000000)
  const from = cpu()
  await mutate(changes, 5000)
  console.log((cpu() - from).toFixed(6), heard)
}
