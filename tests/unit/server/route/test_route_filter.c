/* What each kind of clause finds; equal filters are one; what the stream lacks; failed
 * allocations leave the index as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/alloc_faults.h"

#include "server/route/filter.c" // NOLINT(bugprone-suspicious-include)
#include "server/route/group.c"  // NOLINT(bugprone-suspicious-include)
#include "server/route/range.c"  // NOLINT(bugprone-suspicious-include)
#include "server/route/table.c"  // NOLINT(bugprone-suspicious-include)

#include "clauses.h"

static int set_up(void **state)
{
    (void)state;
    relation_set_up();
    return 0;
}

static int filter_of(struct route *r, const char *text, struct route_filter **out,
                     struct err *err)
{
    struct arena arena;
    const struct sql_expr *expr;
    arena_init(&arena, (size_t)16 << 20);
    if (sql_where_parse(slice_of(text), &table, NULL, &arena, &expr, err) < 0)
        fail_msg("%s: %s", text, err->message);
    int rc = route_filter_get(r, OID, expr, &table, out, err);
    arena_fini(&arena);
    return rc;
}

static void row_of(struct value *row, size_t column, const char *text)
{
    row[0] = (struct value){"zz", 2, VALUE_TEXT};
    for (size_t i = 0; i < COLUMNS; i++)
        row[in_stream(i)] = (struct value){.kind = VALUE_NULL};
    if (text != NULL)
        row[in_stream(column)] = (struct value){text, (uint32_t)strlen(text), VALUE_TEXT};
}

/* --- Each kind --- */

struct sample {
    const char *clause;
    size_t column;
    const char *in[4]; /* values of the column that satisfy it, all others NULL */
    const char *out[4];
    bool null_in;
};

static const struct sample samples[] = {
    {"a = 3", A, {"3"}, {"4", "-3"}, false},
    {"3 = a", A, {"3"}, {"4"}, false},
    {"a IN (1, 2, 2147483647)", A, {"1", "2", "2147483647"}, {"0"}, false},
    {"n = 3", N, {"3"}, {"4"}, false},
    {"a = ANY('{5,6}')", A, {"5", "6"}, {"7"}, false},
    {"t = 'ab'", T, {"ab"}, {"abc", "", "AB"}, false},
    {"t = ''", T, {""}, {"a"}, false},
    {"u = '11111111-1111-1111-1111-111111111111'",
     U,
     {"11111111-1111-1111-1111-111111111111"},
     {"11111111-1111-1111-1111-111111111112"},
     false},
    {"f = 0", F, {"0", "-0"}, {"NaN", "1"}, false},
    {"f = 'NaN'", F, {"NaN"}, {"0", "Infinity"}, false},
    {"q = 1", Q, {"1", "1.00"}, {"2", "NaN"}, false},
    {"d = '2024-01-01'", D, {"2024-01-01"}, {"2024-01-02", "infinity"}, false},
    {"b", B, {"t"}, {"f"}, false},
    {"NOT b", B, {"f"}, {"t"}, false},
    {"b IS NOT TRUE", B, {"f"}, {"t"}, true},
    {"t IS NULL", T, {NULL}, {"", "a"}, true},
    {"tags IS NULL", TAGS, {NULL}, {"{}"}, true},
    {"a > 3", A, {"4", "2147483647"}, {"3", "-1"}, false},
    {"a <= 3", A, {"3", "-1"}, {"4"}, false},
    {"a BETWEEN 3 AND 5", A, {"3", "4", "5"}, {"2", "6"}, false},
    {"a > 3 AND a < 5", A, {"4"}, {"3", "5"}, false},
    {"a > 5 AND a < 3", A, {NULL}, {"3", "4", "5"}, false},
    {"q BETWEEN 1.5 AND 2.5", Q, {"1.5", "2", "2.50"}, {"1.49", "NaN"}, false},
    {"d >= '2024-01-02'", D, {"2024-01-02", "infinity"}, {"2024-01-01"}, false},
    {"t LIKE 'ab%'", T, {"ab", "abc"}, {"a", "b", "Ab"}, false},
    {"t LIKE 'ab%d'", T, {"abd", "abccd"}, {"abc", "ab"}, false},
    {"t LIKE 'a\\%%'", T, {"a%", "a%b"}, {"ab"}, false},
    {"tags @> '{red}'", TAGS, {"{red}", "{blue,red,red}"}, {"{}", "{blue}"}, false},
    {"tags @> '{red,blue}'", TAGS, {"{blue,red}"}, {"{red}", "{blue}"}, false},
    {"'{red}' <@ tags", TAGS, {"{red}"}, {"{}"}, false},
    {"tags @> '{}'", TAGS, {"{}", "{red}"}, {NULL}, false},
    {"2 = ANY(nums)", NUMS, {"{1,2}", "{{3,4},{1,2}}"}, {"{}", "{NULL}"}, false},
    {"t ILIKE '%B%'", T, {"abc", "B"}, {"ac"}, false},
    {"a = 3 AND n IS NULL", A, {"3"}, {"4"}, false},
    {"a = 3 OR t = 'x'", A, {"3"}, {"4"}, false},
    {"a IN (1, 2) AND a % 2 = 0", A, {"2"}, {"1", "4"}, false},
    {"(a = 1 OR a = 3) AND (a = 3 OR a = 4)", A, {"3"}, {"1", "4"}, false},
    {"a = 3 OR a % 2 = 0", A, {"3", "4"}, {"1"}, false},
    {"true", A, {"1", "2"}, {NULL}, true},
    {"false", A, {NULL}, {"1"}, false},
};

static size_t hits_of(struct route *r, const struct value *old, const struct value *row,
                      const struct route_hit **hits)
{
    struct txn_change change = {.op = TXN_UPDATE, .relation = &relation};
    size_t count;
    change.old = old;
    change.row = row;
    assert_int_equal(route_match(r, &change, hits, &count), 0);
    return count;
}

static void check_value(struct route *r, const struct sample *s, const char *text,
                        bool in)
{
    struct value row[COLUMNS + 1];
    struct value none[COLUMNS + 1];
    const struct route_hit *hits;
    row_of(row, s->column, text);
    row_of(none, s->column, NULL);
    size_t count = hits_of(r, none, row, &hits);
    if (count != (size_t)(in || s->null_in))
        fail_msg("%s: '%s' has %zu hits", s->clause, text == NULL ? "NULL" : text, count);
    if (count == 1) {
        assert_null(hits[0].failed);
        assert_int_equal(hits[0].new_in, in);
        assert_int_equal(hits[0].old_in, s->null_in);
    }
}

static void each_kind_finds_its_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        const struct sample *s = &samples[i];
        struct route *r = route_new();
        struct err err = {0};
        struct route_entry entry = {.oid = OID};
        assert_int_equal(filter_of(r, s->clause, &entry.filter, &err), 0);
        assert_int_equal(route_add(r, &entry), 0);
        for (size_t j = 0; j < 4 && s->in[j] != NULL; j++)
            check_value(r, s, s->in[j], true);
        for (size_t j = 0; j < 4 && s->out[j] != NULL; j++)
            check_value(r, s, s->out[j], false);
        check_value(r, s, NULL, s->null_in);
        route_remove(r, &entry);
        route_filter_release(r, entry.filter);
        route_free(r);
    }
}

/* --- One filter, many entries --- */

static void equal_filters_are_one(void **state)
{
    (void)state;
    struct route *r = route_new();
    struct err err = {0};
    struct route_entry entries[3] = {{.oid = OID}, {.oid = OID}, {.oid = OID}};
    struct value row[COLUMNS + 1];
    const struct route_hit *hits;
    assert_int_equal(filter_of(r, "a = 3 OR t = 'x'", &entries[0].filter, &err), 0);
    assert_int_equal(filter_of(r, "('x' = t) OR (3 = a)", &entries[1].filter, &err), 0);
    assert_ptr_equal(entries[0].filter, entries[1].filter);
    for (int i = 0; i < 3; i++)
        assert_int_equal(route_add(r, &entries[i]), 0);
    row_of(row, A, "3");
    assert_int_equal(hits_of(r, NULL, row, &hits), 3);
    route_remove(r, &entries[0]);
    route_filter_release(r, entries[0].filter);
    assert_int_equal(hits_of(r, row, row, &hits), 2);
    route_remove(r, &entries[1]);
    route_filter_release(r, entries[1].filter);
    assert_int_equal(hits_of(r, row, NULL, &hits), 1);
    assert_ptr_equal(hits[0].entry, &entries[2]);
    assert_true(hits[0].old_in && !hits[0].new_in);
    route_remove(r, &entries[2]);
    route_free(r);
}

/* --- What can't be decided --- */

static void check_failure(struct route *r, size_t column, const char *text,
                          const char *reason)
{
    struct value row[COLUMNS + 1];
    const struct route_hit *hits;
    row_of(row, column, text);
    assert_int_equal(hits_of(r, NULL, row, &hits), reason == NULL ? 0 : 1);
    if (reason == NULL)
        return;
    assert_non_null(hits[0].failed);
    assert_non_null(strstr(hits[0].failed->message, reason));
}

static void an_error_is_reported_with_its_reason(void **state)
{
    (void)state;
    struct route *r = route_new();
    struct err err = {0};
    struct route_entry entry = {.oid = OID};
    assert_int_equal(filter_of(r, "t IS NULL AND 10 / a = 5", &entry.filter, &err), 0);
    assert_int_equal(route_add(r, &entry), 0);
    check_failure(r, A, "0", "division by zero");
    check_failure(r, A, "3", NULL);
    check_failure(r, A, "three", "three"); /* not what the stream should carry */
    route_remove(r, &entry);
    route_filter_release(r, entry.filter);
    assert_int_equal(filter_of(r, "a = 3", &entry.filter, &err), 0);
    assert_int_equal(route_add(r, &entry), 0);
    check_failure(r, A, "three", "three");
    route_remove(r, &entry);
    route_filter_release(r, entry.filter);
    route_free(r);
}

static void a_column_that_the_stream_lacks_is_a_failure(void **state)
{
    (void)state;
    struct route *r = route_new();
    struct err err = {0};
    struct route_entry entry = {.oid = OID};
    struct slice name = relation.columns[in_stream(N)].name;
    assert_int_equal(filter_of(r, "a = 3 AND n = 1", &entry.filter, &err), 0);
    assert_int_equal(route_add(r, &entry), 0);
    check_failure(r, A, "3", NULL);
    relation.columns[in_stream(N)].name = SLICE_LIT("renamed");
    route_relation_changed(r, OID);
    check_failure(r, A, "4", "column n");
    relation.columns[in_stream(N)].name = name;
    route_relation_changed(r, OID);
    check_failure(r, A, "3", NULL);
    route_remove(r, &entry);
    route_filter_release(r, entry.filter);
    route_free(r);
}

/* --- Memory --- */

static void failed_allocations_leave_the_index_as_it_was(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        struct route *r = route_new();
        struct err err = {0};
        struct route_entry entry = {.oid = OID};
        struct route_filter *other;
        int rc = -1;
        assert_int_equal(filter_of(r, "a = 3 OR q < 7", &other, &err), 0);
        for (size_t n = 1; rc < 0; n++) {
            assert_true(n < 100);
            alloc_fail_nth(n);
            rc = filter_of(r, samples[i].clause, &entry.filter, &err);
            alloc_fail_nth(0);
            assert_true(rc == 0 || rc == ERR_MEMORY);
            assert_true(rc == 0 || entry.filter == NULL);
        }
        assert_int_equal(route_add(r, &entry), 0);
        for (size_t j = 0; j < 4 && samples[i].in[j] != NULL; j++)
            check_value(r, &samples[i], samples[i].in[j], true);
        route_remove(r, &entry);
        route_filter_release(r, entry.filter);
        route_filter_release(r, other);
        route_free(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_finds_its_rows),
        cmocka_unit_test(equal_filters_are_one),
        cmocka_unit_test(an_error_is_reported_with_its_reason),
        cmocka_unit_test(a_column_that_the_stream_lacks_is_a_failure),
        cmocka_unit_test(failed_allocations_leave_the_index_as_it_was),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
