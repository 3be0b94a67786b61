/* See session.h. */
#include "server/write/session.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "server/catalog/catalog.h"

/* applied: which ids were applied, by whom, with which request. Written in the transaction that it
 * tells of, so it is there exactly when that was committed. Nobody but the server's own user
 * sees it. written(): makes a statement that should have changed a row fail if it changed none.
 * answer(): makes a call fail, and write nothing, whose answer is longer than may be sent. */
const char *const session_schema_sql =
    "CREATE SCHEMA IF NOT EXISTS coulomb;"
    "CREATE TABLE IF NOT EXISTS coulomb.applied ("
    " subject text NOT NULL, id text NOT NULL, request bytea NOT NULL,"
    " txid xid8 NOT NULL DEFAULT pg_current_xact_id(), answer text,"
    " at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (subject, id));"
    "CREATE INDEX IF NOT EXISTS applied_at ON coulomb.applied USING brin (at);"
    "REVOKE ALL ON coulomb.applied FROM PUBLIC;"
    "CREATE OR REPLACE FUNCTION coulomb.written(rows bigint) RETURNS bigint"
    " LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN"
    " IF rows = 0 THEN RAISE EXCEPTION 'no row' USING ERRCODE = 'CB404'; END IF;"
    " RETURN rows; END $$;"
    "CREATE OR REPLACE FUNCTION coulomb.answer(value text, most bigint) RETURNS text"
    " LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN"
    " IF octet_length(value) > most THEN RAISE EXCEPTION 'too long'"
    " USING ERRCODE = 'CB413'; END IF;"
    " RETURN value; END $$;"
    "GRANT USAGE ON SCHEMA coulomb TO PUBLIC;"
    "GRANT EXECUTE ON FUNCTION coulomb.written(bigint), coulomb.answer(text, bigint)"
    " TO PUBLIC;";

struct known_table {
    struct table *table;
};

struct known_function {
    struct arena arena;
    struct write_function function;
};

void session_init(struct session *s, const struct writer_config *config)
{
    *s = (struct session){.config = config};
    map_init(&s->tables);
    map_init(&s->functions);
}

void session_forget(struct session *s)
{
    void *value;
    size_t it = 0;

    while (map_next(&s->tables, &it, &(struct slice){NULL, 0}, &value)) {
        table_release(((struct known_table *)value)->table);
        free(value);
    }
    it = 0;
    while (map_next(&s->functions, &it, &(struct slice){NULL, 0}, &value)) {
        arena_fini(&((struct known_function *)value)->arena);
        free(value);
    }
    map_fini(&s->tables);
    map_fini(&s->functions);
    map_init(&s->tables);
    map_init(&s->functions);
    s->read_ms = clock_mono_ms();
}

void session_close(struct session *s)
{
    PQfinish(s->conn);
    s->conn = NULL;
}

void session_fini(struct session *s)
{
    session_close(s);
    session_forget(s);
    map_fini(&s->tables);
    map_fini(&s->functions);
}

/* --- Connecting --- */

static bool is_usable(PGconn *conn)
{
    struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};

    return PQstatus(conn) == CONNECTION_OK && PQtransactionStatus(conn) == PQTRANS_IDLE &&
           fd.fd >= 0 && poll(&fd, 1, 0) == 0;
}

static int has_schema(PGconn *conn, bool *out, struct err *err)
{
    PGresult *result;
    int rc = pg_exec(conn,
                     "SELECT to_regclass('coulomb.applied') IS NOT NULL AND "
                     "to_regprocedure('coulomb.written(bigint)') IS NOT NULL AND "
                     "to_regprocedure('coulomb.answer(text, bigint)') IS NOT NULL",
                     &result, err);

    if (rc == 0) {
        *out = PQgetvalue(result, 0, 0)[0] == 't';
        PQclear(result);
    }
    return rc;
}

/* IF NOT EXISTS does not help against another server that does the same now. */
static int make_schema(struct session *s, struct err *err)
{
    struct err why = {0};
    int rc = pg_exec(s->conn, "BEGIN", NULL, err);

    rc =
        rc ? rc
           : pg_exec(s->conn, "SELECT pg_advisory_xact_lock(hashtext('coulomb.applied'))",
                     NULL, err);
    if (rc == 0 && pg_exec(s->conn, session_schema_sql, NULL, &why) != 0) {
        rc = err_set(err, ERR_FATAL,
                     "the schema \"coulomb\" can't be made (%s). Run the SQL of "
                     "docs/writing.md as a user who may",
                     why.message);
        (void)pg_exec(s->conn, "ROLLBACK", NULL, NULL);
        return rc;
    }
    return rc ? rc : pg_exec(s->conn, "COMMIT", NULL, err);
}

static int prepare(struct session *s, struct err *err)
{
    bool there = false;
    char sql[96];
    snprintf(sql, sizeof sql, "SET synchronous_commit = on; SET statement_timeout = %lld",
             (long long)s->config->timeout_ms);
    int rc = pg_exec(s->conn, sql, NULL, err);

    if (rc == 0)
        rc = has_schema(s->conn, &there, err);
    if (rc == 0 && !there)
        rc = make_schema(s, err);
    return rc;
}

int session_ensure(struct session *s, int cancel_fd, struct err *err)
{
    if (s->conn && is_usable(s->conn))
        return 0;
    session_close(s);
    session_forget(s);
    int rc = pg_connect(s->config->pg, PG_QUERY, s->config->connect_timeout_ms, cancel_fd,
                        &s->conn, err);
    if (rc == 0)
        rc = prepare(s, err);
    if (rc != 0)
        session_close(s);
    return rc;
}

/* --- Tables and functions --- */

static struct slice key_of(struct slice schema, struct slice name, char out[160])
{
    int n = snprintf(out, 160, "%.*s.%.*s", (int)schema.len, schema.ptr, (int)name.len,
                     name.ptr);

    return slice_make(out, n > 0 && n < 160 ? (size_t)n : 0);
}

void session_age(struct session *s)
{
    if (clock_mono_ms() - s->read_ms > SESSION_KNOWN_AGE_MS ||
        s->tables.len + s->functions.len >= SESSION_KNOWN_MAX)
        session_forget(s);
}

int session_table(struct session *s, struct slice schema, struct slice name,
                  const struct table **out, struct err *err)
{
    char text[160];
    struct slice key = key_of(schema, name, text);
    struct known_table *known = map_get(&s->tables, key);

    if (known) {
        *out = known->table;
        return 0;
    }
    known = calloc(1, sizeof *known);
    if (!known)
        return err_set(err, ERR_MEMORY, "no memory for a table");
    int rc = catalog_read_table(s->conn, schema, name, &known->table, err);
    if (rc == 0 && map_put(&s->tables, key, known, NULL) != 0) {
        table_release(known->table);
        rc = err_set(err, ERR_MEMORY, "no memory for a table");
    }
    if (rc != 0)
        free(known);
    else
        *out = known->table;
    return rc;
}

/* One row for each argument that is given when calling; one at least. */
static const char function_query[] =
    "SELECT p.oid, p.proretset, p.prorettype = 'pg_catalog.void'::regtype,"
    " p.pronargs - p.pronargdefaults, coalesce(a.name, ''), a.type, a.type IS NULL"
    " FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
    " LEFT JOIN LATERAL (SELECT u.type, u.name, u.at FROM unnest("
    "  coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargmodes, p.proargnames)"
    "  WITH ORDINALITY u(type, mode, name, at) WHERE coalesce(u.mode, 'i') IN ('i', 'b')"
    "  AND u.type IS NOT NULL) a ON true"
    " WHERE n.nspname = $1 AND p.proname = $2 AND p.prokind = 'f' AND p.provariadic = 0"
    " ORDER BY p.oid, a.at";

static int read_function(struct known_function *known, const PGresult *result,
                         struct slice schema, struct slice name, struct err *err)
{
    struct write_function *f = &known->function;
    int rows = PQntuples(result);

    if (rows == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no such function");
    for (int i = 1; i < rows; i++)
        if (strcmp(PQgetvalue(result, i, 0), PQgetvalue(result, 0, 0)) != 0)
            return err_set(err, ERR_INVALID, "there are several functions of that name");
    *f = (struct write_function){
        .schema = slice_make(arena_dup(&known->arena, schema), schema.len),
        .name = slice_make(arena_dup(&known->arena, name), name.len),
        .returns_set = PQgetvalue(result, 0, 1)[0] == 't',
        .returns_void = PQgetvalue(result, 0, 2)[0] == 't',
        .arg_count = PQgetvalue(result, 0, 6)[0] == 't' ? 0 : (size_t)rows,
        .required = strtoul(PQgetvalue(result, 0, 3), NULL, 10),
        .args = arena_calloc(&known->arena, (size_t)rows, sizeof *f->args)};
    if (!f->schema.ptr || !f->name.ptr || !f->args)
        return err_set(err, ERR_MEMORY, "no memory for a function");
    for (size_t i = 0; i < f->arg_count; i++) {
        const char *arg = PQgetvalue(result, (int)i, 4);
        uint32_t oid = (uint32_t)strtoul(PQgetvalue(result, (int)i, 5), NULL, 10);

        f->args[i] = (struct write_function_arg){
            .name = slice_of(arena_dup(&known->arena, slice_of(arg))),
            .type_oid = oid,
            .is_json = oid == 114 || oid == 3802,
            .is_json_array = oid == 199 || oid == 3807};
    }
    return 0;
}

static int query_function(struct session *s, struct slice schema, struct slice name,
                          struct known_function *known, struct err *err)
{
    char *texts[] = {slice_dup(schema), slice_dup(name)};
    PGresult *result = NULL;
    int rc = 0;

    if (!texts[0] || !texts[1])
        rc = err_set(err, ERR_MEMORY, "no memory for a function");
    else
        result = PQexecParams(s->conn, function_query, 2, NULL,
                              (const char *const[]){texts[0], texts[1]}, NULL, NULL, 0);
    if (rc == 0 && PQresultStatus(result) != PGRES_TUPLES_OK)
        rc = pg_fail(err, s->conn, result, "reading a function's definition");
    if (rc == 0)
        rc = read_function(known, result, schema, name, err);
    PQclear(result);
    free(texts[0]);
    free(texts[1]);
    return rc;
}

int session_function(struct session *s, struct slice schema, struct slice name,
                     const struct write_function **out, struct err *err)
{
    char text[160];
    struct slice key = key_of(schema, name, text);
    struct known_function *known = map_get(&s->functions, key);

    if (known) {
        *out = &known->function;
        return 0;
    }
    known = calloc(1, sizeof *known);
    if (!known)
        return err_set(err, ERR_MEMORY, "no memory for a function");
    arena_init(&known->arena, 1024u * 1024);
    int rc = query_function(s, schema, name, known, err);
    if (rc == 0 && map_put(&s->functions, key, known, NULL) != 0)
        rc = err_set(err, ERR_MEMORY, "no memory for a function");
    if (rc != 0) {
        arena_fini(&known->arena);
        free(known);
    } else {
        *out = &known->function;
    }
    return rc;
}
