/* What somebody may see, by the app's SQL function or by the static policy.
 *
 * The function runs in a transaction that can only read, under the caller's role and claims, with
 * a time limit. What it answers is data to be checked, not trusted in its form. Where it fails,
 * nobody is let in, and the client learns no more than that. */
#include "server/gate/internal.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/pg/pg.h"

const char *const gate_identity_sql =
    "SELECT set_config('role', $1, true), set_config('request.jwt.claims', $2, true), "
    "set_config('statement_timeout', $3, true)";
const char *const gate_claims_sql = "SELECT set_config('request.jwt.claims', $1, true), "
                                    "set_config('statement_timeout', $2, true)";

/* --- The function --- */

int gate_check_function(struct gate *gate, struct err *err)
{
    const char *name = gate->config.function;
    const char *dot = strchr(name, '.');
    struct buf sql;
    char part[128];

    buf_init(&sql, GATE_FUNCTION_SQL_MAX);
    buf_puts(&sql, "SELECT ");
    if (dot && dot != name && (size_t)(dot - name) < 64) {
        snprintf(part, sizeof part, "%.*s", (int)(dot - name), name);
        pg_put_ident(&sql, part);
    } else if (!dot) {
        buf_puts(&sql, "\"public\"");
    }
    const char *last = dot ? dot + 1 : name;
    if (sql.len == 7 || *last == '\0' || strchr(last, '.') || strlen(last) > 63) {
        buf_fini(&sql);
        return err_set(err, ERR_INVALID,
                       "COULOMB_GATE_FUNCTION=%.80s: it must be the name of a function, "
                       "schema.name, as the catalog has it (no quotes)",
                       name);
    }
    buf_putc(&sql, '.');
    pg_put_ident(&sql, last);
    buf_puts(&sql, "($1::jsonb, $2::jsonb)");
    snprintf(gate->function_sql, sizeof gate->function_sql, "%.*s", (int)sql.len,
             sql.ptr);
    int rc = sql.failed ? err_set(err, ERR_INVALID,
                                  "COULOMB_GATE_FUNCTION: the name is too long")
                        : 0;
    buf_fini(&sql);
    return rc;
}

/* Role, claims and time limit for the transaction under way. */
static int set_identity(struct gate *gate, PGconn *conn, const struct token *token,
                        struct err *err)
{
    const char *role = NULL;
    char timeout[24];

    if (gate_role(gate, token, &role) != 0)
        return err_set(err, ERR_INVALID, "the token's role is not one that is allowed");
    snprintf(timeout, sizeof timeout, "%lld", (long long)gate->config.timeout_ms);
    const char *const all[] = {role, token->claims_text, timeout};
    PGresult *result =
        PQexecParams(conn, role ? gate_identity_sql : gate_claims_sql, role ? 3 : 2, NULL,
                     role ? all : all + 1, NULL, NULL, 0);
    int rc = 0;
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        rc = pg_fail(err, conn, result, "taking the caller's role");
    PQclear(result);
    return rc;
}

static enum gate_decision read_answer(const PGresult *result, json_t **grant,
                                      struct err *err)
{
    struct err why = {0};

    if (PQntuples(result) != 1 || PQnfields(result) != 1) {
        err_set(err, ERR_INVALID, "the function gave not one value");
        return GATE_FAILED;
    }
    if (PQgetisnull(result, 0, 0))
        return GATE_FORBIDDEN;
    json_t *json = json_loads(PQgetvalue(result, 0, 0), JSON_DECODE_ANY, NULL);
    if (json_is_null(json)) {
        json_decref(json);
        return GATE_FORBIDDEN;
    }
    int rc = grant_normalise(json, grant, &why);
    json_decref(json);
    if (rc == 0)
        return GATE_GRANTED;
    err_set(err, rc, "the function's answer can't be used: %s", why.message);
    return GATE_FAILED;
}

static enum gate_decision call_function(struct gate *gate, PGconn *conn,
                                        const struct token *token, const json_t *request,
                                        json_t **grant, struct err *err)
{
    char *text = json_dumps(request, JSON_COMPACT);
    const char *const values[] = {token->claims_text, text};
    enum gate_decision decision = GATE_FAILED;

    PGresult *result =
        text ? PQexecParams(conn, gate->function_sql, 2, NULL, values, NULL, NULL, 0)
             : NULL;
    if (!text) {
        err_set(err, ERR_MEMORY, "no memory for the request");
    } else if (PQresultStatus(result) == PGRES_TUPLES_OK) {
        decision = read_answer(result, grant, err);
    } else {
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

        (void)pg_fail(err, conn, result, "calling the authorising function");
        /* RAISE … USING ERRCODE = 'insufficient_privilege' refuses, too. */
        if (state && strcmp(state, "42501") == 0 &&
            PQresultErrorField(result, PG_DIAG_CONTEXT))
            decision = GATE_FORBIDDEN;
        else /* its text may quote what is in tables */
            err_set(err, err->code, "the authorising function failed with SQLSTATE %.5s",
                    state ? state : "(none)");
    }
    PQclear(result);
    free(text);
    return decision;
}

static enum gate_decision by_function(struct gate *gate, PGconn *conn,
                                      const struct token *token, const json_t *request,
                                      json_t **grant, struct err *err)
{
    enum gate_decision decision = GATE_FAILED;
    const char *role;

    if (gate_role(gate, token, &role) != 0)
        return GATE_FORBIDDEN;
    int rc = pg_exec(conn, "BEGIN READ ONLY", NULL, err);
    if (rc == 0)
        rc = set_identity(gate, conn, token, err);
    if (rc == 0)
        decision = call_function(gate, conn, token, request, grant, err);
    if (PQtransactionStatus(conn) != PQTRANS_IDLE)
        (void)pg_exec(conn, "ROLLBACK", NULL, NULL);
    return decision;
}

/* --- The policy --- */

static const char *table_of(const json_t *request)
{
    const char *table = json_string_value(json_object_get(request, "table"));

    return table ? table : "";
}

/* What the client proposes itself must be what the policy says, or less. */
static bool fits_wishes(const json_t *request, const json_t *grant)
{
    const json_t *where = json_object_get(request, "where");
    const json_t *granted = json_object_get(grant, "where");

    return !json_is_string(where) ||
           json_equal((json_t *)(uintptr_t)where, (json_t *)(uintptr_t)granted);
}

static enum gate_decision by_policy(struct gate *gate, const struct token *token,
                                    const json_t *request, json_t **grant,
                                    struct err *err)
{
    const char *table = table_of(request);
    const json_t *entry = policy_find(gate->policy, table);
    const struct source_values values = {.claims = token->claims,
                                         .params = json_object_get(request, "params")};
    int rc =
        entry ? policy_fill_template(entry, table, &values, grant, err) : ERR_NOT_FOUND;

    if (rc == 0 && fits_wishes(request, *grant))
        return GATE_GRANTED;
    json_decref(*grant);
    *grant = NULL;
    return rc == 0 || rc == ERR_NOT_FOUND ? GATE_FORBIDDEN : GATE_FAILED;
}

enum gate_decision gate_decide(struct gate *gate, const struct token *token,
                               const json_t *request, json_t **grant)
{
    struct err err = {0};

    *grant = NULL;
    if (gate->function_sql[0])
        return GATE_ASK;
    if (!gate->policy)
        return GATE_FORBIDDEN;
    const json_t *entry = policy_find(gate->policy, table_of(request));
    if (entry && !policy_ignores_row_security(entry))
        return GATE_ASK;
    return by_policy(gate, token, request, grant, &err);
}

/* Neither a policy nor a route's clause knows of row-level security: they would show what the
 * database hides. */
static enum gate_decision decision_of(enum row_security_state state)
{
    switch (state) {
    case ROW_SECURITY_OFF:
        return GATE_GRANTED;
    case ROW_SECURITY_ON:
        return GATE_FORBIDDEN;
    case ROW_SECURITY_UNKNOWN:
        break;
    }
    return GATE_ASK;
}

enum gate_decision gate_table_known(struct gate *gate, const char *table)
{
    return decision_of(row_security_known(gate->row_security, table, clock_mono_ms()));
}

enum gate_decision gate_table_ask(struct gate *gate, PGconn *conn, const char *table,
                                  struct err *err)
{
    enum gate_decision decision = decision_of(
        row_security_ask(gate->row_security, conn, table, clock_mono_ms(), err));

    if (decision == GATE_FORBIDDEN)
        log_event(gate->config.log, LOG_WARNING, "gate.table_refused",
                  LOG_TEXT("table", table),
                  LOG_TEXT("reason",
                           "the table has row-level security, which a policy file or a "
                           "route would pass by: decide by a function, or say "
                           "\"row_security\": \"ignore\""));
    return decision == GATE_ASK ? GATE_FAILED : decision;
}

enum gate_decision gate_authorise(struct gate *gate, PGconn *conn,
                                  const struct token *token, const json_t *request,
                                  json_t **grant, struct err *err)
{
    *grant = NULL;
    if (gate->function_sql[0])
        return by_function(gate, conn, token, request, grant, err);
    enum gate_decision open = gate_table_ask(gate, conn, table_of(request), err);
    return open == GATE_GRANTED ? by_policy(gate, token, request, grant, err) : open;
}
