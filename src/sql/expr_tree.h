/* The typed tree, as the files of sql/ that make and walk it share it. Internal to sql/.
 *
 * Nodes are made by the functions below only, which keep it canonical from the leaves up:
 * constants are folded, AND, OR and IN flattened and sorted. A node may have several parents (x
 * of x BETWEEN a AND b); `size` counts it for each, so that a walk is bounded by
 * SQL_EXPR_NODES_MAX and a recursion by SQL_EXPR_DEPTH_MAX. */
#ifndef COULOMB_SQL_EXPR_TREE_H
#define COULOMB_SQL_EXPR_TREE_H

#include "sql/expr.h"

enum expr_kind {
    EXPR_CONST,
    EXPR_COLUMN,
    EXPR_CALL,    /* fn over args; an operator or a function */
    EXPR_CAST,    /* args[0] by fn, of arrays element by element; no fn: by its text */
    EXPR_COLLATE, /* args[0] COLLATE "C" */
    EXPR_AND,
    EXPR_OR,
    EXPR_NOT,
    EXPR_IS_NULL,
    EXPR_IS_TRUE,
    EXPR_IS_FALSE,
    EXPR_DISTINCT, /* args[0] IS DISTINCT FROM args[1], by fn, which is = */
    EXPR_IN,       /* args[0] IN (args[1], …), all constants, by fn, which is = */
    EXPR_ANY,      /* args[0] fn ANY (args[1]) */
    EXPR_ALL,
    EXPR_CASE, /* WHEN args[0] THEN args[1] … ELSE the last, so count is odd */
    EXPR_COALESCE,
    EXPR_GREATEST, /* by fn, which is > */
    EXPR_LEAST,    /* by fn, which is < */
    EXPR_ARRAY,    /* ARRAY[args], of one dimension */
    EXPR_ELEMENT,  /* args[0] [args[1]] [args[2]] … */
    EXPR_SLICE     /* args[0] [args[1] : args[2]] …; see `omitted` */
};

/* How an expression came by its collation, as in Postgres's assign_collations. */
enum expr_strength {
    COLLATION_NONE,
    COLLATION_IMPLICIT,
    COLLATION_CONFLICT,
    COLLATION_EXPLICIT
};

struct expr_collation {
    enum expr_strength strength;
    enum sql_collation kind; /* DEFAULT: the database's */
    uint32_t oid;
};

struct sql_expr {
    enum expr_kind kind;
    struct sql_type type;
    const struct sql_enum *enumeration; /* of an enum or an array of them */
    struct expr_collation collation;
    int location;  /* a byte of the wrapped text, for messages */
    bool may_fail; /* a row may make it raise an error */
    unsigned depth;
    unsigned size;
    const struct sql_function *fn;
    const struct sql_type
        *fn_types; /* of fn's arguments, count of them (IN, ANY, …: two) */
    size_t column;
    unsigned omitted; /* SLICE: bit i: args[i + 1], a bound, was left out (and is NULL) */
    unsigned param;   /* a constant that is $n, else 0 */
    struct sql_value value; /* CONST; of unknown type: s */
    struct slice text;      /* CONST, not NULL: its output, for printing and comparing */
    struct sql_expr **args;
    size_t count;
};

/* What is being resolved. Errors are sticky: rc is set once, by the first; then every function
 * below gives NULL. */
struct resolve {
    const struct sql_table *table;
    const struct sql_params *params;
    struct arena *arena;
    struct err *err; /* never NULL */
    int rc;
    const char *text; /* wrapped, terminated */
    size_t uncounted; /* bytes of it in front that locations don't count */
    unsigned depth;
    struct sql_type *param_types; /* params->count, base SQL_UNKNOWN: not decided yet */
};

/* "SELECT 1 WHERE ": locations don't count it. */
#define WHERE_PREFIX       "SELECT 1 WHERE "
#define WHERE_PREFIX_BYTES (sizeof(WHERE_PREFIX) - 1)

/* Sets the error "At location <n>: …", n in characters of the clause; gives NULL. */
struct sql_expr *resolve_refuse(struct resolve *r, int location, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same from an error of a value's function: `code`, the reason being in r->err. */
struct sql_expr *resolve_failed(struct resolve *r, int location, int code,
                                const char *what);
struct sql_expr *resolve_memory(struct resolve *r);

/* --- Making nodes (fold.c) --- */

struct sql_expr *expr_const(struct resolve *r, struct sql_type type,
                            const struct sql_enum *enumeration, struct sql_value value,
                            int location);
struct sql_expr *expr_bool(struct resolve *r, bool value, int location);
struct sql_expr *expr_null(struct resolve *r, struct sql_type type,
                           const struct sql_enum *enumeration, int location);
struct sql_expr *expr_column(struct resolve *r, size_t column, int location);
/* Copies node and args; folds when it can. */
struct sql_expr *expr_make(struct resolve *r, const struct sql_expr *node,
                           struct sql_expr **args, size_t count);
/* A tree as it is, of args that are all typed: for what doesn't fold. */
struct sql_expr *expr_new(struct resolve *r, const struct sql_expr *node,
                          struct sql_expr **args, size_t count);
bool expr_is_const(const struct sql_expr *e);
bool expr_is_null(const struct sql_expr *e);
/* Runs fn elementwise over an array. */
enum sql_failure expr_cast_array(struct sql_call *call, const struct sql_function *fn,
                                 const struct sql_value *in, struct sql_value *out);
/* The steps of a cast: fn or text, elements or scalar, then the typmod. */
enum sql_failure expr_cast(struct sql_call *call, const struct sql_function *fn,
                           struct sql_type to, const struct sql_value *in,
                           struct sql_value *out);
/* a op b for every b of the array, as ANY (all false) or ALL gives it. */
enum sql_failure expr_any(struct sql_call *call, const struct sql_function *fn, bool all,
                          const struct sql_value *a, const struct sql_array *array,
                          struct sql_value *out);

/* args[0] is the array, then subscripts or pairs of bounds (eval_array.c). */
enum sql_failure expr_subscript(struct sql_call *call, bool is_slice, unsigned omitted,
                                const struct sql_value *args, size_t count,
                                struct sql_value *out);

/* --- Canonical form (canon.c) --- */

struct sql_expr *expr_and(struct resolve *r, bool is_or, struct sql_expr **args,
                          size_t count, int location);
struct sql_expr *expr_not(struct resolve *r, struct sql_expr *arg, int location);
/* A total order over trees; 0: they are the same. */
int expr_cmp(const struct sql_expr *a, const struct sql_expr *b);
/* Sorts and removes what is there twice; gives the new count. */
size_t expr_sort(struct sql_expr **args, size_t count);

/* --- Printing (print.c) --- */

/* A column's or a type's name, in quotes. */
void expr_put_name(struct buf *out, struct slice name);

/* --- Types and functions (resolve_type.c, resolve_match.c) --- */

bool sql_type_same(struct sql_type a, struct sql_type b); /* but for the typmod */
char type_category(struct sql_type t);
/* Whether fn maps the case of letters. */
bool expr_maps_case(const struct sql_function *fn);
/* What a call of fn under that collation maps it with; NULL: fn doesn't, or it is not known. */
const struct sql_letters *expr_letters(const struct sql_table *table,
                                       const struct sql_function *fn,
                                       const struct expr_collation *collation);
bool type_preferred(struct sql_type t);
struct sql_type type_element(struct sql_type t);
struct sql_type type_array(struct sql_type t);
/* For messages: the enum's or column type's own name where there is one. */
const char *type_text(struct resolve *r, const struct sql_expr *e);

/* The function that casts, of at most that kind; NULL when none does. */
const struct sql_function *cast_find(struct sql_type from, struct sql_type to,
                                     enum sql_function_kind most);
bool type_coercible(struct sql_type from, struct sql_type to);

struct match {
    const struct sql_function *fn;
    struct sql_type *args; /* one for each argument given, without ANY types */
    struct sql_type result;
};

enum match_result { MATCH_FOUND, MATCH_UNKNOWN_NAME, MATCH_NONE, MATCH_MEMORY };
/* Postgres's choice among the overloads (parse_func.c, parse_oper.c). */
enum match_result match_find(struct arena *arena, enum sql_function_kind kind,
                             const char *name, const struct sql_type *types, size_t count,
                             struct match *out);

/* Casts to a type as an implicit cast does, or an explicit one. */
struct sql_expr *expr_coerce(struct resolve *r, struct sql_expr *e, struct sql_type to,
                             const struct sql_enum *enumeration, bool is_explicit,
                             int location);
/* select_common_type: false when there is none. All unknown: text. *enumeration as well. */
bool common_type(struct sql_expr **args, size_t count, struct sql_type *out,
                 const struct sql_enum **enumeration);
/* The best overload of name, for args, which are cast to what it takes, in place. Fills the node's
 * fn, fn_types, type, enumeration and collation; its location is set. */
bool call_resolve(struct resolve *r, enum sql_function_kind kind, const char *name,
                  struct sql_expr **args, size_t count, struct sql_expr *node);
/* The same, as a call. Writes to args. */
struct sql_expr *expr_call(struct resolve *r, enum sql_function_kind kind,
                           const char *name, struct sql_expr **args, size_t count,
                           int location);
/* The collation of what takes these; sets *out. */
void collation_combine(struct sql_expr **args, size_t count, struct expr_collation *out);
/* That fn may be called on them: refuses what the collation would decide. */
bool collation_allows(struct resolve *r, const struct sql_function *fn, const char *name,
                      struct sql_expr **args, size_t count, int location);

/* --- The parser's tree to ours (resolve.c) --- */

/* pg_node is a PgQuery__Node, whose header only resolve*.c and parse.c know. Refuses what isn't
 * boolean. */
struct sql_expr *resolve_where(struct resolve *r, const void *pg_node);

#endif
