// The recordings about settings: each scenario names its own, so each has its server.
import { afterAll, beforeAll, describe, test } from 'vitest';
import { sleep, until } from '../support/process.js';
import { differenceOf, type Difference } from './differences.js';
import { Replay } from './replay.js';
import { goldenFolder, loadRecording } from './recording.js';
import type { Env } from '../support/coulomb.js';

const SECRET: Env = { ELECTRIC_SECRET: 's3cret', ELECTRIC_INSECURE: 'false' };
const ONE: Env = {
    ELECTRIC_MAX_CONCURRENT_REQUESTS: '{"initial":1,"existing":1}',
    ELECTRIC_LONG_POLL_TIMEOUT: '2000',
    ELECTRIC_ENABLE_INTEGRATION_TESTING: 'true',
};

/** Another session locks the table for a while. */
const lock = (table: string, ms: number) => async (replay: Replay): Promise<void> => {
    const session = await replay.db.session();
    await session.query(`create table if not exists ${table}(id int primary key)`);
    await session.query(`begin; lock table ${table} in access exclusive mode`);
    setTimeout(() => void session.query('rollback').catch(() => undefined), ms);
};

interface Mode {
    env: Env;
    /** The recorded server is a second one while the first holds the slot. */
    second?: boolean;
    prepare?: (replay: Replay) => Promise<void>;
    play?: Partial<Difference>;
}

const MODES: Record<string, Mode> = {
    'secret-missing': { env: SECRET },
    'secret-wrong': { env: SECRET },
    'secret-right': { env: SECRET },
    'secret-open-routes': { env: SECRET },
    'secret-path-variants': { env: SECRET },
    'delete-disabled': { env: SECRET },
    'waiting-instance': {
        env: { ELECTRIC_ENABLE_INTEGRATION_TESTING: 'true' }, second: true,
    },
    'admission-existing': { env: ONE, play: { background: [2], join: [13] } },
    'admission-initial': {
        env: ONE,
        prepare: async (replay) => {
            // The handle that the scenario knows beforehand.
            const reply = await replay.server.shape({ table: 'm_items', offset: -1 });
            replay.values.set('74433230-1795226651683340', reply.headers['electric-handle']);
            await lock('m_lock', 2_000)(replay);
        },
        play: { background: [0], join: [4], drop: (step) => /where=/.test(step.request!.path) },
    },
    'table-lock-timeout': {
        env: {},
        prepare: lock('m_lock2', 8_000),
        play: { before: { 1: () => sleep(4_000) } },
    },
    'manual-publishing': {
        env: { ELECTRIC_MANUAL_TABLE_PUBLISHING: 'true' },
        prepare: async (replay) => {
            await replay.db.sql(
                `alter publication ${replay.db.publication} add table m_pub, m_noident`,
            );
        },
        play: { drop: (step) => /subset__/.test(step.request!.path) },
    },
    'database-down': {
        env: {
            DATABASE_URL: 'postgresql://postgres@127.0.0.1:9/nowhere?sslmode=disable',
            ELECTRIC_ENABLE_INTEGRATION_TESTING: 'true',
        },
    },
};

if (!goldenFolder()) {
    describe('recorded exchanges: modes', () => {
        test.skip('the recordings are absent: set COULOMB_GOLDEN', () => undefined);
    });
} else {
    const recording = loadRecording('modes.json');
    const replay = new Replay(recording);
    describe('recorded exchanges: modes', () => {
        beforeAll(() => replay.prepare({}));
        afterAll(() => replay.close());
        for (const scenario of recording.scenarios) {
            const mode = MODES[scenario.name];
            const listed = differenceOf('modes', scenario.name);
            const suffix = listed ? ` [${listed.kind}: ${listed.reason}]` : '';
            test(`${scenario.name}: ${scenario.about}${suffix}`, async () => {
                const difference: Difference = {
                    kind: 'driven', reason: '', ...listed, ...mode.play,
                };
                try {
                    await replay.server.stop();
                    const first = mode.second ? await replay.another() : undefined;
                    await first?.active();
                    replay.server = await replay.another(mode.env);
                    const alone = !mode.second && mode.env.DATABASE_URL === undefined;
                    if (alone) await replay.server.active();
                    if (mode.second) {
                        await until('the second instance to wait', async () =>
                            (await replay.server.get('/v1/health')).text.includes('waiting'));
                    }
                    await mode.prepare?.(replay);
                    await replay.run(scenario, difference);
                } catch (error) {
                    const log = replay.server.tail(15);
                    throw new Error(`${(error as Error).message}\n--- server log\n${log}`);
                } finally {
                    await replay.server.stop();
                    // The next scenario starts its own.
                    for (const server of replay.servers) await server.stop();
                }
            }, 60_000);
        }
    });
}
