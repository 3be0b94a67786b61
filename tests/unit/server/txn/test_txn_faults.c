/* Each allocation fails once: the caller hears of it, and nothing leaks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The faults come before what they hit. */
/* clang-format off */
#include "support/alloc_faults.h"

#include "base/arena.c" // NOLINT(bugprone-suspicious-include)
#include "server/decode/relations.c" // NOLINT(bugprone-suspicious-include)
#include "server/txn/txn.c" // NOLINT(bugprone-suspicious-include)
/* clang-format on */

#include "support/frame.h"

#define FAULTS_MAX 100

static int on_begin(void *ctx, const struct txn_begin *begin, struct err *err)
{
    (void)ctx;
    (void)begin;
    (void)err;
    return 0;
}

static int on_relation(void *ctx, const struct decode_relation *relation, struct err *err)
{
    (void)ctx;
    (void)relation;
    (void)err;
    return 0;
}

static int on_change(void *ctx, const struct txn_change *change, struct err *err)
{
    unsigned *changes = ctx;

    (void)change;
    (void)err;
    ++*changes;
    return 0;
}

static int on_commit(void *ctx, uint64_t lsn, uint64_t end_lsn, struct err *err)
{
    (void)ctx;
    (void)lsn;
    (void)end_lsn;
    (void)err;
    return 0;
}

static void on_abandon(void *ctx)
{
    (void)ctx;
}

/* Feeds the n-th message of a small stream; false after the last. */
static bool feed_step(struct txn *t, struct frame *f, int step, int *rc, struct err *err)
{
    switch (step) {
    case 0:
        frame_begin(f, 100, 0, 7);
        break;
    case 1:
        frame_relation(f, 1, "public", "items", 'f', "*id:23,*t:25");
        break;
    case 2:
        frame_insert(f, 1, "1|a");
        break;
    case 3:
        frame_relation(f, 1, "public", "items", 'f', "*id:23");
        break;
    case 4:
        frame_update(f, 1, 'O', "1", "2");
        break;
    case 5:
        frame_commit(f, 100, 120);
        break;
    default:
        return false;
    }
    *rc = txn_feed(t, frame_slice(f), err);
    return true;
}

/* True when the whole stream went through. */
static bool run_with_fault(size_t nth)
{
    unsigned changes = 0;
    const struct txn_sink sink = {.ctx = &changes,
                                  .begin = on_begin,
                                  .relation = on_relation,
                                  .change = on_change,
                                  .identity_lost = on_relation,
                                  .commit = on_commit,
                                  .abandon = on_abandon};
    struct frame f;
    struct err err = {.code = 0};
    struct txn *t;
    int rc = 0;

    frame_init(&f);
    alloc_fail_nth(nth);
    t = txn_new(&sink);
    for (int step = 0; t && rc == 0 && feed_step(t, &f, step, &rc, &err); step++)
        ;
    alloc_fail_nth(0);
    if (rc != 0) {
        assert_int_equal(rc, ERR_MEMORY);
        assert_int_equal(err.code, ERR_MEMORY);
        assert_non_null(strstr(err.message, "memory"));
        txn_reset(t);
    }
    txn_free(t);
    frame_fini(&f);
    if (t && rc == 0)
        assert_int_equal(changes, 2);
    return t && rc == 0;
}

static void each_failing_allocation_is_reported(void **state)
{
    size_t nth = 1;

    (void)state;
    while (nth < FAULTS_MAX && !run_with_fault(nth))
        nth++;
    /* txn, relations, the arena, two definitions at least. */
    assert_in_range(nth, 5, FAULTS_MAX - 1);
    assert_true(run_with_fault(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_failing_allocation_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
