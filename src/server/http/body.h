/* The JSON body of a POST (shape-protocol.md 1.6), merged over the query's parameters. */
#ifndef COULOMB_SERVER_HTTP_BODY_H
#define COULOMB_SERVER_HTTP_BODY_H

#include "server/http/params.h"

#define BODY_MAX_BYTES 8000000u

/* 0, ERR_INVALID with *reply set to the JSON of the 400, or ERR_MEMORY. Copies into the
 * arena. */
int body_merge(struct slice body, struct params *params, struct arena *arena,
               const char **reply);

#endif
