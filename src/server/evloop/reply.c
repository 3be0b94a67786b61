/* Answers.
 *
 * evhttp reads requests; what is answered we write ourselves. It would build every head from a
 * list of strings and ask the kernel for leave to write before and after each answer, which is
 * most of what waking a client costs. So a head is made in one buffer, and head and body go to
 * the socket in one call, at once; only what the kernel does not take waits in the bufferevent
 * for it to become writable. When all is written evhttp_send_reply_end, which finds nothing
 * left to send, ends the request for evhttp: it closes the connection or reads the next one.
 *
 * Heads and bodies are put into buffers of the loop, since what is put for one request is sent
 * before anything is put for another. */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "server/evloop/head.h"
#include "server/evloop/parts.h"

#define STREAMED_FILE_FLAGS EVBUF_FS_DISABLE_LOCKING
#define HEAD_MAX_BYTES      (16u * 1024 * 1024) /* a schema may be long */
#define HEAD_KEEP_BYTES     (64u * 1024)
#define WRITES_AT_ONCE      4 /* a head, a file, an end */

static struct evbuffer *buffer_new(void)
{
    struct evbuffer *buffer = evbuffer_new();

    /* Its contents end in a socket's buffer, so file ranges need not be mapped. */
    if (buffer)
        evbuffer_set_flags(buffer, EVBUFFER_FLAG_DRAINS_TO_FD);
    return buffer;
}

static void on_drain(evutil_socket_t fd, short what, void *arg);

int reply_init(struct evloop *loop)
{
    list_init(&loop->drained);
    buf_init(&loop->head, HEAD_MAX_BYTES);
    loop->drain = event_new(loop->base, -1, 0, on_drain, loop);
    loop->out = buffer_new();
    loop->wire = buffer_new();
    loop->apart = buffer_new();
    return loop->drain && loop->out && loop->wire && loop->apart ? 0 : ERR_MEMORY;
}

void reply_fini(struct evloop *loop)
{
    if (loop->out)
        evbuffer_free(loop->out);
    if (loop->wire)
        evbuffer_free(loop->wire);
    if (loop->apart)
        evbuffer_free(loop->apart);
    if (loop->drain)
        event_free(loop->drain);
    buf_fini(&loop->head);
}

void reply_drop(struct evloop *loop)
{
    buf_reset(&loop->head, HEAD_KEEP_BYTES);
    evbuffer_drain(loop->out, evbuffer_get_length(loop->out));
    loop->after_file = loop->with_file = false;
    loop->putting = NULL;
}

bool reply_is_old(const struct evhttp_request *ev)
{
    return ev->major < 1 || (ev->major == 1 && ev->minor < 1);
}

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

void evreq_set_flag(struct evreq *req)
{
    req->flag = true;
}

bool evreq_flag(const struct evreq *req)
{
    return req->flag;
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

/* Between a head and a part of a file, or two parts, the kernel would send a segment that is not
 * full; nothing is gained by that amid an answer. */
static void cork(struct conn *conn, bool on)
{
    int value = on;

    if (conn->corked != on)
        setsockopt(conn->fd, IPPROTO_TCP, TCP_CORK, &value, sizeof value);
    conn->corked = on;
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

static void tell_drained(struct evreq *req)
{
    evreq_drained_fn *fn = req->drained;

    req->drained = NULL;
    if (fn)
        fn(req->drained_ctx);
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

void reply_written(struct evreq *req)
{
    cork(req->conn, false);
    if (req->phase == PHASE_ENDED)
        complete(req);
    else if (req->phase == PHASE_STREAMING)
        tell_drained(req);
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

    if (loop->with_file)
        cork(conn, true);
    reply_drop(loop);
    if (taken && evbuffer_get_length(waiting) == 0)
        taken = write_now(conn, loop->wire);
    if (taken && evbuffer_get_length(loop->wire) > 0)
        taken = evbuffer_add_buffer(waiting, loop->wire) == 0 &&
                bufferevent_enable(conn->bev, EV_WRITE) == 0;
    if (!taken) {
        evbuffer_drain(loop->wire, evbuffer_get_length(loop->wire));
        conn_close(conn);
        return;
    }
    if (evbuffer_get_length(waiting) > 0)
        return;
    cork(conn, false);
    if (req->phase == PHASE_ENDED)
        complete(req);
    else if (req->drained)
        drained_soon(req);
}

static void add_to_wire(struct evreq *req, struct slice bytes)
{
    if (evbuffer_add(req->loop->wire, bytes.ptr, bytes.len) != 0)
        req->broken = true;
}

/* Behind a part of a file libevent's evbuffer_add would allocate as much as the part's offset in
 * the file and its length; a buffer that is filled on its own and then moved does not. */
static void put_apart(struct evreq *req, struct evbuffer *to, struct slice bytes)
{
    struct evbuffer *apart = req->loop->apart;

    if (evbuffer_add(apart, bytes.ptr, bytes.len) != 0 ||
        evbuffer_add_buffer(to, apart) != 0) {
        evbuffer_drain(apart, evbuffer_get_length(apart));
        req->broken = true;
    }
}

/* Behind what was put last, which `to` ends with. */
static void put_behind(struct evreq *req, struct evbuffer *to, struct slice bytes)
{
    if (req->loop->after_file)
        put_apart(req, to, bytes);
    else if (evbuffer_add(to, bytes.ptr, bytes.len) != 0)
        req->broken = true;
    req->loop->after_file = false;
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
    if (reply_is_old(req->ev))
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

    if (out)
        put_behind(req, out, bytes);
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
    req->loop->after_file = false;
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
    req->loop->after_file = req->loop->with_file = true;
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
            put_behind(req, loop->wire, SLICE_LIT("\r\n"));
        loop->after_file = false;
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
    conn_close(req->conn);
}
