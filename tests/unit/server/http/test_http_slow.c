/* How long a request may take to arrive, and where it may begin. */
#include "fixture.h"

#define READ_MS  800
#define SLACK_MS 3000
#define DRIP_MS  20

static void open_impatient(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->config = defaults();
    f->config.read_timeout_ms = READ_MS;
    open_with(f, 10u * 1024 * 1024);
}

/* Sends text over and over, a byte at a time, until the server closes: how long that took. */
static int64_t dribble(int fd, const char *text)
{
    int64_t begun = clock_mono_ms();
    char got[256];

    for (size_t i = 0; clock_mono_ms() - begun < READ_MS + SLACK_MS; i++) {
        if (send(fd, &text[i % strlen(text)], 1, MSG_NOSIGNAL) != 1 ||
            client_read(fd, got, sizeof got, DRIP_MS) != 0)
            break;
    }
    return clock_mono_ms() - begun;
}

static void send_slowly(int fd, const char *text, int64_t total_ms)
{
    size_t len = strlen(text);
    size_t part = len / 8 + 1;

    for (size_t at = 0; at < len; at += part) {
        client_write(fd, text + at, len - at < part ? len - at : part);
        clock_sleep_ms(total_ms / 8);
    }
}

static void expect_health(int fd)
{
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);

    if (a.status != 200)
        fprintf(stderr, "health: %s\n", a.text);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "{\"status\":\"active\"}");
    client_free(&a);
}

static void who_dribbles_a_request_is_cut_off(void **state)
{
    static const char *const begin[] = {
        "",
        "GET /v1/health HTTP/1.1\r\n",
        "POST /v1/shape?table=items&offset=-1 HTTP/1.1\r\nContent-Length: 5000\r\n\r\n{",
        ("POST /v1/shape?table=items HTTP/1.1\r\nTransfer-Encoding: "
         "chunked\r\n\r\n4000\r\n"),
        "",
    };
    static const char *const rest[] = {"GETGET", "X-A: b\r\n", " ", " ", "\r\n"};
    struct fixture f;

    (void)state;
    open_impatient(&f);
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++) {
        int fd = client_connect(http_port(f.http));

        client_write(fd, begin[i], strlen(begin[i]));
        assert_in_range(dribble(fd, rest[i]), READ_MS - 100, READ_MS + SLACK_MS - 1);
        close(fd);
    }
    wait_gauge(&f, OBS_G_CONNECTIONS, 0);
    shut(&f);
}

static void the_next_request_has_a_deadline_too(void **state)
{
    struct fixture f;

    (void)state;
    open_impatient(&f);
    int fd = client_connect(http_port(f.http));
    for (int i = 0; i < 3; i++) {
        client_send(fd, "GET", "/v1/health", "");
        expect_health(fd);
    }
    assert_in_range(dribble(fd, "GET"), READ_MS - 100, READ_MS + SLACK_MS - 1);
    close(fd);
    /* What has come ahead of its turn counts from the end of the answer. */
    fd = client_connect(http_port(f.http));
    client_send(fd, "GET", "/v1/health", "\r\n\r\nGET /v1/hea");
    expect_health(fd);
    assert_in_range(dribble(fd, "l"), READ_MS - 100, READ_MS + SLACK_MS - 1);
    close(fd);
    wait_gauge(&f, OBS_G_CONNECTIONS, 0);
    shut(&f);
}

static void who_is_slow_but_in_time_is_served(void **state)
{
    static const char get[] = "GET /v1/health HTTP/1.1\r\nHost: t\r\nX-A: b\r\n\r\n";
    static const char post[] = "POST /v1/shape?table=items&offset=-1 HTTP/1.1\r\n"
                               "Content-Length: 9\r\n\r\n{\"a\":1234";
    struct fixture f;

    (void)state;
    open_impatient(&f);
    int fd = client_connect(http_port(f.http));
    send_slowly(fd, get, READ_MS / 2);
    expect_health(fd);
    /* The wait between two requests does not count. */
    clock_sleep_ms(READ_MS * 6 / 10);
    send_slowly(fd, get, READ_MS * 6 / 10);
    expect_health(fd);
    send_slowly(fd, post, READ_MS / 2);
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 400);
    client_free(&a);
    close(fd);
    shut(&f);
}

static void a_large_body_is_one_request(void **state)
{
    const size_t len = 7u * 1024 * 1024;
    struct fixture f;
    char head[256];

    (void)state;
    memset(&f, 0, sizeof f);
    f.config = defaults();
    f.config.read_timeout_ms = 4000;
    open_with(&f, 10u * 1024 * 1024);
    int fd = client_connect(http_port(f.http));
    char *body = malloc(len + 1);
    assert_non_null(body);
    memset(body, ' ', len);
    memcpy(body + len - 2, "{}", 3);
    snprintf(head, sizeof head,
             "POST /v1/shape?table=items&offset=-1 HTTP/1.1\r\n"
             "Content-Length: %zu\r\n\r\n",
             len);
    client_write(fd, head, strlen(head));
    for (size_t at = 0; at < len; at += len / 7) {
        client_write(fd, body + at, len / 7);
        clock_sleep_ms(100);
    }
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 200);
    client_free(&a);
    free(body);
    close(fd);
    shut(&f);
}

static void a_request_that_waits_has_no_deadline(void **state)
{
    struct fixture f;
    int fds[3];

    (void)state;
    memset(&f, 0, sizeof f);
    f.config = defaults();
    f.config.read_timeout_ms = 300;
    f.config.long_poll_timeout_ms = 30000;
    open_with(&f, 10u * 1024 * 1024);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, SNAP);
    for (int i = 0; i < 3; i++) {
        fds[i] = client_connect(http_port(f.http));
        client_send(fds[i], "GET", LIVE "0_inf",
                    i == 1 ? "\r\n\r\nGET /v1/health HTTP/1.1\r\n\r\n" : "");
    }
    wait_gauge(&f, OBS_G_READERS_LIVE, 3);
    client_write(fds[2], "\r\n", 2);
    clock_sleep_ms(1500);
    wait_gauge(&f, OBS_G_CONNECTIONS, 3);
    fake_commit(&f.shapes, fake_first(&f.shapes), 100);
    for (int i = 0; i < 3; i++) {
        struct client_answer a = client_receive(fds[i], false, CLIENT_WAIT_MS, "}]");

        assert_int_equal(a.status, 200);
        assert_non_null(strstr(a.text, "up-to-date"));
        client_free(&a);
    }
    /* Connections that nothing more comes from end after the ordinary while. */
    wait_gauge(&f, OBS_G_CONNECTIONS, 0);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    shut(&f);
}

static void who_sends_nothing_is_closed(void **state)
{
    struct fixture f;
    char got[16];

    (void)state;
    open_impatient(&f);
    int fd = client_connect(http_port(f.http));
    wait_gauge(&f, OBS_G_CONNECTIONS, 1);
    assert_int_equal(client_read(fd, got, sizeof got, READ_MS + SLACK_MS), -1);
    wait_gauge(&f, OBS_G_CONNECTIONS, 0);
    close(fd);
    /* A server that stops does not wait for one. */
    fd = client_connect(http_port(f.http));
    shut(&f);
    assert_int_equal(client_read(fd, got, sizeof got, CLIENT_WAIT_MS), -1);
    close(fd);
}

static void empty_lines_before_a_request_are_skipped(void **state)
{
    static const char *const lines[] = {"\r\n", "\r\n\r\n\r\n", "\n", "\r\n\n"};
    struct fixture f;
    char all[4096];

    (void)state;
    open_default(&f);
    int fd = client_connect(http_port(f.http));
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        client_write(fd, lines[i], strlen(lines[i]));
        client_send(fd, "GET", "/v1/health", "");
        expect_health(fd);
        send_slowly(fd, lines[i], 40);
        client_send(fd, "GET", "/v1/health", "");
        expect_health(fd);
    }
    /* As some end a body; and pipelined. */
    client_send(fd, "POST", "/v1/shape?table=items&offset=-1",
                "Content-Length: 2\r\n\r\n{}\r\n");
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 200);
    client_free(&a);
    client_send(fd, "GET", "/v1/health",
                "\r\n\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    client_read_all(fd, all, sizeof all);
    const char *second = strstr(all + 1, "HTTP/1.1 200");
    assert_non_null(second);
    assert_null(strstr(second + 1, "HTTP/1.1"));
    close(fd);
    fd = client_connect(http_port(f.http));
    client_write(fd, "\rGET /v1/health HTTP/1.1\r\n\r\n", 28);
    a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 404);
    client_free(&a);
    close(fd);
    shut(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_dribbles_a_request_is_cut_off),
        cmocka_unit_test(the_next_request_has_a_deadline_too),
        cmocka_unit_test(who_is_slow_but_in_time_is_served),
        cmocka_unit_test(a_large_body_is_one_request),
        cmocka_unit_test(a_request_that_waits_has_no_deadline),
        cmocka_unit_test(who_sends_nothing_is_closed),
        cmocka_unit_test(empty_lines_before_a_request_are_skipped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
