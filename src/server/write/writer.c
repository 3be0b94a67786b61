/* See writer.h.
 *
 *   submit ──▶ queue ──▶ a thread takes some ──▶ prepare each (catalog, SQL)
 *                                                  │ all that is fit
 *                                                  ▼
 *     [id] [identity] [mutations … | call [answer]] [txid] Sync   … one for each job
 *     [LSN] Sync
 *                                                  ▼ the answers, in that order
 *     done ◀── settle: a duplicate's stored answer, another attempt, a refusal
 *
 * The statements between two Syncs are one transaction, which the Sync commits; the first that
 * fails undoes them all. So the id of a job is taken first: where it was taken before, nothing
 * else happens, and where two with one id come at a time the second waits for the first.
 *
 * When the connection breaks amid the answers, nobody knows what was committed. A job with an id
 * is simply sent again; for others that is what their client is told. */
#include "server/write/writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/gate/gate.h"
#include "server/write/pipeline.h"
#include "server/write/session.h"

#define TOGETHER_MAX    16
#define THREADS_MAX     64
#define CLEAN_EVERY_MS  600000
#define RECONNECT_MS    200
#define CLOSE_GRACE_MS  250
#define CLOSE_AGAIN_MS  20
#define ATTEMPT_WAIT_US 2000

struct worker {
    struct writer *writer;
    pthread_t thread;
    struct session session;
    uint64_t random;
    bool stale; /* the catalog has changed: forget it before the next exchange */
    int socket; /* of the session, or -1; under the writer's lock */
    bool over;  /* likewise: the thread is about to end */
};

struct writer {
    struct writer_config config;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t wake;
    pthread_cond_t quiet; /* a thread is over */
    struct list queue;
    size_t queued;
    size_t queued_bytes;
    unsigned idle;
    bool closing;
    int64_t clean_at_ms;
    int close_fd;
    unsigned count;
    struct worker workers[THREADS_MAX];
};

/* --- Jobs --- */

struct write_job *write_job_new(void)
{
    struct write_job *job = calloc(1, sizeof *job);

    if (!job)
        return NULL;
    list_init(&job->link);
    arena_init(&job->arena, WRITE_ARENA_MAX);
    buf_init(&job->result.value, WRITE_RESULT_MAX);
    job->result.mutation = -1;
    return job;
}

void write_job_free(struct write_job *job)
{
    if (!job)
        return;
    buf_fini(&job->result.value);
    arena_fini(&job->arena);
    free(job);
}

void write_refuse(struct write_job *job, enum write_failure why, const char *format, ...)
{
    struct write_result *r = &job->result;
    va_list args;

    r->failure = why;
    r->status = write_failure_info(why)->status;
    va_start(args, format);
    vsnprintf(r->message, sizeof r->message, format, args);
    va_end(args);
}

static void refuse_plain(struct write_job *job, enum write_failure why)
{
    write_refuse(job, why, "%s", write_failure_info(why)->text);
}

/* --- What a job sends --- */

static bool in_list(const char *list, struct slice name)
{
    struct slice rest = slice_of(list);

    while (rest.len > 0) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        size_t len = comma ? (size_t)(comma - rest.ptr) : rest.len;

        if (slice_eq(slice_trim(slice_make(rest.ptr, len)), name))
            return true;
        rest = comma ? slice_make(comma + 1, rest.len - len - 1) : slice_make("", 0);
    }
    return false;
}

static int refuse_table(struct write_job *job, const struct write_mutation *m, int index)
{
    write_refuse(job, WRITE_FAILED_FORBIDDEN,
                 "the table \"%.*s\" does not exist or may not be written",
                 (int)m->table.len, m->table.ptr);
    snprintf(job->result.table, sizeof job->result.table, "%.*s", (int)m->table.len,
             m->table.ptr);
    job->result.mutation = index;
    return ERR_INVALID;
}

static int prepare_mutation(struct worker *w, struct write_job *job, int index,
                            struct write_statement *out)
{
    const struct write_mutation *m = &job->transaction->mutations[index];
    const struct table *table = NULL;
    struct err err = {0};

    if (!in_list(w->writer->config.schemas, m->schema))
        return refuse_table(job, m, index);
    int rc = session_table(&w->session, m->schema, m->table, &table, &err);
    if (rc == ERR_NOT_FOUND)
        return refuse_table(job, m, index);
    if (rc != 0)
        return ERR_RETRY;
    return write_statement_mutation(job, m, index, table, out);
}

static int prepare_call(struct worker *w, struct write_job *job,
                        struct write_statement *out)
{
    const struct write_function *f = NULL;
    struct err err = {0};
    int rc = session_function(&w->session, job->call->schema, job->call->name, &f, &err);

    if (rc == ERR_NOT_FOUND) {
        refuse_plain(job, WRITE_FAILED_NO_FUNCTION);
        return ERR_INVALID;
    }
    if (rc == ERR_INVALID) {
        write_refuse(job, WRITE_FAILED_NO_FUNCTION,
                     "there are several functions of that name; only one may be");
        return ERR_INVALID;
    }
    if (rc != 0)
        return ERR_RETRY;
    return write_statement_call(job, job->call, f, job->id.len > 0, out);
}

static const char *hex(struct arena *arena, const unsigned char *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    char *out = arena_alloc(arena, 2 * n + 3);

    if (!out)
        return NULL;
    out[0] = '\\';
    out[1] = 'x';
    for (size_t i = 0; i < n; i++) {
        out[2 + 2 * i] = digits[bytes[i] >> 4];
        out[3 + 2 * i] = digits[bytes[i] & 15];
    }
    out[2 + 2 * n] = '\0';
    return out;
}

static int put_id(struct write_job *job, struct write_statement *s)
{
    const char **values = arena_calloc(&job->arena, 3, sizeof *values);

    if (!values)
        return ERR_MEMORY;
    values[0] = job->subject;
    values[1] = arena_dup(&job->arena, job->id);
    values[2] = hex(&job->arena, job->hash, sizeof job->hash);
    *s = (struct write_statement){
        .kind = WRITE_STATEMENT_ID,
        .sql = "INSERT INTO coulomb.applied (subject, id, request) VALUES ($1, $2, $3) "
               "RETURNING txid::xid",
        .count = 3,
        .values = values,
        .mutation = -1};
    return values[1] && values[2] ? 0 : ERR_MEMORY;
}

static int put_identity(struct write_job *job, int64_t timeout_ms,
                        struct write_statement *s)
{
    const char **values = arena_calloc(&job->arena, 3, sizeof *values);

    if (!values)
        return ERR_MEMORY;
    if (!job->role) { /* never as the connection's own user */
        refuse_plain(job, WRITE_FAILED_FORBIDDEN);
        return ERR_INVALID;
    }
    values[0] = job->role;
    values[1] = job->claims;
    values[2] = arena_printf(&job->arena, "%lld", (long long)timeout_ms);
    *s = (struct write_statement){.kind = WRITE_STATEMENT_IDENTITY,
                                  .sql = gate_identity_sql,
                                  .count = 3,
                                  .values = values,
                                  .mutation = -1};
    return values[2] ? 0 : ERR_MEMORY;
}

#define ANSWER_STATEMENTS 3

/* The answer is kept as the connection's own user, who alone may; then the role is the caller's
 * again, since deferred triggers run at the commit, under the role that is in force there. */
static int put_answer(struct write_job *job, struct write_statement *s)
{
    const char **values = arena_calloc(&job->arena, 3, sizeof *values);

    if (!values)
        return ERR_MEMORY;
    values[0] = job->subject;
    values[1] = arena_dup(&job->arena, job->id);
    values[2] = job->role;
    s[0] = (struct write_statement){.kind = WRITE_STATEMENT_ANSWER,
                                    .sql = "SELECT set_config('role', 'none', true)",
                                    .mutation = -1};
    s[1] = (struct write_statement){
        .kind = WRITE_STATEMENT_ANSWER,
        .sql = "UPDATE coulomb.applied SET answer = current_setting('coulomb.answer') "
               "WHERE subject = $1 AND id = $2",
        .count = 2,
        .values = values,
        .mutation = -1};
    s[2] = (struct write_statement){.kind = WRITE_STATEMENT_ANSWER,
                                    .sql = "SELECT set_config('role', $1, true)",
                                    .count = 1,
                                    .values = values + 2,
                                    .mutation = -1};
    return values[1] ? 0 : ERR_MEMORY;
}

/* Makes job->statements. 0; ERR_INVALID: refused; ERR_RETRY: the connection failed. */
static int prepare_job(struct worker *w, struct write_job *job)
{
    size_t steps = job->transaction ? job->transaction->count : 1;
    struct write_statement *s =
        arena_calloc(&job->arena, steps + 3 + ANSWER_STATEMENTS, sizeof *s);
    size_t n = 0;
    int rc = s ? 0 : ERR_MEMORY;

    if (rc == 0 && job->id.len > 0)
        rc = put_id(job, &s[n++]);
    if (rc == 0)
        rc = put_identity(job, w->writer->config.timeout_ms, &s[n++]);
    for (size_t i = 0; rc == 0 && i < steps; i++)
        rc = job->transaction ? prepare_mutation(w, job, (int)i, &s[n++])
                              : prepare_call(w, job, &s[n++]);
    if (rc == 0 && job->call && job->id.len > 0) {
        rc = put_answer(job, &s[n]);
        n += ANSWER_STATEMENTS;
    }
    if (rc == 0 && job->id.len == 0)
        s[n++] = (struct write_statement){
            .kind = WRITE_STATEMENT_TXID,
            .sql = "SELECT pg_current_xact_id_if_assigned()::xid",
            .mutation = -1};
    job->statements = s;
    job->statement_count = n;
    if (rc == ERR_MEMORY)
        refuse_plain(job, WRITE_FAILED_INTERNAL);
    return rc == ERR_MEMORY ? ERR_INVALID : rc;
}

/* --- What comes of it --- */

static void finish(struct write_job *job)
{
    job->done(job);
}

/* What was known of the request with this id. */
static void answer_duplicate(struct worker *w, struct write_job *job)
{
    const char *hash = hex(&job->arena, job->hash, sizeof job->hash);
    const char *id = arena_dup(&job->arena, job->id);
    struct write_result *r = &job->result;

    if (!hash || !id) {
        refuse_plain(job, WRITE_FAILED_INTERNAL);
        return;
    }
    r->constraint[0] = '\0';
    const char *const values[] = {job->subject, id, hash};
    PGresult *result = PQexecParams(
        w->session.conn,
        "SELECT request = $3::bytea, txid::xid, answer, pg_current_wal_lsn() - '0/0' "
        "FROM coulomb.applied WHERE subject = $1 AND id = $2",
        3, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        refuse_plain(job, WRITE_FAILED_UNAVAILABLE);
    } else if (PQntuples(result) == 0) { /* it was undone meanwhile, or is forgotten */
        refuse_plain(job, WRITE_FAILED_CONFLICT);
    } else if (PQgetvalue(result, 0, 0)[0] != 't') {
        refuse_plain(job, WRITE_FAILED_ID_REUSED);
    } else {
        r->failure = WRITE_DONE;
        r->status = 200;
        r->replayed = true;
        r->has_txid = true;
        r->txid = (uint32_t)strtoul(PQgetvalue(result, 0, 1), NULL, 10);
        r->lsn = strtoull(PQgetvalue(result, 0, 3), NULL, 10);
        buf_reset(&r->value, 0);
        if (!PQgetisnull(result, 0, 2))
            buf_puts(&r->value, PQgetvalue(result, 0, 2));
        if (r->value.failed) /* it is there, and can be asked for again */
            refuse_plain(job, WRITE_FAILED_UNAVAILABLE);
    }
    PQclear(result);
}

/* The columns of a constraint, when it is one of the statement's table: the first names it. */
static void find_constraint_column(struct worker *w, struct write_job *job,
                                   const struct write_statement *s)
{
    struct write_result *r = &job->result;
    char oid[16];

    if (r->column[0] || !r->constraint[0] || !s->table)
        return;
    snprintf(oid, sizeof oid, "%u", s->table->oid);
    const char *const values[] = {oid, r->constraint};
    PGresult *result = PQexecParams(
        w->session.conn,
        "SELECT a.attname FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_attribute a "
        "ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] WHERE c.conrelid = "
        "$1::oid "
        "AND c.conname = $2",
        2, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
        snprintf(r->column, sizeof r->column, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
}

static void tell_failure(struct worker *w, const struct write_job *job)
{
    if (job->result.failure == WRITE_FAILED_INTERNAL)
        log_event(w->writer->config.log, LOG_ERROR, "write.failed",
                  LOG_TEXT("sqlstate", job->sqlstate),
                  LOG_TEXT("table", job->result.table),
                  LOG_I64("mutation", job->result.mutation));
}

/* A statement failed: the job is over, or (true) gets another attempt. */
static bool settle_failure(struct worker *w, struct write_job *job)
{
    const struct write_statement *s = &job->statements[job->failed_at];

    if (s->kind == WRITE_STATEMENT_ID && strcmp(job->sqlstate, "23505") == 0) {
        answer_duplicate(w, job);
        /* The one that had taken the id was undone: now it is free. */
        return job->result.failure == WRITE_FAILED_CONFLICT;
    }
    if (write_sqlstate_is_stale(job->sqlstate) && !job->stale_once) {
        job->stale_once = true;
        w->stale = true;
        return true;
    }
    if (s->conditional && strcmp(job->sqlstate, "CB404") == 0)
        refuse_plain(job, WRITE_FAILED_PRECONDITION);
    if (s->kind == WRITE_STATEMENT_IDENTITY && job->result.failure == WRITE_FAILED_VALUE)
        write_refuse(job, WRITE_FAILED_FORBIDDEN, "the caller's role does not exist");
    find_constraint_column(w, job, s);
    tell_failure(w, job);
    return write_sqlstate_is_passing(job->sqlstate);
}

/* What writer_free may shut while the thread waits for Postgres. */
static void tell_socket(struct worker *w, int socket)
{
    pthread_mutex_lock(&w->writer->lock);
    w->socket = socket;
    pthread_mutex_unlock(&w->writer->lock);
}

static int connect_session(struct worker *w, struct err *err)
{
    tell_socket(w, -1);
    int rc = session_ensure(&w->session, w->writer->close_fd, err);
    if (rc == 0)
        tell_socket(w, PQsocket(w->session.conn));
    return rc;
}

static void drop_session(struct worker *w)
{
    tell_socket(w, -1);
    session_close(&w->session);
}

static bool is_closing(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    bool closing = writer->closing;
    pthread_mutex_unlock(&writer->lock);
    return closing;
}

static void settle(struct worker *w, struct write_job *job, struct list *again)
{
    bool retry = false;

    if (job->uncertain) {
        retry = job->id.len > 0;
        refuse_plain(job,
                     retry ? WRITE_FAILED_UNAVAILABLE : WRITE_FAILED_UNKNOWN_OUTCOME);
    } else if (job->result.failure != WRITE_DONE) {
        retry = settle_failure(w, job);
    }
    if (retry && ++job->attempts < WRITE_ATTEMPTS_MAX && !is_closing(w->writer))
        list_push(again, &job->link);
    else
        finish(job);
}

/* --- A turn --- */

static uint64_t next_random(struct worker *w)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

static void clear_result(struct write_job *job)
{
    struct buf value = job->result.value;

    buf_reset(&value, 0);
    job->result = (struct write_result){.status = 200, .mutation = -1, .value = value};
    job->uncertain = false;
    job->sqlstate[0] = '\0';
}

static void refuse_all(struct list *jobs, enum write_failure why)
{
    while (!list_empty(jobs)) {
        struct write_job *job = LIST_ENTRY(list_pop(jobs), struct write_job, link);

        clear_result(job);
        refuse_plain(job, why);
        finish(job);
    }
}

/* Prepares the jobs and moves those that are fit to `ready`. */
static void prepare_all(struct worker *w, struct list *jobs, struct list *ready)
{
    session_age(&w->session);
    while (!list_empty(jobs)) {
        struct write_job *job = LIST_ENTRY(list_pop(jobs), struct write_job, link);

        clear_result(job);
        int rc = prepare_job(w, job);
        if (rc == 0) {
            list_push(ready, &job->link);
            continue;
        }
        if (rc == ERR_RETRY)
            refuse_plain(job, WRITE_FAILED_UNAVAILABLE);
        finish(job);
    }
}

/* One exchange for all of them; what needs another attempt is left in *jobs. */
static void run_once(struct worker *w, struct list *jobs)
{
    struct list ready;
    struct list sent;

    list_init(&ready);
    list_init(&sent);
    prepare_all(w, jobs, &ready);
    if (list_empty(&ready))
        return;
    if (pipeline_run(w->session.conn, w->writer->config.timeout_ms, &ready) != 0)
        drop_session(w);
    while (!list_empty(&ready))
        list_push(&sent, list_pop(&ready));
    while (!list_empty(&sent)) {
        struct write_job *job = LIST_ENTRY(list_pop(&sent), struct write_job, link);

        settle(w, job, jobs);
    }
    if (w->stale) /* the jobs' statements borrow from it */
        session_forget(&w->session);
    w->stale = false;
}

static void run_jobs(struct worker *w, struct list *jobs)
{
    struct err err = {0};

    for (unsigned attempt = 0; !list_empty(jobs); attempt++) {
        if (attempt > 0) /* others are in the way: not all at once again */
            clock_sleep_us(
                (int64_t)(next_random(w) % ((uint64_t)ATTEMPT_WAIT_US << attempt)));
        if (connect_session(w, &err) == 0) {
            run_once(w, jobs);
            continue;
        }
        if (attempt + 1 >= WRITE_ATTEMPTS_MAX || is_closing(w->writer) ||
            err.code == ERR_FATAL) {
            log_event(w->writer->config.log, LOG_WARNING, "write.unavailable",
                      LOG_TEXT("reason", err.message));
            refuse_all(jobs, WRITE_FAILED_UNAVAILABLE);
            return;
        }
        clock_sleep_ms(RECONNECT_MS);
    }
}

static bool is_time_to_clean(struct writer *writer)
{
    int64_t now_ms = clock_mono_ms();

    pthread_mutex_lock(&writer->lock);
    bool due = now_ms >= writer->clean_at_ms && !writer->closing;
    if (due)
        writer->clean_at_ms = now_ms + CLEAN_EVERY_MS;
    pthread_mutex_unlock(&writer->lock);
    return due;
}

/* Ids that nobody will ask for again, some at a time: a statement has its time limit. */
static void clean(struct worker *w)
{
    struct err err = {0};
    char seconds[24];
    bool more = is_time_to_clean(w->writer) && connect_session(w, &err) == 0;

    snprintf(seconds, sizeof seconds, "%lld",
             (long long)(w->writer->config.keep_ids_ms / 1000));
    const char *const values[] = {seconds};
    while (more && !is_closing(w->writer)) {
        PGresult *result = PQexecParams(
            w->session.conn,
            "DELETE FROM coulomb.applied WHERE ctid = ANY (ARRAY(SELECT ctid FROM "
            "coulomb.applied WHERE at < now() - $1::bigint * interval '1 second' LIMIT "
            "5000))",
            1, NULL, values, NULL, NULL, 0);

        more = strtoul(PQcmdTuples(result), NULL, 10) == 5000;
        PQclear(result);
    }
}

/* --- Threads --- */

/* Under the lock: a fair share of what waits. */
static void take(struct writer *writer, struct list *out)
{
    size_t share = writer->queued / (writer->idle + 1) + 1;

    share = share < TOGETHER_MAX ? share : TOGETHER_MAX;
    for (size_t i = 0; i < share && !list_empty(&writer->queue); i++) {
        struct write_job *job =
            LIST_ENTRY(list_pop(&writer->queue), struct write_job, link);

        list_push(out, &job->link);
        writer->queued--;
        writer->queued_bytes -= job->queued_bytes;
    }
}

/* Those that have waited longer than a job may take are not begun. */
static void drop_late(struct worker *w, struct list *jobs)
{
    int64_t since_ms = clock_mono_ms() - w->writer->config.timeout_ms;
    struct list late;
    struct list *next;

    list_init(&late);
    for (struct list *l = jobs->next; l != jobs; l = next) {
        struct write_job *job = LIST_ENTRY(l, struct write_job, link);

        next = l->next;
        if (job->queued_ms >= since_ms)
            continue;
        list_remove(l);
        list_push(&late, l);
    }
    refuse_all(&late, WRITE_FAILED_BUSY);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct writer *writer = w->writer;
    struct list jobs;

    list_init(&jobs);
    pthread_setname_np(pthread_self(), "writer");
    for (;;) {
        pthread_mutex_lock(&writer->lock);
        writer->idle++;
        while (list_empty(&writer->queue) && !writer->closing)
            pthread_cond_wait(&writer->wake, &writer->lock);
        writer->idle--;
        if (list_empty(&writer->queue)) {
            pthread_mutex_unlock(&writer->lock);
            break;
        }
        take(writer, &jobs);
        bool closing = writer->closing;
        pthread_mutex_unlock(&writer->lock);
        if (closing)
            refuse_all(&jobs, WRITE_FAILED_UNAVAILABLE);
        drop_late(w, &jobs);
        run_jobs(w, &jobs);
        clean(w);
    }
    tell_socket(w, -1);
    session_fini(&w->session);
    pthread_mutex_lock(&writer->lock);
    w->over = true;
    pthread_cond_signal(&writer->quiet);
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

/* Under the lock. One job may always wait, however large it is. */
static bool is_full(const struct writer *writer, const struct write_job *job)
{
    const struct writer_config *c = &writer->config;

    return writer->queued >= c->max_queued ||
           (writer->queued > 0 &&
            writer->queued_bytes + job->queued_bytes > c->max_queued_bytes);
}

int writer_submit(struct writer *writer, struct write_job *job)
{
    int rc = 0;

    job->queued_bytes = job->other_bytes + job->arena.used_bytes;

    pthread_mutex_lock(&writer->lock);
    if (writer->closing) {
        rc = ERR_CANCELLED;
    } else if (is_full(writer, job)) {
        rc = ERR_LIMIT;
    } else {
        job->queued_ms = clock_mono_ms();
        list_push(&writer->queue, &job->link);
        writer->queued++;
        writer->queued_bytes += job->queued_bytes;
        pthread_cond_signal(&writer->wake);
    }
    pthread_mutex_unlock(&writer->lock);
    return rc;
}

static int start(struct writer *writer, struct err *err)
{
    unsigned n = writer->config.connections;
    sigset_t all;
    sigset_t before;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; rc == 0 && i < (n < THREADS_MAX ? n : THREADS_MAX); i++) {
        struct worker *w = &writer->workers[i];

        w->writer = writer;
        w->socket = -1;
        w->random = (uint64_t)clock_wall_us() * (2 * i + 1) | 1;
        session_init(&w->session, &writer->config);
        rc = pthread_create(&w->thread, NULL, work, w);
        if (rc == 0)
            writer->count++;
        else
            rc = err_errno(err, ERR_MEMORY, rc, "a thread that writes can't be made");
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static void init_quiet(struct writer *writer)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&writer->quiet, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int writer_new(const struct writer_config *config, struct writer **out, struct err *err)
{
    struct writer *writer = calloc(1, sizeof *writer);

    *out = NULL;
    if (!writer)
        return err_set(err, ERR_MEMORY, "no memory for the writer");
    writer->config = *config;
    list_init(&writer->queue);
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->wake, NULL);
    init_quiet(writer);
    writer->close_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = writer->close_fd < 0 ? err_set(err, ERR_IO, "no descriptor for the writer")
                                  : start(writer, err);
    if (rc != 0)
        writer_free(writer);
    else
        *out = writer;
    return rc;
}

/* Under the lock: false when some threads are not over after so long. */
static bool await_threads(struct writer *writer, int64_t ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    for (unsigned i = 0; i < writer->count; i++)
        while (!writer->workers[i].over)
            if (pthread_cond_timedwait(&writer->quiet, &writer->lock, &until) ==
                ETIMEDOUT)
                return false;
    return true;
}

/* What runs gets a moment to end; then its connection is shut, and nobody knows what became of
 * it. */
static void end_threads(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->closing = true;
    pthread_cond_broadcast(&writer->wake);
    if (writer->close_fd >= 0)
        eventfd_write(writer->close_fd, 1);
    for (int64_t ms = CLOSE_GRACE_MS; !await_threads(writer, ms); ms = CLOSE_AGAIN_MS)
        for (unsigned i = 0; i < writer->count; i++)
            if (writer->workers[i].socket >= 0)
                shutdown(writer->workers[i].socket, SHUT_RDWR);
    pthread_mutex_unlock(&writer->lock);
}

void writer_free(struct writer *writer)
{
    if (!writer)
        return;
    end_threads(writer);
    for (unsigned i = 0; i < writer->count; i++)
        pthread_join(writer->workers[i].thread, NULL);
    if (writer->close_fd >= 0)
        close(writer->close_fd);
    pthread_cond_destroy(&writer->wake);
    pthread_cond_destroy(&writer->quiet);
    pthread_mutex_destroy(&writer->lock);
    free(writer);
}
