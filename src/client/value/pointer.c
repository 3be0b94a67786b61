/*
 * JSON pointers. A value is read from the front, what does not lie on the way is skipped, and no tree
 * is made: a condition asks this of every row.
 */

#include "client/value/pointer.h"

#include <string.h>

#include "json/json.h"

static void *from_pool(void *ctx, size_t n)
{
    return pool_alloc(ctx, n);
}

static void *from_arena(void *ctx, size_t n)
{
    return arena_alloc(ctx, n);
}

/* The token at *at, whose slash is passed, into `to`; false: a tilde means nothing. */
static bool take_token(const char **at, char *to, struct slice *token)
{
    char *end = to;

    for (; **at != '\0' && **at != '/'; ++*at) {
        char ch = **at;

        if (ch == '~') {
            ++*at;
            if (**at != '0' && **at != '1')
                return false;
            ch = **at == '0' ? '~' : '/';
        }
        *end++ = ch;
    }
    *token = slice_make(to, (size_t)(end - to));
    return true;
}

static int parse(const char *text, void *(*alloc)(void *ctx, size_t n), void *ctx,
                 struct pointer *out)
{
    size_t len = text ? strlen(text) : 0;
    size_t count = 0;
    struct slice *tokens;
    char *bytes;
    char *copy;

    if (!text || (len > 0 && text[0] != '/'))
        return COULOMB_E_PATH;
    for (size_t i = 0; i < len; i++)
        count += text[i] == '/';
    tokens = alloc(ctx, (count + 1) * sizeof(*tokens));
    bytes = alloc(ctx, len + 1); /* unescaped is no longer */
    copy = alloc(ctx, len + 1);
    if (!tokens || !bytes || !copy)
        return COULOMB_E_MEMORY;
    memcpy(copy, text, len + 1);
    for (size_t i = 0; i < count; i++) {
        text++;
        if (!take_token(&text, bytes, &tokens[i]))
            return COULOMB_E_PATH;
        bytes += tokens[i].len;
    }
    *out = (struct pointer){copy, count, tokens};
    return COULOMB_OK;
}

int pointer_parse(const char *text, struct pool *pool, struct pointer *out)
{
    return parse(text, from_pool, pool, out);
}

bool pointer_index(struct slice token, size_t length, size_t *index)
{
    uint64_t n;

    if (slice_eq(token, SLICE_LIT("-"))) {
        *index = length;
        return true;
    }
    if (token.len == 0 || (token.len > 1 && token.ptr[0] == '0') ||
        !slice_to_u64(token, &n) || n > length)
        return false;
    *index = (size_t)n;
    return true;
}

/* --- Following --------------------------------------------------------------------------------- */

/* The first event of the member or element; JSON_END: there is none. */
static enum json_event step(struct json_reader *r, enum json_event at, struct slice token)
{
    enum json_event event;
    size_t index = 0;

    if (at == JSON_OBJECT_BEGIN) {
        while ((event = json_next(r)) == JSON_NAME) {
            if (slice_eq(r->text, token))
                return json_next(r);
            if (!json_skip(r, JSON_NAME))
                return JSON_ERROR;
        }
        return event == JSON_ERROR ? event : JSON_END;
    }
    if (at != JSON_ARRAY_BEGIN || !pointer_index(token, SIZE_MAX - 1, &index))
        return JSON_END;
    for (event = json_next(r); event != JSON_ARRAY_END && event != JSON_ERROR;
         event = json_next(r)) {
        if (index-- == 0)
            return event;
        if (!json_skip(r, event))
            return JSON_ERROR;
    }
    return event == JSON_ERROR ? event : JSON_END;
}

static bool lies_in(struct slice part, struct slice whole)
{
    return part.ptr >= whole.ptr && part.ptr <= whole.ptr + whole.len;
}

/* The value whose first event was just read; false: malformed, or no memory. */
static bool take_value(struct json_reader *r, enum json_event event, struct arena *arena,
                       coulomb_value *out)
{
    struct slice text = r->text;
    size_t begin = r->pos - 1;

    *out = coulomb_absent();
    switch (event) {
    case JSON_NULL:
        *out = coulomb_null();
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = coulomb_bool(event == JSON_TRUE);
        return true;
    case JSON_NUMBER:
        *out = coulomb_bytes_of(COULOMB_NUMERIC, text.ptr, text.len);
        return true;
    case JSON_STRING:
        if (!lies_in(text, r->input))
            text.ptr = arena_dup(arena, text);
        *out = coulomb_textn(text.ptr, text.len);
        return text.ptr != NULL;
    case JSON_OBJECT_BEGIN:
    case JSON_ARRAY_BEGIN:
        if (!json_skip(r, event))
            return false;
        *out = coulomb_bytes_of(COULOMB_JSON, r->input.ptr + begin, r->pos - begin);
        return true;
    case JSON_END:
        return true;
    case JSON_ERROR:
    case JSON_OBJECT_END:
    case JSON_ARRAY_END:
    case JSON_NAME:
        break;
    }
    return false;
}

int pointer_follow(const coulomb_value *json, const struct pointer *p,
                   struct arena *arena, coulomb_value *out)
{
    struct json_reader r;
    enum json_event event;
    int code = COULOMB_OK;

    *out = coulomb_absent();
    if (json->type != COULOMB_JSON)
        return COULOMB_OK;
    json_reader_init_from(&r, value_slice(json), arena->mem);
    event = json_next(&r);
    for (size_t i = 0; i < p->count && event != JSON_END && event != JSON_ERROR; i++)
        event = step(&r, event, p->tokens[i]);
    if (!take_value(&r, event, arena, out))
        code = r.error && !r.scratch.failed ? COULOMB_E_INVALID_TEXT : COULOMB_E_MEMORY;
    json_reader_fini(&r);
    return code;
}

int field_at(const struct coulomb_row *row, size_t column, const struct pointer *p,
             struct arena *arena, coulomb_value *out)
{
    coulomb_value whole = row_at(row, column);

    *out = whole;
    return p ? pointer_follow(&whole, p, arena, out) : COULOMB_OK;
}

bool pointer_same(const struct pointer *a, const struct pointer *b)
{
    return a == b || (a && b && strcmp(a->text, b->text) == 0);
}

int coulomb_json_get(const coulomb_value *json, const char *pointer, coulomb_type *type,
                     char *buf, size_t cap, size_t *len)
{
    struct arena arena;
    struct pointer p;
    coulomb_value v;
    int code;

    if (json->type != COULOMB_JSON)
        return COULOMB_E_TYPE;
    arena_init(&arena, COMPARE_MAX_BYTES);
    code = parse(pointer, from_arena, &arena, &p);
    if (code == COULOMB_OK)
        code = pointer_follow(json, &p, &arena, &v);
    if (code == COULOMB_OK)
        code = value_print(&v, NULL, buf, cap, len);
    if (code == COULOMB_OK)
        *type = v.type;
    arena_fini(&arena);
    return code;
}
