/*
 * jsonb: reading, printing, order, hash.
 *
 * A value of jsonb is its text, in the form that Postgres prints: members ordered by the
 * length of their name and then its bytes, the last of those with one name, numbers as
 * numerics, one blank behind a comma or colon. So it can be handed on without thought.
 * What works on it makes a tree of it in an arena (jsonb_parse).
 *
 * Depth is at most JSON_DEPTH_MAX, which bounds the recursion of those that walk a tree.
 * Postgres takes deeper ones; here they are refused.
 */

#include "sql/jsonb.h"

#include <stdlib.h>

#include "sql/numeric.h"
#include "json/json.h"

_Static_assert(SQL_JSONB_DEPTH_MAX == JSON_DEPTH_MAX, "what is read can be walked");

/* ---- reading ---- */

/* Containers that are open: each holds the list of its items, last first. */
struct builder {
    struct arena *arena;
    struct jsonb_node *open[SQL_JSONB_DEPTH_MAX];
    size_t depth;
    struct slice key;
    struct jsonb_node *root;
    size_t place;
};

static bool copy_text(struct arena *arena, struct slice text, struct slice *out)
{
    char *copy = arena_dup(arena, text);

    *out = slice_make(copy, text.len);
    return copy != NULL;
}

static struct jsonb_node *new_node(struct builder *b, enum jsonb_kind kind)
{
    struct jsonb_node *parent = b->depth > 0 ? b->open[b->depth - 1] : NULL;
    struct jsonb_node *n = parent ? arena_zalloc(b->arena, sizeof(*n)) : b->root;

    if (!n)
        return NULL;
    memset(n, 0, sizeof(*n));
    n->kind = kind;
    n->key = b->key;
    n->place = b->place++;
    if (parent) {
        n->next = parent->items;
        parent->items = n;
        parent->count++;
    }
    return n;
}

static int by_key(const void *va, const void *vb)
{
    const struct jsonb_node *a = va;
    const struct jsonb_node *b = vb;
    int order;

    if (a->key.len != b->key.len)
        return a->key.len > b->key.len ? 1 : -1;
    order = slice_cmp(a->key, b->key);
    return order != 0 ? order : (a->place > b->place) - (a->place < b->place);
}

static void order_members(struct jsonb_node *object)
{
    size_t kept = 0;

    if (object->count > 1)
        qsort(object->items, object->count, sizeof(*object->items), by_key);
    for (size_t i = 0; i < object->count; i++) {
        bool repeated = i + 1 < object->count &&
                        slice_eq(object->items[i].key, object->items[i + 1].key);

        if (!repeated)
            object->items[kept++] = object->items[i];
    }
    object->count = kept;
}

/* The list becomes an array. */
static bool close_container(struct builder *b)
{
    struct jsonb_node *n = b->open[--b->depth];
    struct jsonb_node *items = arena_calloc(b->arena, n->count, sizeof(*items));
    size_t at = n->count;

    if (!items)
        return false;
    for (struct jsonb_node *item = n->items; item; item = item->next)
        items[--at] = *item;
    n->items = items;
    if (n->kind == JSONB_OBJECT)
        order_members(n);
    return true;
}

static int add_number(struct builder *b, struct slice text, struct err *err)
{
    struct jsonb_node *n = new_node(b, JSONB_NUMBER);
    struct sql_value v;
    int rc = n ? sql_numeric_in(text, b->arena, &v, err) : sql_no_memory(err);

    if (rc == 0)
        n->number = v.numeric;
    return rc;
}

static int add_text(struct builder *b, struct slice text, bool name, struct err *err)
{
    struct slice copy;
    struct jsonb_node *n;

    if (memchr(text.len > 0 ? text.ptr : "", '\0', text.len))
        return err_set(err, ERR_INVALID, "unsupported Unicode escape sequence");
    if (!copy_text(b->arena, text, &copy))
        return sql_no_memory(err);
    if (name) {
        b->key = copy;
        return 0;
    }
    n = new_node(b, JSONB_STRING);
    if (!n)
        return sql_no_memory(err);
    n->string = copy;
    return 0;
}

static int add_event(struct builder *b, enum json_event event, struct slice text,
                     struct err *err)
{
    struct jsonb_node *n;

    switch (event) {
    case JSON_OBJECT_BEGIN:
    case JSON_ARRAY_BEGIN:
        n = new_node(b, event == JSON_OBJECT_BEGIN ? JSONB_OBJECT : JSONB_ARRAY);
        if (n)
            b->open[b->depth++] = n;
        break;
    case JSON_OBJECT_END:
    case JSON_ARRAY_END:
        return close_container(b) ? 0 : sql_no_memory(err);
    case JSON_NAME:
        return add_text(b, text, true, err);
    case JSON_STRING:
        return add_text(b, text, false, err);
    case JSON_NUMBER:
        return add_number(b, text, err);
    case JSON_TRUE:
    case JSON_FALSE:
        n = new_node(b, JSONB_BOOL);
        if (n)
            n->b = event == JSON_TRUE;
        break;
    case JSON_NULL:
        n = new_node(b, JSONB_NULL);
        break;
    case JSON_END:
    case JSON_ERROR:
    default:
        return 0;
    }
    return n ? 0 : sql_no_memory(err);
}

/* What is to be said of a text that is no JSON. An escape of NUL Postgres finds first when
 * it stands in front of the fault, and there are ways to be wrong about where it stands. */
static int malformed(const struct json_reader *reader, struct slice text, struct err *err)
{
    if (reader->scratch.failed == ERR_MEMORY)
        return sql_no_memory(err);
    if (reader->depth == JSON_DEPTH_MAX)
        return err_set(err, ERR_UNSUPPORTED,
                       "a jsonb value nested more than %d levels deep is not supported",
                       JSON_DEPTH_MAX);
    if (text.len > 0 && memmem(text.ptr, text.len, "\\u0000", 6))
        return err_set(err, ERR_UNSUPPORTED, "unsupported Unicode escape sequence");
    return err_set(err, ERR_INVALID, "invalid input syntax for type json");
}

/* A number too large is not told when what is joined to it makes it none. */
static bool joined_to_next(const struct json_reader *reader)
{
    return reader->pos < reader->input.len &&
           !strchr(" \t\n\r,]}", reader->input.ptr[reader->pos]);
}

int jsonb_parse(struct slice text, struct arena *arena, struct jsonb_node *root,
                struct err *err)
{
    struct builder b = {.arena = arena, .root = root};
    struct json_reader reader;
    enum json_event event;
    int rc = 0;

    json_reader_init_from(&reader, text, arena->mem);
    do {
        event = json_next(&reader);
        rc = add_event(&b, event, reader.text, err);
    } while (rc == 0 && event != JSON_END && event != JSON_ERROR);
    if (event == JSON_ERROR ||
        (rc == ERR_INVALID && event == JSON_NUMBER && joined_to_next(&reader)))
        rc = malformed(&reader, text, err);
    json_reader_fini(&reader);
    return rc;
}

/* ---- printing ---- */

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the reader lets a value be */
void jsonb_print(const struct jsonb_node *n, struct buf *out)
{
    switch (n->kind) {
    case JSONB_NULL:
        buf_puts(out, "null");
        return;
    case JSONB_STRING:
        json_put_string(out, n->string);
        return;
    case JSONB_NUMBER:
        sql_numeric_out(&(struct sql_value){.numeric = n->number}, out);
        return;
    case JSONB_BOOL:
        buf_puts(out, n->b ? "true" : "false");
        return;
    case JSONB_ARRAY:
    case JSONB_OBJECT:
        break;
    }
    buf_putc(out, n->kind == JSONB_ARRAY ? '[' : '{');
    for (size_t i = 0; i < n->count; i++) {
        if (i > 0)
            buf_puts(out, ", ");
        if (n->kind == JSONB_OBJECT) {
            json_put_string(out, n->items[i].key);
            buf_puts(out, ": ");
        }
        jsonb_print(&n->items[i], out);
    }
    buf_putc(out, n->kind == JSONB_ARRAY ? ']' : '}');
}

int sql_jsonb_in(struct slice text, struct arena *arena, struct sql_value *out,
                 struct err *err)
{
    struct jsonb_node root;
    struct buf printed;
    char *copy = NULL;
    size_t len;
    int rc = jsonb_parse(text, arena, &root, err);

    if (rc != 0)
        return rc;
    buf_init_from(&printed, arena->max_bytes, arena->mem);
    jsonb_print(&root, &printed);
    len = printed.len;
    if (!printed.failed)
        copy = arena_dup(arena, buf_slice(&printed));
    buf_fini(&printed);
    if (!copy)
        return sql_no_memory(err);
    *out = (struct sql_value){.s = slice_make(copy, len)};
    return 0;
}

/* ---- order ---- */

const struct jsonb_node *jsonb_member(const struct jsonb_node *object, struct slice key)
{
    struct jsonb_node wanted = {.key = key};
    size_t low = 0;
    size_t high = object->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order;

        wanted.place = object->items[middle].place;
        order = by_key(&wanted, &object->items[middle]);
        if (order == 0)
            return &object->items[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static int cmp_scalars(const struct jsonb_node *a, const struct jsonb_node *b)
{
    if (a->kind == JSONB_STRING)
        return slice_cmp(a->string, b->string);
    if (a->kind == JSONB_BOOL)
        return a->b - b->b;
    if (a->kind == JSONB_NUMBER)
        return sql_numeric_cmp(&(struct sql_value){.numeric = a->number},
                               &(struct sql_value){.numeric = b->number});
    return 0;
}

/* Kind, then how many, then one by one: name and value. */
/* NOLINTNEXTLINE(misc-no-recursion): as deep as the reader lets a value be */
int jsonb_cmp(const struct jsonb_node *a, const struct jsonb_node *b)
{
    if (a->kind != b->kind)
        return a->kind > b->kind ? 1 : -1;
    if (jsonb_scalar(a))
        return cmp_scalars(a, b);
    if (a->count != b->count)
        return a->count > b->count ? 1 : -1;
    for (size_t i = 0; i < a->count; i++) {
        int order =
            a->kind == JSONB_OBJECT ? slice_cmp(a->items[i].key, b->items[i].key) : 0;

        if (order == 0)
            order = jsonb_cmp(&a->items[i], &b->items[i]);
        if (order != 0)
            return order;
    }
    return 0;
}

/* A scalar at the top is to Postgres an array of one, which counts before it is told from
 * an array; so it is greater than [], and less than any other array. */
int jsonb_cmp_roots(const struct jsonb_node *a, const struct jsonb_node *b)
{
    if (jsonb_scalar(a) && b->kind == JSONB_ARRAY)
        return b->count == 0 ? 1 : -1;
    if (jsonb_scalar(b) && a->kind == JSONB_ARRAY)
        return a->count == 0 ? -1 : 1;
    return jsonb_cmp(a, b);
}

/* Values are well formed, so parsing can fail only for want of memory; there is no way to
 * say so from a comparison, and the order of the bytes is a consistent one. */
int sql_jsonb_cmp(const struct sql_value *a, const struct sql_value *b)
{
    struct jsonb_node root_a = {.kind = JSONB_NULL};
    struct jsonb_node root_b = {.kind = JSONB_NULL};
    struct arena arena;
    int order;

    if (slice_eq(a->s, b->s))
        return 0;
    arena_init(&arena, SIZE_MAX);
    if (jsonb_parse(a->s, &arena, &root_a, NULL) == 0 &&
        jsonb_parse(b->s, &arena, &root_b, NULL) == 0)
        order = jsonb_cmp_roots(&root_a, &root_b);
    else
        order = slice_cmp(a->s, b->s);
    arena_fini(&arena);
    return order;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the reader lets a value be */
uint64_t jsonb_hash(const struct jsonb_node *n, uint64_t seed)
{
    unsigned char kind = (unsigned char)n->kind;

    seed = sql_hash_bytes(&kind, 1, seed);
    if (n->kind == JSONB_STRING)
        return sql_hash_bytes(n->string.ptr, n->string.len, seed);
    if (n->kind == JSONB_BOOL)
        return sql_hash_bytes(n->b ? "t" : "f", 1, seed);
    if (n->kind == JSONB_NUMBER)
        return sql_numeric_hash(&(struct sql_value){.numeric = n->number}, seed);
    for (size_t i = 0; i < n->count; i++) {
        seed = sql_hash_bytes(n->items[i].key.ptr, n->items[i].key.len, seed);
        seed = jsonb_hash(&n->items[i], seed);
    }
    return seed;
}

uint64_t sql_jsonb_hash(const struct sql_value *v, uint64_t seed)
{
    struct jsonb_node root = {.kind = JSONB_NULL};
    struct arena arena;

    arena_init(&arena, SIZE_MAX);
    if (jsonb_parse(v->s, &arena, &root, NULL) == 0)
        seed = jsonb_hash(&root, seed);
    arena_fini(&arena);
    return seed;
}
