/* Which shapes does a change concern?
 *
 * Entries are kept by relation OID. An entry may carry a filter on the row; what an index
 * on filters needs (the entry's filter at insertion, old and new row at matching, removal
 * by entry) is part of this interface, so that the index can come without touching the
 * callers. Until where-clauses exist every entry matches every change of its relation.
 *
 * Owned by the sequencer's thread. */
#ifndef COULOMB_SERVER_ROUTE_ROUTE_H
#define COULOMB_SERVER_ROUTE_ROUTE_H

#include "server/txn/txn.h"

struct route;
struct route_filter; /* a compiled where-clause; none exist yet: pass NULL */

/* Embedded by the caller in what it wants back from a match. */
struct route_entry {
    uint32_t oid;
    const struct route_filter *filter; /* NULL: every row; borrowed until removal */
    uint32_t slot;                     /* private: its place in the relation's list */
};

struct route_hit {
    struct route_entry *entry;
    bool old_in; /* the old row satisfies the filter (false for inserts) */
    bool new_in; /* the new row does (false for deletes) */
};

struct route *route_new(void);
void route_free(struct route *r); /* entries must have been removed */
/* Constant time, whatever the number of entries. ERR_MEMORY. */
int route_add(struct route *r, struct route_entry *entry);
void route_remove(struct route *r, struct route_entry *entry);
/* All entries of a relation, for TRUNCATE and Relation messages. Borrowed until the next
 * add or remove. */
struct route_entry *const *route_entries(const struct route *r, uint32_t oid,
                                         size_t *count);
/* The hits of one change, those with old_in or new_in. Borrowed until the next call. NULL
 * with *count 0 when there are none; ERR_MEMORY through the return value. */
int route_match(struct route *r, const struct txn_change *change,
                const struct route_hit **hits, size_t *count);

#endif
