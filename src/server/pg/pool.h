/* Worker threads with a connection each, for jobs that talk to Postgres.
 *
 * Threads and connections are made when first needed, up to a maximum; a connection idle for a
 * minute is closed. A job that finds no connection gets NULL and the reason. Jobs are begun in
 * the order of submission. */
#ifndef COULOMB_SERVER_PG_POOL_H
#define COULOMB_SERVER_PG_POOL_H

#include "server/pg/pg.h"

struct pool;

/* Runs on a worker thread. conn is idle outside a transaction, or NULL with why. The job leaves
 * it idle; a connection found broken or in a transaction afterwards is closed. */
typedef void pool_job_fn(void *ctx, PGconn *conn, const struct err *why);

struct pool_config {
    const struct pg_config *pg;
    const struct log *log;
    const char *name;         /* for logs and thread names */
    unsigned max_connections; /* also threads */
    unsigned max_queued;      /* pool_submit gives ERR_LIMIT beyond */
    unsigned max_aside;       /* jobs of pool_submit_aside that may run at a time */
    int connect_timeout_ms;
};

int pool_new(const struct pool_config *config, struct pool **out, struct err *err);
/* Waits for running jobs after cancelling their queries, and shuts their connections when that
 * does not end them soon; queued jobs run with conn NULL and
 * ERR_CANCELLED, so that every job is called exactly once. */
void pool_free(struct pool *pool);
/* Any thread. ERR_LIMIT when the queue is full, ERR_CANCELLED while closing. */
int pool_submit(struct pool *pool, pool_job_fn *fn, void *ctx);
/* The same for jobs that clients can make many of, or hold up: at most max_aside run at a time, and
 * they wait in a queue of their own, as long as the other. */
int pool_submit_aside(struct pool *pool, pool_job_fn *fn, void *ctx);
/* Cancels the running queries of all jobs whose ctx this is (PQcancel). Any thread. */
void pool_cancel(struct pool *pool, const void *ctx);

#endif
