/* Reading: what a request for the messages after an offset is answered with.
 *
 * Under the shape's lock only numbers are copied and what is in memory is searched: the table of
 * closed chunks and the tail. The index of the own files is searched without it, since what is
 * published never changes. A place is a byte of the log; where that byte lies, in own files or
 * in the tail, is looked up for each piece, so that a tail may be rewritten meanwhile. A body
 * gathered from the tail is kept for the others who wait at the same offset. Own files of an
 * earlier life of the process are checked, chunk by chunk, before any of the chunk is handed out
 * for the first time; messages in segments each time. */
#include "server/shapelog/internal.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"

/* How often a tail may be rewritten between two looks of one reader. */
#define READ_TRIES 1000

/* The range that a request falls into, copied under the lock. */
struct range {
    size_t chunk; /* index of the closed chunk, or their number: the open one */
    bool closed;
    bool verified;
    struct mark begin;   /* of the chunk */
    struct mark end;     /* of the chunk, or the published end */
    struct mark own_end; /* what lies before is in own files */
    bool found;
    struct mark first; /* before the first entry above the offset */
    struct offset first_at;
};

void shapelog_extent(struct shapelog_shape *shape, struct shapelog_extent *out)
{
    const struct snapshot *s = &shape->snapshot;

    shapelog_lock(shape);
    out->latest = shape->published.at;
    out->snapshot_begun = s->begun;
    out->snapshot_complete = s->complete;
    out->snapshot_chunks = s->chunk_count;
    if (s->begun && !s->complete) {
        uint64_t closed = s->chunk_count ? s->chunks[s->chunk_count - 1].end : 0;

        if (s->readable > closed || s->chunk_count == 0)
            out->snapshot_chunks++;
    }
    shapelog_unlock(shape);
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

/* Looks for the first entry above the offset in the tail. Locked. */
static void find_in_tail(const struct shapelog_shape *shape, struct offset after,
                         struct range *range)
{
    struct tail_walk walk;

    shapelog_tail_walk(&walk, &shape->tail, shape->own_end);
    while (shapelog_tail_next(&walk) && walk.after.entries <= range->end.entries) {
        if (offset_cmp(walk.after.at, after) <= 0)
            continue;
        range->found = true;
        range->first = walk.before;
        range->first_at = walk.after.at;
        return;
    }
}

/* Locked. */
static void find_range(const struct shapelog_shape *shape, struct offset after,
                       struct range *range)
{
    size_t chunk = find_chunk(shape, after);
    bool closed = chunk < shape->chunk_count &&
                  shape->chunks[chunk].end.entries <= shape->published.entries;

    *range = (struct range){.chunk = chunk, .closed = closed, .own_end = shape->own_end};
    range->begin = chunk ? shape->chunks[chunk - 1].end : MARK_BEGIN;
    range->end = closed ? shape->chunks[chunk].end : shape->published;
    range->verified = closed ? shape->chunks[chunk].verified : shape->open_verified;
    /* Not below the tail, whose first entry is the first above then. */
    if (range->end.entries > shape->own_end.entries &&
        (shape->own_end.entries <= range->begin.entries ||
         offset_cmp(shape->own_end.at, after) <= 0))
        find_in_tail(shape, after, range);
}

/* --- Own files --- */

static int check_run(struct shapelog_shape *shape, struct run *run, struct mark *at,
                     uint64_t limit, struct err *err)
{
    struct file *log, *index;
    struct scan scan;
    int rc = shapelog_run_files(shape, run, false, &log, &index, err);

    if (rc != 0)
        return rc;
    rc = shapelog_scan_init(&scan, run, index->fd, log->fd, *at, limit);
    if (rc != 0)
        err_set(err, rc, "no memory to check %s", shape->handle);
    while (rc == 0 && (rc = shapelog_scan_next(&scan, err)) == 1)
        rc = 0;
    *at = scan.end;
    shapelog_scan_fini(&scan);
    shapelog_file_put(log);
    shapelog_file_put(index);
    return rc;
}

static struct run *run_at(struct shapelog_shape *shape, uint64_t pos, struct mark *end)
{
    struct run *run;

    shapelog_lock(shape);
    run = shapelog_run_at(shape, pos);
    if (run)
        *end = run->end;
    shapelog_unlock(shape);
    return run;
}

/* Checks the part of the range that lies in own files. */
static int verify(struct shapelog_shape *shape, const struct range *range,
                  struct err *err)
{
    const struct mark *end =
        range->end.entries < range->own_end.entries ? &range->end : &range->own_end;
    struct mark at = range->begin;
    int rc = 0;

    if (end->entries < at.entries)
        end = &range->begin;
    while (rc == 0 && at.entries < end->entries) {
        struct mark run_end;
        struct run *run = run_at(shape, at.bytes, &run_end);
        uint64_t before = at.entries;

        if (!run)
            break;
        rc = check_run(shape, run, &at,
                       run_end.entries < end->entries ? run_end.entries : end->entries,
                       err);
        if (at.entries == before)
            break;
    }
    if (rc == 0 && (at.entries != end->entries || at.bytes != end->bytes ||
                    offset_cmp(at.at, end->at) != 0))
        rc = err_set(err, ERR_CORRUPT, "chunk %zu of %s does not end where it should",
                     range->chunk, shape->handle);
    if (rc != 0)
        return rc;
    shapelog_lock(shape);
    if (range->chunk < shape->chunk_count)
        shape->chunks[range->chunk].verified = true;
    else
        shape->open_verified = true;
    shapelog_unlock(shape);
    return 0;
}

static int read_record(const struct run *run, int index_fd, uint64_t entry,
                       struct record *out, struct err *err)
{
    char bytes[RECORD_BYTES];
    int rc = shapelog_read_at(index_fd, bytes, sizeof(bytes),
                              (entry - run->begin.entries) * RECORD_BYTES,
                              "a log's index", err);

    if (rc == 0 && !shapelog_record_get(bytes, out))
        rc = err_set(err, ERR_CORRUPT,
                     "a log's index does not check out at entry %" PRIu64, entry);
    return rc;
}

/* The first entry above the offset among [low, high] of the run; the last one is above. */
static int search(const struct run *run, int index_fd, uint64_t low, uint64_t high,
                  struct offset after, struct range *range, struct err *err)
{
    struct record record;
    int rc;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        rc = read_record(run, index_fd, middle, &record, err);
        if (rc != 0)
            return rc;
        if (offset_cmp((struct offset){record.tx, record.op, false}, after) > 0)
            high = middle;
        else
            low = middle + 1;
    }
    rc = read_record(run, index_fd, low, &record, err);
    if (rc != 0)
        return rc;
    range->found = true;
    range->first = (struct mark){.entries = low, .bytes = record.pos};
    range->first_at = (struct offset){record.tx, record.op, false};
    return 0;
}

/* The run in which the first entry above the offset lies. Locked. */
static struct run *run_after(const struct shapelog_shape *shape, struct offset after)
{
    for (uint32_t i = 0; i < shape->run_count; i++) {
        struct run *run = shape->runs[i];

        if (run->end.entries > run->begin.entries && offset_cmp(run->end.at, after) > 0)
            return run;
    }
    return NULL;
}

/* The first entry of the range above the offset, by the own files' index. */
static int find_in_files(struct shapelog_shape *shape, struct offset after,
                         struct range *range, struct err *err)
{
    struct file *log, *index;
    struct mark begin = MARK_BEGIN;
    struct mark end = MARK_BEGIN;
    struct run *run;
    int rc;

    if (range->begin.entries > 0 && offset_cmp(after, range->begin.at) < 0)
        after = range->begin.at;
    shapelog_lock(shape);
    run = run_after(shape, after);
    if (run) {
        begin = run->begin;
        end = run->end;
    }
    shapelog_unlock(shape);
    if (!run)
        return err_set(err, ERR_CORRUPT, "the log of %s has a gap", shape->handle);
    rc = shapelog_run_files(shape, run, false, &log, &index, err);
    if (rc != 0)
        return rc;
    rc = search(run, index->fd,
                begin.entries > range->begin.entries ? begin.entries
                                                     : range->begin.entries,
                (end.entries < range->end.entries ? end.entries : range->end.entries) - 1,
                after, range, err);
    if (rc == 0 && range->first.bytes >= range->end.bytes)
        rc = err_set(err, ERR_CORRUPT, "an entry of %s lies behind its log",
                     shape->handle);
    shapelog_file_put(log);
    shapelog_file_put(index);
    return rc;
}

static int locate_log(struct shapelog_shape *shape, struct offset after,
                      struct shapelog_found *out, struct err *err)
{
    struct range range;
    struct offset latest;
    struct err why;
    bool nothing;
    int rc = 0;

    shapelog_lock(shape);
    latest = shape->published.at;
    nothing = shape->published.entries == 0 || offset_cmp(after, latest) >= 0;
    if (!nothing)
        find_range(shape, after, &range);
    shapelog_unlock(shape);
    if (nothing) {
        *out = (struct shapelog_found){.part = SHAPELOG_NOTHING, .end = latest};
        return 0;
    }
    err_clear(&why);
    if (!range.verified)
        rc = verify(shape, &range, &why);
    if (rc == 0 && !range.found)
        rc = find_in_files(shape, after, &range, &why);
    if (rc == ERR_CORRUPT)
        shapelog_report(shape, &why);
    if (rc != 0)
        return err_set(err, rc, "%s", why.message);
    *out = (struct shapelog_found){
        .part = SHAPELOG_LOG,
        .end = range.end.at,
        .size_bytes = range.end.bytes - 1 - range.first.bytes,
        .position = range.first.bytes,
        .entries = (uint32_t)(range.end.entries - range.first.entries),
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

/* The piece from own files, up to `end`; a small body is read and kept for the next reader. */
static int read_own(struct shapelog_shape *shape, struct run *run, struct mark run_end,
                    uint64_t pos, uint64_t end, bool whole, struct shapelog_piece *out,
                    struct err *err)
{
    struct file *log, *index;
    struct body *body;
    size_t len = (size_t)((run_end.bytes < end ? run_end.bytes : end) - pos);
    uint64_t file_pos = pos - run->begin.bytes;
    int rc = shapelog_run_files(shape, run, false, &log, &index, err);

    if (rc != 0)
        return rc;
    shapelog_file_put(index);
    if (!whole || len > BODY_MAX_BYTES) {
        *out = (struct shapelog_piece){
            .fd = log->fd, .file_pos = file_pos, .len = len, .hold = &log->hold};
        return 0;
    }
    body = shapelog_body_new(pos, len);
    rc = body ? shapelog_read_at(log->fd, body->bytes, len, file_pos, "a log's messages",
                                 err)
              : err_set(err, ERR_MEMORY, "no memory for a body of %s", shape->handle);
    shapelog_file_put(log);
    if (rc == 0)
        body_piece(body, 0, out);
    else if (body)
        shapelog_hold_put(&body->hold);
    return rc;
}

/* The tail's entries that are to be gathered for one piece. */
struct gathering {
    struct entry *entries;
    size_t count;
    size_t cap;
    uint64_t begin; /* of the first, in the log's bytes */
    uint64_t end;   /* behind the last, with its comma */
};

/* Locked. False: no memory. */
static bool collect(const struct shapelog_shape *shape, uint64_t pos, uint64_t end,
                    struct gathering *g)
{
    struct tail_walk walk;

    shapelog_tail_walk(&walk, &shape->tail, shape->own_end);
    while (shapelog_tail_next(&walk) && walk.before.bytes < end) {
        void *items = g->entries;

        if (walk.after.bytes <= pos)
            continue;
        if (g->count > 0 && walk.after.bytes - g->begin > BODY_MAX_BYTES)
            break;
        if (!shapelog_grow(&items, &g->cap, g->count + 1, sizeof(*g->entries)))
            return false;
        g->entries = items;
        if (g->count == 0)
            g->begin = walk.before.bytes;
        g->entries[g->count++] = walk.entry;
        g->end = walk.after.bytes;
    }
    return true;
}

static int gather_body(struct shapelog_shape *shape, const struct gathering *g,
                       struct body **out, struct err *err)
{
    struct buf bytes;
    int rc;

    buf_init(&bytes, (size_t)MESSAGE_MAX_BYTES + WRITE_BLOCK_BYTES);
    rc = shapelog_gather(shape->log, g->entries, g->count, &bytes, err);
    if (rc == 0) {
        *out = shapelog_body_new(g->begin, bytes.len);
        if (*out)
            memcpy((*out)->bytes, bytes.ptr, bytes.len);
        else
            rc = err_set(err, ERR_MEMORY, "no memory for a body of %s", shape->handle);
    }
    buf_fini(&bytes);
    return rc;
}

/* ERR_RETRY: the tail has gone to own files meanwhile. */
static int read_tail(struct shapelog_shape *shape, uint64_t pos, uint64_t end,
                     struct shapelog_piece *out, struct err *err)
{
    struct gathering g = {.entries = NULL};
    struct body *body = NULL;
    bool enough;
    int rc;

    pthread_rwlock_rdlock(&shape->log->segments.readers);
    shapelog_lock(shape);
    enough = collect(shape, pos, end, &g);
    shapelog_unlock(shape);
    if (!enough)
        rc = err_set(err, ERR_MEMORY, "no memory for a body of %s", shape->handle);
    else if (g.count == 0 || g.begin > pos)
        rc = ERR_RETRY;
    else
        rc = gather_body(shape, &g, &body, err);
    pthread_rwlock_unlock(&shape->log->segments.readers);
    free(g.entries);
    if (rc != 0)
        return rc;
    /* The comma behind the body's last message is not part of it. */
    if (g.end == end + 1)
        body->len--;
    body_piece(body, pos - g.begin, out);
    return 0;
}

static int read_piece(struct shapelog_shape *shape, uint64_t pos, uint64_t end,
                      bool whole, struct shapelog_piece *out, struct err *err)
{
    int left = READ_TRIES;
    int rc;

    do {
        struct mark run_end;
        struct run *run = run_at(shape, pos, &run_end);

        rc = run ? read_own(shape, run, run_end, pos, end, whole, out, err)
                 : read_tail(shape, pos, end, out, err);
    } while (rc == ERR_RETRY && --left > 0);
    return rc == ERR_RETRY
               ? err_set(err, ERR_CORRUPT, "byte %" PRIu64 " of %s is nowhere", pos,
                         shape->handle)
               : rc;
}

int shapelog_read_log(struct shapelog_shape *shape, const struct shapelog_found *found,
                      uint64_t from, struct shapelog_piece *out, struct err *err)
{
    struct bodies *bodies = &shape->log->bodies;
    uint64_t end = found->position + found->size_bytes;
    bool small = found->size_bytes <= BODY_MAX_BYTES;
    struct body *body = NULL;
    struct err why;
    int rc;

    ASSERT(found->part == SHAPELOG_LOG);
    *out = (struct shapelog_piece){.fd = -1};
    if (from >= found->size_bytes)
        return 0;
    if (small)
        body = shapelog_body_find(bodies, &shape->body, found->position,
                                  (size_t)found->size_bytes);
    if (body) {
        body_piece(body, from, out);
        return 0;
    }
    err_clear(&why);
    rc = read_piece(shape, found->position + from, end, small, out, &why);
    if (rc == ERR_CORRUPT)
        shapelog_report(shape, &why);
    if (rc != 0)
        return err_set(err, rc, "%s", why.message);
    if (small && from == 0 && out->mem && out->len == found->size_bytes)
        shapelog_body_keep(bodies, &shape->body,
                           LIST_ENTRY((struct hold *)out->hold, struct body, hold));
    return 0;
}
