/* What can be wrong with answers, and who gets to hear of it: statuses, must-refetch, caches that answer
 * with what is gone, loops, headers that are not there, credentials. */

#include "support/streamclient.h"

static int set_up(void **state)
{
    *state = stream_world_new();
    return 0;
}

static int tear_down(void **state)
{
    stream_world_free(*state);
    return 0;
}

static bool has_failed(void *arg)
{
    return state_of(arg).phase == STREAM_FAILED;
}

static void up_to_date_at(struct stream_world *w, const char *match, const char *handle)
{
    reply_log(w, match, handle, "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" ROW("1", "a") "," UP_TO_DATE("10") "]");
}

/* --- Statuses -------------------------------------------------------------------------------------------------- */

static void what_passes_is_tried_for_ever(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    static const int statuses[] = {500, 503, 429, 502, 408, 504, 425, 503, 503};
    static const int64_t waits[] = {500,   1000,  2000,  4000, 8000,
                                    16000, 16000, 16000, 16000};

    for (size_t i = 0; i < 9; i++)
        httpd_reply(w->h, NULL, statuses[i], JSON_TYPE, "{\"message\":\"later\"}");
    begin(w, &o);
    for (size_t i = 0; i < 9; i++) {
        await_request(w, i, "offset=-1");
        await_timer(w);
        assert_int_equal(state_of(w).connected, 0);
        pass_exactly(w, waits[i]);
    }
    up_to_date_at(w, NULL, "h1");
    await(w, "up-to-date");
    told(w, "insert k1 id=1 title=a\nup-to-date lsn=10\n");
    /* The next failure begins at the beginning. */
    await_request(w, 10, "live=true");
    httpd_reply(w->h, NULL, 503, "", "");
    await_timer(w);
    pass_exactly(w, 500);
}

static void retry_after_is_waited_for(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    httpd_reply(w->h, NULL, 503, "retry-after: 7\r\n", "");
    httpd_reply(w->h, NULL, 503, "Retry-After: Wed, 21 Oct 2015 07:28:20 GMT\r\n", "");
    httpd_reply(w->h, NULL, 503, "retry-after: tomorrow\r\n", "");
    begin(w, &o);
    await_timer(w);
    pass_exactly(w, 7000);
    await_request(w, 1, NULL);
    await_timer(w);
    pass_exactly(w, 20000);
    await_request(w, 2, NULL);
    await_timer(w);
    pass_exactly(w, 2000);
}

static void nobody_there_is_tried_again(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    struct httpd *gone = httpd_new();
    char url[128];

    snprintf(url, sizeof(url), "%s/v1/shape?secret=s3cret", httpd_url(gone));
    httpd_free(gone);
    o.url = url;
    begin(w, &o);
    for (int i = 0; i < 3; i++) {
        await_timer(w);
        w->now_ms = coulomb_next_deadline(w->c);
        assert_true(coulomb_poll(w->c) >= 0);
    }
    told(w, "");
    assert_int_equal(state_of(w).phase, STREAM_RUNNING);
}

static void attempts_may_have_a_maximum(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    o.attempts_max = 2;
    httpd_reply(w->h, NULL, 503, JSON_TYPE, "{\"message\":\"later\"}");
    httpd_reply(w->h, NULL, 503, JSON_TYPE, "{\"message\":\"later\"}");
    begin(w, &o);
    await_timer(w);
    pass_exactly(w, 500);
    await(w, "error");
    told(w, "error COULOMB_E_FETCH 503\n");
    poll_until(w->c, has_failed, w);
}

/* T2: an error before the first up-to-date; one after it is no different here. */
static void t2_what_does_not_pass_is_an_error(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    static const int statuses[] = {400, 401, 403, 404, 405, 413, 422};

    for (size_t i = 0; i < 7; i++) {
        httpd_reply(w->h, NULL, statuses[i], JSON_TYPE,
                    "{\"message\":\"Invalid request\",\"errors\":{\"table\":[\"no\"]}}");
        begin(w, &o);
        await(w, "error");
        poll_until(w->c, has_failed, w);
        assert_int_equal(w->last_error.status, statuses[i]);
        assert_non_null(strstr(w->error_words, "Invalid request"));
        assert_non_null(strstr(w->error_words, "/v1/shape"));
        assert_null(strstr(w->error_words, "s3cret"));
        assert_int_equal(shape_stream_error(w->s)->code, COULOMB_E_FETCH);
        shape_stream_release(w->s);
        w->log_len = 0;
        w->log[0] = '\0';
    }
    w->s = NULL;
}

static void repair(struct stream_world *w)
{
    OK(shape_stream_set_param(w->s, "token", "new"));
    OK(shape_stream_set_header(w->s, "x-a", "b"));
}

static void the_app_may_repair_and_have_it_tried_again(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    const char *request;

    w->decision = STREAM_RETRY;
    w->in_error = repair;
    begin_live(w, &o);
    httpd_reply(w->h, NULL, 400, "", "no");
    await(w, "error");
    await_timer(w);
    pass_exactly(w, 500);
    request = await_request(w, 2, "token=new");
    assert_non_null(strstr(request, "x-a: b"));
    assert_non_null(strstr(request, "offset=0_inf")); /* from where it was */
    assert_int_equal(state_of(w).phase, STREAM_RUNNING);
}

static void the_app_is_asked_fifty_times(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    w->decision = STREAM_RETRY;
    w->random = 0;
    for (int i = 0; i < 51; i++)
        httpd_reply(w->h, NULL, 400, "", "no");
    begin(w, &o);
    poll_until(w->c, has_failed, w);
    assert_int_equal(w->errors, 51);
    assert_int_equal(httpd_count(w->h), 51);
}

static void an_unasked_304_is_asked_otherwise(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    begin_live(w, &o);
    httpd_reply(w->h, NULL, 304, "", "");
    await_timer(w);
    pass_exactly(w, 500);
    await_request(w, 2, "cache-buster=");
}

static void a_204_is_up_to_date(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    o.sse = true;
    httpd_push(
        w->h, "offset=-1",
        "HTTP/1.1 204 No Content\r\nelectric-handle: h1\r\nelectric-offset: "
        "0_inf\r\n" SCHEMA "\r\n",
        strlen("HTTP/1.1 204 No Content\r\nelectric-handle: h1\r\nelectric-offset: "
               "0_inf\r\n" SCHEMA "\r\n"),
        HTTPD_KEEP, 0);
    begin(w, &o);
    await(w, "up-to-date");
    told(w, "up-to-date\n");
    OFFSET_IS(w, "0_inf");
    assert_int_equal(state_of(w).live_sse, 0); /* an old server */
}

/* --- Must-refetch ---------------------------------------------------------------------------------------------- */

/* T3: the stream's part of it. */
static void t3_a_409_begins_anew_under_the_new_handle(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    const char *request;

    begin_live(w, &o);
    httpd_reply(w->h, NULL, 409, "electric-handle: h2\r\n",
                "[{\"headers\":{\"control\":\"must-refetch\"}}," ROW("9", "stale") "]");
    await(w, "must-refetch");
    told(w, "must-refetch\n");
    request = await_request(w, 2, "handle=h2&log=full&offset=-1&");
    assert_non_null(strstr(request, "expired_handle=h1"));
    assert_non_null(strstr(request, "cache-buster="));
    assert_int_equal(state_of(w).up_to_date, 0);
    up_to_date_at(w, NULL, "h2");
    await(w, "up-to-date");
    told(w, "insert k1 id=1 title=a\nup-to-date lsn=10\n");
    /* It is known from then on, but the buster was for once. */
    request = await_request(w, 3, "expired_handle=h1");
    assert_null(strstr(request, "cache-buster="));
}

static void t3_a_409_without_a_handle(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    const char *request;

    begin_live(w, &o);
    httpd_reply(w->h, NULL, 409, "", "[]");
    await(w, "must-refetch");
    request = await_request(w, 2, "offset=-1");
    assert_non_null(strstr(request, "expired_handle=h1"));
    assert_null(strstr(request, "&handle="));
    assert_non_null(strstr(w->client_log, "event=stream.refetch_without_handle"));
}

static void t3_a_409_with_the_same_handle_does_not_go_round(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    begin_live(w, &o);
    httpd_reply(w->h, NULL, 409, "electric-handle: h1\r\n", "[]");
    await(w, "must-refetch");
    w->log_len = 0;
    /* If the server means it, it is believed in the end. */
    for (int i = 0; i < 5; i++)
        up_to_date_at(w, "offset=-1", "h1");
    await(w, "up-to-date");
    await(w, "insert k1");
    OFFSET_IS(w, "0_inf");
    assert_int_equal(state_of(w).up_to_date, 1);
}

static void t3_refetches_in_rapid_succession(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    begin_live(w, &o);
    for (int i = 2; i < 12; i++) {
        char handle[64];

        snprintf(handle, sizeof(handle), "electric-handle: h%d\r\n", i);
        w->now_ms += 200; /* five at once would be a loop */
        httpd_reply(w->h, NULL, 409, handle, "[]");
        await(w, "must-refetch");
        told(w, "must-refetch\n");
        await_request(w, (size_t)i, "offset=-1");
    }
    up_to_date_at(w, NULL, "h11");
    await(w, "up-to-date");
    told(w, "insert k1 id=1 title=a\nup-to-date lsn=10\n");
}

static void other_streams_of_the_shape_know_what_expired(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    struct shape_stream *first;

    begin_live(w, &o);
    httpd_reply(w->h, NULL, 409, "electric-handle: h2\r\n", "[]");
    await(w, "must-refetch");
    await_request(w, 2, NULL);
    first = w->s;
    begin(w, &o);
    await_request(w, 3, "expired_handle=h1");
    shape_stream_release(first);
}

/* --- Caches ------------------------------------------------------------------------------------------------------ */

static void a_stale_answer_is_asked_for_otherwise(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    begin_live(w, &o);
    httpd_reply(w->h, NULL, 409, "electric-handle: h2\r\n", "[]");
    await(w, "must-refetch");
    told(w, "must-refetch\n");
    up_to_date_at(w, "offset=-1", "h1"); /* the cache still has the old one */
    await_request(w, 3, "cache-buster=");
    assert_string_not_equal(httpd_request(w->h, 2), httpd_request(w->h, 3));
    up_to_date_at(w, "offset=-1", "h2");
    await(w, "up-to-date");
    told(w, "insert k1 id=1 title=a\nup-to-date lsn=10\n");
    assert_string_equal(state_of(w).handle.ptr, "h2");
}

/* A cache that ignores the buster: three tries, then once without the knowledge that it is stale. */
static void stale_for_ever_is_believed_once(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    begin_live(w, &o);
    httpd_reply(w->h, NULL, 409, "electric-handle: h2\r\n", "[]");
    await(w, "must-refetch");
    told(w, "must-refetch\n");
    for (int i = 0; i < 4; i++) {
        up_to_date_at(w, "offset=-1", "h1");
        await_request(w, (size_t)i + 3, "offset=-1");
        w->now_ms += 600;
    }
    assert_null(strstr(httpd_request(w->h, 6), "expired_handle"));
    await(w, "must-refetch");
    told(w, "must-refetch\n");
    up_to_date_at(w, "offset=-1", "h1");
    await(w, "up-to-date");
    told(w, "insert k1 id=1 title=a\nup-to-date lsn=10\n");
}

static void stale_and_409_by_turns_is_an_error(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    begin_live(w, &o);
    for (int round = 0; round < 12 && !has_failed(w); round++) {
        httpd_reply(w->h, "offset=0_inf", 409, "", "[]");
        for (int i = 0; i < 8; i++)
            reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA, "[]");
        for (int i = 0; i < 400 && !has_failed(w) && httpd_left(w->h) > 0; i++) {
            assert_true(coulomb_poll(w->c) >= 0);
            w->now_ms += 100;
            clock_sleep_ms(1);
        }
    }
    assert_true(has_failed(w));
    assert_int_equal(shape_stream_error(w->s)->code, COULOMB_E_STUCK);
}

/* --- Loops --------------------------------------------------------------------------------------------------------- */

static void going_round_at_one_offset_is_noticed(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    o.no_prefetch = true;
    for (int i = 0; i < 60; i++)
        reply_log(w, NULL, "h1", "-1", SCHEMA, "[]");
    begin(w, &o);
    await(w, "must-refetch"); /* first everything is tried anew */
    assert_non_null(strstr(w->client_log, "event=stream.loop"));
    while (!has_failed(w)) {
        assert_true(coulomb_poll(w->c) >= 0);
        if (coulomb_next_deadline(w->c) != INT64_MAX)
            w->now_ms = coulomb_next_deadline(w->c);
        clock_sleep_ms(1);
    }
    assert_int_equal(w->last_error.code, COULOMB_E_STUCK);
    assert_true(w->last_error.retryable);
    assert_true(httpd_count(w->h) < 40);
}

static void slow_requests_at_one_offset_are_no_loop(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    o.no_prefetch = true;
    begin(w, &o);
    for (size_t i = 0; i < 20; i++) {
        await_request(w, i, "offset=-1");
        w->now_ms += 200;
        reply_log(w, NULL, "h1", "-1", SCHEMA, "[]");
    }
    await_request(w, 20, "offset=-1");
    told(w, "");
}

static void many_chunks_in_no_time_are_no_loop(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    begin(w, &o);
    for (int i = 0; i < 30; i++) {
        char match[32];
        char offset[32];

        snprintf(match, sizeof(match), i == 0 ? "offset=-1" : "offset=0_%d&", i - 1);
        snprintf(offset, sizeof(offset), "0_%d", i);
        reply_log(w, match, "h1", offset, SCHEMA, "[]");
    }
    await_request(w, 30, "offset=0_29");
    told(w, "");
}

/* --- Headers and bodies ------------------------------------------------------------------------------------------- */

static void headers_that_are_missing_are_named(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    w->decision = STREAM_RETRY; /* in vain: only a proxy can mend that */
    httpd_reply(w->h, NULL, 200, JSON_TYPE "electric-offset: 0_0\r\n", "[]");
    begin(w, &o);
    await(w, "error");
    told(w, "error COULOMB_E_MISSING_HEADERS 200 fatal\n");
    assert_non_null(strstr(w->error_words, " electric-handle electric-schema;"));
    poll_until(w->c, has_failed, w);
}

static void headers_that_live_answers_have(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    begin_live(w, &o);
    httpd_reply(w->h, "live=true", 200, JSON_TYPE, "[]");
    await(w, "error");
    assert_non_null(
        strstr(w->error_words, " electric-offset electric-handle electric-cursor;"));
}

static void without_schema_when_the_columns_are_known(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    static const coulomb_column typed[] = {{"id", COULOMB_INT64, COULOMB_ABSENT}};

    o.typed = typed;
    o.typed_count = 1;
    reply_log(w, "offset=-1", "h1", "0_inf", "electric-up-to-date: \r\n",
              "[" ROW("1", "a") "," UP_TO_DATE("10") "]");
    begin(w, &o);
    await(w, "up-to-date");
    told(w, "insert k1 id=1\nup-to-date lsn=10\n");
    await_request(w, 1, "live=true");
}

/* A captive portal, a proxy's error page with status 200, half a body: they may pass. */
static void what_is_no_answer_of_a_server_is_tried_thrice(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    static const char *const bodies[] = {
        "<html>", "{\"a\":1}", "[{\"headers\":{}}]", "[1]", "[" ROW("1", "a") ",", "[{]"};

    o.no_prefetch = true;
    for (size_t i = 0; i < 6; i++) {
        for (int n = 0; n < 4; n++) {
            if (i == 0)
                httpd_reply(w->h, NULL, 200, "content-type: text/html\r\n", bodies[i]);
            else
                reply_log(w, NULL, "h1", "0_0", SCHEMA, bodies[i]);
        }
        begin(w, &o);
        for (int n = 0; n < 3; n++) {
            await_timer(w);
            w->now_ms = coulomb_next_deadline(w->c);
            assert_true(coulomb_poll(w->c) >= 0);
        }
        await(w, "error");
        told(w, "error COULOMB_E_PROTOCOL 200\n");
        shape_stream_release(w->s);
    }
    w->s = NULL;
}

static void a_proxys_page_that_passes(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    httpd_reply(w->h, NULL, 200, "content-type: text/html\r\n", "<html>log in</html>");
    begin(w, &o);
    await_timer(w);
    w->now_ms = coulomb_next_deadline(w->c);
    up_to_date_at(w, "cache-buster=", "h1");
    await(w, "up-to-date");
    told(w, "insert k1 id=1 title=a\nup-to-date lsn=10\n");
}

static void a_schema_that_is_none(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    for (int n = 0; n < 4; n++)
        reply_log(w, NULL, "h1", "0_0", "electric-schema: {\"id\":1}\r\n", "[]");
    begin(w, &o);
    for (int n = 0; n < 3; n++) {
        await_timer(w);
        w->now_ms = coulomb_next_deadline(w->c);
        assert_true(coulomb_poll(w->c) >= 0);
    }
    await(w, "error");
    assert_non_null(strstr(w->error_words, "electric-schema is not"));
}

/* What a cache repeats within a minute of an up-to-date is not told as a new one. */
static void an_up_to_date_that_is_only_repeated_is_not_told(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    begin_live(w, &o);
    reply_log(w, "live=true", "h1", "11_0",
              "electric-cursor: 500\r\nelectric-up-to-date: \r\n",
              "[" UP_TO_DATE("11") "]");
    await(w, "up-to-date lsn=11");
    await_request(w, 2, "live=true");
    shape_stream_release(w->s);
    w->log_len = 0;
    reply_log(w, "offset=-1", "h1", "11_0",
              SCHEMA "electric-cursor: 500\r\nelectric-up-to-date: \r\n",
              "[" ROW("1", "a") "," UP_TO_DATE("11") "]");
    begin(w, &o);
    await(w, "insert k1");
    await_request(w, 4, "live=true");
    told(w, "insert k1 id=1 title=a\n");
    reply_log(w, "live=true", "h1", "11_0",
              "electric-cursor: 520\r\nelectric-up-to-date: \r\n",
              "[" UP_TO_DATE("11") "]");
    await(w, "up-to-date");
}

/* --- Credentials ----------------------------------------------------------------------------------------------------- */

struct login {
    unsigned renewals;
    unsigned refused;
    int answer;
    bool dropped;
    struct credentials *waiting;
};

static int renew(struct credentials *cr, bool refused, void *arg)
{
    struct login *l = arg;
    char token[32];

    l->refused += refused;
    snprintf(token, sizeof(token), "Bearer t%u", ++l->renewals);
    OK(credentials_add_header(cr, "authorization", token));
    OK(credentials_add_param(cr, "grant", token + 7));
    l->waiting = cr;
    return l->answer;
}

static void drop_login(void *arg)
{
    ((struct login *)arg)->dropped = true;
}

static struct credentials *log_in(struct stream_world *w, struct login *l, bool each)
{
    const struct credentials_options o = {
        .renew = renew, .drop = drop_login, .arg = l, .each_request = each};
    struct credentials *cr;

    OK(credentials_new(w->c, &o, &cr));
    return cr;
}

static void credentials_go_along_and_are_renewed_once(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    struct login l = {0};
    struct shape_stream *first;
    const char *request;

    o.credentials = log_in(w, &l, false);
    begin_live(w, &o);
    request = httpd_request(w->h, 0);
    assert_non_null(strstr(request, "grant=t1"));
    assert_non_null(strstr(request, "authorization: Bearer t1"));
    /* Two streams are refused; one renewal is for both. */
    first = w->s;
    begin(w, &o);
    await_request(w, 2, "offset=-1");
    httpd_reply(w->h, "grant=t1&handle=h1&live=true", 401, "", "");
    httpd_reply(w->h, "grant=t1&log=full&offset=-1", 403, "", "");
    await_request(w, 4, "grant=t2");
    assert_non_null(strstr(httpd_request(w->h, 3), "grant=t2"));
    assert_int_equal(l.renewals, 2);
    assert_int_equal(l.refused, 1);
    told(w, "");
    shape_stream_release(first);
    shape_stream_release(w->s);
    w->s = NULL;
    assert_false(l.dropped);
    credentials_release(o.credentials);
    assert_true(l.dropped);
}

static void credentials_that_are_refused_again_and_again(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    struct login l = {0};

    o.credentials = log_in(w, &l, false);
    for (int i = 0; i < 4; i++)
        httpd_reply(w->h, NULL, 401, JSON_TYPE, "{\"message\":\"no\"}");
    begin(w, &o);
    await(w, "error");
    told(w, "error COULOMB_E_FETCH 401\n");
    assert_int_equal(l.renewals, 4);
    credentials_release(o.credentials);
}

static void ignore_ready(struct credentials_waiter *waiter, int code,
                         const coulomb_error *e)
{
    (void)waiter;
    (void)code;
    (void)e;
}

/* Another asker whose requests are fine does not keep one that is forbidden asking. */
static void refusals_are_counted_for_each_asker(void **state)
{
    struct stream_world *w = *state;
    struct login l = {0};
    struct credentials *cr = log_in(w, &l, false);
    struct credentials_waiter waiter;
    struct credentials_set set;
    unsigned mine = 0;
    int again = 0;

    credentials_waiter_init(&waiter);
    waiter.ready = ignore_ready;
    for (int i = 0; i < 20; i++) {
        while (credentials_want(cr, &waiter, &set) == COULOMB_PENDING)
            assert_true(coulomb_poll(w->c) >= 0);
        credentials_worked(cr, set.generation);
        if (!credentials_refused(cr, set.generation, &mine))
            break;
        again++;
    }
    assert_int_equal(again, 3);
    assert_int_equal(mine, 0);
    credentials_release(cr);
}

static void credentials_that_come_later(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    struct login l = {.answer = COULOMB_PENDING};

    o.credentials = log_in(w, &l, false);
    begin(w, &o);
    for (int i = 0; i < 5; i++)
        assert_true(coulomb_poll(w->c) >= 0);
    assert_int_equal(httpd_count(w->h), 0);
    assert_int_equal(l.renewals, 1);
    credentials_answer(l.waiting, COULOMB_OK, NULL);
    await_request(w, 0, "grant=t1");
    credentials_release(o.credentials);
}

static void credentials_that_can_not_be_had(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    struct login l = {.answer = COULOMB_PENDING};

    w->decision = STREAM_RETRY;
    o.credentials = log_in(w, &l, false);
    begin(w, &o);
    for (int i = 0; i < 5; i++)
        assert_true(coulomb_poll(w->c) >= 0);
    credentials_answer(l.waiting, COULOMB_E_FAILED, "nobody is logged in");
    await(w, "error");
    told(w, "error COULOMB_E_CREDENTIALS 0\n");
    assert_non_null(strstr(w->error_words, "nobody is logged in"));
    l.answer = COULOMB_OK;
    await_timer(w);
    pass_exactly(w, 500);
    await_request(w, 0, "grant=t2");
    credentials_release(o.credentials);
}

static void credentials_that_expire(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    struct login l = {0};

    o.credentials = log_in(w, &l, false);
    begin_live(w, &o);
    credentials_expire_at(o.credentials, w->now_ms + 10);
    w->now_ms += 10;
    reply_log(w, "live=true", "h1", "11_0",
              "electric-cursor: 1\r\nelectric-up-to-date: \r\n",
              "[" UP_TO_DATE("11") "]");
    await_request(w, 2, "grant=t2");
    assert_int_equal(l.refused, 0);
    credentials_release(o.credentials);
}

static void credentials_for_each_request(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    struct login l = {0};

    o.credentials = log_in(w, &l, true);
    begin_live(w, &o);
    assert_non_null(strstr(httpd_request(w->h, 0), "grant=t1"));
    assert_non_null(strstr(httpd_request(w->h, 1), "grant=t2"));
    for (int i = 0; i < 4; i++)
        httpd_reply(w->h, NULL, 401, "", "");
    await(w, "error");
    assert_int_equal(l.renewals, 5);
    assert_int_equal(l.refused, 3);
    credentials_release(o.credentials);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(what_passes_is_tried_for_ever),
        TEST(retry_after_is_waited_for),
        TEST(nobody_there_is_tried_again),
        TEST(attempts_may_have_a_maximum),
        TEST(t2_what_does_not_pass_is_an_error),
        TEST(the_app_may_repair_and_have_it_tried_again),
        TEST(the_app_is_asked_fifty_times),
        TEST(an_unasked_304_is_asked_otherwise),
        TEST(a_204_is_up_to_date),
        TEST(t3_a_409_begins_anew_under_the_new_handle),
        TEST(t3_a_409_without_a_handle),
        TEST(t3_a_409_with_the_same_handle_does_not_go_round),
        TEST(t3_refetches_in_rapid_succession),
        TEST(other_streams_of_the_shape_know_what_expired),
        TEST(a_stale_answer_is_asked_for_otherwise),
        TEST(stale_for_ever_is_believed_once),
        TEST(stale_and_409_by_turns_is_an_error),
        TEST(going_round_at_one_offset_is_noticed),
        TEST(slow_requests_at_one_offset_are_no_loop),
        TEST(many_chunks_in_no_time_are_no_loop),
        TEST(headers_that_are_missing_are_named),
        TEST(headers_that_live_answers_have),
        TEST(without_schema_when_the_columns_are_known),
        TEST(what_is_no_answer_of_a_server_is_tried_thrice),
        TEST(a_proxys_page_that_passes),
        TEST(a_schema_that_is_none),
        TEST(an_up_to_date_that_is_only_repeated_is_not_told),
        TEST(credentials_go_along_and_are_renewed_once),
        TEST(credentials_that_are_refused_again_and_again),
        TEST(refusals_are_counted_for_each_asker),
        TEST(credentials_that_come_later),
        TEST(credentials_that_can_not_be_had),
        TEST(credentials_that_expire),
        TEST(credentials_for_each_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
