/* Reads a table by libcoulomb's stream until it is up to date and counts: prints wall seconds, CPU
 * seconds of the whole process, and messages.
 *
 *   bench_stream PORT TABLE */
#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "client/stream/stream.h"

static size_t messages;
static int64_t sum; /* so that every value is looked at */

static int on_messages(struct shape_stream *s, const struct stream_batch *b, void *arg)
{
    (void)s;
    (void)arg;
    for (size_t i = 0; i < b->count; i++) {
        const struct stream_message *m = &b->messages[i];

        messages++;
        for (size_t k = 0; m->values && k < b->column_count; k++)
            sum += m->values[k].v.i;
    }
    return COULOMB_OK;
}

static double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
    struct stream_options o = {.once = true, .callbacks = {on_messages, NULL, NULL}};
    struct shape_stream *s;
    struct stream_state st;
    coulomb_client *c;
    char url[64];
    int64_t start = clock_mono_us();

    if (argc != 3)
        return 2;
    snprintf(url, sizeof(url), "http://127.0.0.1:%s/v1/shape", argv[1]);
    o.url = url;
    o.table = argv[2];
    if (coulomb_client_open(NULL, &c) != COULOMB_OK ||
        shape_stream_new(c, &o, &s) != COULOMB_OK)
        return 1;
    shape_stream_start(s);
    do {
        struct pollfd p = {.fd = coulomb_fd(c), .events = POLLIN};

        if (!coulomb_pending(c))
            poll(&p, 1, 1000);
        if (coulomb_poll(c) < 0)
            return 1;
        shape_stream_state(s, &st);
    } while (st.phase == STREAM_RUNNING);
    printf("%.3f %.3f %zu\n", (double)(clock_mono_us() - start) / 1e6, cpu_s(), messages);
    fprintf(stderr, "sum %lld\n", (long long)sum);
    shape_stream_release(s);
    coulomb_client_close(c);
    return st.phase == STREAM_DONE ? 0 : 1;
}
