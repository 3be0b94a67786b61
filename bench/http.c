#include "http.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES (256u * 1024)
#define HEAD_BYTES   16384u
#define LINE_BYTES   64u

static double clock_s(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double now_s(void)
{
    return clock_s(CLOCK_MONOTONIC);
}

double wall_s(void)
{
    return clock_s(CLOCK_REALTIME);
}

void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void connection_open(struct connection *c, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;

    *c = (struct connection){.port = port};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    c->buffer = malloc(BUFFER_BYTES);
    if (c->fd < 0 || !c->buffer)
        die("no socket: %s", strerror(errno));
    if (connect(c->fd, (struct sockaddr *)(void *)&to, sizeof(to)) != 0)
        die("can't connect to port %d: %s", port, strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

void connection_close(struct connection *c)
{
    close(c->fd);
    free(c->buffer);
}

/* More bytes into the buffer; those that are used up go. */
static void fill(struct connection *c)
{
    ssize_t n;

    if (c->at > 0) {
        memmove(c->buffer, c->buffer + c->at, c->len - c->at);
        c->len -= c->at;
        c->at = 0;
    }
    if (c->len == BUFFER_BYTES)
        die("an answer's head is too long");
    n = recv(c->fd, c->buffer + c->len, BUFFER_BYTES - c->len, 0);
    if (n <= 0)
        die("the server closed the connection: %s", n < 0 ? strerror(errno) : "end");
    c->len += (size_t)n;
}

/* The next line, without its end, terminated. */
static void read_line(struct connection *c, char *out, size_t size)
{
    for (;;) {
        char *end = memchr(c->buffer + c->at, '\n', c->len - c->at);

        if (end) {
            size_t n = (size_t)(end - (c->buffer + c->at));
            size_t kept = n > 0 && end[-1] == '\r' ? n - 1 : n;

            if (kept >= size)
                die("a line of an answer has %zu bytes", kept);
            memcpy(out, c->buffer + c->at, kept);
            out[kept] = '\0';
            c->at += n + 1;
            return;
        }
        fill(c);
    }
}

static void take_body(struct connection *c, uint64_t left, struct answer *out,
                      sink_fn *sink, void *ctx)
{
    out->body_bytes += left;
    while (left > 0) {
        size_t have = c->len - c->at;
        size_t n = have < left ? have : (size_t)left;

        if (n == 0) {
            fill(c);
            continue;
        }
        if (sink)
            sink(ctx, c->buffer + c->at, n);
        c->at += n;
        left -= n;
    }
}

static void take_chunks(struct connection *c, struct answer *out, sink_fn *sink,
                        void *ctx)
{
    char line[LINE_BYTES];

    for (;;) {
        uint64_t n;

        read_line(c, line, sizeof(line));
        n = strtoull(line, NULL, 16);
        take_body(c, n, out, sink, ctx);
        read_line(c, line, sizeof(line));
        if (n == 0)
            return;
    }
}

static bool header(const char *line, const char *name, char *out, size_t size)
{
    size_t n = strlen(name);

    if (strncasecmp(line, name, n) != 0 || line[n] != ':')
        return false;
    line += n + 1;
    while (isspace((unsigned char)*line))
        line++;
    snprintf(out, size, "%s", line);
    return true;
}

struct framing {
    bool chunked;
    uint64_t length;
};

static struct framing read_head(struct connection *c, struct answer *out)
{
    struct framing f = {false, 0};
    char line[HEAD_BYTES];
    char value[64];

    read_line(c, line, sizeof(line));
    out->status = (int)strtol(line + sizeof("HTTP/1.1"), NULL, 10);
    for (;;) {
        read_line(c, line, sizeof(line));
        if (line[0] == '\0')
            return f;
        if (header(line, "transfer-encoding", value, sizeof(value)))
            f.chunked = strcasecmp(value, "chunked") == 0;
        else if (header(line, "content-length", value, sizeof(value)))
            f.length = strtoull(value, NULL, 10);
        else if (header(line, "electric-up-to-date", value, sizeof(value)))
            out->up_to_date = true;
        else if (!header(line, "electric-handle", out->handle, sizeof(out->handle)) &&
                 !header(line, "electric-offset", out->offset, sizeof(out->offset)))
            header(line, "electric-cursor", out->cursor, sizeof(out->cursor));
    }
}

static void send_all(struct connection *c, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);

        if (n < 0)
            die("can't send a request: %s", strerror(errno));
        bytes += n;
        len -= (size_t)n;
    }
}

static void take_answer(struct connection *c, struct answer *out, sink_fn *sink,
                        void *ctx)
{
    *out = (struct answer){.status = 0};
    struct framing f = read_head(c, out);
    if (f.chunked)
        take_chunks(c, out, sink, ctx);
    else
        take_body(c, f.length, out, sink, ctx);
}

void http_get(struct connection *c, const char *path, struct answer *out, sink_fn *sink,
              void *ctx)
{
    char request[2048];
    int n = snprintf(request, sizeof(request),
                     "GET %s HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", path);

    if (n < 0 || (size_t)n >= sizeof(request))
        die("the path is too long: %s", path);
    send_all(c, request, (size_t)n);
    take_answer(c, out, sink, ctx);
}

struct kept {
    char *text;
    size_t len;
    size_t size;
};

static void keep(void *ctx, const char *bytes, size_t len)
{
    struct kept *k = ctx;

    if (k->len + len >= k->size)
        die("an answer is too long");
    memcpy(k->text + k->len, bytes, len);
    k->len += len;
    k->text[k->len] = '\0';
}

void http_post(struct connection *c, const char *path, const char *token,
               const char *body, struct answer *out, char *answer, size_t size)
{
    struct kept kept = {answer, 0, size};
    char request[16384];
    int n = snprintf(request, sizeof(request),
                     "POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %s\r\n"
                     "content-length: %zu\r\n\r\n%s",
                     path, token, strlen(body), body);

    if (n < 0 || (size_t)n >= sizeof(request))
        die("the request is too long");
    answer[0] = '\0';
    send_all(c, request, (size_t)n);
    take_answer(c, out, keep, &kept);
}
