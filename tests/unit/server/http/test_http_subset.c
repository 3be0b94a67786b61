/* Subsets through HTTP and a pool, with a real Postgres behind them: clients that are slow, that
 * leave, and a server that stops. */
#include "fixture.h"

#include "server/pg/pool.h"
#include "support/pgcluster.h"

#define ROWS    60000
#define WAIT_MS 3000

struct world {
    struct pgcluster *cluster;
    struct pg_config *pg;
    struct pool *pool;
    PGconn *conn;   /* looks on */
    PGconn *locker; /* is in the way */
    struct fixture f;
};

static PGconn *connect_to(struct world *w)
{
    PGconn *conn = PQconnectdb(pgcluster_url(w->cluster));

    assert_int_equal(PQstatus(conn), CONNECTION_OK);
    return conn;
}

static void sql(struct world *w, const char *text, char out[64])
{
    PGresult *result = NULL;
    struct err err = {0};

    if (pg_exec(w->conn, text, &result, &err) != 0)
        fail_msg("%s: %s", text, err.message);
    if (out)
        snprintf(out, 64, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
}

static void block(struct world *w, const char *text)
{
    struct err err = {0};

    if (pg_exec(w->locker, text, NULL, &err) != 0)
        fail_msg("%s: %s", text, err.message);
}

static int group_setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct pg_options options;

    assert_non_null(w);
    w->cluster = pgcluster_new(NULL);
    w->conn = connect_to(w);
    w->locker = connect_to(w);
    options = (struct pg_options){.url = pgcluster_url(w->cluster)};
    assert_int_equal(pg_config_new(&options, &w->pg, NULL), 0);
    sql(w, "CREATE TABLE items (id int PRIMARY KEY, v text, n int)", NULL);
    sql(w,
        "INSERT INTO items SELECT i, repeat('x', 200), i FROM generate_series(1, 60000) "
        "i",
        NULL);
    *state = w;
    return 0;
}

static int group_teardown(void **state)
{
    struct world *w = *state;

    PQfinish(w->conn);
    PQfinish(w->locker);
    pg_config_free(w->pg);
    pgcluster_free(w->cluster);
    free(w);
    return 0;
}

static int setup(void **state)
{
    struct world *w = *state;
    struct pool_config pool = {.pg = w->pg,
                               .name = "snapshot",
                               .max_connections = 3,
                               .max_queued = 8,
                               .max_aside = 2,
                               .connect_timeout_ms = 5000};
    char oid[64];
    uint64_t n = 0;

    assert_int_equal(pool_new(&pool, &w->pool, NULL), 0);
    memset(&w->f, 0, sizeof w->f);
    w->f.config = defaults();
    w->f.config.snapshot_pool = w->pool;
    w->f.config.first_row_timeout_ms = 5000;
    w->f.config.subset_wait_ms = WAIT_MS;
    open_with(&w->f, 10u * 1024 * 1024);
    sql(w, "SELECT 'items'::regclass::oid", oid);
    assert_true(slice_to_u64(slice_of(oid), &n));
    assert_string_equal(w->f.catalog.tables[0]->name.ptr, "items");
    w->f.catalog.tables[0]->oid = (uint32_t)n;
    return 0;
}

/* In the order of server.c: the pool's jobs find their loops ended. */
static int teardown(void **state)
{
    struct world *w = *state;

    http_stop(w->f.http, 500);
    pool_free(w->pool);
    assert_int_equal(atomic_load(&w->f.obs.gauge[OBS_G_CONNECTIONS]), 0);
    assert_int_equal(atomic_load(&w->f.obs.gauge[OBS_G_REQUESTS_INITIAL]), 0);
    assert_int_equal(atomic_load(&w->f.obs.gauge[OBS_G_REQUESTS_EXISTING]), 0);
    http_free(w->f.http);
    fake_fini(&w->f.shapes, &w->f.catalog);
    return 0;
}

#define PATH "/v1/shape?table=items&offset=-1&subset__order_by=id"
#define COPY_RUNS                                                                        \
    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT%' AND state "  \
    "= 'active'"

static void wait_for(struct world *w, const char *query, const char *expected)
{
    char got[64] = "";

    for (int i = 0; i < 5000 && strcmp(got, expected) != 0; i++) {
        sql(w, query, got);
        clock_sleep_ms(2);
    }
    assert_string_equal(got, expected);
}

static int begin(struct world *w, const char *path)
{
    char head[512];
    int fd = client_connect(http_port(w->f.http));
    int n = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);

    client_write(fd, head, (size_t)n);
    return fd;
}

static void all_of_it_comes(void **state)
{
    struct world *w = *state;
    struct client_answer a = ask(&w->f, "GET", PATH, "");

    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body, "\"id\":\"60000\""));
    assert_non_null(strstr(a.text, "electric-snapshot: true"));
    client_free(&a);
    assert_int_equal(atomic_load(&w->f.obs.counter[OBS_SUBSET_ROWS]), ROWS);
}

static void who_does_not_read_does_not_keep_a_connection(void **state)
{
    struct world *w = *state;
    int64_t begun = clock_mono_ms();
    int fds[2];

    for (size_t i = 0; i < 2; i++)
        fds[i] = begin(w, PATH);
    wait_for(w, COPY_RUNS, "2");
    /* Another has to wait for one of the two that subsets may have. */
    expect(&w->f, "GET", PATH "&subset__limit=0", "", 400, NULL);
    expect(&w->f, "GET", PATH "&subset__limit=1", "", 200, NULL);
    assert_in_range(clock_mono_ms() - begun, WAIT_MS, 30000);
    wait_for(w, COPY_RUNS, "0");
    for (size_t i = 0; i < 2; i++) {
        char got[4096];
        ssize_t n;

        /* What had come is cut off: never the end. */
        char tail[8] = "";
        while ((n = client_read(fds[i], got, sizeof got, 2000)) > 0)
            memcpy(tail, got + (n > 7 ? n - 7 : 0), n > 7 ? 7 : (size_t)n);
        assert_null(strstr(tail, "0\r\n\r\n"));
        close(fds[i]);
    }
}

static void who_reads_slowly_but_in_time_gets_all(void **state)
{
    struct world *w = *state;
    int fd = begin(w, PATH);

    wait_for(w, COPY_RUNS, "1");
    clock_sleep_ms(WAIT_MS / 2);
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body, "\"id\":\"60000\""));
    client_free(&a);
    close(fd);
}

static void who_leaves_ends_the_query(void **state)
{
    struct world *w = *state;
    int fd = begin(w, PATH);

    wait_for(w, COPY_RUNS, "1");
    close(fd);
    wait_for(w, COPY_RUNS, "0");
    block(w, "BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE");
    fd = begin(w, PATH);
#define LOCKS "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    wait_for(w, LOCKS, "1");
    close(fd);
    wait_for(w, LOCKS, "0");
    block(w, "ROLLBACK");
}

static void who_waits_in_the_queue_is_told_when_it_is_full(void **state)
{
    struct world *w = *state;
    int fds[10];

    block(w, "BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE");
    for (size_t i = 0; i < 2; i++)
        fds[i] = begin(w, PATH);
    wait_for(w, LOCKS, "2");
    for (size_t i = 2; i < 10; i++)
        fds[i] = begin(w, PATH);
    wait_gauge(&w->f, OBS_G_REQUESTS_EXISTING, 10);
    expect(&w->f, "GET", PATH, "", 503,
           "{\"message\":\"Snapshot creation failed because of a connection pool queue "
           "timeout\"}");
    block(w, "ROLLBACK");
    for (size_t i = 0; i < 10; i++)
        close(fds[i]);
    wait_for(w, COPY_RUNS, "0");
}

static void a_server_that_stops_ends_them(void **state)
{
    struct world *w = *state;
    int waiting;
    int reading = begin(w, PATH);

    wait_for(w, COPY_RUNS, "1");
    block(w, "BEGIN; LOCK TABLE items IN SHARE MODE");
    waiting = begin(w, PATH "&subset__where=pg_sleep(3)%20IS%20NULL");
    http_stop(w->f.http, 200);
    block(w, "ROLLBACK");
    close(reading);
    close(waiting);
    wait_for(w, COPY_RUNS, "0");
}

static void without_postgres_it_is_said(void **state)
{
    struct world *w = *state;

    pool_free(w->pool);
    struct pg_options options = {
        .url = "postgresql://postgres@127.0.0.1:1/postgres?sslmode=disable"};
    struct pg_config *nowhere = NULL;
    assert_int_equal(pg_config_new(&options, &nowhere, NULL), 0);
    struct pool_config pool = {.pg = nowhere,
                               .name = "snapshot",
                               .max_connections = 1,
                               .max_queued = 8,
                               .max_aside = 1,
                               .connect_timeout_ms = 1000};
    http_stop(w->f.http, 100);
    http_free(w->f.http);
    fake_fini(&w->f.shapes, &w->f.catalog);
    assert_int_equal(pool_new(&pool, &w->pool, NULL), 0);
    w->f.config.snapshot_pool = w->pool;
    open_with(&w->f, 10u * 1024 * 1024);
    expect(&w->f, "GET", PATH, "", 503,
           "{\"code\":\"database_unreachable\",\"error\":\"Database is unreachable\"}");
    http_stop(w->f.http, 100);
    pool_free(w->pool);
    pg_config_free(nowhere);
    w->pool = NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_of_it_comes),
        TEST(who_does_not_read_does_not_keep_a_connection),
        TEST(who_reads_slowly_but_in_time_gets_all),
        TEST(who_leaves_ends_the_query),
        TEST(who_waits_in_the_queue_is_told_when_it_is_full),
        TEST(a_server_that_stops_ends_them),
        TEST(without_postgres_it_is_said),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
