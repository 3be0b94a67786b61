/*
 * What listeners hear of a collection, and preloads. Events are kept in a ring that is made with the
 * first listener, so that telling can't fail; with more than EVENTS_MAX between two polls the oldest
 * are lost, and the log says so.
 */

#include "client/collection/collection.h"

#include <stdio.h>
#include <string.h>

struct listener {
    struct registration reg;
    struct coulomb_collection *coll;
    coulomb_event_type type;
    coulomb_event_fn fn;
    void *arg;
    bool once;
    struct timer timer;
};

struct ready_wait {
    struct registration reg;
    struct coulomb_collection *coll;
    coulomb_ready_fn fn;
    void *arg;
};

void event_emit(struct coulomb_collection *coll, const coulomb_event *event)
{
    struct queued_event *to;

    if (list_empty(&coll->listeners))
        return;
    if (coll->event_count == EVENTS_MAX) {
        client_log(coll->client, COULOMB_LOG_WARNING,
                   "event=collection.events_lost collection=\"%s\" max=%u", coll->id,
                   EVENTS_MAX);
        coll->event_first = (coll->event_first + 1) % EVENTS_MAX;
        coll->event_count--;
    }
    to = &coll->events[(coll->event_first + coll->event_count++) % EVENTS_MAX];
    *to = (struct queued_event){.type = event->type,
                                .status = event->status,
                                .previous_status = event->previous_status,
                                .count = event->count};
    if (event->index)
        snprintf(to->index, sizeof(to->index), "%s", event->index);
    task_queue(&coll->event_task);
}

static void listener_drop(struct registration *r)
{
    struct listener *l = LIST_ENTRY(r, struct listener, reg);
    coulomb_client *c = l->coll->client;

    timer_cancel(&l->timer);
    registration_remove(c, r);
    heap_free(c->heap, l, sizeof(*l));
}

static struct listener *next_listener(struct coulomb_collection *coll,
                                      coulomb_token after, coulomb_event_type type)
{
    for (struct list *at = coll->listeners.next; at != &coll->listeners; at = at->next) {
        struct listener *l = LIST_ENTRY(at, struct listener, reg.link);

        if (l->reg.token > after && l->type == type)
            return l;
    }
    return NULL;
}

static void tell(struct coulomb_collection *coll, const struct queued_event *q,
                 coulomb_token last)
{
    coulomb_event event = {q->type, q->status, q->previous_status, q->count,
                           q->index[0] != '\0' ? q->index : NULL};
    coulomb_token at = 0;
    struct listener *l;

    /* Found anew each time: a callback may end any registration. */
    while ((l = next_listener(coll, at, q->type)) != NULL && l->reg.token <= last) {
        coulomb_event_fn fn = l->fn;
        void *arg = l->arg;

        at = l->reg.token;
        if (l->once)
            listener_drop(&l->reg);
        fn(coll, &event, arg);
    }
}

int event_task_run(struct task *t)
{
    struct coulomb_collection *coll =
        LIST_ENTRY(t, struct coulomb_collection, event_task);
    coulomb_token last = coll->client->last_token;

    collection_hold(coll);
    for (size_t n = coll->event_count; n > 0 && coll->event_count > 0; n--) {
        struct queued_event q = coll->events[coll->event_first];

        coll->event_first = (coll->event_first + 1) % EVENTS_MAX;
        coll->event_count--;
        tell(coll, &q, last);
    }
    if (coll->event_count > 0)
        task_queue(&coll->event_task);
    collection_drop(coll);
    return COULOMB_OK;
}

static void wait_timeout(struct timer *t)
{
    struct listener *l = LIST_ENTRY(t, struct listener, timer);
    struct coulomb_collection *coll = l->coll;
    coulomb_event event = {.type = COULOMB_EVENT_TIMEOUT};
    coulomb_event_fn fn = l->fn;
    void *arg = l->arg;

    listener_drop(&l->reg);
    collection_hold(coll);
    fn(coll, &event, arg);
    collection_drop(coll);
}

static int listen(coulomb_collection *coll, coulomb_event_type type, coulomb_event_fn fn,
                  void *arg, bool once, coulomb_token *token, struct listener **out)
{
    coulomb_client *c = coll->client;
    struct listener *l;
    int code = client_enter(c);

    if (code != COULOMB_OK)
        return code;
    if (!fn || type >= COULOMB_EVENT_TIMEOUT)
        return client_fail(c, COULOMB_E_ARGUMENT,
                           "a listener needs a function and an event");
    if (!coll->events)
        coll->events = heap_alloc(c->heap, EVENTS_MAX * sizeof(*coll->events));
    l = coll->events ? heap_zalloc(c->heap, sizeof(*l)) : NULL;
    if (!l)
        return client_no_memory(c);
    l->coll = coll;
    l->type = type;
    l->fn = fn;
    l->arg = arg;
    l->once = once;
    l->reg.drop = listener_drop;
    timer_init(&l->timer, c, wait_timeout);
    registration_add(c, &l->reg, &coll->listeners, token);
    *out = l;
    return COULOMB_OK;
}

int coulomb_collection_on(coulomb_collection *coll, coulomb_event_type type,
                          coulomb_event_fn fn, void *arg, coulomb_token *token)
{
    struct listener *l;

    return listen(coll, type, fn, arg, false, token, &l);
}

int coulomb_collection_wait(coulomb_collection *coll, coulomb_event_type type,
                            int64_t timeout_ms, coulomb_event_fn fn, void *arg,
                            coulomb_token *token)
{
    struct listener *l;
    int code = listen(coll, type, fn, arg, true, token, &l);

    if (code == COULOMB_OK && timeout_ms >= 0)
        timer_set(&l->timer, timer_after(coll->client, timeout_ms));
    return code;
}

/* --- Preloads ------------------------------------------------------------------------------- */

static void ready_drop(struct registration *r)
{
    struct ready_wait *w = LIST_ENTRY(r, struct ready_wait, reg);
    coulomb_client *c = w->coll->client;

    registration_remove(c, r);
    heap_free(c->heap, w, sizeof(*w));
}

void ready_notify(struct coulomb_collection *coll)
{
    if (!list_empty(&coll->ready_waits))
        task_queue(&coll->ready_task);
}

int ready_task_run(struct task *t)
{
    struct coulomb_collection *coll =
        LIST_ENTRY(t, struct coulomb_collection, ready_task);
    coulomb_token last = coll->client->last_token;
    coulomb_error error = coll->error;

    if (coll->status == COULOMB_LOADING || coll->status == COULOMB_IDLE)
        return COULOMB_OK; /* it began anew: they wait on */
    if (coll->status == COULOMB_ERROR && error.code == COULOMB_OK)
        error_set(&error, COULOMB_E_COLLECTION_IS_IN_ERROR, "%s is in error", coll->id);
    collection_hold(coll);
    while (!list_empty(&coll->ready_waits)) {
        struct ready_wait *w =
            LIST_ENTRY(coll->ready_waits.next, struct ready_wait, reg.link);
        coulomb_ready_fn fn = w->fn;
        void *arg = w->arg;

        if (w->reg.token > last)
            break;
        ready_drop(&w->reg);
        fn(coll, &error, arg);
    }
    collection_drop(coll);
    return COULOMB_OK;
}

int coulomb_collection_preload(coulomb_collection *coll, coulomb_ready_fn fn, void *arg,
                               coulomb_token *token)
{
    coulomb_client *c = coll->client;
    struct ready_wait *w;
    int code = client_enter(c);

    if (code != COULOMB_OK)
        return code;
    if (!fn)
        return client_fail(c, COULOMB_E_ARGUMENT, "a preload needs a function");
    w = heap_zalloc(c->heap, sizeof(*w));
    if (!w)
        return client_no_memory(c);
    code = collection_wake(coll);
    if (code != COULOMB_OK) {
        heap_free(c->heap, w, sizeof(*w));
        return code;
    }
    if (coll->options.on_demand)
        client_log(c, COULOMB_LOG_WARNING,
                   "event=collection.preload_on_demand collection=\"%s\"", coll->id);
    w->coll = coll;
    w->fn = fn;
    w->arg = arg;
    w->reg.drop = ready_drop;
    registration_add(c, &w->reg, &coll->ready_waits, token);
    if (coll->status != COULOMB_LOADING)
        ready_notify(coll);
    return COULOMB_OK;
}

void listeners_clear(struct coulomb_collection *coll)
{
    while (!list_empty(&coll->listeners))
        listener_drop(&LIST_ENTRY(coll->listeners.next, struct listener, reg.link)->reg);
    while (!list_empty(&coll->ready_waits))
        ready_drop(&LIST_ENTRY(coll->ready_waits.next, struct ready_wait, reg.link)->reg);
}

/* --- Completions ------------------------------------------------------------------------------ */

struct coulomb_completion *completion_new(coulomb_client *c, void *what,
                                          void (*done)(void *what, int code,
                                                       const char *message),
                                          struct coulomb_completion **slot)
{
    struct coulomb_completion *done_struct = heap_alloc(c->heap, sizeof(*done_struct));

    if (!done_struct) {
        client_no_memory(c);
        return NULL;
    }
    *done_struct = (struct coulomb_completion){c, what, done, slot};
    client_retain(c);
    *slot = done_struct;
    return done_struct;
}

void completion_forget(struct coulomb_completion **slot)
{
    if (*slot) {
        (*slot)->what = NULL;
        (*slot)->slot = NULL;
    }
    *slot = NULL;
}

void coulomb_complete(coulomb_completion *done, int code, const char *message)
{
    coulomb_client *c = done->client;
    void *what = done->what;
    void (*fn)(void *, int, const char *) = done->done;

    if (done->slot)
        *done->slot = NULL;
    heap_free(c->heap, done, sizeof(*done));
    /* When the client is closed only what holds memory of its own still waits. */
    if (what && c->closed)
        fn(what, COULOMB_E_CLOSED, coulomb_error_text(COULOMB_E_CLOSED));
    else if (what)
        fn(what, code > 0 ? COULOMB_E_FAILED : code, message);
    client_release(c);
}

void coulomb_fail(coulomb_completion *done, const char *message)
{
    coulomb_complete(done, COULOMB_E_FAILED, message);
}
