/* fuzz: server/shapelog server/obs base */
/*
 * Recovery of the shape log over an arbitrary journal, or an arbitrary stored state of a shape.
 *
 * A log with one durable shape is closed; then what its next start will read is made from the
 * input. Byte 0 says how:
 *   bit 0  the input is the shape's state, with the right checksum of its row; else the journal
 *   bit 1  of a journal: frames are built from the input with right checksums, else it is raw
 * A built frame takes from the input: flags, bytes of data, bytes of index (each one byte), then
 * the data, each message of which gets its header, and the index as it is.
 *
 * TMPDIR=/dev/shm makes it an order of magnitude faster: it is files that take the time.
 *
 * Whatever is kept must be served: whole entries, in order, or found out as damaged; and the log
 * must take a next transaction.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "server/shapelog/internal.h"

#define INPUT_MAX_BYTES (1u << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct shapelog *open_log(const char *dir, uint64_t chunk_bytes)
{
    struct shapelog_config config = {
        .dir = dir, .chunk_bytes = chunk_bytes, .max_open_files = 4};
    struct shapelog *log;
    struct err err;

    if (shapelog_open(&config, &log, &err) == 0)
        return log;
    fprintf(stderr, "%s: %s\n", dir, err.message);
    abort();
}

static int append(struct shapelog *log, struct shapelog_shape *shape, uint64_t tx)
{
    struct shapelog_variant variant;
    int rc = shapelog_stage(log, SLICE_LIT("{\"h\":{}}"), &variant, NULL);

    return rc == 0 ? shapelog_append(shape, tx, 0, variant, NULL) : rc;
}

static void show(struct shapelog *log, struct shapelog_shape *shape, uint64_t tx)
{
    ASSERT(append(log, shape, tx) == 0);
    shapelog_commit(shape);
    shapelog_publish(shape);
    ASSERT(shapelog_flush(log, tx, NULL) == 0);
}

/* Its id is the first of epoch 1. */
static void make_shape(const char *dir)
{
    struct shapelog *log = open_log(dir, 200);
    struct shapelog_shape *shape;

    ASSERT(shapelog_create(log, SLICE_LIT("h"), SLICE_LIT("d"), &shape, NULL) == 0);
    ASSERT(shapelog_snapshot_end(shape, SLICE_LIT("{{}}"), SLICE_LIT("1:1:"), NULL) == 0);
    show(log, shape, 3);
    shapelog_release(shape);
    shapelog_close(log); /* durable */
}

static void write_segment(const char *dir, uint32_t n, uint32_t epoch, struct slice bytes)
{
    char name[PATH_BYTES];
    char path[256];
    int fd;

    shapelog_segment_name(name, n, epoch);
    snprintf(path, sizeof(path), "%s/segments/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ASSERT(fd >= 0);
    ASSERT(bytes.len == 0 || write(fd, bytes.ptr, bytes.len) == (ssize_t)bytes.len);
    close(fd);
}

static struct slice take(struct slice *input, size_t n)
{
    struct slice s = {input->ptr, n < input->len ? n : input->len};

    input->ptr += s.len;
    input->len -= s.len;
    return s;
}

static void put_frame(struct buf *out, uint32_t epoch, uint32_t number, uint32_t flags,
                      struct slice message, struct slice index)
{
    size_t start = out->len;

    buf_put_le32(out, FRAME_MAGIC);
    buf_put_le32(out, flags);
    buf_put_le32(out, (uint32_t)index.len);
    buf_put_le32(out, (uint32_t)message.len + STORED_HEADER);
    buf_put_le64(out, 1);
    buf_put_le32(out, epoch);
    buf_put_le32(out, number);
    buf_put_le32(out, crc32c(0, index.ptr, index.len));
    buf_put_le32(out, crc32c(0, out->ptr + start, out->len - start));
    buf_put_le32(out, (uint32_t)message.len);
    buf_put_le32(out, crc32c(0, message.ptr, message.len));
    buf_put_slice(out, message);
    buf_put_slice(out, index);
}

static void build_frames(struct buf *out, uint32_t epoch, struct slice input)
{
    for (uint32_t number = 0; input.len > 3; number++) {
        struct slice head = take(&input, 3);
        struct slice message = take(&input, (unsigned char)head.ptr[1]);
        struct slice index = take(&input, (unsigned char)head.ptr[2]);

        put_frame(out, epoch, number, (uint32_t)head.ptr[0] & 7u, message, index);
    }
}

static void put_journal(const char *dir, struct meta *meta, bool built,
                        struct slice input)
{
    struct meta_segment row = {.kind = SEGMENT_JOURNAL};
    struct buf bytes;
    uint64_t n, epoch;

    ASSERT(shapelog_meta_get_u64(meta, "epoch", &epoch, NULL) == 0);
    ASSERT(shapelog_meta_get_u64(meta, "fold.segment", &n, NULL) == 0);
    buf_init(&bytes, 1u << 24);
    if (built)
        build_frames(&bytes, (uint32_t)epoch, input);
    else
        buf_put_slice(&bytes, input);
    row.n = (uint32_t)n + 1;
    row.epoch = (uint32_t)epoch;
    row.end = bytes.len;
    write_segment(dir, row.n, row.epoch, buf_slice(&bytes));
    ASSERT(shapelog_meta_put_segment(meta, &row, NULL) == 0);
    ASSERT(shapelog_meta_put_u64(meta, "journal.segment", row.n, NULL) == 0);
    ASSERT(shapelog_meta_put_u64(meta, "journal.position", bytes.len, NULL) == 0);
    buf_fini(&bytes);
}

static void put_state(struct meta *meta, struct slice input)
{
    struct meta_shape row = {.id = ((uint64_t)1 << 32) + 1,
                             .handle = SLICE_LIT("h"),
                             .log = MARK_BEGIN,
                             .state = input};

    ASSERT(shapelog_meta_put_shape(meta, &row, NULL) == 0);
}

static void prepare(const char *dir, unsigned mode, struct slice input)
{
    struct meta *meta;
    char path[200];

    snprintf(path, sizeof(path), "%s/meta.sqlite", dir);
    ASSERT(shapelog_meta_open(path, &meta, NULL) == 0);
    ASSERT(shapelog_meta_begin(meta, NULL) == 0);
    if (mode & 1)
        put_state(meta, input);
    else
        put_journal(dir, meta, mode & 2, input);
    ASSERT(shapelog_meta_commit(meta, NULL) == 0);
    shapelog_meta_close(meta);
}

/* False when a message was found out as damaged. */
static bool read_body(struct shapelog_shape *shape, const struct shapelog_found *found)
{
    uint64_t done = 0;

    while (done < found->size_bytes) {
        struct shapelog_piece piece;
        struct err err;
        int rc = shapelog_read_log(shape, found, done, &piece, &err);

        ASSERT(rc == 0 || rc == ERR_CORRUPT);
        if (rc != 0)
            return false;
        ASSERT(piece.len > 0 && piece.len <= found->size_bytes - done);
        done += piece.len;
        shapelog_piece_release(&piece);
    }
    return true;
}

static void follow(struct shapelog_shape *shape)
{
    struct offset at = OFFSET_SNAPSHOT_END;
    struct shapelog_found found;
    struct err err;

    for (;;) {
        int rc = shapelog_locate(shape, at, &found, &err);

        ASSERT(rc == 0 || rc == ERR_CORRUPT);
        if (rc != 0 || found.part == SHAPELOG_NOTHING)
            break;
        ASSERT(found.part == SHAPELOG_LOG && found.entries > 0);
        ASSERT(offset_cmp(found.first, at) > 0 &&
               offset_cmp(found.end, found.first) >= 0);
        read_body(shape, &found);
        at = found.end;
    }
}

static void on_shape(void *ctx, struct shapelog_shape *shape, struct slice definition)
{
    struct shapelog_shape **out = ctx;

    ASSERT(slice_eq(definition, SLICE_LIT("d")));
    *out = shapelog_retain(shape);
}

static void recover(const char *dir)
{
    struct shapelog *log = open_log(dir, 50);
    struct shapelog_shape *shape = NULL;
    uint64_t tx;

    ASSERT(shapelog_each(log, on_shape, &shape, NULL) == 0);
    if (shape) {
        follow(shape);
        tx = shapelog_committed(shape).tx;
        if (tx < UINT64_MAX) {
            show(log, shape, tx + 1);
            follow(shape);
        }
    }
    shapelog_release(shape);
    shapelog_close(log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *in = getenv("TMPDIR");
    char dir[100];

    if (size == 0 || size > INPUT_MAX_BYTES)
        return 0;
    snprintf(dir, sizeof(dir), "%s/coulomb-fuzz-log-XXXXXX", in ? in : "/tmp");
    ASSERT(mkdtemp(dir));
    make_shape(dir);
    prepare(dir, data[0], slice_make((const char *)data + 1, size - 1));
    recover(dir);
    ASSERT(shapelog_destroy(dir, NULL) == 0);
    return 0;
}
