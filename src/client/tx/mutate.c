/*
 * Mutations: insert, update, delete. A call is prepared whole, each row checked and built, its
 * mutation made and merged with what the transaction has of that key, before anything is changed;
 * so it is done or not done. Overlays are there when the call returns; the handler runs in the next
 * poll.
 *
 * Merging (rows: what the transaction has; columns: what comes):
 *
 *              insert               update               delete
 *   insert     the new one          insert of the result both vanish
 *   update     update, all columns  update               delete of the first original
 *   delete     update, all columns  COULOMB_E_MERGE      delete
 *
 * An insert after an update, and an update after a delete, need another transaction's change over
 * the own one, which shows what the call then acts on; or a delete that is not optimistic.
 */

#include "client/tx/tx.h"

#include <stdio.h>
#include <string.h>

struct item {
    struct mutation *fresh;
    struct mutation *existing; /* of the same transaction and key */
    struct local *local;
    bool vanishes;
};

/* One call. */
struct work {
    coulomb_client *client;
    struct coulomb_collection *coll;
    coulomb_mutate_options options;
    coulomb_change_type type;
    struct coulomb_tx *tx;
    bool own; /* the transaction was made for this call */
    struct edit edit;
    struct item *items;
    size_t count;
    size_t cap;
    int64_t now_ms;
    struct blob insert_meta; /* the adapter's, for every row */
};

/* --- Beginning and ending -------------------------------------------------------------------- */

static coulomb_persist_fn handler_of(const struct coulomb_collection *coll,
                                     coulomb_change_type type, int *missing)
{
    if (coll->kind_persist)
        return coll->kind_persist;
    if (type == COULOMB_INSERT) {
        *missing = COULOMB_E_MISSING_INSERT_HANDLER;
        return coll->options.on_insert;
    }
    if (type == COULOMB_UPDATE) {
        *missing = COULOMB_E_MISSING_UPDATE_HANDLER;
        return coll->options.on_update;
    }
    *missing = COULOMB_E_MISSING_DELETE_HANDLER;
    return coll->options.on_delete;
}

static int direct_tx(struct work *w)
{
    static const char *const names[] = {"insert", "update", "delete"};
    int missing = 0;
    coulomb_tx_options o = {.persist = handler_of(w->coll, w->type, &missing),
                            .persist_arg = w->coll->options.handler_arg,
                            .gate_keys = w->coll->options.gate_keys};
    int code;

    if (!o.persist)
        return client_fail(w->client, missing,
                           "%s has no on_%s, and no transaction is given or ambient",
                           w->coll->id, names[w->type]);
    code = tx_make(w->client, &o, &w->tx);
    if (code != COULOMB_OK)
        return code;
    w->own = true;
    w->tx->direct = true;
    w->tx->handler_of = w->coll;
    collection_hold(w->coll);
    return COULOMB_OK;
}

static int choose_tx(struct work *w)
{
    w->tx = w->options.tx ? w->options.tx : w->client->ambient;
    if (!w->tx)
        return direct_tx(w);
    if (w->tx->client != w->client)
        return client_fail(w->client, COULOMB_E_FOREIGN_CLIENT,
                           "transaction %s belongs to another client than %s",
                           coulomb_tx_id(w->tx), w->coll->id);
    if (w->tx->state != COULOMB_TX_PENDING)
        return client_fail(w->client, COULOMB_E_TX_NOT_PENDING_MUTATE,
                           "transaction %s is %s; only a pending one takes mutations",
                           coulomb_tx_id(w->tx), coulomb_tx_state_name(w->tx->state));
    tx_retain(w->tx);
    return COULOMB_OK;
}

static int work_begin(struct work *w, coulomb_collection *coll, coulomb_change_type type,
                      size_t count, const coulomb_mutate_options *options)
{
    coulomb_client *c = coll->client;
    int code = client_enter(c);

    memset(w, 0, sizeof(*w));
    w->client = c;
    w->coll = coll;
    w->type = type;
    edit_begin(&w->edit, coll);
    if (code == COULOMB_OK)
        code = options_read(c, &w->options, sizeof(w->options), options, "the mutation");
    if (code != COULOMB_OK)
        return code;
    if (coll->status == COULOMB_ERROR)
        return client_fail(c, COULOMB_E_COLLECTION_IN_ERROR,
                           "%s is in error and takes no mutation: %s", coll->id,
                           coll->error.message);
    if (coll->status == COULOMB_CLEANED_UP)
        code = collection_wake(coll);
    if (code == COULOMB_OK)
        code = choose_tx(w);
    if (code != COULOMB_OK)
        return code;
    if (type == COULOMB_INSERT)
        code = adapter_insert_meta(coll, &w->insert_meta);
    if (code != COULOMB_OK)
        return code;
    w->now_ms = client_now(c);
    w->cap = count;
    w->items = heap_zalloc(c->heap, count * sizeof(*w->items));
    return w->items ? COULOMB_OK : client_no_memory(c);
}

/* Undoes what a failed call prepared. */
static void work_abort(struct work *w)
{
    edit_abort(&w->edit);
    for (size_t i = 0; w->items && i < w->count; i++) {
        struct local *l = w->items[i].local;

        if (w->items[i].fresh)
            mutation_free(w->client, w->items[i].fresh);
        if (l)
            local_sweep(w->coll, l);
    }
    if (w->tx && w->own) {
        list_remove(&w->tx->link);
        w->tx->owned = false;
        tx_drop(w->tx);
    }
    if (w->tx)
        tx_drop(w->tx);
    heap_free(w->client->heap, w->items, w->cap * sizeof(*w->items));
    blob_fini(w->client->heap, &w->insert_meta);
}

static int fail_key(struct work *w, int code, coulomb_key key, const char *what)
{
    coulomb_client *c = w->client;
    char text[sizeof(c->error.key)];

    key_print(key, text, sizeof(text));
    client_fail(c, code, "%s: %s %s", w->coll->id, what, text);
    memcpy(c->error.key, text, sizeof(text));
    return code;
}

/* --- Rows ---------------------------------------------------------------------------------------- */

static int schema_error(struct work *w)
{
    const coulomb_issues *issues = &w->client->issues;
    const struct issue *first = issues->items;
    int code;

    if (issues->count == 0)
        return client_fail(w->client, COULOMB_E_SCHEMA, "a row of %s is not valid",
                           w->coll->id);
    code = client_fail(
        w->client, COULOMB_E_SCHEMA, "a row of %s is not valid: %s%s%s (%zu %s)",
        w->coll->id, first->column, first->column[0] != '\0' ? ": " : "", first->message,
        issues->count, issues->count == 1 ? "reason" : "reasons");
    snprintf(w->client->error.column, sizeof(w->client->error.column), "%s",
             first->column);
    return code;
}

static int run_validator(struct work *w, struct coulomb_draft *d)
{
    int code;

    if (!w->coll->options.validate)
        return COULOMB_OK;
    w->client->issues.count = 0;
    w->client->error.code = COULOMB_OK;
    w->client->locked++;
    code =
        w->coll->options.validate(d, &w->client->issues, w->coll->options.validate_arg);
    w->client->locked--;
    if (code == COULOMB_PENDING)
        return client_fail(w->client, COULOMB_E_SCHEMA_ASYNC,
                           "the validator of %s has to answer at once", w->coll->id);
    if (code == COULOMB_E_MEMORY && w->client->error.code == code)
        return code; /* of a draft, handed on; -1 alone is just "no" */
    return code == COULOMB_OK && w->client->issues.count == 0 ? COULOMB_OK
                                                              : schema_error(w);
}

/* Of an update only what the caller changed is taken from the validator. */
static int validate(struct work *w, struct coulomb_draft *d, bool *given)
{
    int code;

    memcpy(given, d->changed, d->layout->count * sizeof(*given));
    code = run_validator(w, d);
    for (size_t i = 0; d->base && code == COULOMB_OK && i < d->layout->count; i++) {
        if (d->changed[i] && !given[i]) {
            coulomb_value old = row_at(d->base, i);

            code = draft_put(d, i, &old);
        }
    }
    return code;
}

static unsigned char *bits_of(struct work *w, const bool *flags)
{
    size_t n = w->coll->layout->count;
    unsigned char *bits = heap_zalloc(w->client->heap, (n + 7) / 8);

    for (size_t i = 0; bits && i < n; i++) {
        if (flags[i])
            bits[i / 8] = (unsigned char)(bits[i / 8] | 1u << i % 8);
    }
    return bits;
}

/* The draft's row, with its key. */
static int built(struct work *w, struct coulomb_draft *d, struct coulomb_row **row)
{
    coulomb_key key;
    int code = draft_row(d, NULL, row);

    if (code == COULOMB_OK)
        code = row_with_key(w->coll, row);
    if (code != COULOMB_OK)
        return code;
    key = row_key(*row);
    if (key.type == COULOMB_KEY_TEXT && key.text.len > COULOMB_KEY_MAX) {
        row_release(*row);
        return client_fail(w->client, COULOMB_E_INVALID_KEY,
                           "a key of %zu bytes; %d is the most", key.text.len,
                           COULOMB_KEY_MAX);
    }
    return COULOMB_OK;
}

/* --- Mutations --------------------------------------------------------------------------------------- */

/* Takes the rows and bits, also when it fails. */
static int mutation_new(struct work *w, struct coulomb_row *original,
                        struct coulomb_row *modified, unsigned char *changed,
                        struct mutation **out)
{
    struct heap *h = w->client->heap;
    struct mutation *m = heap_zalloc(h, sizeof(*m));
    const struct row_meta *stored;
    const struct blob *meta;

    if (!m) {
        row_release(original);
        row_release(modified);
        heap_free(h, changed, (w->coll->layout->count + 7) / 8);
        return client_no_memory(w->client);
    }
    list_init(&m->in_key);
    m->tx = w->tx;
    m->coll = w->coll;
    collection_hold(w->coll);
    m->original = original;
    m->modified = modified;
    m->changed = changed;
    m->type = w->type;
    m->optimistic = !w->options.not_optimistic;
    m->id = m->place = ++w->client->last_id;
    m->order = w->tx->order;
    m->created_ms = m->updated_ms = w->now_ms;
    m->key = row_key(modified ? modified : original);
    m->hash = coll_hash(w->coll, m->key);
    stored = original ? ktab_get(&w->coll->metas, m->key, m->hash) : NULL;
    meta = stored ? &stored->value : &w->insert_meta;
    if (blob_set(h, &m->metadata, w->options.metadata, w->options.metadata_len) !=
            COULOMB_OK ||
        blob_set(h, &m->sync_metadata, meta->ptr, meta->len) != COULOMB_OK) {
        mutation_free(w->client, m);
        return client_no_memory(w->client);
    }
    *out = m;
    return COULOMB_OK;
}

static void bits_union(struct work *w, struct mutation *fresh, const struct mutation *old)
{
    size_t n = (w->coll->layout->count + 7) / 8;

    if (!old->changed) {
        heap_free(w->client->heap, fresh->changed, n);
        fresh->changed = NULL;
    }
    for (size_t i = 0; fresh->changed && i < n; i++)
        fresh->changed[i] = (unsigned char)(fresh->changed[i] | old->changed[i]);
}

static void keep_original(struct mutation *fresh, const struct mutation *old)
{
    struct coulomb_row *original = row_retain(old->original);

    row_release(fresh->original);
    fresh->original = original;
    if (!fresh->modified)
        fresh->key = row_key(original);
}

/* Makes fresh what the two are together. */
static int merge(struct work *w, struct item *it)
{
    struct mutation *fresh = it->fresh;
    const struct mutation *old = it->existing;
    size_t bits = (w->coll->layout->count + 7) / 8;

    if (old->type == COULOMB_DELETE && fresh->type == COULOMB_UPDATE)
        return fail_key(
            w, COULOMB_E_MERGE, fresh->key,
            "this transaction deleted, and can't update, the row under the key");
    if (old->type == COULOMB_INSERT && fresh->type == COULOMB_DELETE) {
        it->vanishes = true;
        return COULOMB_OK;
    }
    if (fresh->type == COULOMB_UPDATE)
        bits_union(w, fresh, old);
    if (old->type == COULOMB_INSERT) {
        row_release(fresh->original);
        fresh->original = NULL;
        fresh->type = COULOMB_INSERT;
    } else if (!w->client->compat || fresh->type != COULOMB_DELETE) {
        keep_original(fresh, old);
    }
    if (old->type != COULOMB_INSERT && fresh->type == COULOMB_INSERT) {
        fresh->type = COULOMB_UPDATE;
        heap_free(w->client->heap, fresh->changed, bits);
        fresh->changed = NULL;
        blob_fini(w->client->heap, &fresh->sync_metadata); /* the old row's counts */
    }
    fresh->created_ms = old->created_ms;
    fresh->place = old->place;
    return COULOMB_OK;
}

/* The mutation joins the call. Takes it, also when it fails. */
static int add(struct work *w, struct mutation *m)
{
    struct item *it = &w->items[w->count++];
    struct touch *t;

    it->fresh = m;
    t = edit_touch(&w->edit, m->key, m->hash);
    if (!t)
        return client_no_memory(w->client);
    if (t->confirmed) /* our mark here: the key was in this call before */
        return fail_key(
            w, w->type == COULOMB_INSERT ? COULOMB_E_DUPLICATE_KEY : COULOMB_E_ARGUMENT,
            m->key, "one call has twice the key");
    t->confirmed = true;
    it->local = local_get(w->coll, m->key, m->hash);
    if (!it->local)
        return client_no_memory(w->client);
    it->existing = w->own ? NULL : tx_find(w->tx, it->local);
    return it->existing ? merge(w, it) : COULOMB_OK;
}

/* --- Taking effect -------------------------------------------------------------------------------------- */

/* What was metadata of the older stays when the newer has none. */
static void inherit(struct blob *fresh, struct blob *old)
{
    if (!fresh->ptr) {
        *fresh = *old;
        *old = (struct blob){NULL, 0};
    }
}

/* The fresh one takes the other's place in the transaction and in the key's list. */
static void replace(struct work *w, struct item *it)
{
    struct mutation *old = it->existing;

    inherit(&it->fresh->metadata, &old->metadata);
    inherit(&it->fresh->sync_metadata, &old->sync_metadata);
    it->fresh->at = old->at;
    w->tx->mutations[old->at] = it->fresh;
    list_remove(&old->in_key);
    local_link(it->local, it->fresh);
    mutation_free(w->client, old);
}

static void apply(struct work *w)
{
    bool vanished = false;

    for (size_t i = 0; i < w->count; i++) {
        struct item *it = &w->items[i];

        if (it->vanishes) {
            list_remove(&it->existing->in_key);
            it->existing->tx = NULL;
            mutation_free(w->client, it->fresh);
            vanished = true;
        } else if (it->existing) {
            replace(w, it);
        } else {
            local_link(it->local, it->fresh);
            it->fresh->at = w->tx->count;
            w->tx->mutations[w->tx->count++] = it->fresh;
        }
    }
    for (size_t i = 0; i < w->count; i++) {
        if (w->items[i].vanishes)
            local_sweep(w->coll, w->items[i].local);
    }
    edit_finish(&w->edit);
    if (vanished)
        tx_compact(w->tx);
}

/* code is how preparing went. */
static int work_end(struct work *w, int code, coulomb_tx **tx)
{
    if (code == COULOMB_OK)
        code = tx_reserve(w->tx, w->coll, w->count);
    if (code == COULOMB_OK)
        code = edit_ready(&w->edit);
    if (code != COULOMB_OK) {
        work_abort(w);
        return code;
    }
    apply(w);
    if (w->own || w->count == 0)
        code = w->own ? coulomb_tx_commit(w->tx) : COULOMB_OK;
    heap_free(w->client->heap, w->items, w->cap * sizeof(*w->items));
    blob_fini(w->client->heap, &w->insert_meta);
    if (tx)
        *tx = w->tx;
    else
        tx_drop(w->tx);
    return code;
}

/* --- Insert ----------------------------------------------------------------------------------------------- */

static int insert_draft(struct work *w, struct coulomb_draft *d, const coulomb_item *item,
                        bool *given)
{
    struct coulomb_row *row;
    struct mutation *m;
    unsigned char *bits;
    int code = COULOMB_OK;

    for (size_t i = 0; i < item->count && code == COULOMB_OK; i++)
        code = coulomb_draft_set(d, item->fields[i].column, item->fields[i].value);
    if (code == COULOMB_OK)
        code = validate(w, d, given);
    if (code == COULOMB_OK)
        code = built(w, d, &row);
    if (code != COULOMB_OK)
        return code;
    if (visible_get(w->coll, row_key(row), coll_hash(w->coll, row_key(row))).row) {
        code = fail_key(w, COULOMB_E_DUPLICATE_KEY, row_key(row),
                        "a row exists under the key");
        row_release(row);
        return code;
    }
    bits = bits_of(w, given);
    if (!bits) {
        row_release(row);
        return client_no_memory(w->client);
    }
    code = mutation_new(w, NULL, row, bits, &m);
    return code == COULOMB_OK ? add(w, m) : code;
}

static int insert_one(struct work *w, const coulomb_item *item)
{
    struct coulomb_draft d;
    bool *given;
    int code = draft_init(&d, w->client, w->coll->layout, NULL);

    if (code != COULOMB_OK)
        return code;
    given = pool_alloc(&d.pool, d.layout->count * sizeof(*given));
    code = given ? insert_draft(w, &d, item, given) : client_no_memory(w->client);
    draft_fini(&d);
    return code;
}

int coulomb_insert_many(coulomb_collection *coll, const coulomb_item *items, size_t count,
                        const coulomb_mutate_options *options, coulomb_tx **tx)
{
    struct work w;
    int code = work_begin(&w, coll, COULOMB_INSERT, count, options);

    for (size_t i = 0; i < count && code == COULOMB_OK; i++)
        code = insert_one(&w, &items[i]);
    return work_end(&w, code, tx);
}

int coulomb_insert(coulomb_collection *coll, const coulomb_field *fields, size_t count,
                   const coulomb_mutate_options *options, coulomb_tx **tx)
{
    coulomb_item item = {fields, count};

    return coulomb_insert_many(coll, &item, 1, options, tx);
}

/* --- Update ------------------------------------------------------------------------------------------------- */

static int update_draft(struct work *w, struct coulomb_draft *d, struct coulomb_row *base)
{
    struct coulomb_row *row;
    struct mutation *m;
    unsigned char *bits;
    int code;

    if (d->changes == 0)
        return COULOMB_OK;
    code = built(w, d, &row);
    if (code != COULOMB_OK)
        return code;
    if (!key_equal(row_key(row), row_key(base))) {
        code = fail_key(w, COULOMB_E_KEY_UPDATE, row_key(base),
                        "an update may not change the key; delete and insert instead of");
        row_release(row);
        return code;
    }
    bits = bits_of(w, d->changed);
    if (!bits) {
        row_release(row);
        return client_no_memory(w->client);
    }
    code = mutation_new(w, row_retain(base), row, bits, &m);
    return code == COULOMB_OK ? add(w, m) : code;
}

static int update_one(struct work *w, coulomb_key key, size_t index, coulomb_update_fn fn,
                      void *arg)
{
    struct coulomb_row *base = visible_get(w->coll, key, coll_hash(w->coll, key)).row;
    struct coulomb_draft d;
    bool *given;
    int code;

    if (!base)
        return fail_key(w, COULOMB_E_UPDATE_KEY_NOT_FOUND, key,
                        "no row to update under the key");
    code = draft_init(&d, w->client, w->coll->layout, base);
    if (code != COULOMB_OK)
        return code;
    given = pool_alloc(&d.pool, d.layout->count * sizeof(*given));
    if (given) {
        w->client->locked++;
        code = fn(&d, index, arg);
        w->client->locked--;
    } else {
        code = client_no_memory(w->client);
    }
    if (code == COULOMB_OK && d.changes > 0)
        code = validate(w, &d, given);
    if (code == COULOMB_OK)
        code = update_draft(w, &d, base);
    draft_fini(&d);
    return code;
}

/* An update that changes nothing: a transaction that is completed and empty. */
static int nothing_done(struct work *w, coulomb_tx **tx)
{
    coulomb_client *c = w->client;
    coulomb_tx_options o = {.size = sizeof(o)};
    struct coulomb_tx *empty;
    int code = COULOMB_OK;

    if (tx && !w->own) {
        code = tx_make(c, &o, &empty);
        if (code == COULOMB_OK) {
            tx_end(empty, COULOMB_TX_COMPLETED);
            work_abort(w);
            *tx = empty;
        } else {
            work_abort(w);
        }
        return code;
    }
    if (!w->own) {
        work_abort(w);
        return COULOMB_OK;
    }
    return work_end(w, COULOMB_OK, tx);
}

int coulomb_update_many(coulomb_collection *coll, const coulomb_key *keys, size_t count,
                        coulomb_update_fn fn, void *arg,
                        const coulomb_mutate_options *options, coulomb_tx **tx)
{
    struct work w;
    int code = work_begin(&w, coll, COULOMB_UPDATE, count, options);

    if (code == COULOMB_OK && (!fn || !keys))
        code = client_fail(coll->client, COULOMB_E_MISSING_UPDATE_ARGUMENT,
                           "an update of %s needs keys and a function", coll->id);
    if (code == COULOMB_OK && count == 0)
        code = client_fail(coll->client, COULOMB_E_NO_KEYS_UPDATE,
                           "an update of %s got no keys", coll->id);
    for (size_t i = 0; i < count && code == COULOMB_OK; i++)
        code = update_one(&w, keys[i], i, fn, arg);
    if (code == COULOMB_OK && w.count == 0)
        return nothing_done(&w, tx);
    return work_end(&w, code, tx);
}

int coulomb_update(coulomb_collection *coll, coulomb_key key, coulomb_update_fn fn,
                   void *arg, const coulomb_mutate_options *options, coulomb_tx **tx)
{
    return coulomb_update_many(coll, &key, 1, fn, arg, options, tx);
}

static int set_fields(coulomb_draft *draft, size_t index, void *arg)
{
    const coulomb_item *item = arg;
    int code = COULOMB_OK;

    (void)index;
    for (size_t i = 0; i < item->count && code == COULOMB_OK; i++)
        code = coulomb_draft_set(draft, item->fields[i].column, item->fields[i].value);
    return code;
}

int coulomb_set(coulomb_collection *coll, coulomb_key key, const coulomb_field *fields,
                size_t count, const coulomb_mutate_options *options, coulomb_tx **tx)
{
    coulomb_item item = {fields, count};

    return coulomb_update_many(coll, &key, 1, set_fields, &item, options, tx);
}

/* --- Delete --------------------------------------------------------------------------------------------------- */

static int delete_one(struct work *w, coulomb_key key)
{
    struct coulomb_row *row = visible_get(w->coll, key, coll_hash(w->coll, key)).row;
    struct mutation *m;
    int code;

    if (!row)
        return fail_key(w, COULOMB_E_DELETE_KEY_NOT_FOUND, key,
                        "no row to delete under the key");
    code = mutation_new(w, row_retain(row), NULL, NULL, &m);
    return code == COULOMB_OK ? add(w, m) : code;
}

int coulomb_delete_many(coulomb_collection *coll, const coulomb_key *keys, size_t count,
                        const coulomb_mutate_options *options, coulomb_tx **tx)
{
    struct work w;
    int code = work_begin(&w, coll, COULOMB_DELETE, count, options);

    if (code == COULOMB_OK && (count == 0 || !keys))
        code = client_fail(coll->client, COULOMB_E_NO_KEYS_DELETE,
                           "a delete of %s got no keys", coll->id);
    for (size_t i = 0; i < count && code == COULOMB_OK; i++)
        code = delete_one(&w, keys[i]);
    return work_end(&w, code, tx);
}

int coulomb_delete(coulomb_collection *coll, coulomb_key key,
                   const coulomb_mutate_options *options, coulomb_tx **tx)
{
    return coulomb_delete_many(coll, &key, 1, options, tx);
}
