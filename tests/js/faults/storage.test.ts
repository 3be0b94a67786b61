// The disk fails at the n-th call: full, broken, read-only, out of descriptors; or the
// process dies there.
import { faultLoop } from './loop.js';

faultLoop([
    { fault: { kind: 'write', errno: 'ENOSPC', sticky: true }, share: 3 },
    { fault: { kind: 'write', errno: 'EIO', partial: 'torn' }, share: 2 },
    { fault: { kind: 'write', errno: 'EDQUOT' } },
    { fault: { kind: 'write', partial: 'short' } },
    { fault: { kind: 'write', action: 'kill' }, share: 2 },
    { fault: { kind: 'write', action: 'kill', partial: 'torn' }, share: 3 },
    { fault: { kind: 'sync', errno: 'EIO' }, share: 3 },
    { fault: { kind: 'sync', action: 'kill' }, share: 2 },
    { fault: { kind: 'truncate', errno: 'EIO' } },
    { fault: { kind: 'truncate', action: 'kill' } },
    { fault: { kind: 'create', errno: 'EROFS', sticky: true }, share: 2 },
    { fault: { kind: 'create', errno: 'EMFILE' } },
    { fault: { kind: 'create', action: 'kill' } },
    { fault: { kind: 'mkdir', errno: 'ENOSPC' } },
    { fault: { kind: 'unlink', errno: 'EIO' } },
    { fault: { kind: 'list', errno: 'EIO' }, share: 2 },
    { fault: { kind: 'unlink', action: 'kill' } },
]);
