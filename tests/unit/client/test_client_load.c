/* What subscriptions ask for: requests, pages, subsets (section 1.7 and 1.10 of the specification). */
#include "support/client.h"

/* --- An adapter that notes what it is asked -------------------------------------------------- */

#define LOADS_MAX 64

static struct {
    const coulomb_subset *asked[LOADS_MAX];
    coulomb_completion *done[LOADS_MAX];
    size_t loads;
    const coulomb_subset *unloaded[LOADS_MAX];
    size_t unloads;
    int answer;
} subsets;

static int load(coulomb_sync *sync, const coulomb_subset *s, coulomb_completion *done,
                void *arg)
{
    (void)sync;
    (void)arg;
    assert_true(subsets.loads < LOADS_MAX);
    subsets.asked[subsets.loads] = s;
    subsets.done[subsets.loads++] = done;
    return subsets.answer;
}

static void unload(coulomb_sync *sync, const coulomb_subset *s, void *arg)
{
    (void)sync;
    (void)arg;
    subsets.unloaded[subsets.unloads++] = s;
}

static const coulomb_adapter loading_adapter = {.size = sizeof(coulomb_adapter),
                                                .start = world_start,
                                                .stop = world_stop,
                                                .load_subset = load,
                                                .unload_subset = unload};

static struct world *loading_world(int on_demand)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);

    memset(&subsets, 0, sizeof(subsets));
    co.adapter = &loading_adapter;
    co.on_demand = on_demand;
    coulomb_collection_release(w->coll);
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
    return w;
}

static void put(struct world *w, int64_t id, const char *name, int64_t q)
{
    coulomb_value v[3];

    row_values(v, id, name, q);
    if (q < 0)
        v[2] = q == -1 ? coulomb_null() : coulomb_absent();
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_update(w->sync, v, NULL, 0));
    OK(coulomb_sync_commit(w->sync));
}

static void forget(struct world *w)
{
    memset(&w->heard, 0, sizeof(w->heard));
}

static coulomb_page_options page_by_qty(size_t limit)
{
    static const coulomb_order by_qty = {"qty", 0, 0};
    coulomb_page_options o;

    coulomb_options_init(&o, sizeof(o));
    o.order = &by_qty;
    o.order_count = 1;
    o.limit = limit;
    return o;
}

static void page(struct world *w, size_t limit, const coulomb_value *from)
{
    coulomb_page_options o = page_by_qty(limit);

    o.from = from;
    o.from_count = from ? 1 : 0;
    OK(coulomb_sub_page(w->sub, &o, NULL));
    poll_all(w);
}

/* --- Requests --------------------------------------------------------------------------------- */

static void a_request_gives_what_was_not_sent(void **state)
{
    struct world *w = world_open();
    coulomb_request_options o;
    coulomb_expr *e = coulomb_where(w->coll, "qty", COULOMB_GTE, coulomb_int(2));

    (void)state;
    for (int64_t i = 0; i < 4; i++)
        synced(w, i, i);
    watch(w, COULOMB_INITIAL_NONE);
    coulomb_options_init(&o, sizeof(o));
    o.where = e;
    OK(coulomb_sub_request(w->sub, &o, NULL));
    coulomb_expr_free(e);
    assert_int_equal(w->heard.batches, 0); /* not within the call */
    poll_all(w);
    assert_int_equal(w->heard.batches, 1);
    assert_int_equal(w->heard.count, 2);
    expect(w, 0, COULOMB_INSERT, 2, 2);
    expect(w, 1, COULOMB_INSERT, 3, 3);
    put(w, 3, "x", 9); /* it was sent: an update; 0 was not: an insert */
    put(w, 0, "x", 9);
    poll_all(w);
    expect(w, 2, COULOMB_UPDATE, 3, 9);
    expect(w, 3, COULOMB_INSERT, 0, 9);
    forget(w);
    OK(coulomb_sub_request(w->sub, NULL, NULL));
    poll_all(w);
    assert_int_equal(w->heard.count, 1);
    expect(w, 0, COULOMB_INSERT, 1, 1);
    OK(coulomb_sub_request(w->sub, NULL, NULL));
    poll_all(w);
    assert_int_equal(w->heard.batches, 2); /* an answer comes, though nothing is left */
    assert_int_equal(w->heard.empty, 1);
    world_close(w);
}

/* What waits is heard before the rows that a request gives, so that a row's history is in order. */
static void changes_before_a_request_are_heard_before_it(void **state)
{
    struct world *w = world_open();

    (void)state;
    synced(w, 1, 1);
    synced(w, 2, 1);
    watch(w, COULOMB_INITIAL_NONE);
    put(w, 1, "x", 2);
    put(w, 1, "x", 3);
    OK(coulomb_sub_request(w->sub, NULL, NULL));
    poll_all(w);
    assert_int_equal(w->heard.count, 3);
    expect(w, 0, COULOMB_INSERT, 1, 2);
    expect(w, 1, COULOMB_UPDATE, 1, 3);
    assert_int_equal(w->heard.items[1].previous_qty, 2);
    expect(w, 2, COULOMB_INSERT, 2, 1);
    world_close(w);
}

static void end_and_ask(coulomb_collection *coll, const coulomb_change *changes,
                        size_t count, void *arg)
{
    struct world *w = arg;

    (void)coll;
    (void)changes;
    (void)count;
    coulomb_unsubscribe(w->sub);
    assert_int_equal(coulomb_sub_request(w->sub, NULL, NULL), COULOMB_E_ARGUMENT);
    w->sub = NULL;
}

static void an_ended_subscription_asks_for_nothing(void **state)
{
    struct world *w = world_open();

    (void)state;
    OK(coulomb_subscribe(w->coll, NULL, end_and_ask, w, &w->sub));
    synced(w, 1, 1);
    poll_all(w);
    assert_null(w->sub);
    world_close(w);
}

/* Other collections' batches are not its own. */
static void catching_up_hears_one_collection(void **state)
{
    struct world *w = world_open();
    struct heard other = {0};
    coulomb_collection_options co = world_options(w);
    coulomb_collection *coll;
    coulomb_sync *first = coulomb_sync_retain(w->sync);
    coulomb_sync *second;
    coulomb_sub *sub;

    (void)state;
    co.id = "others";
    OK(coulomb_collection_new(w->c, &co, &coll));
    poll_all(w);
    second = coulomb_sync_retain(w->sync);
    OK(coulomb_subscribe(w->coll, NULL, hear, &w->heard, &w->sub));
    OK(coulomb_subscribe(coll, NULL, hear, &other, &sub));
    synced(w, 7, 7); /* into the second */
    coulomb_sync_release(w->sync);
    w->sync = first;
    synced(w, 1, 1);
    OK(coulomb_sub_request(w->sub, NULL, NULL));
    poll_all(w);
    assert_int_equal(w->heard.count, 1);
    expect(w, 0, COULOMB_INSERT, 1, 1);
    assert_int_equal(other.count, 1);
    assert_int_equal(other.items[0].key, 7);
    coulomb_unsubscribe(sub);
    coulomb_sync_release(second);
    coulomb_collection_release(coll);
    world_close(w);
}

static void who_gets_all_asks_for_no_more(void **state)
{
    struct world *w = world_open();
    coulomb_page_options o = page_by_qty(1);
    coulomb_request_options r;
    coulomb_value two[2] = {coulomb_int(1), coulomb_int(2)};

    (void)state;
    watch(w, COULOMB_INITIAL_ROWS);
    assert_int_equal(coulomb_sub_request(w->sub, NULL, NULL),
                     COULOMB_E_COLLECTION_OPERATION);
    coulomb_unsubscribe(w->sub);
    watch(w, COULOMB_INITIAL_NONE);
    coulomb_options_init(&r, sizeof(r));
    r.limit = 3;
    assert_int_equal(coulomb_sub_request(w->sub, &r, NULL), COULOMB_E_LIMIT_NEEDS_ORDER);
    assert_int_equal(coulomb_sub_page(w->sub, &o, NULL), COULOMB_E_NO_INDEX);
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_HASH, NULL));
    assert_int_equal(coulomb_sub_page(w->sub, &o, NULL), COULOMB_E_NO_INDEX);
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
    o.limit = 0;
    assert_int_equal(coulomb_sub_page(w->sub, &o, NULL), COULOMB_E_ARGUMENT);
    o.limit = 1;
    o.order_count = 0;
    assert_int_equal(coulomb_sub_page(w->sub, &o, NULL), COULOMB_E_LIMIT_NEEDS_ORDER);
    o.order_count = 1;
    o.from = two;
    o.from_count = 2;
    assert_int_equal(coulomb_sub_page(w->sub, &o, NULL), COULOMB_E_ARGUMENT);
    o.from_count = 1;
    two[0] = coulomb_text("2");
    assert_int_equal(coulomb_sub_page(w->sub, &o, NULL), COULOMB_E_TYPE);
    world_close(w);
}

/* --- Pages ------------------------------------------------------------------------------------- */

/* 1 2 3 3 3 4 5 by threes: the 3s lie on both sides of the first page's edge. */
static void pages_lose_and_repeat_no_equal_values(void **state)
{
    static const int64_t values[] = {1, 2, 3, 3, 3, 4, 5};
    struct world *w = world_open();
    coulomb_value three = coulomb_int(3);
    coulomb_value five = coulomb_int(5);

    (void)state;
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
    for (int64_t i = 0; i < 7; i++)
        synced(w, i, values[i]);
    watch(w, COULOMB_INITIAL_NONE);
    page(w, 3, NULL);
    assert_int_equal(w->heard.count, 3);
    expect(w, 2, COULOMB_INSERT, 2, 3);
    page(w, 1, &three); /* both other 3s, and one behind */
    assert_int_equal(w->heard.batches, 2);
    assert_int_equal(w->heard.count, 6);
    expect(w, 3, COULOMB_INSERT, 3, 3);
    expect(w, 4, COULOMB_INSERT, 4, 3);
    expect(w, 5, COULOMB_INSERT, 5, 4);
    page(w, 3, &three);
    assert_int_equal(w->heard.count, 7);
    expect(w, 6, COULOMB_INSERT, 6, 5);
    page(w, 3, &five);
    assert_int_equal(w->heard.count, 7);
    world_close(w);
}

#define ROWS 40

struct naive_row {
    int64_t id;
    int64_t q; /* -1 null, -2 absent */
    const char *name;
    int sent;
};

static struct {
    coulomb_order order[2];
    size_t count;
} naive_order;

static int naive_cmp_column(const struct naive_row *a, const struct naive_row *b,
                            size_t i)
{
    const coulomb_order *o = &naive_order.order[i];
    int order;

    if (strcmp(o->column, "name") == 0) {
        order = (a->name[0] > b->name[0]) - (a->name[0] < b->name[0]);
    } else if (a->q < 0 || b->q < 0) {
        order = (b->q < 0) - (a->q < 0);
        return o->nulls_last ? -order : order;
    } else {
        order = (a->q > b->q) - (a->q < b->q);
    }
    return o->descending ? -order : order;
}

static int naive_cmp(const void *pa, const void *pb)
{
    const struct naive_row *a = pa;
    const struct naive_row *b = pb;
    int order = 0;

    for (size_t i = 0; i < naive_order.count && order == 0; i++)
        order = naive_cmp_column(a, b, i);
    return order != 0 ? order : (a->id > b->id) - (a->id < b->id);
}

/* The page by looking at every row: ids in order. */
static size_t naive_page(struct naive_row *rows, const struct naive_row *from,
                         size_t limit, int64_t *ids)
{
    size_t n = 0;

    qsort(rows, ROWS, sizeof(*rows), naive_cmp);
    for (int part = 0; part < 2; part++) {
        size_t taken = 0;

        for (size_t i = 0; i < ROWS; i++) {
            int order = from ? naive_cmp_column(&rows[i], from, 0) : 1;

            if (rows[i].sent || order != part || (part == 0 && !from) || rows[i].q == 7 ||
                (part == 1 && taken == limit))
                continue;
            rows[i].sent = 1;
            ids[n++] = rows[i].id;
            taken++;
        }
    }
    return n;
}

static coulomb_value naive_value(const struct naive_row *row, size_t i)
{
    if (strcmp(naive_order.order[i].column, "name") == 0)
        return coulomb_text(row->name);
    if (row->q < 0)
        return row->q == -1 ? coulomb_null() : coulomb_absent();
    return coulomb_int(row->q);
}

static uint32_t rnd(uint64_t *rng, uint32_t n)
{
    *rng = *rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*rng >> 33) % n;
}

static void random_pages(uint64_t seed)
{
    static const char *const names[] = {"a", "b", "c"};
    struct world *w = world_open();
    struct naive_row rows[ROWS];
    coulomb_page_options o = page_by_qty(1);
    coulomb_sub_options so;
    coulomb_expr *e =
        coulomb_not(coulomb_where(w->coll, "qty", COULOMB_EQ, coulomb_int(7)));
    coulomb_expr *gone = coulomb_where(w->coll, "qty", COULOMB_IS_NULL, coulomb_null());
    coulomb_expr *none = coulomb_where(w->coll, "qty", COULOMB_IS_ABSENT, coulomb_null());
    size_t first = rnd(&seed, 2);

    e = coulomb_or(e, coulomb_or(gone, none));
    assert_non_null(e);
    naive_order.count = 1 + rnd(&seed, 2);
    naive_order.order[first] =
        (coulomb_order){"qty", (int)rnd(&seed, 2), (int)rnd(&seed, 2)};
    naive_order.order[!first] = (coulomb_order){"name", (int)rnd(&seed, 2), 0};
    OK(coulomb_index_new(w->coll, naive_order.order[0].column, COULOMB_INDEX_ORDERED,
                         NULL));
    for (int64_t i = 0; i < ROWS; i++) {
        rows[i] =
            (struct naive_row){i, (int64_t)rnd(&seed, 12) - 2, names[rnd(&seed, 3)], 0};
        put(w, i, rows[i].name, rows[i].q);
    }
    coulomb_options_init(&so, sizeof(so));
    so.where = e;
    OK(coulomb_subscribe(w->coll, &so, hear, &w->heard, &w->sub));
    poll_all(w);
    o.order = naive_order.order;
    o.order_count = naive_order.count;
    for (int turn = 0; turn < 12; turn++) {
        struct naive_row from = rows[rnd(&seed, ROWS)];
        coulomb_value values[2];
        int64_t ids[ROWS];
        size_t n;

        o.limit = 1 + rnd(&seed, 6);
        o.from = rnd(&seed, 4) ? values : NULL;
        o.from_count = 1 + rnd(&seed, (uint32_t)naive_order.count);
        for (size_t i = 0; i < naive_order.count; i++)
            values[i] = naive_value(&from, i);
        n = naive_page(rows, o.from ? &from : NULL, o.limit, ids);
        forget(w);
        OK(coulomb_sub_page(w->sub, &o, NULL));
        poll_all(w);
        assert_int_equal(w->heard.batches, 1);
        assert_int_equal(w->heard.count, n);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(w->heard.items[i].key, ids[i]);
    }
    coulomb_expr_free(e);
    world_close(w);
}

static void pages_equal_a_look_at_every_row(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++)
        random_pages(seed);
}

/* --- What the adapter is asked ------------------------------------------------------------------ */

static size_t matching(struct world *w, const coulomb_expr *e)
{
    coulomb_snapshot_options o;
    coulomb_result *r;
    size_t n;

    coulomb_options_init(&o, sizeof(o));
    o.where = e;
    OK(coulomb_snapshot(w->coll, &o, &r));
    n = coulomb_result_count(r);
    coulomb_result_free(r);
    return n;
}

static void the_adapter_gets_cursor_and_offset(void **state)
{
    struct world *w = loading_world(1);
    coulomb_value three = coulomb_int(3);
    coulomb_page_options o = page_by_qty(2);
    const coulomb_subset *s;
    coulomb_token token;

    (void)state;
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
    for (int64_t i = 0; i < 7; i++)
        synced(w, i, i);
    watch(w, COULOMB_INITIAL_NONE);
    assert_int_equal(subsets.loads, 0);
    page(w, 3, NULL);
    assert_int_equal(subsets.loads, 1);
    s = subsets.asked[0];
    assert_null(s->where);
    assert_null(s->cursor);
    assert_int_equal(s->limit, 3);
    assert_int_equal(s->offset, 0);
    assert_string_equal(s->order[0].column, "qty");
    page(w, 2, &three);
    s = subsets.asked[1];
    assert_int_equal(s->offset, 3); /* rows sent before this page */
    assert_non_null(s->cursor);
    assert_int_equal(s->cursor->last_key.i, 2); /* of the page before */
    assert_int_equal(matching(w, s->cursor->where_current), 1);
    assert_int_equal(matching(w, s->cursor->where_from), 3);
    o.from = &three;
    o.from_count = 1;
    o.has_offset = 1;
    o.offset = 77;
    OK(coulomb_sub_page(w->sub, &o, &token));
    poll_all(w);
    s = subsets.asked[2];
    assert_int_equal(s->offset, 77);
    assert_int_equal(s->cursor->last_key.i, 5);
    coulomb_off(w->c, token);
    assert_int_equal(subsets.unloads, 1);
    assert_ptr_equal(subsets.unloaded[0], s);
    coulomb_unsubscribe(w->sub);
    w->sub = NULL;
    assert_int_equal(subsets.unloads, 3);
    world_close(w);
}

static void a_last_key_that_is_text(void **state)
{
    struct world *w = loading_world(1);
    coulomb_collection_options co = world_options(w);
    coulomb_page_options o = page_by_qty(2);
    coulomb_value from = coulomb_int(1);
    char name[32];
    const coulomb_cursor *cursor;

    (void)state;
    co.adapter = &loading_adapter;
    co.on_demand = co.auto_index = 1;
    co.key_column = "name";
    coulomb_collection_release(w->coll);
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
    for (int64_t i = 0; i < 6; i++) {
        snprintf(name, sizeof(name), "row number %lld", (long long)i);
        put(w, i, name, i);
    }
    watch(w, COULOMB_INITIAL_NONE);
    page(w, 2, NULL);
    o.from = &from;
    o.from_count = 1;
    for (size_t i = 1; i < 3; i++) {
        OK(coulomb_sub_page(w->sub, &o, NULL));
        poll_all(w);
        cursor = subsets.asked[i]->cursor;
        snprintf(name, sizeof(name), "row number %zu", 2 * i - 1);
        assert_int_equal(cursor->last_key.type, COULOMB_KEY_TEXT);
        assert_int_equal(cursor->last_key.text.len, strlen(name));
        assert_memory_equal(cursor->last_key.text.ptr, name, strlen(name));
    }
    world_close(w);
}

/* The cursor's conditions and the page's order say the same: nothing on both sides, nothing lost. */
static void cursors_split_the_rows(void **state)
{
    struct world *w = loading_world(1);
    coulomb_page_options o = page_by_qty(1);
    coulomb_order order[2] = {{"qty", 0, 0}, {"name", 0, 0}};

    (void)state;
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
    for (int64_t i = 0; i < 12; i++)
        put(w, i, i % 2 ? "a" : "b", i % 5 - 2); /* absent, null, 0, 1, 2 */
    watch(w, COULOMB_INITIAL_NONE);
    o.order = order;
    o.from_count = 1;
    for (int turn = 0; turn < 16; turn++) {
        coulomb_value from[2] = {turn & 4 ? coulomb_int(1) : coulomb_null(),
                                 coulomb_text("a")};
        const coulomb_cursor *cursor;
        size_t behind;

        order[0].descending = turn & 1;
        order[0].nulls_last = (turn & 2) != 0;
        o.order_count = o.from_count = turn & 8 ? 2 : 1;
        o.from = from;
        OK(coulomb_sub_page(w->sub, &o, NULL));
        poll_all(w);
        cursor = subsets.asked[subsets.loads - 1]->cursor;
        /* 6 rows without a value, 3 of them b; 2 of 0, 2 of 1 (one b), 2 of 2. */
        assert_int_equal(matching(w, cursor->where_current), turn & 4 ? 2 : 6);
        behind = matching(w, cursor->where_from);
        if (turn & 4)
            assert_int_equal(behind, 2 + (turn & 2 ? 6 : 0) + (turn & 8 ? 1 : 0));
        else
            assert_int_equal(behind, (turn & 2 ? 0 : 6) + (turn & 8 ? 3 : 0));
    }
    world_close(w);
}

static void a_request_goes_to_the_adapter_with_both_conditions(void **state)
{
    struct world *w = loading_world(1);
    coulomb_sub_options so;
    coulomb_request_options o;
    coulomb_node n;

    (void)state;
    coulomb_options_init(&so, sizeof(so));
    so.where = coulomb_and(coulomb_where(w->coll, "$synced", COULOMB_EQ, coulomb_bool(1)),
                           coulomb_where(w->coll, "qty", COULOMB_GT, coulomb_int(1)));
    assert_non_null(so.where);
    OK(coulomb_subscribe(w->coll, &so, hear, &w->heard, &w->sub));
    coulomb_expr_free((coulomb_expr *)(uintptr_t)so.where);
    coulomb_options_init(&o, sizeof(o));
    o.where = coulomb_where(w->coll, "name", COULOMB_EQ, coulomb_text("x"));
    OK(coulomb_sub_request(w->sub, &o, NULL));
    coulomb_expr_free((coulomb_expr *)(uintptr_t)o.where);
    poll_all(w);
    assert_int_equal(subsets.loads, 1);
    /* No server knows "$synced". */
    assert_int_equal(coulomb_expr_count(subsets.asked[0]->where), 3);
    n = coulomb_expr_node(subsets.asked[0]->where, 0);
    assert_int_equal(n.type, COULOMB_NODE_COMPARE);
    assert_int_equal(n.op, COULOMB_GT);
    assert_string_equal(n.column, "qty");
    assert_int_equal(n.count, 1);
    assert_int_equal(n.values[0].v.i, 1);
    assert_string_equal(coulomb_expr_node(subsets.asked[0]->where, 1).column, "name");
    n = coulomb_expr_node(subsets.asked[0]->where, 2);
    assert_int_equal(n.type, COULOMB_NODE_AND);
    assert_null(n.column);
    world_close(w);
}

static coulomb_expr *synced_is(struct world *w)
{
    return coulomb_where(w->coll, "$synced", COULOMB_EQ, coulomb_bool(1));
}

static coulomb_expr *qty_is(struct world *w, int64_t q)
{
    return coulomb_where(w->coll, "qty", COULOMB_EQ, coulomb_int(q));
}

/* What a server is asked may want more rows, never fewer. */
static void what_a_server_is_asked_wants_no_fewer_rows(void **state)
{
    struct world *w = loading_world(1);
    coulomb_expr *forms[] = {
        synced_is(w),
        coulomb_or(synced_is(w), qty_is(w, 1)),
        coulomb_not(coulomb_and(qty_is(w, 1), synced_is(w))),
        coulomb_not(coulomb_and(qty_is(w, 1), qty_is(w, 2))),
        coulomb_and(coulomb_or(synced_is(w), qty_is(w, 1)), coulomb_not(qty_is(w, 2))),
        coulomb_and(coulomb_not(coulomb_not(coulomb_and(qty_is(w, 1), synced_is(w)))),
                    qty_is(w, 3)),
        coulomb_and(coulomb_where(w->coll, "id", COULOMB_GT, coulomb_int(0)),
                    synced_is(w)),
    };
    static const size_t nodes[] = {0, 0, 0, 4, 2, 1, 1};

    (void)state;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        coulomb_sub_options so;
        const coulomb_expr *asked;

        assert_non_null(forms[i]);
        coulomb_options_init(&so, sizeof(so));
        so.initial = COULOMB_INITIAL_ROWS;
        so.where = forms[i];
        OK(coulomb_subscribe(w->coll, &so, hear, &w->heard, &w->sub));
        poll_all(w);
        asked = subsets.asked[i]->where;
        assert_int_equal(asked ? coulomb_expr_count(asked) : 0, nodes[i]);
        coulomb_unsubscribe(w->sub);
        w->sub = NULL;
        coulomb_expr_free(forms[i]);
    }
    world_close(w);
}

static void an_eager_collection_loads_no_subsets(void **state)
{
    struct world *w = loading_world(0);

    (void)state;
    watch(w, COULOMB_INITIAL_ROWS);
    assert_int_equal(subsets.loads, 0);
    assert_false(coulomb_sub_loading(w->sub));
    world_close(w);
}

/* --- Loading, told ------------------------------------------------------------------------------ */

static char told[16];

static void on_loading(coulomb_sub *sub, int loading, void *arg)
{
    (void)sub;
    (void)arg;
    snprintf(told + strlen(told), sizeof(told) - strlen(told), "%d", loading);
}

static void subscribe_loading(struct world *w, coulomb_initial initial)
{
    coulomb_sub_options o;

    told[0] = '\0';
    coulomb_options_init(&o, sizeof(o));
    o.initial = initial;
    o.on_loading = on_loading;
    OK(coulomb_subscribe(w->coll, &o, hear, &w->heard, &w->sub));
    assert_int_equal(coulomb_sub_loading(w->sub), initial == COULOMB_INITIAL_ROWS);
    poll_all(w);
}

static void a_load_that_is_refused_has_words(void **state)
{
    struct world *w = loading_world(1);
    coulomb_token token;

    (void)state;
    watch(w, COULOMB_INITIAL_NONE);
    subsets.answer = COULOMB_E_IO;
    OK(coulomb_sub_request(w->sub, NULL, NULL));
    poll_all(w);
    assert_int_equal(coulomb_sub_error(w->sub)->code, COULOMB_E_IO);
    assert_string_equal(coulomb_sub_error(w->sub)->message,
                        coulomb_error_text(COULOMB_E_IO));
    subsets.answer = COULOMB_PENDING;
    OK(coulomb_sub_request(w->sub, NULL, &token));
    poll_all(w);
    assert_true(coulomb_loading_subset(w->coll));
    coulomb_off(w->c, token); /* before the answer */
    assert_false(coulomb_loading_subset(w->coll));
    assert_int_equal(subsets.unloads, 1);
    coulomb_complete(subsets.done[1], COULOMB_OK, NULL);
    OK(coulomb_sub_request(w->sub, NULL, &token));
    coulomb_off(w->c, token); /* before it was asked */
    poll_all(w);
    assert_int_equal(subsets.loads, 2);
    world_close(w);
}

static char counted[16];

static void on_loading_event(coulomb_collection *coll, const coulomb_event *event,
                             void *arg)
{
    (void)coll;
    (void)arg;
    snprintf(counted + strlen(counted), sizeof(counted) - strlen(counted), "%zu",
             event->count);
}

static void the_collection_tells_of_loading(void **state)
{
    struct world *w = loading_world(1);

    (void)state;
    counted[0] = '\0';
    OK(coulomb_collection_on(w->coll, COULOMB_EVENT_LOADING_SUBSET, on_loading_event,
                             NULL, NULL));
    watch(w, COULOMB_INITIAL_NONE);
    OK(coulomb_sub_request(w->sub, NULL, NULL)); /* answered at once */
    poll_all(w);
    assert_string_equal(counted, "");
    subsets.answer = COULOMB_PENDING;
    OK(coulomb_sub_request(w->sub, NULL, NULL));
    OK(coulomb_sub_request(w->sub, NULL, NULL));
    poll_all(w);
    coulomb_complete(subsets.done[1], COULOMB_OK, NULL);
    poll_all(w);
    assert_string_equal(counted, "1");
    coulomb_complete(subsets.done[2], COULOMB_OK, NULL);
    poll_all(w);
    assert_string_equal(counted, "10");
    world_close(w);
}

static void loading_is_told_when_it_takes_time(void **state)
{
    struct world *w = loading_world(1);

    (void)state;
    subscribe_loading(w, COULOMB_INITIAL_ROWS); /* answered at once */
    assert_string_equal(told, "");
    assert_false(coulomb_loading_subset(w->coll));
    coulomb_unsubscribe(w->sub);
    subsets.answer = COULOMB_PENDING;
    subscribe_loading(w, COULOMB_INITIAL_ROWS);
    assert_string_equal(told, "1");
    assert_true(coulomb_loading_subset(w->coll));
    assert_int_equal(coulomb_sub_error(w->sub)->code, COULOMB_OK);
    coulomb_complete(subsets.done[1], COULOMB_E_IO, "the line is cut");
    poll_all(w);
    assert_string_equal(told, "10");
    assert_int_equal(coulomb_sub_error(w->sub)->code, COULOMB_E_IO);
    assert_string_equal(coulomb_sub_error(w->sub)->message, "the line is cut");
    world_close(w);
}

/* --- Truncates and sessions ----------------------------------------------------------------------- */

static void truncate_empty(struct world *w)
{
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_truncate(w->sync));
    OK(coulomb_sync_commit(w->sync));
}

static void after_a_truncate_pages_are_asked_for_again(void **state)
{
    struct world *w = loading_world(1);
    coulomb_value two = coulomb_int(2);

    (void)state;
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
    for (int64_t i = 0; i < 5; i++)
        synced(w, i, i);
    watch(w, COULOMB_INITIAL_NONE);
    page(w, 2, NULL);
    page(w, 2, &two);
    assert_int_equal(subsets.loads, 2);
    subsets.answer = COULOMB_PENDING;
    forget(w);
    truncate_empty(w);
    poll_all(w);
    assert_int_equal(subsets.loads, 4);
    assert_ptr_equal(subsets.asked[2], subsets.asked[0]);
    assert_ptr_equal(subsets.asked[3], subsets.asked[1]);
    assert_int_equal(w->heard.batches, 0);
    put(w, 0, "x", 9);
    put(w, 0, "x", 10); /* an update, which is held with what it was before */
    coulomb_complete(subsets.done[2], COULOMB_OK, NULL);
    poll_all(w);
    assert_int_equal(w->heard.batches, 0); /* the other is still awaited */
    coulomb_complete(subsets.done[3], COULOMB_E_IO, "no");
    poll_all(w);
    assert_int_equal(w->heard.batches, 1);
    assert_int_equal(w->heard.count, 7); /* five deletes, the row */
    expect(w, 5, COULOMB_INSERT, 0, 9);
    expect(w, 6, COULOMB_UPDATE, 0, 10);
    assert_int_equal(w->heard.items[6].previous_qty, 9);
    subsets.answer = COULOMB_OK;
    page(w, 2, &two); /* counting began anew */
    assert_int_equal(subsets.asked[4]->cursor->last_key.type, COULOMB_KEY_NONE);
    assert_int_equal(subsets.asked[4]->offset, 1);
    world_close(w);
}

/* What is asked meanwhile is answered with what was held, also when that is nothing. */
static void a_page_asked_for_meanwhile_is_answered(void **state)
{
    (void)state;
    for (int rows = 0; rows < 2; rows++) {
        struct world *w = loading_world(1);
        coulomb_page_options o = page_by_qty(2);

        OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
        OK(coulomb_sync_mark_ready(w->sync));
        watch(w, COULOMB_INITIAL_NONE);
        page(w, 2, NULL);
        subsets.answer = COULOMB_PENDING;
        forget(w);
        truncate_empty(w);
        poll_all(w);
        if (rows)
            put(w, 1, "x", 1);
        OK(coulomb_sub_page(w->sub, &o, NULL));
        poll_all(w);
        assert_int_equal(w->heard.batches, 0);
        coulomb_complete(subsets.done[1], COULOMB_OK, NULL);
        coulomb_complete(subsets.done[2], COULOMB_OK, NULL);
        poll_all(w);
        assert_int_equal(w->heard.batches, 1);
        assert_int_equal(w->heard.count, rows);
        world_close(w);
    }
}

/* An answer to what was asked before a truncate says nothing of what is to be asked again. */
static void an_old_answer_ends_no_new_load(void **state)
{
    struct world *w = loading_world(1);

    (void)state;
    synced(w, 1, 1);
    subsets.answer = COULOMB_PENDING;
    watch(w, COULOMB_INITIAL_ROWS);
    truncate_empty(w);
    coulomb_complete(subsets.done[0], COULOMB_OK, NULL);
    poll_all(w);
    assert_int_equal(subsets.loads, 2);
    assert_true(coulomb_sub_loading(w->sub));
    assert_int_equal(w->heard.batches, 0);
    coulomb_complete(subsets.done[1], COULOMB_OK, NULL);
    poll_all(w);
    assert_int_equal(w->heard.count, 1);
    world_close(w);
}

/* Rows are committed in every poll: what was held back comes out nevertheless. */
static void post_row(coulomb_client *c, void *arg)
{
    struct world *w = arg;

    (void)c;
    put(w, 9, "x", w->now_ms++);
}

static void traffic_holds_nothing_back(void **state)
{
    struct world *w = loading_world(1);

    (void)state;
    synced(w, 1, 1);
    watch(w, COULOMB_INITIAL_ROWS);
    truncate_empty(w);
    for (int i = 0; i < 4; i++) {
        OK(coulomb_post(w->c, post_row, w));
        assert_true(coulomb_poll(w->c) >= 0);
    }
    assert_true(w->heard.count >= 2);
    expect(w, 0, COULOMB_DELETE, 1, 1);
    world_close(w);
}

/* The rows that a load committed wait for a transaction that is being persisted: deletes without
 * them would be an empty screen. */
static void what_is_held_waits_for_the_rows_of_the_load(void **state)
{
    struct world *w = loading_world(1);

    (void)state;
    synced(w, 1, 1);
    watch(w, COULOMB_INITIAL_ROWS);
    OK(insert(w, 50, 5, NULL, NULL));
    poll_all(w);
    subsets.answer = COULOMB_PENDING;
    forget(w);
    truncate_empty(w);
    poll_all(w);
    synced(w, 1, 1); /* gated */
    coulomb_complete(subsets.done[1], COULOMB_OK, NULL);
    poll_all(w);
    assert_int_equal(w->heard.batches, 0);
    answer(w, 0, COULOMB_OK);
    poll_all(w);
    assert_int_equal(w->heard.batches, 1);
    assert_true(coulomb_has(w->coll, coulomb_key_int(1)));
    world_close(w);
}

static void a_new_session_loads_again(void **state)
{
    struct world *w = loading_world(1);

    (void)state;
    subsets.answer = COULOMB_PENDING;
    watch(w, COULOMB_INITIAL_ROWS);
    assert_int_equal(subsets.loads, 1);
    OK(coulomb_collection_cleanup(w->coll));
    assert_false(coulomb_loading_subset(w->coll));
    coulomb_complete(subsets.done[0], COULOMB_OK, NULL); /* late */
    poll_all(w);
    assert_int_equal(subsets.unloads, 0); /* it went with its session */
    OK(coulomb_collection_start(w->coll));
    poll_all(w);
    assert_int_equal(subsets.loads, 2);
    assert_true(coulomb_sub_loading(w->sub));
    coulomb_complete(subsets.done[1], COULOMB_OK, NULL);
    assert_false(coulomb_sub_loading(w->sub));
    OK(coulomb_collection_cleanup(w->coll));
    OK(coulomb_collection_start(w->coll));
    coulomb_unsubscribe(w->sub); /* before this session was asked */
    w->sub = NULL;
    assert_int_equal(subsets.unloads, 0);
    poll_all(w);
    assert_int_equal(subsets.loads, 2);
    world_close(w);
}

static void in_error_loads_wait_for_recovery(void **state)
{
    struct world *w = loading_world(1);

    (void)state;
    OK(coulomb_sync_mark_error(w->sync, COULOMB_E_IO, "gone"));
    watch(w, COULOMB_INITIAL_ROWS);
    assert_int_equal(subsets.loads, 0);
    OK(coulomb_sync_mark_ready(w->sync));
    poll_all(w);
    assert_int_equal(subsets.loads, 1);
    world_close(w);
}

/* --- Ending within callbacks ------------------------------------------------------------------------ */

static void end_it(coulomb_collection *coll, const coulomb_change *changes, size_t count,
                   void *arg)
{
    struct world *w = arg;

    (void)coll;
    (void)changes;
    (void)count;
    coulomb_unsubscribe(w->sub);
    w->sub = NULL;
}

static void a_subscription_ends_in_the_batch_of_its_page(void **state)
{
    (void)state;
    for (int with_change = 0; with_change < 2; with_change++) {
        struct world *w = loading_world(1);
        coulomb_page_options o = page_by_qty(2);

        OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, NULL));
        synced(w, 1, 1);
        OK(coulomb_subscribe(w->coll, NULL, end_it, w, &w->sub));
        poll_all(w);
        if (with_change)
            synced(w, 2, 2); /* heard first, in the same task */
        OK(coulomb_sub_page(w->sub, &o, NULL));
        poll_all(w);
        assert_null(w->sub);
        assert_int_equal(subsets.loads, 0);
        world_close(w);
    }
}

static void end_when_loading(coulomb_sub *sub, int loading, void *arg)
{
    struct world *w = arg;

    (void)loading;
    assert_ptr_equal(sub, w->sub);
    coulomb_unsubscribe(sub);
    w->sub = NULL;
}

static void a_subscription_ends_as_it_loads(void **state)
{
    struct world *w = loading_world(1);
    coulomb_sub_options o;

    (void)state;
    subsets.answer = COULOMB_PENDING;
    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_ROWS;
    o.on_loading = end_when_loading;
    OK(coulomb_subscribe(w->coll, &o, hear, w, &w->sub));
    poll_all(w);
    assert_null(w->sub);
    assert_int_equal(subsets.unloads, 1);
    coulomb_complete(subsets.done[0], COULOMB_OK, NULL);
    poll_all(w);
    world_close(w);
}

static int load_and_end(coulomb_sync *sync, const coulomb_subset *s,
                        coulomb_completion *done, void *arg)
{
    struct world *w = arg;

    (void)sync;
    (void)s;
    (void)done;
    coulomb_unsubscribe(w->sub);
    w->sub = NULL;
    return COULOMB_OK;
}

static void an_adapter_ends_the_subscription_that_it_loads_for(void **state)
{
    static const coulomb_adapter ending = {.size = sizeof(coulomb_adapter),
                                           .start = world_start,
                                           .stop = world_stop,
                                           .load_subset = load_and_end,
                                           .unload_subset = unload};
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);

    (void)state;
    memset(&subsets, 0, sizeof(subsets));
    co.adapter = &ending;
    co.on_demand = 1;
    coulomb_collection_release(w->coll);
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    watch(w, COULOMB_INITIAL_ROWS);
    assert_null(w->sub);
    assert_int_equal(subsets.unloads, 1);
    world_close(w);
}

static void note_line(int level, const char *line, void *arg)
{
    char *lines = arg;

    (void)level;
    snprintf(lines + strlen(lines), 512 - strlen(lines), "%s\n", line);
}

static void on_ready(coulomb_collection *coll, const coulomb_error *error, void *arg)
{
    (void)coll;
    (void)error;
    (void)arg;
}

/* What nobody is told by a code or an event is in the log; what is not amiss is not. */
static void the_log_says_what_is_amiss(void **state)
{
    (void)state;
    for (int on_demand = 0; on_demand < 2; on_demand++) {
        struct world *w = calloc(1, sizeof(*w));
        coulomb_collection_options co;
        coulomb_client_options o;
        char lines[512] = "";

        assert_non_null(w);
        memset(&subsets, 0, sizeof(subsets));
        coulomb_options_init(&o, sizeof(o));
        o.allocator = (coulomb_allocator){world_realloc, world_free, &w->heap};
        o.log = note_line;
        o.log_arg = lines;
        OK(coulomb_client_open(&o, &w->c));
        co = world_options(w);
        co.adapter = &loading_adapter;
        co.on_demand = on_demand;
        OK(coulomb_collection_new(w->c, &co, &w->coll));
        OK(coulomb_collection_preload(w->coll, on_ready, NULL, NULL));
        subsets.answer = COULOMB_E_IO;
        watch(w, COULOMB_INITIAL_ROWS);
        assert_int_equal(strstr(lines, "event=collection.preload_on_demand") != NULL,
                         on_demand);
        assert_int_equal(strstr(lines, "event=subset.failed") != NULL, on_demand);
        world_close(w);
    }
}

static void an_adapter_says_its_size(void **state)
{
    static const coulomb_adapter sizeless = {.start = world_start};
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);
    coulomb_collection *coll;

    (void)state;
    co.adapter = &sizeless;
    assert_int_equal(coulomb_collection_new(w->c, &co, &coll), COULOMB_E_ARGUMENT);
    assert_non_null(strstr(coulomb_last_error(w->c)->message, "adapter"));
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_gives_what_was_not_sent),
        cmocka_unit_test(changes_before_a_request_are_heard_before_it),
        cmocka_unit_test(an_ended_subscription_asks_for_nothing),
        cmocka_unit_test(catching_up_hears_one_collection),
        cmocka_unit_test(who_gets_all_asks_for_no_more),
        cmocka_unit_test(pages_lose_and_repeat_no_equal_values),
        cmocka_unit_test(pages_equal_a_look_at_every_row),
        cmocka_unit_test(the_adapter_gets_cursor_and_offset),
        cmocka_unit_test(a_last_key_that_is_text),
        cmocka_unit_test(cursors_split_the_rows),
        cmocka_unit_test(a_request_goes_to_the_adapter_with_both_conditions),
        cmocka_unit_test(what_a_server_is_asked_wants_no_fewer_rows),
        cmocka_unit_test(an_eager_collection_loads_no_subsets),
        cmocka_unit_test(a_load_that_is_refused_has_words),
        cmocka_unit_test(the_collection_tells_of_loading),
        cmocka_unit_test(loading_is_told_when_it_takes_time),
        cmocka_unit_test(after_a_truncate_pages_are_asked_for_again),
        cmocka_unit_test(a_page_asked_for_meanwhile_is_answered),
        cmocka_unit_test(an_old_answer_ends_no_new_load),
        cmocka_unit_test(traffic_holds_nothing_back),
        cmocka_unit_test(what_is_held_waits_for_the_rows_of_the_load),
        cmocka_unit_test(a_new_session_loads_again),
        cmocka_unit_test(in_error_loads_wait_for_recovery),
        cmocka_unit_test(a_subscription_ends_in_the_batch_of_its_page),
        cmocka_unit_test(a_subscription_ends_as_it_loads),
        cmocka_unit_test(an_adapter_ends_the_subscription_that_it_loads_for),
        cmocka_unit_test(the_log_says_what_is_amiss),
        cmocka_unit_test(an_adapter_says_its_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
