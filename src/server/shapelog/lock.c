/* Whose storage it is: whose file the name `lock` leads to.
 *
 *   lock        its flock is held by the process that owns the storage
 *   lock-PID    one that is about to take its place
 *
 * A process that is taken for dead may be merely frozen, and holds its lock for ever. So who takes
 * the storage over puts a locked file of its own in that one's place. From then on the frozen
 * process owns nothing, and finds out wherever it looks: after each commit of a checkpoint, before
 * it deletes what the commit gave up, and before it deletes what it does not know at a start. A
 * copy of its database that is made afterwards (takeover.c) has all that it will ever have
 * committed with an effect.
 *
 * Looking takes two calls that need neither a descriptor nor memory: a lack of those can't pass
 * for a loss. Our descriptor keeps the inode from being given to another file.
 *
 * The file's text is the number of the newest database that a process of before may have open. It
 * outlives a take-over that failed half way. None: there is no such process. */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_NAME   "lock"
#define LOCK_PREFIX "lock-"
#define NUMBER_MAX  16

static int in_use(const struct shapelog *log, struct err *err)
{
    return err_set(err, ERR_EXISTS,
                   "%s is in use by another process: stop it, or give each server a "
                   "storage directory of its own",
                   log->config.dir);
}

static int give_up(struct shapelog *log, int rc)
{
    close(log->lock_fd);
    log->lock_fd = -1;
    return rc;
}

/* Opens the file, makes it when it is missing, and locks it. */
static int lock_file(struct shapelog *log, const char *name, struct err *err)
{
    log->lock_fd = openat(log->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (log->lock_fd < 0)
        return err_errno(err, ERR_IO, errno, "can't open %s/%s", log->config.dir, name);
    if (flock(log->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return give_up(log, errno == EWOULDBLOCK
                            ? in_use(log, err)
                            : err_errno(err, ERR_IO, errno, "can't lock %s/%s",
                                        log->config.dir, name));
}

int shapelog_check_owner(const struct shapelog *log, struct err *err)
{
    struct stat ours;
    struct stat there;
    int rc = fstat(log->lock_fd, &ours);

    if (rc == 0)
        rc = fstatat(log->dir_fd, LOCK_NAME, &there, AT_SYMLINK_NOFOLLOW);
    if (rc != 0 && errno != ENOENT)
        return err_errno(err, ERR_IO, errno, "can't look at %s/" LOCK_NAME,
                         log->config.dir);
    if (rc == 0 && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
        return 0;
    return err_set(err, ERR_FATAL,
                   "another process has taken over the storage in %s: its file "
                   "\"" LOCK_NAME "\" is not this one's any more",
                   log->config.dir);
}

static int read_number(struct shapelog *log, struct err *err)
{
    char text[NUMBER_MAX];
    ssize_t len = pread(log->lock_fd, text, sizeof(text), 0);
    uint64_t number;

    if (len < 0)
        return err_errno(err, ERR_IO, errno, "can't read %s/" LOCK_NAME, log->config.dir);
    log->old_meta =
        slice_to_u64(slice_make(text, (size_t)len), &number) && number < UINT32_MAX
            ? (int64_t)number
            : NO_OLD_META;
    return 0;
}

int shapelog_lock_storage(struct shapelog *log, struct err *err)
{
    int rc = lock_file(log, LOCK_NAME, err);

    if (rc != 0)
        return rc;
    rc = shapelog_check_owner(log, err);
    if (rc == ERR_FATAL) /* it was replaced before we had it */
        rc = in_use(log, err);
    if (rc == 0)
        rc = read_number(log, err);
    return rc == 0 ? 0 : give_up(log, rc);
}

static int write_number(const struct shapelog *log, const char *name, struct err *err)
{
    char text[NUMBER_MAX];
    int len = snprintf(text, sizeof(text), "%" PRIu32, log->meta_number);

    if (ftruncate(log->lock_fd, 0) != 0)
        return err_errno(err, ERR_IO, errno, "can't write %s/%s", log->config.dir, name);
    return shapelog_write_at(log->lock_fd, text, (size_t)len, 0, name, err);
}

int shapelog_lock_seize(struct shapelog *log, struct err *err)
{
    char name[PATH_BYTES]; /* of this process alone */
    int rc;

    snprintf(name, sizeof(name), LOCK_PREFIX "%ld", (long)getpid());
    rc = lock_file(log, name, err);
    if (rc != 0)
        return rc;
    rc = write_number(log, name, err);
    if (rc == 0 && renameat(log->dir_fd, name, log->dir_fd, LOCK_NAME) != 0)
        rc =
            err_errno(err, ERR_IO, errno, "can't replace %s/" LOCK_NAME, log->config.dir);
    if (rc != 0) {
        (void)unlinkat(log->dir_fd, name, 0);
        return give_up(log, rc);
    }
    log->old_meta = log->meta_number;
    return 0;
}

bool shapelog_lock_is_left(const char *file)
{
    return strncmp(file, LOCK_PREFIX, strlen(LOCK_PREFIX)) == 0;
}
