/* What the files of this module share. Nobody outside includes it.
 *
 * Lock order: log->lock, then shape->lock; files->lock and bodies->lock are leaves, and
 * log->meta_lock is taken with none of the others held. No lock but meta_lock is held
 * across I/O. */
#ifndef COULOMB_SERVER_SHAPELOG_INTERNAL_H
#define COULOMB_SERVER_SHAPELOG_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "base/list.h"
#include "server/shapelog/shapelog.h"

#define RECORD_BYTES 40
#define RECORD_LAST  1u /* the last entry of its transaction in this shape */
#define RECORD_CHUNK 2u /* a chunk ends behind this entry */

#define WRITE_BUFFER_BYTES (256u * 1024)       /* per shape, before it goes to the file */
#define BODY_MAX_BYTES     (64u * 1024)        /* larger log parts are file pieces */
#define BODY_CACHE_BYTES   (64u * 1024 * 1024) /* of all shapes together */
#define MESSAGE_MAX_BYTES  (1u << 30)
#define RECENT_MAX         64u
#define PATH_BYTES         (SHAPELOG_HANDLE_MAX + 32)

/* --- record.c: the index file --- */

struct record {
    uint64_t tx;
    uint64_t op;
    uint64_t pos;   /* of the message in log.json */
    uint32_t len;   /* of the message, without the comma behind it */
    uint32_t flags; /* RECORD_LAST, RECORD_CHUNK */
    uint32_t crc;   /* CRC32C of the message */
};

void shapelog_record_put(struct buf *out, const struct record *record);
/* False when the record's own checksum is wrong. */
bool shapelog_record_get(const char bytes[RECORD_BYTES], struct record *out);

/* A place in a log: everything before it. */
struct mark {
    uint64_t entries;
    uint64_t bytes;
    struct offset at; /* of the last entry before it; 0_inf at the beginning */
};

#define MARK_BEGIN ((struct mark){0, 0, OFFSET_SNAPSHOT_END})

/* Walks entries in order, checking record, order, place and message. */
struct scan {
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
int shapelog_scan_init(struct scan *scan, int index_fd, int log_fd, struct mark from,
                       uint64_t limit);
void shapelog_scan_fini(struct scan *scan);
/* 1: scan->record is the next entry; 0: the limit or the end of the file;
 * ERR_CORRUPT: the next one does not check out; ERR_IO. */
int shapelog_scan_next(struct scan *scan, struct err *err);

/* --- files.c: descriptors on demand --- */

enum file_kind { FILE_LOG, FILE_INDEX, FILE_SNAPSHOT, FILE_KIND_COUNT };

struct hold { /* what a piece keeps alive */
    atomic_uint refs;
    enum { HOLD_FILE, HOLD_BODY } kind;
};

struct file {
    struct hold hold;
    int fd;
    struct list link;   /* in files->idle_order while *slot is this file */
    struct file **slot; /* NULL once evicted */
};

struct files {
    pthread_mutex_t lock;
    struct list order; /* least recently used first */
    unsigned count;
    unsigned max_count;
    int shapes_fd; /* directories */
    int trash_fd;
};

struct shapelog_shape;

void shapelog_files_init(struct files *files, unsigned max_count, int shapes_fd,
                         int trash_fd);
void shapelog_files_fini(struct files *files);
/* A descriptor of the shape's file for as long as the reference is held. */
int shapelog_file_get(struct shapelog_shape *shape, enum file_kind kind, bool create,
                      struct file **out, struct err *err);
void shapelog_file_put(struct file *file);
/* Gives up the shape's idle descriptors. */
void shapelog_files_forget(struct shapelog_shape *shape);
const char *shapelog_file_name(enum file_kind kind);
/* All n bytes; a short read is ERR_CORRUPT. name and what only word the error. */
int shapelog_read_at(int fd, void *to, size_t n, uint64_t pos, const char *name,
                     struct err *err);
int shapelog_write_at(int fd, const void *from, size_t n, uint64_t pos, const char *name,
                      struct err *err);
/* Removes parent/name and the files in it; logs what it can't. */
void shapelog_remove_dir(int parent_fd, const char *name, const struct log *log);

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

struct recent {
    uint64_t tx;
    uint64_t op;
    uint64_t pos;
};

/* Entries not yet published. Sequencer. The message appended last waits at the end of
 * `json`, without a record, until it is known whether it is the last of its transaction.
 */
struct writer {
    struct buf json;
    struct buf index;
    struct mark flushed; /* what `json` and `index` continue */
    struct mark end;     /* with all entries that have a record */
    struct mark committed;
    uint64_t chunk_begin; /* byte position of the open chunk at `end` */
    uint64_t committed_chunk_begin;
    bool has_tail;
    size_t tail; /* where the waiting message begins in `json` */
    struct offset tail_at;
    struct log_chunk *chunks; /* closed but not published */
    size_t chunk_count;
    size_t committed_chunks;
    size_t chunk_cap;
};

/* Rows not yet readable. Snapshot worker. */
struct snapshot_writer {
    struct buf rows;
    uint64_t end; /* with all rows */
    uint64_t chunk_begin;
    uint32_t crc;                  /* of the open chunk so far */
    struct snapshot_chunk *chunks; /* closed but not readable */
    size_t chunk_count;
    size_t chunk_cap;
};

/* What the caller says a shape is. Kept with the shape to its end, since a checkpoint or a
 * caller of shapelog_each may be reading it while a newer one comes. */
struct definition {
    struct definition *older;
    size_t len;
    char bytes[];
};

struct slice shapelog_definition(const struct shapelog_shape *shape);

/* Lifecycle: created (or restored) -> [complete] -> removed -> last reference gone: the
 * directory is deleted and, with the next checkpoint, the row; then freed. The registry
 * of the log holds one reference until the removal. */
struct shapelog_shape {
    atomic_uint refs;
    atomic_bool broken;   /* a write or sync failed: nothing of it may be trusted */
    atomic_bool reported; /* config.corrupt was told */
    bool removed;         /* log->lock */
    bool dirty;           /* log->lock: in log->dirty */
    struct shapelog *log;
    struct list link;       /* log->lock: log->shapes, then log->removed */
    struct list dirty_link; /* log->lock: log->dirty, which holds a reference */
    struct list trash_link; /* log->lock: log->trash once refs are gone */
    uint64_t id;            /* row in meta.sqlite */
    char handle[SHAPELOG_HANDLE_MAX + 1];
    struct definition *_Atomic definition; /* the newest; older ones behind it */
    struct file *files[FILE_KIND_COUNT];   /* files->lock */
    struct body *body;                     /* bodies->lock */
    struct writer writer;
    struct snapshot_writer *snapshot_writer; /* NULL when there is nothing to write */

    size_t view_len;
    char *_Atomic view; /* set once, after view_len, when the snapshot is complete */

    pthread_mutex_t lock; /* guards what follows */
    struct mark published;
    struct log_chunk *chunks;
    size_t chunk_count;
    size_t chunk_cap;
    bool open_verified;    /* the open chunk's entries from an earlier life, too */
    struct recent *recent; /* the newest published entries of this life */
    uint32_t recent_len;
    uint32_t recent_cap;
    bool begun;
    bool complete;
    uint64_t snapshot_readable;
    struct snapshot_chunk *snapshot_chunks; /* all readable closed ones */
    size_t snapshot_chunk_count;
    size_t snapshot_chunk_cap;

    /* Checkpoint thread. */
    bool recorded; /* has a row */
    bool row_gone;
    bool directory_gone;
    uint64_t recorded_entries;
    size_t recorded_chunks;
};

/* --- meta.c: the only user of SQLite --- */

struct meta;

enum meta_part_kind { META_SNAPSHOT_CHUNK, META_LOG_CHUNK };

struct meta_shape {
    uint64_t id;
    struct slice handle;
    struct slice definition;
    struct slice view;
    struct mark log;
};

struct meta_part {
    uint64_t shape;
    enum meta_part_kind kind;
    uint64_t n;
    struct mark end;
    uint32_t crc; /* snapshot chunks: of their bytes */
};

/* ERR_CORRUPT: the database is damaged; ERR_FATAL: made by a newer version. */
int shapelog_meta_open(const char *path, struct meta **out, struct err *err);
void shapelog_meta_close(struct meta *meta);
int shapelog_meta_begin(struct meta *meta, struct err *err);
int shapelog_meta_commit(struct meta *meta, struct err *err);
void shapelog_meta_rollback(struct meta *meta);
/* Facts are short texts. ERR_NOT_FOUND, ERR_CORRUPT. */
int shapelog_meta_get(struct meta *meta, const char *key, char *out, size_t size,
                      struct err *err);
int shapelog_meta_put(struct meta *meta, const char *key, const char *value,
                      struct err *err);
int shapelog_meta_put_shape(struct meta *meta, const struct meta_shape *shape,
                            struct err *err);
int shapelog_meta_put_part(struct meta *meta, const struct meta_part *part,
                           struct err *err);
int shapelog_meta_delete(struct meta *meta, uint64_t id, struct err *err);
int shapelog_meta_delete_all(struct meta *meta, struct err *err);
/* fn returns 0 to go on. intact is false when the row's checksum is wrong (the id and the
 * handle may then be wrong, too). */
typedef int shapelog_meta_shape_fn(void *ctx, const struct meta_shape *shape, bool intact,
                                   struct err *err);
int shapelog_meta_shapes(struct meta *meta, shapelog_meta_shape_fn *fn, void *ctx,
                         struct err *err);
/* In the order of n; a damaged one ends in ERR_CORRUPT. */
typedef int shapelog_meta_part_fn(void *ctx, const struct meta_part *part,
                                  struct err *err);
int shapelog_meta_parts(struct meta *meta, uint64_t shape, enum meta_part_kind kind,
                        shapelog_meta_part_fn *fn, void *ctx, struct err *err);

/* --- the log --- */

struct shapelog {
    struct shapelog_config config;
    char *dir;
    int dir_fd;
    int lock_fd;
    int shapes_fd;
    int trash_fd;
    struct files files;
    struct bodies bodies;
    pthread_mutex_t meta_lock;
    struct meta *meta;
    struct shapelog_origin origin; /* sequencer */
    bool has_origin;
    atomic_uint_fast64_t durable_lsn;
    uint64_t next_id; /* sequencer */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct list shapes;
    struct list dirty;
    struct list removed; /* with a row to delete, maybe */
    struct list trash;   /* with a directory to delete */
    bool requested;
    bool stop;
    uint64_t requested_lsn;
    uint64_t epoch; /* how often the origin changed; under meta_lock too */
    pthread_t thread;
    bool thread_started;
};

/* checkpoint.c */
int shapelog_checkpoint_start(struct shapelog *log, struct err *err);
/* With a last checkpoint; joins the thread. */
void shapelog_checkpoint_stop(struct shapelog *log);
void shapelog_mark_dirty(struct shapelog_shape *shape);

/* recover.c: fills log->shapes from the meta data and the directories. */
int shapelog_recover(struct shapelog *log, struct err *err);

/* shapelog.c */
struct shapelog_shape *shapelog_shape_new(struct shapelog *log, struct slice handle,
                                          struct slice definition);
void shapelog_shape_free(struct shapelog_shape *shape);
/* All of them, without the checkpoint thread. */
void shapelog_free_shapes(struct shapelog *log);
bool shapelog_handle_valid(struct slice handle);
/* Marks the shape as unusable and returns err->code, or code when err is NULL. */
int shapelog_break(struct shapelog_shape *shape, int code);
/* Tells config.corrupt, once. No lock held. */
void shapelog_report(struct shapelog_shape *shape, const struct err *why);
int shapelog_refuse_broken(const struct shapelog_shape *shape, struct err *err);
/* Room for one more element; false: no memory. */
bool shapelog_grow(void **items, size_t *cap, size_t need, size_t size);

/* shape_log.c */
void shapelog_writer_init(struct shapelog_shape *shape);
void shapelog_writer_fini(struct shapelog_shape *shape);
/* shape_snapshot.c */
void shapelog_snapshot_writer_free(struct shapelog_shape *shape);
int shapelog_snapshot_verify(struct shapelog_shape *shape, uint32_t chunk,
                             struct err *err);

#endif
