/*
 * interval: text form, order and hash. Months, days and µs are kept apart, because a month
 * has no fixed number of days and a day no fixed number of hours; only comparison takes
 * 30 days for a month and 24 hours for a day.
 *
 *   interval = *( ["@"] / number unit / clock / sign Y "-" M / number ) ["ago"]
 *            / "P" *( number ("Y" / "M" / "W" / "D") ) [ "T" *( number ("H" / "M" / "S") ) ]
 *   number   = [sign] *DIGIT [ "." *DIGIT ]
 *   clock    = [sign] H*H ":" M*M [ ":" S*S ] [ "." *DIGIT ]
 *
 * A number without a unit is days when a clock follows, else seconds. Postgres reads the
 * fields from the last to the first, and so does this. Printed in ISO 8601 form
 * (IntervalStyle iso_8601).
 *
 * The fraction of a year is rounded to months; that of a month or week goes to days and
 * what is left to µs; all in floating point, in Postgres's order of operations.
 */

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "sql/datetime.h"

#define FIELDS_MAX 25u

enum unit {
    MICROSECOND,
    MILLISECOND,
    SECOND,
    MINUTE,
    HOUR,
    DAY,
    WEEK,
    MONTH,
    YEAR,
    DECADE,
    CENTURY,
    MILLENNIUM,
    NO_UNIT
};

enum reading { READ_FINE, READ_INVALID, READ_UNCLEAR, READ_RANGE };

/* As Postgres collects them before they are put together. */
struct parts {
    int64_t years; /* in Postgres an int, as are the next two */
    int64_t months;
    int64_t days;
    int64_t us;
};

/* ---- units ---- */

static const struct {
    const char *name;
    enum unit unit;
} units[] = {
    {"us", MICROSECOND},
    {"usec", MICROSECOND},
    {"usecs", MICROSECOND},
    {"useconds", MICROSECOND},
    {"usecond", MICROSECOND},
    {"microsecond", MICROSECOND},
    {"microseconds", MICROSECOND},
    {"ms", MILLISECOND},
    {"msec", MILLISECOND},
    {"msecs", MILLISECOND},
    {"msecond", MILLISECOND},
    {"mseconds", MILLISECOND},
    {"millisecond", MILLISECOND},
    {"milliseconds", MILLISECOND},
    {"s", SECOND},
    {"sec", SECOND},
    {"secs", SECOND},
    {"second", SECOND},
    {"seconds", SECOND},
    {"m", MINUTE},
    {"min", MINUTE},
    {"mins", MINUTE},
    {"minute", MINUTE},
    {"minutes", MINUTE},
    {"h", HOUR},
    {"hr", HOUR},
    {"hrs", HOUR},
    {"hour", HOUR},
    {"hours", HOUR},
    {"d", DAY},
    {"day", DAY},
    {"days", DAY},
    {"w", WEEK},
    {"week", WEEK},
    {"weeks", WEEK},
    {"mon", MONTH},
    {"mons", MONTH},
    {"month", MONTH},
    {"months", MONTH},
    {"y", YEAR},
    {"yr", YEAR},
    {"yrs", YEAR},
    {"year", YEAR},
    {"years", YEAR},
    {"dec", DECADE},
    {"decs", DECADE},
    {"decade", DECADE},
    {"decades", DECADE},
    {"c", CENTURY},
    {"cent", CENTURY},
    {"century", CENTURY},
    {"centuries", CENTURY},
    {"mil", MILLENNIUM},
    {"mils", MILLENNIUM},
    {"millennium", MILLENNIUM},
    {"millennia", MILLENNIUM},
};

static enum unit unit_of(struct slice word)
{
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (slice_eq_nocase(word, slice_of(units[i].name)))
            return units[i].unit;
    }
    return NO_UNIT;
}

/* ---- adding ---- */

static bool add_times(int64_t *to, int64_t v, int64_t scale)
{
    int64_t product;

    return !__builtin_mul_overflow(v, scale, &product) &&
           !__builtin_add_overflow(*to, product, to);
}

/* Into what Postgres has an int for. */
static bool add_int(int64_t *to, int64_t v, int64_t scale)
{
    return v >= INT32_MIN && v <= INT32_MAX && add_times(to, v, scale) &&
           *to >= INT32_MIN && *to <= INT32_MAX;
}

static bool add_fraction_us(struct parts *p, double fraction, int64_t scale)
{
    int64_t us;

    if (fraction == 0)
        return true;
    fraction *= (double)scale;
    us = (int64_t)fraction;
    fraction -= (double)us;
    if (fraction > 0.5)
        us++;
    else if (fraction < -0.5)
        us--;
    return !__builtin_add_overflow(p->us, us, &p->us);
}

static bool add_fraction_days(struct parts *p, double fraction, int scale)
{
    int days;

    if (fraction == 0)
        return true;
    fraction *= scale;
    days = (int)fraction;
    if (!add_int(&p->days, days, 1))
        return false;
    return add_fraction_us(p, fraction - days, US_PER_DAY);
}

static bool add_fraction_years(struct parts *p, double fraction, int scale)
{
    return add_int(&p->months, (int64_t)rint(fraction * scale * 12), 1);
}

static bool add_unit(struct parts *p, enum unit unit, int64_t v, double fraction)
{
    static const int64_t scales[] = {[MICROSECOND] = 1,
                                     [MILLISECOND] = 1000,
                                     [SECOND] = US_PER_SECOND,
                                     [MINUTE] = US_PER_MINUTE,
                                     [HOUR] = US_PER_HOUR,
                                     [DAY] = 1,
                                     [WEEK] = 7,
                                     [MONTH] = 1,
                                     [YEAR] = 1,
                                     [DECADE] = 10,
                                     [CENTURY] = 100,
                                     [MILLENNIUM] = 1000};
    int64_t scale = scales[unit];

    if (unit <= HOUR)
        return add_times(&p->us, v, scale) && add_fraction_us(p, fraction, scale);
    if (unit == DAY)
        return add_int(&p->days, v, 1) && add_fraction_us(p, fraction, US_PER_DAY);
    if (unit == WEEK)
        return add_int(&p->days, v, 7) && add_fraction_days(p, fraction, 7);
    if (unit == MONTH)
        return add_int(&p->months, v, 1) && add_fraction_days(p, fraction, 30);
    return add_int(&p->years, v, scale) && add_fraction_years(p, fraction, (int)scale);
}

/* ---- tokens ---- */

static void advance(struct slice *s, size_t n)
{
    *s = slice_make(s->ptr + n, s->len - n);
}

static struct slice run_of(struct slice s, bool (*is)(char))
{
    size_t n = 0;

    while (n < s.len && is(s.ptr[n]))
        n++;
    return slice_make(s.ptr, n);
}

static bool take_fraction(struct slice *s, double *out)
{
    char text[40] = "0.";
    struct slice digits;

    *out = 0;
    if (s->len == 0 || s->ptr[0] != '.')
        return true;
    advance(s, 1);
    digits = run_of(*s, sql_is_digit);
    if (digits.len == 0 || digits.len > sizeof(text) - 3)
        return false;
    memcpy(text + 2, digits.ptr, digits.len);
    text[2 + digits.len] = '\0';
    *out = strtod(text, NULL);
    advance(s, digits.len);
    return true;
}

/* [sign] digits [fraction]; both parts carry the sign. */
static enum reading take_number(struct slice *s, int64_t *v, double *fraction)
{
    bool negative = s->len > 0 && s->ptr[0] == '-';
    bool sign = negative || (s->len > 0 && s->ptr[0] == '+');
    struct slice digits;

    if (sign)
        advance(s, 1);
    digits = run_of(*s, sql_is_digit);
    *v = 0;
    if (digits.len == 0 && (sign || s->len == 0 || s->ptr[0] != '.'))
        return READ_UNCLEAR; /* -.5 is none to Postgres */
    if (digits.len > 0 && !slice_to_i64(digits, v))
        return READ_RANGE;
    advance(s, digits.len);
    if (!take_fraction(s, fraction))
        return READ_UNCLEAR;
    if (negative) {
        *v = -*v;
        *fraction = -*fraction;
    }
    return READ_FINE;
}

enum field_kind { FIELD_NUMBER, FIELD_WORD, FIELD_CLOCK, FIELD_YEARS_MONTHS };

struct field {
    enum field_kind kind;
    struct slice word;
    int64_t v; /* number; clock: µs; years-months: months */
    double fraction;
};

/* h:m[:s][.f]; with a point and no seconds it is m:s.f. */
static enum reading take_clock(struct slice *s, struct field *f)
{
    bool negative = s->ptr[0] == '-';
    bool sign = negative || s->ptr[0] == '+';
    int64_t part[3] = {0, 0, 0};
    double fraction;
    bool point;
    int count = 0;

    if (sign)
        advance(s, 1);
    do {
        struct slice digits;

        if (count > 0)
            advance(s, 1);
        digits = run_of(*s, sql_is_digit);
        if (digits.len == 0 || !slice_to_i64(digits, &part[count++]))
            return READ_UNCLEAR;
        advance(s, digits.len);
    } while (count < 3 && s->len > 0 && s->ptr[0] == ':');
    point = s->len > 0 && s->ptr[0] == '.';
    if (!take_fraction(s, &fraction))
        return READ_UNCLEAR;
    if (count == 2 && point) {
        part[2] = part[1];
        part[1] = part[0];
        part[0] = 0;
    }
    if (part[1] > 59 || part[2] > 60)
        return sign ? READ_UNCLEAR : READ_RANGE; /* Postgres then calls it bad syntax */
    f->kind = FIELD_CLOCK;
    f->v = part[1] * US_PER_MINUTE + part[2] * US_PER_SECOND +
           (int64_t)rint(fraction * 1000000);
    if (!add_times(&f->v, part[0], US_PER_HOUR))
        return sign ? READ_UNCLEAR : READ_RANGE;
    if (negative)
        f->v = -f->v;
    return READ_FINE;
}

/* [sign] years - months */
static enum reading take_years_months(struct slice *s, struct field *f)
{
    bool negative = s->ptr[0] == '-';
    double fraction;
    int64_t months;
    struct slice digits;
    enum reading rc = take_number(s, &f->v, &fraction);

    if (rc != READ_FINE)
        return rc;
    if (fraction != 0 || s->len == 0 || s->ptr[0] != '-')
        return READ_UNCLEAR;
    advance(s, 1);
    digits = run_of(*s, sql_is_digit);
    if (digits.len == 0 || digits.len > 9)
        return READ_UNCLEAR;
    slice_to_i64(digits, &months);
    advance(s, digits.len);
    if (months > 11)
        return READ_RANGE;
    if (f->v > INT32_MAX || f->v < INT32_MIN)
        return READ_RANGE;
    f->kind = FIELD_YEARS_MONTHS;
    f->v = f->v * 12 + (negative ? -months : months);
    return READ_FINE;
}

static enum reading take_field(struct slice *s, struct field *f)
{
    struct slice rest = *s;
    struct slice digits;
    char next;

    *f = (struct field){.kind = FIELD_WORD};
    if (sql_is_alpha(s->ptr[0])) {
        f->word = run_of(*s, sql_is_alpha);
        advance(s, f->word.len);
        return READ_FINE;
    }
    if (rest.ptr[0] == '-' || rest.ptr[0] == '+')
        advance(&rest, 1);
    digits = run_of(rest, sql_is_digit);
    next = rest.len > digits.len ? rest.ptr[digits.len] : '\0';
    if (digits.len > 0 && next == ':')
        return take_clock(s, f);
    if (digits.len > 0 && next == '-')
        return take_years_months(s, f);
    f->kind = FIELD_NUMBER;
    return take_number(s, &f->v, &f->fraction);
}

static bool ends_field(struct slice s, const struct field *f)
{
    if (s.len == 0 || sql_is_blank(s.ptr[0]))
        return true;
    return f->kind == FIELD_NUMBER && sql_is_alpha(s.ptr[0]);
}

static enum reading take_fields(struct slice s, struct field *fields, size_t *count)
{
    *count = 0;
    for (;;) {
        enum reading rc;

        while (s.len > 0 && (sql_is_blank(s.ptr[0]) || s.ptr[0] == '@'))
            advance(&s, 1);
        if (s.len == 0)
            return READ_FINE;
        if (*count == FIELDS_MAX)
            return READ_UNCLEAR;
        rc = take_field(&s, &fields[*count]);
        if (rc == READ_RANGE && (*count > 0 || s.len > 0))
            rc = READ_UNCLEAR; /* another fault might come first */
        if (rc != READ_FINE)
            return rc;
        if (!ends_field(s, &fields[*count]))
            return READ_UNCLEAR;
        ++*count;
    }
}

/* ---- reading ---- */

/* One field, units being behind their numbers: *unit is what a number now counts. */
static enum reading add_field(struct parts *p, const struct field *f, enum unit *unit,
                              unsigned *seen)
{
    enum { CLOCK_BITS = 1 << HOUR | 1 << MINUTE | 1 << SECOND };
    unsigned bits = 0;
    bool good = true;

    switch (f->kind) {
    case FIELD_WORD:
        *unit = unit_of(f->word);
        if (*unit != NO_UNIT)
            return READ_FINE;
        /* Postgres looks at ten letters of a word, and knows quarters in places. */
        return f->word.len > 8 || sql_lower_ascii(f->word.ptr[0]) == 'q' ? READ_UNCLEAR
                                                                         : READ_INVALID;
    case FIELD_CLOCK:
        bits = CLOCK_BITS;
        good = !__builtin_add_overflow(p->us, f->v, &p->us);
        *unit = DAY;
        break;
    case FIELD_YEARS_MONTHS:
        bits = 1 << MONTH;
        good = add_int(&p->months, f->v, 1);
        *unit = NO_UNIT;
        break;
    case FIELD_NUMBER:
        if (*unit == NO_UNIT && *seen != 0)
            return READ_UNCLEAR;
        if (*unit == NO_UNIT)
            *unit = SECOND;
        bits = 1u << *unit;
        good = add_unit(p, *unit, f->v, f->fraction);
        break;
    }
    if ((*seen & bits) != 0)
        return READ_UNCLEAR;
    *seen |= bits;
    return good ? READ_FINE : READ_RANGE;
}

static enum reading read_fields(struct slice s, struct parts *p)
{
    struct field fields[FIELDS_MAX];
    enum unit unit = NO_UNIT;
    unsigned seen = 0;
    size_t count;
    bool ago = false;
    enum reading rc = take_fields(s, fields, &count);

    if (rc != READ_FINE)
        return rc;
    if (count > 0 && fields[count - 1].kind == FIELD_WORD &&
        slice_eq_nocase(fields[count - 1].word, SLICE_LIT("ago"))) {
        ago = true;
        count--;
        if (count > 0 && fields[count - 1].kind == FIELD_NUMBER)
            return READ_UNCLEAR; /* Postgres takes ago for its unit */
    }
    for (size_t i = count; i-- > 0;) {
        rc = add_field(p, &fields[i], &unit, &seen);
        if (rc != READ_FINE)
            return rc;
    }
    if (seen == 0)
        return READ_INVALID;
    if (ago) {
        p->years = -p->years;
        p->months = -p->months;
        p->days = -p->days;
        if (__builtin_sub_overflow(0, p->us, &p->us))
            return READ_RANGE;
    }
    return READ_FINE;
}

/* In ISO form a number is read as a whole, and its fraction is what is left of a double. */
static enum reading take_iso_number(struct slice *s, int64_t *v, double *fraction)
{
    char text[40];
    struct slice start = *s;
    enum reading rc = s->ptr[0] == '+' ? READ_UNCLEAR : take_number(s, v, fraction);
    size_t len = start.len - s->len;
    double number;

    if (rc != READ_FINE)
        return rc;
    if (len >= sizeof(text))
        return READ_UNCLEAR;
    memcpy(text, start.ptr, len);
    text[len] = '\0';
    number = strtod(text, NULL);
    if (number < -1e15 || number > 1e15)
        return READ_UNCLEAR;
    *v = (int64_t)trunc(number);
    *fraction = number - (double)*v;
    return READ_FINE;
}

/* Behind the P. */
static enum reading read_iso(struct slice s, struct parts *p)
{
    static const char date_letters[] = "YMWD";
    static const enum unit date_units[] = {YEAR, MONTH, WEEK, DAY};
    static const char clock_letters[] = "HMS";
    static const enum unit clock_units[] = {HOUR, MINUTE, SECOND};
    bool clock = false;

    if (s.len == 0)
        return READ_INVALID;
    while (s.len > 0) {
        double fraction;
        int64_t v;
        const char *letter;
        enum reading rc;

        if (s.ptr[0] == 'T' && !clock) {
            clock = true;
            advance(&s, 1);
            continue;
        }
        rc = take_iso_number(&s, &v, &fraction);
        if (rc != READ_FINE)
            return rc;
        letter = s.len > 0 && s.ptr[0] != '\0'
                     ? strchr(clock ? clock_letters : date_letters, s.ptr[0])
                     : NULL;
        if (!letter)
            return READ_UNCLEAR;
        if (!add_unit(p,
                      clock ? clock_units[letter - clock_letters]
                            : date_units[letter - date_letters],
                      v, fraction))
            return READ_RANGE;
        advance(&s, 1);
    }
    return READ_FINE;
}

int sql_interval_in(struct slice text, struct arena *arena, struct sql_value *out,
                    struct err *err)
{
    int shown = text.len > 400 ? 400 : (int)text.len;
    struct parts p = {.years = 0};
    int64_t months;
    enum reading rc;

    (void)arena;
    if (text.len > 1 && text.ptr[0] == 'P')
        rc = read_iso(slice_make(text.ptr + 1, text.len - 1), &p);
    else
        rc = read_fields(text, &p);
    if (rc == READ_INVALID)
        return sql_bad_syntax(err, "interval", text);
    if (rc == READ_UNCLEAR)
        return err_set(
            err, ERR_UNSUPPORTED,
            "\"%.*s\" is not clearly an interval: write it as 1 day 02:30:00 or "
            "P1DT2H30M",
            shown, text.ptr);
    if (rc == READ_RANGE)
        return err_set(err, ERR_INVALID, "interval field value out of range: \"%.*s\"",
                       shown, text.ptr);
    months = p.years * 12 + p.months;
    if (months < INT32_MIN || months > INT32_MAX)
        return err_set(err, ERR_INVALID, "interval out of range");
    *out = (struct sql_value){.interval = {(int32_t)months, (int32_t)p.days, p.us}};
    return 0;
}

/* ---- printing ---- */

static void put_part(int64_t v, char letter, struct buf *out)
{
    if (v == 0)
        return;
    buf_put_i64(out, v);
    buf_putc(out, letter);
}

static void put_seconds(int64_t us, struct buf *out)
{
    uint64_t size = us < 0 ? 0 - (uint64_t)us : (uint64_t)us;

    if (us == 0)
        return;
    if (us < 0)
        buf_putc(out, '-');
    buf_put_u64(out, size / US_PER_SECOND);
    if (size % US_PER_SECOND != 0) {
        buf_printf(out, ".%06d", (int)(size % US_PER_SECOND));
        while (!out->failed && out->ptr[out->len - 1] == '0')
            buf_truncate(out, out->len - 1);
    }
    buf_putc(out, 'S');
}

void sql_interval_out(const struct sql_value *v, struct buf *out)
{
    const struct sql_interval *i = &v->interval;

    if (i->months == 0 && i->days == 0 && i->us == 0) {
        buf_puts(out, "PT0S");
        return;
    }
    buf_putc(out, 'P');
    put_part(i->months / 12, 'Y', out);
    put_part(i->months % 12, 'M', out);
    put_part(i->days, 'D', out);
    if (i->us == 0)
        return;
    buf_putc(out, 'T');
    put_part(i->us / US_PER_HOUR, 'H', out);
    put_part(i->us / US_PER_MINUTE % 60, 'M', out);
    put_seconds(i->us % US_PER_MINUTE, out);
}

/* ---- order ---- */

/* With months of 30 days and days of 24 hours: whole days, and the rest of a day. */
static void estimate(const struct sql_value *v, int64_t part[2])
{
    int64_t days = floor_div(v->interval.us, US_PER_DAY);

    part[0] = v->interval.months * INT64_C(30) + v->interval.days + days;
    part[1] = floor_mod(v->interval.us, US_PER_DAY);
}

int sql_interval_cmp(const struct sql_value *a, const struct sql_value *b)
{
    int64_t part_a[2];
    int64_t part_b[2];
    int i;

    estimate(a, part_a);
    estimate(b, part_b);
    i = part_a[0] == part_b[0];
    return (part_a[i] > part_b[i]) - (part_a[i] < part_b[i]);
}

uint64_t sql_interval_hash(const struct sql_value *v, uint64_t seed)
{
    int64_t part[2];

    estimate(v, part);
    return sql_hash_bytes(part, sizeof(part), seed);
}

/* interval(p): the seconds are rounded. Restricted fields are left to Postgres. */
int sql_interval_typmod(int32_t typmod, struct sql_value *v, struct err *err)
{
    struct sql_value us = {.i = v->interval.us};
    int rc;

    if ((typmod >> 16 & 0x7FFF) != 0x7FFF)
        return err_set(err, ERR_UNSUPPORTED,
                       "an interval of chosen fields (such as interval day) is not "
                       "supported");
    if ((typmod & 0xFFFF) == 0xFFFF)
        return 0;
    rc = sql_time_typmod(SQL_TIME, typmod & 0xFFFF, &us, err);
    v->interval.us = us.i;
    return rc;
}
