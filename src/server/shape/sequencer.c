/* The sequencer: the thread that owns all shape state.
 *
 * It works in turns that the replication loop gives it: txn's sink while frames come
 * (apply.c), `drained` when the socket is empty (publish, wake readers, ask for a
 * checkpoint), `woken` for its mail and its deadlines.
 *
 * What may be acknowledged (design idea 1): a checkpoint records the end of the last
 * processed transaction once all that was published is on disk; that is the durable LSN.
 * When nothing is unsaved and no transaction is open, everything that came is done with,
 * so the server's own end of WAL may be acknowledged and an idle database's WAL does not
 * pile up. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "server/shape/internal.h"

#define MAILBOX_MAX         65536
#define CHECKPOINT_PAUSE_MS 20
#define CHECKPOINT_RETRY_MS 1000
#define CHECKPOINT_IDLE_MS  1000 /* when only the end of WAL has moved */
#define STOP_GRACE_MS       300
#define STORAGE_PATIENCE_MS 3000 /* with a predecessor that has lost the stream */
#define BACKLOG_PUBLISH_MS  5
#define TEND_US             1000 /* of each turn, for logs that are to be rewritten */
#define ENCODED_MAX         (1u << 30) /* Postgres's own limit of a value */

/* --- Storage --- */

/* What a checkpoint came to. There is one at a time, and its mail was there before it: one
 * that could not tell would be the last. */
static void on_durable(void *ctx, uint64_t lsn)
{
    struct sequencer *q = ctx;
    q->checkpoint_mail = (struct mail_durable){.mail.kind = MAIL_DURABLE, .lsn = lsn};
    mailbox_send(&q->mailbox, &q->checkpoint_mail.mail, true);
}

static void on_checkpoint_failed(void *ctx, const struct err *err)
{
    struct sequencer *q = ctx;
    q->checkpoint_mail =
        (struct mail_durable){.mail.kind = MAIL_CHECKPOINT_FAILED, .err = *err};
    mailbox_send(&q->mailbox, &q->checkpoint_mail.mail, true);
}

static bool on_corrupt(void *ctx, struct shapelog_shape *log)
{
    struct sequencer *q = ctx;
    struct mail_shape *m = calloc(1, sizeof *m);
    if (m == NULL)
        return false;
    m->mail.kind = MAIL_CORRUPT;
    snprintf(m->handle, sizeof m->handle, "%s", shapelog_handle(log));
    if (mailbox_send(&q->mailbox, &m->mail, true) == 0)
        return true;
    free(m);
    return false;
}

/* take_over: the storage may be taken from a process that has lost this stream. */
static int open_storage(struct sequencer *q, const struct shapelog_origin *take_over,
                        struct err *err)
{
    struct shapelog_config config = q->config.shapelog;
    config.take_over = take_over;
    config.ctx = q;
    config.durable = on_durable;
    config.failed = on_checkpoint_failed;
    config.corrupt = on_corrupt;
    int rc = shapelog_open(&config, &q->shapelog, err);
    if (rc < 0)
        return rc;
    q->durable_lsn = shapelog_durable_lsn(q->shapelog);
    return sequencer_restore(q, err);
}

/* --- Life --- */

static int sequencer_allocate(struct sequencer *q)
{
    q->route = route_new();
    q->recent = calloc(RECENT_XIDS, sizeof *q->recent);
    q->row_scratch[0] = calloc(DECODE_COLUMNS_MAX, sizeof(struct value));
    q->row_scratch[1] = calloc(DECODE_COLUMNS_MAX, sizeof(struct value));
    bool whole = q->route && q->recent && q->row_scratch[0] && q->row_scratch[1];
    return whole ? 0 : ERR_MEMORY;
}

int sequencer_new(const struct sequencer_config *config, struct sequencer **out,
                  struct err *err)
{
    *out = NULL;
    struct sequencer *q = calloc(1, sizeof *q);
    if (q == NULL)
        return err_set(err, ERR_MEMORY, "no memory for the sequencer");
    q->config = *config;
    q->mailbox.fd = -1;
    q->stop_mail.kind = MAIL_STOP;
    q->stop_deadline_ms = INT64_MAX;
    q->next_reconcile_ms = INT64_MAX;
    list_init(&q->touched);
    list_init(&q->committed);
    list_init(&q->dropped);
    list_init(&q->idle_tables);
    variants_init(&q->variants);
    map_init(&q->tables);
    map_init(&q->arrivals);
    map_init(&q->misfits);
    map_init(&q->settled);
    buf_init(&q->encoded, ENCODED_MAX);
    shapes_init(&q->shapes, q, config->obs);
    int rc = mailbox_init(&q->mailbox, MAILBOX_MAX);
    if (rc < 0)
        err_set(err, rc, "no descriptor for the sequencer's mailbox");
    else if ((rc = sequencer_allocate(q)) < 0)
        err_set(err, rc, "no memory for the sequencer");
    else
        rc = open_storage(q, NULL, err);
    if (rc < 0 && rc != ERR_EXISTS) {
        sequencer_free(q);
        return rc;
    }
    *out = q;
    return 0;
}

/* What the storage still had to say when nobody listened any more. */
static void drop_last_mail(struct sequencer *q)
{
    if (q->mailbox.fd < 0)
        return;
    mailbox_close(&q->mailbox);
    struct mail *mail = mailbox_take(&q->mailbox);
    while (mail != NULL) {
        struct mail *next = mail->next;
        if (mail->kind == MAIL_CORRUPT)
            free(LIST_ENTRY(mail, struct mail_shape, mail));
        else if (mail->kind == MAIL_SUSPECT)
            free(mail);
        mail = next;
    }
}

void sequencer_free(struct sequencer *q)
{
    if (q == NULL)
        return;
    q->txn_open = false;
    size_t it = 0;
    void *value;
    while (map_next(&q->shapes.by_handle, &it, NULL, &value)) {
        struct shape *shape = value;
        sequencer_unlink(q, shape);
        list_remove(&shape->in_touched);
        list_remove(&shape->in_committed);
        variants_leave(&q->variants, shape->class, shape->def);
        shape_release(shape);
    }
    sequencer_release_dropped(q);
    tables_fini(q); /* with the last references to shapes */
    if (q->shapelog != NULL)
        shapelog_close(q->shapelog);
    drop_last_mail(q);
    route_free(q->route);
    case_map_release(q->case_map);
    variants_fini(&q->variants);
    map_fini(&q->arrivals);
    map_fini(&q->misfits);
    map_fini(&q->settled);
    shapes_fini(&q->shapes);
    if (q->mailbox.fd >= 0)
        mailbox_fini(&q->mailbox);
    buf_fini(&q->encoded);
    free(q->recent);
    free(q->row_scratch[0]);
    free(q->row_scratch[1]);
    free(q->scratch);
    free(q);
}

void sequencer_set_stream(struct sequencer *q, const struct sequencer_stream *stream)
{
    q->stream = *stream;
}

struct shapes *sequencer_shapes(struct sequencer *q)
{
    return &q->shapes;
}

int sequencer_wake_fd(const struct sequencer *q)
{
    return q->mailbox.fd;
}

void sequencer_request_stop(struct sequencer *q)
{
    if (!atomic_exchange(&q->stop_requested, true))
        mailbox_send(&q->mailbox, &q->stop_mail, true);
}

/* --- The connection's states --- */

/* The stream's lock is ours. A predecessor that has the storage open still is given some time to
 * go; then it is taken from it: that one has lost the stream, and its epoch is over. */
static int take_storage(struct sequencer *q, const struct sequencer_attach *attach,
                        struct err *err)
{
    struct shapelog_origin origin = origin_of(q, attach);
    int64_t now_ms = clock_mono_ms();
    if (q->storage_busy_ms == 0)
        q->storage_busy_ms = now_ms;
    bool patient = now_ms - q->storage_busy_ms < STORAGE_PATIENCE_MS;
    struct err why = {0};
    int rc = open_storage(q, patient ? NULL : &origin, &why);
    if (rc == ERR_EXISTS)
        return err_set(err, ERR_RETRY, "%s", why.message);
    if (rc < 0) {
        /* A full disk, or a lack of descriptors or memory, may pass. But what is open already and
         * half restored can't be opened again. */
        bool passing = q->shapelog == NULL && (rc == ERR_IO || rc == ERR_MEMORY);
        return err_set(err, passing ? ERR_RETRY : ERR_FATAL,
                       "the storage can't be opened: %s", why.message);
    }
    if (!patient)
        log_event(q->config.log, LOG_WARNING, "storage.taken_over",
                  LOG_TEXT("dir", q->config.shapelog.dir));
    q->storage_busy_ms = 0;
    return 0;
}

int sequencer_attached(struct sequencer *q, const struct sequencer_attach *attach,
                       struct err *err)
{
    ASSERT(!q->txn_open);
    int rc = q->shapelog == NULL ? take_storage(q, attach, err) : 0;
    if (rc == 0)
        rc = origin_check(q, attach, err);
    if (rc < 0)
        return rc;
    q->catch_up_lsn = attach->wal_flush_lsn;
    q->clock_ahead_us = attach->clock_ahead_us;
    return 0;
}

void sequencer_lost(struct sequencer *q, const char *why)
{
    apply_roll_back(q);
    q->storage.code = 0;
    q->unsaved = q->shapelog != NULL; /* is the storage still ours? A checkpoint tells. */
    atomic_store(&q->shapes.caught_up, false);
    if (shapes_contact(&q->shapes) == SHAPES_CONTACT_NONE)
        atomic_store(&q->shapes.contact, SHAPES_CONTACT_FAILED);
    shapes_set_service(&q->shapes, SHAPES_STARTING, why);
}

void sequencer_reached(struct sequencer *q)
{
    atomic_store(&q->shapes.contact, SHAPES_CONTACT_MADE);
}

void sequencer_waiting(struct sequencer *q, enum shapes_service service,
                       const char *detail)
{
    shapes_set_service(&q->shapes, service, detail);
}

void sequencer_streaming(struct sequencer *q)
{
    q->next_reconcile_ms = 0; /* tables may have changed while nobody watched */
    q->next_probe_ms = 0;
    q->awaited_ms = 0;
    atomic_store(&q->shapes.heard_ms, clock_mono_ms());
    atomic_store(&q->shapes.asked_ms, 0);
    shapes_set_service(&q->shapes, SHAPES_ACTIVE, "");
}

/* Who wrote waits for this, also when the transaction was none of a shape's: between transactions it is
 * where the stream has read to. While the slot repeats what it sent before it stands still. */
static void note_seen(struct sequencer *q)
{
    uint64_t lsn = fresh_published_lsn(q);
    uint64_t last = atomic_load(&q->shapes.last_lsn);

    lsn = lsn > last ? lsn : last;
    if (lsn > atomic_load(&q->shapes.seen_lsn))
        atomic_store(&q->shapes.seen_lsn, lsn);
}

static void note_caught_up(struct sequencer *q)
{
    if (atomic_load(&q->shapes.caught_up))
        return;
    uint64_t reached = q->processed_end > q->wal_end ? q->processed_end : q->wal_end;
    bool reading = reached < q->catch_up_lsn;
    uint64_t from = reached > q->confirmed_lsn ? reached : q->confirmed_lsn;
    atomic_store(&q->shapes.backlog_bytes,
                 q->catch_up_lsn > from ? q->catch_up_lsn - from : 0);
    if (reading || q->unpublished)
        return;
    if (!q->txn_open && origin_repeated(q, UINT64_MAX, NULL) < 0) {
        q->stream.reconnect(q->stream.ctx);
        return;
    }
    atomic_store(&q->shapes.caught_up, true);
    shapes_notify_all(&q->shapes);
}

void sequencer_wal_end(struct sequencer *q, uint64_t lsn)
{
    if (lsn > q->wal_end)
        q->wal_end = lsn;
    note_seen(q);
}

/* --- Publication and checkpoints --- */

int sequencer_storage_failed(struct sequencer *q, const struct err *why, struct err *err)
{
    log_event(q->config.log, LOG_ERROR, "storage.failed",
              LOG_TEXT("error", why->message));
    apply_roll_back(q);
    if (q->storage.code == ERR_FATAL)
        return err_set(err, ERR_FATAL, "%s", q->storage.message);
    err_set(&q->storage, ERR_RETRY,
            "The storage folder can't be written to, nothing is acknowledged: %s",
            why->message);
    return err_set(err, ERR_RETRY, "%s", q->storage.message);
}

int sequencer_show(struct sequencer *q, struct err *err)
{
    struct err why = {0};
    if (q->shapelog == NULL || shapelog_flush(q->shapelog, q->processed_lsn, &why) == 0)
        return 0;
    return sequencer_storage_failed(q, &why, err);
}

/* A shape whose table the stream has described anew is held back until the catalog was looked
 * at: its primary key may have changed, which the description does not tell, and the keys of
 * the new rows would be wrong. */
static bool is_held(const struct sequencer *q, const struct shape *shape)
{
    return shape->verify_serial > q->reconcile_passed;
}

/* Gives those that may be shown to the log; false when some are held back. */
static bool give_committed(struct sequencer *q, struct list *shown)
{
    bool all = true;
    for (struct list *at = q->committed.next, *next; at != &q->committed; at = next) {
        struct shape *shape = LIST_ENTRY(at, struct shape, in_committed);
        next = at->next;
        if (is_held(q, shape)) {
            all = false;
            continue;
        }
        list_remove(at);
        list_push(shown, at);
        shapelog_publish(shape->log);
    }
    return all;
}

static void notify_shown(struct sequencer *q, struct list *shown)
{
    while (!list_empty(shown)) {
        struct list *at = list_pop(shown);
        q->unsaved = true;
        shape_notify(LIST_ENTRY(at, struct shape, in_committed));
    }
}

/* While a backlog is read, readers are told every few milliseconds: they are far behind anyway, and
 * waking them for each transaction would cost more than reading it. */
static bool may_wait(const struct sequencer *q, int64_t now_ms)
{
    uint64_t reached = q->processed_end > q->wal_end ? q->processed_end : q->wal_end;
    return reached < q->catch_up_lsn && now_ms < q->next_publish_ms;
}

static int publish(struct sequencer *q, int64_t now_ms, struct err *err)
{
    struct list shown;
    if (may_wait(q, now_ms))
        return 0;
    q->next_publish_ms = now_ms + BACKLOG_PUBLISH_MS;
    list_init(&shown);
    bool all = give_committed(q, &shown);
    int rc = list_empty(&shown) && !q->unpublished ? 0 : sequencer_show(q, err);
    if (rc < 0) {
        while (!list_empty(&shown))
            list_pop(&shown);
        return rc;
    }
    notify_shown(q, &shown);
    if (!q->unpublished || !all)
        return 0;
    q->unpublished = false;
    q->published_end = q->processed_end;
    atomic_store(&q->shapes.last_lsn, q->processed_lsn);
    note_seen(q);
    fresh_published(q);
    obs_time(q->config.obs, OBS_H_LIVE_US, clock_mono_us() - q->oldest_commit_us);
    return 0;
}

/* Up to where all is done with, once what is published is on disk. */
static uint64_t finished_lsn(const struct sequencer *q)
{
    uint64_t lsn = q->durable_lsn > q->published_end ? q->durable_lsn : q->published_end;
    bool between = !q->txn_open && !q->unpublished && list_empty(&q->committed);
    return between && q->wal_end > lsn ? q->wal_end : lsn;
}

/* When the next checkpoint is due, INT64_MAX when there is nothing to record. */
static int64_t checkpoint_due_ms(const struct sequencer *q)
{
    if (q->shapelog == NULL || q->checkpoint_running)
        return INT64_MAX;
    bool stopping = q->stop_deadline_ms != INT64_MAX;
    if (q->unsaved)
        return stopping ? 0 : q->next_checkpoint_ms;
    return finished_lsn(q) > q->durable_lsn ? q->next_checkpoint_ms + CHECKPOINT_IDLE_MS
                                            : INT64_MAX;
}

static void checkpoint_if_due(struct sequencer *q, int64_t now_ms)
{
    if (now_ms < checkpoint_due_ms(q))
        return;
    q->unsaved = false;
    q->checkpoint_running = true;
    shapelog_checkpoint(q->shapelog, finished_lsn(q));
}

/* What every turn ends with. */
static int turn(struct sequencer *q, int64_t now_ms, struct err *err)
{
    int rc = q->storage.code != 0
                 ? err_set(err, q->storage.code, "%s", q->storage.message)
                 : publish(q, now_ms, err);
    if (rc < 0)
        return rc;
    sequencer_release_dropped(q);
    note_caught_up(q);
    fresh_look(q);
    checkpoint_if_due(q, now_ms);
    q->tending = q->shapelog != NULL && shapelog_tend(q->shapelog, TEND_US);
    return 0;
}

int sequencer_drained(struct sequencer *q, struct err *err)
{
    int rc = turn(q, clock_mono_ms(), err);
    if (rc < 0)
        return rc;
    atomic_store(&q->shapes.heard_ms, clock_mono_ms());
    return 0;
}

uint64_t sequencer_flushed_lsn(struct sequencer *q)
{
    return q->durable_lsn;
}

/* --- Mail --- */

static void answer_get(struct sequencer *q, struct mail_get *m)
{
    struct err err = {0};
    struct shape *shape = NULL;
    if (q->shapelog == NULL || atomic_load(&q->stop_requested)) {
        err_set(&err, ERR_RETRY, "shapes can't be made just now");
    } else {
        struct slice identity = shape_def_identity(m->def);
        shape = map_get(&q->shapes.by_identity, identity);
        if (shape == NULL)
            shape = sequencer_make(q, m->def, m->where, &err);
    }
    if (shape == NULL && err.message[0] != '\0')
        log_event(q->config.log, LOG_WARNING, "shape.not_created",
                  LOG_TEXT("reason", err.message));
    m->fn(m->ctx, shape, shape == NULL ? &err : NULL);
    shape_def_release(m->def);
    shape_where_release(m->where);
    free(m);
}

static void answer_remove(struct sequencer *q, struct mail_remove *m)
{
    sequencer_drop(q, m->shape, m->reason, NULL, "");
    if (m->fn != NULL)
        m->fn(m->ctx, m->shape, NULL);
    shape_release(m->shape);
    free(m);
}

static void snapshot_done(struct sequencer *q, struct mail_shape *m)
{
    if (shape_state(m->shape) != SHAPE_GONE) {
        atomic_store(&m->shape->state, SHAPE_LIVE);
        q->unsaved = true;
        shape_notify(m->shape);
    }
}

static void corrupt_found(struct sequencer *q, const struct mail_shape *m)
{
    struct shape *shape = shapes_borrow(&q->shapes, slice_of(m->handle));
    if (shape != NULL)
        sequencer_drop(q, shape, OBS_SHAPE_CORRUPT, NULL,
                       "stored bytes do not check out");
}

static void shape_mail(struct sequencer *q, struct mail_shape *m)
{
    if (m->mail.kind == MAIL_SNAPSHOT_DONE)
        snapshot_done(q, m);
    else if (m->mail.kind == MAIL_SNAPSHOT_FAILED)
        sequencer_fail_snapshot(q, m->shape, &m->err);
    else
        corrupt_found(q, m);
    shape_release(m->shape);
    free(m);
}

static void checkpoint_over(struct sequencer *q, const struct mail_durable *m)
{
    bool stale = q->checkpoint_stale;
    q->checkpoint_running = q->checkpoint_stale = false;
    q->checkpoint_failing = !stale && m->mail.kind == MAIL_CHECKPOINT_FAILED;
    atomic_store(&q->shapes.checkpoint_failing, q->checkpoint_failing);
    if (stale) {
        q->unsaved = true;
    } else if (m->mail.kind == MAIL_DURABLE) {
        q->durable_lsn = m->lsn > q->durable_lsn ? m->lsn : q->durable_lsn;
        q->next_checkpoint_ms = clock_mono_ms() + CHECKPOINT_PAUSE_MS;
        q->stream.report_soon(q->stream.ctx);
    } else if (m->err.code == ERR_FATAL) {
        err_set(&q->storage, ERR_FATAL, "The storage can't be trusted any more: %s",
                m->err.message);
    } else {
        q->unsaved = true;
        q->next_checkpoint_ms = clock_mono_ms() + CHECKPOINT_RETRY_MS;
        log_event(q->config.log, LOG_ERROR, "checkpoint.failed",
                  LOG_TEXT("reason", m->err.message));
    }
}

static void stop_begin(struct sequencer *q)
{
    q->stop_deadline_ms = clock_mono_ms() + STOP_GRACE_MS;
    checkpoint_if_due(q, clock_mono_ms());
}

void sequencer_open_mail(struct sequencer *q, struct mail *mail)
{
    switch ((enum mail_kind)mail->kind) {
    case MAIL_GET:
        answer_get(q, (struct mail_get *)(void *)mail);
        break;
    case MAIL_REMOVE:
        answer_remove(q, (struct mail_remove *)(void *)mail);
        break;
    case MAIL_SUBSCRIBE:
        join_subscribe(q, (struct mail_join *)(void *)mail);
        break;
    case MAIL_JOIN:
        join_join(q, (struct mail_join *)(void *)mail);
        break;
    case MAIL_SEES:
        join_sees(q, (struct mail_join *)(void *)mail);
        break;
    case MAIL_PUBLISHED:
        preparation_published(q, mail);
        break;
    case MAIL_SNAPSHOT_DONE:
    case MAIL_SNAPSHOT_FAILED:
    case MAIL_CORRUPT:
        shape_mail(q, (struct mail_shape *)(void *)mail);
        break;
    case MAIL_DURABLE:
    case MAIL_CHECKPOINT_FAILED:
        checkpoint_over(q, (const struct mail_durable *)(void *)mail);
        break;
    case MAIL_RECONCILED:
        reconcile_finish(q, (struct reconcile_job *)(void *)mail);
        break;
    case MAIL_PARTITIONS:
        partitions_answered(q, mail);
        break;
    case MAIL_TABLE_LEFT:
        tables_left(q, mail);
        break;
    case MAIL_PROBED:
        fresh_probed(q, (const struct mail_probed *)(void *)mail);
        break;
    case MAIL_SUSPECT:
        reconcile_soon(q);
        free(mail);
        break;
    case MAIL_STOP:
        stop_begin(q);
        break;
    }
}

static void open_all_mail(struct sequencer *q)
{
    struct mail *mail = mailbox_take(&q->mailbox);
    while (mail != NULL) {
        struct mail *next = mail->next;
        sequencer_open_mail(q, mail);
        mail = next;
    }
}

static void stop_if_done(struct sequencer *q, int64_t now_ms)
{
    if (q->stop_deadline_ms == INT64_MAX)
        return;
    bool saved = !q->unsaved && !q->checkpoint_running;
    if (saved || now_ms >= q->stop_deadline_ms)
        q->stream.stop(q->stream.ctx);
}

int sequencer_woken(struct sequencer *q, struct err *err)
{
    open_all_mail(q);
    int64_t now_ms = clock_mono_ms();
    bool active = shapes_service(&q->shapes) == SHAPES_ACTIVE;
    if (active) {
        tables_leave_idle(q, now_ms);
        fresh_probe_if_due(q, now_ms);
    }
    if (active && now_ms >= q->next_reconcile_ms) {
        sequencer_evict(q);
        reconcile_start(q, now_ms);
    }
    int rc = turn(q, now_ms, err);
    stop_if_done(q, now_ms);
    return rc;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t sequencer_deadline_ms(struct sequencer *q)
{
    int64_t at = q->tending || q->storage.code != 0 ? 0 : q->stop_deadline_ms;
    if (shapes_service(&q->shapes) == SHAPES_ACTIVE) {
        at = earlier(at, tables_deadline_ms(q));
        at = earlier(at, q->probe_running ? INT64_MAX : q->next_probe_ms);
        at = earlier(at, q->next_reconcile_ms);
    }
    if (q->unpublished && may_wait(q, 0))
        at = earlier(at, q->next_publish_ms);
    return earlier(at, checkpoint_due_ms(q));
}

void sequencer_finish(struct sequencer *q)
{
    atomic_store(&q->stop_requested, true);
    mailbox_close(&q->mailbox);
    struct mail *mail = mailbox_take(&q->mailbox);
    while (mail != NULL) {
        struct mail *next = mail->next;
        if (mail->kind == MAIL_SUBSCRIBE || mail->kind == MAIL_JOIN ||
            mail->kind == MAIL_SEES)
            join_answer((struct mail_join *)(void *)mail, ERR_CANCELLED,
                        "the server is stopping");
        else
            sequencer_open_mail(q, mail);
        mail = next;
    }
}
