/* The publication against a real Postgres: members, identities, refusals, and above all
 * that no change falls between the return of publication_ensure and the stream. The
 * stream here is a real slot read with pgoutput. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "server/catalog/catalog.h"
#include "server/catalog/publication.h"
#include "support/pgcluster.h"

#define PUB "electric_publication_test"

static struct pgcluster *cluster;
static PGconn *conn;

static PGconn *connect_as(const char *user)
{
    char url[160];
    struct pg_config *pg = NULL;
    PGconn *c = NULL;
    struct err err;
    snprintf(url, sizeof(url), "postgres://%s@127.0.0.1:%d/postgres?sslmode=disable",
             user, pgcluster_port(cluster));
    const struct pg_options options = {.url = url};
    assert_int_equal(pg_config_new(&options, &pg, NULL), 0);
    if (pg_connect(pg, PG_QUERY, 5000, -1, &c, &err))
        fail_msg("%s", err.message);
    pg_config_free(pg);
    return c;
}

static void run_on(PGconn *c, const char *sql)
{
    struct err err;
    if (pg_exec(c, sql, NULL, &err))
        fail_msg("%s", err.message);
}

static void run(const char *sql)
{
    run_on(conn, sql);
}

static char *scalar(const char *sql, char out[512])
{
    PGresult *result = NULL;
    struct err err;
    if (pg_exec(conn, sql, &result, &err))
        fail_msg("%s", err.message);
    snprintf(out, 512, "%s", PQntuples(result) ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return out;
}

static void expect(const char *sql, const char *value)
{
    char text[512];
    assert_string_equal(scalar(sql, text), value);
}

#define MEMBERS                                                                          \
    "SELECT coalesce(string_agg(tablename, ',' ORDER BY tablename), '') "                \
    "FROM pg_publication_tables WHERE pubname = '" PUB "'"

static struct table *read_named(const char *name)
{
    struct table *t = NULL;
    struct err err;
    if (catalog_read_table(conn, SLICE_LIT("public"), slice_of(name), &t, &err))
        fail_msg("%s", err.message);
    return t;
}

static const struct publication_config automatic = {PUB, false, 5000};

static int ensure_as(PGconn *c, const struct publication_config *config, const char *name,
                     bool *added, struct err *err)
{
    struct table *t = read_named(name);
    err_clear(err);
    int rc = publication_ensure(c, config, t, added, err);
    table_release(t);
    assert_int_equal(PQtransactionStatus(c), PQTRANS_IDLE);
    return rc;
}

static void ensure_ok(const char *name, bool expect_added)
{
    bool added = false;
    struct err err;
    if (ensure_as(conn, &automatic, name, &added, &err))
        fail_msg("%s", err.message);
    assert_int_equal(added, expect_added);
}

static void expect_refusal(PGconn *c, const struct publication_config *config,
                           const char *name, const char *text)
{
    bool added = false;
    struct err err;
    assert_int_equal(ensure_as(c, config, name, &added, &err), ERR_DB);
    assert_string_equal(err.message, text);
    assert_int_equal(err.http_status, 503);
    assert_false(added);
}

static int fresh(void **state)
{
    (void)state;
    conn = connect_as("postgres");
    run("DROP PUBLICATION IF EXISTS " PUB);
    run("DROP SCHEMA public CASCADE");
    run("CREATE SCHEMA public");
    run("GRANT ALL ON SCHEMA public TO public");
    run("CREATE PUBLICATION " PUB);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    PQfinish(conn);
    return 0;
}

/* --- Members and identities --- */

static void test_a_table_is_added_once_with_full_identity(void **state)
{
    (void)state;
    run("CREATE TABLE \"We\"\"ird t\" (id int PRIMARY KEY)");
    ensure_ok("We\"ird t", true);
    expect(MEMBERS, "We\"ird t");
    expect("SELECT relreplident FROM pg_class WHERE relname = 'We\"ird t'", "f");
    ensure_ok("We\"ird t", false);
}

static void test_partitions_get_full_identity_under_their_root(void **state)
{
    (void)state;
    run("CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k)");
    run("CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1) PARTITION BY RANGE (id)");
    run("CREATE TABLE p1a PARTITION OF p1 FOR VALUES FROM (0) TO (10)");
    run("CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2)");
    ensure_ok("p", true);
    expect(MEMBERS, "p1a,p2");
    expect(
        "SELECT string_agg(relname, ',') FROM pg_class WHERE relname ~ '^p[12]?a?$' AND "
        "relreplident <> 'f'",
        "");
    /* A later partition streams, but under its own identity until the next call. */
    run("CREATE TABLE p3 PARTITION OF p FOR VALUES IN (3)");
    expect(MEMBERS, "p1a,p2,p3");
    ensure_ok("p", false);
    expect("SELECT relreplident FROM pg_class WHERE relname = 'p3'", "f");
}

static void test_a_partition_stays_when_its_root_leaves(void **state)
{
    (void)state;
    run("CREATE TABLE p (id int, k int) PARTITION BY LIST (k)");
    run("CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)");
    run("CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2)");
    ensure_ok("p", true);
    ensure_ok("p1", true);
    struct table *root = read_named("p");
    assert_int_equal(publication_drop(conn, &automatic, root->oid, NULL), 0);
    assert_int_equal(publication_drop(conn, &automatic, root->oid, NULL), 0);
    table_release(root);
    expect(MEMBERS, "p1");
}

static void test_inheritance_children_become_members(void **state)
{
    (void)state;
    run("CREATE TABLE base (id int)");
    run("CREATE TABLE kid (x int) INHERITS (base)");
    run("CREATE TABLE grandkid () INHERITS (kid)");
    ensure_ok("kid", true);
    expect(MEMBERS, "grandkid,kid");
    ensure_ok("base", true);
    expect(MEMBERS, "base,grandkid,kid");
    run("CREATE TABLE late () INHERITS (base)");
    expect(MEMBERS, "base,grandkid,kid");
    ensure_ok("base", true);
    expect(MEMBERS, "base,grandkid,kid,late");
    struct table *base = read_named("base");
    assert_int_equal(publication_drop(conn, &automatic, base->oid, NULL), 0);
    table_release(base);
    expect(MEMBERS, "grandkid,kid,late");
}

static void test_members_are_listed_by_oid(void **state)
{
    (void)state;
    uint32_t *oids = NULL;
    size_t count = 9;
    assert_int_equal(publication_members(conn, &automatic, &oids, &count, NULL), 0);
    assert_int_equal(count, 0);
    free(oids);
    run("CREATE TABLE a (id int); CREATE TABLE b (id int)");
    ensure_ok("b", true);
    ensure_ok("a", true);
    struct table *a = read_named("a");
    struct table *b = read_named("b");
    assert_int_equal(publication_members(conn, &automatic, &oids, &count, NULL), 0);
    assert_int_equal(count, 2);
    assert_int_equal(oids[0], a->oid);
    assert_int_equal(oids[1], b->oid);
    free(oids);
    table_release(a);
    table_release(b);
}

/* --- Refusals --- */

static void test_manual_publishing_only_verifies(void **state)
{
    (void)state;
    const struct publication_config manual = {PUB, true, 5000};
    bool added = true;
    struct err err;
    run("CREATE TABLE m (id int); CREATE TABLE n (id int); CREATE TABLE o (id int)");
    run("ALTER PUBLICATION " PUB " ADD TABLE m, n");
    run("ALTER TABLE m REPLICA IDENTITY FULL");
    assert_int_equal(ensure_as(conn, &manual, "m", &added, &err), 0);
    assert_false(added);
    expect_refusal(
        conn, &manual, "o",
        "Database table \"public.o\" is missing from the publication \"" PUB "\" "
        "and the ELECTRIC_MANUAL_TABLE_PUBLISHING setting prevents Electric from "
        "adding it. To add it, run: ALTER PUBLICATION \"" PUB "\" ADD TABLE "
        "\"public\".\"o\"; ALTER TABLE \"public\".\"o\" REPLICA IDENTITY FULL;");
    expect_refusal(
        conn, &manual, "n",
        "Database table \"public.n\" does not have its replica identity set to "
        "FULL. To set it, run: ALTER TABLE \"public\".\"n\" REPLICA IDENTITY FULL;");
    expect(MEMBERS, "m,n");
    expect("SELECT relreplident FROM pg_class WHERE relname = 'n'", "d");
}

static void test_missing_privileges_are_named(void **state)
{
    (void)state;
    run("CREATE TABLE theirs (id int)");
    PGconn *c = connect_as("plain");
    expect_refusal(
        c, &automatic, "theirs",
        "Database table \"public.theirs\" is missing from the publication \"" PUB
        "\" and Electric lacks privileges to add it. To add it, run: ALTER "
        "PUBLICATION \"" PUB "\" ADD TABLE \"public\".\"theirs\"; ALTER TABLE "
        "\"public\".\"theirs\" REPLICA IDENTITY FULL;");
    run("ALTER PUBLICATION " PUB " OWNER TO plain");
    expect_refusal(
        c, &automatic, "theirs",
        "Database table \"public.theirs\" is missing from the publication \"" PUB
        "\" and Electric lacks privileges to add it. To add it, run: ALTER "
        "PUBLICATION \"" PUB "\" ADD TABLE \"public\".\"theirs\"; ALTER TABLE "
        "\"public\".\"theirs\" REPLICA IDENTITY FULL;");
    run("ALTER PUBLICATION " PUB " ADD TABLE theirs");
    expect_refusal(
        c, &automatic, "theirs",
        "Database table \"public.theirs\" does not have its replica identity set "
        "to FULL. To set it, run: ALTER TABLE \"public\".\"theirs\" REPLICA "
        "IDENTITY FULL;");
    run("ALTER TABLE theirs REPLICA IDENTITY FULL");
    bool added = true;
    struct err err;
    assert_int_equal(ensure_as(c, &automatic, "theirs", &added, &err), 0);
    assert_false(added);
    PQfinish(c);
}

static void test_a_broken_publication_is_named(void **state)
{
    (void)state;
    run("CREATE TABLE a (id int)");
    run("ALTER PUBLICATION " PUB " SET (publish = 'insert, update')");
    expect_refusal(conn, &automatic, "a",
                   "Publication \"" PUB
                   "\" does not publish all required operations: INSERT, "
                   "UPDATE, DELETE, TRUNCATE. Its owner can change that: ALTER "
                   "PUBLICATION \"" PUB "\" SET (publish = 'insert, update, delete, "
                   "truncate');");
    run("DROP PUBLICATION " PUB);
    expect_refusal(conn, &automatic, "a",
                   "Publication \"" PUB "\" not found in the database. An administrator "
                   "can create it: CREATE PUBLICATION \"" PUB "\";");
}

static void test_a_renamed_or_dropped_table_is_named(void **state)
{
    (void)state;
    bool added = false;
    struct err err;
    run("CREATE TABLE a (id int)");
    struct table *t = read_named("a");
    run("ALTER TABLE a RENAME TO b");
    assert_int_equal(publication_ensure(conn, &automatic, t, &added, &err), ERR_DB);
    assert_string_equal(err.message,
                        "Database table \"public.a\" has been dropped or renamed");
    run("DROP TABLE b");
    assert_int_equal(publication_ensure(conn, &automatic, t, &added, &err), ERR_DB);
    assert_string_equal(err.message,
                        "Database table \"public.a\" has been dropped or renamed");
    assert_int_equal(publication_drop(conn, &automatic, t->oid, &err), 0);
    table_release(t);
}

static void test_unlogged_tables_are_refused(void **state)
{
    (void)state;
    bool added = false;
    struct err err;
    run("CREATE UNLOGGED TABLE u (id int)");
    assert_int_equal(ensure_as(conn, &automatic, "u", &added, &err), ERR_DB);
    assert_non_null(strstr(err.message, "Unable to create initial snapshot: cannot add"));
    assert_int_equal(err.http_status, 503);
}

static void test_a_locked_table_ends_with_the_time_limit(void **state)
{
    (void)state;
    const struct publication_config hasty = {PUB, false, 300};
    bool added = false;
    struct err err;
    run("CREATE TABLE l (id int)");
    PGconn *other = connect_as("postgres");
    run_on(other, "BEGIN; LOCK TABLE l");
    int64_t begin = clock_mono_ms();
    assert_int_equal(ensure_as(conn, &hasty, "l", &added, &err), ERR_RETRY);
    int64_t took = clock_mono_ms() - begin;
    assert_true(took >= 250 && took < 3000);
    assert_string_equal(err.message, "Snapshot timed out while waiting for a table lock");
    assert_int_equal(err.http_status, 503);
    run_on(other, "ROLLBACK");
    PQfinish(other);
    expect(MEMBERS, "");
    ensure_ok("l", true);
}

/* --- Old writers --- */

struct call {
    pthread_t thread;
    pthread_mutex_t lock;
    PGconn *conn;
    struct table *table;
    bool added;
    bool over;
    int rc;
};

static void *call_main(void *arg)
{
    struct call *call = arg;
    int rc = publication_ensure(call->conn, &automatic, call->table, &call->added, NULL);
    pthread_mutex_lock(&call->lock);
    call->rc = rc;
    call->over = true;
    pthread_mutex_unlock(&call->lock);
    return NULL;
}

static void call_begin(struct call *call, const char *name, bool treat_as_new)
{
    memset(call, 0, sizeof(*call));
    pthread_mutex_init(&call->lock, NULL);
    call->conn = connect_as("postgres");
    call->table = read_named(name);
    call->added = treat_as_new;
    assert_int_equal(pthread_create(&call->thread, NULL, call_main, call), 0);
}

static bool call_over(struct call *call)
{
    pthread_mutex_lock(&call->lock);
    bool over = call->over;
    pthread_mutex_unlock(&call->lock);
    return over;
}

static void call_end(struct call *call)
{
    pthread_join(call->thread, NULL);
    assert_int_equal(call->rc, 0);
    table_release(call->table);
    PQfinish(call->conn);
}

static void wait_for_member(const char *members)
{
    char text[512];
    int64_t until = clock_mono_ms() + 10000;
    while (strcmp(scalar(MEMBERS, text), members) != 0 && clock_mono_ms() < until)
        clock_sleep_ms(5);
    assert_string_equal(text, members);
}

/* How many changes of the table `mark` in them come out of the slot. */
static void expect_streamed(const char *mark, const char *count)
{
    char sql[512];
    snprintf(sql, sizeof(sql),
             "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL, "
             "'proto_version', '1', 'publication_names', '" PUB "') "
             "WHERE position('%s'::bytea IN data) > 0",
             mark);
    expect(sql, count);
}

static void slot(const char *function)
{
    char sql[128];
    char text[512];
    snprintf(sql, sizeof(sql), "SELECT %s", function);
    scalar(sql, text);
}

static void check_old_writer(const char *ending, const char *begin_sql)
{
    struct call call;
    run("CREATE TABLE w (v text); ALTER TABLE w REPLICA IDENTITY FULL");
    slot("pg_create_logical_replication_slot('s', 'pgoutput')");
    PGconn *old = connect_as("postgres");
    PGconn *late = connect_as("postgres");
    run_on(old, begin_sql);
    run_on(old, "INSERT INTO w VALUES ('old-writer')");
    call_begin(&call, "w", false);
    wait_for_member("w");
    clock_sleep_ms(150);
    assert_false(call_over(&call));
    /* A later writer is neither blocked nor waited for. */
    run_on(late, "SET lock_timeout = 1000; BEGIN");
    run_on(late, "INSERT INTO w VALUES ('late-writer')");
    run_on(old, "INSERT INTO w VALUES ('old-again')");
    assert_false(call_over(&call));
    run_on(old, ending);
    call_end(&call);
    assert_true(call.added);
    /* What commits from now on is streamed. */
    run_on(late, "COMMIT");
    run("INSERT INTO w VALUES ('after-return')");
    expect_streamed("late-writer", "1");
    expect_streamed("after-return", "1");
    slot("pg_drop_replication_slot('s')");
    PQfinish(old);
    PQfinish(late);
}

static void test_an_old_writer_is_waited_for_until_it_commits(void **state)
{
    (void)state;
    check_old_writer("COMMIT", "BEGIN");
    expect("SELECT count(*) FROM w WHERE v = 'old-writer'", "1");
}

static void test_an_old_writer_is_waited_for_until_it_rolls_back(void **state)
{
    (void)state;
    check_old_writer("ROLLBACK", "BEGIN");
}

static void test_a_writer_of_another_table_is_not_waited_for(void **state)
{
    (void)state;
    struct err err;
    bool added = false;
    run("CREATE TABLE w (v text); CREATE TABLE x (v text); CREATE TABLE y (v text)");
    PGconn *old = connect_as("postgres");
    run_on(old, "BEGIN; INSERT INTO x VALUES ('a'); SELECT * FROM w");
    run("ALTER TABLE y REPLICA IDENTITY FULL");
    int64_t begin = clock_mono_ms();
    assert_int_equal(ensure_as(conn, &automatic, "y", &added, &err), 0);
    assert_true(clock_mono_ms() - begin < 2000);
    run_on(old, "ROLLBACK");
    PQfinish(old);
}

static void
test_a_transaction_that_began_before_but_writes_after_is_streamed(void **state)
{
    (void)state;
    run("CREATE TABLE w (v text); CREATE TABLE x (v text);"
        "ALTER TABLE w REPLICA IDENTITY FULL; ALTER TABLE x REPLICA IDENTITY FULL");
    ensure_ok("x", true);
    slot("pg_create_logical_replication_slot('s', 'pgoutput')");
    PGconn *old = connect_as("postgres");
    run_on(old, "BEGIN; INSERT INTO x VALUES ('x-before')");
    ensure_ok("w", true);
    run_on(old, "INSERT INTO w VALUES ('w-after'); COMMIT");
    expect_streamed("x-before", "1");
    expect_streamed("w-after", "1");
    slot("pg_drop_replication_slot('s')");
    PQfinish(old);
}

static void test_a_writer_into_a_partition_is_waited_for(void **state)
{
    (void)state;
    struct call call;
    run("CREATE TABLE p (k int, v text) PARTITION BY LIST (k);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);"
        "ALTER TABLE p REPLICA IDENTITY FULL; ALTER TABLE p1 REPLICA IDENTITY FULL");
    PGconn *old = connect_as("postgres");
    run_on(old, "BEGIN; INSERT INTO p1 VALUES (1, 'direct')");
    call_begin(&call, "p", false);
    wait_for_member("p1");
    clock_sleep_ms(100);
    assert_false(call_over(&call));
    run_on(old, "COMMIT");
    call_end(&call);
    PQfinish(old);
}

static void test_a_prepared_transaction_is_waited_for(void **state)
{
    (void)state;
    struct call call;
    run("CREATE TABLE w (v text); ALTER TABLE w REPLICA IDENTITY FULL");
    PGconn *old = connect_as("postgres");
    run_on(old, "BEGIN; INSERT INTO w VALUES ('a'); PREPARE TRANSACTION 'two'");
    call_begin(&call, "w", false);
    wait_for_member("w");
    clock_sleep_ms(100);
    assert_false(call_over(&call));
    run_on(old, "COMMIT PREPARED 'two'");
    call_end(&call);
    PQfinish(old);
}

static void test_a_timed_out_wait_is_taken_up_by_the_next_call(void **state)
{
    (void)state;
    const struct publication_config hasty = {PUB, false, 200};
    bool added = false;
    struct err err;
    run("CREATE TABLE w (v text); ALTER TABLE w REPLICA IDENTITY FULL");
    PGconn *old = connect_as("postgres");
    run_on(old, "BEGIN; INSERT INTO w VALUES ('a')");
    assert_int_equal(ensure_as(conn, &hasty, "w", &added, &err), ERR_RETRY);
    assert_string_equal(err.message, "Snapshot timed out while waiting for a table lock");
    assert_int_equal(err.http_status, 503);
    assert_true(added);
    assert_int_equal(ensure_as(conn, &hasty, "w", &added, &err), ERR_RETRY);
    assert_true(added);
    run_on(old, "COMMIT");
    assert_int_equal(ensure_as(conn, &hasty, "w", &added, &err), 0);
    assert_false(added);
    PQfinish(old);
}

static void test_calls_at_the_same_time_all_succeed(void **state)
{
    (void)state;
    struct call calls[8];
    run("CREATE TABLE w (v text); CREATE TABLE x (v text);"
        "ALTER TABLE w REPLICA IDENTITY FULL; ALTER TABLE x REPLICA IDENTITY FULL");
    PGconn *old = connect_as("postgres");
    run_on(old, "BEGIN; INSERT INTO w VALUES ('a'); INSERT INTO x VALUES ('a')");
    for (int i = 0; i < 8; i++)
        call_begin(&calls[i], i % 2 ? "w" : "x", true);
    wait_for_member("w,x");
    clock_sleep_ms(100);
    for (int i = 0; i < 8; i++)
        assert_false(call_over(&calls[i]));
    run_on(old, "COMMIT");
    for (int i = 0; i < 8; i++)
        call_end(&calls[i]);
    PQfinish(old);
}

static void test_a_known_member_waits_for_nobody(void **state)
{
    (void)state;
    run("CREATE TABLE w (v text)");
    ensure_ok("w", true);
    PGconn *old = connect_as("postgres");
    run_on(old, "BEGIN; INSERT INTO w VALUES ('a')");
    int64_t begin = clock_mono_ms();
    ensure_ok("w", false);
    assert_true(clock_mono_ms() - begin < 2000);
    run_on(old, "ROLLBACK");
    PQfinish(old);
}

/* --- Partitions that were written to before they were attached --- */

#define ALTERED                                                                          \
    "ALTER PUBLICATION \"" PUB "\" SET (publish = 'insert, update, delete, truncate')"

/* The stream knows p1, p2 and p3 as tables that are not published. */
static void attach_known(void)
{
    run("CREATE TABLE x (v text); CREATE TABLE p (k int, v text) PARTITION BY LIST (k)");
    ensure_ok("x", true);
    ensure_ok("p", true);
    slot("pg_create_logical_replication_slot('s', 'pgoutput')");
    run("CREATE TABLE p1 (k int, v text); CREATE TABLE p2 (k int, v text);"
        "CREATE TABLE p3 (k int, v text); ALTER TABLE p1 REPLICA IDENTITY FULL;"
        "ALTER TABLE p2 REPLICA IDENTITY FULL; ALTER TABLE p3 REPLICA IDENTITY FULL");
    run("INSERT INTO p1 VALUES (1, 'alone'); INSERT INTO p2 VALUES (2, 'alone');"
        "INSERT INTO p3 VALUES (3, 'alone')");
    run("ALTER TABLE p ATTACH PARTITION p1 FOR VALUES IN (1)");
}

static void test_an_attached_partition_is_streamed_from_then_on(void **state)
{
    (void)state;
    bool added = true;
    struct err err;
    attach_known();
    assert_int_equal(ensure_as(conn, &automatic, "p", &added, &err), 0);
    assert_false(added);
    run("INSERT INTO p VALUES (1, 'ensured')");
    run("ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2)");
    struct table *t = read_named("p2");
    assert_int_equal(publication_follow(conn, &automatic, &t->oid, 1, NULL), 0);
    table_release(t);
    run("INSERT INTO p VALUES (2, 'followed')");
    expect_streamed("ensured", "1");
    expect_streamed("followed", "1");
    expect_streamed("alone", "0");
    slot("pg_drop_replication_slot('s')");
}

static void test_a_writer_since_the_attachment_is_waited_for(void **state)
{
    (void)state;
    struct call call;
    attach_known();
    PGconn *old = connect_as("postgres");
    PGconn *late = connect_as("postgres");
    run_on(old, "BEGIN; INSERT INTO x VALUES ('begun')");
    run_on(late, "BEGIN; INSERT INTO x VALUES ('begun')");
    run("ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2)");
    run_on(old, "INSERT INTO p VALUES (2, 'old-writer')");
    call_begin(&call, "p", true);
    clock_sleep_ms(150);
    assert_false(call_over(&call));
    run_on(late, "INSERT INTO p VALUES (2, 'late-writer')");
    run_on(old, "COMMIT");
    call_end(&call);
    run_on(late, "COMMIT");
    expect_streamed("late-writer", "1");
    slot("pg_drop_replication_slot('s')");
    PQfinish(old);
    PQfinish(late);
}

static void test_a_publication_of_others_must_have_been_altered_since(void **state)
{
    (void)state;
    const struct publication_config manual = {PUB, true, 5000};
    bool added = true;
    struct err err = {0};
    attach_known();
    struct table *t = read_named("p1");
    int rc = publication_follow(conn, &manual, &t->oid, 1, &err);
    assert_int_equal(rc, publication_follows(conn) ? 0 : ERR_DB);
    if (rc < 0)
        assert_string_equal(
            err.message,
            "Partition \"public.p1\" was attached after the publication \"" PUB
            "\" was last altered, and Postgres before 15 may withhold its changes. To "
            "see "
            "to it that they are replicated, run: " ALTERED ";");
    assert_int_equal(ensure_as(conn, &manual, "p", &added, &err), rc);
    added = true;
    assert_int_equal(ensure_as(conn, &manual, "p1", &added, &err), rc);
    run(ALTERED);
    added = true;
    assert_int_equal(ensure_as(conn, &manual, "p", &added, &err), 0);
    run("INSERT INTO p VALUES (1, 'altered')");
    run("BEGIN; ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2); " ALTERED
        "; COMMIT");
    assert_int_equal(publication_follow(conn, &manual, &t->oid, 1, NULL), 0);
    run("INSERT INTO p VALUES (2, 'at-once')");
    /* One that was never a table of its own needs no such thing. */
    run("CREATE TABLE p4 PARTITION OF p FOR VALUES IN (4);"
        "ALTER TABLE p4 REPLICA IDENTITY FULL; INSERT INTO p VALUES (4, 'born')");
    added = true;
    assert_int_equal(ensure_as(conn, &manual, "p", &added, &err), 0);
    /* Nor does one that is a member itself. */
    run("ALTER PUBLICATION " PUB " ADD TABLE p3");
    run("ALTER TABLE p ATTACH PARTITION p3 FOR VALUES IN (3)");
    added = true;
    assert_int_equal(ensure_as(conn, &manual, "p3", &added, &err), 0);
    run("INSERT INTO p VALUES (3, 'by-name')");
    expect_streamed("altered", "1");
    expect_streamed("at-once", "1");
    expect_streamed("born", "1");
    expect_streamed("by-name", "1");
    slot("pg_drop_replication_slot('s')");
    table_release(t);
}

/* --- Verifying --- */

static void test_verification_tells_each_fault(void **state)
{
    (void)state;
    static const char *const names[] = {"fine",    "gone", "renamed",
                                        "missing", "lost", "part"};
    enum { N = sizeof(names) / sizeof(names[0]) };
    struct publication_check checks[N];
    struct table *before[N];
    for (int i = 0; i < N; i++) {
        char sql[128];
        snprintf(sql, sizeof(sql), "CREATE TABLE %s (id int)%s", names[i],
                 i == 5 ? " PARTITION BY LIST (id)" : "");
        run(sql);
        ensure_ok(names[i], true);
        before[i] = read_named(names[i]);
        checks[i] = (struct publication_check){
            .oid = before[i]->oid, .schema = before[i]->schema, .name = before[i]->name};
    }
    run("DROP TABLE gone; CREATE TABLE gone (id int); ALTER TABLE renamed RENAME TO "
        "other;"
        "ALTER PUBLICATION " PUB " DROP TABLE missing; ALTER TABLE lost REPLICA IDENTITY "
        "DEFAULT; CREATE TABLE part1 PARTITION OF part FOR VALUES IN (1)");
    assert_int_equal(publication_verify(conn, &automatic, checks, N, NULL), 0);
    static const enum publication_fault faults[N] = {
        PUBLICATION_FINE,          PUBLICATION_TABLE_GONE,    PUBLICATION_TABLE_GONE,
        PUBLICATION_TABLE_MISSING, PUBLICATION_IDENTITY_LOST, PUBLICATION_IDENTITY_LOST};
    for (int i = 0; i < N; i++) {
        assert_int_equal(checks[i].fault, faults[i]);
        assert_int_equal(checks[i].now == NULL, i == 1);
        table_release(checks[i].now);
        table_release(before[i]);
    }
}

static void test_verification_of_a_lost_publication_fails(void **state)
{
    (void)state;
    struct publication_check check = {.oid = 1, .schema = SLICE_LIT("public")};
    struct err err;
    check.name = SLICE_LIT("x");
    run("ALTER PUBLICATION " PUB " SET (publish = 'insert')");
    assert_int_equal(publication_verify(conn, &automatic, &check, 1, &err), ERR_DB);
    run("DROP PUBLICATION " PUB);
    assert_int_equal(publication_verify(conn, &automatic, &check, 1, &err), ERR_DB);
    assert_non_null(
        strstr(err.message, "Publication \"" PUB "\" not found in the database. "));
    assert_null(check.now);
}

static void test_publications_of_all_tables_and_schemas_count(void **state)
{
    (void)state;
    const struct publication_config manual = {PUB, true, 5000};
    bool added = false;
    struct err err;
    run("CREATE TABLE a (id int); ALTER TABLE a REPLICA IDENTITY FULL");
    run("DROP PUBLICATION " PUB);
    run("CREATE PUBLICATION " PUB " FOR ALL TABLES");
    assert_int_equal(ensure_as(conn, &manual, "a", &added, &err), 0);
    ensure_ok("a", false);
    if (pgcluster_version(cluster) < 15)
        return;
    run("DROP PUBLICATION " PUB);
    run("CREATE PUBLICATION " PUB " FOR TABLES IN SCHEMA public");
    assert_int_equal(ensure_as(conn, &manual, "a", &added, &err), 0);
    ensure_ok("a", false);
}

static int setup(void **state)
{
    (void)state;
    static const char *const settings[] = {"max_prepared_transactions=4", NULL};
    cluster = pgcluster_new(settings);
    conn = connect_as("postgres");
    run("CREATE ROLE plain LOGIN");
    /* Owning a publication needs this on the database. */
    run("GRANT CREATE ON DATABASE postgres TO plain");
    PQfinish(conn);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pgcluster_free(cluster);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_table_is_added_once_with_full_identity),
        TEST(test_partitions_get_full_identity_under_their_root),
        TEST(test_a_partition_stays_when_its_root_leaves),
        TEST(test_inheritance_children_become_members),
        TEST(test_members_are_listed_by_oid),
        TEST(test_manual_publishing_only_verifies),
        TEST(test_missing_privileges_are_named),
        TEST(test_a_broken_publication_is_named),
        TEST(test_a_renamed_or_dropped_table_is_named),
        TEST(test_unlogged_tables_are_refused),
        TEST(test_a_locked_table_ends_with_the_time_limit),
        TEST(test_an_old_writer_is_waited_for_until_it_commits),
        TEST(test_an_old_writer_is_waited_for_until_it_rolls_back),
        TEST(test_a_writer_of_another_table_is_not_waited_for),
        TEST(test_a_transaction_that_began_before_but_writes_after_is_streamed),
        TEST(test_a_writer_into_a_partition_is_waited_for),
        TEST(test_a_prepared_transaction_is_waited_for),
        TEST(test_a_timed_out_wait_is_taken_up_by_the_next_call),
        TEST(test_calls_at_the_same_time_all_succeed),
        TEST(test_a_known_member_waits_for_nobody),
        TEST(test_an_attached_partition_is_streamed_from_then_on),
        TEST(test_a_writer_since_the_attachment_is_waited_for),
        TEST(test_a_publication_of_others_must_have_been_altered_since),
        TEST(test_verification_tells_each_fault),
        TEST(test_verification_of_a_lost_publication_fails),
        TEST(test_publications_of_all_tables_and_schemas_count),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
