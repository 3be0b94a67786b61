/* Sync and transactions that are being persisted: the gate of keys (section 9 of the specification),
 * and who holds back what after a clean-up. */
#include "support/client.h"

static struct world *gate_world(void)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);

    co.gate_keys = 1;
    coulomb_collection_release(w->coll);
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
    return w;
}

static coulomb_tx *gating_tx(struct world *w)
{
    coulomb_tx_options o;
    coulomb_tx *tx;

    coulomb_options_init(&o, sizeof(o));
    o.persist = world_persist;
    o.persist_arg = w;
    o.no_autocommit = 1;
    o.gate_keys = 1;
    OK(coulomb_tx_new(w->c, &o, &tx));
    return tx;
}

static void sync_two(struct world *w, int64_t a, int64_t b, int64_t q)
{
    OK(coulomb_sync_begin(w->sync, 0));
    OK(sync_patch(w, a, q));
    OK(sync_patch(w, b, q));
    OK(coulomb_sync_commit(w->sync));
}

static void other_rows_are_seen_meanwhile(void **state)
{
    (void)state;
    for (int direct = 0; direct < 2; direct++) {
        struct world *w = direct ? gate_world() : world_open();
        coulomb_tx *tx = direct ? NULL : gating_tx(w);
        coulomb_mutate_options o = in_tx(tx);

        synced(w, 1, 1);
        OK(set_qty(w, 1, 5, &o, NULL));
        if (tx)
            OK(coulomb_tx_commit(tx));
        poll_all(w);
        synced(w, 99, 1);
        assert_int_equal(qty(w, 99), 1);
        sync_two(w, 98, 1, 7); /* names the row: waits, whole */
        assert_int_equal(qty(w, 98), -2);
        assert_int_equal(qty(w, 1), 5);
        sync_two(w, 99, 97, 8); /* and so does what follows, though it names others */
        assert_int_equal(qty(w, 97), -2);
        assert_int_equal(qty(w, 99), 1);
        answer(w, 0, COULOMB_OK);
        assert_int_equal(qty(w, 1), 7);
        assert_int_equal(qty(w, 98), 7);
        assert_int_equal(qty(w, 99), 8);
        coulomb_tx_release(tx);
        world_close(w);
    }
}

/* What comes to light is what it may be: one transaction ends, the other's rows wait on. */
static void each_opens_its_own_gate(void **state)
{
    struct world *w = gate_world();

    (void)state;
    watch(w, COULOMB_INITIAL_ROWS);
    OK(insert(w, 1, 1, NULL, NULL));
    OK(insert(w, 2, 1, NULL, NULL));
    poll_all(w);
    synced(w, 1, 1);
    synced(w, 2, 1);
    synced(w, 3, 1);
    answer(w, 0, COULOMB_OK);
    assert_int_equal(qty(w, 3), -2);
    poll_all(w);
    assert_int_equal(w->heard.count, 3);
    expect(w, 2, COULOMB_UPDATE, 1, 1);
    assert_true(w->heard.items[2].meta.synced);
    answer(w, 1, COULOMB_E_FAILED);
    assert_int_equal(qty(w, 2), 1); /* the server has it nevertheless */
    assert_int_equal(qty(w, 3), 1);
    poll_all(w);
    expect(w, 3, COULOMB_UPDATE, 2, 1);
    expect(w, 4, COULOMB_INSERT, 3, 1);
    assert_int_equal(w->heard.count, 5);
    world_close(w);
}

static int update_first(coulomb_tx *tx, void *vars)
{
    (void)tx;
    return set_qty(vars, 1, 5, NULL, NULL);
}

/* Actions and paced functions say so, too. */
static void whoever_makes_the_transaction(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        struct world *w = world_open();
        int gates = how & 1;
        coulomb_paced *p = NULL;

        synced(w, 1, 1);
        if (how < 2) {
            coulomb_action a;

            coulomb_options_init(&a, sizeof(a));
            a.on_mutate = update_first;
            a.persist = world_persist;
            a.gate_keys = gates;
            OK(coulomb_action_run(w->c, &a, w, NULL));
        } else {
            coulomb_paced_options o;

            coulomb_options_init(&o, sizeof(o));
            o.strategy = COULOMB_QUEUE;
            o.on_mutate = update_first;
            o.persist = world_persist;
            o.persist_arg = w;
            o.gate_keys = gates;
            OK(coulomb_paced_new(w->c, &o, &p));
            OK(coulomb_paced_call(p, w, NULL));
        }
        poll_all(w);
        synced(w, 99, 1);
        assert_int_equal(qty(w, 99), gates ? 1 : -2);
        coulomb_paced_free(p);
        world_close(w);
    }
}

static void immediate_and_truncating_ones_do_not_wait(void **state)
{
    (void)state;
    for (int truncate = 0; truncate < 2; truncate++) {
        struct world *w = gate_world();

        synced(w, 1, 1);
        OK(set_qty(w, 1, 5, NULL, NULL));
        poll_all(w);
        sync_two(w, 1, 2, 7);
        assert_int_equal(qty(w, 2), -2);
        OK(coulomb_sync_begin(w->sync, truncate ? 0 : COULOMB_SYNC_IMMEDIATE));
        if (truncate)
            OK(coulomb_sync_truncate(w->sync));
        OK(sync_row(w, 3, "x", 3));
        OK(coulomb_sync_commit(w->sync));
        assert_int_equal(qty(w, 1), 5);
        assert_int_equal(qty(w, 2), truncate ? -2 : 7);
        assert_int_equal(qty(w, 3), 3);
        world_close(w);
    }
}

/* Where sync is must not get ahead of the rows. */
static void metadata_waits_in_order(void **state)
{
    struct world *w = gate_world();
    const void *value;
    size_t len;

    (void)state;
    OK(insert(w, 1, 1, NULL, NULL));
    poll_all(w);
    synced(w, 1, 1);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_meta_set(w->sync, "offset", "9", 1));
    OK(coulomb_sync_commit(w->sync));
    OK(coulomb_sync_meta_get(w->sync, "offset", &value, &len));
    assert_null(value);
    answer(w, 0, COULOMB_OK);
    OK(coulomb_sync_meta_get(w->sync, "offset", &value, &len));
    assert_non_null(value);
    world_close(w);
}

static void a_row_that_is_not_optimistic_gates_too(void **state)
{
    struct world *w = gate_world();
    coulomb_mutate_options o = in_tx(NULL);

    (void)state;
    o.not_optimistic = 1;
    OK(insert(w, 1, 1, &o, NULL));
    poll_all(w);
    synced(w, 1, 2);
    assert_int_equal(qty(w, 1), -2);
    answer(w, 0, COULOMB_OK);
    assert_int_equal(qty(w, 1), 2);
    world_close(w);
}

/* A transaction of before the clean-up settles: what is persisted now still holds sync back. */
static void gates_of_before_a_clean_up_are_gone(void **state)
{
    (void)state;
    for (int keys = 0; keys < 2; keys++) {
        struct world *w = keys ? gate_world() : world_open();

        OK(insert(w, 1, 1, NULL, NULL));
        poll_all(w);
        OK(coulomb_collection_cleanup(w->coll));
        OK(coulomb_collection_start(w->coll));
        poll_all(w);
        synced(w, 5, 1);
        assert_int_equal(qty(w, 5), 1);
        OK(insert(w, 2, 1, NULL, NULL));
        poll_all(w);
        answer(w, 0, COULOMB_OK); /* of the first */
        synced(w, 2, 9);
        assert_int_equal(qty(w, 2), 1);
        answer(w, 1, COULOMB_OK);
        assert_int_equal(qty(w, 2), 9);
        world_close(w);
    }
}

/* An answer that finds no memory changes nothing: the gate stays, and opens with the next try. */
static void a_gate_survives_an_answer_without_memory(void **state)
{
    int failed = 1;

    (void)state;
    for (size_t n = 1; failed; n++) {
        struct world *w = gate_world();

        watch(w, COULOMB_INITIAL_ROWS);
        OK(insert(w, 1, 1, NULL, NULL));
        poll_all(w);
        sync_two(w, 1, 2, 2);
        w->heap.calls = 0;
        w->heap.fail_at = n;
        answer(w, 0, COULOMB_OK);
        failed = w->heap.failed;
        w->heap.fail_at = 0;
        assert_int_equal(qty(w, 1), failed ? 1 : 2);
        if (failed) {
            sync_two(w, 3, 4, 2);
            assert_int_equal(coulomb_size(w->coll), 1);
        }
        poll_all(w);
        assert_int_equal(qty(w, 1), 2);
        assert_int_equal(coulomb_size(w->coll), failed ? 4 : 2);
        world_close(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_rows_are_seen_meanwhile),
        cmocka_unit_test(each_opens_its_own_gate),
        cmocka_unit_test(whoever_makes_the_transaction),
        cmocka_unit_test(immediate_and_truncating_ones_do_not_wait),
        cmocka_unit_test(metadata_waits_in_order),
        cmocka_unit_test(a_row_that_is_not_optimistic_gates_too),
        cmocka_unit_test(gates_of_before_a_clean_up_are_gone),
        cmocka_unit_test(a_gate_survives_an_answer_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
