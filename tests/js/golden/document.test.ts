// The list of differences in tests/PROTOCOL.md is the table of differences.ts; run with
// UPDATE_PROTOCOL=1 to write it anew.
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { allDifferences } from './differences.js';

const PATH = new URL('../../PROTOCOL.md', import.meta.url);
const BEGIN = '<!-- differences: begin -->';
const END = '<!-- differences: end -->';

function table(): string {
    const lines = ['| file | scenario | kind | reason |', '|---|---|---|---|'];
    for (const [group, name, { kind, reason }] of allDifferences()) {
        lines.push(`| ${group} | ${name} | ${kind} | ${reason} |`);
    }
    lines.push('| subqueries | all | later | needs subqueries |');
    return lines.join('\n');
}

test('tests/PROTOCOL.md lists every difference from the recordings', () => {
    const text = readFileSync(PATH, 'utf8');
    const from = text.indexOf(BEGIN) + BEGIN.length;
    const to = text.indexOf(END);
    expect(from).toBeGreaterThan(BEGIN.length);
    if (process.env.UPDATE_PROTOCOL) {
        writeFileSync(PATH, `${text.slice(0, from)}\n${table()}\n${text.slice(to)}`);
        return;
    }
    expect(text.slice(from, to).trim(), 'run tests/js/run.sh golden/document with UPDATE_PROTOCOL=1')
        .toBe(table());
});
