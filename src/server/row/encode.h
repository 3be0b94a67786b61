/* Rows and changes made into the JSON messages that clients receive (shape-protocol.md
 * 4).
 *
 * A plan holds all that is constant for (table, columns, replica mode), already escaped,
 * so that a row costs its own bytes only. The same code makes keys and values for the
 * snapshot and the stream: they are byte-identical. A message is written without `last`
 * and ends in "}}"; whoever stores it makes the final one of a transaction end in
 * ENCODE_LAST instead. */
#ifndef COULOMB_SERVER_ROW_ENCODE_H
#define COULOMB_SERVER_ROW_ENCODE_H

#include "base/buf.h"
#include "server/catalog/table.h"
#include "server/row/value.h"

#define ENCODE_END  "}}"
#define ENCODE_LAST ",\"last\":true}}"

enum encode_replica { ENCODE_REPLICA_DEFAULT, ENCODE_REPLICA_FULL };

struct encode_plan; /* immutable after creation, reference-counted */

/* selected: ascending indexes into table->columns, including the key's. NULL: out of
 * memory. */
struct encode_plan *encode_plan_new(const struct table *table, const uint16_t *selected,
                                    size_t count, enum encode_replica replica);
struct encode_plan *encode_plan_retain(struct encode_plan *plan);
void encode_plan_release(struct encode_plan *plan);
/* Bytes that are the same for two plans iff they make the same messages of the same rows. */
void encode_plan_put_identity(struct buf *out, const struct encode_plan *plan);

/* A row is an array of values by table column index (struct table order); entries of
 * columns that are not selected are not looked at. */

struct encode_txn {
    uint64_t lsn; /* commit LSN: the header `lsn` and the offset's tx */
    uint32_t xid;
};

/* A snapshot row: an insert without lsn, txids, op_position. */
void encode_snapshot_row(struct buf *out, const struct encode_plan *plan,
                         const struct value *row);
/* {"headers":{"control":"snapshot-end",…}} ; xids are 64-bit. */
void encode_snapshot_end(struct buf *out, uint64_t xmin, uint64_t xmax,
                         const uint64_t *xip, size_t xip_count);
void encode_insert(struct buf *out, const struct encode_plan *plan,
                   const struct encode_txn *txn, uint64_t op, const struct value *row);
void encode_delete(struct buf *out, const struct encode_plan *plan,
                   const struct encode_txn *txn, uint64_t op, const struct value *old);
/* An update in place (same key). False, and nothing written, when no selected column
 * changed. */
bool encode_update(struct buf *out, const struct encode_plan *plan,
                   const struct encode_txn *txn, uint64_t op, const struct value *old,
                   const struct value *row);
/* The halves of an update that changes the key (4.4): delete at op, insert at op + 1. */
void encode_key_change_delete(struct buf *out, const struct encode_plan *plan,
                              const struct encode_txn *txn, uint64_t op,
                              const struct value *old, const struct value *row);
void encode_key_change_insert(struct buf *out, const struct encode_plan *plan,
                              const struct encode_txn *txn, uint64_t op,
                              const struct value *old, const struct value *row);
/* Whether the key columns of the two rows differ. */
bool encode_key_differs(const struct encode_plan *plan, const struct value *old,
                        const struct value *row);

#endif
