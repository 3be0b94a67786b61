// A TCP proxy in front of a server that can move, and that treats connections as networks do: it cuts
// them anywhere, holds them up, or refuses new ones.
import { connect, createServer, type Server, type Socket } from 'node:net';

export interface Weather {
    /** The chance that a piece of data, in either direction, is the connection's last: half of it arrives. */
    cut?: number;
    /** The chance that a piece is held up, and for how long at most. */
    delay?: number;
    delayMs?: number;
    /** The chance that a connection is refused. */
    refuse?: number;
}

export class Proxy {
    weather: Weather = {};
    cuts = 0;
    private server: Server | undefined;
    private readonly pairs = new Set<[Socket, Socket]>();

    /** `target` gives the server's port at each connection. */
    constructor(private readonly target: () => number, private readonly random: () => number = Math.random) {}

    async start(): Promise<this> {
        this.server = createServer((client) => this.accept(client));
        await new Promise<void>((done) => this.server!.listen(0, '127.0.0.1', done));
        return this;
    }

    get port(): number {
        return (this.server!.address() as { port: number }).port;
    }

    get url(): string {
        return `http://127.0.0.1:${this.port}`;
    }

    /** Cuts all connections that are open now. */
    cutAll(): void {
        for (const [a, b] of this.pairs) {
            this.cuts++;
            a.destroy();
            b.destroy();
        }
    }

    async stop(): Promise<void> {
        this.cutAll();
        await new Promise((done) => this.server!.close(done));
    }

    private accept(client: Socket): void {
        client.on('error', () => undefined);
        if (this.random() < (this.weather.refuse ?? 0)) {
            client.resetAndDestroy();
            return;
        }
        const upstream = connect(this.target(), '127.0.0.1');
        const pair: [Socket, Socket] = [client, upstream];
        upstream.on('error', () => undefined);
        this.pairs.add(pair);
        const end = (): void => {
            this.pairs.delete(pair);
            client.destroy();
            upstream.destroy();
        };
        client.on('close', end);
        upstream.on('close', end);
        this.pass(client, upstream, end);
        this.pass(upstream, client, end);
    }

    private pass(from: Socket, to: Socket, end: () => void): void {
        let queue = Promise.resolve();
        from.on('data', (data) => {
            from.pause();
            queue = queue.then(async () => {
                if (this.random() < (this.weather.delay ?? 0)) {
                    await new Promise((done) => setTimeout(done, this.random() * (this.weather.delayMs ?? 50)));
                }
                if (this.random() < (this.weather.cut ?? 0)) {
                    this.cuts++;
                    to.write(data.subarray(0, data.length >> 1), end);
                    return;
                }
                if (to.write(data)) from.resume();
                else to.once('drain', () => from.resume());
            });
        });
        from.on('end', () => queue.then(() => to.end()));
    }
}
