// Reading, memory, descriptors and connections to Postgres fail at the n-th call.
import { faultLoop } from './loop.js';

faultLoop([
    { fault: { kind: 'open', errno: 'EMFILE' } },
    { fault: { kind: 'open', errno: 'EIO', sticky: true } },
    { fault: { kind: 'read', errno: 'EIO' }, share: 2 },
    { fault: { kind: 'memory', errno: 'ENOMEM' }, share: 4 },
    { fault: { kind: 'memory', errno: 'ENOMEM' }, from: 'active', share: 4 },
    { fault: { kind: 'memory', errno: 'ENOMEM', sticky: true }, from: 'active' },
    { fault: { kind: 'connect', errno: 'ECONNREFUSED' }, share: 2 },
    { fault: { kind: 'connect', errno: 'ETIMEDOUT', sticky: true } },
]);
