/* Every n-th write, sync, open, rename, read and allocation fails, once or from then on:
 * the server goes on with what is left, and a restart finds nothing torn and nothing
 * missing. */
#include "unit/server/shapelog/faults.h"
#include "unit/server/shapelog/workload.h"

#include <sys/wait.h>

static const char *const names[FAULT_COUNT] = {
    [FAULT_WRITE] = "write", [FAULT_SYNC] = "sync", [FAULT_OPEN] = "open",
    [FAULT_MKDIR] = "mkdir", [FAULT_READ] = "read", [FAULT_MEMORY] = "memory",
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

static void failing_writes_are_repeated(void **state)
{
    (void)state;
    every(FAULT_WRITE, ENOSPC);
}

static void failing_syncs_are_never_taken_for_good(void **state)
{
    (void)state;
    every(FAULT_SYNC, EIO);
}

static void failing_opens_are_repeated(void **state)
{
    (void)state;
    every(FAULT_OPEN, EMFILE);
}

static void failing_reads_are_errors(void **state)
{
    (void)state;
    every(FAULT_READ, ENXIO);
}

static void failing_directories_refuse_the_start(void **state)
{
    (void)state;
    every(FAULT_MKDIR, ENOSPC);
}

static void failing_allocations_are_repeated(void **state)
{
    (void)state;
#ifdef COULOMB_SANITIZED
    skip();
#else
    every(FAULT_MEMORY, ENOMEM);
#endif
}

/* The removal is noted at once, before any checkpoint knows. */
static void removed_shape_does_not_come_back(void **state)
{
    struct shapelog_shape *s;
    struct fixture f;
    pid_t child;
    int status;

    (void)state;
    fixture_init(&f, WORK_CHUNK);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        fixture_open(&f);
        s = create(&f, "a");
        finish_snapshot(s, NULL);
        if (!checkpoint(&f, 1))
            _exit(1);
        faults_arm(FAULT_SYNC, 1, EIO, false, true); /* no checkpoint from here on */
        shapelog_remove(s);
        shapelog_release(s);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 0);
    fixture_open(&f);
    assert_null(restored(&f, "a"));
    fixture_fini(&f);
}

/* The kernel may have dropped what was to be synced: nothing is acknowledged any more, and the
 * next start finds what was durable before. */
static void failed_sync_is_the_end_of_this_life(void **state)
{
    struct shapelog_shape *a;
    struct fixture f;

    (void)state;
    fixture_init(&f, WORK_CHUNK);
    fixture_open(&f);
    a = create(&f, "a");
    finish_snapshot(a, NULL);
    assert_true(checkpoint(&f, 1));
    transaction(&f, a, NULL, 2, 1, 10);
    faults_arm(FAULT_SYNC, 1, EIO, false, false);
    assert_false(checkpoint(&f, 2));
    assert_true(faults_disarm());
    assert_true(atomic_load(&f.fatal));
    assert_false(checkpoint(&f, 2));
    assert_int_equal(shapelog_durable_lsn(f.log), 1);
    shapelog_release(a);
    fixture_close(&f);
    fixture_open(&f);
    a = restored(&f, "a");
    assert_non_null(a);
    assert_int_equal(shapelog_durable_lsn(f.log), 1);
    assert_int_equal(offset_cmp(shapelog_committed(a), OFFSET_SNAPSHOT_END), 0);
    shapelog_release(a);
    fixture_fini(&f);
}

/* What could not be written was not shown; the same comes again and is written. */
static void full_disk_costs_no_shape(void **state)
{
    struct model *m = model_new();
    struct shapelog_shape *s;
    struct fixture f;
    struct err err;

    (void)state;
    fixture_init(&f, 1u << 20);
    fixture_open(&f);
    s = create(&f, "a");
    finish_snapshot(s, NULL);
    transaction(&f, s, m, 2, 3, 10);
    for (size_t pad = 10; pad < 200000; pad *= 100) {
        uint64_t tx = 2 + pad;

        faults_arm(FAULT_WRITE, 1, ENOSPC, true, true);
        assert_int_equal(append(&f, s, NULL, tx, 0, pad, false), 0);
        shapelog_commit(s);
        shapelog_publish(s);
        assert_int_equal(shapelog_flush(f.log, tx, &err), ERR_IO);
        assert_non_null(strstr(err.message, strerror(ENOSPC)));
        shapelog_rollback(f.log);
        assert_log(s, m, 1u << 20);
        assert_true(faults_disarm());
        transaction(&f, s, m, tx, 1, pad);
        assert_log(s, m, 1u << 20);
    }
    assert_true(checkpoint(&f, 100));
    shapelog_release(s);
    fixture_close(&f);
    fixture_open(&f);
    s = restored(&f, "a");
    assert_log(s, m, 1u << 20);
    shapelog_release(s);
    model_free(m);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failing_writes_are_repeated),
        cmocka_unit_test(failing_syncs_are_never_taken_for_good),
        cmocka_unit_test(failing_opens_are_repeated),
        cmocka_unit_test(failing_reads_are_errors),
        cmocka_unit_test(failing_directories_refuse_the_start),
        cmocka_unit_test(failing_allocations_are_repeated),
        cmocka_unit_test(removed_shape_does_not_come_back),
        cmocka_unit_test(failed_sync_is_the_end_of_this_life),
        cmocka_unit_test(full_disk_costs_no_shape),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
