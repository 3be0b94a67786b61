/* As of when what is served is known to be all there was.
 *
 * Problem: the stream can't tell. Its keepalives name the position that the WAL sender has
 * read, not the end of the WAL, so one that is hours behind looks like one that has nothing
 * to say; and a connection that is gone says nothing at all. Approach: every second the
 * database is asked, on a connection of the pool, how far its WAL is. Once everything up to
 * there is published, what is served was complete when the question was asked. In between,
 * and while a backlog is read, a published commit's own time is a second witness, put on our
 * clock by the difference that was seen at connect. The lag is the time since; it grows
 * while either witness is missing.
 *
 *   ask (at t) ─▶ WAL is at P ─▶ published reaches P ─▶ fresh as of t
 *
 * Rejected: the age of the last commit (an idle database would seem to lag), and the last
 * keepalive (see above). */
#include "base/clock.h"
#include "server/shape/internal.h"

#define PROBE_PERIOD_MS 1000

uint64_t fresh_published_lsn(const struct sequencer *q)
{
    bool between = !q->txn_open && !q->unpublished && list_empty(&q->committed);
    return between && q->wal_end > q->published_end ? q->wal_end : q->published_end;
}

static void fresh_as_of(struct sequencer *q, int64_t ms)
{
    if (ms > atomic_load(&q->shapes.fresh_ms))
        atomic_store(&q->shapes.fresh_ms, ms);
}

void fresh_published(struct sequencer *q)
{
    int64_t age_us = clock_wall_us() + q->clock_ahead_us - q->processed_commit_us;
    fresh_as_of(q, clock_mono_ms() - (age_us > 0 ? age_us / 1000 : 0));
}

void fresh_look(struct sequencer *q)
{
    if (q->awaited_ms == 0 || fresh_published_lsn(q) < q->awaited_lsn)
        return;
    fresh_as_of(q, q->awaited_ms);
    q->awaited_ms = 0;
}

static void probe_run(void *ctx, PGconn *conn, const struct err *why)
{
    struct mail_probed *m = ctx;
    PGresult *r = NULL;
    err_clear(&m->err);
    m->asked_ms = clock_mono_ms();
    m->wal_lsn = 0;
    if (conn == NULL)
        m->err = *why;
    else if (pg_exec(conn, "SELECT pg_current_wal_flush_lsn() - '0/0'", &r, &m->err) == 0)
        slice_to_u64(slice_of(PQgetvalue(r, 0, 0)), &m->wal_lsn);
    PQclear(r);
    m->mail.kind = MAIL_PROBED;
    mailbox_send(&m->q->mailbox, &m->mail, true);
}

void fresh_probe_if_due(struct sequencer *q, int64_t now_ms)
{
    if (q->probe_running || now_ms < q->next_probe_ms)
        return;
    q->next_probe_ms = now_ms + PROBE_PERIOD_MS;
    q->probe.q = q;
    q->probe_running = pool_submit(q->config.admin_pool, probe_run, &q->probe) == 0;
}

void fresh_probed(struct sequencer *q, const struct mail_probed *m)
{
    uint64_t published = fresh_published_lsn(q);
    q->probe_running = false;
    shapes_set_refusal(&q->shapes, m->wal_lsn == 0 ? m->err.message : "");
    if (m->wal_lsn == 0)
        return;
    atomic_store(&q->shapes.asked_ms, clock_mono_ms());
    obs_set(q->config.obs, OBS_G_LAG_BYTES,
            m->wal_lsn > published ? (int64_t)(m->wal_lsn - published) : 0);
    if (q->awaited_ms != 0) /* the older question is answered first */
        return;
    q->awaited_lsn = m->wal_lsn;
    q->awaited_ms = m->asked_ms;
    fresh_look(q);
}
