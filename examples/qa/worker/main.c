/* The answer worker: takes questions from Postgres and writes their answers into the rows that
 * wait for them, a token at a time. What follows the rows sees the answers grow.
 *
 * Problem: a worker may be killed in the middle of an answer, and there may be several. Approach:
 * all that there is to know is in the table. An answer that is not completed needs a worker; who
 * works on it holds an advisory lock on it, in a session of its own, so that Postgres lets go of
 * it when the worker or its connection dies. The next one finds how far the text got and goes on
 * from there. Notifications only save waiting: what they would tell is looked for every few
 * seconds anyway. Rejected: a column that names the worker, which would need a timeout to tell a
 * dead one from a slow one.
 *
 *     DATABASE_URL=postgresql://… qa-worker        (QA_TOKEN_MS: between two tokens, 40) */
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "answer.h"

#define ACTIVE_MAX   32 /* answers in work at a time; more wait in the table */
#define ID_SIZE      65
#define LOOK_MS      3000
#define RECONNECT_MS 1000
#define TOKEN_MS     40
#define TOKEN_MS_MAX 60000

struct answering {
    char id[ID_SIZE];
    char text[ANSWER_MAX];
    size_t said; /* bytes of the text that the row has */
};

struct worker {
    PGconn *conn;
    struct answering active[ACTIVE_MAX];
    size_t count;
    int token_ms;
};

static volatile sig_atomic_t stopping;

static void on_signal(int signal)
{
    (void)signal;
    stopping = 1;
}

static void say(const char *event, const char *id, const char *detail)
{
    printf("event=worker.%s%s%s%s%s%s\n", event, id[0] ? " id=" : "", id,
           detail[0] ? " reason=\"" : "", detail, detail[0] ? "\"" : "");
    fflush(stdout);
}

/* The first line of what libpq says, which ends with a newline. */
static const char *failure(const PGconn *conn, char *out, size_t room)
{
    snprintf(out, room, "%s", PQerrorMessage(conn));
    out[strcspn(out, "\n")] = '\0';
    return out;
}

static PGresult *run(struct worker *w, const char *sql, int count,
                     const char *const *values)
{
    PGresult *result = PQexecParams(w->conn, sql, count, NULL, values, NULL, NULL, 0);
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
        return result;
    char why[256];
    say("failed", "", failure(w->conn, why, sizeof(why)));
    PQclear(result);
    return NULL;
}

/* --- Finding work --- */

static bool is_active(const struct worker *w, const char *id)
{
    for (size_t i = 0; i < w->count; i++)
        if (strcmp(w->active[i].id, id) == 0)
            return true;
    return false;
}

/* Nobody else works on it from now on. */
static bool lock(struct worker *w, const char *id)
{
    PGresult *result =
        run(w, "SELECT pg_try_advisory_lock(hashtext('qa'), hashtext($1))", 1, &id);
    bool locked = result && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return locked;
}

static void unlock(struct worker *w, const char *id)
{
    PQclear(run(w, "SELECT pg_advisory_unlock(hashtext('qa'), hashtext($1))", 1, &id));
}

/* With the lock: another may have gone on, or finished, since the row was listed. */
static void take(struct worker *w, const char *id)
{
    if (is_active(w, id) || strlen(id) >= ID_SIZE || !lock(w, id))
        return;
    PGresult *result =
        run(w,
            "SELECT q.content, a.content FROM messages a JOIN messages q ON "
            "q.id = a.question_id WHERE a.id = $1 AND a.status <> 'completed'",
            1, &id);
    if (!result || PQntuples(result) == 0) {
        unlock(w, id);
    } else {
        struct answering *a = &w->active[w->count++];
        snprintf(a->id, sizeof(a->id), "%s", id);
        answer_generate(PQgetvalue(result, 0, 0), a->text);
        a->said = answer_said(a->text, PQgetvalue(result, 0, 1));
        say(a->said ? "resumed" : "began", id, "");
    }
    PQclear(result);
}

static void look_for_work(struct worker *w)
{
    if (w->count == ACTIVE_MAX)
        return;
    PGresult *result =
        run(w,
            "SELECT id FROM messages WHERE role = 'assistant' AND status <> 'completed' "
            "ORDER BY created_at LIMIT 256",
            0, NULL);
    for (int i = 0; result && i < PQntuples(result) && w->count < ACTIVE_MAX; i++)
        take(w, PQgetvalue(result, i, 0));
    PQclear(result);
}

/* --- Answering --- */

/* Writes one more token; true when that was the last, or the row is gone. */
static bool go_on(struct worker *w, struct answering *a)
{
    size_t end = answer_token_end(a->text, a->said);
    bool last = a->text[end] == '\0';
    char so_far[ANSWER_MAX];
    snprintf(so_far, sizeof(so_far), "%.*s", (int)end, a->text);
    const char *const values[] = {a->id, so_far, last ? "completed" : "generating"};
    PGresult *result =
        run(w,
            "UPDATE messages SET content = $2, status = $3, updated_at = now() "
            "WHERE id = $1 AND status <> 'completed'",
            3, values);
    if (!result)
        return false; /* the connection ends the session */
    bool gone = strcmp(PQcmdTuples(result), "0") == 0;
    PQclear(result);
    a->said = end;
    if (last)
        say("completed", a->id, "");
    return last || gone;
}

static void answer_all(struct worker *w)
{
    for (size_t i = 0; i < w->count && PQstatus(w->conn) == CONNECTION_OK;) {
        if (!go_on(w, &w->active[i])) {
            i++;
            continue;
        }
        unlock(w, w->active[i].id);
        w->active[i] = w->active[--w->count];
    }
}

/* --- The session --- */

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Waits for a notification, or so long. True when there was one. */
static bool wait_for_news(struct worker *w, long long timeout_ms)
{
    struct pollfd socket = {.fd = PQsocket(w->conn), .events = POLLIN};
    if (timeout_ms > 0 && poll(&socket, 1, (int)timeout_ms) < 0 && errno != EINTR)
        return false;
    PQconsumeInput(w->conn);
    bool news = false;
    for (PGnotify *told = PQnotifies(w->conn); told; told = PQnotifies(w->conn)) {
        news = true;
        PQfreemem(told);
    }
    return news;
}

/* Until the connection is lost or somebody stops the worker. */
static void work(struct worker *w)
{
    long long look_at = 0;
    long long token_at = 0;
    PQclear(run(w, "LISTEN questions", 0, NULL));
    say("ready", "", "");
    while (!stopping && PQstatus(w->conn) == CONNECTION_OK) {
        long long now = now_ms();
        if (now >= look_at) {
            look_for_work(w);
            look_at = now + LOOK_MS;
        }
        if (w->count > 0 && now >= token_at) {
            bool full = w->count == ACTIVE_MAX;
            answer_all(w);
            token_at = now + w->token_ms;
            if (full && w->count < ACTIVE_MAX)
                look_at = now; /* those that waited for a place */
        }
        long long until = w->count > 0 && token_at < look_at ? token_at : look_at;
        if (wait_for_news(w, until - now_ms()))
            look_at = 0;
    }
}

/* A peer that is gone without a word is noticed within half a minute, unless the URL has other
 * settings: the last entry of a name counts. */
static PGconn *connect_to(const char *url)
{
    static const char *const names[] = {"fallback_application_name",
                                        "keepalives_idle",
                                        "keepalives_interval",
                                        "keepalives_count",
                                        "tcp_user_timeout",
                                        "connect_timeout",
                                        "dbname",
                                        NULL};
    const char *const values[] = {"qa-worker", "10", "5", "3", "20000", "10", url, NULL};
    return PQconnectdbParams(names, values, 1);
}

static int token_ms_setting(void)
{
    const char *text = getenv("QA_TOKEN_MS");
    char *end = NULL;
    long ms = text ? strtol(text, &end, 10) : TOKEN_MS;
    if (text && (end == text || *end || ms < 0 || ms > TOKEN_MS_MAX)) {
        fprintf(stderr, "qa-worker: QA_TOKEN_MS is milliseconds, 0 to %d\n",
                TOKEN_MS_MAX);
        return -1;
    }
    return (int)ms;
}

int main(void)
{
    static struct worker w;
    const char *url = getenv("DATABASE_URL");
    w.token_ms = token_ms_setting();
    if (!url || w.token_ms < 0) {
        if (!url)
            fprintf(stderr, "qa-worker: DATABASE_URL says where the database is\n");
        return 2;
    }
    struct sigaction stop = {.sa_handler = on_signal};
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    while (!stopping) {
        char why[256];
        w.conn = connect_to(url);
        w.count = 0;
        if (PQstatus(w.conn) == CONNECTION_OK)
            work(&w);
        else
            say("not_connected", "", failure(w.conn, why, sizeof(why)));
        PQfinish(w.conn);
        if (!stopping)
            poll(NULL, 0, RECONNECT_MS);
    }
    say("stopped", "", "");
    return 0;
}
