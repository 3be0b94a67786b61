/* Buffers: limits to the byte, sticky failures, lack of memory. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/alloc_faults.h"

#include "base/buf.c" // NOLINT(bugprone-suspicious-include)

static void assert_holds(const struct buf *b, const char *text)
{
    assert_int_equal(b->len, strlen(text));
    assert_memory_equal(b->len ? b->ptr : "", text, b->len);
}

static void appends_of_all_kinds_follow_each_other(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    buf_put(&b, "ab", 2);
    buf_put(&b, NULL, 0);
    buf_putc(&b, ' ');
    buf_puts(&b, "cd");
    buf_put_slice(&b, slice_of(NULL));
    buf_put_slice(&b, SLICE_LIT(" e "));
    buf_put_u64(&b, 0);
    buf_putc(&b, ' ');
    buf_put_u64(&b, UINT64_MAX);
    buf_putc(&b, ' ');
    buf_put_i64(&b, INT64_MIN);
    buf_putc(&b, ' ');
    buf_put_i64(&b, 42);
    buf_printf(&b, " %s-%d", "f", 7);
    assert_int_equal(b.failed, 0);
    assert_holds(&b, "ab cd e 0 18446744073709551615 -9223372036854775808 42 f-7");
    buf_fini(&b);
}

static void integers_are_little_endian(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 12);
    buf_put_le32(&b, 0x04030201u);
    buf_put_le64(&b, 0xF8F7F6F5F4F3F2F1u);
    assert_int_equal(b.failed, 0);
    assert_int_equal(b.len, 12);
    assert_memory_equal(b.ptr, "\x01\x02\x03\x04\xF1\xF2\xF3\xF4\xF5\xF6\xF7\xF8", 12);
    buf_fini(&b);
}

static void the_maximum_is_met_to_the_byte_and_failure_sticks(void **state)
{
    struct buf b;

    (void)state;
    for (size_t max = 0; max < 200; max++) {
        buf_init(&b, max);
        for (size_t i = 0; i < max; i++)
            buf_putc(&b, 'x');
        assert_int_equal(b.failed, 0);
        assert_int_equal(b.len, max);
        buf_putc(&b, 'y');
        assert_int_equal(b.failed, ERR_LIMIT);
        assert_int_equal(b.len, max);
        buf_put(&b, "", 0);
        assert_null(buf_reserve(&b, 0));
        buf_fini(&b);
    }
}

static void a_failed_append_leaves_no_part_of_itself(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 5);
    buf_puts(&b, "abc");
    buf_put_i64(&b, -10);
    assert_int_equal(b.failed, ERR_LIMIT);
    buf_putc(&b, 'd'); /* would fit, but the writer has failed */
    assert_holds(&b, "abc");
    buf_reset(&b, SIZE_MAX);
    assert_int_equal(b.failed, 0);
    buf_puts(&b, "abc");
    buf_printf(&b, "%s", "def");
    assert_int_equal(b.failed, ERR_LIMIT);
    assert_holds(&b, "abc");
    buf_fini(&b);
}

static void huge_sizes_do_not_wrap(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, SIZE_MAX);
    buf_puts(&b, "abc");
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_int_equal(b.failed, ERR_LIMIT);
    buf_reset(&b, SIZE_MAX);
    buf_puts(&b, "abc");
    assert_null(buf_reserve(&b, SIZE_MAX - 2));
    assert_int_equal(b.failed, ERR_LIMIT);
    assert_holds(&b, "abc");
    buf_fini(&b);
}

static void printf_fills_the_exact_room(void **state)
{
    struct buf b;

    (void)state;
    for (size_t n = 0; n < 200; n++) {
        buf_init(&b, n);
        buf_printf(&b, "%*s", (int)n, "");
        assert_int_equal(b.failed, 0);
        assert_int_equal(b.len, n);
        buf_fini(&b);
    }
}

static void reset_keeps_small_memory_and_drops_large(void **state)
{
    struct buf b;
    char *before;

    (void)state;
    buf_init(&b, 10000);
    buf_puts(&b, "abc");
    before = b.ptr;
    buf_reset(&b, 1000);
    assert_ptr_equal(b.ptr, before);
    assert_int_equal(b.len, 0);
    assert_non_null(buf_reserve(&b, 5000));
    buf_reset(&b, 1000);
    assert_null(b.ptr);
    assert_int_equal(b.cap, 0);
    buf_puts(&b, "again");
    assert_holds(&b, "again");
    buf_fini(&b);
}

static void consume_and_truncate_cut_the_ends(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    buf_consume(&b, 0);
    buf_truncate(&b, 0);
    buf_puts(&b, "abcdef");
    buf_consume(&b, 2);
    assert_holds(&b, "cdef");
    buf_truncate(&b, 3);
    assert_holds(&b, "cde");
    buf_consume(&b, 3);
    assert_holds(&b, "");
    buf_fini(&b);
}

static void take_hands_over_terminated_memory(void **state)
{
    struct buf b;
    size_t len = 99;
    char *text;

    (void)state;
    buf_init(&b, 3);
    buf_puts(&b, "abc"); /* the NUL does not count against the maximum */
    text = buf_take(&b, &len);
    assert_string_equal(text, "abc");
    assert_int_equal(len, 3);
    assert_null(b.ptr);
    free(text);
    text = buf_take(&b, NULL);
    assert_string_equal(text, "");
    free(text);
    buf_puts(&b, "abcd");
    assert_null(buf_take(&b, &len));
    assert_int_equal(len, 0);
    assert_int_equal(b.failed, ERR_LIMIT);
    buf_fini(&b);
}

static void each_failing_allocation_is_reported_and_loses_nothing(void **state)
{
    (void)state;
    for (size_t nth = 1; nth <= 5; nth++) {
        struct buf b;
        size_t whole = 0;

        buf_init(&b, 100000);
        alloc_fail_nth(nth);
        while (!b.failed && whole < 1000) {
            buf_puts(&b, "0123456789");
            if (!b.failed)
                whole++;
        }
        assert_int_equal(b.failed, ERR_MEMORY);
        assert_int_equal(b.len, whole * 10);
        assert_null(buf_take(&b, NULL));
        alloc_fail_nth(0);
        buf_reset(&b, SIZE_MAX);
        buf_puts(&b, "fine");
        assert_holds(&b, "fine");
        buf_fini(&b);
    }
}

static void a_take_without_memory_gives_null(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 10);
    alloc_fail_nth(1);
    assert_null(buf_take(&b, NULL));
    alloc_fail_nth(0);
    assert_int_equal(b.failed, ERR_MEMORY);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_of_all_kinds_follow_each_other),
        cmocka_unit_test(integers_are_little_endian),
        cmocka_unit_test(the_maximum_is_met_to_the_byte_and_failure_sticks),
        cmocka_unit_test(a_failed_append_leaves_no_part_of_itself),
        cmocka_unit_test(huge_sizes_do_not_wrap),
        cmocka_unit_test(printf_fills_the_exact_room),
        cmocka_unit_test(reset_keeps_small_memory_and_drops_large),
        cmocka_unit_test(consume_and_truncate_cut_the_ends),
        cmocka_unit_test(take_hands_over_terminated_memory),
        cmocka_unit_test(each_failing_allocation_is_reported_and_loses_nothing),
        cmocka_unit_test(a_take_without_memory_gives_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
