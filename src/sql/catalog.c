/*
 * The table of all operators, functions and casts: what of pg_operator, pg_proc and
 * pg_cast is immutable (or depends on nothing but the session settings that types.h
 * names) and done here. What is missing from it is refused by whoever resolves an
 * expression.
 *
 * Left out on purpose:
 *   - what depends on the time zone beyond UTC: date and timestamp → timestamptz and the
 *     comparisons of the two with it, timestamptz → date, time and timestamp
 *   - casts to and from arrays and enums, which need the type wanted: a caller makes them
 *     by sql_value_out and sql_value_in (arrays: element by element, with these casts)
 *   - AND, OR, NOT, IS …, coalesce, greatest, least, ANY, ALL, subscripts: not functions
 *     in Postgres either
 */

#include "sql/ops.h"

/* An argument or result: a type, an array of it, any array, an element of that array. */
#define T(b)                                                                             \
    {                                                                                    \
        .base = SQL_##b, .typmod = -1                                                    \
    }
#define A(b)                                                                             \
    {                                                                                    \
        .base = SQL_##b, .array = true, .typmod = -1                                     \
    }
#define ANY_ARRAY   A(UNKNOWN)
#define ANY_ELEMENT T(UNKNOWN)

#define ROW1(kind_, name_, a, to, fn_, ...)                                              \
    {                                                                                    \
        .kind = (kind_), .name = (name_), .count = 1, .args = {a}, .result = to,         \
        .fn = (fn_), .strict = true, __VA_ARGS__                                         \
    }
#define ROW2(kind_, name_, a, b, to, fn_, ...)                                           \
    {                                                                                    \
        .kind = (kind_), .name = (name_), .count = 2, .args = {a, b}, .result = to,      \
        .fn = (fn_), .strict = true, __VA_ARGS__                                         \
    }
#define ROW3(kind_, name_, a, b, c, to, fn_)                                             \
    {                                                                                    \
        .kind = (kind_), .name = (name_), .count = 3, .args = {a, b, c}, .result = to,   \
        .fn = (fn_), .strict = true                                                      \
    }

/* Called with NULLs, too. */
#define LAX2(kind_, name_, a, b, to, fn_)                                                \
    {                                                                                    \
        .kind = (kind_), .name = (name_), .count = 2, .args = {a, b}, .result = to,      \
        .fn = (fn_)                                                                      \
    }

#define OP1(name, a, to, fn)      ROW1(SQL_OPERATOR, name, T(a), T(to), fn, )
#define OP2(name, a, b, to, fn)   ROW2(SQL_OPERATOR, name, T(a), T(b), T(to), fn, )
#define F1(name, a, to, fn)       ROW1(SQL_FUNCTION, name, T(a), T(to), fn, )
#define F2(name, a, b, to, fn)    ROW2(SQL_FUNCTION, name, T(a), T(b), T(to), fn, )
#define F3(name, a, b, c, to, fn) ROW3(SQL_FUNCTION, name, T(a), T(b), T(c), T(to), fn)
#define IMPLICIT(from, to, fn)    ROW1(SQL_CAST_IMPLICIT, NULL, T(from), T(to), fn, )
#define ASSIGNMENT(from, to, fn)  ROW1(SQL_CAST_ASSIGNMENT, NULL, T(from), T(to), fn, )
#define EXPLICIT(from, to, fn)    ROW1(SQL_CAST_EXPLICIT, NULL, T(from), T(to), fn, )
#define COLLATED1(name, a, to, fn)                                                       \
    ROW1(SQL_FUNCTION, name, T(a), T(to), fn, .collation = true)
#define COLLATED2(name, a, b, to, fn)                                                    \
    ROW2(SQL_OPERATOR, name, T(a), T(b), T(to), fn, .collation = true)
#define COLLATED_F2(name, a, b, to, fn)                                                  \
    ROW2(SQL_FUNCTION, name, T(a), T(b), T(to), fn, .collation = true)

#define EQUALITY(a, b) OP2("=", a, b, BOOL, sql_eq), OP2("<>", a, b, BOOL, sql_ne)
#define COMPARISON(a, b)                                                                 \
    EQUALITY(a, b), OP2("<", a, b, BOOL, sql_lt), OP2("<=", a, b, BOOL, sql_le),         \
        OP2(">", a, b, BOOL, sql_gt), OP2(">=", a, b, BOOL, sql_ge)
/* Which of two texts comes first is the collation's matter; equality is of bytes. */
#define COLLATED_COMPARISON(a, b)                                                        \
    EQUALITY(a, b), COLLATED2("<", a, b, BOOL, sql_lt),                                  \
        COLLATED2("<=", a, b, BOOL, sql_le), COLLATED2(">", a, b, BOOL, sql_gt),         \
        COLLATED2(">=", a, b, BOOL, sql_ge)

#define INT_ARITHMETIC(a, b, to)                                                         \
    OP2("+", a, b, to, sql_int_add), OP2("-", a, b, to, sql_int_sub),                    \
        OP2("*", a, b, to, sql_int_mul), OP2("/", a, b, to, sql_int_div)
#define INT_ALONE(t)                                                                     \
    OP2("%", t, t, t, sql_int_mod), OP2("&", t, t, t, sql_int_and),                      \
        OP2("|", t, t, t, sql_int_or), OP2("#", t, t, t, sql_int_xor),                   \
        OP1("~", t, t, sql_int_not), OP1("-", t, t, sql_int_neg),                        \
        OP1("+", t, t, sql_same), OP1("@", t, t, sql_int_abs),                           \
        F1("abs", t, t, sql_int_abs), F2("mod", t, t, t, sql_int_mod)
#define FLOAT_ARITHMETIC(a, b, to)                                                       \
    OP2("+", a, b, to, sql_float_add), OP2("-", a, b, to, sql_float_sub),                \
        OP2("*", a, b, to, sql_float_mul), OP2("/", a, b, to, sql_float_div)
#define FLOAT_ALONE(t)                                                                   \
    OP1("-", t, t, sql_float_neg), OP1("+", t, t, sql_same),                             \
        OP1("@", t, t, sql_float_abs), F1("abs", t, t, sql_float_abs)

/* By way of the text form: any type to a text type (assignment), text to any (explicit). */
#define TO_TEXT(t)                                                                       \
    ASSIGNMENT(t, TEXT, sql_to_text), ASSIGNMENT(t, VARCHAR, sql_to_text),               \
        ASSIGNMENT(t, BPCHAR, sql_to_text), ASSIGNMENT(t, NAME, sql_to_name)
#define FROM_TEXT(t, fn)                                                                 \
    EXPLICIT(TEXT, t, fn), EXPLICIT(VARCHAR, t, fn), EXPLICIT(BPCHAR, t, fn),            \
        EXPLICIT(NAME, t, fn)

#define LIKES(a)                                                                         \
    OP2("~~", a, TEXT, BOOL, sql_like), OP2("!~~", a, TEXT, BOOL, sql_not_like),         \
        COLLATED2("~~*", a, TEXT, BOOL, sql_ilike),                                      \
        COLLATED2("!~~*", a, TEXT, BOOL, sql_not_ilike)

#define REGEXES(a)                                                                       \
    COLLATED2("~", a, TEXT, BOOL, sql_regex),                                            \
        COLLATED2("!~", a, TEXT, BOOL, sql_not_regex),                                   \
        COLLATED2("~*", a, TEXT, BOOL, sql_iregex),                                      \
        COLLATED2("!~*", a, TEXT, BOOL, sql_not_iregex)

static const struct sql_function functions[] = {
    /* comparison */
    COMPARISON(BOOL, BOOL),
    COMPARISON(INT2, INT2),
    COMPARISON(INT2, INT4),
    COMPARISON(INT2, INT8),
    COMPARISON(INT4, INT2),
    COMPARISON(INT4, INT4),
    COMPARISON(INT4, INT8),
    COMPARISON(INT8, INT2),
    COMPARISON(INT8, INT4),
    COMPARISON(INT8, INT8),
    COMPARISON(FLOAT4, FLOAT4),
    COMPARISON(FLOAT4, FLOAT8),
    COMPARISON(FLOAT8, FLOAT4),
    COMPARISON(FLOAT8, FLOAT8),
    COMPARISON(NUMERIC, NUMERIC),
    COLLATED_COMPARISON(TEXT, TEXT),
    COLLATED_COMPARISON(BPCHAR, BPCHAR),
    COMPARISON(NAME, NAME),
    COLLATED_COMPARISON(NAME, TEXT),
    COLLATED_COMPARISON(TEXT, NAME),
    COMPARISON(UUID, UUID),
    COMPARISON(BYTEA, BYTEA),
    COMPARISON(DATE, DATE),
    COMPARISON(DATE, TIMESTAMP),
    COMPARISON(TIMESTAMP, DATE),
    COMPARISON(TIMESTAMP, TIMESTAMP),
    COMPARISON(TIMESTAMPTZ, TIMESTAMPTZ),
    COMPARISON(TIME, TIME),
    COMPARISON(INTERVAL, INTERVAL),
    EQUALITY(ENUM, ENUM),

    /* integers and floats */
    INT_ARITHMETIC(INT2, INT2, INT2),
    INT_ARITHMETIC(INT2, INT4, INT4),
    INT_ARITHMETIC(INT2, INT8, INT8),
    INT_ARITHMETIC(INT4, INT2, INT4),
    INT_ARITHMETIC(INT4, INT4, INT4),
    INT_ARITHMETIC(INT4, INT8, INT8),
    INT_ARITHMETIC(INT8, INT2, INT8),
    INT_ARITHMETIC(INT8, INT4, INT8),
    INT_ARITHMETIC(INT8, INT8, INT8),
    INT_ALONE(INT2),
    INT_ALONE(INT4),
    INT_ALONE(INT8),
    FLOAT_ARITHMETIC(FLOAT4, FLOAT4, FLOAT4),
    FLOAT_ARITHMETIC(FLOAT4, FLOAT8, FLOAT8),
    FLOAT_ARITHMETIC(FLOAT8, FLOAT4, FLOAT8),
    FLOAT_ARITHMETIC(FLOAT8, FLOAT8, FLOAT8),
    FLOAT_ALONE(FLOAT4),
    FLOAT_ALONE(FLOAT8),
    OP2("^", FLOAT8, FLOAT8, FLOAT8, sql_float_power),
    OP1("|/", FLOAT8, FLOAT8, sql_float_sqrt),
    F2("power", FLOAT8, FLOAT8, FLOAT8, sql_float_power),
    F2("pow", FLOAT8, FLOAT8, FLOAT8, sql_float_power),
    F1("sqrt", FLOAT8, FLOAT8, sql_float_sqrt),
    F1("round", FLOAT8, FLOAT8, sql_float_round),
    F1("ceil", FLOAT8, FLOAT8, sql_float_ceil),
    F1("ceiling", FLOAT8, FLOAT8, sql_float_ceil),
    F1("floor", FLOAT8, FLOAT8, sql_float_floor),
    F1("trunc", FLOAT8, FLOAT8, sql_float_trunc),
    F1("sign", FLOAT8, FLOAT8, sql_float_sign),

    /* numerics */
    OP2("+", NUMERIC, NUMERIC, NUMERIC, sql_numeric_add),
    OP2("-", NUMERIC, NUMERIC, NUMERIC, sql_numeric_sub),
    OP2("*", NUMERIC, NUMERIC, NUMERIC, sql_numeric_mul),
    OP2("/", NUMERIC, NUMERIC, NUMERIC, sql_numeric_div),
    OP2("%", NUMERIC, NUMERIC, NUMERIC, sql_numeric_mod),
    OP2("^", NUMERIC, NUMERIC, NUMERIC, sql_numeric_power),
    F2("power", NUMERIC, NUMERIC, NUMERIC, sql_numeric_power),
    F2("pow", NUMERIC, NUMERIC, NUMERIC, sql_numeric_power),
    OP1("-", NUMERIC, NUMERIC, sql_numeric_neg),
    OP1("+", NUMERIC, NUMERIC, sql_same),
    OP1("@", NUMERIC, NUMERIC, sql_numeric_abs),
    F1("abs", NUMERIC, NUMERIC, sql_numeric_abs),
    F2("mod", NUMERIC, NUMERIC, NUMERIC, sql_numeric_mod),
    F1("sign", NUMERIC, NUMERIC, sql_numeric_sign),
    F1("round", NUMERIC, NUMERIC, sql_numeric_round),
    F2("round", NUMERIC, INT4, NUMERIC, sql_numeric_round),
    F1("trunc", NUMERIC, NUMERIC, sql_numeric_trunc),
    F2("trunc", NUMERIC, INT4, NUMERIC, sql_numeric_trunc),
    F1("ceil", NUMERIC, NUMERIC, sql_numeric_ceil),
    F1("ceiling", NUMERIC, NUMERIC, sql_numeric_ceil),
    F1("floor", NUMERIC, NUMERIC, sql_numeric_floor),

    /* text and bytea */
    OP2("||", TEXT, TEXT, TEXT, sql_concat_op),
    OP2("||", BYTEA, BYTEA, BYTEA, sql_concat_op),
    REGEXES(TEXT),
    REGEXES(BPCHAR),
    REGEXES(NAME),
    LIKES(TEXT),
    LIKES(BPCHAR),
    LIKES(NAME),
    OP2("~~", BYTEA, BYTEA, BOOL, sql_bytea_like),
    OP2("!~~", BYTEA, BYTEA, BOOL, sql_bytea_not_like),
    OP2("^@", TEXT, TEXT, BOOL, sql_starts_with),
    F2("starts_with", TEXT, TEXT, BOOL, sql_starts_with),
    F2("like", TEXT, TEXT, BOOL, sql_like),
    F2("like", NAME, TEXT, BOOL, sql_like),
    F2("like", BYTEA, BYTEA, BOOL, sql_bytea_like),
    F2("notlike", TEXT, TEXT, BOOL, sql_not_like),
    F2("notlike", NAME, TEXT, BOOL, sql_not_like),
    F2("notlike", BYTEA, BYTEA, BOOL, sql_bytea_not_like),
    F2("like_escape", TEXT, TEXT, TEXT, sql_like_escape),
    COLLATED1("lower", TEXT, TEXT, sql_lower),
    COLLATED1("upper", TEXT, TEXT, sql_upper),
    F1("length", TEXT, INT4, sql_text_length),
    F1("length", BPCHAR, INT4, sql_bpchar_length),
    F1("length", BYTEA, INT4, sql_octet_length),
    F1("char_length", TEXT, INT4, sql_text_length),
    F1("char_length", BPCHAR, INT4, sql_bpchar_length),
    F1("character_length", TEXT, INT4, sql_text_length),
    F1("character_length", BPCHAR, INT4, sql_bpchar_length),
    F1("octet_length", TEXT, INT4, sql_octet_length),
    F1("octet_length", BPCHAR, INT4, sql_octet_length),
    F1("octet_length", BYTEA, INT4, sql_octet_length),
    {.kind = SQL_FUNCTION,
     .name = "concat",
     .count = 1,
     .args = {T(TEXT)},
     .result = T(TEXT),
     .fn = sql_concat,
     .variadic = true},

    /* dates */
    OP2("+", DATE, INT4, DATE, sql_date_add),
    OP2("+", INT4, DATE, DATE, sql_date_add),
    OP2("-", DATE, INT4, DATE, sql_date_sub_int),
    OP2("-", DATE, DATE, INT4, sql_date_sub),
    OP2("+", DATE, TIME, TIMESTAMP, sql_date_add_time),
    OP2("+", TIME, DATE, TIMESTAMP, sql_date_add_time),
    OP2("+", DATE, INTERVAL, TIMESTAMP, sql_moment_add),
    OP2("+", INTERVAL, DATE, TIMESTAMP, sql_moment_add),
    OP2("-", DATE, INTERVAL, TIMESTAMP, sql_moment_sub),
    OP2("+", TIMESTAMP, INTERVAL, TIMESTAMP, sql_moment_add),
    OP2("+", INTERVAL, TIMESTAMP, TIMESTAMP, sql_moment_add),
    OP2("-", TIMESTAMP, INTERVAL, TIMESTAMP, sql_moment_sub),
    OP2("+", TIMESTAMPTZ, INTERVAL, TIMESTAMPTZ, sql_moment_add),
    OP2("+", INTERVAL, TIMESTAMPTZ, TIMESTAMPTZ, sql_moment_add),
    OP2("-", TIMESTAMPTZ, INTERVAL, TIMESTAMPTZ, sql_moment_sub),
    OP2("-", TIMESTAMP, TIMESTAMP, INTERVAL, sql_timestamp_sub),
    OP2("-", TIMESTAMPTZ, TIMESTAMPTZ, INTERVAL, sql_timestamp_sub),
    OP2("+", TIME, INTERVAL, TIME, sql_time_add),
    OP2("+", INTERVAL, TIME, TIME, sql_time_add),
    OP2("-", TIME, INTERVAL, TIME, sql_time_sub_interval),
    OP2("-", TIME, TIME, INTERVAL, sql_time_sub),
    OP2("+", INTERVAL, INTERVAL, INTERVAL, sql_interval_add),
    OP2("-", INTERVAL, INTERVAL, INTERVAL, sql_interval_sub),
    OP1("-", INTERVAL, INTERVAL, sql_interval_neg),
    OP2("*", INTERVAL, FLOAT8, INTERVAL, sql_interval_mul),
    OP2("*", FLOAT8, INTERVAL, INTERVAL, sql_interval_mul),
    OP2("/", INTERVAL, FLOAT8, INTERVAL, sql_interval_div),
    F1("justify_hours", INTERVAL, INTERVAL, sql_justify_hours),
    F1("justify_days", INTERVAL, INTERVAL, sql_justify_days),
    F1("justify_interval", INTERVAL, INTERVAL, sql_justify_interval),
    F2("timezone", TEXT, TIMESTAMP, TIMESTAMPTZ, sql_timezone),
    F2("timezone", TEXT, TIMESTAMPTZ, TIMESTAMP, sql_timezone),
    F2("timezone", INTERVAL, TIMESTAMP, TIMESTAMPTZ, sql_timezone_interval),
    F2("timezone", INTERVAL, TIMESTAMPTZ, TIMESTAMP, sql_timezone_interval),

    F2("date_trunc", TEXT, TIMESTAMP, TIMESTAMP, sql_date_trunc),
    F2("date_trunc", TEXT, TIMESTAMPTZ, TIMESTAMPTZ, sql_date_trunc),
    F2("date_trunc", TEXT, INTERVAL, INTERVAL, sql_interval_trunc),
    F2("extract", TEXT, INTERVAL, NUMERIC, sql_extract),
    F2("date_part", TEXT, INTERVAL, FLOAT8, sql_date_part),
    F2("extract", TEXT, DATE, NUMERIC, sql_extract),
    F2("extract", TEXT, TIME, NUMERIC, sql_extract),
    F2("extract", TEXT, TIMESTAMP, NUMERIC, sql_extract),
    F2("extract", TEXT, TIMESTAMPTZ, NUMERIC, sql_extract),
    F2("date_part", TEXT, DATE, FLOAT8, sql_date_part),
    F2("date_part", TEXT, TIME, FLOAT8, sql_date_part),
    F2("date_part", TEXT, TIMESTAMP, FLOAT8, sql_date_part),
    F2("date_part", TEXT, TIMESTAMPTZ, FLOAT8, sql_date_part),

    /* arrays */
    ROW2(SQL_OPERATOR, "=", ANY_ARRAY, ANY_ARRAY, T(BOOL), sql_eq, ),
    ROW2(SQL_OPERATOR, "<>", ANY_ARRAY, ANY_ARRAY, T(BOOL), sql_ne, ),
    ROW2(SQL_OPERATOR, "<", ANY_ARRAY, ANY_ARRAY, T(BOOL), sql_lt, .collation = true),
    ROW2(SQL_OPERATOR, "<=", ANY_ARRAY, ANY_ARRAY, T(BOOL), sql_le, .collation = true),
    ROW2(SQL_OPERATOR, ">", ANY_ARRAY, ANY_ARRAY, T(BOOL), sql_gt, .collation = true),
    ROW2(SQL_OPERATOR, ">=", ANY_ARRAY, ANY_ARRAY, T(BOOL), sql_ge, .collation = true),
    ROW2(SQL_OPERATOR, "@>", ANY_ARRAY, ANY_ARRAY, T(BOOL), sql_array_contains, ),
    ROW2(SQL_OPERATOR, "<@", ANY_ARRAY, ANY_ARRAY, T(BOOL), sql_array_contained, ),
    ROW2(SQL_OPERATOR, "&&", ANY_ARRAY, ANY_ARRAY, T(BOOL), sql_array_overlaps, ),
    LAX2(SQL_OPERATOR, "||", ANY_ARRAY, ANY_ARRAY, ANY_ARRAY, sql_array_cat),
    LAX2(SQL_OPERATOR, "||", ANY_ARRAY, ANY_ELEMENT, ANY_ARRAY, sql_array_append),
    LAX2(SQL_OPERATOR, "||", ANY_ELEMENT, ANY_ARRAY, ANY_ARRAY, sql_array_prepend),
    LAX2(SQL_FUNCTION, "array_cat", ANY_ARRAY, ANY_ARRAY, ANY_ARRAY, sql_array_cat),
    LAX2(SQL_FUNCTION, "array_append", ANY_ARRAY, ANY_ELEMENT, ANY_ARRAY,
         sql_array_append),
    LAX2(SQL_FUNCTION, "array_prepend", ANY_ELEMENT, ANY_ARRAY, ANY_ARRAY,
         sql_array_prepend),
    ROW1(SQL_FUNCTION, "array_ndims", ANY_ARRAY, T(INT4), sql_array_ndims, ),
    ROW1(SQL_FUNCTION, "cardinality", ANY_ARRAY, T(INT4), sql_cardinality, ),
    ROW2(SQL_FUNCTION, "array_length", ANY_ARRAY, T(INT4), T(INT4),
         sql_array_length_of, ),
    ROW2(SQL_FUNCTION, "array_lower", ANY_ARRAY, T(INT4), T(INT4), sql_array_lower_of, ),
    ROW2(SQL_FUNCTION, "array_upper", ANY_ARRAY, T(INT4), T(INT4), sql_array_upper_of, ),

    /* jsonb; the order of its strings is the collation's */
    COLLATED_COMPARISON(JSONB, JSONB),
    OP2("@>", JSONB, JSONB, BOOL, sql_jsonb_contains),
    OP2("<@", JSONB, JSONB, BOOL, sql_jsonb_contained),
    OP2("?", JSONB, TEXT, BOOL, sql_jsonb_exists),
    ROW2(SQL_OPERATOR, "?|", T(JSONB), A(TEXT), T(BOOL), sql_jsonb_exists_any, ),
    ROW2(SQL_OPERATOR, "?&", T(JSONB), A(TEXT), T(BOOL), sql_jsonb_exists_all, ),
    OP2("->", JSONB, TEXT, JSONB, sql_jsonb_get),
    OP2("->", JSONB, INT4, JSONB, sql_jsonb_get),
    OP2("->>", JSONB, TEXT, TEXT, sql_jsonb_get_text),
    OP2("->>", JSONB, INT4, TEXT, sql_jsonb_get_text),
    ROW2(SQL_OPERATOR, "#>", T(JSONB), A(TEXT), T(JSONB), sql_jsonb_path, ),
    ROW2(SQL_OPERATOR, "#>>", T(JSONB), A(TEXT), T(TEXT), sql_jsonb_path_text, ),
    F1("jsonb_typeof", JSONB, TEXT, sql_jsonb_typeof),
    F1("jsonb_array_length", JSONB, INT4, sql_jsonb_array_length),
    EXPLICIT(JSONB, BOOL, sql_jsonb_to_bool),
    EXPLICIT(JSONB, NUMERIC, sql_jsonb_to_numeric),
    EXPLICIT(JSONB, INT2, sql_jsonb_to_int2),
    EXPLICIT(JSONB, INT4, sql_jsonb_to_int4),
    EXPLICIT(JSONB, INT8, sql_jsonb_to_int8),
    EXPLICIT(JSONB, FLOAT4, sql_jsonb_to_float4),
    EXPLICIT(JSONB, FLOAT8, sql_jsonb_to_float8),

    /* casts of numbers */
    IMPLICIT(INT2, INT4, sql_same),
    IMPLICIT(INT2, INT8, sql_same),
    IMPLICIT(INT2, FLOAT4, sql_int_to_float4),
    IMPLICIT(INT2, FLOAT8, sql_int_to_float8),
    ASSIGNMENT(INT4, INT2, sql_int_to_int2),
    IMPLICIT(INT4, INT8, sql_same),
    IMPLICIT(INT4, FLOAT4, sql_int_to_float4),
    IMPLICIT(INT4, FLOAT8, sql_int_to_float8),
    EXPLICIT(INT4, BOOL, sql_int_to_bool),
    ASSIGNMENT(INT8, INT2, sql_int_to_int2),
    ASSIGNMENT(INT8, INT4, sql_int_to_int4),
    IMPLICIT(INT8, FLOAT4, sql_int_to_float4),
    IMPLICIT(INT8, FLOAT8, sql_int_to_float8),
    ASSIGNMENT(FLOAT4, INT2, sql_float_to_int2),
    ASSIGNMENT(FLOAT4, INT4, sql_float_to_int4),
    ASSIGNMENT(FLOAT4, INT8, sql_float_to_int8),
    IMPLICIT(FLOAT4, FLOAT8, sql_same),
    ASSIGNMENT(FLOAT8, INT2, sql_float_to_int2),
    ASSIGNMENT(FLOAT8, INT4, sql_float_to_int4),
    ASSIGNMENT(FLOAT8, INT8, sql_float_to_int8),
    ASSIGNMENT(FLOAT8, FLOAT4, sql_float_to_float4),
    EXPLICIT(BOOL, INT4, sql_bool_to_int),
    IMPLICIT(INT2, NUMERIC, sql_int_to_numeric),
    IMPLICIT(INT4, NUMERIC, sql_int_to_numeric),
    IMPLICIT(INT8, NUMERIC, sql_int_to_numeric),
    ASSIGNMENT(FLOAT4, NUMERIC, sql_float_to_numeric),
    ASSIGNMENT(FLOAT8, NUMERIC, sql_float_to_numeric),
    ASSIGNMENT(NUMERIC, INT2, sql_numeric_to_int2),
    ASSIGNMENT(NUMERIC, INT4, sql_numeric_to_int4),
    ASSIGNMENT(NUMERIC, INT8, sql_numeric_to_int8),
    IMPLICIT(NUMERIC, FLOAT4, sql_numeric_to_float4),
    IMPLICIT(NUMERIC, FLOAT8, sql_numeric_to_float8),

    /* casts of dates */
    IMPLICIT(DATE, TIMESTAMP, sql_date_to_timestamp),
    ASSIGNMENT(TIMESTAMP, DATE, sql_timestamp_to_date),
    ASSIGNMENT(TIMESTAMP, TIME, sql_timestamp_to_time),
    IMPLICIT(TIME, INTERVAL, sql_time_to_interval),
    ASSIGNMENT(INTERVAL, TIME, sql_interval_to_time),

    /* casts of text */
    IMPLICIT(TEXT, VARCHAR, sql_same),
    IMPLICIT(TEXT, BPCHAR, sql_same),
    IMPLICIT(TEXT, NAME, sql_text_to_name),
    IMPLICIT(VARCHAR, TEXT, sql_same),
    IMPLICIT(VARCHAR, BPCHAR, sql_same),
    IMPLICIT(VARCHAR, NAME, sql_text_to_name),
    IMPLICIT(BPCHAR, TEXT, sql_bpchar_to_text),
    IMPLICIT(BPCHAR, VARCHAR, sql_bpchar_to_text),
    IMPLICIT(BPCHAR, NAME, sql_bpchar_to_name),
    IMPLICIT(NAME, TEXT, sql_same),
    ASSIGNMENT(NAME, VARCHAR, sql_same),
    ASSIGNMENT(NAME, BPCHAR, sql_same),
    ASSIGNMENT(BOOL, TEXT, sql_bool_to_text),
    ASSIGNMENT(BOOL, VARCHAR, sql_bool_to_text),
    ASSIGNMENT(BOOL, BPCHAR, sql_bool_to_text),
    ASSIGNMENT(BOOL, NAME, sql_to_name),

    /* casts by way of text */
    TO_TEXT(INT2),
    TO_TEXT(INT4),
    TO_TEXT(INT8),
    TO_TEXT(FLOAT4),
    TO_TEXT(FLOAT8),
    TO_TEXT(NUMERIC),
    TO_TEXT(DATE),
    TO_TEXT(TIME),
    TO_TEXT(TIMESTAMP),
    TO_TEXT(TIMESTAMPTZ),
    TO_TEXT(INTERVAL),
    TO_TEXT(UUID),
    TO_TEXT(BYTEA),
    TO_TEXT(JSONB),
    TO_TEXT(ENUM),
    FROM_TEXT(BOOL, sql_text_to_bool),
    FROM_TEXT(INT2, sql_text_to_int2),
    FROM_TEXT(INT4, sql_text_to_int4),
    FROM_TEXT(INT8, sql_text_to_int8),
    FROM_TEXT(FLOAT4, sql_text_to_float4),
    FROM_TEXT(FLOAT8, sql_text_to_float8),
    FROM_TEXT(NUMERIC, sql_text_to_numeric),
    FROM_TEXT(DATE, sql_text_to_date),
    FROM_TEXT(TIME, sql_text_to_time),
    FROM_TEXT(TIMESTAMP, sql_text_to_timestamp),
    FROM_TEXT(TIMESTAMPTZ, sql_text_to_timestamptz),
    FROM_TEXT(INTERVAL, sql_text_to_interval),
    FROM_TEXT(UUID, sql_text_to_uuid),
    FROM_TEXT(BYTEA, sql_text_to_bytea),
    FROM_TEXT(JSONB, sql_text_to_jsonb),
};

const struct sql_function *sql_functions(size_t *count)
{
    *count = sizeof(functions) / sizeof(functions[0]);
    return functions;
}

/* ---- typmods ---- */

/* varchar(n): cut. char(n): cut or padded. Explicitly, both silently. */
static int text_typmod(struct sql_type type, struct arena *arena, struct sql_value *v,
                       struct err *err)
{
    size_t most = (size_t)(type.typmod - 4);
    size_t count = 0;
    size_t bytes = 0;
    char *to;

    while (bytes < v->s.len) {
        bool begins = ((unsigned char)v->s.ptr[bytes] & 0xC0) != 0x80;

        if (begins && count == most)
            break;
        count += begins;
        bytes++;
    }
    v->s.len = bytes;
    if (type.base == SQL_VARCHAR || count == most)
        return 0;
    to = arena_alloc(arena, bytes + (most - count));
    if (!to)
        return sql_no_memory(err);
    if (bytes > 0)
        memcpy(to, v->s.ptr, bytes);
    memset(to + bytes, ' ', most - count);
    v->s = slice_make(to, bytes + (most - count));
    return 0;
}

/* NOLINTNEXTLINE(misc-no-recursion): an array's items are no arrays */
static int array_typmod(struct sql_type type, struct arena *arena, struct sql_value *v,
                        struct err *err)
{
    size_t count = sql_array_count(v->array);
    struct sql_value *items = arena_calloc(arena, count, sizeof(*items));
    int32_t length[SQL_ARRAY_DIMS_MAX];
    int32_t lower[SQL_ARRAY_DIMS_MAX];

    if (!items)
        return sql_no_memory(err);
    type.array = false;
    for (size_t i = 0; i < count; i++) {
        int rc;

        items[i] = sql_array_items(v->array)[i];
        rc = sql_apply_typmod(type, arena, &items[i], err);
        if (rc != 0)
            return rc;
    }
    for (int i = 0; i < sql_array_dims(v->array); i++) {
        length[i] = sql_array_length(v->array, i);
        lower[i] = sql_array_lower(v->array, i);
    }
    v->array = sql_array_shape(arena, items, sql_array_dims(v->array), length, lower);
    return v->array ? 0 : sql_no_memory(err);
}

/* NOLINTNEXTLINE(misc-no-recursion): an array's items are no arrays */
int sql_apply_typmod(struct sql_type type, struct arena *arena, struct sql_value *v,
                     struct err *err)
{
    if (type.typmod < 0 || v->null)
        return 0;
    if (type.array)
        return array_typmod(type, arena, v, err);
    if (type.base == SQL_VARCHAR || type.base == SQL_BPCHAR)
        return type.typmod >= 4 ? text_typmod(type, arena, v, err) : 0;
    if (type.base == SQL_NUMERIC && type.typmod >= 4)
        return sql_numeric_typmod(type.typmod, arena, v, err);
    if (type.base == SQL_TIME || type.base == SQL_TIMESTAMP ||
        type.base == SQL_TIMESTAMPTZ)
        return sql_time_typmod(type.base, type.typmod, v, err);
    if (type.base == SQL_INTERVAL)
        return sql_interval_typmod(type.typmod, v, err);
    return 0;
}
