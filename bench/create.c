/* bench_create PORT QUERY COUNT CONNECTIONS: asks for COUNT shapes from the beginning, on so many
 * connections at a time; in the query, %d becomes the number of the shape, from 1. Prints the
 * seconds that it took. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"

#define CONNECTIONS_MAX 256

struct work {
    int port;
    const char *before; /* of the query's %d */
    const char *after;
    long count;
    atomic_long next;
};

static void *run(void *arg)
{
    struct work *w = arg;
    struct connection c;
    long n;

    connection_open(&c, w->port);
    while ((n = atomic_fetch_add(&w->next, 1)) <= w->count) {
        struct answer a;
        char path[4096];

        snprintf(path, sizeof(path), "/v1/shape?offset=-1&%s%ld%s", w->before, n,
                 w->after);
        http_get(&c, path, &a, NULL, NULL);
        if (a.status != 200)
            die("%s was answered with status %d", path, a.status);
    }
    connection_close(&c);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[CONNECTIONS_MAX];
    char *number = argc == 5 ? strstr(argv[2], "%d") : NULL;

    if (!number)
        die("usage: bench_create PORT QUERY COUNT CONNECTIONS, with %%d in the query");
    *number = '\0';
    struct work w = {.port = (int)strtol(argv[1], NULL, 10),
                     .before = argv[2],
                     .after = number + 2,
                     .count = strtol(argv[3], NULL, 10),
                     .next = 1};
    long connections = strtol(argv[4], NULL, 10);
    if (connections < 1 || connections > CONNECTIONS_MAX)
        die("from 1 to %d connections", CONNECTIONS_MAX);
    double begin = now_s();
    for (long i = 0; i < connections; i++)
        if (pthread_create(&threads[i], NULL, run, &w) != 0)
            die("can't make thread %ld", i);
    for (long i = 0; i < connections; i++)
        pthread_join(threads[i], NULL);
    printf("%.6f\n", now_s() - begin);
    return 0;
}
