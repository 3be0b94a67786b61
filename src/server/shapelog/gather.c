/* Messages out of segments, as they are served. Messages that lie close together, as those of
 * one shape often do, are read with one call. */
#include "server/shapelog/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"

#define WINDOW_BYTES ((uint64_t)BODY_MAX_BYTES)
#define GAP_BYTES    2048u /* between two messages, not worth another read */

/* What was read last. */
struct window {
    struct segment *segment;
    uint64_t begin;
    size_t len;
    struct buf bytes;
};

static uint64_t stored_begin(const struct entry *e)
{
    return ADDR_POSITION(e->addr);
}

static uint64_t stored_end(const struct entry *e)
{
    return stored_begin(e) + STORED_HEADER + e->len;
}

/* The end of the run of messages, beginning with the first, that one read is to get. */
static uint64_t run_end(const struct entry *entries, size_t count)
{
    uint64_t end = stored_end(entries);

    for (size_t i = 1; i < count; i++) {
        if (ADDR_SEGMENT(entries[i].addr) != ADDR_SEGMENT(entries[0].addr) ||
            stored_begin(&entries[i]) < stored_begin(entries) ||
            stored_begin(&entries[i]) > end + GAP_BYTES ||
            stored_end(&entries[i]) > stored_begin(entries) + WINDOW_BYTES)
            break;
        if (stored_end(&entries[i]) > end)
            end = stored_end(&entries[i]);
    }
    return end;
}

static int open_segment(struct shapelog *log, struct window *w, uint32_t n,
                        struct err *err)
{
    if (w->segment && w->segment->n == n)
        return 0;
    if (w->segment)
        shapelog_segment_put(w->segment);
    w->len = 0;
    w->segment = shapelog_segment_get(log, n);
    if (w->segment && w->segment->fd >= 0)
        return 0;
    return err_set(err, ERR_CORRUPT, "segment %" PRIu32 " is missing", n);
}

/* Makes the first entry's stored message available. */
static int fill(struct shapelog *log, struct window *w, const struct entry *entries,
                size_t count, struct err *err)
{
    uint64_t begin = stored_begin(entries);
    char name[PATH_BYTES];
    size_t n;
    int rc = open_segment(log, w, ADDR_SEGMENT(entries->addr), err);

    if (rc != 0)
        return rc;
    if (w->len > 0 && begin >= w->begin && stored_end(entries) <= w->begin + w->len)
        return 0;
    w->len = 0;
    n = (size_t)(run_end(entries, count) - begin);
    buf_reset(&w->bytes, WINDOW_BYTES);
    if (!buf_reserve(&w->bytes, n))
        return err_set(err, ERR_MEMORY, "no memory to read a segment");
    shapelog_segment_name(name, w->segment->n, w->segment->epoch);
    rc = shapelog_read_at(w->segment->fd, w->bytes.ptr, n, begin, name, err);
    if (rc != 0)
        return rc;
    w->begin = begin;
    w->len = n;
    return 0;
}

static int check(const struct window *w, const struct entry *e, struct slice *out,
                 struct err *err)
{
    const char *stored = w->bytes.ptr + (stored_begin(e) - w->begin);

    *out = slice_make(stored + STORED_HEADER, e->len);
    if (shapelog_le32(stored) == e->len &&
        shapelog_le32(stored + 4) == crc32c(0, out->ptr, out->len) &&
        e->len >= sizeof(MESSAGE_END) - 1)
        return 0;
    return err_set(err, ERR_CORRUPT,
                   "segment %" PRIu32 " does not match its checksum at byte %" PRIu64,
                   w->segment->n, stored_begin(e));
}

static void put_served(struct buf *out, struct slice message, uint32_t flags)
{
    if (flags & ENTRY_LAST) {
        message.len -= sizeof(MESSAGE_END) - 1;
        buf_put_slice(out, message);
        buf_puts(out, MESSAGE_LAST);
    } else {
        buf_put_slice(out, message);
    }
    buf_putc(out, ',');
}

int shapelog_gather(struct shapelog *log, const struct entry *entries, size_t count,
                    struct buf *out, struct err *err)
{
    struct window w = {.segment = NULL};
    int rc = 0;

    buf_init(&w.bytes, (size_t)MESSAGE_MAX_BYTES + STORED_HEADER);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct slice message;

        rc = fill(log, &w, entries + i, count - i, err);
        if (rc == 0)
            rc = check(&w, entries + i, &message, err);
        if (rc == 0)
            put_served(out, message, entries[i].flags);
    }
    if (w.segment)
        shapelog_segment_put(w.segment);
    buf_fini(&w.bytes);
    if (rc == 0 && out->failed)
        rc = err_set(err, out->failed, "no memory to gather %zu messages", count);
    return rc;
}
