/* Memory for one unit of work, released whole. One owner, no locking. Aligned to 16
 * bytes.
 *
 * Under AddressSanitizer what was not handed out, or was reset away, is poisoned. */
#ifndef COULOMB_BASE_ARENA_H
#define COULOMB_BASE_ARENA_H

#include "base/mem.h"
#include "base/slice.h"

struct arena_block;

struct arena {
    struct arena_block *head; /* the block being filled, older ones behind it */
    size_t used_bytes;        /* handed out since the last reset, each rounded up to 16 */
    size_t max_bytes;         /* over this, arena_alloc gives NULL */
    const struct mem *mem;    /* NULL: malloc */
};

void arena_init(struct arena *a, size_t max_bytes);
/* With blocks from mem, which is borrowed as long as the arena lives. */
void arena_init_from(struct arena *a, size_t max_bytes, const struct mem *mem);
void arena_fini(struct arena *a);
/* Frees all but one block (the largest of at most 1 MiB), so that a steady load allocates
 * nothing, and one huge unit of work does not keep its memory for ever. */
void arena_reset(struct arena *a);
/* Uninitialised memory, or NULL. n may be 0. */
void *arena_alloc(struct arena *a, size_t n);
void *arena_zalloc(struct arena *a, size_t n);
/* count * size, checked for overflow, zeroed. */
void *arena_calloc(struct arena *a, size_t count, size_t size);
/* A terminated copy. */
char *arena_dup(struct arena *a, struct slice s);
char *arena_printf(struct arena *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
