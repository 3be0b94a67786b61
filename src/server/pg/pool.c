/* Worker threads with a connection each.
 *
 * Problem: libpq blocks, and the server's own threads must not; Postgres has few
 * connections to give; a shutdown must not wait for a long query. Approach: one worker
 * owns one connection. Jobs stand in one queue, those of which only some may run at a time
 * in another; idle workers stand in a stack, so that
 * the most recent one is woken and the others' connections grow old and close.
 *
 *     submit ──> queue ──> worker: connect if needed ──> fn(ctx, conn) ──> idle ──> …
 *                                   └─ fails ──> fn(ctx, NULL, why)
 *
 * Cancelling opens a second connection and may take a while, so the lock is not held
 * meanwhile; the worker's `cancels` count keeps its job from ending until the request is
 * through, and so the request can't hit the query of a later job. Invariants: each
 * submitted job is called exactly once; `job` is set only while it runs; a worker waits
 * on its own condition only while it stands in the idle stack. */
#include "server/pg/pool.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/list.h"

#define IDLE_CLOSE_S     60
#define CLOSE_GRACE_MS   250
#define CLOSE_AGAIN_MS   20
#define NAME_MAX_BYTES   32
#define CANCEL_TEXT_SIZE 256

struct job {
    struct list link; /* in pool.queue or pool.aside, or in none while running */
    pool_job_fn *fn;
    void *ctx;
    uint64_t number; /* of its submission */
    bool is_aside;
};

/* Owned by the pool, one thread each, from the first need to pool_free.
 *
 *   IDLE (in pool.idle) ⇄ RUNNING (in no list; job set) → OVER (thread about to end) */
struct worker {
    struct list link;
    struct pool *pool;
    pthread_t thread;
    pthread_cond_t wake;
    unsigned number;
    struct job *job;  /* running */
    unsigned cancels; /* PQcancel requests under way against `job` */
    PGconn *conn;     /* the worker's thread only */
    PGcancel *handle; /* of conn; changed under the lock */
    int socket;       /* of conn, or -1; changed under the lock */
    bool over;
};

struct pool {
    pthread_mutex_t lock; /* over all that follows, but for the constants */
    pthread_cond_t quiet; /* a worker is over, or a cancel request is through */
    struct list queue;
    struct list aside; /* those of pool_submit_aside */
    struct list idle;  /* last: used most recently */
    size_t queued;     /* in the lists */
    size_t queued_aside;
    unsigned running_aside;
    uint64_t submitted;
    unsigned worker_count;
    struct worker *workers; /* max_connections of them; worker_count have a thread */
    bool closing;
    bool unreachable; /* the last connection attempt failed: told once */
    int close_fd;     /* readable when closing: ends connection attempts */
    struct pool_config config;
    char name[NAME_MAX_BYTES];
};

/* --- A worker's connection --- */

static void drop_connection(struct worker *w)
{
    pthread_mutex_lock(&w->pool->lock);
    PGcancel *handle = w->handle;
    w->handle = NULL;
    w->socket = -1;
    while (w->cancels)
        pthread_cond_wait(&w->pool->quiet, &w->pool->lock);
    pthread_mutex_unlock(&w->pool->lock);
    PQfreeCancel(handle);
    PQfinish(w->conn);
    w->conn = NULL;
}

/* An idle connection has nothing to say: readable means that the server has closed it, or
 * a notice that isn't worth telling apart. Connecting anew is right for both. */
static bool still_usable(PGconn *conn)
{
    struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};
    return PQstatus(conn) == CONNECTION_OK && fd.fd >= 0 && poll(&fd, 1, 0) == 0;
}

static void tell_reachability(struct pool *p, const struct err *why)
{
    bool failed = why->code != 0;
    pthread_mutex_lock(&p->lock);
    bool changed = p->unreachable != failed;
    p->unreachable = failed;
    pthread_mutex_unlock(&p->lock);
    if (!changed || why->code == ERR_CANCELLED)
        return;
    if (failed)
        log_event(p->config.log, LOG_WARNING, "pool.unreachable",
                  LOG_TEXT("pool", p->name),
                  LOG_TEXT("database", pg_config_describe(p->config.pg)),
                  LOG_TEXT("error", why->message));
    else
        log_event(p->config.log, LOG_INFO, "pool.reachable", LOG_TEXT("pool", p->name));
}

static bool is_closing(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    bool closing = p->closing;
    pthread_mutex_unlock(&p->lock);
    return closing;
}

/* Leaves w->conn usable, or NULL with the reason. */
static void ensure_connection(struct worker *w, struct err *why)
{
    struct pool *p = w->pool;
    err_clear(why);
    if (w->conn && !still_usable(w->conn))
        drop_connection(w);
    if (is_closing(p)) {
        drop_connection(w);
        err_set(why, ERR_CANCELLED, "The server is shutting down");
        return;
    }
    if (w->conn)
        return;
    PGconn *conn = NULL;
    pg_connect(p->config.pg, PG_QUERY, p->config.connect_timeout_ms, p->close_fd, &conn,
               why);
    PGcancel *handle = conn ? PQgetCancel(conn) : NULL;
    if (conn && !handle) {
        PQfinish(conn);
        conn = NULL;
        err_set(why, ERR_MEMORY, "No memory for a database connection");
    }
    w->conn = conn;
    pthread_mutex_lock(&p->lock);
    w->handle = handle;
    w->socket = conn ? PQsocket(conn) : -1;
    pthread_mutex_unlock(&p->lock);
    tell_reachability(p, why);
}

/* --- Workers --- */

static void run(struct worker *w, struct job *job)
{
    struct err why;
    ensure_connection(w, &why);
    job->fn(job->ctx, w->conn, w->conn ? NULL : &why);
    if (w->conn && (PQstatus(w->conn) != CONNECTION_OK ||
                    PQtransactionStatus(w->conn) != PQTRANS_IDLE))
        drop_connection(w);
}

/* Under the lock: the job is over once no cancel request is on its way. */
static void end_job(struct worker *w)
{
    struct job *job = w->job;
    while (w->cancels)
        pthread_cond_wait(&w->pool->quiet, &w->pool->lock);
    w->job = NULL;
    w->pool->running_aside -= job->is_aside;
    free(job);
}

/* Under the lock: the oldest job that may begin, or NULL. While closing all may. */
static struct job *peek_job(const struct pool *p)
{
    struct job *job = NULL;
    struct job *aside = NULL;
    if (!list_empty(&p->queue))
        job = LIST_ENTRY(p->queue.next, struct job, link);
    if (!list_empty(&p->aside) && (p->running_aside < p->config.max_aside || p->closing))
        aside = LIST_ENTRY(p->aside.next, struct job, link);
    return !job || (aside && aside->number < job->number) ? aside : job;
}

/* Under the lock: true with a job to do in w->job; false when the pool closes. An idle
 * connection that has grown old is closed meanwhile. */
static bool next_job(struct worker *w)
{
    struct pool *p = w->pool;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_CLOSE_S;
    while (!peek_job(p) && !p->closing) {
        if (list_empty(&w->link))
            list_push(&p->idle, &w->link);
        int rc = w->conn ? pthread_cond_timedwait(&w->wake, &p->lock, &until)
                         : pthread_cond_wait(&w->wake, &p->lock);
        if (rc == ETIMEDOUT && !peek_job(p) && !p->closing) {
            list_remove(&w->link);
            pthread_mutex_unlock(&p->lock);
            drop_connection(w);
            pthread_mutex_lock(&p->lock);
        }
    }
    list_remove(&w->link);
    w->job = peek_job(p);
    if (!w->job)
        return false;
    list_remove(&w->job->link);
    if (w->job->is_aside) {
        p->queued_aside--;
        p->running_aside++;
    } else {
        p->queued--;
    }
    return true;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    char name[16];
    snprintf(name, sizeof(name), "%.10s-%u", p->name, w->number % 1000);
    pthread_setname_np(pthread_self(), name);
    pthread_mutex_lock(&p->lock);
    while (next_job(w)) {
        struct job *job = w->job;
        pthread_mutex_unlock(&p->lock);
        run(w, job);
        pthread_mutex_lock(&p->lock);
        end_job(w);
    }
    pthread_mutex_unlock(&p->lock);
    drop_connection(w);
    pthread_mutex_lock(&p->lock);
    w->over = true;
    pthread_cond_broadcast(&p->quiet);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Under the lock. Signals are for the main thread. */
static int start_worker(struct pool *p)
{
    struct worker *w = &p->workers[p->worker_count];
    sigset_t all;
    sigset_t before;
    w->number = p->worker_count + 1;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->thread, NULL, work, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        return ERR_MEMORY;
    p->worker_count++;
    return 0;
}

/* --- Submitting and cancelling --- */

/* Under the lock: a thread for the job at hand; one at work will do. */
static int find_worker(struct pool *p)
{
    if (!list_empty(&p->idle)) {
        struct worker *w = LIST_ENTRY(p->idle.prev, struct worker, link);
        list_remove(&w->link);
        pthread_cond_signal(&w->wake);
        return 0;
    }
    if (p->worker_count == p->config.max_connections)
        return 0;
    int rc = start_worker(p);
    return p->worker_count ? 0 : rc;
}

static int submit(struct pool *p, pool_job_fn *fn, void *ctx, bool is_aside)
{
    struct job *job = calloc(1, sizeof(*job));
    if (!job)
        return ERR_MEMORY;
    job->fn = fn;
    job->ctx = ctx;
    job->is_aside = is_aside;
    pthread_mutex_lock(&p->lock);
    size_t *queued = is_aside ? &p->queued_aside : &p->queued;
    int rc = p->closing ? ERR_CANCELLED : 0;
    if (!rc && *queued >= p->config.max_queued)
        rc = ERR_LIMIT;
    if (!rc)
        rc = find_worker(p);
    if (!rc) {
        job->number = ++p->submitted;
        list_push(is_aside ? &p->aside : &p->queue, &job->link);
        ++*queued;
        job = NULL;
    }
    pthread_mutex_unlock(&p->lock);
    free(job);
    return rc;
}

int pool_submit(struct pool *p, pool_job_fn *fn, void *ctx)
{
    return submit(p, fn, ctx, false);
}

int pool_submit_aside(struct pool *p, pool_job_fn *fn, void *ctx)
{
    ASSERT(p->config.max_aside > 0);
    return submit(p, fn, ctx, true);
}

/* Under the lock, which it gives up for the request. */
static void cancel_worker(struct worker *w)
{
    char complaint[CANCEL_TEXT_SIZE]; /* a request that fails leaves the query running */
    if (!w->job || !w->handle)
        return;
    PGcancel *handle = w->handle;
    w->cancels++;
    pthread_mutex_unlock(&w->pool->lock);
    PQcancel(handle, complaint, (int)sizeof(complaint));
    pthread_mutex_lock(&w->pool->lock);
    w->cancels--;
    pthread_cond_broadcast(&w->pool->quiet);
}

void pool_cancel(struct pool *p, const void *ctx)
{
    pthread_mutex_lock(&p->lock);
    for (unsigned i = 0; i < p->worker_count; i++)
        if (p->workers[i].job && p->workers[i].job->ctx == ctx)
            cancel_worker(&p->workers[i]);
    pthread_mutex_unlock(&p->lock);
}

/* --- Making and ending --- */

static void fini(struct pool *p)
{
    for (unsigned i = 0; i < p->config.max_connections; i++)
        pthread_cond_destroy(&p->workers[i].wake);
    pthread_cond_destroy(&p->quiet);
    pthread_mutex_destroy(&p->lock);
    close(p->close_fd);
    free(p->workers);
    free(p);
}

int pool_new(const struct pool_config *config, struct pool **out, struct err *err)
{
    ASSERT(config->max_connections > 0);
    *out = NULL;
    struct pool *p = calloc(1, sizeof(*p));
    struct worker *workers = calloc(config->max_connections, sizeof(*workers));
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!p || !workers || fd < 0) {
        int errnum = errno;
        free(p);
        free(workers);
        if (fd >= 0)
            close(fd);
        return err_errno(err, fd < 0 ? ERR_IO : ERR_MEMORY, errnum,
                         "The pool of database connections can't be made");
    }
    p->config = *config;
    p->workers = workers;
    p->close_fd = fd;
    snprintf(p->name, sizeof(p->name), "%s", config->name);
    list_init(&p->queue);
    list_init(&p->aside);
    list_init(&p->idle);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->quiet, &monotonic);
    for (unsigned i = 0; i < config->max_connections; i++) {
        workers[i].pool = p;
        workers[i].socket = -1;
        list_init(&workers[i].link);
        pthread_cond_init(&workers[i].wake, &monotonic);
    }
    pthread_condattr_destroy(&monotonic);
    *out = p;
    return 0;
}

static void *run_cancel(void *arg)
{
    char complaint[CANCEL_TEXT_SIZE];
    PQcancel(arg, complaint, (int)sizeof(complaint));
    PQfreeCancel(arg);
    return NULL;
}

/* Under the lock, for the last time. PQcancel connects and waits, for ever when Postgres
 * or the network is stuck: on a thread that nobody waits for. It can't hit a later job's
 * query, since there are no more. */
static void cancel_last(struct worker *w)
{
    pthread_t thread;
    PGcancel *handle = w->handle;
    if (!w->job || !handle)
        return;
    w->handle = NULL;
    if (pthread_create(&thread, NULL, run_cancel, handle) != 0)
        PQfreeCancel(handle);
    else
        pthread_detach(thread);
}

/* Under the lock: waits for all workers until then; false when some are not over. */
static bool await_workers(struct pool *p, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    for (unsigned i = 0; i < p->worker_count; i++) {
        while (!p->workers[i].over)
            if (pthread_cond_timedwait(&p->quiet, &p->lock, &until) == ETIMEDOUT)
                return false;
    }
    return true;
}

/* Under the lock: cancels what runs. A job that begins another query, or that Postgres
 * does not answer, finds its connection shut. */
static void cancel_until_over(struct pool *p)
{
    for (unsigned i = 0; i < p->worker_count; i++)
        cancel_last(&p->workers[i]);
    for (int64_t ms = CLOSE_GRACE_MS; !await_workers(p, ms); ms = CLOSE_AGAIN_MS) {
        for (unsigned i = 0; i < p->worker_count; i++)
            if (p->workers[i].socket >= 0)
                shutdown(p->workers[i].socket, SHUT_RDWR);
    }
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    eventfd_write(p->close_fd, 1);
    for (unsigned i = 0; i < p->worker_count; i++)
        pthread_cond_signal(&p->workers[i].wake);
    cancel_until_over(p);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->worker_count; i++)
        pthread_join(p->workers[i].thread, NULL);
    ASSERT(list_empty(&p->queue) && list_empty(&p->aside));
    fini(p);
}
