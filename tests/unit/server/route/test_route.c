/* Entries by relation: hits equal a scan over all entries under random adding and
 * removal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/route/route.h"

#define ENTRIES 400
#define OIDS    7

struct entry {
    struct route_entry route;
    bool in;
};

static size_t scan(const struct entry *entries, uint32_t oid)
{
    size_t n = 0;
    for (size_t i = 0; i < ENTRIES; i++)
        n += entries[i].in && entries[i].route.oid == oid;
    return n;
}

static void check(struct route *r, struct entry *entries, uint32_t oid)
{
    struct decode_relation relation = {.oid = oid};
    struct value row = {"1", 1, VALUE_TEXT};
    struct txn_change change = {.op = TXN_INSERT, .relation = &relation, .row = &row};
    const struct route_hit *hits;
    size_t count;
    assert_int_equal(route_match(r, &change, &hits, &count), 0);
    assert_int_equal(count, scan(entries, oid));
    for (size_t i = 0; i < count; i++) {
        const struct entry *e = (const struct entry *)(const void *)hits[i].entry;
        assert_true(e->in);
        assert_int_equal(e->route.oid, oid);
        assert_true(hits[i].new_in);
        assert_false(hits[i].old_in);
        for (size_t j = 0; j < i; j++)
            assert_ptr_not_equal(hits[j].entry, hits[i].entry);
    }
    size_t listed;
    route_entries(r, oid, &listed);
    assert_int_equal(listed, count);
}

static void hits_equal_a_scan(void **state)
{
    (void)state;
    struct route *r = route_new();
    struct entry *entries = calloc(ENTRIES, sizeof *entries);
    unsigned seed = 42;
    for (int step = 0; step < 20000; step++) {
        seed = seed * 1103515245u + 12345u;
        struct entry *e = &entries[(seed >> 8) % ENTRIES];
        if (e->in) {
            route_remove(r, &e->route);
        } else {
            e->route.oid = (seed >> 20) % OIDS;
            assert_int_equal(route_add(r, &e->route), 0);
        }
        e->in = !e->in;
        if (step % 50 == 0)
            check(r, entries, (uint32_t)step / 50 % (OIDS + 1));
    }
    for (size_t i = 0; i < ENTRIES; i++) {
        if (entries[i].in)
            route_remove(r, &entries[i].route);
    }
    free(entries);
    route_free(r);
}

static void an_update_hits_with_both_rows(void **state)
{
    (void)state;
    struct route *r = route_new();
    struct entry e = {.route.oid = 5};
    assert_int_equal(route_add(r, &e.route), 0);
    struct decode_relation relation = {.oid = 5};
    struct value row = {"1", 1, VALUE_TEXT};
    struct txn_change change = {
        .op = TXN_UPDATE, .relation = &relation, .old = &row, .row = &row};
    const struct route_hit *hits;
    size_t count;
    assert_int_equal(route_match(r, &change, &hits, &count), 0);
    assert_int_equal(count, 1);
    assert_true(hits[0].old_in && hits[0].new_in);
    route_remove(r, &e.route);
    route_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hits_equal_a_scan),
        cmocka_unit_test(an_update_hits_with_both_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
