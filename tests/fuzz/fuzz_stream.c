/* fuzz: client/stream client/value client/loop sql json base */

/*
 * The stream's reader over arbitrary bytes. The first byte says which frame and into what pieces the
 * body is cut, then comes the schema header up to a NUL, then the body. Whatever pieces it comes in,
 * the messages are the same; nothing is left when it is freed.
 */

#include <stdlib.h>

#include "base/assert.h"
#include "client/stream/reader.h"

#define INPUT_MAX_BYTES (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the reader made of it: a code and a sum over everything that is told. */
struct result {
    int code;
    size_t messages;
    size_t groups;
    uint64_t sum;
};

static void add_bytes(struct result *res, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;

    for (size_t i = 0; i < n; i++)
        res->sum = (res->sum ^ p[i]) * 1099511628211u;
    res->sum = (res->sum ^ n) * 1099511628211u;
}

static void add_str(struct result *res, coulomb_str s)
{
    add_bytes(res, s.ptr, s.len);
}

static void add_value(struct result *res, const coulomb_value *v)
{
    char text[256];
    size_t len = 0;
    int code = coulomb_value_print(v, text, sizeof(text), &len);

    ASSERT(v->type <= COULOMB_ARRAY);
    add_bytes(res, &v->type, sizeof(v->type));
    if (code == COULOMB_OK)
        add_bytes(res, text, len < sizeof(text) ? len : sizeof(text) - 1);
}

static void add_headers(struct result *res, const struct stream_headers *h)
{
    add_str(res, h->schema);
    add_str(res, h->table);
    add_bytes(res, h->txids, h->txid_count * sizeof(*h->txids));
    for (size_t i = 0; i < h->tag_count; i++)
        add_str(res, h->tags[i]);
    for (size_t i = 0; i < h->removed_tag_count; i++)
        add_str(res, h->removed_tags[i]);
    for (size_t i = 0; i < h->pattern_count; i++)
        add_str(res, h->patterns[i].value);
    add_bytes(res, h->conditions, h->condition_count);
    add_str(res, h->key_change_from);
    add_str(res, h->key_change_to);
    add_bytes(res, &h->lsn, sizeof(h->lsn));
}

static void add_message(struct result *res, const struct segment *s,
                        const struct stream_message *m)
{
    ASSERT(m->headers);
    ASSERT(m->kind <= STREAM_MUST_REFETCH);
    add_bytes(res, &m->kind, sizeof(m->kind));
    add_str(res, m->key);
    add_headers(res, m->headers);
    if (m->kind == STREAM_SNAPSHOT_END) {
        ASSERT(m->snapshot);
        add_bytes(res, m->snapshot->xip, m->snapshot->xip_count * sizeof(uint64_t));
    }
    ASSERT(!stream_is_change(m) || m->values);
    for (size_t i = 0; m->values && s->schema && i < s->schema->count; i++)
        add_value(res, &m->values[i]);
    for (size_t i = 0; m->old_values && i < s->schema->count; i++)
        add_value(res, &m->old_values[i]);
    res->messages++;
}

static struct result read_all(struct heap *h, enum reader_frame frame,
                              struct schema *schema, struct slice body, size_t piece)
{
    struct result res = {0};
    struct segment *list;
    struct reader r;

    reader_init(&r, h, frame, schema, INPUT_MAX_BYTES);
    for (size_t at = 0; at < body.len && res.code == COULOMB_OK; at += piece) {
        size_t n = body.len - at < piece ? body.len - at : piece;

        res.code = reader_feed(&r, slice_make(body.ptr + at, n));
    }
    if (res.code == COULOMB_OK)
        res.code = reader_end(&r);
    ASSERT(res.code == COULOMB_OK || res.code == COULOMB_E_PROTOCOL ||
           res.code == COULOMB_E_LIMIT || res.code == COULOMB_E_MEMORY);
    ASSERT(res.code != COULOMB_E_PROTOCOL || r.why[0] != '\0');
    list = reader_take(&r);
    for (struct segment *s = list; s; s = s->next) {
        ASSERT(s->count <= SEGMENT_MESSAGES_MAX);
        ASSERT(segment_unpack(s) == COULOMB_OK);
        for (size_t i = 0; i < s->count; i++)
            add_message(&res, s, &s->messages[i]);
    }
    res.groups = r.groups;
    segments_free(list);
    reader_fini(&r);
    return res;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = slice_make((const char *)data, size);
    struct schema *schema = NULL;
    struct heap *h;
    struct result whole;
    struct result pieces;
    enum reader_frame frame;
    const char *nul;
    const char *why;
    size_t piece;

    if (size < 2 || size > INPUT_MAX_BYTES)
        return 0;
    h = heap_new(NULL);
    if (!h)
        return 0;
    frame = (enum reader_frame)(data[0] % 3);
    piece = data[0] / 3 % 40 + 1;
    input = slice_make(input.ptr + 1, input.len - 1);
    nul = memchr(input.ptr, '\0', input.len);
    if (nul) {
        size_t n = (size_t)(nul - input.ptr);

        schema = schema_parse(h, slice_make(input.ptr, n), NULL, &why);
        input = slice_make(nul + 1, input.len - n - 1);
    }
    whole = read_all(h, frame, schema, input, input.len > 0 ? input.len : 1);
    pieces = read_all(h, frame, schema, input, piece);
    ASSERT(whole.code == pieces.code && whole.messages == pieces.messages &&
           whole.groups == pieces.groups && whole.sum == pieces.sum);
    schema_release(schema);
    heap_release(h);
    return 0;
}
