/*
 * Commands that can be given up.
 *
 * libpq's blocking calls can't be interrupted, and a snapshot may wait for a lock or for
 * a slow plan while its shape goes away. So commands are sent, and answers awaited by
 * poll(2) in slices short enough to look at the owner's wish and at the deadline. Input
 * is consumed after every slice, ready or not: with TLS, bytes can wait in the library
 * while the socket has none.
 */

#include "server/snapshot/session.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"

#define POLL_SLICE_MS      50
#define ABANDON_TIMEOUT_MS 5000
#define CANCEL_WAIT_S      1

/* What an SQLSTATE means to whoever waits for the snapshot; the longest prefix wins. */
static const struct meaning {
    const char *prefix;
    int http_status;
    const char *doing; /* NULL: Postgres's words are enough */
} meanings[] = {
    {"", 500, "Unexpected error while creating snapshot"},
    {"08", 503, "Unable to create initial snapshot"},
    {"25P03", 503, "Unable to create initial snapshot"}, /* idle in transaction timeout */
    {"28", 503, "Unable to create initial snapshot"},
    {"3D", 503, "Unable to create initial snapshot"},
    {"3F000", 409, "The table changed while its snapshot was made"},
    {"40", 503, "Unable to create initial snapshot"},
    {"42501", 503, "Unable to create initial snapshot"}, /* privileges */
    {"42703", 409, "The table changed while its snapshot was made"},
    {"42883", 409, "The table changed while its snapshot was made"},
    {"42P01", 409, "The table changed while its snapshot was made"},
    {"53", 503, "Unable to create initial snapshot"},
    {"55P03", 503, "Snapshot timed out while waiting for a table lock"},
    {"57", 503, "Unable to create initial snapshot"}, /* shutdown, statement timeout */
    {"72", 503, "Unable to create initial snapshot"}, /* snapshot too old */
};

/* The same for a subset, whose query is its client's: what is wrong with it is told in Postgres's
 * own words. That the table has changed the stream will tell, or the next look at the catalog: the
 * shape goes then, and the handle with it. */
static const struct meaning subset_meanings[] = {
    {"", 500, "Unexpected error while reading a subset"},
    {"08", 503, "Unable to read the subset"},
    {"22", 400, NULL},
    {"22021", 500, "Unexpected error while reading a subset"}, /* a matter of encodings */
    {"22P05", 500, "Unexpected error while reading a subset"}, /* the same */
    {"25P03", 503, "Unable to read the subset"},
    {"28", 503, "Unable to read the subset"},
    {"3D", 503, "Unable to read the subset"},
    {"3F000", 503, "The table changed while a subset of it was read"},
    {"40", 503, "Unable to read the subset"},
    {"42501", 503, "Unable to read the subset"},
    {"42703", 503, "The table changed while a subset of it was read"},
    {"42704", 503, "The table changed while a subset of it was read"}, /* a type */
    {"42883", 400, NULL}, /* a type that has no order */
    {"42P01", 503, "The table changed while a subset of it was read"},
    {"53", 503, "Unable to read the subset"},
    {"54", 400, NULL}, /* too complex */
    {"55P03", 503, "Snapshot timed out while waiting for a table lock"},
    {"57", 503, "Unable to read the subset"},
    {"72", 503, "Unable to read the subset"},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct meaning *find_meaning(const struct session *s, const char *sqlstate)
{
    const struct meaning *table = s->subset ? subset_meanings : meanings;
    size_t count = s->subset ? COUNT(subset_meanings) : COUNT(meanings);
    const struct meaning *best = &table[0];

    for (size_t i = 1; i < count; i++) {
        size_t len = strlen(table[i].prefix);

        if (len > strlen(best->prefix) && strncmp(sqlstate, table[i].prefix, len) == 0)
            best = &table[i];
    }
    return best;
}

int session_fail(struct session *s, const PGresult *result)
{
    const char *sqlstate = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const struct meaning *meaning = find_meaning(s, sqlstate ? sqlstate : "");
    int code;

    /* A query may also be cancelled from outside, by the pool. */
    if (s->cancelled && s->cancelled(s->ctx))
        return session_check(s);
    if (!sqlstate && PQstatus(s->conn) == CONNECTION_BAD) {
        code = pg_fail(s->err, s->conn, NULL, "Database connection not available");
        s->err->http_status = 503;
        return code;
    }
    code = pg_fail(s->err, s->conn, result, meaning->doing ? meaning->doing : "");
    if (!meaning->doing) /* without the ": " */
        memmove(s->err->message, s->err->message + 2, strlen(s->err->message + 2) + 1);
    s->err->http_status = meaning->http_status;
    return code;
}

int session_check(struct session *s)
{
    if (s->cancelled && s->cancelled(s->ctx))
        return err_set(s->err, ERR_CANCELLED, "The snapshot was cancelled");
    return 0;
}

static int timed_out(struct session *s)
{
    err_set(s->err, ERR_RETRY,
            "Snapshot query took too long to return data (cancelled after %dms). Please "
            "ensure snapshot queries are using an index to avoid taking up all database "
            "connections.",
            s->timeout_ms);
    s->err->http_status = 503;
    return ERR_RETRY;
}

int session_wait(struct session *s)
{
    struct pollfd ready = {.fd = PQsocket(s->conn), .events = POLLIN};
    int64_t left_ms = s->deadline_ms - clock_mono_ms();
    int rc = session_check(s);

    if (rc != 0)
        return rc;
    if (left_ms <= 0)
        return timed_out(s);
    if (ready.fd < 0)
        return session_fail(s, NULL);
    if (poll(&ready, 1, left_ms < POLL_SLICE_MS ? (int)left_ms : POLL_SLICE_MS) < 0 &&
        errno != EINTR)
        return err_errno(s->err, ERR_IO, errno, "waiting for Postgres failed");
    if (!PQconsumeInput(s->conn))
        return session_fail(s, NULL);
    return 0;
}

int session_result(struct session *s, PGresult **out)
{
    int rc = 0;

    *out = NULL;
    while (rc == 0 && PQisBusy(s->conn))
        rc = session_wait(s);
    if (rc == 0)
        *out = PQgetResult(s->conn);
    return rc;
}

int session_send(struct session *s, const char *sql)
{
    int rc = session_check(s);

    if (rc != 0)
        return rc;
    return PQsendQuery(s->conn, sql) ? 0 : session_fail(s, NULL);
}

static bool succeeded(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

int session_finish(struct session *s, PGresult **out)
{
    PGresult *last = NULL;
    PGresult *result;
    int failure = 0;
    int rc;

    while ((rc = session_result(s, &result)) == 0 && result) {
        if (!succeeded(result) && failure == 0)
            failure = session_fail(s, result);
        PQclear(last);
        last = result;
    }
    rc = failure != 0 ? failure : rc;
    if (rc == 0 && out)
        *out = last;
    else
        PQclear(last);
    return rc;
}

int session_query(struct session *s, const char *sql, PGresult **out)
{
    int rc = session_send(s, sql);

    return rc != 0 ? rc : session_finish(s, out);
}

/* Throws rows away until the COPY's end. */
static int drain_copy(struct session *s)
{
    char *line = NULL;
    int n;

    while ((n = PQgetCopyData(s->conn, &line, 1)) >= 0) {
        int rc = n == 0 ? session_wait(s) : 0;

        if (n > 0)
            PQfreemem(line);
        if (rc != 0)
            return rc;
    }
    return n == -1 ? 0 : session_fail(s, NULL);
}

/* Reads to the end whatever was sent, also from the middle of a COPY: libpq tells of one
 * in progress as if it had just begun. */
static int drain(struct session *s)
{
    PGresult *result;
    int rc;

    while ((rc = session_result(s, &result)) == 0 && result) {
        if (PQresultStatus(result) == PGRES_COPY_OUT)
            rc = drain_copy(s);
        PQclear(result);
        if (rc != 0)
            break;
    }
    return rc;
}

static void *run_cancel(void *arg)
{
    char why[256];

    PQcancel(arg, why, sizeof(why));
    PQfreeCancel(arg);
    return NULL;
}

/* PQcancel connects and waits, for ever when Postgres or the network is stuck: it does so
 * on a thread of its own. When it fails, the answers are still read, up to the deadline.
 */
static bool cancel_begin(PGconn *conn, pthread_t *thread)
{
    PGcancel *cancel = PQgetCancel(conn);

    if (cancel && pthread_create(thread, NULL, run_cancel, cancel) == 0)
        return true;
    PQfreeCancel(cancel);
    return false;
}

/* A request that is still on its way could hit the next query of the connection, which is
 * therefore given up. */
static void cancel_end(PGconn *conn, pthread_t thread, bool answered)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CANCEL_WAIT_S;
    if (answered && pthread_timedjoin_np(thread, NULL, &until) == 0)
        return;
    pthread_detach(thread);
    if (PQsocket(conn) >= 0)
        shutdown(PQsocket(conn), SHUT_RDWR);
}

void session_abandon(struct session *s)
{
    struct err ignored = {0};
    struct session rest = {
        .conn = s->conn,
        .err = &ignored,
        .deadline_ms = clock_mono_ms() + ABANDON_TIMEOUT_MS,
    };

    if (PQtransactionStatus(s->conn) == PQTRANS_ACTIVE) {
        pthread_t thread;
        bool sent = cancel_begin(s->conn, &thread);
        int rc = drain(&rest);

        if (sent)
            cancel_end(s->conn, thread, rc == 0);
        if (rc != 0)
            return;
    }
    if (PQtransactionStatus(s->conn) == PQTRANS_INTRANS ||
        PQtransactionStatus(s->conn) == PQTRANS_INERROR)
        session_query(&rest, "ROLLBACK", NULL);
}
