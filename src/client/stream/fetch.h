/* One request of a stream: started by the owner, filled by the I/O thread, looked at by the owner.
 * Internal.
 *
 *   started ──head──▶ head ──groups of events, each whole──▶ … ──end──▶ ended
 *
 * The owner may drop it at any time; it is freed when the I/O thread is done with it, too. */
#ifndef COULOMB_CLIENT_STREAM_FETCH_H
#define COULOMB_CLIENT_STREAM_FETCH_H

#include <pthread.h>

#include "client/net/net.h"
#include "client/stream/reader.h"

#define FETCH_TEXT_BYTES 4096 /* of an answer that is no data: enough for an error */

/* What an answer's head says. Strings are terminated; ptr NULL: no such header. */
struct answer {
    int status;
    char *handle;
    char *offset;
    char *cursor;
    char *retry_after;
    struct schema *schema; /* of its header, or that of the request; counted */
    bool has_schema;       /* the header is there */
    bool up_to_date;
    bool json;   /* the content type says so, or says nothing */
    bool events; /* it is text/event-stream */
};

struct fetch_request {
    enum reader_frame frame;
    const char *url;
    const struct net_header *headers;
    size_t header_count;
    const struct net_header *more; /* credentials' */
    size_t more_count;
    const struct blob *body; /* POST when it has a ptr */
    struct schema *schema;   /* known so far; NULL: none */
    struct schema *typed;    /* the consumer's; NULL: none */
    const char *expired;     /* a handle that is not good any more; NULL: none */
    int64_t silence_ms;      /* before the head, and within the body; <0: any time */
    size_t bytes_max;        /* of one answer, of one group of events */
    size_t buffered_max;     /* of events that the owner has not taken */
    const char *ca_file;
};

struct fetch {
    struct list link; /* the stream's */
    coulomb_client *client;
    struct heap *heap;
    struct net_request *request;
    struct post progress;
    struct post over;
    /* The owner's. */
    void (*changed)(struct fetch *f, void *arg); /* NULL: dropped */
    void *arg;
    uint64_t number;
    bool live;
    bool sse;
    char *url;
    uint64_t generation; /* of credentials; 0: none */
    bool ended;
    bool chained; /* the one behind it was started */
    bool opened;  /* its head was looked at, events only */
    int64_t opened_ms;
    /* Shared, under the mutex until it has ended. */
    pthread_mutex_t mutex;
    bool has_head;
    struct answer head;
    struct segment *ready;
    struct segment **ready_end;
    size_t ready_bytes;
    bool paused;
    enum net_end end;
    int code;      /* of the reader */
    char why[300]; /* what went wrong */
    char text[FETCH_TEXT_BYTES + 1];
    size_t text_len;
    bool ends_up_to_date;
    size_t skipped;
    /* The I/O thread's. */
    struct reader reader;
    bool reads;
    enum reader_frame frame;
    struct schema *schema;
    struct schema *typed;
    char *expired;
    size_t bytes_max;
    size_t buffered_max;
};

/* changed is called in polls: something came (has_head, ready), or it has ended. COULOMB_E_MEMORY;
 * COULOMB_E_ARGUMENT with *detail. */
int fetch_start(coulomb_client *c, const struct fetch_request *r,
                void (*changed)(struct fetch *f, void *arg), void *arg,
                struct fetch **out, const char **detail);
/* No call follows. NULL is fine. */
void fetch_drop(struct fetch *f);
/* A copy of what the head says; false: none came yet. COULOMB_E_MEMORY can't be: strings stay the
 * fetch's. */
bool fetch_head(struct fetch *f, struct answer *out);
/* Whole groups, or all of an answer that has ended: the caller's. NULL: none. */
struct segment *fetch_take(struct fetch *f);
bool fetch_is_stale(const struct fetch *f, const struct answer *head);

#endif
