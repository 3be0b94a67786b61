/* Postgres's types, as far as expressions of ours know them: values, their text form, order and
 * hash, and the operators, functions and casts over them.
 *
 * The rule of everything here is: as Postgres answers, or refused. Text forms are those of the
 * session settings that snapshots and the replication stream have (DateStyle ISO, TimeZone UTC,
 * IntervalStyle iso_8601, bytea_output hex, extra_float_digits 1).
 *
 * Values are plain data. What they point to lives in the arena that made them, or in the row.
 * Functions are pure and may run on any thread. */
#ifndef COULOMB_SQL_TYPES_H
#define COULOMB_SQL_TYPES_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

enum sql_base {
    SQL_UNKNOWN, /* a literal or parameter whose type nothing has decided yet: s */
    SQL_BOOL,
    SQL_INT2,
    SQL_INT4,
    SQL_INT8,
    SQL_FLOAT4,
    SQL_FLOAT8,
    SQL_NUMERIC,
    SQL_TEXT,
    SQL_VARCHAR,
    SQL_BPCHAR,
    SQL_NAME,
    SQL_UUID,
    SQL_DATE,
    SQL_TIME,
    SQL_TIMESTAMP,
    SQL_TIMESTAMPTZ,
    SQL_INTERVAL,
    SQL_BYTEA,
    SQL_ENUM, /* oid says which; a value is its label; order needs sql_enum */
    SQL_JSONB,
    SQL_OTHER, /* oid says which: only IS [NOT] NULL works on it */
    SQL_BASES
};

/* An array's element type is the same with `array` false. */
struct sql_type {
    enum sql_base base;
    bool array;
    uint32_t oid;   /* pg_type.oid; of enums and others what tells them apart */
    int32_t typmod; /* -1: none. varchar(n), numeric(p,s), time(p) … as in pg_attribute */
};

struct sql_numeric; /* exact, of any size; NaN and infinities too (numeric.c) */
struct sql_array;   /* elements, dimensions and lower bounds (array.c) */

struct sql_interval {
    int32_t months;
    int32_t days;
    int64_t us;
};

struct sql_value {
    bool null;
    union {
        bool b;    /* bool */
        int64_t i; /* int2/4/8; date: days, time/timestamp/timestamptz: µs, of 2000-01-01;
                          infinities as Postgres has them: the type's extremes (date: INT32_*) */
        double f;  /* float8; float4 holds exactly a float */
        struct slice s; /* text kinds, enum label, bytea (raw bytes), jsonb (its text) */
        unsigned char uuid[16];
        struct sql_interval interval;
        const struct sql_numeric *numeric;
        const struct sql_array *array;
    };
};

/* --- Names and text (type.c) --- */

/* The type of a pg_type.oid that is built in; SQL_OTHER for any other (the caller knows enums). */
struct sql_type sql_type_of_oid(uint32_t oid, int32_t typmod);
/* As Postgres's format_type prints it, e.g. "integer", "timestamp with time zone", "text[]". */
void sql_type_print(struct sql_type type, struct buf *out);
/* As in pg_type.typname, e.g. "int4", "_text": for messages (spec 6.7). */
const char *sql_type_name(struct sql_type type);

/* Postgres's input function: any text that it takes for the type. ERR_INVALID with Postgres's
 * own words ("invalid input syntax for type integer: \"x\"", out of range …), ERR_UNSUPPORTED
 * for what can't be decided here, ERR_MEMORY. The value may point into text. */
int sql_value_in(struct sql_type type, struct slice text, struct arena *arena,
                 struct sql_value *out, struct err *err);
/* Postgres's output function. Not for NULL. ERR_MEMORY through out->failed. */
void sql_value_out(struct sql_type type, const struct sql_value *v, struct buf *out);

/* As the type's btree and hash operator classes: NaN equals NaN and is greatest, -0 is 0,
 * 1.0 equals 1.00, bpchar ignores trailing blanks, intervals compare as estimates. Text by bytes
 * (collation C). Neither is NULL. */
int sql_value_cmp(struct sql_type type, const struct sql_value *a,
                  const struct sql_value *b);
uint64_t sql_value_hash(struct sql_type type, const struct sql_value *v, uint64_t seed);
/* Equal values have equal keys, and the less never has the greater. Of integers, dates and times
 * a key is one value's only; of arrays, enums and jsonb all keys are 0. */
uint64_t sql_value_sort_key(struct sql_type type, const struct sql_value *v);

/* --- The case of letters (letters.c) --- */

/* A character that has another case; `code` is its Unicode number. */
struct sql_letter {
    uint32_t code;
    uint32_t lower;
    uint32_t upper;
};

/* How a database in UTF-8 maps them under its default collation, which must map each character
 * by itself, to one: those of the C library (provider libc) do. The rows of this query, which takes
 * a tenth of a second:
 *
 *   SELECT i, ascii(lower(chr(i))), ascii(upper(chr(i))) FROM generate_series(1, 131071) AS i
 *   WHERE i NOT BETWEEN 55296 AND 57343 AND (lower(chr(i)) <> chr(i) OR upper(chr(i)) <> chr(i)) */
struct sql_letters;

/* Under C and POSIX: those of ASCII, no others. */
extern const struct sql_letters sql_letters_c;

/* Copies; NULL: no memory. May be read by any number of threads. */
struct sql_letters *sql_letters_new(const struct sql_letter *items, size_t count);
void sql_letters_free(struct sql_letters *letters); /* NULL is fine */

/* --- Operators, functions, casts (catalog.c) --- */

#define SQL_ARGS_MAX 4

enum sql_failure { SQL_FINE, SQL_FAILED /* Postgres would raise an error, in err */ };

struct sql_call {
    struct arena *arena;
    struct err *err;              /* never NULL */
    const struct sql_type *types; /* of the arguments */
    size_t count;
    const struct sql_letters *letters; /* NULL: letters beyond ASCII are refused */
};

/* args are not NULL when the function is strict. */
typedef enum sql_failure sql_function_fn(struct sql_call *call,
                                         const struct sql_value *args,
                                         struct sql_value *out);

enum sql_function_kind {
    SQL_OPERATOR, /* name is the operator's: count 1 is a prefix operator */
    SQL_FUNCTION,
    SQL_CAST_IMPLICIT,
    SQL_CAST_ASSIGNMENT,
    SQL_CAST_EXPLICIT
};

struct sql_function {
    enum sql_function_kind kind;
    const char *name; /* casts: NULL */
    size_t count;
    /* SQL_UNKNOWN with array: any array, its elements alike. Without array, in a row that
     * has such an argument: an element of that array. The result likewise. */
    struct sql_type args[SQL_ARGS_MAX];
    struct sql_type result;
    sql_function_fn *fn;
    bool strict;
    bool variadic;  /* any number of the last argument, at least one */
    bool collation; /* its answer depends on the collation, unless that is C */
};

/* All of them, in a fixed order. */
const struct sql_function *sql_functions(size_t *count);

/* Typmods are applied by explicit casts (varchar(3) cuts, numeric(4,2) rounds) and by none
 * else here. */
int sql_apply_typmod(struct sql_type type, struct arena *arena, struct sql_value *v,
                     struct err *err);

/* --- Arrays --- */

int sql_array_dims(const struct sql_array *a); /* 0: empty */
size_t sql_array_count(const struct sql_array *a);
const struct sql_value *sql_array_items(const struct sql_array *a);
/* Of dimension dim, counted from 0: how many, and the subscript of the first. */
int32_t sql_array_length(const struct sql_array *a, int dim);
int32_t sql_array_lower(const struct sql_array *a, int dim);
/* Copies the items, of which there are as many as the product of the lengths (0: an empty
 * array). lower may be NULL: all 1. NULL: no memory, or too many. */
const struct sql_array *sql_array_shape(struct arena *arena,
                                        const struct sql_value *items, int dims,
                                        const int32_t *length, const int32_t *lower);
/* One-dimensional, lower bound 1. Copies the items. NULL: no memory. */
const struct sql_array *sql_array_make(struct arena *arena, const struct sql_value *items,
                                       size_t count);

#endif
