/*
 * The schema header: {"id":{"type":"int4","not_null":true,"pk_index":0},"tags":{"type":"text",
 * "dims":1}}. Members that nobody here needs (max_length, precision …) are passed over.
 */

#include "client/stream/schema.h"

#include <string.h>

#include "json/json.h"

static const char not_a_schema[] =
    "electric-schema is not a JSON object of objects with a type each";

struct schema *schema_retain(struct schema *s)
{
    if (s)
        atomic_fetch_add(&s->refs, 1);
    return s;
}

void schema_release(struct schema *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    for (size_t i = 0; i < s->count; i++) {
        heap_shared_free(s->heap, s->columns[i].name);
        heap_shared_free(s->heap, s->columns[i].pg_type);
    }
    heap_shared_free(s->heap, s);
}

static struct slice name_of(const struct stream_column *c)
{
    return slice_make(c->name, c->name_len);
}

size_t schema_find(const struct schema *s, struct slice name, size_t guess)
{
    if (guess < s->count && slice_eq(name, name_of(&s->columns[guess])))
        return guess;
    for (size_t i = 0; i < s->count; i++) {
        if (slice_eq(name, name_of(&s->columns[i])))
            return i;
    }
    return SIZE_MAX;
}

coulomb_type schema_type(struct slice pg_type)
{
    static const struct {
        const char *name;
        coulomb_type type;
    } types[] = {{"int2", COULOMB_INT64},        {"int4", COULOMB_INT64},
                 {"int8", COULOMB_INT64},        {"bool", COULOMB_BOOL},
                 {"float4", COULOMB_DOUBLE},     {"float8", COULOMB_DOUBLE},
                 {"numeric", COULOMB_NUMERIC},   {"bytea", COULOMB_BYTES},
                 {"uuid", COULOMB_UUID},         {"date", COULOMB_DATE},
                 {"time", COULOMB_TIME},         {"timestamp", COULOMB_TIMESTAMP},
                 {"interval", COULOMB_INTERVAL}, {"timestamptz", COULOMB_TIMESTAMPTZ},
                 {"json", COULOMB_JSON},         {"jsonb", COULOMB_JSON}};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (slice_eq(pg_type, slice_of(types[i].name)))
            return types[i].type;
    }
    return COULOMB_TEXT;
}

static char *copy_text(struct heap *h, struct slice s)
{
    char *copy = heap_shared(h, NULL, s.len + 1);

    if (copy) {
        if (s.len > 0)
            memcpy(copy, s.ptr, s.len);
        copy[s.len] = '\0';
    }
    return copy;
}

static struct schema *schema_alloc(struct heap *h, size_t count)
{
    size_t bytes = sizeof(struct schema) + count * sizeof(struct stream_column);
    struct schema *s = heap_shared(h, NULL, bytes);

    if (!s)
        return NULL;
    memset(s, 0, bytes);
    s->heap = h;
    atomic_init(&s->refs, 1);
    return s;
}

struct schema *schema_typed(struct heap *h, const coulomb_column *columns, size_t count)
{
    struct schema *s = schema_alloc(h, count);

    for (size_t i = 0; s && i < count; i++) {
        struct stream_column *c = &s->columns[s->count++];

        c->name = copy_text(h, slice_of(columns[i].name));
        c->name_len = strlen(columns[i].name);
        c->pg_type = copy_text(h, SLICE_LIT(""));
        c->type = columns[i].type;
        c->element = columns[i].type == COULOMB_ARRAY ? columns[i].element : COULOMB_NULL;
        c->pk_index = -1;
        if (!c->name || !c->pg_type) {
            schema_release(s);
            return NULL;
        }
    }
    return s;
}

/* --- The header ----------------------------------------------------------------------------------- */

/* A column as the header has it; type borrows from buf. */
struct told {
    char type[128];
    size_t type_len;
    int dims;
    int pk_index;
    bool not_null;
};

static int small_int(struct slice text)
{
    int64_t v;

    return slice_to_i64(text, &v) && v >= 0 && v < 100000 ? (int)v : -1;
}

/* What stands behind a column's name, the reader being behind its "{". */
static bool read_told(struct json_reader *r, struct told *t)
{
    enum json_event e;

    *t = (struct told){.pk_index = -1};
    while ((e = json_next(r)) == JSON_NAME) {
        bool type = slice_eq(r->text, SLICE_LIT("type"));
        bool dims = slice_eq(r->text, SLICE_LIT("dims"));
        bool pk = slice_eq(r->text, SLICE_LIT("pk_index"));
        bool not_null = slice_eq(r->text, SLICE_LIT("not_null"));

        e = json_next(r);
        if (type && e == JSON_STRING && r->text.len < sizeof(t->type)) {
            memcpy(t->type, r->text.ptr, r->text.len);
            t->type_len = r->text.len;
        } else if (dims && e == JSON_NUMBER) {
            t->dims = small_int(r->text);
        } else if (pk && e == JSON_NUMBER) {
            t->pk_index = small_int(r->text);
        } else if (not_null) {
            t->not_null = e == JSON_TRUE;
        } else if (!json_skip(r, e)) {
            return false;
        }
    }
    return e == JSON_OBJECT_END;
}

static bool add_column(struct schema *s, struct slice name, const struct told *t)
{
    struct stream_column *c = &s->columns[s->count];
    struct slice type = slice_make(t->type, t->type_len);

    c->name = copy_text(s->heap, name);
    c->name_len = name.len;
    c->pg_type = copy_text(s->heap, type);
    s->count++;
    c->dims = t->dims > 0 ? t->dims : 0;
    c->pk_index = t->pk_index;
    c->not_null = t->not_null;
    c->element = schema_type(type);
    c->type = c->dims > 0 ? COULOMB_ARRAY : c->element;
    if (c->dims == 0)
        c->element = COULOMB_NULL;
    return c->name && c->pg_type;
}

/* Of a consumer's column only what the header knows better. */
static bool complete_column(struct schema *s, struct slice name, const struct told *t)
{
    size_t at = schema_find(s, name, SIZE_MAX);
    char *type;

    if (at == SIZE_MAX)
        return true;
    type = copy_text(s->heap, slice_make(t->type, t->type_len));
    if (!type)
        return false;
    heap_shared_free(s->heap, s->columns[at].pg_type);
    s->columns[at].pg_type = type;
    s->columns[at].dims = t->dims > 0 ? t->dims : 0;
    s->columns[at].pk_index = t->pk_index;
    s->columns[at].not_null = t->not_null;
    return true;
}

/* Whether the text is a schema, and of how many columns. */
static bool count_columns(struct heap *h, struct slice header, size_t *count)
{
    struct json_reader r;
    bool ok;

    *count = 0;
    json_reader_init_from(&r, header, &h->shared);
    ok = json_next(&r) == JSON_OBJECT_BEGIN;
    while (ok && json_next(&r) == JSON_NAME) {
        struct told t;

        ok = json_next(&r) == JSON_OBJECT_BEGIN && read_told(&r, &t);
        ++*count;
    }
    ok = ok && json_next(&r) == JSON_END && *count <= COULOMB_COLUMNS_MAX;
    json_reader_fini(&r);
    return ok;
}

static struct schema *copy_schema(struct heap *h, const struct schema *from)
{
    struct schema *s = schema_alloc(h, from->count);

    for (size_t i = 0; s && i < from->count; i++) {
        struct stream_column *c = &s->columns[s->count++];

        *c = from->columns[i];
        c->name = copy_text(h, slice_of(from->columns[i].name));
        c->pg_type = copy_text(h, slice_of(from->columns[i].pg_type));
        if (!c->name || !c->pg_type) {
            schema_release(s);
            return NULL;
        }
    }
    return s;
}

struct schema *schema_parse(struct heap *h, struct slice header,
                            const struct schema *typed, const char **why)
{
    struct json_reader r;
    struct schema *s;
    size_t count;
    bool ok = true;

    *why = not_a_schema;
    if (!count_columns(h, header, &count))
        return NULL;
    *why = NULL;
    s = typed ? copy_schema(h, typed) : schema_alloc(h, count);
    if (!s)
        return NULL;
    json_reader_init_from(&r, header, &h->shared);
    json_next(&r);
    while (ok && json_next(&r) == JSON_NAME) {
        struct told t;
        char *name = copy_text(h, r.text);

        ok = name && json_next(&r) == JSON_OBJECT_BEGIN && read_told(&r, &t) &&
             (typed ? complete_column(s, slice_of(name), &t)
                    : add_column(s, slice_of(name), &t));
        heap_shared_free(h, name);
    }
    json_reader_fini(&r);
    if (ok)
        return s;
    schema_release(s);
    return NULL;
}
