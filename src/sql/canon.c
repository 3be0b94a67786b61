/*
 * Canonical form of AND, OR and NOT: flat, in one order, nothing twice.
 *
 * The order puts operands that may raise an error behind those that can't: in
 * b <> 0 AND a / b > 1 the guard has to stay in front, however the clause was written. Beyond
 * that the order has no meaning, it only has to be the same each time, also in a later version:
 * nothing that it looks at depends on addresses or on the order of the catalog's table.
 */

#include <stdlib.h>

#include "sql/expr_tree.h"

static int cmp_int(long long a, long long b)
{
    return (a > b) - (a < b);
}

static int cmp_type(struct sql_type a, struct sql_type b)
{
    int c = cmp_int(a.base, b.base);

    c = c ? c : cmp_int(a.array, b.array);
    c = c ? c : cmp_int(a.typmod, b.typmod);
    if (c == 0 && (a.base == SQL_ENUM || a.base == SQL_OTHER))
        c = cmp_int(a.oid, b.oid);
    return c;
}

static int cmp_function(const struct sql_expr *a, const struct sql_expr *b)
{
    int c = cmp_int(a->fn != NULL, b->fn != NULL);

    if (c != 0 || !a->fn || a->fn == b->fn)
        return c;
    if (a->fn->name && b->fn->name)
        c = strcmp(a->fn->name, b->fn->name);
    c = c ? c : cmp_int((long long)a->fn->count, (long long)b->fn->count);
    for (size_t i = 0; c == 0 && i < a->fn->count; i++)
        c = cmp_type(a->fn->args[i], b->fn->args[i]);
    return c ? c : cmp_type(a->fn->result, b->fn->result);
}

/* Everything but the arguments. */
static int cmp_node(const struct sql_expr *a, const struct sql_expr *b)
{
    int c = cmp_int(a->may_fail, b->may_fail);

    c = c ? c : cmp_int(a->kind, b->kind);
    c = c ? c : cmp_int((long long)a->column, (long long)b->column);
    c = c ? c : cmp_int(a->omitted, b->omitted);
    c = c ? c : cmp_function(a, b);
    c = c ? c : cmp_type(a->type, b->type);
    c = c ? c : cmp_int(a->value.null, b->value.null);
    c = c ? c : slice_cmp(a->text, b->text);
    return c ? c : cmp_int((long long)a->count, (long long)b->count);
}

// NOLINTNEXTLINE(misc-no-recursion): at most SQL_EXPR_DEPTH_MAX levels, by expr_new
int expr_cmp(const struct sql_expr *a, const struct sql_expr *b)
{
    int c = a == b ? 0 : cmp_node(a, b);

    for (size_t i = 0; a != b && c == 0 && i < a->count; i++)
        c = expr_cmp(a->args[i], b->args[i]);
    return c;
}

static int cmp_pointers(const void *a, const void *b)
{
    return expr_cmp(*(struct sql_expr *const *)a, *(struct sql_expr *const *)b);
}

size_t expr_sort(struct sql_expr **args, size_t count)
{
    size_t kept = 0;

    if (count > 1)
        qsort(args, count, sizeof(struct sql_expr *), cmp_pointers);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || expr_cmp(args[kept - 1], args[i]) != 0)
            args[kept++] = args[i];
    }
    return kept;
}

/* All operands, those of operands of the same kind in their place. */
static struct sql_expr **flatten(struct resolve *r, enum expr_kind kind,
                                 struct sql_expr **args, size_t *count)
{
    struct sql_expr **flat;
    size_t total = 0;
    size_t n = 0;

    for (size_t i = 0; i < *count; i++)
        total += args[i]->kind == kind ? args[i]->count : 1;
    flat = arena_calloc(r->arena, total, sizeof(struct sql_expr *));
    for (size_t i = 0; flat && i < *count; i++) {
        if (args[i]->kind != kind) {
            flat[n++] = args[i];
            continue;
        }
        for (size_t k = 0; k < args[i]->count; k++)
            flat[n++] = args[i]->args[k];
    }
    *count = n;
    return flat;
}

struct sql_expr *expr_and(struct resolve *r, bool is_or, struct sql_expr **args,
                          size_t count, int location)
{
    struct sql_expr node = {.kind = is_or ? EXPR_OR : EXPR_AND,
                            .type = {.base = SQL_BOOL, .typmod = -1},
                            .location = location};
    struct sql_expr **flat;
    size_t kept = 0;

    if (r->rc != 0)
        return NULL;
    flat = flatten(r, node.kind, args, &count);
    if (!flat)
        return resolve_memory(r);
    for (size_t i = 0; i < count; i++) {
        if (!expr_is_const(flat[i]) || flat[i]->value.null)
            flat[kept++] = flat[i];
        else if (flat[i]->value.b == is_or)
            return flat[i];
    }
    if (kept == 0)
        return expr_bool(r, !is_or, location);
    kept = expr_sort(flat, kept);
    return kept == 1 ? flat[0] : expr_new(r, &node, flat, kept);
}

struct sql_expr *expr_not(struct resolve *r, struct sql_expr *arg, int location)
{
    struct sql_expr node = {
        .kind = EXPR_NOT, .type = {.base = SQL_BOOL, .typmod = -1}, .location = location};

    if (r->rc != 0 || !arg)
        return NULL;
    if (expr_is_null(arg))
        return arg;
    if (expr_is_const(arg))
        return expr_bool(r, !arg->value.b, location);
    if (arg->kind == EXPR_NOT)
        return arg->args[0];
    return expr_new(r, &node, &arg, 1);
}

int sql_expr_and(const struct sql_expr *a, const struct sql_expr *b, struct arena *arena,
                 const struct sql_expr **out, struct err *err)
{
    struct err own = {0};
    struct resolve r = {.arena = arena,
                        .err = err ? err : &own,
                        .text = WHERE_PREFIX,
                        .uncounted = WHERE_PREFIX_BYTES};
    struct sql_expr pair[2] = {*a, *b};
    struct sql_expr *args[2];

    for (size_t i = 0; i < 2; i++) {
        args[i] = arena_alloc(arena, sizeof(pair[i]));
        if (!args[i])
            return err_set(err, ERR_MEMORY, "out of memory for a where-clause");
        *args[i] = pair[i];
    }
    *out = expr_and(&r, false, args, 2, (int)WHERE_PREFIX_BYTES);
    return r.rc;
}
