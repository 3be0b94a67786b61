/* A shape log in a directory of its own, and the naive truth that it is compared with: a
 * list of texts, walked from the beginning for every question. */
#ifndef COULOMB_TESTS_SHAPELOG_FIXTURE_H
#define COULOMB_TESTS_SHAPELOG_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "server/shapelog/shapelog.h"

#define MODEL_MAX 4096

struct fixture {
    char dir[64];
    uint64_t chunk_bytes;
    unsigned max_open_files;
    uint64_t segment_bytes;
    size_t stage_bytes;
    const struct shapelog_origin *take_over;
    struct obs obs;
    struct shapelog *log;
    atomic_uint_fast64_t durable;
    atomic_uint rounds; /* durable or failed */
    atomic_uint failures;
    atomic_bool fatal; /* a checkpoint failed for good */
    atomic_uint corrupt;
    atomic_uint lost; /* bit n: the shape whose handle begins with 'a' + n */
};

static inline void on_durable(void *ctx, uint64_t lsn)
{
    struct fixture *f = ctx;

    atomic_store(&f->durable, lsn);
    atomic_fetch_add(&f->rounds, 1);
}

static inline void on_failed(void *ctx, const struct err *err)
{
    struct fixture *f = ctx;

    if (err->code == ERR_FATAL)
        atomic_store(&f->fatal, true);
    atomic_fetch_add(&f->failures, 1);
    atomic_fetch_add(&f->rounds, 1);
}

static inline bool on_corrupt(void *ctx, struct shapelog_shape *shape)
{
    struct fixture *f = ctx;

    atomic_fetch_or(&f->lost, 1u << ((unsigned)(shapelog_handle(shape)[0] - 'a') % 26));
    atomic_fetch_add(&f->corrupt, 1);
    return true;
}

static inline int fixture_try_open(struct fixture *f, struct err *err)
{
    struct shapelog_config config = {.dir = f->dir,
                                     .chunk_bytes = f->chunk_bytes,
                                     .max_open_files = f->max_open_files,
                                     .segment_bytes = f->segment_bytes,
                                     .stage_bytes = f->stage_bytes,
                                     .take_over = f->take_over,
                                     .obs = &f->obs,
                                     .ctx = f,
                                     .durable = on_durable,
                                     .failed = on_failed,
                                     .corrupt = on_corrupt};

    return shapelog_open(&config, &f->log, err);
}

static inline void fixture_open(struct fixture *f)
{
    struct err err = {0};

    if (fixture_try_open(f, &err) != 0)
        fail_msg("can't open: %s", err.message);
}

static inline void fixture_init(struct fixture *f, uint64_t chunk_bytes)
{
    memset(f, 0, sizeof(*f));
    f->chunk_bytes = chunk_bytes;
    f->max_open_files = 16;
    obs_init(&f->obs);
    snprintf(f->dir, sizeof(f->dir), "/tmp/coulomb-shapelog-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the folders that the test made
static inline void remove_below(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;

    while (dir && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(fd, entry->d_name, 0) != 0)
            remove_below(fd, entry->d_name);
    }
    if (dir)
        closedir(dir);
    unlinkat(parent, name, AT_REMOVEDIR);
}

static inline void remove_tree(const char *path)
{
    remove_below(AT_FDCWD, path);
}

static inline void fixture_close(struct fixture *f)
{
    shapelog_close(f->log);
    f->log = NULL;
}

static inline void fixture_fini(struct fixture *f)
{
    if (f->log)
        fixture_close(f);
    remove_tree(f->dir);
}

/* Takes a checkpoint and waits for its outcome; true when it is durable. */
static inline bool checkpoint(struct fixture *f, uint64_t lsn)
{
    unsigned rounds = atomic_load(&f->rounds);
    unsigned failures = atomic_load(&f->failures);

    shapelog_checkpoint(f->log, lsn);
    for (int i = 0; i < 20000 && atomic_load(&f->rounds) == rounds; i++)
        clock_sleep_ms(1);
    assert_int_not_equal(atomic_load(&f->rounds), rounds);
    return atomic_load(&f->failures) == failures;
}

struct finding {
    const char *handle;
    struct shapelog_shape *shape;
    unsigned count;
};

static inline void on_restored(void *ctx, struct shapelog_shape *shape,
                               struct slice definition)
{
    struct finding *finding = ctx;

    assert_true(slice_eq(definition, SLICE_LIT("definition")));
    finding->count++;
    if (strcmp(shapelog_handle(shape), finding->handle) == 0)
        finding->shape = shapelog_retain(shape);
}

/* The restored shape with a reference, or NULL. */
static inline struct shapelog_shape *restored(struct fixture *f, const char *handle)
{
    struct finding finding = {.handle = handle};

    assert_int_equal(shapelog_each(f->log, on_restored, &finding, NULL), 0);
    return finding.shape;
}

static inline struct shapelog_shape *create(struct fixture *f, const char *handle)
{
    struct shapelog_shape *shape;
    struct err err;

    assert_int_equal(
        shapelog_create(f->log, slice_of(handle), SLICE_LIT("definition"), &shape, &err),
        0);
    return shape;
}

/* --- the naive truth --- */

struct model_entry {
    struct offset at;
    char *text; /* as served */
};

struct model {
    struct model_entry entries[MODEL_MAX];
    size_t count;
    char *rows[MODEL_MAX];
    size_t row_count;
};

static inline struct model *model_new(void)
{
    struct model *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    return m;
}

static inline void model_free(struct model *m)
{
    for (size_t i = 0; i < m->count; i++)
        free(m->entries[i].text);
    for (size_t i = 0; i < m->row_count; i++)
        free(m->rows[i]);
    free(m);
}

/* The message at an offset: a pure function, as it is of the WAL. */
static inline char *message(uint64_t tx, uint64_t op, size_t pad, bool last)
{
    struct buf b;

    buf_init(&b, 1u << 24);
    buf_printf(&b, "{\"key\":\"%" PRIu64 "/%" PRIu64 "\",\"value\":\"", tx, op);
    for (size_t i = 0; i < pad; i++)
        buf_putc(&b, (char)('a' + (tx + op + i) % 26));
    buf_puts(&b, last ? "\",\"headers\":{\"operation\":\"insert\",\"last\":true}}"
                      : "\",\"headers\":{\"operation\":\"insert\"}}");
    return buf_take(&b, NULL);
}

static inline void model_put(struct model *m, uint64_t tx, uint64_t op, size_t pad,
                             bool last)
{
    assert_true(m->count < MODEL_MAX);
    m->entries[m->count].at = (struct offset){tx, op, false};
    m->entries[m->count++].text = message(tx, op, pad, last);
}

static inline void model_row(struct model *m, const char *text)
{
    assert_true(m->row_count < MODEL_MAX);
    m->rows[m->row_count++] = slice_dup(slice_of(text));
}

/* What the log answers to a request after an offset; *end is its electric-offset. */
static inline void model_log(const struct model *m, uint64_t chunk_bytes,
                             struct offset after, struct buf *out, struct offset *end)
{
    uint64_t chunk = 0;

    *end = m->count ? m->entries[m->count - 1].at : OFFSET_SNAPSHOT_END;
    for (size_t i = 0; i < m->count; i++) {
        const struct model_entry *e = &m->entries[i];

        chunk += strlen(e->text) + 1;
        if (offset_cmp(e->at, after) > 0) {
            if (out->len > 0)
                buf_putc(out, ',');
            buf_puts(out, e->text);
        }
        if (chunk >= chunk_bytes) {
            chunk = 0;
            if (out->len > 0) {
                *end = e->at;
                return;
            }
        }
    }
}

/* One chunk of the snapshot; false when there is no such. */
static inline bool model_snapshot(const struct model *m, uint64_t chunk_bytes,
                                  uint32_t wanted, struct buf *out)
{
    uint32_t chunk = 0;
    uint64_t bytes = 0;
    bool any = false;

    for (size_t i = 0; i < m->row_count; i++) {
        if (chunk == wanted) {
            if (any)
                buf_putc(out, ',');
            buf_puts(out, m->rows[i]);
            any = true;
        }
        bytes += strlen(m->rows[i]) + 1;
        if (bytes >= chunk_bytes) {
            bytes = 0;
            chunk++;
        }
    }
    return any;
}

/* --- what the log really says --- */

static inline void take_piece(struct shapelog_piece *piece, struct buf *out)
{
    char *room = buf_reserve(out, piece->len);

    assert_non_null(room);
    if (piece->mem)
        memcpy(room, piece->mem, piece->len);
    else
        assert_int_equal(pread(piece->fd, room, piece->len, (off_t)piece->file_pos),
                         (ssize_t)piece->len);
    out->len += piece->len;
    shapelog_piece_release(piece);
}

static inline int read_found(struct shapelog_shape *shape,
                             const struct shapelog_found *found, struct buf *out)
{
    struct shapelog_piece piece;
    enum shapelog_growth growth;
    struct err err;
    int rc;

    for (;;) {
        if (found->part == SHAPELOG_LOG)
            rc = shapelog_read_log(shape, found, out->len, &piece, &err);
        else
            rc = shapelog_read_snapshot(shape, found->chunk, out->len, &piece, &growth,
                                        &err);
        if (rc != 0 || piece.len == 0)
            return rc;
        take_piece(&piece, out);
    }
}

/* Locates and reads; the body is empty for NOTHING and PENDING. */
static inline int fetch(struct shapelog_shape *shape, struct offset after,
                        struct shapelog_found *found, struct buf *out)
{
    struct err err;
    int rc = shapelog_locate(shape, after, found, &err);

    if (rc != 0 || found->part == SHAPELOG_NOTHING || found->part == SHAPELOG_PENDING)
        return rc;
    return read_found(shape, found, out);
}

static inline void assert_same(const struct buf *got, const struct buf *want)
{
    assert_int_equal(got->len, want->len);
    if (want->len > 0)
        assert_memory_equal(got->ptr, want->ptr, want->len);
}

/* The answer to one request is the model's. */
static inline void assert_answer(struct shapelog_shape *shape, const struct model *m,
                                 uint64_t chunk_bytes, struct offset after)
{
    struct shapelog_found found;
    struct offset end;
    struct buf got, want;

    buf_init(&got, 1u << 26);
    buf_init(&want, 1u << 26);
    model_log(m, chunk_bytes, after, &want, &end);
    assert_int_equal(fetch(shape, after, &found, &got), 0);
    assert_int_equal(found.part, want.len ? SHAPELOG_LOG : SHAPELOG_NOTHING);
    assert_int_equal(offset_cmp(found.end, end), 0);
    assert_same(&got, &want);
    buf_fini(&got);
    buf_fini(&want);
}

/* Every request that the model knows is answered alike: all offsets, and between them. */
static inline void assert_log(struct shapelog_shape *shape, const struct model *m,
                              uint64_t chunk_bytes)
{
    assert_answer(shape, m, chunk_bytes, OFFSET_SNAPSHOT_END);
    for (size_t i = 0; i < m->count; i++) {
        struct offset at = m->entries[i].at;

        assert_answer(shape, m, chunk_bytes, at);
        at.op++;
        if (i + 1 < m->count)
            assert_answer(shape, m, chunk_bytes, at);
    }
}

static inline void assert_snapshot(struct shapelog_shape *shape, const struct model *m,
                                   uint64_t chunk_bytes)
{
    struct offset after = OFFSET_BEFORE_ALL;

    for (uint32_t chunk = 0;; chunk++) {
        struct shapelog_found found;
        struct buf got, want;
        bool any;

        buf_init(&got, 1u << 26);
        buf_init(&want, 1u << 26);
        any = model_snapshot(m, chunk_bytes, chunk, &want);
        if (any) {
            assert_int_equal(fetch(shape, after, &found, &got), 0);
            assert_int_equal(found.part, SHAPELOG_SNAPSHOT);
            assert_int_equal(offset_cmp(found.end, (struct offset){0, chunk, false}), 0);
            assert_same(&got, &want);
        } else {
            assert_int_equal(shapelog_locate(shape, after, &found, NULL), 0);
            assert_int_not_equal(found.part, SHAPELOG_SNAPSHOT);
        }
        buf_fini(&got);
        buf_fini(&want);
        if (!any)
            return;
        after = (struct offset){0, chunk, false};
    }
}

/* --- doing both --- */

/* One message for one shape. */
static inline int give(struct shapelog *log, struct shapelog_shape *shape, uint64_t tx,
                       uint64_t op, struct slice json, struct err *err)
{
    struct shapelog_variant variant;
    int rc = shapelog_spill(log, err);

    if (rc == 0)
        rc = shapelog_stage(log, json, &variant, err);
    return rc == 0 ? shapelog_append(shape, tx, op, variant, err) : rc;
}

/* `last` is how the entry will be served, once the transaction is committed. */
static inline int append(struct fixture *f, struct shapelog_shape *shape, struct model *m,
                         uint64_t tx, uint64_t op, size_t pad, bool last)
{
    char *text = message(tx, op, pad, false);
    struct err err;
    int rc = give(f->log, shape, tx, op, slice_of(text), &err);

    free(text);
    if (rc == 0 && m)
        model_put(m, tx, op, pad, last);
    return rc;
}

static inline void finish_snapshot(struct shapelog_shape *shape, struct model *m)
{
    static const char end[] = "{\"headers\":{\"control\":\"snapshot-end\"}}";
    struct err err;

    assert_int_equal(
        shapelog_snapshot_end(shape, slice_of(end), SLICE_LIT("10:20:"), &err), 0);
    if (m)
        model_row(m, end);
}

static inline void write_row(struct shapelog_shape *shape, struct model *m, unsigned n,
                             size_t pad)
{
    char *text = message(n, 0, pad, false);
    struct err err;

    assert_int_equal(shapelog_snapshot_row(shape, slice_of(text), &err), 0);
    if (m)
        model_row(m, text);
    free(text);
}

static inline int show(struct fixture *f, struct shapelog_shape *shape, uint64_t lsn)
{
    shapelog_commit(shape);
    shapelog_publish(shape);
    return shapelog_flush(f->log, lsn, NULL);
}

/* One committed and shown transaction of n entries. */
static inline void transaction(struct fixture *f, struct shapelog_shape *shape,
                               struct model *m, uint64_t tx, unsigned n, size_t pad)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(append(f, shape, m, tx, 2u * i, pad, i + 1 == n), 0);
    assert_int_equal(show(f, shape, tx), 0);
}

#endif
