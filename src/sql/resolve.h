/* The parser's tree to ours, by kinds of nodes. Internal to sql/: resolve.c (entry, tests),
 * resolve_op.c (operators), resolve_name.c (type names, literals, references). */
#ifndef COULOMB_SQL_RESOLVE_H
#define COULOMB_SQL_RESOLVE_H

#include <pg_query/pg_query.pb-c.h>

#include "sql/expr_tree.h"

/* parse.c: the caller's text behind a prefix, which has to come back as one SELECT of a constant
 * and nothing but the clause that the prefix begins. */
struct parse {
    struct resolve *r; /* err, arena, uncounted are set; gets the text */
    const char *what;  /* "where-clause", for messages */
    const char *prefix;
    const char *split; /* the message when there are several statements */
    bool printed;      /* by sql_expr_print: of any length, and never deep */
    /* On the parser's stack, which may be another thread's. False: it has another clause. */
    bool (*read)(struct parse *p, const PgQuery__SelectStmt *select);
};
/* 0, r->rc, or what sql_where_parse gives for a text that can't be parsed at all. */
int parse_select(struct parse *p, struct slice text);

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
