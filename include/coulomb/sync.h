/* What feeds a collection: the adapter that the app (or a part of the library) writes, and the
 * calls by which it hands over rows. */
#ifndef COULOMB_SYNC_H
#define COULOMB_SYNC_H

#include "coulomb/value.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a subscription wants loaded. The same struct comes to unload_subset. */
typedef struct coulomb_subset {
    const coulomb_expr *where;
    const struct coulomb_order *order;
    size_t order_count;
    size_t limit; /* 0: all */
} coulomb_subset;

/* Called in coulomb_poll() (stop: also in clean-up and close). */
typedef struct coulomb_adapter {
    /* A session begins. Rows may be handed over inside or at any time later. Non-zero puts the
     * collection into error. */
    int (*start)(coulomb_sync *sync, void *arg);
    /* It ends: every later call with this sync is COULOMB_E_STALE_SESSION. May be NULL. Non-zero:
     * COULOMB_E_SYNC_CLEANUP. */
    int (*stop)(coulomb_sync *sync, void *arg);
    /* 0: it is there; COULOMB_PENDING: coulomb_complete() tells; else a code. May be NULL. */
    int (*load_subset)(coulomb_sync *sync, const coulomb_subset *subset,
                       coulomb_completion *done, void *arg);
    void (*unload_subset)(coulomb_sync *sync, const coulomb_subset *subset, void *arg);
} coulomb_adapter;

COULOMB_API coulomb_sync *coulomb_sync_retain(coulomb_sync *sync);
COULOMB_API void coulomb_sync_release(coulomb_sync *sync);
COULOMB_API coulomb_collection *coulomb_sync_collection(const coulomb_sync *sync);

enum coulomb_sync_flags {
    COULOMB_SYNC_IMMEDIATE = 1 /* seen at once, though a transaction is being persisted */
};

/* A sync transaction: begin, any of write, truncate and metadata, commit. They go to the last one
 * begun. It is seen whole, once it is committed and no transaction of this collection is being
 * persisted; until then it waits. */
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
/* Every committed name that begins with prefix, in order of names, until fn returns non-zero. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_sync_meta_each(
    coulomb_sync *sync, const char *prefix,
    int (*fn)(const char *name, const void *value, size_t len, void *arg), void *arg);

#ifdef __cplusplus
}
#endif

#endif
