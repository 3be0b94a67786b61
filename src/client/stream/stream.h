/* The shape stream: one shape read from a server that speaks shape-protocol.md, kept up to date,
 * delivered in coulomb_poll(). Internal: the adapter, the CLI and the gatekeeper client build on it.
 * As robust as the official client (protocol section 9.1); where it differs is in README.md.
 *
 *            start                 response, snapshots…
 *   idle ─────────▶ running ◀────────────────────────────┐
 *                   │  ▲  └──────────────────────────────┘
 *              pause│  │resume (no reason is left)
 *                   ▼  │
 *                  paused       running ──up to date, no subscribe──▶ done
 *                               running ──error, on_error says no──▶ failed
 *                               any ──stop──▶ stopped
 *
 * Everything here is for the owner's thread; callbacks come in coulomb_poll() only, and may call any
 * function of the stream, stop and release included. HTTP and parsing happen on the client's I/O
 * thread. An answer is delivered whole or not at all: a connection that breaks in its middle leaves
 * nothing behind. So after each batch offset and handle name exactly what was delivered. */
#ifndef COULOMB_CLIENT_STREAM_STREAM_H
#define COULOMB_CLIENT_STREAM_STREAM_H

#include "client/net/credentials.h"
#include "client/net/net.h"
#include "client/stream/message.h"

struct shape_stream;

/* --- What it tells -------------------------------------------------------------------------- */

/* Messages in order, at most some thousands. A longer answer comes as several batches over several
 * polls, `more` being set on all but its last: only with the last one offset moves. */
struct stream_batch {
    const struct stream_message *messages;
    size_t count;
    bool more;
    const struct stream_column *columns; /* as messages' values have them */
    size_t column_count;
};

struct stream_error {
    int code;   /* COULOMB_E_FETCH, _NETWORK, _MISSING_HEADERS, _PROTOCOL, _STUCK, … */
    int status; /* of HTTP; 0: none */
    const char
        *message;     /* one sentence: what, where, what would be right. Never a secret */
    coulomb_str body; /* the server's answer, its first 4 KiB; may be empty */
    bool retryable;   /* on_error may have it tried again */
};

enum stream_decision {
    STREAM_GIVE_UP, /* the stream has failed */
    STREAM_RETRY    /* from where it stood, after a backoff; at most 50 times in a row */
};

struct stream_callbacks {
    /* 0: taken. COULOMB_E_MEMORY: the same batch comes again in the next poll. Another negative
     * code: the stream fails with it (on_error is not asked). */
    int (*messages)(struct shape_stream *s, const struct stream_batch *batch, void *arg);
    /* An error that a retry by itself can't cure: 4xx, a protocol's breach, exhausted attempts.
     * May set parameters and headers (shape_stream_set_param, _set_header) and have it retried.
     * Not called for 409, which is a must-refetch. NULL: give up. */
    enum stream_decision (*error)(struct shape_stream *s, const struct stream_error *e,
                                  void *arg);
    /* The state (shape_stream_state) is another one: connected, up to date, paused, failed, done …
     * May be NULL. */
    void (*changed)(struct shape_stream *s, void *arg);
};

/* --- What it is made of --------------------------------------------------------------------- */

enum stream_log { STREAM_LOG_FULL, STREAM_LOG_CHANGES_ONLY };
enum stream_replica { STREAM_REPLICA_DEFAULT, STREAM_REPLICA_FULL };

struct stream_param {
    const char *name;
    const char *value;
};

/* Zero is every field's default. Everything is copied but the functions' arguments. */
struct stream_options {
    const char
        *url; /* of the shape endpoint, e.g. http://127.0.0.1:3000/v1/shape; it may have a
                        query of its own */
    /* The shape. table may be NULL where the endpoint knows it (a gatekeeper, a proxy). */
    const char *table;
    const char *where;
    const char *const *params; /* $1, $2 …; NULL within: is left out */
    size_t param_count;
    const char *const *columns; /* plain names, quoted here; none: all */
    size_t column_count;
    enum stream_replica replica;
    enum stream_log log;
    /* More query parameters and headers; reserved names are COULOMB_E_RESERVED_PARAM. */
    const struct stream_param *extra;
    size_t extra_count;
    const struct net_header *headers;
    size_t header_count;
    struct credentials *credentials; /* retained; NULL: none. 401 and 403 renew them */

    /* How values are to come: the collection's columns, in its order. Columns that are not here
     * are not delivered; a value whose type here differs from Postgres's is read from its text as
     * the type here. None: the shape's columns, by their Postgres types. */
    const coulomb_column *typed;
    size_t typed_count;

    /* Where to begin. offset NULL: "-1", or "now" when from_now is set; another needs a handle
     * (COULOMB_E_MISSING_HANDLE). cursor may go with them. */
    const char *offset;
    const char *handle;
    const char *cursor;
    bool from_now;

    bool once; /* done when up to date, in place of staying subscribed */
    bool
        sse; /* live by server-sent events, by long polling where they don't get through */
    bool subset_get; /* subsets by GET, in place of POST */

    struct net_backoff backoff;
    unsigned attempts_max; /* in a row, of one request; 0: any number */
    int64_t
        live_timeout_ms; /* a live request silent for that long is made again; 0: 45 s;
                                    <0: never */
    size_t answer_bytes_max; /* 0: 1 GiB */
    size_t
        buffered_bytes_max; /* undelivered, of server-sent events; 0: 16 MiB. What comes at once
                                  and takes four times that is read by long answers */
    unsigned prefetch; /* answers fetched ahead while not up to date; 0: 2 */
    bool no_prefetch;
    const char *ca_file;

    /* In place of the system's. random gives [0, 1); wall_us microseconds of 1970. */
    double (*random)(void *arg);
    int64_t (*wall_us)(void *arg);
    void *clock_arg;

    struct stream_callbacks callbacks;
    void *arg;
};

/* Copies the options. Nothing is sent before shape_stream_start(). One reference. In
 * coulomb_last_error(): COULOMB_E_MEMORY, _ARGUMENT, _MISSING_URL, _MISSING_HANDLE,
 * _RESERVED_PARAM, _LIMIT. */
int shape_stream_new(coulomb_client *c, const struct stream_options *options,
                     struct shape_stream **out);
void shape_stream_retain(struct shape_stream *s);
/* Giving up the last reference stops it; those who wait for something are not told then. NULL is
 * fine. */
void shape_stream_release(struct shape_stream *s);

/* --- Control --------------------------------------------------------------------------------- */

/* Once; later calls do nothing. */
void shape_stream_start(struct shape_stream *s);
/* For good: requests are given up and no callback of messages, errors or states follows. Those of
 * subsets and refreshes that are open are called with COULOMB_E_STREAM_STOPPED, in the next poll. */
void shape_stream_stop(struct shape_stream *s);
/* Reasons are counted: it goes on when each pause has had its resume. A live request is given up at
 * once; what came already is delivered after the resume. The first request after a resume does not
 * wait for changes, so that the state is known soon. */
void shape_stream_pause(struct shape_stream *s);
void shape_stream_resume(struct shape_stream *s);
/* In place of those in the options, from the next request on; value NULL: without. Copied. Codes as
 * shape_stream_new(). */
int shape_stream_set_param(struct shape_stream *s, const char *name, const char *value);
int shape_stream_set_header(struct shape_stream *s, const char *name, const char *value);

/* 0, or why it did not happen. e lives for the call. */
typedef void stream_done_fn(struct shape_stream *s, int code, const coulomb_error *e,
                            void *arg);

/* Asks now, without waiting for changes (upstream's forceDisconnectAndRefresh): gives up a live
 * request, or waits for another one's end, and makes a new one. done (may be NULL) is called once,
 * when the answers of requests that began after this call have been delivered up to an up-to-date;
 * its LSN is at least that of every transaction that was committed, and read by the server, before.
 * COULOMB_E_MEMORY, COULOMB_E_STREAM_STOPPED. */
int shape_stream_refresh(struct shape_stream *s, stream_done_fn *done, void *arg);

/* --- Subsets (protocol 1.7, 4.8) -------------------------------------------------------------- */

struct stream_subset {
    const char *where; /* NULL: all */
    const char *const *params;
    size_t param_count;
    const char *order_by;
    bool has_limit;
    uint64_t limit;
    uint64_t offset; /* sent when not 0 */
};

/* Loads a subset into the stream, of log changes_only only (COULOMB_E_STREAM_MODE): its rows as
 * inserts, then SNAPSHOT_END with its view, then SUBSET_END with *number, all in one answer's
 * batches; then done. Nothing else is delivered between the request and these rows, so the log's
 * changes that the view has seen come after them: dropping those is the consumer's. Starts the
 * stream if need be. A 409 first refetches the stream (MUST_REFETCH) and then asks again, at most
 * five times. At most 64 at a time (COULOMB_E_LIMIT). number may be NULL. */
int shape_stream_request_subset(struct shape_stream *s,
                                const struct stream_subset *subset, stream_done_fn *done,
                                void *arg, uint64_t *number);

/* Rows of a subset beside the stream, whose place in the log they have nothing to do with. code 0:
 * rows (inserts, then SNAPSHOT_END), may be called several times, `more` set on all but the last;
 * otherwise once, with what went wrong. */
typedef void stream_rows_fn(struct shape_stream *s, const struct stream_batch *rows,
                            int code, const coulomb_error *e, void *arg);
int shape_stream_fetch_subset(struct shape_stream *s, const struct stream_subset *subset,
                              stream_rows_fn *rows, void *arg, uint64_t *number);
/* Neither its rows nor its done follow. Unknown and finished numbers are fine. True: it was being
 * delivered, so that some of its rows may have come, and the rest of them, and its SNAPSHOT_END, will
 * not; nor does a batch of it that found no memory come again. */
bool shape_stream_cancel_subset(struct shape_stream *s, uint64_t number);

/* --- State ------------------------------------------------------------------------------------ */

enum stream_phase {
    STREAM_IDLE,
    STREAM_RUNNING,
    STREAM_PAUSED,
    STREAM_DONE,
    STREAM_FAILED,
    STREAM_STOPPED
};

struct stream_state {
    enum stream_phase phase;
    bool connected;         /* the last request was answered well */
    bool up_to_date;        /* with the end of the log as of last_synced_at */
    bool live_sse;          /* live requests go by server-sent events */
    coulomb_str handle;     /* ptr NULL: none yet */
    coulomb_str offset;     /* of what was delivered */
    coulomb_str cursor;     /* of live requests; may be empty */
    int64_t last_synced_us; /* wall clock; 0: never */
    bool has_lsn;
    uint64_t lsn; /* the newest up-to-date's global_last_seen_lsn */
    const struct stream_column *columns; /* NULL until the first answer that tells them */
    size_t column_count;
    int error; /* of phase failed; its words are in coulomb_error */
};

/* Borrowed until the stream's next callback or call. */
void shape_stream_state(const struct shape_stream *s, struct stream_state *out);
/* Why it failed; code 0 when it did not. */
const coulomb_error *shape_stream_error(const struct shape_stream *s);
/* The shape in one line, whatever the order of parameters: url and every parameter that makes the
 * shape, without credentials, offset and handle. What resume metadata is compared by. */
coulomb_str shape_stream_key(const struct shape_stream *s);

#endif
