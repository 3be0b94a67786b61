/*
 * Batches reach subscriptions. A batch is handed to every subscription of its collection that began
 * before it; one without a condition gets it as it is, others a list of their own. What needs
 * memory is done before a subscription changes, so a batch that found none is handed out in the
 * next poll, to those that have not had it.
 */

#include "client/collection/collection.h"

#include <string.h>

struct list_of {
    coulomb_change *items;
    size_t count;
};

static bool matches(struct coulomb_sub *sub, const struct coulomb_row *row,
                    coulomb_meta meta)
{
    coulomb_client *c = sub->coll->client;
    bool yes = true;

    if (sub->where) {
        yes = expr_eval(sub->where, row, meta, &c->scratch) == 1;
    } else if (sub->where_fn) {
        c->locked++;
        yes = sub->where_fn(row, sub->where_arg) == 1;
        c->locked--;
    }
    return yes;
}

/* What the change is to somebody who sees only what matches; false: nothing. */
static bool narrow(struct coulomb_sub *sub, coulomb_change *change)
{
    bool now;
    bool before;

    if (!sub->where && !sub->where_fn)
        return true;
    now = matches(sub, change->row, change->meta);
    if (change->type != COULOMB_UPDATE)
        return now;
    before = matches(sub, change->previous, change->previous_meta);
    if (now && before)
        return true;
    if (now) {
        change->type = COULOMB_INSERT;
        change->previous = NULL;
    } else if (before) {
        change->type = COULOMB_DELETE;
        change->row = change->previous;
        change->meta = change->previous_meta;
        change->previous = NULL;
    }
    return now || before;
}

static void sent_free(struct heap *h, struct sent_key *s)
{
    blob_fini(h, &s->key_bytes);
    heap_free(h, s, sizeof(*s));
}

/* To somebody who knows only the rows that were sent: an unknown row's update is an insert, its
 * delete nothing. spare is taken when the key is new. */
static bool known(struct coulomb_sub *sub, coulomb_change *change,
                  struct sent_key **spare)
{
    uint32_t hash = coll_hash(sub->coll, change->key);
    struct kent *ent = ktab_find(&sub->sent, change->key, hash);

    if (change->type == COULOMB_DELETE) {
        if (ent) {
            struct sent_key *s = ent->item;

            ktab_remove(&sub->sent, ent);
            sent_free(sub->coll->heap, s);
        }
        return ent != NULL;
    }
    if (ent)
        return change->type == COULOMB_UPDATE;
    change->type = COULOMB_INSERT;
    change->previous = NULL;
    ktab_put(&sub->sent, *spare, hash);
    *spare = NULL;
    return true;
}

/* Keys for all that may be new. */
static int make_spares(struct coulomb_sub *sub, const struct batch *b,
                       struct sent_key **spares)
{
    struct heap *h = sub->coll->heap;
    int code = ktab_reserve(&sub->sent, b->count);

    for (size_t i = 0; i < b->count && code == COULOMB_OK; i++) {
        spares[i] = heap_zalloc(h, sizeof(**spares));
        code = spares[i] ? key_copy(h, b->changes[i].key, &spares[i]->key_bytes,
                                    &spares[i]->key)
                         : COULOMB_E_MEMORY;
    }
    return code;
}

static int select_changes(struct coulomb_sub *sub, const struct batch *b,
                          struct list_of *out)
{
    struct heap *h = sub->coll->heap;
    struct sent_key **spares = NULL;
    int code = COULOMB_OK;

    out->count = 0;
    out->items = heap_alloc(h, b->count * sizeof(*out->items));
    if (!out->items)
        return COULOMB_E_MEMORY;
    if (sub->tracks) {
        spares = heap_zalloc(h, b->count * sizeof(struct sent_key *));
        code = spares ? make_spares(sub, b, spares) : COULOMB_E_MEMORY;
    }
    for (size_t i = 0; i < b->count && code == COULOMB_OK; i++) {
        coulomb_change *to = &out->items[out->count];

        *to = b->changes[i];
        if (narrow(sub, to) && (!spares || known(sub, to, &spares[i])))
            out->count++;
    }
    for (size_t i = 0; spares && i < b->count; i++) {
        if (spares[i])
            sent_free(h, spares[i]);
    }
    heap_free(h, spares, b->count * sizeof(struct sent_key *));
    if (code != COULOMB_OK)
        heap_free(h, out->items, b->count * sizeof(*out->items));
    return code;
}

/* Kept until the subset is loaded again. The room was taken before. */
static void hold(struct coulomb_sub *sub, const coulomb_change *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        coulomb_change *to = &sub->held[sub->held_count++];

        *to = items[i];
        to->row = coulomb_row_retain(to->row);
        if (to->previous)
            to->previous = coulomb_row_retain(to->previous);
    }
}

static int reserve_held(struct coulomb_sub *sub, size_t count)
{
    void *held = sub->held;
    int code = heap_grow(sub->coll->heap, &held, &sub->held_cap, sub->held_count + count,
                         sizeof(*sub->held));

    sub->held = held;
    return code;
}

/* 1: it was called; 0: nothing for it. */
static int give(struct coulomb_sub *sub, const struct batch *b)
{
    bool as_is = b->count == 0 || sub->initial == COULOMB_INITIAL_UNFILTERED ||
                 (!sub->tracks && !sub->where && !sub->where_fn);
    coulomb_change empty;
    struct list_of list = {NULL, 0};
    const coulomb_change *items = b->changes;
    size_t count = b->count;
    int called = 0;

    if (sub->initial == COULOMB_INITIAL_UNFILTERED && (sub->where || sub->where_fn))
        as_is = b->count == 0;
    if (sub->buffering && reserve_held(sub, b->count) != COULOMB_OK)
        return COULOMB_E_MEMORY;
    if (!as_is) {
        if (select_changes(sub, b, &list) != COULOMB_OK)
            return COULOMB_E_MEMORY;
        items = list.items;
        count = list.count;
    }
    sub->next = b->number + 1;
    if (sub->buffering) {
        hold(sub, items, count);
    } else if (count > 0 || b->count == 0) {
        sub->busy = true;
        sub->fn(sub->coll, count > 0 ? items : &empty, count, sub->arg);
        sub->busy = false;
        called = 1;
    }
    heap_free(b->coll->heap, list.items, b->count * sizeof(*list.items));
    if (sub->dead)
        sub_free(sub);
    return called;
}

static struct coulomb_sub *next_sub(struct coulomb_collection *coll, uint64_t number)
{
    for (struct list *l = coll->subs.next; l != &coll->subs; l = l->next) {
        struct coulomb_sub *sub = LIST_ENTRY(l, struct coulomb_sub, link);

        if (!sub->wants_rows && sub->next <= number)
            return sub;
    }
    return NULL;
}

int deliver_batches(coulomb_client *c)
{
    uint64_t last = c->last_batch;
    int ran = 0;

    while (!list_empty(&c->batches) && !c->closing && !c->poisoned) {
        struct batch *b = LIST_ENTRY(c->batches.next, struct batch, link);
        struct coulomb_sub *sub;

        if (b->number > last)
            break;
        /* Found anew each time: a callback may end any subscription. */
        while ((sub = next_sub(b->coll, b->number)) != NULL && !c->closing) {
            int code = give(sub, b);

            if (code < 0)
                return client_no_memory(c);
            ran += code;
        }
        list_remove(&b->link);
        c->queued_changes -= b->count;
        batch_free(b);
    }
    if (!list_empty(&c->batches))
        client_wake(c);
    return ran;
}
