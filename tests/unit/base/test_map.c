/* Maps: random operations against a naive truth, edges, lack of memory. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>

#include "support/alloc_faults.h"

#include "base/map.c" // NOLINT(bugprone-suspicious-include)

#define KEYS 3000

/* A small generator with a fixed seed, so that a failure repeats. */
static uint64_t next_random(uint64_t *s)
{
    uint64_t z = *s += 0x9E3779B97F4A7C15u;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static void *value_of(uintptr_t n)
{
    return (void *)n;
}

/* Keys of 1 to 40 bytes with their number in front: inline ones, heap ones, the edge. */
static struct slice key_of(unsigned n, char out[48])
{
    size_t len = (size_t)snprintf(out, 48, "%u", n);
    size_t want = n % 40 + 1;

    while (len < want)
        out[len++] = (char)('a' + n % 26);
    return slice_make(out, len);
}

static void check_against(const struct map *m, const uintptr_t model[KEYS])
{
    size_t expected = 0;
    size_t seen = 0;
    size_t it = 0;
    struct slice key;
    void *value;

    for (unsigned i = 0; i < KEYS; i++) {
        char text[48];

        assert_ptr_equal(map_get(m, key_of(i, text)), value_of(model[i]));
        expected += model[i] != 0;
    }
    while (map_next(m, &it, &key, &value)) {
        unsigned n = (unsigned)((uintptr_t)value >> 32);
        char text[48];

        assert_true(n < KEYS);
        assert_true(slice_eq(key, key_of(n, text)));
        assert_ptr_equal(value, value_of(model[n]));
        seen++;
    }
    assert_int_equal(seen, expected);
    assert_int_equal(m->len, expected);
}

static void random_step(struct map *m, uintptr_t model[KEYS], uint64_t *rng, bool shrink)
{
    unsigned n = (unsigned)(next_random(rng) % KEYS);
    unsigned dice = (unsigned)(next_random(rng) % 10);
    char text[48];
    struct slice key = key_of(n, text);

    if (dice < (shrink ? 2u : 5u)) {
        uintptr_t value = (uintptr_t)n << 32 | (uintptr_t)(next_random(rng) % 1000 + 1);
        void *previous = m;

        assert_int_equal(map_put(m, key, value_of(value), &previous), 0);
        assert_ptr_equal(previous, value_of(model[n]));
        model[n] = value;
    } else if (dice < 9) {
        assert_ptr_equal(map_del(m, key), value_of(model[n]));
        model[n] = 0;
    } else {
        assert_ptr_equal(map_get(m, key), value_of(model[n]));
    }
}

static void random_operations_match_a_naive_model(void **state)
{
    static uintptr_t model[KEYS];
    uint64_t rng = 20260131;
    struct map m;

    (void)state;
    map_init(&m);
    for (int i = 0; i < 100000; i++) {
        random_step(&m, model, &rng, i / 10000 % 2 == 1);
        if (i % 5000 == 0)
            check_against(&m, model);
    }
    check_against(&m, model);
    map_fini(&m);
}

/* Every entry must be reachable from its home without an empty slot between. */
static void check_probe_runs(const struct map *m)
{
    for (size_t i = 0; i < m->cap; i++) {
        if (m->slots[i].hash == 0)
            continue;
        for (size_t j = m->slots[i].hash & (m->cap - 1); j != i;
             j = (j + 1) & (m->cap - 1))
            assert_true(m->slots[j].hash != 0);
    }
}

static void deletes_in_a_full_table_keep_probe_runs_whole(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 200; round++) {
        struct map m;

        map_init(&m);
        for (uint64_t k = 0; k < 48; k++) /* 3/4 of 64 */
            assert_int_equal(map_put_u64(&m, k, value_of(k + 1), NULL), 0);
        assert_int_equal(m.cap, 64);
        for (uint64_t k = 0; k < 48; k++) {
            uint64_t victim = (k * 5 + round) % 48;

            assert_ptr_equal(map_del_u64(&m, victim), value_of(victim + 1));
            check_probe_runs(&m);
        }
        assert_int_equal(m.len, 0);
        map_fini(&m);
    }
}

static void an_empty_map_answers_without_memory(void **state)
{
    struct map m;
    size_t it = 0;

    (void)state;
    map_init(&m);
    assert_null(map_get(&m, SLICE_LIT("x")));
    assert_null(map_del(&m, SLICE_LIT("x")));
    assert_null(map_get_u64(&m, 1));
    assert_false(map_next(&m, &it, NULL, NULL));
    assert_null(m.slots);
    map_fini(&m);
}

static void keys_are_bytes_and_copied(void **state)
{
    char key[] = "a key of more than sixteen bytes";
    struct map m;

    (void)state;
    map_init(&m);
    assert_int_equal(map_put(&m, slice_of(key), value_of(1), NULL), 0);
    assert_int_equal(map_put(&m, slice_of(NULL), value_of(2), NULL), 0);
    assert_int_equal(map_put(&m, SLICE_LIT("a\0b"), value_of(3), NULL), 0);
    assert_int_equal(map_put(&m, SLICE_LIT("a"), value_of(4), NULL), 0);
    memset(key, 'z', sizeof(key) - 1);
    assert_null(map_get(&m, slice_of(key)));
    assert_ptr_equal(map_get(&m, SLICE_LIT("a key of more than sixteen bytes")),
                     value_of(1));
    assert_ptr_equal(map_get(&m, SLICE_LIT("")), value_of(2));
    assert_ptr_equal(map_get(&m, SLICE_LIT("a\0b")), value_of(3));
    assert_ptr_equal(map_get(&m, SLICE_LIT("a")), value_of(4));
    map_fini(&m);
}

static void numbers_cover_the_whole_range(void **state)
{
    static const uint64_t keys[] = {0, 1, UINT64_MAX, (uint64_t)1 << 63, 0xFFFFFFFF};
    struct map m;
    void *previous;

    (void)state;
    map_init(&m);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(map_put_u64(&m, keys[i], value_of(i + 1), NULL), 0);
    for (size_t i = 0; i < 5; i++)
        assert_ptr_equal(map_get_u64(&m, keys[i]), value_of(i + 1));
    assert_int_equal(map_put_u64(&m, 0, value_of(9), &previous), 0);
    assert_ptr_equal(previous, value_of(1));
    assert_int_equal(m.len, 5);
    map_fini(&m);
}

static void maps_differ_in_their_seed(void **state)
{
    struct map a;
    struct map b;

    (void)state;
    map_init(&a);
    map_init(&b);
    assert_int_equal(map_put_u64(&a, 1, &a, NULL), 0);
    assert_int_equal(map_put_u64(&b, 1, &b, NULL), 0);
    assert_true(a.seed != b.seed);
    map_fini(&a);
    map_fini(&b);
}

static void a_failing_allocation_leaves_the_map_as_it_was(void **state)
{
    (void)state;
    for (size_t nth = 1; nth <= 40; nth++) {
        static uintptr_t model[KEYS];
        struct map m;
        bool failed = false;

        memset(model, 0, sizeof(model));
        map_init(&m);
        alloc_fail_nth(nth);
        for (unsigned i = 0; i < 100 && !failed; i++) {
            char text[48];
            void *previous = &m;
            int rc =
                map_put(&m, key_of(i, text), value_of((uintptr_t)i << 32 | 1), &previous);

            assert_null(previous);
            failed = rc == ERR_MEMORY;
            if (rc == 0)
                model[i] = (uintptr_t)i << 32 | 1;
        }
        assert_true(failed);
        alloc_fail_nth(0);
        check_against(&m, model);
        map_fini(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_match_a_naive_model),
        cmocka_unit_test(deletes_in_a_full_table_keep_probe_runs_whole),
        cmocka_unit_test(an_empty_map_answers_without_memory),
        cmocka_unit_test(keys_are_bytes_and_copied),
        cmocka_unit_test(numbers_cover_the_whole_range),
        cmocka_unit_test(maps_differ_in_their_seed),
        cmocka_unit_test(a_failing_allocation_leaves_the_map_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
