/* The worker pool against a real Postgres. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "server/pg/pool.h"
#include "support/pgcluster.h"

#define WAIT_MS 20000

static struct pgcluster *cluster;

/* What jobs leave behind; each field under the lock. */
struct board {
    pthread_mutex_t lock;
    unsigned done;
    unsigned without_conn;
    int why;
    int order[64];
    int pids[64];
    bool gate; /* jobs wait until it opens */
    bool running;
    char sqlstate[6];
};

struct task {
    struct board *board;
    int number;
    const char *sql;
};

static void board_init(struct board *b)
{
    memset(b, 0, sizeof(*b));
    pthread_mutex_init(&b->lock, NULL);
}

static unsigned done(struct board *b)
{
    pthread_mutex_lock(&b->lock);
    unsigned n = b->done;
    pthread_mutex_unlock(&b->lock);
    return n;
}

static void wait_done(struct board *b, unsigned n)
{
    int64_t until = clock_mono_ms() + WAIT_MS;
    while (done(b) < n && clock_mono_ms() < until)
        clock_sleep_ms(2);
    assert_int_equal(done(b), n);
}

static bool flag(struct board *b, const bool *which)
{
    pthread_mutex_lock(&b->lock);
    bool set = *which;
    pthread_mutex_unlock(&b->lock);
    return set;
}

static void wait_running(struct board *b)
{
    int64_t until = clock_mono_ms() + WAIT_MS;
    while (!flag(b, &b->running) && clock_mono_ms() < until)
        clock_sleep_ms(2);
    assert_true(flag(b, &b->running));
}

static void set_flag(struct board *b, bool *which)
{
    pthread_mutex_lock(&b->lock);
    *which = true;
    pthread_mutex_unlock(&b->lock);
}

static void note(struct task *t, PGconn *conn, const struct err *why)
{
    struct board *b = t->board;
    pthread_mutex_lock(&b->lock);
    b->order[b->done] = t->number;
    b->pids[b->done] = conn ? PQbackendPID(conn) : 0;
    b->without_conn += conn == NULL;
    b->why = why ? why->code : 0;
    b->done++;
    pthread_mutex_unlock(&b->lock);
}

/* Runs its statement, if any, then notes itself. */
static void job(void *ctx, PGconn *conn, const struct err *why)
{
    struct task *t = ctx;
    struct err err;
    err_clear(&err);
    set_flag(t->board, &t->board->running);
    if (conn && t->sql)
        pg_exec(conn, t->sql, NULL, &err);
    pthread_mutex_lock(&t->board->lock);
    memcpy(t->board->sqlstate, err.sqlstate, sizeof(err.sqlstate));
    pthread_mutex_unlock(&t->board->lock);
    note(t, conn, why);
}

static void gated_job(void *ctx, PGconn *conn, const struct err *why)
{
    struct task *t = ctx;
    set_flag(t->board, &t->board->running);
    while (!flag(t->board, &t->board->gate))
        clock_sleep_ms(1);
    note(t, conn, why);
}

static struct pg_config *configure(const char *url)
{
    struct pg_config *config = NULL;
    const struct pg_options options = {.url = url};
    assert_int_equal(pg_config_new(&options, &config, NULL), 0);
    return config;
}

static struct pool *make_pool(const struct pg_config *pg, unsigned connections,
                              unsigned queued)
{
    struct pool *pool = NULL;
    const struct pool_config config = {.pg = pg,
                                       .name = "test",
                                       .max_connections = connections,
                                       .max_queued = queued,
                                       .max_aside = 1,
                                       .connect_timeout_ms = 5000};
    assert_int_equal(pool_new(&config, &pool, NULL), 0);
    return pool;
}

static void test_jobs_begin_in_order_on_one_connection(void **state)
{
    (void)state;
    struct board b;
    struct task tasks[20];
    board_init(&b);
    struct pg_config *pg = configure(pgcluster_url(cluster));
    struct pool *pool = make_pool(pg, 1, 100);
    for (int i = 0; i < 20; i++) {
        tasks[i] = (struct task){&b, i, "SELECT 1"};
        assert_int_equal(pool_submit(pool, job, &tasks[i]), 0);
    }
    wait_done(&b, 20);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(b.order[i], i);
        assert_int_equal(b.pids[i], b.pids[0]);
    }
    assert_int_equal(b.without_conn, 0);
    pool_free(pool);
    pg_config_free(pg);
}

static void test_jobs_run_at_the_same_time_up_to_the_maximum(void **state)
{
    (void)state;
    struct board b;
    struct task tasks[6];
    board_init(&b);
    struct pg_config *pg = configure(pgcluster_url(cluster));
    struct pool *pool = make_pool(pg, 3, 100);
    /* Each sleeps 0.3 s: two rounds of three. */
    int64_t begin = clock_mono_ms();
    for (int i = 0; i < 6; i++) {
        tasks[i] = (struct task){&b, i, "SELECT pg_sleep(0.3)"};
        assert_int_equal(pool_submit(pool, job, &tasks[i]), 0);
    }
    wait_done(&b, 6);
    int64_t took = clock_mono_ms() - begin;
    assert_true(took >= 600 && took < 1700);
    pool_free(pool);
    pg_config_free(pg);
}

static void test_a_full_queue_refuses(void **state)
{
    (void)state;
    struct board b;
    struct task t = {&b, 0, NULL};
    board_init(&b);
    struct pg_config *pg = configure(pgcluster_url(cluster));
    struct pool *pool = make_pool(pg, 1, 2);
    assert_int_equal(pool_submit(pool, gated_job, &t), 0);
    wait_running(&b);
    assert_int_equal(pool_submit(pool, gated_job, &t), 0);
    assert_int_equal(pool_submit(pool, gated_job, &t), 0);
    assert_int_equal(pool_submit(pool, gated_job, &t), ERR_LIMIT);
    set_flag(&b, &b.gate);
    wait_done(&b, 3);
    pool_free(pool);
    pg_config_free(pg);
}

static void test_jobs_aside_leave_room(void **state)
{
    (void)state;
    struct board held;
    struct board b;
    struct task aside[4];
    struct task plain[2] = {{&b, 10, NULL}, {&b, 11, NULL}};
    board_init(&held);
    board_init(&b);
    struct pg_config *pg = configure(pgcluster_url(cluster));
    struct pool *pool = make_pool(pg, 3, 3);
    for (int i = 0; i < 4; i++)
        aside[i] = (struct task){&held, i, NULL};
    assert_int_equal(pool_submit_aside(pool, gated_job, &aside[0]), 0);
    wait_running(&held);
    for (int i = 1; i < 4; i++)
        assert_int_equal(pool_submit_aside(pool, job, &aside[i]), 0);
    assert_int_equal(pool_submit_aside(pool, job, &aside[0]), ERR_LIMIT);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pool_submit(pool, job, &plain[i]), 0);
    wait_done(&b, 2);
    assert_int_equal(done(&held), 0);
    set_flag(&held, &held.gate);
    wait_done(&held, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(held.order[i], i);
    pool_free(pool);
    pg_config_free(pg);
}

/* Also those that may not run yet. */
static void test_closing_calls_the_jobs_aside(void **state)
{
    (void)state;
    struct board b;
    struct task tasks[3] = {{&b, 0, "SELECT pg_sleep(20)"}, {&b, 1, NULL}, {&b, 2, NULL}};
    board_init(&b);
    struct pg_config *pg = configure(pgcluster_url(cluster));
    struct pool *pool = make_pool(pg, 2, 3);
    assert_int_equal(pool_submit_aside(pool, job, &tasks[0]), 0);
    wait_running(&b);
    for (int i = 1; i < 3; i++)
        assert_int_equal(pool_submit_aside(pool, job, &tasks[i]), 0);
    pool_free(pool);
    assert_int_equal(done(&b), 3);
    assert_int_equal(b.without_conn, 2);
    pg_config_free(pg);
}

static void test_a_connection_left_in_a_transaction_is_closed(void **state)
{
    (void)state;
    struct board b;
    struct task leave = {&b, 0, "BEGIN"};
    struct task next = {&b, 1, "SELECT 1"};
    board_init(&b);
    struct pg_config *pg = configure(pgcluster_url(cluster));
    struct pool *pool = make_pool(pg, 1, 10);
    pool_submit(pool, job, &leave);
    pool_submit(pool, job, &next);
    wait_done(&b, 2);
    assert_int_not_equal(b.pids[0], b.pids[1]);
    assert_int_equal(b.without_conn, 0);
    pool_free(pool);
    pg_config_free(pg);
}

static void test_a_connection_that_died_while_idle_is_replaced(void **state)
{
    (void)state;
    struct board b;
    struct task task = {&b, 0, "SELECT 1"};
    char sql[64];
    board_init(&b);
    struct pg_config *pg = configure(pgcluster_url(cluster));
    struct pool *pool = make_pool(pg, 1, 10);
    struct pool *killer = make_pool(pg, 1, 10);
    pool_submit(pool, job, &task);
    wait_done(&b, 1);
    snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%d, 5000)", b.pids[0]);
    struct task kill = {&b, 1, sql};
    pool_submit(killer, job, &kill);
    wait_done(&b, 2);
    pool_submit(pool, job, &task);
    wait_done(&b, 3);
    assert_int_not_equal(b.pids[2], b.pids[0]);
    assert_int_not_equal(b.pids[2], 0);
    assert_string_equal(b.sqlstate, "");
    pool_free(killer);
    pool_free(pool);
    pg_config_free(pg);
}

static void test_without_a_server_jobs_get_the_reason(void **state)
{
    (void)state;
    struct board b;
    struct task task = {&b, 0, "SELECT 1"};
    char url[128];
    board_init(&b);
    snprintf(url, sizeof(url), "postgres://postgres@127.0.0.1:%d/nothere",
             pgcluster_port(cluster));
    struct pg_config *pg = configure(url);
    struct pool *pool = make_pool(pg, 1, 10);
    pool_submit(pool, job, &task);
    wait_done(&b, 1);
    assert_int_equal(b.without_conn, 1);
    assert_int_equal(b.why, ERR_FATAL);
    pool_free(pool);
    pg_config_free(pg);
}

static void test_cancel_ends_only_the_jobs_of_that_context(void **state)
{
    (void)state;
    struct board long_board;
    struct board other_board;
    struct task long_task = {&long_board, 0, "SELECT pg_sleep(60)"};
    struct task other_task = {&other_board, 1, "SELECT pg_sleep(0.5)"};
    board_init(&long_board);
    board_init(&other_board);
    struct pg_config *pg = configure(pgcluster_url(cluster));
    struct pool *pool = make_pool(pg, 2, 10);
    pool_submit(pool, job, &long_task);
    pool_submit(pool, job, &other_task);
    wait_running(&long_board);
    wait_running(&other_board);
    /* The query may not have begun yet: a cancel that comes too early has no effect. */
    for (int i = 0; i < 100 && done(&long_board) == 0; i++) {
        pool_cancel(pool, &long_task);
        clock_sleep_ms(20);
    }
    wait_done(&long_board, 1);
    assert_string_equal(long_board.sqlstate, "57014");
    wait_done(&other_board, 1);
    assert_string_equal(other_board.sqlstate, "");
    pool_free(pool);
    pg_config_free(pg);
}

static void test_closing_cancels_what_runs_and_calls_what_waits(void **state)
{
    (void)state;
    struct board b;
    struct task task = {&b, 0, "SELECT pg_sleep(60)"};
    board_init(&b);
    struct pg_config *pg = configure(pgcluster_url(cluster));
    struct pool *pool = make_pool(pg, 1, 10);
    for (int i = 0; i < 5; i++)
        assert_int_equal(pool_submit(pool, job, &task), 0);
    wait_running(&b);
    int64_t begin = clock_mono_ms();
    pool_free(pool);
    assert_true(clock_mono_ms() - begin < 5000);
    assert_int_equal(b.done, 5);
    assert_true(b.without_conn >= 4);
    assert_int_equal(b.why, ERR_CANCELLED);
    pg_config_free(pg);
}

static void sleep_for_long(void *ctx, PGconn *conn, const struct err *why)
{
    atomic_int *pid = ctx;
    (void)why;
    atomic_store(pid, PQbackendPID(conn));
    PQclear(PQexec(conn, "SELECT pg_sleep(60)"));
}

static void test_closing_does_not_wait_for_a_postgres_that_hangs(void **state)
{
    (void)state;
    atomic_int pid = 0;
    struct pg_config *pg = configure(pgcluster_url(cluster));
    struct pool *pool = make_pool(pg, 1, 10);
    assert_int_equal(pool_submit(pool, sleep_for_long, &pid), 0);
    for (int i = 0; i < 5000 && atomic_load(&pid) == 0; i++)
        clock_sleep_ms(1);
    assert_int_not_equal(atomic_load(&pid), 0);
    clock_sleep_ms(50);
    assert_int_equal(kill(atomic_load(&pid), SIGSTOP), 0);
    int64_t begin = clock_mono_ms();
    pool_free(pool);
    int64_t took = clock_mono_ms() - begin;
    assert_int_equal(kill(atomic_load(&pid), SIGCONT), 0);
    assert_true(took < 5000);
    pg_config_free(pg);
}

static void test_an_unused_pool_makes_no_connection(void **state)
{
    (void)state;
    struct pg_config *pg = configure("postgres://u@127.0.0.1:1/d");
    pool_free(make_pool(pg, 4, 10));
    pool_free(NULL);
    pg_config_free(pg);
}

static int setup(void **state)
{
    (void)state;
    cluster = pgcluster_new(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pgcluster_free(cluster);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jobs_begin_in_order_on_one_connection),
        cmocka_unit_test(test_jobs_run_at_the_same_time_up_to_the_maximum),
        cmocka_unit_test(test_a_full_queue_refuses),
        cmocka_unit_test(test_jobs_aside_leave_room),
        cmocka_unit_test(test_closing_calls_the_jobs_aside),
        cmocka_unit_test(test_a_connection_left_in_a_transaction_is_closed),
        cmocka_unit_test(test_a_connection_that_died_while_idle_is_replaced),
        cmocka_unit_test(test_without_a_server_jobs_get_the_reason),
        cmocka_unit_test(test_cancel_ends_only_the_jobs_of_that_context),
        cmocka_unit_test(test_closing_cancels_what_runs_and_calls_what_waits),
        cmocka_unit_test(test_closing_does_not_wait_for_a_postgres_that_hangs),
        cmocka_unit_test(test_an_unused_pool_makes_no_connection),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
