/* Messages to transactions, written down call by call and compared as text. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/txn/txn.h"
#include "support/capture.h"
#include "support/frame.h"

#define LONG_VALUE 40 /* longer ones are written as their length */

struct fixture {
    struct frame f;
    struct buf told;   /* a line per sink call */
    bool no_positions; /* leave out what differs between recordings */
    const char *fail;  /* the sink call that fails */
    struct txn *txn;
    struct err err;
};

/* --- The sink --- */

static int answer(struct fixture *x, const char *call, struct err *err)
{
    if (x->fail && strcmp(x->fail, call) == 0)
        return err_set(err, ERR_IO, "the sink failed");
    return 0;
}

static void put_value(struct buf *out, struct value v)
{
    switch (v.kind) {
    case VALUE_NULL:
        buf_putc(out, '~');
        return;
    case VALUE_UNCHANGED:
        buf_putc(out, '^');
        return;
    case VALUE_TEXT:
        if (v.len > LONG_VALUE)
            buf_printf(out, "<%" PRIu32 " bytes>", v.len);
        else
            buf_put(out, v.ptr, v.len);
        return;
    }
}

static void put_row(struct buf *out, const char *label, const struct value *row,
                    unsigned count)
{
    buf_printf(out, " %s", label);
    for (unsigned i = 0; i < count; i++) {
        buf_putc(out, i ? '|' : '=');
        put_value(out, row[i]);
    }
}

static void put_relation(struct buf *out, const struct decode_relation *rel)
{
    buf_put_slice(out, rel->schema);
    buf_putc(out, '.');
    buf_put_slice(out, rel->name);
}

static int on_begin(void *ctx, const struct txn_begin *begin, struct err *err)
{
    struct fixture *x = ctx;

    if (x->no_positions)
        buf_puts(&x->told, "begin\n");
    else
        buf_printf(&x->told, "begin %" PRIu64 " at %" PRId64 " xid %" PRIu32 "\n",
                   begin->lsn, begin->commit_us, begin->xid);
    return answer(x, "begin", err);
}

static int on_relation(void *ctx, const struct decode_relation *rel, struct err *err)
{
    struct fixture *x = ctx;

    buf_puts(&x->told, "relation ");
    put_relation(&x->told, rel);
    buf_printf(&x->told, " %c", rel->replica_identity);
    for (unsigned i = 0; i < rel->column_count; i++) {
        buf_puts(&x->told, rel->columns[i].in_identity ? " *" : " ");
        buf_put_slice(&x->told, rel->columns[i].name);
    }
    buf_putc(&x->told, '\n');
    return answer(x, "relation", err);
}

static int on_change(void *ctx, const struct txn_change *change, struct err *err)
{
    static const char *const ops[] = {"insert", "update", "delete"};
    struct fixture *x = ctx;
    unsigned count = change->relation->column_count;

    buf_printf(&x->told, "%" PRIu64 " %s ", change->position, ops[change->op]);
    put_relation(&x->told, change->relation);
    if (change->old)
        put_row(&x->told, "old", change->old, count);
    if (change->row)
        put_row(&x->told, "row", change->row, count);
    buf_putc(&x->told, '\n');
    return answer(x, "change", err);
}

static int on_truncate(void *ctx, const struct decode_relation *rel, uint64_t position,
                       struct err *err)
{
    struct fixture *x = ctx;

    buf_printf(&x->told, "%" PRIu64 " truncate ", position);
    put_relation(&x->told, rel);
    buf_putc(&x->told, '\n');
    return answer(x, "truncate", err);
}

static int on_identity_lost(void *ctx, const struct decode_relation *rel, struct err *err)
{
    struct fixture *x = ctx;

    buf_puts(&x->told, "identity_lost ");
    put_relation(&x->told, rel);
    buf_putc(&x->told, '\n');
    return answer(x, "identity_lost", err);
}

static int on_commit(void *ctx, uint64_t lsn, uint64_t end_lsn, struct err *err)
{
    struct fixture *x = ctx;

    if (x->no_positions)
        buf_puts(&x->told, "commit\n");
    else
        buf_printf(&x->told, "commit %" PRIu64 " to %" PRIu64 "\n", lsn, end_lsn);
    return answer(x, "commit", err);
}

static void on_abandon(void *ctx)
{
    struct fixture *x = ctx;

    buf_puts(&x->told, "abandon\n");
}

/* --- The fixture --- */

static int set_up(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    struct txn_sink sink = {.ctx = x,
                            .begin = on_begin,
                            .relation = on_relation,
                            .change = on_change,
                            .truncate = on_truncate,
                            .identity_lost = on_identity_lost,
                            .commit = on_commit,
                            .abandon = on_abandon};

    if (!x)
        return -1;
    frame_init(&x->f);
    buf_init(&x->told, 1u << 20);
    x->txn = txn_new(&sink);
    *state = x;
    return x->txn ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *x = *state;

    txn_free(x->txn);
    frame_fini(&x->f);
    buf_fini(&x->told);
    free(x);
    return 0;
}

static int feed_rc(struct fixture *x)
{
    /* A copy that goes at once: nothing may point into a frame of the past. */
    struct slice s = frame_slice(&x->f);
    char *bytes = malloc(s.len);
    int rc;

    assert_non_null(bytes);
    memcpy(bytes, s.ptr, s.len);
    rc = txn_feed(x->txn, slice_make(bytes, s.len), &x->err);
    free(bytes);
    return rc;
}

static void feed(struct fixture *x)
{
    if (feed_rc(x) != 0)
        fail_msg("%s", x->err.message);
}

static void refuse(struct fixture *x, const char *words)
{
    assert_int_equal(feed_rc(x), ERR_CORRUPT);
    if (!strstr(x->err.message, words))
        fail_msg("expected '%s' in: %s", words, x->err.message);
}

/* What the sink was told since the last look. */
static void assert_told(struct fixture *x, const char *lines)
{
    buf_putc(&x->told, '\0');
    assert_int_equal(x->told.failed, 0);
    assert_string_equal(x->told.ptr, lines);
    buf_reset(&x->told, SIZE_MAX);
}

/* Relation 1 with columns id and t, and a transaction begun at 100. */
static void begin(struct fixture *x)
{
    frame_relation(&x->f, 1, "public", "items", 'f', "*id:23,*t:25");
    feed(x);
    frame_begin(&x->f, 100, 0, 7);
    feed(x);
    buf_reset(&x->told, SIZE_MAX);
}

/* --- The tests --- */

static void a_transaction_is_told_in_order_with_its_positions(void **state)
{
    struct fixture *x = *state;

    frame_begin(&x->f, 100, 1000000, 7);
    feed(x);
    assert_true(txn_open(x->txn));
    frame_relation(&x->f, 1, "public", "items", 'f', "*id:23,*t:25");
    feed(x);
    frame_insert(&x->f, 1, "1|a");
    feed(x);
    frame_update(&x->f, 1, 'O', "1|a", "1|~");
    feed(x);
    frame_delete(&x->f, 1, 'O', "1|~");
    feed(x);
    frame_commit(&x->f, 100, 120);
    feed(x);
    assert_false(txn_open(x->txn));
    assert_told(x, "begin 100 at 946684801000000 xid 7\n"
                   "relation public.items f *id *t\n"
                   "0 insert public.items row=1|a\n"
                   "2 update public.items old=1|a row=1|~\n"
                   "4 delete public.items old=1|~\n"
                   "commit 100 to 120\n");
}

static void positions_start_anew_in_each_transaction(void **state)
{
    struct fixture *x = *state;

    begin(x);
    frame_insert(&x->f, 1, "1|a");
    feed(x);
    frame_commit(&x->f, 100, 110);
    feed(x);
    frame_begin(&x->f, 200, 0, 8);
    feed(x);
    frame_insert(&x->f, 1, "2|b");
    feed(x);
    assert_told(x, "0 insert public.items row=1|a\ncommit 100 to 110\n"
                   "begin 200 at 946684800000000 xid 8\n0 insert public.items row=2|b\n");
}

static void unchanged_values_are_filled_from_the_old_row(void **state)
{
    struct fixture *x = *state;

    begin(x);
    frame_update(&x->f, 1, 'O', "1|toasted", "2|^");
    feed(x);
    frame_update(&x->f, 1, 'O', "2|~", "3|^");
    feed(x);
    assert_told(x, "0 update public.items old=1|toasted row=2|toasted\n"
                   "2 update public.items old=2|~ row=3|~\n");
}

static void
a_change_without_the_old_row_loses_the_identity_but_not_its_position(void **state)
{
    struct fixture *x = *state;

    begin(x);
    frame_update(&x->f, 1, 0, NULL, "1|b");
    feed(x);
    frame_update(&x->f, 1, 'K', "1|~", "2|b");
    feed(x);
    frame_delete(&x->f, 1, 'K', "1|~");
    feed(x);
    frame_update(&x->f, 1, 'O', "1|^", "2|b");
    feed(x);
    frame_delete(&x->f, 1, 'O', "1|^");
    feed(x);
    frame_insert(&x->f, 1, "3|c");
    feed(x);
    assert_told(x, "identity_lost public.items\nidentity_lost public.items\n"
                   "identity_lost public.items\nidentity_lost public.items\n"
                   "identity_lost public.items\n10 insert public.items row=3|c\n");
}

static void truncate_takes_a_position_for_each_relation(void **state)
{
    struct fixture *x = *state;
    const uint32_t oids[] = {1, 2};

    begin(x);
    frame_relation(&x->f, 2, "public", "other", 'f', "*a:23");
    feed(x);
    frame_insert(&x->f, 1, "1|a");
    feed(x);
    frame_truncate(&x->f, 0, oids, 2);
    feed(x);
    frame_insert(&x->f, 2, "9");
    feed(x);
    assert_told(x, "relation public.other f *a\n0 insert public.items row=1|a\n"
                   "2 truncate public.items\n4 truncate public.other\n"
                   "6 insert public.other row=9\n");
}

static void a_relation_described_anew_counts_from_there(void **state)
{
    struct fixture *x = *state;

    begin(x);
    frame_insert(&x->f, 1, "1|a");
    feed(x);
    frame_relation(&x->f, 1, "public", "items", 'f', "*id:23");
    feed(x);
    frame_insert(&x->f, 1, "2|b");
    refuse(x, "a row of 2 columns for \"public\".\"items\", which has 1");
    frame_insert(&x->f, 1, "2");
    feed(x);
    assert_told(x, "0 insert public.items row=1|a\nrelation public.items f *id\n"
                   "2 insert public.items row=2\n");
}

static void origins_types_and_messages_say_nothing(void **state)
{
    struct fixture *x = *state;

    begin(x);
    frame_origin(&x->f, "elsewhere");
    feed(x);
    frame_type(&x->f, 9, "public", "mood");
    feed(x);
    frame_message(&x->f, "p", "c");
    feed(x);
    frame_insert(&x->f, 1, "1|a");
    feed(x);
    assert_told(x, "0 insert public.items row=1|a\n");
}

static void the_grammar_is_enforced(void **state)
{
    struct fixture *x = *state;
    const uint32_t unknown = 77;

    frame_insert(&x->f, 1, "1|a");
    refuse(x, "outside a transaction");
    frame_truncate(&x->f, 0, &unknown, 1);
    refuse(x, "outside a transaction");
    frame_origin(&x->f, "elsewhere");
    refuse(x, "outside a transaction");
    frame_commit(&x->f, 100, 110);
    refuse(x, "not the open one");
    frame_begin(&x->f, 0, 0, 1);
    refuse(x, "impossible position");
    frame_begin(&x->f, 1, INT64_MAX, 1);
    refuse(x, "impossible position or time");
    begin(x);
    frame_begin(&x->f, 200, 0, 8);
    refuse(x, "inside another");
    frame_commit(&x->f, 101, 110);
    refuse(x, "(0/65) that is not the open one (0/64)");
    frame_insert(&x->f, 77, "1|a");
    refuse(x, "relation 77 without having described it");
    frame_delete(&x->f, 1, 'O', "1");
    refuse(x, "a row of 1 columns");
    frame_update(&x->f, 1, 'O', "1", "1|a");
    refuse(x, "a row of 1 columns");
    frame_insert(&x->f, 1, "1|^");
    refuse(x, "with a value left out");
    assert_told(x, "");
}

static void a_reset_abandons_and_forgets(void **state)
{
    struct fixture *x = *state;

    begin(x);
    txn_reset(x->txn);
    assert_false(txn_open(x->txn));
    txn_reset(x->txn); /* nothing is open now */
    frame_begin(&x->f, 100, 0, 7);
    feed(x);
    frame_insert(&x->f, 1, "1|a");
    refuse(x, "without having described it");
    assert_told(x, "abandon\nbegin 100 at 946684800000000 xid 7\n");
}

static void an_error_of_the_sink_is_handed_up(void **state)
{
    static const char *const calls[] = {"change", "relation", "commit"};
    struct fixture *x = *state;

    x->fail = "begin";
    frame_begin(&x->f, 100, 0, 7);
    assert_int_equal(feed_rc(x), ERR_IO);
    assert_false(txn_open(x->txn));
    x->fail = NULL;
    begin(x);
    for (size_t i = 0; i < 3; i++) {
        x->fail = calls[i];
        if (i == 0)
            frame_insert(&x->f, 1, "1|a");
        else if (i == 1)
            frame_relation(&x->f, 2, "public", "other", 'f', "a:1");
        else
            frame_commit(&x->f, 100, 110);
        assert_int_equal(feed_rc(x), ERR_IO);
        assert_string_equal(x->err.message, "the sink failed");
    }
    /* The commit did not happen. */
    assert_true(txn_open(x->txn));
    buf_reset(&x->told, SIZE_MAX);
    txn_reset(x->txn);
    assert_told(x, "abandon\n");
}

static void feed_recorded(void *ctx, struct slice message)
{
    struct fixture *x = ctx;

    if (txn_feed(x->txn, message, &x->err) != 0)
        fail_msg("%s", x->err.message);
}

/* NAME.expected is what people have read and found right; COULOMB_CAPTURES_WRITE=1 writes
 * it. */
static void recorded_streams_tell_what_their_sql_did(void **state)
{
    struct fixture *x = *state;

    x->no_positions = true;
    for (size_t i = 0; capture_names[i]; i++) {
        char path[256];
        char *expected = NULL;
        size_t cap = 0;
        FILE *file;

        buf_reset(&x->told, SIZE_MAX);
        assert_true(capture_each(capture_names[i], feed_recorded, x) > 10);
        assert_false(txn_open(x->txn));
        txn_reset(x->txn);
        snprintf(path, sizeof(path), CAPTURE_DIR "%s.expected", capture_names[i]);
        if (getenv("COULOMB_CAPTURES_WRITE")) {
            file = fopen(path, "w");
            assert_non_null(file);
            fwrite(x->told.ptr, 1, x->told.len, file);
            fclose(file);
        }
        file = fopen(path, "r");
        assert_non_null(file);
        assert_true(getdelim(&expected, &cap, '\0', file) > 0);
        fclose(file);
        assert_told(x, expected);
        free(expected);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_transaction_is_told_in_order_with_its_positions),
        TEST(positions_start_anew_in_each_transaction),
        TEST(unchanged_values_are_filled_from_the_old_row),
        TEST(a_change_without_the_old_row_loses_the_identity_but_not_its_position),
        TEST(truncate_takes_a_position_for_each_relation),
        TEST(a_relation_described_anew_counts_from_there),
        TEST(origins_types_and_messages_say_nothing),
        TEST(the_grammar_is_enforced),
        TEST(a_reset_abandons_and_forgets),
        TEST(an_error_of_the_sink_is_handed_up),
        TEST(recorded_streams_tell_what_their_sql_did),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
