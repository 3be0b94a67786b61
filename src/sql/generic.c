/*
 * What works alike for every type: comparison through the type's order, and casts to and
 * from text through its output and input functions.
 *
 * Operators between two types need no functions of their own where both types' values
 * look alike (int2, int4 and int8; float4 and float8; text and name).
 */

#include "sql/ops.h"

/* Of date and timestamp only one order is left to do by hand. */
static int compare(const struct sql_call *call, const struct sql_value *args)
{
    enum sql_base a = call->types[0].base;
    enum sql_base b = call->types[1].base;

    if (a == SQL_DATE && b == SQL_TIMESTAMP)
        return sql_date_timestamp_cmp(&args[0], &args[1]);
    if (a == SQL_TIMESTAMP && b == SQL_DATE)
        return -sql_date_timestamp_cmp(&args[1], &args[0]);
    return sql_value_cmp(call->types[0], &args[0], &args[1]);
}

enum sql_failure sql_eq(struct sql_call *call, const struct sql_value *args,
                        struct sql_value *out)
{
    return sql_bool_result(out, compare(call, args) == 0);
}

enum sql_failure sql_ne(struct sql_call *call, const struct sql_value *args,
                        struct sql_value *out)
{
    return sql_bool_result(out, compare(call, args) != 0);
}

enum sql_failure sql_lt(struct sql_call *call, const struct sql_value *args,
                        struct sql_value *out)
{
    return sql_bool_result(out, compare(call, args) < 0);
}

enum sql_failure sql_le(struct sql_call *call, const struct sql_value *args,
                        struct sql_value *out)
{
    return sql_bool_result(out, compare(call, args) <= 0);
}

enum sql_failure sql_gt(struct sql_call *call, const struct sql_value *args,
                        struct sql_value *out)
{
    return sql_bool_result(out, compare(call, args) > 0);
}

enum sql_failure sql_ge(struct sql_call *call, const struct sql_value *args,
                        struct sql_value *out)
{
    return sql_bool_result(out, compare(call, args) >= 0);
}

/* ---- casts by way of text ---- */

enum sql_failure sql_to_text(struct sql_call *call, const struct sql_value *args,
                             struct sql_value *out)
{
    struct buf text;
    enum sql_failure rc;

    buf_init(&text, call->arena->max_bytes);
    sql_value_out(call->types[0], &args[0], &text);
    rc = sql_bytes_take(call, &text, out);
    buf_fini(&text);
    return rc;
}

enum sql_failure sql_to_name(struct sql_call *call, const struct sql_value *args,
                             struct sql_value *out)
{
    if (sql_to_text(call, args, out) != SQL_FINE)
        return SQL_FAILED;
    return sql_result_in(call, SQL_NAME, out->s, out);
}

#define TEXT_TO(name, base)                                                              \
    enum sql_failure name(struct sql_call *call, const struct sql_value *args,           \
                          struct sql_value *out)                                         \
    {                                                                                    \
        return sql_result_in(call, base, args[0].s, out);                                \
    }

TEXT_TO(sql_text_to_bool, SQL_BOOL)
TEXT_TO(sql_text_to_int2, SQL_INT2)
TEXT_TO(sql_text_to_int4, SQL_INT4)
TEXT_TO(sql_text_to_int8, SQL_INT8)
TEXT_TO(sql_text_to_float4, SQL_FLOAT4)
TEXT_TO(sql_text_to_float8, SQL_FLOAT8)
TEXT_TO(sql_text_to_numeric, SQL_NUMERIC)
TEXT_TO(sql_text_to_name, SQL_NAME)
TEXT_TO(sql_text_to_uuid, SQL_UUID)
TEXT_TO(sql_text_to_date, SQL_DATE)
TEXT_TO(sql_text_to_time, SQL_TIME)
TEXT_TO(sql_text_to_timestamp, SQL_TIMESTAMP)
TEXT_TO(sql_text_to_timestamptz, SQL_TIMESTAMPTZ)
TEXT_TO(sql_text_to_interval, SQL_INTERVAL)
TEXT_TO(sql_text_to_bytea, SQL_BYTEA)
TEXT_TO(sql_text_to_jsonb, SQL_JSONB)
