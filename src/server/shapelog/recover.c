/* What is left after a stop or a crash.
 *
 * A shape lives on when its row is intact, its files have at least the bytes that the row
 * records, and the last recorded entry is where it should be. Behind the recorded end,
 * entries are kept up to the last whole transaction that checks out; the rest is cut off
 * and comes again from the replication slot, at the same offsets. Recorded bytes
 * themselves are checked when they are first read, so that a start does not read whole
 * logs.
 *
 * Nothing is repaired: a shape in doubt is dropped, clients fetch it again. Damage to
 * meta.sqlite itself drops all shapes. Directories without a row (also those of shapes
 * whose snapshot was not complete) are deleted. */
#include "server/shapelog/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map.h"

struct recovery {
    struct shapelog *log;
    struct map kept;   /* handles */
    uint64_t *dropped; /* ids of rows to delete */
    size_t dropped_count;
    size_t dropped_cap;
};

/* The size of the shape's file, 0 when there is none. ERR_IO. */
static int file_size(const struct shapelog_shape *shape, enum file_kind kind,
                     uint64_t *out, struct err *err)
{
    char path[PATH_BYTES];
    struct stat st;

    *out = 0;
    snprintf(path, sizeof(path), "%s/%s", shape->handle, shapelog_file_name(kind));
    if (fstatat(shape->log->shapes_fd, path, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? 0
                   : err_errno(err, ERR_IO, errno, "can't look at %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_CORRUPT, "%s is not a file", path);
    *out = (uint64_t)st.st_size;
    return 0;
}

static int add_snapshot_chunk(void *ctx, const struct meta_part *part, struct err *err)
{
    struct shapelog_shape *shape = ctx;
    size_t count = shape->snapshot_chunk_count;
    void *items = shape->snapshot_chunks;

    if (part->end.bytes <= (count ? shape->snapshot_chunks[count - 1].end : 0))
        return err_set(err, ERR_CORRUPT, "the snapshot's chunks are not in order");
    if (!shapelog_grow(&items, &shape->snapshot_chunk_cap, count + 1,
                       sizeof(*shape->snapshot_chunks)))
        return err_set(err, ERR_MEMORY, "no memory for the chunks of %s", shape->handle);
    shape->snapshot_chunks = items;
    shape->snapshot_chunks[shape->snapshot_chunk_count++] =
        (struct snapshot_chunk){.end = part->end.bytes, .crc = part->crc};
    shape->snapshot_readable = part->end.bytes;
    return 0;
}

static int push_log_chunk(struct shapelog_shape *shape, const struct mark *end,
                          struct err *err)
{
    void *items = shape->chunks;

    if (!shapelog_grow(&items, &shape->chunk_cap, shape->chunk_count + 1,
                       sizeof(*shape->chunks)))
        return err_set(err, ERR_MEMORY, "no memory for the chunks of %s", shape->handle);
    shape->chunks = items;
    shape->chunks[shape->chunk_count++] = (struct log_chunk){.end = *end};
    return 0;
}

static int add_log_chunk(void *ctx, const struct meta_part *part, struct err *err)
{
    struct shapelog_shape *shape = ctx;
    struct mark before =
        shape->chunk_count ? shape->chunks[shape->chunk_count - 1].end : MARK_BEGIN;

    if (part->end.entries <= before.entries || part->end.bytes <= before.bytes ||
        offset_cmp(part->end.at, before.at) <= 0 ||
        part->end.entries > shape->published.entries ||
        part->end.bytes > shape->published.bytes ||
        offset_cmp(part->end.at, shape->published.at) > 0)
        return err_set(err, ERR_CORRUPT, "the log's chunks are not in order");
    return push_log_chunk(shape, &part->end, err);
}

static int restore_snapshot(struct shapelog_shape *shape, struct err *err)
{
    uint64_t size;
    int rc = shapelog_meta_parts(shape->log->meta, shape->id, META_SNAPSHOT_CHUNK,
                                 add_snapshot_chunk, shape, err);

    if (rc == 0)
        rc = file_size(shape, FILE_SNAPSHOT, &size, err);
    if (rc == 0 && (shape->snapshot_chunk_count == 0 || size != shape->snapshot_readable))
        rc =
            err_set(err, ERR_CORRUPT, "snapshot.json has %" PRIu64 " bytes, not %" PRIu64,
                    size, shape->snapshot_readable);
    shape->begun = shape->complete = true;
    return rc;
}

/* Whether the last recorded entry is the one that the row names. */
static int check_recorded_end(const struct shapelog_shape *shape, int index_fd,
                              struct err *err)
{
    const struct mark *end = &shape->published;
    char bytes[RECORD_BYTES];
    struct record record;
    int rc = shapelog_read_at(index_fd, bytes, sizeof(bytes),
                              (end->entries - 1) * RECORD_BYTES,
                              shapelog_file_name(FILE_INDEX), err);

    if (rc != 0)
        return rc;
    if (!shapelog_record_get(bytes, &record) || record.tx != end->at.tx ||
        record.op != end->at.op || record.pos + record.len + 1 != end->bytes ||
        !(record.flags & RECORD_LAST))
        return err_set(err, ERR_CORRUPT, "log.idx does not check out at entry %" PRIu64,
                       end->entries - 1);
    return 0;
}

/* Moves the published end behind the last whole transaction. */
static int scan_tail(struct shapelog_shape *shape, int index_fd, int log_fd,
                     uint64_t records, struct err *err)
{
    struct mark kept = shape->published;
    size_t kept_chunks = shape->chunk_count;
    struct scan scan;
    int rc = shapelog_scan_init(&scan, index_fd, log_fd, shape->published, records);

    if (rc != 0)
        return err_set(err, rc, "no memory to read the log of %s", shape->handle);
    while ((rc = shapelog_scan_next(&scan, err)) == 1) {
        if (scan.record.flags & RECORD_CHUNK)
            rc = push_log_chunk(shape, &scan.end, err);
        if (rc < 0)
            break;
        if (scan.record.flags & RECORD_LAST) {
            kept = scan.end;
            kept_chunks = shape->chunk_count;
        }
    }
    shapelog_scan_fini(&scan);
    shape->published = kept;
    shape->chunk_count = kept_chunks;
    if (rc != ERR_CORRUPT) /* a torn end is no error */
        return rc;
    err_clear(err);
    return 0;
}

static int cut(const struct shapelog_shape *shape, enum file_kind kind, int fd,
               uint64_t size, uint64_t kept, struct err *err)
{
    if (size == kept || ftruncate(fd, (off_t)kept) == 0)
        return 0;
    return err_errno(err, ERR_IO, errno, "can't truncate %s/%s to %" PRIu64 " bytes",
                     shape->handle, shapelog_file_name(kind), kept);
}

/* Checks the recorded end, reads on behind it and cuts the files. */
static int restore_files(struct shapelog_shape *shape, uint64_t log_size,
                         uint64_t index_size, struct err *err)
{
    struct file *log = NULL;
    struct file *index = NULL;
    int rc = shapelog_file_get(shape, FILE_LOG, true, &log, err);

    if (rc == 0)
        rc = shapelog_file_get(shape, FILE_INDEX, true, &index, err);
    if (rc == 0 && shape->published.entries > 0)
        rc = check_recorded_end(shape, index->fd, err);
    if (rc == 0 && index_size / RECORD_BYTES > shape->published.entries)
        rc = scan_tail(shape, index->fd, log->fd, index_size / RECORD_BYTES, err);
    if (rc == 0)
        rc = cut(shape, FILE_INDEX, index->fd, index_size,
                 shape->published.entries * RECORD_BYTES, err);
    if (rc == 0)
        rc = cut(shape, FILE_LOG, log->fd, log_size, shape->published.bytes, err);
    if (index)
        shapelog_file_put(index);
    if (log)
        shapelog_file_put(log);
    return rc;
}

static int restore_log(struct shapelog_shape *shape, const struct mark *recorded,
                       struct err *err)
{
    uint64_t log_size, index_size;
    uint64_t open_from;
    int rc;

    shape->published = *recorded;
    if (recorded->entries == 0)
        shape->published = MARK_BEGIN;
    rc = shapelog_meta_parts(shape->log->meta, shape->id, META_LOG_CHUNK, add_log_chunk,
                             shape, err);
    if (rc == 0)
        rc = file_size(shape, FILE_LOG, &log_size, err);
    if (rc == 0)
        rc = file_size(shape, FILE_INDEX, &index_size, err);
    if (rc != 0)
        return rc;
    if (log_size < recorded->bytes || index_size / RECORD_BYTES < recorded->entries)
        return err_set(err, ERR_CORRUPT,
                       "the log has %" PRIu64 " entries in %" PRIu64
                       " bytes, fewer than the %" PRIu64 " in %" PRIu64 " recorded",
                       index_size / RECORD_BYTES, log_size, recorded->entries,
                       recorded->bytes);
    shape->recorded_entries = recorded->entries;
    shape->recorded_chunks = shape->chunk_count;
    if (log_size > 0 || index_size > 0)
        rc = restore_files(shape, log_size, index_size, err);
    open_from =
        shape->chunk_count ? shape->chunks[shape->chunk_count - 1].end.entries : 0;
    shape->open_verified = shape->published.entries == open_from;
    return rc;
}

static int restore_shape(struct shapelog_shape *shape, const struct meta_shape *row,
                         struct err *err)
{
    char *view = slice_dup(row->view);
    int rc;

    if (!view)
        return err_set(err, ERR_MEMORY, "no memory for the shape %s", shape->handle);
    shape->id = row->id;
    shape->recorded = true;
    shape->view_len = row->view.len;
    atomic_store(&shape->view, view);
    rc = restore_snapshot(shape, err);
    if (rc == 0)
        rc = restore_log(shape, &row->log, err);
    if (rc == 0) {
        shapelog_writer_fini(shape);
        shapelog_writer_init(shape);
    }
    return rc;
}

static int drop(struct recovery *recovery, const struct meta_shape *row,
                const struct err *why, struct err *err)
{
    struct shapelog *log = recovery->log;
    void *items = recovery->dropped;

    if (!shapelog_grow(&items, &recovery->dropped_cap, recovery->dropped_count + 1,
                       sizeof(*recovery->dropped)))
        return err_set(err, ERR_MEMORY, "no memory to recover the shape log");
    recovery->dropped = items;
    recovery->dropped[recovery->dropped_count++] = row->id;
    obs_shape_removed(log->config.obs, OBS_SHAPE_CORRUPT);
    log_event(log->config.log, LOG_ERROR, "shapelog.dropped",
              LOG_SLICE("handle", row->handle),
              LOG_TEXT("reason", obs_shape_reason_name(OBS_SHAPE_CORRUPT)),
              LOG_TEXT("error", why->message));
    return 0;
}

static int keep(struct recovery *recovery, struct shapelog_shape *shape, struct err *err)
{
    struct shapelog *log = recovery->log;

    if (map_put(&recovery->kept, slice_of(shape->handle), shape, NULL) != 0)
        return err_set(err, ERR_MEMORY, "no memory to recover the shape log");
    list_push(&log->shapes, &shape->link);
    if (shape->published.entries > shape->recorded_entries)
        shapelog_mark_dirty(shape);
    return 0;
}

static int recover_row(void *ctx, const struct meta_shape *row, bool intact,
                       struct err *err)
{
    struct recovery *recovery = ctx;
    struct shapelog *log = recovery->log;
    struct shapelog_shape *shape = NULL;
    struct err why;
    int rc;

    err_clear(&why);
    if (row->id >= log->next_id && row->id < UINT64_MAX)
        log->next_id = row->id + 1;
    if (!intact || !shapelog_handle_valid(row->handle)) {
        rc = err_set(&why, ERR_CORRUPT, "its row does not match its checksum");
    } else {
        shape = shapelog_shape_new(log, row->handle, row->definition);
        rc = shape ? restore_shape(shape, row, &why)
                   : err_set(&why, ERR_MEMORY, "no memory for a shape");
    }
    if (rc == 0) {
        rc = keep(recovery, shape, err);
        if (rc != 0)
            shapelog_shape_free(shape);
        return rc;
    }
    if (shape)
        shapelog_shape_free(shape);
    if (rc == ERR_CORRUPT)
        return drop(recovery, row, &why, err);
    return err_set(err, rc, "%s", why.message);
}

static int delete_dropped(struct recovery *recovery, struct err *err)
{
    struct meta *meta = recovery->log->meta;
    int rc;

    if (recovery->dropped_count == 0)
        return 0;
    rc = shapelog_meta_begin(meta, err);
    for (size_t i = 0; rc == 0 && i < recovery->dropped_count; i++)
        rc = shapelog_meta_delete(meta, recovery->dropped[i], err);
    if (rc == 0)
        rc = shapelog_meta_commit(meta, err);
    if (rc != 0)
        shapelog_meta_rollback(meta);
    return rc;
}

/* Deletes what is in the directory, but for the handles kept (NULL: nothing is). */
static int sweep(struct shapelog *log, int parent_fd, const struct map *kept,
                 struct err *err)
{
    int fd = openat(parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;

    if (!dir) {
        int errnum = errno;

        if (fd >= 0)
            close(fd);
        return err_errno(err, ERR_IO, errnum, "can't list the directories of %s",
                         log->config.dir);
    }
    while ((entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            (kept && map_get(kept, slice_of(name))))
            continue;
        if (kept) {
            obs_shape_removed(log->config.obs, OBS_SHAPE_INCOMPLETE);
            log_event(log->config.log, LOG_INFO, "shapelog.dropped",
                      LOG_TEXT("handle", name),
                      LOG_TEXT("reason", obs_shape_reason_name(OBS_SHAPE_INCOMPLETE)));
        }
        shapelog_remove_dir(parent_fd, name, log->config.log);
    }
    closedir(dir);
    return 0;
}

static int read_origin(struct shapelog *log, struct err *err)
{
    struct shapelog_origin *o = &log->origin;
    char timeline[16];
    uint64_t number = 0;
    int rc = shapelog_meta_get(log->meta, "origin.system_id", o->system_id,
                               sizeof(o->system_id), err);

    if (rc == ERR_NOT_FOUND)
        return 0;
    if (rc == 0)
        rc = shapelog_meta_get(log->meta, "origin.timeline", timeline, sizeof(timeline),
                               err);
    if (rc == 0)
        rc = shapelog_meta_get(log->meta, "origin.database", o->database,
                               sizeof(o->database), err);
    if (rc == 0)
        rc = shapelog_meta_get(log->meta, "origin.slot", o->slot, sizeof(o->slot), err);
    if (rc == ERR_NOT_FOUND ||
        (rc == 0 && (!slice_to_u64(slice_of(timeline), &number) || number > UINT32_MAX)))
        return err_set(err, ERR_CORRUPT, "meta.sqlite: the origin is incomplete");
    o->timeline = (uint32_t)number;
    log->has_origin = rc == 0;
    return rc;
}

static int read_facts(struct shapelog *log, struct err *err)
{
    char text[32];
    uint64_t lsn = 0;
    int rc = shapelog_meta_get(log->meta, "durable_lsn", text, sizeof(text), err);

    if (rc == 0 && !slice_to_u64(slice_of(text), &lsn))
        rc = err_set(err, ERR_CORRUPT, "meta.sqlite: durable_lsn is no number");
    if (rc != 0 && rc != ERR_NOT_FOUND)
        return rc;
    atomic_store(&log->durable_lsn, lsn);
    log->requested_lsn = lsn;
    return read_origin(log, err);
}

static int load(struct recovery *recovery, const char *path, struct err *err)
{
    struct shapelog *log = recovery->log;
    int rc = shapelog_meta_open(path, &log->meta, err);

    if (rc == 0)
        rc = read_facts(log, err);
    if (rc == 0)
        rc = shapelog_meta_shapes(log->meta, recover_row, recovery, err);
    if (rc == 0)
        rc = delete_dropped(recovery, err);
    return rc;
}

/* meta.sqlite is damaged: all shapes go, and with them the LSN and the origin. */
static int start_over(struct recovery *recovery, const char *path, const struct err *why,
                      struct err *err)
{
    static const char *const names[] = {"meta.sqlite", "meta.sqlite-wal",
                                        "meta.sqlite-shm"};
    struct shapelog *log = recovery->log;

    log_event(log->config.log, LOG_ERROR, "shapelog.reset",
              LOG_TEXT("error", why->message));
    shapelog_meta_close(log->meta);
    log->meta = NULL;
    shapelog_free_shapes(log);
    map_fini(&recovery->kept);
    map_init(&recovery->kept);
    recovery->dropped_count = 0;
    log->has_origin = false;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (unlinkat(log->dir_fd, names[i], 0) != 0 && errno != ENOENT)
            return err_errno(err, ERR_IO, errno, "can't delete %s/%s", log->config.dir,
                             names[i]);
    }
    return load(recovery, path, err);
}

int shapelog_recover(struct shapelog *log, struct err *err)
{
    struct recovery recovery = {.log = log};
    struct buf path;
    struct err why;
    int rc;

    err_clear(&why);
    map_init(&recovery.kept);
    buf_init(&path, 65536);
    buf_printf(&path, "%s/meta.sqlite", log->config.dir);
    buf_putc(&path, '\0');
    rc = path.failed
             ? err_set(&why, path.failed, "the storage directory's name is too long")
             : load(&recovery, path.ptr, &why);
    if (rc == ERR_CORRUPT)
        rc = start_over(&recovery, path.ptr, &why, err);
    else if (rc != 0)
        err_set(err, rc, "%s", why.message);
    if (rc == 0)
        rc = sweep(log, log->shapes_fd, &recovery.kept, err);
    if (rc == 0)
        rc = sweep(log, log->trash_fd, NULL, err);
    if (rc == 0)
        log_event(log->config.log, LOG_INFO, "shapelog.opened",
                  LOG_TEXT("dir", log->config.dir), LOG_U64("shapes", recovery.kept.len),
                  LOG_U64("durable_lsn", atomic_load(&log->durable_lsn)));
    map_fini(&recovery.kept);
    buf_fini(&path);
    free(recovery.dropped);
    return rc;
}
