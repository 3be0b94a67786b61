/* Random clauses over the table of test_where_postgres.c, from a grammar of everything that is
 * resolved: most make sense to Postgres. Included there once. */
#ifndef COULOMB_TESTS_SQL_RANDOM_CLAUSE_H
#define COULOMB_TESTS_SQL_RANDOM_CLAUSE_H

#include "base/buf.h"

static uint64_t random_state = 7;

static uint32_t below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

static const char *pick(const char *const *list, size_t count)
{
    return list[below((uint32_t)count)];
}

#define PICK(...)                                                                        \
    pick((const char *const[]){__VA_ARGS__},                                             \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

// NOLINTBEGIN(misc-no-recursion): depth counts down

typedef void put_fn(struct buf *out, unsigned depth);

static put_fn put_boolean;

/* One of a kind by way of what takes several of it. */
static void put_choice(struct buf *out, unsigned depth, put_fn *operand)
{
    switch (below(4)) {
    case 0:
        buf_puts(out, "CASE WHEN ");
        put_boolean(out, depth - 1);
        buf_puts(out, " THEN ");
        operand(out, depth - 1);
        if (below(3) > 0) {
            buf_puts(out, " ELSE ");
            operand(out, depth - 1);
        }
        buf_puts(out, " END");
        break;
    case 1:
        buf_printf(out, "CASE %s WHEN ", PICK("i4", "i8", "j4"));
        buf_puts(out, PICK("1", "i2", "NULL", "-1", "3000000000"));
        buf_puts(out, " THEN ");
        operand(out, depth - 1);
        buf_puts(out, " WHEN 2 THEN ");
        operand(out, depth - 1);
        buf_puts(out, " ELSE ");
        operand(out, depth - 1);
        buf_puts(out, " END");
        break;
    default:
        buf_printf(out, "%s(", PICK("coalesce", "greatest", "least", "nullif"));
        operand(out, depth - 1);
        buf_puts(out, ", ");
        operand(out, depth - 1);
        buf_putc(out, ')');
        break;
    }
}

static void put_int(struct buf *out, unsigned depth)
{
    uint32_t kind = below(depth > 0 ? 14 : 4);

    if (kind < 2) {
        buf_puts(out, PICK("i2", "i4", "i8", "j4"));
    } else if (kind < 4) {
        buf_puts(out, PICK("0", "1", "2", "-1", "3", "NULL::int4", "2147483647", "'7'",
                           "1::int2", "-32768", "3000000000", "'2'::int8"));
    } else if (kind < 8) {
        buf_putc(out, '(');
        put_int(out, depth - 1);
        buf_printf(out, " %s ", PICK("+", "-", "*", "/", "%", "&", "|", "#"));
        put_int(out, depth - 1);
        buf_putc(out, ')');
    } else if (kind == 8) {
        buf_puts(out, PICK("- ", "@ ", "~ ", "+ "));
        put_int(out, depth - 1);
    } else if (kind == 9) {
        buf_printf(out, "%s(", PICK("coalesce", "greatest", "least"));
        put_int(out, depth - 1);
        buf_puts(out, ", ");
        put_int(out, depth - 1);
        buf_putc(out, ')');
    } else if (kind == 10) {
        buf_puts(out, "CASE WHEN ");
        put_boolean(out, depth - 1);
        buf_puts(out, " THEN ");
        put_int(out, depth - 1);
        buf_puts(out, " ELSE ");
        put_int(out, depth - 1);
        buf_puts(out, " END");
    } else if (kind == 11) {
        buf_puts(out, "length(t)");
    } else if (kind == 12) {
        buf_puts(out, "nullif(");
        put_int(out, depth - 1);
        buf_puts(out, ", ");
        put_int(out, depth - 1);
        buf_putc(out, ')');
    } else {
        buf_putc(out, '(');
        put_int(out, depth - 1);
        buf_printf(out, ")::%s", PICK("int8", "int4", "int2"));
    }
}

static void put_number(struct buf *out, unsigned depth)
{
    switch (below(5)) {
    case 0:
        buf_puts(out, PICK("f4", "f8", "n", "n2"));
        break;
    case 1:
        buf_puts(out, PICK("0.5", "2.50", "1e3", "'NaN'::float8", "'Infinity'::float8",
                           "-1.5", "'0.1'::float4", "1.0", "'NaN'::numeric"));
        break;
    default:
        put_int(out, depth);
        break;
    }
}

static void put_text(struct buf *out, unsigned depth)
{
    switch (below(depth > 0 ? 9 : 4)) {
    case 0:
    case 1:
        buf_puts(out, PICK("t", "tc", "vc", "ch", "nm"));
        break;
    case 2:
    case 3:
        buf_puts(out,
                 PICK("'a'", "''", "'B'", "'a  '", "'100%'", "'\xc3\xa9'", "NULL::text",
                      "'a\\b'", "'it''s'", "'a'::bpchar", "'ab'::varchar(1)"));
        break;
    case 4:
        buf_putc(out, '(');
        put_text(out, depth - 1);
        buf_puts(out, " || ");
        put_text(out, depth - 1);
        buf_putc(out, ')');
        break;
    case 5:
        buf_puts(out, "coalesce(");
        put_text(out, depth - 1);
        buf_puts(out, ", ");
        put_text(out, depth - 1);
        buf_putc(out, ')');
        break;
    case 6:
        put_int(out, depth - 1);
        buf_puts(out, "::text");
        break;
    case 7:
        buf_puts(out, PICK("lower(t COLLATE \"C\")", "upper(tc)", "concat(t, vc, ch)",
                           "e::text", "b::text", "u::text", "f8::text", "n::text",
                           "d::text", "ts::text", "iv::text", "j::text"));
        break;
    default:
        put_text(out, depth - 1);
        buf_printf(out, "::%s",
                   PICK("text", "varchar", "bpchar", "varchar(2)", "char(3)"));
        break;
    }
}

static void put_interval(struct buf *out, unsigned depth)
{
    if (depth > 0 && below(3) == 0) {
        buf_puts(out, PICK("(ts - timestamp '2024-01-01')", "(tz - tz)", "(tm - tm)",
                           "justify_hours(iv)", "(- iv)", "(iv * 2)", "justify_days(iv)",
                           "justify_interval(iv)", "(iv / 3)", "(iv * 0.5)", "(iv + iv)",
                           "(tm::interval)", "(iv * f8)"));
        return;
    }
    buf_puts(out,
             PICK("iv", "iv", "interval '1 day'", "interval '-1 month 2 days 03:04:05'",
                  "'PT24H'::interval", "NULL::interval", "'30 days'"));
}

static void put_time(struct buf *out, unsigned depth)
{
    if (depth > 0 && below(3) == 0) {
        buf_putc(out, '(');
        put_time(out, depth - 1);
        buf_puts(out, PICK(" + ", " - "));
        put_interval(out, 0);
        buf_putc(out, ')');
        return;
    }
    buf_puts(out,
             PICK("ts", "d", "tz", "tm", "date '2024-01-31'", "'2024-02-29 12:00'",
                  "timestamp 'infinity'", "'2024-01-31T10:00:00Z'::timestamptz",
                  "time '10:00'", "(d + 1)", "(ts AT TIME ZONE 'UTC')", "d::timestamp",
                  "ts::date", "'-infinity'::date", "NULL::date", "'epoch'", "(d - 30)",
                  "(d + tm)", "ts::time", "(d + i2)", "'24:00'::time",
                  "date_trunc('month', ts)", "date_trunc('week', ts)",
                  "date_trunc('hour', tz)", "'4713-01-01 BC'::date",
                  "'294276-12-31 23:59:59.999999'::timestamp"));
}

static void put_array(struct buf *out, unsigned depth)
{
    switch (below(depth > 0 ? 6 : 3)) {
    case 0:
        buf_puts(out, PICK("ia", "ia", "ta", "na", "fa", "da"));
        break;
    case 1:
        buf_puts(out,
                 PICK("'{1,2}'", "'{}'::int4[]", "ARRAY[1,NULL,3]", "'{{1,2},{3,4}}'",
                      "ARRAY['a','b']", "'{a,\"a b\",NULL}'::text[]",
                      "'[0:1]={1,2}'::int4[]", "ARRAY[i4, j4]", "ARRAY[t, tc]",
                      "ARRAY[n, n2]", "'{1.0,NaN}'::numeric[]",
                      "'{NaN,-0,Infinity}'::float8[]", "ARRAY[d, d + 1]",
                      "'{2024-01-31,infinity}'::date[]", "ia::int8[]"));
        break;
    case 2:
        buf_puts(out, PICK("ia[1:2]", "ia[:1]", "ta[2:]", "(ARRAY[i4, 1])[1:1]",
                           "ia[1][1:2]"));
        break;
    default:
        buf_putc(out, '(');
        put_array(out, depth - 1);
        buf_puts(out, " || ");
        put_array(out, depth - 1);
        buf_putc(out, ')');
        break;
    }
}

static void put_array_test(struct buf *out, unsigned depth)
{
    switch (below(5)) {
    case 0:
        buf_puts(out, PICK("i4", "1", "ia[1]", "3", "i8", "NULL", "ia[i2]", "ia[1][2]"));
        buf_printf(out, " %s %s(", PICK("=", "<>", "<", ">="), PICK("ANY", "ALL"));
        put_array(out, depth);
        buf_putc(out, ')');
        break;
    case 1:
        buf_puts(out,
                 PICK("array_ndims(ia) = 1", "ta[1] = 'a'", "cardinality(ta) > 1",
                      "'a' = ANY(ta)", "ia::text = '{1,2}'", "array_length(ia, 1) = i4",
                      "e = ANY('{x,y}')", "i4 = ANY('{1,2,NULL}')", "ia IS NULL",
                      "n = ANY(na)", "f8 = ANY(fa)", "d <> ALL(da)", "na @> '{1.0}'",
                      "fa && '{NaN}'", "da @> ARRAY[d]", "ia::numeric[] = na",
                      "na::text = '{1.0}'", "array_cat(ia, '{7}') = ia",
                      "array_prepend(1, ia) @> ia", "array_upper(ia, 1) = 2",
                      "cardinality(ia) = array_length(ia, 1)", "na < ARRAY[n2]",
                      "u::text = ANY(ta)", "1 < ANY(na)", "ia::text[] = ta",
                      "ia::int8[] @> ARRAY[3::int8]"));
        break;
    default:
        put_array(out, depth);
        buf_printf(out, " %s ", PICK("=", "<>", "@>", "<@", "&&", "<", "="));
        put_array(out, depth);
        break;
    }
}

static void put_json_test(struct buf *out)
{
    buf_puts(out, PICK("j", "j", "(j -> 'a')", "(j -> 0)", "(j #> '{a,b}')", "(j -> -1)",
                       "(j -> t)", "(j -> i4)", "(j #> ta)", "(j -> 'a' -> 'b')",
                       "'{\"a\":1}'::jsonb", "t::jsonb"));
    switch (below(5)) {
    case 0:
        buf_printf(out, " ->> %s",
                   PICK("'a' = '1'", "'a' IS NULL", "0 LIKE '%1%'", "'b' = t",
                        "'' IS NOT NULL", "-1 = 'null'"));
        break;
    case 1:
        buf_printf(out, " %s",
                   PICK("? 'a'", "? t", "? 'b'", "?| '{a,b}'", "?& '{a,b}'", "?| ta",
                        "#>> '{a,b,0}' = '1'", "#>> '{}' = t", "IS NULL"));
        break;
    default:
        buf_printf(out, " %s ", PICK("=", "@>", "<@", "<>", "<", ">="));
        buf_puts(out, PICK("'{\"a\": 1}'", "'{}'", "'[1]'", "j", "'null'", "'1.0'",
                           "'{\"a\": {\"b\": [1, 2]}}'", "'[]'", "'\"x\"'",
                           "'[1, \"1\", null, 1]'", "(j -> 'a')", "'1e2'"));
        break;
    }
}

static const char *date_field(void)
{
    return PICK("year", "month", "day", "hour", "minute", "second", "dow", "doy",
                "isodow", "week", "isoyear", "quarter", "decade", "century", "millennium",
                "epoch", "milliseconds", "microseconds", "julian");
}

static void put_date_test(struct buf *out)
{
    const char *of = PICK("ts", "d", "tz", "tm", "ts", "iv");

    switch (below(4)) {
    case 0:
        buf_printf(out, "date_trunc('%s', %s) %s %s", date_field(),
                   PICK("ts", "ts", "tz", "iv"), PICK("=", "<", ">="),
                   PICK("'2024-01-01'", "ts", "tz", "iv", "timestamp '2024-02-29'"));
        break;
    case 1:
        buf_printf(out, "date_part('%s', %s) %s %s", date_field(), of,
                   PICK("=", "<", ">"), PICK("1", "2024", "4", "0.5", "f8", "86400"));
        break;
    default:
        buf_printf(out, "extract(%s FROM %s) %s %s", date_field(), of,
                   PICK("=", "<", ">"), PICK("1", "2024", "4", "29.5", "n", "59.5"));
        break;
    }
}

static const char *any_column(void)
{
    return PICK("b", "i2", "i4", "j4", "i8", "f4", "f8", "n", "n2", "t", "tc", "vc", "ch",
                "nm", "u", "e", "by", "d", "tm", "ts", "tz", "iv", "ia", "ta", "na", "fa",
                "da", "j");
}

static const char *any_type(void)
{
    return PICK("bool", "int2", "int4", "int8", "float4", "float8", "numeric",
                "numeric(8,2)", "text", "varchar", "varchar(3)", "bpchar", "char(2)",
                "uuid", "date", "time", "timestamp", "timestamptz", "interval", "bytea",
                "jsonb", "int4[]", "text[]", "numeric[]", "timestamp(0)", "time(1)");
}

static void put_cast_test(struct buf *out)
{
    const char *type = any_type();

    switch (below(3)) {
    case 0:
        buf_printf(out, "%s::%s IS %sNULL", any_column(), type, PICK("", "NOT "));
        break;
    case 1:
        buf_printf(out, "%s::%s = %s", any_column(), type, any_column());
        break;
    default:
        buf_printf(out, "%s::%s %s %s::%s", any_column(), type, PICK("=", "<>", "<"),
                   any_column(), type);
        break;
    }
}

/* Quoted text of pieces. */
static void put_pieces(struct buf *out, const char *const *pieces, size_t count,
                       uint32_t most)
{
    buf_putc(out, '\'');
    for (uint32_t n = below(most + 1); n > 0; n--)
        buf_puts(out, pick(pieces, count));
    buf_putc(out, '\'');
}

#define PUT_PIECES(out, most, ...)                                                       \
    put_pieces((out), (const char *const[]){__VA_ARGS__},                                \
               sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *),        \
               (most))

static void put_like_test(struct buf *out, unsigned depth)
{
    put_text(out, depth);
    if (below(4) == 0)
        buf_puts(out, " COLLATE \"C\"");
    buf_printf(out, " %s ", PICK("LIKE", "NOT LIKE", "LIKE", "ILIKE", "NOT ILIKE"));
    if (below(6) == 0)
        put_text(out, 0);
    else
        PUT_PIECES(out, 5, "a", "b", "B", "%", "_", "\\%", "\\_", "\\", "!", "!%",
                   "\xc3\xa9", "''", "1", "0", " ", "%a%", "\\\\");
    if (below(3) == 0)
        buf_printf(out, " ESCAPE %s",
                   PICK("'!'", "''", "'a'", "'\xc3\xa9'", "'\\'", "'!!'"));
}

static void put_regex_test(struct buf *out)
{
    buf_puts(out, PICK("tc", "t COLLATE \"C\"", "nm", "vc COLLATE \"C\"",
                       "ch COLLATE \"C\"", "lower(tc)", "t"));
    buf_printf(out, " %s ", PICK("~", "!~", "~*", "!~*"));
    PUT_PIECES(out, 6, "a", "b", "B", ".", "[ab]", "[^a]", "^", "$", "*", "+", "?",
               "{1,2}", "{2}", "|", "(", ")", "(a|b)", "\\d", "\\w", "\\s", "\\.",
               "[[:alpha:]]", "[0-9]", "x", " ", "\xc3\xa9", "(?:ab)", "a*?", "\\y",
               "(?=a)", "%");
}

static void put_function_test(struct buf *out)
{
    buf_puts(
        out,
        PICK("extract(year FROM ts) = 2024", "extract(month FROM d) > 1",
             "date_trunc('month', ts) = '2024-01-01'", "date_part('dow', d) = 4",
             "extract(epoch FROM iv) >= 86400", "t ~ '^a'", "vc !~ 'b'", "abs(i4) = 1",
             "t ~* 'A'", "round(n2, 1) = 2.5", "round(n) = 1", "mod(i4, 2) = 1",
             "floor(f8) = 0", "ceil(n2) = 3", "char_length(vc) > 1", "sqrt(f8) > 1",
             "(i4, t) = (1, 'a')", "(i4, b) <> (2, true)", "sign(n) = -1",
             "octet_length(by) = 1", "starts_with(t, 'a')", "tm > '10:00:00'",
             "int4(b) = 1", "text(i4) = '1'", "power(f8, 2) = 1", "|/ f8 = 1",
             "n % 2 = 1", "d - date '2024-01-01' = 30", "array_append(ia, 9) @> '{9}'",
             "'x' = t || ch", "ia[array_lower(ia, 1)] = 1", "n ^ 2 = 1",
             "length(t) = ANY(ia)", "e::text = ANY(ta)", "b IN (true, NULL)", "f4 = 0.1",
             "f4 = '0.1'", "f4 IN (0.1, 3)", "i8 IN (1.0, 3)", "n2 IN ('2.5', 0)",
             "vc IN ('a', 'b')", "ch IN ('a', 'ab ')",
             "ts IN ('2024-01-31 10:00', 'infinity')", "iv IN ('1 day', '30 days')"));
}

static void put_comparison(struct buf *out, unsigned depth)
{
    put_fn *operand = below(3) == 0   ? put_text
                      : below(3) == 0 ? put_time
                      : below(3) == 0 ? put_interval
                      : below(2) == 0 ? put_number
                                      : put_int;

    if (below(6) == 0) {
        put_array_test(out, depth);
        return;
    }
    switch (below(24)) {
    case 0:
    case 1:
        put_json_test(out);
        return;
    case 2:
    case 3:
        put_function_test(out);
        return;
    case 4:
    case 5:
        put_date_test(out);
        return;
    case 6:
        put_cast_test(out);
        return;
    case 7:
    case 8:
        put_like_test(out, depth);
        return;
    case 9:
    case 10:
        put_regex_test(out);
        return;
    case 11:
        if (depth > 0) {
            put_choice(out, depth, operand);
            buf_printf(out, " %s ", PICK("=", "<>", "<", ">="));
            operand(out, depth - 1);
            return;
        }
        break;
    default:
        break;
    }
    switch (below(9)) {
    case 0:
        operand(out, depth);
        buf_printf(out, " %s (", PICK("IN", "NOT IN"));
        for (uint32_t i = 0, n = 1 + below(4); i < n; i++) {
            buf_puts(out, i > 0 ? ", " : "");
            operand(out, below(2) ? 0 : depth);
        }
        buf_putc(out, ')');
        break;
    case 1:
        operand(out, depth);
        buf_printf(
            out, " %s ",
            PICK("BETWEEN", "NOT BETWEEN", "BETWEEN SYMMETRIC", "NOT BETWEEN SYMMETRIC"));
        operand(out, 0);
        buf_puts(out, " AND ");
        operand(out, 0);
        break;
    case 2:
        operand(out, depth);
        buf_puts(out, PICK(" IS NULL", " IS NOT NULL"));
        break;
    case 3:
        operand(out, depth);
        buf_puts(out, PICK(" IS DISTINCT FROM ", " IS NOT DISTINCT FROM "));
        operand(out, depth);
        break;
    case 4:
        put_text(out, depth);
        buf_printf(out, " %s ", PICK("~~", "!~~", "LIKE"));
        buf_puts(out,
                 PICK("'a%'", "'%a%'", "'_'", "'100\\%'", "''", "'a_b'", "'%'", "vc"));
        break;
    case 5:
        operand(out, 0);
        buf_printf(out, " %s %s(ARRAY[", PICK("=", "<>", "="), PICK("ANY", "ALL"));
        operand(out, 0);
        buf_puts(out, ", ");
        operand(out, 0);
        buf_puts(out, "])");
        break;
    default:
        operand(out, depth);
        buf_printf(out, " %s ", PICK("=", "<>", "<", "<=", ">", ">=", "=", "="));
        operand(out, depth);
        if (operand == put_text && below(3) == 0)
            buf_puts(out, " COLLATE \"C\"");
        break;
    }
}

static void put_boolean(struct buf *out, unsigned depth)
{
    uint32_t kind = below(depth > 0 ? 12 : 5);

    buf_putc(out, '(');
    if (kind < 3) {
        put_comparison(out, depth > 0 ? depth - 1 : 0);
    } else if (kind == 3) {
        buf_puts(out, PICK("b", "b", "true", "false", "NULL::bool", "e = 'x'", "e <> 'y'",
                           "u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "b = 't'",
                           "e IN ('x', 'y')", "by = '\\x01'"));
    } else if (kind == 4) {
        buf_puts(out, PICK("i4 = 1", "t = 'a'", "i8 > 0", "1 < i4", "'a' = vc"));
    } else if (kind < 10) {
        put_boolean(out, depth - 1);
        for (uint32_t i = 0, n = 1 + below(2); i < n; i++) {
            buf_puts(out, kind < 8 ? " AND " : " OR ");
            put_boolean(out, depth - 1);
        }
    } else if (kind == 10) {
        buf_puts(out, "NOT ");
        put_boolean(out, depth - 1);
    } else {
        put_boolean(out, depth - 1);
        buf_printf(out, " IS %s%s", PICK("", "NOT "), PICK("TRUE", "FALSE", "UNKNOWN"));
    }
    buf_putc(out, ')');
}

// NOLINTEND(misc-no-recursion)

#endif
