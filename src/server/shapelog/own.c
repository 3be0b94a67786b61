/* A shape's own files: what is long lies contiguous, so that a reader is handed a range of a
 * file.
 *
 *   shapes/<id>-<epoch>.log   messages as they are served, each with a comma behind it
 *   shapes/<id>-<epoch>.idx   one record for each (record.c)
 *
 * Two ways lead here: entries of a flush, or of an open transaction, that are many for one
 * shape; and a tail that has grown long. In both cases everything before is here already, or
 * goes first. Each process writes files of its own epoch: a *run*. What lies behind the
 * published end of the last run is written over after a rollback; a start takes no notice of
 * what no checkpoint has recorded. */
#include "server/shapelog/internal.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"

struct own_writer {
    struct shapelog_shape *shape;
    struct run *run;
    struct file *log;
    struct file *index;
    struct buf data;
    struct buf records;
    struct mark flushed; /* what `data` and `records` continue */
    struct mark end;
};

struct run *shapelog_run_at(const struct shapelog_shape *shape, uint64_t pos)
{
    for (uint32_t i = shape->run_count; i-- > 0;) {
        if (pos >= shape->runs[i]->begin.bytes)
            return pos < shape->runs[i]->end.bytes ? shape->runs[i] : NULL;
    }
    return NULL;
}

int shapelog_run_files(struct shapelog_shape *shape, struct run *run, bool create,
                       struct file **log, struct file **index, struct err *err)
{
    char name[PATH_BYTES];
    int rc;

    *log = *index = NULL;
    shapelog_file_name(name, shape->id, run->epoch, FILE_LOG);
    rc = shapelog_file_get(shape->log, &run->log, name, create, log, err);
    shapelog_file_name(name, shape->id, run->epoch, FILE_INDEX);
    if (rc == 0)
        rc = shapelog_file_get(shape->log, &run->index, name, create, index, err);
    if (rc != 0 && *log) {
        shapelog_file_put(*log);
        *log = NULL;
    }
    return rc;
}

int shapelog_run_add(struct shapelog_shape *shape, uint32_t epoch, struct mark begin)
{
    struct run *run = calloc(1, sizeof(*run));
    struct run **runs = run ? malloc((shape->run_count + 1) * sizeof(*runs)) : NULL;
    struct run **older;

    if (!runs) {
        free(run);
        return ERR_MEMORY;
    }
    run->epoch = epoch;
    run->begin = run->end = begin;
    shapelog_lock(shape);
    older = shape->runs;
    for (uint32_t i = 0; i < shape->run_count; i++)
        runs[i] = older[i];
    runs[shape->run_count++] = run;
    shape->runs = runs;
    shapelog_unlock(shape);
    free(older);
    return 0;
}

static int no_memory(const struct shapelog_shape *shape, struct err *err)
{
    return err_set(err, ERR_MEMORY, "no memory to write the log of %s", shape->handle);
}

static int writer_begin(struct own_writer *w, struct shapelog_shape *shape,
                        struct err *err)
{
    struct run *run = shape->run_count ? shape->runs[shape->run_count - 1] : NULL;
    bool create = !run || run->epoch != shape->log->epoch;
    int rc;

    *w = (struct own_writer){
        .shape = shape, .flushed = shape->own_end, .end = shape->own_end};
    buf_init(&w->data, 2 * WRITE_BLOCK_BYTES + MESSAGE_MAX_BYTES);
    buf_init(&w->records, 16 * WRITE_BLOCK_BYTES);
    if (create && shapelog_run_add(shape, shape->log->epoch, shape->own_end) != 0)
        return no_memory(shape, err);
    w->run = shape->runs[shape->run_count - 1];
    rc = shapelog_run_files(shape, w->run, true, &w->log, &w->index, err);
    if (create)
        atomic_store(&w->run->new_names, true); /* there is something to sync now */
    return rc;
}

static int writer_flush(struct own_writer *w, struct err *err)
{
    const struct mark *begin = &w->run->begin;
    int rc;

    if (w->data.failed || w->records.failed)
        return no_memory(w->shape, err);
    rc = shapelog_write_at(w->log->fd, w->data.ptr, w->data.len,
                           w->flushed.bytes - begin->bytes, "a log's messages", err);
    if (rc == 0)
        rc = shapelog_write_at(w->index->fd, w->records.ptr, w->records.len,
                               (w->flushed.entries - begin->entries) * RECORD_BYTES,
                               "a log's index", err);
    atomic_store(&w->run->unsynced, true);
    w->flushed = w->end;
    buf_reset(&w->data, 2 * WRITE_BLOCK_BYTES);
    buf_reset(&w->records, 2 * WRITE_BLOCK_BYTES);
    return rc;
}

static bool writer_is_full(const struct own_writer *w)
{
    return w->data.len >= WRITE_BLOCK_BYTES || w->records.len >= WRITE_BLOCK_BYTES;
}

/* The entry's message is what was put into `data` from `start` on, with its comma. */
static int writer_note(struct own_writer *w, const struct entry *e, size_t start,
                       struct err *err)
{
    struct record record = {
        .tx = e->tx, .op = e->op, .pos = w->end.bytes, .flags = e->flags};

    if (w->data.failed)
        return no_memory(w->shape, err);
    record.len = (uint32_t)(w->data.len - start - 1);
    record.crc = crc32c(0, w->data.ptr + start, record.len);
    shapelog_record_put(&w->records, &record);
    w->end = mark_after(w->end, e);
    return writer_is_full(w) ? writer_flush(w, err) : 0;
}

static void writer_fini(struct own_writer *w)
{
    if (w->log)
        shapelog_file_put(w->log);
    if (w->index)
        shapelog_file_put(w->index);
    buf_fini(&w->data);
    buf_fini(&w->records);
}

/* What was written, beginning with the tail, is the shape's; not shown. */
static int writer_end(struct own_writer *w, int rc, struct err *err)
{
    struct shapelog_shape *shape = w->shape;
    struct tail tail;

    if (rc == 0)
        rc = writer_flush(w, err);
    writer_fini(w);
    if (rc != 0)
        return rc;
    shapelog_lock(shape);
    shape->own_end = w->run->end = w->end;
    tail = shape->tail;
    shape->tail = (struct tail){.bytes = NULL};
    shapelog_unlock(shape);
    shapelog_mark_dirty(shape, DIRTY_ROW); /* before anything counts as dead */
    shapelog_tail_unplace(shape->log, &tail);
    shapelog_tail_clear(&tail);
    return 0;
}

/* Copies the tail's entries. */
static int tail_copy(struct shapelog_shape *shape, struct entry **out, size_t *count,
                     struct err *err)
{
    size_t n = (size_t)(shape->written.entries - shape->own_end.entries);
    struct entry *entries = calloc(n + 1, sizeof(*entries));
    struct tail_walk walk;

    if (!entries)
        return no_memory(shape, err);
    *out = entries;
    *count = 0;
    shapelog_lock(shape);
    shapelog_tail_walk(&walk, &shape->tail, shape->own_end);
    while (*count < n && shapelog_tail_next(&walk))
        entries[(*count)++] = walk.entry;
    shapelog_unlock(shape);
    ASSERT(*count == n);
    return 0;
}

static int put_tail(struct own_writer *w, const struct entry *entries, size_t count,
                    struct err *err)
{
    int rc = 0;

    for (size_t i = 0, n; rc == 0 && i < count; i += n) {
        size_t start = w->data.len;
        uint64_t bytes = 0;

        for (n = 0; i + n < count && (n == 0 || bytes < WRITE_BLOCK_BYTES / 4); n++)
            bytes += entry_served_bytes(&entries[i + n]) + 1;
        rc = shapelog_gather(w->shape->log, entries + i, n, &w->data, err);
        for (size_t j = 0; rc == 0 && j < n; j++) {
            const struct entry *e = &entries[i + j];
            struct record record = {.tx = e->tx,
                                    .op = e->op,
                                    .pos = w->end.bytes,
                                    .len = (uint32_t)entry_served_bytes(e),
                                    .flags = e->flags};

            record.crc = crc32c(0, w->data.ptr + start, record.len);
            start += record.len + 1;
            shapelog_record_put(&w->records, &record);
            w->end = mark_after(w->end, e);
        }
        if (rc == 0 && writer_is_full(w))
            rc = writer_flush(w, err);
    }
    return rc;
}

/* Writes the tail first when there is one; then w continues. */
static int write_tail(struct own_writer *w, struct err *err)
{
    struct shapelog_shape *shape = w->shape;
    struct entry *entries = NULL;
    size_t count = 0;
    int rc;

    if (shape->written.entries == shape->own_end.entries)
        return 0;
    pthread_rwlock_rdlock(&shape->log->segments.readers);
    rc = tail_copy(shape, &entries, &count, err);
    if (rc == 0)
        rc = put_tail(w, entries, count, err);
    pthread_rwlock_unlock(&shape->log->segments.readers);
    free(entries);
    return rc;
}

int shapelog_own_move(struct shapelog_shape *shape, struct err *err)
{
    struct own_writer w;
    int rc = writer_begin(&w, shape, err);

    if (rc == 0)
        rc = write_tail(&w, err);
    return writer_end(&w, rc, err);
}

static int put_pending(struct own_writer *w, uint32_t until, struct err *err)
{
    struct shapelog_shape *shape = w->shape;
    const struct batch *batch = &shape->log->batch;
    uint32_t at = shape->pending_first;
    int rc = 0;

    for (; rc == 0 && at != until; at = batch->pending[at].next) {
        const struct pending *p = &batch->pending[at];
        const struct variant *v = &batch->variants[p->variant];
        struct entry e = {.tx = p->tx, .op = p->op, .len = v->len, .flags = p->flags};
        size_t start = w->data.len;

        rc = shapelog_settle(shape, &e, err);
        if (rc != 0)
            return rc;
        if (e.flags & ENTRY_LAST) {
            buf_put(&w->data, batch->stage.ptr + v->pos,
                    v->len - (sizeof(MESSAGE_END) - 1));
            buf_puts(&w->data, MESSAGE_LAST ",");
        } else {
            buf_put(&w->data, batch->stage.ptr + v->pos, (size_t)v->len + 1);
        }
        rc = writer_note(w, &e, start, err);
    }
    return rc;
}

int shapelog_own_write(struct shapelog_shape *shape, uint32_t until, struct err *err)
{
    struct own_writer w;
    int rc = writer_begin(&w, shape, err);

    if (rc == 0)
        rc = write_tail(&w, err);
    if (rc == 0)
        rc = put_pending(&w, until, err);
    return writer_end(&w, rc, err);
}
