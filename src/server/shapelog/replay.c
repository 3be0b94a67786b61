/* The journal, read at a start: from where the tails were last recorded as rows (the fold) to
 * the end that the last checkpoint recorded. frame.c has the format and what counts.
 *
 * Entries that are not known to count yet wait where the writer has them, too: in the shape's
 * tail behind its published end. What the row of a shape has already is skipped. An entry that
 * does not continue its shape's log means that the shape's row is not what it should be: that
 * shape is lost; a frame that does not check out means that nobody knows whose entries it held. */
#include "server/shapelog/internal.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/map.h"

struct replay {
    struct shapelog *log;
    struct map shapes;    /* by id */
    struct list waiting;  /* batch_link: open entries, */
    struct list counting; /* and those that count when the flush is complete */
    struct buf index;
};

/* Into the list, whichever it was in. */
static void move_to(struct replay *r, struct list *list, struct shapelog_shape *shape)
{
    if (list_empty(&shape->batch_link))
        r->log->batch.shape_count++;
    else
        list_remove(&shape->batch_link);
    list_push(list, &shape->batch_link);
}

/* The place behind so many of the shape's entries, all of them in its tail. */
static struct mark mark_at(const struct shapelog_shape *shape, uint64_t entries)
{
    struct tail_walk walk;

    shapelog_tail_walk(&walk, &shape->tail, shape->own_end);
    while (walk.after.entries < entries && shapelog_tail_next(&walk))
        ;
    return walk.after;
}

/* What counts now is shown; open entries behind it wait on. */
static void show_all(struct replay *r)
{
    while (!list_empty(&r->counting)) {
        struct shapelog_shape *shape =
            LIST_ENTRY(list_pop(&r->counting), struct shapelog_shape, batch_link);

        r->log->batch.shape_count--;
        shape->published = mark_at(shape, shape->counts);
        shape->committed_tx = shape->published.entries ? shape->published.at.tx : 0;
        shape->committed_op = shape->published.entries ? shape->published.at.op : 0;
        shapelog_mark_dirty(shape, DIRTY_ROW);
        if (shape->written.entries != shape->published.entries)
            move_to(r, &r->waiting, shape);
    }
}

static void lose(struct replay *r, struct shapelog_shape *shape)
{
    struct err why;

    err_set(&why, ERR_CORRUPT, "the journal does not continue its log");
    shapelog_note_dropped(r->log, slice_of(shape->handle), &why);
    map_del_u64(&r->shapes, shape->id);
    shapelog_roll_back_shape(shape);
    shape->lost = true;
}

/* Chunk ends come from the entries: the setting may be another one now. */
static int settle(struct shapelog_shape *shape, const struct entry *e)
{
    struct mark end = mark_after(shape->written, e);
    void *items = shape->chunks;

    if (e->flags & ENTRY_CHUNK) {
        if (!shapelog_grow(&items, &shape->chunk_cap, (size_t)shape->chunk_count + 1,
                           sizeof(*shape->chunks)))
            return ERR_MEMORY;
        shape->chunks = items;
        shape->chunks[shape->chunk_count++] = (struct log_chunk){.end = end};
    }
    shape->written = end;
    return shapelog_tail_put(&shape->tail, e);
}

/* One entry of the shape, its n-th. 1: it does not fit. */
static int put_entry(struct shapelog_shape *shape, uint64_t n, const struct entry *e)
{
    struct offset at = {e->tx, e->op, false};
    int rc;

    if (n < shape->written.entries)
        return 0; /* its row has it */
    if (n > shape->written.entries || e->tx == 0 || e->op == OFFSET_OP_INF ||
        offset_cmp(at, shape->written.at) <= 0)
        return 1;
    rc = settle(shape, e);
    if (rc == 0)
        shapelog_segment_place(shape->log, ADDR_SEGMENT(e->addr));
    return rc;
}

/* A frame's entries point to messages of the frame's own segment. */
static bool is_within(const struct segment *segment, const struct entry *e)
{
    return ADDR_SEGMENT(e->addr) == segment->n &&
           ADDR_POSITION(e->addr) + STORED_HEADER + e->len <= segment->end;
}

/* The entries of one shape. ERR_MEMORY, ERR_CORRUPT. */
static int replay_group(struct replay *r, const struct segment *segment,
                        struct varint_reader *reader, uint64_t data_addr, struct list *to,
                        struct err *err)
{
    struct shapelog_shape *shape = map_get_u64(&r->shapes, varint_get(reader));
    uint64_t first = varint_get(reader);
    uint64_t count = varint_get(reader);
    struct entry_base base = {.addr = data_addr};
    struct entry e;

    for (uint64_t i = 0; !reader->failed && i < count; i++) {
        int rc = 0;

        if (!shapelog_entry_get(reader, &base, &e) || !is_within(segment, &e)) {
            reader->failed = true;
            break;
        }
        if (shape)
            rc = put_entry(shape, first + i, &e);
        if (rc > 0) {
            lose(r, shape);
            shape = NULL;
        }
        if (rc < 0)
            return err_set(err, rc, "no memory to read the journal");
    }
    if (shape && count == 0 && first > shape->written.entries) {
        lose(r, shape);
        shape = NULL;
    }
    if (!shape || shape->written.entries == shape->published.entries)
        return 0;
    if (to == &r->counting)
        shape->counts = first + count;
    if (to == &r->waiting ? list_empty(&shape->batch_link)
                          : first + count > shape->published.entries)
        move_to(r, to, shape);
    return 0;
}

static int replay_groups(struct replay *r, const struct segment *segment,
                         uint64_t data_addr, struct list *to, struct err *err)
{
    struct varint_reader reader = varint_reader_make(buf_slice(&r->index));
    int rc = 0;

    while (rc == 0 && !reader.failed && reader.at < reader.end)
        rc = replay_group(r, segment, &reader, data_addr, to, err);
    if (rc == 0 && reader.failed)
        rc = err_set(err, ERR_CORRUPT, "a frame of the journal makes no sense");
    return rc;
}

static void forget_all(struct list *shapes)
{
    while (!list_empty(shapes))
        shapelog_roll_back_shape(
            LIST_ENTRY(shapes->next, struct shapelog_shape, batch_link));
}

static int replay_frame(struct replay *r, const struct segment *segment, uint64_t at,
                        const struct frame_header *h, struct err *err)
{
    bool open = h->flags & FRAME_OPEN;
    int rc;

    if (h->flags & FRAME_RESET) {
        forget_all(&r->waiting);
        forget_all(&r->counting);
    }
    rc = replay_groups(r, segment, ADDR(segment->n, at + FRAME_HEADER_BYTES),
                       open ? &r->waiting : &r->counting, err);
    if (rc == 0 && !(h->flags & (FRAME_OPEN | FRAME_PART)))
        show_all(r);
    return rc;
}

static int bad_frame(const struct segment *segment, uint64_t at, struct err *err)
{
    return err_set(err, ERR_CORRUPT,
                   "segment %" PRIu32 " does not check out at byte %" PRIu64, segment->n,
                   at);
}

/* Reads the frame at *at, which moves behind it. */
static int read_frame(struct replay *r, const struct segment *segment, uint64_t *at,
                      uint64_t end, struct err *err)
{
    char bytes[FRAME_HEADER_BYTES];
    struct frame_header h;
    uint64_t index_at;
    char *index;
    int rc;

    if (end - *at < FRAME_HEADER_BYTES)
        return bad_frame(segment, *at, err);
    rc = shapelog_read_at(segment->fd, bytes, sizeof(bytes), *at, "the journal", err);
    if (rc != 0)
        return rc;
    if (!shapelog_frame_header_get(bytes, &h) || h.epoch != segment->epoch ||
        (uint64_t)h.data_bytes + h.index_bytes > end - *at - FRAME_HEADER_BYTES)
        return bad_frame(segment, *at, err);
    index_at = *at + FRAME_HEADER_BYTES + h.data_bytes;
    buf_reset(&r->index, WRITE_BLOCK_BYTES);
    index = buf_reserve(&r->index, h.index_bytes + 1u);
    if (!index)
        return err_set(err, ERR_MEMORY, "no memory to read the journal");
    rc =
        shapelog_read_at(segment->fd, index, h.index_bytes, index_at, "the journal", err);
    if (rc != 0)
        return rc;
    r->index.len = h.index_bytes;
    if (crc32c(0, index, h.index_bytes) != h.index_crc)
        return bad_frame(segment, *at, err);
    rc = replay_frame(r, segment, *at, &h, err);
    *at = index_at + h.index_bytes;
    return rc;
}

static int replay_segment(struct replay *r, const struct segment *segment, uint64_t at,
                          uint64_t end, struct err *err)
{
    int rc = 0;

    if (at < end && segment->fd < 0)
        return err_set(err, ERR_CORRUPT, "segment %" PRIu32 " is missing", segment->n);
    while (rc == 0 && at < end)
        rc = read_frame(r, segment, &at, end, err);
    return rc;
}

static int replay_segments(struct replay *r, struct journal_mark from,
                           struct journal_mark to, struct err *err)
{
    struct segments *segments = &r->log->segments;
    bool ended = to.position == 0;
    int rc = 0;

    /* Nobody else has the log yet. */
    for (size_t i = 0; rc == 0 && i < segments->count; i++) {
        const struct segment *segment = segments->items[i];

        if (segment->kind != SEGMENT_JOURNAL || segment->n < from.segment ||
            segment->n > to.segment)
            continue;
        ended = ended || segment->n == to.segment;
        rc = replay_segment(
            r, segment, segment->n == from.segment ? from.position : 0,
            segment->n == to.segment ? to.position : segment->recorded_end, err);
    }
    if (rc == 0 && !ended)
        return err_set(err, ERR_CORRUPT, "segment %" PRIu32 " is missing", to.segment);
    return rc;
}

static int index_shapes(struct replay *r, struct err *err)
{
    for (size_t i = 0; i < r->log->shape_count; i++) {
        if (map_put_u64(&r->shapes, r->log->shapes[i]->id, r->log->shapes[i], NULL) != 0)
            return err_set(err, ERR_MEMORY, "no memory to read the journal");
    }
    return 0;
}

int shapelog_replay(struct shapelog *log, struct journal_mark from,
                    struct journal_mark to, struct err *err)
{
    struct replay r = {.log = log};
    int rc;

    map_init(&r.shapes);
    list_init(&r.waiting);
    list_init(&r.counting);
    buf_init(&r.index, MESSAGE_MAX_BYTES);
    rc = index_shapes(&r, err);
    if (rc == 0)
        rc = replay_segments(&r, from, to, err);
    forget_all(&r.waiting);
    forget_all(&r.counting);
    map_fini(&r.shapes);
    buf_fini(&r.index);
    return rc;
}
