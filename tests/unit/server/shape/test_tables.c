/* Tables in use: one place for each in the publication, whoever comes and goes. Without
 * Postgres: the jobs find no connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "server/shape/internal.h"

struct fixture {
    char dir[64];
    struct obs obs;
    struct pg_config *pg;
    struct pool *pool;
    struct catalog *catalog;
    struct sequencer *q;
};

static void nothing(void *ctx)
{
    (void)ctx;
}

static void fixture_init(struct fixture *f)
{
    *f = (struct fixture){.dir = "/tmp/coulomb-tables-XXXXXX"};
    assert_non_null(mkdtemp(f->dir));
    obs_init(&f->obs);
    struct pg_options options = {.url = "postgresql://nobody@127.0.0.1:1/nothing"};
    assert_int_equal(pg_config_new(&options, &f->pg, NULL), 0);
    struct pool_config pool = {.pg = f->pg,
                               .name = "none",
                               .max_connections = 1,
                               .max_queued = 1000,
                               .connect_timeout_ms = 100};
    assert_int_equal(pool_new(&pool, &f->pool, NULL), 0);
    assert_int_equal(catalog_new(f->pool, &f->catalog), 0);
    struct sequencer_config config = {
        .obs = &f->obs,
        .admin_pool = f->pool,
        .snapshot_pool = f->pool,
        .catalog = f->catalog,
        .publication = {.name = "p"},
        .shapelog = {.dir = f->dir,
                     .chunk_bytes = 700,
                     .max_open_files = 64,
                     .obs = &f->obs},
        .slot = "s",
        .database = "d",
        .reconcile_period_ms = 60000,
        .first_row_timeout_ms = 1000,
    };
    assert_int_equal(sequencer_new(&config, &f->q, NULL), 0);
    struct sequencer_stream stream = {NULL, nothing, nothing, nothing};
    sequencer_set_stream(f->q, &stream);
}

static void fixture_fini(struct fixture *f)
{
    sequencer_finish(f->q);
    pool_free(f->pool);
    sequencer_free(f->q);
    catalog_free(f->catalog);
    pg_config_free(f->pg);
    assert_int_equal(shapelog_destroy(f->dir, NULL), 0);
}

static struct table *table_named(struct slice name)
{
    struct table_column column = {
        .name = SLICE_LIT("id"), .type_name = SLICE_LIT("int4"), .type_oid = 23};
    struct table model = {.oid = 1000,
                          .schema = SLICE_LIT("public"),
                          .name = name,
                          .kind = 'r',
                          .column_count = 1,
                          .columns = &column};
    return table_copy(&model);
}

/* Waits for one job to tell that it is through. */
static void open_next_mail(struct fixture *f)
{
    struct mail *mail = NULL;
    for (int i = 0; i < 5000 && mail == NULL; i++) {
        clock_sleep_ms(1);
        mail = mailbox_take(&f->q->mailbox);
    }
    assert_non_null(mail);
    assert_null(mail->next);
    sequencer_open_mail(f->q, mail);
}

/* Or the job would take the table from under the new shape, which had waited for nobody. */
static void a_table_that_is_leaving_is_the_same_to_its_next_shape(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct table *t = table_named(SLICE_LIT("a"));
    struct table_use *use = table_use_get(f.q, t);
    assert_non_null(use);
    table_use_put(f.q, use);
    tables_leave_idle(f.q, clock_mono_ms() + 1000);
    assert_ptr_equal(table_use_get(f.q, t), use);
    open_next_mail(&f);
    assert_int_equal(f.q->tables.len, 1);
    table_use_put(f.q, use);
    tables_leave_idle(f.q, clock_mono_ms() + 1000);
    open_next_mail(&f);
    assert_int_equal(f.q->tables.len, 0);
    table_release(t);
    fixture_fini(&f);
}

/* Or every check of the catalog would find the table gone under its old name. */
static void a_renamed_table_is_known_by_its_new_name(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct table *a = table_named(SLICE_LIT("a"));
    struct table *b = table_named(SLICE_LIT("b"));
    struct table_use *use = table_use_get(f.q, a);
    assert_ptr_equal(table_use_get(f.q, b), use);
    assert_true(slice_eq(use->table->name, SLICE_LIT("b")));
    table_release(a);
    table_release(b);
    fixture_fini(&f);
}

/* A worker may hold it for seconds while it waits for a lock in Postgres. */
static void the_sequencer_does_not_wait_for_the_lock_of_a_table(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct table *t = table_named(SLICE_LIT("a"));
    struct table_use *use = table_use_get(f.q, t);
    atomic_store(&use->ensured, true);
    pthread_mutex_lock(&use->lock);
    reconcile_start(f.q, clock_mono_ms()); /* would not return */
    open_next_mail(&f);
    pthread_mutex_unlock(&use->lock);
    table_release(t);
    fixture_fini(&f);
}

static void a_worker_gives_up_the_lock_when_the_server_stops(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct table *t = table_named(SLICE_LIT("a"));
    struct table_use *use = table_use_get(f.q, t);
    assert_true(table_use_lock(f.q, use));
    sequencer_request_stop(f.q);
    assert_false(table_use_lock(f.q, use));
    table_use_unlock(use);
    table_release(t);
    fixture_fini(&f);
}

static void what_was_read_is_known_by_its_stamp(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct table *t = table_named(SLICE_LIT("a"));
    struct table *now = table_named(SLICE_LIT("a"));
    struct table_use *use = table_use_get(f.q, t);
    assert_null(table_use_known(use, SLICE_LIT("1")));
    table_use_learn(use, SLICE_LIT(""), t); /* a stamp that says nothing */
    assert_null(table_use_known(use, SLICE_LIT("")));
    table_use_learn(use, SLICE_LIT("1"), t);
    table_use_learn(use, SLICE_LIT("2"), now);
    assert_null(table_use_known(use, SLICE_LIT("1")));
    struct table *known = table_use_known(use, SLICE_LIT("2"));
    assert_ptr_equal(known, now);
    table_release(known);
    table_use_put(f.q, use);
    table_release(now);
    table_release(t);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_that_is_leaving_is_the_same_to_its_next_shape),
        cmocka_unit_test(a_renamed_table_is_known_by_its_new_name),
        cmocka_unit_test(the_sequencer_does_not_wait_for_the_lock_of_a_table),
        cmocka_unit_test(a_worker_gives_up_the_lock_when_the_server_stops),
        cmocka_unit_test(what_was_read_is_known_by_its_stamp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
