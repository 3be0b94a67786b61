/*
 * Which of the functions or operators of a name is meant: Postgres's rules (parse_func.c,
 * func_select_candidate; parse_oper.c).
 *
 *   1. Exactly the types given; for an operator with one unknown operand, as if that had the
 *      other's type.
 *   2. Of those that implicit casts reach: most exact matches; most exact or preferred.
 *   3. By the unknown operands' category: text if any accepts it, else the one that all accept;
 *      its preferred type if any accepts that.
 *   4. As if the unknown ones had the known ones' type, if those are alike.
 *
 * The table lacks overloads that Postgres has, so a choice here may be ambiguous there. That is
 * no danger: what is printed has every cast written out, and with it the same choice.
 */

#include "base/assert.h"
#include "sql/expr_tree.h"

#define CANDIDATES_MAX 128

struct candidates {
    const struct sql_function *fn[CANDIDATES_MAX];
    size_t count;
};

static struct sql_type arg_type(const struct sql_function *f, size_t i)
{
    return f->args[i < f->count ? i : f->count - 1];
}

static bool takes_count(const struct sql_function *f, size_t count)
{
    return f->count == count || (f->variadic && count >= f->count);
}

static bool is_any_array(struct sql_type t)
{
    return t.base == SQL_UNKNOWN && t.array;
}

static bool is_any_element(struct sql_type t)
{
    return t.base == SQL_UNKNOWN && !t.array;
}

static bool is_any_enum(struct sql_type t)
{
    return t.base == SQL_ENUM && t.oid == 0;
}

/* What the ANY types of f stand for, given these; false when they contradict each other.
 * SQL_UNKNOWN when nothing says. */
static bool any_type(const struct sql_function *f, const struct sql_type *types,
                     size_t count, struct sql_type *out)
{
    *out = (struct sql_type){.base = SQL_UNKNOWN, .typmod = -1};
    for (size_t i = 0; i < count; i++) {
        struct sql_type want = arg_type(f, i);
        struct sql_type t = types[i];

        if (!is_any_array(want) && !is_any_element(want) && !is_any_enum(want))
            continue;
        if (t.base == SQL_UNKNOWN)
            continue;
        if (t.array != is_any_array(want) &&
            !(is_any_enum(want) && want.array == t.array))
            return false;
        if (is_any_enum(want) && t.base != SQL_ENUM)
            return false;
        t.array = false;
        t.typmod = -1;
        if (out->base != SQL_UNKNOWN && !sql_type_same(*out, t))
            return false;
        *out = t;
    }
    return true;
}

/* A type of f with any put in for the ANY types. */
static struct sql_type concrete(struct sql_type want, struct sql_type any)
{
    bool array = want.array;

    if (want.base != SQL_UNKNOWN && !is_any_enum(want))
        return want;
    any.array = array;
    any.typmod = -1;
    return any;
}

static bool reaches(const struct sql_function *f, const struct sql_type *types,
                    size_t count)
{
    struct sql_type any;

    if (!takes_count(f, count) || !any_type(f, types, count, &any))
        return false;
    for (size_t i = 0; i < count; i++) {
        struct sql_type want = arg_type(f, i);

        if ((want.base == SQL_UNKNOWN || is_any_enum(want)) && any.base == SQL_UNKNOWN)
            return false;
        if (!type_coercible(types[i], concrete(want, any)))
            return false;
    }
    return true;
}

static bool exactly(const struct sql_function *f, const struct sql_type *types,
                    size_t count)
{
    if (f->count != count)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!sql_type_same(f->args[i], types[i]))
            return false;
    }
    return true;
}

/* Keeps those with the most points; true when one is left. */
static bool keep_best(struct candidates *c, const unsigned *points)
{
    unsigned best = 0;
    size_t kept = 0;

    for (size_t i = 0; i < c->count; i++)
        best = points[i] > best ? points[i] : best;
    for (size_t i = 0; i < c->count; i++) {
        if (points[i] == best)
            c->fn[kept++] = c->fn[i];
    }
    c->count = kept;
    return kept == 1;
}

static bool by_exactness(struct candidates *c, const struct sql_type *types, size_t count,
                         bool preferred)
{
    unsigned points[CANDIDATES_MAX] = {0};

    for (size_t k = 0; k < c->count; k++) {
        for (size_t i = 0; i < count; i++) {
            struct sql_type want = arg_type(c->fn[k], i);

            if (types[i].base == SQL_UNKNOWN)
                continue;
            if (sql_type_same(want, types[i]) ||
                (preferred && type_category(want) == type_category(types[i]) &&
                 type_preferred(want)))
                points[k]++;
        }
    }
    return keep_best(c, points);
}

/* The category that an unknown operand is taken to have; 0 when nothing decides. */
static char slot_category(const struct candidates *c, size_t i, bool *preferred)
{
    char category = 0;
    bool agree = true;

    *preferred = false;
    for (size_t k = 0; k < c->count; k++) {
        struct sql_type want = arg_type(c->fn[k], i);
        char its = type_category(want);

        if (its == 'S' && category != 'S') {
            category = 'S';
            *preferred = type_preferred(want);
            agree = true;
        } else if (category == 0 || its == category) {
            category = its;
            *preferred = *preferred || type_preferred(want);
        } else if (category != 'S') {
            agree = false;
        }
    }
    return agree ? category : 0;
}

static bool by_category(struct candidates *c, const struct sql_type *types, size_t count)
{
    struct candidates left = {.count = 0};
    char category[SQL_ARGS_MAX + 1];
    bool preferred[SQL_ARGS_MAX + 1];

    if (count > SQL_ARGS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (types[i].base != SQL_UNKNOWN)
            continue;
        category[i] = slot_category(c, i, &preferred[i]);
        if (category[i] == 0)
            return false;
    }
    for (size_t k = 0; k < c->count; k++) {
        bool fits = true;

        for (size_t i = 0; fits && i < count; i++) {
            struct sql_type want = arg_type(c->fn[k], i);

            fits =
                types[i].base != SQL_UNKNOWN || (type_category(want) == category[i] &&
                                                 (!preferred[i] || type_preferred(want)));
        }
        if (fits)
            left.fn[left.count++] = c->fn[k];
    }
    if (left.count > 0)
        *c = left;
    return c->count == 1;
}

static bool by_assumption(struct candidates *c, const struct sql_type *types,
                          size_t count)
{
    struct sql_type assumed[SQL_ARGS_MAX];
    struct sql_type known = {.base = SQL_UNKNOWN};
    struct candidates left = {.count = 0};

    if (count > SQL_ARGS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (types[i].base == SQL_UNKNOWN)
            continue;
        if (known.base != SQL_UNKNOWN && !sql_type_same(known, types[i]))
            return false;
        known = types[i];
    }
    for (size_t i = 0; i < count; i++)
        assumed[i] = known;
    if (known.base == SQL_UNKNOWN)
        return false;
    for (size_t k = 0; k < c->count; k++) {
        if (reaches(c->fn[k], assumed, count))
            left.fn[left.count++] = c->fn[k];
    }
    if (left.count == 1)
        *c = left;
    return left.count == 1;
}

static enum match_result choose(struct candidates *c, const struct sql_type *types,
                                size_t count)
{
    bool unknown = false;

    if (c->count == 0)
        return MATCH_NONE;
    if (c->count == 1 || by_exactness(c, types, count, false) ||
        by_exactness(c, types, count, true))
        return MATCH_FOUND;
    for (size_t i = 0; i < count; i++)
        unknown = unknown || types[i].base == SQL_UNKNOWN;
    if (unknown && (by_category(c, types, count) || by_assumption(c, types, count)))
        return MATCH_FOUND;
    return MATCH_NONE;
}

static enum match_result give(struct arena *arena, const struct sql_function *f,
                              const struct sql_type *types, size_t count,
                              struct match *out)
{
    struct sql_type any;

    if (!any_type(f, types, count, &any))
        return MATCH_NONE;
    out->fn = f;
    out->args = arena_calloc(arena, count, sizeof(*out->args));
    if (!out->args)
        return MATCH_MEMORY;
    for (size_t i = 0; i < count; i++)
        out->args[i] = concrete(arg_type(f, i), any);
    out->result = concrete(f->result, any);
    return MATCH_FOUND;
}

/* An operator's unknown operand as if it had the other's type. */
static bool assume_other(enum sql_function_kind kind, const struct sql_type *types,
                         size_t count, struct sql_type *assumed)
{
    if (kind != SQL_OPERATOR || count != 2 ||
        (types[0].base == SQL_UNKNOWN) == (types[1].base == SQL_UNKNOWN))
        return false;
    assumed[0] = assumed[1] = types[0].base == SQL_UNKNOWN ? types[1] : types[0];
    return true;
}

enum match_result match_find(struct arena *arena, enum sql_function_kind kind,
                             const char *name, const struct sql_type *types, size_t count,
                             struct match *out)
{
    struct candidates c = {.count = 0};
    struct sql_type assumed[2];
    bool assumes = assume_other(kind, types, count, assumed);
    bool named = false;
    size_t total;
    const struct sql_function *all = sql_functions(&total);
    enum match_result rc;

    for (size_t i = 0; i < total; i++) {
        const struct sql_function *f = &all[i];

        if (f->kind != kind || strcmp(f->name, name) != 0)
            continue;
        named = named || takes_count(f, count);
        if (exactly(f, assumes ? assumed : types, count))
            return give(arena, f, types, count, out);
        if (reaches(f, types, count) && c.count < CANDIDATES_MAX)
            c.fn[c.count++] = f;
    }
    if (!named)
        return MATCH_UNKNOWN_NAME;
    rc = choose(&c, types, count);
    return rc == MATCH_FOUND ? give(arena, c.fn[0], types, count, out) : rc;
}

/* ---- calls ---- */

/* "f(int4, text)", for messages. */
static const char *signature(struct resolve *r, const char *name, struct sql_expr **args,
                             size_t count)
{
    const char *text = arena_printf(r->arena, "%s(", name);

    for (size_t i = 0; text && i < count && i < 8; i++)
        text = arena_printf(r->arena, "%s%s%s", text, i > 0 ? ", " : "",
                            type_text(r, args[i]));
    text = text ? arena_printf(r->arena, "%s)", text) : NULL;
    return text ? text : name;
}

static struct sql_expr *no_match(struct resolve *r, enum match_result why,
                                 enum sql_function_kind kind, const char *name,
                                 struct sql_expr **args, size_t count, int location)
{
    if (why == MATCH_MEMORY)
        return resolve_memory(r);
    if (kind == SQL_OPERATOR && why == MATCH_UNKNOWN_NAME)
        return resolve_refuse(r, location, "unknown %s operator \"%s\"",
                              count == 2 ? "binary" : "unary", name);
    if (kind == SQL_OPERATOR)
        return resolve_refuse(r, location, "Could not select an operator overload");
    if (why == MATCH_UNKNOWN_NAME)
        return resolve_refuse(r, location, "unknown or unsupported function %s/%zu", name,
                              count);
    return resolve_refuse(r, location, "Could not select a function overload for %s",
                          signature(r, name, args, count));
}

/* The enum of a result or operand of that type. */
static const struct sql_enum *enum_among(struct sql_type t, struct sql_expr **args,
                                         size_t count)
{
    for (size_t i = 0; t.base == SQL_ENUM && i < count; i++) {
        if (args[i]->enumeration && args[i]->enumeration->oid == t.oid)
            return args[i]->enumeration;
    }
    return NULL;
}

/* The operator that says the same with its operands changed round. */
static const char *commutator(const char *name)
{
    static const char *const pairs[][2] = {{"=", "="},   {"<>", "<>"}, {"<", ">"},
                                           {"<=", ">="}, {"@>", "<@"}, {"&&", "&&"}};

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        if (strcmp(name, pairs[i][0]) == 0)
            return pairs[i][1];
        if (strcmp(name, pairs[i][1]) == 0)
            return pairs[i][0];
    }
    return NULL;
}

static bool is_constant(const struct sql_expr *e)
{
    while (e->kind == EXPR_COLLATE)
        e = e->args[0];
    return expr_is_const(e);
}

/* That they stand the wrong way round: a constant first, or of two others the later one. */
static bool turns(const struct sql_expr *a, const struct sql_expr *b)
{
    if (is_constant(a) || is_constant(b))
        return is_constant(a) && !is_constant(b);
    return expr_cmp(a, b) > 0;
}

/* A constant on the left goes to the right: 1 < a is a > 1; b = a is a = b. The operands are cast already, so
 * that the other operator is found exactly or not at all. */
static void commute(struct resolve *r, struct sql_expr *node, struct sql_expr **args)
{
    const char *other = commutator(node->fn->name);
    struct sql_type types[2] = {node->fn_types[1], node->fn_types[0]};
    struct sql_expr *first = args[0];
    struct match turned;
    enum match_result found;

    if (!other || !turns(args[0], args[1]))
        return;
    found = match_find(r->arena, SQL_OPERATOR, other, types, 2, &turned);
    if (found == MATCH_MEMORY)
        resolve_memory(r);
    if (found != MATCH_FOUND || !sql_type_same(turned.args[0], types[0]) ||
        !sql_type_same(turned.args[1], types[1]))
        return;
    node->fn = turned.fn;
    node->fn_types = turned.args;
    args[0] = args[1];
    args[1] = first;
}

bool call_resolve(struct resolve *r, enum sql_function_kind kind, const char *name,
                  struct sql_expr **args, size_t count, struct sql_expr *node)
{
    struct sql_type *types = arena_calloc(r->arena, count, sizeof(*types));
    struct match m;
    enum match_result rc;

    if (r->rc != 0)
        return false;
    if (!types)
        return resolve_memory(r) != NULL;
    for (size_t i = 0; i < count; i++)
        types[i] = args[i]->type;
    rc = match_find(r->arena, kind, name, types, count, &m);
    if (rc != MATCH_FOUND)
        return no_match(r, rc, kind, name, args, count, node->location) != NULL;
    node->type = m.result;
    node->enumeration = enum_among(m.result, args, count);
    node->fn = m.fn;
    node->fn_types = m.args;
    for (size_t i = 0; i < count; i++) {
        /* concat takes "any" and so char(n) with its blanks, which a cast would cut. */
        if (m.fn->variadic && type_category(args[i]->type) == 'S') {
            m.args[i] = args[i]->type;
            continue;
        }
        args[i] = expr_coerce(r, args[i], m.args[i], enum_among(m.args[i], args, count),
                              false, node->location);
        if (!args[i])
            return false;
    }
    collation_combine(args, count, &node->collation);
    return collation_allows(r, m.fn, name, args, count, node->location);
}

struct sql_expr *expr_call(struct resolve *r, enum sql_function_kind kind,
                           const char *name, struct sql_expr **args, size_t count,
                           int location)
{
    struct sql_expr node = {.kind = EXPR_CALL, .location = location};

    if (!call_resolve(r, kind, name, args, count, &node))
        return NULL;
    ASSERT(node.fn);
    if (kind == SQL_OPERATOR && count == 2)
        commute(r, &node, args);
    return expr_make(r, &node, args, count);
}
