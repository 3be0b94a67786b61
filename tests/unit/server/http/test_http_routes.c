/* Routes, methods, secrets, CORS and bodies over real sockets. */
#include <sys/resource.h>
#include <time.h>

#include "fixture.h"

#define INVALID(field, text)                                                             \
    "{\"message\":\"Invalid request\",\"errors\":{\"" field "\":[\"" text "\"]}}"

static void paths_are_matched_after_normalisation(void **state)
{
    static const char *const shape[] = {"/v1/shape",     "/v1/shape/",   "/v1//shape",
                                        "/v1/%73hape",   "//v1/shape",   "/v1/shape//",
                                        "/%76%31/shape", "/v1/%73hape/?"};
    static const char *const unknown[] = {
        "/nope",       "/v1",         "/v1/shape/x",    "/v1/SHAPE", "/v1/shapes",
        "/v1/./shape", "/v1%2fshape", "/v1/x/../shape", "/metrics",  "/v1/shape%00"};
    struct fixture f;

    (void)state;
    open_default(&f);
    for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++)
        expect(&f, "GET", shape[i], "", 400, INVALID("offset", "can't be blank"));
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        expect(&f, "GET", unknown[i], "", 404, "Not found");
    expect(&f, "GET", "/", "", 200, "");
    expect(&f, "GET", "/v1/health/", "", 200, "{\"status\":\"active\"}");
    expect(&f, "GET", "/?x", "", 200, "");
    shut(&f);
}

static void other_methods_are_not_found(void **state)
{
    static const char *const methods[] = {"PUT",     "PATCH",    "TRACE",
                                          "CONNECT", "PROPFIND", "get"};
    static const char *const paths[] = {"/v1/shape?table=items&offset=-1", "/v1/health",
                                        "/"};
    struct fixture f;

    (void)state;
    open_default(&f);
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        for (size_t k = 0; k < sizeof paths / sizeof paths[0]; k++)
            expect(&f, methods[i], paths[k], i < 2 ? "Content-Length: 0\r\n" : "", 404,
                   "Not found");
    expect(&f, "CONNECT", "items.example:443", "", 404, "Not found");
    expect(&f, "POST", "/v1/health", "Content-Length: 0\r\n", 404, "Not found");
    expect(&f, "OPTIONS", "/v1/health", "", 404, "Not found");
    expect(&f, "DELETE", "/", "", 404, "Not found");
    struct client_answer a = ask(&f, "HEAD", "/v1/health", "");
    assert_string_equal(client_header(&a, "content-length"), "19");
    assert_null(strstr(a.text, "status\""));
    client_free(&a);
    a = ask(&f, "GET", "/nope", "Origin: https://a.example\r\n");
    assert_string_equal(client_header(&a, "access-control-allow-origin"),
                        "https://a.example");
    assert_string_equal(client_header(&a, "access-control-allow-methods"), "GET, HEAD");
    assert_string_equal(client_header(&a, "cache-control"),
                        "max-age=0, private, must-revalidate");
    assert_string_equal(client_header(&a, "electric-server"), "ElectricSQL/test");
    assert_string_equal(client_header(&a, "vary"), "accept-encoding, origin");
    assert_int_equal(strlen(client_header(&a, "x-request-id")), 16);
    assert_null(client_header(&a, "content-type"));
    client_free(&a);
    shut(&f);
}

static void the_preflight_allows_what_clients_send(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    struct client_answer a =
        ask(&f, "OPTIONS", "/v1/shape",
            "Origin: https://a.example\r\n"
            "Access-Control-Request-Headers: Content-Type, x-foo,if-none-match\r\n");
    assert_int_equal(a.status, 204);
    assert_string_equal(client_header(&a, "access-control-allow-headers"),
                        "Content-Type, if-none-match");
    assert_string_equal(client_header(&a, "access-control-allow-methods"),
                        "GET, POST, HEAD, DELETE, OPTIONS");
    assert_string_equal(client_header(&a, "access-control-max-age"), "86400");
    assert_null(client_header(&a, "cache-control"));
    client_free(&a);
    shut(&f);
}

static void a_secret_gates_the_matched_route(void **state)
{
    static const char *const refused[] = {
        "/v1/shape?table=items&offset=-1",
        "/v1/%73hape?table=items&offset=-1",
        "/v1/shape?table=items&offset=-1&secret=x",
        "/v1/shape?table=items&offset=-1&secret=S3CRET",
        "/v1/shape?table=items&offset=-1&secret=s3cre",
        "/v1/shape?table=items&offset=-1&secret=&api_secret=s3cret",
        "/v1/shape?table=items&offset=-1&secret=x&api_secret=s3cret"};
    struct fixture f;

    (void)state;
    memset(&f, 0, sizeof f);
    f.config = defaults();
    f.config.secret = "s3cret";
    f.config.allow_delete = false;
    open_with(&f, 1000);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        expect(&f, "GET", refused[i], "", 401,
               "{\"message\":\"Unauthorized - Invalid API secret\"}");
    expect(&f, "POST", refused[0], "Content-Length: 19\r\n\r\n{\"secret\":\"s3cret\"}",
           401, NULL);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1&secret=s3cret", "", 200, SNAP);
    expect(&f, "GET", "/v1/shape?table=items&offset=-1&api_secret=s3cret", "", 200, SNAP);
    expect(&f, "DELETE", "/v1/shape?table=items", "", 401, NULL);
    expect(&f, "DELETE", "/v1/shape?table=nope&secret=s3cret", "", 405,
           "{\"message\":\"DELETE not allowed\"}");
    expect(&f, "GET", "/v1/health", "", 200, NULL);
    expect(&f, "OPTIONS", "/v1/shape", "", 204, NULL);
    shut(&f);
}

/* To the byte what Electric answers; the rest is asked for, and the reason is told to those
 * who know the secret. */
static void health_tells_more_when_asked(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    expect(&f, "GET", "/v1/health?verbose", "", 200,
           "{\"status\":\"active\",\"lag_ms\":1234}");
    atomic_store(&f.shapes.contact, SHAPES_CONTACT_MADE);
    atomic_store(&f.shapes.service, SHAPES_STARTING);
    expect(&f, "GET", "/v1/health", "", 202, "{\"status\":\"starting\"}");
    expect(&f, "GET", "/v1/health?verbose=false", "", 202, "{\"status\":\"starting\"}");
    expect(&f, "GET", "/v1/health?verbose=true", "", 202,
           "{\"status\":\"starting\",\"lag_ms\":1234,\"detail\":\"role \\\"r\\\" may "
           "not\"}");
    atomic_store(&f.shapes.contact, SHAPES_CONTACT_FAILED);
    expect(&f, "GET", "/v1/health", "", 202, "{\"status\":\"waiting\"}");
    shut(&f);

    memset(&f, 0, sizeof f);
    f.config = defaults();
    f.config.secret = "s3cret";
    open_with(&f, 1000);
    atomic_store(&f.shapes.service, SHAPES_WAITING);
    expect(&f, "GET", "/v1/health?verbose=true", "", 202,
           "{\"status\":\"waiting\",\"lag_ms\":1234}");
    expect(&f, "GET", "/v1/health?verbose=true&secret=x", "", 202,
           "{\"status\":\"waiting\",\"lag_ms\":1234}");
    struct client_answer a = ask(&f, "GET", "/v1/health?verbose=true&secret=s3cret", "");
    assert_non_null(strstr(a.body, "\"detail\":\"role"));
    client_free(&a);
    shut(&f);
}

static void bad_requests_are_refused_before_routing(void **state)
{
    struct fixture f;
    char *target = malloc(80000);

    (void)state;
    open_default(&f);
    expect(&f, "GET", "/v1/shape?table=%FF&offset=-1", "", 400, "");
    expect(&f, "GET", "/nope?x=%c3%28", "", 400, "");
    memset(target, 'a', 70000);
    memcpy(target, "GET /", 5);
    memcpy(target + 70000, " HTTP/1.1\r\n\r\n", 14);
    int fd = client_connect(http_port(f.http));
    client_write(fd, target, strlen(target));
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 414);
    assert_string_equal(client_header(&a, "connection"), "close");
    client_free(&a);
    close(fd);
    /* Headers of 16 KiB are fine. */
    fd = client_connect(http_port(f.http));
    int n = snprintf(target, 80000, "GET /v1/health HTTP/1.1\r\nx-large: ");
    memset(target + n, 'b', 20000);
    memcpy(target + n + 20000, "\r\n\r\n", 5);
    client_write(fd, target, strlen(target));
    a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 200);
    client_free(&a);
    close(fd);
    free(target);
    shut(&f);
}

static void post(struct fixture *f, const char *target, const char *body, int status,
                 const char *answer)
{
    char headers[1024];

    snprintf(headers, sizeof headers, "Content-Length: %zu\r\n\r\n%s", strlen(body),
             body);
    expect(f, "POST", target, headers, status, answer);
}

static void a_post_serves_the_log(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    post(&f, "/v1/shape?table=items&offset=-1", "{}", 200, SNAP);
    post(&f, "/v1/shape?table=nope&offset=-1", "{\"table\":\"items\",\"subset\":null}",
         200, SNAP);
    post(&f, "/v1/shape", "{\"table\":\"items\",\"offset\":\"-1\"}", 400,
         INVALID("offset", "can't be blank"));
    post(&f, "/v1/shape?table=items&offset=-1", "{", 400,
         "{\"error\":\"Invalid JSON in request body\",\"details\":\"unexpected end of "
         "input at "
         "position 1\"}");
    post(&f, "/v1/shape?table=items&offset=-1", "{\"a\":1}x", 400,
         "{\"error\":\"Invalid JSON in request body\",\"details\":\"unexpected byte at "
         "position "
         "7: 0x78 (\\\"x\\\")\"}");
    post(&f, "/v1/shape?table=items&offset=-1", "[1]", 400,
         "{\"error\":\"Request body must be a JSON object\"}");
    post(&f, "/v1/shape?table=items&offset=-1", "{\"subset\":\"x\"}", 400,
         INVALID("subset", "is invalid"));
    post(&f, "/v1/shape?table=items&offset=-1", "{\"where\":\"nope = 1\"}", 400,
         INVALID("subset\":{\"where", "At location 0: unknown reference nope") "}");
    post(&f, "/v1/shape?table=items&offset=-1", "{\"columns\":[\"id\"]}", 200, SNAP);
    struct client_answer a =
        ask(&f, "POST", "/v1/shape?table=items&offset=-1", "Content-Length: 2\r\n\r\n{}");
    assert_string_equal(client_header(&a, "cache-control"), "no-cache");
    client_free(&a);
    shut(&f);
}

static void a_body_over_the_limit_gives_413(void **state)
{
    struct fixture f;
    size_t size = 8100000;
    char *body = malloc(size);

    (void)state;
    open_default(&f);
    memset(body, 'x', size);
    int fd = client_connect(http_port(f.http));
    char head[256];
    int n = snprintf(head, sizeof head,
                     "POST /v1/shape?table=items&offset=-1 HTTP/1.1\r\n"
                     "Content-Length: %zu\r\n\r\n",
                     size);
    client_write(fd, head, (size_t)n);
    client_write(fd, body, size);
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 413);
    assert_string_equal(a.body, "{\"error\":\"Request body too large\"}");
    client_free(&a);
    close(fd);
    free(body);
    shut(&f);
}

static void deletion_names_a_definition_or_a_handle(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    expect(&f, "DELETE", "/v1/shape", "", 400,
           INVALID("handle", "can't be blank when shape definition is missing"));
    expect(&f, "DELETE", "/v1/shape?table=items&offset=x", "", 404,
           "{\"message\":\"No existing shape found\"}");
    expect(&f, "DELETE", "/v1/shape?table=items&live=x", "", 400,
           INVALID("live", "is invalid"));
    expect(&f, "GET", "/v1/shape?table=items&offset=-1", "", 200, NULL);
    expect(
        &f, "DELETE", "/v1/shape?table=items&handle=1-1", "", 400,
        "{\"message\":\"The specified shape definition and handle do not match. Please "
        "ensure the shape definition is correct or omit the shape handle from the "
        "request to "
        "obtain a new one.\"}");
    struct client_answer a = ask(&f, "DELETE", "/v1/shape?handle=" H1, "");
    assert_int_equal(a.status, 202);
    assert_string_equal(client_header(&a, "electric-has-data"), "true");
    assert_string_equal(client_header(&a, "cache-control"), "no-cache");
    assert_null(client_header(&a, "electric-handle"));
    client_free(&a);
    expect(&f, "DELETE", "/v1/shape?handle=" H1, "", 404, NULL);
    shut(&f);
}

static void errors_are_never_cached(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    struct client_answer a = ask(&f, "GET", "/v1/shape?table=nope&offset=-1", "");
    assert_int_equal(a.status, 400);
    assert_string_equal(
        a.body, INVALID("table", "Table \\\"public\\\".\\\"nope\\\" does not exist. "
                                 "If the table name contains capitals or special "
                                 "characters you must quote it."));
    assert_string_equal(client_header(&a, "cache-control"), "no-store");
    assert_string_equal(client_header(&a, "surrogate-control"), "no-store");
    client_free(&a);
    a = ask(&f, "POST", "/v1/shape?table=nope&offset=-1", "Content-Length: 0\r\n");
    assert_string_equal(client_header(&a, "cache-control"), "no-cache");
    assert_null(client_header(&a, "surrogate-control"));
    client_free(&a);
    atomic_store(&f.catalog.unreachable, true);
    a = ask(&f, "GET", "/v1/shape?table=nope&offset=-1", "");
    assert_int_equal(a.status, 503);
    assert_string_equal(client_header(&a, "retry-after"), "1");
    client_free(&a);
    shut(&f);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    int fd = client_connect(http_port(f.http));
    const char *two = "GET /v1/health HTTP/1.1\r\n\r\nGET /nope HTTP/1.1\r\n\r\n";
    client_write(fd, two, strlen(two));
    char text[8192];
    size_t n = 0;
    do {
        ssize_t got = client_read(fd, text + n, sizeof text - 1 - n, CLIENT_WAIT_MS);
        assert_true(got > 0);
        n += (size_t)got;
        text[n] = '\0';
    } while (!strstr(text, "Not found"));
    const char *first = strstr(text, "{\"status\":\"active\"}HTTP/1.1 404 Not Found");
    assert_non_null(first);
    close(fd);
    shut(&f);
}

static void metrics_have_a_port_of_their_own(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    int fd = client_connect(http_metrics_port(f.http));
    client_send(fd, "GET", "/metrics", "");
    struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body, "coulomb_http_requests_total"));
    client_free(&a);
    client_send(fd, "GET", "/v1/shape", "");
    a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 404);
    client_free(&a);
    close(fd);
    shut(&f);
}

static void a_port_in_use_is_an_error(void **state)
{
    struct fixture f;
    struct http *second;
    struct err err;

    (void)state;
    open_default(&f);
    struct http_config config = f.config;
    config.port = http_port(f.http);
    assert_int_equal(http_start(&config, &second, &err), ERR_IO);
    assert_non_null(strstr(err.message, "cannot listen on 127.0.0.1 port"));
    shut(&f);
}

/* What follows the doubtful request on its connection is never taken for another. */
static void a_request_whose_end_is_in_doubt_is_refused(void **state)
{
    static const char *const headers[] = {
        "Content-Length: 0\r\nContent-Length: 30\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        "Content-Length : 30\r\n",
        "Content-Length: +0\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
    };
    static const char next[] = "\r\nGET /v1/health HTTP/1.1\r\nHost: t\r\n\r\n";
    struct fixture f;
    char text[512];

    (void)state;
    open_default(&f);
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        int fd = client_connect(http_port(f.http));

        snprintf(text, sizeof text, "%s%s", headers[i], next);
        client_send(fd, "POST", "/v1/shape?table=items&offset=-1", text);
        struct client_answer a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
        /* evhttp finds some of them out by itself, reading a body that isn't one. */
        if (a.status != 400 && a.status != 413)
            fprintf(stderr, "%s: %s\n", headers[i], a.text);
        assert_true(a.status == 400 || a.status == 413);
        assert_string_equal(client_header(&a, "connection"), "close");
        assert_null(strstr(a.text, "active"));
        client_free(&a);
        assert_int_equal(client_read(fd, text, sizeof text, CLIENT_WAIT_MS), -1);
        close(fd);
    }
    expect(&f, "POST", "/v1/shape?table=items&offset=-1",
           "Transfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200, NULL);
    shut(&f);
}

static void a_body_is_never_the_next_request(void **state)
{
    static const char *const methods[] = {"GET",   "DELETE",  "PUT",
                                          "PATCH", "OPTIONS", "HEAD",
                                          "TRACE", "CONNECT", "PROPFIND"};
    const size_t kept = 5;
    static const char inner[] = "GET /v1/health HTTP/1.1\r\nHost: t\r\n\r\n";
    static const char last[] = "GET /v1/health HTTP/1.1\r\nConnection: close\r\n\r\n";
    struct fixture f;
    char text[512];
    char all[8192];

    (void)state;
    open_default(&f);
    for (size_t i = 0; i < 2 * sizeof methods / sizeof methods[0]; i++) {
        int fd = client_connect(http_port(f.http));
        bool chunked = i % 2;

        snprintf(text, sizeof text,
                 chunked ? "Transfer-Encoding: chunked\r\n\r\n%zx\r\n%s\r\n0\r\n\r\n%s"
                         : "Content-Length: %zu\r\n\r\n%s%s",
                 strlen(inner), inner, last);
        client_send(fd, methods[i / 2], "/nope", text);
        /* One answer, and one more where the connection goes on. */
        client_read_all(fd, all, sizeof all);
        assert_memory_equal(all, "HTTP/1.1 404", 12);
        const char *second = strstr(all + 1, "HTTP/1.1");
        if (i / 2 < kept) {
            assert_non_null(second);
            assert_memory_equal(second, "HTTP/1.1 200", 12);
            second = strstr(second + 1, "HTTP/1.1");
        }
        assert_null(second);
        close(fd);
    }
    shut(&f);
}

static void a_target_may_name_the_host(void **state)
{
    struct fixture f;

    (void)state;
    open_default(&f);
    expect(&f, "GET", "http://a.example:3000/v1/health", "", 200,
           "{\"status\":\"active\"}");
    expect(&f, "GET", "HTTPS://a.example/v1/shape?table=items&offset=-1", "", 200, NULL);
    expect(&f, "GET", "http://a.example?x=/v1/health", "", 200, "");
    expect(&f, "GET", "ftp://a.example/v1/health", "", 404, NULL);
    shut(&f);
}

static int64_t cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void without_descriptors_new_connections_wait(void **state)
{
    struct rlimit before;
    struct fixture f;

    (void)state;
    open_default(&f);
    expect(&f, "GET", "/v1/health", "", 200, NULL);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(http_port(f.http)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct rlimit none = {.rlim_cur = (rlim_t)fd, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof at), 0);
    client_send(fd, "GET", "/v1/health", "");
    int64_t used = cpu_us();
    struct client_answer a = client_receive(fd, false, 400, NULL);
    assert_int_equal(a.status, 0);
    client_free(&a);
    assert_in_range(cpu_us() - used, 0, 200000);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    a = client_receive(fd, false, CLIENT_WAIT_MS, NULL);
    assert_int_equal(a.status, 200);
    client_free(&a);
    close(fd);
    shut(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_matched_after_normalisation),
        cmocka_unit_test(other_methods_are_not_found),
        cmocka_unit_test(the_preflight_allows_what_clients_send),
        cmocka_unit_test(a_secret_gates_the_matched_route),
        cmocka_unit_test(health_tells_more_when_asked),
        cmocka_unit_test(bad_requests_are_refused_before_routing),
        cmocka_unit_test(a_post_serves_the_log),
        cmocka_unit_test(a_body_over_the_limit_gives_413),
        cmocka_unit_test(deletion_names_a_definition_or_a_handle),
        cmocka_unit_test(errors_are_never_cached),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(metrics_have_a_port_of_their_own),
        cmocka_unit_test(a_port_in_use_is_an_error),
        cmocka_unit_test(a_request_whose_end_is_in_doubt_is_refused),
        cmocka_unit_test(a_body_is_never_the_next_request),
        cmocka_unit_test(a_target_may_name_the_host),
        cmocka_unit_test(without_descriptors_new_connections_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
