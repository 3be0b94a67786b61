/* Keeping the publication: members, replica identities, and the moment from which on
 * every change of a table is streamed.
 *
 * One transaction per table: first the tables' locks in OID order, then the publication, so
 * that two of these can't deadlock; each lock is waited for until one common deadline.
 * Postgres locks the whole publication while it is altered: an ADD TABLE that waited for a
 * table's lock would keep all other tables out. ADD TABLE lets writers go on; SET REPLICA
 * IDENTITY excludes them for a moment and therefore runs only where the identity isn't FULL
 * yet. After the commit writers_wait sees to the
 * transactions that had written before.
 *
 * Tables are named with ONLY, one by one: an INHERITS parent added later than its
 * children, or before them, must not fail because some are members already, and dropping
 * a parent must not take along a child that has shapes of its own. */
#include "server/catalog/publication.h"

#include <stdlib.h>

#include "base/clock.h"
#include "server/catalog/coverage.h"
#include "server/catalog/lineage.h"
#include "server/catalog/read.h"

#define FOLLOWS         150000 /* Postgres that publication_follows */
#define SQL_MAX_BYTES   (16u << 20)
#define RACES_MAX       5
#define VERIFY_AT_ONCE  500
#define DUPLICATE       "42710"
#define UNDEFINED       "42704"
#define UNDEFINED_TABLE "42P01"
#define NO_PRIVILEGE    "42501"
#define LOCK_TIMEOUT    "55P03"
#define QUERY_CANCELLED "57014"

struct ensure {
    PGconn *conn;
    const struct publication_config *config;
    const struct table *table;
    int64_t until_ms;
    struct coverage coverage;
    struct buf sql;
};

/* --- Texts --- */

static int unavailable(struct err *err, int rc)
{
    if (err)
        err->http_status = 503;
    return rc;
}

static void put_table(struct buf *out, struct slice schema, struct slice name)
{
    table_put_name(out, &(const struct table){.schema = schema, .name = name});
}

static int fail_schema(struct ensure *e, const struct coverage_table *t, struct err *err)
{
    const char *user = PQuser(e->conn);
    buf_reset(&e->sql, 0);
    buf_puts(&e->sql, "GRANT USAGE ON SCHEMA ");
    pg_put_ident(&e->sql, t->schema.ptr);
    buf_puts(&e->sql, " TO ");
    pg_put_ident(&e->sql, user ? user : "");
    buf_putc(&e->sql, '\0');
    return unavailable(err, err_set(err, ERR_DB, "%s. An administrator can allow it: %s;",
                                    err->message, e->sql.failed ? "" : e->sql.ptr));
}

static int fail_missing(struct ensure *e, const struct coverage_table *t, struct err *err)
{
    const char *why = e->config->manual ? "the ELECTRIC_MANUAL_TABLE_PUBLISHING setting "
                                          "prevents Electric from adding it"
                                        : "Electric lacks privileges to add it";
    buf_reset(&e->sql, 0);
    buf_puts(&e->sql, "ALTER PUBLICATION ");
    pg_put_ident(&e->sql, e->config->name);
    buf_puts(&e->sql, " ADD TABLE ");
    put_table(&e->sql, t->schema, t->name);
    if (!t->full) {
        buf_puts(&e->sql, "; ALTER TABLE ");
        put_table(&e->sql, t->schema, t->name);
        buf_puts(&e->sql, " REPLICA IDENTITY FULL");
    }
    buf_putc(&e->sql, '\0');
    return unavailable(
        err,
        err_set(err, ERR_DB,
                "Database table \"%s.%s\" is missing from the publication \"%s\" and "
                "%s. To add it, run: %s;",
                t->schema.ptr, t->name.ptr, e->config->name, why,
                e->sql.failed ? "" : e->sql.ptr));
}

static int fail_identity(struct ensure *e, const struct coverage_table *t,
                         struct err *err)
{
    buf_reset(&e->sql, 0);
    buf_puts(&e->sql, "ALTER TABLE ");
    put_table(&e->sql, t->schema, t->name);
    buf_puts(&e->sql, " REPLICA IDENTITY FULL");
    buf_putc(&e->sql, '\0');
    return unavailable(
        err, err_set(err, ERR_DB,
                     "Database table \"%s.%s\" does not have its replica identity "
                     "set to FULL. To set it, run: %s;",
                     t->schema.ptr, t->name.ptr, e->sql.failed ? "" : e->sql.ptr));
}

static int fail_gone(const struct table *t, struct err *err)
{
    return unavailable(
        err,
        err_set(err, ERR_DB, "Database table \"%.*s.%.*s\" has been dropped or renamed",
                (int)t->schema.len, t->schema.ptr, (int)t->name.len, t->name.ptr));
}

/* --- Altering --- */

static bool is_asked(const struct coverage_table *t)
{
    return t->oid == t->root;
}

/* The table itself must be a member even when an ancestor is: that one may leave again.
 */
static bool must_add(const struct coverage_table *t)
{
    return coverage_missing(t) || (is_asked(t) && !t->member);
}

/* Runs e->sql under what is left of the time limit. */
static int run(struct ensure *e, struct err *err)
{
    char limit[64];
    int64_t left = e->until_ms - clock_mono_ms();
    buf_putc(&e->sql, '\0');
    if (e->sql.failed)
        return err_set(err, ERR_MEMORY, "No memory for a statement");
    /* Zero would mean no limit. */
    snprintf(limit, sizeof(limit), "SET LOCAL lock_timeout = %lld",
             (long long)(left > 1 ? left : 1));
    int rc = pg_exec(e->conn, limit, NULL, err);
    if (rc)
        return rc;
    PGresult *result = PQexec(e->conn, e->sql.ptr);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        rc = pg_fail(err, e->conn, result, "Unable to create initial snapshot");
    PQclear(result);
    return rc;
}

static bool is_state(const struct err *err, const char *sqlstate)
{
    return strcmp(err->sqlstate, sqlstate) == 0;
}

/* Puts what Postgres said of a statement about t into the words of 5.5. */
static int explain(struct ensure *e, const struct coverage_table *t, bool adding,
                   struct err *err)
{
    if (is_state(err, LOCK_TIMEOUT))
        return unavailable(err, err_set(err, ERR_RETRY, LOCK_TIMEOUT_TEXT));
    if (is_state(err, NO_PRIVILEGE) && strstr(err->message, "for schema"))
        return fail_schema(e, t, err);
    if (is_state(err, NO_PRIVILEGE))
        return adding || must_add(t) ? fail_missing(e, t, err) : fail_identity(e, t, err);
    if (is_state(err, UNDEFINED_TABLE))
        return fail_gone(e->table, err);
    if (adding && is_state(err, UNDEFINED))
        return unavailable(err, err_set(err, ERR_DB,
                                        "Publication \"%s\" not found in the database",
                                        e->config->name));
    if (is_state(err, QUERY_CANCELLED))
        err->code = ERR_RETRY;
    return unavailable(err, err->code);
}

static int add_table(struct ensure *e, const struct coverage_table *t, struct err *err)
{
    buf_reset(&e->sql, SQL_MAX_BYTES);
    buf_puts(&e->sql, "ALTER PUBLICATION ");
    pg_put_ident(&e->sql, e->config->name);
    buf_puts(&e->sql, " ADD TABLE ONLY ");
    put_table(&e->sql, t->schema, t->name);
    int rc = run(e, err);
    return rc && !is_state(err, DUPLICATE) ? explain(e, t, true, err) : rc;
}

static int set_identity(struct ensure *e, const struct coverage_table *t, struct err *err)
{
    buf_reset(&e->sql, SQL_MAX_BYTES);
    buf_puts(&e->sql, "ALTER TABLE ONLY ");
    put_table(&e->sql, t->schema, t->name);
    buf_puts(&e->sql, " REPLICA IDENTITY FULL");
    int rc = run(e, err);
    return rc ? explain(e, t, false, err) : 0;
}

static void put_lock(struct buf *out, struct slice schema, struct slice name)
{
    buf_puts(out, "LOCK TABLE ONLY ");
    put_table(out, schema, name);
    buf_puts(out, " IN SHARE UPDATE EXCLUSIVE MODE");
}

/* The lock that altering the publication takes. */
static int lock_table(struct ensure *e, const struct coverage_table *t, struct err *err)
{
    buf_reset(&e->sql, SQL_MAX_BYTES);
    put_lock(&e->sql, t->schema, t->name);
    int rc = run(e, err);
    return rc ? explain(e, t, true, err) : 0;
}

/* Partitions of a table that is about to be added are covered by it. */
static bool added_with_root(const struct ensure *e, const struct coverage_table *t)
{
    return !is_asked(t) && e->table->kind == 'p';
}

static int alter(struct ensure *e, struct err *err)
{
    int rc = pg_exec(e->conn, "BEGIN", NULL, err);
    for (size_t i = 0; i < e->coverage.count && !rc; i++) {
        const struct coverage_table *t = &e->coverage.tables[i];
        if (!t->full)
            rc = set_identity(e, t, err);
        else if (must_add(t) && !added_with_root(e, t))
            rc = lock_table(e, t, err);
    }
    for (size_t i = 0; i < e->coverage.count && !rc; i++) {
        const struct coverage_table *t = &e->coverage.tables[i];
        if (must_add(t) && !added_with_root(e, t))
            rc = add_table(e, t, err);
    }
    if (!rc)
        return pg_exec(e->conn, "COMMIT", NULL, err);
    /* When this fails too, the pool closes the connection. */
    pg_exec(e->conn, "ROLLBACK", NULL, NULL);
    return rc;
}

/* Postgres before the minor releases of 2025 decodes an old writer's commit with the old
 * list of members, and then keeps that for later transactions as well. Any change of the
 * publication makes it look again; this one changes nothing and locks no table. */
static void put_refresh(struct ensure *e)
{
    buf_reset(&e->sql, SQL_MAX_BYTES);
    buf_puts(&e->sql, "ALTER PUBLICATION ");
    pg_put_ident(&e->sql, e->config->name);
    buf_puts(&e->sql, " SET (publish = 'insert, update, delete, truncate')");
    buf_putc(&e->sql, '\0');
}

static int refresh(struct ensure *e, struct err *err)
{
    put_refresh(e);
    if (e->sql.failed)
        return err_set(err, ERR_MEMORY, "No memory for a statement");
    /* Two at once collide ("tuple concurrently updated"). */
    int rc = pg_exec(e->conn, e->sql.ptr, NULL, err);
    for (int attempt = 0; rc == ERR_DB && attempt < RACES_MAX; attempt++)
        rc = pg_exec(e->conn, e->sql.ptr, NULL, err);
    return rc == ERR_DB ? err->code = ERR_RETRY : rc;
}

/* --- Partitions of Postgres 14 ---
 *
 * Its pgoutput decides once for each table, at the first change that it meets, whether the
 * table is published. Only a change of a publication makes it decide anew, while attaching a
 * partition does not: one that was written to before stays unpublished, on each connection
 * that begins with the older changes. A change of the publication is in the WAL, so that
 * everything that commits after it is streamed, however often the stream begins anew.
 * Rejected: a new connection, which would have to begin after the attachment, and so would
 * every later one. */

bool publication_follows(const PGconn *conn)
{
    return PQserverVersion(conn) >= FOLLOWS;
}

static int fail_unfollowed(struct ensure *e, const char *partition, struct err *err)
{
    put_refresh(e);
    return unavailable(
        err,
        err_set(err, ERR_DB,
                "Partition \"%s\" was attached after the publication \"%s\" was last "
                "altered, and Postgres before 15 may withhold its changes. To see to it "
                "that they are replicated, run: %s;",
                partition, e->config->name, e->sql.failed ? "" : e->sql.ptr));
}

static int follow(struct ensure *e, bool owned, const uint32_t *oids, size_t count,
                  struct err *err)
{
    char *partition = NULL;
    if (owned)
        return refresh(e, err);
    int rc =
        lineage_attached_since(e->conn, e->config->name, oids, count, &partition, err);
    if (rc == 0 && partition != NULL)
        rc = fail_unfollowed(e, partition, err);
    free(partition);
    return rc;
}

int publication_follow(PGconn *conn, const struct publication_config *config,
                       const uint32_t *oids, size_t count, struct err *err)
{
    bool owned = false;
    struct ensure e = {.conn = conn, .config = config};
    if (publication_follows(conn))
        return 0;
    int rc = coverage_check_publication(conn, config->name, &owned, err);
    buf_init(&e.sql, SQL_MAX_BYTES);
    rc = rc ? rc : follow(&e, owned && !config->manual, oids, count, err);
    buf_fini(&e.sql);
    return rc;
}

/* --- Ensuring --- */

static const struct coverage_table *find_asked(const struct ensure *e)
{
    for (size_t i = 0; i < e->coverage.count; i++)
        if (is_asked(&e->coverage.tables[i]))
            return &e->coverage.tables[i];
    return NULL;
}

static int load(struct ensure *e, struct err *err)
{
    coverage_fini(&e->coverage);
    int rc =
        coverage_read(e->conn, e->config->name, &e->table->oid, 1, &e->coverage, err);
    if (rc)
        return unavailable(err, rc);
    const struct coverage_table *asked = find_asked(e);
    if (!asked || !slice_eq(asked->schema, e->table->schema) ||
        !slice_eq(asked->name, e->table->name))
        return fail_gone(e->table, err);
    return 0;
}

static int only_verify(struct ensure *e, struct err *err)
{
    for (size_t i = 0; i < e->coverage.count; i++)
        if (coverage_missing(&e->coverage.tables[i]))
            return fail_missing(e, &e->coverage.tables[i], err);
    for (size_t i = 0; i < e->coverage.count; i++)
        if (coverage_unidentified(&e->coverage.tables[i]))
            return fail_identity(e, &e->coverage.tables[i], err);
    return 0;
}

/* Until the table is as it must be. Another server's or person's ADD in between is a race
 * that a fresh look settles. */
static int repair(struct ensure *e, bool *added, bool *altered, struct err *err)
{
    for (int attempt = 0;; attempt++) {
        bool add = false;
        bool identify = false;
        int rc = load(e, err);
        for (size_t i = 0; i < e->coverage.count && !rc; i++) {
            add = add || must_add(&e->coverage.tables[i]);
            identify = identify || !e->coverage.tables[i].full;
        }
        if (rc)
            return rc;
        *added = false;
        if (!add && !identify)
            return 0;
        *altered = true;
        rc = alter(e, err);
        /* A lost connection may hide that the COMMIT was done. */
        *added = add && (!rc || PQstatus(e->conn) != CONNECTION_OK);
        if (!rc || !is_state(err, DUPLICATE) || attempt == RACES_MAX)
            return rc;
    }
}

/* Some are published only for what is above them. */
static bool has_followers(const struct coverage *c)
{
    for (size_t i = 0; i < c->count; i++) {
        if (c->tables[i].kind == 'r' && c->tables[i].covered && !c->tables[i].member)
            return true;
    }
    return false;
}

static int ensure(struct ensure *e, bool *added, struct err *err)
{
    bool owned = false;
    bool altered = *added;
    bool waited = false;
    bool newly = false;
    int rc = coverage_check_publication(e->conn, e->config->name, &owned, err);
    if (rc)
        return rc;
    owned = owned && !e->config->manual;
    if (owned) {
        rc = repair(e, &newly, &altered, err);
    } else {
        rc = load(e, err);
        rc = rc ? rc : only_verify(e, err);
    }
    *added = *added || newly;
    if (!rc && altered && has_followers(&e->coverage) && !publication_follows(e->conn))
        rc = follow(e, owned, &e->table->oid, 1, err);
    if (!rc && altered)
        rc = writers_wait(e->conn, e->table->oid, e->until_ms, &waited, err);
    if (!rc && waited && owned)
        rc = refresh(e, err);
    if (rc)
        return unavailable(err, rc);
    *added = newly;
    return 0;
}

int publication_ensure(PGconn *conn, const struct publication_config *config,
                       const struct table *table, bool *added, struct err *err)
{
    struct err local;
    struct ensure e = {.conn = conn, .config = config, .table = table};
    err_clear(&local);
    e.until_ms = clock_mono_ms() + config->lock_timeout_ms;
    buf_init(&e.sql, SQL_MAX_BYTES);
    int rc = ensure(&e, added, &local);
    coverage_fini(&e.coverage);
    buf_fini(&e.sql);
    if (err)
        *err = local;
    return rc;
}

/* --- Dropping and listing --- */

static int find_member(PGconn *conn, const char *publication, uint32_t oid,
                       PGresult **rows, struct err *err)
{
    char text[16];
    snprintf(text, sizeof(text), "%u", (unsigned)oid);
    *rows =
        PQexecParams(conn,
                     "SELECT n.nspname, c.relname FROM pg_catalog.pg_publication p "
                     "JOIN pg_catalog.pg_publication_rel m ON m.prpubid = p.oid "
                     "JOIN pg_catalog.pg_class c ON c.oid = m.prrelid "
                     "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
                     "WHERE p.pubname = $1::text AND c.oid = $2::pg_catalog.oid",
                     2, NULL, (const char *const[]){publication, text}, NULL, NULL, 0);
    if (PQresultStatus(*rows) == PGRES_TUPLES_OK)
        return 0;
    return pg_fail(err, conn, *rows, "Reading the publication failed");
}

static int drop_member(struct ensure *e, const PGresult *rows, struct err *err)
{
    int rc = pg_exec(e->conn, "BEGIN", NULL, err);
    if (rc)
        return rc;
    struct slice schema = slice_of(PQgetvalue(rows, 0, 0));
    struct slice name = slice_of(PQgetvalue(rows, 0, 1));
    put_lock(&e->sql, schema, name);
    rc = run(e, err);
    buf_reset(&e->sql, SQL_MAX_BYTES);
    buf_puts(&e->sql, "ALTER PUBLICATION ");
    pg_put_ident(&e->sql, e->config->name);
    buf_puts(&e->sql, " DROP TABLE ONLY ");
    put_table(&e->sql, schema, name);
    rc = rc ? rc : run(e, err);
    if (!rc)
        return pg_exec(e->conn, "COMMIT", NULL, err);
    pg_exec(e->conn, "ROLLBACK", NULL, NULL);
    bool gone = is_state(err, UNDEFINED) || is_state(err, UNDEFINED_TABLE);
    return gone ? 0 : rc;
}

int publication_drop(PGconn *conn, const struct publication_config *config, uint32_t oid,
                     struct err *err)
{
    struct err local;
    PGresult *rows = NULL;
    struct ensure e = {.conn = conn, .config = config};
    err_clear(&local);
    if (config->manual)
        return 0;
    e.until_ms = clock_mono_ms() + config->lock_timeout_ms;
    buf_init(&e.sql, SQL_MAX_BYTES);
    int rc = find_member(conn, config->name, oid, &rows, &local);
    if (!rc && PQntuples(rows) > 0)
        rc = drop_member(&e, rows, &local);
    PQclear(rows);
    buf_fini(&e.sql);
    if (rc && err)
        *err = local;
    return rc;
}

int publication_members(PGconn *conn, const struct publication_config *config,
                        uint32_t **oids, size_t *count, struct err *err)
{
    *oids = NULL;
    *count = 0;
    PGresult *rows =
        PQexecParams(conn,
                     "SELECT coalesce(pg_catalog.string_agg(m.prrelid::text, ' ' ORDER "
                     "BY m.prrelid), '') "
                     "FROM pg_catalog.pg_publication p "
                     "JOIN pg_catalog.pg_publication_rel m ON m.prpubid = p.oid "
                     "WHERE p.pubname = $1::text"
                     " AND pg_catalog.pg_has_role(p.pubowner, 'USAGE')",
                     1, NULL, (const char *const[]){config->name}, NULL, NULL, 0);
    uint32_t found = 0;
    int rc = 0;
    if (PQresultStatus(rows) != PGRES_TUPLES_OK)
        rc = pg_fail(err, conn, rows, "Reading the publication failed");
    else if (!read_oids(PQgetvalue(rows, 0, 0), oids, &found))
        rc = err_set(err, ERR_MEMORY, "No memory for the publication's tables");
    *count = found;
    PQclear(rows);
    return rc;
}

/* --- Verifying --- */

static enum publication_fault judge(const struct publication_check *check,
                                    const struct coverage *c)
{
    enum publication_fault fault = PUBLICATION_FINE;
    if (!check->now || !slice_eq(check->now->schema, check->schema) ||
        !slice_eq(check->now->name, check->name))
        return PUBLICATION_TABLE_GONE;
    for (size_t i = 0; i < c->count; i++) {
        if (c->tables[i].root != check->oid)
            continue;
        if (coverage_missing(&c->tables[i]))
            return PUBLICATION_TABLE_MISSING;
        if (coverage_unidentified(&c->tables[i]))
            fault = PUBLICATION_IDENTITY_LOST;
    }
    return fault;
}

static int verify_some(PGconn *conn, const char *publication,
                       struct publication_check *checks, size_t count, struct err *err)
{
    uint32_t oids[VERIFY_AT_ONCE];
    struct table **tables = NULL;
    struct coverage coverage;
    for (size_t i = 0; i < count; i++)
        oids[i] = checks[i].oid;
    int rc = coverage_read(conn, publication, oids, count, &coverage, err);
    rc = rc ? rc : read_tables(conn, oids, count, &tables, err);
    for (size_t i = 0; i < count && !rc; i++) {
        checks[i].now = tables[i];
        checks[i].fault = judge(&checks[i], &coverage);
    }
    free(tables);
    coverage_fini(&coverage);
    return rc;
}

int publication_verify(PGconn *conn, const struct publication_config *config,
                       struct publication_check *checks, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++)
        checks[i].now = NULL;
    int rc = coverage_check_publication(conn, config->name, NULL, err);
    for (size_t i = 0; i < count && !rc; i += VERIFY_AT_ONCE) {
        size_t n = count - i < VERIFY_AT_ONCE ? count - i : VERIFY_AT_ONCE;
        rc = verify_some(conn, config->name, &checks[i], n, err);
    }
    for (size_t i = 0; i < count && rc; i++) {
        table_release(checks[i].now);
        checks[i].now = NULL;
    }
    return rc;
}
