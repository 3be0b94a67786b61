/* How the database maps the case of letters (lower, upper, ILIKE), read from itself: some
 * thousand characters, the same for all its tables. Immutable, reference-counted, any thread. */
#ifndef COULOMB_SERVER_CATALOG_CASE_MAP_H
#define COULOMB_SERVER_CATALOG_CASE_MAP_H

#include <libpq-fe.h>

#include "base/err.h"
#include "sql/types.h"

#define CASE_MAP_TEXT_MAX (16u << 20) /* every character there is has less */

struct case_map;

/* What a table's row of the catalog names it by (table.case_map_id): provider, locale and the
 * version of the library. Asks Postgres for the letters, which takes a tenth of a second.
 * ERR_RETRY, ERR_DB, ERR_MEMORY. */
int case_map_read(PGconn *conn, struct slice id, struct case_map **out, struct err *err);
/* Of the text form. ERR_CORRUPT, ERR_MEMORY. */
int case_map_parse(struct slice text, struct case_map **out, struct err *err);
struct case_map *case_map_retain(struct case_map *map);
void case_map_release(struct case_map *map); /* NULL is fine */

/* All borrowed from the map. The text is its durable form, some 50 KB. */
struct slice case_map_id(const struct case_map *map);
struct slice case_map_text(const struct case_map *map);
const struct sql_letters *case_map_letters(const struct case_map *map);

#endif
