/*
 * What subscriptions want loaded. A load asks for what is not there:
 *
 *   new ─covered by what was loaded─▶ there
 *    ├──covered by one that is on its way─▶ shares ─that one's end─▶ there, failed
 *    └──the stream is up to date─▶ refreshing ─answer, 250 ms─▶ asked ─rows─▶ there
 *       otherwise ──────────────────────────────────────────────▶ │  └─▶ failed
 *    there ─must-refetch─▶ new, and holds the commit back until it is there again
 *    asked, half of it there ─must-refetch─▶ to be asked (both halves), and likewise
 *
 * One that nobody wants any more is cancelled when no other shares it. Completions are answered in the
 * load task, when the rows are committed: nothing of the collection is called from inside a batch.
 *
 * Of a progressive collection subsets come beside the stream, each in a sync transaction of its own,
 * until everything is there.
 */

#include <string.h>

#include "client/electric/electric.h"
#include "client/electric/sql.h"

#define REFRESH_BOUND_MS 250
#define LOADED_MAX       1000u /* specs that are remembered */

enum load_phase {
    LOAD_NEW,
    LOAD_SHARES,
    LOAD_REFRESHING,
    LOAD_READY, /* to be asked */
    LOAD_ASKED,
    LOAD_THERE,
    LOAD_FAILED
};

struct load {
    struct list link; /* electric.loads */
    struct electric *e;
    const coulomb_subset
        *subset; /* by which it is known; NULL: nobody wants it any more */
    struct spec *spec;
    coulomb_completion *done; /* NULL: answered */
    enum load_phase phase;
    struct load *leader;  /* whose answer it shares */
    uint64_t numbers[2];  /* of requests, until all are done; 0: none */
    bool arrived[2];      /* its rows and its end came */
    unsigned open;        /* requests that are not done */
    struct sync_tx *rows; /* beside the stream; not listed */
    bool reload;          /* it was there before a refetch, all or half of it */
    coulomb_error error;  /* of a failed one */
};

static struct load *entry(struct list *l)
{
    return LIST_ENTRY(l, struct load, link);
}

static bool is_beside(const struct electric *e)
{
    return e->options.mode == COULOMB_PROGRESSIVE;
}

static bool is_under_way(const struct load *l)
{
    return l->phase == LOAD_REFRESHING || l->phase == LOAD_READY ||
           l->phase == LOAD_ASKED;
}

static bool awaits(const struct load *l, size_t which)
{
    return l->numbers[which] != 0 && !l->arrived[which];
}

/* Its rows have not come yet. */
static bool is_missing(const struct load *l)
{
    if (l->phase == LOAD_SHARES)
        l = l->leader;
    if (l->phase == LOAD_ASKED)
        return awaits(l, 0) || awaits(l, 1);
    return l->phase != LOAD_THERE && l->phase != LOAD_FAILED;
}

/* --- Ends ----------------------------------------------------------------------------------------- */

static void load_free(struct load *l)
{
    struct electric *e = l->e;

    list_remove(&l->link);
    if (l->rows)
        sync_tx_free(e->coll, l->rows);
    spec_release(l->spec);
    heap_free(e->heap, l, sizeof(*l));
}

static void forget_requests(struct load *l)
{
    memset(l->numbers, 0, sizeof(l->numbers));
    memset(l->arrived, 0, sizeof(l->arrived));
    l->open = 0;
}

static void cancel_requests(struct load *l)
{
    for (size_t i = 0; i < 2; i++) {
        if (l->numbers[i] != 0 && l->e->stream)
            electric_cancel(l->e, l->numbers[i]);
    }
    forget_requests(l);
}

/* Rows that match it are in the collection from now on, whoever asks. */
static void remember(struct electric *e, struct load *l)
{
    if (e->loaded_count == LOADED_MAX || !list_empty(&l->spec->link))
        return;
    list_push(&e->loaded, &spec_retain(l->spec)->link);
    e->loaded_count++;
}

static void forget_loaded(struct electric *e)
{
    while (!list_empty(&e->loaded))
        spec_release(LIST_ENTRY(list_pop(&e->loaded), struct spec, link));
    e->loaded_count = 0;
}

/* With those that share it. */
static void load_end(struct load *l, enum load_phase phase, const coulomb_error *error)
{
    struct electric *e = l->e;

    l->phase = phase;
    l->reload = false;
    if (error)
        l->error = *error;
    for (struct list *at = e->loads.next; at != &e->loads; at = at->next) {
        struct load *other = entry(at);

        if (other->phase != LOAD_SHARES || other->leader != l)
            continue;
        other->leader = NULL;
        other->phase = phase;
        other->reload = false;
        if (error)
            other->error = *error;
    }
    task_queue(&e->load_task);
}

static void load_fail(struct load *l, int code, const char *message)
{
    coulomb_error error;

    error_set(&error, code, "%s", message ? message : coulomb_error_text(code));
    cancel_requests(l);
    load_end(l, LOAD_FAILED, &error);
}

/* --- Asking ---------------------------------------------------------------------------------------- */

bool loads_reloading(const struct electric *e)
{
    for (struct list *at = e->loads.next; at != &e->loads; at = at->next) {
        if (entry(at)->reload && is_missing(entry(at)))
            return true;
    }
    return false;
}

/* Everything that a refetch waited for is there, or can't be had. Amid an answer that is for its end. A
 * stream that failed meanwhile brings nothing any more: then the rows of before stay. COULOMB_E_MEMORY. */
static int commit_held(struct electric *e)
{
    if (!e->held_back || e->amid_answer || loads_reloading(e) || electric_error(e))
        return COULOMB_OK;
    return electric_commit(e, e->held_up_to_date, true);
}

/* One of its requests is through. */
static void load_done(struct shape_stream *s, int code, const coulomb_error *error,
                      void *arg)
{
    struct load *l = arg;
    struct electric *e = l->e;

    (void)s;
    l->open--;
    if (code != COULOMB_OK)
        load_fail(l, code, error ? error->message : NULL);
    else if (l->open == 0) {
        forget_requests(l);
        remember(e, l);
        load_end(l, LOAD_THERE, NULL);
    }
    if (commit_held(e) == COULOMB_E_MEMORY)
        task_queue(&e->load_task);
}

static int take_rows(struct load *l, const struct stream_batch *rows)
{
    struct electric *e = l->e;
    int code = COULOMB_OK;

    if (!l->rows)
        l->rows = sync_tx_new(e->coll);
    if (!l->rows)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < rows->count && code == COULOMB_OK; i++) {
        if (rows->messages[i].kind == STREAM_INSERT)
            code = rows_beside(e, l->rows, &rows->messages[i]);
    }
    return code;
}

static void on_rows(struct shape_stream *s, const struct stream_batch *rows, int code,
                    const coulomb_error *error, void *arg)
{
    struct load *l = arg;

    (void)s;
    if (code == COULOMB_OK) {
        code = take_rows(l, rows);
        error = code == COULOMB_OK ? NULL : &l->e->client->error;
    }
    if (code != COULOMB_OK) {
        load_fail(l, code, error ? error->message : NULL);
    } else if (!rows->more && --l->open == 0) {
        forget_requests(l);
        task_queue(&l->e->load_task); /* which commits them */
    }
}

static int request(struct load *l, struct stream_subset *s, size_t which)
{
    struct electric *e = l->e;
    int code =
        is_beside(e)
            ? shape_stream_fetch_subset(e->stream, s, on_rows, l, &l->numbers[which])
            : shape_stream_request_subset(e->stream, s, load_done, l, &l->numbers[which]);

    l->open += code == COULOMB_OK;
    return code;
}

/* Where and order of one request: of all of it, or of one side of its cursor. */
static int make_subset(struct load *l, const struct coulomb_expr *cursor, bool window,
                       struct arena *arena, struct stream_subset *out)
{
    struct electric *e = l->e;
    const struct spec *spec = l->spec;
    const struct coulomb_expr *wheres[2] = {spec->where, cursor};
    struct stream_state st;
    bool exact = true;
    int code;

    memset(out, 0, sizeof(*out));
    shape_stream_state(e->stream, &st);
    code = sql_where(e->coll->layout, wheres, arena, out, &exact);
    if (code == COULOMB_OK)
        code = sql_order(e->coll->layout, spec, e->keys, e->key_count, st.columns,
                         st.column_count, arena, out);
    if (code != COULOMB_OK)
        return client_fail(e->client, code, "%s", coulomb_error_text(code));
    if (!window)
        return COULOMB_OK;
    if (!exact && (spec->limit > 0 || spec->offset > 0))
        return client_fail(e->client, COULOMB_E_COLLECTION_OPERATION,
                           "%s: no server counts rows by a condition inside json or on "
                           "bytes; ask without a limit",
                           e->coll->id);
    out->has_limit = spec->limit > 0;
    out->limit = spec->limit;
    out->offset = spec->offset;
    return COULOMB_OK;
}

/* Its requests. A failure takes back what was sent. */
static int send_requests(struct load *l, struct arena *arena)
{
    const struct spec *spec = l->spec;
    struct stream_subset s;
    int code = make_subset(l, spec->where_from, true, arena, &s);

    if (code == COULOMB_OK)
        code = request(l, &s, 0);
    if (code != COULOMB_OK || !spec->where_current)
        return code;
    /* Rows with the cursor's own value lie on both sides of a page's edge: all of them. */
    code = make_subset(l, spec->where_current, false, arena, &s);
    if (code == COULOMB_OK)
        code = request(l, &s, 1);
    if (code != COULOMB_OK)
        cancel_requests(l);
    return code;
}

static bool any_asked(const struct electric *e)
{
    for (struct list *at = e->loads.next; at != &e->loads; at = at->next) {
        if (entry(at)->phase == LOAD_ASKED)
            return true;
    }
    return false;
}

/* COULOMB_E_MEMORY: later. */
static int load_ask(struct load *l)
{
    struct arena arena;
    int code;

    arena_init_from(&arena, 2 * (size_t)SUBSET_SQL_MAX, &l->e->heap->mem);
    code = send_requests(l, &arena);
    arena_fini(&arena);
    if (code == COULOMB_E_MEMORY)
        return code;
    if (code == COULOMB_E_LIMIT && any_asked(l->e))
        return COULOMB_OK; /* as many as may be are on their way: when one of them ends */
    if (code != COULOMB_OK)
        load_fail(l, code, l->e->client->error.message);
    else
        l->phase = LOAD_ASKED;
    return COULOMB_OK;
}

/* --- What is to be asked ---------------------------------------------------------------------------- */

static struct load *find_leader(struct electric *e, struct load *l)
{
    struct list none;

    list_init(&none);
    for (struct list *at = e->loads.next; at != &e->loads; at = at->next) {
        struct load *other = entry(at);

        if (other != l && is_under_way(other) &&
            spec_covered(&none, other->spec, l->spec, &e->client->scratch))
            return other;
    }
    return NULL;
}

static bool is_up_to_date(const struct electric *e)
{
    struct stream_state st;

    shape_stream_state(e->stream, &st);
    return st.up_to_date;
}

/* The log is brought up to now first, so that it is not far behind the subset's rows. */
static int begin_refresh(struct electric *e)
{
    int code;

    if (e->load_refresh > 0)
        return COULOMB_OK;
    code = electric_refresh(e, &e->load_refresh);
    if (code == COULOMB_OK)
        timer_set(&e->load_timer, timer_after(e->client, REFRESH_BOUND_MS));
    return code;
}

static int load_begin(struct load *l)
{
    struct electric *e = l->e;
    int code;

    if (spec_covered(&e->loaded, NULL, l->spec, &e->client->scratch) ||
        (is_beside(e) && e->loaded_all)) {
        load_end(l, LOAD_THERE, NULL);
        return COULOMB_OK;
    }
    l->leader = find_leader(e, l);
    if (l->leader) {
        l->phase = LOAD_SHARES;
        return COULOMB_OK;
    }
    if (is_beside(e) || l->reload || !is_up_to_date(e))
        return load_ask(l);
    code = begin_refresh(e);
    if (code != COULOMB_OK && code != COULOMB_E_MEMORY)
        return load_ask(l);
    if (code == COULOMB_OK)
        l->phase = LOAD_REFRESHING;
    return code;
}

/* Those that waited for the refresh ask, whatever became of it. */
static void end_refresh(struct electric *e)
{
    e->load_refresh = 0;
    timer_cancel(&e->load_timer);
    for (struct list *at = e->loads.next; at != &e->loads; at = at->next) {
        if (entry(at)->phase == LOAD_REFRESHING)
            entry(at)->phase = LOAD_READY;
    }
    task_queue(&e->load_task);
}

void load_timer_fired(struct timer *t)
{
    end_refresh(LIST_ENTRY(t, struct electric, load_timer));
}

void loads_refreshed(struct electric *e)
{
    if (e->load_refresh > 0 && e->refreshes_done >= e->load_refresh)
        end_refresh(e);
}

/* The rows of a load beside the stream; those that come after everything was there are dropped. */
static int commit_rows(struct load *l)
{
    struct electric *e = l->e;
    int code;

    if (l->rows && !e->loaded_all) {
        if (list_empty(&l->rows->link))
            sync_tx_list(e->coll, l->rows);
        code = sync_tx_commit(e->coll, l->rows);
        if (code == COULOMB_E_LIMIT && e->client->queued_changes > 0)
            code = COULOMB_E_MEMORY;
        if (code == COULOMB_E_MEMORY)
            return code;
        if (code == COULOMB_OK) {
            l->rows = NULL; /* the collection's */
        } else {
            load_fail(l, code, e->client->error.message);
            return COULOMB_OK;
        }
    }
    remember(e, l);
    load_end(l, LOAD_THERE, NULL);
    return COULOMB_OK;
}

static int load_step(struct load *l)
{
    if (l->phase == LOAD_NEW)
        return load_begin(l);
    if (l->phase == LOAD_READY)
        return load_ask(l);
    if (l->phase == LOAD_ASKED && is_beside(l->e) && l->open == 0)
        return commit_rows(l);
    return COULOMB_OK;
}

/* Answers one that can be; false: there is none. */
static bool answer_one(struct electric *e)
{
    for (struct list *at = e->loads.next; at != &e->loads; at = at->next) {
        struct load *l = entry(at);
        coulomb_completion *done = l->done;
        bool failed = l->phase == LOAD_FAILED;
        coulomb_error error = l->error;

        if (!failed && (l->phase != LOAD_THERE || e->held_back))
            continue;
        if (!done && l->subset)
            continue;
        l->done = NULL;
        if (!l->subset || failed)
            load_free(l);
        if (done)
            coulomb_complete(done, failed ? error.code : COULOMB_OK,
                             failed ? error.message : NULL);
        return true;
    }
    return false;
}

int load_task_run(struct task *t)
{
    struct electric *e = LIST_ENTRY(t, struct electric, load_task);
    struct coulomb_collection *coll = e->coll;
    int code = COULOMB_OK;

    if (!e->stream)
        return COULOMB_OK;
    for (struct list *at = e->loads.next; at != &e->loads && code == COULOMB_OK;
         at = at->next)
        code = load_step(entry(at));
    if (code != COULOMB_OK)
        return COULOMB_E_MEMORY;
    if (commit_held(e) == COULOMB_E_MEMORY)
        return COULOMB_E_MEMORY;
    collection_hold(coll);
    while (answer_one(e)) {
    }
    collection_drop(coll);
    return COULOMB_OK;
}

/* --- The adapter's functions ------------------------------------------------------------------------- */

static int load_new(struct electric *e, const coulomb_subset *subset, struct load **out)
{
    struct load *l = heap_zalloc(e->heap, sizeof(*l));
    int code;

    if (!l)
        return client_no_memory(e->client);
    l->e = e;
    l->subset = subset;
    list_init(&l->link);
    code = spec_new(e->coll, subset, &l->spec);
    if (code != COULOMB_OK) {
        heap_free(e->heap, l, sizeof(*l));
        return code;
    }
    *out = l;
    return COULOMB_OK;
}

static struct load *find_load(struct electric *e, const coulomb_subset *subset)
{
    for (struct list *at = e->loads.next; at != &e->loads; at = at->next) {
        if (entry(at)->subset == subset)
            return entry(at);
    }
    return NULL;
}

int load_subset(coulomb_sync *sync, const coulomb_subset *subset,
                coulomb_completion *done, void *arg)
{
    struct electric *e = arg;
    struct load *l = find_load(e, subset);
    int code;

    (void)sync;
    if (is_beside(e) && e->loaded_all)
        return COULOMB_OK;
    if (l && l->phase == LOAD_THERE && !e->held_back)
        return COULOMB_OK; /* asked again after a truncate that brought it along */
    if (l) {
        /* It is on its way still. */
        coulomb_completion *before = l->done;

        l->done = done;
        if (before)
            coulomb_complete(before, COULOMB_E_STREAM_STOPPED, NULL);
        return COULOMB_PENDING;
    }
    code = load_new(e, subset, &l);
    if (code != COULOMB_OK)
        return code;
    list_push(&e->loads, &l->link);
    if (!e->held_back && spec_covered(&e->loaded, NULL, l->spec, &e->client->scratch)) {
        l->phase = LOAD_THERE;
        return COULOMB_OK;
    }
    l->done = done;
    task_queue(&e->load_task);
    return COULOMB_PENDING;
}

static bool is_shared(const struct electric *e, const struct load *l)
{
    for (struct list *at = e->loads.next; at != &e->loads; at = at->next) {
        if (entry(at)->phase == LOAD_SHARES && entry(at)->leader == l)
            return true;
    }
    return false;
}

void unload_subset(coulomb_sync *sync, const coulomb_subset *subset, void *arg)
{
    struct electric *e = arg;
    struct load *l = find_load(e, subset);

    (void)sync;
    if (!l)
        return;
    l->subset = NULL;
    if (!is_shared(e, l) && l->phase != LOAD_THERE && l->phase != LOAD_FAILED)
        load_fail(l, COULOMB_E_STREAM_STOPPED, NULL);
    task_queue(&e->load_task); /* which answers and frees it */
}

/* --- Refetches and ends ------------------------------------------------------------------------------- */

void load_arrived(struct electric *e, uint64_t number)
{
    for (struct list *at = e->loads.next; at != &e->loads; at = at->next) {
        struct load *l = entry(at);

        for (size_t i = 0; i < 2; i++)
            l->arrived[i] = l->arrived[i] || l->numbers[i] == number;
    }
}

void loads_refetch(struct electric *e)
{
    forget_loaded(e);
    for (struct list *at = e->loads.next; at != &e->loads; at = at->next) {
        struct load *l = entry(at);

        if (is_beside(e))
            continue;
        if (l->phase == LOAD_THERE && l->subset) {
            l->phase = LOAD_NEW;
            l->reload = true;
        } else if (l->phase == LOAD_ASKED && (l->arrived[0] || l->arrived[1])) {
            /* One half of a page is gone, and the stream asks for the other one only. */
            cancel_requests(l);
            l->phase = LOAD_READY;
            l->reload = true;
        }
    }
    task_queue(&e->load_task);
}

static bool spec_wants(struct electric *e, const struct spec *s,
                       const struct coulomb_row *row)
{
    coulomb_meta meta = {.synced = 1};
    int is = s->where ? expr_eval(s->where, row, meta, &e->client->scratch) : 1;

    return is == 1 || is == COULOMB_E_MEMORY; /* who knows */
}

bool loads_want(struct electric *e, const struct coulomb_row *row)
{
    for (struct list *l = e->loaded.next; l != &e->loaded; l = l->next) {
        if (spec_wants(e, LIST_ENTRY(l, struct spec, link), row))
            return true;
    }
    for (struct list *l = e->loads.next; l != &e->loads; l = l->next) {
        if (spec_wants(e, entry(l)->spec, row))
            return true;
    }
    return false;
}

void loads_stop(struct electric *e)
{
    task_cancel(&e->load_task);
    timer_cancel(&e->load_timer);
    while (!list_empty(&e->loads)) {
        struct load *l = entry(e->loads.next);
        coulomb_completion *done = l->done;

        cancel_requests(l);
        load_free(l);
        if (done)
            coulomb_complete(done, COULOMB_E_STREAM_STOPPED, NULL);
    }
    forget_loaded(e);
}
