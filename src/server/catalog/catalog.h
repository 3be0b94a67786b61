/* Questions to the system catalog, answered on a pool's worker threads. */
#ifndef COULOMB_SERVER_CATALOG_CATALOG_H
#define COULOMB_SERVER_CATALOG_CATALOG_H

#include "server/catalog/table.h"
#include "server/pg/pool.h"

/* --- On a connection (worker threads) --- */

/* Ordinary and partitioned tables only; pg_catalog, information_schema and tables without
 * columns count as unknown (shape-protocol.md 1.5). ERR_NOT_FOUND, ERR_RETRY, ERR_DB. */
int catalog_read_table(PGconn *conn, struct slice schema, struct slice name,
                       struct table **out, struct err *err);
int catalog_read_table_oid(PGconn *conn, uint32_t oid, struct table **out,
                           struct err *err);

/* --- A cache above it --- */

struct catalog;

/* Called once, on a worker thread or before catalog_find returns. table is borrowed for the
 * call, NULL with err (ERR_NOT_FOUND, or ERR_RETRY: the catalog can't be reached). */
typedef void catalog_found_fn(void *ctx, struct table *table, const struct err *err);

int catalog_new(struct pool *pool, struct catalog **out);
void catalog_free(struct catalog *c); /* after its pool */
/* What an earlier process has read: it need not be asked for. */
void catalog_know_case_map(struct catalog *c, struct case_map *map);
/* A cached entry, retained, or NULL. Any thread, never blocks on Postgres. Entries
 * answer for a second: a table that no shape streams sends no word of its changes. */
struct table *catalog_cached(struct catalog *c, struct slice schema, struct slice name);
/* Looks the table up in Postgres; concurrent questions for one name share a query. */
void catalog_find(struct catalog *c, struct slice schema, struct slice name,
                  catalog_found_fn *fn, void *ctx);
/* Forgets what is cached of the table, after a Relation message or a failed snapshot. */
void catalog_forget(struct catalog *c, struct slice schema, struct slice name);
void catalog_forget_all(struct catalog *c);

#endif
