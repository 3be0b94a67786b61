/*
 * date_trunc, date_part and extract: timestamps cut to a unit, and their parts as numbers.
 *
 * extract gives a numeric (whole, or seconds with their fraction), date_part the same as a
 * float8. Of infinite values those parts that rise with time are infinite, the others NULL. Parts
 * that depend on a zone or are rarely asked for are left to Postgres, and so are those of intervals
 * that differ between its versions (weeks; quarters of less than no months): they are refused.
 */

#include <math.h>

#include "sql/datetime.h"
#include "sql/ops.h"

enum unit {
    MICROSECONDS,
    MILLISECONDS,
    SECOND,
    MINUTE,
    HOUR,
    DAY,
    WEEK,
    MONTH,
    QUARTER,
    YEAR,
    DECADE,
    CENTURY,
    MILLENNIUM,
    DOW,
    ISODOW,
    DOY,
    ISOYEAR,
    EPOCH,
    NO_UNIT
};

/* Full names; Postgres knows many short ones, which are refused. */
static enum unit unit_of(struct slice name)
{
    static const char *const names[] = {
        "microseconds", "milliseconds", "second",  "minute", "hour",    "day",
        "week",         "month",        "quarter", "year",   "decade",  "century",
        "millennium",   "dow",          "isodow",  "doy",    "isoyear", "epoch"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_eq_nocase(name, slice_of(names[i])))
            return (enum unit)i;
    }
    return NO_UNIT;
}

static enum sql_failure no_unit(struct sql_call *call, struct slice name)
{
    return sql_refuse(call, "the unit \"%.*s\" is not supported here",
                      (int)(name.len > 100 ? 100 : name.len),
                      name.len > 0 ? name.ptr : "");
}

/* ---- weeks ---- */

/* 0 is Monday. 2000-01-01 was a Saturday. */
static int64_t weekday(int64_t days)
{
    return floor_mod(days + 5, 7);
}

/* The year of the ISO week: that of its Thursday. */
static int64_t iso_year(int64_t days)
{
    return civil_of(days - weekday(days) + 3).year;
}

static int64_t iso_week(int64_t days)
{
    int64_t thursday = days - weekday(days) + 3;
    struct civil new_year = {civil_of(thursday).year, 1, 1};

    return (thursday - civil_days(new_year)) / 7 + 1;
}

/* ---- date_trunc ---- */

/* Years counted from 1: 2001 begins a century; there is no year 0, which civil has. */
static int64_t first_of_span(int64_t year, int64_t span)
{
    return floor_div(year - 1, span) * span + 1;
}

static int64_t truncated_days(enum unit unit, int64_t days)
{
    struct civil c = civil_of(days);

    if (unit == DAY)
        return days;
    if (unit == WEEK)
        return days - weekday(days);
    c.day = 1;
    if (unit == QUARTER)
        c.month -= (c.month - 1) % 3;
    if (unit >= YEAR)
        c.month = 1;
    if (unit == DECADE)
        c.year = floor_div(c.year, 10) * 10;
    if (unit == CENTURY)
        c.year = first_of_span(c.year, 100);
    if (unit == MILLENNIUM)
        c.year = first_of_span(c.year, 1000);
    return civil_days(c);
}

enum sql_failure sql_date_trunc(struct sql_call *call, const struct sql_value *args,
                                struct sql_value *out)
{
    static const int64_t sizes[] = {1, 1000, US_PER_SECOND, US_PER_MINUTE, US_PER_HOUR};
    enum unit unit = unit_of(args[0].s);
    int64_t us = args[1].i;

    if (unit > MILLENNIUM)
        return no_unit(call, args[0].s);
    if (timestamp_infinite(us))
        return sql_int_result(out, us);
    if (unit <= HOUR)
        us -= floor_mod(us, sizes[unit]);
    else
        us = truncated_days(unit, floor_div(us, US_PER_DAY)) * US_PER_DAY;
    if (us < TIMESTAMP_MIN)
        return sql_fail(call, "timestamp out of range");
    return sql_int_result(out, us);
}

/* Of each field what is a whole number of units, whatever its sign. */
enum sql_failure sql_interval_trunc(struct sql_call *call, const struct sql_value *args,
                                    struct sql_value *out)
{
    static const int64_t sizes[] = {1, 1000, US_PER_SECOND, US_PER_MINUTE, US_PER_HOUR};
    static const int32_t months[] = {
        [MONTH] = 1,    [QUARTER] = 3,    [YEAR] = 12,
        [DECADE] = 120, [CENTURY] = 1200, [MILLENNIUM] = 12000};
    enum unit unit = unit_of(args[0].s);
    struct sql_interval i = args[1].interval;

    if (unit > MILLENNIUM || unit == WEEK)
        return no_unit(call, args[0].s);
    if (unit <= HOUR)
        i.us -= i.us % sizes[unit];
    else
        i.us = 0;
    if (unit >= MONTH) {
        i.days = 0;
        i.months -= i.months % months[unit];
    }
    out->interval = i;
    return SQL_FINE;
}

/* ---- parts ---- */

/* A part is value / 10^decimals, shown with so many decimals; unless it is infinite or none. */
struct part {
    int64_t value;
    int decimals;
    int infinite; /* -1, 1; or 2: NULL */
};

static bool clock_part(enum unit unit, int64_t us, struct part *part)
{
    int64_t in_minute = us % US_PER_MINUTE;

    switch ((int)unit) {
    case MICROSECONDS:
        *part = (struct part){.value = in_minute};
        return true;
    case MILLISECONDS:
        *part = (struct part){.value = in_minute, .decimals = 3};
        return true;
    case SECOND:
        *part = (struct part){.value = in_minute, .decimals = 6};
        return true;
    case MINUTE:
        *part = (struct part){.value = us / US_PER_MINUTE % 60};
        return true;
    case HOUR:
        *part = (struct part){.value = us / US_PER_HOUR};
        return true;
    default:
        return false;
    }
}

/* Postgres has no year 0: 1 BC is -1. */
static int64_t without_zero(int64_t year)
{
    return year > 0 ? year : year - 1;
}

static int64_t span_of(int64_t year, int64_t span)
{
    return year > 0 ? (year + span - 1) / span : -((span - 1 - (year - 1)) / span);
}

static bool date_part(enum unit unit, int64_t days, struct part *part)
{
    struct civil c = civil_of(days);
    struct civil new_year = {c.year, 1, 1};
    int64_t v;

    switch ((int)unit) {
    case DAY:
        v = c.day;
        break;
    case WEEK:
        v = iso_week(days);
        break;
    case MONTH:
        v = c.month;
        break;
    case QUARTER:
        v = (c.month - 1) / 3 + 1;
        break;
    case YEAR:
        v = without_zero(c.year);
        break;
    case DECADE:
        v = floor_div(c.year, 10);
        break;
    case CENTURY:
        v = span_of(c.year, 100);
        break;
    case MILLENNIUM:
        v = span_of(c.year, 1000);
        break;
    case DOW:
        v = (weekday(days) + 1) % 7;
        break;
    case ISODOW:
        v = weekday(days) + 1;
        break;
    case DOY:
        v = days - civil_days(new_year) + 1;
        break;
    case ISOYEAR:
        v = without_zero(iso_year(days));
        break;
    default:
        return false;
    }
    *part = (struct part){.value = v};
    return true;
}

static bool infinite_part(enum unit unit, bool date, bool negative, struct part *part)
{
    if (unit == NO_UNIT || (date && unit <= HOUR))
        return false;
    part->infinite = unit == ISOYEAR || unit == EPOCH || (unit >= YEAR && unit < DOW)
                         ? (negative ? -1 : 1)
                         : 2;
    return true;
}

/* A year has 365.25 days here. */
static bool interval_epoch(struct sql_interval i, struct part *part)
{
    int64_t quarter_days = INT64_C(1461) * (i.months / 12) +
                           INT64_C(120) * (i.months % 12) + INT64_C(4) * i.days;

    *part = (struct part){.decimals = 6};
    return !__builtin_mul_overflow(quarter_days, US_PER_DAY / 4, &part->value) &&
           !__builtin_add_overflow(part->value, i.us, &part->value);
}

static bool interval_part(enum unit unit, struct sql_interval i, struct part *part)
{
    *part = (struct part){.value = 0};
    switch ((int)unit) {
    case DAY:
        part->value = i.days;
        return true;
    case MONTH:
        part->value = i.months % 12;
        return true;
    case QUARTER:
        part->value = i.months % 12 / 3 + 1;
        return i.months >= 0;
    case YEAR:
        part->value = i.months / 12;
        return true;
    case DECADE:
        part->value = i.months / 120;
        return true;
    case CENTURY:
        part->value = i.months / 1200;
        return true;
    case MILLENNIUM:
        part->value = i.months / 12000;
        return true;
    case EPOCH:
        return interval_epoch(i, part);
    default:
        return clock_part(unit, i.us, part);
    }
}

static bool find_part(const struct sql_call *call, enum unit unit,
                      const struct sql_value *of, struct part *part)
{
    enum sql_base base = call->types[1].base;
    const int64_t epoch_days = 10957; /* 1970 to 2000 */
    int64_t v = of->i;

    *part = (struct part){.value = 0};
    if (base == SQL_INTERVAL)
        return interval_part(unit, of->interval, part);
    if (base == SQL_DATE) {
        if (date_infinite(v))
            return infinite_part(unit, true, v < 0, part);
        if (unit == EPOCH) {
            *part = (struct part){.value = (v + epoch_days) * 86400};
            return true;
        }
        return date_part(unit, v, part);
    }
    if (base == SQL_TIME) {
        if (unit == EPOCH) {
            *part = (struct part){.value = v, .decimals = 6};
            return true;
        }
        return clock_part(unit, v, part);
    }
    if (timestamp_infinite(v))
        return infinite_part(unit, false, v < 0, part);
    if (unit == EPOCH) {
        *part = (struct part){.value = 0, .decimals = 6};
        return !__builtin_add_overflow(v, epoch_days * US_PER_DAY, &part->value);
    }
    return clock_part(unit, floor_mod(v, US_PER_DAY), part) ||
           date_part(unit, floor_div(v, US_PER_DAY), part);
}

/* From the last digit to the first. */
static struct slice print_part(struct part part, char *text, size_t size)
{
    uint64_t left = part.value < 0 ? 0 - (uint64_t)part.value : (uint64_t)part.value;
    size_t at = size;

    for (int digits = 0; left > 0 || digits <= part.decimals; digits++, left /= 10) {
        if (digits == part.decimals && digits > 0)
            text[--at] = '.';
        text[--at] = (char)('0' + left % 10);
    }
    if (part.value < 0)
        text[--at] = '-';
    return slice_make(text + at, size - at);
}

enum sql_failure sql_extract(struct sql_call *call, const struct sql_value *args,
                             struct sql_value *out)
{
    struct part part;
    char text[40];

    if (!find_part(call, unit_of(args[0].s), &args[1], &part))
        return no_unit(call, args[0].s);
    if (part.infinite == 2) {
        out->null = true;
        return SQL_FINE;
    }
    if (part.infinite != 0)
        return sql_result_in(call, SQL_NUMERIC,
                             slice_of(part.infinite > 0 ? "Infinity" : "-Infinity"), out);
    return sql_result_in(call, SQL_NUMERIC, print_part(part, text, sizeof(text)), out);
}

/* Seconds and their fraction apart, and then added: as Postgres rounds. */
static double float_part(enum unit unit, struct part part)
{
    const int64_t whole = part.value / US_PER_SECOND;
    double seconds = (double)whole;
    double us = (double)(part.value % US_PER_SECOND);

    if (unit == SECOND)
        return seconds + us / 1e6;
    if (unit == MILLISECONDS)
        return seconds * 1e3 + us / 1e3;
    return part.decimals == 0 ? (double)part.value : (double)part.value / 1e6;
}

/* Field by field, as Postgres rounds. */
static double interval_epoch_float(struct sql_interval i)
{
    double seconds = (double)i.us / 1e6;

    seconds += 365.25 * 86400 * (double)(i.months / 12);
    seconds += 30.0 * 86400 * (double)(i.months % 12);
    return seconds + 86400.0 * (double)i.days;
}

enum sql_failure sql_date_part(struct sql_call *call, const struct sql_value *args,
                               struct sql_value *out)
{
    enum unit unit = unit_of(args[0].s);
    struct part part;

    if (call->types[1].base == SQL_INTERVAL && unit == EPOCH)
        return sql_float_result(out, interval_epoch_float(args[1].interval));
    if (!find_part(call, unit, &args[1], &part))
        return no_unit(call, args[0].s);
    if (part.infinite == 2) {
        out->null = true;
        return SQL_FINE;
    }
    if (part.infinite != 0)
        return sql_float_result(out, part.infinite > 0 ? INFINITY : -INFINITY);
    if (call->types[1].base == SQL_DATE && args[1].i >= TIMESTAMP_END / US_PER_DAY)
        return sql_fail(call, "date out of range for timestamp");
    return sql_float_result(out, float_part(unit, part));
}
