/* Behaviours G (drafts) of tests/CLIENT.md, and values of every type in rows. */
#include <math.h>

#include "support/client.h"

static const coulomb_column columns[] = {{"id", COULOMB_INT64, COULOMB_ABSENT},
                                         {"ok", COULOMB_BOOL, COULOMB_ABSENT},
                                         {"f", COULOMB_DOUBLE, COULOMB_ABSENT},
                                         {"n", COULOMB_NUMERIC, COULOMB_ABSENT},
                                         {"t", COULOMB_TEXT, COULOMB_ABSENT},
                                         {"b", COULOMB_BYTES, COULOMB_ABSENT},
                                         {"u", COULOMB_UUID, COULOMB_ABSENT},
                                         {"d", COULOMB_DATE, COULOMB_ABSENT},
                                         {"ti", COULOMB_TIME, COULOMB_ABSENT},
                                         {"ts", COULOMB_TIMESTAMP, COULOMB_ABSENT},
                                         {"tz", COULOMB_TIMESTAMPTZ, COULOMB_ABSENT},
                                         {"iv", COULOMB_INTERVAL, COULOMB_ABSENT},
                                         {"j", COULOMB_JSON, COULOMB_ABSENT},
                                         {"a", COULOMB_ARRAY, COULOMB_TEXT},
                                         {"ai", COULOMB_ARRAY, COULOMB_INT64}};

enum { COLUMNS = sizeof(columns) / sizeof(columns[0]) };

static struct world *typed_world(coulomb_collection **coll)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);

    co.id = "typed";
    co.on_insert = co.on_update = co.on_delete = NULL;
    co.columns = columns;
    co.column_count = COLUMNS;
    OK(coulomb_local_new(w->c, &co, NULL, 0, coll));
    return w;
}

/* Text in, as the session settings of the server have it, and the same text out. */
static const struct {
    const char *column;
    const char *in;
    const char *out;
} texts[] = {
    {"ok", "yes", "t"},
    {"f", "1e3", "1000"},
    {"f", "NaN", "NaN"},
    {"n", "00123456789012345678901234567890.1200", "123456789012345678901234567890.1200"},
    {"t", "h\303\244", "h\303\244"},
    {"b", "\\x00ff", "\\x00ff"},
    {"u", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
    {"d", "2024-02-29", "2024-02-29"},
    {"ti", "12:34:56.789", "12:34:56.789"},
    {"ts", "2024-01-02 03:04:05.000006", "2024-01-02 03:04:05.000006"},
    {"tz", "2024-01-02 03:04:05+02", "2024-01-02 01:04:05+00"},
    {"iv", "1 mon 2 days 03:00", "P1M2DT3H"},
    {"j", "{\"b\":1, \"a\" : [1,2.50]}", "{\"a\": [1, 2.50], \"b\": 1}"},
    {"a", "{x,NULL,\"y z\"}", "{x,NULL,\"y z\"}"},
    {"ai", "{{1,2},{3,4}}", "{{1,2},{3,4}}"},
};

static int set_text(coulomb_draft *d, size_t index, void *arg)
{
    size_t i = *(size_t *)arg;

    (void)index;
    return coulomb_draft_set_input(d, texts[i].column, texts[i].in, strlen(texts[i].in));
}

static void every_type_goes_in_and_out(void **state)
{
    coulomb_collection *coll;
    struct world *w = typed_world(&coll);
    coulomb_field id = {"id", coulomb_int(1)};

    (void)state;
    OK(coulomb_insert(coll, &id, 1, NULL, NULL));
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const coulomb_row *row;
        coulomb_value v;
        char text[128];
        size_t len;

        OK(coulomb_update(coll, coulomb_key_int(1), set_text, &i, NULL, NULL));
        poll_all(w);
        row = coulomb_get(coll, coulomb_key_int(1));
        v = coulomb_row_get(row, texts[i].column);
        OK(coulomb_value_print(&v, text, sizeof(text), &len));
        assert_string_equal(text, texts[i].out);
        assert_int_equal(len, strlen(texts[i].out));
    }
    coulomb_collection_release(coll);
    world_close(w);
}

static void text_that_is_too_long_is_cut(void **state)
{
    coulomb_value v = coulomb_text("12345");
    char text[8];
    size_t len;

    (void)state;
    for (size_t cap = 0; cap < sizeof(text); cap++) {
        memset(text, '#', sizeof(text));
        len = 0;
        OK(coulomb_value_print(&v, text, cap, &len));
        assert_int_equal(len, 5);
        for (size_t i = cap; i < sizeof(text); i++)
            assert_int_equal(text[i], '#'); /* nothing beyond */
        if (cap > 0)
            assert_int_equal(strlen(text), cap > 5 ? 5 : cap - 1);
    }
}

static int bad_text(coulomb_draft *d, size_t index, void *arg)
{
    (void)index;
    (void)arg;
    assert_int_equal(coulomb_draft_set(d, "t", coulomb_textn("\377", 1)),
                     COULOMB_E_INVALID_TEXT);
    assert_int_equal(coulomb_draft_set(d, "j", coulomb_json("{")),
                     COULOMB_E_INVALID_TEXT);
    assert_int_equal(coulomb_draft_set(d, "n", coulomb_numeric("1x")),
                     COULOMB_E_INVALID_TEXT);
    assert_int_equal(coulomb_draft_set(d, "t", coulomb_int(1)), COULOMB_E_TYPE);
    assert_int_equal(coulomb_draft_set(d, "nope", coulomb_int(1)), COULOMB_E_COLUMN);
    return coulomb_draft_set_input(d, "d", "2024-02-30", 10);
}

static void what_does_not_fit_is_refused(void **state)
{
    coulomb_collection *coll;
    struct world *w = typed_world(&coll);
    coulomb_field id = {"id", coulomb_int(1)};

    (void)state;
    OK(coulomb_insert(coll, &id, 1, NULL, NULL));
    assert_int_equal(coulomb_update(coll, coulomb_key_int(1), bad_text, NULL, NULL, NULL),
                     COULOMB_E_INVALID_TEXT);
    assert_string_equal(coulomb_last_error(w->c)->column, "d");
    poll_all(w);
    coulomb_collection_release(coll);
    world_close(w);
}

static int order_of(coulomb_value a, coulomb_value b)
{
    int order;

    OK(coulomb_value_compare(&a, &b, &order));
    return order;
}

static void values_are_in_one_order(void **state)
{
    (void)state;
    assert_int_equal(order_of(coulomb_absent(), coulomb_null()), -1);
    assert_int_equal(order_of(coulomb_int(1), coulomb_double(1.0)), 0);
    assert_int_equal(
        order_of(coulomb_int(INT64_MAX), coulomb_double(9223372036854775808.0)), -1);
    assert_int_equal(
        order_of(coulomb_int(INT64_MAX), coulomb_numeric("9223372036854775807.5")), -1);
    assert_int_equal(order_of(coulomb_double(NAN), coulomb_double(NAN)), 0);
    assert_int_equal(order_of(coulomb_double(NAN), coulomb_double(INFINITY)), 1);
    assert_int_equal(order_of(coulomb_double(-0.0), coulomb_int(0)), 0);
    assert_int_equal(order_of(coulomb_numeric("1.0"), coulomb_numeric("1.00")), 0);
    assert_int_equal(order_of(coulomb_text("a"), coulomb_text("b")), -1);
    assert_int_equal(order_of(coulomb_json("{\"a\": 1.0}"), coulomb_json("{\"a\": 1}")),
                     0);
    assert_int_equal(coulomb_key_compare(coulomb_key_text("z"), coulomb_key_int(-5)), -1);
    assert_int_equal(coulomb_key_compare(coulomb_key_text("1"), coulomb_key_int(1)), -1);
}

/* --- G -------------------------------------------------------------------------------------------- */

struct edit {
    int (*fn)(coulomb_draft *d);
    size_t changes; /* that fn leaves */
};

static int run_edit(coulomb_draft *d, size_t index, void *arg)
{
    struct edit *e = arg;
    int code = e->fn(d);

    (void)index;
    assert_int_equal(coulomb_draft_changes(d), e->changes);
    return code;
}

static const char *const tags[] = {"c", "a", "b"};

static int fill(coulomb_draft *d)
{
    coulomb_value items[3];
    coulomb_array list = {COULOMB_TEXT, 1, 3, items, {0}};

    for (int i = 0; i < 3; i++)
        items[i] = coulomb_text(tags[i]);
    OK(coulomb_draft_set(d, "t", coulomb_text("text")));
    OK(coulomb_draft_set(d, "f", coulomb_double(NAN)));
    OK(coulomb_draft_set(d, "a", coulomb_array_value(&list)));
    return coulomb_draft_set(
        d, "j",
        coulomb_json("{\"p\": {\"q\": {\"r\": 1}}, \"list\": [1, 2], \"a/b\": true}"));
}

/* One edit of a filled row; the row's text afterwards in *text. */
static void edit_row(int (*fn)(coulomb_draft *d), size_t changes, const char *column,
                     const char *want)
{
    coulomb_collection *coll;
    struct world *w = typed_world(&coll);
    coulomb_field id = {"id", coulomb_int(1)};
    struct edit first = {fill, 4};
    struct edit second = {fn, changes};
    const coulomb_row *before;
    coulomb_tx *tx;
    coulomb_value v;
    char text[256];

    OK(coulomb_insert(coll, &id, 1, NULL, NULL));
    OK(coulomb_update(coll, coulomb_key_int(1), run_edit, &first, NULL, NULL));
    poll_all(w);
    before = coulomb_row_retain(coulomb_get(coll, coulomb_key_int(1)));
    OK(coulomb_update(coll, coulomb_key_int(1), run_edit, &second, NULL, &tx));
    assert_int_equal(coulomb_tx_count(tx), changes > 0);
    v = coulomb_row_get(coulomb_get(coll, coulomb_key_int(1)), column);
    OK(coulomb_value_print(&v, text, sizeof(text), NULL));
    assert_string_equal(text, want);
    /* The row as it was is untouched. */
    assert_int_equal(coulomb_row_get(before, "a").v.array->count, 3);
    coulomb_row_release(before);
    coulomb_tx_release(tx);
    poll_all(w);
    coulomb_collection_release(coll);
    world_close(w);
}

static int same_values(coulomb_draft *d)
{
    OK(coulomb_draft_set(d, "t", coulomb_text("text")));
    OK(coulomb_draft_set(d, "f", coulomb_double(NAN)));
    OK(coulomb_draft_set(d, "n", coulomb_absent()));
    return coulomb_draft_json_set(d, "j", "/p/q/r", "1.0");
}

static void g1_the_same_value_is_no_change(void **state)
{
    (void)state;
    edit_row(same_values, 0, "t", "text");
}

static int deep(coulomb_draft *d)
{
    OK(coulomb_draft_json_set(d, "j", "/p/q/r", "2"));
    assert_true(coulomb_draft_changed(d, "j"));
    OK(coulomb_draft_json_set(d, "j", "/p/q/s", "\"new\""));
    OK(coulomb_draft_json_set(d, "j", "/list/-", "3"));
    OK(coulomb_draft_json_set(d, "j", "/list/0", "0"));
    OK(coulomb_draft_json_set(d, "j", "/a~1b", "false"));
    assert_int_equal(coulomb_draft_json_set(d, "j", "/none/x", "1"), COULOMB_E_PATH);
    assert_int_equal(coulomb_draft_json_set(d, "j", "/list/9", "1"), COULOMB_E_PATH);
    assert_int_equal(coulomb_draft_json_set(d, "j", "/a~1b/x", "1"), COULOMB_E_PATH);
    assert_int_equal(coulomb_draft_json_set(d, "j", "p", "1"), COULOMB_E_PATH);
    assert_int_equal(coulomb_draft_json_set(d, "t", "/p", "1"), COULOMB_E_TYPE);
    return 0;
}

static void g2_deep_changes_are_of_the_column(void **state)
{
    (void)state;
    edit_row(deep, 1, "j",
             "{\"p\": {\"q\": {\"r\": 2, \"s\": \"new\"}}, \"a/b\": false, \"list\": [0, "
             "2, 3]}");
}

static int there_and_back(coulomb_draft *d)
{
    OK(coulomb_draft_json_set(d, "j", "/p/q/r", "2"));
    OK(coulomb_draft_set(d, "t", coulomb_text("other")));
    OK(coulomb_draft_set(d, "d", coulomb_moment(COULOMB_DATE, 1)));
    assert_int_equal(coulomb_draft_changes(d), 3);
    OK(coulomb_draft_json_set(d, "j", "/p/q/r", "1"));
    OK(coulomb_draft_set(d, "t", coulomb_text("text")));
    assert_false(coulomb_draft_changed(d, "j"));
    return 0;
}

static void g3_setting_back_is_no_change(void **state)
{
    (void)state;
    edit_row(there_and_back, 1, "d", "2000-01-02");
}

static int lists(coulomb_draft *d)
{
    coulomb_value two[2] = {coulomb_text("x"), coulomb_null()};

    OK(coulomb_draft_array_push(d, "a", coulomb_text("z"))); /* c a b z */
    OK(coulomb_draft_array_splice(d, "a", 0, 1, NULL, 0));   /* a b z */
    OK(coulomb_draft_array_splice(d, "a", 1, 1, two, 2));    /* a x null z */
    OK(coulomb_draft_array_reverse(d, "a"));                 /* z null x a */
    assert_int_equal(coulomb_draft_array_splice(d, "a", 3, 2, NULL, 0),
                     COULOMB_E_ARGUMENT);
    assert_int_equal(coulomb_draft_array_push(d, "a", coulomb_int(1)),
                     COULOMB_E_INVALID_TEXT);
    OK(coulomb_draft_array_sort(d, "a"));
    OK(coulomb_draft_array_push(d, "ai", coulomb_int(7))); /* absent counts as empty */
    assert_int_equal(coulomb_draft_get(d, "a").v.array->items[0].type, COULOMB_NULL);
    return 0;
}

static void g4_lists(void **state)
{
    (void)state;
    edit_row(lists, 2, "a", "{NULL,a,x,z}");
}

static int reversed_twice(coulomb_draft *d)
{
    OK(coulomb_draft_array_reverse(d, "a"));
    OK(coulomb_draft_array_reverse(d, "a"));
    return 0;
}

static void g4_a_list_as_before_is_no_change(void **state)
{
    (void)state;
    edit_row(reversed_twice, 0, "a", "{c,a,b}");
}

static coulomb_value pair(coulomb_array *a, coulomb_value items[2], int64_t x, int64_t y)
{
    items[0] = coulomb_int(x);
    items[1] = coulomb_int(y);
    *a = (coulomb_array){.element = COULOMB_INT64, .dims = 1, .count = 2, .items = items};
    return coulomb_array_value(a);
}

static void list_is(coulomb_draft *d, const char *want)
{
    coulomb_value v = coulomb_draft_get(d, "ai");
    char text[128];

    OK(coulomb_value_print(&v, text, sizeof(text), NULL));
    assert_string_equal(text, want);
}

/* Arrays of two dimensions are lists of lists. */
static int tables(coulomb_draft *d)
{
    coulomb_array arrays[3];
    coulomb_value items[3][2];
    coulomb_value rows[3] = {pair(&arrays[0], items[0], 5, 6),
                             pair(&arrays[1], items[1], 1, 2),
                             pair(&arrays[2], items[2], 1, 1)};
    coulomb_value cube;
    coulomb_array table;
    size_t at[2] = {1, 0};

    OK(coulomb_draft_array_push(d, "ai", rows[0])); /* it was absent */
    list_is(d, "{{5,6}}");
    OK(coulomb_draft_array_splice(d, "ai", 1, 0, rows + 1, 2));
    list_is(d, "{{5,6},{1,2},{1,1}}");
    OK(coulomb_draft_array_set(d, "ai", at, 2, coulomb_int(9)));
    list_is(d, "{{5,6},{9,2},{1,1}}");
    OK(coulomb_draft_array_reverse(d, "ai"));
    list_is(d, "{{1,1},{9,2},{5,6}}");
    OK(coulomb_draft_array_sort(d, "ai"));
    list_is(d, "{{1,1},{5,6},{9,2}}");
    OK(coulomb_draft_array_splice(d, "ai", 0, 2, rows, 1));
    list_is(d, "{{5,6},{9,2}}");
    table = *coulomb_draft_get(d, "ai").v.array;
    cube = coulomb_array_value(&table);
    /* What does not fit, also when there is more of it than of what it would replace. */
    assert_int_equal(coulomb_draft_array_push(d, "ai", cube), COULOMB_E_TYPE);
    assert_int_equal(coulomb_draft_array_push(d, "ai", coulomb_int(1)), COULOMB_E_TYPE);
    rows[1] = rows[2] = coulomb_int(3);
    assert_int_equal(coulomb_draft_array_splice(d, "ai", 1, 0, rows, 3), COULOMB_E_TYPE);
    arrays[0].count = 1;
    assert_int_equal(coulomb_draft_array_push(d, "ai", rows[0]), COULOMB_E_TYPE);
    at[1] = 2;
    assert_int_equal(coulomb_draft_array_set(d, "ai", at, 2, coulomb_int(9)),
                     COULOMB_E_ARGUMENT);
    assert_int_equal(coulomb_draft_array_set(d, "ai", at, 1, coulomb_int(9)),
                     COULOMB_E_ARGUMENT);
    list_is(d, "{{5,6},{9,2}}");
    OK(coulomb_draft_array_splice(d, "ai", 0, 2, NULL, 0));
    list_is(d, "{}");
    OK(coulomb_draft_array_push(d, "ai", cube));
    list_is(d, "{{{5,6},{9,2}}}");
    OK(coulomb_draft_array_splice(d, "ai", 0, 1, NULL, 0));
    OK(coulomb_draft_array_push(d, "ai", coulomb_int(7)));
    assert_int_equal(coulomb_draft_array_push(d, "ai", cube), COULOMB_E_TYPE);
    at[0] = 0;
    OK(coulomb_draft_array_set(d, "ai", at, 1, coulomb_null()));
    list_is(d, "{NULL}");
    assert_int_equal(coulomb_draft_array_set(d, "a", at, 1, coulomb_text("first")),
                     COULOMB_OK);
    return coulomb_draft_array_set(d, "a", at, 1, coulomb_text("c"));
}

static void g4_lists_of_lists(void **state)
{
    (void)state;
    edit_row(tables, 1, "ai", "{NULL}");
}

static void json_at(const char *json, const char *pointer, int code, coulomb_type type,
                    const char *want)
{
    coulomb_value v = coulomb_json(json);
    coulomb_type got = COULOMB_ARRAY;
    char text[64] = "";
    size_t len = 0;

    assert_int_equal(coulomb_json_get(&v, pointer, &got, text, sizeof(text), &len), code);
    if (code != COULOMB_OK)
        return;
    assert_int_equal(got, type);
    assert_string_equal(text, want);
    assert_int_equal(len, strlen(want));
}

static void json_is_read_by_pointer(void **state)
{
    static const char doc[] =
        "{\"a\": {\"b\": [1, \"x\\n\\u00e4\", {\"c\": null}]}, \"e/f\": true, "
        "\"~\": 1.50, \"\": \"plain\"}";
    coulomb_value text = coulomb_text("{}");
    coulomb_type type;

    (void)state;
    json_at(doc, "/a/b/0", COULOMB_OK, COULOMB_NUMERIC, "1");
    json_at(doc, "/a/b/1", COULOMB_OK, COULOMB_TEXT, "x\n\303\244");
    json_at(doc, "/a/b/2", COULOMB_OK, COULOMB_JSON, "{\"c\": null}");
    json_at(doc, "/a/b/2/c", COULOMB_OK, COULOMB_NULL, "");
    json_at(doc, "/a/b/3", COULOMB_OK, COULOMB_ABSENT, "");
    json_at(doc, "/a/b/-", COULOMB_OK, COULOMB_ABSENT, "");
    json_at(doc, "/a/b/01", COULOMB_OK, COULOMB_ABSENT, "");
    json_at(doc, "/a/b/x", COULOMB_OK, COULOMB_ABSENT, "");
    json_at(doc, "/a/b/0/c", COULOMB_OK, COULOMB_ABSENT, "");
    json_at(doc, "/a/z", COULOMB_OK, COULOMB_ABSENT, "");
    json_at(doc, "/e~1f", COULOMB_OK, COULOMB_BOOL, "t");
    json_at(doc, "/~0", COULOMB_OK, COULOMB_NUMERIC, "1.50");
    json_at(doc, "/", COULOMB_OK, COULOMB_TEXT, "plain");
    json_at("[[1], [2]]", "/1", COULOMB_OK, COULOMB_JSON, "[2]");
    json_at("[[1], [2]]", "", COULOMB_OK, COULOMB_JSON, "[[1], [2]]");
    json_at("7", "", COULOMB_OK, COULOMB_NUMERIC, "7");
    json_at("7", "/a", COULOMB_OK, COULOMB_ABSENT, "");
    json_at(doc, "a", COULOMB_E_PATH, COULOMB_ABSENT, "");
    json_at(doc, "/~2", COULOMB_E_PATH, COULOMB_ABSENT, "");
    json_at(doc, "/~", COULOMB_E_PATH, COULOMB_ABSENT, "");
    json_at("{\"a\": ", "/a", COULOMB_E_INVALID_TEXT, COULOMB_ABSENT, "");
    json_at("", "", COULOMB_E_INVALID_TEXT, COULOMB_ABSENT, "");
    assert_int_equal(coulomb_json_get(&text, "", &type, NULL, 0, NULL), COULOMB_E_TYPE);
}

enum { MANY = 100 };

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* Lists of every length up to a hundred, sorted and reversed. */
static int many(coulomb_draft *d)
{
    coulomb_value items[MANY];
    int64_t numbers[MANY];

    for (size_t n = 1; n <= MANY; n++) {
        const coulomb_array *a;
        size_t before = n > 1 ? n - 1 : 0;

        for (size_t i = 0; i < n; i++) {
            numbers[i] = (int64_t)((i * 37 + n * 11) % 23);
            items[i] = coulomb_int(numbers[i]);
        }
        OK(coulomb_draft_array_splice(d, "ai", 0, before, items, n));
        OK(coulomb_draft_array_sort(d, "ai"));
        qsort(numbers, n, sizeof(numbers[0]), by_number);
        a = coulomb_draft_get(d, "ai").v.array;
        assert_int_equal(a->count, n);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(a->items[i].v.i, numbers[i]);
        OK(coulomb_draft_array_reverse(d, "ai"));
        a = coulomb_draft_get(d, "ai").v.array;
        for (size_t i = 0; i < n; i++)
            assert_int_equal(a->items[i].v.i, numbers[n - 1 - i]);
    }
    return coulomb_draft_unset(d, "ai");
}

static void g4_long_lists(void **state)
{
    (void)state;
    edit_row(many, 0, "ai", "");
}

static int members(coulomb_draft *d)
{
    OK(coulomb_draft_json_unset(d, "j", "/p/q"));
    OK(coulomb_draft_json_unset(d, "j", "/list/0"));
    assert_int_equal(coulomb_draft_json_unset(d, "j", "/p/q"), COULOMB_E_PATH);
    return 0;
}

static void g5_members_are_added_and_removed(void **state)
{
    (void)state;
    edit_row(members, 1, "j", "{\"p\": {}, \"a/b\": true, \"list\": [2]}");
}

static int atomic(coulomb_draft *d)
{
    OK(coulomb_draft_set(d, "b", coulomb_bytes("\0\1", 2)));
    OK(coulomb_draft_set(d, "tz", coulomb_moment(COULOMB_TIMESTAMPTZ, 5)));
    OK(coulomb_draft_set(d, "iv", coulomb_interval(1, 2, 3)));
    return coulomb_draft_set(d, "n", coulomb_int(12));
}

static void g6_the_rest_is_of_one_piece(void **state)
{
    (void)state;
    edit_row(atomic, 4, "n", "12");
}

static int removed(coulomb_draft *d)
{
    OK(coulomb_draft_unset(d, "t"));
    OK(coulomb_draft_set(d, "a", coulomb_null()));
    return 0;
}

static void g7_unset_is_a_change(void **state)
{
    (void)state;
    edit_row(removed, 2, "t", "");
}

static int several(coulomb_draft *d, size_t index, void *arg)
{
    (void)arg;
    return coulomb_draft_set(d, "t", coulomb_text(index == 0 ? "first" : "second"));
}

static void g8_drafts_are_independent(void **state)
{
    coulomb_collection *coll;
    struct world *w = typed_world(&coll);
    coulomb_field ids[2] = {{"id", coulomb_int(1)}, {"id", coulomb_int(2)}};
    coulomb_item items[2] = {{&ids[0], 1}, {&ids[1], 1}};
    coulomb_key keys[2] = {coulomb_key_int(1), coulomb_key_int(2)};

    (void)state;
    OK(coulomb_insert_many(coll, items, 2, NULL, NULL));
    OK(coulomb_update_many(coll, keys, 2, several, NULL, NULL, NULL));
    assert_memory_equal(coulomb_row_text(coulomb_get(coll, keys[0]), "t").ptr, "first",
                        5);
    assert_memory_equal(coulomb_row_text(coulomb_get(coll, keys[1]), "t").ptr, "second",
                        6);
    poll_all(w);
    coulomb_collection_release(coll);
    world_close(w);
}

/* A local collection's own handler that is answered only after the client was closed. */
static void an_answer_after_the_end_frees_what_waited(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);
    coulomb_collection *coll;
    coulomb_field id = {"id", coulomb_int(1)};

    (void)state;
    co.id = "local";
    OK(coulomb_local_new(w->c, &co, NULL, 0, &coll));
    OK(coulomb_insert(coll, &id, 1, NULL, NULL));
    poll_all(w);
    assert_int_equal(w->handled, 1);
    coulomb_collection_release(coll);
    world_close(w);
}

static void rows_outlive_their_client(void **state)
{
    struct world *w = world_open();
    struct test_heap *heap = &w->heap;
    const coulomb_row *row;

    (void)state;
    synced(w, 1, 7);
    row = coulomb_row_retain(coulomb_get(w->coll, coulomb_key_int(1)));
    coulomb_sync_release(w->sync);
    coulomb_collection_release(w->coll);
    coulomb_client_close(w->c);
    assert_int_equal(coulomb_row_int(row, "qty", 0), 7);
    assert_int_equal(coulomb_row_key(row).i, 1);
    coulomb_row_release(row);
    assert_int_equal(heap->live, 0);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_goes_in_and_out),
        cmocka_unit_test(text_that_is_too_long_is_cut),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(values_are_in_one_order),
        cmocka_unit_test(g1_the_same_value_is_no_change),
        cmocka_unit_test(g2_deep_changes_are_of_the_column),
        cmocka_unit_test(g3_setting_back_is_no_change),
        cmocka_unit_test(g4_lists),
        cmocka_unit_test(g4_a_list_as_before_is_no_change),
        cmocka_unit_test(g4_lists_of_lists),
        cmocka_unit_test(g4_long_lists),
        cmocka_unit_test(json_is_read_by_pointer),
        cmocka_unit_test(g5_members_are_added_and_removed),
        cmocka_unit_test(g6_the_rest_is_of_one_piece),
        cmocka_unit_test(g7_unset_is_a_change),
        cmocka_unit_test(g8_drafts_are_independent),
        cmocka_unit_test(an_answer_after_the_end_frees_what_waited),
        cmocka_unit_test(rows_outlive_their_client),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
