/* What a person can do about a refused connection.
 *
 * Problem: Postgres says what it refuses, seldom what would help, and whoever reads it in
 * a log or at `coulomb status` may not be the database's administrator. Approach: a table
 * from SQLSTATE, and a word of the message where one SQLSTATE has several causes, to the
 * SQL to run or the setting to change. The words are English and names that Postgres does
 * not translate; a server that speaks another language gets the SQLSTATE's last line,
 * which has no word. */
#include "base/buf.h"
#include "server/pg/internal.h"

#define CURE_MAX_BYTES 512

/* In texts, %u stands for the quoted role, %d for the quoted database. */
static const struct cure {
    const char *sqlstate;
    const char *word; /* NULL: whatever the message says */
    const char *text;
} cures[] = {
    {"28000", "pg_hba.conf",
     "An administrator can let it in: put a line like host %d %u ADDRESS/32 "
     "scram-sha-256 into pg_hba.conf, above any that rejects it, then SELECT "
     "pg_reload_conf();"},
    {"28000", "log in", "An administrator can allow it: ALTER ROLE %u WITH LOGIN;"},
    {"28000", "does not exist",
     "Check the name in DATABASE_URL, or create the role: CREATE ROLE %u WITH LOGIN "
     "REPLICATION PASSWORD '...';"},
    {"28P01", NULL,
     "Check user and password in DATABASE_URL, or set the password: ALTER ROLE %u "
     "PASSWORD '...';"},
    {"3D000", NULL, "Check the name in DATABASE_URL, or create it: CREATE DATABASE %d;"},
    {"42501", "for database",
     "An administrator can allow it: GRANT CONNECT ON DATABASE %d TO %u;"},
    {"42501", NULL,
     "Replication needs a privilege that an administrator can give: ALTER ROLE %u WITH "
     "REPLICATION;"},
    {"53300", "max_wal_senders",
     "End a replication that nobody needs (SELECT pid, application_name, state FROM "
     "pg_stat_replication;), or raise the limit: ALTER SYSTEM SET max_wal_senders = 20; "
     "and restart Postgres"},
    {"53300", "for role", "Raise the role's limit: ALTER ROLE %u CONNECTION LIMIT -1;"},
    {"53300", "for database",
     "Raise the database's limit: ALTER DATABASE %d CONNECTION LIMIT -1;"},
    {"53300", NULL,
     "Close connections that nobody needs (SELECT pid, usename, application_name, state "
     "FROM pg_stat_activity;), lower ELECTRIC_DB_POOL_SIZE, or raise the limit: ALTER "
     "SYSTEM SET max_connections = 200; and restart Postgres"},
    {"55000", "accepting connections",
     "An administrator can allow them: ALTER DATABASE %d ALLOW_CONNECTIONS true;"},
    {"", "server does not support SSL",
     "Say sslmode=disable in DATABASE_URL, or switch encryption on in the server: ALTER "
     "SYSTEM SET ssl = on;"},
};

static const struct cure *find_cure(const char *sqlstate, const char *message)
{
    for (size_t i = 0; i < sizeof(cures) / sizeof(cures[0]); i++)
        if (strcmp(cures[i].sqlstate, sqlstate) == 0 &&
            (!cures[i].word || strstr(message, cures[i].word)))
            return &cures[i];
    return NULL;
}

static void put_text(struct buf *out, const char *text, const PGconn *conn)
{
    for (const char *p; (p = strchr(text, '%')); text = p + 2) {
        const char *name = p[1] == 'u' ? PQuser(conn) : PQdb(conn);

        buf_put(out, text, (size_t)(p - text));
        pg_put_ident(out, name ? name : "");
    }
    buf_puts(out, text);
    buf_putc(out, '\0');
}

void pg_add_cure(struct err *err, const PGconn *conn)
{
    const struct cure *cure = err ? find_cure(err->sqlstate, err->message) : NULL;
    struct err was;
    struct buf text;

    if (!cure)
        return;
    was = *err;
    buf_init(&text, CURE_MAX_BYTES);
    put_text(&text, cure->text, conn);
    if (!text.failed) {
        /* A long complaint is cut, not its cure. */
        size_t room = sizeof(err->message) - text.len - 2;

        err_set(err, was.code, "%.*s. %s", (int)room, was.message, text.ptr);
        memcpy(err->sqlstate, was.sqlstate, sizeof(err->sqlstate));
        err->http_status = was.http_status;
    }
    buf_fini(&text);
}
