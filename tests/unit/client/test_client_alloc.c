/* The n-th allocation of a scenario fails, for every n: the call says so, nothing is half done, what
 * was asked again works, and in the end nothing is live. */
#include "support/client.h"

/* Calls until it is done: what failed for memory may be asked again. */
#define TRY(w, call)                                                                     \
    do {                                                                                 \
        int code_;                                                                       \
        int tries_ = 0;                                                                  \
        do                                                                               \
            code_ = (call);                                                              \
        while (code_ == COULOMB_E_MEMORY && tries_++ < 4);                               \
        if (code_ < 0)                                                                   \
            print_error("%s: %s\n", #call, coulomb_error_name(code_));                   \
        assert_true(code_ >= 0);                                                         \
    } while (0)

static void drain(struct world *w)
{
    for (int i = 0; i < 50 && coulomb_pending(w->c); i++) {
        int code = coulomb_poll(w->c);

        assert_true(code >= 0 || code == COULOMB_E_MEMORY);
    }
}

/* What the subscription heard, folded; it has to be what is visible. */
static void check_heard(struct world *w)
{
    int64_t state[16];

    for (int i = 0; i < 16; i++)
        state[i] = -2;
    for (size_t i = 0; i < w->heard.count; i++) {
        const struct recorded *r = &w->heard.items[i];

        if (r->type == COULOMB_INSERT)
            assert_int_equal(state[r->key], -2);
        else
            assert_int_not_equal(state[r->key], -2);
        state[r->key] = r->type == COULOMB_DELETE ? -2 : r->qty;
    }
    for (int i = 0; i < 16; i++)
        assert_int_equal(state[i], qty(w, i));
}

static int open_world(struct world *w, size_t fail_at)
{
    int code;

    memset(w, 0, sizeof(*w));
    w->answer = COULOMB_PENDING;
    w->heap.fail_at = fail_at;
    code = world_try(w);
    if (code ==
        COULOMB_E_MEMORY) { /* opening is not asked again: everything is given back */
        coulomb_sync_release(w->sync);
        coulomb_collection_release(w->coll);
        coulomb_client_close(w->c);
        assert_int_equal(w->heap.live, 0);
        return 0;
    }
    OK(code);
    return 1;
}

static int bump_qty(coulomb_draft *d, size_t index, void *arg)
{
    (void)index;
    (void)arg;
    return coulomb_draft_set(d, "qty", coulomb_int(coulomb_draft_get(d, "qty").v.i + 1));
}

static void sync_some(struct world *w)
{
    coulomb_value v[3];

    TRY(w, coulomb_sync_begin(w->sync, 0));
    for (int64_t i = 8; i < 16; i++) {
        row_values(v, i, "text that takes bytes", i);
        TRY(w, coulomb_sync_insert(w->sync, v, "m", 1));
    }
    TRY(w, coulomb_sync_delete(w->sync, coulomb_key_int(15)));
    TRY(w, coulomb_sync_meta_set(w->sync, "offset", "1", 1));
    TRY(w, coulomb_sync_commit(w->sync));
}

static void subscribe_some(struct world *w)
{
    coulomb_sub_options o;
    coulomb_snapshot_options so;
    coulomb_result *r;
    coulomb_expr *e = NULL;

    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_ROWS;
    TRY(w, coulomb_subscribe(w->coll, &o, hear, &w->heard, &w->sub));
    TRY(w, coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
    for (int i = 0; i < 4 && !e; i++)
        e = coulomb_and(coulomb_where(w->coll, "qty", COULOMB_GT, coulomb_int(3)),
                        coulomb_where(w->coll, "name", COULOMB_GT, coulomb_text("a")));
    assert_non_null(e);
    coulomb_options_init(&so, sizeof(so));
    so.where = e;
    TRY(w, coulomb_snapshot(w->coll, &so, &r));
    coulomb_result_free(r);
    coulomb_expr_free(e);
}

static void mutate_some(struct world *w)
{
    coulomb_tx_options to;
    coulomb_mutate_options o;
    coulomb_tx *tx;
    coulomb_key keys[2] = {coulomb_key_int(8), coulomb_key_int(9)};

    coulomb_options_init(&to, sizeof(to));
    to.persist = world_persist;
    to.persist_arg = w;
    to.no_autocommit = 1;
    TRY(w, coulomb_tx_new(w->c, &to, &tx));
    o = in_tx(tx);
    o.metadata = "meta";
    o.metadata_len = 4;
    TRY(w, insert(w, 1, 1, &o, NULL));
    TRY(w, coulomb_update_many(w->coll, keys, 2, bump_qty, NULL, &o, NULL));
    TRY(w, erase(w, 10, &o, NULL));
    TRY(w, set_qty(w, 1, 2, &o, NULL));
    TRY(w, coulomb_tx_commit(tx));
    TRY(w, insert(w, 2, 2, NULL, NULL));
    coulomb_tx_release(tx);
    drain(w);
}

static void answer_all(struct world *w)
{
    for (size_t i = 0; i < w->open_count; i++) {
        if (w->open[i])
            answer(w, i, i % 2 == 0 ? COULOMB_OK : COULOMB_E_FAILED);
    }
    drain(w);
}

static void scenario(struct world *w)
{
    sync_some(w);
    subscribe_some(w);
    drain(w);
    mutate_some(w);
    TRY(w, coulomb_sync_begin(w->sync, 0)); /* waits for the answers */
    TRY(w, sync_patch(w, 1, 2));
    TRY(w, coulomb_sync_commit(w->sync));
    answer_all(w);
    check_heard(w);
    TRY(w, coulomb_sync_begin(w->sync, 0));
    TRY(w, coulomb_sync_truncate(w->sync));
    TRY(w, sync_row(w, 3, "x", 3));
    TRY(w, coulomb_sync_commit(w->sync));
    drain(w);
    check_heard(w);
    assert_int_equal(qty(w, 3), 3);
    TRY(w, coulomb_collection_cleanup(w->coll));
    drain(w);
    assert_int_equal(coulomb_size(w->coll), 0);
}

static void every_allocation_of_a_scenario_fails_once(void **state)
{
    size_t n = 1;
    int failed = 1;

    (void)state;
    for (; failed; n++) {
        struct world *w = malloc(sizeof(*w));

        assert_non_null(w);
        if (open_world(w, n)) {
            scenario(w);
            failed = w->heap.failed;
            world_close(w);
        } else {
            free(w);
        }
        assert_true(n < 5000);
    }
    print_message("%zu allocations\n", n);
    assert_true(n > 100);
}

static int paced_insert(coulomb_tx *tx, void *vars)
{
    struct world *w = vars;

    (void)tx;
    return insert(w, (int64_t)coulomb_size(w->coll), 1, NULL, NULL);
}

static void every_allocation_of_paced_functions_fails_once(void **state)
{
    int failed = 1;

    (void)state;
    for (size_t n = 1; failed; n++) {
        struct world *w = malloc(sizeof(*w));
        coulomb_paced_options o;
        coulomb_paced *p;

        assert_non_null(w);
        if (!open_world(w, n)) {
            free(w);
            continue;
        }
        coulomb_options_init(&o, sizeof(o));
        o.strategy = n % 2 ? COULOMB_QUEUE : COULOMB_DEBOUNCE;
        o.on_mutate = paced_insert;
        o.persist = world_persist;
        o.persist_arg = w;
        TRY(w, coulomb_paced_new(w->c, &o, &p));
        for (int i = 0; i < 3; i++)
            TRY(w, coulomb_paced_call(p, w, NULL));
        drain(w);
        answer_all(w);
        failed = w->heap.failed;
        coulomb_paced_free(p);
        world_close(w);
        assert_true(n < 2000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_of_a_scenario_fails_once),
        cmocka_unit_test(every_allocation_of_paced_functions_fails_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
