// The Q&A app in a real browser: two users, optimistic questions, answers that grow, tokens that
// end meanwhile, a server and a worker that are killed, and no way into another's conversation.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { AppPage, hasChromium, launchBrowser, openPage, ROOT, shot } from '../support/app.js';
import { flawsOf } from '../support/looks.js';
import { until } from '../support/process.js';
import { QaWorker } from '../support/qa-worker.js';
import { useSuite } from '../support/suite.js';
import {
    AUTH_SECRET, authToken, base64url, bearer, GATE_ENV, hmac, makeToken, nowS, SHAPE_SECRET, shapeToken as forgedShape,
} from '../support/tokens.js';

const file = (name: string): string => join(ROOT, 'examples/qa', name);

const suite = useSuite('qa', {
    // Tokens that end while an answer is being written.
    setup: `${readFileSync(file('schema.sql'), 'utf8')};
        insert into app.signing values ('${AUTH_SECRET}', '8 s')`,
    env: {
        ...GATE_ENV,
        COULOMB_AUTH_CLOCK_SKEW: '0s',
        COULOMB_SHAPE_TOKEN_LIFETIME: '3s',
        COULOMB_GATE_FUNCTION: 'app.authorize_shape',
        COULOMB_WRITE_ROLES: 'app_user',
        COULOMB_ANONYMOUS_ROLE: 'app_anon',
        COULOMB_ROUTES_FILE: file('routes.json'),
    },
});

async function api(path: string, body: unknown, headers: Record<string, string> = {}): Promise<any> {
    const reply = await fetch(`${suite.server.url}${path}`, {
        method: 'POST', body: JSON.stringify(body),
        headers: { 'content-type': 'application/json', ...headers },
    });
    return { status: reply.status, ...(await reply.json().catch(() => ({}))) };
}

describe.skipIf(!hasChromium)('questions and answers', () => {
    let app: AppPage;
    let browser: Browser;
    let worker: QaWorker | undefined;
    let amira: Page;
    let noor: Page;
    const errors: string[] = [];
    const asked: { path: string; status: number }[] = [];

    beforeAll(async () => {
        app = await AppPage.build('qa');
        app.configure({ API_URL: suite.server.url });
        browser = await launchBrowser();
        for (const set of [(p: Page) => (amira = p), (p: Page) => (noor = p)]) {
            const context = await browser.newContext({ viewport: { width: 900, height: 760 } });
            const page = set(await openPage(context, app.url, errors));
            page.on('response', (response) => {
                const path = new URL(response.url()).pathname;
                if (page === amira) asked.push({ path, status: response.status() });
            });
        }
    }, 180_000);

    afterAll(async () => {
        await worker?.end('SIGTERM');
        await browser?.close();
        await app?.close();
    });

    afterEach(async ({ task }) => {
        if (task.result?.state === 'fail') await shot(amira, `failed-qa-${task.name}`.replace(/\W+/g, '-'));
        expect(errors.splice(0)).toEqual([]);
    });

    async function signIn(page: Page, name: string, password: string): Promise<void> {
        await page.getByTestId('name').fill(name);
        await page.getByTestId('password').fill(password);
        await page.getByTestId('sign-in').click();
    }

    const messages = (page: Page) => page.getByTestId('message');

    async function ask(page: Page, question: string): Promise<void> {
        await page.getByTestId('question').fill(question);
        await page.getByTestId('question').press('Enter');
    }

    /** The id and the status of the newest answer in the page. */
    async function answer(page: Page): Promise<{ id: string; status: string; text: string }> {
        return await messages(page).last().evaluate((element) => ({
            id: element.getAttribute('data-id')!, status: element.getAttribute('data-status')!,
            text: element.textContent!,
        }));
    }

    async function reaches(page: Page, status: string, timeoutMs = 40_000): Promise<void> {
        await until(`the answer to be ${status}`, async () =>
            (await answer(page)).status === status, timeoutMs, 30);
    }

    /** What the page shows at the end is what Postgres has. */
    async function agrees(page: Page): Promise<void> {
        const { id, text } = await answer(page);
        const [row] = await suite.db.sql('select content, status from messages where id = $1', [id]);
        expect([row.status, row.content]).toEqual(['completed', text]);
    }

    const conversationOf = async (user: string): Promise<string> =>
        (await suite.db.sql('select id from app.conversations where owner = $1', [user]))[0].id;

    /** A fresh auth token, as the sign-in gives it. */
    const tokenOf = async (name: string, password: string): Promise<string> =>
        (await api('/sign-in', { name, password })).token;

    test('who has no password does not come in', async () => {
        await signIn(amira, 'Amira', 'guess');
        await amira.getByTestId('problem').filter({ hasText: 'No such name' }).waitFor();
        expect(await flawsOf(amira, 'qa-sign-in')).toEqual([]);
        await signIn(amira, 'Amira', 'lemon');
        await signIn(noor, 'Noor', 'coffee');
        for (const [page, name] of [[amira, 'Amira'], [noor, 'Noor']] as const) {
            await page.getByTestId('who').filter({ hasText: name }).waitFor();
            await page.locator('[data-testid="messages"][data-loading="false"]').waitFor();
        }
        expect(await flawsOf(amira, 'qa-nothing-asked')).toEqual([]);
    });

    test('a question shows at once, and nothing flickers when the server has it', async () => {
        let let_go = (): void => undefined;
        const held = new Promise<void>((done) => (let_go = done));
        await amira.route('**/questions/send', async (route) => {
            await held;
            await route.continue();
        });
        await amira.evaluate(() => {
            const seen: string[] = ((window as any).seen = []);
            const look = (): void => {
                const now = [...document.querySelectorAll('[data-testid=message]')]
                    .map((m) => m.getAttribute('data-id')).join(' ');
                if (seen.at(-1) !== now) seen.push(now);
            };
            new MutationObserver(look).observe(document.body, {
                subtree: true, childList: true, attributes: true, characterData: true,
            });
        });
        await ask(amira, 'How do I prune a lemon tree?');
        await messages(amira).filter({ hasText: 'Generating answer...' }).waitFor();
        expect(await messages(amira).allInnerTexts()).toEqual(
            ['How do I prune a lemon tree?', 'Generating answer...']);
        await shot(amira, 'qa-placeholder');
        expect(await suite.db.sql('select * from messages')).toEqual([]);
        let_go();
        await until('the rows', async () =>
            (await suite.db.sql('select * from messages')).length === 2);
        await amira.unroute('**/questions/send');
        worker = await QaWorker.start(suite.db.url, 0);
        await reaches(amira, 'completed');
        await agrees(amira);
        const seen: string[] = await amira.evaluate(() => (window as any).seen);
        expect(new Set(seen).size).toBe(seen.length);
        expect(seen.at(-1)!.split(' ').length).toBe(2);
        await worker.end('SIGTERM');
        worker = undefined;
    });

    test('the answer grows a token at a time, while both tokens come to their end', async () => {
        worker = await QaWorker.start(suite.db.url, 300);
        const before = asked.length;
        await amira.evaluate(() => {
            const texts: string[] = ((window as any).texts = []);
            new MutationObserver(() => {
                const text = [...document.querySelectorAll('[data-testid=message]')].at(-1)!.textContent!;
                if (texts.at(-1) !== text) texts.push(text);
            }).observe(document.body, { subtree: true, childList: true, characterData: true });
        });
        await ask(amira, 'Which database would you take to a desert island?');
        await reaches(amira, 'generating');
        await until('some of the answer', async () => (await answer(amira)).text.length > 80);
        expect(await flawsOf(amira, 'qa-generating')).toEqual([]);
        await reaches(amira, 'completed');
        await agrees(amira);
        const texts: string[] = await amira.evaluate(() => (window as any).texts);
        const grown = texts.slice(texts.indexOf('Generating answer...') + 1);
        expect(grown.length).toBeGreaterThan(20);
        for (let i = 1; i < grown.length; i++) expect(grown[i].startsWith(grown[i - 1])).toBe(true);
        const during = asked.slice(before);
        const count = (path: string, status: number): number =>
            during.filter((a) => a.path === path && a.status === status).length;
        expect(count('/shape', 401)).toBeGreaterThan(1);
        expect(count('/shapes/auth-token', 200)).toBeGreaterThan(1);
        expect(count('/renew', 200)).toBeGreaterThan(0);
    });

    test('the server is killed in the middle of an answer; the page goes on by itself', async () => {
        await ask(amira, 'What happens when the server dies?');
        await reaches(amira, 'generating');
        const said = (await answer(amira)).text;
        await suite.server.kill9();
        await amira.getByTestId('away').waitFor();
        expect(await flawsOf(amira, 'qa-away')).toEqual([]);
        const { id } = await answer(amira);
        await until('the worker to go on meanwhile', async () =>
            (await suite.db.sql('select content from messages where id = $1', [id]))[0].content.length >
                said.length + 20);
        await suite.server.launch();
        await amira.getByTestId('away').waitFor({ state: 'hidden' });
        await reaches(amira, 'completed');
        await agrees(amira);
        expect((await answer(amira)).text.startsWith(said)).toBe(true);
        expect(await messages(amira).count()).toBe(6);
    });

    test('the worker is killed in the middle of an answer; another goes on where it was', async () => {
        await ask(amira, 'What happens when the worker dies?');
        await reaches(amira, 'generating');
        await until('some of the answer', async () => (await answer(amira)).text.length > 40);
        await worker!.end('SIGKILL');
        const { id, text } = await answer(amira);
        worker = await QaWorker.start(suite.db.url, 20);
        await reaches(amira, 'completed');
        expect(worker.log).toContain(`event=worker.resumed id=${id}`);
        expect((await answer(amira)).text.startsWith(text)).toBe(true);
        await agrees(amira);
        await shot(amira, 'qa-conversation');
    });

    test('a question that is not sent goes again, and its text comes back', async () => {
        await amira.route('**/questions/send', (route) => route.abort());
        const before = await messages(amira).count();
        await ask(amira, 'Does this arrive?');
        await amira.getByTestId('problem').filter({ hasText: 'Not sent' }).waitFor();
        expect(await messages(amira).count()).toBe(before);
        expect(await amira.getByTestId('question').inputValue()).toBe('Does this arrive?');
        expect(await flawsOf(amira, 'qa-not-sent')).toEqual([]);
        await amira.unroute('**/questions/send');
        await amira.getByTestId('question').fill('');
    });

    test('a question whose answer was lost on its way: asked again, it is there once', async () => {
        let lost = 0;
        await amira.route('**/questions/send', async (route) => {
            if (lost > 0) return await route.continue();
            lost++;
            await route.fetch();
            return await route.abort();
        });
        const before = await messages(amira).count();
        await ask(amira, 'Was I heard?');
        await amira.getByTestId('problem').filter({ hasText: 'Not sent' }).waitFor();
        await amira.getByTestId('question').press('Enter');
        await amira.getByTestId('problem').waitFor({ state: 'detached' });
        await until('the rows', async () => await messages(amira).count() === before + 2);
        await reaches(amira, 'completed');
        await ask(amira, 'And the next one?');
        await until('its rows', async () => await messages(amira).count() === before + 4);
        await reaches(amira, 'completed');
        expect(await suite.db.sql("select id from messages where content = 'Was I heard?'")).toHaveLength(1);
        await amira.unroute('**/questions/send');
    });

    test('unusual questions: composed characters, other scripts, lines, very long ones', async () => {
        const box = amira.getByTestId('question');
        // The Enter that ends a composition is not one that asks.
        await box.fill('什么是数据库');
        await box.evaluate((element) => element.dispatchEvent(new KeyboardEvent('keydown',
            { key: 'Enter', isComposing: true, bubbles: true, cancelable: true })));
        expect(await box.inputValue()).toBe('什么是数据库');
        await box.fill('first line');
        await box.press('Shift+Enter');
        await box.pressSequentially('<b>second</b> line');
        await box.press('Enter');
        await until('the question', async () => (await messages(amira).nth(-2).innerText()) ===
            'first line\n<b>second</b> line');
        await reaches(amira, 'completed');
        for (const question of ['ما هي قاعدة البيانات؟', '🍋'.repeat(900), 'x'.repeat(2000)]) {
            await ask(amira, question);
            await until('the question', async () =>
                (await messages(amira).nth(-2).innerText()) === question);
            await reaches(amira, 'completed');
            await agrees(amira);
        }
        expect(await flawsOf(amira, 'qa-unusual')).toEqual([]);
        const before = await messages(amira).count();
        for (const nothing of ['   ', '\n\n']) await ask(amira, nothing);
        for (const content of ['', ' ', '\n\t\r\n', 'y'.repeat(2001)]) {
            const token = await tokenOf('Amira', 'lemon');
            const reply = await api('/questions/send', { conversationId: await conversationOf('u-amira'),
                questionId: crypto.randomUUID(), answerId: crypto.randomUUID(), content }, bearer(token));
            expect([reply.status, content.length]).toEqual([422, content.length]);
        }
        expect(await messages(amira).count()).toBe(before);
    });

    test('who scrolls back to read is left there; a question of their own brings them to the end', async () => {
        const list = amira.getByTestId('messages');
        const fromEnd = (): Promise<number> => list.evaluate((e) => e.scrollHeight - e.scrollTop - e.clientHeight);
        await worker!.end('SIGTERM');
        worker = await QaWorker.start(suite.db.url, 60);
        await ask(amira, 'Can I read in peace?');
        await reaches(amira, 'generating');
        await until('the end to be shown', async () => await fromEnd() < 48);
        await list.evaluate((e) => { e.scrollTop = 0; });
        const { length } = (await answer(amira)).text;
        await until('it to grow', async () => (await answer(amira)).text.length > length + 60);
        expect(await list.evaluate((e) => e.scrollTop)).toBe(0);
        await reaches(amira, 'completed');
        await ask(amira, 'And now?');
        await until('the end to be shown', async () => await fromEnd() < 48);
        await reaches(amira, 'completed');
    });

    test('a reload shows the same conversation; another user has another', async () => {
        await ask(noor, 'What would Amira ask?');
        await reaches(noor, 'completed');
        expect(await messages(noor).count()).toBe(2);
        const before = await messages(amira).allInnerTexts();
        await amira.reload();
        await until('the conversation', async () => await messages(amira).count() === before.length);
        expect(await messages(amira).allInnerTexts()).toEqual(before);
        const theirs = await noor.locator('body').innerText();
        for (const text of before) expect(theirs).not.toContain(text);
    });

    describe("no trick reads or writes another's conversation", () => {
        let token = '';
        let mine = '';
        let theirs = '';

        beforeAll(async () => {
            [mine, theirs] = [await conversationOf('u-noor'), await conversationOf('u-amira')];
        });

        const exchange = async (params: unknown, table = 'messages'): Promise<any> => {
            token = await tokenOf('Noor', 'coffee');
            return await api('/shapes/auth-token', { table, params }, bearer(token));
        };

        /** All rows that requests with that shape token bring. */
        async function rowsOf(shapeToken: string, extra: string): Promise<any[]> {
            const rows = new Map<string, any>();
            for (let at = 'offset=-1'; ;) {
                const reply = await fetch(`${suite.server.url}/shape?${at}${extra}`,
                    { headers: bearer(shapeToken) });
                expect(reply.status, extra).toBe(200);
                for (const { key, value } of (await reply.json()) as any[]) {
                    if (value) rows.set(key, { ...rows.get(key), ...value });
                }
                if (reply.headers.get('electric-up-to-date') !== null) return [...rows.values()];
                at = `offset=${reply.headers.get('electric-offset')}` +
                    `&handle=${reply.headers.get('electric-handle')}`;
            }
        }

        /** A subset's answer, whole. */
        async function subsetOf(shapeToken: string, where: string): Promise<string> {
            const reply = await fetch(`${suite.server.url}/shape?offset=now`, {
                method: 'POST', headers: { ...bearer(shapeToken), 'content-type': 'application/json' },
                body: JSON.stringify({ where, limit: 100, order_by: 'id' }),
            });
            return await reply.text();
        }

        test('in what is exchanged for a shape token', async () => {
            for (const conversationId of [theirs, `${mine}' or true --`, `${mine}' OR conversation_id = '${theirs}`,
                [theirs], { $ne: mine }, `${theirs} `, theirs.toUpperCase(), true]) {
                expect((await exchange({ conversationId })).status, String(conversationId)).toBe(403);
            }
            for (const table of ['app.users', 'users', 'signing', 'app.signing', 'conversations',
                'public.messages where true', 'pg_authid', 'MESSAGES']) {
                expect((await exchange({ conversationId: mine }, table)).status, table).toBe(403);
            }
            const nothing = await exchange({});
            expect(await rowsOf(nothing.token, '')).toEqual([]);
        });

        test('in what is asked with a shape token of one\'s own', async () => {
            const { token: shapeToken } = await exchange({ conversationId: mine });
            const smuggled = encodeURIComponent(`conversation_id = '${theirs}' or true`);
            for (const query of ['', `&where=${smuggled}`, `&table=app.users`,
                `&conversationId=${theirs}`, `&params[1]=${theirs}`, `&params%5B1%5D=${theirs}`,
                `&table=messages&where=true&columns=id,content`, `&secret=guess&where=true`]) {
                const rows = await rowsOf(shapeToken, query);
                expect(rows.length, query).toBe(2);
                expect(new Set(rows.map((r) => r.conversation_id ?? mine)), query).toEqual(new Set([mine]));
            }
            expect(await subsetOf(shapeToken, 'true')).toContain('What would Amira ask?');
            for (const where of ['true', `conversation_id = '${theirs}'`, 'true) or (true']) {
                const said = await subsetOf(shapeToken, where);
                expect(said, where).not.toContain(theirs);
                expect(said, where).not.toContain('lemon');
            }
        });

        test('without the right token', async () => {
            token = await tokenOf('Noor', 'coffee');
            const none = makeToken({ alg: 'none' }, { sub: 'u-amira', exp: 9999999999 },
                () => Buffer.alloc(0));
            const swapped = token.split('.').with(1, Buffer.from(
                JSON.stringify({ sub: 'u-amira', exp: 9999999999 })).toString('base64url')).join('.');
            const claims = { sub: 'u-amira', exp: nowS() + 300 };
            const signed = (header: object, secret: string, hash = 'sha256'): string =>
                makeToken(header, claims, hmac(secret, hash));
            for (const forged of ['', none, swapped, `${token}x`, token.slice(0, -1),
                none.replace(/^[^.]*/, base64url('{"alg":"NONE"}')),
                signed({ alg: 'HS256' }, 'a secret that somebody guessed, of 32 bytes'),
                signed({ alg: 'HS256' }, SHAPE_SECRET), signed({ alg: 'HS256' }, ''),
                signed({ alg: 'RS256' }, AUTH_SECRET),
                authToken('u-amira', { exp: nowS() - 1 }), authToken('u-amira', { nbf: nowS() + 300 }),
                // A shape token says nothing of who somebody is.
                forgedShape({ table: 'messages', where: 'true' }),
            ]) {
                const reply = await api('/shapes/auth-token',
                    { table: 'messages', params: { conversationId: theirs } }, bearer(forged));
                expect(reply.status).toBe(401);
            }
            for (const path of ['/v1/shape?table=messages&offset=-1', '/shape?table=messages&offset=-1',
                '/proxy/v1/shape?table=messages&offset=-1']) {
                expect((await fetch(suite.server.url + path)).status, path).toBe(401);
                const reply = await fetch(suite.server.url + path, { headers: bearer(token) });
                expect([401, 403], path).toContain(reply.status);
            }
            // Shape tokens of nobody's making, or of another time.
            const all = { table: 'messages', where: 'true' };
            for (const forged of [
                makeToken({ typ: 'shape+jwt', alg: 'none' }, { aud: 'coulomb:shape', exp: nowS() + 300, shape: all },
                    () => Buffer.alloc(0)),
                makeToken({ typ: 'shape+jwt', alg: 'HS256' },
                    { aud: 'coulomb:shape', exp: nowS() + 300, shape: all }, hmac(AUTH_SECRET)),
                forgedShape(all, { exp: nowS() - 1 }), authToken('u-amira', { shape: all }),
            ]) {
                for (const [path, init] of [
                    ['/shape?offset=-1', {}], ['/proxy/v1/shape?table=messages&offset=-1', {}],
                    ['/shape?offset=now', { method: 'POST', body: '{"where":"true","limit":10,"order_by":"id"}' }],
                ] as const) {
                    const reply = await fetch(suite.server.url + path, { ...init, headers: bearer(forged) });
                    expect(reply.status, path).toBe(401);
                    expect(await reply.text()).not.toContain('content');
                }
            }
            const { token: own } = await exchange({ conversationId: mine });
            await until('the token to end', async () => (await fetch(
                `${suite.server.url}/shape?offset=-1`, { headers: bearer(own) })).status === 401);
        });

        test("by the handle, the offset or the place of another's shape", async () => {
            const read = async (query: string, shapeToken: string): Promise<Response> =>
                await fetch(`${suite.server.url}/shape?${query}`,
                    { headers: bearer(shapeToken), redirect: 'manual' });
            const { token: amiras } = await api('/shapes/auth-token',
                { table: 'messages', params: { conversationId: theirs } },
                bearer(await tokenOf('Amira', 'lemon')));
            const { token: noors } = await exchange({ conversationId: mine });
            const first = await read('offset=-1', amiras);
            const handle = first.headers.get('electric-handle')!;
            const offset = first.headers.get('electric-offset')!;
            expect(await (await read(`offset=${offset}&handle=${handle}`, amiras)).text()).toContain('lemon');
            for (const query of [`offset=-1&handle=${handle}`, `offset=${offset}&handle=${handle}`,
                `offset=${offset}&handle=${handle}&live=true`, `offset=now&handle=${handle}`,
                `offset=0_0&handle=${handle}&live=true&cursor=1`,
                `offset=-1&handle=${handle}&handle=${handle}`]) {
                const reply = await read(query, noors);
                const text = await reply.text();
                expect([200, 400, 409], query).toContain(reply.status);
                for (const word of ['lemon', 'island', theirs]) expect(text, query).not.toContain(word);
                expect(reply.headers.get('electric-handle'), query).not.toBe(handle);
            }
            const posted = await fetch(`${suite.server.url}/shape?offset=now&handle=${handle}`, {
                method: 'POST', headers: { ...bearer(noors), 'content-type': 'application/json' },
                body: JSON.stringify({ where: 'true', limit: 100, order_by: 'id' }),
            });
            const text = await posted.text();
            for (const word of ['lemon', 'island', theirs]) expect(text).not.toContain(word);
            // She can not end it for Amira either.
            const removed = await fetch(`${suite.server.url}/shape?handle=${handle}`,
                { method: 'DELETE', headers: bearer(noors) });
            expect(removed.status).toBeGreaterThanOrEqual(400);
            expect((await read(`offset=-1&handle=${handle}`, amiras)).headers.get('electric-handle')).toBe(handle);
        });

        test('by what the browser has in its cache of the one who sat there before', async () => {
            const { token: amiras } = await api('/shapes/auth-token',
                { table: 'messages', params: { conversationId: theirs } },
                bearer(await tokenOf('Amira', 'lemon')));
            const { token: noors } = await exchange({ conversationId: mine });
            const first = await fetch(`${suite.server.url}/shape?offset=-1`, { headers: bearer(amiras) });
            const place = `offset=${first.headers.get('electric-offset')}` +
                `&handle=${first.headers.get('electric-handle')}`;
            const said = await amira.evaluate(async ({ url, amiras, noors }) => {
                const read = async (token: string, cache: RequestCache): Promise<[number, string]> => {
                    const reply = await fetch(url, {
                        cache, headers: token ? { authorization: `Bearer ${token}` } : {},
                    });
                    return [reply.status, await reply.text()];
                };
                return [await read(amiras, 'default'), await read(amiras, 'force-cache'),
                    await read(noors, 'default'), await read(noors, 'force-cache'),
                    await read('', 'default'), await read('', 'force-cache')];
            }, { url: `${suite.server.url}/shape?table=messages&conversationId=${theirs}&${place}`, amiras, noors });
            expect(said.map(([status]) => status)).toEqual([200, 200, 409, 409, 401, 401]);
            for (const [, text] of said.slice(0, 2)) expect(text).toContain('lemon');
            for (const [, text] of said.slice(2)) {
                for (const word of ['lemon', 'island', theirs]) expect(text).not.toContain(word);
            }
        });

        test('by writing', async () => {
            token = await tokenOf('Noor', 'coffee');
            const [{ n }] = await suite.db.sql('select count(*) as n from messages');
            const question = { questionId: 'q-0123456789', answerId: 'a-0123456789', content: 'hello?' };
            expect((await api('/questions/send', { ...question, conversationId: theirs },
                bearer(token))).status).toBe(403);
            for (const mutation of [
                { op: 'insert', table: 'messages', values: { id: 'm-0123456789', conversation_id: theirs,
                    role: 'assistant', status: 'completed', content: 'forged' } },
                { op: 'update', table: 'messages', key: { id: 'any' }, values: { content: 'forged' } },
                { op: 'delete', table: 'messages', key: { id: 'any' } },
            ]) {
                const reply = await api('/v1/transactions',
                    { id: crypto.randomUUID(), mutations: [mutation] }, bearer(token));
                expect([403, 404]).toContain(reply.status);
            }
            // An id that Amira has used says nothing to Noor of her question.
            const [{ id }] = await suite.db.sql(
                "select id from messages where conversation_id = $1 and role = 'user' limit 1", [theirs]);
            const replayed = await api('/questions/send', { conversationId: mine, questionId: id,
                answerId: 'a-0123456789', content: 'hello?' }, bearer(token));
            expect(replayed.status).toBe(409);
            expect(JSON.stringify(replayed)).not.toContain(theirs);
            expect((await suite.db.sql('select count(*) as n from messages'))[0].n).toBe(n);
        });
    });
});
