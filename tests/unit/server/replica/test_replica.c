/* Streaming from a real Postgres: what arrives, what is acknowledged, what survives. */
#include "probe.h"

#include "support/pgcluster.h"

static struct pgcluster *cluster(void **state)
{
    return *(struct pgcluster **)state;
}

static int start_cluster(void **state)
{
    struct pgcluster *c = pgcluster_new(NULL);

    probe_sql(pgcluster_url(c), "CREATE TABLE item (id int, body text)", NULL, 0);
    *state = c;
    return 0;
}

static int stop_cluster(void **state)
{
    pgcluster_free(cluster(state));
    return 0;
}

/* Streams from `item`; whatever was in it before is not seen. */
static void start_on_item(struct probe *p, const char *url, const char *name)
{
    char sql[256];

    probe_init(p, url, name);
    snprintf(sql, sizeof(sql), "CREATE PUBLICATION %s FOR TABLE item", name);
    probe_sql(url, sql, NULL, 0);
    probe_start(p);
    PROBE_WAIT(p, p->state == REPLICA_STREAMING);
}

static void insert(const char *url, int from, int to)
{
    char sql[256];

    snprintf(sql, sizeof(sql),
             "INSERT INTO item SELECT n, 'x' FROM generate_series(%d, %d) n", from, to);
    probe_sql(url, sql, NULL, 0);
}

static void assert_ids(const struct probe *p, int from, int to)
{
    assert_int_equal(p->committed, to - from + 1);
    for (size_t i = 0; i < p->committed; i++)
        assert_int_equal(p->ids[i], from + (int)i);
}

static void a_fresh_start_makes_publication_and_slot_and_streams(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    probe_init(&p, url, "fresh");
    probe_start(&p);
    PROBE_WAIT(&p, p.state == REPLICA_STREAMING);
    assert_true(p.attached.slot_created);
    assert_true(p.attached.confirmed_lsn > 0);
    assert_true(p.attached.wal_flush_lsn > 0);
    assert_true(strlen(p.attached.system_id) > 10);
    assert_string_equal(p.attached.database, "postgres");
    assert_int_equal(p.attached.timeline, 1);
    assert_int_equal(p.attached.server_version / 10000,
                     pgcluster_version(cluster(state)));
    assert_int_equal(p.attached.wal_sender_timeout_ms, 60000);
    assert_int_equal(probe_number(url,
                                  "SELECT count(*) FROM pg_publication WHERE pubname = "
                                  "'fresh' AND pubinsert AND pubupdate AND pubdelete "
                                  "AND pubtruncate"),
                     1);
    assert_int_equal(probe_number(url, "SELECT count(*) FROM pg_replication_slots WHERE "
                                       "slot_name = 'fresh' AND plugin = 'pgoutput' AND "
                                       "NOT temporary"),
                     1);
    probe_sql(url, "ALTER PUBLICATION fresh ADD TABLE item", NULL, 0);
    insert(url, 1, 3);
    PROBE_WAIT(&p, p.committed == 3);
    assert_int_equal(probe_stop(&p), 0);
    assert_ids(&p, 1, 3);
    assert_int_equal(p.lost_count, 1);
    assert_int_equal(p.lost_reason, OBS_STREAM_STOPPED);
    assert_true(p.drained_count > 0);
    assert_true(p.obs->counter[OBS_WAL_BYTES] > 0);
    assert_int_equal(p.obs->counter[OBS_REPLICA_CONNECTS], 1);
    assert_int_equal(p.obs->stream_lost[OBS_STREAM_STOPPED], 1);
    assert_int_equal(p.state, REPLICA_STOPPED);
    probe_fini(&p);
    probe_drop_all(url, "fresh");
}

static void values_come_in_the_display_settings(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    probe_sql(url, "ALTER ROLE postgres SET DateStyle = 'SQL, MDY'", NULL, 0);
    probe_sql(url, "CREATE TABLE day (on_day date)", NULL, 0);
    probe_sql(url, "CREATE PUBLICATION display FOR TABLE day", NULL, 0);
    probe_init(&p, url, "display");
    probe_start(&p);
    PROBE_WAIT(&p, p.state == REPLICA_STREAMING);
    probe_sql(url, "INSERT INTO day VALUES ('0042-03-04')", NULL, 0);
    PROBE_WAIT(&p, p.committed == 1);
    assert_int_equal(p.ids[0], 42); /* ISO: 0042-03-04 */
    probe_stop(&p);
    probe_fini(&p);
    probe_drop_all(url, "display");
    probe_sql(url, "ALTER ROLE postgres RESET DateStyle", NULL, 0);
}

static void a_restart_resumes_from_the_confirmed_position(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    uint64_t flushed;
    struct probe p;

    start_on_item(&p, url, "resume");
    insert(url, 1, 3);
    PROBE_WAIT(&p, p.committed == 3);
    assert_int_equal(probe_stop(&p), 0);
    flushed = p.flushed;
    insert(url, 4, 5);
    probe_start(&p);
    PROBE_WAIT(&p, p.committed == 5);
    assert_false(p.attached.slot_created);
    /* What was told last, at the stop, has reached the slot. */
    assert_int_equal(p.attached.confirmed_lsn, flushed);
    assert_true(p.attached.wal_flush_lsn > flushed);
    PROBE_WAIT(&p, p.wal_end >= p.attached.wal_flush_lsn);
    assert_int_equal(probe_stop(&p), 0);
    assert_ids(&p, 1, 5);
    assert_int_equal(p.repeated, 0);
    probe_fini(&p);
    probe_drop_all(url, "resume");
}

static void what_was_not_flushed_comes_again(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    start_on_item(&p, url, "unflushed");
    p.hold = true;
    insert(url, 1, 2);
    insert(url, 3, 3);
    PROBE_WAIT(&p, p.committed == 3);
    probe_stop(&p);
    probe_start(&p);
    PROBE_WAIT(&p, p.repeated == 2);
    insert(url, 4, 4);
    PROBE_WAIT(&p, p.committed == 4);
    probe_stop(&p);
    assert_ids(&p, 1, 4);
    probe_fini(&p);
    probe_drop_all(url, "unflushed");
}

static void flushed_positions_are_reported_soon_when_asked(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;
    bool confirmed = false;

    start_on_item(&p, url, "soon");
    p.report_soon = true;
    insert(url, 1, 1);
    PROBE_WAIT(&p, p.committed == 1);
    /* Far below the interval of 10 s. */
    for (int i = 0; i < 40 && !confirmed; i++) {
        char sql[256];

        snprintf(sql, sizeof(sql),
                 "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'soon' AND "
                 "confirmed_flush_lsn - '0/0' >= %" PRIu64,
                 p.flushed);
        confirmed = probe_number(url, sql) == 1;
        clock_sleep_ms(50);
    }
    assert_true(confirmed);
    probe_stop(&p);
    probe_fini(&p);
    probe_drop_all(url, "soon");
}

static void a_second_instance_waits_for_the_lock_and_takes_over(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe first;
    struct probe second;
    unsigned woken;

    start_on_item(&first, url, "shared");
    probe_init(&second, url, "shared");
    probe_start(&second);
    PROBE_WAIT(&second, second.state == REPLICA_WAITING);
    assert_non_null(strstr(second.detail, "advisory lock"));
    insert(url, 1, 2);
    PROBE_WAIT(&first, first.committed == 2);
    for (int i = 0; i < 3; i++) {
        pthread_mutex_lock(&second.lock);
        woken = second.woken_count;
        pthread_mutex_unlock(&second.lock);
        probe_wake(&second);
        PROBE_WAIT(&second, second.woken_count > woken);
    }
    assert_int_equal(second.attached_count, 0);
    probe_stop(&first);
    PROBE_WAIT(&second, second.state == REPLICA_STREAMING);
    assert_false(second.attached.slot_created);
    /* Read after the lock was granted, not before. */
    assert_true(second.attached.wal_flush_lsn >= first.flushed);
    insert(url, 3, 4);
    PROBE_WAIT(&second, second.committed == 2);
    probe_stop(&second);
    assert_ids(&second, 3, 4);
    probe_fini(&first);
    probe_fini(&second);
    probe_drop_all(url, "shared");
}

static void a_cancelled_wait_for_the_lock_is_tried_again(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe first;
    struct probe second;

    start_on_item(&first, url, "cancelled");
    probe_init(&second, url, "cancelled");
    probe_start(&second);
    PROBE_WAIT(&second, second.state == REPLICA_WAITING);
    probe_sql(url,
              "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE "
              "'SELECT pg_advisory_lock%' AND wait_event = 'advisory'",
              NULL, 0);
    clock_sleep_ms(300);
    probe_stop(&first);
    PROBE_WAIT(&second, second.state == REPLICA_STREAMING);
    assert_int_equal(second.lost_count, 0);
    probe_stop(&second);
    probe_fini(&first);
    probe_fini(&second);
    probe_drop_all(url, "cancelled");
}

static void a_stop_while_waiting_for_the_lock_is_prompt(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe first;
    struct probe second;
    int64_t begun_ms;

    start_on_item(&first, url, "prompt");
    probe_init(&second, url, "prompt");
    probe_start(&second);
    PROBE_WAIT(&second, second.state == REPLICA_WAITING);
    begun_ms = clock_mono_ms();
    assert_int_equal(probe_stop(&second), 0);
    assert_true(clock_mono_ms() - begun_ms < 3000);
    /* Nothing of it may still stand in the queue for the lock. */
    for (int i = 0;
         i < 100 && probe_number(url, "SELECT count(*) FROM pg_locks WHERE locktype "
                                      "= 'advisory' AND NOT granted");
         i++)
        clock_sleep_ms(20);
    assert_int_equal(probe_number(url, "SELECT count(*) FROM pg_locks WHERE locktype = "
                                       "'advisory' AND NOT granted"),
                     0);
    probe_stop(&first);
    probe_fini(&first);
    probe_fini(&second);
    probe_drop_all(url, "prompt");
}

static void a_killed_walsender_loses_and_skips_nothing(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    start_on_item(&p, url, "killed");
    for (int i = 0; i < 12; i++) {
        insert(url, i * 500 + 1, i * 500 + 500);
        if (i % 3 == 1)
            probe_sql(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication",
                      NULL, 0);
    }
    PROBE_WAIT(&p, p.committed == 6000);
    assert_true(p.lost_count > 0);
    assert_int_equal(p.lost_reason, OBS_STREAM_CONNECTION);
    assert_false(p.attached.slot_created);
    probe_stop(&p);
    assert_ids(&p, 1, 6000);
    probe_fini(&p);
    probe_drop_all(url, "killed");
}

static void a_crashed_server_is_waited_for(void **state)
{
    struct pgcluster *c = cluster(state);
    const char *url = pgcluster_url(c);
    struct probe p;

    start_on_item(&p, url, "crash");
    insert(url, 1, 100);
    PROBE_WAIT(&p, p.committed == 100);
    pgcluster_stop_immediate(c);
    PROBE_WAIT(&p, p.lost_count >= 3);
    assert_int_equal(p.state, REPLICA_CONNECTING);
    assert_true(strlen(p.detail) > 0);
    pgcluster_start(c, NULL);
    insert(url, 101, 200);
    PROBE_WAIT(&p, p.committed == 200);
    assert_false(p.attached.slot_created);
    probe_stop(&p);
    assert_ids(&p, 1, 200);
    probe_fini(&p);
    probe_drop_all(url, "crash");
}

static void an_orderly_shutdown_of_the_server_is_survived(void **state)
{
    struct pgcluster *c = cluster(state);
    const char *url = pgcluster_url(c);
    struct probe p;

    start_on_item(&p, url, "orderly");
    insert(url, 1, 10);
    PROBE_WAIT(&p, p.committed == 10);
    pgcluster_stop_fast(c);
    pgcluster_start(c, NULL);
    insert(url, 11, 20);
    PROBE_WAIT(&p, p.committed == 20);
    probe_stop(&p);
    assert_ids(&p, 1, 20);
    probe_fini(&p);
    probe_drop_all(url, "orderly");
}

static void a_slow_sink_keeps_the_connection_alive(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    probe_sql(url, "ALTER ROLE postgres SET wal_sender_timeout = '1s'", NULL, 0);
    start_on_item(&p, url, "slow");
    assert_int_equal(p.attached.wal_sender_timeout_ms, 1000);
    p.frame_ms = 100;
    insert(url, 1, 30); /* over 3 s in one transaction */
    PROBE_WAIT(&p, p.committed == 30);
    p.frame_ms = 0;
    clock_sleep_ms(2500); /* and idle */
    assert_int_equal(p.lost_count, 0);
    insert(url, 31, 32);
    PROBE_WAIT(&p, p.committed == 32);
    assert_int_equal(p.lost_count, 0);
    probe_stop(&p);
    assert_ids(&p, 1, 32);
    probe_fini(&p);
    probe_drop_all(url, "slow");
    probe_sql(url, "ALTER ROLE postgres RESET wal_sender_timeout", NULL, 0);
}

static void an_idle_stream_is_acknowledged_up_to_the_wal_end(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;
    uint64_t before;

    probe_sql(url, "CREATE TABLE unpublished (id int)", NULL, 0);
    start_on_item(&p, url, "idle");
    PROBE_WAIT(&p, p.wal_end >= p.attached.wal_flush_lsn);
    before = p.wal_end;
    probe_sql(url, "INSERT INTO unpublished VALUES (1)", NULL, 0);
    PROBE_WAIT(&p, p.wal_end > before);
    probe_stop(&p);
    assert_int_equal(p.committed, 0);
    probe_start(&p);
    PROBE_WAIT(&p, p.state == REPLICA_STREAMING);
    assert_true(p.attached.confirmed_lsn > before);
    probe_stop(&p);
    probe_fini(&p);
    probe_drop_all(url, "idle");
}

static void a_sink_error_ends_the_stream_and_its_code_decides(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    start_on_item(&p, url, "sink");
    p.frame_error = ERR_CORRUPT;
    insert(url, 1, 5);
    PROBE_WAIT(&p, p.committed == 5);
    assert_int_equal(p.lost_count, 1);
    assert_int_equal(p.lost_reason, OBS_STREAM_PROTOCOL);
    p.frame_error = ERR_FATAL;
    insert(url, 6, 7);
    PROBE_WAIT(&p, p.done);
    assert_int_equal(probe_stop(&p), ERR_FATAL);
    assert_string_equal(p.err.message, "the sink failed");
    assert_int_equal(p.lost_reason, OBS_STREAM_FATAL);
    assert_int_equal(p.state, REPLICA_STOPPED);
    assert_ids(&p, 1, 5);
    probe_fini(&p);
    probe_drop_all(url, "sink");
}

static void told_to_reconnect_it_does_so_at_once(void **state)
{
    const char *url = pgcluster_url(cluster(state));
    struct probe p;

    start_on_item(&p, url, "again");
    pthread_mutex_lock(&p.lock);
    p.reconnect = true;
    pthread_mutex_unlock(&p.lock);
    probe_wake(&p);
    PROBE_WAIT(&p, p.attached_count == 2 && p.state == REPLICA_STREAMING);
    insert(url, 1, 1);
    PROBE_WAIT(&p, p.committed == 1);
    probe_stop(&p);
    probe_fini(&p);
    probe_drop_all(url, "again");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_start_makes_publication_and_slot_and_streams),
        cmocka_unit_test(values_come_in_the_display_settings),
        cmocka_unit_test(a_restart_resumes_from_the_confirmed_position),
        cmocka_unit_test(what_was_not_flushed_comes_again),
        cmocka_unit_test(flushed_positions_are_reported_soon_when_asked),
        cmocka_unit_test(a_second_instance_waits_for_the_lock_and_takes_over),
        cmocka_unit_test(a_cancelled_wait_for_the_lock_is_tried_again),
        cmocka_unit_test(a_stop_while_waiting_for_the_lock_is_prompt),
        cmocka_unit_test(a_killed_walsender_loses_and_skips_nothing),
        cmocka_unit_test(a_crashed_server_is_waited_for),
        cmocka_unit_test(an_orderly_shutdown_of_the_server_is_survived),
        cmocka_unit_test(a_slow_sink_keeps_the_connection_alive),
        cmocka_unit_test(an_idle_stream_is_acknowledged_up_to_the_wal_end),
        cmocka_unit_test(a_sink_error_ends_the_stream_and_its_code_decides),
        cmocka_unit_test(told_to_reconnect_it_does_so_at_once),
    };

    return cmocka_run_group_tests(tests, start_cluster, stop_cluster);
}
