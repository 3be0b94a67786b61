/* bench_roundtrip PORT TABLE SECRET TOKEN N: how long from sending a write until its own txid is in the
 * stream, as another connection's long poll shows it. N times, one after the other. Prints p50 and p99 in
 * milliseconds. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"

#define BODY_BYTES 65536

struct follower {
    int port;
    const char *table;
    const char *secret;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned long seen; /* the newest txid */
    double seen_s;
    bool ready;
    char body[BODY_BYTES];
    size_t len;
};

static void keep(void *ctx, const char *bytes, size_t len)
{
    struct follower *f = ctx;

    if (f->len + len >= sizeof(f->body))
        die("an answer is too long");
    memcpy(f->body + f->len, bytes, len);
    f->len += len;
    f->body[f->len] = '\0';
}

static void look(struct follower *f)
{
    static const char mark[] = "\"txids\":[";
    double now = now_s();

    for (const char *at = f->body; (at = strstr(at, mark)); at++) {
        unsigned long txid = strtoul(at + sizeof(mark) - 1, NULL, 10);

        pthread_mutex_lock(&f->lock);
        f->seen = txid;
        f->seen_s = now;
        pthread_cond_signal(&f->changed);
        pthread_mutex_unlock(&f->lock);
    }
}

static void *follow(void *arg)
{
    struct follower *f = arg;
    struct connection c;
    struct answer a;
    char path[1024];

    connection_open(&c, f->port);
    snprintf(path, sizeof(path), "/v1/shape?table=%s&offset=now&secret=%s", f->table,
             f->secret);
    http_get(&c, path, &a, NULL, NULL);
    for (;;) {
        char handle[128];

        memcpy(handle, a.handle, sizeof(handle));
        snprintf(path, sizeof(path),
                 "/v1/shape?table=%s&secret=%s&offset=%s&handle=%s&live=true", f->table,
                 f->secret, a.offset, handle);
        pthread_mutex_lock(&f->lock);
        f->ready = true;
        pthread_cond_signal(&f->changed);
        pthread_mutex_unlock(&f->lock);
        f->len = 0;
        f->body[0] = '\0';
        http_get(&c, path, &a, keep, f);
        look(f);
    }
    return NULL;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double write_once(struct follower *f, struct connection *c, const char *token,
                         long n)
{
    char body[512];
    char answer[1024];
    struct answer a;
    double began = now_s();

    snprintf(body, sizeof(body),
             "{\"id\":\"r%ld-%.0f\",\"mutations\":[{\"op\":\"insert\",\"table\":\"%s\","
             "\"values\":{\"v\":\"x\"}}]}",
             n, wall_s() * 1e6, f->table);
    http_post(c, "/v1/transactions", token, body, &a, answer, sizeof(answer));
    const char *at = strstr(answer, "\"txid\":");
    if (a.status != 200 || !at)
        die("a write was answered with status %d: %s", a.status, answer);
    unsigned long txid = strtoul(at + 7, NULL, 10);
    pthread_mutex_lock(&f->lock);
    while (f->seen != txid)
        pthread_cond_wait(&f->changed, &f->lock);
    double took = f->seen_s - began;
    pthread_mutex_unlock(&f->lock);
    return took;
}

int main(int argc, char **argv)
{
    static struct follower f = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                .changed = PTHREAD_COND_INITIALIZER};
    struct connection c;
    pthread_t thread;

    if (argc != 6)
        die("usage: bench_roundtrip PORT TABLE SECRET TOKEN N");
    f.port = (int)strtol(argv[1], NULL, 10);
    f.table = argv[2];
    f.secret = argv[3];
    long n = strtol(argv[5], NULL, 10);
    double *took = calloc((size_t)n, sizeof(*took));
    if (!took || pthread_create(&thread, NULL, follow, &f) != 0)
        die("no memory");
    pthread_mutex_lock(&f.lock);
    while (!f.ready)
        pthread_cond_wait(&f.changed, &f.lock);
    pthread_mutex_unlock(&f.lock);
    connection_open(&c, f.port);
    for (long i = 0; i < n; i++)
        took[i] = write_once(&f, &c, argv[4], i) * 1000;
    qsort(took, (size_t)n, sizeof(*took), compare);
    printf("%.3f %.3f\n", took[n / 2], took[n * 99 / 100]);
    return 0;
}
