/* Arenas: alignment, limits, what a reset keeps, lack of memory. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/alloc_faults.h"

#include "base/arena.c" // NOLINT(bugprone-suspicious-include)

static size_t block_count(const struct arena *a)
{
    size_t n = 0;

    for (const struct arena_block *block = a->head; block; block = block->next)
        n++;
    return n;
}

static void memory_is_aligned_and_distinct(void **state)
{
    static const size_t sizes[] = {1, 0, 15, 16, 17, 100, 5000, 3, 0, 2000000, 7};
    unsigned char *got[sizeof(sizes) / sizeof(sizes[0])];
    struct arena a;

    (void)state;
    arena_init(&a, SIZE_MAX);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        got[i] = arena_alloc(&a, sizes[i]);
        assert_non_null(got[i]);
        assert_int_equal((uintptr_t)got[i] % 16, 0);
        memset(got[i], (int)i, sizes[i]);
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t j = 0; j < sizes[i]; j++)
            assert_int_equal(got[i][j], i);
    }
    arena_fini(&a);
}

static void the_maximum_counts_rounded_bytes(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 64);
    assert_non_null(arena_alloc(&a, 17));
    assert_int_equal(a.used_bytes, 32);
    assert_null(arena_alloc(&a, 33));
    assert_non_null(arena_alloc(&a, 32));
    assert_null(arena_alloc(&a, 0));
    arena_reset(&a);
    assert_non_null(arena_alloc(&a, 64));
    arena_fini(&a);
}

static void impossible_sizes_give_null(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, SIZE_MAX);
    assert_non_null(arena_alloc(&a, 1));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 16));
    assert_null(arena_calloc(&a, SIZE_MAX / 2, 3));
    assert_null(arena_dup(&a, slice_make("x", SIZE_MAX)));
    assert_non_null(arena_calloc(&a, SIZE_MAX, 0));
    arena_fini(&a);
}

static void cleared_memory_is_zero_also_when_reused(void **state)
{
    static const unsigned char zeros[1000];
    struct arena a;

    (void)state;
    arena_init(&a, SIZE_MAX);
    memset(arena_alloc(&a, 3000), 0xFF, 3000);
    arena_reset(&a);
    assert_memory_equal(arena_zalloc(&a, 1000), zeros, 1000);
    assert_memory_equal(arena_calloc(&a, 100, 10), zeros, 1000);
    arena_fini(&a);
}

static void copies_are_terminated(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, SIZE_MAX);
    assert_memory_equal(arena_dup(&a, SLICE_LIT("a\0b")), "a\0b", 4);
    assert_string_equal(arena_dup(&a, slice_of(NULL)), "");
    assert_string_equal(arena_printf(&a, "%s-%d", "x", 12), "x-12");
    assert_string_equal(arena_printf(&a, "%s", ""), "");
    assert_int_equal(strlen(arena_printf(&a, "%5000d", 1)), 5000);
    arena_fini(&a);
}

static void a_steady_load_allocates_nothing_after_a_while(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, SIZE_MAX);
    for (int round = 0; round < 20; round++) {
        if (round == 10)
            alloc_fail_nth(1); /* none is asked for any more */
        for (int i = 0; i < 1000; i++)
            assert_non_null(arena_alloc(&a, 200));
        arena_reset(&a);
        assert_int_equal(block_count(&a), 1);
        assert_int_equal(a.used_bytes, 0);
    }
    alloc_fail_nth(0);
    arena_fini(&a);
}

static void a_reset_lets_go_of_one_huge_block(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, SIZE_MAX);
    assert_non_null(arena_alloc(&a, 10));
    assert_non_null(arena_alloc(&a, 50 * 1024 * 1024));
    arena_reset(&a);
    assert_int_equal(block_count(&a), 1);
    assert_true(a.head->size <= 1024 * 1024);
    arena_reset(&a);
    assert_int_equal(block_count(&a), 1);
    arena_fini(&a);
    assert_null(a.head);
}

static void a_large_request_leaves_the_filled_block_in_front(void **state)
{
    struct arena a;
    char *first;
    char *second;

    (void)state;
    arena_init(&a, SIZE_MAX);
    first = arena_alloc(&a, 16);
    assert_non_null(arena_alloc(&a, 100000));
    second = arena_alloc(&a, 16);
    assert_ptr_equal(second, first + 16);
    arena_fini(&a);
}

static void each_failing_allocation_gives_null_and_the_arena_goes_on(void **state)
{
    (void)state;
    for (size_t nth = 1; nth <= 6; nth++) {
        struct arena a;
        size_t failures = 0;

        arena_init(&a, SIZE_MAX);
        alloc_fail_nth(nth);
        for (int i = 0; i < 3000; i++) {
            size_t used = a.used_bytes;
            unsigned char *got = arena_zalloc(&a, 100);

            if (!got) {
                failures++;
                assert_int_equal(a.used_bytes, used);
            }
        }
        assert_int_equal(failures, 1);
        alloc_fail_nth(0);
        arena_fini(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_aligned_and_distinct),
        cmocka_unit_test(the_maximum_counts_rounded_bytes),
        cmocka_unit_test(impossible_sizes_give_null),
        cmocka_unit_test(cleared_memory_is_zero_also_when_reused),
        cmocka_unit_test(copies_are_terminated),
        cmocka_unit_test(a_steady_load_allocates_nothing_after_a_while),
        cmocka_unit_test(a_reset_lets_go_of_one_huge_block),
        cmocka_unit_test(a_large_request_leaves_the_filled_block_in_front),
        cmocka_unit_test(each_failing_allocation_gives_null_and_the_arena_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
