/*
 * Polled collections. A function of the app's fetches all rows; what they differ in from the synced
 * ones becomes a sync transaction. One fetch runs at a time; asking while it runs has another one
 * follow. A handler's transaction settles when the fetch that began after it is answered, so that
 * the row as the server made it takes the optimistic one's place.
 */

#include "client/kinds/kinds.h"

#include <string.h>

#define RETRY_FIRST_MS 1000
#define RETRY_MAX_MS   30000

struct polled_kind {
    coulomb_polled_options options;
    struct coulomb_fetch *running; /* NULL: none */
    bool again;                    /* another one was asked for */
    bool deferred;
    bool deferred_answer; /* one was dropped meanwhile */
    uint64_t number;      /* of fetches begun */
    size_t errors;
    coulomb_error last;
    int retries_left;
    bool answered; /* once, in this session */
    struct task fetch_task;
    struct timer timer;
    struct list waiting;
    struct coulomb_collection *coll;
};

struct coulomb_fetch {
    struct coulomb_collection *coll; /* held */
    struct coulomb_sync *session;    /* held; an older one's answer is dropped */
    struct coulomb_row **rows;
    size_t count;
    size_t cap;
    uint64_t number;
};

static void fetch_free(struct coulomb_fetch *f)
{
    struct coulomb_collection *coll = f->coll;

    for (size_t i = 0; i < f->count; i++)
        row_release(f->rows[i]);
    heap_free(coll->heap, f->rows, f->cap * sizeof(struct coulomb_row *));
    heap_free(coll->heap, f, sizeof(*f));
    collection_drop(coll);
}

/* --- Asking ------------------------------------------------------------------------------------ */

static int fetch_run(struct task *t)
{
    struct polled_kind *kind = LIST_ENTRY(t, struct polled_kind, fetch_task);
    struct coulomb_collection *coll = kind->coll;
    struct coulomb_fetch *f;

    if (!coll->session)
        return COULOMB_OK;
    if (kind->running) {
        kind->again = true;
        return COULOMB_OK;
    }
    f = heap_zalloc(coll->heap, sizeof(*f));
    if (!f)
        return COULOMB_E_MEMORY;
    kind->again = false;
    timer_cancel(&kind->timer);
    f->coll = coll;
    f->session = coulomb_sync_retain(coll->session);
    f->number = ++kind->number;
    collection_hold(coll);
    kind->running = f;
    kind->options.fetch(f, kind->options.fetch_arg);
    return COULOMB_OK;
}

static void timer_fire(struct timer *t)
{
    struct polled_kind *kind = LIST_ENTRY(t, struct polled_kind, timer);

    /* Nobody looks: the question waits until somebody may. */
    if (kind->coll->sub_count == 0 && kind->errors == 0)
        timer_set(t, timer_after(kind->coll->client, kind->options.interval_ms));
    else
        task_queue(&kind->fetch_task);
}

int coulomb_fetch_row(coulomb_fetch *fetch, const coulomb_value *values)
{
    struct coulomb_collection *coll = fetch->coll;
    void *rows = fetch->rows;
    struct coulomb_row *row;
    int code = client_enter(coll->client);

    if (code == COULOMB_OK)
        code = row_make(coll, values, &row);
    if (code != COULOMB_OK)
        return code;
    code = heap_grow(coll->heap, &rows, &fetch->cap, fetch->count + 1,
                     sizeof(struct coulomb_row *));
    fetch->rows = rows;
    if (code != COULOMB_OK) {
        row_release(row);
        return client_no_memory(coll->client);
    }
    fetch->rows[fetch->count++] = row;
    return COULOMB_OK;
}

/* --- The answer ----------------------------------------------------------------------------------- */

static coulomb_key row_key_of(const void *item)
{
    return row_key(item);
}

/* The row takes the place of what is under its key, also where it has no value. */
static int replace_row(struct coulomb_collection *coll, const struct coulomb_row *row,
                       coulomb_value *values)
{
    int code = coulomb_sync_delete(coll->session, row_key(row));

    for (size_t i = 0; i < coll->layout->count; i++)
        values[i] = row_at(row, i);
    return code == COULOMB_OK ? coulomb_sync_insert(coll->session, values, NULL, 0)
                              : code;
}

static int write_rows(struct coulomb_fetch *f, const struct ktab *fetched, bool queued)
{
    struct coulomb_collection *coll = f->coll;
    size_t bytes = coll->layout->count * sizeof(coulomb_value);
    coulomb_value *values = heap_alloc(coll->heap, bytes);
    struct kent *ent;
    size_t it = 0;
    int code = values ? COULOMB_OK : COULOMB_E_MEMORY;

    while (code == COULOMB_OK && (ent = ktab_next(fetched, &it)) != NULL) {
        const struct coulomb_row *row = ent->item;
        const struct coulomb_row *old = ktab_get(&coll->synced, row_key(row), ent->hash);
        int equal;

        arena_reset(&coll->client->scratch);
        equal = old && !queued ? row_equal(old, row, &coll->client->scratch) : 0;
        if (equal != 0) {
            code = equal < 0 ? equal : COULOMB_OK;
            continue;
        }
        code = replace_row(coll, row, values);
    }
    heap_free(coll->heap, values, bytes);
    return code;
}

/* What the fetch before brought, or will have, and this one did not. */
static int delete_rows(struct coulomb_collection *coll, const struct ktab *fetched,
                       struct sync_tx *ours)
{
    struct kent *ent;
    size_t it = 0;
    int code = COULOMB_OK;

    while (code == COULOMB_OK && (ent = ktab_next(&coll->synced, &it)) != NULL) {
        if (!ktab_get(fetched, row_key(ent->item), ent->hash))
            code = coulomb_sync_delete(coll->session, row_key(ent->item));
    }
    for (struct list *l = coll->sync_txs.next; l != &coll->sync_txs && code == COULOMB_OK;
         l = l->next) {
        const struct sync_tx *s = LIST_ENTRY(l, struct sync_tx, link);

        it = 0;
        while (s != ours && code == COULOMB_OK &&
               (ent = ktab_next(&s->keys, &it)) != NULL) {
            coulomb_key key = ((struct row_meta *)ent->item)->key;

            if (!ktab_get(fetched, key, ent->hash))
                code = coulomb_sync_delete(coll->session, key);
        }
    }
    return code;
}

/* A later row of the same key takes the earlier one's place. */
static int index_rows(struct coulomb_fetch *f, struct ktab *fetched)
{
    int code = ktab_reserve(fetched, f->count);

    for (size_t i = 0; i < f->count && code == COULOMB_OK; i++) {
        coulomb_key key = row_key(f->rows[i]);
        uint32_t hash = coll_hash(f->coll, key);
        struct kent *ent = ktab_find(fetched, key, hash);

        if (ent)
            ent->item = f->rows[i];
        else
            ktab_put(fetched, f->rows[i], hash);
    }
    return code;
}

static int take_rows(struct coulomb_fetch *f)
{
    struct coulomb_collection *coll = f->coll;
    bool queued = !list_empty(&coll->sync_txs);
    struct ktab fetched;
    int code;

    ktab_init(&fetched, coll->heap, row_key_of);
    code = index_rows(f, &fetched);
    if (code == COULOMB_OK)
        code = sync_index_pending(coll);
    if (code == COULOMB_OK)
        code = coulomb_sync_begin(coll->session, 0);
    if (code == COULOMB_OK) {
        code = write_rows(f, &fetched, queued);
        if (code == COULOMB_OK)
            code = delete_rows(coll, &fetched, sync_open(coll));
        if (code == COULOMB_OK)
            code = coulomb_sync_commit(coll->session);
        if (code != COULOMB_OK)
            sync_abort(coll);
    }
    ktab_fini(&fetched);
    return code == COULOMB_E_MEMORY ? client_no_memory(coll->client) : code;
}

static void waiting_end(struct waiting *w, int code, const char *message)
{
    struct coulomb_collection *coll = w->coll;
    coulomb_tx *tx = w->tx;
    struct coulomb_completion *ours = w->ours;

    list_remove(&w->link);
    heap_free(coll->heap, w, sizeof(*w));
    coulomb_complete(ours, code, message);
    tx_drop(tx);
    collection_drop(coll);
}

/* The server has the mutations, whatever became of the fetch. */
static void release_waiting(struct polled_kind *kind, uint64_t number)
{
    while (!list_empty(&kind->waiting)) {
        struct waiting *w = LIST_ENTRY(kind->waiting.next, struct waiting, link);

        if (w->number > number)
            break;
        waiting_end(w, COULOMB_OK, NULL);
    }
}

static void fetch_failed(struct polled_kind *kind, int code, const char *message)
{
    struct coulomb_collection *coll = kind->coll;
    int64_t wait = RETRY_FIRST_MS;

    kind->errors++;
    error_set(&kind->last, code, "%s", message ? message : coulomb_error_text(code));
    if (kind->retries_left > 0) {
        for (int i = kind->options.retries - kind->retries_left;
             i > 0 && wait < RETRY_MAX_MS; i--)
            wait *= 2;
        kind->retries_left--;
        timer_set(&kind->timer,
                  timer_after(coll->client, wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS));
    } else if (!kind->answered && coll->status == COULOMB_LOADING) {
        if (coulomb_sync_mark_error(coll->session, code, kind->last.message) !=
            COULOMB_OK)
            client_log(coll->client, COULOMB_LOG_WARNING, "event=polled.mark_error");
    }
}

static void fetch_fine(struct polled_kind *kind)
{
    struct coulomb_collection *coll = kind->coll;

    kind->errors = 0;
    kind->last.code = COULOMB_OK;
    kind->retries_left = kind->options.retries;
    kind->answered = true;
    if (coulomb_sync_mark_ready(coll->session) != COULOMB_OK)
        kind->again = true; /* memory: the next answer tries it again */
}

void coulomb_fetch_done(coulomb_fetch *fetch, int code, const char *message)
{
    struct coulomb_collection *coll = fetch->coll;
    struct polled_kind *kind = coll->kind;
    bool current = kind && coll->session && fetch->session == coll->session &&
                   client_enter(coll->client) == COULOMB_OK;
    uint64_t number = fetch->number;

    if (kind && kind->running == fetch)
        kind->running = NULL;
    if (current && kind->deferred) {
        kind->deferred_answer = true;
    } else if (current) {
        if (code == COULOMB_OK) {
            code = take_rows(fetch);
            message = coll->client->error.message;
        }
        if (code == COULOMB_OK)
            fetch_fine(kind);
        else
            fetch_failed(kind, code < 0 ? code : COULOMB_E_FAILED, message);
    }
    collection_hold(coll);
    coulomb_sync_release(fetch->session);
    fetch_free(fetch);
    if (current) {
        release_waiting(kind, number);
        if (kind->again)
            task_queue(&kind->fetch_task);
        else if (kind->options.interval_ms > 0 && !timer_is_set(&kind->timer))
            timer_set(&kind->timer, timer_after(coll->client, kind->options.interval_ms));
    }
    collection_drop(coll);
}

/* --- Handlers ------------------------------------------------------------------------------------------ */

static void user_done(void *what, int code, const char *message)
{
    struct waiting *w = what;
    struct polled_kind *kind = w->coll->kind;

    if (code != COULOMB_OK || !kind || kind->options.no_refetch || !w->coll->session) {
        waiting_end(w, code, message);
        return;
    }
    w->number = kind->number + 1;
    list_push(&kind->waiting, &w->link);
    task_queue(&kind->fetch_task);
}

static int polled_persist(coulomb_tx *tx, coulomb_collection *coll,
                          coulomb_completion *done, void *arg)
{
    (void)arg;
    return kind_run_handler(coll, tx, done, user_done);
}

/* --- Direct writes ---------------------------------------------------------------------------------------- */

static int polled_enter(const coulomb_collection *coll)
{
    int code = client_enter(coll->client);

    if (code == COULOMB_OK && coll->kind_persist != polled_persist)
        code = client_fail(coll->client, COULOMB_E_COLLECTION_OPERATION,
                           "%s is not polled", coll->id);
    return code;
}

static int check_write(coulomb_collection *coll, const coulomb_write *write,
                       coulomb_key key, uint32_t hash)
{
    bool there = ktab_get(&coll->synced, key, hash) != NULL;
    char text[128];
    int code = COULOMB_OK;

    if (sync_names_key(coll, key, hash))
        code = COULOMB_E_DUPLICATE_KEY_IN_BATCH;
    else if (write->type == COULOMB_WRITE_INSERT && there)
        code = COULOMB_E_DUPLICATE_KEY;
    else if (write->type == COULOMB_WRITE_UPDATE && !there)
        code = COULOMB_E_UPDATE_ITEM_NOT_FOUND;
    else if (write->type == COULOMB_WRITE_DELETE && !there)
        code = COULOMB_E_DELETE_ITEM_NOT_FOUND;
    if (code == COULOMB_OK)
        return code;
    key_print(key, text, sizeof(text));
    client_fail(coll->client, code, "%s: %s: %s", coll->id, coulomb_error_text(code),
                text);
    memcpy(coll->client->error.key, text, sizeof(text));
    return code;
}

static int write_one(coulomb_collection *coll, const coulomb_write *write)
{
    coulomb_key key = write->key;
    struct coulomb_row *row = NULL;
    int code = COULOMB_OK;

    if (write->type != COULOMB_WRITE_DELETE) {
        code = row_make(coll, write->values, &row);
        if (code != COULOMB_OK)
            return code;
        key = row_key(row);
    }
    code = sync_index_pending(coll) == COULOMB_OK
               ? check_write(coll, write, key, coll_hash(coll, key))
               : client_no_memory(coll->client);
    if (code == COULOMB_OK) {
        if (write->type == COULOMB_WRITE_DELETE)
            code = coulomb_sync_delete(coll->session, key);
        else
            code = coulomb_sync_update(coll->session, write->values, NULL, 0);
    }
    row_release(row);
    return code;
}

int coulomb_polled_write(coulomb_collection *coll, const coulomb_write *writes,
                         size_t count)
{
    int code = polled_enter(coll);

    if (code != COULOMB_OK)
        return code;
    if (!coll->session)
        return client_fail(coll->client, COULOMB_E_SYNC_NOT_INITIALIZED,
                           "%s was not started; subscribe or preload first", coll->id);
    code = coulomb_sync_begin(coll->session, COULOMB_SYNC_IMMEDIATE);
    if (code != COULOMB_OK)
        return code;
    for (size_t i = 0; i < count && code == COULOMB_OK; i++)
        code = write_one(coll, &writes[i]);
    if (code == COULOMB_OK)
        code = coulomb_sync_commit(coll->session);
    if (code != COULOMB_OK)
        sync_abort(coll);
    return code;
}

/* --- The rest of the API ------------------------------------------------------------------------------------ */

int coulomb_polled_refetch(coulomb_collection *coll)
{
    struct polled_kind *kind = coll->kind;
    int code = polled_enter(coll);

    if (code != COULOMB_OK || !coll->session)
        return code;
    kind->retries_left = kind->options.retries;
    task_queue(&kind->fetch_task);
    return COULOMB_OK;
}

size_t coulomb_polled_errors(const coulomb_collection *coll, const coulomb_error **last)
{
    const struct polled_kind *kind = coll->kind;

    if (last)
        *last = kind && kind->errors > 0 ? &kind->last : NULL;
    return kind ? kind->errors : 0;
}

int coulomb_polled_defer(coulomb_collection *coll, int defer)
{
    struct polled_kind *kind = coll->kind;
    int code = polled_enter(coll);

    if (code != COULOMB_OK)
        return code;
    kind->deferred = defer != 0;
    if (!kind->deferred && kind->deferred_answer) {
        kind->deferred_answer = false;
        return coulomb_polled_refetch(coll);
    }
    return COULOMB_OK;
}

static int polled_start(coulomb_sync *sync, void *arg)
{
    struct polled_kind *kind = arg;

    (void)sync;
    kind->answered = false;
    kind->retries_left = kind->options.retries;
    task_queue(&kind->fetch_task);
    return COULOMB_OK;
}

static int polled_stop(coulomb_sync *sync, void *arg)
{
    struct polled_kind *kind = arg;

    (void)sync;
    timer_cancel(&kind->timer);
    task_cancel(&kind->fetch_task);
    kind->running = NULL; /* its answer will find another session */
    kind->again = kind->deferred_answer = false;
    release_waiting(kind, UINT64_MAX);
    return COULOMB_OK;
}

static void polled_free(struct coulomb_collection *coll)
{
    heap_free(coll->heap, coll->kind, sizeof(struct polled_kind));
    coll->kind = NULL;
}

static int polled_init(coulomb_collection *coll, const coulomb_polled_options *o)
{
    struct polled_kind *kind = heap_zalloc(coll->heap, sizeof(*kind));

    if (!kind)
        return client_no_memory(coll->client);
    kind->options = *o;
    kind->coll = coll;
    list_init(&kind->waiting);
    task_init(&kind->fetch_task, coll->client, fetch_run);
    timer_init(&kind->timer, coll->client, timer_fire);
    coll->kind = kind;
    coll->kind_free = polled_free;
    coll->kind_persist = polled_persist;
    coll->adapter = (coulomb_adapter){.start = polled_start, .stop = polled_stop};
    coll->has_adapter = true;
    coll->options.adapter_arg = kind;
    return o->collection.start_sync ? collection_wake(coll) : COULOMB_OK;
}

int coulomb_polled_new(coulomb_client *c, const coulomb_polled_options *options,
                       coulomb_collection **out)
{
    coulomb_polled_options o;
    coulomb_collection *coll;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = options_read(c, &o, sizeof(o), options, "coulomb_polled_new");
    if (code != COULOMB_OK)
        return code;
    if (!o.fetch)
        return client_fail(c, COULOMB_E_QUERY_FN_REQUIRED,
                           "a polled collection needs a fetch function");
    if (o.collection.get_key && o.collection.key_column)
        return client_fail(c, COULOMB_E_COLLECTION_CONFIG,
                           "key_column and get_key are both given");
    code = collection_make(c, &o.collection, &coll);
    if (code == COULOMB_OK)
        code = polled_init(coll, &o);
    else
        return code;
    if (code != COULOMB_OK) {
        coulomb_collection_release(coll);
        return code;
    }
    *out = coll;
    return COULOMB_OK;
}
