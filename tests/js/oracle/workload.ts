// What the oracle's writers write and its clients read: tables, the shapes of them, random
// statements.
import type { Params } from '../support/coulomb.js';
import type { Row } from '../support/follower.js';
import { randomClause, TYPED, valueOf } from './clauses.js';
import { Random } from './random.js';

export interface Table {
    name: string;
    columns: string[];
    key: string[];
    ddl: string;
    /** Makes the marker row say that round `n` is over. */
    mark: (n: number) => string;
    /** Whether a row says so. */
    marked: (row: Row, n: number) => boolean;
}

const MARK = 'marker';
const WIDE = ['a', 'b', 'c', 'd', 'e', 'f'];

export const TABLES: Table[] = [
    {
        name: 'o_int',
        columns: ['id', 'v', 'n'],
        key: ['id'],
        ddl: 'create table o_int(id int primary key, v text, n int); insert into o_int values (0, null, 0)',
        mark: (n) => `insert into o_int values (0, '${MARK}-${n}', ${n})
            on conflict (id) do update set n = excluded.n, v = excluded.v`,
        marked: (row, n) => row.id === '0' && row.v === `${MARK}-${n}`,
    },
    {
        name: 'o_comp',
        columns: ['b', 'a', 'v'],
        key: ['a', 'b'],
        ddl: 'create table o_comp(b text, a int, v text, primary key (a, b))',
        mark: (n) => `insert into o_comp values ('${MARK}', 0, '${n}')
            on conflict (a, b) do update set v = excluded.v`,
        marked: (row, n) => row.a === '0' && row.v === String(n),
    },
    {
        name: 'o_none',
        columns: ['u', 'v', 'n'],
        key: ['u', 'v', 'n'],
        ddl: 'create table o_none(u text, v text, n int)',
        mark: (n) => `delete from o_none where u = '${MARK}'; insert into o_none values ('${MARK}', '${n}', ${n})`,
        marked: (row, n) => row.u === MARK && row.v === String(n),
    },
    {
        name: 'o_text',
        columns: ['k', 'big', 'n'],
        key: ['k'],
        ddl: 'create table o_text(k text primary key, big text, n int); alter table o_text alter big set storage external',
        mark: (n) => `insert into o_text values ('${MARK}', '', ${n})
            on conflict (k) do update set n = excluded.n`,
        marked: (row, n) => row.k === MARK && row.n === String(n),
    },
    {
        // Many shapes of one table, which share what is equal in them.
        name: 'o_wide',
        columns: ['id', ...WIDE],
        key: ['id'],
        ddl: `create table o_wide(id int primary key, ${WIDE.map((c) => `${c} text`).join(', ')})`,
        mark: (n) => `delete from o_wide where id < 0; insert into o_wide(id) values (${-n})`,
        marked: (row, n) => row.id === String(-n),
    },
    {
        // Read by clauses over columns that no shape selects.
        name: 'o_typed',
        columns: ['id', 'v'],
        key: ['id'],
        ddl: `create type o_mood as enum ('sad', 'ok', 'high');
            create table o_typed(id int primary key, v text, b bool, f float8, num numeric, d date, ts timestamp,
                tz timestamptz, iv interval, u uuid, j jsonb, ints int[], texts text[], m o_mood, bin bytea)`,
        mark: (n) => `insert into o_typed(id, v) values (0, '${MARK}-${n}')
            on conflict (id) do update set v = excluded.v`,
        marked: (row, n) => row.id === '0' && row.v === `${MARK}-${n}`,
    },
];

const NARROW: Params[] = [
    { table: 'o_int' },
    { table: 'o_int', replica: 'full' },
    { table: 'o_int', columns: 'id,v' },
    { table: 'o_comp' },
    { table: 'o_comp', replica: 'full' },
    { table: 'o_none' },
    { table: 'o_text' },
    { table: 'o_text', columns: 'k,n' },
    { table: 'o_text', replica: 'full' },
];

/** Shapes of the wide table: subsets of its columns, each with and without old values. */
function wideShapes(): Params[] {
    const random = new Random(5);
    const lists = new Set<string>(['id', `id,${WIDE.join(',')}`]);
    while (lists.size < 20) {
        lists.add(['id', ...WIDE.filter(() => random.chance(0.5))].join(','));
    }
    const shapes: Params[] = [{ table: 'o_wide' }, { table: 'o_wide', replica: 'full' }];
    for (const columns of lists) {
        shapes.push({ table: 'o_wide', columns }, { table: 'o_wide', columns, replica: 'full' });
    }
    return shapes;
}

const WIDE_SHAPES = wideShapes();

/** With a clause: a new one, or one that was there before. */
function filteredShape(random: Random, earlier: Params[]): Params {
    if (earlier.length > 0 && random.chance(0.4)) return random.pick(earlier);
    const base = random.pick([...NARROW, ...NARROW, TYPED_SHAPE, TYPED_SHAPE, TYPED_SHAPE, random.pick(WIDE_SHAPES)]);
    const { where, params } = randomClause(random, String(base.table));
    const shape: Params = { ...base, where };
    params.forEach((value, i) => (shape[`params[${i + 1}]`] = value));
    earlier.push(shape);
    return shape;
}

const TYPED_SHAPE: Params = { table: 'o_typed', columns: 'id,v' };

/** `earlier` remembers those with a clause. */
export function pickShape(random: Random, earlier: Params[]): Params {
    if (random.chance(0.6)) return filteredShape(random, earlier);
    return random.pick(random.chance(0.5) ? NARROW : WIDE_SHAPES);
}

/** SELECT of the shape's rows. A parameter is what a literal without a type is. */
export function truthOf(params: Params): string {
    const where = String(params.where ?? 'true').replace(/\$(\d+)/g, (_all, n) =>
        `'${String(params[`params[${n}]`]).replaceAll("'", "''")}'`);
    return `select ${columnsOf(params).join(', ')} from ${params.table} where ${where}`;
}

export function tableOf(params: Params): Table {
    return TABLES.find((t) => t.name === params.table)!;
}

export function columnsOf(params: Params): string[] {
    return params.columns ? String(params.columns).split(',') : tableOf(params).columns;
}

/** A random statement; most tables are small, so that writers meet. */
export function statement(random: Random, writer: number): string {
    if (random.chance(0.003)) return `truncate ${random.pick(TABLES).name}`;
    switch (random.int(0, 14)) {
        case 0: case 1: case 2: case 3:
            return intStatement(random);
        case 4: case 5:
            return compStatement(random);
        case 6: case 7:
            return noneStatement(random, writer);
        case 8: case 9:
            return wideStatement(random);
        case 10: case 11: case 12:
            return typedStatement(random);
        default:
            return textStatement(random);
    }
}

function intStatement(random: Random): string {
    const id = random.int(1, 200);
    const to = id + random.int(1, 15);
    switch (random.int(0, 7)) {
        case 0: case 1:
            return `insert into o_int values (${id}, 'i${random.int(0, 9)}', ${random.int(0, 99)})
                on conflict do nothing`;
        case 2:
            return `update o_int set v = 'u${random.int(0, 999)}' where id between ${id} and ${to}`;
        case 3:
            return `update o_int set n = n + 1, v = nullif(v, 'i1') where id = ${id}`;
        case 4:
            return `update o_int set v = v where id between ${id} and ${to}`;
        case 5:
            return `update o_int set id = ${random.int(1, 200)}, n = 7 where id = ${id}`;
        case 6:
            return `delete from o_int where id between ${id} and ${to}`;
        default:
            return `insert into o_int select i, 'm', i from generate_series(${id}, ${to}) i
                on conflict (id) do update set n = o_int.n + 1`;
    }
}

function compStatement(random: Random): string {
    const a = random.int(1, 60);
    const b = `b${random.int(0, 6)}`;
    switch (random.int(0, 4)) {
        case 0:
            return `insert into o_comp values ('${b}', ${a}, 'i') on conflict do nothing`;
        case 1:
            return `update o_comp set v = 'u${random.int(0, 99)}' where b = '${b}'`;
        case 2:
            return `update o_comp set b = 'b/${random.int(0, 6)}' where a = ${a}`;
        case 3:
            return `update o_comp set a = ${random.int(61, 90)} where a = ${a} and b = '${b}'`;
        default:
            return `delete from o_comp where a = ${a} or (a > 60 and a % 7 = ${random.int(0, 6)})`;
    }
}

function noneStatement(random: Random, writer: number): string {
    // Equal rows would share a key, which no client can tell apart: u is unique.
    const u = `u${writer}-${random.int(1, 1_000_000_000)}`;
    const n = random.int(0, 50);
    switch (random.int(0, 3)) {
        case 0: case 1:
            return `insert into o_none values ('${u}', ${random.chance(0.2) ? 'null' : `'x${n}'`}, ${n})`;
        case 2:
            return `update o_none set v = 'w${random.int(0, 99)}' where n = ${n} and u <> '${MARK}'`;
        default:
            return `delete from o_none where n = ${n} and u <> '${MARK}'`;
    }
}

function textStatement(random: Random): string {
    const k = `k/${random.int(1, 40)}`;
    const big = `repeat('${random.int(0, 9)}é"\\', ${random.int(1, 4000)})`;
    switch (random.int(0, 5)) {
        case 0:
            return `insert into o_text values ('${k}', ${big}, 1) on conflict do nothing`;
        case 1: case 2:
            // The large value stays and is not in the WAL as a new value.
            return `update o_text set n = n + 1 where k = '${k}'`;
        case 3:
            return `update o_text set big = ${big} where k = '${k}'`;
        case 4:
            return `update o_text set k = 'k/${random.int(1, 40)}' where k = '${k}'`;
        default:
            return `delete from o_text where k = '${k}'`;
    }
}

function typedStatement(random: Random): string {
    const id = random.int(1, 60);
    const names = Object.keys(TYPED).filter((name) => name !== 'id');
    switch (random.int(0, 4)) {
        case 0: case 1: {
            const values = names.map((name) => valueOf(random, TYPED[name]));
            return `insert into o_typed(id, ${names.join(', ')}) values (${id}, ${values.join(', ')}) on conflict do nothing`;
        }
        case 2: {
            const name = random.pick(names);
            return `update o_typed set ${name} = ${valueOf(random, TYPED[name])} where id between ${id} and ${id + 9}`;
        }
        case 3:
            return `update o_typed set id = ${random.int(1, 60)}, v = 'moved' where id = ${id}`;
        default:
            return `delete from o_typed where id between ${id} and ${id + 2}`;
    }
}

function wideStatement(random: Random): string {
    const id = random.int(1, 80);
    const column = random.pick(WIDE);
    const size = random.chance(0.1) ? random.int(300, 3000) : random.int(0, 3);
    const value = `repeat('${random.int(0, 9)}w', ${size})`;
    switch (random.int(0, 7)) {
        case 0: case 1:
            return `insert into o_wide(id, ${column}) values (${id}, ${value}) on conflict do nothing`;
        case 2: case 3:
            return `update o_wide set ${column} = ${value} where id = ${id}`;
        case 4:
            return `update o_wide set ${column} = ${value},
                ${random.pick(WIDE.filter((c) => c !== column))} = null where id between ${id} and ${id + 8}`;
        case 5:
            return `update o_wide set id = ${random.int(1, 80)} where id = ${id}`;
        case 6:
            return `delete from o_wide where id between ${id} and ${id + 3} or id > 1000`;
        default:
            // More than a buffer now and then; the statement above removes it.
            return `insert into o_wide(id, ${column}) select i, repeat('bulk', 20)
                from generate_series(1001, ${1000 + (random.chance(0.1) ? 1200 : 30)}) i
                on conflict (id) do update set ${column} = excluded.${column} || '.'`;
    }
}
