/* Where an arena, a buffer or a reader takes its memory: from malloc, or from what its owner puts in
 * that place, as libcoulomb does with its host's allocator. */
#ifndef COULOMB_BASE_MEM_H
#define COULOMB_BASE_MEM_H

#include <stddef.h>
#include <stdlib.h>

struct mem {
    /* A block of new_bytes with what fits of the old one, which is gone then; NULL leaves it. ptr is
     * NULL for a first block. new_bytes 0 frees. */
    void *(*resize)(void *ctx, void *ptr, size_t old_bytes, size_t new_bytes);
    void *ctx;
};

/* mem NULL: malloc. */
static inline void *mem_resize(const struct mem *mem, void *ptr, size_t old_bytes,
                               size_t new_bytes)
{
    if (mem)
        return mem->resize(mem->ctx, ptr, old_bytes, new_bytes);
    if (new_bytes > 0)
        return realloc(ptr, new_bytes);
    free(ptr);
    return NULL;
}

#endif
