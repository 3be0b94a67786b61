/* The bytecode, shared by compile.c and eval.c. Internal to sql/.
 *
 * A register machine: an expression compiled for register d leaves its value there and uses
 * those above it; arguments of a call lie in d, d + 1, … */
#ifndef COULOMB_SQL_EVAL_H
#define COULOMB_SQL_EVAL_H

#include "sql/expr.h"

enum op_code {
    OP_END,         /* the verdict is in register 0 */
    OP_CONST,       /* d = consts[arg] */
    OP_COLUMN,      /* d = the row's column arg */
    OP_COLUMN_NULL, /* d = whether the row's column arg is NULL */
    OP_CALL,        /* d = calls[arg] of d, … */
    OP_CAST,        /* d = calls[arg] as a cast of d */
    OP_NOT,         /* d = NOT d */
    OP_AND,         /* d = d AND d+1 */
    OP_OR,          /* d = d OR d+1 */
    OP_IS_NULL,     /* d = d IS NULL … */
    OP_IS_TRUE,
    OP_IS_FALSE,
    OP_DISTINCT, /* d = d IS DISTINCT FROM d+1, by calls[arg] */
    OP_IN,       /* d = d IN the constants of calls[arg] */
    OP_ANY,      /* d = d op ANY (d+1), by calls[arg] */
    OP_ALL,
    OP_BETTER,  /* d = d+1 if d is NULL, or d+1 isn't and calls[arg] of d+1, d is true */
    OP_ARRAY,   /* d = ARRAY[d, …], calls[arg].count of them */
    OP_ELEMENT, /* d = d[d+1]…, calls[arg].count registers in all */
    OP_SLICE,
    OP_JUMP,          /* to ops[arg] */
    OP_JUMP_IF_TRUE,  /* when d is true */
    OP_JUMP_IF_FALSE, /* when d is false, not NULL */
    OP_JUMP_UNLESS,   /* when d is false or NULL */
    OP_JUMP_NOT_NULL  /* when d is not NULL */
};

struct op {
    unsigned char code;
    uint16_t dst;
    uint32_t arg;
};

struct op_call {
    const struct sql_function *fn;     /* NULL: a cast by its text, or of the typmod */
    const struct sql_type *types;      /* count of them, of the arguments */
    const struct sql_letters *letters; /* of functions that map case */
    uint32_t count;
    uint32_t omitted; /* SLICE */
    uint32_t first;   /* IN: its constants are consts[first] … */
    uint32_t items;   /* … and so many, in the order of their type when `sorted` */
    bool sorted;
    bool has_null;      /* IN: there was a NULL among them, which is left out */
    struct sql_type to; /* CAST */
};

/* One allocation, but for what constants of numeric and array types point to. */
struct sql_program {
    const struct op *ops;
    const struct op_call *calls;
    const struct sql_value *consts;
    size_t size_bytes;
    struct arena deep;
};

#endif
