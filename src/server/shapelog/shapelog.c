/* The shape log: opening, closing, and the life of shapes.
 *
 * Problem: store each shape as the bytes that clients receive, so that a request costs a
 * lookup and a sendfile, nothing waits for a disk on the way in, and a crash at any point
 * costs at most what the replication slot sends again.
 *
 * On disk, format 1:
 *
 *   <dir>/lock                        flock: one process
 *   <dir>/meta.sqlite                 what the last checkpoint made durable (meta.c)
 *   <dir>/shapes/<handle>/log.json    messages, each with a comma behind it
 *   <dir>/shapes/<handle>/log.idx     one record of 40 bytes per message (record.c)
 *   <dir>/shapes/<handle>/snapshot.json  snapshot messages, each with a comma behind it
 *   <dir>/trash/<handle>/             removed, to be deleted
 *
 * A run of entries is a contiguous byte range whose last comma is left out: the body of a
 * response. Log files exist once the log has entries.
 *
 *   append/commit      publish                checkpoint             crash
 *   write buffer  -->  pwrite messages,  -->  fdatasync,       -->   entries behind the
 *   (shape_log.c)      then records,          then one SQLite        checkpoint are kept
 *                      then the end moves     transaction            up to the last whole
 *                                             (checkpoint.c)         transaction that checks
 *                                                                    out (recover.c)
 *
 * Invariants:
 *   - Bytes and records below the published end never change; only the abort of a
 *     transaction that had spilled to the files shortens them, behind the published end.
 *   - A chunk's end is decided when its last entry is, marked in that entry's record, and
 *     never moves: not by a restart, a replay or another chunk_bytes.
 *   - A shape has a row in meta.sqlite only once its snapshot is complete and synced. A
 *     directory without a row is deleted at the start, a row without sound files, too.
 *   - Recorded LSN L: every shape with a row holds all its entries up to L.
 *
 * Each byte read back in a later life is covered by a checksum: messages and records by
 * CRC32C in log.idx, snapshot chunks and all rows by CRC32C in meta.sqlite. They are
 * checked when a chunk is first read (what lies behind the checkpoint: at the start).
 *
 * Rejected for this first form: shared segments (design.md, "Log storage") need
 * compaction and a measured layout; they can come behind the same header. Keeping the
 * index in SQLite: a transaction per publish. Cutting every log at the checkpoint:
 * correct as well, but clients would find themselves ahead of the log after each crash.
 */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
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

static struct definition *definition_new(struct slice text, struct definition *older)
{
    struct definition *definition = malloc(sizeof(*definition) + text.len);

    if (!definition)
        return NULL;
    definition->older = older;
    definition->len = text.len;
    if (text.len > 0)
        memcpy(definition->bytes, text.ptr, text.len);
    return definition;
}

static void definition_free(struct definition *definition)
{
    while (definition) {
        struct definition *older = definition->older;

        free(definition);
        definition = older;
    }
}

struct slice shapelog_definition(const struct shapelog_shape *shape)
{
    const struct definition *definition = atomic_load(&shape->definition);

    return slice_make(definition->bytes, definition->len);
}

int shapelog_redefine(struct shapelog_shape *shape, struct slice definition,
                      struct err *err)
{
    struct definition *newer =
        definition_new(definition, atomic_load(&shape->definition));

    if (!newer)
        return err_set(err, ERR_MEMORY, "no memory for the definition of %s",
                       shape->handle);
    atomic_store(&shape->definition, newer);
    shapelog_mark_dirty(shape);
    return 0;
}

struct shapelog_shape *shapelog_shape_new(struct shapelog *log, struct slice handle,
                                          struct slice definition)
{
    struct shapelog_shape *shape = calloc(1, sizeof(*shape));
    struct definition *first = definition_new(definition, NULL);

    if (!shape || !first) {
        free(first);
        free(shape);
        return NULL;
    }
    atomic_init(&shape->definition, first);
    memcpy(shape->handle, handle.ptr, handle.len);
    atomic_init(&shape->refs, 1);
    atomic_init(&shape->view, NULL);
    shape->log = log;
    shape->open_verified = true;
    shape->published = MARK_BEGIN;
    list_init(&shape->link);
    list_init(&shape->dirty_link);
    list_init(&shape->trash_link);
    pthread_mutex_init(&shape->lock, NULL);
    shapelog_writer_init(shape);
    return shape;
}

void shapelog_shape_free(struct shapelog_shape *shape)
{
    shapelog_files_forget(shape);
    shapelog_bodies_forget(&shape->log->bodies, &shape->body);
    shapelog_writer_fini(shape);
    shapelog_snapshot_writer_free(shape);
    pthread_mutex_destroy(&shape->lock);
    free(shape->chunks);
    free(shape->recent);
    free(shape->snapshot_chunks);
    free(atomic_load(&shape->view));
    definition_free(atomic_load(&shape->definition));
    free(shape);
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
    /* The registry's reference went with shapelog_remove: the directory is in the trash.
     */
    log = shape->log;
    pthread_mutex_lock(&log->lock);
    ASSERT(shape->removed);
    list_push(&log->trash, &shape->trash_link);
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->lock);
}

const char *shapelog_handle(const struct shapelog_shape *shape)
{
    return shape->handle;
}

int shapelog_break(struct shapelog_shape *shape, int code)
{
    atomic_store(&shape->broken, true);
    shapelog_mark_dirty(shape); /* the next checkpoint deletes its row */
    return code;
}

int shapelog_refuse_broken(const struct shapelog_shape *shape, struct err *err)
{
    if (!atomic_load(&shape->broken))
        return 0;
    return err_set(
        err, ERR_IO,
        "the log of %s can't be used: an earlier write failed; the shape must be "
        "removed",
        shape->handle);
}

void shapelog_report(struct shapelog_shape *shape, const struct err *why)
{
    const struct shapelog_config *config = &shape->log->config;

    if (atomic_exchange(&shape->reported, true))
        return;
    log_event(config->log, LOG_ERROR, "shapelog.corrupt",
              LOG_TEXT("handle", shape->handle), LOG_TEXT("error", why->message));
    if (config->corrupt)
        config->corrupt(config->ctx, shape);
}

int shapelog_create(struct shapelog *log, struct slice handle, struct slice definition,
                    struct shapelog_shape **out, struct err *err)
{
    struct shapelog_shape *shape;
    int errnum;

    if (!shapelog_handle_valid(handle))
        return err_set(err, ERR_INVALID,
                       "a shape's handle must have 1 to %d letters, digits, '-' or '_'",
                       SHAPELOG_HANDLE_MAX);
    shape = shapelog_shape_new(log, handle, definition);
    if (!shape)
        return err_set(err, ERR_MEMORY, "no memory for a new shape");
    if (mkdirat(log->shapes_fd, shape->handle, 0700) != 0) {
        errnum = errno;
        err_errno(err, errnum == EEXIST ? ERR_EXISTS : ERR_IO, errnum,
                  "can't make %s/shapes/%s", log->config.dir, shape->handle);
        shapelog_shape_free(shape);
        return errnum == EEXIST ? ERR_EXISTS : ERR_IO;
    }
    shape->id = log->next_id++;
    pthread_mutex_lock(&log->lock);
    list_push(&log->shapes, &shape->link);
    pthread_mutex_unlock(&log->lock);
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
        list_remove(&shape->link);
        list_push(&log->removed, &shape->link);
    }
    pthread_mutex_unlock(&log->lock);
    if (!first)
        return;
    /* If this fails, the row is still deleted with the next checkpoint, and the directory
     * at the next start. */
    if (renameat(log->shapes_fd, shape->handle, log->trash_fd, shape->handle) != 0)
        log_event(log->config.log, LOG_WARNING, "shapelog.not_removed",
                  LOG_TEXT("handle", shape->handle), LOG_TEXT("error", strerror(errno)));
    shapelog_release(shape);
}

void shapelog_each(struct shapelog *log, shapelog_restored_fn *fn, void *ctx)
{
    struct list *link = log->shapes.next;

    /* Only the sequencer, which is the caller, changes the list. */
    while (link != &log->shapes) {
        struct shapelog_shape *shape = LIST_ENTRY(link, struct shapelog_shape, link);

        link = link->next; /* fn may remove the shape */
        fn(ctx, shape, shapelog_definition(shape));
    }
}

/* --- facts --- */

int shapelog_origin_get(struct shapelog *log, struct shapelog_origin *out)
{
    if (!log->has_origin)
        return ERR_NOT_FOUND;
    *out = log->origin;
    return 0;
}

static int write_origin(struct meta *meta, const struct shapelog_origin *origin,
                        struct err *err)
{
    char timeline[16];
    int rc;

    snprintf(timeline, sizeof(timeline), "%" PRIu32, origin->timeline);
    rc = shapelog_meta_put(meta, "origin.system_id", origin->system_id, err);
    if (rc == 0)
        rc = shapelog_meta_put(meta, "origin.timeline", timeline, err);
    if (rc == 0)
        rc = shapelog_meta_put(meta, "origin.database", origin->database, err);
    if (rc == 0)
        rc = shapelog_meta_put(meta, "origin.slot", origin->slot, err);
    return rc;
}

/* LSNs of another origin are other places: none may be recorded, or acknowledged, as one
 * of the new. */
static void begin_epoch(struct shapelog *log)
{
    pthread_mutex_lock(&log->lock);
    log->epoch++;
    log->requested_lsn = 0;
    pthread_mutex_unlock(&log->lock);
    atomic_store(&log->durable_lsn, 0);
}

int shapelog_origin_set(struct shapelog *log, const struct shapelog_origin *origin,
                        struct err *err)
{
    bool changes = log->has_origin;
    int rc;

    pthread_mutex_lock(&log->meta_lock);
    rc = shapelog_meta_begin(log->meta, err);
    if (rc == 0 && changes)
        rc = shapelog_meta_delete_all(log->meta, err);
    if (rc == 0 && changes)
        rc = shapelog_meta_put(log->meta, "durable_lsn", "0", err);
    if (rc == 0)
        rc = write_origin(log->meta, origin, err);
    if (rc == 0)
        rc = shapelog_meta_commit(log->meta, err);
    if (rc != 0)
        shapelog_meta_rollback(log->meta);
    else if (changes)
        begin_epoch(log);
    pthread_mutex_unlock(&log->meta_lock);
    if (rc == 0) {
        log->origin = *origin;
        log->has_origin = true;
    }
    return rc;
}

uint64_t shapelog_durable_lsn(struct shapelog *log)
{
    return atomic_load(&log->durable_lsn);
}

/* --- the whole --- */

static int make_dir(int parent_fd, const char *path, int *out, struct err *err)
{
    if (mkdirat(parent_fd, path, 0700) != 0 && errno != EEXIST)
        return err_errno(err, ERR_IO, errno, "can't make the directory %s", path);
    *out = openat(parent_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*out < 0)
        return err_errno(err, ERR_IO, errno, "can't open the directory %s", path);
    return 0;
}

static int take_lock(struct shapelog *log, struct err *err)
{
    log->lock_fd = openat(log->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (log->lock_fd < 0)
        return err_errno(err, ERR_IO, errno, "can't open %s/lock", log->config.dir);
    if (flock(log->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno == EWOULDBLOCK)
        return err_set(err, ERR_EXISTS,
                       "%s is in use by another process: stop it, or give each server a "
                       "storage directory of its own",
                       log->config.dir);
    return err_errno(err, ERR_IO, errno, "can't lock %s/lock", log->config.dir);
}

static int open_directories(struct shapelog *log, struct err *err)
{
    int rc = make_dir(AT_FDCWD, log->config.dir, &log->dir_fd, err);

    if (rc == 0)
        rc = take_lock(log, err);
    if (rc == 0)
        rc = make_dir(log->dir_fd, "shapes", &log->shapes_fd, err);
    if (rc == 0)
        rc = make_dir(log->dir_fd, "trash", &log->trash_fd, err);
    if (rc == 0 && fsync(log->dir_fd) != 0)
        rc =
            err_errno(err, ERR_IO, errno, "can't sync the directory %s", log->config.dir);
    return rc;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void free_list(struct list *shapes, unsigned refs)
{
    while (!list_empty(shapes)) {
        struct shapelog_shape *shape =
            LIST_ENTRY(list_pop(shapes), struct shapelog_shape, link);

        ASSERT(atomic_load(&shape->refs) == refs); /* or somebody did not release it */
        shapelog_shape_free(shape);
    }
}

void shapelog_free_shapes(struct shapelog *log)
{
    /* What a failed last checkpoint left dirty loses the reference that the list held. */
    while (!list_empty(&log->dirty)) {
        struct list *link = log->dirty.next;

        list_remove(link);
        atomic_fetch_sub(&LIST_ENTRY(link, struct shapelog_shape, dirty_link)->refs, 1);
    }
    free_list(&log->shapes, 1);
    free_list(&log->removed, 0);
}

/* Without the checkpoint thread. */
static void log_free(struct shapelog *log)
{
    shapelog_free_shapes(log);
    shapelog_meta_close(log->meta);
    shapelog_files_fini(&log->files);
    shapelog_bodies_fini(&log->bodies);
    pthread_mutex_destroy(&log->meta_lock);
    pthread_mutex_destroy(&log->lock);
    pthread_cond_destroy(&log->wake);
    close_fd(log->trash_fd);
    close_fd(log->shapes_fd);
    close_fd(log->lock_fd);
    close_fd(log->dir_fd);
    free(log->dir);
    free(log);
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
    if (log->config.chunk_bytes == 0)
        log->config.chunk_bytes = 1;
    log->dir_fd = log->lock_fd = log->shapes_fd = log->trash_fd = -1;
    log->next_id = 1;
    list_init(&log->shapes);
    list_init(&log->dirty);
    list_init(&log->removed);
    list_init(&log->trash);
    pthread_mutex_init(&log->lock, NULL);
    pthread_mutex_init(&log->meta_lock, NULL);
    pthread_cond_init(&log->wake, NULL);
    shapelog_files_init(&log->files, config->max_open_files, -1, -1);
    shapelog_bodies_init(&log->bodies);
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
    if (rc == 0) {
        log->files.shapes_fd = log->shapes_fd;
        log->files.trash_fd = log->trash_fd;
        rc = shapelog_recover(log, err);
    }
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
