/* What the files of this module share. Not for others. */
#ifndef COULOMB_SERVER_HTTP_STAGE_H
#define COULOMB_SERVER_HTTP_STAGE_H

#include <pthread.h>

#include "base/arena.h"
#include "base/map.h"
#include "server/evloop/evloop.h"
#include "server/gate/gate.h"
#include "server/http/admission.h"
#include "server/http/http.h"
#include "server/http/params.h"
#include "server/http/respond.h"

#define HTTP_RETRY_NOT_READY_S   5
#define HTTP_RETRY_CATALOG_S     1
#define HTTP_RETRY_SNAPSHOT_S    10
#define HTTP_SNAPSHOT_START_MS   45000
#define HTTP_STREAM_BUDGET_BYTES (256u * 1024) /* put between two flushes, from memory */

/* One event loop on its thread. Everything here is that thread's, but evloop_post. */
struct http_loop {
    struct http *http;
    struct evloop *ev;
    pthread_t thread;
    bool running;
    unsigned index;
    unsigned watcher;            /* its number with shapes */
    struct map waits;            /* shape address -> struct shape_wait */
    struct list service_waits;   /* requests that look again when the service changes */
    struct list requests;        /* all shape requests, by `link` */
    struct evtimer_queue ready;  /* service, until ready_timeout */
    struct evtimer_queue start;  /* first row of a snapshot */
    struct evtimer_queue live;   /* long polls */
    struct evtimer_queue ahead;  /* out of bounds: half a long poll */
    struct evtimer_queue replay; /* out of bounds while replaying */
    struct evtimer_queue sse_end;
    struct evtimer_queue sse_beat;
    struct evtimer_queue tick; /* while stopping */
    struct evtimer_entry tick_entry;
    int64_t stop_deadline_ms;
    bool stopping;
    uint64_t random;
    uint64_t unique; /* last given to a control-only answer */
    /* Wakes all waiters when a notification could not be allocated. */
    struct evloop_task wake_all;
    atomic_bool wake_all_posted;
};

struct http {
    struct http_config config;
    struct respond_config respond;
    struct admission admission;
    char *server;
    char *secret;
    int listen_fd;
    int metrics_fd;
    uint16_t port;
    uint16_t metrics_port;
    bool stopped;
    unsigned loop_count;
    struct http_loop loops[];
};

/* Whether the given text is the secret; its time does not depend on where they differ. true
 * without a secret. */
bool http_secret_fits(const struct http *http, struct slice given);
uint64_t http_loop_random(struct http_loop *loop);
/* A number above every earlier one, different in each loop. */
uint64_t http_loop_unique(struct http_loop *loop);

/* --- One shape request (shape_request.c, serve.c, stream.c, sse.c) --- */

/*                 ┌────────── ASKING (catalog, sequencer) ◀─┐
 *   new ──▶ SERVICE ◀──────────────┘                        │
 *                 └──▶ STARTING, DAMAGED, AHEAD, LIVE ────┬──▶ STREAMING ◀─▶ TAIL
 *                      (wait for the shape)               ├──▶ SSE ◀─▶ SSE_STREAMING
 *                                                         └──▶ SUBSET ──▶ SUBSET_STREAMING
 *   every state ──reply──▶ ANSWERED ──evreq finishes──▶ freed (after ASKING's answer) */
enum request_state {
    REQUEST_NEW,
    REQUEST_SERVICE,       /* service_waits, ready */
    REQUEST_ASKING,        /* an answer is under way */
    REQUEST_STARTING,      /* wait, start: no readable snapshot yet */
    REQUEST_DAMAGED,       /* wait, ready: the shape is being removed */
    REQUEST_AHEAD,         /* wait, service_waits, ahead or replay */
    REQUEST_LIVE,          /* wait, live */
    REQUEST_STREAMING,     /* bytes are on their way */
    REQUEST_TAIL,          /* wait: a chunk that still grows */
    REQUEST_SSE,           /* wait, sse_beat, sse_end: nothing to send */
    REQUEST_SSE_STREAMING, /* sse_end */
    REQUEST_SUBSET,        /* start: a job was submitted, nothing has come of it yet */
    REQUEST_SUBSET_STREAMING,
    REQUEST_ANSWERED
};

struct shape_wait { /* the requests of a loop that wait for one shape */
    struct shape *shape;
    struct list requests;
};

/* State of the split of a body into messages (sse.c). */
struct sse_splitter {
    unsigned depth;
    bool in_string;
    bool escaped;
};

/* What a guarded request may see; borrowed for the call. */
struct guard {
    const struct grant *grant;
    int64_t ends_s;    /* since 1970: so long it is served; 0: for ever */
    int64_t expires_s; /* so long caches may keep it */
    bool exact;        /* the request must name the same table, rows and columns itself */
};

struct shape_request {
    struct http_loop *loop;
    struct evreq *req; /* NULL once it has finished */
    struct list link;
    enum request_state state;
    enum permit permit;
    bool asking;        /* an answer will come: don't free */
    bool removal;       /* DELETE */
    bool handle_table;  /* table is what the handle's shape has for it */
    bool catalog_table; /* which would not do */
    bool parked;        /* has waited for changes: not timed */
    bool expired;       /* the long poll is over: answer whatever there is */
    bool counted;       /* in the gauge of live readers */
    bool guarded;       /* by a grant: no secret is needed */
    int64_t ends_s;     /* of the token that grants it, since 1970; 0: none did */
    int64_t expires_s;  /* as that token says */
    int64_t began_us;

    /* Until the shape is found. */
    struct arena arena;
    struct shape_params *params;
    struct table *table;
    struct selection selection;
    struct shape_where *where; /* the clause, once it had to be parsed */
    struct shapes_where_hash where_words;
    struct shape_def *def;
    struct shape *handle_shape; /* of the request's handle */
    struct subset *subset;      /* subset.c; NULL: the log is asked for */

    /* From then on. */
    struct shape *shape;
    enum offset_kind offset_kind;
    struct offset after;
    bool live;
    bool sse;
    char cursor[24];

    struct shape_wait *wait;
    struct list wait_link;
    struct list service_link;
    struct evtimer_entry timer;
    struct evtimer_entry end_timer; /* SSE */

    /* The body under way. */
    struct shapelog_found found;
    uint64_t position;
    bool opened;     /* the first bytes were sent */
    bool up_to_date; /* ends with the control message */
    uint64_t lsn;    /* for it */
    bool closing;    /* SSE: end when up to date */
    bool unsettled;  /* SSE: messages were sent since the last up-to-date */
    struct sse_splitter splitter;
};

/* GET, HEAD, POST and DELETE of the shape route, authenticated. */
void shape_request_begin(struct http_loop *loop, struct evreq *req, struct slice query);
/* The same for the table, rows and columns of a grant, whatever the request itself says of them. */
void shape_request_begin_guarded(struct http_loop *loop, struct evreq *req,
                                 struct slice query, const struct guard *guard);
/* The token that grants it has come to its end. */
bool shape_request_expired(const struct shape_request *r);
/* Looks again after something that it waits for may have happened. */
void shape_request_resume(struct shape_request *r);
void shape_request_timeout(struct evtimer_entry *entry);
void shape_request_end_timeout(struct evtimer_entry *entry);
/* The server stops: answers what waits. */
void shape_request_stop(struct shape_request *r);
/* Forgets timers and lists of its state and enters another. */
void shape_request_enter(struct shape_request *r, enum request_state state);
/* Waits in the list of its shape; the caller looks at the shape once more afterwards. */
bool shape_request_watch(struct shape_request *r);

void shape_request_error(struct shape_request *r, enum obs_refusal reason,
                         const struct respond_error *error);
void shape_request_message(struct shape_request *r, enum obs_refusal reason, int status,
                           const char *message, int retry_after_s, bool known);
void shape_request_invalid(struct shape_request *r, const struct param_errors *errors);
void shape_request_refetch(struct shape_request *r, const char *handle);
void shape_request_internal(struct shape_request *r);
/* 503 with what the service waits for. */
void shape_request_not_ready(struct shape_request *r, int retry_after_s);

/* serve.c: from r->shape on. */
void serve(struct shape_request *r);
void serve_timeout(struct shape_request *r);
/* The shape has gone before an answer began. */
void serve_gone(struct shape_request *r);
void serve_control(struct shape_request *r, uint64_t lsn, struct offset end);

/* stream.c: the body of r->found from r->position on. */
void stream_begin(struct shape_request *r);
void stream_resume(struct shape_request *r);
/* The next piece of r->found. *growing: more will come behind it. */
int stream_read(struct shape_request *r, struct shapelog_piece *piece, bool *growing);

/* sse.c */
void sse_begin(struct shape_request *r);
void sse_resume(struct shape_request *r);
void sse_beat(struct shape_request *r);
void sse_close(struct shape_request *r);
/* Writes the messages of a part of a body as events. */
void sse_split(struct sse_splitter *s, struct slice part, struct buf *out);

/* subset.c: makes r->subset of the request's clauses, if it asks for a subset; the shape's has been
 * parsed, or is known to be that of the handle's shape. 0; ERR_INVALID with *errors filled;
 * ERR_RETRY: no thread to parse on; ERR_MEMORY. */
int subset_prepare(struct shape_request *r, struct param_errors *errors);
/* Answers with it; the shape's snapshot has begun. */
void subset_begin(struct shape_request *r, const struct shapelog_extent *extent);
/* The request has ended: cancels the query. Sets r->subset to NULL. */
void subset_leave(struct shape_request *r);

/* delete.c: with r->table set when the request names one. */
void delete_run(struct shape_request *r);
/* Builds r->def from r->table and r->selection. */
int shape_request_define(struct shape_request *r);
/* Until the service changes or ready_timeout. */
void shape_request_wait_service(struct shape_request *r);

/* answer.c: questions to other threads; the answer resumes the request. */
int answer_ask_table(struct shape_request *r);
int answer_ask_shape(struct shape_request *r);
int answer_ask_removal(struct shape_request *r);
/* Called on the loop's thread. err NULL: table or shape is set. */
void shape_request_table(struct shape_request *r, struct table *table,
                         const struct err *err);
void shape_request_shape(struct shape_request *r, struct shape *shape,
                         const struct err *err);
void shape_request_removed(struct shape_request *r, const struct err *err);
/* Frees what has finished and is not asking. */
void shape_request_reap(struct shape_request *r);

/* waits.c */
bool waits_join(struct http_loop *loop, struct shape_request *r);
void waits_leave(struct shape_request *r);
void waits_notify(void *ctx, struct shape *shape); /* shapes_notify_fn; ctx: http_loop */
void waits_run_all(struct http_loop *loop);

/* guard.c: puts the grant's parameters in the place of the request's. 0, ERR_MEMORY; with `exact`
 * ERR_NOT_FOUND when the request names no table, ERR_INVALID when it differs. */
int guard_apply(const struct guard *guard, struct params *params, struct arena *arena);
/* 401 for a request whose token has come to its end. */
void guard_expired(struct shape_request *r);

/* api.c: the routes of gatekeeper and writer. False: it is none of them. */
bool api_request(struct http_loop *loop, struct evreq *req, const char *path,
                 struct slice query);

/* routes.c */
void routes_request(void *ctx, struct evreq *req);
void routes_metrics(void *ctx, struct evreq *req);

#endif
