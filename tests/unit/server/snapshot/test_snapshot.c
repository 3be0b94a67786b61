/* snapshot_run against a real Postgres: what it reads, how it joins the stream, how it
 * ends when something is in its way. A second session plays everyone else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "server/catalog/catalog.h"
#include "server/snapshot/snapshot.h"
#include "support/pgcluster.h"

#define ROWS_KEPT 8

struct fixture {
    struct pgcluster *cluster;
    PGconn *conn;  /* the snapshot's */
    PGconn *other; /* everyone else's */

    /* The shape. */
    struct table *table;
    struct encode_plan *plan;
    uint16_t *selected;
    struct snapshot_request request;
    struct obs obs;

    /* What the sink was given. */
    char
        events[64]; /* a letter each: s(ubscribe) v(erify) j(oined) r(ow) f(lush) e(nd) */
    size_t event_count;
    size_t rows;
    char *kept[ROWS_KEPT];
    char *end;
    uint64_t xmin;
    uint64_t xmax;
    uint64_t wal_lsn;
    bool sees_xid; /* asked of the view when joined */
    uint32_t xid;
    char stamp[500]; /* of the table, told to verify */

    /* What the sink does. */
    const char *on_subscribe; /* SQL of the other session */
    const char *on_joined;
    bool verify;
    unsigned retries; /* joined says ERR_RETRY so often */
    size_t fail_at_row;
    size_t cancel_at_row;
    unsigned cancel_after_calls;
    unsigned cancel_calls;
};

/* SQL of the other session. */
static void sql(PGconn *conn, const char *text)
{
    struct err err = {0};

    if (pg_exec(conn, text, NULL, &err) != 0)
        fail_msg("%s: %s", text, err.message);
}

static char *ask(PGconn *conn, const char *text)
{
    PGresult *result = NULL;
    struct err err = {0};
    char *answer;

    if (pg_exec(conn, text, &result, &err) != 0)
        fail_msg("%s: %s", text, err.message);
    answer = slice_dup(slice_of(PQgetvalue(result, 0, 0)));
    PQclear(result);
    assert_non_null(answer);
    return answer;
}

static void ask_expect(PGconn *conn, const char *text, const char *expected)
{
    char *answer = ask(conn, text);

    assert_string_equal(answer, expected);
    free(answer);
}

/* The sink. */

static void note(struct fixture *f, char event)
{
    /* Runs of rows and flushes count once each. */
    if (f->event_count > 0 && f->events[f->event_count - 1] == event && event == 'r')
        return;
    if (f->event_count + 1 < sizeof(f->events))
        f->events[f->event_count++] = event;
}

static int sink_subscribe(void *ctx, struct err *err)
{
    struct fixture *f = ctx;

    (void)err;
    note(f, 's');
    if (f->on_subscribe)
        sql(f->other, f->on_subscribe);
    return 0;
}

/* As a shape would: the definition must fit the table as it is. */
static int sink_verify(void *ctx, PGconn *conn, struct slice stamp, struct err *err)
{
    struct fixture *f = ctx;
    struct table *now = NULL;
    int rc;

    note(f, 'v');

    snprintf(f->stamp, sizeof f->stamp, "%.*s", (int)stamp.len,
             stamp.len ? stamp.ptr : "");
    assert_int_equal(PQtransactionStatus(conn), PQTRANS_INTRANS);
    rc = catalog_read_table_oid(conn, f->table->oid, &now, err);
    if (rc == 0 && !table_same(f->table, now)) {
        rc = err_set(err, ERR_DB, "the table changed");
        err->http_status = 409;
    }
    table_release(now);
    return rc;
}

static int sink_joined(void *ctx, const struct snapshot_view *view, struct err *err)
{
    struct fixture *f = ctx;

    note(f, 'j');
    f->xmin = view->xmin;
    f->xmax = view->xmax;
    f->wal_lsn = view->wal_lsn;
    f->sees_xid = snapshot_sees(view, f->xid);
    if (f->on_joined)
        sql(f->other, f->on_joined);
    if (f->retries > 0) {
        f->retries--;
        return err_set(err, ERR_RETRY, "passed already");
    }
    return 0;
}

static int sink_row(void *ctx, struct slice json, struct err *err)
{
    struct fixture *f = ctx;

    note(f, 'r');
    if (f->rows < ROWS_KEPT)
        f->kept[f->rows] = slice_dup(json);
    f->rows++;
    if (f->rows == f->fail_at_row)
        return err_set(err, ERR_IO, "the disk is full");
    return 0;
}

static int sink_flush(void *ctx, struct err *err)
{
    (void)err;
    note(ctx, 'f');
    return 0;
}

static int sink_end(void *ctx, struct slice json, const struct snapshot_view *view,
                    struct err *err)
{
    struct fixture *f = ctx;

    (void)view;
    (void)err;
    note(f, 'e');
    f->end = slice_dup(json);
    return 0;
}

static bool sink_cancelled(void *ctx)
{
    struct fixture *f = ctx;

    f->cancel_calls++;
    if (f->cancel_at_row > 0 && f->rows >= f->cancel_at_row)
        return true;
    return f->cancel_after_calls > 0 && f->cancel_calls > f->cancel_after_calls;
}

/* One test's world. */

static int group_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->cluster = pgcluster_new(NULL);
    *state = f;
    return 0;
}

static int group_teardown(void **state)
{
    struct fixture *f = *state;

    pgcluster_free(f->cluster);
    free(f);
    return 0;
}

static PGconn *connect_as(struct fixture *f, const char *user)
{
    char url[160];
    PGconn *conn;

    snprintf(url, sizeof(url),
             "host=127.0.0.1 port=%d user=%s dbname=postgres sslmode=disable "
             "client_encoding=UTF8",
             pgcluster_port(f->cluster), user);
    conn = PQconnectdb(url);
    if (PQstatus(conn) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(conn));
    return conn;
}

static int setup(void **state)
{
    struct fixture *f = *state;
    struct pgcluster *cluster = f->cluster;

    *f = (struct fixture){.cluster = cluster};
    f->conn = connect_as(f, "postgres");
    f->other = connect_as(f, "postgres");
    sql(f->other, "SET client_min_messages = warning");
    sql(f->other, "DROP TABLE IF EXISTS t, t2 CASCADE");
    obs_init(&f->obs);
    return 0;
}

static void forget_shape(struct fixture *f)
{
    for (size_t i = 0; i < ROWS_KEPT; i++) {
        free(f->kept[i]);
        f->kept[i] = NULL;
    }
    free(f->end);
    f->end = NULL;
    f->rows = 0;
    memset(f->events, 0, sizeof(f->events));
    f->event_count = 0;
    encode_plan_release(f->plan);
    f->plan = NULL;
    table_release(f->table);
    f->table = NULL;
    free(f->selected);
    f->selected = NULL;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    forget_shape(f);
    PQfinish(f->conn);
    PQfinish(f->other);
    return 0;
}

/* A shape of all columns of the table as it is now. */
static void shape_of(struct fixture *f, const char *schema, const char *name)
{
    struct err err = {0};

    forget_shape(f);
    if (catalog_read_table(f->other, slice_of(schema), slice_of(name), &f->table, &err) !=
        0)
        fail_msg("%s", err.message);
    f->selected = calloc(f->table->column_count, sizeof(*f->selected));
    assert_non_null(f->selected);
    for (uint16_t i = 0; i < f->table->column_count; i++)
        f->selected[i] = i;
    f->plan = encode_plan_new(f->table, f->selected, f->table->column_count,
                              ENCODE_REPLICA_DEFAULT);
    f->request = (struct snapshot_request){
        .table = f->table,
        .plan = f->plan,
        .selected = f->selected,
        .selected_count = f->table->column_count,
        .first_row_timeout_ms = 30000,
        .obs = &f->obs,
    };
}

static int run(struct fixture *f, struct err *err)
{
    const struct snapshot_sink sink = {
        .ctx = f,
        .subscribe = sink_subscribe,
        .verify = f->verify ? sink_verify : NULL,
        .joined = sink_joined,
        .row = sink_row,
        .flush = sink_flush,
        .end = sink_end,
        .cancelled = sink_cancelled,
    };

    return snapshot_run(f->conn, &f->request, &sink, err);
}

static void run_ok(struct fixture *f)
{
    struct err err;

    if (run(f, &err) != 0)
        fail_msg("%s", err.message);
    assert_int_equal(PQtransactionStatus(f->conn), PQTRANS_IDLE);
    assert_non_null(f->end);
}

/* Fails as said, and leaves the connection usable. */
static void run_fails(struct fixture *f, int code, int http_status, const char *message)
{
    struct err err = {0};

    assert_int_equal(run(f, &err), code);
    assert_int_equal(err.code, code);
    assert_int_equal(err.http_status, http_status);
    assert_string_equal(err.message, message);
    assert_null(f->end);
    assert_int_equal(PQtransactionStatus(f->conn), PQTRANS_IDLE);
    ask_expect(f->conn, "SELECT 'usable'", "usable");
    assert_int_equal(atomic_load(&f->obs.gauge[OBS_G_SNAPSHOTS_RUNNING]), 0);
    assert_int_equal(atomic_load(&f->obs.counter[OBS_SNAPSHOTS]), 0);
}

/* What is read. */

static void rows_come_as_inserts_and_then_the_end(void **state)
{
    struct fixture *f = *state;
    char expected[160];

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY, v text)");
    sql(f->other, "INSERT INTO t VALUES (1, E'a\\tb\\\\c\\n\"'), (2, NULL), (3, '')");
    shape_of(f, "public", "t");
    run_ok(f);
    assert_int_equal(f->rows, 3);
    assert_string_equal(
        f->kept[0],
        "{\"key\":\"\\\"public\\\".\\\"t\\\"/\\\"1\\\"\","
        "\"value\":{\"id\":\"1\",\"v\":\"a\\tb\\\\c\\n\\\"\"},"
        "\"headers\":{\"operation\":\"insert\",\"relation\":[\"public\",\"t\"]}}");
    assert_string_equal(
        f->kept[1],
        "{\"key\":\"\\\"public\\\".\\\"t\\\"/\\\"2\\\"\","
        "\"value\":{\"id\":\"2\",\"v\":null},"
        "\"headers\":{\"operation\":\"insert\",\"relation\":[\"public\",\"t\"]}}");
    snprintf(
        expected, sizeof(expected),
        "{\"headers\":{\"control\":\"snapshot-end\",\"xmin\":\"%llu\",\"xmax\":\"%llu\","
        "\"xip_list\":[]}}",
        (unsigned long long)f->xmin, (unsigned long long)f->xmax);
    assert_string_equal(f->end, expected);
    assert_memory_equal(f->events, "sjr", 3);
    assert_int_equal(f->events[f->event_count - 1], 'e');
    assert_true(f->wal_lsn > 0);
    assert_int_equal(atomic_load(&f->obs.counter[OBS_SNAPSHOTS]), 1);
    assert_int_equal(atomic_load(&f->obs.counter[OBS_SNAPSHOT_ROWS]), 3);
    assert_int_equal(atomic_load(&f->obs.gauge[OBS_G_SNAPSHOTS_RUNNING]), 0);
}

static void empty_table_has_only_an_end(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    shape_of(f, "public", "t");
    run_ok(f);
    assert_string_equal(f->events, "sje");
}

static void only_rows_that_fulfil_the_condition_are_read(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY, v text)");
    sql(f->other, "INSERT INTO t VALUES (1, 'a'), (2, NULL), (3, 'c')");
    shape_of(f, "public", "t");
    f->request.where = SLICE_LIT("(\"v\" <> 'a'::text)");
    run_ok(f);
    assert_int_equal(f->rows, 1);
    assert_non_null(strstr(f->kept[0], "\"id\":\"3\""));
}

static void a_condition_that_a_row_breaks_is_a_400(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY, n int)");
    sql(f->other, "INSERT INTO t VALUES (1, 0)");
    shape_of(f, "public", "t");
    f->request.where = SLICE_LIT("((10 / \"n\") > 1)");
    run_fails(f, ERR_INVALID, 400,
              "Postgres can't evaluate the clause on a row: division by zero");
}

/* Which would otherwise look like a change of the table, and be tried for ever. */
static void a_condition_that_postgres_does_not_know_is_a_500(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    shape_of(f, "public", "t");
    f->request.where = SLICE_LIT("no_such_function(id)");
    run_fails(f, ERR_DB, 500,
              "Unexpected error while creating snapshot: function "
              "no_such_function(integer) does not exist");
}

static void changes_only_reads_no_rows(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    sql(f->other, "INSERT INTO t VALUES (1)");
    shape_of(f, "public", "t");
    f->request.changes_only = true;
    run_ok(f);
    assert_string_equal(f->events, "sje");
}

static void only_selected_columns_are_read(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (a text, id int PRIMARY KEY, b text, c text)");
    sql(f->other, "INSERT INTO t VALUES ('a', 1, 'b', 'c')");
    shape_of(f, "public", "t");
    encode_plan_release(f->plan);
    f->selected[0] = 1;
    f->selected[1] = 3;
    f->plan = encode_plan_new(f->table, f->selected, 2, ENCODE_REPLICA_DEFAULT);
    f->request.plan = f->plan;
    f->request.selected_count = 2;
    run_ok(f);
    assert_string_equal(
        f->kept[0],
        "{\"key\":\"\\\"public\\\".\\\"t\\\"/\\\"1\\\"\","
        "\"value\":{\"id\":\"1\",\"c\":\"c\"},"
        "\"headers\":{\"operation\":\"insert\",\"relation\":[\"public\",\"t\"]}}");
}

static void exotic_names_are_read(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "DROP SCHEMA IF EXISTS \"my.\"\"s'\\\" CASCADE");
    sql(f->other, "CREATE SCHEMA \"my.\"\"s'\\\"");
    sql(f->other,
        "CREATE TABLE \"my.\"\"s'\\\".\"T /'\"\"x\\\" (\"select\" int PRIMARY KEY,"
        " \"a\"\"b'\\\" text)");
    sql(f->other, "INSERT INTO \"my.\"\"s'\\\".\"T /'\"\"x\\\" VALUES (1, 'x')");
    shape_of(f, "my.\"s'\\", "T /'\"x\\");
    run_ok(f);
    assert_string_equal(
        f->kept[0],
        "{\"key\":\"\\\"my.\\\"\\\"s'\\\\\\\".\\\"T /'\\\"\\\"x\\\\\\\"/\\\"1\\\"\","
        "\"value\":{\"select\":\"1\",\"a\\\"b'\\\\\":\"x\"},"
        "\"headers\":{\"operation\":\"insert\","
        "\"relation\":[\"my.\\\"s'\\\\\",\"T /'\\\"x\\\\\"]}}");
}

static void rows_of_children_and_partitions_belong_to_the_root(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id);"
                  "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
                  "CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);"
                  "INSERT INTO t VALUES (5), (15)");
    shape_of(f, "public", "t");
    run_ok(f);
    assert_int_equal(f->rows, 2);
    assert_non_null(strstr(f->kept[1], "\\\"public\\\".\\\"t\\\"/\\\"15\\\""));
    sql(f->other, "CREATE TABLE t2 (id int PRIMARY KEY);"
                  "CREATE TABLE t2_child (extra text) INHERITS (t2);"
                  "INSERT INTO t2 VALUES (1); INSERT INTO t2_child VALUES (2, 'x')");
    shape_of(f, "public", "t2");
    run_ok(f);
    assert_int_equal(f->rows, 2);
}

static void large_tables_are_flushed_on_the_way(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY, v text)");
    sql(f->other,
        "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 5000) i;"
        "INSERT INTO t VALUES (0, repeat(E'\\\\', 3000000))");
    shape_of(f, "public", "t");
    run_ok(f);
    assert_int_equal(f->rows, 5001);
    /* 5 MB and 6 MB of JSON at 256 KiB or less. */
    assert_true(f->event_count > 20);
}

static void settings_of_role_and_session_do_not_show(void **state)
{
    struct fixture *f = *state;

    sql(f->other,
        "CREATE TABLE t (id int PRIMARY KEY, d timestamptz, i interval, b bytea)");
    sql(f->other,
        "INSERT INTO t VALUES (1, '2024-01-31 12:00+02', '1 day 2 hours', '\\x00ff')");
    sql(f->conn, "SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo';"
                 "SET bytea_output = 'escape'; SET IntervalStyle = 'postgres_verbose';"
                 "SET standard_conforming_strings = off");
    shape_of(f, "public", "t");
    run_ok(f);
    assert_non_null(strstr(f->kept[0],
                           "\"d\":\"2024-01-31 10:00:00+00\",\"i\":\"P1DT2H\","
                           "\"b\":\"\\\\x00ff\"}"));
    ask_expect(f->conn, "SHOW DateStyle", "German, DMY");
}

/* Joining the stream. */

static uint32_t last_xid(struct fixture *f, const char *expression)
{
    char *text = ask(f->other, expression);
    uint64_t xid = 0;

    assert_true(slice_to_u64(slice_of(text), &xid));
    free(text);
    return (uint32_t)xid;
}

static void commit_after_subscribing_is_in_the_snapshot(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    shape_of(f, "public", "t");
    f->xid = last_xid(f, "SELECT pg_snapshot_xmax(pg_current_snapshot())");
    f->on_subscribe = "INSERT INTO t VALUES (1)";
    run_ok(f);
    assert_int_equal(f->rows, 1);
    assert_true(f->sees_xid);
}

static void commit_after_joining_is_not_in_the_snapshot(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    shape_of(f, "public", "t");
    f->xid = last_xid(f, "SELECT pg_snapshot_xmax(pg_current_snapshot())");
    f->on_joined = "INSERT INTO t VALUES (1)";
    run_ok(f);
    assert_int_equal(f->rows, 0);
    assert_false(f->sees_xid);
    ask_expect(f->other, "SELECT count(*) FROM t", "1");
}

static void transaction_in_progress_is_listed_and_not_seen(void **state)
{
    struct fixture *f = *state;
    char listed[64];

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    shape_of(f, "public", "t");
    sql(f->other, "BEGIN; INSERT INTO t VALUES (1)");
    f->xid = last_xid(f, "SELECT pg_current_xact_id()");
    f->on_subscribe = NULL;
    f->on_joined = "COMMIT";
    run_ok(f);
    assert_int_equal(f->rows, 0);
    assert_false(f->sees_xid);
    assert_int_equal(f->xmin, f->xid);
    /* Nothing younger has begun, so it may be xmax itself; else it is listed. */
    snprintf(listed, sizeof(listed), "\"xip_list\":[\"%u\"]", f->xid);
    assert_true(f->xmax == f->xid || strstr(f->end, listed) != NULL);
}

static void younger_commit_beside_one_in_progress_is_seen(void **state)
{
    struct fixture *f = *state;
    PGconn *third = connect_as(f, "postgres");
    char listed[64];

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    shape_of(f, "public", "t");
    sql(third, "BEGIN; INSERT INTO t VALUES (1)");
    sql(f->other, "INSERT INTO t VALUES (2)");
    f->xid = last_xid(f, "SELECT pg_snapshot_xmin(pg_current_snapshot())");
    run_ok(f);
    assert_int_equal(f->rows, 1);
    assert_false(f->sees_xid);
    assert_int_equal(f->xmax, f->xid + 2);
    snprintf(listed, sizeof(listed), "\"xip_list\":[\"%u\"]", f->xid);
    assert_non_null(strstr(f->end, listed));
    PQfinish(third);
}

static void refused_join_begins_again_with_a_new_snapshot(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (v int)");
    shape_of(f, "public", "t");
    f->retries = 3;
    f->on_subscribe = "INSERT INTO t VALUES (1)";
    run_ok(f);
    assert_memory_equal(f->events, "sjsjsjsjr", 9);
    assert_int_equal(f->rows, 4);
}

static void join_refused_for_ever_is_given_up(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (v int)");
    shape_of(f, "public", "t");
    f->retries = UINT32_MAX;
    run_fails(f, ERR_RETRY, 503,
              "Snapshot query took too long to start reading from the database");
    assert_int_equal(UINT32_MAX - f->retries, 100);
}

static void truncate_waits_from_before_the_snapshot_on(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (v int)");
    sql(f->other, "INSERT INTO t VALUES (1)");
    sql(f->other, "SET lock_timeout = '50ms'");
    shape_of(f, "public", "t");
    f->on_subscribe = "DO $$ BEGIN TRUNCATE t; RAISE 'truncated';"
                      " EXCEPTION WHEN lock_not_available THEN NULL; END $$";
    run_ok(f);
    assert_int_equal(f->rows, 1);
}

/* Giving up. */

static void ends_when_the_table_is_not_what_it_was(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY, v text)");
    sql(f->other, "INSERT INTO t VALUES (1, '1')");
    shape_of(f, "public", "t");
    f->verify = true;
    run_ok(f);
    assert_memory_equal(f->events, "svjr", 4);
    shape_of(f, "public", "t");
    atomic_store(&f->obs.counter[OBS_SNAPSHOTS], 0);
    sql(f->other, "ALTER TABLE t ALTER v TYPE int USING v::int");
    run_fails(f, ERR_DB, 409, "the table changed");
    assert_string_equal(f->events, "sv");
}

/* What the stamp stands for: whatever changes the table's definition changes it. */
static void a_stamp_follows_the_definition(void **state)
{
    static const char *const changes[] = {"ALTER TABLE t ADD w int",
                                          "ALTER TABLE t DROP w",
                                          "ALTER TABLE t ALTER v TYPE int8",
                                          "ALTER TABLE t RENAME v TO u",
                                          "ALTER TABLE t ALTER u SET NOT NULL",
                                          "ALTER TABLE t REPLICA IDENTITY FULL",
                                          "ALTER TABLE t DROP CONSTRAINT t_pkey",
                                          "ALTER TABLE t ADD PRIMARY KEY (u)"};
    struct fixture *f = *state;
    char was[sizeof f->stamp];

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY, v int)");
    f->verify = true;
    shape_of(f, "public", "t");
    run_ok(f);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        memcpy(was, f->stamp, sizeof was);
        assert_int_not_equal(strlen(was), 0);
        sql(f->other, "INSERT INTO t VALUES ((SELECT count(*) FROM t), 1)");
        sql(f->other, "ANALYZE t");
        shape_of(f, "public", "t");
        run_ok(f);
        assert_string_equal(f->stamp, was);
        sql(f->other, "DELETE FROM t");
        sql(f->other, changes[i]);
        shape_of(f, "public", "t");
        run_ok(f);
        assert_string_not_equal(f->stamp, was);
    }
}

static void what_a_stamp_can_not_tell_has_none(void **state)
{
    static const char *const tables[] = {
        "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id int PRIMARY KEY, m mood)",
        "CREATE DOMAIN short AS text; CREATE TABLE t (id int PRIMARY KEY, m short[])",
        "CREATE COLLATION own FROM \"C\"; CREATE TABLE t (v text COLLATE own)",
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE child () INHERITS (t)"};
    struct fixture *f = *state;

    f->verify = true;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        sql(f->other, tables[i]);
        shape_of(f, "public", "t");
        run_ok(f);
        assert_string_equal(f->stamp, "");
        sql(f->other, "DROP TABLE t CASCADE");
    }
    sql(f->other, "DROP TYPE mood; DROP DOMAIN short; "
                  "DROP COLLATION own");
}

static void cancelled_while_waiting_for_a_lock(void **state)
{
    struct fixture *f = *state;
    int64_t started_ms = clock_mono_ms();

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    shape_of(f, "public", "t");
    sql(f->other, "BEGIN; LOCK TABLE t");
    f->cancel_after_calls = 4;
    run_fails(f, ERR_CANCELLED, 0, "The snapshot was cancelled");
    assert_true(clock_mono_ms() - started_ms < 5000);
    assert_int_equal(f->event_count, 0);
    sql(f->other, "ROLLBACK");
}

static void cancelled_in_the_middle_of_the_rows(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t AS SELECT i AS id, repeat('x', 100) AS v"
                  " FROM generate_series(1, 100000) i");
    shape_of(f, "public", "t");
    f->cancel_at_row = 1000;
    run_fails(f, ERR_CANCELLED, 0, "The snapshot was cancelled");
    assert_in_range(f->rows, 1000, 1100);
    ask_expect(f->other, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%'",
               "0");
}

static void no_first_row_in_time_is_a_timeout(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    shape_of(f, "public", "t");
    sql(f->other, "BEGIN; LOCK TABLE t");
    f->request.first_row_timeout_ms = 200;
    run_fails(
        f, ERR_RETRY, 503,
        "Snapshot query took too long to return data (cancelled after 200ms). Please "
        "ensure snapshot queries are using an index to avoid taking up all database "
        "connections.");
    sql(f->other, "ROLLBACK");
    run_ok(f);
}

static void failing_sink_ends_the_snapshot_with_its_error(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 50000) i");
    shape_of(f, "public", "t");
    f->fail_at_row = 10;
    run_fails(f, ERR_IO, 0, "the disk is full");
    assert_int_equal(f->rows, 10);
}

/* What Postgres refuses. */

static void dropped_table_and_column_are_409(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY, v text)");
    shape_of(f, "public", "t");
    sql(f->other, "ALTER TABLE t DROP COLUMN v");
    run_fails(
        f, ERR_DB, 409,
        "The table changed while its snapshot was made: column \"v\" does not exist");
    sql(f->other, "DROP TABLE t");
    run_fails(
        f, ERR_DB, 409,
        "The table changed while its snapshot was made: relation \"public.t\" does not "
        "exist");
}

static void table_made_again_under_the_same_name_is_409(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    shape_of(f, "public", "t");
    sql(f->other, "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY)");
    run_fails(f, ERR_DB, 409,
              "The table \"public\".\"t\" is gone or was replaced by another one");
}

static void become(struct fixture *f, const char *user, const char *grants)
{
    sql(f->other, "DROP ROLE IF EXISTS reader");
    sql(f->other, "CREATE ROLE reader LOGIN");
    if (grants)
        sql(f->other, grants);
    PQfinish(f->conn);
    f->conn = connect_as(f, user);
}

static void leave(struct fixture *f)
{
    PQfinish(f->conn);
    f->conn = connect_as(f, "postgres");
    sql(f->other, "DROP OWNED BY reader; DROP ROLE reader");
}

static void missing_privilege_is_named(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    shape_of(f, "public", "t");
    become(f, "reader", NULL);
    run_fails(
        f, ERR_DB, 503,
        "Unable to create initial snapshot: permission denied for table t. Its owner "
        "can allow it: GRANT SELECT ON TABLE \"public\".\"t\" TO \"reader\";");
    leave(f);
}

static void a_missing_right_to_the_schema_is_named(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE SCHEMA shut; CREATE TABLE shut.t (id int PRIMARY KEY)");
    shape_of(f, "shut", "t");
    become(f, "reader", "GRANT SELECT ON shut.t TO reader");
    run_fails(
        f, ERR_DB, 503,
        "Unable to create initial snapshot: permission denied for schema shut. An "
        "administrator can allow it: GRANT USAGE ON SCHEMA \"shut\" TO \"reader\";");
    leave(f);
    sql(f->other, "DROP SCHEMA shut CASCADE");
}

static void column_privileges_suffice(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    sql(f->other, "INSERT INTO t VALUES (1)");
    shape_of(f, "public", "t");
    become(f, "reader", "GRANT SELECT (id) ON t TO reader");
    run_ok(f);
    assert_int_equal(f->rows, 1);
    /* Without the lock of the table another may come between: COPY has a deadline too. */
    shape_of(f, "public", "t");
    f->on_joined = "BEGIN; LOCK TABLE t";
    f->request.first_row_timeout_ms = 200;
    atomic_store(&f->obs.counter[OBS_SNAPSHOTS], 0);
    run_fails(
        f, ERR_RETRY, 503,
        "Snapshot query took too long to return data (cancelled after 200ms). Please "
        "ensure snapshot queries are using an index to avoid taking up all database "
        "connections.");
    sql(f->other, "ROLLBACK");
    leave(f);
}

static void row_level_security_is_refused_not_obeyed(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    sql(f->other, "INSERT INTO t VALUES (1), (2)");
    sql(f->other, "ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
                  "CREATE POLICY odd ON t USING (id % 2 = 1)");
    shape_of(f, "public", "t");
    become(f, "reader", "GRANT SELECT ON t TO reader");
    run_fails(
        f, ERR_DB, 503,
        "Unable to create initial snapshot: row-level security applies to "
        "\"public\".\"t\"; connect as a role with BYPASSRLS, or as the owner without "
        "FORCE ROW LEVEL SECURITY");
    assert_int_equal(f->rows, 0);
    leave(f);
    run_ok(f);
    assert_int_equal(f->rows, 2);
}

static void lock_timeout_of_the_role_is_named(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    shape_of(f, "public", "t");
    sql(f->other, "BEGIN; LOCK TABLE t");
    sql(f->conn, "SET lock_timeout = '50ms'");
    run_fails(
        f, ERR_RETRY, 503,
        "Snapshot timed out while waiting for a table lock: canceling statement due to "
        "lock timeout");
    sql(f->other, "ROLLBACK");
}

static void lost_connection_is_transient(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    char terminate[64];

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY)");
    shape_of(f, "public", "t");
    snprintf(terminate, sizeof(terminate), "SELECT pg_terminate_backend(%d, 5000)",
             PQbackendPID(f->conn));
    f->on_joined = terminate;
    assert_int_equal(run(f, &err), ERR_RETRY);
    assert_int_equal(err.http_status, 503);
    assert_int_equal(PQstatus(f->conn), CONNECTION_BAD);
    assert_null(f->end);
}

static void bigger_than_any_buffer_of_the_socket(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "CREATE TABLE t (id int PRIMARY KEY, v bytea)");
    sql(f->other, "INSERT INTO t VALUES (1, decode(repeat('00ff', 5000000), 'hex'))");
    shape_of(f, "public", "t");
    run_ok(f);
    assert_int_equal(f->rows, 1);
    assert_true(strlen(f->kept[0]) > 20000000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rows_come_as_inserts_and_then_the_end),
        TEST(empty_table_has_only_an_end),
        TEST(only_rows_that_fulfil_the_condition_are_read),
        TEST(a_condition_that_a_row_breaks_is_a_400),
        TEST(a_condition_that_postgres_does_not_know_is_a_500),
        TEST(changes_only_reads_no_rows),
        TEST(only_selected_columns_are_read),
        TEST(exotic_names_are_read),
        TEST(rows_of_children_and_partitions_belong_to_the_root),
        TEST(large_tables_are_flushed_on_the_way),
        TEST(bigger_than_any_buffer_of_the_socket),
        TEST(settings_of_role_and_session_do_not_show),
        TEST(commit_after_subscribing_is_in_the_snapshot),
        TEST(commit_after_joining_is_not_in_the_snapshot),
        TEST(transaction_in_progress_is_listed_and_not_seen),
        TEST(younger_commit_beside_one_in_progress_is_seen),
        TEST(refused_join_begins_again_with_a_new_snapshot),
        TEST(join_refused_for_ever_is_given_up),
        TEST(truncate_waits_from_before_the_snapshot_on),
        TEST(a_stamp_follows_the_definition),
        TEST(what_a_stamp_can_not_tell_has_none),
        TEST(ends_when_the_table_is_not_what_it_was),
        TEST(cancelled_while_waiting_for_a_lock),
        TEST(cancelled_in_the_middle_of_the_rows),
        TEST(no_first_row_in_time_is_a_timeout),
        TEST(failing_sink_ends_the_snapshot_with_its_error),
        TEST(dropped_table_and_column_are_409),
        TEST(table_made_again_under_the_same_name_is_409),
        TEST(missing_privilege_is_named),
        TEST(a_missing_right_to_the_schema_is_named),
        TEST(column_privileges_suffice),
        TEST(row_level_security_is_refused_not_obeyed),
        TEST(lock_timeout_of_the_role_is_named),
        TEST(lost_connection_is_transient),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
