/*
 * Edits. Every change of a collection, by a mutation, a settled transaction or sync, has one shape:
 *
 *   touch every key concerned (what was visible is remembered; all memory is taken, and this is
 *   where a call can fail) ─▶ change the layers, which can't fail ─▶ publish the difference
 *
 * So a call is done or not done, what subscribers hear is by construction the difference of two
 * visible states, and intermediate states (an overlay that is dropped just before the row that
 * replaces it comes) are never heard of.
 */

#include "client/collection/collection.h"

#include <string.h>

#define FEW_TOUCHES 8u

static coulomb_key touch_key(const void *item)
{
    return ((const struct touch *)item)->key;
}

bool coll_observed(const struct coulomb_collection *coll)
{
    return coll->sub_count > 0;
}

void edit_begin(struct edit *e, struct coulomb_collection *coll)
{
    *e = (struct edit){.coll = coll};
    pool_init(&e->pool, coll->heap);
    ktab_init(&e->by_key, coll->heap, touch_key);
    e->end = &e->first;
}

static struct touch *touch_find(struct edit *e, coulomb_key key, uint32_t hash)
{
    if (e->count >= FEW_TOUCHES)
        return ktab_get(&e->by_key, key, hash);
    for (struct touch *t = e->first; t; t = t->next) {
        if (t->hash == hash && key_equal(t->key, key))
            return t;
    }
    return NULL;
}

/* The touch goes into the table, with all before it when it is the first of many. */
static int touch_index(struct edit *e, struct touch *t)
{
    int code;

    if (e->count + 1 < FEW_TOUCHES)
        return COULOMB_OK;
    code = ktab_reserve(&e->by_key, FEW_TOUCHES);
    if (code != COULOMB_OK)
        return code;
    for (struct touch *other = e->count < FEW_TOUCHES ? e->first : NULL; other;
         other = other->next)
        ktab_put(&e->by_key, other, other->hash);
    ktab_put(&e->by_key, t, t->hash);
    return COULOMB_OK;
}

struct touch *edit_touch(struct edit *e, coulomb_key key, uint32_t hash)
{
    struct touch *t = touch_find(e, key, hash);
    struct visible v;

    if (t)
        return t;
    t = pool_alloc(&e->pool, sizeof(*t));
    if (!t)
        return NULL;
    *t = (struct touch){.key = key, .hash = hash};
    if (key.type == COULOMB_KEY_TEXT && key.text.len > 0) {
        char *copy = pool_alloc(&e->pool, key.text.len);

        if (!copy)
            return NULL;
        memcpy(copy, key.text.ptr, key.text.len);
        t->key.text.ptr = copy;
    }
    if (touch_index(e, t) != COULOMB_OK)
        return NULL;
    v = visible_get(e->coll, key, hash);
    t->old = row_retain(v.row);
    t->old_meta = v.meta;
    *e->end = t;
    e->end = &t->next;
    e->count++;
    return t;
}

static struct batch *batch_new(struct coulomb_collection *coll, size_t cap)
{
    struct batch *b;

    if (cap > (SIZE_MAX / 2 - sizeof(*b)) / sizeof(coulomb_change))
        return NULL;
    b = heap_alloc(coll->heap, sizeof(*b) + cap * sizeof(coulomb_change));
    if (!b)
        return NULL;
    *b = (struct batch){.coll = coll, .cap = cap};
    list_init(&b->link);
    collection_hold(coll);
    return b;
}

void batch_free(struct batch *b)
{
    struct coulomb_collection *coll = b->coll;

    for (size_t i = 0; i < b->count; i++) {
        coulomb_row_release(b->changes[i].row);
        coulomb_row_release(b->changes[i].previous);
    }
    heap_free(coll->heap, b, sizeof(*b) + b->cap * sizeof(coulomb_change));
    collection_drop(coll);
}

int edit_ready(struct edit *e)
{
    coulomb_client *c = e->coll->client;
    size_t cap = e->truncate ? e->count * 2 : e->count;

    if (!coll_observed(e->coll) || cap == 0)
        return COULOMB_OK;
    /* What settles was let in piece by piece: when nothing else waits it goes through. */
    if (cap > c->queued_changes_max - c->queued_changes &&
        !(e->settles && c->queued_changes == 0))
        return client_fail(
            c, COULOMB_E_LIMIT,
            "%zu changes wait for coulomb_poll and %zu more would be over %zu",
            c->queued_changes, cap, c->queued_changes_max);
    e->batch = batch_new(e->coll, cap);
    return e->batch ? COULOMB_OK : client_no_memory(c);
}

static void batch_put(struct batch *b, coulomb_change_type type, struct coulomb_row *row,
                      struct coulomb_row *previous, coulomb_meta meta,
                      coulomb_meta old_meta)
{
    coulomb_change *to;

    if (CLIENT_CHECK(b->coll->client, b->count < b->cap) != COULOMB_OK)
        return;
    to = &b->changes[b->count++];
    *to = (coulomb_change){.type = type, .meta = meta, .previous_meta = old_meta};
    to->row = row_retain(row);
    to->previous = row_retain(previous);
    to->key = row_key(row);
}

static bool same(struct edit *e, const struct touch *t, const struct visible *now)
{
    int equal;

    if (t->old_meta.synced != now->meta.synced || t->old_meta.local != now->meta.local)
        return false;
    if (t->old == now->row)
        return true;
    arena_reset(&e->coll->client->scratch);
    equal = row_equal(t->old, now->row, &e->coll->client->scratch);
    return equal == 1;
}

/* One key's difference. Of truncated ones only the insert: the delete went before. */
static void publish_touch(struct edit *e, const struct touch *t)
{
    static const coulomb_meta none = {0, 0};
    struct visible now = visible_get(e->coll, t->key, t->hash);
    struct batch *b = e->batch;

    if (!t->old && !now.row)
        return;
    if (t->old != now.row) {
        indexes_update(e->coll, t->old, now.row);
        e->coll->visible = e->coll->visible + (now.row != NULL) - (t->old != NULL);
    }
    if (!b)
        return;
    if (t->truncated && t->old) {
        if (now.row)
            batch_put(b, COULOMB_INSERT, now.row, NULL, now.meta, none);
        return;
    }
    if (!t->old)
        batch_put(b, COULOMB_INSERT, now.row, NULL, now.meta, none);
    else if (!now.row)
        batch_put(b, COULOMB_DELETE, t->old, NULL, t->old_meta, none);
    else if (!same(e, t, &now))
        batch_put(b, COULOMB_UPDATE, now.row, t->old, now.meta, t->old_meta);
}

static void batch_send(struct batch *b)
{
    coulomb_client *c = b->coll->client;

    b->number = ++c->last_batch;
    c->queued_changes += b->count;
    list_push(&c->batches, &b->link);
    client_wake(c);
}

static void edit_fini(struct edit *e)
{
    for (struct touch *t = e->first; t; t = t->next) {
        row_release(t->old);
        row_release(t->synced);
    }
    ktab_fini(&e->by_key);
    pool_fini(&e->pool);
}

void edit_finish(struct edit *e)
{
    if (e->batch && e->truncate) {
        static const coulomb_meta none = {0, 0};

        for (struct touch *t = e->first; t; t = t->next) {
            if (t->truncated && t->old)
                batch_put(e->batch, COULOMB_DELETE, t->old, NULL, t->old_meta, none);
        }
    }
    for (struct touch *t = e->first; t; t = t->next)
        publish_touch(e, t);
    if (!e->batch) {
        if (e->count > 0)
            e->coll->revision++;
    } else if (e->batch->count > 0) {
        e->coll->revision++;
        batch_send(e->batch);
    } else {
        batch_free(e->batch);
    }
    if (e->truncate)
        truncate_done(e->coll);
    edit_fini(e);
}

void edit_abort(struct edit *e)
{
    if (e->batch)
        batch_free(e->batch);
    edit_fini(e);
}

int batch_empty(struct coulomb_collection *coll)
{
    struct batch *b;

    if (!coll_observed(coll))
        return COULOMB_OK;
    b = batch_new(coll, 0);
    if (!b)
        return client_no_memory(coll->client);
    batch_send(b);
    return COULOMB_OK;
}
