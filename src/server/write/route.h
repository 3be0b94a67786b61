/* Application routes: which method and path means which write, call or shape.
 *
 *   {"routes": [
 *     {"method": "GET", "path": "/todos", "shape": {"table": "todos",
 *        "where": "owner = $1", "params": ["claims.sub"]}},
 *     {"method": "POST", "path": "/todos", "insert": {"table": "todos",
 *        "values": {"id": "body.id", "title": "body.title", "owner": "claims.sub"}}},
 *     {"method": "PUT", "path": "/todos/:id", "update": {"table": "todos",
 *        "key": {"id": "path.id"}, "values": {"done": "body.done"}}},
 *     {"method": "DELETE", "path": "/todos/:id", "delete": {"table": "todos",
 *        "key": {"id": "path.id"}}},
 *     {"method": "POST", "path": "/changes", "changes": {"table": "todos",
 *        "columns": ["id", "title", "done", "write_id"]}},
 *     {"method": "POST", "path": "/questions/send", "function": {"name": "app.send_question",
 *        "args": {"conversation": "body.conversationId"}}}]}
 *
 * A shape's table must not have row-level security, which its clause would pass by, unless the shape
 * says "row_security": "ignore".
 *
 * Every route may have "auth": "none" (it runs as the anonymous role) and those that write
 * "id": SOURCE (the idempotency id, when there is no header) and "required": [body members].
 * Where values come from is told in server/gate/source.h; "body." names members of the body. */
#ifndef COULOMB_SERVER_WRITE_ROUTE_H
#define COULOMB_SERVER_WRITE_ROUTE_H

#include "server/gate/gate.h"
#include "server/write/writer.h"

struct routes;
struct route;

enum route_kind { ROUTE_SHAPE, ROUTE_MUTATION, ROUTE_CHANGES, ROUTE_FUNCTION };

/* ERR_INVALID with a sentence that names the route. anonymous: whether "auth": "none" may be. */
int routes_new(struct slice text, bool anonymous, struct routes **out, struct err *err);
void routes_free(struct routes *routes); /* NULL is fine */

/* The route of a normalised path, or NULL. *path_known: some method has it. */
const struct route *routes_match(const struct routes *routes, struct slice method,
                                 struct slice path, bool *path_known);
enum route_kind route_kind(const struct route *route);
bool route_needs_token(const struct route *route);
/* The table of a shape that must not have row-level security; NULL: it says
 * "row_security": "ignore". */
const char *route_guarded_table(const struct route *route);

/* What the caller may see by a shape's route: an owned grant in canonical form. token NULL: nobody is
 * signed in. As policy_fill_template. */
int route_grant(const struct route *route, struct slice path, const struct token *token,
                json_t **out, struct err *err);
/* Makes the job's transaction or call, and its id when the route has one and the job has none yet;
 * the job's arena holds the body. ERR_INVALID and the job refused; ERR_MEMORY. */
int route_fill(const struct route *route, struct slice path, struct slice body,
               const struct token *token, const struct write_limits *limits,
               struct write_job *job);

#endif
