// TanStack DB's collections on our shapes, in each of the adapter's three modes: a live join,
// pages of a sorted join, and optimistic writes that wait for their txid. What a live query
// holds is compared with what Postgres answers to the same question.
import { isChangeMessage } from '@electric-sql/client';
import {
    BTreeIndex, createCollection, createLiveQueryCollection, eq, gt, lte, type Collection,
} from '@tanstack/db';
import { electricCollectionOptions, type ElectricSyncMode } from '@tanstack/electric-db-collection';
import { afterEach, describe, expect, test } from 'vitest';
import { until } from '../support/process.js';
import { useSuite } from '../support/suite.js';

interface Project { id: number; name: string; open: boolean }
interface Issue { id: number; project_id: number; title: string; rank: number }

const PROJECTS = 12;
const ISSUES = 600;
const PAGE = 25;

const suite = useSuite('tanstack', {
    setup: `
        create table projects(id int primary key, name text not null, open bool not null);
        create table issues(id int primary key, project_id int not null, title text not null,
            rank int not null);
        insert into projects select i, 'project ' || i, i % 3 <> 0
            from generate_series(1, ${PROJECTS}) i;
        insert into issues select i, 1 + i % ${PROJECTS}, 'issue ' || i, (i * 7919) % 1000
            from generate_series(1, ${ISSUES}) i;
    `,
});

type AnyCollection = Collection<any, any, any>;

// With indexes a join and a page load only what they need, instead of all.
const indexed = { autoIndex: 'eager', defaultIndexType: BTreeIndex } as const;

const opened: AnyCollection[] = [];

afterEach(async () => {
    for (const collection of opened.splice(0).reverse()) await collection.cleanup();
});

/** A live query that somebody looks at: without, it would be collected after a while. */
function watches(query: (q: any) => any): AnyCollection {
    const live = opens(createLiveQueryCollection({ startSync: true, query }) as AnyCollection);
    live.subscribeChanges(() => undefined);
    return live;
}

function opens<T extends AnyCollection>(collection: T): T {
    opened.push(collection);
    return collection;
}

interface Data {
    projects: Collection<Project, any, any>;
    issues: Collection<Issue, any, any>;
    /** What was asked about issues. */
    requests: string[];
}

/** Runs SQL in a transaction and gives the id that the stream will carry. */
async function write(text: string, values: unknown[]): Promise<number> {
    const session = await suite.db.session();
    try {
        await session.query('begin');
        const { rows } = await session.query('select pg_current_xact_id()::xid::text as txid');
        await session.query(text, values);
        await session.query('commit');
        return Number(rows[0].txid);
    } catch (error) {
        await session.query('rollback');
        throw error;
    }
}

/** The two tables as collections; issues can be written. */
function collections(syncMode: ElectricSyncMode): Data {
    const requests: string[] = [];
    const shape = (table: string) => ({
        url: suite.server.shapeUrl,
        // Where rows are loaded on demand, an update of one that was not must bring it whole.
        params: { table, replica: 'full' as const },
        warnOnHttp: false,
        fetchClient: (async (input: RequestInfo | URL, init?: RequestInit) => {
            const query = new URL(String(input)).search.replaceAll('+', ' ');
            if (table === 'issues') requests.push(decodeURIComponent(query));
            return await fetch(input, init);
        }) as typeof fetch,
    });
    const projects = createCollection(electricCollectionOptions<Project>({
        id: `projects-${syncMode}`,
        syncMode,
        getKey: (row) => row.id,
        ...indexed,
        shapeOptions: shape('projects') as any,
    } as any) as any) as unknown as Collection<Project, any, any>;
    const issues = createCollection(electricCollectionOptions({
        id: `issues-${syncMode}`,
        syncMode,
        getKey: (row: any) => row.id,
        ...indexed,
        shapeOptions: shape('issues') as any,
        onInsert: async ({ transaction }: any) => {
            const { id, project_id, title, rank } = transaction.mutations[0].modified;
            return { txid: await write('insert into issues values ($1, $2, $3, $4)',
                [id, project_id, title, rank]) };
        },
        onUpdate: async ({ transaction }: any) => {
            const { original, modified } = transaction.mutations[0];
            return { txid: await write('update issues set title = $2, rank = $3 where id = $1',
                [original.id, modified.title, modified.rank]) };
        },
        onDelete: async ({ transaction }: any) =>
            ({ txid: await write('delete from issues where id = $1',
                [transaction.mutations[0].original.id]) }),
    } as any) as any) as unknown as Collection<Issue, any, any>;
    return { projects: opens(projects), issues: opens(issues), requests };
}

interface Joined { id: number; title: string; rank: number; project: string }

const plain = (rows: any[]): Joined[] =>
    rows.map(({ id, title, rank, project }) => ({
        id: Number(id), title, rank: Number(rank), project,
    }));

const byId = (rows: Joined[]): Joined[] => [...rows].sort((a, b) => a.id - b.id);

/** Waits until the live query holds what Postgres answers. */
async function agrees(
    what: string, live: AnyCollection, sql: string, sorted: boolean,
): Promise<Joined[]> {
    const wanted = plain(await suite.db.sql(sql));
    const now = (): Joined[] => (sorted ? plain(live.toArray) : byId(plain(live.toArray)));
    await until(what, () => JSON.stringify(now()) === JSON.stringify(wanted), 20_000, 20)
        .catch(() => expect(now()).toEqual(wanted));
    return wanted;
}

function joinLive({ issues, projects }: Data): AnyCollection {
    return watches((q) => q
        .from({ issue: issues })
        .innerJoin({ project: projects }, ({ issue, project }: any) =>
            eq(issue.project_id, project.id))
        .where(({ issue }: any) => gt(issue.rank, 900))
        .where(({ project }: any) => eq(project.open, true))
        .select(({ issue, project }: any) => ({
            id: issue.id, title: issue.title, rank: issue.rank, project: project.name,
        })));
}

const JOIN_SQL = `select i.id, i.title, i.rank, p.name as project
    from issues i join projects p on p.id = i.project_id
    where p.open and i.rank > 900 order by i.id`;

function pageLive({ issues, projects }: Data): AnyCollection {
    return watches((q) => q
        .from({ issue: issues })
        .leftJoin({ project: projects }, ({ issue, project }: any) =>
            eq(issue.project_id, project.id))
        .where(({ issue }: any) => lte(issue.rank, 800))
        .orderBy(({ issue }: any) => issue.rank, 'desc')
        .orderBy(({ issue }: any) => issue.id)
        .limit(PAGE)
        .offset(0)
        .select(({ issue, project }: any) => ({
            id: issue.id, title: issue.title, rank: issue.rank, project: project?.name,
        })));
}

const pageSql = (offset: number): string => `select i.id, i.title, i.rank, p.name as project
    from issues i left join projects p on p.id = i.project_id where i.rank <= 800
    order by i.rank desc, i.id limit ${PAGE} offset ${offset}`;

const MODES: ElectricSyncMode[] = ['eager', 'on-demand', 'progressive'];

describe.each(MODES)('%s', (mode) => {
    test('a join follows both of its tables', async () => {
        const data = collections(mode);
        const live = joinLive(data);
        await live.preload();
        const first = await agrees('the join', live, JOIN_SQL, false);
        expect(first.length).toBeGreaterThan(20);
        const [a, b, c] = first;
        await suite.db.sql(`update issues set title = 'renamed' where id = ${a.id};
            update issues set rank = 10 where id = ${b.id};
            delete from issues where id = ${c.id};
            insert into issues values (${c.id}, 1, 'put back', 990)`);
        await agrees('the issues that changed', live, JOIN_SQL, false);
        await suite.db.sql(`begin; update projects set name = 'another name' where id = 1;
            update issues set rank = 999 where id = ${b.id}; commit`);
        const after = await agrees('the project that changed', live, JOIN_SQL, false);
        expect(after.some((row) => row.project === 'another name')).toBe(true);
        await suite.db.sql('update projects set open = not open where id in (2, 3)');
        await agrees('the projects that opened and closed', live, JOIN_SQL, false);
        await suite.db.sql("update projects set name = 'project 1', open = true where id = 1");
        await agrees('the end', live, JOIN_SQL, false);
    });

    test('a page is turned, and changes move rows over its edges', async () => {
        const data = collections(mode);
        const live = pageLive(data);
        await live.preload();
        const first = await agrees('the first page', live, pageSql(0), true);
        expect(first.length).toBe(PAGE);
        if (mode === 'on-demand') {
            expect(data.issues.size).toBeLessThan(ISSUES / 2);
            expect(data.requests.some((r) => r.includes(`subset__limit=${PAGE}&`))).toBe(true);
        }
        await (live.utils as any).setWindow({ offset: PAGE, limit: PAGE });
        const second = await agrees('the second page', live, pageSql(PAGE), true);
        expect(second.some((row) => first.some((other) => other.id === row.id))).toBe(false);
        await (live.utils as any).setWindow({ offset: 3 * PAGE, limit: PAGE });
        await agrees('the fourth page', live, pageSql(3 * PAGE), true);
        await (live.utils as any).setWindow({ offset: 0, limit: PAGE });
        await agrees('the first page again', live, pageSql(0), true);
        if (mode === 'on-demand') {
            expect(data.issues.size).toBeLessThan(ISSUES / 2);
            expect(data.requests.some((r) => r.includes(`subset__limit=${4 * PAGE}`))).toBe(true);
        }

        // Out over the upper edge, in from below, and gone from the middle.
        await suite.db.sql(`update issues set rank = 801 where id = ${first[0].id};
            update issues set rank = 800 where id = ${second[3].id};
            delete from issues where id = ${first[5].id}`);
        const moved = await agrees('the rows that moved', live, pageSql(0), true);
        expect(moved.some((row) => row.id === second[3].id)).toBe(true);
        await suite.db.sql(`insert into issues values (${first[5].id}, 2, 'put back', ${first[5].rank})`);
        await agrees('the row that came back', live, pageSql(0), true);
    });

    test('a write shows at once, and its txid ends the wait', async () => {
        const { issues } = collections(mode);
        const live = watches((q) => q.from({ issue: issues })
            .where(({ issue }: any) => gt(issue.id, 10_000)));
        await live.preload();
        const seen: number[] = [];
        live.subscribeChanges(() => {
            const mine: any = live.toArray.find((row: any) => row.id === 10_001);
            if (mine) seen.push(mine.rank);
        });
        const inserted = issues.insert({ id: 10_001, project_id: 1, title: 'mine', rank: 1 });
        expect(live.toArray.map((row: any) => row.title)).toEqual(['mine']);
        await inserted.isPersisted.promise;
        expect((await suite.db.sql('select title from issues where id = 10001'))[0].title).toBe('mine');

        const updated = issues.update(10_001, (draft) => {
            draft.rank = 2;
        });
        expect(live.toArray[0].rank).toBe(2);
        await updated.isPersisted.promise;
        expect(live.toArray[0].rank).toBe(2);

        const refused = issues.insert({
            id: 10_002, project_id: null as any, title: 'bad', rank: 1,
        });
        await expect(refused.isPersisted.promise).rejects.toThrow(/project_id/);
        expect(live.toArray.map((row: any) => row.id)).toEqual([10_001]);

        const gone = issues.delete(10_001);
        expect(live.toArray).toEqual([]);
        await gone.isPersisted.promise;
        expect(live.toArray).toEqual([]);
        // Never back to an older state on the way.
        expect(seen.every((rank, i, all) => i === 0 || rank >= all[i - 1])).toBe(true);
    });

    test('what somebody else wrote can be waited for, by txid and by what it says', async () => {
        const { issues } = collections(mode);
        const live = watches((q) => q.from({ issue: issues })
            .where(({ issue }: any) => gt(issue.id, 20_000)));
        await live.preload();
        const matched = (issues.utils as any).awaitMatch((message: any) =>
            isChangeMessage(message) && message.value.title === 'theirs', 15_000);
        const txid = await write("insert into issues values ($1, 1, 'theirs', 5)", [20_001]);
        await (issues.utils as any).awaitTxId(txid, 15_000);
        await matched;
        expect(live.toArray.map((row: any) => row.title)).toEqual(['theirs']);
        await write('delete from issues where id = $1', [20_001]);
        await until('the row to be gone', () => live.size === 0, 20_000, 20);
    });
});
