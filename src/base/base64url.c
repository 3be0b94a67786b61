/* See base64url.h. */
#include "base/base64url.h"

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool base64url_is_digit(char c)
{
    return value_of(c) >= 0;
}

bool base64url_decode(struct slice in, struct buf *out)
{
    unsigned bits = 0;
    unsigned held = 0;

    for (size_t i = 0; i < in.len; i++) {
        int v = value_of(in.ptr[i]);

        if (v < 0)
            return false;
        bits = (bits << 6 | (unsigned)v) & 0xffffu;
        held += 6;
        if (held >= 8) {
            held -= 8;
            buf_putc(out, (char)(bits >> held & 0xffu));
        }
    }
    return held < 6 && (bits & ((1u << held) - 1)) == 0 && !out->failed;
}
