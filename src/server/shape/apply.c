/* The stream applied to the shapes: what a transaction's changes become in each log.
 *
 * Changes are appended as they arrive and count from Commit on (design idea 5). At the
 * first change of a transaction that concerns a shape it is decided what the transaction
 * means to it:
 *
 *   skip    it is in the shape's snapshot, or in its log already (a replay), or the shape
 *           subscribed while it was passing
 *   buffer  the snapshot's view is not known yet
 *   append
 *
 * A transaction is in the snapshot iff its commit record lies at or before the WAL
 * position read with the view, and the view sees its xid. The position makes the question
 * safe for ever: xids repeat after 2^32 transactions, positions don't. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "server/shape/internal.h"

#define ENCODED_KEEP (1u << 20)

enum txn_mode apply_decide(const struct sequencer *q, const struct shape *shape,
                           uint64_t lsn, uint32_t xid)
{
    (void)q;
    if (shape->phase == JOIN_UNSUBSCRIBED)
        return TXN_SKIP;
    if (shape->phase == JOIN_BUFFERING)
        return TXN_BUFFER;
    struct offset committed = shapelog_committed(shape->log);
    if (committed.tx >= lsn)
        return TXN_SKIP;
    if (lsn <= shape->view.wal_lsn && snapshot_sees(&shape->view, xid))
        return TXN_SKIP;
    return TXN_APPEND;
}

int apply_touch(struct sequencer *q, struct shape *shape)
{
    if (shape->txn_serial != q->txn_serial) {
        shape->txn_serial = q->txn_serial;
        shape->txn_mode = apply_decide(q, shape, q->txn_lsn, q->txn_xid);
        if (shape->txn_mode == TXN_APPEND)
            list_push(&q->touched, &shape->in_touched);
    }
    return (int)shape->txn_mode;
}

/* After a join in mid-transaction: whether the open transaction goes on for the shape. */
void apply_note_joined(struct sequencer *q, struct shape *shape, bool open_txn_kept)
{
    if (!q->txn_open || shape->txn_serial != q->txn_serial)
        return;
    shape->txn_mode = open_txn_kept ? TXN_APPEND : TXN_SKIP;
    if (open_txn_kept && list_empty(&shape->in_touched))
        list_push(&q->touched, &shape->in_touched);
}

/* --- A link's order of columns --- */

/* Where each of the table's columns is in the relation; false when one that the shape
 * needs is missing or of another type. */
static bool link_map(const struct shape_link *link,
                     const struct decode_relation *relation, uint16_t *order,
                     bool *same_order)
{
    const struct shape_def *def = link->shape->def;
    const struct table *t = def->table;
    *same_order = t->column_count == relation->column_count;
    for (uint16_t i = 0; i < t->column_count; i++) {
        order[i] = UINT16_MAX;
        for (uint16_t j = 0; j < relation->column_count; j++) {
            if (slice_eq(t->columns[i].name, relation->columns[j].name)) {
                order[i] = j;
                break;
            }
        }
        *same_order = *same_order && order[i] == i;
    }
    for (size_t i = 0; i < def->selected_count; i++) {
        const struct table_column *c = &t->columns[def->selected[i]];
        uint16_t at = order[def->selected[i]];
        if (at == UINT16_MAX || relation->columns[at].type_oid != c->type_oid ||
            relation->columns[at].typmod != c->typmod)
            return false;
    }
    return true;
}

static size_t published_columns(const struct table *t)
{
    size_t count = 0;
    for (size_t i = 0; i < t->column_count; i++)
        count += t->columns[i].generated ? 0 : 1;
    return count;
}

/* Whether what the stream says of the relation still fits the shape; prepares the link.
 */
static bool link_fits(struct shape_link *link, const struct decode_relation *relation)
{
    const struct shape_def *def = link->shape->def;
    const struct table *t = def->table;
    bool own = relation->oid == t->oid;
    if (own && (!slice_eq(relation->name, t->name) ||
                (relation->schema.len > 0 && !slice_eq(relation->schema, t->schema))))
        return false;
    bool covers = own && (def->all_columns || !t->has_pk);
    if (covers && relation->column_count != t->column_count &&
        relation->column_count != published_columns(t))
        return false;
    uint16_t *order = calloc((size_t)t->column_count + 1, sizeof *order);
    bool same_order = false;
    if (order == NULL || !link_map(link, relation, order, &same_order)) {
        free(order);
        return false;
    }
    free(link->order);
    link->order = NULL;
    if (same_order)
        free(order);
    else
        link->order = order;
    link->relation = relation;
    return true;
}

/* The row in the table's column order; columns that the relation lacks (not selected
 * ones, or the check would have failed) are NULL. */
static const struct value *link_row(const struct shape_link *link,
                                    const struct value *values, struct value *scratch)
{
    if (values == NULL || link->order == NULL)
        return values;
    size_t count = link->shape->def->table->column_count;
    for (size_t i = 0; i < count; i++) {
        uint16_t at = link->order[i];
        scratch[i] = at == UINT16_MAX ? (struct value){.kind = VALUE_NULL} : values[at];
    }
    return scratch;
}

/* --- Changes --- */

/* The second message of a change of key has a place of its own. */
static uint64_t op_of(enum variant_kind kind, const struct txn_change *change)
{
    return change->position + (kind == VARIANT_KEY_INSERT ? 1 : 0);
}

/* Encodes into q->encoded; false when there is nothing to tell. */
static bool encode_kind(struct sequencer *q, const struct encode_plan *plan,
                        enum variant_kind kind, const struct txn_change *change,
                        const struct value *old, const struct value *row)
{
    struct encode_txn txn = {q->txn_lsn, q->txn_xid};
    uint64_t op = op_of(kind, change);
    buf_reset(&q->encoded, ENCODED_KEEP);
    switch (kind) {
    case VARIANT_INSERT:
        encode_insert(&q->encoded, plan, &txn, op, row);
        return true;
    case VARIANT_UPDATE:
        return encode_update(&q->encoded, plan, &txn, op, old, row);
    case VARIANT_DELETE:
        encode_delete(&q->encoded, plan, &txn, op, old);
        return true;
    case VARIANT_KEY_DELETE:
        encode_key_change_delete(&q->encoded, plan, &txn, op, old, row);
        return true;
    case VARIANT_KEY_INSERT:
        encode_key_change_insert(&q->encoded, plan, &txn, op, old, row);
        return true;
    case VARIANT_KINDS:
        break;
    }
    return false;
}

static int encoded_failed(const struct sequencer *q, struct err *err)
{
    return err_set(err, q->encoded.failed, "a message of a change could not be made");
}

/* The shape's message of a change, staged by whichever shape of its class came first. */
static int shape_append(struct sequencer *q, struct shape *shape, enum variant_kind kind,
                        const struct txn_change *change, const struct value *old,
                        const struct value *row, struct err *err)
{
    struct variant_memo *memo = variants_memo(&q->variants, shape->class, kind);
    uint64_t op = op_of(kind, change);
    if (!memo->known) {
        memo->nothing =
            !encode_kind(q, shape->class->columns->plan, kind, change, old, row);
        if (q->encoded.failed != 0)
            return encoded_failed(q, err);
        int rc = memo->nothing ? 0
                               : shapelog_stage(q->shapelog, buf_slice(&q->encoded),
                                                &memo->variant, err);
        if (rc < 0)
            return rc;
        memo->known = true;
    }
    return memo->nothing
               ? 0
               : shapelog_append(shape->log, q->txn_lsn, op, memo->variant, err);
}

static int shape_put(struct sequencer *q, struct shape *shape, enum variant_kind kind,
                     const struct txn_change *change, const struct value *old,
                     const struct value *row, struct err *err)
{
    obs_count(q->config.obs, OBS_ROUTED_CHANGES, 1);
    if (shape->txn_mode != TXN_BUFFER)
        return shape_append(q, shape, kind, change, old, row, err);
    bool something = encode_kind(q, shape->def->plan, kind, change, old, row);
    if (q->encoded.failed != 0)
        return encoded_failed(q, err);
    if (!something)
        return 0;
    uint64_t op = op_of(kind, change);
    return join_buffer_put(q, shape, op, buf_slice(&q->encoded));
}

/* A NULL in a column that the header calls not_null: the constraint is gone. The header must
 * say so before a client reads the row, and so must the stored definition. The other way, a
 * column that became not_null, is not followed: the log may hold older NULLs. */
static int relax_header(struct sequencer *q, struct shape *shape, const struct value *row)
{
    const struct shape_header *header = atomic_load(&shape->header);
    const struct shape_columns *columns = header->def->columns;
    uint16_t nulls[DECODE_COLUMNS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < columns->strict_count; i++) {
        if (row[columns->strict[i]].kind == VALUE_NULL)
            nulls[count++] = columns->strict[i];
    }
    if (count == 0)
        return 0;
    struct shape_def *def = NULL;
    int rc = shape_def_relaxed(header->def, nulls, count, &def, NULL);
    rc = rc < 0 ? rc : sequencer_redefine(q, shape, def);
    shape_def_release(def);
    return rc;
}

static int put_update(struct sequencer *q, struct shape *shape,
                      const struct txn_change *change, const struct value *old,
                      const struct value *row, struct err *err)
{
    if (!encode_key_differs(shape->def->plan, old, row))
        return shape_put(q, shape, VARIANT_UPDATE, change, old, row, err);
    int rc = shape_put(q, shape, VARIANT_KEY_DELETE, change, old, row, err);
    return rc < 0 ? rc : shape_put(q, shape, VARIANT_KEY_INSERT, change, old, row, err);
}

/* 0, or what the storage can't do for any shape. */
static int put_hit(struct sequencer *q, const struct route_hit *hit, struct shape *shape,
                   const struct txn_change *change, const struct value *old,
                   const struct value *row, struct err *err)
{
    int rc = 0;
    if (hit->old_in && hit->new_in)
        rc = put_update(q, shape, change, old, row, err);
    else if (hit->new_in)
        rc = shape_put(q, shape, VARIANT_INSERT, change, NULL, row, err);
    else
        rc = shape_put(q, shape, VARIANT_DELETE, change, old, NULL, err);
    if (rc == ERR_INVALID || rc == ERR_LIMIT) { /* a message that no log can hold */
        sequencer_drop(q, shape, OBS_SHAPE_STORAGE, NULL, err->message);
        return 0;
    }
    return rc;
}

static int apply_hit(struct sequencer *q, const struct route_hit *hit,
                     const struct txn_change *change, struct err *err)
{
    struct shape_link *link = (struct shape_link *)(void *)hit->entry;
    struct shape *shape = link->shape;
    if (apply_touch(q, shape) == TXN_SKIP)
        return 0;
    if (link->relation != change->relation && !link_fits(link, change->relation)) {
        if (shape->txn_mode == TXN_BUFFER)
            join_buffer_mark(q, shape, JOIN_MARK_SCHEMA);
        else
            sequencer_drop(q, shape, OBS_SHAPE_SCHEMA, NULL,
                           "the stream shows other columns or another name");
        return 0;
    }
    if (hit->failed != NULL) {
        clause_failed(q, shape, hit->failed);
        return 0;
    }
    const struct value *old = link_row(link, change->old, q->row_scratch[0]);
    const struct value *row = link_row(link, change->row, q->row_scratch[1]);
    if (hit->new_in && relax_header(q, shape, row) < 0) {
        sequencer_drop(q, shape, OBS_SHAPE_STORAGE, NULL, "no memory for its header");
        return 0;
    }
    return put_hit(q, hit, shape, change, old, row, err);
}

static int apply_change(void *ctx, const struct txn_change *change, struct err *err)
{
    struct sequencer *q = ctx;
    obs_count(q->config.obs, OBS_WAL_CHANGES, 1);
    if (q->txn_replayed)
        return 0;
    const struct route_hit *hits;
    size_t count;
    struct err why = {0};
    int rc = 0;
    clause_drop_misfits(q, change->relation->oid);
    if (route_match(q->route, change, &hits, &count) < 0)
        return err_set(err, ERR_MEMORY, "no memory for routing a change");
    variants_next_change(&q->variants);
    if (count > 0)
        rc = shapelog_spill(q->shapelog, &why);
    /* Dropping a shape changes the router, not the hits' array; a dropped shape's links
     * may still be in it, so references are not released before the next publication. */
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct shape_link *link = (struct shape_link *)(void *)hits[i].entry;
        if (shape_state(link->shape) != SHAPE_GONE)
            rc = apply_hit(q, &hits[i], change, &why);
    }
    return rc < 0 ? sequencer_storage_failed(q, &why, err) : 0;
}

/* --- The rest of the grammar --- */

static int apply_begin(void *ctx, const struct txn_begin *begin, struct err *err)
{
    struct sequencer *q = ctx;
    ASSERT(!q->txn_open && list_empty(&q->touched));
    int rc = origin_repeated(q, begin->lsn, err);
    if (rc < 0)
        return rc;
    q->txn_open = true;
    q->txn_replayed = begin->lsn <= q->processed_lsn;
    q->txn_serial++;
    q->txn_lsn = begin->lsn;
    q->txn_xid = begin->xid;
    q->txn_commit_us = begin->commit_us;
    q->txn_begun_us = clock_mono_us();
    if (!q->txn_replayed) {
        if (q->txn_ordinal == 0 || (int32_t)(begin->xid - q->newest_xid) > 0)
            q->newest_xid = begin->xid;
        q->recent[begin->xid % RECENT_XIDS] =
            (struct recent_xid){begin->xid, ++q->txn_ordinal, begin->lsn};
    }
    return 0;
}

static int apply_relation(void *ctx, const struct decode_relation *relation,
                          struct err *err)
{
    struct sequencer *q = ctx;
    catalog_forget(q->config.catalog, relation->schema, relation->name);
    int rc = reconcile_relation(q, relation, err);
    if (rc < 0)
        return rc;
    /* Whether it fits is asked at the first change that concerns the shape: while the
     * stream is behind it may describe the table as it was before the shape's snapshot.
     */
    route_relation_changed(q->route, relation->oid);
    rc = clause_described(q, relation, err);
    if (rc < 0)
        return rc;
    size_t count;
    struct route_entry *const *entries = route_entries(q->route, relation->oid, &count);
    for (size_t i = 0; i < count; i++) {
        struct shape_link *link = (struct shape_link *)(void *)entries[i];
        link->relation = NULL;
        link->shape->verify_serial = q->reconcile_started + 1;
    }
    /* The table may have been altered in what the message does not tell (its primary key). */
    if (count > 0)
        reconcile_soon(q);
    return 0;
}

/* What ends the relation's shapes: at once, or once it is known that the snapshot does not
 * come after it. */
static int apply_end(struct sequencer *q, const struct decode_relation *relation,
                     uint32_t mark, const char *detail, struct err *err)
{
    size_t listed, count;
    if (q->txn_replayed)
        return 0;
    route_entries(q->route, relation->oid, &listed);
    struct shape **shapes = sequencer_shapes_of(q, relation->oid, &count);
    if (count < listed)
        return err_set(err, ERR_MEMORY, "no memory for removing a table's shapes");
    for (size_t i = 0; i < count; i++) {
        int mode = apply_touch(q, shapes[i]);
        if (mode == TXN_BUFFER)
            join_buffer_mark(q, shapes[i], mark);
        else if (mode == TXN_APPEND)
            sequencer_drop(q, shapes[i], join_mark_reason(mark), NULL, detail);
    }
    return 0;
}

static int apply_truncate(void *ctx, const struct decode_relation *relation,
                          uint64_t position, struct err *err)
{
    (void)position;
    return apply_end(ctx, relation, JOIN_MARK_TRUNCATE, "", err);
}

static int apply_identity_lost(void *ctx, const struct decode_relation *relation,
                               struct err *err)
{
    reconcile_soon(ctx);
    return apply_end(ctx, relation, JOIN_MARK_IDENTITY,
                     "an update or delete came without the old row", err);
}

static int apply_commit(void *ctx, uint64_t lsn, uint64_t end_lsn, struct err *err)
{
    struct sequencer *q = ctx;
    (void)err;
    ASSERT(q->txn_open);
    while (!list_empty(&q->touched)) {
        struct shape *shape = LIST_ENTRY(q->touched.next, struct shape, in_touched);
        list_remove(&shape->in_touched);
        shapelog_commit(shape->log);
        if (list_empty(&shape->in_committed))
            list_push(&q->committed, &shape->in_committed);
    }
    q->txn_open = false;
    if (q->txn_replayed)
        return 0;
    obs_count(q->config.obs, OBS_WAL_TRANSACTIONS, 1);
    if (!q->unpublished)
        q->oldest_commit_us = q->txn_begun_us;
    q->unpublished = true;
    q->processed_lsn = lsn;
    q->processed_end = end_lsn;
    q->processed_commit_us = q->txn_commit_us;
    return 0;
}

/* The stream broke: what is not shown comes again. */
void apply_roll_back(struct sequencer *q)
{
    size_t it = 0;
    void *value;
    while (map_next(&q->shapes.by_handle, &it, NULL, &value))
        join_abandon(value);
    while (!list_empty(&q->touched))
        list_remove(q->touched.next);
    while (!list_empty(&q->committed))
        list_remove(q->committed.next);
    if (q->shapelog != NULL)
        shapelog_rollback(q->shapelog);
    q->txn_open = false;
    q->unpublished = false;
    q->processed_lsn = atomic_load(&q->shapes.last_lsn);
    q->processed_end = q->published_end;
    q->wal_end = q->published_end; /* what came behind it is not done with */
}

static void apply_abandon(void *ctx)
{
    apply_roll_back(ctx);
}

struct txn_sink sequencer_txn_sink(struct sequencer *q)
{
    return (struct txn_sink){
        .ctx = q,
        .begin = apply_begin,
        .relation = apply_relation,
        .change = apply_change,
        .truncate = apply_truncate,
        .identity_lost = apply_identity_lost,
        .commit = apply_commit,
        .abandon = apply_abandon,
    };
}
