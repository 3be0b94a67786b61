/*
 * The parser's tree to ours: the walk, and everything but operators and names.
 *
 * The walk recurses, to at most SQL_EXPR_DEPTH_MAX levels: deeper text is refused. It runs on the
 * parser's large stack. What has no case below is refused by the name of its node.
 */

#include "sql/resolve.h"
#include "sql/value.h"

// NOLINTBEGIN(misc-no-recursion): depth-bounded by resolve_node

struct sql_expr **resolve_list(struct resolve *r, PgQuery__Node *const *nodes, size_t n)
{
    struct sql_expr **list = arena_calloc(r->arena, n, sizeof(struct sql_expr *));

    if (!list) {
        resolve_memory(r);
        return NULL;
    }
    for (size_t i = 0; r->rc == 0 && i < n; i++)
        list[i] = resolve_node(r, nodes[i]);
    return r->rc == 0 ? list : NULL;
}

struct sql_expr *resolve_bool(struct resolve *r, const PgQuery__Node *node,
                              const char *what)
{
    struct sql_expr *e = resolve_node(r, node);

    if (e && e->type.base == SQL_UNKNOWN)
        return expr_coerce(r, e, sql_plain(SQL_BOOL), NULL, false, e->location);
    if (e && (e->type.base != SQL_BOOL || e->type.array))
        return resolve_refuse(r, e->location, "argument of %s must be bool, not %s", what,
                              type_text(r, e));
    return e;
}

/* ---- booleans and tests ---- */

static struct sql_expr *logic(struct resolve *r, const PgQuery__BoolExpr *b)
{
    bool is_not = b->boolop == PG_QUERY__BOOL_EXPR_TYPE__NOT_EXPR;
    bool is_or = b->boolop == PG_QUERY__BOOL_EXPR_TYPE__OR_EXPR;
    struct sql_expr **args = arena_calloc(r->arena, b->n_args, sizeof(struct sql_expr *));

    if (!args)
        return resolve_memory(r);
    for (size_t i = 0; r->rc == 0 && i < b->n_args; i++)
        args[i] = resolve_bool(r, b->args[i], is_not ? "NOT" : is_or ? "OR" : "AND");
    if (r->rc != 0 || b->n_args == 0)
        return NULL;
    return is_not ? expr_not(r, args[0], b->location)
                  : expr_and(r, is_or, args, b->n_args, b->location);
}

static struct sql_expr *null_test(struct resolve *r, const PgQuery__NullTest *t)
{
    struct sql_expr node = {
        .kind = EXPR_IS_NULL, .type = sql_plain(SQL_BOOL), .location = t->location};
    struct sql_expr *arg = resolve_node(r, t->arg);
    struct sql_expr *e;

    if (arg && arg->type.base == SQL_UNKNOWN && !expr_is_const(arg))
        arg = expr_coerce(r, arg, sql_plain(SQL_TEXT), NULL, false, t->location);
    e = arg ? expr_make(r, &node, &arg, 1) : NULL;
    return t->nulltesttype == PG_QUERY__NULL_TEST_TYPE__IS_NOT_NULL
               ? expr_not(r, e, t->location)
               : e;
}

static struct sql_expr *boolean_test(struct resolve *r, const PgQuery__BooleanTest *t)
{
    static const struct {
        const char *what;
        enum expr_kind kind;
        bool negated;
    } tests[] = {
        [PG_QUERY__BOOL_TEST_TYPE__IS_TRUE] = {"IS TRUE", EXPR_IS_TRUE, false},
        [PG_QUERY__BOOL_TEST_TYPE__IS_NOT_TRUE] = {"IS NOT TRUE", EXPR_IS_TRUE, true},
        [PG_QUERY__BOOL_TEST_TYPE__IS_FALSE] = {"IS FALSE", EXPR_IS_FALSE, false},
        [PG_QUERY__BOOL_TEST_TYPE__IS_NOT_FALSE] = {"IS NOT FALSE", EXPR_IS_FALSE, true},
        [PG_QUERY__BOOL_TEST_TYPE__IS_UNKNOWN] = {"IS UNKNOWN", EXPR_IS_NULL, false},
        [PG_QUERY__BOOL_TEST_TYPE__IS_NOT_UNKNOWN] = {"IS NOT UNKNOWN", EXPR_IS_NULL,
                                                      true}};
    size_t which = (size_t)t->booltesttype;
    struct sql_expr node = {.type = sql_plain(SQL_BOOL), .location = t->location};
    struct sql_expr *arg, *e;

    if (which >= sizeof(tests) / sizeof(tests[0]) || !tests[which].what)
        return resolve_refuse(r, t->location,
                              "BooleanTest is not supported in this context");
    arg = resolve_bool(r, t->arg, tests[which].what);
    node.kind = tests[which].kind;
    e = arg ? expr_make(r, &node, &arg, 1) : NULL;
    return tests[which].negated ? expr_not(r, e, t->location) : e;
}

/* ---- CASE, COALESCE, GREATEST, ARRAY: what has one type in common ---- */

/* Casts each to the type that they have in common and fills node's type, enum, collation. */
static bool unify(struct resolve *r, struct sql_expr **args, size_t count,
                  const char *what, struct sql_expr *node)
{
    struct sql_type type;
    const struct sql_enum *enumeration;

    if (!common_type(args, count, &type, &enumeration)) {
        resolve_refuse(r, node->location, "%s types %s and %s cannot be matched", what,
                       type_text(r, args[0]), type_text(r, args[count - 1]));
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        args[i] = expr_coerce(r, args[i], type, enumeration, false, node->location);
        if (!args[i])
            return false;
    }
    node->type = type;
    node->enumeration = enumeration;
    collation_combine(args, count, &node->collation);
    return true;
}

static struct sql_expr *coalesce(struct resolve *r, const PgQuery__CoalesceExpr *c)
{
    struct sql_expr node = {.kind = EXPR_COALESCE, .location = c->location};
    struct sql_expr **args = resolve_list(r, c->args, c->n_args);

    if (!args || !unify(r, args, c->n_args, "COALESCE", &node))
        return NULL;
    return expr_make(r, &node, args, c->n_args);
}

static struct sql_expr *greatest(struct resolve *r, const PgQuery__MinMaxExpr *m)
{
    bool least = m->op == PG_QUERY__MIN_MAX_OP__IS_LEAST;
    const char *what = least ? "LEAST" : "GREATEST";
    struct sql_expr node = {.kind = least ? EXPR_LEAST : EXPR_GREATEST,
                            .location = m->location};
    struct sql_expr **args = resolve_list(r, m->args, m->n_args);
    struct sql_type types[2];
    struct match match;
    enum match_result found;

    if (!args || !unify(r, args, m->n_args, what, &node))
        return NULL;
    types[0] = types[1] = node.type;
    if (node.type.base == SQL_VARCHAR) /* has no operators: it is compared as text */
        types[0].base = types[1].base = SQL_TEXT;
    found = match_find(r->arena, SQL_OPERATOR, least ? "<" : ">", types, 2, &match);
    if (found == MATCH_MEMORY)
        return resolve_memory(r);
    if (found != MATCH_FOUND || !sql_type_same(match.args[0], types[0]))
        return resolve_refuse(r, m->location, "%s of type %s is not supported", what,
                              type_text(r, &node));
    node.fn = match.fn;
    node.fn_types = match.args;
    if (!collation_allows(r, match.fn, what, args, m->n_args, m->location))
        return NULL;
    return expr_make(r, &node, args, m->n_args);
}

/* CASE x WHEN v is CASE WHEN x = v. */
static struct sql_expr *condition(struct resolve *r, struct sql_expr *subject,
                                  const PgQuery__CaseWhen *w)
{
    struct sql_expr *pair[2] = {subject, NULL};

    if (!subject)
        return resolve_bool(r, w->expr, "CASE/WHEN");
    pair[1] = resolve_node(r, w->expr);
    return pair[1] ? expr_call(r, SQL_OPERATOR, "=", pair, 2, w->location) : NULL;
}

static struct sql_expr *case_subject(struct resolve *r, const PgQuery__Node *node)
{
    struct sql_expr *e = resolve_node(r, node);

    if (e && e->type.base == SQL_UNKNOWN)
        return expr_coerce(r, e, sql_plain(SQL_TEXT), NULL, false, e->location);
    return e;
}

static struct sql_expr *case_expr(struct resolve *r, const PgQuery__CaseExpr *c)
{
    struct sql_expr node = {.kind = EXPR_CASE, .location = c->location};
    size_t n = c->n_args;
    struct sql_expr *subject = c->arg ? case_subject(r, c->arg) : NULL;
    struct sql_expr **args = arena_calloc(r->arena, 2 * n + 1, sizeof(struct sql_expr *));
    struct sql_expr **results = arena_calloc(r->arena, n + 1, sizeof(struct sql_expr *));

    if (!args || !results)
        return resolve_memory(r);
    for (size_t i = 0; r->rc == 0 && i < n; i++) {
        if (c->args[i]->node_case != PG_QUERY__NODE__NODE_CASE_WHEN)
            return resolve_refuse(r, c->location, "CaseExpr is not supported here");
        args[2 * i] = condition(r, subject, c->args[i]->case_when);
        if (r->rc == 0)
            results[i + 1] = resolve_node(r, c->args[i]->case_when->result);
    }
    if (r->rc != 0)
        return NULL;
    /* The first has a say in which type they have in common: in Postgres it is ELSE. */
    results[0] = c->defresult ? resolve_node(r, c->defresult)
                              : expr_null(r, sql_plain(SQL_UNKNOWN), NULL, c->location);
    if (!results[0] || !unify(r, results, n + 1, "CASE", &node))
        return NULL;
    for (size_t i = 0; i < n; i++)
        args[2 * i + 1] = results[i + 1];
    args[2 * n] = results[0];
    return expr_make(r, &node, args, 2 * n + 1);
}

/* ARRAY[…]; wanted: the array type of a cast around it, which its elements then have. */
static struct sql_expr *array(struct resolve *r, const PgQuery__AArrayExpr *a,
                              const struct sql_type *wanted,
                              const struct sql_enum *enumeration)
{
    struct sql_expr node = {.kind = EXPR_ARRAY, .location = a->location};
    struct sql_expr **args = resolve_list(r, a->elements, a->n_elements);

    if (!args)
        return NULL;
    if (!wanted && a->n_elements == 0)
        return resolve_refuse(r, a->location, "cannot determine type of empty array");
    for (size_t i = 0; i < a->n_elements; i++) {
        if (args[i]->type.array)
            return resolve_refuse(r, a->location,
                                  "arrays of several dimensions are not supported");
        if (!wanted)
            continue;
        args[i] = expr_coerce(r, args[i], type_element(*wanted), enumeration, true,
                              a->location);
        if (!args[i])
            return NULL;
    }
    if (!wanted && !unify(r, args, a->n_elements, "ARRAY", &node))
        return NULL;
    if (wanted) {
        node.enumeration = enumeration;
        collation_combine(args, a->n_elements, &node.collation);
    }
    if ((wanted ? wanted->base : node.type.base) == SQL_OTHER)
        return resolve_refuse(r, a->location, "ARRAY of that type is not supported");
    node.type = type_array(wanted ? *wanted : node.type);
    return expr_make(r, &node, args, a->n_elements);
}

/* ---- subscripts ---- */

/* One bound or subscript, an int4; left out of a slice: NULL. */
static struct sql_expr *bound(struct resolve *r, const PgQuery__Node *node, int location)
{
    struct sql_expr *e;

    if (!node)
        return expr_null(r, sql_plain(SQL_INT4), NULL, location);
    e = resolve_node(r, node);
    if (e && e->type.base != SQL_UNKNOWN && type_category(e->type) != 'N')
        return resolve_refuse(r, e->location, "array subscript must have type integer");
    return e ? expr_coerce(r, e, sql_plain(SQL_INT4), NULL, false, e->location) : NULL;
}

/* What one pair of brackets says, as the next one or two of args. With one slice among them all
 * are: a[2][1:2] is a[1:2][1:2]. */
static size_t brackets(struct resolve *r, const PgQuery__AIndices *x,
                       struct sql_expr *node, struct sql_expr **args, size_t n)
{
    bool is_slice = node->kind == EXPR_SLICE;

    if (is_slice && !x->is_slice)
        args[n++] = expr_const(r, sql_plain(SQL_INT4), NULL, (struct sql_value){.i = 1},
                               node->location);
    else if (is_slice)
        args[n++] = bound(r, x->lidx, node->location);
    if (x->is_slice && !x->lidx)
        node->omitted |= 1u << (n - 2);
    if (x->is_slice && !x->uidx)
        node->omitted |= 1u << (n - 1);
    args[n++] = bound(r, x->uidx, node->location);
    return n;
}

static struct sql_expr *subscripts(struct resolve *r, const PgQuery__AIndirection *a)
{
    struct sql_expr node = {.kind = EXPR_ELEMENT};
    struct sql_expr *args[1 + 2 * SQL_ARRAY_DIMS_MAX] = {resolve_node(r, a->arg)};
    size_t n = 1;

    if (!args[0])
        return NULL;
    node.location = args[0]->location;
    if (!args[0]->type.array || a->n_indirection > SQL_ARRAY_DIMS_MAX)
        return resolve_refuse(r, node.location, "cannot subscript type %s so",
                              type_text(r, args[0]));
    for (size_t i = 0; i < a->n_indirection; i++) {
        if (a->indirection[i]->node_case != PG_QUERY__NODE__NODE_A_INDICES)
            return resolve_refuse(r, node.location,
                                  "A_Indirection is not supported here");
        if (a->indirection[i]->a_indices->is_slice)
            node.kind = EXPR_SLICE;
    }
    for (size_t i = 0; r->rc == 0 && i < a->n_indirection; i++)
        n = brackets(r, a->indirection[i]->a_indices, &node, args, n);
    if (r->rc != 0)
        return NULL;
    node.type =
        node.kind == EXPR_SLICE ? type_array(args[0]->type) : type_element(args[0]->type);
    node.type.typmod = -1;
    node.enumeration = args[0]->enumeration;
    node.collation = args[0]->collation;
    return expr_make(r, &node, args, n);
}

/* ---- casts, COLLATE, functions ---- */

static struct sql_expr *cast(struct resolve *r, const PgQuery__TypeCast *c)
{
    const struct sql_enum *enumeration;
    struct sql_type type;
    struct sql_expr *arg;

    if (!resolve_type(r, c->type_name, &type, &enumeration))
        return NULL;
    if (type.array && c->arg->node_case == PG_QUERY__NODE__NODE_A_ARRAY_EXPR)
        return array(r, c->arg->a_array_expr, &type, enumeration);
    arg = resolve_node(r, c->arg);
    return arg ? expr_coerce(r, arg, type, enumeration, true, arg->location) : NULL;
}

static struct sql_expr *collate(struct resolve *r, const PgQuery__CollateClause *c)
{
    const char *name = resolve_plain_name(c->collname, c->n_collname);
    struct sql_expr node = {.kind = EXPR_COLLATE, .location = c->location};
    struct sql_expr *arg = resolve_node(r, c->arg);

    if (!arg)
        return NULL;
    if (!name || (strcmp(name, "C") != 0 && strcmp(name, "POSIX") != 0))
        return resolve_refuse(r, c->location,
                              "of collations only \"C\" is supported in COLLATE");
    /* A literal stays one: what is around decides about its type (expr_coerce). */
    if (arg->type.base != SQL_UNKNOWN && type_category(type_element(arg->type)) != 'S')
        return resolve_refuse(r, c->location, "collations are not supported by type %s",
                              type_text(r, arg));
    node.type = arg->type;
    node.collation = (struct expr_collation){COLLATION_EXPLICIT, SQL_COLLATION_C, 950};
    return expr_make(r, &node, &arg, 1);
}

/* int4(x) is a cast where there is no function of that name for x. */
static bool is_cast_call(struct resolve *r, const char *name, struct sql_expr **args,
                         size_t count, struct sql_type *to)
{
    struct match m;
    enum match_result found;

    if (count != 1 || !resolve_type_name(name, to))
        return false;
    found = match_find(r->arena, SQL_FUNCTION, name, &args[0]->type, 1, &m);
    return found != MATCH_FOUND && found != MATCH_MEMORY;
}

static struct sql_expr *function(struct resolve *r, const PgQuery__FuncCall *f)
{
    const char *name = resolve_plain_name(f->funcname, f->n_funcname);
    struct sql_expr **args;
    struct sql_type to;

    if (f->agg_star || f->agg_distinct || f->agg_within_group || f->n_agg_order > 0 ||
        f->agg_filter || f->over)
        return resolve_refuse(r, f->location,
                              "aggregation is not supported in this context");
    if (f->func_variadic)
        return resolve_refuse(r, f->location,
                              "explicit VARIADIC function calls are not "
                              "currently supported");
    if (!name)
        return resolve_refuse(r, f->location,
                              "only functions of pg_catalog are supported");
    args = resolve_list(r, f->args, f->n_args);
    if (!args)
        return NULL;
    if (is_cast_call(r, name, args, f->n_args, &to))
        return expr_coerce(r, args[0], to, NULL, true, f->location);
    return expr_call(r, SQL_FUNCTION, name, args, f->n_args, f->location);
}

/* ---- the walk ---- */

/* Where a node without a case below begins, as far as that is known. */
static int location_of(const PgQuery__Node *node)
{
    if (node->node_case == PG_QUERY__NODE__NODE_SUB_LINK)
        return node->sub_link->location;
    if (node->node_case == PG_QUERY__NODE__NODE_SQLVALUE_FUNCTION)
        return node->sqlvalue_function->location;
    if (node->node_case == PG_QUERY__NODE__NODE_ROW_EXPR)
        return node->row_expr->location;
    return (int)WHERE_PREFIX_BYTES;
}

static struct sql_expr *refuse_node(struct resolve *r, const PgQuery__Node *node)
{
    if (node->node_case == PG_QUERY__NODE__NODE_SUB_LINK)
        return resolve_refuse(r, location_of(node), SQL_NO_SUBQUERIES);
    return resolve_refuse(r, location_of(node), "%s is not supported in this context",
                          resolve_node_name(node));
}

static struct sql_expr *resolve_kind(struct resolve *r, const PgQuery__Node *node)
{
    int kind = (int)node->node_case;

    switch (kind) {
    case PG_QUERY__NODE__NODE_A_CONST:
        return resolve_const(r, node->a_const);
    case PG_QUERY__NODE__NODE_COLUMN_REF:
        return resolve_column(r, node->column_ref);
    case PG_QUERY__NODE__NODE_PARAM_REF:
        return resolve_param(r, node->param_ref);
    case PG_QUERY__NODE__NODE_A_EXPR:
        return resolve_operator(r, node->a_expr);
    case PG_QUERY__NODE__NODE_BOOL_EXPR:
        return logic(r, node->bool_expr);
    case PG_QUERY__NODE__NODE_NULL_TEST:
        return null_test(r, node->null_test);
    case PG_QUERY__NODE__NODE_BOOLEAN_TEST:
        return boolean_test(r, node->boolean_test);
    case PG_QUERY__NODE__NODE_TYPE_CAST:
        return cast(r, node->type_cast);
    case PG_QUERY__NODE__NODE_FUNC_CALL:
        return function(r, node->func_call);
    case PG_QUERY__NODE__NODE_CASE_EXPR:
        return case_expr(r, node->case_expr);
    case PG_QUERY__NODE__NODE_COALESCE_EXPR:
        return coalesce(r, node->coalesce_expr);
    case PG_QUERY__NODE__NODE_MIN_MAX_EXPR:
        return greatest(r, node->min_max_expr);
    case PG_QUERY__NODE__NODE_A_ARRAY_EXPR:
        return array(r, node->a_array_expr, NULL, NULL);
    case PG_QUERY__NODE__NODE_A_INDIRECTION:
        return subscripts(r, node->a_indirection);
    case PG_QUERY__NODE__NODE_COLLATE_CLAUSE:
        return collate(r, node->collate_clause);
    default:
        return refuse_node(r, node);
    }
}

struct sql_expr *resolve_node(struct resolve *r, const PgQuery__Node *node)
{
    struct sql_expr *e;

    if (r->rc != 0)
        return NULL;
    if (!node)
        return resolve_refuse(r, (int)WHERE_PREFIX_BYTES, "an operand is missing");
    if (r->depth >= SQL_EXPR_DEPTH_MAX)
        return resolve_refuse(r, (int)WHERE_PREFIX_BYTES,
                              "the expression is too complex");
    r->depth++;
    e = resolve_kind(r, node);
    r->depth--;
    return e;
}

// NOLINTEND(misc-no-recursion)

struct sql_expr *resolve_where(struct resolve *r, const void *pg_node)
{
    struct sql_expr *e = resolve_node(r, pg_node);

    if (e && (e->type.base != SQL_BOOL || e->type.array)) {
        r->rc = err_set(r->err, ERR_INVALID, "WHERE clause must return a boolean");
        return NULL;
    }
    return e;
}
