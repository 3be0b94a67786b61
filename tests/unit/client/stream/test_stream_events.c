/* Live by server-sent events, and back to long polling where they don't get through; pauses, refreshes,
 * sleep. */

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

#define EVENTS_HEAD                                                                      \
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nelectric-handle: h1\r\n"      \
    "electric-cursor: 40\r\n"

/* Opens a connection of events for the request that waits. */
static void open_events(struct stream_world *w, const char *offset)
{
    char text[600];
    int n =
        snprintf(text, sizeof(text),
                 EVENTS_HEAD "electric-offset: %s\r\nconnection: close\r\n\r\n", offset);

    httpd_push(w->h, "live_sse=true", text, (size_t)n, HTTPD_HOLD, 0);
}

static void send_events(struct stream_world *w, const char *text, enum httpd_after after)
{
    httpd_push(w->h, HTTPD_MORE, text, strlen(text), after, 0);
}

static struct stream_options sse_options(struct stream_world *w)
{
    struct stream_options o = stream_options_of(w);

    o.sse = true;
    return o;
}

#define EVENT(json) "data: " json "\n\n"

static void events_come_in_groups(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = sse_options(w);
    const char *request;

    begin_live(w, &o);
    request = httpd_request(w->h, 1);
    assert_non_null(strstr(request, "experimental_live_sse=true&handle=h1&live=true&"
                                    "live_sse=true&log=full"));
    assert_non_null(strstr(request, "accept: text/event-stream"));
    open_events(w, "0_inf");
    send_events(w, ": keep-alive\n\n" EVENT(CHANGE("insert", "2", "b", "11", "0")),
                HTTPD_HOLD);
    send_events(w, EVENT(CHANGE("insert", "3", "c", "12", "0")) EVENT(UP_TO_DATE("12")),
                HTTPD_HOLD);
    await(w, "up-to-date");
    told(w, "insert k2 id=2 title=b lsn=11 op=0\ninsert k3 id=3 title=c lsn=12 op=0\n"
            "up-to-date lsn=12\n");
    OFFSET_IS(w, "12_0");
    assert_string_equal(state_of(w).cursor.ptr, "40");
    /* Two groups and a half in one piece. */
    send_events(w,
                EVENT(CHANGE("delete", "3", "", "13", "0")) EVENT(UP_TO_DATE("13"))
                    EVENT(UP_TO_DATE("14")) "data: {\"key\":\"k4\",",
                HTTPD_HOLD);
    await(w, "up-to-date lsn=14");
    told(w, "delete k3 id=3 title= lsn=13 op=0\nup-to-date lsn=13\nup-to-date lsn=14\n");
    /* What has no up-to-date behind it was not there; it comes again. */
    w->now_ms += 60000;
    send_events(w, "\"va", HTTPD_CLOSE);
    await_request(w, 2, "offset=14_0");
    told(w, "");
}

static void what_was_told_comes_no_second_time(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = sse_options(w);

    begin_live(w, &o);
    open_events(w, "0_inf");
    send_events(w,
                EVENT(CHANGE("insert", "2", "b", "12", "0"))
                    EVENT(CHANGE("insert", "3", "c", "12", "2")) EVENT(UP_TO_DATE("12")),
                HTTPD_HOLD);
    await(w, "up-to-date");
    w->now_ms += 60000;
    w->log_len = 0;
    send_events(w, ":\n\n", HTTPD_CLOSE);
    await_request(w, 2, "offset=12_0");
    open_events(w, "12_2");
    /* 12_0 names the transaction, not the place in it: its second change comes again. */
    send_events(w,
                EVENT(CHANGE("insert", "3", "c", "12", "2"))
                    EVENT(CHANGE("insert", "4", "d", "13", "0")) EVENT(UP_TO_DATE("13")),
                HTTPD_HOLD);
    await(w, "up-to-date lsn=13");
    told(w, "insert k4 id=4 title=d lsn=13 op=0\nup-to-date lsn=13\n");
}

/* An LSN before the place where the stream is never takes it back. */
static void an_older_lsn_does_not_turn_it_back(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = sse_options(w);

    begin_live(w, &o);
    open_events(w, "0_inf");
    send_events(w, EVENT(UP_TO_DATE("0")), HTTPD_HOLD);
    await(w, "up-to-date lsn=0");
    OFFSET_IS(w, "0_inf");
}

static void short_connections_end_in_long_polling(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = sse_options(w);
    static const int64_t waits[] = {100, 200};

    begin_live(w, &o);
    for (size_t i = 0; i < 3; i++) {
        await_request(w, i + 1, "live_sse=true");
        open_events(w, "0_inf");
        send_events(w, EVENT(UP_TO_DATE("11")), HTTPD_CLOSE);
        await(w, "up-to-date");
        w->log_len = 0;
        w->log[0] = '\0';
        if (i < 2) {
            await_timer(w);
            pass_exactly(w, waits[i]);
        }
    }
    assert_null(strstr(await_request(w, 4, "live=true"), "sse"));
    assert_int_equal(state_of(w).live_sse, 0);
    assert_non_null(strstr(w->client_log, "event=stream.sse_fallback"));
}

static void a_long_connection_forgives_short_ones(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = sse_options(w);

    begin_live(w, &o);
    for (size_t i = 0; i < 6; i++) {
        await_request(w, i + 1, "live_sse=true");
        open_events(w, "0_inf");
        send_events(w, EVENT(UP_TO_DATE("11")), HTTPD_HOLD);
        await(w, "up-to-date");
        w->log_len = 0;
        w->log[0] = '\0';
        if (i % 2 == 1)
            w->now_ms += 60000;
        send_events(w, ":\n", HTTPD_CLOSE);
        if (i % 2 == 0) {
            await_timer(w);
            w->now_ms = coulomb_next_deadline(w->c);
        }
    }
    await_request(w, 7, "live_sse=true");
}

static void an_answer_that_is_no_event_stream(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = sse_options(w);

    begin_live(w, &o);
    reply_log(w, "live_sse=true", "h1", "11_0", "electric-cursor: 5\r\n",
              "[" UP_TO_DATE("11") "]");
    assert_null(strstr(await_request(w, 2, "live=true"), "sse"));
    told(w, "");
}

/* A proxy that keeps all of it to itself: twice silent, and it is long polling for good. */
static void silent_connections_end_in_long_polling(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = sse_options(w);

    o.live_timeout_ms = 40;
    begin_live(w, &o);
    open_events(w, "0_inf"); /* a head, and then nothing */
    assert_null(strstr(await_request(w, 2, "offset=0_inf"), "live=true"));
    reply_log(w, "offset=0_inf", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" UP_TO_DATE("11") "]");
    await_request(w, 3, "live_sse=true"); /* not even a head */
    assert_null(strstr(await_request(w, 4, "live=true"), "sse"));
    assert_non_null(strstr(w->client_log, "event=stream.sse_fallback"));
}

static void statuses_count_for_events_too(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = sse_options(w);

    begin_live(w, &o);
    httpd_reply(w->h, "live_sse", 503, "", "");
    await_timer(w);
    pass_exactly(w, 500);
    await_request(w, 2, "live_sse=true");
    httpd_reply(w->h, "live_sse", 409, "electric-handle: h2\r\n", "[]");
    await(w, "must-refetch");
    await_request(w, 3, "handle=h2");
}

static void more_than_may_be_held_comes_in_parts(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = sse_options(w);
    static char big[6000];
    size_t n = 0;

    o.buffered_bytes_max = 1000;
    begin_live(w, &o);
    open_events(w, "0_inf");
    for (int i = 0; i < 20; i++)
        n += (size_t)snprintf(big + n, sizeof(big) - n, "%s",
                              EVENT(CHANGE("insert", "2", "b", "11", "0")));
    send_events(w, big, HTTPD_HOLD);
    /* By an ordinary answer, from where it stood. */
    assert_null(strstr(await_request(w, 2, "offset=0_inf"), "live=true"));
    told(w, "");
    assert_int_equal(state_of(w).up_to_date, 0);
}

#define MANY 5000

/* While nobody polls, what is read ahead has a bound. */
static void events_wait_for_who_is_slow(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = sse_options(w);
    static char many[2000000];
    size_t n = 0;
    size_t before;
    unsigned count = 0;

    o.buffered_bytes_max = 3000;
    begin_live(w, &o);
    open_events(w, "0_inf");
    await_request(w, 1, NULL);
    for (int i = 0; i < MANY; i++)
        n += (size_t)snprintf(
            many + n, sizeof(many) - n,
            EVENT("{\"key\":\"k%d\",\"value\":{\"id\":\"%d\"},\"headers\":{"
                  "\"operation\":\"insert\",\"lsn\":\"%d\","
                  "\"op_position\":0}}") EVENT(UP_TO_DATE("11")),
            i, i, 100 + i);
    send_events(w, many, HTTPD_HOLD);
    /* Until nothing more is read: of 5,000 groups, each of several blocks, only some were. */
    do {
        before = atomic_load(&w->heap.live);
        clock_sleep_ms(50);
    } while (atomic_load(&w->heap.live) != before);
    assert_true(before < MANY);
    await(w, "insert k4999 ");
    for (const char *p = w->log; (p = strstr(p, "insert ")); p++)
        count++;
    assert_int_equal(count, MANY);
}

/* --- Pauses ------------------------------------------------------------------------------------------------------- */

static void reasons_to_pause_are_counted(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    const char *request;

    begin_live(w, &o);
    shape_stream_pause(w->s);
    shape_stream_pause(w->s);
    assert_int_equal(state_of(w).phase, STREAM_PAUSED);
    httpd_wait_ended(w->h, 1); /* the live request is given up */
    shape_stream_resume(w->s);
    for (int i = 0; i < 5; i++)
        assert_true(coulomb_poll(w->c) >= 0);
    assert_int_equal(httpd_count(w->h), 2);
    shape_stream_resume(w->s);
    shape_stream_resume(w->s); /* one too many is nothing */
    request = await_request(w, 2, "cursor=");
    assert_null(strstr(request, "live=true")); /* soon to be answered */
    reply_log(w, "offset=0_inf", "h1", "11_0", SCHEMA "electric-up-to-date: \r\n",
              "[" CHANGE("insert", "2", "b", "11", "0") "," UP_TO_DATE("11") "]");
    await(w, "up-to-date lsn=11");
    await_request(w, 3, "live=true");
}

static void it_may_begin_paused(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    OK(shape_stream_new(w->c, &o, &w->s));
    shape_stream_pause(w->s);
    shape_stream_start(w->s);
    for (int i = 0; i < 5; i++)
        assert_true(coulomb_poll(w->c) >= 0);
    assert_int_equal(httpd_count(w->h), 0);
    shape_stream_resume(w->s);
    await_request(w, 0, "offset=-1");
}

static void a_pause_ends_a_backoff(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    httpd_reply(w->h, NULL, 503, "retry-after: 3000\r\n", "");
    begin(w, &o);
    await_timer(w);
    shape_stream_pause(w->s);
    shape_stream_resume(w->s);
    await_request(w, 1, "offset=-1");
}

static void pause_it(struct stream_world *w)
{
    w->in_messages = NULL;
    shape_stream_pause(w->s);
}

static void what_came_is_delivered_after_the_pause(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    static char body[200000];
    size_t n = 1;

    body[0] = '[';
    for (int i = 0; i < 1100; i++)
        n += (size_t)snprintf(body + n, sizeof(body) - n, "%s" ROW("1", "a"),
                              i > 0 ? "," : "");
    snprintf(body + n, sizeof(body) - n, ",%s]", UP_TO_DATE("10"));
    reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n", body);
    w->in_messages = pause_it;
    begin(w, &o);
    await(w, "insert");
    for (int i = 0; i < 5; i++)
        assert_true(coulomb_poll(w->c) >= 0);
    assert_null(strstr(w->log, "up-to-date"));
    shape_stream_resume(w->s);
    await(w, "up-to-date");
    assert_int_equal(w->batches, 2);
}

/* --- Refreshes ---------------------------------------------------------------------------------------------------- */

static void refreshed(struct shape_stream *s, int code, const coulomb_error *e, void *arg)
{
    struct stream_world *w = arg;

    (void)s;
    say(w, "refreshed %s\n", coulomb_error_name(code));
    if (code != COULOMB_OK)
        assert_int_equal(e->code, code);
}

/* T8: a refresh that is waited for, on time or late, is the adapter's; this is what it waits for. */
static void t8_a_refresh_asks_at_once(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    begin_live(w, &o);
    OK(shape_stream_refresh(w->s, refreshed, w));
    OK(shape_stream_refresh(w->s, refreshed, w));
    assert_null(strstr(await_request(w, 2, "offset=0_inf"), "live=true"));
    told(w, "");
    reply_log(w, "offset=0_inf", "h1", "11_0", SCHEMA "electric-up-to-date: \r\n",
              "[" CHANGE("insert", "2", "b", "11", "0") "," UP_TO_DATE("12") "]");
    await(w, "refreshed");
    told(w,
         "insert k2 id=2 title=b lsn=11 op=0\nup-to-date lsn=12\nrefreshed COULOMB_OK\n"
         "refreshed COULOMB_OK\n");
    await_request(w, 3, "live=true");
}

/* A request that was on its way before may have been answered before, too. */
static void a_refresh_needs_a_request_of_its_own(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    begin(w, &o);
    await_request(w, 0, "offset=-1");
    OK(shape_stream_refresh(w->s, refreshed, w));
    reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" UP_TO_DATE("10") "]");
    await(w, "up-to-date");
    told(w, "up-to-date lsn=10\n");
    assert_null(strstr(await_request(w, 1, "offset=0_inf"), "live=true"));
    reply_log(w, "offset=0_inf", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" UP_TO_DATE("11") "]");
    await(w, "refreshed");
    told(w, "up-to-date lsn=11\nrefreshed COULOMB_OK\n");
}

static void a_refresh_that_fails_says_so(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    begin_live(w, &o);
    OK(shape_stream_refresh(w->s, refreshed, w));
    await_request(w, 2, NULL);
    httpd_reply(w->h, "offset=0_inf", 400, "", "");
    await(w, "refreshed");
    told(w, "error COULOMB_E_FETCH 400\nrefreshed COULOMB_E_FETCH\n");
    assert_int_equal(shape_stream_refresh(w->s, refreshed, w), COULOMB_E_FETCH);
}

/* T14: what is open is answered. */
static void t14_stopping_answers_what_is_open(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    begin_live(w, &o);
    OK(shape_stream_refresh(w->s, refreshed, w));
    await_request(w, 2, NULL);
    shape_stream_stop(w->s);
    shape_stream_stop(w->s);
    told(w, "");
    await(w, "refreshed");
    told(w, "refreshed COULOMB_E_STREAM_STOPPED\n");
    assert_int_equal(shape_stream_refresh(w->s, refreshed, w), COULOMB_E_STREAM_STOPPED);
    shape_stream_pause(w->s);
    shape_stream_resume(w->s);
    shape_stream_start(w->s);
    reply_log(w, "offset=0_inf", "h1", "11_0", SCHEMA, "[]");
    for (int i = 0; i < 5; i++)
        assert_true(coulomb_poll(w->c) >= 0);
    assert_int_equal(httpd_count(w->h), 3);
    assert_int_equal(state_of(w).phase, STREAM_STOPPED);
}

static void the_client_may_be_closed_first(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = sse_options(w);

    begin_live(w, &o);
    open_events(w, "0_inf");
    send_events(w, EVENT(UP_TO_DATE("11")), HTTPD_HOLD);
    clock_sleep_ms(5);
    coulomb_client_close(w->c);
    shape_stream_pause(w->s);
    shape_stream_resume(w->s);
    shape_stream_stop(w->s);
    shape_stream_release(w->s);
    w->s = NULL;
    assert_int_equal(atomic_load(&w->heap.live), 0);
    OK(open_client(w));
    told(w, "");
}

static void sleep_makes_it_look_at_once(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    struct net *n;

    begin_live(w, &o);
    OK(client_net(w->c, &n));
    net_woke(n);
    assert_null(strstr(await_request(w, 2, "offset=0_inf"), "live=true"));
}

/* --- State -------------------------------------------------------------------------------------------------------------- */

static void note_state(struct shape_stream *s, void *arg)
{
    struct stream_world *w = arg;
    struct stream_state st;

    shape_stream_state(s, &st);
    say(w, "state %d%s%s\n", (int)st.phase, st.connected ? " connected" : "",
        st.up_to_date ? " current" : "");
}

static void changes_of_state_are_told(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    o.callbacks.changed = note_state;
    reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" UP_TO_DATE("10") "]");
    begin(w, &o);
    await(w, "current");
    told(w, "state 1\nstate 1 connected\nup-to-date lsn=10\nstate 1 connected current\n");
    await_request(w, 1, "live=true");
    httpd_reply(w->h, "live=true", 503, "", "");
    await(w, "state");
    told(w, "state 1 current\n");
    shape_stream_pause(w->s);
    await(w, "state 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(events_come_in_groups),
        TEST(what_was_told_comes_no_second_time),
        TEST(an_older_lsn_does_not_turn_it_back),
        TEST(short_connections_end_in_long_polling),
        TEST(a_long_connection_forgives_short_ones),
        TEST(an_answer_that_is_no_event_stream),
        TEST(silent_connections_end_in_long_polling),
        TEST(statuses_count_for_events_too),
        TEST(more_than_may_be_held_comes_in_parts),
        TEST(events_wait_for_who_is_slow),
        TEST(reasons_to_pause_are_counted),
        TEST(it_may_begin_paused),
        TEST(a_pause_ends_a_backoff),
        TEST(what_came_is_delivered_after_the_pause),
        TEST(t8_a_refresh_asks_at_once),
        TEST(a_refresh_needs_a_request_of_its_own),
        TEST(a_refresh_that_fails_says_so),
        TEST(t14_stopping_answers_what_is_open),
        TEST(the_client_may_be_closed_first),
        TEST(sleep_makes_it_look_at_once),
        TEST(changes_of_state_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
