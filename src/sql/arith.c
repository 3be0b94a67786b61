/*
 * Operators, functions and casts over integers and floats, as Postgres computes them: in
 * the wider of the two types, every result that does not fit an error.
 *
 * Integers share one function per operator; the width is that of the argument types. A
 * float4 result is rounded to a float where Postgres computes in float.
 */

#include <errno.h>
#include <float.h>
#include <math.h>

#include "sql/ops.h"

/* ---- integers ---- */

/* The type of a result: int2 < int4 < int8. */
static enum sql_base int_width(const struct sql_call *call)
{
    enum sql_base base = call->types[0].base;

    if (call->count == 2 && call->types[1].base > base)
        base = call->types[1].base;
    return base;
}

static enum sql_failure int_done(struct sql_call *call, bool overflow, int64_t v,
                                 struct sql_value *out)
{
    enum sql_base base = int_width(call);

    if (overflow || !sql_int_fits(base, v))
        return sql_int_range(call, base);
    return sql_int_result(out, v);
}

enum sql_failure sql_int_add(struct sql_call *call, const struct sql_value *args,
                             struct sql_value *out)
{
    int64_t v;
    bool overflow = __builtin_add_overflow(args[0].i, args[1].i, &v);

    return int_done(call, overflow, v, out);
}

enum sql_failure sql_int_sub(struct sql_call *call, const struct sql_value *args,
                             struct sql_value *out)
{
    int64_t v;
    bool overflow = __builtin_sub_overflow(args[0].i, args[1].i, &v);

    return int_done(call, overflow, v, out);
}

enum sql_failure sql_int_mul(struct sql_call *call, const struct sql_value *args,
                             struct sql_value *out)
{
    int64_t v;
    bool overflow = __builtin_mul_overflow(args[0].i, args[1].i, &v);

    return int_done(call, overflow, v, out);
}

enum sql_failure sql_int_div(struct sql_call *call, const struct sql_value *args,
                             struct sql_value *out)
{
    if (args[1].i == 0)
        return sql_fail(call, "division by zero");
    if (args[1].i == -1)
        return int_done(call, args[0].i == INT64_MIN,
                        args[0].i == INT64_MIN ? 0 : -args[0].i, out);
    return int_done(call, false, args[0].i / args[1].i, out);
}

enum sql_failure sql_int_mod(struct sql_call *call, const struct sql_value *args,
                             struct sql_value *out)
{
    if (args[1].i == 0)
        return sql_fail(call, "division by zero");
    return sql_int_result(out, args[1].i == -1 ? 0 : args[0].i % args[1].i);
}

enum sql_failure sql_int_neg(struct sql_call *call, const struct sql_value *args,
                             struct sql_value *out)
{
    bool overflow = args[0].i == INT64_MIN;

    return int_done(call, overflow, overflow ? 0 : -args[0].i, out);
}

enum sql_failure sql_int_abs(struct sql_call *call, const struct sql_value *args,
                             struct sql_value *out)
{
    return args[0].i < 0 ? sql_int_neg(call, args, out) : sql_int_result(out, args[0].i);
}

enum sql_failure sql_int_and(struct sql_call *call, const struct sql_value *args,
                             struct sql_value *out)
{
    (void)call;
    return sql_int_result(out, args[0].i & args[1].i);
}

enum sql_failure sql_int_or(struct sql_call *call, const struct sql_value *args,
                            struct sql_value *out)
{
    (void)call;
    return sql_int_result(out, args[0].i | args[1].i);
}

enum sql_failure sql_int_xor(struct sql_call *call, const struct sql_value *args,
                             struct sql_value *out)
{
    (void)call;
    return sql_int_result(out, args[0].i ^ args[1].i);
}

enum sql_failure sql_int_not(struct sql_call *call, const struct sql_value *args,
                             struct sql_value *out)
{
    (void)call;
    return sql_int_result(out, ~args[0].i);
}

/* ---- floats ---- */

static bool is_single(const struct sql_call *call)
{
    for (size_t i = 0; i < call->count; i++) {
        if (call->types[i].base != SQL_FLOAT4)
            return false;
    }
    return true;
}

/* What the two errors look like in every operation. */
static enum sql_failure float_done(struct sql_call *call, double f, bool may_be_infinite,
                                   bool may_be_zero, struct sql_value *out)
{
    if (is_single(call))
        f = (double)(float)f;
    if (isinf(f) && !may_be_infinite)
        return sql_fail(call, "value out of range: overflow");
    if (f == 0 && !may_be_zero)
        return sql_fail(call, "value out of range: underflow");
    return sql_float_result(out, f);
}

/* Rounding a float operation's double result once more gives the float result: a double
 * has more than twice a float's bits. */
enum sql_failure sql_float_add(struct sql_call *call, const struct sql_value *args,
                               struct sql_value *out)
{
    return float_done(call, args[0].f + args[1].f, isinf(args[0].f) || isinf(args[1].f),
                      true, out);
}

enum sql_failure sql_float_sub(struct sql_call *call, const struct sql_value *args,
                               struct sql_value *out)
{
    return float_done(call, args[0].f - args[1].f, isinf(args[0].f) || isinf(args[1].f),
                      true, out);
}

enum sql_failure sql_float_mul(struct sql_call *call, const struct sql_value *args,
                               struct sql_value *out)
{
    return float_done(call, args[0].f * args[1].f, isinf(args[0].f) || isinf(args[1].f),
                      args[0].f == 0 || args[1].f == 0, out);
}

enum sql_failure sql_float_div(struct sql_call *call, const struct sql_value *args,
                               struct sql_value *out)
{
    if (args[1].f == 0 && !isnan(args[0].f))
        return sql_fail(call, "division by zero");
    return float_done(call, args[0].f / args[1].f, isinf(args[0].f) != 0,
                      args[0].f == 0 || isinf(args[1].f), out);
}

/* pow with an infinite argument, by POSIX. */
static double power_of_infinite(double base, double exponent)
{
    bool odd = fmod(exponent, 2) != 0; /* false for infinities, which come first */

    if (isinf(exponent)) {
        if (fabs(base) == 1)
            return 1;
        return (fabs(base) > 1) == (exponent > 0) ? (double)INFINITY : 0;
    }
    if (exponent == 0)
        return 1;
    if (base > 0)
        return exponent > 0 ? base : 0;
    if (exponent > 0)
        return odd ? base : -base;
    return odd ? -0.0 : 0.0;
}

enum sql_failure sql_float_power(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    double base = args[0].f;
    double exponent = args[1].f;
    double f;

    if (isnan(base))
        return sql_float_result(out, exponent == 0 ? 1 : base);
    if (isnan(exponent))
        return sql_float_result(out, base == 1 ? 1 : exponent);
    if (base == 0 && exponent < 0)
        return sql_fail(call, "zero raised to a negative power is undefined");
    if (base < 0 && floor(exponent) != exponent)
        return sql_fail(call, "a negative number raised to a non-integer power yields a "
                              "complex result");
    if (isinf(base) || isinf(exponent))
        return sql_float_result(out, power_of_infinite(base, exponent));
    f = pow(base, exponent);
    if (isinf(f))
        return sql_fail(call, "value out of range: overflow");
    if (f == 0 && base != 0)
        return sql_fail(call, "value out of range: underflow");
    return sql_float_result(out, f);
}

enum sql_failure sql_float_sqrt(struct sql_call *call, const struct sql_value *args,
                                struct sql_value *out)
{
    if (args[0].f < 0)
        return sql_fail(call, "cannot take square root of a negative number");
    return sql_float_result(out, sqrt(args[0].f));
}

enum sql_failure sql_float_neg(struct sql_call *call, const struct sql_value *args,
                               struct sql_value *out)
{
    (void)call;
    return sql_float_result(out, -args[0].f);
}

enum sql_failure sql_float_abs(struct sql_call *call, const struct sql_value *args,
                               struct sql_value *out)
{
    (void)call;
    return sql_float_result(out, fabs(args[0].f));
}

enum sql_failure sql_float_round(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    (void)call;
    return sql_float_result(out, rint(args[0].f));
}

enum sql_failure sql_float_ceil(struct sql_call *call, const struct sql_value *args,
                                struct sql_value *out)
{
    (void)call;
    return sql_float_result(out, ceil(args[0].f));
}

enum sql_failure sql_float_floor(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    (void)call;
    return sql_float_result(out, floor(args[0].f));
}

enum sql_failure sql_float_trunc(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    (void)call;
    return sql_float_result(out, trunc(args[0].f));
}

enum sql_failure sql_float_sign(struct sql_call *call, const struct sql_value *args,
                                struct sql_value *out)
{
    double f = args[0].f;

    (void)call;
    return sql_float_result(out, f > 0 ? 1 : f < 0 ? -1 : 0);
}

/* ---- casts ---- */

/* A value that needs nothing, such as int4 → int8 or varchar → text. */
enum sql_failure sql_same(struct sql_call *call, const struct sql_value *args,
                          struct sql_value *out)
{
    (void)call;
    *out = args[0];
    return SQL_FINE;
}

static enum sql_failure int_to(struct sql_call *call, enum sql_base base, int64_t v,
                               struct sql_value *out)
{
    return sql_int_fits(base, v) ? sql_int_result(out, v) : sql_int_range(call, base);
}

enum sql_failure sql_int_to_int2(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    return int_to(call, SQL_INT2, args[0].i, out);
}

enum sql_failure sql_int_to_int4(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    return int_to(call, SQL_INT4, args[0].i, out);
}

enum sql_failure sql_int_to_float4(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    (void)call;
    return sql_float_result(out, (double)(float)args[0].i);
}

enum sql_failure sql_int_to_float8(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    (void)call;
    return sql_float_result(out, (double)args[0].i);
}

enum sql_failure sql_int_to_bool(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    (void)call;
    return sql_bool_result(out, args[0].i != 0);
}

enum sql_failure sql_bool_to_int(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    (void)call;
    return sql_int_result(out, args[0].b);
}

enum sql_failure sql_float_to_float4(struct sql_call *call, const struct sql_value *args,
                                     struct sql_value *out)
{
    double f = (double)(float)args[0].f;

    if (isinf(f) && !isinf(args[0].f))
        return sql_fail(call, "value out of range: overflow");
    if (f == 0 && args[0].f != 0)
        return sql_fail(call, "value out of range: underflow");
    return sql_float_result(out, f);
}

/* Half to even, then the range; 2^63 itself is outside. */
static enum sql_failure float_to(struct sql_call *call, enum sql_base base, double f,
                                 struct sql_value *out)
{
    const double limit = 9223372036854775808.0;

    f = rint(f);
    if (!(f >= -limit && f < limit) || !sql_int_fits(base, (int64_t)f))
        return sql_int_range(call, base);
    return sql_int_result(out, (int64_t)f);
}

enum sql_failure sql_float_to_int2(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    return float_to(call, SQL_INT2, args[0].f, out);
}

enum sql_failure sql_float_to_int4(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    return float_to(call, SQL_INT4, args[0].f, out);
}

enum sql_failure sql_float_to_int8(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    return float_to(call, SQL_INT8, args[0].f, out);
}
