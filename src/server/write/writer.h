/* Writing to Postgres: jobs in, one transaction each, a txid or a named refusal out.
 *
 * A few threads, each with a connection in pipeline mode, take jobs from one bounded queue. A job's
 * statements and its commit are sent together, and several jobs' one behind the other, so that a
 * transaction costs no round trip of its own. */
#ifndef COULOMB_SERVER_WRITE_WRITER_H
#define COULOMB_SERVER_WRITE_WRITER_H

#include "base/buf.h"
#include "base/list.h"
#include "base/log.h"
#include "server/obs/obs.h"
#include "server/pg/pg.h"
#include "server/write/failure.h"
#include "server/write/transaction.h"

#define WRITE_HASH_BYTES   32
#define WRITE_DETAIL_MAX   256
#define WRITE_RESULT_MAX   (16u * 1024 * 1024)
#define WRITE_ARENA_MAX    (64u * 1024 * 1024)
#define WRITE_ATTEMPTS_MAX 6 /* of one job, when other writes are in the way */

struct write_call {
    struct slice schema;
    struct slice name; /* a function's */
    struct write_values args;
    struct slice body; /* JSON, for a function of one json or jsonb parameter */
};

struct write_result {
    enum write_failure failure; /* WRITE_DONE */
    int status;                 /* HTTP */
    char message[WRITE_DETAIL_MAX];
    int mutation;   /* -1: none in particular */
    char table[64]; /* "": none in particular; likewise */
    char column[64];
    char constraint[64];
    bool has_txid;    /* something may have been written */
    uint32_t txid;    /* as in the replication stream */
    uint64_t lsn;     /* read after the commit */
    bool replayed;    /* the answer of an earlier request with the same id */
    struct buf value; /* JSON that a function gave; empty: none */
};

struct write_job;
/* On a writer's thread (or, at the end, that of writer_free): the job is the caller's again. */
typedef void write_done_fn(struct write_job *job);

/* Made and freed by the caller; in between the writer's. Strings live in the arena. */
struct write_job {
    struct list link;
    struct arena arena;
    const char *subject;
    const char *role;                            /* NULL: the connection's own */
    const char *claims;                          /* JSON */
    struct slice id;                             /* "": not idempotent */
    unsigned char hash[WRITE_HASH_BYTES];        /* of the request */
    const struct write_transaction *transaction; /* or call */
    const struct write_call *call;
    size_t other_bytes; /* that are kept for it outside of the arena */
    write_done_fn *done;
    void *ctx;
    struct write_result result;

    /* The writer's. */
    struct write_statement *statements;
    size_t statement_count;
    size_t failed_at; /* statement */
    size_t queued_bytes;
    char sqlstate[6];
    unsigned attempts;
    bool stale_once; /* was prepared anew after a change of the schema */
    bool uncertain;  /* the connection broke while it ran */
    int64_t queued_ms;
};

/* With an arena; NULL: out of memory. */
struct write_job *write_job_new(void);
void write_job_free(struct write_job *job);
/* Fills the result with a refusal. */
void write_refuse(struct write_job *job, enum write_failure why, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct writer_config {
    const struct pg_config *pg;
    const struct log *log;
    struct obs *obs;
    unsigned connections; /* also threads */
    size_t max_queued;
    size_t max_queued_bytes; /* of requests; one may always wait */
    int64_t timeout_ms;      /* of a job, and of waiting in the queue */
    int connect_timeout_ms;
    const char *schemas; /* "public,app": tables that can be written to */
    int64_t keep_ids_ms; /* how long an id is remembered */
};

struct writer;

int writer_new(const struct writer_config *config, struct writer **out, struct err *err);
/* Jobs that wait or run are done as WRITE_FAILED_UNAVAILABLE, or were applied. */
void writer_free(struct writer *writer);
/* Takes the job, 0; ERR_LIMIT: too many wait, or too large ones; ERR_CANCELLED: closing. Any thread. */
int writer_submit(struct writer *writer, struct write_job *job);

#endif
