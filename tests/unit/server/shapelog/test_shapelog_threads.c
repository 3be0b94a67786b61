/* Readers on other threads while the sequencer appends, a worker writes a snapshot and
 * checkpoints run: each answer is whole entries, the right bytes, and never goes back.
 * Run under ThreadSanitizer as well. */
#include "unit/server/shapelog/fixture.h"

#include <pthread.h>

#define CHUNK   2000
#define READERS 3
#define TXS     400u

struct shared {
    struct fixture f;
    struct shapelog_shape *shape;
    struct model *m; /* complete before the threads start */
    atomic_bool stop;
    atomic_uint answers;
};

static struct model *model_of_all(void)
{
    struct model *m = model_new();

    for (uint64_t tx = 1; tx <= TXS; tx++) {
        unsigned n = (unsigned)(tx % 5) + 1;

        for (unsigned i = 0; i < n; i++)
            model_put(m, tx, 2u * i, tx * 7 % 300, i + 1 == n);
    }
    return m;
}

/* The index behind the entry at an offset. */
static size_t index_of(const struct model *m, struct offset at)
{
    size_t low = 0;
    size_t high = m->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (offset_cmp(m->entries[middle].at, at) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool answer_is_right(const struct model *m, size_t from, size_t to,
                            const struct buf *got)
{
    size_t pos = 0;

    for (size_t i = from; i < to; i++) {
        size_t n = strlen(m->entries[i].text);

        if (i > from && (pos >= got->len || got->ptr[pos++] != ','))
            return false;
        if (got->len - pos < n || memcmp(got->ptr + pos, m->entries[i].text, n) != 0)
            return false;
        pos += n;
    }
    return pos == got->len;
}

/* Follows the log like a client, from the beginning, until it has all of it. */
static bool follow(struct shared *shared)
{
    struct offset at = OFFSET_SNAPSHOT_END;
    size_t done = 0;

    while (done < shared->m->count) {
        struct shapelog_found found;
        struct buf got;
        bool right = true;

        buf_init(&got, 1u << 22);
        if (fetch(shared->shape, at, &found, &got) != 0)
            return false;
        if (found.part == SHAPELOG_LOG) {
            size_t to = index_of(shared->m, found.end);

            right = to > done && found.entries == to - done &&
                    answer_is_right(shared->m, done, to, &got);
            done = to;
            at = found.end;
            atomic_fetch_add(&shared->answers, 1);
        }
        buf_fini(&got);
        if (!right)
            return false;
    }
    return true;
}

static void *reader_main(void *arg)
{
    struct shared *shared = arg;

    for (int i = 0; i < 3; i++) {
        if (!follow(shared))
            return shared; /* anything but NULL: failed */
    }
    return NULL;
}

static void *watcher_main(void *arg)
{
    struct shared *shared = arg;

    while (!atomic_load(&shared->stop)) {
        struct shapelog_extent extent;

        shapelog_extent(shared->shape, &extent);
        if (offset_is_virtual(extent.latest) && extent.latest.op != OFFSET_OP_INF)
            return shared;
    }
    return NULL;
}

static void append_all(struct shared *shared)
{
    for (uint64_t tx = 1; tx <= TXS; tx++) {
        struct shapelog_shape *other;
        char handle[16];

        transaction(&shared->f, shared->shape, NULL, tx, (unsigned)(tx % 5) + 1,
                    tx * 7 % 300);
        if (tx % 10 != 0)
            continue;
        shapelog_checkpoint(shared->f.log, tx);
        snprintf(handle, sizeof(handle), "x%u", (unsigned)tx);
        /* Other shapes' descriptors come and go in the same cache. */
        other = create(&shared->f, handle);
        finish_snapshot(other, NULL);
        transaction(&shared->f, other, NULL, tx, 2, 10);
        if (tx % 20 == 0)
            shapelog_remove(other);
        shapelog_release(other);
    }
}

static void readers_see_whole_entries_while_the_log_grows(void **state)
{
    struct shared shared = {.shape = NULL};
    pthread_t readers[READERS], other;
    void *result;

    (void)state;
    fixture_init(&shared.f, CHUNK);
    shared.f.max_open_files = 3;
    fixture_open(&shared.f);
    shared.m = model_of_all();
    shared.shape = create(&shared.f, "h1");
    finish_snapshot(shared.shape, NULL);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader_main, &shared), 0);
    assert_int_equal(pthread_create(&other, NULL, watcher_main, &shared), 0);
    append_all(&shared);
    atomic_store(&shared.stop, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i], &result);
        assert_null(result);
    }
    pthread_join(other, &result);
    assert_null(result);
    assert_true(atomic_load(&shared.answers) > 100);
    assert_log(shared.shape, shared.m, CHUNK);
    shapelog_release(shared.shape);
    model_free(shared.m);
    fixture_fini(&shared.f);
}

/* Reads the snapshot chunk by chunk while it is written. */
static void *snapshot_reader_main(void *arg)
{
    struct shared *shared = arg;
    struct offset at = OFFSET_BEFORE_ALL;

    for (uint32_t chunk = 0;;) {
        struct shapelog_found found;
        struct buf got, want;
        enum shapelog_growth growth = SHAPELOG_GROWING;
        bool right;

        if (shapelog_locate(shared->shape, at, &found, NULL) != 0)
            return shared;
        if (found.part == SHAPELOG_NOTHING)
            return NULL;
        if (found.part == SHAPELOG_PENDING)
            continue;
        buf_init(&got, 1u << 22);
        buf_init(&want, 1u << 22);
        while (growth == SHAPELOG_GROWING) {
            struct shapelog_piece piece;

            if (shapelog_read_snapshot(shared->shape, chunk, got.len, &piece, &growth,
                                       NULL) != 0)
                return shared;
            if (piece.len > 0)
                take_piece(&piece, &got);
        }
        right = found.chunk == chunk && model_snapshot(shared->m, CHUNK, chunk, &want) &&
                slice_eq(buf_slice(&got), buf_slice(&want));
        buf_fini(&got);
        buf_fini(&want);
        if (!right)
            return shared;
        at = (struct offset){0, chunk++, false};
    }
}

static void readers_follow_a_snapshot_as_it_is_written(void **state)
{
    struct shared shared = {.shape = NULL};
    pthread_t readers[READERS];
    void *result;

    (void)state;
    fixture_init(&shared.f, CHUNK);
    fixture_open(&shared.f);
    shared.m = model_new();
    for (unsigned i = 0; i < 300; i++) {
        char *text = message(i, 0, i % 250, false);

        model_row(shared.m, text);
        free(text);
    }
    model_row(shared.m, "{\"headers\":{\"control\":\"snapshot-end\"}}");
    shared.shape = create(&shared.f, "h1");
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, snapshot_reader_main, &shared),
                         0);
    for (unsigned i = 0; i < 300; i++) {
        write_row(shared.shape, NULL, i, i % 250);
        if (i % 3 == 0)
            assert_int_equal(shapelog_snapshot_flush(shared.shape, NULL), 0);
        if (i % 50 == 0)
            shapelog_checkpoint(shared.f.log, i);
    }
    finish_snapshot(shared.shape, NULL);
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i], &result);
        assert_null(result);
    }
    shapelog_release(shared.shape);
    model_free(shared.m);
    fixture_fini(&shared.f);
}

/* Restored bytes are checked by whoever comes first; here many come at once. */
static void readers_check_restored_chunks_together(void **state)
{
    struct shared shared = {.shape = NULL};
    pthread_t readers[READERS];
    void *result;

    (void)state;
    fixture_init(&shared.f, CHUNK);
    fixture_open(&shared.f);
    shared.m = model_of_all();
    shared.shape = create(&shared.f, "h1");
    finish_snapshot(shared.shape, NULL);
    for (uint64_t tx = 1; tx <= TXS; tx++)
        transaction(&shared.f, shared.shape, NULL, tx, (unsigned)(tx % 5) + 1,
                    tx * 7 % 300);
    shapelog_release(shared.shape);
    fixture_close(&shared.f);
    fixture_open(&shared.f);
    shared.shape = restored(&shared.f, "h1");
    assert_non_null(shared.shape);
    for (unsigned i = 0; i < 3; i++)
        model_put(shared.m, TXS + 1, 2u * i, 10, i == 2);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader_main, &shared), 0);
    transaction(&shared.f, shared.shape, NULL, TXS + 1, 3, 10);
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i], &result);
        assert_null(result);
    }
    assert_int_equal(atomic_load(&shared.f.corrupt), 0);
    shapelog_release(shared.shape);
    model_free(shared.m);
    fixture_fini(&shared.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_see_whole_entries_while_the_log_grows),
        cmocka_unit_test(readers_follow_a_snapshot_as_it_is_written),
        cmocka_unit_test(readers_check_restored_chunks_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
