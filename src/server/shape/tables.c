/* Tables that have shapes, and their place in the publication.
 *
 * A table joins the publication before its first snapshot (preparation.c) and leaves it a
 * while after its last shape is gone, so that a rotation doesn't take it out and in
 * again. Both run on worker threads; the table_use's lock keeps them apart, and the one
 * that takes it out looks again, under the lock, whether there are still no shapes. */
#include <stdlib.h>

#include "base/clock.h"
#include "server/shape/internal.h"

#define IDLE_BEFORE_LEAVING_MS 250

static struct table_use *table_use_new(const struct table *table)
{
    struct table_use *use = calloc(1, sizeof *use);
    if (use == NULL)
        return NULL;
    use->oid = table->oid;
    use->schema = slice_make(slice_dup(table->schema), table->schema.len);
    use->name = slice_make(slice_dup(table->name), table->name.len);
    atomic_init(&use->refs, 1);
    pthread_mutex_init(&use->lock, NULL);
    list_init(&use->in_idle);
    if (use->schema.ptr == NULL || use->name.ptr == NULL) {
        table_use_release(use);
        return NULL;
    }
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
    free((void *)(uintptr_t)use->schema.ptr);
    free((void *)(uintptr_t)use->name.ptr);
    free(use);
}

struct table_use *table_use_get(struct sequencer *q, const struct table *table)
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

struct leave_job {
    struct sequencer *q;
    struct table_use *use;
};

static void leave_run(void *ctx, PGconn *conn, const struct err *why)
{
    struct leave_job *job = ctx;
    struct table_use *use = job->use;
    (void)why;
    pthread_mutex_lock(&use->lock);
    if (conn != NULL && atomic_load(&use->shapes) == 0) {
        struct err err = {0};
        use->ensured = false;
        if (publication_drop(conn, &job->q->config.publication, use->oid, &err) < 0)
            log_event(job->q->config.log, LOG_WARNING, "publication.drop_failed",
                      LOG_SLICE("schema", use->schema), LOG_SLICE("table", use->name),
                      LOG_TEXT("reason", err.message));
    }
    pthread_mutex_unlock(&use->lock);
    table_use_release(use);
    free(job);
}

static void table_leave(struct sequencer *q, struct table_use *use)
{
    list_remove(&use->in_idle);
    map_del_u64(&q->tables, use->oid);
    struct leave_job *job = q->config.publication.manual ? NULL : calloc(1, sizeof *job);
    if (job == NULL) {
        table_use_release(use);
        return;
    }
    job->q = q;
    job->use = use; /* the map's reference */
    if (pool_submit(q->config.admin_pool, leave_run, job) < 0) {
        table_use_release(use);
        free(job);
    }
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
    while (map_next(&q->tables, &it, NULL, &value))
        table_use_release(value);
    map_fini(&q->tables);
}
