/*
 * Writes: transactions in the order of their commits, as many as fit in a request, one request at a
 * time, so that two writes to one row arrive as they were made. The server applies them in order
 * until it refuses one; that one fails, and those behind it go with the next request.
 *
 *   persist ──▶ queue ──▶ [sent] ──applied──▶ awaited in its shapes ──▶ completed
 *                 ▲          ├─────refused──▶ failed, with the refusal
 *                 └─ backoff ┴─────the server can't take it, or nobody knows
 *
 * Each has an id under which it is applied once, so one whose answer was lost is simply sent again. */

#include <stdio.h>
#include <string.h>

#include "client/server/server.h"

#define BATCH_MAX        100 /* what the server takes in one list */
#define BATCH_BYTES      (256u * 1024)
#define BODY_BYTES_MAX   (1u << 30)
#define BACKOFF_FIRST_MS 250
#define BACKOFF_MAX_MS   15000

struct write {
    struct list link;
    struct coulomb_tx *tx; /* held */
    struct coulomb_completion *done;
    struct buf body;
    uint64_t user; /* who wrote it */
    bool unsure;   /* it was sent, and not answered */
    int64_t give_up_ms;
};

/* What an applied write waits for. */
struct echo {
    struct coulomb_server *server; /* held */
    struct coulomb_tx *tx;         /* held */
    struct coulomb_completion *done;
    bool late; /* in some collection it was not seen in time */
    size_t waiting;
    size_t count;
    struct coulomb_completion *slots[];
};

static void write_free(struct coulomb_server *server, struct write *w)
{
    list_remove(&w->link);
    buf_fini(&w->body);
    tx_drop(w->tx);
    heap_free(server->heap, w, sizeof(*w));
}

/* --- What becomes of one ------------------------------------------------------------------------- */

static void finish(struct coulomb_server *server, struct write *w, int code,
                   const char *message)
{
    struct coulomb_completion *done = w->done;

    write_free(server, w);
    coulomb_complete(done, code, message);
}

/* Of one that was not taken; it may have been, at an earlier attempt. */
static void not_taken(struct coulomb_server *server, struct write *w, int code,
                      const char *why)
{
    char message[512];

    snprintf(message, sizeof(message), "%s%s", why ? why : coulomb_error_text(code),
             w->unsure ? " (whether an earlier attempt was applied nobody knows)" : "");
    finish(server, w, code, message);
}

static size_t echo_bytes(size_t count)
{
    return sizeof(struct echo) + count * sizeof(struct coulomb_completion *);
}

static bool awaits(const struct coulomb_tx *tx, size_t i)
{
    const struct server_table *t = table_of(tx->touched[i].coll);

    return t && t->is_shape;
}

/* Seen in all its collections: what is still optimistic in them now is what the database made of it
 * otherwise. */
static void let_go(const struct coulomb_tx *tx)
{
    for (size_t i = 0; i < tx->touched_count; i++)
        if (awaits(tx, i))
            sync_passed(tx->touched[i].coll);
}

/* It is applied, whether or not it was seen in time. */
static void on_echo(void *what, int code, const char *message)
{
    struct echo *e = what;
    struct coulomb_completion *done = e->done;
    struct coulomb_server *server = e->server;
    struct coulomb_tx *tx = e->tx;

    if (code != COULOMB_OK)
        client_log(server->client, COULOMB_LOG_WARNING,
                   "event=server.not_seen reason=\"%s\"", message ? message : "");
    e->late = e->late || code != COULOMB_OK;
    if (--e->waiting > 0)
        return;
    bool late = e->late;
    heap_free(server->heap, e, echo_bytes(e->count));
    coulomb_complete(done, COULOMB_OK, NULL);
    if (!late && !server->closed)
        let_go(tx);
    tx_drop(tx);
    coulomb_server_release(server);
}

/* False: there is no memory to wait with. */
static bool await_echo(struct coulomb_server *server, struct write *w,
                       const struct write_answer *a)
{
    struct coulomb_tx *tx = w->tx;
    const uint64_t txid = a->txid;
    coulomb_await await;
    struct echo *e = heap_zalloc(server->heap, echo_bytes(tx->touched_count));

    if (!e)
        return false;
    e->server = coulomb_server_retain(server);
    e->done = w->done;
    e->tx = tx;
    tx_retain(tx);
    e->count = tx->touched_count;
    coulomb_options_init(&await, sizeof(await));
    await.txids = &txid;
    await.txid_count = 1;
    await.lsn = a->lsn;
    await.timeout_ms = server->options.await_ms;
    for (size_t i = 0; i < tx->touched_count; i++) {
        if (!awaits(tx, i))
            continue;
        e->slots[i] = completion_new(server->client, e, on_echo, &e->slots[i]);
        e->waiting += e->slots[i] != NULL;
    }
    size_t all = e->waiting;
    e->waiting++; /* this function's own */
    for (size_t i = 0; all > 0 && i < e->count; i++)
        if (e->slots[i])
            coulomb_complete_after(e->slots[i], tx->touched[i].coll, &await);
    write_free(server, w);
    on_echo(e, COULOMB_OK, NULL);
    return true;
}

static void applied(struct coulomb_server *server, struct write *w,
                    const struct write_answer *a)
{
    if (!a->has_txid || !await_echo(server, w, a))
        finish(server, w, COULOMB_OK, NULL);
}

struct refusal {
    struct attachment base;
    coulomb_refusal refusal;
};

static void refusal_free(struct heap *h, struct attachment *a)
{
    struct refusal *r = LIST_ENTRY(a, struct refusal, base);

    heap_free(h, r, sizeof(*r));
}

const coulomb_refusal *coulomb_tx_refusal(const coulomb_tx *tx)
{
    return tx->refusal ? &LIST_ENTRY(tx->refusal, struct refusal, base)->refusal : NULL;
}

static void refused(struct coulomb_server *server, struct write *w,
                    const coulomb_refusal *why)
{
    struct refusal *kept = heap_alloc(server->heap, sizeof(*kept));
    char message[1024];

    if (kept) {
        *kept = (struct refusal){{refusal_free}, *why};
        attachment_free(server->heap, w->tx->refusal);
        w->tx->refusal = &kept->base;
    }
    snprintf(message, sizeof(message), "%s%s%s%s%s%s%s (%s)", why->table,
             why->column[0] ? "." : "", why->column, why->table[0] ? ": " : "",
             why->message, why->constraint[0] ? ", by the constraint " : "",
             why->constraint, why->code);
    finish(server, w, COULOMB_E_REFUSED, message);
}

/* --- Trying again ---------------------------------------------------------------------------------- */

static struct write *first(struct coulomb_server *server)
{
    return list_empty(&server->writes)
               ? NULL
               : LIST_ENTRY(server->writes.next, struct write, link);
}

static void give_up(struct coulomb_server *server, const char *why)
{
    int64_t now_ms = client_now(server->client);
    char message[400];
    struct write *w;

    snprintf(message, sizeof(message), "the server did not take it in time: %s", why);
    while ((w = first(server)) != NULL && w->give_up_ms <= now_ms)
        not_taken(server, w, COULOMB_E_NETWORK, message);
}

static void try_later(struct coulomb_server *server, const struct net_answer *answer,
                      const char *why)
{
    static const struct net_backoff backoff = {BACKOFF_FIRST_MS, BACKOFF_MAX_MS, 2};
    struct slice header = answer && answer->head
                              ? net_head_get(answer->head, "retry-after")
                              : slice_make(NULL, 0);
    int64_t wait_ms = net_backoff_ms(&backoff, ++server->attempts, server_random(server),
                                     net_retry_after_ms(header, 0));

    give_up(server, why);
    if (!list_empty(&server->writes))
        timer_set(&server->retry, timer_after(server->client, wait_ms));
}

void writes_retry(struct timer *t)
{
    task_queue(&LIST_ENTRY(t, struct coulomb_server, retry)->pump);
}

/* --- Answers --------------------------------------------------------------------------------------- */

static bool is_passing(const coulomb_refusal *r)
{
    static const char *const codes[] = {"conflict", "timeout", "busy", "unavailable",
                                        "rate_limit"};

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (strcmp(r->code, codes[i]) == 0)
            return true;
    return false;
}

/* One after the other, as they were sent. */
static void take_list(struct coulomb_server *server, const struct net_answer *answer,
                      struct write_answer *answers, size_t count)
{
    struct write *w;

    for (size_t i = 0; i < count && (w = first(server)) != NULL; i++) {
        struct write_answer *a = &answers[i];

        if (!a->success && is_passing(&a->refusal)) {
            w->unsure = true; /* the server may have lost Postgres amid its commit */
            try_later(server, answer, a->refusal.message);
            return;
        }
        server->attempts = 0;
        server->singly -= server->singly > 0;
        a->refusal.status = answer->status;
        if (a->success)
            applied(server, w, a);
        else
            refused(server, w, &a->refusal);
    }
    task_queue(&server->pump);
}

/* Refused as a whole: one of them spoils it. */
static void take_refusal(struct coulomb_server *server, const struct net_answer *answer,
                         size_t sent)
{
    struct write_answer a;

    if (!answer_read(server->heap, answer->body, &a)) {
        a = (struct write_answer){.refusal = {.mutation = -1}};
        snprintf(a.refusal.code, sizeof(a.refusal.code), "http_%d", answer->status);
        snprintf(
            a.refusal.message, sizeof(a.refusal.message),
            "the server answered %d to POST /v1/transactions: is it a Coulomb server, "
            "with writes switched on (COULOMB_WRITE_ROLES)?",
            answer->status);
    }
    a.refusal.status = answer->status;
    if (sent > 1) {
        server->singly = sent;
    } else if (first(server)) {
        server->singly = 0;
        refused(server, first(server), &a.refusal);
    }
    task_queue(&server->pump);
}

static void take_failure(struct coulomb_server *server, size_t sent, int code,
                         const char *message)
{
    struct write *w;

    if (code == COULOMB_E_MEMORY) {
        try_later(server, NULL, message);
        return;
    }
    for (size_t i = 0; i < sent && (w = first(server)) != NULL; i++)
        not_taken(server, w, code, message);
    task_queue(&server->pump);
}

static void mark_unsure(struct coulomb_server *server, size_t sent)
{
    struct list *l = server->writes.next;

    for (size_t i = 0; i < sent && l != &server->writes; i++, l = l->next)
        LIST_ENTRY(l, struct write, link)->unsure = true;
}

static void on_answer(const struct net_answer *answer, int code, const char *message,
                      void *arg)
{
    struct coulomb_server *server = arg;
    struct write_answer answers[BATCH_MAX];
    size_t sent = server->sending_count;
    size_t count;

    server->sending = NULL;
    server->sending_count = 0;
    if (code == COULOMB_E_CLOSED)
        return;
    if (code != COULOMB_OK) {
        take_failure(server, sent, code, message);
        return;
    }
    if (answer->end != NET_DONE && answer->end != NET_UNREACHABLE)
        mark_unsure(server, sent);
    if (answer->end != NET_DONE)
        try_later(server, answer, answer->detail);
    else if (answer_read_list(server->heap, answer->body, answers, sent, &count) &&
             count > 0)
        take_list(server, answer, answers, count);
    else if (answer->status == 401)
        take_failure(server, sent, COULOMB_E_CREDENTIALS,
                     "the server does not accept the user's token");
    else if (answer->status >= 400 && !server_is_passing(answer) && answer->status < 500)
        take_refusal(server, answer, sent);
    else {
        mark_unsure(server, answer->status >= 500 ? sent : 0);
        try_later(server, answer, "the server could not take it");
    }
}

/* --- Sending ---------------------------------------------------------------------------------------- */

/* Rolled back before they were sent, or written by who was signed in before. */
static void drop_others(struct coulomb_server *server)
{
    for (struct list *l = server->writes.next, *next; l != &server->writes; l = next) {
        struct write *w = LIST_ENTRY(l, struct write, link);

        next = l->next;
        if (w->tx->state != COULOMB_TX_PERSISTING)
            finish(server, w, COULOMB_OK, NULL);
        else if (w->user != server->user)
            not_taken(server, w, COULOMB_E_CREDENTIALS, ANOTHER_USER);
    }
}

/* Somebody was, wrote, and has gone: nothing of that is sent as nobody. */
static bool is_signed_out(const struct coulomb_server *server)
{
    return server->subject && !server->token && !server->options.sign_in;
}

static size_t gather(struct coulomb_server *server, struct buf *body)
{
    size_t max = server->singly > 0 ? 1 : BATCH_MAX;
    size_t count = 0;

    buf_putc(body, '[');
    for (struct list *l = server->writes.next; l != &server->writes && count < max;
         l = l->next) {
        const struct write *w = LIST_ENTRY(l, struct write, link);

        if (count > 0 && body->len + w->body.len > BATCH_BYTES)
            break;
        if (count++ > 0)
            buf_putc(body, ',');
        buf_put_slice(body, buf_slice(&w->body));
    }
    buf_putc(body, ']');
    return count;
}

int writes_pump(struct task *t)
{
    struct coulomb_server *server = LIST_ENTRY(t, struct coulomb_server, pump);
    struct server_call_options o = {
        .method = NET_POST, .path = "/v1/transactions", .resent = true};
    struct buf body;
    int code;

    if (server->sending || timer_is_set(&server->retry))
        return COULOMB_OK;
    drop_others(server);
    if (!list_empty(&server->writes) && is_signed_out(server))
        try_later(server, NULL, "nobody is signed in");
    if (list_empty(&server->writes) || is_signed_out(server))
        return COULOMB_OK;
    buf_init_from(&body, BODY_BYTES_MAX, &server->heap->mem);
    server->sending_count = gather(server, &body);
    o.body = buf_slice(&body);
    code = body.failed ? COULOMB_E_MEMORY
                       : server_call(server, &o, on_answer, server, &server->sending);
    buf_fini(&body);
    return code == COULOMB_OK ? COULOMB_OK : COULOMB_E_MEMORY;
}

static int64_t give_up_at(const struct coulomb_server *server)
{
    return server->options.retry_ms < 0
               ? INT64_MAX
               : timer_after(server->client, server->options.retry_ms);
}

int coulomb_server_persist(coulomb_tx *tx, coulomb_collection *coll,
                           coulomb_completion *done, void *arg)
{
    struct coulomb_server *server = arg;
    struct write *w = heap_zalloc(server->heap, sizeof(*w));
    char message[256] = "";

    (void)coll;
    if (!w)
        return COULOMB_E_MEMORY;
    list_init(&w->link);
    tx_retain(tx);
    w->tx = tx;
    w->done = done;
    w->user = server->user;
    w->give_up_ms = give_up_at(server);
    buf_init_from(&w->body, BODY_BYTES_MAX, &server->heap->mem);
    int code = server->closed ? COULOMB_E_CLOSED
                              : body_put(&w->body, server, tx, message, sizeof(message));
    if (code == COULOMB_OK) {
        list_push(&server->writes, &w->link);
        task_queue(&server->pump);
        return COULOMB_PENDING;
    }
    write_free(server, w);
    if (!message[0])
        return code;
    coulomb_complete(done, code, message);
    return COULOMB_PENDING;
}

void writes_close(struct coulomb_server *server)
{
    timer_cancel(&server->retry);
    task_cancel(&server->pump);
    while (first(server))
        finish(server, first(server), COULOMB_E_CLOSED, NULL);
}
