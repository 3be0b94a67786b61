/* What somebody may see: a table, a clause with its parameters, columns.
 *
 *   {"table":"public.todos","where":"owner = $1","params":["amira"],"columns":["id","title"]}
 *
 * A grant comes from the authorising function or from the policy, is written into a shape token
 * in one canonical form (equal grants, equal bytes), and is read out of it again. The clause is SQL
 * of the app's own; what users say gets into it as a parameter only. */
#ifndef COULOMB_SERVER_GATE_GRANT_H
#define COULOMB_SERVER_GATE_GRANT_H

#include "base/buf.h"
#include "base/err.h"

typedef struct json_t json_t; /* jansson's */

#define GRANT_TABLE_MAX   256u         /* bytes */
#define GRANT_WHERE_MAX   (16u * 1024) /* bytes; a token has to fit into a header */
#define GRANT_PARAMS_MAX  100u
#define GRANT_COLUMNS_MAX 1600u

/* A reading of its JSON, which it borrows. */
struct grant {
    const char *table;     /* as a request's `table` */
    const char *where;     /* NULL: all rows */
    const json_t *params;  /* array of strings for $1, $2, …; NULL: none */
    const json_t *columns; /* sorted array of names, as the catalog has them; NULL: all */
};

/* Checks a grant and puts it into canonical form: *out is an owned object. Parameters may be an
 * array or an object {"1":…}; texts, numbers and booleans. ERR_INVALID says what is wrong. */
int grant_normalise(const json_t *in, json_t **out, struct err *err);
/* Of an object in canonical form, as in a token that was verified; ERR_INVALID. */
int grant_read(const json_t *in, struct grant *out);
size_t grant_param_count(const struct grant *grant);
const char *grant_param(const struct grant *grant, size_t i); /* from 0 */
size_t grant_column_count(const struct grant *grant);         /* 0: all */
const char *grant_column(const struct grant *grant, size_t i);
/* The canonical text. */
void grant_print(const json_t *grant, struct buf *out);
/* The grant that lets a table be followed in which there is nothing: for a request that says too
 * little (the guide's "token for nothing"). Owned; NULL: out of memory. */
json_t *grant_of_nothing(const char *table);

#endif
