/* Reading table definitions, many at a time; shared inside the module. */
#ifndef COULOMB_SERVER_CATALOG_READ_H
#define COULOMB_SERVER_CATALOG_READ_H

#include "server/catalog/table.h"
#include "server/pg/pg.h"

/* Definitions of the ordinary and partitioned tables among the OIDs: *tables gets count
 * entries in the order of oids, NULL where there is none; all as of one moment. The
 * caller releases each and frees the array. */
int read_tables(PGconn *conn, const uint32_t *oids, size_t count, struct table ***tables,
                struct err *err);
/* "{1,2,3}", a Postgres array literal. */
void read_put_oids(struct buf *out, const uint32_t *oids, size_t count);
/* Numbers parted by blanks ("" for none), malloc'd; false without memory. */
bool read_oids(const char *text, uint32_t **oids, uint32_t *count);

#endif
