/* Collections that a server feeds: one shape of Coulomb's, or of anything that speaks Electric's
 * protocol, kept up to date. And waiting for what was written to come back by it. */
#ifndef COULOMB_ELECTRIC_H
#define COULOMB_ELECTRIC_H

#include "coulomb/collection.h"
#include "coulomb/credentials.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- Making one ------------------------------------------------------------------------ */

typedef enum coulomb_electric_mode {
    COULOMB_EAGER,     /* all rows of the shape */
    COULOMB_ON_DEMAND, /* those that subscriptions ask for, and what changes */
    /* All rows; what subscriptions ask for comes first, until all are there. */
    COULOMB_PROGRESSIVE
} coulomb_electric_mode;

/* A header, or a parameter of the query. */
typedef struct coulomb_pair {
    const char *name;
    const char *value;
} coulomb_pair;

typedef struct coulomb_electric_error {
    int code;            /* COULOMB_E_FETCH, _NETWORK, _MISSING_HEADERS, _PROTOCOL … */
    int status;          /* of HTTP; 0: none */
    const char *message; /* one sentence: what, where, what would be right */
    coulomb_str body;    /* the server's answer, its first 4 KiB; may be empty */
    int retryable;       /* trying again may help */
} coulomb_electric_error;

/* An error that no retry by itself cures: 4xx, a breach of the protocol, no credentials. 1: try again
 * (after a backoff, at most 50 times in a row), perhaps after coulomb_electric_set_param() or
 * _set_header(); 0: give up. Called in coulomb_poll(). Everything that passes by itself (the network,
 * 5xx, 429, expired handles) never comes here. */
typedef int (*coulomb_electric_error_fn)(coulomb_collection *coll,
                                         const coulomb_electric_error *error, void *arg);

typedef struct coulomb_electric_options {
    size_t size;
    /* Its columns are those of the table that the collection has, by name; a value is read as the
     * column's type here. Besides key_column and get_key there is key_columns below. adapter, its arg,
     * on_demand and full_updates are not looked at. */
    coulomb_collection_options collection;
    coulomb_electric_mode mode;
    /* The shape endpoint: "http://127.0.0.1:3000/v1/shape", or a gatekeeper's. */
    const char *url;
    /* NULL where the endpoint knows it. "schema.table" or "table", quoted as in SQL. */
    const char *table;
    const char *where;         /* in SQL, with $1 …; NULL: all rows */
    const char *const *params; /* of where, as text; NULL within: left out */
    size_t param_count;
    const char *const *columns; /* that the server sends; none: all of the table */
    size_t column_count;
    /* Several columns of the collection that make its key together: the key is then text, as
     * coulomb_electric_key() prints it. In place of key_column and get_key. */
    const char *const *key_columns;
    size_t key_column_count;
    /* Updates and deletes bring whole rows. Needed when the key is not (part of) the table's primary
     * key. */
    int replica_full;
    /* On demand they do anyway, so that a row is there when an update makes it one that somebody asked
     * for. With this they don't: such rows are missed until they are asked for again. */
    int partial_updates;
    const coulomb_pair *extra; /* more parameters of the query */
    size_t extra_count;
    const coulomb_pair *headers;
    size_t header_count;
    coulomb_credentials *credentials;   /* retained; NULL: none. 401 and 403 renew them */
    coulomb_electric_error_fn on_error; /* NULL: give up */
    void *on_error_arg;
    /* Where the log begins, in place of the shape's beginning (on demand: of now) and of what was
     * kept of an earlier run. An offset other than "-1" and "now" needs its handle. */
    const char *offset;
    const char *handle;
    int no_resume; /* what was kept of an earlier run is not used either */
    int sse; /* live by server-sent events, by long polling where these don't get through */
    int subset_get;  /* subsets by GET, for caches, in place of POST */
    int row_headers; /* each row's metadata are the headers of its last message, as JSON */
    size_t answer_bytes_max; /* of one answer; 0: 1 GiB */
    const char *ca_file;     /* PEM certificates to trust instead of the system's; NULL */
} coulomb_electric_options;

/* A collection, for coulomb_collection_release(). Nothing is sent before its sync starts. It is ready
 * with the first up-to-date. A failure before that is its error; one after it leaves the rows, and is
 * logged. Besides what the collection keeps of it, coulomb_collection_export_meta() gives JSON text,
 * {"version": 1, "resume": {…}, "seenTxids": […]}; coulomb_collection_import_meta() takes the newer position
 * and all transactions. COULOMB_E_MISSING_URL, _MISSING_HANDLE, _RESERVED_PARAM, and those of
 * coulomb_collection_new(). */
COULOMB_API COULOMB_MUST_CHECK int coulomb_electric_collection_open(
    coulomb_client *c, const coulomb_electric_options *options, coulomb_collection **out);

/* The key of key_columns: each value's text with "/" doubled, in quotes, joined by "/"; null is _.
 * Writes it and a NUL, cut to cap bytes; *len (may be NULL) gets the whole length. values are those
 * of key_columns, in their order; COULOMB_E_TYPE: bytes and arrays are no part of a key. Any thread. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_electric_key(const coulomb_value *values,
                                                        size_t count, char *buf,
                                                        size_t cap, size_t *len);

/* From here on: COULOMB_E_COLLECTION_OPERATION for a collection of another kind. */

/* In place of those in the options, from the next request on, also of later sessions; value NULL:
 * without. Copied. COULOMB_E_RESERVED_PARAM. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_electric_set_param(coulomb_collection *coll, const char *name, const char *value);
COULOMB_API COULOMB_MUST_CHECK int coulomb_electric_set_header(coulomb_collection *coll,
                                                               const char *name,
                                                               const char *value);

/* --- What it does ---------------------------------------------------------------------- */

typedef struct coulomb_electric_state {
    size_t size;    /* of this struct, set by the caller */
    int started;    /* a session is there; without, all of the following is 0 */
    int connected;  /* the last request was answered well */
    int up_to_date; /* with the end of the log as of last_synced_us */
    int paused;
    int failed;         /* for good; error says why */
    int live_sse;       /* live by server-sent events */
    coulomb_str handle; /* of the shape; empty: none yet. Borrowed until the next poll */
    coulomb_str offset;
    int64_t last_synced_us; /* microseconds of 1970; 0: never */
    int has_lsn;
    uint64_t lsn;       /* all transactions up to it were delivered */
    coulomb_str schema; /* of the table, as messages name it; empty: none came yet */
    coulomb_str table;
    const coulomb_error *error;
} coulomb_electric_state;

COULOMB_API COULOMB_MUST_CHECK int
coulomb_electric_state_get(const coulomb_collection *coll, coulomb_electric_state *state);

/* No requests until resumed; pauses count. Nothing without a session. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_electric_pause(coulomb_collection *coll);
COULOMB_API COULOMB_MUST_CHECK int coulomb_electric_resume(coulomb_collection *coll);

/* Called once, in a poll: error->code is COULOMB_OK, or why it did not happen. */
typedef void (*coulomb_await_fn)(coulomb_collection *coll, const coulomb_error *error,
                                 void *arg);

/* Asks the server now, in place of waiting for it to tell: fn (may be NULL) is called when what was
 * committed before has been delivered. COULOMB_E_SYNC_NOT_INITIALIZED. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_electric_refresh(coulomb_collection *coll,
                                                            coulomb_await_fn fn,
                                                            void *arg,
                                                            coulomb_token *token);

/* --- Waiting for writes to come back --------------------------------------------------- */

typedef struct coulomb_await {
    size_t size;
    /* Transactions, all of them, as the database numbered them: pg_current_xact_id() or its ::xid
     * form, read in the writing transaction. */
    const uint64_t *txids;
    size_t txid_count;
    const char *txid_text; /* one more, in decimal; NULL: none. COULOMB_E_TXID */
    /* Of the write-ahead log after the commit, as a server answers to writes; 0: not known. When the
     * shape has reached it the wait is over, whether or not the transaction touched the shape: the
     * server is asked for it. */
    uint64_t lsn;
    int64_t timeout_ms; /* 0: 5,000; COULOMB_NEVER: none */
} coulomb_await;

/* fn is called when the rows of all these transactions are in the collection (which a transaction
 * being persisted holds back; so it is, once that is completed), at once when they are already: what
 * was seen in this session is remembered, the last 8,192 transactions and what the snapshots show
 * (those of subsets when the stream has caught up with them: the server is asked for it).
 * COULOMB_E_TXID_TIMEOUT, COULOMB_E_STREAM_STOPPED when the session ends, and why the stream failed
 * when it does, or has. The token ends the waiting: no call follows. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_await_all(coulomb_collection *coll,
                                                     const coulomb_await *await,
                                                     coulomb_await_fn fn, void *arg,
                                                     coulomb_token *token);
/* For a handler: answers its completion in this way, also with a failure of this call. */
COULOMB_API void coulomb_complete_after(coulomb_completion *done,
                                        coulomb_collection *coll,
                                        const coulomb_await *await);
/* Of one transaction. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_await_txid(coulomb_collection *coll,
                                                      uint64_t txid, int64_t timeout_ms,
                                                      coulomb_await_fn fn, void *arg,
                                                      coulomb_token *token);

typedef enum coulomb_electric_message_type {
    COULOMB_MESSAGE_INSERT,
    COULOMB_MESSAGE_UPDATE,
    COULOMB_MESSAGE_DELETE,
    COULOMB_MESSAGE_MOVE_IN, /* rows enter or leave since another table changed */
    COULOMB_MESSAGE_MOVE_OUT
} coulomb_electric_message_type;

/* One message of the shape; everything is borrowed for the call. */
typedef struct coulomb_electric_message {
    coulomb_electric_message_type type;
    coulomb_key key; /* COULOMB_KEY_NONE of moves */
    /* One for each of the collection's columns, absent where the message has none: updates bring what
     * changed, deletes the key. NULL of moves. */
    const coulomb_value *values;
    size_t value_count;
    const uint64_t *txids; /* 32-bit; none of rows that were there before */
    size_t txid_count;
} coulomb_electric_message;

/* A functional argument: 1: this is it, 0: not, or a negative code, which ends the waiting. */
typedef int (*coulomb_match_fn)(const coulomb_electric_message *message, void *arg);

/* fn is called when a message matched and its rows are in the collection. The last 1,000 messages are
 * looked at first. timeout_ms 0: 3,000. COULOMB_E_MATCH_TIMEOUT, COULOMB_E_STREAM_STOPPED, or match's
 * code. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_await_match(coulomb_collection *coll, coulomb_match_fn match, void *match_arg,
                    int64_t timeout_ms, coulomb_await_fn fn, void *arg,
                    coulomb_token *token);

#ifdef __cplusplus
}
#endif

#endif
