/* Collections inside: the synced layer, local changes over it, edits, batches. Internal to the
 * client. One thread. */
#ifndef COULOMB_CLIENT_COLLECTION_COLLECTION_H
#define COULOMB_CLIENT_COLLECTION_COLLECTION_H

#include "client/collection/ktab.h"
#include "client/collection/sorted.h"
#include "client/loop/loop.h"
#include "client/value/draft.h"
#include "client/value/pointer.h"
#include "coulomb/kinds.h"

#define ENT_LOCAL 1u /* kent.flags of a synced row: its origin is local */

/* One change of one row by a transaction. Owner: the transaction; listed by its key's struct local
 * while the transaction is active, pointed at by it (kept) until sync has brought the row. */
struct mutation {
    struct list in_key; /* local.mutations, ordered by transaction */
    struct local *local;
    struct coulomb_tx *tx;
    struct coulomb_collection *coll; /* retained */
    coulomb_key key;                 /* in one of the rows */
    uint32_t hash;
    coulomb_change_type type;
    coulomb_mutation_state state;
    bool optimistic;
    bool seen;  /* sync brought its row since it was sent */
    bool gates; /* it is being persisted, and sync of its key waits */
    uint64_t id;
    uint64_t place; /* the id of the first one that was merged into it */
    size_t at;      /* in the transaction's list */
    uint64_t order; /* of the transaction */
    struct coulomb_row *original;
    struct coulomb_row *modified;
    unsigned char *changed; /* a bit for each column, or NULL: all */
    struct blob metadata;
    struct blob sync_metadata;
    int64_t created_ms;
    int64_t updated_ms;
};

/* A key with local changes. It is there while any of them is. The overlay is the newest active
 * optimistic mutation, else what is kept of a completed one. */
struct local {
    coulomb_key key;
    struct blob key_bytes;
    uint32_t hash;
    struct list mutations;
    /* Kept of a completed transaction until sync brings the row. */
    struct list kept_link; /* coll.kept, while has_kept or claimed */
    struct mutation *kept; /* whose transaction is held; NULL when none */
    bool has_kept;         /* kept is an overlay */
    bool direct;           /* it lasts until the next sync commit of any content */
    bool claimed;          /* a local write waits for confirmation */
    bool in_truncate;      /* what is kept outlasts the truncate that is on its way */
};

/* What an adapter's function hands back. */
struct coulomb_blob {
    struct heap *heap;
    struct blob blob;
};

/* Bytes under a key. */
struct row_meta {
    coulomb_key key;
    struct blob key_bytes;
    struct blob value;
};

enum sync_op_type { OP_INSERT, OP_UPDATE, OP_DELETE, OP_ROW_META };

struct sync_op {
    struct coulomb_row *row; /* owned; NULL of a delete and of metadata */
    uint32_t extra;          /* place + 1 in extras */
    uint8_t type;
};

struct sync_meta {
    struct list link;
    struct blob name;
    struct blob value; /* ptr NULL: removed */
};

/* Rows between begin and commit, and from then until they may be seen. */
struct sync_tx {
    struct list link; /* coll.sync_txs, in order */
    bool committed;
    bool due;     /* chosen to be applied (sync_choose) */
    size_t gated; /* an operation whose key was last found to wait */
    bool immediate;
    bool truncate;
    struct sync_op *ops;
    size_t count;
    size_t cap;
    struct row_meta **extras; /* keys and metadata of operations that have them; owned */
    size_t extra_count;
    size_t extra_cap;
    struct list meta; /* of the collection */
    /* Keys deleted so far, then keys of all operations, built when asked for. */
    struct ktab deleted;
    struct ktab keys;
    size_t keys_of; /* operations that are in keys */
};

/* A sync session: what an adapter holds. */
struct coulomb_sync {
    struct coulomb_collection *coll; /* NULL when the session is over */
    coulomb_client *client;          /* held */
    size_t refs;
};

#define EVENTS_MAX 128u

struct queued_event {
    coulomb_event_type type;
    coulomb_status status;
    coulomb_status previous_status;
    size_t count;
    char index[96];
};

/* Owner: the client's thread. refs counts handles, mutations and what the library itself holds;
 * handles only the app's.
 *
 *   idle ─▶ loading ─▶ ready ─▶ error ─▶ ready
 *    any ─▶ cleaned-up ─▶ loading (by a subscription, preload or mutation) */
struct coulomb_collection {
    struct list link; /* client.collections */
    coulomb_client *client;
    struct heap *heap;
    size_t refs;
    size_t handles;
    char *id;
    struct layout *layout;
    coulomb_collection_options
        options; /* pointers to strings and columns are not valid */
    coulomb_adapter adapter;
    bool has_adapter;
    coulomb_status status;
    coulomb_error error;
    struct coulomb_sync *session;
    bool local_only; /* rows count as synced and local */

    struct ktab synced; /* rows, owned */
    struct ktab locals; /* struct local */
    struct ktab metas;  /* struct row_meta */
    struct list kept;
    struct list meta;     /* struct sync_meta, the collection's, by name */
    struct blob exported; /* what the adapter exported last */
    struct list sync_txs;
    size_t
        persisting; /* transactions being persisted that touch it and hold back all sync */
    size_t key_gates;    /* and those that hold back that of their rows */
    uint64_t generation; /* of all that: clean-ups, counted from 1 */
    size_t visible;      /* rows */
    uint64_t revision;

    struct list indexes;
    size_t index_count;
    coulomb_index *order; /* rows in reading order; made by the first read in order */

    struct list subs;
    size_t sub_count;
    struct list listeners;
    struct list ready_waits;
    struct queued_event *events; /* a ring of EVENTS_MAX; NULL until somebody listens */
    size_t event_first;
    size_t event_count;
    size_t loads;         /* subsets due or being loaded */
    size_t loads_awaited; /* being loaded */
    struct task start_task;
    struct task event_task;
    struct task ready_task;
    struct timer gc_timer;

    /* Of a kind (kinds/). */
    void *kind;
    void (*kind_free)(struct coulomb_collection *coll);
    coulomb_persist_fn kind_persist; /* in place of the handlers */
    struct attachment *server;       /* where it is written to (server/); NULL */
};

/* --- What is visible (local.c) ----------------------------------------------------------- */

struct visible {
    struct coulomb_row *row; /* borrowed; NULL: none */
    coulomb_meta meta;
};

struct visible visible_get(const struct coulomb_collection *coll, coulomb_key key,
                           uint32_t hash);
struct local *local_find(const struct coulomb_collection *coll, coulomb_key key,
                         uint32_t hash);
/* Finds or makes. NULL: no memory. */
struct local *local_get(struct coulomb_collection *coll, coulomb_key key, uint32_t hash);
/* *row (NULL: deleted) is what lies over the synced row; false: nothing does. */
bool local_overlay(const struct local *l, struct coulomb_row **row);
void local_link(struct local *l, struct mutation *m);
/* What is done with a mutation whose transaction is settled; never fails. */
void local_complete(struct coulomb_collection *coll, struct mutation *m, bool direct,
                    bool echo_waits);
void local_fail(struct coulomb_collection *coll, struct mutation *m);
/* Forgets what is kept; state is what its mutation becomes when confirmed. */
void local_drop_kept(struct coulomb_collection *coll, struct local *l, bool confirmed);
/* Frees it when nothing is left. */
void local_sweep(struct coulomb_collection *coll, struct local *l);
/* At clean-up: mutations lose their place. */
void locals_clear(struct coulomb_collection *coll);

/* --- Edits (edit.c) ----------------------------------------------------------------------- */

/* One key of an edit: what was visible before, and what sync makes of it. */
struct touch {
    struct touch *next;
    coulomb_key key; /* borrowed until the edit ends */
    uint32_t hash;
    struct coulomb_row *old; /* retained */
    coulomb_meta old_meta;
    struct coulomb_row *synced; /* retained; what the synced row becomes if has_synced */
    bool has_synced;
    bool confirmed; /* an operation of sync named the key */
    bool truncated;
};

/* One change of a collection: first all keys are touched and all memory is taken, then the state
 * changes, which can't fail, then the difference of what is visible becomes a batch. */
struct edit {
    struct coulomb_collection *coll;
    struct pool pool;
    struct touch *first;
    struct touch **end;
    size_t count;
    struct ktab by_key; /* used from 8 touches on */
    struct batch *batch;
    bool truncate;
    bool settles; /* it has to be made some time, however many changes it is */
};

struct batch {
    struct list link;
    struct coulomb_collection *coll; /* retained */
    uint64_t number;
    size_t count;
    size_t cap;
    coulomb_change changes[];
};

void edit_begin(struct edit *e, struct coulomb_collection *coll);
/* NULL: no memory. The key must stay valid. */
struct touch *edit_touch(struct edit *e, coulomb_key key, uint32_t hash);
/* All keys are touched: takes the batch's memory. COULOMB_E_MEMORY, COULOMB_E_LIMIT. */
int edit_ready(struct edit *e);
/* Publishes; frees the edit. */
void edit_finish(struct edit *e);
void edit_abort(struct edit *e);
/* An empty batch: it is ready. COULOMB_E_MEMORY. */
int batch_empty(struct coulomb_collection *coll);
void batch_free(struct batch *b);
bool coll_observed(const struct coulomb_collection *coll);

/* --- Sync (sync.c, apply.c) ---------------------------------------------------------------- */

/* Chooses the sync transactions that may be applied when so many transactions that hold back all are
 * being persisted, and those mutations that gate: true when there are any. Preparing, applying and
 * retiring act on them. */
bool sync_choose(struct coulomb_collection *coll, size_t persisting);
/* Touches what they change. COULOMB_E_MEMORY, COULOMB_E_LIMIT. */
int sync_prepare(struct coulomb_collection *coll, struct edit *e);
/* Changes the synced layer; never fails. */
void sync_apply(struct coulomb_collection *coll, struct edit *e);
/* A truncate was published: who listens is told, and the collection is ready. */
void truncate_done(struct coulomb_collection *coll);
/* Both, with an edit of its own, when it may be. */
int sync_flush(struct coulomb_collection *coll);
/* Whether an operation that waits names the key. COULOMB_E_MEMORY. */
int sync_index_pending(struct coulomb_collection *coll);
/* A committed transaction waits to be applied. */
bool sync_waits(const struct coulomb_collection *coll);
/* A truncate was staged and is not applied yet. */
bool sync_truncates(const struct coulomb_collection *coll);
bool sync_names_key(const struct coulomb_collection *coll, coulomb_key key,
                    uint32_t hash);
void sync_tx_free(struct coulomb_collection *coll, struct sync_tx *s);
/* Drops the open sync transaction, if the last one is open. */
void sync_abort(struct coulomb_collection *coll);
/* A row of the collection with its key, from values for each column. Errors are set. */
int row_make(struct coulomb_collection *coll, const coulomb_value *values,
             struct coulomb_row **out);
/* Takes *row; gives it with its key, or NULL and a code. */
int row_with_key(struct coulomb_collection *coll, struct coulomb_row **row);
struct sync_tx *sync_open(const struct coulomb_collection *coll);
/* What every call of an adapter begins with. Errors are set. */
int sync_enter(coulomb_sync *sync);
/* The same, with the transaction to write to. */
int sync_for_write(coulomb_sync *sync, struct sync_tx **out);
/* Stages a deletion or a row's metadata. Errors are set. */
int sync_stage_key(coulomb_sync *sync, enum sync_op_type type, coulomb_key key,
                   const void *value, size_t len);
/* A sync transaction by name, not as the last one begun: of adapters of the library's own, that keep
 * one open over polls in which others are begun and committed. NULL: no memory. It is nobody's before
 * it is listed: sync_tx_free() ends it. */
struct sync_tx *sync_tx_new(struct coulomb_collection *coll);
void sync_tx_list(struct coulomb_collection *coll, struct sync_tx *s);
/* An insert puts the row, whatever is there; takes the row on success. Errors are set, likewise below. */
int sync_tx_row(struct coulomb_collection *coll, struct sync_tx *s,
                enum sync_op_type type, struct coulomb_row *row, const void *metadata,
                size_t len);
/* OP_DELETE, OP_ROW_META. */
int sync_tx_key(struct coulomb_collection *coll, struct sync_tx *s,
                enum sync_op_type type, coulomb_key key, const void *value, size_t len);
int sync_tx_meta(struct coulomb_collection *coll, struct sync_tx *s, const char *name,
                 const void *value, size_t len);
void sync_tx_clear(struct coulomb_collection *coll,
                   struct sync_tx *s); /* all operations */
/* All rows go before its operations, which stay. */
void sync_tx_truncate(struct coulomb_collection *coll, struct sync_tx *s);
/* It has to be listed. After a failure it is open as before. */
int sync_tx_commit(struct coulomb_collection *coll, struct sync_tx *s);
/* Sync has brought all that was persisted so far: what direct operations left over rows that it did
 * not bring goes, as with any sync commit. Without memory it goes with the next one. */
void sync_passed(struct coulomb_collection *coll);
void meta_list_clear(struct coulomb_collection *coll, struct list *l);
/* The adapter's metadata for inserts; *out is the caller's, empty when there is none. Errors are
 * set. */
int adapter_insert_meta(struct coulomb_collection *coll, struct blob *out);

/* --- Lifecycle (lifecycle.c, events.c) ------------------------------------------------------- */

int collection_make(coulomb_client *c, const coulomb_collection_options *options,
                    coulomb_collection **out);
void collection_hold(struct coulomb_collection *coll);
void collection_drop(struct coulomb_collection *coll);
int status_set(struct coulomb_collection *coll, coulomb_status to);
/* Starts sync when it is idle or cleaned up. */
int collection_wake(struct coulomb_collection *coll);
/* For a kind without an adapter: a session at once, loading. */
int session_begin(struct coulomb_collection *coll);
void gc_arm(struct coulomb_collection *coll);
/* Everything but the struct; for closing. */
void collection_shut(struct coulomb_collection *coll);
void event_emit(struct coulomb_collection *coll, const coulomb_event *event);
int event_task_run(struct task *t);
void listeners_clear(struct coulomb_collection *coll);
/* The collection is ready, cleaned up or in error: preloads are answered in the next poll. */
void ready_notify(struct coulomb_collection *coll);
int ready_task_run(struct task *t);

/* --- Indexes (index.c) --------------------------------------------------------------------- */

/* Visible rows changed; never fails, but an index may be thrown away for want of memory and is made
 * anew when it is needed. */
void indexes_update(struct coulomb_collection *coll, struct coulomb_row *old,
                    struct coulomb_row *fresh);
void indexes_reset(struct coulomb_collection *coll); /* all rows are gone */
void indexes_free(struct coulomb_collection *coll);
/* Rows in the collection's order. NULL: no memory. */
struct sorted *order_get(struct coulomb_collection *coll);
/* The same if it is there; NULL: it is not. */
struct sorted *order_at_hand(struct coulomb_collection *coll);
/* Rows that may match, in no order, each once: *rows is an array of *cap from the heap. *served is
 * false when no index helps. COULOMB_E_MEMORY. */
int index_candidates(struct coulomb_collection *coll, const coulomb_expr *where,
                     struct coulomb_row ***rows, size_t *count, size_t *cap,
                     bool *served);
/* The ordered index of a column, fresh; NULL: there is none, or (*code COULOMB_E_MEMORY) no memory. */
struct coulomb_index *index_ordered(struct coulomb_collection *coll, int column,
                                    int *code);
/* coulomb_index_new_json, or with pointer NULL coulomb_index_new. */
int index_add(coulomb_collection *coll, const char *column, const char *pointer,
              coulomb_index_type type, coulomb_index **out);
/* Indexes that eager auto-indexing wants for a condition. */
int index_auto(struct coulomb_collection *coll, const coulomb_expr *where);

/* --- Conditions (expr.c) --------------------------------------------------------------------- */

#define COLUMN_SYNCED (-2)
#define COLUMN_ORIGIN (-3)

struct node {
    coulomb_node_type type;
    coulomb_op op;
    int column;
    const struct pointer *pointer; /* into the json column; NULL: the column itself */
    coulomb_value *values;
    size_t count;
};

/* Nodes in postfix order. */
struct coulomb_expr {
    coulomb_client *client; /* held */
    struct heap *heap;
    struct layout *layout;
    struct pool pool;
    struct node *nodes;
    size_t count;
};

#define EXPR_NODES_MAX    1000
#define ORDER_COLUMNS_MAX 64

/* A pointer into a json column, in the pool. COULOMB_E_COLUMN, _TYPE, _PATH, _MEMORY, set. */
int json_column(coulomb_collection *coll, const char *column, const char *pointer,
                struct pool *pool, struct pointer *out);
/* 1 true, 0 false, 2 unknown, COULOMB_E_MEMORY. */
int expr_eval(const struct coulomb_expr *e, const struct coulomb_row *row,
              coulomb_meta meta, struct arena *arena);
/* Owned by the caller. NULL: no memory; errors are set. */
struct coulomb_expr *expr_copy(const struct coulomb_expr *from);
/* What of it can be asked of a server: without virtual columns, wanting at least the same rows. *out
 * is the caller's; NULL: every row. COULOMB_E_MEMORY. */
int expr_server_part(const struct coulomb_expr *e, struct coulomb_expr **out);

/* --- Subscriptions (sub.c, deliver.c) --------------------------------------------------------- */

struct sent_key {
    coulomb_key key;
    struct blob key_bytes;
};

/* Of what a subscription asked for, as its adapter sees it.
 *
 *   none ─session─▶ due ─asked─▶ awaited ─answer─▶ done ─truncate─▶ due
 *     any ─session ends─▶ none      due ─answered at once─▶ done
 *   done at once: no adapter loads for the collection */
enum load_state { LOAD_NONE, LOAD_DUE, LOAD_AWAITED, LOAD_DONE };

/* Rows that a subscription asked for: its first, a request's or a page's. Owner: the subscription. */
struct sub_load {
    struct registration reg; /* sub.loads */
    struct coulomb_sub *sub;
    struct coulomb_expr *where; /* NULL: the subscription's */
    coulomb_order *order;
    size_t order_count;
    size_t limit;
    struct pool pool; /* of the order and from */
    bool page;
    const coulomb_value *from; /* one for each of from_count columns of the order */
    size_t from_count;
    struct coulomb_expr *asked; /* what of where the adapter is asked; NULL: all of it */
    struct coulomb_expr *where_from;
    struct coulomb_expr *where_current;
    bool has_offset;
    struct blob last_key;
    coulomb_cursor cursor;
    coulomb_subset subset; /* what the adapter gets */
    enum load_state state;
    bool held_by_adapter; /* it was asked to load, so it is told to unload */
    struct coulomb_completion *answer;
    struct task rows_task;
    struct task load_task;
};

/* Owner: the app, until coulomb_unsubscribe. */
struct coulomb_sub {
    struct list link; /* coll.subs */
    struct coulomb_collection *coll;
    coulomb_changes_fn fn;
    void *arg;
    coulomb_initial initial;
    struct coulomb_expr *where;
    coulomb_where_fn where_fn;
    void *where_arg;
    void (*on_loading)(coulomb_sub *sub, int loading, void *arg);
    uint64_t next;    /* the first batch that it is still to see */
    bool wants_rows;  /* the initial batch is to come */
    bool dead;        /* unsubscribed in its own callback */
    unsigned busy;    /* its callbacks that run */
    bool tracks;      /* keeps the keys that it was sent */
    struct ktab sent; /* struct sent_key */
    struct list loads;
    size_t open_loads; /* due or awaited */
    size_t awaited;
    bool told_loading;
    bool buffering;  /* a truncate came: all is held until its subsets are loaded again */
    bool held_empty; /* an empty batch, too: a request's answer, or that it is ready */
    coulomb_change *held;
    size_t held_count;
    size_t held_cap;
    struct blob last_key_bytes; /* of the last row of its last page */
    coulomb_key last_key;
    coulomb_error error; /* of the last load that failed */
    struct task flush_task;
};

int deliver_batches(coulomb_client *c);
/* A snapshot's rows, in order; *rows is an array from the heap, rows retained. */
int snapshot_rows(struct coulomb_collection *coll, const coulomb_snapshot_options *o,
                  struct coulomb_row ***rows, size_t *count, size_t *cap, bool *indexed);
/* All visible rows as TanStack DB reads them (compat.c), into room for coll.visible.
 * COULOMB_E_MEMORY. */
int compat_rows(struct coulomb_collection *coll, struct coulomb_row **rows,
                size_t *count);
/* By the order's columns, then by key (no columns: in the collection's order). rows has room for
 * count more behind them. COULOMB_E_MEMORY. */
int sort_by_order(struct coulomb_collection *coll, const coulomb_order *order,
                  const int *columns, size_t order_count, struct coulomb_row **rows,
                  size_t count);
/* The numbers of the order's columns; at most ORDER_COLUMNS_MAX. Errors are set. */
int order_columns(struct coulomb_collection *coll, const coulomb_order *order,
                  size_t count, int *columns);
void subs_clear(struct coulomb_collection *coll);
void sub_free(struct coulomb_sub *sub);
/* What one has not heard yet is given to it now. 1: it ended in its callback; COULOMB_E_MEMORY. */
int sub_catch_up(struct coulomb_sub *sub);
/* Gives rows as inserts, which then count as sent; `always` also when there are none. 1: it ended;
 * COULOMB_E_MEMORY: nothing was given. */
int sub_give_rows(struct coulomb_sub *sub, struct coulomb_row *const *rows, size_t count,
                  bool always);
/* Gives what was held back. 1: it ended. */
int sub_give_held(struct coulomb_sub *sub);
void sub_held_clear(struct coulomb_sub *sub);
/* Whether its condition wants the row: 1, 0, COULOMB_E_MEMORY. */
int sub_matches(struct coulomb_sub *sub, const struct coulomb_row *row,
                coulomb_meta meta);

/* --- What they ask for (load.c, page.c) ------------------------------------------------------- */

/* The subscription's first rows. Errors are set. */
int load_initial(struct coulomb_sub *sub, const coulomb_sub_options *o);
/* It is listed from now on: its rows come. */
void loads_begin(struct coulomb_sub *sub);
/* Frees all; the adapter is told when it is still there. */
void loads_end(struct coulomb_sub *sub);
/* No task and no answer of theirs follows. */
void loads_forget(struct coulomb_sub *sub);
int flush_run(struct task *t);
/* A truncate was applied. */
void subs_truncated(struct coulomb_collection *coll);
/* A session began, the collection recovered; it ended; sync transactions were applied. */
void subs_started(struct coulomb_collection *coll);
void subs_stopped(struct coulomb_collection *coll);
void subs_synced(struct coulomb_collection *coll);
/* A page's cursor as conditions, and its index. Errors are set. */
int page_prepare(struct sub_load *load, const coulomb_page_options *o);
/* A page's rows in order, not retained, in an array from the heap of *cap. COULOMB_E_MEMORY,
 * COULOMB_E_NO_INDEX. */
int page_rows(struct sub_load *load, struct coulomb_row ***rows, size_t *count,
              size_t *cap);

/* An answer that a handler owes. Owner: whoever asked; freed by the answer. */
struct coulomb_completion {
    coulomb_client *client; /* held */
    void *what;             /* NULL: nobody waits any more */
    void (*done)(void *what, int code, const char *message);
    struct coulomb_completion **slot; /* where the waiting one points at it */
};

/* NULL: no memory. */
struct coulomb_completion *completion_new(coulomb_client *c, void *what,
                                          void (*done)(void *what, int code,
                                                       const char *message),
                                          struct coulomb_completion **slot);
/* The waiting one goes away: the answer will be dropped. */
void completion_forget(struct coulomb_completion **slot);

static inline uint32_t coll_hash(const struct coulomb_collection *coll, coulomb_key key)
{
    return key_hash(key, coll->client->seed);
}

#endif
