/*
 * Running the bytecode over a row. One loop, no recursion; the only memory it takes is what the
 * functions take from the row's arena.
 */

#include "sql/eval.h"

#include "base/prefetch.h"
#include "sql/expr_tree.h"
#include "sql/value.h"

#define EXPECT_BYTES 320 /* what a short clause has */

enum column_state { COLUMN_UNREAD, COLUMN_READ };

void sql_row_begin(struct sql_row *row)
{
    memset(row->states, COLUMN_UNREAD, row->table->count);
}

static bool read_column(struct sql_row *row, size_t column, struct err *err)
{
    struct sql_value *v = &row->values[column];
    struct sql_type type = row->table->columns[column].type;
    struct slice text;

    if (row->states[column] == COLUMN_READ)
        return true;
    *v = (struct sql_value){.null = true};
    type.typmod = -1; /* what is stored has been through it */
    if (row->get(row->ctx, column, &text)) {
        int rc = sql_value_in(type, text, row->arena, v, err);

        if (rc != 0)
            return false;
    }
    row->states[column] = COLUMN_READ;
    return true;
}

static bool column_is_null(struct sql_row *row, size_t column)
{
    struct slice text;

    if (row->states[column] == COLUMN_READ)
        return row->values[column].null;
    return !row->get(row->ctx, column, &text);
}

const struct sql_value *sql_row_value(struct sql_row *row, size_t column, struct err *err)
{
    return read_column(row, column, err) ? &row->values[column] : NULL;
}

struct machine {
    const struct sql_program *p;
    struct sql_row *row;
    struct err *err;
    struct sql_value reg[SQL_REGISTERS_MAX];
};

static enum sql_failure call(struct machine *m, const struct op_call *c,
                             struct sql_value *args)
{
    struct sql_call in = {m->row->arena, m->err, c->types, c->count, c->letters};
    struct sql_value out = {0};

    if (c->fn->strict) {
        for (size_t i = 0; i < c->count; i++) {
            if (args[i].null)
                return sql_null_result(args);
        }
    }
    if (c->fn->fn(&in, args, &out) != SQL_FINE)
        return SQL_FAILED;
    args[0] = out;
    return SQL_FINE;
}

static enum sql_failure in_list(struct machine *m, const struct op_call *c,
                                struct sql_value *v)
{
    const struct sql_value *items = m->p->consts + c->first;
    struct sql_call in = {m->row->arena, m->err, c->types, 2, c->letters};
    size_t low = 0, high = c->items;

    if (v->null)
        return SQL_FINE;
    while (c->sorted && low < high) {
        size_t middle = low + (high - low) / 2;
        int order = sql_value_cmp(c->types[1], v, &items[middle]);

        if (order == 0)
            return sql_bool_result(v, true);
        low = order > 0 ? middle + 1 : low;
        high = order < 0 ? middle : high;
    }
    for (size_t i = 0; !c->sorted && i < c->items; i++) {
        struct sql_value pair[2] = {*v, items[i]};
        struct sql_value out = {0};

        if (c->fn->fn(&in, pair, &out) != SQL_FINE)
            return SQL_FAILED;
        if (!out.null && out.b)
            return sql_bool_result(v, true);
    }
    return c->has_null ? sql_null_result(v) : sql_bool_result(v, false);
}

static enum sql_failure distinct(struct machine *m, const struct op_call *c,
                                 struct sql_value *pair)
{
    if (pair[0].null || pair[1].null)
        return sql_bool_result(pair, pair[0].null != pair[1].null);
    if (call(m, c, pair) != SQL_FINE)
        return SQL_FAILED;
    return sql_bool_result(pair, pair[0].null || !pair[0].b);
}

static enum sql_failure any(struct machine *m, const struct op_call *c, bool all,
                            struct sql_value *pair)
{
    struct sql_call in = {m->row->arena, m->err, c->types, 2, c->letters};
    struct sql_value a = pair[0];

    if (pair[1].null)
        return sql_null_result(pair);
    return expr_any(&in, c->fn, all, &a, pair[1].array, pair);
}

static enum sql_failure better(struct machine *m, const struct op_call *c,
                               struct sql_value *pair)
{
    struct sql_value turned[2] = {pair[1], pair[0]};

    if (pair[1].null)
        return SQL_FINE;
    if (!pair[0].null) {
        if (call(m, c, turned) != SQL_FINE)
            return SQL_FAILED;
        if (!turned[0].b)
            return SQL_FINE;
    }
    pair[0] = pair[1];
    return SQL_FINE;
}

static enum sql_failure cast(struct machine *m, const struct op_call *c,
                             struct sql_value *v)
{
    struct sql_call in = {m->row->arena, m->err, c->types, 1, NULL};
    struct sql_value from = *v;

    return expr_cast(&in, c->fn, c->to, &from, v);
}

static enum sql_failure make_array(struct machine *m, const struct op_call *c,
                                   struct sql_value *items)
{
    const struct sql_array *a = sql_array_make(m->row->arena, items, c->count);

    if (!a) {
        err_set(m->err, ERR_MEMORY, "out of memory");
        return SQL_FAILED;
    }
    items[0] = (struct sql_value){.array = a};
    return SQL_FINE;
}

static enum sql_failure subscript(struct machine *m, const struct op_call *c,
                                  bool is_slice, struct sql_value *args)
{
    struct sql_call in = {m->row->arena, m->err, NULL, c->count, NULL};
    struct sql_value out = {0};

    if (expr_subscript(&in, is_slice, c->omitted, args, c->count, &out) != SQL_FINE)
        return SQL_FAILED;
    args[0] = out;
    return SQL_FINE;
}

/* AND of two that are neither decided: false wins, then NULL. OR: true wins, then NULL. */
static void logic(struct sql_value *pair, bool is_or)
{
    if ((!pair[0].null && pair[0].b == is_or) || (!pair[1].null && pair[1].b == is_or))
        pair[0] = (struct sql_value){.b = is_or};
    else if (pair[1].null)
        pair[0].null = true;
}

static bool jumps(enum op_code code, const struct sql_value *v)
{
    switch ((int)code) {
    case OP_JUMP_IF_TRUE:
        return !v->null && v->b;
    case OP_JUMP_IF_FALSE:
        return !v->null && !v->b;
    case OP_JUMP_UNLESS:
        return v->null || !v->b;
    case OP_JUMP_NOT_NULL:
        return !v->null;
    default:
        return true;
    }
}

/* Operations that can fail. */
static enum sql_failure step(struct machine *m, const struct op *op, struct sql_value *d)
{
    const struct op_call *c = &m->p->calls[op->arg];

    switch ((int)op->code) {
    case OP_COLUMN:
        if (!read_column(m->row, op->arg, m->err))
            return SQL_FAILED;
        *d = m->row->values[op->arg];
        return SQL_FINE;
    case OP_CALL:
        return call(m, c, d);
    case OP_CAST:
        return cast(m, c, d);
    case OP_DISTINCT:
        return distinct(m, c, d);
    case OP_IN:
        return in_list(m, c, d);
    case OP_ANY:
    case OP_ALL:
        return any(m, c, op->code == OP_ALL, d);
    case OP_BETTER:
        return better(m, c, d);
    case OP_ARRAY:
        return make_array(m, c, d);
    case OP_ELEMENT:
    case OP_SLICE:
        return subscript(m, c, op->code == OP_SLICE, d);
    default:
        return SQL_FINE;
    }
}

static enum sql_verdict verdict(const struct sql_value *v)
{
    // NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Branch): compile.c writes it first
    if (v->null)
        return SQL_IS_NULL;
    return v->b ? SQL_IS_TRUE : SQL_IS_FALSE;
}

void sql_program_expect(const struct sql_program *program)
{
    const char *at = (const char *)program;

    for (size_t i = 0; i < EXPECT_BYTES; i += CACHE_LINE_BYTES)
        PREFETCH(at + i);
}

enum sql_verdict sql_program_run(const struct sql_program *program, struct sql_row *row,
                                 struct err *err)
{
    struct machine m;
    const struct op *op = program->ops;

    m.p = program;
    m.row = row;
    m.err = err;
    for (;; op++) {
        struct sql_value *d = &m.reg[op->dst];

        switch ((enum op_code)op->code) {
        case OP_END:
            return verdict(&m.reg[0]);
        case OP_CONST:
            *d = program->consts[op->arg];
            break;
        case OP_COLUMN_NULL:
            *d = (struct sql_value){.b = column_is_null(row, op->arg)};
            break;
        case OP_NOT:
            d->b = !d->null && !d->b;
            break;
        case OP_AND:
        case OP_OR:
            logic(d, op->code == OP_OR);
            break;
        case OP_IS_NULL:
            *d = (struct sql_value){.b = d->null};
            break;
        case OP_IS_TRUE:
        case OP_IS_FALSE:
            *d = (struct sql_value){.b = !d->null && d->b == (op->code == OP_IS_TRUE)};
            break;
        case OP_JUMP:
        case OP_JUMP_IF_TRUE:
        case OP_JUMP_IF_FALSE:
        case OP_JUMP_UNLESS:
        case OP_JUMP_NOT_NULL:
            if (jumps((enum op_code)op->code, d))
                op = program->ops + op->arg - 1;
            break;
        case OP_COLUMN:
        case OP_CALL:
        case OP_CAST:
        case OP_DISTINCT:
        case OP_IN:
        case OP_ANY:
        case OP_ALL:
        case OP_BETTER:
        case OP_ARRAY:
        case OP_ELEMENT:
        case OP_SLICE:
            if (step(&m, op, d) != SQL_FINE)
                return SQL_IS_ERROR;
            break;
        }
    }
}
