/* Writes over HTTP: a request becomes one job of the writer, or a batch's transactions one after the
 * other; what comes of them becomes the answer. */
#include "server/http/api.h"

#include <stdio.h>
#include <stdlib.h>

#include "json/json.h"

#define TRANSACTIONS_MAX 100

/* --- The answer --- */

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
    obs_refused(loop->http->config.obs, OBS_REFUSED_WRITE);
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

    buf_init(&body, API_ANSWER_MAX_BYTES);
    if (call->batch.is_list)
        buf_printf(&body, "{\"success\":%s,\"transactions\":[",
                   status == 200 ? "true" : "false");
    buf_put_slice(&body, buf_slice(&call->answers));
    if (call->answers.failed)
        body.failed = call->answers.failed;
    if (call->batch.is_list)
        buf_puts(&body, "]}");
    add_retry_after(call);
    api_reply(call, status, &body);
}

/* --- The jobs --- */

static void next_job(struct api_call *call);

/* What became of the job, behind those before it. */
static void list_job(struct api_call *call)
{
    if (call->answers.len > 0)
        buf_putc(&call->answers, ',');
    put_job(call, &call->answers);
}

/* On the loop's thread: a job has ended. */
static void run_done(struct evloop_task *task)
{
    struct api_call *call = LIST_ENTRY(task, struct api_call, task);
    bool more;

    call->away = false;
    if (!call->req) {
        api_call_free(call);
        return;
    }
    list_job(call);
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
        api_call_free(call); /* the loop has ended */
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
    list_job(call);
    answer_write(call);
}

/* A refusal before anything was sent. */
static void refuse_write(struct api_call *call, enum write_failure why,
                         const char *message)
{
    write_refuse(call->job, why, "%s", message);
    list_job(call);
    answer_write(call);
}

/* The caller's identity, copied into the job; ERR_INVALID: refused. */
static int set_identity(struct api_call *call)
{
    const struct gate *gate = call->loop->http->config.gate;
    const struct token *token = call->token;
    struct write_job *job = call->job;

    if (gate_role(gate, token, &job->role) != 0 || !job->role)
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
        api_refuse(call->loop, call->req, OBS_REFUSED_INTERNAL, 500, "internal",
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
    call->job->other_bytes = call->arena.used_bytes + evreq_body(call->req).len;
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
    call->job->other_bytes = body.len;
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
        list_job(call);
        answer_write(call);
    } else {
        refuse_write(call, WRITE_FAILED_INTERNAL, "the write failed");
    }
}

void api_write(struct api_call *call)
{
    struct slice body = evreq_body(call->req);

    if (!body.ptr) {
        api_refuse(call->loop, call->req, OBS_REFUSED_INVALID, 400, "invalid_request",
                   "the body could not be read");
    } else if (body.len > call->loop->http->config.write_max_bytes) {
        api_refuse(call->loop, call->req, OBS_REFUSED_TOO_LARGE, 413, "too_large",
                   "the body is larger than COULOMB_WRITE_MAX_BODY allows");
    } else if (call->match.kind == API_TRANSACTIONS) {
        begin_transactions(call, body);
    } else {
        begin_call(call, body);
    }
}
