/*
 * numeric: exact decimals of any size, NaN and infinities. Text form, order, hash,
 * rounding; arithmetic is in numeric_ops.c.
 *
 * Digits have base 10^4 as in Postgres. Any base would give the same values, but the scale
 * of a quotient depends on digits of that base, so this one makes the rules short.
 *
 *   text   = blanks ( "NaN" / [sign] ( "inf" / "infinity" / number ) ) blanks
 *   number = ( 1*DIGIT [ "." *DIGIT ] / "." 1*DIGIT ) [ e [blanks] [sign] 1*DIGIT ]
 */

#include "sql/numeric.h"

#include <limits.h>
#include <stdlib.h>

/* ---- work ---- */

int numeric_sign(const struct sql_numeric *n)
{
    if (n->kind != NUMERIC_FINITE)
        return n->kind == NUMERIC_INFINITY ? 1 : -1;
    return n->count == 0 ? 0 : n->negative ? -1 : 1;
}

bool numeric_work_init(struct numeric_work *w, struct arena *arena, int32_t count)
{
    *w = (struct numeric_work){.count = count};
    w->digits = arena_calloc(arena, (size_t)count, sizeof(uint16_t));
    return w->digits != NULL;
}

bool numeric_work_copy(struct numeric_work *w, struct arena *arena,
                       const struct sql_numeric *n)
{
    if (!numeric_work_init(w, arena, n->count + 1))
        return false;
    if (n->count > 0)
        memcpy(w->digits + 1, n->digits, (size_t)n->count * sizeof(uint16_t));
    w->negative = n->negative;
    w->weight = n->weight + 1;
    w->scale = n->scale;
    return true;
}

static void carry_one(struct numeric_work *w, int32_t at, uint32_t add)
{
    for (; at >= 0 && add > 0; at--) {
        uint32_t digit = w->digits[at] + add;

        add = digit >= NUMERIC_BASE;
        w->digits[at] = (uint16_t)(add ? digit - NUMERIC_BASE : digit);
    }
}

/* The first digit must be 0 when this may round up. */
void numeric_work_round(struct numeric_work *w, int32_t scale, bool cut)
{
    static const uint16_t powers[] = {1, 10, 100, 1000, 10000};
    /* Decimal digits that stay, from the front of digits[0]. */
    int64_t keep = ((int64_t)w->weight + 1) * NUMERIC_BASE_WIDTH + scale;
    int32_t whole;
    uint16_t unit;
    uint16_t rest;

    w->scale = scale > 0 ? scale : 0;
    if (keep >= (int64_t)w->count * NUMERIC_BASE_WIDTH)
        return;
    if (keep < 0) {
        w->count = 0;
        return;
    }
    whole = (int32_t)(keep / NUMERIC_BASE_WIDTH);
    unit = powers[NUMERIC_BASE_WIDTH - keep % NUMERIC_BASE_WIDTH];
    rest = (uint16_t)(w->digits[whole] % unit);
    w->digits[whole] = (uint16_t)(w->digits[whole] - rest);
    w->count = whole + 1;
    if (cut || rest < unit / 2)
        return;
    if (unit == NUMERIC_BASE)
        carry_one(w, whole - 1, 1);
    else
        carry_one(w, whole, unit);
}

struct sql_numeric numeric_work_value(struct numeric_work *w)
{
    struct sql_numeric n = {.kind = NUMERIC_FINITE, .scale = w->scale};

    while (w->count > 0 && w->digits[0] == 0) {
        w->digits++;
        w->weight--;
        w->count--;
    }
    while (w->count > 0 && w->digits[w->count - 1] == 0)
        w->count--;
    n.count = w->count;
    n.digits = w->digits;
    if (w->count > 0) {
        n.negative = w->negative;
        n.weight = w->weight;
    }
    return n;
}

int numeric_work_done(struct numeric_work *w, struct arena *arena, struct sql_value *out,
                      struct err *err)
{
    struct sql_numeric *n = arena_alloc(arena, sizeof(*n));

    if (!n)
        return sql_no_memory(err);
    *n = numeric_work_value(w);
    if (n->scale > NUMERIC_SCALE_MAX || n->weight > NUMERIC_WEIGHT_MAX ||
        n->weight < -NUMERIC_WEIGHT_MAX - 1)
        return err_set(err, ERR_INVALID, "value overflows numeric format");
    *out = (struct sql_value){.numeric = n};
    return 0;
}

int numeric_special(enum numeric_kind kind, struct arena *arena, struct sql_value *out,
                    struct err *err)
{
    struct sql_numeric *n = arena_zalloc(arena, sizeof(*n));

    if (!n)
        return sql_no_memory(err);
    n->kind = kind;
    *out = (struct sql_value){.numeric = n};
    return 0;
}

/* ---- in ---- */

struct number {
    bool negative;
    struct slice whole; /* in front of the point */
    struct slice fraction;
    long exponent;
    bool overflow; /* of the exponent; what stands behind it does not count then */
};

static struct slice take_digits(struct slice *s)
{
    struct slice digits = slice_make(s->ptr, 0);

    while (digits.len < s->len && sql_is_digit(s->ptr[digits.len]))
        digits.len++;
    *s = slice_make(s->ptr + digits.len, s->len - digits.len);
    return digits;
}

static bool take_sign(struct slice *s)
{
    bool negative = s->len > 0 && s->ptr[0] == '-';

    if (s->len > 0 && (negative || s->ptr[0] == '+'))
        *s = slice_make(s->ptr + 1, s->len - 1);
    return negative;
}

/* Behind the e. */
static bool take_exponent(struct slice *s, struct number *n)
{
    bool negative;
    struct slice digits;
    uint64_t v;

    while (s->len > 0 && sql_is_blank(s->ptr[0]))
        *s = slice_make(s->ptr + 1, s->len - 1);
    negative = take_sign(s);
    digits = take_digits(s);
    if (digits.len == 0)
        return false;
    n->overflow = !slice_to_u64(digits, &v) || v >= INT_MAX / 2;
    if (!n->overflow)
        n->exponent = negative ? -(long)v : (long)v;
    return true;
}

static bool parse(struct slice s, struct number *n)
{
    *n = (struct number){.negative = take_sign(&s)};
    n->whole = take_digits(&s);
    n->fraction = slice_make(s.ptr, 0);
    if (s.len > 0 && s.ptr[0] == '.') {
        s = slice_make(s.ptr + 1, s.len - 1);
        n->fraction = take_digits(&s);
    }
    if (n->whole.len + n->fraction.len == 0)
        return false;
    if (s.len > 0 && (s.ptr[0] == 'e' || s.ptr[0] == 'E')) {
        s = slice_make(s.ptr + 1, s.len - 1);
        if (!take_exponent(&s, n))
            return false;
    }
    return n->overflow || s.len == 0;
}

static bool special_word(struct slice s, enum numeric_kind *kind)
{
    bool negative;

    if (slice_eq_nocase(s, SLICE_LIT("nan"))) {
        *kind = NUMERIC_NAN;
        return true;
    }
    negative = take_sign(&s);
    *kind = negative ? NUMERIC_MINUS_INFINITY : NUMERIC_INFINITY;
    return slice_eq_nocase(s, SLICE_LIT("inf")) ||
           slice_eq_nocase(s, SLICE_LIT("infinity"));
}

static char decimal_at(const struct number *n, size_t i)
{
    return i < n->whole.len ? n->whole.ptr[i] : n->fraction.ptr[i - n->whole.len];
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Packs the decimal digits, the first of which counts 10^first, four to a digit. */
static int pack(const struct number *n, struct arena *arena, struct sql_value *out,
                struct err *err)
{
    size_t total = n->whole.len + n->fraction.len;
    int64_t first = (int64_t)n->whole.len - 1 + n->exponent;
    int64_t weight = floor_div(first, NUMERIC_BASE_WIDTH);
    int64_t scale = (int64_t)n->fraction.len - n->exponent;
    /* Where in its digit the first decimal stands: 0 in front. */
    size_t lead =
        (size_t)(NUMERIC_BASE_WIDTH - 1 - (first - weight * NUMERIC_BASE_WIDTH));
    struct numeric_work w;

    if (total > INT32_MAX / 8)
        return err_set(err, ERR_INVALID, "value overflows numeric format");
    if (!numeric_work_init(&w, arena, (int32_t)((lead + total) / NUMERIC_BASE_WIDTH + 1)))
        return sql_no_memory(err);
    for (size_t i = 0; i < (size_t)w.count * NUMERIC_BASE_WIDTH; i++) {
        uint16_t *digit = &w.digits[i / NUMERIC_BASE_WIDTH];
        int decimal = i >= lead && i - lead < total ? decimal_at(n, i - lead) - '0' : 0;

        *digit = (uint16_t)(*digit * 10 + decimal);
    }
    w.negative = n->negative;
    w.weight = (int32_t)weight;
    w.scale = scale > 0 ? (int32_t)(scale > INT32_MAX ? INT32_MAX : scale) : 0;
    return numeric_work_done(&w, arena, out, err);
}

int sql_numeric_in(struct slice text, struct arena *arena, struct sql_value *out,
                   struct err *err)
{
    struct slice s = slice_trim(text);
    enum numeric_kind kind;
    struct number n;

    if (special_word(s, &kind))
        return numeric_special(kind, arena, out, err);
    if (!parse(s, &n))
        return sql_bad_syntax(err, "numeric", text);
    if (n.overflow)
        return err_set(err, ERR_INVALID, "value overflows numeric format");
    return pack(&n, arena, out, err);
}

/* ---- out ---- */

static unsigned digit_of_weight(const struct sql_numeric *n, int64_t weight)
{
    int64_t at = n->weight - weight;

    return at >= 0 && at < n->count ? n->digits[at] : 0;
}

static void put_fraction(const struct sql_numeric *n, struct buf *out)
{
    int32_t left = n->scale;

    for (int64_t weight = -1; left > 0; weight--) {
        unsigned digit = digit_of_weight(n, weight);

        for (unsigned unit = NUMERIC_BASE / 10; unit > 0 && left > 0; unit /= 10, left--)
            buf_putc(out, (char)('0' + digit / unit % 10));
    }
}

void sql_numeric_out(const struct sql_value *v, struct buf *out)
{
    static const char *const words[] = {[NUMERIC_MINUS_INFINITY] = "-Infinity",
                                        [NUMERIC_INFINITY] = "Infinity",
                                        [NUMERIC_NAN] = "NaN"};
    const struct sql_numeric *n = v->numeric;

    if (n->kind != NUMERIC_FINITE) {
        buf_puts(out, words[n->kind]);
        return;
    }
    if (n->negative)
        buf_putc(out, '-');
    if (n->count == 0 || n->weight < 0)
        buf_putc(out, '0');
    for (int64_t weight = n->count > 0 ? n->weight : -1; weight >= 0; weight--)
        buf_printf(out, weight == n->weight ? "%u" : "%04u", digit_of_weight(n, weight));
    if (n->scale > 0) {
        buf_putc(out, '.');
        put_fraction(n, out);
    }
}

/* ---- order ---- */

static int cmp_magnitude(const struct sql_numeric *a, const struct sql_numeric *b)
{
    if (a->weight != b->weight)
        return a->weight > b->weight ? 1 : -1;
    for (int32_t i = 0; i < a->count && i < b->count; i++) {
        if (a->digits[i] != b->digits[i])
            return a->digits[i] > b->digits[i] ? 1 : -1;
    }
    return (a->count > b->count) - (a->count < b->count);
}

int sql_numeric_cmp(const struct sql_value *va, const struct sql_value *vb)
{
    const struct sql_numeric *a = va->numeric;
    const struct sql_numeric *b = vb->numeric;
    int sign_a;
    int sign_b;

    if (a->kind != b->kind)
        return a->kind > b->kind ? 1 : -1;
    if (a->kind != NUMERIC_FINITE)
        return 0;
    sign_a = numeric_sign(a);
    sign_b = numeric_sign(b);
    if (sign_a != sign_b || sign_a == 0)
        return (sign_a > sign_b) - (sign_a < sign_b);
    return sign_a * cmp_magnitude(a, b);
}

uint64_t sql_numeric_hash(const struct sql_value *v, uint64_t seed)
{
    const struct sql_numeric *n = v->numeric;
    int32_t head[2];

    head[0] = n->kind == NUMERIC_FINITE ? 10 + numeric_sign(n) : (int32_t)n->kind;
    head[1] = n->weight;
    seed = sql_hash_bytes(head, sizeof(head), seed);
    return sql_hash_bytes(n->digits, (size_t)n->count * sizeof(uint16_t), seed);
}

/* ---- whole numbers, typmods ---- */

bool sql_numeric_to_int(const struct sql_numeric *n, int64_t *out)
{
    bool up;
    uint64_t v = 0;

    if (n->kind != NUMERIC_FINITE || n->weight > 4)
        return false;
    up = digit_of_weight(n, -1) >= NUMERIC_BASE / 2;
    for (int64_t weight = n->weight; weight >= 0; weight--) {
        if (__builtin_mul_overflow(v, (uint64_t)NUMERIC_BASE, &v) ||
            __builtin_add_overflow(v, (uint64_t)digit_of_weight(n, weight), &v))
            return false;
    }
    if (__builtin_add_overflow(v, (uint64_t)up, &v) ||
        v > (uint64_t)INT64_MAX + n->negative)
        return false;
    *out = n->negative ? -(int64_t)(v - (v > 0)) - (v > 0) : (int64_t)v;
    return true;
}

/* numeric(precision, scale): rounded; what has too many digits in front is an error. */
int sql_numeric_typmod(int32_t typmod, struct arena *arena, struct sql_value *v,
                       struct err *err)
{
    int32_t precision = (typmod - 4) >> 16 & 0xFFFF;
    int32_t scale = (((typmod - 4) & 0x7FF) ^ 1024) - 1024;
    struct numeric_work w;
    int rc;

    if (v->numeric->kind == NUMERIC_NAN)
        return 0;
    if (v->numeric->kind != NUMERIC_FINITE)
        return err_set(err, ERR_INVALID, "numeric field overflow");
    if (!numeric_work_copy(&w, arena, v->numeric))
        return sql_no_memory(err);
    numeric_work_round(&w, scale, false);
    rc = numeric_work_done(&w, arena, v, err);
    if (rc == 0 && v->numeric->count > 0) {
        int64_t decimals = (int64_t)v->numeric->weight * NUMERIC_BASE_WIDTH;

        for (unsigned digit = v->numeric->digits[0]; digit > 0; digit /= 10)
            decimals++;
        if (decimals > precision - scale)
            return err_set(err, ERR_INVALID, "numeric field overflow");
    }
    return rc;
}
