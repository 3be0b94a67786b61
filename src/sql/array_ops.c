/*
 * Operators and functions of arrays. All take arrays of any type, of which both sides have
 * the same; elements are compared by that type's equality.
 */

#include "sql/array.h"
#include "sql/ops.h"

static enum sql_failure array_result(struct sql_call *call, const struct sql_array *a,
                                     struct sql_value *out)
{
    if (!a) {
        sql_no_memory(call->err);
        return SQL_FAILED;
    }
    *out = (struct sql_value){.array = a};
    return SQL_FINE;
}

/* ---- membership ---- */

static bool holds(struct sql_type element, const struct sql_array *a,
                  const struct sql_value *v)
{
    for (size_t i = 0; !v->null && i < a->count; i++) {
        if (!a->items[i].null && sql_value_cmp(element, &a->items[i], v) == 0)
            return true;
    }
    return false;
}

/* Shape does not count; a NULL is in nothing. */
static bool contains(const struct sql_call *call, const struct sql_value *all,
                     const struct sql_value *some)
{
    struct sql_type element = array_element(call->types[0]);

    for (size_t i = 0; i < some->array->count; i++) {
        if (!holds(element, all->array, &some->array->items[i]))
            return false;
    }
    return true;
}

enum sql_failure sql_array_contains(struct sql_call *call, const struct sql_value *args,
                                    struct sql_value *out)
{
    return sql_bool_result(out, contains(call, &args[0], &args[1]));
}

enum sql_failure sql_array_contained(struct sql_call *call, const struct sql_value *args,
                                     struct sql_value *out)
{
    return sql_bool_result(out, contains(call, &args[1], &args[0]));
}

enum sql_failure sql_array_overlaps(struct sql_call *call, const struct sql_value *args,
                                    struct sql_value *out)
{
    struct sql_type element = array_element(call->types[0]);

    for (size_t i = 0; i < args[1].array->count; i++) {
        if (holds(element, args[0].array, &args[1].array->items[i]))
            return sql_bool_result(out, true);
    }
    return sql_bool_result(out, false);
}

/* ---- joining ---- */

/* The items of a, then of b, in an array of the shape given. */
static enum sql_failure joined(struct sql_call *call, const struct sql_value *a,
                               size_t count_a, const struct sql_value *b, size_t count_b,
                               const struct sql_array *shape, struct sql_value *out)
{
    struct sql_value *items =
        arena_calloc(call->arena, count_a + count_b, sizeof(*items));

    if (!items)
        return array_result(call, NULL, out);
    if (count_a > 0)
        memcpy(items, a, count_a * sizeof(*items));
    if (count_b > 0)
        memcpy(items + count_a, b, count_b * sizeof(*items));
    return array_result(
        call,
        sql_array_shape(call->arena, items, shape->dims, shape->length, shape->lower),
        out);
}

/* An element at either end; a missing array is an empty one. */
static enum sql_failure extend(struct sql_call *call, const struct sql_value *array,
                               const struct sql_value *element, bool front,
                               struct sql_value *out)
{
    static const struct sql_array empty;
    const struct sql_array *a = array->null ? &empty : array->array;
    struct sql_array shape = {.dims = 1, .length = {1}, .lower = {1}};

    if (a->dims > 1)
        return sql_fail(call, "argument must be empty or one-dimensional array");
    if (a->dims == 1) {
        if (front ? a->lower[0] == INT32_MIN
                  : (int64_t)a->lower[0] + a->length[0] > INT32_MAX)
            return sql_fail(call, "integer out of range");
        shape.lower[0] = a->lower[0];
        shape.length[0] = a->length[0] + 1;
    }
    if (front)
        return joined(call, element, 1, a->items, a->count, &shape, out);
    return joined(call, a->items, a->count, element, 1, &shape, out);
}

enum sql_failure sql_array_append(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    return extend(call, &args[0], &args[1], false, out);
}

enum sql_failure sql_array_prepend(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    return extend(call, &args[1], &args[0], true, out);
}

/* Whether the dimensions of a behind the first skip_a are those of b behind its. */
static bool same_inside(const struct sql_array *a, int skip_a, const struct sql_array *b,
                        int skip_b)
{
    if (a->dims - skip_a != b->dims - skip_b)
        return false;
    for (int i = 0; i < a->dims - skip_a; i++) {
        if (a->length[i + skip_a] != b->length[i + skip_b] ||
            a->lower[i + skip_a] != b->lower[i + skip_b])
            return false;
    }
    return true;
}

/* Two of a kind, or an array and one that could be an element of its outer dimension. */
enum sql_failure sql_array_cat(struct sql_call *call, const struct sql_value *args,
                               struct sql_value *out)
{
    const struct sql_array *a = args[0].array;
    const struct sql_array *b = args[1].array;
    struct sql_array shape;
    int64_t length;

    if (args[0].null || args[1].null) {
        *out = args[args[0].null ? 1 : 0];
        return SQL_FINE;
    }
    if (a->dims == 0 || b->dims == 0) {
        *out = args[a->dims == 0 ? 1 : 0];
        return SQL_FINE;
    }
    if (a->dims == b->dims && same_inside(a, 1, b, 1)) {
        shape = *a;
        length = (int64_t)a->length[0] + b->length[0];
    } else if (a->dims == b->dims + 1 && same_inside(a, 1, b, 0)) {
        shape = *a;
        length = (int64_t)a->length[0] + 1;
    } else if (b->dims == a->dims + 1 && same_inside(a, 0, b, 1)) {
        shape = *b;
        length = (int64_t)b->length[0] + 1;
    } else {
        return sql_fail(call, "cannot concatenate incompatible arrays");
    }
    if (length > INT32_MAX)
        return sql_fail(call, "array size exceeds the maximum allowed");
    shape.length[0] = (int32_t)length;
    return joined(call, a->items, a->count, b->items, b->count, &shape, out);
}

/* ---- shape ---- */

enum sql_failure sql_array_ndims(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    (void)call;
    return args[0].array->dims == 0 ? sql_null_result(out)
                                    : sql_int_result(out, args[0].array->dims);
}

enum sql_failure sql_cardinality(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    (void)call;
    return sql_int_result(out, (int64_t)args[0].array->count);
}

static bool has_dim(const struct sql_value *args)
{
    return args[1].i >= 1 && args[1].i <= args[0].array->dims;
}

enum sql_failure sql_array_length_of(struct sql_call *call, const struct sql_value *args,
                                     struct sql_value *out)
{
    (void)call;
    if (!has_dim(args))
        return sql_null_result(out);
    return sql_int_result(out, args[0].array->length[args[1].i - 1]);
}

enum sql_failure sql_array_lower_of(struct sql_call *call, const struct sql_value *args,
                                    struct sql_value *out)
{
    (void)call;
    if (!has_dim(args))
        return sql_null_result(out);
    return sql_int_result(out, args[0].array->lower[args[1].i - 1]);
}

enum sql_failure sql_array_upper_of(struct sql_call *call, const struct sql_value *args,
                                    struct sql_value *out)
{
    const struct sql_array *a = args[0].array;

    (void)call;
    if (!has_dim(args))
        return sql_null_result(out);
    return sql_int_result(out, (int64_t)a->lower[args[1].i - 1] +
                                   a->length[args[1].i - 1] - 1);
}
