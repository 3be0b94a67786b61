/* The tree of ranges beside a linear scan, with thousands of them of each type; what fails in
 * want of memory changes nothing. RANGE_SEED chooses others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/alloc_faults.h"

#include "server/route/range.c"

#define RANGES 3000
#define STEPS  30000

struct model {
    struct sql_type type;
    uint64_t random;
    struct range_node *root;
    struct posting *postings; /* RANGES; extra NULL: not in the tree */
    struct extra *extras;
    struct sql_value *ends; /* two for each */
    struct sql_cond *conds;
    bool *found;
    size_t found_count;
    struct arena arena;
};

static uint32_t below(struct model *m, uint32_t n)
{
    m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(m->random >> 33) % n;
}

/* Values near each other, and extremes; texts with the same first bytes. */
static void random_text(struct model *m, char *to, size_t size)
{
    int n = (int)below(m, 4000);
    bool extreme = below(m, 50) == 0;
    switch ((int)m->type.base) {
    case SQL_INT8:
        snprintf(to, size, "%s",
                 extreme && n % 2 ? "9223372036854775807"
                 : extreme        ? "-9223372036854775808"
                                  : "");
        if (!extreme)
            snprintf(to, size, "%d", n - 2000);
        break;
    case SQL_NUMERIC:
        snprintf(to, size, "%s", n % 2 ? "NaN" : "-Infinity");
        if (!extreme)
            snprintf(to, size, "%d.0000000000000%d", n % 40 - 20, n);
        break;
    case SQL_FLOAT8:
        snprintf(to, size, "%s", n % 2 ? "NaN" : "-0");
        if (!extreme)
            snprintf(to, size, "%d.5", n - 2000);
        break;
    case SQL_INTERVAL:
        snprintf(to, size, "%d months %d days %d.5 seconds", n % 7 - 3, n % 61, n);
        break;
    case SQL_DATE:
        snprintf(to, size, "%s", n % 2 ? "infinity" : "-infinity");
        if (!extreme)
            snprintf(to, size, "%d-01-%02d", 1900 + n / 20, n % 20 + 1);
        break;
    default:
        snprintf(to, size, "%s%d", n % 3 ? "https://" : "", n);
        break;
    }
}

static struct sql_value random_value(struct model *m)
{
    char text[64];
    struct sql_value v;
    random_text(m, text, sizeof text);
    char *copy = arena_dup(&m->arena, slice_of(text));
    assert_non_null(copy);
    assert_int_equal(sql_value_in(m->type, slice_of(copy), &m->arena, &v, NULL), 0);
    return v;
}

static bool holds(const struct model *m, const struct sql_cond *c,
                  const struct sql_value *v)
{
    int low = c->low == NULL ? -1 : sql_value_cmp(m->type, c->low, v);
    int high = c->high == NULL ? 1 : sql_value_cmp(m->type, c->high, v);
    return (low < 0 || (low == 0 && !c->low_open)) &&
           (high > 0 || (high == 0 && !c->high_open));
}

static int put(struct model *m, size_t i)
{
    struct sql_cond *c = &m->conds[i];
    *c = (struct sql_cond){.kind = SQL_COND_RANGE, .type = m->type};
    m->ends[2 * i] = random_value(m);
    m->ends[2 * i + 1] = random_value(m);
    /* Most ranges are short. */
    if (m->type.base == SQL_INT8 && below(m, 10) > 0)
        m->ends[2 * i + 1].i = m->ends[2 * i].i / 2 + 3;
    if (below(m, 10) > 0)
        c->low = &m->ends[2 * i];
    if (below(m, 10) > 0 || c->low == NULL)
        c->high = &m->ends[2 * i + 1];
    c->low_open = c->low != NULL && below(m, 2) == 0;
    c->high_open = c->high != NULL && below(m, 2) == 0;
    m->extras[i] = (struct extra){0};
    m->postings[i] = (struct posting){.index = (uint32_t)i, .extra = &m->extras[i]};
    int rc = range_new(c, &m->extras[i].range);
    if (rc == 0)
        rc = range_put(&m->root, m->type, &m->postings[i]);
    if (rc < 0) {
        range_free(m->extras[i].range);
        m->postings[i].extra = NULL;
    }
    return rc;
}

static void take(struct model *m, size_t i)
{
    range_remove(&m->root, m->type, &m->postings[i]);
    range_free(m->extras[i].range);
    m->postings[i].extra = NULL;
}

static int hit(void *ctx, struct posting *p)
{
    struct model *m = ctx;
    assert_false(m->found[p->index]);
    m->found[p->index] = true;
    m->found_count++;
    return 0;
}

static void check(struct model *m)
{
    struct sql_value v = random_value(m);
    struct range_found found = {hit, m};
    size_t expected = 0;
    m->found_count = 0;
    if (m->root != NULL)
        assert_int_equal(range_stab(m->root, m->type, &v, &found), 0);
    for (size_t i = 0; i < RANGES; i++) {
        bool in = m->postings[i].extra != NULL && holds(m, &m->conds[i], &v);
        assert_int_equal(m->found[i], in);
        m->found[i] = false;
        expected += in;
    }
    assert_int_equal(m->found_count, expected);
}

static void model_set_up(struct model *m, enum sql_base base)
{
    const char *seed = getenv("RANGE_SEED");
    *m = (struct model){.type = {.base = base, .typmod = -1},
                        .random = seed == NULL ? 7 : strtoull(seed, NULL, 10)};
    arena_init(&m->arena, (size_t)256 << 20);
    m->postings = calloc(RANGES, sizeof *m->postings);
    m->extras = calloc(RANGES, sizeof *m->extras);
    m->ends = calloc((size_t)2 * RANGES, sizeof *m->ends);
    m->conds = calloc(RANGES, sizeof *m->conds);
    m->found = calloc(RANGES, sizeof *m->found);
}

static void model_tear_down(struct model *m)
{
    for (size_t i = 0; i < RANGES; i++) {
        if (m->postings[i].extra != NULL)
            take(m, i);
    }
    assert_null(m->root);
    arena_fini(&m->arena);
    free(m->postings);
    free(m->extras);
    free(m->ends);
    free(m->conds);
    free(m->found);
}

static void stabs_equal_a_scan(enum sql_base base)
{
    struct model m;
    model_set_up(&m, base);
    for (size_t step = 0; step < STEPS; step++) {
        size_t i = below(&m, RANGES);
        /* It fills, stays full for a while, and empties. */
        bool filling = step % 10000 < 6000 || below(&m, 8) == 0;
        if (m.postings[i].extra != NULL && (!filling || below(&m, 2) == 0))
            take(&m, i);
        else if (m.postings[i].extra == NULL && filling)
            assert_int_equal(put(&m, i), 0);
        if (step % 20 == 0)
            check(&m);
    }
    model_tear_down(&m);
}

static void integers(void **state)
{
    (void)state;
    stabs_equal_a_scan(SQL_INT8);
}

static void dates(void **state)
{
    (void)state;
    stabs_equal_a_scan(SQL_DATE);
}

static void floats(void **state)
{
    (void)state;
    stabs_equal_a_scan(SQL_FLOAT8);
}

static void numerics(void **state)
{
    (void)state;
    stabs_equal_a_scan(SQL_NUMERIC);
}

static void texts(void **state)
{
    (void)state;
    stabs_equal_a_scan(SQL_TEXT);
}

static void intervals(void **state)
{
    (void)state;
    stabs_equal_a_scan(SQL_INTERVAL);
}

static void failed_allocations_change_nothing(void **state)
{
    (void)state;
    struct model m;
    size_t failures = 0;
    model_set_up(&m, SQL_NUMERIC);
    for (size_t i = 0; i < RANGES; i++) {
        for (size_t n = 1; m.postings[i].extra == NULL; n++) {
            alloc_fail_nth(n);
            int rc = put(&m, i);
            alloc_fail_nth(0);
            assert_true(rc == 0 || rc == ERR_MEMORY);
            failures += rc != 0;
        }
        if (i % 10 == 0)
            check(&m);
    }
    assert_true(failures > RANGES);
    model_tear_down(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers),
        cmocka_unit_test(dates),
        cmocka_unit_test(floats),
        cmocka_unit_test(numerics),
        cmocka_unit_test(texts),
        cmocka_unit_test(intervals),
        cmocka_unit_test(failed_allocations_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
