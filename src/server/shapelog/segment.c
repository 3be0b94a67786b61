/* Segments: append-only files that all shapes share.
 *
 *   <dir>/segments/<n>-<epoch>
 *
 * n rises for ever; the epoch in the name keeps a process that has lost the storage, and does
 * not know yet, from writing into a file of its successor's. A message lies in a segment behind
 * its length and its CRC32C (STORED_HEADER), wherever it lies: an entry's address is enough to
 * read and check it.
 *
 * A segment counts what lives in it: entries of tails and small snapshots. Nothing is deleted
 * while that is above zero, or while meta.sqlite may still point there: that is the checkpoint
 * thread's to know. */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"

void shapelog_segment_name(char out[PATH_BYTES], uint32_t n, uint32_t epoch)
{
    snprintf(out, PATH_BYTES, "%" PRIu32 "-%" PRIu32, n, epoch);
}

static struct segment *segment_alloc(uint32_t n, uint32_t epoch, enum segment_kind kind)
{
    struct segment *segment = calloc(1, sizeof(*segment));

    if (!segment)
        return NULL;
    atomic_init(&segment->hold.refs, 1);
    segment->hold.kind = HOLD_SEGMENT;
    segment->n = n;
    segment->epoch = epoch;
    segment->kind = kind;
    segment->fd = -1;
    segment->recorded_end = UINT64_MAX;
    return segment;
}

/* Where segment n is, or would be. Locked. */
static size_t find(const struct segments *segments, uint32_t n)
{
    size_t low = 0;
    size_t high = segments->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (segments->items[middle]->n < n)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Takes the segment's reference. One with a higher number may have been put in meanwhile.
 * ERR_MEMORY. */
static int table_put(struct segments *segments, struct segment *segment)
{
    void *items;
    bool room;

    pthread_mutex_lock(&segments->lock);
    items = segments->items;
    room = shapelog_grow(&items, &segments->cap, segments->count + 1,
                         sizeof(struct segment *));
    segments->items = items;
    if (room) {
        size_t at = find(segments, segment->n);

        memmove(segments->items + at + 1, segments->items + at,
                (segments->count - at) * sizeof(struct segment *));
        segments->items[at] = segment;
        segments->count++;
    }
    pthread_mutex_unlock(&segments->lock);
    return room ? 0 : ERR_MEMORY;
}

static int no_memory(struct segment *segment, struct err *err)
{
    if (segment)
        shapelog_segment_put(segment);
    return err_set(err, ERR_MEMORY, "no memory for a segment");
}

static uint32_t next_number(struct segments *segments)
{
    uint32_t n;

    pthread_mutex_lock(&segments->lock);
    n = segments->next_n++;
    pthread_mutex_unlock(&segments->lock);
    return n;
}

int shapelog_segment_new(struct shapelog *log, enum segment_kind kind,
                         struct segment **out, struct err *err)
{
    struct segments *segments = &log->segments;
    uint32_t n = next_number(segments);
    struct segment *segment = segment_alloc(n, log->epoch, kind);
    char name[PATH_BYTES];

    if (!segment)
        return no_memory(NULL, err);
    shapelog_segment_name(name, segment->n, segment->epoch);
    segment->fd = openat(log->segments_fd, name,
                         O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (segment->fd < 0) {
        int rc = err_errno(err, ERR_IO, errno, "can't make segments/%s", name);

        shapelog_segment_put(segment);
        return rc;
    }
    atomic_store(&segments->new_names, true);
    if (table_put(segments, segment) != 0) {
        unlinkat(log->segments_fd, name, 0);
        return no_memory(segment, err);
    }
    *out = segment;
    return 0;
}

int shapelog_segment_restore(struct shapelog *log, uint32_t n, uint32_t epoch,
                             enum segment_kind kind, uint64_t end, struct err *err)
{
    struct segment *segment = segment_alloc(n, epoch, kind);
    char name[PATH_BYTES];
    struct stat st;

    if (!segment)
        return no_memory(NULL, err);
    shapelog_segment_name(name, n, epoch);
    segment->fd = openat(log->segments_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (segment->fd < 0 && errno != ENOENT) {
        int rc = err_errno(err, ERR_IO, errno, "can't open segments/%s", name);

        shapelog_segment_put(segment);
        return rc;
    }
    if (segment->fd >= 0 && fstat(segment->fd, &st) != 0) {
        int rc = err_errno(err, ERR_IO, errno, "can't look at segments/%s", name);

        shapelog_segment_put(segment);
        return rc;
    }
    /* What points behind the file's end will be found out. */
    segment->end =
        segment->fd >= 0 && (uint64_t)st.st_size < end ? (uint64_t)st.st_size : end;
    segment->recorded_end = end;
    segment->closed = true;
    log->segments.next_n = n + 1;
    return table_put(&log->segments, segment) == 0 ? 0 : no_memory(segment, err);
}

struct segment *shapelog_segment_get(struct shapelog *log, uint32_t n)
{
    struct segments *segments = &log->segments;
    struct segment *segment = NULL;
    size_t at;

    pthread_mutex_lock(&segments->lock);
    at = find(segments, n);
    if (at < segments->count && segments->items[at]->n == n) {
        segment = segments->items[at];
        atomic_fetch_add(&segment->hold.refs, 1);
    }
    pthread_mutex_unlock(&segments->lock);
    return segment;
}

void shapelog_segment_put(struct segment *segment)
{
    if (atomic_fetch_sub(&segment->hold.refs, 1) != 1)
        return;
    if (segment->fd >= 0)
        close(segment->fd);
    free(segment);
}

void shapelog_segment_place(struct shapelog *log, uint32_t n)
{
    struct segment *segment = shapelog_segment_get(log, n);

    ASSERT(segment);
    atomic_fetch_add(&segment->live, 1);
    atomic_fetch_add(&segment->placed, 1);
    shapelog_segment_put(segment);
}

void shapelog_segment_unplace(struct shapelog *log, uint32_t n)
{
    struct segment *segment = shapelog_segment_get(log, n);

    ASSERT(segment && atomic_load(&segment->live) > 0);
    atomic_fetch_sub(&segment->live, 1);
    shapelog_segment_put(segment);
}

void shapelog_tail_unplace(struct shapelog *log, const struct tail *tail)
{
    struct tail_walk walk;

    shapelog_tail_walk(&walk, tail, MARK_BEGIN);
    while (shapelog_tail_next(&walk))
        shapelog_segment_unplace(log, ADDR_SEGMENT(walk.entry.addr));
}

int shapelog_blob_reserve(struct shapelog *log, size_t n, struct segment **out,
                          uint64_t *pos, struct err *err)
{
    struct segments *segments = &log->segments;
    int rc = 0;

    pthread_mutex_lock(&segments->blob_lock);
    if (segments->blob && atomic_load(&segments->blob->end) + n > log->segment_bytes) {
        atomic_store(&segments->blob->closed, true);
        shapelog_segment_put(segments->blob);
        segments->blob = NULL;
    }
    if (!segments->blob) {
        rc = shapelog_segment_new(log, SEGMENT_BLOB, &segments->blob, err);
        if (rc == 0)
            atomic_fetch_add(&segments->blob->hold.refs, 1);
    }
    if (rc == 0) {
        *out = segments->blob;
        atomic_fetch_add(&segments->blob->hold.refs, 1);
        *pos = atomic_fetch_add(&segments->blob->end, n);
        atomic_fetch_add(&segments->blob->live, 1);
        atomic_fetch_add(&segments->blob->placed, 1);
    }
    pthread_mutex_unlock(&segments->blob_lock);
    return rc;
}

static bool table_remove(struct segments *segments, const struct segment *segment)
{
    size_t at;

    if (pthread_rwlock_trywrlock(&segments->readers) != 0)
        return false;
    pthread_mutex_lock(&segments->lock);
    at = find(segments, segment->n);
    ASSERT(at < segments->count && segments->items[at] == segment);
    memmove(segments->items + at, segments->items + at + 1,
            (segments->count - at - 1) * sizeof(struct segment *));
    segments->count--;
    pthread_mutex_unlock(&segments->lock);
    pthread_rwlock_unlock(&segments->readers);
    return true;
}

bool shapelog_segment_delete(struct shapelog *log, struct segment *segment)
{
    char name[PATH_BYTES];

    if (!table_remove(&log->segments, segment))
        return false;
    shapelog_segment_name(name, segment->n, segment->epoch);
    /* What stays behind is deleted at the next start. */
    if (segment->fd >= 0 && unlinkat(log->segments_fd, name, 0) != 0)
        log_event(log->config.log, LOG_WARNING, "shapelog.not_deleted",
                  LOG_TEXT("name", name), LOG_TEXT("error", strerror(errno)));
    shapelog_segment_put(segment);
    return true;
}

void shapelog_segments_fini(struct shapelog *log)
{
    struct segments *segments = &log->segments;

    if (segments->blob)
        shapelog_segment_put(segments->blob);
    for (size_t i = 0; i < segments->count; i++)
        shapelog_segment_put(segments->items[i]);
    free(segments->items);
    pthread_mutex_destroy(&segments->lock);
    pthread_mutex_destroy(&segments->blob_lock);
    pthread_rwlock_destroy(&segments->readers);
}
