/* Inside of struct pg_config, shared by config.c and pg.c. */
#ifndef COULOMB_SERVER_PG_CONFIG_H
#define COULOMB_SERVER_PG_CONFIG_H

#include "server/pg/pg.h"

/* libpq knows about 45 parameters. */
#define PG_CONFIG_MAX 64

struct pg_param {
    char *keyword;
    char *value;
};

/* Owned by whoever made it; immutable, so that any thread may connect with it. */
struct pg_config {
    struct pg_param params[PG_CONFIG_MAX];
    size_t count;
    bool ipv6;
    char *description;
};

/* A parameter's value, or NULL. */
const char *pg_config_value(const struct pg_config *config, const char *keyword);

#endif
