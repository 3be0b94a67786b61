/* net against a server that answers rightly, wrongly, slowly and not at all. */

#include "support/netclient.h"

#include <pthread.h>

#include "client/net/net.h"
#include "support/httpd.h"

struct world {
    struct net_heap heap;
    coulomb_client *c;
    struct httpd *h;
    char url[256];
};

/* What an answer was. */
struct seen {
    unsigned calls;
    enum net_end end;
    int status;
    char header[64];
    char body[256];
    size_t len;
    char detail[300];
};

static bool was_called(void *arg)
{
    return ((struct seen *)arg)->calls > 0;
}

static void see(const struct net_answer *a, void *arg)
{
    struct seen *s = arg;

    s->calls++;
    s->end = a->end;
    s->status = a->status;
    s->len = a->body.len;
    if (a->head && net_head_get(a->head, "Electric-Handle").ptr)
        snprintf(s->header, sizeof(s->header), "%s",
                 net_head_get(a->head, "Electric-Handle").ptr);
    snprintf(s->body, sizeof(s->body), "%s", a->body.ptr);
    snprintf(s->detail, sizeof(s->detail), "%s", a->detail);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->h = httpd_new();
    OK(net_client_open(&w->heap, NULL, &w->c));
    snprintf(w->url, sizeof(w->url), "%s/x?secret=s3cret", httpd_url(w->h));
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    coulomb_client_close(w->c);
    httpd_free(w->h);
    assert_int_equal(atomic_load(&w->heap.live), 0);
    free(w);
    return 0;
}

static struct seen ask(struct world *w, const struct net_options *o)
{
    struct seen s = {0};

    OK(net_call(w->c, o, see, &s, NULL));
    poll_until(w->c, was_called, &s);
    assert_int_equal(s.calls, 1);
    return s;
}

static struct seen get(struct world *w)
{
    return ask(w, &(struct net_options){.url = w->url});
}

static void raw(struct world *w, const char *text, enum httpd_after after)
{
    httpd_push(w->h, NULL, text, strlen(text), after, 0);
}

static void an_answer_comes_whole_in_the_poll(void **state)
{
    struct world *w = *state;
    struct seen s;

    httpd_reply(w->h, NULL, 200, "ELECTRIC-HANDLE:  abc \r\n", "hello");
    s = get(w);
    assert_int_equal(s.end, NET_DONE);
    assert_int_equal(s.status, 200);
    assert_string_equal(s.header, "abc");
    assert_string_equal(s.body, "hello");
    assert_string_equal(s.detail, "");
}

static void errors_of_the_server_are_answers(void **state)
{
    struct world *w = *state;
    struct seen s;

    httpd_reply(w->h, NULL, 503, "", "later");
    s = get(w);
    assert_int_equal(s.end, NET_DONE);
    assert_int_equal(s.status, 503);
    assert_string_equal(s.body, "later");
}

static void a_body_in_single_bytes_and_chunks(void **state)
{
    struct world *w = *state;
    static const char text[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "1\r\na\r\n3;x=y\r\nbcd\r\n0\r\n\r\n";

    httpd_push(w->h, NULL, text, sizeof(text) - 1, HTTPD_KEEP, 1);
    assert_string_equal(get(w).body, "abcd");
}

static void interim_answers_are_passed_over(void **state)
{
    struct world *w = *state;
    struct seen s;

    raw(w,
        "HTTP/1.1 103 Early Hints\r\nelectric-handle: no\r\n\r\n"
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        HTTPD_KEEP);
    s = get(w);
    assert_int_equal(s.status, 200);
    assert_string_equal(s.header, "");
    assert_string_equal(s.body, "ok");
}

static void post_sends_body_and_headers(void **state)
{
    struct world *w = *state;
    const struct net_header headers[] = {{"content-type", "application/json"},
                                         {"x-empty", ""}};
    const char *request;

    httpd_reply(w->h, NULL, 202, "", "");
    assert_int_equal(ask(w, &(struct net_options){.method = NET_POST,
                                                  .url = w->url,
                                                  .headers = headers,
                                                  .header_count = 2,
                                                  .body = "{\"a\":1}",
                                                  .body_bytes = 7})
                         .status,
                     202);
    request = httpd_request(w->h, 0);
    assert_non_null(strstr(request, "POST /x?secret=s3cret HTTP/1.1"));
    assert_non_null(strstr(request, "content-type: application/json"));
    assert_non_null(strstr(request, "x-empty:"));
    assert_non_null(strstr(request, "{\"a\":1}"));
    assert_null(strstr(request, "100-continue"));
}

static void every_method_is_sent_as_such(void **state)
{
    struct world *w = *state;
    static const char *const names[] = {"GET /", "POST /", "PUT /", "PATCH /",
                                        "DELETE /"};

    for (size_t i = 0; i < 5; i++) {
        httpd_reply(w->h, NULL, 200, "", "");
        ask(w, &(struct net_options){.method = (enum net_method)i, .url = w->url});
        assert_memory_equal(httpd_request(w->h, i), names[i], strlen(names[i]));
    }
    raw(w, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", HTTPD_KEEP);
    assert_int_equal(ask(w, &(struct net_options){.method = NET_HEAD, .url = w->url}).end,
                     NET_DONE);
}

static void what_is_no_request_is_refused_at_once(void **state)
{
    struct world *w = *state;
    const struct net_header evil = {"x-a", "b\r\nx-c: d"};
    const char *const urls[] = {"", "ftp://127.0.0.1/x", "http://127.0.0.1/a b", "x"};

    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(
            net_call(w->c, &(struct net_options){.url = urls[i]}, see, NULL, NULL),
            COULOMB_E_ARGUMENT);
        assert_non_null(strstr(coulomb_last_error(w->c)->message, "URL"));
    }
    assert_int_equal(net_call(w->c,
                              &(struct net_options){
                                  .url = w->url, .headers = &evil, .header_count = 1},
                              see, NULL, NULL),
                     COULOMB_E_ARGUMENT);
    assert_int_equal(httpd_count(w->h), 0);
}

static void connections_are_kept(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < 5; i++) {
        httpd_reply(w->h, NULL, 200, "", "x");
        get(w);
    }
    assert_int_equal(httpd_connections(w->h), 1);
}

static void nobody_there(void **state)
{
    struct world *w = *state;
    char url[64];
    struct httpd *gone = httpd_new();
    struct seen s;

    snprintf(url, sizeof(url), "%s/?secret=s3cret", httpd_url(gone));
    httpd_free(gone);
    s = ask(w, &(struct net_options){.url = url});
    assert_int_equal(s.end, NET_UNREACHABLE);
    assert_int_equal(s.status, 0);
    assert_true(strlen(s.detail) > 0);
    assert_null(strstr(s.detail, "s3cret"));
}

static void a_body_that_breaks_off(void **state)
{
    struct world *w = *state;
    static const char *const cut[] = {
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-le"};

    for (size_t i = 0; i < 3; i++) {
        struct seen s;

        raw(w, cut[i], i == 1 ? HTTPD_RESET : HTTPD_CLOSE);
        s = get(w);
        assert_int_equal(s.end, NET_BROKEN);
        assert_null(strstr(s.detail, "s3cret"));
    }
}

static void what_is_not_http(void **state)
{
    struct world *w = *state;

    raw(w, "SSH-2.0-OpenSSH_9\r\n", HTTPD_CLOSE);
    assert_int_equal(get(w).end, NET_BROKEN);
}

static void silence_has_an_end(void **state)
{
    struct world *w = *state;
    struct net_options o = {.url = w->url, .head_timeout_ms = 40};
    struct seen s = ask(w, &o);

    assert_int_equal(s.end, NET_TIMEOUT);
    assert_int_equal(s.status, 0);
    httpd_wait_ended(w->h, 1);
    o = (struct net_options){.url = w->url, .idle_timeout_ms = 40};
    raw(w, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", HTTPD_HOLD);
    s = ask(w, &o);
    assert_int_equal(s.end, NET_TIMEOUT);
    assert_int_equal(s.status, 200);
    o = (struct net_options){.url = w->url, .total_timeout_ms = 40};
    assert_int_equal(ask(w, &o).end, NET_TIMEOUT);
}

static void too_much_is_refused(void **state)
{
    struct world *w = *state;
    char head[3000];
    struct net_options o = {.url = w->url, .body_bytes_max = 4};

    httpd_reply(w->h, NULL, 200, "", "1234");
    assert_int_equal(ask(w, &o).end, NET_DONE);
    httpd_reply(w->h, NULL, 200, "", "12345");
    assert_int_equal(ask(w, &o).end, NET_TOO_LARGE);
    o = (struct net_options){.url = w->url, .head_bytes_max = 1000};
    memset(head, 'a', sizeof(head));
    memcpy(head, "x: ", 3);
    memcpy(head + sizeof(head) - 3, "\r\n", 3);
    httpd_reply(w->h, NULL, 200, head, "");
    assert_int_equal(ask(w, &o).end, NET_TOO_LARGE);
}

static void redirects_are_followed_for_get_only(void **state)
{
    struct world *w = *state;
    struct seen s;

    httpd_reply(w->h, "/x?", 307, "location: /y\r\nelectric-handle: no\r\n", "moved");
    httpd_reply(w->h, "/y", 200, "", "here");
    s = get(w);
    assert_int_equal(s.status, 200);
    assert_string_equal(s.body, "here");
    assert_string_equal(s.header, "");
    httpd_reply(w->h, "/x?", 307, "location: /y\r\n", "moved");
    s = ask(w, &(struct net_options){.method = NET_POST, .url = w->url});
    assert_int_equal(s.status, 307);
    assert_string_equal(s.body, "moved");
    httpd_reply(w->h, "/x?", 302, "location: file:///etc/hostname\r\n", "moved");
    assert_int_equal(get(w).end, NET_BROKEN);
    for (int i = 0; i < 7; i++)
        httpd_reply(w->h, "/x?", 302, "location: /x?1\r\n", "again");
    assert_int_equal(get(w).end, NET_BROKEN);
}

static void compressed_bodies_are_not_seen_as_such(void **state)
{
    struct world *w = *state;
    /* 100,000 times the letter a, by gzip -9. */
    static const char packed[] =
        "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xed\xc1\x31\x01\x00\x00\x00\xc2\xa0\xac"
        "\xeb\x5f\xc2\x1a\x1e\x40\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        "\x00\x00\x00\xaf\x06\x87\xfa\xe2\x1b\xa0\x86\x01\x00";
    char text[1024];
    int n;

    n = snprintf(
        text, sizeof(text),
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %zu\r\n\r\n",
        sizeof(packed) - 1);
    memcpy(text + n, packed, sizeof(packed) - 1);
    httpd_push(w->h, NULL, text, (size_t)n + sizeof(packed) - 1, HTTPD_KEEP, 7);
    assert_int_equal(get(w).len, 100000);
    /* What counts against the maximum is what comes out. */
    httpd_push(w->h, NULL, text, (size_t)n + sizeof(packed) - 1, HTTPD_KEEP, 0);
    assert_int_equal(
        ask(w, &(struct net_options){.url = w->url, .body_bytes_max = 9999}).end,
        NET_TOO_LARGE);
    assert_non_null(strstr(httpd_request(w->h, 0), "gzip"));
    httpd_reply(w->h, NULL, 200, "", "");
    ask(w, &(struct net_options){.url = w->url, .uncompressed = true});
    assert_null(strstr(httpd_request(w->h, 2), "gzip"));
}

static void a_cancelled_call_says_nothing(void **state)
{
    struct world *w = *state;
    struct seen s = {0};
    struct net_call *call;
    const struct net_options o = {.url = w->url};

    OK(net_call(w->c, &o, see, &s, &call));
    httpd_request(w->h, 0);
    net_call_cancel(call);
    httpd_wait_ended(w->h, 1);
    httpd_reply(w->h, NULL, 200, "", "for the next");
    assert_string_equal(get(w).body, "for the next");
    assert_int_equal(s.calls, 0);
    /* Also one whose answer has come. */
    httpd_reply(w->h, NULL, 200, "", "x");
    OK(net_call(w->c, &o, see, &s, &call));
    while (!coulomb_pending(w->c))
        clock_sleep_ms(1);
    net_call_cancel(call);
}

static void closing_ends_what_runs(void **state)
{
    struct world *w = *state;
    struct seen s = {0};
    const struct net_options o = {.url = w->url};

    for (int i = 0; i < 3; i++)
        OK(net_call(w->c, &o, see, &s, NULL));
    httpd_request(w->h, 0);
    coulomb_client_close(w->c);
    assert_int_equal(atomic_load(&w->heap.live), 0);
    assert_int_equal(s.calls, 0);
    OK(net_client_open(&w->heap, NULL, &w->c));
}

static void waking_ends_what_runs_and_begins_anew(void **state)
{
    struct world *w = *state;
    struct seen s = {0};
    struct net *n;

    OK(client_net(w->c, &n));
    OK(net_call(w->c, &(struct net_options){.url = w->url}, see, &s, NULL));
    httpd_request(w->h, 0);
    net_woke(n);
    poll_until(w->c, was_called, &s);
    assert_int_equal(s.end, NET_SLEPT);
    httpd_wait_ended(w->h, 1);
    httpd_reply(w->h, NULL, 200, "", "fresh");
    assert_string_equal(get(w).body, "fresh");
    assert_int_equal(httpd_connections(w->h), 2);
}

/* --- In parts, on the I/O thread ------------------------------------------------------------------ */

struct parts {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int status;
    char body[64];
    size_t len;
    bool pause;
    bool paused;
    bool ended;
    enum net_verdict at_head;
    enum net_end end;
};

static void wait_for(struct parts *p, const bool *flag)
{
    pthread_mutex_lock(&p->mutex);
    while (!*flag)
        pthread_cond_wait(&p->changed, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
}

static enum net_verdict part_head(const struct net_head *head, void *arg)
{
    struct parts *p = arg;

    p->status = net_head_status(head);
    return p->at_head;
}

static enum net_verdict part_body(struct slice bytes, void *arg)
{
    struct parts *p = arg;
    enum net_verdict v = NET_GO_ON;

    pthread_mutex_lock(&p->mutex);
    if (p->pause) {
        p->paused = true;
        v = NET_PAUSE;
    } else {
        assert_true(p->len + bytes.len < sizeof(p->body));
        memcpy(p->body + p->len, bytes.ptr, bytes.len);
        p->len += bytes.len;
    }
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    return v;
}

static void part_end(enum net_end end, const char *detail, void *arg)
{
    struct parts *p = arg;

    (void)detail;
    pthread_mutex_lock(&p->mutex);
    p->end = end;
    p->ended = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->mutex);
}

static const struct net_callbacks part_callbacks = {part_head, part_body, part_end};

static void a_paused_body_waits_and_comes_again(void **state)
{
    struct world *w = *state;
    struct parts p = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                      .changed = PTHREAD_COND_INITIALIZER,
                      .pause = true};
    struct net_request *r;
    struct net *n;

    OK(client_net(w->c, &n));
    httpd_reply(w->h, NULL, 200, "", "all of it");
    OK(net_start(n, &(struct net_options){.url = w->url, .idle_timeout_ms = 60000},
                 &part_callbacks, &p, &r, NULL));
    wait_for(&p, &p.paused);
    pthread_mutex_lock(&p.mutex);
    assert_string_equal(p.body, "");
    p.pause = false;
    pthread_mutex_unlock(&p.mutex);
    net_resume(r);
    wait_for(&p, &p.ended);
    assert_int_equal(p.end, NET_DONE);
    assert_string_equal(p.body, "all of it");
    net_resume(r); /* nothing more to it */
    net_cancel(r);
    net_request_release(r);
}

static void a_head_that_is_not_wanted(void **state)
{
    struct world *w = *state;
    const enum net_verdict verdicts[] = {NET_REFUSE, NET_FAIL};
    const enum net_end ends[] = {NET_REFUSED, NET_NO_MEMORY};
    struct net *n;

    OK(client_net(w->c, &n));
    for (int i = 0; i < 2; i++) {
        struct parts p = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                          .changed = PTHREAD_COND_INITIALIZER,
                          .at_head = verdicts[i]};
        struct net_request *r;

        httpd_reply(w->h, NULL, 200, "", "all of it");
        OK(net_start(n, &(struct net_options){.url = w->url}, &part_callbacks, &p, &r,
                     NULL));
        wait_for(&p, &p.ended);
        assert_int_equal(p.end, ends[i]);
        assert_string_equal(p.body, "");
        net_request_release(r);
    }
}

static bool all_called(void *arg)
{
    struct seen *s = arg;

    for (int i = 0; i < 100; i++) {
        if (s[i].calls == 0)
            return false;
    }
    return true;
}

static void many_at_once(void **state)
{
    struct world *w = *state;
    static struct seen seen[100];

    memset(seen, 0, sizeof(seen));
    for (int i = 0; i < 100; i++) {
        char url[128];
        char body[16];
        char match[16];

        snprintf(url, sizeof(url), "%s/n%03d", httpd_url(w->h), i);
        snprintf(body, sizeof(body), "%d", i);
        snprintf(match, sizeof(match), "/n%03d", i);
        OK(net_call(w->c, &(struct net_options){.url = url}, see, &seen[i], NULL));
        httpd_reply(w->h, match, 200, "", body);
    }
    poll_until(w->c, all_called, seen);
    for (int i = 0; i < 100; i++)
        assert_int_equal(strtol(seen[i].body, NULL, 10), i);
}

/* --- Memory ----------------------------------------------------------------------------------------- */

/* Each allocation fails once: the call fails, or its answer says so, or nobody notices. */
static void every_allocation_may_fail(void **state)
{
    struct world *w = *state;
    bool failed = true;
    size_t n = 1;

    httpd_reply(w->h, NULL, 200, "", "");
    get(w);
    for (; failed; n++) {
        struct seen s = {0};
        const struct net_header header = {"a", "b"};
        int code;

        coulomb_client_close(w->c);
        OK(net_client_open(&w->heap, NULL, &w->c));
        httpd_reply(w->h, NULL, 200, "a: b\r\nc: d\r\n", "hello");
        atomic_store(&w->heap.calls, 0);
        atomic_store(&w->heap.failed, false);
        w->heap.fail_at = n;
        code = net_call(w->c,
                        &(struct net_options){.method = NET_POST,
                                              .url = w->url,
                                              .headers = &header,
                                              .header_count = 1,
                                              .body = "b",
                                              .body_bytes = 1},
                        see, &s, NULL);
        if (code == COULOMB_OK)
            poll_until(w->c, was_called, &s);
        coulomb_client_close(w->c);
        w->c = NULL;
        failed = atomic_load(&w->heap.failed);
        w->heap.fail_at = 0;
        if (code != COULOMB_OK) {
            assert_int_equal(code, COULOMB_E_MEMORY);
            assert_true(failed);
            OK(net_client_open(&w->heap, NULL, &w->c));
            get(w);
        } else if (failed && s.end != NET_DONE) {
            assert_int_equal(s.end, NET_NO_MEMORY);
        } else {
            assert_int_equal(s.status, 200);
        }
    }
    assert_true(n > 5);
    OK(net_client_open(&w->heap, NULL, &w->c));
}

/* --- What callers share ------------------------------------------------------------------------------- */

static int64_t retry_after(const char *text)
{
    return net_retry_after_ms(slice_of(text), (int64_t)1445412480 * 1000000);
}

static void retry_after_in_seconds_and_dates(void **state)
{
    (void)state;
    assert_int_equal(retry_after("3"), 3000);
    assert_int_equal(retry_after("0"), 0);
    assert_int_equal(retry_after(NULL), 0);
    assert_int_equal(retry_after("-3"), 0);
    assert_int_equal(retry_after("soon"), 0);
    assert_int_equal(retry_after("999999999999"), 3600000);
    assert_int_equal(retry_after("99999999999999999999999"), 0);
    assert_int_equal(retry_after("Wed, 21 Oct 2015 07:28:10 GMT"), 10000);
    assert_int_equal(retry_after("Wed, 21 Oct 2015 07:27:00 GMT"), 0);
    assert_int_equal(retry_after("Wed, 21 Oct 2025 07:28:00 GMT"), 3600000);
}

static void backoff_is_full_jitter_under_a_cap(void **state)
{
    const struct net_backoff ours = {.initial_ms = 100, .max_ms = 1000, .factor = 3};
    const struct net_backoff defaults = {0};

    (void)state;
    assert_int_equal(net_backoff_ms(&ours, 1, 0.5, 0), 50);
    assert_int_equal(net_backoff_ms(&ours, 2, 0.5, 0), 150);
    assert_int_equal(net_backoff_ms(&ours, 3, 0.5, 0), 450);
    assert_int_equal(net_backoff_ms(&ours, 4, 0.5, 0), 500);
    assert_int_equal(net_backoff_ms(&ours, 4000000000u, 0, 0), 0);
    assert_int_equal(net_backoff_ms(&ours, 1, 0.5, 60), 60);
    assert_int_equal(net_backoff_ms(&defaults, 1, 0.5, 0), 500);
    assert_int_equal(net_backoff_ms(&defaults, 9, 0.5, 0), 16000);
}

static void urls_are_escaped_and_shown_without_secrets(void **state)
{
    char shown[64];
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    net_put_escaped(&b, SLICE_LIT("a-Z_0.~ $\xc3\xa4&="));
    buf_putc(&b, '\0');
    assert_string_equal(b.ptr, "a-Z_0.~%20%24%C3%A4%26%3D");
    buf_fini(&b);
    net_url_shown("https://user:pass@host:1/a/b?secret=x#y", shown, sizeof(shown));
    assert_string_equal(shown, "https://host:1/a/b");
    net_url_shown("http://host", shown, sizeof(shown));
    assert_string_equal(shown, "http://host");
    net_url_shown("http://host?a=b@c", shown, 9);
    assert_string_equal(shown, "http://h");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(an_answer_comes_whole_in_the_poll),
        TEST(errors_of_the_server_are_answers),
        TEST(a_body_in_single_bytes_and_chunks),
        TEST(interim_answers_are_passed_over),
        TEST(post_sends_body_and_headers),
        TEST(every_method_is_sent_as_such),
        TEST(what_is_no_request_is_refused_at_once),
        TEST(connections_are_kept),
        TEST(nobody_there),
        TEST(a_body_that_breaks_off),
        TEST(what_is_not_http),
        TEST(silence_has_an_end),
        TEST(too_much_is_refused),
        TEST(redirects_are_followed_for_get_only),
        TEST(compressed_bodies_are_not_seen_as_such),
        TEST(a_cancelled_call_says_nothing),
        TEST(closing_ends_what_runs),
        TEST(waking_ends_what_runs_and_begins_anew),
        TEST(a_paused_body_waits_and_comes_again),
        TEST(a_head_that_is_not_wanted),
        TEST(many_at_once),
        TEST(every_allocation_may_fail),
        cmocka_unit_test(retry_after_in_seconds_and_dates),
        cmocka_unit_test(backoff_is_full_jitter_under_a_cap),
        cmocka_unit_test(urls_are_escaped_and_shown_without_secrets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
