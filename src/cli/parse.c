/* Values of settings: text to number, by kind. Numbers may have a fraction ("1.5s"),
 * which is why they are scaled in double and checked to be exact enough: below 2^53. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#include "cli/settings.h"

#define NUMBER_MAX_CHARS 32
#define EXACT_MAX        9007199254740992.0

struct unit {
    const char *name;
    double factor;
};

bool setting_parse_bool(struct slice text, bool *out)
{
    bool yes = slice_eq_nocase(text, SLICE_LIT("true")) || slice_eq(text, SLICE_LIT("1"));
    bool no = slice_eq_nocase(text, SLICE_LIT("false")) || slice_eq(text, SLICE_LIT("0"));
    if (yes || no)
        *out = yes;
    return yes || no;
}

bool setting_parse_port(struct slice text, uint64_t *out)
{
    uint64_t port;
    if (!slice_to_u64(text, &port) || port > UINT16_MAX)
        return false;
    *out = port;
    return true;
}

/* Digits with at most one point inside; *rest gets what follows, without blanks. */
static bool parse_number(struct slice text, double *out, struct slice *rest)
{
    char digits[NUMBER_MAX_CHARS + 1];
    size_t n = 0;
    unsigned points = 0;
    while (n < text.len && n < NUMBER_MAX_CHARS &&
           ((text.ptr[n] >= '0' && text.ptr[n] <= '9') || text.ptr[n] == '.')) {
        points += text.ptr[n] == '.';
        digits[n] = text.ptr[n];
        n++;
    }
    if (n == 0 || points > 1 || digits[0] == '.' || digits[n - 1] == '.')
        return false;
    digits[n] = '\0';
    *out = strtod(digits, NULL);
    *rest = slice_trim(slice_make(text.ptr + n, text.len - n));
    return true;
}

static bool parse_scaled(struct slice text, const struct unit *units, size_t count,
                         double *out)
{
    double number;
    struct slice name;
    if (!parse_number(text, &number, &name))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (slice_eq_nocase(name, slice_of(units[i].name))) {
            *out = number * units[i].factor;
            return *out < EXACT_MAX;
        }
    }
    return false;
}

bool setting_parse_duration(struct slice text, int64_t *ms)
{
    static const struct unit units[] = {{"", 1},      {"ms", 1},  {"msec", 1}, {"s", 1e3},
                                        {"sec", 1e3}, {"m", 6e4}, {"min", 6e4}};
    double value;
    if (!parse_scaled(text, units, sizeof(units) / sizeof(units[0]), &value))
        return false;
    *ms = (int64_t)value;
    return true;
}

bool setting_parse_size(struct slice text, uint64_t *size_bytes)
{
    static const struct unit units[] = {
        {"", 1},     {"B", 1},         {"KB", 1e3}, {"KiB", 1024},
        {"MB", 1e6}, {"MiB", 1048576}, {"GB", 1e9}, {"GiB", 1073741824}};
    double value;
    if (!parse_scaled(text, units, sizeof(units) / sizeof(units[0]), &value))
        return false;
    *size_bytes = (uint64_t)value;
    return true;
}
