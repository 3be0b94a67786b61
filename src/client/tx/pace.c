/*
 * Actions and paced mutations. A paced function keeps one transaction open: calls run in it, so they
 * are seen at once and merge, and the strategy says when it is committed.
 *
 *   debounce  every call moves the timer; it fires when no call came for wait_ms
 *   throttle  fires at most once in wait_ms, measured from the last firing (without leading: from
 *             the first call)
 *   queue     every call has its own transaction; the next is committed when the one before is
 *             settled, and wait_ms after that one was taken
 */

#include "client/tx/tx.h"

struct paced_call {
    struct list link;
    struct coulomb_tx *tx;
};

struct coulomb_paced {
    struct list link; /* client.paced */
    coulomb_client *client;
    coulomb_paced_options options;
    struct blob metadata;
    struct coulomb_tx *active; /* debounce and throttle: what gathers */
    struct timer timer;
    bool fired; /* throttle: last_ms counts */
    int64_t last_ms;
    bool burst; /* debounce with leading: between a first call and the quiet */
    struct list queue;
    size_t queued;
    struct coulomb_tx *running; /* queue: committed, not settled */
};

/* --- Actions ---------------------------------------------------------------------------------- */

struct on_mutate {
    int (*fn)(coulomb_tx *tx, void *vars);
    void *vars;
};

static int run_on_mutate(coulomb_tx *tx, void *arg)
{
    struct on_mutate *m = arg;
    int code = m->fn(tx, m->vars);

    if (code == COULOMB_PENDING)
        return client_fail(tx->client, COULOMB_E_ON_MUTATE_ASYNC,
                           "on_mutate has to answer at once");
    return code;
}

int coulomb_action_run(coulomb_client *c, const coulomb_action *action, void *vars,
                       coulomb_tx **tx)
{
    coulomb_action a;
    coulomb_tx_options o;
    struct on_mutate m;
    struct coulomb_tx *made;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = options_read(c, &a, sizeof(a), action, "coulomb_action_run");
    if (code != COULOMB_OK)
        return code;
    if (!a.on_mutate)
        return client_fail(c, COULOMB_E_ARGUMENT, "an action needs on_mutate");
    coulomb_options_init(&o, sizeof(o));
    o.id = a.id;
    o.persist = a.persist;
    o.persist_arg = vars;
    o.no_autocommit = a.no_autocommit;
    o.metadata = a.metadata;
    o.metadata_len = a.metadata_len;
    o.gate_keys = a.gate_keys;
    code = coulomb_tx_new(c, &o, &made);
    if (code != COULOMB_OK)
        return code;
    m = (struct on_mutate){a.on_mutate, vars};
    code = coulomb_tx_mutate(made, run_on_mutate, &m);
    if (tx)
        *tx = made;
    else
        tx_drop(made);
    return code;
}

/* --- Firing -------------------------------------------------------------------------------------- */

/* Commits what gathered. */
static int fire(struct coulomb_paced *p)
{
    struct coulomb_tx *tx = p->active;
    int code = COULOMB_OK;

    p->active = NULL;
    p->last_ms = client_now(p->client);
    p->fired = true;
    timer_cancel(&p->timer);
    if (!tx)
        return COULOMB_OK;
    if (tx->state == COULOMB_TX_PENDING)
        code = coulomb_tx_commit(tx);
    tx_drop(tx);
    return code;
}

static void queue_next(struct coulomb_paced *p);

static void timer_fire(struct timer *t)
{
    struct coulomb_paced *p = LIST_ENTRY(t, struct coulomb_paced, timer);
    bool trailing = p->options.trailing != 0;

    if (p->options.strategy == COULOMB_QUEUE) {
        queue_next(p);
        return;
    }
    p->burst = false;
    if (p->active && (trailing || p->options.strategy == COULOMB_THROTTLE) &&
        fire(p) != COULOMB_OK)
        client_log(p->client, COULOMB_LOG_WARNING, "event=paced.commit reason=\"%s\"",
                   p->client->error.message);
}

static int debounce(struct coulomb_paced *p)
{
    bool first = !p->burst;
    int code = COULOMB_OK;

    p->burst = true;
    if (first && p->options.leading)
        code = fire(p);
    timer_set(&p->timer, timer_after(p->client, p->options.wait_ms));
    return code;
}

static int throttle(struct coulomb_paced *p)
{
    int64_t now = client_now(p->client);
    bool open = !p->fired || now - p->last_ms >= p->options.wait_ms;

    if (open && p->options.leading)
        return fire(p);
    if (open && !timer_is_set(&p->timer) && p->options.trailing) {
        /* The window begins with this call; in TanStack DB it began long ago. */
        timer_set(&p->timer,
                  timer_after(p->client, p->client->compat ? 0 : p->options.wait_ms));
    } else if (!open && p->options.trailing && !timer_is_set(&p->timer)) {
        timer_set(&p->timer, p->last_ms + p->options.wait_ms);
    }
    return COULOMB_OK;
}

/* --- The queue ------------------------------------------------------------------------------------- */

static void running_ended(void *arg)
{
    struct coulomb_paced *p = arg;
    struct coulomb_tx *tx = p->running;

    p->running = NULL;
    if (tx)
        tx_drop(tx); /* settling holds it still */
    if (p->queued > 0 && !timer_is_set(&p->timer))
        timer_set(&p->timer, p->last_ms + p->options.wait_ms);
}

static struct paced_call *take_call(struct coulomb_paced *p)
{
    struct list *at = p->options.take_from_back ? p->queue.prev : p->queue.next;

    list_remove(at);
    p->queued--;
    return LIST_ENTRY(at, struct paced_call, link);
}

static void queue_next(struct coulomb_paced *p)
{
    while (!p->running && p->queued > 0) {
        struct paced_call *call = take_call(p);
        struct coulomb_tx *tx = call->tx;

        heap_free(p->client->heap, call, sizeof(*call));
        p->last_ms = client_now(p->client);
        p->fired = true;
        if (tx->state != COULOMB_TX_PENDING) {
            tx_drop(tx); /* rolled back meanwhile */
            continue;
        }
        p->running = tx;
        tx->on_end = running_ended;
        tx->on_end_arg = p;
        if (coulomb_tx_commit(tx) != COULOMB_OK && p->running == tx) {
            tx->on_end = NULL;
            p->running = NULL;
            tx_drop(tx);
        }
        return;
    }
}

static int enqueue(struct coulomb_paced *p, struct paced_call *call,
                   struct coulomb_tx *tx)
{
    call->tx = tx;
    tx_retain(tx);
    if (p->options.add_to_front) {
        call->link.next = p->queue.next;
        call->link.prev = &p->queue;
        p->queue.next->prev = &call->link;
        p->queue.next = &call->link;
    } else {
        list_push(&p->queue, &call->link);
    }
    p->queued++;
    if (!p->running && !timer_is_set(&p->timer)) {
        if (!p->fired || client_now(p->client) - p->last_ms >= p->options.wait_ms)
            queue_next(p);
        else
            timer_set(&p->timer, p->last_ms + p->options.wait_ms);
    }
    return COULOMB_OK;
}

/* --- Calls -------------------------------------------------------------------------------------------- */

static int tx_for_call(struct coulomb_paced *p, struct coulomb_tx **out)
{
    coulomb_tx_options o;

    coulomb_options_init(&o, sizeof(o));
    o.persist = p->options.persist;
    o.persist_arg = p->options.persist_arg;
    o.no_autocommit = 1;
    o.metadata = p->metadata.ptr;
    o.metadata_len = p->metadata.len;
    o.gate_keys = p->options.gate_keys;
    return coulomb_tx_new(p->client, &o, out);
}

static int call_queue(struct coulomb_paced *p, struct on_mutate *m, coulomb_tx **out)
{
    coulomb_client *c = p->client;
    struct paced_call *call;
    struct coulomb_tx *tx;
    int code;

    if (p->options.queue_max > 0 && p->queued >= p->options.queue_max)
        return client_fail(c, COULOMB_E_QUEUE_FULL,
                           "%zu calls wait, which is the maximum", p->queued);
    call = heap_zalloc(c->heap, sizeof(*call));
    if (!call)
        return client_no_memory(c);
    list_init(&call->link);
    code = tx_for_call(p, &tx);
    if (code == COULOMB_OK) {
        code = coulomb_tx_mutate(tx, run_on_mutate, m);
        if (code != COULOMB_OK && coulomb_tx_rollback(tx) != COULOMB_OK)
            client_log(c, COULOMB_LOG_WARNING, "event=paced.rollback reason=\"%s\"",
                       c->error.message);
        if (code != COULOMB_OK)
            tx_drop(tx);
    }
    if (code != COULOMB_OK) {
        heap_free(c->heap, call, sizeof(*call));
        return code;
    }
    enqueue(p, call, tx);
    if (out)
        *out = tx;
    else
        tx_drop(tx);
    return COULOMB_OK;
}

static int call_gather(struct coulomb_paced *p, struct on_mutate *m, coulomb_tx **out)
{
    struct coulomb_tx *tx;
    int code = COULOMB_OK;

    if (p->active && p->active->state != COULOMB_TX_PENDING) {
        tx_drop(p->active); /* rolled back meanwhile */
        p->active = NULL;
    }
    if (!p->active)
        code = tx_for_call(p, &p->active);
    if (code != COULOMB_OK)
        return code;
    tx = p->active;
    tx_retain(tx);
    code = coulomb_tx_mutate(tx, run_on_mutate, m);
    if (code == COULOMB_OK)
        code = p->options.strategy == COULOMB_DEBOUNCE ? debounce(p) : throttle(p);
    if (out && code == COULOMB_OK)
        *out = tx;
    else
        tx_drop(tx);
    return code;
}

int coulomb_paced_call(coulomb_paced *paced, void *vars, coulomb_tx **tx)
{
    struct on_mutate m = {paced->options.on_mutate, vars};
    int code = client_enter(paced->client);

    if (code != COULOMB_OK)
        return code;
    if (paced->options.strategy == COULOMB_QUEUE)
        return call_queue(paced, &m, tx);
    return call_gather(paced, &m, tx);
}

int coulomb_paced_new(coulomb_client *c, const coulomb_paced_options *options,
                      coulomb_paced **out)
{
    coulomb_paced_options o;
    struct coulomb_paced *p;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = options_read(c, &o, sizeof(o), options, "coulomb_paced_new");
    if (code != COULOMB_OK)
        return code;
    if (!o.persist)
        return client_fail(c, COULOMB_E_MISSING_MUTATION_FUNCTION,
                           "a paced function needs a function that persists");
    if (!o.on_mutate || o.wait_ms < 0 || o.strategy > COULOMB_QUEUE)
        return client_fail(
            c, COULOMB_E_ARGUMENT,
            "a paced function needs on_mutate, a strategy and a wait of 0 or more");
    if (!o.leading && !o.trailing) {
        o.trailing = 1;
        o.leading = o.strategy == COULOMB_THROTTLE;
    }
    p = heap_zalloc(c->heap, sizeof(*p));
    if (!p)
        return client_no_memory(c);
    p->client = c;
    p->options = o;
    list_init(&p->queue);
    timer_init(&p->timer, c, timer_fire);
    if (blob_set(c->heap, &p->metadata, o.metadata, o.metadata_len) != COULOMB_OK) {
        heap_free(c->heap, p, sizeof(*p));
        return client_no_memory(c);
    }
    client_retain(c);
    list_push(&c->paced, &p->link);
    *out = p;
    return COULOMB_OK;
}

static void paced_stop(struct coulomb_paced *p)
{
    timer_cancel(&p->timer);
    if (p->active)
        tx_drop(p->active);
    p->active = NULL;
    if (p->running) {
        p->running->on_end = NULL;
        tx_drop(p->running);
    }
    p->running = NULL;
    while (p->queued > 0) {
        struct paced_call *call = take_call(p);

        tx_drop(call->tx);
        heap_free(p->client->heap, call, sizeof(*call));
    }
}

void coulomb_paced_free(coulomb_paced *paced)
{
    coulomb_client *c;

    if (!paced)
        return;
    c = paced->client;
    paced_stop(paced);
    list_remove(&paced->link);
    blob_fini(c->heap, &paced->metadata);
    heap_free(c->heap, paced, sizeof(*paced));
    client_release(c);
}

void paced_close_all(coulomb_client *c)
{
    for (struct list *l = c->paced.next; l != &c->paced; l = l->next)
        paced_stop(LIST_ENTRY(l, struct coulomb_paced, link));
}
