/*
 * Collections come, start, stop and go.
 *
 * Sync is started by whoever first needs rows; the adapter's start runs in the next poll. With no
 * subscription left for gc_time_ms the collection is cleaned up, to be started again when needed.
 */

#include "client/collection/collection.h"

#include <stdio.h>
#include <string.h>

#define GC_TIME_DEFAULT_MS 300000
#define GC_RETRY_MS        1000

static coulomb_key synced_key(const void *item)
{
    return row_key(item);
}

static coulomb_key local_key(const void *item)
{
    return ((const struct local *)item)->key;
}

static coulomb_key meta_key(const void *item)
{
    return ((const struct row_meta *)item)->key;
}

const char *coulomb_status_name(coulomb_status status)
{
    static const char *const names[] = {"idle", "loading", "ready", "error",
                                        "cleaned-up"};

    return (unsigned)status < sizeof(names) / sizeof(names[0]) ? names[status] : NULL;
}

/* --- Status -------------------------------------------------------------------------------- */

static bool allowed(coulomb_status from, coulomb_status to)
{
    static const unsigned to_of[] = {
        [COULOMB_IDLE] =
            1u << COULOMB_LOADING | 1u << COULOMB_ERROR | 1u << COULOMB_CLEANED_UP,
        [COULOMB_LOADING] =
            1u << COULOMB_READY | 1u << COULOMB_ERROR | 1u << COULOMB_CLEANED_UP,
        [COULOMB_READY] = 1u << COULOMB_ERROR | 1u << COULOMB_CLEANED_UP,
        [COULOMB_ERROR] =
            1u << COULOMB_READY | 1u << COULOMB_CLEANED_UP | 1u << COULOMB_IDLE,
        [COULOMB_CLEANED_UP] = 1u << COULOMB_LOADING | 1u << COULOMB_ERROR};

    return (to_of[from] & 1u << to) != 0;
}

int status_set(struct coulomb_collection *coll, coulomb_status to)
{
    coulomb_event event = {.type = COULOMB_EVENT_STATUS, .status = to};

    if (coll->status == to)
        return COULOMB_OK;
    if (!allowed(coll->status, to))
        return client_fail(coll->client, COULOMB_E_STATUS_TRANSITION,
                           "%s can't go from %s to %s", coll->id,
                           coulomb_status_name(coll->status), coulomb_status_name(to));
    event.previous_status = coll->status;
    coll->status = to;
    if (to != COULOMB_ERROR)
        memset(&coll->error, 0, sizeof(coll->error));
    event_emit(coll, &event);
    if (to == COULOMB_READY || to == COULOMB_ERROR || to == COULOMB_CLEANED_UP)
        ready_notify(coll);
    if (to == COULOMB_READY && event.previous_status == COULOMB_ERROR)
        subs_started(coll);
    return COULOMB_OK;
}

coulomb_status coulomb_collection_status(const coulomb_collection *coll)
{
    return coll->status;
}

const coulomb_error *coulomb_collection_error(const coulomb_collection *coll)
{
    return &coll->error;
}

/* --- Sessions -------------------------------------------------------------------------------- */

int session_begin(struct coulomb_collection *coll)
{
    struct coulomb_sync *s;
    int code;

    s = heap_alloc(coll->heap, sizeof(*s));
    if (!s)
        return client_no_memory(coll->client);
    code = status_set(coll, COULOMB_LOADING);
    if (code != COULOMB_OK) {
        heap_free(coll->heap, s, sizeof(*s));
        return code;
    }
    *s = (struct coulomb_sync){.coll = coll, .client = coll->client, .refs = 1};
    client_retain(coll->client);
    coll->session = s;
    gc_arm(coll);
    return COULOMB_OK;
}

/* Stops the adapter. *failed tells whether it said so. */
static void session_end(struct coulomb_collection *coll, bool *failed)
{
    struct coulomb_sync *s = coll->session;

    *failed = false;
    task_cancel(&coll->start_task);
    if (!s)
        return;
    if (coll->has_adapter && coll->adapter.stop)
        *failed = coll->adapter.stop(s, coll->options.adapter_arg) != 0;
    s->coll = NULL;
    coll->session = NULL;
    subs_stopped(coll);
    coulomb_sync_release(s);
}

static int start_task_run(struct task *t)
{
    struct coulomb_collection *coll =
        LIST_ENTRY(t, struct coulomb_collection, start_task);
    struct coulomb_sync *s = coll->session;
    int code;

    if (!s)
        return COULOMB_OK;
    collection_hold(coll);
    coulomb_sync_retain(s);
    code = coll->adapter.start(s, coll->options.adapter_arg);
    if (code != 0 && s->coll && coll->status != COULOMB_ERROR &&
        status_set(coll, COULOMB_ERROR) == COULOMB_OK)
        error_set(&coll->error, code < 0 ? code : COULOMB_E_FAILED,
                  "the adapter of %s did not start: %s", coll->id,
                  coulomb_error_text(code));
    coulomb_sync_release(s);
    collection_drop(coll);
    return COULOMB_OK;
}

int collection_wake(struct coulomb_collection *coll)
{
    int code;

    if (coll->status != COULOMB_IDLE && coll->status != COULOMB_CLEANED_UP)
        return COULOMB_OK;
    code = session_begin(coll);
    if (code == COULOMB_OK) {
        task_queue(&coll->start_task);
        subs_started(coll);
    }
    return code;
}

int coulomb_collection_start(coulomb_collection *coll)
{
    int code = client_enter(coll->client);

    return code == COULOMB_OK ? collection_wake(coll) : code;
}

/* --- Clean-up ---------------------------------------------------------------------------------- */

static void layers_clear(struct coulomb_collection *coll)
{
    struct kent *ent;
    size_t it = 0;

    while (!list_empty(&coll->sync_txs))
        sync_tx_free(coll, LIST_ENTRY(coll->sync_txs.next, struct sync_tx, link));
    locals_clear(coll);
    while ((ent = ktab_next(&coll->synced, &it)) != NULL)
        row_release(ent->item);
    ktab_fini(&coll->synced);
    it = 0;
    while ((ent = ktab_next(&coll->metas, &it)) != NULL) {
        struct row_meta *m = ent->item;

        blob_fini(coll->heap, &m->key_bytes);
        blob_fini(coll->heap, &m->value);
        heap_free(coll->heap, m, sizeof(*m));
    }
    ktab_fini(&coll->metas);
    meta_list_clear(coll, &coll->meta);
    /* Who persists still holds back nothing of what comes now. */
    coll->persisting = coll->key_gates = 0;
    coll->generation++;
}

static int touch_visible(struct coulomb_collection *coll, struct edit *e)
{
    struct kent *ent;
    size_t it = 0;

    while ((ent = ktab_next(&coll->synced, &it)) != NULL) {
        if (!edit_touch(e, row_key(ent->item), ent->hash))
            return client_no_memory(coll->client);
    }
    it = 0;
    while ((ent = ktab_next(&coll->locals, &it)) != NULL) {
        if (!edit_touch(e, ((struct local *)ent->item)->key, ent->hash))
            return client_no_memory(coll->client);
    }
    return COULOMB_OK;
}

/* Subscriptions hear that the rows go. */
int coulomb_collection_cleanup(coulomb_collection *coll)
{
    struct edit e;
    bool failed;
    bool observed = coll_observed(coll);
    int code = client_enter(coll->client);

    if (code != COULOMB_OK || coll->status == COULOMB_CLEANED_UP)
        return code;
    edit_begin(&e, coll);
    if (observed)
        code = touch_visible(coll, &e);
    if (code == COULOMB_OK)
        code = edit_ready(&e);
    if (code != COULOMB_OK) {
        edit_abort(&e);
        return code;
    }
    collection_hold(coll);
    session_end(coll, &failed);
    timer_cancel(&coll->gc_timer);
    layers_clear(coll);
    indexes_reset(coll);
    edit_finish(&e);
    coll->visible = 0;
    code = status_set(coll, COULOMB_CLEANED_UP);
    if (code == COULOMB_OK && failed)
        code = client_fail(coll->client, COULOMB_E_SYNC_CLEANUP,
                           "the adapter of %s did not stop", coll->id);
    if (failed)
        client_log(coll->client, COULOMB_LOG_WARNING,
                   "event=collection.stop_failed collection=\"%s\"", coll->id);
    collection_drop(coll);
    return code;
}

static void gc_fire(struct timer *t)
{
    struct coulomb_collection *coll = LIST_ENTRY(t, struct coulomb_collection, gc_timer);

    if (coll->sub_count == 0 && coulomb_collection_cleanup(coll) == COULOMB_E_MEMORY)
        timer_set(t, timer_after(coll->client, GC_RETRY_MS));
}

void gc_arm(struct coulomb_collection *coll)
{
    int64_t wait = coll->options.gc_time_ms;

    if (coll->sub_count > 0 || wait < 0 || !coll->session) {
        timer_cancel(&coll->gc_timer);
        return;
    }
    timer_set(&coll->gc_timer,
              timer_after(coll->client, wait == 0 ? GC_TIME_DEFAULT_MS : wait));
}

/* --- Making and freeing -------------------------------------------------------------------------- */

static void init_lists(struct coulomb_collection *coll)
{
    coulomb_client *c = coll->client;

    ktab_init(&coll->synced, coll->heap, synced_key);
    ktab_init(&coll->locals, coll->heap, local_key);
    ktab_init(&coll->metas, coll->heap, meta_key);
    list_init(&coll->link);
    list_init(&coll->kept);
    list_init(&coll->meta);
    list_init(&coll->sync_txs);
    list_init(&coll->indexes);
    list_init(&coll->subs);
    list_init(&coll->listeners);
    list_init(&coll->ready_waits);
    task_init(&coll->start_task, c, start_task_run);
    task_init(&coll->event_task, c, event_task_run);
    task_init(&coll->ready_task, c, ready_task_run);
    timer_init(&coll->gc_timer, c, gc_fire);
}

static int name_it(struct coulomb_collection *coll, const char *id)
{
    char made[32];

    if (!id) {
        snprintf(made, sizeof(made), "collection-%llu",
                 (unsigned long long)++coll->client->last_id);
        id = made;
    }
    coll->id = heap_strdup(coll->heap, id);
    return coll->id ? COULOMB_OK : client_no_memory(coll->client);
}

int collection_make(coulomb_client *c, const coulomb_collection_options *options,
                    coulomb_collection **out)
{
    struct coulomb_collection *coll;
    int code;

    coll = heap_zalloc(c->heap, sizeof(*coll));
    if (!coll)
        return client_no_memory(c);
    coll->client = c;
    coll->heap = c->heap;
    coll->options = *options;
    coll->refs = coll->handles = 1;
    coll->generation = 1;
    init_lists(coll);
    code = name_it(coll, options->id);
    if (code == COULOMB_OK) {
        code = layout_new(c->heap, options->columns, options->column_count,
                          options->key_column, options->get_key != NULL, &coll->layout,
                          &c->error);
        if (code == COULOMB_E_MEMORY)
            client_no_memory(c);
    }
    if (code != COULOMB_OK) {
        heap_free_str(coll->heap, coll->id);
        heap_free(coll->heap, coll, sizeof(*coll));
        return code;
    }
    client_retain(c);
    list_push(&c->collections, &coll->link);
    c->collection_count++;
    *out = coll;
    return COULOMB_OK;
}

int coulomb_collection_new(coulomb_client *c, const coulomb_collection_options *options,
                           coulomb_collection **out)
{
    coulomb_collection_options o;
    coulomb_adapter adapter;
    coulomb_collection *coll;
    int code = client_enter(c);

    if (code != COULOMB_OK)
        return code;
    if (!options)
        return client_fail(c, COULOMB_E_COLLECTION_REQUIRES_CONFIG,
                           "a collection needs options");
    code = options_read(c, &o, sizeof(o), options, "coulomb_collection_new");
    if (code != COULOMB_OK)
        return code;
    code = options_read(c, &adapter, sizeof(adapter), o.adapter, "the adapter");
    if (code != COULOMB_OK)
        return code;
    if (!adapter.start)
        return client_fail(
            c, COULOMB_E_COLLECTION_REQUIRES_SYNC,
            "a collection needs an adapter with a start function; without a "
            "server, make it with coulomb_local_new");
    if (o.on_demand && !adapter.load_subset)
        return client_fail(c, COULOMB_E_COLLECTION_CONFIG,
                           "an on-demand collection needs an adapter with load_subset");
    if (o.get_key && o.key_column)
        return client_fail(c, COULOMB_E_COLLECTION_CONFIG,
                           "key_column and get_key are both given");
    code = collection_make(c, &o, &coll);
    if (code != COULOMB_OK)
        return code;
    coll->adapter = adapter;
    coll->has_adapter = true;
    if (o.start_sync)
        code = collection_wake(coll);
    if (code != COULOMB_OK) {
        coulomb_collection_release(coll);
        return code;
    }
    *out = coll;
    return COULOMB_OK;
}

void collection_shut(struct coulomb_collection *coll)
{
    bool failed;

    session_end(coll, &failed);
    timer_cancel(&coll->gc_timer);
    task_cancel(&coll->event_task);
    task_cancel(&coll->ready_task);
    layers_clear(coll);
    indexes_free(coll);
    subs_clear(coll);
    listeners_clear(coll);
    coll->visible = 0;
    coll->status = COULOMB_CLEANED_UP;
    if (coll->kind_free)
        coll->kind_free(coll);
    coll->kind_free = NULL;
}

void collection_hold(struct coulomb_collection *coll)
{
    coll->refs++;
}

void collection_drop(struct coulomb_collection *coll)
{
    coulomb_client *c = coll->client;
    struct heap *h = coll->heap;

    if (--coll->refs > 0)
        return;
    coll->refs = 1; /* what stops may hold it for a moment */
    collection_shut(coll);
    list_remove(&coll->link);
    c->collection_count--;
    layout_release(coll->layout);
    heap_free(h, coll->events, EVENTS_MAX * sizeof(*coll->events));
    blob_fini(h, &coll->exported);
    heap_free_str(h, coll->id);
    attachment_free(h, coll->server);
    heap_free(h, coll, sizeof(*coll));
    client_release(c);
}

coulomb_collection *coulomb_collection_retain(coulomb_collection *coll)
{
    coll->handles++;
    return coll;
}

/* What is kept of completed transactions holds them, and they the collection: nobody will see it. */
static void forget_kept(struct coulomb_collection *coll)
{
    while (!list_empty(&coll->kept)) {
        struct local *l = LIST_ENTRY(coll->kept.next, struct local, kept_link);

        local_drop_kept(coll, l, false);
        local_sweep(coll, l);
    }
}

void coulomb_collection_release(coulomb_collection *coll)
{
    if (!coll || --coll->handles > 0)
        return;
    forget_kept(coll);
    collection_drop(coll);
}

const char *coulomb_collection_id(const coulomb_collection *coll)
{
    return coll->id;
}

coulomb_client *coulomb_collection_client(const coulomb_collection *coll)
{
    return coll->client;
}

int coulomb_collection_column(const coulomb_collection *coll, const char *name)
{
    return layout_find(coll->layout, name);
}
