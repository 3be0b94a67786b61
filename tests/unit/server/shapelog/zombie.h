/* A process that is taken for dead, and its successor. */
#ifndef COULOMB_TESTS_SHAPELOG_ZOMBIE_H
#define COULOMB_TESTS_SHAPELOG_ZOMBIE_H

#include "unit/server/shapelog/faults.h"
#include "unit/server/shapelog/fixture.h"

#define CHUNK (1u << 20)

static const struct shapelog_origin ours = {
    .system_id = "7000", .timeline = 1, .database = "d", .slot = "s"};

/* The next process, over the same folder. */
static inline void successor_init(struct fixture *b, const struct fixture *a)
{
    memcpy(b, a, sizeof(*b));
    obs_init(&b->obs);
    b->log = NULL;
    b->take_over = &ours;
}

static inline void successor_open(struct fixture *b, const struct fixture *a)
{
    successor_init(b, a);
    fixture_open(b);
}

/* A process whose shape "a" gets all that comes. What it does next makes files of its own and
 * segments dead, so that its checkpoints delete them. */
struct zombie {
    struct fixture f;
    struct model *m;
    struct shapelog_shape *a, *b;
    uint64_t tx;
};

static inline void zombie_tx(struct zombie *z)
{
    transaction(&z->f, z->a, z->m, ++z->tx, 4, 9000);
    while (shapelog_tend(z->f.log, 1000))
        ;
}

static inline void zombie_prepare(struct zombie *z)
{
    *z = (struct zombie){.m = model_new(), .tx = 10};
    fixture_init(&z->f, CHUNK);
    z->f.segment_bytes = 8192;
}

static inline void zombie_begin(struct zombie *z)
{
    fixture_open(&z->f);
    assert_int_equal(shapelog_origin_set(z->f.log, &ours, NULL), 0);
    z->a = create(&z->f, "a");
    finish_snapshot(z->a, NULL);
    z->b = create(&z->f, "b");
    write_row(z->b, NULL, 1, 70000);
    finish_snapshot(z->b, NULL);
    transaction(&z->f, z->b, NULL, 10, 1, 70000);
    zombie_tx(z);
    assert_true(checkpoint(&z->f, z->tx));
}

static inline void zombie_init(struct zombie *z)
{
    zombie_prepare(z);
    zombie_begin(z);
}

static inline void zombie_harm(struct zombie *z)
{
    shapelog_remove(z->b);
    shapelog_release(z->b);
    for (unsigned i = 0; i < 4; i++) {
        zombie_tx(z);
        checkpoint(&z->f, z->tx);
    }
}

static inline void zombie_fini(struct zombie *z)
{
    model_free(z->m);
    remove_tree(z->f.dir);
}

static inline void forget_after(struct model *m, uint64_t tx)
{
    while (m->count > 0 && m->entries[m->count - 1].at.tx > tx)
        free(m->entries[--m->count].text);
}

/* The successor has what was durable, whole. */
static inline void assert_inherited(struct fixture *b, struct model *m)
{
    struct shapelog_shape *a = restored(b, "a");

    assert_non_null(a);
    assert_int_equal(shapelog_committed(a).tx, shapelog_durable_lsn(b->log));
    forget_after(m, shapelog_durable_lsn(b->log));
    assert_log(a, m, CHUNK);
    assert_int_equal(atomic_load(&b->obs.shapes_removed[OBS_SHAPE_CORRUPT]), 0);
    shapelog_release(a);
}

/* It works, and leaves it to the next. */
static inline void succeed(struct fixture *b, struct model *m, uint64_t tx)
{
    struct shapelog_shape *a = restored(b, "a");

    transaction(b, a, m, tx, 4, 9000);
    assert_true(checkpoint(b, tx));
    shapelog_release(a);
}

static const enum fault steps[] = {FAULT_OPEN, FAULT_RENAME, FAULT_UNLINK,
                                   FAULT_LIST, FAULT_WRITE,  FAULT_SYNC};
#define STEPS (sizeof(steps) / sizeof(*steps))

#endif
