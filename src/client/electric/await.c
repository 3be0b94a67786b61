/*
 * Those who wait for what they wrote to come back: for transactions, for a position of the
 * database's log, for a message. All are settled at commit points, and told in the next poll by a task of their
 * own, when the rows have been applied (or wait for the very transaction whose handler waits).
 *
 * A position is asked for: the server tells how far it has read with every answer, but answers when
 * something of the shape changes, or after a while. So while somebody waits for one the stream is
 * refreshed, first after a moment in which the transaction itself mostly comes, then more and more
 * seldom.
 */

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/electric/electric.h"

#define TXID_TIMEOUT_MS  5000
#define MATCH_TIMEOUT_MS 3000
#define ASK_FIRST_MS     100
#define ASK_MAX_MS       2000
#define TXIDS_MAX        10000u

enum txid_state { TXID_AWAITED, TXID_STAGED, TXID_SEEN };

struct waiter {
    struct registration reg; /* electric.waiters */
    struct electric *e;
    coulomb_await_fn fn; /* or */
    void *arg;
    coulomb_completion *done;
    uint64_t *txids;
    unsigned char *states; /* enum txid_state */
    size_t count;
    uint64_t lsn; /* 0: none */
    coulomb_match_fn match;
    void *match_arg;
    bool matched; /* by a message that is not committed yet */
    bool settled;
    coulomb_error error;
    struct timer timer;
    struct task task;
};

/* Somebody who asked for a refresh. */
struct ask {
    struct registration reg; /* electric.asks */
    struct electric *e;
    coulomb_await_fn fn;
    void *arg;
    uint64_t number;
    bool settled;
    coulomb_error error;
    struct task task;
};

static struct waiter *entry(struct list *l)
{
    return LIST_ENTRY(l, struct waiter, reg.link);
}

/* --- Ends ----------------------------------------------------------------------------------------- */

static void waiter_free(struct waiter *w)
{
    struct heap *h = w->e->heap;

    timer_cancel(&w->timer);
    task_cancel(&w->task);
    heap_free(h, w->txids, w->count * sizeof(*w->txids));
    heap_free(h, w->states, w->count);
    heap_free(h, w, sizeof(*w));
}

static void waiter_drop(struct registration *r)
{
    struct waiter *w = LIST_ENTRY(r, struct waiter, reg);

    registration_remove(w->e->client, r);
    waiter_free(w);
}

static void settle(struct waiter *w, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void settle(struct waiter *w, int code, const char *format, ...)
{
    va_list args;

    if (w->settled)
        return;
    w->settled = true;
    w->error = (coulomb_error){.code = code};
    va_start(args, format);
    if (vsnprintf(w->error.message, sizeof(w->error.message), format, args) < 0)
        w->error.message[0] = '\0';
    va_end(args);
    timer_cancel(&w->timer);
    task_queue(&w->task);
}

static int tell_waiter(struct task *t)
{
    struct waiter *w = LIST_ENTRY(t, struct waiter, task);
    struct coulomb_collection *coll = w->e->coll;
    coulomb_completion *done = w->done;
    coulomb_await_fn fn = w->fn;
    void *arg = w->arg;
    coulomb_error error = w->error;

    collection_hold(coll);
    waiter_drop(&w->reg);
    if (done)
        coulomb_complete(done, error.code, error.message);
    if (done && error.code == COULOMB_OK)
        sync_passed(coll);
    if (!done)
        fn(coll, &error, arg);
    collection_drop(coll);
    return COULOMB_OK;
}

static void timed_out(struct timer *t)
{
    struct waiter *w = LIST_ENTRY(t, struct waiter, timer);

    if (w->match)
        settle(w, COULOMB_E_MATCH_TIMEOUT, "no message of %s matched in time",
               w->e->coll->id);
    else if (w->count > 0)
        settle(w, COULOMB_E_TXID_TIMEOUT,
               "transaction %llu did not come back to %s in time",
               (unsigned long long)w->txids[0], w->e->coll->id);
    else
        settle(w, COULOMB_E_TXID_TIMEOUT, "%s did not reach %llu in time", w->e->coll->id,
               (unsigned long long)w->lsn);
}

/* --- Whether to ask the server -------------------------------------------------------------------------- */

/* Whether an answer of the server may end the wait: a position, or a transaction that a subset's
 * view shows, which counts when the log is past that. */
static bool asks(const struct waiter *w)
{
    bool held = w->lsn != 0;

    for (size_t i = 0; i < w->count && !held; i++)
        held = w->states[i] != TXID_SEEN && seen_is_held(&w->e->seen, w->txids[i]);
    return held && !w->settled;
}

static bool anybody_asks(const struct electric *e)
{
    for (struct list *l = e->waiters.next; l != &e->waiters; l = l->next) {
        if (asks(entry(l)))
            return true;
    }
    return false;
}

/* Within ASK_FIRST_MS, however many come to wait meanwhile. */
static void ask_soon(struct electric *e)
{
    if (timer_is_set(&e->ask_timer) && e->ask_wait_ms == ASK_FIRST_MS)
        return;
    e->ask_wait_ms = ASK_FIRST_MS;
    timer_set(&e->ask_timer, timer_after(e->client, e->ask_wait_ms));
}

/* --- Commit points ----------------------------------------------------------------------------------- */

static bool reached(const struct electric *e, uint64_t lsn)
{
    return lsn != 0 && e->lsn >= lsn;
}

static bool all_seen(struct waiter *w)
{
    bool all = w->count > 0;

    for (size_t i = 0; i < w->count; i++) {
        if (w->states[i] != TXID_SEEN && seen_has(&w->e->seen, w->txids[i]))
            w->states[i] = TXID_SEEN;
        all = all && w->states[i] == TXID_SEEN;
    }
    return all;
}

static void look(struct waiter *w)
{
    if (!w->settled && (w->match ? w->matched : reached(w->e, w->lsn) || all_seen(w)))
        settle(w, COULOMB_OK, "%s", "");
}

int await_reserve(struct electric *e)
{
    return seen_reserve(&e->seen) == COULOMB_OK ? COULOMB_OK
                                                : client_no_memory(e->client);
}

void await_committed(struct electric *e)
{
    seen_commit(&e->seen, e->lsn);
    e->ring.fresh = 0;
    for (struct list *l = e->waiters.next; l != &e->waiters; l = l->next) {
        struct waiter *w = entry(l);

        for (size_t i = 0; i < w->count; i++) {
            if (w->states[i] == TXID_STAGED)
                w->states[i] = TXID_SEEN;
        }
        look(w);
    }
    if (!timer_is_set(&e->ask_timer) && anybody_asks(e))
        ask_soon(e);
}

/* --- Messages ------------------------------------------------------------------------------------------ */

static void kept_fini(struct electric *e, struct kept_message *k)
{
    row_release(k->row);
    heap_free(e->heap, k->txids, k->txid_count * sizeof(*k->txids));
    memset(k, 0, sizeof(*k));
}

void await_forget(struct electric *e)
{
    struct ring *r = &e->ring;

    for (size_t i = 0; i < r->count; i++)
        kept_fini(e, &r->items[(r->first + i) % RING_MAX]);
    heap_free(e->heap, r->items, RING_MAX * sizeof(*r->items));
    memset(r, 0, sizeof(*r));
}

static coulomb_electric_message_type type_of(enum stream_kind kind)
{
    switch (kind) {
    case STREAM_INSERT:
        return COULOMB_MESSAGE_INSERT;
    case STREAM_UPDATE:
        return COULOMB_MESSAGE_UPDATE;
    case STREAM_MOVE_IN:
        return COULOMB_MESSAGE_MOVE_IN;
    case STREAM_MOVE_OUT:
        return COULOMB_MESSAGE_MOVE_OUT;
    case STREAM_DELETE:
    case STREAM_UP_TO_DATE:
    case STREAM_SNAPSHOT_END:
    case STREAM_SUBSET_END:
    case STREAM_MUST_REFETCH:
        break;
    }
    return COULOMB_MESSAGE_DELETE;
}

static int keep_message(struct electric *e, const struct stream_message *m,
                        struct coulomb_row *row)
{
    const struct stream_headers *h = m->headers;
    struct ring *r = &e->ring;
    struct kept_message fresh = {.type = type_of(m->kind)};

    if (!r->items)
        r->items = heap_zalloc(e->heap, RING_MAX * sizeof(*r->items));
    if (!r->items)
        return client_no_memory(e->client);
    if (h->txid_count > 0) {
        fresh.txids = heap_alloc(e->heap, h->txid_count * sizeof(*fresh.txids));
        if (!fresh.txids)
            return client_no_memory(e->client);
        memcpy(fresh.txids, h->txids, h->txid_count * sizeof(*fresh.txids));
        fresh.txid_count = h->txid_count;
    }
    fresh.row = row_retain(row);
    if (r->count == RING_MAX) {
        kept_fini(e, &r->items[r->first]);
        r->first = (r->first + 1) % RING_MAX;
        r->count--;
    }
    r->items[(r->first + r->count++) % RING_MAX] = fresh;
    if (r->fresh < r->count)
        r->fresh++;
    return COULOMB_OK;
}

/* Whether the waiter's function takes the message; it may end the waiting. */
static void try_match(struct waiter *w, const coulomb_electric_message *m)
{
    coulomb_client *c = w->e->client;
    int answer;

    c->locked++;
    answer = w->match(m, w->match_arg);
    c->locked--;
    if (answer < 0)
        settle(w, answer, "the match function: %s",
               coulomb_error_text(answer) ? coulomb_error_text(answer)
                                          : "a code of its own");
    else
        w->matched = answer > 0;
}

/* As a match function sees it: the values lie in electric.match_values. */
static coulomb_electric_message message_of(struct electric *e,
                                           coulomb_electric_message_type type,
                                           const struct coulomb_row *row,
                                           const uint64_t *txids, size_t txid_count)
{
    coulomb_electric_message m = {.type = type, .txids = txids, .txid_count = txid_count};

    if (!row)
        return m;
    m.key = row_key(row);
    m.value_count = e->coll->layout->count;
    for (size_t i = 0; i < m.value_count; i++)
        e->match_values[i] = row_at(row, i);
    m.values = e->match_values;
    return m;
}

static void show_waiters(struct electric *e, const struct stream_message *m,
                         const struct coulomb_row *row)
{
    const struct stream_headers *h = m->headers;
    coulomb_electric_message told;
    bool made = false;

    for (struct list *l = e->waiters.next; l != &e->waiters; l = l->next) {
        struct waiter *w = entry(l);

        for (size_t i = 0; i < w->count; i++) {
            for (size_t t = 0; t < h->txid_count; t++) {
                if (w->states[i] == TXID_AWAITED &&
                    (uint32_t)w->txids[i] == (uint32_t)h->txids[t])
                    w->states[i] = TXID_STAGED;
            }
        }
        if (!w->match || w->matched || w->settled)
            continue;
        if (!made)
            told = message_of(e, type_of(m->kind), row, h->txids, h->txid_count);
        made = true;
        try_match(w, &told);
    }
}

int await_message(struct electric *e, const struct stream_message *m,
                  struct coulomb_row *row, bool keep)
{
    int code = seen_stage(&e->seen, m->headers->txids, m->headers->txid_count);

    if (code != COULOMB_OK)
        return client_no_memory(e->client);
    if (keep)
        code = keep_message(e, m, row);
    if (code == COULOMB_OK && !list_empty(&e->waiters))
        show_waiters(e, m, row);
    return code;
}

/* --- Asking the server ------------------------------------------------------------------------------------ */

void ask_timer_fired(struct timer *t)
{
    struct electric *e = LIST_ENTRY(t, struct electric, ask_timer);

    if (!anybody_asks(e))
        return;
    /* Without memory, or a session: the next time. */
    if (e->refreshes_sent == e->refreshes_done)
        (void)electric_refresh(e, NULL);
    e->ask_wait_ms = e->ask_wait_ms * 2 < ASK_MAX_MS ? e->ask_wait_ms * 2 : ASK_MAX_MS;
    timer_set(&e->ask_timer, timer_after(e->client, e->ask_wait_ms));
}

static void ask_drop(struct registration *r)
{
    struct ask *a = LIST_ENTRY(r, struct ask, reg);

    registration_remove(a->e->client, r);
    task_cancel(&a->task);
    heap_free(a->e->heap, a, sizeof(*a));
}

static int tell_asker(struct task *t)
{
    struct ask *a = LIST_ENTRY(t, struct ask, task);
    struct coulomb_collection *coll = a->e->coll;
    coulomb_await_fn fn = a->fn;
    void *arg = a->arg;
    coulomb_error error = a->error;

    collection_hold(coll);
    ask_drop(&a->reg);
    if (fn)
        fn(coll, &error, arg);
    collection_drop(coll);
    return COULOMB_OK;
}

static void ask_settle(struct ask *a, int code, const char *why)
{
    if (a->settled)
        return;
    a->settled = true;
    error_set(&a->error, code, "%s", why ? why : "");
    task_queue(&a->task);
}

/* A server that has nothing to tell may not name the position of a subset's view ever: what it has read
 * when it is asked after that is as good. */
static void release_views(struct electric *e)
{
    if (e->held_back || e->refreshes_done < e->view_refresh)
        return;
    seen_release(&e->seen);
    for (struct list *l = e->waiters.next; l != &e->waiters; l = l->next)
        look(entry(l));
}

void await_refreshed(struct electric *e, int code, const coulomb_error *error)
{
    if (code == COULOMB_OK)
        release_views(e);
    for (struct list *l = e->asks.next; l != &e->asks; l = l->next) {
        struct ask *a = LIST_ENTRY(l, struct ask, reg.link);

        if (a->number <= e->refreshes_done)
            ask_settle(a, code, error ? error->message : NULL);
    }
}

int coulomb_electric_refresh(coulomb_collection *coll, coulomb_await_fn fn, void *arg,
                             coulomb_token *token)
{
    coulomb_client *c = coll->client;
    struct electric *e;
    struct ask *a;
    int code = electric_enter(coll, &e);

    if (code != COULOMB_OK)
        return code;
    a = heap_zalloc(c->heap, sizeof(*a));
    if (!a)
        return client_no_memory(c);
    code = electric_refresh(e, &a->number);
    if (code != COULOMB_OK) {
        heap_free(c->heap, a, sizeof(*a));
        return code;
    }
    a->e = e;
    a->fn = fn;
    a->arg = arg;
    a->reg.drop = ask_drop;
    task_init(&a->task, c, tell_asker);
    registration_add(c, &a->reg, &e->asks, token);
    return COULOMB_OK;
}

/* --- Making ------------------------------------------------------------------------------------------------ */

static int read_text(coulomb_client *c, const char *text, uint64_t *txid)
{
    if (text && slice_to_u64(slice_of(text), txid))
        return COULOMB_OK;
    return client_fail(c, COULOMB_E_TXID,
                       "\"%.40s\" is no transaction id; one is a decimal number, as "
                       "pg_current_xact_id() prints it",
                       text ? text : "");
}

/* Room for the numbers, and the numbers. */
static int fill_txids(struct waiter *w, const coulomb_await *await)
{
    coulomb_client *c = w->e->client;
    size_t count = await->txid_count + (await->txid_text != NULL);

    if (count > TXIDS_MAX)
        return client_fail(c, COULOMB_E_LIMIT, "%zu transactions; %u are the most", count,
                           TXIDS_MAX);
    w->count = count;
    if (count == 0)
        return COULOMB_OK;
    w->txids = heap_alloc(c->heap, count * sizeof(*w->txids));
    w->states = heap_zalloc(c->heap, count);
    if (!w->txids || !w->states)
        return client_no_memory(c);
    if (await->txid_count > 0)
        memcpy(w->txids, await->txids, await->txid_count * sizeof(*w->txids));
    return await->txid_text ? read_text(c, await->txid_text, &w->txids[count - 1])
                            : COULOMB_OK;
}

static int waiter_new(coulomb_collection *coll, struct waiter **out)
{
    coulomb_client *c = coll->client;
    struct electric *e;
    struct waiter *w;
    int code = electric_enter(coll, &e);

    if (code != COULOMB_OK)
        return code;
    w = heap_zalloc(c->heap, sizeof(*w));
    if (!w)
        return client_no_memory(c);
    w->e = e;
    w->reg.drop = waiter_drop;
    task_init(&w->task, c, tell_waiter);
    timer_init(&w->timer, c, timed_out);
    *out = w;
    return COULOMB_OK;
}

/* A stream that has failed brings nothing any more. */
static void fail_when_over(struct waiter *w)
{
    const coulomb_error *why = electric_error(w->e);

    if (why)
        settle(w, why->code, "%s", why->message);
}

static void waiter_begin(struct waiter *w, int64_t timeout_ms, int64_t otherwise_ms,
                         coulomb_token *token)
{
    coulomb_client *c = w->e->client;

    registration_add(c, &w->reg, &w->e->waiters, token);
    if (timeout_ms >= 0)
        timer_set(&w->timer, timer_after(c, timeout_ms > 0 ? timeout_ms : otherwise_ms));
    look(w);
    fail_when_over(w);
    if (asks(w))
        ask_soon(w->e);
}

static int await_all(coulomb_collection *coll, const coulomb_await *o,
                     coulomb_await_fn fn, void *arg, coulomb_completion *done,
                     coulomb_token *token)
{
    struct waiter *w;
    int code = waiter_new(coll, &w);

    if (code != COULOMB_OK)
        return code;
    code = fill_txids(w, o);
    if (code == COULOMB_OK && w->count == 0 && o->lsn == 0)
        code = client_fail(coll->client, COULOMB_E_TXID,
                           "neither a transaction id nor an lsn to wait for");
    if (code != COULOMB_OK) {
        waiter_free(w);
        return code;
    }
    w->fn = fn;
    w->arg = arg;
    w->done = done;
    w->lsn = o->lsn;
    for (size_t i = 0; i < w->count; i++) {
        if (seen_has_staged(&w->e->seen, w->txids[i]))
            w->states[i] = TXID_STAGED;
    }
    waiter_begin(w, o->timeout_ms, TXID_TIMEOUT_MS, token);
    return COULOMB_OK;
}

int coulomb_await_all(coulomb_collection *coll, const coulomb_await *await,
                      coulomb_await_fn fn, void *arg, coulomb_token *token)
{
    coulomb_await o;
    int code = options_read(coll->client, &o, sizeof(o), await, "coulomb_await_all");

    if (code == COULOMB_OK && !fn)
        code = client_fail(coll->client, COULOMB_E_ARGUMENT, "waiting needs a function");
    return code == COULOMB_OK ? await_all(coll, &o, fn, arg, NULL, token) : code;
}

int coulomb_await_txid(coulomb_collection *coll, uint64_t txid, int64_t timeout_ms,
                       coulomb_await_fn fn, void *arg, coulomb_token *token)
{
    coulomb_await o;

    coulomb_options_init(&o, sizeof(o));
    o.txids = &txid;
    o.txid_count = 1;
    o.timeout_ms = timeout_ms;
    return coulomb_await_all(coll, &o, fn, arg, token);
}

void coulomb_complete_after(coulomb_completion *done, coulomb_collection *coll,
                            const coulomb_await *await)
{
    coulomb_client *c = coll->client;
    coulomb_await o;
    int code = options_read(c, &o, sizeof(o), await, "coulomb_complete_after");

    if (code == COULOMB_OK)
        code = await_all(coll, &o, NULL, NULL, done, NULL);
    if (code != COULOMB_OK)
        coulomb_complete(done, code, c->error.message);
}

/* The messages that came before; one of those not committed yet waits for that. */
static void match_ring(struct waiter *w)
{
    struct electric *e = w->e;
    const struct ring *r = &e->ring;

    for (size_t i = 0; i < r->count && !w->matched && !w->settled; i++) {
        const struct kept_message *k = &r->items[(r->first + i) % RING_MAX];
        coulomb_electric_message m =
            message_of(e, k->type, k->row, k->txids, k->txid_count);

        try_match(w, &m);
        if (w->matched && i + r->fresh < r->count)
            settle(w, COULOMB_OK, "%s", "");
    }
}

int coulomb_await_match(coulomb_collection *coll, coulomb_match_fn match, void *match_arg,
                        int64_t timeout_ms, coulomb_await_fn fn, void *arg,
                        coulomb_token *token)
{
    coulomb_client *c = coll->client;
    struct waiter *w;
    int code = waiter_new(coll, &w);

    if (code != COULOMB_OK)
        return code;
    if (!match || !fn)
        code = client_fail(c, COULOMB_E_ARGUMENT, "waiting for a match needs functions");
    if (code == COULOMB_OK && !w->e->match_values) {
        w->e->match_values =
            heap_alloc(c->heap, coll->layout->count * sizeof(*w->e->match_values));
        if (!w->e->match_values)
            code = client_no_memory(c);
    }
    if (code != COULOMB_OK) {
        waiter_free(w);
        return code;
    }
    w->fn = fn;
    w->arg = arg;
    w->match = match;
    w->match_arg = match_arg;
    registration_add(c, &w->reg, &w->e->waiters, token);
    timer_set(&w->timer, timer_after(c, timeout_ms > 0 ? timeout_ms : MATCH_TIMEOUT_MS));
    if (timeout_ms < 0)
        timer_cancel(&w->timer);
    match_ring(w);
    fail_when_over(w);
    return COULOMB_OK;
}

/* --- Ends of a session, and of all ------------------------------------------------------------------------- */

void await_stop(struct electric *e, int code, const char *why)
{
    timer_cancel(&e->ask_timer);
    for (struct list *l = e->waiters.next; l != &e->waiters; l = l->next)
        settle(entry(l), code, "%s", why);
    for (struct list *l = e->asks.next; l != &e->asks; l = l->next)
        ask_settle(LIST_ENTRY(l, struct ask, reg.link), code, why);
}

void await_free(struct electric *e)
{
    while (!list_empty(&e->waiters)) {
        struct waiter *w = entry(e->waiters.next);
        coulomb_completion *done = w->done;

        waiter_drop(&w->reg);
        if (done)
            coulomb_complete(done, COULOMB_E_CLOSED, NULL);
    }
    while (!list_empty(&e->asks))
        ask_drop(&LIST_ENTRY(e->asks.next, struct ask, reg.link)->reg);
    heap_free(e->heap, e->match_values,
              e->coll->layout->count * sizeof(*e->match_values));
    e->match_values = NULL;
}
