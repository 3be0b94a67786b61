/* The n-th allocation of a scenario fails, for every n: what was asked again works, a batch that comes
 * again is taken once, and in the end nothing is live. */
#include "support/electric.h"

static struct feed f;

/* Calls until it is done: what failed for memory may be asked again. */
#define TRY(call)                                                                        \
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
    for (int i = 0; i < 60 && coulomb_pending(w->c); i++) {
        int code = coulomb_poll(w->c);

        assert_true(code >= 0 || code == COULOMB_E_MEMORY);
    }
}

struct told {
    int calls;
    int code;
};

static void tell(coulomb_collection *coll, const coulomb_error *error, void *arg)
{
    struct told *t = arg;

    (void)coll;
    t->calls++;
    t->code = error->code;
}

static int matches(const coulomb_electric_message *m, void *arg)
{
    (void)arg;
    return m->values && m->values[0].v.i == 3;
}

static const char meta[] =
    "{\"version\":1,\"resume\":{\"kind\":\"resume\",\"offset\":\"9_2\",\"handle\":\"h7\","
    "\"cursor\":\"\",\"shapeId\":\"another\",\"updatedAt\":5},\"seenTxids\":[3,1]}";

/* Everything that holds memory is in use, and then given back. */
static int begin(struct world *w, coulomb_electric_mode mode, size_t fail_at)
{
    coulomb_electric_options o = electric_options(w, mode);
    coulomb_pair pair = {"x-app", "test"};
    int code;

    w->answer = COULOMB_PENDING;
    w->now_ms = 1000;
    w->heap.fail_at = fail_at;
    o.headers = o.extra = &pair;
    o.header_count = o.extra_count = 1;
    o.where = "qty > 0";
    o.row_headers = 1;
    o.collection.start_sync = 0;
    code = electric_try(w, &o);
    if (code != COULOMB_OK) {
        assert_int_equal(code, COULOMB_E_MEMORY);
        electric_close(w);
        return 0;
    }
    TRY(coulomb_electric_set_header(w->coll, "authorization", "secret"));
    TRY(coulomb_collection_import_meta(w->coll, meta, strlen(meta)));
    TRY(coulomb_collection_start(w->coll));
    drain(w);
    assert_non_null(fake);
    return 1;
}

static coulomb_sub *want(struct world *w, int64_t from)
{
    coulomb_expr *e = NULL;
    coulomb_order order = {.column = "qty"};
    coulomb_sub_options o;
    coulomb_sub *sub;

    for (int i = 0; i < 4 && !e; i++)
        e = coulomb_where(w->coll, "qty", COULOMB_GTE, coulomb_int(from));
    assert_non_null(e);
    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_ROWS;
    o.where = e;
    o.order = &order;
    o.order_count = 1;
    TRY(coulomb_subscribe(w->coll, &o, hear, &w->heard, &sub));
    coulomb_expr_free(e);
    return sub;
}

static void answer_all(struct world *w)
{
    for (int i = 0; i < 10; i++) {
        drain(w);
        while (fake->refresh_first < fake->refresh_count)
            fake_refreshed(COULOMB_OK);
        for (size_t n = 0; n < fake->request_count; n++) {
            if (!fake->requests[n].open)
                continue;
            feed_insert(&f, 0, 1, 10);
            feed_tags(&f, "a/1/", "//b", "111");
            feed_insert(&f, 0, 2, 20);
            fake_answer(n, &f, 20, 20, 1000);
        }
        w->now_ms += 50;
        drain(w);
    }
}

static void changes(struct world *w)
{
    static const uint64_t xip[2] = {40, 41};

    feed_insert(&f, 30, 3, 30);
    feed_tags(&f, "a/1/", "//b", "111");
    feed_insert(&f, 31, 4, 40);
    feed_tags(&f, "a/1/", NULL, "110");
    feed_send_part(&f);
    drain(w);
    feed_move(&f, STREAM_MOVE_OUT, 0, "a"); /* 4 goes, 3 stays */
    feed_view(&f, 39, 45, xip, 2);
    feed_change(&f, STREAM_UPDATE, 50, coulomb_int(3), "y", coulomb_int(31));
    feed_insert(&f, 51, 5, 50);
    feed_delete(&f, 52, 5);
    feed_up_to_date(&f, 5200);
    feed_send(&f);
    drain(w);
}

static void refetch(struct world *w)
{
    feed_refetch(&f);
    feed_send(&f);
    drain(w);
    feed_insert(&f, 60, 6, 60);
    feed_up_to_date(&f, 6000);
    feed_send(&f);
    answer_all(w);
}

static void finish(struct world *w, struct told told[4])
{
    const void *kept;
    size_t len;

    TRY(coulomb_collection_export_meta(w->coll, &kept, &len));
    assert_non_null(kept);
    TRY(coulomb_collection_cleanup(w->coll));
    drain(w);
    for (int i = 0; i < 4; i++)
        assert_int_equal(told[i].calls, 1);
    TRY(coulomb_collection_start(w->coll));
    drain(w);
    assert_int_equal(fakes_live, 1);
}

static int scenario(coulomb_electric_mode mode, size_t fail_at)
{
    struct world *w = calloc(1, sizeof(*w));
    struct told told[4] = {{0}};
    uint64_t txids[2] = {30, 52};
    coulomb_await o;
    coulomb_sub *subs[2];
    int failed;

    assert_non_null(w);
    memset(&f, 0, sizeof(f));
    if (!begin(w, mode, fail_at))
        return 1;
    coulomb_options_init(&o, sizeof(o));
    o.txids = txids;
    o.txid_count = 2;
    o.txid_text = "39";
    subs[0] = want(w, 5);
    drain(w);
    subs[1] = want(w, 6);
    answer_all(w);
    TRY(coulomb_await_all(w->coll, &o, tell, &told[0], NULL));
    TRY(coulomb_await_match(w->coll, matches, NULL, 0, tell, &told[1], NULL));
    TRY(coulomb_electric_refresh(w->coll, tell, &told[2], NULL));
    changes(w);
    TRY(coulomb_await_txid(w->coll, 1, 0, tell, &told[3], NULL)); /* imported */
    answer_all(w);
    assert_int_equal(qty(w, 3), 31);
    assert_int_equal(qty(w, 4), -2);
    assert_int_equal(qty(w, 5), -2);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(told[i].calls, 1);
        assert_int_equal(told[i].code, COULOMB_OK);
    }
    refetch(w);
    assert_int_equal(qty(w, 3), -2);
    assert_int_equal(qty(w, 6), 60);
    finish(w, told);
    failed = w->heap.failed;
    coulomb_unsubscribe(subs[0]);
    coulomb_unsubscribe(subs[1]);
    w->heap.fail_at = 0;
    electric_close(w);
    return failed;
}

static void run(coulomb_electric_mode mode)
{
    size_t n = 1;

    while (scenario(mode, n))
        n++;
    assert_true(n > 200);
}

static void eager(void **state)
{
    (void)state;
    run(COULOMB_EAGER);
}

static void on_demand(void **state)
{
    (void)state;
    run(COULOMB_ON_DEMAND);
}

static void progressive(void **state)
{
    (void)state;
    run(COULOMB_PROGRESSIVE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eager),
        cmocka_unit_test(on_demand),
        cmocka_unit_test(progressive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
