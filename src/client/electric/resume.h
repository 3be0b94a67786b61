/* Where a session may go on: the collection's metadata "electric:resume", and exports. Internal.
 *
 *   {"kind":"resume","offset":"…","handle":"…","cursor":"…","shapeId":"…","updatedAt":ms}
 *   {"kind":"reset","updatedAt":ms}
 *   {"version":1,"resume":{…},"seenTxids":[…]}
 *
 * Times are milliseconds of 1970. */
#ifndef COULOMB_CLIENT_ELECTRIC_RESUME_H
#define COULOMB_CLIENT_ELECTRIC_RESUME_H

#include "base/buf.h"
#include "client/electric/seen.h"
#include "client/loop/heap.h"

#define RESUME_META "electric:resume"

struct resume {
    bool known; /* there is a record */
    bool reset; /* it says: begin anew */
    struct blob offset;
    struct blob handle;
    struct blob cursor;
    struct blob shape; /* the shape's key */
    int64_t updated_ms;
};

void resume_fini(struct heap *h, struct resume *r);
/* COULOMB_E_MEMORY: *to is as before. */
int resume_copy(struct heap *h, struct resume *to, const struct resume *from);
void resume_print(const struct resume *r, struct buf *out);
/* *out is the caller's. COULOMB_E_ARGUMENT: it is none; COULOMB_E_MEMORY. */
int resume_parse(struct heap *h, struct slice text, struct resume *out);
/* The one that is to be used; NULL when neither is known. */
const struct resume *resume_newer(const struct resume *a, const struct resume *b);

/* Exports. */
int export_print(const struct resume *r, const struct seen *seen, struct buf *out);
/* Adds its transactions to those that were seen, and gives its position. COULOMB_E_ARGUMENT,
 * COULOMB_E_MEMORY: nothing was added. */
int export_parse(struct heap *h, struct slice text, struct resume *out,
                 struct seen *seen);

#endif
