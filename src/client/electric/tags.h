/* Why rows are in the shape: tags and conditions of shapes with subqueries (shape-protocol.md section
 * 7). Internal.
 *
 * A tag has a slot for each position of the shape's condition in disjunctive form, empty where the
 * position is not in the tag's disjunct. Rows are indexed by (position, slot); a move names a position
 * and a slot whose condition turned true or false for every row that has it.
 *
 *   rows:   key ─▶ row ─▶ tags ─▶ slots ──┐
 *   slots:  "position/value" ─▶ slot ◀────┘ its rows */
#ifndef COULOMB_CLIENT_ELECTRIC_TAGS_H
#define COULOMB_CLIENT_ELECTRIC_TAGS_H

#include "base/buf.h"
#include "client/collection/ktab.h"
#include "client/stream/message.h"

#define TAGS_POSITIONS_MAX 1000u

struct tag_row;

struct tags {
    struct coulomb_collection *coll;
    struct ktab rows;
    struct ktab slots;
    size_t positions; /* of every tag; 0: no tag came yet */
    /* The disjuncts, from the first row: for each the positions in it, as bytes 0 and 1. */
    unsigned char *disjuncts;
    size_t disjunct_count;
    uint64_t move;          /* counts them */
    struct tag_row **found; /* rows that the move is about */
    size_t found_cap;
};

void tags_init(struct tags *t, struct coulomb_collection *coll);
/* Forgets everything. */
void tags_clear(struct tags *t);
/* A row's message: an insert replaces its tags, an update adds and removes. Without tags nothing
 * changes. COULOMB_E_MEMORY: may be asked again. COULOMB_E_PROTOCOL: a slot over 4,092 bytes. */
int tags_put(struct tags *t, coulomb_key key, bool insert,
             const struct stream_headers *headers);
void tags_remove(struct tags *t, coulomb_key key);
bool tags_has(const struct tags *t, coulomb_key key);

/* What a move does to one row: it leaves the shape, or stays with other conditions. Errors end the
 * walk; asked again it goes on with what is left. */
typedef int tags_moved_fn(void *arg, coulomb_key key, bool leaves);

/* A row that leaves is forgotten after fn took it. */
int tags_move_out(struct tags *t, const struct stream_pattern *patterns, size_t count,
                  tags_moved_fn *fn, void *arg);
int tags_move_in(struct tags *t, const struct stream_pattern *patterns, size_t count,
                 tags_moved_fn *fn, void *arg);

/* Puts a row's tags as tags_print() wrote them, in an object with perhaps more; what is none is passed
 * over. Codes as tags_put(). */
int tags_restore(struct tags *t, coulomb_key key, struct slice json);
/* The members "tags" and "active_conditions" of a row as JSON, with a comma between; nothing when it
 * has none. */
void tags_print(const struct tags *t, coulomb_key key, struct buf *out);
/* The same of a message. */
void tags_print_headers(const struct stream_headers *headers, struct buf *out);

#endif
