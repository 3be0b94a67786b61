/* Behaviours B (paced) of tests/CLIENT.md. */
#include "support/client.h"

struct vars {
    struct world *w;
    int64_t id;
    int code;
};

/* --- B: paced ------------------------------------------------------------------------------------ */

static int bump(coulomb_tx *tx, void *vars)
{
    struct vars *v = vars;

    (void)tx;
    if (!coulomb_has(v->w->coll, coulomb_key_int(v->id)))
        return insert(v->w, v->id, v->code, NULL, NULL);
    return set_qty(v->w, v->id, v->code, NULL, NULL);
}

static coulomb_paced *paced(struct world *w, coulomb_paced_options o)
{
    coulomb_paced *p;

    o.on_mutate = bump;
    o.persist = world_persist;
    o.persist_arg = w;
    OK(coulomb_paced_new(w->c, &o, &p));
    return p;
}

static coulomb_paced_options pace(coulomb_strategy s, int64_t wait_ms)
{
    coulomb_paced_options o;

    coulomb_options_init(&o, sizeof(o));
    o.strategy = s;
    o.wait_ms = wait_ms;
    return o;
}

static coulomb_tx *call(coulomb_paced *p, struct world *w, int64_t id, int q)
{
    struct vars v = {w, id, q};
    coulomb_tx *tx;

    OK(coulomb_paced_call(p, &v, &tx));
    assert_int_equal(qty(w, id), q);
    coulomb_tx_release(tx); /* the paced function holds it */
    return tx;
}

static void b1_b2_debounce_waits_for_quiet(void **state)
{
    struct world *w = world_open();
    coulomb_paced *p = paced(w, pace(COULOMB_DEBOUNCE, 100));
    coulomb_tx *tx;

    (void)state;
    tx = call(p, w, 1, 1);
    pass(w, 99);
    assert_ptr_equal(call(p, w, 1, 2), tx);
    pass(w, 99);
    assert_int_equal(w->handled, 0);
    assert_int_equal(coulomb_next_deadline(w->c), w->now_ms + 1);
    pass(w, 1);
    assert_int_equal(w->handled, 1);
    assert_ptr_equal(w->last_tx, tx);
    assert_int_equal(coulomb_tx_count(tx), 1);
    coulomb_paced_free(p);
    world_close(w);
}

static void b3_leading_debounce_commits_the_first(void **state)
{
    struct world *w = world_open();
    coulomb_paced_options o = pace(COULOMB_DEBOUNCE, 100);
    coulomb_paced *p;

    (void)state;
    o.leading = o.trailing = 1;
    p = paced(w, o);
    call(p, w, 1, 1);
    poll_all(w);
    assert_int_equal(w->handled, 1);
    pass(w, 100); /* a single call fires once */
    assert_int_equal(w->handled, 1);
    call(p, w, 2, 1);
    call(p, w, 3, 1);
    poll_all(w);
    assert_int_equal(w->handled, 2);
    pass(w, 99);
    assert_int_equal(w->handled, 2);
    pass(w, 1);
    assert_int_equal(w->handled, 3);
    coulomb_paced_free(p);
    world_close(w);
}

static void b4_throttle_is_at_once_then_gathers(void **state)
{
    struct world *w = world_open();
    coulomb_paced *p = paced(w, pace(COULOMB_THROTTLE, 100));
    coulomb_tx *second;

    (void)state;
    call(p, w, 1, 1);
    poll_all(w);
    assert_int_equal(w->handled, 1);
    pass(w, 10);
    second = call(p, w, 2, 1);
    assert_ptr_equal(call(p, w, 3, 1), second);
    pass(w, 89);
    assert_int_equal(w->handled, 1);
    pass(w, 1);
    assert_int_equal(w->handled, 2);
    assert_int_equal(coulomb_tx_count(w->last_tx), 2);
    coulomb_paced_free(p);
    world_close(w);
}

static void b5_throttle_without_leading_waits_from_the_first_call(void **state)
{
    struct world *w = world_open();
    coulomb_paced_options o = pace(COULOMB_THROTTLE, 100);
    coulomb_paced *p;

    (void)state;
    o.trailing = 1;
    p = paced(w, o);
    call(p, w, 1, 1);
    pass(w, 99);
    assert_int_equal(w->handled, 0);
    pass(w, 1);
    assert_int_equal(w->handled, 1);
    coulomb_paced_free(p);
    world_close(w);
}

static void b6_the_queue_is_strictly_in_order(void **state)
{
    struct world *w = world_open();
    coulomb_paced *p = paced(w, pace(COULOMB_QUEUE, 50));

    (void)state;
    call(p, w, 1, 1);
    call(p, w, 2, 1);
    call(p, w, 3, 1);
    pass(w, 500);
    assert_int_equal(w->handled, 1); /* the second waits for the first's answer */
    answer(w, 0, COULOMB_OK);
    pass(w, 0);
    assert_int_equal(w->handled, 2);
    answer(w, 1, COULOMB_OK);
    pass(w, 49); /* and for wait_ms after the second was taken */
    assert_int_equal(w->handled, 2);
    pass(w, 1);
    assert_int_equal(w->handled, 3);
    coulomb_paced_free(p);
    world_close(w);
}

static void b7_the_queue_goes_on_after_an_error(void **state)
{
    struct world *w = world_open();
    coulomb_paced_options o = pace(COULOMB_QUEUE, 0);
    coulomb_paced *p;
    struct vars v = {w, 9, 1};

    (void)state;
    o.queue_max = 1;
    p = paced(w, o);
    call(p, w, 1, 1);
    call(p, w, 2, 1);
    assert_int_equal(coulomb_paced_call(p, &v, NULL), COULOMB_E_QUEUE_FULL);
    assert_int_equal(qty(w, 9), -2);
    poll_all(w);
    answer(w, 0, COULOMB_E_FAILED);
    poll_all(w);
    assert_int_equal(w->handled, 2);
    answer(w, 1, COULOMB_OK);
    coulomb_paced_free(p);
    world_close(w);
}

static void b3_leading_alone_leaves_the_rest_to_the_next_burst(void **state)
{
    struct world *w = world_open();
    coulomb_paced_options o = pace(COULOMB_DEBOUNCE, 100);
    coulomb_paced *p;

    (void)state;
    o.leading = 1;
    p = paced(w, o);
    call(p, w, 1, 1);
    call(p, w, 2, 1);
    pass(w, 1000);
    assert_int_equal(w->handled, 1);
    assert_int_equal(qty(w, 2), 1); /* seen, and not committed */
    call(p, w, 3, 1);
    poll_all(w);
    assert_int_equal(w->handled, 2);
    assert_int_equal(coulomb_tx_count(w->last_tx), 2);
    coulomb_paced_free(p);
    world_close(w);
}

static void b4_a_throttle_that_leads_alone(void **state)
{
    struct world *w = world_open();
    coulomb_paced_options o = pace(COULOMB_THROTTLE, 100);
    coulomb_paced *p;

    (void)state;
    o.leading = 1;
    p = paced(w, o);
    call(p, w, 1, 1);
    pass(w, 50);
    call(p, w, 2, 1);
    pass(w, 1000);
    assert_int_equal(w->handled, 1);
    call(p, w, 3, 1);
    poll_all(w);
    assert_int_equal(w->handled, 2);
    assert_int_equal(coulomb_tx_count(w->last_tx), 2);
    coulomb_paced_free(p);
    world_close(w);
}

/* The order in which five calls are committed; the first is taken at once. */
static void queue_order(int to_front, int from_back, const int64_t want[5])
{
    struct world *w = world_open();
    coulomb_paced_options o = pace(COULOMB_QUEUE, 0);
    coulomb_paced *p;

    o.add_to_front = to_front;
    o.take_from_back = from_back;
    p = paced(w, o);
    for (int64_t i = 1; i <= 5; i++)
        call(p, w, i, 1);
    for (size_t i = 0; i < 5; i++) {
        coulomb_mutation m;

        poll_all(w);
        assert_int_equal(w->handled, i + 1);
        OK(coulomb_tx_mutation(w->last_tx, 0, &m));
        assert_int_equal(m.key.i, want[i]);
        answer(w, i, COULOMB_OK);
    }
    coulomb_paced_free(p);
    world_close(w);
}

static void b6_front_and_back(void **state)
{
    static const int64_t fifo[] = {1, 2, 3, 4, 5};
    static const int64_t lifo[] = {1, 5, 4, 3, 2};

    (void)state;
    queue_order(0, 0, fifo);
    queue_order(1, 0, lifo);
    queue_order(0, 1, lifo);
    queue_order(1, 1, fifo);
}

/* Freeing commits nothing and takes nothing back. */
static void freeing_stops(void **state)
{
    static const coulomb_strategy strategies[] = {COULOMB_DEBOUNCE, COULOMB_THROTTLE,
                                                  COULOMB_QUEUE};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct world *w = world_open();
        coulomb_paced_options o = pace(strategies[i], 100);
        struct vars v = {w, 1, 1};
        coulomb_paced *p;
        coulomb_tx *tx;

        o.trailing = 1;
        p = paced(w, o);
        OK(coulomb_paced_call(p, &v, &tx));
        if (strategies[i] == COULOMB_QUEUE) { /* the first was taken; one more waits */
            coulomb_tx_release(tx);
            v.id = 2;
            OK(coulomb_paced_call(p, &v, &tx));
        }
        coulomb_paced_free(p);
        pass(w, 1000);
        assert_int_equal(w->handled, strategies[i] == COULOMB_QUEUE);
        assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_PENDING);
        assert_int_equal(qty(w, v.id), 1);
        OK(coulomb_tx_rollback(tx));
        assert_int_equal(qty(w, v.id), -2);
        coulomb_tx_release(tx);
        world_close(w);
    }
}

static void b8_a_failed_call_is_taken_back(void **state)
{
    struct world *w = world_open();
    coulomb_paced *p = paced(w, pace(COULOMB_DEBOUNCE, 10));
    struct vars v = {w, 1, 1};
    coulomb_tx *tx;

    (void)state;
    OK(coulomb_paced_call(p, &v, &tx));
    pass(w, 10);
    answer(w, 0, COULOMB_E_FAILED);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_FAILED);
    assert_int_equal(qty(w, 1), -2);
    coulomb_tx_release(tx);
    coulomb_paced_free(p);
    world_close(w);
}

static void b9_same_keys_merge_and_others_gather(void **state)
{
    struct world *w = world_open();
    coulomb_paced *p = paced(w, pace(COULOMB_DEBOUNCE, 10));
    coulomb_tx *tx;

    (void)state;
    tx = call(p, w, 1, 1);
    call(p, w, 1, 2);
    call(p, w, 2, 1);
    assert_int_equal(coulomb_tx_count(tx), 2);
    pass(w, 10);
    assert_int_equal(w->handled, 1);
    coulomb_paced_free(p);
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b1_b2_debounce_waits_for_quiet),
        cmocka_unit_test(b3_leading_debounce_commits_the_first),
        cmocka_unit_test(b4_throttle_is_at_once_then_gathers),
        cmocka_unit_test(b5_throttle_without_leading_waits_from_the_first_call),
        cmocka_unit_test(b6_the_queue_is_strictly_in_order),
        cmocka_unit_test(b7_the_queue_goes_on_after_an_error),
        cmocka_unit_test(b3_leading_alone_leaves_the_rest_to_the_next_burst),
        cmocka_unit_test(b4_a_throttle_that_leads_alone),
        cmocka_unit_test(b6_front_and_back),
        cmocka_unit_test(freeing_stops),
        cmocka_unit_test(b8_a_failed_call_is_taken_back),
        cmocka_unit_test(b9_same_keys_merge_and_others_gather),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
