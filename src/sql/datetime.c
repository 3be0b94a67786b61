/*
 * date, time, timestamp, timestamptz: text form and calendar.
 *
 * Postgres reads nearly anything as a date. Read here is what has one meaning, whatever
 * DateStyle says and whenever it is read; everything else is refused, not guessed at:
 *
 *   moment = "infinity" / "-infinity" / "epoch"
 *          / *( weekday / date / clock / zone / "AD" / "BC" ), a date at most once …
 *   date   = YYY*Y sep M*M sep D*D            sep is "-" or "/", twice the same
 *          / *YYMMDD                          six digits or more
 *          / the parts day, month by name and year (three digits or more) in any order,
 *            apart or joined by "-"
 *   clock  = ["T"] H*H ":" M*M [ ":" S*S ] [ "." *DIGIT ] [ "AM" / "PM" ]
 *          / "T" HHMM[SS] [ "." *DIGIT ]
 *   zone   = sign H*H [ ":" MM [ ":" SS ] ] / sign HHMM / an abbreviation with an offset
 *            that has never changed (zones)
 *
 * A timestamptz without a zone is of UTC, as the sessions are whose text this reads; a
 * zone of any other type is looked at and forgotten, as Postgres does.
 */

#include "sql/datetime.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* ---- calendar ---- */

int civil_month_days(int64_t year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return days[month - 1] + (month == 2 && leap);
}

/* Years are counted from March, so that the leap day is the last of its year. 2000-03-01
 * begins a cycle of 400 years, which have 146097 days. */
int64_t civil_days(struct civil c)
{
    int64_t year = c.year - (c.month <= 2) - 2000;
    int64_t month = (c.month + 9) % 12;

    return year * 365 + floor_div(year, 4) - floor_div(year, 100) + floor_div(year, 400) +
           (153 * month + 2) / 5 + c.day - 1 + 60;
}

struct civil civil_of(int64_t days)
{
    int64_t cycle = floor_div(days - 60, 146097);
    int64_t day = days - 60 - cycle * 146097;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t month;
    struct civil c;

    day -= year * 365 + year / 4 - year / 100;
    month = (5 * day + 2) / 153;
    c.day = (int)(day - (153 * month + 2) / 5 + 1);
    c.month = (int)(month < 10 ? month + 3 : month - 9);
    c.year = 2000 + cycle * 400 + year + (c.month <= 2);
    return c;
}

/* ---- zones ---- */

/* Those that Postgres's default list gives one offset, in quarters of an hour. */
static const struct {
    const char *name;
    int quarters;
} zones[] = {
    {"z", 0},      {"utc", 0},    {"gmt", 0},   {"ut", 0},    {"uct", 0},   {"zulu", 0},
    {"wet", 0},    {"est", -20},  {"edt", -16}, {"cst", -24}, {"cdt", -20}, {"mst", -28},
    {"mdt", -24},  {"pst", -32},  {"pdt", -28}, {"cet", 4},   {"cest", 8},  {"mez", 4},
    {"mesz", 8},   {"eet", 8},    {"eest", 12}, {"bst", 4},   {"jst", 36},  {"hst", -40},
    {"akst", -36}, {"akdt", -32}, {"nzst", 48}, {"nzdt", 52}, {"aest", 40}, {"aedt", 44},
    {"acst", 38},  {"acdt", 42},  {"awst", 32}, {"nst", -14}, {"ast", -16}, {"adt", -12},
};

static bool zone_by_name(struct slice name, int64_t *seconds)
{
    for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++) {
        if (slice_eq_nocase(name, slice_of(zones[i].name))) {
            *seconds = zones[i].quarters * INT64_C(900);
            return true;
        }
    }
    return false;
}

/* A number of at most two digits, or exactly `exactly`; advances. */
static bool take_number(struct slice *s, size_t least, size_t most, int *out)
{
    size_t n = 0;
    int v = 0;

    while (n < s->len && n < most && sql_is_digit(s->ptr[n]))
        v = v * 10 + (s->ptr[n++] - '0');
    if (n < least)
        return false;
    *s = slice_make(s->ptr + n, s->len - n);
    *out = v;
    return true;
}

static bool take_char(struct slice *s, char c)
{
    if (s->len == 0 || s->ptr[0] != c)
        return false;
    *s = slice_make(s->ptr + 1, s->len - 1);
    return true;
}

int zone_offset(struct slice zone, int64_t *seconds, struct err *err)
{
    struct slice s = slice_trim(zone);
    bool negative = s.len > 0 && s.ptr[0] == '-';
    int part[3] = {0, 0, 0};
    bool good;

    if (zone_by_name(s, seconds))
        return 0;
    good = take_char(&s, '+') || take_char(&s, '-');
    if (good && s.len == 4 && !memchr(s.ptr, ':', s.len)) {
        good = take_number(&s, 2, 2, &part[0]) && take_number(&s, 2, 2, &part[1]);
    } else if (good) {
        good = take_number(&s, 1, 2, &part[0]);
        for (int i = 1; good && i < 3 && take_char(&s, ':'); i++)
            good = take_number(&s, 2, 2, &part[i]);
    }
    if (!good || s.len > 0)
        return err_set(
            err, ERR_UNSUPPORTED,
            "the time zone \"%.*s\" can't be told from here: use an offset such "
            "as +02:00, or UTC",
            (int)(zone.len > 200 ? 200 : zone.len), zone.ptr);
    if (part[0] > 15 || part[1] > 59 || part[2] > 59)
        return err_set(err, ERR_INVALID, "time zone displacement out of range");
    *seconds = part[0] * INT64_C(3600) + part[1] * INT64_C(60) + part[2];
    if (negative)
        *seconds = -*seconds;
    return 0;
}

/* ---- reading ---- */

enum reading { READ_FINE, READ_UNCLEAR, READ_RANGE, READ_ZONE_RANGE };

struct moment {
    bool infinite;
    bool negative; /* of the infinities */
    bool has_year;
    bool has_month;
    bool has_day;
    bool has_clock;
    bool has_zone;
    bool has_era;
    bool has_weekday;
    bool bc;
    bool joined;   /* a T waits for its clock */
    bool run_date; /* written as digits only */
    struct civil date;
    int64_t clock_us;
    int64_t offset_s;
};

/* A word's place in a list of words; longer spellings count by their first three letters
 * only when they are the whole name. */
static int month_of(struct slice word)
{
    static const char *const names[] = {"january",   "february", "march",    "april",
                                        "may",       "june",     "july",     "august",
                                        "september", "october",  "november", "december"};

    for (int i = 0; i < 12; i++) {
        struct slice name = slice_of(names[i]);

        if (slice_eq_nocase(word, name) ||
            (word.len == 3 && slice_eq_nocase(word, slice_make(name.ptr, 3))) ||
            (i == 8 && slice_eq_nocase(word, SLICE_LIT("sept"))))
            return i + 1;
    }
    return 0;
}

static bool is_weekday(struct slice word)
{
    static const char *const names[] = {"sunday",   "monday", "tuesday", "wednesday",
                                        "thursday", "friday", "saturday"};

    for (int i = 0; i < 7; i++) {
        struct slice name = slice_of(names[i]);

        if (slice_eq_nocase(word, name) ||
            (word.len == 3 && slice_eq_nocase(word, slice_make(name.ptr, 3))))
            return true;
    }
    return false;
}

static enum reading set_year(struct moment *m, int64_t year)
{
    if (m->has_year)
        return READ_UNCLEAR;
    m->has_year = true;
    m->date.year = year;
    return READ_FINE;
}

static enum reading set_month(struct moment *m, int month)
{
    if (m->has_month)
        return READ_UNCLEAR;
    m->has_month = true;
    m->date.month = month;
    return READ_FINE;
}

static enum reading set_day(struct moment *m, int day)
{
    if (m->has_day)
        return READ_UNCLEAR;
    m->has_day = true;
    m->date.day = day;
    return READ_FINE;
}

static int64_t digits_value(struct slice digits)
{
    int64_t v = 0;

    for (size_t i = 0; i < digits.len; i++)
        v = v * 10 + (digits.ptr[i] - '0');
    return v;
}

static struct slice digits_at(struct slice s)
{
    size_t n = 0;

    while (n < s.len && sql_is_digit(s.ptr[n]))
        n++;
    return slice_make(s.ptr, n);
}

static struct slice letters_at(struct slice s)
{
    size_t n = 0;

    while (n < s.len && sql_is_alpha(s.ptr[n]))
        n++;
    return slice_make(s.ptr, n);
}

static void advance(struct slice *s, size_t n)
{
    *s = slice_make(s->ptr + n, s->len - n);
}

/* One part of a date by month name: a day or a year. */
static enum reading set_named_part(struct moment *m, struct slice digits)
{
    if (digits.len <= 2)
        return digits_value(digits) > 31 ? READ_UNCLEAR
                                         : set_day(m, (int)digits_value(digits));
    if (digits.len <= 7)
        return set_year(m, digits_value(digits));
    return READ_UNCLEAR;
}

/* What may stand behind a date, so that none runs into the next number. */
static bool ends_date(struct slice s)
{
    return s.len == 0 || sql_is_blank(s.ptr[0]) || s.ptr[0] == ',' ||
           sql_lower_ascii(s.ptr[0]) == 't';
}

/* YYYY-MM-DD, s being at the first digit. */
static enum reading read_numeric_date(struct slice *s, struct moment *m)
{
    struct slice year = digits_at(*s);
    char separator = s->ptr[year.len];
    int month;
    int day;

    if (year.len < 3 || year.len > 7 || m->has_year || m->has_month || m->has_day)
        return READ_UNCLEAR;
    advance(s, year.len + 1);
    if (!take_number(s, 1, 2, &month) || !take_char(s, separator) ||
        !take_number(s, 1, 2, &day) || !ends_date(*s))
        return READ_UNCLEAR;
    set_year(m, digits_value(year));
    set_month(m, month);
    set_day(m, day);
    return READ_FINE;
}

/* 31-Jan-2024, Jan-31-2024, 2024-Jan-31: three parts, one of them a name. */
static enum reading read_named_date(struct slice *s, struct moment *m)
{
    for (int i = 0; i < 3; i++) {
        struct slice digits = digits_at(*s);
        struct slice word = letters_at(*s);
        enum reading rc = READ_UNCLEAR;

        if (i > 0 && !take_char(s, '-'))
            return READ_UNCLEAR;
        if (i > 0) {
            digits = digits_at(*s);
            word = letters_at(*s);
        }
        if (digits.len > 0)
            rc = set_named_part(m, digits);
        else if (month_of(word) > 0)
            rc = set_month(m, month_of(word));
        if (rc != READ_FINE)
            return rc;
        advance(s, digits.len + word.len);
    }
    return ends_date(*s) ? READ_FINE : READ_UNCLEAR;
}

/* *YYMMDD: a year of two digits is of 1970 to 2069. */
static enum reading read_run_date(struct slice digits, struct moment *m)
{
    int64_t year;

    if (digits.len > 11 || m->has_year || m->has_month || m->has_day)
        return READ_UNCLEAR;
    m->run_date = true;
    year = digits_value(slice_make(digits.ptr, digits.len - 4));
    if (digits.len == 6)
        year += year < 70 ? 2000 : 1900;
    set_year(m, year);
    set_month(m, (int)digits_value(slice_make(digits.ptr + digits.len - 4, 2)));
    set_day(m, (int)digits_value(slice_make(digits.ptr + digits.len - 2, 2)));
    return READ_FINE;
}

/* Digits behind a point, in µs; rounded as Postgres's floating point does. */
static bool take_fraction(struct slice *s, int64_t *us)
{
    char text[32] = "0.";
    struct slice digits;

    *us = 0;
    if (!take_char(s, '.'))
        return true;
    digits = digits_at(*s);
    if (digits.len == 0 || digits.len > sizeof(text) - 3)
        return false;
    memcpy(text + 2, digits.ptr, digits.len);
    text[2 + digits.len] = '\0';
    *us = (int64_t)rint(strtod(text, NULL) * 1000000);
    advance(s, digits.len);
    return true;
}

static enum reading set_clock(struct moment *m, int64_t hour, int64_t minute,
                              int64_t second, int64_t us)
{
    int64_t total = hour * US_PER_HOUR + minute * US_PER_MINUTE + second * US_PER_SECOND;

    if (m->has_clock)
        return READ_UNCLEAR;
    m->has_clock = true;
    if (hour > 24 || minute > 59 || second > 60 || total + us > US_PER_DAY)
        return READ_RANGE;
    m->clock_us = total + us;
    return READ_FINE;
}

static void skip_blanks(struct slice *s)
{
    while (s->len > 0 && sql_is_blank(s->ptr[0]))
        advance(s, 1);
}

/* hh:mm[:ss][.f], and what mm:ss.f means. */
static enum reading read_clock(struct slice *s, struct moment *m)
{
    int part[3] = {0, 0, 0};
    int count = 1;
    bool fraction;
    int64_t us;
    struct slice word;

    if (!take_number(s, 1, 2, &part[0]))
        return READ_UNCLEAR;
    while (count < 3 && take_char(s, ':')) {
        if (!take_number(s, 1, 2, &part[count]))
            return READ_UNCLEAR;
        count++;
    }
    fraction = s->len > 0 && s->ptr[0] == '.';
    if (!take_fraction(s, &us) || count < 2)
        return READ_UNCLEAR;
    if (count == 2 && fraction) {
        part[2] = part[1];
        part[1] = part[0];
        part[0] = 0;
    }
    if (s->len > 0 && (sql_is_digit(s->ptr[0]) || s->ptr[0] == ':' || s->ptr[0] == '.'))
        return READ_UNCLEAR;
    skip_blanks(s);
    word = letters_at(*s);
    if (slice_eq_nocase(word, SLICE_LIT("am")) ||
        slice_eq_nocase(word, SLICE_LIT("pm"))) {
        bool pm = sql_lower_ascii(word.ptr[0]) == 'p';

        if (part[0] > 12)
            return READ_RANGE;
        part[0] = part[0] % 12 + (pm ? 12 : 0);
        advance(s, 2);
    }
    return set_clock(m, part[0], part[1], part[2], us);
}

/* hhmm[ss][.f] behind a T. What is out of range Postgres carries over at times. */
static enum reading read_run_clock(struct slice *s, struct moment *m)
{
    struct slice digits = digits_at(*s);
    int64_t v = digits_value(slice_make(digits.ptr, digits.len > 6 ? 0 : digits.len));
    int64_t us = 0;

    if (digits.len != 4 && digits.len != 6)
        return READ_UNCLEAR;
    advance(s, digits.len);
    if (digits.len == 4)
        v *= 100;
    if (digits.len == 4 ? s->len > 0 && s->ptr[0] == '.' : !take_fraction(s, &us))
        return READ_UNCLEAR;
    return set_clock(m, v / 10000, v / 100 % 100, v % 100, us) == READ_FINE
               ? READ_FINE
               : READ_UNCLEAR;
}

static enum reading set_zone(struct moment *m, struct slice zone)
{
    struct err err;
    int rc;

    if (m->has_zone || !m->has_clock)
        return READ_UNCLEAR;
    rc = zone_offset(zone, &m->offset_s, &err);
    m->has_zone = true;
    return rc == 0 ? READ_FINE : rc == ERR_INVALID ? READ_ZONE_RANGE : READ_UNCLEAR;
}

static enum reading read_signed_zone(struct slice *s, struct moment *m)
{
    size_t n = 1;

    while (n < s->len && (sql_is_digit(s->ptr[n]) || s->ptr[n] == ':'))
        n++;
    if (n < s->len && !sql_is_blank(s->ptr[n]))
        return READ_UNCLEAR;
    advance(s, n);
    return set_zone(m, slice_make(s->ptr - n, n));
}

static enum reading read_word(struct slice *s, struct moment *m)
{
    struct slice word = letters_at(*s);
    bool bc = slice_eq_nocase(word, SLICE_LIT("bc"));

    if (word.len == 1 && (word.ptr[0] == 'T' || word.ptr[0] == 't') && !m->has_clock &&
        s->len > 1 && sql_is_digit(s->ptr[1])) {
        advance(s, 1);
        m->joined = true;
        return READ_FINE;
    }
    if (month_of(word) > 0 && s->len > word.len && s->ptr[word.len] == '-')
        return m->has_month ? READ_UNCLEAR : read_named_date(s, m);
    advance(s, word.len);
    if (s->len > 0 && !sql_is_blank(s->ptr[0]) && s->ptr[0] != ',')
        return READ_UNCLEAR;
    if (month_of(word) > 0)
        return set_month(m, month_of(word));
    if (is_weekday(word) && !m->has_weekday) {
        m->has_weekday = true;
        return READ_FINE;
    }
    if ((bc || slice_eq_nocase(word, SLICE_LIT("ad"))) && !m->has_era) {
        m->has_era = true;
        m->bc = bc;
        return READ_FINE;
    }
    return set_zone(m, word);
}

static enum reading read_digits(struct slice *s, struct moment *m)
{
    struct slice digits = digits_at(*s);
    char next = s->len > digits.len ? s->ptr[digits.len] : ' ';
    bool date_done = m->has_year && m->has_month && m->has_day;
    enum reading rc;

    if (next == ':')
        return read_clock(s, m);
    if (m->joined)
        return read_run_clock(s, m);
    if (next == '-' && s->len > digits.len + 1 && sql_is_alpha(s->ptr[digits.len + 1]))
        return read_named_date(s, m);
    if (next == '-' || next == '/')
        return read_numeric_date(s, m);
    if (!sql_is_blank(next) && next != ',' && next != 'T' && next != 't')
        return READ_UNCLEAR;
    if (digits.len >= 6 && date_done && !m->has_clock)
        return digits.len == 6 ? read_run_clock(s, m) : READ_UNCLEAR;
    rc = digits.len >= 6 ? read_run_date(digits, m) : set_named_part(m, digits);
    advance(s, digits.len);
    return rc;
}

/* All of the text, token by token. Named parts without a month's name are unclear. */
static enum reading read_tokens(struct slice s, struct moment *m)
{
    enum reading worst = READ_FINE;

    for (;;) {
        enum reading rc;

        while (s.len > 0 && (sql_is_blank(s.ptr[0]) || s.ptr[0] == ',')) {
            if (m->joined && !m->has_clock)
                return READ_UNCLEAR;
            advance(&s, 1);
        }
        if (s.len == 0)
            break;
        if (sql_is_digit(s.ptr[0]))
            rc = read_digits(&s, m);
        else if (sql_is_alpha(s.ptr[0]))
            rc = read_word(&s, m);
        else if (s.ptr[0] == '+' || s.ptr[0] == '-')
            rc = read_signed_zone(&s, m);
        else
            rc = READ_UNCLEAR;
        if (rc == READ_UNCLEAR)
            return rc;
        if (rc != READ_FINE && worst == READ_FINE)
            worst = rc; /* told only when the rest is clear */
    }
    return worst;
}

static bool read_special(struct slice s, struct moment *m)
{
    m->infinite = true;
    m->negative = s.len > 0 && s.ptr[0] == '-';
    if (slice_eq_nocase(s, SLICE_LIT("infinity")) ||
        slice_eq_nocase(s, SLICE_LIT("-infinity")))
        return true;
    m->infinite = false;
    if (!slice_eq_nocase(s, SLICE_LIT("epoch")))
        return false;
    m->has_year = m->has_month = m->has_day = true;
    m->date = (struct civil){1970, 1, 1};
    return true;
}

static enum reading check_date(struct moment *m)
{
    if (m->has_era && !m->has_year)
        return READ_UNCLEAR;
    if (m->date.year == 0 || m->date.month < 1 || m->date.month > 12 || m->date.day < 1)
        return READ_RANGE;
    if (m->bc)
        m->date.year = 1 - m->date.year;
    return m->date.day > civil_month_days(m->date.year, m->date.month) ? READ_RANGE
                                                                       : READ_FINE;
}

static bool is_relative(struct slice s)
{
    static const char *const words[] = {"now", "today", "tomorrow", "yesterday",
                                        "allballs"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (slice_eq_nocase(s, slice_of(words[i])))
            return true;
    }
    return false;
}

static int complain(enum reading rc, const char *type, const char *advice,
                    struct slice text, struct err *err)
{
    struct slice s = slice_trim(text);
    int shown = text.len > 400 ? 400 : (int)text.len;

    if (rc == READ_RANGE)
        return err_set(err, ERR_INVALID, "date/time field value out of range: \"%.*s\"",
                       shown, text.ptr);
    if (rc == READ_ZONE_RANGE)
        return err_set(err, ERR_INVALID, "time zone displacement out of range: \"%.*s\"",
                       shown, text.ptr);
    if (is_relative(s))
        return err_set(
            err, ERR_UNSUPPORTED,
            "\"%.*s\" means something else tomorrow: write a fixed %s, such as "
            "%s",
            shown, text.ptr, type, advice);
    if (letters_at(s).len ==
        s.len) /* one word, or none: it is none that Postgres knows */
        return sql_bad_syntax(err, type, text);
    return err_set(err, ERR_UNSUPPORTED, "\"%.*s\" is not clearly a %s: write it as %s",
                   shown, text.ptr, type, advice);
}

/* A date, with or without clock and zone. */
static int moment_in(const char *type, const char *advice, struct slice text,
                     struct moment *m, struct err *err)
{
    enum reading rc;

    *m = (struct moment){.infinite = false};
    if (read_special(slice_trim(text), m))
        return 0;
    *m = (struct moment){.infinite = false};
    rc = read_tokens(text, m);
    if (rc != READ_UNCLEAR && !(m->has_year && m->has_month && m->has_day))
        rc = READ_UNCLEAR;
    if (rc == READ_FINE || rc == READ_RANGE) {
        enum reading date = check_date(m);

        rc = date == READ_FINE ? rc : date;
    }
    return rc == READ_FINE ? 0 : complain(rc, type, advice, text, err);
}

int sql_date_in(struct slice text, struct arena *arena, struct sql_value *out,
                struct err *err)
{
    struct moment m;
    int64_t days;
    int rc = moment_in("date", "2024-01-31", text, &m, err);

    (void)arena;
    if (rc != 0)
        return rc;
    days = civil_days(m.date);
    if (m.infinite)
        days = m.negative ? DATE_MINUS_INFINITY : DATE_PLUS_INFINITY;
    else if (days < DATE_MIN || days >= DATE_END)
        return err_set(err, ERR_INVALID, "date out of range: \"%.*s\"",
                       (int)(text.len > 400 ? 400 : text.len), text.ptr);
    *out = (struct sql_value){.i = days};
    return 0;
}

int sql_time_in(struct slice text, struct arena *arena, struct sql_value *out,
                struct err *err)
{
    struct moment m = {.infinite = false};
    enum reading rc = read_tokens(text, &m);
    bool no_date = !m.has_year && !m.has_month && !m.has_day;

    (void)arena;
    if (!m.has_clock || m.has_weekday || m.has_era || m.run_date)
        rc = READ_UNCLEAR;
    if (rc != READ_UNCLEAR && !no_date)
        rc = m.has_year && m.has_month && m.has_day && rc == READ_FINE ? check_date(&m)
                                                                       : READ_UNCLEAR;
    if (rc != READ_FINE)
        return complain(rc, "time", "10:30:00", text, err);
    *out = (struct sql_value){.i = m.clock_us};
    return 0;
}

static int timestamp_in(bool zoned, struct slice text, struct sql_value *out,
                        struct err *err)
{
    struct moment m;
    int64_t us;
    int rc =
        moment_in(zoned ? "timestamp with time zone" : "timestamp",
                  zoned ? "2024-01-31T10:30:00Z" : "2024-01-31 10:30:00", text, &m, err);

    if (rc != 0)
        return rc;
    if (m.infinite) {
        *out = (struct sql_value){.i = m.negative ? TIMESTAMP_MINUS_INFINITY
                                                  : TIMESTAMP_PLUS_INFINITY};
        return 0;
    }
    if (__builtin_mul_overflow(civil_days(m.date), US_PER_DAY, &us) ||
        __builtin_add_overflow(us, m.clock_us, &us) ||
        (zoned && __builtin_sub_overflow(us, m.offset_s * US_PER_SECOND, &us)) ||
        !timestamp_valid(us))
        return err_set(err, ERR_INVALID, "timestamp out of range: \"%.*s\"",
                       (int)(text.len > 400 ? 400 : text.len), text.ptr);
    *out = (struct sql_value){.i = us};
    return 0;
}

int sql_timestamp_in(struct slice text, struct arena *arena, struct sql_value *out,
                     struct err *err)
{
    (void)arena;
    return timestamp_in(false, text, out, err);
}

int sql_timestamptz_in(struct slice text, struct arena *arena, struct sql_value *out,
                       struct err *err)
{
    (void)arena;
    return timestamp_in(true, text, out, err);
}

/* ---- printing ---- */

static void date_put(struct civil c, struct buf *out)
{
    int64_t year = c.year > 0 ? c.year : 1 - c.year;

    buf_printf(out, "%04" PRId64 "-%02d-%02d", year, c.month, c.day);
}

void clock_put(int64_t us, struct buf *out)
{
    int64_t seconds = us / US_PER_SECOND;
    int64_t fraction = us % US_PER_SECOND;

    buf_printf(out, "%02d:%02d:%02d", (int)(seconds / 3600), (int)(seconds / 60 % 60),
               (int)(seconds % 60));
    if (fraction == 0)
        return;
    buf_printf(out, ".%06d", (int)fraction);
    while (!out->failed && out->ptr[out->len - 1] == '0')
        buf_truncate(out, out->len - 1);
}

void sql_date_out(const struct sql_value *v, struct buf *out)
{
    struct civil c;

    if (date_infinite(v->i)) {
        buf_puts(out, v->i > 0 ? "infinity" : "-infinity");
        return;
    }
    c = civil_of(v->i);
    date_put(c, out);
    if (c.year <= 0)
        buf_puts(out, " BC");
}

void sql_time_out(const struct sql_value *v, struct buf *out)
{
    clock_put(v->i, out);
}

static void timestamp_out(int64_t us, const char *zone, struct buf *out)
{
    int64_t days = floor_div(us, US_PER_DAY);
    struct civil c;

    if (timestamp_infinite(us)) {
        buf_puts(out, us > 0 ? "infinity" : "-infinity");
        return;
    }
    c = civil_of(days);
    date_put(c, out);
    buf_putc(out, ' ');
    clock_put(floor_mod(us, US_PER_DAY), out);
    buf_puts(out, zone);
    if (c.year <= 0)
        buf_puts(out, " BC");
}

void sql_timestamp_out(const struct sql_value *v, struct buf *out)
{
    timestamp_out(v->i, "", out);
}

void sql_timestamptz_out(const struct sql_value *v, struct buf *out)
{
    timestamp_out(v->i, "+00", out);
}

/* ---- typmods ---- */

/* time(p), timestamp(p): rounded, half away from zero. */
int sql_time_typmod(enum sql_base base, int32_t typmod, struct sql_value *v,
                    struct err *err)
{
    int64_t unit = 1;
    int64_t half;

    for (int32_t p = typmod; p < 6; p++)
        unit *= 10;
    half = unit / 2;
    if (base != SQL_TIME && timestamp_infinite(v->i))
        return 0;
    v->i = v->i >= 0 ? (v->i + half) / unit * unit : -((-v->i + half) / unit * unit);
    if (base != SQL_TIME && !timestamp_valid(v->i))
        return err_set(err, ERR_INVALID, "timestamp out of range");
    return 0;
}
