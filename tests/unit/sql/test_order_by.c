/* ORDER BY lists: what they print as, what is refused and where. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sql/expr.h"

#define ARENA_MAX ((size_t)64 << 20)
#define PLAIN(base_)                                                                     \
    {                                                                                    \
        .base = (base_), .typmod = -1                                                    \
    }

enum { ID, N, V, IP, WEIRD, SECRET, COLUMNS };

static const struct sql_column columns[] = {
    [ID] = {.name = {"id", 2}, .type = PLAIN(SQL_INT4)},
    [N] = {.name = {"n", 1}, .type = PLAIN(SQL_INT8)},
    [V] = {.name = {"v", 1}, .type = PLAIN(SQL_TEXT)},
    [IP] = {.name = {"ip", 2}, .type = PLAIN(SQL_OTHER), .type_name = {"inet", 4}},
    [WEIRD] = {.name = {"We\"ird \xc3\xbc", 9}, .type = PLAIN(SQL_INT4)},
    [SECRET] = {.name = {"secret", 6}, .type = PLAIN(SQL_INT4), .hidden = true}};
static const struct sql_table table = {
    .columns = columns, .count = COLUMNS, .collation = SQL_COLLATION_DETERMINISTIC};
static const uint16_t selected[] = {ID, V, WEIRD};

static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, ARENA_MAX);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static int parse(struct slice text, struct sql_order *order, struct err *err)
{
    return sql_order_parse(text, &table, selected, 3, &arena, order, err);
}

static const char *printed(const struct sql_order *order)
{
    struct buf out;
    const char *copy;

    buf_init(&out, ARENA_MAX);
    sql_order_print(order, &table, &out);
    assert_int_equal(out.failed, 0);
    copy = arena_dup(&arena, buf_slice(&out));
    buf_fini(&out);
    assert_non_null(copy);
    return copy;
}

static void prints(const char *text, const char *expected)
{
    struct sql_order order;
    struct err err = {0};

    if (parse(slice_of(text), &order, &err) != 0)
        fail_msg("%s: %s", text, err.message);
    if (strcmp(printed(&order), expected) != 0)
        fail_msg("%s: %s instead of %s", text, printed(&order), expected);
}

static void refuses(const char *text, const char *message)
{
    struct sql_order order;
    struct err err = {0};

    if (parse(slice_of(text), &order, &err) == 0)
        fail_msg("%s was accepted as %s", text, printed(&order));
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(order.count, 0);
    if (strcmp(err.message, message) != 0)
        fail_msg("%s: \"%s\" instead of \"%s\"", text, err.message, message);
    assert_int_equal(parse(slice_of(text), &order, NULL), ERR_INVALID);
}

/* ---- what is taken ---- */

static void columns_have_all_written_out(void **state)
{
    (void)state;
    prints("n", "\"n\" ASC NULLS LAST");
    prints("N ASC", "\"n\" ASC NULLS LAST");
    prints("  n DESC  ", "\"n\" DESC NULLS FIRST");
    prints("n desc nulls last", "\"n\" DESC NULLS LAST");
    prints("n NULLS FIRST", "\"n\" ASC NULLS FIRST");
    prints("(n)", "\"n\" ASC NULLS LAST");
    prints("v /* a comment */, \"id\" DESC -- and one more",
           "\"v\" ASC NULLS LAST, \"id\" DESC NULLS FIRST");
    prints("\"We\"\"ird \xc3\xbc\"", "\"We\"\"ird \xc3\xbc\" ASC NULLS LAST");
    prints("ip", "\"ip\" ASC NULLS LAST");
    prints("n;", "\"n\" ASC NULLS LAST");
}

static void using_is_a_direction(void **state)
{
    (void)state;
    prints("n USING <", "\"n\" ASC NULLS LAST");
    prints("n USING >", "\"n\" DESC NULLS FIRST");
    prints("n USING > NULLS LAST", "\"n\" DESC NULLS LAST");
    prints("n USING OPERATOR(pg_catalog.<)", "\"n\" ASC NULLS LAST");
    refuses("n USING <=", "At location 26: operator <= is not a valid ordering operator");
    refuses("id, n USING OPERATOR(public.<)",
            "At location 30: operator  is not a valid ordering operator");
}

static void positions_are_of_what_is_selected(void **state)
{
    (void)state;
    prints("1", "\"id\" ASC NULLS LAST");
    prints("2 DESC, 3", "\"v\" DESC NULLS FIRST, \"We\"\"ird \xc3\xbc\" ASC NULLS LAST");
    refuses("4", "At location 18: ORDER BY position 4 is not in select list");
    refuses("0", "At location 18: ORDER BY position 0 is not in select list");
    refuses("n, -1", "At location 21: ORDER BY position -1 is not in select list");
}

static void what_is_there_again_decides_nothing(void **state)
{
    (void)state;
    prints("n, n DESC, 1, id", "\"n\" ASC NULLS LAST, \"id\" ASC NULLS LAST");
}

/* ---- what is refused ---- */

static void other_constants(void **state)
{
    (void)state;
    refuses("'x'", "At location 18: non-integer constant in ORDER BY");
    refuses("n, NULL", "At location 21: non-integer constant in ORDER BY");
    refuses("true", "At location 18: non-integer constant in ORDER BY");
    refuses("1.5", "At location 18: non-integer constant in ORDER BY");
    refuses("99999999999", "At location 18: non-integer constant in ORDER BY");
}

static void unknown_and_hidden_columns(void **state)
{
    (void)state;
    refuses("nope", "At location 18: unknown reference nope");
    refuses("secret", "At location 18: unknown reference secret");
    refuses("n, t.n", "At location 21: unknown reference t.n");
    refuses("*", "At location 18: syntax error at or near \"*\"");
}

static void expressions(void **state)
{
    (void)state;
#define NO(node) node " expressions are not allowed in ORDER BY clauses"
    refuses("n + 1", "At location 20: " NO("A_Expr"));
    refuses("lower(v)", "At location 18: " NO("FuncCall"));
    refuses("random()", "At location 18: " NO("FuncCall"));
    refuses("(select 1)", "At location 18: " NO("SubLink"));
    refuses("n::text", "At location 21: " NO("TypeName"));
    refuses("lower(v)::text::name", "At location 18: " NO("FuncCall"));
    refuses("case when n=1 then 1 else 2 end", "At location 18: " NO("CaseExpr"));
    refuses("n COLLATE \"C\"", "At location 20: " NO("CollateClause"));
    refuses("n, v IS NULL", "At location 23: " NO("NullTest"));
    refuses("\"We\"\"ird \xc3\xbc\", not n", "At location 31: " NO("BoolExpr"));
    refuses("current_user", "At location 18: " NO("SQLValueFunction"));
    refuses("$1", "At location 18: parameter $1 is not supported in ORDER BY clauses");
#undef NO
}

static void other_clauses(void **state)
{
    (void)state;
    refuses("n; drop table t", "Unexpected `;` in order by");
    refuses("n LIMIT 1", "malformed query ending with SQL clauses");
    refuses("n OFFSET 1", "malformed query ending with SQL clauses");
    refuses("n FOR UPDATE", "malformed query ending with SQL clauses");
    refuses("n FETCH FIRST 1 ROW ONLY", "malformed query ending with SQL clauses");
    refuses("v,", "At location 20: syntax error at end of input");
    refuses("n UNION SELECT 1", "At location 20: syntax error at or near \"UNION\"");
    refuses("", "At location 18: syntax error at end of input");
    refuses(";", "At location 18: syntax error at or near \";\"");
    refuses("n) --", "At location 19: syntax error at or near \")\"");
    refuses("'", "At location 18: unterminated quoted string at or near \"'\"");
}

/* ---- hostile texts ---- */

static void refuses_repeated(const char *head, const char *piece, const char *tail)
{
    struct buf text;
    struct sql_order order;
    struct err err = {0};

    buf_init(&text, SQL_WHERE_MAX_BYTES);
    buf_puts(&text, head);
    while (text.len + strlen(piece) + strlen(tail) <= SQL_WHERE_MAX_BYTES)
        buf_puts(&text, piece);
    buf_puts(&text, tail);
    assert_int_equal(text.failed, 0);
    if (parse(buf_slice(&text), &order, &err) != ERR_INVALID)
        fail_msg("%s…: %s", piece, err.message);
    buf_fini(&text);
}

static void hostile_texts(void **state)
{
    (void)state;
    refuses_repeated("", "1+", "1");
    refuses_repeated("", "NOT ", "n");
    refuses_repeated("", "(", "");
    refuses_repeated("n", "::text", "");
    refuses_repeated("", "CASE WHEN ", "");
    refuses_repeated("n", ",n", ",");
    refuses_repeated("", "'", "");
}

static void long_lists_are_read(void **state)
{
    struct buf text;
    struct sql_order order;

    (void)state;
    buf_init(&text, SQL_WHERE_MAX_BYTES);
    buf_puts(&text, "v");
    while (text.len + 2 <= SQL_WHERE_MAX_BYTES)
        buf_puts(&text, ",n");
    assert_int_equal(parse(buf_slice(&text), &order, NULL), 0);
    assert_int_equal(order.count, 2);
    buf_fini(&text);
}

static void bytes_that_are_no_text(void **state)
{
    static char big[SQL_WHERE_MAX_BYTES + 1];
    struct sql_order order;
    struct err err = {0};

    (void)state;
    memset(big, 'n', sizeof(big));
    assert_int_equal(parse(slice_make(big, sizeof(big)), &order, &err), ERR_INVALID);
    assert_non_null(strstr(err.message, "bigger than maximum size"));
    assert_int_equal(parse(slice_make("n\0", 2), &order, &err), ERR_INVALID);
    assert_int_equal(parse(slice_make("\"\xff\"", 3), &order, &err), ERR_INVALID);
}

static void without_memory(void **state)
{
    struct arena small;
    struct sql_order order;

    (void)state;
    for (size_t max = 0; max < 400; max += 16) {
        arena_init(&small, max);
        int rc = sql_order_parse(slice_of("n, v DESC"), &table, selected, 3, &small,
                                 &order, NULL);
        assert_true(rc == 0 || rc == ERR_MEMORY);
        arena_fini(&small);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(columns_have_all_written_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(using_is_a_direction, set_up, tear_down),
        cmocka_unit_test_setup_teardown(positions_are_of_what_is_selected, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_there_again_decides_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(other_constants, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unknown_and_hidden_columns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(expressions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_clauses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hostile_texts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_lists_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bytes_that_are_no_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_memory, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
