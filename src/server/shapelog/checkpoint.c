/* The checkpoint thread: makes published entries and complete snapshots durable.
 *
 * One round: take the shapes that changed and the LSN that was asked for; fdatasync their
 * files (and the directories of new ones); then one SQLite transaction with all of it and
 * the LSN. What is recorded of a shape is what was published when its files were about to
 * be synced: all that the LSN stands for, maybe more, which does no harm (a replay skips
 * it).
 *
 * After a failed sync the kernel may have dropped the dirty pages and a second sync would
 * succeed without them. So the shape is lost: it is marked broken and reported for
 * removal, the round fails, and the next one deletes its row, before any later LSN is
 * recorded. (A descriptor may have been closed and opened again since the write; Linux
 * tells a write-back error that nobody has seen yet to the next one that syncs.)
 *
 * The same thread deletes the directories of removed shapes, once nobody reads them. */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

struct item { /* a shape in this round */
    struct shapelog_shape *shape;
    enum { ITEM_SKIP, ITEM_RECORD, ITEM_DELETE } action;
    struct mark log;
    size_t chunks;
};

struct round {
    struct shapelog *log;
    uint64_t lsn;
    uint64_t epoch; /* the lsn's */
    struct item *items;
    size_t count;
    struct list removed;
    bool new_directories;
};

void shapelog_mark_dirty(struct shapelog_shape *shape)
{
    struct shapelog *log = shape->log;

    pthread_mutex_lock(&log->lock);
    if (!shape->dirty && !shape->removed) {
        shape->dirty = true;
        shapelog_retain(shape);
        list_push(&log->dirty, &shape->dirty_link);
    }
    pthread_mutex_unlock(&log->lock);
}

static bool is_removed(struct shapelog_shape *shape)
{
    bool removed;

    pthread_mutex_lock(&shape->log->lock);
    removed = shape->removed;
    pthread_mutex_unlock(&shape->log->lock);
    return removed;
}

static void move_all(struct list *from, struct list *to)
{
    while (!list_empty(from)) {
        struct list *link = from->next;

        list_remove(link);
        list_push(to, link);
    }
}

static int round_take(struct round *round, struct err *err)
{
    struct shapelog *log = round->log;
    size_t count = 0;
    int rc = 0;

    pthread_mutex_lock(&log->lock);
    for (const struct list *l = log->dirty.next; l != &log->dirty; l = l->next)
        count++;
    round->items = calloc(count + 1, sizeof(*round->items));
    if (!round->items)
        rc = err_set(err, ERR_MEMORY, "no memory for a checkpoint of %zu shapes", count);
    while (rc == 0 && !list_empty(&log->dirty)) {
        struct shapelog_shape *shape =
            LIST_ENTRY(log->dirty.next, struct shapelog_shape, dirty_link);

        list_remove(&shape->dirty_link);
        shape->dirty = false;
        round->items[round->count++].shape = shape;
    }
    if (rc == 0)
        move_all(&log->removed, &round->removed);
    pthread_mutex_unlock(&log->lock);
    return rc;
}

static int sync_file(struct shapelog_shape *shape, enum file_kind kind, struct err *err)
{
    struct file *file;
    int rc = shapelog_file_get(shape, kind, false, &file, err);

    if (rc != 0)
        return rc;
    if (fdatasync(file->fd) != 0)
        rc = err_errno(err, ERR_IO, errno, "can't sync %s/%s", shape->handle,
                       shapelog_file_name(kind));
    shapelog_file_put(file);
    return rc;
}

static int sync_directory(struct shapelog_shape *shape, struct err *err)
{
    int fd =
        openat(shape->log->shapes_fd, shape->handle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = 0;

    if (fd < 0 || fsync(fd) != 0)
        rc = err_errno(err, ERR_IO, errno, "can't sync the directory of %s",
                       shape->handle);
    if (fd >= 0)
        close(fd);
    return rc;
}

static int sync_shape(struct round *round, struct item *item, struct err *err)
{
    struct shapelog_shape *shape = item->shape;
    bool new_names = !shape->recorded;
    int rc = 0;

    if (!shape->recorded)
        rc = sync_file(shape, FILE_SNAPSHOT, err);
    if (rc == 0 && item->log.entries > shape->recorded_entries) {
        new_names = new_names || shape->recorded_entries == 0;
        rc = sync_file(shape, FILE_LOG, err);
        if (rc == 0)
            rc = sync_file(shape, FILE_INDEX, err);
    }
    if (rc == 0 && new_names)
        rc = sync_directory(shape, err);
    round->new_directories = round->new_directories || !shape->recorded;
    return rc;
}

/* The shape's bytes can't be trusted to be on disk any more. */
static void lose(struct shapelog_shape *shape, const struct err *why)
{
    shapelog_break(shape, ERR_IO);
    shapelog_report(shape, why);
}

static int sync_item(struct round *round, struct item *item, struct err *err)
{
    struct shapelog_shape *shape = item->shape;
    struct err why;
    bool complete;
    int rc;

    pthread_mutex_lock(&shape->lock);
    complete = shape->complete;
    item->log = shape->published;
    item->chunks = shape->chunk_count;
    pthread_mutex_unlock(&shape->lock);
    if (is_removed(shape))
        return 0;
    if (atomic_load(&shape->broken)) {
        item->action = ITEM_DELETE;
        return 0;
    }
    if (!complete)
        return 0;
    err_clear(&why);
    rc = sync_shape(round, item, &why);
    if (rc == 0)
        item->action = ITEM_RECORD;
    else if (rc == ERR_MEMORY)
        return err_set(err, rc, "%s", why.message);
    else if (!is_removed(shape)) { /* else its files may be gone, and need not be there */
        lose(shape, &why);
        return err_set(err, rc, "%s", why.message);
    }
    return 0;
}

static int round_sync(struct round *round, struct err *err)
{
    int result = 0;

    for (size_t i = 0; i < round->count; i++) {
        int rc = sync_item(round, &round->items[i], result == 0 ? err : NULL);

        if (rc != 0 && result == 0)
            result = rc;
    }
    if (!round->new_directories || result != 0)
        return result;
    if (fsync(round->log->shapes_fd) == 0)
        return 0;
    result = err_errno(err, ERR_IO, errno, "can't sync the directory of shapes");
    for (size_t i = 0; i < round->count; i++) {
        if (round->items[i].action == ITEM_RECORD && !round->items[i].shape->recorded)
            lose(round->items[i].shape, err);
    }
    return result;
}

static int record_chunks(struct meta *meta, const struct item *item, struct err *err)
{
    struct shapelog_shape *shape = item->shape;
    struct meta_part part = {.shape = shape->id};
    size_t snapshot_chunks;
    int rc = 0;

    pthread_mutex_lock(&shape->lock);
    snapshot_chunks = shape->recorded ? 0 : shape->snapshot_chunk_count;
    pthread_mutex_unlock(&shape->lock);
    part.kind = META_SNAPSHOT_CHUNK;
    for (size_t i = 0; rc == 0 && i < snapshot_chunks; i++) {
        pthread_mutex_lock(&shape->lock);
        part.end = (struct mark){.bytes = shape->snapshot_chunks[i].end};
        part.crc = shape->snapshot_chunks[i].crc;
        pthread_mutex_unlock(&shape->lock);
        part.n = i;
        rc = shapelog_meta_put_part(meta, &part, err);
    }
    part.kind = META_LOG_CHUNK;
    part.crc = 0;
    for (size_t i = shape->recorded_chunks; rc == 0 && i < item->chunks; i++) {
        pthread_mutex_lock(&shape->lock);
        part.end = shape->chunks[i].end;
        pthread_mutex_unlock(&shape->lock);
        part.n = i;
        rc = shapelog_meta_put_part(meta, &part, err);
    }
    return rc;
}

static int record_item(struct meta *meta, const struct item *item, struct err *err)
{
    struct shapelog_shape *shape = item->shape;
    struct meta_shape row = {
        .id = shape->id,
        .handle = slice_of(shape->handle),
        .definition = shapelog_definition(shape),
        .view = shapelog_view(shape),
        .log = item->log,
    };
    int rc;

    if (item->action == ITEM_SKIP)
        return 0;
    if (item->action == ITEM_DELETE)
        return shapelog_meta_delete(meta, shape->id, err);
    rc = shapelog_meta_put_shape(meta, &row, err);
    return rc == 0 ? record_chunks(meta, item, err) : rc;
}

static int check_epoch(const struct round *round, struct err *err)
{
    struct shapelog *log = round->log;
    bool current;

    pthread_mutex_lock(&log->lock);
    current = log->epoch == round->epoch;
    pthread_mutex_unlock(&log->lock);
    return current ? 0 : err_set(err, ERR_CANCELLED, "the log has another origin now");
}

static int round_record(struct round *round, struct err *err)
{
    struct meta *meta = round->log->meta;
    char lsn[32];
    int rc;

    snprintf(lsn, sizeof(lsn), "%" PRIu64, round->lsn);
    pthread_mutex_lock(&round->log->meta_lock);
    rc = check_epoch(round, err);
    if (rc == 0)
        rc = shapelog_meta_begin(meta, err);
    for (size_t i = 0; rc == 0 && i < round->count; i++)
        rc = record_item(meta, &round->items[i], err);
    for (struct list *l = round->removed.next; rc == 0 && l != &round->removed;
         l = l->next)
        rc = shapelog_meta_delete(meta, LIST_ENTRY(l, struct shapelog_shape, link)->id,
                                  err);
    if (rc == 0)
        rc = shapelog_meta_put(meta, "durable_lsn", lsn, err);
    if (rc == 0)
        rc = shapelog_meta_commit(meta, err);
    if (rc == 0)
        atomic_store(&round->log->durable_lsn, round->lsn);
    else
        shapelog_meta_rollback(meta);
    pthread_mutex_unlock(&round->log->meta_lock);
    return rc;
}

static void forget_removed(struct round *round)
{
    while (!list_empty(&round->removed)) {
        struct shapelog_shape *shape =
            LIST_ENTRY(round->removed.next, struct shapelog_shape, link);

        list_remove(&shape->link);
        shape->row_gone = true;
        if (shape->directory_gone)
            shapelog_shape_free(shape);
    }
}

/* The next round starts from the same shapes. */
static void round_undo(struct round *round)
{
    struct shapelog *log = round->log;

    for (size_t i = 0; i < round->count; i++)
        shapelog_mark_dirty(round->items[i].shape);
    pthread_mutex_lock(&log->lock);
    move_all(&round->removed, &log->removed);
    pthread_mutex_unlock(&log->lock);
}

static void round_done(struct round *round)
{
    for (size_t i = 0; i < round->count; i++) {
        struct item *item = &round->items[i];
        bool recorded = item->action == ITEM_RECORD;

        if (item->action == ITEM_SKIP)
            continue;
        item->shape->recorded = recorded;
        item->shape->recorded_entries = recorded ? item->log.entries : 0;
        item->shape->recorded_chunks = recorded ? item->chunks : 0;
    }
    forget_removed(round);
}

static void checkpoint(struct shapelog *log, uint64_t lsn, uint64_t epoch)
{
    const struct shapelog_config *config = &log->config;
    struct round round = {.log = log, .lsn = lsn, .epoch = epoch};
    int64_t start_us = clock_mono_us();
    struct err err;
    int rc;

    err_clear(&err);
    list_init(&round.removed);
    rc = round_take(&round, &err);
    if (rc == 0)
        rc = round_sync(&round, &err);
    if (rc == 0)
        rc = round_record(&round, &err);
    if (rc == 0)
        round_done(&round);
    else
        round_undo(&round);
    for (size_t i = 0; i < round.count; i++)
        shapelog_release(round.items[i].shape);
    free(round.items);
    obs_time(config->obs, OBS_H_CHECKPOINT_US, clock_mono_us() - start_us);
    if (rc == 0) {
        obs_count(config->obs, OBS_CHECKPOINTS, 1);
        if (config->durable)
            config->durable(config->ctx, lsn);
    } else {
        log_event(config->log, LOG_ERROR, "shapelog.checkpoint_failed",
                  LOG_U64("lsn", lsn), LOG_TEXT("error", err.message));
        if (config->failed)
            config->failed(config->ctx, &err);
    }
}

static void empty_trash(struct shapelog *log, struct list *trash)
{
    while (!list_empty(trash)) {
        struct shapelog_shape *shape =
            LIST_ENTRY(trash->next, struct shapelog_shape, trash_link);

        list_remove(&shape->trash_link);
        shapelog_files_forget(shape);
        shapelog_remove_dir(log->trash_fd, shape->handle, log->config.log);
        shape->directory_gone = true;
        if (shape->row_gone)
            shapelog_shape_free(shape);
    }
}

static void *checkpoint_main(void *arg)
{
    struct shapelog *log = arg;
    struct list trash;
    bool stop = false;

    list_init(&trash);
    while (!stop) {
        uint64_t lsn, epoch;
        bool requested;

        pthread_mutex_lock(&log->lock);
        while (!log->requested && !log->stop && list_empty(&log->trash))
            pthread_cond_wait(&log->wake, &log->lock);
        requested = log->requested;
        lsn = log->requested_lsn;
        epoch = log->epoch;
        log->requested = false;
        stop = log->stop;
        move_all(&log->trash, &trash);
        pthread_mutex_unlock(&log->lock);
        empty_trash(log, &trash);
        if (requested)
            checkpoint(log, lsn, epoch);
    }
    pthread_mutex_lock(&log->lock);
    move_all(&log->trash, &trash);
    pthread_mutex_unlock(&log->lock);
    empty_trash(log, &trash);
    return NULL;
}

int shapelog_checkpoint_start(struct shapelog *log, struct err *err)
{
    int rc = pthread_create(&log->thread, NULL, checkpoint_main, log);

    if (rc != 0)
        return err_errno(err, ERR_IO, rc, "can't start the checkpoint thread");
    log->thread_started = true;
    return 0;
}

void shapelog_checkpoint(struct shapelog *log, uint64_t lsn)
{
    pthread_mutex_lock(&log->lock);
    log->requested = true;
    if (lsn > log->requested_lsn)
        log->requested_lsn = lsn;
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->lock);
}

void shapelog_checkpoint_stop(struct shapelog *log)
{
    if (!log->thread_started)
        return;
    pthread_mutex_lock(&log->lock);
    if (!list_empty(&log->dirty) || !list_empty(&log->removed))
        log->requested = true;
    log->stop = true;
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->lock);
    pthread_join(log->thread, NULL);
    log->thread_started = false;
}
