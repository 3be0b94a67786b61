/* The clauses of a subset against its shape's table; see subset_params.h. */
#include "server/http/subset_params.h"

/* The table as the clauses may see it: only queryable columns, and of enums any label, since
 * Postgres will judge. */
static struct sql_table *visible_table(const struct shape_params *p,
                                       const struct table *table, struct arena *arena)
{
    const struct sql_table *all = table_sql(table);
    struct sql_table *t = arena_alloc(arena, sizeof *t);
    struct sql_column *columns = arena_calloc(arena, all->count, sizeof *columns);
    struct sql_enum *enums = arena_calloc(arena, all->count, sizeof *enums);

    if (!t || !columns || !enums)
        return NULL;
    *t = *all;
    t->columns = columns;
    for (size_t i = 0; i < all->count; i++) {
        columns[i] = all->columns[i];
        columns[i].hidden = p->has_queryable;
        if (!all->columns[i].enumeration)
            continue;
        enums[i] = *all->columns[i].enumeration;
        enums[i].any_label = true;
        columns[i].enumeration = &enums[i];
    }
    for (size_t i = 0; p->has_queryable && i < p->queryable.count; i++) {
        int column = table_column_index(table, p->queryable.names[i]);

        if (column >= 0)
            columns[column].hidden = false;
    }
    return t;
}

int subset_params_refuse(const char *field, const struct err *err, struct arena *arena,
                         struct param_errors *errors)
{
    const char *text = arena_dup(arena, slice_of(err->message));

    if (!text)
        return ERR_MEMORY;
    errors->items[0] =
        (struct param_error){.field = field, .text = text, .in_subset = true};
    errors->count = 1;
    return ERR_INVALID;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text);
    size_t end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* What sql said of a clause. */
static int refuse_clause(const char *field, struct err *err, struct arena *arena,
                         struct param_errors *errors)
{
    if (err->code == ERR_MEMORY || err->code == ERR_RETRY)
        return err->code;
    if (ends_with(err->message, SQL_NO_SUBQUERIES))
        err_set(err, err->code, "Subqueries are not allowed in subsets");
    return subset_params_refuse(field, err, arena, errors);
}

int subset_params_resolve(const struct shape_params *p, const struct table *table,
                          const struct selection *selection, struct arena *arena,
                          struct subset_clauses *out, struct param_errors *errors)
{
    const struct subset_params *s = p->subset;
    struct sql_table *visible;
    struct err err = {0};

    *out = (struct subset_clauses){.where = NULL};
    if (s->errors.count > 0) {
        *errors = s->errors;
        return ERR_INVALID;
    }
    visible = visible_table(p, table, arena);
    if (!visible)
        return ERR_MEMORY;
    if (s->where.len > 0 &&
        sql_where_parse(s->where, visible, &s->values, arena, &out->where, &err) != 0)
        return refuse_clause("where", &err, arena, errors);
    if (s->order_by.len > 0 &&
        sql_order_parse(s->order_by, visible, selection->columns, selection->count, arena,
                        &out->order, &err) != 0)
        return refuse_clause("order_by", &err, arena, errors);
    return 0;
}
