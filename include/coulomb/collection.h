/* Collections: rows under keys, reads, subscriptions, indexes, lifecycle. */
#ifndef COULOMB_COLLECTION_H
#define COULOMB_COLLECTION_H

#include "coulomb/sync.h"
#include "coulomb/value.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct coulomb_column {
    const char *name;
    coulomb_type type;
    coulomb_type element; /* of arrays */
} coulomb_column;

#define COULOMB_COLUMNS_MAX 1600

/* Functional arguments: they look at what they get and call nothing of the client.
 * The key of a row (its text is copied), COULOMB_KEY_NONE for none. */
typedef coulomb_key (*coulomb_key_fn)(const coulomb_row *row, void *arg);
/* Order of rows: negative, 0 (then the keys decide) or positive. */
typedef int (*coulomb_compare_fn)(const coulomb_row *a, const coulomb_row *b, void *arg);
/* 1: the row is wanted. */
typedef int (*coulomb_where_fn)(const coulomb_row *row, void *arg);
/* Checks a row about to be inserted or updated, and may change the draft (defaults, other
 * forms). 0: fine; else it is not valid, and the reasons are in `issues`: add one with
 * coulomb_issue(). */
typedef int (*coulomb_validate_fn)(coulomb_draft *draft, coulomb_issues *issues,
                                   void *arg);

/* Persists a transaction: 0 when done, a negative code when it failed, or COULOMB_PENDING and
 * later coulomb_complete(). Called in coulomb_poll(). collection is NULL for a transaction's
 * own function. */
typedef int (*coulomb_persist_fn)(coulomb_tx *tx, coulomb_collection *collection,
                                  coulomb_completion *done, void *arg);

typedef enum coulomb_status {
    COULOMB_IDLE,
    COULOMB_LOADING,
    COULOMB_READY,
    COULOMB_ERROR,
    COULOMB_CLEANED_UP
} coulomb_status;

#define COULOMB_NEVER ((int64_t)-1)

typedef struct coulomb_collection_options {
    size_t size;
    const char *id; /* NULL: one is made */
    const coulomb_column *columns;
    size_t column_count;
    const char *key_column; /* int64, text or uuid; or get_key */
    coulomb_key_fn get_key;
    void *get_key_arg;
    const coulomb_adapter *adapter; /* copied */
    void *adapter_arg;
    int full_updates;   /* sync's updates replace the row; else absent columns stay */
    int on_demand;      /* rows come by load_subset, which the adapter then needs; else it
                           is not called */
    int start_sync;     /* at once, not with the first subscription or preload */
    int auto_index;     /* make indexes for what subscriptions and snapshots ask for */
    int64_t gc_time_ms; /* idle time before clean-up; 0: 300,000; COULOMB_NEVER */
    coulomb_validate_fn validate;
    void *validate_arg;
    coulomb_compare_fn compare; /* order of reads; NULL: by key */
    void *compare_arg;
    coulomb_persist_fn on_insert;
    coulomb_persist_fn on_update;
    coulomb_persist_fn on_delete;
    void *handler_arg;
    int gate_keys; /* of direct operations: see coulomb_tx_options */
} coulomb_collection_options;

/* The caller releases the handle; the collection lives until its client closes.
 * COULOMB_E_COLLECTION_REQUIRES_CONFIG, …_REQUIRES_SYNC, …_CONFIG, COULOMB_E_GET_KEY_REQUIRED. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_collection_new(coulomb_client *c, const coulomb_collection_options *options,
                       coulomb_collection **out);
COULOMB_API coulomb_collection *coulomb_collection_retain(coulomb_collection *coll);
/* With the last handle the collection is cleaned up and forgotten, once no transaction needs it. */
COULOMB_API void coulomb_collection_release(coulomb_collection *coll);
COULOMB_API const char *coulomb_collection_id(const coulomb_collection *coll);
COULOMB_API coulomb_client *coulomb_collection_client(const coulomb_collection *coll);
/* The number of a column, or -1. */
COULOMB_API int coulomb_collection_column(const coulomb_collection *coll,
                                          const char *name);

/* --- Lifecycle ------------------------------------------------------------------------- */

COULOMB_API coulomb_status coulomb_collection_status(const coulomb_collection *coll);
COULOMB_API const char *coulomb_status_name(coulomb_status status);
/* Why it is in COULOMB_ERROR; code 0 when it is not, or nobody said. */
COULOMB_API const coulomb_error *coulomb_collection_error(const coulomb_collection *coll);
/* Starts sync when that has not begun. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_collection_start(coulomb_collection *coll);
/* Called once: with COULOMB_OK when the collection is ready or is cleaned up, else with what
 * stopped it (error->code, COULOMB_E_COLLECTION_IS_IN_ERROR when nobody said). Starts sync. */
typedef void (*coulomb_ready_fn)(coulomb_collection *coll, const coulomb_error *error,
                                 void *arg);
COULOMB_API COULOMB_MUST_CHECK int coulomb_collection_preload(coulomb_collection *coll,
                                                              coulomb_ready_fn fn,
                                                              void *arg,
                                                              coulomb_token *token);
/* Stops sync and drops all rows. Subscriptions stay, without further events until sync is
 * started again. COULOMB_E_SYNC_CLEANUP when the adapter's stop failed; all is cleaned
 * nevertheless. */
COULOMB_API int coulomb_collection_cleanup(coulomb_collection *coll);

typedef enum coulomb_event_type {
    COULOMB_EVENT_STATUS,         /* .status, .previous_status */
    COULOMB_EVENT_SUBSCRIBERS,    /* .count */
    COULOMB_EVENT_LOADING_SUBSET, /* .count: 1 it begins, 0 it ends */
    COULOMB_EVENT_TRUNCATE,
    COULOMB_EVENT_INDEX_ADDED, /* .index */
    COULOMB_EVENT_INDEX_REMOVED,
    COULOMB_EVENT_TIMEOUT /* only from coulomb_collection_wait */
} coulomb_event_type;

typedef struct coulomb_event {
    coulomb_event_type type;
    coulomb_status status;
    coulomb_status previous_status;
    size_t count;
    const char *index; /* its signature, cut to 95 bytes */
} coulomb_event;

typedef void (*coulomb_event_fn)(coulomb_collection *coll, const coulomb_event *event,
                                 void *arg);
COULOMB_API COULOMB_MUST_CHECK int coulomb_collection_on(coulomb_collection *coll,
                                                         coulomb_event_type type,
                                                         coulomb_event_fn fn, void *arg,
                                                         coulomb_token *token);
/* The next event of the type, once; after timeout_ms (COULOMB_NEVER: no end) one of
 * COULOMB_EVENT_TIMEOUT. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_collection_wait(coulomb_collection *coll,
                                                           coulomb_event_type type,
                                                           int64_t timeout_ms,
                                                           coulomb_event_fn fn, void *arg,
                                                           coulomb_token *token);

/* --- Reads ----------------------------------------------------------------------------- */

/* What is visible: the synced rows with the optimistic changes over them. */
COULOMB_API const coulomb_row *coulomb_get(const coulomb_collection *coll,
                                           coulomb_key key);
COULOMB_API int coulomb_has(const coulomb_collection *coll, coulomb_key key);
COULOMB_API size_t coulomb_size(const coulomb_collection *coll);
/* Counts the batches of changes so far. */
COULOMB_API uint64_t coulomb_revision(const coulomb_collection *coll);
/* Every row in order, until fn returns non-zero, which is then returned; else 0 or a code. fn may
 * not call the client. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_each(coulomb_collection *coll, int (*fn)(const coulomb_row *row, void *arg),
             void *arg);

/* Virtual properties of a row. */
typedef struct coulomb_meta {
    int synced; /* no optimistic change lies over it */
    int local;  /* its value comes from here, not from elsewhere */
} coulomb_meta;

/* 1, or 0 when no row is visible under the key. */
COULOMB_API int coulomb_row_meta(const coulomb_collection *coll, coulomb_key key,
                                 coulomb_meta *meta);

/* --- Conditions ------------------------------------------------------------------------ */

typedef enum coulomb_op {
    COULOMB_EQ,
    COULOMB_GT,
    COULOMB_GTE,
    COULOMB_LT,
    COULOMB_LTE,
    COULOMB_IS_NULL, /* null, not absent */
    COULOMB_IS_ABSENT,
    COULOMB_CONTAINS /* an array has an element that is equal; a null one is unknown */
} coulomb_op;

/* Three-valued: a comparison with null or absent on either side is unknown, and only what is true
 * is wanted. Values of different types are unequal; arrays are compared as by
 * coulomb_value_compare(). The columns "$synced" and "$origin" ("local" or "remote") are known. Makers
 * copy values and take their operands: an operand may be NULL (a maker failed), and the result then
 * is NULL too, so that one check at the end will do. */
COULOMB_API coulomb_expr *coulomb_where(coulomb_collection *coll, const char *column,
                                        coulomb_op op, coulomb_value value);
COULOMB_API coulomb_expr *coulomb_in(coulomb_collection *coll, const char *column,
                                     const coulomb_value *values, size_t count);
/* The same of what lies at a JSON pointer (RFC 6901) inside a json column, as coulomb_json_get() gives
 * it: strings are text, numbers numeric, what is not there is absent. */
COULOMB_API coulomb_expr *coulomb_where_json(coulomb_collection *coll, const char *column,
                                             const char *pointer, coulomb_op op,
                                             coulomb_value value);
COULOMB_API coulomb_expr *coulomb_in_json(coulomb_collection *coll, const char *column,
                                          const char *pointer,
                                          const coulomb_value *values, size_t count);
COULOMB_API coulomb_expr *coulomb_and(coulomb_expr *a, coulomb_expr *b);
COULOMB_API coulomb_expr *coulomb_or(coulomb_expr *a, coulomb_expr *b);
COULOMB_API coulomb_expr *coulomb_not(coulomb_expr *a);
COULOMB_API void coulomb_expr_free(coulomb_expr *e); /* NULL is fine */

/* Reading one, as an adapter does that makes a server's condition of it: its parts in postfix order,
 * operands before their operator. */
typedef enum coulomb_node_type {
    COULOMB_NODE_COMPARE, /* op of the column and one value; IS_NULL and IS_ABSENT have none */
    COULOMB_NODE_IN,      /* the column is one of count values; none: false */
    COULOMB_NODE_AND, /* of the two parts before */
    COULOMB_NODE_OR,
    COULOMB_NODE_NOT /* of the part before */
} coulomb_node_type;

typedef struct coulomb_node {
    coulomb_node_type type;
    coulomb_op op;
    const char *column;  /* NULL of and, or, not */
    const char *pointer; /* into the json column; NULL: the column itself */
    const coulomb_value *values;
    size_t count;
} coulomb_node;

COULOMB_API size_t coulomb_expr_count(const coulomb_expr *e);
/* i below coulomb_expr_count(); borrowed from the expression. */
COULOMB_API coulomb_node coulomb_expr_node(const coulomb_expr *e, size_t i);

/* --- Snapshots ------------------------------------------------------------------------- */

typedef struct coulomb_order {
    const char *column;
    int descending;
    int nulls_last; /* null and absent come first otherwise, in both directions */
} coulomb_order;

typedef struct coulomb_snapshot_options {
    size_t size;
    const coulomb_expr *where;
    coulomb_where_fn where_fn; /* or this */
    void *where_arg;
    const coulomb_order *order; /* then by key; NULL: the collection's order */
    size_t order_count;
    size_t limit; /* 0: none; needs an order (COULOMB_E_LIMIT_NEEDS_ORDER) */
    size_t offset;
    int optimized_only; /* COULOMB_E_NO_INDEX rather than look at every row */
} coulomb_snapshot_options;

/* The rows that are visible now, retained. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_snapshot(coulomb_collection *coll, const coulomb_snapshot_options *options,
                 coulomb_result **out);
COULOMB_API size_t coulomb_result_count(const coulomb_result *result);
COULOMB_API const coulomb_row *coulomb_result_row(const coulomb_result *result, size_t i);
/* 1 when an index answered it. */
COULOMB_API int coulomb_result_indexed(const coulomb_result *result);
COULOMB_API void coulomb_result_free(coulomb_result *result); /* NULL is fine */

/* --- Indexes --------------------------------------------------------------------------- */

typedef enum coulomb_index_type {
    COULOMB_INDEX_ORDERED, /* equal, ranges, order: O(log n) */
    COULOMB_INDEX_HASH     /* equal: O(1) */
} coulomb_index_type;

/* Over the visible rows, kept up to date. The index belongs to the collection. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_index_new(coulomb_collection *coll,
                                                     const char *column,
                                                     coulomb_index_type type,
                                                     coulomb_index **out);
COULOMB_API void coulomb_index_remove(coulomb_index *index);
/* Of what lies at a JSON pointer inside a json column: for coulomb_where_json(). */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_index_new_json(coulomb_collection *coll, const char *column, const char *pointer,
                       coulomb_index_type type, coulomb_index **out);
/* "column:ordered", "column/a/b:hash"; the same in every run. */
COULOMB_API const char *coulomb_index_signature(const coulomb_index *index);
COULOMB_API size_t coulomb_index_count(const coulomb_collection *coll);
COULOMB_API coulomb_index *coulomb_index_at(const coulomb_collection *coll, size_t i);

/* --- Subscriptions --------------------------------------------------------------------- */

typedef enum coulomb_change_type {
    COULOMB_INSERT,
    COULOMB_UPDATE,
    COULOMB_DELETE
} coulomb_change_type;

typedef struct coulomb_change {
    coulomb_change_type type;
    coulomb_key key;
    const coulomb_row *row;      /* of a delete the row that goes */
    const coulomb_row *previous; /* of an update */
    coulomb_meta meta;           /* of row */
    coulomb_meta previous_meta;  /* of an update */
} coulomb_change;

/* One batch: all that one call, commit or sync transaction changed, or what answers a request. An
 * empty one says that the collection became ready, or that a request found nothing that was not sent.
 * Reads inside show the collection as it is now, which may be further. */
typedef void (*coulomb_changes_fn)(coulomb_collection *coll,
                                   const coulomb_change *changes, size_t count,
                                   void *arg);

typedef enum coulomb_initial {
    COULOMB_INITIAL_NONE, /* only what changes from now on; a row not sent before comes
                                  as an insert first, a delete of one does not come */
    COULOMB_INITIAL_ROWS, /* first a batch with the rows that are there */
    COULOMB_INITIAL_UNFILTERED /* no rows first, and changes exactly as they are */
} coulomb_initial;

typedef struct coulomb_sub_options {
    size_t size;
    coulomb_initial initial;
    const coulomb_expr *where; /* copied */
    coulomb_where_fn where_fn; /* or this: COULOMB_E_BOTH_WHERE */
    void *where_arg;
    const coulomb_order *order; /* of the initial rows; copied */
    size_t order_count;
    size_t limit; /* of the initial rows; needs an order */
    /* A subset that it asked for is loading (1), or all are there or failed (0). */
    void (*on_loading)(coulomb_sub *sub, int loading, void *arg);
} coulomb_sub_options;

/* Starts sync. An update that enters the condition comes as an insert, one that leaves it as a
 * delete with the row as it was. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_subscribe(coulomb_collection *coll,
                                                     const coulomb_sub_options *options,
                                                     coulomb_changes_fn fn, void *arg,
                                                     coulomb_sub **out);
/* No call follows, also of what was queued. Frees the handle. NULL is fine. */
COULOMB_API void coulomb_unsubscribe(coulomb_sub *sub);
/* 1 from asking for a subset until it is there. */
COULOMB_API int coulomb_sub_loading(const coulomb_sub *sub);
/* Why a subset could not be loaded, the last time one could not; code 0: that never happened. */
COULOMB_API const coulomb_error *coulomb_sub_error(const coulomb_sub *sub);

/* --- Asking for more ------------------------------------------------------------------- */

/* A subscription that began with COULOMB_INITIAL_NONE, or _ROWS and a limit, may ask for more rows
 * (another: COULOMB_E_COLLECTION_OPERATION). What is there and was not sent comes in the next poll,
 * as one batch of inserts. An on-demand collection's adapter is asked for the same, and what it loads
 * comes like every change. The token ends a request with coulomb_off(): the adapter is told to unload
 * it, rows that were sent stay. All end with their subscription. */
typedef struct coulomb_request_options {
    size_t size;
    const coulomb_expr *where; /* besides the subscription's; copied */
    const coulomb_order *order;
    size_t order_count;
    size_t limit; /* of the rows that are there, sent or not; needs an order */
} coulomb_request_options;

COULOMB_API COULOMB_MUST_CHECK int
coulomb_sub_request(coulomb_sub *sub, const coulomb_request_options *options,
                    coulomb_token *token);

typedef struct coulomb_page_options {
    size_t size;
    const coulomb_order *order; /* its first column needs an ordered index */
    size_t order_count;
    size_t limit; /* of rows behind the cursor; not 0 */
    /* The cursor: values of the order's first columns, of the last row that is known, say. NULL:
     * none, the page begins at the beginning. */
    const coulomb_value *from;
    size_t from_count; /* at most order_count */
    int has_offset;
    size_t
        offset; /* for the adapter, if has_offset; else the number of rows sent so far */
} coulomb_page_options;

/* The next page in an order. Of the rows not yet sent first come all with the cursor's first value
 * (equal ones may lie on both sides of a page's edge), whatever the limit, then up to limit that lie
 * behind them. After a truncate counting begins anew. COULOMB_E_NO_INDEX. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_sub_page(coulomb_sub *sub,
                                                    const coulomb_page_options *options,
                                                    coulomb_token *token);

COULOMB_API size_t coulomb_subscriber_count(const coulomb_collection *coll);
/* 1 while any subset is loading. */
COULOMB_API int coulomb_loading_subset(const coulomb_collection *coll);

#ifdef __cplusplus
}
#endif

#endif
