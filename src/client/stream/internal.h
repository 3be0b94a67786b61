/* Internal to stream: what its files share. */
#ifndef COULOMB_CLIENT_STREAM_INTERNAL_H
#define COULOMB_CLIENT_STREAM_INTERNAL_H

#include "client/net/fields.h"
#include "client/stream/fetch.h"
#include "client/stream/shapes.h"
#include "client/stream/state.h"
#include "client/stream/stream.h"

#define SUBSETS_MAX       64
#define LOOP_REQUESTS     5   /* at one offset, within … */
#define LOOP_WINDOW_MS    500 /* … is a loop */
#define LOOP_ROUNDS       5   /* so many of them are fatal */
#define STALE_TRIES       3
#define SUBSET_TRIES      5
#define MALFORMED_TRIES   3
#define ERROR_RETRIES_MAX 50

/* Who waits for a refresh. */
struct refresh {
    struct list link;
    uint64_t after; /* answers of requests with a higher number count */
    stream_done_fn *done;
    void *arg;
};

/* A subset on its way.
 *
 *   waiting ──▶ asking ──answer──▶ answered ──rows delivered, done──▶ gone
 *      ▲  ▲________│ 409, refetch, other credentials
 *      └── backing off (timer) ◀── failed for now                              */
enum subset_step { SUBSET_WAITING, SUBSET_ASKING, SUBSET_BACKOFF, SUBSET_ANSWERED };

struct subset {
    struct list link; /* in stream.subsets, in order of their calls */
    struct shape_stream *stream;
    uint64_t number;
    enum subset_step step;
    bool beside; /* of fetch_subset */
    stream_done_fn *done;
    stream_rows_fn *rows;
    void *arg;
    struct net_fields query; /* by GET */
    struct blob body;        /* by POST */
    struct fetch *fetch;
    struct timer timer;
    struct credentials_waiter waiter;
    bool needs_credentials; /* it waits for them */
    unsigned attempt;
    unsigned refusals; /* of credentials, in a row */
    unsigned refetches;
    struct blob handle; /* of a subset beside the stream, after a 409 */
    char buster[24];
    struct segment *list; /* its rows, once answered */
    bool ended;           /* the list has its SUBSET_END */
};

struct shape_stream {
    coulomb_client *client;
    struct heap *heap;
    size_t refs; /* the owner's: without any it is stopped */
    size_t
        holds; /* of functions that call back: it is not freed before they are through */
    /* What it was made of. */
    char *url;
    char shown_url[160];
    struct net_fields shape; /* parameters that make the shape */
    struct net_fields headers;
    struct credentials *credentials;
    struct schema *typed;
    bool changes_only;
    bool once;
    bool sse;
    bool subset_get;
    struct net_backoff backoff;
    unsigned attempts_max;
    int64_t live_timeout_ms;
    size_t answer_bytes_max;
    size_t buffered_bytes_max;
    unsigned prefetch;
    char *ca_file;
    double (*random)(void *arg);
    int64_t (*wall_us)(void *arg);
    void *clock_arg;
    uint64_t random_state;
    struct stream_callbacks callbacks;
    void *arg;
    struct buf key; /* of the shape; made anew when parameters change */

    enum stream_phase phase;
    unsigned pauses;
    struct task task;   /* run.c */
    struct timer timer; /* a backoff */
    struct sync_state state;
    bool connected;
    coulomb_error error; /* of phase failed */

    /* Requests: the first is the current one, those behind it were made ahead. */
    struct list fetches;
    uint64_t request_count;
    uint64_t current;  /* the number of the current one, if it is there */
    uint64_t work;     /* grows with everything that is done */
    int batches_left;  /* of this poll */
    unsigned attempt;  /* failed in a row */
    unsigned refusals; /* of credentials, likewise */
    unsigned malformed;
    unsigned error_retries;
    bool no_wait; /* the next request is not live: after a pause, for a refresh */
    struct credentials_waiter waiter;
    bool waits_for_credentials;
    char buster[24]; /* of the next request, "" none */
    bool healed;     /* stale answers were healed once, since the last up-to-date */

    /* Loops. */
    int64_t loop_times[LOOP_REQUESTS];
    unsigned loop_count;
    unsigned loop_rounds;
    uint64_t loop_offset; /* its hash */
    bool loop_waited;

    /* What is being delivered. */
    struct segment *deliver;
    enum deliver_kind {
        DELIVER_LOG,
        DELIVER_EVENTS,
        DELIVER_CONTROL,
        DELIVER_SUBSET
    } kind;
    struct fetch *source;      /* whose answer it is, of a log answer */
    struct subset *delivering; /* of a subset; NULL when it was cancelled */
    struct answer answer;      /* source's */
    uint64_t deliver_request;
    bool filtered;  /* the first segment */
    bool applied;   /* the state is past the first segment */
    bool suppress;  /* its up-to-date */
    bool drop_rest; /* nobody wants it any more */

    struct list subsets;
    size_t subset_count;
    uint64_t last_number;
    struct list refreshes;

    /* What `changed` last told of. */
    struct {
        enum stream_phase phase;
        bool connected;
        bool up_to_date;
        bool live_sse;
    } told;
};

/* --- run.c --- */

int stream_run(struct task *t);
void stream_timer(struct timer *t);
/* Around whatever may call back. */
void stream_hold(struct shape_stream *s);
void stream_unhold(struct shape_stream *s);
/* Something happened that run has to look at. */
void stream_poke(struct shape_stream *s);
/* Gives up the current request and those ahead. */
void stream_drop_fetches(struct shape_stream *s);
/* Everything comes again, under that handle when it is known. COULOMB_E_MEMORY: nothing happened. */
int stream_refetch(struct shape_stream *s, const struct blob *handle);
/* A message of our own, alone in a segment; NULL: no memory. */
struct segment *stream_control(struct shape_stream *s, enum stream_kind kind,
                               uint64_t subset);
/* What is being delivered is not wanted any more. */
void stream_drop_delivery(struct shape_stream *s);
/* An error that a retry does not cure. */
void stream_error_found(struct shape_stream *s, int code, int status, struct slice body,
                        bool retryable, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
/* Waits for a time that grows, then goes on. */
void stream_back_off(struct shape_stream *s, int64_t retry_after_ms);
double stream_random(struct shape_stream *s);
void stream_make_buster(struct shape_stream *s, char out[24]);
int64_t stream_now_us(struct shape_stream *s);
bool stream_is_live_sse(const struct shape_stream *s);

/* --- answer.c --- */

/* Looks at the current request, which has ended or has something to give. COULOMB_E_MEMORY: later. */
int answer_look(struct shape_stream *s);
/* Whether a status is worth a retry by itself. */
bool answer_is_transient(int status);
/* What a request's failure was, as a sentence. */
void answer_describe(const struct shape_stream *s, const struct fetch *f,
                     const struct answer *a, char *out, size_t cap);
int64_t answer_retry_after(struct shape_stream *s, const struct answer *a);

/* --- url.c --- */

struct url_request {
    const struct blob *handle; /* may be empty */
    const struct blob *offset;
    const char *cursor; /* NULL: none */
    bool live;
    bool sse;
    const char *buster;  /* "" or NULL: none */
    const char *expired; /* handle; NULL: none */
    const struct net_fields *more;
    const struct net_header *params; /* credentials' */
    size_t param_count;
};

/* The URL, with its parameters in order; terminated, of out. COULOMB_E_MEMORY; COULOMB_E_LIMIT: over 8
 * MiB or 4,096 parameters. */
int url_make(const struct shape_stream *s, const struct url_request *r, struct buf *out);
/* The shape's key into s->key. Likewise. */
int url_make_key(struct shape_stream *s);
bool url_is_reserved(const char *param);

/* --- subset.c --- */

/* Whether the log has to wait for a subset. */
bool subsets_hold(const struct shape_stream *s);
/* Starts those that wait; puts one that is answered into s->deliver (or gives it, beside the
 * stream). COULOMB_E_MEMORY: later. */
int subsets_run(struct shape_stream *s);
/* A refetch: those on their way are asked for again. */
void subsets_again(struct shape_stream *s);
/* All are told that and why it is over. */
void subsets_end(struct shape_stream *s, int code, const coulomb_error *e);
/* The rows of the one that was delivered are taken. */
void subset_delivered(struct shape_stream *s);
void subset_free(struct subset *u);

#endif
