/*
 * The arena: blocks of memory, filled from the front, freed together.
 *
 *   head ──► [block being filled] ──► [older] ──► [older, or one request's own] ──► NULL
 *
 * Blocks double from 4 KiB to 1 MiB, so n bytes cost O(log n) allocations at first and
 * one per MiB later. A request too large for such a block gets one of its own, placed
 * behind the head, which then goes on being filled. After a reset one block of at most 1
 * MiB stays: a steady load soon fits it, a single huge transaction does not pin its
 * memory.
 *
 * Keeping a list of all blocks for reuse was rejected: it pins the high-water mark.
 */

#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISONS 1
#endif
#endif
#ifdef ARENA_POISONS
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(ptr, n)   ((void)(ptr), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(ptr, n) ((void)(ptr), (void)(n))
#endif

#define ALIGN_BYTES       16u
#define FIRST_BLOCK_BYTES 4096u
#define BLOCK_MAX_BYTES   (1024u * 1024)

struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t size; /* of data, a multiple of ALIGN_BYTES */
    _Alignas(ALIGN_BYTES) char data[];
};

_Static_assert(sizeof(struct arena_block) % ALIGN_BYTES == 0, "data is aligned");
_Static_assert(_Alignof(max_align_t) >= ALIGN_BYTES, "malloc aligns blocks");

void arena_init_from(struct arena *a, size_t max_bytes, const struct mem *mem)
{
    a->head = NULL;
    a->used_bytes = 0;
    a->max_bytes = max_bytes;
    a->mem = mem;
}

void arena_init(struct arena *a, size_t max_bytes)
{
    arena_init_from(a, max_bytes, NULL);
}

static void block_free(const struct arena *a, struct arena_block *block)
{
    ASAN_UNPOISON_MEMORY_REGION(block->data, block->size);
    mem_resize(a->mem, block, sizeof(*block) + block->size, 0);
}

void arena_fini(struct arena *a)
{
    while (a->head) {
        struct arena_block *block = a->head;

        a->head = block->next;
        block_free(a, block);
    }
    a->used_bytes = 0;
}

void arena_reset(struct arena *a)
{
    struct arena_block *kept = NULL;

    while (a->head) {
        struct arena_block *block = a->head;
        struct arena_block *loser = block;

        a->head = block->next;
        if (block->size <= BLOCK_MAX_BYTES && (!kept || block->size > kept->size)) {
            loser = kept;
            kept = block;
        }
        if (loser)
            block_free(a, loser);
    }
    if (kept) {
        ASAN_POISON_MEMORY_REGION(kept->data, kept->size);
        kept->next = NULL;
        kept->used = 0;
    }
    a->head = kept;
    a->used_bytes = 0;
}

/* A block with room for n (rounded) bytes, linked in; NULL when memory is out. */
static struct arena_block *block_add(struct arena *a, size_t n)
{
    size_t size = FIRST_BLOCK_BYTES;
    struct arena_block *block;

    if (a->head)
        size = a->head->size >= BLOCK_MAX_BYTES / 2 ? BLOCK_MAX_BYTES : a->head->size * 2;
    if (size < n)
        size = n;
    if (size > SIZE_MAX - sizeof(*block))
        return NULL;
    block = mem_resize(a->mem, NULL, 0, sizeof(*block) + size);
    if (!block)
        return NULL;
    block->used = 0;
    block->size = size;
    ASAN_POISON_MEMORY_REGION(block->data, block->size);
    if (a->head && a->head->size - a->head->used > size - n) {
        /* The head has more left than this one will: it stays in front. */
        block->next = a->head->next;
        a->head->next = block;
    } else {
        block->next = a->head;
        a->head = block;
    }
    return block;
}

void *arena_alloc(struct arena *a, size_t n)
{
    struct arena_block *block = a->head;
    size_t rounded;
    char *ptr;

    if (n > SIZE_MAX - ALIGN_BYTES)
        return NULL;
    rounded = n == 0 ? ALIGN_BYTES : (n + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    if (rounded > a->max_bytes - a->used_bytes)
        return NULL;
    if (!block || block->size - block->used < rounded)
        block = block_add(a, rounded);
    if (!block)
        return NULL;
    ptr = block->data + block->used;
    ASAN_UNPOISON_MEMORY_REGION(ptr, n);
    block->used += rounded;
    a->used_bytes += rounded;
    return ptr;
}

void *arena_zalloc(struct arena *a, size_t n)
{
    void *ptr = arena_alloc(a, n);

    if (ptr)
        memset(ptr, 0, n);
    return ptr;
}

void *arena_calloc(struct arena *a, size_t count, size_t size)
{
    if (size > 0 && count > SIZE_MAX / size)
        return NULL;
    return arena_zalloc(a, count * size);
}

char *arena_dup(struct arena *a, struct slice s)
{
    char *copy;

    if (s.len == SIZE_MAX)
        return NULL;
    copy = arena_alloc(a, s.len + 1);
    if (!copy)
        return NULL;
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return copy;
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list args;
    va_list again;
    char *text = NULL;
    int n;

    va_start(args, format);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, format, args);
    if (n >= 0)
        text = arena_alloc(a, (size_t)n + 1);
    if (text)
        vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    return text;
}
