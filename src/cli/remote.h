/* What the commands that talk to a server as a client share: their arguments, and the loop. */
#ifndef COULOMB_CLI_REMOTE_H
#define COULOMB_CLI_REMOTE_H

#include <stdbool.h>

#include "base/err.h"
#include "coulomb/coulomb.h"

#define REMOTE_PARAMS_MAX 64

struct remote {
    const char *command;
    const char *url;
    const char *token;  /* the user's; COULOMB_TOKEN */
    const char *secret; /* ELECTRIC_SECRET */
    bool gatekeeper;
    const char *table;
    const char *where;
    const char *columns;                    /* a,b,c */
    coulomb_pair params[REMOTE_PARAMS_MAX]; /* --param: NAME=VALUE; of a clause "1" … */
    size_t param_count;
    bool once;
    bool json;
    const char *fields[REMOTE_PARAMS_MAX]; /* NAME=VALUE behind the table */
    size_t field_count;
};

/* Which flags a command knows besides --url, --token and --secret. */
enum remote_flags {
    REMOTE_GATEKEEPER = 1, /* --gatekeeper, --param */
    REMOTE_SHAPE = 2,      /* --where, --columns, --once, --json */
    REMOTE_FIELDS = 4      /* NAME=VALUE… */
};

/* Splits its own arguments in place. ERR_INVALID with a sentence. */
int remote_read(struct remote *r, const char *command, unsigned flags, int count,
                char **args, char **env, struct err *err);
/* --param's value must stand at a place of its own: $n of the clause. NULL: it has none. */
int remote_clause_params(const struct remote *r, const char **out, size_t *count,
                         struct err *err);
int remote_client(coulomb_client **out, struct err *err);
/* Polls until *done. */
void remote_loop(coulomb_client *c, const bool *done);

#endif
