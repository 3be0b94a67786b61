/* Messages to transactions: the grammar above decode.
 *
 *   stream      := { relation | type | transaction }
 *   transaction := Begin { Origin | Relation | Type | Insert | Update | Delete | Truncate
 *                        | Message } Commit
 *
 * Changes are handed on as they arrive (design idea 5); what they did counts only when
 * `commit` is called. `abandon` tells that the rest of an open transaction will not come
 * on this connection: it will be sent again whole. Positions are given here: the counter
 * starts at 0 in each transaction and rises by 2 with each row change and each truncated
 * relation (shape-protocol.md 3.3). Unchanged TOASTed values are filled from the old row.
 */
#ifndef COULOMB_SERVER_TXN_TXN_H
#define COULOMB_SERVER_TXN_TXN_H

#include "server/decode/decode.h"

struct txn_begin {
    uint64_t lsn;      /* of the commit record */
    int64_t commit_us; /* wall clock, since 1970 */
    uint32_t xid;
};

enum txn_op { TXN_INSERT, TXN_UPDATE, TXN_DELETE };

struct txn_change {
    enum txn_op op;
    uint64_t position;
    const struct decode_relation *relation;
    const struct value *old; /* relation->column_count values; NULL for inserts */
    const struct value *row; /* NULL for deletes; never VALUE_UNCHANGED */
};

/* Calls come on the sequencer's thread; what is passed is borrowed for the call. A
 * negative return stops the stream with that error. */
struct txn_sink {
    void *ctx;
    int (*begin)(void *ctx, const struct txn_begin *begin, struct err *err);
    int (*relation)(void *ctx, const struct decode_relation *relation, struct err *err);
    int (*change)(void *ctx, const struct txn_change *change, struct err *err);
    int (*truncate)(void *ctx, const struct decode_relation *relation, uint64_t position,
                    struct err *err);
    /* A change came without the whole old row: the table's shapes can't follow it. */
    int (*identity_lost)(void *ctx, const struct decode_relation *relation,
                         struct err *err);
    /* end_lsn: where the transaction ends in the WAL. */
    int (*commit)(void *ctx, uint64_t lsn, uint64_t end_lsn, struct err *err);
    void (*abandon)(void *ctx);
};

struct txn;

struct txn *txn_new(const struct txn_sink *sink);
void txn_free(struct txn *t);
/* One pgoutput message. ERR_CORRUPT when it does not decode or breaks the grammar. */
int txn_feed(struct txn *t, struct slice frame, struct err *err);
bool txn_open(const struct txn *t); /* between Begin and Commit */
/* The connection is lost or new: abandons an open transaction, forgets relations. */
void txn_reset(struct txn *t);

#endif
