// The demo in a real browser: two tabs show each other's changes and those made in SQL.
import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { coulombBin } from '../support/coulomb.js';
import { flawsOf, watchJumps } from '../support/looks.js';
import { exitOf, Hopeless, removeDir, tempDir, trackPid, until, untrackPid } from '../support/process.js';

const { Client } = pg;
const CHROMIUM = process.env.COULOMB_CHROMIUM ?? '/usr/bin/chromium';

const PAGE_DIR = fileURLToPath(new URL('../../../web/demo', import.meta.url));

const FLAGS = [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--disable-dev-shm-usage',
];

let dir = '';
let demo: ChildProcess | undefined;
let log = '';
let url = '';
let browser: Browser | undefined;
let db: pg.Client | undefined;

/** `coulomb dev` ends its own Postgres when it is told to stop. */
async function startDemo(): Promise<void> {
    dir = tempDir('demo');
    // As root the demo's Postgres runs under an account that must enter the folder.
    chmodSync(dir, 0o755);
    demo = spawn(coulombBin(), [
        'dev', '--data-dir', join(dir, 'data'), '--port', '0', '--page-dir', PAGE_DIR,
    ], {
        env: { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? dir },
        stdio: ['ignore', 'pipe', 'pipe'],
    });
    trackPid(demo.pid!);
    for (const stream of [demo.stdout!, demo.stderr!]) {
        stream.setEncoding('utf8');
        stream.on('data', (text: string) => (log += text));
    }
    const found = await until('the demo to be ready', () => {
        if (demo!.exitCode !== null) throw new Hopeless(`the demo ended with ${demo!.exitCode}`);
        return /event=dev\.ready\b[^\n]*?\burl="?(http[^\s"]+)/.exec(log);
    }, 60_000, 50).catch((error) => {
        throw new Error(`${String(error)}\n${log.slice(-2000)}`);
    });
    url = found[1];
}

/** A session in the demo's database, by the psql command line that was printed. */
async function demoDatabase(): Promise<pg.Client> {
    const found = await until('the psql command line', () =>
        /psql postgresql:\/\/([^:]+):([^@]+)@([^:]+):(\d+)\/(\w+)/.exec(log), 10_000, 50);
    const [, user, password, host, port, database] = found;
    const session = new Client({ user, password, host, port: Number(port), database });
    await session.connect();
    return session;
}

async function tab(): Promise<Page> {
    const page = await browser!.newPage();
    await page.goto(url);
    await page.waitForSelector('[data-testid="todo"]', { timeout: 20_000 });
    return page;
}

const texts = (page: Page): Promise<string[]> => page.locator('[data-testid="todo"]').allInnerTexts();

async function shows(page: Page, text: string, present = true): Promise<void> {
    await until(`the page to ${present ? 'show' : 'drop'} "${text}"`, async () =>
        (await texts(page)).some((t) => t.includes(text)) === present, 15_000, 50);
}

const item = (page: Page, text: string) =>
    page.locator('[data-testid="todo"]').filter({ hasText: text });

describe.skipIf(!existsSync(CHROMIUM))('the demo in two tabs', () => {
    let one: Page;
    let two: Page;

    beforeAll(async () => {
        await startDemo();
        browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS });
        [one, two] = [await tab(), await tab()];
        db = await demoDatabase();
    }, 120_000);

    afterAll(async () => {
        await db?.end();
        await browser?.close();
        if (demo) {
            demo.kill('SIGTERM');
            const timer = setTimeout(() => demo!.kill('SIGKILL'), 15_000);
            await exitOf(demo);
            clearTimeout(timer);
            untrackPid(demo.pid!);
        }
        if (dir) removeDir(dir);
    });

    test('the page shows rows and says that it is connected', async () => {
        expect((await texts(one)).length).toBeGreaterThan(0);
        expect(await texts(two)).toEqual(await texts(one));
        await one.waitForSelector('[data-testid="status"][data-state="live"]');
    });

    test('it looks right, light and dark, on a desktop and on a phone', async () => {
        expect(await flawsOf(one, 'demo')).toEqual([]);
        const phone = await browser!.newPage({ viewport: { width: 390, height: 844 } });
        const jumps = await watchJumps(phone);
        await phone.goto(url);
        await phone.waitForSelector('[data-testid="todo"]');
        await phone.waitForSelector('[data-testid="status"][data-state="live"]');
        expect(await jumps()).toBeLessThan(0.05);
        await phone.close();
    });

    test('what is added in one tab appears in the other', async () => {
        await one.fill('[data-testid="new-todo"]', 'written in tab one');
        await one.press('[data-testid="new-todo"]', 'Enter');
        await shows(two, 'written in tab one');
        await shows(one, 'written in tab one');
        const { rows } = await db!.query("select * from todos where text = 'written in tab one'");
        expect(rows.length).toBe(1);
    });

    test('what is ticked in one tab is ticked in the other', async () => {
        await item(one, 'written in tab one').locator('input[type="checkbox"]').click();
        await until('the tick in the other tab', async () =>
            await item(two, 'written in tab one').locator('input[type="checkbox"]').isChecked(), 15_000, 50);
    });

    test('what SQL changes appears in both', async () => {
        await db!.query(
            "update todos set text = 'renamed in psql' where text = 'written in tab one'",
        );
        await shows(one, 'renamed in psql');
        await shows(two, 'renamed in psql');
    });

    test('what is deleted in one tab disappears from the other', async () => {
        await item(two, 'renamed in psql').locator('button').last().click();
        await shows(one, 'renamed in psql', false);
        await shows(two, 'renamed in psql', false);
        const { rows } = await db!.query("select * from todos where text = 'renamed in psql'");
        expect(rows).toEqual([]);
    });

    test('a hostile page can not write', async () => {
        const at = new URL('/demo/api/todos', url).href;
        const body = '{"text":"not asked for"}';
        const asked: [string, string][] = [
            ['text/plain', new URL(url).origin],
            ['application/json', 'http://hostile.example'],
        ];
        for (const [type, origin] of asked) {
            const reply = await fetch(at, {
                method: 'POST', body, headers: { 'content-type': type, origin },
            });
            expect(reply.status).toBe(403);
        }
        const { rows } = await db!.query("select * from todos where text = 'not asked for'");
        expect(rows).toEqual([]);
    });

    test('the page says when the server is away', async () => {
        await db!.end();
        db = undefined;
        demo!.kill('SIGTERM');
        expect(await exitOf(demo!)).toBe(0);
        await one.waitForSelector('[data-testid="status"][data-state="reconnecting"]', { timeout: 15_000 });
    });
});
