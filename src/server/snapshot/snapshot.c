/*
 * Reading a table once, in step with the stream.
 *
 * The transaction's commands, in order, and why so:
 *
 *   BEGIN … REPEATABLE READ READ ONLY; SET LOCAL …; LOCK TABLE … ACCESS SHARE
 *       None of these takes a snapshot. The lock comes first, because TRUNCATE and ALTER
 *       TABLE that rewrite are not MVCC-safe: to a snapshot older than them the table is
 *       empty, and only the shape's next change would tell. With column privileges only
 *       LOCK is refused, and the snapshot does without.
 *   subscribe
 *   SELECT pg_current_snapshot(), …
 *       Takes the snapshot. The same query tells whether the name still means the table
 *       that the catalog described (dropped and made again: no), and whether row-level
 *       security would hide rows, which the stream would then show.
 *   verify
 *   joined
 *   COPY (SELECT …) TO STDOUT
 *       The server writes text by the types' output functions, as the stream does, while
 *       ::text casts differ (bool, char(n), inet).
 *   COMMIT, before the end is told: the locks go early.
 *
 * row_security = off is set as well, so that a policy made in between raises an error.
 * Every wait looks at the owner's wish to stop; COPY's rows look at it every few rows.
 */

#include "server/snapshot/snapshot.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "server/catalog/stamp.h"
#include "server/snapshot/copytext.h"
#include "server/snapshot/session.h"

#define JOIN_ATTEMPTS_MAX   100
#define JOIN_SLEEP_MAX_MS   20
#define FLUSH_BYTES         (256u * 1024)
#define CHECK_ROWS          64
#define ROW_JSON_MAX_BYTES  (1u << 30)
#define ROW_JSON_KEEP_BYTES (1u << 20)
#define SQL_MAX_BYTES       (4u * 1024 * 1024)

struct run {
    const struct snapshot_request *request;
    const struct snapshot_sink *sink;
    struct session session;
    struct snapshot_view view;
    struct value *row;
    struct buf json;
    struct buf sql;
    int64_t started_us;
    size_t unflushed_bytes;
    uint64_t rows;
    bool lock; /* LOCK TABLE was not refused */
};

/* SQL texts. */

static void put_ident(struct buf *out, struct slice name)
{
    buf_putc(out, '"');
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '"')
            buf_putc(out, '"');
        buf_putc(out, name.ptr[i]);
    }
    buf_putc(out, '"');
}

/* The relation's quoted name as a string constant. With E'' its meaning does not depend
 * on standard_conforming_strings. */
static void put_relation_literal(struct buf *out, const struct table *table)
{
    struct buf name;

    buf_init(&name, SQL_MAX_BYTES);
    table_put_name(&name, table);
    buf_puts(out, "E'");
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '\'' || name.ptr[i] == '\\')
            buf_putc(out, name.ptr[i]);
        buf_putc(out, name.ptr[i]);
    }
    buf_putc(out, '\'');
    if (name.failed)
        out->failed = name.failed;
    buf_fini(&name);
}

static void put_begin(struct buf *out, const struct run *r)
{
    buf_puts(out, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
                  " SET LOCAL row_security = off; ");
    buf_puts(out, pg_display_settings_local);
    if (r->lock) {
        buf_puts(out, "; LOCK TABLE ");
        table_put_name(out, r->request->table);
        buf_puts(out, " IN ACCESS SHARE MODE");
    }
}

static void put_view(struct buf *out, const struct run *r)
{
    buf_puts(out, "SELECT pg_catalog.pg_current_snapshot(),"
                  " pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_catalog.pg_lsn,"
                  " c.oid, pg_catalog.row_security_active(c.oid), ");
    buf_puts(out, r->sink->verify ? STAMP_SQL("c.oid") : "NULL");
    buf_puts(out, " FROM (SELECT pg_catalog.to_regclass(");
    put_relation_literal(out, r->request->table);
    buf_puts(out, ")::pg_catalog.oid AS oid) AS c");
}

static void put_window(struct buf *out, const struct snapshot_window *window)
{
    if (window->order_by.len > 0) {
        buf_puts(out, " ORDER BY ");
        buf_put_slice(out, window->order_by);
    }
    if (window->has_limit) {
        buf_puts(out, " LIMIT ");
        buf_put_i64(out, window->limit);
    }
    if (window->offset > 0) {
        buf_puts(out, " OFFSET ");
        buf_put_i64(out, window->offset);
    }
}

static void put_copy(struct buf *out, const struct run *r)
{
    const struct table *table = r->request->table;

    buf_puts(out, "COPY (SELECT ");
    for (size_t i = 0; i < r->request->selected_count; i++) {
        if (i > 0)
            buf_puts(out, ", ");
        put_ident(out, table->columns[r->request->selected[i]].name);
    }
    buf_puts(out, " FROM ");
    table_put_name(out, table);
    if (r->request->where.len > 0) {
        buf_puts(out, " WHERE ");
        buf_put_slice(out, r->request->where);
    }
    if (r->request->window)
        put_window(out, r->request->window);
    buf_puts(out, ") TO STDOUT");
}

/* Makes a text in the run's buffer; NULL (and the error set) without memory. */
static const char *sql_make(struct run *r, void (*put)(struct buf *, const struct run *))
{
    buf_reset(&r->sql, ROW_JSON_KEEP_BYTES);
    put(&r->sql, r);
    buf_putc(&r->sql, '\0');
    if (!r->sql.failed)
        return r->sql.ptr;
    err_set(r->session.err, r->sql.failed, "The snapshot's query could not be made");
    return NULL;
}

static void deadline_renew(struct run *r)
{
    r->session.deadline_ms = clock_mono_ms() + r->request->first_row_timeout_ms;
}

/* Joining the stream. */

static int begin_once(struct run *r)
{
    const char *sql = sql_make(r, put_begin);

    deadline_renew(r);
    return sql ? session_query(&r->session, sql, NULL) : r->session.err->code;
}

static int begin(struct run *r)
{
    struct err *err = r->session.err;
    int rc = begin_once(r);

    if (rc != 0 && r->lock && strcmp(err->sqlstate, "42501") == 0) {
        session_abandon(&r->session);
        err_clear(err);
        r->lock = false;
        rc = begin_once(r);
    }
    return rc;
}

static struct slice field(const PGresult *result, int column)
{
    if (PQgetisnull(result, 0, column))
        return (struct slice){NULL, 0};
    return slice_make(PQgetvalue(result, 0, column),
                      (size_t)PQgetlength(result, 0, column));
}

/* The relation's name for an error, in the buffer of the rows. */
static const char *relation_name(struct run *r)
{
    buf_reset(&r->json, ROW_JSON_KEEP_BYTES);
    table_put_name(&r->json, r->request->table);
    buf_putc(&r->json, '\0');
    return r->json.failed ? "the table" : r->json.ptr;
}

/* Behind a refusal for want of a privilege: the SQL that gives it. */
static void put_grants(struct buf *out, const struct run *r, const PGresult *lacks)
{
    const struct table *table = r->request->table;
    const char *user = PQuser(r->session.conn);

    buf_puts(out, r->session.err->message);
    if (slice_eq(field(lacks, 0), SLICE_LIT("f"))) {
        buf_puts(out, ". An administrator can allow it: GRANT USAGE ON SCHEMA ");
        put_ident(out, table->schema);
        buf_puts(out, " TO ");
        pg_put_ident(out, user ? user : "");
        buf_putc(out, ';');
    }
    if (slice_eq(field(lacks, 1), SLICE_LIT("f"))) {
        buf_puts(out, ". Its owner can allow it: GRANT SELECT ON TABLE ");
        table_put_name(out, table);
        buf_puts(out, " TO ");
        pg_put_ident(out, user ? user : "");
        buf_putc(out, ';');
    }
    buf_putc(out, '\0');
}

static void put_privileges(struct buf *out, const struct run *r)
{
    buf_printf(out,
               "SELECT pg_catalog.has_schema_privilege(relnamespace, 'USAGE'), "
               "pg_catalog.has_table_privilege(oid, 'SELECT') FROM pg_catalog.pg_class "
               "WHERE oid = %u",
               (unsigned)r->request->table->oid);
}

/* After the snapshot was abandoned. */
static void explain_privilege(struct run *r)
{
    struct err *err = r->session.err;
    struct err was = *err;
    PGresult *lacks = NULL;
    const char *sql = sql_make(r, put_privileges);

    deadline_renew(r);
    if (sql && session_query(&r->session, sql, &lacks) == 0 && PQntuples(lacks) == 1) {
        *err = was;
        buf_reset(&r->json, ROW_JSON_KEEP_BYTES);
        put_grants(&r->json, r, lacks);
        if (!r->json.failed)
            snprintf(was.message, sizeof(was.message), "%s", r->json.ptr);
    }
    *err = was;
    PQclear(lacks);
}

static int http_status_set(struct run *r, int http_status)
{
    r->session.err->http_status = http_status;
    return r->session.err->code;
}

static int check_view(struct run *r, const PGresult *result)
{
    struct err *err = r->session.err;
    uint64_t oid = 0;

    if (PQntuples(result) != 1 || PQnfields(result) != 5)
        return err_set(err, ERR_CORRUPT, "Postgres told no snapshot");
    if (!slice_to_u64(field(result, 2), &oid) || oid != r->request->table->oid) {
        err_set(err, ERR_DB, "The table %s is gone or was replaced by another one",
                relation_name(r));
        return http_status_set(r, 409);
    }
    if (slice_eq(field(result, 3), SLICE_LIT("t"))) {
        err_set(
            err, ERR_DB,
            "Unable to create initial snapshot: row-level security applies to %s; "
            "connect as a role with BYPASSRLS, or as the owner without FORCE ROW LEVEL "
            "SECURITY",
            relation_name(r));
        return http_status_set(r, 503);
    }
    if (!slice_to_u64(field(result, 1), &r->view.wal_lsn))
        return err_set(err, ERR_CORRUPT, "Postgres told no WAL position");
    return 0;
}

static int read_view(struct run *r)
{
    const char *sql = sql_make(r, put_view);
    PGresult *result = NULL;
    int rc = sql ? session_query(&r->session, sql, &result) : r->session.err->code;

    snapshot_view_fini(&r->view);
    if (rc == 0) {
        rc = snapshot_view_parse(field(result, 0), &r->view, r->session.err);
        if (rc == 0)
            rc = check_view(r, result);
    }
    if (rc == 0 && r->sink->verify)
        rc = r->sink->verify(r->sink->ctx, r->session.conn, field(result, 4),
                             r->session.err);
    PQclear(result);
    return rc;
}

/* One attempt; *again when the stream had passed a commit that the snapshot misses. */
static int join_once(struct run *r, bool *again)
{
    int rc = begin(r);

    *again = false;
    if (rc == 0)
        rc = r->sink->subscribe(r->sink->ctx, r->session.err);
    if (rc == 0)
        rc = read_view(r);
    if (rc != 0)
        return rc;
    rc = r->sink->joined(r->sink->ctx, &r->view, r->session.err);
    *again = rc == ERR_RETRY;
    return rc;
}

static int join(struct run *r)
{
    for (int attempt = 1; attempt <= JOIN_ATTEMPTS_MAX; attempt++) {
        bool again;
        int rc = join_once(r, &again);

        if (!again)
            return rc;
        session_abandon(&r->session);
        err_clear(r->session.err);
        clock_sleep_ms(attempt < JOIN_SLEEP_MAX_MS ? attempt : JOIN_SLEEP_MAX_MS);
        rc = session_check(&r->session);
        if (rc != 0)
            return rc;
    }
    err_set(r->session.err, ERR_RETRY,
            "Snapshot query took too long to start reading from the database");
    return http_status_set(r, 503);
}

/* Reading the rows. */

static int flush(struct run *r)
{
    if (r->unflushed_bytes == 0)
        return 0;
    r->unflushed_bytes = 0;
    return r->sink->flush(r->sink->ctx, r->session.err);
}

static void first_row(struct run *r)
{
    r->session.deadline_ms = SESSION_NO_DEADLINE;
    obs_time(r->request->obs, OBS_H_SNAPSHOT_FIRST_US, clock_mono_us() - r->started_us);
}

static int give_row(struct run *r, char *line, size_t len)
{
    const struct snapshot_request *q = r->request;
    int rc =
        copytext_parse(line, len, q->selected, q->selected_count, r->row, r->session.err);

    if (rc != 0)
        return rc;
    buf_reset(&r->json, ROW_JSON_KEEP_BYTES);
    encode_snapshot_row(&r->json, q->plan, r->row);
    if (r->json.failed) {
        int code = r->json.failed;

        err_set(r->session.err, code,
                "Unable to create initial snapshot: a row of %s is too large",
                relation_name(r));
        return http_status_set(r, 503);
    }
    if (r->rows++ == 0)
        first_row(r);
    rc = r->sink->row(r->sink->ctx, buf_slice(&r->json), r->session.err);
    r->unflushed_bytes += r->json.len;
    if (rc == 0 && r->unflushed_bytes >= FLUSH_BYTES)
        rc = flush(r);
    if (rc == 0 && r->rows % CHECK_ROWS == 0)
        rc = session_check(&r->session);
    return rc;
}

/* Waits for the next line of the COPY: its length, -1 at the end, or *rc set. When
 * nothing is at hand, what came before is given to the readers first. */
static int next_line(struct run *r, char **line, int *rc)
{
    PGconn *conn = r->session.conn;
    int n = PQgetCopyData(conn, line, 1);

    *rc = 0;
    if (n == 0) {
        if (!PQconsumeInput(conn))
            *rc = session_fail(&r->session, NULL);
        else
            n = PQgetCopyData(conn, line, 1);
    }
    while (*rc == 0 && n == 0) {
        *rc = flush(r);
        if (*rc == 0)
            *rc = session_wait(&r->session);
        if (*rc == 0)
            n = PQgetCopyData(conn, line, 1);
    }
    if (*rc == 0 && n < -1)
        *rc = session_fail(&r->session, NULL);
    return n;
}

static int read_lines(struct run *r)
{
    char *line;
    int rc;
    int n;

    while ((n = next_line(r, &line, &rc)) > 0 && rc == 0) {
        rc = give_row(r, line, (size_t)n);
        PQfreemem(line);
        if (rc != 0)
            return rc;
    }
    return rc;
}

/* With a condition: what Postgres calls an error of data is the condition's, on a row that there
 * is, and whoever asked must hear it; a retry would meet the row again. What it can't find is not
 * the table's, which was verified: asking anew would not help. */
static int blame_where(struct err *err)
{
    static const char said[] = "Unexpected error while creating snapshot: ";
    static const char changed[] = "The table changed while its snapshot was made: ";
    struct err was = *err;

    if (strncmp(err->sqlstate, "22", 2) == 0 || strncmp(err->sqlstate, "54", 2) == 0) {
        size_t skip = strncmp(was.message, said, sizeof said - 1) ? 0 : sizeof said - 1;

        err_set(err, ERR_INVALID, "Postgres can't evaluate the clause on a row: %s",
                was.message + skip);
        err->http_status = 400;
    } else if (strcmp(err->sqlstate, "42883") == 0) {
        size_t skip =
            strncmp(was.message, changed, sizeof changed - 1) ? 0 : sizeof changed - 1;

        err_set(err, ERR_DB, "%s%s", said, was.message + skip);
        err->http_status = 500;
    }
    return err->code;
}

static int read_rows(struct run *r)
{
    const char *sql = sql_make(r, put_copy);
    PGresult *result = NULL;
    int rc = sql ? session_send(&r->session, sql) : r->session.err->code;

    deadline_renew(r);
    if (rc == 0)
        rc = session_result(&r->session, &result);
    if (rc == 0 && PQresultStatus(result) != PGRES_COPY_OUT)
        rc = session_fail(&r->session, result);
    PQclear(result);
    if (rc == 0)
        rc = read_lines(r);
    if (rc == 0)
        rc = session_finish(&r->session, NULL);
    if (rc == 0 && r->rows == 0)
        first_row(r);
    if (rc == ERR_DB && r->request->where.len > 0 && !r->request->window)
        rc = blame_where(r->session.err);
    return rc;
}

/* The whole. */

static int end(struct run *r)
{
    const struct snapshot_view *view = &r->view;

    /* The rows are complete: what becomes of the transaction does not matter any more. */
    deadline_renew(r);
    if (session_query(&r->session, "COMMIT", NULL) != 0) {
        session_abandon(&r->session);
        err_clear(r->session.err);
    }
    buf_reset(&r->json, ROW_JSON_KEEP_BYTES);
    encode_snapshot_end(&r->json, view->xmin, view->xmax, view->xip, view->xip_count);
    if (r->json.failed)
        return err_set(r->session.err, r->json.failed,
                       "The end of the snapshot could not be made");
    return r->sink->end(r->sink->ctx, buf_slice(&r->json), view, r->session.err);
}

static int run(struct run *r)
{
    int rc;

    if (!r->row)
        return err_set(r->session.err, ERR_MEMORY, "out of memory for a snapshot");
    rc = join(r);
    if (rc == 0 && !r->request->changes_only)
        rc = read_rows(r);
    if (rc == 0)
        rc = end(r);
    return rc;
}

int snapshot_run(PGconn *conn, const struct snapshot_request *request,
                 const struct snapshot_sink *sink, struct err *err)
{
    struct err detail = {0};
    struct run r = {
        .request = request,
        .sink = sink,
        .session = {.conn = conn,
                    .err = &detail,
                    .cancelled = sink->cancelled,
                    .ctx = sink->ctx,
                    .subset = request->window != NULL,
                    .timeout_ms = request->first_row_timeout_ms},
        .started_us = clock_mono_us(),
        .lock = true,
    };
    int rc;

    ASSERT(request->selected_count > 0);
    r.row = calloc(request->table->column_count, sizeof(*r.row));
    buf_init(&r.json, ROW_JSON_MAX_BYTES);
    buf_init(&r.sql, SQL_MAX_BYTES);
    obs_add(request->obs, OBS_G_SNAPSHOTS_RUNNING, 1);
    rc = run(&r);
    if (rc == 0)
        obs_count(request->obs, OBS_SNAPSHOTS, 1);
    else
        session_abandon(&r.session);
    if (strcmp(detail.sqlstate, "42501") == 0)
        explain_privilege(&r);
    obs_count(request->obs, OBS_SNAPSHOT_ROWS, r.rows);
    obs_add(request->obs, OBS_G_SNAPSHOTS_RUNNING, -1);
    snapshot_view_fini(&r.view);
    buf_fini(&r.json);
    buf_fini(&r.sql);
    free(r.row);
    if (err)
        *err = detail;
    return rc;
}
