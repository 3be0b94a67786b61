/* A server inside. Internal to the client. Owner's thread. */
#ifndef COULOMB_CLIENT_SERVER_SERVER_H
#define COULOMB_CLIENT_SERVER_SERVER_H

#define ANOTHER_USER "another user signed in before it was sent"

#include "client/net/credentials.h"
#include "client/net/net.h"
#include "client/tx/tx.h"
#include "coulomb/server.h"

/* Lives until the client is closed and the last handle is gone. */
struct coulomb_server {
    struct list link; /* client.servers */
    coulomb_client *client;
    struct heap *heap;
    size_t handles;
    bool closed;
    coulomb_server_options options; /* pointers to strings are not valid */
    char *url;                      /* without a slash at its end */
    char *secret;
    char *ca_file;
    char *token;
    uint64_t token_serial; /* of the token that there is */
    uint64_t used_serial;  /* of the one that credentials were made of */
    char *
        subject; /* whose token it is, or was before nobody was signed in; NULL: not known */
    uint64_t user; /* counts who was signed in: what one began is not done as another */
    struct credentials *auth;
    struct coulomb_completion *signing; /* sign_in is to answer */
    uint64_t random;
    char run[33]; /* names this server object in ids of transactions */
    struct list calls;
    struct list shapes; /* struct shape_token, held by who uses them */

    /* Writes, oldest first; the first `sending_count` are under way. */
    struct list writes;
    struct server_call *sending;
    size_t sending_count;
    size_t singly; /* so many are sent one by one: one among them spoils the request */
    unsigned attempts;
    struct timer retry;
    struct task pump;
};

/* --- Requests (call.c) ---------------------------------------------------------------- */

struct server_call;

/* Once, in a poll: the answer, or code and why there is none (no credentials, no memory); at close,
 * with COULOMB_E_CLOSED, only to free what is its own. */
typedef void server_call_fn(const struct net_answer *answer, int code,
                            const char *message, void *arg);

struct server_call_options {
    enum net_method method;
    const char *path; /* behind the server's URL */
    struct slice body;
    const char *key; /* of idempotency; NULL */
    int64_t timeout_ms;
    int64_t retry_ms; /* sent again for so long when the server can't take it; 0: not */
    bool resent; /* the caller does that itself; else without retry_ms it is sent once */
};

/* As who is signed in: 401 renews. When somebody else is before it was sent (again) it ends with
 * COULOMB_E_CREDENTIALS. *out (may be NULL) is valid until fn. Errors are set. */
int server_call(struct coulomb_server *server, const struct server_call_options *o,
                server_call_fn *fn, void *arg, struct server_call **out);
void server_call_cancel(struct server_call *call);
void server_calls_close(struct coulomb_server *server);
/* Whether an answer says that the same request may succeed later. */
bool server_is_passing(const struct net_answer *answer);
/* [0, 1). */
double server_random(struct coulomb_server *server);
/* A URL of the server, owned by the caller; NULL: no memory. */
char *server_url(const struct coulomb_server *server, const char *path);

/* --- Answers (answer.c) ---------------------------------------------------------------- */

/* What the write path answers for one transaction, or instead of all. */
struct write_answer {
    bool success;
    bool has_txid;
    uint32_t txid;
    uint64_t lsn;
    coulomb_refusal refusal;
};

/* The body's object itself. False: it is no such object. */
bool answer_read(struct heap *h, struct slice body, struct write_answer *out);
/* Each element of its "transactions"; *count gets their number, at most max are read. False: it has
 * none, or makes no sense. */
bool answer_read_list(struct heap *h, struct slice body, struct write_answer *out,
                      size_t max, size_t *count);
/* A member that is a string, terminated and owned; NULL: it is not there, or no memory. */
char *answer_string(struct heap *h, struct slice body, const char *name);

/* --- Tokens (token.c) ------------------------------------------------------------------- */

/* When it ends, in seconds of 1970; 0: it does not say. */
int64_t token_end_s(struct heap *h, const char *token);
/* Whose it is, owned; NULL: it does not say, or no memory. */
char *token_subject(struct heap *h, const char *token);
/* The header authorization's value, owned; NULL: no memory. */
char *token_bearer(struct heap *h, const char *token);

/* --- Tables (table.c) ------------------------------------------------------------------ */

/* A collection's table: its `server`. */
struct server_table {
    struct attachment base;
    struct coulomb_server *server;
    char *name; /* as the catalog has it */
    size_t *key;
    size_t key_count;
    bool expect_unchanged;
    bool ignore_missing;
    bool is_shape; /* txids come back in it */
};

const struct server_table *table_of(const struct coulomb_collection *coll);
int table_bind(struct coulomb_server *server, struct coulomb_collection *coll,
               const coulomb_server_table *o, bool is_shape);

/* --- Writes (body.c, writes.c) ---------------------------------------------------------- */

/* {"id":…,"mutations":[…]}. COULOMB_E_MEMORY; COULOMB_E_ARGUMENT with *message, a sentence of at most
 * cap bytes. */
int body_put(struct buf *out, const struct coulomb_server *server,
             const struct coulomb_tx *tx, char *message, size_t cap);
int writes_pump(struct task *t);
void writes_retry(struct timer *t);
void writes_close(struct coulomb_server *server);

/* --- Tokens for shapes (shapes.c) ------------------------------------------------------- */

/* Another token: they are asked for anew. */
void shapes_expire(struct coulomb_server *server);

#endif
