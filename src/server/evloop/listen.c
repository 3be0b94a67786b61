/* Listening sockets.
 *
 * evhttp tries again at once, and for ever, when no descriptor is left for a new connection. The
 * listener then rests; connections wait in the kernel's queue. */
#include <errno.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "server/evloop/parts.h"

#define ACCEPT_REST_MS 100
#define ACCEPT_LOG_MS  10000
#define METHODS_ALL    UINT16_MAX /* evhttp has a bit for the ones it doesn't know, too */

/* libevent hands over nothing of ours but the evhttp; this is rare enough to search. */
static struct listener *listener_of(struct event_base *base, const struct evhttp *http)
{
    struct evloop *loop = evloop_of(base);

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
    evhttp_set_gencb(l->http, conn_request, l);
    evhttp_set_bevcb(l->http, conn_accept, loop);
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
