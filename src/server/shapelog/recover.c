/* What is left after a stop or a crash.
 *
 * A shape lives on when its row is intact, its own files have at least the bytes that the row
 * records, and the segments that it points into are there. The journal's frames since the last
 * fold complete the tails. Everything behind what the last checkpoint recorded is left alone: it
 * comes again from the replication slot. Recorded bytes themselves are checked when they are
 * first read, so that a start does not read whole logs.
 *
 * Nothing is repaired: a shape in doubt is dropped, clients fetch it again. Damage to
 * meta.sqlite itself, or to the journal between the last fold and its end, drops all shapes.
 * Then the epoch begins: changed tails are written down as rows, so that the journals of earlier
 * epochs are never read again, and files that nothing points to are deleted. */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map.h"

/* --- Rows --- */

/* ERR_CORRUPT when the file is missing or shorter. */
static int check_size(const struct shapelog *log, const char *name, uint64_t at_least,
                      struct err *err)
{
    struct stat st;

    if (fstatat(log->shapes_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return err_errno(err, errno == ENOENT ? ERR_CORRUPT : ERR_IO, errno,
                         "can't look at shapes/%s", name);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < at_least)
        return err_set(err, ERR_CORRUPT,
                       "shapes/%s has %" PRIu64 " bytes, fewer than the %" PRIu64
                       " recorded",
                       name, (uint64_t)st.st_size, at_least);
    return 0;
}

static int check_run(const struct shapelog_shape *shape, const struct run *run,
                     struct err *err)
{
    char name[PATH_BYTES];
    int rc;

    if (run->end.entries == run->begin.entries)
        return 0;
    shapelog_file_name(name, shape->id, run->epoch, FILE_LOG);
    rc = check_size(shape->log, name, run->end.bytes - run->begin.bytes, err);
    shapelog_file_name(name, shape->id, run->epoch, FILE_INDEX);
    if (rc == 0)
        rc = check_size(shape->log, name,
                        (run->end.entries - run->begin.entries) * RECORD_BYTES, err);
    return rc;
}

/* Whether the stored bytes lie in a segment that is known. */
static int check_place(struct shapelog *log, uint64_t addr, uint64_t bytes,
                       struct err *err)
{
    struct segment *segment = shapelog_segment_get(log, ADDR_SEGMENT(addr));
    bool there = segment && segment->fd >= 0 &&
                 ADDR_POSITION(addr) + bytes <= atomic_load(&segment->end);

    if (segment)
        shapelog_segment_put(segment);
    return there
               ? 0
               : err_set(err, ERR_CORRUPT, "segment %" PRIu32 " is missing or too short",
                         ADDR_SEGMENT(addr));
}

static int check_snapshot(struct shapelog_shape *shape, struct err *err)
{
    const struct snapshot *s = &shape->snapshot;
    char name[PATH_BYTES];

    if (s->place == PLACE_SEGMENT)
        return check_place(shape->log, s->addr, s->readable, err);
    shapelog_file_name(name, shape->id, s->epoch, FILE_SNAPSHOT);
    return check_size(shape->log, name, s->readable, err);
}

static int check_files(struct shapelog_shape *shape, struct err *err)
{
    struct tail_walk walk;
    int rc = check_snapshot(shape, err);

    for (uint32_t i = 0; rc == 0 && i < shape->run_count; i++)
        rc = check_run(shape, shape->runs[i], err);
    shapelog_tail_walk(&walk, &shape->tail, shape->own_end);
    while (rc == 0 && shapelog_tail_next(&walk))
        rc = check_place(shape->log, walk.entry.addr,
                         STORED_HEADER + (uint64_t)walk.entry.len, err);
    return rc;
}

/* From now on it keeps its segments. */
static void place(struct shapelog_shape *shape)
{
    struct tail_walk walk;

    if (shape->snapshot.place == PLACE_SEGMENT)
        shapelog_segment_place(shape->log, ADDR_SEGMENT(shape->snapshot.addr));
    shapelog_tail_walk(&walk, &shape->tail, shape->own_end);
    while (shapelog_tail_next(&walk))
        shapelog_segment_place(shape->log, ADDR_SEGMENT(walk.entry.addr));
}

static int restore(struct shapelog *log, const struct meta_shape *row,
                   struct shapelog_shape **out, struct err *err)
{
    struct shapelog_shape *shape;
    uint64_t open_from;
    int rc;

    *out = NULL;
    if (!shapelog_handle_valid(row->handle))
        return err_set(err, ERR_CORRUPT, "its row makes no sense");
    shape = shapelog_shape_new(log, row->id, row->handle);
    if (!shape)
        return err_set(err, ERR_MEMORY, "no memory for a shape");
    rc = shapelog_state_get(shape, row->state, err);
    if (rc == 0)
        rc = check_files(shape, err);
    if (rc == 0 && shapelog_register(shape) != 0)
        rc = err_set(err, ERR_MEMORY, "no memory for a shape");
    if (rc != 0) {
        shapelog_shape_free(shape);
        return rc;
    }
    open_from =
        shape->chunk_count ? shape->chunks[shape->chunk_count - 1].end.entries : 0;
    shape->open_verified = shape->own_end.entries <= open_from;
    shape->recorded = true;
    place(shape);
    *out = shape;
    return 0;
}

struct rows {
    struct shapelog *log;
    uint64_t *dropped;
    size_t dropped_count;
    size_t dropped_cap;
};

static int on_row(void *ctx, const struct meta_shape *row, bool intact, struct err *err)
{
    struct rows *rows = ctx;
    struct shapelog_shape *shape;
    void *items = rows->dropped;
    struct err why;
    int rc;

    err_clear(&why);
    rc = intact ? restore(rows->log, row, &shape, &why)
                : err_set(&why, ERR_CORRUPT, "its row does not match its checksum");
    if (rc != ERR_CORRUPT)
        return rc == 0 ? 0 : err_set(err, rc, "%s", why.message);
    if (!shapelog_grow(&items, &rows->dropped_cap, rows->dropped_count + 1,
                       sizeof(*rows->dropped)))
        return err_set(err, ERR_MEMORY, "no memory to recover the shape log");
    rows->dropped = items;
    rows->dropped[rows->dropped_count++] = row->id;
    shapelog_note_dropped(rows->log, row->handle, &why);
    return 0;
}

static int on_segment(void *ctx, const struct meta_segment *row, struct err *err)
{
    return shapelog_segment_restore(ctx, row->n, row->epoch, row->kind, row->end, err);
}

static int load_shapes(struct shapelog *log, struct err *err)
{
    struct rows rows = {.log = log};
    int rc = shapelog_meta_segments(log->meta, on_segment, log, err);

    if (rc == 0)
        rc = shapelog_meta_shapes(log->meta, on_row, &rows, err);
    for (size_t i = 0; rc == 0 && i < rows.dropped_count; i++)
        rc = shapelog_meta_delete(log->meta, rows.dropped[i], err);
    free(rows.dropped);
    return rc;
}

/* --- Facts --- */

int shapelog_read_origin(struct shapelog *log, struct err *err)
{
    struct shapelog_origin *o = &log->origin;
    uint64_t timeline = 0;
    int rc = shapelog_meta_get(log->meta, "origin.system_id", o->system_id,
                               sizeof(o->system_id), err);

    if (rc == ERR_NOT_FOUND) {
        err_clear(err);
        return 0;
    }
    if (rc == 0)
        rc = shapelog_meta_get_u64(log->meta, "origin.timeline", &timeline, err);
    if (rc == 0)
        rc = shapelog_meta_get(log->meta, "origin.database", o->database,
                               sizeof(o->database), err);
    if (rc == 0)
        rc = shapelog_meta_get(log->meta, "origin.slot", o->slot, sizeof(o->slot), err);
    if (rc == ERR_NOT_FOUND || timeline > UINT32_MAX)
        return err_set(err, ERR_CORRUPT, "the stored origin is incomplete");
    o->timeline = (uint32_t)timeline;
    log->has_origin = rc == 0;
    return rc;
}

static int read_facts(struct shapelog *log, struct err *err)
{
    uint64_t lsn = 0;
    uint64_t visible = 0;
    int rc = shapelog_meta_get_u64(log->meta, "durable_lsn", &lsn, err);

    if (rc == 0)
        rc = shapelog_meta_get_u64(log->meta, "visible_lsn", &visible, err);
    atomic_store(&log->durable_lsn, lsn);
    atomic_store(&log->visible_lsn, visible);
    log->requested_lsn = lsn;
    return rc == 0 ? shapelog_read_origin(log, err) : rc;
}

static int begin_epoch(struct shapelog *log, struct err *err)
{
    uint64_t epoch;
    int rc = shapelog_meta_get_u64(log->meta, "epoch", &epoch, err);

    if (rc == 0 && epoch >= UINT32_MAX - 1)
        rc = err_set(err, ERR_FATAL, "the storage was opened too often");
    if (rc != 0)
        return rc;
    log->epoch = (uint32_t)epoch + 1;
    log->next_id = ((uint64_t)log->epoch << 32) + 1; /* no id is ever given twice */
    return shapelog_meta_put_u64(log->meta, "epoch", log->epoch, err);
}

/* --- The journal --- */

static int read_mark(struct shapelog *log, const char *segment, const char *position,
                     struct journal_mark *out, struct err *err)
{
    uint64_t n = 0;
    int rc = shapelog_meta_get_u64(log->meta, segment, &n, err);

    out->segment = (uint32_t)n;
    return rc == 0 ? shapelog_meta_get_u64(log->meta, position, &out->position, err) : rc;
}

/* Shapes of which the journal has told nonsense. */
static int drop_lost(struct shapelog *log, struct err *err)
{
    int rc = 0;

    for (size_t i = log->shape_count; rc == 0 && i-- > 0;) {
        if (!log->shapes[i]->lost)
            continue;
        rc = shapelog_meta_delete(log->meta, log->shapes[i]->id, err);
        shapelog_discard(log->shapes[i]);
    }
    return rc;
}

/* All that the frames have changed becomes rows, and the journal of this epoch begins. */
static int fold(struct shapelog *log, struct err *err)
{
    struct list *dirty = &log->dirty[DIRTY_ROW];
    struct buf scratch;
    int rc = 0;

    buf_init(&scratch, (size_t)2 * MESSAGE_MAX_BYTES);
    while (rc == 0 && !list_empty(dirty)) {
        struct shapelog_shape *shape =
            LIST_ENTRY(dirty->next, struct shapelog_shape, dirty_link);

        shapelog_unmark_dirty_locked(shape);
        if (!shape->lost)
            rc = shapelog_record_shape(shape, &scratch, err);
        shapelog_release(shape);
    }
    buf_fini(&scratch);
    log->journal = (struct journal_mark){log->segments.next_n, 0};
    log->folded_segment = log->journal.segment;
    if (rc == 0)
        rc = shapelog_meta_put_u64(log->meta, "journal.segment", log->journal.segment,
                                   err);
    if (rc == 0)
        rc = shapelog_meta_put_u64(log->meta, "journal.position", 0, err);
    if (rc == 0)
        rc = shapelog_meta_put_u64(log->meta, "fold.segment", log->journal.segment, err);
    return rc == 0 ? shapelog_meta_put_u64(log->meta, "fold.position", 0, err) : rc;
}

static int read_journal(struct shapelog *log, struct err *err)
{
    struct journal_mark from = {0, 0};
    struct journal_mark to = {0, 0};
    int rc = read_mark(log, "fold.segment", "fold.position", &from, err);

    if (rc == 0)
        rc = read_mark(log, "journal.segment", "journal.position", &to, err);
    return rc == 0 ? shapelog_replay(log, from, to, err) : rc;
}

/* --- Files --- */

static void complain(const struct shapelog *log, const char *name)
{
    log_event(log->config.log, LOG_WARNING, "shapelog.not_deleted",
              LOG_TEXT("name", name), LOG_TEXT("error", strerror(errno)));
}

/* Of another format, or not ours at all. */
static void delete_folder(const struct shapelog *log, const char *folder,
                          const char *name)
{
    struct buf path;

    buf_init(&path, 65536);
    buf_printf(&path, "%s/%s%s%s", log->config.dir, folder, name[0] ? "/" : "", name);
    buf_putc(&path, '\0');
    if (path.failed || shapelog_destroy(path.ptr, NULL) != 0)
        complain(log, name[0] ? name : folder);
    buf_fini(&path);
}

struct sweep {
    struct shapelog *log;
    int folder_fd;
    const char *folder;
    const struct map *kept;
};

static int sweep_one(void *ctx, const char *name, struct err *err)
{
    const struct sweep *s = ctx;
    int rc;

    if (map_get(s->kept, slice_of(name)))
        return 0;
    rc = shapelog_check_owner(s->log, err); /* or it may be a file of a successor's */
    if (rc != 0 || unlinkat(s->folder_fd, name, 0) == 0)
        return rc;
    if (errno == EISDIR || errno == EPERM)
        delete_folder(s->log, s->folder, name);
    else
        complain(s->log, name);
    return 0;
}

/* Deletes what is in the folder, but for the names kept. */
static int sweep(struct shapelog *log, int folder_fd, const char *folder,
                 const struct map *kept, struct err *err)
{
    struct sweep s = {log, folder_fd, folder, kept};

    return shapelog_each_file(folder_fd, folder, sweep_one, &s, err);
}

static int keep_name(struct map *kept, const char *name, struct err *err)
{
    return map_put(kept, slice_of(name), kept, NULL) == 0
               ? 0
               : err_set(err, ERR_MEMORY, "no memory to recover the shape log");
}

static int keep_shape(struct map *kept, const struct shapelog_shape *shape,
                      struct err *err)
{
    char name[PATH_BYTES];
    int rc = 0;

    if (shape->snapshot.place == PLACE_FILE) {
        shapelog_file_name(name, shape->id, shape->snapshot.epoch, FILE_SNAPSHOT);
        rc = keep_name(kept, name, err);
    }
    for (uint32_t i = 0; rc == 0 && i < shape->run_count; i++) {
        shapelog_file_name(name, shape->id, shape->runs[i]->epoch, FILE_LOG);
        rc = keep_name(kept, name, err);
        shapelog_file_name(name, shape->id, shape->runs[i]->epoch, FILE_INDEX);
        if (rc == 0)
            rc = keep_name(kept, name, err);
    }
    return rc;
}

static int sweep_all(struct shapelog *log, struct err *err)
{
    struct map shapes, segments;
    char name[PATH_BYTES];
    int rc = 0;

    map_init(&shapes);
    map_init(&segments);
    for (size_t i = 0; rc == 0 && i < log->shape_count; i++)
        rc = keep_shape(&shapes, log->shapes[i], err);
    for (size_t i = 0; rc == 0 && i < log->segments.count; i++) {
        const struct segment *segment = log->segments.items[i];

        shapelog_segment_name(name, segment->n, segment->epoch);
        rc = keep_name(&segments, name, err);
    }
    if (rc == 0)
        rc = sweep(log, log->shapes_fd, "shapes", &shapes, err);
    if (rc == 0)
        rc = sweep(log, log->segments_fd, "segments", &segments, err);
    map_fini(&shapes);
    map_fini(&segments);
    return rc;
}

/* --- The whole --- */

/* Within one transaction of meta.sqlite. */
static int load(struct shapelog *log, struct err *err)
{
    int rc = read_facts(log, err);

    if (rc == 0)
        rc = begin_epoch(log, err);
    if (rc == 0)
        rc = shapelog_live_open(log, err);
    if (rc == 0)
        rc = load_shapes(log, err);
    if (rc == 0)
        rc = read_journal(log, err);
    if (rc == 0)
        rc = drop_lost(log, err);
    return rc == 0 ? fold(log, err) : rc;
}

static int open_meta(struct shapelog *log, const char *path, struct err *err)
{
    int rc = shapelog_meta_open(path, &log->meta, err);

    if (rc == 0)
        rc = shapelog_meta_begin(log->meta, err);
    if (rc == 0)
        rc = shapelog_check_owner(log, err); /* or it may be a successor's */
    if (rc == 0)
        rc = load(log, err);
    if (rc == 0)
        rc = shapelog_meta_commit(log->meta, err);
    if (rc != 0 && log->meta)
        shapelog_meta_rollback(log->meta);
    return rc;
}

static void forget_everything(struct shapelog *log)
{
    shapelog_free_shapes(log);
    for (size_t i = 0; i < log->segments.count; i++)
        shapelog_segment_put(log->segments.items[i]);
    log->segments.count = 0;
    shapelog_live_close(log);
    log->has_origin = false;
    shapelog_meta_close(log->meta);
    log->meta = NULL;
}

/* That which counts. */
static int open_chosen(struct shapelog *log, struct err *err)
{
    struct buf path;
    int rc = shapelog_meta_path(log, &path, err);

    if (rc == 0)
        rc = open_meta(log, path.ptr, err);
    buf_fini(&path);
    return rc;
}

/* What is stored can't be read: all shapes go, and with them the LSN and the origin. Only the
 * numbers that must never come again are kept, if they can be had. */
static int start_over(struct shapelog *log, const struct err *why, struct err *err)
{
    int rc;

    log_event(log->config.log, LOG_ERROR, "shapelog.reset",
              LOG_TEXT("error", why->message));
    forget_everything(log);
    rc = shapelog_meta_renew(log, err);
    return rc == 0 ? open_chosen(log, err) : rc;
}

static int recover(struct shapelog *log, struct err *err)
{
    struct err why;
    int rc = 0;

    err_clear(&why);
    if (log->meta_number <= log->old_meta)
        rc = shapelog_meta_copy_old(log, &why);
    if (rc == 0)
        rc = open_chosen(log, &why);
    if (rc == ERR_CORRUPT)
        return start_over(log, &why, err);
    return rc == 0 ? 0 : err_set(err, rc, "%s", why.message);
}

int shapelog_recover(struct shapelog *log, struct err *err)
{
    int rc = shapelog_meta_choose(log, err);

    if (rc == 0)
        rc = recover(log, err);
    if (rc == 0)
        rc = sweep_all(log, err);
    if (rc == 0) {
        shapelog_meta_clear(log);
        shapelog_live_clear(log);
        if (faccessat(log->dir_fd, "trash", F_OK, 0) == 0) /* of format 1 */
            delete_folder(log, "trash", "");
        log_event(log->config.log, LOG_INFO, "shapelog.opened",
                  LOG_TEXT("dir", log->config.dir), LOG_U64("shapes", log->shape_count),
                  LOG_U64("durable_lsn", atomic_load(&log->durable_lsn)),
                  LOG_U64("epoch", log->epoch));
    }
    return rc;
}
