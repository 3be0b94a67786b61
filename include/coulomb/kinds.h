/* Collections that need no adapter of the app's: local ones, and those that a function polls. */
#ifndef COULOMB_KINDS_H
#define COULOMB_KINDS_H

#include "coulomb/tx.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In memory only. Ready at once, never collected. Handlers are optional and run first; then the
 * mutations are rows. Of options, adapter and what concerns sync are not looked at. initial (may
 * be NULL) are rows to begin with. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_local_new(coulomb_client *c, const coulomb_collection_options *options,
                  const coulomb_item *initial, size_t count, coulomb_collection **out);

/* The same, kept in a file that is replaced as a whole when rows change: a JSON object of
 * "s:key" or "n:key" to {"versionKey": …, "data": {…}}. Read when the collection is made: a
 * file that is not there or corrupt is an empty collection (a warning is logged; the first
 * change replaces it). A write that fails fails the transaction. id NULL:
 * "local-collection:<path>". COULOMB_E_STORAGE_KEY_REQUIRED. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_local_file_new(coulomb_client *c, const coulomb_collection_options *options,
                       const char *path, coulomb_collection **out);
/* Reads the file again, after another process changed it; rows whose versionKey is the same stay.
 * The app calls this when it learns of a change. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_local_file_reload(coulomb_collection *coll);
/* Removes the file; the rows stay. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_local_file_clear(coulomb_collection *coll);
/* The file's size in bytes. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_local_file_size(coulomb_collection *coll,
                                                           size_t *bytes);

/* For the function that persists an explicit transaction: makes its mutations of this collection
 * rows, at once. Others it leaves alone. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_local_accept(coulomb_collection *coll,
                                                        coulomb_tx *tx);

/* --- Polled ---------------------------------------------------------------------------- */

/* Rows that a fetch brings. */
typedef struct coulomb_fetch coulomb_fetch;
/* One row, in the columns' order. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_fetch_row(coulomb_fetch *fetch,
                                                     const coulomb_value *values);
/* All rows were given (0), or they could not be got. The fetch is gone afterwards. */
COULOMB_API void coulomb_fetch_done(coulomb_fetch *fetch, int code, const char *message);

/* Gets all rows: now or later, coulomb_fetch_row for each and coulomb_fetch_done. Called in
 * coulomb_poll(). */
typedef void (*coulomb_fetch_fn)(coulomb_fetch *fetch, void *arg);

typedef struct coulomb_polled_options {
    size_t size;
    coulomb_collection_options collection; /* adapter and sync are not looked at */
    coulomb_fetch_fn fetch;                /* COULOMB_E_QUERY_FN_REQUIRED without */
    void *fetch_arg;
    int64_t
        interval_ms; /* from one answer to the next question, while somebody subscribes;
                            0: only when asked */
    int retries;     /* of a failed fetch, 1 s apart doubling to 30 s */
    int no_refetch;  /* handlers don't cause one */
} coulomb_polled_options;

/* What a fetch brings replaces what the one before brought, row by row: equal ones are left alone.
 * Ready after the first answer. A failure before it is the collection's error, one after it leaves
 * the rows. When a handler succeeded the rows are fetched before its transaction settles. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_polled_new(coulomb_client *c, const coulomb_polled_options *options,
                   coulomb_collection **out);
/* Asks anew; while a fetch runs another one follows it. Nothing before sync has started. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_polled_refetch(coulomb_collection *coll);
/* Failures in a row, and the last one (NULL when the last fetch was fine). */
COULOMB_API size_t coulomb_polled_errors(const coulomb_collection *coll,
                                         const coulomb_error **last);
/* While set, answers are dropped and one fetch follows at the end. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_polled_defer(coulomb_collection *coll,
                                                        int defer);

typedef enum coulomb_write_type {
    COULOMB_WRITE_INSERT,
    COULOMB_WRITE_UPDATE, /* absent values stay as they are */
    COULOMB_WRITE_UPSERT,
    COULOMB_WRITE_DELETE
} coulomb_write_type;

typedef struct coulomb_write {
    coulomb_write_type type;
    const coulomb_value *values; /* in the columns' order */
    coulomb_key key;             /* of a delete */
} coulomb_write;

/* Writes to the synced rows directly, at once and as a whole: what the server answered, say.
 * COULOMB_E_SYNC_NOT_INITIALIZED, COULOMB_E_DUPLICATE_KEY_IN_BATCH, COULOMB_E_DUPLICATE_KEY,
 * COULOMB_E_UPDATE_ITEM_NOT_FOUND, COULOMB_E_DELETE_ITEM_NOT_FOUND. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_polled_write(coulomb_collection *coll, const coulomb_write *writes, size_t count);

#ifdef __cplusplus
}
#endif

#endif
