/*
 * Operators and what the grammar writes as one: ANY, IN, BETWEEN, IS DISTINCT FROM, NULLIF.
 *
 * BETWEEN becomes its comparisons, as in Postgres. x IN (…) with constants becomes one node over
 * the list; items that are no constants become equalities of their own.
 */

#include "sql/resolve.h"
#include "sql/value.h"

static const PgQuery__List *list_of(const PgQuery__Node *node)
{
    return node && node->node_case == PG_QUERY__NODE__NODE_LIST ? node->list : NULL;
}

static struct sql_expr *binary(struct resolve *r, const char *name, struct sql_expr *a,
                               struct sql_expr *b, int location)
{
    struct sql_expr *args[2] = {a, b};

    return a && b ? expr_call(r, SQL_OPERATOR, name, args, 2, location) : NULL;
}

static struct sql_expr *both(struct resolve *r, bool is_or, struct sql_expr *a,
                             struct sql_expr *b, int location)
{
    struct sql_expr *args[2] = {a, b};

    return a && b ? expr_and(r, is_or, args, 2, location) : NULL;
}

static const PgQuery__RowExpr *row_of(const PgQuery__Node *node)
{
    return node && node->node_case == PG_QUERY__NODE__NODE_ROW_EXPR ? node->row_expr
                                                                    : NULL;
}

/* (a, b) = (c, d) is a = c AND b = d; <> is the OR of its parts. */
static struct sql_expr *rows(struct resolve *r, const PgQuery__AExpr *a, const char *name)
{
    const PgQuery__RowExpr *left = a->lexpr->row_expr;
    const PgQuery__RowExpr *right = a->rexpr->row_expr;
    bool is_or = strcmp(name, "<>") == 0;
    struct sql_expr **xs, **ys;

    if ((!is_or && strcmp(name, "=") != 0) || left->n_args != right->n_args ||
        left->n_args == 0)
        return resolve_refuse(r, a->location, "Could not select an operator overload");
    xs = resolve_list(r, left->args, left->n_args);
    ys = xs ? resolve_list(r, right->args, right->n_args) : NULL;
    for (size_t i = 0; ys && r->rc == 0 && i < left->n_args; i++)
        xs[i] = binary(r, name, xs[i], ys[i], a->location);
    return r->rc == 0 ? expr_and(r, is_or, xs, left->n_args, a->location) : NULL;
}

static struct sql_expr *unary_or_binary(struct resolve *r, const PgQuery__AExpr *a,
                                        const char *name)
{
    struct sql_expr *args[2];
    size_t count = 0;

    if (row_of(a->lexpr) && row_of(a->rexpr))
        return rows(r, a, name);
    if (a->lexpr)
        args[count++] = resolve_node(r, a->lexpr);
    if (r->rc == 0 && a->rexpr)
        args[count++] = resolve_node(r, a->rexpr);
    if (r->rc != 0 || count == 0)
        return NULL;
    return expr_call(r, SQL_OPERATOR, name, args, count, a->location);
}

/* x op ANY (array): an untyped array has elements of what the operator takes. */
static struct sql_expr *any_or_all(struct resolve *r, const PgQuery__AExpr *a,
                                   const char *name)
{
    bool all = a->kind == PG_QUERY__A__EXPR__KIND__AEXPR_OP_ALL;
    struct sql_expr *lhs = resolve_node(r, a->lexpr);
    struct sql_expr *rhs = lhs ? resolve_node(r, a->rexpr) : NULL;
    struct sql_expr node = {.kind = all ? EXPR_ALL : EXPR_ANY, .location = a->location};
    struct sql_expr element;
    struct sql_expr *args[2] = {lhs, &element};

    if (!rhs)
        return NULL;
    if (!rhs->type.array && rhs->type.base != SQL_UNKNOWN)
        return resolve_refuse(r, rhs->location, "argument of %s must be an array",
                              all ? "ALL" : "ANY");
    /* Stands for an element while the operator is looked for. */
    element = (struct sql_expr){.kind = EXPR_COLUMN,
                                .type = type_element(rhs->type),
                                .enumeration = rhs->enumeration,
                                .collation = rhs->collation,
                                .location = rhs->location};
    if (rhs->type.base == SQL_UNKNOWN) {
        element.kind = EXPR_CONST;
        element.value.null = true;
    }
    if (!call_resolve(r, SQL_OPERATOR, name, args, 2, &node))
        return NULL;
    if (node.type.base != SQL_BOOL)
        return resolve_refuse(r, a->location,
                              "op %s (array) requires operator to yield "
                              "boolean",
                              all ? "ALL" : "ANY");
    args[1] = expr_coerce(r, rhs, type_array(node.fn_types[1]),
                          rhs->enumeration ? rhs->enumeration : lhs->enumeration, false,
                          a->location);
    return args[1] ? expr_make(r, &node, args, 2) : NULL;
}

/* ---- IN ---- */

static bool cast_all(struct resolve *r, struct sql_expr **args, size_t count,
                     struct sql_type type, const struct sql_enum *enumeration,
                     int location)
{
    for (size_t i = 0; i < count; i++) {
        args[i] = expr_coerce(r, args[i], type, enumeration, false, location);
        if (!args[i])
            return false;
    }
    return true;
}

/* x = ANY of those items that are constants, once they have a common type with x. NULL without an
 * error: they have none, or are fewer than two. */
static struct sql_expr *constants_in(struct resolve *r, struct sql_expr *lhs,
                                     struct sql_expr **items, size_t *count, int location)
{
    struct sql_expr node = {.kind = EXPR_IN, .location = location};
    struct sql_expr **args =
        arena_calloc(r->arena, *count + 1, sizeof(struct sql_expr *));
    const struct sql_enum *enumeration;
    struct sql_type type;
    size_t n = 1;
    size_t kept = 0;

    if (!args)
        return resolve_memory(r);
    args[0] = lhs;
    for (size_t i = 0; i < *count; i++) {
        if (expr_is_const(items[i]))
            args[n++] = items[i];
    }
    if (n < 3 || !common_type(args, n, &type, &enumeration))
        return NULL;
    if (!cast_all(r, args + 1, n - 1, type, enumeration, location) ||
        !call_resolve(r, SQL_OPERATOR, "=", args, 2, &node) ||
        !cast_all(r, args + 1, n - 1, node.fn_types[1], enumeration, location))
        return NULL;
    /* int8 IN (float4, …) is float8 = float4: of one type the text means the same once more. */
    if (common_type(args, n, &type, &enumeration) &&
        !sql_type_same(type, node.fn_types[1]) &&
        (!cast_all(r, args + 1, n - 1, type, enumeration, location) ||
         !call_resolve(r, SQL_OPERATOR, "=", args, 2, &node)))
        return NULL;
    for (size_t i = 0; i < *count; i++) {
        if (!expr_is_const(items[i]))
            items[kept++] = items[i];
    }
    *count = kept;
    return expr_make(r, &node, args, n);
}

static struct sql_expr *in_list(struct resolve *r, const PgQuery__AExpr *a, bool negated)
{
    const PgQuery__List *list = list_of(a->rexpr);
    struct sql_expr *lhs = resolve_node(r, a->lexpr);
    struct sql_expr **items =
        lhs && list ? resolve_list(r, list->items, list->n_items) : NULL;
    struct sql_expr **terms;
    struct sql_expr *e;
    size_t count, n = 0;

    if (!items)
        return NULL;
    count = list->n_items;
    terms = arena_calloc(r->arena, count + 1, sizeof(struct sql_expr *));
    if (!terms)
        return resolve_memory(r);
    terms[0] = constants_in(r, lhs, items, &count, a->location);
    n = terms[0] ? 1 : 0;
    for (size_t i = 0; r->rc == 0 && i < count; i++) {
        terms[n] = binary(r, "=", lhs, items[i], a->location);
        n++;
    }
    if (r->rc != 0)
        return NULL;
    e = expr_and(r, true, terms, n, a->location);
    return negated ? expr_not(r, e, a->location) : e;
}

/* ---- BETWEEN ---- */

/* low <= x AND x <= high, or its negation. */
static struct sql_expr *within(struct resolve *r, struct sql_expr *x,
                               struct sql_expr *low, struct sql_expr *high, bool negated,
                               int location)
{
    struct sql_expr *a = binary(r, negated ? "<" : ">=", x, low, location);
    struct sql_expr *b = a ? binary(r, negated ? ">" : "<=", x, high, location) : NULL;

    return both(r, negated, a, b, location);
}

static struct sql_expr *between(struct resolve *r, const PgQuery__AExpr *a, bool negated,
                                bool symmetric)
{
    const PgQuery__List *list = list_of(a->rexpr);
    struct sql_expr *x = resolve_node(r, a->lexpr);
    struct sql_expr **ends =
        x && list ? resolve_list(r, list->items, list->n_items) : NULL;
    struct sql_expr *one;

    if (!ends || list->n_items != 2)
        return NULL;
    one = within(r, x, ends[0], ends[1], negated, a->location);
    if (!symmetric || !one)
        return one;
    return both(r, !negated, one, within(r, x, ends[1], ends[0], negated, a->location),
                a->location);
}

/* ---- the rest ---- */

static struct sql_expr *distinct(struct resolve *r, const PgQuery__AExpr *a)
{
    struct sql_expr node = {.kind = EXPR_DISTINCT, .location = a->location};
    struct sql_expr *args[2];

    args[0] = resolve_node(r, a->lexpr);
    args[1] = args[0] ? resolve_node(r, a->rexpr) : NULL;
    if (!args[1] || !call_resolve(r, SQL_OPERATOR, "=", args, 2, &node))
        return NULL;
    if (a->kind == PG_QUERY__A__EXPR__KIND__AEXPR_NOT_DISTINCT)
        return expr_not(r, expr_make(r, &node, args, 2), a->location);
    return expr_make(r, &node, args, 2);
}

/* NULLIF(a, b) is CASE WHEN a = b THEN NULL ELSE a END. */
static struct sql_expr *null_if(struct resolve *r, const PgQuery__AExpr *a)
{
    struct sql_expr *x = resolve_node(r, a->lexpr);
    struct sql_expr *y = x ? resolve_node(r, a->rexpr) : NULL;
    struct sql_expr *equal = binary(r, "=", x, y, a->location);
    struct sql_expr node = {.kind = EXPR_CASE, .location = a->location};
    struct sql_expr *args[3] = {equal, NULL, x};

    if (!equal)
        return NULL;
    if (x->type.base == SQL_UNKNOWN)
        args[2] = x = expr_coerce(r, x, sql_plain(SQL_TEXT), NULL, false, a->location);
    if (!x)
        return NULL;
    node.type = x->type;
    node.enumeration = x->enumeration;
    node.collation = x->collation;
    args[1] = expr_null(r, x->type, x->enumeration, a->location);
    return args[1] ? expr_make(r, &node, args, 3) : NULL;
}

struct sql_expr *resolve_operator(struct resolve *r, const PgQuery__AExpr *a)
{
    const char *name = resolve_plain_name(a->name, a->n_name);

    if (!name)
        return resolve_refuse(r, a->location,
                              "only operators of pg_catalog are supported");
    switch (a->kind) {
    case PG_QUERY__A__EXPR__KIND__AEXPR_OP:
    case PG_QUERY__A__EXPR__KIND__AEXPR_LIKE:
    case PG_QUERY__A__EXPR__KIND__AEXPR_ILIKE:
    case PG_QUERY__A__EXPR__KIND__AEXPR_SIMILAR:
        return unary_or_binary(r, a, name);
    case PG_QUERY__A__EXPR__KIND__AEXPR_OP_ANY:
    case PG_QUERY__A__EXPR__KIND__AEXPR_OP_ALL:
        return any_or_all(r, a, name);
    case PG_QUERY__A__EXPR__KIND__AEXPR_DISTINCT:
    case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_DISTINCT:
        return distinct(r, a);
    case PG_QUERY__A__EXPR__KIND__AEXPR_NULLIF:
        return null_if(r, a);
    case PG_QUERY__A__EXPR__KIND__AEXPR_IN:
        return in_list(r, a, strcmp(name, "<>") == 0);
    case PG_QUERY__A__EXPR__KIND__AEXPR_BETWEEN:
        return between(r, a, false, false);
    case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_BETWEEN:
        return between(r, a, true, false);
    case PG_QUERY__A__EXPR__KIND__AEXPR_BETWEEN_SYM:
        return between(r, a, false, true);
    case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_BETWEEN_SYM:
        return between(r, a, true, true);
    case PG_QUERY__A__EXPR__KIND__A_EXPR_KIND_UNDEFINED:
    case _PG_QUERY__A__EXPR__KIND_IS_INT_SIZE:
        break;
    }
    return resolve_refuse(r, a->location, "A_Expr is not supported in this context");
}
