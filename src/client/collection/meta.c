/*
 * Metadata: bytes with rows and, under names, with the collection, staged in sync transactions; and
 * what adapters take along to other clients.
 */

#include "client/collection/collection.h"

#include <string.h>

void meta_list_clear(struct coulomb_collection *coll, struct list *l)
{
    while (!list_empty(l)) {
        struct sync_meta *m = LIST_ENTRY(list_pop(l), struct sync_meta, link);

        blob_fini(coll->heap, &m->name);
        blob_fini(coll->heap, &m->value);
        heap_free(coll->heap, m, sizeof(*m));
    }
}

int coulomb_sync_row_meta_set(coulomb_sync *sync, coulomb_key key, const void *value,
                              size_t len)
{
    return sync_stage_key(sync, OP_ROW_META, key, value, len);
}

/* What the open transaction has for the key: true when it decides. */
static bool staged_meta(const struct sync_tx *s, coulomb_key key,
                        const struct blob **value)
{
    *value = NULL;
    for (size_t i = s->count; i-- > 0;) {
        const struct sync_op *op = &s->ops[i];
        const struct row_meta *node = op->extra > 0 ? s->extras[op->extra - 1] : NULL;
        coulomb_key k;

        if (op->row)
            k = row_key(op->row);
        else if (node)
            k = node->key;
        else
            continue;
        if (!key_equal(k, key) || (op->type == OP_UPDATE && !node))
            continue;
        *value = node ? &node->value : NULL;
        return true;
    }
    return s->truncate;
}

int coulomb_sync_row_meta_get(coulomb_sync *sync, coulomb_key key, const void **value,
                              size_t *len)
{
    const struct blob *b = NULL;
    const struct sync_tx *s;
    int code = sync_enter(sync);

    *value = NULL;
    *len = 0;
    if (code != COULOMB_OK)
        return code;
    s = sync_open(sync->coll);
    if (!s || !staged_meta(s, key, &b)) {
        const struct row_meta *m =
            ktab_get(&sync->coll->metas, key, coll_hash(sync->coll, key));

        b = m ? &m->value : NULL;
    }
    if (b) {
        *value = b->ptr;
        *len = b->len;
    }
    return COULOMB_OK;
}

static struct sync_meta *meta_find(const struct list *l, const char *name)
{
    for (struct list *at = l->prev; at != l; at = at->prev) {
        struct sync_meta *m = LIST_ENTRY(at, struct sync_meta, link);

        if (strcmp(m->name.ptr, name) == 0)
            return m;
    }
    return NULL;
}

int sync_tx_meta(struct coulomb_collection *coll, struct sync_tx *s, const char *name,
                 const void *value, size_t len)
{
    struct heap *h = coll->heap;
    struct sync_meta *m = heap_zalloc(h, sizeof(*m));

    if (!m)
        return client_no_memory(coll->client);
    if (blob_set(h, &m->name, name, strlen(name)) != COULOMB_OK ||
        blob_set(h, &m->value, value, len) != COULOMB_OK) {
        blob_fini(h, &m->name);
        heap_free(h, m, sizeof(*m));
        return client_no_memory(coll->client);
    }
    list_push(&s->meta, &m->link);
    return COULOMB_OK;
}

int coulomb_sync_meta_set(coulomb_sync *sync, const char *name, const void *value,
                          size_t len)
{
    struct sync_tx *s;
    int code = sync_for_write(sync, &s);

    return code == COULOMB_OK ? sync_tx_meta(sync->coll, s, name, value, len) : code;
}

int coulomb_sync_meta_get(coulomb_sync *sync, const char *name, const void **value,
                          size_t *len)
{
    const struct sync_meta *m = NULL;
    const struct sync_tx *s;
    int code = sync_enter(sync);

    *value = NULL;
    *len = 0;
    if (code != COULOMB_OK)
        return code;
    s = sync_open(sync->coll);
    if (s)
        m = meta_find(&s->meta, name);
    if (!m)
        m = meta_find(&sync->coll->meta, name);
    if (m) {
        *value = m->value.ptr;
        *len = m->value.len;
    }
    return COULOMB_OK;
}

/* What the transaction (NULL: none) has staged under the next name; NULL: nothing. */
static const struct sync_meta *staged_next(const struct sync_tx *s, const char *after)
{
    const struct sync_meta *next = NULL;

    for (struct list *at = s ? s->meta.next : NULL; s && at != &s->meta; at = at->next) {
        const struct sync_meta *m = LIST_ENTRY(at, struct sync_meta, link);

        if ((!after || strcmp(m->name.ptr, after) > 0) &&
            (!next || strcmp(m->name.ptr, next->name.ptr) <= 0))
            next = m; /* of equal ones the last */
    }
    return next;
}

int coulomb_sync_meta_each(coulomb_sync *sync, const char *prefix,
                           int (*fn)(const char *name, const void *value, size_t len,
                                     void *arg),
                           void *arg)
{
    const struct sync_tx *s;
    const struct sync_meta *staged;
    struct list *at;
    int code = sync_enter(sync);

    if (code != COULOMB_OK)
        return code;
    s = sync_open(sync->coll);
    at = sync->coll->meta.next;
    staged = staged_next(s, NULL);
    sync->client->locked++;
    while (code == 0 && (staged || at != &sync->coll->meta)) {
        const struct sync_meta *m = LIST_ENTRY(at, struct sync_meta, link);
        int order = at == &sync->coll->meta ? -1 : 1;

        if (staged && order > 0)
            order = strcmp(staged->name.ptr, m->name.ptr);
        if (order >= 0)
            at = at->next;
        if (order <= 0) {
            m = staged;
            staged = staged_next(s, m->name.ptr);
        }
        if (m->value.ptr && strncmp(m->name.ptr, prefix, strlen(prefix)) == 0)
            code = fn(m->name.ptr, m->value.ptr, m->value.len, arg);
    }
    sync->client->locked--;
    return code;
}

/* --- What adapters hand back ----------------------------------------------------------------------- */

int coulomb_blob_set(coulomb_blob *out, const void *bytes, size_t len)
{
    return blob_set(out->heap, &out->blob, bytes ? bytes : "", bytes ? len : 0);
}

static int asked(struct coulomb_collection *coll, struct coulomb_blob *b, int code,
                 const char *what)
{
    coulomb_client *c = coll->client;

    c->locked--;
    if (code == COULOMB_OK)
        return COULOMB_OK;
    blob_fini(b->heap, &b->blob);
    code = code < 0 ? code : COULOMB_E_FAILED;
    return client_fail(c, code, "%s of the adapter of %s: %s", what, coll->id,
                       coulomb_error_text(code));
}

int adapter_insert_meta(struct coulomb_collection *coll, struct blob *out)
{
    struct coulomb_blob b = {coll->heap, {NULL, 0}};
    int code;

    *out = b.blob;
    if (!coll->adapter.insert_meta)
        return COULOMB_OK;
    coll->client->locked++;
    code = asked(coll, &b, coll->adapter.insert_meta(&b, coll->options.adapter_arg),
                 "insert_meta");
    *out = b.blob;
    return code;
}

static int export_meta(struct coulomb_collection *coll, struct coulomb_blob *out)
{
    *out = (struct coulomb_blob){coll->heap, {NULL, 0}};
    if (!coll->adapter.export_meta)
        return COULOMB_OK;
    coll->client->locked++;
    return asked(coll, out, coll->adapter.export_meta(out, coll->options.adapter_arg),
                 "export_meta");
}

int coulomb_collection_export_meta(coulomb_collection *coll, const void **meta,
                                   size_t *len)
{
    struct coulomb_blob out;
    int code = client_enter(coll->client);

    *meta = NULL;
    *len = 0;
    if (code == COULOMB_OK)
        code = export_meta(coll, &out);
    if (code != COULOMB_OK)
        return code;
    blob_fini(coll->heap, &coll->exported);
    coll->exported = out.blob;
    *meta = out.blob.ptr;
    *len = out.blob.len;
    return COULOMB_OK;
}

/* What is to be imported: incoming, or what the adapter makes of it and what it has. */
static int merge_meta(struct coulomb_collection *coll, const void *meta, size_t len,
                      struct coulomb_blob *out)
{
    struct coulomb_blob current;
    int code = export_meta(coll, &current);

    *out = (struct coulomb_blob){coll->heap, {NULL, 0}};
    if (code != COULOMB_OK)
        return code;
    if (current.blob.ptr && coll->adapter.merge_meta) {
        coll->client->locked++;
        code = asked(coll, out,
                     coll->adapter.merge_meta(current.blob.ptr, current.blob.len, meta,
                                              len, out, coll->options.adapter_arg),
                     "merge_meta");
    } else if (blob_set(coll->heap, &out->blob, meta, len) != COULOMB_OK) {
        code = client_no_memory(coll->client);
    }
    blob_fini(coll->heap, &current.blob);
    return code;
}

int coulomb_collection_import_meta(coulomb_collection *coll, const void *meta, size_t len)
{
    struct coulomb_blob merged;
    int code = client_enter(coll->client);

    if (code == COULOMB_OK && !coll->adapter.import_meta)
        code = client_fail(coll->client, COULOMB_E_COLLECTION_OPERATION,
                           "the adapter of %s imports no metadata", coll->id);
    if (code == COULOMB_OK && !meta)
        code =
            client_fail(coll->client, COULOMB_E_ARGUMENT, "there is nothing to import");
    if (code == COULOMB_OK)
        code = merge_meta(coll, meta, len, &merged);
    if (code != COULOMB_OK)
        return code;
    blob_fini(coll->heap, &coll->exported);
    coll->client->locked++;
    code = coll->adapter.import_meta(merged.blob.ptr, merged.blob.len,
                                     coll->options.adapter_arg);
    code = asked(coll, &merged, code, "import_meta");
    blob_fini(coll->heap, &merged.blob);
    return code;
}
