/* bench_visible PORT QUERY LSN CONNINFO SLOT: waits until a reader of the shape, by long polls
 * from the end that the log has now, is told of a change at or above the LSN (decimal); prints
 * the wall clock then, in seconds. Then waits until the slot has acknowledged the LSN, and prints
 * the wall clock again. */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http.h"

static void wait_visible(int port, const char *query, unsigned long long lsn)
{
    struct connection c;
    struct answer a;
    char path[1024];
    char handle[128];

    connection_open(&c, port);
    snprintf(path, sizeof(path), "/v1/shape?%s&offset=now", query);
    http_get(&c, path, &a, NULL, NULL);
    while (a.status == 200 && strtoull(a.offset, NULL, 10) < lsn) {
        memcpy(handle, a.handle, sizeof(handle));
        snprintf(path, sizeof(path), "/v1/shape?%s&offset=%s&handle=%s&live=true", query,
                 a.offset, handle);
        http_get(&c, path, &a, NULL, NULL);
    }
    if (a.status != 200)
        die("a long poll was answered with status %d", a.status);
    connection_close(&c);
}

static void wait_acknowledged(const char *conninfo, const char *slot, const char *lsn)
{
    static const char sql[] = "SELECT confirmed_flush_lsn - '0/0' >= $2::numeric FROM "
                              "pg_replication_slots WHERE slot_name = $1";
    const char *params[] = {slot, lsn};
    PGconn *conn = PQconnectdb(conninfo);
    bool done = false;

    if (PQstatus(conn) != CONNECTION_OK)
        die("%s", PQerrorMessage(conn));
    while (!done) {
        PGresult *r = PQexecParams(conn, sql, 2, NULL, params, NULL, NULL, 0);

        if (PQresultStatus(r) != PGRES_TUPLES_OK || PQntuples(r) != 1)
            die("%s", PQerrorMessage(conn));
        done = PQgetvalue(r, 0, 0)[0] == 't';
        PQclear(r);
        if (!done)
            usleep(1000);
    }
    PQfinish(conn);
}

int main(int argc, char **argv)
{
    if (argc != 6)
        die("usage: bench_visible PORT QUERY LSN CONNINFO SLOT");
    wait_visible((int)strtol(argv[1], NULL, 10), argv[2], strtoull(argv[3], NULL, 10));
    printf("%.6f\n", wall_s());
    fflush(stdout);
    wait_acknowledged(argv[4], argv[5], argv[3]);
    printf("%.6f\n", wall_s());
    return 0;
}
