// An example app in a real browser: its schema in a database of the run's cluster, the server
// with its routes, its page built and served from another origin, and Chromium.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';
import { removeDir, tempDir } from './process.js';

const run = promisify(execFile);

export const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
export const CHROMIUM = process.env.COULOMB_CHROMIUM ?? '/usr/bin/chromium';
export const hasChromium = existsSync(CHROMIUM);

const FLAGS = [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--disable-dev-shm-usage',
];

const TYPES: Record<string, string> = {
    '.html': 'text/html; charset=utf-8', '.css': 'text/css', '.js': 'text/javascript',
    '.wasm': 'application/wasm',
};

export const launchBrowser = (): Promise<Browser> =>
    chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS });

export class AppPage {
    url = '';
    private server: Server | undefined;
    private readonly dir = tempDir('page');

    /** The locked packages of the app's folder. */
    static async install(app: string): Promise<void> {
        await run(join(ROOT, 'scripts/npm-ci.sh'), [join('examples', app)], { cwd: ROOT });
    }

    /** Installs them, and builds the page. */
    static async build(app: string): Promise<AppPage> {
        const page = new AppPage();
        await AppPage.install(app);
        await run(join(ROOT, 'examples', app, 'build.sh'), [page.dir]);
        page.server = createServer((request, response) => {
            const name = new URL(request.url!, 'http://page').pathname.slice(1) || 'index.html';
            const path = join(page.dir, name);
            if (!/^[\w.-]+$/.test(name) || !existsSync(path)) {
                response.writeHead(404).end();
                return;
            }
            response.writeHead(200, {
                'content-type': TYPES[extname(name)] ?? 'application/octet-stream',
            });
            response.end(readFileSync(path));
        });
        await new Promise<void>((done) => page.server!.listen(0, '127.0.0.1', done));
        page.url = `http://127.0.0.1:${(page.server.address() as { port: number }).port}/`;
        return page;
    }

    /** What the page reads at its start. */
    configure(values: Record<string, unknown>): void {
        const lines = Object.entries(values).map(([k, v]) => `window.${k} = ${JSON.stringify(v)}\n`);
        writeFileSync(join(this.dir, 'config.js'), lines.join(''));
    }

    async close(): Promise<void> {
        this.server?.closeAllConnections();
        await new Promise<void>((done) => (this.server ? this.server.close(() => done()) : done()));
        removeDir(this.dir);
    }
}

/** A new page of the context; its errors go to `errors`. */
export async function openPage(context: BrowserContext, url: string, errors: string[]): Promise<Page> {
    const page = await context.newPage();
    if (process.env.COULOMB_SHOTS) page.on('console', (message) => console.log(message.text()));
    page.on('pageerror', (error) => errors.push(String(error)));
    await page.goto(url);
    return page;
}

/** A picture for whoever sets COULOMB_SHOTS to a folder. */
export async function shot(page: Page, name: string): Promise<void> {
    const dir = process.env.COULOMB_SHOTS;
    if (dir) await page.screenshot({ path: join(dir, `${name}.png`), fullPage: true });
}
