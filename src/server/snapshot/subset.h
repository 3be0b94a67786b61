/* A subset of a table's rows as the body of an answer (shape-protocol.md 1.7, 4.8), read in one
 * consistent view. The rows are read as a snapshot's are (snapshot.h), but nothing is joined: the
 * client drops what it gets again from the log, by the view that it is told.
 *
 * Runs on a pool's worker thread. Memory is one row, twice, and one part. */
#ifndef COULOMB_SERVER_SNAPSHOT_SUBSET_H
#define COULOMB_SERVER_SNAPSHOT_SUBSET_H

#include "server/snapshot/snapshot.h"

/* What a part has at least, but for the last one. */
#define SUBSET_PART_BYTES (128u * 1024)
#define SUBSET_MARK_MAX   INT32_MAX

struct subset_query {
    const struct table *table;
    const struct encode_plan *plan;
    const uint16_t *selected; /* ascending column indexes */
    size_t selected_count;
    struct slice
        where; /* canonical, of the shape's clause and the subset's; empty: every row */
    struct snapshot_window window;
    uint32_t mark; /* of the rows, at most SUBSET_MARK_MAX */
    int first_row_timeout_ms;
    struct obs *obs; /* or NULL */
};

struct subset_sink {
    void *ctx;
    /* Whether the view may be shown; ERR_RETRY: the next one may. Called for each. */
    int (*seen)(void *ctx, const struct snapshot_view *view, struct err *err);
    /* The next part of the body, malloc'ed: takes it, also with an error. The last comes after the
     * transaction has ended, and is not waited for. */
    int (*part)(void *ctx, char *bytes, size_t len, bool last, struct err *err);
    /* Polled often: true cancels the query. */
    bool (*cancelled)(void *ctx);
};

/* 0, or an error with err->http_status: 400 when Postgres refuses the query (with its words and
 * nothing else, and the SQLSTATE), 503 when a later try may work, else 500; ERR_CANCELLED; what
 * part returned. Leaves the connection idle. */
int subset_run(PGconn *conn, const struct subset_query *query,
               const struct subset_sink *sink, struct err *err);

#endif
