// A TCP proxy that is rough with what it carries: it cuts connections anywhere, resets them, delays
// pieces and splits them.
import { createServer, connect, type Server, type Socket } from 'node:net';

export class RoughProxy {
    port = 0;
    cuts = 0;
    private readonly sockets = new Set<Socket>();
    private constructor(private readonly server: Server, private readonly random: () => number) {}

    /** Ends a connection with this probability at each piece; while false nothing is disturbed. */
    roughness = 0;

    static async start(target: () => number, random: () => number): Promise<RoughProxy> {
        const server = createServer({ allowHalfOpen: false });
        const proxy = new RoughProxy(server, random);
        server.on('connection', (from) => {
            const to = connect(target(), '127.0.0.1');
            proxy.carry(from, to);
            proxy.carry(to, from);
        });
        await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
        proxy.port = (server.address() as { port: number }).port;
        return proxy;
    }

    private carry(from: Socket, to: Socket): void {
        this.sockets.add(from);
        const end = () => {
            from.destroy();
            to.destroy();
            this.sockets.delete(from);
        };
        from.on('error', end);
        from.on('close', end);
        from.on('data', (bytes) => {
            if (this.random() >= this.roughness) {
                if (!to.write(bytes)) {
                    from.pause();
                    to.once('drain', () => from.resume());
                }
                return;
            }
            this.cuts++;
            to.write(bytes.subarray(0, Math.floor(this.random() * bytes.length)), () => {
                if (this.random() < 0.5) to.resetAndDestroy();
                end();
            });
        });
    }

    /** Every connection that there is. */
    cutAll(): void {
        for (const socket of this.sockets) socket.resetAndDestroy();
    }

    async close(): Promise<void> {
        this.cutAll();
        await new Promise((done) => this.server.close(done));
    }
}
