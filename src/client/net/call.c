/*
 * Whole answers on the owner's thread. The I/O thread fills the call; at the end its post is queued,
 * and from then on it is the owner's. A cancelled one is freed at its post, too, which always comes:
 * in a poll, or when the client goes.
 */

#include <string.h>

#include "client/net/net.h"

struct net_call {
    coulomb_client *client;
    struct heap *heap;
    struct post post;
    struct net_request *request;
    net_answer_fn *fn; /* NULL: cancelled */
    void *arg;
    /* The I/O thread's until the post. */
    const struct net_head *head;
    char *body;
    size_t len;
    size_t cap;
    enum net_end end;
    char detail[256];
};

static enum net_verdict on_head(const struct net_head *head, void *arg)
{
    struct net_call *call = arg;

    call->head = head;
    return NET_GO_ON;
}

static enum net_verdict on_body(struct slice bytes, void *arg)
{
    struct net_call *call = arg;

    if (call->cap - call->len <= bytes.len) {
        size_t cap = (call->len + bytes.len) * 2 + 1;
        char *fresh = heap_shared(call->heap, call->body, cap);

        if (!fresh)
            return NET_FAIL;
        call->body = fresh;
        call->cap = cap;
    }
    memcpy(call->body + call->len, bytes.ptr, bytes.len);
    call->len += bytes.len;
    call->body[call->len] = '\0';
    return NET_GO_ON;
}

static void on_end(enum net_end end, const char *detail, void *arg)
{
    struct net_call *call = arg;
    size_t n = strlen(detail);

    n = n < sizeof(call->detail) ? n : sizeof(call->detail) - 1;
    memcpy(call->detail, detail, n);
    call->detail[n] = '\0';
    call->end = end;
    client_post(call->client, &call->post);
}

static void answer(coulomb_client *c, void *arg)
{
    struct net_call *call = arg;

    if (c && call->fn) {
        struct net_answer a = {.end = call->end,
                               .status = call->head ? net_head_status(call->head) : 0,
                               .head = call->head,
                               .body =
                                   slice_make(call->len > 0 ? call->body : "", call->len),
                               .detail = call->detail};

        call->fn(&a, call->arg);
    }
    net_request_release(call->request);
    heap_shared_free(call->heap, call->body);
    heap_free(call->heap, call, sizeof(*call));
}

int net_call(coulomb_client *c, const struct net_options *options, net_answer_fn *fn,
             void *arg, struct net_call **out)
{
    static const struct net_callbacks callbacks = {on_head, on_body, on_end};
    const char *detail = NULL;
    struct net_call *call;
    struct net *n;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = client_net(c, &n);
    if (code != COULOMB_OK)
        return code;
    call = heap_zalloc(c->heap, sizeof(*call));
    if (!call)
        return client_no_memory(c);
    call->client = c;
    call->heap = c->heap;
    call->fn = fn;
    call->arg = arg;
    call->post.fn = answer;
    call->post.arg = call;
    code = net_start(n, options, &callbacks, call, &call->request, &detail);
    if (code != COULOMB_OK) {
        heap_free(c->heap, call, sizeof(*call));
        return detail ? client_fail(c, code, "%s", detail) : client_no_memory(c);
    }
    if (out)
        *out = call;
    return COULOMB_OK;
}

void net_call_cancel(struct net_call *call)
{
    call->fn = NULL;
    if (!call->client->closed)
        net_cancel(call->request);
}
