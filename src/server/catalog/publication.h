/* The publication: which tables stream, and under which replica identity
 * (shape-protocol.md 5.5). All functions run on a worker thread's connection. */
#ifndef COULOMB_SERVER_CATALOG_PUBLICATION_H
#define COULOMB_SERVER_CATALOG_PUBLICATION_H

#include "server/catalog/table.h"
#include "server/pg/pg.h"

struct publication_config {
    const char *name;    /* electric_publication_<stream id> */
    bool manual;         /* only verify, never alter */
    int lock_timeout_ms; /* 5000 */
};

/* Makes sure that every change to the table committed after this call returns is streamed with
 * its whole old row: adds the table to the publication, sets REPLICA IDENTITY FULL (on it and
 * all descendants), then waits until each transaction that had written to it before is over
 * (such a transaction would otherwise be in neither snapshot nor stream). INHERITS children are
 * added as members of their own; one made later is not, until the next call.
 * *added, in: treat the table as newly added, that is, wait for its present writers even if it
 * is a member already. True on a table's first shape since the start (an earlier process may
 * have died between ADD and wait), again after a failed call that left it true, and where the
 * stream does not follow (below), once its partitions are others. Out: the table was added now.
 * ERR_RETRY: lock timeout ("Snapshot timed out while waiting for a table lock"), connection;
 * ERR_DB with the texts of 5.5 and, behind them, the SQL that a DBA should run. err->http_status
 * is 503. */
int publication_ensure(PGconn *conn, const struct publication_config *config,
                       const struct table *table, bool *added, struct err *err);
/* Whether the stream tells by itself that a table it knew was attached to one that is
 * published. Before Postgres 15 it goes on withholding such a table. */
bool publication_follows(const PGconn *conn);
/* Makes sure that every change to those tables committed after this call returns is streamed,
 * whenever they were attached to what is published; what was committed before may be lost. The
 * publication is altered for it, or if that is not ours to do, must have been altered since:
 * else ERR_DB with the SQL. */
int publication_follow(PGconn *conn, const struct publication_config *config,
                       const uint32_t *oids, size_t count, struct err *err);
/* Takes the table out again (its last shape is gone); not being a member is success, and so is
 * manual mode. INHERITS children stay members. */
int publication_drop(PGconn *conn, const struct publication_config *config, uint32_t oid,
                     struct err *err);

/* What a periodic check found of one table that has shapes. */
enum publication_fault {
    PUBLICATION_FINE,
    PUBLICATION_TABLE_GONE,    /* dropped, or another name or OID now */
    PUBLICATION_TABLE_MISSING, /* not in the publication */
    PUBLICATION_IDENTITY_LOST  /* not FULL (on itself or a partition) */
};

struct publication_check {
    uint32_t oid;                 /* in */
    struct slice schema, name;    /* in, borrowed */
    enum publication_fault fault; /* out */
    struct table *now; /* out: its present definition (retained), NULL when gone */
};

/* Verifies the publication (exists, publishes all four operations: else ERR_DB with the text of
 * 5.5) and each table. On failure no `now` is set. */
int publication_verify(PGconn *conn, const struct publication_config *config,
                       struct publication_check *checks, size_t count, struct err *err);

/* OIDs of the tables that the publication names, sorted, malloc'd; none when this role may not
 * alter it. INHERITS children are among them (see publication_ensure): a caller that drops what
 * has no shape spares the `children` of tables that have some. */
int publication_members(PGconn *conn, const struct publication_config *config,
                        uint32_t **oids, size_t *count, struct err *err);

#endif
