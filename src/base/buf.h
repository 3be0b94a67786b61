/* A growable byte buffer with a maximum, without which it can't be made.
 *
 * Failure is sticky: once an append could not be made (memory, or the maximum), `failed`
 * holds the code and later appends do nothing, so a writer checks once at the end. One
 * owner, no locking. */
#ifndef COULOMB_BASE_BUF_H
#define COULOMB_BASE_BUF_H

#include "base/mem.h"
#include "base/slice.h"

struct buf {
    char *ptr;
    size_t len;
    size_t cap;
    size_t max_bytes;
    int failed;            /* 0, ERR_MEMORY or ERR_LIMIT */
    const struct mem *mem; /* NULL: malloc */
};

void buf_init(struct buf *b, size_t max_bytes);
/* With memory from mem, which is borrowed as long as the buffer lives. */
void buf_init_from(struct buf *b, size_t max_bytes, const struct mem *mem);
void buf_fini(struct buf *b);
/* Empties it and clears the failure; keeps the memory unless it is above keep_bytes. */
void buf_reset(struct buf *b, size_t keep_bytes);
/* Room for n more bytes at ptr + len; NULL (and failed set) when there is none. */
char *buf_reserve(struct buf *b, size_t n);
/* The bytes must not lie in the buffer itself. */
void buf_put(struct buf *b, const void *bytes, size_t n);
void buf_putc(struct buf *b, char c);
void buf_puts(struct buf *b, const char *text);
void buf_put_slice(struct buf *b, struct slice s);
void buf_put_u64(struct buf *b, uint64_t v); /* decimal */
void buf_put_i64(struct buf *b, int64_t v);
void buf_printf(struct buf *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Little-endian fixed-width integers, for on-disk records. */
void buf_put_le32(struct buf *b, uint32_t v);
void buf_put_le64(struct buf *b, uint64_t v);
/* Cuts back to len bytes (len <= current). */
void buf_truncate(struct buf *b, size_t len);
/* Drops the first n bytes (n <= len), moving the rest down. */
void buf_consume(struct buf *b, size_t n);
/* Hands the memory over, terminated by NUL (not counted); NULL when failed (the memory is
 * freed, `failed` stays). The buffer is empty afterwards; the caller frees. len may be
 * NULL. Not of a buffer with memory of its own. */
char *buf_take(struct buf *b, size_t *len);

static inline struct slice buf_slice(const struct buf *b)
{
    return slice_make(b->ptr, b->len);
}

#endif
