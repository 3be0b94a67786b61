/* pgoutput messages: each kind read right, each malformation refused with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/decode/decode.h"
#include "support/capture.h"
#include "support/frame.h"

struct fixture {
    struct frame f;
    struct arena arena;
    struct decode_message m;
    struct err err;
};

static int set_up(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));

    if (!x)
        return -1;
    frame_init(&x->f);
    arena_init(&x->arena, 1u << 20);
    *state = x;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *x = *state;

    frame_fini(&x->f);
    arena_fini(&x->arena);
    free(x);
    return 0;
}

static void decode(struct fixture *x)
{
    int rc = decode_message(frame_slice(&x->f), &x->arena, &x->m, &x->err);

    if (rc != 0)
        fail_msg("%s", x->err.message);
}

static void refuse(struct fixture *x, const char *words)
{
    int rc = decode_message(frame_slice(&x->f), &x->arena, &x->m, &x->err);

    assert_int_equal(rc, ERR_CORRUPT);
    assert_int_equal(x->err.code, ERR_CORRUPT);
    if (!strstr(x->err.message, words))
        fail_msg("expected '%s' in: %s", words, x->err.message);
}

static void assert_slice(struct slice s, const char *text)
{
    assert_int_equal(s.len, strlen(text));
    assert_memory_equal(s.ptr, text, s.len);
}

static void assert_value(struct value v, const char *text)
{
    assert_int_equal(v.kind, VALUE_TEXT);
    assert_slice(slice_make(v.ptr, v.len), text);
}

static void begin_and_commit_carry_positions(void **state)
{
    struct fixture *x = *state;

    frame_begin(&x->f, 0x0123456789abcdef, -5, 0xfedcba98);
    decode(x);
    assert_int_equal(x->m.kind, DECODE_BEGIN);
    assert_true(x->m.u.begin.final_lsn == 0x0123456789abcdef);
    assert_true(x->m.u.begin.commit_us == -5);
    assert_int_equal(x->m.u.begin.xid, 0xfedcba98);
    frame_commit(&x->f, 0x10, 0x20);
    decode(x);
    assert_int_equal(x->m.kind, DECODE_COMMIT);
    assert_int_equal(x->m.u.commit.commit_lsn, 0x10);
    assert_int_equal(x->m.u.commit.end_lsn, 0x20);
}

static void a_relation_has_its_columns(void **state)
{
    struct fixture *x = *state;
    const struct decode_relation *rel = &x->m.u.relation;

    frame_relation(&x->f, 16384, "public", "items", 'f', "*id:23,title:25");
    decode(x);
    assert_int_equal(x->m.kind, DECODE_RELATION);
    assert_int_equal(rel->oid, 16384);
    assert_slice(rel->schema, "public");
    assert_slice(rel->name, "items");
    assert_int_equal(rel->replica_identity, 'f');
    assert_int_equal(rel->column_count, 2);
    assert_slice(rel->columns[0].name, "id");
    assert_int_equal(rel->columns[0].type_oid, 23);
    assert_int_equal(rel->columns[0].typmod, -1);
    assert_true(rel->columns[0].in_identity);
    assert_slice(rel->columns[1].name, "title");
    assert_false(rel->columns[1].in_identity);
}

static void an_empty_schema_is_pg_catalog(void **state)
{
    struct fixture *x = *state;

    frame_relation(&x->f, 1, "", "pg_class", 'n', "oid:26");
    decode(x);
    assert_slice(x->m.u.relation.schema, "pg_catalog");
}

static void a_table_without_columns_is_read(void **state)
{
    struct fixture *x = *state;

    frame_relation(&x->f, 1, "public", "none", 'f', "");
    decode(x);
    assert_int_equal(x->m.u.relation.column_count, 0);
    frame_update(&x->f, 1, 'O', "", "");
    decode(x);
    assert_int_equal(x->m.u.update.row.count, 0);
    assert_int_equal(x->m.u.update.old_kind, DECODE_OLD_FULL);
}

static void a_row_has_texts_nulls_and_unchanged_values(void **state)
{
    struct fixture *x = *state;
    const struct decode_tuple *row = &x->m.u.insert.row;
    struct slice bytes;

    frame_insert(&x->f, 7, "1|~|^||ab");
    decode(x);
    assert_int_equal(x->m.kind, DECODE_INSERT);
    assert_int_equal(x->m.u.insert.oid, 7);
    assert_int_equal(row->count, 5);
    assert_value(row->values[0], "1");
    assert_int_equal(row->values[1].kind, VALUE_NULL);
    assert_int_equal(row->values[2].kind, VALUE_UNCHANGED);
    assert_value(row->values[3], "");
    assert_value(row->values[4], "ab");
    /* Not copied. */
    bytes = frame_slice(&x->f);
    assert_ptr_equal(row->values[4].ptr, bytes.ptr + bytes.len - 2);
}

static void an_update_may_carry_an_old_row(void **state)
{
    struct fixture *x = *state;

    frame_update(&x->f, 7, 0, NULL, "1|b");
    decode(x);
    assert_int_equal(x->m.kind, DECODE_UPDATE);
    assert_int_equal(x->m.u.update.old_kind, DECODE_OLD_NONE);
    assert_int_equal(x->m.u.update.old.count, 0);
    assert_value(x->m.u.update.row.values[1], "b");
    frame_update(&x->f, 7, 'K', "1|~", "2|b");
    decode(x);
    assert_int_equal(x->m.u.update.old_kind, DECODE_OLD_KEY);
    assert_value(x->m.u.update.old.values[0], "1");
    frame_update(&x->f, 7, 'O', "1|a", "2|b");
    decode(x);
    assert_int_equal(x->m.u.update.old_kind, DECODE_OLD_FULL);
    assert_value(x->m.u.update.old.values[1], "a");
    assert_value(x->m.u.update.row.values[0], "2");
}

static void a_delete_carries_the_key_or_the_row(void **state)
{
    struct fixture *x = *state;

    frame_delete(&x->f, 7, 'O', "1|a");
    decode(x);
    assert_int_equal(x->m.kind, DECODE_DELETE);
    assert_int_equal(x->m.u.remove.oid, 7);
    assert_int_equal(x->m.u.remove.old_kind, DECODE_OLD_FULL);
    frame_delete(&x->f, 7, 'K', "1|~");
    decode(x);
    assert_int_equal(x->m.u.remove.old_kind, DECODE_OLD_KEY);
    frame_delete(&x->f, 7, 'N', "1|~");
    refuse(x, "expected the old row");
}

static void truncate_lists_its_relations(void **state)
{
    struct fixture *x = *state;
    const uint32_t oids[] = {3, 0xffffffff, 5};

    frame_truncate(&x->f, 3, oids, 3);
    decode(x);
    assert_int_equal(x->m.kind, DECODE_TRUNCATE);
    assert_int_equal(x->m.u.truncate.count, 3);
    assert_memory_equal(x->m.u.truncate.oids, oids, sizeof(oids));
    assert_true(x->m.u.truncate.cascade);
    assert_true(x->m.u.truncate.restart_identity);
    frame_truncate(&x->f, 4, oids, 1);
    refuse(x, "unknown truncate options");
}

static void origin_type_and_message_are_read_through(void **state)
{
    struct fixture *x = *state;

    frame_origin(&x->f, "elsewhere");
    decode(x);
    assert_int_equal(x->m.kind, DECODE_ORIGIN);
    frame_type(&x->f, 99, "public", "mood");
    decode(x);
    assert_int_equal(x->m.kind, DECODE_TYPE);
    frame_message(&x->f, "prefix", "content");
    decode(x);
    assert_int_equal(x->m.kind, DECODE_MESSAGE);
}

static void binary_values_are_refused_by_name(void **state)
{
    struct fixture *x = *state;

    frame_insert(&x->f, 7, "1");
    x->f.bytes.ptr[8] = 'b';
    refuse(x, "binary form ('b')");
    x->f.bytes.ptr[8] = 'z';
    refuse(x, "unknown kind");
}

static void a_refusal_names_the_message_and_the_byte(void **state)
{
    struct fixture *x = *state;

    frame_insert(&x->f, 7, "1");
    buf_putc(&x->f.bytes, 'x');
    refuse(x, "Insert message ('I'), byte 14 of 15: bytes follow the end");
    buf_truncate(&x->f.bytes, 10);
    refuse(x, "Insert message ('I'), byte 9 of 10: the message ends too early");
}

static void unknown_and_empty_messages_are_refused(void **state)
{
    struct fixture *x = *state;

    frame_begin(&x->f, 1, 0, 1);
    x->f.bytes.ptr[0] = 'S'; /* Stream Start: protocol 2 */
    refuse(x, "unknown type 0x53");
    buf_truncate(&x->f.bytes, 0);
    refuse(x, "empty message");
}

static void lying_counts_cost_no_memory(void **state)
{
    struct fixture *x = *state;

    frame_insert(&x->f, 7, "1");
    x->f.bytes.ptr[6] = 6; /* 1537 columns */
    refuse(x, "ends too early");
    x->f.bytes.ptr[6] = 7; /* 1793 */
    refuse(x, "more columns than Postgres allows");
    frame_truncate(&x->f, 0, NULL, 0);
    memset(x->f.bytes.ptr + 1, 0xff, 4);
    refuse(x, "ends too early");
    frame_relation(&x->f, 1, "s", "t", 'f', "a:1");
    x->f.bytes.ptr[10] = 4;
    refuse(x, "ends too early");
    assert_int_equal(x->arena.used_bytes, 0);
}

static void strings_must_end_and_names_must_be(void **state)
{
    struct fixture *x = *state;

    frame_type(&x->f, 99, "public", "mood");
    buf_truncate(&x->f.bytes, x->f.bytes.len - 1);
    refuse(x, "no terminating NUL");
    frame_relation(&x->f, 1, "public", "", 'f', "a:1");
    refuse(x, "a relation has no name");
    frame_relation(&x->f, 1, "public", "t", 'f', ":1");
    refuse(x, "a column has no name");
}

static void a_full_arena_is_an_error_of_memory(void **state)
{
    struct fixture *x = *state;
    struct arena small;

    arena_init(&small, 16);
    frame_insert(&x->f, 7, "1|2|3");
    assert_int_equal(decode_message(frame_slice(&x->f), &small, &x->m, &x->err),
                     ERR_MEMORY);
    assert_non_null(strstr(x->err.message, "out of memory"));
    arena_fini(&small);
}

/* Every proper prefix is refused, and so is one byte more. */
static void check_edges(void *ctx, struct slice message)
{
    struct fixture *x = ctx;
    char *longer = malloc(message.len + 1);

    assert_non_null(longer);
    memcpy(longer, message.ptr, message.len);
    longer[message.len] = 0;
    arena_reset(&x->arena);
    if (decode_message(message, &x->arena, &x->m, &x->err) != 0)
        fail_msg("%s", x->err.message);
    assert_int_equal(
        decode_message(slice_make(longer, message.len + 1), &x->arena, &x->m, NULL),
        ERR_CORRUPT);
    free(longer);
    for (size_t len = 0; len < message.len; len++) {
        char *shorter = malloc(len ? len : 1);

        assert_non_null(shorter);
        memcpy(shorter, message.ptr, len);
        arena_reset(&x->arena);
        assert_int_equal(decode_message(slice_make(shorter, len), &x->arena, &x->m, NULL),
                         ERR_CORRUPT);
        free(shorter);
    }
}

static void recorded_messages_decode_and_no_part_of_them_does(void **state)
{
    for (size_t i = 0; capture_names[i]; i++)
        assert_true(capture_each(capture_names[i], check_edges, *state) > 10);
}

static void the_relation_cache_copies_and_replaces(void **state)
{
    struct fixture *x = *state;
    struct decode_relations *c = decode_relations_new();
    const struct decode_relation *first;
    const struct decode_relation *second;

    assert_non_null(c);
    assert_null(decode_relations_get(c, 1));
    frame_relation(&x->f, 1, "public", "items", 'f', "*id:23,title:25");
    decode(x);
    assert_int_equal(decode_relations_put(c, &x->m.u.relation, &first), 0);
    memset(x->f.bytes.ptr, 'x', x->f.bytes.len);
    arena_reset(&x->arena);
    assert_slice(first->schema, "public");
    assert_slice(first->columns[1].name, "title");
    for (uint32_t oid = 2; oid < 300; oid++) {
        frame_relation(&x->f, oid, "public", "other", 'd', "a:25");
        decode(x);
        assert_int_equal(decode_relations_put(c, &x->m.u.relation, &second), 0);
    }
    assert_ptr_equal(decode_relations_get(c, 1), first);
    frame_relation(&x->f, 1, "public", "renamed", 'f', "");
    decode(x);
    assert_int_equal(decode_relations_put(c, &x->m.u.relation, &second), 0);
    assert_ptr_equal(decode_relations_get(c, 1), second);
    assert_slice(second->name, "renamed");
    assert_int_equal(second->column_count, 0);
    decode_relations_clear(c);
    assert_null(decode_relations_get(c, 1));
    decode_relations_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(begin_and_commit_carry_positions, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_relation_has_its_columns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_schema_is_pg_catalog, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_table_without_columns_is_read, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_row_has_texts_nulls_and_unchanged_values,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_update_may_carry_an_old_row, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_delete_carries_the_key_or_the_row, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(truncate_lists_its_relations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(origin_type_and_message_are_read_through, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(binary_values_are_refused_by_name, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_refusal_names_the_message_and_the_byte, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(unknown_and_empty_messages_are_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(lying_counts_cost_no_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(strings_must_end_and_names_must_be, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_full_arena_is_an_error_of_memory, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(recorded_messages_decode_and_no_part_of_them_does,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_relation_cache_copies_and_replaces, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
