/*
 * One request of the server, as who is signed in: it waits for credentials, is made again with new ones
 * when they are refused, and, where that does no harm, when the server could not take it.
 */

#include <string.h>

#include "client/server/server.h"

#define TIMEOUT_MS       30000
#define BACKOFF_FIRST_MS 250
#define BACKOFF_MAX_MS   15000

struct server_call {
    struct list link; /* server.calls */
    struct coulomb_server *server;
    struct credentials_waiter waiter;
    enum net_method method;
    char *url;
    char *key;
    struct blob body;
    int64_t timeout_ms;
    int64_t retry_until_ms; /* INT64_MIN: not at all */
    bool resent;            /* its caller sends it again itself */
    unsigned attempts;
    uint64_t generation;
    unsigned refusals;
    uint64_t user; /* who began it */
    struct net_call *net;
    struct timer again;
    server_call_fn *fn;
    void *arg;
};

static void call_free(struct server_call *call)
{
    struct heap *h = call->server->heap;

    list_remove(&call->link);
    credentials_cancel(&call->waiter);
    timer_cancel(&call->again);
    heap_free_str(h, call->url);
    heap_free_str(h, call->key);
    blob_fini(h, &call->body);
    heap_free(h, call, sizeof(*call));
}

static void deliver(struct server_call *call, const struct net_answer *answer, int code,
                    const char *message)
{
    server_call_fn *fn = call->fn;
    void *arg = call->arg;

    call->net = NULL;
    call_free(call);
    fn(answer, code, message, arg);
}

void server_call_cancel(struct server_call *call)
{
    if (call->net)
        net_call_cancel(call->net);
    call_free(call);
}

void server_calls_close(struct coulomb_server *server)
{
    while (!list_empty(&server->calls)) {
        struct server_call *call =
            LIST_ENTRY(server->calls.next, struct server_call, link);

        if (call->net)
            net_call_cancel(call->net);
        deliver(call, NULL, COULOMB_E_CLOSED, coulomb_error_text(COULOMB_E_CLOSED));
    }
}

bool server_is_passing(const struct net_answer *answer)
{
    return answer->end != NET_DONE || answer->status == 429 || answer->status == 502 ||
           answer->status == 503 || answer->status == 504;
}

double server_random(struct coulomb_server *server)
{
    server->random ^= server->random << 13;
    server->random ^= server->random >> 7;
    server->random ^= server->random << 17;
    return (double)(server->random >> 11) / 9007199254740992.0;
}

char *server_url(const struct coulomb_server *server, const char *path)
{
    size_t base = strlen(server->url);
    size_t len = strlen(path);
    char *url = heap_alloc(server->heap, base + len + 1);

    if (!url)
        return NULL;
    memcpy(url, server->url, base);
    memcpy(url + base, path, len + 1);
    return url;
}

static void start(struct server_call *call);

static bool wait_and_repeat(struct server_call *call, const struct net_answer *answer)
{
    static const struct net_backoff backoff = {BACKOFF_FIRST_MS, BACKOFF_MAX_MS, 2};
    coulomb_client *c = call->server->client;
    struct slice header =
        answer->head ? net_head_get(answer->head, "retry-after") : slice_make(NULL, 0);
    int64_t wait_ms =
        net_backoff_ms(&backoff, ++call->attempts, server_random(call->server),
                       net_retry_after_ms(header, 0));

    if (!server_is_passing(answer) || client_now(c) + wait_ms > call->retry_until_ms)
        return false;
    call->net = NULL;
    timer_set(&call->again, timer_after(c, wait_ms));
    return true;
}

static void on_again(struct timer *t)
{
    start(LIST_ENTRY(t, struct server_call, again));
}

static void on_answer(const struct net_answer *answer, void *arg)
{
    struct server_call *call = arg;
    struct credentials *auth = call->server->auth;

    if (answer->end == NET_DONE && answer->status == 401) {
        call->net = NULL;
        if (credentials_refused(auth, call->generation, &call->refusals)) {
            start(call);
            return;
        }
    } else if (answer->end == NET_DONE) {
        credentials_worked(auth, call->generation);
    }
    if (!wait_and_repeat(call, answer))
        deliver(call, answer, COULOMB_OK, "");
}

static int send(struct server_call *call, const struct credentials_set *set)
{
    enum { OWN_HEADERS = 2 };
    struct coulomb_server *server = call->server;
    size_t max = set->header_count + OWN_HEADERS;
    struct net_header *headers = heap_alloc(server->heap, max * sizeof(*headers));
    struct net_options o = {.method = call->method,
                            .url = call->url,
                            .headers = headers,
                            .body = call->body.ptr,
                            .body_bytes = call->body.len,
                            .head_timeout_ms = call->timeout_ms,
                            .once = call->retry_until_ms == INT64_MIN && !call->resent,
                            .ca_file = server->ca_file};

    if (!headers)
        return client_no_memory(server->client);
    for (size_t i = 0; i < set->header_count; i++)
        headers[o.header_count++] = set->headers[i];
    if (call->body.len > 0)
        headers[o.header_count++] =
            (struct net_header){"content-type", "application/json"};
    if (call->key)
        headers[o.header_count++] = (struct net_header){"idempotency-key", call->key};
    call->generation = set->generation;
    int code = net_call(server->client, &o, on_answer, call, &call->net);
    heap_free(server->heap, headers, max * sizeof(*headers));
    return code;
}

static void on_credentials(struct credentials_waiter *w, int code, const coulomb_error *e)
{
    struct server_call *call = LIST_ENTRY(w, struct server_call, waiter);

    if (code == COULOMB_OK)
        start(call);
    else
        deliver(call, NULL, code == COULOMB_E_MEMORY ? code : COULOMB_E_CREDENTIALS,
                e->message);
}

static void start(struct server_call *call)
{
    struct credentials_set set;

    if (call->user != call->server->user) {
        deliver(call, NULL, COULOMB_E_CREDENTIALS, ANOTHER_USER);
        return;
    }
    if (credentials_want(call->server->auth, &call->waiter, &set) == COULOMB_PENDING)
        return;
    int code = send(call, &set);
    if (code != COULOMB_OK)
        deliver(call, NULL, code, coulomb_last_error(call->server->client)->message);
}

/* Not inside of the call that makes it: fn comes in a poll. */
static void begin(struct timer *t)
{
    struct server_call *call = LIST_ENTRY(t, struct server_call, again);

    call->again.fire = on_again;
    start(call);
}

int server_call(struct coulomb_server *server, const struct server_call_options *o,
                server_call_fn *fn, void *arg, struct server_call **out)
{
    coulomb_client *c = server->client;
    struct server_call *call = heap_zalloc(server->heap, sizeof(*call));

    if (!call)
        return client_no_memory(c);
    call->server = server;
    list_init(&call->link);
    credentials_waiter_init(&call->waiter);
    call->waiter.ready = on_credentials;
    timer_init(&call->again, c, begin);
    call->user = server->user;
    call->method = o->method;
    call->timeout_ms = o->timeout_ms > 0 ? o->timeout_ms : TIMEOUT_MS;
    call->retry_until_ms = o->retry_ms == 0  ? INT64_MIN
                           : o->retry_ms < 0 ? INT64_MAX
                                             : timer_after(c, o->retry_ms);
    call->resent = o->resent;
    call->fn = fn;
    call->arg = arg;
    call->url = server_url(server, o->path);
    call->key = o->key ? heap_strdup(server->heap, o->key) : NULL;
    if (!call->url || (o->key && !call->key) ||
        (o->body.len > 0 &&
         blob_set(server->heap, &call->body, o->body.ptr, o->body.len) != COULOMB_OK)) {
        call_free(call);
        return client_no_memory(c);
    }
    list_push(&server->calls, &call->link);
    timer_set(&call->again, client_now(c));
    if (out)
        *out = call;
    return COULOMB_OK;
}
