/* Processes that have the storage one after the other: epochs, take-over, what was shown. One
 * that was thought dead may have been frozen anywhere, and may wake up at any moment. */
#include "server/shapelog/internal.h"
#include "unit/server/shapelog/zombie.h"

#include <pthread.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <sys/wait.h>

static void only_the_owner_of_the_stream_takes_a_storage_over(void **state)
{
    struct shapelog_origin other = ours;
    struct fixture a, b;
    struct err err;

    (void)state;
    fixture_init(&a, CHUNK);
    fixture_open(&a);
    memcpy(&b, &a, sizeof(b));
    b.log = NULL;
    b.take_over = &ours;
    assert_int_equal(fixture_try_open(&b, &err), ERR_EXISTS); /* it has no origin yet */
    assert_int_equal(shapelog_origin_set(a.log, &ours, &err), 0);
    snprintf(other.slot, sizeof(other.slot), "t");
    b.take_over = &other;
    assert_int_equal(fixture_try_open(&b, &err), ERR_EXISTS);
    assert_non_null(strstr(err.message, "another database or slot"));
    assert_true(checkpoint(&a, 5)); /* nothing has happened to it */
    fixture_fini(&a);
}

/* A process with a shape "a" that has one transaction. */
static struct shapelog_shape *first_begin(struct fixture *a, struct model *m)
{
    struct shapelog_shape *s;

    fixture_init(a, CHUNK);
    fixture_open(a);
    assert_int_equal(shapelog_origin_set(a->log, &ours, NULL), 0);
    s = create(a, "a");
    finish_snapshot(s, NULL);
    transaction(a, s, m, 10, 3, 50);
    return s;
}

/* Its entries. */
static struct model *model_copy(const struct model *m)
{
    struct model *copy = model_new();

    for (size_t i = 0; i < m->count; i++)
        copy->entries[copy->count++] = (struct model_entry){
            m->entries[i].at, slice_dup(slice_of(m->entries[i].text))};
    return copy;
}

/* The first process was thought dead, and goes on writing. */
static void a_zombie_harms_nothing(void **state)
{
    struct model *m = model_new();
    struct model *m2;
    struct fixture a, b;
    struct shapelog_shape *s, *t, *z;

    (void)state;
    s = first_begin(&a, m);
    transaction(&a, s, m, 11, 3, 30000);
    transaction(&a, s, m, 12, 3, 50);
    assert_true(checkpoint(&a, 12));
    successor_open(&b, &a);
    t = restored(&b, "a");
    assert_non_null(t);
    assert_log(t, m, CHUNK);
    /* The zombie: what it says is shown to its own readers only. */
    transaction(&a, s, NULL, 13, 4, 70);
    transaction(&a, s, NULL, 14, 4, 30000);
    z = create(&a, "zombie");
    finish_snapshot(z, NULL);
    assert_false(checkpoint(&a, 14));
    assert_true(atomic_load(&a.fatal));
    assert_int_equal(shapelog_durable_lsn(a.log), 12);
    shapelog_remove(z);
    shapelog_release(z);
    shapelog_remove(s);
    shapelog_release(s);
    assert_false(checkpoint(&a, 15));
    /* Its successor goes on where the last checkpoint was. */
    m2 = model_copy(m);
    transaction(&b, t, m2, 13, 2, 90);
    transaction(&b, t, m2, 14, 5, 20000);
    assert_log(t, m2, CHUNK);
    assert_true(checkpoint(&b, 14));
    shapelog_close(a.log);
    assert_log(t, m2, CHUNK);
    shapelog_release(t);
    fixture_close(&b);
    b.take_over = NULL;
    fixture_open(&b);
    assert_null(restored(&b, "zombie"));
    t = restored(&b, "a");
    assert_log(t, m2, CHUNK);
    shapelog_release(t);
    model_free(m);
    model_free(m2);
    fixture_fini(&b);
}

static void leave_file(const char *path)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs("old", file);
    fclose(file);
}

/* The first process stands still in the middle of a write to its database. */
static void a_zombie_keeps_nobody_out(void **state)
{
    struct fixture a, b, c;
    struct model *m = model_new();
    struct shapelog_shape *s, *t;
    static const char write[] =
        "BEGIN IMMEDIATE; UPDATE fact SET value = '11' WHERE key = 'durable_lsn'";
    sqlite3 *db = NULL;
    char path[256];
    struct err err;

    (void)state;
    s = first_begin(&a, m);
    assert_true(checkpoint(&a, 10));
    snprintf(path, sizeof(path), "%s/meta.sqlite", a.dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, write, NULL, NULL, NULL), SQLITE_OK);
    /* What is left of a later database that was deleted is not taken for a part of the copy. */
    snprintf(path, sizeof(path), "%s/meta-1.sqlite-wal", a.dir);
    leave_file(path);
    successor_open(&b, &a);
    assert_int_not_equal(access(path, F_OK), 0);
    snprintf(path, sizeof(path), "%s/meta-2.sqlite", a.dir);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(shapelog_durable_lsn(b.log), 10);
    t = restored(&b, "a");
    assert_log(t, m, CHUNK);
    assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    shapelog_release(s);
    assert_false(checkpoint(&a, 12));
    assert_true(atomic_load(&a.fatal));
    shapelog_close(a.log);
    /* Now the successor has the lock, too. */
    transaction(&b, t, m, 12, 3, 50);
    assert_true(checkpoint(&b, 12));
    memcpy(&c, &b, sizeof(c));
    c.log = NULL;
    c.take_over = NULL;
    assert_int_equal(fixture_try_open(&c, &err), ERR_EXISTS);
    shapelog_release(t);
    fixture_close(&b);
    b.take_over = NULL;
    fixture_open(&b);
    assert_int_equal(shapelog_durable_lsn(b.log), 12);
    t = restored(&b, "a");
    assert_log(t, m, CHUNK);
    shapelog_release(t);
    model_free(m);
    fixture_fini(&b);
}

/* --- A zombie that wakes up, or was frozen, anywhere --- */

static struct zombie *sleeper;

static void wake_up(void)
{
    zombie_harm(sleeper);
}

/* False: the step was not reached. */
static bool wake_at(enum fault step, long n)
{
    struct zombie z;
    struct fixture b;
    bool reached;

    zombie_init(&z);
    sleeper = &z;
    faults_hook(step, n, wake_up);
    successor_open(&b, &z.f);
    reached = faults_disarm();
    if (!reached)
        wake_up();
    assert_inherited(&b, z.m);
    assert_true(atomic_load(&z.f.fatal) || !checkpoint(&z.f, z.tx));
    shapelog_release(z.a);
    fixture_close(&z.f);
    succeed(&b, z.m, 100);
    fixture_close(&b);
    b.take_over = NULL;
    fixture_open(&b);
    assert_inherited(&b, z.m);
    fixture_close(&b);
    zombie_fini(&z);
    return reached;
}

static void a_zombie_may_wake_up_at_any_step_of_the_take_over(void **state)
{
    long reached = 0;

    (void)state;
    for (size_t i = 0; i < STEPS - 1; i++) /* not within SQLite's syncs */
        for (long n = 1; wake_at(steps[i], n); n += 1 + n / 16)
            reached++;
    assert_true(reached > 10);
    print_message("woken up %ld times\n", reached);
}

static struct {
    sem_t asleep;
    sem_t awake;
    atomic_bool over;
} sleep_of;

static void fall_asleep(void)
{
    sem_post(&sleep_of.asleep);
    sem_wait(&sleep_of.awake);
}

/* A whole life, from the start to an orderly end, in which it falls asleep once. */
static void *zombie_live(void *arg)
{
    struct zombie *z = arg;

    if (fixture_try_open(&z->f, NULL) == 0) {
        z->a = restored(&z->f, "a");
        z->b = restored(&z->f, "b");
        zombie_harm(z);
        shapelog_release(z->a);
        fixture_close(&z->f);
    }
    atomic_store(&sleep_of.over, true);
    return NULL;
}

static bool sleeps(void)
{
    while (sem_trywait(&sleep_of.asleep) != 0) {
        if (atomic_load(&sleep_of.over))
            return false;
        clock_sleep_ms(1);
    }
    return true;
}

static void put_to_sleep(struct zombie *z, pthread_t *thread, enum fault step, long n)
{
    zombie_init(z);
    shapelog_release(z->a);
    shapelog_release(z->b);
    fixture_close(&z->f);
    sem_init(&sleep_of.asleep, 0, 0);
    sem_init(&sleep_of.awake, 0, 0);
    atomic_store(&sleep_of.over, false);
    faults_hook(step, n, fall_asleep);
    assert_int_equal(pthread_create(thread, NULL, zombie_live, z), 0);
}

/* A successor has one file of what no checkpoint knows, its own. */
static bool live_file(const struct fixture *f, char out[512])
{
    const struct dirent *entry;
    DIR *dir = opendir(f->dir);
    bool found = false;

    while (!found && (entry = readdir(dir)) != NULL) {
        found = strncmp(entry->d_name, "live-", 5) == 0;
        snprintf(out, 512, "%s/%s", f->dir, entry->d_name);
    }
    closedir(dir);
    return found;
}

static bool freeze_at(enum fault step, long n)
{
    char live[512] = "";
    struct zombie z;
    struct fixture b;
    struct model *m = NULL;
    pthread_t thread;
    struct err err;
    bool asleep;
    int rc;

    put_to_sleep(&z, &thread, step, n);
    asleep = sleeps();
    faults_disarm();
    successor_init(&b, &z.f);
    rc = fixture_try_open(&b, &err);
    assert_true(rc == 0 || rc == ERR_EXISTS);
    if (rc == 0) {
        m = model_copy(z.m);
        assert_inherited(&b, m);
        succeed(&b, m, 100);
        assert_true(live_file(&b, live));
    }
    sem_post(&sleep_of.awake);
    pthread_join(thread, NULL);
    assert_true(rc != 0 || access(live, F_OK) == 0);
    if (rc != 0) { /* it held what a reader needs, too */
        m = model_copy(z.m);
        fixture_open(&b);
    }
    assert_inherited(&b, m);
    succeed(&b, m, 101);
    fixture_close(&b);
    b.take_over = NULL;
    fixture_open(&b);
    assert_inherited(&b, m);
    fixture_close(&b);
    model_free(m);
    zombie_fini(&z);
    return asleep;
}

static void a_process_may_be_frozen_at_any_step_of_its_life(void **state)
{
    long frozen = 0;

    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* when its checkpoint's thread sleeps the other goes on, and the model is read */
#endif
    for (size_t i = 0; i < STEPS; i++)
        for (long n = 1; freeze_at(steps[i], n); n += 1 + n / 16)
            frozen++;
    assert_true(frozen > 50);
    print_message("frozen %ld times\n", frozen);
}

static void messages_name_the_database_that_they_are_about(void **state)
{
    struct meta *meta;
    struct err err;
    struct fixture f;
    char path[256];

    (void)state;
    fixture_init(&f, CHUNK);
    snprintf(path, sizeof(path), "%s/meta-7.sqlite", f.dir);
    leave_file(path);
    assert_int_equal(shapelog_meta_open(path, &meta, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.message, "meta-7.sqlite: can't"));
    remove_tree(f.dir);
}

/* --- What was shown --- */

static void what_was_shown_is_known_after_a_crash(void **state)
{
    struct fixture f;
    pid_t child;
    int status;

    (void)state;
    fixture_init(&f, CHUNK);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct shapelog_shape *s;

        fixture_open(&f);
        s = create(&f, "a");
        finish_snapshot(s, NULL);
        if (!checkpoint(&f, 40))
            _exit(1);
        transaction(&f, s, NULL, 70, 1, 10);
        shapelog_visible_raise(f.log, 90);
        transaction(&f, s, NULL, 80, 1, 10);
        _exit(shapelog_visible_lsn(f.log) == 90 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 0);
    for (int life = 0; life < 2; life++) {
        fixture_open(&f);
        assert_int_equal(shapelog_visible_lsn(f.log), 90);
        assert_int_equal(shapelog_durable_lsn(f.log), 40);
        fixture_close(&f);
    }
    fixture_open(&f);
    assert_int_equal(shapelog_origin_set(f.log, &ours, NULL), 0);
    assert_int_equal(shapelog_visible_lsn(f.log), 90); /* the first origin it is told */
    assert_int_equal(shapelog_origin_follow(f.log, 2, NULL), 0);
    fixture_close(&f);
    fixture_open(&f);
    {
        struct shapelog_origin origin;

        assert_int_equal(shapelog_origin_get(f.log, &origin), 0);
        assert_int_equal(origin.timeline, 2);
        assert_string_equal(origin.slot, ours.slot);
    }
    assert_int_equal(shapelog_visible_lsn(f.log), 90);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_owner_of_the_stream_takes_a_storage_over),
        cmocka_unit_test(a_zombie_harms_nothing),
        cmocka_unit_test(a_zombie_keeps_nobody_out),
        cmocka_unit_test(a_zombie_may_wake_up_at_any_step_of_the_take_over),
        cmocka_unit_test(a_process_may_be_frozen_at_any_step_of_its_life),
        cmocka_unit_test(messages_name_the_database_that_they_are_about),
        cmocka_unit_test(what_was_shown_is_known_after_a_crash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
