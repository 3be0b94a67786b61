/* A fixed history of two shapes, run against faults and crashes, and the check of what is
 * found afterwards: whole transactions only, everything that was acknowledged, and after
 * a replay from the durable LSN the very same bytes. */
#ifndef COULOMB_TESTS_SHAPELOG_WORKLOAD_H
#define COULOMB_TESTS_SHAPELOG_WORKLOAD_H

#include "unit/server/shapelog/fixture.h"

#define WORK_CHUNK  1000
#define WORK_TXS    12u
#define WORK_SHAPES 2
#define WORK_MAX    8

struct work {
    char *text[WORK_SHAPES][WORK_TXS + 1][WORK_MAX]; /* as appended */
    unsigned count[WORK_SHAPES][WORK_TXS + 1];
    char *row[WORK_MAX];
    char *end;
    struct model *model[WORK_SHAPES];
    unsigned last_tx; /* where the history ends */
};

/* What a child process tells about itself. */
struct progress {
    atomic_uint published; /* the newest transaction that all shapes have published */
    atomic_uint durable;
};

static inline void work_init(struct work *w)
{
    memset(w, 0, sizeof(*w));
    w->last_tx = WORK_TXS;
    for (unsigned i = 0; i < WORK_MAX; i++) /* b, which lacks the last, is small */
        w->row[i] = message(i, 0, i == WORK_MAX - 1 ? 66000 : 180, false);
    w->end = slice_dup(SLICE_LIT("{\"headers\":{\"control\":\"snapshot-end\"}}"));
    for (unsigned s = 0; s < WORK_SHAPES; s++) {
        struct model *m = w->model[s] = model_new();

        for (unsigned i = 0; i < WORK_MAX - s; i++)
            model_row(m, w->row[i]);
        model_row(m, w->end);
        for (unsigned tx = 1; tx <= WORK_TXS; tx++) {
            /* The sixth spills to the files before its commit. */
            size_t pad = tx == 6 ? 150000 : (tx * 53 + s * 31) % 250;
            unsigned n = tx % 3 == s ? 0 : (tx * 5 + s) % (WORK_MAX - 1) + 1;

            w->count[s][tx] = n;
            for (unsigned i = 0; i < n; i++) {
                w->text[s][tx][i] = message(tx, 2 * i, pad, false);
                model_put(m, tx, 2 * i, pad, i + 1 == n);
            }
        }
    }
}

static inline void work_fini(struct work *w)
{
    for (unsigned s = 0; s < WORK_SHAPES; s++) {
        for (unsigned tx = 1; tx <= WORK_TXS; tx++) {
            for (unsigned i = 0; i < WORK_MAX; i++)
                free(w->text[s][tx][i]);
        }
        model_free(w->model[s]);
    }
    for (unsigned i = 0; i < WORK_MAX; i++)
        free(w->row[i]);
    free(w->end);
}

/* The sequencer's and the snapshot worker's duty when a shape can't go on. */
static inline void give_up(struct shapelog_shape **shape)
{
    shapelog_remove(*shape);
    shapelog_release(*shape);
    *shape = NULL;
}

static inline int work_append(const struct work *w, struct shapelog *log, unsigned s,
                              unsigned tx, unsigned n, struct shapelog_shape *shape)
{
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < n; i++)
        rc = give(log, shape, tx, 2 * i, slice_of(w->text[s][tx][i]), NULL);
    return rc;
}

/* A reader from the beginning; whatever it is told is a fine answer here. */
static inline void work_read(struct shapelog_shape *shape)
{
    struct shapelog_found found;
    struct shapelog_piece piece;

    if (shapelog_locate(shape, OFFSET_SNAPSHOT_END, &found, NULL) != 0 ||
        found.part != SHAPELOG_LOG ||
        shapelog_read_log(shape, &found, 0, &piece, NULL) != 0)
        return;
    shapelog_piece_release(&piece);
}

/* The transaction's entries for all shapes that lack it; `less` of each are left out. */
static inline int work_give(const struct work *w, struct shapelog *log, unsigned tx,
                            unsigned less, struct shapelog_shape **shapes)
{
    int rc = 0;

    for (unsigned s = 0; rc == 0 && s < WORK_SHAPES; s++) {
        unsigned n = w->count[s][tx];

        if (shapes[s] && shapelog_committed(shapes[s]).tx < tx)
            rc = work_append(w, log, s, tx, n > less ? n - less : 0, shapes[s]);
    }
    return rc;
}

static inline int work_tx(const struct work *w, struct shapelog *log, unsigned tx,
                          struct shapelog_shape **shapes)
{
    int rc = 0;

    if (tx == 6 || tx == 8) { /* the stream breaks within, and comes again */
        rc = work_give(w, log, tx, 1, shapes);
        if (rc == 0)
            shapelog_rollback(log);
    }
    if (rc == 0)
        rc = work_give(w, log, tx, 0, shapes);
    for (unsigned s = 0; rc == 0 && s < WORK_SHAPES; s++) {
        if (shapes[s]) {
            shapelog_commit(shapes[s]);
            shapelog_publish(shapes[s]);
        }
    }
    if (rc == 0)
        rc = shapelog_flush(log, tx, NULL);
    for (unsigned s = 0; rc == 0 && s < WORK_SHAPES; s++) {
        if (shapes[s])
            work_read(shapes[s]);
    }
    if (rc == 0 && tx % 4 == 0)
        while (shapelog_tend(log, 1000))
            ;
    return rc;
}

static inline struct shapelog_shape *work_create(const struct work *w, unsigned s,
                                                 struct shapelog *log)
{
    const char handle[2] = {(char)('a' + s), '\0'};
    struct shapelog_shape *shape;
    int rc =
        shapelog_create(log, slice_of(handle), SLICE_LIT("definition"), &shape, NULL);

    if (rc != 0)
        return NULL;
    for (unsigned i = 0; rc == 0 && i < WORK_MAX - s; i++)
        rc = shapelog_snapshot_row(shape, slice_of(w->row[i]), NULL);
    if (rc == 0)
        rc = shapelog_snapshot_flush(shape, NULL);
    if (rc == 0)
        rc = shapelog_snapshot_end(shape, slice_of(w->end), SLICE_LIT("1:2:"), NULL);
    if (rc != 0)
        give_up(&shape);
    return shape;
}

static inline void give_up_lost(struct fixture *f, struct shapelog_shape **shapes)
{
    for (unsigned s = 0; s < WORK_SHAPES; s++) {
        if (shapes[s] && (atomic_load(&f->lost) & 1u << s))
            give_up(&shapes[s]);
    }
}

/* All transactions above `from` on the shapes that exist, a checkpoint after every third. When
 * the log fails, everything that it did not show comes again; a few times, for the fault may
 * last. When a checkpoint has failed for good, the server stops. */
static inline void work_stream(const struct work *w, struct fixture *f, unsigned from,
                               struct shapelog_shape **shapes, struct progress *progress)
{
    unsigned failures = 0;

    for (unsigned tx = from + 1; tx <= w->last_tx && !atomic_load(&f->fatal);) {
        if (work_tx(w, f->log, tx, shapes) != 0) {
            shapelog_rollback(f->log);
            give_up_lost(f, shapes);
            if (++failures > 3)
                return;
            tx = (unsigned)shapelog_durable_lsn(f->log) + 1;
            continue;
        }
        atomic_store(&progress->published, tx);
        if (tx % 3 == 0 && tx < WORK_TXS && checkpoint(f, tx))
            atomic_store(&progress->durable, tx);
        give_up_lost(f, shapes);
        tx++;
    }
}

/* The whole history. Shapes that are left stay in `shapes`. */
static inline void work_run(const struct work *w, struct fixture *f,
                            struct shapelog_shape **shapes, struct progress *progress)
{
    for (unsigned s = 0; s < WORK_SHAPES; s++)
        shapes[s] = work_create(w, s, f->log);
    work_stream(w, f, 0, shapes, progress);
}

/* The shape holds exactly the transactions up to its committed one. */
static inline void assert_prefix(struct work *w, unsigned s, struct shapelog_shape *shape,
                                 uint64_t at_least)
{
    struct model *m = w->model[s];
    size_t count = m->count;
    size_t kept = 0;
    uint64_t due = 0;
    struct offset end = shapelog_committed(shape);

    while (kept < count && offset_cmp(m->entries[kept].at, end) <= 0)
        kept++;
    for (size_t i = 0; i < count && m->entries[i].at.tx <= at_least; i++)
        due = m->entries[i].at.tx;
    assert_true(end.tx >= due);
    assert_true(kept == count || kept == 0 ||
                m->entries[kept].at.tx != m->entries[kept - 1].at.tx);
    m->count = kept;
    assert_log(shape, m, WORK_CHUNK);
    m->count = count;
    assert_snapshot(shape, m, WORK_CHUNK);
}

static inline void release_all(struct shapelog_shape **shapes)
{
    for (unsigned s = 0; s < WORK_SHAPES; s++) {
        shapelog_release(shapes[s]);
        shapes[s] = NULL;
    }
}

/* Opens what is left, checks it, replays, checks again, also after another restart.
 * `alive`: the shapes that were not given up; they must be there once something was
 * durable. */
static inline void assert_recovers(struct work *w, struct fixture *f, unsigned alive,
                                   const struct progress *before)
{
    struct shapelog_shape *shapes[WORK_SHAPES];
    struct progress progress = {0};
    uint64_t durable;

    atomic_store(&f->lost, 0);
    atomic_store(&f->fatal, false);
    fixture_open(f);
    durable = shapelog_durable_lsn(f->log);
    assert_true(durable >= atomic_load(&before->durable));
    for (unsigned s = 0; s < WORK_SHAPES; s++) {
        const char handle[2] = {(char)('a' + s), '\0'};

        shapes[s] = restored(f, handle);
        if (durable > 0 && (alive & 1u << s))
            assert_non_null(shapes[s]);
        if (shapes[s])
            assert_prefix(w, s, shapes[s], durable);
    }
    work_stream(w, f, (unsigned)durable, shapes, &progress);
    for (unsigned round = 0; round < 2; round++) {
        unsigned found = 0;

        for (unsigned s = 0; s < WORK_SHAPES; s++) {
            if (!shapes[s])
                continue;
            found |= 1u << s;
            assert_log(shapes[s], w->model[s], WORK_CHUNK);
            assert_snapshot(shapes[s], w->model[s], WORK_CHUNK);
        }
        release_all(shapes);
        fixture_close(f);
        if (round == 1)
            break;
        fixture_open(f);
        for (unsigned s = 0; s < WORK_SHAPES; s++) {
            const char handle[2] = {(char)('a' + s), '\0'};

            shapes[s] = restored(f, handle);
            assert_int_equal(shapes[s] != NULL, (found >> s) & 1u);
        }
    }
}

#endif
