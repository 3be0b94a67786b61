/* `coulomb status` and its GET, against a tiny server that says what the test wants. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/fetch.h"

struct fake {
    int fd;
    unsigned port;
    const char *reply; /* NULL: takes the request and says nothing */
    char request[1024];
    pthread_t thread;
    char url[64];
};

static void *serve_one(void *arg)
{
    struct fake *f = arg;
    int conn = accept(f->fd, NULL, NULL);
    if (conn < 0)
        return NULL;
    ssize_t n = read(conn, f->request, sizeof(f->request) - 1);
    f->request[n > 0 ? n : 0] = '\0';
    if (f->reply && write(conn, f->reply, strlen(f->reply)) < 0)
        perror("fake");
    if (!f->reply)
        usleep(400 * 1000);
    close(conn);
    return NULL;
}

static void start(struct fake *f, const char *reply)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *f = (struct fake){.reply = reply, .fd = socket(AF_INET, SOCK_STREAM, 0)};
    assert_int_equal(bind(f->fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(f->fd, 4), 0);
    assert_int_equal(getsockname(f->fd, (struct sockaddr *)&address, &len), 0);
    f->port = ntohs(address.sin_port);
    snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%u", f->port);
    assert_int_equal(pthread_create(&f->thread, NULL, serve_one, f), 0);
}

static void finish(struct fake *f)
{
    pthread_join(f->thread, NULL);
    close(f->fd);
}

static int status_of(const char *reply)
{
    struct fake f;
    start(&f, reply);
    char flag[] = "--url";
    char *args[] = {flag, f.url, NULL};
    int code = cli_status(2, args, NULL);
    finish(&f);
    assert_non_null(strstr(f.request, "GET /v1/health?verbose=true HTTP/1."));
    return code;
}

static void the_exit_code_says_how_the_server_is(void **state)
{
    (void)state;
    assert_int_equal(status_of("HTTP/1.1 200 OK\r\ncontent-length: 19\r\n\r\n"
                               "{\"status\":\"active\"}"),
                     0);
    assert_int_equal(status_of("HTTP/1.1 202 Accepted\r\n\r\n{\"status\":\"starting\"}"),
                     1);
    assert_int_equal(status_of("HTTP/1.1 202 Accepted\r\n\r\n{\"status\":\"waiting\"}"),
                     1);
    assert_int_equal(
        status_of("HTTP/1.1 202 Accepted\r\n\r\n{\"lag_ms\":61000,\"new\":[1],"
                  "\"detail\":\"say \\\"x\\\"\",\"status\":\"starting\"}"),
        1);
}

static void what_is_no_such_server_counts_as_not_reached(void **state)
{
    (void)state;
    assert_int_equal(status_of("HTTP/1.1 404 Not Found\r\n\r\nNot found"), 2);
    assert_int_equal(status_of("HTTP/1.1 200 OK\r\n\r\nhello"), 2);
    assert_int_equal(status_of("SSH-2.0-OpenSSH_9.2\r\n"), 2);
    assert_int_equal(status_of(""), 2);
    assert_int_equal(status_of("HTTP/1.1 200 OK\r\n\r\n{\"status\":1}"), 2);
    assert_int_equal(status_of("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"active\""), 2);
}

static void the_secret_of_the_environment_is_sent(void **state)
{
    (void)state;
    struct fake f;
    start(&f, "HTTP/1.1 200 OK\r\n\r\n{\"status\":\"active\"}");
    char flag[] = "--url";
    char *args[] = {flag, f.url, NULL};
    char other[] = "ELECTRIC_SECRETS=no";
    char secret[] = "ELECTRIC_SECRET=a&b";
    char *env[] = {other, secret, NULL};
    assert_int_equal(cli_status(2, args, env), 0);
    finish(&f);
    assert_non_null(
        strstr(f.request, "GET /v1/health?verbose=true&secret=%61%26%62 HTTP/1."));
}

static void nobody_there_counts_as_not_reached(void **state)
{
    (void)state;
    struct fake f;
    start(&f, "HTTP/1.1 200 OK\r\n\r\n{\"status\":\"active\"}");
    char flag[] = "--url";
    char *args[] = {flag, f.url, NULL};
    assert_int_equal(cli_status(2, args, NULL), 0);
    finish(&f);
    assert_int_equal(cli_status(2, args, NULL), 2);
}

static void metrics_are_asked_where_they_are_said_to_be(void **state)
{
    (void)state;
    struct fake health;
    struct fake metrics;
    start(&health, "HTTP/1.1 200 OK\r\n\r\n{\"status\":\"active\"}");
    start(&metrics, "HTTP/1.1 200 OK\r\n\r\n# HELP coulomb_shapes x\ncoulomb_shapes 3\n");
    char url[] = "--url";
    char metrics_url[] = "--metrics-url";
    char *args[] = {url, health.url, metrics_url, metrics.url, NULL};
    assert_int_equal(cli_status(4, args, NULL), 0);
    finish(&health);
    finish(&metrics);
    assert_non_null(strstr(metrics.request, "GET /metrics HTTP/1."));
}

static int fetch(const char *url, int timeout_ms, struct err *err)
{
    struct buf body;
    int status = 0;
    buf_init(&body, 65536);
    int rc = fetch_get(url, "/x", timeout_ms, &status, &body, err);
    buf_fini(&body);
    return rc;
}

static void a_silent_server_is_given_up(void **state)
{
    (void)state;
    struct fake f;
    struct err err = {0};
    start(&f, NULL);
    assert_int_equal(fetch(f.url, 100, &err), ERR_IO);
    assert_non_null(strstr(err.message, "did not answer"));
    finish(&f);
}

static void an_answer_over_the_limit_is_refused(void **state)
{
    (void)state;
    static char reply[200000];
    struct fake f;
    struct err err = {0};
    memset(reply, 'x', sizeof(reply) - 1);
    memcpy(reply, "HTTP/1.1 200 OK\r\n\r\n", 19);
    start(&f, reply);
    assert_true(fetch(f.url, 2000, &err) < 0);
    finish(&f);
}

static void urls_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "https://127.0.0.1", "127.0.0.1:3000", "http://",     "http://:80",
        "http://h:0",        "http://h:65536", "http://[::1", "http://h:80x"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct err err = {0};
        if (fetch(wrong[i], 100, &err) != ERR_INVALID)
            fail_msg("\"%s\" was taken", wrong[i]);
    }
}

static void arguments_that_are_none_are_refused(void **state)
{
    (void)state;
    char odd[] = "--loud";
    char url[] = "--url";
    char *args[] = {odd, NULL};
    assert_int_equal(cli_status(1, args, NULL), CLI_USAGE);
    args[0] = url;
    assert_int_equal(cli_status(1, args, NULL), CLI_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exit_code_says_how_the_server_is),
        cmocka_unit_test(what_is_no_such_server_counts_as_not_reached),
        cmocka_unit_test(the_secret_of_the_environment_is_sent),
        cmocka_unit_test(nobody_there_counts_as_not_reached),
        cmocka_unit_test(metrics_are_asked_where_they_are_said_to_be),
        cmocka_unit_test(a_silent_server_is_given_up),
        cmocka_unit_test(an_answer_over_the_limit_is_refused),
        cmocka_unit_test(urls_that_are_none_are_refused),
        cmocka_unit_test(arguments_that_are_none_are_refused),
    };
    return cmocka_run_group_tests_name("cli status", tests, NULL, NULL);
}
