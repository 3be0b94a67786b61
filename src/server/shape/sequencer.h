/* The one writer of shapes: applies the stream in order, joins snapshots to it, makes and
 * removes shapes, decides what may be acknowledged.
 *
 * Everything here but sequencer_new, sequencer_free and sequencer_request_stop runs on
 * the thread of replica_run; the wiring passes replica's events on. */
#ifndef COULOMB_SERVER_SHAPE_SEQUENCER_H
#define COULOMB_SERVER_SHAPE_SEQUENCER_H

#include "server/catalog/catalog.h"
#include "server/catalog/publication.h"
#include "server/shape/shapes.h"
#include "server/txn/txn.h"

struct sequencer_config {
    const struct log *log;
    struct obs *obs;
    struct pool *admin_pool;    /* catalog and publication work */
    struct pool *snapshot_pool; /* snapshots: a connection each while they run */
    struct catalog *catalog;
    struct publication_config publication;
    struct shapelog_config shapelog; /* ctx and callbacks are filled in here */
    const char *slot;
    const char *database;
    unsigned max_shapes; /* 0: no limit */
    int reconcile_period_ms;
    int first_row_timeout_ms;
};

/* What the sequencer asks of the replication connection. */
struct sequencer_stream {
    void *ctx;
    void (*report_soon)(void *ctx);
    void (*reconnect)(void *ctx);
    void (*stop)(void *ctx);
};

/* Where a timeline ended, on the way to the server's own. */
struct sequencer_switch {
    uint32_t timeline;
    uint64_t lsn;
};

struct sequencer_attach {
    const char *system_id;
    uint32_t timeline;
    const struct sequencer_switch
        *switches; /* of the timelines before it, as far as known */
    size_t switch_count;
    bool slot_created;
    bool slot_idle;         /* nobody used it when its position was read */
    uint64_t confirmed_lsn; /* what the slot says was acknowledged */
    uint64_t wal_flush_lsn;
    uint64_t wal_insert_lsn;
    int64_t clock_ahead_us; /* of the server's clock before ours */
};

struct sequencer;

/* Opens the storage and restores its shapes; a storage held by another process is opened
 * at sequencer_attached instead. */
int sequencer_new(const struct sequencer_config *config, struct sequencer **out,
                  struct err *err);
/* After replica_run: takes no more mail and answers what waits, so that the pools' jobs
 * end. On the thread of replica_run. */
void sequencer_finish(struct sequencer *q);
/* The pools must be freed before (their jobs speak to it). */
void sequencer_free(struct sequencer *q);
void sequencer_set_stream(struct sequencer *q, const struct sequencer_stream *stream);
struct shapes *sequencer_shapes(struct sequencer *q);
/* Readable while it has work: replica's wake_fd. */
int sequencer_wake_fd(const struct sequencer *q);
/* The sink for txn_new. */
struct txn_sink sequencer_txn_sink(struct sequencer *q);

int sequencer_attached(struct sequencer *q, const struct sequencer_attach *attach,
                       struct err *err);
/* A connection stands (it may still wait for the lock). */
void sequencer_reached(struct sequencer *q);
void sequencer_lost(struct sequencer *q, const char *why);
void sequencer_waiting(struct sequencer *q, enum shapes_service service,
                       const char *detail);
void sequencer_streaming(struct sequencer *q);
void sequencer_wal_end(struct sequencer *q, uint64_t lsn);
int sequencer_drained(struct sequencer *q, struct err *err);
int sequencer_woken(struct sequencer *q, struct err *err);
int64_t sequencer_deadline_ms(struct sequencer *q);
uint64_t sequencer_flushed_lsn(struct sequencer *q);
/* Any thread: asks the sequencer to stop the stream once it has published what it has. */
void sequencer_request_stop(struct sequencer *q);

#endif
