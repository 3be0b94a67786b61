/*
 * What an index over many clauses can use of one: the tree of ANDs and ORs with its leaves told
 * apart (spec 6.8).
 *
 * A leaf is recognised only where comparing values of one type says exactly what the operator
 * says: a column, seen through casts that change nothing (varchar to text), against constants of
 * a type whose values look alike. Everything else is OTHER, and true.
 */

#include "sql/expr_tree.h"
#include "sql/ops.h"

struct maker {
    const struct sql_table *table;
    struct arena *arena;
    bool failed;
};

/* ---- looking through ---- */

static const struct sql_expr *uncollated(const struct sql_expr *e)
{
    while (e->kind == EXPR_COLLATE)
        e = e->args[0];
    return e;
}

/* The column that e is, but for casts that leave its value as it is, COLLATE "C" included. */
static const struct sql_expr *column_of(const struct sql_expr *e)
{
    for (;;) {
        if (e->kind == EXPR_COLLATE)
            e = e->args[0];
        else if (e->kind == EXPR_CAST && e->fn && e->fn->fn == sql_same &&
                 !e->type.array && e->type.typmod < 0 && type_category(e->type) == 'S')
            e = e->args[0];
        else
            return e->kind == EXPR_COLUMN ? e : NULL;
    }
}

static bool is_int(struct sql_type t)
{
    return !t.array && t.base >= SQL_INT2 && t.base <= SQL_INT8;
}

static bool is_float(struct sql_type t)
{
    return !t.array && (t.base == SQL_FLOAT4 || t.base == SQL_FLOAT8);
}

/* Of values by bytes; bpchar is not, and name compares with text alike. */
static bool is_bytewise(struct sql_type t)
{
    return !t.array &&
           (t.base == SQL_TEXT || t.base == SQL_VARCHAR || t.base == SQL_NAME);
}

static bool alike(struct sql_type a, struct sql_type b)
{
    return sql_type_same(a, b) || (is_int(a) && is_int(b)) ||
           (is_float(a) && is_float(b)) || (is_bytewise(a) && is_bytewise(b));
}

/* ---- leaves ---- */

static struct sql_value *values_of(struct maker *m, struct sql_expr *const *args,
                                   size_t n)
{
    struct sql_value *v = arena_calloc(m->arena, n, sizeof(*v));

    for (size_t i = 0; v && i < n; i++)
        v[i] = uncollated(args[i])->value;
    m->failed = m->failed || !v;
    return v;
}

static bool one_constant(const struct sql_expr *e, struct sql_type like)
{
    e = uncollated(e);
    return e->kind == EXPR_CONST && !e->value.null && alike(e->type, like);
}

static void set(struct sql_cond *c, enum sql_cond_kind kind,
                const struct sql_expr *column)
{
    c->kind = kind;
    c->exact = kind != SQL_COND_PREFIX;
    c->column = column->column;
    c->type = column->type;
    c->type.typmod = -1;
}

static void set_range(struct sql_cond *c, const struct sql_value *v, sql_function_fn *fn)
{
    if (fn == sql_gt || fn == sql_ge) {
        c->low = v;
        c->low_open = fn == sql_gt;
    } else {
        c->high = v;
        c->high_open = fn == sql_lt;
    }
}

static void comparison(struct maker *m, const struct sql_expr *e, struct sql_cond *c)
{
    const struct sql_expr *column = column_of(e->args[0]);
    sql_function_fn *fn = e->fn->fn;
    bool range = fn == sql_lt || fn == sql_le || fn == sql_gt || fn == sql_ge;

    if (!column || !one_constant(e->args[1], column->type) || (fn != sql_eq && !range))
        return;
    set(c, range ? SQL_COND_RANGE : SQL_COND_IN, column);
    c->values = values_of(m, e->args + 1, 1);
    c->value_count = 1;
    if (range) {
        set_range(c, c->values, fn);
        c->values = NULL;
        c->value_count = 0;
    }
}

/* What a LIKE pattern begins with, without its escapes; empty when it begins with a wildcard. */
static struct slice prefix_of(struct maker *m, struct slice pattern)
{
    char *text = arena_alloc(m->arena, pattern.len);
    size_t n = 0;

    m->failed = m->failed || !text;
    for (size_t i = 0; text && i < pattern.len; i++) {
        char at = pattern.ptr[i];

        if (at == '%' || at == '_')
            break;
        if (at == '\\' && ++i == pattern.len)
            break;
        text[n++] = pattern.ptr[i];
    }
    return slice_make(text, text ? n : 0);
}

static void like(struct maker *m, const struct sql_expr *e, struct sql_cond *c)
{
    const struct sql_expr *column = column_of(e->args[0]);
    struct sql_value *v;
    struct slice prefix;

    if (!column || !is_bytewise(column->type) || !one_constant(e->args[1], column->type))
        return;
    prefix = prefix_of(m, uncollated(e->args[1])->value.s);
    v = arena_calloc(m->arena, 1, sizeof(*v));
    m->failed = m->failed || !v;
    if (prefix.len == 0 || !v)
        return;
    set(c, SQL_COND_PREFIX, column);
    v->s = prefix;
    c->values = v;
    c->value_count = 1;
}

static void contains(const struct sql_expr *e, struct sql_cond *c)
{
    const struct sql_expr *column = e->args[0];
    const struct sql_expr *list = e->args[1];
    const struct sql_array *array = list->value.array;

    if (column->kind != EXPR_COLUMN || list->kind != EXPR_CONST || list->value.null ||
        !column->type.array || !sql_type_same(list->type, column->type) ||
        sql_array_count(array) == 0)
        return;
    for (size_t i = 0; i < sql_array_count(array); i++) {
        if (sql_array_items(array)[i].null) /* contained in nothing: rare, left to expr */
            return;
    }
    set(c, SQL_COND_CONTAINS, column);
    c->type = type_element(c->type);
    c->values = sql_array_items(array);
    c->value_count = sql_array_count(array);
}

static void call(struct maker *m, const struct sql_expr *e, struct sql_cond *c)
{
    if (e->fn->kind != SQL_OPERATOR || e->count != 2)
        return;
    if (e->fn->fn == sql_like)
        like(m, e, c);
    else if (strcmp(e->fn->name, "@>") == 0 && e->args[0]->type.array)
        contains(e, c);
    else
        comparison(m, e, c);
}

static void in_list(struct maker *m, const struct sql_expr *e, struct sql_cond *c)
{
    const struct sql_expr *column = column_of(e->args[0]);
    size_t n = 0;
    struct sql_value *v;

    if (!column || e->fn->fn != sql_eq)
        return;
    v = values_of(m, e->args + 1, e->count - 1);
    for (size_t i = 1; v && i < e->count; i++) {
        if (expr_is_null(e->args[i]))
            continue; /* equals nothing */
        if (!one_constant(e->args[i], column->type))
            return;
        v[n++] = e->args[i]->value;
    }
    if (n == 0)
        return;
    set(c, SQL_COND_IN, column);
    c->values = v;
    c->value_count = n;
}

/* column = ANY (constant array), or constant = ANY (array column). */
static void any(struct maker *m, const struct sql_expr *e, struct sql_cond *c)
{
    const struct sql_expr *column = column_of(e->args[0]);
    const struct sql_expr *list = e->args[1];
    struct sql_value *v;
    size_t n = 0;

    if (e->fn->fn != sql_eq)
        return;
    if (list->kind == EXPR_COLUMN && one_constant(e->args[0], type_element(list->type))) {
        set(c, SQL_COND_MEMBER, list);
        c->type = type_element(c->type);
        c->values = values_of(m, e->args, 1);
        c->value_count = 1;
        return;
    }
    if (!column || list->kind != EXPR_CONST || list->value.null ||
        !alike(type_element(list->type), column->type))
        return;
    v = arena_calloc(m->arena, sql_array_count(list->value.array), sizeof(*v));
    m->failed = m->failed || !v;
    for (size_t i = 0; v && i < sql_array_count(list->value.array); i++) {
        const struct sql_value *item = &sql_array_items(list->value.array)[i];

        if (!item->null)
            v[n++] = *item;
    }
    if (n == 0)
        return;
    set(c, SQL_COND_IN, column);
    c->values = v;
    c->value_count = n;
}

/* A boolean column or a test of one; NOT b is not true where b is NULL, as FALSE says. */
static void boolean(const struct sql_expr *e, struct sql_cond *c)
{
    if (e->kind == EXPR_COLUMN)
        set(c, SQL_COND_TRUE, e);
    else if (e->args[0]->kind != EXPR_COLUMN)
        return;
    else if (e->kind == EXPR_IS_NULL)
        set(c, SQL_COND_NULL, e->args[0]);
    else
        set(c, e->kind == EXPR_IS_TRUE ? SQL_COND_TRUE : SQL_COND_FALSE, e->args[0]);
}

static void leaf(struct maker *m, const struct sql_expr *e, struct sql_cond *c)
{
    switch ((int)e->kind) {
    case EXPR_CONST:
        c->exact = true;
        c->kind = !e->value.null && e->value.b ? SQL_COND_ALWAYS : SQL_COND_NEVER;
        break;
    case EXPR_COLUMN:
    case EXPR_NOT:
    case EXPR_IS_NULL:
    case EXPR_IS_TRUE:
    case EXPR_IS_FALSE:
        boolean(e, c);
        break;
    case EXPR_CALL:
        call(m, e, c);
        break;
    case EXPR_IN:
        in_list(m, e, c);
        break;
    case EXPR_ANY:
        any(m, e, c);
        break;
    default:
        break;
    }
}

/* ---- ranges over one column ---- */

static const struct sql_value *tighter(const struct sql_cond *a, const struct sql_cond *b,
                                       bool low, bool *open)
{
    const struct sql_value *x = low ? a->low : a->high;
    const struct sql_value *y = low ? b->low : b->high;
    bool x_open = low ? a->low_open : a->high_open;
    bool y_open = low ? b->low_open : b->high_open;
    int order;

    if (!x || !y) {
        *open = x ? x_open : y_open;
        return x ? x : y;
    }
    order = sql_value_cmp(a->type, x, y);
    *open = order == 0 ? x_open || y_open : (order > 0) == low ? x_open : y_open;
    return order == 0 || (order > 0) == low ? x : y;
}

/* Joins ranges of an AND; the first of each column takes the others. Its expr is no longer all of
 * it, so the AND's is what to verify with where something isn't exact. */
static size_t join_ranges(struct maker *m, struct sql_cond *list, size_t count)
{
    size_t kept = 0;
    struct sql_cond **first = arena_calloc(m->arena, m->table->count, sizeof(*first));

    m->failed = m->failed || !first;
    for (size_t i = 0; first && i < count; i++) {
        struct sql_cond *c = &list[i];
        struct sql_cond *into;
        bool low_open, high_open;
        const struct sql_value *low;

        if (c->kind != SQL_COND_RANGE || !first[c->column]) {
            list[kept] = *c;
            if (c->kind == SQL_COND_RANGE)
                first[c->column] = &list[kept];
            kept++;
            continue;
        }
        into = first[c->column];
        low = tighter(into, c, true, &low_open);
        into->high = tighter(into, c, false, &high_open);
        into->low = low;
        into->low_open = low_open;
        into->high_open = high_open;
    }
    return kept;
}

/* ---- the tree ---- */

// NOLINTNEXTLINE(misc-no-recursion): at most SQL_EXPR_DEPTH_MAX levels, by expr_new
static void make(struct maker *m, const struct sql_expr *e, struct sql_cond *c)
{
    struct sql_cond *list;

    *c = (struct sql_cond){.kind = SQL_COND_OTHER, .expr = e};
    if (e->kind != EXPR_AND && e->kind != EXPR_OR) {
        leaf(m, e, c);
        return;
    }
    list = arena_calloc(m->arena, e->count, sizeof(*list));
    if (!list) {
        m->failed = true;
        return;
    }
    c->kind = e->kind == EXPR_AND ? SQL_COND_AND : SQL_COND_OR;
    c->exact = true;
    c->children = list;
    c->child_count = e->count;
    for (size_t i = 0; i < e->count && !m->failed; i++) {
        make(m, e->args[i], &list[i]);
        c->exact = c->exact && list[i].exact;
    }
    if (c->kind == SQL_COND_AND && !m->failed)
        c->child_count = join_ranges(m, list, c->child_count);
}

int sql_cond_make(const struct sql_expr *expr, const struct sql_table *table,
                  struct arena *arena, const struct sql_cond **out, struct err *err)
{
    struct maker m = {table, arena, false};
    struct sql_cond *c = arena_calloc(arena, 1, sizeof(*c));

    if (c)
        make(&m, expr, c);
    if (!c || m.failed)
        return err_set(err, ERR_MEMORY, "out of memory for an index of where-clauses");
    *out = c;
    return 0;
}
