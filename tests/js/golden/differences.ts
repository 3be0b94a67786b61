// Where the replay departs from the recordings, and why. Every entry is listed in
// tests/PROTOCOL.md too.
//
//   later    the scenario needs a feature of a later issue; it is skipped
//   partial  the steps that need such a feature are left out, the rest is compared
//   differs  we answer otherwise on purpose; the exact difference is applied to the
//            recording, everything else is compared
//   driven   nothing differs; the entry only says how to play it (concurrent requests)
import type { Expected, Scenario, Step } from './recording.js';
import type { Replay } from './replay.js';
import { sleep } from '../support/process.js';

export interface Difference {
    kind: 'later' | 'partial' | 'differs' | 'driven';
    reason: string;
    /** Steps that are left out. */
    drop?: (step: Step, index: number) => boolean;
    /** The intended difference. */
    patch?: (expected: Expected, step: Step, index: number, scenario: Scenario) => void;
    /** Steps started without waiting for the answer; waited for before the `join` ones. */
    background?: number[];
    join?: number[];
    before?: Record<number, (replay: Replay) => Promise<void>>;
    /** Steps that may also show a change of the catalog which upstream notices later. */
    eager?: number[];
    /** From this major version of Postgres on there is nothing to compare. */
    unlikeFrom?: number;
    /** Values of placeholders that only a request has. */
    values?: Record<string, (replay: Replay) => Promise<string>>;
}

const NEEDS_SUBQUERIES = 'needs subqueries';

const later = (reason: string): Difference => ({ kind: 'later', reason });

const STAYS_OPEN = 'a stream that opens with pending entries stays open';

/** Requests whose path matches are left out. */
const partial = (path: RegExp): Difference => ({
    kind: 'partial',
    reason: NEEDS_SUBQUERIES,
    drop: (step) => path.test(step.request?.path ?? ''),
});

const differs = (
    reason: string, patch: NonNullable<Difference['patch']>,
    extra: Partial<Difference> = {},
): Difference => ({ kind: 'differs', reason, patch, ...extra });

/** Steps that show the shape of another placeholder. */
function sameShapes(shapes: Record<number, number>) {
    return (expected: Expected, _step: Step, i: number): void => {
        if (shapes[i] === undefined) return;
        for (const name of ['electric-handle', 'etag']) {
            expected.headers[name] = expected.headers[name]!.replace(/<handle\d+>/, `<handle${shapes[i]}>`);
        }
    };
}

/** Applies `change` to each change message of a body. */
function rows(expected: Expected, change: (message: any) => void): void {
    for (const list of [expected.body, expected.sse]) {
        if (!Array.isArray(list)) continue;
        for (const message of list) if (message?.headers?.operation) change(message);
    }
}

/** Text of the value as the wire shows it, where the recorded snapshot shows a cast. */
function wireText(columns: Record<string, (text: string | null) => string | null>) {
    return (expected: Expected): void =>
        rows(expected, (message) => {
            for (const [name, convert] of Object.entries(columns)) {
                if (name in message.value) message.value[name] = convert(message.value[name]);
            }
        });
}

const bool = (text: string | null): string | null =>
    text === 'true' ? 't' : text === 'false' ? 'f' : text;
const inet = (text: string | null): string | null =>
    text === null ? null : text.replace(/^([\d.]+)\/32$/, '$1').replace(/^([0-9a-f:]+)\/128$/, '$1');

/** Keys with the given relation name in place of the recorded one. */
function keysOf(from: RegExp, to: string) {
    return (expected: Expected): void =>
        rows(expected, (message) => {
            message.key = message.key.replace(from, to);
        });
}

const EAGER = 'a change of the catalog may be noticed before the next change of a row';

/** Reads between a change of the catalog and its recorded discovery are left out. */
const unread = (...steps: number[]): Difference => ({
    kind: 'differs', reason: EAGER, drop: (_step, i) => steps.includes(i),
});

const eager = (...steps: number[]): Difference => ({
    kind: 'differs', reason: EAGER, eager: steps,
});

const REFETCH = [{ headers: { control: 'must-refetch' } }];

/** Turns the expected answer into a 409 that names a handle not seen before. */
function rotated(expected: Expected, handle: string): void {
    expected.status = 409;
    expected.body = structuredClone(REFETCH);
    for (const name of Object.keys(expected.headers)) {
        if (name.startsWith('electric-') && name !== 'electric-server') {
            delete expected.headers[name];
        }
    }
    delete expected.headers['transfer-encoding'];
    expected.headers['content-length'] = '40';
    expected.headers['electric-handle'] = handle;
    expected.headers['etag'] = `"${handle}::"`;
    expected.headers['cache-control'] = 'public, max-age=60, must-revalidate';
}

function anError(expected: Expected, status: number, errors: object): void {
    expected.status = status;
    expected.body = { message: 'Invalid request', errors };
}

/** The same where the recording has an answer of another kind. */
function refusal(expected: Expected, errors: object): void {
    anError(expected, 400, errors);
    expected.headers = {
        ...standardHeaders(expected),
        'content-type': 'application/json; charset=utf-8',
        'cache-control': 'no-store',
        'surrogate-control': 'no-store',
        'content-length': '0',
    };
}

/** Our 401 is an ordinary answer of the route: content type and CORS headers included. */
function fullUnauthorized(expected: Expected, step: Step): void {
    if (expected.status !== 401) return;
    expected.headers['content-type'] = 'application/json; charset=utf-8';
    expected.headers['access-control-allow-origin'] = step.request!.headers?.origin ?? '*';
    expected.headers['access-control-expose-headers'] =
        'electric-cursor,electric-handle,electric-has-data,electric-offset,electric-schema,' +
        'electric-up-to-date,electric-internal-known-error,retry-after';
    expected.headers['access-control-allow-methods'] = 'GET, POST, HEAD, DELETE, OPTIONS';
}

const UNAUTHORIZED = 'a 401 carries content type and CORS headers, so that browsers can read it';

/** The position where Postgres writes now. */
const walPosition = (ahead: number) => async (replay: Replay): Promise<string> => {
    const [row] = await replay.db.sql(
        "select (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint as lsn",
    );
    return String(BigInt(row.lsn) + BigInt(ahead));
};

const LARGER = 'more of the language is taken (left out here; protocol/where and the unit tests have it), and refusals say why';
const FAILS = "Postgres can't evaluate the clause on a row: ";
const TYPING: Record<number, string> = {
    11: `${FAILS}invalid input syntax for type integer: "a"`,
    17: 'At location 0: argument of IS TRUE must be bool, not int4',
    24: 'At location 10: "yesterday" means something else tomorrow: write a fixed timestamp with time zone, such as 2024-01-31T10:30:00Z',
    25: 'At location 1: Failed to apply function to constant arguments: division by zero',
    26: `${FAILS}division by zero`,
    32: 'At location 0: subqueries are not supported yet',
    33: 'At location 5: subqueries are not supported yet',
};

const NULLABLE = 'a column that becomes not null stays nullable for the shape: its log may hold older NULLs';
const NULLABLE_SCHEMA =
    '{"id":{"type":"int4","not_null":true,"pk_index":0},"v":{"type":"text"}}';

const TABLE: Record<string, Record<string, Difference>> = {
    changes: {
        'replica-full-is-other-shape': differs('equal clauses are one shape however they are written',
            sameShapes({ 7: 5, 8: 5, 15: 5, 16: 5, 17: 5, 18: 5, 20: 12, 21: 5 })),
        'large-transaction': {
            kind: 'driven',
            reason: 'the recording abbreviates 246 entries',
            patch: (expected, _step, i) => {
                if (i === 3) spellOut(expected);
            },
        },
        'concurrent-live-requests': { kind: 'driven', reason: 'three requests wait at once', background: [2, 3, 4] },
        'uncommitted-at-snapshot': {
            kind: 'driven',
            reason: 'the table is published before',
            // The recorder read on after the commit. In place of the first shape with a clause: the table must be published before.
            before: {
                3: async (replay) => {
                    await replay.server.shape({ table: 'c_open', columns: 'id', offset: -1 });
                },
                6: () => sleep(2_000),
            },
        },
    },
    chunks: {
        'log-chunks': differs(STAYS_OPEN, (expected, _step, i, scenario) => {
            if (i !== 11) return;
            expected.closedByServer = false;
            expected.sse = scenario.steps.slice(4, 10).flatMap((step) => {
                return structuredClone(step.normalised!.response!.body as any[]);
            });
        }),
        'live-larger-than-chunk': differs(
            'a stream goes on after a commit larger than a chunk',
            (expected, _step, i) => {
                if (i === 5) expected.sse = largeCommitThenThree();
            },
        ),
        'before-restart': partial(/table=ch_(sub|g)&/),
        'after-restart': partial(/table=ch_(sub|g)&/),
        'read-only-serving': later('needs a second instance; golden/modes covers the waiting one'),
    },
    http: {
        options: differs(
            'preflight allows each header on its own, and those a browser client sends',
            (expected, step) => {
                const asked = step.request!.headers?.['access-control-request-headers'];
                if (asked === undefined) return;
                const allowed = asked
                    .split(',')
                    .map((name) => name.trim())
                    .filter((name) =>
                        ['content-type', 'if-none-match', 'traceparent', 'cache-control',
                            'authorization'].includes(name.toLowerCase()));
                delete expected.headers['access-control-allow-headers'];
                if (allowed.length > 0) {
                    expected.headers['access-control-allow-headers'] = allowed.join(', ');
                }
            },
        ),
        compression: differs(
            'nothing is compressed: errors and health answers are smaller than the gain',
            (expected) => {
                delete expected.headers['content-encoding'];
            },
        ),
        'long-uri': differs(
            'request lines may have 64 KiB, and a long list takes no time',
            (expected, _step, i) => {
                if (i === 0) expected.tookMs = 0;
            },
            { drop: (_step, i) => i === 1 },
        ),
    },
    identifiers: {
        'special-dot': differs('one form of the key in snapshot and log',
            keysOf(/^"public"\."i\.\.dot"/, '"public"."i.dot"')),
        'special-slash': differs('one form of the key in snapshot and log',
            keysOf(/^"public"\."i\/\/slash"/, '"public"."i/slash"')),
        'special-quote': differs('one form of the key in snapshot and log',
            keysOf(/^"public"\."i"quote"/, '"public"."i""quote"')),
    },
    keys: {
        'bool-key': differs('one text form of booleans in snapshot and log', (expected) => {
            wireText({ k: bool })(expected);
            keysOf(/"true"$/, '"t"')(expected);
            keysOf(/"false"$/, '"f"')(expected);
        }),
    },
    lifecycle: {
        'add-column': unread(3, 4),
        'drop-column': unread(3, 4),
        'rename-column': unread(3, 4),
        'change-type-after-change': unread(6),
        'rename-table': unread(3, 4),
        'change-primary-key': unread(3, 4),
        'drop-table': eager(3, 4),
        'recreate-table': eager(3, 4, 6, 7),
        'where-column-dropped': differs(
            'the shape ends with a column that its clause reads',
            (expected, _step, i) => {
                if (i === 6 || i === 7) refusal(expected, { where: ['At location 0: unknown reference w'] });
            },
        ),
        'change-type': differs(
            'the type is compared with the catalog as of creation, so the first change after it rotates',
            (expected, _step, i) => {
                if (i === 6) rotated(expected, '<handle2>');
                if (i === 7) typeChanged(expected);
            },
            { drop: (_step, i) => i === 3 || i === 4 },
        ),
    },
    modes: {
        'secret-missing': differs(UNAUTHORIZED, fullUnauthorized),
        'secret-wrong': differs(UNAUTHORIZED, fullUnauthorized),
        'secret-right': differs(UNAUTHORIZED, fullUnauthorized),
        'secret-path-variants': differs(UNAUTHORIZED, fullUnauthorized),
        'database-down': differs('the message says what is wrong', (expected, _step, i) => {
            if (i === 3) expected.pattern = /^\{"message":"Timeout waiting for .*: .*refused/;
        }),
        'manual-publishing': differs('messages say what to do; `now` waits for the snapshot and fails with it', (expected, _step, i) => {
            const { publication } = /publication "(?<publication>[^"]+)"/
                .exec(expected.body?.message ?? '')?.groups ?? {};
            if (i === 1) {
                expected.body.message += '. To add it, run: ALTER PUBLICATION ' +
                    `"${publication}" ADD TABLE "public"."m_unpub"; ` +
                    'ALTER TABLE "public"."m_unpub" REPLICA IDENTITY FULL;';
            }
            if (i === 4) failedSnapshot(expected);
            if (i === 2) {
                expected.body.message +=
                    '. To set it, run: ALTER TABLE "public"."m_noident" REPLICA IDENTITY FULL;';
            }
        }),
    },
    partitions: {
        'root-only': differs(
            "a root shape's keys name the root, as its relation and its snapshot do",
            keysOf(/^"public"\."p_[abc]"/, '"public"."p_root"'),
        ),
        'root-and-partition': differs(
            "a root shape's keys name the root, as its relation and its snapshot do",
            (expected) => rows(expected, (message) => {
                if (message.headers.relation[1] === 'p_root') {
                    message.key = message.key.replace(/^"public"\."p_[abc]"/, '"public"."p_root"');
                }
            }),
        ),
        inheritance: differs(
            "keys of a child's rows are formed with the parent's name and primary key",
            keysOf(/^"public"\."p_inh_child"\/"3"\/"c3"$/, '"public"."p_inh"/"3"'),
        ),
    },
    reconcile: {
        'drop-table': unread(3),
        'recreate-table': unread(3),
        'rename-table': unread(3),
        'change-type': unread(3),
        'set-not-null': differs(NULLABLE, (expected, _step, i) => {
            if (i === 5) upToDateStill(expected, NULLABLE_SCHEMA);
            if (i !== 6) return;
            expected.headers['electric-handle'] = '<handle1>';
            expected.headers.etag = '"<handle1>:-1:0_0"';
            expected.headers['electric-schema'] = NULLABLE_SCHEMA;
        }),
        'table-removed-from-publication': differs(
            'shapes of a table that was out of the publication rotate, since changes were lost',
            (expected, _step, i) => {
                if (i === 4 || i === 6) rotated(expected, '<handle2>');
            },
            // The new snapshot is compared with SELECT in protocol/replication.
            { drop: (_step, i) => i === 7 },
        ),
        'change-while-out-of-publication': differs(
            'shapes of a table that was out of the publication rotate, since changes were lost',
            (expected, _step, i) => {
                if (i === 5 || i === 7) rotated(expected, '<handle2>');
            },
            { drop: (_step, i) => i === 8 },
        ),
        'update-without-old-row': differs(
            'only the shapes of that table rotate',
            (expected, _step, i) => {
                if (i !== 7) return;
                upToDateStill(
                    expected,
                    '{"id":{"type":"int4","not_null":true,"pk_index":0},"v":{"type":"text","not_null":true}}',
                    '<handle2>',
                );
            },
        ),
    },
    sse: {
        'pending-data': differs(STAYS_OPEN, (expected, _step, i) => {
            if (i !== 4) return;
            expected.closedByServer = false;
            expected.sse!.push(
                ...commit('s_items', 9, [{ id: '13', v: 'later' }]),
            );
        }),
        'reopen-at-lsn-0': differs(STAYS_OPEN, (expected, _step, i) => {
            if (i === 3) expected.closedByServer = false;
        }),
        'errors-before-open': differs(
            'an offset out of bounds is the usual 400, before the stream opens',
            (expected, _step, i) => {
                if (i !== 4) return;
                anError(expected, 400, { offset: ['out of bounds for this shape'] });
                delete expected.sse;
                expected.tookMs = 1_000;
                expected.headers = {
                    ...standardHeaders(expected),
                    'content-type': 'application/json; charset=utf-8',
                    'cache-control': 'no-store',
                    'surrogate-control': 'no-store',
                    'content-length': '0',
                };
            },
        ),
    },
    types: {
        'scalars-snapshot': differs('booleans in their wire form, as in the log', wireText({ b: bool })),
        'special-snapshot': differs(
            'inet and composites in their wire form, as in the log',
            (expected) => rows(expected, (message) => {
                message.value.ip = inet(message.value.ip);
                if (message.value.id === '2') message.value.c = '(,,)';
            }),
        ),
        'scalars-log-replica-full': differs('booleans in their wire form', wireText({ b: bool })),
        'special-log-replica-full': differs('inet and composites in their wire form', (expected) =>
            rows(expected, (message) => {
                if (message.headers.lsn !== undefined) return;
                message.value.ip = inet(message.value.ip);
                message.value.c ??= '(,,)';
            })),
        'nullability-change': differs(NULLABLE, (expected, _step, i) => {
            if (i >= 4) expected.headers['electric-schema'] = NULLABLE_SCHEMA;
        }),
    },
    validation: {
        'table-unknown': differs('tables of pg_catalog are unknown', (expected, _step, i) => {
            if (i !== 6) return;
            anError(expected, 400, {
                table: [
                    'Table "pg_catalog"."pg_class" does not exist. If the table name contains ' +
                        'capitals or special characters you must quote it.',
                ],
            });
        }),
        'columns-generated': differs(
            'a clause over a column that the stream lacks is refused',
            (expected, _step, i) => {
                if (i === 3) {
                    refusal(expected, { where: ['The following columns are generated and cannot be used in the where clause: b'] });
                }
            },
            { unlikeFrom: 18 },
        ),
        'compaction-with-subquery': later(NEEDS_SUBQUERIES),
        'params-keys': differs(
            'a key with a leading zero is no number; of a parameter the conflict of its types is named',
            (expected, _step, i) => {
                if (i === 14) {
                    anError(expected, 400, { params: ['Parameters must be numbered sequentially, starting from 1'] });
                }
                if (i === 16) anError(expected, 400, { where: ['At location 20: type conflict for $1: int4 and text'] });
            },
        ),
        'where-not-boolean': differs('equal clauses are one shape however they are written', sameShapes({ 9: 1, 10: 2 })),
        'where-syntax': differs(
            'what follows the expression is refused, comments aside',
            (expected, _step, i) => {
                if (i === 4 || i === 14) refusal(expected, { where: ['malformed query ending with SQL clauses'] });
            },
        ),
        'where-typing': differs(LARGER, (expected, step, i) => {
            const text = TYPING[i];
            if (text) refusal(expected, { where: [text] });
            sameShapes({ 40: 3 })(expected, step, i);
        }, { drop: (_step, i) => [4, 7, 8, 12, 13, 22, 28, 30, 41, 44, 45, 46].includes(i) }),
        'where-special-types': differs(`${LARGER}; inet in its wire form, as in the log`, wireText({ ip: inet }), {
            drop: (_step, i) => [0, 2, 4, 5, 6, 7, 10, 14].includes(i),
        }),
        'where-params': differs('a lone parameter is text', (expected, _step, i) => {
            if (i === 3) refusal(expected, { where: ['WHERE clause must return a boolean'] });
        }),
        'repeated-parameters': differs('a NUL is named', (expected, _step, i) => {
            if (i === 7) anError(expected, 400, { where: ["a where-clause can't hold a NUL character"] });
        }),
        'out-of-bounds-recovers': {
            kind: 'driven',
            reason: 'offsets relative to the WAL position of this run',
            values: { lsn3: walPosition(1), lsn4: walPosition(1_000_000_000) },
        },
    },
    subsets: {
        'order-by-errors': differs('what is wrong with a list is a 400, whoever finds it', (expected, _step, i) => {
            const text: Record<number, string> = {
                12: 'malformed query ending with SQL clauses',
                15: 'At location 18: non-integer constant in ORDER BY',
                16: 'At location 18: non-integer constant in ORDER BY',
            };
            if (!(i in text)) return;
            anError(expected, 400, { subset: { order_by: [text[i]] } });
            expected.headers['content-type'] = 'application/json; charset=utf-8';
            expected.headers['cache-control'] = 'no-store';
            expected.headers['surrogate-control'] = 'no-store';
        }),
        'params-errors': differs('a list or object as a parameter is its JSON', (expected, _step, i) => {
            if (i === 4) expected.body.errors.subset.where[0] = 'At location 4: invalid syntax for type int4: [1]';
        }),
        'base-shape-where': differs('both clauses hold, in brackets; a parameter is a literal', (expected, _step, i) => {
            if (i === 1) expected.body.data = [];
            if (i === 4) expected.headers['electric-handle'] = '<handle1>';
        }),
        'offset-kinds': differs('a subset names the offset that its client came with', (expected, step) => {
            const offset = /[?&]offset=(0_0|0_inf)&.*subset__/.exec(step.request!.path)?.[1];
            if (offset && expected.status === 200) expected.headers['electric-offset'] = offset;
        }),
        'concurrent-transaction': {
            kind: 'driven',
            reason: 'the recording leaves out an update that ran meanwhile',
            before: {
                3: async (replay) => {
                    await replay.db.sql("update u_items set v = 'done' where id = 4");
                    await sleep(300);
                },
                4: () => sleep(1_500),
            },
        },
        'subset-of-subquery-shape': later(NEEDS_SUBQUERIES),
        'oversized-where': {
            kind: 'differs',
            reason: 'a clause over 32 KiB is a 400; protocol/subset has both bodies',
            drop: () => true,
        },
    },
};

/** Replaces the line "246 further inserts" by the entries it stands for. */
function spellOut(expected: Expected): void {
    const at = expected.body.findIndex((m: unknown) => typeof m === 'string');
    const before = expected.body[at - 1];
    const further = Array.from({ length: 246 }, (_, n) => {
        const entry = structuredClone(before);
        const id = String(Number(before.value.id) + n + 1);
        entry.key = before.key.replace(before.value.id, id);
        entry.value.id = id;
        entry.headers.op_position = before.headers.op_position + 2 * (n + 1);
        return entry;
    });
    expected.body.splice(at, 1, ...further);
}

function standardHeaders(expected: Expected): Record<string, string> {
    return Object.fromEntries(
        Object.entries(expected.headers).filter(([name]) =>
            ['vary', 'electric-server'].includes(name) || name.startsWith('access-control-')),
    );
}

/** The new columns of l_type and its handle after the rotation. */
function typeChanged(expected: Expected): void {
    expected.headers['electric-handle'] = '<handle2>';
    expected.headers.etag = '"<handle2>:-1:0_0"';
    expected.headers['electric-schema'] =
        '{"id":{"type":"int4","not_null":true,"pk_index":0},"v":{"type":"text"}}';
    const row = (id: string, v: string): object => ({
        key: `"public"."l_type"/"${id}"`,
        value: { id, v },
        headers: { relation: ['public', 'l_type'], operation: 'insert' },
    });
    const end = expected.body.at(-1);
    expected.body = [row('1', '1'), row('2', 'b'), end];
}

/** An up-to-date answer at `0_inf` in place of a rotation. */
function upToDateStill(expected: Expected, schema: string, handle = '<handle1>'): void {
    expected.status = 200;
    expected.headers = {
        ...standardHeaders(expected),
        'content-type': 'application/json; charset=utf-8',
        'transfer-encoding': 'chunked',
        'cache-control': 'public, max-age=60, stale-while-revalidate=300',
        'electric-handle': handle,
        'electric-offset': '0_inf',
        'electric-has-data': 'true',
        'electric-up-to-date': '',
        'electric-schema': schema,
        etag: `"${handle}:0_inf:0_inf"`,
    };
    expected.body = [{ headers: { control: 'up-to-date', global_last_seen_lsn: '<lsn9>' } }];
}

/** The 503 of a shape whose snapshot can't be made. */
function failedSnapshot(expected: Expected): void {
    expected.status = 503;
    expected.headers = {
        ...standardHeaders(expected),
        'content-type': 'application/json; charset=utf-8',
        'content-length': '0',
        'cache-control': 'no-store',
        'surrogate-control': 'no-store',
        'retry-after': '10',
        'electric-internal-known-error': 'true',
    };
    expected.pattern = /^\{"message":"Database table \\"public\.m_unpub\\" is missing from the publication/;
}

/** A commit that inserts rows, as a stream shows it; `n` numbers its placeholders. */
function commit(table: string, n: number, values: { id: string; v: string }[]): any[] {
    const messages: any[] = values.map((value, i) => ({
        value,
        key: `"public"."${table}"/"${value.id}"`,
        headers: {
            relation: ['public', table],
            operation: 'insert',
            lsn: `<lsn${n}>`,
            op_position: 2 * i,
            txids: [`<xid${n}>`],
            ...(i === values.length - 1 ? { last: true } : {}),
        },
    }));
    messages.push({ headers: { control: 'up-to-date', global_last_seen_lsn: `<lsn${n}>` } });
    return messages;
}

function largeCommitThenThree(): any[] {
    const large = Array.from({ length: 20 }, (_, i) => ({
        id: String(221 + i), v: 'z'.repeat(100),
    }));
    return [
        ...commit('ch_items', 90, large),
        ...commit('ch_items', 91, [{ id: '241', v: 'next' }]),
        ...commit('ch_items', 92, [{ id: '242', v: 'next2' }]),
        ...commit('ch_items', 93, [{ id: '243', v: 'next3' }]),
    ];
}

/** How a scenario departs from its recording, if it does. */
export function differenceOf(group: string, scenario: string): Difference | undefined {
    return TABLE[group]?.[scenario];
}

export function allDifferences(): [string, string, Difference][] {
    return Object.entries(TABLE).flatMap(([group, list]) =>
        Object.entries(list).map(([name, d]) => [group, name, d] as [string, string, Difference]),
    );
}
