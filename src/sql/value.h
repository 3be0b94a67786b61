/* What the files of sql/ share: one pair of input and output functions, one order and one
 * hash per type, and the helpers that make errors. Internal to sql/.
 *
 * Every _in has the contract of sql_value_in, every _out that of sql_value_out. */
#ifndef COULOMB_SQL_VALUE_H
#define COULOMB_SQL_VALUE_H

#include "sql/types.h"

/* Elements, depth and digits that a value may have at most. Postgres's own where it has
 * one; an arena's maximum is reached before. */
#define SQL_ARRAY_DIMS_MAX  6
#define SQL_JSONB_DEPTH_MAX 64

typedef int sql_in_fn(struct slice text, struct arena *arena, struct sql_value *out,
                      struct err *err);
typedef void sql_out_fn(const struct sql_value *v, struct buf *out);
typedef int sql_cmp_fn(const struct sql_value *a, const struct sql_value *b);
typedef uint64_t sql_hash_fn(const struct sql_value *v, uint64_t seed);

sql_in_fn sql_bool_in, sql_int2_in, sql_int4_in, sql_int8_in, sql_float4_in,
    sql_float8_in, sql_numeric_in, sql_text_in, sql_name_in, sql_uuid_in, sql_date_in,
    sql_time_in, sql_timestamp_in, sql_timestamptz_in, sql_interval_in, sql_bytea_in,
    sql_jsonb_in;
sql_out_fn sql_bool_out, sql_int_out, sql_float4_out, sql_float8_out, sql_numeric_out,
    sql_text_out, sql_uuid_out, sql_date_out, sql_time_out, sql_timestamp_out,
    sql_timestamptz_out, sql_interval_out, sql_bytea_out;
sql_cmp_fn sql_bool_cmp, sql_int_cmp, sql_float_cmp, sql_numeric_cmp, sql_text_cmp,
    sql_bpchar_cmp, sql_uuid_cmp, sql_interval_cmp, sql_jsonb_cmp;
sql_hash_fn sql_bool_hash, sql_int_hash, sql_float_hash, sql_numeric_hash, sql_text_hash,
    sql_bpchar_hash, sql_uuid_hash, sql_interval_hash, sql_jsonb_hash;

/* Arrays need the type of their elements (array.c). */
int sql_array_in(struct sql_type type, struct slice text, struct arena *arena,
                 struct sql_value *out, struct err *err);
void sql_array_out(struct sql_type type, const struct sql_value *v, struct buf *out);
int sql_array_cmp(struct sql_type type, const struct sql_value *a,
                  const struct sql_value *b);
uint64_t sql_array_hash(struct sql_type type, const struct sql_value *v, uint64_t seed);

/* --- helpers (type.c) --- */

uint64_t sql_hash_bytes(const void *bytes, size_t len, uint64_t seed);
/* "invalid input syntax for type <type>: "<text>"" */
int sql_bad_syntax(struct err *err, const char *type, struct slice text);
int sql_no_memory(struct err *err);
/* What Postgres would say, and what nothing here can decide. */
enum sql_failure sql_fail(struct sql_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
enum sql_failure sql_refuse(struct sql_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A result's bytes: out->s is memory of n bytes, to be filled through the pointer given
 * back; NULL when there is none, and the error is set. */
char *sql_bytes_new(struct sql_call *call, size_t n, struct sql_value *out);
/* out->s is a copy of what b holds. */
enum sql_failure sql_bytes_take(struct sql_call *call, struct buf *b,
                                struct sql_value *out);
/* s with the case of call->letters (letters.c). */
enum sql_failure sql_letters_map(struct sql_call *call, struct slice s, bool upper,
                                 struct sql_value *out);
/* Whether ASCII letters have the case that they have in English, and no other. */
bool sql_letters_plain(const struct sql_letters *letters);
/* sql_value_in as a function's result. */
enum sql_failure sql_result_in(struct sql_call *call, enum sql_base base,
                               struct slice text, struct sql_value *out);

static inline struct sql_type sql_plain(enum sql_base base)
{
    return (struct sql_type){.base = base, .typmod = -1};
}

/* As isspace does in the C locale, which input functions skip. */
static inline bool sql_is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline bool sql_is_ascii(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.ptr[i] >= 0x80)
            return false;
    }
    return true;
}

static inline bool sql_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline bool sql_is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static inline char sql_lower_ascii(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static inline enum sql_failure sql_bool_result(struct sql_value *out, bool b)
{
    *out = (struct sql_value){.b = b};
    return SQL_FINE;
}

static inline enum sql_failure sql_int_result(struct sql_value *out, int64_t i)
{
    *out = (struct sql_value){.i = i};
    return SQL_FINE;
}

static inline enum sql_failure sql_float_result(struct sql_value *out, double f)
{
    *out = (struct sql_value){.f = f};
    return SQL_FINE;
}

static inline enum sql_failure sql_slice_result(struct sql_value *out, struct slice s)
{
    *out = (struct sql_value){.s = s};
    return SQL_FINE;
}

static inline enum sql_failure sql_null_result(struct sql_value *out)
{
    *out = (struct sql_value){.null = true};
    return SQL_FINE;
}

/* Numbers (number.c). The range of an integer type, and "<type> out of range". */
bool sql_int_fits(enum sql_base base, int64_t v);
enum sql_failure sql_int_range(struct sql_call *call, enum sql_base base);
void sql_float_print(double f, bool single, struct buf *out);

/* Numerics (numeric.c). */
enum sql_failure sql_numeric_from_int(struct sql_call *call, int64_t v,
                                      struct sql_value *out);
/* Rounded to a whole number, half away from zero; false when above int64 or not finite. */
bool sql_numeric_to_int(const struct sql_numeric *n, int64_t *out);
int sql_numeric_typmod(int32_t typmod, struct arena *arena, struct sql_value *v,
                       struct err *err);

/* Dates (datetime.c, interval.c). */
int sql_time_typmod(enum sql_base base, int32_t typmod, struct sql_value *v,
                    struct err *err);
int sql_interval_typmod(int32_t typmod, struct sql_value *v, struct err *err);

#endif
