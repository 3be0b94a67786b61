/* The page's writes: three statements with parameters, and who may ask for them.
 *
 * Problem: a server on 127.0.0.1 can be reached by every web page that the developer's
 * browser shows. Approach: a write must say application/json, for which a browser asks
 * first (and gets no permission here) unless the page is our own; its Origin, when sent,
 * must be the address it goes to; and that address must be a loopback name, so that a
 * hostile name that resolves to 127.0.0.1 does not count as our own. */
#include "cli/demo.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/pg/pg.h"
#include "json/json.h"

#define TODOS        "/demo/api/todos"
#define JSON_TYPE    "application/json"
#define TEXT_MAX     500
#define TEXT_BYTES   (4 * TEXT_MAX)
#define BODY_MAX     16384
#define NO_CHARACTER 0

struct todo_change {
    bool has_text;
    bool has_done;
    bool done;
    char text[TEXT_BYTES + 1];
};

static void refuse(struct http_extra_response *response, int status, const char *why)
{
    buf_reset(&response->body, 0);
    response->status = status;
    response->content_type = JSON_TYPE;
    buf_puts(&response->body, "{\"success\":false,\"error\":");
    json_put_string(&response->body, slice_of(why));
    buf_putc(&response->body, '}');
}

/* --- Who may write --- */

static bool starts_with(struct slice s, const char *prefix)
{
    size_t len = strlen(prefix);
    return s.len >= len && memcmp(s.ptr, prefix, len) == 0;
}

/* "127.0.0.1:3000", "localhost", "[::1]:3000" */
static bool is_loopback(struct slice host)
{
    static const char *const names[] = {"127.0.0.1", "localhost", "[::1]"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t len = strlen(names[i]);
        if (starts_with(host, names[i]) && (host.len == len || host.ptr[len] == ':'))
            return true;
    }
    return false;
}

static bool is_json(struct slice content_type)
{
    const char *end =
        content_type.len ? memchr(content_type.ptr, ';', content_type.len) : NULL;
    struct slice type =
        end ? slice_make(content_type.ptr, (size_t)(end - content_type.ptr))
            : content_type;
    return slice_eq_nocase(slice_trim(type), SLICE_LIT(JSON_TYPE));
}

bool demo_api_allowed(const struct http_extra_request *request, const char **why)
{
    struct slice origin = request->origin;
    *why = "writes must be sent to 127.0.0.1 or localhost by that name";
    if (!is_loopback(request->host))
        return false;
    *why = "writes are only taken from the demo's own page";
    if (origin.ptr &&
        (!starts_with(origin, "http://") ||
         !slice_eq_nocase(slice_make(origin.ptr + 7, origin.len - 7), request->host)))
        return false;
    *why = "writes must have the content type application/json";
    return is_json(request->content_type);
}

/* --- What they say --- */

static size_t characters(struct slice text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += ((unsigned char)text.ptr[i] & 0xc0) != 0x80;
    return n;
}

static const char *take_text(struct todo_change *change, struct slice raw)
{
    struct slice text = slice_trim(raw);
    size_t length = characters(text);
    if (length == 0 || length > TEXT_MAX || text.len > TEXT_BYTES)
        return "\"text\" must have 1 to 500 characters";
    if (memchr(text.ptr, NO_CHARACTER, text.len))
        return "\"text\" must not hold the character U+0000";
    memcpy(change->text, text.ptr, text.len);
    change->text[text.len] = '\0';
    change->has_text = true;
    return NULL;
}

/* The value behind a name, NULL or what is wrong. */
static const char *take_member(struct todo_change *change, struct json_reader *r,
                               bool is_text)
{
    enum json_event event = json_next(r);
    if (is_text)
        return event == JSON_STRING ? take_text(change, r->text)
                                    : "\"text\" must be a string";
    if (event != JSON_TRUE && event != JSON_FALSE)
        return "\"done\" must be true or false";
    change->has_done = true;
    change->done = event == JSON_TRUE;
    return NULL;
}

static const char *read_members(struct todo_change *change, struct json_reader *r)
{
    if (json_next(r) != JSON_OBJECT_BEGIN)
        return "the body must be a JSON object";
    enum json_event event;
    while ((event = json_next(r)) == JSON_NAME) {
        bool is_text = slice_eq(r->text, SLICE_LIT("text"));
        if (!is_text && !slice_eq(r->text, SLICE_LIT("done")))
            return "the body may have the members \"text\" and \"done\" only";
        const char *why = take_member(change, r, is_text);
        if (why)
            return why;
    }
    if (event != JSON_OBJECT_END || json_next(r) != JSON_END)
        return "the body is not well-formed JSON";
    return NULL;
}

static const char *read_change(struct todo_change *change, struct slice body)
{
    struct json_reader reader;
    if (body.len > BODY_MAX)
        return "the body is longer than 16384 bytes";
    json_reader_init(&reader, body);
    const char *why = read_members(change, &reader);
    json_reader_fini(&reader);
    return why;
}

/* "/demo/api/todos/17" to "17". */
static bool read_id(const char *path, char *out, size_t room)
{
    uint64_t id;
    if (strncmp(path, TODOS "/", sizeof(TODOS)) != 0)
        return false;
    const char *text = path + sizeof(TODOS);
    if (!slice_to_u64(slice_of(text), &id) || id > INT64_MAX)
        return false;
    snprintf(out, room, "%" PRIu64, id);
    return true;
}

/* --- The statements --- */

static void answer_result(PGconn *conn, PGresult *result, const char *id,
                          struct http_extra_response *response)
{
    struct err err = {0};
    char why[96];
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        (void)pg_fail(&err, conn, result, "writing the todo");
        refuse(response, err.code == ERR_DB ? 400 : 503, err.message);
    } else if (PQntuples(result) == 0) {
        snprintf(why, sizeof(why), "there is no todo %s (any more)", id);
        refuse(response, 404, why);
    } else {
        response->status = 200;
        response->content_type = JSON_TYPE;
        buf_printf(&response->body, "{\"success\":true,\"txid\":%s}",
                   PQgetvalue(result, 0, 0));
    }
}

static void run(PGconn *conn, const char *sql, int count, const char *const *values,
                struct http_extra_response *response)
{
    PGresult *result = PQexecParams(conn, sql, count, NULL, values, NULL, NULL, 0);
    answer_result(conn, result, values[0], response);
    PQclear(result);
}

static void insert(PGconn *conn, const struct todo_change *change,
                   struct http_extra_response *response)
{
    const char *values[] = {change->text, change->done ? "true" : "false"};
    if (!change->has_text) {
        refuse(response, 400, "a new todo needs a \"text\"");
        return;
    }
    run(conn,
        "INSERT INTO todos (text, done) VALUES ($1, $2) RETURNING "
        "pg_current_xact_id()::xid",
        2, values, response);
}

static void update(PGconn *conn, const char *id, const struct todo_change *change,
                   struct http_extra_response *response)
{
    const char *values[] = {id, change->has_text ? change->text : NULL,
                            !change->has_done ? NULL
                            : change->done    ? "true"
                                              : "false"};
    if (!change->has_text && !change->has_done) {
        refuse(response, 400, "there is neither a \"text\" nor a \"done\" to write");
        return;
    }
    run(conn,
        "UPDATE todos SET text = coalesce($2, text), done = coalesce($3, done) "
        "WHERE id = $1 RETURNING pg_current_xact_id()::xid",
        3, values, response);
}

static void write_todo(PGconn *conn, const struct http_extra_request *request,
                       struct http_extra_response *response)
{
    struct todo_change change = {0};
    char id[24];
    bool has_id = read_id(request->path, id, sizeof(id));
    bool post = strcmp(request->method, "POST") == 0;
    bool put = strcmp(request->method, "PUT") == 0;
    bool delete = strcmp(request->method, "DELETE") == 0;
    if (!(post && strcmp(request->path, TODOS) == 0) && !((put || delete) && has_id)) {
        refuse(response, 404,
               "there are POST " TODOS ", PUT " TODOS "/<id> and DELETE " TODOS "/<id>");
        return;
    }
    const char *why = delete ? NULL : read_change(&change, request->body);
    const char *const only_id[] = {id};
    if (why)
        refuse(response, 400, why);
    else if (post)
        insert(conn, &change, response);
    else if (put)
        update(conn, id, &change, response);
    else
        run(conn, "DELETE FROM todos WHERE id = $1 RETURNING pg_current_xact_id()::xid",
            1, only_id, response);
}

void demo_api_call(PGconn *conn, const struct http_extra_request *request,
                   struct http_extra_response *response)
{
    const char *why;
    if (!demo_api_allowed(request, &why))
        refuse(response, 403, why);
    else if (!conn)
        refuse(response, 503, "the database can't be reached just now");
    else
        write_todo(conn, request, response);
}

/* --- Routes --- */

static bool matches(void *ctx, const char *method, const char *path)
{
    (void)ctx;
    bool read = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    bool write = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
                 strcmp(method, "DELETE") == 0;
    if (read)
        return strcmp(path, "/demo") == 0 || strncmp(path, "/demo/", 6) == 0;
    return write && strncmp(path, "/demo/api/", 10) == 0;
}

static void handle(void *ctx, PGconn *conn, const struct http_extra_request *request,
                   struct http_extra_response *response)
{
    const struct demo *demo = ctx;
    if (strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0)
        demo_page_get(demo, request->path, response);
    else
        demo_api_call(conn, request, response);
}

struct http_extra demo_routes(struct demo *demo)
{
    return (struct http_extra){.ctx = demo, .matches = matches, .handle = handle};
}
