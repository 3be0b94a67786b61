/* Reads a shape by a stream of libcoulomb and prints what it is told, one JSON object a line, until its
 * input ends. For tests from outside.
 *
 *   stream_tail URL TABLE [--where SQL] [--sse] [--changes-only] [--replica-full] [--ca FILE]
 *
 * Lines of its input: "refresh", "pause", "resume", "subset SQL", "woke". */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "client/stream/stream.h"
#include "json/json.h"

struct tail {
    coulomb_client *client;
    struct shape_stream *stream;
    struct buf out;
};

static void put_str(struct buf *out, coulomb_str s)
{
    json_put_string(out, slice_make(s.ptr, s.len));
}

static void put_values(struct buf *out, const struct stream_batch *b,
                       const coulomb_value *values)
{
    bool first = true;

    buf_putc(out, '{');
    for (size_t i = 0; i < b->column_count; i++) {
        static char text[1 << 20];
        size_t len;

        if (values[i].type == COULOMB_ABSENT)
            continue;
        buf_puts(out, first ? "" : ",");
        json_put_string(out, slice_of(b->columns[i].name));
        buf_putc(out, ':');
        first = false;
        if (values[i].type == COULOMB_NULL ||
            coulomb_value_print(&values[i], text, sizeof(text), &len) != COULOMB_OK)
            buf_puts(out, "null");
        else
            json_put_string(out, slice_make(text, len));
    }
    buf_putc(out, '}');
}

static void put_message(struct buf *out, const struct stream_batch *b,
                        const struct stream_message *m)
{
    static const char *const kinds[] = {"insert",       "update",     "delete",
                                        "move-in",      "move-out",   "up-to-date",
                                        "snapshot-end", "subset-end", "must-refetch"};

    buf_printf(out, "{\"kind\":\"%s\"", kinds[m->kind]);
    if (stream_is_change(m)) {
        buf_puts(out, ",\"key\":");
        put_str(out, m->key);
        buf_puts(out, ",\"value\":");
        put_values(out, b, m->values);
    }
    if (m->headers->has_lsn)
        buf_printf(out, ",\"lsn\":\"%llu\"", (unsigned long long)m->headers->lsn);
    if (m->headers->has_position)
        buf_printf(out, ",\"pos\":%llu", (unsigned long long)m->headers->op_position);
    if (m->snapshot)
        buf_printf(out, ",\"xmax\":\"%llu\"", (unsigned long long)m->snapshot->xmax);
    if (m->headers->txid_count > 0)
        buf_printf(out, ",\"txid\":%llu", (unsigned long long)m->headers->txids[0]);
    buf_puts(out, "}\n");
}

static int on_messages(struct shape_stream *s, const struct stream_batch *b, void *arg)
{
    struct tail *t = arg;

    (void)s;
    for (size_t i = 0; i < b->count; i++)
        put_message(&t->out, b, &b->messages[i]);
    return t->out.failed ? COULOMB_E_MEMORY : COULOMB_OK;
}

static enum stream_decision on_error(struct shape_stream *s, const struct stream_error *e,
                                     void *arg)
{
    struct tail *t = arg;

    (void)s;
    buf_printf(&t->out, "{\"kind\":\"error\",\"code\":\"%s\",\"status\":%d,\"message\":",
               coulomb_error_name(e->code), e->status);
    json_put_string(&t->out, slice_of(e->message));
    buf_puts(&t->out, "}\n");
    return STREAM_GIVE_UP;
}

static void on_done(struct shape_stream *s, int code, const coulomb_error *e, void *arg)
{
    struct tail *t = arg;

    (void)s;
    (void)e;
    buf_printf(&t->out, "{\"kind\":\"done\",\"code\":\"%s\"}\n",
               coulomb_error_name(code));
}

static void on_log(int level, const char *line, void *arg)
{
    (void)level;
    (void)arg;
    fprintf(stderr, "%s\n", line);
}

static void obey(struct tail *t, const char *line)
{
    const struct stream_subset subset = {.where = line + strlen("subset ")};
    int code = COULOMB_OK;

    if (strcmp(line, "refresh") == 0)
        code = shape_stream_refresh(t->stream, on_done, t);
    else if (strcmp(line, "pause") == 0)
        shape_stream_pause(t->stream);
    else if (strcmp(line, "resume") == 0)
        shape_stream_resume(t->stream);
    else if (strcmp(line, "woke") == 0)
        net_woke(t->client->net);
    else if (strncmp(line, "subset ", strlen("subset ")) == 0)
        code = shape_stream_request_subset(t->stream, &subset, on_done, t, NULL);
    if (code != COULOMB_OK)
        fprintf(stderr, "%s: %s\n", line, coulomb_last_error(t->client)->message);
}

/* False at the end of the input. */
static bool read_input(struct tail *t)
{
    static char text[1 << 16];
    static size_t len;
    ssize_t n = read(STDIN_FILENO, text + len, sizeof(text) - len - 1);
    char *end;

    if (n <= 0)
        return false;
    len += (size_t)n;
    text[len] = '\0';
    while ((end = strchr(text, '\n'))) {
        *end = '\0';
        obey(t, text);
        len -= (size_t)(end + 1 - text);
        memmove(text, end + 1, len + 1);
    }
    return true;
}

static void flush(struct tail *t)
{
    if (t->out.len == 0)
        return;
    fwrite(t->out.ptr, 1, t->out.len, stdout);
    fflush(stdout);
    buf_reset(&t->out, 1 << 20);
}

static int wait_ms(coulomb_client *c)
{
    int64_t until = coulomb_next_deadline(c);
    int64_t wait = until == INT64_MAX ? 1000 : until - client_now(c);

    if (coulomb_pending(c))
        return 0;
    return wait < 0 ? 0 : wait > 1000 ? 1000 : (int)wait;
}

static void follow(struct tail *t)
{
    for (;;) {
        struct pollfd p[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                             {.fd = coulomb_fd(t->client), .events = POLLIN}};
        int code = coulomb_poll(t->client);

        if (code < 0 && code != COULOMB_E_MEMORY)
            return;
        flush(t);
        if (poll(p, 2, wait_ms(t->client)) > 0 && p[0].revents != 0 && !read_input(t))
            return;
    }
}

static void read_options(struct stream_options *o, int argc, char **argv)
{
    o->url = argv[1];
    o->table = argv[2];
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--sse") == 0)
            o->sse = true;
        else if (strcmp(argv[i], "--changes-only") == 0)
            o->log = STREAM_LOG_CHANGES_ONLY;
        else if (strcmp(argv[i], "--replica-full") == 0)
            o->replica = STREAM_REPLICA_FULL;
        else if (strcmp(argv[i], "--where") == 0 && i + 1 < argc)
            o->where = argv[++i];
        else if (strcmp(argv[i], "--ca") == 0 && i + 1 < argc)
            o->ca_file = argv[++i];
    }
    o->from_now = o->log == STREAM_LOG_CHANGES_ONLY;
}

int main(int argc, char **argv)
{
    struct stream_options o = {.callbacks = {on_messages, on_error, NULL}};
    coulomb_client_options co;
    struct tail t = {0};
    int code;

    if (argc < 3)
        return 2;
    coulomb_options_init(&co, sizeof(co));
    co.log = on_log;
    code = coulomb_client_open(&co, &t.client);
    if (code != COULOMB_OK)
        return 1;
    buf_init(&t.out, SIZE_MAX / 4);
    read_options(&o, argc, argv);
    o.backoff = (struct net_backoff){100, 1000, 2};
    o.arg = &t;
    code = shape_stream_new(t.client, &o, &t.stream);
    if (code == COULOMB_OK) {
        shape_stream_start(t.stream);
        follow(&t);
    } else {
        fprintf(stderr, "%s\n", coulomb_last_error(t.client)->message);
    }
    flush(&t);
    shape_stream_release(t.stream);
    coulomb_client_close(t.client);
    buf_fini(&t.out);
    return code == COULOMB_OK ? 0 : 1;
}
