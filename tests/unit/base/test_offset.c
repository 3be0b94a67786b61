/* Offsets: the text forms of shape-protocol.md section 3 and their order. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/offset.h"

static void assert_normalised(const char *text, const char *expected)
{
    struct offset o;
    char out[OFFSET_TEXT_MAX];

    if (!offset_parse(slice_of(text), &o))
        fail_msg("\"%s\" was refused", text);
    assert_int_equal(offset_print(o, out), strlen(expected));
    assert_string_equal(out, expected);
}

static void every_form_parses_and_prints(void **state)
{
    (void)state;
    assert_normalised("-1", "-1");
    assert_normalised("0_0", "0_0");
    assert_normalised("0_7", "0_7");
    assert_normalised("0_inf", "0_inf");
    assert_normalised("5_inf", "5_inf");
    assert_normalised("26877328_4", "26877328_4");
    assert_normalised("18446744073709551615_18446744073709551614",
                      "18446744073709551615_18446744073709551614");
}

static void odd_spellings_are_accepted_and_normalised(void **state)
{
    (void)state;
    assert_normalised("-1_0", "-1");
    assert_normalised("-1_00", "-1");
    assert_normalised("-01_+0", "-1");
    assert_normalised("+1_0", "1_0");
    assert_normalised("01_00", "1_0");
    assert_normalised("1_+2", "1_2");
    assert_normalised("-0_0", "0_0");
    assert_normalised("0_-0", "0_0");
    assert_normalised("000000000000000000000000000001_1", "1_1");
}

static void numbers_above_uint64_saturate(void **state)
{
    struct offset o;

    (void)state;
    assert_normalised("18446744073709551616_0", "18446744073709551615_0");
    assert_normalised("999999999999999999999999999999_3", "18446744073709551615_3");
    assert_true(offset_parse(SLICE_LIT("7_18446744073709551616"), &o));
    assert_true(o.tx == 7 && o.op == OFFSET_OP_INF);
    assert_false(offset_parse(SLICE_LIT("99999999999999999999999x_0"), &o));
    assert_false(offset_parse(SLICE_LIT("-99999999999999999999999_0"), &o));
}

static void malformed_text_is_refused(void **state)
{
    static const char *const bad[] = {
        "",      "10",  "1_2_3",  "0_0 ",  " 0_0",  "-5_0",      "0_-1",   "10_32.1",
        "abc",   "1_",  "_1",     "_",     "-2",    "1_infx",    "inf",    "NOW",
        "now_0", "now", "-1_inf", "0x1_0", "1e3_0", "-1_1",      "-1_-1",  "+_0",
        "-_0",   "0_+", "0_-",    "++1_0", "+-1_0", "0_Inf",     "0_+inf", "inf_0",
        "-01",   "-1 ", "1__2",   "0_0\n", "+1",    "\xC2\xB2_0"};
    struct offset o = {.tx = 77};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (offset_parse(slice_of(bad[i]), &o))
            fail_msg("\"%s\" was accepted", bad[i]);
        assert_int_equal(o.tx, 77);
    }
    assert_false(offset_parse(slice_of(NULL), &o));
    assert_false(offset_parse(SLICE_LIT("0_0\0"), &o));
}

static void order_is_by_tx_then_op(void **state)
{
    static const char *const ascending[] = {"-1",
                                            "0_0",
                                            "0_1",
                                            "0_inf",
                                            "1_0",
                                            "1_2",
                                            "1_10",
                                            "1_inf",
                                            "2_0",
                                            "18446744073709551615_0",
                                            "18446744073709551615_inf"};
    const int count = (int)(sizeof(ascending) / sizeof(ascending[0]));

    (void)state;
    for (int i = 0; i < count; i++) {
        for (int j = 0; j < count; j++) {
            struct offset a;
            struct offset b;

            assert_true(offset_parse(slice_of(ascending[i]), &a));
            assert_true(offset_parse(slice_of(ascending[j]), &b));
            assert_int_equal(offset_cmp(a, b), (i > j) - (i < j));
        }
    }
}

static void virtual_offsets_belong_to_the_snapshot(void **state)
{
    (void)state;
    assert_false(offset_is_virtual(OFFSET_BEFORE_ALL));
    assert_true(offset_is_virtual(OFFSET_SNAPSHOT_END));
    assert_true(offset_is_virtual((struct offset){.tx = 0, .op = 3}));
    assert_false(offset_is_virtual((struct offset){.tx = 1, .op = 0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_parses_and_prints),
        cmocka_unit_test(odd_spellings_are_accepted_and_normalised),
        cmocka_unit_test(numbers_above_uint64_saturate),
        cmocka_unit_test(malformed_text_is_refused),
        cmocka_unit_test(order_is_by_tx_then_op),
        cmocka_unit_test(virtual_offsets_belong_to_the_snapshot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
