/* Partitions that come while their shapes live.
 *
 * They are met in two places. The stream describes a relation: before its changes are
 * applied it must be known whose partition it is, so the sequencer waits for the catalog's
 * answer. Or a look at the catalog shows one that has no changes yet: then a job is asked
 * and nobody waits.
 *
 * A partition is linked to a shape only if all its rows came, or will come, through the
 * stream: it has been a partition since it was made (lineage.c), up to one that the shape
 * knows; or nothing was ever written to it. Else it may have brought rows that the shape
 * lacks, and the shape is removed.
 *
 * Which partitions a shape was linked to is stored with its definition, so that a later
 * start notices that one is gone. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "server/catalog/lineage.h"
#include "server/shape/internal.h"

struct arrival {
    uint32_t oid;
    bool blank; /* nothing was ever written to it */
    struct lineage lineage;
};

/* --- Acting on what the catalog says --- */

static bool is_linked(const struct shape *shape, uint32_t oid)
{
    for (size_t i = 0; i < shape->link_count; i++) {
        if (shape->links[i].route.oid == oid)
            return true;
    }
    return false;
}

/* Whether all rows of the partition come through the stream to this shape. */
static bool comes_whole(const struct shape *shape, const struct arrival *a)
{
    if (shape->def->table->kind != 'p')
        return false;
    if (a->blank)
        return true;
    uint32_t at = a->oid;
    for (size_t i = 0; i <= a->lineage.count && !is_linked(shape, at); i++) {
        const struct lineage_step *step = lineage_step_of(&a->lineage, at);
        if (step == NULL || !step->born)
            return false;
        at = step->parent;
    }
    return true;
}

/* Stores which relations the shape is linked to, if that has changed. */
static int store_links(struct sequencer *q, struct shape *shape)
{
    const struct shape_header *header = atomic_load(&shape->header);
    const struct table *t = header->def->table;
    if (shape->link_count == (size_t)t->child_count + 1)
        return 0;
    uint32_t *children = calloc(shape->link_count, sizeof *children);
    if (children == NULL)
        return ERR_MEMORY;
    size_t count = 0;
    for (size_t i = 0; i < shape->link_count; i++) {
        if (shape->links[i].route.oid != t->oid)
            children[count++] = shape->links[i].route.oid;
    }
    struct shape_def *def = NULL;
    int rc = shape_def_with_children(header->def, children, count, &def, NULL);
    rc = rc < 0 ? rc : sequencer_redefine(q, shape, def);
    shape_def_release(def);
    free(children);
    return rc;
}

typedef void arrival_fn(struct sequencer *q, struct shape *shape,
                        const struct arrival *a);

static void drop_if_lacking(struct sequencer *q, struct shape *shape,
                            const struct arrival *a)
{
    if (!comes_whole(shape, a))
        sequencer_drop(q, shape, OBS_SHAPE_SCHEMA, NULL,
                       "a partition came that may have had rows before");
}

static void link_arrival(struct sequencer *q, struct shape *shape,
                         const struct arrival *a)
{
    struct err err = {0};
    if (sequencer_link(q, shape, a->oid, NULL, &err) < 0)
        sequencer_drop(q, shape, OBS_SHAPE_STORAGE, NULL, err.message);
}

static void store_arrival(struct sequencer *q, struct shape *shape,
                          const struct arrival *a)
{
    (void)a;
    if (store_links(q, shape) < 0)
        sequencer_drop(q, shape, OBS_SHAPE_STORAGE, NULL, "no memory");
}

/* Calls fn for the shapes on the tables above each arrival; `linked` says which of them. */
static void each_shape_above(struct sequencer *q, const struct arrival *all, size_t count,
                             bool linked, arrival_fn *fn)
{
    for (size_t i = 0; i < count; i++) {
        const struct lineage *l = &all[i].lineage;
        for (size_t j = 0; j < l->count; j++) {
            size_t n;
            struct shape **shapes = sequencer_shapes_of(q, l->steps[j].parent, &n);
            for (size_t k = 0; k < n; k++) {
                if (shapes[k]->def->table->oid == l->steps[j].parent &&
                    is_linked(shapes[k], all[i].oid) == linked)
                    fn(q, shapes[k], &all[i]);
            }
        }
    }
}

/* All are judged by what the shapes knew before: a partitioned table that was attached is
 * blank itself, but says nothing for those below it. */
static void settle(struct sequencer *q, const struct arrival *all, size_t count)
{
    each_shape_above(q, all, count, false, drop_if_lacking);
    each_shape_above(q, all, count, false, link_arrival);
    each_shape_above(q, all, count, true, store_arrival);
}

/* --- Seen in the catalog --- */

struct arrivals_job {
    struct mail mail; /* first: comes back as MAIL_PARTITIONS */
    struct sequencer *q;
    struct arrival *all;
    size_t count;
    int code;
};

static void arrivals_free(struct arrivals_job *job)
{
    free(job->all);
    free(job);
}

static bool always_was(const struct lineage *l)
{
    for (size_t i = 0; i < l->count; i++) {
        if (!l->steps[i].born)
            return false;
    }
    return true;
}

static void arrivals_run(void *ctx, PGconn *conn, const struct err *why)
{
    struct arrivals_job *job = ctx;
    job->code = conn == NULL ? why->code : 0;
    for (size_t i = 0; job->code == 0 && i < job->count; i++) {
        struct arrival *a = &job->all[i];
        job->code = lineage_read(conn, a->oid, &a->lineage, NULL);
        if (job->code == 0 && a->lineage.exists && !always_was(&a->lineage))
            job->code = lineage_is_blank(conn, a->oid, &a->blank, NULL);
    }
    if (mailbox_send(&job->q->mailbox, &job->mail, true) < 0)
        arrivals_free(job);
}

int partitions_found(struct sequencer *q, uint32_t oid)
{
    return map_put_u64(&q->arrivals, oid, q, NULL);
}

void partitions_look(struct sequencer *q)
{
    if (q->arrivals_running || q->arrivals.len == 0)
        return;
    struct arrivals_job *job = calloc(1, sizeof *job);
    struct arrival *all = calloc(q->arrivals.len, sizeof *all);
    if (job == NULL || all == NULL) {
        free(job);
        free(all);
        return; /* the next look at the catalog finds them again */
    }
    *job = (struct arrivals_job){.mail.kind = MAIL_PARTITIONS, .q = q, .all = all};
    size_t it = 0;
    struct slice key;
    void *value;
    while (map_next(&q->arrivals, &it, &key, &value)) {
        uint64_t oid;
        memcpy(&oid, key.ptr, sizeof oid);
        all[job->count++].oid = (uint32_t)oid;
    }
    for (size_t i = 0; i < job->count; i++)
        map_del_u64(&q->arrivals, all[i].oid);
    if (pool_submit(q->config.admin_pool, arrivals_run, job) < 0)
        arrivals_free(job);
    else
        q->arrivals_running = true;
}

void partitions_answered(struct sequencer *q, struct mail *mail)
{
    struct arrivals_job *job = (struct arrivals_job *)(void *)mail;
    q->arrivals_running = false;
    if (job->code == 0)
        settle(q, job->all, job->count);
    else
        reconcile_soon(q);
    arrivals_free(job);
    partitions_look(q);
}

/* --- Described by the stream --- */

struct question {
    struct arrival arrival;
    int code;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool done;
    bool abandoned; /* the asker no longer waits: the job frees it */
};

static void question_free(struct question *a)
{
    pthread_cond_destroy(&a->answered);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static void question_run(void *ctx, PGconn *conn, const struct err *why)
{
    struct question *a = ctx;
    (void)why;
    a->code = conn == NULL
                  ? ERR_RETRY
                  : lineage_read(conn, a->arrival.oid, &a->arrival.lineage, NULL);
    pthread_mutex_lock(&a->lock);
    a->done = true;
    bool abandoned = a->abandoned;
    pthread_cond_signal(&a->answered);
    pthread_mutex_unlock(&a->lock);
    if (abandoned)
        question_free(a);
}

#define ANSWER_WAIT_S 5

/* Waits for the answer, which is short; false when it does not come in time. Then the
 * question is the job's to free. */
static bool question_wait(struct question *a)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ANSWER_WAIT_S;
    int rc = 0;
    pthread_mutex_lock(&a->lock);
    while (!a->done && rc == 0)
        rc = pthread_cond_timedwait(&a->answered, &a->lock, &until);
    bool done = a->done;
    a->abandoned = !done;
    pthread_mutex_unlock(&a->lock);
    return done;
}

/* The partition is gone again: whose it was can't be known, so no partitioned table's
 * shape can be trusted to be complete. */
static void drop_parents(struct sequencer *q)
{
    size_t it = 0;
    void *value;
    struct shape *found;
    do {
        found = NULL;
        it = 0;
        while (found == NULL && map_next(&q->shapes.by_handle, &it, NULL, &value)) {
            struct shape *shape = value;
            if (shape->def->table->kind == 'p')
                found = shape;
        }
        if (found != NULL)
            sequencer_drop(q, found, OBS_SHAPE_SCHEMA, NULL,
                           "a partition came and went before it could be looked up");
    } while (found != NULL);
}

static int ask_lineage(struct sequencer *q, uint32_t oid, bool known, struct err *err)
{
    struct question *a = calloc(1, sizeof *a);
    if (a == NULL)
        return err_set(err, ERR_MEMORY, "no memory for a question to the catalog");
    a->arrival.oid = oid;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->answered, NULL);
    if (pool_submit(q->config.admin_pool, question_run, a) < 0) {
        question_free(a);
        return err_set(err, ERR_RETRY, "the catalog can't be asked about a new relation");
    }
    if (!question_wait(a))
        return err_set(err, ERR_RETRY,
                       "the catalog did not tell of a new relation in time");
    int rc = 0;
    if (a->code < 0) {
        rc = err_set(err, ERR_RETRY, "the catalog did not tell of a new relation");
    } else if (a->arrival.lineage.exists) {
        settle(q, &a->arrival, 1);
        rc = map_put_u64(&q->settled, oid, q, NULL);
    } else if (!known) {
        drop_parents(q);
    }
    question_free(a);
    return rc;
}

/* A relation may be linked to some shapes and not to others: to its own, or to one of its
 * root that was made after it. Once it was asked about and is known as a partition, the
 * shapes that come later know it from their definitions (preparation.c sees to that). */
int partitions_described(struct sequencer *q, const struct decode_relation *relation,
                         struct err *err)
{
    if (q->parent_shapes == 0)
        return 0;
    size_t count;
    struct route_entry *const *entries = route_entries(q->route, relation->oid, &count);
    bool placed = false;
    for (size_t i = 0; i < count; i++) {
        const struct shape_link *link = (const struct shape_link *)(void *)entries[i];
        const struct table *t = link->shape->def->table;
        placed = placed || (t->kind == 'p' && t->oid != relation->oid);
    }
    if (placed && map_get_u64(&q->settled, relation->oid) != NULL)
        return 0;
    if (count == 0 && relation->replica_identity != 'f')
        reconcile_soon(q); /* a partition begins with the default */
    return ask_lineage(q, relation->oid, count > 0, err);
}
