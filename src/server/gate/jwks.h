/* Keys from an address (RFC 7517): fetched on a thread of their own, kept, and fetched again from
 * time to time and when a token names a key that is not known. Any thread. */
#ifndef COULOMB_SERVER_GATE_JWKS_H
#define COULOMB_SERVER_GATE_JWKS_H

#include "base/log.h"
#include "server/gate/token.h"

struct jwks;

/* Called on the fetching thread when the keys have changed. */
typedef void jwks_changed_fn(void *ctx);

struct jwks_config {
    const struct log *log;
    const char *url; /* https://… or http://… */
    int64_t refresh_ms;
    int64_t ask_again_ms; /* after a failure, and at most so often for an unknown key */
    jwks_changed_fn *changed;
    void *ctx;
};

/* Starts the first fetch and returns. ERR_INVALID for another kind of address. */
int jwks_new(const struct jwks_config *config, struct jwks **out, struct err *err);
void jwks_free(struct jwks *jwks);
/* Retained; NULL: there are none yet. */
struct token_keys *jwks_keys(struct jwks *jwks);
/* A token named a key that is not there: look soon, if that was not just done. */
void jwks_ask(struct jwks *jwks);

#endif
