/* What every header of libcoulomb needs: visibility, options, errors, allocator, clock, log.
 *
 * Rules of the whole library:
 *
 * - A client and all that belongs to it is used by one thread, the one that made it. Only
 *   coulomb_post() may be called from another.
 * - The library calls back only in coulomb_poll(), but for *functional arguments*, which do
 *   their work inside the call that takes them and may not call the client: key functions,
 *   comparators, validators, where functions, coulomb_each's, an adapter's functions for
 *   metadata. (A draft function may use its draft; the function of coulomb_tx_mutate and
 *   on_mutate may do everything.)
 * - Functions return COULOMB_OK (0) or a negative code, and then leave things as they were
 *   and the detail in coulomb_last_error(). A failed allocation is COULOMB_E_MEMORY.
 * - Parameters are borrowed for the call. A pointer that is returned is borrowed from the
 *   first argument; what comes out through a pointer parameter is the caller's, to release.
 * - Options structs are made by coulomb_options_init(); zero is every field's default, NULL
 *   in place of a struct means all defaults. */
#ifndef COULOMB_BASE_H
#define COULOMB_BASE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define COULOMB_API        __attribute__((visibility("default")))
#define COULOMB_MUST_CHECK __attribute__((warn_unused_result))
#else
#define COULOMB_API
#define COULOMB_MUST_CHECK
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define COULOMB_VERSION_MAJOR 0
#define COULOMB_VERSION_MINOR 1
#define COULOMB_VERSION_PATCH 0

/* "0.1.0": of the library that runs, where the macros are those of the header. */
COULOMB_API const char *coulomb_version(void);

typedef struct coulomb_client coulomb_client;
typedef struct coulomb_collection coulomb_collection;
typedef struct coulomb_row coulomb_row;
typedef struct coulomb_draft coulomb_draft;
typedef struct coulomb_tx coulomb_tx;
typedef struct coulomb_sub coulomb_sub;
typedef struct coulomb_sync coulomb_sync;
typedef struct coulomb_completion coulomb_completion;
typedef struct coulomb_expr coulomb_expr;
typedef struct coulomb_result coulomb_result;
typedef struct coulomb_index coulomb_index;
typedef struct coulomb_paced coulomb_paced;
typedef struct coulomb_issues coulomb_issues;
typedef struct coulomb_blob coulomb_blob;

/* A registration; 0 is none. coulomb_off() ends it, after which no call follows. */
typedef uint64_t coulomb_token;

/* Zeroes an options struct and stores its size, by which the library knows the caller's
 * version of it: coulomb_options_init(&options, sizeof(options)). */
COULOMB_API void coulomb_options_init(void *options, size_t size);

/* --- Errors -------------------------------------------------------------------------- */

/* X(name, number, text, name in TanStack DB or ""). */
#define COULOMB_ERROR_TABLE(X)                                                           \
    X(MEMORY, -1, "an allocation failed", "")                                            \
    X(ARGUMENT, -2, "an argument makes no sense", "")                                    \
    X(THREAD, -3, "the client belongs to another thread", "")                            \
    X(CLOSED, -4, "the client was closed", "")                                           \
    X(POISONED, -5, "a bug was found in this client, which does nothing any more", "")   \
    X(LIMIT, -6, "a stated maximum was reached", "")                                     \
    X(TYPE, -7, "a value does not have its column's type", "")                           \
    X(COLUMN, -8, "no such column", "")                                                  \
    X(INVALID_TEXT, -9, "text that its type does not take", "")                          \
    X(FAILED, -10, "a handler failed without a code of its own", "")                     \
    X(REENTRY, -11, "a functional argument called the client", "")                       \
    X(IO, -12, "the disk failed", "")                                                    \
    X(PATH, -13, "a path leads nowhere in that json value", "")                          \
    X(COLLECTION_CONFIG, -100, "a collection's options don't fit together",              \
      "CollectionConfigurationError")                                                    \
    X(COLLECTION_REQUIRES_CONFIG, -101, "a collection needs options",                    \
      "CollectionRequiresConfigError")                                                   \
    X(COLLECTION_REQUIRES_SYNC, -102, "a collection needs an adapter",                   \
      "CollectionRequiresSyncConfigError")                                               \
    X(UNDEFINED_KEY, -103, "the row has no key", "UndefinedKeyError")                    \
    X(INVALID_KEY, -104, "a key is an integer or text", "InvalidKeyError")               \
    X(STATUS_TRANSITION, -105, "the collection can't go from that status to this one",   \
      "InvalidCollectionStatusTransitionError")                                          \
    X(COLLECTION_STATE, -106, "the collection's status does not allow it",               \
      "CollectionStateError")                                                            \
    X(COLLECTION_IN_ERROR, -107, "the collection is in error and takes no mutation",     \
      "CollectionInErrorStateError")                                                     \
    X(COLLECTION_IS_IN_ERROR, -108,                                                      \
      "the collection went into error before it was ready",                              \
      "CollectionIsInErrorStateError")                                                   \
    X(NEGATIVE_SUBSCRIBERS, -109, "more subscriptions ended than began",                 \
      "NegativeActiveSubscribersError")                                                  \
    X(SYNC_CLEANUP, -110, "the adapter's stop failed", "SyncCleanupError")               \
    X(COLLECTION_OPERATION, -111, "the operation does not fit the collection",           \
      "CollectionOperationError")                                                        \
    X(NO_SYNC_TX_WRITE, -200, "no sync transaction is open to write to",                 \
      "NoPendingSyncTransactionWriteError")                                              \
    X(NO_SYNC_TX_COMMIT, -201, "no sync transaction is open to commit",                  \
      "NoPendingSyncTransactionCommitError")                                             \
    X(SYNC_TX_COMMITTED_WRITE, -202, "the sync transaction was committed before",        \
      "SyncTransactionAlreadyCommittedWriteError")                                       \
    X(SYNC_TX_COMMITTED, -203, "the sync transaction was committed before",              \
      "SyncTransactionAlreadyCommittedError")                                            \
    X(DUPLICATE_KEY_SYNC, -204, "sync inserts another row under a key that exists",      \
      "DuplicateKeySyncError")                                                           \
    X(STALE_SESSION, -205, "the call comes from an earlier sync session", "")            \
    X(MISSING_MUTATION_FUNCTION, -300,                                                   \
      "a transaction needs a function that persists it", "MissingMutationFunctionError") \
    X(TX_NOT_PENDING_MUTATE, -301, "only a pending transaction takes mutations",         \
      "TransactionNotPendingMutateError")                                                \
    X(TX_NOT_PENDING_COMMIT, -302, "only a pending transaction can be committed",        \
      "TransactionNotPendingCommitError")                                                \
    X(TX_COMPLETED_ROLLBACK, -303, "a completed transaction can't be rolled back",       \
      "TransactionAlreadyCompletedRollbackError")                                        \
    X(MISSING_INSERT_HANDLER, -304, "no on_insert and no transaction",                   \
      "MissingInsertHandlerError")                                                       \
    X(MISSING_UPDATE_HANDLER, -305, "no on_update and no transaction",                   \
      "MissingUpdateHandlerError")                                                       \
    X(MISSING_DELETE_HANDLER, -306, "no on_delete and no transaction",                   \
      "MissingDeleteHandlerError")                                                       \
    X(MISSING_UPDATE_ARGUMENT, -307, "update needs a key and a function",                \
      "MissingUpdateArgumentError")                                                      \
    X(NO_KEYS_UPDATE, -308, "update got no keys", "NoKeysPassedToUpdateError")           \
    X(NO_KEYS_DELETE, -309, "delete got no keys", "NoKeysPassedToDeleteError")           \
    X(UPDATE_KEY_NOT_FOUND, -310, "no row to update has that key",                       \
      "UpdateKeyNotFoundError")                                                          \
    X(DELETE_KEY_NOT_FOUND, -311, "no row to delete has that key",                       \
      "DeleteKeyNotFoundError")                                                          \
    X(DUPLICATE_KEY, -312, "a row with that key exists", "DuplicateKeyError")            \
    X(KEY_UPDATE, -313, "an update may not change the key", "KeyUpdateNotAllowedError")  \
    X(MERGE, -314, "these two mutations of one row can't be one", "")                    \
    X(FOREIGN_CLIENT, -315, "transaction and collection are of different clients", "")   \
    X(SCHEMA, -316, "the row is not valid", "SchemaValidationError")                     \
    X(SCHEMA_ASYNC, -317, "a validator answers at once", "SchemaMustBeSynchronousError") \
    X(INVALID_SCHEMA, -318, "the validator answered with a code that is none",           \
      "InvalidSchemaError")                                                              \
    X(ON_MUTATE_ASYNC, -319, "on_mutate answers at once",                                \
      "OnMutateMustBeSynchronousError")                                                  \
    X(QUEUE_FULL, -320, "the queue of paced mutations is full", "")                      \
    X(ROLLED_BACK, -321, "the transaction was rolled back", "")                          \
    X(NON_RETRIABLE, -322, "the server refused for good", "NonRetriableError")           \
    X(BOTH_WHERE, -400, "where is given twice", "")                                      \
    X(LIMIT_NEEDS_ORDER, -401, "a limit needs an order",                                 \
      "LimitOffsetRequireOrderByError")                                                  \
    X(TIMEOUT, -402, "it did not happen in time", "")                                    \
    X(NO_INDEX, -403, "no index can answer that", "")                                    \
    X(STORAGE_KEY_REQUIRED, -500, "a persistent collection needs a path",                \
      "StorageKeyRequiredError")                                                         \
    X(SERIALIZATION, -501, "the rows can't be written as text", "SerializationError")    \
    X(QUERY_FN_REQUIRED, -510, "a polled collection needs a fetch function",             \
      "QueryFnRequiredError")                                                            \
    X(GET_KEY_REQUIRED, -511, "a collection needs a key column or a key function",       \
      "GetKeyRequiredError")                                                             \
    X(SYNC_NOT_INITIALIZED, -512, "the collection's sync was not started",               \
      "SyncNotInitializedError")                                                         \
    X(DUPLICATE_KEY_IN_BATCH, -513, "a direct write has one key twice",                  \
      "DuplicateKeyInBatchError")                                                        \
    X(UPDATE_ITEM_NOT_FOUND, -514, "no row to update has that key",                      \
      "UpdateOperationItemNotFoundError")                                                \
    X(DELETE_ITEM_NOT_FOUND, -515, "no row to delete has that key",                      \
      "DeleteOperationItemNotFoundError")                                                \
    X(FETCH, -600, "the server refused a request", "FetchError")                         \
    X(NETWORK, -601, "the server could not be reached", "")                              \
    X(MISSING_HEADERS, -602, "an answer lacks headers of the protocol",                  \
      "MissingHeadersError")                                                             \
    X(PROTOCOL, -603, "an answer is not what the protocol says", "")                     \
    X(STUCK, -604, "the same request is answered in the same way for ever", "")          \
    X(STREAM_STOPPED, -605, "the stream was stopped", "")                                \
    X(STREAM_MODE, -606, "subsets are for streams of changes only", "")                  \
    X(MISSING_URL, -607, "a stream needs a url", "MissingShapeUrlError")                 \
    X(MISSING_HANDLE, -608, "an offset needs its shape's handle",                        \
      "MissingShapeHandleError")                                                         \
    X(RESERVED_PARAM, -609, "that parameter is the protocol's own",                      \
      "ReservedParamError")                                                              \
    X(CREDENTIALS, -610, "no credentials could be had", "")                              \
    X(REFUSED, -611, "the server refused it", "")                                        \
    X(TXID, -620, "that is no transaction id", "ExpectedNumberInAwaitTxIdError")         \
    X(TXID_TIMEOUT, -621, "the transaction did not come back in time",                   \
      "TimeoutWaitingForTxIdError")                                                      \
    X(MATCH_TIMEOUT, -622, "no message matched in time", "TimeoutWaitingForMatchError")

enum coulomb_code {
    COULOMB_OK = 0,
    COULOMB_PENDING = 1, /* a handler's answer: the completion comes later */
#define COULOMB_X(name, number, text, upstream) COULOMB_E_##name = number,
    COULOMB_ERROR_TABLE(COULOMB_X)
#undef COULOMB_X
        COULOMB_E_LAST_ = -1000 /* not a code */
};

/* What went wrong, where, and what would be right; one sentence for people. */
typedef struct coulomb_error {
    int code;          /* 0: none */
    char message[512]; /* terminated */
    char key[128];     /* the row's key as text, cut at the end; "" when none */
    char column[64];   /* the column's name, "" when none */
} coulomb_error;

/* "COULOMB_E_DUPLICATE_KEY", "COULOMB_OK"; NULL for no code. Any thread. */
COULOMB_API const char *coulomb_error_name(int code);
/* Of the last COULOMB_E_SCHEMA: how many reasons there are, and each one; NULL beyond. *column
 * (column may be NULL) gets its column's name, "" for none. */
COULOMB_API size_t coulomb_issue_count(const coulomb_client *c);
COULOMB_API const char *coulomb_issue_message(const coulomb_client *c, size_t i,
                                              const char **column);
/* For validators: one reason more; both are copied, cut at 63 and 191 bytes. column may be NULL.
 * Beyond 64 reasons nothing is added. */
COULOMB_API void coulomb_issue(coulomb_issues *issues, const char *column,
                               const char *message);
/* The table's text. Any thread. */
COULOMB_API const char *coulomb_error_text(int code);

/* --- What can be injected -------------------------------------------------------------- */

/* All memory of a client is taken here, with the scratch of its calls. (What is given no client,
 * coulomb_value_compare, coulomb_value_print and coulomb_json_get, has its scratch from malloc
 * and frees it before it returns.) realloc_fn(NULL, n) is an allocation; n is never 0. Both functions
 * are called by whoever calls coulomb_post(), and by the client's I/O thread once something reads from
 * a server; so they have to be safe for threads. libcurl's memory comes from malloc. */
typedef struct coulomb_allocator {
    void *(*realloc_fn)(void *ptr, size_t size, void *arg);
    void (*free_fn)(void *ptr, void *arg);
    void *arg;
} coulomb_allocator;

/* Milliseconds that never go back. For timers only. */
typedef int64_t (*coulomb_clock_fn)(void *arg);

enum coulomb_log_level {
    COULOMB_LOG_DEBUG,
    COULOMB_LOG_INFO,
    COULOMB_LOG_WARNING,
    COULOMB_LOG_ERROR
};

/* One event, "key=value" pairs, no newline. Never row contents. May be called inside any
 * call, and must not call the client. */
typedef void (*coulomb_log_fn)(int level, const char *line, void *arg);

#ifdef __cplusplus
}
#endif

#endif
