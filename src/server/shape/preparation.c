/* A new shape's way to its snapshot, on a worker of the snapshot pool: the table joins
 * the publication, then the snapshot is taken, joined to the stream and written to the
 * log. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/shape/internal.h"

struct preparation {
    struct sequencer *q;
    struct mail_shape *told; /* what the sequencer hears at the end */
    struct shape *shape;     /* a reference */
    struct table_use *use;   /* a reference */
};

static int preparation_ask(struct preparation *p, int kind,
                           const struct snapshot_view *view, struct err *err)
{
    struct mail_join m = {.mail.kind = kind, .shape = p->shape, .view = view};
    pthread_mutex_init(&m.lock, NULL);
    pthread_cond_init(&m.answered, NULL);
    int rc = mailbox_send(&p->q->mailbox, &m.mail, true);
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

static int on_subscribe(void *ctx, struct err *err)
{
    return preparation_ask(ctx, MAIL_SUBSCRIBE, NULL, err);
}

static bool same_children(const struct table *a, const struct table *b)
{
    return a->child_count == b->child_count &&
           (a->child_count == 0 ||
            memcmp(a->children, b->children, a->child_count * sizeof *a->children) == 0);
}

/* The definition was made from the catalog a moment ago: is it still what the table is?
 * Asked in the snapshot's transaction, which holds a lock against changes. */
static int on_verify(void *ctx, PGconn *conn, struct err *err)
{
    struct preparation *p = ctx;
    struct table *now = NULL;
    const struct shape_def *def = p->shape->def;
    int rc = catalog_read_table_oid(conn, def->table->oid, &now, err);
    if (rc == ERR_NOT_FOUND || (rc == 0 && (!shape_def_fits(def, now, NULL) ||
                                            !same_children(def->table, now)))) {
        rc = err_set(err, ERR_DB, "the table changed while its shape was being made");
        if (err != NULL)
            err->http_status = 409;
    }
    table_release(now);
    return rc;
}

static int on_joined(void *ctx, const struct snapshot_view *view, struct err *err)
{
    return preparation_ask(ctx, MAIL_JOIN, view, err);
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

static int preparation_publish(struct preparation *p, PGconn *conn, struct err *err)
{
    if (!table_use_lock(p->q, p->use))
        return err_set(err, ERR_CANCELLED, "the server is stopping");
    int rc = 0;
    if (on_cancelled(p)) {
        rc = err_set(err, ERR_CANCELLED, "the shape was removed");
    } else {
        bool added = !atomic_load(&p->use->ensured);
        rc = publication_ensure(conn, &p->q->config.publication, p->shape->def->table,
                                &added, err);
        /* A failure leaves it unknown which writers the stream misses: the next try waits
         * again. */
        atomic_store(&p->use->ensured, rc == 0);
    }
    table_use_unlock(p->use);
    return rc;
}

static int preparation_work(struct preparation *p, PGconn *conn, struct err *err)
{
    const struct shape_def *def = p->shape->def;
    int rc = preparation_publish(p, conn, err);
    if (rc < 0)
        return rc;
    struct snapshot_request request = {
        .table = def->table,
        .plan = def->plan,
        .selected = def->selected,
        .selected_count = def->selected_count,
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

static void preparation_run(void *ctx, PGconn *conn, const struct err *why)
{
    struct preparation *p = ctx;
    struct sequencer *q = p->q;
    struct err err = {0};
    int rc = 0;
    if (conn == NULL) {
        err = *why;
        rc = why->code;
        if (err.http_status == 0)
            err.http_status = 503;
    } else if (on_cancelled(p)) {
        rc = err_set(&err, ERR_CANCELLED, "the shape was removed");
    } else {
        rc = preparation_work(p, conn, &err);
    }
    struct mail_shape *m = p->told;
    m->mail.kind = rc < 0 ? MAIL_SNAPSHOT_FAILED : MAIL_SNAPSHOT_DONE;
    m->shape = shape_retain(p->shape);
    m->err = err;
    if (mailbox_send(&q->mailbox, &m->mail, true) < 0) {
        shape_release(m->shape);
        free(m);
    }
    table_use_release(p->use);
    shape_release(p->shape);
    free(p);
}

int preparation_start(struct sequencer *q, struct shape *shape)
{
    struct preparation *p = calloc(1, sizeof *p);
    struct mail_shape *told = calloc(1, sizeof *told);
    if (p == NULL || told == NULL) {
        free(p);
        free(told);
        return ERR_MEMORY;
    }
    p->told = told;
    p->q = q;
    p->shape = shape_retain(shape);
    p->use = table_use_retain(shape->use);
    int rc = pool_submit(q->config.snapshot_pool, preparation_run, p);
    if (rc < 0) {
        table_use_release(p->use);
        shape_release(p->shape);
        free(told);
        free(p);
    }
    return rc;
}
