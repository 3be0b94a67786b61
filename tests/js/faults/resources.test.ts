// Reading, memory, descriptors and connections to Postgres fail at the n-th call.
import { faultLoop } from './loop.js';

faultLoop([
    { fault: { kind: 'open', errno: 'EMFILE' } },
    { fault: { kind: 'open', errno: 'EIO', sticky: true } },
    { fault: { kind: 'read', errno: 'EIO' }, share: 1.5 },
    { fault: { kind: 'memory' }, share: 3 },
    { fault: { kind: 'memory' }, from: 'active', share: 2 },
    { fault: { kind: 'memory', sticky: true }, from: 'active' },
    { fault: { kind: 'connect', errno: 'ECONNREFUSED' }, share: 1.5 },
    { fault: { kind: 'connect', errno: 'ETIMEDOUT', sticky: true } },
]);
