/* Where a value comes from, as policies and routes write it:
 *
 *   "claims.sub"     a claim of the caller's token, members of members by dots
 *   "params.list"    a member of the token exchange's params
 *   "body.title"     a member of the request's body
 *   "path.id"        a segment of the path that the route names ":id"
 *   {"value": …}     itself
 */
#ifndef COULOMB_SERVER_GATE_SOURCE_H
#define COULOMB_SERVER_GATE_SOURCE_H

#include "base/err.h"

typedef struct json_t json_t; /* jansson's */

enum source_kind {
    SOURCE_CLAIMS = 1,
    SOURCE_PARAMS = 2,
    SOURCE_BODY = 4,
    SOURCE_PATH = 8
};

struct source_values { /* objects, borrowed; NULL: there is none */
    const json_t *claims;
    const json_t *params;
    const json_t *body;
    const json_t *path;
};

/* Whether it is one of the allowed kinds (bits) or a value; ERR_INVALID with a sentence. */
int source_check(const json_t *source, unsigned allowed, struct err *err);
/* Whether the object has no members but those of `known` (its last is NULL): a misspelt "where" would
 * show what it was to hide. ERR_INVALID with a sentence. */
int source_check_members(const json_t *object, const char *const *known, struct err *err);
/* What it stands for, borrowed; NULL when there is nothing. */
const json_t *source_value(const json_t *source, const struct source_values *values);
/* The kind of a checked source; 0: a value. */
unsigned source_kind(const json_t *source);

#endif
