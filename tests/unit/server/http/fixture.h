/* A running HTTP stage over fake shapes. */
#ifndef COULOMB_TESTS_HTTP_FIXTURE_H
#define COULOMB_TESTS_HTTP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client.h"
// NOLINTNEXTLINE(bugprone-suspicious-include): in the place of server/shape
#include "fake_shapes.c"
#include "server/http/http.h"

struct fixture {
    struct obs obs;
    struct shapes shapes;
    struct catalog catalog;
    struct http *http;
    struct http_config config;
};

static inline void open_with(struct fixture *f, uint64_t chunk_bytes)
{
    struct err err;

    obs_init(&f->obs);
    fake_init(&f->shapes, &f->catalog, &f->obs, chunk_bytes);
    f->config.obs = &f->obs;
    f->config.shapes = &f->shapes;
    f->config.catalog = &f->catalog;
    if (http_start(&f->config, &f->http, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
}

static inline struct http_config defaults(void)
{
    return (struct http_config){.listen_address = "127.0.0.1",
                                .metrics_enabled = true,
                                .threads = 2,
                                .allow_delete = true,
                                .long_poll_timeout_ms = 2000,
                                .sse_timeout_ms = 60000,
                                .sse_keepalive_ms = 21000,
                                .ready_timeout_ms = 300,
                                .cache_max_age_s = 60,
                                .cache_stale_age_s = 300,
                                .max_initial_requests = 300,
                                .max_existing_requests = 10000,
                                .send_timeout_ms = 30000,
                                .read_timeout_ms = 60000,
                                .version = "test"};
}

static inline void open_default(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->config = defaults();
    open_with(f, 10u * 1024 * 1024);
}

static inline void shut(struct fixture *f)
{
    http_stop(f->http, 1000);
    assert_int_equal(atomic_load(&f->obs.gauge[OBS_G_CONNECTIONS]), 0);
    assert_int_equal(atomic_load(&f->obs.gauge[OBS_G_READERS_LIVE]), 0);
    assert_int_equal(atomic_load(&f->obs.gauge[OBS_G_REQUESTS_INITIAL]), 0);
    assert_int_equal(atomic_load(&f->obs.gauge[OBS_G_REQUESTS_EXISTING]), 0);
    http_free(f->http);
    fake_fini(&f->shapes, &f->catalog);
}

static inline struct client_answer ask(struct fixture *f, const char *method,
                                       const char *target, const char *headers)
{
    int fd = client_connect(http_port(f->http));

    assert_true(fd >= 0);
    client_send(fd, method, target, headers);
    struct client_answer a =
        client_receive(fd, strcmp(method, "HEAD") == 0, CLIENT_WAIT_MS, NULL);
    close(fd);
    return a;
}

static inline void expect(struct fixture *f, const char *method, const char *target,
                          const char *headers, int status, const char *body)
{
    struct client_answer a = ask(f, method, target, headers);

    if (a.status != status || (body && strcmp(a.body, body) != 0))
        fprintf(stderr, "%s %s: %s\n", method, target, a.text);
    assert_int_equal(a.status, status);
    if (body)
        assert_string_equal(a.body, body);
    client_free(&a);
}

static inline void wait_gauge(struct fixture *f, enum obs_gauge gauge, int64_t value)
{
    for (int i = 0; i < 2000 && atomic_load(&f->obs.gauge[gauge]) != value; i++)
        clock_sleep_ms(2);
    assert_int_equal(atomic_load(&f->obs.gauge[gauge]), value);
}

#define REFETCH "[{\"headers\":{\"control\":\"must-refetch\"}}]"
#define H1      "1-1700000000000000"
#define SNAP    "[" FAKE_ROW ",{\"headers\":{\"control\":\"snapshot-end\"}}]"
#define UP(lsn)                                                                          \
    "[{\"headers\":{\"control\":\"up-to-date\",\"global_last_seen_lsn\":\"" lsn "\"}}]"
#define LIVE "/v1/shape?table=items&live=true&handle=" H1 "&offset="

#endif
