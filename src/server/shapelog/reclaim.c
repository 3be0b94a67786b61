/* Giving space back: one closed segment in which little lives is emptied.
 *
 * What still lives there, messages that tails point to and small snapshots, is copied to a blob
 * segment; a message that several shapes share is copied once. The shapes' addresses change
 * under their locks, and their rows are written with the next checkpoint; then nothing points to
 * the old segment any more, and the checkpoint after that deletes it. Readers that are under way
 * have it open.
 *
 * It is worth while when what is dead comes to more than a segment and to more than half of
 * all: then at most as many bytes are written as are gained. */
#include "server/shapelog/internal.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/map.h"

struct move {
    struct shapelog *log;
    uint32_t victim;
    struct map moved; /* old address -> new one, as pointers to `addresses` */
};

static uint64_t dead_bytes(const struct segment *segment)
{
    uint64_t placed = atomic_load(&segment->placed);
    uint64_t live = atomic_load(&segment->live);

    if (!atomic_load(&segment->closed) || placed == 0 || live > placed)
        return 0;
    return (uint64_t)((double)atomic_load(&segment->end) *
                      ((double)(placed - live) / (double)placed));
}

/* The number of the segment to empty; false when it isn't worth while. */
static bool choose(struct shapelog *log, uint32_t *n)
{
    struct segments *segments = &log->segments;
    uint64_t all = 0;
    uint64_t dead = 0;
    uint64_t most = 0;

    pthread_mutex_lock(&segments->lock);
    for (size_t i = 0; i < segments->count; i++) {
        const struct segment *segment = segments->items[i];
        uint64_t waste = dead_bytes(segment);

        all += atomic_load(&segment->end);
        dead += waste;
        if (waste > most && atomic_load(&segment->live) > 0) {
            most = waste;
            *n = segment->n;
        }
    }
    pthread_mutex_unlock(&segments->lock);
    return most > 0 && dead >= log->segment_bytes && dead > all / 2;
}

/* Copies stored bytes behind each other into a blob segment, where they count as alive. */
static int copy(struct shapelog *log, uint64_t addr, uint64_t bytes, uint64_t *to,
                struct err *err)
{
    struct segment *from = shapelog_segment_get(log, ADDR_SEGMENT(addr));
    struct segment *segment = NULL;
    char *block = malloc(bytes);
    uint64_t pos = 0;
    int rc = 0;

    if (!from || !block)
        rc = err_set(err, ERR_MEMORY, "no memory to move %" PRIu64 " bytes", bytes);
    if (rc == 0)
        rc = shapelog_read_at(from->fd, block, bytes, ADDR_POSITION(addr), "a segment",
                              err);
    if (rc == 0)
        rc = shapelog_blob_reserve(log, bytes, &segment, &pos, err);
    if (rc == 0)
        rc = shapelog_write_at(segment->fd, block, bytes, pos, "a segment", err);
    if (rc == 0) {
        atomic_store(&segment->unsynced, true);
        *to = ADDR(segment->n, pos);
    } else if (segment) {
        shapelog_segment_unplace(log, segment->n);
    }
    free(block);
    if (from)
        shapelog_segment_put(from);
    if (segment)
        shapelog_segment_put(segment);
    return rc;
}

/* Where the message lies now; it is copied the first time it is asked for. */
static int new_address(struct move *m, const struct entry *e, uint64_t *to,
                       struct err *err)
{
    uint64_t *known = map_get_u64(&m->moved, e->addr);
    int rc;

    if (known) {
        *to = *known;
        return 0;
    }
    known = malloc(sizeof(*known));
    if (!known)
        return err_set(err, ERR_MEMORY, "no memory to move a message");
    rc = copy(m->log, e->addr, STORED_HEADER + (uint64_t)e->len, known, err);
    if (rc == 0 && map_put_u64(&m->moved, e->addr, known, NULL) != 0) {
        shapelog_segment_unplace(m->log, ADDR_SEGMENT(*known));
        rc = err_set(err, ERR_MEMORY, "no memory to move a message");
    }
    if (rc != 0) {
        free(known);
        return rc;
    }
    *to = *known;
    return 0;
}

/* The tail's entries in the victim: a copy of them, *count; NULL when there are none or no
 * memory. */
static struct entry *entries_there(const struct move *m, struct shapelog_shape *shape,
                                   size_t *count)
{
    struct entry *entries = NULL;
    size_t cap = 0;
    struct tail_walk walk;

    *count = 0;
    shapelog_lock(shape);
    shapelog_tail_walk(&walk, &shape->tail, shape->own_end);
    while (shapelog_tail_next(&walk)) {
        void *items = entries;

        if (ADDR_SEGMENT(walk.entry.addr) != m->victim)
            continue;
        if (!shapelog_grow(&items, &cap, *count + 1, sizeof(*entries)))
            break;
        entries = items;
        entries[(*count)++] = walk.entry;
    }
    shapelog_unlock(shape);
    return entries;
}

/* Puts the new addresses of moved messages into the tail. Locked. ERR_MEMORY: it is as before. */
static int readdress(struct move *m, struct shapelog_shape *shape)
{
    struct tail now = {.bytes = NULL};
    struct tail_walk walk;

    shapelog_tail_walk(&walk, &shape->tail, shape->own_end);
    while (shapelog_tail_next(&walk)) {
        struct entry e = walk.entry;
        const uint64_t *to = map_get_u64(&m->moved, e.addr);

        if (to)
            e.addr = *to;
        if (shapelog_tail_put(&now, &e) != 0) {
            shapelog_tail_clear(&now);
            return ERR_MEMORY;
        }
    }
    /* What lies where changes only when nothing can fail any more. */
    shapelog_tail_walk(&walk, &now, shape->own_end);
    while (shapelog_tail_next(&walk))
        shapelog_segment_place(m->log, ADDR_SEGMENT(walk.entry.addr));
    shapelog_tail_walk(&walk, &shape->tail, shape->own_end);
    while (shapelog_tail_next(&walk))
        shapelog_segment_unplace(m->log, ADDR_SEGMENT(walk.entry.addr));
    free(shape->tail.bytes);
    shape->tail = now;
    return 0;
}

static int move_tail(struct move *m, struct shapelog_shape *shape, struct err *err)
{
    size_t count;
    struct entry *entries = entries_there(m, shape, &count);
    uint64_t to;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = new_address(m, &entries[i], &to, err);
    free(entries);
    if (rc != 0 || count == 0)
        return rc;
    shapelog_mark_dirty(shape, DIRTY_ROW); /* before anything counts as dead */
    shapelog_lock(shape);
    rc = readdress(m, shape);
    shapelog_unlock(shape);
    return rc;
}

static int move_snapshot(struct move *m, struct shapelog_shape *shape, struct err *err)
{
    struct snapshot *s = &shape->snapshot;
    bool there;
    uint64_t addr, bytes, to;
    int rc;

    shapelog_lock(shape);
    there =
        s->complete && s->place == PLACE_SEGMENT && ADDR_SEGMENT(s->addr) == m->victim;
    addr = s->addr;
    bytes = s->readable;
    shapelog_unlock(shape);
    if (!there)
        return 0;
    rc = copy(m->log, addr, bytes, &to, err);
    if (rc != 0)
        return rc;
    shapelog_mark_dirty(shape, DIRTY_ROW);
    shapelog_lock(shape);
    s->addr = to;
    shapelog_unlock(shape);
    shapelog_segment_unplace(m->log, m->victim);
    return 0;
}

/* The registry's i-th with a reference, or NULL at the end. A shape that is put into another
 * one's place meanwhile may be missed: then the victim stays until the next time. */
static struct shapelog_shape *nth_shape(struct shapelog *log, size_t i)
{
    struct shapelog_shape *shape = NULL;

    pthread_mutex_lock(&log->lock);
    if (i < log->shape_count)
        shape = shapelog_retain(log->shapes[i]);
    pthread_mutex_unlock(&log->lock);
    return shape;
}

void shapelog_reclaim(struct shapelog *log)
{
    struct move m = {.log = log};
    struct shapelog_shape *shape;
    struct slice key;
    struct err err;
    size_t it = 0;
    void *value;
    int rc = 0;

    if (!choose(log, &m.victim))
        return;
    err_clear(&err);
    map_init(&m.moved);
    for (size_t i = 0; rc == 0 && (shape = nth_shape(log, i)) != NULL; i++) {
        rc = move_tail(&m, shape, &err);
        if (rc == 0)
            rc = move_snapshot(&m, shape, &err);
        shapelog_release(shape);
    }
    while (map_next(&m.moved, &it, &key, &value)) {
        const uint64_t *to = value; /* what points there counts for itself now */

        shapelog_segment_unplace(log, ADDR_SEGMENT(*to));
        free(value);
    }
    map_fini(&m.moved);
    log_event(log->config.log, rc == 0 ? LOG_INFO : LOG_WARNING, "shapelog.reclaimed",
              LOG_U64("segment", m.victim), LOG_TEXT("error", err.message));
}
