/* Memory that fails, once at each allocation of a scenario in turn: on the app's thread or on the I/O
 * thread, nothing is lost, nothing is doubled, nothing is left. */

#include "support/streamclient.h"

#define REPLY_TO_DATE(w, match, lsn, row)                                                \
    reply_log(w, match, "h1", lsn "_0",                                                  \
              SCHEMA "electric-cursor: 9\r\nelectric-up-to-date: \r\n",                  \
              "[" row "," UP_TO_DATE(lsn) "]")

static void done(struct shape_stream *s, int code, const coulomb_error *e, void *arg)
{
    (void)s;
    (void)e;
    say(arg, "done %s\n", coulomb_error_name(code));
}

/* Polls, lets timers fire, until it was told or the stream has failed. */
static bool reach(struct stream_world *w, const char *text)
{
    int64_t end = clock_mono_ms() + 20000;

    while (!strstr(w->log, text)) {
        int code = coulomb_poll(w->c);

        assert_true(code >= 0 || code == COULOMB_E_MEMORY);
        assert_int_equal(state_of(w).phase, STREAM_RUNNING);
        if (coulomb_next_deadline(w->c) != INT64_MAX)
            w->now_ms = coulomb_next_deadline(w->c);
        else if (!coulomb_pending(w->c))
            clock_sleep_us(200);
        if (clock_mono_ms() > end)
            fail_msg("allocation %zu: %s was not told: %s", w->heap.fail_at, text,
                     w->log);
    }
    return true;
}

/* The calls that may fail say so, and are made again. */
static int scenario(struct stream_world *w, const struct stream_options *o)
{
    const struct stream_subset u = {.where = "id = 2"};
    int code = open_client(w);

    if (code == COULOMB_OK)
        code = shape_stream_new(w->c, o, &w->s);
    if (code != COULOMB_OK)
        return code;
    shape_stream_start(w->s);
    reach(w, "up-to-date lsn=10\n");
    reach(w, "up-to-date lsn=11\n");
    while ((code = shape_stream_request_subset(w->s, &u, done, w, NULL)) != COULOMB_OK)
        assert_int_equal(code, COULOMB_E_MEMORY);
    reach(w, "done COULOMB_OK\n");
    while ((code = shape_stream_refresh(w->s, done, w)) != COULOMB_OK)
        assert_int_equal(code, COULOMB_E_MEMORY);
    reach(w, "up-to-date lsn=12\ndone COULOMB_OK\n");
    for (int i = 0; i < 3; i++)
        httpd_reply(w->h, "offset=12_0", 409, "electric-handle: h1\r\n", "[]");
    reach(w, "must-refetch\n");
    return COULOMB_OK;
}

static void serve(struct stream_world *w)
{
    httpd_free(w->h);
    w->h = httpd_new();
    snprintf(w->url, sizeof(w->url), "%s/v1/shape?secret=s3cret", httpd_url(w->h));
    /* More of each than are needed: what failed in reading is asked for again. */
    for (int i = 0; i < 3; i++) {
        REPLY_TO_DATE(w, "offset=now", "10", ROW("1", "a"));
        REPLY_TO_DATE(w, "offset=10_0", "11", CHANGE("update", "1", "b", "11", "0"));
        reply_log(w, "id = 2", "h1", "11_0", SCHEMA,
                  "{\"data\":[" ROW("2", "c") "],\"metadata\":{\"xmin\":\"7\",\"xmax\":"
                                              "\"9\",\"xip_list\":[\"8\"]}}");
    }
    for (int i = 0; i < 3; i++)
        REPLY_TO_DATE(w, "GET /v1/shape?cursor=9&handle=h1&log=changes_only&offset=11_0",
                      "12", CHANGE("update", "1", "c", "12", "0"));
}

static const char expected[] =
    "insert k1 id=1 title=a\nup-to-date lsn=10\n"
    "update k1 id=1 title=b lsn=11 op=0\nup-to-date lsn=11\n"
    "insert k2 id=2 title=c\nsnapshot-end xmin=7 xmax=9 xip=1\nsubset-end %d\n"
    "done COULOMB_OK\n"
    "update k1 id=1 title=c lsn=12 op=0\nup-to-date lsn=12\ndone COULOMB_OK\n"
    "must-refetch\n";

static void every_allocation_may_fail(void **state)
{
    struct stream_world *w = stream_world_new();
    size_t completed = 0;
    bool failed = true;
    size_t n = 1;

    (void)state;
    coulomb_client_close(w->c);
    w->c = NULL;
    for (; failed; n++) {
        struct stream_options o;
        int code;

        serve(w);
        o = stream_options_of(w);
        o.log = STREAM_LOG_CHANGES_ONLY;
        o.from_now = true;
        o.no_prefetch = true;
        w->s = NULL;
        w->log_len = 0;
        w->log[0] = '\0';
        w->now_ms = 1000000;
        atomic_store(&w->heap.calls, 0);
        atomic_store(&w->heap.failed, false);
        w->heap.fail_at = n;
        code = scenario(w, &o);
        shape_stream_release(w->s);
        if (w->c)
            coulomb_client_close(w->c);
        w->s = NULL;
        w->c = NULL;
        failed = atomic_load(&w->heap.failed);
        w->heap.fail_at = 0;
        assert_int_equal(atomic_load(&w->heap.live), 0);
        if (code == COULOMB_OK) {
            char one[1000];
            char two[1000];

            /* A subset whose call failed took its number along. */
            snprintf(one, sizeof(one), expected, 1);
            snprintf(two, sizeof(two), expected, 2);
            if (strcmp(w->log, one) != 0 && strcmp(w->log, two) != 0)
                fail_msg("allocation %zu: told %s", n, w->log);
            completed++;
        } else {
            assert_int_equal(code, COULOMB_E_MEMORY);
        }
    }
    assert_true(completed > 50);
    OK(open_client(w));
    stream_world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
