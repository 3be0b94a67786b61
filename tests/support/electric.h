/* A collection fed by the Electric adapter, over a stream that the test plays: what the adapter asks
 * for is recorded, what comes is what the test sends. Header only; one stream of each collection at a
 * time. */
#ifndef COULOMB_TESTS_SUPPORT_ELECTRIC_H
#define COULOMB_TESTS_SUPPORT_ELECTRIC_H

#include "client/collection/collection.h"
#include "client/stream/stream.h"
#include "support/client.h"

/* --- The stream --------------------------------------------------------------------------------- */

#define FAKE_REQUESTS_MAX 64
#define FAKE_TEXT_MAX     512

struct fake_request {
    uint64_t number;
    bool open;
    bool beside;
    char where[FAKE_TEXT_MAX];
    char params[8][64];
    size_t param_count;
    char order_by[FAKE_TEXT_MAX];
    bool has_limit;
    uint64_t limit;
    uint64_t offset;
    stream_done_fn *done;
    stream_rows_fn *rows;
    void *arg;
};

struct fake_refresh {
    stream_done_fn *done;
    void *arg;
};

struct shape_stream {
    coulomb_client *client;
    size_t refs;
    struct stream_callbacks callbacks;
    void *arg;
    bool started;
    bool stopped;
    unsigned pauses;
    bool changes_only;
    bool whole_rows;
    bool from_now;
    enum stream_phase phase;
    bool up_to_date;
    char key[FAKE_TEXT_MAX];
    char offset[64];
    char handle[64];
    char cursor[64];
    char given_offset[64]; /* as the options had it */
    bool has_lsn;
    uint64_t lsn;
    coulomb_error error;
    const struct stream_column *columns;
    size_t column_count;
    struct fake_request requests[FAKE_REQUESTS_MAX];
    size_t request_count;
    uint64_t delivering; /* the request whose rows are being delivered; 0: none */
    struct fake_refresh refreshes[32];
    size_t refresh_first;
    size_t refresh_count;  /* ever */
    char params[8][2][64]; /* set after making */
    size_t param_count;
};

/* The newest one, and how many were made and are live. */
static struct shape_stream *fake;
static size_t fakes_made;
static size_t fakes_live;
/* Of the clients that are opened; 0: the default. */
static size_t fake_queue_max;

static inline void fake_copy(char *to, size_t cap, const char *from)
{
    snprintf(to, cap, "%s", from ? from : "");
}

int shape_stream_new(coulomb_client *c, const struct stream_options *o,
                     struct shape_stream **out)
{
    struct shape_stream *s;

    if (o->offset && !o->handle)
        return client_fail(c, COULOMB_E_MISSING_HANDLE, "no handle");
    for (size_t i = 0; i < o->extra_count; i++) {
        if (strcmp(o->extra[i].name, "offset") == 0)
            return client_fail(c, COULOMB_E_RESERVED_PARAM, "offset is reserved");
    }
    s = heap_zalloc(c->heap, sizeof(*s));
    if (!s)
        return client_no_memory(c);
    s->client = c;
    s->refs = 1;
    s->callbacks = o->callbacks;
    s->arg = o->arg;
    s->changes_only = o->log == STREAM_LOG_CHANGES_ONLY;
    s->whole_rows = o->replica == STREAM_REPLICA_FULL;
    s->from_now = o->from_now;
    snprintf(s->key, sizeof(s->key), "%s?table=%s&where=%s", o->url,
             o->table ? o->table : "", o->where ? o->where : "");
    fake_copy(s->offset, sizeof(s->offset),
              o->offset     ? o->offset
              : o->from_now ? "now"
                            : "-1");
    fake_copy(s->given_offset, sizeof(s->given_offset), s->offset);
    fake_copy(s->handle, sizeof(s->handle), o->handle);
    fake_copy(s->cursor, sizeof(s->cursor), o->cursor);
    fake = s;
    fakes_made++;
    fakes_live++;
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
    if (fake == s)
        fake = NULL;
    fakes_live--;
    heap_free(s->client->heap, s, sizeof(*s));
}

void shape_stream_start(struct shape_stream *s)
{
    s->started = true;
    s->phase = STREAM_RUNNING;
}

void shape_stream_stop(struct shape_stream *s)
{
    s->stopped = true;
    s->phase = STREAM_STOPPED;
}

void shape_stream_pause(struct shape_stream *s)
{
    s->pauses++;
    s->phase = STREAM_PAUSED;
}

void shape_stream_resume(struct shape_stream *s)
{
    if (s->pauses > 0 && --s->pauses == 0)
        s->phase = STREAM_RUNNING;
}

int shape_stream_set_param(struct shape_stream *s, const char *name, const char *value)
{
    if (strcmp(name, "offset") == 0)
        return client_fail(s->client, COULOMB_E_RESERVED_PARAM, "offset is reserved");
    fake_copy(s->params[s->param_count][0], 64, name);
    fake_copy(s->params[s->param_count++][1], 64, value);
    return COULOMB_OK;
}

int shape_stream_set_header(struct shape_stream *s, const char *name, const char *value)
{
    return shape_stream_set_param(s, name, value);
}

int shape_stream_refresh(struct shape_stream *s, stream_done_fn *done, void *arg)
{
    s->refreshes[s->refresh_count++ % 32] = (struct fake_refresh){done, arg};
    return COULOMB_OK;
}

static inline int fake_ask(struct shape_stream *s, const struct stream_subset *subset,
                           struct fake_request **out, uint64_t *number)
{
    struct fake_request *r = &s->requests[s->request_count];
    size_t open = 0;

    for (size_t i = 0; i < s->request_count; i++)
        open += s->requests[i].open;
    if (open == FAKE_REQUESTS_MAX / 2)
        return client_fail(s->client, COULOMB_E_LIMIT, "too many subsets");
    assert_true(s->request_count < FAKE_REQUESTS_MAX);
    memset(r, 0, sizeof(*r));
    fake_copy(r->where, sizeof(r->where), subset->where);
    for (size_t i = 0; i < subset->param_count && i < 8; i++)
        fake_copy(r->params[i], 64, subset->params[i]);
    r->param_count = subset->param_count;
    fake_copy(r->order_by, sizeof(r->order_by), subset->order_by);
    r->has_limit = subset->has_limit;
    r->limit = subset->limit;
    r->offset = subset->offset;
    r->open = true;
    r->number = ++s->request_count;
    *out = r;
    *number = r->number;
    return COULOMB_OK;
}

int shape_stream_request_subset(struct shape_stream *s,
                                const struct stream_subset *subset, stream_done_fn *done,
                                void *arg, uint64_t *number)
{
    struct fake_request *r = NULL;
    int code;

    assert_true(s->changes_only);
    code = fake_ask(s, subset, &r, number);
    if (code == COULOMB_OK) {
        r->done = done;
        r->arg = arg;
    }
    return code;
}

int shape_stream_fetch_subset(struct shape_stream *s, const struct stream_subset *subset,
                              stream_rows_fn *rows, void *arg, uint64_t *number)
{
    struct fake_request *r = NULL;
    int code = fake_ask(s, subset, &r, number);

    if (code == COULOMB_OK) {
        r->beside = true;
        r->rows = rows;
        r->arg = arg;
    }
    return code;
}

bool shape_stream_cancel_subset(struct shape_stream *s, uint64_t number)
{
    bool delivering = number > 0 && number == s->delivering;

    if (number > 0 && number <= s->request_count)
        s->requests[number - 1].open = false;
    if (delivering)
        s->delivering = 0;
    return delivering;
}

void shape_stream_state(const struct shape_stream *s, struct stream_state *out)
{
    *out = (struct stream_state){.phase = s->phase,
                                 .up_to_date = s->up_to_date,
                                 .handle = {s->handle, strlen(s->handle)},
                                 .offset = {s->offset, strlen(s->offset)},
                                 .cursor = {s->cursor, strlen(s->cursor)},
                                 .has_lsn = s->has_lsn,
                                 .lsn = s->lsn,
                                 .columns = s->columns,
                                 .column_count = s->column_count};
}

const coulomb_error *shape_stream_error(const struct shape_stream *s)
{
    return &s->error;
}

coulomb_str shape_stream_key(const struct shape_stream *s)
{
    return (coulomb_str){s->key, strlen(s->key)};
}

/* --- What the test sends ------------------------------------------------------------------------- */

#define FEED_MAX    64
#define FEED_VALUES 3

struct feed {
    struct stream_message m[FEED_MAX];
    struct stream_headers h[FEED_MAX];
    coulomb_value values[FEED_MAX][FEED_VALUES];
    coulomb_value old[FEED_MAX][FEED_VALUES];
    uint64_t txids[FEED_MAX];
    struct stream_snapshot snapshots[FEED_MAX];
    coulomb_str tags[FEED_MAX][4];
    coulomb_str removed[FEED_MAX][4];
    bool conditions[FEED_MAX][8];
    struct stream_pattern patterns[FEED_MAX][4];
    size_t count;
};

static inline struct stream_message *feed_add(struct feed *f, enum stream_kind kind)
{
    struct stream_message *m = &f->m[f->count];

    assert_true(f->count < FEED_MAX);
    memset(m, 0, sizeof(*m));
    memset(&f->h[f->count], 0, sizeof(f->h[0]));
    m->kind = kind;
    m->headers = &f->h[f->count];
    f->count++;
    return m;
}

/* The headers of the last message. */
static inline struct stream_headers *feed_last(struct feed *f)
{
    return &f->h[f->count - 1];
}

/* txid 0: a row of a snapshot. */
static inline void feed_change(struct feed *f, enum stream_kind kind, uint64_t txid,
                               coulomb_value id, const char *name, coulomb_value qty)
{
    struct stream_message *m = feed_add(f, kind);
    size_t i = f->count - 1;

    f->values[i][0] = id;
    f->values[i][1] = name ? coulomb_text(name) : coulomb_absent();
    f->values[i][2] = qty;
    m->values = f->values[i];
    f->h[i].schema = (coulomb_str){"public", 6};
    f->h[i].table = (coulomb_str){"items", 5};
    if (txid > 0) {
        f->txids[i] = txid;
        f->h[i].txids = &f->txids[i];
        f->h[i].txid_count = 1;
        f->h[i].has_lsn = true;
        f->h[i].lsn = txid * 100;
    }
}

static inline void feed_insert(struct feed *f, uint64_t txid, int64_t id, int64_t qty)
{
    feed_change(f, STREAM_INSERT, txid, coulomb_int(id), "x", coulomb_int(qty));
}

static inline void feed_update(struct feed *f, uint64_t txid, int64_t id, int64_t qty)
{
    feed_change(f, STREAM_UPDATE, txid, coulomb_int(id), NULL, coulomb_int(qty));
}

static inline void feed_delete(struct feed *f, uint64_t txid, int64_t id)
{
    feed_change(f, STREAM_DELETE, txid, coulomb_int(id), NULL, coulomb_absent());
}

/* Of the last message: tags and conditions ("10": true, false; NULL: none told). */
static inline void feed_tags(struct feed *f, const char *a, const char *b,
                             const char *conditions)
{
    size_t i = f->count - 1;
    struct stream_headers *h = &f->h[i];

    h->has_tags = true;
    h->tags = f->tags[i];
    for (const char *const *t = (const char *const[]){a, b, NULL}; *t; t++)
        f->tags[i][h->tag_count++] = (coulomb_str){*t, strlen(*t)};
    if (!conditions)
        return;
    h->has_conditions = true;
    h->conditions = f->conditions[i];
    for (; conditions[h->condition_count]; h->condition_count++)
        f->conditions[i][h->condition_count] = conditions[h->condition_count] == '1';
}

static inline void feed_removed(struct feed *f, const char *a)
{
    size_t i = f->count - 1;
    struct stream_headers *h = &f->h[i];

    h->has_removed_tags = true;
    h->removed_tags = f->removed[i];
    f->removed[i][h->removed_tag_count++] = (coulomb_str){a, strlen(a)};
}

static inline void feed_move(struct feed *f, enum stream_kind kind, size_t pos,
                             const char *value)
{
    size_t i;

    feed_add(f, kind);
    i = f->count - 1;
    f->patterns[i][0] = (struct stream_pattern){pos, {value, strlen(value)}};
    f->h[i].patterns = f->patterns[i];
    f->h[i].pattern_count = 1;
}

static inline void feed_pattern(struct feed *f, size_t pos, const char *value)
{
    size_t i = f->count - 1;

    f->patterns[i][f->h[i].pattern_count++] =
        (struct stream_pattern){pos, {value, strlen(value)}};
}

static inline void feed_up_to_date(struct feed *f, uint64_t lsn)
{
    feed_add(f, STREAM_UP_TO_DATE);
    feed_last(f)->has_lsn = lsn > 0;
    feed_last(f)->lsn = lsn;
}

static inline void feed_view(struct feed *f, uint64_t xmin, uint64_t xmax,
                             const uint64_t *xip, size_t count)
{
    struct stream_message *m = feed_add(f, STREAM_SNAPSHOT_END);
    struct stream_snapshot *s = &f->snapshots[f->count - 1];

    *s = (struct stream_snapshot){
        .xmin = xmin, .xmax = xmax, .xip = xip, .xip_count = count};
    m->snapshot = s;
}

static inline void feed_refetch(struct feed *f)
{
    feed_add(f, STREAM_MUST_REFETCH);
}

/* Sends it as a stream does: one batch, the state moved before; again while memory is out. Returns the
 * last code. */
static inline int feed_send_as(struct feed *f, struct shape_stream *s, const char *offset,
                               bool more)
{
    struct stream_batch b = {.messages = f->m, .count = f->count, .more = more};
    int code = COULOMB_E_MEMORY;

    b.columns = s->columns;
    b.column_count = s->column_count;
    for (size_t i = 0; i < f->count; i++) {
        if (f->m[i].kind == STREAM_UP_TO_DATE) {
            s->up_to_date = true;
            s->has_lsn = f->h[i].has_lsn;
            s->lsn = f->h[i].lsn;
        }
        if (f->m[i].kind == STREAM_MUST_REFETCH) {
            s->up_to_date = false;
            fake_copy(s->offset, sizeof(s->offset), "-1");
            fake_copy(s->handle, sizeof(s->handle), "h2");
        }
    }
    if (offset)
        fake_copy(s->offset, sizeof(s->offset), offset);
    if (!s->handle[0])
        fake_copy(s->handle, sizeof(s->handle), "h1");
    shape_stream_retain(s);
    for (int i = 0; i < 20 && code == COULOMB_E_MEMORY; i++)
        code = s->callbacks.messages(s, &b, s->arg);
    if (code != COULOMB_OK && !s->stopped) {
        s->phase = STREAM_FAILED;
        s->error.code = code;
        fake_copy(s->error.message, sizeof(s->error.message), "the consumer failed");
        s->callbacks.changed(s, s->arg);
    }
    shape_stream_release(s);
    memset(f, 0, sizeof(*f));
    return code;
}

static inline void feed_send(struct feed *f)
{
    assert_int_equal(feed_send_as(f, fake, "5_0", false), COULOMB_OK);
}

/* More of the same answer follows: the offset has not moved. */
static inline void feed_send_part(struct feed *f)
{
    assert_int_equal(feed_send_as(f, fake, NULL, true), COULOMB_OK);
}

/* Some rows of the n-th request (from 0); the rest, the view and the end follow. */
static inline void fake_answer_part(size_t n, struct feed *f)
{
    fake->delivering = fake->requests[n].number;
    feed_send_part(f);
}

static inline void fake_fail(int code, const char *message)
{
    fake->phase = STREAM_FAILED;
    error_set(&fake->error, code, "%s", message);
    fake->callbacks.changed(fake, fake->arg);
}

/* The n-th request (from 0), as the feed's rows with a view and the end. */
static inline void fake_answer(size_t n, struct feed *f, uint64_t xmin, uint64_t xmax,
                               uint64_t lsn)
{
    struct shape_stream *s = fake;
    struct fake_request *r = &s->requests[n];
    struct stream_batch b = {.messages = f->m};

    assert_true(n < s->request_count && r->open);
    r->open = false;
    feed_view(f, xmin, xmax, NULL, 0);
    f->snapshots[f->count - 1].has_lsn = true;
    f->snapshots[f->count - 1].database_lsn = lsn;
    if (r->beside) {
        b.count = f->count;
        r->rows(s, &b, COULOMB_OK, NULL, r->arg);
        memset(f, 0, sizeof(*f));
        return;
    }
    feed_add(f, STREAM_SUBSET_END)->subset = r->number;
    shape_stream_retain(s);
    assert_int_equal(
        feed_send_as(f, s, s->from_now && !s->up_to_date ? "0_inf" : NULL, false),
        COULOMB_OK);
    if (!s->stopped)
        r->done(s, COULOMB_OK, NULL, r->arg);
    shape_stream_release(s);
}

static inline void fake_refuse(size_t n, int code, const char *message)
{
    struct fake_request *r = &fake->requests[n];
    coulomb_error e;
    struct stream_batch none = {0};

    assert_true(n < fake->request_count && r->open);
    r->open = false;
    error_set(&e, code, "%s", message);
    if (r->beside)
        r->rows(fake, &none, code, &e, r->arg);
    else
        r->done(fake, code, &e, r->arg);
}

static inline size_t fake_open_requests(void)
{
    size_t n = 0;

    for (size_t i = 0; i < fake->request_count; i++)
        n += fake->requests[i].open;
    return n;
}

static inline void fake_refreshed(int code)
{
    coulomb_error e = {.code = code};
    struct fake_refresh r = fake->refreshes[fake->refresh_first++ % 32];

    r.done(fake, code, code ? &e : NULL, r.arg);
}

/* --- The collection ------------------------------------------------------------------------------ */

static inline coulomb_electric_options electric_options(struct world *w,
                                                        coulomb_electric_mode mode)
{
    coulomb_electric_options o;

    coulomb_options_init(&o, sizeof(o));
    o.collection = world_options(w);
    o.collection.adapter = NULL;
    o.mode = mode;
    o.url = "http://127.0.0.1:3000/v1/shape";
    o.table = "items";
    return o;
}

static inline int electric_try(struct world *w, const coulomb_electric_options *eo)
{
    coulomb_client_options o;
    int code;

    coulomb_options_init(&o, sizeof(o));
    o.allocator = (coulomb_allocator){world_realloc, world_free, &w->heap};
    o.clock = test_clock;
    o.clock_arg = &w->now_ms;
    o.queued_changes_max = fake_queue_max;
    code = coulomb_client_open(&o, &w->c);
    if (code == COULOMB_OK)
        code = coulomb_electric_collection_open(w->c, eo, &w->coll);
    if (code == COULOMB_OK) {
        for (int i = 0; i < 10 && coulomb_pending(w->c); i++)
            code = coulomb_poll(w->c);
        code = code > 0 ? COULOMB_OK : code;
    }
    return code;
}

static inline struct world *electric_open_with(struct world *w,
                                               const coulomb_electric_options *eo)
{
    w->answer = COULOMB_PENDING;
    w->now_ms = 1000;
    OK(electric_try(w, eo));
    return w;
}

static inline struct world *electric_open(coulomb_electric_mode mode)
{
    struct world *w = calloc(1, sizeof(*w));
    coulomb_electric_options o;

    assert_non_null(w);
    o = electric_options(w, mode);
    electric_open_with(w, &o);
    assert_non_null(fake);
    assert_true(fake->started);
    return w;
}

static inline void electric_close(struct world *w)
{
    world_close(w);
    assert_int_equal(fakes_live, 0);
}

#endif
