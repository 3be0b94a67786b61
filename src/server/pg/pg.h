/* Connections to Postgres: the connection string, the display settings, and what a failure
 * means. The only module (with replica and catalog above it) that knows libpq. */
#ifndef COULOMB_SERVER_PG_PG_H
#define COULOMB_SERVER_PG_PG_H

#include <libpq-fe.h>

#include "base/err.h"
#include "base/log.h"

/* Settings that fix the text form of values (shape-protocol.md 4.6), as "SET a = b; SET …".
 * pg_connect applies them to replication connections only: behind a transaction pooler a
 * session's settings reach other people's transactions and not always one's own. Whoever reads
 * rows on a PG_QUERY connection runs the second form first in its transaction. */
extern const char *const pg_display_settings;
extern const char *const pg_display_settings_local; /* the same as SET LOCAL */

struct pg_config; /* immutable after pg_config_new; any thread */

struct pg_options {
    const char *url; /* postgresql://… or postgres://… ; required */
    /* NULL, or a CA certificate, against which the server's certificate and name are
     * verified: forbids sslmode=disable */
    const char *ca_file;
    bool ipv6; /* try IPv6 addresses first */
};

/* Checks and completes a DATABASE_URL (shape-protocol.md 8.1): scheme, percent-decoding,
 * database defaulting to the user, sslmode one of disable, allow, prefer, require (verify-* and
 * `replication` are refused), all with a sentence that never holds the password. */
int pg_config_new(const struct pg_options *options, struct pg_config **out,
                  struct err *err);
void pg_config_free(struct pg_config *config);
/* Host, port, user and database, for logs: "user@host:5432/db", never the password. */
const char *pg_config_describe(const struct pg_config *config);
const char *pg_config_database(const struct pg_config *config);

enum pg_kind { PG_QUERY, PG_REPLICATION };

/* Begins to connect without waiting: the caller polls with PQconnectPoll, hands a failure to
 * pg_fail_connect, calls pg_connected after success, and ends it with PQfinish. ERR_MEMORY, or
 * as pg_connect when it failed at once. Resolving the host's name may block. */
int pg_connect_start(const struct pg_config *config, enum pg_kind kind, PGconn **out,
                     struct err *err);
/* Puts the terse error texts back that connecting needs to be verbose. */
void pg_connected(PGconn *conn);
/* Fills err from a failed connection attempt: ERR_RETRY or ERR_FATAL. */
int pg_fail_connect(struct err *err, const PGconn *conn);

/* Connects within timeout_ms; PG_REPLICATION also gets the display settings. `cancel_fd` (or
 * -1) becoming readable ends it with ERR_CANCELLED. On failure err->code is ERR_RETRY, or
 * ERR_FATAL when a retry can't cure it (credentials, unknown database or role, SSL
 * requirement, …). */
int pg_connect(const struct pg_config *config, enum pg_kind kind, int timeout_ms,
               int cancel_fd, PGconn **out, struct err *err);

/* The table behind both: how a SQLSTATE ("" for none) counts when a command fails, ERR_DB,
 * ERR_RETRY or ERR_FATAL. */
int pg_classify(const char *sqlstate);

/* Fills err from a failed result (or, result NULL, from the connection) and returns err->code:
 * ERR_DB with the SQLSTATE for an ordinary refusal, ERR_RETRY when the connection is lost or
 * the server is starting, stopping or full, ERR_FATAL for what only a person can cure. */
int pg_fail(struct err *err, PGconn *conn, const PGresult *result, const char *doing);

/* Runs one command without parameters; *out (may be NULL) gets the result when it succeeded. */
int pg_exec(PGconn *conn, const char *sql, PGresult **out, struct err *err);

/* Identifier quoted for SQL, appended to out. */
struct buf;
void pg_put_ident(struct buf *out, const char *name);

#endif
