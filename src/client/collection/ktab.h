/* A hash table of items that know their key. Internal.
 *
 * Items lie in an array, which iteration walks; open addressing holds their places. A place needs as
 * many bits as there are slots; the rest of a slot's 32 are the hash's. So the table costs 16 bytes for
 * an item and 4 for a slot, and a lookup touches slots that lie side by side and, as a rule, only the
 * item that it finds. Items are borrowed: the table frees none. */
#ifndef COULOMB_CLIENT_COLLECTION_KTAB_H
#define COULOMB_CLIENT_COLLECTION_KTAB_H

#include "client/value/row.h"

struct kent {
    void *item; /* NULL: a hole; hash is then the next hole's place + 1 */
    uint32_t hash;
    uint32_t flags; /* the owner's */
};

struct ktab {
    struct heap *heap;
    coulomb_key (*key_of)(const void *item);
    struct kent *ents;
    size_t used; /* places with an item or a hole */
    size_t cap;
    size_t live;
    uint32_t hole;     /* first hole's place + 1; 0: none */
    uint32_t *slots;   /* place + 1, above it the hash's upper bits; 0: free */
    size_t slot_count; /* a power of two, or 0 */
};

void ktab_init(struct ktab *t, struct heap *h, coulomb_key (*key_of)(const void *item));
void ktab_fini(struct ktab *t);
/* Room for n more items: so many ktab_put can't fail. COULOMB_E_MEMORY, COULOMB_E_LIMIT. */
int ktab_reserve(struct ktab *t, size_t n);
struct kent *ktab_find(const struct ktab *t, coulomb_key key, uint32_t hash);
/* A key that is not there, with room reserved. */
struct kent *ktab_put(struct ktab *t, void *item, uint32_t hash);
void ktab_remove(struct ktab *t, struct kent *ent);
/* The next item from place *it on; NULL at the end. Removing what was given is allowed. */
struct kent *ktab_next(const struct ktab *t, size_t *it);

static inline void *ktab_get(const struct ktab *t, coulomb_key key, uint32_t hash)
{
    struct kent *ent = t->live > 0 ? ktab_find(t, key, hash) : NULL;

    return ent ? ent->item : NULL;
}

#endif
