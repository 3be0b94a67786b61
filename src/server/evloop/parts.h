/* What the files of this module share. Not for others.
 *
 *   request arrives ──▶ WATCHED ──reply──▶ ENDED ──written──▶ finish(true)
 *                          │ └─start─▶ STREAMING ──end──▲
 *                          └────────── lost, aborted ─────────▶ finish(false) */
#ifndef COULOMB_SERVER_EVLOOP_PARTS_H
#define COULOMB_SERVER_EVLOOP_PARTS_H

#include <sys/time.h>

#include "base/buf.h"
#include "base/map.h"
#include "server/evloop/evloop.h"
#include "server/evloop/head.h"

#define LISTENERS_MAX 2

struct bufferevent;
struct evbuffer;
struct event;
struct event_base;
struct evhttp;
struct evhttp_bound_socket;
struct evhttp_connection;
struct evhttp_request;

enum evreq_phase { PHASE_WATCHED, PHASE_STREAMING, PHASE_ENDED };

struct conn {
    struct evloop *loop;
    struct bufferevent *bev;
    struct evhttp_connection *evcon; /* NULL while in loop->accepted */
    struct evreq *req;               /* the one being answered, or NULL */
    /* In loop->accepted, then, until a request is complete, in loop->receiving. While one is
     * answered: in loop->looks, if too much is read ahead. */
    struct evtimer_entry timer;
    int fd;
    bool begun;  /* a byte of the request being received has come */
    bool corked; /* TCP_CORK: only full segments are sent */
};

struct evreq {
    struct list link; /* in loop->requests */
    struct evloop *loop;
    struct conn *conn;
    struct evhttp_request *ev;
    evreq_head_fn *head; /* adds what was promised early */
    const void *head_ctx;
    uint64_t head_tag;
    evreq_finish_fn *finish;
    void *finish_ctx;
    evreq_drained_fn *drained;
    void *drained_ctx;
    struct list drained_link; /* in loop->drained: everything is with the kernel */
    enum evreq_phase phase;
    int status; /* of a streamed answer, until its head is sent; then 0 */
    bool chunked;
    bool closing; /* the connection is closed behind the answer */
    bool keeping; /* says so when it is not */
    bool flag;    /* the caller's */
    bool broken;  /* something could not be put: the body must not look complete */
};

struct listener {
    struct evloop *loop;
    struct evhttp *http;
    struct evhttp_bound_socket *socket;
    struct event *rest; /* set while it does not accept */
    int64_t told_ms;    /* when that was logged last, or 0 */
    evloop_request_fn *fn;
    void *ctx;
};

struct evloop {
    struct evloop_config config;
    struct event_base *base;
    struct mailbox mailbox;
    struct event *mail_event;
    struct listener listeners[LISTENERS_MAX];
    unsigned listener_count;
    struct list accepted; /* connections whose evhttp_connection is not known yet */
    struct event *adopt;  /* makes it known */
    struct evtimer_queue receiving;
    struct evtimer_queue looks;
    struct map conns; /* evhttp_connection address -> struct conn */
    struct list requests;
    size_t request_count;
    bool stopping;          /* answers close their connection */
    struct buf head;        /* headers added, not sent */
    struct evbuffer *out;   /* put, not flushed */
    bool after_file;        /* out ends with a part of a file */
    bool with_file;         /* there is one in out or wire */
    struct evbuffer *apart; /* see put_apart; empty in between */
    struct evreq *putting;  /* whose they are, or NULL */
    struct evbuffer *wire;  /* on its way to the socket, empty in between */
    struct list drained;    /* requests whose drained function is due */
    struct event *drain;    /* runs them */
    struct head_date date;
};

static inline struct timeval timeval_of(int64_t ms)
{
    return (struct timeval){.tv_sec = (time_t)(ms / 1000),
                            .tv_usec = (suseconds_t)(ms % 1000) * 1000};
}

/* --- evloop.c --- */

/* The loop of a base, found by a search. */
struct evloop *evloop_of(struct event_base *base);

/* --- conn.c --- */

/* evhttp's callbacks: a connection is wanted for what is being accepted (arg: the loop); a
 * request is complete (arg: the listener). */
struct bufferevent *conn_accept(struct event_base *base, void *arg);
void conn_request(struct evhttp_request *ev, void *arg);
/* Makes known what was accepted. */
void conn_adopt_all(struct evloop *loop);
/* What is to be done when the deadline of one in the list has passed. */
void conn_overdue(struct evtimer_entry *entry); /* evloop.receiving */
void conn_look(struct evtimer_entry *entry);    /* evloop.looks */
/* Closes it, and with it ends its request, also for evhttp. */
void conn_close(struct conn *conn);

/* --- memory.c --- */

/* Before the first use of libevent; once more does no harm. */
void memory_init(void);

/* --- reply.c --- */

int reply_init(struct evloop *loop);
void reply_fini(struct evloop *loop);
/* Nothing that was put for one request is seen by the next. */
void reply_drop(struct evloop *loop);
/* The socket has taken all that waited for it. */
void reply_written(struct evreq *req);
/* Has no minor version that knows chunks. */
bool reply_is_old(const struct evhttp_request *ev);

#endif
