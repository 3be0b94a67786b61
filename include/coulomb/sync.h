/* What feeds a collection: the adapter that the app (or a part of the library) writes, and the
 * calls by which it hands over rows. */
#ifndef COULOMB_SYNC_H
#define COULOMB_SYNC_H

#include "coulomb/value.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where a page begins: two conditions on the columns of its order, without the subset's own. A
 * server that continues at a value loads every row of (where AND where_current), whatever the limit,
 * since equal ones may lie on both sides of the page's edge, and then limit rows of (where AND
 * where_from) in order. A server that counts rows uses the subset's offset and leaves this alone. */
typedef struct coulomb_cursor {
    const coulomb_expr *where_from; /* rows behind the cursor */
    const coulomb_expr
        *where_current; /* rows with its value in the order's first column */
    coulomb_key
        last_key; /* of the last row of the page before; COULOMB_KEY_NONE: no such page */
} coulomb_cursor;

/* What a subscription wants loaded. It and all that it points to stay as they are, at the same
 * address, until unload_subset or stop returns; the same struct comes to unload_subset. Conditions
 * are read with coulomb_expr_node(). */
typedef struct coulomb_subset {
    /* Rows beyond these do no harm. Without what no server knows (the virtual columns). NULL: all. */
    const coulomb_expr *where;
    const struct coulomb_order *order;
    size_t order_count;
    size_t limit;  /* 0: all */
    size_t offset; /* rows in the order before the page; 0 for what is no page */
    const coulomb_cursor *cursor; /* NULL: from the beginning */
} coulomb_subset;

/* Called in coulomb_poll(); stop also in clean-up and close, unload_subset also in
 * coulomb_unsubscribe() and coulomb_off(). Made by coulomb_options_init(), or with
 * .size = sizeof(coulomb_adapter). */
typedef struct coulomb_adapter {
    size_t size;
    /* A session begins. Rows may be handed over inside or at any time later. Non-zero puts the
     * collection into error. */
    int (*start)(coulomb_sync *sync, void *arg);
    /* It ends: every later call with this sync is COULOMB_E_STALE_SESSION. May be NULL. Non-zero:
     * COULOMB_E_SYNC_CLEANUP. Subsets are gone with it, without unload_subset; a load that was not
     * answered is to be answered still. */
    int (*stop)(coulomb_sync *sync, void *arg);
    /* Of on-demand collections. 0: the rows were committed; COULOMB_PENDING: coulomb_complete()
     * tells when they are; else a code. Asked again, with the same struct, after a truncate and in a
     * new session. */
    int (*load_subset)(coulomb_sync *sync, const coulomb_subset *subset,
                       coulomb_completion *done, void *arg);
    /* Nobody wants it any more, perhaps before the load is answered, which it has to be still. Rows
     * may stay. May be NULL. */
    void (*unload_subset)(coulomb_sync *sync, const coulomb_subset *subset, void *arg);

    /* The rest are functional arguments: they call nothing but coulomb_blob_set(), return 0 or a
     * negative code, and may be NULL. */
    /* Metadata for rows that are inserted here: the handler finds it in the mutation's
     * sync_metadata, where updates and deletes have that of their row. Once for each call. */
    int (*insert_meta)(coulomb_blob *out, void *arg);
    /* How far sync is, in the adapter's own form, for an adapter elsewhere or after a restart to go
     * on from; nothing set: there is nothing yet. Also between sessions. */
    int (*export_meta)(coulomb_blob *out, void *arg);
    /* What was exported is to be used from the next session on; it may be nonsense. */
    int (*import_meta)(const void *meta, size_t len, void *arg);
    /* One out of two; without it what is imported takes the place of what is there. */
    int (*merge_meta)(const void *current, size_t current_len, const void *incoming,
                      size_t incoming_len, coulomb_blob *out, void *arg);
} coulomb_adapter;

/* The bytes that a function hands back; copied. The last ones set count. COULOMB_E_MEMORY. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_blob_set(coulomb_blob *out, const void *bytes,
                                                    size_t len);

COULOMB_API coulomb_sync *coulomb_sync_retain(coulomb_sync *sync);
COULOMB_API void coulomb_sync_release(coulomb_sync *sync);
COULOMB_API coulomb_collection *coulomb_sync_collection(const coulomb_sync *sync);

enum coulomb_sync_flags {
    COULOMB_SYNC_IMMEDIATE = 1 /* seen at once, though a transaction is being persisted */
};

/* A sync transaction: begin, any of write, truncate and metadata, commit. They go to the last one
 * begun. It is seen whole, once it is committed and no transaction of this collection is being
 * persisted (or, of those with gate_keys, none whose rows it or one before it names); until then it
 * waits. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_begin(coulomb_sync *sync, unsigned flags);
/* A row as it is now: values has one for each column, in order. An insert under a key that is there
 * is an update when it is the same row, else COULOMB_E_DUPLICATE_KEY_SYNC. An update leaves absent
 * columns as they are, or replaces the row (full_updates); of a key that is not there it is an
 * insert. metadata (NULL, len 0: none) is kept with the row: an insert without clears it, an update
 * without keeps it. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_insert(coulomb_sync *sync,
                                                       const coulomb_value *values,
                                                       const void *metadata, size_t len);
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_update(coulomb_sync *sync,
                                                       const coulomb_value *values,
                                                       const void *metadata, size_t len);
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_delete(coulomb_sync *sync,
                                                       coulomb_key key);
/* All rows go; what this transaction wrote before goes, too. Optimistic changes stay. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_truncate(coulomb_sync *sync);
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_commit(coulomb_sync *sync);
/* From loading or error to ready. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_mark_ready(coulomb_sync *sync);
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_mark_error(coulomb_sync *sync, int code,
                                                           const char *message);

/* Metadata: bytes kept with a row or, under a name, with the collection. Setting needs an open sync
 * transaction and takes effect with it; value NULL removes. Reading sees what the open transaction
 * has set; *value is borrowed, NULL when there is none. Collection metadata survives a truncate,
 * row metadata does not. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_row_meta_set(coulomb_sync *sync,
                                                             coulomb_key key,
                                                             const void *value,
                                                             size_t len);
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_row_meta_get(coulomb_sync *sync,
                                                             coulomb_key key,
                                                             const void **value,
                                                             size_t *len);
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_meta_set(coulomb_sync *sync,
                                                         const char *name,
                                                         const void *value, size_t len);
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_meta_get(coulomb_sync *sync,
                                                         const char *name,
                                                         const void **value, size_t *len);
/* Every name that begins with prefix, in order of names, until fn returns non-zero, which is then
 * returned. fn calls nothing of the client. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_meta_each(
    coulomb_sync *sync, const char *prefix,
    int (*fn)(const char *name, const void *value, size_t len, void *arg), void *arg);

/* What the adapter exports: *meta is borrowed until the next export or import of the collection,
 * NULL when there is nothing. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_collection_export_meta(coulomb_collection *coll, const void **meta, size_t *len);
/* Gives the adapter what another one exported, merged with what it has itself.
 * COULOMB_E_COLLECTION_OPERATION when it takes none. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_collection_import_meta(coulomb_collection *coll, const void *meta, size_t len);

#ifdef __cplusplus
}
#endif

#endif
