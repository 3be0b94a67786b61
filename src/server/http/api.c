/* The routes of gatekeeper and write path (docs/gatekeeper.md, docs/writing.md).
 *
 *   request ─▶ match ─▶ who (a token) ─▶ how often ─▶ shape:  guard.c, shape_request.c
 *                                                   ├▶ token:  policy, or a pool's worker asks
 *                                                   └▶ write:  a job of the writer
 *
 * A call belongs to its loop; while the pool or the writer has it (`away`) it outlives its client, and
 * comes back as a task. Each transaction of a batch is a job of its own, sent when the one before has
 * been committed. */
#include "server/http/stage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "server/http/query.h"
#include "json/json.h"

#define ANSWER_MAX_BYTES  (32u * 1024 * 1024)
#define TRANSACTIONS_MAX  100
#define ROUTE_SEGMENT_MAX 512

enum api_kind {
    API_EXCHANGE,
    API_GATEKEEPER,
    API_SHAPE,
    API_PROXY,
    API_TRANSACTIONS,
    API_RPC,
    API_ROUTE,
    API_WRONG_METHOD
};

struct api_match {
    enum api_kind kind;
    struct slice rest; /* behind the prefix: a table, a function */
    const struct route *route;
};

struct api_call {
    struct evloop_task task;
    struct http_loop *loop;
    struct evreq *req; /* NULL: the client has left */
    struct api_match match;
    bool away;
    struct token *token; /* NULL: nobody is signed in */
    char path[ROUTE_SEGMENT_MAX * 2];

    /* EXCHANGE, GATEKEEPER */
    json_t *request;
    json_t *grant;
    enum gate_decision decision;
    struct err err;

    /* Writes */
    struct write_job *job;
    struct arena arena; /* of the batch */
    struct write_batch batch;
    size_t done;        /* transactions of it */
    struct buf answers; /* theirs, in a list */
};

/* --- Answers --- */

static void call_free(struct api_call *call)
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
        call_free(call);
}

/* Answering may free the call. */
static void reply(struct api_call *call, int status, struct buf *body)
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

static void refuse(struct http_loop *loop, struct evreq *req, enum obs_refusal reason,
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
    refuse(loop, req, OBS_REFUSED_RATE, 429, "rate_limit",
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
    const struct guard guard = {&grant, token->expires_s, exact};
    shape_request_begin_guarded(loop, req, query, &guard);
    token_release(token);
}

/* A route that is a shape: the caller's own token grants it, each time anew. */
static void route_shape(struct http_loop *loop, struct evreq *req, struct slice path,
                        struct slice query, const struct route *route,
                        const struct token *token)
{
    json_t *json = NULL;
    struct grant grant;
    struct err err = {0};
    int rc = route_grant(route, path, token, &json, &err);

    if (rc == 0 && grant_read(json, &grant) == 0) {
        const struct guard guard = {&grant, token ? token->expires_s : 0, false};

        shape_request_begin_guarded(loop, req, query, &guard);
    } else if (rc == ERR_NOT_FOUND) {
        refuse(loop, req, OBS_REFUSED_FORBIDDEN, 403, "forbidden", err.message);
    } else if (rc == ERR_INVALID) {
        refuse(loop, req, OBS_REFUSED_INVALID, 400, "invalid_request", err.message);
    } else {
        refuse(loop, req, OBS_REFUSED_INTERNAL, 500, "internal", "the shape failed");
    }
    gate_json_free(json);
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

    buf_init(&body, ANSWER_MAX_BYTES);
    int rc = gate_issue(loop->http->config.gate, call->grant, now_s(), &token, &err);
    if (rc == 0)
        rc = put_token_answer(call, token, &body);
    free(token);
    if (rc == 0) {
        obs_count(loop->http->config.obs, OBS_TOKENS_ISSUED, 1);
        reply(call, 200, &body);
        return;
    }
    buf_fini(&body);
    log_event(loop->http->config.log, LOG_ERROR, "gate.not_issued",
              LOG_TEXT("reason", err.message));
    refuse(loop, call->req, OBS_REFUSED_INTERNAL, 500, "internal",
           "the token could not be issued");
}

static void answer_decision(struct api_call *call)
{
    struct http_loop *loop = call->loop;

    switch (call->decision) {
    case GATE_GRANTED:
        answer_granted(call);
        return;
    case GATE_FORBIDDEN:
        refuse(loop, call->req, OBS_REFUSED_FORBIDDEN, 403, "forbidden",
               "access to this shape is not allowed");
        return;
    case GATE_ASK:
    case GATE_FAILED:
        log_event(loop->http->config.log, LOG_ERROR, "gate.failed",
                  LOG_TEXT("table", gate_request_table(call->request)),
                  LOG_TEXT("reason", call->err.message));
        if (call->err.code == ERR_RETRY || call->err.code == ERR_CANCELLED) {
            evreq_add_header(call->req, "retry-after", "2");
            refuse(loop, call->req, OBS_REFUSED_NOT_READY, 503, "unavailable",
                   "the database can't be reached just now");
        } else {
            refuse(loop, call->req, OBS_REFUSED_INTERNAL, 500, "internal",
                   "the request could not be decided");
        }
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
        call_free(call);
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
    if (evloop_post(call->loop->ev, &call->task) != 0)
        call_free(call); /* the loop has ended */
}

static void exchange(struct api_call *call)
{
    struct http_loop *loop = call->loop;
    const struct http_config *c = &loop->http->config;
    struct slice body = evreq_body(call->req);

    if (!body.ptr || body.len > c->write_max_bytes) {
        refuse(loop, call->req, OBS_REFUSED_TOO_LARGE, 413, "too_large",
               "the body is too large");
        return;
    }
    if (gate_read_request(body, call->match.rest, &call->request, &call->err) != 0) {
        refuse(loop, call->req, OBS_REFUSED_INVALID, 400, "invalid_request",
               call->err.message);
        return;
    }
    call->decision = gate_decide(c->gate, call->token, call->request, &call->grant);
    if (call->decision != GATE_ASK) {
        answer_decision(call);
        return;
    }
    call->task.run = run_decided;
    call->away = true;
    if (pool_submit(c->gate_pool, ask, call) == 0)
        return;
    call->away = false;
    evreq_add_header(call->req, "retry-after", "1");
    refuse(loop, call->req, OBS_REFUSED_NOT_READY, 503, "busy",
           "too many requests are waiting");
}

/* --- Writes: the answer --- */

static void put_id(const struct api_call *call, const struct write_job *job,
                   struct buf *out)
{
    if (call->match.kind != API_TRANSACTIONS || job->id.len == 0)
        return;
    buf_puts(out, ",\"id\":");
    json_put_untrusted(out, job->id);
}

/* The members of an object that a function gave, but for those that are ours. */
static void put_members(struct slice object, struct buf *out)
{
    static const char *const ours[] = {"success", "txid", "lsn", "replayed"};
    struct json_reader r;

    json_reader_init(&r, object);
    json_next(&r);
    while (json_next(&r) == JSON_NAME) {
        size_t mark = out->len;
        bool skip = false;

        for (size_t i = 0; i < 4; i++)
            skip |= slice_eq(r.text, slice_of(ours[i]));
        buf_putc(out, ',');
        json_put_string(out, r.text);
        size_t before = r.pos;
        enum json_event event = json_next(&r);
        if ((event == JSON_OBJECT_BEGIN || event == JSON_ARRAY_BEGIN) &&
            !json_skip(&r, event))
            break;
        buf_put(out, object.ptr + before, r.pos - before); /* with its colon */
        if (skip && !out->failed)
            buf_truncate(out, mark);
    }
    json_reader_fini(&r);
}

static void put_value(const struct api_call *call, const struct write_job *job,
                      struct buf *out)
{
    struct slice value = slice_trim(buf_slice(&job->result.value));

    if (!job->call)
        return;
    if (call->match.kind == API_ROUTE && value.len > 0 && value.ptr[0] == '{') {
        put_members(value, out);
        return;
    }
    buf_puts(out, ",\"result\":");
    buf_put_slice(out, value.len > 0 ? value : SLICE_LIT("null"));
}

static void put_success(const struct api_call *call, const struct write_job *job,
                        struct buf *out)
{
    const struct write_result *r = &job->result;

    buf_puts(out, "{\"success\":true");
    put_id(call, job, out);
    if (r->has_txid)
        buf_printf(out, ",\"txid\":%u", r->txid);
    else
        buf_puts(out, ",\"txid\":null");
    if (r->lsn != 0)
        buf_printf(out, ",\"lsn\":\"%llu\"", (unsigned long long)r->lsn);
    if (r->replayed)
        buf_puts(out, ",\"replayed\":true");
    put_value(call, job, out);
    if (call->match.kind == API_ROUTE && !job->call)
        buf_puts(out, ",\"status\":\"OK\"");
    buf_putc(out, '}');
}

static void put_text(struct buf *out, const char *name, const char *text)
{
    if (text[0] == '\0')
        return;
    buf_printf(out, ",\"%s\":", name);
    json_put_untrusted(out, slice_of(text));
}

static void put_failure(const struct api_call *call, const struct write_job *job,
                        struct buf *out)
{
    const struct write_result *r = &job->result;

    buf_printf(out, "{\"success\":false");
    put_id(call, job, out);
    put_text(out, "code", write_failure_info(r->failure)->code);
    put_text(out, "message", r->message);
    if (r->mutation >= 0)
        buf_printf(out, ",\"mutation\":%d", r->mutation);
    put_text(out, "table", r->table);
    put_text(out, "column", r->column);
    put_text(out, "constraint", r->constraint);
    if (call->match.kind == API_ROUTE) { /* what the write patterns look at */
        buf_puts(out, ",\"errors\":[");
        json_put_untrusted(out, slice_of(r->message));
        buf_putc(out, ']');
    }
    buf_putc(out, '}');
}

static void put_job(struct api_call *call, struct buf *out)
{
    struct http_loop *loop = call->loop;

    if (call->job->result.failure == WRITE_DONE) {
        obs_count(loop->http->config.obs, OBS_WRITES, 1);
        put_success(call, call->job, out);
        return;
    }
    count(loop, OBS_REFUSED_WRITE);
    log_event(loop->http->config.log, LOG_DEBUG, "write.refused",
              LOG_TEXT("reason", write_failure_info(call->job->result.failure)->code));
    put_failure(call, call->job, out);
}

static void add_retry_after(struct api_call *call)
{
    int seconds = write_failure_info(call->job->result.failure)->retry_after_s;
    char text[16];

    if (seconds == 0)
        return;
    snprintf(text, sizeof text, "%d", seconds);
    evreq_add_header(call->req, "retry-after", text);
}

static void answer_write(struct api_call *call)
{
    int status = call->job->result.failure == WRITE_DONE ? 200 : call->job->result.status;
    struct buf body;

    buf_init(&body, ANSWER_MAX_BYTES);
    if (call->batch.is_list)
        buf_printf(&body, "{\"success\":%s,\"transactions\":[",
                   status == 200 ? "true" : "false");
    buf_put_slice(&body, buf_slice(&call->answers));
    if (call->answers.failed)
        body.failed = call->answers.failed;
    if (call->batch.is_list)
        buf_puts(&body, "]}");
    add_retry_after(call);
    reply(call, status, &body);
}

/* --- Writes: the jobs --- */

static void next_job(struct api_call *call);

/* On the loop's thread: a job has ended. */
static void run_done(struct evloop_task *task)
{
    struct api_call *call = LIST_ENTRY(task, struct api_call, task);
    bool more;

    call->away = false;
    if (!call->req) {
        call_free(call);
        return;
    }
    if (call->done > 0)
        buf_putc(&call->answers, ',');
    put_job(call, &call->answers);
    call->done++;
    more = call->job->result.failure == WRITE_DONE && call->done < call->batch.count;
    if (more)
        next_job(call);
    else
        answer_write(call);
}

/* On a thread of the writer. */
static void on_done(struct write_job *job)
{
    struct api_call *call = job->ctx;

    if (evloop_post(call->loop->ev, &call->task) != 0)
        call_free(call); /* the loop has ended */
}

static void submit(struct api_call *call)
{
    call->task.run = run_done;
    call->away = true;
    if (writer_submit(call->loop->http->config.writer, call->job) == 0)
        return;
    call->away = false;
    write_refuse(call->job, WRITE_FAILED_BUSY, "%s",
                 write_failure_info(WRITE_FAILED_BUSY)->text);
    put_job(call, &call->answers);
    answer_write(call);
}

/* A refusal before anything was sent. */
static void refuse_write(struct api_call *call, enum write_failure why,
                         const char *message)
{
    write_refuse(call->job, why, "%s", message);
    put_job(call, &call->answers);
    answer_write(call);
}

/* The caller's identity, copied into the job; ERR_INVALID: refused. */
static int set_identity(struct api_call *call)
{
    const struct gate *gate = call->loop->http->config.gate;
    const struct token *token = call->token;
    struct write_job *job = call->job;

    if (gate_role(gate, token, &job->role) != 0)
        return ERR_INVALID;
    job->subject = arena_dup(&job->arena, slice_of(token ? token->subject : ""));
    job->claims = arena_dup(&job->arena, slice_of(token ? token->claims_text : "{}"));
    job->done = on_done;
    job->ctx = call;
    return job->subject && job->claims ? 0 : ERR_MEMORY;
}

/* A fresh job; false: answered. */
static bool make_job(struct api_call *call)
{
    write_job_free(call->job);
    call->job = write_job_new();
    int rc = call->job ? set_identity(call) : ERR_MEMORY;
    if (rc == 0)
        return true;
    if (!call->job || rc == ERR_MEMORY)
        refuse(call->loop, call->req, OBS_REFUSED_INTERNAL, 500, "internal",
               "the write failed");
    else
        refuse_write(call, WRITE_FAILED_FORBIDDEN,
                     "the token's role is not one that may write");
    return false;
}

/* The next transaction of the batch. */
static void next_job(struct api_call *call)
{
    const struct write_transaction *t = &call->batch.transactions[call->done];

    if (!make_job(call))
        return;
    call->job->transaction = t;
    call->job->id = t->id;
    token_hash(t->raw, call->job->hash);
    submit(call);
}

static void begin_transactions(struct api_call *call, struct slice body)
{
    const struct http_config *c = &call->loop->http->config;
    const struct write_limits limits = {c->write_max_mutations, TRANSACTIONS_MAX};
    struct slice copy = slice_make(arena_dup(&call->arena, body), body.len);

    if (!make_job(call))
        return;
    int rc = copy.ptr ? write_batch_parse(copy, &limits, &call->arena, &call->batch,
                                          &call->err)
                      : ERR_MEMORY;
    if (rc != 0) /* the answer is one refusal, not a list */
        call->batch = (struct write_batch){.count = 0};
    if (rc == 0)
        next_job(call);
    else if (rc == ERR_LIMIT)
        refuse_write(call, WRITE_FAILED_TOO_LARGE, call->err.message);
    else if (rc == ERR_INVALID)
        refuse_write(call, WRITE_FAILED_INVALID, call->err.message);
    else
        refuse_write(call, WRITE_FAILED_INTERNAL, "the write failed");
}

/* The id of the header, and what the request is, for jobs that are one request. */
static bool set_key(struct api_call *call, struct slice body)
{
    struct write_job *job = call->job;
    struct slice id = slice_trim(evreq_header(call->req, "idempotency-key"));
    struct buf text;

    if (id.len > WRITE_ID_MAX || !slice_is_utf8(id))
        return false;
    char *copy = id.len > 0 ? arena_dup(&job->arena, id) : NULL;
    if (copy)
        job->id = slice_make(copy, id.len);
    buf_init(&text, call->loop->http->config.write_max_bytes + sizeof call->path + 64);
    buf_printf(&text, "%s %s\n", evreq_method_name(evreq_method(call->req)), call->path);
    buf_put_slice(&text, body);
    token_hash(buf_slice(&text), job->hash);
    bool done = !text.failed && (copy || id.len == 0);
    buf_fini(&text);
    return done;
}

static int fill_rpc(struct api_call *call, struct slice body)
{
    struct write_job *job = call->job;
    struct write_call *f = arena_zalloc(&job->arena, sizeof *f);
    char *name = arena_dup(&job->arena, call->match.rest);

    if (!f || !name)
        return ERR_MEMORY;
    f->schema = slice_of(call->loop->http->config.rpc_schema);
    f->name = slice_of(name);
    f->body = body;
    job->call = f;
    int rc = write_values_parse(body, &job->arena, &f->args, &call->err);
    if (rc == ERR_INVALID || rc == ERR_LIMIT)
        write_refuse(job, WRITE_FAILED_INVALID, "%s", call->err.message);
    return rc;
}

static void begin_call(struct api_call *call, struct slice body)
{
    const struct http_config *c = &call->loop->http->config;
    const struct write_limits limits = {c->write_max_mutations, 1};

    if (!make_job(call))
        return;
    struct slice copy = slice_make(arena_dup(&call->job->arena, body), body.len);
    if (!copy.ptr || !set_key(call, body)) {
        refuse_write(call, WRITE_FAILED_INVALID,
                     "the header idempotency-key is too long, or not UTF-8");
        return;
    }
    int rc = call->match.kind == API_RPC
                 ? fill_rpc(call, copy)
                 : route_fill(call->match.route, slice_of(call->path), copy, call->token,
                              &limits, call->job);
    if (rc == 0) {
        submit(call);
    } else if (call->job->result.failure != WRITE_DONE) {
        put_job(call, &call->answers);
        answer_write(call);
    } else {
        refuse_write(call, WRITE_FAILED_INTERNAL, "the write failed");
    }
}

static void begin_write(struct api_call *call)
{
    struct slice body = evreq_body(call->req);

    if (!body.ptr) {
        refuse(call->loop, call->req, OBS_REFUSED_INVALID, 400, "invalid_request",
               "the body could not be read");
    } else if (body.len > call->loop->http->config.write_max_bytes) {
        refuse(call->loop, call->req, OBS_REFUSED_TOO_LARGE, 413, "too_large",
               "the body is larger than COULOMB_WRITE_MAX_BODY allows");
    } else if (call->match.kind == API_TRANSACTIONS) {
        begin_transactions(call, body);
    } else {
        begin_call(call, body);
    }
}

/* --- The request --- */

static bool needs_token(const struct api_match *m)
{
    return m->kind != API_ROUTE || route_needs_token(m->route);
}

/* Takes the token. */
static void begin_call_of(struct http_loop *loop, struct evreq *req,
                          const struct api_match *m, const char *path,
                          struct token *token)
{
    struct api_call *call = calloc(1, sizeof *call);

    if (!call || strlen(path) >= sizeof call->path) {
        free(call);
        token_release(token);
        refuse(loop, req, OBS_REFUSED_INVALID, 414, "too_large", "the path is too long");
        return;
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
    buf_init(&call->answers, ANSWER_MAX_BYTES);
    evreq_on_finish(req, on_finish, call);
    if (m->kind == API_EXCHANGE || m->kind == API_GATEKEEPER)
        exchange(call);
    else
        begin_write(call);
}

static void begin(struct http_loop *loop, struct evreq *req, const struct api_match *m,
                  const char *path, struct slice query)
{
    struct token *token = NULL;

    if (m->kind == API_WRONG_METHOD) {
        refuse(loop, req, OBS_REFUSED_NOT_ALLOWED, 405, "method_not_allowed",
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
    if (!shape) {
        begin_call_of(loop, req, m, path, token);
        return;
    }
    route_shape(loop, req, slice_of(path), query, m->route, token);
    token_release(token);
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
