/* See pipeline.h. Sending and receiving take turns on a non-blocking socket: with one of them
 * alone, both sides' buffers could be full and each wait for the other. */
#include "server/write/pipeline.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int send_statement(PGconn *conn, const struct write_statement *s)
{
    return PQsendQueryParams(conn, s->sql, s->count, s->types, s->values, NULL, NULL, 0)
               ? 0
               : ERR_IO;
}

/* What functions and triggers leave in a session (settings, roles, temporary tables, locks) must not
 * reach the next caller. DISCARD ALL would forget the plans of the app's functions, too, and can't
 * be sent together with others. What the last one sets is the writer's own. */
#define RESET_SETTINGS                                                                   \
    "SELECT set_config('synchronous_commit', 'on', false),"                              \
    " set_config('statement_timeout', $1, false), pg_advisory_unlock_all()"

static const char *const reset_sql[] = {"SET SESSION AUTHORIZATION DEFAULT", "RESET ALL",
                                        "DISCARD TEMP", RESET_SETTINGS};

#define RESET_STATEMENTS (sizeof reset_sql / sizeof reset_sql[0])

static int send_reset(PGconn *conn, int64_t timeout_ms)
{
    char text[24];
    const char *const values[] = {text};

    snprintf(text, sizeof text, "%lld", (long long)timeout_ms);
    for (size_t i = 0; i < RESET_STATEMENTS; i++)
        if (!PQsendQueryParams(conn, reset_sql[i], i + 1 == RESET_STATEMENTS, NULL,
                               values, NULL, NULL, 0))
            return ERR_IO;
    return 0;
}

static int send_job(PGconn *conn, const struct write_job *job)
{
    for (size_t i = 0; i < job->statement_count; i++)
        if (send_statement(conn, &job->statements[i]) != 0)
            return ERR_IO;
    return PQpipelineSync(conn) ? 0 : ERR_IO;
}

/* Waits until there is something to read, sending meanwhile. */
static int await_input(PGconn *conn)
{
    for (;;) {
        int unsent = PQflush(conn);
        struct pollfd fd = {.fd = PQsocket(conn),
                            .events = (short)(POLLIN | (unsent > 0 ? POLLOUT : 0))};

        if (unsent < 0 || fd.fd < 0)
            return ERR_IO;
        if (!PQisBusy(conn))
            return 0;
        if (poll(&fd, 1, -1) < 0)
            continue;
        if ((fd.revents & ~POLLOUT) && !PQconsumeInput(conn))
            return ERR_IO;
    }
}

/* The next result; NULL ends a statement's. ERR_IO when the connection is gone. */
static int next_result(PGconn *conn, PGresult **out)
{
    *out = NULL;
    if (await_input(conn) != 0)
        return ERR_IO;
    *out = PQgetResult(conn);
    return PQstatus(conn) == CONNECTION_OK ? 0 : ERR_IO;
}

/* --- Results --- */

static void copy_field(char *out, size_t size, const PGresult *result, int field)
{
    const char *text = PQresultErrorField(result, field);

    if (text)
        snprintf(out, size, "%s", text);
}

static void take_failure(struct write_job *job, size_t at, const PGresult *result)
{
    const struct write_statement *s = &job->statements[at];
    struct write_result *r = &job->result;
    unsigned parameter = write_failure_parameter(result);
    int status = 0;

    if (r->failure != WRITE_DONE)
        return;
    /* libpq's own words (no memory for an answer): what the server does with the rest, and with the
     * commit, they don't say. */
    if (!PQresultErrorField(result, PG_DIAG_SQLSTATE)) {
        job->uncertain = true;
        return;
    }
    job->failed_at = at;
    copy_field(job->sqlstate, sizeof job->sqlstate, result, PG_DIAG_SQLSTATE);
    enum write_failure why = write_failure_of_sqlstate(job->sqlstate, &status);
    write_refuse(job, why, "%s",
                 why == WRITE_FAILED_REJECTED && s->kind != WRITE_STATEMENT_ID
                     ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)
                     : write_failure_info(why)->text);
    r->status = status;
    r->mutation = s->mutation;
    if (s->table)
        snprintf(r->table, sizeof r->table, "%.*s", (int)s->table->name.len,
                 s->table->name.ptr);
    copy_field(r->constraint, sizeof r->constraint, result, PG_DIAG_CONSTRAINT_NAME);
    if (why == WRITE_FAILED_NOT_NULL)
        copy_field(r->column, sizeof r->column, result, PG_DIAG_COLUMN_NAME);
    if (why == WRITE_FAILED_VALUE && parameter > 0 && parameter <= (unsigned)s->count &&
        s->columns && s->columns[parameter - 1])
        snprintf(r->column, sizeof r->column, "%.*s", (int)s->columns[parameter - 1]->len,
                 s->columns[parameter - 1]->ptr);
}

static void take_rows(struct write_job *job, const struct write_statement *s,
                      const PGresult *result)
{
    struct write_result *r = &job->result;

    if (PQntuples(result) < 1 || PQgetisnull(result, 0, 0))
        return;
    if (s->kind == WRITE_STATEMENT_ID || s->kind == WRITE_STATEMENT_TXID) {
        r->txid = (uint32_t)strtoul(PQgetvalue(result, 0, 0), NULL, 10);
        r->has_txid = true;
    } else if (s->kind == WRITE_STATEMENT_CALL) {
        buf_put(&r->value, PQgetvalue(result, 0, 0), (size_t)PQgetlength(result, 0, 0));
        job->uncertain = job->uncertain || r->value.failed != 0;
    }
}

static void take_result(struct write_job *job, size_t at, const PGresult *result)
{
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
        take_rows(job, &job->statements[at], result);
        return;
    case PGRES_COMMAND_OK:
    case PGRES_PIPELINE_ABORTED: /* behind one that failed */
        return;
    case PGRES_EMPTY_QUERY:
    case PGRES_COPY_OUT:
    case PGRES_COPY_IN:
    case PGRES_BAD_RESPONSE:
    case PGRES_NONFATAL_ERROR:
    case PGRES_FATAL_ERROR:
    case PGRES_COPY_BOTH:
    case PGRES_SINGLE_TUPLE:
    case PGRES_PIPELINE_SYNC:
        take_failure(job, at, result);
        return;
    }
}

/* A commit itself may fail: a deferred constraint, a serialization failure. Its error comes where
 * the sync is due. */
static int receive_sync(PGconn *conn, struct write_job *job)
{
    for (;;) {
        PGresult *result;

        if (next_result(conn, &result) != 0) {
            PQclear(result);
            return ERR_IO;
        }
        if (!result)
            continue;
        bool synced = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
        if (!synced && job)
            take_failure(job, job->statement_count - 1, result);
        PQclear(result);
        if (synced)
            return 0;
    }
}

/* ERR_INVALID: a statement of it failed. */
static int receive_reset(PGconn *conn)
{
    bool failed = false;

    for (size_t i = 0; i < RESET_STATEMENTS; i++) {
        PGresult *result;

        do {
            if (next_result(conn, &result) != 0) {
                PQclear(result);
                return ERR_IO;
            }
            failed = failed || (result && PQresultStatus(result) == PGRES_FATAL_ERROR);
            PQclear(result);
        } while (result);
    }
    return failed ? ERR_INVALID : 0;
}

static int receive_job(PGconn *conn, struct write_job *job)
{
    for (size_t i = 0; i < job->statement_count; i++) {
        PGresult *result;

        do {
            if (next_result(conn, &result) != 0) {
                PQclear(result);
                return ERR_IO;
            }
            if (result)
                take_result(job, i, result);
            PQclear(result);
        } while (result);
    }
    return receive_sync(conn, job);
}

static int receive_lsn(PGconn *conn, uint64_t *lsn)
{
    PGresult *result;

    do {
        if (next_result(conn, &result) != 0) {
            PQclear(result);
            return ERR_IO;
        }
        if (result && PQresultStatus(result) == PGRES_TUPLES_OK)
            *lsn = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
        PQclear(result);
    } while (result);
    return receive_sync(conn, NULL);
}

/* reset [job] reset [job] … reset [LSN], but for the first, which finds the session clean. */
static int send_all(PGconn *conn, int64_t timeout_ms, struct list *jobs)
{
    for (struct list *l = jobs->next; l != jobs; l = l->next) {
        if (l != jobs->next && send_reset(conn, timeout_ms) != 0)
            return ERR_IO;
        if (send_job(conn, LIST_ENTRY(l, struct write_job, link)) != 0)
            return ERR_IO;
    }
    if (send_reset(conn, timeout_ms) != 0 ||
        !PQsendQueryParams(conn, "SELECT pg_current_wal_lsn() - '0/0'", 0, NULL, NULL,
                           NULL, NULL, 0) ||
        !PQpipelineSync(conn))
        return ERR_IO;
    return 0;
}

/* *reached: the first job whose end was not heard of. */
static int receive_all(PGconn *conn, struct list *jobs, struct list **reached,
                       uint64_t *lsn)
{
    for (; *reached != jobs; *reached = (*reached)->next) {
        struct write_job *job = LIST_ENTRY(*reached, struct write_job, link);
        int rc = *reached == jobs->next ? 0 : receive_reset(conn);

        if (rc == ERR_INVALID)
            write_refuse(job, WRITE_FAILED_INTERNAL, "%s",
                         write_failure_info(WRITE_FAILED_INTERNAL)->text);
        if (rc == ERR_IO || receive_job(conn, job) != 0)
            return ERR_IO;
    }
    /* A session that can't be cleaned is not used any more. */
    return receive_reset(conn) == 0 ? receive_lsn(conn, lsn) : ERR_IO;
}

static int exchange(PGconn *conn, int64_t timeout_ms, struct list *jobs,
                    struct list **reached)
{
    uint64_t lsn = 0;
    int rc = send_all(conn, timeout_ms, jobs);

    rc = rc ? rc : receive_all(conn, jobs, reached, &lsn);
    for (struct list *l = jobs->next; rc == 0 && l != jobs; l = l->next)
        LIST_ENTRY(l, struct write_job, link)->result.lsn = lsn;
    return rc;
}

int pipeline_run(PGconn *conn, int64_t timeout_ms, struct list *jobs)
{
    struct list *reached = jobs->next;
    int rc = PQenterPipelineMode(conn) && PQsetnonblocking(conn, 1) == 0 ? 0 : ERR_IO;

    if (rc == 0)
        rc = exchange(conn, timeout_ms, jobs, &reached);
    if (rc == 0 && (PQsetnonblocking(conn, 0) != 0 || !PQexitPipelineMode(conn)))
        rc = ERR_IO;
    for (; reached != jobs; reached = reached->next)
        LIST_ENTRY(reached, struct write_job, link)->uncertain = true;
    return rc;
}
