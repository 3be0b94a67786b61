/* The functions that the catalog's table names, by the file they are in. Internal to sql/.
 * Each has the contract of sql_function_fn. */
#ifndef COULOMB_SQL_OPS_H
#define COULOMB_SQL_OPS_H

#include "sql/value.h"

/* generic.c: for every type */
sql_function_fn sql_eq, sql_ne, sql_lt, sql_le, sql_gt, sql_ge;
sql_function_fn sql_to_text, sql_to_name;
sql_function_fn sql_text_to_bool, sql_text_to_int2, sql_text_to_int4, sql_text_to_int8,
    sql_text_to_float4, sql_text_to_float8, sql_text_to_numeric, sql_text_to_name,
    sql_text_to_uuid, sql_text_to_date, sql_text_to_time, sql_text_to_timestamp,
    sql_text_to_timestamptz, sql_text_to_interval, sql_text_to_bytea, sql_text_to_jsonb;

/* arith.c */
sql_function_fn sql_int_add, sql_int_sub, sql_int_mul, sql_int_div, sql_int_mod,
    sql_int_neg, sql_int_abs, sql_int_and, sql_int_or, sql_int_xor, sql_int_not;
sql_function_fn sql_float_add, sql_float_sub, sql_float_mul, sql_float_div,
    sql_float_power, sql_float_sqrt, sql_float_neg, sql_float_abs, sql_float_round,
    sql_float_ceil, sql_float_floor, sql_float_trunc, sql_float_sign;
sql_function_fn sql_same, sql_int_to_int2, sql_int_to_int4, sql_int_to_float4,
    sql_int_to_float8, sql_int_to_bool, sql_bool_to_int, sql_float_to_float4,
    sql_float_to_int2, sql_float_to_int4, sql_float_to_int8;

/* numeric_ops.c */
sql_function_fn sql_numeric_add, sql_numeric_sub, sql_numeric_mul, sql_numeric_div,
    sql_numeric_mod, sql_numeric_power, sql_numeric_neg, sql_numeric_abs,
    sql_numeric_round, sql_numeric_trunc, sql_numeric_ceil, sql_numeric_floor,
    sql_numeric_sign, sql_int_to_numeric, sql_float_to_numeric, sql_numeric_to_int2,
    sql_numeric_to_int4, sql_numeric_to_int8, sql_numeric_to_float4,
    sql_numeric_to_float8;

/* dateops.c */
sql_function_fn sql_date_add, sql_date_sub_int, sql_date_sub, sql_date_to_timestamp,
    sql_date_add_time, sql_moment_add, sql_moment_sub, sql_timestamp_sub, sql_time_add,
    sql_time_sub_interval, sql_time_sub, sql_interval_add, sql_interval_sub,
    sql_interval_neg, sql_interval_mul, sql_interval_div, sql_justify_hours,
    sql_justify_days, sql_justify_interval, sql_timestamp_to_date, sql_timestamp_to_time,
    sql_time_to_interval, sql_interval_to_time, sql_timezone, sql_timezone_interval;
int sql_date_timestamp_cmp(const struct sql_value *date,
                           const struct sql_value *timestamp);

/* datepart.c */
sql_function_fn sql_date_trunc, sql_interval_trunc, sql_extract, sql_date_part;

/* array_ops.c */
sql_function_fn sql_array_contains, sql_array_contained, sql_array_overlaps,
    sql_array_append, sql_array_prepend, sql_array_cat, sql_array_ndims, sql_cardinality,
    sql_array_length_of, sql_array_lower_of, sql_array_upper_of;

/* jsonb_ops.c */
sql_function_fn sql_jsonb_contains, sql_jsonb_contained, sql_jsonb_exists,
    sql_jsonb_exists_any, sql_jsonb_exists_all, sql_jsonb_get, sql_jsonb_get_text,
    sql_jsonb_path, sql_jsonb_path_text, sql_jsonb_typeof, sql_jsonb_array_length,
    sql_jsonb_to_bool, sql_jsonb_to_numeric, sql_jsonb_to_int2, sql_jsonb_to_int4,
    sql_jsonb_to_int8, sql_jsonb_to_float4, sql_jsonb_to_float8;

/* string.c */
sql_function_fn sql_bpchar_to_text, sql_bpchar_to_name, sql_bool_to_text, sql_concat_op,
    sql_concat, sql_lower, sql_upper, sql_text_length, sql_bpchar_length,
    sql_octet_length, sql_starts_with;

/* regex.c */
sql_function_fn sql_regex, sql_not_regex, sql_iregex, sql_not_iregex;

/* like.c */
sql_function_fn sql_like, sql_not_like, sql_ilike, sql_not_ilike, sql_bytea_like,
    sql_bytea_not_like, sql_like_escape;

#endif
