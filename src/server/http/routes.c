/* Which route a request means, and the routes that are not shapes (shape-protocol.md 1.1, 1.9,
 * 8.3). */
#include "server/http/stage.h"

#include <stdlib.h>

#include "server/http/query.h"
#include "json/json.h"

#define PATH_MAX_BYTES        1024
#define QUERY_ARENA_MAX_BYTES (1024u * 1024)
#define HEALTH_MAX_BYTES      8192
#define METRICS_MAX_BYTES     (1024u * 1024)
#define EXTRA_MAX_BYTES       (64u * 1024 * 1024)
#define LOG_QUERY_MAX_BYTES   1024

static bool is_read(enum evreq_method method)
{
    return method == EVREQ_GET || method == EVREQ_HEAD;
}

static void count_refusal(struct http_loop *loop, enum obs_refusal reason)
{
    obs_refused(loop->http->config.obs, reason);
}

static void not_found(struct http_loop *loop, struct evreq *req)
{
    count_refusal(loop, OBS_REFUSED_NOT_FOUND);
    respond_plain(req, 404, NULL, SLICE_LIT("Not found"));
}

static void reply_internal(struct evreq *req)
{
    respond_plain(req, 500, RESPOND_JSON,
                  SLICE_LIT("{\"error\":\"Internal server error\"}"));
}

/* 0, ERR_INVALID (not UTF-8), ERR_MEMORY. */
static int check_query(struct slice query)
{
    struct query_pair pair;
    struct arena arena;
    int rc;

    arena_init(&arena, QUERY_ARENA_MAX_BYTES);
    while ((rc = query_next(&query, &arena, &pair)) > 0)
        ;
    arena_fini(&arena);
    return rc;
}

/* --- Health --- */

struct health_question {
    bool verbose;
    bool trusted; /* the secret, where there is one, was given */
};

static struct health_question read_health_query(struct http_loop *loop,
                                                struct slice query)
{
    struct health_question q = {.trusted = !loop->http->secret};
    struct query_pair pair;
    struct arena arena;

    arena_init(&arena, QUERY_ARENA_MAX_BYTES);
    while (query_next(&query, &arena, &pair) > 0) {
        if (slice_eq(pair.key, SLICE_LIT("verbose")))
            q.verbose = !slice_eq(pair.value, SLICE_LIT("false"));
        else if (slice_eq(pair.key, SLICE_LIT("secret")))
            q.trusted = http_secret_fits(loop->http, pair.value);
    }
    arena_fini(&arena);
    return q;
}

static const char *health_word(const struct shapes *shapes, enum shapes_service service)
{
    switch (service) {
    case SHAPES_ACTIVE:
        return "active";
    case SHAPES_WAITING:
        return "waiting";
    case SHAPES_STARTING:
        break;
    }
    return shapes_contact(shapes) == SHAPES_CONTACT_MADE ? "starting" : "waiting";
}

/* Without `verbose` the body is what Electric's tools expect, to the byte. The detail may
 * name roles and addresses: it is for those who know the secret. */
static void health(struct http_loop *loop, struct evreq *req, struct slice query)
{
    const struct shapes *shapes = loop->http->config.shapes;
    struct health_question q = read_health_query(loop, query);
    struct shapes_health h;
    struct buf body;

    shapes_health(shapes, &h);
    buf_init(&body, HEALTH_MAX_BYTES);
    buf_printf(&body, "{\"status\":\"%s\"", health_word(shapes, h.service));
    if (q.verbose)
        buf_printf(&body, ",\"lag_ms\":%lld", (long long)h.lag_ms);
    if (q.verbose && q.trusted && h.detail[0]) {
        buf_puts(&body, ",\"detail\":");
        json_put_untrusted(&body, slice_of(h.detail));
    }
    buf_putc(&body, '}');
    respond_vary(req);
    evreq_add_header(req, "cache-control", "no-cache, no-store, must-revalidate");
    evreq_add_header(req, "content-type", RESPOND_JSON);
    evreq_reply(req,
                body.failed                  ? 500
                : h.service == SHAPES_ACTIVE ? 200
                                             : 202,
                buf_slice(&body));
    buf_fini(&body);
}

/* --- Routes of the wiring: answered on a worker thread --- */

struct extra_call {
    struct evloop_task task;
    struct http_loop *loop;
    struct evreq *req; /* NULL: the client has left */
    struct http_extra_request request;
    struct http_extra_response response;
    char path[PATH_MAX_BYTES];
    char *query;
    char *body;
    char *content_type; /* NULL: not sent; origin and host likewise */
    char *origin;
    char *host;
    bool answered;
};

static void extra_free(struct extra_call *call)
{
    buf_fini(&call->response.body);
    free(call->query);
    free(call->body);
    free(call->content_type);
    free(call->origin);
    free(call->host);
    free(call);
}

/* A copy for the worker, NULL when the header was not sent. */
static bool extra_header(const struct evreq *req, const char *name, char **out)
{
    struct slice value = evreq_header(req, name);

    *out = value.ptr ? slice_dup(value) : NULL;
    return !value.ptr || *out;
}

static void extra_finish(void *ctx, bool complete)
{
    struct extra_call *call = ctx;

    (void)complete;
    call->req = NULL;
    if (call->answered)
        extra_free(call);
}

static void extra_answered(struct evloop_task *task)
{
    struct extra_call *call = LIST_ENTRY(task, struct extra_call, task);
    const struct http_extra_response *response = &call->response;

    call->answered = true;
    if (!call->req) {
        extra_free(call);
        return;
    }
    if (response->body.failed || response->status == 0)
        reply_internal(call->req);
    else
        respond_plain(call->req, response->status, response->content_type,
                      buf_slice(&response->body));
}

static void extra_run(void *ctx, PGconn *conn, const struct err *why)
{
    struct extra_call *call = ctx;
    const struct http_extra *extra = call->loop->http->config.extra;

    (void)why;
    extra->handle(extra->ctx, conn, &call->request, &call->response);
    if (evloop_post(call->loop->ev, &call->task) != 0)
        extra_free(call); /* the loop has ended */
}

static void extra_begin(struct http_loop *loop, struct evreq *req, const char *path,
                        struct slice query)
{
    struct extra_call *call = calloc(1, sizeof *call);
    struct slice body = evreq_body(req);

    if (call) {
        call->query = slice_dup(query);
        call->body = slice_dup(body);
    }
    if (!call || !call->query || !call->body ||
        !extra_header(req, "content-type", &call->content_type) ||
        !extra_header(req, "origin", &call->origin) ||
        !extra_header(req, "host", &call->host)) {
        if (call)
            extra_free(call);
        evreq_abort(req);
        return;
    }
    call->task.run = extra_answered;
    call->loop = loop;
    call->req = req;
    memcpy(call->path, path, strlen(path) + 1);
    buf_init(&call->response.body, EXTRA_MAX_BYTES);
    call->request =
        (struct http_extra_request){.method = evreq_method_name(evreq_method(req)),
                                    .path = call->path,
                                    .query = slice_make(call->query, query.len),
                                    .body = slice_make(call->body, body.len),
                                    .content_type = slice_of(call->content_type),
                                    .origin = slice_of(call->origin),
                                    .host = slice_of(call->host)};
    evreq_on_finish(req, extra_finish, call);
    if (pool_submit(loop->http->config.extra->pool, extra_run, call) != 0) {
        call->answered = true;
        count_refusal(loop, OBS_REFUSED_NOT_READY);
        evreq_add_header(req, "retry-after", "1");
        respond_plain(req, 503, RESPOND_JSON,
                      SLICE_LIT("{\"message\":\"Too many requests are waiting, please "
                                "retry\"}"));
    }
}

/* --- Matching --- */

static void log_request(struct http_loop *loop, struct evreq *req, struct slice path,
                        struct slice query)
{
    const struct log *log = loop->http->config.log;
    struct buf redacted;

    if (!log || log->level > LOG_DEBUG)
        return;
    buf_init(&redacted, EVLOOP_TARGET_MAX_BYTES * 2);
    query_redact(query, &redacted);
    struct slice shown = buf_slice(&redacted);
    shown.len = shown.len < LOG_QUERY_MAX_BYTES ? shown.len : LOG_QUERY_MAX_BYTES;
    log_event(log, LOG_DEBUG, "http.request",
              LOG_TEXT("method", evreq_method_name(evreq_method(req))),
              LOG_SLICE("path", path), LOG_SLICE("query", shown));
    buf_fini(&redacted);
}

static void route_shape(struct http_loop *loop, struct evreq *req, struct slice query)
{
    enum evreq_method method = evreq_method(req);

    if (method == EVREQ_OPTIONS)
        respond_options(req);
    else
        shape_request_begin(loop, req, query);
}

static bool serves_shape(enum evreq_method method)
{
    return is_read(method) || method == EVREQ_POST || method == EVREQ_DELETE ||
           method == EVREQ_OPTIONS;
}

static void route(struct http_loop *loop, struct evreq *req, struct slice raw_path,
                  struct slice query)
{
    const struct http_extra *extra = loop->http->config.extra;
    enum evreq_method method = evreq_method(req);
    char path[PATH_MAX_BYTES];

    if (!query_normalise_path(raw_path, path, sizeof path))
        path[0] = '\0';
    bool shape = strcmp(path, "/v1/shape") == 0 && serves_shape(method);
    respond_base(req, &loop->http->respond, shape ? RESPOND_SHAPE : RESPOND_OTHER,
                 http_loop_random(loop));
    if (shape)
        route_shape(loop, req, query);
    else if (path[0] && api_request(loop, req, path, query))
        return;
    else if (extra && path[0] &&
             extra->matches(extra->ctx, evreq_method_name(method), path))
        extra_begin(loop, req, path, query);
    else if (is_read(method) && strcmp(path, "/v1/health") == 0)
        health(loop, req, query);
    else if (is_read(method) && strcmp(path, "/") == 0)
        respond_plain(req, 200, NULL, slice_make("", 0));
    else
        not_found(loop, req);
}

void routes_request(void *ctx, struct evreq *req)
{
    struct http_loop *loop = ctx;
    struct slice target = evreq_target(req);
    struct slice path;
    struct slice query;
    int rc;

    query_split_target(target, &path, &query);
    log_request(loop, req, path, query);
    if (target.len > EVLOOP_TARGET_MAX_BYTES) {
        count_refusal(loop, OBS_REFUSED_TOO_LARGE);
        evreq_reply_close(req, 414, slice_make("", 0));
    } else if ((rc = check_query(query)) == ERR_INVALID) {
        count_refusal(loop, OBS_REFUSED_INVALID);
        evreq_reply_close(req, 400, slice_make("", 0));
    } else if (rc != 0) {
        count_refusal(loop, OBS_REFUSED_INTERNAL);
        reply_internal(req);
    } else {
        route(loop, req, path, query);
    }
}

void routes_metrics(void *ctx, struct evreq *req)
{
    struct http_loop *loop = ctx;
    struct slice path;
    struct slice query;
    struct buf text;

    query_split_target(evreq_target(req), &path, &query);
    if (!is_read(evreq_method(req)) || !slice_eq(path, SLICE_LIT("/metrics"))) {
        evreq_reply(req, 404, SLICE_LIT("Not found"));
        return;
    }
    struct shapes_health h;
    shapes_health(loop->http->config.shapes, &h);
    obs_set(loop->http->config.obs, OBS_G_ACTIVE, h.service == SHAPES_ACTIVE);
    obs_set(loop->http->config.obs, OBS_G_LAG_MS, h.lag_ms);
    buf_init(&text, METRICS_MAX_BYTES);
    obs_render(loop->http->config.obs, &text);
    evreq_add_header(req, "content-type", "text/plain; version=0.0.4; charset=utf-8");
    evreq_reply(req, text.failed ? 500 : 200, buf_slice(&text));
    buf_fini(&text);
}
