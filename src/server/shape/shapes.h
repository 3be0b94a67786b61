/* The shapes that exist, as HTTP threads see them.
 *
 * One thread, the sequencer, makes and removes shapes and writes their logs
 * (sequencer.h). Any thread finds them here, reads what was published, and asks the
 * sequencer for changes of the set by message. A lookup takes a read lock for a few
 * instructions; nothing here waits for Postgres or the disk. */
#ifndef COULOMB_SERVER_SHAPE_SHAPES_H
#define COULOMB_SERVER_SHAPE_SHAPES_H

#include "base/err.h"
#include "server/obs/obs.h"
#include "server/shape/def.h"
#include "server/shape/where.h"
#include "server/shapelog/shapelog.h"

#define SHAPES_WATCHERS_MAX 64

struct shapes;
struct shape; /* reference-counted */

enum shape_state {
    SHAPE_PREPARING, /* no snapshot yet: publication, locks, the query's first row */
    SHAPE_READING,   /* snapshot rows may be read while they come */
    SHAPE_LIVE,      /* snapshot complete */
    SHAPE_GONE       /* removed: see shape_failure */
};

enum shapes_service {
    SHAPES_STARTING, /* no stream yet; what was restored may be read */
    SHAPES_WAITING,  /* another instance holds the advisory lock */
    SHAPES_ACTIVE
};

/* --- The service. Any thread. --- */

enum shapes_service shapes_service(const struct shapes *s);
/* What it waits for, for people (the body of a 503: shape-protocol.md 8.4), terminated.
 */
void shapes_service_detail(const struct shapes *s, char *out, size_t size);
/* Whether what is served follows the database: the stream stands and is not silent, what
 * the WAL held at connect is read, checkpoints succeed, queries are answered. */
#define SHAPES_DETAIL_MAX 800
struct shapes_health {
    enum shapes_service service; /* ACTIVE only when all of that holds */
    int64_t
        lag_ms; /* since when what is served is not known to be all there is; counted from
                     * the start until it is for the first time */
    char detail[SHAPES_DETAIL_MAX]; /* why it is not ACTIVE, for people; "" when it is */
};
void shapes_health(const struct shapes *s, struct shapes_health *out);
/* Whether Postgres has been reached since the start: not tried to the end yet, tried in vain,
 * or reached (it may have gone away again). */
enum shapes_contact { SHAPES_CONTACT_NONE, SHAPES_CONTACT_FAILED, SHAPES_CONTACT_MADE };
enum shapes_contact shapes_contact(const struct shapes *s);
/* After a (re)start the slot repeats what was not durable: false until that is over.
 * Requests beyond the log's end are held meanwhile, never refused (design idea 1). */
bool shapes_caught_up(const struct shapes *s);
/* All transactions that were committed before that LSN are published: at least the commit LSN of the
 * last one; between transactions, where the stream has read to. 0: none yet. */
uint64_t shapes_seen_lsn(const struct shapes *s);

/* --- Finding. Any thread. Retained, or NULL. --- */

struct shape *shapes_by_handle(struct shapes *s, struct slice handle);
struct shape *shapes_by_def(struct shapes *s, const struct shape_def *def);

struct shape *shape_retain(struct shape *shape);
void shape_release(struct shape *shape);
const struct shape_def *shape_definition(const struct shape *shape);
/* The electric-schema header as it is now. Valid while the shape is retained. */
const char *shape_schema(const struct shape *shape);
const char *shape_handle(const struct shape *shape);
struct shapelog_shape *shape_log(const struct shape *shape);
enum shape_state shape_state(const struct shape *shape);
/* For SHAPE_GONE: 0 when it was simply removed (409), else the failure of its snapshot
 * with the HTTP status and the message to give. */
int shape_failure(const struct shape *shape, struct err *out);
/* A clause in a request's own words, so that it need not be parsed for each of a client's requests:
 * a hash of 128 bits with a secret seed. params may be NULL. */
struct shapes_where_hash {
    uint64_t halves[2];
};
struct shapes_where_hash shapes_where_hash(const struct shapes *s, struct slice text,
                                           const struct sql_params *params);
/* Whether the words were found to be the shape's clause, over its definition's table. It knows
 * those that it was told of last. */
bool shape_knows_where(const struct shape *shape, struct shapes_where_hash words);
void shape_tell_where(struct shape *shape, struct shapes_where_hash words);
/* Notes that a client read it, for eviction. */
void shape_touch(struct shape *shape);

/* --- Asking. Any thread; the answer comes once: on the sequencer's thread, or before the
 * call returns when it can't be asked. --- */

/* shape is borrowed for the call and err NULL; or shape is NULL and err tells why
 * (ERR_RETRY; ERR_INVALID, ERR_UNSUPPORTED, ERR_LIMIT: its clause can't be followed). */
typedef void shapes_answer_fn(void *ctx, struct shape *shape, const struct err *err);

/* The shape of this definition, made when there is none (its snapshot starts at once). `where` is
 * what the definition's clause was made from, or NULL. */
void shapes_get(struct shapes *s, struct shape_def *def, struct shape_where *where,
                shapes_answer_fn *fn, void *ctx);
/* Removes it, if it still exists. */
void shapes_remove(struct shapes *s, struct shape *shape, enum obs_shape_reason reason,
                   shapes_answer_fn *fn, void *ctx);

/* Something of the tables is not as it was: the next look at the catalog comes at once. */
void shapes_suspect(struct shapes *s);

/* Whether rows read in this view may be given to a client that reads on in a log at a position
 * published before the view was taken: they have everything up to there. ERR_RETRY: not yet; the
 * next view may. ERR_CANCELLED: the server stops. Waits for the sequencer: pool workers only. */
struct snapshot_view;
int shapes_sees_passed(struct shapes *s, const struct snapshot_view *view,
                       struct err *err);

/* --- Waiting. --- */

/* Registers a loop that wants to hear of changes; before the sequencer runs. `notify` is
 * called from any thread, must not block, and names the shape (borrowed: retain to keep),
 * or NULL when the service's state changed. Returns the watcher's number. */
typedef void shapes_notify_fn(void *ctx, struct shape *shape);
unsigned shapes_add_watcher(struct shapes *s, shapes_notify_fn *notify, void *ctx);
/* Asks for one notification to this watcher at the shape's next change: entries
 * published, snapshot begun, grown or complete, removed. Arm first, then look at the
 * shape's state again, so that nothing falls between. */
void shape_watch(struct shape *shape, unsigned watcher);

#endif
