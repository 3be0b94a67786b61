/* Whether the logs may go on: every way in which what the stream comes from can differ from
 * what they were made from, at the edge. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/shape/internal.h"

struct fixture {
    char dir[64];
    struct sequencer *q;
    struct sequencer_attach attach; /* the one that was told last */
    unsigned reconnects;
};

static void nothing(void *ctx)
{
    (void)ctx;
}

static void count_reconnect(void *ctx)
{
    struct fixture *f = ctx;
    f->reconnects++;
}

/* A new process on the same storage. */
static void reopen(struct fixture *f)
{
    struct sequencer_config config = {
        .shapelog = {.dir = f->dir, .chunk_bytes = 700, .max_open_files = 8},
        .slot = "s",
        .database = "d",
    };
    struct sequencer_stream stream = {f, nothing, count_reconnect, nothing};
    if (f->q != NULL) {
        sequencer_finish(f->q);
        sequencer_free(f->q);
    }
    assert_int_equal(sequencer_new(&config, &f->q, NULL), 0);
    sequencer_set_stream(f->q, &stream);
}

static void attach(struct fixture *f)
{
    assert_int_equal(sequencer_attached(f->q, &f->attach, NULL), 0);
}

/* Attached on timeline 3, everything before 1000 heard. */
static void fixture_init(struct fixture *f)
{
    *f = (struct fixture){.dir = "/tmp/coulomb-origin-XXXXXX"};
    assert_non_null(mkdtemp(f->dir));
    reopen(f);
    f->attach = (struct sequencer_attach){.system_id = "7",
                                          .timeline = 3,
                                          .slot_created = true,
                                          .confirmed_lsn = 900,
                                          .wal_flush_lsn = 1000,
                                          .wal_insert_lsn = 1000};
    attach(f);
    f->attach.slot_created = false;
    sequencer_wal_end(f->q, 1000);
}

static void fixture_fini(struct fixture *f)
{
    sequencer_finish(f->q);
    sequencer_free(f->q);
    assert_int_equal(shapelog_destroy(f->dir, NULL), 0);
}

/* What was heard stays where the logs go on, and is forgotten with them. */
static bool went_on(const struct fixture *f)
{
    return f->q->wal_end == 1000;
}

static uint32_t stored_timeline(struct fixture *f)
{
    struct shapelog_origin origin;
    assert_int_equal(shapelog_origin_get(f->q->shapelog, &origin), 0);
    return origin.timeline;
}

static void the_same_again_goes_on(void **state)
{
    struct fixture f;
    (void)state;
    fixture_init(&f);
    attach(&f);
    assert_true(went_on(&f));
    fixture_fini(&f);
}

static bool goes_on_with(void (*change)(struct sequencer_attach *attach))
{
    struct fixture f;
    fixture_init(&f);
    change(&f.attach);
    attach(&f);
    bool on = went_on(&f);
    uint32_t timeline = f.attach.timeline;
    assert_int_equal(stored_timeline(&f), timeline);
    reopen(&f);
    assert_int_equal(stored_timeline(&f), timeline);
    fixture_fini(&f);
    return on;
}

static void another_cluster(struct sequencer_attach *a)
{
    a->system_id = "8";
}

static void a_new_slot(struct sequencer_attach *a)
{
    a->slot_created = true;
}

static void a_slot_ahead_of_the_storage(struct sequencer_attach *a)
{
    a->confirmed_lsn = 1002;
}

static void wal_that_ends_where_it_was_heard(struct sequencer_attach *a)
{
    a->wal_flush_lsn = 1000;
}

static void wal_that_ends_before(struct sequencer_attach *a)
{
    a->wal_flush_lsn = 999;
}

static void differences_are_seen(void **state)
{
    (void)state;
    assert_false(goes_on_with(another_cluster));
    assert_false(goes_on_with(a_new_slot));
    assert_false(goes_on_with(a_slot_ahead_of_the_storage));
    assert_true(goes_on_with(wal_that_ends_where_it_was_heard));
    assert_false(goes_on_with(wal_that_ends_before));
}

/* --- Timelines --- */

static const struct sequencer_switch history[] = {{1, 10}, {3, 1000}, {4, 1200}};
static const struct sequencer_switch early[] = {{1, 10}, {3, 999}};
static const struct sequencer_switch aside[] = {{1, 10}, {2, 5000}};

static void one_that_left_at_the_end(struct sequencer_attach *a)
{
    *a = (struct sequencer_attach){"7", 5, history, 3, false, true, 900, 1300, 1300, 0};
}

static void one_that_left_before_the_end(struct sequencer_attach *a)
{
    *a = (struct sequencer_attach){"7", 5, early, 2, false, true, 900, 1300, 1300, 0};
}

static void one_beside(struct sequencer_attach *a)
{
    *a = (struct sequencer_attach){"7", 5, aside, 2, false, true, 900, 1300, 1300, 0};
}

static void one_of_unknown_history(struct sequencer_attach *a)
{
    *a = (struct sequencer_attach){"7", 5, NULL, 0, false, true, 900, 1300, 1300, 0};
}

static void an_earlier_one(struct sequencer_attach *a)
{
    *a = (struct sequencer_attach){"7", 2, history, 1, false, true, 900, 1300, 1300, 0};
}

static void one_with_a_new_slot(struct sequencer_attach *a)
{
    one_that_left_at_the_end(a);
    a->slot_created = true;
}

static void a_timeline_is_followed_where_nothing_was_lost(void **state)
{
    (void)state;
    assert_true(goes_on_with(one_that_left_at_the_end));
    assert_false(goes_on_with(one_that_left_before_the_end));
    assert_false(goes_on_with(one_beside));
    assert_false(goes_on_with(one_of_unknown_history));
    assert_false(goes_on_with(an_earlier_one));
    assert_false(goes_on_with(one_with_a_new_slot));
}

/* --- The commit that must come again --- */

static void a_commit_that_does_not_come_again_tells_of_another_past(void **state)
{
    struct fixture f;
    (void)state;
    fixture_init(&f);
    f.q->repeat_lsn = 950;
    assert_int_equal(origin_repeated(f.q, 940, NULL), 0);
    assert_int_equal(origin_repeated(f.q, 950, NULL), 0);
    assert_int_equal(origin_repeated(f.q, 960, NULL), 0);
    assert_true(went_on(&f));
    f.q->repeat_lsn = 950;
    assert_int_equal(origin_repeated(f.q, 951, NULL), ERR_RETRY);
    assert_false(went_on(&f));
    assert_int_equal(sequencer_flushed_lsn(f.q), 900);
    assert_int_equal(origin_repeated(f.q, 960, NULL), 0);

    /* Nor at all until replay is over. */
    sequencer_wal_end(f.q, 1000);
    f.q->repeat_lsn = 950;
    sequencer_drained(f.q, NULL);
    assert_int_equal(f.reconnects, 1);
    assert_false(went_on(&f));
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_again_goes_on),
        cmocka_unit_test(differences_are_seen),
        cmocka_unit_test(a_timeline_is_followed_where_nothing_was_lost),
        cmocka_unit_test(a_commit_that_does_not_come_again_tells_of_another_past),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
