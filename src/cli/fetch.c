/* One GET on one connection: HTTP/1.0, so that the answer is neither chunked nor kept
 * open, read until the other side closes. */
#include "cli/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define HOST_MAX     256
#define HEADER_ROOM  4096
#define READ_AT_ONCE 16384

struct target {
    char host[HOST_MAX];
    char port[8];
    char path[512];
};

static int bad_url(const char *url, struct err *err)
{
    return err_set(err, ERR_INVALID,
                   "%.200s is no URL to ask: it must be like http://127.0.0.1:3000", url);
}

/* http://host[:port][/path], the host perhaps an [IPv6 address]. */
static int parse_url(const char *url, const char *path, struct target *t, struct err *err)
{
    if (strncmp(url, "http://", 7) != 0)
        return bad_url(url, err);
    const char *p = url + 7;
    const char *end = *p == '[' ? strchr(p, ']') : p + strcspn(p, ":/");
    bool bracket = *p == '[';
    if (!end || end == p || (size_t)(end - p) >= HOST_MAX)
        return bad_url(url, err);
    p += bracket;
    memcpy(t->host, p, (size_t)(end - p));
    t->host[end - p] = '\0';
    p = end + bracket;
    uint64_t port = 80;
    if (*p == ':') {
        size_t digits = strcspn(++p, "/");
        if (!slice_to_u64(slice_make(p, digits), &port) || port == 0 || port > 65535)
            return bad_url(url, err);
        p += digits;
    }
    if (*p != '\0' && *p != '/')
        return bad_url(url, err);
    snprintf(t->port, sizeof(t->port), "%u", (unsigned)port);
    size_t base = strlen(p);
    while (base > 0 && p[base - 1] == '/')
        base--;
    size_t whole =
        (size_t)snprintf(t->path, sizeof(t->path), "%.*s%s", (int)base, p, path);
    return whole < sizeof(t->path) ? 0 : bad_url(url, err);
}

/* Waits for the descriptor; ERR_IO with errno ETIMEDOUT when time is up. */
static int wait_for(int fd, short events, int64_t deadline_ms)
{
    for (;;) {
        int64_t left = deadline_ms - clock_mono_ms();
        struct pollfd p = {fd, events, 0};
        int n = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (n > 0)
            return 0;
        if (n == 0)
            errno = ETIMEDOUT;
        if (n == 0 || errno != EINTR)
            return ERR_IO;
    }
}

static int connect_one(const struct addrinfo *a, int64_t deadline_ms)
{
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int problem = 0;
    socklen_t len = sizeof(problem);
    if (connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
        problem = errno;
        if (problem == EINPROGRESS && wait_for(fd, POLLOUT, deadline_ms) < 0)
            problem = errno;
        else if (problem == EINPROGRESS)
            (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &len);
    }
    if (problem == 0)
        return fd;
    close(fd);
    errno = problem;
    return -1;
}

static int open_connection(const struct target *t, int64_t deadline_ms, int *out,
                           struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(t->host, t->port, &hints, &list);
    if (rc != 0)
        return err_set(err, ERR_IO, "no address is known for %s: %s", t->host,
                       gai_strerror(rc));
    int fd = -1;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        fd = connect_one(a, deadline_ms);
    int problem = errno;
    freeaddrinfo(list);
    if (fd < 0)
        return err_errno(err, ERR_IO, problem, "nothing answers at %s port %s", t->host,
                         t->port);
    *out = fd;
    return 0;
}

static int send_all(int fd, struct slice bytes, int64_t deadline_ms)
{
    while (bytes.len > 0) {
        ssize_t n = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            if (wait_for(fd, POLLOUT, deadline_ms) < 0)
                return ERR_IO;
        } else if (n < 0 && errno != EINTR) {
            return ERR_IO;
        } else if (n > 0) {
            bytes = slice_make(bytes.ptr + n, bytes.len - (size_t)n);
        }
    }
    return 0;
}

static int receive_all(int fd, struct buf *in, int64_t deadline_ms)
{
    for (;;) {
        char *room = buf_reserve(in, READ_AT_ONCE);
        if (!room) {
            errno = EMSGSIZE;
            return ERR_LIMIT;
        }
        ssize_t n = recv(fd, room, READ_AT_ONCE, 0);
        if (n == 0)
            return 0;
        if (n > 0)
            in->len += (size_t)n;
        else if (errno == EAGAIN && wait_for(fd, POLLIN, deadline_ms) < 0)
            return ERR_IO;
        else if (errno != EAGAIN && errno != EINTR)
            return ERR_IO;
    }
}

/* "HTTP/1.1 200 ..." and headers, then the body. */
static int split(const struct buf *in, int *status, struct buf *body, struct err *err)
{
    const char *end = in->len ? memmem(in->ptr, in->len, "\r\n\r\n", 4) : NULL;
    uint64_t code;
    if (!end || in->len < 12 || memcmp(in->ptr, "HTTP/1.", 7) != 0 ||
        !slice_to_u64(slice_make(in->ptr + 9, 3), &code))
        return err_set(err, ERR_IO, "what answers does not speak HTTP");
    *status = (int)code;
    end += 4;
    buf_put(body, end, in->len - (size_t)(end - in->ptr));
    return body->failed ? err_set(err, body->failed, "the answer is too long") : 0;
}

static int exchange(int fd, const struct target *t, int64_t deadline_ms, int *status,
                    struct buf *body, struct err *err)
{
    struct buf text;
    buf_init(&text, body->max_bytes + HEADER_ROOM + READ_AT_ONCE);
    buf_printf(&text, "GET %s HTTP/1.0\r\nHost: %s:%s\r\nConnection: close\r\n\r\n",
               t->path, t->host, t->port);
    int rc = text.failed ? text.failed : send_all(fd, buf_slice(&text), deadline_ms);
    buf_reset(&text, SIZE_MAX);
    rc = rc ? rc : receive_all(fd, &text, deadline_ms);
    if (rc)
        err_errno(err, rc, errno, "%s port %s took the question and did not answer it",
                  t->host, t->port);
    else
        rc = split(&text, status, body, err);
    buf_fini(&text);
    return rc;
}

int fetch_get(const char *url, const char *path, int timeout_ms, int *status,
              struct buf *body, struct err *err)
{
    struct target target;
    int fd = -1;
    int64_t deadline_ms = clock_mono_ms() + timeout_ms;
    int rc = parse_url(url, path, &target, err);
    rc = rc ? rc : open_connection(&target, deadline_ms, &fd, err);
    if (rc)
        return rc;
    rc = exchange(fd, &target, deadline_ms, status, body, err);
    close(fd);
    return rc;
}
