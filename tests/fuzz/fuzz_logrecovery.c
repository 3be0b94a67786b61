/* fuzz: server/shapelog server/obs base */
/*
 * Recovery of a shape's log over arbitrary files behind a checkpoint.
 *
 * The shape is durable without log entries; its log.json and log.idx are then made from
 * the input. Byte 0 says how: bit 0  records are built from the input with right
 * checksums, else the index is raw bytes bit 1  the messages' checksums are right as well
 * Bytes 1-2: the length of log.json, which comes next; the rest is the index. In built
 * records each takes 4 input bytes: how far tx, op and the position move, and the flags.
 *
 * Whatever is kept must be served: whole entries, in order, ended by a commit, and the
 * log must take a next transaction.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/crc32c.h"
#include "server/shapelog/shapelog.h"

#define RECORD_BYTES    40
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

static void make_shape(const char *dir)
{
    struct shapelog *log = open_log(dir, 200);
    struct shapelog_shape *shape;

    ASSERT(shapelog_create(log, SLICE_LIT("h"), SLICE_LIT("d"), &shape, NULL) == 0);
    ASSERT(shapelog_snapshot_end(shape, SLICE_LIT("{{}}"), SLICE_LIT("1:1:"), NULL) == 0);
    shapelog_release(shape);
    shapelog_close(log); /* durable */
}

static void write_file(const char *dir, const char *name, struct slice bytes)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "%s/shapes/h/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ASSERT(fd >= 0);
    ASSERT(bytes.len == 0 || write(fd, bytes.ptr, bytes.len) == (ssize_t)bytes.len);
    close(fd);
}

/* Records as the input has them, except that their checksums are right. */
static void build_index(struct buf *out, struct slice log, struct slice moves, bool right)
{
    uint64_t tx = 1;
    uint64_t op = 0;
    uint64_t pos = 0;

    for (size_t i = 0; i + 4 <= moves.len; i += 4) {
        const uint8_t *m = (const uint8_t *)moves.ptr + i;
        uint32_t len = m[2];
        size_t start = out->len;
        uint32_t crc = m[3];

        tx += m[0];
        op = m[0] ? m[1] : op + m[1];
        if (right && pos + len <= log.len)
            crc = crc32c(0, log.ptr + pos, len);
        buf_put_le64(out, tx);
        buf_put_le64(out, op);
        buf_put_le64(out, pos);
        buf_put_le32(out, len);
        buf_put_le32(out, m[3] & 7u);
        buf_put_le32(out, crc);
        buf_put_le32(out, crc32c(0, out->ptr + start, out->len - start));
        pos += len + 1u;
    }
}

static uint64_t read_body(struct shapelog_shape *shape,
                          const struct shapelog_found *found)
{
    uint64_t done = 0;

    while (done < found->size_bytes) {
        struct shapelog_piece piece;
        struct err err;

        ASSERT(shapelog_read_log(shape, found, done, &piece, &err) == 0);
        ASSERT(piece.len > 0 && piece.len <= found->size_bytes - done);
        done += piece.len;
        shapelog_piece_release(&piece);
    }
    return done;
}

static void follow(struct shapelog_shape *shape)
{
    struct offset at = OFFSET_SNAPSHOT_END;
    struct shapelog_found found;
    struct err err;

    for (;;) {
        ASSERT(shapelog_locate(shape, at, &found, &err) == 0);
        if (found.part == SHAPELOG_NOTHING)
            break;
        ASSERT(found.part == SHAPELOG_LOG && found.entries > 0);
        ASSERT(offset_cmp(found.first, at) > 0 &&
               offset_cmp(found.end, found.first) >= 0);
        read_body(shape, &found);
        at = found.end;
    }
    ASSERT(offset_cmp(at, shapelog_committed(shape)) == 0);
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
    struct err err;
    uint64_t tx;

    shapelog_each(log, on_shape, &shape);
    ASSERT(shape); /* nothing of it was recorded that could be damaged */
    follow(shape);
    tx = shapelog_committed(shape).tx;
    if (tx < UINT64_MAX) {
        ASSERT(shapelog_append(shape, tx + 1, 0, SLICE_LIT("{\"h\":{}}"), &err) == 0);
        ASSERT(shapelog_commit(shape, &err) == 0);
        ASSERT(shapelog_publish(shape, &err) == 0);
        follow(shape);
    }
    shapelog_release(shape);
    shapelog_close(log);
}

static void remove_all(const char *dir)
{
    static const char *const names[] = {"shapes/h/log.json",
                                        "shapes/h/log.idx",
                                        "shapes/h/snapshot.json",
                                        "shapes/h",
                                        "shapes",
                                        "trash",
                                        "lock",
                                        "meta.sqlite",
                                        ""};
    char path[128];

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        remove(path);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char dir[] = "/tmp/coulomb-fuzz-log-XXXXXX";
    struct slice input = {(const char *)data, size};
    struct slice log = {NULL, 0};
    struct slice rest = {NULL, 0};
    struct buf index;
    unsigned mode = size > 0 ? data[0] : 0;

    if (size > INPUT_MAX_BYTES)
        return 0;
    if (size >= 3) {
        size_t len = (size_t)data[1] | (size_t)data[2] << 8;

        log = slice_make(input.ptr + 3, len < size - 3 ? len : size - 3);
        rest = slice_make(log.ptr + log.len, size - 3 - log.len);
    }
    buf_init(&index, (size_t)INPUT_MAX_BYTES * RECORD_BYTES);
    if (mode & 1)
        build_index(&index, log, rest, (mode & 2) != 0);
    else
        buf_put_slice(&index, rest);
    ASSERT(mkdtemp(dir));
    make_shape(dir);
    write_file(dir, "log.json", log);
    write_file(dir, "log.idx", buf_slice(&index));
    recover(dir);
    recover(dir);
    remove_all(dir);
    buf_fini(&index);
    return 0;
}
