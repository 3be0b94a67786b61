/* Which transactions are in the collection: the newest ones of messages, and what snapshots show.
 * Internal.
 *
 * Bounded: 8,192 numbers, the older ones go; 64 snapshots, of whose older ones the highest xmin is
 * kept, below which everything was seen. What comes between two commit points is staged, and counts
 * from the commit on.
 *
 * A subset's snapshot may show transactions of which the log has not told yet: rows of other subsets
 * are still as before them. It is held, and counts from the commit on that the log is past it. */
#ifndef COULOMB_CLIENT_ELECTRIC_SEEN_H
#define COULOMB_CLIENT_ELECTRIC_SEEN_H

#include "client/electric/view.h"

#define SEEN_TXIDS_MAX 8192u
#define SEEN_VIEWS_MAX 64u

/* A ring of 32-bit numbers. */
struct txid_ring {
    uint32_t *items;
    size_t cap;
    size_t count;
    size_t first;
};

struct view_ring {
    struct view items[SEEN_VIEWS_MAX];
    size_t count;
    size_t first;
};

struct seen {
    struct heap *heap;
    struct txid_ring txids;
    struct txid_ring staged;
    struct view_ring views;
    struct view_ring staged_views;
    struct view_ring held; /* subsets', committed; of too many the oldest counts */
    uint64_t horizon;      /* all 64-bit numbers below it were seen */
    uint64_t staged_horizon;
};

void seen_init(struct seen *s, struct heap *h);
void seen_fini(struct seen *s);
/* COULOMB_E_MEMORY. */
int seen_stage(struct seen *s, const uint64_t *txids, size_t count);
int seen_stage_view(struct seen *s, const struct stream_snapshot *view);
/* What is staged counts from now on, but for views that the log is not past: it told all up to lsn
 * (0: not known). seen_reserve() first, then it can't fail. */
int seen_reserve(struct seen *s);
void seen_commit(struct seen *s, uint64_t lsn);
/* A view shows it that is held. */
bool seen_is_held(const struct seen *s, uint64_t txid);
/* The log is past all that are held. */
void seen_release(struct seen *s);
/* The staged numbers of another one count here from now on. COULOMB_E_MEMORY. */
int seen_add(struct seen *s, const struct seen *other);
bool seen_has(const struct seen *s, uint64_t txid);
/* The log told it, since the last commit. */
bool seen_has_staged(const struct seen *s, uint64_t txid);
/* The committed numbers, ascending, each once, in an array from the heap of seen_count() places (NULL
 * when there are none): *count of them. COULOMB_E_MEMORY. */
int seen_list(const struct seen *s, uint32_t **out, size_t *count);
static inline size_t seen_count(const struct seen *s)
{
    return s->txids.count;
}

#endif
