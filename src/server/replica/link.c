/* One connection that never keeps the sequencer waiting.
 *
 * libpq's own waits know nothing of wake_fd, so all of them are replaced by link_poll.
 * The socket is non-blocking. Two traps of libpq are met here:
 *  - a poll on the socket says nothing about bytes that TLS has already taken from it,
 * and one PQconsumeInput need not take them all: on an encrypted connection no wait is
 * longer than TLS_LOOK_MS, and then we look;
 *  - PQconnectPoll takes every call as "the socket is ready": it is called only when it
 * is. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "server/replica/internal.h"

#define CONNECT_TIMEOUT_MS 15000
#define POLL_MAX_MS        60000
#define TLS_LOOK_MS        100
#define CANCEL_WAIT_S      2

static int check_orders(const struct replica *r, struct err *err)
{
    if (r->stop)
        return err_set(err, ERR_CANCELLED, "replication was told to stop");
    if (r->reconnect)
        return err_set(err, ERR_RETRY, "replication was told to connect again");
    return 0;
}

static bool is_encrypted(const struct replica *r)
{
    return r->conn && PQstatus(r->conn) == CONNECTION_OK &&
           (PQsslInUse(r->conn) || PQgssEncInUse(r->conn));
}

static int poll_timeout(const struct replica *r, bool encrypted, int64_t wake_ms,
                        int64_t until_ms)
{
    int64_t first = wake_ms < until_ms ? wake_ms : until_ms;
    int64_t now = clock_mono_ms();
    int64_t left = first > now ? first - now : 0;
    int64_t most = encrypted && r->conn ? TLS_LOOK_MS : POLL_MAX_MS;

    return (int)(left < most ? left : most);
}

int link_poll(struct replica *r, int fd, short events, int64_t until_ms, struct err *err)
{
    bool encrypted = fd >= 0 && is_encrypted(r);
    int64_t wake_ms = r->sink.wake_deadline_ms(r->sink.ctx);
    struct pollfd fds[2] = {{.fd = fd, .events = events},
                            {.fd = r->config.wake_fd, .events = POLLIN}};
    int rc = check_orders(r, err);
    int n;

    if (rc != 0)
        return rc;
    n = poll(fds, 2, poll_timeout(r, encrypted, wake_ms, until_ms));
    if (n < 0 && errno != EINTR)
        return err_errno(err, ERR_IO, errno, "waiting for Postgres failed");
    if (n < 0)
        return 0;
    if (fds[1].revents != 0 || clock_mono_ms() >= wake_ms) {
        rc = r->sink.woken(r->sink.ctx, err);
        if (rc == 0)
            rc = check_orders(r, err);
        if (rc != 0)
            return rc;
    }
    return fds[0].revents != 0 || (n == 0 && encrypted) ? 1 : 0;
}

int link_sleep(struct replica *r, int64_t ms, struct err *err)
{
    int64_t until_ms = clock_mono_ms() + ms;

    while (clock_mono_ms() < until_ms) {
        int rc = link_poll(r, -1, 0, until_ms, err);

        if (rc < 0)
            return rc;
    }
    return 0;
}

static int finish_connect(struct replica *r, struct err *err)
{
    int64_t until_ms = clock_mono_ms() + CONNECT_TIMEOUT_MS;
    PostgresPollingStatusType wants = PGRES_POLLING_WRITING;

    while (wants != PGRES_POLLING_OK) {
        short events = wants == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        int rc = link_poll(r, PQsocket(r->conn), events, until_ms, err);

        if (rc < 0)
            return rc;
        if (rc == 0 && clock_mono_ms() >= until_ms)
            return err_set(err, ERR_RETRY, "Postgres (%s) did not answer within %d s",
                           pg_config_describe(r->config.pg), CONNECT_TIMEOUT_MS / 1000);
        if (rc == 0)
            continue;
        wants = PQconnectPoll(r->conn);
        if (wants == PGRES_POLLING_FAILED)
            return pg_fail_connect(err, r->conn);
    }
    return 0;
}

/* A server that takes no replication at all will not do so by itself. */
static int judge_refusal(int rc, struct err *err)
{
    struct err was = *err;

    if (!strstr(was.message, "max_wal_senders") || !strstr(was.message, " 0)"))
        return rc;
    err_set(err, ERR_FATAL,
            "Postgres can't be reached: replication is switched off in the server "
            "(max_wal_senders is 0). An administrator can switch it on: ALTER SYSTEM SET "
            "wal_level = 'logical'; ALTER SYSTEM SET max_wal_senders = 10; and restart "
            "Postgres");
    memcpy(err->sqlstate, was.sqlstate, sizeof(err->sqlstate));
    return ERR_FATAL;
}

int link_open(struct replica *r, struct err *err)
{
    int rc = pg_connect_start(r->config.pg, PG_REPLICATION, &r->conn, err);

    if (rc == 0)
        rc = finish_connect(r, err);
    if (rc != 0) {
        rc = judge_refusal(rc, err);
        link_close(r);
        /* What libpq itself finds (names, certificates) may be an outage of the network
         * once it has worked before. */
        if (rc == ERR_FATAL && r->ever_connected && err->sqlstate[0] == '\0')
            rc = err->code = ERR_RETRY;
        return rc;
    }
    pg_connected(r->conn);
    PQsetnonblocking(r->conn, 1);
    r->ever_connected = true;
    return 0;
}

static void *run_cancel(void *arg)
{
    char why[256];

    PQcancel(arg, why, sizeof(why));
    PQfreeCancel(arg);
    return NULL;
}

/* A backend that waits for a lock does not notice that its client has gone, and would
 * keep the advisory lock from our successor. PQcancel connects and waits, for minutes
 * when the network is gone: it does so on a thread that nobody waits for, but for a
 * moment before the process may end. */
static void cancel_query(struct replica *r)
{
    PGcancel *cancel = PQgetCancel(r->conn);
    struct timespec until;
    pthread_t thread;

    if (!cancel)
        return;
    if (pthread_create(&thread, NULL, run_cancel, cancel) != 0) {
        PQfreeCancel(cancel);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CANCEL_WAIT_S;
    if (!r->stop || pthread_timedjoin_np(thread, NULL, &until) != 0)
        pthread_detach(thread);
}

void link_close(struct replica *r)
{
    if (!r->conn)
        return;
    if (r->query_running && PQstatus(r->conn) == CONNECTION_OK)
        cancel_query(r);
    PQfinish(r->conn);
    r->conn = NULL;
    r->query_running = false;
}

int link_flush(struct replica *r, struct err *err)
{
    int left = PQflush(r->conn);

    if (left < 0)
        return pg_fail(err, r->conn, NULL, "Writing to Postgres");
    return left;
}

int link_send(struct replica *r, const char *sql, struct err *err)
{
    if (!PQsendQuery(r->conn, sql))
        return pg_fail(err, r->conn, NULL, "Writing to Postgres");
    r->query_running = true;
    return 0;
}

/* Until a result can be had without waiting: 0; 1 when the time is up first. */
static int wait_result(struct replica *r, int64_t until_ms, const char *doing,
                       struct err *err)
{
    while (PQisBusy(r->conn)) {
        int left = link_flush(r, err);
        short events = left > 0 ? POLLIN | POLLOUT : POLLIN;
        int rc = left < 0 ? left : link_poll(r, PQsocket(r->conn), events, until_ms, err);

        if (rc < 0)
            return rc;
        if (rc == 0 && clock_mono_ms() >= until_ms)
            return 1;
        if (rc == 1 && !PQconsumeInput(r->conn))
            return pg_fail(err, r->conn, NULL, doing);
    }
    return 0;
}

static bool is_success(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ||
           status == PGRES_COPY_BOTH || status == PGRES_EMPTY_QUERY;
}

int link_result(struct replica *r, int64_t until_ms, const char *doing, PGresult **out,
                struct err *err)
{
    PGresult *last = NULL;
    int code = 0;

    *out = NULL;
    for (;;) {
        int rc = wait_result(r, until_ms, doing, err);
        PGresult *result;

        if (rc != 0) {
            PQclear(last);
            return rc;
        }
        result = PQgetResult(r->conn);
        if (!result)
            break;
        PQclear(last);
        last = result;
        if (!is_success(result) && code == 0)
            code = pg_fail(err, r->conn, result, doing);
        if (PQresultStatus(result) == PGRES_COPY_BOTH)
            break;
    }
    r->query_running = false;
    if (code == 0 && !last)
        code = pg_fail(err, r->conn, NULL, doing);
    if (code != 0) {
        PQclear(last);
        return code;
    }
    *out = last;
    return 0;
}

int link_query(struct replica *r, const char *doing, PGresult **out, struct err *err,
               const char *format, ...)
{
    char sql[REPLICA_SQL_MAX];
    PGresult *result = NULL;
    va_list args;
    int len;
    int rc;

    va_start(args, format);
    len = vsnprintf(sql, sizeof(sql), format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(sql))
        return err_set(err, ERR_LIMIT, "%s: the statement is too long", doing);
    rc = link_send(r, sql, err);
    if (rc == 0)
        rc = link_result(r, clock_mono_ms() + REPLICA_QUERY_TIMEOUT_MS, doing, &result,
                         err);
    if (rc > 0)
        return err_set(err, ERR_RETRY, "%s: Postgres did not answer within %d s", doing,
                       REPLICA_QUERY_TIMEOUT_MS / 1000);
    if (rc == 0 && out)
        *out = result;
    else
        PQclear(result);
    return rc;
}
