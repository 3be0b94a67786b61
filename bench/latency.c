/* bench_latency PORT QUERY CONNINFO N: how long after a statement is sent, whose commit follows at
 * once, (a) a long poll that was parked has its whole answer, (b) another connection that LISTENs
 * is told by NOTIFY. Alternately, N times each, from the same two threads' positions: one thread
 * sends, the other waits in a blocking read. Prints p50 and p99 of both, in microseconds. */
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http.h"

#define SETTLE_US 3000 /* so that whoever is to wait does */

struct reader {
    int port;
    const char *query;
    PGconn *listener;
    bool http;
    atomic_int ready; /* counts up when about to wait */
    _Atomic double told;
    atomic_int done;
    int rounds;
};

static void exec_sql(PGconn *conn, const char *sql)
{
    PGresult *r = PQexec(conn, sql);

    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        die("%s: %s", sql, PQerrorMessage(conn));
    PQclear(r);
}

static PGconn *connect_db(const char *conninfo)
{
    PGconn *conn = PQconnectdb(conninfo);

    if (PQstatus(conn) != CONNECTION_OK)
        die("%s", PQerrorMessage(conn));
    return conn;
}

static void told(struct reader *r)
{
    atomic_store(&r->told, now_s());
    atomic_fetch_add(&r->done, 1);
}

static void *read_http(void *arg)
{
    struct reader *r = arg;
    struct connection c;
    struct answer a;
    char path[1024];
    char handle[128];

    connection_open(&c, r->port);
    snprintf(path, sizeof(path), "/v1/shape?%s&offset=now", r->query);
    http_get(&c, path, &a, NULL, NULL);
    for (int i = 0; i < r->rounds; i++) {
        memcpy(handle, a.handle, sizeof(handle));
        snprintf(path, sizeof(path), "/v1/shape?%s&offset=%s&handle=%s&live=true",
                 r->query, a.offset, handle);
        atomic_fetch_add(&r->ready, 1);
        http_get(&c, path, &a, NULL, NULL);
        if (a.status != 200)
            die("a long poll was answered with status %d", a.status);
        told(r);
    }
    connection_close(&c);
    return NULL;
}

static void *read_notify(void *arg)
{
    struct reader *r = arg;

    for (int i = 0; i < r->rounds; i++) {
        struct pollfd p = {.fd = PQsocket(r->listener), .events = POLLIN};
        PGnotify *n = NULL;

        atomic_fetch_add(&r->ready, 1);
        while (!n) {
            if (poll(&p, 1, -1) < 0 && errno != EINTR)
                die("poll: %s", strerror(errno));
            PQconsumeInput(r->listener);
            n = PQnotifies(r->listener);
        }
        told(r);
        PQfreemem(n);
    }
    return NULL;
}

static double once(struct reader *r, PGconn *writer, int i, const char *sql)
{
    double start;

    while (atomic_load(&r->ready) <= i)
        usleep(100);
    usleep(SETTLE_US);
    start = now_s();
    exec_sql(writer, sql);
    while (atomic_load(&r->done) <= i)
        usleep(20);
    return (atomic_load(&r->told) - start) * 1e6;
}

static int compare(const void *a, const void *b)
{
    double x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x < y ? -1 : x > y;
}

static void report(const char *name, double *us, int n)
{
    qsort(us, (size_t)n, sizeof(*us), compare);
    printf("%s %.1f %.1f\n", name, us[n / 2], us[(int)((double)n * 0.99)]);
}

int main(int argc, char **argv)
{
    struct reader http = {.http = true};
    struct reader notify = {.http = false};
    pthread_t threads[2];
    PGconn *writer;
    double *us[2];

    if (argc != 5)
        die("usage: bench_latency PORT QUERY CONNINFO N");
    http.port = (int)strtol(argv[1], NULL, 10);
    http.query = argv[2];
    http.rounds = notify.rounds = (int)strtol(argv[4], NULL, 10);
    writer = connect_db(argv[3]);
    notify.listener = connect_db(argv[3]);
    exec_sql(notify.listener, "LISTEN bench");
    us[0] = calloc((size_t)http.rounds + 1, sizeof(double));
    us[1] = calloc((size_t)http.rounds + 1, sizeof(double));
    pthread_create(&threads[0], NULL, read_http, &http);
    pthread_create(&threads[1], NULL, read_notify, &notify);
    for (int i = 0; i < http.rounds; i++) {
        us[0][i] = once(&http, writer, i, "UPDATE bench_latency SET n = n + 1");
        us[1][i] =
            once(&notify, writer, i, "UPDATE bench_other SET n = n + 1; NOTIFY bench");
    }
    report("http", us[0], http.rounds);
    report("notify", us[1], http.rounds);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    PQfinish(writer);
    PQfinish(notify.listener);
    return 0;
}
