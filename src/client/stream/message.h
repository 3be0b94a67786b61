/* What a stream delivers: messages (shape-protocol.md section 4), typed. Internal.
 *
 * Everything a message points to lives in its batch, that is for the callback that gets it. */
#ifndef COULOMB_CLIENT_STREAM_MESSAGE_H
#define COULOMB_CLIENT_STREAM_MESSAGE_H

#include <stdbool.h>

#include "coulomb/collection.h"

enum stream_kind {
    /* Changes of rows. */
    STREAM_INSERT,
    STREAM_UPDATE,
    STREAM_DELETE,
    /* Events of shapes with subqueries (section 7): patterns and txids. */
    STREAM_MOVE_IN,
    STREAM_MOVE_OUT,
    /* Controls. */
    STREAM_UP_TO_DATE,   /* headers->lsn is global_last_seen_lsn, if has_lsn */
    STREAM_SNAPSHOT_END, /* snapshot */
    STREAM_SUBSET_END,   /* of the client only: a requested subset is whole; subset */
    STREAM_MUST_REFETCH /* nothing delivered so far counts any more; all of it comes again */
};

/* A snapshot's view: xids are 64 bits wide, those of messages (txids) are their lower 32. */
struct stream_snapshot {
    uint64_t xmin;
    uint64_t xmax;
    const uint64_t *xip;
    size_t xip_count;
    bool has_lsn; /* of subsets */
    uint64_t database_lsn;
    bool has_mark;
    uint64_t mark;
};

struct stream_pattern {
    size_t pos;
    coulomb_str value;
};

/* Consecutive messages may share one. */
struct stream_headers {
    coulomb_str schema; /* of the relation; empty: not told */
    coulomb_str table;
    const uint64_t *txids; /* 32-bit xids, ascending as sent */
    size_t txid_count;
    bool has_lsn; /* false for rows of snapshots and move-ins */
    bool has_position;
    bool last;    /* of the transaction, in this shape */
    bool move_in; /* a row that a move-in brought */
    bool has_tags;
    bool has_removed_tags;
    bool has_conditions;
    uint64_t lsn;
    uint64_t op_position;
    const coulomb_str *tags;
    size_t tag_count;
    const coulomb_str *removed_tags;
    size_t removed_tag_count;
    const bool *conditions; /* active_conditions */
    size_t condition_count;
    coulomb_str key_change_from; /* empty: none */
    coulomb_str key_change_to;
    const struct stream_pattern *patterns;
    size_t pattern_count;
};

struct stream_message {
    enum stream_kind kind;
    bool packed; /* the reader's own: values, old_values are to be unpacked yet */
    bool old_packed;
    coulomb_str key; /* the protocol's key, opaque; empty but for changes */
    /* One for each of the stream's columns, in their order, absent where the message has none;
     * old_values is NULL when there are none at all (replica=default). NULL but for changes. */
    const coulomb_value *values;
    const coulomb_value *old_values;
    const struct stream_headers *headers; /* never NULL */
    const struct stream_snapshot *snapshot;
    uint64_t subset; /* of SUBSET_END: its request's number; else 0 */
};

/* A column of the shape, from electric-schema (section 2.5). */
struct stream_column {
    char *name;
    size_t name_len;
    char *pg_type; /* pg_type.typname, of arrays the element's; "" when not told */
    int dims;      /* of arrays, as declared; 0: none */
    bool not_null;
    int pk_index;      /* -1: not in the primary key */
    coulomb_type type; /* that its values get */
    coulomb_type element;
};

static inline bool stream_is_change(const struct stream_message *m)
{
    return m->kind <= STREAM_DELETE;
}

#endif
