/* Writing a shape's log: append, commit, abort, publish.
 *
 * A message waits at the end of the write buffer until the next one or the commit tells
 * whether it is the last of its transaction; only then is its length known, its record
 * written and the chunk it falls into decided. Full buffers go to the files behind the
 * published end, where nobody looks; publish writes the rest, messages before records,
 * and moves the end.
 *
 * A chunk's end is a function of the messages before it and of chunk_bytes, and is marked
 * in the record: it survives a change of the setting. */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/crc32c.h"

/* What encode.h's messages end in, and what the last one of a transaction ends in instead
 * (shape-protocol.md 4.3). That header is downstream of this module. */
#define MESSAGE_END  "}}"
#define MESSAGE_LAST ",\"last\":true}}"

void shapelog_writer_init(struct shapelog_shape *shape)
{
    struct writer *w = &shape->writer;
    struct mark end = shape->published;

    buf_init(&w->json, (size_t)WRITE_BUFFER_BYTES + MESSAGE_MAX_BYTES + 1024);
    buf_init(&w->index, (size_t)WRITE_BUFFER_BYTES * RECORD_BYTES);
    w->flushed = w->end = w->committed = end;
    w->chunk_begin =
        shape->chunk_count ? shape->chunks[shape->chunk_count - 1].end.bytes : 0;
    w->committed_chunk_begin = w->chunk_begin;
}

void shapelog_writer_fini(struct shapelog_shape *shape)
{
    buf_fini(&shape->writer.json);
    buf_fini(&shape->writer.index);
    free(shape->writer.chunks);
}

static int writer_failed(struct shapelog_shape *shape, int code, struct err *err)
{
    err_set(err, code, "no memory to append to the log of %s", shape->handle);
    return shapelog_break(shape, code);
}

/* Bytes of whole entries in the buffer. */
static size_t whole_bytes(const struct writer *w)
{
    return w->has_tail ? w->tail : w->json.len;
}

/* Writes the buffered whole entries to the files: messages before records. */
static int writer_write(struct shapelog_shape *shape, struct err *err)
{
    const struct writer *w = &shape->writer;
    size_t n = whole_bytes(w);
    struct file *log = NULL;
    struct file *index = NULL;
    int rc;

    if (n == 0)
        return 0;
    rc = shapelog_file_get(shape, FILE_LOG, true, &log, err);
    if (rc == 0)
        rc = shapelog_file_get(shape, FILE_INDEX, true, &index, err);
    if (rc == 0)
        rc = shapelog_write_at(log->fd, w->json.ptr, n, w->flushed.bytes,
                               shapelog_file_name(FILE_LOG), err);
    if (rc == 0)
        rc = shapelog_write_at(index->fd, w->index.ptr, w->index.len,
                               w->flushed.entries * RECORD_BYTES,
                               shapelog_file_name(FILE_INDEX), err);
    if (index)
        shapelog_file_put(index);
    if (log)
        shapelog_file_put(log);
    return rc == 0 ? 0 : shapelog_break(shape, rc);
}

/* Forgets what writer_write has written, keeping up to keep_bytes of memory. */
static void writer_written(struct shapelog_shape *shape, size_t keep_bytes)
{
    struct writer *w = &shape->writer;

    buf_consume(&w->json, whole_bytes(w));
    if (w->json.len == 0)
        buf_reset(&w->json, keep_bytes);
    buf_reset(&w->index, keep_bytes);
    w->tail = 0;
    w->flushed = w->end;
}

static int close_chunk(struct shapelog_shape *shape, struct err *err)
{
    struct writer *w = &shape->writer;
    void *items = w->chunks;

    if (!shapelog_grow(&items, &w->chunk_cap, w->chunk_count + 1, sizeof(*w->chunks)))
        return writer_failed(shape, ERR_MEMORY, err);
    w->chunks = items;
    w->chunks[w->chunk_count++] = (struct log_chunk){.end = w->end, .verified = true};
    w->chunk_begin = w->end.bytes;
    return 0;
}

/* Gives the waiting message its record. */
static int settle_tail(struct shapelog_shape *shape, uint32_t flags, struct err *err)
{
    struct writer *w = &shape->writer;
    struct record record = {
        .tx = w->tail_at.tx, .op = w->tail_at.op, .pos = w->end.bytes};
    bool closes;

    if (flags & RECORD_LAST) {
        buf_truncate(&w->json, w->json.len - (sizeof(MESSAGE_END) - 1));
        buf_puts(&w->json, MESSAGE_LAST);
    }
    if (!w->json.failed) {
        record.len = (uint32_t)(w->json.len - w->tail);
        record.crc = crc32c(0, w->json.ptr + w->tail, record.len);
    }
    w->end = (struct mark){w->end.entries + 1, w->end.bytes + record.len + 1, w->tail_at};
    closes = w->end.bytes - w->chunk_begin >= shape->log->config.chunk_bytes;
    record.flags = flags | (closes ? RECORD_CHUNK : 0);
    buf_putc(&w->json, ',');
    shapelog_record_put(&w->index, &record);
    w->has_tail = false;
    if (w->json.failed || w->index.failed)
        return writer_failed(shape, ERR_MEMORY, err);
    if (closes && close_chunk(shape, err) != 0)
        return ERR_MEMORY;
    if (w->json.len > WRITE_BUFFER_BYTES) {
        if (writer_write(shape, err) != 0)
            return ERR_IO;
        writer_written(shape, (size_t)WRITE_BUFFER_BYTES * 2);
    }
    return 0;
}

static int check_message(const struct shapelog_shape *shape, struct offset at,
                         struct slice json, struct err *err)
{
    const struct writer *w = &shape->writer;
    struct offset newest = w->has_tail ? w->tail_at : w->end.at;
    char text[OFFSET_TEXT_MAX];

    offset_print(at, text);
    if (at.tx == 0 || at.op == OFFSET_OP_INF || offset_cmp(at, newest) <= 0)
        return err_set(err, ERR_INVALID,
                       "an entry of %s at %s must be above the one before", shape->handle,
                       text);
    if (json.len < 2 || memcmp(json.ptr + json.len - 2, MESSAGE_END, 2) != 0)
        return err_set(err, ERR_INVALID, "the entry of %s at %s must end in " MESSAGE_END,
                       shape->handle, text);
    if (json.len > MESSAGE_MAX_BYTES - sizeof(MESSAGE_LAST))
        return err_set(err, ERR_LIMIT,
                       "the entry of %s at %s has %zu bytes; at most %u can be kept",
                       shape->handle, text, json.len, MESSAGE_MAX_BYTES);
    return 0;
}

int shapelog_append(struct shapelog_shape *shape, uint64_t tx, uint64_t op,
                    struct slice json, struct err *err)
{
    struct writer *w = &shape->writer;
    struct offset at = {tx, op, false};
    int rc = shapelog_refuse_broken(shape, err);

    if (rc == 0)
        rc = check_message(shape, at, json, err);
    if (rc == 0 && w->has_tail)
        rc = settle_tail(shape, 0, err);
    if (rc != 0)
        return rc;
    w->tail = w->json.len;
    buf_put_slice(&w->json, json);
    if (w->json.failed)
        return writer_failed(shape, ERR_MEMORY, err);
    w->has_tail = true;
    w->tail_at = at;
    return 0;
}

int shapelog_commit(struct shapelog_shape *shape, struct err *err)
{
    struct writer *w = &shape->writer;
    int rc = shapelog_refuse_broken(shape, err);

    if (rc == 0 && w->has_tail)
        rc = settle_tail(shape, RECORD_LAST, err);
    if (rc != 0)
        return rc;
    w->committed = w->end;
    w->committed_chunks = w->chunk_count;
    w->committed_chunk_begin = w->chunk_begin;
    return 0;
}

/* Cuts what went to the files beyond the committed end: recovery must not find it there.
 */
static int cut_files(struct shapelog_shape *shape, struct err *err)
{
    struct writer *w = &shape->writer;
    const uint64_t ends[] = {
        [FILE_LOG] = w->committed.bytes,
        [FILE_INDEX] = w->committed.entries * RECORD_BYTES,
    };

    for (enum file_kind kind = FILE_LOG; kind <= FILE_INDEX; kind++) {
        struct file *file = NULL;
        int rc = shapelog_file_get(shape, kind, true, &file, err);

        if (rc == 0 && ftruncate(file->fd, (off_t)ends[kind]) != 0)
            rc =
                err_errno(err, ERR_IO, errno, "can't truncate %s/%s to %" PRIu64 " bytes",
                          shape->handle, shapelog_file_name(kind), ends[kind]);
        if (file)
            shapelog_file_put(file);
        if (rc != 0)
            return shapelog_break(shape, rc);
    }
    return 0;
}

int shapelog_abort(struct shapelog_shape *shape, struct err *err)
{
    struct writer *w = &shape->writer;
    int rc = shapelog_refuse_broken(shape, err);

    if (rc != 0)
        return rc;
    if (w->flushed.entries > w->committed.entries) {
        rc = cut_files(shape, err);
        if (rc != 0)
            return rc;
        w->flushed = w->committed;
        buf_reset(&w->json, 0);
        buf_reset(&w->index, 0);
    } else {
        uint64_t kept = w->committed.entries - w->flushed.entries;

        buf_truncate(&w->json, (size_t)(w->committed.bytes - w->flushed.bytes));
        buf_truncate(&w->index, (size_t)kept * RECORD_BYTES);
    }
    w->has_tail = false;
    w->end = w->committed;
    w->chunk_count = w->committed_chunks;
    w->chunk_begin = w->committed_chunk_begin;
    return 0;
}

/* Shows the last records of `index` (which begin at entry `first`) up to the published
 * end in the memory of recent entries. Only a cache: without memory it is left empty.
 * Locked. */
static void remember_recent(struct shapelog_shape *shape, const struct buf *index,
                            uint64_t first, uint64_t published_before)
{
    uint64_t end = shape->published.entries;
    uint64_t from = first > published_before ? first : published_before;
    uint32_t cap = shape->recent_cap ? shape->recent_cap : 4;
    uint32_t count;

    if (from >= end) { /* all went to the file before */
        shape->recent_len = 0;
        return;
    }
    if (end - from > RECENT_MAX)
        from = end - RECENT_MAX;
    if (from > published_before)
        shape->recent_len = 0; /* there is a gap */
    count = (uint32_t)(end - from);
    while (cap < RECENT_MAX && cap < shape->recent_len + count)
        cap *= 2;
    if (cap != shape->recent_cap) {
        struct recent *grown = realloc(shape->recent, cap * sizeof(*grown));

        if (!grown) {
            shape->recent_len = 0;
            return;
        }
        shape->recent = grown;
        shape->recent_cap = cap;
    }
    if (shape->recent_len + count > cap) {
        uint32_t drop = shape->recent_len + count - cap;

        memmove(shape->recent, shape->recent + drop,
                (shape->recent_len - drop) * sizeof(*shape->recent));
        shape->recent_len -= drop;
    }
    for (uint64_t n = from; n < end; n++) {
        struct record record;

        ASSERT(shapelog_record_get(index->ptr + (n - first) * RECORD_BYTES, &record));
        shape->recent[shape->recent_len++] =
            (struct recent){record.tx, record.op, record.pos};
    }
}

/* Adds the committed chunks that the writer closed to the readable ones. Locked; the room
 * is there. */
static void show_chunks(struct shapelog_shape *shape)
{
    struct writer *w = &shape->writer;

    for (size_t i = 0; i < w->committed_chunks; i++) {
        struct log_chunk chunk = w->chunks[i];

        chunk.verified = shape->open_verified;
        shape->open_verified = true;
        shape->chunks[shape->chunk_count++] = chunk;
    }
}

static int reserve_chunks(struct shapelog_shape *shape, struct err *err)
{
    void *items;
    bool ok;

    pthread_mutex_lock(&shape->lock);
    items = shape->chunks;
    ok = shapelog_grow(&items, &shape->chunk_cap,
                       shape->chunk_count + shape->writer.committed_chunks,
                       sizeof(*shape->chunks));
    shape->chunks = items;
    pthread_mutex_unlock(&shape->lock);
    return ok ? 0 : writer_failed(shape, ERR_MEMORY, err);
}

/* The body that those who wait at the end will ask for; NULL when it isn't all in memory,
 * is large or goes on into a closed chunk's successor. */
static struct body *next_body(const struct shapelog_shape *shape)
{
    const struct writer *w = &shape->writer;
    uint64_t from = shape->published.bytes; /* only the sequencer changes it */
    uint64_t to = w->committed_chunks ? w->chunks[0].end.bytes : w->committed.bytes;
    struct body *body;

    if (w->flushed.bytes > from || to - from - 1 > BODY_MAX_BYTES)
        return NULL;
    body = shapelog_body_new(from, (size_t)(to - from - 1));
    if (body)
        memcpy(body->bytes, w->json.ptr + (from - w->flushed.bytes), body->len);
    return body;
}

/* Moves the published end to the committed one. What is shown is in the files. */
static void show(struct shapelog_shape *shape)
{
    struct writer *w = &shape->writer;
    uint64_t before = shape->published.entries;

    pthread_mutex_lock(&shape->lock);
    shape->published = w->committed;
    show_chunks(shape);
    remember_recent(shape, &w->index, w->flushed.entries, before);
    pthread_mutex_unlock(&shape->lock);
    w->chunk_count -= w->committed_chunks;
    if (w->chunk_count > 0)
        memmove(w->chunks, w->chunks + w->committed_chunks,
                w->chunk_count * sizeof(*w->chunks));
    w->committed_chunks = 0;
}

int shapelog_publish(struct shapelog_shape *shape, struct err *err)
{
    struct writer *w = &shape->writer;
    uint64_t bytes_before = shape->published.bytes;
    struct body *body;
    int rc = shapelog_refuse_broken(shape, err);

    if (rc != 0 || w->committed.entries == shape->published.entries)
        return rc;
    rc = reserve_chunks(shape, err);
    if (rc == 0)
        rc = writer_write(shape, err);
    if (rc != 0)
        return rc;
    body = next_body(shape);
    show(shape);
    writer_written(shape, 0); /* an idle shape holds no buffers */
    if (body) {
        shapelog_body_keep(&shape->log->bodies, &shape->body, body);
        shapelog_hold_put(&body->hold);
    }
    obs_count(shape->log->config.obs, OBS_LOG_BYTES, w->committed.bytes - bytes_before);
    shapelog_mark_dirty(shape);
    return 0;
}

struct offset shapelog_committed(const struct shapelog_shape *shape)
{
    return shape->writer.committed.at;
}
