/*
 * Local changes over the synced rows. A key has a struct local while a transaction that is not
 * settled changes it, or while what a completed one wrote is kept. A mutation holds the whole row as
 * it will be, so what lies over a key is the newest active optimistic mutation, and nothing has to
 * be computed when one goes: work is proportional to the keys that a transaction touched.
 */

#include "client/collection/collection.h"

struct local *local_find(const struct coulomb_collection *coll, coulomb_key key,
                         uint32_t hash)
{
    return ktab_get(&coll->locals, key, hash);
}

struct local *local_get(struct coulomb_collection *coll, coulomb_key key, uint32_t hash)
{
    struct local *l = local_find(coll, key, hash);

    if (l)
        return l;
    if (ktab_reserve(&coll->locals, 1) != COULOMB_OK)
        return NULL;
    l = heap_zalloc(coll->heap, sizeof(*l));
    if (!l)
        return NULL;
    if (key_copy(coll->heap, key, &l->key_bytes, &l->key) != COULOMB_OK) {
        heap_free(coll->heap, l, sizeof(*l));
        return NULL;
    }
    l->hash = hash;
    list_init(&l->mutations);
    list_init(&l->kept_link);
    ktab_put(&coll->locals, l, hash);
    return l;
}

static void local_free(struct coulomb_collection *coll, struct local *l)
{
    list_remove(&l->kept_link);
    blob_fini(coll->heap, &l->key_bytes);
    heap_free(coll->heap, l, sizeof(*l));
}

void local_sweep(struct coulomb_collection *coll, struct local *l)
{
    struct kent *ent;

    if (!list_empty(&l->mutations) || l->kept || l->claimed)
        return;
    ent = ktab_find(&coll->locals, l->key, l->hash);
    if (CLIENT_CHECK(coll->client, ent && ent->item == l) != COULOMB_OK)
        return;
    ktab_remove(&coll->locals, ent);
    local_free(coll, l);
}

bool local_overlay(const struct local *l, struct coulomb_row **row)
{
    for (struct list *at = l->mutations.prev; at != &l->mutations; at = at->prev) {
        const struct mutation *m = LIST_ENTRY(at, struct mutation, in_key);

        if (m->optimistic) {
            *row = m->modified;
            return true;
        }
    }
    if (l->has_kept) {
        *row = l->kept->modified;
        return true;
    }
    return false;
}

struct visible visible_get(const struct coulomb_collection *coll, coulomb_key key,
                           uint32_t hash)
{
    struct visible v = {NULL, {1, 0}};
    const struct local *l = local_find(coll, key, hash);
    const struct kent *ent;

    if (l && local_overlay(l, &v.row)) {
        v.meta.synced = coll->local_only;
        v.meta.local = 1;
        return v;
    }
    ent = ktab_find(&coll->synced, key, hash);
    if (ent) {
        v.row = ent->item;
        v.meta.local = coll->local_only || (ent->flags & ENT_LOCAL) != 0;
    }
    return v;
}

void local_link(struct local *l, struct mutation *m)
{
    struct list *at = l->mutations.prev;

    while (at != &l->mutations &&
           LIST_ENTRY(at, struct mutation, in_key)->order > m->order)
        at = at->prev;
    m->in_key.prev = at;
    m->in_key.next = at->next;
    at->next->prev = &m->in_key;
    at->next = &m->in_key;
    m->local = l;
}

static void mutation_state(struct coulomb_collection *coll, struct mutation *m,
                           coulomb_mutation_state state)
{
    if (m->state == state)
        return;
    m->state = state;
    coll->client->tx_progress(m->tx);
}

void local_drop_kept(struct coulomb_collection *coll, struct local *l, bool confirmed)
{
    struct mutation *m = l->kept;

    l->kept = NULL;
    l->has_kept = l->direct = l->claimed = l->in_truncate = false;
    list_remove(&l->kept_link);
    if (!m)
        return;
    if (confirmed)
        mutation_state(coll, m, COULOMB_MUTATION_OBSERVED);
    coll->client->tx_hold(m->tx, false);
}

static void unlink_mutation(struct mutation *m)
{
    list_remove(&m->in_key);
    m->local = NULL;
    m->gates = false;
}

void local_complete(struct coulomb_collection *coll, struct mutation *m, bool direct,
                    bool echo_waits)
{
    struct local *l = m->local;
    bool truncating = sync_truncates(coll);

    mutation_state(coll, m,
                   m->seen ? COULOMB_MUTATION_OBSERVED : COULOMB_MUTATION_ACKNOWLEDGED);
    if (!l)
        return; /* the collection was cleaned up meanwhile */
    unlink_mutation(m);
    if (m->seen || (l->kept && l->kept->order > m->order))
        return;
    if (l->kept)
        local_drop_kept(coll, l, false);
    if (m->optimistic && !direct && !truncating && !echo_waits)
        return;
    coll->client->tx_hold(m->tx, true);
    l->kept = m;
    l->has_kept = m->optimistic;
    l->direct = direct || truncating;
    l->in_truncate = truncating;
    l->claimed = true;
    list_push(&coll->kept, &l->kept_link);
}

void local_fail(struct coulomb_collection *coll, struct mutation *m)
{
    mutation_state(coll, m, COULOMB_MUTATION_REJECTED);
    if (m->local)
        unlink_mutation(m);
}

void locals_clear(struct coulomb_collection *coll)
{
    size_t it = 0;
    struct kent *ent;

    while ((ent = ktab_next(&coll->locals, &it)) != NULL) {
        struct local *l = ent->item;

        while (!list_empty(&l->mutations))
            unlink_mutation(LIST_ENTRY(l->mutations.next, struct mutation, in_key));
        local_drop_kept(coll, l, false);
        local_free(coll, l);
    }
    ktab_fini(&coll->locals);
}
