/* What keys.c and token.c share. */
#ifndef COULOMB_SERVER_GATE_KEYS_H
#define COULOMB_SERVER_GATE_KEYS_H

#include <jansson.h>
#include <rhonabwy.h>

#include "server/gate/token.h"

struct token_key {
    jwk_t *jwk;
    enum token_key_kind kind;
    const char *id;  /* "kid", or NULL; lives in jwk */
    const char *alg; /* the only algorithm that it is for, or NULL */
};

struct token_keys {
    atomic_uint refs;
    size_t count;
    struct token_key items[TOKEN_KEYS_MAX];
};

struct token_algorithm_info {
    const char *name;
    enum token_key_kind kind;
    jwa_alg jwa;
};

const struct token_algorithm_info *token_algorithm_info(enum token_algorithm which);

#endif
