/* A request that has its shape: waits until there is something to say, then says it
 * (shape-protocol.md 3.4, 3.5, 4.7, 4.9).
 *
 * look() decides by what is published at the moment; where it must wait, the watch is armed
 * and look() runs once more, so that nothing falls between. The LSN that an up-to-date message
 * names is read before the log's end: all that it covers is then part of the answer. */
#include "server/http/stage.h"

#include "base/clock.h"

#define RETRY_STREAM_DOWN_S 10

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static enum respond_class class_of(const struct shape_request *r)
{
    if (r->sse)
        return RESPOND_SSE;
    if (r->live)
        return RESPOND_LIVE;
    if (r->offset_kind == OFFSET_KIND_NOW)
        return RESPOND_NOW;
    return r->after.before_all ? RESPOND_FIRST : RESPOND_CATCH_UP;
}

static struct respond_log answer_of(struct shape_request *r, struct offset end)
{
    struct respond_log answer = {
        .kind = class_of(r),
        .handle = shape_handle(r->shape),
        .schema = shape_schema(r->shape),
        .requested = r->after,
        .end = end,
        .has_data = true,
        .limited = r->ends_s != 0,
        .life_s = r->expires_s - clock_wall_us() / 1000000,
    };

    if (r->live)
        answer.cursor = respond_cursor(r->loop->http->config.long_poll_timeout_ms,
                                       clock_wall_us() / 1000000, slice_of(r->cursor),
                                       http_loop_random(r->loop));
    return answer;
}

static bool not_modified(struct shape_request *r, struct respond_log *answer)
{
    struct slice given = evreq_header(r->req, "if-none-match");
    char etag[RESPOND_ETAG_MAX];

    if (given.len == 0)
        return false;
    size_t len = respond_etag(answer, etag);
    if (!respond_etag_matches(given, slice_make(etag, len)))
        return false;
    answer->not_modified = true;
    shape_request_enter(r, REQUEST_ANSWERED);
    respond_log_headers(r->req, &r->loop->http->respond, answer);
    evreq_reply_empty(r->req, 304);
    return true;
}

void serve_gone(struct shape_request *r)
{
    const struct shape_def *def = shape_definition(r->shape);
    struct err failure = {.code = 0};

    if (shape_failure(r->shape, &failure) != 0 && failure.http_status != 0 &&
        failure.http_status != 409) {
        bool known = failure.http_status == 503;

        if (failure.http_status == 400) { /* the clause, on a row that there is */
            shape_request_invalid(
                r,
                &(struct param_errors){
                    .items = {{.field = "where", .text = failure.message}}, .count = 1});
            return;
        }
        shape_request_message(r, OBS_REFUSED_SNAPSHOT_ERROR, failure.http_status,
                              failure.message, known ? HTTP_RETRY_SNAPSHOT_S : 0, known);
        return;
    }
    struct shape *next = shapes_by_def(r->loop->http->config.shapes, def);
    bool usable = next && next != r->shape && shape_state(next) != SHAPE_GONE;
    shape_request_refetch(r, usable ? shape_handle(next) : NULL);
    if (next)
        shape_release(next);
}

/* An answer of nothing but the control message. */
void serve_control(struct shape_request *r, uint64_t lsn, struct offset end)
{
    struct respond_log answer = answer_of(r, end);
    char control[RESPOND_UP_TO_DATE_MAX];
    char body[RESPOND_UP_TO_DATE_MAX + 2];
    size_t len = respond_up_to_date(lsn, control);

    answer.up_to_date = true;
    answer.has_data = false;
    answer.control_only = true;
    answer.unique = http_loop_unique(r->loop);
    body[0] = '[';
    memcpy(body + 1, control, len);
    body[len + 1] = ']';
    shape_request_enter(r, REQUEST_ANSWERED);
    respond_log_headers(r->req, &r->loop->http->respond, &answer);
    evreq_reply(r->req, 200, slice_make(body, len + 2));
}

/* An event stream shows the end of what it sends at once; a client that loses the connection
 * amid a large part would otherwise go on behind messages that it never got. */
static struct offset shown_end(const struct shape_request *r)
{
    const struct shapelog_found *f = &r->found;
    bool large = f->part == SHAPELOG_SNAPSHOT ||
                 (f->part == SHAPELOG_LOG && f->size_bytes > HTTP_STREAM_BUDGET_BYTES);

    return r->sse && large ? r->after : f->end;
}

static void send(struct shape_request *r, uint64_t last,
                 const struct shapelog_extent *extent)
{
    struct respond_log answer = answer_of(r, shown_end(r));

    r->up_to_date = !r->after.before_all &&
                    offset_cmp(r->found.end, extent->latest) >= 0 &&
                    offset_cmp(r->found.end, r->after) >= 0;
    r->lsn = r->live ? r->found.end.tx : max_u64(last, r->found.end.tx);
    answer.up_to_date = r->up_to_date;
    if (not_modified(r, &answer))
        return;
    respond_log_headers(r->req, &r->loop->http->respond, &answer);
    if (r->sse)
        sse_begin(r);
    else
        stream_begin(r);
}

static bool wait_ahead(struct shape_request *r)
{
    shape_request_enter(r, REQUEST_AHEAD);
    if (list_empty(&r->service_link))
        list_push(&r->loop->service_waits, &r->service_link);
    return false;
}

/* A live request at the end of the log. */
static bool park(struct shape_request *r, uint64_t last)
{
    struct respond_log answer = answer_of(r, r->found.end);

    answer.up_to_date = true;
    if (not_modified(r, &answer))
        return true;
    if (!r->expired && !r->loop->stopping) {
        shape_request_enter(r, REQUEST_LIVE);
        return false;
    }
    serve_control(r, max_u64(last, r->found.end.tx), r->found.end);
    return true;
}

static bool now(struct shape_request *r, uint64_t last, struct offset latest)
{
    struct respond_log answer = answer_of(r, latest);

    answer.up_to_date = true;
    if (!not_modified(r, &answer))
        serve_control(r, max_u64(last, latest.tx), latest);
    return true;
}

/* False: nothing to say yet; r is in the state that says what it waits for. */
static bool look(struct shape_request *r)
{
    struct http *http = r->loop->http;
    struct shapelog_shape *log = shape_log(r->shape);
    struct shapelog_extent extent;
    enum shape_state state = shape_state(r->shape);

    if (state == SHAPE_GONE) {
        serve_gone(r);
        return true;
    }
    if (state == SHAPE_PREPARING) {
        shape_request_enter(r, REQUEST_STARTING);
        return false;
    }
    r->permit = admission_swap(&http->admission, r->permit);
    uint64_t last = shapes_seen_lsn(http->config.shapes);
    shapelog_extent(log, &extent);
    bool ahead = r->offset_kind != OFFSET_KIND_NOW && !r->after.before_all &&
                 offset_cmp(extent.latest, r->after) < 0;
    if (r->subset && (!ahead || shapes_caught_up(http->config.shapes))) {
        subset_begin(r, &extent);
        return true;
    }
    if (r->offset_kind == OFFSET_KIND_NOW)
        return now(r, last, extent.latest);
    if (ahead)
        return wait_ahead(r);
    int rc = shapelog_locate(log, r->after, &r->found, NULL);
    if (rc != 0 && rc != ERR_CORRUPT) {
        shape_request_internal(r);
        return true;
    }
    /* What does not check out is being removed. Only then may the client be told. */
    if (rc == ERR_CORRUPT) {
        shape_request_enter(r, REQUEST_DAMAGED);
        return false;
    }
    if (r->found.part == SHAPELOG_PENDING) {
        shape_request_enter(r, REQUEST_STARTING);
        return false;
    }
    if (r->found.part == SHAPELOG_NOTHING && r->live && !r->sse)
        return park(r, last);
    send(r, last, &extent);
    return true;
}

void serve(struct shape_request *r)
{
    if (shape_request_expired(r)) {
        guard_expired(r);
        return;
    }
    if (look(r))
        return;
    if (!shape_request_watch(r)) {
        shape_request_internal(r);
        return;
    }
    look(r);
}

void serve_timeout(struct shape_request *r)
{
    const struct shapes *shapes = r->loop->http->config.shapes;
    static const struct param_errors out_of_bounds = {
        .items = {{.field = "offset", .text = "out of bounds for this shape"}},
        .count = 1};

    if (r->state == REQUEST_STARTING || r->state == REQUEST_SUBSET) {
        shape_request_message(r, OBS_REFUSED_SNAPSHOT_ERROR, 503,
                              "Snapshot timed out while waiting for its first row",
                              HTTP_RETRY_SNAPSHOT_S, true);
    } else if (r->state == REQUEST_DAMAGED) {
        shape_request_message(
            r, OBS_REFUSED_NOT_READY, 503,
            "The shape's stored bytes are damaged, its removal is awaited",
            HTTP_RETRY_NOT_READY_S, false);
    } else if (r->state == REQUEST_AHEAD) {
        if (shapes_caught_up(shapes))
            shape_request_invalid(r, &out_of_bounds);
        else
            shape_request_message(r, OBS_REFUSED_NOT_READY, 503,
                                  "Timeout waiting for shape data to be loaded",
                                  HTTP_RETRY_NOT_READY_S, false);
    } else if (r->state == REQUEST_LIVE) {
        r->expired = true;
        if (!shape_request_expired(r) && shapes_service(shapes) == SHAPES_STARTING &&
            !r->loop->stopping)
            shape_request_not_ready(r, RETRY_STREAM_DOWN_S);
        else
            serve(r);
    }
}
