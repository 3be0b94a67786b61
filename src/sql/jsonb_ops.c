/*
 * Operators, functions and casts of jsonb.
 *
 * To Postgres a scalar at the top is an array of one that is marked as such. It shows in a
 * few places, which say so.
 */

#include "sql/array.h"
#include "sql/jsonb.h"
#include "sql/numeric.h"
#include "sql/ops.h"

static bool parse(struct sql_call *call, const struct sql_value *v,
                  struct jsonb_node *root)
{
    return jsonb_parse(v->s, call->arena, root, call->err) == 0;
}

static enum sql_failure json_result(struct sql_call *call, const struct jsonb_node *n,
                                    struct sql_value *out)
{
    struct buf text;
    enum sql_failure rc;

    if (!n)
        return sql_null_result(out);
    buf_init(&text, call->arena->max_bytes);
    jsonb_print(n, &text);
    rc = sql_bytes_take(call, &text, out);
    buf_fini(&text);
    return rc;
}

/* For ->> and #>>: a string without its quotes, JSON's null as NULL. */
static enum sql_failure text_result(struct sql_call *call, const struct jsonb_node *n,
                                    struct sql_value *out)
{
    if (!n || n->kind == JSONB_NULL)
        return sql_null_result(out);
    if (n->kind == JSONB_STRING)
        return sql_slice_result(out, n->string);
    return json_result(call, n, out);
}

/* ---- containment ---- */

static bool holds_scalar(const struct jsonb_node *array, const struct jsonb_node *v)
{
    for (size_t i = 0; i < array->count; i++) {
        if (array->items[i].kind == v->kind && jsonb_cmp(&array->items[i], v) == 0)
            return true;
    }
    return false;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the reader lets a value be */
static bool contains(const struct jsonb_node *all, const struct jsonb_node *some)
{
    if (all->kind != some->kind)
        return false;
    if (jsonb_scalar(all))
        return jsonb_cmp(all, some) == 0;
    if (all->kind == JSONB_OBJECT) {
        for (size_t i = 0; i < some->count; i++) {
            const struct jsonb_node *member = jsonb_member(all, some->items[i].key);

            if (!member || !contains(member, &some->items[i]))
                return false;
        }
        return true;
    }
    for (size_t i = 0; i < some->count; i++) {
        bool found = false;

        for (size_t j = 0; j < all->count && !found; j++)
            found = contains(&all->items[j], &some->items[i]);
        if (!found)
            return false;
    }
    return true;
}

/* An array contains a scalar that it has; not the other way round. */
static enum sql_failure contains_result(struct sql_call *call,
                                        const struct sql_value *all,
                                        const struct sql_value *some,
                                        struct sql_value *out)
{
    struct jsonb_node a;
    struct jsonb_node b;

    if (!parse(call, all, &a) || !parse(call, some, &b))
        return SQL_FAILED;
    if (a.kind == JSONB_ARRAY && jsonb_scalar(&b))
        return sql_bool_result(out, holds_scalar(&a, &b));
    return sql_bool_result(out, contains(&a, &b));
}

enum sql_failure sql_jsonb_contains(struct sql_call *call, const struct sql_value *args,
                                    struct sql_value *out)
{
    return contains_result(call, &args[0], &args[1], out);
}

enum sql_failure sql_jsonb_contained(struct sql_call *call, const struct sql_value *args,
                                     struct sql_value *out)
{
    return contains_result(call, &args[1], &args[0], out);
}

/* ---- existence ---- */

/* As a member's name, an array's string, or the string itself. */
static bool exists(const struct jsonb_node *root, struct slice key)
{
    struct jsonb_node wanted = {.kind = JSONB_STRING, .string = key};

    if (root->kind == JSONB_OBJECT)
        return jsonb_member(root, key) != NULL;
    if (root->kind == JSONB_ARRAY)
        return holds_scalar(root, &wanted);
    return root->kind == JSONB_STRING && slice_eq(root->string, key);
}

enum sql_failure sql_jsonb_exists(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    struct jsonb_node root;

    if (!parse(call, &args[0], &root))
        return SQL_FAILED;
    return sql_bool_result(out, exists(&root, args[1].s));
}

/* Whether one of the names (or, with all set, none is missing) exists. NULLs don't count. */
static enum sql_failure exists_of(struct sql_call *call, const struct sql_value *args,
                                  bool all, struct sql_value *out)
{
    const struct sql_array *names = args[1].array;
    struct jsonb_node root;

    if (!parse(call, &args[0], &root))
        return SQL_FAILED;
    for (size_t i = 0; i < names->count; i++) {
        if (!names->items[i].null && exists(&root, names->items[i].s) != all)
            return sql_bool_result(out, !all);
    }
    return sql_bool_result(out, all);
}

enum sql_failure sql_jsonb_exists_any(struct sql_call *call, const struct sql_value *args,
                                      struct sql_value *out)
{
    return exists_of(call, args, false, out);
}

enum sql_failure sql_jsonb_exists_all(struct sql_call *call, const struct sql_value *args,
                                      struct sql_value *out)
{
    return exists_of(call, args, true, out);
}

/* ---- access ---- */

static const struct jsonb_node *element(const struct jsonb_node *array, int64_t index)
{
    if (index < 0)
        index += (int64_t)array->count;
    return index >= 0 && (uint64_t)index < array->count ? &array->items[index] : NULL;
}

/* A member by text, an element by int4; a scalar at the top is its own only element. */
static const struct jsonb_node *part(const struct sql_call *call,
                                     const struct jsonb_node *root,
                                     const struct sql_value *which)
{
    if (call->types[1].base == SQL_TEXT)
        return root->kind == JSONB_OBJECT ? jsonb_member(root, which->s) : NULL;
    if (jsonb_scalar(root))
        return which->i == 0 || which->i == -1 ? root : NULL;
    return root->kind == JSONB_ARRAY ? element(root, which->i) : NULL;
}

enum sql_failure sql_jsonb_get(struct sql_call *call, const struct sql_value *args,
                               struct sql_value *out)
{
    struct jsonb_node root;

    if (!parse(call, &args[0], &root))
        return SQL_FAILED;
    return json_result(call, part(call, &root, &args[1]), out);
}

enum sql_failure sql_jsonb_get_text(struct sql_call *call, const struct sql_value *args,
                                    struct sql_value *out)
{
    struct jsonb_node root;

    if (!parse(call, &args[0], &root))
        return SQL_FAILED;
    return text_result(call, part(call, &root, &args[1]), out);
}

/* One step of a path: an index into an array is an integer, as strtol reads one. */
static const struct jsonb_node *step(const struct jsonb_node *n, struct slice name)
{
    struct sql_value index;

    if (n->kind == JSONB_OBJECT)
        return jsonb_member(n, name);
    if (n->kind != JSONB_ARRAY || name.len == 0 || sql_is_blank(name.ptr[name.len - 1]) ||
        sql_int4_in(name, NULL, &index, NULL) != 0)
        return NULL;
    return element(n, index.i);
}

static const struct jsonb_node *follow(const struct jsonb_node *n,
                                       const struct sql_array *path)
{
    for (size_t i = 0; i < path->count; i++) {
        if (path->items[i].null)
            return NULL;
    }
    for (size_t i = 0; n && i < path->count; i++)
        n = step(n, path->items[i].s);
    return n;
}

enum sql_failure sql_jsonb_path(struct sql_call *call, const struct sql_value *args,
                                struct sql_value *out)
{
    struct jsonb_node root;

    if (!parse(call, &args[0], &root))
        return SQL_FAILED;
    return json_result(call, follow(&root, args[1].array), out);
}

enum sql_failure sql_jsonb_path_text(struct sql_call *call, const struct sql_value *args,
                                     struct sql_value *out)
{
    struct jsonb_node root;

    if (!parse(call, &args[0], &root))
        return SQL_FAILED;
    return text_result(call, follow(&root, args[1].array), out);
}

static const char *kind_name(enum jsonb_kind kind)
{
    static const char *const names[] = {"null",    "string", "number",
                                        "boolean", "array",  "object"};

    return names[kind];
}

enum sql_failure sql_jsonb_typeof(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    struct jsonb_node root;

    if (!parse(call, &args[0], &root))
        return SQL_FAILED;
    return sql_slice_result(out, slice_of(kind_name(root.kind)));
}

enum sql_failure sql_jsonb_array_length(struct sql_call *call,
                                        const struct sql_value *args,
                                        struct sql_value *out)
{
    struct jsonb_node root;

    if (!parse(call, &args[0], &root))
        return SQL_FAILED;
    if (jsonb_scalar(&root))
        return sql_fail(call, "cannot get array length of a scalar");
    if (root.kind != JSONB_ARRAY)
        return sql_fail(call, "cannot get array length of a non-array");
    return sql_int_result(out, (int64_t)root.count);
}

/* ---- casts ---- */

static enum sql_failure cannot_cast(struct sql_call *call, enum jsonb_kind kind,
                                    const char *type)
{
    return sql_fail(call, "cannot cast jsonb %s to type %s",
                    kind == JSONB_NUMBER ? "numeric" : kind_name(kind), type);
}

enum sql_failure sql_jsonb_to_bool(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    struct jsonb_node root;

    if (!parse(call, &args[0], &root))
        return SQL_FAILED;
    if (root.kind != JSONB_BOOL)
        return cannot_cast(call, root.kind, "boolean");
    return sql_bool_result(out, root.b);
}

static enum sql_failure to_number(struct sql_call *call, const struct sql_value *args,
                                  const char *type, sql_function_fn *convert,
                                  struct sql_value *out)
{
    struct sql_type numeric = sql_plain(SQL_NUMERIC);
    struct sql_call inner = {call->arena, call->err, &numeric, 1, NULL};
    struct sql_value number;
    struct jsonb_node root;

    if (!parse(call, &args[0], &root))
        return SQL_FAILED;
    if (root.kind != JSONB_NUMBER)
        return cannot_cast(call, root.kind, type);
    number = (struct sql_value){.numeric = root.number};
    return convert(&inner, &number, out);
}

enum sql_failure sql_jsonb_to_numeric(struct sql_call *call, const struct sql_value *args,
                                      struct sql_value *out)
{
    return to_number(call, args, "numeric", sql_same, out);
}

enum sql_failure sql_jsonb_to_int2(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    return to_number(call, args, "smallint", sql_numeric_to_int2, out);
}

enum sql_failure sql_jsonb_to_int4(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    return to_number(call, args, "integer", sql_numeric_to_int4, out);
}

enum sql_failure sql_jsonb_to_int8(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    return to_number(call, args, "bigint", sql_numeric_to_int8, out);
}

enum sql_failure sql_jsonb_to_float4(struct sql_call *call, const struct sql_value *args,
                                     struct sql_value *out)
{
    return to_number(call, args, "real", sql_numeric_to_float4, out);
}

enum sql_failure sql_jsonb_to_float8(struct sql_call *call, const struct sql_value *args,
                                     struct sql_value *out)
{
    return to_number(call, args, "double precision", sql_numeric_to_float8, out);
}
