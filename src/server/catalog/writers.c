/* Waiting for the transactions that wrote to a table before it was published.
 *
 * Problem: what a transaction wrote before the ADD is not streamed, not even when it
 * commits long after; and a snapshot taken before its commit doesn't show it either.
 * Approach: a transaction keeps its table locks to its end, so those that hold a lock for
 * writing right after the ADD has committed are all that may have written before. They
 * are listed once, by virtual transaction (a prepared transaction has one too), and
 * waited for; later writers are not, so that a busy table can't hold a shape up for ever.
 * Rejected: taking a SHARE lock, which waits for the same transactions but makes every
 * later writer queue behind it. The pause between two looks is a pg_sleep, so that
 * cancelling the query ends the wait. */
#include "server/catalog/coverage.h"

#include "base/clock.h"

#define PAUSE_FIRST_MS 10
#define PAUSE_MAX_MS   50

static const char query_writers[] =
    "WITH RECURSIVE tree(oid) AS ("
    " SELECT $1::pg_catalog.oid"
    " UNION SELECT i.inhrelid FROM tree"
    " JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid) "
    "SELECT pg_catalog.array_agg(DISTINCT l.virtualtransaction) "
    "FROM pg_catalog.pg_locks l JOIN tree ON tree.oid = l.relation "
    "WHERE l.locktype = 'relation' AND l.granted"
    " AND l.database = (SELECT oid FROM pg_catalog.pg_database"
    "  WHERE datname = pg_catalog.current_database())"
    " AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',"
    "  'AccessExclusiveLock')"
    " AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()";

static const char query_pause[] =
    "SELECT pg_catalog.pg_sleep($1::pg_catalog.float8 / 1000)";

static const char query_left[] =
    "SELECT pg_catalog.array_agg(DISTINCT virtualtransaction) "
    "FROM pg_catalog.pg_locks WHERE virtualtransaction = ANY ($1::text[])";

static int ask(PGconn *conn, const char *sql, const char *param, PGresult **rows,
               struct err *err)
{
    *rows = PQexecParams(conn, sql, 1, NULL, &param, NULL, NULL, 0);
    if (PQresultStatus(*rows) == PGRES_TUPLES_OK)
        return 0;
    int rc = pg_fail(err, conn, *rows, "Waiting for writers of the table failed");
    PQclear(*rows);
    *rows = NULL;
    return rc;
}

static int pause_ms(PGconn *conn, int64_t ms, struct err *err)
{
    PGresult *rows = NULL;
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)ms);
    int rc = ask(conn, query_pause, text, &rows, err);
    PQclear(rows);
    return rc;
}

int writers_wait(PGconn *conn, uint32_t oid, int64_t until_ms, bool *waited,
                 struct err *err)
{
    PGresult *writers = NULL;
    char text[16];
    int64_t ms = PAUSE_FIRST_MS;
    snprintf(text, sizeof(text), "%u", (unsigned)oid);
    int rc = ask(conn, query_writers, text, &writers, err);
    *waited = !rc && !PQgetisnull(writers, 0, 0);
    while (!rc && !PQgetisnull(writers, 0, 0)) {
        int64_t left = until_ms - clock_mono_ms();
        PGresult *remaining = NULL;
        if (left <= 0) {
            rc = err_set(err, ERR_RETRY, LOCK_TIMEOUT_TEXT);
            break;
        }
        rc = pause_ms(conn, ms < left ? ms : left, err);
        if (rc)
            break;
        ms = ms * 2 < PAUSE_MAX_MS ? ms * 2 : PAUSE_MAX_MS;
        rc = ask(conn, query_left, PQgetvalue(writers, 0, 0), &remaining, err);
        PQclear(writers);
        writers = remaining;
    }
    PQclear(writers);
    return rc;
}
