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
#include <string.h>

#define LOCK_NOT_AVAILABLE "55P03"
#define QUERY_CANCELLED    "57014"

static const char query_lineage[] =
    "WITH RECURSIVE up(oid, parent) AS ("
    " SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits"
    " WHERE inhrelid = $1::pg_catalog.oid"
    " UNION SELECT i.inhrelid, i.inhparent FROM up"
    " JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.parent) "
    "SELECT up.oid, up.parent, EXISTS (SELECT FROM pg_catalog.pg_attribute own"
    "  JOIN pg_catalog.pg_attribute a ON a.attrelid = own.attrelid"
    "  WHERE own.attrelid = up.oid AND own.attnum = -6"
    "  AND a.attnum > 0 AND a.attinhcount > 0 AND a.xmin = own.xmin"
    "  AND a.cmin::text::pg_catalog.int8 - own.cmin::text::pg_catalog.int8"
    "   BETWEEN 0 AND 1) FROM up "
    "UNION ALL SELECT oid, 0::pg_catalog.oid, true FROM pg_catalog.pg_class"
    " WHERE oid = $1::pg_catalog.oid";

static uint32_t oid_at(const PGresult *rows, int row, int field)
{
    uint64_t oid = 0;
    slice_to_u64(slice_of(PQgetvalue(rows, row, field)), &oid);
    return (uint32_t)oid;
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
