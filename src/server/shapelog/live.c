/* What must outlive the process but not wait for a disk: the file <dir>/live-<epoch>.
 *
 *   slot 0, 1  alternately: the LSN up to which readers were shown something
 *   slot 2 …   ids of shapes removed since the last settled checkpoint
 *
 *   slot := u64 value, u32 CRC32C of it, u32 0
 *
 * The file has its full size from the start and is mapped, so that a note can't fail when the
 * disk is full, and costs no system call. It is not synced: it survives the process, but not the
 * machine. A start finds here which handles must not come back, and what a fallen timeline may
 * have shown. If the machine itself went down (another boot id, and no orderly end), how much
 * was shown is not known. */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/crc32c.h"

#define SLOT_BYTES    16u
#define LIVE_SLOTS    4096u
#define LIVE_BYTES    (SLOT_BYTES * LIVE_SLOTS)
#define VISIBLE_SLOTS 2u
#define REMOVED_SLOTS (LIVE_SLOTS - VISIBLE_SLOTS)
#define LIVE_PREFIX   "live-"

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

static void write_slot(struct shapelog *log, uint64_t n, uint64_t v)
{
    slot_put(log->live + n * SLOT_BYTES, v);
}

static void note_visible(struct shapelog *log, uint64_t lsn)
{
    log->live_turn = (log->live_turn + 1) % VISIBLE_SLOTS;
    write_slot(log, log->live_turn, lsn);
    atomic_store(&log->visible_lsn, lsn);
}

void shapelog_visible_raise(struct shapelog *log, uint64_t lsn)
{
    if (lsn > atomic_load(&log->visible_lsn))
        note_visible(log, lsn);
}

void shapelog_visible_bound(struct shapelog *log, uint64_t lsn)
{
    if (atomic_load(&log->visible_lsn) == UINT64_MAX)
        note_visible(log, lsn);
}

void shapelog_live_reset(struct shapelog *log)
{
    for (unsigned n = 0; n < VISIBLE_SLOTS; n++)
        write_slot(log, n, 0);
    atomic_store(&log->visible_lsn, 0);
}

void shapelog_live_removed(struct shapelog *log, uint64_t id)
{
    /* A ring: what lies behind in it is noted for longer, which does no harm, since ids are
     * never used twice. */
    write_slot(log, VISIBLE_SLOTS + log->live_removed % REMOVED_SLOTS, id);
    log->live_removed++;
}

bool shapelog_live_settle(struct shapelog *log, uint64_t noted)
{
    bool kept = noted - log->live_settled <= REMOVED_SLOTS;

    log->live_settled = noted;
    return kept;
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

    for (size_t at = VISIBLE_SLOTS * SLOT_BYTES; rc == 0 && at + SLOT_BYTES <= len;
         at += SLOT_BYTES) {
        uint64_t id;

        if (slot_get(bytes + at, &id))
            rc = shapelog_meta_delete(log->meta, id, err);
    }
    return rc;
}

static void read_visible(struct shapelog *log, const char *bytes, size_t len)
{
    for (size_t n = 0; n < VISIBLE_SLOTS && (n + 1) * SLOT_BYTES <= len; n++) {
        uint64_t lsn;

        if (slot_get(bytes + n * SLOT_BYTES, &lsn) && lsn > log->visible_lsn)
            log->visible_lsn = lsn;
    }
}

/* One of another process. */
static bool is_others(const struct shapelog *log, const char *name)
{
    char own[PATH_BYTES];

    live_name(own, log->epoch);
    return strncmp(name, LIVE_PREFIX, sizeof(LIVE_PREFIX) - 1) == 0 &&
           strcmp(name, own) != 0;
}

/* What an earlier process has left. */
static int read_live(void *ctx, const char *name, struct err *err)
{
    struct shapelog *log = ctx;

    if (!is_others(log, name))
        return 0;
    int fd = openat(log->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char *bytes = malloc(LIVE_BYTES);
    ssize_t len = fd < 0 || !bytes ? -1 : read(fd, bytes, LIVE_BYTES);
    int rc = 0;

    if (!bytes)
        rc = err_set(err, ERR_MEMORY, "no memory to read %s", name);
    else if (len < 0)
        rc = err_errno(err, ERR_IO, errno, "can't read %s/%s", log->config.dir, name);
    else
        read_visible(log, bytes, (size_t)len);
    if (rc == 0)
        rc = forget_removed(log, bytes, (size_t)len, err);
    free(bytes);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* Makes the file with all its bytes, and maps it. */
static int make_live(struct shapelog *log, struct err *err)
{
    char name[PATH_BYTES];
    char *zeros = calloc(1, LIVE_BYTES);
    int fd;
    int rc;

    live_name(name, log->epoch);
    fd = openat(log->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (!zeros)
        rc = err_set(err, ERR_MEMORY, "no memory to make %s", name);
    else if (fd < 0)
        rc = err_errno(err, ERR_IO, errno, "can't make %s/%s", log->config.dir, name);
    else
        rc = shapelog_write_at(fd, zeros, LIVE_BYTES, 0, name, err);
    if (rc == 0) {
        void *map = mmap(NULL, LIVE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (map == MAP_FAILED)
            rc = err_errno(err, ERR_IO, errno, "can't map %s/%s", log->config.dir, name);
        else
            log->live = map;
    }
    free(zeros);
    if (fd >= 0)
        close(fd);
    return rc;
}

int shapelog_live_open(struct shapelog *log, struct err *err)
{
    bool known;
    int rc = shapelog_each_file(log->dir_fd, log->config.dir, read_live, log, err);

    if (rc == 0)
        rc = is_known(log, &known, err);
    if (rc == 0)
        rc = make_live(log, err);
    if (rc != 0)
        return rc;
    write_slot(log, 0, log->visible_lsn);
    if (!known)
        log->visible_lsn = UINT64_MAX;
    return 0;
}

void shapelog_live_close(struct shapelog *log)
{
    if (log->live)
        munmap(log->live, LIVE_BYTES);
    log->live = NULL;
}

static int remove_live(void *ctx, const char *name, struct err *err)
{
    struct shapelog *log = ctx;
    int rc;

    if (!is_others(log, name))
        return 0;
    rc = shapelog_check_owner(log, err); /* or it may be that of a successor */
    if (rc == 0)
        (void)unlinkat(log->dir_fd, name, 0); /* read again at the next start, then */
    return rc;
}

void shapelog_live_clear(struct shapelog *log)
{
    (void)shapelog_each_file(log->dir_fd, log->config.dir, remove_live, log, NULL);
}
