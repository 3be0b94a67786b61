/* Functions, application routes, any other path, as who is signed in. */

#include <stdio.h>
#include <string.h>

#include "client/server/server.h"

struct request {
    struct coulomb_server *server;
    coulomb_response_fn fn;
    void *arg;
};

static void on_answer(const struct net_answer *answer, int code, const char *message,
                      void *arg)
{
    struct request *q = arg;
    struct coulomb_server *server = q->server;
    coulomb_response_fn fn = q->fn;
    void *fn_arg = q->arg;
    coulomb_response r = {.code = code, .message = message};
    struct write_answer a = {.success = false};
    char unsaid[64];

    heap_free(server->heap, q, sizeof(*q));
    if (code == COULOMB_E_CLOSED)
        return;
    if (code != COULOMB_OK) {
        fn(server, &r, fn_arg);
        return;
    }
    r.status = answer->status;
    r.body = (coulomb_str){answer->body.ptr, answer->body.len};
    bool read = answer_read(server->heap, answer->body, &a);
    if (answer->end != NET_DONE) {
        r.code = COULOMB_E_NETWORK;
        r.message = answer->detail;
    } else if (answer->status == 401) {
        r.code = COULOMB_E_CREDENTIALS;
        r.message = "the server does not accept the user's token";
    } else if (answer->status < 200 || answer->status > 299) {
        r.code = server_is_passing(answer) ? COULOMB_E_NETWORK : COULOMB_E_REFUSED;
        snprintf(unsaid, sizeof(unsaid), "the server answered %d", answer->status);
        r.message = read && a.refusal.message[0] ? a.refusal.message : unsaid;
    } else if (read) {
        r.has_txid = a.has_txid;
        r.txid = a.txid;
        r.lsn = a.lsn;
    }
    fn(server, &r, fn_arg);
}

static int method_of(coulomb_client *c, const coulomb_request *o, enum net_method *out)
{
    static const struct {
        const char *name;
        enum net_method method;
    } methods[] = {{"GET", NET_GET},     {"POST", NET_POST},     {"PUT", NET_PUT},
                   {"PATCH", NET_PATCH}, {"DELETE", NET_DELETE}, {"HEAD", NET_HEAD}};

    *out = o->body_len > 0 ? NET_POST : NET_GET;
    if (!o->method)
        return COULOMB_OK;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(methods[i].name, o->method) == 0) {
            *out = methods[i].method;
            return COULOMB_OK;
        }
    }
    return client_fail(c, COULOMB_E_ARGUMENT,
                       "\"%.20s\" is no method: GET, POST, PUT, PATCH, DELETE or HEAD",
                       o->method);
}

int coulomb_server_request(coulomb_server *server, const coulomb_request *request,
                           coulomb_response_fn fn, void *arg)
{
    coulomb_client *c = server->client;
    coulomb_request o;
    enum net_method method;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = options_read(c, &o, sizeof(o), request, "a request");
    if (code == COULOMB_OK)
        code = method_of(c, &o, &method);
    if (code != COULOMB_OK)
        return code;
    if (!fn || !o.path || o.path[0] != '/')
        return client_fail(c, COULOMB_E_ARGUMENT,
                           "a request needs a function, and a path that begins with /");
    struct request *q = heap_alloc(server->heap, sizeof(*q));
    if (!q)
        return client_no_memory(c);
    *q = (struct request){server, fn, arg};
    bool harmless = o.idempotency_key || method == NET_GET || method == NET_HEAD;
    const struct server_call_options call = {.method = method,
                                             .path = o.path,
                                             .body = slice_make(o.body, o.body_len),
                                             .key = o.idempotency_key,
                                             .timeout_ms = o.timeout_ms,
                                             .retry_ms =
                                                 harmless ? server->options.retry_ms : 0};
    code = server_call(server, &call, on_answer, q, NULL);
    if (code != COULOMB_OK)
        heap_free(server->heap, q, sizeof(*q));
    return code;
}
