/*
 * Integers and floats: text form, order and hash. Operators are in arith.c.
 *
 * A float's text is the shortest that reads back as the same value, and of those the
 * closest, as Postgres prints it since version 12 (extra_float_digits >= 1). It is found
 * by trying precisions, with two corrections to what %.*e gives:
 *
 *   - A text that lies exactly between two floats does not count, although reading rounds
 *     it to the even one: Postgres takes the open interval. The test is exact, on integers
 *     (is_midpoint).
 *   - Below a power of two floats lie half as far apart. There the closest decimal of some
 *     precision may lie outside the interval and the next one above inside.
 *
 * A table-driven algorithm (Ryu) would be ten times faster and ten times longer; floats
 * are printed only by casts to text.
 */

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sql/value.h"

/* ---- integers ---- */

bool sql_int_fits(enum sql_base base, int64_t v)
{
    if (base == SQL_INT2)
        return v >= INT16_MIN && v <= INT16_MAX;
    if (base == SQL_INT4)
        return v >= INT32_MIN && v <= INT32_MAX;
    return true;
}

static const char *int_name(enum sql_base base)
{
    return base == SQL_INT2 ? "smallint" : base == SQL_INT4 ? "integer" : "bigint";
}

enum sql_failure sql_int_range(struct sql_call *call, enum sql_base base)
{
    return sql_fail(call, "%s out of range", int_name(base));
}

/* A number too large is told before what stands behind it, as Postgres reads. */
static int int_in(enum sql_base base, struct slice text, struct sql_value *out,
                  struct err *err)
{
    struct slice s = slice_trim(text);
    int shown = text.len > 400 ? 400 : (int)text.len;
    size_t sign = s.len > 0 && (s.ptr[0] == '-' || s.ptr[0] == '+');
    size_t end = sign;
    int64_t v;

    while (end < s.len && sql_is_digit(s.ptr[end]))
        end++;
    if (end == sign)
        return sql_bad_syntax(err, int_name(base), text);
    if (!slice_to_i64(slice_make(s.ptr, end), &v) || !sql_int_fits(base, v))
        return err_set(err, ERR_INVALID, "value \"%.*s\" is out of range for type %s",
                       shown, text.ptr, int_name(base));
    if (end < s.len)
        return sql_bad_syntax(err, int_name(base), text);
    *out = (struct sql_value){.i = v};
    return 0;
}

int sql_int2_in(struct slice text, struct arena *arena, struct sql_value *out,
                struct err *err)
{
    (void)arena;
    return int_in(SQL_INT2, text, out, err);
}

int sql_int4_in(struct slice text, struct arena *arena, struct sql_value *out,
                struct err *err)
{
    (void)arena;
    return int_in(SQL_INT4, text, out, err);
}

int sql_int8_in(struct slice text, struct arena *arena, struct sql_value *out,
                struct err *err)
{
    (void)arena;
    return int_in(SQL_INT8, text, out, err);
}

void sql_int_out(const struct sql_value *v, struct buf *out)
{
    buf_put_i64(out, v->i);
}

int sql_int_cmp(const struct sql_value *a, const struct sql_value *b)
{
    return (a->i > b->i) - (a->i < b->i);
}

uint64_t sql_int_hash(const struct sql_value *v, uint64_t seed)
{
    return sql_hash_bytes(&v->i, sizeof(v->i), seed);
}

/* ---- floats in ---- */

static int float_range(struct err *err, struct slice s, const char *type)
{
    int shown = s.len > 400 ? 400 : (int)s.len;

    return err_set(err, ERR_INVALID, "\"%.*s\" is out of range for type %s", shown, s.ptr,
                   type);
}

/* strtod reads what Postgres reads (it uses it too): hexadecimal, nan(…) and infinities
 * included. Both zero and infinity are an error when they come of rounding. */
static int float_in(bool single, struct slice text, struct arena *arena,
                    struct sql_value *out, struct err *err)
{
    const char *type = single ? "real" : "double precision";
    struct slice s = slice_trim(text);
    char local[64];
    char *copy = local;
    char *end;
    double f;

    if (s.len == 0 || memchr(s.ptr, '\0', s.len))
        return sql_bad_syntax(err, type, text);
    if (s.len < sizeof(local)) {
        memcpy(local, s.ptr, s.len);
        local[s.len] = '\0';
    } else {
        copy = arena_dup(arena, s);
        if (!copy)
            return sql_no_memory(err);
    }
    errno = 0;
    f = single ? (double)strtof(copy, &end) : strtod(copy, &end);
    if (end == copy)
        return sql_bad_syntax(err, type, text);
    if (errno == ERANGE && (f == 0 || isinf(f)))
        return float_range(err, single ? text : slice_make(s.ptr, (size_t)(end - copy)),
                           type);
    if (*end != '\0')
        return sql_bad_syntax(err, type, text);
    *out = (struct sql_value){.f = isnan(f) ? (double)NAN : f};
    return 0;
}

int sql_float4_in(struct slice text, struct arena *arena, struct sql_value *out,
                  struct err *err)
{
    return float_in(true, text, arena, out, err);
}

int sql_float8_in(struct slice text, struct arena *arena, struct sql_value *out,
                  struct err *err)
{
    return float_in(false, text, arena, out, err);
}

/* ---- floats out ---- */

struct decimal {
    uint64_t digits; /* 1 to 17 of them */
    int exponent;    /* of the last digit */
};

static struct decimal decimal_of(double f, int precision)
{
    char text[40];
    struct decimal d = {0, 0};
    char *p = text;

    snprintf(text, sizeof(text), "%.*e", precision - 1, f);
    for (; *p != 'e'; p++) {
        if (sql_is_digit(*p))
            d.digits = d.digits * 10 + (uint64_t)(*p - '0');
    }
    d.exponent = (int)strtol(p + 1, NULL, 10) - (precision - 1);
    return d;
}

static double decimal_value(struct decimal d, bool single)
{
    char text[40];

    snprintf(text, sizeof(text), "%" PRIu64 "e%d", d.digits, d.exponent);
    return single ? (double)strtof(text, NULL) : strtod(text, NULL);
}

static uint64_t odd_part(uint64_t v)
{
    while (v != 0 && (v & 1) == 0)
        v >>= 1;
    return v;
}

/* Whether d is (middle) times a power of two, middle being odd. As both are near the same
 * float, equal odd parts mean equal numbers. 5^27 is the largest power below 2^63. */
static bool is_odd_multiple(struct decimal d, uint64_t middle)
{
    uint64_t odd = odd_part(d.digits);
    int fives = d.exponent < 0 ? -d.exponent : d.exponent;

    if (fives > 27)
        return false;
    for (int i = 0; i < fives; i++) {
        uint64_t *dividend = d.exponent < 0 ? &odd : &middle;

        if (*dividend % 5 != 0)
            return false;
        *dividend /= 5;
    }
    return odd == middle;
}

static bool is_midpoint(struct decimal d, double f, bool single)
{
    const int bits = single ? FLT_MANT_DIG : DBL_MANT_DIG;
    int exponent;
    uint64_t mantissa = (uint64_t)ldexp(frexp(f, &exponent), bits);
    uint64_t lowest = (uint64_t)1 << (bits - 1);
    int smallest = single ? FLT_MIN_EXP : DBL_MIN_EXP;

    if (exponent < smallest) /* subnormal: fewer bits */
        mantissa >>= smallest - exponent;
    if (is_odd_multiple(d, 2 * mantissa + 1) || is_odd_multiple(d, 2 * mantissa - 1))
        return true;
    return mantissa == lowest && is_odd_multiple(d, 4 * mantissa - 1);
}

static bool reads_back(struct decimal d, double f, bool single)
{
    return decimal_value(d, single) == f && !is_midpoint(d, f, single);
}

static struct decimal shortest(double f, bool single)
{
    struct decimal d = {0, 0};
    int exponent;
    bool power_of_two = frexp(f, &exponent) == 0.5;

    for (int precision = 1; precision <= (single ? 9 : 17); precision++) {
        d = decimal_of(f, precision);
        if (reads_back(d, f, single))
            break;
        if (!power_of_two)
            continue;
        d.digits++;
        if (reads_back(d, f, single))
            break;
        d.digits--;
    }
    while (d.digits % 10 == 0) {
        d.digits /= 10;
        d.exponent++;
    }
    return d;
}

static void put_scientific(const char *digits, int count, int exponent, struct buf *out)
{
    int magnitude = exponent < 0 ? -exponent : exponent;

    buf_putc(out, digits[0]);
    if (count > 1) {
        buf_putc(out, '.');
        buf_put(out, digits + 1, (size_t)count - 1);
    }
    buf_printf(out, "e%c%02d", exponent < 0 ? '-' : '+', magnitude);
}

static void put_fixed(const char *digits, int count, int exponent, struct buf *out)
{
    if (exponent < 0) {
        buf_puts(out, "0.");
        for (int i = exponent + 1; i < 0; i++)
            buf_putc(out, '0');
        buf_put(out, digits, (size_t)count);
        return;
    }
    for (int i = 0; i <= exponent || i < count; i++) {
        if (i == exponent + 1)
            buf_putc(out, '.');
        buf_putc(out, i < count ? digits[i] : '0');
    }
}

void sql_float_print(double f, bool single, struct buf *out)
{
    struct decimal d;
    char digits[24];
    int count;
    int exponent; /* of the first digit */

    if (isnan(f)) {
        buf_puts(out, "NaN");
        return;
    }
    if (signbit(f))
        buf_putc(out, '-');
    f = fabs(f);
    if (isinf(f) || f == 0) {
        buf_puts(out, f == 0 ? "0" : "Infinity");
        return;
    }
    d = shortest(f, single);
    count = snprintf(digits, sizeof(digits), "%" PRIu64, d.digits);
    exponent = d.exponent + count - 1;
    if (exponent < -4 || exponent >= (single ? 6 : 15))
        put_scientific(digits, count, exponent, out);
    else
        put_fixed(digits, count, exponent, out);
}

void sql_float4_out(const struct sql_value *v, struct buf *out)
{
    sql_float_print(v->f, true, out);
}

void sql_float8_out(const struct sql_value *v, struct buf *out)
{
    sql_float_print(v->f, false, out);
}

/* ---- order ---- */

int sql_float_cmp(const struct sql_value *a, const struct sql_value *b)
{
    if (isnan(a->f) || isnan(b->f))
        return (isnan(a->f) != 0) - (isnan(b->f) != 0);
    return (a->f > b->f) - (a->f < b->f);
}

uint64_t sql_float_hash(const struct sql_value *v, uint64_t seed)
{
    double f = isnan(v->f) ? (double)NAN : v->f == 0 ? 0.0 : v->f;

    return sql_hash_bytes(&f, sizeof(f), seed);
}
