/* Whose partition a table is, and whether it was one from its beginning. */
#ifndef COULOMB_SERVER_CATALOG_LINEAGE_H
#define COULOMB_SERVER_CATALOG_LINEAGE_H

#include "server/pg/pg.h"

#define LINEAGE_MAX 64

/* `oid` belongs to `parent`. */
struct lineage_step {
    uint32_t oid;
    uint32_t parent;
    bool born; /* since it was made: it never had a row that was not its parent's too */
};

struct lineage {
    bool exists;
    size_t count;
    struct lineage_step steps[LINEAGE_MAX]; /* from the table up, in no order */
};

int lineage_read(PGconn *conn, uint32_t oid, struct lineage *out, struct err *err);
/* The table's own step, or NULL when it belongs to none. */
const struct lineage_step *lineage_step_of(const struct lineage *l, uint32_t oid);
/* Whether nothing was ever written to the table's file (a partitioned table has none). When
 * that can't be told within a second, it is not. */
int lineage_is_blank(PGconn *conn, uint32_t oid, bool *blank, struct err *err);

#endif
