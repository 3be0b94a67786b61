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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_is_heard_of_without_memory),
        cmocka_unit_test(a_failed_checkpoint_is_heard_of_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
