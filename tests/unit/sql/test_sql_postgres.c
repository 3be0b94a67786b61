/* Everything that sql/ computes, beside a real Postgres: the input and output of each type,
 * and each row of the catalog over values of its argument types. What we answer has to be
 * what it answers, errors with their texts; what we refuse (ERR_UNSUPPORTED) is counted.
 *
 * SQL_SEED=n repeats a run, SQL_ROUNDS=n multiplies it, SQL_URL names a running server. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <libpq-fe.h>

#include "base/assert.h"
#include "sql/types.h"
#include "support/pgcluster.h"
#include "unit/sql/samples.h"

#define BATCH 4000

static PGconn *connection;
static uint64_t random_state = 1;
static unsigned rounds = 1;
static unsigned wrong;
static bool other_version;

static uint32_t below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

/* ---- a batch of questions ---- */

struct question {
    char *sql;
    char *ours; /* "=value", "N" for NULL, "!message", "?reason" for a refusal */
};

static struct question questions[BATCH];
static size_t asked;
static unsigned long compared;
static unsigned long refused;

static PGresult *run(const char *sql, const char *param)
{
    const char *const params[] = {param};
    PGresult *result = PQexecParams(connection, sql, param ? 1 : 0, NULL,
                                    param ? params : NULL, NULL, NULL, 0);

    if (PQresultStatus(result) != PGRES_TUPLES_OK &&
        PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    return result;
}

/* A message of ours is cut where a struct err, or the text shown in it, ends. */
static bool same_answer(const char *ours, const char *theirs)
{
    size_t len = strlen(ours);

    return strcmp(ours, theirs) == 0 ||
           (ours[0] == '!' && len > 400 && strncmp(ours, theirs, 380) == 0);
}

static void judge(const struct question *q, const char *theirs)
{
    if (q->ours[0] == '?') {
        refused++;
        if (getenv("SQL_SHOW_REFUSED"))
            print_message("refused %s: %s, Postgres %s\n", q->sql, q->ours, theirs);
    } else if (!same_answer(q->ours, theirs)) {
        if (++wrong <= 60)
            print_message("%s: %s instead of %s\n", q->sql, q->ours, theirs);
    }
    compared++;
}

static void ask(void)
{
    struct buf array;
    PGresult *result;

    if (asked == 0)
        return;
    buf_init(&array, 1u << 30);
    buf_putc(&array, '{');
    for (size_t i = 0; i < asked; i++) {
        buf_puts(&array, i > 0 ? ",\"" : "\"");
        for (const char *c = questions[i].sql; *c; c++) {
            if (*c == '"' || *c == '\\')
                buf_putc(&array, '\\');
            buf_putc(&array, *c);
        }
        buf_putc(&array, '"');
    }
    buf_putc(&array, '}');
    buf_putc(&array, '\0');
    assert_int_equal(array.failed, 0);
    result = run(
        "SELECT answer(q) FROM unnest($1::text[]) WITH ORDINALITY AS u(q, i) ORDER BY i",
        array.ptr);
    assert_int_equal(PQntuples(result), (int)asked);
    for (size_t i = 0; i < asked; i++) {
        judge(&questions[i], PQgetvalue(result, (int)i, 0));
        free(questions[i].sql);
        free(questions[i].ours);
    }
    PQclear(result);
    buf_fini(&array);
    asked = 0;
}

static void question(struct buf *sql, struct buf *ours)
{
    questions[asked].sql = buf_take(sql, NULL);
    questions[asked].ours = buf_take(ours, NULL);
    assert_non_null(questions[asked].sql);
    assert_non_null(questions[asked].ours);
    if (++asked == BATCH)
        ask();
}

static void put_error(struct buf *ours, const struct err *err)
{
    buf_putc(ours, err->code == ERR_UNSUPPORTED ? '?' : '!');
    buf_puts(ours, err->message);
}

static void put_literal(struct buf *sql, const char *text, struct sql_type type)
{
    buf_puts(sql, "E'");
    for (const char *c = text; *c; c++) {
        if (*c == '\'' || *c == '\\')
            buf_putc(sql, '\\');
        buf_putc(sql, *c);
    }
    buf_puts(sql, "'::");
    if (type.base == SQL_ENUM)
        buf_puts(sql, type.array ? "mood[]" : "mood");
    else
        sql_type_print(type, sql);
}

/* ---- input and output ---- */

static void ask_text(struct sql_type type, const char *text)
{
    /* A copy of its exact length, for the sanitizers. */
    char *copy = malloc(strlen(text) + (text[0] == '\0'));
    struct arena arena;
    struct sql_value v;
    struct buf sql;
    struct buf ours;
    struct err err = {.code = 0};

    assert_non_null(copy);
    memcpy(copy, text, strlen(text));
    arena_init(&arena, 1u << 22);
    buf_init(&sql, 1u << 22);
    buf_init(&ours, 1u << 22);
    put_literal(&sql, text, type);
    if (sql_value_in(type, slice_make(copy, strlen(text)), &arena, &v, &err) != 0) {
        put_error(&ours, &err);
    } else {
        buf_putc(&ours, '=');
        sql_value_out(type, &v, &ours);
    }
    question(&sql, &ours);
    arena_fini(&arena);
    free(copy);
}

static struct sql_type sample_type(enum sql_base base, bool array)
{
    return (struct sql_type){.base = base, .array = array, .typmod = -1};
}

/* One byte of the text changed, left out or doubled. */
static void mutate(const char *text, char *to, size_t size)
{
    static const char bytes[] = "0123456789 -+.:,/eETZ{}\"\\'()xXaAdDmMyY";
    size_t len = strlen(text);
    size_t at = len > 0 ? below((uint32_t)len) : 0;
    char c = bytes[below(sizeof(bytes) - 1)];

    switch (below(3)) {
    case 0:
        snprintf(to, size, "%.*s%c%s", (int)at, text, c, text + (at < len ? at + 1 : at));
        break;
    case 1:
        snprintf(to, size, "%.*s%s", (int)at, text, text + (at < len ? at + 1 : at));
        break;
    default:
        snprintf(to, size, "%.*s%c%s", (int)at, text, c, text + at);
    }
    for (char *p = to; *p; p++) {
        if ((unsigned char)*p >= 0x80)
            *p = 'u'; /* what was cut is no UTF-8 any more */
    }
}

static void ask_texts(struct sql_type type)
{
    char text[SAMPLE_MAX];
    char other[SAMPLE_MAX];

    for (size_t i = 0; sample_fixed(type, i); i++) {
        ask_text(type, sample_fixed(type, i));
        for (unsigned n = 0; n < 12 * rounds; n++) {
            mutate(sample_fixed(type, i), text, sizeof(text));
            ask_text(type, text);
            mutate(text, other, sizeof(other));
            ask_text(type, other);
        }
    }
    for (unsigned n = 0; n < 300 * rounds; n++) {
        sample_random(type, below, text, sizeof(text));
        ask_text(type, text);
    }
    ask();
}

static void report(const char *what)
{
    print_message("%s: %lu compared, %lu refused, %u wrong\n", what, compared, refused,
                  wrong);
    compared = 0;
    refused = 0;
    if (wrong > 0) {
        wrong = 0;
        fail_msg("%s: Postgres answers otherwise", what);
    }
}

static bool wanted(const char *name)
{
    const char *only = getenv("SQL_ONLY");

    return !only || strcmp(only, name) == 0;
}

static void texts_are_read_and_printed_as_postgres_does(void **state)
{
    (void)state;
    if (other_version)
        skip();
    for (int base = SQL_BOOL; base < SQL_OTHER; base++) {
        struct sql_type type = sample_type((enum sql_base)base, false);

        if (base == SQL_ENUM || !wanted(sql_type_name(type)))
            continue; /* which labels there are, only the caller knows */
        ask_texts(type);
        type.array = true;
        ask_texts(type);
    }
    report("input and output");
}

/* ---- operators, functions, casts ---- */

static void sample_any(struct sql_type type, char *text, size_t size)
{
    size_t count = 0;

    while (sample_fixed(type, count))
        count++;
    if (count > 0 && below(4) > 0)
        snprintf(text, size, "%s", sample_fixed(type, below((uint32_t)count)));
    else
        sample_random(type, below, text, size);
}

/* A text that the type takes, if there is luck; the value goes to *v. */
static bool sample_value(struct sql_type type, char *text, size_t size,
                         struct arena *arena, struct sql_value *v)
{
    for (int attempt = 0; attempt < 20; attempt++) {
        struct err err;
        char *copy;

        if (attempt < 8)
            sample_any(type, text, size);
        else
            sample_random(type, below, text, size);
        copy = arena_dup(arena, slice_of(text));
        if (copy && sql_value_in(type, slice_of(copy), arena, v, &err) == 0)
            return true;
    }
    return false;
}

static const enum sql_base elements[] = {
    SQL_INT4, SQL_TEXT, SQL_BOOL, SQL_FLOAT8,   SQL_NUMERIC,
    SQL_DATE, SQL_INT8, SQL_UUID, SQL_INTERVAL, SQL_TIMESTAMPTZ};

static void actual_types(const struct sql_function *f, size_t count,
                         struct sql_type *types)
{
    enum sql_base element = elements[below(sizeof(elements) / sizeof(elements[0]))];

    for (size_t i = 0; i < count; i++) {
        types[i] = f->args[i < f->count ? i : f->count - 1];
        if (types[i].base == SQL_UNKNOWN)
            types[i] = sample_type(element, types[i].array);
    }
}

/* A text cast to a type is more often right when it is one of that type's. */
static void text_for_cast(const struct sql_function *f, char *text, size_t size,
                          struct sql_value *v, struct arena *arena)
{
    enum sql_base from = f->args[0].base;
    char *copy;

    if (f->name || f->args[0].array || below(4) == 0 ||
        (from != SQL_TEXT && from != SQL_VARCHAR && from != SQL_BPCHAR))
        return;
    sample_any(f->result, text, size);
    copy = arena_dup(arena, slice_of(text));
    if (copy)
        v->s = slice_of(copy);
}

/* Nearly no text is the name of a time zone or of a unit. */
static void text_for_function(const struct sql_function *f, char *text, size_t size,
                              struct sql_value *v, struct arena *arena)
{
    static const char *const zone_names[] = {
        "UTC", "utc", "EST", "CET", "+02", "America/New_York", "x", "Z", "GMT", ""};
    static const char *const units[] = {
        "year",         "month", "day",    "hour",    "minute",     "second",
        "quarter",      "week",  "decade", "century", "millennium", "milliseconds",
        "microseconds", "epoch", "dow",    "isodow",  "doy",        "isoyear",
        "julian",       "YEAR",  "x",      "",        "timezone",   "years"};
    bool zone = f->name && strcmp(f->name, "timezone") == 0;
    bool unit =
        f->name && (strcmp(f->name, "date_trunc") == 0 ||
                    strcmp(f->name, "date_part") == 0 || strcmp(f->name, "extract") == 0);
    char *copy;

    if (f->args[0].base != SQL_TEXT || (!zone && !unit))
        return;
    snprintf(text, size, "%s",
             zone ? zone_names[below(sizeof(zone_names) / sizeof(zone_names[0]))]
                  : units[below(sizeof(units) / sizeof(units[0]))]);
    copy = arena_dup(arena, slice_of(text));
    if (copy)
        v->s = slice_of(copy);
}

static void small_exponent(char *text, size_t size, struct sql_type type,
                           struct sql_value *v, struct arena *arena)
{
    snprintf(text, size, "%u%s", below(12), below(4) ? "" : ".00");
    assert_int_equal(sql_value_in(type, slice_of(text), arena, v, NULL), 0);
}

static void regex_pattern(char *text, size_t size, struct sql_value *v,
                          struct arena *arena)
{
    static const char *const pieces[] = {
        "a",     "b",       "B",     ".",    "x",      "[ab]",        "[^a]",
        "[a-z]", "\\d",     "\\w",   "\\s",  "*",      "+",           "?",
        "{2}",   "{1,2}",   "{0,}",  "|",    "(a",     ")",           "(",
        "^",     "$",       "%",     "_",    " ",      "[[:alpha:]]", "[^\\d]",
        "\\.",   "(?:a|b)", "(ab)*", "é",    "]",      "}",           "[]a]",
        "[a-]",  "[%_-]",   "\\n",   "\\S",  "\\W",    "*?",          "[",
        "{",     "\\b",     "(?=a)", "line", "[A-Z]+", "c$",          "^a"};
    size_t len = 0;
    char *copy;

    for (uint32_t i = 0, count = 1 + below(6); i < count; i++)
        len += (size_t)snprintf(text + len, size - len, "%s",
                                pieces[below(sizeof(pieces) / sizeof(pieces[0]))]);
    copy = arena_dup(arena, slice_of(text));
    if (copy)
        v->s = slice_of(copy);
}

static void put_call(struct buf *sql, const struct sql_function *f, size_t count,
                     char texts[][SAMPLE_MAX], const struct sql_value *args,
                     const struct sql_type *types)
{
    if (f->kind == SQL_OPERATOR && count == 1)
        buf_printf(sql, "%s (", f->name);
    else if (f->kind == SQL_FUNCTION)
        buf_printf(sql, "pg_catalog.\"%s\"(", f->name);
    else
        buf_putc(sql, '(');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_printf(sql, f->kind == SQL_OPERATOR ? " %s " : ", ",
                       f->name ? f->name : "");
        if (args[i].null) {
            buf_puts(sql, "NULL::");
            sql_type_print(types[i], sql);
        } else {
            put_literal(sql, texts[i], types[i]);
        }
    }
    buf_putc(sql, ')');
    if (!f->name) {
        buf_puts(sql, "::");
        sql_type_print(f->result, sql);
    }
}

static struct sql_type result_type(const struct sql_function *f,
                                   const struct sql_type *types, size_t count)
{
    for (size_t i = 0; f->result.base == SQL_UNKNOWN && i < count; i++) {
        if (f->args[i].base == SQL_UNKNOWN && f->args[i].array) {
            struct sql_type type = types[i];

            type.array = f->result.array;
            return type;
        }
    }
    return f->result;
}

static void put_answer(struct buf *ours, const struct sql_function *f,
                       const struct sql_call *call, const struct sql_value *v)
{
    if (v->null) {
        buf_putc(ours, 'N');
        return;
    }
    buf_putc(ours, '=');
    sql_value_out(result_type(f, call->types, call->count), v, ours);
}

static void ask_call(const struct sql_function *f)
{
    size_t count = f->variadic ? 1 + below(4) : f->count;
    char texts[SQL_ARGS_MAX][SAMPLE_MAX];
    struct sql_type types[SQL_ARGS_MAX];
    struct sql_value args[SQL_ARGS_MAX];
    struct sql_value v = {.null = false};
    struct arena arena;
    struct err err = {.code = 0};
    struct sql_call call = {&arena, &err, types, count, NULL};
    struct buf sql;
    struct buf ours;
    bool null = false;

    arena_init(&arena, 1u << 22);
    buf_init(&sql, 1u << 22);
    buf_init(&ours, 1u << 22);
    actual_types(f, count, types);
    for (size_t i = 0; i < count; i++) {
        if (!sample_value(types[i], texts[i], sizeof(texts[i]), &arena, &args[i]))
            fail_msg("no value of type %s", sql_type_name(types[i]));
        if (!f->strict && below(5) == 0)
            args[i].null = true;
        null = null || args[i].null;
    }
    if (f->kind != SQL_FUNCTION && f->kind != SQL_OPERATOR)
        text_for_cast(f, texts[0], sizeof(texts[0]), &args[0], &arena);
    text_for_function(f, texts[0], sizeof(texts[0]), &args[0], &arena);
    if (f->fn && f->name && (strcmp(f->name, "^") == 0 || f->name[0] == 'p') && below(2))
        small_exponent(texts[1], sizeof(texts[1]), types[1], &args[1], &arena);
    if (f->kind == SQL_OPERATOR && count == 2 && strchr(f->name, '~') &&
        !strstr(f->name, "~~") && below(8) > 0)
        regex_pattern(texts[1], sizeof(texts[1]), &args[1], &arena);
    put_call(&sql, f, count, texts, args, types);
    if (f->fn(&call, args, &v) != SQL_FINE)
        put_error(&ours, &err);
    else
        put_answer(&ours, f, &call, &v);
    question(&sql, &ours);
    arena_fini(&arena);
}

static void the_catalog_answers_as_postgres_does(void **state)
{
    const char *only = getenv("SQL_ONLY");
    size_t count;
    const struct sql_function *functions = sql_functions(&count);

    (void)state;
    if (other_version)
        skip();
    for (size_t i = 0; i < count; i++) {
        if (only && (!functions[i].name || strcmp(functions[i].name, only) != 0) &&
            strcmp(sql_type_name(functions[i].args[0]), only) != 0)
            continue;
        for (unsigned n = 0; n < 40 * rounds; n++)
            ask_call(&functions[i]);
    }
    ask();
    report("catalog");
}

/* ---- setting up ---- */

static struct pgcluster *cluster;

static int set_up(void **state)
{
    const char *url = getenv("SQL_URL");

    (void)state;
    if (getenv("SQL_SEED"))
        random_state = strtoull(getenv("SQL_SEED"), NULL, 10);
    if (getenv("SQL_ROUNDS"))
        rounds = (unsigned)strtoul(getenv("SQL_ROUNDS"), NULL, 10);
    if (!url) {
        cluster = pgcluster_new(NULL);
        url = pgcluster_url(cluster);
    }
    connection = PQconnectdb(url);
    if (PQstatus(connection) != CONNECTION_OK) {
        print_message("%s", PQerrorMessage(connection));
        return -1;
    }
    if (PQserverVersion(connection) / 10000 != 15) {
        print_message("only Postgres 15 answers in these words\n");
        other_version = true;
        return 0;
    }
    PQclear(run("DROP TYPE IF EXISTS mood", NULL));
    PQclear(run("CREATE TYPE mood AS ENUM ('x', 'y', 'a b')", NULL));
    PQclear(run("SELECT set_config('datestyle', 'ISO', false), "
                "set_config('timezone', 'UTC', false), "
                "set_config('intervalstyle', 'iso_8601', false), "
                "set_config('bytea_output', 'hex', false), "
                "set_config('extra_float_digits', '1', false), "
                "set_config('plan_cache_mode', 'force_custom_plan', false)",
                NULL));
    PQclear(run(
        "CREATE OR REPLACE FUNCTION answer(q text) RETURNS text LANGUAGE plpgsql AS $$"
        "DECLARE r text; BEGIN "
        "EXECUTE 'SELECT CASE WHEN v IS NULL THEN ''N'' ELSE ''='' || "
        "format(''%s'', v) END FROM (SELECT ' || q || ' AS v) AS s' INTO r; "
        "RETURN r; EXCEPTION WHEN others THEN RETURN '!' || SQLERRM; END $$",
        NULL));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    PQfinish(connection);
    if (cluster)
        pgcluster_free(cluster);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_read_and_printed_as_postgres_does),
        cmocka_unit_test(the_catalog_answers_as_postgres_does),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
