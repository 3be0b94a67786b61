/* A shape's where-clause on the sequencer's side: its filters in the router, and what becomes of a
 * shape whose clause can't be decided.
 *
 * Filters share an index if they were made with the same table object. So the shapes of one table
 * make theirs with the table that the first of them came with, for as long as it looks the same
 * to a clause (table_same): table_use.clause_table. A shape keeps a reference to the one that it
 * took.
 *
 * What the clause reads may change under a shape, while rows that are outside show nothing of it.
 * So what a Relation message says is compared at once with what the filters were made with: a
 * link whose clause reads a column that is gone or of another type is a *misfit*. The shape
 * is not removed before the relation's first change that it is to see: while the stream is
 * behind, the message may describe a table of before its snapshot. What a Relation message does
 * not tell (collations, labels of enums) the look at the catalog finds that every such message
 * asks for, and until then nothing more of the shape is shown (is_held, reconcile.c).
 *
 * One rule for a clause that can't be decided on a row, because evaluating it raises an error in
 * Postgres as well, or is beyond us: the shape is removed, its clients refetch. If Postgres raises
 * the error over the rows that there are, the new snapshot fails with it and they are told (400);
 * else they get what is there. No row is taken for one that is outside. */
#include <stdlib.h>

#include "base/assert.h"
#include "server/shape/internal.h"

/* --- Filters --- */

static struct table *clause_table(struct shape *shape)
{
    struct table_use *use = shape->use;
    if (use->clause_table == NULL || !table_same(use->clause_table, shape->def->table)) {
        table_release(use->clause_table);
        use->clause_table = table_retain(shape->def->table);
    }
    return use->clause_table;
}

int clause_filter(struct sequencer *q, struct shape *shape, uint32_t oid,
                  const struct shape_where *where, struct route_filter **out,
                  struct err *err)
{
    *out = NULL;
    if (shape->def->where.len == 0)
        return 0;
    struct shape_where *again = NULL;
    if (where == NULL) {
        int rc = shape_where_reparse(shape->def->table, shape->def->where, &again, err);
        if (rc < 0)
            return rc;
        where = again;
    }
    if (shape->clause_table == NULL)
        shape->clause_table = table_retain(clause_table(shape));
    int rc = route_filter_get(q->route, oid, where->expr, table_sql(shape->clause_table),
                              out, err);
    shape_where_release(again);
    return rc;
}

/* --- What the stream says of the relation --- */

static bool column_moved(const struct table_column *c,
                         const struct decode_relation *relation)
{
    for (uint16_t i = 0; i < relation->column_count; i++) {
        const struct decode_column *is = &relation->columns[i];
        if (slice_eq(c->name, is->name))
            return c->type_oid != is->type_oid || c->typmod != is->typmod;
    }
    return true;
}

/* Which columns of a table the relation has no more, or of another type. */
struct moved {
    const struct table *table; /* of which, or NULL */
    bool any;
    bool columns[DECODE_COLUMNS_MAX];
};

static void moved_look(struct moved *m, const struct table *table,
                       const struct decode_relation *relation)
{
    if (m->table == table)
        return;
    m->table = table;
    m->any = false;
    for (size_t i = 0; i < table->column_count; i++) {
        m->columns[i] = column_moved(&table->columns[i], relation);
        m->any = m->any || m->columns[i];
    }
}

static bool reads_moved(const struct shape_def *def, const struct moved *m)
{
    for (size_t i = 0; m->any && i < def->where_count; i++) {
        if (m->columns[def->where_columns[i]])
            return true;
    }
    return false;
}

int clause_described(struct sequencer *q, const struct decode_relation *relation,
                     struct err *err)
{
    size_t count;
    struct route_entry *const *entries = route_entries(q->route, relation->oid, &count);
    struct moved moved = {.table = NULL};
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        struct shape_link *link = (struct shape_link *)(void *)entries[i];
        link->misfit = false;
        if (link->route.filter == NULL)
            continue;
        moved_look(&moved, link->shape->clause_table, relation);
        link->misfit = reads_moved(link->shape->def, &moved);
        any = any || link->misfit;
    }
    if (!any)
        map_del_u64(&q->misfits, relation->oid);
    else if (map_put_u64(&q->misfits, relation->oid, q, NULL) < 0)
        return err_set(err, ERR_MEMORY, "no memory for a change of a table's columns");
    return 0;
}

static void drop_misfit(struct sequencer *q, struct shape *shape)
{
    int mode = apply_touch(q, shape);
    if (mode == TXN_BUFFER)
        join_buffer_mark(q, shape, JOIN_MARK_SCHEMA);
    else if (mode == TXN_APPEND)
        sequencer_drop(q, shape, OBS_SHAPE_SCHEMA, NULL,
                       "the stream lacks a column that its where clause reads, or has it "
                       "with another type");
}

void clause_drop_misfits(struct sequencer *q, uint32_t oid)
{
    size_t count;
    if (q->misfits.len == 0 || map_get_u64(&q->misfits, oid) == NULL)
        return;
    route_entries(q->route, oid, &count);
    for (size_t i = count;
         i-- > 0;) { /* what takes a removed one's place was looked at */
        struct route_entry *const *entries = route_entries(q->route, oid, &count);
        struct shape_link *link = (struct shape_link *)(void *)entries[i];
        if (link->misfit)
            drop_misfit(q, link->shape);
    }
}

/* --- What can't be decided --- */

void clause_put_words(struct buf *out, const char *text)
{
    bool quoted = false;
    for (; *text != '\0'; text++) {
        if (*text == '"')
            quoted = !quoted;
        if (*text == '"' || !quoted)
            buf_putc(out, *text);
        if (*text == '"' && quoted)
            buf_puts(out, "...");
    }
    buf_putc(out, '\0');
}

void clause_failed(struct sequencer *q, struct shape *shape, const struct err *why)
{
    if (shape->txn_mode == TXN_BUFFER) {
        join_buffer_mark(q, shape, JOIN_MARK_CLAUSE);
        return;
    }
    ASSERT(shape->txn_mode == TXN_APPEND);
    struct buf words;
    buf_init(&words, sizeof why->message + 4096);
    clause_put_words(&words, why->message);
    sequencer_drop(q, shape, OBS_SHAPE_CLAUSE, NULL, words.failed ? "" : words.ptr);
    buf_fini(&words);
}
