/* One consistent read of a table's rows by COPY, made into JSON, joined to the stream.
 *
 * Runs on a pool's worker thread. Order of events (shape-protocol.md 5.3, 5.4):
 *   1. BEGIN … REPEATABLE READ READ ONLY, LOCK TABLE … ACCESS SHARE (no snapshot is taken
 * yet)
 *   2. subscribe: from now on the stream is kept for this shape
 *   3. SELECT pg_current_snapshot(): takes the snapshot; verify: is the table what we
 * think?
 *   4. joined: tells the stream which transactions it holds. ERR_RETRY: a transaction
 * that the stream had passed before 2 is not visible in it (a commit is in the WAL before
 * it is visible): roll back and begin at 1, up to 100 times.
 *   5. COPY; row by row; end. */
#ifndef COULOMB_SERVER_SNAPSHOT_SNAPSHOT_H
#define COULOMB_SERVER_SNAPSHOT_SNAPSHOT_H

#include "server/obs/obs.h"
#include "server/pg/pg.h"
#include "server/row/encode.h"

#define SNAPSHOT_XIP_MAX 65536

struct snapshot_view {
    uint64_t xmin;
    uint64_t xmax;
    uint64_t *xip; /* ascending */
    size_t xip_count;
    /* pg_current_wal_insert_lsn(), read by the same query just after the snapshot was
     * taken: a transaction whose commit LSN is above it can't be visible, whatever its
     * xid. */
    uint64_t wal_lsn;
};

/* Whether the 32-bit xid of a committed transaction is visible in the view: compared
 * modulo 2^32 (shape-protocol.md 5.4). */
bool snapshot_sees(const struct snapshot_view *view, uint32_t xid);
/* Parses pg_snapshot's text "xmin:xmax:xip,xip". ERR_INVALID, ERR_LIMIT, ERR_MEMORY. */
int snapshot_view_parse(struct slice text, struct snapshot_view *out, struct err *err);
void snapshot_view_fini(struct snapshot_view *view);

struct snapshot_sink {
    void *ctx;
    /* Called for every attempt at joining. */
    int (*subscribe)(void *ctx, struct err *err);
    /* May be NULL. Reads the catalog on the snapshot's connection, in its transaction, or knows
     * what it says from the table's stamp (stamp.h; empty: it has none): under the table's lock
     * nothing can change between this and the rows. An error (409 when the table is not the
     * expected one) ends the snapshot. */
    int (*verify)(void *ctx, PGconn *conn, struct slice stamp, struct err *err);
    int (*joined)(void *ctx, const struct snapshot_view *view, struct err *err);
    /* One message (encode_snapshot_row). */
    int (*row)(void *ctx, struct slice json, struct err *err);
    /* No more rows wait on the socket: what was given should become readable. */
    int (*flush)(void *ctx, struct err *err);
    /* The snapshot-end message; the rows are complete, also those not flushed. */
    int (*end)(void *ctx, struct slice json, const struct snapshot_view *view,
               struct err *err);
    /* Polled often: true cancels the query (the shape is gone, the server stops). */
    bool (*cancelled)(void *ctx);
};

struct snapshot_request {
    const struct table *table;
    const struct encode_plan *plan;
    const uint16_t *selected; /* ascending column indexes */
    size_t selected_count;
    struct slice where;       /* a condition in SQL that the rows fulfil; empty: none */
    bool changes_only;        /* no rows, only snapshot-end */
    int first_row_timeout_ms; /* 30000 */
    struct obs *obs;          /* or NULL */
    const struct snapshot_window *window; /* NULL: all rows, in any order */
};

/* Which rows, of those in order. For a subset: its errors are worded as section 1.7 has them. */
struct snapshot_window {
    struct slice order_by; /* canonical; empty: any */
    bool has_limit;
    int64_t limit;
    int64_t offset; /* 0: none */
};

/* 0, or the error as shape-protocol.md 5.3 words it, with err->http_status: 503 for known
 * causes, 409 when the table or a column is gone, 400 when the condition can't be evaluated on
 * a row, else 500 (ERR_DB); ERR_CANCELLED.
 * Leaves the connection idle. */
int snapshot_run(PGconn *conn, const struct snapshot_request *request,
                 const struct snapshot_sink *sink, struct err *err);

#endif
