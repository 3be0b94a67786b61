/* COULOMB_COMPAT_TANSTACK: the quirks of TanStack DB that it brings back, each beside what the library
 * does without it (section 13 of the specification). */
#include "support/client.h"

struct keys {
    int64_t items[16];
    size_t count;
};

static int collect(const coulomb_row *row, void *arg)
{
    struct keys *k = arg;

    k->items[k->count++] = coulomb_row_key(row).i;
    return 0;
}

static void keys_are(struct world *w, const int64_t *want, size_t count)
{
    struct keys k = {{0}, 0};
    coulomb_result *r;

    OK(coulomb_each(w->coll, collect, &k));
    OK(coulomb_snapshot(w->coll, NULL, &r));
    assert_int_equal(k.count, count);
    assert_int_equal(coulomb_result_count(r), count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(k.items[i], want[i]);
        assert_int_equal(coulomb_row_key(coulomb_result_row(r, i)).i, want[i]);
    }
    coulomb_result_free(r);
}

static void unsynced_inserts_are_read_last(void **state)
{
    static const int64_t ours[] = {0, 2, 3, 4, 5, 6};
    static const int64_t theirs[] = {3, 5, 6, 4, 0, 2};

    (void)state;
    for (int compat = 0; compat < 2; compat++) {
        struct world *w = world_open_with(compat ? COULOMB_COMPAT_TANSTACK : 0);
        coulomb_tx *tx = explicit_tx(w);
        coulomb_mutate_options o = in_tx(tx);

        synced(w, 1, 1);
        synced(w, 3, 1);
        synced(w, 5, 1);
        OK(insert(w, 4, 1, &o, NULL));
        OK(insert(w, 0, 1, &o, NULL));
        OK(insert(w, 2, 1, NULL, NULL));
        OK(set_qty(w, 4, 9, &o, NULL)); /* keeps its place */
        OK(set_qty(w, 3, 9, NULL, NULL));
        OK(erase(w, 1, NULL, NULL));
        OK(insert(w, 6, 1, NULL, NULL));
        poll_all(w);
        answer(w, w->open_count - 1, COULOMB_OK); /* of 6: kept of a completed one */
        keys_are(w, compat ? theirs : ours, 6);
        OK(coulomb_tx_rollback(tx));
        coulomb_tx_release(tx);
        world_close(w);
    }
}

static void a_deletes_original(void **state)
{
    (void)state;
    for (int compat = 0; compat < 2; compat++) {
        struct world *w = world_open_with(compat ? COULOMB_COMPAT_TANSTACK : 0);
        coulomb_tx *tx = explicit_tx(w);
        coulomb_mutate_options o = in_tx(tx);
        coulomb_mutation m;

        synced(w, 1, 1);
        OK(set_qty(w, 1, 5, &o, NULL));
        OK(erase(w, 1, &o, NULL));
        OK(coulomb_tx_mutation(tx, 0, &m));
        assert_int_equal(m.type, COULOMB_DELETE);
        assert_int_equal(coulomb_row_int(m.original, "qty", 0), compat ? 5 : 1);
        assert_int_equal(m.key.i, 1);
        OK(coulomb_tx_rollback(tx));
        coulomb_tx_release(tx);
        world_close(w);
    }
}

static int insert_next(coulomb_tx *tx, void *vars)
{
    struct world *w = vars;

    (void)tx;
    return insert(w, (int64_t)coulomb_size(w->coll), 1, NULL, NULL);
}

static void a_throttle_that_trails(void **state)
{
    (void)state;
    for (int compat = 0; compat < 2; compat++) {
        struct world *w = world_open_with(compat ? COULOMB_COMPAT_TANSTACK : 0);
        coulomb_paced_options o;
        coulomb_paced *p;

        coulomb_options_init(&o, sizeof(o));
        o.strategy = COULOMB_THROTTLE;
        o.wait_ms = 100;
        o.trailing = 1;
        o.on_mutate = insert_next;
        o.persist = world_persist;
        o.persist_arg = w;
        OK(coulomb_paced_new(w->c, &o, &p));
        OK(coulomb_paced_call(p, w, NULL));
        poll_all(w);
        assert_int_equal(w->handled, compat);
        OK(coulomb_paced_call(p, w, NULL));
        pass(w, 99);
        assert_int_equal(w->handled, compat);
        pass(w, 1);
        assert_int_equal(w->handled, compat + 1);
        coulomb_paced_free(p);
        world_close(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsynced_inserts_are_read_last),
        cmocka_unit_test(a_deletes_original),
        cmocka_unit_test(a_throttle_that_trails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
