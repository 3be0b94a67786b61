/*
 * Subscriptions: who they are, the rows that they begin with, the subsets that they have loaded.
 * What they hear afterwards is in deliver.c.
 *
 * A subset is asked for with the first poll. When a truncate comes the subscription holds all
 * changes back, asks for its subset again, and hears of everything at once when that is there: so
 * nobody sees an empty screen between.
 */

#include "client/collection/collection.h"

#include <string.h>

static coulomb_key sent_key(const void *item)
{
    return ((const struct sent_key *)item)->key;
}

static void loading_event(struct coulomb_collection *coll, size_t count)
{
    coulomb_event event = {.type = COULOMB_EVENT_LOADING_SUBSET, .count = count};

    event_emit(coll, &event);
}

/* --- Subsets --------------------------------------------------------------------------------- */

static void load_settled(struct coulomb_sub *sub)
{
    struct coulomb_collection *coll = sub->coll;

    if (sub->loading) {
        sub->loading = false;
        if (coll->loads > 0 && --coll->loads == 0)
            loading_event(coll, 0);
    }
    task_queue(&sub->flush_task);
}

static void load_done(void *what, int code, const char *message)
{
    struct coulomb_sub *sub = what;

    if (code != COULOMB_OK)
        client_log(sub->coll->client, COULOMB_LOG_WARNING,
                   "event=subset.failed collection=\"%s\" code=%d reason=\"%s\"",
                   sub->coll->id, code, message ? message : "");
    load_settled(sub);
}

static int load_run(struct task *t)
{
    struct coulomb_sub *sub = LIST_ENTRY(t, struct coulomb_sub, load_task);
    struct coulomb_collection *coll = sub->coll;
    struct coulomb_completion *done;
    int code;

    if (!coll->session || !coll->has_adapter) {
        load_settled(sub);
        return COULOMB_OK;
    }
    completion_forget(&sub->load);
    done = completion_new(coll->client, sub, load_done, &sub->load);
    if (!done)
        return COULOMB_E_MEMORY;
    sub->loaded = true;
    collection_hold(coll);
    code = coll->adapter.load_subset(coll->session, &sub->subset, done,
                                     coll->options.adapter_arg);
    if (code != COULOMB_PENDING)
        coulomb_complete(done, code, NULL);
    collection_drop(coll);
    return COULOMB_OK;
}

static void load_begin(struct coulomb_sub *sub)
{
    if (!sub->loading) {
        sub->loading = true;
        if (sub->coll->loads++ == 0)
            loading_event(sub->coll, 1);
    }
    task_queue(&sub->load_task);
}

static void held_clear(struct coulomb_sub *sub)
{
    for (size_t i = 0; i < sub->held_count; i++) {
        coulomb_row_release(sub->held[i].row);
        coulomb_row_release(sub->held[i].previous);
    }
    heap_free(sub->coll->heap, sub->held, sub->held_cap * sizeof(*sub->held));
    sub->held = NULL;
    sub->held_count = sub->held_cap = 0;
}

/* The subset is there, or won't come: what was held goes out, and the app is told. Behind what the
 * load itself brought, which is delivered later in the same poll: so in the next one. */
static int flush_run(struct task *t)
{
    struct coulomb_sub *sub = LIST_ENTRY(t, struct coulomb_sub, flush_task);
    struct coulomb_collection *coll = sub->coll;

    if (!list_empty(&coll->client->batches)) {
        task_queue(t);
        return COULOMB_OK;
    }
    collection_hold(coll);
    sub->busy = true;
    if (sub->buffering && !sub->loading) {
        sub->buffering = false;
        if (sub->held_count > 0)
            sub->fn(coll, sub->held, sub->held_count, sub->arg);
        held_clear(sub);
    }
    if (!sub->dead && sub->on_loading)
        sub->on_loading(sub, sub->loading, sub->arg);
    sub->busy = false;
    if (sub->dead)
        sub_free(sub);
    collection_drop(coll);
    return COULOMB_OK;
}

void subs_truncated(struct coulomb_collection *coll)
{
    for (struct list *l = coll->subs.next; l != &coll->subs; l = l->next) {
        struct coulomb_sub *sub = LIST_ENTRY(l, struct coulomb_sub, link);

        if (sub->has_subset && sub->loaded && coll->session) {
            sub->buffering = true;
            load_begin(sub);
        }
    }
}

/* --- The rows that are there -------------------------------------------------------------------- */

static int remember_sent(struct coulomb_sub *sub, struct coulomb_row *const *rows,
                         size_t count)
{
    struct coulomb_collection *coll = sub->coll;
    int code = sub->tracks ? ktab_reserve(&sub->sent, count) : COULOMB_OK;

    for (size_t i = 0; sub->tracks && i < count && code == COULOMB_OK; i++) {
        coulomb_key key = row_key(rows[i]);
        uint32_t hash = coll_hash(coll, key);
        struct sent_key *s = NULL;

        if (ktab_get(&sub->sent, key, hash))
            continue;
        s = heap_zalloc(coll->heap, sizeof(*s));
        code = s ? key_copy(coll->heap, key, &s->key_bytes, &s->key) : COULOMB_E_MEMORY;
        if (code == COULOMB_OK)
            ktab_put(&sub->sent, s, hash);
        else
            heap_free(coll->heap, s, sizeof(*s));
    }
    return code;
}

static void give_rows(struct coulomb_sub *sub, coulomb_change *changes,
                      struct coulomb_row *const *rows, size_t count)
{
    struct coulomb_collection *coll = sub->coll;

    for (size_t i = 0; i < count; i++) {
        coulomb_key key = row_key(rows[i]);

        memset(&changes[i], 0, sizeof(changes[i]));
        changes[i].type = COULOMB_INSERT;
        changes[i].key = key;
        changes[i].row = rows[i];
        changes[i].meta = visible_get(coll, key, coll_hash(coll, key)).meta;
    }
    sub->wants_rows = false;
    sub->next = coll->client->last_batch + 1;
    if (count > 0 || coll->status == COULOMB_READY) {
        collection_hold(coll);
        sub->busy = true;
        sub->fn(coll, changes, count, sub->arg);
        sub->busy = false;
        if (sub->dead)
            sub_free(sub);
        collection_drop(coll);
    }
}

int sub_rows_run(struct task *t)
{
    struct coulomb_sub *sub = LIST_ENTRY(t, struct coulomb_sub, rows_task);
    struct heap *h = sub->coll->heap;
    coulomb_snapshot_options o = {.where = sub->where,
                                  .where_fn = sub->where_fn,
                                  .where_arg = sub->where_arg,
                                  .order = sub->order,
                                  .order_count = sub->order_count,
                                  .limit = sub->limit};
    struct coulomb_row **rows;
    coulomb_change *changes;
    size_t count;
    size_t cap;
    bool indexed;
    int code = snapshot_rows(sub->coll, &o, &rows, &count, &cap, &indexed);

    if (code != COULOMB_OK)
        return code;
    changes = heap_alloc(h, count * sizeof(*changes));
    code = changes ? remember_sent(sub, rows, count) : COULOMB_E_MEMORY;
    if (code == COULOMB_OK) {
        heap_retain(h);
        give_rows(sub, changes, rows, count);
    }
    for (size_t i = 0; i < count; i++)
        row_release(rows[i]);
    heap_free(h, changes, count * sizeof(*changes));
    heap_free(h, rows, cap * sizeof(struct coulomb_row *));
    if (code == COULOMB_OK)
        heap_release(h);
    return code;
}

/* --- Coming and going ----------------------------------------------------------------------------- */

static void count_event(struct coulomb_collection *coll)
{
    coulomb_event event = {.type = COULOMB_EVENT_SUBSCRIBERS, .count = coll->sub_count};

    event_emit(coll, &event);
}

void sub_free(struct coulomb_sub *sub)
{
    struct coulomb_collection *coll = sub->coll;
    struct heap *h = coll->heap;
    struct kent *ent;
    size_t it = 0;

    completion_forget(&sub->load);
    held_clear(sub);
    while ((ent = ktab_next(&sub->sent, &it)) != NULL) {
        struct sent_key *s = ent->item;

        blob_fini(h, &s->key_bytes);
        heap_free(h, s, sizeof(*s));
    }
    ktab_fini(&sub->sent);
    coulomb_expr_free(sub->where);
    for (size_t i = 0; sub->order && i < sub->order_count; i++)
        heap_free_str(h, (char *)(uintptr_t)sub->order[i].column);
    heap_free(h, sub->order, sub->order_count * sizeof(*sub->order));
    heap_free(h, sub, sizeof(*sub));
    coulomb_collection_release(coll);
}

/* Out of the collection: nothing reaches it any more. */
static void sub_detach(struct coulomb_sub *sub)
{
    struct coulomb_collection *coll = sub->coll;

    if (list_empty(&sub->link))
        return;
    list_remove(&sub->link);
    task_cancel(&sub->rows_task);
    task_cancel(&sub->load_task);
    task_cancel(&sub->flush_task);
    completion_forget(&sub->load);
    if (sub->loading) {
        sub->loading = false;
        if (coll->loads > 0 && --coll->loads == 0)
            loading_event(coll, 0);
    }
    if (CLIENT_CHECK(coll->client, coll->sub_count > 0) == COULOMB_OK) {
        coll->sub_count--;
        coll->client->sub_count--;
    }
}

void coulomb_unsubscribe(coulomb_sub *sub)
{
    struct coulomb_collection *coll;

    if (!sub || sub->dead)
        return;
    coll = sub->coll;
    if (!list_empty(&sub->link)) {
        sub_detach(sub);
        if (sub->loaded && coll->session && coll->adapter.unload_subset)
            coll->adapter.unload_subset(coll->session, &sub->subset,
                                        coll->options.adapter_arg);
        count_event(coll);
        gc_arm(coll);
    }
    sub->dead = true;
    if (!sub->busy)
        sub_free(sub);
}

void subs_clear(struct coulomb_collection *coll)
{
    while (!list_empty(&coll->subs))
        sub_detach(LIST_ENTRY(coll->subs.next, struct coulomb_sub, link));
}

static int copy_order(struct coulomb_sub *sub, const coulomb_sub_options *o)
{
    struct heap *h = sub->coll->heap;

    if (o->order_count == 0)
        return COULOMB_OK;
    sub->order = heap_zalloc(h, o->order_count * sizeof(*sub->order));
    if (!sub->order)
        return COULOMB_E_MEMORY;
    sub->order_count = o->order_count;
    for (size_t i = 0; i < o->order_count; i++) {
        sub->order[i] = o->order[i];
        sub->order[i].column = heap_strdup(h, o->order[i].column);
        if (!sub->order[i].column)
            return COULOMB_E_MEMORY;
    }
    return COULOMB_OK;
}

static int check_sub(coulomb_collection *coll, const coulomb_sub_options *o,
                     coulomb_changes_fn fn)
{
    coulomb_client *c = coll->client;

    if (!fn)
        return client_fail(c, COULOMB_E_ARGUMENT, "a subscription needs a function");
    if (o->where && o->where_fn)
        return client_fail(c, COULOMB_E_BOTH_WHERE, "where and where_fn are both given");
    if (o->where && o->where->layout != coll->layout)
        return client_fail(c, COULOMB_E_ARGUMENT,
                           "the condition is of another collection");
    if (o->limit > 0 && o->order_count == 0)
        return client_fail(c, COULOMB_E_LIMIT_NEEDS_ORDER, "a limit needs an order");
    for (size_t i = 0; i < o->order_count; i++) {
        if (layout_find(coll->layout, o->order[i].column) < 0)
            return client_fail(c, COULOMB_E_COLUMN, "%s has no column %s", coll->id,
                               o->order[i].column ? o->order[i].column : "(NULL)");
    }
    return COULOMB_OK;
}

static int sub_fill(struct coulomb_sub *sub, const coulomb_sub_options *o)
{
    struct coulomb_collection *coll = sub->coll;

    sub->initial = o->initial;
    sub->where_fn = o->where_fn;
    sub->where_arg = o->where_arg;
    sub->limit = o->limit;
    sub->on_loading = o->on_loading;
    sub->tracks = o->initial == COULOMB_INITIAL_NONE || o->limit > 0;
    sub->wants_rows = o->initial == COULOMB_INITIAL_ROWS;
    sub->has_subset = sub->wants_rows && coll->has_adapter && coll->adapter.load_subset;
    if (o->where) {
        sub->where = expr_copy(o->where);
        if (!sub->where)
            return COULOMB_E_MEMORY;
    }
    if (copy_order(sub, o) != COULOMB_OK)
        return COULOMB_E_MEMORY;
    sub->subset = (coulomb_subset){sub->where, sub->order, sub->order_count, sub->limit};
    return COULOMB_OK;
}

static void sub_attach(struct coulomb_sub *sub)
{
    struct coulomb_collection *coll = sub->coll;

    list_push(&coll->subs, &sub->link);
    coll->sub_count++;
    coll->client->sub_count++;
    sub->next = coll->client->last_batch + 1;
    timer_cancel(&coll->gc_timer);
    count_event(coll);
    if (sub->wants_rows)
        task_queue(&sub->rows_task);
    if (sub->has_subset)
        load_begin(sub);
}

int coulomb_subscribe(coulomb_collection *coll, const coulomb_sub_options *options,
                      coulomb_changes_fn fn, void *arg, coulomb_sub **out)
{
    coulomb_client *c = coll->client;
    coulomb_sub_options o;
    struct coulomb_sub *sub;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = options_read(c, &o, sizeof(o), options, "coulomb_subscribe");
    if (code == COULOMB_OK)
        code = check_sub(coll, &o, fn);
    if (code == COULOMB_OK)
        code = index_auto(coll, o.where);
    if (code != COULOMB_OK)
        return code;
    sub = heap_zalloc(coll->heap, sizeof(*sub));
    if (!sub)
        return client_no_memory(c);
    sub->coll = coulomb_collection_retain(coll);
    sub->fn = fn;
    sub->arg = arg;
    list_init(&sub->link);
    ktab_init(&sub->sent, coll->heap, sent_key);
    task_init(&sub->rows_task, c, sub_rows_run);
    task_init(&sub->load_task, c, load_run);
    task_init(&sub->flush_task, c, flush_run);
    if (sub_fill(sub, &o) != COULOMB_OK)
        code = client_no_memory(c);
    if (code == COULOMB_OK)
        code = collection_wake(coll);
    if (code != COULOMB_OK) {
        sub_free(sub);
        return code;
    }
    sub_attach(sub);
    *out = sub;
    return COULOMB_OK;
}

int coulomb_sub_loading(const coulomb_sub *sub)
{
    return sub->loading;
}

size_t coulomb_subscriber_count(const coulomb_collection *coll)
{
    return coll->sub_count;
}

int coulomb_loading_subset(const coulomb_collection *coll)
{
    return coll->loads > 0;
}
