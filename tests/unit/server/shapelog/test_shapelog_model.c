/* Random histories of many shapes that share messages, against the naive truth: transactions
 * that reach some of them, breaks of the stream, removals, checkpoints, restarts in order and
 * crashes. Segments are small, so that they are emptied and deleted all the time. What a crash
 * leaves is what a successor finds that takes the storage over while the process still has it
 * open; that one ends afterwards. */
#include "unit/server/shapelog/fixture.h"

#define SHAPES  8
#define CHUNK   3000
#define TXS_MAX 700
#ifdef COULOMB_SANITIZED
#define SEEDS 2
#else
#define SEEDS 8
#endif

struct txn { /* of the stream */
    uint64_t lsn;
    unsigned count;
    size_t pad[12];
    unsigned shapes[12]; /* bit n: the change concerns whoever is in slot n */
    bool published;
};

struct slot {
    struct shapelog_shape *shape;
    struct model *m; /* all that its log will have */
    uint64_t from;   /* transactions up to it are in its snapshot */
    char handle[16];
    size_t rows;
    bool held;                 /* what is committed is not given to the readers */
    unsigned waiting[TXS_MAX]; /* such transactions */
    unsigned waiting_count;
};

struct world {
    struct fixture f;
    uint64_t random;
    struct slot slot[SHAPES];
    struct txn txn[TXS_MAX];
    unsigned txn_count;
    unsigned at;      /* the next one that the stream brings */
    uint64_t durable; /* what a checkpoint has recorded */
    unsigned born;
    unsigned crashes;
    unsigned restarts;
    unsigned breaks;
    unsigned releases;
};

static unsigned draw(struct world *w, unsigned below)
{
    w->random = w->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)(w->random >> 33) % below;
}

static const struct shapelog_origin ours = {
    .system_id = "7000", .timeline = 1, .database = "d", .slot = "s"};

/* --- Shapes --- */

static void slot_free(struct slot *slot)
{
    shapelog_release(slot->shape);
    model_free(slot->m);
    *slot = (struct slot){.shape = NULL};
}

/* A new shape, whose snapshot holds what the stream has brought. */
static void slot_fill(struct world *w, struct slot *slot)
{
    size_t pad = draw(w, 3) == 0 ? 9000 : 100;

    snprintf(slot->handle, sizeof(slot->handle), "h%u", w->born++);
    slot->m = model_new();
    slot->shape = create(&w->f, slot->handle);
    slot->from = w->at ? w->txn[w->at - 1].lsn : 0;
    slot->rows = draw(w, 12);
    for (unsigned i = 0; i < slot->rows; i++) {
        write_row(slot->shape, slot->m, i, pad);
        if (draw(w, 6) == 0)
            assert_int_equal(shapelog_snapshot_flush(slot->shape, NULL), 0);
    }
    finish_snapshot(slot->shape, slot->m);
}

static void slot_remove(struct slot *slot)
{
    shapelog_remove(slot->shape);
    slot_free(slot);
}

/* Some requests, by chance. */
static void check_log(struct world *w, const struct slot *slot)
{
    const struct model *m = slot->m;

    assert_answer(slot->shape, m, CHUNK, OFFSET_SNAPSHOT_END);
    for (unsigned i = 0; m->count > 0 && i < 12; i++)
        assert_answer(slot->shape, m, CHUNK, m->entries[draw(w, (unsigned)m->count)].at);
    if (m->count > 0)
        assert_answer(slot->shape, m, CHUNK, m->entries[m->count - 1].at);
}

static void check(struct world *w)
{
    for (unsigned n = 0; n < SHAPES; n++) {
        struct slot *slot = &w->slot[n];

        if (!slot->shape)
            continue;
        check_log(w, slot);
        assert_snapshot(slot->shape, slot->m, CHUNK);
    }
    assert_int_equal(atomic_load(&w->f.corrupt), 0);
}

/* --- The stream --- */

static void txn_make(struct world *w)
{
    struct txn *t = &w->txn[w->txn_count++];
    bool large;

    *t = (struct txn){.lsn = w->txn_count * 10};
    t->count = draw(w, 12);
    large = draw(w, 25) == 0; /* so that it goes to disk before its commit */
    for (unsigned i = 0; i < t->count; i++) {
        unsigned size = large ? draw(w, 4) : draw(w, 40);

        t->pad[i] = large && size ? 250000
                    : size == 0   ? 70000
                    : size < 3    ? 20000
                                  : draw(w, 300);
        t->shapes[i] = draw(w, 4) == 0 ? (1u << SHAPES) - 1 : 1u << draw(w, SHAPES);
    }
}

/* Whether the transaction is news to the shape. */
static bool concerns(const struct slot *slot, const struct txn *t)
{
    return slot->shape && slot->from < t->lsn &&
           (offset_is_virtual(shapelog_committed(slot->shape)) ||
            shapelog_committed(slot->shape).tx < t->lsn);
}

/* Some of the transaction's changes; each is staged once for each class. */
static void txn_give_some(struct world *w, const struct txn *t, unsigned from,
                          unsigned to, unsigned news)
{
    for (unsigned i = from; i < to; i++) {
        char *text = message(t->lsn, 2 * i, t->pad[i], false);
        struct shapelog_variant variant;

        assert_int_equal(shapelog_stage(w->f.log, slice_of(text), &variant, NULL), 0);
        for (unsigned n = 0; n < SHAPES; n++) {
            if (news & t->shapes[i] & 1u << n)
                assert_int_equal(
                    shapelog_append(w->slot[n].shape, t->lsn, 2 * i, variant, NULL), 0);
        }
        free(text);
    }
}

static void txn_give(struct world *w, const struct txn *t, unsigned count, unsigned news)
{
    txn_give_some(w, t, 0, count, news);
}

static void txn_give_from(struct world *w, const struct txn *t, unsigned from,
                          unsigned news)
{
    txn_give_some(w, t, from, t->count, news);
}

static void txn_expect(struct slot *slot, unsigned n, const struct txn *t)
{
    unsigned last = t->count;

    for (unsigned i = 0; i < t->count; i++)
        last = t->shapes[i] & 1u << n ? i : last;
    for (unsigned i = 0; i < t->count; i++) {
        if (t->shapes[i] & 1u << n)
            model_put(slot->m, t->lsn, 2 * i, t->pad[i], i == last);
    }
}

/* The first transaction that somebody does not show yet, or `at`. */
static unsigned first_waiting(const struct world *w)
{
    unsigned first = w->at;

    for (unsigned n = 0; n < SHAPES; n++) {
        const struct slot *slot = &w->slot[n];

        if (slot->shape && slot->waiting_count > 0 && slot->waiting[0] < first)
            first = slot->waiting[0];
    }
    return first;
}

/* What is not shown comes again. */
static void roll_back(struct world *w)
{
    shapelog_rollback(w->f.log);
    w->at = first_waiting(w);
    for (unsigned n = 0; n < SHAPES; n++)
        w->slot[n].waiting_count = 0;
}

/* Gives all that waits, of those that are not held, to the readers. */
static void show_waiting(struct world *w)
{
    uint64_t lsn = w->at ? w->txn[w->at - 1].lsn : 0;

    for (unsigned n = 0; n < SHAPES; n++) {
        if (w->slot[n].shape && w->slot[n].waiting_count > 0 && !w->slot[n].held)
            shapelog_publish(w->slot[n].shape);
    }
    assert_int_equal(shapelog_flush(w->f.log, lsn, NULL), 0);
    for (unsigned n = 0; n < SHAPES; n++) {
        struct slot *slot = &w->slot[n];

        if (!slot->shape || slot->held)
            continue;
        for (unsigned i = 0; i < slot->waiting_count; i++)
            txn_expect(slot, n, &w->txn[slot->waiting[i]]);
        slot->waiting_count = 0;
    }
}

/* The sequencer knows enough of one that it held back. */
static void release(struct world *w)
{
    w->slot[draw(w, SHAPES)].held = false;
    show_waiting(w);
    w->releases++;
}

static unsigned all_concerned(const struct world *w, const struct txn *t)
{
    unsigned news = 0;

    for (unsigned n = 0; n < SHAPES; n++)
        news |= concerns(&w->slot[n], t) ? 1u << n : 0;
    return news;
}

static void record(struct world *w)
{
    unsigned shown = first_waiting(w);
    uint64_t lsn = shown ? w->txn[shown - 1].lsn : 0;

    if (lsn < shapelog_durable_lsn(w->f.log))
        return; /* a replay is under way */
    assert_true(checkpoint(&w->f, lsn));
    w->durable = lsn;
}

static void deliver(struct world *w)
{
    struct txn *t;
    unsigned news;

    if (w->at == w->txn_count && w->txn_count < TXS_MAX)
        txn_make(w);
    if (w->at == w->txn_count)
        return;
    t = &w->txn[w->at];
    news = all_concerned(w, t);
    if (draw(w, 12) == 0) { /* the connection breaks within */
        txn_give(w, t, draw(w, t->count + 1), news);
        if (draw(w, 3) == 0)
            show_waiting(w); /* of others, while this one is open */
        roll_back(w);
        w->breaks++;
        return;
    }
    txn_give(w, t, t->count / 2, news);
    if (draw(w, 4) == 0) {
        release(w);
        check(w);
        record(w);
    }
    txn_give_from(w, t, t->count / 2, news);
    for (unsigned n = 0; n < SHAPES; n++) {
        if (news & 1u << n) {
            shapelog_commit(w->slot[n].shape);
            w->slot[n].waiting[w->slot[n].waiting_count++] = w->at;
        }
    }
    w->at++;
    if (draw(w, 4) > 0)
        show_waiting(w);
}

/* --- Lives --- */

/* What the shape has now is what its model had up to there. */
static void adopt(struct world *w, struct slot *slot, bool in_order)
{
    struct model *m = slot->m;
    struct offset end = shapelog_committed(slot->shape);
    uint64_t due = 0;

    for (size_t i = 0; i < m->count; i++) {
        if (in_order || m->entries[i].at.tx <= w->durable)
            due = m->entries[i].at.tx;
    }
    assert_true(due == 0 || (!offset_is_virtual(end) && end.tx >= due));
    while (m->count > 0 && offset_cmp(m->entries[m->count - 1].at, end) > 0)
        free(m->entries[--m->count].text);
}

static void reopen(struct world *w, bool in_order)
{
    w->durable = in_order ? w->durable : shapelog_durable_lsn(w->f.log);
    for (unsigned n = 0; n < SHAPES; n++) {
        struct slot *slot = &w->slot[n];

        if (!slot->m)
            continue;
        slot->shape = restored(&w->f, slot->handle);
        if (slot->shape)
            adopt(w, slot, in_order);
        else if (in_order)
            fail_msg("%s was lost by a restart", slot->handle);
        else
            slot_free(slot); /* its snapshot was not durable */
    }
    /* The slot sends what was not acknowledged. */
    while (w->at > 0 && w->txn[w->at - 1].lsn > shapelog_durable_lsn(w->f.log))
        w->at--;
}

static void release_slots(struct world *w)
{
    for (unsigned n = 0; n < SHAPES; n++) {
        shapelog_release(w->slot[n].shape);
        w->slot[n].shape = NULL;
    }
}

static void restart(struct world *w)
{
    roll_back(w);
    release_slots(w);
    fixture_close(&w->f);
    fixture_open(&w->f);
    reopen(w, true);
    w->restarts++;
}

static void crash(struct world *w)
{
    struct shapelog *old = w->f.log;
    struct shapelog_shape *shapes[SHAPES];

    if (draw(w, 2) == 0 && w->at < w->txn_count) { /* in the middle of one */
        const struct txn *t = &w->txn[w->at];

        txn_give(w, t, t->count, all_concerned(w, t));
    }
    for (unsigned n = 0; n < SHAPES; n++)
        shapes[n] = w->slot[n].shape;
    w->f.take_over = &ours;
    fixture_open(&w->f);
    w->f.take_over = NULL;
    w->at = first_waiting(w);
    for (unsigned n = 0; n < SHAPES; n++) {
        w->slot[n].shape = NULL;
        w->slot[n].waiting_count = 0;
    }
    reopen(w, false);
    shapelog_rollback(old);
    for (unsigned n = 0; n < SHAPES; n++)
        shapelog_release(shapes[n]);
    shapelog_close(old);
    w->crashes++;
}

static void step(struct world *w)
{
    unsigned what = draw(w, 100);
    struct slot *slot = &w->slot[draw(w, SHAPES)];

    if (what < 70) {
        deliver(w);
    } else if (what < 78) {
        if (!slot->shape)
            slot_fill(w, slot);
    } else if (what < 80) {
        if (slot->shape)
            slot_remove(slot);
    } else if (what < 82) {
        slot->held = true;
    } else if (what < 84) {
        release(w);
    } else if (what < 88) {
        record(w);
    } else if (what < 94) {
        shapelog_tend(w->f.log, draw(w, 2) ? 100000 : 1);
    } else if (what < 96) {
        check(w);
    } else if (what < 97) {
        restart(w);
    } else if (what < 99) {
        crash(w);
    }
}

/* Bytes of all files in segments. */
static uint64_t segment_bytes(const struct fixture *f)
{
    char path[128];
    const struct dirent *entry;
    uint64_t bytes = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "%s/segments", f->dir);
    dir = opendir(path);
    while ((entry = readdir(dir)) != NULL) {
        struct stat st;

        if (entry->d_name[0] != '.' && fstatat(dirfd(dir), entry->d_name, &st, 0) == 0)
            bytes += (uint64_t)st.st_size;
    }
    closedir(dir);
    return bytes;
}

static void histories(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world *w = calloc(1, sizeof(*w));

        assert_non_null(w);
        w->random = seed;
        fixture_init(&w->f, CHUNK);
        w->f.segment_bytes = 100000;
        w->f.stage_bytes = 5000;
        fixture_open(&w->f);
        assert_int_equal(shapelog_origin_set(w->f.log, &ours, NULL), 0);
        for (unsigned i = 0; i < 700; i++)
            step(w);
        for (unsigned n = 0; n < SHAPES; n++)
            w->slot[n].held = false;
        while (w->at < w->txn_count)
            deliver(w);
        show_waiting(w);
        check(w);
        record(w);
        for (unsigned n = 0; n < SHAPES; n++) {
            if (w->slot[n].shape)
                slot_remove(&w->slot[n]);
        }
        /* What nothing points to is given back, but for the segments that are written to. */
        for (int i = 0; i < 100 && segment_bytes(&w->f) > 400000; i++) {
            record(w);
            clock_sleep_ms(5);
        }
        assert_true(segment_bytes(&w->f) <= 400000);
        print_message("seed %u: %u transactions, %u breaks, %u restarts, %u crashes, "
                      "%u releases\n",
                      (unsigned)seed, w->txn_count, w->breaks, w->restarts, w->crashes,
                      w->releases);
        fixture_fini(&w->f);
        free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(histories)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
