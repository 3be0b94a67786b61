/* What the files of this module share. Not for others. */
#ifndef COULOMB_SERVER_PG_INTERNAL_H
#define COULOMB_SERVER_PG_INTERNAL_H

#include "server/pg/pg.h"

/* cure.c. Puts behind the message of a refused connection what a person can do about it,
 * where that is known. */
void pg_add_cure(struct err *err, const PGconn *conn);

#endif
