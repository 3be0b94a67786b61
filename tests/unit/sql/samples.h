/* Texts of each type for test_sql_postgres.c: a fixed list with the corners, and random
 * ones, most of which the type takes. */
#ifndef COULOMB_TESTS_UNIT_SQL_SAMPLES_H
#define COULOMB_TESTS_UNIT_SQL_SAMPLES_H

#include <stdio.h>

#include "sql/types.h"

#define SAMPLE_MAX 512

typedef uint32_t sample_below_fn(uint32_t n);

static const char *const samples_bool[] = {"t",   "f",    "true", "false", "yes", "no",
                                           " on", "off ", "1",    "0",     "tru", "of",
                                           "o",   "",     "TRUE", "N",     NULL};
static const char *const samples_int[] = {"0",
                                          "1",
                                          "-1",
                                          "2",
                                          "7",
                                          "-3",
                                          " 12 ",
                                          "+5",
                                          "32767",
                                          "-32768",
                                          "32768",
                                          "2147483647",
                                          "-2147483648",
                                          "2147483648",
                                          "9223372036854775807",
                                          "-9223372036854775808",
                                          "9223372036854775808",
                                          "",
                                          "x",
                                          "1.5",
                                          "1e3",
                                          "- 1",
                                          "00012",
                                          NULL};
static const char *const samples_float[] = {"0",
                                            "-0",
                                            "1",
                                            "1.5",
                                            "-2.5",
                                            "0.1",
                                            "0.3",
                                            "1e10",
                                            "1e15",
                                            "1e14",
                                            "1e-5",
                                            "1e-4",
                                            "123456",
                                            "1234567",
                                            "NaN",
                                            "nan",
                                            "inf",
                                            "-inf",
                                            "Infinity",
                                            "-infinity",
                                            "1e308",
                                            "1.7976931348623157e308",
                                            "1e309",
                                            "4.9e-324",
                                            "1e-400",
                                            "3.4028235e38",
                                            "1e39",
                                            "1e-45",
                                            "1e-50",
                                            "2.5",
                                            "3.5",
                                            "-0.5",
                                            "0.5",
                                            " 7 ",
                                            "9007199254740993",
                                            "9007199254740992",
                                            "16777217",
                                            "1e22",
                                            "1e23",
                                            "5e-324",
                                            "2.2250738585072014e-308",
                                            "9.5367431640625e-07",
                                            "5.684341886080802e-14",
                                            "0x1p3",
                                            ".5",
                                            "5.",
                                            "e5",
                                            "",
                                            "1e",
                                            "1 2",
                                            "32767.5",
                                            "2147483647.5",
                                            "-32768.5",
                                            "9223372036854775807",
                                            "2",
                                            "3",
                                            NULL};
static const char *const samples_numeric[] = {"0",
                                              "0.00",
                                              "1",
                                              "-1",
                                              "1.0",
                                              "1.00",
                                              "2.50",
                                              "0.1",
                                              "-1.5",
                                              "2.5",
                                              "0.5",
                                              "-0.5",
                                              "1e10",
                                              "1e-10",
                                              "1.5e3",
                                              "12345678901234567890.123456789",
                                              "NaN",
                                              "nan",
                                              "Infinity",
                                              "-Infinity",
                                              "inf",
                                              "+inf",
                                              "99999999999999999999999999999999999999",
                                              "0.00000000000000000000000000000000000001",
                                              "9999.9999",
                                              "10000",
                                              "10001",
                                              "3",
                                              "7",
                                              "100",
                                              "0.3333",
                                              "1e131071",
                                              "1e131072",
                                              "1e-16383",
                                              "1e-16384",
                                              "",
                                              ".",
                                              ".5",
                                              "5.",
                                              "+7",
                                              "- 1",
                                              "1e",
                                              "1e5x",
                                              " 12.50 ",
                                              "1_000",
                                              "0x10",
                                              "9223372036854775807",
                                              "9223372036854775808",
                                              "-9223372036854775808.5",
                                              "32767.5",
                                              "-32768.5",
                                              "1e400",
                                              "2147483647.4999",
                                              "1.7976931348623157e308",
                                              "6",
                                              "0.000123",
                                              "1e1000000000",
                                              NULL};
static const char *const samples_text[] = {
    "",     "a",     "B",    "abc",  "ABC",   "a b",    "100%_x\\y", "line\nbreak",
    "a%",   "%",     "_",    "a_c",  "%b%",   "\\%",    "a\\",       "%a\\",
    "\\",   "aXbXc", "%X%c", "é",    "Ünï",   "日本語", "__",        "_é",
    "a   ", "   ",   "ÀéÉß", "İıIi", "Σσς ǅ", "𐐀𐐨ÿŸ",   "x'y",       "\"q\"",
    "NULL", "{a,b}", "%_%",  "a%c",  "a#%c",  "#",      "##",        "t",
    "1",    "x",     NULL};
static const char *const samples_uuid[] = {"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                                           "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
                                           "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
                                           "a0eebc999c0b4ef8bb6d6bb9bd380a11",
                                           "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
                                           "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
                                           "00000000-0000-0000-0000-000000000000",
                                           "ffffffff-ffff-ffff-ffff-ffffffffffff",
                                           "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
                                           "{}",
                                           "",
                                           " a0eebc999c0b4ef8bb6d6bb9bd380a11",
                                           NULL};
static const char *const samples_bytea[] = {
    "\\x",  "\\x01",  "\\xff",  "\\xDEADBEEF", "\\x de ad", "\\xd", "\\xdg",
    "abc",  "",       "\\000",  "\\377a",      "\\\\",      "\\",   "\\400",
    "\\12", "a\\\\b", "\\x0 1", "%",           "_",         NULL};
static const char *const samples_enum[] = {"x", "y", "a b", NULL};
#include "unit/sql/samples_time.h"

static const char *const *sample_list(enum sql_base base)
{
    static const char *const none[] = {NULL};

    switch (base) {
    case SQL_BOOL:
        return samples_bool;
    case SQL_INT2:
    case SQL_INT4:
    case SQL_INT8:
        return samples_int;
    case SQL_FLOAT4:
    case SQL_FLOAT8:
        return samples_float;
    case SQL_NUMERIC:
        return samples_numeric;
    case SQL_TEXT:
    case SQL_VARCHAR:
    case SQL_BPCHAR:
    case SQL_NAME:
        return samples_text;
    case SQL_UUID:
        return samples_uuid;
    case SQL_BYTEA:
        return samples_bytea;
    case SQL_ENUM:
        return samples_enum;
    case SQL_DATE:
        return samples_date;
    case SQL_TIME:
        return samples_of_time;
    case SQL_TIMESTAMP:
    case SQL_TIMESTAMPTZ:
        return samples_timestamp;
    case SQL_INTERVAL:
        return samples_interval;
    case SQL_JSONB:
        return samples_jsonb;
    case SQL_UNKNOWN:
    case SQL_OTHER:
    case SQL_BASES:
        break;
    }
    return none;
}

/* The i-th of the fixed list; NULL behind the last. */
static const char *sample_fixed(struct sql_type type, size_t i)
{
    return type.array ? samples_array[i] : sample_list(type.base)[i];
}

static inline void sample_scalar(enum sql_base base, sample_below_fn *below, char *to,
                                 size_t size)
{
    static const char alphabet[] = "abAB _%\\xy1";
    size_t n = 0;

    switch (base) {
    case SQL_INT2:
        snprintf(to, size, "%d", (int)below(65536) - 32768);
        break;
    case SQL_INT4:
        snprintf(to, size, "%d",
                 (int)(int32_t)(below(65536) << 16 | below(65536)) >> below(28));
        break;
    case SQL_INT8:
        snprintf(to, size, "%lld",
                 (long long)((uint64_t)below(1u << 31) << 33 ^ (uint64_t)below(1u << 31)
                                                                   << 3) >>
                     below(60));
        break;
    case SQL_FLOAT4:
    case SQL_FLOAT8:
        snprintf(
            to, size, "%s%u.%ue%d", below(2) ? "-" : "", below(100000), below(1000000),
            (int)below(base == SQL_FLOAT8 ? 600 : 80) - (base == SQL_FLOAT8 ? 300 : 45));
        if (below(2))
            snprintf(to, size, "%u.%u", below(1000), below(10000));
        break;
    case SQL_NUMERIC:
        snprintf(to, size, "%s%u%0*u.%0*u", below(2) ? "-" : "", below(10),
                 (int)below(20) + 1, below(10000), (int)below(12) + 1, below(100000));
        if (below(3) == 0)
            snprintf(to, size, "%u.%0*u", below(100), (int)below(5) + 1, below(10));
        break;
    case SQL_UUID:
        for (n = 0; n < 32; n++)
            to[n] = "0123456789abcdef"[below(16)];
        to[n] = '\0';
        break;
    case SQL_BYTEA:
        snprintf(to, size, "\\x%02x%02x", below(256), below(256));
        break;
    case SQL_ENUM:
        snprintf(to, size, "%s", samples_enum[below(3)]);
        break;
    case SQL_BOOL:
        snprintf(to, size, "%s", below(2) ? "t" : "f");
        break;
    case SQL_DATE:
    case SQL_TIME:
    case SQL_TIMESTAMP:
    case SQL_TIMESTAMPTZ:
    case SQL_INTERVAL:
        sample_time(base, below, to, size);
        break;
    case SQL_JSONB:
        sample_jsonb(below, to, size);
        break;
    case SQL_UNKNOWN:
    case SQL_TEXT:
    case SQL_VARCHAR:
    case SQL_BPCHAR:
    case SQL_NAME:
    case SQL_OTHER:
    case SQL_BASES:
        for (uint32_t len = below(9); n < len; n++)
            to[n] = alphabet[below(sizeof(alphabet) - 1)];
        to[n] = '\0';
    }
}

static inline void sample_random(struct sql_type type, sample_below_fn *below, char *to,
                                 size_t size)
{
    char one[SAMPLE_MAX];
    size_t len = 0;
    bool twice = type.array && below(5) == 0;
    uint32_t count = 1 + below(3);

    if (!type.array) {
        sample_scalar(type.base, below, to, size);
        return;
    }
    len += (size_t)snprintf(to + len, size - len, twice ? "{{" : "{");
    for (uint32_t i = 0; i < count * (twice ? 2 : 1); i++) {
        if (i > 0)
            to[len++] = ',';
        if (twice && i == count)
            len = len - 1 + (size_t)snprintf(to + len - 1, size - len, "},{");
        sample_scalar(type.base, below, one, 60);
        if (below(6) == 0 && len + 8 < size) {
            len += (size_t)snprintf(to + len, size - len, "NULL");
            continue;
        }
        to[len++] = '"';
        for (const char *c = one; *c && len + 16 < size; c++) {
            if (*c == '"' || *c == '\\')
                to[len++] = '\\';
            to[len++] = *c;
        }
        to[len++] = '"';
    }
    snprintf(to + len, size - len, twice ? "}}" : "}");
}

#endif
