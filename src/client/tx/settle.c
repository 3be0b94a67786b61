/*
 * Settling: one or more transactions complete or fail, in all collections that they touched, and
 * what sync had brought meanwhile is applied, in one edit for each collection. So an optimistic row
 * and the synced one that takes its place change hands in one batch.
 */

#include "client/tx/tx.h"

struct site {
    struct coulomb_collection *coll;
    struct edit edit;
    size_t persisting; /* of these transactions */
    size_t key_gates;  /* likewise */
    bool applies;
};

struct settling {
    coulomb_client *client;
    struct coulomb_tx **txs;
    size_t count;
    bool completed;
    struct site *sites;
    size_t site_count;
    size_t site_cap;
};

static struct site *site_of(struct settling *s, const struct coulomb_collection *coll)
{
    for (size_t i = 0; i < s->site_count; i++) {
        if (s->sites[i].coll == coll)
            return &s->sites[i];
    }
    return NULL;
}

/* Every collection once. The edits point into themselves: they begin when all sites are known. */
static int find_sites(struct settling *s)
{
    size_t most = 0;

    for (size_t i = 0; i < s->count; i++)
        most += s->txs[i]->touched_count;
    s->site_cap = most;
    s->sites = heap_zalloc(s->client->heap, most * sizeof(*s->sites));
    if (!s->sites)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < s->count; i++) {
        const struct coulomb_tx *tx = s->txs[i];

        for (size_t k = 0; k < tx->touched_count; k++) {
            const struct touched *t = &tx->touched[k];
            bool gates = t->gates_in == t->coll->generation;
            struct site *site = site_of(s, t->coll);

            if (!site) {
                site = &s->sites[s->site_count++];
                site->coll = t->coll;
                collection_hold(site->coll);
                edit_begin(&site->edit, site->coll);
                site->edit.settles = true;
            }
            site->persisting += gates && !tx->gate_keys;
            site->key_gates += gates && tx->gate_keys;
        }
    }
    return COULOMB_OK;
}

static int prepare_site(struct settling *s, struct site *site)
{
    struct coulomb_collection *coll = site->coll;
    int code = COULOMB_OK;

    site->applies = sync_choose(coll, coll->persisting - site->persisting);
    if (s->completed)
        code = sync_index_pending(coll);
    if (code == COULOMB_OK && site->applies)
        code = sync_prepare(coll, &site->edit);
    return code;
}

/* Whether these transactions' rows hold back sync. */
static void set_gates(struct settling *s, bool closed)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct coulomb_tx *tx = s->txs[i];
        bool gates = closed && tx->gate_keys && tx->state == COULOMB_TX_PERSISTING;

        for (size_t k = 0; k < tx->count; k++)
            tx->mutations[k]->gates = gates;
    }
}

static int prepare(struct settling *s)
{
    int code = find_sites(s);

    set_gates(s, false);
    for (size_t i = 0; i < s->count && code == COULOMB_OK; i++) {
        const struct coulomb_tx *tx = s->txs[i];

        for (size_t k = 0; k < tx->count && code == COULOMB_OK; k++) {
            const struct mutation *m = tx->mutations[k];

            if (m->local && !edit_touch(&site_of(s, m->coll)->edit, m->key, m->hash))
                code = COULOMB_E_MEMORY;
        }
    }
    for (size_t i = 0; i < s->site_count && code == COULOMB_OK; i++)
        code = prepare_site(s, &s->sites[i]);
    for (size_t i = 0; i < s->site_count && code == COULOMB_OK; i++)
        code = edit_ready(&s->sites[i].edit);
    return code;
}

static void settle_mutations(struct settling *s, struct coulomb_tx *tx)
{
    for (size_t i = 0; i < tx->count; i++) {
        struct mutation *m = tx->mutations[i];
        struct local *l = m->local;
        const struct site *site = site_of(s, m->coll);

        if (!s->completed)
            local_fail(m->coll, m);
        else
            local_complete(m->coll, m, tx->direct,
                           site->applies || sync_names_key(m->coll, m->key, m->hash));
        if (l && !site->applies)
            local_sweep(m->coll, l);
    }
}

/* What was kept only for sync to confirm it, and sync did not. */
static void drop_unnamed(struct settling *s, struct coulomb_tx *tx)
{
    for (size_t i = 0; i < tx->count; i++) {
        struct mutation *m = tx->mutations[i];
        struct local *l = local_find(m->coll, m->key, m->hash);

        if (!l || !site_of(s, m->coll)->applies)
            continue;
        if (l->kept == m && !l->direct && l->has_kept &&
            !sync_names_key(m->coll, m->key, m->hash))
            local_drop_kept(m->coll, l, false);
        local_sweep(m->coll, l);
    }
}

static void apply(struct settling *s)
{
    for (size_t i = 0; i < s->count; i++) {
        tx_retain(s->txs[i]);
        settle_mutations(s, s->txs[i]);
    }
    for (size_t i = 0; i < s->site_count; i++) {
        struct site *site = &s->sites[i];
        struct coulomb_collection *coll = site->coll;

        coll->persisting -= site->persisting;
        coll->key_gates -= site->key_gates;
        if (site->applies)
            sync_apply(coll, &site->edit);
    }
    for (size_t i = 0; i < s->count; i++)
        drop_unnamed(s, s->txs[i]);
    for (size_t i = 0; i < s->site_count; i++)
        edit_finish(&s->sites[i].edit);
    for (size_t i = 0; i < s->count; i++) {
        tx_end(s->txs[i], s->completed ? COULOMB_TX_COMPLETED : COULOMB_TX_FAILED);
        tx_drop(s->txs[i]);
    }
}

int settle(coulomb_client *c, struct coulomb_tx **txs, size_t count, bool completed)
{
    struct settling s = {.client = c, .txs = txs, .count = count, .completed = completed};
    int code = prepare(&s);

    if (code == COULOMB_OK) {
        apply(&s);
    } else {
        set_gates(&s, true);
        for (size_t i = 0; i < s.site_count; i++)
            edit_abort(&s.sites[i].edit);
        if (code == COULOMB_E_MEMORY)
            client_no_memory(c);
    }
    for (size_t i = 0; i < s.site_count; i++)
        collection_drop(s.sites[i].coll);
    heap_free(c->heap, s.sites, s.site_cap * sizeof(*s.sites));
    return code;
}
