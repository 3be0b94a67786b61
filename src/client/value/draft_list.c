/*
 * Lists in an array column: every edit makes a new list and writes the column. An array of several
 * dimensions is a list of its first one: its elements are `stride` items each.
 */

#include "client/value/draft.h"

#include <string.h>

struct list_edit {
    struct coulomb_draft *draft;
    int column;
    coulomb_array array; /* items point to ours */
    coulomb_value *items;
    size_t length; /* of the first dimension */
    size_t stride; /* items in one of its elements */
};

static void list_shape(struct list_edit *e)
{
    if (e->array.count == 0)
        e->array.dims = 0;
    e->length = e->array.dims > 1 ? (size_t)e->array.lengths[0] : e->array.count;
    e->stride = e->length > 0 ? e->array.count / e->length : 1;
}

/* The column as a list, empty when null or absent; its items are copied with room for `more`. */
static int list_open(struct list_edit *e, struct coulomb_draft *d, const char *column,
                     size_t more)
{
    coulomb_value v;
    int i = draft_column(d, column);

    if (i < 0)
        return i;
    if (d->layout->columns[i].type != COULOMB_ARRAY)
        return client_fail(d->client, COULOMB_E_TYPE, "column %s is %s, not an array",
                           column, coulomb_type_name(d->layout->columns[i].type));
    *e = (struct list_edit){.draft = d, .column = i};
    v = d->values[i];
    if (v.type == COULOMB_ARRAY)
        e->array = *v.v.array;
    e->array.element = d->layout->columns[i].element;
    if (more > VALUE_ITEMS_MAX || e->array.count + more > VALUE_ITEMS_MAX)
        return client_fail(d->client, COULOMB_E_LIMIT, "a list of more than %u elements",
                           VALUE_ITEMS_MAX);
    e->items = pool_alloc(&d->pool, (e->array.count + more + 1) * sizeof(*e->items));
    if (!e->items)
        return client_no_memory(d->client);
    if (e->array.count > 0)
        memcpy(e->items, e->array.items, e->array.count * sizeof(*e->items));
    list_shape(e);
    return COULOMB_OK;
}

static int list_write(struct list_edit *e)
{
    coulomb_value v = coulomb_array_value(&e->array);

    e->array.items = e->items;
    if (e->array.dims > 1)
        e->array.lengths[0] = (int32_t)e->length;
    else
        e->array.dims = 1;
    if (e->array.count == 0)
        e->array.dims = 0;
    return draft_put(e->draft, (size_t)e->column, &v);
}

/* --- Splicing ---------------------------------------------------------------------------------- */

static int bad_item(struct list_edit *e, const char *wanted)
{
    return client_fail(e->draft->client, COULOMB_E_TYPE,
                       "an element of the list of column %s is %s",
                       e->draft->layout->columns[e->column].name, wanted);
}

/* Whether the item is one of the list's elements, which are arrays. */
static bool fits(const struct list_edit *e, const coulomb_value *item)
{
    const coulomb_array *a = item->v.array;
    int dims;

    if (item->type != COULOMB_ARRAY || !a || a->element != e->array.element ||
        a->count != e->stride)
        return false;
    dims = a->dims > 1 ? a->dims : 1;
    if (dims + 1 != e->array.dims)
        return false;
    for (int i = 0; dims > 1 && i < dims; i++) {
        if (a->lengths[i] != e->array.lengths[i + 1])
            return false;
    }
    return true;
}

/* An empty list gets its shape from what comes in. */
static int take_shape(struct list_edit *e, const coulomb_value *first)
{
    const coulomb_array *a = first->v.array;
    int dims;

    if (first->type != COULOMB_ARRAY)
        return COULOMB_OK;
    dims = a ? (a->dims > 1 ? a->dims : 1) : 0;
    if (!a || a->count == 0 || dims + 1 > COULOMB_ARRAY_DIMS_MAX)
        return bad_item(e, "no array that is empty or of more than 5 dimensions");
    e->array.dims = dims + 1;
    e->stride = a->count;
    e->array.lengths[0] = 0;
    e->array.lengths[1] = (int32_t)a->count;
    for (int i = 0; dims > 1 && i < dims; i++)
        e->array.lengths[i + 1] = a->lengths[i];
    return COULOMB_OK;
}

static int check_items(struct list_edit *e, const coulomb_value *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (e->array.dims > 1 && !fits(e, &items[i]))
            return bad_item(e, "an array, of one shape with the others");
        if (e->array.dims <= 1 && items[i].type == COULOMB_ARRAY)
            return bad_item(e, "no array; the list is of one dimension");
    }
    return COULOMB_OK;
}

/* The elements from `to` on are these. */
static void put_items(struct list_edit *e, coulomb_value *to, const coulomb_value *items,
                      size_t count)
{
    for (size_t i = 0; i < count; i++)
        memcpy(to + i * e->stride,
               e->array.dims > 1 ? items[i].v.array->items : &items[i],
               e->stride * sizeof(*to));
}

static size_t item_count(const coulomb_value *items, size_t count)
{
    size_t n = 0;

    for (size_t i = 0; i < count && n <= VALUE_ITEMS_MAX; i++)
        n += items[i].type == COULOMB_ARRAY && items[i].v.array ? items[i].v.array->count
                                                                : 1;
    return n;
}

int coulomb_draft_array_splice(coulomb_draft *d, const char *column, size_t at,
                               size_t remove, const coulomb_value *items, size_t count)
{
    struct list_edit e;
    coulomb_value *from;
    int code = list_open(&e, d, column, item_count(items, count));

    if (code != COULOMB_OK)
        return code;
    if (at > e.length || remove > e.length - at)
        return client_fail(d->client, COULOMB_E_ARGUMENT,
                           "elements %zu to %zu of a list of %zu", at, at + remove,
                           e.length);
    if (e.length == 0 && count > 0)
        code = take_shape(&e, &items[0]);
    if (code == COULOMB_OK)
        code = check_items(&e, items, count);
    if (code != COULOMB_OK)
        return code;
    from = e.items + at * e.stride;
    memmove(from + count * e.stride, from + remove * e.stride,
            (e.length - at - remove) * e.stride * sizeof(*from));
    put_items(&e, from, items, count);
    e.length = e.length - remove + count;
    e.array.count = e.length * e.stride;
    return list_write(&e);
}

int coulomb_draft_array_push(coulomb_draft *d, const char *column, coulomb_value item)
{
    coulomb_value v = coulomb_draft_get(d, column);
    const coulomb_array *a = v.type == COULOMB_ARRAY ? v.v.array : NULL;
    size_t end = a && a->dims > 1 ? (size_t)a->lengths[0] : 0;

    if (a && a->dims <= 1)
        end = a->count;
    return coulomb_draft_array_splice(d, column, end, 0, &item, 1);
}

int coulomb_draft_array_set(coulomb_draft *d, const char *column, const size_t *index,
                            size_t dims, coulomb_value item)
{
    struct list_edit e;
    size_t at = 0;
    int code = list_open(&e, d, column, 0);

    if (code != COULOMB_OK)
        return code;
    if (dims != (size_t)e.array.dims &&
        !(dims == 1 && e.array.count > 0 && e.array.dims < 2))
        return client_fail(d->client, COULOMB_E_ARGUMENT,
                           "%zu indexes of an array of %d dimensions", dims,
                           e.array.dims);
    for (size_t i = 0; i < dims; i++) {
        size_t length = e.array.dims > 1 ? (size_t)e.array.lengths[i] : e.array.count;

        if (index[i] >= length)
            return client_fail(d->client, COULOMB_E_ARGUMENT,
                               "element %zu of a dimension of %zu", index[i], length);
        at = at * length + index[i];
    }
    if (item.type == COULOMB_ARRAY)
        return bad_item(&e, "no array");
    e.items[at] = item;
    return list_write(&e);
}

/* --- Order ------------------------------------------------------------------------------------- */

/* Elements as in `order` (the first item of each). */
static int gather(struct list_edit *e, coulomb_value **order)
{
    coulomb_value *items =
        pool_alloc(&e->draft->pool, (e->array.count + 1) * sizeof(*items));

    if (!items)
        return client_no_memory(e->draft->client);
    for (size_t i = 0; i < e->length; i++)
        memcpy(items + i * e->stride, order[i], e->stride * sizeof(*items));
    e->items = items;
    return list_write(e);
}

/* Pointers to the elements, with room for as many again. */
static int elements(struct list_edit *e, coulomb_value ***out)
{
    *out = pool_alloc(&e->draft->pool, (2 * e->length + 1) * sizeof(coulomb_value *));
    if (!*out)
        return client_no_memory(e->draft->client);
    for (size_t i = 0; i < e->length; i++)
        (*out)[i] = e->items + i * e->stride;
    return COULOMB_OK;
}

int coulomb_draft_array_reverse(coulomb_draft *d, const char *column)
{
    struct list_edit e;
    coulomb_value **order;
    int code = list_open(&e, d, column, 0);

    if (code == COULOMB_OK)
        code = elements(&e, &order);
    if (code != COULOMB_OK)
        return code;
    for (size_t k = 0; k < e.length / 2; k++) {
        coulomb_value *other = order[k];

        order[k] = order[e.length - 1 - k];
        order[e.length - 1 - k] = other;
    }
    return gather(&e, order);
}

/* By their items, one after the other. */
static int compare_elements(struct list_edit *e, const coulomb_value *a,
                            const coulomb_value *b, int *order)
{
    struct arena *arena = &e->draft->client->scratch;
    int code = COULOMB_OK;

    *order = 0;
    arena_reset(arena);
    for (size_t i = 0; i < e->stride && *order == 0 && code == COULOMB_OK; i++)
        code = value_compare(&a[i], &b[i], arena, order);
    return code;
}

/* Merge sort: stable, no recursion, stops at the first comparison that fails. */
static int merge_runs(struct list_edit *e, coulomb_value **items, coulomb_value **other)
{
    size_t count = e->length;

    for (size_t width = 1; width < count; width *= 2) {
        for (size_t begin = 0; begin < count; begin += 2 * width) {
            size_t mid = begin + width < count ? begin + width : count;
            size_t end = begin + 2 * width < count ? begin + 2 * width : count;
            size_t a = begin;
            size_t b = mid;

            for (size_t k = begin; k < end; k++) {
                int order = a < mid ? -1 : 1;
                int code = a < mid && b < end
                               ? compare_elements(e, items[a], items[b], &order)
                               : COULOMB_OK;

                if (code != COULOMB_OK)
                    return code;
                other[k] = order <= 0 ? items[a++] : items[b++];
            }
        }
        memcpy(items, other, count * sizeof(coulomb_value *));
    }
    return COULOMB_OK;
}

int coulomb_draft_array_sort(coulomb_draft *d, const char *column)
{
    struct list_edit e;
    coulomb_value **order;
    int code = list_open(&e, d, column, 0);

    if (code == COULOMB_OK)
        code = elements(&e, &order);
    if (code != COULOMB_OK)
        return code;
    code = merge_runs(&e, order, order + e.length);
    if (code != COULOMB_OK)
        return client_fail(d->client, code, "the list of column %s can't be sorted",
                           column);
    return gather(&e, order);
}
