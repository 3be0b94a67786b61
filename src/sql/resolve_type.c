/*
 * Casts: which there are, which are implicit, and what a list of expressions has in common.
 *
 * The catalog's table holds casts between plain types. Arrays are cast element by element,
 * everything can be cast to a text type by its output, and a literal is read by the input
 * function of whatever type is wanted (Postgres: parse_coerce.c).
 */

#include <stdio.h>

#include "sql/expr_tree.h"
#include "sql/ops.h"

bool sql_type_same(struct sql_type a, struct sql_type b)
{
    return a.base == b.base && a.array == b.array &&
           ((a.base != SQL_ENUM && a.base != SQL_OTHER) || a.oid == b.oid);
}

/* pg_type.typcategory. */
char type_category(struct sql_type t)
{
    if (t.array)
        return 'A';
    switch (t.base) {
    case SQL_UNKNOWN:
        return 'X';
    case SQL_BOOL:
        return 'B';
    case SQL_INT2:
    case SQL_INT4:
    case SQL_INT8:
    case SQL_FLOAT4:
    case SQL_FLOAT8:
    case SQL_NUMERIC:
        return 'N';
    case SQL_TEXT:
    case SQL_VARCHAR:
    case SQL_BPCHAR:
    case SQL_NAME:
        return 'S';
    case SQL_DATE:
    case SQL_TIME:
    case SQL_TIMESTAMP:
    case SQL_TIMESTAMPTZ:
        return 'D';
    case SQL_INTERVAL:
        return 'T';
    case SQL_ENUM:
        return 'E';
    case SQL_UUID:
    case SQL_BYTEA:
    case SQL_JSONB:
    case SQL_OTHER:
    case SQL_BASES:
        break;
    }
    return 'U';
}

/* pg_type.typispreferred. */
bool type_preferred(struct sql_type t)
{
    return !t.array &&
           (t.base == SQL_BOOL || t.base == SQL_FLOAT8 || t.base == SQL_TEXT ||
            t.base == SQL_TIMESTAMPTZ || t.base == SQL_INTERVAL);
}

struct sql_type type_element(struct sql_type t)
{
    t.array = false;
    return t;
}

struct sql_type type_array(struct sql_type t)
{
    t.array = true;
    t.typmod = -1;
    return t;
}

const char *type_text(struct resolve *r, const struct sql_expr *e)
{
    struct slice name = {0};

    if (e->enumeration)
        name = e->enumeration->name;
    else if (e->type.base == SQL_OTHER && e->kind == EXPR_COLUMN)
        name = r->table->columns[e->column].type_name;
    if (name.len > 0) {
        const char *text = arena_printf(r->arena, "%s%.*s", e->type.array ? "_" : "",
                                        (int)name.len, name.ptr);
        return text ? text : "?";
    }
    return sql_type_name(e->type);
}

/* ---- which casts there are ---- */

static bool is_wild(struct sql_type pattern, struct sql_type t)
{
    return pattern.base == SQL_ENUM && pattern.oid == 0 && t.base == SQL_ENUM &&
           pattern.array == t.array;
}

const struct sql_function *cast_find(struct sql_type from, struct sql_type to,
                                     enum sql_function_kind most)
{
    size_t count;
    const struct sql_function *all = sql_functions(&count);

    if (from.array != to.array)
        return NULL;
    from.array = to.array = false;
    for (size_t i = 0; i < count; i++) {
        const struct sql_function *f = &all[i];

        if (f->kind >= SQL_CAST_IMPLICIT && f->kind <= most &&
            (sql_type_same(f->args[0], from) || is_wild(f->args[0], from)) &&
            sql_type_same(f->result, to))
            return f;
    }
    return NULL;
}

bool type_coercible(struct sql_type from, struct sql_type to)
{
    return sql_type_same(from, to) || (from.base == SQL_UNKNOWN && !from.array) ||
           cast_find(from, to, SQL_CAST_IMPLICIT) != NULL;
}

/* ---- literals ---- */

static bool has_label(const struct sql_enum *e, struct slice label)
{
    if (e && e->any_label)
        return true;
    for (size_t i = 0; e && i < e->label_count; i++) {
        if (slice_eq(e->labels[i], label))
            return true;
    }
    return false;
}

/* Every value of an enum is one of its labels. */
static bool labels_hold(const struct sql_enum *e, struct sql_type type,
                        const struct sql_value *v)
{
    if (type.base != SQL_ENUM)
        return true;
    if (!type.array)
        return has_label(e, v->s);
    for (size_t i = 0; i < sql_array_count(v->array); i++) {
        const struct sql_value *item = &sql_array_items(v->array)[i];

        if (!item->null && !has_label(e, item->s))
            return false;
    }
    return true;
}

static struct sql_expr *bad_literal(struct resolve *r, const struct sql_expr *e,
                                    struct sql_type to,
                                    const struct sql_enum *enumeration, int location)
{
    struct sql_expr target = {.type = to, .enumeration = enumeration};
    struct slice shown = e->value.s;

    shown.len = shown.len > 200 ? 200 : shown.len;
    shown.len = slice_utf8_prefix(shown);
    return resolve_refuse(r, location, "invalid syntax for type %s%s: %.*s",
                          enumeration ? "enum " : "", type_text(r, &target),
                          (int)shown.len, shown.ptr);
}

/* A parameter has one type, however often it is used. */
static bool param_agrees(struct resolve *r, const struct sql_expr *e, struct sql_type to)
{
    struct sql_type *known;

    if (e->param == 0)
        return true;
    known = &r->param_types[e->param - 1];
    if (known->base == SQL_UNKNOWN) {
        *known = to;
        return true;
    }
    if (sql_type_same(*known, to))
        return true;
    resolve_refuse(r, e->location, "type conflict for $%u: %s and %s", e->param,
                   sql_type_name(*known), sql_type_name(to));
    return false;
}

static struct sql_expr *literal(struct resolve *r, const struct sql_expr *e,
                                struct sql_type to, const struct sql_enum *enumeration,
                                bool is_explicit)
{
    struct sql_value value;
    struct sql_type plain = to;
    struct sql_expr *made;
    int rc;

    if (to.base == SQL_OTHER)
        return resolve_refuse(r, e->location, "unsupported type %s", sql_type_name(to));
    if (!param_agrees(r, e, to))
        return NULL;
    plain.typmod = -1;
    if (e->value.null)
        return expr_null(r, plain, enumeration, e->location);
    rc = sql_value_in(plain, e->value.s, r->arena, &value, r->err);
    if (rc == ERR_INVALID && strncmp(r->err->message, "invalid input", 13) == 0)
        return bad_literal(r, e, to, enumeration, e->location);
    if (rc != 0)
        return resolve_failed(r, e->location, rc, NULL);
    if (!labels_hold(enumeration, to, &value))
        return bad_literal(r, e, to, enumeration, e->location);
    if (is_explicit && to.typmod >= 0) {
        rc = sql_apply_typmod(to, r->arena, &value, r->err);
        if (rc != 0)
            return resolve_failed(r, e->location, rc, NULL);
    }
    made = expr_const(r, plain, enumeration, value, e->location);
    if (made)
        made->param = e->param;
    return made;
}

/* ---- casting ---- */

static bool is_collatable(struct sql_type t)
{
    return type_category(type_element(t)) == 'S';
}

static bool is_text_like(struct sql_type t)
{
    return !t.array && type_category(t) == 'S';
}

/* Without a function of its own: arrays and enums to text by their output. */
static bool casts_by_output(struct sql_type from, struct sql_type to)
{
    return is_text_like(to) && from.base != SQL_OTHER && from.base != SQL_UNKNOWN &&
           from.array;
}

/* The cast goes below the COLLATE, which goes itself when the type has no collation. */
// NOLINTNEXTLINE(misc-no-recursion): COLLATE over COLLATE, bounded by SQL_EXPR_DEPTH_MAX
static struct sql_expr *collated_literal(struct resolve *r, const struct sql_expr *e,
                                         struct sql_type to,
                                         const struct sql_enum *enumeration,
                                         bool is_explicit, int location)
{
    struct sql_expr node = *e;
    struct sql_expr *arg =
        expr_coerce(r, e->args[0], to, enumeration, is_explicit, location);

    if (!arg || !is_collatable(arg->type))
        return arg;
    node.type = arg->type;
    return expr_make(r, &node, &arg, 1);
}

// NOLINTNEXTLINE(misc-no-recursion): see collated_literal
struct sql_expr *expr_coerce(struct resolve *r, struct sql_expr *e, struct sql_type to,
                             const struct sql_enum *enumeration, bool is_explicit,
                             int location)
{
    struct sql_expr node = {
        .kind = EXPR_CAST, .type = to, .enumeration = enumeration, .location = location};
    struct sql_expr target = {.type = to, .enumeration = enumeration};

    if (r->rc != 0 || !e)
        return NULL;
    if (e->type.base == SQL_UNKNOWN && e->kind == EXPR_COLLATE)
        return collated_literal(r, e, to, enumeration, is_explicit, location);
    if (e->type.base == SQL_UNKNOWN && !e->type.array)
        return literal(r, e, to, enumeration, is_explicit);
    if (!is_explicit)
        node.type.typmod = -1;
    if (sql_type_same(e->type, to)) {
        if (node.type.typmod < 0)
            return e;
    } else {
        node.fn =
            cast_find(e->type, to, is_explicit ? SQL_CAST_EXPLICIT : SQL_CAST_IMPLICIT);
        if (!node.fn && !(is_explicit && casts_by_output(e->type, to)))
            return resolve_refuse(r, location, "unknown cast from type %s to type %s",
                                  type_text(r, e), type_text(r, &target));
    }
    return expr_make(r, &node, &e, 1);
}

bool common_type(struct sql_expr **args, size_t count, struct sql_type *out,
                 const struct sql_enum **enumeration)
{
    struct sql_type best = {.base = SQL_UNKNOWN, .typmod = -1};

    *enumeration = NULL;
    for (size_t i = 0; i < count; i++) {
        struct sql_type t = args[i]->type;

        t.typmod = -1;
        if (t.base == SQL_UNKNOWN || sql_type_same(t, best))
            continue;
        if (best.base == SQL_UNKNOWN) {
            best = t;
            *enumeration = args[i]->enumeration;
            continue;
        }
        if (type_category(t) != type_category(best))
            return false;
        if (!type_preferred(best) && type_coercible(best, t) &&
            !type_coercible(t, best)) {
            best = t;
            *enumeration = args[i]->enumeration;
        }
    }
    if (best.base == SQL_UNKNOWN)
        best.base = SQL_TEXT;
    *out = best;
    for (size_t i = 0; i < count; i++) {
        if (!type_coercible(args[i]->type, best))
            return false;
    }
    return true;
}

/* ---- collations ---- */

/* Explicit beats implicit; of implicit ones another than the database's beats that. */
void collation_combine(struct sql_expr **args, size_t count, struct expr_collation *out)
{
    *out = (struct expr_collation){0};
    for (size_t i = 0; i < count; i++) {
        const struct expr_collation *c = &args[i]->collation;

        if (c->strength > out->strength || out->strength == COLLATION_NONE) {
            *out = *c;
        } else if (c->strength == COLLATION_NONE || c->strength < out->strength ||
                   c->kind == SQL_COLLATION_DEFAULT || c->oid == out->oid) {
            continue;
        } else if (out->kind == SQL_COLLATION_DEFAULT &&
                   out->strength == COLLATION_IMPLICIT) {
            *out = *c;
        } else if (c->strength == COLLATION_IMPLICIT) {
            out->strength = COLLATION_CONFLICT;
        }
    }
}

bool expr_maps_case(const struct sql_function *fn)
{
    return fn && (fn->fn == sql_lower || fn->fn == sql_upper || fn->fn == sql_ilike ||
                  fn->fn == sql_not_ilike);
}

/* Others that order by bytes may still map as some locale does. */
static bool is_plain_c(const struct expr_collation *c)
{
    return c->kind == SQL_COLLATION_C && (c->oid == 950 || c->oid == 951);
}

const struct sql_letters *expr_letters(const struct sql_table *table,
                                       const struct sql_function *fn,
                                       const struct expr_collation *collation)
{
    if (!expr_maps_case(fn))
        return NULL;
    if (is_plain_c(collation))
        return &sql_letters_c;
    return collation->kind == SQL_COLLATION_DEFAULT ? table->letters : NULL;
}

bool collation_allows(struct resolve *r, const struct sql_function *fn, const char *name,
                      struct sql_expr **args, size_t count, int location)
{
    struct expr_collation c;
    bool collatable = false;
    enum sql_collation kind;

    for (size_t i = 0; i < count; i++)
        collatable = collatable || is_collatable(args[i]->type);
    if (!collatable) {
        if (!fn->collation || r->table->collation == SQL_COLLATION_C)
            return true;
        /* jsonb, whose strings are in the order of the database. */
        resolve_refuse(r, location,
                       "%s depends on the database's collation, which is not supported",
                       name);
        return false;
    }
    collation_combine(args, count, &c);
    if (c.strength == COLLATION_CONFLICT) {
        resolve_refuse(r, location,
                       "could not determine which collation to use for %s; "
                       "say COLLATE \"C\" behind one of its operands",
                       name);
        return false;
    }
    kind = c.kind == SQL_COLLATION_DEFAULT ? r->table->collation : c.kind;
    if (kind == SQL_COLLATION_OTHER) {
        resolve_refuse(r, location,
                       "%s under a nondeterministic collation is not supported; say "
                       "COLLATE \"C\" behind one of its operands",
                       name);
        return false;
    }
    if (fn->collation && kind != SQL_COLLATION_C && !expr_letters(r->table, fn, &c)) {
        resolve_refuse(r, location,
                       "%s depends on the collation, which is not supported; say COLLATE "
                       "\"C\" behind one of its operands",
                       name);
        return false;
    }
    return true;
}
