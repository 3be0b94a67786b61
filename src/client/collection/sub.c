/*
 * Subscriptions come and go. What they ask for is in load.c and page.c, what they hear in deliver.c.
 */

#include "client/collection/collection.h"

#include <string.h>

static coulomb_key sent_key(const void *item)
{
    return ((const struct sent_key *)item)->key;
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

    loads_end(sub);
    sub_held_clear(sub);
    while ((ent = ktab_next(&sub->sent, &it)) != NULL) {
        struct sent_key *s = ent->item;

        blob_fini(h, &s->key_bytes);
        heap_free(h, s, sizeof(*s));
    }
    ktab_fini(&sub->sent);
    coulomb_expr_free(sub->where);
    blob_fini(h, &sub->last_key_bytes);
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
    loads_forget(sub);
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
        loads_end(sub);
        count_event(coll);
        gc_arm(coll);
    }
    sub->dead = true;
    if (sub->busy == 0)
        sub_free(sub);
}

void subs_clear(struct coulomb_collection *coll)
{
    while (!list_empty(&coll->subs))
        sub_detach(LIST_ENTRY(coll->subs.next, struct coulomb_sub, link));
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
    return COULOMB_OK;
}

static int sub_fill(struct coulomb_sub *sub, const coulomb_sub_options *o)
{
    sub->initial = o->initial;
    sub->where_fn = o->where_fn;
    sub->where_arg = o->where_arg;
    sub->on_loading = o->on_loading;
    sub->wants_rows = o->initial == COULOMB_INITIAL_ROWS;
    sub->tracks = o->initial == COULOMB_INITIAL_NONE || (sub->wants_rows && o->limit > 0);
    if (o->where) {
        sub->where = expr_copy(o->where);
        if (!sub->where)
            return COULOMB_E_MEMORY;
    }
    return sub->wants_rows ? load_initial(sub, o) : COULOMB_OK;
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
    loads_begin(sub);
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
    list_init(&sub->loads);
    ktab_init(&sub->sent, coll->heap, sent_key);
    task_init(&sub->flush_task, c, flush_run);
    code = sub_fill(sub, &o);
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

size_t coulomb_subscriber_count(const coulomb_collection *coll)
{
    return coll->sub_count;
}
