/* A jsonb value as a tree: what jsonb.c and jsonb_ops.c share, and the client, whose memory may run
 * out where a comparison of sql/ could not say so. */
#ifndef COULOMB_SQL_JSONB_H
#define COULOMB_SQL_JSONB_H

#include "sql/value.h"

/* In the order that Postgres gives values of different kinds. */
enum jsonb_kind {
    JSONB_NULL,
    JSONB_STRING,
    JSONB_NUMBER,
    JSONB_BOOL,
    JSONB_ARRAY,
    JSONB_OBJECT
};

struct jsonb_node {
    enum jsonb_kind kind;
    bool b;
    struct slice key;    /* in an object: ordered by length, then bytes; none twice */
    struct slice string; /* unescaped */
    const struct sql_numeric *number;
    size_t count;
    struct jsonb_node *items;
    struct jsonb_node *next; /* while it is being built */
    size_t place;            /* in the text, which decides between equal keys */
};

int jsonb_parse(struct slice text, struct arena *arena, struct jsonb_node *root,
                struct err *err);
/* The text of a value, as jsonb_out makes it. */
void jsonb_print(const struct jsonb_node *n, struct buf *out);
int jsonb_cmp(const struct jsonb_node *a, const struct jsonb_node *b);
/* Of whole values, whose scalars count as arrays of one, as Postgres stores them: its order. */
int jsonb_cmp_roots(const struct jsonb_node *a, const struct jsonb_node *b);
uint64_t jsonb_hash(const struct jsonb_node *n, uint64_t seed);
const struct jsonb_node *jsonb_member(const struct jsonb_node *object, struct slice key);

static inline bool jsonb_scalar(const struct jsonb_node *n)
{
    return n->kind < JSONB_ARRAY;
}

#endif
