/* Every n-th write, sync, open, rename, read and allocation fails, once or from then on:
 * the server goes on with what is left, and a restart finds nothing torn and nothing
 * missing. */
#include "unit/server/shapelog/faults.h"
#include "unit/server/shapelog/workload.h"

static const char *const names[FAULT_COUNT] = {
    [FAULT_WRITE] = "write", [FAULT_SYNC] = "sync",     [FAULT_TRUNCATE] = "truncate",
    [FAULT_OPEN] = "open",   [FAULT_RENAME] = "rename", [FAULT_MKDIR] = "mkdir",
    [FAULT_READ] = "read",   [FAULT_MEMORY] = "memory",
};

/* One life with a fault, then the check. False when the fault was not reached. */
static bool live_with(struct work *w, enum fault fault, long n, int error, bool sticky)
{
    struct shapelog_shape *shapes[WORK_SHAPES] = {NULL};
    struct progress progress = {0};
    struct fixture f;
    unsigned alive = 0;
    bool reached;

    fixture_init(&f, WORK_CHUNK);
    f.max_open_files = 2; /* so that files are opened again and again */
    faults_arm(fault, n, error, false, sticky);
    if (fixture_try_open(&f, NULL) == 0) {
        work_run(w, &f, shapes, &progress);
        for (unsigned s = 0; s < WORK_SHAPES; s++) {
            if (shapes[s] && !(atomic_load(&f.lost) & 1u << s))
                alive |= 1u << s;
        }
        release_all(shapes);
        fixture_close(&f);
    }
    for (unsigned s = 0; s < WORK_SHAPES; s++) {
        if (atomic_load(&f.lost) & 1u << s) /* by the last checkpoint */
            alive &= ~(1u << s);
    }
    reached = faults_disarm();
    assert_recovers(w, &f, alive, &progress);
    fixture_fini(&f);
    return reached;
}

static void every(enum fault fault, int error)
{
    struct work w;
    long reached = 0;

    work_init(&w);
    for (int sticky = 0; sticky < 2; sticky++) {
        for (long n = 1; live_with(&w, fault, n, error, sticky); n += 1 + n / 16)
            reached++;
    }
    assert_true(reached > 0);
    print_message("%ld failures of %s survived\n", reached, names[fault]);
    work_fini(&w);
}

static void failing_writes_cost_only_their_shapes(void **state)
{
    (void)state;
    every(FAULT_WRITE, ENOSPC);
}

static void failing_syncs_are_never_taken_for_good(void **state)
{
    (void)state;
    every(FAULT_SYNC, EIO);
}

static void failing_truncates_cost_only_their_shapes(void **state)
{
    (void)state;
    every(FAULT_TRUNCATE, EIO);
}

static void failing_opens_cost_only_their_shapes(void **state)
{
    (void)state;
    every(FAULT_OPEN, EMFILE);
}

static void failing_reads_are_errors(void **state)
{
    (void)state;
    every(FAULT_READ, ENXIO);
}

static void failing_directories_refuse_the_shape(void **state)
{
    (void)state;
    every(FAULT_MKDIR, ENOSPC);
}

static void failing_allocations_cost_only_their_shapes(void **state)
{
    (void)state;
#ifdef COULOMB_SANITIZED
    skip();
#else
    every(FAULT_MEMORY, ENOMEM);
#endif
}

static void failed_rename_does_not_bring_a_removed_shape_back(void **state)
{
    struct shapelog_shape *s;
    struct fixture f;

    (void)state;
    fixture_init(&f, WORK_CHUNK);
    fixture_open(&f);
    s = create(&f, "a");
    finish_snapshot(s, NULL);
    assert_true(checkpoint(&f, 1));
    faults_arm(FAULT_RENAME, 1, EIO, false, true);
    shapelog_remove(s);
    shapelog_release(s);
    assert_true(checkpoint(&f, 2));
    fixture_close(&f);
    assert_true(faults_disarm());
    fixture_open(&f);
    assert_null(restored(&f, "a"));
    s = create(&f, "b");
    shapelog_release(s);
    fixture_fini(&f);
}

static void failed_sync_reports_the_shape_and_deletes_its_row(void **state)
{
    struct shapelog_shape *a, *b;
    struct fixture f;
    struct err err;

    (void)state;
    fixture_init(&f, WORK_CHUNK);
    fixture_open(&f);
    a = create(&f, "a");
    finish_snapshot(a, NULL);
    b = create(&f, "b");
    finish_snapshot(b, NULL);
    assert_true(checkpoint(&f, 1));
    transaction(a, NULL, 2, 1, 10);
    faults_arm(FAULT_SYNC, 1, EIO, false, false);
    assert_false(checkpoint(&f, 2));
    assert_true(faults_disarm());
    assert_int_equal(atomic_load(&f.corrupt), 1);
    assert_int_equal(atomic_load(&f.lost), 1);
    assert_int_equal(shapelog_durable_lsn(f.log), 1);
    assert_int_equal(shapelog_append(a, 3, 0, SLICE_LIT("{{}}"), &err), ERR_IO);
    assert_true(checkpoint(&f, 2)); /* although nobody has removed it yet */
    shapelog_release(a);
    shapelog_release(b);
    fixture_close(&f);
    fixture_open(&f);
    assert_null(restored(&f, "a"));
    b = restored(&f, "b");
    assert_non_null(b);
    shapelog_release(b);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failing_writes_cost_only_their_shapes),
        cmocka_unit_test(failing_syncs_are_never_taken_for_good),
        cmocka_unit_test(failing_truncates_cost_only_their_shapes),
        cmocka_unit_test(failing_opens_cost_only_their_shapes),
        cmocka_unit_test(failing_reads_are_errors),
        cmocka_unit_test(failing_directories_refuse_the_shape),
        cmocka_unit_test(failing_allocations_cost_only_their_shapes),
        cmocka_unit_test(failed_rename_does_not_bring_a_removed_shape_back),
        cmocka_unit_test(failed_sync_reports_the_shape_and_deletes_its_row),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
