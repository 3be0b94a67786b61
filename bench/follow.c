/* bench_follow PORT QUERY [DIR]: reads a shape from the beginning until it is up to date, and prints
 * seconds and bytes. With DIR it also writes each body to DIR/0, DIR/1, …
 * bench_follow PORT --files N: reads /0 … /N-1 instead, from a server of plain files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"

static void to_file(void *ctx, const char *bytes, size_t len)
{
    if (fwrite(bytes, 1, len, ctx) != len)
        die("can't write a body");
}

static void get(struct connection *c, const char *path, struct answer *a, const char *dir,
                int n)
{
    char name[512];
    FILE *f = NULL;

    if (dir) {
        snprintf(name, sizeof(name), "%s/%d", dir, n);
        f = fopen(name, "w");
        if (!f)
            die("can't make %s", name);
    }
    http_get(c, path, a, f ? to_file : NULL, f);
    if (f && fclose(f) != 0)
        die("can't write %s", name);
    if (a->status != 200)
        die("%s: status %d", path, a->status);
}

static uint64_t follow(struct connection *c, const char *query, const char *dir)
{
    struct answer a = {.offset = "-1"};
    char handle[128] = "";
    uint64_t bytes = 0;

    for (int n = 0; !a.up_to_date; n++) {
        char path[1024];

        snprintf(path, sizeof(path), "/v1/shape?%s&offset=%s%s%s", query, a.offset,
                 handle[0] ? "&handle=" : "", handle);
        get(c, path, &a, dir, n);
        memcpy(handle, a.handle, sizeof(handle));
        bytes += a.body_bytes;
    }
    return bytes;
}

static uint64_t files(struct connection *c, int count)
{
    struct answer a;
    uint64_t bytes = 0;

    for (int n = 0; n < count; n++) {
        char path[32];

        snprintf(path, sizeof(path), "/%d", n);
        get(c, path, &a, NULL, n);
        bytes += a.body_bytes;
    }
    return bytes;
}

int main(int argc, char **argv)
{
    struct connection c;
    uint64_t bytes;
    double start;

    if (argc < 3)
        die("usage: bench_follow PORT QUERY [DIR] | PORT --files N");
    connection_open(&c, (int)strtol(argv[1], NULL, 10));
    start = now_s();
    if (strcmp(argv[2], "--files") == 0 && argc > 3)
        bytes = files(&c, (int)strtol(argv[3], NULL, 10));
    else
        bytes = follow(&c, argv[2], argc > 3 ? argv[3] : NULL);
    printf("%.6f %llu\n", now_s() - start, (unsigned long long)bytes);
    connection_close(&c);
    return 0;
}
