/* The gatekeeper: who is asking, what may they see, how often may they ask.
 *
 * Two kinds of token. An *auth token* comes from the app's own sign-in and proves who the caller
 * is. A *shape token* is issued here for a grant (grant.h), proves nothing but that grant, and
 * names nobody: equal grants within a window have one and the same token, so that a cache in
 * front holds one copy for each grant. */
#ifndef COULOMB_SERVER_GATE_GATE_H
#define COULOMB_SERVER_GATE_GATE_H

#include <libpq-fe.h>

#include "base/log.h"
#include "server/gate/grant.h"
#include "server/gate/policy.h"
#include "server/gate/token.h"

#define GATE_ROLES_MAX 32

struct gate_config {
    const struct log *log;
    /* What auth tokens are verified with: exactly one, or none and the gatekeeper is off. */
    const char *secret;
    const char *key_file; /* PEM or JWKS */
    const char *jwks_url;
    const char
        *algorithms; /* "RS256,…"; NULL: HS256 with a secret, else RS256, ES256, EdDSA,
                               as far as there are keys for them */
    const char *issuer;   /* NULL: any */
    const char *audience; /* NULL: any */
    const char *subject_claim;
    int64_t skew_ms;
    const char *shape_secret; /* signs shape tokens */
    int64_t shape_lifetime_ms;
    const char *function;    /* "schema.name"; NULL: none */
    const char *policy_file; /* NULL: none */
    const char
        *roles; /* "authenticated,editor": the first when a token names none; NULL */
    const char
        *anonymous_role; /* of routes that need no token; NULL: there are no such */
    int64_t timeout_ms;  /* of the function */
    unsigned rate_per_s; /* for each subject; 0: no limit */
};

struct gate;

bool gate_is_on(const struct gate_config *config);
/* Reads files, starts the fetching of keys. ERR_INVALID with a sentence. */
int gate_new(const struct gate_config *config, struct gate **out, struct err *err);
void gate_free(struct gate *gate);

/* --- Who (any thread, never blocks) --- */

/* As token_verify, with a cache before it. ERR_RETRY (and TOKEN_REFUSED_NO_KEYS): later. */
int gate_verify_auth(struct gate *gate, struct slice text, int64_t now_s,
                     struct token **out, enum token_refusal *why);
/* The same for a shape token; *grant borrows from *out. */
int gate_verify_shape(struct gate *gate, struct slice text, int64_t now_s,
                      struct token **out, struct grant *grant, enum token_refusal *why);
/* Under which role the caller's SQL runs. token NULL: nobody is signed in. *out NULL: as the
 * connection's own user. ERR_INVALID: the token names a role that is not allowed. */
int gate_role(const struct gate *gate, const struct token *token, const char **out);
/* 0, or after how many milliseconds the subject may ask again. */
int64_t gate_limit(struct gate *gate, struct slice subject, int64_t now_ms);

/* --- What --- */

enum gate_decision {
    GATE_GRANTED,
    GATE_FORBIDDEN,
    GATE_ASK, /* gate_authorise, on a thread that may block */
    GATE_FAILED
};

/* By the policy, when what it needs to know is known already. request: {"table":…,"params":…}.
 * *grant is owned. */
enum gate_decision gate_decide(struct gate *gate, const struct token *token,
                               const json_t *request, json_t **grant);
/* By the function or the policy, on a connection that is idle outside a transaction. err (with
 * GATE_FAILED) is for the log. */
enum gate_decision gate_authorise(struct gate *gate, PGconn *conn,
                                  const struct token *token, const json_t *request,
                                  json_t **grant, struct err *err);
/* Whether a clause of the configuration may decide who sees the table: not where row-level security
 * does. gate_table_known, any thread: GRANTED, FORBIDDEN or ASK, which means gate_table_ask, on a
 * thread that may block: GRANTED, FORBIDDEN or, with err, FAILED. conn NULL: Postgres can't be
 * reached. */
enum gate_decision gate_table_known(struct gate *gate, const char *table);
enum gate_decision gate_table_ask(struct gate *gate, PGconn *conn, const char *table,
                                  struct err *err);
/* The shape token of a grant; *out is freed by the caller. It lives at least half as long as
 * configured, and at most as long. */
int gate_issue(const struct gate *gate, const json_t *grant, int64_t now_s, char **out,
               struct err *err);

/* --- JSON, for callers that can't read it themselves --- */

/* A request's body (may be empty when the table is given): *out, owned, has "table" and of "params",
 * "where", "columns", "namespace" what was given. ERR_INVALID with a sentence. */
int gate_read_request(struct slice body, struct slice table, json_t **out,
                      struct err *err);
const char *gate_request_table(const json_t *request);
void gate_json_free(json_t *json); /* NULL is fine */
/* The answers of the exchange and of the gatekeeper's route (client-semantics.md 11.5). */
int gate_print_exchange(const char *token, struct buf *out);
int gate_print_gatekeeper(const json_t *grant, const char *token, const char *url,
                          struct buf *out);

/* Sets role and claims for the transaction under way, as "SELECT set_config(…)": the statement,
 * and what it takes as $1 (role), $2 (claims), $3 (statement timeout in ms). */
extern const char *const gate_identity_sql;
/* The same for who keeps the connection's own role: $1 claims, $2 timeout. */
extern const char *const gate_claims_sql;

/* A whole file, terminated, owned; ERR_INVALID with a sentence. */
int gate_read_file(const char *path, size_t max_bytes, char **out, size_t *len,
                   struct err *err);

#endif
