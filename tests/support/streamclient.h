/* A stream under test: a scripted server, a client whose clock the test moves, and everything that
 * the stream told as text. Header only. */
#ifndef COULOMB_TESTS_SUPPORT_STREAMCLIENT_H
#define COULOMB_TESTS_SUPPORT_STREAMCLIENT_H

#include "support/netclient.h"

#include "client/stream/stream.h"
#include "support/httpd.h"

#define SCHEMA                                                                           \
    "electric-schema: {\"id\":{\"type\":\"int4\",\"not_null\":true,\"pk_index\":0},"     \
    "\"title\":{\"type\":\"text\"}}\r\n"
#define JSON_TYPE "content-type: application/json; charset=utf-8\r\n"
#define UP_TO_DATE(lsn)                                                                  \
    "{\"headers\":{\"control\":\"up-to-date\",\"global_last_seen_lsn\":\"" lsn "\"}}"
#define ROW(id, title)                                                                   \
    "{\"key\":\"k" id "\",\"value\":{\"id\":\"" id "\",\"title\":\"" title               \
    "\"},\"headers\":{\"operation\":\"insert\",\"relation\":[\"public\",\"issues\"]}}"
#define CHANGE(op, id, title, lsn, pos)                                                  \
    "{\"key\":\"k" id "\",\"value\":{\"id\":\"" id "\",\"title\":\"" title               \
    "\"},\"headers\":{\"operation\":\"" op                                               \
    "\",\"relation\":[\"public\",\"issues\"],\"txids\":[7],\"lsn\":\"" lsn               \
    "\",\"op_position\":" pos "}}"

#define LOG_MAX (1u << 20)

struct stream_world {
    struct net_heap heap;
    int64_t now_ms;
    coulomb_client *c;
    struct httpd *h;
    struct shape_stream *s;
    char url[128];
    char *log; /* everything that was told, in words */
    size_t log_len;
    size_t batches;
    double random;
    /* What callbacks do. */
    int messages_answer;
    enum stream_decision decision;
    unsigned errors;
    struct stream_error last_error;
    char error_words[600];
    char client_log[1u << 16];
    void (*in_messages)(struct stream_world *w);
    void (*in_error)(struct stream_world *w);
    const char *awaited;
};

__attribute__((format(printf, 2, 3))) static inline void say(struct stream_world *w,
                                                             const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(w->log + w->log_len, LOG_MAX - w->log_len, format, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < LOG_MAX - w->log_len);
    w->log_len += (size_t)n;
}

static inline void say_values(struct stream_world *w, const struct stream_batch *b,
                              const coulomb_value *values)
{
    for (size_t i = 0; i < b->column_count; i++) {
        char text[200];
        size_t len;

        if (values[i].type == COULOMB_ABSENT)
            continue;
        if (values[i].type == COULOMB_NULL) {
            say(w, " %s=null", b->columns[i].name);
            continue;
        }
        /* Where memory is made to fail, it fails once. */
        if (coulomb_value_print(&values[i], text, sizeof(text), &len) != COULOMB_OK)
            OK(coulomb_value_print(&values[i], text, sizeof(text), &len));
        say(w, " %s=%s", b->columns[i].name, text);
    }
}

static inline void say_message(struct stream_world *w, const struct stream_batch *b,
                               const struct stream_message *m)
{
    static const char *const kinds[] = {"insert",       "update",     "delete",
                                        "move-in",      "move-out",   "up-to-date",
                                        "snapshot-end", "subset-end", "must-refetch"};

    say(w, "%s", kinds[m->kind]);
    if (stream_is_change(m)) {
        say(w, " %.*s", (int)m->key.len, m->key.ptr);
        say_values(w, b, m->values);
    }
    if (m->old_values) {
        say(w, " old:");
        say_values(w, b, m->old_values);
    }
    if (m->headers->has_lsn)
        say(w, " lsn=%llu", (unsigned long long)m->headers->lsn);
    if (m->headers->has_position)
        say(w, " op=%llu", (unsigned long long)m->headers->op_position);
    if (m->snapshot)
        say(w, " xmin=%llu xmax=%llu xip=%zu", (unsigned long long)m->snapshot->xmin,
            (unsigned long long)m->snapshot->xmax, m->snapshot->xip_count);
    if (m->kind == STREAM_SUBSET_END)
        say(w, " %llu", (unsigned long long)m->subset);
    say(w, "\n");
}

static inline int on_messages(struct shape_stream *s, const struct stream_batch *b,
                              void *arg)
{
    struct stream_world *w = arg;

    (void)s;
    if (w->messages_answer != COULOMB_OK)
        return w->messages_answer;
    assert_true(b->count > 0);
    for (size_t i = 0; i < b->count; i++)
        say_message(w, b, &b->messages[i]);
    w->batches++;
    if (w->in_messages)
        w->in_messages(w);
    return COULOMB_OK;
}

static inline enum stream_decision on_error(struct shape_stream *s,
                                            const struct stream_error *e, void *arg)
{
    struct stream_world *w = arg;

    (void)s;
    w->errors++;
    w->last_error = *e;
    snprintf(w->error_words, sizeof(w->error_words), "%s", e->message);
    say(w, "error %s %d%s\n", coulomb_error_name(e->code), e->status,
        e->retryable ? "" : " fatal");
    if (w->in_error)
        w->in_error(w);
    return w->decision;
}

static inline double fixed_random(void *arg)
{
    return ((struct stream_world *)arg)->random;
}

static inline int64_t fixed_wall(void *arg)
{
    (void)arg;
    return (int64_t)1445412480 * 1000000;
}

static inline void keep_log(int level, const char *line, void *arg)
{
    struct stream_world *w = arg;
    size_t n = strlen(w->client_log);

    (void)level;
    if (strlen(line) + n + 2 < sizeof(w->client_log)) {
        memcpy(w->client_log + n, line, strlen(line));
        memcpy(w->client_log + n + strlen(line), "\n", 2);
    }
}

static inline int open_client(struct stream_world *w)
{
    coulomb_client_options o;

    coulomb_options_init(&o, sizeof(o));
    o.allocator = (coulomb_allocator){net_heap_realloc, net_heap_free, &w->heap};
    o.clock = net_clock;
    o.clock_arg = &w->now_ms;
    o.log = keep_log;
    o.log_arg = w;
    return coulomb_client_open(&o, &w->c);
}

static inline struct stream_options stream_options_of(struct stream_world *w)
{
    return (struct stream_options){.url = w->url,
                                   .table = "issues",
                                   .random = fixed_random,
                                   .wall_us = fixed_wall,
                                   .clock_arg = w,
                                   .callbacks = {on_messages, on_error, NULL},
                                   .arg = w};
}

static inline struct stream_world *stream_world_new(void)
{
    struct stream_world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->log = calloc(1, LOG_MAX);
    assert_non_null(w->log);
    w->h = httpd_new();
    w->now_ms = 1000000;
    w->random = 0.5;
    w->decision = STREAM_GIVE_UP;
    snprintf(w->url, sizeof(w->url), "%s/v1/shape?secret=s3cret", httpd_url(w->h));
    OK(open_client(w));
    return w;
}

static inline void stream_world_free(struct stream_world *w)
{
    shape_stream_release(w->s);
    coulomb_client_close(w->c);
    httpd_free(w->h);
    assert_int_equal(atomic_load(&w->heap.live), 0);
    assert_null(strstr(w->client_log, "s3cret"));
    free(w->log);
    free(w);
}

static inline void begin(struct stream_world *w, const struct stream_options *o)
{
    OK(shape_stream_new(w->c, o, &w->s));
    shape_stream_start(w->s);
}

static inline bool log_has(void *arg)
{
    struct stream_world *w = arg;

    return strstr(w->log, w->awaited) != NULL;
}

/* Polls until that was told. */
static inline void await(struct stream_world *w, const char *text)
{
    w->awaited = text;
    poll_until(w->c, log_has, w);
}

struct awaited_request {
    struct httpd *h;
    size_t n;
};

static inline bool request_came(void *arg)
{
    struct awaited_request *a = arg;

    return httpd_count(a->h) > a->n;
}

/* Polls until the n-th request came, and checks that its target has this. */
static inline const char *await_request(struct stream_world *w, size_t n,
                                        const char *part)
{
    struct awaited_request a = {w->h, n};
    const char *text;

    poll_until(w->c, request_came, &a);
    text = httpd_request(w->h, n);
    if (part && !strstr(text, part))
        fail_msg("request %zu has no %s: %s", n, part, text);
    return text;
}

/* What was told since the last call is exactly this. */
static inline void told(struct stream_world *w, const char *text)
{
    if (strcmp(w->log, text) != 0)
        fail_msg("told:\n%s\ninstead of:\n%s", w->log, text);
    w->log_len = 0;
    w->log[0] = '\0';
}

/* A timer has to be due in so many ms, and then it is. */
static inline void pass_exactly(struct stream_world *w, int64_t ms)
{
    assert_int_equal(coulomb_next_deadline(w->c) - w->now_ms, ms);
    w->now_ms += ms;
}

static inline bool has_timer(void *arg)
{
    return coulomb_next_deadline(((struct stream_world *)arg)->c) != INT64_MAX;
}

/* Polls until something waits for a time. */
static inline void await_timer(struct stream_world *w)
{
    poll_until(w->c, has_timer, w);
}

/* An answer of the log. offset NULL, cursor NULL: without. */
static inline void reply_log(struct stream_world *w, const char *match,
                             const char *handle, const char *offset, const char *more,
                             const char *body)
{
    char headers[4096];

    snprintf(headers, sizeof(headers), JSON_TYPE "electric-handle: %s\r\n%s%s%s%s",
             handle, offset ? "electric-offset: " : "", offset ? offset : "",
             offset ? "\r\n" : "", more);
    httpd_reply(w->h, match, 200, headers, body);
}

static inline struct stream_state state_of(struct stream_world *w)
{
    struct stream_state st;

    shape_stream_state(w->s, &st);
    return st;
}

#define OFFSET_IS(w, text)                                                               \
    do {                                                                                 \
        struct stream_state st_ = state_of(w);                                           \
        assert_non_null(st_.offset.ptr);                                                 \
        assert_string_equal(st_.offset.ptr, text);                                       \
    } while (0)

/* Up to date under handle h1 at 0_inf with row 1; the live request that follows is the n-th. */
static inline void begin_live(struct stream_world *w, const struct stream_options *o)
{
    reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" ROW("1", "a") "," UP_TO_DATE("10") "]");
    begin(w, o);
    await(w, "up-to-date");
    await_request(w, 1, "live=true");
    told(w, "insert k1 id=1 title=a\nup-to-date lsn=10\n");
}

#endif
