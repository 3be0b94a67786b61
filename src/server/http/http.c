/* Starting and stopping: sockets, loops, threads. */
#include "server/http/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "server/http/stage.h"

#define LISTEN_BACKLOG 4096
#define TICK_MS        5

/* --- Numbers --- */

bool http_secret_fits(const struct http *http, struct slice given)
{
    struct slice secret = slice_of(http->secret);
    unsigned char differ = given.len != secret.len;

    if (!http->secret)
        return true;
    for (size_t i = 0; i < given.len; i++) {
        char c = secret.len ? secret.ptr[i % secret.len] : '\0';

        differ |= (unsigned char)(given.ptr[i] ^ c);
    }
    return differ == 0;
}

uint64_t http_loop_random(struct http_loop *loop)
{
    /* splitmix64 */
    uint64_t z = (loop->random += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t http_loop_unique(struct http_loop *loop)
{
    uint64_t now = (uint64_t)clock_mono_us();

    loop->unique = now > loop->unique ? now : loop->unique + 1;
    return loop->unique * SHAPES_WATCHERS_MAX + loop->index;
}

/* --- Sockets --- */

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage at = {0};
    socklen_t len = sizeof at;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;

    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0)
        return 0;
    if (at.ss_family == AF_INET6) {
        memcpy(&in6, &at, sizeof in6);
        return ntohs(in6.sin6_port);
    }
    memcpy(&in4, &at, sizeof in4);
    return ntohs(in4.sin_port);
}

static int listen_on(const char *address, uint16_t port, int *out, struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found = NULL;
    char service[8];
    int on = 1;
    int off = 0;

    snprintf(service, sizeof service, "%u", port);
    int rc = getaddrinfo(address, service, &hints, &found);
    if (rc != 0)
        return err_set(err, ERR_IO, "cannot listen on %s: %s; give a numeric address",
                       address, gai_strerror(rc));
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        /* Accepted sockets inherit these. */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        if (found->ai_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0 ||
        listen(fd, LISTEN_BACKLOG) != 0) {
        rc = err_errno(err, ERR_IO, errno, "cannot listen on %s port %u", address, port);
        if (fd >= 0)
            close(fd);
    } else {
        *out = fd;
    }
    freeaddrinfo(found);
    return rc;
}

/* --- Loops --- */

static void run_wake_all(struct evloop_task *task)
{
    struct http_loop *loop = LIST_ENTRY(task, struct http_loop, wake_all);

    atomic_store(&loop->wake_all_posted, false);
    waits_run_all(loop);
}

static void on_tick(struct evtimer_entry *entry)
{
    struct http_loop *loop = LIST_ENTRY(entry, struct http_loop, tick_entry);

    if (evloop_open_requests(loop->ev) == 0 || clock_mono_ms() >= loop->stop_deadline_ms)
        evloop_break(loop->ev);
    else
        evtimer_start(&loop->tick, entry);
}

static int init_timers(struct http_loop *loop)
{
    const struct http_config *c = &loop->http->config;
    int64_t half = c->long_poll_timeout_ms / 2;
    const struct {
        struct evtimer_queue *queue;
        int64_t wait_ms;
        evtimer_fn *fn;
    } queues[] = {
        {&loop->ready, c->ready_timeout_ms, shape_request_timeout},
        {&loop->start, HTTP_SNAPSHOT_START_MS, shape_request_timeout},
        {&loop->live, c->long_poll_timeout_ms, shape_request_timeout},
        {&loop->ahead, half, shape_request_timeout},
        {&loop->replay, half > c->ready_timeout_ms ? half : c->ready_timeout_ms,
         shape_request_timeout},
        {&loop->sse_beat, c->sse_keepalive_ms, shape_request_timeout},
        {&loop->sse_end, c->sse_timeout_ms, shape_request_end_timeout},
        {&loop->tick, TICK_MS, on_tick},
    };
    int rc = 0;

    for (size_t i = 0; i < sizeof queues / sizeof queues[0]; i++)
        if (evtimer_queue_init(queues[i].queue, loop->ev, queues[i].wait_ms,
                               queues[i].fn))
            rc = ERR_MEMORY;
    return rc;
}

static void fini_timers(struct http_loop *loop)
{
    struct evtimer_queue *queues[] = {&loop->ready,   &loop->start,  &loop->live,
                                      &loop->ahead,   &loop->replay, &loop->sse_beat,
                                      &loop->sse_end, &loop->tick};

    for (size_t i = 0; i < sizeof queues / sizeof queues[0]; i++)
        evtimer_queue_fini(queues[i]);
}

static int loop_init(struct http *http, unsigned index, struct err *err)
{
    struct http_loop *loop = &http->loops[index];
    const struct evloop_config config = {.obs = http->config.obs,
                                         .log = http->config.log,
                                         .read_timeout_ms = http->config.read_timeout_ms,
                                         .send_timeout_ms = http->config.send_timeout_ms};

    loop->http = http;
    loop->index = index;
    loop->wake_all.run = run_wake_all;
    map_init(&loop->waits);
    list_init(&loop->service_waits);
    list_init(&loop->requests);
    list_init(&loop->tick_entry.link);
    if (getrandom(&loop->random, sizeof loop->random, 0) != sizeof loop->random)
        loop->random = (uint64_t)clock_wall_us() + index;
    int rc = evloop_new(&config, &loop->ev, err);
    if (rc != 0)
        return rc;
    if (init_timers(loop) != 0)
        return err_set(err, ERR_MEMORY, "out of memory for the timers of an event loop");
    rc = evloop_listen(loop->ev, http->listen_fd, routes_request, loop, err);
    if (rc == 0 && index == 0 && http->metrics_fd >= 0)
        rc = evloop_listen(loop->ev, http->metrics_fd, routes_metrics, loop, err);
    return rc;
}

static void *loop_main(void *arg)
{
    struct http_loop *loop = arg;

    evloop_run(loop->ev);
    return NULL;
}

static int loop_start(struct http_loop *loop, struct err *err)
{
    loop->watcher = shapes_add_watcher(loop->http->config.shapes, waits_notify, loop);
    int rc = pthread_create(&loop->thread, NULL, loop_main, loop);
    if (rc != 0)
        return err_errno(err, ERR_IO, rc, "cannot start an HTTP thread");
    loop->running = true;
    return 0;
}

/* --- The stage --- */

static int make_strings(struct http *http)
{
    const struct http_config *c = &http->config;
    struct buf server;

    buf_init(&server, 256);
    buf_puts(&server, "ElectricSQL/");
    buf_puts(&server, c->version ? c->version : "0");
    http->server = buf_take(&server, NULL);
    http->secret = c->secret ? slice_dup(slice_of(c->secret)) : NULL;
    http->respond =
        (struct respond_config){.server = http->server,
                                .cache_max_age_s = c->cache_max_age_s,
                                .cache_stale_age_s = c->cache_stale_age_s,
                                .long_poll_timeout_ms = c->long_poll_timeout_ms,
                                .sse_timeout_ms = c->sse_timeout_ms};
    return http->server && (http->secret || !c->secret) ? 0 : ERR_MEMORY;
}

static int open_sockets(struct http *http, struct err *err)
{
    const struct http_config *c = &http->config;
    int rc = listen_on(c->listen_address, c->port, &http->listen_fd, err);

    if (rc != 0)
        return rc;
    http->port = bound_port(http->listen_fd);
    if (c->metrics_enabled || c->metrics_port != 0) {
        rc = listen_on(c->listen_address, c->metrics_port, &http->metrics_fd, err);
        if (rc != 0)
            return rc;
        http->metrics_port = bound_port(http->metrics_fd);
    }
    return 0;
}

static void close_sockets(struct http *http)
{
    if (http->listen_fd >= 0)
        close(http->listen_fd);
    if (http->metrics_fd >= 0)
        close(http->metrics_fd);
    http->listen_fd = http->metrics_fd = -1;
}

int http_start(const struct http_config *config, struct http **out, struct err *err)
{
    unsigned n = config->threads ? config->threads : 1;
    struct http *http;

    n = n < SHAPES_WATCHERS_MAX ? n : SHAPES_WATCHERS_MAX;
    http = calloc(1, sizeof *http + n * sizeof http->loops[0]);
    if (!http)
        return err_set(err, ERR_MEMORY, "out of memory for the HTTP server");
    http->config = *config;
    http->listen_fd = http->metrics_fd = -1;
    admission_init(&http->admission, config->max_initial_requests,
                   config->max_existing_requests, config->obs);
    int rc = make_strings(http);
    if (rc != 0)
        err_set(err, rc, "out of memory for the HTTP server");
    else
        rc = open_sockets(http, err);
    for (; rc == 0 && http->loop_count < n; http->loop_count++)
        rc = loop_init(http, http->loop_count, err);
    for (unsigned i = 0; rc == 0 && i < n; i++)
        rc = loop_start(&http->loops[i], err);
    if (rc != 0) {
        http_stop(http, 0);
        http_free(http);
        return rc;
    }
    log_event(config->log, LOG_INFO, "http.listening",
              LOG_TEXT("address", config->listen_address), LOG_U64("port", http->port));
    if (http->metrics_fd >= 0)
        log_event(config->log, LOG_INFO, "http.metrics_listening",
                  LOG_U64("port", http->metrics_port));
    *out = http;
    return 0;
}

uint16_t http_port(const struct http *h)
{
    return h->port;
}

uint16_t http_metrics_port(const struct http *h)
{
    return h->metrics_port;
}

/* --- Stopping --- */

struct stop_task {
    struct evloop_task task;
    struct http_loop *loop;
};

static void run_stop(struct evloop_task *task)
{
    struct stop_task *s = LIST_ENTRY(task, struct stop_task, task);
    struct http_loop *loop = s->loop;
    struct list *next;

    loop->stopping = true;
    evloop_stop_listening(loop->ev);
    for (struct list *l = loop->requests.next; l != &loop->requests; l = next) {
        next = l->next;
        shape_request_stop(LIST_ENTRY(l, struct shape_request, link));
    }
    on_tick(&loop->tick_entry);
}

static void loop_close(struct http_loop *loop)
{
    if (!loop->ev)
        return;
    evloop_close(loop->ev);
    ASSERT(list_empty(&loop->requests) && loop->waits.len == 0);
    fini_timers(loop);
}

void http_stop(struct http *h, int64_t timeout_ms)
{
    struct stop_task tasks[SHAPES_WATCHERS_MAX];

    if (h->stopped)
        return;
    h->stopped = true;
    for (unsigned i = 0; i < h->loop_count; i++) {
        struct http_loop *loop = &h->loops[i];

        loop->stop_deadline_ms = clock_mono_ms() + timeout_ms;
        tasks[i] = (struct stop_task){.task.run = run_stop, .loop = loop};
        if (loop->running)
            evloop_post(loop->ev, &tasks[i].task);
    }
    close_sockets(h);
    for (unsigned i = 0; i < h->loop_count; i++)
        if (h->loops[i].running)
            pthread_join(h->loops[i].thread, NULL);
    for (unsigned i = 0; i < h->loop_count; i++)
        loop_close(&h->loops[i]);
}

void http_free(struct http *h)
{
    if (!h)
        return;
    http_stop(h, 0);
    for (unsigned i = 0; i < h->loop_count; i++) {
        evloop_free(h->loops[i].ev);
        map_fini(&h->loops[i].waits);
    }
    free(h->server);
    free(h->secret);
    free(h);
}
