/* A shape's definition: what makes two requests ask for the same log
 * (shape-protocol.md 5.2). Immutable, reference-counted, any thread. */
#ifndef COULOMB_SERVER_SHAPE_DEF_H
#define COULOMB_SERVER_SHAPE_DEF_H

#include "base/err.h"
#include "server/shape/columns.h"

enum shape_log_mode { SHAPE_LOG_FULL, SHAPE_LOG_CHANGES_ONLY };

struct shape_def {
    atomic_uint refs;
    enum shape_log_mode log_mode;
    struct shape_columns *columns; /* a reference; from here on what they have */
    struct table *table;
    struct encode_plan *plan;
    const uint16_t *selected; /* ascending indexes into table->columns */
    uint16_t selected_count;
    bool all_columns; /* no explicit list was given */
    uint16_t where_count;
    enum encode_replica replica;
    bool maps_case;                /* the clause depends on table->case_map */
    const uint16_t *where_columns; /* that the clause reads: ascending */
    struct slice where;            /* the canonical clause (where.h); empty: none */
    uint64_t identity[2];
    uint16_t tail[]; /* the clause's columns, and its text */
};

struct shape_spec {
    struct table *table;      /* retained by the definition */
    const uint16_t *selected; /* copied; any order, no duplicates; NULL: all columns */
    size_t selected_count;
    enum encode_replica replica;
    enum shape_log_mode log_mode;
    struct slice
        where; /* copied: of a struct shape_where, as are its columns; or empty */
    const uint16_t *where_columns;
    size_t where_count;
    bool maps_case;
};

/* ERR_MEMORY only: names and columns have been checked by whoever resolved them. */
int shape_def_new(const struct shape_spec *spec, struct shape_def **out, struct err *err);
/* Over columns that are there (retained); what the spec says of table and columns is not looked
 * at. ERR_MEMORY. */
int shape_def_of(struct shape_columns *columns, const struct shape_spec *spec,
                 struct shape_def **out, struct err *err);
struct shape_def *shape_def_retain(struct shape_def *def);
void shape_def_release(struct shape_def *def);
/* Definitions are the same iff these bytes are, within this process: a hash of 128 bits, with a
 * secret seed, of all that makes them so. */
struct slice shape_def_identity(const struct shape_def *def);

/* The same definition over columns that are the same (shape_columns_same). ERR_MEMORY. */
int shape_def_on(const struct shape_def *def, struct shape_columns *columns,
                 struct shape_def **out, struct err *err);

/* The same shape with columns that may be null: their `not_null` is gone from the header and
 * the durable form. `columns` are indexes into the table's columns. ERR_MEMORY. */
int shape_def_relaxed(const struct shape_def *def, const uint16_t *columns, size_t count,
                      struct shape_def **out, struct err *err);

/* The same shape with these as all that is below its table. ERR_MEMORY. */
int shape_def_with_children(const struct shape_def *def, uint32_t *children, size_t count,
                            struct shape_def **out, struct err *err);

/* The durable form (a JSON document, described in def.c). */
#define SHAPE_DEF_VERSION  2
#define SHAPE_DEF_TEXT_MAX (8u << 20)
int shape_def_print(const struct shape_def *def, struct buf *out);

/* Reads many of them: those that differ from the last one in their clause only share its columns,
 * and cost little. One thread. */
struct shape_def_reader {
    struct case_map *case_map; /* a reference: of the database, as stored; or NULL */
    struct shape_def *last;    /* or NULL */
    struct buf head;           /* its text but for the clause and what follows */
};

void shape_def_reader_init(struct shape_def_reader *r, struct case_map *case_map);
void shape_def_reader_fini(struct shape_def_reader *r);
/* ERR_CORRUPT, also when the clause depends on a mapping of case that is not the stored one;
 * ERR_MEMORY. Version 1, from before clauses, is read too: it says nothing of collations, enums
 * and domains, which only clauses need. */
int shape_def_read(struct shape_def_reader *r, struct slice text, struct shape_def **out,
                   struct err *err);

/* Whether a table as it is now still serves this definition: same OID, name and key, the
 * selected columns unchanged, those that the clause reads in all that it can see (table_sql) as
 * well, and for "all columns" no other column. Whether a column may be
 * null is no matter: the header follows the rows (apply.c). `why` (may be NULL)
 * gets a phrase such as: column "x" changed its type. */
bool shape_def_fits(const struct shape_def *def, const struct table *now,
                    struct buf *why);

#endif
