/* See evloop.h.
 *
 * evhttp reads requests; what is answered we write ourselves. It would build every head from a
 * list of strings and ask the kernel for leave to write before and after each answer, which is
 * most of what waking a client costs. So a head is made in one buffer, and head and body go to
 * the socket in one call, at once; only what the kernel does not take waits in the bufferevent
 * for it to become writable. When all is written evhttp_send_reply_end, which finds nothing
 * left to send, ends the request for evhttp: it closes the connection or reads the next one.
 *
 * Heads and bodies are put into buffers of the loop, since what is put for one request is sent
 * before anything is put for another.
 *
 * What evhttp needs help with:
 *
 * - It stops reading while a request is being answered, so that a client that leaves is never
 *   noticed. A request is therefore *watched*: reading goes on into the bufferevent's input, up
 *   to a small watermark, with callbacks of ours.
 *   A client that sends more than the watermark is read no further, which would hide its
 *   leaving: those few connections are looked at now and then.
 * - Its read timeout begins anew with every byte, so that who dribbles keeps a descriptor for
 *   ever, and runs while a request waits. It is lifted. Connections that receive a request are
 *   in one list by deadline instead, one and the same time after each was accepted, ended its
 *   last request or, then, sent the next one's first byte.
 * - It has no per-connection user data: a map from connections to `struct conn`. It tells of no
 *   new connection either, only asks for a bufferevent; once the accepting is over that one
 *   knows its connection.
 * - It is lax about where a request ends, and strict about where it begins (framing.h): we
 *   refuse such requests, and skip the empty lines before the others.
 * - It tries again at once, and for ever, when no descriptor is left for a new connection. The
 *   listener then rests; connections wait in the kernel's queue.
 *
 *   request arrives ──▶ WATCHED ──reply──▶ ENDED ──written──▶ finish(true)
 *                          │ └─start─▶ STREAMING ──end──▲
 *                          └────────── lost, aborted ─────────▶ finish(false) */
#include "server/http/evloop.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/map.h"
#include "server/http/framing.h"
#include "server/http/head.h"

#define LISTENERS_MAX       2
#define ACCEPT_REST_MS      100
#define ACCEPT_LOG_MS       10000
#define LOOK_MS             250
#define WATCHED_INPUT_BYTES 4096 /* pipelined requests read ahead of their turn */
#define STREAMED_FILE_FLAGS EVBUF_FS_DISABLE_LOCKING
#define HEAD_MAX_BYTES      (16u * 1024 * 1024) /* a schema may be long */
#define HEAD_KEEP_BYTES     (64u * 1024)
#define WRITES_AT_ONCE      4 /* a head, a file, an end */
/* In the place of CONNECT, behind which evhttp would close no connection. */
#define METHOD_NONE ((enum evhttp_cmd_type)0)
#define METHODS_ALL UINT16_MAX /* evhttp has a bit for the ones it doesn't know, too */

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
    bool begun; /* a byte of the request being received has come */
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
    bool stopping;         /* answers close their connection */
    struct buf head;       /* headers added, not sent */
    struct evbuffer *out;  /* put, not flushed */
    struct evreq *putting; /* whose they are, or NULL */
    struct evbuffer *wire; /* on its way to the socket, empty in between */
    struct list drained;   /* requests whose drained function is due */
    struct event *drain;   /* runs them */
    struct head_date date;
};

static struct timeval timeval_of(int64_t ms)
{
    return (struct timeval){.tv_sec = (time_t)(ms / 1000),
                            .tv_usec = (suseconds_t)(ms % 1000) * 1000};
}

/* --- The loop --- */

static void run_tasks(struct evloop *loop)
{
    struct mail *mail = mailbox_take(&loop->mailbox);

    while (mail) {
        struct evloop_task *task = LIST_ENTRY(mail, struct evloop_task, mail);

        mail = mail->next;
        task->run(task);
    }
}

static void on_mail(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    run_tasks(arg);
}

static void on_look(struct evtimer_entry *entry);
static void on_overdue(struct evtimer_entry *entry);
static void on_adopt(evutil_socket_t fd, short what, void *arg);
static void on_drain(evutil_socket_t fd, short what, void *arg);

static struct evbuffer *buffer_new(void)
{
    struct evbuffer *buffer = evbuffer_new();

    /* Its contents end in a socket's buffer, so file ranges need not be mapped. */
    if (buffer)
        evbuffer_set_flags(buffer, EVBUFFER_FLAG_DRAINS_TO_FD);
    return buffer;
}

static int init_events(struct evloop *loop)
{
    struct event_config *ec = event_config_new();

    if (ec) {
        event_config_set_flag(ec, EVENT_BASE_FLAG_NOLOCK);
        /* evhttp stops reading when it has a request, and watch() goes on: to the kernel that
         * is one change, or none. The one descriptor that is a copy, for which the flag is not
         * safe, is the listener's: it is closed together with the other copies. */
        event_config_set_flag(ec, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
        loop->base = event_base_new_with_config(ec);
        event_config_free(ec);
    }
    if (!loop->base)
        return ERR_IO;
    loop->mail_event =
        event_new(loop->base, loop->mailbox.fd, EV_READ | EV_PERSIST, on_mail, loop);
    loop->adopt = event_new(loop->base, -1, 0, on_adopt, loop);
    loop->drain = event_new(loop->base, -1, 0, on_drain, loop);
    loop->out = buffer_new();
    loop->wire = buffer_new();
    if (!loop->mail_event || !loop->adopt || !loop->drain || !loop->out || !loop->wire ||
        event_add(loop->mail_event, NULL) != 0 ||
        evtimer_queue_init(&loop->looks, loop, LOOK_MS, on_look) != 0 ||
        evtimer_queue_init(&loop->receiving, loop, loop->config.read_timeout_ms,
                           on_overdue) != 0)
        return ERR_IO;
    return 0;
}

int evloop_new(const struct evloop_config *config, struct evloop **out, struct err *err)
{
    struct evloop *loop = calloc(1, sizeof *loop);

    if (!loop)
        return err_set(err, ERR_MEMORY, "out of memory for an event loop");
    loop->config = *config;
    map_init(&loop->conns);
    list_init(&loop->accepted);
    list_init(&loop->requests);
    list_init(&loop->drained);
    buf_init(&loop->head, HEAD_MAX_BYTES);
    if (mailbox_init(&loop->mailbox, SIZE_MAX) != 0) {
        free(loop);
        return err_errno(err, ERR_IO, errno, "no event descriptor for an event loop");
    }
    if (init_events(loop) != 0) {
        evloop_free(loop);
        return err_set(err, ERR_IO, "an event loop could not be made");
    }
    *out = loop;
    return 0;
}

void evloop_free(struct evloop *loop)
{
    if (!loop)
        return;
    ASSERT(loop->listener_count == 0 && list_empty(&loop->requests));
    evtimer_queue_fini(&loop->looks);
    evtimer_queue_fini(&loop->receiving);
    if (loop->out)
        evbuffer_free(loop->out);
    if (loop->wire)
        evbuffer_free(loop->wire);
    if (loop->drain)
        event_free(loop->drain);
    if (loop->adopt)
        event_free(loop->adopt);
    if (loop->mail_event)
        event_free(loop->mail_event);
    if (loop->base)
        event_base_free(loop->base);
    ASSERT(loop->conns.len == 0);
    map_fini(&loop->conns);
    mailbox_fini(&loop->mailbox);
    buf_fini(&loop->head);
    free(loop);
}

void evloop_run(struct evloop *loop)
{
    event_base_dispatch(loop->base);
}

void evloop_break(struct evloop *loop)
{
    event_base_loopbreak(loop->base);
}

size_t evloop_open_requests(const struct evloop *loop)
{
    return loop->request_count;
}

int evloop_post(struct evloop *loop, struct evloop_task *task)
{
    return mailbox_send(&loop->mailbox, &task->mail, true);
}

void evloop_close(struct evloop *loop)
{
    on_adopt(-1, 0, loop);
    while (!list_empty(&loop->requests))
        evreq_abort(LIST_ENTRY(loop->requests.next, struct evreq, link));
    evloop_stop_listening(loop);
    for (unsigned i = 0; i < loop->listener_count; i++)
        evhttp_free(loop->listeners[i].http);
    loop->listener_count = 0;
    mailbox_close(&loop->mailbox);
    run_tasks(loop);
}

/* --- Deadlines --- */

static void timer_arm(struct evtimer_queue *q)
{
    if (list_empty(&q->entries))
        return;
    const struct evtimer_entry *first =
        LIST_ENTRY(q->entries.next, struct evtimer_entry, link);
    int64_t wait_ms = first->at_ms - clock_mono_ms();
    struct timeval tv = timeval_of(wait_ms > 0 ? wait_ms : 0);

    event_add(q->event, &tv);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct evtimer_queue *q = arg;
    int64_t now = clock_mono_ms();

    (void)fd;
    (void)what;
    while (!list_empty(&q->entries)) {
        struct evtimer_entry *entry =
            LIST_ENTRY(q->entries.next, struct evtimer_entry, link);

        if (entry->at_ms > now)
            break;
        list_remove(&entry->link);
        q->fn(entry);
    }
    timer_arm(q);
}

int evtimer_queue_init(struct evtimer_queue *q, struct evloop *loop, int64_t wait_ms,
                       evtimer_fn *fn)
{
    q->loop = loop;
    q->fn = fn;
    q->wait_ms = wait_ms;
    list_init(&q->entries);
    q->event = event_new(loop->base, -1, 0, on_timer, q);
    return q->event ? 0 : ERR_MEMORY;
}

void evtimer_queue_fini(struct evtimer_queue *q)
{
    if (q->event)
        event_free(q->event);
    q->event = NULL;
}

void evtimer_start(struct evtimer_queue *q, struct evtimer_entry *entry)
{
    bool first = list_empty(&q->entries);

    entry->at_ms = clock_mono_ms() + q->wait_ms;
    list_push(&q->entries, &entry->link);
    /* When the first entry goes the event stays set: it fires once for nothing and is set
     * anew, which is cheaper than moving it with every request. */
    if (first && !event_pending(q->event, EV_TIMEOUT, NULL))
        timer_arm(q);
}

void evtimer_stop(struct evtimer_entry *entry)
{
    list_remove(&entry->link);
}

/* --- Connections and requests --- */

static void on_first_bytes(struct evbuffer *in, const struct evbuffer_cb_info *info,
                           void *arg);

/* Nothing that was put for one request is seen by the next. */
static void drop_put(struct evloop *loop)
{
    buf_reset(&loop->head, HEAD_KEEP_BYTES);
    evbuffer_drain(loop->out, evbuffer_get_length(loop->out));
    loop->putting = NULL;
}

static void finish(struct evreq *req, bool complete)
{
    evreq_finish_fn *fn = req->finish;
    void *ctx = req->finish_ctx;
    struct evloop *loop = req->loop;

    if (loop->putting == req)
        drop_put(loop);
    list_remove(&req->link);
    list_remove(&req->drained_link);
    loop->request_count--;
    req->conn->req = NULL;
    free(req);
    if (fn)
        fn(ctx, complete);
}

/* The connection is going: from evhttp_connection_free, whoever called it. */
static void on_closed(struct evhttp_connection *evcon, void *arg)
{
    struct conn *conn = arg;

    (void)evcon;
    if (conn->req)
        finish(conn->req, false);
    evtimer_stop(&conn->timer);
    evbuffer_remove_cb(bufferevent_get_input(conn->bev), on_first_bytes, conn);
    map_del_u64(&conn->loop->conns, (uint64_t)(uintptr_t)conn->evcon);
    obs_add(conn->loop->config.obs, OBS_G_CONNECTIONS, -1);
    free(conn);
}

/* Frees evhttp's request, too. */
static void close_conn(struct conn *conn)
{
    evhttp_connection_free(conn->evcon);
}

static bool is_open(struct conn *conn)
{
    struct tcp_info info;
    socklen_t len = sizeof info;

    return getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 ||
           info.tcpi_state == TCP_ESTABLISHED;
}

static void on_look(struct evtimer_entry *entry)
{
    struct conn *conn = LIST_ENTRY(entry, struct conn, timer);

    if (!conn->req || conn->req->phase == PHASE_ENDED)
        return;
    if (is_open(conn))
        evtimer_start(&conn->loop->looks, entry);
    else
        close_conn(conn);
}

static void on_watched_read(struct bufferevent *bev, void *arg)
{
    struct conn *conn = arg;
    size_t ahead = evbuffer_get_length(bufferevent_get_input(bev));

    if (ahead >= WATCHED_INPUT_BYTES && list_empty(&conn->timer.link))
        evtimer_start(&conn->loop->looks, &conn->timer);
}

static void on_watched_event(struct bufferevent *bev, short what, void *arg)
{
    struct conn *conn = arg;

    (void)bev;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT))
        close_conn(conn);
}

static void complete(struct evreq *req);
static void tell_drained(struct evreq *req);

static void on_watched_written(struct bufferevent *bev, void *arg)
{
    struct conn *conn = arg;
    struct evreq *req = conn->req;

    if (evbuffer_get_length(bufferevent_get_output(bev)) > 0)
        return;
    if (req->phase == PHASE_ENDED)
        complete(req);
    else if (req->phase == PHASE_STREAMING)
        tell_drained(req);
}

static void watch(struct conn *conn)
{
    struct bufferevent *bev = conn->bev;

    bufferevent_setwatermark(bev, EV_READ, 0, WATCHED_INPUT_BYTES);
    bufferevent_setcb(bev, on_watched_read, on_watched_written, on_watched_event, conn);
    bufferevent_enable(bev, EV_READ);
    on_watched_read(bev, conn);
}

static void unwatch(struct conn *conn)
{
    evtimer_stop(&conn->timer);
    bufferevent_setwatermark(conn->bev, EV_READ, 0, 0);
}

/* --- Receiving a request --- */

/* Not within a callback of evhttp's. */
static void on_overdue(struct evtimer_entry *entry)
{
    close_conn(LIST_ENTRY(entry, struct conn, timer));
}

/* The deadline runs from the first byte on, whichever it is. True when the request line has
 * begun, so that no more is to be seen here. */
static bool see_first_bytes(struct conn *conn)
{
    struct evbuffer *in = bufferevent_get_input(conn->bev);
    char first[2];
    ev_ssize_t len;
    size_t skip;

    if (evbuffer_get_length(in) > 0 && !conn->begun) {
        conn->begun = true;
        evtimer_stop(&conn->timer);
        evtimer_start(&conn->loop->receiving, &conn->timer);
    }
    while ((len = evbuffer_copyout(in, first, sizeof first)) > 0 &&
           (skip = framing_empty_line(slice_make(first, (size_t)len))) > 0)
        evbuffer_drain(in, skip);
    return len > 0 && first[0] != '\r';
}

static void on_first_bytes(struct evbuffer *in, const struct evbuffer_cb_info *info,
                           void *arg)
{
    if (info->n_added > 0 && see_first_bytes(arg))
        evbuffer_remove_cb(in, on_first_bytes, arg);
}

/* What has been read ahead may hold the next request, or its beginning. */
static void await_request(struct conn *conn)
{
    evtimer_start(&conn->loop->receiving, &conn->timer);
    if (!see_first_bytes(conn) &&
        !evbuffer_add_cb(bufferevent_get_input(conn->bev), on_first_bytes, conn))
        conn->begun = true;
}

/* For a connection that is being accepted. NULL, also when memory is short, lets evhttp make
 * one itself: its requests find no `struct conn` and are refused. */
static struct bufferevent *on_accept(struct event_base *base, void *arg)
{
    struct evloop *loop = arg;
    struct conn *conn = calloc(1, sizeof *conn);

    if (!conn)
        return NULL;
    conn->loop = loop;
    conn->bev = bufferevent_socket_new(base, -1, 0);
    if (!conn->bev) {
        free(conn);
        return NULL;
    }
    bufferevent_incref(
        conn->bev); /* until adopted: evhttp may fail to make a connection */
    list_push(&loop->accepted, &conn->timer.link);
    event_active(loop->adopt, EV_TIMEOUT, 1);
    return conn->bev;
}

/* The argument of evhttp's callbacks is the connection; they are gone when it is. */
static void adopt(struct conn *conn)
{
    struct evloop *loop = conn->loop;
    struct timeval send = timeval_of(loop->config.send_timeout_ms);
    void *evcon = NULL;

    bufferevent_getcb(conn->bev, NULL, NULL, NULL, &evcon);
    bufferevent_decref(conn->bev);
    if (!evcon) {
        free(conn);
        return;
    }
    if (map_put_u64(&loop->conns, (uint64_t)(uintptr_t)evcon, conn, NULL) != 0) {
        free(conn);
        evhttp_connection_free(evcon);
        return;
    }
    conn->evcon = evcon;
    conn->fd = bufferevent_getfd(conn->bev);
    conn->begun = true; /* its time runs from now on */
    evhttp_connection_set_closecb(evcon, on_closed, conn);
    bufferevent_set_timeouts(conn->bev, NULL, &send);
    obs_add(loop->config.obs, OBS_G_CONNECTIONS, 1);
    await_request(conn);
}

/* Runs before anything is read from the connections: right behind the callback that accepted
 * them. */
static void on_adopt(evutil_socket_t fd, short what, void *arg)
{
    struct evloop *loop = arg;

    (void)fd;
    (void)what;
    while (!list_empty(&loop->accepted)) {
        struct list *first = list_pop(&loop->accepted);

        adopt(LIST_ENTRY(first, struct conn, timer.link));
    }
}

/* --- The life of a request --- */

static void on_complete(struct evhttp_request *ev, void *arg)
{
    struct evreq *req = arg;
    struct conn *conn = req->conn;

    (void)ev;
    unwatch(conn);
    finish(req, true);
    conn->begun = false;
    await_request(conn);
}

static bool is_framed(struct evhttp_request *ev)
{
    const struct evkeyvalq *headers = evhttp_request_get_input_headers(ev);
    struct framing framing = {.bad = false};

    for (const struct evkeyval *h = headers->tqh_first; h; h = h->next.tqe_next)
        framing_see(&framing, slice_of(h->key), slice_of(h->value));
    return framing_fine(&framing);
}

/* evhttp reads bodies of these methods only: any other it would take for the next request. */
static bool leaves_body(struct evhttp_request *ev)
{
    const struct evkeyvalq *headers = evhttp_request_get_input_headers(ev);
    enum evhttp_cmd_type type = evhttp_request_get_command(ev);
    bool read = type == EVHTTP_REQ_GET || type == EVHTTP_REQ_POST ||
                type == EVHTTP_REQ_PUT || type == EVHTTP_REQ_DELETE ||
                type == EVHTTP_REQ_OPTIONS || type == EVHTTP_REQ_PATCH;

    return !read && (evhttp_find_header(headers, "content-length") ||
                     evhttp_find_header(headers, "transfer-encoding"));
}

static bool is_old(const struct evhttp_request *ev)
{
    return ev->major < 1 || (ev->major == 1 && ev->minor < 1);
}

/* As evhttp will judge once the request is complete. */
static bool asks_close(struct evhttp_request *ev)
{
    struct evkeyvalq *headers = evhttp_request_get_input_headers(ev);
    const char *connection = evhttp_find_header(headers, "connection");
    const char *proxy = evhttp_find_header(headers, "proxy-connection");
    struct slice token = slice_of(connection);

    if (is_old(ev) && (token.len < 10 || !slice_eq_nocase(slice_make(token.ptr, 10),
                                                          SLICE_LIT("keep-alive"))))
        return true;
    if (ev->flags & EVHTTP_PROXY_REQUEST)
        return !proxy || !slice_eq_nocase(slice_of(proxy), SLICE_LIT("keep-alive"));
    return slice_eq_nocase(token, SLICE_LIT("close"));
}

static void on_request(struct evhttp_request *ev, void *arg)
{
    struct listener *listener = arg;
    struct evloop *loop = listener->loop;
    struct evhttp_connection *evcon = evhttp_request_get_connection(ev);
    struct conn *conn = map_get_u64(&loop->conns, (uint64_t)(uintptr_t)evcon);
    struct evreq *req = conn ? calloc(1, sizeof *req) : NULL;

    obs_count(loop->config.obs, OBS_HTTP_REQUESTS, 1);
    if (!req) {
        evhttp_send_error(ev, HTTP_SERVUNAVAIL, NULL);
        return;
    }
    evtimer_stop(&conn->timer);
    req->loop = loop;
    req->conn = conn;
    req->ev = ev;
    list_init(&req->drained_link);
    conn->req = req;
    list_push(&loop->requests, &req->link);
    loop->request_count++;
    evhttp_request_set_on_complete_cb(ev, on_complete, req);
    watch(conn);
    if (ev->type == EVHTTP_REQ_CONNECT)
        ev->type = METHOD_NONE;
    req->closing = leaves_body(ev) || asks_close(ev);
    if (is_framed(ev))
        listener->fn(listener->ctx, req);
    else
        evreq_reply_close(req, 400, slice_make("", 0));
}

/* --- Listening --- */

static int is_of_loop(const struct event_base *base, const struct event *event, void *arg)
{
    struct evloop **loop = arg;

    (void)base;
    if (event_get_callback(event) != on_mail)
        return 0;
    *loop = event_get_callback_arg(event);
    return 1;
}

/* libevent hands over nothing of ours but the evhttp; this is rare enough to search. */
static struct listener *listener_of(struct event_base *base, const struct evhttp *http)
{
    struct evloop *loop = NULL;

    event_base_foreach_event(base, is_of_loop, &loop);
    for (unsigned i = 0; loop && i < loop->listener_count; i++)
        if (loop->listeners[i].http == http)
            return &loop->listeners[i];
    return NULL;
}

static void on_accept_error(struct evconnlistener *bound, void *http)
{
    int error = EVUTIL_SOCKET_ERROR();
    struct listener *l = listener_of(evconnlistener_get_base(bound), http);
    struct timeval rest = timeval_of(ACCEPT_REST_MS);
    int64_t now = clock_mono_ms();

    if (!l || event_add(l->rest, &rest) != 0)
        return;
    evconnlistener_disable(bound);
    if (l->told_ms != 0 && now - l->told_ms < ACCEPT_LOG_MS)
        return;
    l->told_ms = now;
    log_event(l->loop->config.log, LOG_ERROR, "http.accept_failed",
              LOG_TEXT("reason", strerror(error)),
              LOG_TEXT("advice", "new connections wait; raise the limit of open files "
                                 "(ulimit -n) above that of requests"));
}

static void on_rest_over(evutil_socket_t fd, short what, void *arg)
{
    struct listener *l = arg;

    (void)fd;
    (void)what;
    if (l->socket)
        evconnlistener_enable(evhttp_bound_socket_get_listener(l->socket));
}

int evloop_listen(struct evloop *loop, int fd, evloop_request_fn *fn, void *ctx,
                  struct err *err)
{
    ASSERT(loop->listener_count < LISTENERS_MAX);
    struct listener *l = &loop->listeners[loop->listener_count];
    int64_t timeout_ms = loop->config.read_timeout_ms;
    struct timeval tv = timeval_of(timeout_ms);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

    if (copy < 0)
        return err_errno(err, ERR_IO, errno, "cannot copy the listening socket");
    *l = (struct listener){.loop = loop, .fn = fn, .ctx = ctx};
    l->http = evhttp_new(loop->base);
    l->rest = l->http ? event_new(loop->base, -1, 0, on_rest_over, l) : NULL;
    if (!l->rest) {
        if (l->http)
            evhttp_free(l->http);
        close(copy);
        return err_set(err, ERR_MEMORY, "out of memory for an HTTP listener");
    }
    loop->listener_count++;
    evhttp_set_timeout_tv(l->http, &tv);
    evhttp_set_max_headers_size(l->http, EVLOOP_HEADERS_MAX_BYTES);
    evhttp_set_max_body_size(l->http, EVLOOP_BODY_MAX_BYTES);
    evhttp_set_default_content_type(l->http, NULL);
    evhttp_set_allowed_methods(l->http, METHODS_ALL);
    evhttp_set_gencb(l->http, on_request, l);
    evhttp_set_bevcb(l->http, on_accept, loop);
    l->socket = evhttp_accept_socket_with_handle(l->http, copy);
    if (!l->socket) {
        close(copy);
        return err_set(err, ERR_IO, "cannot accept on the listening socket");
    }
    evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(l->socket),
                                on_accept_error);
    return 0;
}

void evloop_stop_listening(struct evloop *loop)
{
    loop->stopping = true;
    for (unsigned i = 0; i < loop->listener_count; i++) {
        struct listener *l = &loop->listeners[i];

        if (l->socket)
            evhttp_del_accept_socket(l->http, l->socket);
        l->socket = NULL;
        if (l->rest)
            event_free(l->rest);
        l->rest = NULL;
    }
}

/* --- Reading a request --- */

enum evreq_method evreq_method(const struct evreq *req)
{
    static const struct {
        enum evhttp_cmd_type type;
        enum evreq_method method;
    } table[] = {{EVHTTP_REQ_GET, EVREQ_GET},         {EVHTTP_REQ_HEAD, EVREQ_HEAD},
                 {EVHTTP_REQ_POST, EVREQ_POST},       {EVHTTP_REQ_PUT, EVREQ_PUT},
                 {EVHTTP_REQ_DELETE, EVREQ_DELETE},   {EVHTTP_REQ_PATCH, EVREQ_PATCH},
                 {EVHTTP_REQ_OPTIONS, EVREQ_OPTIONS}, {EVHTTP_REQ_TRACE, EVREQ_TRACE}};
    enum evhttp_cmd_type type = evhttp_request_get_command(req->ev);

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].type == type)
            return table[i].method;
    return EVREQ_OTHER;
}

const char *evreq_method_name(enum evreq_method method)
{
    static const char *const names[] = {"GET",     "HEAD",  "POST",  "PUT",  "DELETE",
                                        "OPTIONS", "PATCH", "TRACE", "OTHER"};

    return names[method];
}

struct slice evreq_target(const struct evreq *req)
{
    return slice_of(evhttp_request_get_uri(req->ev));
}

struct slice evreq_header(const struct evreq *req, const char *name)
{
    return slice_of(evhttp_find_header(evhttp_request_get_input_headers(req->ev), name));
}

struct slice evreq_body(struct evreq *req)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(req->ev);
    size_t len = evbuffer_get_length(in);

    if (len == 0)
        return slice_make("", 0);
    const unsigned char *bytes = evbuffer_pullup(in, -1);
    return bytes ? slice_make((const char *)bytes, len) : slice_make(NULL, 0);
}

void evreq_trim(struct evreq *req)
{
    struct evkeyvalq *headers = evhttp_request_get_input_headers(req->ev);
    struct evkeyval *next;

    for (struct evkeyval *h = headers->tqh_first; h; h = next) {
        struct slice name = slice_of(h->key);

        next = h->next.tqe_next;
        /* evhttp looks at these when the answer is complete. */
        if (!slice_eq_nocase(name, SLICE_LIT("connection")) &&
            !slice_eq_nocase(name, SLICE_LIT("proxy-connection")) &&
            !slice_eq_nocase(name, SLICE_LIT("origin")) &&
            !slice_eq_nocase(name, SLICE_LIT("if-none-match")))
            evhttp_remove_header(headers, h->key);
    }
}

void evreq_on_finish(struct evreq *req, evreq_finish_fn *fn, void *ctx)
{
    req->finish = fn;
    req->finish_ctx = ctx;
}

/* --- Answering --- */

static bool is_head(const struct evreq *req)
{
    return evhttp_request_get_command(req->ev) == EVHTTP_REQ_HEAD;
}

/* Whatever is put from now on, until it is sent, is for this request. */
static void put_for(struct evreq *req)
{
    struct evloop *loop = req->loop;

    if (loop->putting == req)
        return;
    ASSERT(!loop->putting);
    loop->putting = req;
    if (req->head && (req->phase == PHASE_WATCHED || req->status != 0))
        req->head(req->head_ctx, req, req->head_tag);
}

void evreq_on_head(struct evreq *req, evreq_head_fn *fn, const void *ctx, uint64_t tag)
{
    req->head = fn;
    req->head_ctx = ctx;
    req->head_tag = tag;
}

void evreq_add_header(struct evreq *req, const char *name, const char *value)
{
    put_for(req);
    head_add(&req->loop->head, slice_of(name), slice_of(value));
}

void evreq_keep_alive(struct evreq *req)
{
    req->keeping = true;
}

/* To evhttp the request is over: it frees it and closes the connection or reads on. */
static void complete(struct evreq *req)
{
    struct evhttp_request *ev = req->ev;

    if (req->closing)
        evhttp_add_header(evhttp_request_get_output_headers(ev), "connection", "close");
    ev->chunked = 0; /* left from a body that came so */
    evhttp_send_reply_end(ev);
}

static void on_drain(evutil_socket_t fd, short what, void *arg)
{
    struct evloop *loop = arg;
    struct list due;

    (void)fd;
    (void)what;
    list_init(&due);
    while (!list_empty(&loop->drained))
        list_push(&due, list_pop(&loop->drained));
    while (!list_empty(&due)) {
        struct evreq *req = LIST_ENTRY(list_pop(&due), struct evreq, drained_link);

        tell_drained(req);
    }
}

static void tell_drained(struct evreq *req)
{
    evreq_drained_fn *fn = req->drained;

    req->drained = NULL;
    if (fn)
        fn(req->drained_ctx);
}

/* By way of the poll, so that others have their turn between two parts. */
static void drained_soon(struct evreq *req)
{
    struct timeval now = {.tv_sec = 0};
    struct evloop *loop = req->loop;

    if (list_empty(&loop->drained))
        event_add(loop->drain, &now);
    list_push(&loop->drained, &req->drained_link);
}

/* What the socket takes at once. False: it is lost. */
static bool write_now(struct conn *conn, struct evbuffer *wire)
{
    for (unsigned i = 0; i < WRITES_AT_ONCE && evbuffer_get_length(wire) > 0; i++) {
        int n = evbuffer_write(wire, conn->fd);

        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            return false;
        if (n <= 0) /* 0: sendfile would block, or its file is too short: seen later */
            break;
    }
    return true;
}

/* Sends loop->wire. The request may be finished afterwards. */
static void transmit(struct evreq *req)
{
    struct evloop *loop = req->loop;
    struct conn *conn = req->conn;
    struct evbuffer *waiting = bufferevent_get_output(conn->bev);
    bool taken = !req->broken && !loop->head.failed;

    drop_put(loop);
    if (taken && evbuffer_get_length(waiting) == 0)
        taken = write_now(conn, loop->wire);
    if (taken && evbuffer_get_length(loop->wire) > 0)
        taken = evbuffer_add_buffer(waiting, loop->wire) == 0 &&
                bufferevent_enable(conn->bev, EV_WRITE) == 0;
    if (!taken) {
        evbuffer_drain(loop->wire, evbuffer_get_length(loop->wire));
        close_conn(conn);
    } else if (evbuffer_get_length(waiting) > 0) {
        return;
    } else if (req->phase == PHASE_ENDED) {
        complete(req);
    } else if (req->drained) {
        drained_soon(req);
    }
}

static void add_to_wire(struct evreq *req, struct slice bytes)
{
    if (evbuffer_add(req->loop->wire, bytes.ptr, bytes.len) != 0)
        req->broken = true;
}

/* length: of the body, or negative when it is not to be told. */
static void add_head_to_wire(struct evreq *req, int status, int64_t length)
{
    struct evloop *loop = req->loop;
    char begin[HEAD_LINE_MAX];

    put_for(req);
    req->closing |= loop->stopping;
    const struct head_kind kind = {
        .major = (unsigned char)req->ev->major,
        .minor = (unsigned char)req->ev->minor,
        .closing = req->closing,
        .keeping = req->keeping,
        .chunked = req->chunked,
        .length = length,
    };
    head_end(&loop->head, &kind, head_date_now(&loop->date, clock_wall_us() / 1000000));
    add_to_wire(req, slice_make(begin, head_begin(&kind, status, begin)));
    if (!loop->head.failed)
        add_to_wire(req, buf_slice(&loop->head));
    else
        req->broken = true;
}

void evreq_reply_empty(struct evreq *req, int status)
{
    ASSERT(req->phase == PHASE_WATCHED);
    req->phase = PHASE_ENDED;
    add_head_to_wire(req, status, -1);
    transmit(req);
}

void evreq_reply(struct evreq *req, int status, struct slice body)
{
    ASSERT(req->phase == PHASE_WATCHED);
    req->phase = PHASE_ENDED;
    add_head_to_wire(req, status, (int64_t)body.len);
    if (!is_head(req) && body.len > 0) {
        obs_count(req->loop->config.obs, OBS_HTTP_BYTES, body.len);
        add_to_wire(req, body);
    }
    transmit(req);
}

void evreq_reply_close(struct evreq *req, int status, struct slice body)
{
    req->closing = true;
    evreq_reply(req, status, body);
}

void evreq_start(struct evreq *req, int status)
{
    ASSERT(req->phase == PHASE_WATCHED);
    put_for(req);
    req->phase = PHASE_STREAMING;
    req->status = status;
    /* Without chunks only the connection's end can show that of a body. */
    if (is_old(req->ev))
        req->closing = true;
    else
        req->chunked = !is_head(req);
}

/* The buffer that put fills; NULL when nothing is to be kept (HEAD). */
static struct evbuffer *out_of(struct evreq *req)
{
    ASSERT(req->phase == PHASE_STREAMING);
    put_for(req);
    return is_head(req) ? NULL : req->loop->out;
}

void evreq_put(struct evreq *req, struct slice bytes)
{
    struct evbuffer *out = out_of(req);

    if (out && evbuffer_add(out, bytes.ptr, bytes.len) != 0)
        req->broken = true;
}

struct released {
    evreq_release_fn *release;
    void *arg;
};

static void on_released_bytes(const void *bytes, size_t len, void *arg)
{
    struct released *r = arg;

    (void)bytes;
    (void)len;
    r->release(r->arg);
    free(r);
}

static void on_released_file(struct evbuffer_file_segment const *seg, int flags,
                             void *arg)
{
    struct released *r = arg;

    (void)seg;
    (void)flags;
    r->release(r->arg);
    free(r);
}

static struct released *released_new(struct evreq *req, evreq_release_fn *release,
                                     void *arg)
{
    struct released *r = malloc(sizeof *r);

    if (r)
        *r = (struct released){release, arg};
    else
        req->broken = true;
    return r;
}

void evreq_put_ref(struct evreq *req, struct slice bytes, evreq_release_fn *release,
                   void *arg)
{
    struct evbuffer *out = bytes.len > 0 ? out_of(req) : NULL;
    struct released *r = out ? released_new(req, release, arg) : NULL;

    if (!r) {
        release(arg);
        return;
    }
    if (evbuffer_add_reference(out, bytes.ptr, bytes.len, on_released_bytes, r) != 0) {
        req->broken = true;
        on_released_bytes(NULL, 0, r);
    }
}

void evreq_put_file(struct evreq *req, int fd, uint64_t pos, size_t len,
                    evreq_release_fn *release, void *arg)
{
    struct evbuffer *out = len > 0 ? out_of(req) : NULL;
    struct released *r = out ? released_new(req, release, arg) : NULL;
    struct evbuffer_file_segment *seg;

    if (!r) {
        release(arg);
        return;
    }
    seg =
        evbuffer_file_segment_new(fd, (ev_off_t)pos, (ev_off_t)len, STREAMED_FILE_FLAGS);
    if (!seg) {
        req->broken = true;
        on_released_bytes(NULL, 0, r);
        return;
    }
    evbuffer_file_segment_add_cleanup_cb(seg, on_released_file, r);
    if (evbuffer_add_file_segment(out, seg, 0, (ev_off_t)len) != 0)
        req->broken = true;
    evbuffer_file_segment_free(seg);
}

/* The head, if it has not been sent, and what was put as one chunk; the last one, too. */
static void send_put(struct evreq *req, bool last)
{
    struct evloop *loop = req->loop;
    size_t len = evbuffer_get_length(loop->out);
    char size[HEAD_CHUNK_MAX];

    ASSERT(!loop->putting || loop->putting == req);
    if (req->status != 0)
        add_head_to_wire(req, req->status, -1);
    req->status = 0;
    if (len > 0) {
        obs_count(loop->config.obs, OBS_HTTP_BYTES, len);
        if (req->chunked)
            add_to_wire(req, slice_make(size, head_chunk(len, size)));
        if (evbuffer_add_buffer(loop->wire, loop->out) != 0)
            req->broken = true;
        if (req->chunked)
            add_to_wire(req, SLICE_LIT("\r\n"));
    }
    if (last && req->chunked)
        add_to_wire(req, SLICE_LIT("0\r\n\r\n"));
    transmit(req);
}

void evreq_flush(struct evreq *req, evreq_drained_fn *fn, void *ctx)
{
    ASSERT(req->phase == PHASE_STREAMING);
    ASSERT(!is_head(req));
    req->drained = fn;
    req->drained_ctx = ctx;
    send_put(req, false);
}

void evreq_end(struct evreq *req)
{
    ASSERT(req->phase == PHASE_STREAMING);
    req->phase = PHASE_ENDED;
    req->drained = NULL;
    list_remove(&req->drained_link);
    send_put(req, true);
}

void evreq_abort(struct evreq *req)
{
    close_conn(req->conn);
}
