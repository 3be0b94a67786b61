/* The checkpoint thread: makes what is shown durable, and gives space back.
 *
 * One round: note how far the journal goes, take the shapes whose rows are not what they should
 * be; in one SQLite transaction write those rows and the LSN, sync all files that were written
 * to since the last round, and commit. What is recorded is what was shown when the round began: all that the LSN
 * stands for, maybe more, which does no harm (a replay skips it). The order matters: a shape's
 * row must be as new as the journal's end that is recorded with it, or the journal would go on
 * behind a gap.
 *
 * The cost of a round grows with new and removed shapes and with the bytes that went to own
 * files, not with the number of shapes that changed: their tails are in the journal. When that
 * has grown by enough, for what there is to be written, a round writes all changed rows (a fold),
 * and the journal before is not read any more.
 *
 * After a failed sync the kernel may have dropped the dirty pages, and a second sync would
 * succeed without them. So there is none: nothing is acknowledged any more, and the server stops
 * (config.failed). What it finds at its next start is what was synced before.
 *
 * A removed shape's files are deleted once its row is, and nobody reads it. A segment is deleted
 * once nothing lives in it and no row and no frame that is still needed points there. That is
 * looked at before the round takes its shapes: whatever left the segment before is then among
 * them, or was recorded earlier. */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"

struct item { /* a shape in this round */
    struct shapelog_shape *shape;
    uint64_t id; /* the shape's */
    enum dirty kind;
    enum { ITEM_SKIP, ITEM_RECORD, ITEM_DELETE } action;
    struct definition *definition; /* to be recorded with it */
};

struct round {
    struct shapelog *log;
    uint64_t lsn;
    uint64_t origin_serial; /* the lsn's */
    bool fold;
    struct journal_mark journal;
    uint64_t journal_bytes;
    uint64_t removals_noted;
    struct item *items;
    size_t count;
    struct buf scratch;
    bool lost;      /* a sync failed */
    bool quiet;     /* nobody asked for it */
    bool recording; /* rows have been written */
};

void shapelog_mark_dirty_locked(struct shapelog_shape *shape, enum dirty kind)
{
    if (shape->dirty >= kind)
        return;
    if (shape->dirty == CLEAN)
        shapelog_retain(shape);
    else
        shapelog_unmark_dirty_locked(shape);
    shape->dirty = (uint8_t)kind;
    shape->log->dirty_count[kind]++;
    list_push(&shape->log->dirty[kind], &shape->dirty_link);
}

void shapelog_unmark_dirty_locked(struct shapelog_shape *shape)
{
    shape->log->dirty_count[shape->dirty]--;
    shape->dirty = CLEAN;
    list_remove(&shape->dirty_link);
}

void shapelog_mark_dirty(struct shapelog_shape *shape, enum dirty kind)
{
    pthread_mutex_lock(&shape->log->lock);
    shapelog_mark_dirty_locked(shape, kind);
    pthread_mutex_unlock(&shape->log->lock);
}

/* --- Taking --- */

static void take_all(struct round *round, enum dirty kind)
{
    struct shapelog *log = round->log;

    while (!list_empty(&log->dirty[kind])) {
        struct shapelog_shape *shape =
            LIST_ENTRY(log->dirty[kind].next, struct shapelog_shape, dirty_link);

        round->items[round->count++] =
            (struct item){.shape = shape, .id = shape->id, .kind = kind};
        shapelog_unmark_dirty_locked(shape);
    }
}

static int by_id(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* Rows in the order in which they lie: neighbours share pages. */
static void sort_items(struct round *round)
{
    qsort(round->items, round->count, sizeof(*round->items), by_id);
}

/* A row costs some 20 us, a start reads what wasn't folded at some 500 MB/s. */
static uint64_t bytes_before_fold(const struct shapelog *log)
{
    uint64_t least = log->segment_bytes / FOLDS_PER_SEGMENT;
    uint64_t most = log->segment_bytes * SEGMENTS_PER_FOLD;
    uint64_t wanted = log->dirty_count[DIRTY_TAIL] * (uint64_t)FOLD_ROW_BYTES;

    return wanted < least ? least : wanted > most ? most : wanted;
}

static int round_take(struct round *round, struct err *err)
{
    struct shapelog *log = round->log;
    size_t count;

    pthread_mutex_lock(&log->lock);
    round->journal = log->journal;
    round->journal_bytes = log->journal_bytes;
    round->removals_noted = log->live_removed;
    round->fold =
        log->stop || (!log->journal_open &&
                      log->journal_bytes - log->folded_bytes >= bytes_before_fold(log));
    count = log->dirty_count[DIRTY_ROW];
    if (round->fold)
        count += log->dirty_count[DIRTY_TAIL];
    round->items = calloc(count + 1, sizeof(*round->items));
    if (round->items) {
        take_all(round, DIRTY_ROW);
        if (round->fold)
            take_all(round, DIRTY_TAIL);
    }
    pthread_mutex_unlock(&log->lock);
    return round->items ? 0
                        : err_set(err, ERR_MEMORY,
                                  "no memory for a checkpoint of %zu shapes", count);
}

static bool is_removed(struct shapelog_shape *shape)
{
    bool removed;

    pthread_mutex_lock(&shape->log->lock);
    removed = shape->removed;
    pthread_mutex_unlock(&shape->log->lock);
    return removed;
}

static bool is_complete(struct shapelog_shape *shape)
{
    bool complete;

    shapelog_lock(shape);
    complete = shape->snapshot.complete;
    shapelog_unlock(shape);
    return complete;
}

static void round_decide(struct round *round)
{
    for (size_t i = 0; i < round->count; i++) {
        struct item *item = &round->items[i];

        ASSERT(item->shape);
        if (is_removed(item->shape))
            item->action = ITEM_DELETE;
        else if (is_complete(item->shape))
            item->action = ITEM_RECORD;
    }
}

/* --- Syncing --- */

static int sync_fd(struct round *round, int fd, const char *name, struct err *err)
{
    if (fdatasync(fd) == 0)
        return 0;
    round->lost = true;
    return err_errno(err, ERR_IO, errno, "can't sync %s", name);
}

static int sync_folder(struct round *round, int fd, const char *name, struct err *err)
{
    int rc = shapelog_sync_dir(fd, name, err);

    round->lost = round->lost || rc != 0;
    return rc;
}

/* The n-th segment with a reference, or NULL. */
static struct segment *nth_segment(struct shapelog *log, size_t n)
{
    struct segments *segments = &log->segments;
    struct segment *segment = NULL;

    pthread_mutex_lock(&segments->lock);
    if (n < segments->count) {
        segment = segments->items[n];
        atomic_fetch_add(&segment->hold.refs, 1);
    }
    pthread_mutex_unlock(&segments->lock);
    return segment;
}

static int sync_segments(struct round *round, struct err *err)
{
    struct shapelog *log = round->log;
    struct segment *segment;
    int rc = 0;

    for (size_t i = 0; rc == 0 && (segment = nth_segment(log, i)) != NULL; i++) {
        if (atomic_exchange(&segment->unsynced, false))
            rc = sync_fd(round, segment->fd, "a segment", err);
        shapelog_segment_put(segment);
    }
    if (rc == 0 && atomic_exchange(&log->segments.new_names, false))
        rc = sync_folder(round, log->segments_fd, "segments", err);
    return rc;
}

static int sync_run(struct round *round, struct shapelog_shape *shape, struct run *run,
                    struct err *err)
{
    struct file *log, *index;
    int rc;

    if (!atomic_exchange(&run->unsynced, false))
        return 0;
    rc = shapelog_run_files(shape, run, false, &log, &index, err);
    if (rc != 0) {
        atomic_store(&run->unsynced, true);
        return rc;
    }
    rc = sync_fd(round, log->fd, "a log's messages", err);
    if (rc == 0)
        rc = sync_fd(round, index->fd, "a log's index", err);
    shapelog_file_put(log);
    shapelog_file_put(index);
    return rc;
}

/* The shape's newest run, if it is of this epoch: older ones are durable. */
static struct run *own_run(struct shapelog_shape *shape)
{
    struct run *run = NULL;

    shapelog_lock(shape);
    if (shape->run_count > 0 &&
        shape->runs[shape->run_count - 1]->epoch == shape->log->epoch)
        run = shape->runs[shape->run_count - 1];
    shapelog_unlock(shape);
    return run;
}

static int sync_snapshot(struct round *round, struct shapelog_shape *shape,
                         struct err *err)
{
    struct snapshot *s = &shape->snapshot;
    char name[PATH_BYTES];
    struct file *file;
    int rc;

    shapelog_file_name(name, shape->id, s->epoch, FILE_SNAPSHOT);
    rc = shapelog_file_get(shape->log, &s->file, name, false, &file, err);
    if (rc != 0)
        return rc;
    rc = sync_fd(round, file->fd, "a snapshot", err);
    shapelog_file_put(file);
    return rc;
}

/* Its files are gone: so is the shape. But a successor has deleted what it doesn't know, and
 * then there is nothing to tell. */
static int lose_item(struct round *round, struct item *item, const struct err *why,
                     struct err *err)
{
    struct shapelog *log = round->log;
    int rc;

    pthread_mutex_lock(&log->meta_lock);
    rc = shapelog_check_epoch(log, err);
    pthread_mutex_unlock(&log->meta_lock);
    if (rc != 0)
        return rc;
    shapelog_report(item->shape, why);
    item->action = ITEM_DELETE;
    return 0;
}

static int sync_item(struct round *round, struct item *item, bool *new_names,
                     struct err *err)
{
    struct shapelog_shape *shape = item->shape;
    struct run *run = own_run(shape);
    int rc = 0;

    if (item->action != ITEM_RECORD)
        return 0;
    if (!shape->recorded && shape->snapshot.place == PLACE_FILE) {
        *new_names = true;
        rc = sync_snapshot(round, shape, err);
    }
    if (rc == 0 && run)
        rc = sync_run(round, shape, run, err);
    if (rc == ERR_CORRUPT && !round->recording) {
        struct err why = *err;

        return lose_item(round, item, &why, err);
    }
    *new_names = *new_names || (run && atomic_load(&run->new_names));
    return rc;
}

static void names_synced(struct round *round)
{
    for (size_t i = 0; i < round->count; i++) {
        struct run *run = own_run(round->items[i].shape);

        if (run && round->items[i].action == ITEM_RECORD)
            atomic_store(&run->new_names, false);
    }
}

static int round_sync(struct round *round, struct err *err)
{
    bool new_names = false;
    int rc = sync_segments(round, err);

    for (size_t i = 0; rc == 0 && i < round->count; i++)
        rc = sync_item(round, &round->items[i], &new_names, err);
    if (rc == 0 && new_names) {
        rc = sync_folder(round, round->log->shapes_fd, "shapes", err);
        if (rc == 0)
            names_synced(round);
    }
    return rc;
}

/* --- Recording --- */

static int record_row(struct shapelog_shape *shape, const struct definition *definition,
                      struct buf *scratch, struct err *err)
{
    struct meta_shape row = {.id = shape->id, .handle = slice_of(shape->handle)};
    struct slice text = {"", 0};

    buf_reset(scratch, WRITE_BLOCK_BYTES);
    shapelog_lock(shape);
    shapelog_state_put(scratch, shape);
    row.log = shape->published;
    shapelog_unlock(shape);
    if (scratch->failed)
        return err_set(err, scratch->failed, "no memory to record %s", shape->handle);
    row.state = buf_slice(scratch);
    if (definition) {
        text = slice_make(definition->bytes, definition->len);
        row.definition = &text;
    }
    return shapelog_meta_put_shape(shape->log->meta, &row, err);
}

int shapelog_record_shape(struct shapelog_shape *shape, struct buf *scratch,
                          struct err *err)
{
    return record_row(shape, NULL, scratch, err);
}

static int record_item(struct round *round, struct item *item, struct err *err)
{
    struct shapelog_shape *shape = item->shape;

    if (item->action == ITEM_SKIP)
        return 0;
    if (item->action == ITEM_DELETE)
        return shapelog_meta_delete(round->log->meta, shape->id, err);
    item->definition = atomic_exchange(&shape->definition, NULL);
    return record_row(shape, item->definition, &round->scratch, err);
}

int shapelog_check_epoch(struct shapelog *log, struct err *err)
{
    uint64_t epoch;
    int rc = shapelog_check_owner(log, err);

    if (rc == 0)
        rc = shapelog_meta_get_u64(log->meta, "epoch", &epoch, err);
    if (rc == 0 && epoch != log->epoch)
        rc = err_set(err, ERR_FATAL,
                     "another process has taken over the storage in %s (epoch %" PRIu64
                     ", this one has %" PRIu32 ")",
                     log->config.dir, epoch, log->epoch);
    return rc;
}

static int check_origin(const struct round *round, struct err *err)
{
    struct shapelog *log = round->log;
    bool current;

    pthread_mutex_lock(&log->lock);
    current = log->origin_serial == round->origin_serial;
    pthread_mutex_unlock(&log->lock);
    return current ? 0 : err_set(err, ERR_CANCELLED, "the log has another origin now");
}

static int put_journal_mark(struct meta *meta, bool fold, struct journal_mark mark,
                            struct err *err)
{
    int rc = shapelog_meta_put_u64(meta, "journal.segment", mark.segment, err);

    if (rc == 0)
        rc = shapelog_meta_put_u64(meta, "journal.position", mark.position, err);
    if (rc == 0 && fold)
        rc = shapelog_meta_put_u64(meta, "fold.segment", mark.segment, err);
    if (rc == 0 && fold)
        rc = shapelog_meta_put_u64(meta, "fold.position", mark.position, err);
    return rc;
}

static int record_facts(struct round *round, struct err *err)
{
    struct shapelog *log = round->log;
    uint64_t visible = atomic_load(&log->visible_lsn);
    int rc = shapelog_meta_put_u64(log->meta, "durable_lsn", round->lsn, err);

    if (rc == 0 && visible != UINT64_MAX)
        rc = shapelog_meta_put_u64(log->meta, "visible_lsn", visible, err);
    if (rc == 0)
        rc = put_journal_mark(log->meta, round->fold, round->journal, err);
    return rc;
}

/* New segments, and how far those go that have grown. */
static int record_segments(struct round *round, struct err *err)
{
    struct shapelog *log = round->log;
    struct segment *segment;
    int rc = 0;

    for (size_t i = 0; rc == 0 && (segment = nth_segment(log, i)) != NULL; i++) {
        struct meta_segment row = {segment->n, segment->epoch, segment->kind,
                                   atomic_load(&segment->end)};

        segment->recording = row.end;
        if (segment->doomed)
            rc = shapelog_meta_delete_segment(log->meta, segment->n, err);
        else if (row.end != segment->recorded_end)
            rc = shapelog_meta_put_segment(log->meta, &row, err);
        shapelog_segment_put(segment);
    }
    return rc;
}

static int record_all(struct round *round, struct err *err)
{
    int rc = shapelog_check_epoch(round->log, err);

    if (rc == 0)
        rc = check_origin(round, err);
    for (size_t i = 0; rc == 0 && i < round->count; i++)
        rc = record_item(round, &round->items[i], err);
    if (rc == 0)
        rc = record_segments(round, err); /* the rows may point to the newest */
    return rc == 0 ? record_facts(round, err) : rc;
}

static int round_record(struct round *round, struct err *err)
{
    struct shapelog *log = round->log;
    /* Most of it before the transaction, which others wait for. */
    int rc = round_sync(round, err);

    if (rc != 0)
        return rc;
    round->recording = true;
    pthread_mutex_lock(&log->meta_lock);
    rc = shapelog_meta_begin(log->meta, err);
    if (rc == 0)
        rc = record_all(round, err);
    if (rc == 0)
        rc = round_sync(round, err); /* all that the rows speak of */
    if (rc == 0)
        rc = shapelog_meta_commit(log->meta, err);
    if (rc == 0)
        rc = shapelog_check_owner(log, err); /* it may have changed while we slept */
    if (rc == 0)
        atomic_store(&log->durable_lsn, round->lsn);
    else
        shapelog_meta_rollback(log->meta);
    pthread_mutex_unlock(&log->meta_lock);
    return rc;
}

/* --- Segments --- */

/* Whether the journal of this segment is behind the fold that this round makes, or one of
 * before. */
static bool is_folded(const struct round *round, const struct segment *segment)
{
    if (segment->kind != SEGMENT_JOURNAL)
        return true;
    return segment->n <
           (round->fold ? round->journal.segment : round->log->folded_segment);
}

/* Before the round takes anything: which segments nothing lives in. */
static size_t doom_segments(struct round *round, bool decide)
{
    struct shapelog *log = round->log;
    struct segment *segment;
    size_t count = 0;

    for (size_t i = 0; (segment = nth_segment(log, i)) != NULL; i++) {
        segment->doomed =
            (decide ? atomic_load(&segment->closed) && atomic_load(&segment->live) == 0
                    : segment->doomed && is_folded(round, segment));
        count += segment->doomed;
        shapelog_segment_put(segment);
    }
    return count;
}

static void segments_recorded(struct round *round)
{
    struct shapelog *log = round->log;
    struct segment *segment;

    for (size_t i = 0; (segment = nth_segment(log, i)) != NULL;) {
        if (!segment->doomed)
            segment->recorded_end = segment->recording;
        if (!segment->doomed || !shapelog_segment_delete(log, segment))
            i++;
        shapelog_segment_put(segment);
    }
}

/* --- The end of a round --- */

/* The next round starts from the same shapes. */
static void round_undo(struct round *round)
{
    for (size_t i = 0; i < round->count; i++) {
        struct item *item = &round->items[i];
        struct definition *none = NULL;

        if (item->definition && !atomic_compare_exchange_strong(&item->shape->definition,
                                                                &none, item->definition))
            free(item->definition); /* there is a newer one */
        shapelog_mark_dirty(item->shape, item->kind);
    }
}

static void round_done(struct round *round)
{
    for (size_t i = 0; i < round->count; i++) {
        struct item *item = &round->items[i];

        free(item->definition);
        if (item->action != ITEM_SKIP)
            item->shape->recorded = item->action == ITEM_RECORD;
    }
    segments_recorded(round);
    if (round->fold) {
        round->log->folded_bytes = round->journal_bytes;
        round->log->folded_segment = round->journal.segment;
    }
    if (!shapelog_live_settle(round->log, round->removals_noted))
        log_event(round->log->config.log, LOG_WARNING, "shapelog.removals_not_noted",
                  LOG_U64("noted", round->removals_noted));
}

static int round_run(struct round *round, struct err *err)
{
    int rc;

    doom_segments(round, true);
    rc = round_take(round, err);
    if (rc != 0)
        return rc;
    sort_items(round);
    round_decide(round);
    doom_segments(round, false);
    rc = round_record(round, err);
    if (rc == 0)
        round_done(round);
    else
        round_undo(round);
    for (size_t i = 0; i < round->count; i++)
        shapelog_release(round->items[i].shape);
    return rc;
}

static void tell_failure(struct shapelog *log, const struct round *round, struct err *err)
{
    const struct shapelog_config *config = &log->config;

    if (round->lost || err->code == ERR_FATAL) {
        err->code = ERR_FATAL;
        log->failed = true;
        log->failure = *err;
    }
    log_event(config->log, LOG_ERROR, "shapelog.checkpoint_failed",
              LOG_U64("lsn", round->lsn), LOG_TEXT("error", err->message));
    /* Each request is answered once; who did not ask hears it with its next one. */
    if (config->failed && !round->quiet)
        config->failed(config->ctx, err);
}

/* quiet: nobody asked for it. */
static bool checkpoint(struct shapelog *log, uint64_t lsn, uint64_t origin_serial,
                       bool quiet)
{
    const struct shapelog_config *config = &log->config;
    struct round round = {
        .log = log, .lsn = lsn, .origin_serial = origin_serial, .quiet = quiet};
    int64_t start_us = clock_mono_us();
    struct err err;
    int rc;

    err_clear(&err);
    buf_init(&round.scratch, (size_t)2 * MESSAGE_MAX_BYTES);
    rc = log->failed ? err_set(&err, ERR_FATAL, "%s", log->failure.message)
                     : round_run(&round, &err);
    free(round.items);
    buf_fini(&round.scratch);
    obs_time(config->obs, OBS_H_CHECKPOINT_US, clock_mono_us() - start_us);
    if (rc == 0)
        obs_count(config->obs, OBS_CHECKPOINTS, 1);
    if (rc == 0 && config->durable && !quiet)
        config->durable(config->ctx, lsn);
    if (rc != 0)
        tell_failure(log, &round, &err);
    return rc == 0 && round.fold;
}

/* --- Removed shapes --- */

static void delete_file(struct shapelog_shape *shape, uint32_t epoch, enum file_kind kind)
{
    char name[PATH_BYTES];

    shapelog_file_name(name, shape->id, epoch, kind);
    /* What stays behind is deleted at the next start. */
    if (unlinkat(shape->log->shapes_fd, name, 0) != 0 && errno != ENOENT)
        log_event(shape->log->config.log, LOG_WARNING, "shapelog.not_deleted",
                  LOG_TEXT("name", name), LOG_TEXT("error", strerror(errno)));
}

static void bury(struct shapelog_shape *shape)
{
    for (uint32_t i = 0; i < shape->run_count; i++) {
        delete_file(shape, shape->runs[i]->epoch, FILE_LOG);
        delete_file(shape, shape->runs[i]->epoch, FILE_INDEX);
    }
    if (shape->snapshot.place == PLACE_FILE)
        delete_file(shape, shape->snapshot.epoch, FILE_SNAPSHOT);
    shapelog_unplace(shape);
    shapelog_shape_free(shape);
}

/* True when there were some. */
static bool bury_released(struct shapelog *log)
{
    bool any = false;

    for (;;) {
        struct shapelog_shape *shape = NULL;

        pthread_mutex_lock(&log->lock);
        if (!list_empty(&log->released))
            shape =
                LIST_ENTRY(list_pop(&log->released), struct shapelog_shape, dirty_link);
        pthread_mutex_unlock(&log->lock);
        if (!shape)
            return any;
        any = true;
        bury(shape);
    }
}

/* Whether a round would delete a segment. */
static bool has_dead_segments(struct shapelog *log)
{
    struct round round = {.log = log};

    doom_segments(&round, true);
    return doom_segments(&round, false) > 0;
}

/* --- The thread --- */

struct request {
    bool requested;
    bool stop;
    uint64_t lsn;
    uint64_t origin_serial;
};

static struct request wait_for_request(struct shapelog *log)
{
    struct request r;

    pthread_mutex_lock(&log->lock);
    while (!log->requested && !log->stop && list_empty(&log->released))
        pthread_cond_wait(&log->wake, &log->lock);
    r = (struct request){log->requested, log->stop, log->requested_lsn,
                         log->origin_serial};
    log->requested = false;
    pthread_mutex_unlock(&log->lock);
    return r;
}

static void *checkpoint_main(void *arg)
{
    struct shapelog *log = arg;
    bool stop = false;

    while (!stop) {
        struct request r = wait_for_request(log);
        bool folded = r.requested && checkpoint(log, r.lsn, r.origin_serial, false);

        if (bury_released(log) && !r.stop && has_dead_segments(log))
            folded =
                checkpoint(log, atomic_load(&log->durable_lsn), r.origin_serial, true) ||
                folded;
        if (folded && !r.stop)
            shapelog_reclaim(log);
        stop = r.stop;
    }
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

/* An orderly end: what was shown is known. */
static void note_clean(struct shapelog *log)
{
    struct meta *meta = log->meta;
    uint64_t visible = atomic_load(&log->visible_lsn);

    if (log->failed || shapelog_meta_begin(meta, NULL) != 0)
        return;
    if (shapelog_check_epoch(log, NULL) != 0 ||
        (visible != UINT64_MAX &&
         shapelog_meta_put_u64(meta, "visible_lsn", visible, NULL) != 0) ||
        shapelog_meta_put_u64(meta, "clean", visible != UINT64_MAX, NULL) != 0 ||
        shapelog_meta_commit(meta, NULL) != 0)
        shapelog_meta_rollback(meta);
}

void shapelog_checkpoint_stop(struct shapelog *log)
{
    if (!log->thread_started)
        return;
    pthread_mutex_lock(&log->lock);
    for (int kind = 0; kind < DIRTY_KINDS; kind++)
        log->requested = log->requested || !list_empty(&log->dirty[kind]);
    log->stop = true;
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->lock);
    pthread_join(log->thread, NULL);
    log->thread_started = false;
    note_clean(log);
}
