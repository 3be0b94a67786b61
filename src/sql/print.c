/*
 * The tree as SQL. Postgres, and our own parser, resolve this text to the same functions again:
 * every operand has exactly the type that its function takes, since the casts are written out.
 *
 *   constant   '1'::integer, E'a\\b'::text, NULL::integer
 *   operator   ("a" = '1'::integer)
 *   function   pg_catalog."lower"("t")
 *   test       ("a" IS NULL)
 */

#include "sql/expr_tree.h"

struct print {
    const struct sql_table *table;
    struct buf *out;
};

void expr_put_name(struct buf *out, struct slice name)
{
    buf_putc(out, '"');
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '"')
            buf_putc(out, '"');
        buf_putc(out, name.ptr[i]);
    }
    buf_putc(out, '"');
}

/* With E where there is a backslash, so that no setting of the session matters. */
static void put_string(struct buf *out, struct slice s)
{
    if (s.len > 0 && memchr(s.ptr, '\\', s.len))
        buf_putc(out, 'E');
    buf_putc(out, '\'');
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\'' || s.ptr[i] == '\\')
            buf_putc(out, s.ptr[i]);
        buf_putc(out, s.ptr[i]);
    }
    buf_putc(out, '\'');
}

static void put_type(struct buf *out, const struct sql_expr *e)
{
    if (!e->enumeration) {
        /* "character" without a length would be character(1). */
        if (e->type.base == SQL_BPCHAR && e->type.typmod < 0)
            buf_puts(out, e->type.array ? "bpchar[]" : "bpchar");
        else
            sql_type_print(e->type, out);
        return;
    }
    expr_put_name(out, e->enumeration->schema);
    buf_putc(out, '.');
    expr_put_name(out, e->enumeration->name);
    if (e->type.array)
        buf_puts(out, "[]");
}

static void put_const(struct buf *out, const struct sql_expr *e)
{
    if (e->value.null)
        buf_puts(out, "NULL");
    else
        put_string(out, e->text);
    buf_puts(out, "::");
    put_type(out, e);
}

static void put(const struct print *p, const struct sql_expr *e);

// NOLINTBEGIN(misc-no-recursion): at most SQL_EXPR_DEPTH_MAX levels, by expr_new

static void put_list(const struct print *p, const struct sql_expr *e, size_t from,
                     const char *between)
{
    for (size_t i = from; i < e->count; i++) {
        if (i > from)
            buf_puts(p->out, between);
        put(p, e->args[i]);
    }
}

static void put_call(const struct print *p, const struct sql_expr *e)
{
    if (e->fn->kind == SQL_FUNCTION) {
        buf_puts(p->out, "pg_catalog.");
        expr_put_name(p->out, slice_of(e->fn->name));
        buf_putc(p->out, '(');
        put_list(p, e, 0, ", ");
    } else if (e->count == 1) {
        buf_printf(p->out, "(%s ", e->fn->name);
        put(p, e->args[0]);
    } else {
        buf_putc(p->out, '(');
        put(p, e->args[0]);
        buf_printf(p->out, " %s ", e->fn->name);
        put(p, e->args[1]);
    }
    buf_putc(p->out, ')');
}

static void put_cast(const struct print *p, const struct sql_expr *e)
{
    buf_putc(p->out, '(');
    put(p, e->args[0]);
    buf_puts(p->out, ")::");
    put_type(p->out, e);
}

static void put_case(const struct print *p, const struct sql_expr *e)
{
    buf_puts(p->out, "(CASE");
    for (size_t i = 0; i + 1 < e->count; i += 2) {
        buf_puts(p->out, " WHEN ");
        put(p, e->args[i]);
        buf_puts(p->out, " THEN ");
        put(p, e->args[i + 1]);
    }
    buf_puts(p->out, " ELSE ");
    put(p, e->args[e->count - 1]);
    buf_puts(p->out, " END)");
}

/* Kinds that are (args[0] WORDS …). */
static void put_after(const struct print *p, const struct sql_expr *e, const char *words)
{
    buf_putc(p->out, '(');
    put(p, e->args[0]);
    buf_puts(p->out, words);
    if (e->count > 1)
        put_list(p, e, 1, ", ");
    buf_putc(p->out, ')');
}

static void put_named(const struct print *p, const struct sql_expr *e, const char *before,
                      const char *after)
{
    buf_puts(p->out, before);
    put_list(p, e, 0, ", ");
    buf_puts(p->out, after);
}

static void put_array_test(const struct print *p, const struct sql_expr *e)
{
    buf_putc(p->out, '(');
    put(p, e->args[0]);
    buf_printf(p->out, " %s %s(", e->fn->name, e->kind == EXPR_ANY ? "ANY" : "ALL");
    put(p, e->args[1]);
    buf_puts(p->out, "))");
}

/* ((array)[1][2]), ((array)[1:2][:3]). */
static void put_subscripts(const struct print *p, const struct sql_expr *e)
{
    size_t step = e->kind == EXPR_SLICE ? 2 : 1;

    buf_puts(p->out, "((");
    put(p, e->args[0]);
    buf_putc(p->out, ')');
    for (size_t i = 1; i < e->count; i += step) {
        buf_putc(p->out, '[');
        if (!(e->omitted >> (i - 1) & 1))
            put(p, e->args[i]);
        if (step == 2) {
            buf_puts(p->out, " : ");
            if (!(e->omitted >> i & 1))
                put(p, e->args[i + 1]);
        }
        buf_putc(p->out, ']');
    }
    buf_putc(p->out, ')');
}

static void put(const struct print *p, const struct sql_expr *e)
{
    if (p->out->failed)
        return;
    switch (e->kind) {
    case EXPR_CONST:
        put_const(p->out, e);
        break;
    case EXPR_COLUMN:
        expr_put_name(p->out, p->table->columns[e->column].name);
        break;
    case EXPR_CALL:
        put_call(p, e);
        break;
    case EXPR_CAST:
        put_cast(p, e);
        break;
    case EXPR_COLLATE:
        put_after(p, e, " COLLATE \"C\"");
        break;
    case EXPR_AND:
    case EXPR_OR:
        buf_putc(p->out, '(');
        put_list(p, e, 0, e->kind == EXPR_AND ? " AND " : " OR ");
        buf_putc(p->out, ')');
        break;
    case EXPR_NOT:
        buf_puts(p->out, "(NOT ");
        put(p, e->args[0]);
        buf_putc(p->out, ')');
        break;
    case EXPR_IS_NULL:
        put_after(p, e, " IS NULL");
        break;
    case EXPR_IS_TRUE:
        put_after(p, e, " IS TRUE");
        break;
    case EXPR_IS_FALSE:
        put_after(p, e, " IS FALSE");
        break;
    case EXPR_DISTINCT:
        put_after(p, e, " IS DISTINCT FROM ");
        break;
    case EXPR_IN:
        put_after(p, e, " IN (");
        buf_putc(p->out, ')');
        break;
    case EXPR_ANY:
    case EXPR_ALL:
        put_array_test(p, e);
        break;
    case EXPR_ELEMENT:
    case EXPR_SLICE:
        put_subscripts(p, e);
        break;
    case EXPR_CASE:
        put_case(p, e);
        break;
    case EXPR_COALESCE:
        put_named(p, e, "COALESCE(", ")");
        break;
    case EXPR_GREATEST:
        put_named(p, e, "GREATEST(", ")");
        break;
    case EXPR_LEAST:
        put_named(p, e, "LEAST(", ")");
        break;
    case EXPR_ARRAY:
        put_named(p, e, "(ARRAY[", "]::");
        put_type(p->out, e);
        buf_putc(p->out, ')');
        break;
    }
}

// NOLINTEND(misc-no-recursion)

void sql_expr_print(const struct sql_expr *expr, const struct sql_table *table,
                    struct buf *out)
{
    struct print p = {table, out};

    put(&p, expr);
}

// NOLINTNEXTLINE(misc-no-recursion): at most SQL_EXPR_DEPTH_MAX levels, by expr_new
void sql_expr_columns(const struct sql_expr *expr, bool *used)
{
    if (expr->kind == EXPR_COLUMN)
        used[expr->column] = true;
    for (size_t i = 0; i < expr->count; i++)
        sql_expr_columns(expr->args[i], used);
}

// NOLINTNEXTLINE(misc-no-recursion): at most SQL_EXPR_DEPTH_MAX levels, by expr_new
bool sql_expr_maps_case(const struct sql_expr *expr)
{
    bool maps = expr_maps_case(expr->fn) && expr->collation.kind == SQL_COLLATION_DEFAULT;

    for (size_t i = 0; i < expr->count && !maps; i++)
        maps = sql_expr_maps_case(expr->args[i]);
    return maps;
}
