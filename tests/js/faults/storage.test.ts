// The disk fails at the n-th call: full, broken, read-only, out of descriptors; or the
// process dies there.
import { faultLoop } from './loop.js';

faultLoop([
    { fault: { kind: 'write', errno: 'ENOSPC', sticky: true }, share: 1.5 },
    { fault: { kind: 'write', errno: 'EIO', partial: 'torn' }, share: 1.5 },
    { fault: { kind: 'write', errno: 'EDQUOT' } },
    { fault: { kind: 'write', partial: 'short' } },
    { fault: { kind: 'write', action: 'kill' }, share: 1.5 },
    { fault: { kind: 'write', action: 'kill', partial: 'torn' }, share: 1.5 },
    { fault: { kind: 'sync', errno: 'EIO' }, share: 1.5 },
    { fault: { kind: 'sync', action: 'kill' } },
    { fault: { kind: 'truncate', errno: 'EIO' } },
    { fault: { kind: 'truncate', action: 'kill' } },
    { fault: { kind: 'create', errno: 'EROFS', sticky: true } },
    { fault: { kind: 'create', errno: 'EMFILE' } },
    { fault: { kind: 'mkdir', errno: 'ENOSPC' } },
    { fault: { kind: 'rename', errno: 'EIO' } },
    { fault: { kind: 'rename', action: 'kill' } },
    { fault: { kind: 'unlink', errno: 'EIO' } },
    { fault: { kind: 'unlink', action: 'kill' } },
]);
