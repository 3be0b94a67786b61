/* Rows: immutable, counted, one block each. Internal.
 *
 *   ┌────────┬──────┬───────┬──────────────────┬────────┬───────────────────────────┐
 *   │ layout │ refs │ bytes │ fixed slots      │ states │ payload                   │
 *   └────────┴──────┴───────┴──────────────────┴────────┴───────────────────────────┘
 *
 * A column's slot has the width of its type: 16, 8, 4 or 1 bytes, the wide ones first. Text, bytes,
 * numeric, json and arrays have in their slot (4 bytes) where their part of the payload ends; it
 * begins where that of the one before ends. states has two bits for each column: value, null or
 * absent. A row whose key is made by a function, or is a uuid's text, holds it behind the last
 * column, its type being one more state. */
#ifndef COULOMB_CLIENT_VALUE_ROW_H
#define COULOMB_CLIENT_VALUE_ROW_H

#include "client/loop/loop.h"
#include "client/value/value.h"
#include "coulomb/collection.h"

struct column {
    char *name;
    coulomb_type type;
    coulomb_type element;
    uint32_t offset; /* of the slot in the row */
    int before;      /* the column whose payload lies before this one's; -1 */
};

struct layout {
    struct heap *heap;
    size_t refs;
    size_t count;
    int key_column; /* -1: the key is stored */
    bool stored_key;
    bool needs_normal;   /* some column's values are rewritten */
    bool has_text;       /* some column's values are checked */
    uint32_t key_offset; /* of 8 bytes and then 4: the number or the end of the text */
    uint32_t states;
    uint32_t payload;
    int last_bytes; /* the last column with a payload, -1 */
    struct column columns[];
};

struct coulomb_row {
    struct layout *layout;
    uint32_t refs;
    uint32_t bytes;
    unsigned char data[];
};

/* COULOMB_E_MEMORY, COULOMB_E_COLLECTION_CONFIG (in *e), COULOMB_E_GET_KEY_REQUIRED. */
int layout_new(struct heap *h, const coulomb_column *columns, size_t count,
               const char *key_column, bool stored_key, struct layout **out,
               coulomb_error *e);
void layout_retain(struct layout *l);
void layout_release(struct layout *l);
int layout_find(const struct layout *l, const char *name); /* -1: none */

/* What a column takes: *out is the value with its type (int64 made double or numeric). The number's
 * text lies in the arena. COULOMB_E_TYPE. */
int layout_coerce(const struct layout *l, size_t column, const coulomb_value *v,
                  struct arena *arena, coulomb_value *out, coulomb_error *e);
/* A row of these values, one for each column, coerced and normalised; scratch is the arena's. key is
 * for layouts with a stored key. *out is the caller's. */
int row_new(struct layout *l, const coulomb_value *values, const coulomb_key *key,
            struct arena *arena, struct coulomb_row **out, coulomb_error *e);
/* The same of values that are already as rows keep them. */
int row_build(struct layout *l, const coulomb_value *values, const coulomb_key *key,
              struct coulomb_row **out);

static inline struct coulomb_row *row_retain(const struct coulomb_row *row)
{
    struct coulomb_row *r = (struct coulomb_row *)(uintptr_t)row;

    if (r)
        r->refs++;
    return r;
}

void row_free(struct coulomb_row *row);

static inline void row_release(struct coulomb_row *row)
{
    if (row && --row->refs == 0)
        row_free(row);
}

coulomb_value row_at(const struct coulomb_row *row, size_t column);
/* The key, pointing into the row; COULOMB_KEY_NONE when it has none. */
coulomb_key row_key(const struct coulomb_row *row);
/* 1 equal, 0 not, or COULOMB_E_MEMORY. NULL equals NULL only. */
int row_equal(const struct coulomb_row *a, const struct coulomb_row *b,
              struct arena *arena);
uint32_t key_hash(coulomb_key key, uint64_t seed);
bool key_equal(coulomb_key a, coulomb_key b);
/* For messages: at most cap bytes, terminated. */
void key_print(coulomb_key key, char *buf, size_t cap);
int key_copy(struct heap *h, coulomb_key key, struct blob *b, coulomb_key *copy);

#endif
