/* The order of values in 64 bits, for indexes that would rather compare numbers than values. */
#include "sql/numeric.h"
#include "sql/types.h"

#define SIGN ((uint64_t)1 << 63)

static uint64_t key_of_bytes(const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    uint64_t key = 0;

    for (size_t i = 0; i < 8; i++)
        key = key << 8 | (i < len ? p[i] : 0u);
    return key;
}

static uint64_t key_of_bpchar(struct slice s)
{
    while (s.len > 0 && s.ptr[s.len - 1] == ' ')
        s.len--;
    return key_of_bytes(s.ptr, s.len);
}

static uint64_t key_of_float(double f)
{
    double plain = f == 0 ? 0 : f; /* -0 is 0 */
    uint64_t bits;

    memcpy(&bits, &plain, sizeof(bits));
    if (f != f)
        return UINT64_MAX;
    return (bits & SIGN) != 0 ? ~bits : bits | SIGN;
}

/* The weight and three digits: eight decimal digits at least. */
static uint64_t key_of_numeric(const struct sql_numeric *n)
{
    uint64_t size = 0;

    if (n->kind != NUMERIC_FINITE)
        return n->kind == NUMERIC_MINUS_INFINITY ? 0
               : n->kind == NUMERIC_INFINITY     ? UINT64_MAX - 1
                                                 : UINT64_MAX;
    if (n->count > 0)
        size = (uint64_t)(n->weight + NUMERIC_WEIGHT_MAX + 1) + 1;
    for (int32_t i = 0; i < 3; i++)
        size = size << 14 | (i < n->count ? n->digits[i] : 0u);
    return n->negative ? SIGN - size : SIGN + size;
}

/* Days of 24 hours, months of 30 days, as intervals compare. */
static uint64_t key_of_interval(struct sql_interval i)
{
    const int64_t day_us = INT64_C(86400000000);
    int64_t days = (int64_t)i.months * 30 + i.days + i.us / day_us;
    int64_t us = i.us % day_us;

    if (us < 0) {
        us += day_us;
        days--;
    }
    return (uint64_t)(days + (INT64_C(1) << 38)) << 25 | (uint64_t)(us >> 12);
}

uint64_t sql_value_sort_key(struct sql_type type, const struct sql_value *v)
{
    if (type.array)
        return 0;
    switch ((int)type.base) {
    case SQL_BOOL:
        return v->b;
    case SQL_INT2:
    case SQL_INT4:
    case SQL_INT8:
    case SQL_DATE:
    case SQL_TIME:
    case SQL_TIMESTAMP:
    case SQL_TIMESTAMPTZ:
        return (uint64_t)v->i ^ SIGN;
    case SQL_FLOAT4:
    case SQL_FLOAT8:
        return key_of_float(v->f);
    case SQL_NUMERIC:
        return key_of_numeric(v->numeric);
    case SQL_TEXT:
    case SQL_VARCHAR:
    case SQL_NAME:
    case SQL_BYTEA:
        return key_of_bytes(v->s.ptr, v->s.len);
    case SQL_BPCHAR:
        return key_of_bpchar(v->s);
    case SQL_UUID:
        return key_of_bytes(v->uuid, sizeof(v->uuid));
    case SQL_INTERVAL:
        return key_of_interval(v->interval);
    default:
        return 0;
    }
}
