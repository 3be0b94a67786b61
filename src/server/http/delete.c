/* DELETE of a shape (shape-protocol.md 1.8). */
#include "server/http/stage.h"

static void not_found(struct shape_request *r)
{
    shape_request_message(r, OBS_REFUSED_NOT_FOUND, 404, "No existing shape found", 0,
                          false);
}

/* The shape of the definition; an answer was given when NULL. */
static struct shape *by_definition(struct shape_request *r)
{
    struct slice handle = r->params->handle;

    if (shape_request_define(r) != 0) {
        shape_request_internal(r);
        return NULL;
    }
    struct shape *shape = shapes_by_def(r->loop->http->config.shapes, r->def);
    if (!shape) {
        not_found(r);
        return NULL;
    }
    if (handle.len > 0 && !slice_eq(handle, slice_of(shape_handle(shape)))) {
        shape_release(shape);
        shape_request_message(
            r, OBS_REFUSED_INVALID, 400,
            "The specified shape definition and handle do not match. Please "
            "ensure the shape definition is correct or omit the shape "
            "handle from the request to obtain a new one.",
            0, false);
        return NULL;
    }
    return shape;
}

void delete_run(struct shape_request *r)
{
    struct shape *shape;

    if (r->params->has_table) {
        shape = by_definition(r);
    } else {
        shape = shapes_by_handle(r->loop->http->config.shapes, r->params->handle);
        if (!shape)
            not_found(r);
    }
    if (!shape)
        return;
    r->shape = shape;
    if (answer_ask_removal(r) != 0)
        shape_request_internal(r);
}

void shape_request_removed(struct shape_request *r, const struct err *err)
{
    if (err && err->code == ERR_NOT_FOUND) {
        not_found(r);
        return;
    }
    if (err) {
        shape_request_not_ready(r, HTTP_RETRY_NOT_READY_S);
        return;
    }
    shape_request_enter(r, REQUEST_ANSWERED);
    respond_vary(r->req);
    evreq_add_header(r->req, "content-type", RESPOND_JSON);
    evreq_add_header(r->req, "cache-control", "no-cache");
    evreq_add_header(r->req, "electric-has-data", "true");
    evreq_reply(r->req, 202, slice_make("", 0));
}
