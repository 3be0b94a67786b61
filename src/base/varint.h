/* Numbers in as few bytes as they need: seven bits a byte, low ones first, the top bit set
 * on all but the last (LEB128). Signed numbers near zero are zigzagged first. */
#ifndef COULOMB_BASE_VARINT_H
#define COULOMB_BASE_VARINT_H

#include "base/buf.h"

#define VARINT_MAX_BYTES 10u

/* Writes v to out, which has VARINT_MAX_BYTES of room; returns how many it took. */
static inline size_t varint_put(char *out, uint64_t v)
{
    size_t n = 0;

    for (; v >= 0x80; v >>= 7)
        out[n++] = (char)(unsigned char)(v | 0x80);
    out[n++] = (char)(unsigned char)v;
    return n;
}

static inline uint64_t varint_zigzag(uint64_t from, uint64_t to)
{
    uint64_t delta = to - from; /* modulo 2^64 */

    return delta << 1 ^ (delta >> 63 ? UINT64_MAX : 0);
}

static inline uint64_t varint_unzigzag(uint64_t from, uint64_t v)
{
    return from + (v >> 1 ^ (v & 1 ? UINT64_MAX : 0));
}

static inline void buf_put_varint(struct buf *b, uint64_t v)
{
    char bytes[VARINT_MAX_BYTES];

    buf_put(b, bytes, varint_put(bytes, v));
}

/* Reads in order. Sticky: after the first number that is cut off or too long everything
 * reads as 0 and `failed` stays set. */
struct varint_reader {
    const char *at;
    const char *end;
    bool failed;
};

static inline struct varint_reader varint_reader_make(struct slice s)
{
    /* No bytes may be at NULL, to which not even 0 may be added. */
    const char *at = s.len > 0 ? s.ptr : "";

    return (struct varint_reader){at, at + s.len, false};
}

static inline uint64_t varint_get(struct varint_reader *r)
{
    uint64_t v = 0;

    for (unsigned shift = 0; !r->failed && r->at < r->end && shift < 64; shift += 7) {
        unsigned char byte = (unsigned char)*r->at++;

        if (shift == 63 && byte > 1)
            break;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return v;
    }
    r->failed = true;
    return 0;
}

/* n raw bytes; empty and failed when there are fewer. */
static inline struct slice varint_bytes(struct varint_reader *r, uint64_t n)
{
    struct slice s = {r->at, 0};

    if (r->failed || n > (uint64_t)(r->end - r->at)) {
        r->failed = true;
        return s;
    }
    s.len = (size_t)n;
    r->at += n;
    return s;
}

#endif
