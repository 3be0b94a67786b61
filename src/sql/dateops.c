/*
 * Operators, functions and casts of dates, times and intervals.
 *
 * A timestamptz is worked on in UTC, which is the zone of the sessions that we agree with;
 * other zones come in only through timezone(), and there as fixed offsets.
 *
 * Adding an interval to a timestamp adds its months (a day that the month lacks becomes
 * its last one), then its days, then its µs; each step has to stay in range.
 */

#include <float.h>
#include <math.h>

#include "sql/datetime.h"
#include "sql/ops.h"

static enum sql_failure timestamp_range(struct sql_call *call)
{
    return sql_fail(call, "timestamp out of range");
}

static enum sql_failure interval_range(struct sql_call *call)
{
    return sql_fail(call, "interval out of range");
}

static enum sql_failure interval_result(struct sql_value *out, struct sql_interval i)
{
    *out = (struct sql_value){.interval = i};
    return SQL_FINE;
}

/* ---- dates ---- */

static enum sql_failure date_add(struct sql_call *call, int64_t days, int64_t n,
                                 struct sql_value *out)
{
    int64_t v = days + n;

    if (date_infinite(days))
        return sql_int_result(out, days);
    if (v < DATE_MIN || v >= DATE_END)
        return sql_fail(call, "date out of range");
    return sql_int_result(out, v);
}

enum sql_failure sql_date_add(struct sql_call *call, const struct sql_value *args,
                              struct sql_value *out)
{
    int date = call->types[0].base == SQL_DATE ? 0 : 1;

    return date_add(call, args[date].i, args[1 - date].i, out);
}

enum sql_failure sql_date_sub_int(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    return date_add(call, args[0].i, -args[1].i, out);
}

enum sql_failure sql_date_sub(struct sql_call *call, const struct sql_value *args,
                              struct sql_value *out)
{
    if (date_infinite(args[0].i) || date_infinite(args[1].i))
        return sql_fail(call, "cannot subtract infinite dates");
    return sql_int_result(out, args[0].i - args[1].i);
}

static bool date_to_timestamp(int64_t days, int64_t *us)
{
    if (date_infinite(days)) {
        *us = days > 0 ? TIMESTAMP_PLUS_INFINITY : TIMESTAMP_MINUS_INFINITY;
        return true;
    }
    if (days >= TIMESTAMP_END / US_PER_DAY)
        return false;
    *us = days * US_PER_DAY;
    return true;
}

enum sql_failure sql_date_to_timestamp(struct sql_call *call,
                                       const struct sql_value *args,
                                       struct sql_value *out)
{
    int64_t us;

    if (!date_to_timestamp(args[0].i, &us))
        return sql_fail(call, "date out of range for timestamp");
    return sql_int_result(out, us);
}

enum sql_failure sql_date_add_time(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    int date = call->types[0].base == SQL_DATE ? 0 : 1;
    int64_t us;

    if (!date_to_timestamp(args[date].i, &us))
        return sql_fail(call, "date out of range for timestamp");
    if (timestamp_infinite(us))
        return sql_int_result(out, us);
    us += args[1 - date].i;
    return timestamp_valid(us) ? sql_int_result(out, us) : timestamp_range(call);
}

/* A date behind the last timestamp is greater than any but infinity. */
int sql_date_timestamp_cmp(const struct sql_value *date,
                           const struct sql_value *timestamp)
{
    int64_t us;

    if (!date_to_timestamp(date->i, &us))
        return timestamp->i == TIMESTAMP_PLUS_INFINITY ? -1 : 1;
    return (us > timestamp->i) - (us < timestamp->i);
}

/* ---- timestamps and intervals ---- */

static enum sql_failure add_months(struct sql_call *call, int64_t months, int64_t *us)
{
    int64_t days = floor_div(*us, US_PER_DAY);
    int64_t clock = floor_mod(*us, US_PER_DAY);
    struct civil c = civil_of(days);
    int64_t month = c.month - 1 + months;

    c.year += floor_div(month, 12);
    c.month = (int)(floor_mod(month, 12)) + 1;
    if (c.day > civil_month_days(c.year, c.month))
        c.day = civil_month_days(c.year, c.month);
    if (c.year < -5000 || c.year > 300000)
        return timestamp_range(call);
    days = civil_days(c);
    if (__builtin_mul_overflow(days, US_PER_DAY, us) ||
        __builtin_add_overflow(*us, clock, us) || !timestamp_valid(*us))
        return timestamp_range(call);
    return SQL_FINE;
}

static enum sql_failure add_interval(struct sql_call *call, int64_t us,
                                     const struct sql_interval *i, int sign,
                                     struct sql_value *out)
{
    int64_t days;

    if (timestamp_infinite(us))
        return sql_int_result(out, us);
    if (i->months != 0 && add_months(call, (int64_t)sign * i->months, &us) != SQL_FINE)
        return SQL_FAILED;
    if (__builtin_mul_overflow((int64_t)sign * i->days, US_PER_DAY, &days) ||
        __builtin_add_overflow(us, days, &us) || !timestamp_valid(us))
        return timestamp_range(call);
    if (sign > 0 ? __builtin_add_overflow(us, i->us, &us)
                 : __builtin_sub_overflow(us, i->us, &us))
        return timestamp_range(call);
    return timestamp_valid(us) ? sql_int_result(out, us) : timestamp_range(call);
}

/* date, timestamp or timestamptz with an interval, either way round. */
static enum sql_failure moment_interval(struct sql_call *call,
                                        const struct sql_value *args, int sign,
                                        struct sql_value *out)
{
    int moment = call->types[0].base == SQL_INTERVAL ? 1 : 0;
    int64_t us = args[moment].i;

    if (call->types[moment].base == SQL_DATE && !date_to_timestamp(us, &us))
        return sql_fail(call, "date out of range for timestamp");
    return add_interval(call, us, &args[1 - moment].interval, sign, out);
}

enum sql_failure sql_moment_add(struct sql_call *call, const struct sql_value *args,
                                struct sql_value *out)
{
    return moment_interval(call, args, 1, out);
}

enum sql_failure sql_moment_sub(struct sql_call *call, const struct sql_value *args,
                                struct sql_value *out)
{
    return moment_interval(call, args, -1, out);
}

/* Whole days of the µs become days. */
static bool justify_hours(struct sql_interval *i)
{
    int64_t whole = i->us / US_PER_DAY;
    int64_t days = i->days + whole;

    i->us -= whole * US_PER_DAY;
    if (days > 0 && i->us < 0) {
        i->us += US_PER_DAY;
        days--;
    } else if (days < 0 && i->us > 0) {
        i->us -= US_PER_DAY;
        days++;
    }
    i->days = (int32_t)days;
    return days >= INT32_MIN && days <= INT32_MAX;
}

enum sql_failure sql_timestamp_sub(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    struct sql_interval i = {0, 0, 0};

    if (timestamp_infinite(args[0].i) || timestamp_infinite(args[1].i))
        return sql_fail(call, "cannot subtract infinite timestamps");
    if (__builtin_sub_overflow(args[0].i, args[1].i, &i.us))
        return sql_refuse(call, "the difference of these timestamps does not fit, and "
                                "what comes of it depends on the version of Postgres");
    justify_hours(&i);
    return interval_result(out, i);
}

/* ---- times ---- */

static enum sql_failure clock_result(int64_t us, struct sql_value *out)
{
    return sql_int_result(out, floor_mod(us, US_PER_DAY));
}

/* Postgres does not look for an overflow here, and so has a result. */
static int64_t wrapping_add(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static int64_t wrapping_sub(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a - (uint64_t)b);
}

enum sql_failure sql_time_add(struct sql_call *call, const struct sql_value *args,
                              struct sql_value *out)
{
    int time = call->types[0].base == SQL_TIME ? 0 : 1;

    return clock_result(wrapping_add(args[time].i, args[1 - time].interval.us), out);
}

enum sql_failure sql_time_sub_interval(struct sql_call *call,
                                       const struct sql_value *args,
                                       struct sql_value *out)
{
    (void)call;
    return clock_result(wrapping_sub(args[0].i, args[1].interval.us), out);
}

enum sql_failure sql_time_sub(struct sql_call *call, const struct sql_value *args,
                              struct sql_value *out)
{
    (void)call;
    return interval_result(out, (struct sql_interval){0, 0, args[0].i - args[1].i});
}

/* ---- intervals ---- */

static enum sql_failure interval_add(struct sql_call *call, const struct sql_interval *a,
                                     const struct sql_interval *b, struct sql_value *out)
{
    struct sql_interval i;

    if (__builtin_add_overflow(a->months, b->months, &i.months) ||
        __builtin_add_overflow(a->days, b->days, &i.days) ||
        __builtin_add_overflow(a->us, b->us, &i.us))
        return interval_range(call);
    return interval_result(out, i);
}

enum sql_failure sql_interval_add(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    return interval_add(call, &args[0].interval, &args[1].interval, out);
}

enum sql_failure sql_interval_sub(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    const struct sql_interval *a = &args[0].interval;
    const struct sql_interval *b = &args[1].interval;
    struct sql_interval i;

    if (__builtin_sub_overflow(a->months, b->months, &i.months) ||
        __builtin_sub_overflow(a->days, b->days, &i.days) ||
        __builtin_sub_overflow(a->us, b->us, &i.us))
        return interval_range(call);
    return interval_result(out, i);
}

enum sql_failure sql_interval_neg(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    const struct sql_value both[2] = {{.interval = {0, 0, 0}}, args[0]};

    return sql_interval_sub(call, both, out);
}

/* To a µs, as it is seen in a double. */
static double round_us(double seconds)
{
    return rint(seconds * 1e6) / 1e6;
}

static bool to_int32(double f, int32_t *out)
{
    if (!(f >= -2147483648.0 && f < 2147483648.0))
        return false;
    *out = (int32_t)f;
    return true;
}

/* What is left of months goes to days, of days to µs. By factor, or (inverse) through it:
 * dividing and multiplying by the inverse round differently. */
static enum sql_failure scale(struct sql_call *call, const struct sql_interval *v,
                              double factor, bool inverse, struct sql_value *out)
{
    const double day_s = 86400;
    double months = inverse ? v->months / factor : v->months * factor;
    double days = inverse ? v->days / factor : v->days * factor;
    double us = inverse ? (double)v->us / factor : (double)v->us * factor;
    double month_days;
    double seconds;
    int64_t total;
    struct sql_interval i;

    if (!to_int32(months, &i.months) || !to_int32(days, &i.days))
        return interval_range(call);
    month_days = round_us((months - i.months) * 30);
    seconds = round_us((days - i.days + month_days - (int)month_days) * day_s);
    total = i.days;
    if (fabs(seconds) >= day_s) {
        total += (int)(seconds / day_s);
        seconds -= (int)(seconds / day_s) * day_s;
    }
    total += (int32_t)month_days;
    us = rint(us + seconds * 1e6);
    if (!(us >= -9223372036854775808.0 && us < 9223372036854775808.0) ||
        total < INT32_MIN || total > INT32_MAX)
        return interval_range(call);
    i.days = (int32_t)total;
    i.us = (int64_t)us;
    return interval_result(out, i);
}

enum sql_failure sql_interval_mul(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    int interval = call->types[0].base == SQL_INTERVAL ? 0 : 1;

    return scale(call, &args[interval].interval, args[1 - interval].f, false, out);
}

enum sql_failure sql_interval_div(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    if (args[1].f == 0)
        return sql_fail(call, "division by zero");
    return scale(call, &args[0].interval, args[1].f, true, out);
}

enum sql_failure sql_justify_hours(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    struct sql_interval i = args[0].interval;

    return justify_hours(&i) ? interval_result(out, i) : interval_range(call);
}

/* Whole months of 30 days. */
static bool justify_days(struct sql_interval *i)
{
    int64_t days = i->days;
    int64_t months = i->months + days / 30;

    days %= 30;
    if (months > 0 && days < 0) {
        days += 30;
        months--;
    } else if (months < 0 && days > 0) {
        days -= 30;
        months++;
    }
    i->days = (int32_t)days;
    i->months = (int32_t)months;
    return months >= INT32_MIN && months <= INT32_MAX;
}

enum sql_failure sql_justify_days(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    struct sql_interval i = args[0].interval;

    return justify_days(&i) ? interval_result(out, i) : interval_range(call);
}

/* All parts of one sign. */
enum sql_failure sql_justify_interval(struct sql_call *call, const struct sql_value *args,
                                      struct sql_value *out)
{
    struct sql_interval v = args[0].interval;
    int64_t days = v.days + v.us / US_PER_DAY;
    int64_t months;
    int64_t us = v.us % US_PER_DAY;

    months = v.months + days / 30;
    days %= 30;
    if (months > 0 && (days < 0 || (days == 0 && us < 0))) {
        days += 30;
        months--;
    } else if (months < 0 && (days > 0 || (days == 0 && us > 0))) {
        days -= 30;
        months++;
    }
    if (days > 0 && us < 0) {
        us += US_PER_DAY;
        days--;
    } else if (days < 0 && us > 0) {
        us -= US_PER_DAY;
        days++;
    }
    if (months < INT32_MIN || months > INT32_MAX)
        return interval_range(call);
    return interval_result(out,
                           (struct sql_interval){(int32_t)months, (int32_t)days, us});
}

/* ---- casts and zones ---- */

enum sql_failure sql_timestamp_to_date(struct sql_call *call,
                                       const struct sql_value *args,
                                       struct sql_value *out)
{
    (void)call;
    if (timestamp_infinite(args[0].i))
        return sql_int_result(out,
                              args[0].i > 0 ? DATE_PLUS_INFINITY : DATE_MINUS_INFINITY);
    return sql_int_result(out, floor_div(args[0].i, US_PER_DAY));
}

enum sql_failure sql_timestamp_to_time(struct sql_call *call,
                                       const struct sql_value *args,
                                       struct sql_value *out)
{
    (void)call;
    return timestamp_infinite(args[0].i) ? sql_null_result(out)
                                         : clock_result(args[0].i, out);
}

enum sql_failure sql_time_to_interval(struct sql_call *call, const struct sql_value *args,
                                      struct sql_value *out)
{
    (void)call;
    return interval_result(out, (struct sql_interval){0, 0, args[0].i});
}

enum sql_failure sql_interval_to_time(struct sql_call *call, const struct sql_value *args,
                                      struct sql_value *out)
{
    (void)call;
    return clock_result(args[0].interval.us % US_PER_DAY, out);
}

/* timestamp → timestamptz of the zone's clock, and back. */
static enum sql_failure to_zone(struct sql_call *call, int64_t offset_s, int64_t us,
                                struct sql_value *out)
{
    int64_t shift = offset_s * US_PER_SECOND;

    if (timestamp_infinite(us))
        return sql_int_result(out, us);
    if (__builtin_add_overflow(us, call->types[1].base == SQL_TIMESTAMP ? -shift : shift,
                               &us) ||
        !timestamp_valid(us))
        return timestamp_range(call);
    return sql_int_result(out, us);
}

/* Names only: an offset as text means the opposite of what it looks like (POSIX). */
enum sql_failure sql_timezone(struct sql_call *call, const struct sql_value *args,
                              struct sql_value *out)
{
    int64_t offset_s;

    if (args[0].s.len == 0 || !sql_is_alpha(args[0].s.ptr[0]) ||
        sql_is_blank(args[0].s.ptr[args[0].s.len - 1]) ||
        zone_offset(args[0].s, &offset_s, call->err) != 0)
        return sql_refuse(
            call,
            "the time zone \"%.*s\" can't be told from here: use UTC, or an "
            "interval such as interval '2 hours'",
            (int)(args[0].s.len > 200 ? 200 : args[0].s.len),
            args[0].s.len > 0 ? args[0].s.ptr : "");
    return to_zone(call, offset_s, args[1].i, out);
}

enum sql_failure sql_timezone_interval(struct sql_call *call,
                                       const struct sql_value *args,
                                       struct sql_value *out)
{
    const struct sql_interval *i = &args[0].interval;
    struct buf text;
    char shown[64];

    if (timestamp_infinite(args[1].i))
        return sql_int_result(out, args[1].i);
    if (i->months == 0 && i->days == 0) {
        int64_t offset_s = i->us / US_PER_SECOND;

        if (offset_s > INT32_MAX || offset_s < INT32_MIN)
            return sql_refuse(call, "an offset of that many hours is not supported");
        return to_zone(call, offset_s, args[1].i, out);
    }
    buf_init(&text, sizeof(shown) - 1);
    sql_interval_out(&args[0], &text);
    memcpy(shown, text.len > 0 ? text.ptr : "", text.len);
    shown[text.len] = '\0';
    buf_fini(&text);
    return sql_fail(call, "interval time zone \"%s\" must not include months or days",
                    shown);
}
