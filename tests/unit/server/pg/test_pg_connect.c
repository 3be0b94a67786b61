/* Connecting to a real Postgres, and the ways in which that fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/pg/pg.h"
#include "support/pgcluster.h"

#define SECRET "s3kr1t"

static struct pgcluster *cluster;

static struct pg_config *configure(const char *url, bool ipv6)
{
    struct pg_config *config = NULL;
    struct err err;
    const struct pg_options options = {.url = url, .ipv6 = ipv6};
    if (pg_config_new(&options, &config, &err))
        fail_msg("%s: %s", url, err.message);
    return config;
}

static PGconn *connect_ok(const char *url, enum pg_kind kind)
{
    struct pg_config *config = configure(url, false);
    PGconn *conn = NULL;
    struct err err;
    if (pg_connect(config, kind, 5000, -1, &conn, &err))
        fail_msg("%s", err.message);
    pg_config_free(config);
    return conn;
}

static void scalar(PGconn *conn, const char *sql, const char *expected)
{
    PGresult *result = NULL;
    struct err err;
    if (pg_exec(conn, sql, &result, &err))
        fail_msg("%s", err.message);
    assert_string_equal(PQgetvalue(result, 0, 0), expected);
    PQclear(result);
}

static void run(PGconn *conn, const char *sql)
{
    struct err err;
    if (pg_exec(conn, sql, NULL, &err))
        fail_msg("%s", err.message);
}

static int setup(void **state)
{
    (void)state;
    cluster = pgcluster_new(NULL);
    PGconn *conn = connect_ok(pgcluster_url(cluster), PG_QUERY);
    run(conn, "CREATE ROLE locked LOGIN PASSWORD 'right'");
    run(conn, "CREATE ROLE odd LOGIN");
    run(conn, "ALTER ROLE odd SET DateStyle = 'German'");
    run(conn, "ALTER ROLE odd SET IntervalStyle = 'postgres'");
    run(conn, "ALTER ROLE odd SET TimeZone = 'Asia/Tokyo'");
    run(conn, "ALTER ROLE odd SET bytea_output = 'escape'");
    run(conn, "ALTER ROLE odd SET extra_float_digits = -5");
    run(conn, "ALTER ROLE odd REPLICATION");
    run(conn, "CREATE DATABASE closed ALLOW_CONNECTIONS false");
    char path[512];
    snprintf(path, sizeof(path), "%s/pg_hba.conf", pgcluster_data(cluster));
    FILE *hba = fopen(path, "w");
    assert_non_null(hba);
    fputs("host all locked 127.0.0.1/32 scram-sha-256\n"
          "host all postgres,odd 127.0.0.1/32 trust\n",
          hba);
    fclose(hba);
    scalar(conn, "SELECT pg_reload_conf()", "t");
    PQfinish(conn);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pgcluster_free(cluster);
    return 0;
}

static int failure(const char *url, int timeout_ms, struct err *err)
{
    struct pg_config *config = configure(url, false);
    PGconn *conn = NULL;
    err_clear(err);
    int rc = pg_connect(config, PG_QUERY, timeout_ms, -1, &conn, err);
    assert_null(conn);
    assert_int_equal(rc, err->code);
    assert_null(strstr(err->message, SECRET));
    assert_null(strchr(err->message, '\n'));
    pg_config_free(config);
    return rc;
}

static void test_connects_in_utf8_under_its_name(void **state)
{
    (void)state;
    PGconn *conn = connect_ok(pgcluster_url(cluster), PG_QUERY);
    scalar(conn, "SHOW client_encoding", "UTF8");
    scalar(conn, "SHOW application_name", "coulomb");
    PQfinish(conn);
}

static void check_display(PGconn *conn)
{
    scalar(conn, "SHOW DateStyle", "ISO, DMY");
    scalar(conn, "SHOW IntervalStyle", "iso_8601");
    scalar(conn, "SHOW TimeZone", "UTC");
    scalar(conn, "SHOW bytea_output", "hex");
    scalar(conn, "SHOW extra_float_digits", "1");
}

static void test_display_settings_override_the_roles(void **state)
{
    (void)state;
    char url[128];
    snprintf(url, sizeof(url), "postgres://odd@127.0.0.1:%d/postgres?sslmode=disable",
             pgcluster_port(cluster));
    PGconn *conn = connect_ok(url, PG_REPLICATION);
    check_display(conn);
    scalar(conn, "SHOW client_encoding", "UTF8");
    PQfinish(conn);
    conn = connect_ok(url, PG_QUERY);
    run(conn, "BEGIN");
    run(conn, pg_display_settings_local);
    check_display(conn);
    run(conn, "COMMIT");
    scalar(conn, "SHOW TimeZone", "Asia/Tokyo");
    PQfinish(conn);
}

static void test_replication_connection_speaks_its_protocol(void **state)
{
    (void)state;
    PGconn *conn = connect_ok(pgcluster_url(cluster), PG_REPLICATION);
    PGresult *result = NULL;
    struct err err;
    assert_int_equal(pg_exec(conn, "IDENTIFY_SYSTEM", &result, &err), 0);
    assert_int_equal(PQnfields(result), 4);
    PQclear(result);
    PQfinish(conn);
}

static void test_what_a_person_must_cure_is_fatal(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        const char *sqlstate;
        const char *says;
    } cases[] = {
        {"postgres://locked:" SECRET "@127.0.0.1:%d/postgres", "28P01", "password auth"},
        {"postgres://locked@127.0.0.1:%d/postgres", "", "no password supplied"},
        {"postgres://postgres@127.0.0.1:%d/nothere", "3D000",
         "\"nothere\" does not exist"},
        {"postgres://nobody:" SECRET "@127.0.0.1:%d/postgres", "28000", "pg_hba.conf"},
        {"postgres://postgres@127.0.0.1:%d/closed", "55000", "not currently accepting"},
        {"postgres://postgres@127.0.0.1:%d/postgres?sslmode=require", "", "SSL"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char url[160];
        struct err err;
        const char *at = strstr(cases[i].format, "%d");
        snprintf(url, sizeof(url), "%.*s%d%s", (int)(at - cases[i].format),
                 cases[i].format, pgcluster_port(cluster), at + 2);
        int rc = failure(url, 5000, &err);
        if (rc != ERR_FATAL || !strstr(err.message, cases[i].says) ||
            strcmp(err.sqlstate, cases[i].sqlstate) != 0)
            fail_msg("%s: %d [%s] %s", url, rc, err.sqlstate, err.message);
        assert_null(strstr(err.message, "LOCATION"));
    }
}

static int listener(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static void test_a_refused_connection_may_be_retried(void **state)
{
    (void)state;
    int port = 0;
    char url[128];
    struct err err;
    int fd = listener(&port); /* bound, not listening: refused */
    snprintf(url, sizeof(url), "postgres://u:" SECRET "@127.0.0.1:%d/d", port);
    assert_int_equal(failure(url, 5000, &err), ERR_RETRY);
    assert_non_null(strstr(err.message, "refused"));
    close(fd);
}

static void test_a_silent_server_ends_with_the_time_limit(void **state)
{
    (void)state;
    int port = 0;
    char url[128];
    struct err err;
    int fd = listener(&port);
    assert_int_equal(listen(fd, 5), 0);
    snprintf(url, sizeof(url), "postgres://u:" SECRET "@127.0.0.1:%d/d", port);
    int64_t begin = clock_mono_ms();
    assert_int_equal(failure(url, 200, &err), ERR_RETRY);
    int64_t took = clock_mono_ms() - begin;
    assert_true(took >= 190 && took < 3000);
    close(fd);
}

static void test_cancel_fd_ends_the_attempt(void **state)
{
    (void)state;
    int port = 0;
    char url[128];
    struct err err;
    PGconn *conn = NULL;
    int fd = listener(&port);
    int cancel_fd = eventfd(1, EFD_CLOEXEC);
    assert_int_equal(listen(fd, 5), 0);
    snprintf(url, sizeof(url), "postgres://u@127.0.0.1:%d/d", port);
    struct pg_config *config = configure(url, false);
    assert_int_equal(pg_connect(config, PG_QUERY, 20000, cancel_fd, &conn, &err),
                     ERR_CANCELLED);
    assert_null(conn);
    pg_config_free(config);
    close(cancel_fd);
    close(fd);
}

static void test_ipv6_preference_still_reaches_ipv4(void **state)
{
    (void)state;
    char url[128];
    PGconn *conn = NULL;
    struct err err;
    snprintf(url, sizeof(url), "postgres://postgres@localhost:%d/postgres",
             pgcluster_port(cluster));
    struct pg_config *config = configure(url, true);
    if (pg_connect(config, PG_QUERY, 5000, -1, &conn, &err))
        fail_msg("%s", err.message);
    PQfinish(conn);
    pg_config_free(config);
}

static void test_failed_commands_carry_their_sqlstate(void **state)
{
    (void)state;
    PGconn *conn = connect_ok(pgcluster_url(cluster), PG_QUERY);
    struct err err;
    err_clear(&err);
    assert_int_equal(pg_exec(conn, "SELECT 1/0", NULL, &err), ERR_DB);
    assert_string_equal(err.sqlstate, "22012");
    assert_string_equal(err.message, "SELECT 1/0: division by zero");
    assert_int_equal(
        pg_exec(conn, "SELECT pg_terminate_backend(pg_backend_pid())", NULL, &err),
        ERR_RETRY);
    assert_int_equal(pg_exec(conn, "SELECT 1", NULL, &err), ERR_RETRY);
    PQfinish(conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connects_in_utf8_under_its_name),
        cmocka_unit_test(test_display_settings_override_the_roles),
        cmocka_unit_test(test_replication_connection_speaks_its_protocol),
        cmocka_unit_test(test_what_a_person_must_cure_is_fatal),
        cmocka_unit_test(test_a_refused_connection_may_be_retried),
        cmocka_unit_test(test_a_silent_server_ends_with_the_time_limit),
        cmocka_unit_test(test_cancel_fd_ends_the_attempt),
        cmocka_unit_test(test_ipv6_preference_still_reaches_ipv4),
        cmocka_unit_test(test_failed_commands_carry_their_sqlstate),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
