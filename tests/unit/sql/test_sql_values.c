/* Text forms, order and hash of each type without a database: the table is what Postgres
 * 15 prints; test_sql_postgres.c asks it for far more. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sql/types.h"
#include "unit/sql/samples.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct sql_type plain(enum sql_base base)
{
    return (struct sql_type){.base = base, .typmod = -1};
}

static struct sql_type array_of(enum sql_base base)
{
    return (struct sql_type){.base = base, .array = true, .typmod = -1};
}

/* What is printed, or "!message", or "?" for a refusal. */
static void check(struct sql_type type, const char *text, const char *expected)
{
    struct arena arena;
    struct buf out;
    struct err err;
    struct sql_value v;
    int rc;

    arena_init(&arena, 1u << 20);
    buf_init(&out, 1u << 20);
    rc = sql_value_in(type, slice_of(text), &arena, &v, &err);
    if (rc == ERR_UNSUPPORTED)
        buf_putc(&out, '?');
    else if (rc != 0)
        buf_printf(&out, "!%s", err.message);
    else
        sql_value_out(type, &v, &out);
    buf_putc(&out, '\0');
    assert_int_equal(out.failed, 0);
    if (strcmp(out.ptr, expected) != 0)
        fail_msg("%s \"%s\": %s instead of %s", sql_type_name(type), text, out.ptr,
                 expected);
    buf_fini(&out);
    arena_fini(&arena);
}

static void scalars_are_read_and_printed(void **state)
{
    static const struct {
        enum sql_base base;
        const char *text;
        const char *printed;
    } rows[] = {
        {SQL_BOOL, " TRUE ", "t"},
        {SQL_BOOL, "of", "f"},
        {SQL_BOOL, "o", "!invalid input syntax for type boolean: \"o\""},
        {SQL_INT2, "-32768", "-32768"},
        {SQL_INT2, "32768", "!value \"32768\" is out of range for type smallint"},
        {SQL_INT4, " +7 ", "7"},
        {SQL_INT4, "1.5", "!invalid input syntax for type integer: \"1.5\""},
        {SQL_INT8, "9223372036854775807", "9223372036854775807"},
        {SQL_FLOAT8, "0.1", "0.1"},
        {SQL_FLOAT8, "1e15", "1e+15"},
        {SQL_FLOAT8, "100000000000000", "100000000000000"},
        {SQL_FLOAT8, "-0", "-0"},
        {SQL_FLOAT8, "9007199254740993", "9.007199254740992e+15"},
        {SQL_FLOAT8, "5.684341886080802e-14", "5.684341886080802e-14"},
        {SQL_FLOAT8, "1e400", "!\"1e400\" is out of range for type double precision"},
        {SQL_FLOAT4, "3.4028235e38", "3.4028235e+38"},
        {SQL_FLOAT4, "1234567", "1.234567e+06"},
        {SQL_NUMERIC, "1.50", "1.50"},
        {SQL_NUMERIC, "-1.5e3", "-1500"},
        {SQL_NUMERIC, ".5", "0.5"},
        {SQL_NUMERIC, "-0.00", "0.00"},
        {SQL_NUMERIC, "-inf", "-Infinity"},
        {SQL_NUMERIC, "1e131072", "!value overflows numeric format"},
        {SQL_NUMERIC, ".", "!invalid input syntax for type numeric: \".\""},
        {SQL_TEXT, "a b ", "a b "},
        {SQL_UUID, "{A0EEBC999C0B-4EF8BB6D-6BB9BD380A11}",
         "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
        {SQL_UUID, "a0", "!invalid input syntax for type uuid: \"a0\""},
        {SQL_BYTEA, "\\x DE ad", "\\xdead"},
        {SQL_BYTEA, "a\\\\\\001", "\\x615c01"},
        {SQL_BYTEA, "\\xd", "!invalid hexadecimal data: odd number of digits"},
        {SQL_DATE, "0044-03-15 BC", "0044-03-15 BC"},
        {SQL_DATE, "Jan 5, 2024", "2024-01-05"},
        {SQL_DATE, "2023-02-29", "!date/time field value out of range: \"2023-02-29\""},
        {SQL_DATE, "today", "?"},
        {SQL_DATE, "1/2/2024", "?"},
        {SQL_DATE, "infinity", "infinity"},
        {SQL_TIME, "04:05 pm", "16:05:00"},
        {SQL_TIME, "24:00:00", "24:00:00"},
        {SQL_TIME, "25:00", "!date/time field value out of range: \"25:00\""},
        {SQL_TIMESTAMP, "2024-01-31T23:59:60", "2024-02-01 00:00:00"},
        {SQL_TIMESTAMP, "2024-01-31 10:00+05", "2024-01-31 10:00:00"},
        {SQL_TIMESTAMP, "now", "?"},
        {SQL_TIMESTAMPTZ, "2024-01-31 10:00:00.5-03:30", "2024-01-31 13:30:00.5+00"},
        {SQL_TIMESTAMPTZ, "2024-01-31 10:00 America/New_York", "?"},
        {SQL_TIMESTAMPTZ, "epoch", "1970-01-01 00:00:00+00"},
        {SQL_INTERVAL, "1 year 2 mons -3 days 04:05:06.7", "P1Y2M-3DT4H5M6.7S"},
        {SQL_INTERVAL, "P1.5D", "P1DT12H"},
        {SQL_INTERVAL, "1 day ago", "P-1D"},
        {SQL_INTERVAL, "1-2 3 4:05", "P1Y2M3DT4H5M"},
        {SQL_INTERVAL, "0", "PT0S"},
        {SQL_INTERVAL, "1 fortnight", "?"},
        {SQL_ENUM, "sad", "sad"},
        {SQL_JSONB, "{\"bb\":1,\"a\":[1.0,\"\\u0041\"],\"a\":null}",
         "{\"a\": null, \"bb\": 1}"},
        {SQL_JSONB, "[1,]", "!invalid input syntax for type json"},
        {SQL_JSONB, "\"\\u0000\"", "!unsupported Unicode escape sequence"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        check(plain(rows[i].base), rows[i].text, rows[i].printed);
}

static void arrays_are_read_and_printed(void **state)
{
    (void)state;
    check(array_of(SQL_INT4), " { 1 , NULL,3 } ", "{1,NULL,3}");
    check(array_of(SQL_INT4), "{{1,2},{3,4}}", "{{1,2},{3,4}}");
    check(array_of(SQL_INT4), "[0:1]={1,2}", "[0:1]={1,2}");
    check(array_of(SQL_INT4), "[1:2]={1,2}", "{1,2}");
    check(array_of(SQL_TEXT), "{\"a b\",\"null\",a\\,b,\"\"}",
          "{\"a b\",\"null\",\"a,b\",\"\"}");
    check(array_of(SQL_BOOL), "{}", "{}");
    check(array_of(SQL_INT4), "{{1},{2,3}}", "!malformed array literal: \"{{1},{2,3}}\"");
    check(array_of(SQL_INT4), "{1,x}", "!invalid input syntax for type integer: \"x\"");
    check(array_of(SQL_INT4), "{1,{{{{{{2}}}}}}}",
          "!malformed array literal: \"{1,{{{{{{2}}}}}}}\"");
    check(array_of(SQL_INT4), "{{{{{{{1}}}}}}}",
          "!number of array dimensions (7) exceeds the maximum allowed (6)");
}

/* All of a type's samples that it takes. */
static size_t all_values(struct sql_type type, struct arena *arena, struct sql_value *to,
                         size_t most)
{
    size_t count = 0;

    for (size_t i = 0; sample_fixed(type, i); i++) {
        assert_true(count < most);
        if (sql_value_in(type, slice_of(sample_fixed(type, i)), arena, &to[count],
                         NULL) == 0)
            count++;
    }
    return count;
}

static void check_order(struct sql_type type)
{
    static struct sql_value values[256];
    struct arena arena;
    size_t count;

    arena_init(&arena, 1u << 24);
    count = all_values(type, &arena, values, COUNT(values));
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            int order = sql_value_cmp(type, &values[i], &values[j]);

            assert_int_equal(order, -sql_value_cmp(type, &values[j], &values[i]));
            if (order == 0)
                assert_true(sql_value_hash(type, &values[i], 7) ==
                            sql_value_hash(type, &values[j], 7));
            if (order <= 0)
                assert_true(sql_value_sort_key(type, &values[i]) <=
                            sql_value_sort_key(type, &values[j]));
            for (size_t k = 0; order <= 0 && k < count; k++) {
                if (sql_value_cmp(type, &values[j], &values[k]) <= 0)
                    assert_true(sql_value_cmp(type, &values[i], &values[k]) <= 0);
            }
        }
    }
    arena_fini(&arena);
}

/* Antisymmetric, transitive, equal values have equal hashes, and sort keys rise with it. */
static void order_and_hash_are_consistent(void **state)
{
    (void)state;
    for (int base = SQL_BOOL; base < SQL_OTHER; base++) {
        if (base != SQL_JSONB) /* [] is out of order in Postgres, too */
            check_order(plain((enum sql_base)base));
        check_order(array_of((enum sql_base)base));
    }
}

static void equal_values_may_look_different(void **state)
{
    static const struct {
        enum sql_base base;
        const char *a;
        const char *b;
        int order;
    } rows[] = {
        {SQL_NUMERIC, "1.0", "1.00", 0},
        {SQL_NUMERIC, "NaN", "Infinity", 1},
        {SQL_FLOAT8, "-0", "0", 0},
        {SQL_FLOAT8, "NaN", "Infinity", 1},
        {SQL_BPCHAR, "a  ", "a", 0},
        {SQL_TEXT, "a ", "a", 1},
        {SQL_INTERVAL, "1 month", "30 days", 0},
        {SQL_INTERVAL, "24:00:00", "1 day", 0},
        {SQL_JSONB, "1", "1.0", 0},
        {SQL_JSONB, "[1]", "2", 1},
        {SQL_JSONB, "[]", "null", -1},
        {SQL_DATE, "infinity", "5874897-12-31", 1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct sql_type type = plain(rows[i].base);
        struct sql_value a;
        struct sql_value b;
        struct arena arena;

        arena_init(&arena, 1u << 16);
        assert_int_equal(sql_value_in(type, slice_of(rows[i].a), &arena, &a, NULL), 0);
        assert_int_equal(sql_value_in(type, slice_of(rows[i].b), &arena, &b, NULL), 0);
        assert_int_equal(sql_value_cmp(type, &a, &b), rows[i].order);
        if (rows[i].order == 0)
            assert_true(sql_value_hash(type, &a, 1) == sql_value_hash(type, &b, 1));
        arena_fini(&arena);
    }
}

/* Every sample under every small maximum: an ordinary error, or the right answer. */
static void lack_of_memory_is_an_error(void **state)
{
    (void)state;
    for (int base = SQL_BOOL; base < SQL_OTHER; base++) {
        for (int array = 0; array < 2; array++) {
            struct sql_type type = {
                .base = (enum sql_base)base, .array = array != 0, .typmod = -1};

            for (size_t i = 0; sample_fixed(type, i); i++) {
                for (size_t max = 0; max < 512; max += 16) {
                    struct arena arena;
                    struct sql_value v;

                    arena_init(&arena, max);
                    (void)sql_value_in(type, slice_of(sample_fixed(type, i)), &arena, &v,
                                       NULL);
                    arena_fini(&arena);
                }
            }
        }
    }
}

static void types_have_the_names_of_postgres(void **state)
{
    static const struct {
        uint32_t oid;
        int32_t typmod;
        const char *format;
        const char *name;
    } rows[] = {
        {23, -1, "integer", "int4"},
        {1007, -1, "integer[]", "_int4"},
        {1043, 24, "character varying(20)", "varchar"},
        {1042, 9, "character(5)", "bpchar"},
        {1042, -1, "bpchar", "bpchar"},
        {1700, 655366, "numeric(10,2)", "numeric"},
        {1700, 395262, "numeric(6,-6)", "numeric"},
        {1083, 3, "time(3) without time zone", "time"},
        {1184, -1, "timestamp with time zone", "timestamptz"},
        {1185, 0, "timestamp(0) with time zone[]", "_timestamptz"},
        {1186, 2147418115, "interval(3)", "interval"},
        {1186, 589823, "interval day", "interval"},
        {869, -1, "other", "other"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct sql_type type = sql_type_of_oid(rows[i].oid, rows[i].typmod);
        struct buf out;

        buf_init(&out, 200);
        sql_type_print(type, &out);
        buf_putc(&out, '\0');
        assert_string_equal(out.ptr, rows[i].format);
        assert_string_equal(sql_type_name(type), rows[i].name);
        buf_fini(&out);
    }
}

static void typmods_cut_and_round(void **state)
{
    static const struct {
        enum sql_base base;
        int32_t typmod;
        const char *text;
        const char *result;
    } rows[] = {
        {SQL_VARCHAR, 7, "abcd", "abc"},
        {SQL_VARCHAR, 6, "\xC3\xA9\xC3\xA9\xC3\xA9", "\xC3\xA9\xC3\xA9"},
        {SQL_BPCHAR, 8, "ab", "ab  "},
        {SQL_NUMERIC, 4 << 16 | (2 + 4), "12.345", "12.35"},
        {SQL_NUMERIC, 4 << 16 | (2 + 4), "123.4", "!numeric field overflow"},
        {SQL_NUMERIC, 4 << 16 | (2 + 4), "99.996", "!numeric field overflow"},
        {SQL_NUMERIC, 4 << 16 | (2 + 4), "NaN", "NaN"},
        {SQL_TIME, 0, "10:00:00.5", "10:00:01"},
        {SQL_TIMESTAMP, 2, "1999-12-31 23:59:59.999", "2000-01-01 00:00:00"},
        {SQL_INTERVAL, 0x7FFF << 16 | 1, "1.26 s", "PT1.3S"},
        {SQL_INT4, -1, "5", "5"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct sql_type type = {.base = rows[i].base, .typmod = rows[i].typmod};
        struct arena arena;
        struct sql_value v;
        struct buf out;
        struct err err;

        arena_init(&arena, 1u << 16);
        buf_init(&out, 1000);
        assert_int_equal(sql_value_in(type, slice_of(rows[i].text), &arena, &v, &err), 0);
        if (sql_apply_typmod(type, &arena, &v, &err) != 0)
            buf_printf(&out, "!%s", err.message);
        else
            sql_value_out(type, &v, &out);
        buf_putc(&out, '\0');
        assert_string_equal(out.ptr, rows[i].result);
        buf_fini(&out);
        arena_fini(&arena);
    }
}

static void typmods_reach_into_arrays(void **state)
{
    struct sql_type type = {.base = SQL_VARCHAR, .array = true, .typmod = 4 + 2};
    struct arena arena;
    struct sql_value v;
    struct buf out;

    (void)state;
    arena_init(&arena, 1u << 16);
    buf_init(&out, 1000);
    assert_int_equal(
        sql_value_in(type, SLICE_LIT("[0:1][1:2]={{abc,NULL},{d,ef}}"), &arena, &v, NULL),
        0);
    assert_int_equal(sql_apply_typmod(type, &arena, &v, NULL), 0);
    sql_value_out(type, &v, &out);
    buf_putc(&out, '\0');
    assert_string_equal(out.ptr, "[0:1][1:2]={{ab,NULL},{d,ef}}");
    buf_fini(&out);
    arena_fini(&arena);
}

static void arrays_can_be_made(void **state)
{
    struct sql_type type = array_of(SQL_INT4);
    const struct sql_value items[] = {{.i = 1}, {.null = true}, {.i = 3}, {.i = 4}};
    const int32_t length[] = {2, 2};
    struct arena arena;
    struct sql_value v;
    struct buf out;

    (void)state;
    arena_init(&arena, 1u << 16);
    buf_init(&out, 1000);
    v = (struct sql_value){.array = sql_array_make(&arena, items, 3)};
    sql_value_out(type, &v, &out);
    v.array = sql_array_make(&arena, items, 0);
    assert_int_equal(sql_array_dims(v.array), 0);
    sql_value_out(type, &v, &out);
    v.array = sql_array_shape(&arena, items, 2, length, NULL);
    assert_int_equal(sql_array_count(v.array), 4);
    assert_int_equal(sql_array_length(v.array, 1), 2);
    assert_int_equal(sql_array_lower(v.array, 0), 1);
    assert_int_equal(sql_array_items(v.array)[2].i, 3);
    sql_value_out(type, &v, &out);
    buf_putc(&out, '\0');
    assert_string_equal(out.ptr, "{1,NULL,3}{}{{1,NULL},{3,4}}");
    buf_fini(&out);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_are_read_and_printed),
        cmocka_unit_test(arrays_are_read_and_printed),
        cmocka_unit_test(order_and_hash_are_consistent),
        cmocka_unit_test(equal_values_may_look_different),
        cmocka_unit_test(lack_of_memory_is_an_error),
        cmocka_unit_test(types_have_the_names_of_postgres),
        cmocka_unit_test(typmods_cut_and_round),
        cmocka_unit_test(typmods_reach_into_arrays),
        cmocka_unit_test(arrays_can_be_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
