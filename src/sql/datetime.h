/* The calendar, and times as parts: what the files of dates share. Internal to sql/. */
#ifndef COULOMB_SQL_DATETIME_H
#define COULOMB_SQL_DATETIME_H

#include "sql/value.h"

#define US_PER_SECOND INT64_C(1000000)
#define US_PER_MINUTE (60 * US_PER_SECOND)
#define US_PER_HOUR   (60 * US_PER_MINUTE)
#define US_PER_DAY    (24 * US_PER_HOUR)

/* Days and µs of 2000-01-01; the first value and the first one behind the last. */
#define DATE_MIN      INT64_C(-2451545)   /* 4714-11-24 BC */
#define DATE_END      INT64_C(2145031949) /* 5874898-01-01 */
#define TIMESTAMP_MIN INT64_C(-211813488000000000)
#define TIMESTAMP_END INT64_C(9223371331200000000) /* 294277-01-01 */

#define DATE_PLUS_INFINITY       INT32_MAX
#define DATE_MINUS_INFINITY      INT32_MIN
#define TIMESTAMP_PLUS_INFINITY  INT64_MAX
#define TIMESTAMP_MINUS_INFINITY INT64_MIN

struct civil {
    int64_t year; /* 0 is 1 BC */
    int month;    /* 1 to 12 */
    int day;
};

static inline bool date_infinite(int64_t days)
{
    return days == DATE_PLUS_INFINITY || days == DATE_MINUS_INFINITY;
}

static inline bool timestamp_infinite(int64_t us)
{
    return us == TIMESTAMP_PLUS_INFINITY || us == TIMESTAMP_MINUS_INFINITY;
}

static inline bool timestamp_valid(int64_t us)
{
    return us >= TIMESTAMP_MIN && us < TIMESTAMP_END;
}

/* Towards minus infinity; b > 0. */
static inline int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static inline int64_t floor_mod(int64_t a, int64_t b)
{
    int64_t rest = a % b;

    return rest < 0 ? rest + b : rest;
}

/* Days of 2000-01-01; the year is within some millions. */
int64_t civil_days(struct civil c);
struct civil civil_of(int64_t days);
int civil_month_days(int64_t year, int month);

/* Offset in seconds east of Greenwich of what Postgres knows as a fixed abbreviation or
 * sees as an offset ("+02", "-03:30", "utc", "EST"). 0, ERR_INVALID (out of range),
 * ERR_UNSUPPORTED. */
int zone_offset(struct slice zone, int64_t *seconds, struct err *err);
/* "hh:mm:ss[.ffffff]" of µs since midnight. */
void clock_put(int64_t us, struct buf *out);

#endif
