/* bench_overlap CONNINFO PORT QUERY COUNT SAMPLE SQL: SAMPLE clients, each parked at the end of one of
 * COUNT shapes (in the query, %d becomes its number, from 1, evenly spread); runs the SQL, which is
 * to concern all of them, and prints the milliseconds from then until the last client has its
 * answer. */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http.h"

#define SAMPLE_MAX 256
#define SETTLE_US  300000 /* until the last request is parked */

static struct {
    int port;
    const char *before; /* of the query's %d */
    const char *after;
    pthread_barrier_t parked;
} w;

struct client {
    pthread_t thread;
    long shape;
    double answered_s;
};

static void *run(void *arg)
{
    struct client *client = arg;
    struct connection c;
    struct answer a;
    char path[4096];
    char handle[128];

    connection_open(&c, w.port);
    snprintf(path, sizeof(path), "/v1/shape?offset=now&%s%ld%s", w.before, client->shape,
             w.after);
    http_get(&c, path, &a, NULL, NULL);
    memcpy(handle, a.handle, sizeof(handle));
    snprintf(path, sizeof(path), "/v1/shape?offset=%s&handle=%s&live=true&%s%ld%s",
             a.offset, handle, w.before, client->shape, w.after);
    pthread_barrier_wait(&w.parked);
    http_get(&c, path, &a, NULL, NULL);
    client->answered_s = now_s();
    if (a.status != 200 || a.body_bytes < 100)
        die("shape %ld was answered with status %d and %llu bytes", client->shape,
            a.status, (unsigned long long)a.body_bytes);
    connection_close(&c);
    return NULL;
}

static PGconn *connect_or_die(const char *conninfo)
{
    PGconn *conn = PQconnectdb(conninfo);

    if (PQstatus(conn) != CONNECTION_OK)
        die("%s", PQerrorMessage(conn));
    return conn;
}

int main(int argc, char **argv)
{
    static struct client clients[SAMPLE_MAX];
    char *number = argc == 7 ? strstr(argv[3], "%d") : NULL;

    if (!number)
        die("usage: bench_overlap CONNINFO PORT QUERY COUNT SAMPLE SQL, with %%d in the "
            "query");
    *number = '\0';
    long count = strtol(argv[4], NULL, 10);
    long sample = strtol(argv[5], NULL, 10);
    if (sample < 1 || sample > SAMPLE_MAX || sample > count)
        die("a sample is from 1 to %d of the shapes", SAMPLE_MAX);
    w.port = (int)strtol(argv[2], NULL, 10);
    w.before = argv[3];
    w.after = number + 2;
    pthread_barrier_init(&w.parked, NULL, (unsigned)sample + 1);
    PGconn *conn = connect_or_die(argv[1]);
    for (long i = 0; i < sample; i++) {
        clients[i].shape = 1 + i * count / sample;
        if (pthread_create(&clients[i].thread, NULL, run, &clients[i]) != 0)
            die("can't make client %ld", i);
    }
    pthread_barrier_wait(&w.parked);
    usleep(SETTLE_US);
    double begin = now_s();
    PGresult *r = PQexec(conn, argv[6]);
    if (PQresultStatus(r) != PGRES_COMMAND_OK)
        die("%s", PQerrorMessage(conn));
    PQclear(r);
    double last = begin;
    for (long i = 0; i < sample; i++) {
        pthread_join(clients[i].thread, NULL);
        if (clients[i].answered_s > last)
            last = clients[i].answered_s;
    }
    printf("%.3f\n", (last - begin) * 1000);
    PQfinish(conn);
    return 0;
}
