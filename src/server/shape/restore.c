/* The shapes that the storage has, at a start. Postgres may be away: what clauses need to know of
 * it is stored as well (case_map.h). */
#include "server/shape/internal.h"

struct restoring {
    struct sequencer *q;
    struct shape_def_reader reader;
};

/* Reads back what preparation.c wrote: "xmin:xmax:xip,xip@wal_lsn". */
static int view_read(struct slice text, struct snapshot_view *out)
{
    const char *at = text.len == 0 ? NULL : memchr(text.ptr, '@', text.len);
    if (at == NULL)
        return ERR_CORRUPT;
    size_t head = (size_t)(at - text.ptr);
    int rc = snapshot_view_parse(slice_make(text.ptr, head), out, NULL);
    if (rc < 0)
        return rc;
    struct slice lsn = slice_make(at + 1, text.len - head - 1);
    return slice_to_u64(lsn, &out->wal_lsn) ? 0 : ERR_CORRUPT;
}

/* The shape as its log has it; the caller gives it a definition and registers it. */
static int shape_fill(struct shape *shape, struct shapelog_shape *log, struct err *err)
{
    shape->log = shapelog_retain(log);
    shape->phase = JOIN_JOINED;
    atomic_store(&shape->state, SHAPE_LIVE);
    shape_touch(shape); /* no younger than those read from now on */
    int rc = view_read(shapelog_view(log), &shape->view);
    return rc < 0 ? err_set(err, rc, "the stored view is not readable") : 0;
}

static void restore(void *ctx, struct shapelog_shape *log, struct slice definition)
{
    struct restoring *r = ctx;
    struct sequencer *q = r->q;
    struct shape_def *def = NULL;
    struct shape *shape = NULL;
    struct err err = {0};
    int rc = shape_def_read(&r->reader, definition, &def, &err);
    if (rc == 0 && (shape = shape_new(q, def)) == NULL)
        rc = err_set(&err, ERR_MEMORY, "no memory for a shape");
    if (rc == 0)
        rc = shape_fill(shape, log, &err);
    if (rc == 0)
        rc = shape_register(q, shape, NULL, &err);
    if (rc == 0) { /* it was in the publication when it was made */
        atomic_store(&shape->use->ensured, true);
    } else {
        log_event(q->config.log, LOG_WARNING, "shape.not_restored",
                  LOG_TEXT("handle", shapelog_handle(log)),
                  LOG_TEXT("reason", err.message));
        shapelog_remove(log);
    }
    shape_release(shape);
    shape_def_release(def);
}

/* A damaged one is as good as none: shapes that depend on it are not restored. */
static int read_case_map(struct sequencer *q, struct err *err)
{
    struct buf text;
    struct err why = {0};
    case_map_release(q->case_map);
    q->case_map = NULL;
    buf_init(&text, CASE_MAP_TEXT_MAX);
    int rc = shapelog_note_get(q->shapelog, CASE_MAP_NOTE, &text, &why);
    if (rc == 0)
        rc = case_map_parse(buf_slice(&text), &q->case_map, &why);
    buf_fini(&text);
    if (rc == 0 && q->config.catalog != NULL)
        catalog_know_case_map(q->config.catalog, q->case_map);
    if (rc == ERR_CORRUPT)
        log_event(q->config.log, LOG_WARNING, "storage.case_map_lost",
                  LOG_TEXT("reason", why.message));
    if (rc == 0 || rc == ERR_CORRUPT || rc == ERR_NOT_FOUND)
        return 0;
    return err_set(err, rc, "%s", why.message);
}

int sequencer_restore(struct sequencer *q, struct err *err)
{
    struct restoring r = {.q = q};
    int rc = read_case_map(q, err);
    if (rc < 0)
        return rc;
    shape_def_reader_init(&r.reader, q->case_map);
    rc = shapelog_each(q->shapelog, restore, &r, err);
    shape_def_reader_fini(&r.reader);
    return rc;
}
