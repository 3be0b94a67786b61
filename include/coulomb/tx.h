/* Mutations and transactions. */
#ifndef COULOMB_TX_H
#define COULOMB_TX_H

#include "coulomb/collection.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- Mutations ------------------------------------------------------------------------- */

typedef struct coulomb_mutate_options {
    size_t size;
    coulomb_tx *tx;     /* NULL: the ambient one, or one of its own, committed at once */
    int not_optimistic; /* nothing is seen until it comes back by sync */
    const void *metadata; /* bytes for the handler; copied */
    size_t metadata_len;
} coulomb_mutate_options;

typedef struct coulomb_field {
    const char *column;
    coulomb_value value;
} coulomb_field;

typedef struct coulomb_item {
    const coulomb_field *fields;
    size_t count;
} coulomb_item;

/* Changes a draft of one row: index counts the keys of the call. Non-zero ends the call with
 * nothing done, and is returned. It may call nothing but the functions of drafts. */
typedef int (*coulomb_update_fn)(coulomb_draft *draft, size_t index, void *arg);

/* All three: done or not done as a whole, seen at once. *tx (may be NULL) gets the transaction,
 * to release. Without a transaction the collection needs the handler (COULOMB_E_MISSING_…_HANDLER).
 * COULOMB_E_DUPLICATE_KEY, COULOMB_E_UPDATE_KEY_NOT_FOUND, COULOMB_E_DELETE_KEY_NOT_FOUND,
 * COULOMB_E_KEY_UPDATE, COULOMB_E_SCHEMA, COULOMB_E_UNDEFINED_KEY, COULOMB_E_INVALID_KEY …
 * An update that changes nothing gives a transaction that is completed and empty. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_insert(coulomb_collection *coll, const coulomb_field *fields, size_t count,
               const coulomb_mutate_options *options, coulomb_tx **tx);
COULOMB_API COULOMB_MUST_CHECK int
coulomb_insert_many(coulomb_collection *coll, const coulomb_item *items, size_t count,
                    const coulomb_mutate_options *options, coulomb_tx **tx);
COULOMB_API COULOMB_MUST_CHECK int
coulomb_update(coulomb_collection *coll, coulomb_key key, coulomb_update_fn fn, void *arg,
               const coulomb_mutate_options *options, coulomb_tx **tx);
COULOMB_API COULOMB_MUST_CHECK int
coulomb_update_many(coulomb_collection *coll, const coulomb_key *keys, size_t count,
                    coulomb_update_fn fn, void *arg,
                    const coulomb_mutate_options *options, coulomb_tx **tx);
/* An update that sets these fields. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_set(coulomb_collection *coll, coulomb_key key,
                                               const coulomb_field *fields, size_t count,
                                               const coulomb_mutate_options *options,
                                               coulomb_tx **tx);
COULOMB_API COULOMB_MUST_CHECK int coulomb_delete(coulomb_collection *coll,
                                                  coulomb_key key,
                                                  const coulomb_mutate_options *options,
                                                  coulomb_tx **tx);
COULOMB_API COULOMB_MUST_CHECK int
coulomb_delete_many(coulomb_collection *coll, const coulomb_key *keys, size_t count,
                    const coulomb_mutate_options *options, coulomb_tx **tx);

/* Where a mutation is on its way. */
typedef enum coulomb_mutation_state {
    COULOMB_MUTATION_LOCAL,        /* made, not committed */
    COULOMB_MUTATION_SENT,         /* its transaction is being persisted */
    COULOMB_MUTATION_ACKNOWLEDGED, /* persisted; not yet seen in sync */
    COULOMB_MUTATION_OBSERVED, /* persisted, and sync has brought its row since it was sent */
    COULOMB_MUTATION_REJECTED /* failed, or rolled back */
} coulomb_mutation_state;

typedef struct coulomb_mutation {
    uint64_t id; /* of this client */
    coulomb_change_type type;
    coulomb_collection *collection;
    coulomb_key key;
    const coulomb_row *original; /* NULL for an insert */
    const coulomb_row *modified; /* NULL for a delete */
    int optimistic;
    coulomb_mutation_state state;
    const void *metadata; /* as given; NULL when none */
    size_t metadata_len;
    const void *sync_metadata; /* the row's, when it was mutated */
    size_t sync_metadata_len;
    int64_t created_ms; /* the client's clock */
    int64_t updated_ms;
} coulomb_mutation;

/* --- Transactions ---------------------------------------------------------------------- */

typedef enum coulomb_tx_state {
    COULOMB_TX_PENDING,
    COULOMB_TX_PERSISTING,
    COULOMB_TX_COMPLETED,
    COULOMB_TX_FAILED
} coulomb_tx_state;

typedef struct coulomb_tx_options {
    size_t size;
    const char *id;             /* NULL: one is made */
    coulomb_persist_fn persist; /* COULOMB_E_MISSING_MUTATION_FUNCTION without */
    void *persist_arg;
    int no_autocommit;    /* coulomb_tx_mutate leaves it pending */
    const void *metadata; /* bytes for the handler; copied */
    size_t metadata_len;
    /* While it is being persisted, sync waits only from the first sync transaction on that names one
     * of its rows, and not in all of its collections: for what may take long, as an outbox does. Its
     * inserts have to keep their keys at the server: else both rows are seen. */
    int gate_keys;
} coulomb_tx_options;

COULOMB_API COULOMB_MUST_CHECK int
coulomb_tx_new(coulomb_client *c, const coulomb_tx_options *options, coulomb_tx **out);
COULOMB_API coulomb_tx *coulomb_tx_retain(coulomb_tx *tx);
/* A transaction that is not settled goes on without its handle. One that is pending stays seen
 * until the client closes: commit it or roll it back first. NULL is fine. */
COULOMB_API void coulomb_tx_release(coulomb_tx *tx);

/* Runs fn with tx as the ambient transaction of its client, which mutations inside join; they may
 * be nested. When fn returns 0, commits (unless no_autocommit). Else returns what fn returned, and
 * what was done stays and the transaction is pending. COULOMB_E_TX_NOT_PENDING_MUTATE. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_tx_mutate(coulomb_tx *tx, int (*fn)(coulomb_tx *tx, void *arg), void *arg);
/* The ambient transaction, or NULL. */
COULOMB_API coulomb_tx *coulomb_tx_active(const coulomb_client *c);
/* From now on it is being persisted: its function is called in the next poll; without mutations it
 * is completed at once. COULOMB_E_TX_NOT_PENDING_COMMIT. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_tx_commit(coulomb_tx *tx);
/* Fails it and every other pending one that mutated one of its rows.
 * COULOMB_E_TX_COMPLETED_ROLLBACK. A failed one is left as it is. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_tx_rollback(coulomb_tx *tx);

COULOMB_API coulomb_tx_state coulomb_tx_status(const coulomb_tx *tx);
COULOMB_API const char *coulomb_tx_state_name(coulomb_tx_state state);
COULOMB_API const char *coulomb_tx_id(const coulomb_tx *tx);
COULOMB_API coulomb_client *coulomb_tx_client(const coulomb_tx *tx);
/* When it was made, on the client's clock, and its place among all of its client's, which is the order
 * in which their changes lie over each other. */
COULOMB_API int64_t coulomb_tx_created_ms(const coulomb_tx *tx);
COULOMB_API uint64_t coulomb_tx_order(const coulomb_tx *tx);
/* Why it failed; code 0 when it has not, or was rolled back without a reason. */
COULOMB_API const coulomb_error *coulomb_tx_error(const coulomb_tx *tx);
COULOMB_API const void *coulomb_tx_metadata(const coulomb_tx *tx, size_t *len);
COULOMB_API size_t coulomb_tx_count(const coulomb_tx *tx);
/* One mutation, borrowed from the transaction. COULOMB_E_ARGUMENT beyond the count. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_tx_mutation(const coulomb_tx *tx, size_t i,
                                                       coulomb_mutation *out);
/* 1 when mutation i changed the column (insert: it was given; delete: always). */
COULOMB_API int coulomb_tx_changed(const coulomb_tx *tx, size_t i, const char *column);

/* Called once when it is completed or failed, in a poll: error is coulomb_tx_error(). */
typedef void (*coulomb_settled_fn)(coulomb_tx *tx, const coulomb_error *error, void *arg);
COULOMB_API COULOMB_MUST_CHECK int coulomb_tx_on_settled(coulomb_tx *tx,
                                                         coulomb_settled_fn fn, void *arg,
                                                         coulomb_token *token);
/* Called whenever states of its mutations changed, in a poll. */
typedef void (*coulomb_progress_fn)(coulomb_tx *tx, void *arg);
COULOMB_API COULOMB_MUST_CHECK int coulomb_tx_on_progress(coulomb_tx *tx,
                                                          coulomb_progress_fn fn,
                                                          void *arg,
                                                          coulomb_token *token);

/* --- Actions --------------------------------------------------------------------------- */

/* One optimistic action: runs on_mutate with a new transaction that is ambient and commits it.
 * on_mutate answers at once (COULOMB_PENDING: COULOMB_E_ON_MUTATE_ASYNC, and what it did stays in
 * *tx, which is pending). vars goes to both functions, and has to live until the transaction is
 * settled. */
typedef struct coulomb_action {
    size_t size;
    const char *id; /* of the transaction */
    int (*on_mutate)(coulomb_tx *tx, void *vars);
    coulomb_persist_fn persist; /* its arg is vars */
    int no_autocommit;
    const void *metadata;
    size_t metadata_len;
    int gate_keys;
} coulomb_action;

COULOMB_API COULOMB_MUST_CHECK int coulomb_action_run(coulomb_client *c,
                                                      const coulomb_action *action,
                                                      void *vars, coulomb_tx **tx);

typedef enum coulomb_strategy {
    COULOMB_DEBOUNCE, /* when no call came for wait_ms */
    COULOMB_THROTTLE, /* at most once in wait_ms */
    COULOMB_QUEUE     /* every call, one after the other */
} coulomb_strategy;

typedef struct coulomb_paced_options {
    size_t size;
    coulomb_strategy strategy;
    int64_t wait_ms;
    /* Of debounce and throttle. Neither named: debounce trails, throttle does both. */
    int leading;
    int trailing;
    size_t queue_max; /* calls that wait; 0: no maximum */
    int add_to_front;
    int take_from_back;
    int (*on_mutate)(coulomb_tx *tx, void *vars);
    coulomb_persist_fn persist;
    void *persist_arg;
    const void *metadata;
    size_t metadata_len;
    int gate_keys;
} coulomb_paced_options;

COULOMB_API COULOMB_MUST_CHECK int coulomb_paced_new(coulomb_client *c,
                                                     const coulomb_paced_options *options,
                                                     coulomb_paced **out);
/* Seen at once; persisted when the strategy says. Calls that go out together share their
 * transaction. COULOMB_E_QUEUE_FULL: and nothing of it is seen. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_paced_call(coulomb_paced *paced, void *vars,
                                                      coulomb_tx **tx);
/* Stops timers and empties the queue; transactions that wait are neither committed nor rolled back
 * (hold on to them). NULL is fine. */
COULOMB_API void coulomb_paced_free(coulomb_paced *paced);

#ifdef __cplusplus
}
#endif

#endif
