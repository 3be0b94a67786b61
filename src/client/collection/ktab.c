/*
 * The hash table. Linear probing with backward-shift deletion, at most 3/4 full. The array of items
 * grows by a half, the slots double; holes in the array are chained and filled first.
 */

#include "client/collection/ktab.h"

#define SLOTS_MIN 8u
#define ITEMS_MAX (UINT32_MAX / 2)

void ktab_init(struct ktab *t, struct heap *h, coulomb_key (*key_of)(const void *item))
{
    *t = (struct ktab){.heap = h, .key_of = key_of};
}

void ktab_fini(struct ktab *t)
{
    heap_free(t->heap, t->ents, t->cap * sizeof(*t->ents));
    heap_free(t->heap, t->slots, t->slot_count * sizeof(*t->slots));
    ktab_init(t, t->heap, t->key_of);
}

/* Places are below 3/4 of the slots' number, so place + 1 has room in the mask's bits. */
static void slot_put(uint32_t *slots, uint32_t mask, uint32_t hash, uint32_t place)
{
    uint32_t i = hash & mask;

    while (slots[i] != 0)
        i = (i + 1) & mask;
    slots[i] = (hash & ~mask) | (place + 1);
}

static int grow_slots(struct ktab *t, size_t items)
{
    size_t count = t->slot_count > 0 ? t->slot_count : SLOTS_MIN;
    uint32_t *slots;

    while (items > count / 4 * 3)
        count *= 2;
    if (count == t->slot_count)
        return COULOMB_OK;
    slots = heap_zalloc(t->heap, count * sizeof(*slots));
    if (!slots)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < t->used; i++) {
        if (t->ents[i].item)
            slot_put(slots, (uint32_t)(count - 1), t->ents[i].hash, (uint32_t)i);
    }
    heap_free(t->heap, t->slots, t->slot_count * sizeof(*t->slots));
    t->slots = slots;
    t->slot_count = count;
    return COULOMB_OK;
}

int ktab_reserve(struct ktab *t, size_t n)
{
    size_t holes = t->used - t->live;
    size_t want = t->used + (n > holes ? n - holes : 0);
    void *ents = t->ents;
    int code;

    if (n > ITEMS_MAX || want > ITEMS_MAX)
        return COULOMB_E_LIMIT;
    code = heap_grow(t->heap, &ents, &t->cap, want, sizeof(*t->ents));
    t->ents = ents;
    if (code == COULOMB_OK)
        code = grow_slots(t, t->live + n);
    return code;
}

struct kent *ktab_find(const struct ktab *t, coulomb_key key, uint32_t hash)
{
    uint32_t mask = (uint32_t)(t->slot_count - 1);

    if (t->live == 0)
        return NULL;
    for (uint32_t i = hash & mask; t->slots[i] != 0; i = (i + 1) & mask) {
        struct kent *e;

        if (((t->slots[i] ^ hash) & ~mask) != 0)
            continue;
        e = &t->ents[(t->slots[i] & mask) - 1];
        if (e->hash == hash && key_equal(t->key_of(e->item), key))
            return e;
    }
    return NULL;
}

struct kent *ktab_put(struct ktab *t, void *item, uint32_t hash)
{
    uint32_t place;
    struct kent *e;

    if (t->hole != 0) {
        place = t->hole - 1;
        t->hole = t->ents[place].hash;
    } else {
        place = (uint32_t)t->used++;
    }
    e = &t->ents[place];
    *e = (struct kent){.item = item, .hash = hash};
    slot_put(t->slots, (uint32_t)(t->slot_count - 1), hash, place);
    t->live++;
    return e;
}

void ktab_remove(struct ktab *t, struct kent *ent)
{
    uint32_t place = (uint32_t)(ent - t->ents);
    uint32_t mask = (uint32_t)(t->slot_count - 1);
    uint32_t i = ent->hash & mask;
    uint32_t next;

    while ((t->slots[i] & mask) != place + 1)
        i = (i + 1) & mask;
    /* Those behind move up unless that puts them before their own slot. */
    for (next = (i + 1) & mask; t->slots[next] != 0; next = (next + 1) & mask) {
        uint32_t home = t->ents[(t->slots[next] & mask) - 1].hash & mask;

        if (((next - home) & mask) >= ((next - i) & mask)) {
            t->slots[i] = t->slots[next];
            i = next;
        }
    }
    t->slots[i] = 0;
    ent->item = NULL;
    ent->hash = t->hole;
    t->hole = place + 1;
    t->live--;
}

struct kent *ktab_next(const struct ktab *t, size_t *it)
{
    while (*it < t->used) {
        struct kent *e = &t->ents[(*it)++];

        if (e->item)
            return e;
    }
    return NULL;
}
