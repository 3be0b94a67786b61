/* Subsets: how they are asked for, what the log does meanwhile, what can go wrong. */

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

static struct stream_options changes_only(struct stream_world *w)
{
    struct stream_options o = stream_options_of(w);

    o.log = STREAM_LOG_CHANGES_ONLY;
    return o;
}

#define VIEW                                                                             \
    "\"metadata\":{\"snapshot_mark\":7,\"database_lsn\":\"20\",\"xmin\":\"740\","        \
    "\"xmax\":\"744\",\"xip_list\":[\"741\"]}"
#define SUBSET(rows) "{" VIEW ",\"data\":[" rows "]}"
#define VIEW_TOLD    "snapshot-end xmin=740 xmax=744 xip=1\n"

/* A subset's answer; its request has this in its body or target. */
static void reply_subset(struct stream_world *w, const char *match, const char *handle,
                         const char *offset, const char *body)
{
    reply_log(w, match, handle, offset, SCHEMA "electric-snapshot: true\r\n", body);
}

static void done(struct shape_stream *s, int code, const coulomb_error *e, void *arg)
{
    struct stream_world *w = arg;

    (void)s;
    say(w, "done %s\n", coulomb_error_name(code));
    if (code != COULOMB_OK) {
        assert_int_equal(e->code, code);
        snprintf(w->error_words, sizeof(w->error_words), "%s", e->message);
    }
}

static uint64_t ask(struct stream_world *w, const char *where)
{
    const struct stream_subset u = {.where = where};
    uint64_t number;

    OK(shape_stream_request_subset(w->s, &u, done, w, &number));
    return number;
}

/* Live, with only changes. */
static void begin_changes(struct stream_world *w)
{
    struct stream_options o = changes_only(w);

    o.from_now = true;
    reply_log(w, "offset=now", "h1", "5_0", SCHEMA "electric-up-to-date: \r\n",
              "[" UP_TO_DATE("5") "]");
    begin(w, &o);
    await(w, "up-to-date");
    await_request(w, 1, "live=true");
    told(w, "up-to-date lsn=5\n");
}

/* T9: the subset's end is a commit point of its own. */
static void t9_rows_then_view_then_end(void **state)
{
    struct stream_world *w = *state;
    const char *const params[] = {"a\"b", NULL, ""};
    const struct stream_subset u = {.where = "title = $1",
                                    .params = params,
                                    .param_count = 3,
                                    .order_by = "id DESC",
                                    .has_limit = true,
                                    .limit = 10,
                                    .offset = 5};
    const char *request;
    uint64_t number;

    begin_changes(w);
    OK(shape_stream_request_subset(w->s, &u, done, w, &number));
    request =
        await_request(w, 2, "POST /v1/shape?handle=h1&log=changes_only&offset=5_0&");
    assert_non_null(strstr(request, "content-type: application/json"));
    assert_non_null(
        strstr(request, "\r\n\r\n{\"where\":\"title = $1\",\"params\":{\"1\":\"a\\\"b\","
                        "\"3\":\"\"},\"order_by\":\"id DESC\",\"limit\":10,"
                        "\"offset\":5}"));
    reply_subset(w, "title = $1", "h1", "9_0", SUBSET(ROW("1", "a") "," ROW("2", "b")));
    await(w, "done");
    told(w, "insert k1 id=1 title=a\ninsert k2 id=2 title=b\n" VIEW_TOLD
            "subset-end 1\ndone COULOMB_OK\n");
    assert_int_equal(number, 1);
    /* A stream that is somewhere stays there: changes in between concern other rows. */
    OFFSET_IS(w, "5_0");
}

static void by_get_when_asked_to(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = changes_only(w);
    const char *const params[] = {"x"};
    const struct stream_subset u = {.where = "title = $1",
                                    .params = params,
                                    .param_count = 1,
                                    .order_by = "id",
                                    .has_limit = true,
                                    .limit = 0};

    o.subset_get = true;
    begin(w, &o);
    OK(shape_stream_request_subset(w->s, &u, done, w, NULL));
    reply_subset(w, "subset__where", "h1", "0_0", SUBSET(""));
    await(w, "done");
    told(w, VIEW_TOLD "subset-end 1\ndone COULOMB_OK\n");
    assert_non_null(strstr(httpd_request(w->h, 0),
                           "GET /v1/shape?log=changes_only&offset=-1&secret=s3cret&"
                           "subset__limit=0&subset__order_by=id&"
                           "subset__params=%7B%221%22%3A%22x%22%7D&"
                           "subset__where=title%20%3D%20%241&table=issues "));
}

static void what_makes_no_subset(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    struct stream_subset u = {.where = "true"};

    begin(w, &o);
    assert_int_equal(shape_stream_request_subset(w->s, &u, done, w, NULL),
                     COULOMB_E_STREAM_MODE);
    shape_stream_release(w->s);
    o = changes_only(w);
    begin(w, &o);
    u.has_limit = true;
    u.limit = 1;
    assert_int_equal(shape_stream_request_subset(w->s, &u, done, w, NULL),
                     COULOMB_E_LIMIT_NEEDS_ORDER);
    u.has_limit = false;
    for (int i = 0; i < 64; i++)
        OK(shape_stream_request_subset(w->s, &u, NULL, NULL, NULL));
    assert_int_equal(shape_stream_request_subset(w->s, &u, done, w, NULL),
                     COULOMB_E_LIMIT);
}

/* A log answer that comes while the subset is on its way waits for its rows. */
static void the_log_waits_for_the_rows(void **state)
{
    struct stream_world *w = *state;

    begin_changes(w);
    ask(w, "id > 0");
    await_request(w, 2, "id > 0");
    reply_log(w, "live=true", "h1", "11_0",
              "electric-cursor: 1\r\nelectric-up-to-date: \r\n",
              "[" CHANGE("update", "1", "new", "11", "0") "," UP_TO_DATE("11") "]");
    for (int i = 0; i < 20; i++) {
        assert_true(coulomb_poll(w->c) >= 0);
        clock_sleep_ms(1);
    }
    told(w, "");
    reply_subset(w, "id > 0", "h1", "5_0", SUBSET(ROW("1", "old")));
    await(w, "up-to-date");
    told(w, "insert k1 id=1 title=old\n" VIEW_TOLD
            "subset-end 1\ndone COULOMB_OK\nupdate k1 id=1 title=new lsn=11 op=0\n"
            "up-to-date lsn=11\n");
}

/* At "now" the log has no place yet: it begins where the first subset's answer says. */
static void a_cold_stream_begins_where_its_subset_says(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = changes_only(w);

    o.from_now = true;
    OK(shape_stream_new(w->c, &o, &w->s));
    ask(w, "id = 1"); /* starts it */
    ask(w, "id = 2");
    await_request(w, 0, "POST");
    for (int i = 0; i < 10; i++)
        assert_true(coulomb_poll(w->c) >= 0);
    assert_int_equal(httpd_count(w->h), 1);
    assert_non_null(strstr(httpd_request(w->h, 0), "offset=now"));
    reply_subset(w, "id = 1", "h1", "8_0", SUBSET(ROW("1", "a")));
    await_request(w, 1, "id = 2");
    assert_non_null(
        strstr(httpd_request(w->h, 1), "handle=h1&log=changes_only&offset=8_0"));
    reply_subset(w, "id = 2", "h1", "9_0", SUBSET(ROW("2", "b")));
    await(w, "subset-end 2");
    OFFSET_IS(w, "8_0");
    await_request(w, 2, "handle=h1&log=changes_only&offset=8_0");
    told(w, "insert k1 id=1 title=a\n" VIEW_TOLD "subset-end 1\ndone COULOMB_OK\n"
            "insert k2 id=2 title=b\n" VIEW_TOLD "subset-end 2\ndone COULOMB_OK\n");
}

/* Its request at "now" is given up: what it would say is later than the view. */
static void a_request_at_now_is_given_up(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = changes_only(w);

    o.from_now = true;
    begin(w, &o);
    await_request(w, 0, "offset=now");
    ask(w, "id = 1");
    await_request(w, 1, "POST");
    httpd_wait_ended(w->h, 1);
    reply_subset(w, "id = 1", "h1", "8_0", SUBSET(ROW("1", "a")));
    await_request(w, 2, "offset=8_0");
}

/* T3, T10: the shape went; the subset is loaded again, after the must-refetch. */
static void t10_a_409_refetches_and_asks_again(void **state)
{
    struct stream_world *w = *state;

    begin_changes(w);
    ask(w, "id = 1");
    await_request(w, 2, "id = 1");
    httpd_reply(w->h, "id = 1", 409, "electric-handle: h2\r\n", "[]");
    await(w, "must-refetch");
    await_request(w, 3, "id = 1");
    assert_non_null(strstr(httpd_request(w->h, 3), "expired_handle=h1&handle=h2"));
    reply_subset(w, "id = 1", "h2", "0_0", SUBSET(ROW("1", "a")));
    await(w, "done");
    told(w, "must-refetch\ninsert k1 id=1 title=a\n" VIEW_TOLD
            "subset-end 1\ndone COULOMB_OK\n");
    await_request(w, 4, "handle=h2&log=changes_only&offset=-1");
}

static void a_409_for_ever_is_an_error(void **state)
{
    struct stream_world *w = *state;

    begin_changes(w);
    ask(w, "id = 1");
    for (int i = 2; i < 12; i++) {
        char handle[64];

        w->now_ms += 1000;
        snprintf(handle, sizeof(handle), "electric-handle: h%d\r\n", i);
        httpd_reply(w->h, "id = 1", 409, handle, "[]");
    }
    await(w, "done");
    assert_non_null(strstr(w->log, "done COULOMB_E_STUCK"));
    assert_int_equal(httpd_left(w->h), 4);
}

static void subsets_under_way_are_asked_again_after_a_refetch(void **state)
{
    struct stream_world *w = *state;

    begin_changes(w);
    ask(w, "id = 1");
    ask(w, "id = 2");
    await_request(w, 2, NULL);
    await_request(w, 3, NULL);
    httpd_reply(w->h, "id = 1", 409, "electric-handle: h2\r\n", "[]");
    await_request(w, 5, NULL);
    reply_subset(w, "id = 1", "h2", "0_0", SUBSET(ROW("1", "a")));
    await(w, "subset-end 1");
    reply_subset(w, "id = 2", "h2", "0_0", SUBSET(ROW("2", "b")));
    await(w, "subset-end 2");
}

static void a_subset_that_the_server_refuses(void **state)
{
    struct stream_world *w = *state;

    begin_changes(w);
    ask(w, "nope");
    httpd_reply(
        w->h, "nope", 400, JSON_TYPE,
        "{\"message\":\"Invalid request\",\"errors\":{\"subset\":{\"where\":[\"x\"]}}}");
    await(w, "done");
    told(w, "done COULOMB_E_FETCH\n");
    assert_non_null(strstr(w->error_words, "Invalid request"));
    /* The log goes on. */
    reply_log(w, "live=true", "h1", "11_0",
              "electric-cursor: 1\r\nelectric-up-to-date: \r\n",
              "[" UP_TO_DATE("11") "]");
    await(w, "up-to-date");
}

static void a_subset_waits_out_what_passes(void **state)
{
    struct stream_world *w = *state;

    begin_changes(w);
    ask(w, "id = 1");
    httpd_reply(w->h, "id = 1", 503, "retry-after: 2\r\n", "");
    await_timer(w);
    /* Meanwhile the log is not held up. */
    reply_log(w, "live=true", "h1", "11_0",
              "electric-cursor: 1\r\nelectric-up-to-date: \r\n",
              "[" UP_TO_DATE("11") "]");
    await(w, "up-to-date");
    pass_exactly(w, 2000);
    httpd_push(w->h, "id = 1", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
               strlen("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"), HTTPD_CLOSE, 0);
    await_timer(w);
    pass_exactly(w, 1000);
    reply_subset(w, "id = 1", "h1", "11_0", SUBSET(ROW("1", "a")));
    await(w, "done COULOMB_OK");
}

static void answers_that_are_no_subset(void **state)
{
    struct stream_world *w = *state;
    static const char *const bodies[] = {
        "[]", "{", "{" VIEW "}", "{\"data\":[]}", "{\"data\":1," VIEW "}", "<html>"};

    begin_changes(w);
    for (size_t i = 0; i < 6; i++) {
        ask(w, "id = 1");
        reply_subset(w, "id = 1", "h1", "5_0", bodies[i]);
        await(w, "done");
        told(w, "done COULOMB_E_PROTOCOL\n");
    }
}

static void a_cancelled_subset_says_nothing(void **state)
{
    struct stream_world *w = *state;
    uint64_t number;

    begin_changes(w);
    number = ask(w, "id = 1");
    await_request(w, 2, "id = 1");
    assert_false(shape_stream_cancel_subset(w->s, number));
    assert_false(shape_stream_cancel_subset(w->s, number));
    reply_log(w, "live=true", "h1", "11_0",
              "electric-cursor: 1\r\nelectric-up-to-date: \r\n",
              "[" UP_TO_DATE("11") "]");
    await(w, "up-to-date");
    told(w, "up-to-date lsn=11\n");
}

static void cancel_first(struct stream_world *w)
{
    w->in_messages = NULL;
    assert_true(shape_stream_cancel_subset(w->s, 1)); /* its rows come just now */
}

/* In the middle of its rows: no more of them come, and no end. */
static void a_subset_cancelled_in_its_callback(void **state)
{
    struct stream_world *w = *state;
    static char body[300000];
    size_t n;

    begin_changes(w);
    ask(w, "id = 1");
    n = (size_t)snprintf(body, sizeof(body), "{" VIEW ",\"data\":[" ROW("1", "a"));
    for (int i = 0; i < 1500; i++)
        n += (size_t)snprintf(body + n, sizeof(body) - n, "," ROW("2", "b"));
    snprintf(body + n, sizeof(body) - n, "]}");
    w->in_messages = cancel_first;
    reply_subset(w, "id = 1", "h1", "5_0", body);
    await(w, "insert k2");
    reply_log(w, "live=true", "h1", "11_0",
              "electric-cursor: 1\r\nelectric-up-to-date: \r\n",
              "[" UP_TO_DATE("11") "]");
    await(w, "up-to-date");
    assert_null(strstr(w->log, "subset-end"));
    assert_null(strstr(w->log, "done"));
}

static void stopping_answers_open_subsets(void **state)
{
    struct stream_world *w = *state;

    begin_changes(w);
    ask(w, "id = 1");
    ask(w, "id = 2");
    await_request(w, 2, NULL);
    shape_stream_stop(w->s);
    await(w, "done");
    told(w, "done COULOMB_E_STREAM_STOPPED\ndone COULOMB_E_STREAM_STOPPED\n");
}

static void a_pause_takes_subsets_along(void **state)
{
    struct stream_world *w = *state;

    begin_changes(w);
    ask(w, "id = 1");
    await_request(w, 2, "id = 1");
    shape_stream_pause(w->s);
    httpd_wait_ended(w->h, 2);
    shape_stream_resume(w->s);
    await_request(w, 3, "id = 1");
    reply_subset(w, "id = 1", "h1", "5_0", SUBSET(ROW("1", "a")));
    await(w, "done COULOMB_OK");
}

/* --- Beside the stream ------------------------------------------------------------------------------------------ */

static void rows(struct shape_stream *s, const struct stream_batch *b, int code,
                 const coulomb_error *e, void *arg)
{
    struct stream_world *w = arg;

    (void)s;
    (void)e;
    for (size_t i = 0; i < b->count; i++)
        say_message(w, b, &b->messages[i]);
    if (code != COULOMB_OK || !b->more)
        say(w, "beside %s\n", coulomb_error_name(code));
}

/* T8: progressive mode fetches like that. */
static void t8_rows_beside_the_stream(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w); /* of the whole log, too */
    const struct stream_subset u = {.where = "id = 1"};

    begin(w, &o);
    await_request(w, 0, "offset=-1");
    OK(shape_stream_fetch_subset(w->s, &u, rows, w, NULL));
    await_request(w, 1, "id = 1");
    reply_subset(w, "id = 1", "h1", "0_0", SUBSET(ROW("1", "a")));
    await(w, "beside");
    told(w, "insert k1 id=1 title=a\n" VIEW_TOLD "beside COULOMB_OK\n");
    /* The stream did not care. */
    OFFSET_IS(w, "-1");
    reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" ROW("1", "a") "," UP_TO_DATE("10") "]");
    await(w, "up-to-date");
}

static void beside_the_stream_a_409_is_its_own(void **state)
{
    struct stream_world *w = *state;
    const struct stream_subset u = {.where = "id = 1"};

    begin_changes(w);
    OK(shape_stream_fetch_subset(w->s, &u, rows, w, NULL));
    httpd_reply(w->h, "id = 1", 409, "electric-handle: h2\r\n", "[]");
    await_request(w, 3, "handle=h2");
    reply_subset(w, "id = 1", "h2", "0_0", SUBSET(ROW("1", "a")));
    await(w, "beside");
    told(w, "insert k1 id=1 title=a\n" VIEW_TOLD "beside COULOMB_OK\n");
    assert_string_equal(state_of(w).handle.ptr, "h1");
}

static void beside_the_stream_errors_are_told(void **state)
{
    struct stream_world *w = *state;
    const struct stream_subset u = {.where = "id = 1"};

    begin_changes(w);
    OK(shape_stream_fetch_subset(w->s, &u, rows, w, NULL));
    httpd_reply(w->h, "id = 1", 400, "", "");
    await(w, "beside");
    told(w, "beside COULOMB_E_FETCH\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(t9_rows_then_view_then_end),
        TEST(by_get_when_asked_to),
        TEST(what_makes_no_subset),
        TEST(the_log_waits_for_the_rows),
        TEST(a_cold_stream_begins_where_its_subset_says),
        TEST(a_request_at_now_is_given_up),
        TEST(t10_a_409_refetches_and_asks_again),
        TEST(a_409_for_ever_is_an_error),
        TEST(subsets_under_way_are_asked_again_after_a_refetch),
        TEST(a_subset_that_the_server_refuses),
        TEST(a_subset_waits_out_what_passes),
        TEST(answers_that_are_no_subset),
        TEST(a_cancelled_subset_says_nothing),
        TEST(a_subset_cancelled_in_its_callback),
        TEST(stopping_answers_open_subsets),
        TEST(a_pause_takes_subsets_along),
        TEST(t8_rows_beside_the_stream),
        TEST(beside_the_stream_a_409_is_its_own),
        TEST(beside_the_stream_errors_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
