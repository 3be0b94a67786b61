/* A Coulomb server as a client sees it: who is signed in, where writes go, tokens for shapes.
 *
 * With a server, a collection needs no handlers: what is written to it goes to POST /v1/transactions
 * (docs/writing.md) under the caller's role, and is settled when its txid came back in the
 * collection's shape. */
#ifndef COULOMB_SERVER_H
#define COULOMB_SERVER_H

#include "coulomb/electric.h"
#include "coulomb/tx.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct coulomb_server coulomb_server;

typedef struct coulomb_server_options {
    size_t size;
    const char *url; /* http://127.0.0.1:3000, maybe with a path. COULOMB_E_MISSING_URL */
    /* The user's token (a JWT that the server verifies); NULL: nobody is signed in (yet). */
    const char *auth_token;
    /* Gets a token: called in a poll when the server refused the one before, or when there is none,
     * and never while an earlier call is unanswered. It calls coulomb_server_set_token() and
     * returns 0, or COULOMB_PENDING and completes later, or a negative code: what waits for it fails
     * with COULOMB_E_CREDENTIALS. NULL: a refusal stands. */
    int (*sign_in)(coulomb_server *server, coulomb_completion *done, void *arg);
    void *arg;
    /* Shapes are read with shape tokens, at GET /shape (docs/gatekeeper.md); 0: at /v1/shape. */
    int gatekeeper;
    const char *secret; /* of a server whose /v1/shape needs it (ELECTRIC_SECRET); NULL */
    /* A write that the server could not take (unreachable, busy, restarting) is sent again, in its
     * order and under its id, so that it is applied once; for so long. 0: 60,000;
     * COULOMB_NEVER: for ever. Then it fails with COULOMB_E_NETWORK. The server remembers ids for
     * COULOMB_WRITE_KEEP_IDS (7 days): what is sent again later than that is applied again. */
    int64_t retry_ms;
    /* How long a write that was applied is waited for in its shapes; afterwards it is settled, as
     * it is applied. 0: 5,000. */
    int64_t await_ms;
    const char *ca_file; /* PEM certificates to trust in place of the system's; NULL */
} coulomb_server_options;

/* *out is a handle; the server itself lives until its client closes. Nothing is sent before there is
 * something to send. COULOMB_E_MISSING_URL, COULOMB_E_ARGUMENT. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_server_new(coulomb_client *c, const coulomb_server_options *options,
                   coulomb_server **out);
COULOMB_API coulomb_server *coulomb_server_retain(coulomb_server *server);
/* NULL is fine. */
COULOMB_API void coulomb_server_release(coulomb_server *server);
COULOMB_API coulomb_client *coulomb_server_client(const coulomb_server *server);

/* A newer token, or somebody else's (by the token's "sub"); NULL: nobody. Requests that follow use it,
 * shape tokens are exchanged anew. What another user wrote and was not sent yet fails with
 * COULOMB_E_CREDENTIALS; while nobody is signed in it waits. Collections keep the rows that the
 * former user saw until the new one's have come, or for good when there are none to see: release
 * them before. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_server_set_token(coulomb_server *server,
                                                            const char *auth_token);

/* --- Collections ----------------------------------------------------------------------- */

/* A shape of this server as a collection: coulomb_electric_collection_open() with the server's URL in
 * place of the options', and its credentials, where it has a gatekeeper or a secret. With a gatekeeper, table and params (texts; may be
 * none) are what the shape token is asked for with, and decide which rows there are; the options'
 * where and columns are not sent. Without handlers of its own, its mutations are written to the
 * table by coulomb_server_persist(). */
COULOMB_API COULOMB_MUST_CHECK int coulomb_server_collection_open(
    coulomb_server *server, const coulomb_electric_options *options,
    const coulomb_pair *params, size_t param_count, coulomb_collection **out);

/* --- Writes ---------------------------------------------------------------------------- */

/* Which table a collection's rows belong to. Those of coulomb_server_collection_open() know it. */
typedef struct coulomb_server_table {
    size_t size;
    const char *table; /* NAME or SCHEMA.NAME, as the catalog has them */
    /* The primary key. None: the collection's key column. */
    const char *const *key_columns;
    size_t key_column_count;
    /* Updates and deletes also say what the changed columns (a delete: all) were, and are refused
     * (precondition_failed) when somebody has changed them meanwhile. */
    int expect_unchanged;
    /* A delete of a row that is gone already is fine. */
    int ignore_missing;
} coulomb_server_table;

/* Copied. Replaces what was said before. COULOMB_E_COLUMN, COULOMB_E_ARGUMENT. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_server_bind(coulomb_server *server,
                                                       coulomb_collection *coll,
                                                       const coulomb_server_table *table);

/* The function that persists: for handlers of collections and for transactions of their own, with
 * the server as its argument. All mutations go in one transaction of Postgres; transactions go in
 * the order of their commits. Fails with COULOMB_E_REFUSED and coulomb_tx_refusal(), with
 * COULOMB_E_CREDENTIALS, or with COULOMB_E_NETWORK. */
COULOMB_API int coulomb_server_persist(coulomb_tx *tx, coulomb_collection *coll,
                                       coulomb_completion *done, void *server);

/* Why the server refused a transaction. */
typedef struct coulomb_refusal {
    int status;    /* of HTTP */
    char code[64]; /* "unique_violation", … (docs/writing.md) */
    char message[256];
    int mutation;   /* its index in the transaction, -1: none in particular */
    char table[64]; /* "": none in particular; likewise: */
    char column[64];
    char constraint[64];
} coulomb_refusal;

/* NULL when it was not refused. Lives as long as the transaction. */
COULOMB_API const coulomb_refusal *coulomb_tx_refusal(const coulomb_tx *tx);

/* --- Other requests ---------------------------------------------------------------------- */

typedef struct coulomb_request {
    size_t size;
    const char *method; /* NULL: POST with a body, GET without */
    const char *path;   /* "/questions/send", "/v1/rpc/add"; with its query */
    const char *body;   /* JSON */
    size_t body_len;
    /* With one, or for GET, what the server could not take is sent again as writes are. */
    const char *idempotency_key;
    int64_t timeout_ms; /* of one attempt; 0: 30,000 */
} coulomb_request;

typedef struct coulomb_response {
    int code; /* 0: status is 2xx. COULOMB_E_REFUSED, COULOMB_E_CREDENTIALS, COULOMB_E_NETWORK */
    int status;          /* of HTTP; 0: none came */
    const char *message; /* what went wrong, "" when nothing did */
    coulomb_str body;
    /* Of a write: what coulomb_await_txid() takes. */
    int has_txid;
    uint64_t txid;
    uint64_t lsn; /* 0: none */
} coulomb_response;

/* Borrowed for the call. */
typedef void (*coulomb_response_fn)(coulomb_server *server,
                                    const coulomb_response *response, void *arg);

/* A function, an application route, or any path of the server, as who is signed in. fn is called
 * once, in a poll, unless the client closes before. */
COULOMB_API COULOMB_MUST_CHECK int coulomb_server_request(coulomb_server *server,
                                                          const coulomb_request *request,
                                                          coulomb_response_fn fn,
                                                          void *arg);

/* --- Tokens for shapes --------------------------------------------------------------------- */

/* code 0: the token. Borrowed for the call. */
typedef void (*coulomb_shape_token_fn)(coulomb_server *server, int code,
                                       const char *token, const char *message, void *arg);

/* Exchanges the user's token for one for a shape: POST /shapes/auth-token. fn is called once, in a
 * poll, unless the client closes before. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_server_shape_token(coulomb_server *server, const char *table,
                           const coulomb_pair *params, size_t param_count,
                           coulomb_shape_token_fn fn, void *arg);
/* Credentials that hold such a token: shared by all who ask for the same table and parameters, renewed
 * once for all of them when it expires or is refused, and when the user's token changes. *out: one
 * reference. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_server_shape_credentials(coulomb_server *server, const char *table,
                                 const coulomb_pair *params, size_t param_count,
                                 coulomb_credentials **out);

#ifdef __cplusplus
}
#endif

#endif
