/*
 * Transactions: made, filled, committed, answered, told about. What settling does to collections is
 * in settle.c, mutations in mutate.c.
 *
 * commit closes the transaction at once; its function runs in the next poll, when everything that it
 * did is long visible. The answer takes effect where it is given. When there is no memory for that
 * the answer is kept and tried again in later polls.
 */

#include "client/tx/tx.h"

#include <stdio.h>
#include <string.h>

struct settled_reg {
    struct registration reg;
    struct coulomb_tx *tx;
    coulomb_settled_fn settled;
    coulomb_progress_fn progress;
    void *arg;
};

static int persist_run(struct task *t);
static int answer_run(struct task *t);
static int notify_run(struct task *t);

int tx_make(coulomb_client *c, const coulomb_tx_options *o, struct coulomb_tx **out)
{
    struct coulomb_tx *tx = heap_zalloc(c->heap, sizeof(*tx));

    if (!tx)
        return client_no_memory(c);
    tx->client = c;
    tx->heap = c->heap;
    tx->refs = 1;
    tx->order = ++c->last_id;
    tx->created_ms = client_now(c);
    tx->autocommit = !o->no_autocommit;
    tx->gate_keys = o->gate_keys != 0;
    tx->persist = o->persist;
    tx->persist_arg = o->persist_arg;
    list_init(&tx->link);
    list_init(&tx->settled);
    list_init(&tx->progress);
    task_init(&tx->persist_task, c, persist_run);
    task_init(&tx->answer_task, c, answer_run);
    task_init(&tx->notify_task, c, notify_run);
    client_retain(c);
    c->tx_count++;
    if (o->id)
        tx->id = heap_strdup(tx->heap, o->id);
    if ((o->id && !tx->id) ||
        blob_set(tx->heap, &tx->metadata, o->metadata, o->metadata_len) != COULOMB_OK) {
        tx_drop(tx);
        return client_no_memory(c);
    }
    /* The client's own, until it is settled. */
    tx->refs++;
    tx->owned = true;
    list_push(&c->transactions, &tx->link);
    *out = tx;
    return COULOMB_OK;
}

void tx_retain(struct coulomb_tx *tx)
{
    tx->refs++;
}

void mutation_free(struct coulomb_client *c, struct mutation *m)
{
    struct coulomb_collection *coll = m->coll;
    struct heap *h = c->heap;

    list_remove(&m->in_key);
    row_release(m->original);
    row_release(m->modified);
    heap_free(h, m->changed, (coll->layout->count + 7) / 8);
    blob_fini(h, &m->metadata);
    blob_fini(h, &m->sync_metadata);
    heap_free(h, m, sizeof(*m));
    collection_drop(coll);
}

static void regs_clear(struct list *l)
{
    while (!list_empty(l)) {
        struct registration *r = LIST_ENTRY(l->next, struct registration, link);

        r->drop(r);
    }
}

void tx_drop(struct coulomb_tx *tx)
{
    coulomb_client *c = tx->client;

    if (--tx->refs > 0)
        return;
    list_remove(&tx->link);
    task_cancel(&tx->persist_task);
    task_cancel(&tx->answer_task);
    task_cancel(&tx->notify_task);
    completion_forget(&tx->answer);
    regs_clear(&tx->settled);
    regs_clear(&tx->progress);
    for (size_t i = 0; i < tx->count; i++)
        mutation_free(c, tx->mutations[i]);
    heap_free(tx->heap, tx->mutations, tx->cap * sizeof(struct mutation *));
    for (size_t i = 0; i < tx->touched_count; i++)
        collection_drop(tx->touched[i].coll);
    heap_free(tx->heap, tx->touched, tx->touched_cap * sizeof(*tx->touched));
    blob_fini(tx->heap, &tx->metadata);
    heap_free_str(tx->heap, tx->id);
    if (tx->handler_of)
        collection_drop(tx->handler_of);
    attachment_free(tx->heap, tx->refusal);
    heap_free(tx->heap, tx, sizeof(*tx));
    c->tx_count--;
    client_release(c);
}

void tx_hold(struct coulomb_tx *tx, bool hold)
{
    if (hold)
        tx_retain(tx);
    else
        tx_drop(tx);
}

void tx_progress(struct coulomb_tx *tx)
{
    tx->progressed = true;
    if (!list_empty(&tx->progress))
        task_queue(&tx->notify_task);
}

/* Collections stay listed though their mutations may go: settling then finds nothing there. The
 * reference is that of the list. */
static int touch_collection(struct coulomb_tx *tx, struct coulomb_collection *coll)
{
    void *touched = tx->touched;
    int code;

    for (size_t i = 0; i < tx->touched_count; i++) {
        if (tx->touched[i].coll == coll)
            return COULOMB_OK;
    }
    code = heap_grow(tx->heap, &touched, &tx->touched_cap, tx->touched_count + 1,
                     sizeof(*tx->touched));
    tx->touched = touched;
    if (code != COULOMB_OK)
        return code;
    tx->touched[tx->touched_count++] = (struct touched){coll, 0};
    collection_hold(coll);
    return COULOMB_OK;
}

int tx_reserve(struct coulomb_tx *tx, struct coulomb_collection *coll, size_t n)
{
    void *mutations = tx->mutations;
    int code;

    if (n > tx->client->tx_mutations_max - tx->count)
        return client_fail(tx->client, COULOMB_E_LIMIT,
                           "a transaction of more than %zu mutations",
                           tx->client->tx_mutations_max);
    code = heap_grow(tx->heap, &mutations, &tx->cap, tx->count + n,
                     sizeof(struct mutation *));
    tx->mutations = mutations;
    if (code == COULOMB_OK)
        code = touch_collection(tx, coll);
    return code == COULOMB_OK ? code : client_no_memory(tx->client);
}

struct mutation *tx_find(const struct coulomb_tx *tx, const struct local *l)
{
    for (struct list *at = l->mutations.prev; at != &l->mutations; at = at->prev) {
        struct mutation *m = LIST_ENTRY(at, struct mutation, in_key);

        if (m->tx == tx)
            return m;
    }
    return NULL;
}

void tx_compact(struct coulomb_tx *tx)
{
    size_t n = 0;

    for (size_t i = 0; i < tx->count; i++) {
        struct mutation *m = tx->mutations[i];

        if (m->tx) {
            m->at = n;
            tx->mutations[n++] = m;
        } else {
            mutation_free(tx->client, m);
        }
    }
    tx->count = n;
}

/* --- Persisting -------------------------------------------------------------------------------- */

static void gate(struct coulomb_tx *tx)
{
    for (size_t i = 0; i < tx->touched_count; i++) {
        struct coulomb_collection *coll = tx->touched[i].coll;

        tx->touched[i].gates_in = coll->generation;
        *(tx->gate_keys ? &coll->key_gates : &coll->persisting) += 1;
    }
    for (size_t i = 0; i < tx->count; i++) {
        tx->mutations[i]->state = COULOMB_MUTATION_SENT;
        tx->mutations[i]->gates = tx->gate_keys;
    }
    tx_progress(tx);
}

void tx_end(struct coulomb_tx *tx, coulomb_tx_state state)
{
    tx->state = state;
    task_cancel(&tx->persist_task);
    task_cancel(&tx->answer_task);
    completion_forget(&tx->answer);
    task_queue(&tx->notify_task);
    if (tx->on_end)
        tx->on_end(tx->on_end_arg);
    tx->on_end = NULL;
}

static int take_answer(struct coulomb_tx *tx)
{
    coulomb_client *c = tx->client;
    bool completed = tx->answer_code == COULOMB_OK;
    coulomb_error before = tx->error;
    int code;

    if (tx->state != COULOMB_TX_PERSISTING)
        return COULOMB_OK;
    if (!completed)
        error_set(&tx->error, tx->answer_code, "%s", tx->answer_text);
    code = settle(c, &tx, 1, completed);
    if (code != COULOMB_OK) {
        tx->error = before;
        task_queue(&tx->answer_task);
    }
    return code;
}

static int answer_run(struct task *t)
{
    struct coulomb_tx *tx = LIST_ENTRY(t, struct coulomb_tx, answer_task);
    int code;

    tx_retain(tx);
    task_cancel(t);
    code = take_answer(tx);
    if (code == COULOMB_E_MEMORY)
        task_cancel(t); /* the poll queues it again */
    tx_drop(tx);
    return code;
}

static void answered(void *what, int code, const char *message)
{
    struct coulomb_tx *tx = what;

    tx->answered = true;
    tx->answer_code = code;
    snprintf(tx->answer_text, sizeof(tx->answer_text), "%s",
             message && message[0] != '\0' ? message : coulomb_error_text(code));
    tx_retain(tx);
    if (take_answer(tx) != COULOMB_OK)
        client_wake(tx->client);
    tx_drop(tx);
}

static int persist_run(struct task *t)
{
    struct coulomb_tx *tx = LIST_ENTRY(t, struct coulomb_tx, persist_task);
    struct coulomb_completion *done;
    int code;

    if (tx->state != COULOMB_TX_PERSISTING)
        return COULOMB_OK;
    done = completion_new(tx->client, tx, answered, &tx->answer);
    if (!done)
        return COULOMB_E_MEMORY;
    tx_retain(tx);
    code = tx->persist(tx, tx->handler_of, done, tx->persist_arg);
    if (code != COULOMB_PENDING)
        coulomb_complete(done, code, NULL);
    tx_drop(tx);
    return COULOMB_OK;
}

int coulomb_tx_commit(coulomb_tx *tx)
{
    coulomb_client *c = tx->client;
    int code = client_enter(c);

    if (code != COULOMB_OK)
        return code;
    if (tx->state != COULOMB_TX_PENDING)
        return client_fail(c, COULOMB_E_TX_NOT_PENDING_COMMIT,
                           "transaction %s is %s; only a pending one can be committed",
                           coulomb_tx_id(tx), coulomb_tx_state_name(tx->state));
    if (tx->count == 0) {
        tx_end(tx, COULOMB_TX_COMPLETED);
        return COULOMB_OK;
    }
    tx->state = COULOMB_TX_PERSISTING;
    gate(tx);
    task_queue(&tx->persist_task);
    return COULOMB_OK;
}

/* --- Rolling back ------------------------------------------------------------------------------- */

/* Pending transactions that share a key with tx, and tx itself; NULL: no memory. */
static struct coulomb_tx **cascade(struct coulomb_tx *tx, size_t *count, size_t *cap)
{
    coulomb_client *c = tx->client;
    struct coulomb_tx **txs;

    *cap = c->tx_count + 1;
    txs = heap_alloc(c->heap, *cap * sizeof(struct coulomb_tx *));
    if (!txs)
        return NULL;
    txs[0] = tx;
    *count = 1;
    for (size_t i = 0; i < tx->count; i++) {
        const struct local *l = tx->mutations[i]->local;

        for (struct list *at = l ? l->mutations.next : NULL; l && at != &l->mutations;
             at = at->next) {
            struct coulomb_tx *other = LIST_ENTRY(at, struct mutation, in_key)->tx;
            bool listed = other->state != COULOMB_TX_PENDING;

            for (size_t k = 0; k < *count && !listed; k++)
                listed = txs[k] == other;
            if (!listed)
                txs[(*count)++] = other;
        }
    }
    return txs;
}

int coulomb_tx_rollback(coulomb_tx *tx)
{
    coulomb_client *c = tx->client;
    struct coulomb_tx **txs;
    size_t count;
    size_t cap;
    int code = client_enter(c);

    if (code != COULOMB_OK || tx->state == COULOMB_TX_FAILED)
        return code;
    if (tx->state == COULOMB_TX_COMPLETED)
        return client_fail(c, COULOMB_E_TX_COMPLETED_ROLLBACK,
                           "transaction %s is completed; it can't be rolled back",
                           coulomb_tx_id(tx));
    txs = cascade(tx, &count, &cap);
    if (!txs)
        return client_no_memory(c);
    code = settle(c, txs, count, false);
    heap_free(c->heap, txs, cap * sizeof(struct coulomb_tx *));
    return code;
}

/* --- Ambient ------------------------------------------------------------------------------------- */

coulomb_tx *coulomb_tx_active(const coulomb_client *c)
{
    return c->ambient;
}

int coulomb_tx_mutate(coulomb_tx *tx, int (*fn)(coulomb_tx *tx, void *arg), void *arg)
{
    coulomb_client *c = tx->client;
    struct coulomb_tx *before = c->ambient;
    int code = client_enter(c);

    if (code != COULOMB_OK)
        return code;
    if (tx->state != COULOMB_TX_PENDING)
        return client_fail(c, COULOMB_E_TX_NOT_PENDING_MUTATE,
                           "transaction %s is %s; only a pending one takes mutations",
                           coulomb_tx_id(tx), coulomb_tx_state_name(tx->state));
    tx_retain(tx);
    c->ambient = tx;
    code = fn(tx, arg);
    c->ambient = before;
    if (code == COULOMB_OK && tx->autocommit && tx->state == COULOMB_TX_PENDING)
        code = coulomb_tx_commit(tx);
    tx_drop(tx);
    return code;
}

/* --- Telling --------------------------------------------------------------------------------------- */

static void reg_drop(struct registration *r)
{
    struct settled_reg *s = LIST_ENTRY(r, struct settled_reg, reg);
    coulomb_client *c = s->tx->client;

    registration_remove(c, r);
    heap_free(c->heap, s, sizeof(*s));
}

static void tell_progress(struct coulomb_tx *tx)
{
    coulomb_token last = tx->client->last_token;
    coulomb_token at = 0;

    tx->progressed = false;
    for (struct list *l = tx->progress.next; l != &tx->progress;) {
        struct settled_reg *s = LIST_ENTRY(l, struct settled_reg, reg.link);

        l = l->next;
        if (s->reg.token <= at || s->reg.token > last)
            continue;
        at = s->reg.token;
        s->progress(tx, s->arg);
        l = tx->progress.next; /* a callback may have ended any */
    }
}

static int notify_run(struct task *t)
{
    struct coulomb_tx *tx = LIST_ENTRY(t, struct coulomb_tx, notify_task);
    bool settled = tx->state == COULOMB_TX_COMPLETED || tx->state == COULOMB_TX_FAILED;
    coulomb_token last = tx->client->last_token;

    tx_retain(tx);
    if (tx->progressed)
        tell_progress(tx);
    while (settled && !list_empty(&tx->settled)) {
        struct settled_reg *s =
            LIST_ENTRY(tx->settled.next, struct settled_reg, reg.link);
        coulomb_settled_fn fn = s->settled;
        void *arg = s->arg;

        if (s->reg.token > last)
            break;
        reg_drop(&s->reg);
        fn(tx, &tx->error, arg);
    }
    if (settled && tx->owned) {
        tx->owned = false;
        list_remove(&tx->link);
        tx_drop(tx);
    }
    tx_drop(tx);
    return COULOMB_OK;
}

static int reg_add(coulomb_tx *tx, coulomb_settled_fn settled,
                   coulomb_progress_fn progress, void *arg, coulomb_token *token)
{
    coulomb_client *c = tx->client;
    struct settled_reg *s;
    int code = client_enter(c);

    if (code != COULOMB_OK)
        return code;
    if (!settled && !progress)
        return client_fail(c, COULOMB_E_ARGUMENT, "a registration needs a function");
    s = heap_zalloc(c->heap, sizeof(*s));
    if (!s)
        return client_no_memory(c);
    s->tx = tx;
    s->settled = settled;
    s->progress = progress;
    s->arg = arg;
    s->reg.drop = reg_drop;
    registration_add(c, &s->reg, settled ? &tx->settled : &tx->progress, token);
    if (settled && (tx->state == COULOMB_TX_COMPLETED || tx->state == COULOMB_TX_FAILED))
        task_queue(&tx->notify_task);
    return COULOMB_OK;
}

int coulomb_tx_on_settled(coulomb_tx *tx, coulomb_settled_fn fn, void *arg,
                          coulomb_token *token)
{
    return reg_add(tx, fn, NULL, arg, token);
}

int coulomb_tx_on_progress(coulomb_tx *tx, coulomb_progress_fn fn, void *arg,
                           coulomb_token *token)
{
    return reg_add(tx, NULL, fn, arg, token);
}

/* --- The rest of the API ---------------------------------------------------------------------------- */

int coulomb_tx_new(coulomb_client *c, const coulomb_tx_options *options, coulomb_tx **out)
{
    coulomb_tx_options o;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = options_read(c, &o, sizeof(o), options, "coulomb_tx_new");
    if (code != COULOMB_OK)
        return code;
    if (!o.persist)
        return client_fail(c, COULOMB_E_MISSING_MUTATION_FUNCTION,
                           "a transaction needs a function that persists it");
    return tx_make(c, &o, out);
}

coulomb_tx *coulomb_tx_retain(coulomb_tx *tx)
{
    tx_retain(tx);
    return tx;
}

void coulomb_tx_release(coulomb_tx *tx)
{
    if (tx)
        tx_drop(tx);
}

coulomb_tx_state coulomb_tx_status(const coulomb_tx *tx)
{
    return tx->state;
}

const char *coulomb_tx_state_name(coulomb_tx_state state)
{
    static const char *const names[] = {"pending", "persisting", "completed", "failed"};

    return (unsigned)state < sizeof(names) / sizeof(names[0]) ? names[state] : NULL;
}

const char *coulomb_tx_id(const coulomb_tx *tx)
{
    coulomb_tx *t = (coulomb_tx *)(uintptr_t)tx;

    if (tx->id)
        return tx->id;
    if (t->made[0] == '\0')
        snprintf(t->made, sizeof(t->made), "tx-%llu", (unsigned long long)tx->order);
    return t->made;
}

coulomb_client *coulomb_tx_client(const coulomb_tx *tx)
{
    return tx->client;
}

int64_t coulomb_tx_created_ms(const coulomb_tx *tx)
{
    return tx->created_ms;
}

uint64_t coulomb_tx_order(const coulomb_tx *tx)
{
    return tx->order;
}

const coulomb_error *coulomb_tx_error(const coulomb_tx *tx)
{
    return &tx->error;
}

const void *coulomb_tx_metadata(const coulomb_tx *tx, size_t *len)
{
    *len = tx->metadata.len;
    return tx->metadata.ptr;
}

size_t coulomb_tx_count(const coulomb_tx *tx)
{
    return tx->count;
}

int coulomb_tx_mutation(const coulomb_tx *tx, size_t i, coulomb_mutation *out)
{
    const struct mutation *m;

    if (i >= tx->count)
        return client_fail(tx->client, COULOMB_E_ARGUMENT, "mutation %zu of %zu", i,
                           tx->count);
    m = tx->mutations[i];
    *out = (coulomb_mutation){.id = m->id,
                              .type = m->type,
                              .collection = m->coll,
                              .key = m->key,
                              .original = m->original,
                              .modified = m->modified,
                              .optimistic = m->optimistic,
                              .state = m->state,
                              .metadata = m->metadata.ptr,
                              .metadata_len = m->metadata.len,
                              .sync_metadata = m->sync_metadata.ptr,
                              .sync_metadata_len = m->sync_metadata.len,
                              .created_ms = m->created_ms,
                              .updated_ms = m->updated_ms};
    return COULOMB_OK;
}

int coulomb_tx_changed(const coulomb_tx *tx, size_t i, const char *column)
{
    const struct mutation *m;
    int at;

    if (i >= tx->count)
        return 0;
    m = tx->mutations[i];
    at = layout_find(m->coll->layout, column);
    if (at < 0)
        return 0;
    return !m->changed || (m->changed[at / 8] >> (at % 8) & 1) != 0;
}

/* At close: whatever state they are in. */
void tx_close_all(coulomb_client *c)
{
    c->ambient = NULL;
    while (!list_empty(&c->transactions)) {
        struct coulomb_tx *tx = LIST_ENTRY(c->transactions.next, struct coulomb_tx, link);

        list_remove(&tx->link);
        completion_forget(&tx->answer);
        task_cancel(&tx->persist_task);
        task_cancel(&tx->answer_task);
        task_cancel(&tx->notify_task);
        tx->owned = false;
        tx_drop(tx);
    }
}
