/*
 * Values. A coulomb_value is what crosses the API; order, hash and text are those of sql/, so that
 * client and server agree. Numerics and json are kept as text in Postgres's normal form, which is
 * compact, prints for nothing, and makes nearly every comparison one of bytes; only where bytes
 * differ are they parsed.
 */

#include "client/value/value.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sql/jsonb.h"

int value_code(int err_code)
{
    return err_code == ERR_MEMORY ? COULOMB_E_MEMORY : COULOMB_E_INVALID_TEXT;
}

const char *coulomb_type_name(coulomb_type type)
{
    static const char *const names[] = {"absent",      "null",     "bool", "int64",
                                        "double",      "numeric",  "text", "bytes",
                                        "uuid",        "date",     "time", "timestamp",
                                        "timestamptz", "interval", "json", "array"};

    if ((unsigned)type >= sizeof(names) / sizeof(names[0]))
        return NULL;
    return names[type];
}

static enum sql_base base_of(coulomb_type type)
{
    switch (type) {
    case COULOMB_BOOL:
        return SQL_BOOL;
    case COULOMB_INT64:
        return SQL_INT8;
    case COULOMB_DOUBLE:
        return SQL_FLOAT8;
    case COULOMB_NUMERIC:
        return SQL_NUMERIC;
    case COULOMB_BYTES:
        return SQL_BYTEA;
    case COULOMB_UUID:
        return SQL_UUID;
    case COULOMB_DATE:
        return SQL_DATE;
    case COULOMB_TIME:
        return SQL_TIME;
    case COULOMB_TIMESTAMP:
        return SQL_TIMESTAMP;
    case COULOMB_TIMESTAMPTZ:
        return SQL_TIMESTAMPTZ;
    case COULOMB_INTERVAL:
        return SQL_INTERVAL;
    case COULOMB_JSON:
        return SQL_JSONB;
    case COULOMB_ABSENT:
    case COULOMB_NULL:
    case COULOMB_TEXT:
    case COULOMB_ARRAY:
        break;
    }
    return SQL_TEXT;
}

struct sql_type value_sql_type(coulomb_type type, coulomb_type element)
{
    bool array = type == COULOMB_ARRAY;

    return (struct sql_type){
        .base = base_of(array ? element : type), .array = array, .typmod = -1};
}

static int scalar_to_sql(const coulomb_value *v, struct arena *arena,
                         struct sql_value *out, struct err *err)
{
    memset(out, 0, sizeof(*out));
    switch (v->type) {
    case COULOMB_ABSENT:
    case COULOMB_NULL:
    case COULOMB_ARRAY:
        out->null = true;
        return COULOMB_OK;
    case COULOMB_BOOL:
        out->b = v->v.b != 0;
        return COULOMB_OK;
    case COULOMB_DOUBLE:
        out->f = v->v.f;
        return COULOMB_OK;
    case COULOMB_UUID:
        memcpy(out->uuid, v->v.uuid, sizeof(out->uuid));
        return COULOMB_OK;
    case COULOMB_INTERVAL:
        out->interval = (struct sql_interval){v->v.interval.months, v->v.interval.days,
                                              v->v.interval.us};
        return COULOMB_OK;
    case COULOMB_TEXT:
    case COULOMB_BYTES:
        out->s = value_slice(v);
        return COULOMB_OK;
    case COULOMB_NUMERIC:
    case COULOMB_JSON: {
        int code = sql_value_in(value_sql_type(v->type, COULOMB_NULL), value_slice(v),
                                arena, out, err);

        return code == 0 ? COULOMB_OK : value_code(code);
    }
    case COULOMB_INT64:
    case COULOMB_DATE:
    case COULOMB_TIME:
    case COULOMB_TIMESTAMP:
    case COULOMB_TIMESTAMPTZ:
        break;
    }
    out->i = v->v.i;
    return COULOMB_OK;
}

/* The dimensions agree with the count. */
static bool array_shape_valid(const coulomb_array *a)
{
    size_t product = 1;

    if (a->count > VALUE_ITEMS_MAX || a->dims < 0 || a->dims > COULOMB_ARRAY_DIMS_MAX)
        return false;
    if (a->dims <= 1)
        return true;
    for (int i = 0; i < a->dims; i++) {
        if (a->lengths[i] <= 0 || (size_t)a->lengths[i] > VALUE_ITEMS_MAX / product)
            return false;
        product *= (size_t)a->lengths[i];
    }
    return product == a->count;
}

static int array_to_sql(const coulomb_array *a, struct arena *arena,
                        struct sql_value *out, struct err *err)
{
    struct sql_value *items;
    int32_t one = (int32_t)a->count;
    int dims = a->dims > 1 ? a->dims : a->count > 0;

    if (!array_shape_valid(a))
        return value_code(err_set(
            err, ERR_INVALID, "an array's lengths don't fit its %zu elements", a->count));
    items = arena_calloc(arena, a->count, sizeof(*items));
    if (!items)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < a->count; i++) {
        int code;

        if (a->items[i].type != COULOMB_NULL && a->items[i].type != a->element)
            return value_code(err_set(
                err, ERR_INVALID, "an element of a %s array is a %s",
                coulomb_type_name(a->element), coulomb_type_name(a->items[i].type)));
        code = scalar_to_sql(&a->items[i], arena, &items[i], err);
        if (code != COULOMB_OK)
            return code;
    }
    memset(out, 0, sizeof(*out));
    out->array =
        sql_array_shape(arena, items, dims, a->dims > 1 ? a->lengths : &one, NULL);
    return out->array ? COULOMB_OK : COULOMB_E_MEMORY;
}

int value_to_sql(const coulomb_value *v, struct arena *arena, struct sql_value *out,
                 struct err *err)
{
    if (v->type == COULOMB_ARRAY)
        return array_to_sql(v->v.array, arena, out, err);
    return scalar_to_sql(v, arena, out, err);
}

/* Text of sql/'s value, in the arena. */
static int print_to_arena(struct sql_type type, const struct sql_value *v,
                          struct arena *arena, coulomb_str *out)
{
    struct buf b;
    int code = COULOMB_E_MEMORY;

    buf_init_from(&b, VALUE_BYTES_MAX, arena->mem);
    sql_value_out(type, v, &b);
    if (b.failed == 0) {
        out->ptr = arena_dup(arena, buf_slice(&b));
        out->len = b.len;
        code = out->ptr ? COULOMB_OK : COULOMB_E_MEMORY;
    }
    buf_fini(&b);
    return code;
}

static int scalar_from_sql(coulomb_type type, const struct sql_value *v,
                           struct arena *arena, coulomb_value *out)
{
    *out = coulomb_absent();
    out->type = v->null ? COULOMB_NULL : type;
    if (v->null)
        return COULOMB_OK;
    switch (type) {
    case COULOMB_BOOL:
        out->v.b = v->b;
        break;
    case COULOMB_DOUBLE:
        out->v.f = v->f;
        break;
    case COULOMB_UUID:
        memcpy(out->v.uuid, v->uuid, sizeof(v->uuid));
        break;
    case COULOMB_INTERVAL:
        out->v.interval.months = v->interval.months;
        out->v.interval.days = v->interval.days;
        out->v.interval.us = v->interval.us;
        break;
    case COULOMB_NUMERIC:
        return print_to_arena(value_sql_type(type, COULOMB_NULL), v, arena, &out->v.s);
    case COULOMB_TEXT:
    case COULOMB_BYTES:
    case COULOMB_JSON:
        out->v.s.ptr = v->s.ptr;
        out->v.s.len = v->s.len;
        break;
    case COULOMB_ABSENT:
    case COULOMB_NULL:
    case COULOMB_INT64:
    case COULOMB_DATE:
    case COULOMB_TIME:
    case COULOMB_TIMESTAMP:
    case COULOMB_TIMESTAMPTZ:
    case COULOMB_ARRAY:
        out->v.i = v->i;
        break;
    }
    return COULOMB_OK;
}

int value_from_sql(coulomb_type type, coulomb_type element, const struct sql_value *v,
                   struct arena *arena, coulomb_value *out)
{
    coulomb_array *a;
    coulomb_value *items;
    size_t count;

    if (type != COULOMB_ARRAY || v->null)
        return scalar_from_sql(type, v, arena, out);
    count = sql_array_count(v->array);
    a = arena_zalloc(arena, sizeof(*a));
    items = arena_calloc(arena, count, sizeof(*items));
    if (!a || !items)
        return COULOMB_E_MEMORY;
    *a = (coulomb_array){.element = element, .count = count, .items = items};
    a->dims = sql_array_dims(v->array);
    for (int i = 0; i < a->dims && i < COULOMB_ARRAY_DIMS_MAX; i++)
        a->lengths[i] = sql_array_length(v->array, i);
    for (size_t i = 0; i < count; i++) {
        int code =
            scalar_from_sql(element, &sql_array_items(v->array)[i], arena, &items[i]);

        if (code != COULOMB_OK)
            return code;
    }
    *out = coulomb_array_value(a);
    return COULOMB_OK;
}

/* --- Order --------------------------------------------------------------------------------- */

static int cmp_i64(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int cmp_double(double a, double b)
{
    if (isnan(a) || isnan(b))
        return (isnan(a) != 0) - (isnan(b) != 0);
    return (a > b) - (a < b);
}

/* Exact: a double has no fraction to lose from 2^53 on. */
static int cmp_i64_double(int64_t i, double f)
{
    double whole;

    if (isnan(f) || f >= 9223372036854775808.0)
        return -1;
    if (f < -9223372036854775808.0)
        return 1;
    whole = trunc(f);
    if (i != (int64_t)whole)
        return cmp_i64(i, (int64_t)whole);
    return cmp_double(0, f - whole);
}

static int numeric_of(const coulomb_value *v, struct arena *arena, struct sql_value *out)
{
    char text[400];
    size_t len = 0;
    struct err err;
    struct slice s;
    int code;

    if (v->type == COULOMB_NUMERIC) {
        s = value_slice(v);
    } else {
        /* Shortest digits that read back: as the cast from float8 to numeric would not do, but
         * exact for every number that a program wrote. */
        code = value_print(v, arena->mem, text, sizeof(text), &len);
        if (code != COULOMB_OK)
            return code;
        s = slice_make(text, len);
    }
    code =
        sql_value_in(value_sql_type(COULOMB_NUMERIC, COULOMB_NULL), s, arena, out, &err);
    return code == 0 ? COULOMB_OK : value_code(code);
}

static int compare_numbers(const coulomb_value *a, const coulomb_value *b,
                           struct arena *arena, int *order)
{
    struct sql_value x;
    struct sql_value y;
    int code;

    if (a->type == COULOMB_INT64 && b->type == COULOMB_INT64) {
        *order = cmp_i64(a->v.i, b->v.i);
        return COULOMB_OK;
    }
    if (a->type == COULOMB_DOUBLE && b->type == COULOMB_DOUBLE) {
        *order = cmp_double(a->v.f, b->v.f);
        return COULOMB_OK;
    }
    if (a->type != COULOMB_NUMERIC && b->type != COULOMB_NUMERIC) {
        *order = a->type == COULOMB_INT64 ? cmp_i64_double(a->v.i, b->v.f)
                                          : -cmp_i64_double(b->v.i, a->v.f);
        return COULOMB_OK;
    }
    code = numeric_of(a, arena, &x);
    if (code == COULOMB_OK)
        code = numeric_of(b, arena, &y);
    if (code == COULOMB_OK)
        *order = sql_value_cmp(value_sql_type(COULOMB_NUMERIC, COULOMB_NULL), &x, &y);
    return code;
}

static int rank_of(coulomb_type t)
{
    return value_is_number(t) ? COULOMB_INT64 : (int)t;
}

static int sign(int n)
{
    return (n > 0) - (n < 0);
}

static int parse_json(const coulomb_value *v, struct arena *arena,
                      struct jsonb_node *root)
{
    struct err err;
    int code = jsonb_parse(value_slice(v), arena, root, &err);

    return code == 0 ? COULOMB_OK : value_code(code);
}

static int compare_json(const coulomb_value *a, const coulomb_value *b,
                        struct arena *arena, int *order)
{
    struct jsonb_node x;
    struct jsonb_node y;
    int code = parse_json(a, arena, &x);

    if (code == COULOMB_OK)
        code = parse_json(b, arena, &y);
    if (code == COULOMB_OK)
        *order = sign(jsonb_cmp_roots(&x, &y));
    return code;
}

/* Anything but arrays. */
static int compare_scalars(const coulomb_value *a, const coulomb_value *b,
                           struct arena *arena, int *order)
{
    struct sql_value x;
    struct sql_value y;
    struct err err;
    int code;

    *order = cmp_i64(rank_of(a->type), rank_of(b->type));
    if (*order != 0 || a->type == COULOMB_ABSENT || a->type == COULOMB_NULL)
        return COULOMB_OK;
    if (value_is_number(a->type)) {
        code = compare_numbers(a, b, arena, order);
        *order = sign(*order);
        return code;
    }
    if (value_is_bytes(a->type) && slice_eq(value_slice(a), value_slice(b)))
        return COULOMB_OK;
    if (a->type == COULOMB_JSON)
        return compare_json(a, b, arena, order);
    code = scalar_to_sql(a, arena, &x, &err);
    if (code == COULOMB_OK)
        code = scalar_to_sql(b, arena, &y, &err);
    if (code == COULOMB_OK)
        *order = sign(sql_value_cmp(value_sql_type(a->type, COULOMB_NULL), &x, &y));
    return code;
}

static int array_dims(const coulomb_array *a)
{
    return a->dims > 1 ? a->dims : a->count > 0;
}

static bool item_valid(const coulomb_array *a, size_t i)
{
    return a->items[i].type == COULOMB_NULL || a->items[i].type == a->element;
}

/* As Postgres: by elements, of which null is the greatest, then how many there are, then the shape. */
static int compare_arrays(const coulomb_array *a, const coulomb_array *b,
                          struct arena *arena, int *order)
{
    if (!array_shape_valid(a) || !array_shape_valid(b))
        return COULOMB_E_INVALID_TEXT;
    *order = cmp_i64(rank_of(a->element), rank_of(b->element));
    for (size_t i = 0; *order == 0 && i < a->count && i < b->count; i++) {
        const coulomb_value *x = &a->items[i];
        const coulomb_value *y = &b->items[i];
        int code = COULOMB_OK;

        if (!item_valid(a, i) || !item_valid(b, i))
            code = COULOMB_E_INVALID_TEXT;
        else if (x->type == COULOMB_NULL || y->type == COULOMB_NULL)
            *order = (x->type == COULOMB_NULL) - (y->type == COULOMB_NULL);
        else
            code = compare_scalars(x, y, arena, order);
        if (code != COULOMB_OK)
            return code;
    }
    if (*order == 0)
        *order = (a->count > b->count) - (a->count < b->count);
    if (*order == 0)
        *order = cmp_i64(array_dims(a), array_dims(b));
    for (int i = 0; *order == 0 && i < array_dims(a) && a->dims > 1; i++)
        *order = cmp_i64(a->lengths[i], b->lengths[i]);
    return COULOMB_OK;
}

int value_compare(const coulomb_value *a, const coulomb_value *b, struct arena *arena,
                  int *order)
{
    if (a->type == COULOMB_ARRAY && b->type == COULOMB_ARRAY)
        return compare_arrays(a->v.array, b->v.array, arena, order);
    return compare_scalars(a, b, arena, order);
}

int value_keep_bytes(struct pool *pool, coulomb_value *v)
{
    char *copy;

    if (!value_is_bytes(v->type))
        return COULOMB_OK;
    copy = pool_alloc(pool, v->v.s.len > 0 ? v->v.s.len : 1);
    if (!copy)
        return COULOMB_E_MEMORY;
    if (v->v.s.len > 0)
        memcpy(copy, v->v.s.ptr, v->v.s.len);
    v->v.s.ptr = copy;
    return COULOMB_OK;
}

int value_keep(struct pool *pool, coulomb_value *v)
{
    coulomb_array *a;
    coulomb_value *items;

    if (v->type != COULOMB_ARRAY)
        return value_keep_bytes(pool, v);
    a = pool_alloc(pool, sizeof(*a));
    items = pool_alloc(pool, (v->v.array->count + 1) * sizeof(*items));
    if (!a || !items)
        return COULOMB_E_MEMORY;
    *a = *v->v.array;
    for (size_t i = 0; i < a->count; i++) {
        items[i] = v->v.array->items[i];
        if (value_keep_bytes(pool, &items[i]) != COULOMB_OK)
            return COULOMB_E_MEMORY;
    }
    a->items = items;
    v->v.array = a;
    return COULOMB_OK;
}

int value_equal(const coulomb_value *a, const coulomb_value *b, struct arena *arena,
                bool *equal)
{
    int order;
    int code = value_compare(a, b, arena, &order);

    *equal = code == COULOMB_OK && order == 0;
    return code;
}

int coulomb_value_compare(const coulomb_value *a, const coulomb_value *b, int *order)
{
    struct arena arena;
    int code;

    arena_init(&arena, COMPARE_MAX_BYTES);
    code = value_compare(a, b, &arena, order);
    arena_fini(&arena);
    return code;
}

static int hash_scalar(const coulomb_value *v, uint64_t seed, struct arena *arena,
                       uint64_t *hash)
{
    coulomb_value whole;
    struct jsonb_node root;
    struct sql_value x;
    struct err err;
    coulomb_type type = v->type;
    int code;

    seed += (uint64_t)rank_of(type);
    *hash = seed;
    if (type == COULOMB_ABSENT || type == COULOMB_NULL)
        return COULOMB_OK;
    if (type == COULOMB_JSON) {
        code = parse_json(v, arena, &root);
        if (code == COULOMB_OK)
            *hash = jsonb_hash(&root, seed);
        return code;
    }
    if (value_is_number(type)) {
        if (type == COULOMB_DOUBLE && v->v.f == trunc(v->v.f) && fabs(v->v.f) < 9e15) {
            whole = coulomb_int((int64_t)v->v.f);
            v = &whole;
        }
        code = numeric_of(v, arena, &x);
        type = COULOMB_NUMERIC;
    } else {
        code = scalar_to_sql(v, arena, &x, &err);
    }
    if (code == COULOMB_OK)
        *hash = sql_value_hash(value_sql_type(type, COULOMB_NULL), &x, seed);
    return code;
}

int value_hash(const coulomb_value *v, uint64_t seed, struct arena *arena, uint64_t *hash)
{
    int code = COULOMB_OK;

    if (v->type != COULOMB_ARRAY)
        return hash_scalar(v, seed, arena, hash);
    *hash = seed + (uint64_t)v->v.array->count;
    for (size_t i = 0; i < v->v.array->count && code == COULOMB_OK; i++)
        code = hash_scalar(&v->v.array->items[i], *hash, arena, hash);
    return code;
}

/* --- Text and normal forms ---------------------------------------------------------------- */

static int print_value(const coulomb_value *v, struct arena *arena, struct buf *b)
{
    struct sql_value x;
    struct err err;
    coulomb_type element = v->type == COULOMB_ARRAY ? v->v.array->element : COULOMB_NULL;
    int code;

    if (v->type == COULOMB_ABSENT || v->type == COULOMB_NULL)
        return COULOMB_OK;
    code = value_to_sql(v, arena, &x, &err);
    if (code == COULOMB_OK) {
        sql_value_out(value_sql_type(v->type, element), &x, b);
        code = b->failed ? COULOMB_E_MEMORY : COULOMB_OK;
    }
    return code;
}

int value_print(const coulomb_value *v, const struct mem *mem, char *text, size_t cap,
                size_t *len)
{
    struct arena arena;
    struct buf b;
    int code;

    arena_init_from(&arena, COMPARE_MAX_BYTES, mem);
    buf_init_from(&b, VALUE_BYTES_MAX, mem);
    code = print_value(v, &arena, &b);
    if (code == COULOMB_OK) {
        if (len)
            *len = b.len;
        if (cap > 0) {
            size_t n = b.len < cap ? b.len : cap - 1;

            if (n > 0)
                memcpy(text, b.ptr, n);
            text[n] = '\0';
        }
    }
    buf_fini(&b);
    arena_fini(&arena);
    return code;
}

int coulomb_value_print(const coulomb_value *v, char *buf, size_t cap, size_t *len)
{
    return value_print(v, NULL, buf, cap, len);
}

int value_normal(const coulomb_value *v, struct arena *arena, coulomb_value *out,
                 struct err *err)
{
    struct sql_value x;
    coulomb_type element = v->type == COULOMB_ARRAY ? v->v.array->element : COULOMB_NULL;
    int code;

    *out = *v;
    if (value_is_bytes(v->type) && v->v.s.len > VALUE_BYTES_MAX)
        return value_code(err_set(err, ERR_INVALID, "a value of more than 1 GiB"));
    if (v->type == COULOMB_TEXT && !slice_is_utf8(value_slice(v)))
        return value_code(err_set(err, ERR_INVALID, "the text is not UTF-8"));
    if (v->type != COULOMB_NUMERIC && v->type != COULOMB_JSON && v->type != COULOMB_ARRAY)
        return COULOMB_OK;
    code = value_to_sql(v, arena, &x, err);
    if (code == COULOMB_OK)
        code = value_from_sql(v->type, element, &x, arena, out);
    return code;
}

int coulomb_key_compare(coulomb_key a, coulomb_key b)
{
    struct slice x = {a.text.ptr, a.text.len};
    struct slice y = {b.text.ptr, b.text.len};

    if (a.type != b.type)
        return a.type < b.type ? -1 : 1;
    if (a.type == COULOMB_KEY_INT64)
        return cmp_i64(a.i, b.i);
    return sign(slice_cmp(x, y));
}
