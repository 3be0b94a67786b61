/* Whose partition a table is, and since when. */
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

/* Waits until a transaction that the stream tells of is visible: its commit is in the WAL a
 * moment before it is. Not longer than that many milliseconds, which is no error. */
int lineage_await(PGconn *conn, uint32_t xid, int limit_ms, struct err *err);
int lineage_read(PGconn *conn, uint32_t oid, struct lineage *out, struct err *err);
/* The table's own step, or NULL when it belongs to none. */
const struct lineage_step *lineage_step_of(const struct lineage *l, uint32_t oid);
/* Looks for an attachment, at the tables, below them or above, that is younger than the
 * last change of the publication; one in the same transaction is not. *found:
 * "schema.table", malloc'd, or NULL. The order is that of transaction ids: an attachment that
 * began before the change and ended after it passes for an older one. */
int lineage_attached_since(PGconn *conn, const char *publication, const uint32_t *oids,
                           size_t count, char **found, struct err *err);
/* Whether nothing was ever written to the table's file (a partitioned table has none). When
 * that can't be told within a second, it is not. */
int lineage_is_blank(PGconn *conn, uint32_t oid, bool *blank, struct err *err);

#endif
