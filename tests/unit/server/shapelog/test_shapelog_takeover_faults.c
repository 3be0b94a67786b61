/* A take-over fails, or ends, at every n-th call, while the predecessor, a process of its own,
 * stands still amid a write to its database: what failed says why, and whoever comes then has
 * all. */
#include "unit/server/shapelog/zombie.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>

static void write_to_database(const char *dir)
{
    static const char write[] =
        "BEGIN IMMEDIATE; UPDATE fact SET value = '12' WHERE key = 'durable_lsn'";
    char path[256];
    sqlite3 *db;

    snprintf(path, sizeof(path), "%s/meta.sqlite", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, write, NULL, NULL, NULL), SQLITE_OK);
}

/* Another process, which stands still amid a write to its database. */
static pid_t zombie_fork(struct zombie *z)
{
    int ready[2];
    char byte;
    pid_t child;

    zombie_prepare(z);
    assert_int_equal(pipe(ready), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        zombie_begin(z);
        write_to_database(z->f.dir);
        _exit(write(ready[1], "", 1) == 1 ? pause() : 1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    for (unsigned i = 0; i < 4; i++) /* as zombie_tx in the child */
        model_put(z->m, z->tx + 1, 2 * i, 9000, i == 3);
    return child;
}

static void end_process(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* It has all, and so has who comes after the end of both. */
static void assert_taken(struct fixture *b, struct zombie *z, pid_t frozen)
{
    assert_inherited(b, z->m);
    succeed(b, z->m, 100);
    fixture_close(b);
    end_process(frozen);
    b->take_over = NULL;
    fixture_open(b);
    assert_inherited(b, z->m);
    fixture_close(b);
    zombie_fini(z);
}

/* A reason is in the message, and it is one after which another attempt is worth while. */
static void assert_may_retry(int rc, const struct err *err, int error)
{
    assert_int_equal(rc, err->code);
    assert_true(rc == ERR_IO || rc == ERR_EXISTS || rc == ERR_MEMORY);
    if (!strstr(err->message, strerror(error)) &&
        !strstr(err->message, ".sqlite: can't "))
        fail_msg("no reason: %s", err->message);
}

static bool take_with(enum fault fault, long n, int error, bool sticky)
{
    struct err err = {0};
    struct zombie z;
    struct fixture b;
    pid_t frozen = zombie_fork(&z);
    bool reached;
    int rc;

    successor_init(&b, &z.f);
    faults_arm(fault, n, error, false, sticky);
    rc = fixture_try_open(&b, &err);
    reached = faults_disarm();
    if (rc != 0) {
        assert_may_retry(rc, &err, error);
        fixture_open(&b);
    }
    assert_taken(&b, &z, frozen);
    return reached;
}

static void a_take_over_may_fail_at_any_call(void **state)
{
    static const struct {
        enum fault fault;
        int error;
    } faults_of[] = {{FAULT_WRITE, ENOSPC}, {FAULT_SYNC, EIO},   {FAULT_OPEN, EMFILE},
                     {FAULT_RENAME, EIO},   {FAULT_UNLINK, EIO}, {FAULT_LIST, EIO},
                     {FAULT_MKDIR, ENOSPC}};
    long failed = 0;

    (void)state;
    for (long n = 1; take_with(FAULT_READ, n, ENOMEM, false); n += 1 + n / 8)
        failed++;
    for (size_t i = 0; i < sizeof(faults_of) / sizeof(*faults_of); i++)
        for (int sticky = 0; sticky < 2; sticky++)
            for (long n = 1; take_with(faults_of[i].fault, n, faults_of[i].error, sticky);
                 n += 1 + n / (sticky ? 2 : 8))
                failed++;
    assert_true(failed > 50);
    print_message("failed %ld times\n", failed);
}

/* The taker ends at the n-th call; another comes, while the first process sleeps on. */
static bool crash_taking(enum fault fault, long n)
{
    struct zombie z;
    struct fixture b;
    pid_t frozen = zombie_fork(&z);
    pid_t child;
    int status;

    successor_init(&b, &z.f);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        faults_arm(fault, n, 0, false, false);
        _exit(fixture_try_open(&b, NULL) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAULT_EXIT_CODE);
    fixture_open(&b);
    assert_taken(&b, &z, frozen);
    return WEXITSTATUS(status) == FAULT_EXIT_CODE;
}

static void a_taker_may_end_at_any_call(void **state)
{
    long crashes = 0;

    (void)state;
    for (size_t i = 0; i < STEPS; i++)
        for (long n = 1; crash_taking(steps[i], n); n += 1 + n / 8)
            crashes++;
    assert_true(crashes > 50);
    print_message("%ld crashes survived\n", crashes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_take_over_may_fail_at_any_call),
        cmocka_unit_test(a_taker_may_end_at_any_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
