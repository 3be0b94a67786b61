/* Arrays as array.c and array_ops.c share them. Internal to sql/. */
#ifndef COULOMB_SQL_ARRAY_H
#define COULOMB_SQL_ARRAY_H

#include "sql/value.h"

/* Elements lie in row-major order; an empty array has no dimensions. */
struct sql_array {
    int dims;
    int32_t length[SQL_ARRAY_DIMS_MAX];
    int32_t lower[SQL_ARRAY_DIMS_MAX];
    size_t count;
    const struct sql_value *items;
};

static inline struct sql_type array_element(struct sql_type type)
{
    type.array = false;
    return type;
}

#endif
