/* Which tables have row-level security, which a policy's or a route's clause would pass by.
 * Any thread. The tables are those of the configuration, so their number is bounded. */
#ifndef COULOMB_SERVER_GATE_ROW_SECURITY_H
#define COULOMB_SERVER_GATE_ROW_SECURITY_H

#include "server/pg/pg.h"

#define ROW_SECURITY_KNOWN_MS 1000 /* an answer holds so long */

struct row_security;

enum row_security_state { ROW_SECURITY_UNKNOWN, ROW_SECURITY_OFF, ROW_SECURITY_ON };

struct row_security *row_security_new(void);     /* NULL: out of memory */
void row_security_free(struct row_security *rs); /* NULL is fine */

/* table: NAME (of public) or SCHEMA.NAME, as SQL writes them. UNKNOWN: ask. */
enum row_security_state row_security_known(struct row_security *rs, const char *table,
                                           int64_t now_ms);
/* Asks Postgres (pg_class.relrowsecurity). When it can't be asked (conn NULL, or it fails), the
 * last answer stands: nobody can have changed it meanwhile. UNKNOWN, with err, where there is none.
 * A table that does not exist is OFF. */
enum row_security_state row_security_ask(struct row_security *rs, PGconn *conn,
                                         const char *table, int64_t now_ms,
                                         struct err *err);

#endif
