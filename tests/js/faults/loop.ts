// Fault loops: a kind of fault at the n-th call, for every n that the scenario reaches.
//
// FAULTS=all takes every n (make soak); otherwise a few are drawn over the range, the same
// ones in each run (FAULTS_SEED gives others, FAULTS_SAMPLES says how many). Where a kind
// has more than FAULTS_MAX calls, as allocations do, a full loop takes that many of them,
// one at random from each part of the range. FAULTS_N=17,18 takes those, to see a failure
// again: FAULTS_N=17 tests/js/run.sh faults -t 'create #n EROFS'
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Random } from '../oracle/random.js';
import { describeFault, type Fault, type Kind } from '../support/iofaults.js';
import { Cluster } from '../support/postgres.js';
import { Scenario, type Run } from './scenario.js';

const ALL = process.env.FAULTS === 'all';
const SEED = Number(process.env.FAULTS_SEED ?? 1);
const SAMPLES = Number(process.env.FAULTS_SAMPLES ?? 1);
const NAMED = (process.env.FAULTS_N ?? '').split(',').filter(Boolean).map(Number);
const MAX_LOOP = Number(process.env.FAULTS_MAX ?? 1000);
/** A loop with so many is not worth going on with. */
const MAX_FAILURES = 25;

export interface Variant {
    fault: Omit<Fault, 'n'>;
    from?: Run['from'];
    /** Of the default number of samples. */
    share?: number;
}

/** The n to try of a range. */
function choose(count: number, samples: number, random: Random): number[] {
    if (NAMED.length > 0) return NAMED;
    if (ALL && count <= MAX_LOOP) return Array.from({ length: count }, (_, i) => i + 1);
    const wanted = Math.min(ALL ? MAX_LOOP : samples, count);
    // One from each part of the range.
    return Array.from({ length: wanted }, (_, i) => {
        const from = Math.floor((i * count) / wanted);
        const to = Math.floor(((i + 1) * count) / wanted) - 1;
        return 1 + random.int(from, Math.max(from, to));
    });
}

export function faultLoop(variants: Variant[]): void {
    let cluster: Cluster;
    let scenario: Scenario;
    const counts = new Map<string, Record<Kind, number>>();

    beforeAll(async () => {
        cluster = await Cluster.start();
        scenario = await Scenario.create(cluster);
    });
    afterAll(async () => {
        await scenario?.close();
        await cluster?.remove();
    });

    async function countOf(from: Run['from'], kind: Kind): Promise<number> {
        let known = counts.get(from);
        if (!known) {
            known = (await scenario.run({ from })).counts;
            counts.set(from, known);
        }
        return known[kind];
    }

    test('without a fault everything is right', async () => {
        expect((await scenario.run({ from: 'start' })).ended).toBe('');
    });

    variants.forEach(({ fault, from = 'start', share = 1 }, i) => {
        const name = `${describeFault({ ...fault, n: 1 }).replace('#1', '#n')} (from ${from})`;
        const seconds = ALL ? 24 * 3600 : 300;
        test(name, async () => {
            const count = await countOf(from, fault.kind);
            const chosen = choose(count, Math.max(1, Math.round(SAMPLES * share)), new Random(SEED * 1000 + i));
            const failures: string[] = [];
            let reached = 0;
            const ends = new Map<string, number>();
            for (const n of chosen) {
                try {
                    const outcome = await scenario.run({ fault: { ...fault, n }, from });
                    if (outcome.hits > 0) reached++;
                    const end = [
                        outcome.ended || (outcome.hits > 0 ? 'went on' : 'not reached'),
                        outcome.file && `at ${outcome.file}`,
                    ].filter(Boolean).join(' ');
                    ends.set(end, (ends.get(end) ?? 0) + 1);
                } catch (error) {
                    failures.push((error as Error).message);
                    if (failures.length >= (ALL || NAMED.length > 0 ? MAX_FAILURES : 1)) break;
                }
            }
            const summary = [...ends].map(([end, times]) => `    ${times} × ${end}`).join('\n');
            process.stderr.write(
                `faults: ${name}: ${chosen.length} of ${count} calls, ${reached} reached, ` +
                    `${failures.length} failed\n${summary}\n`);
            if (failures.length > 0) {
                throw new Error(`${failures.length} of ${chosen.length} failed:\n${failures.join('\n\n')}`);
            }
        }, seconds * 1000);
    });
}
