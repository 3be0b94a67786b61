/* Random interleavings of everything that changes a collection, each step compared with a naive
 * recomputation: synced rows as a plain map, transactions as a list, the visible rows folded from
 * both. Three subscriptions (all; filtered; what it asked for) rebuild the visible rows from what they
 * hear. CLIENT_STEPS and CLIENT_SEED make it longer or another one. */
#include "support/client.h"

#define KEYS 12
#define TXS  6

enum { NONE = -1000 };

/* --- The naive truth ------------------------------------------------------------------------ */

struct naive_mutation {
    int key;
    int64_t after; /* NONE: deleted */
    int dead;      /* cancelled */
    int seen;      /* sync named the key while it was being persisted */
};

struct naive_tx {
    coulomb_tx *tx;
    coulomb_completion *done; /* persisting */
    int state;                /* 0 free, 1 pending, 2 persisting, 3 gone */
    int direct;
    int gate_keys;
    uint64_t order;
    struct naive_mutation muts[KEYS];
    int count;
};

struct naive_op {
    int key;
    int64_t after; /* NONE: deleted; partial updates are folded when applied */
    int patch;
};

struct naive_sync {
    int open;
    int truncate;
    int immediate;
    struct naive_op ops[32];
    int count;
};

struct kept {
    int has;
    int direct;
    int64_t after;
    uint64_t order;
};

struct model {
    struct world *w;
    uint64_t rng;
    int64_t synced[KEYS];
    struct kept kept[KEYS];
    int in_truncate[KEYS];
    struct naive_tx txs[TXS];
    struct naive_sync queue[16];
    int queue_count;
    uint64_t order;
    coulomb_completion *last_done;
    int64_t replay[3][KEYS];
    coulomb_sub *subs[3];
    struct rebuilt {
        struct model *m;
        int which;
    } rebuilt[3];
    size_t step;
};

static uint32_t rnd(struct model *m, uint32_t n)
{
    m->rng = m->rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(m->rng >> 33) % n;
}

static int overlay(const struct model *m, int key, int64_t *after)
{
    uint64_t best = 0;

    for (int i = 0; i < TXS; i++) {
        const struct naive_tx *t = &m->txs[i];

        if ((t->state != 1 && t->state != 2) || t->order < best)
            continue;
        for (int k = 0; k < t->count; k++) {
            if (t->muts[k].key == key && !t->muts[k].dead) {
                best = t->order;
                *after = t->muts[k].after;
            }
        }
    }
    if (best == 0 && m->kept[key].has) {
        *after = m->kept[key].after;
        return 1;
    }
    return best != 0;
}

static int64_t visible(const struct model *m, int key)
{
    int64_t after = m->synced[key];

    overlay(m, key, &after);
    return after;
}

static int persisting(const struct model *m)
{
    int n = 0;

    for (int i = 0; i < TXS; i++)
        n += m->txs[i].state == 2 && !m->txs[i].gate_keys;
    return n;
}

/* Whether the sync transaction names a row of one that gates its keys. */
static int gated(const struct model *m, const struct naive_sync *s)
{
    for (int i = 0; i < TXS; i++) {
        const struct naive_tx *t = &m->txs[i];

        for (int k = 0; t->state == 2 && t->gate_keys && k < t->count; k++) {
            for (int o = 0; o < s->count; o++) {
                if (!t->muts[k].dead && s->ops[o].key == t->muts[k].key)
                    return 1;
            }
        }
    }
    return 0;
}

static int pending_names(const struct model *m, int key)
{
    for (int i = 0; i < m->queue_count; i++) {
        for (int k = 0; k < m->queue[i].count; k++) {
            if (m->queue[i].ops[k].key == key)
                return 1;
        }
    }
    return 0;
}

static int truncates(const struct model *m)
{
    for (int i = 0; i < m->queue_count; i++) {
        if (m->queue[i].truncate)
            return 1;
    }
    return 0;
}

/* Applies what is committed, when it may be. */
static void naive_flush(struct model *m)
{
    int named[KEYS] = {0};
    int pressing = 0;
    int waits = persisting(m) > 0;
    int any = 0;
    int truncated = 0;
    int left = 0;

    for (int i = 0; i < m->queue_count; i++) {
        if (!m->queue[i].open)
            pressing = pressing || m->queue[i].truncate || m->queue[i].immediate;
    }
    for (int i = 0; i < m->queue_count; i++) {
        struct naive_sync *s = &m->queue[i];

        waits = !pressing && (waits || (!s->open && gated(m, s)));
        if (s->open || waits) {
            m->queue[left++] = *s;
            continue;
        }
        any = 1;
        if (s->truncate) {
            truncated = 1;
            for (int k = 0; k < KEYS; k++) {
                m->synced[k] = NONE;
                named[k] = 0;
            }
        }
        for (int k = 0; k < s->count; k++) {
            m->synced[s->ops[k].key] = s->ops[k].after;
            named[s->ops[k].key] = 1;
        }
    }
    m->queue_count = left;
    if (!any)
        return;
    for (int i = 0; i < TXS; i++) {
        for (int k = 0; m->txs[i].state == 2 && k < m->txs[i].count; k++)
            m->txs[i].muts[k].seen |= named[m->txs[i].muts[k].key];
    }
    for (int k = 0; k < KEYS; k++) {
        if (m->kept[k].has && ((named[k] && (!truncated || !m->in_truncate[k])) ||
                               (m->kept[k].direct && !m->in_truncate[k])))
            m->kept[k].has = m->in_truncate[k] = 0;
    }
    for (int k = 0; truncated && k < KEYS; k++)
        m->in_truncate[k] = 0;
}

static void naive_settle(struct model *m, struct naive_tx *t, int completed)
{
    for (int i = 0; i < t->count; i++) {
        struct naive_mutation *n = &t->muts[i];
        struct kept *k = &m->kept[n->key];

        if (n->dead || !completed || n->seen || (k->has && k->order > t->order))
            continue;
        k->has = t->direct || truncates(m) || pending_names(m, n->key);
        k->direct = t->direct || truncates(m);
        m->in_truncate[n->key] = k->has && truncates(m);
        k->after = n->after;
        k->order = t->order;
    }
    t->state = 3;
    naive_flush(m);
}

/* --- Subscriptions ---------------------------------------------------------------------------- */

/* Everything, rows with an even qty, and everything from now on. */
static int is_even(const coulomb_row *row, void *arg)
{
    (void)arg;
    return coulomb_row_int(row, "qty", 1) % 2 == 0;
}

static void rebuild(coulomb_collection *coll, const coulomb_change *changes, size_t count,
                    void *arg)
{
    struct rebuilt *r = arg;
    int64_t *state = r->m->replay[r->which];

    (void)coll;
    for (size_t i = 0; i < count; i++) {
        int key = (int)changes[i].key.i;
        int64_t now = coulomb_row_int(changes[i].row, "qty", -1);

        switch (changes[i].type) {
        case COULOMB_INSERT:
            assert_int_equal(state[key], NONE);
            state[key] = now;
            break;
        case COULOMB_UPDATE:
            assert_int_not_equal(state[key], NONE);
            assert_int_equal(state[key], coulomb_row_int(changes[i].previous, "qty", -1));
            state[key] = now;
            break;
        case COULOMB_DELETE:
            assert_int_equal(state[key], now);
            state[key] = NONE;
            break;
        }
    }
}

static void subscribe_one(struct model *m, int which)
{
    coulomb_sub_options o;

    coulomb_options_init(&o, sizeof(o));
    o.initial = which == 2 ? COULOMB_INITIAL_NONE : COULOMB_INITIAL_ROWS;
    if (which == 1)
        o.where_fn = is_even;
    for (int k = 0; k < KEYS; k++)
        m->replay[which][k] = NONE;
    m->rebuilt[which] = (struct rebuilt){m, which};
    OK(coulomb_subscribe(m->w->coll, &o, rebuild, &m->rebuilt[which], &m->subs[which]));
}

/* --- Comparing ---------------------------------------------------------------------------------- */

static void compare_states(struct model *m)
{
    size_t rows = 0;

    for (int k = 0; k < KEYS; k++) {
        int64_t naive = visible(m, k);
        coulomb_meta meta;
        int64_t after;
        int there = coulomb_row_meta(m->w->coll, coulomb_key_int(k), &meta);

        if (qty(m->w, k) != (naive == NONE ? -2 : naive))
            print_error("step %zu key %d: %lld is %lld\n", m->step, k, (long long)naive,
                        (long long)qty(m->w, k));
        assert_int_equal(there, naive != NONE);
        assert_int_equal(qty(m->w, k), naive == NONE ? -2 : naive);
        if (there)
            assert_int_equal(meta.synced, !overlay(m, k, &after));
        rows += naive != NONE;
    }
    assert_int_equal(coulomb_size(m->w->coll), rows);
}

static int count_row(const coulomb_row *row, void *arg)
{
    int64_t *last = arg;
    int64_t key = coulomb_row_key(row).i;

    assert_true(key > last[0]);
    last[0] = key;
    last[1]++;
    return 0;
}

static void compare_hash(struct model *m, int64_t value)
{
    coulomb_snapshot_options o;
    coulomb_result *r;
    size_t n = 0;

    coulomb_options_init(&o, sizeof(o));
    o.where = coulomb_where(m->w->coll, "qty", COULOMB_EQ, coulomb_int(value));
    assert_non_null(o.where);
    OK(coulomb_snapshot(m->w->coll, &o, &r));
    for (int k = 0; k < KEYS; k++)
        n += visible(m, k) == value;
    assert_int_equal(coulomb_result_count(r), n);
    coulomb_result_free(r);
    coulomb_expr_free((coulomb_expr *)(uintptr_t)o.where);
}

/* Indexes against the naive rows. */
static void compare_index(struct model *m)
{
    int64_t from = rnd(m, 40);
    coulomb_expr *e =
        coulomb_and(coulomb_where(m->w->coll, "qty", COULOMB_GTE, coulomb_int(from)),
                    coulomb_where(m->w->coll, "qty", COULOMB_LT, coulomb_int(from + 10)));
    coulomb_snapshot_options o;
    coulomb_result *r;
    size_t n = 0;
    int64_t walk[2] = {-1, 0};

    assert_non_null(e);
    coulomb_options_init(&o, sizeof(o));
    o.where = e;
    OK(coulomb_snapshot(m->w->coll, &o, &r));
    for (int k = 0; k < KEYS; k++) {
        int64_t v = visible(m, k);

        if (v >= from && v < from + 10) {
            assert_true(n < coulomb_result_count(r));
            assert_int_equal(coulomb_row_key(coulomb_result_row(r, n)).i, k);
            n++;
        }
    }
    assert_int_equal(n, coulomb_result_count(r));
    coulomb_result_free(r);
    coulomb_expr_free(e);
    compare_hash(m, from);
    OK(coulomb_each(m->w->coll, count_row, walk));
    assert_int_equal(walk[1], coulomb_size(m->w->coll));
}

static void compare_replays(struct model *m)
{
    poll_all(m->w);
    for (int which = 0; which < 3; which++) {
        for (int k = 0; m->subs[which] && k < KEYS; k++) {
            int64_t v = visible(m, k);

            if (which == 1 && v != NONE && v % 2 != 0)
                v = NONE;
            if (which == 2 && m->replay[2][k] == NONE)
                continue; /* it may not have asked for it */
            assert_int_equal(m->replay[which][k], v);
        }
    }
}

/* --- Steps -------------------------------------------------------------------------------------- */

static struct naive_tx *pick(struct model *m, int state)
{
    int from = (int)rnd(m, TXS);

    for (int i = 0; i < TXS; i++) {
        struct naive_tx *t = &m->txs[(from + i) % TXS];

        if (t->state == state)
            return t;
    }
    return NULL;
}

static int keep_done(coulomb_tx *tx, coulomb_collection *coll, coulomb_completion *done,
                     void *arg)
{
    struct model *m = arg;

    (void)coll;
    for (int i = 0; i < TXS; i++) {
        if (m->txs[i].tx == tx)
            m->txs[i].done = done;
    }
    return COULOMB_PENDING;
}

static void naive_add(struct naive_tx *t, int key, int64_t after, int was_there)
{
    for (int i = 0; i < t->count; i++) {
        if (t->muts[i].key == key && !t->muts[i].dead) {
            /* An insert of the transaction's own that it deletes is gone. */
            if (after == NONE && !was_there)
                t->muts[i].dead = 1;
            t->muts[i].after = after;
            return;
        }
    }
    t->muts[t->count++] = (struct naive_mutation){key, after, 0, 0};
}

/* Whether the transaction itself made the row. */
static int own_insert(const struct naive_tx *t, int key)
{
    for (size_t i = 0; i < coulomb_tx_count(t->tx); i++) {
        coulomb_mutation mu;

        OK(coulomb_tx_mutation(t->tx, i, &mu));
        if (mu.key.i == key)
            return mu.type == COULOMB_INSERT;
    }
    return 0;
}

static void step_mutate(struct model *m, struct naive_tx *t)
{
    coulomb_mutate_options o = in_tx(t->tx);
    int key = (int)rnd(m, KEYS);
    int64_t now = visible(m, key);
    int64_t fresh = rnd(m, 50);
    int inserted;
    int code;

    if (t->count >= KEYS)
        return;
    if (now == NONE) {
        assert_int_equal(set_qty(m->w, key, fresh, &o, NULL),
                         COULOMB_E_UPDATE_KEY_NOT_FOUND);
        OK(insert(m->w, key, fresh, &o, NULL));
        naive_add(t, key, fresh, 1);
    } else if (rnd(m, 3) == 0) {
        inserted = own_insert(t, key);
        OK(erase(m->w, key, &o, NULL));
        naive_add(t, key, NONE, !inserted);
    } else {
        assert_int_equal(insert(m->w, key, fresh, &o, NULL), COULOMB_E_DUPLICATE_KEY);
        code = set_qty(m->w, key, fresh, &o, NULL);
        /* The row is another transaction's; this one deleted it. */
        assert_true(code == COULOMB_OK || code == COULOMB_E_MERGE);
        if (code == COULOMB_OK && fresh != now)
            naive_add(t, key, fresh, 1);
    }
}

static void step_tx(struct model *m)
{
    struct naive_tx *t = rnd(m, 2) ? pick(m, 1) : NULL;

    if (!t) {
        coulomb_tx_options o;

        t = pick(m, 0);
        if (!t)
            return;
        coulomb_options_init(&o, sizeof(o));
        o.persist = keep_done;
        o.persist_arg = m;
        o.no_autocommit = 1;
        memset(t, 0, sizeof(*t));
        t->gate_keys = o.gate_keys = rnd(m, 2) == 0;
        OK(coulomb_tx_new(m->w->c, &o, &t->tx));
        t->state = 1;
        t->order = ++m->order;
    }
    step_mutate(m, t);
}

/* One operation with its own transaction. */
static void step_direct(struct model *m)
{
    struct naive_tx *t = pick(m, 0);
    int key = (int)rnd(m, KEYS);
    int64_t now = visible(m, key);
    int64_t fresh = rnd(m, 50);

    if (!t || now == fresh)
        return;
    memset(t, 0, sizeof(*t));
    t->state = 2;
    t->direct = 1;
    t->order = ++m->order;
    m->w->answer = COULOMB_PENDING;
    if (now == NONE) {
        OK(insert(m->w, key, fresh, NULL, &t->tx));
        naive_add(t, key, fresh, 1);
    } else if (rnd(m, 3) == 0) {
        OK(erase(m->w, key, NULL, &t->tx));
        naive_add(t, key, NONE, 1);
    } else {
        OK(set_qty(m->w, key, fresh, NULL, &t->tx));
        naive_add(t, key, fresh, 1);
    }
}

static void step_commit(struct model *m)
{
    struct naive_tx *t = pick(m, 1);

    if (!t)
        return;
    OK(coulomb_tx_commit(t->tx));
    if (coulomb_tx_count(t->tx) == 0) {
        assert_int_equal(coulomb_tx_status(t->tx), COULOMB_TX_COMPLETED);
        t->state = 3;
    } else {
        t->state = 2;
    }
}

static void step_rollback(struct model *m)
{
    struct naive_tx *t = pick(m, 1 + (int)rnd(m, 2));

    if (!t)
        return;
    OK(coulomb_tx_rollback(t->tx));
    for (int i = 0; i < TXS; i++) {
        struct naive_tx *other = &m->txs[i];
        int shares = 0;

        for (int a = 0; a < t->count; a++) {
            for (int b = 0; b < other->count; b++)
                shares = shares || (t->muts[a].key == other->muts[b].key &&
                                    !t->muts[a].dead && !other->muts[b].dead);
        }
        if (other != t && other->state == 1 && shares) {
            assert_int_equal(coulomb_tx_status(other->tx), COULOMB_TX_FAILED);
            other->state = 3;
        }
    }
    naive_settle(m, t, 0);
}

static void step_answer(struct model *m)
{
    struct naive_tx *t = pick(m, 2);
    int completed = rnd(m, 4) != 0;
    coulomb_completion *done;

    if (!t)
        return;
    poll_all(m->w); /* the handler is called */
    done = t->done;
    if (!done)
        return;
    t->done = NULL;
    coulomb_complete(done, completed ? COULOMB_OK : COULOMB_E_FAILED, NULL);
    naive_settle(m, t, completed);
}

static void sync_ops(struct model *m, struct naive_sync *s)
{
    for (uint32_t n = rnd(m, 4); n > 0 && s->count < 30; n--) {
        int key = (int)rnd(m, KEYS);
        int64_t fresh = rnd(m, 50);

        if (rnd(m, 4) == 0) {
            OK(coulomb_sync_delete(m->w->sync, coulomb_key_int(key)));
            fresh = NONE;
        } else {
            coulomb_value values[3];

            row_values(values, key, "x", fresh);
            OK(coulomb_sync_update(m->w->sync, values, NULL, 0));
        }
        s->ops[s->count++] = (struct naive_op){key, fresh, 0};
    }
}

static void step_sync(struct model *m)
{
    struct naive_sync *s = m->queue_count > 0 ? &m->queue[m->queue_count - 1] : NULL;

    if (!s || !s->open) {
        if (m->queue_count == 16)
            return;
        s = &m->queue[m->queue_count++];
        memset(s, 0, sizeof(*s));
        s->open = 1;
        s->immediate = rnd(m, 5) == 0;
        OK(coulomb_sync_begin(m->w->sync, s->immediate ? COULOMB_SYNC_IMMEDIATE : 0));
    }
    if (rnd(m, 12) == 0) {
        OK(coulomb_sync_truncate(m->w->sync));
        s->truncate = 1;
        s->count = 0;
        for (int k = 0; k < KEYS; k++)
            m->in_truncate[k] = m->kept[k].has;
    }
    sync_ops(m, s);
    if (rnd(m, 3) != 0) {
        OK(coulomb_sync_commit(m->w->sync));
        s->open = 0;
        naive_flush(m);
    }
}

static void step_subscribe(struct model *m)
{
    int which = (int)rnd(m, 3);

    if (m->subs[which] && rnd(m, 3) == 0) {
        coulomb_unsubscribe(m->subs[which]);
        m->subs[which] = NULL;
    } else if (!m->subs[which]) {
        subscribe_one(m, which);
    }
}

/* The third asks for a page, or for everything, which it then has. */
static void step_request(struct model *m)
{
    static const coulomb_order order = {"qty", 0, 0};
    coulomb_value from = coulomb_int(rnd(m, 50));
    coulomb_page_options o;

    if (!m->subs[2])
        return;
    if (rnd(m, 4) == 0) {
        OK(coulomb_sub_request(m->subs[2], NULL, NULL));
        poll_all(m->w);
        for (int k = 0; k < KEYS; k++)
            assert_int_equal(m->replay[2][k], visible(m, k));
        return;
    }
    coulomb_options_init(&o, sizeof(o));
    o.order = &order;
    o.order_count = 1;
    o.limit = 1 + rnd(m, 3);
    o.from = rnd(m, 2) ? &from : NULL;
    o.from_count = 1;
    OK(coulomb_sub_page(m->subs[2], &o, NULL));
}

static void free_gone(struct model *m)
{
    for (int i = 0; i < TXS; i++) {
        if (m->txs[i].state == 3) {
            if (m->txs[i].done)
                coulomb_complete(m->txs[i].done, COULOMB_OK, NULL);
            m->txs[i].done = NULL;
            coulomb_tx_release(m->txs[i].tx);
            memset(&m->txs[i], 0, sizeof(m->txs[i]));
        }
    }
}

static void step(struct model *m)
{
    switch (rnd(m, 11)) {
    case 0:
    case 1:
    case 2:
        step_tx(m);
        break;
    case 3:
        step_direct(m);
        break;
    case 4:
        step_commit(m);
        break;
    case 5:
        step_rollback(m);
        break;
    case 6:
        step_answer(m);
        break;
    case 7:
    case 8:
        step_sync(m);
        break;
    case 9:
        step_request(m);
        break;
    default:
        step_subscribe(m);
        break;
    }
    compare_states(m);
    if (rnd(m, 3) == 0)
        compare_replays(m);
    if (rnd(m, 8) == 0)
        compare_index(m);
    free_gone(m);
}

/* The world's handlers answer to the model. */
static struct world *model_world(struct model *m)
{
    struct world *w = calloc(1, sizeof(*w));
    coulomb_client_options o;
    coulomb_collection_options co;

    assert_non_null(w);
    coulomb_options_init(&o, sizeof(o));
    o.allocator = (coulomb_allocator){world_realloc, world_free, &w->heap};
    OK(coulomb_client_open(&o, &w->c));
    co = world_options(w);
    co.on_insert = co.on_update = co.on_delete = keep_done;
    co.handler_arg = m;
    co.gc_time_ms = COULOMB_NEVER;
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_HASH, NULL));
    return w;
}

static size_t number_of(const char *name, size_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 10) : otherwise;
}

static void run(uint64_t seed, size_t steps)
{
    struct model *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    m->rng = seed;
    m->w = model_world(m);
    for (int k = 0; k < KEYS; k++)
        m->synced[k] = NONE;
    for (m->step = 0; m->step < steps; m->step++)
        step(m);
    compare_replays(m);
    for (int i = 0; i < TXS; i++) {
        if (m->txs[i].state != 0)
            m->txs[i].state = 3;
    }
    for (int which = 0; which < 3; which++)
        coulomb_unsubscribe(m->subs[which]);
    free_gone(m);
    world_close(m->w);
    free(m);
}

static void random_interleavings_equal_recomputation(void **state)
{
    size_t seed = number_of("CLIENT_SEED", 1);
    size_t steps = number_of("CLIENT_STEPS", 100000);
    size_t runs = 10;

    (void)state;
    for (size_t i = 0; i < runs; i++) {
        print_message("seed %zu, %zu steps\n", seed + i, steps / runs);
        run(seed + i, steps / runs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_interleavings_equal_recomputation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
