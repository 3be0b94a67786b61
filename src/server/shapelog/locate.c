/* Reading: what a request for the messages after an offset is answered with.
 *
 * Under the shape's lock only numbers are copied and the table of closed chunks (in
 * memory) is searched; the index file is searched without it, since what is published
 * never changes. A client at the end of the log needs no I/O: the newest entries' places
 * and the last body are in memory. Bytes from an earlier life of the process are checked,
 * chunk by chunk, before any of the chunk is handed out for the first time. */
#include "server/shapelog/internal.h"

#include <inttypes.h>

#include "base/assert.h"

/* The range that a request falls into, copied under the lock. */
struct range {
    size_t chunk; /* index of the closed chunk, or their number: the open one */
    bool closed;
    bool verified;
    struct mark begin; /* of the chunk */
    struct mark end;   /* of the chunk, or the published end */
    bool found;        /* the first entry was found in memory: `first` and the next two */
    uint64_t first;
    struct offset first_at;
    uint64_t first_pos;
};

void shapelog_extent(struct shapelog_shape *shape, struct shapelog_extent *out)
{
    pthread_mutex_lock(&shape->lock);
    out->latest = shape->published.at;
    out->snapshot_begun = shape->begun;
    out->snapshot_complete = shape->complete;
    out->snapshot_chunks = (uint32_t)shape->snapshot_chunk_count;
    if (shape->begun && !shape->complete) {
        uint64_t closed =
            shape->snapshot_chunk_count
                ? shape->snapshot_chunks[shape->snapshot_chunk_count - 1].end
                : 0;

        if (shape->snapshot_readable > closed || shape->snapshot_chunk_count == 0)
            out->snapshot_chunks++;
    }
    pthread_mutex_unlock(&shape->lock);
}

/* The first closed chunk that ends above the offset. Locked. */
static size_t find_chunk(const struct shapelog_shape *shape, struct offset after)
{
    size_t low = 0;
    size_t high = shape->chunk_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (offset_cmp(shape->chunks[middle].end.at, after) > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Looks for the first entry above the offset among the newest ones. Locked. */
static void find_recent(const struct shapelog_shape *shape, struct offset after,
                        struct range *range)
{
    uint64_t base = shape->published.entries - shape->recent_len;
    uint32_t low = 0;
    uint32_t high = shape->recent_len;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct recent *r = &shape->recent[middle];

        if (offset_cmp((struct offset){r->tx, r->op, false}, after) > 0)
            high = middle;
        else
            low = middle + 1;
    }
    /* Entries before the remembered ones may be above the offset, too. */
    if (low == shape->recent_len || (low == 0 && base > range->begin.entries))
        return;
    range->found = true;
    range->first = base + low;
    range->first_at =
        (struct offset){shape->recent[low].tx, shape->recent[low].op, false};
    range->first_pos = shape->recent[low].pos;
}

/* Locked. */
static void find_range(const struct shapelog_shape *shape, struct offset after,
                       struct range *range)
{
    size_t chunk = find_chunk(shape, after);

    *range = (struct range){.chunk = chunk, .closed = chunk < shape->chunk_count};
    range->begin = chunk ? shape->chunks[chunk - 1].end : MARK_BEGIN;
    range->end = range->closed ? shape->chunks[chunk].end : shape->published;
    range->verified =
        range->closed ? shape->chunks[chunk].verified : shape->open_verified;
    find_recent(shape, after, range);
}

static int verify(struct shapelog_shape *shape, const struct range *range, int index_fd,
                  int log_fd, struct err *err)
{
    struct scan scan;
    uint32_t flags = 0;
    int rc;

    rc = shapelog_scan_init(&scan, index_fd, log_fd, range->begin, range->end.entries);
    if (rc != 0)
        return err_set(err, rc, "no memory to check %s", shape->handle);
    while ((rc = shapelog_scan_next(&scan, err)) == 1)
        flags = scan.record.flags;
    if (rc == 0 &&
        (scan.end.entries != range->end.entries || scan.end.bytes != range->end.bytes ||
         offset_cmp(scan.end.at, range->end.at) != 0 ||
         (range->closed && !(flags & RECORD_CHUNK))))
        rc = err_set(err, ERR_CORRUPT, "chunk %zu of %s does not end where it should",
                     range->chunk, shape->handle);
    shapelog_scan_fini(&scan);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&shape->lock);
    if (range->chunk < shape->chunk_count)
        shape->chunks[range->chunk].verified = true;
    else
        shape->open_verified = true;
    pthread_mutex_unlock(&shape->lock);
    return 0;
}

static int read_record(int index_fd, uint64_t entry, struct record *out, struct err *err)
{
    char bytes[RECORD_BYTES];
    const char *name = shapelog_file_name(FILE_INDEX);
    int rc =
        shapelog_read_at(index_fd, bytes, sizeof(bytes), entry * RECORD_BYTES, name, err);

    if (rc == 0 && !shapelog_record_get(bytes, out))
        rc = err_set(err, ERR_CORRUPT, "%s does not check out at entry %" PRIu64, name,
                     entry);
    return rc;
}

/* The first entry of the range above the offset, by the index file. */
static int search(int index_fd, struct offset after, struct range *range, struct err *err)
{
    uint64_t low = range->begin.entries;
    uint64_t high = range->end.entries - 1; /* this one is above */
    struct record record;
    int rc;

    if (offset_cmp(range->begin.at, after) >= 0)
        high = low;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        rc = read_record(index_fd, middle, &record, err);
        if (rc != 0)
            return rc;
        if (offset_cmp((struct offset){record.tx, record.op, false}, after) > 0)
            high = middle;
        else
            low = middle + 1;
    }
    rc = read_record(index_fd, low, &record, err);
    if (rc != 0)
        return rc;
    range->found = true;
    range->first = low;
    range->first_at = (struct offset){record.tx, record.op, false};
    range->first_pos = record.pos;
    return 0;
}

/* Fills the range's first entry from the files, checking them where that is due. */
static int find_in_files(struct shapelog_shape *shape, struct offset after,
                         struct range *range, struct err *err)
{
    struct file *index = NULL;
    struct file *log = NULL;
    int rc = shapelog_file_get(shape, FILE_INDEX, false, &index, err);

    if (rc == 0 && !range->verified) {
        rc = shapelog_file_get(shape, FILE_LOG, false, &log, err);
        if (rc == 0)
            rc = verify(shape, range, index->fd, log->fd, err);
    }
    if (rc == 0)
        rc = search(index->fd, after, range, err);
    if (rc == 0 && range->first_pos >= range->end.bytes)
        rc = err_set(err, ERR_CORRUPT, "entry %" PRIu64 " of %s lies behind its log",
                     range->first, shape->handle);
    if (log)
        shapelog_file_put(log);
    if (index)
        shapelog_file_put(index);
    return rc;
}

static int locate_log(struct shapelog_shape *shape, struct offset after,
                      struct shapelog_found *out, struct err *err)
{
    struct range range;
    struct offset latest;
    bool nothing;

    pthread_mutex_lock(&shape->lock);
    latest = shape->published.at;
    nothing = shape->published.entries == 0 || offset_cmp(after, latest) >= 0;
    if (!nothing)
        find_range(shape, after, &range);
    pthread_mutex_unlock(&shape->lock);
    if (nothing) {
        *out = (struct shapelog_found){.part = SHAPELOG_NOTHING, .end = latest};
        return 0;
    }
    if (!range.found) {
        struct err why;
        int rc;

        err_clear(&why);
        rc = find_in_files(shape, after, &range, &why);
        if (rc == ERR_CORRUPT)
            shapelog_report(shape, &why);
        if (rc != 0)
            return err_set(err, rc, "%s", why.message);
    }
    *out = (struct shapelog_found){
        .part = SHAPELOG_LOG,
        .end = range.end.at,
        .size_bytes = range.end.bytes - 1 - range.first_pos,
        .position = range.first_pos,
        .entries = (uint32_t)(range.end.entries - range.first),
        .first = range.first_at,
    };
    return 0;
}

static int locate_snapshot(struct shapelog_shape *shape, uint32_t chunk,
                           struct shapelog_found *out, struct err *err)
{
    *out = (struct shapelog_found){
        .part = SHAPELOG_SNAPSHOT, .end = {0, chunk, false}, .chunk = chunk};
    return shapelog_snapshot_verify(shape, chunk, err);
}

int shapelog_locate(struct shapelog_shape *shape, struct offset after,
                    struct shapelog_found *out, struct err *err)
{
    struct shapelog_extent extent;
    int rc = shapelog_refuse_broken(shape, err);

    if (rc != 0)
        return rc;
    shapelog_extent(shape, &extent);
    if (after.before_all) {
        if (extent.snapshot_begun)
            return locate_snapshot(shape, 0, out, err);
    } else if (offset_is_virtual(after) && after.op < UINT32_MAX &&
               after.op + 1 < extent.snapshot_chunks) {
        return locate_snapshot(shape, (uint32_t)after.op + 1, out, err);
    } else if (extent.snapshot_complete) {
        return locate_log(shape, offset_is_virtual(after) ? OFFSET_SNAPSHOT_END : after,
                          out, err);
    }
    *out = (struct shapelog_found){.part = SHAPELOG_PENDING, .end = after};
    return 0;
}

static void body_piece(struct body *body, uint64_t from, struct shapelog_piece *out)
{
    *out = (struct shapelog_piece){
        .mem = body->bytes + from,
        .fd = -1,
        .len = body->len - (size_t)from,
        .hold = &body->hold,
    };
}

/* The piece from the file; a small body is built and kept for the next reader. */
static int read_from_file(struct shapelog_shape *shape,
                          const struct shapelog_found *found, uint64_t from,
                          struct shapelog_piece *out, struct err *err)
{
    struct bodies *bodies = &shape->log->bodies;
    struct body *body;
    struct file *file;
    int rc;

    rc = shapelog_file_get(shape, FILE_LOG, false, &file, err);
    if (rc != 0)
        return rc;
    if (found->size_bytes > BODY_MAX_BYTES) {
        *out = (struct shapelog_piece){.fd = file->fd,
                                       .file_pos = found->position + from,
                                       .len = (size_t)(found->size_bytes - from),
                                       .hold = &file->hold};
        return 0;
    }
    body = shapelog_body_new(found->position, (size_t)found->size_bytes);
    rc = body ? shapelog_read_at(file->fd, body->bytes, body->len, body->pos,
                                 shapelog_file_name(FILE_LOG), err)
              : err_set(err, ERR_MEMORY, "no memory for a body of %s", shape->handle);
    shapelog_file_put(file);
    if (rc == 0) {
        shapelog_body_keep(bodies, &shape->body, body);
        body_piece(body, from, out);
    } else if (body) {
        shapelog_hold_put(&body->hold);
    }
    return rc;
}

int shapelog_read_log(struct shapelog_shape *shape, const struct shapelog_found *found,
                      uint64_t from, struct shapelog_piece *out, struct err *err)
{
    struct body *body = NULL;
    struct err why;
    int rc;

    ASSERT(found->part == SHAPELOG_LOG);
    *out = (struct shapelog_piece){.fd = -1};
    if (from >= found->size_bytes)
        return 0;
    if (found->size_bytes <= BODY_MAX_BYTES)
        body = shapelog_body_find(&shape->log->bodies, &shape->body, found->position,
                                  (size_t)found->size_bytes);
    if (body) {
        body_piece(body, from, out);
        return 0;
    }
    err_clear(&why);
    rc = read_from_file(shape, found, from, out, &why);
    if (rc == ERR_CORRUPT)
        shapelog_report(shape, &why);
    return rc == 0 ? 0 : err_set(err, rc, "%s", why.message);
}
