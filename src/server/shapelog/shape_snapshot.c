/* A shape's snapshot: messages with a comma behind each, in chunks.
 *
 * A chunk ends behind the row that brought its bytes (commas included) to chunk_bytes.
 * Its bytes are readable as far as they are flushed; the comma behind the newest readable
 * row belongs to what comes next, so that a growing chunk's body can be sent as it grows.
 * Each closed chunk has a CRC32C, which is checked before the chunk is read for the first
 * time in a later life of the process.
 *
 *   NOWHERE ──flush──▶ MEMORY ──end──▶ SEGMENT     up to SMALL_SNAPSHOT bytes
 *      └──────┬───────────┘
 *             └─ more ──▶ FILE                     a file of its own */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"

#define VERIFY_BLOCK_BYTES 65536u

static int no_memory(struct shapelog_shape *shape, struct err *err)
{
    return err_set(err, ERR_MEMORY, "no memory for the snapshot of %s", shape->handle);
}

void shapelog_snapshot_writer_free(struct shapelog_shape *shape)
{
    struct snapshot_writer *w = shape->snapshot_writer;

    if (!w)
        return;
    buf_fini(&w->rows);
    free(w->chunks);
    free(w);
    shape->snapshot_writer = NULL;
}

/* The writer, made when missing. */
static int writer_of(struct shapelog_shape *shape, struct snapshot_writer **out,
                     struct err *err)
{
    bool complete;

    shapelog_lock(shape);
    complete = shape->snapshot.complete;
    shapelog_unlock(shape);
    if (complete)
        return err_set(err, ERR_INVALID, "the snapshot of %s is complete already",
                       shape->handle);
    if (!shape->snapshot_writer) {
        shape->snapshot_writer = calloc(1, sizeof(*shape->snapshot_writer));
        if (!shape->snapshot_writer)
            return no_memory(shape, err);
        buf_init(&shape->snapshot_writer->rows,
                 (size_t)WRITE_BLOCK_BYTES + MESSAGE_MAX_BYTES + 2);
    }
    *out = shape->snapshot_writer;
    return 0;
}

static int close_chunk(struct shapelog_shape *shape, struct err *err)
{
    struct snapshot_writer *w = shape->snapshot_writer;
    void *items = w->chunks;

    if (!shapelog_grow(&items, &w->chunk_cap, w->chunk_count + 1, sizeof(*w->chunks)))
        return no_memory(shape, err);
    w->chunks = items;
    w->chunks[w->chunk_count++] =
        (struct snapshot_chunk){.end = w->end, .crc = w->crc, .verified = true};
    w->chunk_begin = w->end;
    w->crc = 0;
    return 0;
}

static int put_message(struct shapelog_shape *shape, struct slice json, struct err *err)
{
    struct snapshot_writer *w = shape->snapshot_writer;
    size_t start = w->rows.len;

    if (json.len > MESSAGE_MAX_BYTES)
        return err_set(
            err, ERR_LIMIT,
            "a row of the snapshot of %s has %zu bytes; at most %u can be kept",
            shape->handle, json.len, MESSAGE_MAX_BYTES);
    buf_put_slice(&w->rows, json);
    buf_putc(&w->rows, ',');
    if (w->rows.failed)
        return no_memory(shape, err);
    w->crc = crc32c(w->crc, w->rows.ptr + start, w->rows.len - start);
    w->end += json.len + 1;
    return 0;
}

int shapelog_snapshot_row(struct shapelog_shape *shape, struct slice json,
                          struct err *err)
{
    struct snapshot_writer *w;
    int rc = writer_of(shape, &w, err);

    if (rc == 0)
        rc = put_message(shape, json, err);
    if (rc == 0 && w->end - w->chunk_begin >= shape->log->config.chunk_bytes)
        rc = close_chunk(shape, err);
    if (rc == 0 && w->rows.len > WRITE_BLOCK_BYTES)
        rc = shapelog_snapshot_flush(shape, err);
    return rc;
}

static bool is_small(const struct snapshot_writer *w)
{
    return w->written == 0 && w->end <= SMALL_SNAPSHOT;
}

/* Makes all rows readable, where they are now. `memory` is taken. */
static int show(struct shapelog_shape *shape, enum snapshot_place place,
                struct body *memory, struct err *err)
{
    struct snapshot_writer *w = shape->snapshot_writer;
    struct snapshot *s = &shape->snapshot;
    struct body *older;
    void *items;
    bool room;

    shapelog_lock(shape);
    older = s->memory;
    items = s->chunks;
    room = shapelog_grow(&items, &s->chunk_cap, s->chunk_count + w->chunk_count,
                         sizeof(*w->chunks));
    s->chunks = items;
    if (room) {
        if (w->chunk_count > 0)
            memcpy(s->chunks + s->chunk_count, w->chunks,
                   w->chunk_count * sizeof(*w->chunks));
        s->chunk_count += (uint32_t)w->chunk_count;
        s->readable = w->end;
        s->begun = true;
        s->place = place;
        s->memory = memory;
    }
    shapelog_unlock(shape);
    memory = room ? older : memory;
    if (memory)
        shapelog_hold_put(&memory->hold);
    w->chunk_count = 0;
    return room ? 0 : no_memory(shape, err);
}

/* Writes the rows behind those that are in the file. */
static int write_file(struct shapelog_shape *shape, struct err *err)
{
    struct snapshot_writer *w = shape->snapshot_writer;
    struct snapshot *s = &shape->snapshot;
    char name[PATH_BYTES];
    struct file *file;
    int rc;

    shapelog_file_name(name, shape->id, s->epoch, FILE_SNAPSHOT);
    rc = shapelog_file_get(shape->log, &s->file, name, true, &file, err);
    if (rc != 0)
        return rc;
    rc = shapelog_write_at(file->fd, w->rows.ptr, w->rows.len, w->written, "a snapshot",
                           err);
    shapelog_file_put(file);
    if (rc == 0) {
        w->written += w->rows.len;
        buf_reset(&w->rows, (size_t)WRITE_BLOCK_BYTES * 2);
    }
    return rc;
}

static int show_in_memory(struct shapelog_shape *shape, struct err *err)
{
    const struct snapshot_writer *w = shape->snapshot_writer;
    struct body *memory = shapelog_body_new(0, w->rows.len);

    if (!memory)
        return no_memory(shape, err);
    if (w->rows.len > 0)
        memcpy(memory->bytes, w->rows.ptr, w->rows.len);
    return show(shape, PLACE_MEMORY, memory, err);
}

int shapelog_snapshot_flush(struct shapelog_shape *shape, struct err *err)
{
    struct snapshot_writer *w;
    int rc = writer_of(shape, &w, err);

    if (rc != 0)
        return rc;
    if (is_small(w))
        return show_in_memory(shape, err);
    rc = write_file(shape, err);
    return rc == 0 ? show(shape, PLACE_FILE, NULL, err) : rc;
}

/* A small one goes into a segment that others share. */
static int write_segment(struct shapelog_shape *shape, struct err *err)
{
    const struct snapshot_writer *w = shape->snapshot_writer;
    struct segment *segment;
    uint64_t pos;
    int rc = shapelog_blob_reserve(shape->log, w->rows.len, &segment, &pos, err);

    if (rc != 0)
        return rc;
    rc = shapelog_write_at(segment->fd, w->rows.ptr, w->rows.len, pos, "a segment", err);
    if (rc == 0) {
        atomic_store(&segment->unsynced, true);
        shapelog_lock(shape);
        shape->snapshot.addr = ADDR(segment->n, pos);
        shapelog_unlock(shape);
        rc = show(shape, PLACE_SEGMENT, NULL, err);
    }
    if (rc != 0)
        shapelog_segment_unplace(shape->log, segment->n);
    shapelog_segment_put(segment);
    return rc;
}

static int write_end(struct shapelog_shape *shape, struct err *err)
{
    int rc;

    if (is_small(shape->snapshot_writer))
        return write_segment(shape, err);
    rc = write_file(shape, err);
    return rc == 0 ? show(shape, PLACE_FILE, NULL, err) : rc;
}

int shapelog_snapshot_end(struct shapelog_shape *shape, struct slice json,
                          struct slice view_text, struct err *err)
{
    struct snapshot_writer *w;
    char *view;
    int rc = writer_of(shape, &w, err);

    if (rc == 0)
        rc = put_message(shape, json, err);
    if (rc == 0)
        rc = close_chunk(shape, err);
    if (rc != 0)
        return rc;
    view = slice_dup(view_text);
    if (!view)
        return no_memory(shape, err);
    rc = write_end(shape, err);
    if (rc != 0) {
        free(view);
        return rc;
    }
    shapelog_lock(shape);
    shape->snapshot.complete = true;
    shape->snapshot.view_len = view_text.len;
    atomic_store(&shape->snapshot.view, view);
    shapelog_unlock(shape);
    shapelog_snapshot_writer_free(shape);
    shapelog_mark_dirty(shape, DIRTY_ROW);
    return 0;
}

struct slice shapelog_view(const struct shapelog_shape *shape)
{
    const char *view = atomic_load(&shape->snapshot.view);

    return view ? slice_make(view, shape->snapshot.view_len) : (struct slice){NULL, 0};
}

/* Where the chunk lies and whether its bytes are known to be good. */
struct place {
    uint64_t begin;
    uint64_t end; /* of what is readable, comma included */
    bool closed;
    bool verified;
    uint32_t crc;
    enum snapshot_place where;
    uint64_t addr;
    uint32_t epoch;
    struct body *memory; /* with a reference */
};

/* False when the chunk has not begun. */
static bool find_chunk(struct shapelog_shape *shape, uint32_t chunk, struct place *out)
{
    const struct snapshot *s = &shape->snapshot;
    bool begun;

    *out = (struct place){.where = PLACE_NOWHERE};
    shapelog_lock(shape);
    begun =
        s->begun && (chunk < s->chunk_count || (chunk == s->chunk_count && !s->complete));
    if (begun) {
        out->closed = chunk < s->chunk_count;
        out->begin = chunk ? s->chunks[chunk - 1].end : 0;
        out->end = out->closed ? s->chunks[chunk].end : s->readable;
        out->verified = !out->closed || s->chunks[chunk].verified;
        out->crc = out->closed ? s->chunks[chunk].crc : 0;
        out->where = s->place;
        out->addr = s->addr;
        out->epoch = s->epoch;
        out->memory = s->memory;
        if (out->memory)
            atomic_fetch_add(&out->memory->hold.refs, 1);
    }
    shapelog_unlock(shape);
    return begun;
}

/* The range of the place's file or memory; the piece keeps it open. */
static int open_place(struct shapelog_shape *shape, struct place *place, uint64_t from,
                      size_t len, struct shapelog_piece *out, struct err *err)
{
    char name[PATH_BYTES];
    struct segment *segment;
    struct file *file;
    int rc;

    *out = (struct shapelog_piece){.fd = -1, .len = len};
    if (place->memory) {
        out->mem = place->memory->bytes + from;
        out->hold = &place->memory->hold;
        place->memory = NULL;
        return 0;
    }
    if (place->where == PLACE_SEGMENT) {
        segment = shapelog_segment_get(shape->log, ADDR_SEGMENT(place->addr));
        if (!segment)
            return err_set(err, ERR_RETRY, "the snapshot of %s has moved", shape->handle);
        out->fd = segment->fd;
        out->file_pos = ADDR_POSITION(place->addr) + from;
        out->hold = &segment->hold;
        return 0;
    }
    shapelog_file_name(name, shape->id, place->epoch, FILE_SNAPSHOT);
    rc = shapelog_file_get(shape->log, &shape->snapshot.file, name, false, &file, err);
    if (rc != 0)
        return rc;
    out->fd = file->fd;
    out->file_pos = from;
    out->hold = &file->hold;
    return 0;
}

/* A small snapshot may be moved to another segment between the look and the reading. */
static int open_chunk(struct shapelog_shape *shape, uint32_t chunk, struct place *place,
                      uint64_t from, uint64_t extra, struct shapelog_piece *out,
                      struct err *err)
{
    uint64_t tried = UINT64_MAX;
    int rc;

    do {
        uint64_t size;

        *out = (struct shapelog_piece){.fd = -1};
        if (!find_chunk(shape, chunk, place))
            return 0;
        size = place->end > place->begin ? place->end - place->begin - 1 + extra : 0;
        rc = from >= size ? 0
                          : open_place(shape, place, place->begin + from,
                                       (size_t)(size - from), out, err);
        if (place->memory)
            shapelog_hold_put(&place->memory->hold);
        place->memory = NULL;
        if (rc == ERR_RETRY && place->addr == tried)
            rc = err_set(err, ERR_CORRUPT,
                         "the segment with the snapshot of %s is missing", shape->handle);
        tried = place->addr;
    } while (rc == ERR_RETRY);
    return rc;
}

static int check_bytes(struct shapelog_shape *shape, const struct place *place,
                       const struct shapelog_piece *piece, struct err *err)
{
    char *block = malloc(VERIFY_BLOCK_BYTES);
    uint32_t crc = 0;
    int rc = 0;

    if (!block)
        return err_set(err, ERR_MEMORY, "no memory to check %s", shape->handle);
    for (size_t done = 0; rc == 0 && done < piece->len;) {
        size_t left = piece->len - done;
        size_t n = left < VERIFY_BLOCK_BYTES ? left : VERIFY_BLOCK_BYTES;

        rc = shapelog_read_at(piece->fd, block, n, piece->file_pos + done, "a snapshot",
                              err);
        if (rc == 0)
            crc = crc32c(crc, block, n);
        done += n;
    }
    free(block);
    if (rc == 0 && crc != place->crc)
        rc = err_set(
            err, ERR_CORRUPT,
            "the snapshot of %s does not match its checksum between bytes %" PRIu64
            " and %" PRIu64,
            shape->handle, place->begin, place->end);
    return rc;
}

static int verify(struct shapelog_shape *shape, uint32_t chunk, struct err *err)
{
    struct shapelog_piece piece;
    struct place place;
    int rc = open_chunk(shape, chunk, &place, 0, 1, &piece, err);

    if (rc == 0 && piece.fd >= 0 && place.closed && !place.verified)
        rc = check_bytes(shape, &place, &piece, err);
    shapelog_piece_release(&piece);
    return rc;
}

int shapelog_snapshot_verify(struct shapelog_shape *shape, uint32_t chunk,
                             struct err *err)
{
    struct place place;
    bool due = find_chunk(shape, chunk, &place) && !place.verified;
    struct err why;
    int rc;

    if (place.memory)
        shapelog_hold_put(&place.memory->hold);
    if (!due)
        return 0;
    err_clear(&why);
    rc = verify(shape, chunk, &why);
    if (rc == ERR_CORRUPT)
        shapelog_report(shape, &why);
    if (rc != 0)
        return err_set(err, rc, "%s", why.message);
    shapelog_lock(shape);
    shape->snapshot.chunks[chunk].verified = true;
    shapelog_unlock(shape);
    return 0;
}

int shapelog_read_snapshot(struct shapelog_shape *shape, uint32_t chunk, uint64_t from,
                           struct shapelog_piece *out, enum shapelog_growth *growth,
                           struct err *err)
{
    struct place place;
    int rc = shapelog_snapshot_verify(shape, chunk, err);

    *out = (struct shapelog_piece){.fd = -1};
    *growth = SHAPELOG_GROWING;
    if (rc != 0)
        return rc;
    rc = open_chunk(shape, chunk, &place, from, 0, out, err);
    if (rc == 0 && place.closed)
        *growth = SHAPELOG_CLOSED;
    return rc;
}
