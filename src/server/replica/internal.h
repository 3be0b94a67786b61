/* What the files of this module share: replica.c (life and retries), link.c (one
 * connection, never waited for without wake_fd), attach.c (from connected to ready),
 * history.c (how the server's timeline came about), stream.c (the copy). */
#ifndef COULOMB_SERVER_REPLICA_INTERNAL_H
#define COULOMB_SERVER_REPLICA_INTERNAL_H

#include "server/replica/replica.h"

#define REPLICA_SQL_MAX 1024

/* A query that is only read from the catalog has this long. */
#define REPLICA_QUERY_TIMEOUT_MS 60000
/* How long the session of a killed predecessor may keep the slot, and how often to ask.
 */
#define REPLICA_SLOT_BUSY_MS  60000
#define REPLICA_SLOT_RETRY_MS 200
#define REPLICA_NAME_QUOTED   160 /* a name of 63 bytes, quoted twice */

struct replica {
    struct replica_config config;
    struct replica_sink sink;
    char slot_ident[REPLICA_NAME_QUOTED];
    char slot_literal[REPLICA_NAME_QUOTED];
    char publication_ident[REPLICA_NAME_QUOTED];
    char publication_literal[REPLICA_NAME_QUOTED];
    char publication_option[REPLICA_NAME_QUOTED]; /* the quoted identifier as a literal */

    enum replica_state state;
    bool stop;
    bool reconnect;
    bool ever_connected; /* a failing name resolution may heal by itself */
    bool ever_attached;  /* a standby may be one that is about to be promoted */
    bool slot_useless;   /* the stream can't be decoded from the slot's position */
    int64_t backoff_ms;  /* before the next attempt; 0: none failed yet */
    uint64_t commit_lsn; /* the newest commit handed on, */
    uint64_t
        progress_lsn; /* and the newest that the sink was done with: passing it ends the
                            * backoff */
    enum obs_stream_reason reason; /* of the failure that is being unwound */

    PGconn *conn;
    bool query_running;
    struct replica_attached attached;
    struct replica_switch *switches; /* of `attached` */

    bool streaming;
    bool report_soon;
    bool reply_requested;
    bool heard;            /* something came since the last status */
    bool fresh;            /* frames were handed on since `drained` */
    int turn_frames;       /* handed on in this turn */
    uint64_t received_lsn; /* everything before it was handed on */
    uint64_t reported_lsn; /* flushed, as last told */
    int64_t status_ms;     /* when the last status went out */
    int64_t interval_ms;   /* between two */
    int64_t streaming_ms;  /* since when */
};

void replica_set_state(struct replica *r, enum replica_state state, const char *detail);

/* Waits until fd (-1: none) is ready for events, or until_ms, or something was woken;
 * serves wake_fd and the sink's deadline. 1 when fd is ready, 0 otherwise (the caller
 * looks at the clock), negative: the sink's error, ERR_CANCELLED once stopped, ERR_RETRY
 * to reconnect. */
int link_poll(struct replica *r, int fd, short events, int64_t until_ms, struct err *err);
/* Serves the wakes for so long. */
int link_sleep(struct replica *r, int64_t ms, struct err *err);
int link_open(struct replica *r, struct err *err);
/* Ends a running query and the connection. */
void link_close(struct replica *r);
/* Begins a query. */
int link_send(struct replica *r, const char *sql, struct err *err);
/* 1 while it still runs at until_ms; 0 with the last result in *out (caller clears), or,
 * when any statement failed, pg_fail's code. */
int link_result(struct replica *r, int64_t until_ms, const char *doing, PGresult **out,
                struct err *err);
/* Both, within the timeout. out may be NULL. */
int link_query(struct replica *r, const char *doing, PGresult **out, struct err *err,
               const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Sends what libpq holds back; 1 when some is left, 0, or ERR_RETRY. */
int link_flush(struct replica *r, struct err *err);

/* history.c. The content of a timeline's history file: lines "timeline, switch position,
 * reason", comments, blank lines. *out is the caller's to free. ERR_CORRUPT for anything
 * else, or when it is not the history of that timeline; ERR_LIMIT, ERR_MEMORY. */
int history_parse(struct slice content, uint32_t timeline, struct replica_switch **out,
                  size_t *count, struct err *err);
/* Reads how the server's timeline came about, where it is not the first. A history that
 * can't be had is told in the log, and is no error. */
int history_read(struct replica *r, struct err *err);

/* From a fresh connection to sink.attached. */
int attach_run(struct replica *r, struct err *err);
/* START_REPLICATION and the copy, until it ends: always a negative code. */
int replica_stream_run(struct replica *r, struct err *err);

#endif
