/*
 * Arrays until array.c is there: there are none. Weak, so that both may stand side by side for
 * the moment of a merge; then this file goes.
 */

#include "sql/types.h"

__attribute__((weak)) int sql_array_dims(const struct sql_array *a)
{
    (void)a;
    return 0;
}

__attribute__((weak)) size_t sql_array_count(const struct sql_array *a)
{
    (void)a;
    return 0;
}

__attribute__((weak)) const struct sql_value *sql_array_items(const struct sql_array *a)
{
    (void)a;
    return NULL;
}

__attribute__((weak)) const struct sql_array *
sql_array_make(struct arena *arena, const struct sql_value *items, size_t count)
{
    (void)arena;
    (void)items;
    (void)count;
    return NULL;
}
