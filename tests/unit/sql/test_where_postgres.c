/* Where-clauses beside a real Postgres: for each clause and row, what the bytecode says has to be
 * what Postgres says, both of the clause as written and of the text that the tree prints; what
 * can't be decided is refused, and counted.
 *
 *   - the 258 recorded clauses (../shared/golden/where-evaluation.json, where it is), over their
 *     rows, also against the ids recorded there
 *   - random clauses over a table of our own, from a grammar of everything that is resolved
 *
 * WHERE_SEED=n repeats a run, WHERE_CLAUSES=n makes more, WHERE_SHOW=1 shows what is refused. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <libpq-fe.h>

#include "sql/expr.h"
#include "support/pgcluster.h"
#include "unit/sql/cond_holds.h"
#include "json/json.h"

#define COLUMNS_MAX   40
#define ROWS_MAX      20
#define GOLDEN        "../shared/golden/where-evaluation.json"
#define GOLDEN_MAX    ((size_t)1 << 20)
#define ARENA_MAX     ((size_t)64 << 20)
#define CLAUSE_LENGTH 2000

static PGconn *connection;
static struct pgcluster *cluster;
static enum sql_collation database = SQL_COLLATION_DETERMINISTIC;
static uint64_t random_state = 7;
static unsigned wrong;
static unsigned long compared;
static unsigned long refused;
static unsigned long accepted;
static unsigned long undecided; /* rows whose values nothing here can read */

static uint32_t below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

static PGresult *run(const char *sql, const char *a, const char *b)
{
    const char *const params[] = {a, b};
    int count = a ? b ? 2 : 1 : 0;
    PGresult *result = PQexecParams(connection, sql, count, NULL, params, NULL, NULL, 0);

    if (PQresultStatus(result) != PGRES_TUPLES_OK &&
        PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    return result;
}

/* ---- a table and its rows, as they are in Postgres ---- */

struct world {
    struct sql_column columns[COLUMNS_MAX];
    struct sql_table table;
    PGresult *catalog, *rows;
    int row_count, row;
};

static const struct slice labels[] = {{"x", 1}, {"y", 1}};
static struct sql_enum w_e = {
    .schema = {"public", 6}, .name = {"w_e", 3}, .labels = labels, .label_count = 2};

static bool get(void *ctx, size_t column, struct slice *text)
{
    struct world *w = ctx;

    if (PQgetisnull(w->rows, w->row, (int)column))
        return false;
    *text = slice_make(PQgetvalue(w->rows, w->row, (int)column),
                       (size_t)PQgetlength(w->rows, w->row, (int)column));
    return true;
}

static void load(struct world *w, const char *table)
{
    char sql[100];

    memset(w, 0, sizeof(*w));
    w->catalog =
        run("SELECT attname, atttypid, atttypmod, attcollation, typtype, typname "
            "FROM pg_attribute JOIN pg_type t ON t.oid = atttypid WHERE attrelid "
            "= $1::regclass AND attnum > 0 ORDER BY attnum",
            table, NULL);
    for (int i = 0; i < PQntuples(w->catalog); i++) {
        struct sql_column *c = &w->columns[i];
        unsigned long oid = strtoul(PQgetvalue(w->catalog, i, 1), NULL, 10);

        c->name = slice_of(PQgetvalue(w->catalog, i, 0));
        c->type = sql_type_of_oid(
            (uint32_t)oid, (int32_t)strtol(PQgetvalue(w->catalog, i, 2), NULL, 10));
        c->collation_oid = (uint32_t)strtoul(PQgetvalue(w->catalog, i, 3), NULL, 10);
        c->collation = c->collation_oid == 950 ? SQL_COLLATION_C : SQL_COLLATION_DEFAULT;
        c->type_name = slice_of(PQgetvalue(w->catalog, i, 5));
        if (*PQgetvalue(w->catalog, i, 4) == 'e') {
            w_e.oid = (uint32_t)oid;
            c->type =
                (struct sql_type){.base = SQL_ENUM, .oid = (uint32_t)oid, .typmod = -1};
            c->enumeration = &w_e;
        }
    }
    w->table = (struct sql_table){w->columns, (size_t)PQntuples(w->catalog), database};
    (void)snprintf(sql, sizeof(sql), "SELECT * FROM %s ORDER BY id", table);
    w->rows = run(sql, NULL, NULL);
    w->row_count = PQntuples(w->rows);
}

static void unload(struct world *w)
{
    PQclear(w->catalog);
    PQclear(w->rows);
}

/* ---- one clause ---- */

static const char *name_of(enum sql_verdict v)
{
    static const char *const names[] = {"f", "t", "n", "!"};

    return names[v];
}

static void complain(const char *clause, const char *printed, const struct world *w,
                     const char *ours, const char *theirs)
{
    if (++wrong <= 40)
        print_message("%s\n  printed %s\n  row %s: %s instead of %s\n", clause, printed,
                      PQgetvalue(w->rows, w->row, 0), ours, theirs);
}

/* A condition that doesn't hold rules the row out; an exact one that holds takes it in. */
static void check_conditions(struct world *w, const char *clause, const char *printed,
                             const struct sql_cond *cond, enum sql_verdict v,
                             struct arena *scratch)
{
    struct sql_value values[COLUMNS_MAX];
    bool holds;

    for (size_t i = 0; i < w->table.count; i++) {
        struct slice text;

        values[i] = (struct sql_value){.null = true};
        if (get(w, i, &text) && w->columns[i].type.base != SQL_OTHER)
            assert_int_equal(
                sql_value_in(w->columns[i].type, text, scratch, &values[i], NULL), 0);
    }
    holds = cond_holds(cond, values);
    if ((!holds && v == SQL_IS_TRUE) || (holds && cond->exact && v != SQL_IS_TRUE))
        complain(clause, printed, w, holds ? "condition holds" : "condition fails",
                 name_of(v));
}

/* Row by row. Of the clause as written an error is not compared: the canonical order may put an
 * operand that raises one behind another that decides, or before it. Of the printed text all is. */
static void compare(struct world *w, const char *table, const char *clause,
                    const char *text, const char *printed,
                    const struct sql_program *program, const struct sql_cond *cond,
                    bool ids[ROWS_MAX])
{
    char sql[200];
    struct sql_value values[COLUMNS_MAX];
    unsigned char states[COLUMNS_MAX];
    struct arena arena;
    struct sql_row row = {
        .table = &w->table, .get = get, .ctx = w, .values = values, .states = states};
    PGresult *theirs;

    (void)snprintf(sql, sizeof(sql), "SELECT verdict($1, $2, id) FROM %s ORDER BY id",
                   table);
    theirs = run(sql, text, table);
    arena_init(&arena, ARENA_MAX);
    row.arena = &arena;
    for (w->row = 0; w->row < w->row_count; w->row++) {
        struct err err = {0};
        const char *answer = PQgetvalue(theirs, w->row, 0);
        enum sql_verdict v;

        arena_reset(&arena);
        sql_row_begin(&row);
        v = sql_program_run(program, &row, &err);
        ids[w->row] = v == SQL_IS_TRUE;
        if (v != SQL_IS_ERROR)
            check_conditions(w, clause, printed, cond, v, &arena);
        compared++;
        if (v == SQL_IS_ERROR &&
            (err.code == ERR_UNSUPPORTED || err.code == ERR_MEMORY)) {
            undecided++;
            continue;
        }
        if (text == clause && (*answer == '!' || v == SQL_IS_ERROR))
            continue;
        if (v == SQL_IS_ERROR ? *answer != '!' : strcmp(answer, name_of(v)) != 0)
            complain(clause, printed, w, v == SQL_IS_ERROR ? err.message : name_of(v),
                     answer);
    }
    arena_fini(&arena);
    PQclear(theirs);
}

/* The tree's text gives the same tree again. */
static void round_trip(struct world *w, const char *clause, const char *printed)
{
    struct arena arena;
    const struct sql_expr *e;
    struct buf again;
    struct err err;

    arena_init(&arena, ARENA_MAX);
    buf_init(&again, ARENA_MAX);
    if (strlen(printed) <= SQL_WHERE_MAX_BYTES) {
        if (sql_where_parse(slice_of(printed), &w->table, NULL, &arena, &e, &err) != 0) {
            if (++wrong <= 40)
                print_message("%s: printed %s: %s\n", clause, printed, err.message);
        } else {
            sql_expr_print(e, &w->table, &again);
            buf_putc(&again, '\0');
            if (strcmp(again.ptr, printed) != 0 && ++wrong <= 40)
                print_message("%s: printed %s, then %s\n", clause, printed, again.ptr);
        }
    }
    buf_fini(&again);
    arena_fini(&arena);
}

/* With what Postgres says for the first row: an error there too, or not. */
static void show_refused(const char *table, const char *clause, const char *why)
{
    PGresult *theirs = run("SELECT verdict($1, $2, 1)", clause, table);

    print_message("refused, Postgres %s: %s: %s\n", PQgetvalue(theirs, 0, 0), clause,
                  why);
    PQclear(theirs);
}

/* False: refused. */
static bool check(struct world *w, const char *table, const char *clause,
                  bool ids[ROWS_MAX])
{
    struct arena arena;
    const struct sql_expr *e;
    struct sql_program *program;
    const struct sql_cond *cond;
    struct buf printed;
    struct err err;
    bool ok;

    arena_init(&arena, ARENA_MAX);
    ok = sql_where_parse(slice_of(clause), &w->table, NULL, &arena, &e, &err) == 0;
    if (ok) {
        accepted++;
        buf_init(&printed, ARENA_MAX);
        sql_expr_print(e, &w->table, &printed);
        buf_putc(&printed, '\0');
        assert_int_equal(printed.failed, 0);
        assert_int_equal(sql_program_new(e, &w->table, &program, &err), 0);
        assert_int_equal(sql_cond_make(e, &w->table, &arena, &cond, &err), 0);
        compare(w, table, clause, clause, printed.ptr, program, cond, ids);
        compare(w, table, clause, printed.ptr, printed.ptr, program, cond, ids);
        round_trip(w, clause, printed.ptr);
        sql_program_free(program);
        buf_fini(&printed);
    } else {
        refused++;
        if (getenv("WHERE_SHOW"))
            show_refused(table, clause, err.message);
    }
    arena_fini(&arena);
    return ok;
}

static void report(const char *what)
{
    print_message("%s: %lu clauses accepted, %lu refused, %lu comparisons, %lu "
                  "undecided, %u wrong\n",
                  what, accepted, refused, compared, undecided, wrong);
    assert_int_equal(wrong, 0);
    accepted = refused = compared = undecided = 0;
}

/* ---- the recorded clauses ---- */

struct golden {
    struct world world;
    char where[CLAUSE_LENGTH];
    char member[100];
    bool ids[ROWS_MAX];
    bool has_ids, in_ids;
    char *create, *rows;
};

static char *read_golden(size_t *len)
{
    FILE *f = fopen(GOLDEN, "rb");
    char *text;

    if (!f)
        return NULL;
    text = malloc(GOLDEN_MAX);
    assert_non_null(text);
    *len = fread(text, 1, GOLDEN_MAX, f);
    (void)fclose(f);
    return text;
}

static void make_table(struct golden *g)
{
    char *sql = malloc(20000);

    assert_non_null(sql);
    (void)snprintf(sql, 20000, "CREATE TABLE w (%s)", g->create);
    PQclear(run(sql, NULL, NULL));
    (void)snprintf(sql, 20000, "INSERT INTO w VALUES %s", g->rows);
    PQclear(run(sql, NULL, NULL));
    free(sql);
    load(&g->world, "w");
}

static void check_recorded(struct golden *g)
{
    bool ids[ROWS_MAX] = {false};
    unsigned long before = undecided;

    if (!check(&g->world, "w", g->where, ids) || !g->has_ids || undecided > before)
        return;
    for (int i = 0; i < g->world.row_count; i++) {
        if (ids[i] != g->ids[i + 1] && ++wrong <= 40)
            print_message("%s: row %d is recorded otherwise\n", g->where, i + 1);
    }
}

static void on_event(struct golden *g, struct json_reader *r, enum json_event event,
                     int *depth)
{
    bool begins = event == JSON_OBJECT_BEGIN || event == JSON_ARRAY_BEGIN;
    bool ends = event == JSON_OBJECT_END || event == JSON_ARRAY_END;
    struct slice text = r->text;

    *depth += begins - ends;
    if (event == JSON_NAME)
        (void)snprintf(g->member, sizeof(g->member), "%.*s", (int)text.len, text.ptr);
    if (event == JSON_STRING && *depth == 1 && strcmp(g->member, "create") == 0)
        g->create = slice_dup(text);
    if (event == JSON_STRING && *depth == 1 && strcmp(g->member, "rows") == 0)
        g->rows = slice_dup(text);
    if (event == JSON_ARRAY_BEGIN && *depth == 2)
        make_table(g);
    if (event == JSON_OBJECT_BEGIN && *depth == 3) {
        g->has_ids = false;
        memset(g->ids, 0, sizeof(g->ids));
    }
    if (event == JSON_STRING && *depth == 3 && strcmp(g->member, "where") == 0)
        (void)snprintf(g->where, sizeof(g->where), "%.*s", (int)text.len, text.ptr);
    if (strcmp(g->member, "postgres_ids") == 0 && (begins || event == JSON_NUMBER)) {
        g->has_ids = true;
        if (event == JSON_NUMBER)
            g->ids[text.ptr[0] - '0'] = true;
    }
    if (event == JSON_OBJECT_END && *depth == 2)
        check_recorded(g);
}

static void recorded_clauses_choose_the_rows_that_postgres_chooses(void **state)
{
    struct golden *g = calloc(1, sizeof(*g));
    size_t len = 0;
    char *text = read_golden(&len);
    struct json_reader r;
    enum json_event event;
    int depth = 0;

    (void)state;
    if (!text) {
        free(g);
        skip();
    }
    assert_non_null(g);
    json_reader_init(&r, slice_make(text, len));
    do {
        event = json_next(&r);
        on_event(g, &r, event, &depth);
    } while (event != JSON_END && event != JSON_ERROR);
    assert_int_equal(event, JSON_END);
    json_reader_fini(&r);
    unload(&g->world);
    free(g->create);
    free(g->rows);
    free(text);
    free(g);
    report("recorded clauses");
}

/* ---- random clauses ---- */

static const char *pick(const char *const *list, size_t count)
{
    return list[below((uint32_t)count)];
}

#define PICK(...)                                                                        \
    pick((const char *const[]){__VA_ARGS__},                                             \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

// NOLINTBEGIN(misc-no-recursion): depth counts down

static void put_boolean(struct buf *out, unsigned depth);

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
                           "justify_hours(iv)", "(- iv)", "(iv * 2)"));
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
                  "ts::date", "'-infinity'::date", "NULL::date", "'epoch'"));
}

static void put_array(struct buf *out, unsigned depth)
{
    switch (below(depth > 0 ? 6 : 3)) {
    case 0:
        buf_puts(out, PICK("ia", "ia", "ta"));
        break;
    case 1:
        buf_puts(out,
                 PICK("'{1,2}'", "'{}'::int4[]", "ARRAY[1,NULL,3]", "'{{1,2},{3,4}}'",
                      "ARRAY['a','b']", "'{a,\"a b\",NULL}'::text[]",
                      "'[0:1]={1,2}'::int4[]", "ARRAY[i4, j4]", "ARRAY[t, tc]"));
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
                      "ia::text[] = ta", "ia::int8[] @> ARRAY[3::int8]"));
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
    buf_puts(out, PICK("j", "j", "(j -> 'a')", "(j -> 0)", "(j #> '{a,b}')",
                       "'{\"a\":1}'::jsonb"));
    switch (below(4)) {
    case 0:
        buf_printf(out, " ->> %s",
                   PICK("'a' = '1'", "'a' IS NULL", "0 LIKE '%1%'", "'b' = t"));
        break;
    case 1:
        buf_printf(out, " ? %s", PICK("'a'", "t", "'b'"));
        break;
    default:
        buf_printf(out, " %s %s", PICK("=", "@>", "<@", "<>"),
                   PICK("'{\"a\": 1}'", "'{}'", "'[1]'", "j", "'null'", "'1.0'",
                        "'{\"a\": {\"b\": [1, 2]}}'"));
        break;
    }
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
    void (*operand)(struct buf *, unsigned) = below(3) == 0   ? put_text
                                              : below(3) == 0 ? put_time
                                              : below(3) == 0 ? put_interval
                                              : below(2) == 0 ? put_number
                                                              : put_int;

    if (below(6) == 0) {
        put_array_test(out, depth);
        return;
    }
    if (below(12) == 0) {
        put_json_test(out);
        return;
    }
    if (below(8) == 0) {
        put_function_test(out);
        return;
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
        buf_printf(out, " %s ", PICK("LIKE", "NOT LIKE", "~~"));
        buf_puts(out, PICK("'a%'", "'%a%'", "'_'", "'100\\%'", "''", "'a_b'", "'%'",
                           "'!%%' ESCAPE '!'", "vc"));
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

static void random_clauses_agree_with_postgres(void **state)
{
    unsigned count = getenv("WHERE_CLAUSES")
                         ? (unsigned)strtoul(getenv("WHERE_CLAUSES"), NULL, 10)
                         : 1500;
    struct world w;

    (void)state;
    PQclear(run("CREATE TABLE r (id int4, b bool, i2 int2, i4 int4, j4 int4, i8 int8, f4 "
                "float4, f8 float8, n numeric, n2 numeric(6,2), t text, tc text COLLATE "
                "\"C\", vc varchar(20), ch char(3), nm name, u uuid, e w_e, by bytea, d "
                "date, tm time, ts timestamp, "
                "tz timestamptz, iv interval, ia int4[], ta text[], j jsonb)",
                NULL, NULL));
    PQclear(run(
        "INSERT INTO r VALUES (1, true, 1, 1, 2, 1, 0.1, 0.1, 1, 2.5, 'a', 'a', 'a', "
        "'a', "
        "'a', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'x', '\\x01', '2024-01-31', "
        "'10:00', '2024-01-31 10:00', '2024-01-31 10:00+00', '1 day', '{1,2}', '{a,b}', "
        "'{\"a\": 1, \"b\": null}'), "
        "(2, false, 0, 2, 2, -1, 'NaN', 'NaN', 'NaN', 0, '', '', '', '', '', "
        "'00000000-0000-0000-0000-000000000000', 'y', '\\x', '2024-02-29', "
        "'23:59:59.5', '2024-02-29 23:59:59.5', '2024-02-29 23:59:59.5+02', '1 month', "
        "'{}', '{}', '[1, \"1\", null]'), "
        "(3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "
        "NULL, "
        "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), "
        "(4, true, -32768, -2147483648, 0, -9223372036854775808, '-Infinity', "
        "'Infinity', "
        "2.50, -1.5, 'B', 'B', 'b', 'ab', 'Zz', 'ffffffff-ffff-ffff-ffff-ffffffffffff', "
        "'y', '\\xff', '1970-01-01', '00:00', '1970-01-01', '1970-01-01 00:00+00', "
        "'30 days', '{null,3}', '{null,\"a b\"}', '{\"a\": {\"b\": [1, 2]}}'), "
        "(5, false, 32767, 2147483647, 7, 9223372036854775807, 3, 1000, 1000000, 9.99, "
        "'100%', E'it''s', E'a\\\\b', 'a', E'\\u00e9', NULL, 'x', NULL, "
        "'0044-03-15 BC', '24:00', 'infinity', 'infinity', '-1 day 02:00', "
        "'{{1,2},{3,4}}', '{A}', '1.0'), "
        "(6, NULL, 3, 3, NULL, 3, -0.0, -0.0, -0.1, 0.5, E'a\\nb', E'\\u00e9', 'a  ', "
        "E'\\u00e9', 'a  ', NULL, NULL, NULL, '2024-03-01', '10:00', '2024-03-01', "
        "'2024-03-01', '24:00:00', '[2:3]={3,4}', E'{\\u00e9}', '\"x\"')",
        NULL, NULL));
    load(&w, "r");
    for (unsigned i = 0; i < count; i++) {
        bool ids[ROWS_MAX];
        struct buf clause;

        buf_init(&clause, 100000);
        put_boolean(&clause, below(4));
        buf_putc(&clause, '\0');
        assert_int_equal(clause.failed, 0);
        (void)check(&w, "r", clause.ptr, ids);
        buf_fini(&clause);
    }
    unload(&w);
    report("random clauses");
}

/* ---- setting up ---- */

/* A database with that collation, set up as the sessions are whose text comes in. */
static void connect_to(const char *name, const char *collation)
{
    char sql[200];

    (void)snprintf(sql, sizeof(sql),
                   "CREATE DATABASE %s TEMPLATE template0 LC_COLLATE '%s' LC_CTYPE '%s' "
                   "ENCODING 'UTF8'",
                   name, collation, collation);
    connection = PQconnectdb(pgcluster_url(cluster));
    if (PQstatus(connection) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(connection));
    PQclear(run(sql, NULL, NULL));
    PQfinish(connection);
    (void)snprintf(sql, sizeof(sql), "host=127.0.0.1 port=%d user=postgres dbname=%s",
                   pgcluster_port(cluster), name);
    connection = PQconnectdb(sql);
    if (PQstatus(connection) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(connection));
    PQclear(run("SELECT set_config('datestyle', 'ISO', false), "
                "set_config('timezone', 'UTC', false), "
                "set_config('intervalstyle', 'iso_8601', false), "
                "set_config('bytea_output', 'hex', false), "
                "set_config('extra_float_digits', '1', false)",
                NULL, NULL));
    PQclear(run("CREATE TYPE w_e AS ENUM ('x', 'y')", NULL, NULL));
    PQclear(
        run("CREATE FUNCTION verdict(clause text, tab text, row_id int4) RETURNS text "
            "LANGUAGE plpgsql AS $$ DECLARE r text; BEGIN "
            "EXECUTE 'SELECT CASE WHEN v THEN ''t'' WHEN NOT v THEN ''f'' ELSE ''n'' END "
            "FROM (SELECT (' || clause || ') AS v FROM ' || tab || ' WHERE id = ' || "
            "row_id || ' OFFSET 0) AS s' INTO r; "
            "RETURN r; EXCEPTION WHEN others THEN RETURN '!' || SQLERRM; END $$",
            NULL, NULL));
}

static void clauses_agree_under_collation_c(void **state)
{
    PQfinish(connection);
    connect_to("with_c", "C");
    database = SQL_COLLATION_C;
    random_clauses_agree_with_postgres(state);
}

static int set_up(void **state)
{
    (void)state;
    if (getenv("WHERE_SEED"))
        random_state = strtoull(getenv("WHERE_SEED"), NULL, 10);
    cluster = pgcluster_new(NULL);
    connect_to("with_utf8", "C.UTF-8");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    PQfinish(connection);
    pgcluster_free(cluster);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_clauses_choose_the_rows_that_postgres_chooses),
        cmocka_unit_test(random_clauses_agree_with_postgres),
        cmocka_unit_test(clauses_agree_under_collation_c),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
