/* Positions in a shape's log (shape-protocol.md section 3).
 *
 * Text forms: -1 (before everything), 0_N (virtual: end of snapshot chunk N), 0_inf (end
 * of the snapshot), <tx>_<op> (real: commit LSN and operation position), <tx>_inf, and
 * `now`, which only a request may use. Ordered by (tx, op), -1 lowest, inf above every
 * op. */
#ifndef COULOMB_BASE_OFFSET_H
#define COULOMB_BASE_OFFSET_H

#include "base/slice.h"

#define OFFSET_OP_INF UINT64_MAX

struct offset {
    uint64_t tx;
    uint64_t op;     /* OFFSET_OP_INF prints as inf */
    bool before_all; /* -1: tx and op are 0 */
};

#define OFFSET_BEFORE_ALL   ((struct offset){0, 0, true})
#define OFFSET_SNAPSHOT_END ((struct offset){0, OFFSET_OP_INF, false})
/* "18446744073709551615_18446744073709551615" and NUL fit. */
#define OFFSET_TEXT_MAX 48

/* Parses all forms but `now`; false on malformed text (3.1). Leading zeros and '+' pass;
 * numbers above uint64 saturate (they are beyond any log). "-1_0" equals "-1". */
bool offset_parse(struct slice text, struct offset *out);
/* Writes the normalised text; returns its length. */
size_t offset_print(struct offset o, char out[OFFSET_TEXT_MAX]);
int offset_cmp(struct offset a, struct offset b);

static inline bool offset_is_virtual(struct offset o)
{
    return !o.before_all && o.tx == 0;
}

#endif
