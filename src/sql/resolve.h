/* The parser's tree to ours, by kinds of nodes. Internal to sql/: resolve.c (entry, names, tests),
 * resolve_op.c (operators), resolve_name.c (type names, literals, references). */
#ifndef COULOMB_SQL_RESOLVE_H
#define COULOMB_SQL_RESOLVE_H

#include <pg_query/pg_query.pb-c.h>

#include "sql/expr_tree.h"

/* Any node; NULL in, NULL out without an error only when r->rc is set. Depth-bounded. */
struct sql_expr *resolve_node(struct resolve *r, const PgQuery__Node *node);
/* The same, as a boolean: `what` says of which construct it is the argument. */
struct sql_expr *resolve_bool(struct resolve *r, const PgQuery__Node *node,
                              const char *what);
/* Each of a list; an arena array of n, or NULL. */
struct sql_expr **resolve_list(struct resolve *r, PgQuery__Node *const *nodes, size_t n);

/* resolve_op.c */
struct sql_expr *resolve_operator(struct resolve *r, const PgQuery__AExpr *a);

/* resolve_name.c */
struct sql_expr *resolve_const(struct resolve *r, const PgQuery__AConst *c);
struct sql_expr *resolve_column(struct resolve *r, const PgQuery__ColumnRef *c);
struct sql_expr *resolve_param(struct resolve *r, const PgQuery__ParamRef *p);
/* False: refused. */
bool resolve_type(struct resolve *r, const PgQuery__TypeName *name, struct sql_type *out,
                  const struct sql_enum **enumeration);
/* The type of that pg_type.typname; false when there is none. */
bool resolve_type_name(const char *name, struct sql_type *out);
/* The last name, when the others are only pg_catalog; else NULL. */
const char *resolve_plain_name(PgQuery__Node *const *names, size_t n);
/* "ColumnRef", for messages. */
const char *resolve_node_name(const PgQuery__Node *node);

#endif
