/* What the catalog says of one table. Immutable and reference-counted: any thread may read. */
#ifndef COULOMB_SERVER_CATALOG_TABLE_H
#define COULOMB_SERVER_CATALOG_TABLE_H

#include <stdatomic.h>

#include "base/buf.h"

struct table_column {
    struct slice name;
    struct slice type_name; /* pg_type.typname; the element's when dims > 0 */
    uint32_t type_oid;      /* pg_attribute.atttypid (of the array itself, for arrays) */
    int32_t typmod;         /* -1: none */
    int32_t dims;           /* attndims */
    int16_t attnum;
    int16_t pk_index; /* position in the primary key, -1 outside it */
    bool not_null;
    bool generated; /* by an expression, and this Postgres does not publish it */
};

struct table {
    atomic_uint refs;
    uint32_t oid;
    struct slice schema;
    struct slice name;
    char kind;             /* relkind: 'r' or 'p' */
    char replica_identity; /* relreplident */
    bool is_partition;
    bool has_pk;
    uint16_t column_count;
    uint16_t pk_count; /* without a primary key: all columns, in attribute order */
    struct table_column *columns; /* attribute order, dropped ones left out */
    uint16_t *pk;                 /* indexes into columns */
    uint32_t *children; /* OIDs of all descendants (partitions, INHERITS), sorted */
    uint32_t child_count;
};

/* An owned deep copy (one reference) of a model whose texts and arrays are borrowed; the model's
 * refs is not looked at. NULL: out of memory. */
struct table *table_copy(const struct table *model);
struct table *table_retain(struct table *t);
void table_release(struct table *t);
/* Index of the column, or -1. */
int table_column_index(const struct table *t, struct slice name);
/* "schema"."name" with quotes doubled, as in keys and SQL. */
void table_put_name(struct buf *out, const struct table *t);
/* Same OID, name, columns (name, type, typmod, not null, generated) and primary key. */
bool table_same(const struct table *a, const struct table *b);

/* The value of the electric-schema header (shape-protocol.md 2.5) for the selected columns
 * (indexes into columns, ascending): one line of compact JSON. */
void table_put_schema(struct buf *out, const struct table *t, const uint16_t *selected,
                      size_t count);

#endif
