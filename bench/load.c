/* bench_load PORT CONNECTIONS SECONDS [HEADER…] < REQUEST: as many connections as told send the request
 * (method, path, a blank line, then the body, if any) again and again, each when its answer has come. A
 * '#' in path or body is a number of its own each time. Prints requests per second; one that is not
 * answered with 200 ends the program. One thread, epoll. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"

#define TEXT_BYTES   16384u
#define ANSWER_BYTES (256u * 1024)

struct client {
    int fd;
    char *buffer;
    size_t len;
};

struct load {
    char method[16];
    char path[4096];
    char body[TEXT_BYTES];
    char headers[TEXT_BYTES];
    unsigned long long number;
    unsigned long long answered;
};

static void read_request(struct load *l)
{
    char text[TEXT_BYTES];
    size_t n = fread(text, 1, sizeof(text) - 1, stdin);

    text[n] = '\0';
    char *blank = strstr(text, "\n\n");
    if (blank) {
        *blank = '\0';
        snprintf(l->body, sizeof(l->body), "%s", blank + 2);
        l->body[strcspn(l->body, "\n")] = '\0';
    }
    if (sscanf(text, "%15s %4095s", l->method, l->path) != 2)
        die("the request is METHOD PATH, a blank line, a body");
}

/* Copies with the number in the place of each '#'. */
static void put_number(const char *in, unsigned long long number, char *out, size_t size)
{
    size_t n = 0;

    for (; *in && n + 24 < size; in++) {
        if (*in == '#')
            n += (size_t)snprintf(out + n, size - n, "%llu", number);
        else
            out[n++] = *in;
    }
    out[n] = '\0';
}

static void send_request(struct load *l, struct client *c)
{
    char path[4096];
    char body[TEXT_BYTES];
    char text[3 * TEXT_BYTES];

    l->number++;
    put_number(l->path, l->number, path, sizeof(path));
    put_number(l->body, l->number, body, sizeof(body));
    int n =
        snprintf(text, sizeof(text),
                 "%s %s HTTP/1.1\r\nhost: 127.0.0.1\r\n%scontent-length: %zu\r\n\r\n%s",
                 l->method, path, l->headers, strlen(body), body);
    if (n <= 0 || (size_t)n >= sizeof(text) || send(c->fd, text, (size_t)n, 0) != n)
        die("a request could not be sent: %s", strerror(errno));
}

static void client_open(struct client *c, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    c->buffer = malloc(ANSWER_BYTES + 1);
    c->len = 0;
    if (c->fd < 0 || !c->buffer ||
        connect(c->fd, (struct sockaddr *)(void *)&to, sizeof(to)) != 0)
        die("can't connect to port %d: %s", port, strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* Whether the whole answer is in the buffer. */
static bool is_complete(const struct client *c)
{
    const char *end = strstr(c->buffer, "\r\n\r\n");
    const char *length = end ? strstr(c->buffer, "content-length:") : NULL;

    if (!end)
        return false;
    size_t head = (size_t)(end - c->buffer) + 4;
    if (length && length < end)
        return c->len >= head + strtoul(length + 15, NULL, 10);
    return c->len >= head + 5 && memcmp(c->buffer + c->len - 5, "0\r\n\r\n", 5) == 0;
}

static void receive(struct load *l, struct client *c)
{
    ssize_t n = recv(c->fd, c->buffer + c->len, ANSWER_BYTES - c->len, 0);

    if (n <= 0)
        die("the server closed a connection");
    c->len += (size_t)n;
    c->buffer[c->len] = '\0';
    if (!is_complete(c)) {
        if (c->len == ANSWER_BYTES)
            die("an answer is too long");
        return;
    }
    if (strncmp(c->buffer, "HTTP/1.1 200", 12) != 0)
        die("an answer is not 200: %.600s", c->buffer);
    l->answered++;
    c->len = 0;
    send_request(l, c);
}

int main(int argc, char **argv)
{
    static struct load load;
    struct epoll_event events[64];

    if (argc < 4)
        die("usage: bench_load PORT CONNECTIONS SECONDS [HEADER…] < REQUEST");
    int port = (int)strtol(argv[1], NULL, 10);
    int connections = (int)strtol(argv[2], NULL, 10);
    double seconds = strtod(argv[3], NULL);
    for (int i = 4; i < argc; i++) {
        size_t n = strlen(load.headers);

        snprintf(load.headers + n, sizeof(load.headers) - n, "%s\r\n", argv[i]);
    }
    read_request(&load);
    load.number = (unsigned long long)(wall_s() * 1e6); /* ids differ from run to run */
    int epoll = epoll_create1(0);
    struct client *clients = calloc((size_t)connections, sizeof(*clients));
    if (epoll < 0 || !clients)
        die("no memory");
    for (int i = 0; i < connections; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &clients[i]};

        client_open(&clients[i], port);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &e) != 0)
            die("epoll: %s", strerror(errno));
        send_request(&load, &clients[i]);
    }
    double began = now_s();
    while (now_s() - began < seconds) {
        int n = epoll_wait(epoll, events, 64, 1000);

        for (int i = 0; i < n; i++)
            receive(&load, events[i].data.ptr);
    }
    printf("%.1f\n", (double)load.answered / (now_s() - began));
    free(clients);
    return 0;
}
