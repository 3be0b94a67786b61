/*
 * The hash map: open addressing with linear probing.
 *
 *   slots   [ k3 | – | k1 | k7 | k2 | – | – | k9 ]      home(k) = hash & (cap - 1)
 *                      └─ probe run ─┘
 *
 * A slot is 32 bytes, two to a cache line: 32 bits of the hash (0 marks an empty slot),
 * the key's length, the value, and the key itself when it fits 16 bytes (u64 keys, uuids
 * in binary, short names), else a pointer to a copy.
 *
 * Deletion shifts the rest of the probe run back instead of leaving a tombstone, so
 * lookups stay short under any mixture of puts and deletes. The table never shrinks: maps
 * here follow the number of shapes, connections or relations, and go when their owner
 * goes.
 *
 * Chaining was rejected for its allocation per entry; swiss-table groups for their size
 * of code against tables that mostly fit the cache.
 *
 * Invariants: len <= cap * 3/4, so a probe meets an empty slot; no empty slot lies
 * between an entry's home and its place.
 */

#include "base/map.h"

#include <stdlib.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/err.h"

#define INLINE_KEY_BYTES 16u
#define FIRST_CAP        8u
#define CAP_MAX          ((size_t)1 << 31) /* the stored hash has 32 bits */

struct map_slot {
    uint32_t hash; /* 0: empty */
    uint32_t key_len;
    void *value;
    union {
        char bytes[INLINE_KEY_BYTES];
        char *heap; /* when key_len > INLINE_KEY_BYTES */
    } key;
};

static struct slice slot_key(const struct map_slot *slot)
{
    return slice_make(slot->key_len <= INLINE_KEY_BYTES ? slot->key.bytes
                                                        : slot->key.heap,
                      slot->key_len);
}

void map_init(struct map *m)
{
    memset(m, 0, sizeof(*m));
}

void map_fini(struct map *m)
{
    for (size_t i = 0; i < m->cap; i++) {
        if (m->slots[i].hash != 0 && m->slots[i].key_len > INLINE_KEY_BYTES)
            free(m->slots[i].key.heap);
    }
    free(m->slots);
    memset(m, 0, sizeof(*m));
}

static uint32_t hash_key(const struct map *m, struct slice key)
{
    uint64_t wide = XXH3_64bits_withSeed(key.len ? key.ptr : "", key.len, m->seed);
    uint32_t hash = (uint32_t)(wide ^ (wide >> 32));

    return hash != 0 ? hash : 1;
}

/* The slot of key, or the empty slot where it would go. cap is not 0. */
static size_t find(const struct map *m, struct slice key, uint32_t hash)
{
    size_t mask = m->cap - 1;
    size_t i = hash & mask;

    while (m->slots[i].hash != 0) {
        if (m->slots[i].hash == hash && slice_eq(slot_key(&m->slots[i]), key))
            break;
        i = (i + 1) & mask;
    }
    return i;
}

void *map_get(const struct map *m, struct slice key)
{
    size_t i;

    if (m->len == 0)
        return NULL;
    i = find(m, key, hash_key(m, key));
    return m->slots[i].hash != 0 ? m->slots[i].value : NULL;
}

/* Unpredictable where the kernel can say so, and different per map in any case. */
static uint64_t make_seed(const struct map *m)
{
    uint64_t seed;

    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) == (ssize_t)sizeof(seed))
        return seed;
    return (uint64_t)clock_wall_us() * 0x9E3779B97F4A7C15u ^ (uint64_t)(uintptr_t)m;
}

static int grow(struct map *m)
{
    size_t cap = m->cap ? m->cap * 2 : FIRST_CAP;
    struct map_slot *old = m->slots;
    struct map_slot *slots;
    size_t old_cap = m->cap;

    if (m->cap >= CAP_MAX)
        return ERR_MEMORY;
    slots = calloc(cap, sizeof(*slots));
    if (!slots)
        return ERR_MEMORY;
    if (old_cap == 0)
        m->seed = make_seed(m);
    for (size_t i = 0; i < old_cap; i++) {
        size_t to = old[i].hash & (cap - 1);

        if (old[i].hash == 0)
            continue;
        while (slots[to].hash != 0)
            to = (to + 1) & (cap - 1);
        slots[to] = old[i];
    }
    free(old);
    m->slots = slots;
    m->cap = cap;
    return 0;
}

/* Fills an empty slot; leaves it empty on failure. */
static int slot_fill(struct map_slot *slot, struct slice key, uint32_t hash, void *value)
{
    char *to = slot->key.bytes;

    if (key.len > INLINE_KEY_BYTES) {
        to = malloc(key.len);
        if (!to)
            return ERR_MEMORY;
        slot->key.heap = to;
    }
    if (key.len > 0)
        memcpy(to, key.ptr, key.len);
    slot->key_len = (uint32_t)key.len;
    slot->value = value;
    slot->hash = hash;
    return 0;
}

int map_put(struct map *m, struct slice key, void *value, void **previous)
{
    uint32_t hash;
    size_t i;

    if (previous)
        *previous = NULL;
    if (key.len > UINT32_MAX)
        return ERR_LIMIT;
    if (m->cap == 0 && grow(m) != 0)
        return ERR_MEMORY;
    hash = hash_key(m, key);
    i = find(m, key, hash);
    if (m->slots[i].hash != 0) {
        if (previous)
            *previous = m->slots[i].value;
        m->slots[i].value = value;
        return 0;
    }
    if (m->len + 1 > m->cap / 4 * 3) {
        if (grow(m) != 0)
            return ERR_MEMORY;
        i = find(m, key, hash);
    }
    if (slot_fill(&m->slots[i], key, hash, value) != 0)
        return ERR_MEMORY;
    m->len++;
    return 0;
}

/* Empties slot `hole`, moving back the entries behind it that may stand nearer their
 * home. */
static void close_hole(struct map *m, size_t hole)
{
    size_t mask = m->cap - 1;

    for (size_t i = (hole + 1) & mask; m->slots[i].hash != 0; i = (i + 1) & mask) {
        size_t home = m->slots[i].hash & mask;

        /* Distances are taken modulo cap, as runs wrap around the end. */
        if (((i - home) & mask) < ((i - hole) & mask))
            continue; /* its home lies behind the hole */
        m->slots[hole] = m->slots[i];
        hole = i;
    }
    m->slots[hole].hash = 0;
}

void *map_del(struct map *m, struct slice key)
{
    struct map_slot *slot;
    void *value;
    size_t i;

    if (m->len == 0)
        return NULL;
    i = find(m, key, hash_key(m, key));
    slot = &m->slots[i];
    if (slot->hash == 0)
        return NULL;
    value = slot->value;
    if (slot->key_len > INLINE_KEY_BYTES)
        free(slot->key.heap);
    close_hole(m, i);
    m->len--;
    return value;
}

static struct slice u64_key(const uint64_t *key)
{
    return slice_make((const char *)key, sizeof(*key));
}

void *map_get_u64(const struct map *m, uint64_t key)
{
    return map_get(m, u64_key(&key));
}

int map_put_u64(struct map *m, uint64_t key, void *value, void **previous)
{
    return map_put(m, u64_key(&key), value, previous);
}

void *map_del_u64(struct map *m, uint64_t key)
{
    return map_del(m, u64_key(&key));
}

bool map_next(const struct map *m, size_t *it, struct slice *key, void **value)
{
    while (*it < m->cap) {
        const struct map_slot *slot = &m->slots[(*it)++];

        if (slot->hash == 0)
            continue;
        if (key)
            *key = slot_key(slot);
        if (value)
            *value = slot->value;
        return true;
    }
    return false;
}
