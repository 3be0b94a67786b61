/* The rows of an on-demand collection: which are loaded, and up to where. Internal.
 *
 * A subset's rows and the log come by ways of their own, in any order within some milliseconds. For each
 * row this knows the last snapshot and the last transaction of the log that brought it, so that
 *
 * - what the log tells of a transaction that the row's snapshot sees already is passed over, until the
 *   log is past the snapshot;
 * - a snapshot's row is passed over when the log has told of a transaction that it does not see (a
 *   commit is streamed before the database shows it to others), be it the row's end: of rows that are
 *   gone the last 1,000 are known;
 * - changes of rows that were never loaded are passed over. */
#ifndef COULOMB_CLIENT_ELECTRIC_KNOWN_H
#define COULOMB_CLIENT_ELECTRIC_KNOWN_H

#include "client/collection/ktab.h"
#include "client/electric/view.h"

#define KNOWN_GONE_MAX  1000u
#define KNOWN_VIEWS_MAX 256u /* the oldest goes */

/* A snapshot that the log is not past yet. */
struct known_view {
    uint32_t number;
    bool has_lsn;
    uint64_t lsn; /* where the database's log was when it was taken */
    struct view view;
};

struct known {
    struct coulomb_collection *coll;
    struct ktab rows; /* struct known_row */
    struct list gone; /* those that are, oldest first */
    size_t gone_count;
    struct known_view *views; /* oldest first */
    size_t view_count;
    size_t view_cap;
    uint32_t last_view;
};

void known_init(struct known *k, struct coulomb_collection *coll);
/* Forgets everything. */
void known_clear(struct known *k);
/* A row that is there, of an earlier session. COULOMB_E_MEMORY, likewise below. */
int known_add(struct known *k, coulomb_key key);

/* It is loaded. */
bool known_has(const struct known *k, coulomb_key key);

enum known_verdict { KNOWN_TAKE, KNOWN_PASS };

/* What to do with a message of the log. insert: it brings the whole row. */
enum known_verdict known_ask(const struct known *k, coulomb_key key, bool insert,
                             const uint64_t *txids, size_t count);
/* It was taken; gone: it was a delete. */
int known_logged(struct known *k, coulomb_key key, bool gone, const uint64_t *txids,
                 size_t count);

/* A snapshot whose rows follow; *number is its. */
int known_view(struct known *k, const struct stream_snapshot *snapshot, uint32_t *number);
/* What to do with one of its rows; when it is to be taken it counts as loaded. */
int known_loaded(struct known *k, coulomb_key key, uint32_t view,
                 enum known_verdict *verdict);

/* The log told of a transaction, or of a position up to which all was told. */
void known_passed(struct known *k, const uint64_t *txids, size_t count);
void known_reached(struct known *k, uint64_t lsn);

#endif
