/*
 * The tree as bytecode. It is built in memory of the moment, sized by the tree, and then copied
 * into one block of exactly the right size: there may be a million programs.
 */

#include <stdlib.h>

#include "sql/eval.h"
#include "sql/expr_tree.h"
#include "sql/ops.h"

#define SCRATCH_MAX_BYTES ((size_t)64 * 1024 * 1024)

struct compile {
    const struct sql_table *table;
    struct arena arena;
    struct op *ops;
    struct op_call *calls;
    const struct sql_expr **consts;
    size_t op_count, call_count, const_count, type_count;
    size_t registers;
};

static size_t emit(struct compile *c, enum op_code code, size_t dst, size_t arg)
{
    c->ops[c->op_count] = (struct op){(unsigned char)code, (uint16_t)dst, (uint32_t)arg};
    return c->op_count++;
}

static void land(struct compile *c, size_t jump)
{
    c->ops[jump].arg = (uint32_t)c->op_count;
}

static size_t add_call(struct compile *c, const struct sql_expr *e,
                       const struct sql_type *types, size_t count)
{
    c->calls[c->call_count] = (struct op_call){
        .fn = e->fn, .types = types, .count = (uint32_t)count, .to = e->type};
    c->calls[c->call_count].omitted = e->omitted;
    c->calls[c->call_count].letters = expr_letters(c->table, e->fn, &e->collation);
    c->type_count += types ? count : 0;
    return c->call_count++;
}

static size_t add_const(struct compile *c, const struct sql_expr *e)
{
    c->consts[c->const_count] = e;
    return c->const_count++;
}

// NOLINTBEGIN(misc-no-recursion): at most SQL_EXPR_DEPTH_MAX levels, by expr_new

static void put(struct compile *c, const struct sql_expr *e, size_t dst);

static void put_args(struct compile *c, const struct sql_expr *e, size_t dst)
{
    for (size_t i = 0; i < e->count; i++)
        put(c, e->args[i], dst + i);
}

/* The first operand that decides ends it. */
static void put_logic(struct compile *c, const struct sql_expr *e, size_t dst)
{
    bool is_or = e->kind == EXPR_OR;
    size_t *jumps = arena_calloc(&c->arena, e->count, sizeof(*jumps));

    if (!jumps) {
        c->registers = SIZE_MAX;
        return;
    }
    for (size_t i = 0; i < e->count; i++) {
        put(c, e->args[i], i == 0 ? dst : dst + 1);
        if (i > 0)
            emit(c, is_or ? OP_OR : OP_AND, dst, 0);
        jumps[i] = emit(c, is_or ? OP_JUMP_IF_TRUE : OP_JUMP_IF_FALSE, dst, 0);
    }
    for (size_t i = 0; i < e->count; i++)
        land(c, jumps[i]);
}

static void put_case(struct compile *c, const struct sql_expr *e, size_t dst)
{
    size_t *ends = arena_calloc(&c->arena, e->count, sizeof(*ends));
    size_t n = 0;

    if (!ends) {
        c->registers = SIZE_MAX;
        return;
    }
    for (size_t i = 0; i + 1 < e->count; i += 2) {
        size_t next;

        put(c, e->args[i], dst);
        next = emit(c, OP_JUMP_UNLESS, dst, 0);
        put(c, e->args[i + 1], dst);
        ends[n++] = emit(c, OP_JUMP, dst, 0);
        land(c, next);
    }
    put(c, e->args[e->count - 1], dst);
    for (size_t i = 0; i < n; i++)
        land(c, ends[i]);
}

static void put_coalesce(struct compile *c, const struct sql_expr *e, size_t dst)
{
    size_t *ends = arena_calloc(&c->arena, e->count, sizeof(*ends));

    if (!ends) {
        c->registers = SIZE_MAX;
        return;
    }
    for (size_t i = 0; i < e->count; i++) {
        put(c, e->args[i], dst);
        ends[i] = emit(c, OP_JUMP_NOT_NULL, dst, 0);
    }
    for (size_t i = 0; i < e->count; i++)
        land(c, ends[i]);
}

static void put_best(struct compile *c, const struct sql_expr *e, size_t dst)
{
    size_t call = add_call(c, e, e->fn_types, 2);

    put(c, e->args[0], dst);
    for (size_t i = 1; i < e->count; i++) {
        put(c, e->args[i], dst + 1);
        emit(c, OP_BETTER, dst, call);
    }
}

/* Both sides' values look alike, so that one type's order tells about both. */
static bool compares_as(struct sql_type a, struct sql_type b)
{
    bool ints = !a.array && !b.array && a.base >= SQL_INT2 && a.base <= SQL_INT8 &&
                b.base >= SQL_INT2 && b.base <= SQL_INT8;

    return ints || sql_type_same(a, b);
}

static void put_in(struct compile *c, const struct sql_expr *e, size_t dst)
{
    size_t call = add_call(c, e, e->fn_types, 2);
    struct op_call *in = &c->calls[call];

    in->first = (uint32_t)c->const_count;
    in->sorted = e->fn->fn == sql_eq && compares_as(e->fn_types[0], e->fn_types[1]);
    for (size_t i = 1; i < e->count; i++) {
        if (expr_is_null(e->args[i])) {
            in->has_null = true;
            continue;
        }
        add_const(c, e->args[i]);
        in->items++;
    }
    put(c, e->args[0], dst);
    emit(c, OP_IN, dst, call);
}

static void put_null_test(struct compile *c, const struct sql_expr *e, size_t dst)
{
    if (e->args[0]->kind == EXPR_COLUMN) {
        emit(c, OP_COLUMN_NULL, dst, e->args[0]->column);
        return;
    }
    put(c, e->args[0], dst);
    emit(c, OP_IS_NULL, dst, 0);
}

static void put_simple(struct compile *c, const struct sql_expr *e, size_t dst,
                       enum op_code code)
{
    put_args(c, e, dst);
    emit(c, code, dst, 0);
}

static void put_calling(struct compile *c, const struct sql_expr *e, size_t dst,
                        enum op_code code, const struct sql_type *types, size_t count)
{
    size_t call = add_call(c, e, types, count);

    put_args(c, e, dst);
    emit(c, code, dst, call);
}

/* Kinds whose arguments lie in registers all at a time. */
static bool takes_all(enum expr_kind kind)
{
    return kind == EXPR_CALL || kind == EXPR_ARRAY || kind == EXPR_ELEMENT ||
           kind == EXPR_SLICE;
}

static void put(struct compile *c, const struct sql_expr *e, size_t dst)
{
    size_t needed = dst + (takes_all(e->kind) ? e->count : 2) + 1;

    if (needed > c->registers)
        c->registers = needed;
    if (c->registers > SQL_REGISTERS_MAX)
        return;
    switch (e->kind) {
    case EXPR_CONST:
        emit(c, OP_CONST, dst, add_const(c, e));
        break;
    case EXPR_COLUMN:
        emit(c, OP_COLUMN, dst, e->column);
        break;
    case EXPR_CALL:
        put_calling(c, e, dst, OP_CALL, e->fn_types, e->count);
        break;
    case EXPR_CAST:
        put_calling(c, e, dst, OP_CAST, &e->args[0]->type, 1);
        break;
    case EXPR_COLLATE:
        put(c, e->args[0], dst);
        break;
    case EXPR_AND:
    case EXPR_OR:
        put_logic(c, e, dst);
        break;
    case EXPR_NOT:
        put_simple(c, e, dst, OP_NOT);
        break;
    case EXPR_IS_NULL:
        put_null_test(c, e, dst);
        break;
    case EXPR_IS_TRUE:
        put_simple(c, e, dst, OP_IS_TRUE);
        break;
    case EXPR_IS_FALSE:
        put_simple(c, e, dst, OP_IS_FALSE);
        break;
    case EXPR_DISTINCT:
        put_calling(c, e, dst, OP_DISTINCT, e->fn_types, 2);
        break;
    case EXPR_IN:
        put_in(c, e, dst);
        break;
    case EXPR_ANY:
        put_calling(c, e, dst, OP_ANY, e->fn_types, 2);
        break;
    case EXPR_ALL:
        put_calling(c, e, dst, OP_ALL, e->fn_types, 2);
        break;
    case EXPR_ELEMENT:
        put_calling(c, e, dst, OP_ELEMENT, NULL, e->count);
        break;
    case EXPR_SLICE:
        put_calling(c, e, dst, OP_SLICE, NULL, e->count);
        break;
    case EXPR_CASE:
        put_case(c, e, dst);
        break;
    case EXPR_COALESCE:
        put_coalesce(c, e, dst);
        break;
    case EXPR_GREATEST:
    case EXPR_LEAST:
        put_best(c, e, dst);
        break;
    case EXPR_ARRAY:
        put_calling(c, e, dst, OP_ARRAY, NULL, e->count);
        break;
    }
}

// NOLINTEND(misc-no-recursion)

/* ---- the finished program ---- */

static bool is_deep(struct sql_type t)
{
    return t.array || t.base == SQL_NUMERIC;
}

static bool has_bytes(struct sql_type t)
{
    return !t.array && (type_category(t) == 'S' || t.base == SQL_ENUM ||
                        t.base == SQL_BYTEA || t.base == SQL_JSONB);
}

/* A constant with all that it points to: bytes go to *bytes, other things are read again from
 * their text. */
static int copy_const(struct sql_program *p, const struct sql_expr *e, char **bytes,
                      struct sql_value *out, struct err *err)
{
    *out = e->value;
    if (e->value.null)
        return 0;
    if (is_deep(e->type)) {
        char *text = arena_dup(&p->deep, e->text);

        if (!text)
            return err_set(err, ERR_MEMORY, "out of memory for a program");
        return sql_value_in(e->type, slice_make(text, e->text.len), &p->deep, out, err);
    }
    if (has_bytes(e->type)) {
        if (e->value.s.len > 0)
            memcpy(*bytes, e->value.s.ptr, e->value.s.len);
        out->s.ptr = *bytes;
        *bytes += e->value.s.len;
    }
    return 0;
}

/* In the order of their type, by merging: a comparison needs the type, which qsort won't pass. */
static int sort_items(struct compile *c, struct sql_type type, struct sql_value *v,
                      size_t n)
{
    struct sql_value *from = v;
    struct sql_value *to = arena_calloc(&c->arena, n, sizeof(*to));
    struct sql_value *swap;

    if (!to)
        return ERR_MEMORY;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t at = 0; at < n; at += 2 * width) {
            size_t a = at, a_end = at + width < n ? at + width : n;
            size_t b = a_end, b_end = at + 2 * width < n ? at + 2 * width : n;

            for (size_t k = at; k < b_end; k++) {
                bool left = b >= b_end ||
                            (a < a_end && sql_value_cmp(type, &from[a], &from[b]) <= 0);
                to[k] = left ? from[a++] : from[b++];
            }
        }
        swap = from;
        from = to;
        to = swap;
    }
    if (from != v)
        memcpy(v, from, n * sizeof(*v));
    return 0;
}

static size_t rounded(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

static int finish(struct compile *c, struct sql_program **out, struct err *err)
{
    size_t ops = rounded(sizeof(struct sql_program));
    size_t calls = ops + rounded(c->op_count * sizeof(struct op));
    size_t types = calls + rounded(c->call_count * sizeof(struct op_call));
    size_t consts = types + rounded(c->type_count * sizeof(struct sql_type));
    size_t bytes = consts + rounded(c->const_count * sizeof(struct sql_value));
    size_t total = bytes;
    struct sql_program *p;
    struct sql_value *values;
    struct op_call *copied;
    struct sql_type *type;
    char *block, *at;
    int rc = 0;

    for (size_t i = 0; i < c->const_count; i++) {
        if (has_bytes(c->consts[i]->type) && !c->consts[i]->value.null)
            total += c->consts[i]->value.s.len;
    }
    block = calloc(1, total);
    if (!block)
        return err_set(err, ERR_MEMORY, "out of memory for a program");
    p = (void *)block;
    values = (void *)(block + consts);
    copied = (void *)(block + calls);
    type = (void *)(block + types);
    at = block + bytes;
    arena_init(&p->deep, SCRATCH_MAX_BYTES);
    memcpy(block + ops, c->ops, c->op_count * sizeof(struct op));
    for (size_t i = 0; i < c->call_count; i++) {
        copied[i] = c->calls[i];
        if (!copied[i].types)
            continue;
        memcpy(type, copied[i].types, copied[i].count * sizeof(*type));
        copied[i].types = type;
        type += copied[i].count;
    }
    for (size_t i = 0; rc == 0 && i < c->const_count; i++)
        rc = copy_const(p, c->consts[i], &at, &values[i], err);
    for (size_t i = 0; rc == 0 && i < c->call_count; i++) {
        if (copied[i].sorted)
            rc = sort_items(c, copied[i].types[1], values + copied[i].first,
                            copied[i].items);
    }
    p->ops = (void *)(block + ops);
    p->calls = copied;
    p->consts = values;
    p->size_bytes = total;
    if (rc != 0) {
        sql_program_free(p);
        return rc == ERR_MEMORY ? err_set(err, rc, "out of memory for a program") : rc;
    }
    *out = p;
    return 0;
}

int sql_program_new(const struct sql_expr *expr, const struct sql_table *table,
                    struct sql_program **out, struct err *err)
{
    struct compile c = {.table = table};
    int rc;

    *out = NULL;
    arena_init(&c.arena, SCRATCH_MAX_BYTES);
    /* A node makes at most one operation of its own and two for each argument. */
    c.ops = arena_calloc(&c.arena, 4 * (size_t)expr->size + 2, sizeof(*c.ops));
    c.calls = arena_calloc(&c.arena, expr->size, sizeof(*c.calls));
    c.consts = arena_calloc(&c.arena, expr->size, sizeof(struct sql_expr *));
    if (c.ops && c.calls && c.consts) {
        put(&c, expr, 0);
        emit(&c, OP_END, 0, 0);
    }
    if (!c.ops || !c.calls || !c.consts || c.registers == SIZE_MAX)
        rc = err_set(err, ERR_MEMORY, "out of memory for a program");
    else if (c.registers > SQL_REGISTERS_MAX)
        rc = err_set(err, ERR_INVALID, "the expression is too complex");
    else
        rc = finish(&c, out, err);
    arena_fini(&c.arena);
    return rc;
}

void sql_program_free(struct sql_program *program)
{
    if (!program)
        return;
    arena_fini(&program->deep);
    free(program);
}

size_t sql_program_size(const struct sql_program *program)
{
    return program->size_bytes + program->deep.used_bytes;
}
