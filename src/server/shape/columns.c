/* Columns that definitions share; see columns.h. */
#include "server/shape/columns.h"

#include <stdlib.h>

#define HEADER_MAX_BYTES (8u << 20)

static int uint16_cmp(const void *a, const void *b)
{
    uint16_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static bool select_columns(struct shape_columns *c, const uint16_t *selected,
                           size_t count)
{
    if (selected == NULL)
        count = c->table->column_count;
    c->selected = calloc(2 * count + 1, sizeof *c->selected);
    if (c->selected == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        c->selected[i] = selected == NULL ? (uint16_t)i : selected[i];
    qsort(c->selected, count, sizeof *c->selected, uint16_cmp);
    c->selected_count = (uint16_t)count;
    c->all = selected == NULL;
    uint16_t *strict = c->selected + count;
    for (size_t i = 0; i < count; i++) {
        const struct table_column *column = &c->table->columns[c->selected[i]];
        if (column->not_null && column->pk_index < 0)
            strict[c->strict_count++] = c->selected[i];
    }
    c->strict = strict;
    return true;
}

struct shape_columns *shape_columns_new(struct table *table, const uint16_t *selected,
                                        size_t count, enum encode_replica replica)
{
    struct shape_columns *c = calloc(1, sizeof *c);
    struct buf text;
    size_t len;
    if (c == NULL)
        return NULL;
    atomic_init(&c->refs, 1);
    c->table = table_retain(table);
    c->replica = replica;
    if (!select_columns(c, selected, count)) {
        shape_columns_release(c);
        return NULL;
    }
    buf_init(&text, HEADER_MAX_BYTES);
    table_put_schema(&text, table, c->selected, c->selected_count);
    c->schema_header = buf_take(&text, &len);
    buf_fini(&text);
    c->plan = encode_plan_new(table, c->selected, c->selected_count, replica);
    if (c->schema_header == NULL || c->plan == NULL) {
        shape_columns_release(c);
        return NULL;
    }
    return c;
}

struct shape_columns *shape_columns_retain(struct shape_columns *columns)
{
    atomic_fetch_add_explicit(&columns->refs, 1, memory_order_relaxed);
    return columns;
}

void shape_columns_release(struct shape_columns *columns)
{
    if (columns == NULL ||
        atomic_fetch_sub_explicit(&columns->refs, 1, memory_order_acq_rel) != 1)
        return;
    table_release(columns->table);
    encode_plan_release(columns->plan);
    free(columns->selected);
    free(columns->schema_header);
    free(columns);
}

/* table_same lets a column be another one of the same name and type. */
static bool same_attnums(const struct table *a, const struct table *b)
{
    for (size_t i = 0; i < a->column_count; i++) {
        if (a->columns[i].attnum != b->columns[i].attnum)
            return false;
    }
    return true;
}

bool shape_columns_same(const struct shape_columns *a, const struct shape_columns *b)
{
    if (a == b)
        return true;
    /* The header tells of types what table_same doesn't: names, dimensions. */
    return a->all == b->all && a->replica == b->replica &&
           a->selected_count == b->selected_count &&
           memcmp(a->selected, b->selected, a->selected_count * sizeof *a->selected) ==
               0 &&
           strcmp(a->schema_header, b->schema_header) == 0 &&
           (a->table == b->table ||
            (table_same(a->table, b->table) && same_attnums(a->table, b->table) &&
             table_same_children(a->table, b->table) &&
             a->table->kind == b->table->kind &&
             a->table->is_partition == b->table->is_partition));
}
