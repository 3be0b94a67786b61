/*
 * Messages become operations of the pending sync transaction. What is staged for a message that then
 * finds no memory is staged again when it comes again: all of it says what a row is, and the last word
 * counts.
 */

#include <string.h>

#include "client/electric/electric.h"
#include "json/json.h"

#define META_MAX (16u << 20)

/* --- Keys ---------------------------------------------------------------------------------------- */

int rows_check_key(struct electric *e, const struct stream_batch *batch)
{
    bool told = false;

    if (e->key_checked || e->whole_rows || e->key_count == 0)
        return COULOMB_OK;
    for (size_t i = 0; i < batch->column_count; i++)
        told = told || batch->columns[i].pk_index >= 0;
    if (!told || batch->column_count != e->coll->layout->count)
        return COULOMB_OK;
    for (size_t k = 0; k < e->key_count; k++) {
        const struct stream_column *c = &batch->columns[e->keys[k]];

        if (c->pk_index < 0)
            return client_fail(e->client, COULOMB_E_COLLECTION_CONFIG,
                               "%s: the key's column %s is not in the table's primary "
                               "key, so updates and deletes don't bring it; set "
                               "replica_full",
                               e->coll->id, c->name);
    }
    e->key_checked = true;
    return COULOMB_OK;
}

static const char *kind_name(enum stream_kind kind)
{
    return kind == STREAM_INSERT ? "insert" : kind == STREAM_UPDATE ? "update" : "delete";
}

/* The message's row, perhaps with columns absent. */
static int make_row(struct electric *e, const struct stream_message *m,
                    const coulomb_value *values, struct coulomb_row **row)
{
    coulomb_error *error = &e->client->error;
    int code = row_make(e->coll, values, row);
    char why[256];

    if (code == COULOMB_OK || code == COULOMB_E_MEMORY)
        return code;
    memcpy(why, error->message, sizeof(why));
    why[sizeof(why) - 1] = '\0';
    return client_fail(e->client, code, "an %s of %s: %s%s", kind_name(m->kind),
                       e->coll->id, why,
                       code == COULOMB_E_UNDEFINED_KEY && !e->whole_rows
                           ? "; with replica_full every message has the whole row"
                           : "");
}

/* Whether an update may have changed the key: then the columns' old values tell. */
static bool may_change_key(const struct electric *e, const struct stream_message *m)
{
    if (m->kind != STREAM_UPDATE || !m->old_values)
        return false;
    for (size_t k = 0; k < e->key_count; k++) {
        if (m->old_values[e->keys[k]].type != COULOMB_ABSENT)
            return true;
    }
    return e->key_count == 0;
}

/* The row as it was; *old is NULL when the key is the same. */
static int old_row(struct electric *e, const struct stream_message *m,
                   const struct coulomb_row *row, struct coulomb_row **old)
{
    size_t count = e->coll->layout->count;
    coulomb_value *values;
    int code;

    *old = NULL;
    if (!may_change_key(e, m))
        return COULOMB_OK;
    values = heap_alloc(e->heap, count * sizeof(*values));
    if (!values)
        return client_no_memory(e->client);
    for (size_t i = 0; i < count; i++)
        values[i] =
            m->old_values[i].type == COULOMB_ABSENT ? m->values[i] : m->old_values[i];
    code = make_row(e, m, values, old);
    heap_free(e->heap, values, count * sizeof(*values));
    if (code == COULOMB_OK && key_equal(row_key(*old), row_key(row))) {
        row_release(*old);
        *old = NULL;
    }
    return code;
}

/* --- Metadata -------------------------------------------------------------------------------------- */

static void put_txids(struct buf *out, const struct stream_headers *h)
{
    buf_puts(out, ",\"txids\":[");
    for (size_t i = 0; i < h->txid_count; i++) {
        buf_puts(out, i > 0 ? "," : "");
        buf_put_u64(out, h->txids[i]);
    }
    buf_putc(out, ']');
}

static void put_relation(struct buf *out, struct slice schema, struct slice table)
{
    buf_puts(out, "\"relation\":[");
    json_put_untrusted(out, schema.len > 0 ? schema : SLICE_LIT("public"));
    buf_putc(out, ',');
    json_put_untrusted(out, table);
    buf_putc(out, ']');
}

static void put_headers(struct buf *out, const struct stream_message *m)
{
    const struct stream_headers *h = m->headers;

    buf_printf(out, "\"operation\":\"%s\",", kind_name(m->kind));
    put_relation(out, slice_make(h->schema.ptr, h->schema.len),
                 slice_make(h->table.ptr, h->table.len));
    if (h->txid_count > 0)
        put_txids(out, h);
    if (h->has_lsn)
        buf_printf(out, ",\"lsn\":\"%llu\"", (unsigned long long)h->lsn);
    if (h->has_position)
        buf_printf(out, ",\"op_position\":%llu", (unsigned long long)h->op_position);
    if (h->last)
        buf_puts(out, ",\"last\":true");
    if (h->move_in)
        buf_puts(out, ",\"is_move_in\":true");
}

/* A row's metadata: its tags, and its headers when they are wanted; of a message whose tags are in the
 * index already, or not yet (from_message). Empty: none. */
static void put_meta(const struct electric *e, const struct stream_message *m,
                     coulomb_key key, bool from_message, struct buf *out)
{
    size_t begin;

    buf_putc(out, '{');
    if (m && e->options.row_headers) {
        put_headers(out, m);
        buf_putc(out, ',');
    }
    begin = out->len;
    if (from_message)
        tags_print_headers(m->headers, out);
    else
        tags_print(&e->tags, key, out);
    if (out->len == begin && begin > 1)
        buf_truncate(out, begin - 1); /* the comma */
    if (out->len == 1)
        buf_truncate(out, 0);
    else
        buf_putc(out, '}');
}

static int meta_failed(struct electric *e, const struct buf *b)
{
    if (!b->failed)
        return COULOMB_OK;
    return client_no_memory(e->client);
}

/* --- The log ----------------------------------------------------------------------------------------- */

static int stage_row(struct electric *e, const struct stream_message *m,
                     enum sync_op_type type, struct coulomb_row *row)
{
    struct sync_tx *tx = electric_pending(e);
    struct buf meta;
    int code = tx ? COULOMB_OK : COULOMB_E_MEMORY;

    buf_init_from(&meta, META_MAX, &e->heap->mem);
    if (code == COULOMB_OK)
        code = tags_put(&e->tags, row_key(row), type == OP_INSERT, m->headers);
    if (code == COULOMB_OK &&
        (e->options.row_headers || tags_has(&e->tags, row_key(row)))) {
        put_meta(e, m, row_key(row), false, &meta);
        code = meta_failed(e, &meta);
    }
    if (code == COULOMB_OK)
        code =
            sync_tx_row(e->coll, tx, type, row, meta.len > 0 ? meta.ptr : NULL, meta.len);
    buf_fini(&meta);
    if (code == COULOMB_E_MEMORY)
        client_no_memory(e->client);
    return code;
}

static int stage_delete(struct electric *e, coulomb_key key)
{
    struct sync_tx *tx = electric_pending(e);
    int code = tx ? sync_tx_key(e->coll, tx, OP_DELETE, key, NULL, 0) : COULOMB_E_MEMORY;

    if (code == COULOMB_OK)
        tags_remove(&e->tags, key);
    return code;
}

/* --- What is known of an on-demand collection's rows -------------------------------------------------- */

static int reserve(struct electric *e, coulomb_key key)
{
    if (e->options.mode != COULOMB_ON_DEMAND)
        return COULOMB_OK;
    return known_add(&e->known, key) == COULOMB_OK ? COULOMB_OK
                                                   : client_no_memory(e->client);
}

/* The row is known, or was reserved: this can't fail. */
static void mark(struct electric *e, const struct stream_message *m, coulomb_key key,
                 bool gone)
{
    const struct stream_headers *h = m->headers;

    if (e->options.mode == COULOMB_ON_DEMAND)
        (void)known_logged(&e->known, key, gone, h->txids, h->txid_count);
}

/* A row that is not loaded becomes one that somebody asked for. */
static bool enters(struct electric *e, const struct stream_message *m,
                   const struct coulomb_row *row)
{
    return m->kind == STREAM_UPDATE && e->whole_rows && loads_want(e, row);
}

/* *whole: the row is put, whatever is there. */
static enum known_verdict ask(struct electric *e, const struct stream_message *m,
                              const struct coulomb_row *row,
                              const struct coulomb_row *old, bool *whole)
{
    const struct stream_headers *h = m->headers;
    coulomb_key key = row_key(old ? old : row);

    *whole = m->kind == STREAM_INSERT || old;
    if (e->options.mode != COULOMB_ON_DEMAND)
        return KNOWN_TAKE;
    if (known_ask(&e->known, key, m->kind == STREAM_INSERT, h->txids, h->txid_count) ==
        KNOWN_TAKE)
        return KNOWN_TAKE;
    if (known_has(&e->known, key) || !enters(e, m, row))
        return KNOWN_PASS;
    *whole = true;
    return known_ask(&e->known, row_key(row), true, h->txids, h->txid_count);
}

/* Takes the row on success. old: as it was, under another key. */
static int take(struct electric *e, const struct stream_message *m,
                struct coulomb_row *row, const struct coulomb_row *old, bool whole)
{
    bool gone = m->kind == STREAM_DELETE;
    enum sync_op_type type = whole ? OP_INSERT : OP_UPDATE;
    coulomb_key key = row_key(row);
    int code = reserve(e, key);

    if (code == COULOMB_OK && old)
        code = reserve(e, row_key(old));
    if (code == COULOMB_OK && old)
        code = stage_delete(e, row_key(old));
    if (code == COULOMB_OK)
        code = gone ? stage_delete(e, key) : stage_row(e, m, type, row);
    if (code != COULOMB_OK)
        return code;
    if (old)
        mark(e, m, row_key(old), true);
    mark(e, m, key, gone);
    if (gone)
        row_release(row);
    return COULOMB_OK;
}

/* A row whose end the log has told is not brought back by a view that has not seen it. Takes the row on
 * success. */
static int pass(struct electric *e, const struct stream_message *m,
                struct coulomb_row *row)
{
    coulomb_key key = row_key(row);

    if (m->kind == STREAM_DELETE && !known_has(&e->known, key)) {
        if (reserve(e, key) != COULOMB_OK)
            return COULOMB_E_MEMORY;
        mark(e, m, key, true);
    }
    row_release(row);
    return COULOMB_OK;
}

/* --- Subsets ------------------------------------------------------------------------------------------ */

static bool is_subset_row(const struct electric *e, const struct stream_message *m)
{
    return e->options.mode == COULOMB_ON_DEMAND && m->kind == STREAM_INSERT &&
           !m->headers->has_lsn && !m->headers->move_in && m->headers->txid_count == 0;
}

/* Takes the row on success. */
static int gather(struct electric *e, const struct stream_message *m,
                  struct coulomb_row *row)
{
    void *all = e->gathered;
    struct gathered *g;
    struct buf meta;
    int code = heap_grow(e->heap, &all, &e->gathered_cap, e->gathered_count + 1,
                         sizeof(*e->gathered));

    e->gathered = all;
    if (code != COULOMB_OK)
        return client_no_memory(e->client);
    g = &e->gathered[e->gathered_count];
    *g = (struct gathered){.row = row};
    buf_init_from(&meta, META_MAX, &e->heap->mem);
    put_meta(e, m, row_key(row), true, &meta);
    code = meta_failed(e, &meta);
    if (code == COULOMB_OK && meta.len > 0 &&
        blob_set(e->heap, &g->meta, meta.ptr, meta.len) != COULOMB_OK)
        code = client_no_memory(e->client);
    buf_fini(&meta);
    if (code == COULOMB_OK)
        e->gathered_count++;
    return code;
}

void rows_forget_gathered(struct electric *e)
{
    for (size_t i = 0; i < e->gathered_count; i++) {
        row_release(e->gathered[i].row);
        blob_fini(e->heap, &e->gathered[i].meta);
    }
    heap_free(e->heap, e->gathered, e->gathered_cap * sizeof(*e->gathered));
    e->gathered = NULL;
    e->gathered_count = e->gathered_cap = 0;
}

/* The row goes over to the pending transaction, unless the log has told more. */
static int put_gathered(struct electric *e, struct gathered *g, uint32_t view)
{
    struct sync_tx *tx = electric_pending(e);
    enum known_verdict verdict;
    int code = tx ? COULOMB_OK : COULOMB_E_MEMORY;

    if (!g->row)
        return COULOMB_OK; /* the message came before */
    if (code == COULOMB_OK)
        code = known_loaded(&e->known, row_key(g->row), view, &verdict);
    if (code == COULOMB_OK && verdict == KNOWN_TAKE) {
        if (g->meta.ptr)
            code = tags_restore(&e->tags, row_key(g->row),
                                slice_make(g->meta.ptr, g->meta.len));
        if (code == COULOMB_OK)
            code = sync_tx_row(e->coll, tx, OP_INSERT, g->row, g->meta.ptr, g->meta.len);
    } else if (code == COULOMB_OK) {
        row_release(g->row);
    }
    if (code == COULOMB_OK)
        g->row = NULL;
    return code == COULOMB_E_MEMORY ? client_no_memory(e->client) : code;
}

int rows_snapshot_end(struct electric *e, const struct stream_message *m)
{
    uint32_t view = 0;
    int code = COULOMB_OK;

    if (e->gathered_count > 0)
        code = known_view(&e->known, m->snapshot, &view);
    for (size_t i = 0; i < e->gathered_count && code == COULOMB_OK; i++)
        code = put_gathered(e, &e->gathered[i], view);
    if (code == COULOMB_OK)
        code = seen_stage_view(&e->seen, m->snapshot);
    if (code != COULOMB_OK)
        return code == COULOMB_E_MEMORY ? client_no_memory(e->client) : code;
    if (m->snapshot->has_lsn)
        e->view_refresh = e->refreshes_sent + 1;
    rows_forget_gathered(e);
    return COULOMB_OK;
}

int rows_beside(struct electric *e, struct sync_tx *tx, const struct stream_message *m)
{
    struct coulomb_row *row;
    int code = make_row(e, m, m->values, &row);

    if (code != COULOMB_OK)
        return code;
    code = sync_tx_row(e->coll, tx, OP_INSERT, row, NULL, 0);
    if (code != COULOMB_OK)
        row_release(row);
    return code;
}

/* --- Messages ------------------------------------------------------------------------------------------ */

static int learn_relation(struct electric *e, const struct stream_headers *h)
{
    struct slice had = slice_make(e->table.ptr, e->table.len);

    if (h->table.len == 0 || slice_eq(had, slice_make(h->table.ptr, h->table.len)))
        return COULOMB_OK;
    if (blob_set(e->heap, &e->schema, h->schema.ptr, h->schema.len) != COULOMB_OK ||
        blob_set(e->heap, &e->table, h->table.ptr, h->table.len) != COULOMB_OK)
        return client_no_memory(e->client);
    return COULOMB_OK;
}

int rows_change(struct electric *e, const struct stream_message *m,
                struct coulomb_row **out)
{
    struct coulomb_row *row;
    struct coulomb_row *old = NULL;
    bool whole;
    int code = learn_relation(e, m->headers);

    if (code == COULOMB_OK)
        code = make_row(e, m, m->values, &row);
    if (code != COULOMB_OK)
        return code;
    code = old_row(e, m, row, &old);
    if (code == COULOMB_OK) {
        row_retain(row);
        if (is_subset_row(e, m))
            code = gather(e, m, row);
        else if (ask(e, m, row, old, &whole) == KNOWN_TAKE)
            code = take(e, m, row, old, whole);
        else
            code = pass(e, m, row);
        if (code != COULOMB_OK)
            row_release(row);
    }
    row_release(old);
    if (code == COULOMB_OK)
        *out = row;
    else
        row_release(row);
    return code;
}

struct move {
    struct electric *e;
    const struct stream_headers *headers;
};

static int moved(void *arg, coulomb_key key, bool leaves)
{
    const struct move *move = arg;
    const struct stream_headers *h = move->headers;
    struct electric *e = move->e;
    struct sync_tx *tx = electric_pending(e);
    struct buf meta;
    int code;

    if (!tx)
        return COULOMB_E_MEMORY;
    if (leaves) {
        if (e->options.mode == COULOMB_ON_DEMAND &&
            known_logged(&e->known, key, true, h->txids, h->txid_count) != COULOMB_OK)
            return client_no_memory(e->client);
        return sync_tx_key(e->coll, tx, OP_DELETE, key, NULL, 0);
    }
    buf_init_from(&meta, META_MAX, &e->heap->mem);
    put_meta(e, NULL, key, false, &meta);
    code = meta_failed(e, &meta);
    if (code == COULOMB_OK)
        code = sync_tx_key(e->coll, tx, OP_ROW_META, key, meta.ptr, meta.len);
    buf_fini(&meta);
    return code;
}

int rows_move(struct electric *e, const struct stream_message *m)
{
    const struct stream_headers *h = m->headers;
    struct move move = {e, h};
    int code = m->kind == STREAM_MOVE_OUT
                   ? tags_move_out(&e->tags, h->patterns, h->pattern_count, moved, &move)
                   : tags_move_in(&e->tags, h->patterns, h->pattern_count, moved, &move);

    return code == COULOMB_E_MEMORY ? client_no_memory(e->client) : code;
}

/* --- An earlier session's rows --------------------------------------------------------------------------- */

int rows_adopt(struct electric *e)
{
    struct kent *ent;
    size_t it = 0;
    int code = COULOMB_OK;

    while (code == COULOMB_OK && (ent = ktab_next(&e->coll->metas, &it)) != NULL) {
        const struct row_meta *m = ent->item;

        code = tags_restore(&e->tags, m->key, slice_make(m->value.ptr, m->value.len));
    }
    it = 0;
    while (code == COULOMB_OK && e->options.mode == COULOMB_ON_DEMAND &&
           (ent = ktab_next(&e->coll->synced, &it)) != NULL)
        code = known_add(&e->known, row_key(ent->item));
    return code;
}
