/* The periodic look at what the stream does not tell: tables dropped, renamed or altered
 * without a change following, tables taken out of the publication, identities reset
 * (shape-protocol.md 5.5, 5.7). The questions run on the admin pool; the sequencer acts
 * on the answers. */
#include <stdlib.h>

#include "base/clock.h"
#include "server/shape/internal.h"

#define RECONCILE_PAUSE_MS 20 /* between two, however often one is wanted */

struct reconcile_job {
    struct mail mail;
    struct sequencer *q;
    struct publication_check *checks; /* in and out; names owned by the tables below */
    struct table_use **uses;          /* references */
    struct table **tables;            /* references */
    size_t count;
    uint64_t serial;
    uint64_t ordinal;          /* transactions begun in the stream before it was asked */
    struct snapshot_view view; /* taken before the answers */
    struct err err;            /* of the publication as a whole, or of the connection */
    uint64_t retained_wal_bytes;
    bool wants_members;
    uint32_t *members; /* of the publication */
    size_t member_count;
};

static void reconcile_free(struct reconcile_job *job)
{
    for (size_t i = 0; i < job->count; i++) {
        table_release(job->checks[i].now);
        table_use_release(job->uses[i]);
        table_release(job->tables[i]);
    }
    free(job->checks);
    free(job->uses);
    free(job->tables);
    free(job->members);
    snapshot_view_fini(&job->view);
    free(job);
}

static int read_view(struct reconcile_job *job, PGconn *conn, struct err *err)
{
    PGresult *r = NULL;
    int rc = pg_exec(conn, "SELECT pg_current_snapshot()", &r, err);
    if (rc == 0)
        rc = snapshot_view_parse(slice_of(PQgetvalue(r, 0, 0)), &job->view, err);
    PQclear(r);
    return rc;
}

static void read_retained(struct reconcile_job *job, PGconn *conn)
{
    const char *values[] = {job->q->config.slot};
    PGresult *r = PQexecParams(conn,
                               "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)"
                               " FROM pg_replication_slots WHERE slot_name = $1",
                               1, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1)
        slice_to_u64(slice_of(PQgetvalue(r, 0, 0)), &job->retained_wal_bytes);
    PQclear(r);
}

/* A lost identity is given back at once. A change that came meanwhile without its old row
 * has removed the shapes already (apply_identity_lost); without one nothing was missed.
 */
static void repair_identities(struct reconcile_job *job, PGconn *conn)
{
    for (size_t i = 0; i < job->count; i++) {
        struct publication_check *c = &job->checks[i];
        if (c->fault != PUBLICATION_IDENTITY_LOST || c->now == NULL)
            continue;
        bool added = false;
        if (!table_use_lock(job->q, job->uses[i]))
            return;
        int rc =
            publication_ensure(conn, &job->q->config.publication, c->now, &added, NULL);
        if (rc < 0 && added)
            atomic_store(&job->uses[i]->ensured, false);
        table_use_unlock(job->uses[i]);
    }
}

static void reconcile_run(void *ctx, PGconn *conn, const struct err *why)
{
    struct reconcile_job *job = ctx;
    if (conn == NULL) {
        job->err = *why;
        if (job->err.code == 0)
            job->err.code = ERR_RETRY;
    } else if (read_view(job, conn, &job->err) == 0) {
        publication_verify(conn, &job->q->config.publication, job->checks, job->count,
                           &job->err);
        read_retained(job, conn);
        if (job->err.code == 0)
            repair_identities(job, conn);
        if (job->err.code == 0 && job->wants_members)
            publication_members(conn, &job->q->config.publication, &job->members,
                                &job->member_count, &job->err);
    }
    job->mail.kind = MAIL_RECONCILED;
    if (mailbox_send(&job->q->mailbox, &job->mail, true) < 0)
        reconcile_free(job);
}

static struct reconcile_job *reconcile_new(struct sequencer *q)
{
    struct reconcile_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return NULL;
    job->q = q;
    job->checks = calloc(q->tables.len + 1, sizeof *job->checks);
    job->uses = calloc(q->tables.len + 1, sizeof(*job->uses));
    job->tables = calloc(q->tables.len + 1, sizeof(*job->tables));
    if (job->checks == NULL || job->uses == NULL || job->tables == NULL) {
        reconcile_free(job);
        return NULL;
    }
    size_t it = 0;
    void *value;
    while (map_next(&q->tables, &it, NULL, &value)) {
        struct table_use *use = value;
        if (!atomic_load(&use->ensured) || atomic_load(&use->shapes) == 0)
            continue; /* being prepared, or on its way out */
        job->uses[job->count] = table_use_retain(use);
        job->tables[job->count] = table_retain(use->table);
        job->checks[job->count++] = (struct publication_check){
            .oid = use->oid, .schema = use->table->schema, .name = use->table->name};
    }
    return job;
}

void reconcile_soon(struct sequencer *q)
{
    int64_t at = q->last_reconcile_ms + RECONCILE_PAUSE_MS;
    if (at < q->next_reconcile_ms)
        q->next_reconcile_ms = at;
}

void reconcile_start(struct sequencer *q, int64_t now_ms)
{
    if (q->reconcile_running) { /* what made it due may have come after its questions */
        q->next_reconcile_ms = now_ms + RECONCILE_PAUSE_MS;
        return;
    }
    q->next_reconcile_ms = now_ms + q->config.reconcile_period_ms;
    q->last_reconcile_ms = now_ms;
    struct reconcile_job *job = reconcile_new(q);
    if (job == NULL) {
        reconcile_soon(q);
        return;
    }
    job->wants_members = !q->members_known && !q->config.publication.manual;
    job->serial = ++q->reconcile_started;
    job->ordinal = q->txn_ordinal;
    if (pool_submit(q->config.admin_pool, reconcile_run, job) < 0) {
        reconcile_free(job);
        reconcile_soon(q);
        return;
    }
    q->reconcile_running = true;
}

/* --- Acting on the answers --- */

static void drop_all_of(struct sequencer *q, uint32_t oid, enum obs_shape_reason reason,
                        const struct err *failure, const char *detail)
{
    size_t count;
    struct shape **shapes = sequencer_shapes_of(q, oid, &count);
    for (size_t i = 0; i < count; i++) {
        if (shapes[i]->def->table->oid == oid && shapes[i]->phase == JOIN_JOINED)
            sequencer_drop(q, shapes[i], reason, failure, detail);
    }
}

/* Whether all that the shape is linked to is still the table or below it. A partition that
 * the stream told of may be younger than the answer: it is missing only when the next one
 * lacks it too. */
static bool children_remain(struct sequencer *q, struct shape *shape,
                            const struct table *now)
{
    for (size_t i = 0; i < shape->link_count; i++) {
        struct shape_link *link = &shape->links[i];
        bool still = link->route.oid == now->oid;
        for (size_t j = 0; j < now->child_count; j++)
            still = still || now->children[j] == link->route.oid;
        if (!still && link->absent)
            return false;
        link->absent = !still;
        if (!still)
            q->next_reconcile_ms = 0;
    }
    return true;
}

/* Partitions that came are asked about (partitions.c); for one that went, and for other
 * children, the shape has rows too many or too few that no change will tell of. */
static bool follow_children(struct sequencer *q, struct shape *shape,
                            const struct table *now)
{
    if (!children_remain(q, shape, now))
        return false;
    for (size_t j = 0; j < now->child_count; j++) {
        bool linked = false;
        for (size_t i = 0; i < shape->link_count; i++)
            linked = linked || shape->links[i].route.oid == now->children[j];
        if (linked)
            continue;
        if (now->kind != 'p' || partitions_found(q, now->children[j]) < 0)
            return false;
    }
    return true;
}

static void follow_table(struct sequencer *q, const struct publication_check *c)
{
    size_t count;
    struct shape **shapes = sequencer_shapes_of(q, c->oid, &count);
    for (size_t i = 0; i < count; i++) {
        struct shape *shape = shapes[i];
        if (shape->def->table->oid != c->oid || shape->phase != JOIN_JOINED)
            continue;
        struct buf why;
        buf_init(&why, 256);
        if (!shape_def_fits(shape->def, c->now, &why)) {
            buf_putc(&why, '\0');
            sequencer_drop(q, shape, OBS_SHAPE_SCHEMA, NULL, why.failed ? "" : why.ptr);
        } else if (!follow_children(q, shape, c->now)) {
            sequencer_drop(q, shape, OBS_SHAPE_SCHEMA, NULL,
                           "a partition or child table came or went");
        }
        buf_fini(&why);
    }
}

static void forget(struct sequencer *q, const struct publication_check *c)
{
    catalog_forget(q->config.catalog, c->schema, c->name);
}

static void act_on(struct sequencer *q, const struct publication_check *c,
                   struct table_use *use)
{
    switch (c->fault) {
    case PUBLICATION_TABLE_GONE:
        forget(q, c);
        drop_all_of(q, c->oid, OBS_SHAPE_DROPPED, NULL, "dropped, renamed or made anew");
        break;
    case PUBLICATION_TABLE_MISSING:
        forget(q, c);
        atomic_store(&use->ensured, false);
        drop_all_of(q, c->oid, OBS_SHAPE_PUBLICATION, NULL, "it was taken out");
        break;
    case PUBLICATION_IDENTITY_LOST:
    case PUBLICATION_FINE:
        if (c->now != NULL)
            follow_table(q, c);
        break;
    }
}

void reconcile_finish(struct sequencer *q, struct reconcile_job *job)
{
    q->reconcile_running = false;
    bool passed =
        job->err.code == 0 && join_sees_passed(q, &job->view, job->ordinal, UINT64_MAX);
    if (job->err.code == 0) {
        for (size_t i = 0; i < job->count; i++)
            act_on(q, &job->checks[i], job->uses[i]);
        partitions_look(q);
        if (job->wants_members)
            tables_take_over(q, job->members, job->member_count);
        q->members_known = true;
        obs_set(q->config.obs, OBS_G_RETAINED_WAL, (int64_t)job->retained_wal_bytes);
    } else if (job->err.code == ERR_DB) {
        log_event(q->config.log, LOG_ERROR, "publication.unusable",
                  LOG_TEXT("reason", job->err.message));
        if (q->config.publication.manual) {
            for (size_t i = 0; i < job->count; i++)
                drop_all_of(q, job->checks[i].oid, OBS_SHAPE_PUBLICATION, &job->err,
                            job->err.message);
        } else {
            q->stream.reconnect(q->stream.ctx);
        }
    }
    /* A commit is in the stream a moment before it is visible: an answer without it is no
     * answer to a question that it raised, and shapes are held back until there is one. */
    if (passed)
        q->reconcile_passed = job->serial;
    else
        reconcile_soon(q);
    reconcile_free(job);
}

/* --- Described by the stream --- */

/* Shapes of an earlier table of this name can't be served any more. */
static void drop_namesakes(struct sequencer *q, const struct decode_relation *relation)
{
    size_t it = 0;
    void *value;
    uint32_t old = 0;
    while (old == 0 && map_next(&q->tables, &it, NULL, &value)) {
        const struct table_use *use = value;
        if (use->oid != relation->oid && slice_eq(use->table->name, relation->name) &&
            slice_eq(use->table->schema, relation->schema))
            old = use->oid;
    }
    if (old != 0)
        drop_all_of(q, old, OBS_SHAPE_DROPPED, NULL, "another table has its name now");
}

int reconcile_relation(struct sequencer *q, const struct decode_relation *relation,
                       struct err *err)
{
    size_t count;
    if (route_entries(q->route, relation->oid, &count) == NULL)
        drop_namesakes(q, relation);
    return partitions_described(q, relation, err);
}
