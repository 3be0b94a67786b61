/* The HTTP stage over real sockets: a real log, fake shapes. */
#include "fixture.h"

static void serves_the_snapshot_then_the_end_of_the_log(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    struct client_answer a = ask(&f, "GET", "/v1/shape?table=items&offset=-1", "");
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, SNAP);
    assert_string_equal(client_header(&a, "electric-handle"), H1);
    assert_string_equal(client_header(&a, "electric-offset"), "0_0");
    assert_string_equal(client_header(&a, "electric-has-data"), "true");
    assert_string_equal(client_header(&a, "etag"), "\"" H1 ":-1:0_0\"");
    assert_string_equal(client_header(&a, "transfer-encoding"), "chunked");
    assert_string_equal(client_header(&a, "electric-schema"),
                        "{\"id\":{\"type\":\"int4\",\"not_null\":true,\"pk_index\":0},"
                        "\"v\":{\"type\":\"text\"},"
                        "\"n\":{\"type\":\"int4\"}}");
    assert_null(client_header(&a, "electric-up-to-date"));
    client_free(&a);
    a = ask(&f, "GET", "/v1/shape?table=items&offset=0_0&handle=" H1, "");
    assert_string_equal(a.body, UP("0"));
    assert_string_equal(client_header(&a, "electric-offset"), "0_inf");
    assert_string_equal(client_header(&a, "electric-up-to-date"), "");
    client_free(&a);
    a = ask(&f, "HEAD", "/v1/shape?table=items&offset=0_0&handle=" H1, "");
    assert_int_equal(a.status, 200);
    assert_string_equal(client_header(&a, "electric-offset"), "0_inf");
    assert_null(client_header(&a, "content-length"));
    client_free(&a);
    a = ask(&f, "GET", "/v1/shape?table=items&offset=now", "");
    assert_string_equal(a.body, UP("0"));
    assert_string_equal(client_header(&a, "electric-has-data"), "false");
    assert_string_equal(client_header(&a, "content-length"), "65");
    client_free(&a);
    shut(&f);
}

static void a_commit_wakes_a_long_poll(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, SNAP);
    int fds[20];
    for (int i = 0; i < 20; i++) {
        fds[i] = client_connect(http_port(f.http));
        client_send(fds[i], "GET", LIVE "0_inf", "");
    }
    wait_gauge(&f, OBS_G_READERS_LIVE, 20);
    fake_commit(&f.shapes, fake_first(&f.shapes), 100);
    for (int i = 0; i < 20; i++) {
        struct client_answer a = client_receive(fds[i], false, CLIENT_WAIT_MS, NULL);
        assert_int_equal(a.status, 200);
        assert_non_null(strstr(a.body,
                               "\"last\":true}},{\"headers\":{\"control\":\"up-to-"
                               "date\",\"global_last_seen_lsn\":\"100\"}}]"));
        assert_string_equal(client_header(&a, "electric-offset"), "100_0");
        assert_string_equal(client_header(&a, "cache-control"),
                            "public, max-age=5, stale-while-revalidate=5");
        assert_non_null(client_header(&a, "electric-cursor"));
        assert_null(client_header(&a, "electric-schema"));
        client_free(&a);
        /* The connection goes on. */
        client_send(fds[i], "GET", "/v1/health", "");
        a = client_receive(fds[i], false, CLIENT_WAIT_MS, NULL);
        assert_string_equal(a.body, "{\"status\":\"active\"}");
        client_free(&a);
        close(fds[i]);
    }
    wait_gauge(&f, OBS_G_READERS_LIVE, 0);
    shut(&f);
}

/* A small answer, without client_receive's large buffers. */
static void expect_offset(int fd, const char *offset)
{
    char text[4096];
    char want[64];
    size_t len = 0;

    snprintf(want, sizeof want, "electric-offset: %s\r\n", offset);
    do {
        ssize_t n = client_read(fd, text + len, sizeof text - 1 - len, CLIENT_WAIT_MS);

        assert_true(n > 0);
        len += (size_t)n;
        text[len] = '\0';
    } while (!strstr(text, "]\r\n0\r\n\r\n"));
    assert_non_null(strstr(text, want));
}

static void many_who_wait_are_answered_in_turns(void **state)
{
    enum { COUNT = 300 };
    struct fixture f;
    int fds[COUNT];

    (void)state;
    memset(&f, 0, sizeof f);
    f.config = defaults();
    f.config.threads = 1;
    f.config.long_poll_timeout_ms = 30000;
    open_with(&f, 1000);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, SNAP);
    for (int i = 0; i < COUNT; i++) {
        fds[i] = client_connect(http_port(f.http));
        client_send(fds[i], "GET", LIVE "0_inf", "");
    }
    wait_gauge(&f, OBS_G_READERS_LIVE, COUNT);
    /* Some leave, and some wait again, while others have yet to be answered. */
    fake_commit(&f.shapes, fake_first(&f.shapes), 100);
    for (int i = 0; i < COUNT; i += 3)
        close(fds[i]);
    for (int i = 1; i < COUNT; i += i % 3 == 1 ? 1 : 2) {
        expect_offset(fds[i], "100_0");
        client_send(fds[i], "GET", LIVE "100_0", "");
    }
    wait_gauge(&f, OBS_G_READERS_LIVE, COUNT / 3 * 2);
    fake_commit(&f.shapes, fake_first(&f.shapes), 200);
    for (int i = COUNT - 1; i > 0; i -= i % 3 == 2 ? 1 : 2) {
        expect_offset(fds[i], "200_0");
        close(fds[i]);
    }
    shut(&f);
}

static void a_long_poll_times_out_up_to_date(void **state)
{
    struct fixture f;

    (void)state;
    memset(&f, 0, sizeof f);
    f.config = defaults();
    f.config.long_poll_timeout_ms = 200;
    open_with(&f, 1000);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, SNAP);
    atomic_store(&f.shapes.last_lsn, 77);
    int64_t begun = clock_mono_ms();
    struct client_answer a = ask(&f, "GET", LIVE "0_inf", "");
    assert_in_range(clock_mono_ms() - begun, 190, 1500);
    assert_string_equal(a.body, UP("77"));
    assert_string_equal(client_header(&a, "electric-has-data"), "false");
    assert_string_equal(client_header(&a, "electric-offset"), "0_inf");
    client_free(&a);
    shut(&f);
}

static void an_old_client_reads_a_stream_to_the_end_of_the_connection(void **state)
{
    static const char *const asks[] = {"", "Connection: keep-alive\r\n",
                                       "Connection: Keep-Alive\r\nKeep-Alive: 300\r\n"};
    struct fixture f;
    char text[4096];

    (void)state;
    open_default(&f);
    for (size_t i = 0; i < sizeof asks / sizeof asks[0]; i++) {
        int fd = client_connect(http_port(f.http));
        size_t len = (size_t)snprintf(text, sizeof text,
                                      "GET /v1/shape?table=items&offset=-1 HTTP/1.0\r\n"
                                      "%s\r\n",
                                      asks[i]);
        ssize_t n;

        client_write(fd, text, len);
        for (len = 0; (n = client_read(fd, text + len, sizeof text - 1 - len,
                                       CLIENT_WAIT_MS)) > 0;)
            len += (size_t)n;
        assert_int_equal(n, -1);
        text[len] = '\0';
        struct client_answer a = {.text = text};
        assert_memory_equal(text, "HTTP/1.0 200", 12);
        assert_null(client_header(&a, "content-length"));
        assert_null(client_header(&a, "transfer-encoding"));
        assert_string_equal(client_header(&a, "connection"), "close");
        assert_string_equal(strstr(text, "\r\n\r\n") + 4, SNAP);
        close(fd);
    }
    shut(&f);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    enum { COUNT = 200 };
    static const char live[] = "GET " LIVE "0_inf HTTP/1.1\r\n\r\n";
    static const char health[] = "GET /v1/health HTTP/1.1\r\n\r\n";
    struct fixture f;

    (void)state;
    open_default(&f);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, SNAP);
    fake_commit(&f.shapes, fake_first(&f.shapes), 100);
    int fd = client_connect(http_port(f.http));
    for (int i = 0; i < COUNT; i++) {
        client_write(fd, live, sizeof live - 1);
        client_write(fd, health, sizeof health - 1);
    }
    client_send(fd, "GET", "/", "Connection: close\r\n");
    char *text = calloc(1, 1u << 20);
    assert_non_null(text);
    client_read_all(fd, text, 1u << 20);
    const char *at = text;
    for (int i = 0; i < 2 * COUNT; i++) {
        at = strstr(at, i % 2 == 0 ? "\"global_last_seen_lsn\":\"100\"}}]\r\n0\r\n\r\n"
                                   : "{\"status\":\"active\"}");
        assert_non_null(at);
        at = strstr(at, "HTTP/1.1 200 OK\r\n");
        assert_non_null(at);
    }
    assert_null(strstr(at + 1, "HTTP/1.1"));
    assert_non_null(strstr(at, "connection: close\r\n"));
    free(text);
    close(fd);
    shut(&f);
}

static void what_names_an_origin_is_not_shared(void **state)
{
    static const char *const targets[] = {
        "/v1/shape?table=items&offset=-1", "/v1/shape?table=nope&offset=-1",
        // NOLINTNEXTLINE(bugprone-suspicious-missing-comma): LIVE begins the text
        "/v1/shape?table=items&offset=0_0&handle=nope", LIVE "0_inf", "/v1/health"};
    struct fixture f;

    (void)state;
    memset(&f, 0, sizeof f);
    f.config = defaults();
    f.config.long_poll_timeout_ms = 50;
    open_with(&f, 1000);
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct client_answer a =
            ask(&f, "GET", targets[i], "Origin: https://a.example\r\n");

        assert_string_equal(client_header(&a, "access-control-allow-origin"),
                            "https://a.example");
        assert_string_equal(client_header(&a, "vary"), "accept-encoding, origin");
        client_free(&a);
        a = ask(&f, "GET", targets[i], "");
        assert_string_equal(client_header(&a, "access-control-allow-origin"), "*");
        assert_string_equal(client_header(&a, "vary"), "accept-encoding");
        client_free(&a);
    }
    shut(&f);
}

static void a_matching_etag_gives_304(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, NULL);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1",
           "If-None-Match: \"x\", \"" H1 ":-1:0_0\"\r\n", 304, "");
    expect(&f, "GET", "/v1/shape?table=items&offset=now",
           "If-None-Match: \"" H1 ":now:0_inf\"\r\n", 304, "");
    struct client_answer a =
        ask(&f, "GET", LIVE "0_inf", "If-None-Match: " H1 ":0_inf:0_inf\r\n");
    assert_int_equal(a.status, 304);
    assert_non_null(client_header(&a, "electric-cursor"));
    assert_null(client_header(&a, "content-length"));
    client_free(&a);
    shut(&f);
}

static void handles_that_do_not_fit_are_sent_on(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    struct client_answer a =
        ask(&f, "GET", "/v1/shape?table=items&offset=0_0&handle=nope", "");
    assert_int_equal(a.status, 409);
    assert_string_equal(a.body, REFETCH);
    assert_string_equal(client_header(&a, "electric-handle"), H1);
    assert_string_equal(client_header(&a, "etag"), "\"" H1 "::\"");
    client_free(&a);
    a = ask(&f, "GET", "/v1/shape?table=items&columns=id&offset=0_0&handle=" H1, "");
    assert_int_equal(a.status, 409);
    assert_string_equal(client_header(&a, "electric-handle"), "2-1700000000000000");
    client_free(&a);
    /* A waiting reader of a removed shape. */
    int fd = client_connect(http_port(f.http));
    client_send(fd, "GET", LIVE "0_inf", "");
    wait_gauge(&f, OBS_G_READERS_LIVE, 1);
    expect(&f, "DELETE", "/v1/shape?table=items", "", 202, "");
    a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 409);
    assert_null(client_header(&a, "electric-handle"));
    assert_string_equal(client_header(&a, "cache-control"),
                        "public, max-age=1, must-revalidate");
    client_free(&a);
    close(fd);
    shut(&f);
}

static void a_departed_client_is_noticed_at_once(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, NULL);
    for (int reset = 0; reset < 2; reset++) {
        struct linger linger = {.l_onoff = reset, .l_linger = 0};
        int fd = client_connect(http_port(f.http));

        client_send(fd, "GET", LIVE "0_inf", "");
        wait_gauge(&f, OBS_G_READERS_LIVE, 1);
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        close(fd);
        wait_gauge(&f, OBS_G_READERS_LIVE, 0);
        wait_gauge(&f, OBS_G_REQUESTS_EXISTING, 0);
    }
    shut(&f);
}

/* What it sent ahead hides the end of the connection. */
static void a_departed_client_that_sent_much_ahead_is_noticed(void **state)
{
    static const char more[] = "GET /v1/health HTTP/1.1\r\nHost: t\r\n\r\n";
    struct fixture f;

    (void)state;
    memset(&f, 0, sizeof f);
    f.config = defaults();
    f.config.long_poll_timeout_ms = 20000;
    open_with(&f, 1000);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, NULL);
    for (int reset = 0; reset < 2; reset++) {
        struct linger linger = {.l_onoff = reset, .l_linger = 0};
        int fd = client_connect(http_port(f.http));

        client_send(fd, "GET", LIVE "0_inf", "");
        for (int i = 0; i < 500; i++)
            client_write(fd, more, sizeof more - 1);
        wait_gauge(&f, OBS_G_READERS_LIVE, 1);
        clock_sleep_ms(300); /* looked at once, and kept */
        wait_gauge(&f, OBS_G_READERS_LIVE, 1);
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        close(fd);
        wait_gauge(&f, OBS_G_READERS_LIVE, 0);
        wait_gauge(&f, OBS_G_REQUESTS_EXISTING, 0);
    }
    shut(&f);
}

static void a_growing_snapshot_is_streamed(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    f.shapes.hold_snapshots = true;
    int fd = client_connect(http_port(f.http));
    client_send(fd, "GET", "/v1/shape?table=items&offset=-1", "");
    wait_gauge(&f, OBS_G_REQUESTS_INITIAL, 1);
    fake_first(&f.shapes);
    struct shape *shape = fake_first(&f.shapes);
    fake_row(shape, FAKE_ROW);
    fake_flush(&f.shapes, shape);
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, FAKE_ROW);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "[" FAKE_ROW);
    assert_false(a.complete);
    client_free(&a);
    wait_gauge(&f, OBS_G_REQUESTS_INITIAL, 0); /* traded */
    fake_row(shape, FAKE_ROW);
    fake_flush(&f.shapes, shape);
    fake_end(&f.shapes, shape);
    char rest[4096];
    size_t n = 0;
    while (!n || !strstr(rest, "0\r\n\r\n")) {
        ssize_t got = client_read(fd, rest + n, sizeof rest - 1 - n, CLIENT_WAIT_MS);
        assert_true(got > 0);
        n += (size_t)got;
        rest[n] = '\0';
    }
    assert_non_null(strstr(rest, "snapshot-end"));
    close(fd);
    shut(&f);
}

static void a_snapshot_that_fails_amid_the_body_cuts_the_connection(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    f.shapes.hold_snapshots = true;
    int fd = client_connect(http_port(f.http));
    client_send(fd, "GET", "/v1/shape?table=items&offset=-1", "");
    fake_first(&f.shapes);
    fake_row(fake_first(&f.shapes), FAKE_ROW);
    fake_flush(&f.shapes, fake_first(&f.shapes));
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, FAKE_ROW);
    client_free(&a);
    fake_fail(&f.shapes, fake_first(&f.shapes), 503, "lost");
    char rest[64];
    ssize_t n;
    while ((n = client_read(fd, rest, sizeof rest, CLIENT_WAIT_MS)) > 0)
        assert_null(memchr(rest, ']', (size_t)n));
    assert_int_equal(n, -1);
    close(fd);
    shut(&f);
}

static void a_failed_snapshot_is_told_to_who_waits(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    f.shapes.hold_snapshots = true;
    int fd = client_connect(http_port(f.http));
    client_send(fd, "GET", "/v1/shape?table=items&offset=now", "");
    fake_first(&f.shapes);
    clock_sleep_ms(50);
    fake_fail(&f.shapes, fake_first(&f.shapes), 503, "permission denied");
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 503);
    assert_string_equal(a.body, "{\"message\":\"permission denied\"}");
    assert_string_equal(client_header(&a, "retry-after"), "10");
    assert_string_equal(client_header(&a, "electric-internal-known-error"), "true");
    client_free(&a);
    close(fd);
    shut(&f);
}

/* Told earlier, and the server killed then, the handle could be served again. */
static void a_damaged_log_is_told_once_it_is_gone(void **state)
{
    struct fixture f;
    char byte;

    (void)state;
    open_default(&f);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, NULL);
    struct shape *shape = fake_first(&f.shapes);
    fake_commit_many(&f.shapes, shape, 100, 200, 1000);
    fake_damage(&f.shapes);
    int fd = client_connect(http_port(f.http));
    client_send(fd, "GET", "/v1/shape?table=items&handle=" H1 "&offset=100_8", "");
    while (atomic_load(&f.shapes.corrupt) == 0)
        clock_sleep_ms(2);
    assert_int_equal(client_read(fd, &byte, 1, 100), 0);
    fake_drop(&f.shapes, shape);
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 409);
    client_free(&a);
    close(fd);
    shut(&f);
}

static void a_damaged_log_that_is_not_removed_is_called_so(void **state)
{
    struct fixture f;

    (void)state;
    memset(&f, 0, sizeof f);
    f.config = defaults();
    f.config.ready_timeout_ms = 300;
    open_with(&f, 1u << 20);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, NULL);
    fake_commit_many(&f.shapes, fake_first(&f.shapes), 100, 200, 1000);
    fake_damage(&f.shapes);
    expect(
        &f, "GET", "/v1/shape?table=items&handle=" H1 "&offset=100_8", "", 503,
        "{\"message\":\"The shape's stored bytes are damaged, its removal is awaited\"}");
    shut(&f);
}

static void an_offset_beyond_the_log_is_waited_for(void **state)
{
    struct fixture f;

    (void)state;
    memset(&f, 0, sizeof f);
    f.config = defaults();
    f.config.long_poll_timeout_ms = 400;
    f.config.ready_timeout_ms = 600;
    open_with(&f, 1u << 20);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, NULL);
    struct shape *shape = fake_first(&f.shapes);
    const char *ahead = "/v1/shape?table=items&handle=" H1 "&offset=100_0";
    int64_t begun = clock_mono_ms();
    expect(&f, "GET", ahead, "", 400,
           "{\"message\":\"Invalid request\",\"errors\":{\"offset\":[\"out of bounds for "
           "this "
           "shape\"]}}");
    assert_in_range(clock_mono_ms() - begun, 190, 2000);
    /* While the stream repeats itself it is no fault of the client. */
    atomic_store(&f.shapes.caught_up, false);
    begun = clock_mono_ms();
    expect(&f, "GET", ahead, "", 503, NULL);
    assert_in_range(clock_mono_ms() - begun, 590, 4000);
    atomic_store(&f.shapes.caught_up, true);
    int fd = client_connect(http_port(f.http));
    client_send(fd, "GET", ahead, "");
    clock_sleep_ms(50);
    fake_commit(&f.shapes, shape, 90);
    fake_commit(&f.shapes, shape, 100);
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, UP("100"));
    client_free(&a);
    close(fd);
    shut(&f);
}

static void an_event_stream_stays_open(void **state)
{
    struct fixture f;

    (void)state;
    memset(&f, 0, sizeof f);
    f.config = defaults();
    f.config.sse_keepalive_ms = 300;
    f.config.sse_timeout_ms = 1200;
    open_with(&f, 1000);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, NULL);
    struct shape *shape = fake_first(&f.shapes);
    fake_commit(&f.shapes, shape, 90);
    int fd = client_connect(http_port(f.http));
    client_send(fd, "GET", LIVE "0_inf&live_sse=true", "");
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, "\"90\"}}\n\n");
    assert_string_equal(client_header(&a, "content-type"), "text/event-stream");
    assert_string_equal(client_header(&a, "electric-offset"), "90_0");
    client_free(&a);
    /* More than a chunk of 1000 bytes in one commit. */
    fake_commit_many(&f.shapes, shape, 100, 30, 100);
    int64_t begun = clock_mono_ms();
    char *text = calloc(1, 1u << 20);
    size_t n = 0;
    while (n < 5 || memcmp(text + n - 5, "0\r\n\r\n", 5) != 0) {
        ssize_t got = client_read(fd, text + n, (1u << 20) - n - 1, CLIENT_WAIT_MS);
        assert_true(got > 0);
        n += (size_t)got;
    }
    assert_in_range(clock_mono_ms() - begun, 700, 3000);
    assert_non_null(strstr(text, "data: {\"key\":\"k29\""));
    assert_non_null(strstr(text, "\"global_last_seen_lsn\":\"100\"}}\n\n"));
    assert_non_null(strstr(text, ": keep-alive\n\n"));
    free(text);
    close(fd);
    shut(&f);
}

static void an_event_stream_without_news_begins_at_once(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, SNAP);
    int fd = client_connect(http_port(f.http));
    client_send(fd, "GET", LIVE "0_inf&live_sse=true", "");
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, "");
    assert_int_equal(a.status, 200);
    assert_string_equal(client_header(&a, "content-type"), "text/event-stream");
    client_free(&a);
    wait_gauge(&f, OBS_G_READERS_LIVE, 1);
    close(fd);
    wait_gauge(&f, OBS_G_READERS_LIVE, 0);
    shut(&f);
}

static void a_slow_reader_stays_bounded(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, NULL);
    fake_commit_many(&f.shapes, fake_first(&f.shapes), 100, 64, 128 * 1024);
    int fd = client_connect(http_port(f.http));
    int small = 256 * 1024;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    client_send(fd, "GET", "/v1/shape?table=items&handle=" H1 "&offset=0_inf", "");
    clock_sleep_ms(200);
    struct client_answer a = client_receive(fd, false, 30000, NULL);
    assert_true(a.complete);
    assert_true(a.body_len > 64u * 128 * 1024);
    assert_int_equal(a.body[a.body_len - 1], ']');
    client_free(&a);
    close(fd);
    shut(&f);
}

static void stopping_answers_who_waits(void **state)
{
    struct fixture f;

    (void)state;
    memset(&f, 0, sizeof f);
    f.config = defaults();
    f.config.long_poll_timeout_ms = 60000;
    open_with(&f, 1000);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, NULL);
    int fd = client_connect(http_port(f.http));
    int sse = client_connect(http_port(f.http));
    uint16_t port = http_port(f.http);
    client_send(fd, "GET", LIVE "0_inf", "");
    client_send(sse, "GET", LIVE "0_inf&live_sse=true", "");
    wait_gauge(&f, OBS_G_READERS_LIVE, 2);
    int64_t begun = clock_mono_ms();
    http_stop(f.http, 1000);
    assert_in_range(clock_mono_ms() - begun, 0, 900);
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, UP("0"));
    client_free(&a);
    a = client_receive(sse, false, CLIENT_WAIT_MS, NULL);
    assert_true(a.complete);
    client_free(&a);
    assert_int_equal(client_connect(port), -1);
    close(fd);
    close(sse);
    shut(&f);
}

static void requests_wait_for_the_service(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    atomic_store(&f.shapes.service, SHAPES_WAITING);
    expect(&f, "GET", "/v1/health", "", 202, "{\"status\":\"waiting\"}");
    struct client_answer a = ask(&f, "GET", "/v1/shape?table=items&offset=-1", "");
    assert_int_equal(a.status, 503);
    assert_string_equal(
        a.body, "{\"message\":\"Timeout waiting for Postgres lock acquisition\"}");
    assert_string_equal(client_header(&a, "retry-after"), "5");
    client_free(&a);
    int fd = client_connect(http_port(f.http));
    client_send(fd, "GET", "/v1/shape?table=items&offset=-1", "");
    clock_sleep_ms(50);
    fake_set_service(&f.shapes, SHAPES_ACTIVE);
    a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 200);
    client_free(&a);
    close(fd);
    /* What exists is read in any state. */
    atomic_store(&f.shapes.service, SHAPES_STARTING);
    atomic_store(&f.shapes.contact, SHAPES_CONTACT_FAILED);
    expect(&f, "GET", "/v1/shape?table=items&offset=0_0&handle=" H1, "", 200, UP("0"));
    expect(&f, "GET", "/v1/shape?table=other&offset=-1", "", 503,
           "{\"message\":\"Cannot connect to the database to verify the shape. Please "
           "try again "
           "later.\"}");
    shut(&f);
}

static void permits_are_limited(void **state)
{
    struct fixture f;

    (void)state;
    memset(&f, 0, sizeof f);
    f.config = defaults();
    f.config.max_initial_requests = 1;
    f.config.max_existing_requests = 1;
    open_with(&f, 1000);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, NULL);
    wait_gauge(&f, OBS_G_REQUESTS_EXISTING, 0);
    int fd = client_connect(http_port(f.http));
    client_send(fd, "GET", LIVE "0_inf", "");
    wait_gauge(&f, OBS_G_READERS_LIVE, 1);
    struct client_answer a = ask(&f, "GET", LIVE "0_inf", "");
    assert_int_equal(a.status, 503);
    assert_string_equal(a.body,
                        "{\"code\":\"concurrent_request_limit_exceeded\",\"message\":"
                        "\"Concurrent existing request limit exceeded (limit: 1), "
                        "please retry\"}");
    assert_in_range(strtol(client_header(&a, "retry-after"), NULL, 10), 6, 10);
    client_free(&a);
    close(fd);
    wait_gauge(&f, OBS_G_REQUESTS_EXISTING, 0);
    expect(&f, "GET", "/v1/shape?table=items&handle=" H1 "&offset=0_0", "", 200, NULL);
    shut(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_the_snapshot_then_the_end_of_the_log),
        cmocka_unit_test(a_commit_wakes_a_long_poll),
        cmocka_unit_test(many_who_wait_are_answered_in_turns),
        cmocka_unit_test(a_long_poll_times_out_up_to_date),
        cmocka_unit_test(an_old_client_reads_a_stream_to_the_end_of_the_connection),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(what_names_an_origin_is_not_shared),
        cmocka_unit_test(a_matching_etag_gives_304),
        cmocka_unit_test(handles_that_do_not_fit_are_sent_on),
        cmocka_unit_test(a_departed_client_is_noticed_at_once),
        cmocka_unit_test(a_departed_client_that_sent_much_ahead_is_noticed),
        cmocka_unit_test(a_growing_snapshot_is_streamed),
        cmocka_unit_test(a_snapshot_that_fails_amid_the_body_cuts_the_connection),
        cmocka_unit_test(a_failed_snapshot_is_told_to_who_waits),
        cmocka_unit_test(a_damaged_log_is_told_once_it_is_gone),
        cmocka_unit_test(a_damaged_log_that_is_not_removed_is_called_so),
        cmocka_unit_test(an_offset_beyond_the_log_is_waited_for),
        cmocka_unit_test(an_event_stream_stays_open),
        cmocka_unit_test(an_event_stream_without_news_begins_at_once),
        cmocka_unit_test(a_slow_reader_stays_bounded),
        cmocka_unit_test(stopping_answers_who_waits),
        cmocka_unit_test(requests_wait_for_the_service),
        cmocka_unit_test(permits_are_limited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
