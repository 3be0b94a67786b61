/* Conditions on arrays, inside json, and what is asked of a row otherwise; each by index and by scan
 * (section 1.9 of the specification, F16 of tests/CLIENT.md). */
#include <math.h>

#include "client/collection/index.h"
#include "support/client.h"

static const coulomb_column columns[] = {
    {"id", COULOMB_INT64, COULOMB_ABSENT}, {"j", COULOMB_JSON, COULOMB_ABSENT},
    {"a", COULOMB_ARRAY, COULOMB_TEXT},    {"n", COULOMB_ARRAY, COULOMB_NUMERIC},
    {"f", COULOMB_DOUBLE, COULOMB_ABSENT},
};

static const struct {
    const char *j;
    const char *a; /* one letter an element, '-' for null; NULL: null */
    double f;
} rows[] = {
    {"{\"p\": {\"city\": \"Rome\", \"zip\": 10}, \"t\": [1, 2]}", "ab", 1},
    {"{\"p\": {\"city\": \"Oslo\", \"zip\": 10.0}, \"t\": [2]}", "b", 2},
    {"{\"p\": {\"city\": \"Rome\", \"zip\": 20}}", "", NAN},
    {"{\"p\": {\"city\": null, \"zip\": \"10\"}}", "a-", 3},
    {"{\"p\": 3}", NULL, 4},
    {"[true]", "-", NAN},
    {NULL, "ba", INFINITY},
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static struct world *rows_world(int auto_index)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);

    co.columns = columns;
    co.column_count = 5;
    co.auto_index = auto_index;
    coulomb_collection_release(w->coll);
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
    OK(coulomb_sync_begin(w->sync, 0));
    for (int64_t i = 0; i < ROWS; i++) {
        coulomb_value items[4];
        coulomb_array a = {.element = COULOMB_TEXT, .dims = 1, .items = items};
        coulomb_value v[5];

        for (const char *p = rows[i].a; p && *p; p++)
            items[a.count++] = *p == '-' ? coulomb_null() : coulomb_textn(p, 1);
        v[0] = coulomb_int(i);
        v[1] = rows[i].j ? coulomb_json(rows[i].j) : coulomb_absent();
        v[2] = rows[i].a ? coulomb_array_value(&a) : coulomb_null();
        v[3] = coulomb_absent();
        v[4] = coulomb_double(rows[i].f);
        OK(coulomb_sync_insert(w->sync, v, NULL, 0));
    }
    OK(coulomb_sync_commit(w->sync));
    return w;
}

/* The keys that match, as digits; indexed 2: either. */
static void keys_are(struct world *w, coulomb_expr *e, int indexed, const char *want)
{
    coulomb_snapshot_options o;
    coulomb_result *r;
    char got[ROWS + 1];

    if (!e)
        print_error("%s\n", coulomb_last_error(w->c)->message);
    assert_non_null(e);
    coulomb_options_init(&o, sizeof(o));
    o.where = e;
    OK(coulomb_snapshot(w->coll, &o, &r));
    if (indexed < 2)
        assert_int_equal(coulomb_result_indexed(r), indexed);
    for (size_t i = 0; i < coulomb_result_count(r); i++)
        got[i] = (char)('0' + coulomb_row_key(coulomb_result_row(r, i)).i);
    got[coulomb_result_count(r)] = '\0';
    assert_string_equal(got, want);
    coulomb_result_free(r);
    coulomb_expr_free(e);
}

static coulomb_expr *city(struct world *w, coulomb_op op, const char *name)
{
    return coulomb_where_json(w->coll, "j", "/p/city", op, coulomb_text(name));
}

static coulomb_expr *zip(struct world *w, coulomb_op op, coulomb_value v)
{
    return coulomb_where_json(w->coll, "j", "/p/zip", op, v);
}

static void inside_json(void **state)
{
    struct world *w = rows_world(0);

    (void)state;
    for (int turn = 0; turn < 3; turn++) {
        coulomb_value in[2] = {coulomb_text("Oslo"), coulomb_text("Bonn")};
        coulomb_index *ix[2] = {NULL, NULL};
        int eq = turn > 0;
        int range = turn == 1;

        if (turn > 0) {
            coulomb_index_type type = range ? COULOMB_INDEX_ORDERED : COULOMB_INDEX_HASH;

            OK(coulomb_index_new_json(w->coll, "j", "/p/city", type, &ix[0]));
            OK(coulomb_index_new_json(w->coll, "j", "/p/zip", type, &ix[1]));
            assert_string_equal(coulomb_index_signature(ix[0]),
                                range ? "j/p/city:ordered" : "j/p/city:hash");
        }
        keys_are(w, city(w, COULOMB_EQ, "Rome"), eq, "02");
        keys_are(w, city(w, COULOMB_GTE, "P"), range, "02");
        keys_are(w, coulomb_in_json(w->coll, "j", "/p/city", in, 2), eq, "1");
        keys_are(w, coulomb_in_json(w->coll, "j", "/p/city", in, 0), 0, "");
        keys_are(w, zip(w, COULOMB_EQ, coulomb_int(10)), eq, "01"); /* and not "10" */
        keys_are(w, zip(w, COULOMB_EQ, coulomb_text("10")), eq, "3");
        keys_are(w, zip(w, COULOMB_GT, coulomb_double(9.5)), range, "012");
        keys_are(
            w,
            coulomb_and(city(w, COULOMB_EQ, "Rome"), zip(w, COULOMB_LT, coulomb_int(15))),
            eq, "0");
        keys_are(w, coulomb_not(city(w, COULOMB_EQ, "Rome")), 0, "1");
        keys_are(w, city(w, COULOMB_IS_NULL, ""), 0, "3");
        keys_are(w, city(w, COULOMB_IS_ABSENT, ""), 0, "456");
        keys_are(w, coulomb_where_json(w->coll, "j", "/0", COULOMB_EQ, coulomb_bool(1)),
                 0, "5");
        keys_are(
            w,
            coulomb_where_json(w->coll, "j", "/t/1", COULOMB_EQ, coulomb_numeric("2.0")),
            0, "0");
        keys_are(
            w, coulomb_where_json(w->coll, "j", "/t", COULOMB_EQ, coulomb_json("[ 2 ]")),
            0, "1");
        keys_are(w, coulomb_where(w->coll, "j", COULOMB_EQ, coulomb_json("[true]")), 0,
                 "5");
        coulomb_index_remove(ix[0]);
        coulomb_index_remove(ix[1]);
    }
    world_close(w);
}

static void inside_json_indexes_follow_changes(void **state)
{
    struct world *w = rows_world(1); /* indexes are made as conditions ask for them */
    coulomb_value v[5] = {coulomb_int(4), coulomb_json("{\"p\": {\"city\": \"Rome\"}}"),
                          coulomb_absent(), coulomb_absent(), coulomb_absent()};

    (void)state;
    keys_are(w, city(w, COULOMB_EQ, "Rome"), 1, "02");
    assert_int_equal(coulomb_index_count(w->coll), 1);
    keys_are(w, city(w, COULOMB_GT, "Oslo"), 1, "02");
    assert_int_equal(coulomb_index_count(w->coll), 1);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(coulomb_sync_update(w->sync, v, NULL, 0));
    OK(coulomb_sync_delete(w->sync, coulomb_key_int(0)));
    OK(coulomb_sync_commit(w->sync));
    keys_are(w, city(w, COULOMB_EQ, "Rome"), 1, "24");
    world_close(w);
}

static coulomb_expr *list(struct world *w, coulomb_op op, const char *letters)
{
    coulomb_value items[4];
    coulomb_array a = {.element = COULOMB_TEXT, .dims = 1, .items = items};

    for (const char *p = letters; *p; p++)
        items[a.count++] = *p == '-' ? coulomb_null() : coulomb_textn(p, 1);
    return coulomb_where(w->coll, "a", op, coulomb_array_value(&a));
}

static void arrays(void **state)
{
    struct world *w = rows_world(0);
    coulomb_value items[2] = {coulomb_text("b"), coulomb_text("a")};
    coulomb_array ba = {.element = COULOMB_TEXT, .dims = 1, .count = 2, .items = items};
    coulomb_array b = {.element = COULOMB_TEXT, .dims = 1, .count = 1, .items = items};
    coulomb_value in[2] = {coulomb_array_value(&ba), coulomb_array_value(&b)};

    (void)state;
    for (int turn = 0; turn < 3; turn++) {
        coulomb_index *ix = NULL;

        if (turn > 0)
            OK(coulomb_index_new(w->coll, "a",
                                 turn == 1 ? COULOMB_INDEX_ORDERED : COULOMB_INDEX_HASH,
                                 &ix));
        keys_are(w, list(w, COULOMB_EQ, "ab"), turn > 0, "0");
        keys_are(w, list(w, COULOMB_EQ, "a-"), turn > 0, "3");
        keys_are(w, list(w, COULOMB_EQ, ""), turn > 0, "2");
        keys_are(w, list(w, COULOMB_GT, "b"), turn == 1, "56"); /* null is the greatest */
        keys_are(w, list(w, COULOMB_LTE, "ab"), turn == 1, "02");
        keys_are(w, coulomb_in(w->coll, "a", in, 2), turn > 0, "16");
        keys_are(w, coulomb_where(w->coll, "a", COULOMB_CONTAINS, coulomb_text("b")), 0,
                 "016");
        /* A null element may be anything; NULL = ANY is unknown. */
        keys_are(
            w,
            coulomb_not(coulomb_where(w->coll, "a", COULOMB_CONTAINS, coulomb_text("b"))),
            0, "2");
        keys_are(w, coulomb_where(w->coll, "a", COULOMB_CONTAINS, coulomb_null()), 0, "");
        keys_are(w, coulomb_where(w->coll, "f", COULOMB_CONTAINS, coulomb_double(1)), 0,
                 "");
        coulomb_index_remove(ix);
    }
    world_close(w);
}

/* F16: NaN equals itself and is greater than every number. */
static void not_a_number(void **state)
{
    struct world *w = rows_world(0);
    coulomb_value nan = coulomb_double(NAN);

    (void)state;
    for (int turn = 0; turn < 3; turn++) {
        coulomb_index *ix = NULL;

        if (turn > 0)
            OK(coulomb_index_new(w->coll, "f",
                                 turn == 1 ? COULOMB_INDEX_ORDERED : COULOMB_INDEX_HASH,
                                 &ix));
        keys_are(w, coulomb_where(w->coll, "f", COULOMB_EQ, nan), turn > 0, "25");
        keys_are(w, coulomb_where(w->coll, "f", COULOMB_LT, nan), turn == 1, "01346");
        keys_are(w, coulomb_where(w->coll, "f", COULOMB_GT, coulomb_double(3)), turn == 1,
                 "2456");
        keys_are(w, coulomb_in(w->coll, "f", &nan, 1), turn > 0, "25");
        coulomb_index_remove(ix);
    }
    world_close(w);
}

/* Changes go into an index one by one; it is not thrown away and made anew. */
static void indexes_are_kept_up_to_date(void **state)
{
    struct world *w = world_open();
    coulomb_index *ix[2];
    uint64_t rng = 5;

    (void)state;
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_ORDERED, &ix[0]));
    OK(coulomb_index_new(w->coll, "qty", COULOMB_INDEX_HASH, &ix[1]));
    for (int step = 0; step < 3000; step++) {
        int64_t id;

        rng = rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        id = (int64_t)(rng >> 40) % 400;
        OK(coulomb_sync_begin(w->sync, 0));
        if (rng >> 60 < 5)
            OK(coulomb_sync_delete(w->sync, coulomb_key_int(id)));
        else
            OK(sync_patch(w, id, (int64_t)(rng >> 33) % 30));
        OK(coulomb_sync_commit(w->sync));
        assert_false(ix[0]->stale || ix[1]->stale);
        assert_int_equal(ix[0]->sorted.count, coulomb_size(w->coll));
        assert_int_equal(ix[1]->slot_used, coulomb_size(w->coll));
    }
    for (int64_t q = 0; q < 30; q++) {
        coulomb_snapshot_options o;
        coulomb_result *r;
        size_t n = 0;

        coulomb_options_init(&o, sizeof(o));
        o.where = coulomb_where(w->coll, "qty", COULOMB_EQ, coulomb_int(q));
        assert_non_null(o.where);
        OK(coulomb_snapshot(w->coll, &o, &r));
        assert_true(coulomb_result_indexed(r));
        for (int64_t id = 0; id < 400; id++)
            n += qty(w, id) == q;
        assert_int_equal(coulomb_result_count(r), n);
        coulomb_result_free(r);
        coulomb_expr_free((coulomb_expr *)(uintptr_t)o.where);
    }
    world_close(w);
}

static int ascends(const coulomb_row *row, void *arg)
{
    int64_t *last = arg;
    int64_t key = coulomb_row_key(row).i;

    assert_true(key > last[0]);
    last[0] = key;
    last[1]++;
    return 0;
}

/* Rows that come in order, many thousands, and go again: what is kept in order stays so. */
static void an_order_of_many_rows(void **state)
{
    struct world *w = world_open();
    int64_t walk[2] = {-1, 0};

    (void)state;
    OK(coulomb_each(w->coll, ascends, walk)); /* from now on the order is kept */
    for (int64_t i = 0; i < 3000; i++) {
        synced(w, i, 1);
        if (i % 100 == 99) {
            walk[0] = -1;
            walk[1] = 0;
            OK(coulomb_each(w->coll, ascends, walk));
            assert_int_equal(walk[1], i + 1);
        }
    }
    for (int64_t i = 0; i < 3000; i++) {
        OK(coulomb_sync_begin(w->sync, 0));
        OK(coulomb_sync_delete(w->sync, coulomb_key_int(i * 7 % 3000)));
        OK(coulomb_sync_commit(w->sync));
        if (i % 100 == 99) {
            walk[0] = -1;
            walk[1] = 0;
            OK(coulomb_each(w->coll, ascends, walk));
            assert_int_equal(walk[1], 2999 - i);
        }
    }
    world_close(w);
}

/* NOT of unknown is unknown, however often; FALSE and TRUE decide beside it. */
static void unknown_stays_unknown(void **state)
{
    struct world *w = rows_world(0);

    (void)state;
    for (int depth = 0; depth < 4; depth++) {
        coulomb_expr *e = coulomb_where(w->coll, "f", COULOMB_EQ, coulomb_null());

        for (int i = 0; i < depth; i++)
            e = coulomb_not(e);
        keys_are(w, e, 2, "");
    }
    keys_are(w,
             coulomb_not(
                 coulomb_and(coulomb_where(w->coll, "f", COULOMB_EQ, coulomb_null()),
                             coulomb_where(w->coll, "f", COULOMB_EQ, coulomb_double(1)))),
             2, "123456");
    keys_are(w,
             coulomb_or(coulomb_where(w->coll, "f", COULOMB_EQ, coulomb_null()),
                        coulomb_where(w->coll, "f", COULOMB_EQ, coulomb_double(1))),
             2, "0");
    world_close(w);
}

static void refused(struct world *w, coulomb_expr *e, int code)
{
    assert_null(e);
    assert_int_equal(coulomb_last_error(w->c)->code, code);
}

static void what_is_no_condition(void **state)
{
    struct world *w = rows_world(0);
    coulomb_array bad = {
        .element = COULOMB_TEXT, .dims = 2, .count = 0, .lengths = {2, 2}};
    coulomb_expr *e;
    coulomb_index *ix;

    (void)state;
    refused(w, coulomb_where(w->coll, "nope", COULOMB_EQ, coulomb_int(1)),
            COULOMB_E_COLUMN);
    refused(w, coulomb_where_json(w->coll, "f", "/a", COULOMB_EQ, coulomb_int(1)),
            COULOMB_E_TYPE);
    refused(w, coulomb_where_json(w->coll, "j", "a", COULOMB_EQ, coulomb_int(1)),
            COULOMB_E_PATH);
    refused(w, coulomb_where_json(w->coll, "j", NULL, COULOMB_EQ, coulomb_int(1)),
            COULOMB_E_PATH);
    refused(w, coulomb_where(w->coll, "f", COULOMB_EQ, coulomb_numeric("1x")),
            COULOMB_E_INVALID_TEXT);
    refused(w, coulomb_where(w->coll, "j", COULOMB_EQ, coulomb_json("{")),
            COULOMB_E_INVALID_TEXT);
    refused(w, coulomb_where(w->coll, "a", COULOMB_EQ, coulomb_array_value(&bad)),
            COULOMB_E_INVALID_TEXT);
    refused(w, coulomb_where(w->coll, "a", COULOMB_EQ, coulomb_array_value(NULL)),
            COULOMB_E_TYPE);
    bad.dims = 0;
    refused(w, coulomb_where(w->coll, "a", COULOMB_CONTAINS, coulomb_array_value(&bad)),
            COULOMB_E_TYPE);
    refused(w, coulomb_where(w->coll, "f", (coulomb_op)99, coulomb_int(1)),
            COULOMB_E_ARGUMENT);
    assert_int_equal(coulomb_index_new_json(w->coll, "f", "/a", COULOMB_INDEX_HASH, &ix),
                     COULOMB_E_TYPE);
    assert_int_equal(coulomb_index_new_json(w->coll, "j", NULL, COULOMB_INDEX_HASH, &ix),
                     COULOMB_E_PATH);
    e = coulomb_where(w->coll, "f", COULOMB_EQ, coulomb_int(1));
    for (int i = 0; i < 500 && e; i++)
        e = coulomb_and(e, coulomb_where(w->coll, "f", COULOMB_EQ, coulomb_int(1)));
    refused(w, e, COULOMB_E_LIMIT);
    world_close(w);
}

static void a_question_of_the_column_alone_has_no_value(void **state)
{
    struct world *w = rows_world(0);
    coulomb_expr *e = coulomb_where(w->coll, "f", COULOMB_IS_NULL, coulomb_numeric("1x"));

    (void)state;
    assert_non_null(e);
    assert_int_equal(coulomb_expr_node(e, 0).count, 0);
    coulomb_expr_free(e);
    world_close(w);
}

static void conditions_are_read_and_outlive_their_collection(void **state)
{
    struct world *w = rows_world(0);
    coulomb_expr *e =
        coulomb_where_json(w->coll, "j", "/a~1b", COULOMB_EQ, coulomb_int(1));
    coulomb_node n;

    (void)state;
    assert_non_null(e);
    coulomb_sync_release(w->sync);
    coulomb_collection_release(w->coll);
    coulomb_client_close(w->c);
    n = coulomb_expr_node(e, 0);
    assert_string_equal(n.column, "j");
    assert_string_equal(n.pointer, "/a~1b");
    coulomb_expr_free(e);
    assert_int_equal(w->heap.live, 0);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inside_json),
        cmocka_unit_test(inside_json_indexes_follow_changes),
        cmocka_unit_test(arrays),
        cmocka_unit_test(not_a_number),
        cmocka_unit_test(indexes_are_kept_up_to_date),
        cmocka_unit_test(an_order_of_many_rows),
        cmocka_unit_test(unknown_stays_unknown),
        cmocka_unit_test(what_is_no_condition),
        cmocka_unit_test(a_question_of_the_column_alone_has_no_value),
        cmocka_unit_test(conditions_are_read_and_outlive_their_collection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
