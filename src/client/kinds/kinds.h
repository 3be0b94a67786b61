/* Kinds of collections that feed themselves. Internal to kinds/. */
#ifndef COULOMB_CLIENT_KINDS_KINDS_H
#define COULOMB_CLIENT_KINDS_KINDS_H

#include "client/tx/tx.h"

/* Of a local collection, first in the struct of its kind. */
struct local_kind {
    size_t bytes; /* of that struct */
    /* Keeps what the open sync transaction will make of the rows; NULL: nothing is kept. */
    int (*save)(struct coulomb_collection *coll, const coulomb_tx *tx);
    void (*free_extra)(struct coulomb_collection *coll);
};

/* Ready, with a session. The struct of the kind is zeroed. */
int local_make(coulomb_client *c, const coulomb_collection_options *o, size_t kind_bytes,
               coulomb_collection **out);
/* Makes the transaction's mutations of this collection rows. Errors are set. */
int local_confirm(struct coulomb_collection *coll, const coulomb_tx *tx);
void local_free(struct coulomb_collection *coll);

/* What waits while the app's handler runs. */
struct waiting {
    struct coulomb_collection *coll; /* held */
    coulomb_tx *tx;                  /* held */
    struct coulomb_completion *ours; /* the transaction's, to be answered */
    struct coulomb_completion *theirs;
    struct list link; /* polled: of those that wait for rows */
    uint64_t number;  /* of the fetch whose answer this waits for, or a later one's */
};

/* Runs the app's handler for a direct transaction, or none; `then` gets a struct waiting, which it
 * frees with its holds. COULOMB_PENDING, or a code. */
int kind_run_handler(struct coulomb_collection *coll, coulomb_tx *tx,
                     struct coulomb_completion *done,
                     void (*then)(void *what, int code, const char *message));

#endif
