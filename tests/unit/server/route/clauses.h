/* A table with a column of each kind, its rows, and random clauses over it. */
#ifndef COULOMB_TESTS_ROUTE_CLAUSES_H
#define COULOMB_TESTS_ROUTE_CLAUSES_H

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/route/route.h"

#define OID 4711

#define PLAIN(base_)                                                                     \
    {                                                                                    \
        .base = (base_), .typmod = -1                                                    \
    }
#define ARRAY_OF(base_)                                                                  \
    {                                                                                    \
        .base = (base_), .array = true, .typmod = -1                                     \
    }
#define NAME(text)                                                                       \
    {                                                                                    \
        text, sizeof(text) - 1                                                           \
    }

enum { A, N, T, U, B, F, Q, D, TAGS, NUMS, V, COLUMNS };

static const struct sql_column columns[COLUMNS] = {
    [A] = {.name = NAME("a"), .type = PLAIN(SQL_INT4)},
    [N] = {.name = NAME("n"), .type = PLAIN(SQL_INT8)},
    [T] = {.name = NAME("t"),
           .type = PLAIN(SQL_TEXT),
           .collation = SQL_COLLATION_C,
           .collation_oid = 950},
    [U] = {.name = NAME("u"), .type = PLAIN(SQL_UUID)},
    [B] = {.name = NAME("b"), .type = PLAIN(SQL_BOOL)},
    [F] = {.name = NAME("f"), .type = PLAIN(SQL_FLOAT8)},
    [Q] = {.name = NAME("q"), .type = PLAIN(SQL_NUMERIC)},
    [D] = {.name = NAME("d"), .type = PLAIN(SQL_DATE)},
    [TAGS] = {.name = NAME("tags"), .type = ARRAY_OF(SQL_TEXT), .collation_oid = 100},
    [NUMS] = {.name = NAME("nums"), .type = ARRAY_OF(SQL_INT4)},
    [V] = {.name = NAME("v"), .type = PLAIN(SQL_VARCHAR), .collation_oid = 100},
};
static const struct sql_table table = {columns, COLUMNS, SQL_COLLATION_DETERMINISTIC,
                                       NULL};

/* The stream's order is another one, and it has a column that the table has not. */
static struct decode_column stream_columns[COLUMNS + 1];
static struct decode_relation relation = {
    .oid = OID, .column_count = COLUMNS + 1, .columns = stream_columns};

static inline size_t in_stream(size_t column)
{
    return COLUMNS - column;
}

static inline void relation_set_up(void)
{
    stream_columns[0].name = SLICE_LIT("other");
    for (size_t i = 0; i < COLUMNS; i++)
        stream_columns[in_stream(i)].name = columns[i].name;
}

/* --- Random rows and clauses --- */

struct random {
    uint64_t state;
};

static inline unsigned pick(struct random *r, unsigned n)
{
    r->state = r->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(r->state >> 33) % n;
}

#define PICK(r, list) ((list)[pick((r), (unsigned)(sizeof(list) / sizeof *(list)))])

static const char *const texts[][6] = {
    [A] = {"0", "1", "2", "3", "-5", "2147483647"},
    [N] = {"0", "1", "2", "77", "-9223372036854775808", "9223372036854775807"},
    [T] = {"", "ab", "abc", "abd", "x%", "\xc3\xbc"},
    [U] = {"11111111-1111-1111-1111-111111111111", "11111111-1111-1111-1111-111111111112",
           "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "ffffffff-ffff-ffff-ffff-ffffffffffff",
           "00000000-0000-0000-0000-000000000000",
           "11111111-1111-1111-2222-111111111111"},
    [B] = {"t", "f", "t", "f", "t", "f"},
    [F] = {"0", "-0", "NaN", "1.5", "Infinity", "-2"},
    [Q] = {"0", "1.0", "1.00", "NaN", "123456789012345678901234567890.5", "-3"},
    [D] = {"2024-01-01", "2024-01-02", "2025-06-30", "infinity", "1999-12-31",
           "0044-03-15 BC"},
    [TAGS] = {"{}", "{red}", "{red,blue}", "{NULL,green,green}", "{blue,red,green}",
              "{\"\"}"},
    [NUMS] = {"{}", "{1}", "{1,2}", "{2,2,3}", "{{1,2},{3,4}}", "{NULL}"},
    [V] = {"", "ab", "abc", "b", "longer than the others", "abcd"},
};

static inline void random_row(struct random *r, struct value *row)
{
    row[0] = (struct value){"zz", 2, VALUE_TEXT};
    for (size_t i = 0; i < COLUMNS; i++) {
        const char *text = PICK(r, texts[i]);
        row[in_stream(i)] =
            pick(r, 5) == 0 ? (struct value){.kind = VALUE_NULL}
                            : (struct value){text, (uint32_t)strlen(text), VALUE_TEXT};
    }
}

static inline void random_list(struct random *r, size_t c, struct buf *out)
{
    unsigned n = 1 + pick(r, 4);
    for (unsigned i = 0; i < n; i++)
        buf_printf(out, "%s'%s'", i > 0 ? ", " : "", PICK(r, texts[c]));
}

static inline void random_array_term(struct random *r, struct buf *out)
{
    static const char *const colours[] = {"red", "blue", "green", ""};
    bool text = pick(r, 2) == 0;
    const char *name = text ? "tags" : "nums";
    const char *a = text ? PICK(r, colours) : "1";
    const char *b = text ? PICK(r, colours) : "2";
    switch (pick(r, 4)) {
    case 0:
        buf_printf(out, "'%s' = ANY(%s)", a, name);
        break;
    case 1:
        buf_printf(out, "%s @> '{\"%s\"}'", name, b);
        break;
    case 2:
        buf_printf(out, "%s @> '{\"%s\",\"%s\"}'", name, a, b);
        break;
    default:
        buf_printf(out, "%s IS NULL", name);
        break;
    }
}

static inline void random_other_term(struct random *r, struct buf *out)
{
    static const char *const terms[] = {
        "t ILIKE '%B%'",
        "a % 2 = 1",
        "10 / a = 5",
        "length(v) > 2",
        "b",
        "NOT b",
        "b IS NOT TRUE",
        "b = true",
        "a + 1 < n",
        "t LIKE 'ab%'",
        "t LIKE 'a_c%'",
        "v LIKE 'longer than%'",
        "v NOT LIKE 'a%'",
        "tags[1] = 'red'",
        "true",
        "false",
        "a = n",
        "n IS NOT NULL",
        "v LIKE 'ab'",
        "100 / (a - 1) > 3 OR a = 1",
    };
    buf_puts(out, PICK(r, terms));
}

static inline void random_term(struct random *r, struct buf *out)
{
    static const size_t scalars[] = {A, N, T, U, F, Q, D, V};
    static const size_t ordered[] = {A, N, F, Q, D, T};
    static const char *const operators[] = {"<", "<=", ">", ">="};
    size_t c = PICK(r, scalars);
    size_t o = PICK(r, ordered);
    const char *low = PICK(r, texts[o]);
    const char *high = PICK(r, texts[o]);
    switch (pick(r, 9)) {
    case 0:
    case 1:
        buf_printf(out, "%s = '%s'", columns[c].name.ptr, PICK(r, texts[c]));
        break;
    case 2:
        buf_printf(out, "%s IN (", columns[c].name.ptr);
        random_list(r, c, out);
        buf_puts(out, ")");
        break;
    case 3:
        buf_printf(out, "%s IS NULL", columns[pick(r, COLUMNS)].name.ptr);
        break;
    case 4:
        buf_printf(out, "%s BETWEEN '%s' AND '%s'", columns[o].name.ptr, low, high);
        break;
    case 5:
        buf_printf(out, "%s %s '%s'", columns[o].name.ptr, PICK(r, operators), low);
        break;
    case 6:
        random_array_term(r, out);
        break;
    default:
        random_other_term(r, out);
        break;
    }
}

// NOLINTNEXTLINE(misc-no-recursion): depth counts down
static inline void random_clause(struct random *r, unsigned depth, struct buf *out)
{
    if (depth == 0 || pick(r, 3) == 0) {
        random_term(r, out);
        return;
    }
    unsigned n = 2 + pick(r, 2);
    const char *between = pick(r, 2) == 0 ? " AND " : " OR ";
    if (pick(r, 10) == 0)
        buf_puts(out, "NOT ");
    for (unsigned i = 0; i < n; i++) {
        buf_puts(out, i > 0 ? between : "(");
        buf_puts(out, "(");
        random_clause(r, depth - 1, out);
        buf_puts(out, ")");
    }
    buf_puts(out, ")");
}

#endif
