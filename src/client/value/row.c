/*
 * Rows. One allocation of just the bytes that the values need, since a client holds millions: five
 * columns of int, text, int, text and timestamptz cost 16 bytes of header, 32 of slots, 2 of states
 * and the text. An array of tagged values would cost 120 and a pointer chase for each text.
 *
 * Arrays lie in the payload as the structs that the API hands out, pointing into the row itself; a
 * row therefore never moves.
 */

#include "client/value/row.h"

#include <stdio.h>
#include <string.h>

#include <xxhash.h>

enum { STATE_ABSENT, STATE_NULL, STATE_VALUE };

#define ROW_BYTES_MAX  (UINT32_MAX - 64u)
#define NAME_MAX_BYTES 1024u

/* --- Layouts ------------------------------------------------------------------------------- */

static size_t slot_bytes(coulomb_type type)
{
    switch (type) {
    case COULOMB_UUID:
    case COULOMB_INTERVAL:
        return 16;
    case COULOMB_INT64:
    case COULOMB_DOUBLE:
    case COULOMB_TIME:
    case COULOMB_TIMESTAMP:
    case COULOMB_TIMESTAMPTZ:
        return 8;
    case COULOMB_BOOL:
        return 1;
    case COULOMB_ABSENT:
    case COULOMB_NULL:
    case COULOMB_NUMERIC:
    case COULOMB_TEXT:
    case COULOMB_BYTES:
    case COULOMB_DATE:
    case COULOMB_JSON:
    case COULOMB_ARRAY:
        break;
    }
    return 4;
}

static bool has_payload(coulomb_type type)
{
    return value_is_bytes(type) || type == COULOMB_ARRAY;
}

static int check_column(const coulomb_column *columns, size_t i, coulomb_error *e)
{
    const coulomb_column *c = &columns[i];
    bool element = c->element > COULOMB_NULL && c->element < COULOMB_ARRAY;

    if (!c->name || c->name[0] == '\0' || strlen(c->name) > NAME_MAX_BYTES)
        return error_set(e, COULOMB_E_COLLECTION_CONFIG, "column %zu has no name", i);
    if (c->type <= COULOMB_NULL || c->type > COULOMB_ARRAY)
        return error_set(e, COULOMB_E_COLLECTION_CONFIG, "column %s: %d is no type",
                         c->name, (int)c->type);
    if (c->type == COULOMB_ARRAY && !element)
        return error_set(e, COULOMB_E_COLLECTION_CONFIG,
                         "column %s: an array needs the type of its elements", c->name);
    for (size_t j = 0; j < i; j++) {
        if (strcmp(columns[j].name, c->name) == 0)
            return error_set(e, COULOMB_E_COLLECTION_CONFIG, "column %s is given twice",
                             c->name);
    }
    return COULOMB_OK;
}

static size_t layout_bytes(size_t count)
{
    return sizeof(struct layout) + count * sizeof(struct column);
}

static void layout_place(struct layout *l)
{
    static const size_t widths[] = {16, 8, 4, 1};
    uint32_t at = (uint32_t)offsetof(struct coulomb_row, data);

    for (size_t w = 0; w < sizeof(widths) / sizeof(widths[0]); w++) {
        for (size_t i = 0; i < l->count; i++) {
            if (slot_bytes(l->columns[i].type) == widths[w]) {
                l->columns[i].offset = at;
                at += (uint32_t)widths[w];
            }
        }
        if (widths[w] == 8 && l->stored_key) {
            l->key_offset = at;
            at += 8;
        }
    }
    l->states = at;
    l->payload = at + (uint32_t)((l->count + (l->stored_key ? 1 : 0)) * 2 + 7) / 8;
    l->last_bytes = -1;
    for (size_t i = 0; i < l->count; i++) {
        coulomb_type t = l->columns[i].type;

        l->columns[i].before = l->last_bytes;
        if (has_payload(t))
            l->last_bytes = (int)i;
        if (t == COULOMB_NUMERIC || t == COULOMB_JSON || t == COULOMB_ARRAY)
            l->needs_normal = true;
        if (t == COULOMB_TEXT)
            l->has_text = true;
    }
}

static int layout_key(struct layout *l, const char *key_column, bool stored_key,
                      coulomb_error *e)
{
    coulomb_type t;

    l->key_column = -1;
    l->stored_key = stored_key;
    if (!key_column && !stored_key)
        return error_set(e, COULOMB_E_GET_KEY_REQUIRED,
                         "a collection needs key_column or get_key");
    if (!key_column)
        return COULOMB_OK;
    l->key_column = layout_find(l, key_column);
    if (l->key_column < 0)
        return error_set(e, COULOMB_E_COLLECTION_CONFIG, "no column %s to be the key",
                         key_column);
    t = l->columns[l->key_column].type;
    l->stored_key = t == COULOMB_UUID;
    if (t != COULOMB_INT64 && t != COULOMB_TEXT && t != COULOMB_UUID)
        return error_set(e, COULOMB_E_COLLECTION_CONFIG,
                         "the key column %s is %s; it can be int64, text or uuid",
                         key_column, coulomb_type_name(t));
    return COULOMB_OK;
}

int layout_new(struct heap *h, const coulomb_column *columns, size_t count,
               const char *key_column, bool stored_key, struct layout **out,
               coulomb_error *e)
{
    struct layout *l;
    int code = COULOMB_OK;

    if (!columns || count == 0 || count > COULOMB_COLUMNS_MAX)
        return error_set(e, COULOMB_E_COLLECTION_CONFIG,
                         "%zu columns; a collection has 1 to %d", count,
                         COULOMB_COLUMNS_MAX);
    for (size_t i = 0; i < count && code == COULOMB_OK; i++)
        code = check_column(columns, i, e);
    if (code != COULOMB_OK)
        return code;
    l = heap_zalloc(h, layout_bytes(count));
    if (!l)
        return COULOMB_E_MEMORY;
    l->heap = h;
    heap_retain(h);
    l->refs = 1;
    for (size_t i = 0; i < count && code == COULOMB_OK; i++) {
        l->columns[i].name = heap_strdup(h, columns[i].name);
        l->columns[i].type = columns[i].type;
        l->columns[i].element =
            columns[i].type == COULOMB_ARRAY ? columns[i].element : COULOMB_NULL;
        l->count = i + 1;
        if (!l->columns[i].name)
            code = COULOMB_E_MEMORY;
    }
    if (code == COULOMB_OK)
        code = layout_key(l, key_column, stored_key, e);
    if (code != COULOMB_OK) {
        l->count = count;
        layout_release(l);
        return code;
    }
    layout_place(l);
    *out = l;
    return COULOMB_OK;
}

void layout_retain(struct layout *l)
{
    l->refs++;
}

void layout_release(struct layout *l)
{
    struct heap *h = l->heap;

    if (--l->refs > 0)
        return;
    for (size_t i = 0; i < l->count; i++)
        heap_free_str(h, l->columns[i].name);
    heap_free(h, l, layout_bytes(l->count));
    heap_release(h);
}

int layout_find(const struct layout *l, const char *name)
{
    for (size_t i = 0; name && i < l->count; i++) {
        if (strcmp(l->columns[i].name, name) == 0)
            return (int)i;
    }
    return -1;
}

/* --- Making rows ----------------------------------------------------------------------------- */

static int bad_type(const struct layout *l, size_t column, const coulomb_value *v,
                    coulomb_error *e)
{
    const char *given = coulomb_type_name(v->type);
    int code =
        error_set(e, COULOMB_E_TYPE, "column %s takes %s, not %s",
                  l->columns[column].name, coulomb_type_name(l->columns[column].type),
                  given ? given : "something that is no type");

    snprintf(e->column, sizeof(e->column), "%s", l->columns[column].name);
    return code;
}

int layout_coerce(const struct layout *l, size_t column, const coulomb_value *v,
                  struct arena *arena, coulomb_value *out, coulomb_error *e)
{
    const struct column *c = &l->columns[column];

    *out = *v;
    if (v->type == COULOMB_ABSENT || v->type == COULOMB_NULL)
        return COULOMB_OK;
    if (v->type == c->type) {
        if (v->type == COULOMB_ARRAY &&
            (!v->v.array || v->v.array->element != c->element))
            return bad_type(l, column, v, e);
        return COULOMB_OK;
    }
    if (v->type != COULOMB_INT64)
        return bad_type(l, column, v, e);
    if (c->type == COULOMB_DOUBLE) {
        *out = coulomb_double((double)v->v.i);
        return COULOMB_OK;
    }
    if (c->type == COULOMB_NUMERIC) {
        char *text = arena_printf(arena, "%lld", (long long)v->v.i);

        if (!text)
            return COULOMB_E_MEMORY;
        *out = coulomb_numeric(text);
        return COULOMB_OK;
    }
    return bad_type(l, column, v, e);
}

static size_t align8(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

/* Bytes that an array takes at an aligned place. */
static size_t array_bytes(const coulomb_array *a)
{
    size_t n = align8(sizeof(*a)) + a->count * sizeof(coulomb_value);

    for (size_t i = 0; i < a->count; i++) {
        if (value_is_bytes(a->items[i].type))
            n += a->items[i].v.s.len;
    }
    return n;
}

static void array_put(unsigned char *to, const coulomb_array *a)
{
    coulomb_array *copy = (coulomb_array *)(void *)to;
    coulomb_value *items = (coulomb_value *)(void *)(to + align8(sizeof(*a)));
    char *bytes = (char *)(items + a->count);

    *copy = *a;
    copy->items = items;
    for (size_t i = 0; i < a->count; i++) {
        items[i] = a->items[i];
        if (!value_is_bytes(items[i].type))
            continue;
        if (items[i].v.s.len > 0)
            memcpy(bytes, items[i].v.s.ptr, items[i].v.s.len);
        items[i].v.s.ptr = bytes;
        bytes += items[i].v.s.len;
    }
}

static void put_u32(struct coulomb_row *row, size_t at, uint32_t v)
{
    memcpy((char *)row + at, &v, sizeof(v));
}

static uint32_t get_u32(const struct coulomb_row *row, size_t at)
{
    uint32_t v;

    memcpy(&v, (const char *)row + at, sizeof(v));
    return v;
}

static void set_state(struct coulomb_row *row, size_t i, unsigned state)
{
    unsigned char *byte = (unsigned char *)row + row->layout->states + i / 4;

    *byte = (unsigned char)(*byte | state << (i % 4 * 2));
}

static unsigned get_state(const struct coulomb_row *row, size_t i)
{
    const unsigned char *byte = (const unsigned char *)row + row->layout->states + i / 4;

    return *byte >> (i % 4 * 2) & 3u;
}

/* Writes a value that has no payload. */
static void put_fixed(struct coulomb_row *row, const struct column *c,
                      const coulomb_value *v)
{
    char *at = (char *)row + c->offset;
    int32_t days;

    switch (c->type) {
    case COULOMB_BOOL:
        *at = (char)(v->v.b != 0);
        break;
    case COULOMB_UUID:
        memcpy(at, v->v.uuid, 16);
        break;
    case COULOMB_INTERVAL:
        memcpy(at, &v->v.interval, 16);
        break;
    case COULOMB_DATE:
        days = (int32_t)v->v.i;
        memcpy(at, &days, sizeof(days));
        break;
    case COULOMB_DOUBLE:
        memcpy(at, &v->v.f, sizeof(v->v.f));
        break;
    case COULOMB_INT64:
    case COULOMB_TIME:
    case COULOMB_TIMESTAMP:
    case COULOMB_TIMESTAMPTZ:
    case COULOMB_ABSENT:
    case COULOMB_NULL:
    case COULOMB_NUMERIC:
    case COULOMB_TEXT:
    case COULOMB_BYTES:
    case COULOMB_JSON:
    case COULOMB_ARRAY:
        memcpy(at, &v->v.i, sizeof(v->v.i));
        break;
    }
}

static size_t row_bytes(const struct layout *l, const coulomb_value *values,
                        const coulomb_key *key)
{
    size_t n = l->payload;

    for (size_t i = 0; i < l->count; i++) {
        if (values[i].type == COULOMB_ARRAY)
            n = align8(n) + array_bytes(values[i].v.array);
        else if (value_is_bytes(values[i].type))
            n += values[i].v.s.len;
    }
    if (key && key->type == COULOMB_KEY_TEXT)
        n += key->text.len;
    return n;
}

static void row_fill(struct coulomb_row *row, const coulomb_value *values)
{
    const struct layout *l = row->layout;
    size_t end = l->payload;

    memset(row->data, 0, l->payload - offsetof(struct coulomb_row, data));
    for (size_t i = 0; i < l->count; i++) {
        const coulomb_value *v = &values[i];
        const struct column *c = &l->columns[i];

        if (v->type == COULOMB_ABSENT || v->type == COULOMB_NULL) {
            set_state(row, i, v->type == COULOMB_NULL ? STATE_NULL : STATE_ABSENT);
        } else {
            set_state(row, i, STATE_VALUE);
            if (v->type == COULOMB_ARRAY) {
                end = align8(end);
                array_put((unsigned char *)row + end, v->v.array);
                end += array_bytes(v->v.array);
            } else if (value_is_bytes(v->type)) {
                if (v->v.s.len > 0)
                    memcpy((char *)row + end, v->v.s.ptr, v->v.s.len);
                end += v->v.s.len;
            } else {
                put_fixed(row, c, v);
            }
        }
        if (has_payload(c->type))
            put_u32(row, c->offset, (uint32_t)end);
    }
}

static void put_key(struct coulomb_row *row, const coulomb_key *key)
{
    const struct layout *l = row->layout;

    set_state(row, l->count, (unsigned)key->type);
    if (key->type == COULOMB_KEY_INT64)
        memcpy((char *)row + l->key_offset, &key->i, sizeof(key->i));
    if (key->type != COULOMB_KEY_TEXT)
        return;
    put_u32(row, l->key_offset, row->bytes - (uint32_t)key->text.len);
    if (key->text.len > 0)
        memcpy((char *)row + row->bytes - key->text.len, key->text.ptr, key->text.len);
}

int row_build(struct layout *l, const coulomb_value *values, const coulomb_key *key,
              struct coulomb_row **out)
{
    char text[64];
    coulomb_key made;
    struct coulomb_row *row;
    size_t n;

    if (l->stored_key && l->key_column >= 0 && !key) {
        /* A uuid. */
        const coulomb_value *v = &values[l->key_column];

        memset(&made, 0, sizeof(made));
        if (v->type == COULOMB_UUID) {
            int code = value_print(v, &l->heap->mem, text, sizeof(text), NULL);

            if (code != COULOMB_OK)
                return code;
            made = coulomb_key_text(text);
        }
        key = &made;
    }
    n = row_bytes(l, values, key);
    if (n > ROW_BYTES_MAX)
        return COULOMB_E_LIMIT;
    row = heap_alloc(l->heap, n);
    if (!row)
        return COULOMB_E_MEMORY;
    l->heap->rows++;
    layout_retain(l);
    row->layout = l;
    row->refs = 1;
    row->bytes = (uint32_t)n;
    row_fill(row, values);
    if (l->stored_key && key)
        put_key(row, key);
    *out = row;
    return COULOMB_OK;
}

#define FEW_COLUMNS 32

/* Every value is as rows keep it: what an adapter hands over, as a rule. */
static bool all_plain(const struct layout *l, const coulomb_value *values)
{
    for (size_t i = 0; i < l->count; i++) {
        const coulomb_value *v = &values[i];

        if (v->type == COULOMB_ABSENT || v->type == COULOMB_NULL)
            continue;
        if (v->type != l->columns[i].type)
            return false;
        if (value_is_bytes(v->type) && v->v.s.len > VALUE_BYTES_MAX)
            return false;
        if (v->type == COULOMB_TEXT && !slice_is_utf8(value_slice(v)))
            return false;
    }
    return true;
}

int row_new(struct layout *l, const coulomb_value *values, const coulomb_key *key,
            struct arena *arena, struct coulomb_row **out, coulomb_error *e)
{
    coulomb_value few[FEW_COLUMNS];
    coulomb_value *ours = few;
    struct err err;
    int code = COULOMB_OK;

    if (!l->needs_normal && all_plain(l, values))
        return row_build(l, values, key, out);
    if (l->count > FEW_COLUMNS)
        ours = arena_alloc(arena, l->count * sizeof(*ours));
    if (!ours)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < l->count && code == COULOMB_OK; i++) {
        coulomb_value v;

        code = layout_coerce(l, i, &values[i], arena, &v, e);
        if (code == COULOMB_OK)
            code = value_normal(&v, arena, &ours[i], &err);
        if (code == COULOMB_E_INVALID_TEXT) {
            error_set(e, code, "column %s: %s", l->columns[i].name, err.message);
            snprintf(e->column, sizeof(e->column), "%s", l->columns[i].name);
        }
    }
    if (code == COULOMB_OK)
        code = row_build(l, ours, key, out);
    if (code == COULOMB_E_LIMIT)
        error_set(e, code, "a row of more than 4 GiB");
    return code;
}

void row_free(struct coulomb_row *row)
{
    struct layout *l = row->layout;

    l->heap->rows--;
    heap_free(l->heap, row, row->bytes);
    layout_release(l);
}

/* --- Reading rows ---------------------------------------------------------------------------- */

static size_t payload_begin(const struct coulomb_row *row, const struct column *c)
{
    const struct layout *l = row->layout;

    return c->before < 0 ? l->payload : get_u32(row, l->columns[c->before].offset);
}

static void get_fixed(const struct coulomb_row *row, const struct column *c,
                      coulomb_value *v)
{
    const char *at = (const char *)row + c->offset;
    int32_t days;

    switch (c->type) {
    case COULOMB_BOOL:
        v->v.b = *at != 0;
        break;
    case COULOMB_UUID:
        memcpy(v->v.uuid, at, 16);
        break;
    case COULOMB_INTERVAL:
        memcpy(&v->v.interval, at, 16);
        break;
    case COULOMB_DATE:
        memcpy(&days, at, sizeof(days));
        v->v.i = days;
        break;
    case COULOMB_DOUBLE:
        memcpy(&v->v.f, at, sizeof(v->v.f));
        break;
    case COULOMB_INT64:
    case COULOMB_TIME:
    case COULOMB_TIMESTAMP:
    case COULOMB_TIMESTAMPTZ:
    case COULOMB_ABSENT:
    case COULOMB_NULL:
    case COULOMB_NUMERIC:
    case COULOMB_TEXT:
    case COULOMB_BYTES:
    case COULOMB_JSON:
    case COULOMB_ARRAY:
        memcpy(&v->v.i, at, sizeof(v->v.i));
        break;
    }
}

coulomb_value row_at(const struct coulomb_row *row, size_t column)
{
    const struct column *c = &row->layout->columns[column];
    coulomb_value v = coulomb_absent();
    unsigned state = get_state(row, column);

    if (state != STATE_VALUE) {
        v.type = state == STATE_NULL ? COULOMB_NULL : COULOMB_ABSENT;
        return v;
    }
    v.type = c->type;
    if (c->type == COULOMB_ARRAY) {
        v.v.array = (const coulomb_array *)(const void *)((const char *)row +
                                                          align8(payload_begin(row, c)));
    } else if (value_is_bytes(c->type)) {
        size_t begin = payload_begin(row, c);

        v.v.s.ptr = (const char *)row + begin;
        v.v.s.len = get_u32(row, c->offset) - begin;
    } else {
        get_fixed(row, c, &v);
    }
    return v;
}

coulomb_key row_key(const struct coulomb_row *row)
{
    const struct layout *l = row->layout;
    coulomb_key key;

    memset(&key, 0, sizeof(key));
    if (l->stored_key) {
        key.type = (coulomb_key_type)get_state(row, l->count);
        if (key.type == COULOMB_KEY_INT64)
            memcpy(&key.i, (const char *)row + l->key_offset, sizeof(key.i));
        if (key.type == COULOMB_KEY_TEXT) {
            uint32_t begin = get_u32(row, l->key_offset);

            key.text.ptr = (const char *)row + begin;
            key.text.len = row->bytes - begin;
        }
    } else if (l->columns[l->key_column].type == COULOMB_INT64) {
        if (get_state(row, (size_t)l->key_column) == STATE_VALUE) {
            key.type = COULOMB_KEY_INT64;
            memcpy(&key.i, (const char *)row + l->columns[l->key_column].offset,
                   sizeof(key.i));
        }
    } else {
        coulomb_value v = row_at(row, (size_t)l->key_column);

        if (v.type == COULOMB_TEXT)
            return coulomb_key_textn(v.v.s.ptr, v.v.s.len);
    }
    return key;
}

/* Arrays hold pointers: rows with them are never equal by their bytes. */
static bool same_bytes(const struct coulomb_row *a, const struct coulomb_row *b)
{
    return a->layout == b->layout && a->bytes == b->bytes &&
           memcmp(a->data, b->data, a->bytes - offsetof(struct coulomb_row, data)) == 0;
}

int row_equal(const struct coulomb_row *a, const struct coulomb_row *b,
              struct arena *arena)
{
    if (a == b)
        return 1;
    if (!a || !b || a->layout->count != b->layout->count)
        return 0;
    if (same_bytes(a, b))
        return 1;
    for (size_t i = 0; i < a->layout->count; i++) {
        coulomb_value x = row_at(a, i);
        coulomb_value y = row_at(b, i);
        bool equal;
        int code = value_equal(&x, &y, arena, &equal);

        if (code != COULOMB_OK)
            return code;
        if (!equal)
            return 0;
    }
    return 1;
}

/* --- Keys ------------------------------------------------------------------------------------- */

uint32_t key_hash(coulomb_key key, uint64_t seed)
{
    uint64_t h;

    if (key.type == COULOMB_KEY_INT64) {
        /* Eight neighbours share the line of slots that their common part leads to. */
        h = ((uint64_t)key.i >> 3 ^ seed) * UINT64_C(0x9E3779B97F4A7C15);
        h = (h ^ h >> 32) * UINT64_C(0xD6E8FEB86659FD93);
        return ((uint32_t)(h >> 32) & ~7u) | ((uint32_t)key.i & 7u);
    }
    h = XXH3_64bits_withSeed(key.text.ptr ? key.text.ptr : "", key.text.len, seed);
    return (uint32_t)(h >> 32);
}

bool key_equal(coulomb_key a, coulomb_key b)
{
    if (a.type != b.type)
        return false;
    if (a.type == COULOMB_KEY_INT64)
        return a.i == b.i;
    return a.text.len == b.text.len &&
           (a.text.len == 0 || memcmp(a.text.ptr, b.text.ptr, a.text.len) == 0);
}

void key_print(coulomb_key key, char *buf, size_t cap)
{
    int most = key.text.len < cap ? (int)key.text.len : (int)cap;

    if (key.type == COULOMB_KEY_INT64)
        snprintf(buf, cap, "%lld", (long long)key.i);
    else
        snprintf(buf, cap, "%.*s", most, key.text.ptr ? key.text.ptr : "");
}

int key_copy(struct heap *h, coulomb_key key, struct blob *b, coulomb_key *copy)
{
    *copy = key;
    if (key.type == COULOMB_KEY_TEXT) {
        int code = blob_set(h, b, key.text.ptr ? key.text.ptr : "", key.text.len);

        if (code != COULOMB_OK)
            return code;
        copy->text.ptr = b->ptr;
    }
    return COULOMB_OK;
}

/* --- The public side ------------------------------------------------------------------------- */

const coulomb_row *coulomb_row_retain(const coulomb_row *row)
{
    return row_retain(row);
}

void coulomb_row_release(const coulomb_row *row)
{
    row_release((coulomb_row *)(uintptr_t)row);
}

size_t coulomb_row_columns(const coulomb_row *row)
{
    return row->layout->count;
}

const char *coulomb_row_column_name(const coulomb_row *row, size_t column)
{
    return column < row->layout->count ? row->layout->columns[column].name : NULL;
}

int coulomb_row_column(const coulomb_row *row, const char *name)
{
    return layout_find(row->layout, name);
}

coulomb_value coulomb_row_at(const coulomb_row *row, size_t column)
{
    return column < row->layout->count ? row_at(row, column) : coulomb_absent();
}

coulomb_value coulomb_row_get(const coulomb_row *row, const char *name)
{
    int i = layout_find(row->layout, name);

    return i < 0 ? coulomb_absent() : row_at(row, (size_t)i);
}

int64_t coulomb_row_int(const coulomb_row *row, const char *name, int64_t otherwise)
{
    coulomb_value v = coulomb_row_get(row, name);

    return v.type == COULOMB_INT64 ? v.v.i : otherwise;
}

double coulomb_row_double(const coulomb_row *row, const char *name, double otherwise)
{
    coulomb_value v = coulomb_row_get(row, name);

    return v.type == COULOMB_DOUBLE ? v.v.f : otherwise;
}

int coulomb_row_bool(const coulomb_row *row, const char *name, int otherwise)
{
    coulomb_value v = coulomb_row_get(row, name);

    return v.type == COULOMB_BOOL ? v.v.b : otherwise;
}

coulomb_str coulomb_row_text(const coulomb_row *row, const char *name)
{
    coulomb_value v = coulomb_row_get(row, name);
    coulomb_str none = {"", 0};

    return value_is_bytes(v.type) ? v.v.s : none;
}

coulomb_key coulomb_row_key(const coulomb_row *row)
{
    return row_key(row);
}

int coulomb_row_equal(const coulomb_row *a, const coulomb_row *b)
{
    struct arena arena;
    int equal;

    arena_init_from(&arena, COMPARE_MAX_BYTES, a ? &a->layout->heap->mem : NULL);
    equal = row_equal(a, b, &arena);
    arena_fini(&arena);
    return equal;
}
