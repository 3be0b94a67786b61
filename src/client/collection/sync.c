/*
 * Sync transactions being written: an adapter's calls, checked and staged. Rows are built here, so
 * that applying (apply.c) takes as little memory as it can.
 */

#include "client/collection/collection.h"

#include <string.h>

coulomb_sync *coulomb_sync_retain(coulomb_sync *sync)
{
    sync->refs++;
    return sync;
}

void coulomb_sync_release(coulomb_sync *sync)
{
    coulomb_client *c;

    if (!sync || --sync->refs > 0)
        return;
    c = sync->client;
    heap_free(c->heap, sync, sizeof(*sync));
    client_release(c);
}

coulomb_collection *coulomb_sync_collection(const coulomb_sync *sync)
{
    return sync->coll;
}

int sync_enter(coulomb_sync *sync)
{
    int code = client_enter(sync->client);

    if (code == COULOMB_OK && !sync->coll)
        code = client_fail(sync->client, COULOMB_E_STALE_SESSION,
                           "this sync session is over; its calls have no effect");
    return code;
}

struct sync_tx *sync_open(const struct coulomb_collection *coll)
{
    struct sync_tx *s;

    if (list_empty(&coll->sync_txs))
        return NULL;
    s = LIST_ENTRY(coll->sync_txs.prev, struct sync_tx, link);
    return s->committed ? NULL : s;
}

int sync_for_write(coulomb_sync *sync, struct sync_tx **out)
{
    int code = sync_enter(sync);

    if (code != COULOMB_OK)
        return code;
    if (list_empty(&sync->coll->sync_txs))
        return client_fail(sync->client, COULOMB_E_NO_SYNC_TX_WRITE,
                           "no sync transaction is open in %s; begin one",
                           sync->coll->id);
    *out = sync_open(sync->coll);
    if (!*out)
        return client_fail(sync->client, COULOMB_E_SYNC_TX_COMMITTED_WRITE,
                           "the sync transaction of %s was committed; begin another",
                           sync->coll->id);
    return COULOMB_OK;
}

static coulomb_key node_key(const void *item)
{
    return ((const struct row_meta *)item)->key;
}

struct sync_tx *sync_tx_new(struct coulomb_collection *coll)
{
    struct sync_tx *s = heap_zalloc(coll->heap, sizeof(*s));

    if (!s) {
        client_no_memory(coll->client);
        return NULL;
    }
    list_init(&s->link);
    list_init(&s->meta);
    ktab_init(&s->deleted, coll->heap, node_key);
    ktab_init(&s->keys, coll->heap, node_key);
    return s;
}

void sync_tx_list(struct coulomb_collection *coll, struct sync_tx *s)
{
    list_push(&coll->sync_txs, &s->link);
}

int coulomb_sync_begin(coulomb_sync *sync, unsigned flags)
{
    struct sync_tx *s;
    int code = sync_enter(sync);

    if (code != COULOMB_OK)
        return code;
    s = sync_tx_new(sync->coll);
    if (!s)
        return COULOMB_E_MEMORY;
    s->immediate = (flags & COULOMB_SYNC_IMMEDIATE) != 0;
    sync_tx_list(sync->coll, s);
    return COULOMB_OK;
}

static void node_free(struct heap *h, struct row_meta *node)
{
    blob_fini(h, &node->key_bytes);
    blob_fini(h, &node->value);
    heap_free(h, node, sizeof(*node));
}

/* A key with a value (bytes NULL: none). NULL: no memory. */
static struct row_meta *node_new(struct heap *h, coulomb_key key, const void *bytes,
                                 size_t len)
{
    struct row_meta *node = heap_zalloc(h, sizeof(*node));

    if (!node)
        return NULL;
    if (key_copy(h, key, &node->key_bytes, &node->key) == COULOMB_OK &&
        blob_set(h, &node->value, bytes, len) == COULOMB_OK)
        return node;
    node_free(h, node);
    return NULL;
}

void sync_tx_clear(struct coulomb_collection *coll, struct sync_tx *s)
{
    for (size_t i = 0; i < s->count; i++)
        row_release(s->ops[i].row);
    for (size_t i = 0; i < s->extra_count; i++) {
        if (s->extras[i])
            node_free(coll->heap, s->extras[i]);
    }
    s->count = s->extra_count = s->keys_of = 0;
    ktab_fini(&s->deleted);
    for (size_t i = 0; i < s->keys.used; i++) {
        if (s->keys.ents[i].item)
            node_free(coll->heap, s->keys.ents[i].item);
    }
    ktab_fini(&s->keys);
}

void sync_tx_free(struct coulomb_collection *coll, struct sync_tx *s)
{
    list_remove(&s->link);
    sync_tx_clear(coll, s);
    meta_list_clear(coll, &s->meta);
    heap_free(coll->heap, s->ops, s->cap * sizeof(*s->ops));
    heap_free(coll->heap, s->extras, s->extra_cap * sizeof(*s->extras));
    heap_free(coll->heap, s, sizeof(*s));
}

void sync_abort(struct coulomb_collection *coll)
{
    struct sync_tx *s = sync_open(coll);

    if (s)
        sync_tx_free(coll, s);
}

/* Adds an operation; takes row and node (which may be NULL) only on success. */
static int stage(struct coulomb_collection *coll, struct sync_tx *s,
                 enum sync_op_type type, struct coulomb_row *row, struct row_meta *node)
{
    struct heap *h = coll->heap;
    void *ops = s->ops;
    void *extras = s->extras;
    int code = heap_grow(h, &ops, &s->cap, s->count + 1, sizeof(*s->ops));

    s->ops = ops;
    if (code == COULOMB_OK && node)
        code =
            heap_grow(h, &extras, &s->extra_cap, s->extra_count + 1, sizeof(*s->extras));
    s->extras = extras;
    if (code == COULOMB_OK && node && type == OP_DELETE)
        code = ktab_reserve(&s->deleted, 1);
    if (code != COULOMB_OK)
        return client_no_memory(coll->client);
    s->ops[s->count] = (struct sync_op){.row = row, .type = (uint8_t)type};
    if (node) {
        s->extras[s->extra_count++] = node;
        s->ops[s->count].extra = (uint32_t)s->extra_count;
        if (type == OP_DELETE) {
            uint32_t hash = coll_hash(coll, node->key);

            if (!ktab_find(&s->deleted, node->key, hash))
                ktab_put(&s->deleted, node, hash);
        }
    }
    s->count++;
    return COULOMB_OK;
}

/* The synced row that an insert would meet: none when something that waits removes it. */
static struct coulomb_row *row_met(const struct coulomb_collection *coll, coulomb_key key,
                                   uint32_t hash)
{
    for (struct list *l = coll->sync_txs.next; l != &coll->sync_txs; l = l->next) {
        const struct sync_tx *s = LIST_ENTRY(l, struct sync_tx, link);

        if (s->truncate || ktab_get(&s->deleted, key, hash))
            return NULL;
    }
    return ktab_get(&coll->synced, key, hash);
}

int row_make(struct coulomb_collection *coll, const coulomb_value *values,
             struct coulomb_row **out)
{
    coulomb_client *c = coll->client;
    coulomb_key key;
    struct coulomb_row *row;
    int code;

    arena_reset(&c->scratch);
    code = row_new(coll->layout, values, NULL, &c->scratch, &row, &c->error);
    if (code != COULOMB_OK)
        return code == COULOMB_E_MEMORY ? client_no_memory(c) : code;
    code = row_with_key(coll, &row);
    if (code != COULOMB_OK)
        return code;
    key = row_key(row);
    if (key.type == COULOMB_KEY_TEXT && key.text.len > COULOMB_KEY_MAX) {
        row_release(row);
        return client_fail(c, COULOMB_E_INVALID_KEY, "a key of %zu bytes; %d is the most",
                           key.text.len, COULOMB_KEY_MAX);
    }
    *out = row;
    return COULOMB_OK;
}

/* Takes the row; gives one with its key. */
int row_with_key(struct coulomb_collection *coll, struct coulomb_row **row)
{
    coulomb_client *c = coll->client;
    coulomb_value few[32];
    coulomb_value *values = few;
    coulomb_key key;
    struct coulomb_row *plain = *row;
    struct layout *l = coll->layout;
    int code = COULOMB_OK;

    *row = NULL;
    if (coll->options.get_key) {
        c->locked++;
        key = coll->options.get_key(plain, coll->options.get_key_arg);
        c->locked--;
    } else {
        key = row_key(plain);
    }
    if (key.type == COULOMB_KEY_NONE) {
        bool absent = l->key_column < 0 ||
                      row_at(plain, (size_t)l->key_column).type == COULOMB_ABSENT;

        row_release(plain);
        return client_fail(
            c, absent ? COULOMB_E_UNDEFINED_KEY : COULOMB_E_INVALID_KEY,
            absent ? "a row of %s has no key" : "a row of %s has a null key", coll->id);
    }
    if (key.type != COULOMB_KEY_TEXT && key.type != COULOMB_KEY_INT64) {
        row_release(plain);
        return client_fail(c, COULOMB_E_INVALID_KEY,
                           "the key function of %s gave something that is no key",
                           coll->id);
    }
    if (!coll->options.get_key) {
        *row = plain;
        return COULOMB_OK;
    }
    if (l->count > sizeof(few) / sizeof(few[0]))
        values = arena_alloc(&c->scratch, l->count * sizeof(*values));
    for (size_t i = 0; values && i < l->count; i++)
        values[i] = row_at(plain, i);
    code = values ? row_build(l, values, &key, row) : COULOMB_E_MEMORY;
    row_release(plain);
    return code == COULOMB_OK ? code
                              : client_fail(c, code, "%s", coulomb_error_text(code));
}

static int duplicate(struct coulomb_collection *coll, coulomb_key key)
{
    coulomb_client *c = coll->client;
    char text[sizeof(c->error.key)];
    int code;

    key_print(key, text, sizeof(text));
    code = client_fail(
        c, COULOMB_E_DUPLICATE_KEY_SYNC,
        "sync inserts key %s into %s, which has another row under it; send an "
        "update, or delete it first",
        text, coll->id);
    memcpy(c->error.key, text, sizeof(text));
    return code;
}

int sync_tx_row(struct coulomb_collection *coll, struct sync_tx *s,
                enum sync_op_type type, struct coulomb_row *row, const void *metadata,
                size_t len)
{
    struct row_meta *node = NULL;
    int code;

    if (metadata) {
        node = node_new(coll->heap, row_key(row), metadata, len);
        if (!node)
            return client_no_memory(coll->client);
    }
    code = stage(coll, s, type, row, node);
    if (code != COULOMB_OK && node)
        node_free(coll->heap, node);
    return code;
}

/* An insert meets no other row. */
static int check_insert(struct coulomb_collection *coll, const struct coulomb_row *row)
{
    coulomb_key key = row_key(row);
    const struct coulomb_row *met = row_met(coll, key, coll_hash(coll, key));
    int equal = met ? row_equal(met, row, &coll->client->scratch) : 1;

    if (equal < 0)
        return client_no_memory(coll->client);
    return equal ? COULOMB_OK : duplicate(coll, key);
}

static int sync_write(coulomb_sync *sync, enum sync_op_type type,
                      const coulomb_value *values, const void *metadata, size_t len)
{
    struct sync_tx *s;
    struct coulomb_row *row;
    int code = sync_for_write(sync, &s);

    if (code == COULOMB_OK)
        code = row_make(sync->coll, values, &row);
    if (code != COULOMB_OK)
        return code;
    if (type == OP_INSERT)
        code = check_insert(sync->coll, row);
    if (code == COULOMB_OK)
        code = sync_tx_row(sync->coll, s, type, row, metadata, len);
    if (code != COULOMB_OK)
        row_release(row);
    return code;
}

int coulomb_sync_insert(coulomb_sync *sync, const coulomb_value *values,
                        const void *metadata, size_t len)
{
    return sync_write(sync, OP_INSERT, values, metadata, len);
}

int coulomb_sync_update(coulomb_sync *sync, const coulomb_value *values,
                        const void *metadata, size_t len)
{
    return sync_write(sync, OP_UPDATE, values, metadata, len);
}

int sync_tx_key(struct coulomb_collection *coll, struct sync_tx *s,
                enum sync_op_type type, coulomb_key key, const void *value, size_t len)
{
    struct row_meta *node = node_new(coll->heap, key, value, len);
    int code;

    if (!node)
        return client_no_memory(coll->client);
    code = stage(coll, s, type, NULL, node);
    if (code != COULOMB_OK)
        node_free(coll->heap, node);
    return code;
}

int sync_stage_key(coulomb_sync *sync, enum sync_op_type type, coulomb_key key,
                   const void *value, size_t len)
{
    struct sync_tx *s;
    int code = sync_for_write(sync, &s);

    if (code != COULOMB_OK)
        return code;
    if ((key.type != COULOMB_KEY_TEXT && key.type != COULOMB_KEY_INT64) ||
        key.text.len > COULOMB_KEY_MAX)
        return client_fail(sync->client, COULOMB_E_INVALID_KEY, "that is no key");
    return sync_tx_key(sync->coll, s, type, key, value, len);
}

int coulomb_sync_delete(coulomb_sync *sync, coulomb_key key)
{
    return sync_stage_key(sync, OP_DELETE, key, NULL, 0);
}

void sync_tx_truncate(struct coulomb_collection *coll, struct sync_tx *s)
{
    s->truncate = true;
    for (struct list *at = coll->kept.next; at != &coll->kept; at = at->next)
        LIST_ENTRY(at, struct local, kept_link)->in_truncate = true;
}

int coulomb_sync_truncate(coulomb_sync *sync)
{
    struct sync_tx *s;
    int code = sync_for_write(sync, &s);

    if (code != COULOMB_OK)
        return code;
    sync_tx_clear(sync->coll, s);
    sync_tx_truncate(sync->coll, s);
    return COULOMB_OK;
}

int sync_tx_commit(struct coulomb_collection *coll, struct sync_tx *s)
{
    int code;

    s->committed = true;
    code = sync_flush(coll);
    if (code != COULOMB_OK)
        s->committed = false; /* as it was; the caller may commit again */
    return code;
}

void sync_passed(struct coulomb_collection *coll)
{
    struct sync_tx *s;

    if (!coll->session || list_empty(&coll->kept))
        return;
    s = sync_tx_new(coll);
    if (!s)
        return;
    sync_tx_list(coll, s);
    if (sync_tx_commit(coll, s) != COULOMB_OK)
        sync_tx_free(coll, s);
}

int coulomb_sync_commit(coulomb_sync *sync)
{
    struct sync_tx *s;
    int code = sync_enter(sync);

    if (code != COULOMB_OK)
        return code;
    if (list_empty(&sync->coll->sync_txs))
        return client_fail(sync->client, COULOMB_E_NO_SYNC_TX_COMMIT,
                           "no sync transaction is open in %s; begin one",
                           sync->coll->id);
    s = sync_open(sync->coll);
    if (!s)
        return client_fail(sync->client, COULOMB_E_SYNC_TX_COMMITTED,
                           "the sync transaction of %s was committed before",
                           sync->coll->id);
    return sync_tx_commit(sync->coll, s);
}

int coulomb_sync_mark_ready(coulomb_sync *sync)
{
    struct coulomb_collection *coll = sync->coll;
    int code = sync_enter(sync);

    if (code != COULOMB_OK || coll->status == COULOMB_READY)
        return code;
    code = batch_empty(coll);
    if (code == COULOMB_OK)
        code = status_set(coll, COULOMB_READY);
    return code;
}

int coulomb_sync_mark_error(coulomb_sync *sync, int code, const char *message)
{
    struct coulomb_collection *coll = sync->coll;
    int entered = sync_enter(sync);

    if (entered != COULOMB_OK)
        return entered;
    entered = status_set(coll, COULOMB_ERROR);
    if (entered == COULOMB_OK)
        error_set(&coll->error, code < 0 ? code : COULOMB_E_FAILED, "%s",
                  message ? message : coulomb_error_text(code));
    return entered;
}
