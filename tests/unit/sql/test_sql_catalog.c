/* Rows of the catalog over a few values each, with the errors' texts: what
 * test_sql_postgres.c compares at large, in a form that needs no database. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sql/types.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define A(type) (SQL_##type | 0x100) /* an array of it */
#define V(type) SQL_##type

struct row {
    enum sql_function_kind kind;
    const char *name;
    int types[2]; /* the second -1: there is one argument */
    const char *texts[2];
    int result;
    const char *expected; /* "!message", "?" for a refusal, "N" for NULL */
};

static struct sql_type type_of(int code)
{
    return (struct sql_type){
        .base = (enum sql_base)(code & 0xFF), .array = code > 0xFF, .typmod = -1};
}

static bool fits(struct sql_type wanted, struct sql_type given)
{
    return wanted.array == given.array &&
           (wanted.base == given.base || wanted.base == SQL_UNKNOWN);
}

static const struct sql_function *find(const struct row *row)
{
    size_t count;
    size_t arguments = row->types[1] < 0 ? 1 : 2;
    const struct sql_function *functions = sql_functions(&count);

    for (size_t i = 0; i < count; i++) {
        const struct sql_function *f = &functions[i];

        if (f->kind != row->kind || f->count != arguments ||
            !fits(f->args[0], type_of(row->types[0])) ||
            (arguments == 2 && !fits(f->args[1], type_of(row->types[1]))))
            continue;
        if (f->name ? row->name && strcmp(f->name, row->name) == 0
                    : !row->name && fits(f->result, type_of(row->result)))
            return f;
    }
    fail_msg("no %s", row->name ? row->name : "cast");
    return NULL;
}

static void check(const struct row *row)
{
    const struct sql_function *f = find(row);
    struct sql_type types[2] = {type_of(row->types[0]), type_of(row->types[1])};
    struct sql_value args[2];
    struct sql_value v = {.null = false};
    struct arena arena;
    struct err err = {.code = 0};
    struct sql_call call = {&arena, &err, types, f->count, NULL};
    struct buf out;

    arena_init(&arena, 1u << 20);
    buf_init(&out, 1u << 16);
    for (size_t i = 0; i < f->count; i++)
        assert_int_equal(
            sql_value_in(types[i], slice_of(row->texts[i]), &arena, &args[i], &err), 0);
    if (f->fn(&call, args, &v) != SQL_FINE)
        buf_printf(&out, "%s", err.code == ERR_UNSUPPORTED ? "?" : "!");
    else if (v.null)
        buf_puts(&out, "N");
    else
        sql_value_out(type_of(row->result), &v, &out);
    if (err.code == ERR_INVALID)
        buf_puts(&out, err.message);
    buf_putc(&out, '\0');
    if (strcmp(out.ptr, row->expected) != 0)
        fail_msg("%s of \"%s\": %s instead of %s", row->name ? row->name : "cast",
                 row->texts[0], out.ptr, row->expected);
    buf_fini(&out);
    arena_fini(&arena);
}

static const struct row operators[] = {
    {SQL_OPERATOR, "+", {V(INT2), V(INT4)}, {"1", "2"}, V(INT4), "3"},
    {SQL_OPERATOR,
     "+",
     {V(INT4), V(INT4)},
     {"2147483647", "1"},
     V(INT4),
     "!integer out of range"},
    {SQL_OPERATOR,
     "*",
     {V(INT8), V(INT2)},
     {"9223372036854775807", "2"},
     V(INT8),
     "!bigint out of range"},
    {SQL_OPERATOR, "/", {V(INT4), V(INT4)}, {"-7", "2"}, V(INT4), "-3"},
    {SQL_OPERATOR,
     "/",
     {V(INT2), V(INT2)},
     {"-32768", "-1"},
     V(INT2),
     "!smallint out of range"},
    {SQL_OPERATOR, "%", {V(INT4), V(INT4)}, {"5", "0"}, V(INT4), "!division by zero"},
    {SQL_OPERATOR,
     "-",
     {V(INT8), -1},
     {"-9223372036854775808", NULL},
     V(INT8),
     "!bigint out of range"},
    {SQL_OPERATOR, "=", {V(INT2), V(INT8)}, {"3", "3"}, V(BOOL), "t"},
    {SQL_OPERATOR,
     "/",
     {V(FLOAT8), V(FLOAT8)},
     {"1", "0"},
     V(FLOAT8),
     "!division by zero"},
    {SQL_OPERATOR,
     "*",
     {V(FLOAT8), V(FLOAT8)},
     {"1e300", "1e300"},
     V(FLOAT8),
     "!value out of range: overflow"},
    {SQL_OPERATOR, "=", {V(FLOAT4), V(FLOAT8)}, {"0.1", "0.1"}, V(BOOL), "f"},
    {SQL_OPERATOR,
     "^",
     {V(FLOAT8), V(FLOAT8)},
     {"-8", "0.5"},
     V(FLOAT8),
     "!a negative number raised to a non-integer power yields a complex result"},
    {SQL_OPERATOR,
     "/",
     {V(NUMERIC), V(NUMERIC)},
     {"1", "3"},
     V(NUMERIC),
     "0.33333333333333333333"},
    {SQL_OPERATOR,
     "/",
     {V(NUMERIC), V(NUMERIC)},
     {"10000", "2.5"},
     V(NUMERIC),
     "4000.0000000000000000"},
    {SQL_OPERATOR, "*", {V(NUMERIC), V(NUMERIC)}, {"1.50", "-2.0"}, V(NUMERIC), "-3.000"},
    {SQL_OPERATOR, "-", {V(NUMERIC), V(NUMERIC)}, {"inf", "inf"}, V(NUMERIC), "NaN"},
    {SQL_OPERATOR, "||", {V(TEXT), V(TEXT)}, {"a", "b"}, V(TEXT), "ab"},
    {SQL_OPERATOR, "=", {V(BPCHAR), V(BPCHAR)}, {"a  ", "a"}, V(BOOL), "t"},
    {SQL_OPERATOR, "~~", {V(BPCHAR), V(TEXT)}, {"a  ", "a"}, V(BOOL), "f"},
    {SQL_OPERATOR, "~~", {V(TEXT), V(TEXT)}, {"100%_x", "100\\%\\_%"}, V(BOOL), "t"},
    {SQL_OPERATOR,
     "~~",
     {V(TEXT), V(TEXT)},
     {"ab", "a\\"},
     V(BOOL),
     "!LIKE pattern must not end with escape character"},
    {SQL_OPERATOR, "~~", {V(TEXT), V(TEXT)}, {"", "%\\"}, V(BOOL), "f"},
    {SQL_OPERATOR, "~~*", {V(TEXT), V(TEXT)}, {"aBc", "AB%"}, V(BOOL), "t"},
    {SQL_OPERATOR, "~", {V(TEXT), V(TEXT)}, {"a", ""}, V(BOOL), "t"},
    {SQL_OPERATOR, "~~*", {V(TEXT), V(TEXT)}, {"\xC3\xA9", "%"}, V(BOOL), "?"},
    {SQL_OPERATOR, "~", {V(TEXT), V(TEXT)}, {"xaab", "a{2}(b|c)$"}, V(BOOL), "t"},
    {SQL_OPERATOR, "~", {V(TEXT), V(TEXT)}, {"x", "(x)\\1"}, V(BOOL), "?"},
    {SQL_OPERATOR, "~*", {V(TEXT), V(TEXT)}, {"ABC", "[a-b]c"}, V(BOOL), "t"},
    {SQL_OPERATOR,
     "+",
     {V(DATE), V(INTERVAL)},
     {"2024-01-31", "1 month"},
     V(TIMESTAMP),
     "2024-02-29 00:00:00"},
    {SQL_OPERATOR,
     "-",
     {V(TIMESTAMP), V(TIMESTAMP)},
     {"infinity", "epoch"},
     V(INTERVAL),
     "!cannot subtract infinite timestamps"},
    {SQL_OPERATOR, "-", {V(DATE), V(DATE)}, {"2024-03-01", "2024-02-01"}, V(INT4), "29"},
    {SQL_OPERATOR,
     "+",
     {V(TIME), V(INTERVAL)},
     {"23:00", "2 hours"},
     V(TIME),
     "01:00:00"},
    {SQL_OPERATOR,
     "*",
     {V(INTERVAL), V(FLOAT8)},
     {"1 month 1 day", "1.5"},
     V(INTERVAL),
     "P1M16DT12H"},
    {SQL_OPERATOR,
     ">",
     {V(DATE), V(TIMESTAMP)},
     {"5874897-12-31", "infinity"},
     V(BOOL),
     "f"},
    {SQL_OPERATOR, "@>", {A(INT4), A(INT4)}, {"{{1,2},{3,4}}", "{3,1}"}, V(BOOL), "t"},
    {SQL_OPERATOR, "&&", {A(INT4), A(INT4)}, {"{1,NULL}", "{NULL}"}, V(BOOL), "f"},
    {SQL_OPERATOR, "||", {A(INT4), V(INT4)}, {"{1,2}", "5"}, A(INT4), "{1,2,5}"},
    {SQL_OPERATOR, "||", {V(INT4), A(INT4)}, {"5", "[0:0]={1}"}, A(INT4), "[0:1]={5,1}"},
    {SQL_OPERATOR, "||", {A(INT4), A(INT4)}, {"{{1}}", "{5}"}, A(INT4), "{{1},{5}}"},
    {SQL_OPERATOR,
     "||",
     {A(INT4), A(INT4)},
     {"{{1}}", "{5,6}"},
     A(INT4),
     "!cannot concatenate incompatible arrays"},
    {SQL_OPERATOR,
     "@>",
     {V(JSONB), V(JSONB)},
     {"[1, {\"a\": 2}]", "[{\"a\": 2.0}]"},
     V(BOOL),
     "t"},
    {SQL_OPERATOR, "->>", {V(JSONB), V(TEXT)}, {"{\"a\": \"x\"}", "a"}, V(TEXT), "x"},
    {SQL_OPERATOR, "->", {V(JSONB), V(INT4)}, {"[1, 2]", "-1"}, V(JSONB), "2"},
    {SQL_OPERATOR,
     "#>>",
     {V(JSONB), A(TEXT)},
     {"{\"a\": [null]}", "{a,0}"},
     V(TEXT),
     "N"},
    {SQL_OPERATOR, "?", {V(JSONB), V(TEXT)}, {"[\"a\"]", "a"}, V(BOOL), "t"},
};

static void operators_answer_as_postgres(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(operators); i++)
        check(&operators[i]);
}

static const struct row others[] = {
    {SQL_FUNCTION, "lower", {V(TEXT), -1}, {"aBC1", NULL}, V(TEXT), "abc1"},
    {SQL_FUNCTION, "upper", {V(TEXT), -1}, {"\xC3\xA9", NULL}, V(TEXT), "?"},
    {SQL_FUNCTION, "length", {V(TEXT), -1}, {"\xC3\xA9x", NULL}, V(INT4), "2"},
    {SQL_FUNCTION, "round", {V(NUMERIC), V(INT4)}, {"-2.345", "2"}, V(NUMERIC), "-2.35"},
    {SQL_FUNCTION, "ceil", {V(NUMERIC), -1}, {"-0.5", NULL}, V(NUMERIC), "0"},
    {SQL_FUNCTION, "round", {V(FLOAT8), -1}, {"2.5", NULL}, V(FLOAT8), "2"},
    {SQL_FUNCTION,
     "like_escape",
     {V(TEXT), V(TEXT)},
     {"a#%\\", "#"},
     V(TEXT),
     "a\\%\\\\"},
    {SQL_FUNCTION,
     "timezone",
     {V(TEXT), V(TIMESTAMP)},
     {"UTC", "2024-01-31 10:00"},
     V(TIMESTAMPTZ),
     "2024-01-31 10:00:00+00"},
    {SQL_FUNCTION,
     "timezone",
     {V(TEXT), V(TIMESTAMP)},
     {"Europe/Paris", "2024-01-31 10:00"},
     V(TIMESTAMPTZ),
     "?"},
    {SQL_FUNCTION,
     "timezone",
     {V(INTERVAL), V(TIMESTAMPTZ)},
     {"2 hours", "2024-01-31 10:00Z"},
     V(TIMESTAMP),
     "2024-01-31 12:00:00"},
    {SQL_FUNCTION,
     "date_trunc",
     {V(TEXT), V(TIMESTAMP)},
     {"week", "2024-01-31 10:00"},
     V(TIMESTAMP),
     "2024-01-29 00:00:00"},
    {SQL_FUNCTION,
     "extract",
     {V(TEXT), V(TIMESTAMP)},
     {"second", "2024-01-31 10:00:01.5"},
     V(NUMERIC),
     "1.500000"},
    {SQL_FUNCTION,
     "justify_interval",
     {V(INTERVAL), -1},
     {"1 mon -1 hour", NULL},
     V(INTERVAL),
     "P29DT23H"},
    {SQL_FUNCTION, "array_ndims", {A(TEXT), -1}, {"{}", NULL}, V(INT4), "N"},
    {SQL_FUNCTION, "jsonb_typeof", {V(JSONB), -1}, {"1", NULL}, V(TEXT), "number"},
    {SQL_CAST_ASSIGNMENT, NULL, {V(FLOAT8), -1}, {"2.5", NULL}, V(INT4), "2"},
    {SQL_CAST_ASSIGNMENT, NULL, {V(NUMERIC), -1}, {"2.5", NULL}, V(INT4), "3"},
    {SQL_CAST_ASSIGNMENT,
     NULL,
     {V(NUMERIC), -1},
     {"NaN", NULL},
     V(INT4),
     "!cannot convert NaN to integer"},
    {SQL_CAST_ASSIGNMENT, NULL, {V(FLOAT8), -1}, {"0.1", NULL}, V(NUMERIC), "0.1"},
    {SQL_CAST_ASSIGNMENT, NULL, {V(BOOL), -1}, {"t", NULL}, V(TEXT), "true"},
    {SQL_CAST_IMPLICIT, NULL, {V(BPCHAR), -1}, {"a  ", NULL}, V(TEXT), "a"},
    {SQL_CAST_EXPLICIT,
     NULL,
     {V(TEXT), -1},
     {"x", NULL},
     V(INT4),
     "!invalid input syntax for type integer: \"x\""},
    {SQL_CAST_EXPLICIT, NULL, {V(INT4), -1}, {"-1", NULL}, V(BOOL), "t"},
    {SQL_CAST_EXPLICIT,
     NULL,
     {V(JSONB), -1},
     {"[]", NULL},
     V(INT4),
     "!cannot cast jsonb array to type integer"},
    {SQL_CAST_IMPLICIT,
     NULL,
     {V(DATE), -1},
     {"294277-01-01", NULL},
     V(TIMESTAMP),
     "!date out of range for timestamp"},
};

static void functions_and_casts_answer_as_postgres(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(others); i++)
        check(&others[i]);
}

/* The function of a row with so little memory: it fails and says so, or does without. */
static void starve(const struct row *row, size_t max_bytes)
{
    const struct sql_function *f = find(row);
    struct sql_type types[2] = {type_of(row->types[0]), type_of(row->types[1])};
    struct sql_value args[2];
    struct sql_value v = {.null = false};
    struct arena plenty;
    struct arena little;
    struct err err = {.code = 0};
    struct sql_call call = {&little, &err, types, f->count, NULL};

    arena_init(&plenty, 1u << 20);
    arena_init(&little, max_bytes);
    for (size_t i = 0; i < f->count; i++)
        assert_int_equal(
            sql_value_in(types[i], slice_of(row->texts[i]), &plenty, &args[i], &err), 0);
    if (f->fn(&call, args, &v) != SQL_FINE)
        assert_int_not_equal(err.code, 0);
    else
        assert_int_equal(err.code, 0);
    arena_fini(&little);
    arena_fini(&plenty);
}

static void lack_of_memory_is_an_error(void **state)
{
    (void)state;
    for (size_t max = 0; max < 3000; max += 16) {
        for (size_t i = 0; i < COUNT(operators); i++)
            starve(&operators[i], max);
        for (size_t i = 0; i < COUNT(others); i++)
            starve(&others[i], max);
    }
}

static bool same_type(struct sql_type a, struct sql_type b)
{
    return a.base == b.base && a.array == b.array;
}

/* No two rows could be meant by the same call. */
static void no_row_is_twice(void **state)
{
    size_t count;
    const struct sql_function *f = sql_functions(&count);

    (void)state;
    for (size_t i = 0; i < count; i++) {
        assert_true(f[i].count >= 1 && f[i].count <= SQL_ARGS_MAX);
        assert_non_null(f[i].fn);
        for (size_t j = i + 1; j < count; j++) {
            bool same =
                f[i].count == f[j].count && !f[i].name == !f[j].name &&
                (f[i].name ? f[i].kind == f[j].kind && strcmp(f[i].name, f[j].name) == 0
                           : same_type(f[i].result, f[j].result));

            for (size_t k = 0; same && k < f[i].count; k++)
                same = same_type(f[i].args[k], f[j].args[k]);
            if (same)
                fail_msg("rows %zu and %zu (%s) are the same", i, j,
                         f[i].name ? f[i].name : "cast");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operators_answer_as_postgres),
        cmocka_unit_test(functions_and_casts_answer_as_postgres),
        cmocka_unit_test(lack_of_memory_is_an_error),
        cmocka_unit_test(no_row_is_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
