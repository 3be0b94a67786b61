/* The journal: what makes the tails durable without a write for each of them.
 *
 * A flush writes one frame (several when it is large) into the sequencer's segment, with the
 * messages that are new and, for each shape, its entries that point to them:
 *
 *   frame  := header data index
 *   header := u32 magic, flags, index bytes, data bytes; u64 lsn; u32 epoch, number in the
 *             segment, CRC32C of the index, CRC32C of the header       (little-endian)
 *   data   := (u32 length, u32 CRC32C, message)*
 *   index  := (varint shape, first, count; entry{count})*      relative to {0, 0, data}
 *
 * A message that an earlier frame holds is pointed to there: a variant is stored once, for any
 * number of shapes. What a frame says counts
 *
 *   - at once, when it is the last of its flush;
 *   - with that one, when it is another PART of the flush;
 *   - when it is OPEN, written while a large transaction comes: for each shape that has a group
 *     in a frame of a later flush;
 *   - never, when a RESET comes before that.
 *
 * A write that failed is repeated, with other frames, from where the last good one ended: nobody
 * reads beyond the end that a checkpoint has recorded. */
#include "server/shapelog/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/crc32c.h"

#define KEEP_BYTES (256u * 1024) /* of a frame's memory, for the next one */

static int no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "no memory for a frame of the journal");
}

bool shapelog_frame_header_get(const char bytes[FRAME_HEADER_BYTES],
                               struct frame_header *out)
{
    *out = (struct frame_header){
        .flags = shapelog_le32(bytes + 4),
        .index_bytes = shapelog_le32(bytes + 8),
        .data_bytes = shapelog_le32(bytes + 12),
        .lsn = shapelog_le64(bytes + 16),
        .epoch = shapelog_le32(bytes + 24),
        .number = shapelog_le32(bytes + 28),
        .index_crc = shapelog_le32(bytes + 32),
    };
    return shapelog_le32(bytes) == FRAME_MAGIC &&
           shapelog_le32(bytes + 36) == crc32c(0, bytes, FRAME_HEADER_BYTES - 4);
}

static void put_header(struct buf *out, const struct frame_header *h)
{
    buf_put_le32(out, FRAME_MAGIC);
    buf_put_le32(out, h->flags);
    buf_put_le32(out, h->index_bytes);
    buf_put_le32(out, h->data_bytes);
    buf_put_le64(out, h->lsn);
    buf_put_le32(out, h->epoch);
    buf_put_le32(out, h->number);
    buf_put_le32(out, h->index_crc);
    if (!out->failed)
        buf_put_le32(out, crc32c(0, out->ptr, out->len));
}

static void close_journal(struct shapelog *log)
{
    struct segments *segments = &log->segments;

    if (segments->journal)
        atomic_store(&segments->journal->closed, true);
    segments->journal = NULL;
    log->frame.number = 0;
}

int shapelog_frame_begin(struct shapelog *log, struct err *err)
{
    struct frame *frame = &log->frame;
    struct segments *segments = &log->segments;

    if (frame->segment)
        return 0;
    if (segments->journal && atomic_load(&segments->journal->end) >= log->segment_bytes)
        close_journal(log);
    if (!segments->journal) {
        int rc = shapelog_segment_new(log, SEGMENT_JOURNAL, &segments->journal, err);

        if (rc != 0)
            return rc;
    }
    frame->segment = segments->journal;
    frame->begin = atomic_load(&frame->segment->end);
    return 0;
}

int shapelog_frame_message(struct shapelog *log, struct slice message, uint64_t *addr,
                           struct err *err)
{
    struct frame *frame = &log->frame;

    *addr = ADDR(frame->segment->n, frame->begin + FRAME_HEADER_BYTES + frame->data.len);
    buf_put_le32(&frame->data, (uint32_t)message.len);
    buf_put_le32(&frame->data, crc32c(0, message.ptr, message.len));
    buf_put_slice(&frame->data, message);
    return frame->data.failed ? no_memory(err) : 0;
}

void shapelog_frame_group(struct shapelog *log, uint64_t id, uint64_t first,
                          uint64_t count, struct entry_base *base)
{
    struct frame *frame = &log->frame;

    *base = (struct entry_base){
        .addr = ADDR(frame->segment->n, frame->begin + FRAME_HEADER_BYTES)};
    buf_put_varint(&frame->index, id);
    buf_put_varint(&frame->index, first);
    buf_put_varint(&frame->index, count);
}

void shapelog_frame_entry(struct shapelog *log, struct entry_base *base,
                          const struct entry *e)
{
    struct buf *index = &log->frame.index;
    char *to = buf_reserve(index, ENTRY_MAX_BYTES);

    if (to)
        index->len += shapelog_entry_put(to, base, e);
}

bool shapelog_frame_full(const struct shapelog *log)
{
    return log->frame.data.len + log->frame.index.len >= FRAME_MAX_BYTES;
}

/* All of the frame, from its beginning. */
static int write_vectors(int fd, struct iovec *iov, int count, uint64_t pos,
                         struct err *err)
{
    while (count > 0) {
        ssize_t put = pwritev(fd, iov, count, (off_t)pos);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return err_errno(err, ERR_IO, put < 0 ? errno : ENOSPC,
                             "can't write the journal at byte %" PRIu64, pos);
        pos += (uint64_t)put;
        while (count > 0 && (size_t)put >= iov->iov_len) {
            put -= (ssize_t)iov->iov_len;
            iov++;
            count--;
        }
        if (count > 0) {
            iov->iov_base = (char *)iov->iov_base + put;
            iov->iov_len -= (size_t)put;
        }
    }
    return 0;
}

static void frame_done(struct frame *frame)
{
    frame->segment = NULL;
    buf_reset(&frame->data, KEEP_BYTES);
    buf_reset(&frame->index, KEEP_BYTES);
}

int shapelog_frame_write(struct shapelog *log, uint32_t flags, uint64_t lsn,
                         struct err *err)
{
    struct frame *frame = &log->frame;
    struct segment *segment = frame->segment;
    struct buf header;
    int rc;

    if (!segment)
        return 0;
    if (frame->data.failed || frame->index.failed)
        return no_memory(err);
    struct frame_header h = {
        .flags = flags | (frame->reset ? FRAME_RESET : 0),
        .index_bytes = (uint32_t)frame->index.len,
        .data_bytes = (uint32_t)frame->data.len,
        .lsn = lsn,
        .epoch = log->epoch,
        .number = frame->number,
        .index_crc = crc32c(0, frame->index.ptr, frame->index.len),
    };
    buf_init(&header, FRAME_HEADER_BYTES);
    put_header(&header, &h);
    struct iovec iov[] = {{header.ptr, header.len},
                          {frame->data.ptr, frame->data.len},
                          {frame->index.ptr, frame->index.len}};
    rc = header.failed ? no_memory(err)
                       : write_vectors(segment->fd, iov, 3, frame->begin, err);
    buf_fini(&header);
    if (rc != 0)
        return rc;
    atomic_store(&segment->unsynced, true);
    atomic_store(&segment->end,
                 frame->begin + FRAME_HEADER_BYTES + frame->data.len + frame->index.len);
    frame->written_bytes += FRAME_HEADER_BYTES + frame->data.len + frame->index.len;
    frame->number++;
    frame->reset = false;
    frame_done(frame);
    return 0;
}

void shapelog_frame_abandon(struct shapelog *log)
{
    log->frame.reset = true;
    frame_done(&log->frame);
}
