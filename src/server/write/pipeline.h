/* Jobs sent over one connection one behind the other (libpq's pipeline mode). */
#ifndef COULOMB_SERVER_WRITE_PIPELINE_H
#define COULOMB_SERVER_WRITE_PIPELINE_H

#include "server/write/statement.h"

/* Runs the prepared jobs of a list (by `link`), each as a transaction of its own, and fills their
 * results: WRITE_DONE with txid and LSN, or a failure with failed_at and sqlstate. 0, or ERR_IO: the
 * connection is of no use any more; jobs whose outcome is not known then have `uncertain` set.
 * The connection is idle before and behind, and nothing that a job's functions left in the session
 * reaches the next one, or stays; its statement_timeout is timeout_ms. */
int pipeline_run(PGconn *conn, int64_t timeout_ms, struct list *jobs);

#endif
