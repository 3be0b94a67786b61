/* From a fresh replication connection to a slot that can be streamed
 * (shape-protocol.md 5.1).
 *
 *   settings ─▶ lock ─▶ slot read ─▶ publication ─▶ slot ─▶ identity ─▶ sink.attached
 *
 * Why this order: the lock makes us the only one who touches publication and slot. A
 * missing publication makes an existing slot useless (the WAL behind it was decoded, or
 * will be, without it), so that slot is dropped *before* the publication is made: a crash
 * between the two leaves neither, never an old slot beside a new publication. The
 * position of the server is read last: hours may have passed while another instance held
 * the lock.
 *
 * On a primary nothing needs to hurry a slot creation that waits for open transactions:
 * Postgres itself logs the running transactions when the last of them ends;
 * pg_log_standby_snapshot() is for standbys, where a publication can't be made anyhow. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "server/replica/internal.h"

#define SERVER_VERSION_MIN     140000
#define LOCK_QUIET_MS          200
#define LOCK_STATEMENT_TIMEOUT "60s" /* a waiting statement holds vacuum back */
#define LOCK_PAUSE_MS          100
#define CREATE_QUIET_MS        1000
#define REPORT_INTERVAL_MAX_MS 10000
#define REPORT_INTERVAL_MIN_MS 10

struct slot {
    bool exists;
    bool foreign; /* another plugin, kind or database */
    bool lost;    /* invalidated: its WAL is gone */
    bool idle;
    char what[160];
    uint64_t confirmed_lsn;
};

static bool has_state(const struct err *err, const char *sqlstate)
{
    return strcmp(err->sqlstate, sqlstate) == 0;
}

static bool is_true(const PGresult *result, int column)
{
    return PQgetvalue(result, 0, column)[0] == 't';
}

/* "16/B374D848": two hexadecimal halves. */
static bool parse_lsn(const char *text, uint64_t *out)
{
    char *end;
    unsigned long high = strtoul(text, &end, 16);
    unsigned long low;

    if (end == text || *end != '/' || high > UINT32_MAX)
        return false;
    text = end + 1;
    low = strtoul(text, &end, 16);
    if (end == text || *end != '\0' || low > UINT32_MAX)
        return false;
    *out = (uint64_t)high << 32 | (uint64_t)low;
    return true;
}

/* --- Settings --- */

static int read_settings(struct replica *r, struct err *err)
{
    PGresult *result;
    int64_t timeout_ms;
    int rc;

    rc = link_query(
        r, "Reading the server's settings", &result, err,
        "SELECT current_setting('wal_level'), (SELECT setting FROM pg_settings "
        "WHERE name = 'wal_sender_timeout'), pg_is_in_recovery()");
    if (rc != 0)
        return rc;
    timeout_ms = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
    r->attached.wal_sender_timeout_ms = timeout_ms;
    r->interval_ms = timeout_ms > 0 && timeout_ms / 3 < REPORT_INTERVAL_MAX_MS
                         ? timeout_ms / 3
                         : REPORT_INTERVAL_MAX_MS;
    if (r->interval_ms < REPORT_INTERVAL_MIN_MS)
        r->interval_ms = REPORT_INTERVAL_MIN_MS;
    if (strcmp(PQgetvalue(result, 0, 0), "logical") != 0)
        rc = err_set(
            err, ERR_FATAL,
            "Postgres writes its WAL with wal_level = '%s', and logical replication "
            "needs 'logical'. An administrator can set it: ALTER SYSTEM SET wal_level "
            "= 'logical'; and restart Postgres",
            PQgetvalue(result, 0, 0));
    else if (is_true(result, 2))
        rc = err_set(
            err, r->ever_attached ? ERR_RETRY : ERR_FATAL,
            "DATABASE_URL (%s) names a standby, where no publication can be made: it "
            "must name the primary, or the standby be promoted (SELECT pg_promote();)",
            pg_config_describe(r->config.pg));
    PQclear(result);
    return rc;
}

static int prepare_session(struct replica *r, struct err *err)
{
    int version = PQserverVersion(r->conn);
    int rc;

    r->attached.server_version = version;
    if (version < SERVER_VERSION_MIN)
        return err_set(err, ERR_FATAL, "Postgres %d is too old: 14 or newer is needed",
                       version / 10000);
    rc = link_query(r, "Setting up the session", NULL, err, "%s; SET lock_timeout = 0",
                    pg_display_settings);
    return rc != 0 ? rc : read_settings(r, err);
}

/* --- The advisory lock --- */

/* One waiting statement; 1 when it timed out and is to be tried again. */
static int wait_lock(struct replica *r, struct err *err)
{
    char sql[REPLICA_SQL_MAX];
    PGresult *result;
    int64_t until_ms = clock_mono_ms() + LOCK_QUIET_MS;
    int rc;

    snprintf(sql, sizeof(sql), "SELECT pg_advisory_lock(hashtext(%s))", r->slot_literal);
    rc = link_send(r, sql, err);
    if (rc != 0)
        return rc;
    while ((rc = link_result(r, until_ms, "Taking the advisory lock", &result, err)) ==
           1) {
        if (r->state != REPLICA_WAITING) {
            replica_set_state(r, REPLICA_WAITING,
                              "another instance holds the advisory lock of this slot");
            log_event(r->config.log, LOG_INFO, "replica.waiting",
                      LOG_TEXT("slot", r->config.slot), LOG_TEXT("for", "advisory lock"));
        }
        until_ms = INT64_MAX;
    }
    if (rc == 0) {
        PQclear(result);
        return 0;
    }
    return has_state(err, "57014") || has_state(err, "55P03") || has_state(err, "40P01")
               ? 1
               : rc;
}

static int take_lock(struct replica *r, struct err *err)
{
    int rc = link_query(r, "Setting up the session", NULL, err,
                        "SET statement_timeout = '" LOCK_STATEMENT_TIMEOUT "'");

    if (rc != 0)
        return rc;
    while ((rc = wait_lock(r, err)) == 1) {
        rc = link_sleep(r, LOCK_PAUSE_MS, err);
        if (rc != 0)
            return rc;
    }
    if (rc == 0)
        rc = link_query(r, "Setting up the session", NULL, err,
                        "SET statement_timeout = 0");
    if (rc == 0)
        replica_set_state(r, REPLICA_PREPARING, "");
    return rc;
}

/* --- The slot, read and dropped --- */

static const char *lost_condition(int version)
{
    if (version >= 170000)
        return "wal_status = 'lost' OR invalidation_reason IS NOT NULL";
    if (version >= 160000)
        return "wal_status = 'lost' OR conflicting";
    return "wal_status = 'lost'";
}

static int read_slot(struct replica *r, struct slot *slot, struct err *err)
{
    PGresult *result;
    int rc;

    *slot = (struct slot){.exists = false};
    rc = link_query(
        r, "Reading the replication slot", &result, err,
        "SELECT slot_type = 'logical' AND plugin = 'pgoutput' AND database = "
        "current_database(), format('%%s, plugin %%s, database %%s', slot_type, "
        "coalesce(plugin, 'none'), coalesce(database, 'none')), "
        "coalesce(confirmed_flush_lsn, '0/0'), coalesce(%s, false), NOT active FROM "
        "pg_replication_slots WHERE slot_name = %s",
        lost_condition(r->attached.server_version), r->slot_literal);
    if (rc != 0)
        return rc;
    if (PQntuples(result) == 1) {
        slot->exists = true;
        slot->foreign = !is_true(result, 0);
        snprintf(slot->what, sizeof(slot->what), "%s", PQgetvalue(result, 0, 1));
        slot->lost = !parse_lsn(PQgetvalue(result, 0, 2), &slot->confirmed_lsn) ||
                     slot->confirmed_lsn == 0 || is_true(result, 3);
        slot->idle = is_true(result, 4);
    }
    PQclear(result);
    if (slot->foreign)
        return err_set(err, ERR_FATAL,
                       "The replication slot \"%s\" is not ours (%s). Choose another "
                       "ELECTRIC_REPLICATION_STREAM_ID, or drop it: SELECT "
                       "pg_drop_replication_slot(%s);",
                       r->config.slot, slot->what, r->slot_literal);
    return 0;
}

/* The session of a killed predecessor may hold the slot for a while. */
static int drop_slot(struct replica *r, struct err *err)
{
    int64_t until_ms = clock_mono_ms() + REPLICA_SLOT_BUSY_MS;

    for (;;) {
        int rc = link_query(r, "Dropping the replication slot", NULL, err,
                            "SELECT pg_drop_replication_slot(%s)", r->slot_literal);

        if (rc == 0) {
            log_event(r->config.log, LOG_WARNING, "replica.slot_dropped",
                      LOG_TEXT("slot", r->config.slot));
            return 0;
        }
        if (has_state(err, "42704"))
            return 0; /* a temporary one went with its session */
        if (!has_state(err, "55006") || clock_mono_ms() >= until_ms)
            return rc;
        replica_set_state(r, REPLICA_PREPARING, err->message);
        rc = link_sleep(r, REPLICA_SLOT_RETRY_MS, err);
        if (rc != 0)
            return rc;
    }
}

/* --- The publication --- */

static int read_publication(struct replica *r, bool *exists, bool *complete,
                            struct err *err)
{
    PGresult *result;
    int rc =
        link_query(r, "Reading the publication", &result, err,
                   "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM "
                   "pg_publication WHERE pubname = %s",
                   r->publication_literal);

    if (rc != 0)
        return rc;
    *exists = PQntuples(result) == 1;
    *complete = *exists && is_true(result, 0);
    PQclear(result);
    if (*exists && !*complete)
        log_event(r->config.log, LOG_WARNING, "replica.publication_incomplete",
                  LOG_TEXT("publication", r->config.publication));
    return 0;
}

static const char *publication_options(const struct replica *r)
{
    return r->attached.server_version >= 180000
               ? " WITH (publish_generated_columns = stored)"
               : "";
}

static int create_publication(struct replica *r, struct err *err)
{
    int rc =
        link_query(r, "Creating the publication", NULL, err, "CREATE PUBLICATION %s%s",
                   r->publication_ident, publication_options(r));

    if (rc == 0 || has_state(err, "42710") || has_state(err, "23505"))
        return 0;
    if (!has_state(err, "42501"))
        return rc;
    return err_set(
        err, ERR_FATAL,
        "The publication \"%s\" does not exist, and role \"%s\" may not create it. "
        "An administrator can create it: CREATE PUBLICATION %s%s; or allow it: "
        "GRANT CREATE ON DATABASE \"%s\" TO \"%s\";",
        r->config.publication, PQuser(r->conn), r->publication_ident,
        publication_options(r), PQdb(r->conn), PQuser(r->conn));
}

/* Whether this role could have created the publication, and so may also alter it. */
static int may_create(struct replica *r, bool *may, struct err *err)
{
    PGresult *result;
    int rc = link_query(r, "Reading privileges", &result, err,
                        "SELECT has_database_privilege(current_database(), 'CREATE')");

    if (rc != 0)
        return rc;
    *may = is_true(result, 0);
    PQclear(result);
    return 0;
}

/* Sees to it that the publication exists; a slot that was there without it goes first. */
static int ensure_publication(struct replica *r, struct slot *slot, struct err *err)
{
    bool exists;
    bool complete;
    bool may = true;
    int rc = read_publication(r, &exists, &complete, err);

    if (rc == 0 && exists && !complete)
        rc = may_create(r, &may, err);
    if (rc != 0)
        return rc;
    if (!may)
        return err_set(
            err, ERR_FATAL,
            "The publication \"%s\" does not publish all of insert, update, delete "
            "and truncate. Its owner can change that: ALTER PUBLICATION %s SET "
            "(publish = 'insert, update, delete, truncate');",
            r->config.publication, r->publication_ident);
    if (exists)
        return 0;
    if (slot->exists) {
        rc = drop_slot(r, err);
        if (rc != 0)
            return rc;
        slot->exists = false;
    }
    return create_publication(r, err);
}

/* A lost slot takes the publication with it: the tables are added anew for new shapes.
 * Not when an administrator keeps its list of tables, and not without the right to. */
static int drop_publication(struct replica *r, struct err *err)
{
    int rc;

    if (r->config.manual_publishing)
        return 0;
    rc = link_query(r, "Dropping the publication", NULL, err,
                    "DROP PUBLICATION IF EXISTS %s", r->publication_ident);
    return rc != 0 && has_state(err, "42501") ? 0 : rc;
}

/* --- The slot, created --- */

static int explain_create(const struct replica *r, int rc, struct err *err)
{
    struct err was = *err;

    if (has_state(&was, "53400"))
        return err_set(
            err, ERR_FATAL,
            "%s. All of max_replication_slots are in use: drop one that nobody "
            "needs (SELECT slot_name, active FROM pg_replication_slots; SELECT "
            "pg_drop_replication_slot('name');), or raise the setting (ALTER SYSTEM "
            "SET max_replication_slots = 20;) and restart Postgres",
            was.message);
    if (has_state(&was, "42501"))
        return err_set(
            err, ERR_FATAL,
            "%s. An administrator can allow it: ALTER ROLE \"%s\" WITH REPLICATION;",
            was.message, PQuser(r->conn));
    return rc;
}

/* 0, or 1 when one of this name appeared meanwhile. */
static int create_slot(struct replica *r, struct err *err)
{
    char sql[REPLICA_SQL_MAX];
    PGresult *result;
    int64_t until_ms = clock_mono_ms() + CREATE_QUIET_MS;
    int rc;

    snprintf(sql, sizeof(sql),
             "CREATE_REPLICATION_SLOT %s%s LOGICAL pgoutput NOEXPORT_SNAPSHOT",
             r->slot_ident, r->config.temporary_slot ? " TEMPORARY" : "");
    rc = link_send(r, sql, err);
    if (rc != 0)
        return rc;
    while ((rc = link_result(r, until_ms, "Creating the replication slot", &result,
                             err)) == 1) {
        replica_set_state(
            r, REPLICA_PREPARING,
            "the replication slot waits for transactions that were open when it "
            "was begun to end. To see them: SELECT pid, xact_start, query FROM "
            "pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start;");
        log_event(r->config.log, LOG_INFO, "replica.waiting",
                  LOG_TEXT("slot", r->config.slot), LOG_TEXT("for", "open transactions"));
        until_ms = INT64_MAX;
    }
    if (rc != 0)
        return has_state(err, "42710") ? 1 : explain_create(r, rc, err);
    if (!parse_lsn(PQgetvalue(result, 0, 1), &r->attached.confirmed_lsn))
        rc = err_set(err, ERR_CORRUPT, "Postgres named no position for the new slot");
    PQclear(result);
    r->attached.slot_created = true;
    r->slot_useless = false;
    return rc;
}

static int ensure_slot(struct replica *r, struct slot *slot, struct err *err)
{
    for (;;) {
        bool keep =
            slot->exists && !slot->lost && !r->slot_useless && !r->config.temporary_slot;
        int rc = 0;

        if (keep) {
            r->attached.confirmed_lsn = slot->confirmed_lsn;
            r->attached.slot_idle = slot->idle;
            return 0;
        }
        if (slot->exists) {
            bool lost = slot->lost;

            rc = drop_slot(r, err);
            slot->exists = false;
            if (rc == 0 && lost)
                rc = drop_publication(r, err);
            if (rc == 0)
                rc = ensure_publication(r, slot, err);
        }
        if (rc == 0)
            rc = create_slot(r, err);
        if (rc != 1)
            return rc;
        rc = read_slot(r, slot, err);
        if (rc != 0)
            return rc;
    }
}

/* --- All of it --- */

static int read_place(struct replica *r, struct err *err)
{
    struct replica_attached *a = &r->attached;
    PGresult *result;
    int rc = link_query(r, "Reading the position", &result, err,
                        "SELECT pg_current_wal_insert_lsn(), "
                        "(extract(epoch FROM clock_timestamp()) * 1000000)::int8");

    if (rc != 0)
        return rc;
    if (!parse_lsn(PQgetvalue(result, 0, 0), &a->wal_insert_lsn))
        rc = err_set(err, ERR_CORRUPT, "Postgres named no position");
    a->clock_ahead_us = strtoll(PQgetvalue(result, 0, 1), NULL, 10) - clock_wall_us();
    PQclear(result);
    return rc;
}

static int identify(struct replica *r, struct err *err)
{
    struct replica_attached *a = &r->attached;
    PGresult *result;
    int rc = link_query(r, "Asking for the system's identity", &result, err,
                        "IDENTIFY_SYSTEM");

    if (rc != 0)
        return rc;
    if (PQntuples(result) != 1 || PQnfields(result) < 4 ||
        !parse_lsn(PQgetvalue(result, 0, 2), &a->wal_flush_lsn)) {
        rc = err_set(err, ERR_CORRUPT,
                     "Postgres answered IDENTIFY_SYSTEM without a position");
    } else {
        snprintf(a->system_id, sizeof(a->system_id), "%s", PQgetvalue(result, 0, 0));
        a->timeline = (uint32_t)strtoul(PQgetvalue(result, 0, 1), NULL, 10);
        snprintf(a->database, sizeof(a->database), "%s", PQgetvalue(result, 0, 3));
    }
    PQclear(result);
    return rc;
}

int attach_run(struct replica *r, struct err *err)
{
    struct slot slot = {.exists = false};
    int rc;

    r->attached = (struct replica_attached){.slot_created = false};
    rc = prepare_session(r, err);
    if (rc == 0)
        rc = take_lock(r, err);
    if (rc == 0)
        rc = read_slot(r, &slot, err);
    if (rc == 0)
        rc = ensure_publication(r, &slot, err);
    if (rc == 0)
        rc = ensure_slot(r, &slot, err);
    if (rc == 0)
        rc = identify(r, err);
    if (rc == 0)
        rc = read_place(r, err);
    if (rc == 0)
        rc = history_read(r, err);
    if (rc != 0)
        return rc;
    r->ever_attached = true;
    log_event(r->config.log, LOG_INFO, "replica.connected",
              LOG_TEXT("slot", r->config.slot),
              LOG_TEXT("database", r->attached.database),
              LOG_U64("timeline", r->attached.timeline),
              LOG_U64("confirmed_lsn", r->attached.confirmed_lsn),
              LOG_U64("slot_created", r->attached.slot_created));
    return r->sink.attached(r->sink.ctx, &r->attached, err);
}
