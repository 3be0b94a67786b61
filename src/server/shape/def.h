/* A shape's definition: what makes two requests ask for the same log
 * (shape-protocol.md 5.2). Immutable, reference-counted, any thread. */
#ifndef COULOMB_SERVER_SHAPE_DEF_H
#define COULOMB_SERVER_SHAPE_DEF_H

#include "base/err.h"
#include "server/catalog/table.h"
#include "server/row/encode.h"

enum shape_log_mode { SHAPE_LOG_FULL, SHAPE_LOG_CHANGES_ONLY };

struct shape_def {
    atomic_uint refs;
    struct table *table;
    struct encode_plan *plan;
    uint16_t *selected; /* ascending indexes into table->columns */
    uint16_t selected_count;
    bool all_columns; /* no explicit list was given */
    struct slice
        where; /* the canonical clause (where.h), within `identity`; empty: none */
    uint16_t *where_columns; /* that it reads: ascending, behind `selected` */
    uint16_t where_count;
    enum encode_replica replica;
    enum shape_log_mode log_mode;
    char *identity; /* definitions are the same iff these bytes are */
    size_t identity_len;
    char *schema_header; /* the electric-schema value, terminated */
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
};

/* ERR_MEMORY only: names and columns have been checked by whoever resolved them. */
int shape_def_new(const struct shape_spec *spec, struct shape_def **out, struct err *err);
struct shape_def *shape_def_retain(struct shape_def *def);
void shape_def_release(struct shape_def *def);
struct slice shape_def_identity(const struct shape_def *def);

/* The same shape with columns that may be null: their `not_null` is gone from the header and
 * the durable form. `columns` are indexes into the table's columns. ERR_MEMORY. */
int shape_def_relaxed(const struct shape_def *def, const uint16_t *columns, size_t count,
                      struct shape_def **out, struct err *err);

/* The same shape with these as all that is below its table. ERR_MEMORY. */
int shape_def_with_children(const struct shape_def *def, uint32_t *children, size_t count,
                            struct shape_def **out, struct err *err);

/* The durable form (a JSON document, described in def.c) and back. ERR_CORRUPT. Version 1, from
 * before clauses, is read too: it says nothing of collations, enums and domains, which only
 * clauses need. */
#define SHAPE_DEF_VERSION  2
#define SHAPE_DEF_TEXT_MAX (8u << 20)
int shape_def_print(const struct shape_def *def, struct buf *out);
int shape_def_parse(struct slice text, struct shape_def **out, struct err *err);

/* Whether a table as it is now still serves this definition: same OID, name and key, the
 * selected columns unchanged, those that the clause reads in all that it can see (table_sql) as
 * well, and for "all columns" no other column. Whether a column may be
 * null is no matter: the header follows the rows (apply.c). `why` (may be NULL)
 * gets a phrase such as: column "x" changed its type. */
bool shape_def_fits(const struct shape_def *def, const struct table *now,
                    struct buf *why);

#endif
