/* What must outlive the process but not wait for a disk: the file <dir>/live-<epoch>.
 *
 *    0  u64 LSN up to which readers were shown something, u32 CRC32C of it, u32 0
 *   16  { u64 id, u32 CRC32C of it, u32 0 }*    shapes removed since the last settled checkpoint
 *
 * It is written in place and not synced, so that it survives the process but not the machine. A
 * start finds here which handles must not come back, and what a fallen timeline may have shown.
 * If the machine itself went down (another boot id, and no orderly end), how much was shown is
 * not known. */
#include "server/shapelog/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/crc32c.h"

#define SLOT_BYTES     16u
#define LIVE_MAX_BYTES (SLOT_BYTES * 65536u) /* are read at a start */
#define LIVE_PREFIX    "live-"

static void live_name(char out[PATH_BYTES], uint32_t epoch)
{
    snprintf(out, PATH_BYTES, LIVE_PREFIX "%" PRIu32, epoch);
}

static void slot_put(char out[SLOT_BYTES], uint64_t v)
{
    memset(out, 0, SLOT_BYTES);
    for (int i = 0; i < 8; i++)
        out[i] = (char)(unsigned char)(v >> (8 * i));
    uint32_t crc = crc32c(0, out, 8);
    for (int i = 0; i < 4; i++)
        out[8 + i] = (char)(unsigned char)(crc >> (8 * i));
}

static bool slot_get(const char in[SLOT_BYTES], uint64_t *out)
{
    *out = shapelog_le64(in);
    return shapelog_le32(in + 8) == crc32c(0, in, 8);
}

static int write_slot(struct shapelog *log, uint64_t n, uint64_t v, struct err *err)
{
    char slot[SLOT_BYTES];

    slot_put(slot, v);
    return shapelog_write_at(log->live_fd, slot, sizeof(slot), n * SLOT_BYTES,
                             "the file live", err);
}

int shapelog_live_visible(struct shapelog *log, uint64_t lsn, struct err *err)
{
    int rc;

    if (lsn <= atomic_load(&log->visible_lsn))
        return 0;
    rc = write_slot(log, 0, lsn, err);
    if (rc == 0)
        atomic_store(&log->visible_lsn, lsn);
    return rc;
}

int shapelog_visible_raise(struct shapelog *log, uint64_t lsn, struct err *err)
{
    return shapelog_live_visible(log, lsn, err);
}

int shapelog_visible_bound(struct shapelog *log, uint64_t lsn, struct err *err)
{
    if (atomic_load(&log->visible_lsn) != UINT64_MAX)
        return 0;
    atomic_store(&log->visible_lsn, 0);
    return shapelog_live_visible(log, lsn, err);
}

void shapelog_live_removed(struct shapelog *log, uint64_t id)
{
    struct err err;
    uint64_t n;

    pthread_mutex_lock(&log->lock);
    n = ++log->live_removed;
    pthread_mutex_unlock(&log->lock);
    err_clear(&err);
    /* Without it, the shape is gone once the next checkpoint has deleted its row. */
    if (write_slot(log, n, id, &err) != 0)
        log_event(log->config.log, LOG_WARNING, "shapelog.removal_not_noted",
                  LOG_TEXT("error", err.message));
}

void shapelog_live_settle(struct shapelog *log, uint64_t noted)
{
    /* Ids are never used twice: one that is noted for longer does no harm. */
    pthread_mutex_lock(&log->lock);
    if (log->live_removed == noted)
        log->live_removed = 0;
    pthread_mutex_unlock(&log->lock);
}

/* The boot id, or "" where there is none. */
static void boot_id(char out[64])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, out, 63);

    if (fd >= 0)
        close(fd);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

/* Whether this is the boot in which, or an orderly end after which, the file was written. */
static int is_known(struct shapelog *log, bool *known, struct err *err)
{
    char now[64];
    char was[64];
    uint64_t clean;
    int rc = shapelog_meta_get(log->meta, "boot", was, sizeof(was), err);

    boot_id(now);
    *known = true;
    if (rc == ERR_NOT_FOUND)
        err_clear(err);
    else if (rc != 0)
        return rc;
    else
        *known = now[0] != '\0' && strcmp(now, was) == 0;
    rc = shapelog_meta_get_u64(log->meta, "clean", &clean, err);
    *known = *known || clean;
    if (rc == 0)
        rc = shapelog_meta_put(log->meta, "boot", now, err);
    return rc == 0 ? shapelog_meta_put_u64(log->meta, "clean", 0, err) : rc;
}

/* Deletes the rows of the shapes noted as removed. */
static int forget_removed(struct shapelog *log, const char *bytes, size_t len,
                          struct err *err)
{
    int rc = 0;

    for (size_t at = SLOT_BYTES; rc == 0 && at + SLOT_BYTES <= len; at += SLOT_BYTES) {
        uint64_t id;

        if (slot_get(bytes + at, &id))
            rc = shapelog_meta_delete(log->meta, id, err);
    }
    return rc;
}

/* What an earlier process has left. */
static int read_live(struct shapelog *log, const char *name, struct err *err)
{
    int fd = openat(log->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char *bytes = malloc(LIVE_MAX_BYTES);
    ssize_t len = fd < 0 || !bytes ? -1 : read(fd, bytes, LIVE_MAX_BYTES);
    uint64_t visible;
    int rc = 0;

    if (!bytes)
        rc = err_set(err, ERR_MEMORY, "no memory to read %s", name);
    else if (len < 0)
        rc = err_errno(err, ERR_IO, errno, "can't read %s/%s", log->config.dir, name);
    else if ((size_t)len >= SLOT_BYTES && slot_get(bytes, &visible) &&
             visible > log->visible_lsn)
        log->visible_lsn = visible;
    if (rc == 0)
        rc = forget_removed(log, bytes, (size_t)len, err);
    free(bytes);
    if (fd >= 0)
        close(fd);
    return rc;
}

static bool is_live(const char *name)
{
    return strncmp(name, LIVE_PREFIX, sizeof(LIVE_PREFIX) - 1) == 0;
}

/* Calls fn for each of the files but our own. */
static int each_live(struct shapelog *log,
                     int (*fn)(struct shapelog *, const char *, struct err *),
                     struct err *err)
{
    int fd = openat(log->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    char own[PATH_BYTES];
    int rc = 0;

    if (!dir) {
        rc = err_errno(err, ERR_IO, errno, "can't list %s", log->config.dir);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    live_name(own, log->epoch);
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        if (is_live(entry->d_name) && strcmp(entry->d_name, own) != 0)
            rc = fn(log, entry->d_name, err);
    }
    closedir(dir);
    return rc;
}

int shapelog_live_open(struct shapelog *log, struct err *err)
{
    char name[PATH_BYTES];
    bool known;
    int rc = each_live(log, read_live, err);

    if (rc == 0)
        rc = is_known(log, &known, err);
    if (rc != 0)
        return rc;
    live_name(name, log->epoch);
    log->live_fd = openat(log->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (log->live_fd < 0)
        return err_errno(err, ERR_IO, errno, "can't make %s/%s", log->config.dir, name);
    rc = write_slot(log, 0, log->visible_lsn, err);
    if (!known)
        log->visible_lsn = UINT64_MAX;
    return rc;
}

static int remove_live(struct shapelog *log, const char *name, struct err *err)
{
    (void)err; /* read again at the next start, then */
    (void)unlinkat(log->dir_fd, name, 0);
    return 0;
}

void shapelog_live_clear(struct shapelog *log)
{
    (void)each_live(log, remove_live, NULL);
}
