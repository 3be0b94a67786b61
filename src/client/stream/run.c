/*
 * The stream's loop, on the owner's thread. Whatever happens (an answer, a timer, credentials, a call)
 * queues its task; the task looks at what is to be done next:
 *
 *   deliver what is there ▶ subsets ▶ the current request's answer ▶ the next request
 *
 * and does one step. So there is one place where the order of things is decided, and none of the
 * callbacks that the app gets runs anywhere else.
 *
 * Without memory a step changes nothing and is tried again by the next poll.
 */

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "client/stream/internal.h"

#define FETCH_SILENCE_MS 120000 /* a server may prepare a snapshot for that long */
#define LOOP_BACKOFF_MS  100
#define LOOP_BACKOFF_MAX 5000
#define BATCHES_MAX      4  /* in one poll */
#define STEPS_MAX        16 /* likewise */

/* --- Small things ---------------------------------------------------------------------------------------- */

void stream_poke(struct shape_stream *s)
{
    if (s->phase != STREAM_STOPPED)
        task_queue(&s->task);
}

void stream_timer(struct timer *t)
{
    stream_poke(LIST_ENTRY(t, struct shape_stream, timer));
}

static double draw(struct shape_stream *s)
{
    /* xorshift64*: jitter needs no more. */
    s->random_state ^= s->random_state >> 12;
    s->random_state ^= s->random_state << 25;
    s->random_state ^= s->random_state >> 27;
    return (double)(s->random_state * 2685821657736338717u >> 11) / 9007199254740992.0;
}

double stream_random(struct shape_stream *s)
{
    return s->random ? s->random(s->clock_arg) : draw(s);
}

void stream_make_buster(struct shape_stream *s, char out[24])
{
    unsigned long long high = (unsigned long long)(stream_random(s) * 4294967296.0);
    unsigned long long low = (unsigned long long)(draw(s) * 4294967296.0);

    snprintf(out, 24, "%08llx%08llx", high & 0xffffffffu, low & 0xffffffffu);
}

int64_t stream_now_us(struct shape_stream *s)
{
    return s->wall_us ? s->wall_us(s->clock_arg) : clock_wall_us();
}

bool stream_is_live_sse(const struct shape_stream *s)
{
    return s->sse && !s->state.no_events;
}

void stream_drop_fetches(struct shape_stream *s)
{
    while (!list_empty(&s->fetches))
        fetch_drop(LIST_ENTRY(s->fetches.next, struct fetch, link));
}

static void wait_for(struct shape_stream *s, int64_t wait_ms)
{
    timer_set(&s->timer, timer_after(s->client, wait_ms));
}

void stream_back_off(struct shape_stream *s, int64_t retry_after_ms)
{
    unsigned attempt = s->attempt > 0 ? s->attempt : 1;
    int64_t wait = net_backoff_ms(&s->backoff, attempt, stream_random(s), retry_after_ms);

    client_log(s->client, COULOMB_LOG_INFO,
               "event=stream.retry url=%s attempt=%u wait_ms=%lld", s->shown_url, attempt,
               (long long)wait);
    wait_for(s, wait);
}

/* --- Errors ------------------------------------------------------------------------------------------------ */

static void tell_refreshes(struct shape_stream *s, int code, const coulomb_error *e,
                           uint64_t request)
{
    struct list due;

    list_init(&due);
    for (struct list *l = s->refreshes.next; l != &s->refreshes;) {
        struct refresh *r = LIST_ENTRY(l, struct refresh, link);

        l = l->next;
        if (code != COULOMB_OK || request > r->after) {
            list_remove(&r->link);
            list_push(&due, &r->link);
        }
    }
    while (!list_empty(&due)) {
        struct refresh *r = LIST_ENTRY(list_pop(&due), struct refresh, link);

        if (r->done)
            r->done(s, code, e, r->arg);
        heap_free(s->heap, r, sizeof(*r));
    }
}

static void give_up(struct shape_stream *s, const coulomb_error *e)
{
    s->error = *e;
    s->phase = STREAM_FAILED;
    s->connected = false;
    stream_drop_fetches(s);
    timer_cancel(&s->timer);
    stream_drop_delivery(s);
    client_log(s->client, COULOMB_LOG_ERROR, "event=stream.failed url=%s error=%s",
               s->shown_url, coulomb_error_name(e->code));
    tell_refreshes(s, e->code, e, 0);
    subsets_end(s, e->code, e);
}

void stream_error_found(struct shape_stream *s, int code, int status, struct slice body,
                        bool retryable, const char *format, ...)
{
    struct stream_error e = {.code = code,
                             .status = status,
                             .body = {body.ptr, body.len},
                             .retryable = retryable};
    coulomb_error words = {.code = code};
    enum stream_decision decision = STREAM_GIVE_UP;
    va_list args;

    va_start(args, format);
    if (vsnprintf(words.message, sizeof(words.message), format, args) < 0)
        words.message[0] = '\0';
    va_end(args);
    e.message = words.message;
    s->connected = false;
    if (s->callbacks.error) { /* which may end the fetch that the body lies in */
        size_t len = body.ptr ? body.len : 0;
        char *copy = len > 0 ? heap_alloc(s->heap, len) : NULL;

        if (copy)
            memcpy(copy, body.ptr, len);
        e.body = (coulomb_str){copy, copy ? len : 0};
        decision = s->callbacks.error(s, &e, s->arg);
        heap_free(s->heap, copy, len);
    }
    if (s->phase == STREAM_STOPPED)
        return;
    if (decision != STREAM_RETRY || !retryable ||
        ++s->error_retries > ERROR_RETRIES_MAX) {
        give_up(s, &words);
        return;
    }
    stream_drop_fetches(s);
    s->loop_count = s->loop_rounds = 0;
    s->attempt = s->error_retries;
    stream_back_off(s, 0);
    s->attempt = 0;
}

/* --- Control messages of our own ------------------------------------------------------------------------------ */

struct segment *stream_control(struct shape_stream *s, enum stream_kind kind,
                               uint64_t subset)
{
    static const struct stream_headers nothing;
    struct segment *g = heap_shared(s->heap, NULL, sizeof(*g));

    if (!g)
        return NULL;
    *g = (struct segment){.heap = s->heap, .count = 1, .cap = 1};
    g->messages = heap_shared(s->heap, NULL, sizeof(*g->messages));
    if (!g->messages) {
        heap_shared_free(s->heap, g);
        return NULL;
    }
    g->messages[0] =
        (struct stream_message){.kind = kind, .headers = &nothing, .subset = subset};
    g->schema = schema_retain(s->state.schema);
    return g;
}

void stream_drop_delivery(struct shape_stream *s)
{
    segments_free(s->deliver);
    s->deliver = NULL;
    fetch_drop(s->source);
    s->source = NULL;
    s->delivering = NULL;
    s->filtered = s->applied = s->suppress = s->drop_rest = false;
}

int stream_refetch(struct shape_stream *s, const struct blob *handle)
{
    struct segment *told = stream_control(s, STREAM_MUST_REFETCH, 0);
    struct slice h = handle ? slice_make(handle->ptr, handle->len) : slice_make(NULL, 0);

    if (!told)
        return COULOMB_E_MEMORY;
    if (state_refetch(&s->state, h) != COULOMB_OK) {
        segments_free(told);
        return COULOMB_E_MEMORY;
    }
    client_log(s->client, COULOMB_LOG_INFO, "event=stream.refetch url=%s", s->shown_url);
    stream_drop_fetches(s);
    subsets_again(s);
    s->connected = false;
    stream_drop_delivery(s);
    s->deliver = told;
    s->kind = DELIVER_CONTROL;
    s->work++;
    return COULOMB_OK;
}

/* --- Delivering ------------------------------------------------------------------------------------------------ */

static bool is_up_to_date(const struct segment *g)
{
    return g->count > 0 && g->messages[g->count - 1].kind == STREAM_UP_TO_DATE;
}

/* Whether the state moves with this segment. */
static bool ends_answer(const struct shape_stream *s, const struct segment *g)
{
    if (s->kind == DELIVER_EVENTS)
        return is_up_to_date(g);
    return !g->next;
}

static int apply(struct shape_stream *s, const struct segment *g)
{
    const struct stream_message *last = g->count > 0 ? &g->messages[g->count - 1] : NULL;
    bool events = s->kind == DELIVER_EVENTS;
    int code = COULOMB_OK;

    if (s->kind == DELIVER_CONTROL || s->kind == DELIVER_SUBSET)
        return COULOMB_OK;
    s->suppress = last && last->kind == STREAM_UP_TO_DATE &&
                  state_is_replay(&s->state, &s->answer, events);
    if (!events)
        code = state_accept(&s->state, &s->answer, false);
    if (code == COULOMB_OK && last && last->kind == STREAM_UP_TO_DATE) {
        code = state_up_to_date(&s->state, events, last->headers->has_lsn,
                                last->headers->lsn, stream_now_us(s));
        if (code == COULOMB_OK && !s->suppress)
            shapes_up_to_date(s->client, slice_make(s->key.ptr, s->key.len),
                              slice_make(s->state.cursor.ptr, s->state.cursor.len));
        if (code == COULOMB_OK)
            s->healed = false;
    }
    return code;
}

/* Takes out what was delivered before, and an up-to-date that only repeats one. */
static void filter(struct shape_stream *s, struct segment *g)
{
    size_t kept = 0;

    if (s->kind == DELIVER_CONTROL || s->kind == DELIVER_SUBSET)
        return;
    for (size_t i = 0; i < g->count; i++) {
        if (!state_seen(&s->state, &g->messages[i]))
            g->messages[kept++] = g->messages[i];
    }
    g->count = kept;
}

static int hand_over(struct shape_stream *s, struct segment *g, bool more)
{
    struct stream_batch b = {.messages = g->messages,
                             .count = g->count,
                             .more = more,
                             .columns = g->schema ? g->schema->columns : NULL,
                             .column_count = g->schema ? g->schema->count : 0};

    if (s->suppress && is_up_to_date(g))
        b.count--;
    return b.count > 0 ? s->callbacks.messages(s, &b, s->arg) : COULOMB_OK;
}

/* The first segment was taken. */
static void delivered(struct shape_stream *s, struct segment *g, bool ends)
{
    bool up_to_date = is_up_to_date(g);

    s->work++;
    s->deliver = g->next;
    g->next = NULL;
    segments_free(g);
    s->filtered = s->applied = s->suppress = false;
    if (!s->deliver) {
        fetch_drop(s->source);
        s->source = NULL;
        s->drop_rest = false; /* there was no rest */
    }
    if (s->kind == DELIVER_SUBSET && !s->deliver && s->delivering)
        subset_delivered(s);
    if (ends && up_to_date && s->kind != DELIVER_SUBSET)
        tell_refreshes(s, COULOMB_OK, NULL, s->deliver_request);
}

/* One batch. */
static int deliver(struct shape_stream *s)
{
    struct segment *g = s->deliver;
    bool ends = ends_answer(s, g);
    coulomb_error e = {.code = 0};
    int code;

    if (s->drop_rest) {
        stream_drop_delivery(s);
        s->work++;
        return COULOMB_OK;
    }
    code = segment_unpack(g);
    if (code != COULOMB_OK)
        return code;
    if (!s->filtered) {
        filter(s, g);
        s->filtered = true;
    }
    if (!s->applied) {
        code = ends ? apply(s, g) : COULOMB_OK;
        if (code != COULOMB_OK)
            return code;
        s->applied = true;
        s->error_retries = 0;
    }
    code = hand_over(s, g, !ends);
    if (s->phase == STREAM_STOPPED || code == COULOMB_E_MEMORY)
        return code;
    if (code < 0) {
        error_set(&e, code, "what the stream delivered was not taken: %.400s",
                  coulomb_last_error(s->client)->message);
        give_up(s, &e);
        return COULOMB_OK;
    }
    delivered(s, g, ends);
    return COULOMB_OK;
}

/* --- The next request -------------------------------------------------------------------------------------------- */

/* Whether to ask; else something else was done. */
static bool loop_checked(struct shape_stream *s, int *code)
{
    int64_t now = client_now(s->client);
    uint64_t offset = 1469598103934665603u; /* FNV-1a */
    unsigned kept = 0;

    *code = COULOMB_OK;
    if (s->state.mode == SYNC_LIVE) {
        s->loop_count = s->loop_rounds = 0;
        return true;
    }
    if (s->loop_waited) {
        s->loop_waited = false;
        return true;
    }
    for (size_t i = 0; i < s->state.offset.len; i++)
        offset = (offset ^ (unsigned char)s->state.offset.ptr[i]) * 1099511628211u;
    if (offset != s->loop_offset)
        s->loop_count = 0;
    s->loop_offset = offset;
    for (unsigned i = 0; i < s->loop_count; i++) {
        if (now - s->loop_times[i] < LOOP_WINDOW_MS)
            s->loop_times[kept++] = s->loop_times[i];
    }
    s->loop_times[kept++] = now;
    s->loop_count = kept;
    if (kept < LOOP_REQUESTS)
        return true;
    s->loop_count = 0;
    s->loop_rounds++;
    if (s->loop_rounds == 1) {
        client_log(s->client, COULOMB_LOG_WARNING,
                   "event=stream.loop url=%s requests=%d window_ms=%d", s->shown_url,
                   LOOP_REQUESTS, LOOP_WINDOW_MS);
        shapes_forget(s->client, slice_make(s->key.ptr, s->key.len));
        *code = stream_refetch(s, NULL);
        if (*code != COULOMB_OK)
            s->loop_rounds = 0;
        return false;
    }
    if (s->loop_rounds < LOOP_ROUNDS) {
        struct net_backoff b = {LOOP_BACKOFF_MS, LOOP_BACKOFF_MAX, 2};

        s->loop_waited = true;
        wait_for(s, net_backoff_ms(&b, s->loop_rounds + 1, stream_random(s), 0));
        return false;
    }
    stream_error_found(
        s, COULOMB_E_STUCK, 0, slice_make(NULL, 0), true,
        "%s answers requests at offset %s again and again without getting on; a proxy "
        "or cache in between may leave parameters (handle, offset) out of its key",
        s->shown_url, s->state.offset.ptr ? s->state.offset.ptr : "");
    return false;
}

static void credentials_ready(struct credentials_waiter *w, int code,
                              const coulomb_error *e)
{
    struct shape_stream *s = LIST_ENTRY(w, struct shape_stream, waiter);

    s->waits_for_credentials = false;
    if (code != COULOMB_OK && s->phase == STREAM_RUNNING) {
        stream_hold(s);
        stream_error_found(s, COULOMB_E_CREDENTIALS, 0, slice_make(NULL, 0), true, "%s",
                           e->message);
        stream_poke(s);
        stream_unhold(s);
        return;
    }
    stream_poke(s);
}

static void fetch_changed(struct fetch *f, void *arg)
{
    (void)f;
    stream_poke(arg);
}

/* What the next request is like. */
struct plan {
    bool live;
    bool sse;
    struct credentials_set set;
    struct url_request url;
    struct buf text;
};

static int make_plan(struct shape_stream *s, struct plan *p)
{
    struct sync_state *st = &s->state;
    bool live_state = st->mode == SYNC_LIVE;

    /* Rows can't be read without their columns, which live answers don't tell. */
    p->live = live_state && !s->no_wait && list_empty(&s->refreshes) &&
              (st->schema || s->typed);
    p->sse = p->live && stream_is_live_sse(s);
    p->url = (struct url_request){
        .handle = &st->handle,
        .offset = &st->offset,
        .cursor = live_state ? (st->cursor.ptr ? st->cursor.ptr : "") : NULL,
        .live = p->live,
        .sse = p->sse,
        .buster = s->buster,
        .expired = shapes_expired(s->client, slice_make(s->key.ptr, s->key.len)),
        .params = p->set.params,
        .param_count = p->set.param_count};
    return url_make(s, &p->url, &p->text);
}

static int start_fetch(struct shape_stream *s, const struct plan *p,
                       struct schema *schema)
{
    struct fetch_request r = {.frame = p->sse ? READER_EVENTS : READER_ARRAY,
                              .url = p->text.ptr,
                              .headers = s->headers.items,
                              .header_count = s->headers.count,
                              .more = p->set.headers,
                              .more_count = p->set.header_count,
                              .schema = schema,
                              .typed = s->typed,
                              .expired = p->url.expired,
                              .silence_ms =
                                  p->live ? s->live_timeout_ms : FETCH_SILENCE_MS,
                              .bytes_max = s->answer_bytes_max,
                              .buffered_max = s->buffered_bytes_max,
                              .ca_file = s->ca_file};
    const char *detail;
    struct fetch *f;
    int code = fetch_start(s->client, &r, fetch_changed, s, &f, &detail);

    if (code == COULOMB_E_MEMORY)
        return code;
    if (code != COULOMB_OK) {
        stream_error_found(s, code, 0, slice_make(NULL, 0), true, "%s: %s", s->shown_url,
                           detail ? detail : coulomb_last_error(s->client)->message);
        return COULOMB_OK;
    }
    f->number = ++s->request_count;
    f->live = p->live;
    f->sse = p->sse;
    f->generation = p->set.generation;
    list_push(&s->fetches, &f->link);
    return COULOMB_OK;
}

/* The one that was made ahead, when it is the one to be made now; else none is left. */
static bool use_ahead(struct shape_stream *s, const struct plan *p)
{
    struct fetch *f;

    if (list_empty(&s->fetches))
        return false;
    f = LIST_ENTRY(s->fetches.next, struct fetch, link);
    if (strcmp(f->url, p->text.ptr) == 0)
        return true;
    stream_drop_fetches(s);
    return false;
}

static void enter_replay(struct shape_stream *s)
{
    const char *cursor = shapes_cursor(s->client, slice_make(s->key.ptr, s->key.len));

    if (s->state.mode != SYNC_INITIAL && s->state.mode != SYNC_SYNCING)
        return;
    if (cursor &&
        blob_set(s->heap, &s->state.replay_cursor, cursor, strlen(cursor)) == COULOMB_OK)
        s->state.mode = SYNC_REPLAYING;
}

static int next_request(struct shape_stream *s)
{
    struct plan p = {0};
    int code = COULOMB_OK;

    if (s->waits_for_credentials || !loop_checked(s, &code))
        return code;
    if (s->credentials) {
        s->waiter.ready = credentials_ready;
        code = credentials_want(s->credentials, &s->waiter, &p.set);
        if (code == COULOMB_PENDING) {
            s->waits_for_credentials = true;
            s->loop_waited = s->state.mode != SYNC_LIVE; /* this one was counted */
            return COULOMB_OK;
        }
    }
    buf_init_from(&p.text, SIZE_MAX / 4, &s->heap->mem);
    enter_replay(s);
    code = make_plan(s, &p);
    if (code == COULOMB_OK && !use_ahead(s, &p))
        code = start_fetch(s, &p, s->state.schema);
    buf_fini(&p.text);
    if (code == COULOMB_E_LIMIT) {
        stream_error_found(s, code, 0, slice_make(NULL, 0), true,
                           "%s: the parameters are over 8 MiB, or more than 4,096",
                           s->shown_url);
        return COULOMB_OK;
    }
    if (code == COULOMB_OK) {
        s->buster[0] = '\0';
        s->no_wait = false;
        s->work++;
        if (!list_empty(&s->fetches))
            s->current = LIST_ENTRY(s->fetches.next, struct fetch, link)->number;
    } else {
        s->loop_waited = s->state.mode != SYNC_LIVE;
    }
    return code;
}

/* --- Fetching ahead ------------------------------------------------------------------------------------------------ */

/* The one behind f, which is f's with the handle and offset that its head tells. */
static int chain(struct shape_stream *s, struct fetch *f, const struct answer *a)
{
    struct plan p = {0};
    struct blob handle = {a->handle, strlen(a->handle)};
    struct blob offset = {a->offset, strlen(a->offset)};
    int code;

    if (s->credentials) {
        /* Those that f had, or none: an extra request is not worth a renewal. */
        struct credentials_waiter none;

        credentials_waiter_init(&none);
        code = credentials_want(s->credentials, &none, &p.set);
        credentials_cancel(&none);
        if (code != COULOMB_OK || p.set.generation != f->generation)
            return COULOMB_OK;
    }
    p.url = (struct url_request){
        .handle = &handle,
        .offset = &offset,
        .expired = shapes_expired(s->client, slice_make(s->key.ptr, s->key.len)),
        .params = p.set.params,
        .param_count = p.set.param_count};
    buf_init_from(&p.text, SIZE_MAX / 4, &s->heap->mem);
    code = url_make(s, &p.url, &p.text);
    if (code == COULOMB_OK && strcmp(p.text.ptr, f->url) != 0)
        code = start_fetch(s, &p, a->schema);
    buf_fini(&p.text);
    return code == COULOMB_E_MEMORY ? code : COULOMB_OK;
}

static int fetch_ahead(struct shape_stream *s)
{
    struct fetch *last;
    struct answer a;
    size_t ahead = 0;

    for (struct list *l = s->fetches.next; l != &s->fetches; l = l->next)
        ahead += LIST_ENTRY(l, struct fetch, link)->number > s->current;
    if (list_empty(&s->fetches) || ahead >= s->prefetch || s->state.mode == SYNC_LIVE)
        return COULOMB_OK;
    last = LIST_ENTRY(s->fetches.prev, struct fetch, link);
    if (last->chained || last->live || !fetch_head(last, &a))
        return COULOMB_OK;
    if (a.status == 200 && !a.up_to_date && a.handle && a.offset &&
        (a.schema || s->typed) && !fetch_is_stale(last, &a)) {
        int code = chain(s, last, &a);

        if (code != COULOMB_OK)
            return code;
    }
    last->chained = true;
    return COULOMB_OK;
}

/* --- The loop -------------------------------------------------------------------------------------------------------- */

static bool is_current_ahead(const struct shape_stream *s)
{
    struct fetch *f = LIST_ENTRY(s->fetches.next, struct fetch, link);

    return f->number > s->current;
}

static int step(struct shape_stream *s)
{
    int code = fetch_ahead(s);

    while (code == COULOMB_OK && s->deliver && s->batches_left > 0) {
        s->batches_left--;
        code = deliver(s);
        if (s->phase != STREAM_RUNNING)
            return code;
    }
    if (code == COULOMB_OK && !s->deliver)
        code = subsets_run(s);
    if (code != COULOMB_OK || s->deliver || s->phase != STREAM_RUNNING || subsets_hold(s))
        return code;
    if (!list_empty(&s->fetches) && !is_current_ahead(s))
        return answer_look(s);
    if (timer_is_set(&s->timer))
        return COULOMB_OK;
    if (s->once && s->state.mode == SYNC_LIVE && list_empty(&s->refreshes) &&
        s->subset_count == 0) {
        s->phase = STREAM_DONE;
        return COULOMB_OK;
    }
    return next_request(s);
}

static void tell_change(struct shape_stream *s)
{
    bool up_to_date = s->state.mode == SYNC_LIVE;
    bool sse = stream_is_live_sse(s);

    if (s->told.phase == s->phase && s->told.connected == s->connected &&
        s->told.up_to_date == up_to_date && s->told.live_sse == sse)
        return;
    s->told.phase = s->phase;
    s->told.connected = s->connected;
    s->told.up_to_date = up_to_date;
    s->told.live_sse = sse;
    if (s->callbacks.changed)
        s->callbacks.changed(s, s->arg);
}

int stream_run(struct task *t)
{
    struct shape_stream *s = LIST_ENTRY(t, struct shape_stream, task);
    const coulomb_error stopped = {.code = COULOMB_E_STREAM_STOPPED,
                                   .message = "the stream was stopped"};
    uint64_t work = s->work - 1;
    int code = COULOMB_OK;

    stream_hold(s);
    s->batches_left = BATCHES_MAX;
    for (int i = 0; i < STEPS_MAX && code == COULOMB_OK && s->work != work &&
                    (!s->deliver || s->batches_left > 0);
         i++) {
        work = s->work;
        if (s->phase == STREAM_RUNNING)
            code = step(s);
        if (s->phase != STREAM_STOPPED)
            tell_change(s);
    }
    if (s->phase == STREAM_STOPPED) {
        code = COULOMB_OK;
        stream_drop_delivery(s);
    }
    /* Who gave it up does not want to hear of it. */
    if (s->phase == STREAM_STOPPED && s->refs > 0) {
        tell_refreshes(s, stopped.code, &stopped, 0);
        subsets_end(s, stopped.code, &stopped);
    }
    if (s->phase == STREAM_RUNNING && (s->work != work || s->deliver))
        stream_poke(s);
    stream_unhold(s);
    return code;
}
