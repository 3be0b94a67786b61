/* What the catalog says of one table. Immutable and reference-counted: any thread may read. */
#ifndef COULOMB_SERVER_CATALOG_TABLE_H
#define COULOMB_SERVER_CATALOG_TABLE_H

#include <stdatomic.h>

#include "base/buf.h"
#include "server/catalog/case_map.h"
#include "sql/expr.h"

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

    /* What a clause needs to know besides (table_sql). */
    uint32_t base_oid; /* what a domain is over; 0: the type is none */
    int32_t base_typmod;
    enum sql_collation collation;
    uint32_t collation_oid;           /* pg_attribute.attcollation */
    const struct sql_enum *enum_type; /* of an enum, an array of or a domain over one,
                                         else NULL; owned by the table */
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
    enum sql_collation collation; /* the database's: C, DETERMINISTIC or OTHER */
    /* Names how the database maps case; empty: that is beyond us. */
    struct slice case_map_id;
    struct case_map *case_map; /* a reference, or NULL: not known (yet) */
    struct sql_table *sql;     /* table_sql */
};

/* An owned deep copy (one reference) of a model whose texts and arrays are borrowed; the model's
 * refs and sql are not looked at. NULL: out of memory. */
struct table *table_copy(const struct table *model);
/* Makes t->sql of everything else, for who builds a table by hand; ERR_MEMORY. */
int table_make_sql(struct table *t);
/* For who has just made the table: takes a reference to the map whose id is the table's. */
void table_set_case_map(struct table *t, struct case_map *map);
/* A copy in one piece, for free(); NULL: out of memory. */
struct sql_enum *table_enum_copy(const struct sql_enum *e);
struct table *table_retain(struct table *t);
void table_release(struct table *t);
/* Index of the column, or -1. */
int table_column_index(const struct table *t, struct slice name);
/* "schema"."name" with quotes doubled, as in keys and SQL. */
void table_put_name(struct buf *out, const struct table *t);
/* Same OID, name, columns (name, type, typmod, not null, generated, collation; of domains what
 * they are over, of enums their name and labels), primary key and case of letters. An enum that
 * only got more labels is the same: no row and no clause of before means anything else. */
bool table_same(const struct table *a, const struct table *b);
/* Whether the same tables are below them. */
bool table_same_children(const struct table *a, const struct table *b);
/* The table as clauses see it, its columns at the same indexes. Lives as long as the table. */
const struct sql_table *table_sql(const struct table *t);
/* Whether clauses over this column mean the same in both. */
bool table_column_sql_same(const struct table_column *a, const struct table_column *b);

/* The value of the electric-schema header (shape-protocol.md 2.5) for the selected columns
 * (indexes into columns, ascending): one line of compact JSON. */
void table_put_schema(struct buf *out, const struct table *t, const uint16_t *selected,
                      size_t count);

#endif
