/* Behaviours T of tests/CLIENT.md: modes, subsets, overlaps. */
#include "support/electric.h"

static struct feed f;

static coulomb_sub *sub_where(struct world *w, coulomb_expr *where,
                              const coulomb_order *order, size_t limit)
{
    coulomb_sub_options o;
    coulomb_sub *sub;

    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_ROWS;
    o.where = where;
    o.order = order;
    o.order_count = order ? 1 : 0;
    o.limit = limit;
    OK(coulomb_subscribe(w->coll, &o, hear, &w->heard, &sub));
    coulomb_expr_free(where);
    poll_all(w);
    return sub;
}

static coulomb_expr *qty_is(struct world *w, coulomb_op op, int64_t n)
{
    return coulomb_where(w->coll, "qty", op, coulomb_int(n));
}

/* An on-demand collection that is up to date, with nothing loaded. */
static struct world *on_demand(void)
{
    struct world *w = electric_open(COULOMB_ON_DEMAND);

    feed_up_to_date(&f, 1);
    feed_send(&f);
    poll_all(w);
    return w;
}

/* --- Modes (T8) ------------------------------------------------------------------------------------- */

static void t8_eager_loads_no_subsets(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);
    coulomb_sub *sub;

    (void)state;
    assert_false(fake->changes_only);
    assert_string_equal(fake->given_offset, "-1");
    sub = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);
    assert_int_equal(fake->request_count, 0);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

static void t8_on_demand_begins_now(void **state)
{
    struct world *w = electric_open(COULOMB_ON_DEMAND);
    coulomb_sub *sub;

    (void)state;
    assert_true(fake->changes_only);
    assert_true(fake->from_now);
    assert_string_equal(fake->given_offset, "now");
    /* Before the first up-to-date there is nothing to refresh. */
    sub = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);
    assert_int_equal(fake->refresh_count, 0);
    assert_int_equal(fake_open_requests(), 1);
    assert_string_equal(fake->requests[0].where, "\"qty\" > $1");
    assert_string_equal(fake->requests[0].params[0], "5");
    assert_true(coulomb_sub_loading(sub));
    feed_insert(&f, 0, 1, 10);
    fake_answer(0, &f, 20, 20, 1000);
    poll_all(w);
    assert_false(coulomb_sub_loading(sub));
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_READY);
    assert_int_equal(qty(w, 1), 10);
    assert_int_equal(w->heard.count, 1);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

static void t8_an_explicit_place_wins_on_demand_too(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    coulomb_electric_options o = electric_options(w, COULOMB_ON_DEMAND);

    (void)state;
    o.offset = "-1";
    electric_open_with(w, &o);
    assert_false(fake->from_now);
    assert_string_equal(fake->given_offset, "-1");
    electric_close(w);
}

static void t8_a_subset_comes_after_a_refresh(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *sub = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);

    (void)state;
    assert_int_equal(fake->refresh_count, 1);
    assert_int_equal(fake->request_count, 0);
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(fake->request_count, 1);
    pass(w, 1000); /* its timer was cleared */
    assert_int_equal(fake->request_count, 1);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

static void t8_the_refresh_is_bounded(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *sub = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);

    (void)state;
    pass(w, 249);
    assert_int_equal(fake->request_count, 0);
    pass(w, 1);
    assert_int_equal(fake->request_count, 1);
    fake_refreshed(COULOMB_OK); /* late: nothing more */
    poll_all(w);
    assert_int_equal(fake->request_count, 1);
    coulomb_unsubscribe(sub);
    /* So is one that fails, late or not. */
    sub = sub_where(w, qty_is(w, COULOMB_LT, 5), NULL, 0);
    fake_refreshed(COULOMB_E_NETWORK);
    poll_all(w);
    assert_int_equal(fake->request_count, 2);
    pass(w, 1000);
    assert_int_equal(fake->request_count, 2);
    coulomb_unsubscribe(sub);
    sub = sub_where(w, qty_is(w, COULOMB_EQ, 5), NULL, 0);
    pass(w, 250);
    assert_int_equal(fake->request_count, 3);
    fake_refreshed(COULOMB_E_NETWORK);
    pass(w, 1000);
    assert_int_equal(fake->request_count, 3);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

static void t8_progressive_shows_subsets_then_swaps(void **state)
{
    struct world *w = electric_open(COULOMB_PROGRESSIVE);
    coulomb_sub *sub;

    (void)state;
    assert_false(fake->changes_only);
    sub = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);
    assert_int_equal(fake_open_requests(), 1);
    assert_true(fake->requests[0].beside);
    feed_insert(&f, 0, 9, 90); /* the log, unseen */
    feed_send_part(&f);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 0);
    feed_insert(&f, 0, 1, 10);
    feed_insert(&f, 0, 2, 20);
    fake_answer(0, &f, 20, 20, 1000);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 2);
    assert_int_equal(w->heard.count, 2);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_LOADING);
    memset(&w->heard, 0, sizeof(w->heard));
    /* The swap: row 2 is gone meanwhile, row 1 another, row 9 there. All at once. */
    feed_insert(&f, 0, 1, 11);
    feed_up_to_date(&f, 2000);
    feed_send(&f);
    assert_int_equal(coulomb_size(w->coll), 2);
    assert_int_equal(qty(w, 1), 11);
    assert_int_equal(qty(w, 2), -2);
    assert_int_equal(qty(w, 9), 90);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_READY);
    poll_all(w);
    assert_int_equal(w->heard.batches, 1);
    /* From now on everything is there. */
    coulomb_unsubscribe(sub);
    sub = sub_where(w, NULL, NULL, 0);
    assert_int_equal(fake->request_count, 1);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

static void t8_a_late_subset_is_dropped(void **state)
{
    struct world *w = electric_open(COULOMB_PROGRESSIVE);
    coulomb_sub *sub = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);

    (void)state;
    feed_insert(&f, 0, 1, 11);
    feed_up_to_date(&f, 2000);
    feed_send(&f);
    poll_all(w);
    feed_insert(&f, 0, 1, 10);
    feed_insert(&f, 0, 2, 20);
    fake_answer(0, &f, 20, 20, 1000);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 1);
    assert_int_equal(qty(w, 1), 11);
    assert_false(coulomb_sub_loading(sub));
    coulomb_unsubscribe(sub);
    electric_close(w);
}

static void t8_a_progressive_collection_that_resumes_has_everything(void **state)
{
    static const char meta[] = "{\"version\":1,\"resume\":{\"kind\":\"resume\","
                               "\"offset\":\"9_2\",\"handle\":\"h7\","
                               "\"cursor\":\"\",\"shapeId\":\"http://127.0.0.1:3000/v1/"
                               "shape?table=items&where=\","
                               "\"updatedAt\":5}}";
    struct world *w = calloc(1, sizeof(*w));
    coulomb_electric_options o = electric_options(w, COULOMB_PROGRESSIVE);
    coulomb_sub *sub;

    (void)state;
    o.collection.start_sync = 0;
    electric_open_with(w, &o);
    OK(coulomb_collection_import_meta(w->coll, meta, strlen(meta)));
    sub = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);
    assert_string_equal(fake->given_offset, "9_2");
    assert_int_equal(fake->request_count, 0);
    feed_insert(&f, 30, 1, 10); /* no swap: seen with its commit */
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    assert_int_equal(qty(w, 1), 10);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

static void t11_a_refetch_while_progressive(void **state)
{
    struct world *w = electric_open(COULOMB_PROGRESSIVE);
    coulomb_sub *sub = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);

    (void)state;
    feed_insert(&f, 0, 1, 10);
    fake_answer(0, &f, 20, 20, 1000);
    feed_insert(&f, 0, 7, 70);
    feed_send_part(&f);
    feed_refetch(&f);
    feed_insert(&f, 0, 1, 12);
    feed_send_part(&f);
    poll_all(w);
    assert_int_equal(qty(w, 1), 10);
    feed_up_to_date(&f, 2000);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 1);
    assert_int_equal(qty(w, 1), 12);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_READY);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

/* While a transaction is being persisted the subset's rows wait, behind the refetch's truncate. */
static void t11_subsets_amid_a_refetch_give_way_to_it(void **state)
{
    struct world *w = electric_open(COULOMB_PROGRESSIVE);
    coulomb_sub *sub;

    (void)state;
    feed_insert(&f, 0, 1, 10);
    feed_up_to_date(&f, 1000);
    feed_send(&f);
    feed_refetch(&f);
    feed_send(&f);
    OK(insert(w, 5, 50, NULL, NULL));
    poll_all(w);
    assert_int_equal(w->open_count, 1);
    sub = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);
    feed_insert(&f, 0, 1, 11);
    feed_insert(&f, 0, 2, 20);
    fake_answer(0, &f, 20, 20, 1100);
    poll_all(w);
    /* The log's rows are newer: 1 was changed and 2 deleted. */
    feed_insert(&f, 0, 1, 12);
    feed_up_to_date(&f, 2000);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(qty(w, 1), 12);
    assert_int_equal(qty(w, 2), -2);
    assert_int_equal(qty(w, 5), 50);
    answer(w, 0, COULOMB_OK);
    poll_all(w);
    assert_int_equal(qty(w, 1), 12);
    assert_int_equal(qty(w, 2), -2);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

/* --- Overlaps (T9, T10) --------------------------------------------------------------------------------- */

static void t9_a_subsets_end_commits(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *sub = sub_where(w, NULL, NULL, 0);

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_string_equal(fake->requests[0].where, "true = true");
    feed_insert(&f, 0, 1, 10);
    feed_insert(&f, 0, 2, 20);
    fake_answer(0, &f, 20, 20, 1000);
    assert_int_equal(coulomb_size(w->coll), 2);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

static void t10_overlapping_rows_become_updates(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *a = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);
    coulomb_sub *b = sub_where(w, qty_is(w, COULOMB_LT, 50), NULL, 0);

    (void)state;
    assert_int_equal(fake->refresh_count, 1); /* one for both */
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(fake_open_requests(), 2);
    feed_insert(&f, 0, 1, 10);
    fake_answer(0, &f, 20, 20, 1000);
    poll_all(w);
    feed_insert(&f, 0, 1, 12);
    feed_insert(&f, 0, 2, 3);
    fake_answer(1, &f, 21, 21, 1100);
    poll_all(w);
    assert_int_equal(qty(w, 1), 12);
    assert_int_equal(qty(w, 2), 3);
    coulomb_unsubscribe(a);
    coulomb_unsubscribe(b);
    electric_close(w);
}

static void t10_a_delete_and_an_insert_of_one_key(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *sub = sub_where(w, NULL, NULL, 0);

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    feed_insert(&f, 0, 1, 10);
    fake_answer(0, &f, 20, 20, 1000);
    feed_delete(&f, 30, 1);
    feed_insert(&f, 31, 1, 40);
    feed_up_to_date(&f, 3100);
    feed_send(&f);
    assert_int_equal(qty(w, 1), 40);
    feed_delete(&f, 32, 1);
    feed_up_to_date(&f, 3200);
    feed_send(&f);
    assert_int_equal(qty(w, 1), -2);
    feed_insert(&f, 33, 1, 50);
    feed_up_to_date(&f, 3300);
    feed_send(&f);
    assert_int_equal(qty(w, 1), 50);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

static void what_the_snapshot_has_is_passed_over_in_the_log(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *sub = sub_where(w, NULL, NULL, 0);

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    feed_insert(&f, 0, 1, 13);
    fake_answer(0, &f, 20, 20, 5000);
    /* The log is behind the view: it brings what made the row what it is. */
    feed_insert(&f, 15, 1, 10);
    feed_update(&f, 16, 1, 11);
    feed_delete(&f, 17, 1);
    feed_up_to_date(&f, 1700);
    feed_send(&f);
    assert_int_equal(qty(w, 1), 13);
    feed_update(&f, 19, 1, 12);
    feed_update(&f, 21, 1, 14); /* not seen by the view */
    feed_up_to_date(&f, 2100);
    feed_send(&f);
    assert_int_equal(qty(w, 1), 14);
    /* The view is passed: number 19 is another transaction by now. */
    feed_update(&f, 19, 1, 15);
    feed_up_to_date(&f, 2200);
    feed_send(&f);
    assert_int_equal(qty(w, 1), 15);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

static void a_position_ends_the_passing_over(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *sub = sub_where(w, NULL, NULL, 0);

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    feed_insert(&f, 0, 1, 13);
    fake_answer(0, &f, 20, 20, 5000);
    feed_update(&f, 19, 1, 12);
    feed_up_to_date(&f, 4999);
    feed_send(&f);
    assert_int_equal(qty(w, 1), 13);
    feed_up_to_date(&f, 5000);
    feed_send(&f);
    feed_update(&f, 19, 1, 12);
    feed_up_to_date(&f, 5100);
    feed_send(&f);
    assert_int_equal(qty(w, 1), 12);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

/* The log, behind the view, brings the row in as it was: what changed it then is not passed over. */
static void a_row_that_moves_in_follows_the_log(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *sub = sub_where(w, NULL, NULL, 0);

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    feed_insert(&f, 0, 1, 13);
    feed_tags(&f, "x", NULL, "1");
    feed_insert(&f, 0, 2, 23);
    feed_tags(&f, "z", NULL, "1");
    fake_answer(0, &f, 20, 20, 5000);
    feed_insert(&f, 0, 1, 10);
    feed_tags(&f, "x", NULL, "1");
    feed_last(&f)->move_in = true;
    feed_update(&f, 16, 1, 13);
    /* Out and in again. */
    feed_move(&f, STREAM_MOVE_OUT, 0, "z");
    feed_insert(&f, 0, 2, 20);
    feed_tags(&f, "z", NULL, "1");
    feed_last(&f)->move_in = true;
    feed_update(&f, 17, 2, 23);
    feed_up_to_date(&f, 1700);
    feed_send(&f);
    assert_int_equal(qty(w, 1), 13);
    assert_int_equal(qty(w, 2), 23);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

static void an_older_snapshot_does_not_bring_back_what_moved_out(void **state)
{
    static const uint64_t txid = 25;
    struct world *w = on_demand();
    coulomb_sub *a = sub_where(w, qty_is(w, COULOMB_LT, 50), NULL, 0);
    coulomb_sub *b;

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    feed_insert(&f, 0, 1, 13);
    feed_tags(&f, "x", NULL, "1");
    fake_answer(0, &f, 20, 20, 2000);
    b = sub_where(w, qty_is(w, COULOMB_GT, 10), NULL, 0);
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    feed_move(&f, STREAM_MOVE_OUT, 0, "x");
    feed_last(&f)->txids = &txid;
    feed_last(&f)->txid_count = 1;
    feed_up_to_date(&f, 2500);
    feed_send(&f);
    assert_int_equal(qty(w, 1), -2);
    feed_insert(&f, 0, 1, 13);
    feed_tags(&f, "x", NULL, "1");
    fake_answer(1, &f, 25, 25, 2400);
    assert_int_equal(qty(w, 1), -2);
    coulomb_unsubscribe(a);
    coulomb_unsubscribe(b);
    electric_close(w);
}

static void an_older_snapshot_does_not_undo_the_log(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *sub = sub_where(w, NULL, NULL, 0);

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    /* Streamed before the database shows them to others. */
    feed_insert(&f, 25, 1, 25);
    feed_insert(&f, 26, 2, 26);
    feed_delete(&f, 27, 2);
    feed_up_to_date(&f, 2700);
    feed_send(&f);
    feed_insert(&f, 0, 1, 1);
    feed_insert(&f, 0, 2, 2);
    feed_insert(&f, 0, 3, 3);
    fake_answer(0, &f, 25, 25, 2600);
    assert_int_equal(qty(w, 1), 25);
    assert_int_equal(qty(w, 2), -2);
    assert_int_equal(qty(w, 3), 3);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

static void changes_of_rows_that_are_not_loaded_are_dropped(void **state)
{
    struct world *w = on_demand();

    (void)state;
    watch(w, COULOMB_INITIAL_UNFILTERED);
    feed_update(&f, 30, 1, 10);
    feed_delete(&f, 31, 2);
    feed_insert(&f, 32, 3, 30); /* an insert is a whole row */
    feed_update(&f, 33, 3, 31);
    feed_up_to_date(&f, 3300);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 1);
    assert_int_equal(qty(w, 3), 31);
    electric_close(w);
}

/* --- Coverage (T16) ------------------------------------------------------------------------------------- */

static size_t load_all(struct world *w)
{
    for (size_t i = 0; i < 20; i++) {
        if (fake->refresh_first < fake->refresh_count)
            fake_refreshed(COULOMB_OK);
        poll_all(w);
        for (size_t n = 0; n < fake->request_count; n++) {
            if (fake->requests[n].open)
                fake_answer(n, &f, 20, 20, 1000);
        }
        poll_all(w);
    }
    return fake->request_count;
}

static size_t asked_for(struct world *w, coulomb_expr *where, const coulomb_order *order,
                        size_t limit)
{
    size_t before = fake->request_count;
    coulomb_sub *sub = sub_where(w, where, order, limit);
    size_t asked = load_all(w) - before;

    assert_false(coulomb_sub_loading(sub));
    coulomb_unsubscribe(sub);
    return asked;
}

static coulomb_expr *in_list(struct world *w, const int64_t *items, size_t count)
{
    coulomb_value values[8];

    for (size_t i = 0; i < count; i++)
        values[i] = coulomb_int(items[i]);
    return coulomb_in(w->coll, "qty", values, count);
}

static void t16_what_is_covered_is_not_asked_again(void **state)
{
    static const int64_t some[] = {7, 8, 20};
    static const int64_t more[] = {7, 3};
    static const int64_t three[] = {3};
    struct world *w = on_demand();

    (void)state;
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GT, 5), NULL, 0), 1);
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GT, 5), NULL, 0), 0);
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GT, 6), NULL, 0), 0);
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GTE, 6), NULL, 0), 0);
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_EQ, 9), NULL, 0), 0);
    assert_int_equal(asked_for(w, in_list(w, some, 3), NULL, 0), 0);
    assert_int_equal(asked_for(w,
                               coulomb_and(qty_is(w, COULOMB_GT, 5),
                                           coulomb_where(w->coll, "name", COULOMB_EQ,
                                                         coulomb_text("a"))),
                               NULL, 0),
                     0);
    assert_int_equal(
        asked_for(w, coulomb_or(qty_is(w, COULOMB_GT, 50), qty_is(w, COULOMB_EQ, 8)),
                  NULL, 0),
        0);
    /* Not covered. */
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GTE, 5), NULL, 0), 1);
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_LT, 2), NULL, 0), 1);
    assert_int_equal(asked_for(w, in_list(w, more, 2), NULL, 0), 1);
    assert_int_equal(asked_for(w, in_list(w, three, 1), NULL, 0), 0);
    /* By two together. */
    assert_int_equal(
        asked_for(w, coulomb_or(qty_is(w, COULOMB_GT, 9), qty_is(w, COULOMB_LT, 1)), NULL,
                  0),
        0);
    /* All rows cover everything. */
    assert_int_equal(asked_for(w, NULL, NULL, 0), 1);
    assert_int_equal(asked_for(w, NULL, NULL, 0), 0);
    assert_int_equal(asked_for(w, coulomb_not(qty_is(w, COULOMB_GT, 9)), NULL, 0), 0);
    electric_close(w);
}

static void t16_windows_are_covered_by_windows(void **state)
{
    struct world *w = on_demand();
    coulomb_order up = {.column = "qty"};
    coulomb_order down = {.column = "qty", .descending = 1};

    (void)state;
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GT, 5), &up, 10), 1);
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GT, 5), &up, 10), 0);
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GT, 5), &up, 4), 0);
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GT, 5), &up, 11), 1);
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GT, 5), &down, 4), 1);
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GT, 6), &up, 4), 1); /* other rows */
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GT, 5), NULL, 0),
                     1); /* a window is not all */
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GT, 6), &up, 400), 0);
    electric_close(w);
}

static void t16_one_on_its_way_is_shared(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *a = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);
    coulomb_sub *b = sub_where(w, qty_is(w, COULOMB_GT, 7), NULL, 0);
    coulomb_sub *c;

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(fake->request_count, 1);
    /* Its first owner goes; the other keeps it alive. */
    coulomb_unsubscribe(a);
    poll_all(w);
    assert_int_equal(fake_open_requests(), 1);
    assert_true(coulomb_sub_loading(b));
    feed_insert(&f, 0, 1, 10);
    fake_answer(0, &f, 20, 20, 1000);
    poll_all(w);
    assert_false(coulomb_sub_loading(b));
    assert_int_equal(qty(w, 1), 10);
    /* One whose only owner goes is given up. */
    c = sub_where(w, qty_is(w, COULOMB_LT, 3), NULL, 0);
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(fake_open_requests(), 1);
    coulomb_unsubscribe(c);
    poll_all(w);
    assert_int_equal(fake_open_requests(), 0);
    coulomb_unsubscribe(b);
    electric_close(w);
}

static void t16_a_failure_is_told_and_not_remembered(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *a = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);
    coulomb_sub *b = sub_where(w, qty_is(w, COULOMB_GT, 7), NULL, 0);

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    fake_refuse(0, COULOMB_E_FETCH, "no such column");
    poll_all(w);
    assert_int_equal(coulomb_sub_error(a)->code, COULOMB_E_FETCH);
    assert_string_equal(coulomb_sub_error(a)->message, "no such column");
    assert_int_equal(coulomb_sub_error(b)->code, COULOMB_E_FETCH);
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_GT, 7), NULL, 0), 1);
    coulomb_unsubscribe(a);
    coulomb_unsubscribe(b);
    electric_close(w);
}

static void more_subsets_than_may_be_on_their_way(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *subs[50];

    (void)state;
    for (int64_t i = 0; i < 50; i++)
        subs[i] = sub_where(w, qty_is(w, COULOMB_EQ, i), NULL, 0);
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(fake_open_requests(), FAKE_REQUESTS_MAX / 2);
    assert_int_equal(load_all(w), 50);
    for (size_t i = 0; i < 50; i++) {
        assert_false(coulomb_sub_loading(subs[i]));
        assert_int_equal(coulomb_sub_error(subs[i])->code, COULOMB_OK);
        coulomb_unsubscribe(subs[i]);
    }
    electric_close(w);
}

/* --- Cancelled ones ------------------------------------------------------------------------------------ */

static void rows_of_a_cancelled_subset_do_not_come_with_the_next(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *a = sub_where(w, qty_is(w, COULOMB_LT, 5), NULL, 0);
    coulomb_sub *b = sub_where(w, qty_is(w, COULOMB_GT, 50), NULL, 0);

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(fake->request_count, 2);
    feed_insert(&f, 0, 1, 1);
    feed_insert(&f, 0, 2, 2);
    fake_answer_part(0, &f);
    coulomb_unsubscribe(a);
    poll_all(w);
    assert_int_equal(fake_open_requests(), 1);
    /* The row's end, which the next view sees. */
    feed_delete(&f, 25, 1);
    feed_up_to_date(&f, 2500);
    feed_send(&f);
    feed_insert(&f, 0, 60, 60);
    fake_answer(1, &f, 30, 30, 3000);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 1);
    assert_int_equal(qty(w, 60), 60);
    coulomb_unsubscribe(b);
    electric_close(w);
}

/* The batch that found no memory does not come again; the next one is taken from its first message on. */
static void a_subset_cancelled_amid_a_batch(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *a = sub_where(w, qty_is(w, COULOMB_LT, 50), NULL, 0);
    coulomb_sub *b = sub_where(w, qty_is(w, COULOMB_GT, 50), NULL, 0);
    struct stream_batch batch = {.messages = f.m, .more = true};
    int code = COULOMB_OK;

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    fake->delivering = fake->requests[0].number;
    for (int64_t i = 0; i < FEED_MAX; i++)
        feed_insert(&f, 0, i, i);
    batch.count = f.count;
    w->heap.calls = 0;
    w->heap.fail_at = 20; /* some of the rows are taken */
    code = fake->callbacks.messages(fake, &batch, fake->arg);
    w->heap.fail_at = 0;
    assert_int_equal(code, COULOMB_E_MEMORY);
    memset(&f, 0, sizeof(f));
    coulomb_unsubscribe(a);
    poll_all(w);
    feed_insert(&f, 0, 60, 60);
    fake_answer(1, &f, 30, 30, 3000);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 1);
    assert_int_equal(qty(w, 60), 60);
    assert_false(coulomb_sub_loading(b));
    coulomb_unsubscribe(b);
    electric_close(w);
}

/* Its rows came, but there was no memory to commit them: then nobody wants it any more. */
static void a_subset_cancelled_at_its_end(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *a = sub_where(w, qty_is(w, COULOMB_LT, 50), NULL, 0);
    struct stream_batch batch = {.messages = f.m};

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    feed_insert(&f, 0, 1, 1);
    feed_view(&f, 30, 30, NULL, 0);
    fake_answer_part(0, &f);
    feed_add(&f, STREAM_SUBSET_END)->subset = fake->requests[0].number;
    batch.count = f.count;
    w->heap.calls = 0;
    w->heap.fail_at = 1;
    assert_int_equal(fake->callbacks.messages(fake, &batch, fake->arg), COULOMB_E_MEMORY);
    w->heap.fail_at = 0;
    memset(&f, 0, sizeof(f));
    coulomb_unsubscribe(a);
    poll_all(w);
    assert_int_equal(fake_open_requests(), 0); /* its done would find no load */
    feed_up_to_date(&f, 3100);
    feed_send(&f);
    electric_close(w);
}

/* --- Pages ------------------------------------------------------------------------------------------------ */

static void pages_ask_for_both_sides_of_their_cursor(void **state)
{
    struct world *w = on_demand();
    coulomb_order order = {.column = "qty", .nulls_last = 1};
    coulomb_value from = coulomb_int(20);
    coulomb_page_options o;
    coulomb_sub_options so;
    coulomb_sub *sub;

    (void)state;
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
    coulomb_options_init(&so, sizeof(so));
    OK(coulomb_subscribe(w->coll, &so, hear, &w->heard, &sub));
    load_all(w);
    memset(fake->requests, 0, sizeof(fake->requests));
    fake->request_count = 0;
    coulomb_options_init(&o, sizeof(o));
    o.order = &order;
    o.order_count = 1;
    o.limit = 10;
    o.from = &from;
    o.from_count = 1;
    OK(coulomb_sub_page(sub, &o, NULL));
    poll_all(w);
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(fake->request_count, 2);
    assert_string_equal(fake->requests[0].where, "(\"qty\" > $1 OR (\"qty\" IS NULL OR "
                                                 "\"qty\" IS NULL))");
    assert_true(fake->requests[0].has_limit);
    assert_int_equal(fake->requests[0].limit, 10);
    assert_string_equal(fake->requests[0].order_by, "\"qty\" NULLS LAST, \"id\"");
    assert_string_equal(fake->requests[1].where, "\"qty\" = $1");
    assert_false(fake->requests[1].has_limit);
    feed_insert(&f, 0, 5, 21);
    fake_answer(0, &f, 20, 20, 1000);
    poll_all(w);
    assert_true(coulomb_sub_loading(sub)); /* one side is missing */
    feed_insert(&f, 0, 4, 20);
    fake_answer(1, &f, 20, 20, 1000);
    poll_all(w);
    assert_false(coulomb_sub_loading(sub));
    assert_int_equal(coulomb_size(w->coll), 2);
    /* One that fails takes the other with it. */
    from = coulomb_int(30);
    OK(coulomb_sub_page(sub, &o, NULL));
    poll_all(w);
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(fake_open_requests(), 2);
    fake_refuse(2, COULOMB_E_FETCH, "no");
    poll_all(w);
    assert_int_equal(fake_open_requests(), 0);
    assert_int_equal(coulomb_sub_error(sub)->code, COULOMB_E_FETCH);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

/* A page from a cursor on, of which nothing has come; *sub is the caller's. */
static struct world *asked_for_a_page(coulomb_sub **sub)
{
    struct world *w = on_demand();
    coulomb_order order = {.column = "qty", .nulls_last = 1};
    coulomb_value from = coulomb_int(20);
    coulomb_page_options o;
    coulomb_sub_options so;

    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
    coulomb_options_init(&so, sizeof(so));
    so.where = qty_is(w, COULOMB_GT, 0);
    OK(coulomb_subscribe(w->coll, &so, hear, &w->heard, sub));
    coulomb_expr_free((coulomb_expr *)(uintptr_t)so.where);
    coulomb_options_init(&o, sizeof(o));
    o.order = &order;
    o.order_count = 1;
    o.limit = 10;
    o.from = &from;
    o.from_count = 1;
    OK(coulomb_sub_page(*sub, &o, NULL));
    poll_all(w);
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(fake->request_count, 2);
    return w;
}

static void a_refetch_between_the_halves_of_a_page(void **state)
{
    coulomb_sub *sub;
    struct world *w = asked_for_a_page(&sub);

    (void)state;
    feed_insert(&f, 0, 5, 21);
    fake_answer(0, &f, 20, 20, 1000);
    poll_all(w);
    assert_int_equal(qty(w, 5), 21);
    /* The other one is answered with 409. */
    feed_refetch(&f);
    feed_send(&f);
    poll_all(w);
    feed_up_to_date(&f, 2000);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(qty(w, 5), 21); /* until all is there again */
    /* Both are asked for anew. */
    assert_int_equal(fake->request_count, 4);
    assert_int_equal(fake_open_requests(), 2);
    assert_true(fake->requests[2].open && fake->requests[3].open);
    feed_insert(&f, 0, 5, 22);
    fake_answer(2, &f, 30, 30, 2000);
    feed_insert(&f, 0, 4, 20);
    fake_answer(3, &f, 30, 30, 2000);
    poll_all(w);
    assert_false(coulomb_sub_loading(sub));
    assert_int_equal(qty(w, 5), 22);
    assert_int_equal(qty(w, 4), 20);
    coulomb_unsubscribe(sub);
    electric_close(w);
}

static void pages_by_number_have_an_offset(void **state)
{
    struct world *w = on_demand();
    coulomb_order order = {.column = "qty", .descending = 1};
    static struct stream_column columns[3] = {
        {.name = "id", .pk_index = 0, .type = COULOMB_INT64, .not_null = true},
        {.name = "name", .pk_index = -1, .type = COULOMB_TEXT},
        {.name = "qty", .pk_index = -1, .type = COULOMB_INT64, .not_null = true}};
    coulomb_page_options o;
    coulomb_sub_options so;
    coulomb_sub *sub;

    (void)state;
    fake->columns = columns;
    fake->column_count = 3;
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
    coulomb_options_init(&so, sizeof(so));
    so.where = qty_is(w, COULOMB_GT, 0);
    OK(coulomb_subscribe(w->coll, &so, hear, &w->heard, &sub));
    coulomb_expr_free((coulomb_expr *)(uintptr_t)so.where);
    coulomb_options_init(&o, sizeof(o));
    o.order = &order;
    o.order_count = 1;
    o.limit = 10;
    o.has_offset = 1;
    o.offset = 40;
    OK(coulomb_sub_page(sub, &o, NULL));
    poll_all(w);
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(fake->requests[fake->request_count - 1].offset, 40);
    assert_int_equal(fake->requests[fake->request_count - 1].limit, 10);
    /* A column that is never null needs no place for nulls. */
    assert_string_equal(fake->requests[fake->request_count - 1].order_by,
                        "\"qty\" DESC, \"id\"");
    coulomb_unsubscribe(sub);
    electric_close(w);
}

/* --- Refetches (T3, T10) ------------------------------------------------------------------------------------ */

static void t3_an_on_demand_refetch_shows_no_empty_collection(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *a = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);
    coulomb_sub *b = sub_where(w, qty_is(w, COULOMB_GT, 7), NULL, 0);
    coulomb_sub *gone = sub_where(w, qty_is(w, COULOMB_LT, 3), NULL, 0);

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    feed_insert(&f, 0, 1, 10);
    fake_answer(0, &f, 20, 20, 1000);
    fake_answer(1, &f, 20, 20, 1000);
    poll_all(w);
    coulomb_unsubscribe(gone);
    memset(&w->heard, 0, sizeof(w->heard));
    feed_refetch(&f);
    feed_send(&f);
    poll_all(w);
    /* What is still wanted is asked for again, once. */
    assert_int_equal(fake_open_requests(), 1);
    assert_string_equal(fake->requests[2].params[0], "5");
    feed_up_to_date(&f, 2000);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(qty(w, 1), 10); /* the old row, still */
    assert_int_equal(w->heard.batches, 0);
    feed_insert(&f, 0, 1, 11);
    feed_insert(&f, 0, 2, 12);
    fake_answer(2, &f, 30, 30, 2000);
    assert_int_equal(qty(w, 1), 11);
    assert_int_equal(qty(w, 2), 12);
    poll_all(w);
    assert_int_equal(fake_open_requests(), 0); /* the core's own question is answered */
    assert_false(coulomb_sub_loading(a));
    assert_false(coulomb_sub_loading(b));
    assert_int_equal(coulomb_size(w->coll), 2);
    /* Coverage began anew. */
    assert_int_equal(asked_for(w, qty_is(w, COULOMB_LT, 3), NULL, 0), 1);
    coulomb_unsubscribe(a);
    coulomb_unsubscribe(b);
    electric_close(w);
}

static void t3_a_refetch_is_not_held_up_by_what_fails_or_goes(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *a = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);
    coulomb_sub *b = sub_where(w, qty_is(w, COULOMB_LT, 3), NULL, 0);

    (void)state;
    load_all(w);
    feed_insert(&f, 30, 1, 10);
    feed_insert(&f, 30, 2, 1);
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    feed_refetch(&f);
    feed_up_to_date(&f, 3100);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 2);
    assert_int_equal(fake_open_requests(), 2);
    fake_refuse(2, COULOMB_E_FETCH, "no");
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 2);
    coulomb_unsubscribe(b); /* the last one that it waited for */
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 0);
    coulomb_unsubscribe(a);
    electric_close(w);
}

/* What it waited for goes while an answer of the log is half delivered: that shows whole, or not yet. */
static void t3_a_refetch_does_not_end_amid_an_answer(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *a = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);
    struct stream_batch batch = {.messages = f.m};

    (void)state;
    load_all(w);
    feed_insert(&f, 30, 1, 10);
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    feed_refetch(&f);
    feed_up_to_date(&f, 3100);
    feed_send(&f);
    poll_all(w);
    feed_insert(&f, 32, 3, 30);
    feed_send_part(&f);
    coulomb_unsubscribe(a);
    poll_all(w);
    assert_int_equal(qty(w, 1), 10);
    assert_int_equal(qty(w, 3), -2);
    /* The last batch finds no memory: the stream stands behind it already. */
    feed_insert(&f, 32, 4, 40);
    batch.count = f.count;
    fake_copy(fake->offset, sizeof(fake->offset), "32_0");
    w->heap.calls = 0;
    w->heap.fail_at = 1;
    assert_int_equal(fake->callbacks.messages(fake, &batch, fake->arg), COULOMB_E_MEMORY);
    w->heap.fail_at = 0;
    poll_all(w);
    assert_int_equal(qty(w, 3), -2);
    OK(fake->callbacks.messages(fake, &batch, fake->arg));
    memset(&f, 0, sizeof(f));
    poll_all(w);
    assert_int_equal(qty(w, 1), -2);
    assert_int_equal(qty(w, 3), 30);
    assert_int_equal(qty(w, 4), 40);
    electric_close(w);
}

static void t2_a_stream_that_fails_amid_a_refetch_keeps_the_rows(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *a = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);

    (void)state;
    load_all(w);
    feed_insert(&f, 30, 1, 10);
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    feed_refetch(&f);
    feed_up_to_date(&f, 3100);
    feed_send(&f);
    poll_all(w);
    fake->phase = STREAM_FAILED; /* and then those who wait are told */
    fake_refuse(fake->request_count - 1, COULOMB_E_FETCH, "no");
    fake_fail(COULOMB_E_FETCH, "no");
    poll_all(w);
    assert_int_equal(qty(w, 1), 10);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_READY);
    assert_false(coulomb_sub_loading(a));
    coulomb_unsubscribe(a);
    electric_close(w);
}

static void t3_a_refetch_while_a_subset_is_on_its_way(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *a = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    feed_insert(&f, 0, 1, 10);
    feed_send_part(&f); /* half of its rows */
    feed_refetch(&f);
    feed_send(&f);
    feed_up_to_date(&f, 2000);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 0);
    feed_insert(&f, 0, 2, 20); /* the stream asked again by itself */
    fake_answer(0, &f, 30, 30, 2000);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 1);
    assert_int_equal(qty(w, 2), 20);
    assert_false(coulomb_sub_loading(a));
    coulomb_unsubscribe(a);
    electric_close(w);
}

static void cleanup_answers_what_waits(void **state)
{
    struct world *w = on_demand();
    coulomb_sub *a = sub_where(w, qty_is(w, COULOMB_GT, 5), NULL, 0);
    coulomb_sub *b = sub_where(w, qty_is(w, COULOMB_GT, 7), NULL, 0);

    (void)state;
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    OK(coulomb_collection_cleanup(w->coll));
    poll_all(w);
    assert_int_equal(fakes_live, 0);
    OK(coulomb_collection_start(w->coll));
    poll_all(w);
    assert_int_equal(fake_open_requests(), 1); /* asked again, in the new session */
    feed_insert(&f, 0, 1, 10);
    fake_answer(0, &f, 20, 20, 1000);
    poll_all(w);
    assert_int_equal(qty(w, 1), 10);
    assert_false(coulomb_sub_loading(a));
    assert_false(coulomb_sub_loading(b));
    coulomb_unsubscribe(a);
    coulomb_unsubscribe(b);
    electric_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(t8_eager_loads_no_subsets),
        cmocka_unit_test(t8_on_demand_begins_now),
        cmocka_unit_test(t8_an_explicit_place_wins_on_demand_too),
        cmocka_unit_test(t8_a_subset_comes_after_a_refresh),
        cmocka_unit_test(t8_the_refresh_is_bounded),
        cmocka_unit_test(t8_progressive_shows_subsets_then_swaps),
        cmocka_unit_test(t8_a_late_subset_is_dropped),
        cmocka_unit_test(t8_a_progressive_collection_that_resumes_has_everything),
        cmocka_unit_test(t11_a_refetch_while_progressive),
        cmocka_unit_test(t11_subsets_amid_a_refetch_give_way_to_it),
        cmocka_unit_test(t9_a_subsets_end_commits),
        cmocka_unit_test(t10_overlapping_rows_become_updates),
        cmocka_unit_test(t10_a_delete_and_an_insert_of_one_key),
        cmocka_unit_test(what_the_snapshot_has_is_passed_over_in_the_log),
        cmocka_unit_test(a_position_ends_the_passing_over),
        cmocka_unit_test(a_row_that_moves_in_follows_the_log),
        cmocka_unit_test(an_older_snapshot_does_not_bring_back_what_moved_out),
        cmocka_unit_test(an_older_snapshot_does_not_undo_the_log),
        cmocka_unit_test(changes_of_rows_that_are_not_loaded_are_dropped),
        cmocka_unit_test(t16_what_is_covered_is_not_asked_again),
        cmocka_unit_test(t16_windows_are_covered_by_windows),
        cmocka_unit_test(t16_one_on_its_way_is_shared),
        cmocka_unit_test(t16_a_failure_is_told_and_not_remembered),
        cmocka_unit_test(more_subsets_than_may_be_on_their_way),
        cmocka_unit_test(rows_of_a_cancelled_subset_do_not_come_with_the_next),
        cmocka_unit_test(a_subset_cancelled_amid_a_batch),
        cmocka_unit_test(a_subset_cancelled_at_its_end),
        cmocka_unit_test(pages_ask_for_both_sides_of_their_cursor),
        cmocka_unit_test(a_refetch_between_the_halves_of_a_page),
        cmocka_unit_test(pages_by_number_have_an_offset),
        cmocka_unit_test(t3_an_on_demand_refetch_shows_no_empty_collection),
        cmocka_unit_test(t3_a_refetch_is_not_held_up_by_what_fails_or_goes),
        cmocka_unit_test(t3_a_refetch_does_not_end_amid_an_answer),
        cmocka_unit_test(t2_a_stream_that_fails_amid_a_refetch_keeps_the_rows),
        cmocka_unit_test(t3_a_refetch_while_a_subset_is_on_its_way),
        cmocka_unit_test(cleanup_answers_what_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
