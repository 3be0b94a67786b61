/*
 * Memory. Everything that a client keeps goes through here, so that a host's allocator sees it, a
 * failing one is survived, and a test can ask whether anything is left.
 */

#include "client/loop/heap.h"

#include <stdlib.h>
#include <string.h>

#define POOL_FIRST_BYTES 256u
#define POOL_BLOCK_MAX   65536u

struct pool_block {
    struct pool_block *next;
    size_t used;
    size_t size;
};

static void *system_realloc(void *ptr, size_t n, void *arg)
{
    (void)arg;
    return realloc(ptr, n);
}

static void system_free(void *ptr, void *arg)
{
    (void)arg;
    free(ptr);
}

static void *heap_resize(void *ctx, void *ptr, size_t old_bytes, size_t new_bytes)
{
    if (new_bytes > 0)
        return heap_realloc(ctx, ptr, old_bytes, new_bytes);
    heap_free(ctx, ptr, old_bytes);
    return NULL;
}

static void *shared_resize(void *ctx, void *ptr, size_t old_bytes, size_t new_bytes)
{
    (void)old_bytes;
    if (new_bytes > 0)
        return heap_shared(ctx, ptr, new_bytes);
    heap_shared_free(ctx, ptr);
    return NULL;
}

struct heap *heap_new(const coulomb_allocator *allocator)
{
    coulomb_allocator a = {system_realloc, system_free, NULL};
    struct heap *h;

    if (allocator && allocator->realloc_fn)
        a = *allocator;
    h = a.realloc_fn(NULL, sizeof(*h), a.arg);
    if (h)
        *h = (struct heap){.allocator = a,
                           .refs = 1,
                           .bytes = sizeof(*h),
                           .mem = {heap_resize, h},
                           .shared = {shared_resize, h}};
    return h;
}

void heap_retain(struct heap *h)
{
    h->refs++;
}

void heap_release(struct heap *h)
{
    if (--h->refs == 0) {
        coulomb_allocator a = h->allocator;

        a.free_fn(h, a.arg);
    }
}

void *heap_alloc(struct heap *h, size_t n)
{
    return heap_realloc(h, NULL, 0, n);
}

void *heap_zalloc(struct heap *h, size_t n)
{
    void *ptr = heap_alloc(h, n);

    if (ptr)
        memset(ptr, 0, n);
    return ptr;
}

void *heap_realloc(struct heap *h, void *ptr, size_t old_bytes, size_t new_bytes)
{
    void *fresh;

    if (new_bytes > PTRDIFF_MAX)
        return NULL;
    fresh = h->allocator.realloc_fn(ptr, new_bytes > 0 ? new_bytes : 1, h->allocator.arg);
    if (fresh)
        h->bytes += new_bytes - old_bytes;
    return fresh;
}

void heap_free(struct heap *h, void *ptr, size_t n)
{
    if (!ptr)
        return;
    h->bytes -= n;
    h->allocator.free_fn(ptr, h->allocator.arg);
}

void *heap_shared(struct heap *h, void *ptr, size_t n)
{
    if (n > PTRDIFF_MAX)
        return NULL;
    return h->allocator.realloc_fn(ptr, n > 0 ? n : 1, h->allocator.arg);
}

void heap_shared_free(struct heap *h, void *ptr)
{
    if (ptr)
        h->allocator.free_fn(ptr, h->allocator.arg);
}

int blob_set(struct heap *h, struct blob *b, const void *bytes, size_t len)
{
    char *copy = NULL;

    if (bytes) {
        if (len >= PTRDIFF_MAX)
            return COULOMB_E_MEMORY;
        copy = heap_alloc(h, len + 1);
        if (!copy)
            return COULOMB_E_MEMORY;
        if (len > 0)
            memcpy(copy, bytes, len);
        copy[len] = '\0';
    }
    blob_fini(h, b);
    *b = (struct blob){copy, copy ? len : 0};
    return COULOMB_OK;
}

void blob_fini(struct heap *h, struct blob *b)
{
    heap_free(h, b->ptr, b->len + 1);
    *b = (struct blob){NULL, 0};
}

char *heap_strdup(struct heap *h, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = heap_alloc(h, n);

    if (copy)
        memcpy(copy, text, n);
    return copy;
}

void heap_free_str(struct heap *h, char *text)
{
    if (text)
        heap_free(h, text, strlen(text) + 1);
}

int heap_grow(struct heap *h, void **items, size_t *cap, size_t want, size_t item_bytes)
{
    size_t fresh = *cap + *cap / 2;
    void *grown;

    if (want <= *cap)
        return COULOMB_OK;
    if (fresh < want)
        fresh = want;
    if (fresh < 8 && want <= 8)
        fresh = 8;
    if (fresh > PTRDIFF_MAX / item_bytes)
        return COULOMB_E_MEMORY;
    grown = heap_realloc(h, *items, *cap * item_bytes, fresh * item_bytes);
    if (!grown)
        return COULOMB_E_MEMORY;
    *items = grown;
    *cap = fresh;
    return COULOMB_OK;
}

void pool_init(struct pool *p, struct heap *h)
{
    *p = (struct pool){.heap = h};
}

void pool_fini(struct pool *p)
{
    while (p->head) {
        struct pool_block *block = p->head;

        p->head = block->next;
        heap_free(p->heap, block, sizeof(*block) + block->size);
    }
}

void *pool_alloc(struct pool *p, size_t n)
{
    struct pool_block *block = p->head;
    size_t rounded = (n + 7) & ~(size_t)7;

    if (rounded < n)
        return NULL;
    if (!block || block->size - block->used < rounded) {
        size_t size = block ? block->size * 2 : POOL_FIRST_BYTES;

        if (size > POOL_BLOCK_MAX)
            size = POOL_BLOCK_MAX;
        if (size < rounded)
            size = rounded;
        if (size > PTRDIFF_MAX - sizeof(*block))
            return NULL;
        block = heap_alloc(p->heap, sizeof(*block) + size);
        if (!block)
            return NULL;
        *block = (struct pool_block){.next = p->head, .size = size};
        p->head = block;
    }
    block->used += rounded;
    return (char *)(block + 1) + block->used - rounded;
}

void pool_append(struct pool *p, struct pool *other)
{
    struct pool_block **end = &p->head;

    while (*end)
        end = &(*end)->next;
    *end = other->head;
    other->head = NULL;
}
