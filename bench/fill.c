/* bench_fill DIR HANDLE COUNT MARK STEP[+MORE] [MARK STEP[+MORE]]: more shapes in the storage of a
 * server that does not run: copies of the shape HANDLE, each with an empty snapshot as that one has,
 * in whose definition the text MARK has become STEP * n + MORE for the n-th copy, n from 1. Creating a million over
 * HTTP would be most of a bench; what a server restores is the same. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "http.h"
#include "server/shapelog/shapelog.h"

#define DEFINITION_MAX (1u << 20)
#define MARKS_MAX      2
#define SNAPSHOT_END   "{\"headers\":{\"control\":\"snapshot-end\"}}"

struct mark {
    const char *text;
    long step;
    long more;
};

struct fill {
    struct shapelog *log;
    const char *handle;
    struct shapelog_shape *model;
    struct buf definition;
};

static void must(int rc, const struct err *err)
{
    if (rc < 0)
        die("%s", err->message);
}

static void find_model(void *ctx, struct shapelog_shape *shape, struct slice definition)
{
    struct fill *f = ctx;

    if (strcmp(shapelog_handle(shape), f->handle) != 0)
        return;
    f->model = shapelog_retain(shape);
    buf_put_slice(&f->definition, definition);
}

/* Text with the mark replaced wherever it is. */
static void put_marked(struct buf *out, struct slice text, const struct mark *mark,
                       long n)
{
    size_t len = strlen(mark->text);

    while (text.len > 0) {
        const char *at = memmem(text.ptr, text.len, mark->text, len);
        size_t before = at ? (size_t)(at - text.ptr) : text.len;

        buf_put_slice(out, slice_make(text.ptr, before));
        if (!at)
            return;
        buf_printf(out, "%ld", mark->step * n + mark->more);
        text = slice_make(at + len, text.len - before - len);
    }
}

static void add(struct fill *f, long n, const struct mark *marks, int mark_count)
{
    struct shapelog_shape *shape;
    struct buf text[MARKS_MAX + 1];
    struct err err = {0};
    char handle[SHAPELOG_HANDLE_MAX];

    buf_init(&text[0], DEFINITION_MAX);
    buf_put_slice(&text[0], buf_slice(&f->definition));
    for (int i = 0; i < mark_count; i++) {
        buf_init(&text[i + 1], DEFINITION_MAX);
        put_marked(&text[i + 1], buf_slice(&text[i]), &marks[i], n);
    }
    snprintf(handle, sizeof(handle), "%ld-1", 1000000000 + n);
    must(shapelog_create(f->log, slice_of(handle), buf_slice(&text[mark_count]), &shape,
                         &err),
         &err);
    must(shapelog_snapshot_end(shape, SLICE_LIT(SNAPSHOT_END), shapelog_view(f->model),
                               &err),
         &err);
    shapelog_release(shape);
    for (int i = 0; i <= mark_count; i++)
        buf_fini(&text[i]);
}

static void checkpoint_failed(void *ctx, const struct err *err)
{
    (void)ctx;
    die("%s", err->message);
}

static void checkpoint_durable(void *ctx, uint64_t lsn)
{
    (void)ctx;
    (void)lsn;
}

static bool found_corrupt(void *ctx, struct shapelog_shape *shape)
{
    (void)ctx;
    die("%s is damaged", shapelog_handle(shape));
}

static struct mark parse_mark(const char *text, const char *formula)
{
    char *end;
    struct mark mark = {.text = text, .step = strtol(formula, &end, 10)};

    if (*end == '+')
        mark.more = strtol(end + 1, &end, 10);
    if (end == formula || *end != '\0')
        die("%s is not STEP or STEP+MORE", formula);
    return mark;
}

int main(int argc, char **argv)
{
    if (argc < 6 || argc > 6 + 2 * (MARKS_MAX - 1) || argc % 2 != 0)
        die("usage: bench_fill DIR HANDLE COUNT MARK STEP[+MORE] [MARK STEP[+MORE]]");
    long count = strtol(argv[3], NULL, 10);
    struct mark marks[MARKS_MAX];
    int mark_count = 0;
    for (int i = 4; i < argc; i += 2)
        marks[mark_count++] = parse_mark(argv[i], argv[i + 1]);

    struct shapelog_config config = {
        .dir = argv[1],
        .chunk_bytes = 10485760,
        .max_open_files = 100,
        .durable = checkpoint_durable,
        .failed = checkpoint_failed,
        .corrupt = found_corrupt,
    };
    struct fill f = {.handle = argv[2]};
    struct err err = {0};
    buf_init(&f.definition, DEFINITION_MAX);
    must(shapelog_open(&config, &f.log, &err), &err);
    must(shapelog_each(f.log, find_model, &f, &err), &err);
    if (!f.model)
        die("no shape %s in %s", argv[2], argv[1]);
    for (long n = 1; n <= count; n++)
        add(&f, n, marks, mark_count);
    shapelog_checkpoint(f.log, shapelog_durable_lsn(f.log));
    shapelog_release(f.model);
    shapelog_close(f.log);
    buf_fini(&f.definition);
    return 0;
}
