/* Transactions inside. Internal to the client. One thread. */
#ifndef COULOMB_CLIENT_TX_TX_H
#define COULOMB_CLIENT_TX_TX_H

#include "client/collection/collection.h"

/* A collection that a transaction mutated. */
struct touched {
    struct coulomb_collection *coll; /* held */
    uint64_t
        gates_in; /* the generation of the collection whose sync it holds back; 0: none */
};

/* Owner: the client, while it is not settled; handles, ambient use and what collections keep of it
 * hold it besides.
 *
 *   pending ─commit─▶ persisting ─answer─▶ completed
 *      └────rollback──────┴────failure───▶ failed */
struct coulomb_tx {
    struct list link; /* client.transactions, in order of making */
    coulomb_client *client;
    struct heap *heap;
    size_t refs;
    bool owned;    /* the client holds it: until it is settled and that was told */
    char *id;      /* as given, or NULL */
    char made[32]; /* else; written when it is asked for */
    uint64_t order;
    int64_t created_ms;
    coulomb_tx_state state;
    bool autocommit;
    bool direct; /* made by one operation of a collection */
    bool gate_keys;
    coulomb_persist_fn persist;
    void *persist_arg;
    struct coulomb_collection *handler_of; /* whose handler persist is; retained */
    struct blob metadata;
    struct mutation **mutations;
    size_t count;
    size_t cap;
    struct touched *touched; /* each collection once: what settling looks at */
    size_t touched_count;
    size_t touched_cap;
    coulomb_error error;
    struct coulomb_completion *answer; /* awaited */
    bool answered;                     /* but not yet taken: memory was out */
    int answer_code;
    char answer_text[256];
    struct task persist_task;
    struct task answer_task;
    struct task notify_task;
    bool progressed;
    struct list settled; /* registrations */
    struct list progress;
    void (*on_end)(void *arg); /* of a paced function: settled, before listeners */
    void *on_end_arg;
    struct attachment *refusal; /* the server's (server/); NULL */
};

int tx_make(coulomb_client *c, const coulomb_tx_options *o, struct coulomb_tx **out);
void tx_retain(struct coulomb_tx *tx);
void tx_drop(struct coulomb_tx *tx);
/* Room for n more mutations, of this collection. Errors are set. */
int tx_reserve(struct coulomb_tx *tx, struct coulomb_collection *coll, size_t n);
/* The tx's mutation of a key, or NULL. */
struct mutation *tx_find(const struct coulomb_tx *tx, const struct local *l);
void mutation_free(struct coulomb_client *c, struct mutation *m);
/* Frees the mutations that vanished: their tx is NULL. */
void tx_compact(struct coulomb_tx *tx);
/* Fails or completes these transactions in one step for all collections (settle.c). Errors are
 * set. */
int settle(coulomb_client *c, struct coulomb_tx **txs, size_t count, bool completed);
/* Settled without mutations. */
void tx_end(struct coulomb_tx *tx, coulomb_tx_state state);
void tx_hold(struct coulomb_tx *tx, bool hold);
void tx_progress(struct coulomb_tx *tx);
void tx_close_all(coulomb_client *c);
void paced_close_all(coulomb_client *c);

#endif
