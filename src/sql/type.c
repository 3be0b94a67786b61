/*
 * The types: their names, and the dispatch to each type's input, output, order and hash.
 *
 * One table by enum sql_base holds all that differs between types, so that nothing else
 * switches over them. Types without an entry of some kind (unknown, other) are text as
 * far as their bytes go: they can be carried and compared for equality of text, and no
 * operator takes them.
 */

#include "sql/types.h"

#include <inttypes.h>
#include <stdarg.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/assert.h"
#include "sql/value.h"

struct type_row {
    const char *name;       /* pg_type.typname */
    const char *array_name; /* of the array type */
    const char *format;     /* as format_type prints it */
    const char *suffix;     /* behind the typmod */
    uint32_t oid;
    uint32_t array_oid;
    sql_in_fn *in;
    sql_out_fn *out;
    sql_cmp_fn *cmp;
    sql_hash_fn *hash;
};

static const struct type_row rows[SQL_BASES] = {
    [SQL_UNKNOWN] = {"unknown", "_unknown", "unknown", "", 705, 0, sql_text_in,
                     sql_text_out, sql_text_cmp, sql_text_hash},
    [SQL_BOOL] = {"bool", "_bool", "boolean", "", 16, 1000, sql_bool_in, sql_bool_out,
                  sql_bool_cmp, sql_bool_hash},
    [SQL_INT2] = {"int2", "_int2", "smallint", "", 21, 1005, sql_int2_in, sql_int_out,
                  sql_int_cmp, sql_int_hash},
    [SQL_INT4] = {"int4", "_int4", "integer", "", 23, 1007, sql_int4_in, sql_int_out,
                  sql_int_cmp, sql_int_hash},
    [SQL_INT8] = {"int8", "_int8", "bigint", "", 20, 1016, sql_int8_in, sql_int_out,
                  sql_int_cmp, sql_int_hash},
    [SQL_FLOAT4] = {"float4", "_float4", "real", "", 700, 1021, sql_float4_in,
                    sql_float4_out, sql_float_cmp, sql_float_hash},
    [SQL_FLOAT8] = {"float8", "_float8", "double precision", "", 701, 1022, sql_float8_in,
                    sql_float8_out, sql_float_cmp, sql_float_hash},
    [SQL_NUMERIC] = {"numeric", "_numeric", "numeric", "", 1700, 1231, sql_numeric_in,
                     sql_numeric_out, sql_numeric_cmp, sql_numeric_hash},
    [SQL_TEXT] = {"text", "_text", "text", "", 25, 1009, sql_text_in, sql_text_out,
                  sql_text_cmp, sql_text_hash},
    [SQL_VARCHAR] = {"varchar", "_varchar", "character varying", "", 1043, 1015,
                     sql_text_in, sql_text_out, sql_text_cmp, sql_text_hash},
    [SQL_BPCHAR] = {"bpchar", "_bpchar", "character", "", 1042, 1014, sql_text_in,
                    sql_text_out, sql_bpchar_cmp, sql_bpchar_hash},
    [SQL_NAME] = {"name", "_name", "name", "", 19, 1003, sql_name_in, sql_text_out,
                  sql_text_cmp, sql_text_hash},
    [SQL_UUID] = {"uuid", "_uuid", "uuid", "", 2950, 2951, sql_uuid_in, sql_uuid_out,
                  sql_uuid_cmp, sql_uuid_hash},
    [SQL_DATE] = {"date", "_date", "date", "", 1082, 1182, sql_date_in, sql_date_out,
                  sql_int_cmp, sql_int_hash},
    [SQL_TIME] = {"time", "_time", "time", " without time zone", 1083, 1183, sql_time_in,
                  sql_time_out, sql_int_cmp, sql_int_hash},
    [SQL_TIMESTAMP] = {"timestamp", "_timestamp", "timestamp", " without time zone", 1114,
                       1115, sql_timestamp_in, sql_timestamp_out, sql_int_cmp,
                       sql_int_hash},
    [SQL_TIMESTAMPTZ] = {"timestamptz", "_timestamptz", "timestamp", " with time zone",
                         1184, 1185, sql_timestamptz_in, sql_timestamptz_out, sql_int_cmp,
                         sql_int_hash},
    [SQL_INTERVAL] = {"interval", "_interval", "interval", "", 1186, 1187,
                      sql_interval_in, sql_interval_out, sql_interval_cmp,
                      sql_interval_hash},
    [SQL_BYTEA] = {"bytea", "_bytea", "bytea", "", 17, 1001, sql_bytea_in, sql_bytea_out,
                   sql_text_cmp, sql_text_hash},
    [SQL_ENUM] = {"enum", "_enum", "enum", "", 0, 0, sql_text_in, sql_text_out,
                  sql_text_cmp, sql_text_hash},
    [SQL_JSONB] = {"jsonb", "_jsonb", "jsonb", "", 3802, 3807, sql_jsonb_in, sql_text_out,
                   sql_jsonb_cmp, sql_jsonb_hash},
    [SQL_OTHER] = {"other", "_other", "other", "", 0, 0, sql_text_in, sql_text_out,
                   sql_text_cmp, sql_text_hash},
};

/* ---- names ---- */

struct sql_type sql_type_of_oid(uint32_t oid, int32_t typmod)
{
    struct sql_type type = {.base = SQL_OTHER, .oid = oid, .typmod = typmod};

    for (int base = 0; oid != 0 && base < SQL_BASES; base++) {
        if (rows[base].oid != oid && rows[base].array_oid != oid)
            continue;
        type.base = (enum sql_base)base;
        type.array = rows[base].array_oid == oid;
    }
    return type;
}

const char *sql_type_name(struct sql_type type)
{
    ASSERT(type.base < SQL_BASES);
    return type.array ? rows[type.base].array_name : rows[type.base].name;
}

/* The fields that an interval is restricted to are bits 16 to 30 of its typmod. */
static const char *interval_fields(int32_t typmod)
{
    enum { MONTH = 1 << 1, YEAR = 1 << 2, DAY = 1 << 3 };
    enum { HOUR = 1 << 10, MINUTE = 1 << 11, SECOND = 1 << 12 };
    static const struct {
        int mask;
        const char *text;
    } fields[] = {
        {YEAR, " year"},
        {MONTH, " month"},
        {DAY, " day"},
        {HOUR, " hour"},
        {MINUTE, " minute"},
        {SECOND, " second"},
        {YEAR | MONTH, " year to month"},
        {DAY | HOUR, " day to hour"},
        {DAY | HOUR | MINUTE, " day to minute"},
        {DAY | HOUR | MINUTE | SECOND, " day to second"},
        {HOUR | MINUTE, " hour to minute"},
        {HOUR | MINUTE | SECOND, " hour to second"},
        {MINUTE | SECOND, " minute to second"},
    };

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (fields[i].mask == (typmod >> 16 & 0x7FFF))
            return fields[i].text;
    }
    return "";
}

static void print_typmod(struct sql_type type, struct buf *out)
{
    int32_t typmod = type.typmod;

    if (typmod < 0)
        return;
    if (type.base == SQL_NUMERIC && typmod >= 4) {
        /* The scale is a signed number of 11 bits. */
        int32_t scale = ((typmod - 4) & 0x7FF) ^ 1024;

        buf_printf(out, "(%" PRId32 ",%" PRId32 ")", (typmod - 4) >> 16 & 0xFFFF,
                   scale - 1024);
    } else if ((type.base == SQL_VARCHAR || type.base == SQL_BPCHAR) && typmod >= 4) {
        buf_printf(out, "(%" PRId32 ")", typmod - 4);
    } else if (type.base == SQL_TIME || type.base == SQL_TIMESTAMP ||
               type.base == SQL_TIMESTAMPTZ) {
        buf_printf(out, "(%" PRId32 ")", typmod);
    } else if (type.base == SQL_INTERVAL) {
        buf_puts(out, interval_fields(typmod));
        if ((typmod & 0xFFFF) != 0xFFFF)
            buf_printf(out, "(%" PRId32 ")", typmod & 0xFFFF);
    }
}

void sql_type_print(struct sql_type type, struct buf *out)
{
    const struct type_row *row = &rows[type.base];

    ASSERT(type.base < SQL_BASES);
    if (type.base == SQL_BPCHAR && type.typmod < 4)
        buf_puts(out, "bpchar");
    else
        buf_puts(out, row->format);
    print_typmod(type, out);
    buf_puts(out, row->suffix);
    if (type.array)
        buf_puts(out, "[]");
}

/* ---- values ---- */

int sql_value_in(struct sql_type type, struct slice text, struct arena *arena,
                 struct sql_value *out, struct err *err)
{
    ASSERT(type.base < SQL_BASES);
    memset(out, 0, sizeof(*out));
    if (!text.ptr)
        text = SLICE_LIT(""); /* so that readers may add to the pointer */
    if (type.array)
        return sql_array_in(type, text, arena, out, err);
    return rows[type.base].in(text, arena, out, err);
}

void sql_value_out(struct sql_type type, const struct sql_value *v, struct buf *out)
{
    ASSERT(type.base < SQL_BASES && !v->null);
    if (type.array)
        sql_array_out(type, v, out);
    else
        rows[type.base].out(v, out);
}

int sql_value_cmp(struct sql_type type, const struct sql_value *a,
                  const struct sql_value *b)
{
    ASSERT(type.base < SQL_BASES && !a->null && !b->null);
    return type.array ? sql_array_cmp(type, a, b) : rows[type.base].cmp(a, b);
}

uint64_t sql_value_hash(struct sql_type type, const struct sql_value *v, uint64_t seed)
{
    ASSERT(type.base < SQL_BASES && !v->null);
    return type.array ? sql_array_hash(type, v, seed) : rows[type.base].hash(v, seed);
}

/* ---- helpers ---- */

uint64_t sql_hash_bytes(const void *bytes, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(len > 0 ? bytes : "", len, seed);
}

int sql_bad_syntax(struct err *err, const char *type, struct slice text)
{
    int len = text.len > 400 ? 400 : (int)text.len;

    return err_set(err, ERR_INVALID, "invalid input syntax for type %s: \"%.*s\"", type,
                   len, len > 0 ? text.ptr : "");
}

int sql_no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "out of memory");
}

enum sql_failure sql_fail(struct sql_call *call, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    err_vset(call->err, ERR_INVALID, format, args);
    va_end(args);
    return SQL_FAILED;
}

enum sql_failure sql_refuse(struct sql_call *call, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    err_vset(call->err, ERR_UNSUPPORTED, format, args);
    va_end(args);
    return SQL_FAILED;
}

char *sql_bytes_new(struct sql_call *call, size_t n, struct sql_value *out)
{
    char *ptr = arena_alloc(call->arena, n);

    if (!ptr) {
        sql_no_memory(call->err);
        return NULL;
    }
    *out = (struct sql_value){.s = slice_make(ptr, n)};
    return ptr;
}

enum sql_failure sql_bytes_take(struct sql_call *call, struct buf *b,
                                struct sql_value *out)
{
    char *ptr;

    if (b->failed) {
        sql_no_memory(call->err);
        return SQL_FAILED;
    }
    ptr = sql_bytes_new(call, b->len, out);
    if (!ptr)
        return SQL_FAILED;
    if (b->len > 0)
        memcpy(ptr, b->ptr, b->len);
    return SQL_FINE;
}

enum sql_failure sql_result_in(struct sql_call *call, enum sql_base base,
                               struct slice text, struct sql_value *out)
{
    return sql_value_in(sql_plain(base), text, call->arena, out, call->err) == 0
               ? SQL_FINE
               : SQL_FAILED;
}
