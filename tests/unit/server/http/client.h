/* A plain HTTP client for the tests: a socket, text out, text in. */
#ifndef COULOMB_TESTS_HTTP_CLIENT_H
#define COULOMB_TESTS_HTTP_CLIENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"

#define CLIENT_WAIT_MS 10000

struct client_answer {
    int status;
    char *text; /* head and body, terminated */
    size_t len;
    char *body; /* decoded from chunks */
    size_t body_len;
    bool complete;
};

static inline int client_connect(uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&at, sizeof at) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static inline void client_write(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

        ASSERT(n > 0);
        text += n;
        len -= (size_t)n;
    }
}

/* headers: each with its line end; a body may follow behind an empty line. */
static inline void client_send(int fd, const char *method, const char *target,
                               const char *headers)
{
    char text[8192];
    int n = snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: t\r\n%s%s", method,
                     target, headers, strstr(headers, "\r\n\r\n") ? "" : "\r\n");

    ASSERT(n > 0 && (size_t)n < sizeof text);
    client_write(fd, text, (size_t)n);
}

/* Reads what comes within wait_ms (at least one read): -1 on the end. */
static inline ssize_t client_read(int fd, char *out, size_t size, int wait_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    if (poll(&p, 1, wait_ms) <= 0)
        return 0;
    ssize_t n = recv(fd, out, size, 0);
    return n > 0 ? n : -1;
}

/* Whatever comes until the connection ends, terminated. */
static inline void client_read_all(int fd, char *out, size_t size)
{
    size_t len = 0;
    ssize_t n;

    while (len < size - 1 &&
           (n = client_read(fd, out + len, size - 1 - len, CLIENT_WAIT_MS)) > 0)
        len += (size_t)n;
    out[len] = '\0';
}

static inline const char *client_header(const struct client_answer *a, const char *name)
{
    static char value[4096];
    size_t n = strlen(name);

    for (const char *line = strstr(a->text, "\r\n"); line && line[2] != '\r';
         line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, n) != 0 || line[2 + n] != ':')
            continue;
        const char *begin = line + 3 + n;
        begin += *begin == ' ';
        size_t len = strcspn(begin, "\r");
        snprintf(value, sizeof value, "%.*s", (int)len, begin);
        return value;
    }
    return NULL;
}

/* Decodes the chunks that are there; sets complete when the last is. */
static inline void client_dechunk(struct client_answer *a, const char *at, size_t len)
{
    while (len > 0) {
        char *end;
        size_t size = strtoul(at, &end, 16);
        size_t head = (size_t)(end - at) + 2;

        if (end == at || head > len)
            return;
        if (size == 0) {
            a->complete = true;
            return;
        }
        size_t have = len - head < size ? len - head : size;
        memcpy(a->body + a->body_len, at + head, have);
        a->body_len += have;
        if (len < head + size + 2)
            return;
        at += head + size + 2;
        len -= head + size + 2;
    }
}

static inline void client_parse(struct client_answer *a, bool head)
{
    const char *split = strstr(a->text, "\r\n\r\n");
    const char *length;

    a->complete = false;
    a->body_len = 0;
    a->status = 0;
    if (!split)
        return;
    a->status = (int)strtol(a->text + 9, NULL, 10);
    size_t at = (size_t)(split + 4 - a->text);
    length = client_header(a, "content-length");
    if (head || a->status == 304 || a->status == 204) {
        a->complete = true;
    } else if (length) {
        a->body_len = a->len - at;
        memcpy(a->body, a->text + at, a->body_len);
        a->complete = a->body_len >= strtoul(length, NULL, 10);
    } else {
        client_dechunk(a, a->text + at, a->len - at);
    }
    a->body[a->body_len] = '\0';
}

/* Reads until the answer is complete, the connection ends, wait_ms have passed, or (when given)
 * `until` has been seen. */
static inline struct client_answer client_receive(int fd, bool head, int wait_ms,
                                                  const char *until)
{
    size_t size = 64u * 1024 * 1024;
    struct client_answer a = {.text = malloc(size), .body = malloc(size)};
    int64_t deadline = clock_mono_ms() + wait_ms;

    ASSERT(a.text && a.body);
    a.text[0] = '\0';
    while (!a.complete && a.len < size - 1) {
        int64_t left = deadline - clock_mono_ms();
        ssize_t n =
            left > 0 ? client_read(fd, a.text + a.len, size - 1 - a.len, (int)left) : 0;

        if (n <= 0)
            break;
        a.len += (size_t)n;
        a.text[a.len] = '\0';
        /* A long answer is decoded once, at what looks like its end. */
        if (a.len < 64u * 1024 || memcmp(a.text + a.len - 5, "0\r\n\r\n", 5) == 0)
            client_parse(&a, head);
        if (until && a.status && strstr(a.body, until))
            break;
    }
    client_parse(&a, head);
    return a;
}

static inline void client_free(struct client_answer *a)
{
    free(a->text);
    free(a->body);
}

#endif
