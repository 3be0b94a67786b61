/* Routes that are shapes: the caller's own token grants them, at each request anew.
 *
 * The clause is the routes file's, and knows nothing of row-level security; so, unless the file says
 * that it may be passed by, a table that has it is refused. Postgres is asked about that once a
 * second at most. */
#include "server/http/api.h"

static void refuse_secured(struct http_loop *loop, struct evreq *req)
{
    api_refuse(loop, req, OBS_REFUSED_FORBIDDEN, 403, "forbidden",
               "access to this shape is not allowed");
}

static void serve_route(struct http_loop *loop, struct evreq *req,
                        const struct route *route, struct slice path, struct slice query,
                        const struct token *token)
{
    json_t *json = NULL;
    struct grant grant;
    struct err err = {0};
    int rc = route_grant(route, path, token, &json, &err);

    if (rc == 0 && grant_read(json, &grant) == 0) {
        const struct guard guard = {&grant, token ? token->ends_s : 0,
                                    token ? token->expires_s : 0, false};

        shape_request_begin_guarded(loop, req, query, &guard);
    } else if (rc == ERR_NOT_FOUND) {
        api_refuse(loop, req, OBS_REFUSED_FORBIDDEN, 403, "forbidden", err.message);
    } else if (rc == ERR_INVALID) {
        api_refuse(loop, req, OBS_REFUSED_INVALID, 400, "invalid_request", err.message);
    } else {
        api_refuse(loop, req, OBS_REFUSED_INTERNAL, 500, "internal", "the shape failed");
    }
    gate_json_free(json);
}

static void answer(struct api_call *call)
{
    const struct route *route = call->match.route;

    if (call->decision == GATE_GRANTED)
        serve_route(call->loop, call->req, route, slice_of(call->path), call->query,
                    call->token);
    else if (call->decision == GATE_FORBIDDEN)
        refuse_secured(call->loop, call->req);
    else
        api_refuse_failed(call->loop, call->req, route_guarded_table(route), &call->err);
}

/* The request becomes the shape's, or is answered: either way it is not the call's any more. */
static void run_decided(struct evloop_task *task)
{
    struct api_call *call = LIST_ENTRY(task, struct api_call, task);
    struct evreq *req = call->req;

    if (req) {
        evreq_on_finish(req, NULL, NULL);
        answer(call);
    }
    api_call_free(call);
}

/* On a worker of the pool. */
static void ask(void *ctx, PGconn *conn, const struct err *why)
{
    struct api_call *call = ctx;

    if (!conn)
        call->err = *why;
    call->decision = gate_table_ask(call->loop->http->config.gate, conn,
                                    route_guarded_table(call->match.route), &call->err);
    api_asked(call);
}

void api_shape(struct http_loop *loop, struct evreq *req, const struct api_match *m,
               const char *path, struct slice query, struct token *token)
{
    const char *table = route_guarded_table(m->route);
    enum gate_decision decision =
        table ? gate_table_known(loop->http->config.gate, table) : GATE_GRANTED;
    struct api_call *call = NULL;

    if (decision == GATE_GRANTED) {
        serve_route(loop, req, m->route, slice_of(path), query, token);
    } else if (decision == GATE_FORBIDDEN) {
        refuse_secured(loop, req);
    } else {
        call = api_call_new(loop, req, m, path, token);
        if (!call)
            return;
        call->query = query;
        api_ask(call, ask, run_decided);
        return;
    }
    token_release(token);
}
