/* Whether the stored logs are of the database that the stream comes from.
 *
 * A log may go on only where its past is the stream's past:
 *
 *   another cluster, database or slot          everything rotates
 *   a slot made anew                           everything rotates: it misses what was between
 *   slot acknowledged beyond the storage       the storage is an old copy: everything rotates
 *   storage beyond the end of the WAL          the database is an old copy: everything rotates
 *   a snapshot beyond it                       seen before a crash that lost it: it goes
 *   a later timeline that left ours at S       handles survive iff nothing we have seen lies
 *                                              at or after S
 *   a commit that the slot must send again     the database is an old copy that went on
 *   is not where it was                        differently: everything rotates
 *
 * The last needs no position of the database's: offsets are a function of the WAL, so the
 * newest commit of any log comes again at its place whenever the slot stands before it.
 *
 * A commit's place is where its record begins; the other positions are ends. So a commit
 * at S itself is not part of the new timeline, while an end at S is. */
#include <stdio.h>

#include "server/shape/internal.h"

/* Positions and transaction ids of before say nothing about what comes now. A checkpoint
 * that runs may still tell one of those. */
static void forget_positions(struct sequencer *q)
{
    q->processed_lsn = q->processed_end = q->published_end = 0;
    q->wal_end = q->durable_lsn = 0;
    q->repeat_lsn = 0;
    atomic_store(&q->shapes.last_lsn, 0);
    atomic_store(&q->shapes.seen_lsn, 0);
    memset(q->recent, 0, RECENT_XIDS * sizeof *q->recent);
    q->txn_ordinal = 0;
    q->checkpoint_stale = q->checkpoint_running;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The end of what the stream told, in this run or an earlier one. */
static uint64_t streamed_end(const struct sequencer *q)
{
    return later(q->durable_lsn, later(q->processed_end, q->wal_end));
}

/* The end of what any snapshot may hold. */
static uint64_t seen_end(const struct sequencer *q)
{
    uint64_t end = 0;
    size_t it = 0;
    void *value;
    while (map_next(&q->shapes.by_handle, &it, NULL, &value)) {
        const struct shape *shape = value;
        if (shape->phase == JOIN_JOINED)
            end = later(end, shape->view.wal_lsn);
    }
    return end;
}

/* Whether the server's timeline goes on from all that was had of the other. */
static bool goes_on(struct sequencer *q, uint32_t was,
                    const struct sequencer_attach *attach)
{
    for (size_t i = 0; i < attach->switch_count; i++) {
        uint64_t end = attach->switches[i].lsn;
        if (attach->switches[i].timeline == was)
            return streamed_end(q) <= end && seen_end(q) <= end &&
                   shapelog_visible_lsn(q->shapelog) < end;
    }
    return false;
}

/* What speaks against going on with the logs; *detail NULL: nothing. */
static enum obs_shape_reason judge(struct sequencer *q,
                                   const struct sequencer_attach *attach,
                                   const struct shapelog_origin *was,
                                   const struct shapelog_origin *now, const char **detail)
{
    enum obs_shape_reason reason = OBS_SHAPE_CLUSTER;
    *detail = NULL;
    if (strcmp(was->system_id, now->system_id) != 0 ||
        strcmp(was->database, now->database) != 0 || strcmp(was->slot, now->slot) != 0) {
        *detail = "the database is not the one of the stored logs";
    } else if (attach->slot_created) {
        reason = OBS_SHAPE_SLOT;
        *detail = "the replication slot is new";
    } else if (was->timeline != now->timeline && !goes_on(q, was->timeline, attach)) {
        *detail = "the database's timeline does not go on from what was read";
    } else if (attach->confirmed_lsn > q->durable_lsn + 1) { /* +1: as it is reported */
        reason = OBS_SHAPE_BEHIND;
        *detail = "the storage is an old copy, or was damaged";
    } else if (streamed_end(q) > attach->wal_flush_lsn) {
        reason = OBS_SHAPE_AHEAD;
        *detail = "the database was restored from an older copy, or has lost WAL";
    }
    return reason;
}

static int rotate(struct sequencer *q, enum obs_shape_reason reason, const char *detail,
                  const struct shapelog_origin *now, struct err *err)
{
    log_event(q->config.log, LOG_WARNING, "origin.differs",
              LOG_TEXT("reason", obs_shape_reason_name(reason)),
              LOG_TEXT("detail", detail));
    sequencer_drop_everything(q, reason, detail);
    forget_positions(q);
    return shapelog_origin_set(q->shapelog, now, err);
}

/* A snapshot is taken at the end of what was inserted into the WAL; a crash may lose what
 * was not flushed of it. */
static void drop_unfounded(struct sequencer *q, uint64_t wal_insert_lsn)
{
    size_t it = 0;
    void *value;
    while (map_next(&q->shapes.by_handle, &it, NULL, &value)) {
        struct shape *shape = value;
        if (shape->phase != JOIN_JOINED || shape->view.wal_lsn <= wal_insert_lsn)
            continue;
        sequencer_drop(q, shape, OBS_SHAPE_AHEAD, NULL,
                       "its snapshot saw WAL that the database has lost");
        it = 0; /* the map has changed */
    }
    sequencer_release_dropped(q);
}

/* The newest commit of any log, if the slot stands before it. A slot that was in use may
 * have moved since its position was read. */
static uint64_t commit_to_repeat(const struct sequencer *q,
                                 const struct sequencer_attach *attach)
{
    uint64_t newest = 0;
    size_t it = 0;
    void *value;
    while (map_next(&q->shapes.by_handle, &it, NULL, &value)) {
        const struct shape *shape = value;
        if (shape->phase == JOIN_JOINED)
            newest = later(newest, shapelog_committed(shape->log).tx);
    }
    return attach->slot_idle && newest >= attach->confirmed_lsn ? newest : 0;
}

struct shapelog_origin origin_of(const struct sequencer *q,
                                 const struct sequencer_attach *attach)
{
    struct shapelog_origin origin = {.timeline = attach->timeline};
    snprintf(origin.system_id, sizeof origin.system_id, "%s", attach->system_id);
    snprintf(origin.database, sizeof origin.database, "%s", q->config.database);
    snprintf(origin.slot, sizeof origin.slot, "%s", q->config.slot);
    return origin;
}

int origin_check(struct sequencer *q, const struct sequencer_attach *attach,
                 struct err *err)
{
    struct shapelog_origin now = origin_of(q, attach), was;
    const char *against = NULL;
    int rc = 0;
    if (shapelog_origin_get(q->shapelog, &was) != 0) {
        was = now;
        against = "where the logs are from is unknown";
        sequencer_drop_everything(q, OBS_SHAPE_CLUSTER, against);
        rc = shapelog_origin_set(q->shapelog, &now, err);
    } else {
        enum obs_shape_reason reason = judge(q, attach, &was, &now, &against);
        if (against != NULL)
            rc = rotate(q, reason, against, &now, err);
        else if (was.timeline != now.timeline)
            rc = shapelog_origin_follow(q->shapelog, now.timeline, err);
        else /* a machine that fell may have shown as much as this timeline has, no more */
            shapelog_visible_bound(q->shapelog,
                                   later(attach->wal_flush_lsn, attach->wal_insert_lsn));
    }
    if (rc < 0)
        return rc;
    if (against == NULL && was.timeline != now.timeline)
        log_event(q->config.log, LOG_INFO, "origin.followed",
                  LOG_U64("from_timeline", was.timeline),
                  LOG_U64("timeline", now.timeline));
    /* What is acknowledged already is no concern of any shape that is left. */
    q->confirmed_lsn = attach->confirmed_lsn;
    q->durable_lsn = later(q->durable_lsn, q->confirmed_lsn);
    drop_unfounded(q, attach->wal_insert_lsn);
    q->repeat_lsn = commit_to_repeat(q, attach);
    return 0;
}

int origin_repeated(struct sequencer *q, uint64_t lsn, struct err *err)
{
    struct shapelog_origin origin;
    uint64_t wanted = q->repeat_lsn;
    if (wanted == 0 || lsn < wanted)
        return 0;
    q->repeat_lsn = 0;
    if (lsn == wanted)
        return 0;
    int rc = shapelog_origin_get(q->shapelog, &origin);
    if (rc == 0)
        rc = rotate(q, OBS_SHAPE_AHEAD,
                    "a commit that was read before is not in the database's WAL", &origin,
                    err);
    q->durable_lsn = q->confirmed_lsn;
    return rc < 0 ? rc
                  : err_set(err, ERR_RETRY,
                            "the database was restored from an older copy: all shapes "
                            "begin anew");
}
