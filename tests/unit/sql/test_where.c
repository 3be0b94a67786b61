/* Where-clauses without a database: what is refused and where, which clauses are the same, three-
 * valued logic, what an index gets to see, and hostile texts. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "sql/expr.h"

#define ARENA_MAX ((size_t)64 << 20)
#define PLAIN(base_)                                                                     \
    {                                                                                    \
        .base = (base_), .typmod = -1                                                    \
    }

static const struct slice moods[] = {{"sad", 3}, {"ok", 2}};
static const struct sql_enum mood = {.oid = 90001,
                                     .schema = {"public", 6},
                                     .name = {"mood", 4},
                                     .labels = moods,
                                     .label_count = 2};

enum { ID, N, TITLE, TC, B, F, B2, MOOD, IP, WEIRD, SECRET, COLUMNS };

static const struct sql_column columns[] = {
    [ID] = {.name = {"id", 2}, .type = PLAIN(SQL_INT4)},
    [N] = {.name = {"n", 1}, .type = PLAIN(SQL_INT8)},
    [TITLE] = {.name = {"title", 5}, .type = PLAIN(SQL_TEXT), .collation_oid = 100},
    [TC] = {.name = {"tc", 2},
            .type = PLAIN(SQL_VARCHAR),
            .collation = SQL_COLLATION_C,
            .collation_oid = 950},
    [B] = {.name = {"b", 1}, .type = PLAIN(SQL_BOOL)},
    [F] = {.name = {"f", 1}, .type = PLAIN(SQL_FLOAT8)},
    [B2] = {.name = {"b2", 2}, .type = PLAIN(SQL_BOOL)},
    [MOOD] = {.name = {"m", 1},
              .type = {.base = SQL_ENUM, .oid = 90001, .typmod = -1},
              .enumeration = &mood},
    [IP] = {.name = {"ip", 2},
            .type = {.base = SQL_OTHER, .oid = 869, .typmod = -1},
            .type_name = {"inet", 4}},
    [WEIRD] = {.name = {"We\"ird \xc3\xbc", 9}, .type = PLAIN(SQL_INT4)},
    [SECRET] = {.name = {"secret", 6}, .type = PLAIN(SQL_INT4), .hidden = true}};
static const struct sql_table table = {columns, COLUMNS, SQL_COLLATION_DETERMINISTIC,
                                       NULL};

/* ---- helpers ---- */

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

static const struct sql_expr *parse_with(const char *text, const char *const *params,
                                         size_t count)
{
    struct slice values[8];
    struct sql_params p = {values, count};
    const struct sql_expr *e;
    struct err err = {0};

    for (size_t i = 0; i < count; i++)
        values[i] = slice_of(params[i]);
    if (sql_where_parse(slice_of(text), &table, &p, &arena, &e, &err) != 0)
        fail_msg("%s: %s", text, err.message);
    return e;
}

static const struct sql_expr *parse(const char *text)
{
    return parse_with(text, NULL, 0);
}

static const char *printed(const struct sql_expr *e)
{
    struct buf out;
    const char *copy;

    buf_init(&out, ARENA_MAX);
    sql_expr_print(e, &table, &out);
    assert_int_equal(out.failed, 0);
    copy = arena_dup(&arena, buf_slice(&out));
    buf_fini(&out);
    assert_non_null(copy);
    return copy;
}

static void refuses(const char *text, const char *message)
{
    static const struct slice one = {"x", 1};
    const struct sql_params params = {&one, 1};
    const struct sql_expr *e;
    struct err err = {0};
    int rc = sql_where_parse(slice_of(text), &table, &params, &arena, &e, &err);

    if (rc == 0)
        fail_msg("%s was accepted as %s", text, printed(e));
    assert_true(rc == ERR_INVALID || rc == ERR_UNSUPPORTED);
    assert_null(e);
    if (strcmp(err.message, message) != 0)
        fail_msg("%s: \"%s\" instead of \"%s\"", text, err.message, message);
}

static void prints(const char *text, const char *expected)
{
    const char *first = printed(parse(text));

    if (strcmp(first, expected) != 0)
        fail_msg("%s: %s instead of %s", text, first, expected);
    assert_string_equal(printed(parse(first)), first);
}

static void same(const char *a, const char *b)
{
    const char *x = printed(parse(a));
    const char *y = printed(parse(b));

    if (strcmp(x, y) != 0)
        fail_msg("%s: %s\n%s: %s", a, x, b, y);
}

static void differ(const char *a, const char *b)
{
    assert_string_not_equal(printed(parse(a)), printed(parse(b)));
}

/* ---- what is refused ---- */

static void grammar_errors_count_from_the_wrapped_text(void **state)
{
    (void)state;
    refuses("id =", "At location 19: syntax error at end of input");
    refuses("id = 1, n = 2", "At location 21: syntax error at or near \",\"");
    refuses("(id = 1", "At location 22: syntax error at end of input");
    refuses("id = 'x", "At location 20: unterminated quoted string at or near \"'x\"");
    refuses("SELECT 1", "At location 15: syntax error at or near \"SELECT\"");
    refuses("id = 1 FROM t", "At location 22: syntax error at or near \"FROM\"");
    refuses("* = 1", "At location 15: syntax error at or near \"*\"");
    refuses("", "At location 15: syntax error at end of input");
    refuses("title = '\xc3\xbc' AND = 1",
            "At location 31: syntax error at or near \"=\"");
}

static void only_one_expression_is_taken(void **state)
{
    (void)state;
    refuses("id = 1; drop table x", "unescaped \";\" causing statement split");
    assert_string_equal(printed(parse("id = 1; ; ")), printed(parse("id = 1")));
    refuses("id = 1 ORDER BY id", "malformed query ending with SQL clauses");
    refuses("id = 1 GROUP BY id", "malformed query ending with SQL clauses");
    refuses("id = 1 LIMIT 1", "malformed query ending with SQL clauses");
    refuses("true UNION SELECT 2", "malformed query ending with SQL clauses");
    refuses("true FOR UPDATE", "malformed query ending with SQL clauses");
    same("id = 1 -- and more", "id = 1");
    same("id /* x */ = 1", "id = 1");
}

static void a_text_has_a_size_and_is_utf8(void **state)
{
    char *big = arena_alloc(&arena, SQL_WHERE_MAX_BYTES + 2);
    const struct sql_expr *e;
    struct err err;

    (void)state;
    assert_non_null(big);
    memset(big, ' ', SQL_WHERE_MAX_BYTES + 1);
    big[SQL_WHERE_MAX_BYTES + 1] = '\0';
    memcpy(big, "true", 4);
    assert_int_equal(sql_where_parse(slice_make(big, SQL_WHERE_MAX_BYTES), &table, NULL,
                                     &arena, &e, &err),
                     0);
    refuses(big, "the where-clause is bigger than maximum size (32768 bytes)");
    refuses("title = '\xff'", "a where-clause has to be UTF-8");
    assert_int_equal(
        sql_where_parse(slice_make("true\0 OR", 8), &table, NULL, &arena, &e, &err),
        ERR_INVALID);
    assert_string_equal(err.message, "a where-clause can't hold a NUL character");
}

static void references_are_to_columns_by_their_names(void **state)
{
    (void)state;
    refuses("nope = 1", "At location 0: unknown reference nope");
    refuses("\"ID\" = 1", "At location 0: unknown reference \"ID\"");
    refuses("public.v_items.id = 1",
            "At location 0: unknown reference public.v_items.id");
    refuses("ctid = '(0,1)'", "At location 0: unknown reference ctid");
    refuses("id = 1 AND '\xc3\xbc\xc3\xbc' = nope",
            "At location 18: unknown reference nope");
    refuses("secret = 1", "At location 0: unknown reference secret");
    same("ID = 1", "\"id\" = 1");
    prints("\"We\"\"ird \xc3\xbc\" = 1", "(\"We\"\"ird \xc3\xbc\" = '1'::integer)");
}

static void types_are_resolved_or_refused(void **state)
{
    (void)state;
    refuses("1", "WHERE clause must return a boolean");
    refuses("NULL", "WHERE clause must return a boolean");
    refuses("'x'", "WHERE clause must return a boolean");
    refuses("n + 1", "WHERE clause must return a boolean");
    refuses("id == 1", "At location 3: unknown binary operator \"==\"");
    refuses("id = 'test'", "At location 5: invalid syntax for type int4: test");
    refuses("id = $2", "At location 5: parameter $2 was not provided");
    refuses("id = $1", "At location 5: invalid syntax for type int4: x");
    refuses("id = title", "At location 3: Could not select an operator overload");
    refuses("title = 1", "At location 6: Could not select an operator overload");
    refuses("-title = 'a'", "At location 0: Could not select an operator overload");
    refuses("id::json = '1'", "At location 4: unsupported type json");
    refuses("now() > 'x'", "At location 0: unknown or unsupported function now/0");
    refuses("random() > 0.5", "At location 0: unknown or unsupported function random/0");
    refuses("count(*) > 1",
            "At location 0: aggregation is not supported in this context");
    refuses("id = ANY(1)", "At location 9: argument of ANY must be an array");
    refuses("id IS TRUE", "At location 0: argument of IS TRUE must be bool, not int4");
    refuses("lower(id) = '1'",
            "At location 0: Could not select a function overload for lower(int4)");
    refuses("id = B'101'", "At location 5: BitString values are not supported");
    refuses("current_date = '2024-01-01'",
            "At location 0: SQLValueFunction is not supported in this context");
    refuses("exists (select 1)", "At location 0: subqueries are not supported yet");
    refuses("id IN (select 1)", "At location 3: subqueries are not supported yet");
    refuses("m = 'bad'", "At location 4: invalid syntax for type enum mood: bad");
    refuses("ip = '1.1.1.1'", "At location 3: Could not select an operator overload");
    refuses("ip::text = 'x'", "At location 0: unknown cast from type inet to type text");
    refuses("row(id, n) < row(1, 2)",
            "At location 11: Could not select an operator overload");
    refuses("title = $1 AND m = $1",
            "At location 19: type conflict for $1: text and enum");
    refuses("1/0 = 1", "At location 1: Failed to apply function to constant arguments: "
                       "division by zero");
    refuses("title > 'a'", "At location 6: > depends on the collation, which is not "
                           "supported; say COLLATE \"C\" behind one of its operands");
    refuses("title COLLATE \"de\" > 'a'",
            "At location 6: of collations only \"C\" is supported in COLLATE");
}

/* ---- canonical form ---- */

static void the_type_of_else_comes_first(void **state)
{
    (void)state;
    prints(
        "title = CASE WHEN b THEN 'x'::text ELSE 'a '::bpchar END",
        "(\"title\" = ((CASE WHEN \"b\" THEN 'x'::bpchar ELSE 'a '::bpchar END))::text)");
}

/* A branch that can't be taken has a say in the collation, and so stays if it is the one. */
static void choices_keep_their_collation(void **state)
{
    (void)state;
    prints(
        "CASE WHEN NULL THEN tc ELSE title END < 'a'",
        "((CASE WHEN NULL::boolean THEN (\"tc\")::text ELSE \"title\" END) < 'a'::text)");
    prints("CASE WHEN NULL THEN title ELSE tc END < 'a'", "((\"tc\")::text < 'a'::text)");
    prints("coalesce('a', title) = tc", "((\"tc\")::text = 'a'::text)");
}

static void constant_names_are_printed_as_they_are_compared(void **state)
{
    (void)state;
    prints("coalesce('a'::bpchar::name, tc::name) = title", "(\"title\" = 'a'::name)");
    refuses(
        "'a'::name::text < title",
        "At location 16: < depends on the collation, which is not supported; say COLLATE "
        "\"C\" behind one of its operands");
    refuses(
        "'a'::text::name < title",
        "At location 16: < depends on the collation, which is not supported; say COLLATE "
        "\"C\" behind one of its operands");
}

/* As Postgres does before it looks at rows. */
static void constants_under_collate_are_computed(void **state)
{
    (void)state;
    prints("b OR 'a' COLLATE \"C\" = 'b'", "\"b\"");
    prints("title = ('a' COLLATE \"C\" || 'b')",
           "(\"title\" = ('ab'::text COLLATE \"C\"))");
    refuses(
        "b OR '100%' COLLATE \"C\" LIKE 'a' ESCAPE 'a'",
        "At location 24: Failed to apply function to constant arguments: LIKE pattern "
        "must not end with escape character");
}

/* What could be evaluated for no row is refused with the clause. */
static void hopeless_constants_are_refused(void **state)
{
    (void)state;
    refuses("title COLLATE \"C\" ~ '(a)\\1'",
            "At location 18: the regular expression \"(a)\\1\" is not supported here");
    refuses(
        "title::jsonb < '\"x\"'",
        "At location 13: < depends on the database's collation, which is not supported");
    refuses("extract(julian FROM date '2024-01-01' + id) = 1",
            "At location 0: the unit \"julian\" is not supported here");
    refuses("date_trunc('weeks', timestamp 'epoch' + id * interval '1 day') IS NULL",
            "At location 0: the unit \"weeks\" is not supported here");
}

static void constants_and_casts_are_written_out(void **state)
{
    (void)state;
    prints("id = 1", "(\"id\" = '1'::integer)");
    prints("1 < id", "(\"id\" > '1'::integer)");
    prints("n = 3000000000", "(\"n\" = '3000000000'::bigint)");
    prints("title = 'it''s'", "(\"title\" = 'it''s'::text)");
    prints("title = 'a\\b'", "(\"title\" = E'a\\\\b'::text)");
    prints("tc > 'a'", "((\"tc\")::text > 'a'::text)");
    prints("title > 'a' COLLATE \"C\"", "(\"title\" > ('a'::text COLLATE \"C\"))");
    prints("m = 'ok'", "(\"m\" = 'ok'::\"public\".\"mood\")");
    prints("f = 1", "(\"f\" = '1'::double precision)");
    prints("id + 1 + 1 = 3", "(((\"id\" + '1'::integer) + '1'::integer) = '3'::integer)");
    prints("id = 1 + 1", "(\"id\" = '2'::integer)");
    prints("lower(tc) = 'a'", "(pg_catalog.\"lower\"((\"tc\")::text) = 'a'::text)");
    prints("id BETWEEN 1 AND 2",
           "((\"id\" <= '2'::integer) AND (\"id\" >= '1'::integer))");
    prints("ip IS NOT NULL", "(NOT (\"ip\" IS NULL))");
    prints("id = NULL", "NULL::boolean");
    prints("b AND true", "\"b\"");
    prints("b AND false", "'f'::boolean");
}

static void labels_that_are_not_known_are_left_to_postgres(void **state)
{
    struct sql_enum open = mood;
    struct sql_column copy[COLUMNS];
    const struct sql_table with_open = {
        .columns = copy, .count = COLUMNS, .collation = SQL_COLLATION_DETERMINISTIC};
    const struct sql_expr *e;

    (void)state;
    open.any_label = true;
    memcpy(copy, columns, sizeof(copy));
    copy[MOOD].enumeration = &open;
    refuses("m = 'happy'", "At location 4: invalid syntax for type enum mood: happy");
    assert_int_equal(sql_where_parse(slice_of("m IN ('happy', 'ok') OR m = ANY('{new}')"),
                                     &with_open, NULL, &arena, &e, NULL),
                     0);
    assert_non_null(strstr(printed(e), "'happy'::\"public\".\"mood\""));
}

static void variants_are_the_same_clause(void **state)
{
    (void)state;
    same("id=1", "  ID  =  (1) ");
    same("id = 1 AND b", "b AND (id = 1)");
    same("id = 1 AND (b AND title = 'x')", "(title = 'x' AND b) AND 1 = id");
    same("id IN (3, 1, 2, 1)", "id IN (1, 2, 3)");
    same("id IN (1)", "id = 1");
    same("b OR id = 1 OR b", "id = 1 OR b");
    same("NOT NOT b", "b");
    same("id = '1'", "id = 1");
    same("id = '1'::int4", "id = CAST(1 AS integer)");
    same("id NOT BETWEEN 1 AND 2", "id < 1 OR id > 2");
    same("b IS UNKNOWN", "b IS NULL");
    same("id = n", "n = id");
    same("id + 1 < n", "n > id + 1");
    differ("id = 1", "id = 2");
    differ("id = 1", "n = 1");
    differ("b AND b2", "b OR b2");
    differ("id - n = 1", "n - id = 1");
}

static void parameters_are_literals(void **state)
{
    const char *const params[] = {"1", "it's"};

    (void)state;
    assert_string_equal(printed(parse_with("id = $1 AND title = $2", params, 2)),
                        printed(parse("title = 'it''s' AND id = 1")));
    assert_string_equal(printed(parse_with("$1::int4 = id AND id > $1", params, 1)),
                        printed(parse("id = 1 AND id > 1")));
}

static void guards_stay_in_front(void **state)
{
    (void)state;
    prints("10 / id > 1 AND id <> 0",
           "((\"id\" <> '0'::integer) AND (('10'::integer / \"id\") > '1'::integer))");
}

static void two_clauses_are_joined_as_trees(void **state)
{
    const struct sql_expr *both;

    (void)state;
    assert_int_equal(
        sql_expr_and(parse("b OR b2"), parse("id = 1 AND n = 2"), &arena, &both, NULL),
        0);
    assert_string_equal(printed(both), printed(parse("(b OR b2) AND id = 1 AND n = 2")));
}

/* ---- three-valued logic ---- */

struct cells {
    const char *text[COLUMNS];
    unsigned reads;
};

static bool get(void *ctx, size_t column, struct slice *text)
{
    struct cells *c = ctx;

    c->reads++;
    *text = slice_of(c->text[column]);
    return c->text[column] != NULL;
}

static enum sql_verdict verdict(const char *clause, struct cells *cells)
{
    struct sql_value values[COLUMNS];
    unsigned char states[COLUMNS];
    struct sql_row row = {&table, get, cells, &arena, values, states};
    struct sql_program *p;
    enum sql_verdict v;
    struct err err;

    assert_int_equal(sql_program_new(parse(clause), &table, &p, &err), 0);
    assert_true(sql_program_size(p) > 0);
    sql_row_begin(&row);
    v = sql_program_run(p, &row, &err);
    sql_program_free(p);
    return v;
}

static void logic_has_three_values(void **state)
{
    static const char *const texts[] = {"f", "t", NULL};
    static const enum sql_verdict and[3][3] = {{SQL_IS_FALSE, SQL_IS_FALSE, SQL_IS_FALSE},
                                               {SQL_IS_FALSE, SQL_IS_TRUE, SQL_IS_NULL},
                                               {SQL_IS_FALSE, SQL_IS_NULL, SQL_IS_NULL}};
    static const enum sql_verdict or [3][3] = {{SQL_IS_FALSE, SQL_IS_TRUE, SQL_IS_NULL},
                                               {SQL_IS_TRUE, SQL_IS_TRUE, SQL_IS_TRUE},
                                               {SQL_IS_NULL, SQL_IS_TRUE, SQL_IS_NULL}};
    static const enum sql_verdict not [] = {SQL_IS_TRUE, SQL_IS_FALSE, SQL_IS_NULL};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct cells one = {.text = {[B] = texts[i]}};

        assert_int_equal(verdict("NOT b", &one), not [i]);
        assert_int_equal(verdict("b IS TRUE", &one), i == 1);
        assert_int_equal(verdict("b IS NOT TRUE", &one), i != 1);
        assert_int_equal(verdict("b IS FALSE", &one), i == 0);
        assert_int_equal(verdict("b IS UNKNOWN", &one), i == 2);
        for (size_t k = 0; k < 3; k++) {
            struct cells two = {.text = {[B] = texts[i], [B2] = texts[k]}};

            assert_int_equal(verdict("b AND b2", &two), and[i][k]);
            assert_int_equal(verdict("b OR b2", &two), or [i][k]);
            assert_int_equal(verdict("b IS DISTINCT FROM b2", &two), i != k);
            assert_int_equal(verdict("CASE WHEN b THEN b2 ELSE b END", &two),
                             i == 1 ? or [k][k] : or [i][i]);
            assert_int_equal(verdict("coalesce(b, b2)", &two),
                             i == 2 ? or [k][k] : or [i][i]);
        }
    }
}

static void lists_know_null(void **state)
{
    struct cells one = {.text = {[ID] = "1"}};
    struct cells four = {.text = {[ID] = "4"}};
    struct cells null = {.text = {NULL}};

    (void)state;
    assert_int_equal(verdict("id IN (3, 2, 1, 7, 9)", &one), SQL_IS_TRUE);
    assert_int_equal(verdict("id IN (3, 2, 1, 7, 9)", &four), SQL_IS_FALSE);
    assert_int_equal(verdict("id IN (1, NULL, 2)", &four), SQL_IS_NULL);
    assert_int_equal(verdict("id NOT IN (1, NULL, 2)", &one), SQL_IS_FALSE);
    assert_int_equal(verdict("id IN (1, 2)", &null), SQL_IS_NULL);
}

static void a_failing_row_says_why_and_a_decided_one_does_not(void **state)
{
    struct cells zero = {.text = {[ID] = "0"}};
    struct sql_value values[COLUMNS];
    unsigned char states[COLUMNS];
    struct sql_row row = {&table, get, &zero, &arena, values, states};
    struct sql_program *p;
    struct err err = {0};

    (void)state;
    assert_int_equal(verdict("1 / id = 1 AND id <> 0", &zero), SQL_IS_FALSE);
    assert_int_equal(sql_program_new(parse("1 / id = 1"), &table, &p, &err), 0);
    sql_row_begin(&row);
    assert_int_equal(sql_program_run(p, &row, &err), SQL_IS_ERROR);
    assert_string_equal(err.message, "division by zero");
    sql_program_free(p);
}

static void a_column_is_read_once(void **state)
{
    struct cells one = {.text = {[ID] = "1"}};

    (void)state;
    assert_int_equal(verdict("id > 0 AND id < 5 AND id <> 3", &one), SQL_IS_TRUE);
    assert_int_equal(one.reads, 1);
}

/* ---- conditions for an index ---- */

static const struct sql_cond *cond(const char *clause)
{
    const struct sql_cond *c;

    assert_int_equal(sql_cond_make(parse(clause), &table, &arena, &c, NULL), 0);
    return c;
}

static void leaves_are_told_apart(void **state)
{
    const struct sql_cond *c = cond("5 = id");

    (void)state;
    assert_int_equal(c->kind, SQL_COND_IN);
    assert_int_equal(c->column, ID);
    assert_int_equal(c->values[0].i, 5);
    assert_true(c->exact);
    c = cond("n IN (3, 1, NULL)");
    assert_int_equal(c->kind, SQL_COND_IN);
    assert_int_equal(c->value_count, 2);
    assert_int_equal(c->type.base, SQL_INT8);
    c = cond("tc = 'a'");
    assert_int_equal(c->kind, SQL_COND_IN);
    assert_true(slice_eq(c->values[0].s, SLICE_LIT("a")));
    c = cond("ip IS NULL");
    assert_int_equal(c->kind, SQL_COND_NULL);
    assert_int_equal(c->column, IP);
    assert_int_equal(cond("b")->kind, SQL_COND_TRUE);
    assert_int_equal(cond("NOT b")->kind, SQL_COND_FALSE);
    assert_int_equal(cond("b IS TRUE")->kind, SQL_COND_TRUE);
    assert_int_equal(cond("b IS NOT TRUE")->kind, SQL_COND_OTHER);
    assert_int_equal(cond("id <> 1")->kind, SQL_COND_OTHER);
    assert_int_equal(cond("id + 1 = 2")->kind, SQL_COND_OTHER);
    assert_int_equal(cond("id = n")->kind, SQL_COND_OTHER);
    assert_int_equal(cond("true")->kind, SQL_COND_ALWAYS);
    assert_int_equal(cond("id = NULL")->kind, SQL_COND_NEVER);
}

static void ranges_and_prefixes_are_found(void **state)
{
    const struct sql_cond *c =
        cond("id BETWEEN 2 AND 7 AND id > 2 AND title LIKE 'a\\%b%'");

    (void)state;
    assert_int_equal(c->kind, SQL_COND_AND);
    assert_int_equal(c->child_count, 2);
    assert_false(c->exact);
    for (size_t i = 0; i < 2; i++) {
        const struct sql_cond *part = &c->children[i];

        if (part->kind == SQL_COND_RANGE) {
            assert_int_equal(part->low->i, 2);
            assert_true(part->low_open);
            assert_int_equal(part->high->i, 7);
            assert_false(part->high_open);
        } else {
            assert_int_equal(part->kind, SQL_COND_PREFIX);
            assert_true(slice_eq(part->values[0].s, SLICE_LIT("a%b")));
            assert_false(part->exact);
        }
    }
    c = cond("id = 1 OR n > 5 OR f = 2");
    assert_int_equal(c->kind, SQL_COND_OR);
    assert_int_equal(c->child_count, 3);
    assert_true(c->exact);
}

static void columns_are_listed(void **state)
{
    bool used[COLUMNS] = {false};

    (void)state;
    sql_expr_columns(parse("id = 1 OR coalesce(title, tc) = 'x'"), used);
    assert_true(used[ID] && used[TITLE] && used[TC]);
    assert_false(used[N] || used[B]);
}

/* ---- hostile texts ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_BYTES  ((size_t)8 << 20)
#define PARSE_MAX_MS 4000
#else
#define STACK_BYTES  ((size_t)1 << 20)
#define PARSE_MAX_MS 250
#endif

static double cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* As many of `unit` as fit, between. Measured: at most 80 ms. */
static void hostile_sized(size_t size, const char *before, const char *unit,
                          const char *middle, const char *after)
{
    size_t each = strlen(unit) + strlen(after);
    size_t count = (size - strlen(before) - strlen(middle)) / each;
    const struct sql_expr *e;
    struct buf text;
    struct err err = {0};
    double begun;
    int rc;

    for (size_t n = count; n > 0; n /= 7) {
        buf_init(&text, ARENA_MAX);
        buf_puts(&text, before);
        for (size_t i = 0; i < n; i++)
            buf_puts(&text, unit);
        buf_puts(&text, middle);
        for (size_t i = 0; i < n; i++)
            buf_puts(&text, after);
        arena_reset(&arena);
        begun = cpu_ms();
        rc = sql_where_parse(buf_slice(&text), &table, NULL, &arena, &e, &err);
        if (cpu_ms() - begun > PARSE_MAX_MS)
            fail_msg("%zu of %s: %.0f ms", n, unit, cpu_ms() - begun);
        if (rc == 0) {
            struct sql_program *p = NULL;

            if (sql_program_new(e, &table, &p, &err) == 0)
                sql_program_free(p);
        } else {
            if (err.code != ERR_INVALID && err.code != ERR_UNSUPPORTED)
                fail_msg("%s: %s", unit, err.message);
        }
        buf_fini(&text);
    }
}

static void hostile(const char *before, const char *unit, const char *middle,
                    const char *after)
{
    hostile_sized(SQL_WHERE_MAX_BYTES, before, unit, middle, after);
}

/* What the issue names: the text as it is, and with an end that makes it an expression. */
static void hostile_texts_are_refused(void **state)
{
    static const char *const units[] = {"1+",         "NOT ",     "(",
                                        "CASE WHEN ", "id=1 OR ", "title||"};

    (void)state;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        struct buf text;
        struct err err = {0};
        const struct sql_expr *e;

        buf_init(&text, ARENA_MAX);
        while (text.len + strlen(units[i]) <= SQL_WHERE_MAX_BYTES)
            buf_puts(&text, units[i]);
        assert_int_equal(
            sql_where_parse(buf_slice(&text), &table, NULL, &arena, &e, &err),
            ERR_INVALID);
        buf_fini(&text);
        hostile("", units[i], i == 5 ? "title" : "b", "");
    }
}

/* In each position of a clause: short texts don't need more than they may. */
static void *parse_deep_and_short(void *arg)
{
    static const char *const units[] = {
        "(", "NOT ", "- ", "1+", "1::int2::", "@-", "CASE WHEN ", "b[", "ARRAY[", "f("};

    (void)arg;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        hostile_sized(SQL_WHERE_SHORT_BYTES, "", units[i], "1", "");
        hostile_sized(SQL_WHERE_SHORT_BYTES, "", units[i], "b",
                      strchr(units[i], '(')   ? ")"
                      : strchr(units[i], '[') ? "]"
                                              : "");
    }
    hostile_sized(SQL_WHERE_SHORT_BYTES, "b", " IS NULL", "", "");
    hostile_sized(SQL_WHERE_SHORT_BYTES, "id", "::a", "", "");
    hostile_sized(SQL_WHERE_SHORT_BYTES, "", "(b=", "b", ")");
    hostile_sized(SQL_WHERE_SHORT_BYTES, "", "(SELECT ", "b", ")");
    return NULL;
}

static void short_texts_need_little_stack(void **state)
{
    pthread_attr_t attr;
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attr, parse_deep_and_short, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pthread_attr_destroy(&attr), 0);
}

static void hostile_texts_are_refused_or_work(void **state)
{
    (void)state;
    hostile("", "1+", "1 = 1", "");
    hostile("", "id+", "1 = 1", "");
    hostile("", "NOT ", "b", "");
    hostile("", "(", "", "");
    hostile("", "(", "b", ")");
    hostile("", "CASE WHEN ", "", "");
    hostile("", "CASE WHEN ", "b", " THEN b END");
    hostile("", "CASE ", "b", " WHEN b THEN b2 WHEN b2 THEN b END");
    hostile("", "id=1 OR ", "b", "");
    hostile("", "id=1 OR n=1 AND ", "b", "");
    hostile("", "(b OR b2 AND ", "b", ")");
    hostile("", "- ", "id = 1", "");
    hostile("id", "::int8", " = 1", "");
    hostile("b", " IS NULL", "", "");
    hostile("b", " IS DISTINCT FROM b", "", "");
    hostile("(id", "[1]", ") = 1", "");
    hostile("", "coalesce(", "b", ")");
    hostile("", "(", "id", " BETWEEN id AND id)::int4");
    hostile("id = ", "ARRAY[", "1", "]");
    hostile("id IN (", "1,", "2)", "");
    hostile("id IN (", "id,", "2)", "");
    hostile("id IN ", "(id IN ", "(1)", ")");
    hostile("title = ", "title||", "title", "");
    hostile("", "greatest(", "b", ",b)");
    hostile("", "a.", "b", "");
    hostile("title = 'x'", " COLLATE \"C\"", "", "");
    hostile("id = ANY(ARRAY[", "id,", "1])", "");
    hostile("concat(", "title,", "title) = 'x'", "");
    hostile("", "(SELECT ", "b", ")");
}

static void nested_between_is_bounded(void **state)
{
    (void)state;
    hostile("", "(", "b", " BETWEEN SYMMETRIC b2 AND b)");
    hostile("", "nullif(", "b", ", b2)");
}

/* Every allocation of the arena in turn is the one that finds it full. */
static void a_full_arena_is_an_error(void **state)
{
    static const char *const clauses[] = {
        "id IN (1, 2, n) AND (title LIKE 'a%' OR NOT b) AND 'x' || title = 'xy'",
        "CASE id WHEN 1 THEN b ELSE coalesce(b2, b) END AND m = 'ok'",
        "id = ANY(ARRAY[1, 2]) AND greatest(id, n, 3) BETWEEN 1 AND 5",
        "(ARRAY[id, 1])[1:2] = '{1,2}'::int4[] AND nullif(f, 1) IS DISTINCT FROM id"};

    (void)state;
    for (size_t i = 0; i < sizeof(clauses) / sizeof(clauses[0]); i++) {
        int rc = ERR_MEMORY;

        for (size_t max = 0; rc != 0; max += 64) {
            struct arena small;
            const struct sql_expr *e;
            const struct sql_cond *c;
            struct err err = {0};

            arena_init(&small, max);
            rc = sql_where_parse(slice_of(clauses[i]), &table, NULL, &small, &e, &err);
            if (rc == 0)
                rc = sql_cond_make(e, &table, &small, &c, &err);
            if (rc != 0 && rc != ERR_MEMORY)
                fail_msg("%s: %s", clauses[i], err.message);
            arena_fini(&small);
            assert_true(max < 1u << 20);
        }
    }
}

/* ---- threads ---- */

#define THREADS 4

static void *parse_many(void *arg)
{
    bool *ok = arg;

    *ok = true;
    for (int i = 0; i < 50; i++) {
        struct arena own;
        const struct sql_expr *e;
        struct err err;

        arena_init(&own, ARENA_MAX);
        if (sql_where_parse(SLICE_LIT("id = 1 AND (b OR title LIKE 'a%')"), &table, NULL,
                            &own, &e, &err) != 0 ||
            sql_where_parse(SLICE_LIT("id = 1 AND (b OR"), &table, NULL, &own, &e,
                            &err) != ERR_INVALID)
            *ok = false;
        arena_fini(&own);
    }
    return NULL;
}

static void threads_parse_side_by_side(void **state)
{
    pthread_t threads[THREADS];
    bool ok[THREADS];

    (void)state;
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, parse_many, &ok[i]), 0);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(ok[i]);
    }
}

static void what_was_printed_is_read_back_whatever_its_length(void **state)
{
    (void)state;
    struct buf text;
    const struct sql_expr *back;
    struct err err = {0};

    buf_init(&text, SQL_WHERE_MAX_BYTES);
    buf_puts(&text, "n IN (0");
    for (int i = 1; i < 2500; i++)
        buf_printf(&text, ",%d.5", i);
    buf_puts(&text, ") AND n > 0");
    for (int i = 0; i < 60; i++)
        buf_puts(&text, " + id * 2 * id * 2");
    buf_putc(&text, '\0');
    assert_int_equal(text.failed, 0);
    const char *first = printed(parse(text.ptr));
    assert_true(strlen(first) > SQL_WHERE_MAX_BYTES);
    assert_int_equal(sql_where_parse(slice_of(first), &table, NULL, &arena, &back, &err),
                     ERR_INVALID);
    if (sql_where_reparse(slice_of(first), &table, &arena, &back, &err) != 0)
        fail_msg("%s", err.message);
    assert_string_equal(printed(back), first);
    buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(what_was_printed_is_read_back_whatever_its_length),
        TEST(grammar_errors_count_from_the_wrapped_text),
        TEST(only_one_expression_is_taken),
        TEST(a_text_has_a_size_and_is_utf8),
        TEST(references_are_to_columns_by_their_names),
        TEST(types_are_resolved_or_refused),
        TEST(choices_keep_their_collation),
        TEST(constant_names_are_printed_as_they_are_compared),
        TEST(the_type_of_else_comes_first),
        TEST(constants_under_collate_are_computed),
        TEST(hopeless_constants_are_refused),
        TEST(constants_and_casts_are_written_out),
        TEST(labels_that_are_not_known_are_left_to_postgres),
        TEST(variants_are_the_same_clause),
        TEST(parameters_are_literals),
        TEST(guards_stay_in_front),
        TEST(two_clauses_are_joined_as_trees),
        TEST(logic_has_three_values),
        TEST(lists_know_null),
        TEST(a_failing_row_says_why_and_a_decided_one_does_not),
        TEST(a_column_is_read_once),
        TEST(leaves_are_told_apart),
        TEST(ranges_and_prefixes_are_found),
        TEST(columns_are_listed),
        TEST(hostile_texts_are_refused),
        TEST(short_texts_need_little_stack),
        TEST(hostile_texts_are_refused_or_work),
        TEST(nested_between_is_bounded),
        TEST(a_full_arena_is_an_error),
        TEST(threads_parse_side_by_side),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
