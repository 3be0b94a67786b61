/* Conditions and orders of a collection as SQL for a server's subsets (shape-protocol.md 1.7). Internal.
 *
 * The server's answer may have more rows than the condition wants, never fewer (but for text: servers
 * order it by the database's collation, the client by its bytes). What the client's types know and SQL's
 * do not is put as a constant: a text that is compared with an integer column is never equal. What
 * servers can't compare (values inside json, bytes) is left out, and the condition inexact. */
#ifndef COULOMB_CLIENT_ELECTRIC_SQL_H
#define COULOMB_CLIENT_ELECTRIC_SQL_H

#include "base/arena.h"
#include "client/electric/spec.h"
#include "client/stream/stream.h"

#define SUBSET_SQL_MAX (16u << 20) /* bytes of one request's texts */

/* The condition of up to two expressions (NULL: left out), which both have to hold. Texts lie in the
 * arena. COULOMB_E_MEMORY, COULOMB_E_LIMIT. */
int sql_where(const struct layout *l, const struct coulomb_expr *const wheres[2],
              struct arena *arena, struct stream_subset *out, bool *exact);
/* An order; then by the key's columns when rows are counted, so that pages meet. columns (count of
 * them, or NULL) are the shape's: one that is never null needs no place for nulls, and an index may
 * serve it. */
int sql_order(const struct layout *l, const struct spec *s, const int *key_columns,
              size_t key_count, const struct stream_column *columns, size_t count,
              struct arena *arena, struct stream_subset *out);
/* A value as the server reads it; of a column's type. NULL: no memory. */
char *sql_text(const coulomb_value *v, struct arena *arena);

#endif
