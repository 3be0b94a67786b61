/* Whose partition a table is, and since when.
 *
 * Problem: a table that is attached may bring rows, which no change in the stream tells of;
 * one that CREATE TABLE … PARTITION OF made can't. The catalog does not say which it was, but
 * it shows in the versions of its rows: both ways set attinhcount in each column's row of
 * pg_attribute, and the command that made the table also made the row of its system column
 * `tableoid`, which nothing ever changes. If a column has counted its parent since the same
 * transaction and command (or the next command id, which a default takes), no statement can
 * have written rows in between: it would have taken an id of its own. Rows that came with
 * subtransactions are covered too, as command ids count through them.
 * Rejected: comparing the rows' xmin with the table's. Subtransactions have ids of their own,
 * and a row that was updated since has a younger one. */
#include "server/catalog/lineage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/catalog/read.h"

#define OIDS_MAX_BYTES     (16u << 20)
#define AWAIT_PAUSE_MS     2
#define LOCK_NOT_AVAILABLE "55P03"
#define QUERY_CANCELLED    "57014"

/* Whether the table `t` has been a partition since it was made. */
#define BORN                                                                             \
    "EXISTS (SELECT FROM pg_catalog.pg_attribute own"                                    \
    "  JOIN pg_catalog.pg_attribute a ON a.attrelid = own.attrelid"                      \
    "  WHERE own.attrelid = t.oid AND own.attnum = -6"                                   \
    "  AND a.attnum > 0 AND a.attinhcount > 0 AND a.xmin = own.xmin"                     \
    "  AND a.cmin::text::pg_catalog.int8 - own.cmin::text::pg_catalog.int8"              \
    "   BETWEEN 0 AND 1)"

static const char query_lineage[] =
    "WITH RECURSIVE up(oid, parent) AS ("
    " SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits"
    " WHERE inhrelid = $1::pg_catalog.oid"
    " UNION SELECT i.inhrelid, i.inhparent FROM up"
    " JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.parent) "
    "SELECT t.oid, t.parent, " BORN " FROM up t "
    "UNION ALL SELECT oid, 0::pg_catalog.oid, true FROM pg_catalog.pg_class"
    " WHERE oid = $1::pg_catalog.oid";

/* $1: publication, $2: OIDs. A change of the publication is a new version of its row, or a
 * new member. */
static const char query_attached[] =
    "WITH RECURSIVE asked(oid) AS ("
    " SELECT pg_catalog.unnest($2::pg_catalog.oid[])"
    "), down(oid) AS (SELECT oid FROM asked"
    " UNION SELECT i.inhrelid FROM down"
    " JOIN pg_catalog.pg_inherits i ON i.inhparent = down.oid"
    "), up(oid) AS (SELECT oid FROM asked"
    " UNION SELECT i.inhparent FROM up"
    " JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.oid"
    "), pub AS ("
    " SELECT oid, xmin FROM pg_catalog.pg_publication WHERE pubname = $1::text"
    "), changes(xid) AS (SELECT xmin FROM pub"
    " UNION ALL SELECT m.xmin FROM pg_catalog.pg_publication_rel m"
    " JOIN pub ON pub.oid = m.prpubid) "
    "SELECT pg_catalog.format('%s.%s', n.nspname, c.relname)"
    " FROM (SELECT oid FROM down UNION SELECT oid FROM up) t"
    " JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relispartition"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid "
    "WHERE NOT " BORN " AND NOT EXISTS (SELECT FROM changes WHERE"
    "  pg_catalog.age(xid) BETWEEN 0 AND pg_catalog.age(i.xmin)) "
    "ORDER BY c.oid DESC LIMIT 1";

static uint32_t oid_at(const PGresult *rows, int row, int field)
{
    uint64_t oid = 0;
    slice_to_u64(slice_of(PQgetvalue(rows, row, field)), &oid);
    return (uint32_t)oid;
}

/* A transaction gives up the lock on its id after it has become visible. */
int lineage_await(PGconn *conn, uint32_t xid, int limit_ms, struct err *err)
{
    char sql[128];
    int64_t until_ms = clock_mono_ms() + limit_ms;
    snprintf(sql, sizeof sql,
             "SELECT FROM pg_catalog.pg_locks WHERE locktype = 'transactionid'"
             " AND transactionid = '%u'",
             (unsigned)xid);
    for (;;) {
        PGresult *rows = NULL;
        int rc = pg_exec(conn, sql, &rows, err);
        bool over = rc < 0 || PQntuples(rows) == 0;
        PQclear(rows);
        if (over || clock_mono_ms() >= until_ms)
            return rc;
        clock_sleep_ms(AWAIT_PAUSE_MS);
    }
}

int lineage_read(PGconn *conn, uint32_t oid, struct lineage *out, struct err *err)
{
    char text[16];
    *out = (struct lineage){0};
    snprintf(text, sizeof text, "%u", (unsigned)oid);
    PGresult *rows = PQexecParams(conn, query_lineage, 1, NULL,
                                  (const char *const[]){text}, NULL, NULL, 0);
    int rc = 0;
    if (PQresultStatus(rows) != PGRES_TUPLES_OK)
        rc = pg_fail(err, conn, rows, "Reading a partition's place failed");
    for (int i = 0; rc == 0 && i < PQntuples(rows); i++) {
        struct lineage_step step = {oid_at(rows, i, 0), oid_at(rows, i, 1),
                                    *PQgetvalue(rows, i, 2) == 't'};
        if (step.parent == 0)
            out->exists = true;
        else if (out->count < LINEAGE_MAX)
            out->steps[out->count++] = step;
    }
    PQclear(rows);
    return rc;
}

const struct lineage_step *lineage_step_of(const struct lineage *l, uint32_t oid)
{
    for (size_t i = 0; i < l->count; i++) {
        if (l->steps[i].oid == oid)
            return &l->steps[i];
    }
    return NULL;
}

int lineage_attached_since(PGconn *conn, const char *publication, const uint32_t *oids,
                           size_t count, char **found, struct err *err)
{
    struct buf list;
    *found = NULL;
    buf_init(&list, OIDS_MAX_BYTES);
    read_put_oids(&list, oids, count);
    buf_putc(&list, '\0');
    if (list.failed) {
        buf_fini(&list);
        return err_set(err, ERR_MEMORY, "No memory for a list of partitions");
    }
    PGresult *rows =
        PQexecParams(conn, query_attached, 2, NULL,
                     (const char *const[]){publication, list.ptr}, NULL, NULL, 0);
    buf_fini(&list);
    int rc = 0;
    if (PQresultStatus(rows) != PGRES_TUPLES_OK)
        rc = pg_fail(err, conn, rows, "Reading when a partition was attached failed");
    else if (PQntuples(rows) > 0 && (*found = strdup(PQgetvalue(rows, 0, 0))) == NULL)
        rc = err_set(err, ERR_MEMORY, "No memory for a partition's name");
    PQclear(rows);
    return rc;
}

int lineage_is_blank(PGconn *conn, uint32_t oid, bool *blank, struct err *err)
{
    char sql[200];
    PGresult *rows = NULL;
    struct err local = {0};
    *blank = false;
    snprintf(sql, sizeof sql,
             "SELECT relkind = 'p' OR pg_catalog.pg_relation_size(oid) = 0 "
             "FROM pg_catalog.pg_class WHERE oid = %u",
             (unsigned)oid);
    /* The size is asked for under the lock that every reader takes. */
    int rc = pg_exec(conn, "BEGIN; SET LOCAL lock_timeout = 1000", NULL, &local);
    rc = rc < 0 ? rc : pg_exec(conn, sql, &rows, &local);
    if (rc == 0)
        *blank = PQntuples(rows) == 1 && *PQgetvalue(rows, 0, 0) == 't';
    PQclear(rows);
    int end = pg_exec(conn, "ROLLBACK", NULL, rc < 0 ? NULL : &local);
    if (strcmp(local.sqlstate, LOCK_NOT_AVAILABLE) == 0 ||
        strcmp(local.sqlstate, QUERY_CANCELLED) == 0)
        rc = 0;
    rc = rc < 0 ? rc : end;
    if (rc < 0 && err != NULL)
        *err = local;
    return rc;
}
