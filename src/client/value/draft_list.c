/*
 * Lists in an array column: every edit makes a new list and writes the column.
 */

#include "client/value/draft.h"

#include <string.h>

/* The column as a list, empty when null or absent; its items are copied with room for `more`. */
static int list_open(struct coulomb_draft *d, const char *column, size_t more,
                     coulomb_array *list, coulomb_value **items, int *number)
{
    static const coulomb_array none = {COULOMB_NULL, 0, 0, NULL, {0}};
    const coulomb_array *old = &none;
    int i = draft_column(d, column);

    if (i < 0)
        return i;
    if (d->layout->columns[i].type != COULOMB_ARRAY)
        return client_fail(d->client, COULOMB_E_TYPE, "column %s is %s, not an array",
                           column, coulomb_type_name(d->layout->columns[i].type));
    if (d->values[i].type == COULOMB_ARRAY)
        old = d->values[i].v.array;
    if (old->dims > 1)
        return client_fail(d->client, COULOMB_E_TYPE,
                           "column %s has an array of %d dimensions, not a list", column,
                           old->dims);
    if (more > VALUE_ITEMS_MAX || old->count + more > VALUE_ITEMS_MAX)
        return client_fail(d->client, COULOMB_E_LIMIT, "a list of more than %u elements",
                           VALUE_ITEMS_MAX);
    *items = pool_alloc(&d->pool, (old->count + more + 1) * sizeof(**items));
    if (!*items)
        return client_no_memory(d->client);
    if (old->count > 0)
        memcpy(*items, old->items, old->count * sizeof(**items));
    *list = (coulomb_array){
        .element = d->layout->columns[i].element, .count = old->count, .items = *items};
    *number = i;
    return COULOMB_OK;
}

static int list_write(struct coulomb_draft *d, int column, coulomb_array *list)
{
    coulomb_value v = coulomb_array_value(list);

    list->dims = list->count > 0;
    return draft_put(d, (size_t)column, &v);
}

int coulomb_draft_array_splice(coulomb_draft *d, const char *column, size_t at,
                               size_t remove, const coulomb_value *items, size_t count)
{
    coulomb_array list;
    coulomb_value *to;
    int i;
    int code = list_open(d, column, count, &list, &to, &i);

    if (code != COULOMB_OK)
        return code;
    if (at > list.count || remove > list.count - at)
        return client_fail(d->client, COULOMB_E_ARGUMENT,
                           "elements %zu to %zu of a list of %zu", at, at + remove,
                           list.count);
    memmove(to + at + count, to + at + remove, (list.count - at - remove) * sizeof(*to));
    if (count > 0)
        memcpy(to + at, items, count * sizeof(*to));
    list.count = list.count - remove + count;
    return list_write(d, i, &list);
}

int coulomb_draft_array_push(coulomb_draft *d, const char *column, coulomb_value item)
{
    coulomb_value v = coulomb_draft_get(d, column);
    size_t end = v.type == COULOMB_ARRAY ? v.v.array->count : 0;

    return coulomb_draft_array_splice(d, column, end, 0, &item, 1);
}

int coulomb_draft_array_reverse(coulomb_draft *d, const char *column)
{
    coulomb_array list;
    coulomb_value *items;
    int i;
    int code = list_open(d, column, 0, &list, &items, &i);

    if (code != COULOMB_OK)
        return code;
    for (size_t k = 0; k < list.count / 2; k++) {
        coulomb_value other = items[k];

        items[k] = items[list.count - 1 - k];
        items[list.count - 1 - k] = other;
    }
    return list_write(d, i, &list);
}

/* Merge sort: stable, no recursion, stops at the first comparison that fails. */
static int merge_runs(struct coulomb_draft *d, coulomb_value *items, coulomb_value *other,
                      size_t count)
{
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t begin = 0; begin < count; begin += 2 * width) {
            size_t mid = begin + width < count ? begin + width : count;
            size_t end = begin + 2 * width < count ? begin + 2 * width : count;
            size_t a = begin;
            size_t b = mid;

            for (size_t k = begin; k < end; k++) {
                int order = a < mid ? -1 : 1;

                if (a < mid && b < end) {
                    int code =
                        value_compare(&items[a], &items[b], &d->client->scratch, &order);

                    if (code != COULOMB_OK)
                        return code;
                }
                other[k] = order <= 0 ? items[a++] : items[b++];
            }
        }
        memcpy(items, other, count * sizeof(*items));
    }
    return COULOMB_OK;
}

int coulomb_draft_array_sort(coulomb_draft *d, const char *column)
{
    coulomb_array list;
    coulomb_value *items;
    coulomb_value *other;
    int i;
    int code = list_open(d, column, 0, &list, &items, &i);

    if (code != COULOMB_OK)
        return code;
    other = pool_alloc(&d->pool, (list.count + 1) * sizeof(*other));
    if (!other)
        return client_no_memory(d->client);
    arena_reset(&d->client->scratch);
    code = merge_runs(d, items, other, list.count);
    if (code != COULOMB_OK)
        return client_fail(d->client, code, "the list of column %s can't be sorted",
                           column);
    return list_write(d, i, &list);
}
