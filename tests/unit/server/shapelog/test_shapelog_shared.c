/* What shapes have in common: a message stored once, no file for a small shape, one checkpoint
 * whatever their number, space given back. */
#include "unit/server/shapelog/faults.h"
#include "unit/server/shapelog/fixture.h"

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

/* Each shape would write them again, and a reader gains nothing. */
static void a_few_large_messages_stay_in_their_segment(void **state)
{
    struct many m;
    struct model *model = model_new();
    uint64_t bytes;

    (void)state;
    many_init(&m, 40);
    for (uint64_t tx = 10; tx < 13; tx++) {
        give_all(&m, 40, tx, 100000);
        model_put(model, tx, 0, 100000, true);
        while (shapelog_tend(m.f.log, 1000))
            ;
        assert_true(checkpoint(&m.f, tx));
    }
    assert_int_equal(files_in(&m.f, "shapes", &bytes), 0);
    for (unsigned i = 0; i < 40; i++)
        assert_log(m.shape[i], model, CHUNK);
    model_free(model);
    many_fini(&m, 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_that_many_shapes_share_is_stored_once),
        cmocka_unit_test(small_shapes_have_neither_files_nor_descriptors),
        cmocka_unit_test(a_checkpoint_syncs_as_often_for_many_shapes_as_for_one),
        cmocka_unit_test(long_tails_go_to_files_and_dead_segments_go),
        cmocka_unit_test(a_few_large_messages_stay_in_their_segment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
