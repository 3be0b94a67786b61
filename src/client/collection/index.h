/* Indexes: internal to collection/. */
#ifndef COULOMB_CLIENT_COLLECTION_INDEX_H
#define COULOMB_CLIENT_COLLECTION_INDEX_H

#include "client/collection/collection.h"

struct hash_slot {
    struct coulomb_row *row; /* NULL: free */
    uint64_t hash;
};

struct coulomb_index {
    struct list link; /* coll.indexes */
    struct coulomb_collection *coll;
    coulomb_index_type type;
    int column; /* -1: the collection's order */
    struct pool pool;
    const struct pointer *pointer; /* into the json column; NULL: the column itself */
    char *signature;
    bool stale;    /* thrown away; to be made anew */
    size_t unread; /* the order's: changes since it was read */
    bool failed;   /* an order or hash could not be computed */
    struct sorted sorted;
    struct hash_slot *slots; /* a multimap: equal values lie behind each other */
    size_t slot_count;
    size_t slot_used;
};

/* Makes it anew when it is stale. COULOMB_E_MEMORY. */
int index_fresh(struct coulomb_index *ix);
/* The value's order against a row's: for seeking. */
struct bound {
    const struct coulomb_index *ix;
    const coulomb_value *value;
    bool after;  /* equal rows count as before */
    bool failed; /* memory was out: the place is wrong */
};
bool bound_before(const struct coulomb_row *row, void *arg);

#endif
