/*
 * Making nodes of the typed tree. What is constant is computed here, once, with the functions
 * that the bytecode calls, so that an error in it is an error of the clause (a 400) and not of
 * every row.
 *
 * An operand that is never reached is folded too: coalesce(1, 1/0) is refused although Postgres
 * takes it. That is safe, and simple.
 */

#include <stdio.h>

#include "sql/expr_tree.h"
#include "sql/ops.h"

#define CONST_TEXT_MAX_BYTES (1024u * 1024)

/* ---- errors ---- */

/* Characters of the clause before that byte of the wrapped text. */
static int characters(const struct resolve *r, int location)
{
    int count = 0;

    for (int i = (int)r->uncounted; i < location && r->text[i]; i++)
        count += ((unsigned char)r->text[i] & 0xC0) != 0x80;
    return count;
}

struct sql_expr *resolve_refuse(struct resolve *r, int location, const char *format, ...)
{
    char reason[600];
    va_list args;

    if (r->rc != 0)
        return NULL;
    va_start(args, format);
    (void)vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    reason[slice_utf8_prefix(slice_of(reason))] = '\0'; /* cut within a character */
    r->rc = err_set(r->err, ERR_INVALID, "At location %d: %s", characters(r, location),
                    reason);
    return NULL;
}

struct sql_expr *resolve_memory(struct resolve *r)
{
    if (r->rc == 0)
        r->rc = err_set(r->err, ERR_MEMORY, "out of memory for a where-clause");
    return NULL;
}

struct sql_expr *resolve_failed(struct resolve *r, int location, int code,
                                const char *what)
{
    if (r->rc != 0)
        return NULL;
    if (code == ERR_MEMORY)
        return resolve_memory(r);
    r->err->message[slice_utf8_prefix(slice_of(r->err->message))] = '\0';
    r->rc = err_set(r->err, code, "At location %d: %s%s%s", characters(r, location),
                    what ? what : "", what ? ": " : "", r->err->message);
    return NULL;
}

/* ---- nodes ---- */

bool expr_is_const(const struct sql_expr *e)
{
    return e->kind == EXPR_CONST;
}

bool expr_is_null(const struct sql_expr *e)
{
    return e->kind == EXPR_CONST && e->value.null;
}

/* Functions that answer whatever they are given. */
static bool never_fails(const struct sql_function *fn)
{
    static sql_function_fn *const calm[] = {sql_eq,
                                            sql_ne,
                                            sql_lt,
                                            sql_le,
                                            sql_gt,
                                            sql_ge,
                                            sql_same,
                                            sql_int_to_float4,
                                            sql_int_to_float8,
                                            sql_bool_to_int,
                                            sql_int_to_bool,
                                            sql_bpchar_to_text,
                                            sql_bool_to_text,
                                            sql_text_length,
                                            sql_bpchar_length,
                                            sql_octet_length,
                                            sql_starts_with,
                                            sql_to_text};

    for (size_t i = 0; fn && i < sizeof(calm) / sizeof(calm[0]); i++) {
        if (fn->fn == calm[i])
            return true;
    }
    return !fn;
}

struct sql_expr *expr_new(struct resolve *r, const struct sql_expr *node,
                          struct sql_expr **args, size_t count)
{
    struct sql_expr *e;
    size_t size = 1;

    if (r->rc != 0)
        return NULL;
    e = arena_alloc(r->arena, sizeof(*e));
    if (!e)
        return resolve_memory(r);
    *e = *node;
    e->args = NULL;
    e->count = count;
    e->depth = 1;
    e->may_fail = !never_fails(node->fn);
    if (count > 0) {
        e->args = arena_calloc(r->arena, count, sizeof(struct sql_expr *));
        if (!e->args)
            return resolve_memory(r);
        memcpy(e->args, args, count * sizeof(struct sql_expr *));
    }
    for (size_t i = 0; i < count; i++) {
        e->depth = args[i]->depth >= e->depth ? args[i]->depth + 1 : e->depth;
        size += args[i]->size;
        e->may_fail = e->may_fail || args[i]->may_fail;
    }
    if (e->depth > SQL_EXPR_DEPTH_MAX || size > SQL_EXPR_NODES_MAX)
        return resolve_refuse(r, node->location, "the expression is too complex");
    e->size = (unsigned)size;
    return e;
}

struct sql_expr *expr_const(struct resolve *r, struct sql_type type,
                            const struct sql_enum *enumeration, struct sql_value value,
                            int location)
{
    struct sql_expr node = {.kind = EXPR_CONST,
                            .type = type,
                            .enumeration = enumeration,
                            .location = location,
                            .value = value};
    struct buf text;
    char *copy = NULL;

    if (r->rc != 0)
        return NULL;
    if (type.base == SQL_NAME) /* the type's own collation */
        node.collation =
            (struct expr_collation){COLLATION_IMPLICIT, SQL_COLLATION_C, 950};
    if (!value.null && type.base != SQL_UNKNOWN) {
        buf_init(&text, CONST_TEXT_MAX_BYTES);
        sql_value_out(type, &value, &text);
        if (!text.failed)
            copy = arena_dup(r->arena, buf_slice(&text));
        node.text = slice_make(copy, text.len);
        bool too_long = text.failed == ERR_LIMIT;
        buf_fini(&text);
        if (too_long)
            return resolve_refuse(r, location, "a constant is bigger than maximum size");
        if (!copy)
            return resolve_memory(r);
    }
    return expr_new(r, &node, NULL, 0);
}

struct sql_expr *expr_bool(struct resolve *r, bool value, int location)
{
    return expr_const(r, sql_plain(SQL_BOOL), NULL, (struct sql_value){.b = value},
                      location);
}

struct sql_expr *expr_null(struct resolve *r, struct sql_type type,
                           const struct sql_enum *enumeration, int location)
{
    type.typmod = -1;
    return expr_const(r, type, enumeration, (struct sql_value){.null = true}, location);
}

struct sql_expr *expr_column(struct resolve *r, size_t column, int location)
{
    const struct sql_column *c = &r->table->columns[column];
    struct sql_expr node = {.kind = EXPR_COLUMN,
                            .type = c->type,
                            .enumeration = c->enumeration,
                            .location = location,
                            .column = column};

    if (type_category(type_element(c->type)) == 'S')
        node.collation =
            (struct expr_collation){COLLATION_IMPLICIT, c->collation, c->collation_oid};
    return expr_new(r, &node, NULL, 0);
}

/* ---- computing ---- */

enum sql_failure expr_cast(struct sql_call *call, const struct sql_function *fn,
                           struct sql_type to, const struct sql_value *in,
                           struct sql_value *out)
{
    enum sql_failure rc = SQL_FINE;

    if (in->null) {
        *out = *in;
        return SQL_FINE;
    }
    if (fn)
        rc = to.array ? expr_cast_array(call, fn, in, out) : fn->fn(call, in, out);
    else if (to.array == call->types[0].array && to.base == call->types[0].base)
        *out = *in; /* only the typmod changes */
    else
        rc = sql_to_text(call, in, out);
    if (rc == SQL_FINE && to.typmod >= 0 && !out->null &&
        sql_apply_typmod(to, call->arena, out, call->err) != 0)
        rc = SQL_FAILED;
    return rc;
}

/* ---- folding ---- */

static bool all_const(struct sql_expr **args, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!expr_is_const(args[i]))
            return false;
    }
    return true;
}

static bool any_null(struct sql_expr **args, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (expr_is_null(args[i]))
            return true;
    }
    return false;
}

static const struct sql_letters *letters_of(const struct resolve *r,
                                            const struct sql_expr *node)
{
    return expr_letters(r->table, node->fn, &node->collation);
}

static struct sql_value *values_of(struct resolve *r, struct sql_expr **args,
                                   size_t count)
{
    struct sql_value *v = arena_calloc(r->arena, count, sizeof(*v));

    for (size_t i = 0; v && i < count; i++)
        v[i] = args[i]->value;
    return v;
}

static struct sql_expr *computed(struct resolve *r, const struct sql_expr *node,
                                 enum sql_failure rc, struct sql_value value)
{
    struct sql_type type = node->type;
    struct sql_expr *e;

    if (rc != SQL_FINE)
        return resolve_failed(r, node->location,
                              r->err->code == ERR_MEMORY ? ERR_MEMORY : ERR_INVALID,
                              "Failed to apply function to constant arguments");
    type.typmod = -1;
    e = expr_const(r, type, node->enumeration, value, node->location);
    if (e)
        e->collation = node->collation;
    return e;
}

/* What one constant argument may make impossible for every row, such as a pattern that we don't
 * know: it has to be refused with the clause, not when a row comes. Tried with an empty or zero
 * value in the other's place, which none of these refuses. */
static bool is_hopeless(struct resolve *r, const struct sql_expr *node,
                        struct sql_expr **args, size_t count)
{
    static const struct {
        sql_function_fn *fn;
        size_t decisive;
    } tried[] = {{sql_regex, 1},      {sql_not_regex, 1},     {sql_iregex, 1},
                 {sql_not_iregex, 1}, {sql_ilike, 1},         {sql_not_ilike, 1},
                 {sql_date_trunc, 0}, {sql_extract, 0},       {sql_date_part, 0},
                 {sql_timezone, 0},   {sql_interval_trunc, 0}};
    struct sql_call call = {r->arena, r->err, node->fn_types, count, letters_of(r, node)};
    struct sql_value values[2] = {{0}, {0}};
    struct sql_value out;

    for (size_t i = 0; i < sizeof(tried) / sizeof(tried[0]); i++) {
        size_t at = tried[i].decisive;

        if (node->fn->fn != tried[i].fn || !expr_is_const(args[at]))
            continue;
        values[at] = args[at]->value;
        if (at == 1)
            values[0].s = SLICE_LIT("");
        return node->fn->fn(&call, values, &out) != SQL_FINE;
    }
    return false;
}

static struct sql_expr *fold_call(struct resolve *r, const struct sql_expr *node,
                                  struct sql_expr **args, size_t count)
{
    struct sql_call call = {r->arena, r->err, node->fn_types, count, letters_of(r, node)};
    struct sql_value *values;
    struct sql_value out = {0};
    enum sql_failure rc;

    if (node->fn->strict && any_null(args, count))
        return expr_null(r, node->type, node->enumeration, node->location);
    if (is_hopeless(r, node, args, count))
        return resolve_failed(r, node->location, r->err->code, NULL);
    if (!all_const(args, count) || node->collation.strength == COLLATION_EXPLICIT)
        return expr_new(r, node, args, count);
    values = values_of(r, args, count);
    if (!values)
        return resolve_memory(r);
    rc = node->fn->fn(&call, values, &out);
    return computed(r, node, rc, out);
}

static struct sql_expr *fold_cast(struct resolve *r, const struct sql_expr *node,
                                  struct sql_expr **args, size_t count)
{
    struct sql_call call = {r->arena, r->err, &args[0]->type, 1, NULL};
    struct sql_value out = {0};
    struct sql_expr typed = *node;
    enum sql_failure rc;

    if (type_category(type_element(node->type)) == 'S')
        collation_combine(args, 1, &typed.collation);
    if (!expr_is_const(args[0]))
        return expr_new(r, &typed, args, count);
    /* What was a name keeps C in Postgres, but is printed as any text: then it has none that order
     * could be made of. */
    if (args[0]->type.base == SQL_NAME)
        typed.collation = (struct expr_collation){.strength = COLLATION_NONE};
    rc = expr_cast(&call, node->fn, node->type, &args[0]->value, &out);
    return computed(r, &typed, rc, out);
}

static struct sql_expr *fold_test(struct resolve *r, const struct sql_expr *node,
                                  struct sql_expr **args, size_t count)
{
    const struct sql_value *v = &args[0]->value;

    if (!expr_is_const(args[0]))
        return expr_new(r, node, args, count);
    if (node->kind == EXPR_IS_NULL)
        return expr_bool(r, v->null, node->location);
    return expr_bool(r, !v->null && v->b == (node->kind == EXPR_IS_TRUE), node->location);
}

static struct sql_expr *fold_distinct(struct resolve *r, const struct sql_expr *node,
                                      struct sql_expr **args, size_t count)
{
    struct sql_call call = {r->arena, r->err, node->fn_types, 2, letters_of(r, node)};
    struct sql_value pair[2] = {args[0]->value, args[1]->value};
    struct sql_value out = {0};
    struct sql_expr test = {
        .kind = EXPR_IS_NULL, .type = node->type, .location = node->location};

    for (size_t i = 0; i < 2; i++) {
        if (expr_is_null(args[i]))
            return expr_not(r, fold_test(r, &test, &args[1 - i], 1), node->location);
    }
    if (!all_const(args, count))
        return expr_new(r, node, args, count);
    if (node->fn->fn(&call, pair, &out) != SQL_FINE)
        return computed(r, node, SQL_FAILED, out);
    return expr_bool(r, !out.b, node->location);
}

/* args[0] IN (args[1], …). */
static struct sql_expr *fold_in(struct resolve *r, const struct sql_expr *node,
                                struct sql_expr **args, size_t count)
{
    struct sql_call call = {r->arena, r->err, node->fn_types, 2, letters_of(r, node)};
    struct sql_expr one = *node;
    bool unknown = false;

    count = 1 + expr_sort(args + 1, count - 1);
    one.kind = EXPR_CALL;
    if (count == 2)
        return fold_call(r, &one, args, 2);
    if (expr_is_null(args[0]))
        return expr_null(r, node->type, NULL, node->location);
    if (!all_const(args, count) || node->collation.strength == COLLATION_EXPLICIT)
        return expr_new(r, node, args, count);
    for (size_t i = 1; i < count; i++) {
        struct sql_value pair[2] = {args[0]->value, args[i]->value};
        struct sql_value out = {0};

        if (pair[1].null) {
            unknown = true;
            continue;
        }
        if (node->fn->fn(&call, pair, &out) != SQL_FINE)
            return computed(r, node, SQL_FAILED, out);
        if (out.b)
            return expr_bool(r, true, node->location);
    }
    return unknown ? expr_null(r, node->type, NULL, node->location)
                   : expr_bool(r, false, node->location);
}

static struct sql_expr *fold_any(struct resolve *r, const struct sql_expr *node,
                                 struct sql_expr **args, size_t count)
{
    struct sql_call call = {r->arena, r->err, node->fn_types, 2, letters_of(r, node)};
    struct sql_value out = {0};
    enum sql_failure rc;

    if (expr_is_null(args[1]))
        return expr_null(r, node->type, NULL, node->location);
    if (!all_const(args, count))
        return expr_new(r, node, args, count);
    rc = expr_any(&call, node->fn, node->kind == EXPR_ALL, &args[0]->value,
                  args[1]->value.array, &out);
    return computed(r, node, rc, out);
}

/* Branches that can't be taken go; one that must be ends the list. */
static struct sql_expr *fold_case(struct resolve *r, const struct sql_expr *node,
                                  struct sql_expr **args, size_t count)
{
    size_t kept = 0;

    for (size_t i = 0; i + 1 < count; i += 2) {
        bool sure = expr_is_const(args[i]);

        if (sure && (args[i]->value.null || !args[i]->value.b))
            continue;
        if (sure) {
            args[kept++] = args[i + 1];
            break;
        }
        args[kept++] = args[i];
        args[kept++] = args[i + 1];
    }
    if (kept % 2 == 0)
        args[kept++] = args[count - 1];
    return kept == 1 ? args[0] : expr_new(r, node, args, kept);
}

static struct sql_expr *fold_coalesce(struct resolve *r, const struct sql_expr *node,
                                      struct sql_expr **args, size_t count)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        if (expr_is_null(args[i]))
            continue;
        args[kept++] = args[i];
        if (expr_is_const(args[i]))
            break;
    }
    if (kept == 0)
        return args[0];
    return kept == 1 ? args[0] : expr_new(r, node, args, kept);
}

/* GREATEST and LEAST: NULLs go, constants become one. */
static struct sql_expr *fold_best(struct resolve *r, const struct sql_expr *node,
                                  struct sql_expr **args, size_t count)
{
    struct sql_call call = {r->arena, r->err, node->fn_types, 2, letters_of(r, node)};
    struct sql_expr *best = NULL;
    struct sql_expr *null = args[0];
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        struct sql_value out = {.b = true};

        if (expr_is_null(args[i]))
            continue;
        if (!expr_is_const(args[i])) {
            args[kept++] = args[i];
            continue;
        }
        if (best) {
            struct sql_value pair[2] = {args[i]->value, best->value};

            if (node->fn->fn(&call, pair, &out) != SQL_FINE)
                return computed(r, node, SQL_FAILED, out);
        }
        best = out.b ? args[i] : best;
    }
    if (best)
        args[kept++] = best;
    if (kept == 0)
        return null;
    return kept == 1 ? args[0] : expr_new(r, node, args, kept);
}

static struct sql_expr *fold_subscript(struct resolve *r, const struct sql_expr *node,
                                       struct sql_expr **args, size_t count)
{
    struct sql_call call = {r->arena, r->err, NULL, count, NULL};
    struct sql_value *values;
    struct sql_value out = {0};
    enum sql_failure rc;

    if (!all_const(args, count))
        return expr_new(r, node, args, count);
    values = values_of(r, args, count);
    if (!values)
        return resolve_memory(r);
    rc = expr_subscript(&call, node->kind == EXPR_SLICE, node->omitted, values, count,
                        &out);
    return computed(r, node, rc, out);
}

static struct sql_expr *fold_array(struct resolve *r, const struct sql_expr *node,
                                   struct sql_expr **args, size_t count)
{
    struct sql_value *values;
    struct sql_value out = {0};

    if (!all_const(args, count))
        return expr_new(r, node, args, count);
    values = values_of(r, args, count);
    if (!values)
        return resolve_memory(r);
    out.array = sql_array_make(r->arena, values, count);
    return out.array ? computed(r, node, SQL_FINE, out) : resolve_memory(r);
}

/* args are the caller's to change. */
static struct sql_expr *fold_node(struct resolve *r, const struct sql_expr *node,
                                  struct sql_expr **own, size_t count)
{
    switch (node->kind) {
    case EXPR_CALL:
        return fold_call(r, node, own, count);
    case EXPR_CAST:
        return fold_cast(r, node, own, count);
    case EXPR_IS_NULL:
    case EXPR_IS_TRUE:
    case EXPR_IS_FALSE:
        return fold_test(r, node, own, count);
    case EXPR_DISTINCT:
        return fold_distinct(r, node, own, count);
    case EXPR_IN:
        return fold_in(r, node, own, count);
    case EXPR_ANY:
    case EXPR_ALL:
        return fold_any(r, node, own, count);
    case EXPR_CASE:
        return fold_case(r, node, own, count);
    case EXPR_COALESCE:
        return fold_coalesce(r, node, own, count);
    case EXPR_GREATEST:
    case EXPR_LEAST:
        return fold_best(r, node, own, count);
    case EXPR_ARRAY:
        return fold_array(r, node, own, count);
    case EXPR_ELEMENT:
    case EXPR_SLICE:
        return fold_subscript(r, node, own, count);
    case EXPR_AND:
    case EXPR_OR:
        return expr_and(r, node->kind == EXPR_OR, own, count, node->location);
    case EXPR_NOT:
        return expr_not(r, own[0], node->location);
    case EXPR_CONST:
    case EXPR_COLUMN:
    case EXPR_COLLATE:
        break;
    }
    return expr_new(r, node, own, count);
}

/* Constants some of which have COLLATE, and no other args. Without it: true, and args are bare. */
static bool take_off_collate(struct sql_expr **args, size_t count)
{
    bool any = false;

    for (size_t i = 0; i < count; i++) {
        bool collated = args[i]->kind == EXPR_COLLATE;

        if (!expr_is_const(collated ? args[i]->args[0] : args[i]))
            return false;
        any = any || collated;
    }
    for (size_t i = 0; any && i < count; i++) {
        if (args[i]->kind == EXPR_COLLATE)
            args[i] = args[i]->args[0];
    }
    return any;
}

/* What is computed from constants with COLLATE is a constant, as in Postgres, which evaluates it
 * before any row; one of text stays under COLLATE. */
static struct sql_expr *fold_collated(struct resolve *r, const struct sql_expr *node,
                                      struct sql_expr **bare, size_t count)
{
    struct sql_expr plain = *node;
    struct sql_expr again = {.kind = EXPR_COLLATE,
                             .location = node->location,
                             .collation = {COLLATION_EXPLICIT, SQL_COLLATION_C, 950}};
    struct sql_expr *e;

    plain.collation.strength = COLLATION_NONE; /* its kind stays: C */
    e = fold_node(r, &plain, bare, count);
    if (!e || type_category(type_element(e->type)) != 'S')
        return e;
    again.type = e->type;
    return expr_new(r, &again, &e, 1);
}

static bool is_choice(enum expr_kind kind)
{
    return kind == EXPR_CASE || kind == EXPR_COALESCE || kind == EXPR_GREATEST ||
           kind == EXPR_LEAST;
}

/* Whether what is left of a choice (CASE, COALESCE, …) has the collation that the whole has by
 * all that it might have chosen from. Names are left out: a constant of theirs may have another as
 * it stands than when it is read again, where only equality is asked for. */
static bool keeps_collation(struct resolve *r, const struct sql_expr *node,
                            const struct sql_expr *left)
{
    const struct expr_collation *whole = &node->collation;
    struct expr_collation now = left->collation;
    struct sql_expr **results;
    size_t count = 0;

    if (!is_choice(node->kind) || type_category(type_element(left->type)) != 'S' ||
        left->type.base == SQL_NAME)
        return true;
    if (is_choice(left->kind)) {
        results = arena_calloc(r->arena, left->count, sizeof(struct sql_expr *));
        if (!results)
            return resolve_memory(r) != NULL;
        for (size_t i = 0; i < left->count; i++) {
            if (left->kind != EXPR_CASE || i % 2 == 1 || i + 1 == left->count)
                results[count++] = left->args[i];
        }
        collation_combine(results, count, &now);
    }
    if (now.kind == SQL_COLLATION_DEFAULT && whole->kind == SQL_COLLATION_DEFAULT)
        return now.strength == COLLATION_CONFLICT ||
               whole->strength != COLLATION_CONFLICT;
    return now.kind == whole->kind && now.oid == whole->oid &&
           now.strength == whole->strength;
}

static struct sql_expr **copied(struct resolve *r, struct sql_expr **args, size_t count)
{
    struct sql_expr **copy = arena_calloc(r->arena, count, sizeof(struct sql_expr *));

    for (size_t i = 0; copy && i < count; i++) {
        if (!args[i])
            return NULL;
        copy[i] = args[i];
    }
    return copy;
}

struct sql_expr *expr_make(struct resolve *r, const struct sql_expr *node,
                           struct sql_expr **args, size_t count)
{
    struct sql_expr **own;
    struct sql_expr *e;

    if (r->rc != 0)
        return NULL;
    own = copied(r, args, count);
    if (!own)
        return resolve_memory(r);
    if (node->kind != EXPR_COLLATE && take_off_collate(own, count))
        return fold_collated(r, node, own, count);
    e = fold_node(r, node, own, count);
    return e && !keeps_collation(r, node, e) ? expr_new(r, node, args, count) : e;
}
