/* Servers against one that answers what the test scripted: writes in order and once, refusals, tokens. */

#include "support/netclient.h"

#include "client/server/server.h"
#include "support/httpd.h"

struct world {
    struct net_heap heap;
    int64_t now_ms;
    coulomb_client *c;
    struct httpd *h;
    coulomb_server *server;
    coulomb_collection *coll;
    unsigned sign_ins;
    const char *next_token;
};

static const coulomb_column columns[] = {
    {"id", COULOMB_INT64, COULOMB_ABSENT},
    {"title", COULOMB_TEXT, COULOMB_ABSENT},
    {"done", COULOMB_BOOL, COULOMB_ABSENT},
    {"price", COULOMB_NUMERIC, COULOMB_ABSENT},
    {"tags", COULOMB_ARRAY, COULOMB_TEXT},
    {"data", COULOMB_JSON, COULOMB_ABSENT},
    {"at", COULOMB_TIMESTAMPTZ, COULOMB_ABSENT},
    {"raw", COULOMB_BYTES, COULOMB_ABSENT},
};

static int start(coulomb_sync *sync, void *arg)
{
    coulomb_value values[8];

    (void)arg;
    for (size_t i = 0; i < 8; i++)
        values[i] = coulomb_null();
    if (coulomb_sync_begin(sync, 0) != COULOMB_OK)
        return COULOMB_E_MEMORY;
    for (int64_t id = 1; id <= 3; id++) {
        values[0] = coulomb_int(id);
        values[1] = coulomb_text("old");
        values[2] = coulomb_bool(0);
        if (coulomb_sync_insert(sync, values, NULL, 0) != COULOMB_OK)
            return COULOMB_E_MEMORY;
    }
    return coulomb_sync_commit(sync) == COULOMB_OK ? coulomb_sync_mark_ready(sync)
                                                   : COULOMB_E_MEMORY;
}

static int sign_in(coulomb_server *server, coulomb_completion *done, void *arg)
{
    struct world *w = arg;

    (void)done;
    w->sign_ins++;
    return w->next_token ? coulomb_server_set_token(server, w->next_token)
                         : COULOMB_E_FAILED;
}

static int make(struct world *w, coulomb_server_options *o, const char *url)
{
    static const coulomb_adapter adapter = {.size = sizeof(coulomb_adapter),
                                            .start = start};
    coulomb_collection_options co;
    coulomb_server_table t;
    int code;

    o->url = url;
    o->arg = w;
    code = net_client_open(&w->heap, &w->now_ms, &w->c);
    if (code == COULOMB_OK)
        code = coulomb_server_new(w->c, o, &w->server);
    coulomb_options_init(&co, sizeof(co));
    co.id = "todos";
    co.columns = columns;
    co.column_count = sizeof(columns) / sizeof(columns[0]);
    co.key_column = "id";
    co.adapter = &adapter;
    co.start_sync = 1;
    co.on_insert = co.on_update = co.on_delete = coulomb_server_persist;
    co.handler_arg = w->server;
    coulomb_options_init(&t, sizeof(t));
    t.table = "app.todos";
    if (code == COULOMB_OK)
        code = coulomb_collection_new(w->c, &co, &w->coll);
    if (code == COULOMB_OK)
        code = coulomb_server_bind(w->server, w->coll, &t);
    if (code == COULOMB_OK) {
        code = coulomb_poll(w->c);
        code = code > 0 ? COULOMB_OK : code;
    }
    return code;
}

static struct world *open_with(coulomb_server_options *o)
{
    struct world *w = calloc(1, sizeof(*w));
    char url[256];

    assert_non_null(w);
    w->now_ms = 1000;
    w->h = httpd_new();
    snprintf(url, sizeof(url), "%s/", httpd_url(w->h));
    OK(make(w, o, url));
    return w;
}

static struct world *open_world(void)
{
    coulomb_server_options o;

    coulomb_options_init(&o, sizeof(o));
    o.auth_token = "first.token";
    return open_with(&o);
}

static void close_world(struct world *w)
{
    coulomb_collection_release(w->coll);
    coulomb_client_close(w->c);
    coulomb_server_release(w->server);
    httpd_free(w->h);
    assert_int_equal(atomic_load(&w->heap.live), 0);
    free(w);
}

static bool is_settled(void *arg)
{
    coulomb_tx_state state = coulomb_tx_status(arg);

    return state == COULOMB_TX_COMPLETED || state == COULOMB_TX_FAILED;
}

static coulomb_tx *set_title(struct world *w, int64_t id, const char *title)
{
    coulomb_field f = {"title", coulomb_text(title)};
    coulomb_tx *tx = NULL;

    OK(coulomb_set(w->coll, coulomb_key_int(id), &f, 1, NULL, &tx));
    return tx;
}

static void completes(struct world *w, coulomb_tx *tx)
{
    poll_until(w->c, is_settled, tx);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
    coulomb_tx_release(tx);
}

static void fails(struct world *w, coulomb_tx *tx, int code)
{
    poll_until(w->c, is_settled, tx);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_FAILED);
    assert_int_equal(coulomb_tx_error(tx)->code, code);
}

/* The body of the n-th request, as the test wrote it but for the ids, which are made. */
static void sent(struct world *w, size_t n, const char *expected)
{
    const char *text = strstr(httpd_request(w->h, n), "\r\n\r\n");
    char body[4096];
    size_t len = 0;

    assert_non_null(text);
    for (const char *p = text + 4; *p && len < sizeof(body) - 1; p++) {
        body[len++] = *p;
        if (len > 6 && memcmp(body + len - 6, "\"id\":\"", 6) == 0)
            p += strcspn(p + 1, "\""); /* the run, and the transaction's number */
    }
    body[len] = '\0';
    assert_string_equal(body, expected);
}

#define DONE(txid)      "{\"success\":true,\"txid\":" #txid ",\"lsn\":\"99\"}"
#define LIST(ok, items) "{\"success\":" ok ",\"transactions\":[" items "]}"

/* --- What is sent ---------------------------------------------------------------------------------- */

static void mutations_are_told(void **state)
{
    struct world *w = open_world();
    coulomb_value tags[2] = {coulomb_text("a\"b"), coulomb_null()};
    coulomb_array array = {COULOMB_TEXT, 1, 2, tags, {0}};
    coulomb_value list = coulomb_absent();
    coulomb_tx *tx = NULL;

    (void)state;
    list.type = COULOMB_ARRAY;
    list.v.array = &array;
    coulomb_field fields[] = {
        {"id", coulomb_int(9)},
        {"title", coulomb_text("a \"q\" \n")},
        {"price", coulomb_numeric("12345678901234567890.5")},
        {"tags", list},
        {"data", coulomb_json("{\"a\": [1, null]}")},
        {"raw", coulomb_bytes("\x01\xff", 2)},
    };
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(7)));
    OK(coulomb_insert(w->coll, fields, 6, NULL, &tx));
    completes(w, tx);
    sent(w, 0,
         "[{\"id\":\"\",\"mutations\":[{\"op\":\"insert\",\"table\":\"app.todos\","
         "\"values\":{\"id\":9,\"title\":\"a \\\"q\\\" \\n\",\"price\":"
         "\"12345678901234567890.5\",\"tags\":\"{\\\"a\\\\\\\"b\\\",NULL}\",\"data\":{"
         "\"a\": "
         "[1, null]},\"raw\":\"\\\\x01ff\"}}]}]");
    assert_non_null(strstr(httpd_request(w->h, 0), "POST /v1/transactions HTTP/1.1\r\n"));
    assert_non_null(strstr(httpd_request(w->h, 0), "Bearer first.token\r\n"));

    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(8)));
    completes(w, set_title(w, 2, "new"));
    sent(w, 1,
         "[{\"id\":\"\",\"mutations\":[{\"op\":\"update\",\"table\":\"app.todos\","
         "\"key\":{\"id\":2},\"values\":{\"title\":\"new\"}}]}]");

    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(9)));
    OK(coulomb_delete(w->coll, coulomb_key_int(3), NULL, &tx));
    completes(w, tx);
    sent(w, 2,
         "[{\"id\":\"\",\"mutations\":[{\"op\":\"delete\",\"table\":\"app.todos\","
         "\"key\":{\"id\":3}}]}]");
    close_world(w);
}

static void expectations_are_told(void **state)
{
    struct world *w = open_world();
    const char *const keys[] = {"id", "title"};
    coulomb_server_table t;
    coulomb_tx *tx = NULL;

    (void)state;
    coulomb_options_init(&t, sizeof(t));
    t.table = "todos";
    t.expect_unchanged = 1;
    t.ignore_missing = 1;
    t.key_columns = keys;
    t.key_column_count = 2;
    OK(coulomb_server_bind(w->server, w->coll, &t));
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(8)));
    completes(w, set_title(w, 2, "new"));
    sent(
        w, 0,
        "[{\"id\":\"\",\"mutations\":[{\"op\":\"update\",\"table\":\"todos\","
        "\"key\":{\"id\":2,\"title\":\"old\"},\"values\":{\"title\":\"new\"},\"expect\":{"
        "\"title\":\"old\"}}]}]");
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(9)));
    OK(coulomb_delete(w->coll, coulomb_key_int(1), NULL, &tx));
    completes(w, tx);
    assert_non_null(strstr(httpd_request(w->h, 1), "\"if_missing\":\"ignore\""));
    t.key_columns = (const char *const[]){"nope"};
    t.key_column_count = 1;
    assert_int_equal(coulomb_server_bind(w->server, w->coll, &t), COULOMB_E_COLUMN);
    close_world(w);
}

static void a_table_is_needed(void **state)
{
    coulomb_server_options o;
    struct world *w = open_world();
    coulomb_server *other = NULL;
    coulomb_server_table t;
    coulomb_tx *tx;

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    assert_int_equal(coulomb_server_new(w->c, &o, &other), COULOMB_E_MISSING_URL);
    o.url = "ftp://x";
    assert_int_equal(coulomb_server_new(w->c, &o, &other), COULOMB_E_ARGUMENT);
    o.url = "http://127.0.0.1:1/x?y";
    assert_int_equal(coulomb_server_new(w->c, &o, &other), COULOMB_E_ARGUMENT);
    o.url = "http://127.0.0.1:1";
    OK(coulomb_server_new(w->c, &o, &other));
    coulomb_options_init(&t, sizeof(t));
    t.table = "todos";
    OK(coulomb_server_bind(other, w->coll, &t));
    tx = set_title(w, 1, "x");
    fails(w, tx, COULOMB_E_ARGUMENT);
    assert_non_null(strstr(coulomb_tx_error(tx)->message, "coulomb_server_bind()"));
    assert_null(coulomb_tx_refusal(tx));
    coulomb_tx_release(tx);
    coulomb_server_release(other);
    close_world(w);
}

/* --- Order ------------------------------------------------------------------------------------------ */

static void writes_go_in_order(void **state)
{
    struct world *w = open_world();
    coulomb_tx *txs[5];

    (void)state;
    txs[0] = set_title(w, 1, "a");
    while (httpd_count(w->h) == 0) {
        assert_true(coulomb_poll(w->c) >= 0);
        clock_sleep_ms(1);
    }
    for (int i = 1; i < 5; i++) /* while the first is under way */
        txs[i] = set_title(w, 1, (const char *[]){"", "b", "c", "d", "e"}[i]);
    for (int i = 0; i < 10; i++)
        assert_true(coulomb_poll(w->c) >= 0);
    assert_int_equal(httpd_count(w->h), 1);
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(1)));
    /* The third of the rest is refused: it alone fails, those behind it go again. */
    httpd_reply(w->h, NULL, 409, "",
                LIST("false",
                     DONE(2) "," DONE(
                         3) ",{\"success\":false,\"code\":"
                            "\"unique_violation\",\"message\":\"no\",\"mutation\":0,"
                            "\"table\":\"todos\",\"column\":\"title\",\"constraint\":"
                            "\"one\"}"));
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(5)));
    completes(w, txs[0]);
    completes(w, txs[1]);
    completes(w, txs[2]);
    fails(w, txs[3], COULOMB_E_REFUSED);
    const coulomb_refusal *why = coulomb_tx_refusal(txs[3]);
    assert_non_null(why);
    assert_int_equal(why->status, 409);
    assert_string_equal(why->code, "unique_violation");
    assert_string_equal(why->constraint, "one");
    assert_int_equal(why->mutation, 0);
    assert_string_equal(coulomb_tx_error(txs[3])->message,
                        "todos.title: no, by the constraint one (unique_violation)");
    coulomb_tx_release(txs[3]);
    completes(w, txs[4]);
    assert_int_equal(httpd_count(w->h), 3);
    assert_non_null(strstr(httpd_request(w->h, 1), "\"b\""));
    assert_non_null(strstr(httpd_request(w->h, 1), "\"e\""));
    assert_null(strstr(httpd_request(w->h, 2), "\"d\""));
    assert_non_null(strstr(httpd_request(w->h, 2), "\"e\""));
    close_world(w);
}

static void one_that_spoils_a_request_fails_alone(void **state)
{
    struct world *w = open_world();
    coulomb_tx *txs[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        txs[i] = set_title(w, i + 1, (const char *[]){"one", "two", "three"}[i]);
    httpd_reply(w->h, NULL, 413, "",
                "{\"success\":false,\"code\":\"too_large\",\"message\":\"too large\"}");
    httpd_reply(w->h, "one", 200, "", LIST("true", DONE(1)));
    httpd_reply(w->h, "two", 413, "",
                "{\"success\":false,\"code\":\"too_large\",\"message\":\"too large\"}");
    httpd_reply(w->h, "three", 200, "", LIST("true", DONE(3)));
    completes(w, txs[0]);
    fails(w, txs[1], COULOMB_E_REFUSED);
    assert_int_equal(coulomb_tx_refusal(txs[1])->status, 413);
    coulomb_tx_release(txs[1]);
    completes(w, txs[2]);
    assert_int_equal(httpd_count(w->h), 4);
    close_world(w);
}

static void what_is_rolled_back_is_not_sent(void **state)
{
    struct world *w = open_world();
    coulomb_tx *first = set_title(w, 1, "a");
    coulomb_tx *second;

    (void)state;
    while (httpd_count(w->h) == 0) {
        assert_true(coulomb_poll(w->c) >= 0);
        clock_sleep_ms(1);
    }
    second = set_title(w, 2, "b");
    assert_true(coulomb_poll(w->c) >= 0);
    OK(coulomb_tx_rollback(second));
    coulomb_tx_release(second);
    coulomb_tx *third = set_title(w, 3, "c");
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(1)));
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(2)));
    completes(w, first);
    completes(w, third);
    assert_null(strstr(httpd_request(w->h, 1), "\"b\""));
    close_world(w);
}

/* --- Trying again ------------------------------------------------------------------------------------ */

static bool has_request(struct world *w, size_t n)
{
    int64_t end = clock_mono_ms() + 20000;

    while (httpd_count(w->h) < n) {
        struct pollfd p = {.fd = coulomb_fd(w->c), .events = POLLIN};

        if (clock_mono_ms() > end)
            return false;
        assert_true(coulomb_poll(w->c) >= 0);
        if (coulomb_next_deadline(w->c) != INT64_MAX && !coulomb_pending(w->c))
            w->now_ms += 50;
        poll(&p, 1, 2);
    }
    return true;
}

static void an_answer_that_is_lost_is_asked_for_again(void **state)
{
    static const struct {
        int status;
        const char *body;
    } answers[] = {
        {0, ""},
        {503, "{\"success\":false,\"code\":\"busy\",\"message\":\"x\"}"},
        {503,
         LIST("false", "{\"success\":false,\"code\":\"unavailable\",\"message\":\"x\"}")},
        {502, "<html>"},
        {429, "{\"success\":false,\"code\":\"rate_limit\",\"message\":\"x\"}"},
        {500, "oh"},
    };
    struct world *w = open_world();
    coulomb_tx *tx = set_title(w, 1, "a");
    size_t n = sizeof(answers) / sizeof(answers[0]);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        if (answers[i].status == 0)
            httpd_push(w->h, NULL, "HTTP/1.1 2", 10, HTTPD_RESET, 0);
        else
            httpd_reply(w->h, NULL, answers[i].status, "", answers[i].body);
    }
    assert_true(has_request(w, n + 1));
    for (size_t i = 0; i <= n; i++)
        assert_non_null(strstr(httpd_request(w->h, i), "/tx-1"));
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_PERSISTING);
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(1)));
    completes(w, tx);
    close_world(w);
}

static void in_the_end_it_gives_up(void **state)
{
    coulomb_server_options o;
    struct world *w;
    coulomb_tx *tx;

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    o.retry_ms = 3000;
    w = open_with(&o);
    tx = set_title(w, 1, "a");
    for (int i = 0; i < 40; i++)
        httpd_reply(w->h, NULL, 503, "", "no");
    for (int i = 0; i < 20000 && coulomb_tx_status(tx) == COULOMB_TX_PERSISTING; i++) {
        struct pollfd p = {.fd = coulomb_fd(w->c), .events = POLLIN};

        assert_true(coulomb_poll(w->c) >= 0);
        w->now_ms += !coulomb_pending(w->c);
        poll(&p, 1, 1);
    }
    fails(w, tx, COULOMB_E_NETWORK);
    assert_non_null(strstr(coulomb_tx_error(tx)->message, "nobody knows"));
    coulomb_tx_release(tx);
    close_world(w);
}

/* --- Who is signed in -------------------------------------------------------------------------------- */

static void a_refused_token_is_renewed_once(void **state)
{
    coulomb_server_options o;
    struct world *w;
    coulomb_tx *tx;

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    o.auth_token = "old";
    o.sign_in = sign_in;
    w = open_with(&o);
    w->next_token = "new";
    tx = set_title(w, 1, "a");
    httpd_reply(w->h, NULL, 401, "",
                "{\"success\":false,\"code\":\"expired\",\"message\":\"x\"}");
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(1)));
    completes(w, tx);
    assert_int_equal(w->sign_ins, 1);
    assert_non_null(strstr(httpd_request(w->h, 0), "Bearer old\r\n"));
    assert_non_null(strstr(httpd_request(w->h, 1), "Bearer new\r\n"));
    /* One that does not help is given up. */
    w->next_token = NULL;
    tx = set_title(w, 1, "b");
    httpd_reply(w->h, NULL, 401, "", "{}");
    fails(w, tx, COULOMB_E_CREDENTIALS);
    coulomb_tx_release(tx);
    close_world(w);
}

static void without_sign_in_a_refusal_stands(void **state)
{
    struct world *w = open_world();
    coulomb_tx *tx = set_title(w, 1, "a");

    (void)state;
    httpd_reply(w->h, NULL, 401, "", "{}");
    fails(w, tx, COULOMB_E_CREDENTIALS);
    assert_non_null(strstr(coulomb_tx_error(tx)->message, "token"));
    coulomb_tx_release(tx);
    OK(coulomb_server_set_token(w->server, "second"));
    tx = set_title(w, 1, "b");
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(1)));
    completes(w, tx);
    assert_non_null(strstr(httpd_request(w->h, 1), "Bearer second\r\n"));
    OK(coulomb_server_set_token(w->server, NULL));
    tx = set_title(w, 1, "c");
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(1)));
    completes(w, tx);
    assert_null(strstr(httpd_request(w->h, 2), "uthorization"));
    close_world(w);
}

/* --- Other requests ---------------------------------------------------------------------------------- */

struct response {
    unsigned calls;
    coulomb_response r;
    char body[256];
    char message[256];
};

static void see(coulomb_server *server, const coulomb_response *r, void *arg)
{
    struct response *seen = arg;

    (void)server;
    seen->calls++;
    seen->r = *r;
    snprintf(seen->body, sizeof(seen->body), "%.*s", (int)r->body.len,
             r->body.len > 0 ? r->body.ptr : "");
    snprintf(seen->message, sizeof(seen->message), "%s", r->message);
}

static bool has_response(void *arg)
{
    return ((struct response *)arg)->calls > 0;
}

static struct response ask(struct world *w, const coulomb_request *q)
{
    struct response seen = {0};

    OK(coulomb_server_request(w->server, q, see, &seen));
    poll_until(w->c, has_response, &seen);
    return seen;
}

static void requests(void **state)
{
    struct world *w = open_world();
    coulomb_request q;
    struct response r;

    (void)state;
    coulomb_options_init(&q, sizeof(q));
    q.path = "/questions/send";
    q.body = "{\"a\":1}";
    q.body_len = 7;
    q.idempotency_key = "k";
    httpd_reply(
        w->h, NULL, 200, "",
        "{\"nested\":{\"txid\":1},\"success\":true,\"txid\":4294967295,\"lsn\":\"12\"}");
    r = ask(w, &q);
    assert_int_equal(r.r.code, 0);
    assert_true(r.r.has_txid);
    assert_int_equal(r.r.txid, 4294967295u);
    assert_int_equal(r.r.lsn, 12);
    assert_non_null(strstr(httpd_request(w->h, 0), "POST /questions/send HTTP"));
    assert_non_null(strstr(httpd_request(w->h, 0), "dempotency-key: k\r\n"));
    httpd_reply(w->h, NULL, 422, "",
                "{\"success\":false,\"code\":\"rejected\",\"message\":\"too rude\"}");
    r = ask(w, &q);
    assert_int_equal(r.r.code, COULOMB_E_REFUSED);
    assert_int_equal(r.r.status, 422);
    assert_string_equal(r.message, "too rude");
    q.idempotency_key = NULL; /* may have been applied: not sent again */
    httpd_push(w->h, NULL, "HTTP/1.1 2", 10, HTTPD_RESET, 0);
    r = ask(w, &q);
    assert_int_equal(r.r.code, COULOMB_E_NETWORK);
    q.method = "GEt";
    assert_int_equal(coulomb_server_request(w->server, &q, see, &r), COULOMB_E_ARGUMENT);
    q.method = NULL;
    q.path = "x";
    assert_int_equal(coulomb_server_request(w->server, &q, see, &r), COULOMB_E_ARGUMENT);
    close_world(w);
}

/* --- Tokens for shapes ------------------------------------------------------------------------------- */

struct got {
    unsigned calls;
    int code;
    char token[64];
    char message[256];
};

static void on_token(coulomb_server *server, int code, const char *token,
                     const char *message, void *arg)
{
    struct got *g = arg;

    (void)server;
    g->calls++;
    g->code = code;
    snprintf(g->token, sizeof(g->token), "%s", token ? token : "");
    snprintf(g->message, sizeof(g->message), "%s", message);
}

static bool has_token(void *arg)
{
    return ((struct got *)arg)->calls > 0;
}

static struct got exchange(struct world *w)
{
    const coulomb_pair params[] = {{"conversationId", "c\"1"}};
    struct got g = {0};

    OK(coulomb_server_shape_token(w->server, "messages", params, 1, on_token, &g));
    poll_until(w->c, has_token, &g);
    return g;
}

static void shape_tokens(void **state)
{
    struct world *w = open_world();
    struct got g;

    (void)state;
    httpd_reply(w->h, NULL, 200, "", "{\"token\":\"a.b.c\"}");
    g = exchange(w);
    assert_int_equal(g.code, 0);
    assert_string_equal(g.token, "a.b.c");
    assert_non_null(strstr(httpd_request(w->h, 0), "POST /shapes/auth-token HTTP"));
    sent(w, 0, "{\"table\":\"messages\",\"params\":{\"conversationId\":\"c\\\"1\"}}");
    httpd_reply(w->h, NULL, 403, "", "{}");
    g = exchange(w);
    assert_int_equal(g.code, COULOMB_E_REFUSED);
    assert_non_null(strstr(g.message, "grant"));
    httpd_reply(w->h, NULL, 200, "", "{}");
    g = exchange(w);
    assert_int_equal(g.code, COULOMB_E_REFUSED);
    close_world(w);
}

/* The payloads are {"sub":"amira"}, {"sub":"amira","n":1} and {"sub":"ben"}. */
#define AMIRA       "e30.eyJzdWIiOiJhbWlyYSJ9.x"
#define AMIRA_NEWER "e30.eyJzdWIiOiJhbWlyYSIsIm4iOjF9.y"
#define BEN         "e30.eyJzdWIiOiJiZW4ifQ.z"

static void nobody_writes_as_another(void **state)
{
    struct world *w;
    coulomb_server_options o;
    coulomb_tx *sent, *waits, *mine;

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    o.auth_token = AMIRA;
    w = open_with(&o);
    sent = set_title(w, 1, "a");
    assert_true(has_request(w, 1));
    waits = set_title(w, 2, "b");
    assert_true(coulomb_poll(w->c) >= 0);
    /* A newer token of hers, and signing out and in again, change nothing. */
    OK(coulomb_server_set_token(w->server, AMIRA_NEWER));
    OK(coulomb_server_set_token(w->server, NULL));
    OK(coulomb_server_set_token(w->server, AMIRA_NEWER));
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(1)));
    completes(w, sent);
    assert_true(has_request(w, 2));
    assert_non_null(strstr(httpd_request(w->h, 1), AMIRA_NEWER));
    mine = set_title(w, 3, "c");
    assert_true(coulomb_poll(w->c) >= 0);
    OK(coulomb_server_set_token(w->server, BEN));
    /* What was under way as hers counts; what was not sent is never sent as his. */
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(2)));
    completes(w, waits);
    fails(w, mine, COULOMB_E_CREDENTIALS);
    coulomb_tx_release(mine);
    mine = set_title(w, 1, "d");
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(3)));
    completes(w, mine);
    assert_non_null(strstr(httpd_request(w->h, 2), BEN));
    assert_null(strstr(httpd_request(w->h, 2), "\"c\""));
    /* While nobody is signed in it waits. */
    OK(coulomb_server_set_token(w->server, NULL));
    mine = set_title(w, 1, "e");
    for (int i = 0; i < 20; i++)
        assert_true(coulomb_poll(w->c) >= 0);
    assert_int_equal(httpd_count(w->h), 3);
    OK(coulomb_server_set_token(w->server, BEN));
    assert_true(has_request(w, 4));
    httpd_reply(w->h, NULL, 200, "", LIST("true", DONE(4)));
    completes(w, mine);
    close_world(w);
}

static void what_is_asked_again_is_not_asked_as_another(void **state)
{
    struct world *w = open_world();
    struct got g = {0};

    (void)state;
    OK(coulomb_server_set_token(w->server, AMIRA));
    OK(coulomb_server_shape_token(w->server, "t", NULL, 0, on_token, &g));
    assert_true(has_request(w, 1));
    httpd_push(w->h, NULL, "HTTP/1.1 2", 10, HTTPD_RESET, 0);
    OK(coulomb_server_set_token(w->server, BEN));
    for (int i = 0; i < 4000 && g.calls == 0; i++) {
        assert_true(coulomb_poll(w->c) >= 0);
        w->now_ms += 5;
        clock_sleep_ms(1);
    }
    assert_int_equal(g.calls, 1);
    assert_int_equal(g.code, COULOMB_E_CREDENTIALS);
    close_world(w);
}

/* --- Shapes as collections --------------------------------------------------------------------------- */

static bool is_ready(void *arg)
{
    return coulomb_collection_status(arg) == COULOMB_READY;
}

static coulomb_collection *open_shape(struct world *w, const char *table)
{
    static const coulomb_column two[] = {{"id", COULOMB_INT64, COULOMB_ABSENT},
                                         {"v", COULOMB_TEXT, COULOMB_ABSENT}};
    const coulomb_pair params[] = {{"conversationId", "c1"}};
    coulomb_collection *coll = NULL;
    coulomb_electric_options o;

    coulomb_options_init(&o, sizeof(o));
    o.collection.size = sizeof(o.collection);
    o.collection.id = "shape";
    o.collection.columns = two;
    o.collection.column_count = 2;
    o.collection.key_column = "id";
    o.table = table;
    o.where = "hidden = 1"; /* the token says it */
    if (coulomb_server_collection_open(w->server, &o, params, 1, &coll) != COULOMB_OK)
        return NULL;
    OK(coulomb_collection_start(coll));
    return coll;
}

#define SHAPE_HEADERS                                                                    \
    "electric-handle: h1\r\nelectric-offset: 0_0\r\nelectric-up-to-date: \r\n"           \
    "electric-schema: "                                                                  \
    "{\"id\":{\"type\":\"int4\",\"pk_index\":0},\"v\":{\"type\":\"text\"}}\r\n"
#define SHAPE_BODY                                                                       \
    "[{\"key\":\"1\",\"value\":{\"id\":\"1\",\"v\":\"x\"},\"headers\":{\"operation\":"   \
    "\"insert\"}},"                                                                      \
    "{\"headers\":{\"control\":\"up-to-date\",\"global_last_seen_lsn\":\"1\"}}]"

/* Two collections of one shape: one exchange for both, whose token both send; a name is told to the write
 * path as the catalog has it. */
static void shapes_share_their_token(void **state)
{
    coulomb_server_options o;
    struct world *w;
    coulomb_collection *a, *b;
    coulomb_field f = {"v", coulomb_text("y")};
    coulomb_tx *tx = NULL;

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    o.auth_token = "user";
    o.gatekeeper = 1;
    w = open_with(&o);
    assert_null(open_shape(w, "a.b.c"));
    assert_null(open_shape(w, NULL));
    a = open_shape(w, "\"My Table\"");
    b = open_shape(w, "\"My Table\"");
    assert_non_null(a);
    assert_non_null(b);
    httpd_reply(w->h, "auth-token", 200, "", "{\"token\":\"e30.e30.x\"}");
    httpd_reply(w->h, "offset=-1", 200, SHAPE_HEADERS, SHAPE_BODY);
    httpd_reply(w->h, "offset=-1", 200, SHAPE_HEADERS, SHAPE_BODY);
    poll_until(w->c, is_ready, a);
    poll_until(w->c, is_ready, b);
    size_t exchanges = 0;
    for (size_t i = 0; i < httpd_count(w->h); i++) {
        const char *request = httpd_request(w->h, i);

        exchanges += strstr(request, "POST /shapes/auth-token") != NULL;
        if (strstr(request, "GET /shape?"))
            assert_non_null(strstr(request, "Bearer e30.e30.x\r\n"));
        assert_null(strstr(request, "hidden"));
    }
    assert_int_equal(exchanges, 1);
    OK(coulomb_set(a, coulomb_key_int(1), &f, 1, NULL, &tx));
    httpd_reply(w->h, "mutations", 200, "",
                LIST("true", "{\"success\":true,\"txid\":null}"));
    completes(w, tx);
    bool named = false;
    for (size_t i = 0; i < httpd_count(w->h); i++)
        named = named || strstr(httpd_request(w->h, i), "\"table\":\"My Table\"");
    assert_true(named);
    coulomb_collection_release(a);
    coulomb_collection_release(b);
    close_world(w);
}

/* The write is applied, and its row awaited, when the client goes. */
static void a_client_can_close_while_a_write_is_awaited(void **state)
{
    coulomb_server_options o;
    coulomb_field f = {"v", coulomb_text("y")};
    coulomb_tx *tx = NULL;
    coulomb_collection *shape;
    struct world *w;

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    o.auth_token = "user";
    o.gatekeeper = 1;
    w = open_with(&o);
    shape = open_shape(w, "t");
    assert_non_null(shape);
    httpd_reply(w->h, "auth-token", 200, "", "{\"token\":\"e30.e30.x\"}");
    httpd_reply(w->h, "offset=-1", 200, SHAPE_HEADERS, SHAPE_BODY);
    poll_until(w->c, is_ready, shape);
    OK(coulomb_set(shape, coulomb_key_int(1), &f, 1, NULL, &tx));
    httpd_reply(w->h, "mutations", 200, "", LIST("true", DONE(7)));
    for (int i = 0; i < 100; i++) {
        assert_true(coulomb_poll(w->c) >= 0);
        clock_sleep_ms(2);
    }
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_PERSISTING);
    coulomb_tx_release(tx);
    coulomb_collection_release(shape);
    coulomb_server_release(w->server);
    w->server = NULL;
    close_world(w);
}

/* --- Faults -------------------------------------------------------------------------------------------- */

/* Every allocation of a write and its settlement fails once: it is applied in the end, or its call, or
 * the transaction, failed for want of memory; never both, and nothing leaks. */
static void allocations_that_fail(void **state)
{
    bool failed = true;

    (void)state;
    for (size_t n = 1; failed; n++) {
        struct world w = {.now_ms = 1000, .h = httpd_new()};
        coulomb_field f = {"title", coulomb_text("x")};
        coulomb_server_options o;
        coulomb_tx *tx = NULL;
        int code;

        coulomb_options_init(&o, sizeof(o));
        o.auth_token = "t";
        code = make(&w, &o, httpd_url(w.h));
        assert_int_equal(code, COULOMB_OK);
        for (int i = 0; i < 3; i++)
            httpd_reply(w.h, NULL, 200, "", LIST("true", DONE(1)));
        atomic_store(&w.heap.calls, 0);
        w.heap.fail_at = n;
        code = coulomb_set(w.coll, coulomb_key_int(1), &f, 1, NULL, &tx);
        if (code == COULOMB_OK) {
            for (int i = 0; i < 20000 && !is_settled(tx); i++) {
                struct pollfd p = {.fd = coulomb_fd(w.c), .events = POLLIN};
                int ran = coulomb_poll(w.c);

                assert_true(ran >= 0 || ran == COULOMB_E_MEMORY);
                w.now_ms += coulomb_pending(w.c) ? 0 : 10;
                poll(&p, 1, 1);
            }
            assert_true(is_settled(tx));
            if (coulomb_tx_status(tx) == COULOMB_TX_FAILED)
                assert_int_equal(coulomb_tx_error(tx)->code, COULOMB_E_MEMORY);
        } else {
            assert_int_equal(code, COULOMB_E_MEMORY);
        }
        failed = atomic_load(&w.heap.failed);
        coulomb_tx_release(tx);
        coulomb_collection_release(w.coll);
        coulomb_client_close(w.c);
        coulomb_server_release(w.server);
        httpd_free(w.h);
        assert_int_equal(atomic_load(&w.heap.live), 0);
    }
}

static void a_client_can_close_at_any_time(void **state)
{
    (void)state;
    for (int polls = 0; polls < 8; polls++) {
        struct world *w = open_world();
        coulomb_tx *a = set_title(w, 1, "a");
        coulomb_tx *b = set_title(w, 2, "b");
        struct got g = {0};

        OK(coulomb_server_shape_token(w->server, "t", NULL, 0, on_token, &g));
        for (int i = 0; i < polls; i++) {
            assert_true(coulomb_poll(w->c) >= 0);
            clock_sleep_ms(2);
        }
        coulomb_tx_release(a);
        coulomb_tx_release(b);
        close_world(w);
        assert_int_equal(g.calls, 0);
    }
}

static void close_in_answer(coulomb_server *server, const coulomb_response *r, void *arg)
{
    struct response *seen = arg;

    (void)r;
    seen->calls++;
    coulomb_client_close(coulomb_server_client(server));
}

/* Several answers wait for one poll, in whose first callback the client is closed. */
static void a_client_can_close_in_an_answer(void **state)
{
    struct world *w = open_world();
    struct response seen = {0};
    coulomb_request q;
    coulomb_tx *tx = set_title(w, 1, "a");

    (void)state;
    coulomb_options_init(&q, sizeof(q));
    q.path = "/x";
    for (int i = 0; i < 3; i++)
        OK(coulomb_server_request(w->server, &q, close_in_answer, &seen));
    assert_true(has_request(w, 4));
    for (int i = 0; i < 3; i++)
        httpd_reply(w->h, "GET /x", 200, "", "{}");
    httpd_reply(w->h, "mutations", 200, "", LIST("true", DONE(1)));
    clock_sleep_ms(100);
    assert_true(coulomb_poll(w->c) >= 0);
    assert_int_equal(seen.calls, 1);
    coulomb_tx_release(tx);
    close_world(w);
}

static void credentials_may_outlive_their_server(void **state)
{
    struct world *w = open_world();
    coulomb_credentials *cr = NULL, *same = NULL, *other = NULL;
    const coulomb_pair params[] = {{"a", "b"}};
    coulomb_server *server = w->server;

    (void)state;
    OK(coulomb_server_shape_credentials(server, "t", params, 1, &cr));
    OK(coulomb_server_shape_credentials(server, "t", params, 1, &same));
    OK(coulomb_server_shape_credentials(server, "t", NULL, 0, &other));
    assert_ptr_equal(cr, same);
    assert_ptr_not_equal(cr, other);
    coulomb_credentials_release(same);
    coulomb_credentials_release(other);
    coulomb_collection_release(w->coll);
    coulomb_client_close(w->c);
    coulomb_server_release(server);
    coulomb_credentials_release(cr);
    httpd_free(w->h);
    assert_int_equal(atomic_load(&w->heap.live), 0);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutations_are_told),
        cmocka_unit_test(expectations_are_told),
        cmocka_unit_test(a_table_is_needed),
        cmocka_unit_test(writes_go_in_order),
        cmocka_unit_test(one_that_spoils_a_request_fails_alone),
        cmocka_unit_test(what_is_rolled_back_is_not_sent),
        cmocka_unit_test(an_answer_that_is_lost_is_asked_for_again),
        cmocka_unit_test(in_the_end_it_gives_up),
        cmocka_unit_test(a_refused_token_is_renewed_once),
        cmocka_unit_test(without_sign_in_a_refusal_stands),
        cmocka_unit_test(requests),
        cmocka_unit_test(shape_tokens),
        cmocka_unit_test(nobody_writes_as_another),
        cmocka_unit_test(what_is_asked_again_is_not_asked_as_another),
        cmocka_unit_test(shapes_share_their_token),
        cmocka_unit_test(a_client_can_close_while_a_write_is_awaited),
        cmocka_unit_test(allocations_that_fail),
        cmocka_unit_test(a_client_can_close_at_any_time),
        cmocka_unit_test(a_client_can_close_in_an_answer),
        cmocka_unit_test(credentials_may_outlive_their_server),
    };

    return cmocka_run_group_tests_name("client server", tests, NULL, NULL);
}
