/* The metrics text and the words of reasons. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>

#include "server/obs/obs.h"

static char *render(const struct obs *o)
{
    struct buf out;
    char *text;

    buf_init(&out, 1 << 20);
    obs_render(o, &out);
    text = buf_take(&out, NULL);
    assert_non_null(text);
    return text;
}

/* True when the text has this whole line. */
static bool has_line(const char *text, const char *line)
{
    size_t n = strlen(line);

    for (const char *at = text; (at = strstr(at, line)) != NULL; at++) {
        if ((at == text || at[-1] == '\n') && at[n] == '\n')
            return true;
    }
    return false;
}

static void fresh_metrics_are_all_there_and_zero(void **state)
{
    static struct obs o;
    char *text;

    (void)state;
    obs_init(&o);
    text = render(&o);
#define HAS_ZERO(id, name, help)                                                         \
    assert_true(has_line(text, name " 0"));                                              \
    assert_true(has_line(text, "# HELP " name " " help));
    OBS_COUNTERS(HAS_ZERO)
    OBS_GAUGES(HAS_ZERO)
#define HAS_REMOVED(id, name, help)                                                      \
    assert_true(has_line(text, "coulomb_shapes_removed_total{reason=\"" name "\"} 0"));
    OBS_SHAPE_REASONS(HAS_REMOVED)
#define HAS_REFUSED(id, name, help)                                                      \
    assert_true(has_line(text, "coulomb_http_refused_total{reason=\"" name "\"} 0"));
    OBS_REFUSALS(HAS_REFUSED)
#define HAS_LOST(id, name, help)                                                         \
    assert_true(has_line(text, "coulomb_replication_lost_total{reason=\"" name "\"} "    \
                               "0"));
    OBS_STREAM_REASONS(HAS_LOST)
    assert_true(has_line(text, "# TYPE coulomb_shapes gauge"));
    assert_true(has_line(text, "# TYPE coulomb_snapshots_total counter"));
    assert_true(has_line(text, "# TYPE coulomb_checkpoint_seconds histogram"));
    free(text);
}

static void counters_and_gauges_show_what_was_recorded(void **state)
{
    static struct obs o;
    char *text;

    (void)state;
    obs_init(&o);
    obs_count(&o, OBS_SNAPSHOT_ROWS, 41);
    obs_count(&o, OBS_SNAPSHOT_ROWS, 1);
    obs_set(&o, OBS_G_LAG_BYTES, 7);
    obs_add(&o, OBS_G_LAG_BYTES, -10);
    obs_set(&o, OBS_G_LAG_MS, 2500);
    obs_shape_removed(&o, OBS_SHAPE_TRUNCATE);
    obs_refused(&o, OBS_REFUSED_ADMISSION);
    obs_stream_lost(&o, OBS_STREAM_SLOT);
    text = render(&o);
    assert_true(has_line(text, "coulomb_snapshot_rows_total 42"));
    assert_true(has_line(text, "coulomb_replication_lag_bytes -3"));
    assert_true(has_line(text, "coulomb_replication_lag_seconds 2.5"));
    assert_true(has_line(text, "coulomb_shapes_removed_total{reason=\"truncate\"} 1"));
    assert_true(has_line(text, "coulomb_http_refused_total{reason=\"admission\"} 1"));
    assert_true(has_line(text, "coulomb_replication_lost_total{reason=\"slot\"} 1"));
    free(text);
}

static void histogram_is_cumulative_in_seconds(void **state)
{
    static const int64_t times_us[] = {-5, 0, 100, 101, 200, 1500000, 26214400, 26214401};
    static struct obs o;
    char *text;

    (void)state;
    obs_init(&o);
    for (size_t i = 0; i < sizeof(times_us) / sizeof(times_us[0]); i++)
        obs_time(&o, OBS_H_CHECKPOINT_US, times_us[i]);
    text = render(&o);
    assert_true(has_line(text, "coulomb_checkpoint_seconds_bucket{le=\"0.0001\"} 3"));
    assert_true(has_line(text, "coulomb_checkpoint_seconds_bucket{le=\"0.0002\"} 5"));
    assert_true(has_line(text, "coulomb_checkpoint_seconds_bucket{le=\"0.8192\"} 5"));
    assert_true(has_line(text, "coulomb_checkpoint_seconds_bucket{le=\"1.6384\"} 6"));
    assert_true(has_line(text, "coulomb_checkpoint_seconds_bucket{le=\"26.2144\"} 7"));
    assert_true(has_line(text, "coulomb_checkpoint_seconds_bucket{le=\"+Inf\"} 8"));
    assert_true(has_line(text, "coulomb_checkpoint_seconds_sum 53.929202"));
    assert_true(has_line(text, "coulomb_checkpoint_seconds_count 8"));
    assert_true(has_line(text, "coulomb_http_request_seconds_sum 0"));
    free(text);
}

static void size_of_the_text_does_not_grow_with_events(void **state)
{
    static struct obs o;
    char *before;
    char *after;
    size_t lines_before = 0;
    size_t lines_after = 0;

    (void)state;
    obs_init(&o);
    before = render(&o);
    for (int64_t i = 0; i < 10000; i++)
        obs_time(&o, OBS_H_HTTP_US, i * i);
    after = render(&o);
    for (const char *at = before; *at; at++)
        lines_before += *at == '\n';
    for (const char *at = after; *at; at++)
        lines_after += *at == '\n';
    assert_int_equal(lines_before, lines_after);
    free(before);
    free(after);
}

static void *count_many(void *ctx)
{
    for (int i = 0; i < 10000; i++) {
        obs_count(ctx, OBS_HTTP_REQUESTS, 1);
        obs_add(ctx, OBS_G_CONNECTIONS, i % 2 ? 1 : -1);
        obs_time(ctx, OBS_H_HTTP_US, 150);
    }
    return NULL;
}

static void threads_lose_no_count(void **state)
{
    static struct obs o;
    pthread_t threads[4];
    char *text;

    (void)state;
    obs_init(&o);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_many, &o), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    text = render(&o);
    assert_true(has_line(text, "coulomb_http_requests_total 40000"));
    assert_true(has_line(text, "coulomb_http_connections 0"));
    assert_true(has_line(text, "coulomb_http_request_seconds_count 40000"));
    assert_true(has_line(text, "coulomb_http_request_seconds_sum 6"));
    free(text);
}

static void nothing_is_recorded_without_obs(void **state)
{
    (void)state;
    obs_count(NULL, OBS_SNAPSHOTS, 1);
    obs_set(NULL, OBS_G_SHAPES, 1);
    obs_add(NULL, OBS_G_SHAPES, 1);
    obs_time(NULL, OBS_H_HTTP_US, 1);
    obs_shape_removed(NULL, OBS_SHAPE_SLOT);
    obs_refused(NULL, OBS_REFUSED_INVALID);
    obs_stream_lost(NULL, OBS_STREAM_FATAL);
}

static void reasons_have_names_and_sentences(void **state)
{
    (void)state;
    assert_string_equal(obs_shape_reason_name(OBS_SHAPE_SCHEMA), "schema_change");
    assert_string_equal(obs_shape_reason_text(OBS_SHAPE_SCHEMA),
                        "its table's definition changed");
    assert_string_equal(obs_refusal_name(OBS_REFUSED_NOT_READY), "not_ready");
    assert_string_equal(obs_stream_reason_name(OBS_STREAM_STOPPED), "stopped");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_metrics_are_all_there_and_zero),
        cmocka_unit_test(counters_and_gauges_show_what_was_recorded),
        cmocka_unit_test(histogram_is_cumulative_in_seconds),
        cmocka_unit_test(size_of_the_text_does_not_grow_with_events),
        cmocka_unit_test(threads_lose_no_count),
        cmocka_unit_test(nothing_is_recorded_without_obs),
        cmocka_unit_test(reasons_have_names_and_sentences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
