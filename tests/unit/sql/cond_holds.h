/* What an index would conclude from a clause's conditions, the slow way: over a row's values, each
 * kind by its definition in expr.h. */
#ifndef COULOMB_TESTS_UNIT_SQL_COND_HOLDS_H
#define COULOMB_TESTS_UNIT_SQL_COND_HOLDS_H

#include "sql/expr.h"

static inline bool cond_among(const struct sql_cond *c, const struct sql_value *v)
{
    for (size_t i = 0; i < c->value_count; i++) {
        if (sql_value_cmp(c->type, v, &c->values[i]) == 0)
            return true;
    }
    return false;
}

/* How many of the values are elements of the array. */
static inline size_t cond_found(const struct sql_cond *c, const struct sql_array *array)
{
    size_t found = 0;

    for (size_t i = 0; i < c->value_count; i++) {
        bool has = false;

        for (size_t k = 0; k < sql_array_count(array); k++) {
            const struct sql_value *item = &sql_array_items(array)[k];

            has =
                has || (!item->null && sql_value_cmp(c->type, item, &c->values[i]) == 0);
        }
        found += has;
    }
    return found;
}

static inline bool cond_within(const struct sql_cond *c, const struct sql_value *v)
{
    int low = c->low ? sql_value_cmp(c->type, v, c->low) : 1;
    int high = c->high ? sql_value_cmp(c->type, v, c->high) : -1;

    return (c->low_open ? low > 0 : low >= 0) && (c->high_open ? high < 0 : high <= 0);
}

static inline bool cond_leaf_holds(const struct sql_cond *c, const struct sql_value *v)
{
    switch (c->kind) {
    case SQL_COND_NULL:
        return v->null;
    case SQL_COND_IN:
        return !v->null && cond_among(c, v);
    case SQL_COND_MEMBER:
    case SQL_COND_CONTAINS:
        return !v->null && cond_found(c, v->array) == c->value_count;
    case SQL_COND_TRUE:
        return !v->null && v->b;
    case SQL_COND_FALSE:
        return !v->null && !v->b;
    case SQL_COND_RANGE:
        return !v->null && cond_within(c, v);
    case SQL_COND_PREFIX:
        return !v->null && v->s.len >= c->values[0].s.len &&
               memcmp(v->s.ptr, c->values[0].s.ptr, c->values[0].s.len) == 0;
    case SQL_COND_NEVER:
        return false;
    case SQL_COND_AND:
    case SQL_COND_OR:
    case SQL_COND_ALWAYS:
    case SQL_COND_OTHER:
        break;
    }
    return true;
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the tree, which is bounded
static inline bool cond_holds(const struct sql_cond *c, const struct sql_value *row)
{
    bool is_or = c->kind == SQL_COND_OR;

    if (c->kind != SQL_COND_AND && !is_or)
        return cond_leaf_holds(c, &row[c->column]);
    for (size_t i = 0; i < c->child_count; i++) {
        if (cond_holds(&c->children[i], row) == is_or)
            return is_or;
    }
    return !is_or;
}

#endif
