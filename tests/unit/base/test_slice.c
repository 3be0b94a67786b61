/* Slices: order, trimming, strict numbers, UTF-8. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/alloc_faults.h"

#include "base/slice.c" // NOLINT(bugprone-suspicious-include)

static bool utf8(const char *bytes, size_t n)
{
    return slice_is_utf8(slice_make(bytes, n));
}

#define UTF8(literal) utf8((literal), sizeof(literal) - 1)

static void order_is_bytewise_and_shorter_first(void **state)
{
    (void)state;
    assert_int_equal(slice_cmp(SLICE_LIT("abc"), SLICE_LIT("abc")), 0);
    assert_int_equal(slice_cmp(SLICE_LIT("ab"), SLICE_LIT("abc")), -1);
    assert_int_equal(slice_cmp(SLICE_LIT("abc"), SLICE_LIT("ab")), 1);
    assert_int_equal(slice_cmp(SLICE_LIT("a\xFF"), SLICE_LIT("a\x01")), 1);
    assert_int_equal(slice_cmp(slice_of(NULL), SLICE_LIT("")), 0);
    assert_int_equal(slice_cmp(slice_of(NULL), SLICE_LIT("a")), -1);
    assert_int_equal(slice_cmp(SLICE_LIT("a\0b"), SLICE_LIT("a\0c")), -1);
}

static void nocase_folds_ascii_only(void **state)
{
    (void)state;
    assert_true(slice_eq_nocase(SLICE_LIT("Content-TYPE"), SLICE_LIT("content-type")));
    assert_false(slice_eq_nocase(SLICE_LIT("ab"), SLICE_LIT("abc")));
    assert_false(slice_eq_nocase(SLICE_LIT("[@"), SLICE_LIT("{`")));
    assert_false(slice_eq_nocase(SLICE_LIT("\xC3\x84"), SLICE_LIT("\xC3\xA4")));
    assert_true(slice_eq_nocase(slice_of(NULL), slice_of("")));
}

static void trim_takes_ascii_blanks_at_both_ends(void **state)
{
    (void)state;
    assert_true(slice_eq(slice_trim(SLICE_LIT(" \t\r\n\v\fa b \n")), SLICE_LIT("a b")));
    assert_int_equal(slice_trim(SLICE_LIT(" \t ")).len, 0);
    assert_int_equal(slice_trim(slice_of(NULL)).len, 0);
    assert_int_equal(slice_trim(SLICE_LIT("\xC2\xA0")).len, 2);
}

static void dup_terminates_and_reports_lack_of_memory(void **state)
{
    char *copy = slice_dup(SLICE_LIT("a\0b"));

    (void)state;
    assert_non_null(copy);
    assert_memory_equal(copy, "a\0b", 4);
    free(copy);
    copy = slice_dup(slice_of(NULL));
    assert_non_null(copy);
    assert_string_equal(copy, "");
    free(copy);
    assert_null(slice_dup(slice_make("x", SIZE_MAX)));
    alloc_fail_nth(1);
    assert_null(slice_dup(SLICE_LIT("abc")));
    alloc_fail_nth(0);
}

static void utf8_accepts_the_ends_of_every_range(void **state)
{
    (void)state;
    assert_true(UTF8(""));
    assert_true(UTF8("plain ascii text, longer than a word\x7F"));
    assert_true(utf8("\0", 1));
    assert_true(UTF8("\xC2\x80\xDF\xBF"));
    assert_true(UTF8("\xE0\xA0\x80\xEC\xBF\xBF"));
    assert_true(UTF8("\xED\x80\x80\xED\x9F\xBF"));
    assert_true(UTF8("\xEE\x80\x80\xEF\xBF\xBF"));
    assert_true(UTF8("\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"));
    assert_true(UTF8("caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"));
}

static void utf8_rejects_overlong_forms(void **state)
{
    (void)state;
    assert_false(UTF8("\xC0\x80"));
    assert_false(UTF8("\xC0\xAF"));
    assert_false(UTF8("\xC1\xBF"));
    assert_false(UTF8("\xE0\x80\x80"));
    assert_false(UTF8("\xE0\x9F\xBF"));
    assert_false(UTF8("\xF0\x80\x80\x80"));
    assert_false(UTF8("\xF0\x8F\xBF\xBF"));
    assert_false(UTF8("\xF8\x88\x80\x80\x80"));
}

static void utf8_rejects_surrogates_and_what_lies_above_unicode(void **state)
{
    (void)state;
    assert_false(UTF8("\xED\xA0\x80"));
    assert_false(UTF8("\xED\xBF\xBF"));
    assert_false(UTF8("\xED\xA0\xBD\xED\xB8\x80"));
    assert_false(UTF8("\xF4\x90\x80\x80"));
    assert_false(UTF8("\xF5\x80\x80\x80"));
    assert_false(UTF8("\xFE"));
    assert_false(UTF8("\xFF"));
}

static void utf8_rejects_stray_and_missing_continuations(void **state)
{
    static const char whole[] = "\xF0\x9F\x98\x80";

    (void)state;
    assert_false(UTF8("\x80"));
    assert_false(UTF8("a\xBF"));
    assert_false(UTF8("\xC3("));
    assert_false(UTF8("\xE2\x82("));
    assert_false(UTF8("\xF0\x9F\x98("));
    for (size_t n = 1; n < 4; n++)
        assert_false(utf8(whole, n));
    /* Where the eight-byte steps end. */
    for (size_t ascii = 0; ascii < 20; ascii++) {
        char text[24];

        memset(text, 'a', sizeof(text));
        text[ascii] = '\xC3';
        assert_false(utf8(text, ascii + 1));
        assert_int_equal(slice_utf8_prefix(slice_make(text, ascii + 1)), ascii);
        text[ascii + 1] = '\xA9';
        assert_true(utf8(text, ascii + 2));
    }
}

static void u64_is_strict(void **state)
{
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "+1",
                                      "-1",
                                      "1a",
                                      "0x1",
                                      "1.0",
                                      "1e3",
                                      "18446744073709551616",
                                      "99999999999999999999"};
    uint64_t v = 7;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(slice_to_u64(slice_of(bad[i]), &v));
        assert_int_equal(v, 7);
    }
    assert_true(slice_to_u64(SLICE_LIT("0"), &v));
    assert_int_equal(v, 0);
    assert_true(slice_to_u64(SLICE_LIT("000000000000000000000000012"), &v));
    assert_int_equal(v, 12);
    assert_true(slice_to_u64(SLICE_LIT("18446744073709551615"), &v));
    assert_true(v == UINT64_MAX);
}

static void i64_takes_signs_and_both_extremes(void **state)
{
    static const char *const bad[] = {"",
                                      "-",
                                      "+",
                                      "--1",
                                      "+-1",
                                      "- 1",
                                      "1-",
                                      "9223372036854775808",
                                      "-9223372036854775809"};
    int64_t v = 7;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(slice_to_i64(slice_of(bad[i]), &v));
        assert_int_equal(v, 7);
    }
    assert_true(slice_to_i64(SLICE_LIT("-0"), &v));
    assert_true(v == 0);
    assert_true(slice_to_i64(SLICE_LIT("+12"), &v));
    assert_true(v == 12);
    assert_true(slice_to_i64(SLICE_LIT("9223372036854775807"), &v));
    assert_true(v == INT64_MAX);
    assert_true(slice_to_i64(SLICE_LIT("-9223372036854775808"), &v));
    assert_true(v == INT64_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_bytewise_and_shorter_first),
        cmocka_unit_test(nocase_folds_ascii_only),
        cmocka_unit_test(trim_takes_ascii_blanks_at_both_ends),
        cmocka_unit_test(dup_terminates_and_reports_lack_of_memory),
        cmocka_unit_test(utf8_accepts_the_ends_of_every_range),
        cmocka_unit_test(utf8_rejects_overlong_forms),
        cmocka_unit_test(utf8_rejects_surrogates_and_what_lies_above_unicode),
        cmocka_unit_test(utf8_rejects_stray_and_missing_continuations),
        cmocka_unit_test(u64_is_strict),
        cmocka_unit_test(i64_takes_signs_and_both_extremes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
