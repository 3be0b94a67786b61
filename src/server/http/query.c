/* See query.h. */
#include "server/http/query.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes into out, which has room for in.len bytes; returns the length. */
static size_t decode(struct slice in, bool plus_is_blank, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];

        if (c == '+' && plus_is_blank) {
            c = ' ';
        } else if (c == '%' && in.len - i > 2) {
            int high = hex_digit(in.ptr[i + 1]);
            int low = hex_digit(in.ptr[i + 2]);

            if (high >= 0 && low >= 0) {
                c = (char)(high * 16 + low);
                i += 2;
            }
        }
        out[n++] = c;
    }
    return n;
}

static struct slice cut(struct slice *rest, char separator)
{
    const char *end = rest->len ? memchr(rest->ptr, separator, rest->len) : NULL;
    size_t len = end ? (size_t)(end - rest->ptr) : rest->len;
    struct slice head = slice_make(rest->ptr, len);
    size_t skip = end ? len + 1 : len;

    if (skip > 0)
        *rest = slice_make(rest->ptr + skip, rest->len - skip);
    return head;
}

static int decode_utf8(struct slice in, struct arena *arena, struct slice *out)
{
    char *text = arena_alloc(arena, in.len + 1);

    if (!text)
        return ERR_MEMORY;
    size_t len = decode(in, true, text);
    text[len] = '\0';
    *out = slice_make(text, len);
    return slice_is_utf8(*out) ? 0 : ERR_INVALID;
}

int query_next(struct slice *rest, struct arena *arena, struct query_pair *out)
{
    while (rest->len > 0) {
        struct slice pair = cut(rest, '&');

        if (pair.len == 0)
            continue;
        struct slice value = pair;
        struct slice key = cut(&value, '=');
        int rc = decode_utf8(key, arena, &out->key);

        if (rc == 0)
            rc = decode_utf8(value, arena, &out->value);
        return rc == 0 ? 1 : rc;
    }
    return 0;
}

/* Without "http://host", which a client may put in front (RFC 9112, 3.2.2). */
static struct slice origin_form(struct slice target)
{
    static const char *const schemes[] = {"http://", "https://"};

    for (size_t i = 0; i < 2; i++) {
        size_t at = strlen(schemes[i]);

        if (target.len < at ||
            !slice_eq_nocase(slice_make(target.ptr, at), slice_of(schemes[i])))
            continue;
        while (at < target.len && !strchr("/?#", target.ptr[at]))
            at++;
        return slice_make(target.ptr + at, target.len - at);
    }
    return target;
}

void query_split_target(struct slice target, struct slice *path, struct slice *query)
{
    *query = origin_form(target);
    *path = cut(query, '?');
    /* A fragment has no business in a request, but must not end in a value. */
    *query = cut(query, '#');
}

bool query_normalise_path(struct slice path, char *out, size_t size)
{
    size_t n = 0;

    while (path.len > 0) {
        struct slice segment = cut(&path, '/');

        if (segment.len == 0)
            continue;
        if (size - n < segment.len + 2)
            return false;
        out[n++] = '/';
        size_t len = decode(segment, false, out + n);
        if (memchr(out + n, '/', len) || memchr(out + n, '\0', len))
            return false;
        n += len;
    }
    if (n == 0 && size > 1)
        out[n++] = '/';
    if (n >= size)
        return false;
    out[n] = '\0';
    return true;
}

static bool is_secret_name(struct slice raw_key)
{
    static const char *const names[] = {"secret",       "api_secret", "token",
                                        "access_token", "api_key",    "password"};
    char decoded[256];

    /* Of a longer key no more is needed: "secret[…" hides its value too. */
    if (raw_key.len > sizeof decoded)
        raw_key.len = sizeof decoded;
    struct slice key = slice_make(decoded, decode(raw_key, true, decoded));
    const char *open = memchr(key.ptr, '[', key.len);
    if (open)
        key.len = (size_t)(open - key.ptr);

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (slice_eq_nocase(key, slice_of(names[i])))
            return true;
    return false;
}

void query_redact(struct slice query, struct buf *out)
{
    bool first = true;

    while (query.len > 0) {
        struct slice pair = cut(&query, '&');
        struct slice value = pair;
        struct slice key = cut(&value, '=');

        if (!first)
            buf_putc(out, '&');
        first = false;
        if (!is_secret_name(key)) {
            buf_put_slice(out, pair);
            continue;
        }
        buf_put_slice(out, key);
        buf_puts(out, "=redacted");
    }
}
