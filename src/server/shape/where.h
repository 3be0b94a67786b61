/* A where-clause on its way from a request to the shape that it makes: the tree, resolved
 * against a table, and its canonical text. Immutable, reference-counted, any thread. A shape
 * keeps the text only (def.h); what follows the stream is in the router. */
#ifndef COULOMB_SERVER_SHAPE_WHERE_H
#define COULOMB_SERVER_SHAPE_WHERE_H

#include <stdatomic.h>

#include "base/arena.h"
#include "server/catalog/table.h"

/* Bytes of a canonical text. Every cast is written out there, so it is longer than what was
 * given, which has SQL_WHERE_MAX_BYTES at most. */
#define SHAPE_WHERE_TEXT_MAX (2u << 20)

struct shape_where {
    atomic_uint refs;
    struct table *table; /* a reference: the tree borrows its table_sql */
    struct arena arena;  /* of all below */
    const struct sql_expr *expr;
    struct slice text;       /* canonical: clauses are equal iff it is */
    const uint16_t *columns; /* that the clause reads: ascending indexes */
    size_t column_count;
    bool maps_case; /* its answers depend on table->case_map */
};

/* params may be NULL: none. ERR_INVALID or ERR_UNSUPPORTED (400, with the message of
 * shape-protocol.md 6.7), ERR_LIMIT (400: too complex), ERR_RETRY, ERR_MEMORY. Takes some
 * 100 µs. */
int shape_where_parse(struct table *table, struct slice text,
                      const struct sql_params *params, struct shape_where **out,
                      struct err *err);
/* Of a canonical text, as a definition keeps it. The same errors, but for other reasons: the
 * table is another one than it was made with, or this version reads it in another way. */
int shape_where_reparse(struct table *table, struct slice text, struct shape_where **out,
                        struct err *err);
struct shape_where *shape_where_retain(struct shape_where *where);
void shape_where_release(struct shape_where *where); /* NULL is fine */

#endif
