/*
 * URLs. Parameters are sorted by name, as the official client does, so that the same request is the
 * same URL to every cache; a later one of the same name replaces an earlier.
 */

#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "client/stream/internal.h"

#define URL_PAIRS_MAX 4096
#define URL_BYTES_MAX (8u * 1024 * 1024)

/* Escaped, both. */
struct pair {
    size_t name;
    size_t name_len;
    size_t value;
    size_t value_len;
};

struct pairs {
    struct buf text;
    struct pair *items;
    size_t count;
    size_t cap;
    struct heap *heap;
    int code;
};

bool url_is_reserved(const char *param)
{
    static const char *const names[] = {
        "live",           "live_sse", "experimental_live_sse",
        "handle",         "offset",   "cursor",
        "expired_handle", "log",      "cache-buster"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(param, names[i]) == 0)
            return true;
    }
    return strncmp(param, "subset__", 8) == 0;
}

static struct slice pair_name(const struct pairs *p, const struct pair *item)
{
    return slice_make(p->text.ptr + item->name, item->name_len);
}

static struct pair *pair_slot(struct pairs *p, struct slice name)
{
    void *items = p->items;

    for (size_t i = 0; i < p->count; i++) {
        if (slice_eq(pair_name(p, &p->items[i]), name))
            return &p->items[i];
    }
    if (p->count == URL_PAIRS_MAX) {
        p->code = COULOMB_E_LIMIT;
        return NULL;
    }
    if (heap_grow(p->heap, &items, &p->cap, p->count + 1, sizeof(*p->items)) != 0) {
        p->code = COULOMB_E_MEMORY;
        return NULL;
    }
    p->items = items;
    return &p->items[p->count++];
}

/* Already escaped. */
static void put_raw(struct pairs *p, struct slice name, struct slice value)
{
    size_t at = p->text.len;
    struct pair *slot;

    buf_put_slice(&p->text, name);
    buf_put_slice(&p->text, value);
    if (p->text.failed) {
        p->code = p->text.failed == ERR_LIMIT ? COULOMB_E_LIMIT : COULOMB_E_MEMORY;
        return;
    }
    slot = pair_slot(p, slice_make(p->text.ptr + at, name.len));
    if (slot)
        *slot = (struct pair){at, name.len, at + name.len, value.len};
}

static void put(struct pairs *p, const char *name, const char *value)
{
    size_t at = p->text.len;
    size_t middle;
    struct pair *slot;

    if (!value)
        return;
    net_put_escaped(&p->text, slice_of(name));
    middle = p->text.len;
    net_put_escaped(&p->text, slice_of(value));
    if (p->text.failed) {
        p->code = p->text.failed == ERR_LIMIT ? COULOMB_E_LIMIT : COULOMB_E_MEMORY;
        return;
    }
    slot = pair_slot(p, slice_make(p->text.ptr + at, middle - at));
    if (slot)
        *slot = (struct pair){at, middle - at, middle, p->text.len - middle};
}

static void put_fields(struct pairs *p, const struct net_header *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put(p, items[i].name, items[i].value);
}

/* What stands behind the URL's question mark. */
static void put_query(struct pairs *p, const char *query)
{
    while (*query && *query != '#') {
        size_t n = strcspn(query, "&#");
        const char *equals = memchr(query, '=', n);
        size_t name = equals ? (size_t)(equals - query) : n;

        if (n > 0)
            put_raw(p, slice_make(query, name),
                    equals ? slice_make(equals + 1, n - name - 1) : slice_make("", 0));
        query += n + (query[n] == '&');
    }
}

/* Insertion sort: there are a few, and most are in order. */
static void sort_pairs(struct pairs *p)
{
    for (size_t i = 1; i < p->count; i++) {
        struct pair moved = p->items[i];
        size_t at = i;

        while (at > 0 &&
               slice_cmp(pair_name(p, &p->items[at - 1]), pair_name(p, &moved)) > 0) {
            p->items[at] = p->items[at - 1];
            at--;
        }
        p->items[at] = moved;
    }
}

static int write_url(const struct shape_stream *s, struct pairs *p, struct buf *out)
{
    if (p->code != COULOMB_OK)
        return p->code;
    buf_put(out, s->url, strcspn(s->url, "?#"));
    sort_pairs(p);
    for (size_t i = 0; i < p->count; i++) {
        buf_putc(out, i == 0 ? '?' : '&');
        buf_put_slice(out, pair_name(p, &p->items[i]));
        buf_putc(out, '=');
        buf_put(out, p->text.ptr + p->items[i].value, p->items[i].value_len);
    }
    buf_putc(out, '\0');
    return out->failed ? COULOMB_E_MEMORY : COULOMB_OK;
}

static void pairs_init(struct pairs *p, const struct shape_stream *s)
{
    const char *query = strchr(s->url, '?');

    *p = (struct pairs){.heap = s->heap};
    buf_init_from(&p->text, URL_BYTES_MAX, &p->heap->mem);
    if (query)
        put_query(p, query + 1);
    put_fields(p, s->shape.items, s->shape.count);
    put(p, "log", s->changes_only ? "changes_only" : "full");
}

static void pairs_fini(struct pairs *p)
{
    buf_fini(&p->text);
    heap_free(p->heap, p->items, p->cap * sizeof(*p->items));
}

int url_make(const struct shape_stream *s, const struct url_request *r, struct buf *out)
{
    struct pairs p;
    int code;

    pairs_init(&p, s);
    put_fields(&p, r->params, r->param_count);
    if (r->more)
        put_fields(&p, r->more->items, r->more->count);
    put(&p, "offset", r->offset->ptr);
    put(&p, "handle", r->handle->ptr);
    put(&p, "cursor", r->cursor);
    if (r->live)
        put(&p, "live", "true");
    if (r->sse) {
        put(&p, "live_sse", "true");
        put(&p, "experimental_live_sse", "true");
    }
    if (r->buster && r->buster[0])
        put(&p, "cache-buster", r->buster);
    put(&p, "expired_handle", r->expired);
    code = write_url(s, &p, out);
    pairs_fini(&p);
    return code;
}

/* What proves who asks (spec section 1.2, and its kin) is no part of the shape: a key is kept. */
static bool is_secret(struct slice name)
{
    static const char *const names[] = {
        "secret", "api_secret", "token", "access_token", "api_key", "apikey", "password"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (slice_eq(name, slice_of(names[i])))
            return true;
    return false;
}

static void drop_secrets(struct pairs *p)
{
    size_t kept = 0;

    for (size_t i = 0; i < p->count; i++)
        if (!is_secret(pair_name(p, &p->items[i])))
            p->items[kept++] = p->items[i];
    p->count = kept;
}

/* "user:password@" between the slashes and the host. */
static void drop_user(struct buf *url)
{
    char *host = url->ptr ? strstr(url->ptr, "//") : NULL;
    char *at;

    if (!host)
        return;
    host += 2;
    at = memchr(host, '@', strcspn(host, "/?#"));
    if (!at)
        return;
    memmove(host, at + 1, url->len - (size_t)(at + 1 - url->ptr));
    buf_truncate(url, url->len - (size_t)(at + 1 - host));
}

int url_make_key(struct shape_stream *s)
{
    struct pairs p;
    int code;

    pairs_init(&p, s);
    drop_secrets(&p);
    buf_reset(&s->key, SIZE_MAX);
    code = write_url(s, &p, &s->key);
    if (code == COULOMB_OK)
        drop_user(&s->key);
    pairs_fini(&p);
    return code;
}
