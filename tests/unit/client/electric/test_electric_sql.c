/* Behaviours T18 and T19 of tests/CLIENT.md: conditions as SQL, values as text; and what covers what
 * (T16), against evaluation. */
#include <math.h>

#include "client/electric/sql.h"
#include "support/client.h"

static const coulomb_column columns[] = {
    {"id", COULOMB_INT64, COULOMB_ABSENT},
    {"t", COULOMB_TEXT, COULOMB_ABSENT},
    {"b", COULOMB_BOOL, COULOMB_ABSENT},
    {"d", COULOMB_DOUBLE, COULOMB_ABSENT},
    {"n", COULOMB_NUMERIC, COULOMB_ABSENT},
    {"u", COULOMB_UUID, COULOMB_ABSENT},
    {"at", COULOMB_TIMESTAMPTZ, COULOMB_ABSENT},
    {"day", COULOMB_DATE, COULOMB_ABSENT},
    {"j", COULOMB_JSON, COULOMB_ABSENT},
    {"by", COULOMB_BYTES, COULOMB_ABSENT},
    {"a", COULOMB_ARRAY, COULOMB_TEXT},
    {"ints", COULOMB_ARRAY, COULOMB_INT64},
    {"iv", COULOMB_INTERVAL, COULOMB_ABSENT},
    {"odd\"name", COULOMB_INT64, COULOMB_ABSENT},
};

struct sql {
    struct test_heap heap;
    coulomb_client *c;
    coulomb_collection *coll;
    struct arena arena;
    struct stream_subset out;
    bool exact;
};

static void sql_open(struct sql *s)
{
    coulomb_client_options o;
    coulomb_collection_options co;

    memset(s, 0, sizeof(*s));
    coulomb_options_init(&o, sizeof(o));
    o.allocator = (coulomb_allocator){world_realloc, world_free, &s->heap};
    OK(coulomb_client_open(&o, &s->c));
    coulomb_options_init(&co, sizeof(co));
    co.columns = columns;
    co.column_count = sizeof(columns) / sizeof(columns[0]);
    co.key_column = "id";
    OK(coulomb_local_new(s->c, &co, NULL, 0, &s->coll));
    arena_init(&s->arena, 1u << 26);
}

static void sql_close(struct sql *s)
{
    arena_fini(&s->arena);
    coulomb_collection_release(s->coll);
    coulomb_client_close(s->c);
    assert_int_equal(s->heap.live, 0);
}

/* The condition's text; it is freed. */
static const char *sql_of(struct sql *s, coulomb_expr *e)
{
    const struct coulomb_expr *wheres[2] = {e, NULL};

    assert_non_null(e);
    OK(sql_where(s->coll->layout, wheres, &s->arena, &s->out, &s->exact));
    coulomb_expr_free(e);
    return s->out.where;
}

static void expect_sql(struct sql *s, coulomb_expr *e, const char *text,
                       const char *param)
{
    assert_string_equal(sql_of(s, e), text);
    assert_true(s->exact);
    assert_int_equal(s->out.param_count, param != NULL);
    if (param)
        assert_string_equal(s->out.params[0], param);
}

static coulomb_expr *is(struct sql *s, const char *column, coulomb_op op, coulomb_value v)
{
    return coulomb_where(s->coll, column, op, v);
}

static void t18_comparisons(void **state)
{
    static const struct {
        coulomb_op op;
        const char *text;
    } ops[] = {{COULOMB_EQ, "\"t\" = $1"},
               {COULOMB_GT, "\"t\" > $1"},
               {COULOMB_GTE, "\"t\" >= $1"},
               {COULOMB_LT, "\"t\" < $1"},
               {COULOMB_LTE, "\"t\" <= $1"}};
    struct sql s;

    (void)state;
    sql_open(&s);
    for (size_t i = 0; i < 5; i++)
        expect_sql(&s, is(&s, "t", ops[i].op, coulomb_text("x")), ops[i].text, "x");
    expect_sql(&s, is(&s, "t", COULOMB_IS_NULL, coulomb_null()), "\"t\" IS NULL", NULL);
    expect_sql(&s, is(&s, "t", COULOMB_IS_ABSENT, coulomb_null()), "\"t\" IS NULL", NULL);
    expect_sql(&s, coulomb_not(is(&s, "t", COULOMB_IS_NULL, coulomb_null())),
               "\"t\" IS NOT NULL", NULL);
    expect_sql(&s, coulomb_not(is(&s, "t", COULOMB_EQ, coulomb_text("x"))),
               "NOT (\"t\" = $1)", "x");
    expect_sql(&s, is(&s, "odd\"name", COULOMB_EQ, coulomb_int(1)),
               "\"odd\"\"name\" = $1", "1");
    sql_close(&s);
}

static void t18_connectives_are_in_parentheses(void **state)
{
    struct sql s;
    coulomb_expr *e;

    (void)state;
    sql_open(&s);
    e = coulomb_and(coulomb_or(is(&s, "id", COULOMB_EQ, coulomb_int(1)),
                               is(&s, "t", COULOMB_EQ, coulomb_text(""))),
                    coulomb_not(coulomb_and(is(&s, "id", COULOMB_LT, coulomb_int(9)),
                                            is(&s, "t", COULOMB_EQ, coulomb_text("y")))));
    assert_string_equal(sql_of(&s, e),
                        "((\"id\" = $1 OR \"t\" = $2) AND NOT ((\"id\" < $3 AND "
                        "\"t\" = $4)))");
    assert_int_equal(s.out.param_count, 4);
    assert_string_equal(s.out.params[0], "1");
    assert_string_equal(s.out.params[1], ""); /* a value as any other */
    assert_string_equal(s.out.params[2], "9");
    assert_string_equal(s.out.params[3], "y");
    sql_close(&s);
}

static void t18_no_condition_and_two(void **state)
{
    const struct coulomb_expr *wheres[2] = {NULL, NULL};
    struct sql s;
    coulomb_expr *a;
    coulomb_expr *b;

    (void)state;
    sql_open(&s);
    OK(sql_where(s.coll->layout, wheres, &s.arena, &s.out, &s.exact));
    assert_string_equal(s.out.where, "true = true");
    a = is(&s, "id", COULOMB_GT, coulomb_int(1));
    b = is(&s, "t", COULOMB_EQ, coulomb_text("x"));
    wheres[0] = a;
    wheres[1] = b;
    OK(sql_where(s.coll->layout, wheres, &s.arena, &s.out, &s.exact));
    assert_string_equal(s.out.where, "(\"id\" > $1) AND (\"t\" = $2)");
    wheres[0] = NULL;
    OK(sql_where(s.coll->layout, wheres, &s.arena, &s.out, &s.exact));
    assert_string_equal(s.out.where, "\"t\" = $1");
    coulomb_expr_free(a);
    coulomb_expr_free(b);
    sql_close(&s);
}

/* Where upstream refuses a null, the answer is known: unknown, and so false, also below a NOT. */
static void t18_nulls_are_never_wanted(void **state)
{
    coulomb_value one_null[1] = {coulomb_null()};
    coulomb_value some[2] = {coulomb_null(), coulomb_text("x")};
    struct sql s;

    (void)state;
    sql_open(&s);
    expect_sql(&s, is(&s, "t", COULOMB_EQ, coulomb_null()), "true = false", NULL);
    expect_sql(&s, coulomb_not(is(&s, "t", COULOMB_GT, coulomb_null())),
               "NOT (true = true)", NULL);
    expect_sql(&s, coulomb_in(s.coll, "t", one_null, 1), "true = false", NULL);
    expect_sql(&s, coulomb_not(coulomb_in(s.coll, "t", one_null, 1)), "NOT (true = true)",
               NULL);
    expect_sql(&s, coulomb_in(s.coll, "t", some, 2), "\"t\" = ANY($1)", "{\"x\",NULL}");
    sql_close(&s);
}

static void t18_lists(void **state)
{
    coulomb_value texts[3] = {coulomb_text("a\"b"), coulomb_text("c\\d,e"),
                              coulomb_text("NULL")};
    coulomb_value mixed[3] = {coulomb_int(1), coulomb_text("2"), coulomb_double(3.5)};
    coulomb_value bools[1] = {coulomb_bool(1)};
    struct sql s;

    (void)state;
    sql_open(&s);
    expect_sql(&s, coulomb_in(s.coll, "t", texts, 3), "\"t\" = ANY($1)",
               "{\"a\\\"b\",\"c\\\\d,e\",\"NULL\"}");
    /* What can't be equal is left out. */
    expect_sql(&s, coulomb_in(s.coll, "id", mixed, 3), "\"id\" = ANY($1)", "{\"1\"}");
    expect_sql(&s, coulomb_in(s.coll, "d", mixed, 3), "\"d\" = ANY($1)",
               "{\"1\",\"3.5\"}");
    expect_sql(&s, coulomb_in(s.coll, "t", NULL, 0), "true = false", NULL);
    expect_sql(&s, coulomb_in(s.coll, "b", bools, 1), "\"b\" = ANY($1)", "{\"t\"}");
    sql_close(&s);
}

static void t18_booleans_have_no_order(void **state)
{
    static const struct {
        coulomb_op op;
        int value;
        const char *text;
        const char *param;
    } cases[] = {
        {COULOMB_EQ, 1, "\"b\" = $1", "t"},   {COULOMB_EQ, 0, "\"b\" = $1", "f"},
        {COULOMB_GT, 1, "true = false", 0},   {COULOMB_GT, 0, "\"b\" = $1", "t"},
        {COULOMB_GTE, 1, "\"b\" = $1", "t"},  {COULOMB_GTE, 0, "\"b\" = \"b\"", 0},
        {COULOMB_LT, 1, "\"b\" = $1", "f"},   {COULOMB_LT, 0, "true = false", 0},
        {COULOMB_LTE, 1, "\"b\" = \"b\"", 0}, {COULOMB_LTE, 0, "\"b\" = $1", "f"}};
    struct sql s;

    (void)state;
    sql_open(&s);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_sql(&s, is(&s, "b", cases[i].op, coulomb_bool(cases[i].value)),
                   cases[i].text, cases[i].param);
    sql_close(&s);
}

static void t18_integers_against_other_numbers(void **state)
{
    static const struct {
        coulomb_op op;
        double value;
        const char *text;
        const char *param;
    } cases[] = {{COULOMB_EQ, 2.0, "\"id\" = $1", "2"},
                 {COULOMB_EQ, 2.5, "true = false", 0},
                 {COULOMB_GT, 2.5, "\"id\" > $1", "2"},
                 {COULOMB_GTE, 2.5, "\"id\" > $1", "2"},
                 {COULOMB_LT, 2.5, "\"id\" <= $1", "2"},
                 {COULOMB_LTE, 2.5, "\"id\" <= $1", "2"},
                 {COULOMB_LT, -2.5, "\"id\" <= $1", "-3"},
                 {COULOMB_GT, -2.5, "\"id\" > $1", "-3"},
                 {COULOMB_GT, 1e30, "true = false", 0},
                 {COULOMB_LT, 1e30, "\"id\" = \"id\"", 0},
                 {COULOMB_GT, -1e30, "\"id\" = \"id\"", 0},
                 {COULOMB_LT, -1e30, "true = false", 0},
                 {COULOMB_LT, (double)NAN, "\"id\" = \"id\"", 0},
                 {COULOMB_EQ, (double)NAN, "true = false", 0}};
    struct sql s;

    (void)state;
    sql_open(&s);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_sql(&s, is(&s, "id", cases[i].op, coulomb_double(cases[i].value)),
                   cases[i].text, cases[i].param);
    expect_sql(&s, is(&s, "id", COULOMB_GT, coulomb_numeric("-2.50")), "\"id\" > $1",
               "-3");
    expect_sql(&s, is(&s, "id", COULOMB_EQ, coulomb_numeric("7.000")), "\"id\" = $1",
               "7");
    expect_sql(&s, is(&s, "id", COULOMB_LT, coulomb_numeric("99999999999999999999")),
               "\"id\" = \"id\"", NULL);
    expect_sql(&s, is(&s, "id", COULOMB_LT, coulomb_numeric("-9223372036854775808.5")),
               "true = false", NULL);
    expect_sql(&s, is(&s, "n", COULOMB_GT, coulomb_double(2.5)), "\"n\" > $1", "2.5");
    expect_sql(&s, is(&s, "d", COULOMB_GT, coulomb_int(2)), "\"d\" > $1", "2");
    /* Another type is never equal. */
    expect_sql(&s, is(&s, "id", COULOMB_EQ, coulomb_text("2")), "true = false", NULL);
    expect_sql(&s, is(&s, "t", COULOMB_GT, coulomb_int(2)), "true = false", NULL);
    sql_close(&s);
}

static void t18_what_no_server_compares_is_left_out(void **state)
{
    struct sql s;
    coulomb_value tags[1] = {coulomb_text("x")};
    coulomb_array list = {.element = COULOMB_TEXT, .count = 1, .items = tags};

    (void)state;
    sql_open(&s);
    assert_string_equal(
        sql_of(&s, coulomb_where_json(s.coll, "j", "/a", COULOMB_EQ, coulomb_text("x"))),
        "true = true");
    assert_false(s.exact);
    assert_string_equal(
        sql_of(&s, coulomb_not(coulomb_where_json(s.coll, "j", "/a", COULOMB_EQ,
                                                  coulomb_text("x")))),
        "NOT (true = false)");
    assert_false(s.exact);
    assert_string_equal(sql_of(&s, is(&s, "by", COULOMB_EQ, coulomb_bytes("x", 1))),
                        "true = true");
    assert_string_equal(sql_of(&s, is(&s, "iv", COULOMB_GT, coulomb_interval(1, 0, 0))),
                        "true = true");
    expect_sql(&s, is(&s, "iv", COULOMB_EQ, coulomb_interval(1, 0, 0)), "\"iv\" = $1",
               "P1M");
    /* A text with a NUL is in no database. */
    expect_sql(&s, is(&s, "t", COULOMB_EQ, coulomb_textn("a\0b", 3)), "true = false",
               NULL);
    assert_string_equal(sql_of(&s, is(&s, "t", COULOMB_GT, coulomb_textn("a\0b", 3))),
                        "true = true");
    expect_sql(&s, is(&s, "a", COULOMB_EQ, coulomb_array_value(&list)), "\"a\" = $1",
               "{x}");
    expect_sql(&s, is(&s, "a", COULOMB_CONTAINS, coulomb_text("x")), "\"a\" @> $1",
               "{\"x\"}");
    expect_sql(&s, is(&s, "ints", COULOMB_CONTAINS, coulomb_text("x")), "true = false",
               NULL);
    sql_close(&s);
}

static void t18_a_deep_condition(void **state)
{
    struct sql s;
    coulomb_expr *e;

    (void)state;
    sql_open(&s);
    e = is(&s, "id", COULOMB_EQ, coulomb_int(0));
    for (int64_t i = 1; i < 400; i++)
        e = i % 2 ? coulomb_or(e, is(&s, "id", COULOMB_EQ, coulomb_int(i)))
                  : coulomb_or(is(&s, "id", COULOMB_EQ, coulomb_int(i)), e);
    sql_of(&s, e);
    assert_int_equal(s.out.param_count, 400);
    sql_close(&s);
}

static void orders(void **state)
{
    coulomb_order order[2] = {{.column = "t"},
                              {.column = "odd\"name", .descending = 1, .nulls_last = 1}};
    struct spec spec = {.order = order, .order_count = 2, .limit = 5};
    int key = 0;
    struct sql s;

    (void)state;
    sql_open(&s);
    OK(sql_order(s.coll->layout, &spec, &key, 1, NULL, 0, &s.arena, &s.out));
    assert_string_equal(s.out.order_by,
                        "\"t\" NULLS FIRST, \"odd\"\"name\" DESC NULLS LAST, \"id\"");
    spec.limit = 0;
    OK(sql_order(s.coll->layout, &spec, &key, 1, NULL, 0, &s.arena, &s.out));
    assert_string_equal(s.out.order_by,
                        "\"t\" NULLS FIRST, \"odd\"\"name\" DESC NULLS LAST");
    spec.order_count = 0;
    OK(sql_order(s.coll->layout, &spec, &key, 1, NULL, 0, &s.arena, &s.out));
    assert_null(s.out.order_by);
    sql_close(&s);
}

static void t19_texts_of_values(void **state)
{
    unsigned char uuid[16] = {0x12, 0x34};
    static char longest[100001];
    struct sql s;

    (void)state;
    sql_open(&s);
    expect_sql(&s, is(&s, "id", COULOMB_EQ, coulomb_int(INT64_MIN)), "\"id\" = $1",
               "-9223372036854775808");
    expect_sql(&s, is(&s, "d", COULOMB_EQ, coulomb_double(1e21)), "\"d\" = $1", "1e+21");
    expect_sql(&s, is(&s, "n", COULOMB_EQ, coulomb_numeric("1.50")), "\"n\" = $1",
               "1.50");
    expect_sql(&s, is(&s, "u", COULOMB_EQ, coulomb_uuid(uuid)), "\"u\" = $1",
               "12340000-0000-0000-0000-000000000000");
    expect_sql(&s, is(&s, "at", COULOMB_GT, coulomb_moment(COULOMB_TIMESTAMPTZ, 1500000)),
               "\"at\" > $1", "2000-01-01 00:00:01.5+00");
    expect_sql(&s, is(&s, "day", COULOMB_EQ, coulomb_moment(COULOMB_DATE, 31)),
               "\"day\" = $1", "2000-02-01");
    memset(longest, 'a', sizeof(longest) - 1);
    sql_of(&s, is(&s, "t", COULOMB_EQ, coulomb_text(longest)));
    assert_int_equal(strlen(s.out.params[0]), sizeof(longest) - 1);
    sql_close(&s);
}

/* Lists survive the way to the server and back: read as the array type's own text. */
static void t19_lists_round_trip(void **state)
{
    static const char alphabet[] = "aN\"\\,{} \n'/\xc3\xa4";
    coulomb_value items[6];
    char texts[6][12];
    struct sql s;
    unsigned seed = 7;

    (void)state;
    sql_open(&s);
    for (int round = 0; round < 500; round++) {
        struct sql_value v;
        struct err err;
        size_t count = 1 + (unsigned)round % 6;
        coulomb_value back;

        for (size_t i = 0; i < count; i++) {
            size_t n = 0;

            for (size_t k = 0; k < 5; k++) {
                seed = seed * 1103515245 + 12345;
                texts[i][n++] = alphabet[(seed >> 16) % 11];
            }
            texts[i][n] = '\0';
            items[i] = coulomb_text(texts[i]);
        }
        sql_of(&s, coulomb_in(s.coll, "t", items, count));
        assert_int_equal(sql_value_in(value_sql_type(COULOMB_ARRAY, COULOMB_TEXT),
                                      slice_of(s.out.params[0]), &s.arena, &v, &err),
                         0);
        OK(value_from_sql(COULOMB_ARRAY, COULOMB_TEXT, &v, &s.arena, &back));
        assert_int_equal(back.v.array->count, count);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(back.v.array->items[i].v.s.len, strlen(texts[i]));
            assert_memory_equal(back.v.array->items[i].v.s.ptr, texts[i],
                                strlen(texts[i]));
        }
        arena_reset(&s.arena);
    }
    sql_close(&s);
}

/* --- Coverage, against evaluation (T16) -------------------------------------------------------------- */

static unsigned rolled = 1;

static unsigned roll(unsigned n)
{
    rolled = rolled * 1103515245 + 12345;
    return (rolled >> 16) % n;
}

static coulomb_expr *random_leaf(struct sql *s)
{
    static const coulomb_op ops[] = {COULOMB_EQ, COULOMB_GT,  COULOMB_GTE,
                                     COULOMB_LT, COULOMB_LTE, COULOMB_IS_NULL};
    const char *column = roll(2) ? "d" : "odd\"name";
    coulomb_value items[3];
    size_t count = roll(4);

    if (roll(4) > 0)
        return coulomb_where(s->coll, column, ops[roll(6)],
                             coulomb_int((int64_t)roll(4)));
    for (size_t i = 0; i < count; i++)
        items[i] = roll(6) ? coulomb_int((int64_t)roll(4)) : coulomb_null();
    return coulomb_in(s->coll, column, items, count);
}

static coulomb_expr *random_where(struct sql *s, int depth)
{
    unsigned kind = depth > 0 ? roll(6) : 0;

    if (kind < 2)
        return random_leaf(s);
    if (kind == 2)
        return coulomb_not(random_where(s, depth - 1));
    return kind < 5 ? coulomb_and(random_where(s, depth - 1), random_where(s, depth - 1))
                    : coulomb_or(random_where(s, depth - 1), random_where(s, depth - 1));
}

static coulomb_value random_number(unsigned n)
{
    return n == 4 ? coulomb_null() : coulomb_int((int64_t)n);
}

/* Every row that the wanted condition matches is matched by one that was loaded. */
static bool is_sound(struct sql *s, struct coulomb_row *rows[25],
                     coulomb_expr *const *loaded, size_t count,
                     const coulomb_expr *wanted)
{
    for (size_t r = 0; r < 25; r++) {
        coulomb_meta meta = {1, 0};
        bool there = false;

        if (expr_eval(wanted, rows[r], meta, &s->arena) != 1)
            continue;
        for (size_t i = 0; i < count; i++)
            there = there || expr_eval(loaded[i], rows[r], meta, &s->arena) == 1;
        if (!there)
            return false;
    }
    return true;
}

static void t16_coverage_is_sound(void **state)
{
    struct coulomb_row *rows[25];
    struct sql s;
    size_t covered = 0;

    (void)state;
    sql_open(&s);
    for (unsigned i = 0; i < 25; i++) {
        coulomb_value v[14];
        coulomb_error e;

        for (size_t k = 0; k < 14; k++)
            v[k] = coulomb_null();
        v[0] = coulomb_int((int64_t)i);
        v[3] = random_number(i % 5);
        v[13] = random_number(i / 5);
        OK(row_new(s.coll->layout, v, NULL, &s.arena, &rows[i], &e));
    }
    for (int round = 0; round < 20000; round++) {
        coulomb_expr *loaded[2] = {random_where(&s, 2), random_where(&s, 1)};
        coulomb_expr *wanted = round % 3 ? random_where(&s, 2) : expr_copy(loaded[0]);
        struct spec specs[3];
        struct list list;

        memset(specs, 0, sizeof(specs));
        list_init(&list);
        for (size_t i = 0; i < 2; i++) {
            specs[i].where = loaded[i];
            list_push(&list, &specs[i].link);
        }
        specs[2].where = wanted;
        if (spec_covered(&list, NULL, &specs[2], &s.arena)) {
            covered++;
            assert_true(is_sound(&s, rows, loaded, 2, wanted));
        } else {
            assert_true(round % 3 != 0); /* the same is covered */
        }
        coulomb_expr_free(loaded[0]);
        coulomb_expr_free(loaded[1]);
        coulomb_expr_free(wanted);
    }
    assert_true(covered > 20000 / 3 + 500);
    for (size_t i = 0; i < 25; i++)
        row_release(rows[i]);
    sql_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(t18_comparisons),
        cmocka_unit_test(t18_connectives_are_in_parentheses),
        cmocka_unit_test(t18_no_condition_and_two),
        cmocka_unit_test(t18_nulls_are_never_wanted),
        cmocka_unit_test(t18_lists),
        cmocka_unit_test(t18_booleans_have_no_order),
        cmocka_unit_test(t18_integers_against_other_numbers),
        cmocka_unit_test(t18_what_no_server_compares_is_left_out),
        cmocka_unit_test(t18_a_deep_condition),
        cmocka_unit_test(orders),
        cmocka_unit_test(t19_texts_of_values),
        cmocka_unit_test(t19_lists_round_trip),
        cmocka_unit_test(t16_coverage_is_sound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
