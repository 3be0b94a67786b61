/* The log by long polling: the requests that are made, what of answers is told, what goes wrong on
 * the way and passes. */

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

static void from_the_beginning_to_live(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    const char *request;

    reply_log(w, "offset=-1", "h1", "0_0", SCHEMA, "[" ROW("1", "a") "]");
    reply_log(w, "offset=0_0", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" ROW("2", "b") "," UP_TO_DATE("10") "]");
    begin(w, &o);
    await(w, "up-to-date");
    told(w, "insert k1 id=1 title=a\ninsert k2 id=2 title=b\nup-to-date lsn=10\n");
    assert_non_null(
        strstr(httpd_request(w->h, 0),
               "GET /v1/shape?log=full&offset=-1&secret=s3cret&table=issues "));
    assert_non_null(strstr(httpd_request(w->h, 1),
                           "GET /v1/shape?handle=h1&log=full&offset=0_0&"
                           "secret=s3cret&table=issues "));
    request = await_request(w, 2, "live=true");
    assert_non_null(strstr(request, "GET /v1/shape?cursor=&handle=h1&live=true&log=full&"
                                    "offset=0_inf&secret=s3cret&table=issues "));
    assert_int_equal(state_of(w).up_to_date, 1);
    assert_int_equal(state_of(w).lsn, 10);
    reply_log(w, "live=true", "h1", "11_2",
              "electric-cursor: 100\r\nelectric-up-to-date: \r\n",
              "[" CHANGE("update", "1", "c", "11", "2") "," UP_TO_DATE("11") "]");
    await(w, "up-to-date lsn=11");
    told(w, "update k1 id=1 title=c lsn=11 op=2\nup-to-date lsn=11\n");
    OFFSET_IS(w, "11_2");
    await_request(w, 3, "cursor=100&handle=h1&live=true&log=full&offset=11_2&");
    assert_int_equal(state_of(w).connected, 1);
    assert_int_equal(state_of(w).last_synced_us, fixed_wall(NULL));
}

static void every_parameter_is_sent(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    const char *const columns[] = {"id", "a\"b", "c,d"};
    const char *const params[] = {"x y", NULL, "\xc3\xa4"};
    const struct stream_param extra[] = {{"token", "t&1"}, {"a", "b"}};
    const struct net_header header = {"authorization", "Bearer s3cret"};
    const char *request;

    o.where = "title = $1";
    o.params = params;
    o.param_count = 3;
    o.columns = columns;
    o.column_count = 3;
    o.replica = STREAM_REPLICA_FULL;
    o.log = STREAM_LOG_CHANGES_ONLY;
    o.extra = extra;
    o.extra_count = 2;
    o.headers = &header;
    o.header_count = 1;
    begin(w, &o);
    request = await_request(w, 0, NULL);
    assert_non_null(strstr(
        request,
        "GET "
        "/v1/shape?a=b&columns=%22id%22%2C%22a%22%22b%22%2C%22c%2Cd%22&log=changes_only&"
        "offset=-1&params%5B1%5D=x%20y&params%5B3%5D=%C3%A4&replica=full&secret=s3cret&"
        "table=issues&token=t%261&where=title%20%3D%20%241 "));
    assert_non_null(strstr(request, "authorization: Bearer s3cret"));
}

static void what_makes_no_stream(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    struct stream_param extra = {"live_sse", "true"};
    static char huge[(8 << 20) + 2];

    o.url = NULL;
    assert_int_equal(shape_stream_new(w->c, &o, &w->s), COULOMB_E_MISSING_URL);
    o = stream_options_of(w);
    o.offset = "12_3";
    assert_int_equal(shape_stream_new(w->c, &o, &w->s), COULOMB_E_MISSING_HANDLE);
    o = stream_options_of(w);
    o.extra = &extra;
    o.extra_count = 1;
    assert_int_equal(shape_stream_new(w->c, &o, &w->s), COULOMB_E_RESERVED_PARAM);
    extra.name = "subset__where";
    assert_int_equal(shape_stream_new(w->c, &o, &w->s), COULOMB_E_RESERVED_PARAM);
    o = stream_options_of(w);
    memset(huge, 'x', sizeof(huge) - 1);
    o.where = huge;
    assert_int_equal(shape_stream_new(w->c, &o, &w->s), COULOMB_E_LIMIT);
    o = stream_options_of(w);
    o.callbacks.messages = NULL;
    assert_int_equal(shape_stream_new(w->c, &o, &w->s), COULOMB_E_ARGUMENT);
    w->s = NULL;
}

/* T12: what was kept of an earlier session. */
static void t12_it_goes_on_where_it_was(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    o.offset = "11_2";
    o.handle = "h1";
    o.cursor = "77";
    reply_log(w, "offset=11_2", "h1", "12_0", SCHEMA "electric-up-to-date: \r\n",
              "[" CHANGE("insert", "3", "c", "12", "0") "," UP_TO_DATE("12") "]");
    begin(w, &o);
    await(w, "up-to-date");
    told(w, "insert k3 id=3 title=c lsn=12 op=0\nup-to-date lsn=12\n");
    await_request(w, 1, "cursor=77&handle=h1&live=true");
}

static void keys_do_not_depend_on_order_or_credentials(void **state)
{
    struct stream_world *w = *state;
    const struct stream_param one[] = {{"a", "1"}, {"b", "2"}};
    const struct stream_param two[] = {{"b", "2"}, {"a", "1"}};
    struct stream_options o = stream_options_of(w);
    struct shape_stream *other;
    coulomb_str first;
    coulomb_str second;

    o.extra = one;
    o.extra_count = 2;
    OK(shape_stream_new(w->c, &o, &w->s));
    o.extra = two;
    o.offset = "1_0";
    o.handle = "x";
    OK(shape_stream_new(w->c, &o, &other));
    first = shape_stream_key(w->s);
    second = shape_stream_key(other);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.ptr, second.ptr, first.len);
    OK(shape_stream_set_param(other, "a", "3"));
    second = shape_stream_key(other);
    assert_memory_not_equal(first.ptr, second.ptr, first.len);
    shape_stream_release(other);
}

/* A key is kept with the rows, and exported. */
static void keys_hold_no_secret(void **state)
{
    struct stream_world *w = *state;
    const struct stream_param secrets[] = {
        {"a", "1"}, {"secret", "s3cret"}, {"api_key", "k3y"}};
    struct stream_options o = stream_options_of(w);
    struct shape_stream *s;
    char key[256];

    o.url = "http://me:pw@127.0.0.1:1/v1/shape?token=t0ken&b=2";
    o.table = "items";
    o.extra = secrets;
    o.extra_count = 3;
    OK(shape_stream_new(w->c, &o, &s));
    snprintf(key, sizeof(key), "%.*s", (int)shape_stream_key(s).len,
             shape_stream_key(s).ptr);
    assert_string_equal(key, "http://127.0.0.1:1/v1/shape?a=1&b=2&log=full&table=items");
    shape_stream_release(s);
}

/* --- Columns ------------------------------------------------------------------------------------------------- */

static void values_come_as_the_collection_has_them(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    static const coulomb_column typed[] = {{"title", COULOMB_TEXT, COULOMB_ABSENT},
                                           {"unknown", COULOMB_TEXT, COULOMB_ABSENT},
                                           {"id", COULOMB_NUMERIC, COULOMB_ABSENT}};
    struct stream_state st;

    o.typed = typed;
    o.typed_count = 3;
    reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" ROW("1", "a") "," UP_TO_DATE("10") "]");
    begin(w, &o);
    await(w, "up-to-date");
    told(w, "insert k1 title=a id=1\nup-to-date lsn=10\n");
    st = state_of(w);
    assert_int_equal(st.column_count, 3);
    assert_int_equal(st.columns[2].pk_index, 0);
    assert_string_equal(st.columns[2].pg_type, "int4");
    assert_int_equal(st.columns[2].type, COULOMB_NUMERIC);
}

static void a_value_that_its_type_does_not_take(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    o.no_prefetch = true;
    for (int i = 0; i < 4; i++)
        reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA, "[" ROW("x1", "a") "]");
    begin(w, &o);
    for (int i = 0; i < 3; i++) {
        await_timer(w);
        w->now_ms = coulomb_next_deadline(w->c);
        await_request(w, (size_t)i + 1, "cache-buster=");
    }
    await(w, "error");
    told(w, "error COULOMB_E_PROTOCOL 200\n");
    assert_non_null(strstr(w->error_words, "column id (int4): \"x1\" is no int64"));
    assert_int_equal(state_of(w).phase, STREAM_FAILED);
}

/* --- Delivery ------------------------------------------------------------------------------------------------- */

static void a_long_answer_comes_in_batches(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    static char body[400000];
    size_t n = 1;

    body[0] = '[';
    for (int i = 0; i < 2500; i++)
        n += (size_t)snprintf(body + n, sizeof(body) - n,
                              "{\"key\":\"k%d\",\"value\":{\"id\":\"%d\"},\"headers\":{"
                              "\"operation\":\"insert\"}},",
                              i, i);
    snprintf(body + n, sizeof(body) - n, "%s]", UP_TO_DATE("10"));
    reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n", body);
    begin(w, &o);
    await(w, "up-to-date");
    assert_int_equal(w->batches, 3);
    assert_non_null(strstr(w->log, "insert k2499 id=2499\nup-to-date"));
}

static void the_offset_moves_with_the_last_batch(void **state);

static struct {
    unsigned calls;
    char offsets[8][32];
} seen_offsets;

static void note_offset(struct stream_world *w)
{
    struct stream_state st = state_of(w);

    if (seen_offsets.calls < 8)
        snprintf(seen_offsets.offsets[seen_offsets.calls], 32, "%s", st.offset.ptr);
    seen_offsets.calls++;
}

static void the_offset_moves_with_the_last_batch(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    static char body[400000];
    size_t n = 1;

    memset(&seen_offsets, 0, sizeof(seen_offsets));
    body[0] = '[';
    for (int i = 0; i < 1500; i++)
        n += (size_t)snprintf(body + n, sizeof(body) - n, "%s" ROW("1", "a"),
                              i > 0 ? "," : "");
    snprintf(body + n, sizeof(body) - n, "]");
    reply_log(w, "offset=-1", "h1", "0_0", SCHEMA, body);
    w->in_messages = note_offset;
    begin(w, &o);
    await_request(w, 1, "offset=0_0");
    while (seen_offsets.calls < 2)
        assert_true(coulomb_poll(w->c) >= 0);
    assert_string_equal(seen_offsets.offsets[0], "-1");
    assert_string_equal(seen_offsets.offsets[1], "0_0");
}

static void without_memory_a_batch_comes_again(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" ROW("1", "a") "," UP_TO_DATE("10") "]");
    w->messages_answer = COULOMB_E_MEMORY;
    begin(w, &o);
    await_request(w, 0, "offset=-1");
    for (int tries = 0, code = 0; code != COULOMB_E_MEMORY && tries < 20000; tries++) {
        code = coulomb_poll(w->c);
        clock_sleep_ms(code == 0);
    }
    assert_int_equal(coulomb_poll(w->c), COULOMB_E_MEMORY);
    w->messages_answer = COULOMB_OK;
    await(w, "up-to-date");
    told(w, "insert k1 id=1 title=a\nup-to-date lsn=10\n");
}

static bool has_failed(void *arg)
{
    return state_of(arg).phase == STREAM_FAILED;
}

static void what_is_not_taken_ends_the_stream(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" ROW("1", "a") "," UP_TO_DATE("10") "]");
    w->messages_answer = COULOMB_E_DUPLICATE_KEY_SYNC;
    begin(w, &o);
    poll_until(w->c, has_failed, w);
    assert_int_equal(shape_stream_error(w->s)->code, COULOMB_E_DUPLICATE_KEY_SYNC);
    told(w, "");
}

static void stop_it(struct stream_world *w)
{
    shape_stream_stop(w->s);
}

static void release_it(struct stream_world *w)
{
    shape_stream_release(w->s);
    w->s = NULL;
}

static void it_may_be_ended_in_its_callback(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    void (*const ways[])(struct stream_world *) = {stop_it, release_it};

    for (int i = 0; i < 2; i++) {
        reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
                  "[" ROW("1", "a") "," UP_TO_DATE("10") "]");
        w->in_messages = ways[i];
        begin(w, &o);
        await(w, "up-to-date");
        told(w, "insert k1 id=1 title=a\nup-to-date lsn=10\n");
        if (w->s)
            assert_int_equal(state_of(w).phase, STREAM_STOPPED);
        shape_stream_release(w->s);
        w->s = NULL;
        for (int n = 0; n < 5; n++)
            assert_true(coulomb_poll(w->c) >= 0);
        assert_int_equal(httpd_count(w->h), (size_t)i + 1);
    }
}

static void once_is_done_when_up_to_date(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    o.once = true;
    reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" ROW("1", "a") "," UP_TO_DATE("10") "]");
    begin(w, &o);
    await(w, "up-to-date");
    for (int n = 0; n < 5; n++)
        assert_true(coulomb_poll(w->c) >= 0);
    assert_int_equal(state_of(w).phase, STREAM_DONE);
    assert_int_equal(httpd_count(w->h), 1);
}

static void messages_of_unknown_kinds_are_passed_over(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[{\"headers\":{\"control\":\"new\"}}," UP_TO_DATE("10") "]");
    begin(w, &o);
    await(w, "up-to-date");
    told(w, "up-to-date lsn=10\n");
    assert_non_null(strstr(w->client_log, "event=stream.unknown_messages"));
}

/* --- Fetching ahead ------------------------------------------------------------------------------------------------ */

static void two_answers_are_fetched_ahead(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    static const char head[] = "HTTP/1.1 200 OK\r\n" JSON_TYPE SCHEMA
                               "electric-handle: h1\r\nelectric-offset: 0_0\r\n"
                               "transfer-encoding: chunked\r\n\r\n";
    static const char rest[] = "2\r\n[]\r\n0\r\n\r\n";

    /* The first answer's body is long in coming; its head is enough. */
    httpd_push(w->h, "offset=-1", head, sizeof(head) - 1, HTTPD_HOLD, 0);
    reply_log(w, "offset=0_0", "h1", "0_1", SCHEMA, "[" ROW("1", "a") "]");
    reply_log(w, "offset=0_1", "h1", "0_2", SCHEMA, "[" ROW("2", "b") "]");
    begin(w, &o);
    await_request(w, 1, "offset=0_0");
    await_request(w, 2, "offset=0_1");
    for (int n = 0; n < 20; n++) {
        assert_true(coulomb_poll(w->c) >= 0);
        clock_sleep_ms(1);
    }
    assert_int_equal(httpd_count(w->h), 3); /* two, no more */
    told(w, "");
    httpd_push(w->h, HTTPD_MORE, rest, sizeof(rest) - 1, HTTPD_KEEP, 0);
    await(w, "insert k2");
    told(w, "insert k1 id=1 title=a\ninsert k2 id=2 title=b\n");
    await_request(w, 3, "offset=0_2");
    assert_int_equal(httpd_left(w->h), 0);
}

static void ahead_is_nothing_when_told_not_to(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    static const char head[] = "HTTP/1.1 200 OK\r\n" JSON_TYPE SCHEMA
                               "electric-handle: h1\r\nelectric-offset: 0_0\r\n"
                               "transfer-encoding: chunked\r\n\r\n";

    o.no_prefetch = true;
    httpd_push(w->h, "offset=-1", head, sizeof(head) - 1, HTTPD_HOLD, 0);
    begin(w, &o);
    await_request(w, 0, "offset=-1");
    for (int n = 0; n < 20; n++) {
        assert_true(coulomb_poll(w->c) >= 0);
        clock_sleep_ms(1);
    }
    assert_int_equal(httpd_count(w->h), 1);
}

/* --- The wire ---------------------------------------------------------------------------------------------------- */

static void pieces_and_case_make_no_difference(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    static const char current[] = UP_TO_DATE("10");
    static const char *const chunks[] = {
        "[",
        "{\"headers\":{\"operation\":\"insert\"},\"value\":{\"id\":\"1\",\"ti",
        "tle\":\"\\u00",
        "e4\"},\"key\":\"k1",
        "\"}\n,\r\n",
        current,
        " ] "};
    char text[2000];
    int n =
        snprintf(text, sizeof(text),
                 "HTTP/1.1 200 fine\r\nELECTRIC-HANDLE: h1\r\nElectric-Offset: 0_inf\r\n"
                 "Content-Type: APPLICATION/JSON\r\n" SCHEMA "Electric-Up-To-Date:\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n");

    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "%zx;x=y\r\n%s\r\n",
                      strlen(chunks[i]), chunks[i]);
    n += snprintf(text + n, sizeof(text) - (size_t)n, "0\r\n\r\n");
    httpd_push(w->h, NULL, text, (size_t)n, HTTPD_KEEP, 1);
    begin(w, &o);
    await(w, "up-to-date");
    told(w, "insert k1 id=1 title=\xc3\xa4\nup-to-date lsn=10\n");
}

static void a_broken_answer_leaves_nothing_and_comes_again(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    static const char cut[] =
        "HTTP/1.1 200 OK\r\n" JSON_TYPE SCHEMA
        "electric-handle: h1\r\nelectric-offset: 0_0\r\n"
        "content-length: 5000\r\n\r\n[" ROW("1", "a") "," ROW("2", "b");

    httpd_push(w->h, "offset=-1", cut, sizeof(cut) - 1, HTTPD_CLOSE, 0);
    httpd_push(w->h, "offset=-1", cut, sizeof(cut) - 1, HTTPD_RESET, 0);
    o.no_prefetch = true;
    begin(w, &o);
    await_timer(w);
    pass_exactly(w, 500); /* half of a second: random is 0.5 */
    await_request(w, 1, "offset=-1");
    await_timer(w);
    assert_int_equal(state_of(w).connected, 0);
    pass_exactly(w, 1000);
    reply_log(w, "offset=-1", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" ROW("1", "a") "," UP_TO_DATE("10") "]");
    await(w, "up-to-date");
    told(w, "insert k1 id=1 title=a\nup-to-date lsn=10\n");
}

static void a_live_request_that_is_silent_is_made_again(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    o.live_timeout_ms = 50;
    begin_live(w, &o);
    /* Without waiting, so that it is soon known how things are. */
    assert_null(strstr(await_request(w, 2, "cursor="), "live=true"));
    reply_log(w, "offset=0_inf", "h1", "0_inf", SCHEMA "electric-up-to-date: \r\n",
              "[" UP_TO_DATE("11") "]");
    await(w, "up-to-date lsn=11");
    await_request(w, 3, "live=true");
}

static void an_endless_answer_has_an_end(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);

    o.answer_bytes_max = 100;
    reply_log(w, "offset=-1", "h1", "0_0", SCHEMA,
              "[" ROW("1", "a") "," ROW("2", "b") "]");
    begin(w, &o);
    await(w, "error");
    told(w, "error COULOMB_E_LIMIT 0 fatal\n");
    assert_non_null(strstr(w->error_words, "answer_bytes_max"));
}

static void headers_beyond_all_measure(void **state)
{
    struct stream_world *w = *state;
    struct stream_options o = stream_options_of(w);
    static char head[3000000];
    size_t n = 0;

    for (int i = 0; n < 2000000; i++)
        n += (size_t)snprintf(head + n, sizeof(head) - n, "x-%d: %01000d\r\n", i, 0);
    httpd_reply(w->h, NULL, 200, head, "[]");
    begin(w, &o);
    await(w, "error");
    assert_int_equal(w->last_error.code, COULOMB_E_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(from_the_beginning_to_live),
        TEST(every_parameter_is_sent),
        TEST(what_makes_no_stream),
        TEST(t12_it_goes_on_where_it_was),
        TEST(keys_do_not_depend_on_order_or_credentials),
        TEST(keys_hold_no_secret),
        TEST(values_come_as_the_collection_has_them),
        TEST(a_value_that_its_type_does_not_take),
        TEST(a_long_answer_comes_in_batches),
        TEST(the_offset_moves_with_the_last_batch),
        TEST(without_memory_a_batch_comes_again),
        TEST(what_is_not_taken_ends_the_stream),
        TEST(it_may_be_ended_in_its_callback),
        TEST(once_is_done_when_up_to_date),
        TEST(messages_of_unknown_kinds_are_passed_over),
        TEST(two_answers_are_fetched_ahead),
        TEST(ahead_is_nothing_when_told_not_to),
        TEST(pieces_and_case_make_no_difference),
        TEST(a_broken_answer_leaves_nothing_and_comes_again),
        TEST(a_live_request_that_is_silent_is_made_again),
        TEST(an_endless_answer_has_an_end),
        TEST(headers_beyond_all_measure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
