/* Drafts: a row being written. Internal. */
#ifndef COULOMB_CLIENT_VALUE_DRAFT_H
#define COULOMB_CLIENT_VALUE_DRAFT_H

#include "client/value/row.h"

#define DRAFT_MARKS 2 /* bits for each column: changed, given */

/* Owner: the call that made it. base is what it is compared with. */
struct coulomb_draft {
    coulomb_client *client;
    struct layout *layout;
    const struct coulomb_row *base; /* NULL: an insert */
    coulomb_value *values;          /* one for each column, in the pool or in base */
    bool *changed;
    size_t changes;
    struct pool pool;
};

int draft_init(struct coulomb_draft *d, coulomb_client *c, struct layout *l,
               const struct coulomb_row *base);
void draft_fini(struct coulomb_draft *d);
/* By the column's number. Coerces, normalises, copies, compares. */
int draft_put(struct coulomb_draft *d, size_t column, const coulomb_value *v);
/* The column's number, or COULOMB_E_COLUMN. */
int draft_column(struct coulomb_draft *d, const char *name);
/* The row as it stands. */
int draft_row(struct coulomb_draft *d, const coulomb_key *key, struct coulomb_row **out);

#endif
