/* Joining a snapshot to the stream (shape-protocol.md 5.4).
 *
 * The worker that takes a snapshot first subscribes the shape, then takes the snapshot,
 * then tells its view. In between, a round trip to Postgres, the shape's changes are kept
 * here:
 *
 *   record := xid (4) lsn (8) op (8) length (4) json
 *
 * A length from JOIN_MARK_FIRST up has no json: it marks what would remove the shape.
 *
 * When the view is known each kept transaction is dropped (the snapshot holds it) or
 * appended.
 *
 * A transaction is decoded from the WAL before it becomes visible to snapshots: a moment,
 * or long under synchronous replication. So the view may lack a transaction that had
 * passed before the shape subscribed, which would then be in neither. Transactions begun
 * in the stream are remembered by xid; if one from before the subscription is not
 * visible, the snapshot is taken again. The same goes for the one that is passing at the
 * subscription, whose beginning was missed: it counts as begun before. */
#include <stdlib.h>

#include "server/shape/internal.h"

#define JOIN_BUFFER_MAX (16u << 20)
#define RECORD_HEADER   24u

int join_ask(struct sequencer *q, enum mail_kind kind, struct shape *shape,
             const struct snapshot_view *view, struct err *err)
{
    struct mail_join m = {.mail.kind = (int)kind, .shape = shape, .view = view};
    pthread_mutex_init(&m.lock, NULL);
    pthread_cond_init(&m.answered, NULL);
    int rc = mailbox_send(&q->mailbox, &m.mail, true);
    if (rc < 0) {
        err_set(&m.err, ERR_CANCELLED, "the server is stopping");
    } else {
        pthread_mutex_lock(&m.lock);
        while (!m.done)
            pthread_cond_wait(&m.answered, &m.lock);
        pthread_mutex_unlock(&m.lock);
    }
    pthread_cond_destroy(&m.answered);
    pthread_mutex_destroy(&m.lock);
    if (m.err.code < 0 && err != NULL)
        *err = m.err;
    return m.err.code;
}

void join_answer(struct mail_join *mail, int code, const char *why)
{
    pthread_mutex_lock(&mail->lock);
    if (code < 0)
        err_set(&mail->err, code, "%s", why);
    mail->done = true;
    pthread_cond_signal(&mail->answered);
    pthread_mutex_unlock(&mail->lock);
}

void join_subscribe(struct sequencer *q, struct mail_join *mail)
{
    struct shape *shape = mail->shape;
    if (shape_state(shape) == SHAPE_GONE) {
        join_answer(mail, ERR_CANCELLED, "the shape was removed");
        return;
    }
    shape->phase = JOIN_BUFFERING;
    shape->join_broken = false;
    shape->subscribe_ordinal = q->txn_ordinal;
    buf_reset(&shape->join_buffer, 0);
    join_answer(mail, 0, "");
}

static int join_buffer_record(struct sequencer *q, struct shape *shape, uint64_t op,
                              uint32_t length, struct slice json)
{
    if (shape->join_broken)
        return 0;
    struct buf *b = &shape->join_buffer;
    buf_put_le32(b, q->txn_xid);
    buf_put_le64(b, q->txn_lsn);
    buf_put_le64(b, op);
    buf_put_le32(b, length);
    buf_put_slice(b, json);
    if (b->failed != 0) { /* too much came within a round trip: take the snapshot again */
        shape->join_broken = true;
        buf_reset(b, 0);
    }
    return 0;
}

int join_buffer_put(struct sequencer *q, struct shape *shape, uint64_t op,
                    struct slice json)
{
    return join_buffer_record(q, shape, op, (uint32_t)json.len, json);
}

void join_buffer_mark(struct sequencer *q, struct shape *shape, uint32_t mark)
{
    join_buffer_record(q, shape, 0, mark, (struct slice){"", 0});
}

enum obs_shape_reason join_mark_reason(uint32_t mark)
{
    if (mark == JOIN_MARK_TRUNCATE)
        return OBS_SHAPE_TRUNCATE;
    if (mark == JOIN_MARK_CLAUSE)
        return OBS_SHAPE_CLAUSE;
    return mark == JOIN_MARK_SCHEMA ? OBS_SHAPE_SCHEMA : OBS_SHAPE_IDENTITY;
}

static uint64_t le(const char *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)(unsigned char)p[i] << (8 * i);
    return v;
}

static bool is_passed(const struct sequencer *q, uint32_t xid, uint64_t ordinal,
                      uint64_t lsn)
{
    const struct recent_xid *r = &q->recent[xid % RECENT_XIDS];
    return r->ordinal != 0 && r->xid == xid && r->ordinal <= ordinal && r->lsn < lsn;
}

bool join_sees_passed(const struct sequencer *q, const struct snapshot_view *view,
                      uint64_t ordinal, uint64_t lsn)
{
    if (q->txn_ordinal == 0 || ordinal == 0)
        return true;
    for (size_t i = 0; i < view->xip_count; i++) {
        if (is_passed(q, (uint32_t)view->xip[i], ordinal, lsn))
            return false;
    }
    uint32_t ahead = q->newest_xid - (uint32_t)view->xmax; /* modulo 2^32 */
    if (ahead >= RECENT_XIDS)
        return true;
    for (uint32_t i = 0; i <= ahead; i++) {
        if (is_passed(q, (uint32_t)view->xmax + i, ordinal, lsn))
            return false;
    }
    return true;
}

/* A subset's rows. Its client reads on in the log from where it is, or from the end of what had
 * been shown when it asked: all up to there has been passed, and must be in the rows, since it
 * does not come again. What committed before the view's LSN and is not in the view is on its way
 * to be seen; what committed later can't be, and comes through the log. */
void join_sees(struct sequencer *q, struct mail_join *mail)
{
    if (!join_sees_passed(q, mail->view, UINT64_MAX, mail->view->wal_lsn)) {
        join_answer(mail, ERR_RETRY, "the stream has passed the snapshot");
        return;
    }
    if (q->shapelog != NULL) /* the rows may hold commits that no log has shown yet */
        shapelog_visible_raise(q->shapelog, mail->view->wal_lsn);
    join_answer(mail, 0, "");
}

static int view_copy(struct snapshot_view *to, const struct snapshot_view *from)
{
    snapshot_view_fini(to);
    *to = *from;
    to->xip = calloc(from->xip_count + 1, sizeof *to->xip);
    if (to->xip == NULL) {
        to->xip_count = 0;
        return ERR_MEMORY;
    }
    if (from->xip_count > 0)
        memcpy(to->xip, from->xip, from->xip_count * sizeof *to->xip);
    return 0;
}

/* Shows what was kept, before the worker hears that it may go on: a checkpoint under way
 * may find the snapshot complete and record the shape, with an LSN behind these entries.
 */
static int join_show(struct sequencer *q, struct shape *shape, bool open_kept)
{
    struct err err = {0};
    if (!open_kept)
        shapelog_commit(shape->log);
    shapelog_publish(shape->log);
    q->unsaved = true;
    return sequencer_show(q, &err);
}

/* One kept record becomes an entry. */
static int join_append(struct sequencer *q, struct shape *shape, uint64_t lsn,
                       uint64_t op, struct slice json)
{
    struct shapelog_variant variant;
    struct err err = {0};
    int rc = shapelog_spill(q->shapelog, &err);
    if (rc == 0)
        rc = shapelog_stage(q->shapelog, json, &variant, &err);
    if (rc == 0)
        rc = shapelog_append(shape->log, lsn, op, variant, &err);
    if (rc == ERR_INVALID || rc == ERR_LIMIT)
        sequencer_drop(q, shape, OBS_SHAPE_STORAGE, NULL, err.message);
    else if (rc < 0)
        sequencer_storage_failed(q, &err, NULL);
    return rc;
}

/* Walks the kept records. 0, or negative when the shape was dropped. */
static int join_replay(struct sequencer *q, struct shape *shape)
{
    struct slice rest = buf_slice(&shape->join_buffer);
    uint64_t lsn = 0;
    while (rest.len >= RECORD_HEADER) {
        uint32_t xid = (uint32_t)le(rest.ptr, 4);
        uint64_t record_lsn = le(rest.ptr + 4, 8);
        uint64_t op = le(rest.ptr + 12, 8);
        uint32_t length = (uint32_t)le(rest.ptr + 20, 4);
        size_t body = length >= JOIN_MARK_FIRST ? 0 : length;
        struct slice json = slice_make(rest.ptr + RECORD_HEADER, body);
        rest = slice_make(json.ptr + body, rest.len - RECORD_HEADER - body);
        if (apply_decide(q, shape, record_lsn, xid) == TXN_SKIP)
            continue;
        if (length >= JOIN_MARK_FIRST) {
            sequencer_drop(q, shape, join_mark_reason(length), NULL,
                           "while its snapshot began");
            return ERR_CANCELLED;
        }
        /* apply_decide compares with what is committed, so a transaction is committed
         * only when the next one begins. */
        if (lsn != 0 && lsn != record_lsn)
            shapelog_commit(shape->log);
        lsn = record_lsn;
        int rc = join_append(q, shape, record_lsn, op, json);
        if (rc < 0)
            return rc;
    }
    /* A replay of a transaction that is kept here whole will be ignored: it is over. */
    bool open_kept = q->txn_open && !q->txn_replayed && lsn == q->txn_lsn;
    if (lsn != 0 && join_show(q, shape, open_kept) < 0)
        return ERR_IO;
    /* Decided anew, not by what is kept: what came of it so far may have left nothing
     * (updates of other columns). One without a change yet is decided at its first. */
    if (q->txn_open && shape->txn_serial == q->txn_serial &&
        shape->txn_mode == TXN_BUFFER) {
        enum txn_mode mode = apply_decide(q, shape, q->txn_lsn, q->txn_xid);
        apply_note_joined(q, shape, mode == TXN_APPEND);
    }
    return 0;
}

void join_join(struct sequencer *q, struct mail_join *mail)
{
    struct shape *shape = mail->shape;
    if (shape_state(shape) == SHAPE_GONE) {
        join_answer(mail, ERR_CANCELLED, "the shape was removed");
        return;
    }
    if (shape->join_broken ||
        !join_sees_passed(q, mail->view, shape->subscribe_ordinal, UINT64_MAX)) {
        shape->phase = JOIN_UNSUBSCRIBED;
        buf_reset(&shape->join_buffer, 0);
        join_answer(mail, ERR_RETRY, "the stream has passed the snapshot");
        return;
    }
    if (view_copy(&shape->view, mail->view) < 0) {
        join_answer(mail, ERR_MEMORY, "no memory for a snapshot's view");
        return;
    }
    shape->phase = JOIN_JOINED;
    int rc = join_replay(q, shape);
    buf_reset(&shape->join_buffer, 0);
    /* The rows may hold commits that no log has shown yet. */
    shapelog_visible_raise(q->shapelog, mail->view->wal_lsn);
    if (rc < 0 && shape_state(shape) != SHAPE_GONE) {
        struct err busy = {0};
        err_set(&busy, ERR_RETRY, "The storage can't be written to just now");
        busy.http_status = 503;
        sequencer_drop(q, shape, OBS_SHAPE_STORAGE, &busy, err_name(rc));
    }
    if (rc < 0) {
        join_answer(mail, ERR_CANCELLED, "the shape was removed");
        return;
    }
    atomic_store(&shape->state, SHAPE_READING);
    join_answer(mail, 0, "");
    shape_notify(shape);
}

/* What is not shown comes again: what was kept would be there twice. */
void join_abandon(struct shape *shape)
{
    if (shape->phase == JOIN_BUFFERING) {
        shape->join_broken = true;
        buf_reset(&shape->join_buffer, 0);
    }
}
