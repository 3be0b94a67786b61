/* How a database maps the case of letters: read from real ones, and its durable form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "server/catalog/catalog.h"
#include "sql/ops.h"
#include "support/pgcluster.h"

static struct pgcluster *cluster;

static PGconn *connect_to(const char *database)
{
    char url[200];
    snprintf(url, sizeof url, "host=127.0.0.1 port=%d user=postgres dbname=%s",
             pgcluster_port(cluster), database);
    PGconn *conn = PQconnectdb(url);
    if (PQstatus(conn) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(conn));
    return conn;
}

static void run(PGconn *conn, const char *sql)
{
    PGresult *r = PQexec(conn, sql);
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    PQclear(r);
}

/* A table of a database that was made with those options. */
static struct table *read_table(const char *database, const char *options, PGconn **conn)
{
    char sql[300];
    struct table *t = NULL;
    PGconn *admin = connect_to("postgres");
    snprintf(sql, sizeof sql, "CREATE DATABASE %s TEMPLATE template0 %s", database,
             options);
    run(admin, sql);
    PQfinish(admin);
    *conn = connect_to(database);
    run(*conn, "CREATE TABLE t(id int PRIMARY KEY, v text)");
    assert_int_equal(
        catalog_read_table(*conn, SLICE_LIT("public"), SLICE_LIT("t"), &t, NULL), 0);
    return t;
}

static void assert_lower(const struct case_map *map, const char *text, const char *lower)
{
    struct err err;
    struct arena arena;
    struct sql_type type = {.base = SQL_TEXT, .typmod = -1};
    struct sql_call call = {&arena, &err, &type, 1, case_map_letters(map)};
    struct sql_value arg = {.s = slice_of(text)}, out = {0};
    arena_init(&arena, 1 << 20);
    assert_int_equal(sql_lower(&call, &arg, &out), SQL_FINE);
    assert_true(slice_eq(out.s, slice_of(lower)));
    arena_fini(&arena);
}

static void test_letters_are_those_of_the_database(void **state)
{
    (void)state;
    PGconn *conn;
    struct case_map *map = NULL, *again = NULL;
    struct table *t = read_table("utf8", "ENCODING 'UTF8' LOCALE 'C.UTF-8'", &conn);
    assert_memory_equal(t->case_map_id.ptr, "c C.UTF-8 ", 10);
    assert_null(t->case_map);
    assert_null(table_sql(t)->letters);
    assert_int_equal(case_map_read(conn, t->case_map_id, &map, NULL), 0);
    assert_lower(map, "\xc3\x89T\xc3\x89", "\xc3\xa9t\xc3\xa9");
    assert_int_equal(case_map_parse(case_map_text(map), &again, NULL), 0);
    assert_true(slice_eq(case_map_id(again), t->case_map_id));
    assert_lower(again, "\xc3\x89T\xc3\x89", "\xc3\xa9t\xc3\xa9");

    struct table *before = table_copy(t);
    table_set_case_map(t, map);
    assert_ptr_equal(table_sql(t)->letters, case_map_letters(map));
    assert_true(table_same(t, before));
    struct table *copy = table_copy(t);
    assert_ptr_equal(table_sql(copy)->letters, case_map_letters(map));
    table_release(copy);
    table_release(before);
    case_map_release(again);
    case_map_release(map);
    table_release(t);
    PQfinish(conn);
}

static void test_under_c_they_are_those_of_ascii(void **state)
{
    (void)state;
    PGconn *conn;
    struct case_map *map = NULL;
    struct table *t = read_table("plain", "ENCODING 'UTF8' LOCALE 'C'", &conn);
    assert_int_equal(case_map_read(conn, t->case_map_id, &map, NULL), 0);
    assert_lower(map, "\xc3\x89T\xc3\x89", "\xc3\x89t\xc3\x89");
    case_map_release(map);
    table_release(t);
    PQfinish(conn);
}

/* The order of bytes and the case of letters are two things. */
static void test_the_order_may_be_c_and_the_case_not(void **state)
{
    (void)state;
    PGconn *conn;
    struct table *t =
        read_table("mixed", "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'", &conn);
    assert_int_equal(t->collation, SQL_COLLATION_C);
    assert_memory_equal(t->case_map_id.ptr, "c C.UTF-8 ", 10);
    table_release(t);
    PQfinish(conn);
}

static void test_other_encodings_and_providers_have_none(void **state)
{
    (void)state;
    PGconn *conn;
    struct table *t = read_table("latin", "ENCODING 'LATIN1' LOCALE 'C'", &conn);
    assert_int_equal(t->case_map_id.len, 0);
    table_release(t);
    int version = PQserverVersion(conn);
    PQfinish(conn);
    if (version < 150000)
        return;
    t = read_table("icu",
                   "ENCODING 'UTF8' LOCALE 'C.UTF-8' LOCALE_PROVIDER icu "
                   "ICU_LOCALE 'de'",
                   &conn);
    assert_int_equal(t->case_map_id.len, 0);
    table_release(t);
    PQfinish(conn);
}

static void test_a_damaged_text_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "\n",
                                      "\n65 97 65\n",
                                      "id",
                                      "id\n65 97\n",
                                      "id\n65 97 65",
                                      "id\nx 97 65\n",
                                      "id\n65 97 1114112\n",
                                      "id\n65 97 65 66\n"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct case_map *map = NULL;
        assert_int_equal(case_map_parse(slice_of(bad[i]), &map, NULL), ERR_CORRUPT);
        assert_null(map);
    }
}

static int setup(void **state)
{
    (void)state;
    cluster = pgcluster_new(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pgcluster_free(cluster);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_letters_are_those_of_the_database),
        cmocka_unit_test(test_under_c_they_are_those_of_ascii),
        cmocka_unit_test(test_the_order_may_be_c_and_the_case_not),
        cmocka_unit_test(test_other_encodings_and_providers_have_none),
        cmocka_unit_test(test_a_damaged_text_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
