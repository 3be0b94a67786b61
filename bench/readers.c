/* Many clients that wait: what each costs the server, and how soon all have an answer
 * (bench/readers.sh).
 *
 *   readers CONNINFO PORT PID [CLIENTS]
 *
 * CONNINFO is the server's database, PORT where it serves (on 127.0.0.1, insecure), PID its
 * process, whose files in /proc tell what it uses. Its limits must admit the clients, and its
 * long polls last for some minutes.
 *
 * Clients are sockets of this process, in one epoll set. All but one follow the shape of one
 * table, the last that of another. A client is PARKED once its live request is sent and the
 * server has come to rest. Steps, in main(): rest; 200 clients, wakes of the one; all clients,
 * memory, a time of nothing, wakes of the one; writes that answer all; the end. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_DEFAULT   15000
#define CLIENTS_FEW       200
#define HEADERS_BYTES     1024
#define LONG_HEADER_BYTES (16 * 1024)
#define CONNECTING_MAX    256   /* at a time */
#define CLIENTS_PER_IP    10000 /* leaves ports to others */
#define WAKES             300
#define WAKE_PAUSE_MS     4 /* until the one waits again */
#define ALL_ROUNDS        5
#define PARKED_MS         10000
#define SETTLE_STEP_MS    400
#define SETTLE_BUSY_NS    2000000
#define SETTLE_STEPS_MAX  150
#define ANSWER_WAIT_MS    60000
#define TEXT_MAX          (64 * 1024)

enum state { IDLE, CONNECTING, PARKED, ANSWERED };

struct client {
    int fd;
    enum state state;
    unsigned table;
    char *part; /* of an answer that did not come whole */
    size_t part_len;
};

struct table {
    const char *name;
    char handle[80];
    char offset[64];
    char *request;
    size_t request_len;
};

static struct bench {
    PGconn *pg;
    uint16_t port;
    int pid;
    int epoll;
    size_t count; /* connected */
    size_t answered;
    struct client *clients;
    struct table tables[2];
    char last_offset[64]; /* of the answer received last */
} b;

static _Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("readers: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static size_t number(const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (end == text || *end != '\0')
        die("not a number: %s", text);
    return n;
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void sleep_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

static void print(const char *figure, double value, const char *unit)
{
    printf("readers.%s %.6g %s\n", figure, value, unit);
    fflush(stdout);
}

/* --- The server's process, seen from outside --- */

/* Time on a processor of all its threads. */
static int64_t cpu_ns(void)
{
    char path[64];
    int64_t sum = 0;
    struct dirent *d;

    snprintf(path, sizeof path, "/proc/%d/task", b.pid);
    DIR *dir = opendir(path);
    if (!dir)
        die("the server has ended");
    while ((d = readdir(dir)) != NULL) {
        char stat[384];
        char line[128];

        if (d->d_name[0] == '.')
            continue;
        snprintf(stat, sizeof stat, "%s/%s/schedstat", path, d->d_name);
        FILE *f = fopen(stat, "r");
        if (f && fgets(line, sizeof line, f))
            sum += strtoll(line, NULL, 10);
        if (f)
            fclose(f);
    }
    closedir(dir);
    return sum;
}

/* Its share of memory in pages of its own and shared ones. */
static double pss_bytes(void)
{
    char path[64];
    char line[256];
    long kb = -1;

    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", b.pid);
    FILE *f = fopen(path, "r");
    while (f && kb < 0 && fgets(line, sizeof line, f))
        if (strncmp(line, "Pss:", 4) == 0)
            kb = strtol(line + 4, NULL, 10);
    if (f)
        fclose(f);
    if (kb < 0)
        die("cannot read %s", path);
    return (double)kb * 1024;
}

static size_t descriptors(void)
{
    char path[64];
    size_t n = 0;
    struct dirent *d;

    snprintf(path, sizeof path, "/proc/%d/fd", b.pid);
    DIR *dir = opendir(path);
    while (dir && (d = readdir(dir)) != NULL)
        n += d->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return n;
}

/* Until the server uses next to no processor any more. */
static void settle(void)
{
    for (unsigned quiet = 0, i = 0; quiet < 3; i++) {
        int64_t before = cpu_ns();

        if (i == SETTLE_STEPS_MAX)
            die("the server does not come to rest");
        sleep_ms(SETTLE_STEP_MS);
        quiet = cpu_ns() - before < SETTLE_BUSY_NS ? quiet + 1 : 0;
    }
}

/* --- SQL --- */

static void sql(const char *text)
{
    PGresult *res = PQexec(b.pg, text);
    ExecStatusType status = PQresultStatus(res);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        die("%s: %s", text, PQerrorMessage(b.pg));
    PQclear(res);
}

static void write_to(const struct table *t)
{
    char text[256];

    snprintf(text, sizeof text, "UPDATE %s SET v = v + 1 WHERE id = 1", t->name);
    sql(text);
}

/* --- HTTP --- */

static int open_socket(size_t number, bool block)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(b.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint32_t ip = INADDR_LOOPBACK + 1 + (uint32_t)(number / CLIENTS_PER_IP);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(ip)};
    int fd = socket(AF_INET, SOCK_STREAM | (block ? 0 : SOCK_NONBLOCK), 0);
    int on = 1;

    if (fd < 0)
        die("socket: %s (ulimit -n)", strerror(errno));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0)
        die("bind: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    return fd;
}

/* The value of a header, copied; NULL when the head lacks it. */
static char *header(const char *head, const char *name, char *out, size_t size)
{
    const char *at = strcasestr(head, name);

    if (!at)
        return NULL;
    at += strlen(name);
    at += strspn(at, ": ");
    size_t len = strcspn(at, "\r\n");
    snprintf(out, size, "%.*s", (int)len, at);
    return out;
}

/* True when the terminated text is a whole answer. */
static bool is_whole(const char *text, size_t len)
{
    const char *body = strstr(text, "\r\n\r\n");
    char value[32];

    if (!body)
        return false;
    body += 4;
    size_t body_len = len - (size_t)(body - text);
    if (header(text, "\ncontent-length", value, sizeof value))
        return body_len >= strtoul(value, NULL, 10);
    return body_len >= 5 && memcmp(text + len - 5, "0\r\n\r\n", 5) == 0;
}

/* A request of which the headers make so many bytes, allocated. */
static char *make_request(const struct table *t, bool live, size_t headers)
{
    size_t size = headers + 1024;
    char *out = malloc(size);
    char head[1024];

    int n = snprintf(
        head, sizeof head,
        "Host: 127.0.0.1:%u\r\nConnection: keep-alive\r\n"
        "sec-ch-ua: \"Chromium\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\n"
        "sec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n"
        "Accept: */*\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n"
        "Sec-Fetch-Dest: empty\r\nReferer: http://127.0.0.1:%u/demo/items.html\r\n"
        "Accept-Encoding: gzip, deflate, br, zstd\r\n"
        "Accept-Language: en-US,en;q=0.9\r\nCookie: session=",
        b.port, b.port);
    size_t fill = headers - (size_t)n - 2; /* its own line end */
    char *cookie = malloc(fill + 1);
    if (!out || !cookie)
        die("no memory");
    memset(cookie, 'c', fill);
    cookie[fill] = '\0';
    snprintf(out, size, "GET /v1/shape?table=%s&offset=%s%s%s%s HTTP/1.1\r\n%s%s\r\n\r\n",
             t->name, t->offset, t->handle[0] ? "&handle=" : "", t->handle,
             live ? "&live=true&cursor=1" : "", head, cookie);
    free(cookie);
    return out;
}

/* One request on a connection of its own; the answer's text is static. */
static const char *ask(const char *request)
{
    static char text[TEXT_MAX];
    int fd = open_socket(0, true);
    size_t len = 0;

    if (send(fd, request, strlen(request), 0) != (ssize_t)strlen(request))
        die("send: %s", strerror(errno));
    do {
        ssize_t n = recv(fd, text + len, sizeof text - 1 - len, 0);

        if (n <= 0)
            die("the server closed the connection: %.*s", (int)len, text);
        len += (size_t)n;
        text[len] = '\0';
    } while (!is_whole(text, len));
    close(fd);
    return text;
}

static void move_to(struct table *t, const char *offset)
{
    snprintf(t->offset, sizeof t->offset, "%s", offset);
    free(t->request);
    t->request = make_request(t, true, HEADERS_BYTES);
    t->request_len = strlen(t->request);
}

/* An answer that has to be one. */
static const char *ask_well(struct table *t, size_t headers)
{
    char *request = make_request(t, false, headers);
    const char *answer = ask(request);

    if (strncmp(answer, "HTTP/1.1 200", 12) != 0)
        die("%s", answer);
    free(request);
    return answer;
}

/* Reads the shape to its end. */
static void follow(struct table *t)
{
    const char *answer;

    snprintf(t->offset, sizeof t->offset, "-1");
    do {
        answer = ask_well(t, HEADERS_BYTES);
        header(answer, "\nelectric-handle:", t->handle, sizeof t->handle);
        header(answer, "\nelectric-offset:", t->offset, sizeof t->offset);
    } while (!strstr(answer, "\"up-to-date\""));
    header(answer, "\nelectric-offset:", b.last_offset, sizeof b.last_offset);
    move_to(t, b.last_offset);
}

/* --- Clients --- */

static void send_request(struct client *c)
{
    const struct table *t = &b.tables[c->table];

    if (send(c->fd, t->request, t->request_len, MSG_NOSIGNAL) != (ssize_t)t->request_len)
        die("send of a client: %s", strerror(errno));
    c->state = PARKED;
}

static void connect_client(struct client *c)
{
    c->fd = open_socket((size_t)(c - b.clients), false);
    c->state = CONNECTING;
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
    if (epoll_ctl(b.epoll, EPOLL_CTL_ADD, c->fd, &e) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void on_connected(struct client *c)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};

    epoll_ctl(b.epoll, EPOLL_CTL_MOD, c->fd, &e);
    send_request(c);
    b.count++;
}

static void on_readable(struct client *c)
{
    static char text[TEXT_MAX];
    size_t len = c->part_len;

    if (len > 0)
        memcpy(text, c->part, len);
    ssize_t n = recv(c->fd, text + len, sizeof text - 1 - len, 0);
    if (n <= 0)
        die("a client was disconnected: %s", n < 0 ? strerror(errno) : "closed");
    len += (size_t)n;
    text[len] = '\0';
    free(c->part);
    c->part = NULL;
    c->part_len = 0;
    if (!is_whole(text, len)) {
        c->part = malloc(len);
        if (!c->part)
            die("no memory");
        memcpy(c->part, text, len);
        c->part_len = len;
        return;
    }
    if (c->state != PARKED || strncmp(text, "HTTP/1.1 200", 12) != 0)
        die("not the expected answer: %s", text);
    c->state = ANSWERED;
    b.answered++;
    if (b.answered == 1)
        header(text, "\nelectric-offset:", b.last_offset, sizeof b.last_offset);
}

static void turn(int wait_ms)
{
    struct epoll_event events[512];
    int n = epoll_wait(b.epoll, events, 512, wait_ms);

    for (int i = 0; i < n; i++) {
        struct client *c = events[i].data.ptr;

        if (c->state == CONNECTING)
            on_connected(c);
        else
            on_readable(c);
    }
}

/* The last client is the one of the other table. */
static void connect_up_to(size_t count)
{
    size_t begun = b.count;

    while (b.count < count) {
        while (begun < count && begun - b.count < CONNECTING_MAX)
            connect_client(&b.clients[begun++]);
        turn(1000);
    }
}

static void wait_answers(size_t count)
{
    int64_t end = now_ns() + (int64_t)ANSWER_WAIT_MS * 1000000;

    while (b.answered < count) {
        turn(100);
        if (now_ns() > end)
            die("%zu of %zu answers came", b.answered, count);
    }
    if (b.answered != count)
        die("%zu answers came where %zu were due", b.answered, count);
}

/* All who were answered ask again. */
static void park_again(struct table *t)
{
    move_to(t, b.last_offset);
    for (size_t i = 0; i < b.count; i++)
        if (b.clients[i].state == ANSWERED)
            send_request(&b.clients[i]);
    b.answered = 0;
}

/* --- Steps --- */

/* CPU of the server for one write that concerns one client. */
static double wake_one_us(void)
{
    settle();
    int64_t before = cpu_ns();
    for (unsigned i = 0; i < WAKES; i++) {
        write_to(&b.tables[1]);
        wait_answers(1);
        park_again(&b.tables[1]);
        sleep_ms(WAKE_PAUSE_MS);
    }
    return (double)(cpu_ns() - before) / WAKES / 1000;
}

struct probe {
    atomic_bool over;
    double longest_ms;
};

/* Somebody else, who asks for nothing much, over and over. */
static void *probe(void *arg)
{
    static const char request[] = "GET /v1/health HTTP/1.1\r\nHost: t\r\n\r\n";
    struct probe *p = arg;
    int fd = open_socket(0, true);
    char text[4096];

    while (!p->over) {
        int64_t begun = now_ns();

        if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0 ||
            recv(fd, text, sizeof text, 0) <= 0)
            die("no answer to the one who asks meanwhile");
        double ms = (double)(now_ns() - begun) / 1e6;
        p->longest_ms = ms > p->longest_ms ? ms : p->longest_ms;
        sleep_ms(1);
    }
    close(fd);
    return NULL;
}

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x;
    double c = *(const double *)y;

    return (a > c) - (a < c);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}

/* One write that concerns all but the one. */
static void answer_all(void)
{
    double last[ALL_ROUNDS];
    double cpu[ALL_ROUNDS];
    double other[ALL_ROUNDS];

    for (unsigned i = 0; i < ALL_ROUNDS; i++) {
        struct probe p = {.longest_ms = 0};
        pthread_t thread;

        settle();
        if (pthread_create(&thread, NULL, probe, &p) != 0)
            die("no thread");
        sleep_ms(50);
        sql("BEGIN");
        write_to(&b.tables[0]);
        int64_t cpu_before = cpu_ns();
        int64_t begun = now_ns();
        if (PQsendQuery(b.pg, "COMMIT") != 1)
            die("%s", PQerrorMessage(b.pg));
        wait_answers(b.count - 1);
        last[i] = (double)(now_ns() - begun) / 1e6;
        p.over = true;
        pthread_join(thread, NULL);
        cpu[i] = (double)(cpu_ns() - cpu_before) / 1000 / (double)(b.count - 1);
        other[i] = p.longest_ms;
        PGresult *res;
        while ((res = PQgetResult(b.pg)) != NULL)
            PQclear(res);
        park_again(&b.tables[0]);
    }
    print("last_ms", median(last, ALL_ROUNDS), "ms");
    print("all_cpu_each", median(cpu, ALL_ROUNDS), "us");
    print("others_wait_ms", median(other, ALL_ROUNDS), "ms");
}

static void leave(void)
{
    size_t left = descriptors() - b.count;
    int64_t begun = now_ns();

    for (size_t i = 0; i < b.count; i++)
        close(b.clients[i].fd);
    while (descriptors() > left) {
        if (now_ns() - begun > (int64_t)ANSWER_WAIT_MS * 1000000)
            die("descriptors stay open");
        sleep_ms(2);
    }
    print("leave_ms", (double)(now_ns() - begun) / 1e6, "ms");
}

static void prepare(const char *conninfo)
{
    b.pg = PQconnectdb(conninfo);
    if (PQstatus(b.pg) != CONNECTION_OK)
        die("%s", PQerrorMessage(b.pg));
    sql("SET client_min_messages = warning");
    b.tables[0].name = "readers_crowd";
    b.tables[1].name = "readers_lone";
    for (unsigned i = 0; i < 2; i++) {
        char text[512];
        const char *t = b.tables[i].name;

        snprintf(text, sizeof text,
                 "DROP TABLE IF EXISTS %s; CREATE TABLE %s (id int PRIMARY KEY, v int, "
                 "note text); INSERT INTO %s VALUES (1, 0, 'what each of them reads')",
                 t, t, t);
        sql(text);
    }
    sleep_ms(200);
    for (unsigned i = 0; i < 2; i++)
        follow(&b.tables[i]);
}

int main(int argc, char **argv)
{
    struct rlimit files;

    if (argc < 4)
        die("usage: readers CONNINFO PORT PID [CLIENTS]");
    b.port = (uint16_t)number(argv[2]);
    b.pid = (int)number(argv[3]);
    size_t clients = argc > 4 ? number(argv[4]) : CLIENTS_DEFAULT;
    if (clients < CLIENTS_FEW)
        die("at least %d clients", CLIENTS_FEW);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    b.epoll = epoll_create1(0);
    b.clients = calloc(clients, sizeof *b.clients);
    if (b.epoll < 0 || !b.clients)
        die("no epoll set, or no memory");
    prepare(argv[1]);
    b.clients[CLIENTS_FEW - 1].table = 1; /* the one */

    settle();
    double memory_before = pss_bytes();
    connect_up_to(CLIENTS_FEW);
    double few = wake_one_us();

    connect_up_to(clients);
    settle();
    print("bytes_each", (pss_bytes() - memory_before) / (double)clients, "bytes");
    int64_t cpu_before = cpu_ns();
    sleep_ms(PARKED_MS);
    print("parked_cpu_ms", (double)(cpu_ns() - cpu_before) / 1e6, "ms");
    double many = wake_one_us();
    print("wake_one_us", many, "us");
    print("wake_one_few_us", few, "us");
    print("wake_one_ratio", many / few, "ratio");
    answer_all();
    ask_well(&b.tables[0], LONG_HEADER_BYTES);
    leave();
    return 0;
}
