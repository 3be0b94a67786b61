// The way back: sends the log of local changes to the server, a local transaction at a time.
import { call, Refused } from '../../api'
import { network, sleepOrOnline } from '../../network'
import type { LocalDatabase } from './database'

interface Change {
    id: number; todo_id: string; operation: string; value: Record<string, unknown>; write_id: string
}

// Taken and marked at once: what is only pending may be gone the next moment (local-schema.sql).
const TAKE_GROUP = `
    WITH taken AS (
        UPDATE changes SET state = 'sending'
        WHERE state IN ('pending', 'sending') AND transaction_id =
            (SELECT transaction_id FROM changes WHERE state IN ('pending', 'sending')
             ORDER BY id LIMIT 1)
        RETURNING id, todo_id, operation, value, write_id)
    SELECT * FROM taken ORDER BY id`

export class ChangeLogSynchronizer {
    private wake = () => {}

    constructor(private readonly db: LocalDatabase) {}

    async start(): Promise<void> {
        await this.db.listen('changes', () => this.wake())
        void this.run()
    }

    private async run(): Promise<never> {
        for (let failures = 0; ;) {
            // What has not been tried can still be undone without the server.
            if (!network.online) {
                await sleepOrOnline(60_000)
                continue
            }
            const more = new Promise<void>((done) => (this.wake = done))
            const { rows } = await this.db.query<Change>(TAKE_GROUP)
            if (rows.length === 0) {
                await more
                continue
            }
            const answered = await this.send(rows)
            failures = answered ? 0 : failures + 1
            if (!answered) await sleepOrOnline(Math.min(300 * 2 ** failures, 10_000))
        }
    }

    /** False when the server gave no answer. The first write's id names the group: sent again, it
     *  is applied once. */
    private async send(group: Change[]): Promise<boolean> {
        const ids = group.map((change) => change.id)
        const changes = group.map(({ todo_id, operation, value, write_id }) =>
            ({ operation, value: { id: todo_id, ...value }, write_id }))
        const key = group[0].write_id
        try {
            const { txid, lsn } = await call('POST', '/changes', [{ id: key, changes }], key)
            await this.db.query(
                `UPDATE changes SET state = 'accepted', txid = $2, lsn = $3 WHERE id = ANY ($1)`,
                [ids, txid, lsn])
            if (txid === null) await this.db.query("SELECT settle_changes('{}', 0)")
            return true
        } catch (error) {
            if (!(error instanceof Refused)) return false
            await this.db.query('SELECT reject_changes($1, $2)', [ids, error.message])
            return true
        }
    }
}
