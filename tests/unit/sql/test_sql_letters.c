/* lower, upper and ILIKE by a database's own table of letters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "sql/ops.h"

static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, (size_t)1 << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

/* All of ASCII as in English, and what else is given. */
static struct sql_letters *english_and(const struct sql_letter *more, size_t count)
{
    struct sql_letter items[100];
    size_t n = 0;

    for (uint32_t c = 'A'; c <= 'Z'; c++) {
        items[n++] = (struct sql_letter){c, c + 32, c};
        items[n++] = (struct sql_letter){c + 32, c + 32, c};
    }
    for (size_t i = 0; i < count; i++)
        items[n++] = more[i];
    return sql_letters_new(items, n);
}

static const char *mapped(sql_function_fn *fn, const struct sql_letters *letters,
                          const char *text)
{
    struct err err;
    struct sql_type type = {.base = SQL_TEXT, .typmod = -1};
    struct sql_call call = {&arena, &err, &type, 1, letters};
    struct sql_value arg = {.s = slice_of(text)};
    struct sql_value out = {0};

    if (fn(&call, &arg, &out) != SQL_FINE)
        return err.message[0] ? "refused" : "?";
    return arena_dup(&arena, out.s);
}

static int ilike(const struct sql_letters *letters, const char *text, const char *pattern)
{
    struct err err;
    struct sql_type types[2] = {{.base = SQL_TEXT, .typmod = -1},
                                {.base = SQL_TEXT, .typmod = -1}};
    struct sql_call call = {&arena, &err, types, 2, letters};
    struct sql_value args[2] = {{.s = slice_of(text)}, {.s = slice_of(pattern)}};
    struct sql_value out = {0};

    return sql_ilike(&call, args, &out) == SQL_FINE ? out.b : -1;
}

static void letters_beyond_ascii_need_a_table(void **state)
{
    /* Not in order: é, 𐐀 and 𐐨, and ß, which has none. ÿ becomes a longer character. */
    static const struct sql_letter more[] = {
        {0x10428, 0x10428, 0x10400}, {0xE9, 0xE9, 0xC9},   {0xC9, 0xE9, 0xC9},
        {0xFF, 0xFF, 0x178},         {0x178, 0xFF, 0x178}, {0x10400, 0x10428, 0x10400}};
    struct sql_letters *letters = english_and(more, sizeof(more) / sizeof(more[0]));

    (void)state;
    assert_string_equal(mapped(sql_lower, NULL, "aB1"), "ab1");
    assert_string_equal(mapped(sql_lower, NULL, "\xc3\x89"), "refused");
    assert_int_equal(ilike(NULL, "\xc3\x89", "%"), -1);
    assert_string_equal(mapped(sql_lower, letters, "aB1"), "ab1");
    assert_string_equal(mapped(sql_lower, letters, "a\xc3\x89\xc3\x9f\xf0\x90\x90\x80Z"),
                        "a\xc3\xa9\xc3\x9f\xf0\x90\x90\xa8z");
    assert_string_equal(mapped(sql_upper, letters, "\xc3\xbf\xe2\x82\xac"),
                        "\xc5\xb8\xe2\x82\xac");
    assert_int_equal(ilike(letters, "X\xc3\x89y", "%\xc3\xa9_"), 1);
    assert_int_equal(ilike(letters, "X\xc3\x89y", "%e_"), 0);
    /* What is no UTF-8 stays as it is. */
    assert_string_equal(mapped(sql_upper, letters, "a\xc3"), "A\xc3");
    assert_string_equal(mapped(sql_upper, letters, "\x80\xf0\x90\x90"),
                        "\x80\xf0\x90\x90");
    sql_letters_free(letters);
}

static void a_turkish_i_is_another_letter(void **state)
{
    static const struct sql_letter more[] = {
        {'I', 0x131, 'I'}, {'i', 'i', 0x130}, {0x130, 'i', 0x130}, {0x131, 0x131, 'I'}};
    struct sql_letters *letters = english_and(more, sizeof(more) / sizeof(more[0]));

    (void)state;
    assert_string_equal(mapped(sql_lower, letters, "TIP"), "t\xc4\xb1p");
    assert_string_equal(mapped(sql_upper, letters, "tip"), "T\xc4\xb0P");
    assert_int_equal(ilike(letters, "TIP", "tip"), 0);
    assert_int_equal(ilike(letters, "T\xc4\xb0P", "tip"), 1);
    sql_letters_free(letters);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_beyond_ascii_need_a_table),
        cmocka_unit_test(a_turkish_i_is_another_letter),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
