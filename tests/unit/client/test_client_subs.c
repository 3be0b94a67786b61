/* Behaviours E (subscriptions, virtual properties) of tests/CLIENT.md. */
#include "support/client.h"

static void commit_row(struct world *w, int64_t id, int64_t q)
{
    OK(coulomb_sync_begin(w->sync, 0));
    OK(sync_patch(w, id, q));
    OK(coulomb_sync_commit(w->sync));
}

/* --- E: subscriptions ------------------------------------------------------------------------------ */

static void subscribe(struct world *w, coulomb_sub_options *o)
{
    OK(coulomb_subscribe(w->coll, o, hear, &w->heard, &w->sub));
    poll_all(w);
}

static void e1_initial_rows_on_request_only(void **state)
{
    struct world *w = world_open();
    coulomb_sub_options o;

    (void)state;
    synced(w, 1, 1);
    synced(w, 2, 2);
    coulomb_options_init(&o, sizeof(o));
    subscribe(w, &o);
    assert_int_equal(w->heard.batches, 0);
    commit_row(w, 1, 5); /* of a row not sent: an insert */
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_delete(w->sync, coulomb_key_int(2))); /* of a row not sent: nothing */
    OK(coulomb_sync_commit(w->sync));
    commit_row(w, 1, 6);
    poll_all(w);
    assert_int_equal(w->heard.count, 2);
    expect(w, 0, COULOMB_INSERT, 1, 5);
    expect(w, 1, COULOMB_UPDATE, 1, 6);
    coulomb_unsubscribe(w->sub);
    memset(&w->heard, 0, sizeof(w->heard));
    o.initial = COULOMB_INITIAL_ROWS;
    subscribe(w, &o);
    assert_int_equal(w->heard.batches, 1);
    expect(w, 0, COULOMB_INSERT, 1, 6);
    coulomb_unsubscribe(w->sub);
    memset(&w->heard, 0, sizeof(w->heard));
    o.initial = COULOMB_INITIAL_UNFILTERED;
    subscribe(w, &o);
    commit_row(w, 1, 7);
    poll_all(w);
    expect(w, 0, COULOMB_UPDATE, 1, 7);
    world_close(w);
}

static void e1_the_first_rows_in_an_order(void **state)
{
    struct world *w = world_open();
    coulomb_order order[2] = {{"qty", 1, 0}, {"nope", 0, 0}};
    coulomb_sub_options o;

    (void)state;
    for (int64_t i = 0; i < 6; i++)
        synced(w, i, i / 2);
    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_ROWS;
    o.limit = 3;
    assert_int_equal(coulomb_subscribe(w->coll, &o, hear, &w->heard, &w->sub),
                     COULOMB_E_LIMIT_NEEDS_ORDER);
    o.order = order;
    o.order_count = 2;
    assert_int_equal(coulomb_subscribe(w->coll, &o, hear, &w->heard, &w->sub),
                     COULOMB_E_COLUMN);
    o.order_count = 1;
    subscribe(w, &o);
    assert_int_equal(w->heard.count, 3);
    expect(w, 0, COULOMB_INSERT, 4, 2);
    expect(w, 1, COULOMB_INSERT, 5, 2);
    expect(w, 2, COULOMB_INSERT, 2, 1);
    commit_row(w, 2, 7); /* it was sent */
    commit_row(w, 0, 7); /* it was not */
    poll_all(w);
    expect(w, 3, COULOMB_UPDATE, 2, 7);
    expect(w, 4, COULOMB_INSERT, 0, 7);
    world_close(w);
}

static void e1_what_was_before_is_not_heard(void **state)
{
    (void)state;
    for (int unfiltered = 0; unfiltered < 2; unfiltered++) {
        struct world *w = world_open();
        coulomb_sub *other;
        coulomb_sub_options o;

        OK(coulomb_subscribe(w->coll, NULL, hear, &w->heard, &other)); /* makes batches */
        synced(w, 1, 1);
        memset(&w->heard, 0, sizeof(w->heard));
        coulomb_unsubscribe(other);
        coulomb_options_init(&o, sizeof(o));
        o.initial = unfiltered ? COULOMB_INITIAL_UNFILTERED : COULOMB_INITIAL_NONE;
        subscribe(w, &o);
        assert_int_equal(w->heard.batches, 0);
        world_close(w);
    }
}

/* Keys that are text are the subscription's own copies. */
static void e1_text_keys_are_kept(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);
    coulomb_value v[3];

    (void)state;
    co.key_column = "name";
    coulomb_collection_release(w->coll);
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
    OK(coulomb_subscribe(w->coll, NULL, hear, &w->heard, &w->sub));
    for (int round = 0; round < 3; round++) {
        char name[64];

        memset(&w->heard, 0, sizeof(w->heard));
        snprintf(name, sizeof(name), "a key of some length, number %d", round);
        for (int64_t q = 0; q < 2; q++) {
            row_values(v, 1, name, q);
            OK(coulomb_sync_begin(w->sync, 0));
            OK(coulomb_sync_update(w->sync, v, NULL, 0));
            OK(coulomb_sync_commit(w->sync));
        }
        OK(coulomb_sync_begin(w->sync, 0));
        OK(coulomb_sync_delete(w->sync, coulomb_key_text(name)));
        OK(coulomb_sync_commit(w->sync));
        poll_all(w);
        assert_int_equal(w->heard.count, 3);
        assert_int_equal(w->heard.items[0].type, COULOMB_INSERT);
        assert_int_equal(w->heard.items[1].type, COULOMB_UPDATE);
        assert_int_equal(w->heard.items[2].type, COULOMB_DELETE);
    }
    world_close(w);
}

static void revisions_count_batches(void **state)
{
    struct world *w = world_open();
    uint64_t before = coulomb_revision(w->coll);

    (void)state;
    synced(w, 1, 1); /* nobody watches */
    assert_int_equal(coulomb_revision(w->coll), before + 1);
    OK(set_qty(w, 1, 2, NULL, NULL));
    assert_int_equal(coulomb_revision(w->coll), before + 2);
    watch(w, COULOMB_INITIAL_ROWS);
    OK(insert(w, 2, 2, NULL, NULL));
    assert_int_equal(coulomb_revision(w->coll), before + 3);
    world_close(w);
}

/* The handler of the second call runs in the poll in which the first one's answer is taken. */
static void answer_second_when_asked(struct world *w)
{
    poll_all(w);
    assert_int_equal(w->open_count, 2);
    answer(w, 1, COULOMB_OK);
    poll_all(w);
}

/* More changes wait than were allowed: the call is refused whole, and works after a poll. */
static void changes_that_wait_are_bounded(void **state)
{
    coulomb_client_options o;
    struct world *w = calloc(1, sizeof(*w));
    coulomb_collection_options co;
    coulomb_field id[2] = {{"id", coulomb_int(10)}, {"id", coulomb_int(11)}};
    coulomb_item items[2] = {{&id[0], 1}, {&id[1], 1}};
    coulomb_tx *tx;
    coulomb_mutate_options m;

    (void)state;
    assert_non_null(w);
    coulomb_options_init(&o, sizeof(o));
    o.allocator = (coulomb_allocator){world_realloc, world_free, &w->heap};
    o.queued_changes_max = 3;
    o.tx_mutations_max = 2;
    OK(coulomb_client_open(&o, &w->c));
    co = world_options(w);
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
    watch(w, COULOMB_INITIAL_ROWS);
    OK(coulomb_sync_begin(w->sync, 0));
    for (int64_t i = 0; i < 4; i++)
        OK(sync_row(w, i, "x", 1));
    assert_int_equal(coulomb_sync_commit(w->sync), COULOMB_E_LIMIT);
    assert_int_equal(coulomb_size(w->coll), 0);
    OK(coulomb_sync_delete(w->sync, coulomb_key_int(9)));
    assert_int_equal(coulomb_sync_commit(w->sync),
                     COULOMB_E_LIMIT); /* it is open still */
    coulomb_unsubscribe(w->sub);
    w->sub = NULL;
    OK(coulomb_sync_commit(w->sync)); /* nobody waits for them */
    watch(w, COULOMB_INITIAL_ROWS);
    w->answer = COULOMB_PENDING;
    OK(coulomb_insert_many(w->coll, items, 2, NULL, NULL));
    poll_all(w);
    for (int64_t i = 20; i < 26; i++)
        synced(w, i, 1); /* held back: six changes at once when the answer comes */
    OK(insert(w, 40, 1, NULL, NULL));
    answer(w, 0, COULOMB_OK); /* one waits: the answer is tried again */
    assert_false(coulomb_has(w->coll, coulomb_key_int(20)));
    answer_second_when_asked(w);
    assert_true(coulomb_has(w->coll, coulomb_key_int(25)));
    tx = explicit_tx(w);
    m = in_tx(tx);
    OK(insert(w, 30, 1, &m, NULL));
    OK(insert(w, 31, 1, &m, NULL));
    assert_int_equal(insert(w, 32, 1, &m, NULL), COULOMB_E_LIMIT);
    assert_int_equal(coulomb_tx_count(tx), 2);
    assert_int_equal(coulomb_tx_rollback(tx), COULOMB_E_LIMIT);
    poll_all(w);
    OK(coulomb_tx_rollback(tx));
    coulomb_tx_release(tx);
    world_close(w);
}

static void e2_only_differences_are_heard(void **state)
{
    struct world *w = world_open();

    (void)state;
    synced(w, 1, 1);
    watch(w, COULOMB_INITIAL_ROWS);
    commit_row(w, 1, 1);
    commit_row(w, 1, 2);
    poll_all(w);
    assert_int_equal(w->heard.batches, 1);
    assert_int_equal(w->heard.count, 1);
    world_close(w);
}

static void e3_entering_and_leaving_a_condition(void **state)
{
    struct world *w = world_open();
    coulomb_sub_options o;
    coulomb_expr *e = coulomb_where(w->coll, "qty", COULOMB_GT, coulomb_int(10));

    (void)state;
    assert_non_null(e);
    synced(w, 1, 5);
    synced(w, 2, 15);
    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_ROWS;
    o.where = e;
    subscribe(w, &o);
    coulomb_expr_free(e);
    commit_row(w, 1, 20);
    commit_row(w, 1, 21);
    commit_row(w, 2, 3);
    commit_row(w, 2, 4);
    poll_all(w);
    assert_int_equal(w->heard.count, 4);
    expect(w, 0, COULOMB_INSERT, 2, 15);
    expect(w, 1, COULOMB_INSERT, 1, 20);
    expect(w, 2, COULOMB_UPDATE, 1, 21);
    expect(w, 3, COULOMB_DELETE, 2, 15);
    world_close(w);
}

static void e4_nothing_after_unsubscribe(void **state)
{
    struct world *w = world_open();

    (void)state;
    watch(w, COULOMB_INITIAL_ROWS);
    synced(w, 1, 1);
    coulomb_unsubscribe(w->sub); /* also of what is queued */
    w->sub = NULL;
    poll_all(w);
    assert_int_equal(w->heard.count, 0);
    world_close(w);
}

static int always(const coulomb_row *row, void *arg)
{
    (void)row;
    (void)arg;
    return 1;
}

static void e4_subscriptions_are_counted_and_outlive_their_client(void **state)
{
    struct world *w = world_open();
    coulomb_stats stats = {.size = sizeof(stats)};
    coulomb_sub_options o;
    coulomb_sub *subs[2];

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_ROWS;
    for (int i = 0; i < 2; i++)
        OK(coulomb_subscribe(w->coll, &o, hear, &w->heard, &subs[i]));
    coulomb_client_stats(w->c, &stats);
    assert_int_equal(stats.subscriptions, 2);
    poll_all(w);
    coulomb_unsubscribe(subs[0]);
    coulomb_client_stats(w->c, &stats);
    assert_int_equal(stats.subscriptions, 1);
    coulomb_sync_release(w->sync);
    coulomb_collection_release(w->coll);
    coulomb_client_close(w->c);
    coulomb_unsubscribe(subs[1]);
    assert_int_equal(w->heap.live, 0);
    free(w);
}

static void e5_a_condition_is_given_once(void **state)
{
    struct world *w = world_open();
    coulomb_sub_options o;
    coulomb_expr *e = coulomb_and(
        coulomb_where(w->coll, "qty", COULOMB_GTE, coulomb_int(1)),
        coulomb_not(coulomb_where(w->coll, "name", COULOMB_EQ, coulomb_text("x"))));

    (void)state;
    assert_non_null(e);
    coulomb_options_init(&o, sizeof(o));
    o.where = e;
    o.where_fn = always;
    assert_int_equal(coulomb_subscribe(w->coll, &o, hear, &w->heard, &w->sub),
                     COULOMB_E_BOTH_WHERE);
    o.where_fn = NULL;
    o.initial = COULOMB_INITIAL_ROWS;
    OK(coulomb_subscribe(w->coll, &o, hear, &w->heard, &w->sub));
    coulomb_expr_free(e);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(sync_row(w, 1, "x", 1));
    OK(sync_row(w, 2, "y", 1));
    OK(sync_row(w, 3, NULL, 1)); /* absent: unknown */
    OK(coulomb_sync_commit(w->sync));
    poll_all(w);
    assert_int_equal(w->heard.count, 1);
    expect(w, 0, COULOMB_INSERT, 2, 1);
    world_close(w);
}

static void e6_e13_filtered_ones_hear_while_loading_and_ready(void **state)
{
    struct world *w = world_open();
    coulomb_sub_options o;

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    o.where_fn = always;
    o.initial = COULOMB_INITIAL_ROWS;
    subscribe(w, &o);
    synced(w, 1, 1);
    poll_all(w);
    assert_int_equal(w->heard.count, 1);
    OK(coulomb_sync_mark_ready(w->sync));
    poll_all(w);
    assert_int_equal(w->heard.empty, 1);
    world_close(w);
}

static void e9_a_failed_transaction_leaves_no_local_origin(void **state)
{
    (void)state;
    for (int not_optimistic = 0; not_optimistic < 2; not_optimistic++) {
        struct world *w = world_open();
        coulomb_mutate_options o = in_tx(NULL);
        coulomb_meta meta;

        o.not_optimistic = not_optimistic;
        synced(w, 1, 1);
        OK(set_qty(w, 1, 2, &o, NULL));
        poll_all(w);
        answer(w, 0, COULOMB_E_FAILED);
        commit_row(w, 1, 3);
        assert_true(coulomb_row_meta(w->coll, coulomb_key_int(1), &meta));
        assert_false(meta.local);
        assert_true(meta.synced);
        world_close(w);
    }
}

static void e10_conditions_on_virtual_properties(void **state)
{
    struct world *w = world_open();
    coulomb_sub_options o;
    coulomb_expr *e = coulomb_where(w->coll, "$synced", COULOMB_EQ, coulomb_bool(0));

    (void)state;
    assert_non_null(e);
    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_ROWS;
    o.where = e;
    subscribe(w, &o);
    coulomb_expr_free(e);
    synced(w, 1, 1);
    OK(insert(w, 2, 1, NULL, NULL));
    poll_all(w);
    answer(w, 0, COULOMB_OK);
    synced(w, 2, 1);
    poll_all(w);
    assert_int_equal(w->heard.count, 2);
    expect(w, 0, COULOMB_INSERT, 2, 1);
    expect(w, 1, COULOMB_DELETE, 2, 1);
    world_close(w);
}

static void e12_snapshots_by_index_and_by_scan_agree(void **state)
{
    struct world *w = world_open();
    coulomb_order order = {"qty", 1, 0};
    coulomb_snapshot_options o;
    coulomb_result *r;

    (void)state;
    for (int64_t i = 0; i < 20; i++)
        synced(w, i, (i * 7) % 10);
    coulomb_options_init(&o, sizeof(o));
    o.limit = 5;
    assert_int_equal(coulomb_snapshot(w->coll, &o, &r), COULOMB_E_LIMIT_NEEDS_ORDER);
    o.order = &order;
    o.order_count = 1;
    for (int indexed = 0; indexed < 2; indexed++) {
        coulomb_expr *e = coulomb_where(w->coll, "qty", COULOMB_LT, coulomb_int(8));

        assert_non_null(e);
        o.where = e;
        OK(coulomb_snapshot(w->coll, &o, &r));
        assert_int_equal(coulomb_result_indexed(r), indexed);
        assert_int_equal(coulomb_result_count(r), 5);
        for (size_t i = 0; i < 5; i++)
            assert_int_equal(coulomb_row_int(coulomb_result_row(r, i), "qty", -1),
                             7 - (int64_t)i / 2);
        coulomb_result_free(r);
        coulomb_expr_free(e);
        if (!indexed)
            OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
    }
    o.where = NULL;
    o.optimized_only = 1;
    assert_int_equal(coulomb_snapshot(w->coll, &o, &r), COULOMB_E_NO_INDEX);
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(e1_initial_rows_on_request_only),
        cmocka_unit_test(e1_the_first_rows_in_an_order),
        cmocka_unit_test(e1_what_was_before_is_not_heard),
        cmocka_unit_test(e1_text_keys_are_kept),
        cmocka_unit_test(revisions_count_batches),
        cmocka_unit_test(changes_that_wait_are_bounded),
        cmocka_unit_test(e2_only_differences_are_heard),
        cmocka_unit_test(e3_entering_and_leaving_a_condition),
        cmocka_unit_test(e4_nothing_after_unsubscribe),
        cmocka_unit_test(e4_subscriptions_are_counted_and_outlive_their_client),
        cmocka_unit_test(e5_a_condition_is_given_once),
        cmocka_unit_test(e6_e13_filtered_ones_hear_while_loading_and_ready),
        cmocka_unit_test(e9_a_failed_transaction_leaves_no_local_origin),
        cmocka_unit_test(e10_conditions_on_virtual_properties),
        cmocka_unit_test(e12_snapshots_by_index_and_by_scan_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
