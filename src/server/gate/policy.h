/* The static policy: which rows of which tables a caller may see, without a function.
 *
 *   {"tables": {
 *     "todos":    {"where": "owner = $1", "params": ["claims.sub"], "columns": ["id", "title"]},
 *     "messages": {"where": "conversation_id = $1 AND owner = $2",
 *                  "params": ["params.conversationId", "claims.sub"]}}}
 *
 * Clauses are the file's own text; what comes from callers is only ever a parameter of them. A
 * missing claim refuses; a missing parameter of the request gives the grant of nothing. */
#ifndef COULOMB_SERVER_GATE_POLICY_H
#define COULOMB_SERVER_GATE_POLICY_H

#include "server/gate/grant.h"
#include "server/gate/source.h"

struct policy;

/* ERR_INVALID with a sentence that names the table. */
int policy_new(struct slice text, struct policy **out, struct err *err);
void policy_free(struct policy *policy);

/* The checked grant template of a table, borrowed; NULL: the policy does not name it. */
const json_t *policy_find(const struct policy *policy, const char *table);
/* Whether the table's row-level security is to be passed over ("row_security": "ignore"). */
bool policy_ignores_row_security(const json_t *entry);

/* Also for routes that are shapes: an object with "where", "params" (sources), "columns" and
 * "row_security", and no members but those of `members` (its last is NULL). */
int policy_check_template(const json_t *entry, const char *const *members,
                          unsigned sources, struct err *err);
/* The canonical grant of a template; ERR_NOT_FOUND: a claim is missing; ERR_INVALID, ERR_MEMORY. */
int policy_fill_template(const json_t *entry, const char *table,
                         const struct source_values *values, json_t **out,
                         struct err *err);

#endif
