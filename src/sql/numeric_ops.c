/*
 * Arithmetic of numerics: schoolbook, exact, with the scale that Postgres gives each
 * result.
 *
 *   + -    the larger scale             *      the sum of both
 *   %      the larger scale             /      at least 16 significant digits, at least
 *                                              both scales, at most 1000 (quotient_scale)
 *
 * A quotient is cut one digit behind its scale and then rounded, which rounds it right.
 */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sql/numeric.h"
#include "sql/ops.h"

#define QUOTIENT_DIGITS    16
#define DISPLAY_SCALE_MAX  1000
#define WHOLE_DECIMALS_MAX ((NUMERIC_WEIGHT_MAX + 1) * NUMERIC_BASE_WIDTH + 1)

static enum sql_failure done(struct sql_call *call, struct numeric_work *w,
                             struct sql_value *out)
{
    return numeric_work_done(w, call->arena, out, call->err) == 0 ? SQL_FINE : SQL_FAILED;
}

static enum sql_failure special(struct sql_call *call, enum numeric_kind kind,
                                struct sql_value *out)
{
    return numeric_special(kind, call->arena, out, call->err) == 0 ? SQL_FINE
                                                                   : SQL_FAILED;
}

static enum sql_failure infinity(struct sql_call *call, int sign, struct sql_value *out)
{
    enum numeric_kind kind = sign > 0   ? NUMERIC_INFINITY
                             : sign < 0 ? NUMERIC_MINUS_INFINITY
                                        : NUMERIC_NAN;

    return special(call, kind, out);
}

static enum sql_failure no_memory(struct sql_call *call)
{
    sql_no_memory(call->err);
    return SQL_FAILED;
}

static int32_t max32(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static bool either_nan(const struct sql_value *args)
{
    return args[0].numeric->kind == NUMERIC_NAN || args[1].numeric->kind == NUMERIC_NAN;
}

static bool infinite(const struct sql_value *v)
{
    return v->numeric->kind == NUMERIC_INFINITY ||
           v->numeric->kind == NUMERIC_MINUS_INFINITY;
}

/* ---- sums ---- */

static int32_t digit_at(const struct sql_numeric *n, int32_t weight)
{
    int32_t at = n->weight - weight;

    return at >= 0 && at < n->count ? n->digits[at] : 0;
}

/* |a| + |b| or, with sign -1, |a| - |b|; a negative result is negated. */
static bool sum(struct arena *arena, const struct sql_numeric *a,
                const struct sql_numeric *b, int sign, struct numeric_work *w)
{
    int32_t top = max32(a->weight, b->weight) + 1;
    int32_t end_a = a->weight - a->count;
    int32_t end_b = b->weight - b->count;
    int32_t end = end_a < end_b ? end_a : end_b;
    int32_t carry = 0;

    if (!numeric_work_init(w, arena, top - end))
        return false;
    w->weight = top;
    for (int32_t i = w->count - 1; i >= 0; i--) {
        int32_t v = digit_at(a, top - i) + sign * digit_at(b, top - i) + carry;

        carry = v < 0 ? -1 : v >= NUMERIC_BASE;
        w->digits[i] = (uint16_t)(v - carry * NUMERIC_BASE);
    }
    if (carry == 0)
        return true;
    w->negative = true;
    for (int32_t i = w->count - 1, borrow = 0; i >= 0; i--) {
        int32_t v = -(int32_t)w->digits[i] - borrow;

        borrow = v < 0;
        w->digits[i] = (uint16_t)(v + borrow * NUMERIC_BASE);
    }
    return true;
}

static enum sql_failure add(struct sql_call *call, const struct sql_numeric *a,
                            const struct sql_numeric *b, bool negate_b,
                            struct sql_value *out)
{
    bool negative_b = b->negative != negate_b;
    struct numeric_work w;

    if (!sum(call->arena, a, b, a->negative == negative_b ? 1 : -1, &w))
        return no_memory(call);
    w.negative = w.negative != a->negative;
    w.scale = max32(a->scale, b->scale);
    return done(call, &w, out);
}

static enum sql_failure add_or_sub(struct sql_call *call, const struct sql_value *args,
                                   bool negate_b, struct sql_value *out)
{
    int sign_a = infinite(&args[0]) ? numeric_sign(args[0].numeric) : 0;
    int sign_b = infinite(&args[1]) ? numeric_sign(args[1].numeric) : 0;

    if (either_nan(args))
        return special(call, NUMERIC_NAN, out);
    if (negate_b)
        sign_b = -sign_b;
    if (sign_a != 0 || sign_b != 0)
        return infinity(call, sign_a == 0 ? sign_b : sign_a + sign_b, out);
    return add(call, args[0].numeric, args[1].numeric, negate_b, out);
}

enum sql_failure sql_numeric_add(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    return add_or_sub(call, args, false, out);
}

enum sql_failure sql_numeric_sub(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    return add_or_sub(call, args, true, out);
}

/* ---- products ---- */

static bool product(struct arena *arena, const struct sql_numeric *a,
                    const struct sql_numeric *b, struct numeric_work *w)
{
    if (!numeric_work_init(w, arena, a->count + b->count + 1))
        return false;
    w->weight = a->weight + b->weight + 2;
    w->negative = a->negative != b->negative;
    w->scale = a->scale + b->scale;
    for (int32_t i = a->count - 1; i >= 0; i--) {
        uint32_t carry = 0;

        for (int32_t j = b->count - 1; j >= 0; j--) {
            uint16_t *digit = &w->digits[i + j + 2];

            carry += *digit + (uint32_t)a->digits[i] * b->digits[j];
            *digit = (uint16_t)(carry % NUMERIC_BASE);
            carry /= NUMERIC_BASE;
        }
        w->digits[i + 1] = (uint16_t)carry;
    }
    return true;
}

enum sql_failure sql_numeric_mul(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    struct numeric_work w;

    if (either_nan(args))
        return special(call, NUMERIC_NAN, out);
    if (infinite(&args[0]) || infinite(&args[1]))
        return infinity(
            call, numeric_sign(args[0].numeric) * numeric_sign(args[1].numeric), out);
    if (!product(call->arena, args[0].numeric, args[1].numeric, &w))
        return no_memory(call);
    if (w.scale > NUMERIC_SCALE_MAX)
        numeric_work_round(&w, NUMERIC_SCALE_MAX, false);
    return done(call, &w, out);
}

/* ---- quotients ---- */

static uint32_t first_digit(const struct sql_numeric *n)
{
    return n->count > 0 ? n->digits[0] : 0;
}

static int32_t quotient_scale(const struct sql_numeric *a, const struct sql_numeric *b)
{
    int32_t weight = a->weight - b->weight - (first_digit(a) <= first_digit(b));
    int32_t scale = QUOTIENT_DIGITS - weight * NUMERIC_BASE_WIDTH;

    scale = max32(max32(scale, a->scale), max32(b->scale, 0));
    return scale < DISPLAY_SCALE_MAX ? scale : DISPLAY_SCALE_MAX;
}

/* rest[0..n] -= digit * divisor[0..n-1], rest having one digit more in front. */
static bool subtract_multiple(uint16_t *rest, const uint16_t *divisor, int32_t n,
                              uint32_t digit)
{
    int64_t borrow = 0;

    for (int32_t i = n; i > 0; i--) {
        int64_t v = (int64_t)rest[i] - (int64_t)digit * divisor[i - 1] + borrow;

        borrow = v >= 0 ? 0 : -((-v + NUMERIC_BASE - 1) / NUMERIC_BASE);
        rest[i] = (uint16_t)(v - borrow * NUMERIC_BASE);
    }
    borrow += rest[0];
    rest[0] = (uint16_t)(borrow < 0 ? borrow + NUMERIC_BASE : borrow);
    return borrow < 0;
}

static void add_back(uint16_t *rest, const uint16_t *divisor, int32_t n)
{
    uint32_t carry = 0;

    for (int32_t i = n; i > 0; i--) {
        carry += (uint32_t)rest[i] + divisor[i - 1];
        rest[i] = (uint16_t)(carry % NUMERIC_BASE);
        carry /= NUMERIC_BASE;
    }
    rest[0] = (uint16_t)((rest[0] + carry) % NUMERIC_BASE);
}

/* One digit of the quotient: estimated from three digits of the rest and two of the
 * divisor, at most one too large, which adding back corrects. */
static uint16_t divide_step(uint16_t *rest, const uint16_t *divisor, int32_t n)
{
    uint64_t head = (uint64_t)rest[0] * NUMERIC_BASE + rest[1];
    uint64_t top = divisor[0];
    uint64_t digit;

    head = head * NUMERIC_BASE + (n > 1 ? rest[2] : 0);
    top = top * NUMERIC_BASE + (n > 1 ? divisor[1] : 0);
    digit = head / top;
    if (digit >= NUMERIC_BASE)
        digit = NUMERIC_BASE - 1;
    if (subtract_multiple(rest, divisor, n, (uint32_t)digit)) {
        add_back(rest, divisor, n);
        digit--;
    }
    return (uint16_t)digit;
}

/* a / b cut behind decimals digits; a and b are not zero. */
static bool quotient(struct arena *arena, const struct sql_numeric *a,
                     const struct sql_numeric *b, int32_t decimals,
                     struct numeric_work *w)
{
    int32_t weight = a->weight - b->weight; /* of the first digit */
    int32_t count = weight + (decimals + NUMERIC_BASE_WIDTH - 1) / NUMERIC_BASE_WIDTH + 2;
    uint16_t *rest;
    int32_t length;

    if (count < 1)
        count = 1;
    length = count + b->count + 1;
    if (length <= a->count)
        length = a->count + 1;
    rest = arena_calloc(arena, (size_t)length, sizeof(uint16_t));
    if (!rest || !numeric_work_init(w, arena, count + 1))
        return false;
    memcpy(rest + 1, a->digits, (size_t)a->count * sizeof(uint16_t));
    for (int32_t i = 0; i < count; i++)
        w->digits[i + 1] = divide_step(rest + i, b->digits, b->count);
    w->weight = weight + 1;
    w->negative = a->negative != b->negative;
    return true;
}

static enum sql_failure zero(struct sql_call *call, int32_t scale, struct sql_value *out)
{
    struct numeric_work w;

    if (!numeric_work_init(&w, call->arena, 0))
        return no_memory(call);
    w.scale = scale;
    return done(call, &w, out);
}

enum sql_failure sql_numeric_div(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    const struct sql_numeric *a = args[0].numeric;
    const struct sql_numeric *b = args[1].numeric;
    struct numeric_work w;
    int32_t scale;

    if (either_nan(args))
        return special(call, NUMERIC_NAN, out);
    if (b->kind == NUMERIC_FINITE && b->count == 0)
        return sql_fail(call, "division by zero");
    if (infinite(&args[0]))
        return infinity(call, infinite(&args[1]) ? 0 : numeric_sign(a) * numeric_sign(b),
                        out);
    if (infinite(&args[1]))
        return zero(call, 0, out);
    scale = quotient_scale(a, b);
    if (a->count == 0)
        return zero(call, scale, out);
    if (!quotient(call->arena, a, b, scale, &w))
        return no_memory(call);
    numeric_work_round(&w, scale, false);
    return done(call, &w, out);
}

/* a - b * trunc(a / b) */
enum sql_failure sql_numeric_mod(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    const struct sql_numeric *a = args[0].numeric;
    const struct sql_numeric *b = args[1].numeric;
    struct sql_numeric times;
    struct sql_numeric part;
    struct numeric_work w;

    if (either_nan(args))
        return special(call, NUMERIC_NAN, out);
    if (b->kind == NUMERIC_FINITE && b->count == 0)
        return sql_fail(call, "division by zero");
    if (infinite(&args[0]))
        return special(call, NUMERIC_NAN, out);
    if (infinite(&args[1])) {
        *out = args[0];
        return SQL_FINE;
    }
    if (a->count == 0 || a->weight < b->weight)
        return add(call, a,
                   &(struct sql_numeric){.kind = NUMERIC_FINITE, .scale = b->scale},
                   false, out);
    if (!quotient(call->arena, a, b, 0, &w))
        return no_memory(call);
    numeric_work_round(&w, 0, true);
    times = numeric_work_value(&w); /* this may be too large for a result */
    if (!product(call->arena, b, &times, &w))
        return no_memory(call);
    part = numeric_work_value(&w);
    return add(call, a, &part, true, out);
}

/* ---- powers ---- */

#define EXPONENT_MAX 1000

/* Where the result is exact, which Postgres shows with 16 digits behind the point, or as
 * many as the base has. Else it depends on how far a series was followed. */
enum sql_failure sql_numeric_power(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    const struct sql_numeric *base = args[0].numeric;
    int32_t scale = max32(QUOTIENT_DIGITS, base->scale);
    uint16_t one = 1;
    struct sql_numeric power = {.kind = NUMERIC_FINITE, .count = 1, .digits = &one};
    struct sql_value whole;
    struct numeric_work w;
    int64_t exponent;

    if (base->kind != NUMERIC_FINITE || !sql_numeric_to_int(args[1].numeric, &exponent) ||
        exponent < 0 || exponent > EXPONENT_MAX || base->scale > DISPLAY_SCALE_MAX ||
        exponent * base->scale > scale)
        return sql_refuse(call, "this power of a numeric has no exact result");
    if (sql_numeric_from_int(call, exponent, &whole) != SQL_FINE)
        return SQL_FAILED;
    if (sql_numeric_cmp(&whole, &args[1]) != 0)
        return sql_refuse(call, "this power of a numeric has no exact result");
    for (int64_t i = 0; i < exponent; i++) {
        if (!product(call->arena, &power, base, &w))
            return no_memory(call);
        power = numeric_work_value(&w);
    }
    if (!numeric_work_copy(&w, call->arena, &power))
        return no_memory(call);
    w.scale = scale;
    return done(call, &w, out);
}

/* ---- signs and rounding ---- */

static enum sql_failure with_sign(struct sql_call *call, const struct sql_numeric *n,
                                  bool negative, struct sql_value *out)
{
    struct sql_numeric *copy = arena_alloc(call->arena, sizeof(*copy));

    if (!copy)
        return no_memory(call);
    *copy = *n;
    copy->negative = negative && n->count > 0;
    if (n->kind == NUMERIC_INFINITY || n->kind == NUMERIC_MINUS_INFINITY)
        copy->kind = negative ? NUMERIC_MINUS_INFINITY : NUMERIC_INFINITY;
    *out = (struct sql_value){.numeric = copy};
    return SQL_FINE;
}

enum sql_failure sql_numeric_neg(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    return with_sign(call, args[0].numeric, numeric_sign(args[0].numeric) > 0, out);
}

enum sql_failure sql_numeric_abs(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    return with_sign(call, args[0].numeric, false, out);
}

enum sql_failure sql_numeric_sign(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    if (args[0].numeric->kind == NUMERIC_NAN)
        return special(call, NUMERIC_NAN, out);
    return sql_numeric_from_int(call, numeric_sign(args[0].numeric), out);
}

static enum sql_failure round_to(struct sql_call *call, const struct sql_value *v,
                                 int64_t scale, bool cut, struct sql_value *out)
{
    struct numeric_work w;

    if (v->numeric->kind != NUMERIC_FINITE) {
        *out = *v;
        return SQL_FINE;
    }
    if (scale > NUMERIC_SCALE_MAX)
        scale = NUMERIC_SCALE_MAX;
    if (scale < -WHOLE_DECIMALS_MAX)
        scale = -WHOLE_DECIMALS_MAX;
    if (!numeric_work_copy(&w, call->arena, v->numeric))
        return no_memory(call);
    numeric_work_round(&w, (int32_t)scale, cut);
    return done(call, &w, out);
}

enum sql_failure sql_numeric_round(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    return round_to(call, &args[0], call->count > 1 ? args[1].i : 0, false, out);
}

enum sql_failure sql_numeric_trunc(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    return round_to(call, &args[0], call->count > 1 ? args[1].i : 0, true, out);
}

/* Cut, and one more in the direction asked for when something was cut off. */
static enum sql_failure towards(struct sql_call *call, const struct sql_value *v,
                                int sign, struct sql_value *out)
{
    struct sql_value cut;
    struct sql_value one;
    int order;

    if (v->numeric->kind != NUMERIC_FINITE) {
        *out = *v;
        return SQL_FINE;
    }
    if (round_to(call, v, 0, true, &cut) != SQL_FINE)
        return SQL_FAILED;
    order = sql_numeric_cmp(v, &cut);
    if (order != sign) {
        *out = cut;
        return SQL_FINE;
    }
    if (sql_numeric_from_int(call, sign, &one) != SQL_FINE)
        return SQL_FAILED;
    return add(call, cut.numeric, one.numeric, false, out);
}

enum sql_failure sql_numeric_ceil(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    return towards(call, &args[0], 1, out);
}

enum sql_failure sql_numeric_floor(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    return towards(call, &args[0], -1, out);
}

/* ---- casts ---- */

enum sql_failure sql_numeric_from_int(struct sql_call *call, int64_t v,
                                      struct sql_value *out)
{
    char text[24];
    struct sql_value n;
    int len = snprintf(text, sizeof(text), "%lld", (long long)v);

    if (sql_numeric_in(slice_make(text, (size_t)len), call->arena, &n, call->err) != 0)
        return SQL_FAILED;
    *out = n;
    return SQL_FINE;
}

enum sql_failure sql_int_to_numeric(struct sql_call *call, const struct sql_value *args,
                                    struct sql_value *out)
{
    return sql_numeric_from_int(call, args[0].i, out);
}

/* Through 15 decimal digits (float4: 6), so that 0.1 becomes 0.1. */
enum sql_failure sql_float_to_numeric(struct sql_call *call, const struct sql_value *args,
                                      struct sql_value *out)
{
    char text[40];
    double f = args[0].f;

    if (isnan(f))
        return special(call, NUMERIC_NAN, out);
    if (isinf(f))
        return infinity(call, f > 0 ? 1 : -1, out);
    snprintf(text, sizeof(text), "%.*g", call->types[0].base == SQL_FLOAT4 ? 6 : 15, f);
    return sql_result_in(call, SQL_NUMERIC, slice_of(text), out);
}

static enum sql_failure to_int(struct sql_call *call, enum sql_base base,
                               const struct sql_value *v, struct sql_value *out)
{
    static const char *const names[] = {
        [SQL_INT2] = "smallint", [SQL_INT4] = "integer", [SQL_INT8] = "bigint"};
    int64_t i;

    if (v->numeric->kind != NUMERIC_FINITE)
        return sql_fail(call, "cannot convert %s to %s",
                        v->numeric->kind == NUMERIC_NAN ? "NaN" : "infinity",
                        names[base]);
    if (!sql_numeric_to_int(v->numeric, &i) || !sql_int_fits(base, i))
        return sql_int_range(call, base);
    return sql_int_result(out, i);
}

enum sql_failure sql_numeric_to_int2(struct sql_call *call, const struct sql_value *args,
                                     struct sql_value *out)
{
    return to_int(call, SQL_INT2, &args[0], out);
}

enum sql_failure sql_numeric_to_int4(struct sql_call *call, const struct sql_value *args,
                                     struct sql_value *out)
{
    return to_int(call, SQL_INT4, &args[0], out);
}

enum sql_failure sql_numeric_to_int8(struct sql_call *call, const struct sql_value *args,
                                     struct sql_value *out)
{
    return to_int(call, SQL_INT8, &args[0], out);
}

static enum sql_failure to_float(struct sql_call *call, enum sql_base base,
                                 const struct sql_value *v, struct sql_value *out)
{
    struct sql_value text;

    if (sql_to_text(call, v, &text) != SQL_FINE)
        return SQL_FAILED;
    return sql_result_in(call, base, text.s, out);
}

enum sql_failure sql_numeric_to_float4(struct sql_call *call,
                                       const struct sql_value *args,
                                       struct sql_value *out)
{
    return to_float(call, SQL_FLOAT4, &args[0], out);
}

enum sql_failure sql_numeric_to_float8(struct sql_call *call,
                                       const struct sql_value *args,
                                       struct sql_value *out)
{
    return to_float(call, SQL_FLOAT8, &args[0], out);
}
