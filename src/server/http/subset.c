/* A subset of a shape's rows (shape-protocol.md 1.7, 4.8): the query that is made of the request's
 * clauses, and its answer.
 *
 *   prepare ──▶ (the shape is found, its snapshot has begun) ──▶ begin: a job of the pool
 *
 *   job's thread:   view ──▶ part ──▶ part ──▶ … ──▶ over
 *                             │  at most WINDOW_BYTES are with the loop or on their way
 *   loop's thread:            └─▶ head, put, flush, …, end
 *
 * Both sides hold the subset; so does each part, until the kernel has taken it. Nothing is sent
 * before the first part is there: most answers are smaller than one, and so come whole or as an
 * error with its status. A job that waits for its client holds a connection to Postgres, and a
 * snapshot that keeps vacuum from its work: altogether it waits subset_wait_ms, then the answer is
 * broken off.
 *
 * Which offset the client is told: it goes on in the log behind it, and drops what the view has.
 * So it must be a position that the client has reached, or entries would be lost to it, and that
 * was published before the view was taken and is wholly in it (shapes_sees_passed), or the client
 * would go back behind what it has: the offset that it came with. For `now` that is the end of the
 * log as it was before. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "server/http/stage.h"
#include "server/http/subset_params.h"
#include "server/pg/pool.h"
#include "server/snapshot/subset.h"

#define WINDOW_BYTES  HTTP_STREAM_BUDGET_BYTES
#define WAIT_SLICE_MS 50
#define SQL_MAX_BYTES (4u * 1024 * 1024)

struct subset {
    atomic_uint
        refs; /* the request's or its job's, one of the posted task, one of each part */
    struct http_loop *loop;
    struct shape_request *request; /* the loop's; NULL: it has ended */
    struct shape *shape;           /* retained, from begin on */
    char *where;                   /* both clauses, canonical; "": every row */
    char *order_by;
    struct snapshot_window window;
    uint32_t mark;
    struct offset offset; /* told to the client */
    bool live;            /* asked for: the head then tells no schema */
    bool opened;          /* the loop's: the head was sent */
    struct evloop_task task;

    atomic_bool cancelled;
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t taken;
    struct list parts; /* for the loop to take */
    size_t held_bytes; /* of parts that the kernel has not taken */
    bool told;         /* the task is on its way */
    bool over;         /* with err.code, or all parts are there */
    struct err err;
};

struct part {
    struct list link;
    struct subset *subset;
    char *bytes;
    size_t len;
};

/* --- Life --- */

static struct subset *subset_new(struct shape_request *r)
{
    struct subset *s = calloc(1, sizeof *s);
    pthread_condattr_t monotonic;

    if (!s)
        return NULL;
    atomic_init(&s->refs, 1);
    s->loop = r->loop;
    s->request = r;
    list_init(&s->parts);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->taken, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return s;
}

static void part_free(struct part *part)
{
    free(part->bytes);
    free(part);
}

static void unref(struct subset *s)
{
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    if (s->shape)
        shape_release(s->shape);
    free(s->where);
    free(s->order_by);
    pthread_cond_destroy(&s->taken);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void ref(struct subset *s)
{
    atomic_fetch_add(&s->refs, 1);
}

void subset_leave(struct shape_request *r)
{
    struct subset *s = r->subset;

    if (!s)
        return;
    r->subset = NULL;
    s->request = NULL;
    atomic_store(&s->cancelled, true);
    pthread_mutex_lock(&s->lock);
    pthread_cond_signal(&s->taken);
    pthread_mutex_unlock(&s->lock);
    unref(s);
}

/* --- The query --- */

static char *printed(struct buf *text)
{
    buf_putc(text, '\0');
    return buf_take(text, NULL);
}

/* NULL: every row. ERR_INVALID: what an earlier version printed, and this one doesn't read. */
static int clause_of_shape(struct shape_request *r, const struct sql_expr **out)
{
    *out = r->where ? r->where->expr : NULL;
    if (r->where || r->params->where.len == 0)
        return 0;
    return sql_where_reparse(shape_definition(r->handle_shape)->where,
                             table_sql(r->table), &r->arena, out, NULL);
}

/* The shape's clause and the subset's: both hold. */
static int make_where(struct shape_request *r, const struct sql_expr *own,
                      struct param_errors *errors)
{
    const struct sql_expr *expr;
    struct err err = {0};
    struct buf text;
    int rc = clause_of_shape(r, &expr);

    if (rc == 0 && expr && own)
        rc = sql_expr_and(expr, own, &r->arena, &expr, &err);
    else if (own)
        expr = own;
    if (rc == ERR_INVALID && err.code != 0) /* too complex, both together */
        return subset_params_refuse("where", &err, &r->arena, errors);
    if (rc != 0)
        return rc == ERR_RETRY ? rc : ERR_MEMORY;
    buf_init(&text, SQL_MAX_BYTES);
    if (expr)
        sql_expr_print(expr, table_sql(r->table), &text);
    r->subset->where = printed(&text);
    return r->subset->where ? 0 : ERR_MEMORY;
}

static int make_window(struct shape_request *r, const struct sql_order *order)
{
    const struct subset_params *p = r->params->subset;
    struct subset *s = r->subset;
    struct buf text;

    buf_init(&text, SQL_MAX_BYTES);
    sql_order_print(order, table_sql(r->table), &text);
    s->order_by = printed(&text);
    if (!s->order_by)
        return ERR_MEMORY;
    s->window = (struct snapshot_window){.order_by = slice_of(s->order_by),
                                         .has_limit = p->has_limit,
                                         .limit = p->limit,
                                         .offset = p->offset};
    return 0;
}

int subset_prepare(struct shape_request *r, struct param_errors *errors)
{
    struct subset_clauses clauses;
    int rc;

    if (!r->params->subset || r->subset)
        return 0;
    rc = subset_params_resolve(r->params, r->table, &r->selection, &r->arena, &clauses,
                               errors);
    if (rc != 0)
        return rc;
    r->subset = subset_new(r);
    if (r->subset)
        r->subset->live = r->params->live;
    rc = r->subset ? make_where(r, clauses.where, errors) : ERR_MEMORY;
    if (rc == 0)
        rc = make_window(r, &clauses.order);
    if (rc != 0)
        subset_leave(r);
    return rc;
}

/* --- The job's side --- */

struct job {
    struct subset *subset;
    int64_t waited_ms; /* for the client */
};

/* Under the lock, once: has the loop look. */
static bool claim_task(struct subset *s)
{
    bool mine = !s->told;

    s->told = true;
    return mine;
}

static void release_part(void *arg)
{
    struct part *part = arg;
    struct subset *s = part->subset;

    pthread_mutex_lock(&s->lock);
    s->held_bytes -= part->len;
    pthread_cond_signal(&s->taken);
    pthread_mutex_unlock(&s->lock);
    part_free(part);
    unref(s);
}

static void release_parts(struct list *parts)
{
    while (!list_empty(parts))
        release_part(LIST_ENTRY(list_pop(parts), struct part, link));
}

/* Under the lock. */
static void take_parts(struct subset *s, struct list *parts)
{
    list_init(parts);
    s->told = false;
    while (!list_empty(&s->parts))
        list_push(parts, list_pop(&s->parts));
}

/* Takes a reference. */
static void post(struct subset *s)
{
    struct list parts;

    if (evloop_post(s->loop->ev, &s->task) == 0)
        return;
    /* The loop has ended, and with it the connection. */
    atomic_store(&s->cancelled, true);
    pthread_mutex_lock(&s->lock);
    take_parts(s, &parts);
    pthread_mutex_unlock(&s->lock);
    release_parts(&parts);
    unref(s);
}

static bool on_cancelled(void *ctx)
{
    const struct job *job = ctx;

    return atomic_load(&job->subset->cancelled);
}

static int on_seen(void *ctx, const struct snapshot_view *view, struct err *err)
{
    const struct job *job = ctx;

    return shapes_sees_passed(job->subset->loop->http->config.shapes, view, err);
}

/* Under the lock: until the client has taken enough. */
static int await_room(struct job *job, struct err *err)
{
    struct subset *s = job->subset;
    int64_t most_ms = s->loop->http->config.subset_wait_ms;
    int64_t since = clock_mono_ms();

    while (s->held_bytes >= WINDOW_BYTES && !atomic_load(&s->cancelled)) {
        struct timespec until;

        if (job->waited_ms + clock_mono_ms() - since >= most_ms)
            return err_set(err, ERR_LIMIT,
                           "the client took the subset so slowly that a connection to "
                           "Postgres waited %lld ms for it; a lower limit would help",
                           (long long)most_ms);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WAIT_SLICE_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&s->taken, &s->lock, &until);
    }
    job->waited_ms += clock_mono_ms() - since;
    return 0;
}

static int on_part(void *ctx, char *bytes, size_t len, bool last, struct err *err)
{
    struct job *job = ctx;
    struct subset *s = job->subset;
    struct part *part = malloc(sizeof *part);
    int rc = 0;
    bool mine = false;

    if (!part) {
        free(bytes);
        return err_set(err, ERR_MEMORY, "out of memory for the rows of a subset");
    }
    *part = (struct part){.subset = s, .bytes = bytes, .len = len};
    pthread_mutex_lock(&s->lock);
    if (!last)
        rc = await_room(job, err);
    if (rc == 0) {
        ref(s);
        list_push(&s->parts, &part->link);
        s->held_bytes += len;
        s->over = last;
        mine = claim_task(s);
    }
    pthread_mutex_unlock(&s->lock);
    if (rc != 0)
        part_free(part);
    if (mine) {
        ref(s);
        post(s);
    }
    return rc;
}

static int query(struct job *job, PGconn *conn, struct err *err)
{
    struct subset *s = job->subset;
    const struct http_config *config = &s->loop->http->config;
    const struct shape_def *def = shape_definition(s->shape);
    const struct subset_query q = {
        .table = def->table,
        .plan = def->plan,
        .selected = def->selected,
        .selected_count = def->selected_count,
        .where = slice_of(s->where),
        .window = s->window,
        .mark = s->mark,
        .first_row_timeout_ms = config->first_row_timeout_ms,
        .obs = config->obs,
    };
    const struct subset_sink sink = {
        .ctx = job, .seen = on_seen, .part = on_part, .cancelled = on_cancelled};

    return subset_run(conn, &q, &sink, err);
}

static void run_job(void *ctx, PGconn *conn, const struct err *why)
{
    struct job *job = ctx;
    struct subset *s = job->subset;
    struct err err = {0};
    bool mine = false;
    int rc;

    if (!conn) {
        err = *why;
        rc = why->code;
    } else if (on_cancelled(job)) {
        rc = err_set(&err, ERR_CANCELLED, "the client has left");
    } else {
        rc = query(job, conn, &err);
    }
    if (rc != 0) {
        pthread_mutex_lock(&s->lock);
        s->err = err;
        s->err.code = rc;
        s->over = true;
        mine = claim_task(s);
        pthread_mutex_unlock(&s->lock);
    }
    if (mine)
        post(s);
    else
        unref(s);
    free(job);
}

/* --- The loop's side --- */

/* The query names what isn't there any more: a schema, a table, a column, a type. */
static bool table_changed(const struct err *err)
{
    return strcmp(err->sqlstate, "3F000") == 0 || strcmp(err->sqlstate, "42P01") == 0 ||
           strcmp(err->sqlstate, "42703") == 0 || strcmp(err->sqlstate, "42704") == 0;
}

/* Nothing was sent yet. */
static void reply_error(struct shape_request *r, const struct err *err)
{
    bool refused = err->http_status == 400;
    /* A type that has no order; without a list, a function of the clause that isn't there. */
    bool ordering = strcmp(err->sqlstate, "42883") == 0 && *r->subset->order_by;
    struct param_errors errors = {.count = 0};

    if (refused && subset_params_refuse(ordering ? "order_by" : "where", err, &r->arena,
                                        &errors) == ERR_INVALID) {
        errors.items[0].bare = true;
        shape_request_invalid(r, &errors);
    } else if (err->code == ERR_CANCELLED) {
        shape_request_message(r, OBS_REFUSED_NOT_READY, 503,
                              "Timeout waiting for stack restart", HTTP_RETRY_NOT_READY_S,
                              false);
    } else if (err->http_status == 503 || err->http_status == 409) {
        /* That the table changed will end the shape, and then be a 409: of another handle. */
        if (table_changed(err))
            shapes_suspect(r->loop->http->config.shapes);
        shape_request_message(r, OBS_REFUSED_SNAPSHOT_ERROR, 503, err->message,
                              HTTP_RETRY_SNAPSHOT_S, true);
    } else {
        log_event(r->loop->http->config.log, LOG_ERROR, "subset.failed",
                  LOG_TEXT("handle", shape_handle(r->shape)),
                  LOG_TEXT("reason", err->message));
        shape_request_internal(r);
    }
}

static void reply_unreachable(struct shape_request *r)
{
    static const char body[] =
        "{\"code\":\"database_unreachable\",\"error\":\"Database is unreachable\"}";

    shape_request_error(r, OBS_REFUSED_NOT_READY,
                        &(struct respond_error){.status = 503,
                                                .body = SLICE_LIT(body),
                                                .retry_after_s = HTTP_RETRY_SNAPSHOT_S});
}

static void open_answer(struct subset *s)
{
    struct shape_request *r = s->request;

    s->opened = true;
    shape_request_enter(r, REQUEST_SUBSET_STREAMING);
    respond_subset_headers(r->req, shape_handle(s->shape),
                           s->live ? NULL : shape_schema(s->shape), s->offset);
    evreq_start(r->req, 200);
}

/* What the job has done since the last look. The request may have ended behind any call that
 * sends. */
static void advance(struct subset *s, struct list *parts, bool over)
{
    struct shape_request *r = s->request;

    if (!s->opened && shape_state(s->shape) == SHAPE_GONE) {
        serve_gone(r);
        return;
    }
    if (!s->opened)
        open_answer(s);
    while (!list_empty(parts)) {
        struct part *part = LIST_ENTRY(list_pop(parts), struct part, link);

        evreq_put_ref(r->req, slice_make(part->bytes, part->len), release_part, part);
    }
    if (over) {
        shape_request_enter(r, REQUEST_ANSWERED);
        evreq_end(r->req);
    } else {
        evreq_flush(r->req, NULL, NULL);
    }
}

static void fail(struct subset *s, const struct err *err)
{
    struct shape_request *r = s->request;

    if (s->opened) {
        log_event(s->loop->http->config.log, LOG_WARNING, "subset.broken_off",
                  LOG_TEXT("handle", shape_handle(s->shape)),
                  LOG_TEXT("reason", err->message));
        evreq_abort(r->req);
    } else if (shape_state(s->shape) == SHAPE_GONE) {
        serve_gone(r);
    } else if (err->http_status == 0 && err->sqlstate[0] == '\0' &&
               (err->code == ERR_RETRY || err->code == ERR_FATAL)) {
        reply_unreachable(r);
    } else {
        reply_error(r, err);
    }
}

static void run_task(struct evloop_task *task)
{
    struct subset *s = LIST_ENTRY(task, struct subset, task);
    struct list parts;
    struct err err;

    pthread_mutex_lock(&s->lock);
    take_parts(s, &parts);
    bool over = s->over;
    err = s->err;
    pthread_mutex_unlock(&s->lock);
    if (s->request && err.code != 0)
        fail(s, &err);
    else if (s->request)
        advance(s, &parts, over);
    release_parts(&parts);
    unref(s);
}

/* --- From the request --- */

static struct offset offset_for(const struct shape_request *r,
                                const struct shapelog_extent *extent)
{
    if (r->offset_kind == OFFSET_KIND_NOW)
        return extent->latest;
    if (r->after.before_all)
        return (struct offset){.tx = 0, .op = 0};
    /* A position that was never there. */
    if (offset_cmp(extent->latest, r->after) < 0)
        return extent->latest;
    return r->after;
}

static void submit(struct shape_request *r)
{
    struct subset *s = r->subset;
    struct job *job = malloc(sizeof *job);
    int rc = job ? 0 : ERR_MEMORY;

    if (job) {
        *job = (struct job){.subset = s};
        ref(s);
        rc = pool_submit_aside(r->loop->http->config.snapshot_pool, run_job, job);
    }
    if (rc == 0)
        return;
    if (job)
        unref(s);
    free(job);
    if (rc == ERR_LIMIT)
        shape_request_message(
            r, OBS_REFUSED_SNAPSHOT_ERROR, 503,
            "Snapshot creation failed because of a connection pool queue timeout",
            HTTP_RETRY_SNAPSHOT_S, true);
    else
        shape_request_internal(r);
}

void subset_begin(struct shape_request *r, const struct shapelog_extent *extent)
{
    struct subset *s = r->subset;

    s->shape = shape_retain(r->shape);
    s->offset = offset_for(r, extent);
    s->mark = (uint32_t)(http_loop_random(r->loop) & SUBSET_MARK_MAX);
    s->task.run = run_task;
    shape_request_enter(r, REQUEST_SUBSET);
    if (evreq_method(r->req) == EVREQ_HEAD) {
        open_answer(s);
        shape_request_enter(r, REQUEST_ANSWERED);
        evreq_end(r->req);
    } else {
        submit(r);
    }
}
