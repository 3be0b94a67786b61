/* How shapes come and go: linked to their relations, made, dropped, evicted (restored: restore.c).
 *
 * A shape is known in four places: the registry, the router (a link for each relation whose
 * changes concern it), its table's use, its log. shape_register and sequencer_drop keep them
 * in step. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "server/shape/internal.h"

/* --- Relations and shapes --- */

struct shape **sequencer_shapes_of(struct sequencer *q, uint32_t oid, size_t *count)
{
    struct route_entry *const *entries = route_entries(q->route, oid, count);
    if (*count > q->scratch_cap) {
        struct shape **grown = realloc(q->scratch, *count * 2 * sizeof(*grown));
        if (grown == NULL) {
            *count = 0;
            log_event(q->config.log, LOG_ERROR, "sequencer.out_of_memory",
                      LOG_U64("relation", oid));
            return NULL;
        }
        q->scratch = grown;
        q->scratch_cap = *count * 2;
    }
    for (size_t i = 0; i < *count; i++)
        q->scratch[i] = ((struct shape_link *)(void *)entries[i])->shape;
    return q->scratch;
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "no memory for a shape");
}

/* links is allocated with room for growth here only; entries are pointers into it, so it
 * is taken out of the router while it moves. */
int sequencer_link(struct sequencer *q, struct shape *shape, uint32_t oid,
                   const struct shape_where *where, struct err *err)
{
    for (size_t i = 0; i < shape->link_count; i++) {
        if (shape->links[i].route.oid == oid)
            return 0;
    }
    struct route_filter *filter;
    int rc = clause_filter(q, shape, oid, where, &filter, err);
    if (rc < 0)
        return rc;
    struct shape_link *links = calloc(shape->link_count + 1, sizeof *links);
    if (links == NULL) {
        route_filter_release(q->route, filter);
        return no_memory(err);
    }
    for (size_t i = 0; i < shape->link_count; i++) {
        route_remove(q->route, &shape->links[i].route);
        links[i] = shape->links[i];
    }
    links[shape->link_count] =
        (struct shape_link){.route = {.oid = oid, .filter = filter}, .shape = shape};
    free(shape->links);
    shape->links = links;
    size_t wanted = shape->link_count + 1;
    shape->link_count = 0;
    for (size_t i = 0; i < wanted; i++) {
        if (route_add(q->route, &links[i].route) < 0) {
            for (size_t j = i; j < wanted; j++) {
                route_filter_release(q->route, links[j].route.filter);
                free(links[j].order);
            }
            return no_memory(err);
        }
        shape->link_count++;
    }
    return 0;
}

static int link_table(struct sequencer *q, struct shape *shape,
                      const struct shape_where *where, struct err *err)
{
    const struct table *t = shape->def->table;
    struct shape_where *parsed = NULL;
    int rc = 0;
    if (where == NULL && shape->def->where.len > 0) {
        rc = shape_where_reparse(shape->def->table, shape->def->where, &parsed, err);
        where = parsed;
    }
    if (rc == 0)
        rc = sequencer_link(q, shape, t->oid, where, err);
    for (size_t i = 0; rc == 0 && i < t->child_count; i++)
        rc = sequencer_link(q, shape, t->children[i], where, err);
    shape_where_release(parsed);
    return rc;
}

void sequencer_unlink(struct sequencer *q, struct shape *shape)
{
    for (size_t i = 0; i < shape->link_count; i++) {
        route_remove(q->route, &shape->links[i].route);
        route_filter_release(q->route, shape->links[i].route.filter);
        shape->links[i].route.filter = NULL;
    }
    table_release(shape->clause_table);
    shape->clause_table = NULL;
}

/* --- Making and removing --- */

struct shape *shape_new(struct sequencer *q, struct shape_def *def)
{
    struct shape *shape = calloc(1, sizeof *shape);
    if (shape == NULL || variants_share(&q->variants, def, &shape->def, NULL) < 0) {
        free(shape);
        return NULL;
    }
    atomic_init(&shape->refs, 1);
    shape->owner = &q->shapes;
    list_init(&shape->in_touched);
    list_init(&shape->in_committed);
    buf_init(&shape->join_buffer, 16u << 20);
    if (shape_set_header(shape, shape->def) < 0) {
        shape_release(shape);
        return NULL;
    }
    return shape;
}

/* Everything that makes a shape known: table use, router, registry. */
int shape_register(struct sequencer *q, struct shape *shape,
                   const struct shape_where *where, struct err *err)
{
    shape->class = variants_join(&q->variants, shape->def);
    if (shape->class == NULL)
        return no_memory(err);
    shape->use = table_use_get(q, shape->def->table);
    int rc = shape->use == NULL ? no_memory(err) : link_table(q, shape, where, err);
    if (rc == 0 && shapes_insert(&q->shapes, shape) < 0)
        rc = no_memory(err);
    if (rc < 0) {
        sequencer_unlink(q, shape);
        if (shape->use != NULL)
            table_use_put(q, shape->use);
        variants_leave(&q->variants, shape->class, shape->def);
        shape->class = NULL;
        return rc;
    }
    q->parent_shapes += shape->def->table->kind == 'p';
    return 0;
}

/* <hash of the definition>-<microseconds>: never the same twice. */
static void make_handle(struct sequencer *q, const struct shape_def *def,
                        char out[SHAPELOG_HANDLE_MAX])
{
    uint32_t hash = 2166136261u; /* FNV-1a: only to tell shapes apart by eye */
    struct slice identity = shape_def_identity(def);
    for (size_t i = 0; i < identity.len; i++)
        hash = (hash ^ (unsigned char)identity.ptr[i]) * 16777619u;
    int64_t now = clock_wall_us();
    q->last_handle_us = now > q->last_handle_us ? now : q->last_handle_us + 1;
    snprintf(out, SHAPELOG_HANDLE_MAX, "%" PRIu32 "-%" PRId64, hash, q->last_handle_us);
}

/* A later start makes the clauses of its shapes with it, before Postgres can be asked. */
static int keep_case_map(struct sequencer *q, struct case_map *map, struct err *err)
{
    if (map == NULL ||
        (q->case_map != NULL && slice_eq(case_map_id(q->case_map), case_map_id(map))))
        return 0;
    int rc = shapelog_note_put(q->shapelog, CASE_MAP_NOTE, case_map_text(map), err);
    if (rc == 0) {
        case_map_release(q->case_map);
        q->case_map = case_map_retain(map);
    }
    return rc;
}

static int shape_make_log(struct sequencer *q, struct shape *shape, struct err *err)
{
    struct buf text;
    char handle[SHAPELOG_HANDLE_MAX];
    make_handle(q, shape->def, handle);
    buf_init(&text, SHAPE_DEF_TEXT_MAX);
    int rc = shape_def_print(shape->def, &text);
    if (rc < 0)
        err_set(err, rc, "the definition of the shape is too large to be stored");
    rc = rc == 0 ? keep_case_map(q, shape->def->table->case_map, err) : rc;
    if (rc == 0)
        rc = shapelog_create(q->shapelog, slice_of(handle), buf_slice(&text), &shape->log,
                             err);
    buf_fini(&text);
    return rc;
}

int sequencer_redefine(struct sequencer *q, struct shape *shape, struct shape_def *def)
{
    struct buf text;
    buf_init(&text, SHAPE_DEF_TEXT_MAX);
    int rc = shape_def_print(def, &text);
    rc = rc < 0 ? rc : shapelog_redefine(shape->log, buf_slice(&text), NULL);
    rc = rc < 0 ? rc : shape_set_header(shape, def);
    buf_fini(&text);
    q->unsaved = true;
    return rc;
}

struct shape *sequencer_make(struct sequencer *q, struct shape_def *def,
                             const struct shape_where *where, struct err *err)
{
    struct shape *shape = shape_new(q, def);
    if (shape == NULL) {
        no_memory(err);
        return NULL;
    }
    if (shape_make_log(q, shape, err) < 0) {
        shape_release(shape);
        return NULL;
    }
    if (shape_register(q, shape, where, err) < 0) {
        shapelog_remove(shape->log);
        shape_release(shape);
        return NULL;
    }
    obs_count(q->config.obs, OBS_SHAPES_CREATED, 1);
    log_event(
        q->config.log, LOG_INFO, "shape.created", LOG_TEXT("handle", shape_handle(shape)),
        LOG_SLICE("schema", def->table->schema), LOG_SLICE("table", def->table->name));
    if (preparation_start(q, shape) < 0) {
        struct err busy = {0};
        err_set(&busy, ERR_RETRY, "too many snapshots wait for a connection");
        busy.http_status = 503;
        sequencer_drop(q, shape, OBS_SHAPE_SNAPSHOT, &busy, busy.message);
    }
    shape_release(shape); /* the registry, or `dropped`, has its own */
    return shape;
}

void sequencer_drop(struct sequencer *q, struct shape *shape,
                    enum obs_shape_reason reason, const struct err *failure,
                    const char *detail)
{
    if (shape_state(shape) == SHAPE_GONE)
        return;
    /* First for good, then for all to see: nobody is told of a removal that a crash could still
     * undo. */
    shapelog_remove(shape->log);
    shape_set_failure(shape, failure);
    atomic_store(&shape->state, SHAPE_GONE);
    sequencer_unlink(q, shape);
    q->parent_shapes -= shape->def->table->kind == 'p';
    list_remove(&shape->in_touched);
    list_remove(&shape->in_committed);
    shape_retain(shape);
    list_push(&q->dropped, &shape->in_touched);
    shapes_erase(&q->shapes, shape);
    table_use_put(q, shape->use);
    shape->use = NULL;
    variants_leave(&q->variants, shape->class, shape->def);
    shape->class = NULL;
    q->unsaved = true;
    obs_shape_removed(q->config.obs, reason);
    log_event(
        q->config.log, LOG_INFO, "shape.removed", LOG_TEXT("handle", shape_handle(shape)),
        LOG_TEXT("reason", obs_shape_reason_name(reason)), LOG_TEXT("detail", detail));
    catalog_forget(q->config.catalog, shape->def->table->schema, shape->def->table->name);
    shape_notify(shape);
}

void sequencer_fail_snapshot(struct sequencer *q, struct shape *shape,
                             const struct err *why)
{
    struct err err = *why;
    bool plain = err.http_status == 409 || err.code == ERR_CANCELLED;
    if (!plain && err.http_status == 0)
        err.http_status = err.code == ERR_RETRY ? 503 : 500;
    struct buf words;
    buf_init(&words, sizeof err.message + 4096);
    clause_put_words(&words, err.message);
    bool of_a_row = err.http_status == 400;
    const char *detail = !of_a_row ? err.message : words.failed ? "" : words.ptr;
    sequencer_drop(q, shape, OBS_SHAPE_SNAPSHOT, plain ? NULL : &err, detail);
    buf_fini(&words);
}

void sequencer_release_dropped(struct sequencer *q)
{
    while (!list_empty(&q->dropped)) {
        struct shape *shape = LIST_ENTRY(q->dropped.next, struct shape, in_touched);
        list_remove(&shape->in_touched);
        shape_release(shape);
    }
}

void sequencer_drop_everything(struct sequencer *q, enum obs_shape_reason reason,
                               const char *detail)
{
    for (;;) {
        size_t it = 0;
        void *value;
        if (!map_next(&q->shapes.by_handle, &it, NULL, &value))
            break;
        sequencer_drop(q, value, reason, NULL, detail);
    }
    sequencer_release_dropped(q);
}

struct candidate {
    struct shape *shape;
    int64_t read_ms;
};

static int by_read_time(const void *a, const void *b)
{
    struct candidate x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x.read_ms < y.read_ms ? -1 : x.read_ms > y.read_ms;
}

/* Beyond the limit the least recently read go; a shape that was never read is young. */
void sequencer_evict(struct sequencer *q)
{
    size_t held = q->shapes.by_handle.len;
    if (q->config.max_shapes == 0 || held <= q->config.max_shapes)
        return;
    struct candidate *all = calloc(held, sizeof *all);
    if (all == NULL)
        return; /* the next look tries again */
    size_t count = 0;
    size_t it = 0;
    void *value;
    while (map_next(&q->shapes.by_handle, &it, NULL, &value)) {
        struct shape *shape = value;
        int64_t read_ms = atomic_load(&shape->read_ms);
        if (read_ms != 0)
            all[count++] = (struct candidate){shape, read_ms};
    }
    qsort(all, count, sizeof *all, by_read_time);
    size_t over = held - q->config.max_shapes;
    for (size_t i = 0; i < count && i < over; i++)
        sequencer_drop(q, all[i].shape, OBS_SHAPE_EVICTED, NULL, "");
    free(all);
}
