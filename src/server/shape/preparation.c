/* A new shape's way to its snapshot, on a worker of the snapshot pool: the table joins
 * the publication, then the snapshot is taken, joined to the stream and written to the
 * log.
 *
 * The first step may wait for seconds for a lock that another session holds. So one shape of
 * a table takes it at a time, and those that come meanwhile are parked with the table until
 * it is answered, which answers for them too: a locked table occupies one worker, however
 * many shapes want it.
 *
 *   start ──▶ (parked) ──▶ publish ──▶ MAIL_PUBLISHED ──▶ snapshot ──▶ DONE | FAILED */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/shape/internal.h"

struct preparation {
    struct sequencer *q;
    struct mail_shape *told;     /* what the sequencer hears at the end */
    struct mail_published *step; /* and after the first step */
    struct shape *shape;         /* a reference */
    struct table_use *use;       /* a reference */
    struct list in_parked;       /* of the table */
    bool published;              /* somebody else took the first step */
};

static int on_subscribe(void *ctx, struct err *err)
{
    struct preparation *p = ctx;
    return join_ask(p->q, MAIL_SUBSCRIBE, p->shape, NULL, err);
}

/* What the catalog says in the snapshot, of which the stamp is. */
static int table_in_snapshot(struct preparation *p, PGconn *conn, struct slice stamp,
                             struct table **out, struct err *err)
{
    *out = table_use_known(p->use, stamp);
    if (*out != NULL)
        return 0;
    int rc = catalog_read_table_oid(conn, p->shape->def->table->oid, out, err);
    if (rc == 0)
        table_use_learn(p->use, stamp, *out);
    return rc;
}

/* The definition was made from the catalog a moment ago: is it still what the table is?
 * Asked in the snapshot's transaction, which holds a lock against changes. */
static int on_verify(void *ctx, PGconn *conn, struct slice stamp, struct err *err)
{
    struct preparation *p = ctx;
    struct table *now = NULL;
    const struct shape_def *def = p->shape->def;
    int rc = table_in_snapshot(p, conn, stamp, &now, err);
    if (rc == ERR_NOT_FOUND || (rc == 0 && (!shape_def_fits(def, now, NULL) ||
                                            !table_same_children(def->table, now)))) {
        rc = err_set(err, ERR_DB, "the table changed while its shape was being made");
        if (err != NULL)
            err->http_status = 409;
    }
    table_release(now);
    return rc;
}

static int on_joined(void *ctx, const struct snapshot_view *view, struct err *err)
{
    struct preparation *p = ctx;
    return join_ask(p->q, MAIL_JOIN, p->shape, view, err);
}

static int on_row(void *ctx, struct slice json, struct err *err)
{
    struct preparation *p = ctx;
    return shapelog_snapshot_row(p->shape->log, json, err);
}

static int on_flush(void *ctx, struct err *err)
{
    struct preparation *p = ctx;
    int rc = shapelog_snapshot_flush(p->shape->log, err);
    shape_notify(p->shape);
    return rc;
}

/* "xmin:xmax:xip,xip@wal_lsn": what sequencer.c reads back. */
static void put_view(struct buf *out, const struct snapshot_view *view)
{
    buf_printf(out, "%" PRIu64 ":%" PRIu64 ":", view->xmin, view->xmax);
    for (size_t i = 0; i < view->xip_count; i++)
        buf_printf(out, "%s%" PRIu64, i == 0 ? "" : ",", view->xip[i]);
    buf_printf(out, "@%" PRIu64, view->wal_lsn);
}

static int on_end(void *ctx, struct slice json, const struct snapshot_view *view,
                  struct err *err)
{
    struct preparation *p = ctx;
    struct buf text;
    buf_init(&text, 4u << 20);
    put_view(&text, view);
    int rc = text.failed != 0
                 ? err_set(err, ERR_MEMORY, "no memory for a view")
                 : shapelog_snapshot_end(p->shape->log, json, buf_slice(&text), err);
    buf_fini(&text);
    return rc;
}

static bool on_cancelled(void *ctx)
{
    struct preparation *p = ctx;
    return shape_state(p->shape) == SHAPE_GONE || atomic_load(&p->q->stop_requested);
}

/* Whether what the process saw of the table in the publication says all of it. */
static bool is_ensured(const struct preparation *p, const PGconn *conn)
{
    const struct table_use *use = p->use;
    if (!atomic_load(&use->ensured) || use->wants_wait)
        return false;
    return publication_follows(conn) ||
           (use->ensured_as != NULL &&
            table_same_children(use->ensured_as, p->shape->def->table));
}

static int preparation_publish(struct preparation *p, PGconn *conn, struct err *err)
{
    struct table *table = p->shape->def->table;
    if (!table_use_lock(p->q, p->use))
        return err_set(err, ERR_CANCELLED, "the server is stopping");
    int rc = 0;
    if (on_cancelled(p)) {
        rc = err_set(err, ERR_CANCELLED, "the shape was removed");
    } else {
        bool added = !is_ensured(p, conn);
        rc = publication_ensure(conn, &p->q->config.publication, table, &added, err);
        /* A failure leaves it unknown which writers the stream misses: the next try waits
         * again. What was seen for other shapes remains. */
        p->use->wants_wait = rc < 0;
        if (rc == 0)
            atomic_store(&p->use->ensured, true);
        table_release(p->use->ensured_as);
        p->use->ensured_as = table_retain(table);
    }
    table_use_unlock(p->use);
    return rc;
}

/* Those that are parked go on, or fail with it. */
static void tell_published(struct preparation *p, const struct err *err)
{
    struct mail_published *m = p->step;
    p->step = NULL;
    if (m == NULL)
        return;
    m->use = table_use_retain(p->use);
    m->table = table_retain(p->shape->def->table);
    m->err = *err;
    if (mailbox_send(&p->q->mailbox, &m->mail, true) < 0) {
        table_release(m->table);
        table_use_release(m->use);
        free(m);
    }
}

static int preparation_snapshot(struct preparation *p, PGconn *conn, struct err *err)
{
    const struct shape_def *def = p->shape->def;
    struct snapshot_request request = {
        .table = def->table,
        .plan = def->plan,
        .selected = def->selected,
        .selected_count = def->selected_count,
        .where = def->where,
        .changes_only = def->log_mode == SHAPE_LOG_CHANGES_ONLY,
        .first_row_timeout_ms = p->q->config.first_row_timeout_ms,
        .obs = p->q->config.obs,
    };
    struct snapshot_sink sink = {
        .ctx = p,
        .subscribe = on_subscribe,
        .verify = on_verify,
        .joined = on_joined,
        .row = on_row,
        .flush = on_flush,
        .end = on_end,
        .cancelled = on_cancelled,
    };
    return snapshot_run(conn, &request, &sink, err);
}

static void preparation_free(struct preparation *p)
{
    table_use_release(p->use);
    shape_release(p->shape);
    free(p->step);
    free(p->told);
    free(p);
}

static int preparation_work(struct preparation *p, PGconn *conn, const struct err *why,
                            struct err *err)
{
    int rc = 0;
    if (conn == NULL) {
        *err = *why;
        rc = why->code;
        if (err->http_status == 0)
            err->http_status = 503;
    } else if (on_cancelled(p)) {
        rc = err_set(err, ERR_CANCELLED, "the shape was removed");
    } else if (!p->published) {
        rc = preparation_publish(p, conn, err);
    }
    tell_published(p, err);
    return rc < 0 ? rc : preparation_snapshot(p, conn, err);
}

static void preparation_run(void *ctx, PGconn *conn, const struct err *why)
{
    struct preparation *p = ctx;
    struct err err = {0};
    int rc = preparation_work(p, conn, why, &err);
    struct mail_shape *m = p->told;
    m->mail.kind = rc < 0 ? MAIL_SNAPSHOT_FAILED : MAIL_SNAPSHOT_DONE;
    m->shape = shape_retain(p->shape);
    m->err = err;
    if (mailbox_send(&p->q->mailbox, &m->mail, true) < 0)
        shape_release(m->shape);
    else
        p->told = NULL;
    preparation_free(p);
}

/* --- The sequencer's side --- */

/* When it could, p is the job's. */
static int preparation_submit(struct preparation *p)
{
    struct table_use *use = p->use; /* which the sequencer keeps while it is publishing */
    bool first = !p->published;
    use->publishing = use->publishing || first;
    int rc = pool_submit(p->q->config.snapshot_pool, preparation_run, p);
    if (rc < 0 && first)
        use->publishing = false;
    return rc;
}

int preparation_start(struct sequencer *q, struct shape *shape)
{
    struct preparation *p = calloc(1, sizeof *p);
    struct mail_shape *told = calloc(1, sizeof *told);
    struct mail_published *step = calloc(1, sizeof *step);
    if (p == NULL || told == NULL || step == NULL) {
        free(p);
        free(told);
        free(step);
        return ERR_MEMORY;
    }
    step->mail.kind = MAIL_PUBLISHED;
    *p = (struct preparation){
        .q = q,
        .told = told,
        .step = step,
        .shape = shape_retain(shape),
        .use = table_use_retain(shape->use),
    };
    list_init(&p->in_parked);
    if (p->use->publishing) {
        list_push(&p->use->parked, &p->in_parked);
        return 0;
    }
    int rc = preparation_submit(p);
    if (rc < 0)
        preparation_free(p);
    return rc;
}

/* One that was parked, after the first step was taken: for it too, unless the table has other
 * partitions by now. */
static void preparation_resume(struct preparation *p, const struct table *table,
                               const struct err *err)
{
    struct err busy = {0};
    if (err->code == 0 && table_same_children(table, p->shape->def->table)) {
        free(p->step);
        p->step = NULL;
        p->published = true;
    }
    if (err->code == 0 ||
        err->code == ERR_CANCELLED) { /* which said nothing of the table */
        if (preparation_submit(p) == 0)
            return;
        err_set(&busy, ERR_RETRY, "too many snapshots wait for a connection");
        err = &busy;
    }
    sequencer_fail_snapshot(p->q, p->shape, err);
    preparation_free(p);
}

void preparation_published(struct sequencer *q, struct mail *mail)
{
    struct mail_published *m = (struct mail_published *)(void *)mail;
    struct table_use *use = m->use;
    use->publishing = false;
    while (!list_empty(&use->parked) && !use->publishing) {
        struct preparation *p =
            LIST_ENTRY(list_pop(&use->parked), struct preparation, in_parked);
        if (on_cancelled(p))
            preparation_free(p);
        else
            preparation_resume(p, m->table, &m->err);
    }
    table_forget_if_unused(q, use);
    table_release(m->table);
    table_use_release(use);
    free(m);
}

void preparation_forget_parked(struct table_use *use)
{
    while (!list_empty(&use->parked))
        preparation_free(
            LIST_ENTRY(list_pop(&use->parked), struct preparation, in_parked));
}
