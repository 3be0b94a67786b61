/* Behaviours T of tests/CLIENT.md: waiting for transactions, positions and messages. */
#include "support/electric.h"

static struct feed f;

/* What a waiter was told. */
struct told {
    int calls;
    int code;
    char message[512];
};

static void tell(coulomb_collection *coll, const coulomb_error *error, void *arg)
{
    struct told *t = arg;

    (void)coll;
    t->calls++;
    t->code = error->code;
    memcpy(t->message, error->message, sizeof(t->message));
}

static struct world *ready(void)
{
    struct world *w = electric_open(COULOMB_EAGER);

    feed_insert(&f, 0, 1, 10);
    feed_up_to_date(&f, 1);
    feed_send(&f);
    poll_all(w);
    return w;
}

static void await(struct world *w, uint64_t txid, struct told *t)
{
    memset(t, 0, sizeof(*t));
    OK(coulomb_await_txid(w->coll, txid, 0, tell, t, NULL));
    poll_all(w);
}

/* --- Transactions (T4) ------------------------------------------------------------------------------ */

static void t4_a_transaction_counts_from_its_commit_point_on(void **state)
{
    struct world *w = ready();
    struct told t;
    struct told late;

    (void)state;
    await(w, 700, &t);
    assert_int_equal(t.calls, 0);
    feed_insert(&f, 700, 2, 20);
    feed_send_part(&f);
    poll_all(w);
    assert_int_equal(t.calls, 0);
    await(w, 700, &late); /* after the message, before the commit */
    assert_int_equal(late.calls, 0);
    feed_up_to_date(&f, 70000);
    feed_send(&f);
    assert_int_equal(t.calls, 0); /* callbacks come in polls */
    poll_all(w);
    assert_int_equal(t.calls, 1);
    assert_int_equal(t.code, COULOMB_OK);
    assert_int_equal(late.calls, 1);
    await(w, 700, &t); /* remembered */
    assert_int_equal(t.calls, 1);
    electric_close(w);
}

static void t4_several_transactions_have_all_to_come(void **state)
{
    struct world *w = ready();
    uint64_t txids[3] = {11, 12, 13};
    coulomb_await o;
    struct told t = {0};

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    o.txids = txids;
    o.txid_count = 3;
    o.txid_text = "14";
    OK(coulomb_await_all(w->coll, &o, tell, &t, NULL));
    for (uint64_t i = 14; i >= 11; i--) {
        assert_int_equal(t.calls, 0);
        feed_update(&f, i, 1, (int64_t)i);
        feed_up_to_date(&f, i * 100);
        feed_send(&f);
        poll_all(w);
    }
    assert_int_equal(t.calls, 1);
    electric_close(w);
}

static void t4_moves_bring_transactions(void **state)
{
    static const uint64_t txids[2] = {21, 22};
    struct world *w = ready();
    struct told t;
    struct told u;

    (void)state;
    await(w, 21, &t);
    await(w, 22, &u);
    feed_add(&f, STREAM_MOVE_OUT);
    feed_last(&f)->txids = txids;
    feed_last(&f)->txid_count = 2;
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(t.calls, 1);
    assert_int_equal(u.calls, 1);
    electric_close(w);
}

static void t4_time_runs_out(void **state)
{
    struct world *w = ready();
    struct told t;
    struct told u = {0};

    (void)state;
    await(w, 700, &t);
    OK(coulomb_await_txid(w->coll, 701, 200, tell, &u, NULL));
    pass(w, 200);
    assert_int_equal(u.calls, 1);
    assert_int_equal(u.code, COULOMB_E_TXID_TIMEOUT);
    pass(w, 4799);
    assert_int_equal(t.calls, 0);
    pass(w, 1);
    assert_int_equal(t.calls, 1);
    assert_int_equal(t.code, COULOMB_E_TXID_TIMEOUT);
    assert_non_null(strstr(t.message, "700"));
    memset(&t, 0, sizeof(t));
    OK(coulomb_await_txid(w->coll, 702, COULOMB_NEVER, tell, &t, NULL));
    pass(w, 200000);
    assert_int_equal(t.calls, 0);
    electric_close(w);
}

static void t4_what_is_no_transaction(void **state)
{
    static const char *const bad[] = {
        "", "x", "-1", "1.5", "1e3", " 1", "99999999999999999999"};
    struct world *w = ready();
    coulomb_await o;
    struct told t = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        coulomb_options_init(&o, sizeof(o));
        o.txid_text = bad[i];
        assert_int_equal(coulomb_await_all(w->coll, &o, tell, &t, NULL), COULOMB_E_TXID);
    }
    coulomb_options_init(&o, sizeof(o));
    assert_int_equal(coulomb_await_all(w->coll, &o, tell, &t, NULL), COULOMB_E_TXID);
    assert_int_equal(t.calls, 0);
    electric_close(w);
}

static void a_waiter_that_ended_is_not_told(void **state)
{
    struct world *w = ready();
    struct told t = {0};
    coulomb_token token;

    (void)state;
    OK(coulomb_await_txid(w->coll, 700, 0, tell, &t, &token));
    coulomb_off(w->c, token);
    feed_insert(&f, 700, 2, 20);
    feed_up_to_date(&f, 1);
    feed_send(&f);
    poll_all(w);
    pass(w, 10000);
    assert_int_equal(t.calls, 0);
    /* Also when it was settled and not told yet. */
    OK(coulomb_await_txid(w->coll, 700, 0, tell, &t, &token));
    coulomb_off(w->c, token);
    poll_all(w);
    assert_int_equal(t.calls, 0);
    electric_close(w);
}

static void many_transactions_push_old_ones_out(void **state)
{
    struct world *w = ready();
    struct told t;
    struct told u;

    (void)state;
    await(w, 5, &u); /* somebody who waits is not forgotten, however many come */
    for (uint64_t i = 0; i < 8192 + 50; i++) {
        feed_update(&f, 5 + i, 1, (int64_t)i);
        if (f.count == FEED_MAX - 1)
            feed_send_part(&f);
    }
    feed_up_to_date(&f, 1000000);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(u.calls, 1);
    assert_int_equal(u.code, COULOMB_OK);
    await(w, 5, &t);
    assert_int_equal(t.calls, 0);
    await(w, 8192 + 50, &t);
    assert_int_equal(t.calls, 1);
    await(w, 60, &t);
    assert_int_equal(t.calls, 1);
    electric_close(w);
}

/* --- 32 and 64 bits ----------------------------------------------------------------------------------- */

#define EPOCH ((uint64_t)3 << 32)

static void t4_wide_numbers_are_the_same_transactions(void **state)
{
    struct world *w = ready();
    struct told wide;
    struct told text = {0};
    coulomb_await o;

    (void)state;
    await(w, EPOCH | 700, &wide);
    coulomb_options_init(&o, sizeof(o));
    o.txid_text = "12884902588"; /* the same */
    OK(coulomb_await_all(w->coll, &o, tell, &text, NULL));
    feed_insert(&f, 700, 2, 20);
    feed_up_to_date(&f, 1);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(wide.calls, 1);
    assert_int_equal(text.calls, 1);
    electric_close(w);
}

static void t5_narrow_numbers_against_wide_snapshots(void **state)
{
    static const uint64_t xip[1] = {EPOCH | 998};
    struct world *w = ready();
    struct told t;

    (void)state;
    feed_view(&f, EPOCH | 990, EPOCH | 1000, xip, 1);
    feed_up_to_date(&f, 1);
    feed_send(&f);
    await(w, 989, &t);
    assert_int_equal(t.calls, 1);
    await(w, EPOCH | 989, &t);
    assert_int_equal(t.calls, 1);
    await(w, 997, &t);
    assert_int_equal(t.calls, 1);
    await(w, 998, &t); /* was on its way */
    assert_int_equal(t.calls, 0);
    await(w, 1000, &t);
    assert_int_equal(t.calls, 0);
    await(w, EPOCH | 1000, &t);
    assert_int_equal(t.calls, 0);
    /* A number that wrapped is of this epoch, not of long ago. */
    await(w, 0xffffff00u, &t);
    assert_int_equal(t.calls, 1); /* 2^32 - 256 of the epoch before */
    await(w, 0x7ffffff0u, &t);
    assert_int_equal(t.calls, 0);
    electric_close(w);
}

/* --- Snapshots (T5) -------------------------------------------------------------------------------------- */

static void t5_a_snapshot_shows_transactions(void **state)
{
    static const uint64_t xip[2] = {103, 105};
    struct world *w = ready();
    struct told before;
    struct told first[10];
    struct told then[10];

    (void)state;
    await(w, 104, &before);
    feed_view(&f, 102, 106, xip, 2);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(before.calls, 0); /* not committed */
    feed_up_to_date(&f, 1);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(before.calls, 1);
    for (uint64_t i = 100; i < 110; i++) {
        await(w, i, &first[i - 100]);
        assert_int_equal(first[i - 100].calls, i < 106 && i != 103 && i != 105);
    }
    /* A later one shows more. */
    feed_view(&f, 107, 107, NULL, 0);
    feed_up_to_date(&f, 1);
    feed_send(&f);
    for (uint64_t i = 100; i < 110; i++) {
        await(w, i, &then[i - 100]);
        assert_int_equal(then[i - 100].calls, i < 107);
        assert_int_equal(first[i - 100].calls, i < 107);
    }
    electric_close(w);
}

static void t5_the_views_before_the_first_up_to_date_count(void **state)
{
    struct world *w = electric_open(COULOMB_PROGRESSIVE);
    struct told t;

    (void)state;
    feed_insert(&f, 0, 1, 10);
    feed_view(&f, 50, 50, NULL, 0);
    feed_send_part(&f);
    feed_up_to_date(&f, 1);
    feed_send(&f);
    poll_all(w);
    await(w, 49, &t);
    assert_int_equal(t.calls, 1);
    electric_close(w);
}

static coulomb_sub *sub_from(struct world *w, coulomb_op op, int64_t n)
{
    coulomb_expr *where = coulomb_where(w->coll, "qty", op, coulomb_int(n));
    coulomb_sub_options o;
    coulomb_sub *sub;

    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_ROWS;
    o.where = where;
    OK(coulomb_subscribe(w->coll, &o, hear, &w->heard, &sub));
    coulomb_expr_free(where);
    poll_all(w);
    while (fake->refresh_first < fake->refresh_count)
        fake_refreshed(COULOMB_OK);
    poll_all(w);
    return sub;
}

/* On demand: row 1 is loaded, transaction 25 changes it, and a subset of other rows comes whose view
 * shows 25 before the log brings it. subs are the caller's. */
static struct world *ahead_of_the_log(coulomb_sub *subs[2], struct told *t)
{
    struct world *w = electric_open(COULOMB_ON_DEMAND);

    feed_up_to_date(&f, 1);
    feed_send(&f);
    poll_all(w);
    subs[0] = sub_from(w, COULOMB_LT, 50);
    feed_insert(&f, 0, 1, 1);
    fake_answer(0, &f, 20, 20, 2000);
    feed_up_to_date(&f, 2000);
    feed_send(&f);
    await(w, 25, t);
    subs[1] = sub_from(w, COULOMB_GT, 50);
    feed_insert(&f, 0, 60, 60);
    fake_answer(1, &f, 30, 30, 3000);
    poll_all(w);
    assert_int_equal(qty(w, 60), 60);
    assert_int_equal(t->calls, 0); /* row 1 is as before */
    return w;
}

static void t5_a_subsets_view_counts_when_the_log_is_past_it(void **state)
{
    coulomb_sub *subs[2];
    struct told t;
    struct told u;
    struct told late;
    struct world *w = ahead_of_the_log(subs, &t);

    (void)state;
    await(w, 24, &u); /* of rows that are not loaded */
    feed_update(&f, 25, 1, 2);
    feed_up_to_date(&f, 2500);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(qty(w, 1), 2);
    assert_int_equal(t.calls, 1);
    assert_int_equal(u.calls, 0);
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(u.calls, 1);
    await(w, 29, &late);
    assert_int_equal(late.calls, 1);
    coulomb_unsubscribe(subs[0]);
    coulomb_unsubscribe(subs[1]);
    electric_close(w);
}

static void t5_a_later_transaction_is_past_a_subsets_view(void **state)
{
    coulomb_sub *subs[2];
    struct told t;
    struct world *w = ahead_of_the_log(subs, &t);

    (void)state;
    feed_update(&f, 30, 1, 3);
    feed_send_part(&f);
    poll_all(w);
    assert_int_equal(t.calls, 0); /* not committed */
    feed_up_to_date(&f, 2900);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(t.calls, 1);
    coulomb_unsubscribe(subs[0]);
    coulomb_unsubscribe(subs[1]);
    electric_close(w);
}

/* Nothing happens, and the server's position stays: it is asked. */
static void t5_a_refresh_is_past_a_subsets_view(void **state)
{
    coulomb_sub *subs[2];
    struct told t;
    struct world *w = ahead_of_the_log(subs, &t);
    size_t asked = fake->refresh_count;

    (void)state;
    pass(w, 100);
    assert_int_equal(fake->refresh_count, asked + 1);
    fake_refreshed(COULOMB_E_NETWORK);
    poll_all(w);
    assert_int_equal(t.calls, 0);
    pass(w, 200);
    assert_int_equal(fake->refresh_count, asked + 2);
    feed_up_to_date(&f, 2000);
    feed_send(&f);
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(t.calls, 1);
    assert_int_equal(t.code, COULOMB_OK);
    coulomb_unsubscribe(subs[0]);
    coulomb_unsubscribe(subs[1]);
    electric_close(w);
}

static void t5_many_snapshots_leave_their_horizon(void **state)
{
    struct world *w = ready();
    struct told t;

    (void)state;
    for (uint64_t i = 0; i < 200; i++) {
        uint64_t xip = 1000 + i * 10;

        feed_view(&f, 1000 + i * 10, 1005 + i * 10, &xip, 1);
        feed_up_to_date(&f, 1);
        feed_send(&f);
    }
    await(w, 1001, &t);
    assert_int_equal(t.calls, 1);
    await(w, 1000 + 199 * 10, &t);
    assert_int_equal(t.calls, 0);
    electric_close(w);
}

static void t11_a_refetch_keeps_transactions_and_snapshots(void **state)
{
    struct world *w = electric_open(COULOMB_PROGRESSIVE);
    struct told t;
    struct told u;

    (void)state;
    await(w, 70, &t);
    await(w, 40, &u);
    feed_insert(&f, 70, 1, 10);
    feed_view(&f, 50, 50, NULL, 0);
    feed_send_part(&f);
    feed_refetch(&f);
    feed_insert(&f, 0, 1, 11);
    feed_up_to_date(&f, 7000);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(t.calls, 1);
    assert_int_equal(u.calls, 1);
    assert_int_equal(qty(w, 1), 11);
    assert_true(list_empty(&w->coll->sync_txs)); /* no transaction is left open */
    feed_insert(&f, 71, 2, 12);
    feed_up_to_date(&f, 7100);
    feed_send(&f);
    assert_int_equal(qty(w, 2), 12);
    electric_close(w);
}

/* --- Positions ------------------------------------------------------------------------------------------- */

static void a_write_without_a_row_is_over_when_its_position_is_reached(void **state)
{
    struct world *w = ready();
    uint64_t txid = 700;
    coulomb_await o;
    struct told t = {0};

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    o.txids = &txid;
    o.txid_count = 1;
    o.lsn = 5000;
    OK(coulomb_await_all(w->coll, &o, tell, &t, NULL));
    poll_all(w);
    assert_int_equal(fake->refresh_count, 0); /* the transaction mostly comes by itself */
    pass(w, 100);
    assert_int_equal(fake->refresh_count, 1);
    /* The server has not read so far: it is asked again, more and more seldom. */
    feed_up_to_date(&f, 4999);
    feed_send(&f);
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(t.calls, 0);
    pass(w, 199);
    assert_int_equal(fake->refresh_count, 1);
    pass(w, 1);
    assert_int_equal(fake->refresh_count, 2);
    pass(w, 400); /* while one runs there is no other */
    assert_int_equal(fake->refresh_count, 2);
    feed_up_to_date(&f, 5000);
    feed_send(&f);
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(t.calls, 1);
    assert_int_equal(t.code, COULOMB_OK);
    pass(w, 10000);
    assert_int_equal(fake->refresh_count, 2); /* nobody asks any more */
    /* What was reached is at once. */
    memset(&t, 0, sizeof(t));
    o.lsn = 4000;
    OK(coulomb_await_all(w->coll, &o, tell, &t, NULL));
    poll_all(w);
    assert_int_equal(t.calls, 1);
    electric_close(w);
}

/* The rows up to there found no memory: they are not in the collection. */
static void a_position_counts_from_its_commit_on(void **state)
{
    struct world *w = ready();
    struct stream_batch batch = {.messages = f.m};
    coulomb_await o;
    struct told t = {0};

    (void)state;
    feed_insert(&f, 700, 2, 20);
    feed_send_part(&f);
    fake_copy(fake->offset, sizeof(fake->offset), "6_0");
    feed_up_to_date(&f, 70000);
    batch.count = f.count;
    w->heap.calls = 0;
    w->heap.fail_at = 1;
    assert_int_equal(fake->callbacks.messages(fake, &batch, fake->arg), COULOMB_E_MEMORY);
    w->heap.fail_at = 0;
    coulomb_options_init(&o, sizeof(o));
    o.lsn = 70000;
    OK(coulomb_await_all(w->coll, &o, tell, &t, NULL));
    poll_all(w);
    assert_int_equal(t.calls, 0);
    assert_int_equal(qty(w, 2), -2);
    OK(fake->callbacks.messages(fake, &batch, fake->arg));
    memset(&f, 0, sizeof(f));
    poll_all(w);
    assert_int_equal(t.calls, 1);
    assert_int_equal(t.code, COULOMB_OK);
    assert_int_equal(qty(w, 2), 20);
    electric_close(w);
}

static void the_transaction_itself_ends_the_wait(void **state)
{
    struct world *w = ready();
    uint64_t txid = 700;
    coulomb_await o;
    struct told t = {0};

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    o.txids = &txid;
    o.txid_count = 1;
    o.lsn = 500000;
    OK(coulomb_await_all(w->coll, &o, tell, &t, NULL));
    feed_insert(&f, 700, 2, 20);
    feed_up_to_date(&f, 70000);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(t.calls, 1);
    pass(w, 1000);
    assert_int_equal(fake->refresh_count, 0);
    electric_close(w);
}

/* Who comes while others wait does not put the question off. */
static void steady_writes_do_not_put_off_the_question(void **state)
{
    struct world *w = ready();
    struct told t[6] = {0};
    coulomb_await o;

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    for (size_t i = 0; i < 6; i++) {
        o.lsn = 5000 + i;
        OK(coulomb_await_all(w->coll, &o, tell, &t[i], NULL));
        assert_int_equal(fake->refresh_count, i >= 5);
        pass(w, 20);
    }
    electric_close(w);
}

static void a_refresh_is_told_when_it_is_done(void **state)
{
    struct world *w = ready();
    struct told t = {0};
    struct told u = {0};
    coulomb_token token;

    (void)state;
    OK(coulomb_electric_refresh(w->coll, tell, &t, NULL));
    OK(coulomb_electric_refresh(w->coll, tell, &u, &token));
    assert_int_equal(fake->refresh_count, 2);
    poll_all(w);
    assert_int_equal(t.calls, 0);
    fake_refreshed(COULOMB_OK);
    poll_all(w);
    assert_int_equal(t.calls, 1);
    assert_int_equal(u.calls, 0);
    coulomb_off(w->c, token);
    fake_refreshed(COULOMB_E_NETWORK);
    poll_all(w);
    assert_int_equal(u.calls, 0);
    OK(coulomb_electric_refresh(w->coll, tell, &u, NULL));
    OK(coulomb_collection_cleanup(w->coll));
    poll_all(w);
    assert_int_equal(u.code, COULOMB_E_STREAM_STOPPED);
    assert_int_equal(coulomb_electric_refresh(w->coll, tell, &u, NULL),
                     COULOMB_E_SYNC_NOT_INITIALIZED);
    electric_close(w);
}

/* --- Handlers (T6, T20) ------------------------------------------------------------------------------------ */

struct handler {
    uint64_t txids[2];
    size_t count;
    int64_t timeout_ms;
    int failing;
};

static int persist(coulomb_tx *tx, coulomb_collection *coll, coulomb_completion *done,
                   void *arg)
{
    const struct handler *h = arg;
    coulomb_await o;

    (void)tx;
    if (h->failing)
        return COULOMB_E_NON_RETRIABLE;
    if (h->count == 0)
        return COULOMB_OK;
    coulomb_options_init(&o, sizeof(o));
    o.txids = h->txids;
    o.txid_count = h->count;
    o.timeout_ms = h->timeout_ms;
    coulomb_complete_after(done, coll, &o);
    return COULOMB_PENDING;
}

static struct world *handled(struct handler *h)
{
    struct world *w = calloc(1, sizeof(*w));
    coulomb_electric_options o = electric_options(w, COULOMB_EAGER);

    o.collection.on_insert = o.collection.on_update = o.collection.on_delete = persist;
    o.collection.handler_arg = h;
    electric_open_with(w, &o);
    feed_insert(&f, 0, 1, 10);
    feed_up_to_date(&f, 1);
    feed_send(&f);
    watch(w, COULOMB_INITIAL_ROWS);
    return w;
}

static void t6_a_handler_waits_for_its_transactions(void **state)
{
    struct handler h = {.txids = {30, 31}, .count = 2};
    struct world *w = handled(&h);
    coulomb_tx *tx;

    (void)state;
    OK(insert(w, 5, 50, NULL, &tx));
    poll_all(w);
    feed_insert(&f, 30, 5, 50);
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_PERSISTING);
    feed_update(&f, 31, 1, 11);
    feed_up_to_date(&f, 3100);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
    assert_int_equal(qty(w, 5), 50);
    assert_int_equal(qty(w, 1), 11);
    coulomb_tx_release(tx);
    electric_close(w);
}

static void t6_a_timeout_of_its_own_rolls_back(void **state)
{
    struct handler h = {.txids = {30}, .count = 1, .timeout_ms = 50};
    struct world *w = handled(&h);
    coulomb_tx *tx;

    (void)state;
    OK(insert(w, 5, 50, NULL, &tx));
    poll_all(w);
    pass(w, 50);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_FAILED);
    assert_int_equal(coulomb_tx_error(tx)->code, COULOMB_E_TXID_TIMEOUT);
    assert_int_equal(qty(w, 5), -2);
    coulomb_tx_release(tx);
    electric_close(w);
}

static void t6_a_handler_without_transactions_is_done(void **state)
{
    struct handler h = {.count = 0};
    struct world *w = handled(&h);
    coulomb_tx *tx;

    (void)state;
    OK(insert(w, 5, 50, NULL, &tx));
    poll_all(w);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
    coulomb_tx_release(tx);
    h.failing = 1;
    OK(insert(w, 6, 60, NULL, &tx));
    poll_all(w);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_FAILED);
    assert_int_equal(qty(w, 6), -2);
    coulomb_tx_release(tx);
    electric_close(w);
}

static void t6_a_handler_that_waits_for_nothing_fails(void **state)
{
    struct world *w = world_open();
    coulomb_await o;

    (void)state;
    OK(insert(w, 5, 50, NULL, NULL));
    poll_all(w);
    coulomb_options_init(&o, sizeof(o));
    coulomb_complete_after(w->open[0], w->coll, &o); /* not even of this kind */
    w->open[0] = NULL;
    poll_all(w);
    assert_int_equal(qty(w, 5), -2);
    world_close(w);
}

static void t20_a_temporary_key_gives_way(void **state)
{
    struct handler h = {.txids = {30}, .count = 1};
    struct world *w = handled(&h);

    (void)state;
    OK(insert(w, -1, 50, NULL, NULL));
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 2);
    feed_insert(&f, 30, 77, 50);
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 2);
    assert_int_equal(qty(w, -1), -2);
    assert_int_equal(qty(w, 77), 50);
    /* Never both, never none. */
    assert_int_equal(w->heard.batches, 2);
    electric_close(w);
}

static void closing_answers_handlers(void **state)
{
    struct handler h = {.txids = {30}, .count = 1};
    struct world *w = handled(&h);

    (void)state;
    OK(insert(w, 5, 50, NULL, NULL));
    poll_all(w);
    electric_close(w); /* nothing is left live */
}

/* --- Messages (T7) ------------------------------------------------------------------------------------------ */

/* Counts what it sees; matches an id. */
struct matcher {
    int64_t id;
    coulomb_electric_message_type type;
    int seen;
    int code;
};

static int by_id(const coulomb_electric_message *m, void *arg)
{
    struct matcher *x = arg;

    x->seen++;
    if (x->code < 0)
        return x->code;
    return m->values && m->type == x->type && m->value_count == 3 &&
           m->values[0].v.i == x->id && m->key.i == x->id;
}

static void t7_before_during_and_after(void **state)
{
    struct world *w = ready();
    struct matcher m = {.id = 4, .type = COULOMB_MESSAGE_UPDATE};
    struct told before = {0};
    struct told during = {0};
    struct told after = {0};

    (void)state;
    OK(coulomb_await_match(w->coll, by_id, &m, 0, tell, &before, NULL));
    feed_insert(&f, 30, 4, 1);
    feed_update(&f, 30, 4, 2);
    feed_send_part(&f);
    OK(coulomb_await_match(w->coll, by_id, &m, 0, tell, &during, NULL));
    poll_all(w);
    assert_int_equal(before.calls + during.calls, 0);
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(before.calls, 1);
    assert_int_equal(before.code, COULOMB_OK);
    assert_int_equal(during.calls, 1);
    OK(coulomb_await_match(w->coll, by_id, &m, 0, tell, &after, NULL));
    poll_all(w);
    assert_int_equal(after.calls, 1);
    electric_close(w);
}

static void t7_no_message_in_time(void **state)
{
    struct world *w = ready();
    struct matcher m = {.id = 4};
    struct told t = {0};

    (void)state;
    OK(coulomb_await_match(w->coll, by_id, &m, 0, tell, &t, NULL));
    pass(w, 2999);
    assert_int_equal(t.calls, 0);
    pass(w, 1);
    assert_int_equal(t.code, COULOMB_E_MATCH_TIMEOUT);
    electric_close(w);
}

static void t7_several_and_one_that_fails(void **state)
{
    struct world *w = ready();
    struct matcher a = {.id = 4};
    struct matcher b = {.id = 5};
    struct matcher c = {.code = COULOMB_E_FAILED};
    struct told ta = {0};
    struct told tb = {0};
    struct told tc = {0};

    (void)state;
    OK(coulomb_await_match(w->coll, by_id, &a, 0, tell, &ta, NULL));
    OK(coulomb_await_match(w->coll, by_id, &b, 0, tell, &tb, NULL));
    feed_insert(&f, 30, 5, 1);
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    OK(coulomb_await_match(w->coll, by_id, &c, 0, tell, &tc, NULL));
    poll_all(w);
    assert_int_equal(tb.calls, 1);
    assert_int_equal(ta.calls, 0);
    assert_int_equal(tc.calls, 1);
    assert_int_equal(tc.code, COULOMB_E_FAILED);
    assert_int_equal(c.seen, 1);
    electric_close(w);
}

static void t7_heartbeats_keep_what_was_seen(void **state)
{
    struct world *w = ready();
    struct matcher m = {.id = 4};
    struct told t = {0};

    (void)state;
    feed_insert(&f, 30, 4, 1);
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    for (uint64_t i = 0; i < 20; i++) {
        feed_up_to_date(&f, 3000 + i);
        feed_send(&f);
    }
    OK(coulomb_await_match(w->coll, by_id, &m, 0, tell, &t, NULL));
    poll_all(w);
    assert_int_equal(t.calls, 1);
    electric_close(w);
}

static void t7_only_the_last_thousand_are_looked_at(void **state)
{
    struct world *w = ready();
    struct matcher m = {.id = -1};
    struct told t = {0};

    (void)state;
    for (int64_t i = 0; i < 1500; i++) {
        feed_insert(&f, 30, 100 + i, i);
        if (f.count == FEED_MAX - 1)
            feed_send_part(&f);
    }
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    OK(coulomb_await_match(w->coll, by_id, &m, 0, tell, &t, NULL));
    poll_all(w);
    assert_int_equal(m.seen, 1000);
    m.id = 100 + 500;
    OK(coulomb_await_match(w->coll, by_id, &m, 0, tell, &t, NULL));
    poll_all(w);
    assert_int_equal(t.calls, 1);
    m.id = 100 + 499;
    memset(&t, 0, sizeof(t));
    OK(coulomb_await_match(w->coll, by_id, &m, 0, tell, &t, NULL));
    poll_all(w);
    assert_int_equal(t.calls, 0);
    electric_close(w);
}

static void t7_the_end_of_the_session_ends_all_waits(void **state)
{
    struct world *w = ready();
    struct matcher m = {.id = 4};
    struct told t = {0};
    struct told u;

    (void)state;
    OK(coulomb_await_match(w->coll, by_id, &m, 0, tell, &t, NULL));
    await(w, 700, &u);
    OK(coulomb_collection_cleanup(w->coll));
    poll_all(w);
    assert_int_equal(t.calls, 1);
    assert_int_equal(t.code, COULOMB_E_STREAM_STOPPED);
    assert_int_equal(u.code, COULOMB_E_STREAM_STOPPED);
    electric_close(w);
}

static void t7_a_stream_that_fails_ends_all_waits(void **state)
{
    struct world *w = ready();
    struct told t;

    (void)state;
    await(w, 700, &t);
    fake_fail(COULOMB_E_FETCH, "no");
    poll_all(w);
    assert_int_equal(t.calls, 1);
    assert_int_equal(t.code, COULOMB_E_FETCH);
    electric_close(w);
}

static int calls_back(const coulomb_electric_message *m, void *arg)
{
    struct world *w = arg;

    (void)m;
    return coulomb_collection_start(w->coll);
}

static int matches_none(const coulomb_electric_message *m, void *arg)
{
    (void)m;
    (void)arg;
    return 0;
}

static void waits_for_a_stream_that_has_failed_end_at_once(void **state)
{
    struct world *w = ready();
    struct told t = {0};
    struct told u = {0};
    struct told seen;

    (void)state;
    feed_update(&f, 31, 1, 11);
    feed_up_to_date(&f, 3100);
    feed_send(&f);
    fake_fail(COULOMB_E_FETCH, "no");
    poll_all(w);
    OK(coulomb_await_txid(w->coll, 700, COULOMB_NEVER, tell, &t, NULL));
    OK(coulomb_await_match(w->coll, matches_none, NULL, COULOMB_NEVER, tell, &u, NULL));
    await(w, 31, &seen);
    assert_int_equal(t.calls, 1);
    assert_int_equal(t.code, COULOMB_E_FETCH);
    assert_string_equal(t.message, "no");
    assert_int_equal(u.calls, 1);
    assert_int_equal(u.code, COULOMB_E_FETCH);
    assert_int_equal(seen.calls, 1); /* what came before has come */
    assert_int_equal(seen.code, COULOMB_OK);
    electric_close(w);
}

static void t7_a_match_function_may_not_call(void **state)
{
    struct world *w = ready();
    struct told t = {0};

    (void)state;
    OK(coulomb_await_match(w->coll, calls_back, w, 0, tell, &t, NULL));
    poll_all(w);
    assert_int_equal(t.code, COULOMB_E_REENTRY);
    electric_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(t4_a_transaction_counts_from_its_commit_point_on),
        cmocka_unit_test(t4_several_transactions_have_all_to_come),
        cmocka_unit_test(t4_moves_bring_transactions),
        cmocka_unit_test(t4_time_runs_out),
        cmocka_unit_test(t4_what_is_no_transaction),
        cmocka_unit_test(a_waiter_that_ended_is_not_told),
        cmocka_unit_test(many_transactions_push_old_ones_out),
        cmocka_unit_test(t4_wide_numbers_are_the_same_transactions),
        cmocka_unit_test(t5_narrow_numbers_against_wide_snapshots),
        cmocka_unit_test(t5_a_snapshot_shows_transactions),
        cmocka_unit_test(t5_the_views_before_the_first_up_to_date_count),
        cmocka_unit_test(t5_a_subsets_view_counts_when_the_log_is_past_it),
        cmocka_unit_test(t5_a_later_transaction_is_past_a_subsets_view),
        cmocka_unit_test(t5_a_refresh_is_past_a_subsets_view),
        cmocka_unit_test(t5_many_snapshots_leave_their_horizon),
        cmocka_unit_test(t11_a_refetch_keeps_transactions_and_snapshots),
        cmocka_unit_test(a_write_without_a_row_is_over_when_its_position_is_reached),
        cmocka_unit_test(a_position_counts_from_its_commit_on),
        cmocka_unit_test(the_transaction_itself_ends_the_wait),
        cmocka_unit_test(steady_writes_do_not_put_off_the_question),
        cmocka_unit_test(a_refresh_is_told_when_it_is_done),
        cmocka_unit_test(t6_a_handler_waits_for_its_transactions),
        cmocka_unit_test(t6_a_timeout_of_its_own_rolls_back),
        cmocka_unit_test(t6_a_handler_without_transactions_is_done),
        cmocka_unit_test(t6_a_handler_that_waits_for_nothing_fails),
        cmocka_unit_test(t20_a_temporary_key_gives_way),
        cmocka_unit_test(closing_answers_handlers),
        cmocka_unit_test(t7_before_during_and_after),
        cmocka_unit_test(t7_no_message_in_time),
        cmocka_unit_test(t7_several_and_one_that_fails),
        cmocka_unit_test(t7_heartbeats_keep_what_was_seen),
        cmocka_unit_test(t7_only_the_last_thousand_are_looked_at),
        cmocka_unit_test(t7_the_end_of_the_session_ends_all_waits),
        cmocka_unit_test(t7_a_stream_that_fails_ends_all_waits),
        cmocka_unit_test(waits_for_a_stream_that_has_failed_end_at_once),
        cmocka_unit_test(t7_a_match_function_may_not_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
