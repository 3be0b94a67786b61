/*
 * Sync transactions take effect. All that are committed and need not wait for a transaction that is
 * being persisted (a truncating or immediate one does not, nor do those before it) are applied in one
 * edit, in order.
 * For each key the synced row that results is computed beforehand, so that what can fail has
 * failed before anything changes.
 *
 * The plain case, a load of rows that nobody watches, goes without edits: rows move from the staged
 * operations into the table.
 */

#include "client/collection/collection.h"

#include <string.h>

static coulomb_key op_key(const struct sync_tx *s, const struct sync_op *op)
{
    return op->row ? row_key(op->row) : s->extras[op->extra - 1]->key;
}

static bool op_gated(const struct coulomb_collection *coll, const struct sync_tx *s,
                     size_t i)
{
    coulomb_key key = op_key(s, &s->ops[i]);
    const struct local *l = local_find(coll, key, coll_hash(coll, key));

    for (struct list *at = l ? l->mutations.next : NULL; l && at != &l->mutations;
         at = at->next) {
        if (LIST_ENTRY(at, struct mutation, in_key)->gates)
            return true;
    }
    return false;
}

/* Whether it names a key that waits. What was found the last time is looked at first. */
static bool names_gated(const struct coulomb_collection *coll, struct sync_tx *s)
{
    if (s->gated < s->count && op_gated(coll, s, s->gated))
        return true;
    for (size_t i = 0; i < s->count; i++) {
        if (op_gated(coll, s, i)) {
            s->gated = i;
            return true;
        }
    }
    return false;
}

/* A transaction that waits holds back those behind it: they may name the same rows, and where sync
 * is (metadata of the collection) must not get ahead of the rows. */
bool sync_choose(struct coulomb_collection *coll, size_t persisting)
{
    bool pressing = false;
    bool waits = persisting > 0;
    bool any = false;

    for (struct list *l = coll->sync_txs.next; l != &coll->sync_txs; l = l->next) {
        const struct sync_tx *s = LIST_ENTRY(l, struct sync_tx, link);

        pressing = pressing || (s->committed && (s->truncate || s->immediate));
    }
    for (struct list *l = coll->sync_txs.next; l != &coll->sync_txs; l = l->next) {
        struct sync_tx *s = LIST_ENTRY(l, struct sync_tx, link);

        if (s->committed && !pressing && !waits && coll->key_gates > 0)
            waits = names_gated(coll, s);
        s->due = s->committed && (pressing || !waits);
        any = any || s->due;
    }
    return any;
}

/* base with the values that patch has. */
static int row_merge(struct coulomb_collection *coll, const struct coulomb_row *base,
                     const struct coulomb_row *patch, struct coulomb_row **out)
{
    coulomb_value few[32];
    coulomb_value *values = few;
    struct layout *l = coll->layout;
    coulomb_key key = row_key(base);
    int code;

    if (l->count > sizeof(few) / sizeof(few[0]))
        values = heap_alloc(coll->heap, l->count * sizeof(*values));
    if (!values)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < l->count; i++) {
        values[i] = row_at(patch, i);
        if (values[i].type == COULOMB_ABSENT)
            values[i] = row_at(base, i);
    }
    code = row_build(l, values, l->stored_key ? &key : NULL, out);
    if (values != few)
        heap_free(coll->heap, values, l->count * sizeof(*values));
    return code;
}

static void touch_synced(struct touch *t, struct coulomb_row *row)
{
    row_release(t->synced);
    t->synced = row;
    t->has_synced = true;
}

static int prepare_op(struct coulomb_collection *coll, struct edit *e,
                      const struct sync_tx *s, const struct sync_op *op)
{
    coulomb_key key = op_key(s, op);
    uint32_t hash = coll_hash(coll, key);
    struct touch *t = edit_touch(e, key, hash);
    struct coulomb_row *base;
    struct coulomb_row *merged;
    int code;

    if (!t)
        return COULOMB_E_MEMORY;
    if (op->type == OP_ROW_META)
        return COULOMB_OK;
    t->confirmed = true;
    if (op->type == OP_DELETE) {
        touch_synced(t, NULL);
        return COULOMB_OK;
    }
    base = t->has_synced ? t->synced : ktab_get(&coll->synced, key, hash);
    if (op->type == OP_INSERT || coll->options.full_updates || !base) {
        touch_synced(t, row_retain(op->row));
        return COULOMB_OK;
    }
    code = row_merge(coll, base, op->row, &merged);
    if (code == COULOMB_OK)
        touch_synced(t, merged);
    return code;
}

/* Every key goes, whatever came before. */
static int prepare_truncate(struct coulomb_collection *coll, struct edit *e)
{
    struct kent *ent;
    size_t it = 0;

    e->truncate = true;
    while ((ent = ktab_next(&coll->synced, &it)) != NULL) {
        if (!edit_touch(e, row_key(ent->item), ent->hash))
            return COULOMB_E_MEMORY;
    }
    it = 0;
    while ((ent = ktab_next(&coll->locals, &it)) != NULL) {
        if (!edit_touch(e, ((struct local *)ent->item)->key, ent->hash))
            return COULOMB_E_MEMORY;
    }
    for (struct touch *t = e->first; t; t = t->next) {
        t->truncated = true;
        t->confirmed = false;
        touch_synced(t, NULL);
    }
    return COULOMB_OK;
}

int sync_prepare(struct coulomb_collection *coll, struct edit *e)
{
    size_t rows = 0;
    int code = COULOMB_OK;

    for (struct list *l = coll->sync_txs.next; l != &coll->sync_txs; l = l->next) {
        const struct sync_tx *s = LIST_ENTRY(l, struct sync_tx, link);

        if (!s->due)
            continue;
        if (s->truncate)
            code = prepare_truncate(coll, e);
        for (size_t i = 0; i < s->count && code == COULOMB_OK; i++)
            code = prepare_op(coll, e, s, &s->ops[i]);
        if (code == COULOMB_OK)
            code = ktab_reserve(&coll->metas, coll->metas.live + s->extra_count);
        if (code != COULOMB_OK)
            return code;
    }
    for (struct list *l = coll->kept.next; l != &coll->kept; l = l->next) {
        const struct local *k = LIST_ENTRY(l, struct local, kept_link);

        if (!edit_touch(e, k->key, k->hash))
            return COULOMB_E_MEMORY;
    }
    for (struct touch *t = e->first; t; t = t->next)
        rows += t->synced != NULL;
    return ktab_reserve(&coll->synced, rows);
}

static void synced_put(struct coulomb_collection *coll, struct coulomb_row *row,
                       coulomb_key key, uint32_t hash, bool local)
{
    struct kent *ent = ktab_find(&coll->synced, key, hash);

    if (ent) {
        row_release(ent->item);
        ent->item = row_retain(row);
    } else {
        ent = ktab_put(&coll->synced, row_retain(row), hash);
    }
    ent->flags = local ? ENT_LOCAL : 0;
}

static void synced_remove(struct coulomb_collection *coll, coulomb_key key, uint32_t hash)
{
    struct kent *ent = ktab_find(&coll->synced, key, hash);

    if (ent) {
        struct coulomb_row *row = ent->item;

        ktab_remove(&coll->synced, ent);
        row_release(row);
    }
}

/* Sync has named the key: what waited for that is done. A truncate brings what the server had when
 * it began: what was kept by then lies over it a while longer. */
static void confirm(struct coulomb_collection *coll, struct local *l, bool truncating)
{
    for (struct list *at = l->mutations.next; at != &l->mutations; at = at->next) {
        struct mutation *m = LIST_ENTRY(at, struct mutation, in_key);

        if (m->state == COULOMB_MUTATION_SENT)
            m->seen = true;
    }
    if (!truncating || !l->in_truncate || !l->has_kept)
        local_drop_kept(coll, l, true);
}

static void apply_touch(struct coulomb_collection *coll, struct touch *t, bool truncating)
{
    struct local *l = local_find(coll, t->key, t->hash);
    bool was_local = l && (l->claimed || l->has_kept || !list_empty(&l->mutations));

    if (t->has_synced && t->synced)
        synced_put(coll, t->synced, t->key, t->hash, was_local);
    else if (t->has_synced)
        synced_remove(coll, t->key, t->hash);
    if (l && t->confirmed)
        confirm(coll, l, truncating);
    if (l)
        local_sweep(coll, l);
}

/* What a direct operation left lasts until a sync commit, whatever that brings. */
static void drop_unconfirmed(struct coulomb_collection *coll)
{
    struct list *next;

    for (struct list *at = coll->kept.next; at != &coll->kept; at = next) {
        struct local *l = LIST_ENTRY(at, struct local, kept_link);

        next = at->next;
        if (l->has_kept && l->direct && !l->in_truncate) {
            local_drop_kept(coll, l, false);
            local_sweep(coll, l);
        }
    }
}

static void row_meta_free(struct coulomb_collection *coll, struct row_meta *m)
{
    blob_fini(coll->heap, &m->key_bytes);
    blob_fini(coll->heap, &m->value);
    heap_free(coll->heap, m, sizeof(*m));
}

static void metas_clear(struct coulomb_collection *coll)
{
    struct kent *ent;
    size_t it = 0;

    while ((ent = ktab_next(&coll->metas, &it)) != NULL) {
        struct row_meta *m = ent->item;

        ktab_remove(&coll->metas, ent);
        row_meta_free(coll, m);
    }
}

static void apply_row_meta(struct coulomb_collection *coll, struct sync_tx *s,
                           struct sync_op *op)
{
    struct row_meta *node = op->extra > 0 ? s->extras[op->extra - 1] : NULL;
    coulomb_key key = op_key(s, op);
    uint32_t hash = coll_hash(coll, key);
    struct kent *ent = ktab_find(&coll->metas, key, hash);

    if (op->type == OP_UPDATE && !node)
        return;
    if (ent) {
        struct row_meta *old = ent->item;

        ktab_remove(&coll->metas, ent);
        row_meta_free(coll, old);
    }
    /* Nodes of deletes stay: the tables of their transaction point at them. */
    if (node && node->value.ptr && op->type != OP_DELETE) {
        s->extras[op->extra - 1] = NULL;
        ktab_put(&coll->metas, node, hash);
    }
}

static void apply_metas(struct coulomb_collection *coll, struct sync_tx *s)
{
    if (s->truncate)
        metas_clear(coll);
    if (s->extra_count == 0 && coll->metas.live == 0)
        return;
    for (size_t i = 0; i < s->count; i++) {
        struct sync_op *op = &s->ops[i];

        if (op->extra > 0 || op->type != OP_UPDATE)
            apply_row_meta(coll, s, op);
    }
}

/* Nodes move from the transaction to the collection, which lists them by name. */
static void apply_coll_meta(struct coulomb_collection *coll, struct sync_tx *s)
{
    while (!list_empty(&s->meta)) {
        struct sync_meta *m = LIST_ENTRY(list_pop(&s->meta), struct sync_meta, link);
        struct list *at = coll->meta.next;
        struct list gone;
        int order = 1;

        list_init(&gone);
        for (; at != &coll->meta; at = at->next) {
            order = strcmp(LIST_ENTRY(at, struct sync_meta, link)->name.ptr, m->name.ptr);
            if (order >= 0)
                break;
        }
        if (at != &coll->meta && order == 0) {
            struct list *old = at;

            at = at->next;
            list_remove(old);
            list_push(&gone, old);
        }
        list_push(m->value.ptr ? at : &gone, &m->link);
        meta_list_clear(coll, &gone);
    }
}

void truncate_done(struct coulomb_collection *coll)
{
    coulomb_event event = {.type = COULOMB_EVENT_TRUNCATE};

    for (struct list *l = coll->kept.next; l != &coll->kept; l = l->next)
        LIST_ENTRY(l, struct local, kept_link)->in_truncate = false;
    event_emit(coll, &event);
    subs_truncated(coll);
    if (coll->status == COULOMB_LOADING && batch_empty(coll) == COULOMB_OK)
        (void)status_set(coll, COULOMB_READY);
}

/* The metadata of all, then they are gone. */
static void retire(struct coulomb_collection *coll)
{
    struct list *next;

    for (struct list *l = coll->sync_txs.next; l != &coll->sync_txs; l = next) {
        struct sync_tx *s = LIST_ENTRY(l, struct sync_tx, link);

        next = l->next;
        if (!s->due)
            continue;
        apply_metas(coll, s);
        apply_coll_meta(coll, s);
        sync_tx_free(coll, s);
    }
    subs_synced(coll);
}

void sync_apply(struct coulomb_collection *coll, struct edit *e)
{
    for (struct touch *t = e->first; t; t = t->next)
        apply_touch(coll, t, e->truncate);
    drop_unconfirmed(coll);
    retire(coll);
}

/* --- The plain case ----------------------------------------------------------------------------- */

static bool is_plain(const struct coulomb_collection *coll)
{
    if (coll_observed(coll) || coll->index_count > 0 || coll->order ||
        coll->locals.live > 0)
        return false;
    for (struct list *l = coll->sync_txs.next; l != &coll->sync_txs; l = l->next) {
        const struct sync_tx *s = LIST_ENTRY(l, struct sync_tx, link);

        if (s->due && s->truncate)
            return false;
        for (size_t i = 0; s->due && i < s->count; i++) {
            if (s->ops[i].type == OP_UPDATE && !coll->options.full_updates)
                return false;
        }
    }
    return true;
}

static void plain_op(struct coulomb_collection *coll, struct sync_tx *s,
                     struct sync_op *op)
{
    coulomb_key key = op_key(s, op);
    uint32_t hash = coll_hash(coll, key);

    if (op->type == OP_DELETE)
        synced_remove(coll, key, hash);
    else if (op->type != OP_ROW_META)
        synced_put(coll, op->row, key, hash, false);
}

static int flush_plain(struct coulomb_collection *coll)
{
    size_t rows = 0;
    size_t extras = 0;

    for (struct list *l = coll->sync_txs.next; l != &coll->sync_txs; l = l->next) {
        const struct sync_tx *s = LIST_ENTRY(l, struct sync_tx, link);

        rows += s->due ? s->count : 0;
        extras += s->due ? s->extra_count : 0;
    }
    if (ktab_reserve(&coll->synced, rows) != COULOMB_OK ||
        ktab_reserve(&coll->metas, extras) != COULOMB_OK)
        return client_no_memory(coll->client);
    for (struct list *l = coll->sync_txs.next; l != &coll->sync_txs; l = l->next) {
        struct sync_tx *s = LIST_ENTRY(l, struct sync_tx, link);

        for (size_t i = 0; s->due && i < s->count; i++)
            plain_op(coll, s, &s->ops[i]);
    }
    retire(coll);
    coll->visible = coll->synced.live;
    if (rows > 0)
        coll->revision++;
    return COULOMB_OK;
}

int sync_flush(struct coulomb_collection *coll)
{
    struct edit e;
    int code;

    if (!sync_choose(coll, coll->persisting))
        return COULOMB_OK;
    if (is_plain(coll))
        return flush_plain(coll);
    edit_begin(&e, coll);
    code = sync_prepare(coll, &e);
    if (code == COULOMB_OK)
        code = edit_ready(&e);
    if (code != COULOMB_OK) {
        edit_abort(&e);
        return code == COULOMB_E_MEMORY ? client_no_memory(coll->client) : code;
    }
    sync_apply(coll, &e);
    edit_finish(&e);
    return COULOMB_OK;
}

/* --- Which keys wait ------------------------------------------------------------------------------ */

int sync_index_pending(struct coulomb_collection *coll)
{
    for (struct list *l = coll->sync_txs.next; l != &coll->sync_txs; l = l->next) {
        struct sync_tx *s = LIST_ENTRY(l, struct sync_tx, link);

        for (; s->keys_of < s->count; s->keys_of++) {
            coulomb_key key = op_key(s, &s->ops[s->keys_of]);
            uint32_t hash = coll_hash(coll, key);
            struct row_meta *node;

            if (ktab_get(&s->keys, key, hash))
                continue;
            if (ktab_reserve(&s->keys, 1) != COULOMB_OK)
                return COULOMB_E_MEMORY;
            node = heap_zalloc(coll->heap, sizeof(*node));
            if (!node)
                return COULOMB_E_MEMORY;
            if (key_copy(coll->heap, key, &node->key_bytes, &node->key) != COULOMB_OK) {
                heap_free(coll->heap, node, sizeof(*node));
                return COULOMB_E_MEMORY;
            }
            ktab_put(&s->keys, node, hash);
        }
    }
    return COULOMB_OK;
}

bool sync_waits(const struct coulomb_collection *coll)
{
    for (struct list *l = coll->sync_txs.next; l != &coll->sync_txs; l = l->next) {
        if (LIST_ENTRY(l, struct sync_tx, link)->committed)
            return true;
    }
    return false;
}

bool sync_truncates(const struct coulomb_collection *coll)
{
    for (struct list *l = coll->sync_txs.next; l != &coll->sync_txs; l = l->next) {
        if (LIST_ENTRY(l, struct sync_tx, link)->truncate)
            return true;
    }
    return false;
}

bool sync_names_key(const struct coulomb_collection *coll, coulomb_key key, uint32_t hash)
{
    for (struct list *l = coll->sync_txs.next; l != &coll->sync_txs; l = l->next) {
        const struct sync_tx *s = LIST_ENTRY(l, struct sync_tx, link);

        if (ktab_get(&s->keys, key, hash))
            return true;
    }
    return false;
}
