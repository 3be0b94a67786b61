/* What a snapshot holds: parsing, and visibility of 32-bit transaction ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "server/snapshot/snapshot.h"

static struct snapshot_view parse(const char *text)
{
    struct snapshot_view view;
    struct err err;

    assert_int_equal(snapshot_view_parse(slice_of(text), &view, &err), 0);
    return view;
}

static void text_of_a_snapshot_is_parsed(void **state)
{
    struct snapshot_view view = parse("740:744:");

    (void)state;
    assert_int_equal(view.xmin, 740);
    assert_int_equal(view.xmax, 744);
    assert_int_equal(view.xip_count, 0);
    snapshot_view_fini(&view);
    view = parse("4294967990:4294968010:4294967990,4294968000");
    assert_int_equal(view.xmin, 4294967990u);
    assert_true(view.xmax == UINT64_C(4294968010));
    assert_int_equal(view.xip_count, 2);
    assert_true(view.xip[1] == UINT64_C(4294968000));
    snapshot_view_fini(&view);
    assert_null(view.xip);
}

static void malformed_snapshots_are_refused(void **state)
{
    static const char *const texts[] = {
        "",       "740",       "740:",      "740:744",    ":744:",        "740::",
        "a:744:", "740:744:x", "740:744:,", "740:744:1,", "740:744:741,", "744:740:",
        "1:5:5",  "3:5:2",     "1:5:4,3",   "-1:5:",      " 1:5:",        "1:5:2:3",
    };
    struct snapshot_view view;
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(snapshot_view_parse(slice_of(texts[i]), &view, &err),
                         ERR_INVALID);
        assert_null(view.xip);
        assert_int_equal(view.xip_count, 0);
    }
}

static void too_many_transactions_in_progress_are_refused(void **state)
{
    struct snapshot_view view;
    struct buf text;

    (void)state;
    buf_init(&text, 1 << 20);
    buf_puts(&text, "1:100000:1");
    for (unsigned i = 2; i <= SNAPSHOT_XIP_MAX; i++) {
        buf_putc(&text, ',');
        buf_put_u64(&text, i);
    }
    assert_int_equal(snapshot_view_parse(buf_slice(&text), &view, NULL), 0);
    assert_int_equal(view.xip_count, SNAPSHOT_XIP_MAX);
    assert_false(snapshot_sees(&view, SNAPSHOT_XIP_MAX));
    assert_true(snapshot_sees(&view, SNAPSHOT_XIP_MAX + 1));
    snapshot_view_fini(&view);
    buf_puts(&text, ",70000");
    assert_int_equal(snapshot_view_parse(buf_slice(&text), &view, NULL), ERR_LIMIT);
    buf_fini(&text);
}

static void finished_transactions_are_seen_and_others_not(void **state)
{
    struct snapshot_view view = parse("740:750:740,745");

    (void)state;
    assert_true(snapshot_sees(&view, 3));
    assert_true(snapshot_sees(&view, 739));
    assert_false(snapshot_sees(&view, 740));
    assert_true(snapshot_sees(&view, 741));
    assert_true(snapshot_sees(&view, 744));
    assert_false(snapshot_sees(&view, 745));
    assert_true(snapshot_sees(&view, 749));
    assert_false(snapshot_sees(&view, 750));
    assert_false(snapshot_sees(&view, 751));
    assert_false(snapshot_sees(&view, 2000000000));
    snapshot_view_fini(&view);
}

static void ids_of_a_later_epoch_are_compared_by_their_whole_value(void **state)
{
    /* xmin and xmax in epoch 3; xip holds 3 * 2^32 + 1005. */
    struct snapshot_view view = parse("12884902888:12884902898:12884902893");

    (void)state;
    assert_true(snapshot_sees(&view, 999));
    assert_true(snapshot_sees(&view, 1001));
    assert_false(snapshot_sees(&view, 1005));
    assert_true(snapshot_sees(&view, 1006));
    assert_false(snapshot_sees(&view, 1010));
    /* Just below the wraparound: older than 1000 of the next epoch. */
    assert_true(snapshot_sees(&view, UINT32_MAX));
    snapshot_view_fini(&view);
}

static void snapshot_across_the_wraparound(void **state)
{
    /* From 2^32 - 6 to 2^32 + 10; in progress 2^32 - 3 and 2^32 + 4. */
    struct snapshot_view view = parse("4294967290:4294967306:4294967293,4294967300");

    (void)state;
    assert_true(snapshot_sees(&view, 4294967289u));
    assert_true(snapshot_sees(&view, 4294967292u));
    assert_false(snapshot_sees(&view, 4294967293u));
    assert_true(snapshot_sees(&view, 4294967295u));
    assert_true(snapshot_sees(&view, 3));
    assert_false(snapshot_sees(&view, 4));
    assert_true(snapshot_sees(&view, 9));
    assert_false(snapshot_sees(&view, 10));
    assert_false(snapshot_sees(&view, 11));
    snapshot_view_fini(&view);
}

static void
transaction_after_the_wraparound_is_newer_than_a_snapshot_before_it(void **state)
{
    struct snapshot_view view = parse("4294967290:4294967294:");

    (void)state;
    assert_true(snapshot_sees(&view, 4294967293u));
    assert_false(snapshot_sees(&view, 4294967294u));
    assert_false(snapshot_sees(&view, 3));
    assert_false(snapshot_sees(&view, 2000000000));
    snapshot_view_fini(&view);
}

static void no_id_lies_before_the_first_epoch(void **state)
{
    struct snapshot_view view = parse("700:744:");

    (void)state;
    assert_false(snapshot_sees(&view, UINT32_MAX));
    assert_false(snapshot_sees(&view, UINT32_C(0x80000000) + 800));
    snapshot_view_fini(&view);
}

/* Against the 64-bit truth, around many places of the id space. */
static void visibility_equals_that_of_the_whole_ids(void **state)
{
    static const uint64_t bases[] = {
        1000,
        UINT64_C(0x7ffffff0),
        UINT64_C(0x80000010),
        UINT64_C(0xfffffff0),
        UINT64_C(0x100000000),
        UINT64_C(0x17ffffff8),
        UINT64_C(0x2fffffffc),
        UINT64_C(0x7fffffff00000000),
    };

    (void)state;
    for (size_t b = 0; b < sizeof(bases) / sizeof(bases[0]); b++) {
        uint64_t xip[] = {bases[b], bases[b] + 3, bases[b] + 17};
        struct snapshot_view view = {
            .xmin = bases[b], .xmax = bases[b] + 20, .xip = xip, .xip_count = 3};

        for (uint64_t x = bases[b] - 40; x < bases[b] + 60; x++) {
            bool sees = x < view.xmax && x != xip[0] && x != xip[1] && x != xip[2];

            assert_int_equal(snapshot_sees(&view, (uint32_t)x), sees);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_of_a_snapshot_is_parsed),
        cmocka_unit_test(malformed_snapshots_are_refused),
        cmocka_unit_test(too_many_transactions_in_progress_are_refused),
        cmocka_unit_test(finished_transactions_are_seen_and_others_not),
        cmocka_unit_test(ids_of_a_later_epoch_are_compared_by_their_whole_value),
        cmocka_unit_test(snapshot_across_the_wraparound),
        cmocka_unit_test(
            transaction_after_the_wraparound_is_newer_than_a_snapshot_before_it),
        cmocka_unit_test(no_id_lies_before_the_first_epoch),
        cmocka_unit_test(visibility_equals_that_of_the_whole_ids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
