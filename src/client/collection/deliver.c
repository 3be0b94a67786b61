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

int sub_matches(struct coulomb_sub *sub, const struct coulomb_row *row, coulomb_meta meta)
{
    coulomb_client *c = sub->coll->client;
    int yes = 1;

    if (sub->where) {
        yes = expr_eval(sub->where, row, meta, &c->scratch);
        yes = yes < 0 ? yes : yes == 1;
    } else if (sub->where_fn) {
        c->locked++;
        yes = sub->where_fn(row, sub->where_arg) == 1;
        c->locked--;
    }
    return yes;
}

/* What the change is to somebody who sees only what matches; 0: nothing; COULOMB_E_MEMORY. */
static int narrow(struct coulomb_sub *sub, coulomb_change *change)
{
    int now;
    int before;

    if (!sub->where && !sub->where_fn)
        return 1;
    now = sub_matches(sub, change->row, change->meta);
    if (now < 0 || change->type != COULOMB_UPDATE)
        return now;
    before = sub_matches(sub, change->previous, change->previous_meta);
    if (before < 0 || (now && before))
        return before;
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

static void spares_free(struct coulomb_sub *sub, struct sent_key **spares, size_t count)
{
    struct heap *h = sub->coll->heap;

    for (size_t i = 0; spares && i < count; i++) {
        if (spares[i])
            sent_free(h, spares[i]);
    }
    heap_free(h, spares, count * sizeof(struct sent_key *));
}

/* Keys for all that may be new; NULL: no memory, or the subscription keeps none. */
static int spares_make(struct coulomb_sub *sub, const coulomb_change *changes,
                       size_t count, struct sent_key ***out)
{
    struct heap *h = sub->coll->heap;
    struct sent_key **spares;
    int code;

    *out = NULL;
    if (!sub->tracks)
        return COULOMB_OK;
    code = ktab_reserve(&sub->sent, count);
    spares =
        code == COULOMB_OK ? heap_zalloc(h, count * sizeof(struct sent_key *)) : NULL;
    if (!spares)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < count && code == COULOMB_OK; i++) {
        spares[i] = heap_zalloc(h, sizeof(**spares));
        code = spares[i]
                   ? key_copy(h, changes[i].key, &spares[i]->key_bytes, &spares[i]->key)
                   : COULOMB_E_MEMORY;
    }
    if (code == COULOMB_OK)
        *out = spares;
    else
        spares_free(sub, spares, count);
    return code;
}

/* What the batch is to it. First what can fail, then what it knows changes. */
static int select_changes(struct coulomb_sub *sub, const struct batch *b,
                          struct list_of *out)
{
    struct heap *h = sub->coll->heap;
    struct sent_key **spares = NULL;
    size_t count = 0;
    int code;

    out->count = 0;
    out->items = heap_alloc(h, b->count * sizeof(*out->items));
    code = out->items ? COULOMB_OK : COULOMB_E_MEMORY;
    for (size_t i = 0; i < b->count && code == COULOMB_OK; i++) {
        int yes;

        out->items[count] = b->changes[i];
        yes = narrow(sub, &out->items[count]);
        if (yes < 0)
            code = yes;
        else
            count += (size_t)yes;
    }
    if (code == COULOMB_OK)
        code = spares_make(sub, out->items, count, &spares);
    if (code != COULOMB_OK) {
        heap_free(h, out->items, b->count * sizeof(*out->items));
        return code;
    }
    for (size_t i = 0; i < count; i++) {
        coulomb_change *to = &out->items[out->count];

        *to = out->items[i];
        if (!spares || known(sub, to, &spares[i]))
            out->count++;
    }
    spares_free(sub, spares, count);
    return COULOMB_OK;
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

static void held_free(struct heap *h, coulomb_change *held, size_t count, size_t cap)
{
    for (size_t i = 0; i < count; i++) {
        coulomb_row_release(held[i].row);
        coulomb_row_release(held[i].previous);
    }
    heap_free(h, held, cap * sizeof(*held));
}

static int reserve_held(struct coulomb_sub *sub, size_t count)
{
    void *held = sub->held;
    int code = heap_grow(sub->coll->heap, &held, &sub->held_cap, sub->held_count + count,
                         sizeof(*sub->held));

    sub->held = held;
    return code;
}

/* Calls it, or keeps the changes when it holds them back. 1: it ended. */
static int hand_over(struct coulomb_sub *sub, const coulomb_change *items, size_t count)
{
    static const coulomb_change none;

    if (sub->buffering) {
        hold(sub, items, count);
        sub->held_empty = sub->held_empty || count == 0;
        return 0;
    }
    sub->busy++;
    sub->fn(sub->coll, count > 0 ? items : &none, count, sub->arg);
    sub->busy--;
    if (!sub->dead || sub->busy > 0)
        return 0;
    sub_free(sub);
    return 1;
}

/* Gives it a batch. 1: it ended; *called counts. */
static int give(struct coulomb_sub *sub, const struct batch *b, int *called)
{
    bool filters = sub->where || sub->where_fn;
    bool as_is = b->count == 0 || (!sub->tracks && !filters);
    struct list_of list = {NULL, 0};
    const coulomb_change *items = b->changes;
    size_t count = b->count;
    int ended = 0;

    if (sub->buffering && reserve_held(sub, b->count) != COULOMB_OK)
        return COULOMB_E_MEMORY;
    if (!as_is) {
        if (select_changes(sub, b, &list) != COULOMB_OK)
            return COULOMB_E_MEMORY;
        items = list.items;
        count = list.count;
    }
    sub->next = b->number + 1;
    if (count > 0 || b->count == 0) {
        *called += !sub->buffering;
        ended = hand_over(sub, items, count);
    }
    heap_free(b->coll->heap, list.items, b->count * sizeof(*list.items));
    return ended;
}

int sub_catch_up(struct coulomb_sub *sub)
{
    coulomb_client *c = sub->coll->client;
    uint64_t last = c->last_batch;
    int called = 0;
    int code = 0;

    sub->busy++;
    for (struct list *l = c->batches.next;
         l != &c->batches && !sub->dead && code == COULOMB_OK; l = l->next) {
        struct batch *b = LIST_ENTRY(l, struct batch, link);

        if (b->number > last || c->closing)
            break;
        if (b->coll == sub->coll && b->number >= sub->next)
            code = give(sub, b, &called);
    }
    sub->busy--;
    if (!sub->dead)
        return code < 0 ? client_no_memory(c) : COULOMB_OK;
    if (sub->busy == 0)
        sub_free(sub);
    return 1;
}

int sub_give_rows(struct coulomb_sub *sub, struct coulomb_row *const *rows, size_t count,
                  bool always)
{
    struct coulomb_collection *coll = sub->coll;
    struct heap *h = coll->heap;
    coulomb_change *changes = heap_zalloc(h, count * sizeof(*changes));
    struct sent_key **spares = NULL;
    int code = changes ? COULOMB_OK : COULOMB_E_MEMORY;

    for (size_t i = 0; changes && i < count; i++) {
        changes[i].type = COULOMB_INSERT;
        changes[i].key = row_key(rows[i]);
        changes[i].row = rows[i];
        changes[i].meta =
            visible_get(coll, changes[i].key, coll_hash(coll, changes[i].key)).meta;
    }
    if (code == COULOMB_OK && sub->buffering)
        code = reserve_held(sub, count);
    if (code == COULOMB_OK)
        code = spares_make(sub, changes, count, &spares);
    if (code != COULOMB_OK) {
        heap_free(h, changes, count * sizeof(*changes));
        return client_no_memory(coll->client);
    }
    for (size_t i = 0; spares && i < count; i++)
        (void)known(sub, &changes[i], &spares[i]);
    spares_free(sub, spares, count);
    if (sub->wants_rows)
        sub->next = coll->client->last_batch + 1;
    sub->wants_rows = false;
    heap_retain(h);
    if (count > 0 || always)
        code = hand_over(sub, changes, count);
    heap_free(h, changes, count * sizeof(*changes));
    heap_release(h);
    return code;
}

int sub_give_held(struct coulomb_sub *sub)
{
    struct heap *h = sub->coll->heap;
    coulomb_change *held = sub->held;
    size_t count = sub->held_count;
    size_t cap = sub->held_cap;
    bool speaks = count > 0 || sub->held_empty;
    int ended = 0;

    sub->held = NULL;
    sub->held_count = sub->held_cap = 0;
    sub->buffering = sub->held_empty = false;
    heap_retain(h);
    if (speaks)
        ended = hand_over(sub, held, count);
    held_free(h, held, count, cap);
    heap_release(h);
    return ended;
}

void sub_held_clear(struct coulomb_sub *sub)
{
    held_free(sub->coll->heap, sub->held, sub->held_count, sub->held_cap);
    sub->held = NULL;
    sub->held_count = sub->held_cap = 0;
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
        /* Found anew each time: a callback may end any subscription. Who has had it goes behind the
         * others, so that the next one is found at once. */
        while ((sub = next_sub(b->coll, b->number)) != NULL && !c->closing) {
            list_remove(&sub->link);
            list_push(&b->coll->subs, &sub->link);
            if (give(sub, b, &ran) < 0)
                return client_no_memory(c);
        }
        list_remove(&b->link);
        c->queued_changes -= b->count;
        batch_free(b);
    }
    if (!list_empty(&c->batches))
        client_wake(c);
    return ran;
}
