/* A blocking HTTP/1.1 client that reads and throws away, for the benches: as little work of its
 * own as possible, and the same for every server. One thread. Errors end the program. */
#ifndef COULOMB_BENCH_HTTP_H
#define COULOMB_BENCH_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct connection {
    int fd;
    int port;
    char *buffer;
    size_t len; /* bytes of the buffer that are filled, */
    size_t at;  /* and that are used up */
};

struct answer {
    int status;
    char handle[128];
    char offset[64];
    char cursor[64];
    bool up_to_date;
    uint64_t body_bytes;
};

void connection_open(struct connection *c, int port);
void connection_close(struct connection *c);
/* Sends GET path and reads the whole answer. With sink (may be NULL) every piece of the body is
 * handed to it. */
typedef void sink_fn(void *ctx, const char *bytes, size_t len);
void http_get(struct connection *c, const char *path, struct answer *out, sink_fn *sink,
              void *ctx);

/* Sends a body with a bearer token; the answer's, terminated, is put into answer. */
void http_post(struct connection *c, const char *path, const char *token,
               const char *body, struct answer *out, char *answer, size_t size);

/* Seconds, monotonic and of the wall. */
double now_s(void);
double wall_s(void);
/* Ends the program with a sentence. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
