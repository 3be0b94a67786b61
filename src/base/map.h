/* A hash map from byte strings (or u64) to pointers. Open addressing, linear probing with
 * backward-shift deletion (no tombstones), at most 3/4 full, XXH3 seeded per map against
 * chosen collisions. Keys are copied into the map (up to 16 bytes without an allocation).
 * A u64 key is the string of its eight bytes in host order, and iterates as such. A NULL
 * value can be put, but map_get can't tell it from none. One owner, no locking. */
#ifndef COULOMB_BASE_MAP_H
#define COULOMB_BASE_MAP_H

#include "base/slice.h"

struct map_slot;

struct map {
    struct map_slot *slots;
    size_t cap; /* a power of two, or 0 */
    size_t len;
    uint64_t seed;
};

void map_init(struct map *m);
void map_fini(struct map *m); /* frees keys, not values */
void *map_get(const struct map *m, struct slice key);
/* Sets or replaces. *previous (may be NULL) gets what was there, else NULL. ERR_MEMORY,
 * or ERR_LIMIT for a key over 4 GiB; the map is as before then. */
int map_put(struct map *m, struct slice key, void *value, void **previous);
/* Removes and returns the value, or NULL. */
void *map_del(struct map *m, struct slice key);
void *map_get_u64(const struct map *m, uint64_t key);
int map_put_u64(struct map *m, uint64_t key, void *value, void **previous);
void *map_del_u64(struct map *m, uint64_t key);

/* Iteration: start with *it = 0; false at the end. Nothing may be put or deleted
 * meanwhile. */
bool map_next(const struct map *m, size_t *it, struct slice *key, void **value);

#endif
