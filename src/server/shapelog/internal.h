/* What the files of this module share. Nobody outside includes it.
 *
 * Lock order: log->lock, then a shape's lock (shapelog_lock), then segments->lock, files->lock
 * and bodies->lock, which are leaves. log->meta_lock and segments->blob_lock are taken with
 * none of the others held; they alone are held across I/O, by the checkpoint thread, the
 * snapshot workers and, for changes of the origin, the sequencer. */
#ifndef COULOMB_SERVER_SHAPELOG_INTERNAL_H
#define COULOMB_SERVER_SHAPELOG_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/varint.h"
#include "server/shapelog/shapelog.h"

#define RECORD_BYTES 40
#define ENTRY_LAST   1u /* the last entry of its transaction in this shape */
#define ENTRY_CHUNK  2u /* a chunk ends behind this entry */
#define ENTRY_FLAGS  3u

#define MESSAGE_MAX_BYTES (1u << 30)
#define BODY_MAX_BYTES    (64u * 1024)        /* larger log parts are file pieces */
#define BODY_CACHE_BYTES  (64u * 1024 * 1024) /* of all shapes together */
#define TAIL_MAX_BYTES                                                                   \
    (64u * 1024) /* of messages in segments, then they are rewritten, */
#define TAIL_LARGE_MESSAGE (16u * 1024) /* unless they are that large on average */
#define SMALL_SNAPSHOT     (64u * 1024) /* up to this it lies in a segment */
#define WRITE_BLOCK_BYTES  (256u * 1024)
#define STAGE_MAX_BYTES                                                                  \
    (1u << 20) /* of staged messages, then an open transaction spills */
#define FRAME_MAX_BYTES (4u << 20)  /* of messages, then the next frame begins */
#define SEGMENT_BYTES   (64u << 20) /* a segment that has them is closed */
/* The journal that a start reads: at most about that part of a segment, or for many shapes so
 * many bytes for each, but not more than so many segments. */
#define FOLDS_PER_SEGMENT 4u
#define FOLD_ROW_BYTES    2048u
#define SEGMENTS_PER_FOLD 4u
#define STRIPES           64u
#define PATH_BYTES        48
#define NO_OLD_META       (-1)

/* What encode.h's messages end in, and what the last one of a transaction ends in instead
 * (shape-protocol.md 4.3). That header is downstream of this module. */
#define MESSAGE_END        "}}"
#define MESSAGE_LAST       ",\"last\":true}}"
#define MESSAGE_LAST_EXTRA (sizeof(MESSAGE_LAST) - sizeof(MESSAGE_END))

/* A place in a log: everything before it. */
struct mark {
    uint64_t entries;
    uint64_t bytes;   /* of messages as they are served, with a comma behind each */
    struct offset at; /* of the last entry before it; 0_inf at the beginning */
};

#define MARK_BEGIN ((struct mark){0, 0, OFFSET_SNAPSHOT_END})

/* --- entry.c: entries that point into segments --- */

struct entry {
    uint64_t tx;
    uint64_t op;
    uint64_t addr;  /* of the stored message: segment << 32 | position */
    uint32_t len;   /* of the stored message, which is without `last` */
    uint32_t flags; /* ENTRY_LAST, ENTRY_CHUNK */
};

#define ADDR(segment, position) ((uint64_t)(segment) << 32 | (uint64_t)(position))
#define ADDR_SEGMENT(addr)      ((uint32_t)((addr) >> 32))
#define ADDR_POSITION(addr)     ((uint64_t)(addr)&UINT32_MAX)
#define STORED_HEADER           8u /* length and CRC32C before each message in a segment */
#define ENTRY_MAX_BYTES         (4 * VARINT_MAX_BYTES)

/* What the next entry's numbers are relative to. */
struct entry_base {
    uint64_t tx;
    uint64_t op;
    uint64_t addr;
};

/* The message as it is served, without the comma. */
static inline uint64_t entry_served_bytes(const struct entry *e)
{
    return e->len + (e->flags & ENTRY_LAST ? MESSAGE_LAST_EXTRA : 0);
}

static inline struct mark mark_after(struct mark before, const struct entry *e)
{
    return (struct mark){before.entries + 1, before.bytes + entry_served_bytes(e) + 1,
                         (struct offset){e->tx, e->op, false}};
}

/* to has ENTRY_MAX_BYTES of room; returns how many it took and moves base on. */
size_t shapelog_entry_put(char *to, struct entry_base *base, const struct entry *e);
/* False at the end, or (r->failed) when what follows is no entry. */
bool shapelog_entry_get(struct varint_reader *r, struct entry_base *base,
                        struct entry *out);

/* A shape's entries behind its own files, encoded. Shape's lock. */
struct tail {
    char *bytes;
    uint32_t len;
    uint32_t cap;
    struct entry_base base; /* of the entry to come */
};

/* ERR_MEMORY, the tail is as before. */
int shapelog_tail_put(struct tail *tail, const struct entry *e);
void shapelog_tail_clear(struct tail *tail);

struct tail_walk {
    struct varint_reader reader;
    struct entry_base base;
    struct mark before; /* of `entry` */
    struct mark after;
    struct entry entry;
};

void shapelog_tail_walk(struct tail_walk *walk, const struct tail *tail,
                        struct mark begin);
/* The same over encoded entries anywhere. */
void shapelog_entries_walk(struct tail_walk *walk, struct slice entries,
                           struct mark begin);
bool shapelog_tail_next(struct tail_walk *walk);

/* --- record.c: the index of a shape's own files --- */

struct record {
    uint64_t tx;
    uint64_t op;
    uint64_t pos;   /* of the message in the log's bytes */
    uint32_t len;   /* of the message as it is served, without the comma behind it */
    uint32_t flags; /* ENTRY_LAST, ENTRY_CHUNK */
    uint32_t crc;   /* CRC32C of the message */
};

void shapelog_record_put(struct buf *out, const struct record *record);
/* False when the record's own checksum is wrong. */
bool shapelog_record_get(const char bytes[RECORD_BYTES], struct record *out);
uint32_t shapelog_le32(const char *p);
uint64_t shapelog_le64(const char *p);

struct run;

/* Walks entries of one run in order, checking record, order, place and message. */
struct scan {
    const struct run *run;
    int index_fd;
    int log_fd;
    struct mark end;      /* behind the newest good entry */
    struct record record; /* the newest good entry */
    uint64_t limit;       /* entries to stop at */
    char *block;          /* SCAN_BLOCK_BYTES of records, then as much of messages */
    size_t block_first;   /* bytes of records used */
    size_t block_len;
    uint64_t log_pos; /* the messages in memory: begin, then length */
    size_t log_len;
};

/* ERR_MEMORY. */
int shapelog_scan_init(struct scan *scan, const struct run *run, int index_fd, int log_fd,
                       struct mark from, uint64_t limit);
void shapelog_scan_fini(struct scan *scan);
/* 1: scan->record is the next entry; 0: the limit or the end of the file;
 * ERR_CORRUPT: the next one does not check out; ERR_IO. */
int shapelog_scan_next(struct scan *scan, struct err *err);

/* --- files.c: descriptors on demand --- */

struct hold { /* what a piece keeps alive */
    atomic_uint refs;
    enum { HOLD_FILE, HOLD_BODY, HOLD_SEGMENT } kind;
};

struct file {
    struct hold hold;
    int fd;
    struct list link;   /* in files->order while *slot is this file */
    struct file **slot; /* NULL once evicted */
};

struct files {
    pthread_mutex_t lock;
    struct list order; /* least recently used first */
    unsigned count;
    unsigned max_count;
};

struct shapelog_shape;

enum file_kind { FILE_LOG, FILE_INDEX, FILE_SNAPSHOT };

void shapelog_files_init(struct files *files, unsigned max_count);
void shapelog_files_fini(struct files *files);
/* The name in the folder of shapes. */
void shapelog_file_name(char out[PATH_BYTES], uint64_t id, uint32_t epoch,
                        enum file_kind kind);
/* A descriptor of a file of the folder for as long as the reference is held. */
int shapelog_file_get(struct shapelog *log, struct file **slot, const char *name,
                      bool create, struct file **out, struct err *err);
void shapelog_file_put(struct file *file);
/* Gives up the slot's idle descriptor. */
void shapelog_file_forget(struct files *files, struct file **slot);
/* All n bytes; a short read is ERR_CORRUPT. name only words the error. */
int shapelog_read_at(int fd, void *to, size_t n, uint64_t pos, const char *name,
                     struct err *err);
int shapelog_write_at(int fd, const void *from, size_t n, uint64_t pos, const char *name,
                      struct err *err);
/* Makes names made in a folder durable. */
int shapelog_sync_dir(int dir_fd, const char *name, struct err *err);

/* Calls fn with each name in the folder, until it returns other than 0. It may delete the file.
 * name: of the folder, for messages. */
typedef int shapelog_file_fn(void *ctx, const char *file, struct err *err);
int shapelog_each_file(int dir_fd, const char *name, shapelog_file_fn *fn, void *ctx,
                       struct err *err);

/* --- body.c: small bodies shared by many readers --- */

struct body {
    struct hold hold;
    uint64_t pos;
    size_t len;
    struct list link;   /* in bodies->order while *slot is this body */
    struct body **slot; /* NULL once evicted */
    char bytes[];
};

struct bodies {
    pthread_mutex_t lock;
    struct list order; /* oldest first */
    size_t bytes;
};

void shapelog_bodies_init(struct bodies *bodies);
void shapelog_bodies_fini(struct bodies *bodies);
/* Uninitialised bytes, one reference; NULL: no memory. */
struct body *shapelog_body_new(uint64_t pos, size_t len);
/* The cached body of exactly that range with a new reference, or NULL. */
struct body *shapelog_body_find(struct bodies *bodies, struct body **slot, uint64_t pos,
                                size_t len);
/* Caches the body (taking a reference of its own) instead of the one in slot. */
void shapelog_body_keep(struct bodies *bodies, struct body **slot, struct body *body);
void shapelog_bodies_forget(struct bodies *bodies, struct body **slot);
void shapelog_hold_put(struct hold *hold);

/* --- segment.c: files that shapes share --- */

enum segment_kind {
    SEGMENT_JOURNAL, /* frames, the sequencer's */
    SEGMENT_BLOB     /* small snapshots and moved messages: the workers', reclaim's */
};

/* Life: made → appended to → closed (full, or a write to it failed) → nothing that is alive
 * lies in it, and a checkpoint knows → deleted. */
struct segment {
    struct hold hold; /* the table has one */
    uint32_t n;
    uint32_t epoch;
    enum segment_kind kind;
    int fd;
    _Atomic uint64_t end; /* everything before it was written */
    atomic_bool closed;
    atomic_bool unsynced;    /* written to since a sync began */
    _Atomic uint64_t live;   /* entries and snapshots that lie in it, */
    _Atomic uint64_t placed; /* and how many ever did */
    /* Checkpoint thread. */
    uint64_t recorded_end; /* in meta.sqlite; UINT64_MAX: not at all */
    uint64_t recording;    /* in the round that is under way */
    bool doomed;           /* to be deleted when that round is through */
};

struct segments {
    pthread_mutex_t lock;
    struct segment **items; /* ascending by n */
    size_t count;
    size_t cap;
    uint32_t next_n;
    struct segment *journal; /* the sequencer's newest; NULL: none in this epoch */
    pthread_rwlock_t
        readers; /* read: addresses taken from a tail stay good. Only tried for
                               * writing */
    pthread_mutex_t blob_lock;
    struct segment *blob; /* blob_lock */
    atomic_bool new_names;
};

/* Makes the next one, with its file, and puts it into the table; *out is borrowed from it. */
int shapelog_segment_new(struct shapelog *log, enum segment_kind kind,
                         struct segment **out, struct err *err);
/* Puts a recorded one into the table. Its file may be missing: fd is -1 then. */
int shapelog_segment_restore(struct shapelog *log, uint32_t n, uint32_t epoch,
                             enum segment_kind kind, uint64_t end, struct err *err);
/* With a reference, or NULL. */
struct segment *shapelog_segment_get(struct shapelog *log, uint32_t n);
void shapelog_segment_put(struct segment *segment);
/* One more or fewer entry or snapshot lies in segment n. */
void shapelog_segment_place(struct shapelog *log, uint32_t n);
void shapelog_segment_unplace(struct shapelog *log, uint32_t n);
void shapelog_tail_unplace(struct shapelog *log, const struct tail *tail);
/* Room in the current blob segment, which counts as alive; shapelog_segment_unplace gives it
 * back. *out has a reference. */
int shapelog_blob_reserve(struct shapelog *log, size_t n, struct segment **out,
                          uint64_t *pos, struct err *err);
/* Takes it out of the table and deletes its file; false when somebody may be about to read
 * it. */
bool shapelog_segment_delete(struct shapelog *log, struct segment *segment);
void shapelog_segments_fini(struct shapelog *log);
void shapelog_segment_name(char out[PATH_BYTES], uint32_t n, uint32_t epoch);

/* --- shapes --- */

struct log_chunk { /* a closed one */
    struct mark end;
    bool verified; /* its checksums were right once in this process's life */
};

struct snapshot_chunk {
    uint64_t end;
    uint32_t crc;
    bool verified;
};

enum snapshot_place { PLACE_NOWHERE, PLACE_MEMORY, PLACE_SEGMENT, PLACE_FILE };

struct snapshot { /* shape's lock, but for the view */
    bool begun;
    bool complete;
    enum snapshot_place place;
    uint32_t epoch;      /* FILE: in its name */
    uint64_t addr;       /* SEGMENT */
    struct body *memory; /* MEMORY: all that is readable; replaced as it grows */
    struct file *file;   /* FILE: slot */
    uint64_t readable;
    struct snapshot_chunk *chunks; /* all readable closed ones */
    uint32_t chunk_count;
    size_t chunk_cap;
    size_t view_len;
    char *_Atomic view; /* set once, after view_len, when the snapshot is complete */
};

/* Rows not yet readable. Snapshot worker. */
struct snapshot_writer {
    struct buf rows;  /* with a small snapshot all of it, readable or not */
    uint64_t written; /* bytes that are in the file */
    uint64_t end;     /* with all rows */
    uint64_t chunk_begin;
    uint32_t crc;                  /* of the open chunk so far */
    struct snapshot_chunk *chunks; /* closed but not readable */
    size_t chunk_count;
    size_t chunk_cap;
};

/* A part of a log that lies in files of the shape's own: <id>-<epoch>.log and .idx. */
struct run {
    uint32_t epoch;
    struct mark begin;
    struct mark end;  /* the last run's moves on */
    struct file *log; /* slots */
    struct file *index;
    atomic_bool unsynced;
    atomic_bool new_names;
};

struct definition { /* waiting to be recorded */
    size_t len;
    char bytes[];
};

#define PENDING_NONE UINT32_MAX

/* Lifecycle: created (or restored) -> [complete] -> removed -> last reference gone: with the
 * next checkpoint its row, then its files are deleted; then freed. The registry of the log
 * holds one reference until the removal.
 *
 *     snapshot | runs: own files | tail: entries in segments | pending: in batch
 *              0 ............ own_end ................... written
 *                      published lies anywhere up to `written` */
struct shapelog_shape {
    atomic_uint refs;
    atomic_bool reported; /* config.corrupt was told */
    bool removed;         /* log->lock */
    bool recorded;        /* has a row. Checkpoint thread */
    bool open_verified;   /* lock: the open chunk's entries from an earlier life, too */
    bool fat;             /* sequencer: in log->fat */
    bool lost;            /* at a start: its journal makes no sense */
    uint8_t shown_as;     /* sequencer: enum dirty, of the flush under way */
    uint64_t counts;      /* at a start: entries that count when the flush is complete */
    uint8_t dirty;        /* log->lock: which list dirty_link is in */
    struct shapelog *log;
    uint64_t id;
    uint32_t slot;          /* log->lock: place in the registry */
    struct list dirty_link; /* log->lock: log->dirty[], then log->released */
    struct definition *_Atomic definition;

    /* Sequencer. */
    struct list
        batch_link; /* batch.shapes or batch.given: has entries that are not shown */
    struct list fat_link;
    uint32_t pending_first; /* in batch.pending */
    uint32_t pending_newest;
    uint32_t pending_open; /* the first that is not committed */
    uint64_t committed_tx; /* of the newest committed entry; 0: none */
    uint64_t committed_op;
    struct mark written; /* behind all entries that are in own files and tail */
    /* Where the open transaction's entries among those begin; NULL: there are none. */
    struct mark *spilled;

    /* shapelog_lock. The sequencer alone changes them, but for `tail`'s addresses. */
    struct mark published;
    struct mark own_end;
    struct tail tail;
    struct run **runs;
    uint32_t run_count;
    uint32_t chunk_count; /* with those beyond `published` */
    struct log_chunk *chunks;
    size_t chunk_cap;
    struct snapshot snapshot;

    struct body *body;                       /* bodies->lock */
    struct snapshot_writer *snapshot_writer; /* NULL when there is nothing to write */
    char handle[];
};

enum dirty { CLEAN, DIRTY_TAIL, DIRTY_ROW, DIRTY_KINDS };

/* --- batch.c: what is not shown yet --- */

struct variant {
    size_t pos; /* in the stage; a comma follows the message */
    uint32_t len;
    uint64_t addr; /* where it was put; 0: nowhere yet */
};

struct pending {
    uint64_t tx;
    uint64_t op;
    uint32_t variant;
    uint32_t next; /* of the same shape */
    uint32_t flags;
};

struct batch { /* sequencer */
    struct buf stage;
    struct variant *variants;
    size_t variant_count;
    size_t variant_cap;
    struct pending *pending;
    size_t pending_count;
    size_t pending_cap;
    struct list shapes; /* with entries that are not shown, */
    struct list given;  /* and those of them to be shown with the next flush */
    size_t shape_count; /* in both */
    size_t spill_at;    /* bytes of memory; 0: as configured */
};

void shapelog_batch_init(struct batch *batch);
void shapelog_batch_fini(struct batch *batch);
/* The shape is going: its entries, too. */
void shapelog_batch_forget(struct shapelog_shape *shape);
/* Forgets what is not published, written or not. */
void shapelog_roll_back_shape(struct shapelog_shape *shape);
/* Counts the entry as the shape's newest written one; decides whether a chunk ends behind it
 * (ENTRY_CHUNK). ERR_MEMORY. */
int shapelog_settle(struct shapelog_shape *shape, struct entry *e, struct err *err);

/* --- frame.c: writing the journal --- */

struct frame { /* one that is being made. Sequencer */
    struct buf data;
    struct buf index;
    struct segment *segment; /* that it will go to; NULL: none is being made */
    uint64_t begin;
    uint32_t number;
    uint64_t written_bytes; /* of frames, since the log was opened */
    bool reset;             /* frames that were given up may lie before it */
    bool open;              /* journal_open, the sequencer's copy */
};

#define FRAME_MAGIC        UINT32_C(0x31464c43)
#define FRAME_HEADER_BYTES 40u
#define FRAME_OPEN         1u /* entries of a transaction that is not over */
#define FRAME_RESET        2u /* what does not count yet never will */
#define FRAME_PART         4u /* of a flush; another frame follows */

struct frame_header {
    uint32_t flags;
    uint32_t index_bytes;
    uint32_t data_bytes;
    uint64_t lsn;
    uint32_t epoch;
    uint32_t number; /* in its segment, from 0 */
    uint32_t index_crc;
};

/* False when it is not one. */
bool shapelog_frame_header_get(const char bytes[FRAME_HEADER_BYTES],
                               struct frame_header *out);
/* Opens a frame when none is being made. */
int shapelog_frame_begin(struct shapelog *log, struct err *err);
/* The address that the message has in it. */
int shapelog_frame_message(struct shapelog *log, struct slice message, uint64_t *addr,
                           struct err *err);
/* The shape's entries [first, first + count) follow. */
void shapelog_frame_group(struct shapelog *log, uint64_t id, uint64_t first,
                          uint64_t count, struct entry_base *base);
void shapelog_frame_entry(struct shapelog *log, struct entry_base *base,
                          const struct entry *e);
bool shapelog_frame_full(const struct shapelog *log);
/* Writes it; nothing happens when none was begun. */
int shapelog_frame_write(struct shapelog *log, uint32_t flags, uint64_t lsn,
                         struct err *err);
/* Gives up what is being made, and what went out and does not count yet. */
void shapelog_frame_abandon(struct shapelog *log);

/* --- own.c: a shape's own files --- */

/* Writes the shape's pending entries before `until` there, after its tail. Not shown. */
int shapelog_own_write(struct shapelog_shape *shape, uint32_t until, struct err *err);
/* Writes the shape's tail there. */
int shapelog_own_move(struct shapelog_shape *shape, struct err *err);
/* The run that holds the log's byte, which is before own_end. Locked. */
struct run *shapelog_run_at(const struct shapelog_shape *shape, uint64_t pos);
int shapelog_run_files(struct shapelog_shape *shape, struct run *run, bool create,
                       struct file **log, struct file **index, struct err *err);
/* A new last run that begins at own_end. ERR_MEMORY. */
int shapelog_run_add(struct shapelog_shape *shape, uint32_t epoch, struct mark begin);

/* --- gather.c: messages out of segments --- */

/* Appends the entries' messages, as they are served, each with a comma behind it. Each is
 * checked. ERR_IO, ERR_CORRUPT, ERR_MEMORY. Any thread; segments->readers is held, since the
 * entries were copied. */
int shapelog_gather(struct shapelog *log, const struct entry *entries, size_t count,
                    struct buf *out, struct err *err);

/* --- state.c: what meta.sqlite holds of a shape, as bytes --- */

/* What is published of it. Locked; the snapshot is complete. */
void shapelog_state_put(struct buf *out, const struct shapelog_shape *shape);
/* Fills a new shape. ERR_CORRUPT, ERR_MEMORY. */
int shapelog_state_get(struct shapelog_shape *shape, struct slice state, struct err *err);

/* --- live.c: what an earlier process did that no checkpoint knows --- */

/* Reads what earlier processes left, deletes the rows of what they removed, and makes the file
 * of this epoch. Within a transaction of meta.sqlite. */
int shapelog_live_open(struct shapelog *log, struct err *err);
/* After that transaction: the earlier files are of no use any more. */
void shapelog_live_clear(struct shapelog *log);
void shapelog_live_close(struct shapelog *log);
/* Nothing of this stream was shown yet. */
void shapelog_live_reset(struct shapelog *log);
/* Notes that a shape is gone; its handle must not come back with a restart. */
void shapelog_live_removed(struct shapelog *log, uint64_t id); /* log->lock is held */
/* The rows of the first `noted` are deleted. False: there were more than the file holds. */
bool shapelog_live_settle(struct shapelog *log, uint64_t noted);

/* --- meta.c: the only user of SQLite --- */

struct meta;

struct meta_shape {
    uint64_t id;
    struct slice handle;
    const struct slice *definition; /* NULL: as it is */
    struct mark log;                /* for who looks into it: the state has it, too */
    struct slice state;
};

struct meta_segment {
    uint32_t n;
    uint32_t epoch;
    enum segment_kind kind;
    uint64_t end;
};

/* ERR_CORRUPT: the database is damaged; ERR_FATAL: made by another version. */
int shapelog_meta_open(const char *path, struct meta **out, struct err *err);
/* Opens one that another process has open, to read facts. ERR_EXISTS: not possible just now. */
int shapelog_meta_peek(const char *path, struct meta **out, struct err *err);
/* Copies such a one, as its last commit left it, to a new file, synced. ERR_EXISTS. */
int shapelog_meta_copy(const char *from, const char *to, struct err *err);
/* All of it goes to its one file, which may be given another name after the close. */
int shapelog_meta_detach(struct meta *meta, struct err *err);
void shapelog_meta_close(struct meta *meta);
int shapelog_meta_begin(struct meta *meta, struct err *err);
int shapelog_meta_commit(struct meta *meta, struct err *err);
void shapelog_meta_rollback(struct meta *meta);
/* Facts are texts, most of them short. ERR_NOT_FOUND, ERR_CORRUPT. */
int shapelog_meta_get(struct meta *meta, const char *key, char *out, size_t size,
                      struct err *err);
int shapelog_meta_put(struct meta *meta, const char *key, const char *value,
                      struct err *err);
/* One of any length: appended to out. */
int shapelog_meta_get_text(struct meta *meta, const char *key, struct buf *out,
                           struct err *err);
int shapelog_meta_put_text(struct meta *meta, const char *key, struct slice value,
                           struct err *err);
/* Facts that are numbers; one that is missing reads as 0. */
int shapelog_meta_get_u64(struct meta *meta, const char *key, uint64_t *out,
                          struct err *err);
int shapelog_meta_put_u64(struct meta *meta, const char *key, uint64_t value,
                          struct err *err);
int shapelog_meta_put_shape(struct meta *meta, const struct meta_shape *shape,
                            struct err *err);
int shapelog_meta_delete(struct meta *meta, uint64_t id, struct err *err);
int shapelog_meta_delete_all(struct meta *meta, struct err *err);
int shapelog_meta_put_segment(struct meta *meta, const struct meta_segment *segment,
                              struct err *err);
int shapelog_meta_delete_segment(struct meta *meta, uint32_t n, struct err *err);
/* fn returns 0 to go on. intact is false when the row's checksum is wrong (the id and the
 * handle may then be wrong, too). Without a definition. */
typedef int shapelog_meta_shape_fn(void *ctx, const struct meta_shape *shape, bool intact,
                                   struct err *err);
int shapelog_meta_shapes(struct meta *meta, shapelog_meta_shape_fn *fn, void *ctx,
                         struct err *err);
typedef int shapelog_meta_segment_fn(void *ctx, const struct meta_segment *segment,
                                     struct err *err);
int shapelog_meta_segments(struct meta *meta, shapelog_meta_segment_fn *fn, void *ctx,
                           struct err *err);
/* Appends the shape's definition. ERR_NOT_FOUND, ERR_CORRUPT. */
int shapelog_meta_definition(struct meta *meta, uint64_t id, struct buf *out,
                             struct err *err);

/* --- the log --- */

/* Where the journal stands. */
struct journal_mark {
    uint32_t segment;
    uint64_t position;
};

struct shapelog {
    struct shapelog_config config;
    struct shapelog_origin take_over;
    char *dir;
    uint64_t segment_bytes;
    size_t stage_bytes;
    int dir_fd;
    int lock_fd;
    int64_t old_meta; /* the newest database that another process may have open */
    int shapes_fd;
    int segments_fd;
    uint32_t epoch;
    pthread_mutex_t stripes[STRIPES];
    struct files files;
    struct bodies bodies;
    struct segments segments;
    pthread_mutex_t meta_lock;
    struct meta *meta;
    uint32_t meta_number;          /* of its file (takeover.c) */
    struct shapelog_origin origin; /* sequencer */
    bool has_origin;
    _Atomic uint64_t durable_lsn;
    _Atomic uint64_t visible_lsn;
    uint64_t next_id; /* sequencer */
    struct batch batch;
    struct frame frame;
    struct list fat; /* shapes whose tail is to be rewritten. Sequencer */

    char *live; /* mapped. Sequencer */
    unsigned live_turn;
    uint64_t live_removed; /* how many removals were noted in it. log->lock */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct shapelog_shape **shapes; /* the registry */
    size_t shape_count;
    size_t shape_cap;
    struct list dirty[DIRTY_KINDS]; /* with a reference each */
    size_t dirty_count[DIRTY_KINDS];
    struct list released;        /* removed ones whose last reference is gone */
    struct journal_mark journal; /* behind the last frame whose entries are shown */
    uint64_t journal_bytes;      /* of frames since the log was opened */
    bool journal_open; /* open frames lie before its end that may come to count */
    bool requested;
    bool stop;
    uint64_t requested_lsn;
    uint64_t origin_serial; /* how often the origin changed; under meta_lock too */
    pthread_t thread;
    bool thread_started;

    /* Checkpoint thread. */
    uint64_t folded_bytes;   /* journal_bytes when the tails were last recorded, */
    uint32_t folded_segment; /* and the journal's segment */
    uint64_t live_settled;   /* removals noted whose rows are deleted */
    bool failed;             /* for good, */
    struct err failure;      /* and why */
};

static inline pthread_mutex_t *shapelog_lock_of(const struct shapelog_shape *shape)
{
    return &shape->log->stripes[shape->id % STRIPES];
}

static inline void shapelog_lock(const struct shapelog_shape *shape)
{
    pthread_mutex_lock(shapelog_lock_of(shape));
}

static inline void shapelog_unlock(const struct shapelog_shape *shape)
{
    pthread_mutex_unlock(shapelog_lock_of(shape));
}

/* checkpoint.c */
int shapelog_checkpoint_start(struct shapelog *log, struct err *err);
/* With a last checkpoint; joins the thread. */
void shapelog_checkpoint_stop(struct shapelog *log);
/* The shape's row, or only its tail, is not what meta.sqlite and the journal hold. */
void shapelog_mark_dirty(struct shapelog_shape *shape, enum dirty kind);
void shapelog_mark_dirty_locked(struct shapelog_shape *shape, enum dirty kind);
/* Off its list; the reference is the caller's. */
void shapelog_unmark_dirty_locked(struct shapelog_shape *shape);
/* Writes the shape's row. meta_lock is held. */
int shapelog_record_shape(struct shapelog_shape *shape, struct buf *scratch,
                          struct err *err);
/* ERR_FATAL: another process has taken the storage over. Within a transaction of meta.sqlite. */
int shapelog_check_epoch(struct shapelog *log, struct err *err);

/* reclaim.c: moves what is alive out of the emptiest closed segment. Checkpoint thread. */
void shapelog_reclaim(struct shapelog *log);

/* recover.c: fills the log from the meta data and the journal; begins the epoch. */
int shapelog_recover(struct shapelog *log, struct err *err);

/* Reads log->origin from the facts; has_origin stays false where there is none. ERR_CORRUPT. */
int shapelog_read_origin(struct shapelog *log, struct err *err);

/* --- lock.c: whose storage it is --- */

/* Makes it ours. ERR_EXISTS: another process has it. Sets old_meta. */
int shapelog_lock_storage(struct shapelog *log, struct err *err);

/* Makes it ours though another process has it, with the database meta_number. */
int shapelog_lock_seize(struct shapelog *log, struct err *err);

/* ERR_FATAL: somebody else has done so to us; ERR_IO: not known. Any thread. */
int shapelog_check_owner(const struct shapelog *log, struct err *err);

/* Whether the file in the storage's folder is one that shapelog_lock_seize has left. */
bool shapelog_lock_is_left(const char *file);

/* --- takeover.c: which database counts --- */

/* Sets meta_number. */
int shapelog_meta_choose(struct shapelog *log, struct err *err);

/* Its path, terminated. The caller ends the buffer, whatever comes back. */
int shapelog_meta_path(const struct shapelog *log, struct buf *out, struct err *err);

/* Makes the storage of a process that has lost our stream ours. ERR_EXISTS: it is not of our
 * stream, or can't be read just now. */
int shapelog_take_over(struct shapelog *log, struct err *err);

/* From now on a copy of the database counts: another process may have it open. */
int shapelog_meta_copy_old(struct shapelog *log, struct err *err);

/* From now on an empty one counts, which knows what epochs there were. */
int shapelog_meta_renew(struct shapelog *log, struct err *err);

/* Deletes those that count no more, as far as it can. */
void shapelog_meta_clear(struct shapelog *log);

/* replay.c: the journal from its fold to its recorded end, read into the shapes. ERR_CORRUPT:
 * what it says can't be known. */
int shapelog_replay(struct shapelog *log, struct journal_mark from,
                    struct journal_mark to, struct err *err);

/* shapelog.c */
struct shapelog_shape *shapelog_shape_new(struct shapelog *log, uint64_t id,
                                          struct slice handle);
/* Into the registry. ERR_MEMORY. */
int shapelog_register(struct shapelog_shape *shape);
void shapelog_shape_free(struct shapelog_shape *shape);
/* Nothing of it lives in segments any more. */
void shapelog_unplace(struct shapelog_shape *shape);
/* A restored one that is not to be: out of registry, lists and segments. */
void shapelog_discard(struct shapelog_shape *shape);
/* All of them, without the checkpoint thread. */
void shapelog_free_shapes(struct shapelog *log);
bool shapelog_handle_valid(struct slice handle);
/* A shape that can't be restored: a log line. */
void shapelog_note_dropped(struct shapelog *log, struct slice handle,
                           const struct err *why);
/* Tells config.corrupt, once. No lock held. */
void shapelog_report(struct shapelog_shape *shape, const struct err *why);
/* Room for `need` elements; false: no memory. */
bool shapelog_grow(void **items, size_t *cap, size_t need, size_t size);

/* shape_snapshot.c */
void shapelog_snapshot_writer_free(struct shapelog_shape *shape);
int shapelog_snapshot_verify(struct shapelog_shape *shape, uint32_t chunk,
                             struct err *err);

#endif
