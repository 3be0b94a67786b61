/* Which shapes does a change concern?
 *
 * Entries are kept by relation OID. An entry may carry a filter, made from a where-clause; an
 * index over the filters finds those that a row satisfies, in time that does not grow with
 * the number of those that it does not.
 *
 * Owned by the sequencer's thread. */
#ifndef COULOMB_SERVER_ROUTE_ROUTE_H
#define COULOMB_SERVER_ROUTE_ROUTE_H

#include "server/txn/txn.h"
#include "sql/expr.h"

struct route;

/* --- Filters --- */

/* A where-clause in the index of one relation. Reference-counted, one for all equal clauses
 * of a relation and table. */
struct route_filter;

/* The filter of a clause on the rows of a relation, with one reference more. The tree may go
 * afterwards. The table is borrowed for as long as the filter lives, and should be the same
 * object for all clauses of a relation: filters of different ones share nothing. Columns are
 * matched with the relation's by name.
 * ERR_MEMORY; ERR_INVALID or ERR_LIMIT when the clause is too complex to be compiled. The
 * index is as before then. */
int route_filter_get(struct route *r, uint32_t oid, const struct sql_expr *expr,
                     const struct sql_table *table, struct route_filter **out,
                     struct err *err);
/* NULL is fine. No entry may use it after the last. */
void route_filter_release(struct route *r, struct route_filter *filter);

/* --- Entries --- */

/* Embedded by the caller in what it wants back from a match. It must not move meanwhile. */
struct route_entry {
    uint32_t oid;
    uint32_t slot;               /* private: its place in the relation's list */
    struct route_filter *filter; /* NULL: every row; borrowed until removal */
    struct route_entry *next;    /* private: entries with the same filter */
    struct route_entry **prev;
};

struct route_hit {
    struct route_entry *entry;
    bool old_in; /* the old row satisfies the filter (false for inserts) */
    bool new_in; /* the new row does (false for deletes) */
    /* Not NULL: the filter can't be decided on this change, and old_in and new_in say
     * nothing; the reason. Borrowed like the hits. */
    const struct err *failed;
};

struct route *route_new(void);
void route_free(struct route *r); /* entries and filters must be gone */
/* Constant time, whatever the number of entries. ERR_MEMORY. */
int route_add(struct route *r, struct route_entry *entry);
void route_remove(struct route *r, struct route_entry *entry);
/* All entries of a relation, for TRUNCATE and Relation messages. Borrowed until the next
 * add or remove. */
struct route_entry *const *route_entries(const struct route *r, uint32_t oid,
                                         size_t *count);

/* --- Matching --- */

/* A Relation message came: where columns are is looked up again at the next change. */
void route_relation_changed(struct route *r, uint32_t oid);
/* The hits of one change, those with old_in or new_in or failed, each entry once. Borrowed
 * until the next call, or the next route_filter_get; entries may be removed and filters
 * released while they are read.
 * NULL with *count 0 when there are none; ERR_MEMORY through the return value. */
int route_match(struct route *r, const struct txn_change *change,
                const struct route_hit **hits, size_t *count);

#endif
