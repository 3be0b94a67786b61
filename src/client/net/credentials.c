/*
 * Credentials: asked for once, however many requests want them or had theirs refused. Each set has a
 * number; a refusal counts only when it is about the newest one, so that ten requests that fail
 * with the same token cause one renewal.
 */

#include "client/net/credentials.h"

#include "client/net/fields.h"

#define REFUSALS_MAX 3

enum held { HELD_NONE, HELD_RENEWING, HELD };

struct credentials {
    coulomb_client *client;
    size_t refs;
    struct credentials_options options;
    enum held held;
    bool refused;      /* the ones before were */
    unsigned refusals; /* since one worked */
    uint64_t generation;
    int64_t expires_ms;
    struct net_fields headers;
    struct net_fields params;
    struct list waiters;
    struct task task; /* calls renew */
    bool used;        /* a request took the ones that are held */
};

int credentials_add_header(struct credentials *cr, const char *name, const char *value)
{
    return net_fields_set(cr->client->heap, &cr->headers, name, value);
}

int credentials_add_param(struct credentials *cr, const char *name, const char *value)
{
    return net_fields_set(cr->client->heap, &cr->params, name, value);
}

void credentials_expire_at(struct credentials *cr, int64_t deadline_ms)
{
    cr->expires_ms = deadline_ms;
}

void credentials_invalidate(struct credentials *cr)
{
    if (cr->held == HELD)
        cr->held = HELD_NONE;
}

/* Those who wait now; who waits again meanwhile waits for the next. */
static void tell_waiters(struct credentials *cr, int code, const coulomb_error *e)
{
    struct list now;

    list_init(&now);
    while (!list_empty(&cr->waiters))
        list_push(&now, list_pop(&cr->waiters));
    while (!list_empty(&now)) {
        struct credentials_waiter *w =
            LIST_ENTRY(list_pop(&now), struct credentials_waiter, link);

        w->ready(w, code, e);
    }
}

void credentials_answer(struct credentials *cr, int code, const char *message)
{
    coulomb_error e = {.code = 0};

    if (cr->held != HELD_RENEWING)
        return;
    cr->held = code == COULOMB_OK ? HELD : HELD_NONE;
    cr->used = false;
    if (code == COULOMB_OK)
        cr->generation++;
    else
        error_set(&e, code, "credentials: %s",
                  message ? message : coulomb_error_text(code));
    credentials_retain(cr);
    tell_waiters(cr, code, &e);
    credentials_release(cr);
}

static int renew(struct task *t)
{
    struct credentials *cr = LIST_ENTRY(t, struct credentials, task);
    bool refused = cr->refused;
    int code;

    net_fields_clear(cr->client->heap, &cr->headers);
    net_fields_clear(cr->client->heap, &cr->params);
    cr->expires_ms = INT64_MAX;
    cr->refused = false;
    credentials_retain(cr);
    code = cr->options.renew(cr, refused, cr->options.arg);
    if (code != COULOMB_PENDING)
        credentials_answer(cr, code < 0 ? code : COULOMB_OK, NULL);
    credentials_release(cr);
    return COULOMB_OK;
}

int credentials_new(coulomb_client *c, const struct credentials_options *options,
                    struct credentials **out)
{
    struct credentials *cr;

    if (!options->renew)
        return client_fail(c, COULOMB_E_ARGUMENT, "credentials need a renew function");
    cr = heap_zalloc(c->heap, sizeof(*cr));
    if (!cr)
        return client_no_memory(c);
    cr->client = c;
    cr->refs = 1;
    cr->options = *options;
    if (cr->options.refusals_max == 0)
        cr->options.refusals_max = REFUSALS_MAX;
    list_init(&cr->waiters);
    task_init(&cr->task, c, renew);
    client_retain(c);
    *out = cr;
    return COULOMB_OK;
}

struct credentials *credentials_retain(struct credentials *cr)
{
    cr->refs++;
    return cr;
}

void credentials_release(struct credentials *cr)
{
    coulomb_client *c;

    if (!cr || --cr->refs > 0)
        return;
    c = cr->client;
    task_cancel(&cr->task);
    if (cr->options.drop)
        cr->options.drop(cr->options.arg);
    net_fields_fini(c->heap, &cr->headers);
    net_fields_fini(c->heap, &cr->params);
    heap_free(c->heap, cr, sizeof(*cr));
    client_release(c);
}

void credentials_waiter_init(struct credentials_waiter *w)
{
    list_init(&w->link);
    w->ready = NULL;
}

void credentials_cancel(struct credentials_waiter *w)
{
    list_remove(&w->link);
}

int credentials_want(struct credentials *cr, struct credentials_waiter *w,
                     struct credentials_set *set)
{
    /* New ones are used once even if they came too late: else it would go round and round. */
    if (cr->held == HELD && (!cr->used || client_now(cr->client) < cr->expires_ms)) {
        cr->used = true;
        *set =
            (struct credentials_set){cr->headers.items, cr->headers.count,
                                     cr->params.items, cr->params.count, cr->generation};
        /* The next request asks again. */
        if (cr->options.each_request)
            cr->held = HELD_NONE;
        return COULOMB_OK;
    }
    if (cr->held != HELD_RENEWING) {
        cr->held = HELD_RENEWING;
        task_queue(&cr->task);
    }
    list_remove(&w->link);
    list_push(&cr->waiters, &w->link);
    return COULOMB_PENDING;
}

bool credentials_refused(struct credentials *cr, uint64_t generation, unsigned *mine)
{
    bool again = cr->refusals < cr->options.refusals_max;

    if (++*mine > cr->options.refusals_max) {
        *mine = 0;
        return false;
    }

    /* Newer ones are there, or another request had these refused before. */
    if (!cr->options.each_request && (generation != cr->generation || cr->held != HELD))
        return true;
    cr->refused = true;
    if (cr->held == HELD)
        cr->held = HELD_NONE;
    cr->refusals = again ? cr->refusals + 1 : 0;
    return again;
}

void credentials_worked(struct credentials *cr, uint64_t generation)
{
    if (cr->options.each_request || generation == cr->generation)
        cr->refusals = 0;
}
