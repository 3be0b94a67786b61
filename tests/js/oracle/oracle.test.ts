// Rounds of the oracle; ORACLE_ROUNDS, ORACLE_SEED and ORACLE_ROUND_MS change them.
import { expect, test } from 'vitest';
import { Oracle } from './oracle.js';
import { Random } from './random.js';

const rounds = Number(process.env.ORACLE_ROUNDS ?? 200);
const seed = Number(process.env.ORACLE_SEED ?? Math.floor(Math.random() * 2 ** 31));
const roundMs = Number(process.env.ORACLE_ROUND_MS ?? 350);

test('the same seed makes the same decisions', () => {
    const draw = (): number[] => {
        const random = new Random(42);
        return Array.from({ length: 20 }, () => random.int(0, 1000));
    };
    expect(draw()).toEqual(draw());
});

test(
    `after each of ${rounds} rounds of writes, joins, crashes and faults every client equals SELECT`,
    async () => {
        await new Oracle({
            seed,
            rounds,
            roundMs,
            log: (line) => process.stderr.write(`oracle: ${line}\n`),
        }).run();
    },
    rounds * 20_000 + 120_000,
);
