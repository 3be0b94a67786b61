// One Postgres cluster for all files of a run; suites make their own databases in it.
import type { TestProject } from 'vitest/node';
import { Cluster, type ClusterAddress } from './postgres.js';

declare module 'vitest' {
    export interface ProvidedContext {
        cluster: ClusterAddress;
    }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
    const cluster = await Cluster.start();
    project.provide('cluster', { host: cluster.host, port: cluster.port, user: cluster.user });
    return () => cluster.remove();
}
