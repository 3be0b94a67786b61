// The recorded exchanges: where they are, their format, and reading them.
// The format is described in the README beside the recordings.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface RecordedRequest {
    method: string;
    path: string;
    headers?: Record<string, string>;
    body?: unknown;
}

export interface RecordedResponse {
    status: number;
    headers: Record<string, string>;
    body?: unknown;
    text?: string;
    took_ms?: number;
    plus_standard_headers?: boolean;
    writes?: { at_ms: number; text: string }[];
    server_closed_at_ms?: number | null;
}

export interface DuringAction {
    after_ms: number;
    sql?: string;
    also?: string;
}

export interface Step {
    sql?: string;
    note?: string;
    request?: RecordedRequest;
    response?: RecordedResponse;
    during?: DuringAction[];
    normalised?: {
        request?: { path?: string; headers?: Record<string, string> };
        response?: {
            headers?: Record<string, string>;
            body?: unknown;
            text?: string;
            sse?: unknown[];
            closed_by_server?: boolean;
        };
    };
}

export interface Scenario {
    name: string;
    about?: string;
    steps: Step[];
}

export interface Recording {
    group: string;
    about: string;
    server_settings: Record<string, string>;
    shapes_deleted_before_scenario: boolean;
    standard_headers: Record<string, string>;
    setup_sql: string[];
    scenarios: Scenario[];
}

/** Candidates in order; the first that exists is used. */
const FOLDERS = [
    process.env.COULOMB_GOLDEN,
    fileURLToPath(new URL('./recordings', import.meta.url)),
    fileURLToPath(new URL('../../../../shared/golden', import.meta.url)),
];

export function goldenFolder(): string | undefined {
    return FOLDERS.find((folder) => folder && existsSync(join(folder, 'http.json')));
}

export function loadRecording(file: string): Recording {
    const folder = goldenFolder();
    if (!folder) throw new Error('the recordings are absent');
    return JSON.parse(readFileSync(join(folder, file), 'utf8')) as Recording;
}

/** What a step's answer must look like, with placeholders for volatile values. */
export interface Expected {
    status: number;
    headers: Record<string, string>;
    body?: any;
    text?: string;
    /** Instead of a body: what its text must look like. */
    pattern?: RegExp;
    sse?: any[];
    closedByServer: boolean;
    tookMs?: number;
}

export function expectedOf(recording: Recording, step: Step): Expected {
    const response = step.response!;
    const normal = step.normalised?.response ?? {};
    const standard = response.plus_standard_headers ? recording.standard_headers : {};
    const expected: Expected = {
        status: response.status,
        headers: structuredClone({ ...standard, ...response.headers, ...normal.headers }),
        closedByServer: normal.closed_by_server ?? false,
        tookMs: response.took_ms,
    };
    const body = normal.body ?? response.body;
    const text = normal.text ?? response.text;
    if (body !== undefined) expected.body = structuredClone(body);
    if (text !== undefined) expected.text = text;
    if (response.writes) expected.sse = structuredClone(normal.sse ?? []);
    return expected;
}
