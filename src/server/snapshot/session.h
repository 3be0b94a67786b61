/* One connection's commands for a snapshot: polled, so that they can be given up, with
 * errors worded as shape-protocol.md 5.3. Private to the module. */
#ifndef COULOMB_SERVER_SNAPSHOT_SESSION_H
#define COULOMB_SERVER_SNAPSHOT_SESSION_H

#include <stdint.h>

#include "server/pg/pg.h"

#define SESSION_NO_DEADLINE INT64_MAX

struct session {
    PGconn *conn;
    struct err *err; /* never NULL */
    bool (*cancelled)(void *ctx);
    void *ctx;
    bool subset;         /* errors are worded as section 1.7 has them */
    int64_t deadline_ms; /* clock_mono_ms; waiting past it fails with the words below */
    int timeout_ms;      /* named in those words */
};

/* ERR_CANCELLED when the owner says so, else 0. */
int session_check(struct session *s);
/* Waits for input a short while and takes what came; 0 also when nothing did: call again.
 * ERR_CANCELLED, ERR_RETRY (deadline, connection lost), ERR_IO. */
int session_wait(struct session *s);
/* The next result of what was sent, or NULL after the last. The caller clears it. */
int session_result(struct session *s, PGresult **out);
/* Sends a command or several. */
int session_send(struct session *s, const char *sql);
/* Reads all results; *out (may be NULL) gets the last, the first failure counts. */
int session_finish(struct session *s, PGresult **out);
/* Both. */
int session_query(struct session *s, const char *sql, PGresult **out);
/* Fills the error from a failed result. */
int session_fail(struct session *s, const PGresult *result);
/* After a failure: cancels what runs and rolls back, within a few seconds. A connection
 * that can't be brought to rest is left as it is: its pool closes it. */
void session_abandon(struct session *s);

#endif
