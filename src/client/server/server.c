/*
 * Servers: made, signed in, closed with their client; their shapes as collections.
 */

#include "client/server/server.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

#define RETRY_MS 60000
#define AWAIT_MS 5000

/* --- Who is signed in ------------------------------------------------------------------------------ */

static int hold_token(struct coulomb_server *server)
{
    char *value;
    int code;

    server->used_serial = server->token_serial;
    if (!server->token)
        return COULOMB_OK;
    value = token_bearer(server->heap, server->token);
    if (!value)
        return COULOMB_E_MEMORY;
    code = credentials_add_header(server->auth, "authorization", value);
    heap_free_str(server->heap, value);
    return code;
}

static int signed_in_with(struct coulomb_server *server, int code)
{
    if (code == COULOMB_OK && !server->token)
        code = COULOMB_E_CREDENTIALS;
    return code == COULOMB_OK ? hold_token(server) : code;
}

static void signed_in(void *what, int code, const char *message)
{
    struct coulomb_server *server = what;

    if (code == COULOMB_OK && !server->token)
        message = "sign_in gave no token";
    credentials_answer(server->auth, signed_in_with(server, code), message);
}

static int renew(struct credentials *cr, bool refused, void *arg)
{
    struct coulomb_server *server = arg;
    bool newer = server->token && server->token_serial != server->used_serial;
    struct coulomb_completion *done;
    int code;

    if (newer || (server->token && !refused) || (!server->options.sign_in && !refused))
        return hold_token(server);
    if (!server->options.sign_in) {
        credentials_answer(cr, COULOMB_E_CREDENTIALS,
                           server->token ? "the server does not accept the user's token"
                                         : "nobody is signed in");
        return COULOMB_PENDING;
    }
    done = completion_new(server->client, server, signed_in, &server->signing);
    if (!done)
        return COULOMB_E_MEMORY;
    code = server->options.sign_in(server, done, server->options.arg);
    if (code != COULOMB_PENDING)
        coulomb_complete(done, code, NULL);
    return COULOMB_PENDING;
}

/* Whether it is, or may be, somebody else than before. What was begun while nobody was known is done by
 * who signs in first; two tokens that don't say whose they are are taken for one user's. */
static bool is_another(const struct coulomb_server *server, const char *subject)
{
    if (!subject || !server->subject)
        return (server->subject != NULL) || (server->token && subject);
    return strcmp(subject, server->subject) != 0;
}

/* Takes the token. Signing out is not another user yet: who it was may come back. Without memory for
 * its subject it counts as another's. */
static void take_token(struct coulomb_server *server, char *token)
{
    if (token) {
        char *subject = token_subject(server->heap, token);

        server->user += is_another(server, subject);
        heap_free_str(server->heap, server->subject);
        server->subject = subject;
    }
    heap_free_str(server->heap, server->token);
    server->token = token;
}

int coulomb_server_set_token(coulomb_server *server, const char *auth_token)
{
    char *token = auth_token ? heap_strdup(server->heap, auth_token) : NULL;
    int code = client_enter(server->client);

    if (code == COULOMB_OK && auth_token && !token)
        code = client_no_memory(server->client);
    if (code != COULOMB_OK) {
        heap_free_str(server->heap, token);
        return code;
    }
    take_token(server, token);
    server->token_serial++;
    credentials_invalidate(server->auth);
    shapes_expire(server);
    task_queue(&server->pump);
    return COULOMB_OK;
}

/* --- Making and closing ---------------------------------------------------------------------------- */

static void server_free(struct coulomb_server *server)
{
    coulomb_client *c = server->client;
    struct heap *h = server->heap;

    credentials_release(server->auth);
    heap_free_str(h, server->url);
    heap_free_str(h, server->secret);
    heap_free_str(h, server->ca_file);
    heap_free_str(h, server->token);
    heap_free_str(h, server->subject);
    heap_free(h, server, sizeof(*server));
    client_release(c);
}

static void server_close(struct coulomb_server *server)
{
    list_remove(&server->link);
    server->closed = true;
    completion_forget(&server->signing);
    server_calls_close(server);
    server->sending = NULL;
    writes_close(server);
    if (server->handles == 0)
        server_free(server);
}

static void servers_close(coulomb_client *c)
{
    while (!list_empty(&c->servers))
        server_close(LIST_ENTRY(c->servers.next, struct coulomb_server, link));
}

static void make_run(struct coulomb_server *server)
{
    unsigned char bytes[16];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        uint64_t parts[2] = {(uint64_t)clock_wall_us(), server->client->seed};

        memcpy(bytes, parts, sizeof(bytes));
    }
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(server->run + 2 * i, 3, "%02x", bytes[i]);
    memcpy(&server->random, bytes, sizeof(server->random));
    server->random |= 1;
}

static int copy_options(struct coulomb_server *server, const coulomb_server_options *o)
{
    struct heap *h = server->heap;
    size_t len = strlen(o->url);

    server->options = *o;
    if (server->options.retry_ms == 0)
        server->options.retry_ms = RETRY_MS;
    if (server->options.await_ms == 0)
        server->options.await_ms = AWAIT_MS;
    server->url = heap_strdup(h, o->url);
    server->secret = o->secret ? heap_strdup(h, o->secret) : NULL;
    server->ca_file = o->ca_file ? heap_strdup(h, o->ca_file) : NULL;
    if (o->auth_token)
        take_token(server, heap_strdup(h, o->auth_token));
    server->token_serial = 1;
    if (!server->url || (o->secret && !server->secret) ||
        (o->ca_file && !server->ca_file) || (o->auth_token && !server->token))
        return client_no_memory(server->client);
    while (len > 0 && server->url[len - 1] == '/')
        len--;
    if (len < strlen(server->url)) { /* keeps its size: it is freed by its length */
        char *cut = heap_alloc(h, len + 1);

        if (!cut)
            return client_no_memory(server->client);
        memcpy(cut, server->url, len);
        cut[len] = '\0';
        heap_free_str(h, server->url);
        server->url = cut;
    }
    return COULOMB_OK;
}

static int check_url(coulomb_client *c, const char *url)
{
    if (!url || !*url)
        return client_fail(c, COULOMB_E_MISSING_URL,
                           "a server needs its URL, http://127.0.0.1:3000 say");
    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
        return client_fail(c, COULOMB_E_ARGUMENT,
                           "a server's URL begins with http:// or https://");
    if (strpbrk(url, "?#"))
        return client_fail(c, COULOMB_E_ARGUMENT,
                           "a server's URL has no query: paths are added to it");
    return COULOMB_OK;
}

int coulomb_server_new(coulomb_client *c, const coulomb_server_options *options,
                       coulomb_server **out)
{
    const struct credentials_options auth = {.renew = renew};
    coulomb_server_options o;
    struct coulomb_server *server;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = options_read(c, &o, sizeof(o), options, "a server");
    if (code == COULOMB_OK)
        code = check_url(c, o.url);
    if (code != COULOMB_OK)
        return code;
    server = heap_zalloc(c->heap, sizeof(*server));
    if (!server)
        return client_no_memory(c);
    server->client = c;
    server->heap = c->heap;
    client_retain(c);
    list_init(&server->link);
    list_init(&server->calls);
    list_init(&server->shapes);
    list_init(&server->writes);
    timer_init(&server->retry, c, writes_retry);
    task_init(&server->pump, c, writes_pump);
    make_run(server);
    code = copy_options(server, &o);
    if (code == COULOMB_OK) {
        struct credentials_options mine = auth;

        mine.arg = server;
        code = credentials_new(c, &mine, &server->auth);
    }
    if (code != COULOMB_OK) {
        server_free(server);
        return code;
    }
    server->handles = 1;
    list_push(&c->servers, &server->link);
    c->servers_close = servers_close;
    *out = server;
    return COULOMB_OK;
}

coulomb_server *coulomb_server_retain(coulomb_server *server)
{
    server->handles++;
    return server;
}

void coulomb_server_release(coulomb_server *server)
{
    if (server && --server->handles == 0 && server->closed)
        server_free(server);
}

coulomb_client *coulomb_server_client(const coulomb_server *server)
{
    return server->client;
}

/* --- Shapes as collections ---------------------------------------------------------------------- */

/* A name as SQL writes it, as the catalog has it: quotes taken off, else in lower case. */
static bool put_name(struct buf *out, const char **text)
{
    const char *p = *text;
    size_t before = out->len;

    if (*p == '"') {
        for (p++; *p && (*p != '"' || p[1] == '"'); p++) {
            p += *p == '"';
            buf_putc(out, *p);
        }
        if (*p++ != '"')
            return false;
    } else {
        for (; *p && *p != '.'; p++)
            buf_putc(out, (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p));
    }
    *text = p;
    return out->len > before && !memchr(out->ptr + before, '.', out->len - before);
}

static int catalog_name(struct coulomb_server *server, const char *table, struct buf *out)
{
    const char *p = table;
    bool good = put_name(out, &p);

    if (good && *p == '.') {
        buf_putc(out, '.');
        p++;
        good = put_name(out, &p);
    }
    buf_putc(out, '\0');
    if (out->failed)
        return client_no_memory(server->client);
    return good && *p == '\0'
               ? COULOMB_OK
               : client_fail(server->client, COULOMB_E_ARGUMENT,
                             "\"%.100s\" is no table that can be written to: NAME or "
                             "SCHEMA.NAME is expected",
                             table);
}

static int bind_shape(struct coulomb_server *server, const coulomb_electric_options *o,
                      struct coulomb_collection *coll)
{
    coulomb_server_table t;
    struct buf name;
    int code;

    buf_init_from(&name, 1024, &server->heap->mem);
    code = catalog_name(server, o->table, &name);
    coulomb_options_init(&t, sizeof(t));
    t.table = name.ptr;
    t.key_columns = o->key_columns;
    t.key_column_count = o->key_column_count;
    if (code == COULOMB_OK)
        code = table_bind(server, coll, &t, true);
    buf_fini(&name);
    return code;
}

static void add_handlers(struct coulomb_server *server, coulomb_collection_options *o)
{
    if (o->on_insert || o->on_update || o->on_delete || o->handler_arg)
        return;
    o->on_insert = coulomb_server_persist;
    o->on_update = coulomb_server_persist;
    o->on_delete = coulomb_server_persist;
    o->handler_arg = server;
}

static int open_shape(struct coulomb_server *server, coulomb_electric_options *o,
                      coulomb_collection **out)
{
    const char *table = o->table;
    int code;

    if (server->options.gatekeeper) { /* the token says it */
        o->table = NULL;
        o->where = NULL;
        o->param_count = 0;
        o->column_count = 0;
    }
    code = coulomb_electric_collection_open(server->client, o, out);
    o->table = table;
    if (code != COULOMB_OK)
        return code;
    code = bind_shape(server, o, *out);
    if (code != COULOMB_OK) {
        coulomb_collection_release(*out);
        *out = NULL;
    }
    return code;
}

/* The secret goes as credentials do: it is no part of the shape, and of no key or export. */
static int renew_secret(coulomb_credentials *credentials, int refused, void *arg)
{
    const struct coulomb_server *server = arg;

    (void)refused;
    return coulomb_credentials_param(credentials, "secret", server->secret);
}

static void drop_secret(void *arg)
{
    coulomb_server_release(arg);
}

/* What a shape of it is read with; *out is NULL when nothing is needed. */
static int credentials_for(struct coulomb_server *server, const char *table,
                           const coulomb_pair *params, size_t param_count,
                           coulomb_credentials **out)
{
    coulomb_credentials_options o;
    int code;

    *out = NULL;
    if (server->options.gatekeeper)
        return coulomb_server_shape_credentials(server, table, params, param_count, out);
    if (!server->secret)
        return COULOMB_OK;
    coulomb_options_init(&o, sizeof(o));
    o.renew = renew_secret;
    o.drop = drop_secret;
    o.arg = server;
    code = coulomb_credentials_new(server->client, &o, out);
    if (code == COULOMB_OK)
        coulomb_server_retain(server);
    return code;
}

int coulomb_server_collection_open(coulomb_server *server,
                                   const coulomb_electric_options *options,
                                   const coulomb_pair *params, size_t param_count,
                                   coulomb_collection **out)
{
    coulomb_client *c = server->client;
    coulomb_electric_options o;
    coulomb_credentials *credentials = NULL;
    char *url;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = options_read(c, &o, sizeof(o), options, "a collection");
    if (code == COULOMB_OK && (!o.table || !*o.table))
        code =
            client_fail(c, COULOMB_E_ARGUMENT, "a server's collection needs its table");
    if (code == COULOMB_OK)
        code = credentials_for(server, o.table, params, param_count, &credentials);
    if (code != COULOMB_OK)
        return code;
    url = server_url(server, server->options.gatekeeper ? "/shape" : "/v1/shape");
    o.url = url;
    o.ca_file = server->ca_file;
    if (credentials)
        o.credentials = credentials;
    add_handlers(server, &o.collection);
    code = url ? open_shape(server, &o, out) : client_no_memory(c);
    coulomb_credentials_release(credentials);
    heap_free_str(server->heap, url);
    return code;
}
