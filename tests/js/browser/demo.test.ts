// The demo in a real browser: two tabs show each other's changes and those made in SQL.
import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { coulombBin } from '../support/coulomb.js';
import { connect } from '../support/postgres.js';
import { exitOf, Hopeless, removeDir, tempDir, trackPid, until, untrackPid } from '../support/process.js';

const CHROMIUM = process.env.COULOMB_CHROMIUM ?? '/usr/bin/chromium';

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
    demo = spawn(coulombBin(), ['dev', '--data-dir', join(dir, 'data'), '--port', '0'], {
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

function findFile(folder: string, name: string, depth = 3): string | undefined {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
        const path = join(folder, entry.name);
        if (entry.isFile() && entry.name === name) return path;
        if (entry.isDirectory() && depth > 0) {
            const found = findFile(path, name, depth - 1);
            if (found) return found;
        }
    }
    return undefined;
}

/** A session in the demo's database: the one that has the table of to-dos. */
async function demoDatabase(): Promise<pg.Client> {
    const pidFile = findFile(dir, 'postmaster.pid');
    if (!pidFile) throw new Error('no Postgres cluster in the data folder');
    const at = { host: '127.0.0.1', port: Number(readFileSync(pidFile, 'utf8').split('\n')[3]), user: 'postgres' };
    const first = await connect(at, 'postgres');
    const { rows } = await first.query('select datname from pg_database where not datistemplate');
    await first.end();
    for (const { datname } of rows) {
        const session = await connect(at, datname);
        const found = await session.query("select to_regclass('todos') as t");
        if (found.rows[0].t !== null) return session;
        await session.end();
    }
    throw new Error('no database with a table named todos');
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
        await one.waitForSelector('[data-testid="status"]');
    });

    test('what is added in one tab appears in the other', async () => {
        await one.fill('[data-testid="new-todo"]', 'written in tab one');
        await one.press('[data-testid="new-todo"]', 'Enter');
        await shows(two, 'written in tab one');
        await shows(one, 'written in tab one');
        const { rows } = await db!.query("select * from todos where todos::text like '%written in tab one%'");
        expect(rows.length).toBe(1);
    });

    test('what is ticked in one tab is ticked in the other', async () => {
        await item(one, 'written in tab one').locator('input[type="checkbox"]').click();
        await until('the tick in the other tab', async () =>
            await item(two, 'written in tab one').locator('input[type="checkbox"]').isChecked(), 15_000, 50);
    });

    test('what SQL changes appears in both', async () => {
        const { rows } = await db!.query(
            `select column_name from information_schema.columns
             where table_name = 'todos' and data_type = 'text' order by ordinal_position`,
        );
        const column = rows.at(-1).column_name;
        await db!.query(
            `update todos set "${column}" = 'renamed in psql' where todos::text like '%written in tab one%'`,
        );
        await shows(one, 'renamed in psql');
        await shows(two, 'renamed in psql');
    });

    test('what is deleted in one tab disappears from the other', async () => {
        await item(two, 'renamed in psql').locator('button').last().click();
        await shows(one, 'renamed in psql', false);
        await shows(two, 'renamed in psql', false);
        const { rows } = await db!.query("select * from todos where todos::text like '%renamed in psql%'");
        expect(rows).toEqual([]);
    });
});
