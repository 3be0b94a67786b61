/* One connection of a writer, and what it knows of tables and functions. One thread. */
#ifndef COULOMB_SERVER_WRITE_SESSION_H
#define COULOMB_SERVER_WRITE_SESSION_H

#include "base/map.h"
#include "server/write/statement.h"

#define SESSION_KNOWN_MAX    1024 /* tables, and functions; all are forgotten at the limit */
#define SESSION_KNOWN_AGE_MS 15000 /* after that a definition is read again */

struct session {
    const struct writer_config *config;
    PGconn *conn;         /* NULL: not connected */
    struct map tables;    /* "schema.name" -> struct known_table */
    struct map functions; /* likewise -> struct known_function */
    int64_t read_ms;      /* when the oldest was read */
};

void session_init(struct session *s, const struct writer_config *config);
void session_fini(struct session *s);
/* Connects and sees to our tables, if that is not so already. */
int session_ensure(struct session *s, int cancel_fd, struct err *err);
void session_close(struct session *s);
/* Forgets what was read of the catalog. */
void session_forget(struct session *s);
/* The same when it is old or much; nothing that was borrowed may be in use. */
void session_age(struct session *s);

/* On a connection that is not in pipeline mode. Borrowed until session_forget. ERR_NOT_FOUND. */
int session_table(struct session *s, struct slice schema, struct slice name,
                  const struct table **out, struct err *err);
/* ERR_NOT_FOUND; ERR_INVALID: there are several of the name. */
int session_function(struct session *s, struct slice schema, struct slice name,
                     const struct write_function **out, struct err *err);

/* The SQL that makes our schema: what an administrator runs when the server may not. */
extern const char *const session_schema_sql;

#endif
