/* Which tables a publication covers, with their descendants.
 *
 * Membership comes in four ways: FOR ALL TABLES, a schema (Postgres 15), the table's own
 * name, or a partitioned ancestor's. INHERITS children are different from partitions:
 * adding their parent adds those that are there, each by name, and none that come later.
 */
#include "server/catalog/coverage.h"

#include <stdlib.h>

#include "server/catalog/read.h"

#define LIST_MAX_BYTES (64u << 20)

/* $1: publication, $2: OIDs. `chain` climbs from each table through the partitioned
 * tables above it. Rows: root, oid, schema, name, kind, member, covered, full. */
#define QUERY(schema_member)                                                             \
    "WITH RECURSIVE pub AS ("                                                            \
    " SELECT oid, puballtables FROM pg_catalog.pg_publication WHERE pubname = $1::text"  \
    "), tree(root, oid) AS ("                                                            \
    " SELECT oid, oid FROM pg_catalog.pg_class WHERE oid = ANY ($2::pg_catalog.oid[])"   \
    " UNION SELECT tree.root, i.inhrelid FROM tree"                                      \
    " JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid"                           \
    "), chain(oid, top) AS ("                                                            \
    " SELECT oid, oid FROM tree"                                                         \
    " UNION SELECT chain.oid, i.inhparent FROM chain"                                    \
    " JOIN pg_catalog.pg_class c ON c.oid = chain.top AND c.relispartition"              \
    " JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid"                               \
    "), via(oid, top) AS ("                                                              \
    " SELECT chain.oid, chain.top FROM chain CROSS JOIN pub"                             \
    " JOIN pg_catalog.pg_class c ON c.oid = chain.top"                                   \
    " WHERE pub.puballtables OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel m"     \
    "  WHERE m.prpubid = pub.oid AND m.prrelid = chain.top)" schema_member ") "          \
    "SELECT tree.root, c.oid, n.nspname, c.relname, c.relkind,"                          \
    " EXISTS (SELECT FROM via WHERE via.oid = c.oid AND via.top = c.oid),"               \
    " EXISTS (SELECT FROM via WHERE via.oid = c.oid),"                                   \
    " c.relreplident = 'f' "                                                             \
    "FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid AND c.relkind IN ('r', "   \
    "'p') "                                                                              \
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "                          \
    "ORDER BY tree.root, c.oid"

static const char query_before_15[] = QUERY("");
static const char query_15[] =
    QUERY(" OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace m"
          "  WHERE m.pnpubid = pub.oid AND m.pnnspid = c.relnamespace)");

static const char query_publication[] =
    "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate,"
    " pg_catalog.pg_has_role(pubowner, 'USAGE') "
    "FROM pg_catalog.pg_publication WHERE pubname = $1::text";

int coverage_check_publication(PGconn *conn, const char *name, bool *owned,
                               struct err *err)
{
    PGresult *rows = PQexecParams(conn, query_publication, 1, NULL,
                                  (const char *const[]){name}, NULL, NULL, 0);
    int rc = 0;
    if (PQresultStatus(rows) != PGRES_TUPLES_OK)
        rc = pg_fail(err, conn, rows, "Reading the publication failed");
    else if (PQntuples(rows) == 0)
        rc = err_set(err, ERR_DB,
                     "Publication \"%s\" not found in the database. An administrator can "
                     "create it: CREATE PUBLICATION \"%s\";",
                     name, name);
    else if (*PQgetvalue(rows, 0, 0) != 't')
        rc = err_set(
            err, ERR_DB,
            "Publication \"%s\" does not publish all required operations: INSERT, "
            "UPDATE, DELETE, TRUNCATE. Its owner can change that: ALTER PUBLICATION "
            "\"%s\" SET (publish = 'insert, update, delete, truncate');",
            name, name);
    else if (owned)
        *owned = *PQgetvalue(rows, 0, 1) == 't';
    if (rc && err)
        err->http_status = 503;
    PQclear(rows);
    return rc;
}

static uint32_t oid_at(const PGresult *rows, int row, int field)
{
    return (uint32_t)strtoul(PQgetvalue(rows, row, field), NULL, 10);
}

static int fill(struct coverage *c, struct err *err)
{
    c->count = (size_t)PQntuples(c->rows);
    c->tables = calloc(c->count ? c->count : 1, sizeof(*c->tables));
    if (!c->tables)
        return err_set(err, ERR_MEMORY, "No memory for the publication's tables");
    for (size_t i = 0; i < c->count; i++) {
        int row = (int)i;
        c->tables[i] = (struct coverage_table){
            .root = oid_at(c->rows, row, 0),
            .oid = oid_at(c->rows, row, 1),
            .schema = slice_of(PQgetvalue(c->rows, row, 2)),
            .name = slice_of(PQgetvalue(c->rows, row, 3)),
            .kind = *PQgetvalue(c->rows, row, 4),
            .member = *PQgetvalue(c->rows, row, 5) == 't',
            .covered = *PQgetvalue(c->rows, row, 6) == 't',
            .full = *PQgetvalue(c->rows, row, 7) == 't',
        };
    }
    return 0;
}

int coverage_read(PGconn *conn, const char *publication, const uint32_t *roots,
                  size_t count, struct coverage *out, struct err *err)
{
    struct buf list;
    *out = (struct coverage){0};
    buf_init(&list, LIST_MAX_BYTES);
    read_put_oids(&list, roots, count);
    buf_putc(&list, '\0');
    if (list.failed) {
        buf_fini(&list);
        return err_set(err, ERR_MEMORY, "No memory for the publication's tables");
    }
    const char *query = PQserverVersion(conn) >= 150000 ? query_15 : query_before_15;
    out->rows = PQexecParams(conn, query, 2, NULL,
                             (const char *const[]){publication, list.ptr}, NULL, NULL, 0);
    buf_fini(&list);
    if (PQresultStatus(out->rows) != PGRES_TUPLES_OK)
        return pg_fail(err, conn, out->rows, "Reading the publication failed");
    return fill(out, err);
}

void coverage_fini(struct coverage *c)
{
    free(c->tables);
    PQclear(c->rows);
    *c = (struct coverage){0};
}
