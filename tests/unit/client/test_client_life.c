/* Behaviours F (lifecycle, errors, schema, indexes) of tests/CLIENT.md, and the loop. */
#include <poll.h>
#include <pthread.h>

#include "client/loop/loop.h"
#include "support/client.h"

static void f1_idle_loading_ready(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);
    coulomb_collection *other;

    (void)state;
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_LOADING);
    OK(coulomb_sync_mark_ready(w->sync));
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_READY);
    co.start_sync = 0;
    OK(coulomb_collection_new(w->c, &co, &other));
    assert_int_equal(coulomb_collection_status(other), COULOMB_IDLE);
    OK(coulomb_collection_start(other));
    assert_int_equal(coulomb_collection_status(other), COULOMB_LOADING);
    coulomb_collection_release(other);
    world_close(w);
}

static void f2_after_clean_up_it_starts_again(void **state)
{
    struct world *w = world_open();

    (void)state;
    synced(w, 1, 1);
    OK(coulomb_collection_cleanup(w->coll));
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_CLEANED_UP);
    assert_int_equal(coulomb_size(w->coll), 0);
    watch(w, COULOMB_INITIAL_ROWS);
    assert_int_equal(w->starts, 2);
    synced(w, 1, 1);
    poll_all(w);
    assert_int_equal(w->heard.count, 1);
    OK(coulomb_collection_cleanup(w->coll));
    poll_all(w);
    expect(w, 1, COULOMB_DELETE, 1, 1); /* who watches hears that the rows go */
    OK(insert(w, 2, 1, NULL, NULL));
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_LOADING);
    poll_all(w);
    assert_int_equal(w->starts, 3);
    world_close(w);
}

static void f3_counting_subscribers(void **state)
{
    struct world *w = world_open();
    coulomb_sub *subs[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        OK(coulomb_subscribe(w->coll, NULL, hear, &w->heard, &subs[i]));
    assert_int_equal(coulomb_subscriber_count(w->coll), 3);
    coulomb_unsubscribe(subs[1]);
    assert_int_equal(coulomb_subscriber_count(w->coll), 2);
    coulomb_unsubscribe(subs[0]);
    coulomb_unsubscribe(subs[2]);
    assert_int_equal(coulomb_subscriber_count(w->coll), 0);
    world_close(w);
}

static void f4_an_idle_collection_is_cleaned_up(void **state)
{
    struct world *w = world_open();
    coulomb_sub *sub;

    (void)state;
    OK(coulomb_subscribe(w->coll, NULL, hear, &w->heard, &sub));
    assert_int_equal(coulomb_next_deadline(w->c), INT64_MAX);
    coulomb_unsubscribe(sub);
    assert_int_equal(coulomb_next_deadline(w->c), w->now_ms + 300000);
    pass(w, 299999);
    OK(coulomb_subscribe(w->coll, NULL, hear, &w->heard, &sub));
    pass(w, 10);
    assert_int_equal(w->stops, 0);
    coulomb_unsubscribe(sub);
    pass(w, 300000);
    assert_int_equal(w->stops, 1);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_CLEANED_UP);
    world_close(w);
}

static void f4_never_means_never(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);

    (void)state;
    co.gc_time_ms = COULOMB_NEVER;
    coulomb_collection_release(w->coll);
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
    assert_int_equal(coulomb_next_deadline(w->c), INT64_MAX);
    co.gc_time_ms = 50;
    coulomb_collection_release(w->coll);
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
    pass(w, 49);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_LOADING);
    pass(w, 1);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_CLEANED_UP);
    world_close(w);
}

struct ready {
    size_t calls;
    int code;
};

static void on_ready(coulomb_collection *coll, const coulomb_error *error, void *arg)
{
    struct ready *r = arg;

    (void)coll;
    r->calls++;
    r->code = error->code;
}

static void f5_preloads(void **state)
{
    struct world *w = world_open();
    struct ready a = {0, 0};
    struct ready b = {0, 0};

    (void)state;
    OK(coulomb_collection_preload(w->coll, on_ready, &a, NULL));
    OK(coulomb_collection_preload(w->coll, on_ready, &b, NULL));
    poll_all(w);
    assert_int_equal(a.calls + b.calls, 0);
    OK(coulomb_sync_mark_error(w->sync, COULOMB_E_IO, "gone"));
    poll_all(w);
    assert_int_equal(a.code, COULOMB_E_IO);
    assert_int_equal(a.calls + b.calls, 2);
    OK(coulomb_sync_mark_ready(w->sync)); /* it recovers */
    OK(coulomb_collection_preload(w->coll, on_ready, &a, NULL));
    poll_all(w);
    assert_int_equal(a.calls, 2);
    assert_int_equal(a.code, COULOMB_OK);
    assert_int_equal(w->starts, 1);
    world_close(w);
}

static int refuse_to_start(coulomb_sync *sync, void *arg)
{
    (void)sync;
    return *(int *)arg;
}

static void f5_an_adapter_that_does_not_start(void **state)
{
    static const coulomb_adapter refusing = {.size = sizeof(coulomb_adapter),
                                             .start = refuse_to_start};
    static const int codes[][2] = {{COULOMB_E_IO, COULOMB_E_IO}, {7, COULOMB_E_FAILED}};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *w = world_open();
        coulomb_collection_options co = world_options(w);
        struct ready a = {0, 0};
        int code = codes[i][0];

        co.adapter = &refusing;
        co.adapter_arg = &code;
        coulomb_collection_release(w->coll);
        OK(coulomb_collection_new(w->c, &co, &w->coll));
        OK(coulomb_collection_preload(w->coll, on_ready, &a, NULL));
        poll_all(w);
        assert_int_equal(coulomb_collection_status(w->coll), COULOMB_ERROR);
        assert_int_equal(coulomb_collection_error(w->coll)->code, codes[i][1]);
        assert_non_null(strstr(coulomb_collection_error(w->coll)->message, "items"));
        assert_int_equal(a.code, codes[i][1]);
        code = 0; /* cleaned up, it may be tried again */
        OK(coulomb_collection_cleanup(w->coll));
        OK(coulomb_collection_start(w->coll));
        poll_all(w);
        assert_int_equal(coulomb_collection_status(w->coll), COULOMB_LOADING);
        world_close(w);
    }
}

static void f6_preloads_are_answered_once_also_by_clean_up(void **state)
{
    struct world *w = world_open();
    struct ready a = {0, 0};

    (void)state;
    OK(coulomb_collection_preload(w->coll, on_ready, &a, NULL));
    OK(coulomb_collection_cleanup(w->coll));
    poll_all(w);
    assert_int_equal(a.calls, 1);
    poll_all(w);
    assert_int_equal(a.calls, 1);
    world_close(w);
}

static void f7_a_stop_that_fails_cleans_up_nevertheless(void **state)
{
    struct world *w = world_open();

    (void)state;
    synced(w, 1, 1);
    w->stop_code = -1;
    assert_int_equal(coulomb_collection_cleanup(w->coll), COULOMB_E_SYNC_CLEANUP);
    assert_int_equal(coulomb_size(w->coll), 0);
    OK(coulomb_collection_cleanup(w->coll));
    assert_int_equal(w->stops, 1);
    world_close(w);
}

static void f8_an_older_session_is_not_heard(void **state)
{
    struct world *w = world_open();
    coulomb_sync *old = coulomb_sync_retain(w->sync);

    (void)state;
    OK(coulomb_sync_begin(old, 0));
    OK(coulomb_collection_cleanup(w->coll));
    OK(coulomb_collection_start(w->coll));
    poll_all(w);
    assert_int_equal(coulomb_sync_commit(old), COULOMB_E_STALE_SESSION);
    assert_int_equal(coulomb_sync_mark_ready(old), COULOMB_E_STALE_SESSION);
    assert_int_equal(coulomb_sync_mark_error(old, -1, NULL), COULOMB_E_STALE_SESSION);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_LOADING);
    coulomb_sync_release(old);
    world_close(w);
}

static void f9_in_error_mutations_fail(void **state)
{
    struct world *w = world_open();

    (void)state;
    OK(coulomb_sync_mark_error(w->sync, COULOMB_E_IO, "gone"));
    assert_int_equal(insert(w, 1, 1, NULL, NULL), COULOMB_E_COLLECTION_IN_ERROR);
    assert_non_null(strstr(coulomb_last_error(w->c)->message, "gone"));
    OK(coulomb_collection_cleanup(w->coll));
    OK(insert(w, 1, 1, NULL, NULL));
    world_close(w);
}

static void f10_transitions(void **state)
{
    struct world *w = world_open();

    (void)state;
    OK(coulomb_sync_mark_ready(w->sync));
    OK(coulomb_sync_mark_ready(w->sync)); /* the same again is nothing */
    OK(coulomb_sync_mark_error(w->sync, COULOMB_E_IO, NULL));
    OK(coulomb_sync_mark_ready(w->sync));
    assert_int_equal(coulomb_collection_error(w->coll)->code, 0);
    world_close(w);
}

struct told {
    coulomb_event_type types[32];
    char index[32][32];
    size_t count;
};

static void on_event(coulomb_collection *coll, const coulomb_event *event, void *arg)
{
    struct told *t = arg;

    (void)coll;
    t->types[t->count] = event->type;
    snprintf(t->index[t->count++], 32, "%s", event->index ? event->index : "");
}

static void f11_events(void **state)
{
    struct world *w = world_open();
    struct told t = {{0}, {{0}}, 0};
    coulomb_token added;
    coulomb_index *ix;

    (void)state;
    OK(coulomb_collection_on(w->coll, COULOMB_EVENT_INDEX_ADDED, on_event, &t, &added));
    OK(coulomb_collection_on(w->coll, COULOMB_EVENT_INDEX_REMOVED, on_event, &t, NULL));
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, &ix));
    OK(coulomb_index_new(w->coll, "name", COULOMB_INDEX_HASH, NULL));
    coulomb_index_remove(ix);
    poll_all(w);
    assert_int_equal(t.count, 3);
    assert_string_equal(t.index[0], "qty:ordered");
    assert_string_equal(t.index[1], "name:hash");
    assert_int_equal(t.types[2], COULOMB_EVENT_INDEX_REMOVED);
    coulomb_off(w->c, added);
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
    poll_all(w);
    assert_int_equal(t.count, 3);
    OK(coulomb_collection_wait(w->coll, COULOMB_EVENT_STATUS, 50, on_event, &t, NULL));
    pass(w, 50);
    assert_int_equal(t.types[3], COULOMB_EVENT_TIMEOUT);
    OK(coulomb_collection_wait(w->coll, COULOMB_EVENT_STATUS, 50, on_event, &t, NULL));
    OK(coulomb_sync_mark_ready(w->sync));
    poll_all(w);
    OK(coulomb_sync_mark_error(w->sync, -1, NULL));
    pass(w, 100);
    assert_int_equal(t.count, 5); /* once */
    assert_int_equal(t.types[4], COULOMB_EVENT_STATUS);
    world_close(w);
}

static coulomb_completion *loads[4];
static size_t load_count;

static int load(coulomb_sync *sync, const coulomb_subset *s, coulomb_completion *done,
                void *arg)
{
    (void)sync;
    (void)s;
    (void)arg;
    loads[load_count++] = done;
    return COULOMB_PENDING;
}

static const coulomb_adapter loading_adapter = {.size = sizeof(coulomb_adapter),
                                                .start = world_start,
                                                .stop = world_stop,
                                                .load_subset = load};

static void f12_loading_until_all_are_settled(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);
    coulomb_collection *coll;
    coulomb_sub_options o;
    coulomb_sub *subs[2];

    (void)state;
    load_count = 0;
    co.adapter = &loading_adapter;
    co.on_demand = 1;
    OK(coulomb_collection_new(w->c, &co, &coll));
    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_ROWS;
    for (int i = 0; i < 2; i++)
        OK(coulomb_subscribe(coll, &o, hear, &w->heard, &subs[i]));
    poll_all(w);
    assert_true(coulomb_loading_subset(coll));
    coulomb_complete(loads[0], COULOMB_OK, NULL);
    assert_true(coulomb_loading_subset(coll));
    coulomb_complete(loads[1], COULOMB_E_IO, "no");
    assert_false(coulomb_loading_subset(coll));
    poll_all(w);
    coulomb_unsubscribe(subs[0]);
    coulomb_unsubscribe(subs[1]);
    coulomb_collection_release(coll);
    world_close(w);
}

static int validator(coulomb_draft *d, coulomb_issues *issues, void *arg)
{
    (void)arg;
    if (coulomb_draft_get(d, "qty").type == COULOMB_ABSENT)
        return coulomb_draft_set(d, "qty", coulomb_int(100));
    if (coulomb_draft_get(d, "qty").v.i == 666)
        return COULOMB_PENDING;
    if (coulomb_draft_get(d, "qty").v.i < 0) {
        coulomb_issue(issues, "qty", "must not be negative");
        return -1;
    }
    return coulomb_draft_set(d, "name", coulomb_text("made"));
}

static void f13_f14_validation(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);
    coulomb_collection *plain = w->coll;
    coulomb_field id = {"id", coulomb_int(1)};
    coulomb_tx *tx;
    coulomb_mutation m;
    const char *column;

    (void)state;
    co.validate = validator;
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    OK(coulomb_insert(w->coll, &id, 1, NULL, &tx));
    OK(coulomb_tx_mutation(tx, 0, &m));
    assert_int_equal(coulomb_row_int(m.modified, "qty", 0), 100);
    assert_true(coulomb_tx_changed(tx, 0, "id"));
    assert_false(coulomb_tx_changed(tx, 0, "qty"));
    coulomb_tx_release(tx);
    OK(set_qty(w, 1, 5, NULL, &tx)); /* of an update only what the caller changed */
    assert_true(coulomb_tx_changed(tx, 0, "qty"));
    assert_false(coulomb_tx_changed(tx, 0, "name"));
    coulomb_tx_release(tx);
    assert_int_equal(set_qty(w, 1, -1, NULL, NULL), COULOMB_E_SCHEMA);
    assert_int_equal(coulomb_issue_count(w->c), 1);
    assert_string_equal(coulomb_issue_message(w->c, 0, &column), "must not be negative");
    assert_string_equal(column, "qty");
    assert_int_equal(insert(w, 2, -1, NULL, NULL), COULOMB_E_SCHEMA);
    assert_int_equal(coulomb_issue_count(w->c), 1);
    assert_string_equal(coulomb_last_error(w->c)->column, "qty");
    assert_int_equal(set_qty(w, 1, 666, NULL, NULL), COULOMB_E_SCHEMA_ASYNC);
    assert_int_equal(qty(w, 1), 5);
    poll_all(w);
    coulomb_collection_release(w->coll);
    w->coll = plain;
    world_close(w);
}

static void snapshot_of(struct world *w, coulomb_expr *e, int indexed, size_t count)
{
    coulomb_snapshot_options o;
    coulomb_result *r;

    assert_non_null(e);
    coulomb_options_init(&o, sizeof(o));
    o.where = e;
    OK(coulomb_snapshot(w->coll, &o, &r));
    assert_int_equal(coulomb_result_indexed(r), indexed);
    assert_int_equal(coulomb_result_count(r), count);
    coulomb_result_free(r);
    coulomb_expr_free(e);
}

static coulomb_expr *q(struct world *w, coulomb_op op, int64_t v)
{
    return coulomb_where(w->coll, "qty", op, coulomb_int(v));
}

static void f15_auto_index(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);
    coulomb_collection *plain = w->coll;

    (void)state;
    snapshot_of(w, q(w, COULOMB_EQ, 1), 0, 0);
    assert_int_equal(coulomb_index_count(w->coll), 0);
    co.auto_index = 1;
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    snapshot_of(w, coulomb_or(q(w, COULOMB_EQ, 1), q(w, COULOMB_EQ, 2)), 0, 0);
    assert_int_equal(coulomb_index_count(w->coll), 0);
    snapshot_of(w, coulomb_and(q(w, COULOMB_GT, 1), q(w, COULOMB_LT, 9)), 1, 0);
    snapshot_of(w, q(w, COULOMB_EQ, 1), 1, 0);
    assert_int_equal(coulomb_index_count(w->coll), 1);
    coulomb_collection_release(w->coll);
    w->coll = plain;
    world_close(w);
}

static void f16_f18_indexes_equal_scans(void **state)
{
    struct world *w = world_open();
    coulomb_value in[3] = {coulomb_int(1), coulomb_int(2), coulomb_double(3.0)};
    coulomb_value v[3];

    (void)state;
    for (int64_t i = 0; i < 40; i++)
        synced(w, i, i % 10);
    OK(insert(w, 100, 5, NULL, NULL));
    OK(set_qty(w, 5, 9, NULL, NULL));
    OK(erase(w, 15, NULL, NULL));
    OK(coulomb_sync_begin(w->sync, COULOMB_SYNC_IMMEDIATE));
    row_values(v, 200, "x", 0);
    v[2] = coulomb_null();
    OK(coulomb_sync_insert(w->sync, v, NULL, 0));
    row_values(v, 201, "x", 0);
    v[2] = coulomb_absent();
    OK(coulomb_sync_insert(w->sync, v, NULL, 0));
    OK(coulomb_sync_commit(w->sync));
    for (int kind = 0; kind < 3; kind++) {
        coulomb_index *ix = NULL;
        int ordered = kind == 1;

        if (kind > 0)
            OK(coulomb_index_new(w->coll, "qty",
                                 ordered ? COULOMB_INDEX_ORDERED : COULOMB_INDEX_HASH,
                                 &ix));
        snapshot_of(w, q(w, COULOMB_EQ, 5), kind > 0, 3);
        snapshot_of(w, q(w, COULOMB_GT, 7), ordered, 9);
        snapshot_of(w, q(w, COULOMB_LTE, 1), ordered, 8);
        snapshot_of(w, coulomb_and(q(w, COULOMB_GTE, 3), q(w, COULOMB_LT, 5)), ordered,
                    8);
        snapshot_of(w, coulomb_in(w->coll, "qty", in, 3), kind > 0, 12);
        snapshot_of(w, coulomb_or(q(w, COULOMB_EQ, 1), q(w, COULOMB_EQ, 1)), kind > 0, 4);
        /* Only one side can be looked up: the rest is asked of each row. */
        snapshot_of(
            w,
            coulomb_and(q(w, COULOMB_EQ, 3),
                        coulomb_where(w->coll, "id", COULOMB_LT, coulomb_int(20))),
            kind > 0, 2);
        snapshot_of(w,
                    coulomb_or(q(w, COULOMB_EQ, 3),
                               coulomb_where(w->coll, "id", COULOMB_EQ, coulomb_int(0))),
                    0, 5);
        snapshot_of(w, coulomb_not(q(w, COULOMB_EQ, 3)), 0, 36);
        snapshot_of(w, q(w, COULOMB_IS_NULL, 0), 0, 1);
        snapshot_of(w, q(w, COULOMB_IS_ABSENT, 0), 0, 1);
        snapshot_of(w, coulomb_where(w->coll, "qty", COULOMB_EQ, coulomb_null()), 0, 0);
        coulomb_index_remove(ix);
        assert_int_equal(coulomb_index_count(w->coll), 0);
    }
    world_close(w);
}

static void f19_equal_values_come_in_the_order_of_keys(void **state)
{
    struct world *w = world_open();
    coulomb_expr *e;
    coulomb_snapshot_options o;
    coulomb_result *r;

    (void)state;
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
    for (int64_t i = 9; i >= 0; i--)
        synced(w, i, 1);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_delete(w->sync, coulomb_key_int(4)));
    OK(coulomb_sync_commit(w->sync));
    synced(w, 4, 1);
    e = q(w, COULOMB_EQ, 1);
    assert_non_null(e);
    coulomb_options_init(&o, sizeof(o));
    o.where = e;
    OK(coulomb_snapshot(w->coll, &o, &r));
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(coulomb_row_key(coulomb_result_row(r, i)).i, i);
    coulomb_result_free(r);
    coulomb_expr_free(e);
    world_close(w);
}

static void configuration_errors(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);
    coulomb_collection *coll;

    (void)state;
    assert_int_equal(coulomb_collection_new(w->c, NULL, &coll),
                     COULOMB_E_COLLECTION_REQUIRES_CONFIG);
    co.adapter = NULL;
    assert_int_equal(coulomb_collection_new(w->c, &co, &coll),
                     COULOMB_E_COLLECTION_REQUIRES_SYNC);
    co = world_options(w);
    co.key_column = NULL;
    assert_int_equal(coulomb_collection_new(w->c, &co, &coll),
                     COULOMB_E_GET_KEY_REQUIRED);
    co.key_column = "nope";
    assert_int_equal(coulomb_collection_new(w->c, &co, &coll),
                     COULOMB_E_COLLECTION_CONFIG);
    co = world_options(w);
    co.on_demand = 1;
    assert_int_equal(coulomb_collection_new(w->c, &co, &coll),
                     COULOMB_E_COLLECTION_CONFIG);
    co = world_options(w);
    co.size = 1;
    assert_int_equal(coulomb_collection_new(w->c, &co, &coll), COULOMB_E_ARGUMENT);
    assert_int_equal(coulomb_sync_commit(w->sync), COULOMB_E_NO_SYNC_TX_COMMIT);
    assert_int_equal(sync_row(w, 1, "x", 1), COULOMB_E_NO_SYNC_TX_WRITE);
    OK(insert(w, 1, 1, NULL, NULL));
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_commit(w->sync)); /* waits for the insert's answer */
    assert_int_equal(sync_row(w, 1, "x", 1), COULOMB_E_SYNC_TX_COMMITTED_WRITE);
    assert_int_equal(coulomb_sync_commit(w->sync), COULOMB_E_SYNC_TX_COMMITTED);
    world_close(w);
}

/* --- The loop -------------------------------------------------------------------------------------- */

static void a_bug_poisons_its_client_only(void **state)
{
    struct world *w = world_open();
    struct world *v = world_open();

    (void)state;
    synced(w, 1, 1);
    assert_int_equal(client_poison(w->c, "1 == 2", "here.c", 3), COULOMB_E_POISONED);
    assert_int_equal(insert(w, 2, 1, NULL, NULL), COULOMB_E_POISONED);
    assert_int_equal(coulomb_poll(w->c), COULOMB_E_POISONED);
    assert_non_null(strstr(coulomb_last_error(w->c)->message, "here.c:3"));
    OK(insert(v, 2, 1, NULL, NULL));
    world_close(w); /* it can be closed, and nothing is lost */
    world_close(v);
}

static int readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static void posted(coulomb_client *c, void *arg)
{
    (void)c;
    ++*(int *)arg;
}

static coulomb_client *posting_client;

static void *post_from_afar(void *arg)
{
    for (int i = 0; i < 100; i++) {
        if (coulomb_post(posting_client, posted, arg) != COULOMB_OK)
            break;
    }
    /* Everything else is refused there. */
    return (void *)(intptr_t)coulomb_poll(posting_client);
}

static void the_descriptor_and_posts_from_another_thread(void **state)
{
    struct world *w = world_open();
    pthread_t thread;
    void *result;
    int count = 0;
    int fd = coulomb_fd(w->c);

    (void)state;
    assert_true(fd >= 0);
    poll_all(w);
    assert_false(readable(fd));
    OK(insert(w, 1, 1, NULL, NULL));
    assert_true(readable(fd));
    poll_all(w);
    assert_false(readable(fd));
    posting_client = w->c;
    assert_int_equal(pthread_create(&thread, NULL, post_from_afar, &count), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, COULOMB_E_THREAD);
    assert_true(readable(fd));
    poll_all(w);
    assert_int_equal(count, 100);
    world_close(w);
}

static int reentrant(const coulomb_row *row, void *arg)
{
    struct world *w = arg;

    (void)row;
    return insert(w, 77, 1, NULL, NULL) == COULOMB_E_REENTRY ? 5 : 6;
}

static void functional_arguments_may_not_call_the_client(void **state)
{
    struct world *w = world_open();

    (void)state;
    synced(w, 1, 1);
    assert_int_equal(coulomb_each(w->coll, reentrant, w), 5);
    world_close(w);
}

static void close_in_poll(coulomb_client *c, void *arg)
{
    (void)arg;
    coulomb_client_close(c);
}

static void closing_inside_a_poll(void **state)
{
    struct world *w = world_open();

    (void)state;
    OK(insert(w, 1, 1, NULL, NULL));
    OK(coulomb_post(w->c, close_in_poll, NULL));
    assert_true(coulomb_poll(w->c) >= 0);
    assert_int_equal(insert(w, 2, 1, NULL, NULL), COULOMB_E_CLOSED);
    assert_int_equal(w->handled, 0);
    coulomb_sync_release(w->sync);
    coulomb_collection_release(w->coll);
    assert_int_equal(w->heap.live, 0);
    free(w);
}

static void note_post(coulomb_client *c, void *arg)
{
    (void)c;
    ++*(int *)arg;
}

static void a_poll_says_whether_there_was_anything(void **state)
{
    struct world *w = world_open();
    int posts = 0;

    (void)state;
    poll_all(w);
    assert_int_equal(coulomb_poll(w->c), 0);
    OK(coulomb_post(w->c, note_post, &posts));
    assert_true(coulomb_pending(w->c));
    assert_true(coulomb_poll(w->c) > 0);
    assert_int_equal(posts, 1);
    assert_int_equal(coulomb_poll(w->c), 0);
    OK(insert(w, 1, 1, NULL, NULL)); /* a handler is called */
    assert_true(coulomb_poll(w->c) > 0);
    assert_int_equal(w->handled, 1);
    w->now_ms += 300000; /* a timer */
    assert_true(coulomb_poll(w->c) > 0);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_CLEANED_UP);
    world_close(w);
}

static void queued_changes_have_a_limit(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    coulomb_client_options o;
    coulomb_collection_options co;

    (void)state;
    assert_non_null(w);
    coulomb_options_init(&o, sizeof(o));
    o.allocator = (coulomb_allocator){world_realloc, world_free, &w->heap};
    o.queued_changes_max = 2;
    OK(coulomb_client_open(&o, &w->c));
    co = world_options(w);
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
    watch(w, COULOMB_INITIAL_ROWS);
    OK(insert(w, 1, 1, NULL, NULL));
    OK(insert(w, 2, 1, NULL, NULL));
    assert_int_equal(insert(w, 3, 1, NULL, NULL), COULOMB_E_LIMIT);
    assert_int_equal(qty(w, 3), -2);
    poll_all(w);
    OK(insert(w, 3, 1, NULL, NULL));
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f1_idle_loading_ready),
        cmocka_unit_test(f2_after_clean_up_it_starts_again),
        cmocka_unit_test(f3_counting_subscribers),
        cmocka_unit_test(f4_an_idle_collection_is_cleaned_up),
        cmocka_unit_test(f4_never_means_never),
        cmocka_unit_test(f5_preloads),
        cmocka_unit_test(f5_an_adapter_that_does_not_start),
        cmocka_unit_test(f6_preloads_are_answered_once_also_by_clean_up),
        cmocka_unit_test(f7_a_stop_that_fails_cleans_up_nevertheless),
        cmocka_unit_test(f8_an_older_session_is_not_heard),
        cmocka_unit_test(f9_in_error_mutations_fail),
        cmocka_unit_test(f10_transitions),
        cmocka_unit_test(f11_events),
        cmocka_unit_test(f12_loading_until_all_are_settled),
        cmocka_unit_test(f13_f14_validation),
        cmocka_unit_test(f15_auto_index),
        cmocka_unit_test(f16_f18_indexes_equal_scans),
        cmocka_unit_test(f19_equal_values_come_in_the_order_of_keys),
        cmocka_unit_test(configuration_errors),
        cmocka_unit_test(the_descriptor_and_posts_from_another_thread),
        cmocka_unit_test(functional_arguments_may_not_call_the_client),
        cmocka_unit_test(a_bug_poisons_its_client_only),
        cmocka_unit_test(closing_inside_a_poll),
        cmocka_unit_test(a_poll_says_whether_there_was_anything),
        cmocka_unit_test(queued_changes_have_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
