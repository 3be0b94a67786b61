/* See row_security.h. */
#include "server/gate/row_security.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/map.h"

struct known {
    enum row_security_state state;
    int64_t asked_ms;
};

struct row_security {
    pthread_mutex_t lock;
    struct map tables;
};

struct row_security *row_security_new(void)
{
    struct row_security *rs = calloc(1, sizeof *rs);

    if (!rs)
        return NULL;
    pthread_mutex_init(&rs->lock, NULL);
    map_init(&rs->tables);
    return rs;
}

void row_security_free(struct row_security *rs)
{
    void *known;
    size_t it = 0;

    if (!rs)
        return;
    while (map_next(&rs->tables, &it, &(struct slice){NULL, 0}, &known))
        free(known);
    map_fini(&rs->tables);
    pthread_mutex_destroy(&rs->lock);
    free(rs);
}

static struct known look_up(struct row_security *rs, const char *table)
{
    struct known known = {ROW_SECURITY_UNKNOWN, 0};

    pthread_mutex_lock(&rs->lock);
    const struct known *found = map_get(&rs->tables, slice_of(table));
    if (found)
        known = *found;
    pthread_mutex_unlock(&rs->lock);
    return known;
}

/* Without memory it is asked again the next time. */
static void remember(struct row_security *rs, const char *table, struct known known)
{
    pthread_mutex_lock(&rs->lock);
    struct known *entry = map_get(&rs->tables, slice_of(table));
    if (!entry) {
        entry = malloc(sizeof *entry);
        if (entry && map_put(&rs->tables, slice_of(table), entry, NULL) != 0) {
            free(entry);
            entry = NULL;
        }
    }
    if (entry)
        *entry = known;
    pthread_mutex_unlock(&rs->lock);
}

enum row_security_state row_security_known(struct row_security *rs, const char *table,
                                           int64_t now_ms)
{
    struct known known = look_up(rs, table);

    return now_ms - known.asked_ms < ROW_SECURITY_KNOWN_MS ? known.state
                                                           : ROW_SECURITY_UNKNOWN;
}

static int ask(PGconn *conn, const char *table, bool *secured, struct err *err)
{
    const char *const values[] = {table};
    PGresult *result = PQexecParams(
        conn,
        "SELECT c.relrowsecurity FROM parse_ident($1) AS p, pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = CASE WHEN cardinality(p) > 1 THEN p[1] ELSE 'public' END "
        "AND c.relname = p[cardinality(p)]",
        1, NULL, values, NULL, NULL, 0);
    int rc = 0;
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        rc = pg_fail(err, conn, result, "looking for row-level security");
    else
        *secured = PQntuples(result) > 0 && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return rc;
}

enum row_security_state row_security_ask(struct row_security *rs, PGconn *conn,
                                         const char *table, int64_t now_ms,
                                         struct err *err)
{
    bool secured = true;

    if (!conn || ask(conn, table, &secured, err) != 0)
        return look_up(rs, table).state;
    struct known known = {secured ? ROW_SECURITY_ON : ROW_SECURITY_OFF, now_ms};
    remember(rs, table, known);
    return known.state;
}
