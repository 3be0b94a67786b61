// Compares an answer with a recorded one in which volatile values are placeholders.
// A placeholder takes the value it first meets and must meet it again wherever it is
// repeated ("hard"). Values that depend on the clock or on other work in the cluster
// (last seen LSNs, xmin and xmax, cursors) only lend their value to later requests
// ("soft").
import type { Expected } from './recording.js';

const PLACEHOLDER = /<(?:(handle|lsn|xid|tag|mark|cursor)(\d+)|(mono)|(6\.\.10))>/g;

const PATTERN: Record<string, string> = {
    handle: '([^\\s":]+)',
    lsn: '(\\d+)',
    xid: '(\\d+)',
    tag: '([0-9a-f]+)',
    mark: '(\\d+)',
    cursor: '(\\d+)',
    mono: '(-?\\d+)',
    '6..10': '([6-9]|10)',
};

/** JSON members whose value may differ from others of the same name. */
const SOFT_MEMBERS = new Set([
    'global_last_seen_lsn', 'database_lsn', 'xmin', 'xmax', 'snapshot_mark',
]);

/** Headers that carry no meaning of the protocol. */
const IGNORED_HEADERS = new Set(['date', 'x-request-id', 'keep-alive']);

export class Mismatch extends Error {}

/** Values of placeholders in one scenario, and of recorded values in one file. */
export class Bindings {
    readonly hard = new Map<string, string>();
    readonly soft = new Map<string, string>();
    /** Recorded placeholder values of this scenario. */
    readonly recorded = new Map<string, string>();

    /** `file` maps values of the recording to ours, over all scenarios of the file. */
    constructor(readonly file: Map<string, string>) {}

    bind(name: string, value: string, soft: boolean, where: string): void {
        if (name.startsWith('cursor') || name === 'mono' || name === '6..10') soft = true;
        if (soft) {
            this.soft.set(name, value);
        } else {
            const known = this.hard.get(name);
            if (known !== undefined && known !== value) {
                throw new Mismatch(`${where}: <${name}> was ${known}, now ${value}`);
            }
            if (name.startsWith('handle')) {
                for (const [other, otherValue] of this.hard) {
                    if (other !== name && otherValue === value && other.startsWith('handle')) {
                        throw new Mismatch(`${where}: <${name}> equals <${other}>: ${value}`);
                    }
                }
            }
            this.hard.set(name, value);
        }
        const recorded = this.recorded.get(name);
        if (recorded === undefined || name.startsWith('cursor')) return;
        // A last seen LSN may lie behind the commit that it was in the recording.
        if (!soft || !this.file.has(recorded)) this.file.set(recorded, value);
    }

    get(name: string): string | undefined {
        return this.hard.get(name) ?? this.soft.get(name);
    }

    copy(): Bindings {
        const copy = new Bindings(new Map(this.file));
        for (const [k, v] of this.hard) copy.hard.set(k, v);
        for (const [k, v] of this.soft) copy.soft.set(k, v);
        for (const [k, v] of this.recorded) copy.recorded.set(k, v);
        return copy;
    }

    adopt(other: Bindings): void {
        for (const [k, v] of other.file) this.file.set(k, v);
        for (const [k, v] of other.hard) this.hard.set(k, v);
        for (const [k, v] of other.soft) this.soft.set(k, v);
    }

    /** Learns which recorded values the placeholders of a text stand for. */
    learn(template: unknown, raw: unknown): void {
        if (typeof template === 'string') {
            const found = matchTemplate(template, String(raw));
            for (const [name, value] of found ?? []) {
                if (!this.recorded.has(name)) this.recorded.set(name, value);
            }
        } else if (template && raw && typeof template === 'object' && typeof raw === 'object') {
            for (const key of Object.keys(template)) {
                this.learn((template as any)[key], (raw as any)[key]);
            }
        }
    }
}

export function hasPlaceholder(text: string): boolean {
    return text.search(PLACEHOLDER) >= 0;
}

/** Pairs of placeholder and value, or undefined if the text does not fit. */
export function matchTemplate(template: string, text: string): [string, string][] | undefined {
    const names: string[] = [];
    let pattern = '';
    let last = 0;
    for (const found of template.matchAll(PLACEHOLDER)) {
        const kind = found[1] ?? found[3] ?? found[4];
        names.push(found[1] ? found[1] + found[2] : kind);
        pattern += escape(template.slice(last, found.index)) + PATTERN[kind];
        last = found.index + found[0].length;
    }
    pattern += escape(template.slice(last));
    const match = new RegExp(`^${pattern}$`, 's').exec(text);
    return match?.slice(1).map((value, i) => [names[i], value]);
}

function escape(text: string): string {
    return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** Fills in placeholders; `missing` supplies those not met yet. */
export function fill(template: string, missing: (name: string) => string): string {
    return template.replace(PLACEHOLDER, (whole, kind, number) =>
        kind ? missing(kind + number) : whole,
    );
}

function show(value: unknown): string {
    const text = JSON.stringify(value);
    return text === undefined ? 'nothing' : text.length > 400 ? `${text.slice(0, 400)}…` : text;
}

export function matchValue(
    expected: unknown, actual: unknown, where: string, bindings: Bindings, soft = false,
): void {
    if (typeof expected === 'string') {
        if (!hasPlaceholder(expected)) {
            if (expected !== actual) {
                throw new Mismatch(`${where}: expected ${show(expected)}, got ${show(actual)}`);
            }
            return;
        }
        const isText = typeof actual === 'string' || typeof actual === 'number';
        const pairs = isText ? matchTemplate(expected, String(actual)) : undefined;
        if (!pairs) throw new Mismatch(`${where}: expected ${expected}, got ${show(actual)}`);
        for (const [name, value] of pairs) bindings.bind(name, value, soft, where);
        return;
    }
    if (Array.isArray(expected)) {
        if (!Array.isArray(actual) || actual.length !== expected.length) {
            throw new Mismatch(`${where}: expected ${show(expected)}, got ${show(actual)}`);
        }
        expected.forEach((item, i) => matchValue(item, actual[i], `${where}[${i}]`, bindings, soft));
        return;
    }
    if (expected && typeof expected === 'object') {
        if (!actual || typeof actual !== 'object' || Array.isArray(actual)) {
            throw new Mismatch(`${where}: expected ${show(expected)}, got ${show(actual)}`);
        }
        matchMembers(expected as any, actual as any, where, bindings, soft);
        return;
    }
    if (expected !== actual) {
        throw new Mismatch(`${where}: expected ${show(expected)}, got ${show(actual)}`);
    }
}

function matchMembers(
    expected: Record<string, unknown>, actual: Record<string, unknown>, where: string,
    bindings: Bindings, soft: boolean,
): void {
    const names = new Set([...Object.keys(expected), ...Object.keys(actual)]);
    for (const name of names) {
        const at = `${where}.${name}`;
        if (!(name in expected)) throw new Mismatch(`${at}: unexpected ${show(actual[name])}`);
        if (!(name in actual)) {
            throw new Mismatch(`${at}: missing, expected ${show(expected[name])}`);
        }
        if (name === 'xip_list') {
            matchXipList(expected[name] as string[], actual[name], at);
        } else {
            matchValue(expected[name], actual[name], at, bindings, soft || SOFT_MEMBERS.has(name));
        }
    }
}

// Which transactions are open depends on the whole cluster; only that the recorded open
// ones have a counterpart can be asked.
function matchXipList(expected: string[], actual: unknown, where: string): void {
    const fine = Array.isArray(actual) && actual.every((x) => /^\d+$/.test(x));
    if (!fine || (expected.length > 0 && actual.length === 0)) {
        throw new Mismatch(`${where}: expected ${show(expected)}, got ${show(actual)}`);
    }
}

/** Snapshot rows come in physical order, which is no promise: compared sorted by key. */
function sortSnapshot(body: unknown): unknown {
    if (!Array.isArray(body)) return body;
    const isRow = (m: any): boolean => m?.headers?.operation && m.headers.lsn === undefined;
    const rows = body.filter(isRow);
    if (rows.length === 0) return body;
    const text = (m: any): string => `${m.key} ${JSON.stringify(Object.entries(m.value).sort())}`;
    rows.sort((a, b) => (text(a) < text(b) ? -1 : 1));
    let next = 0;
    return body.map((m) => (isRow(m) ? rows[next++] : m));
}

export interface Answer {
    status: number;
    headers: Record<string, string>;
    /** The body text; for event streams the events. */
    text: string;
    events?: unknown[];
    closedByServer?: boolean;
}

export function matchAnswer(
    expected: Expected, answer: Answer, head: boolean, bindings: Bindings,
): void {
    if (expected.status !== answer.status) {
        throw new Mismatch(
            `status: expected ${expected.status}, got ${answer.status} ${answer.text.slice(0, 400)}`,
        );
    }
    if (expected.status === 304) delete expected.headers.connection;
    matchHeaders(expected.headers, answer.headers, head, bindings);
    if (expected.sse) {
        matchValue(expected.sse, answer.events, 'events', bindings);
        if (expected.closedByServer !== answer.closedByServer) {
            throw new Mismatch(
                `stream: expected closed=${expected.closedByServer}, got ${answer.closedByServer}`,
            );
        }
        return;
    }
    if (head) return;
    if (expected.pattern) {
        if (!expected.pattern.test(answer.text)) {
            throw new Mismatch(`body: expected ${expected.pattern}, got ${answer.text.slice(0, 400)}`);
        }
    } else if (expected.body !== undefined) {
        let actual: unknown;
        try {
            actual = JSON.parse(answer.text);
        } catch {
            throw new Mismatch(`body: expected JSON, got ${answer.text.slice(0, 200)}`);
        }
        matchValue(sortSnapshot(expected.body), sortSnapshot(actual), 'body', bindings);
    } else {
        matchValue(expected.text ?? '', answer.text, 'body', bindings);
    }
}

function matchHeaders(
    expected: Record<string, string>, actual: Record<string, string>, head: boolean,
    bindings: Bindings,
): void {
    const names = new Set([...Object.keys(expected), ...Object.keys(actual)]);
    for (const name of names) {
        const at = `header ${name}`;
        const want = expected[name];
        const got = actual[name];
        if (IGNORED_HEADERS.has(name)) continue;
        if (name === 'connection' && want === undefined) continue;
        // A server may leave out what only describes the body that HEAD does not get.
        if (head && (name === 'content-length' || name === 'transfer-encoding')) continue;
        // An answer without a body may say so.
        if (name === 'content-length' && want === undefined && got === '0') continue;
        if (want === undefined) throw new Mismatch(`${at}: unexpected ${show(got)}`);
        if (got === undefined) throw new Mismatch(`${at}: missing, expected ${want}`);
        if (name === 'content-length') {
            continue;
        } else if (name === 'electric-server') {
            if (!/^\w+\/\d/.test(got)) throw new Mismatch(`${at}: expected name/version, got ${got}`);
        } else if (name === 'electric-schema') {
            matchValue(JSON.parse(want), JSON.parse(got), at, bindings);
        } else if (name === 'retry-after' && /^\d+$/.test(want) && Number(want) >= 6 &&
            Number(want) <= 10 && /^([6-9]|10)$/.test(got)) {
            continue;
        } else {
            matchValue(want, got, at, bindings);
        }
    }
}

/** Relations that must hold in any answer, whatever was recorded. */
export function checkInvariants(answer: Answer, live: boolean): void {
    const offset = /^(\d+)_(\d+)$/.exec(answer.headers['electric-offset'] ?? '');
    if (answer.status !== 200 || answer.events) return;
    let body: any;
    try {
        body = JSON.parse(answer.text);
    } catch {
        return;
    }
    if (!Array.isArray(body) || body.some((m) => typeof m !== 'object')) return;
    let last = [-1n, -1n];
    for (const message of body) {
        const { lsn, op_position: op } = message.headers;
        if (lsn === undefined) continue;
        const here = [BigInt(lsn), BigInt(op)];
        if (here[0] < last[0] || (here[0] === last[0] && here[1] <= last[1])) {
            throw new Mismatch(`entry ${here.join('_')} follows ${last.join('_')}`);
        }
        last = here;
    }
    const tx = offset ? BigInt(offset[1]) : 0n;
    if (last[0] >= 0n && last.join('_') !== offset?.[0]) {
        throw new Mismatch(
            `electric-offset ${answer.headers['electric-offset']} is not that of the last ` +
                `entry ${last.join('_')}`,
        );
    }
    const seen = body.at(-1)?.headers?.global_last_seen_lsn;
    if (seen === undefined) return;
    if (BigInt(seen) < tx) throw new Mismatch(`last seen ${seen} is before the offset's ${tx}`);
    if (live && last[0] >= 0n && BigInt(seen) !== tx) {
        throw new Mismatch(`live answer: last seen ${seen} differs from the offset's ${tx}`);
    }
}
