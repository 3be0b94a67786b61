/* A shape request until its shape is found: authentication, admission, parameters, table,
 * definition, and the table of shape-protocol.md 5.2. serve.c takes over from there. */
#include "server/http/stage.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/http/body.h"
#include "json/json.h"

#define ARENA_MAX_BYTES        (32u * 1024 * 1024)
#define ERROR_MAX_BYTES        (2u * 1024 * 1024)
#define ADMISSION_RETRY_MIN_S  6
#define ADMISSION_RETRY_SPREAD 5

static void resolve(struct shape_request *r);

/* --- State --- */

static bool counts_as_live(enum request_state state)
{
    return state == REQUEST_LIVE || state == REQUEST_SSE ||
           state == REQUEST_SSE_STREAMING;
}

static struct evtimer_queue *queue_of(struct shape_request *r, enum request_state state)
{
    struct http_loop *loop = r->loop;

    switch (state) {
    case REQUEST_SERVICE:
    case REQUEST_DAMAGED:
        return &loop->ready;
    case REQUEST_STARTING:
    case REQUEST_SUBSET:
        return &loop->start;
    case REQUEST_AHEAD:
        return shapes_caught_up(loop->http->config.shapes) ? &loop->ahead : &loop->replay;
    case REQUEST_LIVE:
        return &loop->live;
    case REQUEST_SSE:
        return &loop->sse_beat;
    case REQUEST_NEW:
    case REQUEST_ASKING:
    case REQUEST_STREAMING:
    case REQUEST_TAIL:
    case REQUEST_SSE_STREAMING:
    case REQUEST_SUBSET_STREAMING:
    case REQUEST_ANSWERED:
        return NULL;
    }
    return NULL;
}

void shape_request_enter(struct shape_request *r, enum request_state state)
{
    struct evtimer_queue *queue;

    if (r->state == state) /* a wait goes on: its deadline stays */
        return;
    waits_leave(r);
    list_remove(&r->service_link);
    evtimer_stop(&r->timer);
    r->state = state;
    if (state == REQUEST_ANSWERED)
        evtimer_stop(&r->end_timer);
    if (counts_as_live(state) != r->counted) {
        r->counted = !r->counted;
        obs_add(r->loop->http->config.obs, OBS_G_READERS_LIVE, r->counted ? 1 : -1);
        if (r->counted)
            evreq_trim(r->req);
    }
    r->parked = r->parked || r->counted;
    queue = queue_of(r, state);
    if (queue)
        evtimer_start(queue, &r->timer);
}

bool shape_request_watch(struct shape_request *r)
{
    if (!waits_join(r->loop, r))
        return false;
    shape_watch(r->shape, r->loop->watcher);
    return true;
}

static void release_resolution(struct shape_request *r)
{
    arena_fini(&r->arena);
    arena_init(&r->arena, ARENA_MAX_BYTES);
    r->params = NULL;
    r->selection = (struct selection){.columns = NULL};
    if (r->table)
        table_release(r->table);
    if (r->def)
        shape_def_release(r->def);
    shape_where_release(r->where);
    if (r->handle_shape)
        shape_release(r->handle_shape);
    r->table = NULL;
    r->def = NULL;
    r->where = NULL;
    r->handle_shape = NULL;
}

void shape_request_reap(struct shape_request *r)
{
    if (r->req || r->asking)
        return;
    release_resolution(r);
    arena_fini(&r->arena);
    if (r->shape)
        shape_release(r->shape);
    free(r);
}

static void on_finish(void *ctx, bool complete)
{
    struct shape_request *r = ctx;
    struct http *http = r->loop->http;

    (void)complete;
    shape_request_enter(r, REQUEST_ANSWERED);
    subset_leave(r);
    admission_leave(&http->admission, r->permit);
    r->permit = PERMIT_NONE;
    if (!r->parked)
        obs_time(http->config.obs, OBS_H_HTTP_US, clock_mono_us() - r->began_us);
    list_remove(&r->link);
    r->req = NULL;
    shape_request_reap(r);
}

/* --- Errors --- */

static void count_refusal(struct shape_request *r, enum obs_refusal reason)
{
    obs_refused(r->loop->http->config.obs, reason);
}

void shape_request_error(struct shape_request *r, enum obs_refusal reason,
                         const struct respond_error *error)
{
    shape_request_enter(r, REQUEST_ANSWERED);
    count_refusal(r, reason);
    respond_error(r->req, error);
}

void shape_request_internal(struct shape_request *r)
{
    shape_request_error(
        r, OBS_REFUSED_INTERNAL,
        &(struct respond_error){500, SLICE_LIT("{\"error\":\"Internal server error\"}"),
                                0, false});
}

static void reply_text(struct shape_request *r, enum obs_refusal reason, struct buf *text,
                       const struct respond_error *how)
{
    struct respond_error error = *how;

    error.body = buf_slice(text);
    if (text->failed)
        shape_request_internal(r);
    else
        shape_request_error(r, reason, &error);
    buf_fini(text);
}

void shape_request_message(struct shape_request *r, enum obs_refusal reason, int status,
                           const char *message, int retry_after_s, bool known)
{
    struct buf text;

    buf_init(&text, ERROR_MAX_BYTES);
    respond_put_message(&text, slice_of(message));
    reply_text(r, reason, &text,
               &(struct respond_error){
                   .status = status, .retry_after_s = retry_after_s, .known = known});
}

void shape_request_invalid(struct shape_request *r, const struct param_errors *errors)
{
    struct buf text;

    buf_init(&text, ERROR_MAX_BYTES);
    respond_put_invalid(&text, errors);
    reply_text(r, OBS_REFUSED_INVALID, &text, &(struct respond_error){.status = 400});
}

void shape_request_refetch(struct shape_request *r, const char *handle)
{
    shape_request_enter(r, REQUEST_ANSWERED);
    count_refusal(r, OBS_REFUSED_MUST_REFETCH);
    respond_refetch(r->req, handle);
}

void shape_request_not_ready(struct shape_request *r, int retry_after_s)
{
    static const char prefix[] = "Timeout waiting for ";
    const struct shapes *shapes = r->loop->http->config.shapes;
    char detail[SHAPES_DETAIL_MAX];
    struct buf text;

    shapes_service_detail(shapes, detail, sizeof detail);
    buf_init(&text, 2048);
    if (strncmp(detail, prefix, sizeof prefix - 1) != 0) {
        buf_puts(&text, prefix);
        if (shapes_service(shapes) == SHAPES_WAITING)
            buf_puts(&text, "Postgres lock acquisition");
        else
            buf_puts(&text, detail[0] ? "replication client to be ready: "
                                      : "replication client to be ready");
    }
    if (shapes_service(shapes) != SHAPES_WAITING || text.len == 0)
        buf_puts(&text, detail);
    buf_putc(&text, '\0');
    shape_request_message(r, OBS_REFUSED_NOT_READY, 503,
                          text.failed ? "The service is not ready" : text.ptr,
                          retry_after_s, false);
    buf_fini(&text);
}

/* err may be NULL. A refusal of Postgres's own tells what would help. */
static void catalog_unreachable(struct shape_request *r, const struct err *err)
{
    bool refused = err && err->sqlstate[0] != '\0';
    char text[1024];

    snprintf(text, sizeof text,
             "Cannot connect to the database to verify the shape. Please try again "
             "later.%s%s",
             refused ? " " : "", refused ? err->message : "");
    shape_request_message(r, OBS_REFUSED_NOT_READY, 503, text, HTTP_RETRY_CATALOG_S,
                          false);
}

/* Memory, threads or input: whatever params_check and its like return. */
static void checked(struct shape_request *r, int rc, const struct param_errors *errors)
{
    if (rc == ERR_INVALID)
        shape_request_invalid(r, errors);
    else if (rc == ERR_RETRY)
        shape_request_message(r, OBS_REFUSED_NOT_READY, 503,
                              "Failed to create shape, please retry", 1, false);
    else
        shape_request_internal(r);
}

/* --- Arrival --- */

static bool authorized(const struct shape_request *r, const struct params *params)
{
    const char *secret = r->loop->http->secret;
    const struct param_value *given = &params->values[PARAM_SECRET];

    if (!secret || r->guarded)
        return true;
    if (given->kind == PARAM_ABSENT)
        given = &params->values[PARAM_API_SECRET];
    return given->kind == PARAM_TEXT && http_secret_fits(r->loop->http, given->text);
}

static bool admit(struct shape_request *r, const struct params *params)
{
    struct http *http = r->loop->http;
    struct slice handle = params->values[PARAM_HANDLE].text;
    enum permit which = PERMIT_INITIAL;
    struct buf text;

    if (handle.len > 0)
        r->handle_shape = shapes_by_handle(http->config.shapes, handle);
    if (r->handle_shape)
        which = PERMIT_EXISTING;
    if (admission_enter(&http->admission, which)) {
        r->permit = which;
        return true;
    }
    buf_init(&text, 512);
    buf_printf(
        &text,
        "{\"code\":\"concurrent_request_limit_exceeded\",\"message\":\"Concurrent %s "
        "request limit exceeded (limit: %u), please retry\"}",
        which == PERMIT_INITIAL ? "initial" : "existing", http->admission.limit[which]);
    int spread = (int)(http_loop_random(r->loop) % ADMISSION_RETRY_SPREAD);
    reply_text(r, OBS_REFUSED_ADMISSION, &text,
               &(struct respond_error){.status = 503,
                                       .retry_after_s = ADMISSION_RETRY_MIN_S + spread,
                                       .known = true});
    return false;
}

static void body_error(struct shape_request *r, int status, const char *json)
{
    shape_request_enter(r, REQUEST_ANSWERED);
    count_refusal(r, status == 413 ? OBS_REFUSED_TOO_LARGE : OBS_REFUSED_INVALID);
    respond_plain(r->req, status, RESPOND_JSON, slice_of(json));
}

static bool read_body(struct shape_request *r, struct params *params)
{
    struct slice body = evreq_body(r->req);
    const char *reply = NULL;
    int rc;

    if (!body.ptr) {
        body_error(r, 400, "{\"error\":\"Failed to read request body\"}");
        return false;
    }
    if (body.len > BODY_MAX_BYTES) {
        body_error(r, 413, "{\"error\":\"Request body too large\"}");
        return false;
    }
    rc = body_merge(body, params, &r->arena, &reply);
    if (rc == ERR_INVALID)
        body_error(r, 400, reply);
    else if (rc != 0)
        shape_request_internal(r);
    return rc == 0;
}

static void keep_parameters(struct shape_request *r)
{
    const struct shape_params *p = r->params;

    r->offset_kind = p->offset_kind;
    r->after = p->offset;
    r->live = p->live && !p->subset; /* a subset is answered at once */
    r->sse = p->sse && !p->subset;
    if (p->cursor.len < sizeof r->cursor) {
        if (p->cursor.len > 0)
            memcpy(r->cursor, p->cursor.ptr, p->cursor.len);
        r->cursor[p->cursor.len] = '\0';
    }
    /* A POST body may have named another handle than the query. */
    if (r->handle_shape &&
        !slice_eq(p->handle, slice_of(shape_handle(r->handle_shape)))) {
        shape_release(r->handle_shape);
        r->handle_shape = NULL;
    }
    if (!r->handle_shape && p->handle.len > 0)
        r->handle_shape = shapes_by_handle(r->loop->http->config.shapes, p->handle);
}

static void unauthorized(struct shape_request *r)
{
    shape_request_enter(r, REQUEST_ANSWERED);
    count_refusal(r, OBS_REFUSED_UNAUTHORIZED);
    respond_plain(r->req, 401, RESPOND_JSON,
                  SLICE_LIT("{\"message\":\"Unauthorized - Invalid API secret\"}"));
}

/* False: answered. */
static bool guard(struct shape_request *r, const struct guard *g, struct params *params)
{
    int rc = guard_apply(g, params, &r->arena);

    if (rc == ERR_NOT_FOUND)
        shape_request_message(r, OBS_REFUSED_INVALID, 400,
                              "Invalid shape definition: a table is required", 0, false);
    else if (rc == ERR_INVALID)
        shape_request_message(r, OBS_REFUSED_FORBIDDEN, 403,
                              "The shape is not the one that the token grants", 0, false);
    else if (rc != 0)
        shape_request_internal(r);
    return rc == 0;
}

/* Steps 2, 3 and the part of 5 that needs no table (1.3). */
static void arrive(struct shape_request *r, struct slice query, const struct guard *g)
{
    struct params *params = arena_zalloc(&r->arena, sizeof *params);
    struct param_errors errors;
    int rc = params ? params_add_query(params, &r->arena, query) : ERR_MEMORY;

    r->params = arena_alloc(&r->arena, sizeof *r->params);
    if (rc != 0 || !r->params) {
        shape_request_internal(r);
        return;
    }
    if (!authorized(r, params)) {
        unauthorized(r);
        return;
    }
    if (r->removal && !r->loop->http->config.allow_delete) {
        shape_request_message(r, OBS_REFUSED_NOT_ALLOWED, 405, "DELETE not allowed", 0,
                              false);
        return;
    }
    if (!r->removal && !admit(r, params))
        return;
    if (evreq_method(r->req) == EVREQ_POST && !read_body(r, params))
        return;
    if (g && !guard(r, g, params))
        return;
    rc = params_check(params, r->removal ? PARAMS_DELETE : PARAMS_READ, &r->arena,
                      r->params, &errors);
    if (rc != 0) {
        checked(r, rc, &errors);
        return;
    }
    keep_parameters(r);
    resolve(r);
}

bool shape_request_expired(const struct shape_request *r)
{
    return r->ends_s != 0 && clock_wall_us() / 1000000 >= r->ends_s;
}

void shape_request_begin(struct http_loop *loop, struct evreq *req, struct slice query)
{
    shape_request_begin_guarded(loop, req, query, NULL);
}

void shape_request_begin_guarded(struct http_loop *loop, struct evreq *req,
                                 struct slice query, const struct guard *g)
{
    struct shape_request *r = calloc(1, sizeof *r);

    if (!r) {
        respond_error(req, &(struct respond_error){503,
                                                   SLICE_LIT("{\"message\":\"Out of "
                                                             "memory\"}"),
                                                   HTTP_RETRY_NOT_READY_S, true});
        return;
    }
    r->loop = loop;
    r->req = req;
    r->began_us = clock_mono_us();
    r->removal = evreq_method(req) == EVREQ_DELETE;
    arena_init(&r->arena, ARENA_MAX_BYTES);
    list_init(&r->wait_link);
    list_init(&r->service_link);
    list_init(&r->timer.link);
    list_init(&r->end_timer.link);
    list_push(&loop->requests, &r->link);
    evreq_on_finish(req, on_finish, r);
    r->guarded = g != NULL;
    r->ends_s = g ? g->ends_s : 0;
    r->expires_s = g ? g->expires_s : 0;
    arrive(r, query, g);
}

/* --- From parameters to the shape --- */

void shape_request_wait_service(struct shape_request *r)
{
    shape_request_enter(r, REQUEST_SERVICE);
    if (list_empty(&r->service_link))
        list_push(&r->loop->service_waits, &r->service_link);
}

/* Whether the clause needn't be parsed to know that it is the handle's shape's. */
static bool where_is_known(struct shape_request *r)
{
    const struct shape *shape = r->handle_shape;

    if (r->params->where.len == 0)
        return true;
    r->where_words = shapes_where_hash(r->loop->http->config.shapes, r->params->where,
                                       &r->params->params);
    return !r->where && shape && shape_definition(shape)->table == r->table &&
           shape_knows_where(shape, r->where_words);
}

static int parse_where(struct shape_request *r, struct param_errors *errors)
{
    return r->where
               ? 0
               : params_check_where(r->params, r->table, &r->arena, &r->where, errors);
}

int shape_request_define(struct shape_request *r)
{
    struct param_errors errors;

    if (r->def)
        return 0;
    int rc = parse_where(r, &errors);
    if (rc != 0)
        return rc;
    const struct shape_spec spec = {
        .table = r->table,
        .selected = r->selection.all ? NULL : r->selection.columns,
        .selected_count = r->selection.all ? 0 : r->selection.count,
        .replica = r->params->replica,
        .log_mode = r->params->log_mode,
        .where = r->where ? r->where->text : slice_make(NULL, 0),
        .where_columns = r->where ? r->where->columns : NULL,
        .where_count = r->where ? r->where->column_count : 0,
        .maps_case = r->where && r->where->maps_case,
    };
    return shape_def_new(&spec, &r->def, NULL);
}

static bool where_fits(const struct shape_request *r, const struct shape_def *def)
{
    if (!r->where) /* there is none, or it is known to be this one */
        return (def->where.len > 0) == (r->params->where.len > 0);
    if (!slice_eq(r->where->text, def->where))
        return false;
    shape_tell_where(r->handle_shape, r->where_words);
    return true;
}

/* Whether the shape of the request's handle is the one asked for. */
static bool handle_fits(const struct shape_request *r)
{
    if (!r->handle_shape || shape_state(r->handle_shape) == SHAPE_GONE)
        return false;
    const struct shape_def *def = shape_definition(r->handle_shape);
    if (def->table != r->table && !table_same(def->table, r->table))
        return false;
    return def->all_columns == r->selection.all && def->replica == r->params->replica &&
           def->log_mode == r->params->log_mode &&
           def->selected_count == r->selection.count &&
           memcmp(def->selected, r->selection.columns,
                  r->selection.count * sizeof *def->selected) == 0 &&
           where_fits(r, def);
}

static void found(struct shape_request *r, struct shape *shape)
{
    r->shape = shape_retain(shape);
    shape_touch(shape);
    release_resolution(r);
    serve(r);
}

static bool wants_log_after(const struct shape_request *r)
{
    return r->offset_kind == OFFSET_KIND_AT && !r->after.before_all;
}

static void find_shape(struct shape_request *r)
{
    struct shapes *shapes = r->loop->http->config.shapes;

    if (wants_log_after(r) && handle_fits(r)) {
        found(r, r->handle_shape);
        return;
    }
    if (shape_request_define(r) != 0) {
        shape_request_internal(r);
        return;
    }
    struct shape *shape = shapes_by_def(shapes, r->def);
    if (shape && shape_state(shape) != SHAPE_GONE) {
        if (wants_log_after(r) && shape != r->handle_shape)
            shape_request_refetch(r, shape_handle(shape));
        else
            found(r, shape);
    } else if (shapes_service(shapes) != SHAPES_ACTIVE) {
        shape_request_wait_service(r);
    } else if (answer_ask_shape(r) != 0) {
        shape_request_internal(r);
    }
    if (shape)
        shape_release(shape);
}

/* The sequencer's refusal. */
static void refuse_where(struct shape_request *r, const struct err *err)
{
    struct param_errors errors;

    checked(r, params_refuse_where(err, &r->arena, &errors), &errors);
}

void shape_request_shape(struct shape_request *r, struct shape *shape,
                         const struct err *err)
{
    if (err && (err->code == ERR_INVALID || err->code == ERR_UNSUPPORTED ||
                err->code == ERR_LIMIT))
        refuse_where(r, err);
    else if (err || !shape)
        shape_request_message(r, OBS_REFUSED_NOT_READY, 503,
                              "Failed to create shape, please retry", 1, false);
    else if (wants_log_after(r))
        shape_request_refetch(r, shape_handle(shape));
    else
        found(r, shape);
}

/* The handle's shape is not asked again. */
static void forget_handle_table(struct shape_request *r)
{
    table_release(r->table);
    shape_where_release(r->where);
    r->table = NULL;
    r->where = NULL;
    r->handle_table = false;
    r->catalog_table = true;
}

/* False, and r->table is gone, when the table that the handle's shape has for it would not do: it
 * may be another one by now. A table of the catalog's always does. */
static bool table_known(struct shape_request *r)
{
    struct param_errors errors = {.count = 0};
    int rc = params_check_table(r->params, r->table, &r->arena, &r->selection, &errors);

    if (rc == 0 && !where_is_known(r))
        rc = parse_where(r, &errors);
    if (rc == 0)
        rc = subset_prepare(r, &errors);
    if (rc == ERR_INVALID && r->handle_table) {
        forget_handle_table(r);
        return false;
    }
    if (rc != 0)
        checked(r, rc, &errors);
    else if (r->removal)
        delete_run(r);
    else
        find_shape(r);
    return true;
}

void shape_request_table(struct shape_request *r, struct table *table,
                         const struct err *err)
{
    struct param_errors errors;

    if (!err && table) {
        r->table = table_retain(table);
        table_known(r);
    } else if (err && err->code == ERR_NOT_FOUND) {
        checked(r, params_table_missing(r->params, &r->arena, &errors), &errors);
    } else {
        catalog_unreachable(r, err);
    }
}

/* The handle's shape knows its table; that works without the catalog. */
static bool table_of_handle(struct shape_request *r)
{
    struct table *table;

    if (r->removal || r->catalog_table || !r->handle_shape ||
        shape_state(r->handle_shape) == SHAPE_GONE)
        return false;
    table = shape_definition(r->handle_shape)->table;
    if (!slice_eq(table->schema, r->params->table.schema) ||
        !slice_eq(table->name, r->params->table.name))
        return false;
    r->table = table_retain(table);
    r->handle_table = true;
    return true;
}

/* Again and again, until everything is at hand. */
static void resolve(struct shape_request *r)
{
    const struct http_config *config = &r->loop->http->config;
    const struct shape_params *p = r->params;

    if (r->removal && shapes_service(config->shapes) != SHAPES_ACTIVE) {
        shape_request_wait_service(r);
        return;
    }
    if (r->removal && !p->has_table) {
        delete_run(r);
        return;
    }
    if ((r->table || table_of_handle(r)) && table_known(r))
        return;
    r->table = catalog_cached(config->catalog, p->table.schema, p->table.name);
    if (r->table)
        table_known(r);
    else if (shapes_contact(config->shapes) == SHAPES_CONTACT_FAILED)
        catalog_unreachable(r, NULL);
    else if (shapes_service(config->shapes) == SHAPES_STARTING)
        shape_request_wait_service(r);
    else if (answer_ask_table(r) != 0)
        shape_request_internal(r);
}

/* --- Being woken --- */

void shape_request_resume(struct shape_request *r)
{
    switch (r->state) {
    case REQUEST_SERVICE:
        resolve(r);
        return;
    case REQUEST_STARTING:
    case REQUEST_DAMAGED:
    case REQUEST_AHEAD:
    case REQUEST_LIVE:
        serve(r);
        return;
    case REQUEST_TAIL:
        stream_resume(r);
        return;
    case REQUEST_SSE:
        sse_resume(r);
        return;
    case REQUEST_NEW:
    case REQUEST_ASKING:
    case REQUEST_STREAMING:
    case REQUEST_SSE_STREAMING:
    case REQUEST_SUBSET:
    case REQUEST_SUBSET_STREAMING:
    case REQUEST_ANSWERED:
        return;
    }
}

void shape_request_timeout(struct evtimer_entry *entry)
{
    struct shape_request *r = LIST_ENTRY(entry, struct shape_request, timer);

    if (r->state == REQUEST_SERVICE)
        shape_request_not_ready(r, HTTP_RETRY_NOT_READY_S);
    else if (r->state == REQUEST_SSE)
        sse_beat(r);
    else
        serve_timeout(r);
}

void shape_request_end_timeout(struct evtimer_entry *entry)
{
    sse_close(LIST_ENTRY(entry, struct shape_request, end_timer));
}

void shape_request_stop(struct shape_request *r)
{
    switch (r->state) {
    case REQUEST_SERVICE:
    case REQUEST_ASKING:
    case REQUEST_STARTING:
    case REQUEST_DAMAGED:
    case REQUEST_AHEAD:
    case REQUEST_SUBSET:
        shape_request_message(r, OBS_REFUSED_NOT_READY, 503,
                              "Timeout waiting for stack restart", HTTP_RETRY_NOT_READY_S,
                              false);
        return;
    case REQUEST_LIVE:
        serve_timeout(r);
        return;
    case REQUEST_SSE:
    case REQUEST_SSE_STREAMING:
        sse_close(r);
        return;
    case REQUEST_NEW:
    case REQUEST_STREAMING:
    case REQUEST_TAIL:
    case REQUEST_SUBSET_STREAMING:
    case REQUEST_ANSWERED:
        return;
    }
}
