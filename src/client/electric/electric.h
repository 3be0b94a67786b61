/* The Electric adapter inside. Internal to electric/.
 *
 *   stream ─batch─▶ session.c ─rows─▶ rows.c ─▶ one sync transaction ─commit point─▶ the collection
 *                       │                └─ tags.c, known.c
 *                       └─▶ seen.c, await.c: who waits for transactions and messages
 *   the collection ─load_subset─▶ load.c ─▶ spec.c (is it there?), sql.c ─▶ stream
 *
 * Everything between two commit points is staged in one sync transaction (pending), which others, of
 * subsets beside the stream and of the reset record, may overtake. A batch of the stream that finds no
 * memory comes again: each message is taken whole or not at all, and counted (taken).
 *
 * Sessions of a collection:
 *
 *   none ─start─▶ begun ─first commit: rows of before give way at once, unless it resumed─▶ following
 *     any ─stop─▶ none          following ─must-refetch─▶ following, all rows at the next commit */
#ifndef COULOMB_CLIENT_ELECTRIC_ELECTRIC_H
#define COULOMB_CLIENT_ELECTRIC_ELECTRIC_H

#include "client/electric/known.h"
#include "client/electric/resume.h"
#include "client/electric/seen.h"
#include "client/electric/spec.h"
#include "client/electric/tags.h"
#include "client/stream/stream.h"
#include "coulomb/electric.h"

/* What was set after opening. */
struct setting {
    struct list link;
    char *name;
    char *value; /* NULL: without */
};

/* A row of a subset, until its snapshot is known. */
struct gathered {
    struct coulomb_row *row; /* NULL: taken */
    struct blob meta;        /* ptr NULL: none */
};

#define RING_MAX 1000u /* messages that await_match looks back at */

struct kept_message {
    coulomb_electric_message_type type;
    struct coulomb_row *row; /* NULL of moves */
    uint64_t *txids;
    size_t txid_count;
};

struct ring {
    struct kept_message *items; /* of RING_MAX; NULL: none yet */
    size_t count;
    size_t first;
    size_t fresh; /* the newest ones, not committed yet */
};

/* Owner: the collection, as its kind. */
struct electric {
    struct coulomb_collection *coll;
    struct heap *heap;
    coulomb_client *client;

    /* What the app said; texts lie in the pool. */
    struct pool pool;
    coulomb_electric_options options; /* but collection, extra and headers */
    bool whole_rows;                  /* updates and deletes bring them */
    struct stream_param *extra;
    struct net_header *fixed_headers;
    struct list params; /* struct setting */
    struct list headers;
    int *keys; /* columns that make the key; none: the app's function does */
    size_t key_count;
    coulomb_value *key_values; /* of the last key of several columns */
    char *key_text;
    coulomb_error no_error;

    /* Between sessions, too. */
    struct resume imported; /* where the next one may begin */
    struct seen seen;
    struct list waiters;
    struct list asks; /* who asked for a refresh */

    /* Of a session. */
    struct coulomb_sync *sync; /* held; NULL: none */
    struct shape_stream *stream;
    bool resumed;
    bool committed;  /* once */
    bool loaded_all; /* up to date since the last refetch */
    bool key_checked;
    struct sync_tx *pending; /* NULL: nothing is staged */
    size_t taken;            /* messages of the batch that comes again */
    bool amid_answer; /* of the stream's: some of it is staged, or is to come again */
    struct gathered *gathered;
    size_t gathered_count;
    size_t gathered_cap;
    struct resume resume;  /* of the last commit */
    uint64_t lsn;          /* committed up to there; 0: not known */
    uint64_t staged_lsn;   /* and with the next commit; 0: as before */
    coulomb_error failure; /* of a batch; why the stream then failed */
    struct blob schema;    /* of the relation */
    struct blob table;
    struct tags tags;
    struct known known;
    struct ring ring;
    coulomb_value *match_values; /* one for each column; made by the first who matches */
    struct list loads;           /* what the collection wants */
    struct list loaded;          /* struct spec */
    size_t loaded_count;
    bool held_back;          /* a commit point came while subsets are loaded again … */
    bool held_up_to_date;    /* … and it was an up-to-date */
    uint64_t refreshes_sent; /* of the stream, in order */
    uint64_t refreshes_done;
    uint64_t view_refresh; /* the next one after the newest subset's view */
    uint64_t load_refresh; /* the one that loads wait for; 0: none */
    struct task begin_task;
    struct task load_task;
    struct timer load_timer; /* bounds load_refresh */
    struct timer ask_timer;  /* asks whether an LSN is reached */
    int64_t ask_wait_ms;
};

/* NULL when the collection is of another kind; errors are set. */
struct electric *electric_of(const struct coulomb_collection *coll);
/* What every public call begins with: client_enter() and *e. Errors are set. */
int electric_enter(const coulomb_collection *coll, struct electric **e);

/* --- session.c ------------------------------------------------------------------------------- */

int electric_start(coulomb_sync *sync, void *arg);
int electric_stop(coulomb_sync *sync, void *arg);
int begin_task_run(struct task *t);
/* The transaction that rows go to, made when there is none. NULL: no memory. */
struct sync_tx *electric_pending(struct electric *e);
/* Commits what is staged, with how far that is (place: the stream stands right behind it), and tells who
 * waited. COULOMB_E_MEMORY: ask again. */
int electric_commit(struct electric *e, bool up_to_date, bool place);
/* Why the session's stream has failed; NULL: it has not. */
const coulomb_error *electric_error(const struct electric *e);
/* Cancels a subset; what came of it already is forgotten. */
void electric_cancel(struct electric *e, uint64_t number);
/* Asks the stream now; *number (may be NULL) counts. COULOMB_E_SYNC_NOT_INITIALIZED. */
int electric_refresh(struct electric *e, uint64_t *number);

/* --- rows.c ----------------------------------------------------------------------------------- */

/* One message that changes rows; *out, its row, perhaps with columns absent, is the caller's. */
int rows_change(struct electric *e, const struct stream_message *m,
                struct coulomb_row **out);
/* A snapshot's end: of a subset whose rows were gathered, or of the log. */
int rows_snapshot_end(struct electric *e, const struct stream_message *m);
int rows_move(struct electric *e, const struct stream_message *m);
/* A row of a subset beside the stream, into a transaction of its own. */
int rows_beside(struct electric *e, struct sync_tx *tx, const struct stream_message *m);
void rows_forget_gathered(struct electric *e);
/* What an earlier session left in the collection. COULOMB_E_MEMORY. */
int rows_adopt(struct electric *e);
/* COULOMB_E_COLLECTION_CONFIG when messages don't bring the key. */
int rows_check_key(struct electric *e, const struct stream_batch *batch);

/* --- load.c ----------------------------------------------------------------------------------- */

int load_subset(coulomb_sync *sync, const coulomb_subset *subset,
                coulomb_completion *done, void *arg);
void unload_subset(coulomb_sync *sync, const coulomb_subset *subset, void *arg);
int load_task_run(struct task *t);
void load_timer_fired(struct timer *t);
/* Refreshes up to that number are done, or failed. */
void loads_refreshed(struct electric *e);
/* The rows of a request are staged. */
void load_arrived(struct electric *e, uint64_t number);
/* What was loaded counts no more, and is asked for again. */
void loads_refetch(struct electric *e);
/* Subsets that were loaded before a refetch are not all there again. */
bool loads_reloading(const struct electric *e);
/* Somebody asked for rows like this one. */
bool loads_want(struct electric *e, const struct coulomb_row *row);
/* The session ends: all are answered. */
void loads_stop(struct electric *e);

/* --- await.c ---------------------------------------------------------------------------------- */

/* A message was taken: its transactions are staged, the ring keeps it, those who wait look at it. row is
 * NULL for moves. keep: false for one of so many that it would fall out again. COULOMB_E_MEMORY. */
int await_message(struct electric *e, const struct stream_message *m,
                  struct coulomb_row *row, bool keep);
/* Before a commit: what await_committed() needs. COULOMB_E_MEMORY. */
int await_reserve(struct electric *e);
void await_committed(struct electric *e);
/* Refreshes are done up to that number, or failed. */
void await_refreshed(struct electric *e, int code, const coulomb_error *error);
/* Nothing will come any more: who waits is told why. */
void await_stop(struct electric *e, int code, const char *why);
/* The session's messages are forgotten. */
void await_forget(struct electric *e);
/* For good; handlers' completions are answered, nobody else is called. */
void await_free(struct electric *e);
void ask_timer_fired(struct timer *t);

#endif
