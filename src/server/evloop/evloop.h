/* An event loop that serves HTTP/1.1: the only part of the server that knows libevent.
 *
 * One thread runs a loop; everything but evloop_post is called on that thread (or before it
 * runs, after it has ended). A request is handed over once its body is complete, and ends
 * exactly once: its finish callback runs when the last byte has been handed to the kernel, or
 * when the connection is lost, and nothing may be called on the request afterwards. */
#ifndef COULOMB_SERVER_EVLOOP_EVLOOP_H
#define COULOMB_SERVER_EVLOOP_EVLOOP_H

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "server/obs/obs.h"

#define EVLOOP_TARGET_MAX_BYTES  (64u * 1024)        /* a longer request line gives 414 */
#define EVLOOP_HEADERS_MAX_BYTES (256u * 1024)       /* request line and headers */
#define EVLOOP_BODY_MAX_BYTES    (16u * 1024 * 1024) /* more is refused while it arrives */

struct evloop;
struct evreq;

enum evreq_method {
    EVREQ_GET,
    EVREQ_HEAD,
    EVREQ_POST,
    EVREQ_PUT,
    EVREQ_DELETE,
    EVREQ_OPTIONS,
    EVREQ_PATCH,
    EVREQ_TRACE,
    EVREQ_OTHER /* CONNECT, and what nobody knows */
};

struct evloop_config {
    struct obs *obs;
    const struct log *log;
    int64_t read_timeout_ms; /* for all of a request; also idle between two */
    int64_t send_timeout_ms; /* without any progress of sending */
};

int evloop_new(const struct evloop_config *config, struct evloop **out, struct err *err);
/* After evloop_close. */
void evloop_free(struct evloop *loop);
/* Serves a listening, non-blocking socket (copied by dup). */
typedef void evloop_request_fn(void *ctx, struct evreq *req);
int evloop_listen(struct evloop *loop, int fd, evloop_request_fn *fn, void *ctx,
                  struct err *err);
/* Stops accepting; open connections go on, but are closed after their current answer. */
void evloop_stop_listening(struct evloop *loop);
/* Until evloop_break. */
void evloop_run(struct evloop *loop);
void evloop_break(struct evloop *loop);
/* Requests that have not ended. */
size_t evloop_open_requests(const struct evloop *loop);

/* --- Work from other threads --- */

struct evloop_task {
    struct mail mail;
    void (*run)(struct evloop_task *task);
};

/* Any thread; run is called on the loop's thread, in order. ERR_CANCELLED after evloop_close:
 * the caller keeps the task. */
int evloop_post(struct evloop *loop, struct evloop_task *task);
/* After the thread has ended: closes all connections (requests that have not ended are finished
 * as lost), accepts no further task and runs those that wait. */
void evloop_close(struct evloop *loop);

/* --- Deadlines: entries of one queue all wait equally long, so a list is a timer --- */

struct evtimer_entry {
    struct list link;
    int64_t at_ms;
};

typedef void evtimer_fn(struct evtimer_entry *entry);

struct evtimer_queue {
    struct evloop *loop;
    struct list entries; /* by deadline */
    struct event *event;
    evtimer_fn *fn;
    int64_t wait_ms;
};

int evtimer_queue_init(struct evtimer_queue *q, struct evloop *loop, int64_t wait_ms,
                       evtimer_fn *fn);
/* The entries must have been removed. */
void evtimer_queue_fini(struct evtimer_queue *q);
/* An entry must be in no queue: list_init(&entry->link) when made. */
void evtimer_start(struct evtimer_queue *q, struct evtimer_entry *entry);
void evtimer_stop(struct evtimer_entry *entry);

/* --- The request --- */

enum evreq_method evreq_method(const struct evreq *req);
const char *evreq_method_name(enum evreq_method method);
struct slice evreq_target(const struct evreq *req); /* as sent: path and query */
/* The first header of the name, or an empty slice with a NULL pointer. */
struct slice evreq_header(const struct evreq *req, const char *name);
struct slice evreq_body(struct evreq *req);
/* For a request that will wait long: forgets its headers but those that its answer needs. */
void evreq_trim(struct evreq *req);

typedef void evreq_finish_fn(void *ctx, bool complete);
void evreq_on_finish(struct evreq *req, evreq_finish_fn *fn, void *ctx);

/* --- The answer --- */

/* What is added, put, started for one request is sent, or the request aborted, before anything
 * is for another one of its loop: an answer is never made in two turns. */

/* Headers are sent in the order in which they were added. One whose value has a line end in it
 * is left out. "connection", "date" and how the body ends are not to be added. */
void evreq_add_header(struct evreq *req, const char *name, const char *value);
/* Has fn add the first headers, once the answer is made: what all answers to it have. */
typedef void evreq_head_fn(const void *ctx, struct evreq *req, uint64_t tag);
void evreq_on_head(struct evreq *req, evreq_head_fn *fn, const void *ctx, uint64_t tag);
/* A flag of the caller's, false at first, that outlives evreq_trim. */
void evreq_set_flag(struct evreq *req);
bool evreq_flag(const struct evreq *req);
/* Says "connection: keep-alive", if it is kept. */
void evreq_keep_alive(struct evreq *req);
/* A whole answer with a content length (of the body also for HEAD). The body is copied.
 * Answering may finish the request before the call returns. */
void evreq_reply(struct evreq *req, int status, struct slice body);
void evreq_reply_empty(struct evreq *req, int status);
/* A whole answer whose connection is closed behind it. */
void evreq_reply_close(struct evreq *req, int status, struct slice body);

/* A streamed answer: start, then any number of put and flush, then end. Nothing is sent before
 * the first flush. Chunked for HTTP/1.1; for HEAD whatever is put is released at once. */
void evreq_start(struct evreq *req, int status);
typedef void evreq_release_fn(void *arg);
void evreq_put(struct evreq *req, struct slice bytes); /* copies */
/* References; release is called once, when the bytes are no longer needed. */
void evreq_put_ref(struct evreq *req, struct slice bytes, evreq_release_fn *release,
                   void *arg);
void evreq_put_file(struct evreq *req, int fd, uint64_t pos, size_t len,
                    evreq_release_fn *release, void *arg);
/* Sends the head, if that has not gone before, and what was put as one chunk. fn (may be NULL)
 * is called when the kernel has taken everything, never from within the call. When the
 * connection turns out to be lost, or memory was short for a put, it is closed, here or in
 * evreq_end: the request is finished then. */
typedef void evreq_drained_fn(void *ctx);
void evreq_flush(struct evreq *req, evreq_drained_fn *fn, void *ctx);
void evreq_end(struct evreq *req);
/* Closes the connection where it is: what was streamed stays incomplete. Finishes. */
void evreq_abort(struct evreq *req);

#endif
