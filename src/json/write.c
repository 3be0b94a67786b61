/*
 * The escaping writer. It runs once per value of every row, so the common case, a value
 * without anything to escape, is: one reservation, one scan, one memcpy.
 *
 *   escape = \" \\ \b \f \n \r \t / \u00XX for the other bytes below 0x20
 *
 * Nothing else is escaped: DEL, U+2028 and non-ASCII text travel as they are. Room is
 * reserved for exactly what is written (the rest of the value, and each escape as it
 * comes up), so a buffer's maximum is met to the byte.
 */

#include "json/json.h"

#include "base/assert.h"
#include "json/scan.h"

static size_t escape(char c, char out[6])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char u = (unsigned char)c;
    char letter;

    switch (c) {
    case '"':
    case '\\':
        letter = c;
        break;
    case '\b':
        letter = 'b';
        break;
    case '\f':
        letter = 'f';
        break;
    case '\n':
        letter = 'n';
        break;
    case '\r':
        letter = 'r';
        break;
    case '\t':
        letter = 't';
        break;
    default:
        memcpy(out, "\\u00", 4);
        out[4] = hex[u >> 4];
        out[5] = hex[u & 15];
        return 6;
    }
    out[0] = '\\';
    out[1] = letter;
    return 2;
}

/* Writes s escaped at room, where s.len + after bytes are reserved. Returns the end, at
 * which `after` bytes are still reserved, or NULL when the buffer failed. */
static char *put_runs(struct buf *out, char *room, struct slice s, size_t after)
{
    for (;;) {
        size_t clean = json_clean_run(s);
        char escaped[6];
        size_t n;

        if (clean > 0)
            memcpy(room, s.ptr, clean);
        room += clean;
        if (clean == s.len)
            return room;
        n = escape(s.ptr[clean], escaped);
        s.ptr += clean + 1;
        s.len -= clean + 1;
        out->len = (size_t)(room - out->ptr);
        room = buf_reserve(out, n + s.len + after);
        if (!room)
            return NULL;
        memcpy(room, escaped, n);
        room += n;
    }
}

void json_put_string(struct buf *out, struct slice s)
{
    char *room;

    ASSERT(s.len <= PTRDIFF_MAX); /* no object is larger, so the sums below hold */
    room = buf_reserve(out, s.len + 2);
    if (!room)
        return;
    *room = '"';
    room = put_runs(out, room + 1, s, 1);
    if (!room)
        return;
    *room++ = '"';
    out->len = (size_t)(room - out->ptr);
}

void json_put_escaped(struct buf *out, struct slice s)
{
    char *room;

    ASSERT(s.len <= PTRDIFF_MAX);
    room = buf_reserve(out, s.len);
    if (!room)
        return;
    room = put_runs(out, room, s, 0);
    if (room)
        out->len = (size_t)(room - out->ptr);
}

void json_put_untrusted(struct buf *out, struct slice s)
{
    buf_putc(out, '"');
    while (s.len > 0 && !out->failed) {
        size_t good = slice_utf8_prefix(s);

        json_put_escaped(out, slice_make(s.ptr, good));
        if (good == s.len)
            break;
        buf_put(out, "\xEF\xBF\xBD", 3);
        s.ptr += good + 1;
        s.len -= good + 1;
    }
    buf_putc(out, '"');
}
