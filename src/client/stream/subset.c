/*
 * Subsets. One for the stream holds the log from its request to its rows: between the view that the
 * rows are of and their delivery nothing may come that the view has not seen, or an older row would
 * replace a newer one. One beside the stream holds nothing.
 *
 * A stream that begins at "now" has no place in the log before its first answer. Then the first subset
 * goes alone, and the log begins where its answer says (record 5): a place not later than its view.
 */

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "client/stream/internal.h"
#include "json/json.h"

#define SUBSET_SILENCE_MS 120000
#define BODY_BYTES_MAX    (8u * 1024 * 1024)

/* --- Making ------------------------------------------------------------------------------------------------- */

static void put_params(struct buf *out, const struct stream_subset *o)
{
    bool first = true;

    buf_putc(out, '{');
    for (size_t i = 0; i < o->param_count; i++) {
        if (!o->params[i])
            continue;
        buf_printf(out, "%s\"%zu\":", first ? "" : ",", i + 1);
        json_put_string(out, slice_of(o->params[i]));
        first = false;
    }
    buf_putc(out, '}');
}

/* where is always sent: a body without any of these members would be no subset. */
static int make_body(struct subset *u, const struct stream_subset *o)
{
    struct heap *h = u->stream->heap;
    struct buf b;
    int code;

    buf_init_from(&b, BODY_BYTES_MAX, &h->mem);
    buf_puts(&b, "{\"where\":");
    json_put_string(&b, slice_of(o->where ? o->where : "true"));
    if (o->param_count > 0) {
        buf_puts(&b, ",\"params\":");
        put_params(&b, o);
    }
    if (o->order_by) {
        buf_puts(&b, ",\"order_by\":");
        json_put_string(&b, slice_of(o->order_by));
    }
    if (o->has_limit)
        buf_printf(&b, ",\"limit\":%llu", (unsigned long long)o->limit);
    if (o->offset > 0)
        buf_printf(&b, ",\"offset\":%llu", (unsigned long long)o->offset);
    buf_putc(&b, '}');
    code = b.failed == ERR_LIMIT ? COULOMB_E_LIMIT
           : b.failed            ? COULOMB_E_MEMORY
                                 : blob_set(h, &u->body, b.ptr, b.len);
    buf_fini(&b);
    return code;
}

static int set_number(struct subset *u, const char *name, uint64_t n)
{
    char text[24];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    return net_fields_set(u->stream->heap, &u->query, name, text);
}

static int make_query(struct subset *u, const struct stream_subset *o)
{
    struct heap *h = u->stream->heap;
    int code =
        net_fields_set(h, &u->query, "subset__where", o->where ? o->where : "true");

    if (code == COULOMB_OK && o->param_count > 0) {
        struct buf b;

        buf_init_from(&b, BODY_BYTES_MAX, &h->mem);
        put_params(&b, o);
        buf_putc(&b, '\0');
        code = b.failed ? COULOMB_E_MEMORY
                        : net_fields_set(h, &u->query, "subset__params", b.ptr);
        buf_fini(&b);
    }
    if (code == COULOMB_OK)
        code = net_fields_set(h, &u->query, "subset__order_by", o->order_by);
    if (code == COULOMB_OK && o->has_limit)
        code = set_number(u, "subset__limit", o->limit);
    if (code == COULOMB_OK && o->offset > 0)
        code = set_number(u, "subset__offset", o->offset);
    return code;
}

static void subset_timer(struct timer *t)
{
    struct subset *u = LIST_ENTRY(t, struct subset, timer);

    u->step = SUBSET_WAITING;
    stream_poke(u->stream);
}

void subset_free(struct subset *u)
{
    struct heap *h = u->stream->heap;

    if (u->stream->delivering == u)
        u->stream->delivering = NULL;
    list_remove(&u->link);
    u->stream->subset_count--;
    timer_cancel(&u->timer);
    credentials_cancel(&u->waiter);
    fetch_drop(u->fetch);
    segments_free(u->list);
    net_fields_fini(h, &u->query);
    blob_fini(h, &u->body);
    blob_fini(h, &u->handle);
    heap_free(h, u, sizeof(*u));
}

static int check_call(struct shape_stream *s, const struct stream_subset *o, bool beside)
{
    if (s->phase == STREAM_STOPPED)
        return client_fail(s->client, COULOMB_E_STREAM_STOPPED, "the stream was stopped");
    if (s->phase == STREAM_FAILED)
        return client_fail(s->client, s->error.code, "the stream has failed: %s",
                           s->error.message);
    if (!beside && !s->changes_only)
        return client_fail(s->client, COULOMB_E_STREAM_MODE,
                           "a stream of log full has every row; subsets are for log "
                           "changes_only, or beside the stream");
    if (s->subset_count == SUBSETS_MAX)
        return client_fail(s->client, COULOMB_E_LIMIT, "%d subsets are on their way",
                           SUBSETS_MAX);
    if ((o->has_limit || o->offset > 0) && !o->order_by)
        return client_fail(s->client, COULOMB_E_LIMIT_NEEDS_ORDER,
                           "a subset's limit or offset needs an order_by");
    return COULOMB_OK;
}

static int subset_new(struct shape_stream *s, const struct stream_subset *o, bool beside,
                      struct subset **out)
{
    int code = client_enter(s->client);
    struct subset *u;

    if (code == COULOMB_OK)
        code = check_call(s, o, beside);
    if (code != COULOMB_OK)
        return code;
    u = heap_zalloc(s->heap, sizeof(*u));
    if (!u)
        return client_no_memory(s->client);
    u->stream = s;
    u->beside = beside;
    u->number = ++s->last_number;
    timer_init(&u->timer, s->client, subset_timer);
    credentials_waiter_init(&u->waiter);
    list_init(&u->link);
    list_push(&s->subsets, &u->link);
    s->subset_count++;
    code = s->subset_get ? make_query(u, o) : make_body(u, o);
    if (code != COULOMB_OK) {
        subset_free(u);
        return code == COULOMB_E_MEMORY
                   ? client_no_memory(s->client)
                   : client_fail(s->client, code, "a subset's text is over %u bytes",
                                 BODY_BYTES_MAX);
    }
    *out = u;
    shape_stream_start(s);
    if (s->phase == STREAM_DONE)
        s->phase = STREAM_RUNNING;
    stream_poke(s);
    return COULOMB_OK;
}

int shape_stream_request_subset(struct shape_stream *s,
                                const struct stream_subset *subset, stream_done_fn *done,
                                void *arg, uint64_t *number)
{
    struct subset *u;
    int code = subset_new(s, subset, false, &u);

    if (code != COULOMB_OK)
        return code;
    u->done = done;
    u->arg = arg;
    if (number)
        *number = u->number;
    return COULOMB_OK;
}

int shape_stream_fetch_subset(struct shape_stream *s, const struct stream_subset *subset,
                              stream_rows_fn *rows, void *arg, uint64_t *number)
{
    struct subset *u;
    int code = subset_new(s, subset, true, &u);

    if (code != COULOMB_OK)
        return code;
    u->rows = rows;
    u->arg = arg;
    if (number)
        *number = u->number;
    return COULOMB_OK;
}

bool shape_stream_cancel_subset(struct shape_stream *s, uint64_t number)
{
    for (struct list *l = s->subsets.next; l != &s->subsets; l = l->next) {
        struct subset *u = LIST_ENTRY(l, struct subset, link);

        if (u->number == number) {
            bool delivering = s->delivering == u;

            s->drop_rest = s->drop_rest || delivering;
            subset_free(u);
            stream_poke(s);
            return delivering;
        }
    }
    return false;
}

/* --- Ends ----------------------------------------------------------------------------------------------------- */

/* Takes it out, frees it, and then tells: the callback may do anything. */
static void finish(struct subset *u, int code, const coulomb_error *e)
{
    struct shape_stream *s = u->stream;
    stream_done_fn *done = u->done;
    stream_rows_fn *rows = u->rows;
    struct stream_batch none = {0};
    void *arg = u->arg;

    s->work++;
    subset_free(u);
    if (done)
        done(s, code, code == COULOMB_OK ? NULL : e, arg);
    else if (rows && code != COULOMB_OK)
        rows(s, &none, code, e, arg);
}

static int fail(struct subset *u, int code, const char *words)
{
    coulomb_error e = {.code = 0};

    error_set(&e, code, "a subset: %s", words);
    finish(u, code, &e);
    return COULOMB_OK;
}

void subsets_end(struct shape_stream *s, int code, const coulomb_error *e)
{
    /* One by one: what is told may cancel another. */
    while (!list_empty(&s->subsets))
        finish(LIST_ENTRY(s->subsets.next, struct subset, link), code, e);
}

void subset_delivered(struct shape_stream *s)
{
    finish(s->delivering, COULOMB_OK, NULL);
}

/* --- Asking ----------------------------------------------------------------------------------------------------- */

static bool is_cold(const struct shape_stream *s)
{
    return s->state.offset.ptr && strcmp(s->state.offset.ptr, "now") == 0;
}

static bool is_under_way(const struct subset *u)
{
    return u->step == SUBSET_ASKING || u->step == SUBSET_ANSWERED;
}

bool subsets_hold(const struct shape_stream *s)
{
    for (struct list *l = s->subsets.next; l != &s->subsets; l = l->next) {
        const struct subset *u = LIST_ENTRY(l, struct subset, link);

        if (!u->beside && is_under_way(u))
            return true;
    }
    return false;
}

static void again(struct subset *u)
{
    fetch_drop(u->fetch);
    u->fetch = NULL;
    segments_free(u->list);
    u->list = NULL;
    u->ended = false;
    u->step = SUBSET_WAITING;
    u->stream->work++;
}

void subsets_again(struct shape_stream *s)
{
    for (struct list *l = s->subsets.next; l != &s->subsets; l = l->next) {
        struct subset *u = LIST_ENTRY(l, struct subset, link);

        if (!u->beside && is_under_way(u))
            again(u);
    }
}

static void credentials_ready(struct credentials_waiter *w, int code,
                              const coulomb_error *e)
{
    struct subset *u = LIST_ENTRY(w, struct subset, waiter);
    struct shape_stream *s = u->stream;

    u->needs_credentials = false;
    stream_hold(s);
    if (code != COULOMB_OK)
        fail(u, COULOMB_E_CREDENTIALS, e->message);
    stream_poke(s);
    stream_unhold(s);
}

static void subset_changed(struct fetch *f, void *arg)
{
    struct subset *u = arg;

    (void)f;
    stream_poke(u->stream);
}

static int start(struct subset *u, const struct credentials_set *set, const char *url)
{
    struct shape_stream *s = u->stream;
    struct fetch_request r = {
        .frame = READER_SUBSET,
        .url = url,
        .headers = s->headers.items,
        .header_count = s->headers.count,
        .more = set->headers,
        .more_count = set->header_count,
        .body = u->body.ptr ? &u->body : NULL,
        .schema = s->state.schema,
        .typed = s->typed,
        .expired = shapes_expired(s->client, slice_make(s->key.ptr, s->key.len)),
        .silence_ms = SUBSET_SILENCE_MS,
        .bytes_max = s->answer_bytes_max,
        .ca_file = s->ca_file};
    const char *detail;
    int code = fetch_start(s->client, &r, subset_changed, u, &u->fetch, &detail);

    if (code == COULOMB_E_MEMORY)
        return code;
    if (code != COULOMB_OK)
        return fail(u, code, detail ? detail : coulomb_last_error(s->client)->message);
    u->fetch->generation = set->generation;
    u->step = SUBSET_ASKING;
    u->buster[0] = '\0';
    s->work++;
    /* What a request at "now" would say is later than this one's view may be. */
    if (!u->beside && is_cold(s))
        stream_drop_fetches(s);
    return COULOMB_OK;
}

static int ask(struct subset *u)
{
    struct shape_stream *s = u->stream;
    struct credentials_set set = {0};
    struct url_request r = {.handle = u->handle.ptr ? &u->handle : &s->state.handle,
                            .offset = &s->state.offset,
                            .buster = u->buster,
                            .more = &u->query};
    struct buf url;
    int code;

    if (u->needs_credentials || (!u->beside && is_cold(s) && subsets_hold(s)))
        return COULOMB_OK;
    if (s->credentials) {
        u->waiter.ready = credentials_ready;
        code = credentials_want(s->credentials, &u->waiter, &set);
        if (code == COULOMB_PENDING) {
            u->needs_credentials = true;
            return COULOMB_OK;
        }
    }
    r.params = set.params;
    r.param_count = set.param_count;
    r.expired = shapes_expired(s->client, slice_make(s->key.ptr, s->key.len));
    buf_init_from(&url, SIZE_MAX / 4, &s->heap->mem);
    code = url_make(s, &r, &url);
    if (code == COULOMB_OK)
        code = start(u, &set, url.ptr);
    buf_fini(&url);
    return code == COULOMB_E_LIMIT ? fail(u, code, "its URL is over 8 MiB") : code;
}

/* --- Answers ------------------------------------------------------------------------------------------------------ */

static int fail_for_now(struct subset *u, const struct answer *a)
{
    struct shape_stream *s = u->stream;
    int64_t retry_after = a ? answer_retry_after(s, a) : 0;
    char words[400];

    u->attempt++;
    if (s->attempts_max > 0 && u->attempt >= s->attempts_max) {
        answer_describe(s, u->fetch, a, words, sizeof(words));
        return fail(u, a ? COULOMB_E_FETCH : COULOMB_E_NETWORK, words);
    }
    again(u);
    u->step = SUBSET_BACKOFF;
    timer_set(&u->timer,
              timer_after(s->client, net_backoff_ms(&s->backoff, u->attempt,
                                                    stream_random(s), retry_after)));
    return COULOMB_OK;
}

/* The shape is gone: the stream refetches, and then this is asked for again. */
static int rotated(struct subset *u, const struct answer *a)
{
    struct shape_stream *s = u->stream;
    struct slice key = slice_make(s->key.ptr, s->key.len);
    const struct blob *used = u->handle.ptr ? &u->handle : &s->state.handle;
    struct blob fresh = {NULL, 0};
    int code = COULOMB_OK;

    if (u->refetches == SUBSET_TRIES)
        return fail(u, COULOMB_E_STUCK, "answered with 409 again and again");
    if (a->handle && (!used->ptr || strcmp(a->handle, used->ptr) != 0))
        fresh = (struct blob){a->handle, strlen(a->handle)};
    if (used->ptr)
        shapes_mark_expired(s->client, key, slice_make(used->ptr, used->len));
    if (!u->beside)
        code = stream_refetch(s, &fresh); /* asks for it again */
    else if (fresh.ptr)
        code = blob_set(s->heap, &u->handle, fresh.ptr, fresh.len);
    if (code != COULOMB_OK)
        return code;
    stream_make_buster(s, u->buster);
    u->refetches++;
    if (u->beside)
        again(u);
    return COULOMB_OK;
}

/* Where a stream of "now" begins. */
static int adopt(struct shape_stream *s, const struct answer *a)
{
    if (!is_cold(s)) {
        if (!s->state.schema)
            s->state.schema = schema_retain(a->schema);
        return COULOMB_OK;
    }
    return state_accept(&s->state, a, false);
}

static int answered(struct subset *u, const struct answer *a)
{
    struct shape_stream *s = u->stream;
    int code;

    if (!a->schema && !s->typed && !s->state.schema)
        return fail(u, COULOMB_E_MISSING_HEADERS,
                    "the answer lacks the header electric-schema");
    code = u->beside ? COULOMB_OK : adopt(s, a);
    if (code != COULOMB_OK)
        return code;
    s->connected = true;
    if (s->credentials)
        credentials_worked(s->credentials, u->fetch->generation);
    u->list = fetch_take(u->fetch);
    u->step = SUBSET_ANSWERED;
    s->work++;
    return COULOMB_OK;
}

static int refused(struct subset *u, const struct answer *a)
{
    struct shape_stream *s = u->stream;
    char words[400];

    if (a->status == 409)
        return rotated(u, a);
    if ((a->status == 401 || a->status == 403) && s->credentials &&
        credentials_refused(s->credentials, u->fetch->generation, &u->refusals)) {
        again(u);
        return COULOMB_OK;
    }
    if (answer_is_transient(a->status))
        return fail_for_now(u, a);
    answer_describe(s, u->fetch, a, words, sizeof(words));
    return fail(u, COULOMB_E_FETCH, words);
}

static int look(struct subset *u)
{
    struct fetch *f = u->fetch;
    struct answer head;
    const struct answer *a = fetch_head(f, &head) ? &head : NULL;
    bool data = a && a->status >= 200 && a->status <= 299;

    if (!f->ended)
        return COULOMB_OK;
    if (data && fetch_is_stale(f, a))
        return rotated(u, &(struct answer){.status = 409});
    if (a && f->end == NET_DONE && !data)
        return refused(u, a);
    if (f->code == COULOMB_E_PROTOCOL)
        return fail(u, COULOMB_E_PROTOCOL, f->why);
    if (f->code == COULOMB_E_LIMIT || f->end == NET_TOO_LARGE)
        return fail(u, COULOMB_E_LIMIT, "the answer is over answer_bytes_max");
    if (f->end != NET_DONE || f->code == COULOMB_E_MEMORY)
        return fail_for_now(u, NULL);
    if (!a || !a->json)
        return fail(u, COULOMB_E_PROTOCOL, "the answer is no JSON");
    return answered(u, a);
}

/* --- Delivering ----------------------------------------------------------------------------------------------------- */

static int put_end(struct subset *u)
{
    struct segment **at = &u->list;

    if (u->ended)
        return COULOMB_OK;
    while (*at)
        at = &(*at)->next;
    *at = stream_control(u->stream, STREAM_SUBSET_END, u->number);
    if (!*at)
        return COULOMB_E_MEMORY;
    u->ended = true;
    return COULOMB_OK;
}

static int inject(struct subset *u)
{
    struct shape_stream *s = u->stream;
    int code = put_end(u);

    if (code != COULOMB_OK)
        return code;
    s->deliver = u->list;
    u->list = NULL;
    s->kind = DELIVER_SUBSET;
    s->delivering = u;
    s->work++;
    return COULOMB_OK;
}

/* One batch of it, to its own callback. */
static int give_beside(struct subset *u)
{
    struct shape_stream *s = u->stream;
    struct segment *g = u->list;
    struct stream_batch b = {.messages = g->messages,
                             .count = g->count,
                             .more = g->next != NULL,
                             .columns = g->schema ? g->schema->columns : NULL,
                             .column_count = g->schema ? g->schema->count : 0};
    stream_rows_fn *rows = u->rows;
    void *arg = u->arg;
    int code = segment_unpack(g);

    if (code != COULOMB_OK)
        return code;
    u->list = g->next;
    g->next = NULL;
    s->work++;
    if (!u->list)
        subset_free(u);
    rows(s, &b, COULOMB_OK, NULL, arg);
    segments_free(g);
    return COULOMB_OK;
}

static int run_one(struct subset *u)
{
    switch (u->step) {
    case SUBSET_WAITING:
        return ask(u);
    case SUBSET_ASKING:
        return look(u);
    case SUBSET_ANSWERED:
        return u->beside ? give_beside(u) : inject(u);
    case SUBSET_BACKOFF:
        break;
    }
    return COULOMB_OK;
}

/* Callbacks may take any of them out, so that after one that did something the rest waits for the next
 * poll. */
int subsets_run(struct shape_stream *s)
{
    for (struct list *l = s->subsets.next; l != &s->subsets;) {
        struct subset *u = LIST_ENTRY(l, struct subset, link);
        bool asks = u->step == SUBSET_WAITING;
        uint64_t work = s->work;
        int code;

        l = l->next;
        code = run_one(u);
        if (code != COULOMB_OK || s->deliver || (s->work != work && !asks))
            return code;
        if (asks && s->work != work && l != &s->subsets)
            l = s->subsets.next; /* it may have failed, and its callback done anything */
    }
    return COULOMB_OK;
}
