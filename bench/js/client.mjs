// What client.c does, with @tanstack/db in its default settings: node client.mjs ingest|mutate ROWS
// [CHANGES] prints "seconds bytes".
import { createCollection } from '@tanstack/db'

const [mode, rowsText = '1000000', changesText = '10000'] = process.argv.slice(2)
const rows = Number(rowsText)
const changes = Number(changesText)
const BATCH = 1000

const row = (i, quantity) => ({
  id: i,
  name: `item ${i}`,
  quantity,
  note: `a note about item ${i}, as long as this`,
  at: new Date(946684800000 + i * 1000),
})

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

async function mutate(count) {
  for (let n = 0; n < count; n++) {
    const i = (n * 7919) % rows
    const tx = collection.update(i, (draft) => {
      draft.quantity = n + 5000
    })
    await tx.isPersisted.promise
    sync.begin()
    sync.write({ type: 'update', value: row(i, n + 5000) })
    sync.commit()
  }
}

const resident = () => {
  globalThis.gc?.()
  return process.memoryUsage.rss()
}

// The rows lie in memory before, as they do in client.c; what the collection adds is measured.
const items = Array.from({ length: rows }, (_, i) => row(i, i % 1000))
if (mode === 'ingest') {
  const before = resident()
  const from = performance.now()
  ingest(items)
  const seconds = (performance.now() - from) / 1000
  if (collection.size !== rows) process.exit(1)
  // A collection keeps the objects that it is given; in C the rows are copies. So that both are
  // measured alike, the objects count as the collection's.
  const own = Number(process.env.ROW_BYTES ?? 0) * rows
  console.log(seconds.toFixed(6), resident() - before + own)
} else {
  ingest(items)
  let heard = 0
  collection.subscribeChanges((batch) => {
    heard += batch.length
  })
  await mutate(changes / 10)
  const from = performance.now()
  await mutate(changes)
  console.log(((performance.now() - from) / 1000).toFixed(6), heard)
}
