/* What meta.sqlite holds of a shape, as bytes: all but its handle and definition.
 *
 *   state    := version view snapshot published own_end runs chunks tail     (varints)
 *   view     := length bytes
 *   snapshot := place (epoch | address) count {end, crc}*         ends as differences
 *   runs     := count {epoch, begin}*             a run ends where the next one begins
 *   chunks   := count {end}*                      closed ones
 *   tail     := length bytes                      entry.c
 *   mark     := entries bytes tx op               (published, own_end, begin, end)
 *
 * Only what is published is written down: entries of an open transaction that have gone to disk
 * already are not. */
#include "server/shapelog/internal.h"

#include <stdlib.h>

#define STATE_VERSION 1u
#define COUNT_MAX     (1u << 26)

static void put_mark(struct buf *out, const struct mark *mark)
{
    buf_put_varint(out, mark->entries);
    if (mark->entries == 0)
        return;
    buf_put_varint(out, mark->bytes);
    buf_put_varint(out, mark->at.tx);
    buf_put_varint(out, mark->at.op);
}

static struct mark get_mark(struct varint_reader *r)
{
    struct mark mark = MARK_BEGIN;
    uint64_t entries = varint_get(r);

    if (entries == 0)
        return mark;
    mark.entries = entries;
    mark.bytes = varint_get(r);
    mark.at.tx = varint_get(r);
    mark.at.op = varint_get(r);
    r->failed = r->failed || mark.at.tx == 0 || mark.at.op == OFFSET_OP_INF;
    return mark;
}

static void put_snapshot(struct buf *out, const struct snapshot *s)
{
    uint64_t end = 0;

    buf_put_varint(out, (uint64_t)s->place);
    buf_put_varint(out, s->place == PLACE_SEGMENT ? s->addr : s->epoch);
    buf_put_varint(out, s->chunk_count);
    for (uint32_t i = 0; i < s->chunk_count; i++) {
        buf_put_varint(out, s->chunks[i].end - end);
        buf_put_varint(out, s->chunks[i].crc);
        end = s->chunks[i].end;
    }
}

/* The tail's published entries. */
static void put_tail(struct buf *out, const struct shapelog_shape *shape)
{
    struct tail_walk walk;
    const char *end = shape->tail.bytes;

    shapelog_tail_walk(&walk, &shape->tail, shape->own_end);
    while (shapelog_tail_next(&walk) && walk.after.entries <= shape->published.entries)
        end = walk.reader.at;
    size_t len = end ? (size_t)(end - shape->tail.bytes) : 0;
    buf_put_varint(out, len);
    buf_put(out, shape->tail.bytes, len);
}

static void put_runs(struct buf *out, const struct shapelog_shape *shape)
{
    buf_put_varint(out, shape->run_count);
    for (uint32_t i = 0; i < shape->run_count; i++) {
        buf_put_varint(out, shape->runs[i]->epoch);
        put_mark(out, &shape->runs[i]->begin);
    }
}

static void put_chunks(struct buf *out, const struct shapelog_shape *shape)
{
    uint32_t count = 0;

    while (count < shape->chunk_count &&
           shape->chunks[count].end.entries <= shape->published.entries)
        count++;
    buf_put_varint(out, count);
    for (uint32_t i = 0; i < count; i++)
        put_mark(out, &shape->chunks[i].end);
}

void shapelog_state_put(struct buf *out, const struct shapelog_shape *shape)
{
    bool clip = shape->own_end.entries > shape->published.entries;
    struct slice view = shapelog_view(shape);

    buf_put_varint(out, STATE_VERSION);
    buf_put_varint(out, view.len);
    buf_put_slice(out, view);
    put_snapshot(out, &shape->snapshot);
    put_mark(out, &shape->published);
    put_mark(out, clip ? &shape->published : &shape->own_end);
    put_runs(out, shape);
    put_chunks(out, shape);
    put_tail(out, shape);
}

static int damaged(const struct shapelog_shape *shape, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "the stored state of %s makes no sense",
                   shape->handle);
}

static int no_memory(const struct shapelog_shape *shape, struct err *err)
{
    return err_set(err, ERR_MEMORY, "no memory for the shape %s", shape->handle);
}

static int get_view(struct shapelog_shape *shape, struct varint_reader *r,
                    struct err *err)
{
    struct slice view = varint_bytes(r, varint_get(r));
    char *copy = slice_dup(view);

    if (!copy)
        return no_memory(shape, err);
    shape->snapshot.view_len = view.len;
    atomic_store(&shape->snapshot.view, copy);
    return 0;
}

static int get_snapshot(struct shapelog_shape *shape, struct varint_reader *r,
                        struct err *err)
{
    struct snapshot *s = &shape->snapshot;
    uint64_t place = varint_get(r);
    uint64_t where = varint_get(r);
    uint64_t count = varint_get(r);

    if (r->failed || (place != PLACE_SEGMENT && place != PLACE_FILE) || count == 0 ||
        count > COUNT_MAX)
        return damaged(shape, err);
    s->place = (enum snapshot_place)place;
    s->addr = place == PLACE_SEGMENT ? where : 0;
    s->epoch = place == PLACE_FILE ? (uint32_t)where : 0;
    s->chunks = calloc(count, sizeof(*s->chunks));
    if (!s->chunks)
        return no_memory(shape, err);
    s->chunk_cap = count;
    for (; s->chunk_count < count; s->chunk_count++) {
        uint64_t bytes = varint_get(r);

        s->readable += bytes;
        s->chunks[s->chunk_count] =
            (struct snapshot_chunk){.end = s->readable, .crc = (uint32_t)varint_get(r)};
        if (r->failed || bytes == 0)
            return damaged(shape, err);
    }
    s->begun = s->complete = true;
    return 0;
}

/* Whether b can follow a, or be the same place. */
static bool in_order(const struct mark *a, const struct mark *b)
{
    if (a->entries == b->entries)
        return a->bytes == b->bytes && offset_cmp(a->at, b->at) == 0;
    return a->entries < b->entries && a->bytes < b->bytes && offset_cmp(a->at, b->at) < 0;
}

static int get_runs(struct shapelog_shape *shape, struct varint_reader *r,
                    struct err *err)
{
    uint64_t count = varint_get(r);
    struct mark before = MARK_BEGIN;

    for (uint64_t i = 0; !r->failed && i < count; i++) {
        uint32_t epoch = (uint32_t)varint_get(r);
        struct mark begin = get_mark(r);

        if (r->failed || (i == 0 && begin.entries != 0) || !in_order(&before, &begin) ||
            !in_order(&begin, &shape->own_end))
            return damaged(shape, err);
        if (i > 0)
            shape->runs[i - 1]->end = begin;
        if (shapelog_run_add(shape, epoch, begin) != 0)
            return no_memory(shape, err);
        before = begin;
    }
    if (r->failed || (count == 0 && shape->own_end.entries != 0))
        return damaged(shape, err);
    if (count > 0)
        shape->runs[count - 1]->end = shape->own_end;
    return 0;
}

static int get_chunks(struct shapelog_shape *shape, struct varint_reader *r,
                      struct err *err)
{
    uint64_t count = varint_get(r);
    struct mark before = MARK_BEGIN;

    if (r->failed || count > COUNT_MAX || count > shape->published.entries)
        return damaged(shape, err);
    shape->chunks = calloc(count + 1, sizeof(*shape->chunks));
    if (!shape->chunks)
        return no_memory(shape, err);
    shape->chunk_cap = count + 1;
    for (; shape->chunk_count < count; shape->chunk_count++) {
        struct mark end = get_mark(r);

        if (r->failed || end.entries <= before.entries || !in_order(&before, &end) ||
            !in_order(&end, &shape->published))
            return damaged(shape, err);
        shape->chunks[shape->chunk_count] = (struct log_chunk){.end = end};
        before = end;
    }
    return 0;
}

static int get_tail(struct shapelog_shape *shape, struct varint_reader *r,
                    struct err *err)
{
    struct slice bytes = varint_bytes(r, varint_get(r));
    struct tail_walk walk;

    shapelog_entries_walk(&walk, bytes, shape->own_end);
    while (shapelog_tail_next(&walk)) {
        if (walk.entry.tx == 0 || walk.entry.op == OFFSET_OP_INF ||
            offset_cmp(walk.before.at, walk.after.at) >= 0)
            return damaged(shape, err);
        if (shapelog_tail_put(&shape->tail, &walk.entry) != 0)
            return no_memory(shape, err);
    }
    if (r->failed || walk.reader.failed ||
        walk.after.entries != shape->published.entries ||
        walk.after.bytes != shape->published.bytes ||
        offset_cmp(walk.after.at, shape->published.at) != 0)
        return damaged(shape, err);
    return 0;
}

int shapelog_state_get(struct shapelog_shape *shape, struct slice state, struct err *err)
{
    struct varint_reader r = varint_reader_make(state);
    int rc = 0;

    if (varint_get(&r) != STATE_VERSION)
        return damaged(shape, err);
    rc = get_view(shape, &r, err);
    if (rc == 0)
        rc = get_snapshot(shape, &r, err);
    if (rc != 0)
        return rc;
    shape->published = get_mark(&r);
    shape->own_end = get_mark(&r);
    shape->written = shape->published;
    if (r.failed || !in_order(&shape->own_end, &shape->published))
        return damaged(shape, err);
    rc = get_runs(shape, &r, err);
    if (rc == 0)
        rc = get_chunks(shape, &r, err);
    if (rc == 0)
        rc = get_tail(shape, &r, err);
    if (rc != 0)
        return rc;
    shape->committed_tx = shape->published.entries ? shape->published.at.tx : 0;
    shape->committed_op = shape->published.entries ? shape->published.at.op : 0;
    return 0;
}
