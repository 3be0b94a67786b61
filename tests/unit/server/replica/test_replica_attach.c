/* What comes before streaming: publication, slot, and the faults that a person must cure.
 */
#include "probe.h"

#include "support/pgcluster.h"

/* A small ceiling on kept WAL, so that a slot can be lost in a test. */
static const char *const settings[] = {"max_slot_wal_keep_size=1MB", "min_wal_size=32MB",
                                       "max_wal_size=32MB", "max_replication_slots=3",
                                       NULL};

static struct pgcluster *cluster(void **state)
{
    return *(struct pgcluster **)state;
}

static int start_cluster(void **state)
{
    struct pgcluster *c = pgcluster_new(settings);

    probe_sql(pgcluster_url(c), "CREATE TABLE item (id int, body text)", NULL, 0);
    *state = c;
    return 0;
}

static int stop_cluster(void **state)
{
    pgcluster_free(cluster(state));
    return 0;
}

/* Runs until the stream stands, then stops. */
static void run_once(struct probe *p)
{
    probe_start(p);
    PROBE_WAIT(p, p->state == REPLICA_STREAMING);
    assert_int_equal(probe_stop(p), 0);
}

/* Runs until it gives up, which it must, with these words. */
static void run_fatal(struct probe *p, const char *words, const char *sql)
{
    probe_start(p);
    PROBE_WAIT(p, p->done);
    assert_int_equal(probe_stop(p), ERR_FATAL);
    assert_int_equal(p->err.code, ERR_FATAL);
    if (!strstr(p->err.message, words) || !strstr(p->err.message, sql))
        fail_msg("expected '%s' and '%s' in: %s", words, sql, p->err.message);
    assert_int_equal(p->state, REPLICA_STOPPED);
    assert_string_equal(p->detail, p->err.message);
    assert_int_equal(p->lost_reason, OBS_STREAM_FATAL);
    assert_int_equal(p->attached_count, 0);
}

/* The cluster's URL with another role. */
static const char *url_as(struct pgcluster *c, const char *role, char *out, size_t size)
{
    snprintf(out, size, "postgresql://%s@127.0.0.1:%d/postgres?sslmode=disable", role,
             pgcluster_port(c));
    return out;
}

static void a_newly_made_publication_drops_an_old_slot(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    probe_init(&p, url, "newpub");
    run_once(&p);
    assert_true(p.attached.slot_created);
    run_once(&p);
    assert_false(p.attached.slot_created);
    probe_sql(url, "DROP PUBLICATION newpub", NULL, 0);
    run_once(&p);
    assert_true(p.attached.slot_created);
    assert_int_equal(probe_number(url,
                                  "SELECT count(*) FROM pg_publication WHERE pubname = "
                                  "'newpub'"),
                     1);
    probe_fini(&p);
    probe_drop_all(url, "newpub");
}

static void an_existing_publication_without_a_slot_is_kept(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    probe_sql(url, "CREATE PUBLICATION keeppub FOR TABLE item", NULL, 0);
    probe_init(&p, url, "keeppub");
    run_once(&p);
    assert_true(p.attached.slot_created);
    assert_int_equal(probe_number(url, "SELECT count(*) FROM pg_publication_tables WHERE "
                                       "pubname = 'keeppub'"),
                     1);
    probe_fini(&p);
    probe_drop_all(url, "keeppub");
}

static void a_publication_dropped_while_streaming_starts_anew(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    probe_sql(url, "CREATE PUBLICATION gone FOR TABLE item", NULL, 0);
    probe_init(&p, url, "gone");
    probe_start(&p);
    PROBE_WAIT(&p, p.state == REPLICA_STREAMING);
    /* Made again at once by someone else: the slot's position lies before it all the
     * same. */
    probe_sql(url,
              "BEGIN; DROP PUBLICATION gone; INSERT INTO item VALUES (1, 'x'); COMMIT; "
              "INSERT INTO item VALUES (2, 'x'); CREATE PUBLICATION gone FOR TABLE item",
              NULL, 0);
    PROBE_WAIT(&p, p.attached_count == 2 && p.state == REPLICA_STREAMING);
    assert_true(p.attached.slot_created);
    assert_int_equal(p.lost_reason, OBS_STREAM_SLOT);
    probe_sql(url, "INSERT INTO item VALUES (3, 'x')", NULL, 0);
    PROBE_WAIT(&p, p.committed > 0 && p.ids[p.committed - 1] == 3);
    probe_stop(&p);
    probe_fini(&p);
    probe_drop_all(url, "gone");
}

static void lose_slot(const char *url, const char *name)
{
    char sql[256];

    snprintf(
        sql, sizeof(sql),
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '%s' AND wal_status "
        "= 'lost'",
        name);
    for (int i = 0; i < 20 && probe_number(url, sql) == 0; i++) {
        probe_sql(url,
                  "INSERT INTO item SELECT n, repeat('x', 100) FROM generate_series(1, "
                  "1000) n",
                  NULL, 0);
        probe_sql(url, "SELECT pg_switch_wal()", NULL, 0);
        probe_sql(url, "CHECKPOINT", NULL, 0);
    }
    assert_int_equal(probe_number(url, sql), 1);
}

static void an_invalidated_slot_is_made_anew_with_its_publication(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    probe_sql(url, "CREATE PUBLICATION lost FOR TABLE item", NULL, 0);
    probe_init(&p, url, "lost");
    run_once(&p);
    lose_slot(url, "lost");
    run_once(&p);
    assert_true(p.attached.slot_created);
    assert_int_equal(probe_number(url,
                                  "SELECT count(*) FROM pg_publication WHERE pubname = "
                                  "'lost'"),
                     1);
    assert_int_equal(probe_number(url, "SELECT count(*) FROM pg_publication_tables WHERE "
                                       "pubname = 'lost'"),
                     0);
    probe_fini(&p);
    probe_drop_all(url, "lost");
}

static void an_invalidated_slot_leaves_a_manual_publication_alone(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    probe_sql(url, "CREATE PUBLICATION manual FOR TABLE item", NULL, 0);
    probe_init(&p, url, "manual");
    p.manual_publishing = true;
    run_once(&p);
    lose_slot(url, "manual");
    run_once(&p);
    assert_true(p.attached.slot_created);
    assert_int_equal(probe_number(url, "SELECT count(*) FROM pg_publication_tables WHERE "
                                       "pubname = 'manual'"),
                     1);
    probe_fini(&p);
    probe_drop_all(url, "manual");
}

static void a_temporary_slot_goes_with_its_session(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    probe_init(&p, url, "temporary");
    p.temporary_slot = true;
    probe_start(&p);
    PROBE_WAIT(&p, p.state == REPLICA_STREAMING);
    assert_true(p.attached.slot_created);
    assert_int_equal(probe_number(url, "SELECT count(*) FROM pg_replication_slots WHERE "
                                       "slot_name = 'temporary' AND temporary"),
                     1);
    probe_stop(&p);
    run_once(&p);
    assert_true(p.attached.slot_created);
    for (int i = 0; i < PROBE_TRIES &&
                    probe_number(url, "SELECT count(*) FROM pg_replication_slots");
         i++)
        clock_sleep_ms(10);
    assert_int_equal(probe_number(url, "SELECT count(*) FROM pg_replication_slots"), 0);
    probe_fini(&p);
    probe_drop_all(url, "temporary");
}

static void slot_creation_says_that_it_waits_and_can_be_stopped(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    PGconn *holder = PQconnectdb(url);
    struct probe p;
    int64_t begun_ms;

    PQclear(PQexec(holder, "BEGIN"));
    PQclear(PQexec(holder, "INSERT INTO item VALUES (1, 'x')"));
    probe_init(&p, url, "waits");
    probe_start(&p);
    PROBE_WAIT(&p, strstr(p.detail, "pg_stat_activity") != NULL);
    assert_int_equal(p.state, REPLICA_PREPARING);
    probe_wake(&p);
    PROBE_WAIT(&p, p.woken_count > 0);
    begun_ms = clock_mono_ms();
    assert_int_equal(probe_stop(&p), 0);
    assert_true(clock_mono_ms() - begun_ms < 3000);
    /* The stopped session must not keep the lock from this one. */
    probe_start(&p);
    PROBE_WAIT(&p, strstr(p.detail, "pg_stat_activity") != NULL);
    PQclear(PQexec(holder, "COMMIT"));
    PQfinish(holder);
    PROBE_WAIT(&p, p.state == REPLICA_STREAMING);
    assert_true(p.attached.slot_created);
    probe_stop(&p);
    probe_fini(&p);
    probe_drop_all(url, "waits");
}

static void a_slot_that_is_still_active_is_asked_for_again(void **state)
{
    struct pgcluster *c = cluster(state);
    const char *url = pgcluster_url(c);
    char replication_url[256];
    PGconn *holder;
    struct probe p;

    probe_init(&p, url, "active");
    run_once(&p);
    snprintf(replication_url, sizeof(replication_url), "%s&replication=database", url);
    holder = PQconnectdb(replication_url);
    PQclear(PQexec(holder,
                   "START_REPLICATION SLOT active LOGICAL 0/0 (proto_version '1', "
                   "publication_names 'active')"));
    probe_start(&p);
    PROBE_WAIT(&p, strstr(p.detail, "is active for PID") != NULL);
    PQfinish(holder);
    PROBE_WAIT(&p, p.state == REPLICA_STREAMING);
    assert_int_equal(p.lost_count, 0);
    assert_false(p.attached.slot_created);
    probe_stop(&p);
    probe_fini(&p);
    probe_drop_all(url, "active");
}

static void a_foreign_slot_is_left_alone(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    probe_sql(url, "SELECT pg_create_physical_replication_slot('alien')", NULL, 0);
    probe_init(&p, url, "alien");
    run_fatal(&p, "is not ours (physical", "SELECT pg_drop_replication_slot('alien');");
    assert_int_equal(probe_number(url, "SELECT count(*) FROM pg_replication_slots WHERE "
                                       "slot_name = 'alien'"),
                     1);
    probe_fini(&p);
    probe_drop_all(url, "alien");
}

static void no_free_slot_is_fatal_and_names_the_setting(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    for (int i = 0; i < 3; i++)
        probe_sql(url,
                  "SELECT pg_create_physical_replication_slot('other_' || count(*)) FROM "
                  "pg_replication_slots",
                  NULL, 0);
    probe_init(&p, url, "toomany");
    run_fatal(&p, "max_replication_slots", "ALTER SYSTEM SET max_replication_slots");
    probe_sql(url, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots",
              NULL, 0);
    probe_fini(&p);
    probe_drop_all(url, "toomany");
}

static void a_role_without_the_replication_attribute_is_told_how_to_get_it(void **state)
{
    struct pgcluster *c = cluster(state);
    char url[256];
    struct probe p;

    probe_sql(pgcluster_url(c), "CREATE ROLE plain LOGIN", NULL, 0);
    probe_init(&p, url_as(c, "plain", url, sizeof(url)), "plain");
    run_fatal(&p, "privilege", "ALTER ROLE \"plain\" WITH REPLICATION;");
    probe_fini(&p);
}

static void a_role_that_may_not_publish_needs_a_publication(void **state)
{
    struct pgcluster *c = cluster(state);
    const char *admin = pgcluster_url(c);
    char url[256];
    struct probe p;

    probe_sql(admin, "CREATE ROLE streamer LOGIN REPLICATION", NULL, 0);
    probe_init(&p, url_as(c, "streamer", url, sizeof(url)), "granted");
    run_fatal(&p, "may not create it", "CREATE PUBLICATION \"granted\"");
    probe_sql(admin, "CREATE PUBLICATION granted WITH (publish = 'insert, update')", NULL,
              0);
    run_fatal(&p, "does not publish all of",
              "ALTER PUBLICATION \"granted\" SET (publish = ");
    probe_sql(admin,
              "ALTER PUBLICATION granted SET (publish = 'insert, update, delete, "
              "truncate')",
              NULL, 0);
    run_once(&p);
    assert_true(p.attached.slot_created);
    probe_fini(&p);
    probe_drop_all(admin, "granted");
}

static void an_unknown_role_is_fatal(void **state)
{
    char url[256];
    struct probe p;

    probe_init(&p, url_as(cluster(state), "nobody_here", url, sizeof(url)), "role");
    run_fatal(&p, "nobody_here", "");
    probe_fini(&p);
}

static void a_refused_connection_is_tried_again(void **state)
{
    struct probe p;

    (void)state;
    /* Port 1 of loopback: nobody listens. */
    probe_init(&p, "postgresql://postgres@127.0.0.1:1/postgres?sslmode=disable",
               "refused");
    probe_start(&p);
    PROBE_WAIT(&p, p.lost_count >= 3);
    assert_int_equal(p.state, REPLICA_CONNECTING);
    assert_int_equal(p.lost_reason, OBS_STREAM_CONNECTION);
    assert_non_null(strstr(p.detail, "refused"));
    assert_int_equal(probe_stop(&p), 0);
    probe_fini(&p);
}

static void a_wal_level_below_logical_is_fatal(void **state)
{
    struct pgcluster *c = cluster(state);
    struct probe p;

    pgcluster_stop_fast(c);
    pgcluster_start(c, (const char *const[]){"wal_level=replica", NULL});
    probe_init(&p, pgcluster_url(c), "level");
    run_fatal(&p, "wal_level = 'replica'", "ALTER SYSTEM SET wal_level = 'logical';");
    pgcluster_stop_fast(c);
    pgcluster_start(
        c, (const char *const[]){"wal_level=minimal", "max_wal_senders=0", NULL});
    run_fatal(&p, "max_wal_senders", "ALTER SYSTEM SET wal_level = 'logical';");
    probe_fini(&p);
    pgcluster_stop_fast(c);
    pgcluster_start(c, settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_newly_made_publication_drops_an_old_slot),
        cmocka_unit_test(an_existing_publication_without_a_slot_is_kept),
        cmocka_unit_test(a_publication_dropped_while_streaming_starts_anew),
        cmocka_unit_test(an_invalidated_slot_is_made_anew_with_its_publication),
        cmocka_unit_test(an_invalidated_slot_leaves_a_manual_publication_alone),
        cmocka_unit_test(a_temporary_slot_goes_with_its_session),
        cmocka_unit_test(slot_creation_says_that_it_waits_and_can_be_stopped),
        cmocka_unit_test(a_slot_that_is_still_active_is_asked_for_again),
        cmocka_unit_test(a_foreign_slot_is_left_alone),
        cmocka_unit_test(no_free_slot_is_fatal_and_names_the_setting),
        cmocka_unit_test(a_role_without_the_replication_attribute_is_told_how_to_get_it),
        cmocka_unit_test(a_role_that_may_not_publish_needs_a_publication),
        cmocka_unit_test(an_unknown_role_is_fatal),
        cmocka_unit_test(a_refused_connection_is_tried_again),
        cmocka_unit_test(a_wal_level_below_logical_is_fatal),
    };

    return cmocka_run_group_tests(tests, start_cluster, stop_cluster);
}
