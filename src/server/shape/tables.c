/* Tables that have shapes, and their place in the publication.
 *
 * A table joins the publication before its first snapshot (preparation.c) and leaves it a
 * while after its last shape is gone, so that a rotation doesn't take it out and in
 * again. Both run on worker threads; the table_use's lock keeps them apart, and the one
 * that takes it out looks again, under the lock, whether there are still no shapes.
 *
 * Tables that an earlier run left in the publication and no restored shape needs leave the
 * same way after the first look at the catalog. */
#include <stdlib.h>

#include "base/clock.h"
#include "server/shape/internal.h"

#define IDLE_BEFORE_LEAVING_MS 250
#define LEAVE_TIMEOUT_MS       250
#define LOCK_PAUSE_MS          5

static struct table_use *table_use_new(struct table *table)
{
    struct table_use *use = calloc(1, sizeof *use);
    if (use == NULL)
        return NULL;
    use->oid = table->oid;
    use->table = table_retain(table);
    atomic_init(&use->refs, 1);
    pthread_mutex_init(&use->lock, NULL);
    pthread_mutex_init(&use->known_lock, NULL);
    list_init(&use->in_idle);
    list_init(&use->parked);
    return use;
}

struct table_use *table_use_retain(struct table_use *use)
{
    atomic_fetch_add(&use->refs, 1);
    return use;
}

void table_use_release(struct table_use *use)
{
    if (atomic_fetch_sub(&use->refs, 1) != 1)
        return;
    pthread_mutex_destroy(&use->lock);
    pthread_mutex_destroy(&use->known_lock);
    table_release(use->known);
    free(use->known_stamp);
    table_release(use->ensured_as);
    table_release(use->table);
    table_release(use->clause_table);
    free(use);
}

struct table *table_use_known(struct table_use *use, struct slice stamp)
{
    struct table *known = NULL;
    pthread_mutex_lock(&use->known_lock);
    if (stamp.len > 0 && use->known_stamp != NULL &&
        slice_eq(slice_of(use->known_stamp), stamp))
        known = table_retain(use->known);
    pthread_mutex_unlock(&use->known_lock);
    return known;
}

void table_use_learn(struct table_use *use, struct slice stamp, struct table *table)
{
    char *copy = stamp.len == 0 ? NULL : slice_dup(stamp);
    if (copy == NULL)
        return;
    pthread_mutex_lock(&use->known_lock);
    free(use->known_stamp);
    table_release(use->known);
    use->known_stamp = copy;
    use->known = table_retain(table);
    pthread_mutex_unlock(&use->known_lock);
}

/* Looked for again and again: whoever has the lock may be waiting for another session's
 * lock, on a connection that only its own pool can cancel. */
bool table_use_lock(struct sequencer *q, struct table_use *use)
{
    while (!atomic_load(&q->stop_requested)) {
        if (pthread_mutex_trylock(&use->lock) == 0)
            return true;
        clock_sleep_ms(LOCK_PAUSE_MS);
    }
    return false;
}

void table_use_unlock(struct table_use *use)
{
    pthread_mutex_unlock(&use->lock);
}

/* A renamed table is still the same; its new name is what it is looked for by. */
static void table_use_rename(struct table_use *use, struct table *table)
{
    if (slice_eq(use->table->name, table->name) &&
        slice_eq(use->table->schema, table->schema))
        return;
    table_release(use->table);
    use->table = table_retain(table);
}

struct table_use *table_use_get(struct sequencer *q, struct table *table)
{
    struct table_use *use = map_get_u64(&q->tables, table->oid);
    if (use == NULL) {
        use = table_use_new(table);
        if (use != NULL && map_put_u64(&q->tables, table->oid, use, NULL) < 0) {
            table_use_release(use);
            use = NULL;
        }
    }
    if (use != NULL) {
        table_use_rename(use, table);
        list_remove(&use->in_idle);
        atomic_fetch_add(&use->shapes, 1);
    }
    return use;
}

void table_use_put(struct sequencer *q, struct table_use *use)
{
    if (atomic_fetch_sub(&use->shapes, 1) != 1)
        return;
    use->idle_since_ms = clock_mono_ms();
    list_push(&q->idle_tables, &use->in_idle);
}

/* --- Leaving --- */

struct leave_job {
    struct mail mail; /* first: comes back as MAIL_TABLE_LEFT */
    struct sequencer *q;
    struct table_use *use; /* references */
    struct table *table;
};

static void leave_free(struct leave_job *job)
{
    table_release(job->table);
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the job's own reference
    table_use_release(job->use);
    free(job);
}

/* It is not worth waiting for: a member without shapes costs some WAL, while the threads
 * here answer the catalog's questions. */
static void leave_publication(struct leave_job *job, PGconn *conn)
{
    struct publication_config config = job->q->config.publication;
    struct err err = {0};
    config.lock_timeout_ms = LEAVE_TIMEOUT_MS;
    atomic_store(&job->use->ensured, false);
    if (publication_drop(conn, &config, job->use->oid, &err) < 0)
        log_event(job->q->config.log, LOG_WARNING, "publication.drop_failed",
                  LOG_U64("oid", job->use->oid), LOG_SLICE("schema", job->table->schema),
                  LOG_SLICE("table", job->table->name), LOG_TEXT("reason", err.message));
}

static void leave_run(void *ctx, PGconn *conn, const struct err *why)
{
    struct leave_job *job = ctx;
    (void)why;
    if (conn != NULL && table_use_lock(job->q, job->use)) {
        if (atomic_load(&job->use->shapes) == 0)
            leave_publication(job, conn);
        table_use_unlock(job->use);
    }
    if (mailbox_send(&job->q->mailbox, &job->mail, true) < 0)
        leave_free(job);
}

/* Not before a job that may still take the table out or put it in is through: a new use
 * would have a lock of its own, and the job would take the table from under new shapes. */
void table_forget_if_unused(struct sequencer *q, struct table_use *use)
{
    if (atomic_load(&use->shapes) > 0 || use->leaving > 0 || use->publishing ||
        !list_empty(&use->in_idle) || map_get_u64(&q->tables, use->oid) != use)
        return;
    map_del_u64(&q->tables, use->oid);
    table_use_release(use);
}

void tables_left(struct sequencer *q, struct mail *mail)
{
    struct leave_job *job = (struct leave_job *)(void *)mail;
    job->use->leaving--;
    table_forget_if_unused(q, job->use);
    leave_free(job);
}

/* Whether it is a member for the sake of a table above it, too (publication.h). */
static bool is_inherited(const struct sequencer *q, uint32_t oid)
{
    size_t it = 0;
    void *value;
    while (map_next(&q->tables, &it, NULL, &value)) {
        const struct table_use *use = value;
        const struct table *t = use->table;
        for (size_t i = 0; atomic_load(&use->shapes) > 0 && i < t->child_count; i++) {
            if (t->children[i] == oid)
                return true;
        }
    }
    return false;
}

static void table_leave(struct sequencer *q, struct table_use *use)
{
    list_remove(&use->in_idle);
    bool stays = q->config.publication.manual || is_inherited(q, use->oid);
    struct leave_job *job = stays ? NULL : calloc(1, sizeof *job);
    if (job != NULL) {
        job->mail.kind = MAIL_TABLE_LEFT;
        job->q = q;
        job->use = table_use_retain(use);
        job->table = table_retain(use->table);
        use->leaving++;
        if (pool_submit(q->config.admin_pool, leave_run, job) == 0)
            return;
        use->leaving--;
        leave_free(job);
    }
    table_forget_if_unused(q, use);
}

void tables_leave_idle(struct sequencer *q, int64_t now_ms)
{
    while (!list_empty(&q->idle_tables)) {
        struct table_use *use =
            LIST_ENTRY(q->idle_tables.next, struct table_use, in_idle);
        if (now_ms < use->idle_since_ms + IDLE_BEFORE_LEAVING_MS)
            return;
        table_leave(q, use);
    }
}

/* A use without shapes, which leaves as one does whose last shape is gone: a shape that comes
 * first keeps it. */
void tables_take_over(struct sequencer *q, const uint32_t *members, size_t count)
{
    struct slice unknown = {"", 0};
    for (size_t i = 0; i < count; i++) {
        if (map_get_u64(&q->tables, members[i]) != NULL || is_inherited(q, members[i]))
            continue;
        struct table model = {.oid = members[i], .schema = unknown, .name = unknown};
        struct table *table = table_copy(&model);
        struct table_use *use = table == NULL ? NULL : table_use_get(q, table);
        if (use != NULL)
            table_use_put(q, use);
        table_release(table);
    }
}

int64_t tables_deadline_ms(const struct sequencer *q)
{
    if (list_empty(&q->idle_tables))
        return INT64_MAX;
    return LIST_ENTRY(q->idle_tables.next, struct table_use, in_idle)->idle_since_ms +
           IDLE_BEFORE_LEAVING_MS;
}

void tables_fini(struct sequencer *q)
{
    size_t it = 0;
    void *value;
    while (map_next(&q->tables, &it, NULL, &value)) {
        preparation_forget_parked(value);
        table_use_release(value);
    }
    map_fini(&q->tables);
}
