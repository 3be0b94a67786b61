/* Values, keys, rows and drafts. */
#ifndef COULOMB_VALUE_H
#define COULOMB_VALUE_H

#include "coulomb/base.h"

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The types of values and columns. Absent is not null: it is a field that the row does not
 * have. Postgres types beyond these travel as text. */
typedef enum coulomb_type {
    COULOMB_ABSENT,
    COULOMB_NULL,
    COULOMB_BOOL,        /* v.b: 0 or 1 */
    COULOMB_INT64,       /* v.i */
    COULOMB_DOUBLE,      /* v.f */
    COULOMB_NUMERIC,     /* v.s: decimal text, exact, of any size */
    COULOMB_TEXT,        /* v.s: UTF-8 */
    COULOMB_BYTES,       /* v.s */
    COULOMB_UUID,        /* v.uuid */
    COULOMB_DATE,        /* v.i: days of 2000-01-01 */
    COULOMB_TIME,        /* v.i: microseconds of midnight */
    COULOMB_TIMESTAMP,   /* v.i: microseconds of 2000-01-01 00:00, without a zone */
    COULOMB_TIMESTAMPTZ, /* v.i: microseconds of 2000-01-01 00:00 UTC */
    COULOMB_INTERVAL,    /* v.interval */
    COULOMB_JSON,        /* v.s: JSON text; kept in Postgres's jsonb form */
    COULOMB_ARRAY        /* v.array */
} coulomb_type;

typedef struct coulomb_str {
    const char *ptr; /* not terminated */
    size_t len;
} coulomb_str;

struct coulomb_array;

typedef struct coulomb_value {
    coulomb_type type;
    union {
        int b;
        int64_t i;
        double f;
        coulomb_str s;
        unsigned char uuid[16];
        struct {
            int32_t months;
            int32_t days;
            int64_t us;
        } interval;
        const struct coulomb_array *array;
    } v;
} coulomb_value;

#define COULOMB_ARRAY_DIMS_MAX 6

/* Elements are of the element type or null, in row-major order. dims 0 or 1: a list. */
typedef struct coulomb_array {
    coulomb_type element;
    int dims;
    size_t count;
    const coulomb_value *items;
    int32_t lengths[COULOMB_ARRAY_DIMS_MAX]; /* read when dims > 1 */
} coulomb_array;

/* Makers of values; text and bytes are borrowed. */
static inline coulomb_value coulomb_absent(void)
{
    coulomb_value v;
    memset(&v, 0, sizeof(v));
    return v;
}

static inline coulomb_value coulomb_null(void)
{
    coulomb_value v = coulomb_absent();
    v.type = COULOMB_NULL;
    return v;
}

static inline coulomb_value coulomb_bool(int b)
{
    coulomb_value v = coulomb_absent();
    v.type = COULOMB_BOOL;
    v.v.b = b != 0;
    return v;
}

static inline coulomb_value coulomb_int(int64_t i)
{
    coulomb_value v = coulomb_absent();
    v.type = COULOMB_INT64;
    v.v.i = i;
    return v;
}

static inline coulomb_value coulomb_double(double f)
{
    coulomb_value v = coulomb_absent();
    v.type = COULOMB_DOUBLE;
    v.v.f = f;
    return v;
}

/* Of types whose values are bytes: text, bytes, numeric, json. */
static inline coulomb_value coulomb_bytes_of(coulomb_type type, const void *ptr,
                                             size_t len)
{
    coulomb_value v = coulomb_absent();
    v.type = type;
    v.v.s.ptr = (const char *)ptr;
    v.v.s.len = len;
    return v;
}

static inline coulomb_value coulomb_text(const char *terminated)
{
    return coulomb_bytes_of(COULOMB_TEXT, terminated, strlen(terminated));
}

static inline coulomb_value coulomb_textn(const char *ptr, size_t len)
{
    return coulomb_bytes_of(COULOMB_TEXT, ptr, len);
}

static inline coulomb_value coulomb_bytes(const void *ptr, size_t len)
{
    return coulomb_bytes_of(COULOMB_BYTES, ptr, len);
}

static inline coulomb_value coulomb_numeric(const char *terminated)
{
    return coulomb_bytes_of(COULOMB_NUMERIC, terminated, strlen(terminated));
}

static inline coulomb_value coulomb_json(const char *terminated)
{
    return coulomb_bytes_of(COULOMB_JSON, terminated, strlen(terminated));
}

static inline coulomb_value coulomb_uuid(const unsigned char bytes[16])
{
    coulomb_value v = coulomb_absent();
    v.type = COULOMB_UUID;
    memcpy(v.v.uuid, bytes, 16);
    return v;
}

/* Of date, time, timestamp and timestamptz. */
static inline coulomb_value coulomb_moment(coulomb_type type, int64_t i)
{
    coulomb_value v = coulomb_absent();
    v.type = type;
    v.v.i = i;
    return v;
}

static inline coulomb_value coulomb_interval(int32_t months, int32_t days, int64_t us)
{
    coulomb_value v = coulomb_absent();
    v.type = COULOMB_INTERVAL;
    v.v.interval.months = months;
    v.v.interval.days = days;
    v.v.interval.us = us;
    return v;
}

static inline coulomb_value coulomb_array_value(const coulomb_array *array)
{
    coulomb_value v = coulomb_absent();
    v.type = COULOMB_ARRAY;
    v.v.array = array;
    return v;
}

/* A total order of all values: absent, null, then by type; int64, double and numeric among
 * themselves by number (NaN equals itself and is greatest, -0 is 0), text by bytes, intervals
 * as Postgres estimates them, the rest as in Postgres. *order gets -1, 0 or 1.
 * COULOMB_E_MEMORY, or COULOMB_E_INVALID_TEXT for a numeric or json that is none. Any thread.
 */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_value_compare(const coulomb_value *a, const coulomb_value *b, int *order);
/* Writes the text form that Postgres gives the value (DateStyle ISO, TimeZone UTC,
 * IntervalStyle iso_8601, bytea hex) and a NUL, cut to cap bytes; *len (may be NULL) gets the
 * whole text's length. Absent and null have the empty text. Any thread. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_value_print(const coulomb_value *v, char *buf,
                                                       size_t cap, size_t *len);
/* What lies at a JSON pointer (RFC 6901: "/address/city", "/tags/0", "" for the whole) of a json value.
 * *type gets COULOMB_TEXT, _NUMERIC, _BOOL, _NULL, _JSON (an object or list), or _ABSENT when there is
 * nothing; buf the text as from coulomb_value_print(). COULOMB_E_PATH for what is no pointer,
 * COULOMB_E_TYPE for another value, COULOMB_E_INVALID_TEXT, COULOMB_E_MEMORY. Any thread. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_json_get(const coulomb_value *json,
                                                    const char *pointer,
                                                    coulomb_type *type, char *buf,
                                                    size_t cap, size_t *len);
/* "int64", "timestamptz" …; NULL for no type. Any thread. */
COULOMB_API const char *coulomb_type_name(coulomb_type type);

/* --- Keys ------------------------------------------------------------------------------ */

typedef enum coulomb_key_type {
    COULOMB_KEY_NONE, /* a row without one */
    COULOMB_KEY_TEXT,
    COULOMB_KEY_INT64
} coulomb_key_type;

/* 1 and "1" are different keys. In order, all text comes before all integers. The key of a
 * row whose key column is a uuid is its text. */
typedef struct coulomb_key {
    coulomb_key_type type;
    int64_t i;
    coulomb_str text; /* at most COULOMB_KEY_MAX bytes */
} coulomb_key;

#define COULOMB_KEY_MAX 4096

static inline coulomb_key coulomb_key_int(int64_t i)
{
    coulomb_key k;
    memset(&k, 0, sizeof(k));
    k.type = COULOMB_KEY_INT64;
    k.i = i;
    return k;
}

static inline coulomb_key coulomb_key_textn(const char *ptr, size_t len)
{
    coulomb_key k;
    memset(&k, 0, sizeof(k));
    k.type = COULOMB_KEY_TEXT;
    k.text.ptr = ptr;
    k.text.len = len;
    return k;
}

static inline coulomb_key coulomb_key_text(const char *terminated)
{
    return coulomb_key_textn(terminated, strlen(terminated));
}

/* -1, 0 or 1. Any thread. */
COULOMB_API int coulomb_key_compare(coulomb_key a, coulomb_key b);

/* --- Rows ------------------------------------------------------------------------------ */

/* Rows never change. A row that a call gives is borrowed: it lives until the next call that may
 * change its collection, or to the end of the callback. Retain it to keep it longer, even beyond
 * its client; release on the client's thread. */
COULOMB_API const coulomb_row *coulomb_row_retain(const coulomb_row *row);
COULOMB_API void coulomb_row_release(const coulomb_row *row); /* NULL is fine */
COULOMB_API size_t coulomb_row_columns(const coulomb_row *row);
/* The name of a column, or NULL. */
COULOMB_API const char *coulomb_row_column_name(const coulomb_row *row, size_t column);
/* Its number, or -1. */
COULOMB_API int coulomb_row_column(const coulomb_row *row, const char *name);
/* The value points into the row. Absent when there is no such column. */
COULOMB_API coulomb_value coulomb_row_at(const coulomb_row *row, size_t column);
COULOMB_API coulomb_value coulomb_row_get(const coulomb_row *row, const char *name);
/* Shortcuts: otherwise for every other type and value. Text is not terminated. */
COULOMB_API int64_t coulomb_row_int(const coulomb_row *row, const char *name,
                                    int64_t otherwise);
COULOMB_API double coulomb_row_double(const coulomb_row *row, const char *name,
                                      double otherwise);
COULOMB_API int coulomb_row_bool(const coulomb_row *row, const char *name, int otherwise);
COULOMB_API coulomb_str coulomb_row_text(const coulomb_row *row, const char *name);
/* The key points into the row. */
COULOMB_API coulomb_key coulomb_row_key(const coulomb_row *row);
/* 1 when all columns are equal, 0 when not; COULOMB_E_MEMORY. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_row_equal(const coulomb_row *a,
                                                     const coulomb_row *b);

/* --- Drafts ---------------------------------------------------------------------------- */

/* A draft is a row being written: it starts as a row's values (of an insert, as absent ones) and
 * records what changes. A column counts as changed when its value differs from the one it had:
 * setting it back undoes that. Values are copied. Nothing outside sees the draft.
 *
 * Types: an int64 is taken by columns of double and numeric, else a value has its column's
 * type, or is null or absent (COULOMB_E_TYPE). COULOMB_E_COLUMN: no such column. */
COULOMB_API coulomb_value coulomb_draft_get(const coulomb_draft *d, const char *column);
COULOMB_API COULOMB_MUST_CHECK int coulomb_draft_set(coulomb_draft *d, const char *column,
                                                     coulomb_value value);
/* From Postgres's text form of the column's type: COULOMB_E_INVALID_TEXT with its words. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_draft_set_input(coulomb_draft *d,
                                                           const char *column,
                                                           const char *text, size_t len);
/* The field is absent from now on. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_draft_unset(coulomb_draft *d,
                                                       const char *column);
/* 1 when changed, else 0. */
COULOMB_API int coulomb_draft_changed(const coulomb_draft *d, const char *column);
/* How many columns are. */
COULOMB_API size_t coulomb_draft_changes(const coulomb_draft *d);

/* Inside a json column, by JSON Pointer (RFC 6901): "/address/city", "/tags/0", "/tags/-" for
 * behind the last, "" for the whole. json is JSON text. The container must be there
 * (COULOMB_E_PATH); a null or absent column counts as {}. The column changes, as a whole. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_draft_json_set(coulomb_draft *d,
                                                          const char *column,
                                                          const char *pointer,
                                                          const char *json);
/* COULOMB_E_PATH when there is nothing. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_draft_json_unset(coulomb_draft *d, const char *column, const char *pointer);

/* Lists in an array column (null and absent count as empty). Replaces the `remove` elements from index
 * `at` on by `count` items: everything that push, pop, shift, unshift and splice do. at may be the
 * length; COULOMB_E_ARGUMENT beyond.
 *
 * The elements of an array of more dimensions are arrays of one dimension less, all of one shape
 * (COULOMB_E_TYPE): the items then are array values. An empty list takes either. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_draft_array_splice(coulomb_draft *d, const char *column, size_t at, size_t remove,
                           const coulomb_value *items, size_t count);
COULOMB_API COULOMB_MUST_CHECK int
coulomb_draft_array_push(coulomb_draft *d, const char *column, coulomb_value item);
COULOMB_API COULOMB_MUST_CHECK int coulomb_draft_array_reverse(coulomb_draft *d,
                                                               const char *column);
/* By coulomb_value_compare; nulls come first. Stable. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_draft_array_sort(coulomb_draft *d,
                                                            const char *column);
/* One element in place, by an index for each dimension. COULOMB_E_ARGUMENT when there are others. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_draft_array_set(coulomb_draft *d, const char *column, const size_t *index,
                        size_t dims, coulomb_value item);

#ifdef __cplusplus
}
#endif

#endif
