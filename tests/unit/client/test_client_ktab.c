/* The hash table of collections against a plain array. */
#include "client/collection/ktab.h"
#include "support/client.h"

enum { MANY = 3000 };

struct thing {
    int64_t key;
    int there;
};

static coulomb_key thing_key(const void *item)
{
    return coulomb_key_int(((const struct thing *)item)->key);
}

static uint32_t rnd(uint64_t *state, uint32_t n)
{
    *state = *state * UINT64_C(6364136223846793005) + 1;
    return (uint32_t)(*state >> 33) % n;
}

/* hashes: how many different ones there are, few making long runs of slots. */
static void puts_and_removes(uint32_t hashes, int steps)
{
    struct thing *things = calloc(MANY, sizeof(*things));
    struct heap *h = heap_new(NULL);
    struct ktab t;
    uint64_t state = hashes;
    size_t live = 0;
    size_t it = 0;

    assert_non_null(things);
    assert_non_null(h);
    ktab_init(&t, h, thing_key);
    for (int step = 0; step < steps; step++) {
        uint32_t i = rnd(&state, MANY);
        uint32_t hash = i % hashes * 2654435761u;
        struct kent *e = ktab_find(&t, coulomb_key_int(i), hash);

        assert_int_equal(e != NULL, things[i].there);
        if (e && rnd(&state, 2)) {
            ktab_remove(&t, e);
            things[i].there = 0;
            live--;
        } else if (!e) {
            things[i].key = i;
            things[i].there = 1;
            OK(ktab_reserve(&t, 1));
            ktab_put(&t, &things[i], hash);
            live++;
        }
        assert_int_equal(t.live, live);
    }
    while (ktab_next(&t, &it))
        live--;
    assert_int_equal(live, 0);
    ktab_fini(&t);
    assert_int_equal(h->bytes, sizeof(*h));
    heap_release(h);
    free(things);
}

static void a_table_equals_an_array(void **state)
{
    (void)state;
    puts_and_removes(UINT32_MAX, 60000);
    puts_and_removes(97, 60000);
    puts_and_removes(1, 4000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_equals_an_array),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
