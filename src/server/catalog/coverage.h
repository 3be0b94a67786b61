/* What a publication covers of a table and its descendants; shared inside the module. */
#ifndef COULOMB_SERVER_CATALOG_COVERAGE_H
#define COULOMB_SERVER_CATALOG_COVERAGE_H

#include "server/catalog/publication.h"

/* The table itself or one of its descendants. */
struct coverage_table {
    uint32_t root; /* the table that was asked for */
    uint32_t oid;
    struct slice schema; /* borrowed from the coverage */
    struct slice name;
    char kind;    /* 'r' or 'p' */
    bool member;  /* named itself, or by its schema or FOR ALL TABLES */
    bool covered; /* member, or a partition of a member */
    bool full;    /* REPLICA IDENTITY FULL */
};

struct coverage {
    PGresult *rows;
    struct coverage_table *tables; /* by root, then OID: lock order */
    size_t count;
};

/* ERR_DB with the text of 5.5 when there is no such publication or it doesn't publish all
 * four operations. *owned (may be NULL): whether this role may alter it. */
int coverage_check_publication(PGconn *conn, const char *name, bool *owned,
                               struct err *err);
/* Tables that are gone have no row. coverage_fini also after a failure. */
int coverage_read(PGconn *conn, const char *publication, const uint32_t *roots,
                  size_t count, struct coverage *out, struct err *err);
void coverage_fini(struct coverage *c);

/* A change of this table would not reach the stream. Of partitioned tables only the one
 * asked for counts: partitions made later stream by its membership. */
static inline bool coverage_missing(const struct coverage_table *t)
{
    return !t->covered && (t->kind == 'r' || t->oid == t->root);
}

/* Changes stream under the names of the leaves, whose identity counts. */
static inline bool coverage_unidentified(const struct coverage_table *t)
{
    return !t->full && t->kind == 'r';
}

/* writers.c: waits until each transaction that holds a lock for writing on the table or a
 * descendant at this moment is over. ERR_RETRY at until_ms (clock_mono_ms). *waited:
 * there was one. */
int writers_wait(PGconn *conn, uint32_t oid, int64_t until_ms, bool *waited,
                 struct err *err);

#define LOCK_TIMEOUT_TEXT "Snapshot timed out while waiting for a table lock"

#endif
