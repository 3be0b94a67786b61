/* subset_run against a real Postgres: the body, the view that is taken again, parts, and what goes
 * wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/catalog/catalog.h"
#include "server/snapshot/subset.h"
#include "support/pgcluster.h"

struct fixture {
    struct pgcluster *cluster;
    PGconn *conn;  /* the subset's */
    PGconn *other; /* everyone else's */
    struct table *table;
    struct encode_plan *plan;
    uint16_t *selected;
    struct subset_query query;
    struct obs obs;

    /* What the sink was given. */
    struct buf body;
    unsigned views;
    unsigned parts;
    bool last;
    size_t smallest; /* of parts but the last */
    char metadata[256];

    /* What the sink does. */
    unsigned retries;         /* seen says ERR_RETRY so often, */
    const char *before_again; /* having run this in the other session */
    unsigned fail_at_part;
    unsigned cancel_at_part;
};

static void sql(PGconn *conn, const char *text)
{
    struct err err = {0};

    if (pg_exec(conn, text, NULL, &err) != 0)
        fail_msg("%s: %s", text, err.message);
}

/* --- The sink --- */

static int on_seen(void *ctx, const struct snapshot_view *view, struct err *err)
{
    struct fixture *f = ctx;

    f->views++;
    assert_true(view->xmin <= view->xmax);
    if (f->retries > 0) {
        f->retries--;
        if (f->before_again)
            sql(f->other, f->before_again);
        return err_set(err, ERR_RETRY, "passed already");
    }
    snprintf(
        f->metadata, sizeof(f->metadata),
        "{\"metadata\":{\"snapshot_mark\":7,\"database_lsn\":\"%llu\",\"xmin\":\"%llu\","
        "\"xmax\":\"%llu\",\"xip_list\":[",
        (unsigned long long)view->wal_lsn, (unsigned long long)view->xmin,
        (unsigned long long)view->xmax);
    return 0;
}

static int on_part(void *ctx, char *bytes, size_t len, bool last, struct err *err)
{
    struct fixture *f = ctx;

    assert_false(f->last);
    f->parts++;
    f->last = last;
    if (!last && (f->smallest == 0 || len < f->smallest))
        f->smallest = len;
    buf_put(&f->body, bytes, len);
    free(bytes);
    if (last) /* its transaction is over */
        assert_int_equal(PQtransactionStatus(f->conn), PQTRANS_IDLE);
    return f->parts == f->fail_at_part ? err_set(err, ERR_LIMIT, "too slow") : 0;
}

static bool on_cancelled(void *ctx)
{
    struct fixture *f = ctx;

    return f->cancel_at_part > 0 && f->parts >= f->cancel_at_part;
}

static int run(struct fixture *f, const char *where, const char *order_by,
               struct err *err)
{
    const struct subset_sink sink = {
        .ctx = f, .seen = on_seen, .part = on_part, .cancelled = on_cancelled};
    int rc;

    f->query.where = slice_of(where);
    f->query.window.order_by = slice_of(order_by);
    buf_reset(&f->body, 0);
    f->views = f->parts = 0;
    f->last = false;
    rc = subset_run(f->conn, &f->query, &sink, err);
    assert_int_equal(PQtransactionStatus(f->conn), PQTRANS_IDLE);
    assert_int_equal(f->last, rc == 0);
    buf_putc(&f->body, '\0');
    assert_int_equal(f->body.failed, 0);
    return rc;
}

/* --- One test's world --- */

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

static void forget_table(struct fixture *f)
{
    encode_plan_release(f->plan);
    table_release(f->table);
    free(f->selected);
    f->plan = NULL;
    f->table = NULL;
    f->selected = NULL;
}

static void subset_of(struct fixture *f, const char *name)
{
    struct err err = {0};

    forget_table(f);
    if (catalog_read_table(f->other, SLICE_LIT("public"), slice_of(name), &f->table,
                           &err))
        fail_msg("%s", err.message);
    f->selected = calloc(f->table->column_count, sizeof(*f->selected));
    assert_non_null(f->selected);
    for (uint16_t i = 0; i < f->table->column_count; i++)
        f->selected[i] = i;
    f->plan = encode_plan_new(f->table, f->selected, f->table->column_count,
                              ENCODE_REPLICA_DEFAULT);
    f->query = (struct subset_query){
        .table = f->table,
        .plan = f->plan,
        .selected = f->selected,
        .selected_count = f->table->column_count,
        .mark = 7,
        .first_row_timeout_ms = 30000,
        .obs = &f->obs,
    };
}

static int setup(void **state)
{
    struct fixture *f = *state;
    struct pgcluster *cluster = f->cluster;

    *f = (struct fixture){.cluster = cluster};
    f->conn = PQconnectdb(pgcluster_url(cluster));
    f->other = PQconnectdb(pgcluster_url(cluster));
    buf_init(&f->body, (size_t)64 << 20);
    obs_init(&f->obs);
    sql(f->other,
        "SET client_min_messages = warning; DROP TABLE IF EXISTS t CASCADE;"
        "DROP TYPE IF EXISTS mood; CREATE TYPE mood AS ENUM ('sad', 'ok');"
        "CREATE TABLE t (id int PRIMARY KEY, n int, m mood, j json);"
        "INSERT INTO t VALUES (1, 0, 'ok', '1'), (2, 5, 'sad', NULL), (3, 5, NULL, '2')");
    subset_of(f, "t");
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    forget_table(f);
    buf_fini(&f->body);
    PQfinish(f->conn);
    PQfinish(f->other);
    return 0;
}

#define ROW(id, n, m, j)                                                                 \
    "{\"key\":\"\\\"public\\\".\\\"t\\\"/\\\"" id "\\\"\",\"value\":{\"id\":\"" id       \
    "\",\"n\":\"" n "\",\"m\":" m ",\"j\":" j "},\"headers\":{\"operation\":\"insert\"," \
    "\"relation\":[\"public\",\"t\"],\"snapshot_mark\":7}}"

static void expect_body(struct fixture *f, const char *data)
{
    char expected[2048];

    snprintf(expected, sizeof(expected), "%s]},\"data\":[%s]}", f->metadata, data);
    assert_string_equal(f->body.ptr, expected);
}

/* --- What is read --- */

static void rows_stand_behind_the_view(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(run(f, "(\"n\" = '5'::integer)", "\"id\" DESC NULLS FIRST", NULL),
                     0);
    expect_body(f, ROW("3", "5", "null", "\"2\"") "," ROW("2", "5", "\"sad\"", "null"));
    assert_int_equal(f->views, 1);
    assert_int_equal(f->parts, 1);
    assert_int_equal(atomic_load(&f->obs.counter[OBS_SUBSETS]), 1);
    assert_int_equal(atomic_load(&f->obs.counter[OBS_SUBSET_ROWS]), 2);
    assert_int_equal(atomic_load(&f->obs.counter[OBS_SNAPSHOTS]), 0);
}

static void no_row_is_an_empty_list(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(run(f, "false", "", NULL), 0);
    expect_body(f, "");
}

static void a_window_has_its_place_and_size(void **state)
{
    struct fixture *f = *state;

    f->query.window.has_limit = true;
    f->query.window.limit = 1;
    f->query.window.offset = 1;
    assert_int_equal(run(f, "", "\"id\"", NULL), 0);
    expect_body(f, ROW("2", "5", "\"sad\"", "null"));
    f->query.window.limit = INT64_MAX;
    f->query.window.offset = INT64_MAX;
    assert_int_equal(run(f, "", "\"id\"", NULL), 0);
    expect_body(f, "");
}

static void who_is_in_progress_is_listed(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "BEGIN; UPDATE t SET n = 9 WHERE id = 1");
    sql(f->conn, "SELECT pg_current_xact_id()");
    assert_int_equal(run(f, "(\"id\" = '1'::integer)", "", NULL), 0);
    sql(f->other, "ROLLBACK");
    assert_null(strstr(f->body.ptr, "\"xip_list\":[]"));
    assert_non_null(strstr(f->body.ptr, "\"xip_list\":[\""));
    assert_non_null(strstr(f->body.ptr, "\"n\":\"0\""));
}

static void a_view_that_lacks_something_is_taken_again(void **state)
{
    struct fixture *f = *state;

    f->retries = 3;
    f->before_again = "UPDATE t SET n = n + 1 WHERE id = 1";
    assert_int_equal(run(f, "(\"id\" = '1'::integer)", "", NULL), 0);
    assert_int_equal(f->views, 4);
    expect_body(f, ROW("1", "3", "\"ok\"", "\"1\""));
}

static void one_that_always_does_is_given_up(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};

    f->retries = UINT32_MAX;
    assert_true(run(f, "", "", &err) < 0);
    assert_int_equal(err.http_status, 503);
    assert_int_equal(f->views, 100);
    assert_int_equal(f->parts, 0);
}

static void much_comes_in_parts(void **state)
{
    struct fixture *f = *state;

    sql(f->other, "INSERT INTO t SELECT i, i FROM generate_series(10, 40000) i");
    assert_int_equal(run(f, "", "", NULL), 0);
    assert_in_range(f->parts, 30, 80);
    assert_true(f->smallest >= SUBSET_PART_BYTES);
    assert_int_equal(atomic_load(&f->obs.counter[OBS_SUBSET_ROWS]), 39994);
    assert_memory_equal(f->body.ptr + f->body.len - 5, "}}]}", 5);
}

/* --- What goes wrong --- */

static void refused(struct fixture *f, const char *where, const char *order_by,
                    int status, const char *message)
{
    struct err err = {0};

    assert_true(run(f, where, order_by, &err) < 0);
    assert_int_equal(f->parts, 0);
    if (strstr(err.message, message) == NULL)
        fail_msg("%s", err.message);
    assert_int_equal(err.http_status, status);
    if (status == 400)
        assert_string_equal(err.message, message);
}

static void what_is_wrong_with_the_query_is_told_in_postgres_words(void **state)
{
    struct fixture *f = *state;

    refused(f, "\"m\" = 'nope'::mood", "", 400,
            "invalid input value for enum mood: \"nope\"");
    refused(f, "10 / \"n\" > 1", "\"id\"", 400, "division by zero");
    refused(f, "", "\"j\"", 400, "could not identify an ordering operator for type json");
    refused(f, "\"gone\" = 1", "", 503,
            "The table changed while a subset of it was read");
    refused(f, "\"n\" = '1'::gone", "", 503, "The table changed");
    assert_int_equal(run(f, "", "", NULL), 0);
}

static void another_table_of_the_name_is_not_read(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};

    sql(f->other,
        "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, n int, m mood, j json)");
    assert_true(run(f, "", "", &err) < 0);
    assert_int_equal(err.http_status, 409);
    sql(f->other, "DROP TABLE t");
    refused(f, "", "", 503, "The table changed");
}

static void who_waits_too_long_is_cancelled(void **state)
{
    struct fixture *f = *state;

    f->query.first_row_timeout_ms = 200;
    sql(f->other, "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
    refused(f, "", "", 503, "took too long to return data (cancelled after 200ms)");
    sql(f->other, "ROLLBACK");
    refused(f, "pg_sleep(10) IS NULL", "", 503, "took too long to return data");
}

static void whoever_takes_the_parts_may_end_it(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};

    sql(f->other, "INSERT INTO t SELECT i, i FROM generate_series(10, 40000) i");
    f->fail_at_part = 2;
    assert_int_equal(run(f, "", "", &err), ERR_LIMIT);
    assert_string_equal(err.message, "too slow");
    assert_int_equal(f->parts, 2);
    f->fail_at_part = 0;
    f->cancel_at_part = 3;
    assert_int_equal(run(f, "", "", &err), ERR_CANCELLED);
    assert_in_range(f->parts, 3, 4);
    f->cancel_at_part = 0;
    assert_int_equal(run(f, "", "", &err), 0);
}

static void the_last_part_may_be_refused_too(void **state)
{
    struct fixture *f = *state;
    const struct subset_sink sink = {
        .ctx = f, .seen = on_seen, .part = on_part, .cancelled = on_cancelled};
    struct err err = {0};

    f->fail_at_part = 1;
    buf_reset(&f->body, 0);
    assert_int_equal(subset_run(f->conn, &f->query, &sink, &err), ERR_LIMIT);
    assert_true(f->last);
    assert_int_equal(PQtransactionStatus(f->conn), PQTRANS_IDLE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rows_stand_behind_the_view),
        TEST(no_row_is_an_empty_list),
        TEST(a_window_has_its_place_and_size),
        TEST(who_is_in_progress_is_listed),
        TEST(a_view_that_lacks_something_is_taken_again),
        TEST(one_that_always_does_is_given_up),
        TEST(much_comes_in_parts),
        TEST(what_is_wrong_with_the_query_is_told_in_postgres_words),
        TEST(another_table_of_the_name_is_not_read),
        TEST(who_waits_too_long_is_cancelled),
        TEST(whoever_takes_the_parts_may_end_it),
        TEST(the_last_part_may_be_refused_too),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
