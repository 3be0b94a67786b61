/* Messages to transactions.
 *
 * Problem: a change is worth something only with its place in the transaction, its whole
 * old row and the definition of its table, and pgoutput delivers these apart. Approach: a
 * grammar of one bit (open or not), a cache of relations, and a counter; every message is
 * decoded into an arena that is reset before the next one, so memory is bounded by one
 * message whatever the size of the transaction.
 *
 * Invariants:
 *  - positions depend on nothing but the transaction's own messages: every row change
 * takes 2, whether or not it could be handed on, and so does every truncated relation.
 * After a crash the same WAL gives the same offsets;
 *  - `change` sees whole rows only: an unchanged TOASTed value is the old row's value,
 * and where there is no whole old row the change becomes `identity_lost`;
 *  - `commit` or `abandon` follows each `begin` that succeeded, exactly once.
 *
 * Runs of changes to one table are the rule, so the last relation is remembered beside
 * the cache. Rejected: collecting the transaction before passing it on (memory of its
 * size). */
#include "server/txn/txn.h"

#include <inttypes.h>
#include <stdlib.h>

/* The values of two rows, or four million truncated OIDs. */
#define ARENA_MAX_BYTES (16u << 20)
#define POSITION_STEP   2
#define EPOCH_2000_US   INT64_C(946684800000000)
#define LSN_FORMAT      "%" PRIX32 "/%" PRIX32
#define LSN_ARGS(lsn)   (uint32_t)((lsn) >> 32), (uint32_t)(lsn)

struct txn {
    struct txn_sink sink;
    struct arena arena;
    struct decode_relations *relations;
    const struct decode_relation *last; /* of the latest change; NULL: ask the cache */
    bool open;
    uint64_t lsn;      /* of the open transaction's commit record */
    uint64_t position; /* of its next change */
};

struct txn *txn_new(const struct txn_sink *sink)
{
    struct txn *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->relations = decode_relations_new();
    if (!t->relations) {
        free(t);
        return NULL;
    }
    t->sink = *sink;
    arena_init(&t->arena, ARENA_MAX_BYTES);
    return t;
}

void txn_free(struct txn *t)
{
    if (!t)
        return;
    decode_relations_free(t->relations);
    arena_fini(&t->arena);
    free(t);
}

bool txn_open(const struct txn *t)
{
    return t->open;
}

void txn_reset(struct txn *t)
{
    t->last = NULL;
    decode_relations_clear(t->relations);
    if (!t->open)
        return;
    t->open = false;
    t->sink.abandon(t->sink.ctx);
}

static int feed_begin(struct txn *t, const struct decode_message *m, struct err *err)
{
    struct txn_begin begin = {.lsn = m->u.begin.final_lsn, .xid = m->u.begin.xid};
    int rc;

    if (t->open)
        return err_set(err, ERR_CORRUPT,
                       "pgoutput began a transaction (" LSN_FORMAT
                       ") inside another (" LSN_FORMAT ")",
                       LSN_ARGS(begin.lsn), LSN_ARGS(t->lsn));
    if (begin.lsn == 0 ||
        __builtin_add_overflow(m->u.begin.commit_us, EPOCH_2000_US, &begin.commit_us))
        return err_set(err, ERR_CORRUPT,
                       "pgoutput began a transaction with an impossible position or time "
                       "(" LSN_FORMAT ", %" PRId64 ")",
                       LSN_ARGS(begin.lsn), m->u.begin.commit_us);
    rc = t->sink.begin(t->sink.ctx, &begin, err);
    if (rc != 0)
        return rc;
    t->open = true;
    t->lsn = begin.lsn;
    t->position = 0;
    return 0;
}

static int feed_commit(struct txn *t, const struct decode_message *m, struct err *err)
{
    int rc;

    if (!t->open || m->u.commit.commit_lsn != t->lsn)
        return err_set(err, ERR_CORRUPT,
                       "pgoutput committed a transaction (" LSN_FORMAT
                       ") that is not the open one (" LSN_FORMAT ")",
                       LSN_ARGS(m->u.commit.commit_lsn),
                       LSN_ARGS(t->open ? t->lsn : UINT64_C(0)));
    rc = t->sink.commit(t->sink.ctx, t->lsn, m->u.commit.end_lsn, err);
    if (rc == 0)
        t->open = false;
    return rc;
}

static int feed_relation(struct txn *t, const struct decode_message *m, struct err *err)
{
    const struct decode_relation *relation;

    t->last = NULL;
    if (decode_relations_put(t->relations, &m->u.relation, &relation) != 0)
        return err_set(err, ERR_MEMORY, "no memory for the definition of a table");
    return t->sink.relation(t->sink.ctx, relation, err);
}

/* The table of a change: inside a transaction, and described before. */
static const struct decode_relation *find_relation(struct txn *t, uint32_t oid,
                                                   struct err *err)
{
    const struct decode_relation *relation = t->last;

    if (!t->open) {
        err_set(err, ERR_CORRUPT, "pgoutput sent a change outside a transaction");
        return NULL;
    }
    if (relation && relation->oid == oid)
        return relation;
    relation = decode_relations_get(t->relations, oid);
    if (!relation) {
        err_set(err, ERR_CORRUPT,
                "pgoutput sent a change to relation %" PRIu32
                " without having described it",
                oid);
        return NULL;
    }
    t->last = relation;
    return relation;
}

static int check_width(const struct decode_relation *relation,
                       const struct decode_tuple *tuple, struct err *err)
{
    if (tuple->count == relation->column_count)
        return 0;
    return err_set(
        err, ERR_CORRUPT,
        "pgoutput sent a row of %u columns for \"%.*s\".\"%.*s\", which has %u",
        tuple->count, (int)relation->schema.len, relation->schema.ptr,
        (int)relation->name.len, relation->name.ptr, relation->column_count);
}

static bool is_whole(const struct decode_tuple *tuple)
{
    for (uint16_t i = 0; i < tuple->count; i++) {
        if (tuple->values[i].kind == VALUE_UNCHANGED)
            return false;
    }
    return true;
}

static uint64_t take_position(struct txn *t)
{
    uint64_t position = t->position;

    t->position += POSITION_STEP;
    return position;
}

static int feed_insert(struct txn *t, const struct decode_message *m, struct err *err)
{
    const struct decode_tuple *row = &m->u.insert.row;
    struct txn_change change = {.op = TXN_INSERT, .old = NULL, .row = row->values};

    change.relation = find_relation(t, m->u.insert.oid, err);
    if (!change.relation || check_width(change.relation, row, err) != 0)
        return ERR_CORRUPT;
    if (!is_whole(row))
        return err_set(
            err, ERR_CORRUPT,
            "pgoutput inserted a row into \"%.*s\".\"%.*s\" with a value left out",
            (int)change.relation->schema.len, change.relation->schema.ptr,
            (int)change.relation->name.len, change.relation->name.ptr);
    change.position = take_position(t);
    return t->sink.change(t->sink.ctx, &change, err);
}

/* Gives the unchanged TOASTed values of row what the old row has in their place. */
static void fill_unchanged(const struct decode_tuple *row, const struct decode_tuple *old)
{
    for (uint16_t i = 0; i < row->count; i++) {
        if (row->values[i].kind == VALUE_UNCHANGED)
            row->values[i] = old->values[i];
    }
}

static int feed_update(struct txn *t, const struct decode_message *m, struct err *err)
{
    const struct decode_tuple *old = &m->u.update.old;
    const struct decode_tuple *row = &m->u.update.row;
    struct txn_change change = {.op = TXN_UPDATE, .old = old->values, .row = row->values};

    change.relation = find_relation(t, m->u.update.oid, err);
    if (!change.relation || check_width(change.relation, row, err) != 0)
        return ERR_CORRUPT;
    if (m->u.update.old_kind != DECODE_OLD_NONE &&
        check_width(change.relation, old, err) != 0)
        return ERR_CORRUPT;
    change.position = take_position(t);
    if (m->u.update.old_kind != DECODE_OLD_FULL || !is_whole(old))
        return t->sink.identity_lost(t->sink.ctx, change.relation, err);
    fill_unchanged(row, old);
    return t->sink.change(t->sink.ctx, &change, err);
}

static int feed_delete(struct txn *t, const struct decode_message *m, struct err *err)
{
    const struct decode_tuple *old = &m->u.remove.old;
    struct txn_change change = {.op = TXN_DELETE, .old = old->values, .row = NULL};

    change.relation = find_relation(t, m->u.remove.oid, err);
    if (!change.relation || check_width(change.relation, old, err) != 0)
        return ERR_CORRUPT;
    change.position = take_position(t);
    if (m->u.remove.old_kind != DECODE_OLD_FULL || !is_whole(old))
        return t->sink.identity_lost(t->sink.ctx, change.relation, err);
    return t->sink.change(t->sink.ctx, &change, err);
}

static int feed_truncate(struct txn *t, const struct decode_message *m, struct err *err)
{
    for (uint32_t i = 0; i < m->u.truncate.count; i++) {
        const struct decode_relation *relation;
        int rc;

        relation = find_relation(t, m->u.truncate.oids[i], err);
        if (!relation)
            return ERR_CORRUPT;
        rc = t->sink.truncate(t->sink.ctx, relation, take_position(t), err);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int feed_origin(const struct txn *t, struct err *err)
{
    if (t->open)
        return 0;
    return err_set(err, ERR_CORRUPT, "pgoutput named an origin outside a transaction");
}

int txn_feed(struct txn *t, struct slice frame, struct err *err)
{
    struct decode_message m;
    int rc;

    arena_reset(&t->arena);
    rc = decode_message(frame, &t->arena, &m, err);
    if (rc != 0)
        return rc;
    switch (m.kind) {
    case DECODE_BEGIN:
        return feed_begin(t, &m, err);
    case DECODE_COMMIT:
        return feed_commit(t, &m, err);
    case DECODE_ORIGIN:
        return feed_origin(t, err);
    case DECODE_RELATION:
        return feed_relation(t, &m, err);
    case DECODE_INSERT:
        return feed_insert(t, &m, err);
    case DECODE_UPDATE:
        return feed_update(t, &m, err);
    case DECODE_DELETE:
        return feed_delete(t, &m, err);
    case DECODE_TRUNCATE:
        return feed_truncate(t, &m, err);
    case DECODE_TYPE:
    case DECODE_MESSAGE:
        return 0; /* say nothing about rows; a logical Message may stand anywhere */
    }
    return err_set(err, ERR_CORRUPT, "pgoutput message of unknown kind");
}
