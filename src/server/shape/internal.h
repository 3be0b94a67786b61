/* What the files of this module share. Not for others. */
#ifndef COULOMB_SERVER_SHAPE_INTERNAL_H
#define COULOMB_SERVER_SHAPE_INTERNAL_H

#include <pthread.h>

#include "base/list.h"
#include "base/mailbox.h"
#include "base/map.h"
#include "server/route/route.h"
#include "server/shape/sequencer.h"
#include "server/shape/where.h"
#include "server/snapshot/snapshot.h"

/* --- The registry (shapes.c) --- */

struct watcher {
    shapes_notify_fn *notify;
    void *ctx;
};

struct shapes {
    pthread_rwlock_t lock; /* guards the two maps; the sequencer alone writes */
    struct map by_handle;  /* by its hash, which a map keeps without an allocation */
    struct map by_identity;
    uint64_t handle_seed;
    struct watcher watchers[SHAPES_WATCHERS_MAX];
    unsigned watcher_count;
    uint64_t where_seed;
    struct obs *obs;
    struct sequencer *sequencer; /* where questions are sent */

    atomic_int service; /* enum shapes_service */
    atomic_int contact; /* enum shapes_contact */
    atomic_bool caught_up;
    atomic_bool checkpoint_failing;
    atomic_uint_fast64_t backlog_bytes; /* to be read before it has caught up */
    atomic_int_fast64_t fresh_ms; /* what is served was all there was then; monotonic */
    atomic_int_fast64_t heard_ms; /* last word of the stream; monotonic */
    atomic_int_fast64_t asked_ms; /* last answer of the pool's; 0: none since it began */
    atomic_uint_fast64_t last_lsn;
    atomic_uint_fast64_t
        seen_lsn; /* nothing below it is to come; never less than last_lsn */
    pthread_mutex_t detail_lock;
    char detail[SHAPES_DETAIL_MAX];
    char refusal[SHAPES_DETAIL_MAX]; /* why the pool has no answer */
};

/* --- Which shapes get the same messages (variants.c). The sequencer's. --- */

enum variant_kind {
    VARIANT_INSERT,
    VARIANT_UPDATE,
    VARIANT_DELETE,
    VARIANT_KEY_DELETE, /* the halves of a key change */
    VARIANT_KEY_INSERT,
    VARIANT_KINDS
};

struct variant_memo {
    uint64_t serial; /* of the change that it is about */
    bool known;
    bool nothing; /* no selected column changed: there is no message */
    struct shapelog_variant variant;
};

struct variant_class {
    struct shape_columns *columns; /* a reference: those of its newest shape */
    size_t shapes;
    struct variant_memo memo[VARIANT_KINDS];
};

struct variants {
    struct map classes;
    uint64_t serial;
};

void variants_init(struct variants *v);
void variants_fini(struct variants *v);
/* The definition, on the columns that the shapes of its class have when they are the same: with one
 * reference more, or a new one. ERR_MEMORY. */
int variants_share(struct variants *v, struct shape_def *def, struct shape_def **out,
                   struct err *err);
/* The shape's class, made when it is the first. NULL: no memory. */
struct variant_class *variants_join(struct variants *v, const struct shape_def *def);
void variants_leave(struct variants *v, struct variant_class *class,
                    const struct shape_def *def);
/* What was staged before is not valid any more. */
void variants_next_change(struct variants *v);
/* `known` tells whether the change's message of that kind is staged; else the caller fills it. */
struct variant_memo *variants_memo(struct variants *v, struct variant_class *class,
                                   enum variant_kind kind);

/* Where a shape stands in the join of its snapshot with the stream
 * (shape-protocol.md 5.4). Sequencer's thread only.
 *
 *   UNSUBSCRIBED ──subscribe──▶ BUFFERING ──view known──▶ JOINED
 *        ▲                          │
 *        └── a snapshot that can't be joined is taken again ──┘
 */
enum join_phase { JOIN_UNSUBSCRIBED, JOIN_BUFFERING, JOIN_JOINED };

/* What the open transaction means to a shape; decided at its first change there. */
enum txn_mode { TXN_SKIP, TXN_BUFFER, TXN_APPEND };

/* One relation whose changes concern the shape: its table, or a partition or child of it.
 */
struct shape_link {
    struct route_entry route; /* first: a hit's entry is the link */
    struct shape *shape;
    const struct decode_relation *relation; /* that `order` was made for, or NULL */
    uint16_t *order; /* table column -> relation column; NULL: the same order */
    bool absent;     /* the catalog's last answer lacked it */
    bool misfit;     /* the relation lacks what the clause reads (clause.c) */
};

struct shape_header {
    struct shape_header *older;
    struct shape_def *def; /* a reference */
};

/* Life: made by sequencer_make (PREPARING) → READING when its view is known → LIVE when
 * its snapshot is complete → GONE. Only sequencer_drop makes it GONE; it then leaves the
 * registry, the router and every list below. References: the registry's one, HTTP
 * requests', the snapshot job's. */
struct shape {
    atomic_uint refs;
    struct shapes *owner;
    struct shape_def *def;
    /* What clients are told of the columns and what is stored: def, or def with fewer
     * columns called not_null and with the partitions that came since. Readers may hold an older text: all are kept to the end. */
    struct shape_header *_Atomic header;
    struct shapelog_shape *log;    /* which has the handle */
    atomic_int state;              /* enum shape_state */
    atomic_uint_fast64_t watchers; /* bit n: watcher n wants one notification */
    atomic_int_fast64_t read_ms;   /* last read, monotonic; 0 never */
    /* Of the clause in the words that it was last asked for with (shapes_where_hash); 0: none.
     * Halves of two of them fit no third. */
    atomic_uint_fast64_t where_hash[2];
    struct err *failure; /* written before state becomes GONE; NULL: simply removed */

    /* The rest is the sequencer's. */
    struct shape_link *links;
    size_t link_count;
    struct table *clause_table; /* with a clause: a reference (clause.c) */
    struct table_use *use;
    struct variant_class *class;
    struct list in_touched; /* has entries of the open transaction; or is in `dropped` */
    struct list in_committed; /* has committed entries that are not published */
    uint64_t
        verify_serial;   /* the look at the catalog that must pass before more is shown */
    uint64_t txn_serial; /* of the transaction that txn_mode was decided for */
    enum txn_mode txn_mode;
    enum join_phase phase;
    struct snapshot_view view;  /* JOINED: what the snapshot holds */
    struct buf join_buffer;     /* BUFFERING: entries, as join.c describes */
    uint64_t subscribe_ordinal; /* transactions begun before it subscribed */
    bool join_broken; /* the stream broke, or the buffer overflowed: take it again */
};

void shapes_init(struct shapes *s, struct sequencer *q, struct obs *obs);
void shapes_fini(struct shapes *s);
/* NULL: none has the handle. The sequencer, or under the lock. */
struct shape *shapes_borrow(const struct shapes *s, struct slice handle);
int shapes_insert(struct shapes *s, struct shape *shape); /* takes a reference */
void shapes_erase(struct shapes *s, struct shape *shape); /* releases it */
void shapes_set_service(struct shapes *s, enum shapes_service service,
                        const char *detail);
void shapes_set_refusal(struct shapes *s, const char *refusal);
void shapes_notify_all(struct shapes *s);
/* Tells the watchers that asked; any thread. */
void shape_notify(struct shape *shape);
/* Of a shape that is about to be GONE; copies. NULL: none. */
void shape_set_failure(struct shape *shape, const struct err *failure);
/* Takes the definition as the header. ERR_MEMORY. */
int shape_set_header(struct shape *shape, struct shape_def *def);

/* --- Tables in use (tables.c) --- */

/* A table with shapes: whether the publication is known to have it. There is one at a time
 * for each OID, until it has left the publication: its lock keeps apart who alters it. */
struct table_use {
    uint32_t oid;
    atomic_uint refs;
    atomic_uint shapes; /* that exist */
    pthread_mutex_t
        lock; /* worker threads only: the publication is being altered for it */
    atomic_bool ensured;      /* this process saw it safely in the publication, */
    struct table *ensured_as; /* as this: a reference, the lock's; NULL: not known. */
    bool wants_wait;          /* the lock's: the last try failed, after who knows what */

    pthread_mutex_t known_lock; /* of what a worker has read of it last: */
    struct table *known;        /* a reference, or NULL */
    char *known_stamp;          /* and its stamp (catalog/stamp.h) */

    /* The sequencer's. */
    struct table *table; /* a reference: what the newest shape takes it for */
    struct table
        *clause_table;   /* a reference, or NULL: the newest that filters are made with */
    struct list in_idle; /* without shapes: waits to leave the publication */
    int64_t idle_since_ms;
    unsigned leaving;   /* jobs that may be taking it out */
    bool publishing;    /* a preparation is about to put it in, */
    struct list parked; /* and these wait for it */
};

struct table_use *table_use_get(struct sequencer *q, struct table *table);
void table_use_put(struct sequencer *q, struct table_use *use); /* one shape fewer */
struct table_use *table_use_retain(struct table_use *use);
void table_use_release(struct table_use *use);
/* A worker takes the lock; false when the server stops first. */
bool table_use_lock(struct sequencer *q, struct table_use *use);
void table_use_unlock(struct table_use *use);
/* What a worker has read of the table under that stamp: retained, or NULL. Any thread. */
struct table *table_use_known(struct table_use *use, struct slice stamp);
/* Both copied or retained; an empty stamp is none. Want of memory is no matter. */
void table_use_learn(struct table_use *use, struct slice stamp, struct table *table);
/* Takes tables idle for long enough out of the publication. */
void tables_leave_idle(struct sequencer *q, int64_t now_ms);
void tables_left(struct sequencer *q, struct mail *mail);
/* Members of the publication at the start: those that no shape needs leave it. */
void tables_take_over(struct sequencer *q, const uint32_t *members, size_t count);
void table_forget_if_unused(struct sequencer *q, struct table_use *use);
int64_t tables_deadline_ms(const struct sequencer *q);
void tables_fini(struct sequencer *q);

/* --- Mail to the sequencer --- */

enum mail_kind {
    MAIL_GET,
    MAIL_REMOVE,
    MAIL_SUBSCRIBE,
    MAIL_JOIN,
    MAIL_SEES,
    MAIL_PUBLISHED,
    MAIL_SNAPSHOT_DONE,
    MAIL_SNAPSHOT_FAILED,
    MAIL_DURABLE,
    MAIL_CHECKPOINT_FAILED,
    MAIL_CORRUPT,
    MAIL_RECONCILED,
    MAIL_PARTITIONS,
    MAIL_TABLE_LEFT,
    MAIL_PROBED,
    MAIL_SUSPECT,
    MAIL_STOP
};

struct mail_get {
    struct mail mail;
    struct shape_def *def;
    struct shape_where *where; /* a reference, or NULL */
    shapes_answer_fn *fn;
    void *ctx;
};

struct mail_remove {
    struct mail mail;
    struct shape *shape;
    enum obs_shape_reason reason;
    shapes_answer_fn *fn;
    void *ctx;
};

/* Sent by the worker of a snapshot or a subset, which waits for the answer; lives on its stack. */
struct mail_join {
    struct mail mail;
    struct shape *shape;              /* NULL for SEES */
    const struct snapshot_view *view; /* JOIN, SEES */
    struct err err;                   /* the answer: code 0, ERR_RETRY, ERR_CANCELLED */
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool done;
};

struct mail_shape { /* SNAPSHOT_DONE, SNAPSHOT_FAILED, CORRUPT */
    struct mail mail;
    struct shape *shape; /* a reference; NULL for CORRUPT */
    char handle[SHAPELOG_HANDLE_MAX];
    struct err err;
};

/* A preparation's first step is done. */
struct mail_published {
    struct mail mail;
    struct table_use *use; /* references */
    struct table *table;   /* the step was taken for */
    struct err err;
};

struct mail_durable {
    struct mail mail;
    uint64_t lsn;
    struct err err;
};

/* Sent once for each question of how far the WAL is. */
struct mail_probed {
    struct mail mail;
    struct sequencer *q;
    int64_t asked_ms;
    uint64_t wal_lsn; /* 0: no answer */
    struct err err;
};

struct reconcile_job; /* begins with its mail */

/* --- The sequencer --- */

#define RECENT_XIDS (1u << 16)
/* The database's mapping of case, as a note in the storage (case_map_text). */
#define CASE_MAP_NOTE "case_map"

struct recent_xid {
    uint32_t xid;
    uint64_t ordinal; /* 0: empty */
    uint64_t lsn;     /* of its commit */
};

struct sequencer {
    struct sequencer_config config;
    struct sequencer_stream stream;
    struct shapes shapes;
    struct mailbox mailbox;
    struct mail stop_mail;
    struct mail_durable checkpoint_mail;
    atomic_bool stop_requested;
    struct shapelog *shapelog; /* NULL while another process holds the storage */
    struct route *route;

    /* the open transaction */
    bool txn_open;
    bool txn_replayed; /* processed before on an earlier connection: ignored */
    uint64_t txn_serial;
    uint64_t txn_lsn;
    uint32_t txn_xid;
    int64_t txn_commit_us;
    int64_t txn_begun_us;
    int64_t
        processed_commit_us; /* of the last complete transaction, the server's clock */
    struct list touched;

    struct list committed;  /* shapes to publish */
    bool unpublished;       /* a commit was processed since the last publication */
    uint64_t processed_lsn; /* commit LSN of the last complete transaction of this run */
    uint64_t processed_end; /* its end */
    uint64_t published_end; /* readers may see everything up to here */
    struct err storage; /* code != 0: what the storage refused; the stream begins anew */
    uint64_t wal_end;   /* everything before it has come */
    int64_t oldest_commit_us; /* arrival of the first unpublished commit, monotonic */
    uint64_t catch_up_lsn;    /* replay is over once this is reached */
    uint64_t confirmed_lsn;   /* of the slot, at connect */
    uint64_t
        repeat_lsn; /* the slot must send this commit again, or its history is another */

    uint64_t durable_lsn;
    bool unsaved; /* something published is not in a checkpoint that was asked for */
    bool checkpoint_running;
    bool checkpoint_stale; /* the one that runs was asked for before the origin changed */
    bool checkpoint_failing; /* the last one did */
    int64_t next_checkpoint_ms;
    int64_t stop_deadline_ms; /* INT64_MAX: not stopping */

    struct mail_probed probe; /* one at a time */
    bool probe_running;
    int64_t next_probe_ms;
    uint64_t awaited_lsn; /* once this is published, what is served was fresh at */
    int64_t awaited_ms;   /* that time; 0: nothing is awaited */
    int64_t clock_ahead_us;

    struct recent_xid *recent; /* by xid % RECENT_XIDS: transactions begun in this run */
    uint64_t txn_ordinal;      /* how many began */
    uint32_t newest_xid;

    struct case_map *case_map; /* a reference, or NULL: what the storage has */
    struct variants variants;
    int64_t next_publish_ms; /* not sooner while a backlog is read */
    bool tending;            /* logs wait to be rewritten */
    int64_t
        storage_busy_ms; /* since when another process has the storage that is ours now */
    struct map tables;   /* OID -> struct table_use */
    struct list idle_tables;
    bool members_known;   /* what an earlier run left in the publication was looked at */
    size_t parent_shapes; /* shapes on partitioned tables */
    struct map arrivals;  /* OIDs of partitions to be asked about */
    bool arrivals_running;
    struct map misfits; /* OIDs of relations with links that are misfits */
    struct map settled; /* OIDs of relations whose place the catalog has told */
    int64_t last_handle_us;
    int64_t next_reconcile_ms;
    int64_t last_reconcile_ms;
    uint64_t reconcile_started; /* how many looks at the catalog have begun, */
    uint64_t reconcile_passed;  /* and which one was the last to be acted on */
    bool reconcile_running;

    struct value *row_scratch[2]; /* rows put into a table's column order */
    struct buf encoded;
    struct shape **scratch; /* sequencer_shapes_of */
    size_t scratch_cap;
    struct list
        dropped; /* gone shapes whose reference is given back between transactions'
                  * changes, when no list of hits can name them any more */
};

/* sequencer.c: does what one message asks, and frees it. */
void sequencer_open_mail(struct sequencer *q, struct mail *mail);

/* Shows what was committed. Negative: the storage refused; nothing of it is shown, and all that
 * was not shown before is forgotten. */
int sequencer_show(struct sequencer *q, struct err *err);
/* The storage failed: forgets what is not shown; the stream must come again from where the slot
 * is. Returns ERR_RETRY. */
int sequencer_storage_failed(struct sequencer *q, const struct err *why, struct err *err);

/* lifecycle.c */
/* `where` is the definition's clause as a tree, or NULL: its text is parsed, or it has none.
 * ERR_INVALID, ERR_UNSUPPORTED, ERR_LIMIT: the clause is too complex to be followed. */
struct shape *sequencer_make(struct sequencer *q, struct shape_def *def,
                             const struct shape_where *where, struct err *err);
/* One without a log, which shape_register then makes known in all four places (`where` as above). */
struct shape *shape_new(struct sequencer *q, struct shape_def *def);
int shape_register(struct sequencer *q, struct shape *shape,
                   const struct shape_where *where, struct err *err);
/* restore.c: all that the storage has. ERR_IO, ERR_CORRUPT, ERR_MEMORY. */
int sequencer_restore(struct sequencer *q, struct err *err);
void sequencer_drop(struct sequencer *q, struct shape *shape,
                    enum obs_shape_reason reason, const struct err *failure,
                    const char *detail);
void sequencer_drop_everything(struct sequencer *q, enum obs_shape_reason reason,
                               const char *detail);
/* Gives back the references to dropped shapes: not while hits are being walked. */
void sequencer_release_dropped(struct sequencer *q);
/* Down to the limit of shapes. */
void sequencer_evict(struct sequencer *q);
/* Collects the shapes that have a link to the relation: a borrowed array of *count, or
 * NULL. */
struct shape **sequencer_shapes_of(struct sequencer *q, uint32_t oid, size_t *count);
/* Links the shape to one more relation (a partition); `where` as in sequencer_make. */
int sequencer_link(struct sequencer *q, struct shape *shape, uint32_t oid,
                   const struct shape_where *where, struct err *err);
/* Drops a shape whose snapshot can't be had. */
void sequencer_fail_snapshot(struct sequencer *q, struct shape *shape,
                             const struct err *why);
/* Stores the definition, which is the shape's own but for what may change under it
 * (def.h), and shows it as the header. ERR_MEMORY. */
int sequencer_redefine(struct sequencer *q, struct shape *shape, struct shape_def *def);
/* Takes its links out of the router, and its filters. */
void sequencer_unlink(struct sequencer *q, struct shape *shape);

/* apply.c */
void apply_roll_back(struct sequencer *q);
void apply_note_joined(struct sequencer *q, struct shape *shape, bool open_txn_kept);
int apply_touch(struct sequencer *q, struct shape *shape);
enum txn_mode apply_decide(const struct sequencer *q, const struct shape *shape,
                           uint64_t lsn, uint32_t xid);

/* join.c */
void join_subscribe(struct sequencer *q, struct mail_join *mail);
void join_join(struct sequencer *q, struct mail_join *mail);
void join_sees(struct sequencer *q, struct mail_join *mail);
void join_answer(struct mail_join *mail, int code, const char *why);
/* A worker sends the mail and waits for its answer, which it returns. */
int join_ask(struct sequencer *q, enum mail_kind kind, struct shape *shape,
             const struct snapshot_view *view, struct err *err);
int join_buffer_put(struct sequencer *q, struct shape *shape, uint64_t op,
                    struct slice json);
/* What would remove the shape, kept in the buffer until it is known whether the snapshot
 * comes before or after it. */
#define JOIN_MARK_FIRST    JOIN_MARK_CLAUSE
#define JOIN_MARK_CLAUSE   (UINT32_MAX - 3)
#define JOIN_MARK_IDENTITY (UINT32_MAX - 2)
#define JOIN_MARK_SCHEMA   (UINT32_MAX - 1)
#define JOIN_MARK_TRUNCATE UINT32_MAX
void join_buffer_mark(struct sequencer *q, struct shape *shape, uint32_t mark);
enum obs_shape_reason join_mark_reason(uint32_t mark);
void join_abandon(struct shape *shape);
/* Whether the view has every transaction that began in the stream up to that ordinal and
 * committed before that LSN. */
bool join_sees_passed(const struct sequencer *q, const struct snapshot_view *view,
                      uint64_t ordinal, uint64_t lsn);

/* preparation.c: the snapshot's job on a worker thread */
int preparation_start(struct sequencer *q, struct shape *shape);
void preparation_published(struct sequencer *q, struct mail *mail);
void preparation_forget_parked(struct table_use *use);

/* reconcile.c */
void reconcile_start(struct sequencer *q, int64_t now_ms);
/* Something hints that the catalog has changed. */
void reconcile_soon(struct sequencer *q);
void reconcile_finish(struct sequencer *q, struct reconcile_job *job);
/* The stream describes a relation: before its changes are applied. */
int reconcile_relation(struct sequencer *q, const struct decode_relation *relation,
                       struct err *err);

/* origin.c: what the logs were made from is compared with what the stream comes from. */
struct shapelog_origin origin_of(const struct sequencer *q,
                                 const struct sequencer_attach *attach);
int origin_check(struct sequencer *q, const struct sequencer_attach *attach,
                 struct err *err);
/* At each transaction's begin, and when replay is over (UINT64_MAX): ERR_RETRY when the
 * stream has passed the place of a commit that it must repeat. */
int origin_repeated(struct sequencer *q, uint64_t lsn, struct err *err);

/* fresh.c: as of when what is served is known to be all there was. */
/* Everything before it is published, or concerns nobody. */
uint64_t fresh_published_lsn(const struct sequencer *q);
void fresh_published(struct sequencer *q);
void fresh_look(struct sequencer *q);
void fresh_probe_if_due(struct sequencer *q, int64_t now_ms);
void fresh_probed(struct sequencer *q, const struct mail_probed *m);

/* clause.c */
/* The shape's filter for one more relation, or NULL: it has no clause. `where` as in
 * sequencer_make. */
int clause_filter(struct sequencer *q, struct shape *shape, uint32_t oid,
                  const struct shape_where *where, struct route_filter **out,
                  struct err *err);
/* The stream describes a relation: finds the links whose clause does not fit it. */
int clause_described(struct sequencer *q, const struct decode_relation *relation,
                     struct err *err);
/* Before a change of the relation: removes the shapes of those links. */
void clause_drop_misfits(struct sequencer *q, uint32_t oid);
/* A reason, terminated, without what it quotes: that may be of a row, and is not for the log. */
void clause_put_words(struct buf *out, const char *text);
/* The open transaction, which has been decided for the shape, has a change on which its clause
 * can't be. */
void clause_failed(struct sequencer *q, struct shape *shape, const struct err *why);

/* partitions.c */
/* Finds whose partition the relation is, and links it to their shapes. Waits for Postgres
 * (5 s at the most) unless that is known. */
int partitions_described(struct sequencer *q, const struct decode_relation *relation,
                         struct err *err);
/* A look at the catalog shows a partition that a shape is not linked to: noted, until
 * partitions_look asks about all that were. */
int partitions_found(struct sequencer *q, uint32_t oid);
void partitions_look(struct sequencer *q);
void partitions_answered(struct sequencer *q, struct mail *mail);

#endif
