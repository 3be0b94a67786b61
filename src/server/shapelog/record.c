/* The index of a run, a shape's own files: one record of RECORD_BYTES for each entry,
 * little-endian.
 *
 *    0  u64  tx      commit LSN
 *    8  u64  op      position within the transaction
 *   16  u64  pos     where the message begins in the log's bytes
 *   24  u32  len     its length, without the comma behind it
 *   28  u32  flags   1: last of its transaction, 2: a chunk ends behind it
 *   32  u32  crc     CRC32C of the message
 *   36  u32  check   CRC32C of the 36 bytes before
 *
 * The log's entry n is at (n - begin.entries) * RECORD_BYTES, its byte p at p - begin.bytes of
 * the messages' file. A message begins where the one before ended, plus one for the comma, and
 * its offset is above the one before: a record that was left behind by a rolled back
 * transaction does not fit in the chain. */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/crc32c.h"

#define SCAN_BLOCK_BYTES ((size_t)RECORD_BYTES * 1638) /* just under 64 KiB */
#define LOG_NAME         "a log's messages"
#define INDEX_NAME       "a log's index"

uint32_t shapelog_le32(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;

    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
           (uint32_t)b[3] << 24;
}

uint64_t shapelog_le64(const char *p)
{
    return (uint64_t)shapelog_le32(p) | (uint64_t)shapelog_le32(p + 4) << 32;
}

void shapelog_record_put(struct buf *out, const struct record *record)
{
    size_t start = out->len;

    buf_put_le64(out, record->tx);
    buf_put_le64(out, record->op);
    buf_put_le64(out, record->pos);
    buf_put_le32(out, record->len);
    buf_put_le32(out, record->flags);
    buf_put_le32(out, record->crc);
    if (!out->failed)
        buf_put_le32(out, crc32c(0, out->ptr + start, out->len - start));
}

bool shapelog_record_get(const char bytes[RECORD_BYTES], struct record *out)
{
    out->tx = shapelog_le64(bytes);
    out->op = shapelog_le64(bytes + 8);
    out->pos = shapelog_le64(bytes + 16);
    out->len = shapelog_le32(bytes + 24);
    out->flags = shapelog_le32(bytes + 28);
    out->crc = shapelog_le32(bytes + 32);
    return shapelog_le32(bytes + 36) == crc32c(0, bytes, RECORD_BYTES - 4);
}

int shapelog_scan_init(struct scan *scan, const struct run *run, int index_fd, int log_fd,
                       struct mark from, uint64_t limit)
{
    *scan = (struct scan){.run = run,
                          .index_fd = index_fd,
                          .log_fd = log_fd,
                          .end = from,
                          .limit = limit,
                          .log_pos = run->begin.bytes};
    scan->block = malloc(2 * SCAN_BLOCK_BYTES);
    return scan->block ? 0 : ERR_MEMORY;
}

void shapelog_scan_fini(struct scan *scan)
{
    free(scan->block);
    scan->block = NULL;
}

/* Up to n bytes; fewer only at the end of the file. Negative: ERR_IO. */
static ssize_t read_some(int fd, char *to, size_t n, uint64_t pos, const char *name,
                         struct err *err)
{
    size_t done = 0;

    while (done < n) {
        ssize_t got = pread(fd, to + done, n - done, (off_t)(pos + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) /* EIO: the disk has lost these bytes */
            return err_errno(err, errno == EIO ? ERR_CORRUPT : ERR_IO, errno,
                             "can't read %s at byte %" PRIu64, name, pos + done);
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

/* Makes the next record's bytes available: 1, 0 at the end, or ERR_IO. */
static int scan_fill(struct scan *scan, struct err *err)
{
    uint64_t left = scan->limit - scan->end.entries;
    size_t want = left < SCAN_BLOCK_BYTES / RECORD_BYTES ? (size_t)left * RECORD_BYTES
                                                         : SCAN_BLOCK_BYTES;
    ssize_t got;

    if (scan->block_first < scan->block_len)
        return 1;
    got = read_some(scan->index_fd, scan->block, want,
                    (scan->end.entries - scan->run->begin.entries) * RECORD_BYTES,
                    INDEX_NAME, err);
    if (got < 0)
        return (int)got;
    scan->block_first = 0;
    scan->block_len = (size_t)got / RECORD_BYTES * RECORD_BYTES;
    return scan->block_len > 0;
}

/* The message's checksum, and that a comma follows it. */
static int scan_message(struct scan *scan, const struct record *record, struct err *err)
{
    char *bytes = scan->block + SCAN_BLOCK_BYTES;
    uint64_t pos = record->pos;
    uint64_t end = record->pos + record->len;
    uint32_t crc = 0;

    for (;;) {
        size_t skip, n;

        if (pos < scan->log_pos || pos >= scan->log_pos + scan->log_len) {
            ssize_t got = read_some(scan->log_fd, bytes, SCAN_BLOCK_BYTES,
                                    pos - scan->run->begin.bytes, LOG_NAME, err);

            if (got < 0)
                return (int)got;
            if (got == 0)
                return err_set(err, ERR_CORRUPT,
                               "%s ends at byte %" PRIu64 ", within an entry", LOG_NAME,
                               pos);
            scan->log_pos = pos;
            scan->log_len = (size_t)got;
        }
        skip = (size_t)(pos - scan->log_pos);
        if (pos == end)
            break;
        n = scan->log_len - skip < end - pos ? scan->log_len - skip : (size_t)(end - pos);
        crc = crc32c(crc, bytes + skip, n);
        pos += n;
    }
    if (crc != record->crc || bytes[end - scan->log_pos] != ',')
        return err_set(err, ERR_CORRUPT,
                       "%s does not match its checksum at byte %" PRIu64, LOG_NAME,
                       record->pos);
    return 0;
}

static bool record_follows(const struct mark *before, const struct record *record)
{
    struct offset at = {record->tx, record->op, false};

    return record->tx != 0 && record->op != OFFSET_OP_INF &&
           record->pos == before->bytes && record->len > 0 &&
           record->len <= MESSAGE_MAX_BYTES && (record->flags & ~ENTRY_FLAGS) == 0 &&
           offset_cmp(at, before->at) > 0;
}

int shapelog_scan_next(struct scan *scan, struct err *err)
{
    struct record record;
    int rc;

    if (scan->end.entries >= scan->limit)
        return 0;
    rc = scan_fill(scan, err);
    if (rc <= 0)
        return rc;
    if (!shapelog_record_get(scan->block + scan->block_first, &record) ||
        !record_follows(&scan->end, &record))
        return err_set(err, ERR_CORRUPT, "%s does not check out at entry %" PRIu64,
                       INDEX_NAME, scan->end.entries);
    rc = scan_message(scan, &record, err);
    if (rc != 0)
        return rc;
    scan->block_first += RECORD_BYTES;
    scan->record = record;
    scan->end.entries++;
    scan->end.bytes = record.pos + record.len + 1;
    scan->end.at = (struct offset){record.tx, record.op, false};
    return 1;
}
