/* The client's memory: the injected allocator with what is in use counted. One thread.
 *
 * A heap lives as long as anything made from it: rows may outlive their client. Blocks are given
 * back with their size, so that no header is needed to count bytes. */
#ifndef COULOMB_CLIENT_LOOP_HEAP_H
#define COULOMB_CLIENT_LOOP_HEAP_H

#include "base/mem.h"
#include "coulomb/client.h"

struct heap {
    coulomb_allocator allocator;
    size_t refs;
    size_t bytes;
    size_t rows;
    struct mem mem; /* the same memory, for arenas and buffers */
};

/* NULL: no memory. One reference. */
struct heap *heap_new(const coulomb_allocator *allocator);
void heap_retain(struct heap *h);
void heap_release(struct heap *h);
/* Never NULL for n > 0 but when memory is out. n 0 counts as 1. */
void *heap_alloc(struct heap *h, size_t n);
void *heap_zalloc(struct heap *h, size_t n);
/* The old block stays when there is no memory. */
void *heap_realloc(struct heap *h, void *ptr, size_t old_bytes, size_t new_bytes);
void heap_free(struct heap *h, void *ptr, size_t n); /* NULL is fine */
/* The same for memory that threads share: not counted, any thread. ptr NULL: an allocation. */
void *heap_shared(struct heap *h, void *ptr, size_t n);
void heap_shared_free(struct heap *h, void *ptr); /* NULL is fine */

/* Bytes of one owner. */
struct blob {
    char *ptr; /* terminated for convenience; NULL: none */
    size_t len;
};

int blob_set(struct heap *h, struct blob *b, const void *bytes, size_t len);
void blob_fini(struct heap *h, struct blob *b);
/* A terminated copy, or NULL. Freed with heap_free_str. */
char *heap_strdup(struct heap *h, const char *text);
void heap_free_str(struct heap *h, char *text);

/* Room for `want` items in an array of *cap: grows by half. COULOMB_E_MEMORY leaves it. */
int heap_grow(struct heap *h, void **items, size_t *cap, size_t want, size_t item_bytes);

/* What a module above keeps with an object of one below: freed with it. */
struct attachment {
    void (*free)(struct heap *h, struct attachment *a);
};

static inline void attachment_free(struct heap *h, struct attachment *a)
{
    if (a)
        a->free(h, a);
}

/* Small pieces that are freed together. */
struct pool_block;
struct pool {
    struct heap *heap;
    struct pool_block *head;
};

void pool_init(struct pool *p, struct heap *h);
void pool_fini(struct pool *p);
void *pool_alloc(struct pool *p, size_t n); /* aligned to 8; NULL: no memory */
/* The blocks of other, of the same heap, become those of p. */
void pool_append(struct pool *p, struct pool *other);

#endif
