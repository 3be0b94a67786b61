#include "support/httpd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define REQUESTS_MAX    20000
#define CONNECTIONS_MAX 4096
#define REQUEST_BYTES   (4u << 20)
#define WAIT_S          20

struct reply {
    struct reply *next;
    char *match;
    char *bytes;
    size_t n;
    size_t piece;
    enum httpd_after after;
};

struct connection {
    struct httpd *h;
    pthread_t thread;
    int fd;
};

struct httpd {
    int fd;
    int port;
    char url[64];
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool stopping;
    struct reply *replies;
    char *requests[REQUESTS_MAX];
    size_t count;
    struct connection connections[CONNECTIONS_MAX];
    size_t connection_count;
    size_t ended_count;
};

/* The mutex is held. Also tells whoever waits for a reply, or for a request. */
static void wait_a_little(struct httpd *h)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&h->changed, &h->mutex, &until);
}

static bool peer_gone(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static bool matches(const struct reply *r, const char *request, bool more)
{
    if (more || (r->match && strcmp(r->match, HTTPD_MORE) == 0))
        return more && r->match && strcmp(r->match, HTTPD_MORE) == 0;
    return !r->match || strstr(request, r->match);
}

/* The reply, waited for; NULL when the client or the server went away. */
static struct reply *take_reply(struct httpd *h, int fd, const char *request, bool more)
{
    struct reply *found = NULL;

    pthread_mutex_lock(&h->mutex);
    while (!h->stopping && !found) {
        struct reply **at = &h->replies;

        if (peer_gone(fd))
            break;
        while (*at && !matches(*at, request, more))
            at = &(*at)->next;
        found = *at;
        if (found) {
            *at = found->next;
        } else {
            wait_a_little(h);
        }
    }
    pthread_mutex_unlock(&h->mutex);
    return found;
}

static bool send_all(int fd, const char *bytes, size_t n, size_t piece)
{
    while (n > 0) {
        size_t part = piece > 0 && piece < n ? piece : n;
        ssize_t sent = send(fd, bytes, part, MSG_NOSIGNAL);

        if (sent <= 0)
            return false;
        bytes += sent;
        n -= (size_t)sent;
    }
    return true;
}

static void reset(int fd)
{
    struct linger now = {1, 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

/* Sends what the script has; false when the connection is over. */
static bool answer(struct httpd *h, int fd, const char *request)
{
    bool more = false;

    for (;;) {
        struct reply *r = take_reply(h, fd, request, more);
        enum httpd_after after;
        bool sent;

        if (!r)
            return false;
        sent = send_all(fd, r->bytes, r->n, r->piece);
        after = r->after;
        free(r->match);
        free(r->bytes);
        free(r);
        if (after == HTTPD_RESET)
            reset(fd);
        if (!sent || after == HTTPD_CLOSE || after == HTTPD_RESET)
            return false;
        if (after == HTTPD_KEEP)
            return true;
        more = true;
    }
}

static size_t content_length(const char *head)
{
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, "content-length:", 15) == 0)
            return (size_t)strtoul(line + 17, NULL, 10);
    }
    return 0;
}

/* One request, terminated; NULL at the connection's end. The caller frees. */
static char *read_request(int fd)
{
    char *text = malloc(REQUEST_BYTES + 1);
    size_t n = 0;
    size_t want = 0;

    while (text && n < REQUEST_BYTES) {
        ssize_t got = recv(fd, text + n, want > 0 ? want - n : 1, 0);
        char *end;

        if (got <= 0)
            break;
        n += (size_t)got;
        text[n] = '\0';
        end = want == 0 && n >= 4 && memcmp(text + n - 4, "\r\n\r\n", 4) == 0 ? text + n
                                                                              : NULL;
        if (end)
            want = n + content_length(text);
        if (want > 0 && n == want)
            return text;
    }
    free(text);
    return NULL;
}

static void *serve(void *arg)
{
    struct connection *c = arg;
    struct httpd *h = c->h;
    char *request;
    bool going = true;

    while (going && (request = read_request(c->fd))) {
        bool room;

        pthread_mutex_lock(&h->mutex);
        room = h->count < REQUESTS_MAX;
        if (room)
            h->requests[h->count++] = request;
        pthread_cond_broadcast(&h->changed);
        pthread_mutex_unlock(&h->mutex);
        going = answer(h, c->fd, request);
        if (!room)
            free(request);
    }
    pthread_mutex_lock(&h->mutex);
    close(c->fd);
    c->fd = -1;
    h->ended_count++;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->mutex);
    return NULL;
}

static void *accept_all(void *arg)
{
    struct httpd *h = arg;

    for (;;) {
        int fd = accept(h->fd, NULL, NULL);
        struct connection *c;

        pthread_mutex_lock(&h->mutex);
        if (fd < 0 || h->stopping || h->connection_count == CONNECTIONS_MAX) {
            bool stop = h->stopping;

            pthread_mutex_unlock(&h->mutex);
            if (fd >= 0)
                close(fd);
            if (stop)
                return NULL;
            continue;
        }
        c = &h->connections[h->connection_count++];
        c->h = h;
        c->fd = fd;
        if (pthread_create(&c->thread, NULL, serve, c) != 0)
            abort();
        pthread_mutex_unlock(&h->mutex);
    }
}

struct httpd *httpd_new(void)
{
    struct httpd *h = calloc(1, sizeof(*h));
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);

    assert_non_null(h);
    pthread_mutex_init(&h->mutex, NULL);
    pthread_cond_init(&h->changed, NULL);
    h->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(h->fd >= 0);
    assert_int_equal(bind(h->fd, (struct sockaddr *)(void *)&a, sizeof(a)), 0);
    assert_int_equal(listen(h->fd, 256), 0);
    assert_int_equal(getsockname(h->fd, (struct sockaddr *)(void *)&a, &n), 0);
    h->port = ntohs(a.sin_port);
    snprintf(h->url, sizeof(h->url), "http://127.0.0.1:%d", h->port);
    assert_int_equal(pthread_create(&h->thread, NULL, accept_all, h), 0);
    return h;
}

void httpd_free(struct httpd *h)
{
    pthread_mutex_lock(&h->mutex);
    h->stopping = true;
    pthread_cond_broadcast(&h->changed);
    for (size_t i = 0; i < h->connection_count; i++) {
        if (h->connections[i].fd >= 0)
            shutdown(h->connections[i].fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&h->mutex);
    shutdown(h->fd, SHUT_RDWR);
    pthread_join(h->thread, NULL);
    close(h->fd);
    for (size_t i = 0; i < h->connection_count; i++)
        pthread_join(h->connections[i].thread, NULL);
    while (h->replies) {
        struct reply *r = h->replies;

        h->replies = r->next;
        free(r->match);
        free(r->bytes);
        free(r);
    }
    for (size_t i = 0; i < h->count; i++)
        free(h->requests[i]);
    pthread_mutex_destroy(&h->mutex);
    pthread_cond_destroy(&h->changed);
    free(h);
}

int httpd_port(const struct httpd *h)
{
    return h->port;
}

const char *httpd_url(const struct httpd *h)
{
    return h->url;
}

void httpd_push(struct httpd *h, const char *match, const char *bytes, size_t n,
                enum httpd_after after, size_t piece)
{
    struct reply *r = calloc(1, sizeof(*r));
    struct reply **at;

    assert_non_null(r);
    r->match = match ? strdup(match) : NULL;
    r->bytes = malloc(n + 1);
    assert_non_null(r->bytes);
    memcpy(r->bytes, bytes, n);
    r->n = n;
    r->after = after;
    r->piece = piece;
    pthread_mutex_lock(&h->mutex);
    for (at = &h->replies; *at; at = &(*at)->next)
        ;
    *at = r;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->mutex);
}

void httpd_reply(struct httpd *h, const char *match, int status, const char *headers,
                 const char *body)
{
    size_t room = strlen(headers) + strlen(body) + 256;
    char *text = malloc(room);
    int n;

    assert_non_null(text);
    n = snprintf(text, room, "HTTP/1.1 %d X\r\n%scontent-length: %zu\r\n\r\n%s", status,
                 headers, strlen(body), body);
    httpd_push(h, match, text, (size_t)n, HTTPD_KEEP, 0);
    free(text);
}

size_t httpd_count(struct httpd *h)
{
    size_t n;

    pthread_mutex_lock(&h->mutex);
    n = h->count;
    pthread_mutex_unlock(&h->mutex);
    return n;
}

const char *httpd_request(struct httpd *h, size_t n)
{
    time_t begin = time(NULL);
    const char *text = NULL;

    pthread_mutex_lock(&h->mutex);
    while (h->count <= n && time(NULL) - begin < WAIT_S)
        wait_a_little(h);
    if (h->count > n)
        text = h->requests[n];
    pthread_mutex_unlock(&h->mutex);
    if (!text)
        fail_msg("request %zu did not come", n);
    return text;
}

size_t httpd_left(struct httpd *h)
{
    size_t n = 0;

    pthread_mutex_lock(&h->mutex);
    for (struct reply *r = h->replies; r; r = r->next)
        n++;
    pthread_mutex_unlock(&h->mutex);
    return n;
}

size_t httpd_connections(struct httpd *h)
{
    size_t n;

    pthread_mutex_lock(&h->mutex);
    n = h->connection_count;
    pthread_mutex_unlock(&h->mutex);
    return n;
}

void httpd_wait_ended(struct httpd *h, size_t n)
{
    time_t begin = time(NULL);
    bool ended;

    pthread_mutex_lock(&h->mutex);
    while (h->ended_count < n && time(NULL) - begin < WAIT_S)
        wait_a_little(h);
    ended = h->ended_count >= n;
    pthread_mutex_unlock(&h->mutex);
    if (!ended)
        fail_msg("%zu connections did not end", n);
}
