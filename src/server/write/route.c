/* See route.h. The file is checked whole when it is read, so that a request only looks up. */
#include "server/write/route.h"

#include <ctype.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUTES_MAX   1000
#define SEGMENTS_MAX 16
#define PARTS_MAX    200 /* values, arguments, columns of one route */

struct part {
    struct slice name;
    const json_t *source; /* checked */
};

struct parts {
    struct part *items;
    size_t count;
};

struct route {
    enum route_kind kind;
    const char *method;
    const char *path;
    bool needs_token;
    const json_t *id_source; /* NULL: none */
    const json_t *required;  /* array of names, or NULL */
    const json_t *body;      /* of "shape", "insert", … */
    /* MUTATION, CHANGES */
    enum write_op op;
    const char *table;
    struct parts key;
    struct parts values;
    bool ignore_missing;
    struct slice *columns; /* CHANGES */
    size_t column_count;
    /* FUNCTION */
    struct slice schema;
    struct slice function;
    bool has_args;
};

struct routes {
    json_t *root;
    struct arena arena;
    struct route *items;
    size_t count;
};

/* --- Reading --- */

static int fail(const struct route *r, struct err *err, const char *why)
{
    return err_set(err, ERR_INVALID, "route %.10s %.80s: %s",
                   r->method ? r->method : "(no method)", r->path ? r->path : "(no path)",
                   why);
}

static bool is_one_of(const char *word, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (word && strcmp(word, words[i]) == 0)
            return true;
    return false;
}

static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
/* What the server itself has. */
static const char *const reserved[] = {"/v1",    "/shape", "/shapes", "/gatekeeper",
                                       "/proxy", "/demo",  "/"};

static int check_path(const struct route *r, struct err *err)
{
    size_t segments = 0;

    if (!r->path || r->path[0] != '/' || strlen(r->path) > 200)
        return fail(r, err, "its \"path\" must begin with a slash");
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        size_t len = strlen(reserved[i]);

        if (strncmp(r->path, reserved[i], len) == 0 &&
            (r->path[len] == '\0' || (r->path[len] == '/' && len > 1)))
            return fail(r, err, "the path is the server's own");
    }
    for (const char *p = r->path; *p; p++) {
        if (*p == '/' && (p[1] == '/' || p[1] == '\0' || ++segments > SEGMENTS_MAX))
            return fail(r, err, "its \"path\" has an empty segment or too many");
        if (strchr("?#%", *p) || (*p == ':' && (p[-1] != '/' || !isalpha(p[1]))))
            return fail(
                r, err,
                "its \"path\" is made of plain segments and of :NAME, nothing else");
    }
    return 0;
}

static int read_parts(struct routes *routes, const struct route *r, const json_t *object,
                      struct parts *out, struct err *err)
{
    size_t count = json_object_size(object);
    void *it = json_object_iter((json_t *)(uintptr_t)object);
    struct err why = {0};

    if (!json_is_object(object) || count == 0 || count > PARTS_MAX)
        return fail(r, err,
                    "\"key\", \"values\" and \"args\" are objects of 1 to 200 "
                    "sources");
    out->items = arena_calloc(&routes->arena, count, sizeof *out->items);
    if (!out->items)
        return err_set(err, ERR_MEMORY, "no memory for the routes");
    for (; it; it = json_object_iter_next((json_t *)(uintptr_t)object, it)) {
        const json_t *source = json_object_iter_value(it);

        if (source_check(source, SOURCE_CLAIMS | SOURCE_BODY | SOURCE_PATH, &why) != 0)
            return fail(r, err, why.message);
        out->items[out->count++] =
            (struct part){slice_of(json_object_iter_key(it)), source};
    }
    return 0;
}

static int check_members(const struct route *r, const json_t *object,
                         const char *const *known, struct err *err)
{
    struct err why = {0};

    return source_check_members(object, known, &why) == 0 ? 0 : fail(r, err, why.message);
}

static int read_table(struct route *r, struct err *err)
{
    struct slice schema;
    struct slice table;
    struct err why = {0};

    r->table = json_string_value(json_object_get(r->body, "table"));
    if (!r->table || write_table_parse(slice_of(r->table), &schema, &table, &why) != 0)
        return fail(r, err, "it needs a \"table\": NAME or SCHEMA.NAME");
    return 0;
}

static int read_shape(struct routes *routes, struct route *r, struct err *err)
{
    struct err why = {0};

    static const char *const members[] = {"table",   "where",        "params",
                                          "columns", "row_security", NULL};

    (void)routes;
    if (strcmp(r->method, "GET") != 0)
        return fail(r, err, "a shape is read with GET");
    if (policy_check_template(r->body, members, SOURCE_CLAIMS | SOURCE_PATH, &why) != 0)
        return fail(r, err, why.message);
    return read_table(r, err);
}

static int read_mutation(struct routes *routes, struct route *r, struct err *err)
{
    static const char *const row[] = {"table", "values", NULL};
    static const char *const keyed[] = {"table", "key", "values", "if_missing", NULL};
    static const char *const key[] = {"table", "key", "if_missing", NULL};
    const json_t *missing = json_object_get(r->body, "if_missing");
    bool new_row = r->op == WRITE_INSERT || r->op == WRITE_UPSERT;
    int rc = check_members(r, r->body,
                           new_row                 ? row
                           : r->op == WRITE_DELETE ? key
                                                   : keyed,
                           err);

    r->ignore_missing = missing != NULL;
    if (missing &&
        (!json_is_string(missing) || strcmp(json_string_value(missing), "ignore") != 0))
        return fail(r, err, "its \"if_missing\" can only be \"ignore\"");
    rc = rc ? rc : read_table(r, err);
    if (rc == 0 && r->op != WRITE_DELETE)
        rc = read_parts(routes, r, json_object_get(r->body, "values"), &r->values, err);
    if (rc == 0 && !new_row)
        rc = read_parts(routes, r, json_object_get(r->body, "key"), &r->key, err);
    return rc;
}

static int read_changes(struct routes *routes, struct route *r, struct err *err)
{
    static const char *const members[] = {"table", "columns", NULL};
    const json_t *columns = json_object_get(r->body, "columns");
    size_t count = json_array_size(columns);
    int rc = check_members(r, r->body, members, err);
    rc = rc ? rc : read_table(r, err);

    if (rc != 0)
        return rc;
    if (count == 0 || count > PARTS_MAX)
        return fail(r, err,
                    "it needs \"columns\": the names of those that may be written");
    r->columns = arena_calloc(&routes->arena, count, sizeof *r->columns);
    if (!r->columns)
        return err_set(err, ERR_MEMORY, "no memory for the routes");
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(columns, i));

        if (!name)
            return fail(r, err, "its \"columns\" hold something that is no name");
        r->columns[r->column_count++] = slice_of(name);
    }
    return 0;
}

static int read_function(struct routes *routes, struct route *r, struct err *err)
{
    static const char *const members[] = {"name", "args", NULL};
    const char *name = json_string_value(json_object_get(r->body, "name"));
    const json_t *args = json_object_get(r->body, "args");
    struct err why = {0};

    if (check_members(r, r->body, members, err) != 0)
        return ERR_INVALID;
    if (!name || write_table_parse(slice_of(name), &r->schema, &r->function, &why) != 0)
        return fail(r, err, "it needs a \"name\": FUNCTION or SCHEMA.FUNCTION");
    r->has_args = args != NULL;
    return args ? read_parts(routes, r, args, &r->values, err) : 0;
}

static const struct {
    const char *member;
    enum route_kind kind;
    enum write_op op;
    int (*read)(struct routes *routes, struct route *r, struct err *err);
} kinds[] = {{"shape", ROUTE_SHAPE, WRITE_INSERT, read_shape},
             {"insert", ROUTE_MUTATION, WRITE_INSERT, read_mutation},
             {"update", ROUTE_MUTATION, WRITE_UPDATE, read_mutation},
             {"upsert", ROUTE_MUTATION, WRITE_UPSERT, read_mutation},
             {"delete", ROUTE_MUTATION, WRITE_DELETE, read_mutation},
             {"changes", ROUTE_CHANGES, WRITE_INSERT, read_changes},
             {"function", ROUTE_FUNCTION, WRITE_INSERT, read_function}};

static int read_kind(struct routes *routes, struct route *r, const json_t *json,
                     struct err *err)
{
    size_t found = 0;
    size_t which = 0;

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (!json_object_get(json, kinds[i].member))
            continue;
        which = i;
        found++;
    }
    if (found != 1)
        return fail(r, err,
                    "it needs one of \"shape\", \"insert\", \"update\", \"upsert\", "
                    "\"delete\", \"changes\" and \"function\"");
    r->kind = kinds[which].kind;
    r->op = kinds[which].op;
    r->body = json_object_get(json, kinds[which].member);
    if (!json_is_object(r->body))
        return fail(r, err, "what it does is told by an object");
    return kinds[which].read(routes, r, err);
}

static int read_route(struct routes *routes, struct route *r, const json_t *json,
                      bool anonymous, struct err *err)
{
    static const char *const members[] = {
        "method", "path",   "auth",   "id",      "required", "shape", "insert",
        "update", "upsert", "delete", "changes", "function", NULL};
    const char *auth = json_string_value(json_object_get(json, "auth"));
    struct err why = {0};

    r->method = json_string_value(json_object_get(json, "method"));
    r->path = json_string_value(json_object_get(json, "path"));
    r->id_source = json_object_get(json, "id");
    r->required = json_object_get(json, "required");
    r->needs_token = !auth || strcmp(auth, "none") != 0;
    if (!is_one_of(r->method, methods, sizeof methods / sizeof methods[0]))
        return fail(r, err, "its \"method\" is one of GET, POST, PUT, PATCH, DELETE");
    if (auth && strcmp(auth, "none") != 0 && strcmp(auth, "required") != 0)
        return fail(r, err, "its \"auth\" is \"required\" or \"none\"");
    if (r->id_source && source_check(r->id_source, SOURCE_BODY | SOURCE_PATH, &why) != 0)
        return fail(r, err, why.message);
    if (r->required && !json_is_array(r->required))
        return fail(r, err, "its \"required\" is a list of members of the body");
    int rc = check_path(r, err);
    rc = rc ? rc : check_members(r, json, members, err);
    rc = rc ? rc : read_kind(routes, r, json, err);
    if (rc == 0 && !r->needs_token && r->kind != ROUTE_SHAPE && !anonymous)
        return fail(
            r, err,
            "\"auth\": \"none\" needs the role that callers without a token have. "
            "Set COULOMB_ANONYMOUS_ROLE");
    return rc;
}

int routes_new(struct slice text, bool anonymous, struct routes **out, struct err *err)
{
    struct routes *routes = calloc(1, sizeof *routes);
    json_error_t where;
    int rc = 0;

    *out = NULL;
    if (!routes)
        return err_set(err, ERR_MEMORY, "no memory for the routes");
    arena_init(&routes->arena, 16u * 1024 * 1024);
    routes->root = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &where);
    const json_t *list = json_object_get(routes->root, "routes");
    size_t count = json_array_size(list);
    if (!routes->root)
        rc = err_set(err, ERR_INVALID, "line %d: %s", where.line, where.text);
    else if (!json_is_array(list) || count > ROUTES_MAX)
        rc = err_set(err, ERR_INVALID, "{\"routes\": [...]} is expected, with at most %d",
                     ROUTES_MAX);
    routes->items = arena_calloc(&routes->arena, count + 1, sizeof *routes->items);
    for (size_t i = 0; rc == 0 && routes->items && i < count; i++)
        rc = read_route(routes, &routes->items[routes->count++], json_array_get(list, i),
                        anonymous, err);
    if (rc == 0 && !routes->items)
        rc = err_set(err, ERR_MEMORY, "no memory for the routes");
    if (rc != 0)
        routes_free(routes);
    else
        *out = routes;
    return rc;
}

void routes_free(struct routes *routes)
{
    if (!routes)
        return;
    json_decref(routes->root);
    arena_fini(&routes->arena);
    free(routes);
}

/* --- Matching --- */

static struct slice cut(struct slice *path)
{
    struct slice rest = slice_make(path->ptr + 1, path->len - 1);
    const char *slash = memchr(rest.ptr, '/', rest.len);
    size_t len = slash ? (size_t)(slash - rest.ptr) : rest.len;

    *path = slice_make(rest.ptr + len, rest.len - len);
    return slice_make(rest.ptr, len);
}

static bool path_fits(const char *template, struct slice path)
{
    struct slice want = slice_of(template);

    while (want.len > 0 && path.len > 0) {
        struct slice w = cut(&want);
        struct slice p = cut(&path);

        if (p.len == 0 || (w.ptr[0] != ':' && !slice_eq(w, p)))
            return false;
    }
    return want.len == 0 && path.len == 0;
}

const struct route *routes_match(const struct routes *routes, struct slice method,
                                 struct slice path, bool *path_known)
{
    *path_known = false;
    for (size_t i = 0; i < routes->count; i++) {
        const struct route *r = &routes->items[i];

        if (path.len == 0 || !path_fits(r->path, path))
            continue;
        *path_known = true;
        if (slice_eq(slice_of(r->method), method))
            return r;
    }
    return NULL;
}

enum route_kind route_kind(const struct route *route)
{
    return route->kind;
}

bool route_needs_token(const struct route *route)
{
    return route->needs_token;
}

/* The path's segments by name; NULL: out of memory, or not UTF-8. */
static json_t *path_values(const struct route *route, struct slice path)
{
    struct slice want = slice_of(route->path);
    json_t *out = json_object();

    while (out && want.len > 0) {
        struct slice w = cut(&want);
        struct slice p = cut(&path);

        if (w.ptr[0] == ':' &&
            json_object_setn_new(out, w.ptr + 1, w.len - 1, json_stringn(p.ptr, p.len))) {
            json_decref(out);
            out = NULL;
        }
    }
    return out;
}

const char *route_guarded_table(const struct route *route)
{
    return policy_ignores_row_security(route->body) ? NULL : route->table;
}

int route_grant(const struct route *route, struct slice path, const struct token *token,
                json_t **out, struct err *err)
{
    json_t *segments = path_values(route, path);
    const struct source_values values = {.claims = token ? token->claims : NULL,
                                         .path = segments};
    int rc;

    *out = NULL;
    if (!segments)
        return err_set(err, ERR_INVALID, "the path is not UTF-8");
    rc = policy_fill_template(route->body, route->table, &values, out, err);
    json_decref(segments);
    return rc;
}

/* --- Filling a job --- */

struct filler {
    const struct route *route;
    struct write_job *job;
    struct write_values body;
    const json_t *claims;
    json_t *path;
};

static int refuse(struct filler *f, enum write_failure why, const char *what,
                  struct slice name)
{
    write_refuse(f->job, why, "%s \"%.*s\"", what, (int)(name.len < 63 ? name.len : 63),
                 name.ptr);
    return ERR_INVALID;
}

/* A JSON value of ours as one of the request's. */
static int convert(struct filler *f, const json_t *value, struct write_value *out)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    char *kept = text ? arena_dup(&f->job->arena, slice_of(text)) : NULL;
    struct err err = {0};

    free(text);
    if (!kept)
        return ERR_MEMORY;
    return write_value_parse(slice_of(kept), &f->job->arena, out, &err);
}

/* 0; ERR_NOT_FOUND: there is no such value. */
static int resolve(struct filler *f, const json_t *source, struct write_value *out)
{
    const struct source_values values = {.claims = f->claims, .path = f->path};

    if (source_kind(source) == SOURCE_BODY) {
        const char *name = json_string_value(source) + sizeof "body." - 1;
        const struct write_value *v = write_values_find(&f->body, slice_of(name));

        if (v)
            *out = *v;
        return v ? 0 : ERR_NOT_FOUND;
    }
    const json_t *value = source_value(source, &values);
    return value ? convert(f, value, out) : ERR_NOT_FOUND;
}

/* Members of the body that are not given are left out; all else has to be there. */
static int fill_values(struct filler *f, const struct parts *parts, bool all,
                       struct write_values *out)
{
    out->items = arena_calloc(&f->job->arena, parts->count + 1, sizeof *out->items);
    out->count = 0;
    if (!out->items)
        return ERR_MEMORY;
    for (size_t i = 0; i < parts->count; i++) {
        const struct part *part = &parts->items[i];
        struct write_value *v = &out->items[out->count];
        int rc = resolve(f, part->source, v);

        if (rc == ERR_NOT_FOUND && source_kind(part->source) == SOURCE_CLAIMS)
            return refuse(f, WRITE_FAILED_FORBIDDEN, "the token lacks the claim for",
                          part->name);
        if (rc == ERR_NOT_FOUND && all)
            return refuse(f, WRITE_FAILED_INVALID, "the body lacks what is needed for",
                          part->name);
        if (rc == ERR_NOT_FOUND)
            continue;
        if (rc != 0)
            return rc;
        v->name = part->name;
        out->count++;
    }
    return 0;
}

static int fill_mutation(struct filler *f)
{
    const struct route *r = f->route;
    struct write_transaction *t = arena_zalloc(&f->job->arena, sizeof *t);
    struct write_mutation *m = arena_zalloc(&f->job->arena, sizeof *m);
    struct err err = {0};

    if (!t || !m)
        return ERR_MEMORY;
    *t = (struct write_transaction){.mutations = m, .count = 1};
    m->op = r->op;
    m->ignore_missing = r->ignore_missing;
    int rc = write_table_parse(slice_of(r->table), &m->schema, &m->table, &err);
    rc = rc ? rc : fill_values(f, &r->key, true, &m->key);
    rc = rc ? rc : fill_values(f, &r->values, false, &m->values);
    if (rc == 0 && m->op != WRITE_DELETE && m->values.count == 0) {
        write_refuse(f->job, WRITE_FAILED_INVALID, "the body holds nothing to write");
        return ERR_INVALID;
    }
    f->job->transaction = t;
    return rc;
}

/* Without "args": the body's members are the arguments, the path's as well. */
static int fill_call(struct filler *f, struct slice body)
{
    const struct route *r = f->route;
    struct write_call *call = arena_zalloc(&f->job->arena, sizeof *call);

    if (!call)
        return ERR_MEMORY;
    *call = (struct write_call){.schema = r->schema, .name = r->function, .body = body};
    f->job->call = call;
    if (r->has_args)
        return fill_values(f, &r->values, false, &call->args);
    size_t room = f->body.count + json_object_size(f->path);
    void *it = json_object_iter(f->path);
    call->args.items = arena_calloc(&f->job->arena, room + 1, sizeof *call->args.items);
    if (!call->args.items)
        return ERR_MEMORY;
    for (; it; it = json_object_iter_next(f->path, it)) {
        struct write_value *v = &call->args.items[call->args.count++];
        int rc = convert(f, json_object_iter_value(it), v);

        if (rc != 0)
            return rc;
        v->name = slice_of(json_object_iter_key(it));
    }
    for (size_t i = 0; i < f->body.count; i++)
        if (!write_values_find(&call->args, f->body.items[i].name))
            call->args.items[call->args.count++] = f->body.items[i];
    return 0;
}

static int fill_changes(struct filler *f, struct slice body,
                        const struct write_limits *limits)
{
    const struct route *r = f->route;
    struct write_transaction *t = arena_zalloc(&f->job->arena, sizeof *t);
    struct err err = {0};

    if (!t)
        return ERR_MEMORY;
    int rc = write_changes_parse(body, slice_of(r->table), r->columns, r->column_count,
                                 limits, &f->job->arena, t, &err);
    f->job->transaction = t;
    if (rc == ERR_INVALID || rc == ERR_LIMIT) {
        write_refuse(f->job,
                     rc == ERR_LIMIT ? WRITE_FAILED_TOO_LARGE : WRITE_FAILED_INVALID,
                     "%s", err.message);
        return ERR_INVALID;
    }
    return rc;
}

static int check_required(struct filler *f)
{
    for (size_t i = 0; i < json_array_size(f->route->required); i++) {
        const char *name = json_string_value(json_array_get(f->route->required, i));
        const struct write_value *v =
            name ? write_values_find(&f->body, slice_of(name)) : NULL;

        if (name && (!v || v->kind == WRITE_NULL))
            return refuse(f, WRITE_FAILED_INVALID, "the body needs", slice_of(name));
    }
    return 0;
}

/* The route's own id, when the caller's header gave none. */
static int fill_id(struct filler *f)
{
    struct write_value value;

    if (!f->route->id_source || f->job->id.len > 0)
        return 0;
    int rc = resolve(f, f->route->id_source, &value);
    if (rc == ERR_NOT_FOUND)
        return 0;
    if (rc == 0 && value.kind == WRITE_TEXT && value.text.len > 0 &&
        value.text.len <= WRITE_ID_MAX)
        f->job->id = value.text;
    return rc;
}

static int read_body(struct filler *f, struct slice body)
{
    struct err err = {0};
    int rc = write_values_parse(body, &f->job->arena, &f->body, &err);

    if (rc == 0 || rc == ERR_MEMORY)
        return rc;
    write_refuse(f->job, WRITE_FAILED_INVALID, "%s", err.message);
    return ERR_INVALID;
}

int route_fill(const struct route *route, struct slice path, struct slice body,
               const struct token *token, const struct write_limits *limits,
               struct write_job *job)
{
    struct filler f = {.route = route,
                       .job = job,
                       .claims = token ? token->claims : NULL,
                       .path = path_values(route, path)};
    int rc = 0;

    if (!f.path) {
        write_refuse(job, WRITE_FAILED_INVALID, "the path is not UTF-8");
        return ERR_INVALID;
    }
    if (route->kind == ROUTE_CHANGES) {
        rc = fill_changes(&f, body, limits);
    } else {
        rc = read_body(&f, body);
        rc = rc ? rc : check_required(&f);
        rc = rc ? rc : fill_id(&f);
        if (rc == 0)
            rc = route->kind == ROUTE_FUNCTION ? fill_call(&f, body) : fill_mutation(&f);
    }
    json_decref(f.path);
    return rc;
}
