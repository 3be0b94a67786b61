// The comparison itself: it accepts every recording as its own replay, and notices changes.
import { describe, expect, test } from 'vitest';
import { allDifferences } from './differences.js';
import { Bindings, checkInvariants, matchAnswer, Mismatch, type Answer } from './match.js';
import { expectedOf, goldenFolder, loadRecording, type Step } from './recording.js';

const FILES = ['changes', 'chunks', 'defaults', 'http', 'identifiers', 'keys', 'lifecycle',
    'modes', 'partitions', 'reconcile', 'sse', 'subqueries', 'subsets', 'types', 'validation'];

function recordedAnswer(step: Step, standard: Record<string, string>): Answer {
    const response = step.response!;
    return {
        status: response.status,
        headers: { ...(response.plus_standard_headers ? standard : {}), ...response.headers },
        text: response.body !== undefined ? JSON.stringify(response.body) : (response.text ?? ''),
        events: response.writes
            ? response.writes
                  .map((w) => w.text)
                  .join('')
                  .split('\n\n')
                  .slice(0, -1)
                  .map((b) => (b.startsWith('data: ') ? JSON.parse(b.slice(6)) : b))
            : undefined,
        closedByServer: response.server_closed_at_ms !== null,
    };
}

describe.skipIf(!goldenFolder())('comparison with recordings', () => {
    for (const file of FILES) {
        test(`${file}: each recording matches itself`, () => {
            const recording = loadRecording(`${file}.json`);
            for (const scenario of recording.scenarios) {
                const bindings = new Bindings(new Map());
                scenario.steps.forEach((step, i) => {
                    if (!step.request) return;
                    const answer = recordedAnswer(step, recording.standard_headers);
                    const expected = expectedOf(recording, step);
                    try {
                        matchAnswer(expected, answer, step.request.method === 'HEAD', bindings);
                        if (file !== 'subqueries') {
                            checkInvariants(answer, /[?&]live=true/.test(step.request.path));
                        }
                    } catch (error) {
                        throw new Error(`${scenario.name}, step ${i}: ${(error as Error).message}`);
                    }
                });
            }
        });
    }

    test('a changed status, header, value, handle or order is noticed', () => {
        const recording = loadRecording('changes.json');
        const scenario = recording.scenarios.find((s) => s.name === 'update')!;
        const steps = scenario.steps.filter((s) => s.request);
        const changes: ((answer: Answer) => void)[] = [
            (a) => (a.status = 201),
            (a) => delete a.headers['electric-cursor'],
            (a) => (a.headers['x-more'] = '1'),
            (a) => (a.headers['electric-handle'] = 'other-1'),
            (a) => (a.headers['electric-offset'] = '1_0'),
            (a) => (a.text = a.text.replace('"bb"', '"cc"')),
            (a) => (a.text = a.text.replace('"op_position":0', '"op_position":2')),
            (a) => (a.text = a.text.replace('"last":true,', '')),
        ];
        for (const change of changes) {
            const bindings = new Bindings(new Map());
            const play = (): void =>
                steps.slice(0, 3).forEach((step, i) => {
                    const answer = recordedAnswer(step, recording.standard_headers);
                    if (i === 2) change(answer);
                    matchAnswer(expectedOf(recording, step), answer, false, bindings);
                });
            expect(play, change.toString()).toThrow(Mismatch);
        }
    });

    test('every listed difference names a recorded scenario', () => {
        for (const [group, name] of allDifferences()) {
            const names = loadRecording(`${group}.json`).scenarios.map((s) => s.name);
            expect(names, `${group}/${name}`).toContain(name);
        }
    });
});
