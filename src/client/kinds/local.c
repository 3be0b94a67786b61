/*
 * Local collections: in memory, or kept in a file (file.c). A direct mutation runs the app's handler,
 * if there is one, and then becomes rows by an immediate sync transaction, in the poll that follows
 * the call; until then it lies over the rows like any other.
 */

#include "client/kinds/kinds.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

static bool mine(const struct coulomb_collection *coll, const struct mutation *m)
{
    return m->coll == coll && m->state != COULOMB_MUTATION_REJECTED;
}

/* Tells versions of rows apart, also between processes. */
static void version_make(coulomb_client *c, char *text, size_t cap)
{
    uint64_t n = ++c->last_id * UINT64_C(0x9E3779B97F4A7C15) ^ c->seed;

    snprintf(text, cap, "%016llx%016llx", (unsigned long long)clock_wall_us(),
             (unsigned long long)(n ^ n >> 29));
}

static int write_mutation(struct coulomb_collection *coll, const struct mutation *m,
                          coulomb_value *values)
{
    char version[40];

    if (m->type == COULOMB_DELETE)
        return coulomb_sync_delete(coll->session, m->key);
    for (size_t i = 0; i < coll->layout->count; i++)
        values[i] = row_at(m->modified, i);
    if (!((struct local_kind *)coll->kind)->save)
        return coulomb_sync_update(coll->session, values, NULL, 0);
    version_make(coll->client, version, sizeof(version));
    return coulomb_sync_update(coll->session, values, version, strlen(version));
}

int local_confirm(struct coulomb_collection *coll, const coulomb_tx *tx)
{
    coulomb_client *c = coll->client;
    size_t bytes = coll->layout->count * sizeof(coulomb_value);
    coulomb_value *values;
    struct local_kind *kind = coll->kind;
    int code = COULOMB_OK;

    if (!coll->session)
        return client_fail(c, COULOMB_E_SYNC_NOT_INITIALIZED, "%s was cleaned up",
                           coll->id);
    values = heap_alloc(c->heap, bytes);
    if (!values)
        return client_no_memory(c);
    code = coulomb_sync_begin(coll->session, COULOMB_SYNC_IMMEDIATE);
    for (size_t i = 0; i < tx->count && code == COULOMB_OK; i++) {
        if (mine(coll, tx->mutations[i]))
            code = write_mutation(coll, tx->mutations[i], values);
    }
    heap_free(c->heap, values, bytes);
    if (code == COULOMB_OK && kind && kind->save)
        code = kind->save(coll, tx);
    if (code == COULOMB_OK)
        code = coulomb_sync_commit(coll->session);
    if (code != COULOMB_OK)
        sync_abort(coll);
    return code;
}

/* --- Handlers ---------------------------------------------------------------------------------- */

static void user_done(void *what, int code, const char *message)
{
    struct waiting *w = what;
    struct coulomb_collection *coll = w->coll;
    coulomb_tx *tx = w->tx;
    struct coulomb_completion *ours = w->ours;

    heap_free(coll->heap, w, sizeof(*w));
    if (code == COULOMB_OK) {
        code = local_confirm(coll, tx);
        message = coll->client->error.message;
    }
    coulomb_complete(ours, code, message);
    tx_drop(tx);
    collection_drop(coll);
}

static coulomb_persist_fn user_handler(const struct coulomb_collection *coll,
                                       const coulomb_tx *tx)
{
    switch (tx->mutations[0]->type) {
    case COULOMB_INSERT:
        return coll->options.on_insert;
    case COULOMB_UPDATE:
        return coll->options.on_update;
    case COULOMB_DELETE:
        break;
    }
    return coll->options.on_delete;
}

int kind_run_handler(struct coulomb_collection *coll, coulomb_tx *tx,
                     struct coulomb_completion *done,
                     void (*then)(void *what, int code, const char *message))
{
    coulomb_persist_fn handler = user_handler(coll, tx);
    struct waiting *w = heap_zalloc(coll->heap, sizeof(*w));
    struct coulomb_completion *theirs;
    int code;

    if (!w)
        return client_no_memory(coll->client);
    *w = (struct waiting){.coll = coll, .tx = tx, .ours = done};
    list_init(&w->link);
    theirs = completion_new(coll->client, w, then, &w->theirs);
    if (!theirs) {
        heap_free(coll->heap, w, sizeof(*w));
        return COULOMB_E_MEMORY;
    }
    collection_hold(coll);
    tx_retain(tx);
    code = handler ? handler(tx, coll, theirs, coll->options.handler_arg) : COULOMB_OK;
    if (code != COULOMB_PENDING)
        coulomb_complete(theirs, code, NULL);
    return COULOMB_PENDING;
}

static int local_persist(coulomb_tx *tx, coulomb_collection *coll,
                         coulomb_completion *done, void *arg)
{
    (void)arg;
    return kind_run_handler(coll, tx, done, user_done);
}

int coulomb_local_accept(coulomb_collection *coll, coulomb_tx *tx)
{
    int code = client_enter(coll->client);

    if (code == COULOMB_OK && (!coll->local_only || !coll->kind))
        code = client_fail(coll->client, COULOMB_E_COLLECTION_OPERATION,
                           "%s is no local collection", coll->id);
    return code == COULOMB_OK ? local_confirm(coll, tx) : code;
}

/* --- Making ---------------------------------------------------------------------------------------- */

void local_free(struct coulomb_collection *coll)
{
    struct local_kind *kind = coll->kind;

    if (kind->free_extra)
        kind->free_extra(coll);
    heap_free(coll->heap, kind, kind->bytes);
    coll->kind = NULL;
}

int local_make(coulomb_client *c, const coulomb_collection_options *o, size_t kind_bytes,
               coulomb_collection **out)
{
    coulomb_collection *coll;
    struct local_kind *kind;
    int code;

    if (o->get_key && o->key_column)
        return client_fail(c, COULOMB_E_COLLECTION_CONFIG,
                           "key_column and get_key are both given");
    code = collection_make(c, o, &coll);
    if (code != COULOMB_OK)
        return code;
    coll->options.gc_time_ms = COULOMB_NEVER;
    coll->options.full_updates = 1;
    coll->local_only = true;
    coll->kind_persist = local_persist;
    kind = heap_zalloc(c->heap, kind_bytes);
    if (kind) {
        kind->bytes = kind_bytes;
        coll->kind = kind;
        coll->kind_free = local_free;
        code = session_begin(coll);
    } else {
        code = client_no_memory(c);
    }
    if (code == COULOMB_OK)
        code = status_set(coll, COULOMB_READY);
    if (code != COULOMB_OK) {
        coulomb_collection_release(coll);
        return code;
    }
    *out = coll;
    return COULOMB_OK;
}

static int write_item(struct coulomb_collection *coll, const coulomb_item *item,
                      coulomb_value *values)
{
    for (size_t i = 0; i < coll->layout->count; i++)
        values[i] = coulomb_absent();
    for (size_t i = 0; i < item->count; i++) {
        int column = layout_find(coll->layout, item->fields[i].column);

        if (column < 0)
            return client_fail(coll->client, COULOMB_E_COLUMN, "%s has no column %s",
                               coll->id, item->fields[i].column);
        values[column] = item->fields[i].value;
    }
    return coulomb_sync_insert(coll->session, values, NULL, 0);
}

static int write_initial(struct coulomb_collection *coll, const coulomb_item *initial,
                         size_t count)
{
    size_t bytes = coll->layout->count * sizeof(coulomb_value);
    coulomb_value *values = heap_alloc(coll->heap, bytes);
    int code;

    if (!values)
        return client_no_memory(coll->client);
    code = coulomb_sync_begin(coll->session, 0);
    for (size_t i = 0; i < count && code == COULOMB_OK; i++)
        code = write_item(coll, &initial[i], values);
    heap_free(coll->heap, values, bytes);
    if (code == COULOMB_OK)
        code = coulomb_sync_commit(coll->session);
    return code;
}

int coulomb_local_new(coulomb_client *c, const coulomb_collection_options *options,
                      const coulomb_item *initial, size_t count, coulomb_collection **out)
{
    coulomb_collection_options o;
    coulomb_collection *coll;
    int code = client_enter(c);

    if (code != COULOMB_OK)
        return code;
    if (!options)
        return client_fail(c, COULOMB_E_COLLECTION_REQUIRES_CONFIG,
                           "a collection needs options");
    code = options_read(c, &o, sizeof(o), options, "coulomb_local_new");
    if (code == COULOMB_OK)
        code = local_make(c, &o, sizeof(struct local_kind), &coll);
    if (code != COULOMB_OK)
        return code;
    if (count > 0)
        code = write_initial(coll, initial, count);
    if (code != COULOMB_OK) {
        coulomb_collection_release(coll);
        return code;
    }
    *out = coll;
    return COULOMB_OK;
}
