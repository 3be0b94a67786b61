/* The shape log: opening, closing, and the life of shapes.
 *
 * Problem: store each shape as the bytes that clients receive, so that a request costs a
 * lookup and a sendfile, nothing waits for a disk on the way in, a change that ten thousand
 * shapes share costs one write, an idle shape costs some hundred bytes of memory and no file,
 * and a crash at any point costs at most what the replication slot sends again.
 *
 * On disk, format 2:
 *
 *   <dir>/meta.sqlite            what the last checkpoint made durable (meta.c, state.c); after
 *                                a take-over it has a number (takeover.c)
 *   <dir>/segments/<n>-<epoch>   shared by all shapes (segment.c): the journal's frames, with
 *                                each new message once and the entries that point to it
 *                                (frame.c); small snapshots; what reclaim.c has moved
 *   <dir>/shapes/<id>-<epoch>.log, .idx   the long part of a log, contiguous (own.c)
 *   <dir>/shapes/<id>-<epoch>.snapshot    a snapshot above 64 KiB
 *   <dir>/live-<epoch>           what must outlive the process only (live.c)
 *   <dir>/lock                   whose storage it is (lock.c): a second process waits
 *
 * The way of an entry:
 *
 *   append, commit     flush                     tend                  reader
 *   in memory     -->  one frame for all    -->  a tail above     -->  own files: sendfile;
 *   (batch.c)          shapes, an entry in       64 KiB goes to        tail: gathered into a
 *                      each one's tail           the shape's own       body that all share
 *                                                files (own.c)         (locate.c, gather.c)
 *
 *   checkpoint (checkpoint.c): sync what was written, then one SQLite transaction: the LSN, how
 *   far the journal goes, rows of new and removed shapes and of those whose own files grew. The
 *   tails of the others are in the journal; now and then (a *fold*) all changed rows are written
 *   and the journal before is not needed any more.
 *
 * Recovery: rows, then the journal from the fold to the recorded end; whatever lies behind what
 * a checkpoint recorded is not looked at. The slot sends it again, and it lands at the same
 * offsets: clients that have seen it already find themselves ahead of the log until then.
 *
 * Epochs: each process that opens the storage counts one up in meta.sqlite, writes only to
 * files that carry its number, and records a checkpoint only while it is the newest. So one
 * that was thought dead can't harm.
 *
 * Invariants:
 *   - Bytes below the published end never change.
 *   - A chunk's end is decided when its last entry is written, and never moves: not by a
 *     restart, a replay or another chunk_bytes.
 *   - A shape has a row only once its snapshot is complete and synced.
 *   - Recorded LSN L: every shape with a row holds all its entries up to L.
 *   - Each byte read back is covered by a CRC32C: messages in segments on every read, own files
 *     and snapshots when a chunk is first read in a later life, rows and frames at the start.
 *
 * Rejected (docs/records/003): a file or folder for each shape (25 us to make, 190 us to sync
 * each); SQLite rows for each change of a tail (1 us each, on every checkpoint); everything in
 * segments (three times the work for a shape that gets every change); keeping what lies behind
 * the checkpoint after a crash (it would have to be written again: the kernel may have lost it). */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"

bool shapelog_grow(void **items, size_t *cap, size_t need, size_t size)
{
    size_t wanted = *cap ? *cap : 4;
    void *grown;

    if (need <= *cap)
        return true;
    while (wanted < need)
        wanted *= 2;
    if (wanted > SIZE_MAX / size)
        return false;
    grown = realloc(*items, wanted * size);
    if (!grown)
        return false;
    *items = grown;
    *cap = wanted;
    return true;
}

/* --- one shape --- */

bool shapelog_handle_valid(struct slice handle)
{
    if (handle.len == 0 || handle.len > SHAPELOG_HANDLE_MAX)
        return false;
    for (size_t i = 0; i < handle.len; i++) {
        char c = handle.ptr[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
              (c >= 'A' && c <= 'Z') || c == '-' || c == '_'))
            return false;
    }
    return true;
}

static struct definition *definition_new(struct slice text)
{
    struct definition *definition = malloc(sizeof(*definition) + text.len);

    if (!definition)
        return NULL;
    definition->len = text.len;
    if (text.len > 0)
        memcpy(definition->bytes, text.ptr, text.len);
    return definition;
}

int shapelog_redefine(struct shapelog_shape *shape, struct slice definition,
                      struct err *err)
{
    struct definition *newer = definition_new(definition);

    if (!newer)
        return err_set(err, ERR_MEMORY, "no memory for the definition of %s",
                       shape->handle);
    free(atomic_exchange(&shape->definition, newer));
    shapelog_mark_dirty(shape, DIRTY_ROW);
    return 0;
}

struct shapelog_shape *shapelog_shape_new(struct shapelog *log, uint64_t id,
                                          struct slice handle)
{
    struct shapelog_shape *shape = calloc(1, sizeof(*shape) + handle.len + 1);

    if (!shape)
        return NULL;
    memcpy(shape->handle, handle.ptr, handle.len);
    atomic_init(&shape->refs, 1);
    shape->log = log;
    shape->id = id;
    shape->open_verified = true;
    shape->snapshot.epoch = log->epoch;
    shape->published = shape->written = shape->own_end = MARK_BEGIN;
    shape->pending_first = shape->pending_newest = shape->pending_open = PENDING_NONE;
    list_init(&shape->dirty_link);
    list_init(&shape->batch_link);
    list_init(&shape->fat_link);
    return shape;
}

int shapelog_register(struct shapelog_shape *shape)
{
    struct shapelog *log = shape->log;
    void *items;
    bool room;

    pthread_mutex_lock(&log->lock);
    items = log->shapes;
    room = log->shape_count < UINT32_MAX &&
           shapelog_grow(&items, &log->shape_cap, log->shape_count + 1,
                         sizeof(struct shapelog_shape *));
    log->shapes = items;
    if (room) {
        shape->slot = (uint32_t)log->shape_count;
        log->shapes[log->shape_count++] = shape;
    }
    pthread_mutex_unlock(&log->lock);
    return room ? 0 : ERR_MEMORY;
}

/* Locked. */
static void unregister(struct shapelog_shape *shape)
{
    struct shapelog *log = shape->log;
    struct shapelog_shape *last = log->shapes[--log->shape_count];

    log->shapes[shape->slot] = last;
    last->slot = shape->slot;
}

void shapelog_unplace(struct shapelog_shape *shape)
{
    if (shape->snapshot.place == PLACE_SEGMENT)
        shapelog_segment_unplace(shape->log, ADDR_SEGMENT(shape->snapshot.addr));
    shapelog_tail_unplace(shape->log, &shape->tail);
}

static void free_runs(struct shapelog_shape *shape)
{
    for (uint32_t i = 0; i < shape->run_count; i++) {
        shapelog_file_forget(&shape->log->files, &shape->runs[i]->log);
        shapelog_file_forget(&shape->log->files, &shape->runs[i]->index);
        free(shape->runs[i]);
    }
    free(shape->runs);
}

void shapelog_shape_free(struct shapelog_shape *shape)
{
    struct snapshot *s = &shape->snapshot;

    free_runs(shape);
    shapelog_file_forget(&shape->log->files, &s->file);
    shapelog_bodies_forget(&shape->log->bodies, &shape->body);
    if (s->memory)
        shapelog_hold_put(&s->memory->hold);
    shapelog_snapshot_writer_free(shape);
    shapelog_tail_clear(&shape->tail);
    free(s->chunks);
    free(atomic_load(&s->view));
    free(shape->chunks);
    free(shape->spilled);
    free(atomic_load(&shape->definition));
    free(shape);
}

void shapelog_discard(struct shapelog_shape *shape)
{
    if (shape->dirty != CLEAN)
        shapelog_unmark_dirty_locked(shape);
    unregister(shape);
    shapelog_unplace(shape);
    shapelog_shape_free(shape);
}

struct shapelog_shape *shapelog_retain(struct shapelog_shape *shape)
{
    atomic_fetch_add(&shape->refs, 1);
    return shape;
}

void shapelog_release(struct shapelog_shape *shape)
{
    struct shapelog *log;

    if (!shape || atomic_fetch_sub(&shape->refs, 1) != 1)
        return;
    /* The registry's reference went with shapelog_remove. */
    log = shape->log;
    pthread_mutex_lock(&log->lock);
    ASSERT(shape->removed && list_empty(&shape->dirty_link));
    list_push(&log->released, &shape->dirty_link);
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->lock);
}

const char *shapelog_handle(const struct shapelog_shape *shape)
{
    return shape->handle;
}

void shapelog_report(struct shapelog_shape *shape, const struct err *why)
{
    const struct shapelog_config *config = &shape->log->config;

    if (atomic_exchange(&shape->reported, true))
        return;
    log_event(config->log, LOG_ERROR, "shapelog.corrupt",
              LOG_TEXT("handle", shape->handle), LOG_TEXT("error", why->message));
    if (config->corrupt && !config->corrupt(config->ctx, shape))
        atomic_store(&shape->reported, false);
}

int shapelog_create(struct shapelog *log, struct slice handle, struct slice definition,
                    struct shapelog_shape **out, struct err *err)
{
    struct shapelog_shape *shape;
    struct definition *text;

    if (!shapelog_handle_valid(handle))
        return err_set(err, ERR_INVALID,
                       "a shape's handle must have 1 to %d letters, digits, '-' or '_'",
                       SHAPELOG_HANDLE_MAX);
    shape = shapelog_shape_new(log, log->next_id, handle);
    text = definition_new(definition);
    if (!shape || !text || shapelog_register(shape) != 0) {
        free(text);
        free(shape);
        return err_set(err, ERR_MEMORY, "no memory for a new shape");
    }
    log->next_id++;
    atomic_store(&shape->definition, text);
    *out = shapelog_retain(shape);
    return 0;
}

void shapelog_remove(struct shapelog_shape *shape)
{
    struct shapelog *log = shape->log;
    bool first;

    pthread_mutex_lock(&log->lock);
    first = !shape->removed;
    shape->removed = true;
    if (first) {
        unregister(shape);
        shapelog_live_removed(log, shape->id);
        shapelog_mark_dirty_locked(shape, DIRTY_ROW);
    }
    pthread_mutex_unlock(&log->lock);
    if (!first)
        return;
    shapelog_batch_forget(shape);
    if (shape->fat)
        list_remove(&shape->fat_link);
    shape->fat = false;
    shapelog_release(shape);
}

int shapelog_each(struct shapelog *log, shapelog_restored_fn *fn, void *ctx,
                  struct err *err)
{
    struct buf definition;
    struct err why;
    int rc = 0;

    buf_init(&definition, MESSAGE_MAX_BYTES);
    /* Backwards, since a removal puts the last one into its place. Only the sequencer, which is
     * the caller, changes the registry. */
    for (size_t i = log->shape_count; rc == 0 && i-- > 0;) {
        struct shapelog_shape *shape = log->shapes[i];

        buf_reset(&definition, WRITE_BLOCK_BYTES);
        pthread_mutex_lock(&log->meta_lock);
        err_clear(&why);
        rc = shapelog_meta_definition(log->meta, shape->id, &definition, &why);
        pthread_mutex_unlock(&log->meta_lock);
        if (rc == 0) {
            fn(ctx, shape, buf_slice(&definition));
        } else if (rc == ERR_CORRUPT || rc == ERR_NOT_FOUND) {
            shapelog_note_dropped(log, slice_of(shape->handle), &why);
            shapelog_remove(shape);
            rc = 0;
        } else {
            err_set(err, rc, "%s", why.message);
        }
    }
    buf_fini(&definition);
    return rc;
}

/* --- facts --- */

static void note_key(char *key, size_t size, const char *name)
{
    snprintf(key, size, "note.%s", name);
}

int shapelog_note_put(struct shapelog *log, const char *name, struct slice text,
                      struct err *err)
{
    char key[64];
    int rc;

    note_key(key, sizeof(key), name);
    pthread_mutex_lock(&log->meta_lock);
    rc = shapelog_meta_put_text(log->meta, key, text, err);
    pthread_mutex_unlock(&log->meta_lock);
    return rc;
}

int shapelog_note_get(struct shapelog *log, const char *name, struct buf *out,
                      struct err *err)
{
    char key[64];
    int rc;

    note_key(key, sizeof(key), name);
    pthread_mutex_lock(&log->meta_lock);
    rc = shapelog_meta_get_text(log->meta, key, out, err);
    pthread_mutex_unlock(&log->meta_lock);
    return rc;
}

static int write_origin(struct meta *meta, const struct shapelog_origin *origin,
                        struct err *err)
{
    int rc = shapelog_meta_put(meta, "origin.system_id", origin->system_id, err);

    if (rc == 0)
        rc = shapelog_meta_put_u64(meta, "origin.timeline", origin->timeline, err);
    if (rc == 0)
        rc = shapelog_meta_put(meta, "origin.database", origin->database, err);
    if (rc == 0)
        rc = shapelog_meta_put(meta, "origin.slot", origin->slot, err);
    return rc;
}

/* LSNs of another origin are other places: none may be recorded, or acknowledged, as one
 * of the new. */
static void forget_lsns(struct shapelog *log)
{
    pthread_mutex_lock(&log->lock);
    log->origin_serial++;
    log->requested_lsn = 0;
    pthread_mutex_unlock(&log->lock);
    atomic_store(&log->durable_lsn, 0);
    shapelog_live_reset(log);
}

static int put_origin(struct shapelog *log, const struct shapelog_origin *origin,
                      bool other, struct err *err)
{
    int rc = shapelog_check_epoch(log, err);

    if (rc == 0 && other)
        rc = shapelog_meta_delete_all(log->meta, err);
    if (rc == 0 && other)
        rc = shapelog_meta_put_u64(log->meta, "durable_lsn", 0, err);
    if (rc == 0 && other)
        rc = shapelog_meta_put_u64(log->meta, "visible_lsn", 0, err);
    return rc == 0 ? write_origin(log->meta, origin, err) : rc;
}

static int set_origin(struct shapelog *log, const struct shapelog_origin *origin,
                      bool other, struct err *err)
{
    int rc;

    pthread_mutex_lock(&log->meta_lock);
    rc = shapelog_meta_begin(log->meta, err);
    if (rc == 0)
        rc = put_origin(log, origin, other, err);
    if (rc == 0)
        rc = shapelog_meta_commit(log->meta, err);
    if (rc != 0)
        shapelog_meta_rollback(log->meta);
    else if (other)
        forget_lsns(log);
    pthread_mutex_unlock(&log->meta_lock);
    if (rc == 0) {
        log->origin = *origin;
        log->has_origin = true;
    }
    return rc;
}

int shapelog_origin_get(struct shapelog *log, struct shapelog_origin *out)
{
    if (!log->has_origin)
        return ERR_NOT_FOUND;
    *out = log->origin;
    return 0;
}

int shapelog_origin_set(struct shapelog *log, const struct shapelog_origin *origin,
                        struct err *err)
{
    return set_origin(log, origin, log->has_origin, err);
}

int shapelog_origin_follow(struct shapelog *log, uint32_t timeline, struct err *err)
{
    struct shapelog_origin origin = log->origin;

    origin.timeline = timeline;
    return set_origin(log, &origin, false, err);
}

uint64_t shapelog_durable_lsn(struct shapelog *log)
{
    return atomic_load(&log->durable_lsn);
}

uint64_t shapelog_visible_lsn(struct shapelog *log)
{
    return atomic_load(&log->visible_lsn);
}

/* --- the whole --- */

void shapelog_note_dropped(struct shapelog *log, struct slice handle,
                           const struct err *why)
{
    obs_shape_removed(log->config.obs, OBS_SHAPE_CORRUPT);
    log_event(log->config.log, LOG_ERROR, "shapelog.dropped", LOG_SLICE("handle", handle),
              LOG_TEXT("reason", obs_shape_reason_name(OBS_SHAPE_CORRUPT)),
              LOG_TEXT("error", why ? why->message : ""));
}

static int make_dir(int parent_fd, const char *path, int *out, struct err *err)
{
    if (mkdirat(parent_fd, path, 0700) != 0 && errno != EEXIST)
        return err_errno(err, ERR_IO, errno, "can't make the directory %s", path);
    *out = openat(parent_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*out < 0)
        return err_errno(err, ERR_IO, errno, "can't open the directory %s", path);
    return 0;
}

static int own_storage(struct shapelog *log, struct err *err)
{
    int rc = shapelog_lock_storage(log, err);

    return rc == ERR_EXISTS && log->config.take_over ? shapelog_take_over(log, err) : rc;
}

static int open_directories(struct shapelog *log, struct err *err)
{
    int rc = make_dir(AT_FDCWD, log->config.dir, &log->dir_fd, err);

    if (rc == 0)
        rc = own_storage(log, err);
    if (rc == 0)
        rc = make_dir(log->dir_fd, "shapes", &log->shapes_fd, err);
    if (rc == 0)
        rc = make_dir(log->dir_fd, "segments", &log->segments_fd, err);
    if (rc == 0)
        rc = shapelog_sync_dir(log->dir_fd, log->config.dir, err);
    return rc;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void free_list(struct list *shapes)
{
    while (!list_empty(shapes))
        shapelog_shape_free(
            LIST_ENTRY(list_pop(shapes), struct shapelog_shape, dirty_link));
}

void shapelog_free_shapes(struct shapelog *log)
{
    /* What a failed last checkpoint left dirty loses the reference that the list held. */
    for (int kind = 0; kind < DIRTY_KINDS; kind++) {
        while (!list_empty(&log->dirty[kind])) {
            struct shapelog_shape *shape = LIST_ENTRY(list_pop(&log->dirty[kind]),
                                                      struct shapelog_shape, dirty_link);

            if (atomic_fetch_sub(&shape->refs, 1) == 1)
                list_push(&log->released, &shape->dirty_link);
        }
    }
    free_list(&log->released);
    for (size_t i = 0; i < log->shape_count; i++) {
        ASSERT(atomic_load(&log->shapes[i]->refs) == 1); /* or somebody kept one */
        shapelog_shape_free(log->shapes[i]);
    }
    log->shape_count = 0;
}

/* Without the checkpoint thread. */
static void log_free(struct shapelog *log)
{
    shapelog_free_shapes(log);
    shapelog_meta_close(log->meta);
    shapelog_files_fini(&log->files);
    shapelog_bodies_fini(&log->bodies);
    shapelog_segments_fini(log);
    shapelog_batch_fini(&log->batch);
    buf_fini(&log->frame.data);
    buf_fini(&log->frame.index);
    pthread_mutex_destroy(&log->meta_lock);
    pthread_mutex_destroy(&log->lock);
    pthread_cond_destroy(&log->wake);
    for (unsigned i = 0; i < STRIPES; i++)
        pthread_mutex_destroy(&log->stripes[i]);
    shapelog_live_close(log);
    close_fd(log->segments_fd);
    close_fd(log->shapes_fd);
    close_fd(log->lock_fd);
    close_fd(log->dir_fd);
    free(log->shapes);
    free(log->dir);
    free(log);
}

static void init_parts(struct shapelog *log)
{
    log->dir_fd = log->lock_fd = log->shapes_fd = log->segments_fd = -1;
    log->old_meta = NO_OLD_META;
    for (int kind = 0; kind < DIRTY_KINDS; kind++)
        list_init(&log->dirty[kind]);
    list_init(&log->released);
    list_init(&log->fat);
    pthread_mutex_init(&log->lock, NULL);
    pthread_mutex_init(&log->meta_lock, NULL);
    pthread_cond_init(&log->wake, NULL);
    for (unsigned i = 0; i < STRIPES; i++)
        pthread_mutex_init(&log->stripes[i], NULL);
    pthread_mutex_init(&log->segments.lock, NULL);
    pthread_mutex_init(&log->segments.blob_lock, NULL);
    pthread_rwlock_init(&log->segments.readers, NULL);
    shapelog_files_init(&log->files, log->config.max_open_files);
    shapelog_bodies_init(&log->bodies);
    shapelog_batch_init(&log->batch);
    buf_init(&log->frame.data, (size_t)2 * MESSAGE_MAX_BYTES);
    buf_init(&log->frame.index, (size_t)2 * MESSAGE_MAX_BYTES);
}

static struct shapelog *log_new(const struct shapelog_config *config)
{
    struct shapelog *log = calloc(1, sizeof(*log));

    if (!log)
        return NULL;
    log->config = *config;
    log->dir = slice_dup(slice_of(config->dir));
    if (!log->dir) {
        free(log);
        return NULL;
    }
    log->config.dir = log->dir;
    if (config->take_over) {
        log->take_over = *config->take_over;
        log->config.take_over = &log->take_over;
    }
    if (log->config.chunk_bytes == 0)
        log->config.chunk_bytes = 1;
    log->segment_bytes = config->segment_bytes ? config->segment_bytes : SEGMENT_BYTES;
    log->stage_bytes = config->stage_bytes ? config->stage_bytes : STAGE_MAX_BYTES;
    init_parts(log);
    return log;
}

int shapelog_open(const struct shapelog_config *config, struct shapelog **out,
                  struct err *err)
{
    struct shapelog *log = log_new(config);
    int rc;

    if (!log)
        return err_set(err, ERR_MEMORY, "no memory for the shape log");
    rc = open_directories(log, err);
    if (rc == 0)
        rc = shapelog_recover(log, err);
    if (rc == 0)
        rc = shapelog_checkpoint_start(log, err);
    if (rc != 0) {
        log_free(log);
        return rc;
    }
    *out = log;
    return 0;
}

void shapelog_close(struct shapelog *log)
{
    if (!log)
        return;
    shapelog_checkpoint_stop(log);
    log_free(log);
}
