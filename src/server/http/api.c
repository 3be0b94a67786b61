/* The routes of gatekeeper and write path (docs/gatekeeper.md, docs/writing.md).
 *
 *   request ─▶ match ─▶ who (a token) ─▶ how often ─▶ shape:  guard.c, api_shape.c
 *                                                   ├▶ token:  policy, or a pool's worker asks
 *                                                   └▶ write:  a job of the writer
 *
 * A call belongs to its loop; while the pool or the writer has it (`away`) it outlives its client, and
 * comes back as a task. Each transaction of a batch is a job of its own, sent when the one before has
 * been committed. */
#include "server/http/api.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

/* --- Answers --- */

void api_call_free(struct api_call *call)
{
    token_release(call->token);
    gate_json_free(call->request);
    gate_json_free(call->grant);
    write_job_free(call->job);
    arena_fini(&call->arena);
    buf_fini(&call->answers);
    free(call);
}

static void on_finish(void *ctx, bool complete)
{
    struct api_call *call = ctx;

    (void)complete;
    call->req = NULL;
    if (!call->away)
        api_call_free(call);
}

/* Answering may free the call. */
void api_reply(struct api_call *call, int status, struct buf *body)
{
    if (body->failed)
        respond_plain(call->req, 500, RESPOND_JSON,
                      SLICE_LIT("{\"error\":\"Internal server error\"}"));
    else
        respond_plain(call->req, status, RESPOND_JSON, buf_slice(body));
    buf_fini(body);
}

static void count(struct http_loop *loop, enum obs_refusal reason)
{
    obs_refused(loop->http->config.obs, reason);
}

void api_refuse(struct http_loop *loop, struct evreq *req, enum obs_refusal reason,
                int status, const char *code, const char *message)
{
    struct buf body;

    count(loop, reason);
    buf_init(&body, 4096);
    respond_put_refusal(&body, code, message);
    respond_plain(req, status, RESPOND_JSON, buf_slice(&body));
    buf_fini(&body);
}

static void refuse_token(struct http_loop *loop, struct evreq *req,
                         enum token_refusal why)
{
    const char *label = token_refusal_label(why);
    const char *text = token_refusal_text(why);
    struct buf body;

    count(loop, OBS_REFUSED_TOKEN);
    log_event(loop->http->config.log, LOG_DEBUG, "gate.token_refused",
              LOG_TEXT("reason", label));
    buf_init(&body, 1024);
    respond_put_refusal(&body, label, text);
    if (why == TOKEN_REFUSED_NO_KEYS || why == TOKEN_REFUSED_INTERNAL) {
        evreq_add_header(req, "retry-after", "2");
        respond_plain(req, 503, RESPOND_JSON, buf_slice(&body));
    } else {
        respond_unauthorized(req, why == TOKEN_REFUSED_MISSING ? NULL : text,
                             buf_slice(&body));
    }
    buf_fini(&body);
}

/* --- Matching --- */

static bool has_prefix(struct slice path, const char *prefix, struct slice *rest)
{
    size_t len = strlen(prefix);

    if (path.len <= len || memcmp(path.ptr, prefix, len) != 0)
        return false;
    *rest = slice_make(path.ptr + len, path.len - len);
    return !memchr(rest->ptr, '/', rest->len);
}

static bool is_read(enum evreq_method method)
{
    return method == EVREQ_GET || method == EVREQ_HEAD;
}

static bool reads_shape(enum evreq_method method)
{
    return is_read(method) || method == EVREQ_POST;
}

/* The server's own; false: none of them. */
static bool match_own(const struct http_config *c, struct slice path,
                      enum evreq_method method, struct api_match *out)
{
    bool fits = method == EVREQ_POST;

    if (c->gate_issues && slice_eq(path, SLICE_LIT("/shapes/auth-token"))) {
        out->kind = API_EXCHANGE;
    } else if (c->gate_issues && has_prefix(path, "/gatekeeper/", &out->rest)) {
        out->kind = API_GATEKEEPER;
    } else if (c->gate_issues && slice_eq(path, SLICE_LIT("/shape"))) {
        out->kind = API_SHAPE;
        fits = reads_shape(method);
    } else if (c->gate_issues && slice_eq(path, SLICE_LIT("/proxy/v1/shape"))) {
        out->kind = API_PROXY;
        fits = reads_shape(method);
    } else if (c->writer && slice_eq(path, SLICE_LIT("/v1/transactions"))) {
        out->kind = API_TRANSACTIONS;
    } else if (c->writer && c->rpc_schema && has_prefix(path, "/v1/rpc/", &out->rest)) {
        out->kind = API_RPC;
    } else {
        return false;
    }
    if (!fits && method != EVREQ_OPTIONS)
        out->kind = API_WRONG_METHOD;
    return true;
}

static bool match(const struct http_config *c, struct slice path,
                  enum evreq_method method, struct api_match *out)
{
    const char *name = evreq_method_name(method == EVREQ_HEAD ? EVREQ_GET : method);
    bool known = false;

    *out = (struct api_match){.kind = API_WRONG_METHOD};
    if (!c->gate)
        return false;
    if (match_own(c, path, method, out))
        return true;
    if (!c->routes)
        return false;
    out->route = routes_match(c->routes, slice_of(name), path, &known);
    if (out->route)
        out->kind = API_ROUTE;
    return known;
}

/* --- Who --- */

/* The bearer token, or an empty slice. */
static struct slice bearer(const struct evreq *req)
{
    struct slice token;

    return token_of_header(evreq_header(req, "authorization"), &token)
               ? token
               : slice_make("", 0);
}

static int64_t now_s(void)
{
    return clock_wall_us() / 1000000;
}

/* False: answered. *out is owned. */
static bool authenticate(struct http_loop *loop, struct evreq *req, struct token **out)
{
    struct slice text = bearer(req);
    enum token_refusal why = TOKEN_REFUSED_MISSING;

    *out = NULL;
    if (text.len == 0 ||
        gate_verify_auth(loop->http->config.gate, text, now_s(), out, &why) != 0) {
        refuse_token(loop, req, why);
        return false;
    }
    return true;
}

static bool within_rate(struct http_loop *loop, struct evreq *req,
                        const struct token *token)
{
    char seconds[24];
    int64_t wait_ms = token ? gate_limit(loop->http->config.gate,
                                         slice_of(token->subject), clock_mono_ms())
                            : 0;

    if (wait_ms == 0)
        return true;
    snprintf(seconds, sizeof seconds, "%" PRId64, wait_ms / 1000 + 1);
    evreq_add_header(req, "retry-after", seconds);
    api_refuse(loop, req, OBS_REFUSED_RATE, 429, "rate_limit",
               "too many requests: retry after the time that retry-after says");
    return false;
}

/* --- Guarded shapes --- */

static void guarded_shape(struct http_loop *loop, struct evreq *req, struct slice query,
                          bool exact)
{
    struct slice text = bearer(req);
    enum token_refusal why = TOKEN_REFUSED_MISSING;
    struct token *token = NULL;
    struct grant grant;

    if (text.len == 0 || gate_verify_shape(loop->http->config.gate, text, now_s(), &token,
                                           &grant, &why) != 0) {
        refuse_token(loop, req, why);
        return;
    }
    const struct guard guard = {&grant, token->ends_s, token->expires_s, exact};
    shape_request_begin_guarded(loop, req, query, &guard);
    token_release(token);
}

/* --- Tokens for shapes --- */

static void put_url(const struct api_call *call, struct buf *out)
{
    const char *configured = call->loop->http->config.public_url;
    struct slice host = evreq_header(call->req, "host");

    if (configured) {
        buf_puts(out, configured);
    } else {
        buf_puts(out, "http://");
        buf_put_slice(out, host);
    }
    buf_puts(out, "/proxy/v1/shape");
    buf_putc(out, '\0');
}

static int put_token_answer(const struct api_call *call, const char *token,
                            struct buf *body)
{
    struct buf url;

    if (call->match.kind == API_EXCHANGE)
        return gate_print_exchange(token, body);
    buf_init(&url, 4096);
    put_url(call, &url);
    int rc = url.failed ? url.failed
                        : gate_print_gatekeeper(call->grant, token, url.ptr, body);
    buf_fini(&url);
    return rc;
}

static void answer_granted(struct api_call *call)
{
    struct http_loop *loop = call->loop;
    char *token = NULL;
    struct err err = {0};
    struct buf body;

    buf_init(&body, API_ANSWER_MAX_BYTES);
    int rc = gate_issue(loop->http->config.gate, call->grant, now_s(), &token, &err);
    if (rc == 0)
        rc = put_token_answer(call, token, &body);
    free(token);
    if (rc == 0) {
        obs_count(loop->http->config.obs, OBS_TOKENS_ISSUED, 1);
        api_reply(call, 200, &body);
        return;
    }
    buf_fini(&body);
    log_event(loop->http->config.log, LOG_ERROR, "gate.not_issued",
              LOG_TEXT("reason", err.message));
    api_refuse(loop, call->req, OBS_REFUSED_INTERNAL, 500, "internal",
               "the token could not be issued");
}

void api_refuse_failed(struct http_loop *loop, struct evreq *req, const char *table,
                       const struct err *err)
{
    log_event(loop->http->config.log, LOG_ERROR, "gate.failed", LOG_TEXT("table", table),
              LOG_TEXT("reason", err->message));
    if (err->code == ERR_RETRY || err->code == ERR_CANCELLED) {
        evreq_add_header(req, "retry-after", "2");
        api_refuse(loop, req, OBS_REFUSED_NOT_READY, 503, "unavailable",
                   "the database can't be reached just now");
    } else {
        api_refuse(loop, req, OBS_REFUSED_INTERNAL, 500, "internal",
                   "the request could not be decided");
    }
}

static void answer_decision(struct api_call *call)
{
    struct http_loop *loop = call->loop;

    switch (call->decision) {
    case GATE_GRANTED:
        answer_granted(call);
        return;
    case GATE_FORBIDDEN:
        api_refuse(loop, call->req, OBS_REFUSED_FORBIDDEN, 403, "forbidden",
                   "access to this shape is not allowed");
        return;
    case GATE_ASK:
    case GATE_FAILED:
        api_refuse_failed(loop, call->req, gate_request_table(call->request), &call->err);
        return;
    }
}

static void run_decided(struct evloop_task *task)
{
    struct api_call *call = LIST_ENTRY(task, struct api_call, task);

    call->away = false;
    if (call->req)
        answer_decision(call);
    else
        api_call_free(call);
}

void api_ask(struct api_call *call, pool_job_fn *ask,
             void (*decided)(struct evloop_task *task))
{
    struct http_loop *loop = call->loop;

    call->task.run = decided;
    call->away = true;
    if (pool_submit(loop->http->config.gate_pool, ask, call) == 0)
        return;
    call->away = false;
    evreq_add_header(call->req, "retry-after", "1");
    api_refuse(loop, call->req, OBS_REFUSED_NOT_READY, 503, "busy",
               "too many requests are waiting");
}

void api_asked(struct api_call *call)
{
    if (evloop_post(call->loop->ev, &call->task) != 0)
        api_call_free(call); /* the loop has ended */
}

/* On a worker of the pool. */
static void ask(void *ctx, PGconn *conn, const struct err *why)
{
    struct api_call *call = ctx;

    call->decision = GATE_FAILED;
    if (conn)
        call->decision = gate_authorise(call->loop->http->config.gate, conn, call->token,
                                        call->request, &call->grant, &call->err);
    else
        call->err = *why;
    api_asked(call);
}

static void exchange(struct api_call *call)
{
    struct http_loop *loop = call->loop;
    const struct http_config *c = &loop->http->config;
    struct slice body = evreq_body(call->req);

    if (!body.ptr || body.len > c->write_max_bytes) {
        api_refuse(loop, call->req, OBS_REFUSED_TOO_LARGE, 413, "too_large",
                   "the body is too large");
        return;
    }
    if (gate_read_request(body, call->match.rest, &call->request, &call->err) != 0) {
        api_refuse(loop, call->req, OBS_REFUSED_INVALID, 400, "invalid_request",
                   call->err.message);
        return;
    }
    call->decision = gate_decide(c->gate, call->token, call->request, &call->grant);
    if (call->decision != GATE_ASK) {
        answer_decision(call);
        return;
    }
    api_ask(call, ask, run_decided);
}

/* --- The request --- */

static bool needs_token(const struct api_match *m)
{
    return m->kind != API_ROUTE || route_needs_token(m->route);
}

struct api_call *api_call_new(struct http_loop *loop, struct evreq *req,
                              const struct api_match *m, const char *path,
                              struct token *token)
{
    struct api_call *call = calloc(1, sizeof *call);

    if (!call || strlen(path) >= sizeof call->path) {
        free(call);
        token_release(token);
        api_refuse(loop, req, OBS_REFUSED_INVALID, 414, "too_large",
                   "the path is too long");
        return NULL;
    }
    call->loop = loop;
    call->req = req;
    call->match = *m;
    call->token = token;
    memcpy(call->path, path, strlen(path) + 1);
    call->match.rest = m->rest.len > 0
                           ? slice_make(call->path + (m->rest.ptr - path), m->rest.len)
                           : m->rest;
    arena_init(&call->arena, WRITE_ARENA_MAX);
    buf_init(&call->answers, API_ANSWER_MAX_BYTES);
    evreq_on_finish(req, on_finish, call);
    return call;
}

/* Takes the token. */
static void begin_call_of(struct http_loop *loop, struct evreq *req,
                          const struct api_match *m, const char *path,
                          struct token *token)
{
    struct api_call *call = api_call_new(loop, req, m, path, token);

    if (!call)
        return;
    if (m->kind == API_EXCHANGE || m->kind == API_GATEKEEPER)
        exchange(call);
    else
        api_write(call);
}

static void begin(struct http_loop *loop, struct evreq *req, const struct api_match *m,
                  const char *path, struct slice query)
{
    struct token *token = NULL;

    if (m->kind == API_WRONG_METHOD) {
        api_refuse(loop, req, OBS_REFUSED_NOT_ALLOWED, 405, "method_not_allowed",
                   "the path has no such method");
        return;
    }
    if (m->kind == API_SHAPE || m->kind == API_PROXY) {
        guarded_shape(loop, req, query, m->kind == API_PROXY);
        return;
    }
    if (needs_token(m) && !authenticate(loop, req, &token))
        return;
    bool shape = m->kind == API_ROUTE && route_kind(m->route) == ROUTE_SHAPE;
    if (!shape && !within_rate(loop, req, token)) {
        token_release(token);
        return;
    }
    if (shape)
        api_shape(loop, req, m, path, query, token);
    else
        begin_call_of(loop, req, m, path, token);
}

bool api_request(struct http_loop *loop, struct evreq *req, const char *path,
                 struct slice query)
{
    struct api_match m;

    if (!match(&loop->http->config, slice_of(path), evreq_method(req), &m))
        return false;
    respond_base(req, &loop->http->respond, RESPOND_API, http_loop_random(loop));
    if (evreq_method(req) == EVREQ_OPTIONS) {
        respond_options(req);
        return true;
    }
    if (needs_token(&m))
        respond_guarded(req);
    begin(loop, req, &m, path, query);
    return true;
}
