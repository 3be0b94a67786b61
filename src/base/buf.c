/*
 * The growable buffer.
 *
 * Memory doubles until max_bytes, so appends are amortised O(1). One byte more than cap
 * is always allocated: buf_take puts the NUL there without the maximum being in the way,
 * and a zero-length reservation has a pointer to give.
 *
 * Invariants: len <= cap <= max_bytes; ptr is NULL only while cap is 0.
 */

#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"

#define FIRST_CAP_BYTES 64u

void buf_init_from(struct buf *b, size_t max_bytes, const struct mem *mem)
{
    memset(b, 0, sizeof(*b));
    /* The byte for the NUL must not overflow. */
    b->max_bytes = max_bytes < SIZE_MAX ? max_bytes : SIZE_MAX - 1;
    b->mem = mem;
}

void buf_init(struct buf *b, size_t max_bytes)
{
    buf_init_from(b, max_bytes, NULL);
}

static void release(struct buf *b)
{
    if (b->ptr)
        mem_resize(b->mem, b->ptr, b->cap + 1, 0);
    b->ptr = NULL;
    b->len = 0;
    b->cap = 0;
}

void buf_fini(struct buf *b)
{
    release(b);
}

void buf_reset(struct buf *b, size_t keep_bytes)
{
    if (b->cap > keep_bytes)
        release(b);
    b->len = 0;
    b->failed = 0;
}

/* Makes cap at least need, which is at most max_bytes. */
static bool grow(struct buf *b, size_t need)
{
    size_t cap = b->cap > b->max_bytes / 2 ? b->max_bytes : b->cap * 2;
    char *ptr;

    if (cap < FIRST_CAP_BYTES)
        cap = b->max_bytes < FIRST_CAP_BYTES ? b->max_bytes : FIRST_CAP_BYTES;
    if (cap < need)
        cap = need;
    ptr = mem_resize(b->mem, b->ptr, b->ptr ? b->cap + 1 : 0, cap + 1);
    if (!ptr) {
        b->failed = ERR_MEMORY;
        return false;
    }
    b->ptr = ptr;
    b->cap = cap;
    return true;
}

char *buf_reserve(struct buf *b, size_t n)
{
    if (b->failed)
        return NULL;
    if (n > b->max_bytes - b->len) {
        b->failed = ERR_LIMIT;
        return NULL;
    }
    if ((n > b->cap - b->len || !b->ptr) && !grow(b, b->len + n))
        return NULL;
    return b->ptr + b->len;
}

void buf_put(struct buf *b, const void *bytes, size_t n)
{
    char *room = buf_reserve(b, n);

    if (!room || n == 0)
        return;
    memcpy(room, bytes, n);
    b->len += n;
}

void buf_putc(struct buf *b, char c)
{
    char *room = buf_reserve(b, 1);

    if (!room)
        return;
    *room = c;
    b->len++;
}

void buf_puts(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

void buf_put_slice(struct buf *b, struct slice s)
{
    buf_put(b, s.ptr, s.len);
}

void buf_put_u64(struct buf *b, uint64_t v)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    buf_put(b, digits + at, sizeof(digits) - at);
}

void buf_put_i64(struct buf *b, int64_t v)
{
    char text[21];
    size_t at = sizeof(text);
    uint64_t magnitude = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

    do {
        text[--at] = (char)('0' + magnitude % 10);
        magnitude /= 10;
    } while (magnitude > 0);
    if (v < 0)
        text[--at] = '-';
    /* In one piece: at the limit the sign must not stay behind alone. */
    buf_put(b, text + at, sizeof(text) - at);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_list again;
    size_t room;
    int n;

    if (!buf_reserve(b, 0))
        return;
    va_start(args, format);
    va_copy(again, args);
    room = b->cap - b->len;
    /* room + 1: the byte kept for the NUL is there for the terminator. */
    n = vsnprintf(b->ptr + b->len, room + 1, format, args);
    if (n < 0) {
        b->failed = ERR_LIMIT; /* a result above INT_MAX */
    } else if ((size_t)n <= room) {
        b->len += (size_t)n;
    } else if (buf_reserve(b, (size_t)n)) {
        vsnprintf(b->ptr + b->len, (size_t)n + 1, format, again);
        b->len += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

static void put_le(struct buf *b, uint64_t v, size_t bytes)
{
    char text[8];

    for (size_t i = 0; i < bytes; i++)
        text[i] = (char)(unsigned char)(v >> (8 * i));
    buf_put(b, text, bytes);
}

void buf_put_le32(struct buf *b, uint32_t v)
{
    put_le(b, v, 4);
}

void buf_put_le64(struct buf *b, uint64_t v)
{
    put_le(b, v, 8);
}

void buf_truncate(struct buf *b, size_t len)
{
    ASSERT(len <= b->len);
    b->len = len;
}

void buf_consume(struct buf *b, size_t n)
{
    ASSERT(n <= b->len);
    if (n == 0)
        return;
    memmove(b->ptr, b->ptr + n, b->len - n);
    b->len -= n;
}

char *buf_take(struct buf *b, size_t *len)
{
    char *ptr = NULL;

    ASSERT(!b->mem); /* the caller frees with free() */
    if (len)
        *len = 0;
    if (buf_reserve(b, 0)) {
        ptr = b->ptr;
        ptr[b->len] = '\0';
        if (len)
            *len = b->len;
        b->ptr = NULL;
    }
    release(b);
    return ptr;
}
