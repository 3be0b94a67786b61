/* Behaviours C (optimistic layering) and D (truncate) of tests/CLIENT.md. */
#include "support/client.h"

static void commit_row(struct world *w, int64_t id, int64_t q)
{
    OK(coulomb_sync_begin(w->sync, 0));
    OK(sync_patch(w, id, q));
    OK(coulomb_sync_commit(w->sync));
}

static void c1_sync_waits_while_a_transaction_persists(void **state)
{
    struct world *w = world_open();

    (void)state;
    OK(insert(w, 1, 1, NULL, NULL));
    poll_all(w);
    synced(w, 99, 1);
    assert_int_equal(qty(w, 99), -2);
    answer(w, 0, COULOMB_OK);
    assert_int_equal(qty(w, 99), 1);
    world_close(w);
}

static void c2_pending_transactions_hold_nothing_back(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);

    (void)state;
    OK(insert(w, 1, 1, &o, NULL));
    synced(w, 99, 1);
    assert_int_equal(qty(w, 99), 1);
    OK(coulomb_tx_rollback(tx));
    coulomb_tx_release(tx);
    world_close(w);
}

static void c3_t20_a_temporary_key_gives_way_to_the_servers(void **state)
{
    struct world *w = world_open();

    (void)state;
    watch(w, COULOMB_INITIAL_ROWS);
    OK(insert(w, -1, 5, NULL, NULL));
    poll_all(w);
    synced(w, 100, 5);
    assert_int_equal(coulomb_size(w->coll), 1);
    answer(w, 0, COULOMB_OK);
    assert_int_equal(coulomb_size(w->coll), 1);
    assert_int_equal(qty(w, 100), 5);
    poll_all(w);
    /* Both at once: never two rows, never none. */
    assert_int_equal(w->heard.batches, 2);
    assert_int_equal(w->heard.count, 3);
    expect(w, 0, COULOMB_INSERT, -1, 5);
    world_close(w);
}

static int sync_inside(coulomb_tx *tx, coulomb_collection *coll, coulomb_completion *done,
                       void *arg)
{
    struct world *w = arg;

    (void)tx;
    (void)coll;
    (void)done;
    synced(w, 1, 5);
    return 0;
}

static void c5_one_event_when_the_handler_syncs(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);
    coulomb_collection *plain = w->coll;

    (void)state;
    co.on_insert = sync_inside;
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
    watch(w, COULOMB_INITIAL_ROWS);
    OK(insert(w, 1, 5, NULL, NULL));
    poll_all(w);
    assert_int_equal(w->heard.count, 2); /* the insert, and that it is synced now */
    expect(w, 0, COULOMB_INSERT, 1, 5);
    expect(w, 1, COULOMB_UPDATE, 1, 5);
    assert_true(w->heard.items[1].meta.synced);
    coulomb_unsubscribe(w->sub);
    w->sub = NULL;
    coulomb_collection_release(w->coll);
    w->coll = plain;
    world_close(w);
}

static void c6_c7_an_equal_echo_only_says_synced(void **state)
{
    struct world *w = world_open();

    (void)state;
    watch(w, COULOMB_INITIAL_ROWS);
    OK(insert(w, 1, 5, NULL, NULL));
    poll_all(w);
    answer(w, 0, COULOMB_OK);
    synced(w, 1, 5);
    poll_all(w);
    assert_int_equal(w->heard.count, 2);
    expect(w, 0, COULOMB_INSERT, 1, 5);
    assert_false(w->heard.items[0].meta.synced);
    assert_true(w->heard.items[0].meta.local);
    expect(w, 1, COULOMB_UPDATE, 1, 5);
    assert_true(w->heard.items[1].meta.synced);
    assert_true(w->heard.items[1].meta.local);
    assert_false(w->heard.items[1].previous_meta.synced);
    world_close(w);
}

static void c8_a_user_change_of_a_fresh_row_is_heard(void **state)
{
    struct world *w = world_open();

    (void)state;
    watch(w, COULOMB_INITIAL_ROWS);
    synced(w, 1, 1);
    OK(set_qty(w, 1, 2, NULL, NULL));
    OK(erase(w, 1, NULL, NULL));
    poll_all(w);
    assert_int_equal(w->heard.count, 3);
    expect(w, 0, COULOMB_INSERT, 1, 1);
    expect(w, 1, COULOMB_UPDATE, 1, 2);
    expect(w, 2, COULOMB_DELETE, 1, 2);
    world_close(w);
}

static void c9_many_queued_inserts_converge(void **state)
{
    struct world *w = world_open();
    int64_t balance = 0;

    (void)state;
    watch(w, COULOMB_INITIAL_ROWS);
    for (int64_t i = 0; i < 40; i++) {
        OK(insert(w, i, 1, NULL, NULL));
        poll_all(w);
        synced(w, i, 1);
    }
    for (size_t i = 0; i < 40; i++)
        answer(w, i, COULOMB_OK);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 40);
    for (size_t i = 0; i < w->heard.count; i++)
        balance += (w->heard.items[i].type == COULOMB_INSERT) -
                   (w->heard.items[i].type == COULOMB_DELETE);
    assert_int_equal(balance, 40);
    world_close(w);
}

static void c10_c11_an_open_sync_transaction_waits_alone(void **state)
{
    struct world *w = world_open();

    (void)state;
    watch(w, COULOMB_INITIAL_ROWS);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(sync_row(w, 1, "x", 1));
    OK(insert(w, 50, 1, NULL, NULL));
    poll_all(w);
    expect(w, 0, COULOMB_INSERT, 50, 1);
    answer(w, 0, COULOMB_OK);
    assert_int_equal(qty(w, 1), -2);
    OK(coulomb_sync_commit(w->sync));
    assert_int_equal(qty(w, 1), 1);
    world_close(w);
}

static void c12_rows_before_ready_are_seen(void **state)
{
    struct world *w = world_open();

    (void)state;
    watch(w, COULOMB_INITIAL_ROWS);
    synced(w, 1, 1);
    synced(w, 2, 1);
    poll_all(w);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_LOADING);
    assert_int_equal(w->heard.count, 2);
    assert_int_equal(w->heard.empty, 0);
    OK(coulomb_sync_mark_ready(w->sync));
    poll_all(w);
    assert_int_equal(w->heard.empty, 1);
    world_close(w);
}

static void meta_is(struct world *w, int64_t id, const char *want)
{
    const void *value;
    size_t len;

    OK(coulomb_sync_row_meta_get(w->sync, coulomb_key_int(id), &value, &len));
    if (!want)
        assert_null(value);
    else
        assert_memory_equal(value, want, len);
}

static void c13_row_metadata_the_last_write_wins(void **state)
{
    struct world *w = world_open();
    coulomb_value v[3];

    (void)state;
    row_values(v, 1, "x", 1);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_insert(w->sync, v, "a", 1));
    OK(coulomb_sync_row_meta_set(w->sync, coulomb_key_int(1), "b", 1));
    meta_is(w, 1, "b");
    OK(coulomb_sync_commit(w->sync));
    meta_is(w, 1, "b");
    commit_row(w, 1, 2); /* an update without keeps */
    meta_is(w, 1, "b");
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_delete(w->sync, coulomb_key_int(1)));
    meta_is(w, 1, NULL);
    OK(coulomb_sync_insert(w->sync, v, NULL, 0)); /* an insert without has none */
    OK(coulomb_sync_commit(w->sync));
    meta_is(w, 1, NULL);
    world_close(w);
}

static int count_meta(const char *name, const void *value, size_t len, void *arg)
{
    (void)value;
    (void)len;
    memcpy((char *)arg + strlen(arg), name, strlen(name) + 1);
    return 0;
}

static void c14_metadata_alone_makes_a_transaction(void **state)
{
    struct world *w = world_open();
    char names[64] = "";
    const void *value;
    size_t len;

    (void)state;
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_meta_set(w->sync, "b:2", "two", 3));
    OK(coulomb_sync_meta_set(w->sync, "b:1", "one", 3));
    OK(coulomb_sync_meta_set(w->sync, "c", "x", 1));
    OK(coulomb_sync_commit(w->sync));
    OK(coulomb_sync_meta_get(w->sync, "b:2", &value, &len));
    assert_memory_equal(value, "two", 3);
    OK(coulomb_sync_meta_each(w->sync, "b:", count_meta, names));
    assert_string_equal(names, "b:1b:2");
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_meta_set(w->sync, "b:1", "new", 3));
    OK(coulomb_sync_meta_get(w->sync, "b:1", &value,
                             &len)); /* what is staged comes first */
    assert_memory_equal(value, "new", 3);
    OK(coulomb_sync_meta_set(w->sync, "c", NULL, 0));
    OK(coulomb_sync_meta_set(w->sync, "a", "x", 1));
    OK(coulomb_sync_meta_set(w->sync, "d", "x", 1));
    OK(coulomb_sync_meta_set(w->sync, "d", NULL, 0)); /* the last one counts */
    names[0] = '\0';
    OK(coulomb_sync_meta_each(w->sync, "", count_meta, names));
    assert_string_equal(names, "ab:1b:2");
    OK(coulomb_sync_commit(w->sync));
    OK(coulomb_sync_meta_get(w->sync, "b:1", &value, &len));
    assert_memory_equal(value, "new", 3);
    names[0] = '\0';
    OK(coulomb_sync_meta_each(w->sync, "", count_meta, names));
    assert_string_equal(names, "ab:1b:2");
    OK(coulomb_sync_meta_get(w->sync, "c", &value, &len));
    assert_null(value);
    world_close(w);
}

static void c15_delete_by_key_alone(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);
    coulomb_collection *plain = w->coll;
    coulomb_value v[3];

    (void)state;
    synced(w, 1, 1);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_delete(w->sync, coulomb_key_text("1"))); /* another key */
    OK(coulomb_sync_commit(w->sync));
    assert_int_equal(coulomb_size(w->coll), 1);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_delete(w->sync, coulomb_key_int(1)));
    OK(coulomb_sync_commit(w->sync));
    assert_int_equal(coulomb_size(w->coll), 0);
    co.key_column = "name";
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
    row_values(v, 1, "key", 1);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_insert(w->sync, v, NULL, 0));
    OK(coulomb_sync_commit(w->sync));
    assert_true(coulomb_has(w->coll, coulomb_key_text("key")));
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_delete(w->sync, coulomb_key_text("key")));
    OK(coulomb_sync_commit(w->sync));
    assert_int_equal(coulomb_size(w->coll), 0);
    coulomb_collection_release(w->coll);
    w->coll = plain;
    world_close(w);
}

static void c16_an_immediate_one_does_not_wait(void **state)
{
    struct world *w = world_open();

    (void)state;
    OK(insert(w, 1, 1, NULL, NULL));
    poll_all(w);
    synced(w, 2, 1);
    assert_int_equal(qty(w, 2), -2);
    OK(coulomb_sync_begin(w->sync, COULOMB_SYNC_IMMEDIATE));
    OK(sync_row(w, 3, "x", 1));
    OK(coulomb_sync_commit(w->sync));
    assert_int_equal(qty(w, 2), 1); /* and the earlier ones come with it */
    assert_int_equal(qty(w, 3), 1);
    world_close(w);
}

static void c17_an_insert_of_the_same_row_is_an_update(void **state)
{
    struct world *w = world_open();

    (void)state;
    synced(w, 1, 1);
    watch(w, COULOMB_INITIAL_ROWS);
    synced(w, 1, 1);
    OK(coulomb_sync_begin(w->sync, 0));
    assert_int_equal(sync_row(w, 1, "x", 2), COULOMB_E_DUPLICATE_KEY_SYNC);
    OK(coulomb_sync_delete(w->sync, coulomb_key_int(1)));
    OK(sync_row(w, 1, "x", 2));
    OK(coulomb_sync_commit(w->sync));
    poll_all(w);
    assert_int_equal(w->heard.count, 1);
    expect(w, 0, COULOMB_UPDATE, 1, 2);
    world_close(w);
}

static int collect_keys(const coulomb_row *row, void *arg)
{
    int64_t *keys = arg;

    keys[++keys[0]] = coulomb_row_key(row).i;
    return 0;
}

static void c18_reads_see_the_overlay(void **state)
{
    struct world *w = world_open();
    int64_t keys[8] = {0};

    (void)state;
    synced(w, 1, 1);
    synced(w, 3, 1);
    OK(insert(w, 2, 1, NULL, NULL));
    OK(erase(w, 3, NULL, NULL));
    OK(set_qty(w, 1, 7, NULL, NULL));
    assert_int_equal(coulomb_size(w->coll), 2);
    assert_false(coulomb_has(w->coll, coulomb_key_int(3)));
    assert_int_equal(qty(w, 1), 7);
    OK(coulomb_each(w->coll, collect_keys, keys));
    assert_int_equal(keys[0], 2);
    assert_int_equal(keys[1], 1);
    assert_int_equal(keys[2], 2);
    world_close(w);
}

static void timeline_3_a_direct_change_lasts_until_the_next_sync(void **state)
{
    struct world *w = world_open();

    (void)state;
    synced(w, 1, 1);
    OK(erase(w, 1, NULL, NULL));
    OK(insert(w, 2, 2, NULL, NULL));
    poll_all(w);
    answer(w, 0, COULOMB_OK);
    answer(w, 1, COULOMB_OK);
    assert_int_equal(qty(w, 1), -2);
    assert_int_equal(qty(w, 2), 2);
    synced(w, 50, 1);
    assert_int_equal(qty(w, 1), 1);
    assert_int_equal(qty(w, 2), -2);
    world_close(w);
}

static void timeline_2_an_explicit_one_ends_with_its_answer(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);

    (void)state;
    synced(w, 1, 1);
    OK(set_qty(w, 1, 2, &o, NULL));
    OK(coulomb_tx_commit(tx));
    poll_all(w);
    answer(w, 0, COULOMB_OK);
    assert_int_equal(qty(w, 1), 1);
    coulomb_tx_release(tx);
    world_close(w);
}

/* Over each other: what is seen, step by step, as section 2.5 of the specification has it. */
static void timeline_1_and_4_an_echo_and_another_field(void **state)
{
    struct world *w = world_open();
    coulomb_field name = {"name", coulomb_text("mine")};
    coulomb_str text;

    (void)state;
    synced(w, 1, 1);
    OK(coulomb_set(w->coll, coulomb_key_int(1), &name, 1, NULL, NULL));
    poll_all(w);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(sync_patch(w, 1, 9)); /* a field that is not ours */
    OK(coulomb_sync_commit(w->sync));
    assert_int_equal(qty(w, 1), 1); /* ours is the row as it was */
    answer(w, 0, COULOMB_OK);
    assert_int_equal(qty(w, 1), 9);
    text = coulomb_row_text(coulomb_get(w->coll, coulomb_key_int(1)), "name");
    assert_memory_equal(text.ptr, "x", 1); /* until our own echo comes */
    world_close(w);
}

/* --- D: truncate --------------------------------------------------------------------------------- */

static void truncate_with(struct world *w, int64_t id, int64_t q)
{
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_truncate(w->sync));
    if (id >= 0)
        OK(sync_row(w, id, "x", q));
    OK(coulomb_sync_commit(w->sync));
}

static void d1_d2_deletes_then_inserts_in_one_batch(void **state)
{
    struct world *w = world_open();

    (void)state;
    synced(w, 1, 1);
    synced(w, 2, 2);
    watch(w, COULOMB_INITIAL_UNFILTERED);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(sync_row(w, 9, "x", 9)); /* before the truncate: dropped */
    OK(coulomb_sync_truncate(w->sync));
    OK(sync_row(w, 2, "x", 2));
    OK(coulomb_sync_commit(w->sync));
    poll_all(w);
    assert_int_equal(w->heard.batches, 2); /* and that it is ready */
    assert_int_equal(w->heard.empty, 1);
    assert_int_equal(w->heard.count, 3);
    assert_int_equal(w->heard.items[0].type, COULOMB_DELETE);
    assert_int_equal(w->heard.items[1].type, COULOMB_DELETE);
    expect(w, 2, COULOMB_INSERT, 2, 2);
    assert_int_equal(qty(w, 9), -2);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_READY);
    world_close(w);
}

static void d1_rows_go_though_nobody_watches(void **state)
{
    struct world *w = world_open();

    (void)state;
    synced(w, 1, 1);
    synced(w, 2, 2);
    truncate_with(w, 2, 5);
    assert_int_equal(coulomb_size(w->coll), 1);
    assert_int_equal(qty(w, 1), -2);
    assert_int_equal(qty(w, 2), 5);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_READY);
    world_close(w);
}

static void d3_of_an_empty_collection_nothing_is_heard(void **state)
{
    struct world *w = world_open();

    (void)state;
    OK(coulomb_sync_mark_ready(w->sync));
    watch(w, COULOMB_INITIAL_ROWS);
    truncate_with(w, -1, 0);
    poll_all(w);
    assert_int_equal(w->heard.batches, 0);
    world_close(w);
}

static void d4_an_optimistic_update_stays_over_the_servers_row(void **state)
{
    struct world *w = world_open();

    (void)state;
    synced(w, 1, 1);
    OK(set_qty(w, 1, 5, NULL, NULL));
    watch(w, COULOMB_INITIAL_ROWS);
    truncate_with(w, 1, 1);
    poll_all(w);
    assert_int_equal(w->heard.count, 2);
    expect(w, 0, COULOMB_DELETE, 1, 5);
    expect(w, 1, COULOMB_INSERT, 1, 5);
    world_close(w);
}

static void d5_d7_what_is_deleted_here_stays_deleted(void **state)
{
    struct world *w = world_open();

    (void)state;
    synced(w, 1, 1);
    synced(w, 2, 1);
    OK(erase(w, 1, NULL, NULL));
    OK(erase(w, 2, NULL, NULL));
    watch(w, COULOMB_INITIAL_ROWS);
    truncate_with(w, 1, 1);
    poll_all(w);
    assert_int_equal(w->heard.count, 0);
    assert_int_equal(qty(w, 1), -2);
    assert_int_equal(qty(w, 2), -2);
    world_close(w);
}

static void d6_an_optimistic_insert_comes_again(void **state)
{
    struct world *w = world_open();

    (void)state;
    OK(insert(w, 1, 1, NULL, NULL));
    watch(w, COULOMB_INITIAL_ROWS);
    truncate_with(w, -1, 0);
    poll_all(w);
    assert_int_equal(w->heard.count, 2);
    expect(w, 0, COULOMB_DELETE, 1, 1);
    expect(w, 1, COULOMB_INSERT, 1, 1);
    world_close(w);
}

/* The handler is answered before, during or after the truncate. */
static void d8_an_answer_at_any_time_keeps_the_insert(void **state)
{
    (void)state;
    for (int when = 0; when < 3; when++) {
        struct world *w = world_open();

        OK(insert(w, 1, 1, NULL, NULL));
        poll_all(w);
        if (when == 0)
            answer(w, 0, COULOMB_OK);
        OK(coulomb_sync_begin(w->sync, 0));
        OK(coulomb_sync_truncate(w->sync));
        if (when == 1)
            answer(w, 0, COULOMB_OK);
        assert_int_equal(qty(w, 1), 1);
        OK(coulomb_sync_commit(w->sync));
        assert_int_equal(qty(w, 1), 1);
        if (when == 2)
            answer(w, 0, COULOMB_OK);
        assert_int_equal(qty(w, 1), 1);
        world_close(w);
    }
}

static void d9_d10_what_begins_in_between_survives(void **state)
{
    struct world *w = world_open();

    (void)state;
    synced(w, 1, 1);
    OK(set_qty(w, 1, 2, NULL, NULL));
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_truncate(w->sync));
    OK(set_qty(w, 1, 3, NULL, NULL));
    OK(insert(w, 2, 1, NULL, NULL));
    OK(coulomb_sync_truncate(w->sync));
    OK(sync_row(w, 1, "x", 1));
    OK(coulomb_sync_commit(w->sync));
    assert_int_equal(qty(w, 1), 3);
    assert_int_equal(qty(w, 2), 1);
    truncate_with(w, -1, 0);
    assert_int_equal(qty(w, 1), 3);
    assert_int_equal(qty(w, 2), 1);
    world_close(w);
}

static void d11_metadata_of_the_collection_survives(void **state)
{
    struct world *w = world_open();
    coulomb_value v[3];
    const void *value;
    size_t len;

    (void)state;
    row_values(v, 1, "x", 1);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_insert(w->sync, v, "m", 1));
    OK(coulomb_sync_meta_set(w->sync, "k", "v", 1));
    OK(coulomb_sync_commit(w->sync));
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_truncate(w->sync));
    meta_is(w, 1, NULL);
    OK(sync_row(w, 1, "x", 1));
    OK(coulomb_sync_commit(w->sync));
    meta_is(w, 1, NULL);
    OK(coulomb_sync_meta_get(w->sync, "k", &value, &len));
    assert_int_equal(len, 1);
    world_close(w);
}

static void d12_origins(void **state)
{
    struct world *w = world_open();
    coulomb_meta meta;

    (void)state;
    OK(insert(w, 1, 1, NULL, NULL));
    synced(w, 2, 2);
    poll_all(w);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_truncate(w->sync));
    OK(sync_row(w, 1, "x", 1));
    OK(sync_row(w, 2, "x", 2));
    OK(coulomb_sync_commit(w->sync));
    answer(w, 0, COULOMB_OK);
    assert_true(coulomb_row_meta(w->coll, coulomb_key_int(1), &meta));
    assert_true(meta.local);
    assert_true(coulomb_row_meta(w->coll, coulomb_key_int(2), &meta));
    assert_false(meta.local);
    world_close(w);
}

static struct {
    size_t loads;
    size_t unloads;
    int answer;
    coulomb_completion *done;
} subset;

static int load(coulomb_sync *sync, const coulomb_subset *s, coulomb_completion *done,
                void *arg)
{
    (void)sync;
    (void)s;
    (void)arg;
    subset.loads++;
    subset.done = subset.answer == COULOMB_PENDING ? done : NULL;
    return subset.answer;
}

static void unload(coulomb_sync *sync, const coulomb_subset *s, void *arg)
{
    (void)sync;
    (void)s;
    (void)arg;
    subset.unloads++;
}

static const coulomb_adapter loading_adapter = {.size = sizeof(coulomb_adapter),
                                                .start = world_start,
                                                .stop = world_stop,
                                                .load_subset = load,
                                                .unload_subset = unload};

static void use_loading(struct world *w, coulomb_collection **plain)
{
    coulomb_collection_options co = world_options(w);

    memset(&subset, 0, sizeof(subset));
    *plain = w->coll;
    co.adapter = &loading_adapter;
    co.on_demand = 1;
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
}

static void end_loading(struct world *w, coulomb_collection *plain)
{
    coulomb_unsubscribe(w->sub);
    w->sub = NULL;
    coulomb_collection_release(w->coll);
    w->coll = plain;
    world_close(w);
}

static void d13_a_subset_is_loaded_again_before_anything_is_heard(void **state)
{
    struct world *w = world_open();
    coulomb_collection *plain;

    (void)state;
    use_loading(w, &plain);
    synced(w, 1, 1);
    watch(w, COULOMB_INITIAL_ROWS);
    assert_int_equal(subset.loads, 1);
    subset.answer = COULOMB_PENDING;
    truncate_with(w, -1, 0);
    poll_all(w);
    assert_int_equal(subset.loads, 2);
    assert_int_equal(w->heard.count, 0);
    assert_true(coulomb_sub_loading(w->sub));
    synced(w, 1, 7);
    coulomb_complete(subset.done, COULOMB_OK, NULL);
    poll_all(w);
    assert_int_equal(w->heard.batches, 1);
    assert_int_equal(w->heard.count, 2);
    expect(w, 0, COULOMB_DELETE, 1, 1);
    expect(w, 1, COULOMB_INSERT, 1, 7);
    truncate_with(w, -1, 0);
    poll_all(w);
    coulomb_unsubscribe(w->sub); /* while it holds changes back */
    w->sub = NULL;
    assert_int_equal(subset.unloads, 1);
    coulomb_complete(subset.done, COULOMB_OK, NULL);
    poll_all(w);
    end_loading(w, plain);
}

static void d14_a_load_at_once_gives_deletes_first(void **state)
{
    struct world *w = world_open();
    coulomb_collection *plain;

    (void)state;
    use_loading(w, &plain);
    synced(w, 1, 1);
    watch(w, COULOMB_INITIAL_ROWS);
    truncate_with(w, 1, 2);
    poll_all(w);
    assert_int_equal(w->heard.count, 2);
    expect(w, 0, COULOMB_DELETE, 1, 1);
    expect(w, 1, COULOMB_INSERT, 1, 2);
    end_loading(w, plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c1_sync_waits_while_a_transaction_persists),
        cmocka_unit_test(c2_pending_transactions_hold_nothing_back),
        cmocka_unit_test(c3_t20_a_temporary_key_gives_way_to_the_servers),
        cmocka_unit_test(c5_one_event_when_the_handler_syncs),
        cmocka_unit_test(c6_c7_an_equal_echo_only_says_synced),
        cmocka_unit_test(c8_a_user_change_of_a_fresh_row_is_heard),
        cmocka_unit_test(c9_many_queued_inserts_converge),
        cmocka_unit_test(c10_c11_an_open_sync_transaction_waits_alone),
        cmocka_unit_test(c12_rows_before_ready_are_seen),
        cmocka_unit_test(c13_row_metadata_the_last_write_wins),
        cmocka_unit_test(c14_metadata_alone_makes_a_transaction),
        cmocka_unit_test(c15_delete_by_key_alone),
        cmocka_unit_test(c16_an_immediate_one_does_not_wait),
        cmocka_unit_test(c17_an_insert_of_the_same_row_is_an_update),
        cmocka_unit_test(c18_reads_see_the_overlay),
        cmocka_unit_test(timeline_3_a_direct_change_lasts_until_the_next_sync),
        cmocka_unit_test(timeline_1_and_4_an_echo_and_another_field),
        cmocka_unit_test(timeline_2_an_explicit_one_ends_with_its_answer),
        cmocka_unit_test(d1_d2_deletes_then_inserts_in_one_batch),
        cmocka_unit_test(d1_rows_go_though_nobody_watches),
        cmocka_unit_test(d3_of_an_empty_collection_nothing_is_heard),
        cmocka_unit_test(d4_an_optimistic_update_stays_over_the_servers_row),
        cmocka_unit_test(d5_d7_what_is_deleted_here_stays_deleted),
        cmocka_unit_test(d6_an_optimistic_insert_comes_again),
        cmocka_unit_test(d8_an_answer_at_any_time_keeps_the_insert),
        cmocka_unit_test(d9_d10_what_begins_in_between_survives),
        cmocka_unit_test(d11_metadata_of_the_collection_survives),
        cmocka_unit_test(d12_origins),
        cmocka_unit_test(d13_a_subset_is_loaded_again_before_anything_is_heard),
        cmocka_unit_test(d14_a_load_at_once_gives_deletes_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
