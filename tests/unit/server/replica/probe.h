/* A sequencer for tests: runs a replica on a thread of its own and records what the sink
 * is told. The fields are read under `lock`, most easily by PROBE_WAIT, or after
 * probe_stop. */
#ifndef COULOMB_TESTS_REPLICA_PROBE_H
#define COULOMB_TESTS_REPLICA_PROBE_H

#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/clock.h"
#include "server/replica/replica.h"

#define PROBE_IDS_MAX 20000

struct probe {
    /* Set before probe_start. */
    const char *url;
    const char *slot;
    const char *publication;
    bool temporary_slot;
    bool manual_publishing;
    bool hold;        /* acknowledge nothing */
    int64_t frame_ms; /* a sink that takes so long for each frame */
    int frame_error;  /* what `frame` gives once, at the next Insert */
    bool reconnect;   /* at the next wake */
    bool report_soon; /* after each commit */

    pthread_mutex_t lock;
    pthread_t thread;
    int wake_fd;
    bool stop;
    bool running;
    struct replica *replica;
    struct pg_config *pg;
    struct obs *obs;

    int rc; /* of replica_run, once done */
    bool done;
    struct err err;

    unsigned attached_count;
    struct replica_attached attached;
    enum replica_state state;
    bool was_waiting;
    char detail[1024];
    unsigned lost_count;
    enum obs_stream_reason lost_reason;
    char lost_message[768];
    unsigned woken_count;
    unsigned drained_count;
    uint64_t wal_end;

    bool open;
    uint64_t commit_lsn; /* of the open transaction */
    uint64_t seen_lsn;   /* newest commit taken: older ones are repetitions */
    uint64_t flushed;
    unsigned repeated;
    int ids[PROBE_IDS_MAX]; /* first column of each committed insert, in order */
    size_t id_count;
    size_t committed;
};

/* --- The sink --- */

static inline uint64_t probe_u64(const char *bytes)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v = v << 8 | (unsigned char)bytes[i];
    return v;
}

static inline int probe_attached(void *ctx, const struct replica_attached *attached,
                                 struct err *err)
{
    struct probe *p = ctx;

    (void)err;
    pthread_mutex_lock(&p->lock);
    p->attached = *attached;
    p->attached_count++;
    p->open = false;
    p->id_count = p->committed;
    pthread_mutex_unlock(&p->lock);
    return 0;
}

/* 'I' u32 oid 'N' u16 columns 't' u32 len text */
static inline void probe_insert(struct probe *p, struct slice payload)
{
    if (p->commit_lsn <= p->seen_lsn || p->id_count == PROBE_IDS_MAX)
        return;
    ASSERT(payload.len > 13 && payload.ptr[8] == 't');
    p->ids[p->id_count++] = (int)strtol(payload.ptr + 13, NULL, 10);
}

static inline void probe_commit(struct probe *p, struct slice payload)
{
    p->open = false;
    if (p->commit_lsn <= p->seen_lsn) {
        p->repeated++;
        return;
    }
    p->seen_lsn = p->commit_lsn;
    p->committed = p->id_count;
    if (!p->hold)
        p->flushed = probe_u64(payload.ptr + 10);
    if (p->report_soon)
        replica_report_soon(p->replica);
}

static inline int probe_frame(void *ctx, struct slice payload, struct err *err)
{
    struct probe *p = ctx;
    int rc = 0;

    if (p->frame_ms > 0)
        clock_sleep_ms(p->frame_ms);
    pthread_mutex_lock(&p->lock);
    if (payload.ptr[0] == 'B') {
        p->open = true;
        p->commit_lsn = probe_u64(payload.ptr + 1);
    } else if (payload.ptr[0] == 'I' && p->frame_error != 0) {
        rc = err_set(err, p->frame_error, "the sink failed");
        p->frame_error = 0;
    } else if (payload.ptr[0] == 'I') {
        probe_insert(p, payload);
    } else if (payload.ptr[0] == 'C') {
        probe_commit(p, payload);
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

static inline void probe_wal_end(void *ctx, uint64_t lsn)
{
    struct probe *p = ctx;

    pthread_mutex_lock(&p->lock);
    p->wal_end = lsn;
    if (!p->hold && !p->open && lsn > p->flushed)
        p->flushed = lsn;
    pthread_mutex_unlock(&p->lock);
}

static inline int probe_drained(void *ctx, struct err *err)
{
    struct probe *p = ctx;

    (void)err;
    pthread_mutex_lock(&p->lock);
    p->drained_count++;
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static inline int probe_woken(void *ctx, struct err *err)
{
    struct probe *p = ctx;
    eventfd_t value;

    (void)err;
    eventfd_read(p->wake_fd, &value);
    pthread_mutex_lock(&p->lock);
    p->woken_count++;
    if (p->stop)
        replica_stop(p->replica);
    if (p->reconnect)
        replica_reconnect(p->replica);
    p->reconnect = false;
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static inline int64_t probe_deadline(void *ctx)
{
    (void)ctx;
    return INT64_MAX;
}

static inline uint64_t probe_flushed(void *ctx)
{
    const struct probe *p = ctx;

    return p->flushed;
}

static inline void probe_lost(void *ctx, enum obs_stream_reason reason,
                              const struct err *err)
{
    struct probe *p = ctx;

    pthread_mutex_lock(&p->lock);
    p->lost_count++;
    p->lost_reason = reason;
    snprintf(p->lost_message, sizeof(p->lost_message), "%s", err->message);
    p->open = false;
    p->id_count = p->committed;
    pthread_mutex_unlock(&p->lock);
}

static inline void probe_state(void *ctx, enum replica_state state, const char *detail)
{
    struct probe *p = ctx;

    pthread_mutex_lock(&p->lock);
    p->state = state;
    p->was_waiting = p->was_waiting || state == REPLICA_WAITING;
    snprintf(p->detail, sizeof(p->detail), "%s", detail);
    pthread_mutex_unlock(&p->lock);
}

/* --- Life --- */

/* name: slot and publication are called so. */
static inline void probe_init(struct probe *p, const char *url, const char *name)
{
    memset(p, 0, sizeof(*p));
    p->url = url;
    p->slot = name;
    p->publication = name;
    pthread_mutex_init(&p->lock, NULL);
    p->obs = calloc(1, sizeof(*p->obs));
    ASSERT(p->obs);
    obs_init(p->obs);
}

static inline void *probe_main(void *arg)
{
    struct probe *p = arg;
    struct err err = {.code = 0};
    int rc = replica_run(p->replica, &err);

    pthread_mutex_lock(&p->lock);
    p->rc = rc;
    p->err = err;
    p->done = true;
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* A new process, as it were: what a run leaves behind is `seen_lsn`, `flushed` and the
 * ids. */
static inline void probe_start(struct probe *p)
{
    const struct replica_sink sink = {
        .ctx = p,
        .attached = probe_attached,
        .frame = probe_frame,
        .wal_end = probe_wal_end,
        .drained = probe_drained,
        .woken = probe_woken,
        .wake_deadline_ms = probe_deadline,
        .flushed_lsn = probe_flushed,
        .lost = probe_lost,
        .state = probe_state,
    };
    const struct pg_options options = {.url = p->url};
    struct replica_config config = {
        .obs = p->obs,
        .slot = p->slot,
        .publication = p->publication,
        .temporary_slot = p->temporary_slot,
        .manual_publishing = p->manual_publishing,
    };

    if (pg_config_new(&options, &p->pg, &p->err) != 0)
        fail_msg("%s", p->err.message);
    p->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    p->stop = p->done = false;
    p->attached_count = p->lost_count = 0;
    p->state = REPLICA_CONNECTING;
    config.pg = p->pg;
    config.wake_fd = p->wake_fd;
    p->replica = replica_new(&config, &sink);
    assert_non_null(p->replica);
    assert_int_equal(pthread_create(&p->thread, NULL, probe_main, p), 0);
    p->running = true;
}

static inline void probe_wake(struct probe *p)
{
    eventfd_write(p->wake_fd, 1);
}

/* Tells it to stop, unless it has ended by itself; gives replica_run's return. */
static inline int probe_stop(struct probe *p)
{
    if (!p->running)
        return p->rc;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_mutex_unlock(&p->lock);
    probe_wake(p);
    pthread_join(p->thread, NULL);
    p->running = false;
    replica_free(p->replica);
    pg_config_free(p->pg);
    close(p->wake_fd);
    return p->rc;
}

static inline void probe_fini(struct probe *p)
{
    probe_stop(p);
    pthread_mutex_destroy(&p->lock);
    free(p->obs);
}

/* --- The other side --- */

/* Runs SQL on a session of its own; a text result is copied to out (or out NULL). */
static inline void probe_sql(const char *url, const char *sql, char *out, size_t size)
{
    PGconn *conn = PQconnectdb(url);
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    if (out)
        snprintf(out, size, "%s", PQntuples(result) ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    PQfinish(conn);
}

static inline long probe_number(const char *url, const char *sql)
{
    char text[64];

    probe_sql(url, sql, text, sizeof(text));
    return strtol(text, NULL, 10);
}

#define PROBE_TRIES 3000

/* Drops the slot, if it is there, and the publication of that name. A busy machine takes
 * its time to end the walsender of a connection that was closed. */
static inline void probe_drop_all(const char *url, const char *name)
{
    char sql[256];

    snprintf(
        sql, sizeof(sql),
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '%s' AND active",
        name);
    for (int i = 0; i < PROBE_TRIES && probe_number(url, sql) > 0; i++)
        clock_sleep_ms(10);
    snprintf(sql, sizeof(sql),
             "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE "
             "slot_name = '%s'",
             name);
    probe_sql(url, sql, NULL, 0);
    snprintf(sql, sizeof(sql), "DROP PUBLICATION IF EXISTS %s", name);
    probe_sql(url, sql, NULL, 0);
}

/* Waits up to 30 s for the condition over p's fields. */
#define PROBE_WAIT(p, condition)                                                         \
    do {                                                                                 \
        bool met_ = false;                                                               \
        for (int try_ = 0; try_ < PROBE_TRIES && !met_; try_++) {                        \
            pthread_mutex_lock(&(p)->lock);                                              \
            met_ = (condition);                                                          \
            pthread_mutex_unlock(&(p)->lock);                                            \
            if (!met_)                                                                   \
                clock_sleep_ms(10);                                                      \
        }                                                                                \
        if (!met_)                                                                       \
            fail_msg(                                                                    \
                "not within 30 s: %s (state %d, detail '%s', lost %u '%s', err '%s')",   \
                #condition, (p)->state, (p)->detail, (p)->lost_count, (p)->lost_message, \
                (p)->err.message);                                                       \
    } while (0)

#endif
