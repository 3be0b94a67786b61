/* A shape's snapshot: messages with a comma behind each, in chunks.
 *
 * A chunk ends behind the row that brought its bytes (commas included) to chunk_bytes.
 * Its bytes are readable as far as they are flushed; the comma behind the newest readable
 * row belongs to what comes next, so that a growing chunk's body can be sent as it grows.
 * Each closed chunk has a CRC32C, which is checked before the chunk is read for the first
 * time in a later life of the process. */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"

#define VERIFY_BLOCK_BYTES 65536u

static int no_memory(struct shapelog_shape *shape, struct err *err)
{
    (void)shapelog_break(shape, ERR_MEMORY);
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
    int rc = shapelog_refuse_broken(shape, err);
    bool complete;

    if (rc != 0)
        return rc;
    pthread_mutex_lock(&shape->lock);
    complete = shape->complete;
    pthread_mutex_unlock(&shape->lock);
    if (complete)
        return err_set(err, ERR_INVALID, "the snapshot of %s is complete already",
                       shape->handle);
    if (!shape->snapshot_writer) {
        shape->snapshot_writer = calloc(1, sizeof(*shape->snapshot_writer));
        if (!shape->snapshot_writer)
            return no_memory(shape, err);
        buf_init(&shape->snapshot_writer->rows,
                 (size_t)WRITE_BUFFER_BYTES + MESSAGE_MAX_BYTES + 2);
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
    if (rc == 0 && w->rows.len > WRITE_BUFFER_BYTES)
        rc = shapelog_snapshot_flush(shape, err);
    return rc;
}

/* Makes what is in the file readable. Locked. ERR_MEMORY. */
static int show(struct shapelog_shape *shape)
{
    struct snapshot_writer *w = shape->snapshot_writer;
    size_t count = shape->snapshot_chunk_count + w->chunk_count;
    void *items = shape->snapshot_chunks;

    if (!shapelog_grow(&items, &shape->snapshot_chunk_cap, count, sizeof(*w->chunks)))
        return ERR_MEMORY;
    shape->snapshot_chunks = items;
    if (w->chunk_count > 0)
        memcpy(shape->snapshot_chunks + shape->snapshot_chunk_count, w->chunks,
               w->chunk_count * sizeof(*w->chunks));
    shape->snapshot_chunk_count = count;
    shape->snapshot_readable = w->end;
    shape->begun = true;
    return 0;
}

static int write_rows(struct shapelog_shape *shape, struct err *err)
{
    const struct snapshot_writer *w = shape->snapshot_writer;
    struct file *file;
    int rc = shapelog_file_get(shape, FILE_SNAPSHOT, true, &file, err);

    if (rc == 0) {
        rc = shapelog_write_at(file->fd, w->rows.ptr, w->rows.len, w->end - w->rows.len,
                               shapelog_file_name(FILE_SNAPSHOT), err);
        shapelog_file_put(file);
    }
    return rc == 0 ? 0 : shapelog_break(shape, rc);
}

int shapelog_snapshot_flush(struct shapelog_shape *shape, struct err *err)
{
    struct snapshot_writer *w;
    int rc = writer_of(shape, &w, err);

    if (rc == 0 && w->rows.len > 0)
        rc = write_rows(shape, err);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&shape->lock);
    rc = show(shape);
    pthread_mutex_unlock(&shape->lock);
    if (rc != 0)
        return no_memory(shape, err);
    w->chunk_count = 0;
    buf_reset(&w->rows, (size_t)WRITE_BUFFER_BYTES * 2);
    return 0;
}

int shapelog_snapshot_end(struct shapelog_shape *shape, struct slice json,
                          struct slice view_text, struct err *err)
{
    struct snapshot_writer *w;
    char *view;
    int rc = writer_of(shape, &w, err);

    if (rc != 0)
        return rc;
    view = slice_dup(view_text);
    if (!view)
        return no_memory(shape, err);
    rc = put_message(shape, json, err);
    if (rc == 0)
        rc = close_chunk(shape, err);
    if (rc == 0 && w->rows.len > 0)
        rc = write_rows(shape, err);
    if (rc == 0) {
        pthread_mutex_lock(&shape->lock);
        rc = show(shape);
        if (rc == 0) {
            shape->complete = true;
            shape->view_len = view_text.len;
            atomic_store(&shape->view, view);
        }
        pthread_mutex_unlock(&shape->lock);
        if (rc != 0)
            rc = no_memory(shape, err);
    }
    if (rc != 0) {
        free(view);
        return rc;
    }
    shapelog_snapshot_writer_free(shape);
    shapelog_mark_dirty(shape);
    return 0;
}

struct slice shapelog_view(const struct shapelog_shape *shape)
{
    const char *view = atomic_load(&shape->view);

    return view ? slice_make(view, shape->view_len) : (struct slice){NULL, 0};
}

/* Where the chunk lies and whether its bytes are known to be good. */
struct place {
    uint64_t begin;
    uint64_t end; /* of what is readable, comma included */
    bool closed;
    bool verified;
    uint32_t crc;
};

/* False when the chunk has not begun. */
static bool find_chunk(struct shapelog_shape *shape, uint32_t chunk, struct place *out)
{
    const struct snapshot_chunk *chunks;
    bool begun;

    pthread_mutex_lock(&shape->lock);
    chunks = shape->snapshot_chunks;
    begun = chunk < shape->snapshot_chunk_count ||
            (chunk == shape->snapshot_chunk_count && !shape->complete);
    if (begun) {
        out->closed = chunk < shape->snapshot_chunk_count;
        out->begin = chunk ? chunks[chunk - 1].end : 0;
        out->end = out->closed ? chunks[chunk].end : shape->snapshot_readable;
        out->verified = !out->closed || chunks[chunk].verified;
        out->crc = out->closed ? chunks[chunk].crc : 0;
    }
    pthread_mutex_unlock(&shape->lock);
    return begun;
}

static int check_bytes(struct shapelog_shape *shape, const struct place *place,
                       struct err *err)
{
    const char *name = shapelog_file_name(FILE_SNAPSHOT);
    char *block = malloc(VERIFY_BLOCK_BYTES);
    struct file *file = NULL;
    uint32_t crc = 0;
    int rc;

    if (!block)
        return err_set(err, ERR_MEMORY, "no memory to check %s", shape->handle);
    rc = shapelog_file_get(shape, FILE_SNAPSHOT, false, &file, err);
    for (uint64_t pos = place->begin; rc == 0 && pos < place->end;) {
        uint64_t left = place->end - pos;
        size_t n = left < VERIFY_BLOCK_BYTES ? (size_t)left : VERIFY_BLOCK_BYTES;

        rc = shapelog_read_at(file->fd, block, n, pos, name, err);
        if (rc == 0)
            crc = crc32c(crc, block, n);
        pos += n;
    }
    if (rc == 0 && crc != place->crc)
        rc = err_set(err, ERR_CORRUPT,
                     "%s/%s does not match its checksum between bytes %" PRIu64
                     " and %" PRIu64,
                     shape->handle, name, place->begin, place->end);
    if (file)
        shapelog_file_put(file);
    free(block);
    return rc;
}

int shapelog_snapshot_verify(struct shapelog_shape *shape, uint32_t chunk,
                             struct err *err)
{
    struct place place;
    struct err why;
    int rc;

    if (!find_chunk(shape, chunk, &place) || place.verified)
        return 0;
    err_clear(&why);
    rc = check_bytes(shape, &place, &why);
    if (rc == ERR_CORRUPT)
        shapelog_report(shape, &why);
    if (rc != 0)
        return err_set(err, rc, "%s", why.message);
    pthread_mutex_lock(&shape->lock);
    shape->snapshot_chunks[chunk].verified = true;
    pthread_mutex_unlock(&shape->lock);
    return 0;
}

int shapelog_read_snapshot(struct shapelog_shape *shape, uint32_t chunk, uint64_t from,
                           struct shapelog_piece *out, enum shapelog_growth *growth,
                           struct err *err)
{
    struct place place;
    struct file *file;
    uint64_t size;
    int rc = shapelog_refuse_broken(shape, err);

    *out = (struct shapelog_piece){.fd = -1};
    *growth = SHAPELOG_GROWING;
    if (rc == 0)
        rc = shapelog_snapshot_verify(shape, chunk, err);
    if (rc != 0 || !find_chunk(shape, chunk, &place))
        return rc;
    *growth = place.closed ? SHAPELOG_CLOSED : SHAPELOG_GROWING;
    size = place.end > place.begin ? place.end - place.begin - 1 : 0;
    if (from >= size)
        return 0;
    rc = shapelog_file_get(shape, FILE_SNAPSHOT, false, &file, err);
    if (rc != 0)
        return rc;
    *out = (struct shapelog_piece){.fd = file->fd,
                                   .file_pos = place.begin + from,
                                   .len = (size_t)(size - from),
                                   .hold = &file->hold};
    return 0;
}
