/* What definitions that differ only in their rows and their log mode have in common: the table, the
 * selected columns, and what is made of them. Immutable, reference-counted, any thread. */
#ifndef COULOMB_SERVER_SHAPE_COLUMNS_H
#define COULOMB_SERVER_SHAPE_COLUMNS_H

#include "server/catalog/table.h"
#include "server/row/encode.h"

struct shape_columns {
    atomic_uint refs;
    struct table *table; /* a reference */
    struct encode_plan *plan;
    uint16_t *selected; /* ascending indexes into the table's columns */
    uint16_t selected_count;
    uint16_t strict_count;
    bool all;               /* no explicit list was given */
    const uint16_t *strict; /* selected ones that are not_null, without the key's */
    enum encode_replica replica;
    char *schema_header; /* the electric-schema value, terminated */
};

/* selected is in any order, without duplicates; NULL: all. NULL: no memory. */
struct shape_columns *shape_columns_new(struct table *table, const uint16_t *selected,
                                        size_t count, enum encode_replica replica);
struct shape_columns *shape_columns_retain(struct shape_columns *columns);
void shape_columns_release(struct shape_columns *columns); /* NULL is fine */
/* Whether one can stand for the other. */
bool shape_columns_same(const struct shape_columns *a, const struct shape_columns *b);

#endif
