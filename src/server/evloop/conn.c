/* Connections, and requests until they are answered.
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
 *   refuse such requests, and skip the empty lines before the others. */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>

#include "base/assert.h"
#include "server/evloop/framing.h"
#include "server/evloop/parts.h"

#define WATCHED_INPUT_BYTES 4096 /* pipelined requests read ahead of their turn */
/* In the place of CONNECT, behind which evhttp would close no connection. */
#define METHOD_NONE ((enum evhttp_cmd_type)0)

static void on_first_bytes(struct evbuffer *in, const struct evbuffer_cb_info *info,
                           void *arg);

static void finish(struct evreq *req, bool complete)
{
    evreq_finish_fn *fn = req->finish;
    void *ctx = req->finish_ctx;
    struct evloop *loop = req->loop;

    if (loop->putting == req)
        reply_drop(loop);
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

void conn_close(struct conn *conn)
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

void conn_look(struct evtimer_entry *entry)
{
    struct conn *conn = LIST_ENTRY(entry, struct conn, timer);

    if (!conn->req || conn->req->phase == PHASE_ENDED)
        return;
    if (is_open(conn))
        evtimer_start(&conn->loop->looks, entry);
    else
        conn_close(conn);
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
        conn_close(conn);
}

static void on_watched_written(struct bufferevent *bev, void *arg)
{
    struct conn *conn = arg;

    if (evbuffer_get_length(bufferevent_get_output(bev)) == 0)
        reply_written(conn->req);
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
void conn_overdue(struct evtimer_entry *entry)
{
    conn_close(LIST_ENTRY(entry, struct conn, timer));
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
struct bufferevent *conn_accept(struct event_base *base, void *arg)
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

void conn_adopt_all(struct evloop *loop)
{
    while (!list_empty(&loop->accepted))
        adopt(LIST_ENTRY(list_pop(&loop->accepted), struct conn, timer.link));
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

/* As evhttp will judge once the request is complete. */
static bool asks_close(struct evhttp_request *ev)
{
    struct evkeyvalq *headers = evhttp_request_get_input_headers(ev);
    const char *connection = evhttp_find_header(headers, "connection");
    const char *proxy = evhttp_find_header(headers, "proxy-connection");
    struct slice token = slice_of(connection);

    if (reply_is_old(ev) && (token.len < 10 || !slice_eq_nocase(slice_make(token.ptr, 10),
                                                                SLICE_LIT("keep-alive"))))
        return true;
    if (ev->flags & EVHTTP_PROXY_REQUEST)
        return !proxy || !slice_eq_nocase(slice_of(proxy), SLICE_LIT("keep-alive"));
    return slice_eq_nocase(token, SLICE_LIT("close"));
}

/* There is no memory to answer it as ours. */
static void refuse(struct evhttp_request *ev)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(ev);

    evhttp_add_header(headers, "connection", "close");
    evhttp_add_header(headers, "cache-control", "no-store");
    evhttp_add_header(headers, "retry-after", "1");
    evhttp_send_reply(ev, HTTP_SERVUNAVAIL, NULL, NULL);
}

void conn_request(struct evhttp_request *ev, void *arg)
{
    struct listener *listener = arg;
    struct evloop *loop = listener->loop;
    struct evhttp_connection *evcon = evhttp_request_get_connection(ev);
    struct conn *conn = map_get_u64(&loop->conns, (uint64_t)(uintptr_t)evcon);
    struct evreq *req = conn ? calloc(1, sizeof *req) : NULL;

    obs_count(loop->config.obs, OBS_HTTP_REQUESTS, 1);
    if (!req) {
        refuse(ev);
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
