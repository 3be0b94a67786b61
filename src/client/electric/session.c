/*
 * A session: the stream's batches become sync transactions. What comes between two commit points (an
 * up-to-date, the end of a subset) is one of them; nothing of it is seen, by the app or by those who
 * wait for transactions, before the commit.
 *
 * - The rows of a progressive collection's first load are staged unseen, in a transaction that is not
 *   listed yet, while subsets come beside the stream and are committed on their own. The first
 *   up-to-date lists it with a truncate before: all is exchanged at once.
 * - A must-refetch stages a truncate and stays open until all is there again; of an on-demand
 *   collection until the subsets are loaded again that somebody still wants. So nobody sees an empty
 *   collection between. That it has to begin anew is recorded at once: a record of how far the rows are
 *   must never outlive them.
 */

#include <string.h>

#include "base/clock.h"
#include "client/electric/electric.h"

/* --- Transactions --------------------------------------------------------------------------------- */

/* The first load of a progressive collection that has not begun anew. */
static bool is_unseen(const struct electric *e)
{
    return e->options.mode == COULOMB_PROGRESSIVE && !e->committed && !e->resumed;
}

struct sync_tx *electric_pending(struct electric *e)
{
    if (e->pending)
        return e->pending;
    e->pending = sync_tx_new(e->coll);
    if (e->pending && !is_unseen(e))
        sync_tx_list(e->coll, e->pending);
    return e->pending;
}

static bool is_listed(const struct sync_tx *s)
{
    return !list_empty(&s->link);
}

static coulomb_str trim_place(coulomb_str s)
{
    bool none =
        s.len == 0 || s.ptr[0] == '-' || (s.len == 3 && memcmp(s.ptr, "now", 3) == 0);

    return none ? (coulomb_str){NULL, 0} : s;
}

static int fill(struct heap *h, struct blob *b, coulomb_str s)
{
    return blob_set(h, b, s.ptr ? s.ptr : "", s.len);
}

static bool same_text(const struct blob *a, coulomb_str b)
{
    return slice_eq(slice_make(a->ptr, a->len), slice_make(b.ptr, b.len));
}

static int64_t wall_ms(void)
{
    return clock_wall_us() / 1000;
}

/* How far the stream is; *next->known is false when that is nowhere, or as before. */
static int next_resume(struct electric *e, struct resume *next)
{
    struct stream_state st;
    coulomb_str key = shape_stream_key(e->stream);
    coulomb_str offset;

    memset(next, 0, sizeof(*next));
    shape_stream_state(e->stream, &st);
    offset = trim_place(st.offset);
    if (offset.len == 0 || st.handle.len == 0)
        return COULOMB_OK;
    if (e->resume.known && !e->resume.reset && same_text(&e->resume.offset, offset) &&
        same_text(&e->resume.handle, st.handle) &&
        same_text(&e->resume.cursor, st.cursor))
        return COULOMB_OK;
    if (fill(e->heap, &next->offset, offset) != COULOMB_OK ||
        fill(e->heap, &next->handle, st.handle) != COULOMB_OK ||
        fill(e->heap, &next->cursor, st.cursor) != COULOMB_OK ||
        fill(e->heap, &next->shape, key) != COULOMB_OK) {
        resume_fini(e->heap, next);
        return client_no_memory(e->client);
    }
    next->updated_ms = wall_ms();
    next->known = true;
    return COULOMB_OK;
}

static int stage_resume(struct electric *e, struct sync_tx *tx, const struct resume *r)
{
    struct buf text;
    int code;

    buf_init_from(&text, SIZE_MAX / 4, &e->heap->mem);
    resume_print(r, &text);
    code = text.failed ? client_no_memory(e->client)
                       : sync_tx_meta(e->coll, tx, RESUME_META, text.ptr, text.len);
    buf_fini(&text);
    return code;
}

/* Too many changes wait for the app: they are handed out in this poll, and then there is room. */
static int commit_code(const struct electric *e, int code)
{
    return code == COULOMB_E_LIMIT && e->client->queued_changes > 0 ? COULOMB_E_MEMORY
                                                                    : code;
}

/* Rows of before, of an earlier session or of subsets beside the stream, give way to these: also what
 * has been committed and waits since the refetch began. */
static void swap_rows(struct electric *e, struct sync_tx *tx)
{
    if (tx->truncate)
        list_remove(&tx->link);
    if (!is_listed(tx))
        sync_tx_list(e->coll, tx);
    if (!e->committed && !e->resumed && !tx->truncate &&
        (e->coll->synced.live > 0 || sync_waits(e->coll)))
        sync_tx_truncate(e->coll, tx);
}

static bool has_rows_of_before(const struct electric *e)
{
    return !e->committed && !e->resumed && e->coll->synced.live > 0;
}

/* The pending transaction with `next`, or none when there is nothing to say. */
static int commit_pending(struct electric *e, struct resume *next)
{
    struct sync_tx *tx;
    int code = COULOMB_OK;

    if (!e->pending && !next->known && !has_rows_of_before(e))
        return COULOMB_OK;
    tx = electric_pending(e);
    if (!tx)
        return COULOMB_E_MEMORY;
    if (next->known)
        code = stage_resume(e, tx, next);
    if (code != COULOMB_OK)
        return code;
    swap_rows(e, tx);
    code = commit_code(e, sync_tx_commit(e->coll, tx));
    if (code == COULOMB_OK)
        e->pending = NULL;
    return code;
}

int electric_commit(struct electric *e, bool up_to_date, bool place)
{
    struct resume next = {0};
    int code;

    if (loads_reloading(e)) {
        e->held_back = true;
        e->held_up_to_date = e->held_up_to_date || up_to_date;
        return COULOMB_OK;
    }
    code = await_reserve(e);
    if (code == COULOMB_OK && place)
        code = next_resume(e, &next);
    if (code == COULOMB_OK)
        code = commit_pending(e, &next);
    if (code == COULOMB_OK && next.known) {
        resume_fini(e->heap, &e->resume);
        e->resume = next;
        memset(&next, 0, sizeof(next));
    }
    resume_fini(e->heap, &next);
    if (code != COULOMB_OK)
        return code;
    e->committed = true;
    if (e->staged_lsn > 0)
        e->lsn = e->staged_lsn;
    e->staged_lsn = 0;
    e->loaded_all = e->loaded_all || up_to_date;
    if (e->held_back)
        task_queue(&e->load_task); /* loads that waited for it */
    e->held_back = e->held_up_to_date = false;
    code = coulomb_sync_mark_ready(e->sync);
    if (code == COULOMB_OK)
        await_committed(e);
    return commit_code(e, code);
}

/* --- Beginning anew --------------------------------------------------------------------------------- */

/* In a transaction of its own, seen at once. */
static int write_reset(struct electric *e)
{
    struct resume reset = {.known = true, .reset = true, .updated_ms = wall_ms()};
    struct sync_tx *tx = sync_tx_new(e->coll);
    int code;

    if (!tx)
        return COULOMB_E_MEMORY;
    tx->immediate = true;
    sync_tx_list(e->coll, tx);
    code = stage_resume(e, tx, &reset);
    if (code == COULOMB_OK)
        code = commit_code(e, sync_tx_commit(e->coll, tx));
    if (code != COULOMB_OK) {
        sync_tx_free(e->coll, tx);
        return code;
    }
    resume_fini(e->heap, &e->resume);
    e->resume = reset;
    return COULOMB_OK;
}

static int must_refetch(struct electric *e)
{
    int code = write_reset(e);
    struct sync_tx *tx = code == COULOMB_OK ? electric_pending(e) : NULL;

    if (!tx)
        return code != COULOMB_OK ? code : COULOMB_E_MEMORY;
    if (!is_listed(tx))
        sync_tx_list(e->coll, tx);
    sync_tx_clear(e->coll, tx);
    sync_tx_truncate(e->coll, tx);
    tags_clear(&e->tags);
    known_clear(&e->known);
    rows_forget_gathered(e);
    e->staged_lsn = 0;
    e->loaded_all = e->held_back = e->held_up_to_date = false;
    loads_refetch(e);
    return COULOMB_OK;
}

/* --- Messages ------------------------------------------------------------------------------------------ */

static int take_change(struct electric *e, const struct stream_message *m, bool keep)
{
    struct coulomb_row *row;
    int code = rows_change(e, m, &row);

    if (code != COULOMB_OK)
        return code;
    code = await_message(e, m, row, keep);
    row_release(row);
    if (e->options.mode == COULOMB_ON_DEMAND && code == COULOMB_OK)
        known_passed(&e->known, m->headers->txids, m->headers->txid_count);
    return code;
}

static int take_move(struct electric *e, const struct stream_message *m, bool keep)
{
    int code = rows_move(e, m);

    return code == COULOMB_OK ? await_message(e, m, NULL, keep) : code;
}

static int take_up_to_date(struct electric *e, const struct stream_message *m, bool place)
{
    const struct stream_headers *h = m->headers;

    if (h->has_lsn) {
        known_reached(&e->known, h->lsn);
        e->staged_lsn = h->lsn;
    }
    return electric_commit(e, true, place);
}

static int take_message(struct electric *e, const struct stream_message *m, bool keep,
                        bool last)
{
    switch (m->kind) {
    case STREAM_INSERT:
    case STREAM_UPDATE:
    case STREAM_DELETE:
        return take_change(e, m, keep);
    case STREAM_MOVE_IN:
    case STREAM_MOVE_OUT:
        return take_move(e, m, keep);
    case STREAM_SNAPSHOT_END:
        return rows_snapshot_end(e, m);
    case STREAM_UP_TO_DATE:
        return take_up_to_date(e, m, last);
    case STREAM_SUBSET_END:
        load_arrived(e, m->subset);
        return electric_commit(e, false, true);
    case STREAM_MUST_REFETCH:
        return must_refetch(e);
    }
    return COULOMB_OK;
}

static int on_messages(struct shape_stream *s, const struct stream_batch *batch,
                       void *arg)
{
    struct electric *e = arg;
    int code;

    if (e->stream != s)
        return COULOMB_OK;
    e->amid_answer = true;
    code = rows_check_key(e, batch);
    while (code == COULOMB_OK && e->taken < batch->count) {
        size_t left = batch->count - e->taken;

        code = take_message(e, &batch->messages[e->taken], left <= RING_MAX,
                            left == 1 && !batch->more);
        e->taken += code == COULOMB_OK;
    }
    if (code == COULOMB_E_MEMORY)
        return code;
    e->taken = 0;
    e->amid_answer = batch->more;
    if (e->held_back && !e->amid_answer)
        task_queue(&e->load_task); /* nothing is in the way of that commit any more */
    if (code != COULOMB_OK)
        e->failure = e->client->error;
    return code;
}

/* Of a subset that was being delivered neither the rest nor the view comes any more: its rows must not
 * go on with the next subset's, nor the count of messages taken with the next batch. */
void electric_cancel(struct electric *e, uint64_t number)
{
    if (!shape_stream_cancel_subset(e->stream, number))
        return;
    rows_forget_gathered(e);
    e->taken = 0;
    e->amid_answer = false;
}

/* --- Errors --------------------------------------------------------------------------------------------- */

static enum stream_decision on_error(struct shape_stream *s, const struct stream_error *e,
                                     void *arg)
{
    struct electric *el = arg;
    struct coulomb_collection *coll = el->coll;
    coulomb_electric_error told = {.code = e->code,
                                   .status = e->status,
                                   .message = e->message,
                                   .body = e->body,
                                   .retryable = e->retryable};
    int again;

    if (el->stream != s || !el->options.on_error)
        return STREAM_GIVE_UP;
    collection_hold(coll);
    again = el->options.on_error(coll, &told, el->options.on_error_arg);
    collection_drop(coll);
    return again == 1 ? STREAM_RETRY : STREAM_GIVE_UP;
}

const coulomb_error *electric_error(const struct electric *e)
{
    struct stream_state st;
    const coulomb_error *why;

    if (!e->stream)
        return NULL;
    shape_stream_state(e->stream, &st);
    if (st.phase != STREAM_FAILED)
        return NULL;
    why = shape_stream_error(e->stream);
    return e->failure.code == why->code ? &e->failure : why; /* it knows more */
}

static void stream_failed(struct electric *e, const coulomb_error *why)
{
    struct coulomb_collection *coll = e->coll;

    client_log(e->client, COULOMB_LOG_ERROR,
               "event=electric.failed collection=\"%s\" error=%s", coll->id,
               coulomb_error_name(why->code));
    if (coll->status == COULOMB_LOADING &&
        coulomb_sync_mark_error(e->sync, why->code, why->message) != COULOMB_OK)
        client_log(e->client, COULOMB_LOG_WARNING, "event=electric.mark_error");
    await_stop(e, why->code, why->message);
}

static void on_changed(struct shape_stream *s, void *arg)
{
    struct electric *e = arg;
    const coulomb_error *why = e->stream == s ? electric_error(e) : NULL;

    if (why)
        stream_failed(e, why);
}

/* --- Refreshes ------------------------------------------------------------------------------------------- */

static void on_refreshed(struct shape_stream *s, int code, const coulomb_error *error,
                         void *arg)
{
    struct electric *e = arg;

    if (e->stream != s)
        return;
    e->refreshes_done++;
    loads_refreshed(e);
    await_refreshed(e, code, error);
}

int electric_refresh(struct electric *e, uint64_t *number)
{
    int code;

    if (!e->stream)
        return client_fail(e->client, COULOMB_E_SYNC_NOT_INITIALIZED,
                           "%s was not started; subscribe or preload first", e->coll->id);
    code = shape_stream_refresh(e->stream, on_refreshed, e);
    if (code == COULOMB_OK) {
        e->refreshes_sent++;
        if (number)
            *number = e->refreshes_sent;
    }
    return code;
}

/* --- Beginning ------------------------------------------------------------------------------------------- */

static int apply_settings(struct electric *e)
{
    int code = COULOMB_OK;

    for (struct list *l = e->params.next; l != &e->params && code == COULOMB_OK;
         l = l->next) {
        const struct setting *s = LIST_ENTRY(l, struct setting, link);

        code = shape_stream_set_param(e->stream, s->name, s->value);
    }
    for (struct list *l = e->headers.next; l != &e->headers && code == COULOMB_OK;
         l = l->next) {
        const struct setting *s = LIST_ENTRY(l, struct setting, link);

        code = shape_stream_set_header(e->stream, s->name, s->value);
    }
    return code;
}

static bool is_now(const char *offset)
{
    return offset && strcmp(offset, "now") == 0;
}

/* Within the log. */
static bool is_position(const char *offset)
{
    return offset && !is_now(offset) && strcmp(offset, "-1") != 0;
}

/* The stream that begins at r, or where the options say. */
static int open_stream(struct electric *e, const struct resume *r)
{
    const coulomb_electric_options *o = &e->options;
    const struct layout *l = e->coll->layout;
    bool on_demand = o->mode == COULOMB_ON_DEMAND;
    coulomb_column *typed = heap_alloc(e->heap, l->count * sizeof(*typed));
    struct stream_options so = {
        .url = o->url,
        .table = o->table,
        .where = o->where,
        .params = o->params,
        .param_count = o->param_count,
        .columns = o->columns,
        .column_count = o->column_count,
        .replica = e->whole_rows ? STREAM_REPLICA_FULL : STREAM_REPLICA_DEFAULT,
        .log = on_demand ? STREAM_LOG_CHANGES_ONLY : STREAM_LOG_FULL,
        .extra = e->extra,
        .extra_count = o->extra_count,
        .headers = e->fixed_headers,
        .header_count = o->header_count,
        .credentials = (struct credentials *)o->credentials,
        .typed = typed,
        .typed_count = l->count,
        .offset = r                        ? r->offset.ptr
                  : is_position(o->offset) ? o->offset
                                           : NULL,
        .handle = r ? r->handle.ptr : o->handle,
        .cursor = r ? r->cursor.ptr : NULL,
        .from_now = !r && (is_now(o->offset) || (on_demand && !o->offset)),
        .sse = o->sse != 0,
        .subset_get = o->subset_get != 0,
        .answer_bytes_max = o->answer_bytes_max,
        .ca_file = o->ca_file,
        .callbacks = {on_messages, on_error, on_changed},
        .arg = e};
    int code;

    if (!typed)
        return client_no_memory(e->client);
    for (size_t i = 0; i < l->count; i++)
        typed[i] = (coulomb_column){l->columns[i].name, l->columns[i].type,
                                    l->columns[i].element};
    code = shape_stream_new(e->client, &so, &e->stream);
    heap_free(e->heap, typed, l->count * sizeof(*typed));
    if (code == COULOMB_OK)
        code = apply_settings(e);
    return code;
}

static void close_stream(struct electric *e)
{
    struct shape_stream *s = e->stream;

    e->stream = NULL;
    if (s)
        shape_stream_stop(s);
    shape_stream_release(s);
}

/* What was kept, of this collection or imported: in *out, known when it may be used. */
static int find_resume(struct electric *e, struct resume *out)
{
    struct resume kept = {0};
    const struct resume *newest;
    const void *text;
    size_t len;
    int code;

    memset(out, 0, sizeof(*out));
    if (e->options.no_resume || e->options.offset || e->options.handle)
        return COULOMB_OK;
    code = coulomb_sync_meta_get(e->sync, RESUME_META, &text, &len);
    if (code == COULOMB_OK && text)
        code = resume_parse(e->heap, slice_make(text, len), &kept);
    if (code == COULOMB_E_ARGUMENT)
        client_log(e->client, COULOMB_LOG_WARNING,
                   "event=electric.resume_malformed collection=\"%s\"", e->coll->id);
    if (code == COULOMB_E_MEMORY)
        return client_no_memory(e->client);
    newest = resume_newer(&kept, &e->imported);
    code = newest && !newest->reset ? resume_copy(e->heap, out, newest) : COULOMB_OK;
    resume_fini(e->heap, &kept);
    return code == COULOMB_OK ? code : client_no_memory(e->client);
}

/* Only the same shape can be gone on with; another one's record is no longer true. */
static int resume_stream(struct electric *e, const struct resume *r)
{
    coulomb_str key = shape_stream_key(e->stream);

    if (!same_text(&r->shape, key)) {
        client_log(e->client, COULOMB_LOG_INFO,
                   "event=electric.other_shape collection=\"%s\"", e->coll->id);
        return write_reset(e);
    }
    close_stream(e);
    e->resumed = true;
    return open_stream(e, r);
}

static int begin(struct electric *e)
{
    struct resume r;
    int code = find_resume(e, &r);

    if (code != COULOMB_OK)
        return code;
    code = open_stream(e, NULL);
    if (code == COULOMB_OK && r.known)
        code = resume_stream(e, &r);
    if (code == COULOMB_OK && e->resumed) {
        code = rows_adopt(e);
        if (code == COULOMB_OK)
            code = resume_copy(e->heap, &e->resume, &r);
        e->loaded_all = true;
    }
    resume_fini(e->heap, &r);
    return code == COULOMB_E_MEMORY ? client_no_memory(e->client) : code;
}

/* As before begin(). */
static void unbegin(struct electric *e)
{
    close_stream(e);
    tags_clear(&e->tags);
    known_clear(&e->known);
    resume_fini(e->heap, &e->resume);
    e->resumed = e->loaded_all = false;
}

int begin_task_run(struct task *t)
{
    struct electric *e = LIST_ENTRY(t, struct electric, begin_task);
    int code;

    if (!e->sync || e->stream)
        return COULOMB_OK;
    code = begin(e);
    if (code != COULOMB_OK) {
        coulomb_error why = e->client->error;

        unbegin(e);
        if (code == COULOMB_E_MEMORY)
            return code;
        if (coulomb_sync_mark_error(e->sync, code, why.message) != COULOMB_OK)
            client_log(e->client, COULOMB_LOG_WARNING, "event=electric.mark_error");
        return COULOMB_OK;
    }
    resume_fini(e->heap, &e->imported);
    /* A position of the app's own stands for rows of the app's own. */
    e->resumed = e->resumed || is_position(e->options.offset);
    shape_stream_start(e->stream);
    task_queue(&e->load_task);
    return COULOMB_OK;
}

int electric_start(coulomb_sync *sync, void *arg)
{
    struct electric *e = arg;

    e->sync = coulomb_sync_retain(sync);
    task_queue(&e->begin_task);
    return COULOMB_OK;
}

int electric_stop(coulomb_sync *sync, void *arg)
{
    struct electric *e = arg;

    (void)sync;
    loads_stop(e);
    task_cancel(&e->begin_task);
    unbegin(e);
    if (e->pending)
        sync_tx_free(e->coll, e->pending);
    e->pending = NULL;
    rows_forget_gathered(e);
    await_stop(e, COULOMB_E_STREAM_STOPPED, coulomb_error_text(COULOMB_E_STREAM_STOPPED));
    await_forget(e);
    seen_fini(&e->seen);
    blob_fini(e->heap, &e->schema);
    blob_fini(e->heap, &e->table);
    e->taken = 0;
    e->amid_answer = false;
    e->committed = e->key_checked = e->held_back = e->held_up_to_date = false;
    e->lsn = e->staged_lsn = 0;
    e->refreshes_sent = e->refreshes_done = e->load_refresh = e->view_refresh = 0;
    memset(&e->failure, 0, sizeof(e->failure));
    coulomb_sync_release(e->sync);
    e->sync = NULL;
    return COULOMB_OK;
}
