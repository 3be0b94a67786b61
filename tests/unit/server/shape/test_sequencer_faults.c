/* The sequencer's file without memory: what must be told is told all the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/clock.h"
#include "server/shape/internal.h"
#include "support/alloc_faults.h"

#include "server/shape/sequencer.c" /* NOLINT(bugprone-suspicious-include) */

struct fixture {
    char dir[64];
    struct obs obs;
    struct sequencer *q;
};

static void nothing(void *ctx)
{
    (void)ctx;
}

static void fixture_init(struct fixture *f)
{
    *f = (struct fixture){.dir = "/tmp/coulomb-faults-XXXXXX"};
    assert_non_null(mkdtemp(f->dir));
    obs_init(&f->obs);
    struct sequencer_config config = {
        .obs = &f->obs,
        .shapelog = {.dir = f->dir,
                     .chunk_bytes = 700,
                     .max_open_files = 64,
                     .obs = &f->obs},
        .slot = "s",
        .database = "d",
    };
    assert_int_equal(sequencer_new(&config, &f->q, NULL), 0);
    struct sequencer_stream stream = {NULL, nothing, nothing, nothing};
    sequencer_set_stream(f->q, &stream);
}

static void fixture_fini(struct fixture *f)
{
    alloc_fail_nth(0);
    sequencer_finish(f->q);
    sequencer_free(f->q);
    assert_int_equal(shapelog_destroy(f->dir, NULL), 0);
}

/* Asks for a checkpoint and waits until it has told what it came to. */
static void checkpoint(struct sequencer *q, uint64_t lsn)
{
    struct mail *mail = NULL;
    q->wal_end = lsn;
    q->unsaved = true;
    q->next_checkpoint_ms = 0;
    alloc_fail_nth(1);
    checkpoint_if_due(q, clock_mono_ms());
    assert_true(q->checkpoint_running);
    for (int i = 0; i < 5000 && mail == NULL; i++) {
        clock_sleep_ms(1);
        mail = mailbox_take(&q->mailbox);
    }
    assert_non_null(mail);
    assert_null(mail->next);
    sequencer_open_mail(q, mail);
}

/* Or there would never be another, and the slot would keep WAL for ever. */
static void a_checkpoint_is_heard_of_without_memory(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    for (uint64_t lsn = 100; lsn < 103; lsn++) {
        checkpoint(f.q, lsn);
        assert_false(f.q->checkpoint_running);
        assert_int_equal(sequencer_flushed_lsn(f.q), lsn);
    }
    fixture_fini(&f);
}

static void a_failed_checkpoint_is_heard_of_without_memory(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct err err = {.code = ERR_IO, .message = "the disk is full"};
    f.q->checkpoint_running = true;
    alloc_fail_nth(1);
    on_checkpoint_failed(f.q, &err);
    struct mail *mail = mailbox_take(&f.q->mailbox);
    assert_non_null(mail);
    sequencer_open_mail(f.q, mail);
    assert_false(f.q->checkpoint_running);
    assert_true(f.q->unsaved);
    fixture_fini(&f);
}

static bool is_healthy(struct sequencer *q, const char *why)
{
    struct shapes_health h;
    shapes_health(&q->shapes, &h);
    if (h.service == SHAPES_ACTIVE)
        assert_string_equal(h.detail, "");
    else if (strstr(h.detail, why) == NULL)
        fail_msg("expected '%s' in: %s", why, h.detail);
    return h.service == SHAPES_ACTIVE;
}

/* Healthy is who follows: each of the conditions alone can say no. */
static void health_is_active_only_while_all_is_well(void **state)
{
    (void)state;
    struct fixture f;
    struct mail_probed probed = {.mail.kind = MAIL_PROBED, .wal_lsn = 1};
    struct sequencer_attach attach = {.system_id = "1",
                                      .timeline = 1,
                                      .slot_created = true,
                                      .confirmed_lsn = 500,
                                      .wal_flush_lsn = 600,
                                      .wal_insert_lsn = 600};
    fixture_init(&f);
    alloc_fail_nth(0);
    assert_false(is_healthy(f.q, "being set up"));
    assert_int_equal(sequencer_attached(f.q, &attach, NULL), 0);
    sequencer_streaming(f.q);
    sequencer_drained(f.q, NULL);
    assert_false(is_healthy(f.q, "100 bytes are left")); /* 600 - 500 */
    sequencer_wal_end(f.q, 600);
    sequencer_drained(f.q, NULL);
    assert_false(is_healthy(f.q, "not yet answered"));
    sequencer_open_mail(f.q, &probed.mail);
    assert_true(is_healthy(f.q, ""));

    /* Not the sequencer's own mail, which a checkpoint that runs may be writing. */
    struct mail_durable over = {.mail.kind = MAIL_CHECKPOINT_FAILED};
    f.q->checkpoint_stale = false;
    checkpoint_over(f.q, &over);
    assert_false(is_healthy(f.q, "can't be written"));
    over.mail.kind = MAIL_DURABLE;
    checkpoint_over(f.q, &over);
    assert_true(is_healthy(f.q, ""));

    atomic_store(&f.q->shapes.heard_ms, clock_mono_ms() - 40000);
    assert_false(is_healthy(f.q, "has said nothing for 40 s"));
    sequencer_drained(f.q, NULL);
    probed = (struct mail_probed){.mail.kind = MAIL_PROBED, .err.message = "no way"};
    sequencer_open_mail(f.q, &probed.mail);
    assert_true(is_healthy(f.q, "")); /* once is nothing */
    atomic_store(&f.q->shapes.asked_ms, clock_mono_ms() - 20000);
    assert_false(is_healthy(f.q, "no way"));
    sequencer_lost(f.q, "it is gone");
    assert_false(is_healthy(f.q, "it is gone"));
    fixture_fini(&f);
}

static int64_t lag_ms(struct sequencer *q)
{
    struct shapes_health h;
    shapes_health(&q->shapes, &h);
    return h.lag_ms;
}

static void the_lag_falls_when_what_was_there_is_published(void **state)
{
    (void)state;
    struct fixture f;
    struct mail_probed probed = {.mail.kind = MAIL_PROBED, .wal_lsn = 1000};
    fixture_init(&f);
    alloc_fail_nth(0);
    int64_t now = clock_mono_ms();
    atomic_store(&f.q->shapes.fresh_ms, now - 60000);
    assert_true(lag_ms(f.q) >= 60000);
    probed.asked_ms = now - 5000;
    fresh_probed(f.q, &probed);
    assert_true(lag_ms(f.q) >= 60000); /* the WAL is at 1000, and we are not */
    probed.wal_lsn = 2000;
    probed.asked_ms = now - 1000;
    fresh_probed(f.q, &probed); /* the older one is waited for */
    sequencer_wal_end(f.q, 999);
    fresh_look(f.q);
    assert_true(lag_ms(f.q) >= 60000);
    sequencer_wal_end(f.q, 1000);
    f.q->txn_open = true;
    fresh_look(f.q);
    assert_true(lag_ms(f.q) >= 60000);
    f.q->txn_open = false;
    fresh_look(f.q);
    assert_true(lag_ms(f.q) >= 5000 && lag_ms(f.q) < 60000);

    /* A commit of 3 s ago, on a clock that is an hour ahead. */
    f.q->clock_ahead_us = INT64_C(3600000000);
    f.q->processed_commit_us = clock_wall_us() + f.q->clock_ahead_us - 3000000;
    fresh_published(f.q);
    assert_true(lag_ms(f.q) >= 2900 && lag_ms(f.q) < 5000);
    f.q->processed_commit_us = 0;
    fresh_published(f.q);
    assert_true(lag_ms(f.q) < 5000);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_is_heard_of_without_memory),
        cmocka_unit_test(a_failed_checkpoint_is_heard_of_without_memory),
        cmocka_unit_test(health_is_active_only_while_all_is_well),
        cmocka_unit_test(the_lag_falls_when_what_was_there_is_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
