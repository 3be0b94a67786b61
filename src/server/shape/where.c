/* See where.h. */
#include "server/shape/where.h"

#include <stdlib.h>

#define WHERE_ARENA_MAX ((size_t)256 << 20)

static int no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "no memory for a where clause");
}

static int put_text(struct shape_where *where, struct err *err)
{
    struct buf text;
    buf_init(&text, SHAPE_WHERE_TEXT_MAX);
    sql_expr_print(where->expr, table_sql(where->table), &text);
    int rc = text.failed;
    if (rc == 0) {
        where->text = slice_make(arena_dup(&where->arena, buf_slice(&text)), text.len);
        rc = where->text.ptr == NULL ? ERR_MEMORY : 0;
    }
    buf_fini(&text);
    if (rc == ERR_LIMIT)
        return err_set(err, rc,
                       "WHERE clause is too complex: with all casts written out "
                       "it is longer than %u bytes",
                       SHAPE_WHERE_TEXT_MAX);
    return rc < 0 ? no_memory(err) : 0;
}

static int list_columns(struct shape_where *where, struct err *err)
{
    size_t count = where->table->column_count;
    bool *used = arena_calloc(&where->arena, count + 1, sizeof *used);
    uint16_t *columns = arena_calloc(&where->arena, count + 1, sizeof *columns);
    if (used == NULL || columns == NULL)
        return no_memory(err);
    sql_expr_columns(where->expr, used);
    for (size_t i = 0; i < count; i++) {
        if (used[i])
            columns[where->column_count++] = (uint16_t)i;
    }
    where->columns = columns;
    where->maps_case = sql_expr_maps_case(where->expr);
    return 0;
}

static struct shape_where *where_new(struct table *table)
{
    struct shape_where *where = calloc(1, sizeof *where);
    if (where == NULL)
        return NULL;
    atomic_init(&where->refs, 1);
    where->table = table_retain(table);
    arena_init(&where->arena, WHERE_ARENA_MAX);
    return where;
}

/* With the tree made, or not (rc). */
static int where_finish(struct shape_where *where, int rc, struct shape_where **out,
                        struct err *err)
{
    if (rc == 0)
        rc = put_text(where, err);
    if (rc == 0)
        rc = list_columns(where, err);
    if (rc < 0)
        shape_where_release(where);
    else
        *out = where;
    return rc;
}

int shape_where_parse(struct table *table, struct slice text,
                      const struct sql_params *params, struct shape_where **out,
                      struct err *err)
{
    *out = NULL;
    struct shape_where *where = where_new(table);
    if (where == NULL)
        return no_memory(err);
    int rc =
        sql_where_parse(text, table_sql(table), params, &where->arena, &where->expr, err);
    return where_finish(where, rc, out, err);
}

int shape_where_reparse(struct table *table, struct slice text, struct shape_where **out,
                        struct err *err)
{
    *out = NULL;
    struct shape_where *where = where_new(table);
    if (where == NULL)
        return no_memory(err);
    int rc = sql_where_reparse(text, table_sql(table), &where->arena, &where->expr, err);
    return where_finish(where, rc, out, err);
}

struct shape_where *shape_where_retain(struct shape_where *where)
{
    atomic_fetch_add_explicit(&where->refs, 1, memory_order_relaxed);
    return where;
}

void shape_where_release(struct shape_where *where)
{
    if (where == NULL ||
        atomic_fetch_sub_explicit(&where->refs, 1, memory_order_acq_rel) != 1)
        return;
    arena_fini(&where->arena);
    table_release(where->table);
    free(where);
}
