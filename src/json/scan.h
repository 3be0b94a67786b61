/* The inner loop of both the writer and the reader: how many bytes of a string stand for
 * themselves. Internal to json/.
 *
 * Sixteen bytes at a time with SSE2 or NEON, which every x86-64 and AArch64 has, and
 * never past the end of the input: the last 16 bytes are looked at again rather than
 * overrun. Eight at a time in a register for what is shorter, and elsewhere. */
#ifndef COULOMB_JSON_SCAN_H
#define COULOMB_JSON_SCAN_H

#include "base/slice.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#define JSON_SCAN_SIMD 1
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define JSON_SCAN_SIMD 1
#endif

/* The quote, the backslash and the bytes below 0x20. */
static inline bool json_is_special(char c)
{
    return (unsigned char)c < 0x20 || c == '"' || c == '\\';
}

static inline size_t json_clean_bytes(const char *p, size_t n)
{
    size_t i = 0;

    while (i < n && !json_is_special(p[i]))
        i++;
    return i;
}

/* The high bit of some byte is set when one of the eight is special. A borrow can only
 * mark the byte above a true find, so zero is exact. */
static inline uint64_t json_special_mask8(const char *p)
{
    const uint64_t ones = 0x0101010101010101u;
    const uint64_t high = 0x8080808080808080u;
    uint64_t word;
    uint64_t quote;
    uint64_t slash;

    memcpy(&word, p, sizeof(word));
    quote = word ^ (ones * '"');
    slash = word ^ (ones * '\\');
    return (((word - ones * 0x20) & ~word) | ((quote - ones) & ~quote) |
            ((slash - ones) & ~slash)) &
           high;
}

#if defined(__SSE2__)

/* True when one of the 16 bytes is special; *at is the first. */
static inline bool json_special16(const char *p, size_t *at)
{
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1F)), v);
    __m128i quote = _mm_cmpeq_epi8(v, _mm_set1_epi8('"'));
    __m128i slash = _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'));
    unsigned mask =
        (unsigned)_mm_movemask_epi8(_mm_or_si128(low, _mm_or_si128(quote, slash)));

    if (mask == 0)
        return false;
    *at = (size_t)__builtin_ctz(mask);
    return true;
}

#elif defined(JSON_SCAN_SIMD)

static inline bool json_special16(const char *p, size_t *at)
{
    uint8x16_t v = vld1q_u8((const uint8_t *)p);
    uint8x16_t found =
        vorrq_u8(vcltq_u8(v, vdupq_n_u8(0x20)),
                 vorrq_u8(vceqq_u8(v, vdupq_n_u8('"')), vceqq_u8(v, vdupq_n_u8('\\'))));
    /* Four bits per byte: the narrowing shift packs the mask into 64 bits. */
    uint8x8_t packed = vshrn_n_u16(vreinterpretq_u16_u8(found), 4);
    uint64_t mask = vget_lane_u64(vreinterpret_u64_u8(packed), 0);

    if (mask == 0)
        return false;
    *at = (size_t)__builtin_ctzll(mask) / 4;
    return true;
}

#endif

/* Length of the run before the first special byte; s.len when there is none. */
static inline size_t json_clean_run(struct slice s)
{
    size_t i = 0;

    if (s.len == 0)
        return 0; /* ptr may be NULL, to which not even 0 may be added */
#ifdef JSON_SCAN_SIMD
    if (s.len >= 16) {
        size_t at;

        for (; s.len - i >= 16; i += 16) {
            if (json_special16(s.ptr + i, &at))
                return i + at;
        }
        /* The bytes seen twice are clean, so the first find is the right one. */
        if (i < s.len && json_special16(s.ptr + s.len - 16, &at))
            return s.len - 16 + at;
        return s.len;
    }
#endif
    for (; s.len - i >= 8; i += 8) {
        if (json_special_mask8(s.ptr + i) != 0)
            return i + json_clean_bytes(s.ptr + i, 8);
    }
    return i + json_clean_bytes(s.ptr + i, s.len - i);
}

#endif
