/*
 * Tokens for shapes: the user's token exchanged for one that reads a shape (docs/gatekeeper.md).
 * Credentials of one table and one set of parameters are shared by all who ask for them, and forgotten
 * with the last of them.
 */

#include <string.h>

#include "base/clock.h"
#include "client/server/server.h"
#include "json/json.h"

#define BODY_BYTES_MAX (64u * 1024)
#define END_MAX_S      (10 * 366 * 86400LL) /* what is later is as good as for ever */
#define EARLY_S        10                   /* before its end a token is exchanged */

struct shape_token {
    struct list link; /* server.shapes */
    struct coulomb_server *server;
    coulomb_credentials *credentials;
    struct blob body;         /* the exchange's, which also names it */
    struct server_call *call; /* renewing; NULL: not */
    uint64_t user;            /* who is */
};

static void put_request(struct buf *out, const char *table, const coulomb_pair *params,
                        size_t count)
{
    buf_puts(out, "{\"table\":");
    json_put_string(out, slice_of(table));
    buf_puts(out, ",\"params\":{");
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_putc(out, ',');
        json_put_string(out, slice_of(params[i].name));
        buf_putc(out, ':');
        json_put_string(out, slice_of(params[i].value));
    }
    buf_puts(out, "}}");
}

static int exchange(struct coulomb_server *server, struct slice body, int64_t retry_ms,
                    server_call_fn *fn, void *arg, struct server_call **out)
{
    const struct server_call_options o = {.method = NET_POST,
                                          .path = "/shapes/auth-token",
                                          .body = body,
                                          .retry_ms = retry_ms};

    return server_call(server, &o, fn, arg, out);
}

/* The token of an answer, owned; NULL: *code and *why. */
static char *token_of(struct coulomb_server *server, const struct net_answer *answer,
                      int *code, const char **why)
{
    char *token = NULL;

    if (*code != COULOMB_OK)
        return NULL;
    if (answer->end == NET_DONE && answer->status == 200)
        token = answer_string(server->heap, answer->body, "token");
    if (token)
        return token;
    *code = server_is_passing(answer) ? COULOMB_E_NETWORK : COULOMB_E_REFUSED;
    *why = answer->end != NET_DONE ? answer->detail
           : answer->status == 403 ? "the server does not grant this shape to the user"
           : answer->status == 401 ? "the server does not accept the user's token"
           : answer->status == 404 ? "the server has no gatekeeper at /shapes/auth-token"
           : answer->status == 200 ? "the server's answer holds no token"
                                   : "the server could not exchange the token";
    return NULL;
}

/* --- Credentials ------------------------------------------------------------------------------------- */

static int hold(struct shape_token *s, const char *token)
{
    coulomb_client *c = s->server->client;
    int64_t left_s = token_end_s(c->heap, token) - clock_wall_us() / 1000000;
    char *value = token_bearer(c->heap, token);

    if (!value)
        return COULOMB_E_MEMORY;
    int code = coulomb_credentials_header(s->credentials, "authorization", value);
    heap_free_str(c->heap, value);
    if (left_s > 0 && left_s < END_MAX_S)
        coulomb_credentials_expire_at(
            s->credentials,
            timer_after(c, (left_s > 2 * EARLY_S ? left_s - EARLY_S : left_s) * 1000));
    return code;
}

static int begin(struct shape_token *s);

static void on_answer(const struct net_answer *answer, int code, const char *message,
                      void *arg)
{
    struct shape_token *s = arg;
    struct coulomb_server *server = s->server;
    char *token;

    s->call = NULL;
    if (code == COULOMB_E_CLOSED)
        return;
    if (s->user != server->user) { /* it is for who was signed in before */
        code = begin(s);
        if (code != COULOMB_OK)
            coulomb_credentials_answer(s->credentials, code, NULL);
        return;
    }
    token = token_of(server, answer, &code, &message);
    if (token)
        code = hold(s, token);
    heap_free_str(server->heap, token);
    coulomb_credentials_answer(s->credentials, code, message);
}

static int begin(struct shape_token *s)
{
    s->user = s->server->user;
    /* What waits for it does so for ever, too. */
    return exchange(s->server, slice_make(s->body.ptr, s->body.len), COULOMB_NEVER,
                    on_answer, s, &s->call);
}

static int renew(coulomb_credentials *credentials, int refused, void *arg)
{
    int code;

    (void)credentials;
    (void)refused;
    code = begin(arg);
    return code == COULOMB_OK ? COULOMB_PENDING : code;
}

static void drop(void *arg)
{
    struct shape_token *s = arg;
    struct coulomb_server *server = s->server;

    if (s->call)
        server_call_cancel(s->call);
    list_remove(&s->link);
    blob_fini(server->heap, &s->body);
    heap_free(server->heap, s, sizeof(*s));
    coulomb_server_release(server);
}

void shapes_expire(struct coulomb_server *server)
{
    for (struct list *l = server->shapes.next; l != &server->shapes; l = l->next)
        credentials_invalidate(
            credentials_inner(LIST_ENTRY(l, struct shape_token, link)->credentials));
}

static struct shape_token *find(const struct coulomb_server *server, struct slice body)
{
    for (struct list *l = server->shapes.next; l != &server->shapes; l = l->next) {
        struct shape_token *s = LIST_ENTRY(l, struct shape_token, link);

        if (slice_eq(slice_make(s->body.ptr, s->body.len), body))
            return s;
    }
    return NULL;
}

static int make(struct coulomb_server *server, struct slice body,
                coulomb_credentials **out)
{
    struct shape_token *s = heap_zalloc(server->heap, sizeof(*s));
    coulomb_credentials_options o;

    if (!s)
        return client_no_memory(server->client);
    s->server = server;
    list_init(&s->link);
    coulomb_options_init(&o, sizeof(o));
    o.renew = renew;
    o.drop = drop;
    o.arg = s;
    int code = blob_set(server->heap, &s->body, body.ptr, body.len);
    if (code == COULOMB_OK)
        code = coulomb_credentials_new(server->client, &o, &s->credentials);
    else
        client_no_memory(server->client);
    if (code != COULOMB_OK) {
        blob_fini(server->heap, &s->body);
        heap_free(server->heap, s, sizeof(*s));
        return code;
    }
    coulomb_server_retain(server);
    list_push(&server->shapes, &s->link);
    *out = s->credentials;
    return COULOMB_OK;
}

static int check(struct coulomb_server *server, const char *table)
{
    int code = client_enter(server->client);

    if (code != COULOMB_OK)
        return code;
    return table && *table ? COULOMB_OK
                           : client_fail(server->client, COULOMB_E_ARGUMENT,
                                         "a token for a shape needs the shape's table");
}

int coulomb_server_shape_credentials(coulomb_server *server, const char *table,
                                     const coulomb_pair *params, size_t param_count,
                                     coulomb_credentials **out)
{
    struct buf body;
    int code = check(server, table);

    if (code != COULOMB_OK)
        return code;
    buf_init_from(&body, BODY_BYTES_MAX, &server->heap->mem);
    put_request(&body, table, params, param_count);
    struct shape_token *s = body.failed ? NULL : find(server, buf_slice(&body));
    if (body.failed == ERR_LIMIT)
        code = client_fail(server->client, COULOMB_E_ARGUMENT,
                           "the parameters are longer than %u bytes", BODY_BYTES_MAX);
    else if (body.failed)
        code = client_no_memory(server->client);
    else if (s)
        *out = coulomb_credentials_retain(s->credentials);
    else
        code = make(server, buf_slice(&body), out);
    buf_fini(&body);
    return code;
}

/* --- One token ----------------------------------------------------------------------------------------- */

struct asking {
    struct coulomb_server *server;
    coulomb_shape_token_fn fn;
    void *arg;
};

static void on_token(const struct net_answer *answer, int code, const char *message,
                     void *arg)
{
    struct asking a = *(struct asking *)arg;

    heap_free(a.server->heap, arg, sizeof(a));
    if (code == COULOMB_E_CLOSED)
        return;
    char *token = token_of(a.server, answer, &code, &message);
    a.fn(a.server, code, token, message, a.arg);
    heap_free_str(a.server->heap, token);
}

int coulomb_server_shape_token(coulomb_server *server, const char *table,
                               const coulomb_pair *params, size_t param_count,
                               coulomb_shape_token_fn fn, void *arg)
{
    struct asking *a;
    struct buf body;
    int code = check(server, table);

    if (code != COULOMB_OK)
        return code;
    a = heap_alloc(server->heap, sizeof(*a));
    if (!a)
        return client_no_memory(server->client);
    *a = (struct asking){server, fn, arg};
    buf_init_from(&body, BODY_BYTES_MAX, &server->heap->mem);
    put_request(&body, table, params, param_count);
    code = body.failed ? client_no_memory(server->client)
                       : exchange(server, buf_slice(&body), server->options.retry_ms,
                                  on_token, a, NULL);
    buf_fini(&body);
    if (code != COULOMB_OK)
        heap_free(server->heap, a, sizeof(*a));
    return code;
}
