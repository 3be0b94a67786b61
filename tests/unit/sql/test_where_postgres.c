/* Where-clauses beside a real Postgres: for each clause and row, what the bytecode says has to be
 * what Postgres says, both of the clause as written and of the text that the tree prints; what
 * can't be decided is refused, and counted.
 *
 *   - the 258 recorded clauses (where-evaluation.json of $COULOMB_GOLDEN or ../shared/golden,
 *     if it is there), over their rows, also against the ids recorded there; those refused are
 *     listed here
 *   - random clauses (random_clause.h), some of their literals as parameters, over random tables
 *     and rows of our own, under the collation C and under libc's of en_US.UTF-8
 *
 * WHERE_SEED=n repeats a run, WHERE_COMPARISONS=n (each of a clause as written with a row, under
 * each collation) makes it longer, WHERE_SHOW=1 shows what is refused. */

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <libpq-fe.h>

#include "sql/expr.h"
#include "support/pgcluster.h"
#include "unit/sql/cond_holds.h"
#include "unit/sql/samples.h"
/* Behind the samples, whose functions have a parameter of the name of its `below`. */
#include "unit/sql/random_clause.h"
#include "json/json.h"

#define COLUMNS_MAX       40
#define ROWS_MAX          20
#define FIXED_ROWS        6
#define RANDOM_ROWS       10
#define CLAUSES_PER_TABLE 100
#define PARAMS_MAX        8
#define GOLDEN_MAX        ((size_t)1 << 20)
#define ARENA_MAX         ((size_t)64 << 20)
#define CLAUSE_LENGTH     2000

static PGconn *connection;
static struct pgcluster *cluster;
static enum sql_collation database = SQL_COLLATION_DETERMINISTIC;
static unsigned wrong;
static unsigned long compared;
static unsigned long refused;
static unsigned long accepted;
static unsigned long undecided; /* rows whose values nothing here can read */
static unsigned long missed;    /* refused, but Postgres evaluates it */

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

/* A clause as it comes to us, with parameters. */
struct given {
    struct buf text;
    struct slice values[PARAMS_MAX];
    struct sql_params params;
};

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
    struct err err;
    bool holds;

    for (size_t i = 0; i < w->table.count; i++) {
        struct slice text;

        values[i] = (struct sql_value){.null = true};
        if (get(w, i, &text) && w->columns[i].type.base != SQL_OTHER &&
            sql_value_in(w->columns[i].type, text, scratch, &values[i], &err) != 0)
            fail_msg("%s of row %d: %.*s: %s", w->columns[i].name.ptr, w->row + 1,
                     (int)text.len, text.ptr, err.message);
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
    struct sql_value values[COLUMNS_MAX];
    unsigned char states[COLUMNS_MAX];
    struct arena arena;
    struct sql_row row = {
        .table = &w->table, .get = get, .ctx = w, .values = values, .states = states};
    PGresult *theirs;

    theirs = run("SELECT verdicts($1, $2)", text, table);
    assert_int_equal(PQntuples(theirs), w->row_count);
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
        compared += text == clause;
        if (v == SQL_IS_ERROR &&
            (err.code == ERR_UNSUPPORTED || err.code == ERR_MEMORY)) {
            undecided++;
            if (getenv("WHERE_SHOW"))
                print_message("undecided, Postgres %s: %s: %s\n", answer, clause,
                              err.message);
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
static void look_at_refused(const char *table, const char *clause, const char *why)
{
    PGresult *theirs = run("SELECT verdict($1, $2, 1)", clause, table);
    const char *answer = PQgetvalue(theirs, 0, 0);

    missed += *answer != '!';
    if (getenv("WHERE_SHOW"))
        print_message("refused, Postgres %s: %s: %s\n", answer, clause, why);
    PQclear(theirs);
}

/* False: refused. given is the clause if NULL. */
static bool check(struct world *w, const char *table, const char *clause,
                  const struct given *given, bool ids[ROWS_MAX])
{
    struct slice text = slice_of(given ? given->text.ptr : clause);
    struct arena arena;
    const struct sql_expr *e;
    struct sql_program *program;
    const struct sql_cond *cond;
    struct buf printed;
    struct err err;
    bool ok;

    arena_init(&arena, ARENA_MAX);
    ok = sql_where_parse(text, &w->table, given ? &given->params : NULL, &arena, &e,
                         &err) == 0;
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
        look_at_refused(table, clause, err.message);
    }
    arena_fini(&arena);
    return ok;
}

static void report(const char *what)
{
    print_message(
        "%s: %lu clauses accepted, %lu refused (%lu of them Postgres evaluates), "
        "%lu comparisons, %lu undecided, %u wrong\n",
        what, accepted, refused, missed, compared, undecided, wrong);
    assert_int_equal(wrong, 0);
    accepted = refused = missed = compared = undecided = 0;
}

/* ---- the recorded clauses ---- */

/* What we refuse of it, listed in tests/PROTOCOL.md, too. */
static const struct {
    const char *where;
    const char *why;
} refusals[] = {
    {"t > 'a'", "the order of a collation other than C"},
    {"t < 'a'", "the order of a collation other than C"},
    {"ch > 'a'", "the order of a collation other than C"},
    {"t ILIKE 'b'", "the case of a collation other than C"},
    {"t NOT ILIKE 'b'", "the case of a collation other than C"},
    {"t ~~* 'A%'", "the case of a collation other than C"},
    {"lower(t) = 'b'", "the case of a collation other than C"},
    {"upper(t) = 'A'", "the case of a collation other than C"},
    {"lower(vc) = '\xc3\xbcn\xc3\xaf'", "the case of a collation other than C"},
    {"tz > ts", "depends on the time zone of the session"},
    {"ilike(t,'B')", "Postgres has no such function"},
    {"NULL", "Postgres takes it for text in the place it is put to, too"},
    {"i = '2147483648'", "Postgres refuses it, too"},
};

struct golden {
    struct world world;
    char where[CLAUSE_LENGTH];
    char member[100];
    bool ids[ROWS_MAX];
    bool has_ids;
    unsigned accepted;
    char *create, *rows;
};

static char *read_golden(size_t *len)
{
    const char *folder = getenv("COULOMB_GOLDEN");
    char path[500];
    FILE *f;
    char *text;

    (void)snprintf(path, sizeof(path), "%s/where-evaluation.json",
                   folder ? folder : "../shared/golden");
    f = fopen(path, "rb");

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

    if (!check(&g->world, "w", g->where, NULL, ids)) {
        for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
            if (strcmp(g->where, refusals[i].where) == 0)
                return;
        }
        fail_msg("refused: %s", g->where);
    }
    g->accepted++;
    if (!g->has_ids || undecided > before)
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
    assert_int_equal(g->accepted + sizeof(refusals) / sizeof(refusals[0]), 258);
    free(g->create);
    free(g->rows);
    free(text);
    free(g);
    report("recorded clauses");
}

/* ---- the databases ---- */

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
    PQclear(run("SELECT set_config('client_min_messages', 'warning', false), "
                "set_config('datestyle', 'ISO', false), "
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
    /* All rows at once, which is faster; one by one where some raise errors. */
    PQclear(run(
        "CREATE FUNCTION verdicts(clause text, tab text) RETURNS SETOF text "
        "LANGUAGE plpgsql AS $$ DECLARE r text[]; BEGIN "
        "EXECUTE 'SELECT array_agg(CASE WHEN v THEN ''t'' WHEN NOT v THEN ''f'' ELSE "
        "''n'' END ORDER BY id) FROM (SELECT id, (' || clause || ') AS v FROM ' || tab "
        "|| ' OFFSET 0) AS s' INTO r; "
        "RETURN QUERY SELECT unnest(r); EXCEPTION WHEN others THEN "
        "RETURN QUERY EXECUTE 'SELECT verdict($1, $2, id) FROM ' || tab || ' ORDER BY "
        "id' USING clause, tab; END $$",
        NULL, NULL));
    PQclear(run("CREATE FUNCTION put(name text, value text, row_id int4) RETURNS void "
                "LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('UPDATE r SET %I = %L WHERE "
                "id = %s', name, value, row_id); EXCEPTION WHEN others THEN NULL; END $$",
                NULL, NULL));
}

/* libc's locale is made where there is none, by the tool that comes with Postgres's package
 * `locales`, in a folder of our own, which the server is told of by its environment. */
static char locales[] = "/tmp/coulomb-locales-XXXXXX";

static int remove_entry(const char *path, const struct stat *st, int type,
                        struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void provide_locale(void)
{
    locale_t there = newlocale(LC_ALL_MASK, "en_US.UTF-8", (locale_t)0);
    char path[sizeof(locales) + 20];
    int status;
    pid_t child;

    if (there != (locale_t)0) {
        freelocale(there);
        *locales = '\0';
        return;
    }
    assert_non_null(mkdtemp(locales));
    assert_int_equal(chmod(locales, 0755), 0);
    (void)snprintf(path, sizeof(path), "%s/en_US.UTF-8", locales);
    child = fork();
    if (child == 0) {
        (void)execlp("localedef", "localedef", "-i", "en_US", "-f", "UTF-8", path,
                     (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0)
        fail_msg("no locale en_US.UTF-8, and localedef can't make it");
    assert_int_equal(setenv("LOCPATH", locales, 1), 0);
}

/* ---- random clauses ---- */

static const char fixed_rows[] =
    "INSERT INTO r VALUES (1, true, 1, 1, 2, 1, 0.1, 0.1, 1, 2.5, 'a', 'a', 'a', "
    "'a', "
    "'a', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'x', '\\x01', '2024-01-31', "
    "'10:00', '2024-01-31 10:00', '2024-01-31 10:00+00', '1 day', '{1,2}', '{a,b}', "
    "'{1.0,2}', '{1,2}', '{2024-01-31}', '{\"a\": 1, \"b\": null}'), "
    "(2, false, 0, 2, 2, -1, 'NaN', 'NaN', 'NaN', 0, '', '', '', '', '', "
    "'00000000-0000-0000-0000-000000000000', 'y', '\\x', '2024-02-29', "
    "'23:59:59.5', '2024-02-29 23:59:59.5', '2024-02-29 23:59:59.5+02', '1 month', "
    "'{}', '{}', '{}', '{}', '{}', '[1, \"1\", null]'), "
    "(3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "
    "NULL, "
    "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "
    "NULL), "
    "(4, true, -32768, -2147483648, 0, -9223372036854775808, '-Infinity', "
    "'Infinity', "
    "2.50, -1.5, 'B', 'B', 'b', 'ab', 'Zz', 'ffffffff-ffff-ffff-ffff-ffffffffffff', "
    "'y', '\\xff', '1970-01-01', '00:00', '1970-01-01', '1970-01-01 00:00+00', "
    "'30 days', '{null,3}', '{null,\"a b\"}', '{NaN,null}', '{NaN,-0}', "
    "'{null,infinity}', '{\"a\": {\"b\": [1, 2]}}'), "
    "(5, false, 32767, 2147483647, 7, 9223372036854775807, 3, 1000, 1000000, 9.99, "
    "'100%', E'it''s', E'a\\\\b', 'a', E'\\u00e9', NULL, 'x', NULL, "
    "'0044-03-15 BC', '24:00', 'infinity', 'infinity', '-1 day 02:00', "
    "'{{1,2},{3,4}}', '{A}', '{{1,2.50}}', '{Infinity}', '{2024-02-29,2024-03-01}', "
    "'1.0'), "
    "(6, NULL, 3, 3, NULL, 3, -0.0, -0.0, -0.1, 0.5, E'a\\nb', E'\\u00e9', 'a  ', "
    "E'\\u00e9', 'a  ', NULL, NULL, NULL, '2024-03-01', '10:00', '2024-03-01', "
    "'2024-03-01', '24:00:00', '[2:3]={3,4}', E'{\\u00e9}', '{-1.5}', '{0.1}', "
    "'{-infinity}', '\"x\"')";

static const struct random_column {
    const char *name;
    enum sql_base base;
    bool array;
} random_columns[] = {{"b", SQL_BOOL, false},         {"i2", SQL_INT2, false},
                      {"i4", SQL_INT4, false},        {"j4", SQL_INT4, false},
                      {"i8", SQL_INT8, false},        {"f4", SQL_FLOAT4, false},
                      {"f8", SQL_FLOAT8, false},      {"n", SQL_NUMERIC, false},
                      {"n2", SQL_NUMERIC, false},     {"t", SQL_TEXT, false},
                      {"tc", SQL_TEXT, false},        {"vc", SQL_VARCHAR, false},
                      {"ch", SQL_BPCHAR, false},      {"nm", SQL_NAME, false},
                      {"u", SQL_UUID, false},         {"e", SQL_ENUM, false},
                      {"by", SQL_BYTEA, false},       {"d", SQL_DATE, false},
                      {"tm", SQL_TIME, false},        {"ts", SQL_TIMESTAMP, false},
                      {"tz", SQL_TIMESTAMPTZ, false}, {"iv", SQL_INTERVAL, false},
                      {"ia", SQL_INT4, true},         {"ta", SQL_TEXT, true},
                      {"na", SQL_NUMERIC, true},      {"fa", SQL_FLOAT8, true},
                      {"da", SQL_DATE, true},         {"j", SQL_JSONB, false}};

/* Values that the types don't take are left NULL; lengths and precisions are random. */
static void make_random_table(void)
{
    char sql[1500];
    char sample[SAMPLE_MAX];
    const char *collation = below(4) == 0 ? "COLLATE \"C\"" : "";

    PQclear(run("DROP TABLE IF EXISTS r", NULL, NULL));
    (void)snprintf(
        sql, sizeof(sql),
        "CREATE TABLE r (id int4, b bool, i2 int2, i4 int4, j4 int4, i8 int8, "
        "f4 float4, f8 float8, n numeric, n2 numeric(%u,2), t text %s, tc text "
        "COLLATE \"C\", vc varchar(%u) %s, ch char(%u), nm name, u uuid, e w_e, "
        "by bytea, d date, tm time(%u), ts timestamp(%u), tz timestamptz, iv "
        "interval, ia int4[], ta text[], na numeric[], fa float8[], da date[], "
        "j jsonb)",
        5 + below(10), collation, 4 + below(20), collation, 2 + below(5), below(7),
        below(7));
    PQclear(run(sql, NULL, NULL));
    PQclear(run(fixed_rows, NULL, NULL));
    for (unsigned id = FIXED_ROWS + 1; id <= FIXED_ROWS + RANDOM_ROWS; id++) {
        (void)snprintf(sql, sizeof(sql), "INSERT INTO r (id) VALUES (%u)", id);
        PQclear(run(sql, NULL, NULL));
    }
    for (size_t c = 0; c < sizeof(random_columns) / sizeof(random_columns[0]); c++) {
        const struct random_column *column = &random_columns[c];
        struct sql_type type = {
            .base = column->base, .array = column->array, .typmod = -1};
        size_t count = 0;

        while (sample_fixed(type, count))
            count++;
        for (unsigned id = FIXED_ROWS + 1; id <= FIXED_ROWS + RANDOM_ROWS; id++) {
            const char *value = sample;

            if (below(7) == 0)
                continue;
            if (below(3) == 0)
                sample_random(type, below, sample, sizeof(sample));
            else
                value = sample_fixed(type, below((uint32_t)count));
            (void)snprintf(sql, sizeof(sql), "SELECT put('%s', $1, %u)", column->name,
                           id);
            PQclear(run(sql, value, NULL));
        }
    }
    /* Rounding to timestamp(n) may pass the last moment: Postgres then prints what it can't read. */
    PQclear(
        run("UPDATE r SET ts = NULL WHERE ts > '294276-12-31 23:59:59.999999' AND ts < "
            "'infinity'",
            NULL, NULL));
}

/* Some of the literals as parameters: ours is the clause with them. Values are as they are
 * between the quotes. A literal behind a word may belong to it (date '…'), unless the word is one
 * of these. */
static bool may_be_a_parameter(const char *clause, const char *quote)
{
    static const char *const words[] = {"LIKE", "ILIKE", "ESCAPE", "AND",  "OR",
                                        "THEN", "ELSE",  "WHEN",   "FROM", "IN"};
    const char *end = quote;
    const char *begin;

    while (end > clause && end[-1] == ' ')
        end--;
    begin = end;
    while (begin > clause && (isalnum((unsigned char)begin[-1]) || begin[-1] == '_'))
        begin--;
    for (size_t i = 0; begin < end && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strlen(words[i]) == (size_t)(end - begin) &&
            memcmp(words[i], begin, (size_t)(end - begin)) == 0)
            return true;
    }
    return begin == end && end > clause && end[-1] != '\'' && end[-1] != '"';
}

static void take_parameters(const char *clause, struct given *g)
{
    const char *at = clause;

    while (*at) {
        const char *end = at + 1;
        struct buf value;

        if (*at == '"' || *at != '\'') {
            buf_putc(&g->text, *at++);
            continue;
        }
        buf_init(&value, 1000);
        while (*end != '\'' || end[1] == '\'') {
            buf_putc(&value, *end);
            end += *end == '\'' ? 2 : 1;
        }
        end++;
        if (g->params.count < PARAMS_MAX && below(4) == 0 &&
            may_be_a_parameter(clause, at)) {
            g->values[g->params.count].len = value.len;
            g->values[g->params.count].ptr = buf_take(&value, NULL);
            buf_printf(&g->text, "$%zu", ++g->params.count);
        } else {
            buf_put(&g->text, at, (size_t)(end - at));
        }
        buf_fini(&value);
        at = end;
    }
    buf_putc(&g->text, '\0');
    assert_int_equal(g->text.failed, 0);
}

static void check_random_clause(struct world *w)
{
    bool ids[ROWS_MAX];
    struct given g = {.params.values = g.values};
    struct buf clause;

    buf_init(&clause, 100000);
    buf_init(&g.text, 100000);
    put_boolean(&clause, below(4));
    buf_putc(&clause, '\0');
    assert_int_equal(clause.failed, 0);
    take_parameters(clause.ptr, &g);
    (void)check(w, "r", clause.ptr, &g, ids);
    for (size_t i = 0; i < g.params.count; i++)
        free((char *)(uintptr_t)g.values[i].ptr);
    buf_fini(&g.text);
    buf_fini(&clause);
}

static void random_clauses_agree(const char *name, const char *collation,
                                 enum sql_collation kind)
{
    const char *wanted = getenv("WHERE_COMPARISONS");
    unsigned long count = wanted ? strtoul(wanted, NULL, 10) : 20000;

    PQfinish(connection);
    connect_to(name, collation);
    database = kind;
    while (compared < count) {
        struct world w;

        make_random_table();
        load(&w, "r");
        for (unsigned i = 0; i < CLAUSES_PER_TABLE && compared < count; i++)
            check_random_clause(&w);
        unload(&w);
        if (wrong > 40)
            break;
    }
    report(collation);
}

static void clauses_agree_under_c(void **state)
{
    (void)state;
    random_clauses_agree("with_c", "C", SQL_COLLATION_C);
}

static void clauses_agree_under_en_us(void **state)
{
    (void)state;
    random_clauses_agree("with_en_us", "en_US.UTF-8", SQL_COLLATION_DETERMINISTIC);
}

/* ---- setting up ---- */

static int set_up(void **state)
{
    (void)state;
    if (getenv("WHERE_SEED"))
        random_state = strtoull(getenv("WHERE_SEED"), NULL, 10);
    provide_locale();
    cluster = pgcluster_new(NULL);
    connect_to("with_utf8", "C.UTF-8");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    PQfinish(connection);
    pgcluster_free(cluster);
    if (*locales)
        nftw(locales, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_clauses_choose_the_rows_that_postgres_chooses),
        cmocka_unit_test(clauses_agree_under_c),
        cmocka_unit_test(clauses_agree_under_en_us),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
