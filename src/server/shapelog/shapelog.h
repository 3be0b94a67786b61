/* Storage of shapes: one snapshot and one log of changes for each, made of wire bytes.
 *
 * Threads: the *sequencer* creates, appends, publishes, removes and asks for checkpoints; one
 * *snapshot worker* at a time writes a shape's snapshot; *readers* on any thread locate and
 * read. Locks inside are held for a few instructions, never across I/O by readers.
 *
 * Durability (design ideas 1 and 2): published entries become visible with shapelog_flush,
 * before they are on disk for good; shapelog_checkpoint makes everything shown so far
 * durable, together with the LSN that may then be acknowledged. After a crash every log
 * ends where the last checkpoint recorded it; the slot sends the rest again and it lands at
 * the same offsets. A shape whose snapshot was not complete and durable is gone then.
 *
 * The layout on disk is this module's secret; it is described at the top of shapelog.c. */
#ifndef COULOMB_SERVER_SHAPELOG_SHAPELOG_H
#define COULOMB_SERVER_SHAPELOG_SHAPELOG_H

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/offset.h"
#include "server/obs/obs.h"

#define SHAPELOG_HANDLE_MAX 64

struct shapelog;
struct shapelog_shape; /* reference-counted */

struct shapelog_origin { /* which stream a log was made from */
    char system_id[32];
    uint32_t timeline;
    char database[64];
    char slot[64];
};

struct shapelog_config {
    const char *dir;         /* made when missing */
    uint64_t chunk_bytes;    /* ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD (3.6) */
    unsigned max_open_files; /* descriptors kept for idle shapes */
    uint64_t segment_bytes;  /* of a file that shapes share; 0: 64 MiB */
    size_t stage_bytes; /* of messages kept before an open transaction spills; 0: 1 MiB */
    const struct log *log;
    struct obs *obs;
    /* Take the storage from a process that still has it open, when it was made from this
     * stream (whatever the timeline): for who holds the stream's lock, which that process
     * has lost. NULL: refuse. Copied. */
    const struct shapelog_origin *take_over;
    void *ctx;
    /* A checkpoint is durable. On the checkpoint thread. */
    void (*durable)(void *ctx, uint64_t lsn);
    /* A checkpoint failed: nothing was acknowledged. ERR_FATAL: nothing ever will be (a sync
     * failed, after which the kernel may have dropped what was written; or another process
     * has taken the storage over): stop, and start again. Else (disk full) the next one
     * tries again. On the checkpoint thread. */
    void (*failed)(void *ctx, const struct err *err);
    /* Bytes were found that do not check out: remove the shape. true: it will be, and this is
     * not told again. Any thread; shape borrowed. */
    bool (*corrupt)(void *ctx, struct shapelog_shape *shape);
};

/* Opens, recovers, begins an epoch of its own, starts the checkpoint thread. ERR_EXISTS:
 * another process has it open. Entries that can't be trusted are dropped with their shape
 * and a log line each. */
int shapelog_open(const struct shapelog_config *config, struct shapelog **out,
                  struct err *err);
/* Takes a last checkpoint when something is shown but not durable. All shapes must have
 * been released. */
void shapelog_close(struct shapelog *log);

/* Removes the folder with all that a log keeps in it (one that nobody has open): for storage
 * that lives as long as its process. ERR_IO. */
int shapelog_destroy(const char *dir, struct err *err);

/* --- Facts about the whole log, durable when the call returns. Sequencer. --- */

/* ERR_NOT_FOUND on a new log. */
int shapelog_origin_get(struct shapelog *log, struct shapelog_origin *out);
/* When the log had another origin, nothing of it means anything any more: all shapes must have
 * been removed, their rows go at once, and the durable LSN is 0 again. A checkpoint that runs
 * meanwhile fails; what one of before tells through config.durable is an LSN of before. */
int shapelog_origin_set(struct shapelog *log, const struct shapelog_origin *origin,
                        struct err *err);
/* The same stream on a newer timeline: shapes and LSNs stay. */
int shapelog_origin_follow(struct shapelog *log, uint32_t timeline, struct err *err);
/* The LSN of the last checkpoint, 0 when there is none. */
uint64_t shapelog_durable_lsn(struct shapelog *log);
/* No reader of this or an earlier process was shown anything above it. UINT64_MAX: that is not
 * known, since the machine stopped without warning. */
uint64_t shapelog_visible_lsn(struct shapelog *log);
/* Before readers are shown something of up to that LSN by other means than shapelog_flush (a
 * snapshot's rows). Sequencer. */
void shapelog_visible_raise(struct shapelog *log, uint64_t lsn);
/* When it is not known: it was not above this LSN, which the stream has on the timeline that all
 * was shown from. Sequencer. */
void shapelog_visible_bound(struct shapelog *log, uint64_t lsn);

/* --- What definitions rely on and don't hold themselves. Sequencer. --- */

/* A text under a name, durable when the call returns, in place of an earlier one. Neither has a
 * NUL. ERR_IO, ERR_MEMORY. */
int shapelog_note_put(struct shapelog *log, const char *name, struct slice text,
                      struct err *err);
/* Appends it to out. ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO, ERR_MEMORY. */
int shapelog_note_get(struct shapelog *log, const char *name, struct buf *out,
                      struct err *err);

/* --- Shapes. Sequencer. --- */

/* Calls fn for each shape found complete at opening, before others are made; fn retains what it
 * keeps, and may remove the shape. definition is what shapelog_create was given, borrowed. ERR_IO, ERR_CORRUPT: the
 * definitions can't be read. */
typedef void shapelog_restored_fn(void *ctx, struct shapelog_shape *shape,
                                  struct slice definition);
int shapelog_each(struct shapelog *log, shapelog_restored_fn *fn, void *ctx,
                  struct err *err);

/* A new shape without snapshot. The handle must be new for ever. Copies; *out has one
 * reference. Handles are letters, digits, '-' and '_'. ERR_INVALID, ERR_MEMORY. */
int shapelog_create(struct shapelog *log, struct slice handle, struct slice definition,
                    struct shapelog_shape **out, struct err *err);
/* Replaces the definition; durable with the next checkpoint, together with whatever is
 * shown before it. Copies. ERR_MEMORY. */
int shapelog_redefine(struct shapelog_shape *shape, struct slice definition,
                      struct err *err);
struct shapelog_shape *shapelog_retain(struct shapelog_shape *shape);
void shapelog_release(struct shapelog_shape *shape);
/* The shape is gone at once for a later start; its space is given back after the last
 * reference went. Bodies already located stay readable until released. The caller keeps its
 * reference. A second call does nothing. */
void shapelog_remove(struct shapelog_shape *shape);
const char *shapelog_handle(const struct shapelog_shape *shape);

/* --- Stream. Sequencer. --- */

/* A message given to the log once, for any number of shapes: valid until the next spill, flush or
 * rollback. */
struct shapelog_variant {
    uint32_t n;
};

/* Between two changes: writes entries of open transactions, not shown, when they have come to
 * more than is kept in memory. ERR_IO, ERR_MEMORY: roll back. */
int shapelog_spill(struct shapelog *log, struct err *err);
/* The message ends in "}}" (encode.h). Copies. ERR_MEMORY: roll back. ERR_INVALID, ERR_LIMIT: this
 * message can't be kept. */
int shapelog_stage(struct shapelog *log, struct slice json, struct shapelog_variant *out,
                   struct err *err);
/* Appends it to the shape at (tx, op), above every earlier one. Not visible yet.
 * ERR_INVALID; ERR_MEMORY: roll back. */
int shapelog_append(struct shapelog_shape *shape, uint64_t tx, uint64_t op,
                    struct shapelog_variant variant, struct err *err);
/* The open transaction's entries of this shape are complete: the last becomes `last`. */
void shapelog_commit(struct shapelog_shape *shape);
/* All committed entries of the shape become visible with the next flush. */
void shapelog_publish(struct shapelog_shape *shape);
/* Writes and shows, all together, what was published. lsn is the commit up to which readers
 * are told that they have seen everything. ERR_IO (disk full, …), ERR_MEMORY: nothing was
 * shown; roll back. */
int shapelog_flush(struct shapelog *log, uint64_t lsn, struct err *err);
/* Forgets every entry that is not visible, of all shapes: the stream sends them again. */
void shapelog_rollback(struct shapelog *log);
/* Rewrites tails that have grown long into files of their own, for about budget_us. True
 * when there is more to do. A shape that can't be rewritten now waits for its next entry. */
bool shapelog_tend(struct shapelog *log, int64_t budget_us);
/* Asks for a checkpoint of all that is shown, to be recorded as lsn. Never blocks on I/O;
 * requests made while one runs are merged into the next. */
void shapelog_checkpoint(struct shapelog *log, uint64_t lsn);
/* The newest committed position: entries at or below it are replays. 0_inf without any. */
struct offset shapelog_committed(const struct shapelog_shape *shape);

/* --- Snapshot. One worker at a time. --- */

int shapelog_snapshot_row(struct shapelog_shape *shape, struct slice json,
                          struct err *err);
/* Makes the rows so far readable. */
int shapelog_snapshot_flush(struct shapelog_shape *shape, struct err *err);
/* Appends the snapshot-end message and makes the snapshot complete; durable with the next
 * checkpoint. Transactions that it contains are of no interest to a later start: `view_text`
 * (pg_snapshot's text form) is kept to filter replays, and given back by shapelog_view. */
int shapelog_snapshot_end(struct shapelog_shape *shape, struct slice json,
                          struct slice view_text, struct err *err);
/* The kept view, borrowed from the shape; empty when not complete. */
struct slice shapelog_view(const struct shapelog_shape *shape);

/* --- Reading. Any thread. --- */

struct shapelog_extent {
    struct offset latest;     /* published end of the log; 0_inf without entries */
    uint32_t snapshot_chunks; /* begun ones */
    bool snapshot_begun;      /* chunk 0 may be read */
    bool snapshot_complete;
};

void shapelog_extent(struct shapelog_shape *shape, struct shapelog_extent *out);

enum shapelog_part {
    SHAPELOG_NOTHING,  /* no entries after the offset (end == latest) */
    SHAPELOG_SNAPSHOT, /* chunk `chunk` of the snapshot, maybe still growing */
    SHAPELOG_LOG,      /* `size_bytes` of messages */
    SHAPELOG_PENDING   /* not written yet: wait for the shape's next notification */
};

/* What a request for the messages after an offset is answered with (3.4). */
struct shapelog_found {
    enum shapelog_part part;
    struct offset end;   /* electric-offset of the answer */
    uint32_t chunk;      /* SNAPSHOT */
    uint64_t size_bytes; /* LOG: of the whole body part, without brackets */
    uint64_t position;   /* LOG: private */
    uint32_t entries;    /* LOG: how many messages */
    struct offset first; /* LOG: the first entry's offset */
};

/* after is at or below latest (or virtual, or -1). ERR_IO, ERR_CORRUPT. */
int shapelog_locate(struct shapelog_shape *shape, struct offset after,
                    struct shapelog_found *out, struct err *err);

/* A run of body bytes: messages joined by ",", no brackets, nothing at the ends. In memory
 * when mem is not NULL, else in a file (for sendfile). */
struct shapelog_piece {
    const char *mem;
    int fd;
    uint64_t file_pos;
    size_t len;
    void *hold; /* shapelog_piece_release */
};

/* LOG: the piece that begins `from` bytes into the body; len is 0 at its end. */
int shapelog_read_log(struct shapelog_shape *shape, const struct shapelog_found *found,
                      uint64_t from, struct shapelog_piece *out, struct err *err);

enum shapelog_growth { SHAPELOG_GROWING, SHAPELOG_CLOSED };

/* SNAPSHOT: the piece that begins `from` bytes into the chunk, as far as it is readable (len 0:
 * nothing more yet, or the end). *growth tells whether more will come after it. */
int shapelog_read_snapshot(struct shapelog_shape *shape, uint32_t chunk, uint64_t from,
                           struct shapelog_piece *out, enum shapelog_growth *growth,
                           struct err *err);
void shapelog_piece_release(struct shapelog_piece *piece);

#endif
