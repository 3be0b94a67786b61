/* What shapes have in common: a message stored once, no file for a small shape, one checkpoint
 * whatever their number, space given back; and processes that have the storage one after the
 * other: epochs, take-over, what was shown. */
#include "unit/server/shapelog/faults.h"
#include "unit/server/shapelog/fixture.h"

#include <sqlite3.h>
#include <sys/wait.h>

#define CHUNK (1u << 20)
#define MANY  400

static unsigned files_in(const struct fixture *f, const char *where, uint64_t *bytes)
{
    char path[256];
    const struct dirent *entry;
    unsigned count = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "%s/%s", f->dir, where);
    dir = opendir(path);
    assert_non_null(dir);
    *bytes = 0;
    while ((entry = readdir(dir)) != NULL) {
        struct stat st;

        if (entry->d_name[0] == '.' || fstatat(dirfd(dir), entry->d_name, &st, 0) != 0)
            continue;
        *bytes += (uint64_t)st.st_size;
        count++;
    }
    closedir(dir);
    return count;
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");

    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

struct many {
    struct fixture f;
    struct shapelog_shape *shape[MANY];
};

static void many_init(struct many *m, unsigned count)
{
    fixture_init(&m->f, CHUNK);
    fixture_open(&m->f);
    for (unsigned i = 0; i < count; i++) {
        char handle[16];

        snprintf(handle, sizeof(handle), "h%u", i);
        m->shape[i] = create(&m->f, handle);
        finish_snapshot(m->shape[i], NULL);
    }
    assert_true(checkpoint(&m->f, 1));
}

static void many_fini(struct many *m, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        shapelog_release(m->shape[i]);
    fixture_fini(&m->f);
}

/* One message for all of them. */
static void give_all(struct many *m, unsigned count, uint64_t tx, size_t pad)
{
    char *text = message(tx, 0, pad, false);
    struct shapelog_variant variant;

    assert_int_equal(shapelog_stage(m->f.log, slice_of(text), &variant, NULL), 0);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(shapelog_append(m->shape[i], tx, 0, variant, NULL), 0);
        shapelog_commit(m->shape[i]);
        shapelog_publish(m->shape[i]);
    }
    assert_int_equal(shapelog_flush(m->f.log, tx, NULL), 0);
    free(text);
}

static void a_message_that_many_shapes_share_is_stored_once(void **state)
{
    struct many m;
    struct model *model = model_new();
    uint64_t before, after;

    (void)state;
    many_init(&m, MANY);
    files_in(&m.f, "segments", &before);
    give_all(&m, MANY, 10, 20000);
    files_in(&m.f, "segments", &after);
    assert_true(after - before < 20000 + 200 + MANY * 24);
    model_put(model, 10, 0, 20000, true);
    for (unsigned i = 0; i < MANY; i++)
        assert_log(m.shape[i], model, CHUNK);
    model_free(model);
    many_fini(&m, MANY);
}

static void small_shapes_have_neither_files_nor_descriptors(void **state)
{
    struct many m;
    unsigned descriptors = open_descriptors();
    uint64_t bytes;

    (void)state;
    many_init(&m, MANY);
    give_all(&m, MANY, 10, 100);
    assert_int_equal(files_in(&m.f, "shapes", &bytes), 0);
    assert_true(files_in(&m.f, "segments", &bytes) <= 2);
    assert_true(open_descriptors() < descriptors + 16);
    many_fini(&m, MANY);
}

/* Calls to fsync and fdatasync that a checkpoint of so many shapes makes. */
static long syncs_of_a_checkpoint(unsigned count)
{
    struct many m;
    long left;

    many_init(&m, count);
    give_all(&m, count, 10, 100);
    faults_arm(FAULT_SYNC, 1000000, EIO, false, false);
    assert_true(checkpoint(&m.f, 10));
    left = atomic_load(&faults.countdown);
    faults_disarm();
    many_fini(&m, count);
    return 1000000 - left;
}

static void a_checkpoint_syncs_as_often_for_many_shapes_as_for_one(void **state)
{
    long one = syncs_of_a_checkpoint(1);

    (void)state;
    assert_true(one > 0 && one < 6);
    assert_int_equal(syncs_of_a_checkpoint(MANY), one);
}

/* A tail above 64 KiB is rewritten; what it took in the segments is given back. */
static void long_tails_go_to_files_and_dead_segments_go(void **state)
{
    struct many m;
    struct model *model = model_new();
    uint64_t bytes;
    uint64_t tx = 10;

    (void)state;
    many_init(&m, 4);
    m.f.segment_bytes = 0;
    for (; tx < 60; tx++) {
        give_all(&m, 4, tx, 5000);
        model_put(model, tx, 0, 5000, true);
        while (shapelog_tend(m.f.log, 1000))
            ;
        assert_true(checkpoint(&m.f, tx));
    }
    assert_int_equal(files_in(&m.f, "shapes", &bytes), 8);
    assert_true(bytes > 4 * 190000);
    for (unsigned i = 0; i < 4; i++)
        assert_log(m.shape[i], model, CHUNK);
    model_free(model);
    many_fini(&m, 4);
}

/* --- Epochs --- */

static const struct shapelog_origin ours = {
    .system_id = "7000", .timeline = 1, .database = "d", .slot = "s"};

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

/* The next process, over the same folder. */
static void successor_open(struct fixture *b, const struct fixture *a)
{
    memcpy(b, a, sizeof(*b));
    b->log = NULL;
    b->take_over = &ours;
    fixture_open(b);
}

/* The first process was thought dead, and goes on writing. */
static void a_zombie_harms_nothing(void **state)
{
    struct model *m = model_new();
    struct model *m2 = model_new();
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
    for (size_t i = 0; i < m->count; i++)
        m2->entries[m2->count++] = (struct model_entry){
            m->entries[i].at, slice_dup(slice_of(m->entries[i].text))};
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
        cmocka_unit_test(a_message_that_many_shapes_share_is_stored_once),
        cmocka_unit_test(small_shapes_have_neither_files_nor_descriptors),
        cmocka_unit_test(a_checkpoint_syncs_as_often_for_many_shapes_as_for_one),
        cmocka_unit_test(long_tails_go_to_files_and_dead_segments_go),
        cmocka_unit_test(only_the_owner_of_the_stream_takes_a_storage_over),
        cmocka_unit_test(a_zombie_harms_nothing),
        cmocka_unit_test(a_zombie_keeps_nobody_out),
        cmocka_unit_test(what_was_shown_is_known_after_a_crash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
