/*
 * What expressions do with arrays beyond the catalog's functions: subscripts, slices, ANY and
 * ALL, casts of the elements (Postgres: arrayfuncs.c, execExprInterp.c).
 */

#include "sql/array.h"
#include "sql/expr_tree.h"

static enum sql_failure no_memory(struct sql_call *call)
{
    (void)sql_no_memory(call->err);
    return SQL_FAILED;
}

enum sql_failure expr_cast_array(struct sql_call *call, const struct sql_function *fn,
                                 const struct sql_value *in, struct sql_value *out)
{
    struct sql_type element = type_element(call->types[0]);
    struct sql_call inner = {call->arena, call->err, &element, 1, NULL};
    struct sql_array *made = arena_alloc(call->arena, sizeof(*made));
    struct sql_value *items = arena_calloc(call->arena, in->array->count, sizeof(*items));

    if (!made || !items)
        return no_memory(call);
    *made = *in->array;
    made->items = items;
    for (size_t i = 0; i < made->count; i++) {
        const struct sql_value *item = &in->array->items[i];

        items[i].null = item->null;
        if (!item->null && fn->fn(&inner, item, &items[i]) != SQL_FINE)
            return SQL_FAILED;
    }
    *out = (struct sql_value){.array = made};
    return SQL_FINE;
}

enum sql_failure expr_any(struct sql_call *call, const struct sql_function *fn, bool all,
                          const struct sql_value *a, const struct sql_array *array,
                          struct sql_value *out)
{
    bool unknown = false;

    for (size_t i = 0; i < array->count; i++) {
        struct sql_value pair[2] = {*a, array->items[i]};
        struct sql_value one = {.null = true};

        if (!(fn->strict && (pair[0].null || pair[1].null)) &&
            fn->fn(call, pair, &one) != SQL_FINE)
            return SQL_FAILED;
        if (one.null)
            unknown = true;
        else if (one.b != all)
            return sql_bool_result(out, !all);
    }
    return unknown ? sql_null_result(out) : sql_bool_result(out, all);
}

/* The element; NULL where there is none, or with another number of subscripts than dimensions. */
static void element(const struct sql_array *a, const struct sql_value *subscripts,
                    int count, struct sql_value *out)
{
    size_t at = 0;

    *out = (struct sql_value){.null = true};
    if (a->dims != count)
        return;
    for (int i = 0; i < count; i++) {
        int64_t offset = subscripts[i].i - a->lower[i];

        if (offset < 0 || offset >= a->length[i])
            return;
        at = at * (size_t)a->length[i] + (size_t)offset;
    }
    *out = a->items[at];
}

/* Where each dimension of the slice begins, as an offset, and how long it is; false: it is empty.
 * Of dimensions without a subscript all is taken. */
static bool slice_bounds(const struct sql_array *a, const struct sql_value *bounds,
                         int count, unsigned omitted, int64_t *from, int32_t *length)
{
    if (a->dims < count || a->dims == 0)
        return false;
    for (int i = 0; i < a->dims; i++) {
        int64_t first = a->lower[i];
        int64_t last = first + a->length[i] - 1;
        int64_t low = first, high = last;

        if (i < count && !(omitted >> (2 * i) & 1) && bounds[2 * i].i > low)
            low = bounds[2 * i].i;
        if (i < count && !(omitted >> (2 * i + 1) & 1) && bounds[2 * i + 1].i < high)
            high = bounds[2 * i + 1].i;
        if (low > high)
            return false;
        from[i] = low - first;
        length[i] = (int32_t)(high - low + 1);
    }
    return true;
}

/* Copies the slice's elements in row-major order, counting through its dimensions. */
static void copy_slice(const struct sql_array *a, const int64_t *from,
                       struct sql_array *made, struct sql_value *items)
{
    int32_t index[SQL_ARRAY_DIMS_MAX] = {0};

    for (size_t n = 0; n < made->count; n++) {
        size_t at = 0;
        int i = made->dims - 1;

        for (int k = 0; k < made->dims; k++)
            at = at * (size_t)a->length[k] + (size_t)(from[k] + index[k]);
        items[n] = a->items[at];
        while (i >= 0 && ++index[i] == made->length[i])
            index[i--] = 0;
    }
}

static enum sql_failure slice(struct sql_call *call, const struct sql_array *a,
                              const struct sql_value *bounds, int count, unsigned omitted,
                              struct sql_value *out)
{
    struct sql_array *made = arena_zalloc(call->arena, sizeof(*made));
    int64_t from[SQL_ARRAY_DIMS_MAX];
    struct sql_value *items;

    if (!made)
        return no_memory(call);
    *out = (struct sql_value){.array = made};
    if (!slice_bounds(a, bounds, count, omitted, from, made->length))
        return SQL_FINE;
    made->dims = a->dims;
    made->count = 1;
    for (int i = 0; i < made->dims; i++) {
        made->count *= (size_t)made->length[i];
        made->lower[i] = 1;
    }
    items = arena_calloc(call->arena, made->count, sizeof(*items));
    if (!items)
        return no_memory(call);
    copy_slice(a, from, made, items);
    made->items = items;
    return SQL_FINE;
}

enum sql_failure expr_subscript(struct sql_call *call, bool is_slice, unsigned omitted,
                                const struct sql_value *args, size_t count,
                                struct sql_value *out)
{
    for (size_t i = 0; i < count; i++) {
        bool left_out = is_slice && i > 0 && (omitted >> (i - 1) & 1);

        if (args[i].null && !left_out)
            return sql_null_result(out);
    }
    if (is_slice)
        return slice(call, args[0].array, args + 1, (int)(count - 1) / 2, omitted, out);
    element(args[0].array, args + 1, (int)(count - 1), out);
    return SQL_FINE;
}
