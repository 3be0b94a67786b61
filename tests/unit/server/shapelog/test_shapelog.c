/* The contract of shapelog.h, without faults. */
#include "unit/server/shapelog/fixture.h"

#define CHUNK 1000

static void new_log_has_no_facts_and_keeps_those_it_is_told(void **state)
{
    struct shapelog_origin origin = {"7000000000000000001", 3, "app",
                                     "electric_slot_default"};
    struct shapelog_origin got;
    struct fixture f;
    struct err err;

    (void)state;
    fixture_init(&f, CHUNK);
    fixture_open(&f);
    assert_int_equal(shapelog_origin_get(f.log, &got), ERR_NOT_FOUND);
    assert_int_equal(shapelog_durable_lsn(f.log), 0);
    assert_int_equal(shapelog_origin_set(f.log, &origin, &err), 0);
    assert_true(checkpoint(&f, 0x1234567890));
    assert_int_equal(atomic_load(&f.durable), 0x1234567890);
    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(shapelog_origin_get(f.log, &got), 0);
    assert_string_equal(got.system_id, origin.system_id);
    assert_int_equal(got.timeline, 3);
    assert_string_equal(got.database, "app");
    assert_string_equal(got.slot, "electric_slot_default");
    assert_int_equal(shapelog_durable_lsn(f.log), 0x1234567890);
    fixture_fini(&f);
}

/* The same numbers are other places there: to acknowledge one of before, or to believe it
 * after a restart, would lose what lies between. */
static void another_origin_knows_nothing_of_the_lsns_of_before(void **state)
{
    struct shapelog_origin origin = {"7000000000000000001", 1, "app", "slot"};
    struct shapelog_shape *shape;
    struct fixture f;
    struct err err;

    (void)state;
    fixture_init(&f, CHUNK);
    fixture_open(&f);
    assert_int_equal(shapelog_origin_set(f.log, &origin, &err), 0);
    shape = create(&f, "a");
    assert_int_equal(
        shapelog_snapshot_end(shape, slice_of("{}"), SLICE_LIT("view"), &err), 0);
    assert_true(checkpoint(&f, 5000000));
    shapelog_remove(shape);
    shapelog_release(shape);
    origin.timeline = 2;
    assert_int_equal(shapelog_origin_set(f.log, &origin, &err), 0);
    assert_int_equal(shapelog_durable_lsn(f.log), 0);
    assert_true(checkpoint(&f, 400));
    assert_int_equal(atomic_load(&f.durable), 400);
    origin.timeline = 3;
    assert_int_equal(shapelog_origin_set(f.log, &origin, &err), 0);
    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(shapelog_durable_lsn(f.log), 0);
    fixture_fini(&f);
}

static void second_process_is_refused(void **state)
{
    struct fixture f, other;
    struct err err;

    (void)state;
    fixture_init(&f, CHUNK);
    fixture_open(&f);
    memcpy(&other, &f, sizeof(f));
    assert_int_equal(fixture_try_open(&other, &err), ERR_EXISTS);
    assert_non_null(strstr(err.message, f.dir));
    fixture_fini(&f);
}

static void entries_are_invisible_until_published(void **state)
{
    struct model *m = model_new();
    struct shapelog_shape *s;
    struct fixture f;

    (void)state;
    fixture_init(&f, CHUNK);
    fixture_open(&f);
    s = create(&f, "h1");
    finish_snapshot(s, NULL);
    assert_int_equal(offset_cmp(shapelog_committed(s), OFFSET_SNAPSHOT_END), 0);
    assert_log(s, m, CHUNK);
    assert_int_equal(append(&f, s, m, 10, 0, 5, false), 0);
    assert_int_equal(append(&f, s, m, 10, 2, 5, true), 0);
    assert_int_equal(offset_cmp(shapelog_committed(s), OFFSET_SNAPSHOT_END), 0);
    shapelog_commit(s);
    assert_int_equal(shapelog_committed(s).tx, 10);
    {
        struct model *none = model_new();

        assert_log(s, none, CHUNK);
        model_free(none);
    }
    shapelog_publish(s);
    assert_int_equal(shapelog_flush(f.log, 10, NULL), 0);
    assert_log(s, m, CHUNK);
    shapelog_release(s);
    model_free(m);
    fixture_fini(&f);
}

static void publishing_leaves_an_open_transaction_out(void **state)
{
    struct model *m = model_new();
    struct shapelog_shape *s;
    struct fixture f;

    (void)state;
    fixture_init(&f, CHUNK);
    fixture_open(&f);
    s = create(&f, "h1");
    finish_snapshot(s, NULL);
    assert_int_equal(append(&f, s, m, 10, 0, 5, true), 0);
    shapelog_commit(s);
    assert_int_equal(append(&f, s, NULL, 11, 0, 900, false), 0);
    assert_int_equal(append(&f, s, NULL, 11, 2, 900, true), 0);
    shapelog_publish(s);
    assert_int_equal(shapelog_flush(f.log, 10, NULL), 0);
    assert_log(s, m, CHUNK);
    shapelog_rollback(f.log);
    transaction(&f, s, m, 11, 3, 40);
    assert_log(s, m, CHUNK);
    shapelog_release(s);
    model_free(m);
    fixture_fini(&f);
}

static void aborted_entries_leave_no_trace(void **state)
{
    struct model *m = model_new();
    struct shapelog_shape *s;
    struct fixture f;

    (void)state;
    fixture_init(&f, 100000);
    fixture_open(&f);
    s = create(&f, "h1");
    finish_snapshot(s, NULL);
    transaction(&f, s, m, 10, 2, 50);
    /* Small: in the buffer. Large: spilled to the files, across chunks. */
    for (size_t pad = 10; pad <= 200000; pad *= 20) {
        for (unsigned i = 0; i < 10; i++)
            assert_int_equal(append(&f, s, NULL, 20, i, pad, false), 0);
        shapelog_rollback(f.log);
        assert_log(s, m, 100000);
    }
    transaction(&f, s, m, 20, 5, 30000);
    assert_log(s, m, 100000);
    assert_true(checkpoint(&f, 20));
    shapelog_release(s);
    fixture_close(&f);
    fixture_open(&f);
    s = restored(&f, "h1");
    assert_non_null(s);
    assert_log(s, m, 100000);
    shapelog_release(s);
    model_free(m);
    fixture_fini(&f);
}

static void appending_refuses_what_does_not_follow(void **state)
{
    struct shapelog_shape *s;
    struct fixture f;
    struct err err;

    (void)state;
    fixture_init(&f, CHUNK);
    fixture_open(&f);
    s = create(&f, "h1");
    finish_snapshot(s, NULL);
    transaction(&f, s, NULL, 10, 2, 5);
    assert_int_equal(append(&f, s, NULL, 10, 2, 5, false), ERR_INVALID);
    assert_int_equal(append(&f, s, NULL, 9, 100, 5, false), ERR_INVALID);
    assert_int_equal(append(&f, s, NULL, 0, 1, 5, false), ERR_INVALID);
    assert_int_equal(give(f.log, s, 9, 100, SLICE_LIT("{{}}"), &err), ERR_INVALID);
    assert_non_null(strstr(err.message, "9_100"));
    assert_int_equal(give(f.log, s, 11, 0, SLICE_LIT("[]"), &err), ERR_INVALID);
    transaction(&f, s, NULL, 11, 1, 5);
    assert_int_equal(shapelog_create(f.log, SLICE_LIT("../x"), SLICE_LIT("x"), &s, &err),
                     ERR_INVALID);
    shapelog_release(s);
    fixture_fini(&f);
}

static void chunks_close_behind_the_entry_that_fills_them(void **state)
{
    struct model *m = model_new();
    struct shapelog_found found;
    struct shapelog_shape *s;
    struct fixture f;

    (void)state;
    fixture_init(&f, CHUNK);
    fixture_open(&f);
    s = create(&f, "h1");
    finish_snapshot(s, NULL);
    for (uint64_t tx = 1; tx <= 60; tx++) {
        transaction(&f, s, m, tx * 8, (unsigned)(tx % 7 + 1), (size_t)(tx * 37 % 400));
        assert_log(s, m, CHUNK);
    }
    assert_int_equal(shapelog_locate(s, (struct offset){0, 7, false}, &found, NULL), 0);
    assert_int_equal(found.part, SHAPELOG_LOG);
    assert_true(found.entries > 1);
    assert_int_equal(found.first.tx, 8);
    assert_answer(s, m, CHUNK, (struct offset){8, OFFSET_OP_INF, false});
    /* The same answers after a restart, also when the setting was changed meanwhile. */
    assert_true(checkpoint(&f, 480));
    shapelog_release(s);
    fixture_close(&f);
    f.chunk_bytes = 77777;
    fixture_open(&f);
    s = restored(&f, "h1");
    assert_non_null(s);
    for (size_t i = 0; i + 30 < m->count; i++)
        assert_answer(s, m, CHUNK, m->entries[i].at);
    shapelog_release(s);
    model_free(m);
    fixture_fini(&f);
}

static void snapshot_is_readable_as_it_grows(void **state)
{
    struct model *m = model_new();
    struct shapelog_extent extent;
    struct shapelog_found found;
    struct shapelog_shape *s;
    struct shapelog_piece piece;
    enum shapelog_growth growth;
    struct fixture f;
    struct err err;
    struct buf got;

    (void)state;
    fixture_init(&f, CHUNK);
    fixture_open(&f);
    s = create(&f, "h1");
    shapelog_extent(s, &extent);
    assert_false(extent.snapshot_begun);
    assert_int_equal(shapelog_locate(s, OFFSET_BEFORE_ALL, &found, NULL), 0);
    assert_int_equal(found.part, SHAPELOG_PENDING);
    for (unsigned i = 0; i < 4; i++)
        write_row(s, m, i, 180);
    assert_int_equal(shapelog_snapshot_flush(s, &err), 0);
    shapelog_extent(s, &extent);
    assert_true(extent.snapshot_begun);
    assert_false(extent.snapshot_complete);
    assert_int_equal(extent.snapshot_chunks, 1);
    buf_init(&got, 1u << 20);
    assert_int_equal(shapelog_read_snapshot(s, 0, 0, &piece, &growth, &err), 0);
    assert_int_equal(growth, SHAPELOG_GROWING);
    take_piece(&piece, &got);
    assert_int_equal(got.ptr[got.len - 1], '}');
    assert_int_equal(shapelog_locate(s, (struct offset){0, 0, false}, &found, NULL), 0);
    assert_int_equal(found.part, SHAPELOG_PENDING);
    assert_int_equal(shapelog_locate(s, OFFSET_SNAPSHOT_END, &found, NULL), 0);
    assert_int_equal(found.part, SHAPELOG_PENDING);
    for (unsigned i = 4; i < 11; i++)
        write_row(s, m, i, 180);
    assert_int_equal(shapelog_snapshot_flush(s, &err), 0);
    assert_int_equal(shapelog_read_snapshot(s, 0, got.len, &piece, &growth, &err), 0);
    assert_int_equal(growth, SHAPELOG_CLOSED);
    take_piece(&piece, &got);
    {
        struct buf want;

        buf_init(&want, 1u << 20);
        assert_true(model_snapshot(m, CHUNK, 0, &want));
        assert_same(&got, &want);
        buf_fini(&want);
    }
    finish_snapshot(s, m);
    assert_true(slice_eq(shapelog_view(s), SLICE_LIT("10:20:")));
    assert_snapshot(s, m, CHUNK);
    assert_int_equal(shapelog_snapshot_row(s, SLICE_LIT("{}"), &err), ERR_INVALID);
    buf_fini(&got);
    shapelog_release(s);
    model_free(m);
    fixture_fini(&f);
}

static void snapshot_end_follows_the_last_row_in_its_chunk_or_alone(void **state)
{
    struct fixture f;
    char handle[16];

    (void)state;
    fixture_init(&f, CHUNK);
    fixture_open(&f);
    for (unsigned rows = 0; rows < 14; rows++) {
        struct model *m = model_new();
        struct shapelog_shape *s;

        snprintf(handle, sizeof(handle), "h%u", rows);
        s = create(&f, handle);
        for (unsigned i = 0; i < rows; i++)
            write_row(s, m, i, 180);
        finish_snapshot(s, m);
        assert_snapshot(s, m, CHUNK);
        transaction(&f, s, m, 50, 2, 10);
        assert_log(s, m, CHUNK);
        shapelog_release(s);
        model_free(m);
    }
    fixture_fini(&f);
}

static void incomplete_snapshots_do_not_survive_a_restart(void **state)
{
    struct shapelog_shape *s, *t;
    struct fixture f;
    struct err err;

    (void)state;
    fixture_init(&f, CHUNK);
    fixture_open(&f);
    s = create(&f, "begun");
    write_row(s, NULL, 1, 10);
    assert_int_equal(shapelog_snapshot_flush(s, &err), 0);
    transaction(&f, s, NULL, 5, 2, 10);
    t = create(&f, "complete");
    finish_snapshot(t, NULL);
    assert_true(checkpoint(&f, 5));
    shapelog_release(s);
    shapelog_release(t);
    fixture_close(&f);
    fixture_open(&f);
    assert_null(restored(&f, "begun"));
    t = restored(&f, "complete");
    assert_non_null(t);
    assert_true(slice_eq(shapelog_view(t), SLICE_LIT("10:20:")));
    assert_int_equal(offset_cmp(shapelog_committed(t), OFFSET_SNAPSHOT_END), 0);
    shapelog_release(t);
    fixture_fini(&f);
}

static void closing_makes_durable_what_no_checkpoint_did(void **state)
{
    struct model *m = model_new();
    struct shapelog_shape *s;
    struct fixture f;

    (void)state;
    fixture_init(&f, CHUNK);
    fixture_open(&f);
    s = create(&f, "h1");
    finish_snapshot(s, m);
    transaction(&f, s, m, 10, 9, 300);
    shapelog_release(s);
    fixture_close(&f);
    fixture_open(&f);
    s = restored(&f, "h1");
    assert_non_null(s);
    assert_snapshot(s, m, CHUNK);
    assert_log(s, m, CHUNK);
    assert_int_equal(shapelog_committed(s).tx, 10);
    transaction(&f, s, m, 12, 9, 300);
    assert_log(s, m, CHUNK);
    shapelog_release(s);
    model_free(m);
    fixture_fini(&f);
}

/* How many files there are in a folder of the log. */
static unsigned files_in(const struct fixture *f, const char *where)
{
    const struct dirent *entry;
    char path[256];
    unsigned count = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "%s/%s", f->dir, where);
    dir = opendir(path);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void wait_for_files(const struct fixture *f, const char *where, unsigned count)
{
    for (int i = 0; i < 5000 && files_in(f, where) != count; i++)
        clock_sleep_ms(1);
    assert_int_equal(files_in(f, where), count);
}

static void removed_shape_stays_readable_until_released(void **state)
{
    struct model *m = model_new();
    struct shapelog_found found;
    struct shapelog_piece piece;
    struct shapelog_shape *s;
    struct fixture f;
    struct err err;

    (void)state;
    fixture_init(&f, 100000000);
    f.max_open_files = 1; /* so that nothing is open by chance */
    fixture_open(&f);
    s = create(&f, "h1");
    finish_snapshot(s, m);
    transaction(&f, s, m, 10, 300, 1000);
    assert_true(checkpoint(&f, 10));
    assert_int_equal(files_in(&f, "shapes"), 2);
    assert_int_equal(shapelog_locate(s, OFFSET_SNAPSHOT_END, &found, &err), 0);
    shapelog_remove(s);
    shapelog_remove(s);
    assert_null(restored(&f, "h1"));
    assert_log(s, m, 100000000);
    assert_int_equal(shapelog_read_log(s, &found, 0, &piece, &err), 0);
    assert_null(piece.mem);
    assert_true(checkpoint(&f, 10));
    assert_int_equal(files_in(&f, "shapes"), 2);
    shapelog_release(s);
    wait_for_files(&f, "shapes", 0);
    {
        struct buf got;

        buf_init(&got, 1u << 26);
        take_piece(&piece, &got);
        assert_int_equal(got.len, found.size_bytes);
        buf_fini(&got);
    }
    fixture_close(&f);
    fixture_open(&f);
    assert_null(restored(&f, "h1"));
    model_free(m);
    fixture_fini(&f);
}

static void readers_of_one_tail_share_its_body(void **state)
{
    struct shapelog_found found;
    struct shapelog_piece a, b;
    struct shapelog_shape *s;
    struct fixture f;
    struct err err;

    (void)state;
    fixture_init(&f, 100000);
    fixture_open(&f);
    s = create(&f, "h1");
    finish_snapshot(s, NULL);
    transaction(&f, s, NULL, 10, 1, 10);
    transaction(&f, s, NULL, 11, 2, 10);
    assert_int_equal(shapelog_locate(s, (struct offset){10, 0, false}, &found, &err), 0);
    assert_int_equal(found.entries, 2);
    assert_int_equal(shapelog_read_log(s, &found, 0, &a, &err), 0);
    assert_int_equal(shapelog_read_log(s, &found, 7, &b, &err), 0);
    assert_non_null(a.mem);
    assert_ptr_equal(a.mem + 7, b.mem);
    assert_int_equal(a.len, b.len + 7);
    transaction(&f, s, NULL, 12, 2, 10);
    assert_int_equal(shapelog_locate(s, (struct offset){10, 0, false}, &found, &err), 0);
    {
        struct shapelog_piece c; /* evicts the cached body, not the readers' */

        assert_int_equal(shapelog_read_log(s, &found, 0, &c, &err), 0);
        shapelog_piece_release(&c);
    }
    assert_memory_equal(a.mem, "{\"key\":\"11/0\"", 13);
    shapelog_piece_release(&a);
    shapelog_piece_release(&b);
    shapelog_release(s);
    fixture_fini(&f);
}

static void idle_descriptors_stay_within_the_limit(void **state)
{
    struct shapelog_shape *shapes[40];
    struct model *models[40];
    struct fixture f;
    unsigned open_fds = 0;
    DIR *dir;

    (void)state;
    fixture_init(&f, CHUNK);
    f.max_open_files = 6;
    fixture_open(&f);
    for (unsigned i = 0; i < 40; i++) {
        char handle[16];

        snprintf(handle, sizeof(handle), "h%u", i);
        shapes[i] = create(&f, handle);
        models[i] = model_new();
        finish_snapshot(shapes[i], models[i]);
    }
    for (uint64_t tx = 1; tx < 6; tx++) {
        for (unsigned i = 0; i < 40; i++)
            transaction(&f, shapes[i], models[i], tx, i % 3 + 1, 100);
    }
    for (unsigned i = 0; i < 40; i++) {
        assert_snapshot(shapes[i], models[i], CHUNK);
        assert_log(shapes[i], models[i], CHUNK);
    }
    dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        open_fds++;
    if (dir)
        closedir(dir);
    assert_true(open_fds < 6 + 20);
    for (unsigned i = 0; i < 40; i++) {
        shapelog_release(shapes[i]);
        model_free(models[i]);
    }
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_log_has_no_facts_and_keeps_those_it_is_told),
        cmocka_unit_test(another_origin_knows_nothing_of_the_lsns_of_before),
        cmocka_unit_test(second_process_is_refused),
        cmocka_unit_test(entries_are_invisible_until_published),
        cmocka_unit_test(publishing_leaves_an_open_transaction_out),
        cmocka_unit_test(aborted_entries_leave_no_trace),
        cmocka_unit_test(appending_refuses_what_does_not_follow),
        cmocka_unit_test(chunks_close_behind_the_entry_that_fills_them),
        cmocka_unit_test(snapshot_is_readable_as_it_grows),
        cmocka_unit_test(snapshot_end_follows_the_last_row_in_its_chunk_or_alone),
        cmocka_unit_test(incomplete_snapshots_do_not_survive_a_restart),
        cmocka_unit_test(closing_makes_durable_what_no_checkpoint_did),
        cmocka_unit_test(removed_shape_stays_readable_until_released),
        cmocka_unit_test(readers_of_one_tail_share_its_body),
        cmocka_unit_test(idle_descriptors_stay_within_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
