/* The replication connection (shape-protocol.md 5.1, 5.8).
 *
 * replica_run owns the calling thread, the sequencer's: it connects, takes the advisory
 * lock, sees to publication and slot, streams, reports what may be acknowledged, and
 * after a loss connects again with backoff. While it waits, for whatever reason, it also
 * watches wake_fd and calls `woken`, so that the sequencer's other work goes on. No call
 * of it blocks on Postgres without watching wake_fd. */
#ifndef COULOMB_SERVER_REPLICA_REPLICA_H
#define COULOMB_SERVER_REPLICA_REPLICA_H

#include "server/obs/obs.h"
#include "server/pg/pg.h"

enum replica_state {
    REPLICA_CONNECTING, /* no connection, or one that asks for the lock */
    REPLICA_WAITING,    /* another instance holds the advisory lock */
    REPLICA_PREPARING,  /* publication and slot */
    REPLICA_STREAMING,
    REPLICA_STOPPED /* told to, or a fault that a retry can't cure */
};

struct replica_config {
    const struct pg_config *pg;
    const struct log *log;
    struct obs *obs;
    const char *slot;        /* electric_slot_<id> */
    const char *publication; /* electric_publication_<id> */
    bool temporary_slot;
    bool manual_publishing;
    int wake_fd; /* the sequencer's mailbox */
};

/* Where a timeline ended, on the way to the server's own: a record that begins below the
 * position is on both, any other only on one of them. */
struct replica_switch {
    uint32_t timeline;
    uint64_t lsn;
};

/* What the upstream turned out to be, before streaming starts. */
struct replica_attached {
    char system_id[32];
    uint32_t timeline;
    const struct replica_switch *switches; /* oldest first; valid for the call */
    size_t switch_count; /* 0 on the first timeline, or when the history can't be had */
    char database[64];
    int server_version;      /* such as 150018 */
    bool slot_created;       /* nothing before now can be had from it */
    bool slot_idle;          /* nobody used it when confirmed_lsn was read */
    uint64_t confirmed_lsn;  /* of an existing slot */
    uint64_t wal_flush_lsn;  /* when connected: replay has caught up once it is passed */
    uint64_t wal_insert_lsn; /* then too: no snapshot can have seen more */
    int64_t wal_sender_timeout_ms;
    int64_t clock_ahead_us; /* of the server's clock before ours */
};

/* All on the thread of replica_run. Negative returns end the stream with that error:
 * ERR_RETRY connects again, ERR_FATAL stops. */
struct replica_sink {
    void *ctx;
    /* Restores or purges, before START_REPLICATION. */
    int (*attached)(void *ctx, const struct replica_attached *attached, struct err *err);
    /* One XLogData payload. */
    int (*frame)(void *ctx, struct slice payload, struct err *err);
    /* A keepalive: everything before lsn has been passed to `frame`, but for what belongs
     * to a transaction that is still open. */
    void (*wal_end)(void *ctx, uint64_t lsn);
    /* All that the socket held has been handed on, or a burst of 256 frames or 2 ms of
     * it. */
    int (*drained)(void *ctx, struct err *err);
    /* wake_fd is readable, or the deadline that wake_deadline_ms gave has come. */
    int (*woken)(void *ctx, struct err *err);
    int64_t (*wake_deadline_ms)(void *ctx); /* monotonic ms, or INT64_MAX */
    /* What may be acknowledged: durable and complete up to here (0: nothing yet). */
    uint64_t (*flushed_lsn)(void *ctx);
    /* The stream broke, or could not be had; an open transaction will come again. */
    void (*lost)(void *ctx, enum obs_stream_reason reason, const struct err *err);
    /* state changed; detail (may be "") is for people: the database's message and, where
     * one helps, the SQL to run. */
    void (*state)(void *ctx, enum replica_state state, const char *detail);
};

struct replica;

struct replica *replica_new(const struct replica_config *config,
                            const struct replica_sink *sink);
/* Returns 0 once replica_stop was called (from a sink call on the same thread), or
 * ERR_FATAL with the sentence and the SQL that a DBA should run. Reports the flushed
 * position a last time before it disconnects. */
int replica_run(struct replica *r, struct err *err);
/* Only on the thread of replica_run. */
void replica_stop(struct replica *r);
/* Drops the connection and connects again, as after a loss (only on the thread of
 * replica_run): the periodic check found the publication or slot wanting. */
void replica_reconnect(struct replica *r);
/* Sends a standby status soon instead of at its next time: flushed_lsn has grown. */
void replica_report_soon(struct replica *r);
void replica_free(struct replica *r);

#endif
