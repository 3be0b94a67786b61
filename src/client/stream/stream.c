/*
 * The stream's making and ending, and what its owner asks of it. What it does by itself is in run.c.
 */

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/stream/internal.h"

#define ANSWER_BYTES_MAX   ((size_t)1 << 30)
#define BUFFERED_BYTES_MAX (16u * 1024 * 1024)
#define LIVE_TIMEOUT_MS    45000
#define PREFETCH           2
#define COLUMNS_BYTES_MAX  (1u << 20)

/* --- Options ------------------------------------------------------------------------------------------------ */

static int check_name(coulomb_client *c, const char *name)
{
    if (!name || name[0] == '\0')
        return client_fail(c, COULOMB_E_ARGUMENT, "a parameter needs a name");
    if (url_is_reserved(name))
        return client_fail(c, COULOMB_E_RESERVED_PARAM,
                           "the parameter %.64s is the protocol's own", name);
    return COULOMB_OK;
}

static int check_options(coulomb_client *c, const struct stream_options *o)
{
    bool begins =
        !o->offset || strcmp(o->offset, "-1") == 0 || strcmp(o->offset, "now") == 0;

    if (!o->url || o->url[0] == '\0')
        return client_fail(c, COULOMB_E_MISSING_URL, "a stream needs a url");
    if (!begins && !o->handle)
        return client_fail(c, COULOMB_E_MISSING_HANDLE,
                           "offset %.48s needs the handle that it was told with",
                           o->offset);
    if (!o->callbacks.messages)
        return client_fail(c, COULOMB_E_ARGUMENT, "a stream needs a messages function");
    if (o->typed_count > COULOMB_COLUMNS_MAX)
        return client_fail(c, COULOMB_E_ARGUMENT, "a row has at most %d columns",
                           COULOMB_COLUMNS_MAX);
    for (size_t i = 0; i < o->extra_count; i++) {
        int code = check_name(c, o->extra[i].name);

        if (code != COULOMB_OK)
            return code;
    }
    return COULOMB_OK;
}

/* "a","b""c": quoted, so that commas and capitals are the name's. */
static int set_columns(struct shape_stream *s, const struct stream_options *o)
{
    struct buf b;
    int code;

    if (o->column_count == 0)
        return COULOMB_OK;
    buf_init_from(&b, COLUMNS_BYTES_MAX, &s->heap->mem);
    for (size_t i = 0; i < o->column_count; i++) {
        buf_puts(&b, i > 0 ? ",\"" : "\"");
        for (const char *p = o->columns[i]; *p; p++) {
            if (*p == '"')
                buf_putc(&b, '"');
            buf_putc(&b, *p);
        }
        buf_putc(&b, '"');
    }
    buf_putc(&b, '\0');
    code = b.failed ? COULOMB_E_MEMORY
                    : net_fields_set(s->heap, &s->shape, "columns", b.ptr);
    buf_fini(&b);
    return code;
}

static int set_params(struct shape_stream *s, const struct stream_options *o)
{
    int code = COULOMB_OK;

    for (size_t i = 0; i < o->param_count && code == COULOMB_OK; i++) {
        char name[32];

        snprintf(name, sizeof(name), "params[%zu]", i + 1);
        code = net_fields_set(s->heap, &s->shape, name, o->params[i]);
    }
    return code;
}

static int copy_shape(struct shape_stream *s, const struct stream_options *o)
{
    int code = net_fields_set(s->heap, &s->shape, "table", o->table);

    if (code == COULOMB_OK)
        code = net_fields_set(s->heap, &s->shape, "where", o->where);
    if (code == COULOMB_OK)
        code = set_params(s, o);
    if (code == COULOMB_OK)
        code = set_columns(s, o);
    if (code == COULOMB_OK && o->replica == STREAM_REPLICA_FULL)
        code = net_fields_set(s->heap, &s->shape, "replica", "full");
    for (size_t i = 0; i < o->extra_count && code == COULOMB_OK; i++)
        code = net_fields_set(s->heap, &s->shape, o->extra[i].name, o->extra[i].value);
    for (size_t i = 0; i < o->header_count && code == COULOMB_OK; i++)
        code =
            net_fields_set(s->heap, &s->headers, o->headers[i].name, o->headers[i].value);
    return code;
}

static int copy_texts(struct shape_stream *s, const struct stream_options *o)
{
    s->url = heap_strdup(s->heap, o->url);
    if (!s->url)
        return COULOMB_E_MEMORY;
    net_url_shown(s->url, s->shown_url, sizeof(s->shown_url));
    if (o->ca_file) {
        s->ca_file = heap_strdup(s->heap, o->ca_file);
        if (!s->ca_file)
            return COULOMB_E_MEMORY;
    }
    if (o->typed_count > 0) {
        s->typed = schema_typed(s->heap, o->typed, o->typed_count);
        if (!s->typed)
            return COULOMB_E_MEMORY;
    }
    return state_init(&s->state, s->heap,
                      o->offset     ? o->offset
                      : o->from_now ? "now"
                                    : "-1",
                      o->handle, o->cursor);
}

static size_t or_else(size_t given, size_t otherwise)
{
    return given > 0 ? given : otherwise;
}

static void copy_numbers(struct shape_stream *s, const struct stream_options *o)
{
    s->changes_only = o->log == STREAM_LOG_CHANGES_ONLY;
    s->once = o->once;
    s->sse = o->sse;
    s->subset_get = o->subset_get;
    s->backoff = o->backoff;
    s->attempts_max = o->attempts_max;
    s->live_timeout_ms = o->live_timeout_ms != 0 ? o->live_timeout_ms : LIVE_TIMEOUT_MS;
    s->answer_bytes_max = or_else(o->answer_bytes_max, ANSWER_BYTES_MAX);
    s->buffered_bytes_max = or_else(o->buffered_bytes_max, BUFFERED_BYTES_MAX);
    s->prefetch = o->no_prefetch ? 0 : (unsigned)or_else(o->prefetch, PREFETCH);
    s->random = o->random;
    s->wall_us = o->wall_us;
    s->clock_arg = o->clock_arg;
    s->callbacks = o->callbacks;
    s->arg = o->arg;
}

/* --- Making and ending ---------------------------------------------------------------------------------------- */

static void stream_free(struct shape_stream *s)
{
    coulomb_client *c = s->client;

    task_cancel(&s->task);
    timer_cancel(&s->timer);
    credentials_cancel(&s->waiter);
    stream_drop_fetches(s);
    stream_drop_delivery(s);
    while (!list_empty(&s->subsets))
        subset_free(LIST_ENTRY(s->subsets.next, struct subset, link));
    while (!list_empty(&s->refreshes)) {
        struct refresh *r = LIST_ENTRY(list_pop(&s->refreshes), struct refresh, link);

        heap_free(s->heap, r, sizeof(*r));
    }
    state_fini(&s->state);
    schema_release(s->typed);
    credentials_release(s->credentials);
    net_fields_fini(s->heap, &s->shape);
    net_fields_fini(s->heap, &s->headers);
    buf_fini(&s->key);
    heap_free_str(s->heap, s->url);
    heap_free_str(s->heap, s->ca_file);
    heap_free(s->heap, s, sizeof(*s));
    client_release(c);
}

/* Why url_make_key failed, or memory for something else. */
static int no_key(coulomb_client *c, int code)
{
    if (code == COULOMB_E_LIMIT)
        return client_fail(c, code,
                           "a shape's parameters are at most 8 MiB, escaped, and 4,096");
    return client_no_memory(c);
}

int shape_stream_new(coulomb_client *c, const struct stream_options *options,
                     struct shape_stream **out)
{
    struct shape_stream *s;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = check_options(c, options);
    if (code != COULOMB_OK)
        return code;
    s = heap_zalloc(c->heap, sizeof(*s));
    if (!s)
        return client_no_memory(c);
    s->client = c;
    s->heap = c->heap;
    s->refs = 1;
    s->state.heap = c->heap;
    s->random_state = (c->seed ^ (uint64_t)(uintptr_t)s ^ (uint64_t)clock_mono_us()) | 1;
    client_retain(c);
    list_init(&s->fetches);
    list_init(&s->subsets);
    list_init(&s->refreshes);
    task_init(&s->task, c, stream_run);
    timer_init(&s->timer, c, stream_timer);
    credentials_waiter_init(&s->waiter);
    buf_init_from(&s->key, SIZE_MAX / 4, &s->heap->mem);
    copy_numbers(s, options);
    code = copy_texts(s, options);
    if (code == COULOMB_OK)
        code = copy_shape(s, options);
    if (code == COULOMB_OK)
        code = url_make_key(s);
    if (code != COULOMB_OK) {
        stream_free(s);
        return no_key(c, code);
    }
    if (options->credentials)
        s->credentials = credentials_retain(options->credentials);
    *out = s;
    return COULOMB_OK;
}

void shape_stream_retain(struct shape_stream *s)
{
    s->refs++;
}

void shape_stream_release(struct shape_stream *s)
{
    if (!s || --s->refs > 0)
        return;
    if (s->holds > 0)
        shape_stream_stop(s);
    else
        stream_free(s);
}

void stream_hold(struct shape_stream *s)
{
    s->holds++;
}

void stream_unhold(struct shape_stream *s)
{
    if (--s->holds == 0 && s->refs == 0)
        stream_free(s);
}

/* --- Control ----------------------------------------------------------------------------------------------------- */

void shape_stream_start(struct shape_stream *s)
{
    if (s->phase != STREAM_IDLE)
        return;
    s->phase = s->pauses > 0 ? STREAM_PAUSED : STREAM_RUNNING;
    stream_poke(s);
}

/* Neither requests nor timers. What is being delivered stays: this may be inside its callback. */
static void give_up_requests(struct shape_stream *s)
{
    stream_drop_fetches(s);
    timer_cancel(&s->timer);
    credentials_cancel(&s->waiter);
    s->waits_for_credentials = false;
}

void shape_stream_stop(struct shape_stream *s)
{
    if (s->phase == STREAM_STOPPED)
        return;
    s->phase = STREAM_STOPPED;
    s->connected = false;
    give_up_requests(s);
    task_queue(&s->task); /* those who wait are told */
}

void shape_stream_pause(struct shape_stream *s)
{
    s->pauses++;
    if (s->phase != STREAM_RUNNING)
        return;
    s->phase = STREAM_PAUSED;
    give_up_requests(s);
    subsets_again(s);
    stream_poke(s);
}

void shape_stream_resume(struct shape_stream *s)
{
    if (s->pauses == 0 || --s->pauses > 0 || s->phase != STREAM_PAUSED)
        return;
    s->phase = STREAM_RUNNING;
    s->no_wait = true;
    stream_poke(s);
}

int shape_stream_set_param(struct shape_stream *s, const char *name, const char *value)
{
    int code = check_name(s->client, name);

    if (code != COULOMB_OK)
        return code;
    code = net_fields_set(s->heap, &s->shape, name, value);
    if (code == COULOMB_OK)
        code = url_make_key(s);
    return code == COULOMB_OK ? code : no_key(s->client, code);
}

int shape_stream_set_header(struct shape_stream *s, const char *name, const char *value)
{
    if (net_fields_set(s->heap, &s->headers, name, value) != COULOMB_OK)
        return client_no_memory(s->client);
    return COULOMB_OK;
}

int shape_stream_refresh(struct shape_stream *s, stream_done_fn *done, void *arg)
{
    struct refresh *r;

    if (s->phase == STREAM_STOPPED)
        return client_fail(s->client, COULOMB_E_STREAM_STOPPED, "the stream was stopped");
    if (s->phase == STREAM_FAILED)
        return client_fail(s->client, s->error.code, "the stream has failed: %s",
                           s->error.message);
    r = heap_alloc(s->heap, sizeof(*r));
    if (!r)
        return client_no_memory(s->client);
    *r = (struct refresh){.after = s->request_count, .done = done, .arg = arg};
    list_init(&r->link);
    list_push(&s->refreshes, &r->link);
    if (!list_empty(&s->fetches) && LIST_ENTRY(s->fetches.next, struct fetch, link)->live)
        stream_drop_fetches(s);
    shape_stream_start(s);
    if (s->phase == STREAM_DONE)
        s->phase = STREAM_RUNNING;
    stream_poke(s);
    return COULOMB_OK;
}

/* --- State --------------------------------------------------------------------------------------------------------- */

static coulomb_str str_of(const struct blob *b)
{
    return (coulomb_str){b->ptr, b->len};
}

void shape_stream_state(const struct shape_stream *s, struct stream_state *out)
{
    const struct schema *schema = s->state.schema ? s->state.schema : s->typed;

    *out = (struct stream_state){.phase = s->phase,
                                 .connected = s->connected,
                                 .up_to_date = s->state.mode == SYNC_LIVE,
                                 .live_sse = stream_is_live_sse(s),
                                 .handle = str_of(&s->state.handle),
                                 .offset = str_of(&s->state.offset),
                                 .cursor = str_of(&s->state.cursor),
                                 .last_synced_us = s->state.last_synced_us,
                                 .has_lsn = s->state.has_lsn,
                                 .lsn = s->state.lsn,
                                 .columns = schema ? schema->columns : NULL,
                                 .column_count = schema ? schema->count : 0,
                                 .error = s->error.code};
}

const coulomb_error *shape_stream_error(const struct shape_stream *s)
{
    return &s->error;
}

coulomb_str shape_stream_key(const struct shape_stream *s)
{
    return (coulomb_str){s->key.ptr, s->key.len > 0 ? s->key.len - 1 : 0};
}
