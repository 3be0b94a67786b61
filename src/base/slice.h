/* A borrowed run of bytes: pointer and length, not terminated, may hold NUL. */
#ifndef COULOMB_BASE_SLICE_H
#define COULOMB_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *ptr;
    size_t len;
};

#define SLICE_LIT(text) ((struct slice){(text), sizeof(text) - 1})

static inline struct slice slice_make(const char *ptr, size_t len)
{
    return (struct slice){ptr, len};
}

/* Borrows a terminated string; NULL gives the empty slice. */
static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, text ? strlen(text) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Bytewise order, shorter first on a common prefix. */
int slice_cmp(struct slice a, struct slice b);
/* ASCII case-insensitive equality. */
bool slice_eq_nocase(struct slice a, struct slice b);
/* Without ASCII blanks at both ends. */
struct slice slice_trim(struct slice s);
/* A terminated heap copy (caller frees); NULL when memory is out. */
char *slice_dup(struct slice s);
/* True when the bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool slice_is_utf8(struct slice s);
/* Length of the longest well-formed beginning: s.len when all of it is. */
size_t slice_utf8_prefix(struct slice s);

/* Strict decimal numbers: the whole slice, an optional sign only where stated, no blanks.
 * Return false, leaving *out alone, on anything else or when out of range. */
bool slice_to_u64(struct slice s, uint64_t *out);
bool slice_to_i64(struct slice s, int64_t *out); /* takes '-' and '+' */

#endif
