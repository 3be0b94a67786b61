// Random where-clauses over the oracle's tables, their constants now and then as parameters. None
// raises an error on a row: what becomes of those has tests of its own (protocol/where).
import type { Random } from './random.js';

type Kind = 'int' | 'text' | 'bool' | 'float' | 'numeric' | 'date' | 'timestamp' | 'timestamptz' |
    'interval' | 'uuid' | 'jsonb' | 'ints' | 'texts' | 'mood' | 'bytea';

/** What a clause may read of each table, and the condition that lets the marker rows in. */
const READS: Record<string, { columns: Record<string, Kind>; marker: string }> = {
    o_int: { columns: { id: 'int', v: 'text', n: 'int' }, marker: 'id = 0' },
    o_comp: { columns: { a: 'int', b: 'text', v: 'text' }, marker: "(a = 0 AND b = 'marker')" },
    o_none: { columns: { u: 'text', v: 'text', n: 'int' }, marker: "u = 'marker'" },
    o_text: { columns: { k: 'text', big: 'text', n: 'int' }, marker: "k = 'marker'" },
    o_wide: { columns: { id: 'int', a: 'text', b: 'text', c: 'text', d: 'text', e: 'text' }, marker: 'id < 0' },
    o_typed: {
        columns: {
            id: 'int', v: 'text', b: 'bool', f: 'float', num: 'numeric', d: 'date', ts: 'timestamp',
            tz: 'timestamptz', iv: 'interval', u: 'uuid', j: 'jsonb', ints: 'ints', texts: 'texts',
            m: 'mood', bin: 'bytea',
        },
        marker: 'id = 0',
    },
};

export interface Clause {
    where: string;
    params: string[];
}

const INTS = ['-1', '0', '1', '2', '3', '7', '12', '40', '55', '99', '120'];
const TEXTS = ['', 'a', 'i1', 'm', 'u7', 'v3', 'b1', 'x', 'w5', "it''s", 'é', 'e', '2w', 'k/7', '5w5w'];
const VALUES: Record<Kind, string[]> = {
    int: INTS,
    text: TEXTS,
    bool: ['t', 'f'],
    float: ['0', '1.5', '-2', 'NaN', 'Infinity', '1e10'],
    numeric: ['0', '1.50', '2', '-3.25', 'NaN'],
    date: ['2024-01-01', '2024-02-29', '1999-12-31', 'infinity'],
    timestamp: ['2024-01-01 00:00:00', '2024-02-29 12:30:00.5', '-infinity'],
    timestamptz: ['2024-01-01 00:00:00+00', '2024-02-29 12:30:00+02', 'infinity'],
    interval: ['1 day', '24 hours', '1 month', '30 days', '00:00:01'],
    uuid: ['00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000ff'],
    jsonb: ['{"a": 1}', '[1, 2]', '{"a": {"b": "x"}}', 'null'],
    ints: ['{}', '{1}', '{1,2,3}', '{NULL,7}'],
    texts: ['{}', '{a}', '{a,"b c"}', '{NULL}'],
    mood: ['sad', 'ok', 'high'],
    bytea: ['\\x', '\\x01', '\\xff00'],
};

/** A value of a kind for the typed table's writers, as a literal. */
export function valueOf(random: Random, kind: Kind): string {
    return random.chance(0.15) ? 'null' : `'${random.pick(VALUES[kind])}'`;
}

export const TYPED = READS.o_typed.columns;

class Writer {
    readonly params: string[] = [];

    constructor(readonly random: Random, readonly columns: [string, Kind][]) {}

    /** A constant: a literal, or a parameter of the same text. Its type comes from its place. */
    constant(kind: Kind): string {
        const text = this.random.pick(VALUES[kind]);
        if (this.random.chance(0.25)) {
            this.params.push(text.replaceAll("''", "'"));
            return `$${this.params.length}`;
        }
        return kind === 'int' && this.random.chance(0.7) ? (text.startsWith('-') ? `(${text})` : text) : `'${text}'`;
    }

    list(kind: Kind): string {
        return Array.from({ length: this.random.int(1, 5) }, () => this.constant(kind)).join(', ');
    }

    /** A column of one of the kinds; any table has an int and a text. */
    column(...kinds: Kind[]): [string, Kind] {
        return this.random.pick(this.columns.filter(([, kind]) => kinds.includes(kind)));
    }

    boolean(depth: number): string {
        const { random } = this;
        const below = (): string => this.boolean(depth - 1);
        switch (depth > 0 ? random.int(0, 8) : 8) {
            case 0: case 1: return `(${below()} AND ${below()})`;
            case 2: case 3: return `(${below()} OR ${below()})`;
            case 4: return `NOT (${below()})`;
            case 5: return `(${below()}) IS ${random.pick(['TRUE', 'NOT TRUE', 'FALSE', 'UNKNOWN', 'NOT UNKNOWN'])}`;
            case 6: return `CASE WHEN ${below()} THEN ${below()} ELSE ${below()} END`;
            default: return this.condition();
        }
    }

    private condition(): string {
        const { random } = this;
        const [name, kind] = random.pick(this.columns);
        const compare = (): string => random.pick(['=', '<>', '<', '<=', '>', '>=']);
        if (random.chance(0.1)) return `${name} IS ${random.pick(['', 'NOT '])}NULL`;
        switch (kind) {
            case 'int': return this.ofInt(name, compare);
            case 'text': return this.ofText(name);
            case 'bool': return random.pick([name, `NOT ${name}`, `${name} IS NOT TRUE`, `${name} = ${this.constant('bool')}`]);
            case 'ints': return this.ofArray(name, 'int', kind);
            case 'texts': return this.ofArray(name, 'text', kind);
            case 'jsonb': return random.pick([
                `${name} @> '{"a": 1}'`, `${name} ->> 'a' = '1'`, `${name} #>> '{a,b}' = 'x'`, `${name} ? 'a'`,
                `${name} = ${this.constant('jsonb')}`,
            ]);
            case 'mood': return random.pick([
                `${name} = ${this.constant('mood')}`, `${name} IN (${this.list('mood')})`, `${name}::text LIKE 's%'`,
            ]);
            case 'bytea': return `${name} ${random.pick(['=', '<>'])} ${this.constant('bytea')}`;
            case 'date': return random.pick([
                `${name} ${compare()} ${this.constant('date')}`, `${name} + 1 ${compare()} date '2024-03-01'`,
            ]);
            default: return random.pick([
                `${name} ${compare()} ${this.constant(kind)}`, `${name} IN (${this.list(kind)})`,
                `${name} IS NOT DISTINCT FROM ${this.constant(kind)}`,
            ]);
        }
    }

    private ofInt(name: string, compare: () => string): string {
        const [other] = this.column('int');
        switch (this.random.int(0, 9)) {
            case 0: case 1: return `${name} = ${this.constant('int')}`;
            case 2: return `${name} IN (${this.list('int')})`;
            case 3: return `${name} BETWEEN ${this.random.int(0, 50)} AND ${this.random.int(20, 120)}`;
            case 4: return `${name} % ${this.random.int(2, 7)} = ${this.random.int(0, 3)}`;
            case 5: return `${name} = ANY('{${this.random.int(1, 60)},${this.random.int(1, 60)}}')`;
            case 6: return `${name} * 2 + 1 ${compare()} ${other}`;
            case 7: return `coalesce(${name}, 5) ${compare()} ${this.constant('int')}`;
            case 8: return `abs(${name} - 30) < ${this.random.int(1, 40)}`;
            default: return `${name} ${compare()} ${this.constant('int')}`;
        }
    }

    private ofText(name: string): string {
        const [other] = this.column('text');
        switch (this.random.int(0, 8)) {
            case 0: case 1: return `${name} = ${this.constant('text')}`;
            case 2: return `${name} IN (${this.list('text')})`;
            case 3: return `${name} LIKE '${this.random.pick(['u%', 'v1%', 'i_', '%w%', 'b/%', '%1', 'k/1_'])}'`;
            case 4: return `${name} COLLATE "C" ${this.random.pick(['<', '>='])} '${this.random.pick(['i', 'm', 'u5', 'v'])}'`;
            case 5: return `length(${name}) > ${this.random.int(0, 50)}`;
            case 6: return `${name} || 'x' = ${this.constant('text')} || 'x'`;
            case 7: return `${name} IS DISTINCT FROM ${other}`;
            default: return `${name} COLLATE "C" ~ '^[a-m]'`;
        }
    }

    private ofArray(name: string, element: Kind, kind: Kind): string {
        return this.random.pick([
            `${this.constant(element)} = ANY(${name})`, `${name} @> ${this.constant(kind)}`,
            `${name} && ${this.constant(kind)}`, `${name}[1] = ${this.constant(element)}`, `${name} = ${this.constant(kind)}`,
        ]);
    }
}

/** A clause over the table that the marker rows satisfy. */
export function randomClause(random: Random, table: string): Clause {
    const reads = READS[table];
    const writer = new Writer(random, Object.entries(reads.columns));
    const text = writer.boolean(random.int(0, 3));
    return { where: `(${text}) OR ${reads.marker}`, params: writer.params };
}
