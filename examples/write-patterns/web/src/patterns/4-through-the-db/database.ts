// The local database, and the stream into it.
import { PGlite } from '@electric-sql/pglite'
import { live } from '@electric-sql/pglite/live'
import { ShapeStream, isChangeMessage, type ChangeMessage, type Message } from '@electric-sql/client'
import { apiUrl } from '../../api'
import { networkFetch } from '../../network'
import schema from './local-schema.sql'

export const openDatabase = async () => {
    const db = await PGlite.create('idb://write-patterns', { extensions: { live } })
    await db.exec(schema)
    return db
}

export type LocalDatabase = Awaited<ReturnType<typeof openDatabase>>

type Sql = Pick<LocalDatabase, 'query'>

const SHAPE = 'todos'
const COLUMNS = ['id', 'title', 'completed', 'created_at', 'write_id']

async function apply(tx: Sql, { headers, value }: ChangeMessage<any>): Promise<void> {
    if (headers.operation === 'delete') {
        await tx.query('DELETE FROM todos_synced WHERE id = $1', [value.id])
        return
    }
    // An update brings what changed; an insert may be one of a row that we have.
    const names = COLUMNS.filter((name) => name in value)
    const set = names.map((name) => `${name} = EXCLUDED.${name}`).join(', ')
    await tx.query(
        `INSERT INTO todos_synced (${names.join(', ')})
         VALUES (${names.map((_, i) => `$${i + 1}`).join(', ')})
         ON CONFLICT (id) DO UPDATE SET ${set}`, names.map((name) => value[name]))
}

/** Keeps todos_synced like the server's table. Rows and the position in the stream change in one
 *  transaction, at the points where the stream is up to date: nobody sees half of anything, and
 *  after a reload it goes on where it was. */
export async function syncTodos(
    db: LocalDatabase, onRefused: (error: Error) => void,
): Promise<void> {
    const { rows: [saved] } = await db.query<any>(
        'SELECT handle, "offset" FROM sync_state WHERE shape = $1', [SHAPE])
    const stream = new ShapeStream<any>({
        url: apiUrl('/todos'),
        ...(saved && { handle: saved.handle, offset: saved.offset }),
        // The texts of the wire are what Postgres reads.
        parser: { bool: (text: string) => text as any },
        fetchClient: networkFetch,
        backoffOptions: { initialDelay: 100, maxDelay: 1000, multiplier: 1.5 },
    })
    let batch: ChangeMessage<any>[] = []
    let refill = false

    const commit = async (upToDate: Message<any>) => {
        const txids = [...new Set(batch.flatMap(({ headers }) => (headers.txids as any) ?? []))]
        const lsn = (upToDate.headers as any).global_last_seen_lsn ?? '0'
        await db.transaction(async (tx) => {
            if (refill) {
                await tx.query("SELECT set_config('local.refilling', 'on', true)")
                await tx.query('DELETE FROM todos_synced')
            }
            for (const change of batch) await apply(tx, change)
            await tx.query('SELECT settle_changes($1, $2)', [txids, lsn])
            await tx.query(
                `INSERT INTO sync_state VALUES ($1, $2, $3) ON CONFLICT (shape)
                 DO UPDATE SET handle = EXCLUDED.handle, "offset" = EXCLUDED."offset"`,
                [SHAPE, stream.shapeHandle, stream.lastOffset])
        })
        // Not before: what could not be written now goes with the next.
        ;[batch, refill] = [[], false]
    }

    stream.subscribe(async (messages) => {
        for (const message of messages) {
            if (isChangeMessage(message)) batch.push(message)
            else if (message.headers.control === 'must-refetch') [batch, refill] = [[], true]
            else if (message.headers.control === 'up-to-date') await commit(message)
        }
    }, onRefused)
}
