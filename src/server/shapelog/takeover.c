/* Which file holds the facts and rows, and how another process's become ours.
 *
 *   meta.sqlite, meta-1.sqlite, …   the highest number counts; all others are deleted
 *   taking-PID.sqlite               one that is being made
 *
 * A process that is taken for dead may be merely frozen, perhaps amid a write to its database,
 * whose locks it then holds for ever. So nothing is written to that database: once the storage is
 * ours (lock.c) it is copied, which needs no lock in WAL mode, and the copy gets the next number.
 * When the frozen process wakes up it writes to a file of which nobody will know, until it finds
 * that its time is over. What it had committed before, and deletes only now, the copy does not
 * have either.
 *
 * It can't acknowledge anything meanwhile: whoever takes the storage has the stream's lock. */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define META_FIRST "meta.sqlite"
#define META_TAKEN "taking"

/* Of this process alone. */
static void taken_name(char out[PATH_BYTES])
{
    snprintf(out, PATH_BYTES, META_TAKEN "-%ld.sqlite", (long)getpid());
}

static void meta_name(char out[PATH_BYTES], uint32_t number)
{
    if (number == 0)
        snprintf(out, PATH_BYTES, META_FIRST);
    else
        snprintf(out, PATH_BYTES, "meta-%" PRIu32 ".sqlite", number);
}

/* Whether the file is a database of ours, or (rest is not empty) one that SQLite has beside it. */
static bool is_meta(const char *file, uint32_t *number, const char **rest)
{
    static const char *const beside[] = {"", "-wal", "-shm", "-journal"};
    size_t stem = strcspn(file, ".");
    char name[PATH_BYTES];
    uint64_t n = 0;

    if (strncmp(file, "meta-", 5) == 0 &&
        (!slice_to_u64(slice_make(file + 5, stem - 5), &n) || n > UINT32_MAX))
        return false;
    *number = (uint32_t)n;
    meta_name(name, *number);
    if (strncmp(file, name, strlen(name)) != 0)
        return false;
    *rest = file + strlen(name);
    for (size_t i = 0; i < sizeof(beside) / sizeof(*beside); i++)
        if (strcmp(*rest, beside[i]) == 0)
            return true;
    return false;
}

static int take_highest(void *ctx, const char *file, struct err *err)
{
    int64_t *highest = ctx;
    const char *rest;
    uint32_t number;

    (void)err;
    if (is_meta(file, &number, &rest) && *rest == '\0' && number > *highest)
        *highest = number;
    return 0;
}

int shapelog_meta_choose(struct shapelog *log, struct err *err)
{
    int64_t highest = -1;
    int rc =
        shapelog_each_file(log->dir_fd, log->config.dir, take_highest, &highest, err);

    /* Where there is none, it is to be one that nobody else has open. */
    log->meta_number = (uint32_t)(highest >= 0 ? highest : log->old_meta + 1);
    return rc;
}

static int delete_file(const struct shapelog *log, const char *file, struct err *err)
{
    return unlinkat(log->dir_fd, file, 0) == 0 || errno == ENOENT
               ? 0
               : err_errno(err, ERR_IO, errno, "can't delete %s/%s", log->config.dir,
                           file);
}

static int delete_taken(void *ctx, const char *file, struct err *err)
{
    return strncmp(file, META_TAKEN, strlen(META_TAKEN)) == 0
               ? delete_file(ctx, file, err)
               : 0;
}

/* What is not deleted now is at the next start: it no longer counts. */
static int delete_old(void *ctx, const char *file, struct err *err)
{
    const struct shapelog *log = ctx;
    const char *rest;
    uint32_t number;
    int rc = shapelog_check_owner(log, err);

    if (rc != 0)
        return rc;
    if ((is_meta(file, &number, &rest) && number < log->meta_number) ||
        shapelog_lock_is_left(file))
        (void)delete_file(log, file, NULL);
    (void)delete_taken(ctx, file, NULL);
    return 0;
}

void shapelog_meta_clear(struct shapelog *log)
{
    (void)shapelog_each_file(log->dir_fd, log->config.dir, delete_old, log, NULL);
}

struct next {
    struct shapelog *log;
    uint32_t number;
};

/* Beyond what SQLite has left of a deleted database, too: it would read that WAL into ours. */
static int see_next(void *ctx, const char *file, struct err *err)
{
    struct next *next = ctx;
    const char *rest;
    uint32_t number;

    if (!is_meta(file, &number, &rest) || number <= next->log->meta_number)
        return 0;
    if (*rest == '\0')
        return err_set(err, ERR_EXISTS, "another process has just taken %s over",
                       next->log->config.dir);
    if (number >= next->number)
        next->number = number + 1;
    return 0;
}

static int put_path(const struct shapelog *log, const char *file, struct buf *out,
                    struct err *err)
{
    buf_init(out, 65536);
    buf_printf(out, "%s/%s", log->config.dir, file);
    buf_putc(out, '\0');
    if (out->failed == ERR_MEMORY)
        return err_set(err, ERR_MEMORY, "no memory for the name of a file in %s",
                       log->config.dir);
    return out->failed
               ? err_set(err, out->failed, "the storage directory's name is too long")
               : 0;
}

int shapelog_meta_path(const struct shapelog *log, struct buf *out, struct err *err)
{
    char name[PATH_BYTES];

    meta_name(name, log->meta_number);
    return put_path(log, name, out, err);
}

/* It may be taken only if it is of our stream. */
static int check_stream(const struct shapelog *log, struct err *err)
{
    const struct shapelog_origin *ours = log->config.take_over;
    const struct shapelog_origin *its = &log->origin;

    if (log->has_origin && strcmp(ours->system_id, its->system_id) == 0 &&
        strcmp(ours->database, its->database) == 0 && strcmp(ours->slot, its->slot) == 0)
        return 0;
    return err_set(err, ERR_EXISTS,
                   "%s is in use by another process, for another database or slot: give "
                   "each server a storage directory of its own",
                   log->config.dir);
}

static int may_take(struct shapelog *log, struct err *err)
{
    struct buf path;
    int rc = shapelog_meta_path(log, &path, err);

    if (rc == 0)
        rc = shapelog_meta_peek(path.ptr, &log->meta, err);
    if (rc == 0)
        rc = shapelog_read_origin(log, err);
    if (rc == ERR_CORRUPT)
        rc =
            err_set(err, ERR_EXISTS, "%s is in use by another process, and can't be read",
                    log->config.dir);
    if (rc == 0)
        rc = check_stream(log, err);
    shapelog_meta_close(log->meta);
    log->meta = NULL;
    log->has_origin = false;
    buf_fini(&path);
    return rc;
}

int shapelog_take_over(struct shapelog *log, struct err *err)
{
    int rc = shapelog_meta_choose(log, err);

    if (rc == 0)
        rc = may_take(log, err);
    return rc == 0 ? shapelog_lock_seize(log, err) : rc;
}

/* The file becomes the database that counts. Not over that of somebody who was faster. */
static int put_in_place(struct shapelog *log, const char *file, struct err *err)
{
    struct next next = {log, log->meta_number + 1};
    char name[PATH_BYTES];
    int rc = shapelog_each_file(log->dir_fd, log->config.dir, see_next, &next, err);

    if (rc == 0)
        rc = shapelog_check_owner(log, err);
    if (rc != 0)
        return rc;
    meta_name(name, next.number);
    if (renameat2(log->dir_fd, file, log->dir_fd, name, RENAME_NOREPLACE) != 0)
        return err_errno(err, errno == EEXIST || errno == ENOENT ? ERR_EXISTS : ERR_IO,
                         errno, "can't make %s/%s", log->config.dir, name);
    log->meta_number = next.number;
    return shapelog_sync_dir(log->dir_fd, log->config.dir, err);
}

/* A number that was given, but not recorded, is not given again. */
static int skip_epoch(const struct shapelog *log, struct meta *meta, struct err *err)
{
    uint64_t epoch;
    int rc = shapelog_meta_get_u64(meta, "epoch", &epoch, err);

    if (rc == 0)
        rc = shapelog_meta_put_u64(meta, "epoch",
                                   (log->epoch > epoch ? log->epoch : epoch) + 1, err);
    return rc;
}

/* Makes the file whole, in itself. */
static int finish(const struct shapelog *log, const char *path, struct err *err)
{
    struct meta *meta = NULL;
    int rc = shapelog_meta_open(path, &meta, err);

    if (rc == 0)
        rc = skip_epoch(log, meta, err);
    if (rc == 0)
        rc = shapelog_meta_detach(meta, err);
    shapelog_meta_close(meta);
    return rc;
}

/* from: NULL: it begins empty. */
static int make_next(struct shapelog *log, const char *from, struct err *err)
{
    struct buf to;
    char taken[PATH_BYTES];
    int rc;

    taken_name(taken);
    rc = put_path(log, taken, &to, err);
    if (rc == 0)
        rc = shapelog_each_file(log->dir_fd, log->config.dir, delete_taken, log, err);
    if (rc == 0 && from)
        rc = shapelog_meta_copy(from, to.ptr, err);
    if (rc == 0)
        rc = finish(log, to.ptr, err);
    if (rc == 0)
        rc = put_in_place(log, taken, err);
    if (rc != 0)
        (void)shapelog_each_file(log->dir_fd, log->config.dir, delete_taken, log, NULL);
    buf_fini(&to);
    return rc;
}

int shapelog_meta_copy_old(struct shapelog *log, struct err *err)
{
    struct buf from;
    int rc = shapelog_meta_path(log, &from, err);

    if (rc == 0)
        rc = make_next(log, from.ptr, err);
    buf_fini(&from);
    return rc;
}

int shapelog_meta_renew(struct shapelog *log, struct err *err)
{
    return make_next(log, NULL, err);
}
