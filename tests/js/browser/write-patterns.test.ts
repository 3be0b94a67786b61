// The four write patterns in a real browser, each with what the guide promises of it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, BrowserContext, Locator, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { AppPage, hasChromium, launchBrowser, openPage, ROOT, shot } from '../support/app.js';
import { flawsOf, watchJumps } from '../support/looks.js';
import { until } from '../support/process.js';
import { useSuite } from '../support/suite.js';
import { GATE_ENV } from '../support/tokens.js';

// A Postgres in a browser on a busy machine takes its time.
vi.setConfig({ testTimeout: 120_000 });

const APP = 'write-patterns/web';
const file = (name: string): string => join(ROOT, 'examples', APP, name);

const suite = useSuite('write_patterns', {
    setup: readFileSync(file('schema.sql'), 'utf8'),
    env: {
        ...GATE_ENV,
        COULOMB_WRITE_ROLES: 'web_anon',
        COULOMB_ANONYMOUS_ROLE: 'web_anon',
        COULOMB_ROUTES_FILE: file('routes.json'),
    },
});

/** Two todos, others in each test: who shows them has this test's rows, not the last one's. */
let FIRST = '';
let SECOND = '';

describe.skipIf(!hasChromium)('the write patterns', () => {
    let app: AppPage;
    let browser: Browser;
    let context: BrowserContext;
    let page: Page;
    const errors: string[] = [];

    beforeAll(async () => {
        app = await AppPage.build(APP);
        app.configure({ API_URL: suite.server.url });
        browser = await launchBrowser();
        context = await browser.newContext({ viewport: { width: 1360, height: 820 } });
    }, 180_000);

    afterAll(async () => {
        await browser?.close();
        await app?.close();
    });

    beforeEach(async ({ task }) => {
        [FIRST, SECOND] = [crypto.randomUUID(), crypto.randomUUID()];
        await suite.db.sql(`delete from todos;
            insert into todos (id, title, created_at) values
                ('${FIRST}', 'first', now() - interval '2 hours'),
                ('${SECOND}', 'second', now() - interval '1 hour')`);
        // The browser's storage stays: making its database is what takes time.
        // A local database that no test looks at would cost most of the time.
        const show = /^[123]:(?! an online)/.test(task.name) ? '?show=1,2,3' : '';
        page = await openPage(context, `${app.url}${show}`, errors);
        await ready(1);
    });

    afterEach(async ({ task }) => {
        if (task.result?.state === 'fail') await shot(page, `failed ${task.name}`.replace(/\W+/g, '-'));
        for (const n of [3, 4]) await dropAll(n);
        await page.evaluate(() => localStorage.clear());
        await page.close();
        if (task.result?.state === 'fail') {
            await context.close();
            context = await browser.newContext({ viewport: { width: 1360, height: 820 } });
        }
        expect(errors.splice(0)).toEqual([]);
    });

    const card = (n: number): Locator => page.getByTestId(`pattern-${n}`);
    const todo = (n: number, text: string): Locator =>
        card(n).getByTestId('todo').filter({ hasText: text });
    const byId = (n: number, id: string): Locator => card(n).locator(`[data-id="${id}"]`);

    async function ready(n: number): Promise<void> {
        await card(n).and(page.locator('[data-ready="true"]')).waitFor({ timeout: 40_000 });
        await byId(n, FIRST).waitFor();
    }

    async function add(n: number, title: string): Promise<void> {
        await card(n).getByTestId('new-todo').fill(title);
        await card(n).getByTestId('new-todo').press('Enter');
    }

    async function rename(n: number, id: string, title: string): Promise<void> {
        await byId(n, id).getByTestId('title').click();
        await byId(n, id).getByTestId('rename').fill(title);
        await byId(n, id).getByTestId('rename').press('Enter');
    }

    const toggle = (n: number, id: string): Promise<void> =>
        byId(n, id).locator('input[type=checkbox]').click();

    async function online(on: boolean): Promise<void> {
        await page.getByTestId('online').setChecked(on);
    }

    const rows = (where = 'true'): Promise<any[]> =>
        suite.db.sql(`select * from todos where ${where} order by created_at`);

    async function inPostgres(what: string, where: string, count = 1): Promise<void> {
        await until(what, async () => (await rows(where)).length === count, 20_000, 50);
    }

    /** The local database outlives the test: what was refused in it must not. */
    async function dropAll(n: number): Promise<void> {
        const drop = card(n).getByTestId('drop');
        for (let left = await drop.count(); left > 0; left--) {
            await drop.first().click();
            await until('a refusal to be gone', async () => await drop.count() < left, 10_000, 30);
        }
    }

    async function shows(n: number, count: number): Promise<void> {
        await until(`${count} todos`, async () =>
            await card(n).getByTestId('todo').count() === count, 10_000, 30);
    }

    /** Waits until nothing of that card is on its way. */
    async function settled(n: number): Promise<void> {
        await until(`pattern ${n} to be settled`, async () =>
            await card(n).locator('[data-pending="true"]').count() === 0 &&
            await card(n).getByTestId('queued').count() === 0, 20_000, 30);
    }

    /** Every state in which the row with that text was shown, from now on: '' is absent. */
    async function watch(n: number, text: string): Promise<() => Promise<string[]>> {
        const key = `seen${n}`;
        await card(n).evaluate((element, { key, text }) => {
            const seen: string[] = (window as any)[key] = [];
            const look = (): void => {
                const row = [...element.querySelectorAll('[data-testid=todo]')]
                    .find((li) => li.textContent!.includes(text));
                const box = row?.querySelector('input') as HTMLInputElement | null;
                const state = row
                    ? `${row.getAttribute('data-pending') === 'true' ? 'pending' : 'synced'}` +
                        `${box!.checked ? ' done' : ''}`
                    : '';
                if (seen.at(-1) !== state) seen.push(state);
            };
            look();
            new MutationObserver(look).observe(element, {
                subtree: true, childList: true, attributes: true, characterData: true,
            });
        }, { key, text });
        return () => page.evaluate((key) => (window as any)[key], key);
    }

    test('1: an online write shows after the server has it, not before', async () => {
        await online(false);
        await add(1, 'not without a network');
        await card(1).getByTestId('notice').waitFor();
        expect(await todo(1, 'not without').count()).toBe(0);
        await online(true);
        await page.getByTestId('latency').fill('600');
        const seen = await watch(1, 'by way of the server');
        await add(1, 'by way of the server');
        await page.locator('[data-testid="pattern-1"][aria-busy="true"]').waitFor();
        expect(await todo(1, 'by way of the server').count()).toBe(0);
        await todo(1, 'by way of the server').waitFor();
        expect(await seen()).toEqual(['', 'synced']);
        await inPostgres('the row', "title = 'by way of the server'");
        await page.getByTestId('latency').fill('0');
        await toggle(1, SECOND);
        await inPostgres('the tick', `id = '${SECOND}' and completed`);
        await rename(1, SECOND, 'renamed');
        await todo(1, 'renamed').waitFor();
        await byId(1, FIRST).hover();
        await byId(1, FIRST).getByTestId('remove').click();
        await byId(1, FIRST).waitFor({ state: 'detached' });
        await inPostgres('the deletion', `id = '${FIRST}'`, 0);
        for (const n of [2, 3, 4]) await todo(n, 'renamed').waitFor({ timeout: 40_000 });
    });

    test('1: a refused write says why', async () => {
        await add(1, 'LOUD');
        await card(1).getByTestId('notice').filter({ hasText: 'No shouting' }).waitFor();
        expect(await todo(1, 'LOUD').count()).toBe(0);
    });

    test('2: of several refused writes each says why', async () => {
        await online(false);
        for (const title of ['LOUD', 'STILL GOOD?', 'LOUDER']) await add(2, title);
        await add(2, 'a quiet one');
        await online(true);
        const notice = card(2).getByTestId('notice');
        for (const title of ['LOUD', 'STILL GOOD?', 'LOUDER']) {
            await notice.filter({ hasText: `"${title}" is all capitals` }).waitFor();
        }
        await inPostgres('the quiet one', "title = 'a quiet one'");
        await settled(2);
    });

    test.each([2, 3, 4])('%i: a write shows at once and is replaced without a flicker', async (n) => {
        await ready(n);
        await page.getByTestId('latency').fill('1000');
        const title = `at once in ${n}`;
        const seen = await watch(n, title);
        await add(n, title);
        await todo(n, title).waitFor();
        expect(await rows(`title = '${title}'`)).toEqual([]);
        await toggle(n, (await todo(n, title).getAttribute('data-id'))!);
        await shot(page, `pattern-${n}-pending`);
        await inPostgres('the row', `title = '${title}' and completed`);
        await settled(n);
        // The first write may be back before the second is made.
        expect([',pending,pending done,synced done', ',pending,synced,pending done,synced done'])
            .toContain((await seen()).join());

        const tick = await watch(n, 'second');
        await toggle(n, SECOND);
        await inPostgres('the tick', `id = '${SECOND}' and completed`);
        await settled(n);
        expect((await tick()).filter((s) => s !== 'pending')).toEqual(
            ['synced', 'pending done', 'synced done']);
        const gone = await watch(n, 'second');
        await byId(n, SECOND).hover();
        await byId(n, SECOND).getByTestId('remove').click();
        await inPostgres('the deletion', `id = '${SECOND}'`, 0);
        await settled(n);
        expect(await gone()).toEqual(['synced done', '']);
    });

    test.each([3, 4])('%i: unsent writes survive a reload, and are sent after it', async (n) => {
        await ready(n);
        await online(false);
        await add(n, 'kept over the reload');
        await toggle(n, FIRST);
        await card(n).getByTestId('queued').filter({ hasText: '2' }).waitFor();
        await shot(page, `pattern-${n}-offline`);
        // The server stays away over the reload, since the switch is on again after it.
        await page.route(`${suite.server.url}/**`, (route) =>
            route.request().method() === 'GET' ? route.continue() : route.abort());
        await page.reload();
        await ready(n);
        await todo(n, 'kept over the reload').and(card(n).locator('[data-pending="true"]')).waitFor();
        expect(await byId(n, FIRST).locator('input').isChecked()).toBe(true);
        expect((await rows('completed')).length).toBe(0);
        await page.unroute(`${suite.server.url}/**`);
        await inPostgres('what was kept', "title = 'kept over the reload'");
        await inPostgres('the tick', `id = '${FIRST}' and completed`);
        await settled(n);
        expect(await todo(n, 'kept over the reload').count()).toBe(1);
    });

    test('2: is lost on a reload, as its card says', async () => {
        await online(false);
        await add(2, 'only in memory');
        await todo(2, 'only in memory').waitFor();
        await page.reload();
        await ready(2);
        expect(await todo(2, 'only in memory').count()).toBe(0);
    });

    test.each([2, 3, 4])('%i: a queue drains in order when the network is back', async (n) => {
        await ready(n);
        await online(false);
        for (const title of ['one of three', 'two of three', 'three of three']) await add(n, title);
        await rename(n, FIRST, 'renamed offline');
        await rename(n, FIRST, 'renamed twice offline');
        await shows(n, 5);
        await suite.server.kill9();
        await online(true);
        await suite.server.launch();
        await inPostgres('all of the queue', "title like '% of three'", 3);
        await inPostgres('the last name', "title = 'renamed twice offline'");
        await settled(n);
        await shows(n, 5);
    });

    test.each([2, 3, 4])("%i: somebody else's change shows under the local one", async (n) => {
        await ready(n);
        await page.route(`${suite.server.url}/**`, (route) =>
            route.request().method() === 'GET' ? route.continue() : route.abort());
        await toggle(n, FIRST);
        await byId(n, FIRST).and(card(n).locator('[data-pending="true"]')).waitFor();
        await suite.db.sql(`update todos set title = 'theirs', write_id = gen_random_uuid()
            where id = '${FIRST}'; update todos set title = 'also theirs' where id = '${SECOND}'`);
        await todo(n, 'also theirs').waitFor();
        expect(await byId(n, FIRST).getByTestId('title').innerText()).toBe('theirs');
        expect(await byId(n, FIRST).locator('input').isChecked()).toBe(true);
        await shot(page, `pattern-${n}-rebased`);
        // The same column: the local change stays on top until it is sent, then it is the last.
        await suite.db.sql(`update todos set completed = false, title = 'theirs again'
            where id = '${FIRST}'`);
        await todo(n, 'theirs again').waitFor();
        expect(await byId(n, FIRST).locator('input').isChecked()).toBe(true);
        await page.unroute(`${suite.server.url}/**`);
        await inPostgres('both changes', `id = '${FIRST}' and completed and title = 'theirs again'`);
        await settled(n);
        expect(await byId(n, FIRST).locator('input').isChecked()).toBe(true);
    });

    test.each([2, 3, 4])('%i: a refused write goes alone, with a message', async (n) => {
        await ready(n);
        await online(false);
        await add(n, 'before');
        await add(n, 'TOO LOUD');
        await toggle(n, SECOND);
        await todo(n, 'TOO LOUD').waitFor();
        await online(true);
        const told = n === 2 ? card(n).getByTestId('notice') : card(n).getByTestId('reason');
        await told.filter({ hasText: 'No shouting' }).waitFor();
        await shot(page, `pattern-${n}-refused`);
        await inPostgres('the write before it', "title = 'before'");
        await inPostgres('the write after it', `id = '${SECOND}' and completed`);
        await settled(n);
        expect(await todo(n, 'TOO LOUD').count()).toBe(0);
        expect(await todo(n, 'before').count()).toBe(1);
        expect(await byId(n, SECOND).locator('input').isChecked()).toBe(true);
        expect(await rows("title ilike 'too loud'")).toEqual([]);
    });

    test.each([3, 4])('%i: refused writes wait for the user: mended and sent, or dropped', async (n) => {
        await ready(n);
        await add(n, 'QUIET NOW');
        await rename(n, FIRST, 'SECOND THOUGHT');
        const kept = card(n).getByTestId('rejected');
        await until('both refusals', async () => await kept.count() === 2);
        await byId(n, FIRST).getByText('first', { exact: true }).waitFor();
        await page.reload();
        await ready(n);
        await until('both refusals after a reload', async () => await kept.count() === 2);
        await kept.first().getByTestId('mend').fill('quiet now');
        await kept.first().getByTestId('resend').click();
        await inPostgres('the mended write', "title = 'quiet now'");
        await settled(n);
        expect(await todo(n, 'quiet now').count()).toBe(1);
        await until('one refusal', async () => await kept.count() === 1);
        await kept.getByTestId('drop').click();
        await until('none', async () => await kept.count() === 0);
        expect(await rows("title ilike 'second thought'")).toEqual([]);
    });

    test.each([3, 4])('%i: an answer that is lost on its way: sent again, applied once', async (n) => {
        await ready(n);
        let lost = 0;
        await page.route(`${suite.server.url}/**`, async (route) => {
            if (route.request().method() === 'GET' || lost > 0) return await route.continue();
            lost++;
            await route.fetch();
            return await route.abort();
        });
        const title = `applied once, ${n}`;
        await add(n, title);
        await toggle(n, SECOND);
        await inPostgres('the later write', `id = '${SECOND}' and completed`);
        await settled(n);
        expect(lost).toBe(1);
        expect((await rows(`title = '${title}'`)).length).toBe(1);
        expect(await todo(n, title).count()).toBe(1);
        expect(await card(n).getByTestId('rejected').count()).toBe(0);
        await page.unrouteAll({ behavior: 'wait' });
    });

    test.each([3, 4])('%i: a change of a row that somebody has deleted is told, and goes alone', async (n) => {
        await ready(n);
        await online(false);
        await rename(n, FIRST, 'too late');
        await toggle(n, SECOND);
        await card(n).getByTestId('queued').filter({ hasText: '2' }).waitFor();
        await suite.db.sql(`delete from todos where id = '${FIRST}'`);
        await online(true);
        await card(n).getByTestId('reason').filter({ hasText: 'somebody has deleted it' }).waitFor();
        await inPostgres('the other write', `id = '${SECOND}' and completed`);
        await settled(n);
        await byId(n, FIRST).waitFor({ state: 'detached' });
        await card(n).getByTestId('drop').click();
        await card(n).getByTestId('rejected').waitFor({ state: 'detached' });
    });

    test.each([3, 4])('%i: what is not sent outlives a shape that begins anew', async (n) => {
        await ready(n);
        await page.route(`${suite.server.url}/**`, (route) =>
            route.request().method() === 'GET' ? route.continue() : route.abort());
        await rename(n, SECOND, `mine in ${n}`);
        await add(n, `new in ${n}`);
        await todo(n, `new in ${n}`).waitFor();
        const seen = await watch(n, `mine in ${n}`);
        // TRUNCATE ends the shape: 409, and everything is fetched again.
        await suite.db.sql(`begin; create temp table kept as select * from todos; truncate todos;
            insert into todos select * from kept; drop table kept; commit;
            update todos set title = 'another life' where id = '${FIRST}'`);
        await todo(n, 'another life').waitFor();
        expect(await byId(n, SECOND).getByTestId('title').innerText()).toBe(`mine in ${n}`);
        expect(await todo(n, `new in ${n}`).getAttribute('data-pending')).toBe('true');
        await page.unroute(`${suite.server.url}/**`);
        await inPostgres('both', `title in ('mine in ${n}', 'new in ${n}')`, 2);
        await settled(n);
        await shows(n, 3);
        if (n === 4) expect(await seen()).toEqual(['pending', 'synced']);
    });

    test.each([2, 3, 4])('%i: an echo that never comes does not keep the overlay', async (n) => {
        await ready(n);
        // The write is taken, and the stream does not tell: somebody overwrites its write_id, and
        // the shape begins anew before it does.
        await page.route(`${suite.server.url}/**`, (route) =>
            route.request().method() === 'GET' ? route.abort() : route.continue());
        await toggle(n, FIRST);
        await rename(n, SECOND, 'about to be deleted');
        await inPostgres('the writes', "completed or title = 'about to be deleted'", 2);
        await suite.db.sql(`update todos set title = 'theirs', write_id = gen_random_uuid()
                where id = '${FIRST}'; delete from todos where id = '${SECOND}';
            begin; create temp table kept as select * from todos; truncate todos;
            insert into todos select * from kept; drop table kept; commit`);
        await page.unroute(`${suite.server.url}/**`);
        await todo(n, 'theirs').waitFor();
        await settled(n);
        expect(await byId(n, FIRST).locator('input').isChecked()).toBe(true);
        await shows(n, 1);
        expect(await card(n).getByTestId('rejected').count()).toBe(0);
    });

    test("1: another user's buttons do what they say, through the stream", async () => {
        const noor = (name: string): Promise<void> =>
            page.getByTestId('other-user').getByRole('button', { name, exact: true }).click();
        await online(false); // theirs is another network
        await noor('rename first');
        await inPostgres('the new name', `id = '${FIRST}' and title like 'first (Noor, %'`);
        await noor('tick first');
        await inPostgres('the tick', `id = '${FIRST}' and completed`);
        await noor('delete last');
        await inPostgres('the deletion', `id = '${SECOND}'`, 0);
        await noor('add');
        await inPostgres('a new todo', `id <> '${FIRST}'`);
        await online(true);
        for (const n of [1, 2, 3]) {
            await todo(n, 'first (Noor, ').waitFor();
            await shows(n, 2);
            expect(await byId(n, FIRST).locator('input').isChecked()).toBe(true);
        }
    });

    test('4: what comes and goes before the server hears of it is not sent at all', async () => {
        await ready(4);
        await online(false);
        await add(4, 'a passing thought');
        await todo(4, 'a passing thought').hover();
        await todo(4, 'a passing thought').getByTestId('remove').click();
        await todo(4, 'a passing thought').waitFor({ state: 'detached' });
        await card(4).getByTestId('queued').waitFor({ state: 'detached' });
        const sent: string[] = [];
        page.on('request', (request) => {
            if (request.method() === 'POST') sent.push(request.url());
        });
        await online(true);
        await toggle(4, FIRST);
        await inPostgres('the next write', `id = '${FIRST}' and completed`);
        await settled(4);
        expect(sent.length).toBe(1);
    });

    test('4: setting back a write that has not been tried is not sent; the changes of others stay', async () => {
        await ready(4);
        await page.route(`${suite.server.url}/**`, (route) =>
            route.request().method() === 'GET' ? route.continue() : route.abort());
        await toggle(4, FIRST);
        await rename(4, FIRST, 'second thoughts');
        await todo(4, 'second thoughts').waitFor();
        await rename(4, FIRST, 'first');
        await todo(4, 'first').waitFor();
        await suite.db.sql(`update todos set title = 'renamed by Noor' where id = '${FIRST}'`);
        await todo(4, 'renamed by Noor').waitFor();
        expect(await byId(4, FIRST).locator('input').isChecked()).toBe(true);
        await page.unroute(`${suite.server.url}/**`);
        await settled(4);
        await inPostgres('both changes', `id = '${FIRST}' and completed and title = 'renamed by Noor'`);
        await todo(4, 'renamed by Noor').waitFor();
    });

    test.each([2, 3, 4])('%i: setting back a write that is on its way never shows the old one again', async (n) => {
        await ready(n);
        let lost = 0;
        await page.route(`${suite.server.url}/**`, async (route) => {
            if (route.request().method() === 'GET') return await route.continue();
            lost++;
            return await route.abort();
        });
        await rename(n, FIRST, 'second thoughts');
        await until('an attempt to send it', () => lost > 0);
        await rename(n, FIRST, 'first');
        await byId(n, FIRST).getByText('first', { exact: true }).waitFor();
        await byId(n, FIRST).evaluate((row) => {
            const seen: string[] = ((window as any).titles = []);
            new MutationObserver(() => {
                const title = row.querySelector('[data-testid=title]')?.textContent ?? '';
                if (title !== 'first') seen.push(title);
            }).observe(row, { subtree: true, childList: true, characterData: true, attributes: true });
        });
        await page.unroute(`${suite.server.url}/**`);
        await settled(n);
        await inPostgres('the title', `id = '${FIRST}' and title = 'first' and write_id is not null`);
        expect(await page.evaluate(() => (window as any).titles)).toEqual([]);
    });

    test('4: a second tab says why it waits, and goes on when the first is closed', async () => {
        await ready(4);
        await online(false);
        await toggle(4, FIRST);
        await byId(4, FIRST).and(card(4).locator('[data-pending="true"]')).waitFor();
        const other = await openPage(context, app.url, errors);
        const theirs = other.getByTestId('pattern-4');
        await theirs.getByTestId('loading').filter({ hasText: 'Another tab has the local database' }).waitFor();
        await other.locator('[data-testid="pattern-3"][data-ready="true"]').waitFor();
        await page.close();
        page = other;
        await ready(4);
        await inPostgres('what the first had not sent', `id = '${FIRST}' and completed`);
        await settled(4);
    });

    test('3: without room to keep a write it is sent nevertheless, and the user told', async () => {
        await page.evaluate(() => {
            Storage.prototype.setItem = () => { throw new DOMException('no room', 'QuotaExceededError'); };
        });
        await add(3, 'no room for this');
        await card(3).getByTestId('notice').filter({ hasText: 'will not survive a reload' }).waitFor();
        await inPostgres('the write', "title = 'no room for this'");
        await settled(3);
    });

    test('3: what it can not read in the store does not stop it', async () => {
        await page.evaluate(() => localStorage.setItem('shared-persistent/broken', '{not json'));
        await page.reload();
        await ready(3);
        await add(3, 'goes on');
        await inPostgres('the write', "title = 'goes on'");
        await settled(3);
        expect(await page.evaluate(() => Object.keys(localStorage).filter((key) =>
            key.startsWith('shared-persistent/')))).toEqual([]);
    });

    test('1: the page says when the server is away, also to a page that is opened then', async () => {
        const said = page.getByTestId('network');
        await said.filter({ hasText: 'Online' }).waitFor();
        await suite.server.kill9();
        await said.filter({ hasText: 'No answer' }).waitFor();
        const stranger = await browser.newContext(); // without a cache of the todos
        const other = await openPage(stranger, `${app.url}?show=1,4`, errors);
        for (const n of [1, 4]) {
            await other.getByTestId(`pattern-${n}`).getByTestId('loading')
                .filter({ hasText: 'Waiting for the server' }).waitFor();
        }
        await suite.server.launch();
        for (const n of [1, 4]) {
            await other.locator(`[data-testid="pattern-${n}"][data-ready="true"]`).waitFor();
        }
        await stranger.close();
        await said.filter({ hasText: 'Online' }).waitFor();
    });

    test('2: all of it by keyboard', async () => {
        const press = (...keys: string[]) => keys.reduce(
            (before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve());
        const focused = (what: string): Promise<void> => until(`the focus on ${what}`, () => page.evaluate((what) =>
            document.activeElement!.closest('[data-id]')?.getAttribute('data-id') + ' ' +
                document.activeElement!.className === what, what)).then(() => undefined);
        await card(2).getByTestId('new-todo').focus();
        await page.keyboard.type('typed');
        await press('Enter');
        await inPostgres('what was typed', "title = 'typed'");
        await settled(2);
        await byId(2, FIRST).locator('input').focus();
        await press('Space', 'Tab', 'Enter');
        await page.keyboard.type('not this');
        await press('Escape');
        await focused(`${FIRST} title`);
        await press('Enter', 'Control+a');
        await page.keyboard.type('by keyboard');
        await press('Enter');
        await focused(`${FIRST} title`);
        await inPostgres('both changes', `id = '${FIRST}' and completed and title = 'by keyboard'`);
        await press('Tab');
        await focused(`${FIRST} remove`);
        await press('Enter');
        await focused(`${SECOND} remove`);
        await inPostgres('the deletion', `id = '${FIRST}'`, 0);
        expect(await rows("title like '%not this%'")).toEqual([]);
    });

    test('1: by keyboard, the focus stays while the page waits', async () => {
        await page.getByTestId('latency').fill('400');
        await byId(1, FIRST).locator('input').focus();
        await page.keyboard.press('Space');
        await page.locator('[data-testid="pattern-1"][aria-busy="true"]').waitFor();
        await page.keyboard.press('Space'); // nothing: it waits
        await page.locator('[data-testid="pattern-1"][aria-busy="false"]').waitFor();
        expect(await byId(1, FIRST).locator('input').evaluate((e) => e === document.activeElement)).toBe(true);
        expect(await rows(`id = '${FIRST}' and completed`)).toHaveLength(1);
    });

    test('it looks right in all that it shows, light and dark, on a desktop and on a phone', async () => {
        const opened = await context.newPage();
        const jumps = await watchJumps(opened);
        await page.close();
        page = opened;
        await page.goto(app.url);
        await ready(4);
        expect(await jumps()).toBeLessThan(0.1);
        expect(await flawsOf(page, 'patterns')).toEqual([]);
        await page.evaluate(() => scrollTo(0, 0));
        await online(false);
        for (const n of [1, 2, 3, 4]) {
            await add(n, n === 1 ? 'not without a network' : `${'A long title, with a longword'.repeat(3)} in ${n}`);
            if (n > 1) await add(n, `LOUD IN ${n}`);
        }
        await byId(2, SECOND).getByTestId('title').click();
        await card(4).getByTestId('queued').filter({ hasText: '2' }).waitFor();
        expect(await flawsOf(page, 'patterns-offline')).toEqual([]);
        await online(true);
        for (const n of [3, 4]) await card(n).getByTestId('rejected').waitFor();
        for (const n of [2, 3, 4]) await settled(n);
        expect(await flawsOf(page, 'patterns-refused')).toEqual([]);
    });

    test('3: two tabs have one queue', async () => {
        const other = await openPage(context, app.url, errors);
        const row = other.getByTestId('pattern-3').getByTestId('todo').filter({ hasText: 'from one tab' });
        await page.route(`${suite.server.url}/**`, (route) =>
            route.request().method() === 'GET' ? route.continue() : route.abort());
        await add(3, 'from one tab');
        await row.and(other.locator('[data-pending="true"]')).waitFor();
        expect(await rows("title = 'from one tab'")).toEqual([]);
        await page.unroute(`${suite.server.url}/**`);
        await row.and(other.locator('[data-pending="false"]')).waitFor();
        expect(await row.count()).toBe(1);
        expect((await rows("title = 'from one tab'")).length).toBe(1);
        await other.close();
    });
});
