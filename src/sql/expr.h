/* Where-clauses (spec 6): from text to a typed tree in canonical form, back to SQL, to bytecode,
 * and to what an index over many clauses can use.
 *
 * The rule of types.h holds: as Postgres answers, or refused. What the tree prints is SQL with
 * every cast written out, so that Postgres resolves it to the very operators that the bytecode
 * calls; snapshots run that text, never the caller's.
 *
 * Trees are immutable, live in the arena that they were made in, and borrow the table that they
 * were resolved against: it has to outlive them. Programs own all that they need. Both may be
 * read by any number of threads. */
#ifndef COULOMB_SQL_EXPR_H
#define COULOMB_SQL_EXPR_H

#include "sql/types.h"

/* Bytes of a clause's text. Longer: ERR_INVALID, "bigger than maximum size". */
#define SQL_WHERE_MAX_BYTES (32u * 1024)
/* Texts up to here are parsed on the calling thread, which needs 1 MiB of stack for that. */
#define SQL_WHERE_SHORT_BYTES 256u
/* Levels of a tree, its nodes, and values that an evaluation holds at a time. Beyond:
 * ERR_INVALID, "too complex". */
#define SQL_EXPR_DEPTH_MAX 200
#define SQL_EXPR_NODES_MAX 65536
#define SQL_REGISTERS_MAX  512
#define SQL_PARAMS_MAX     65535

/* How the message of a clause with one ends, for who words it otherwise. */
#define SQL_NO_SUBQUERIES "subqueries are not supported yet"

/* --- The table --- */

enum sql_collation {
    SQL_COLLATION_DEFAULT, /* the database's: see sql_table.collation; also of other types */
    SQL_COLLATION_C,       /* C or POSIX: bytes decide */
    SQL_COLLATION_DETERMINISTIC, /* equal is what has the same bytes; the order is unknown */
    SQL_COLLATION_OTHER          /* nondeterministic: refused in anything but IS NULL */
};

struct sql_enum {
    uint32_t oid; /* pg_type.oid, as in sql_type.oid */
    struct slice schema;
    struct slice name;
    const struct slice *labels;
    size_t label_count;
    bool
        any_label; /* what is none of them is left to Postgres: for what is not compiled */
};

struct sql_column {
    struct slice name;
    struct sql_type type;
    enum sql_collation collation;
    uint32_t collation_oid;             /* pg_collation.oid: tells two collations apart */
    const struct sql_enum *enumeration; /* of an enum or an array of enums, else NULL */
    struct slice
        type_name; /* pg_type.typname, for messages, when the base is SQL_OTHER */
    bool hidden;   /* as if it were not there (queryable_columns, spec 1.7) */
};

/* All slices and arrays are borrowed. */
struct sql_table {
    const struct sql_column *columns;
    size_t count;
    enum sql_collation collation; /* the database's: C, DETERMINISTIC or OTHER */
    /* Lets lower, upper and ILIKE work on columns of the database's collation. NULL: they are
     * refused there, or under C what is beyond ASCII. Outlives all programs. */
    const struct sql_letters *letters;
};

/* Values of $1, $2, …, always text (spec 6.5). */
struct sql_params {
    const struct slice *values;
    size_t count;
};

/* --- Text to tree --- */

struct sql_expr;

/* Parses, resolves, folds constants and brings into canonical form: equal clauses give equal
 * trees, whatever the blanks, brackets, case of words, order of AND, OR and IN, and whether a
 * constant came as literal or parameter (spec 5.2).
 *
 * ERR_INVALID or ERR_UNSUPPORTED, both a 400 with the message of spec 6.7 ("At location 5: …");
 * ERR_MEMORY; ERR_RETRY when no thread can be made. Text need not be UTF-8 (ERR_INVALID).
 * Takes the time of parsing: some 20 µs for a short clause; a longer one (SQL_WHERE_SHORT_BYTES) is
 * waited for while a thread of its own parses it, and takes at most some 100 ms. */
int sql_where_parse(struct slice text, const struct sql_table *table,
                    const struct sql_params *params, struct arena *arena,
                    const struct sql_expr **out, struct err *err);

/* The same for a text that sql_expr_print made of a tree over such a table: whatever its length,
 * which is more than that of what it was made from. */
int sql_where_reparse(struct slice printed, const struct sql_table *table,
                      struct arena *arena, const struct sql_expr **out, struct err *err);

/* Both hold, e.g. a shape's clause and its subset's (spec 1.7), of the same table. */
int sql_expr_and(const struct sql_expr *a, const struct sql_expr *b, struct arena *arena,
                 const struct sql_expr **out, struct err *err);

/* The canonical text: what snapshots run and what identifies the clause. Fully bracketed, names
 * quoted, functions qualified, constants as casted literals. Failure is out->failed. */
void sql_expr_print(const struct sql_expr *expr, const struct sql_table *table,
                    struct buf *out);

/* Sets used[i] for each column i that the tree reads. */
void sql_expr_columns(const struct sql_expr *expr, bool *used);
/* Whether its answers depend on how the database maps the case of letters. */
bool sql_expr_maps_case(const struct sql_expr *expr);

/* --- ORDER BY lists (spec 1.7) --- */

struct sql_order_item {
    size_t column; /* of the table */
    bool descending;
    bool nulls_first;
};

struct sql_order {
    const struct sql_order_item *items; /* each column at most once */
    size_t count;
};

/* Columns that are not hidden, or positions, from 1, in what is `selected` (indexes of columns),
 * each with ASC, DESC, USING < or >, NULLS FIRST or LAST. Limits, errors and time as
 * sql_where_parse; locations count from 18. The items are the arena's. */
int sql_order_parse(struct slice text, const struct sql_table *table,
                    const uint16_t *selected, size_t selected_count, struct arena *arena,
                    struct sql_order *out, struct err *err);
/* What stands behind ORDER BY, with everything written out. Failure is out->failed. */
void sql_order_print(const struct sql_order *order, const struct sql_table *table,
                     struct buf *out);

/* --- Bytecode --- */

struct sql_program;

/* Values of one row, parsed when first asked for, however many programs ask. */
struct sql_row {
    const struct sql_table *table;
    /* The column's text as in the replication stream; false: it is NULL. The text stays until the
     * next sql_row_begin. */
    bool (*get)(void *ctx, size_t column, struct slice *text);
    void *ctx;
    struct arena
        *arena; /* of the values and of intermediate results; the caller resets it,
                                 at a sql_row_begin */
    struct sql_value *values; /* table->count of each, the caller's */
    unsigned char *states;
};

/* A next row: forgets the values. */
void sql_row_begin(struct sql_row *row);
/* A column's value, which may be NULL in SQL's sense; NULL when its text is none of its type (err
 * is required, and has it). */
const struct sql_value *sql_row_value(struct sql_row *row, size_t column,
                                      struct err *err);

enum sql_verdict {
    SQL_IS_FALSE,
    SQL_IS_TRUE,
    SQL_IS_NULL, /* not in the shape either */
    SQL_IS_ERROR /* Postgres would raise an error here, or memory is out: err has it */
};

/* Copies what it needs of the tree. ERR_INVALID ("too complex"), ERR_MEMORY. */
int sql_program_new(const struct sql_expr *expr, const struct sql_table *table,
                    struct sql_program **out, struct err *err);
void sql_program_free(struct sql_program *program); /* NULL is fine */
/* Bytes of memory it holds. */
size_t sql_program_size(const struct sql_program *program);
/* It will be run soon: its memory is asked for. */
void sql_program_expect(const struct sql_program *program);
/* Pure but for the row's cache. err is required; it is written with SQL_IS_ERROR only. */
enum sql_verdict sql_program_run(const struct sql_program *program, struct sql_row *row,
                                 struct err *err);

/* --- What an index can use (spec 6.8) --- */

enum sql_cond_kind {
    SQL_COND_AND,      /* of children */
    SQL_COND_OR,       /* of children */
    SQL_COND_NEVER,    /* constant false or NULL */
    SQL_COND_ALWAYS,   /* constant true */
    SQL_COND_IN,       /* column equals one of values (one or more, none NULL) */
    SQL_COND_MEMBER,   /* an element of the array column equals values[0] */
    SQL_COND_CONTAINS, /* the array column has all of values (one or more, none NULL) */
    SQL_COND_NULL,     /* column IS NULL */
    SQL_COND_TRUE,     /* the boolean column is true */
    SQL_COND_FALSE,    /* the boolean column is false */
    SQL_COND_RANGE,    /* column between low and high, each may be missing */
    SQL_COND_PREFIX, /* the text column begins with values[0]; more is for expr to say */
    SQL_COND_OTHER   /* only expr says */
};

/* Every kind is a necessary condition: a row on which it is not true is not in the shape. All
 * but PREFIX and OTHER are sufficient as well (exact is set), as are AND and OR of such. */
struct sql_cond {
    enum sql_cond_kind kind;
    bool exact;
    const struct sql_expr
        *expr; /* the same as a tree, to be compiled where it isn't exact */
    const struct sql_cond *children; /* AND, OR; in the canonical order */
    size_t child_count;
    size_t column;
    struct sql_type
        type; /* of the values: the column's, or that of its elements. To compare and
                             hash with (integers of all sizes look alike, so do floats) */
    const struct sql_value *values;
    size_t value_count;
    const struct sql_value *low; /* RANGE: NULL when there is none */
    const struct sql_value *high;
    bool low_open; /* low itself is outside */
    bool high_open;
};

/* Everything in the arena; values borrow the tree. AND's ranges over one column are joined. */
int sql_cond_make(const struct sql_expr *expr, const struct sql_table *table,
                  struct arena *arena, const struct sql_cond **out, struct err *err);

#endif
