/* A sticky reader of big-endian wire bytes.
 *
 * The first underflow or nonsense sets `why` and the position; from then on every read
 * gives zero and moves nothing, so a decoder reads a whole message straight through and
 * checks once at the end. Inline: this is the innermost loop of the server. */
#ifndef COULOMB_SERVER_DECODE_READER_H
#define COULOMB_SERVER_DECODE_READER_H

#include "base/slice.h"

struct reader {
    const unsigned char *base;
    size_t len;
    size_t at;
    const char *why; /* NULL while all is well; else a fixed text */
};

static inline struct reader reader_make(struct slice bytes)
{
    return (struct reader){
        .base = (const unsigned char *)bytes.ptr, .len = bytes.len, .at = 0, .why = NULL};
}

static inline void reader_fail(struct reader *r, const char *why)
{
    if (!r->why)
        r->why = why;
}

static inline size_t reader_left(const struct reader *r)
{
    return r->len - r->at;
}

/* True when n more bytes can be read. */
static inline bool reader_need(struct reader *r, size_t n)
{
    if (r->why)
        return false;
    if (r->len - r->at < n) {
        r->why = "the message ends too early";
        return false;
    }
    return true;
}

static inline uint8_t reader_u8(struct reader *r)
{
    return reader_need(r, 1) ? r->base[r->at++] : 0;
}

static inline uint16_t reader_u16(struct reader *r)
{
    const unsigned char *p;

    if (!reader_need(r, 2))
        return 0;
    p = r->base + r->at;
    r->at += 2;
    return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

static inline uint32_t reader_u32(struct reader *r)
{
    const unsigned char *p;

    if (!reader_need(r, 4))
        return 0;
    p = r->base + r->at;
    r->at += 4;
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t reader_u64(struct reader *r)
{
    uint64_t high = reader_u32(r);
    uint64_t low = reader_u32(r);

    return high << 32 | low;
}

static inline struct slice reader_bytes(struct reader *r, size_t n)
{
    struct slice s;

    if (!reader_need(r, n))
        return SLICE_LIT("");
    s = slice_make((const char *)(r->base + r->at), n);
    r->at += n;
    return s;
}

/* A NUL-terminated string, without its NUL. */
static inline struct slice reader_string(struct reader *r)
{
    const unsigned char *start;
    const unsigned char *end;

    if (!reader_need(r, 1))
        return SLICE_LIT("");
    start = r->base + r->at;
    end = memchr(start, 0, reader_left(r));
    if (!end) {
        reader_fail(r, "a string has no terminating NUL");
        return SLICE_LIT("");
    }
    r->at += (size_t)(end - start) + 1;
    return slice_make((const char *)start, (size_t)(end - start));
}

#endif
