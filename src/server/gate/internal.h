/* What gate.c and authorise.c share. */
#ifndef COULOMB_SERVER_GATE_INTERNAL_H
#define COULOMB_SERVER_GATE_INTERNAL_H

#include <jansson.h>

#include "server/gate/cache.h"
#include "server/gate/gate.h"
#include "server/gate/jwks.h"
#include "server/gate/rate.h"
#include "server/gate/row_security.h"

#define GATE_FUNCTION_SQL_MAX 320

/* Immutable after gate_new, but for what has a lock of its own. */
struct gate {
    struct gate_config config;
    struct token_keys *keys; /* NULL with jwks */
    struct jwks *jwks;
    struct token_rules auth_rules;
    struct token_rules shape_rules;
    struct token_keys *shape_keys;
    struct token_cache *auth_cache;
    struct token_cache *shape_cache;
    struct rate *rate;
    struct policy *policy;
    struct row_security *row_security;
    char function_sql[GATE_FUNCTION_SQL_MAX]; /* "" without one */
    char *roles[GATE_ROLES_MAX];
    size_t role_count;
};

/* Makes function_sql; ERR_INVALID. */
int gate_check_function(struct gate *gate, struct err *err);

#endif
