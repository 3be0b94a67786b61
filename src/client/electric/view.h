/* Which transactions a snapshot of the database sees. Internal.
 *
 * Snapshots number transactions in 64 bits, messages with the lower 32 of them; who writes may know
 * either. A 32-bit number means the transaction nearest to the snapshot that has it: they are less than
 * 2^31 apart, as Postgres itself takes care of. */
#ifndef COULOMB_CLIENT_ELECTRIC_VIEW_H
#define COULOMB_CLIENT_ELECTRIC_VIEW_H

#include "client/stream/message.h"

struct heap;

struct view {
    uint64_t xmin; /* below it all are seen */
    uint64_t xmax; /* from it on none is */
    uint64_t *xip; /* between, those that are not; owned */
    size_t xip_count;
    uint64_t
        lsn; /* of the database's log when it was taken; 0: the log's own, or not known */
};

/* COULOMB_E_MEMORY. */
int view_copy(struct heap *h, struct view *v, const struct stream_snapshot *from);
void view_fini(struct heap *h, struct view *v);
/* The whole number of a transaction of which 32 bits, or all, are known. */
uint64_t view_widen(const struct view *v, uint64_t txid);
bool view_sees(const struct view *v, uint64_t txid);
/* All of them; of none it can't be told: false. */
bool view_sees_all(const struct view *v, const uint64_t *txids, size_t count);
/* A transaction that began after the snapshot: all that it sees have been committed before that one. */
bool view_is_past(const struct view *v, uint64_t txid);

#endif
