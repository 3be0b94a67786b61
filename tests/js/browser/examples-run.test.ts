// examples/run.sh, as a new user would call it: one command, a page to open, one key to end it.
import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasChromium, launchBrowser, openPage, ROOT } from '../support/app.js';
import { coulombBin } from '../support/coulomb.js';
import {
    exitOf, freePort, Hopeless, removeDir, tempDir, trackPid, until, untrackPid,
} from '../support/process.js';

describe.skipIf(!hasChromium)('examples/run.sh', () => {
    let dir = '';
    let child: ChildProcess | undefined;
    let log = '';
    let page = '';

    beforeAll(async () => {
        dir = tempDir('example');
        chmodSync(dir, 0o755); // as root, Postgres runs as another user
        const pagePort = await freePort();
        child = spawn(join(ROOT, 'examples/run.sh'), [
            'qa', '--data-dir', join(dir, 'data'), '--port', '0', '--page-port', String(pagePort),
        ], {
            env: { ...process.env, COULOMB_BIN: coulombBin() },
            stdio: ['ignore', 'pipe', 'pipe'],
        });
        trackPid(child.pid!);
        for (const stream of [child.stdout!, child.stderr!]) {
            stream.setEncoding('utf8');
            stream.on('data', (text: string) => (log += text));
        }
        await until('the page to be told', () => {
            if (child!.exitCode !== null) throw new Hopeless(`it ended: ${log.slice(-2000)}`);
            page = /The page: +(http\S+)/.exec(log)?.[1] ?? '';
            return page !== '';
        }, 80_000, 100);
    });

    afterAll(async () => {
        if (child && child.exitCode === null) {
            child.kill('SIGTERM');
            await exitOf(child);
        }
        if (child) untrackPid(child.pid!);
        if (dir) removeDir(dir);
    });

    test('somebody signs in, asks, and is answered by the worker', async () => {
        const browser = await launchBrowser();
        const errors: string[] = [];
        try {
            const tab = await openPage(await browser.newContext(), page, errors);
            await tab.getByRole('button', { name: 'Amira' }).click();
            await tab.getByTestId('sign-in').click();
            await tab.getByTestId('question').fill('Does it run?');
            await tab.getByTestId('question').press('Enter');
            await tab.locator('[data-testid="message"][data-status="completed"][data-role="assistant"]')
                .waitFor();
            expect(errors).toEqual([]);
        } finally {
            await browser.close();
        }
    });

    test('what is killed is started again, and the page goes on', async () => {
        const browser = await launchBrowser();
        const errors: string[] = [];
        const kill = (name: string): void => {
            process.kill(Number(readFileSync(join(dir, `data/${name}.pid`), 'utf8')), 'SIGKILL');
        };
        try {
            const tab = await openPage(await browser.newContext(), page, errors);
            await tab.getByRole('button', { name: 'Noor' }).click();
            await tab.getByTestId('sign-in').click();
            await tab.getByTestId('question').fill('What happens now?');
            await tab.getByTestId('question').press('Enter');
            await tab.locator('[data-testid="message"][data-status="generating"]').waitFor();
            kill('server');
            kill('worker');
            await until('both to be started again', () =>
                /the server is started again/.test(log) && /the worker is started again/.test(log), 40_000);
            await tab.locator('[data-testid="message"][data-status="completed"][data-role="assistant"]')
                .waitFor({ timeout: 40_000 });
            expect(errors).toEqual([]);
        } finally {
            await browser.close();
        }
    });

    test('it ends with all that it started', async () => {
        const origin = /The server: +(http\S+)/.exec(log)![1];
        child!.kill('SIGINT');
        expect(await exitOf(child!)).toBe(0);
        await expect(fetch(origin)).rejects.toThrow();
        await expect(fetch(page)).rejects.toThrow();
        expect(existsSync(join(dir, 'data/data/postmaster.pid'))).toBe(false);
    });
});
