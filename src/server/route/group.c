/* The index of one relation's clauses that were made against one description of its table:
 * where a posting is put, and how it is taken out again. */
#include <stdlib.h>

#include "base/assert.h"
#include "server/route/index.h"

/* --- Types --- */

bool route_is_integer(struct sql_type type)
{
    return !type.array && ((type.base >= SQL_INT2 && type.base <= SQL_INT8) ||
                           (type.base >= SQL_DATE && type.base <= SQL_TIMESTAMPTZ));
}

bool route_is_plain(struct sql_type type)
{
    return route_is_integer(type) ||
           (!type.array && (type.base == SQL_BOOL || type.base == SQL_FLOAT4 ||
                            type.base == SQL_FLOAT8 || type.base == SQL_UUID ||
                            type.base == SQL_INTERVAL));
}

uint64_t group_key(const struct group *g, struct sql_type type, const struct sql_value *v)
{
    if (route_is_integer(type))
        return (uint64_t)v->i;
    return sql_value_hash(type, v, g->seed);
}

/* --- Columns --- */

struct column *group_column(struct group *g, size_t number)
{
    if (g->columns[number] != NULL)
        return g->columns[number];
    struct column *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->number = number;
    c->type = g->table->columns[number].type;
    c->type.typmod = -1;
    g->columns[number] = c;
    g->active[g->active_count++] = (uint16_t)number;
    return c;
}

/* --- Postings --- */

static int scan_put(struct group *g, struct posting *p)
{
    if (g->scan_len == g->scan_cap) {
        size_t cap = g->scan_cap == 0 ? 8 : g->scan_cap * 2;
        struct scanned *scan = realloc(g->scan, cap * sizeof(*scan));
        if (scan == NULL)
            return ERR_MEMORY;
        g->scan = scan;
        g->scan_cap = cap;
    }
    p->key = g->scan_len;
    g->scan[g->scan_len++] =
        (struct scanned){p, p->verified ? p->extra->programs[0] : NULL};
    return 0;
}

static void scan_take(struct group *g, struct posting *p)
{
    struct scanned moved = g->scan[--g->scan_len];
    g->scan[p->key] = moved;
    moved.posting->key = p->key;
}

static struct key_table *table_of(struct column *c, enum place place)
{
    return place == PLACE_EQUAL     ? &c->equal
           : place == PLACE_ELEMENT ? &c->elements
                                    : &c->prefixes;
}

static struct posting **list_of(struct column *c, enum place place)
{
    return place == PLACE_NULL   ? &c->is_null
           : place == PLACE_TRUE ? &c->is_true
                                 : &c->is_false;
}

/* A prefix's length rides in the value's, whose bytes are not kept. */
static uint32_t *length_of(struct column *c, const struct posting *p)
{
    return &c->prefix_lengths[p->extra->value.s.len];
}

int posting_put(struct group *g, struct posting *p, struct sql_type type)
{
    enum place place = (enum place)p->place;
    if (place == PLACE_SCAN)
        return scan_put(g, p);
    struct column *c = group_column(g, p->column);
    if (c == NULL)
        return ERR_MEMORY;
    if (place == PLACE_RANGE) {
        if (range_put(&c->ranges, c->type, p) < 0)
            return ERR_MEMORY;
    } else if (place == PLACE_NULL || place == PLACE_TRUE || place == PLACE_FALSE) {
        list_put(list_of(c, place), p);
    } else {
        if (key_table_reserve(table_of(c, place)) < 0)
            return ERR_MEMORY;
        key_table_put(table_of(c, place), type, p);
        if (place == PLACE_PREFIX)
            ++*length_of(c, p);
    }
    c->postings++;
    return 0;
}

void posting_take(struct group *g, struct posting *p)
{
    enum place place = (enum place)p->place;
    if (place == PLACE_SCAN) {
        scan_take(g, p);
        return;
    }
    struct column *c = g->columns[p->column];
    ASSERT(c->postings > 0);
    c->postings--;
    if (place == PLACE_RANGE) {
        range_remove(&c->ranges, c->type, p);
    } else if (place == PLACE_NULL || place == PLACE_TRUE || place == PLACE_FALSE) {
        list_take(list_of(c, place), p);
    } else {
        if (place == PLACE_PREFIX)
            --*length_of(c, p);
        key_table_remove(table_of(c, place), p);
    }
}

/* --- The group --- */

static bool group_allocate(struct group *g, size_t count)
{
    g->columns = calloc(count + 1, sizeof(*g->columns));
    g->active = calloc(count + 1, sizeof *g->active);
    g->reads = calloc(count + 1, sizeof *g->reads);
    g->order = calloc(count + 1, sizeof *g->order);
    g->row.values = calloc(count + 1, sizeof *g->row.values);
    g->row.states = calloc(count + 1, sizeof *g->row.states);
    return g->columns != NULL && g->active != NULL && g->reads != NULL &&
           g->order != NULL && g->row.values != NULL && g->row.states != NULL;
}

static bool group_get(void *ctx, size_t column, struct slice *text)
{
    const struct group *g = ctx;
    ASSERT(g->order[column] != UINT16_MAX);
    const struct value *v = &g->values[g->order[column]];
    *text = slice_make(v->ptr, v->len);
    return v->kind == VALUE_TEXT;
}

struct group *group_new(uint32_t oid, const struct sql_table *table, uint64_t seed,
                        struct arena *arena)
{
    struct group *g = calloc(1, sizeof *g);
    if (g == NULL)
        return NULL;
    g->oid = oid;
    g->table = table;
    g->seed = seed;
    g->row.table = table;
    g->row.get = group_get;
    g->row.ctx = g;
    g->row.arena = arena;
    if (!group_allocate(g, table->count)) {
        group_free(g);
        return NULL;
    }
    return g;
}

void group_free(struct group *g)
{
    if (g == NULL)
        return;
    ASSERT(g->filter_count == 0);
    for (size_t i = 0; i < g->active_count; i++) {
        struct column *c = g->columns[g->active[i]];
        key_table_fini(&c->equal);
        key_table_fini(&c->elements);
        key_table_fini(&c->prefixes);
        free(c);
    }
    name_set_fini(&g->filters);
    name_set_fini(&g->programs);
    free(g->scan);
    free(g->columns);
    free(g->active);
    free(g->reads);
    free(g->order);
    free(g->row.values);
    free(g->row.states);
    free(g);
}
