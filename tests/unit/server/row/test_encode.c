/* The messages of the encoder, byte for byte. Expectations follow recorded answers of the
 * protocol; where those differ between snapshot and stream, the one form of both is
 * tested. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "server/row/encode.h"

#define COLUMNS_MAX 8

struct fixture {
    struct table table;
    struct table_column columns[COLUMNS_MAX];
    uint16_t pk[COLUMNS_MAX];
    uint16_t all[COLUMNS_MAX];
    struct buf out;
};

/* A table from a list of columns and a list of key column indexes, both ended by NULL and
 * -1; an empty key list means that there is no primary key. */
static void table_make(struct fixture *f, const char *schema, const char *name,
                       const char *const *columns, const int *pk)
{
    *f = (struct fixture){0};
    f->table.schema = slice_of(schema);
    f->table.name = slice_of(name);
    f->table.columns = f->columns;
    f->table.pk = f->pk;
    for (uint16_t i = 0; columns[i]; i++) {
        f->columns[i].name = slice_of(columns[i]);
        f->columns[i].pk_index = -1;
        f->all[i] = i;
        f->table.column_count++;
    }
    for (int16_t i = 0; pk[i] >= 0; i++) {
        f->pk[i] = (uint16_t)pk[i];
        f->columns[pk[i]].pk_index = i;
        f->table.pk_count++;
    }
    f->table.has_pk = f->table.pk_count > 0;
    if (!f->table.has_pk) {
        memcpy(f->pk, f->all, sizeof(f->pk));
        f->table.pk_count = f->table.column_count;
    }
    buf_init(&f->out, 1 << 20);
}

static void items_make(struct fixture *f)
{
    table_make(f, "public", "c_items", (const char *const[]){"id", "v", "n", "w", NULL},
               (const int[]){0, -1});
}

static void fini(struct fixture *f)
{
    buf_fini(&f->out);
}

static struct encode_plan *plan_all(struct fixture *f, enum encode_replica replica)
{
    struct encode_plan *plan =
        encode_plan_new(&f->table, f->all, f->table.column_count, replica);

    assert_non_null(plan);
    return plan;
}

static struct value text(const char *t)
{
    struct value v = {t, 0, VALUE_NULL};

    if (t) {
        v.len = (uint32_t)strlen(t);
        v.kind = VALUE_TEXT;
    }
    return v;
}

static const struct value unchanged = {NULL, 0, VALUE_UNCHANGED};

#define ROW(...) ((const struct value[]){__VA_ARGS__})
#define T(t)     text(t)
#define NUL      text(NULL)

static const struct encode_txn txn = {626937528, 39198};

/* What was written since the last call. */
static void expect(struct fixture *f, const char *json)
{
    assert_int_equal(f->out.failed, 0);
    buf_putc(&f->out, '\0');
    assert_string_equal(f->out.ptr, json);
    buf_reset(&f->out, SIZE_MAX);
}

static void snapshot_row_is_an_insert_without_transaction(void **state)
{
    struct fixture f;
    struct encode_plan *plan;

    (void)state;
    items_make(&f);
    plan = plan_all(&f, ENCODE_REPLICA_DEFAULT);
    encode_snapshot_row(&f.out, plan, ROW(T("10"), T("i"), NUL, T("w")));
    expect(
        &f,
        "{\"key\":\"\\\"public\\\".\\\"c_items\\\"/\\\"10\\\"\","
        "\"value\":{\"id\":\"10\",\"v\":\"i\",\"n\":null,\"w\":\"w\"},"
        "\"headers\":{\"operation\":\"insert\",\"relation\":[\"public\",\"c_items\"]}}");
    encode_plan_release(plan);
    fini(&f);
}

static void snapshot_end_has_64_bit_ids_as_strings(void **state)
{
    const uint64_t xip[] = {741, 4294967999u};
    struct fixture f;

    (void)state;
    items_make(&f);
    encode_snapshot_end(&f.out, 740, UINT64_MAX, xip, 2);
    expect(&f,
           "{\"headers\":{\"control\":\"snapshot-end\",\"xmin\":\"740\","
           "\"xmax\":\"18446744073709551615\",\"xip_list\":[\"741\",\"4294967999\"]}}");
    encode_snapshot_end(&f.out, 7, 7, NULL, 0);
    expect(&f, "{\"headers\":{\"control\":\"snapshot-end\",\"xmin\":\"7\",\"xmax\":\"7\","
               "\"xip_list\":[]}}");
    fini(&f);
}

static void insert_carries_lsn_txids_and_position(void **state)
{
    struct fixture f;
    struct encode_plan *plan;

    (void)state;
    items_make(&f);
    plan = plan_all(&f, ENCODE_REPLICA_FULL);
    encode_insert(&f.out, plan, &(struct encode_txn){UINT64_MAX, UINT32_MAX}, 12,
                  ROW(T("10"), T("i"), NUL, T("")));
    expect(
        &f,
        "{\"key\":\"\\\"public\\\".\\\"c_items\\\"/\\\"10\\\"\","
        "\"value\":{\"id\":\"10\",\"v\":\"i\",\"n\":null,\"w\":\"\"},"
        "\"headers\":{\"operation\":\"insert\",\"relation\":[\"public\",\"c_items\"],"
        "\"txids\":[4294967295],\"lsn\":\"18446744073709551615\",\"op_position\":12}}");
    encode_plan_release(plan);
    fini(&f);
}

static void update_sends_key_and_changed_columns(void **state)
{
    struct fixture f;
    struct encode_plan *plan;

    (void)state;
    items_make(&f);
    plan = plan_all(&f, ENCODE_REPLICA_DEFAULT);
    assert_true(encode_update(&f.out, plan, &txn, 0, ROW(T("2"), T("b"), T("2"), T("y")),
                              ROW(T("2"), NUL, T("2"), T("y"))));
    expect(&f,
           "{\"key\":\"\\\"public\\\".\\\"c_items\\\"/\\\"2\\\"\","
           "\"value\":{\"id\":\"2\",\"v\":null},"
           "\"headers\":{\"operation\":\"update\",\"relation\":[\"public\",\"c_items\"],"
           "\"txids\":[39198],\"lsn\":\"626937528\",\"op_position\":0}}");
    encode_plan_release(plan);
    fini(&f);
}

static void full_update_sends_the_row_and_the_old_values(void **state)
{
    struct fixture f;
    struct encode_plan *plan;

    (void)state;
    items_make(&f);
    plan = plan_all(&f, ENCODE_REPLICA_FULL);
    assert_true(encode_update(&f.out, plan, &txn, 4, ROW(T("11"), T("j"), NUL, T("w")),
                              ROW(T("11"), T("k"), T("5"), T("w"))));
    expect(&f,
           "{\"key\":\"\\\"public\\\".\\\"c_items\\\"/\\\"11\\\"\","
           "\"value\":{\"id\":\"11\",\"v\":\"k\",\"n\":\"5\",\"w\":\"w\"},"
           "\"old_value\":{\"v\":\"j\",\"n\":null},"
           "\"headers\":{\"operation\":\"update\",\"relation\":[\"public\",\"c_items\"],"
           "\"txids\":[39198],\"lsn\":\"626937528\",\"op_position\":4}}");
    encode_plan_release(plan);
    fini(&f);
}

static void update_of_nothing_selected_writes_nothing(void **state)
{
    const uint16_t id_and_v[] = {0, 1};
    struct fixture f;
    struct encode_plan *plan;

    (void)state;
    items_make(&f);
    plan = encode_plan_new(&f.table, id_and_v, 2, ENCODE_REPLICA_FULL);
    assert_false(encode_update(&f.out, plan, &txn, 0, ROW(T("1"), T("a"), T("1"), T("x")),
                               ROW(T("1"), T("a"), T("2"), T("y"))));
    assert_int_equal(f.out.len, 0);
    assert_true(encode_update(&f.out, plan, &txn, 0, ROW(T("1"), T("a"), T("1"), T("x")),
                              ROW(T("1"), T("z"), T("2"), T("y"))));
    expect(&f,
           "{\"key\":\"\\\"public\\\".\\\"c_items\\\"/\\\"1\\\"\","
           "\"value\":{\"id\":\"1\",\"v\":\"z\"},\"old_value\":{\"v\":\"a\"},"
           "\"headers\":{\"operation\":\"update\",\"relation\":[\"public\",\"c_items\"],"
           "\"txids\":[39198],\"lsn\":\"626937528\",\"op_position\":0}}");
    encode_plan_release(plan);
    fini(&f);
}

static void unchanged_toasted_value_is_the_old_one(void **state)
{
    const struct value *old = ROW(T("1"), T("long"), T("1"), T("x"));
    struct fixture f;
    struct encode_plan *plan;

    (void)state;
    items_make(&f);
    plan = plan_all(&f, ENCODE_REPLICA_FULL);
    assert_false(encode_update(&f.out, plan, &txn, 0, old,
                               ROW(T("1"), unchanged, T("1"), T("x"))));
    assert_true(encode_update(&f.out, plan, &txn, 0, old,
                              ROW(T("1"), unchanged, T("2"), T("x"))));
    expect(&f,
           "{\"key\":\"\\\"public\\\".\\\"c_items\\\"/\\\"1\\\"\","
           "\"value\":{\"id\":\"1\",\"v\":\"long\",\"n\":\"2\",\"w\":\"x\"},"
           "\"old_value\":{\"n\":\"1\"},"
           "\"headers\":{\"operation\":\"update\",\"relation\":[\"public\",\"c_items\"],"
           "\"txids\":[39198],\"lsn\":\"626937528\",\"op_position\":0}}");
    encode_plan_release(plan);
    fini(&f);
}

static void delete_sends_the_key_or_in_full_mode_the_row(void **state)
{
    const struct value *old = ROW(T("11"), T("k"), T("5"), NUL);
    struct fixture f;
    struct encode_plan *plan;

    (void)state;
    items_make(&f);
    plan = plan_all(&f, ENCODE_REPLICA_DEFAULT);
    encode_delete(&f.out, plan, &txn, 2, old);
    expect(&f,
           "{\"key\":\"\\\"public\\\".\\\"c_items\\\"/"
           "\\\"11\\\"\",\"value\":{\"id\":\"11\"},"
           "\"headers\":{\"operation\":\"delete\",\"relation\":[\"public\",\"c_items\"],"
           "\"txids\":[39198],\"lsn\":\"626937528\",\"op_position\":2}}");
    encode_plan_release(plan);
    plan = plan_all(&f, ENCODE_REPLICA_FULL);
    encode_delete(&f.out, plan, &txn, 2, old);
    expect(&f,
           "{\"key\":\"\\\"public\\\".\\\"c_items\\\"/\\\"11\\\"\","
           "\"value\":{\"id\":\"11\",\"v\":\"k\",\"n\":\"5\",\"w\":null},"
           "\"headers\":{\"operation\":\"delete\",\"relation\":[\"public\",\"c_items\"],"
           "\"txids\":[39198],\"lsn\":\"626937528\",\"op_position\":2}}");
    encode_plan_release(plan);
    fini(&f);
}

static void composite_key_follows_the_index_order(void **state)
{
    struct fixture f;
    struct encode_plan *plan;

    (void)state;
    table_make(&f, "public", "k_comp", (const char *const[]){"b", "a", "v", NULL},
               (const int[]){1, 0, -1});
    plan = plan_all(&f, ENCODE_REPLICA_DEFAULT);
    encode_snapshot_row(&f.out, plan, ROW(T("x"), T("1"), T("v")));
    expect(
        &f,
        "{\"key\":\"\\\"public\\\".\\\"k_comp\\\"/\\\"1\\\"/\\\"x\\\"\","
        "\"value\":{\"b\":\"x\",\"a\":\"1\",\"v\":\"v\"},"
        "\"headers\":{\"operation\":\"insert\",\"relation\":[\"public\",\"k_comp\"]}}");
    assert_true(encode_key_differs(plan, ROW(T("x"), T("1"), T("v")),
                                   ROW(T("x"), T("5"), T("v"))));
    assert_false(
        encode_key_differs(plan, ROW(T("x"), T("1"), T("v")), ROW(T("x"), T("1"), NUL)));
    encode_key_change_delete(&f.out, plan, &txn, 0, ROW(T("x"), T("1"), T("w")),
                             ROW(T("x"), T("5"), T("w")));
    expect(&f,
           "{\"key\":\"\\\"public\\\".\\\"k_comp\\\"/\\\"1\\\"/\\\"x\\\"\","
           "\"value\":{\"b\":\"x\",\"a\":\"1\"},"
           "\"headers\":{\"operation\":\"delete\",\"relation\":[\"public\",\"k_comp\"],"
           "\"txids\":[39198],\"lsn\":\"626937528\",\"op_position\":0,"
           "\"key_change_to\":\"\\\"public\\\".\\\"k_comp\\\"/\\\"5\\\"/\\\"x\\\"\"}}");
    encode_key_change_insert(&f.out, plan, &txn, 1, ROW(T("x"), T("1"), T("w")),
                             ROW(T("x"), T("5"), unchanged));
    expect(&f,
           "{\"key\":\"\\\"public\\\".\\\"k_comp\\\"/\\\"5\\\"/\\\"x\\\"\","
           "\"value\":{\"b\":\"x\",\"a\":\"5\",\"v\":\"w\"},"
           "\"headers\":{\"operation\":\"insert\",\"relation\":[\"public\",\"k_comp\"],"
           "\"txids\":[39198],\"lsn\":\"626937528\",\"op_position\":1,"
           "\"key_change_from\":\"\\\"public\\\".\\\"k_comp\\\"/\\\"1\\\"/\\\"x\\\"\"}}");
    encode_plan_release(plan);
    fini(&f);
}

static void without_primary_key_every_column_is_key(void **state)
{
    struct fixture f;
    struct encode_plan *plan;

    (void)state;
    table_make(&f, "public", "k_none", (const char *const[]){"a", "b", NULL},
               (const int[]){-1});
    plan = plan_all(&f, ENCODE_REPLICA_DEFAULT);
    encode_snapshot_row(&f.out, plan, ROW(NUL, T("")));
    expect(
        &f,
        "{\"key\":\"\\\"public\\\".\\\"k_none\\\"/_/\\\"\\\"\","
        "\"value\":{\"a\":null,\"b\":\"\"},"
        "\"headers\":{\"operation\":\"insert\",\"relation\":[\"public\",\"k_none\"]}}");
    encode_delete(&f.out, plan, &txn, 0, ROW(NUL, NUL));
    expect(&f,
           "{\"key\":\"\\\"public\\\".\\\"k_none\\\"/_/_\","
           "\"value\":{\"a\":null,\"b\":null},"
           "\"headers\":{\"operation\":\"delete\",\"relation\":[\"public\",\"k_none\"],"
           "\"txids\":[39198],\"lsn\":\"626937528\",\"op_position\":0}}");
    assert_true(encode_key_differs(plan, ROW(T("1"), NUL), ROW(T("1"), T(""))));
    assert_false(encode_key_differs(plan, ROW(T("1"), NUL), ROW(T("1"), NUL)));
    encode_plan_release(plan);
    fini(&f);
}

static void key_text_doubles_slashes_and_escapes_for_json_only(void **state)
{
    /* Text of the key column, its key part and its value in JSON. */
    static const char *const cases[][3] = {
        {"a/b", "a//b", "a/b"},
        {"a\"b", "a\\\"b", "a\\\"b"},
        {"", "", ""},
        {"\xc3\xbcn\xc3\xaf", "\xc3\xbcn\xc3\xaf", "\xc3\xbcn\xc3\xaf"},
        {"a\\b", "a\\\\b", "a\\\\b"},
        {"//", "////", "//"},
        {"/x/", "//x//", "/x/"},
        {"new\nline", "new\\nline", "new\\nline"},
        {"NULL", "NULL", "NULL"},
        {"_", "_", "_"},
        {"ab  ", "ab  ", "ab  "},
        {"\\x00ff", "\\\\x00ff", "\\\\x00ff"},
    };
    struct fixture f;
    struct encode_plan *plan;
    char json[512];

    (void)state;
    table_make(&f, "public", "k_text", (const char *const[]){"k", NULL},
               (const int[]){0, -1});
    plan = plan_all(&f, ENCODE_REPLICA_DEFAULT);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        encode_snapshot_row(&f.out, plan, ROW(T(cases[i][0])));
        snprintf(json, sizeof(json),
                 "{\"key\":\"\\\"public\\\".\\\"k_text\\\"/\\\"%s\\\"\","
                 "\"value\":{\"k\":\"%s\"},"
                 "\"headers\":{\"operation\":\"insert\","
                 "\"relation\":[\"public\",\"k_text\"]}}",
                 cases[i][1], cases[i][2]);
        expect(&f, json);
    }
    encode_plan_release(plan);
    fini(&f);
}

static void exotic_names_are_quoted_as_in_sql(void **state)
{
    struct fixture f;
    struct encode_plan *plan;

    (void)state;
    table_make(&f, "my.schema", "i\"q/u\\o\te",
               (const char *const[]){"Id \"x\"", "tab\tin", NULL}, (const int[]){0, -1});
    plan = plan_all(&f, ENCODE_REPLICA_DEFAULT);
    encode_snapshot_row(&f.out, plan, ROW(T("1"), T("2")));
    expect(&f, "{\"key\":\"\\\"my.schema\\\".\\\"i\\\"\\\"q/u\\\\o\\te\\\"/\\\"1\\\"\","
               "\"value\":{\"Id \\\"x\\\"\":\"1\",\"tab\\tin\":\"2\"},"
               "\"headers\":{\"operation\":\"insert\","
               "\"relation\":[\"my.schema\",\"i\\\"q/u\\\\o\\te\"]}}");
    encode_key_change_delete(&f.out, plan, &txn, 0, ROW(T("1"), T("2")),
                             ROW(T("3"), T("2")));
    expect(&f, "{\"key\":\"\\\"my.schema\\\".\\\"i\\\"\\\"q/u\\\\o\\te\\\"/\\\"1\\\"\","
               "\"value\":{\"Id \\\"x\\\"\":\"1\"},"
               "\"headers\":{\"operation\":\"delete\","
               "\"relation\":[\"my.schema\",\"i\\\"q/u\\\\o\\te\"],"
               "\"txids\":[39198],\"lsn\":\"626937528\",\"op_position\":0,"
               "\"key_change_to\":\"\\\"my.schema\\\".\\\"i\\\"\\\"q/u\\\\o\\te\\\"/"
               "\\\"3\\\"\"}}");
    encode_plan_release(plan);
    fini(&f);
}

static void final_message_can_be_marked_last(void **state)
{
    struct fixture f;
    struct encode_plan *plan;

    (void)state;
    items_make(&f);
    plan = plan_all(&f, ENCODE_REPLICA_DEFAULT);
    encode_delete(&f.out, plan, &txn, 2, ROW(T("1"), NUL, NUL, NUL));
    assert_memory_equal(f.out.ptr + f.out.len - strlen(ENCODE_END), ENCODE_END,
                        strlen(ENCODE_END));
    buf_truncate(&f.out, f.out.len - strlen(ENCODE_END));
    buf_puts(&f.out, ENCODE_LAST);
    expect(
        &f,
        "{\"key\":\"\\\"public\\\".\\\"c_items\\\"/\\\"1\\\"\",\"value\":{\"id\":\"1\"},"
        "\"headers\":{\"operation\":\"delete\",\"relation\":[\"public\",\"c_items\"],"
        "\"txids\":[39198],\"lsn\":\"626937528\",\"op_position\":2,\"last\":true}}");
    encode_plan_release(plan);
    fini(&f);
}

static void a_char_above_ascii_is_octal_as_newer_versions_write_it(void **state)
{
    struct fixture f;
    struct encode_plan *plan;

    (void)state;
    table_make(&f, "public", "t", (const char *const[]){"id", "c", NULL},
               (const int[]){0, -1});
    plan = plan_all(&f, ENCODE_REPLICA_DEFAULT);
    encode_snapshot_row(&f.out, plan, ROW(T("\xc3"), T("\x80")));
    expect(&f, "{\"key\":\"\\\"public\\\".\\\"t\\\"/\\\"\\\\303\\\"\","
               "\"value\":{\"id\":\"\\\\303\",\"c\":\"\\\\200\"},"
               "\"headers\":{\"operation\":\"insert\",\"relation\":[\"public\",\"t\"]}}");
    encode_plan_release(plan);
    fini(&f);
}

static void full_buffer_is_reported_and_not_overrun(void **state)
{
    struct fixture f;
    struct encode_plan *plan;
    struct buf small;

    (void)state;
    items_make(&f);
    plan = plan_all(&f, ENCODE_REPLICA_FULL);
    encode_snapshot_row(&f.out, plan, ROW(T("10"), T("i"), NUL, T("w")));
    assert_true(f.out.len > 100);
    for (size_t max = 0; max <= f.out.len; max++) {
        buf_init(&small, max);
        encode_snapshot_row(&small, plan, ROW(T("10"), T("i"), NUL, T("w")));
        assert_true(small.len <= max);
        assert_int_equal(small.failed, max < f.out.len ? ERR_LIMIT : 0);
        buf_fini(&small);
    }
    encode_plan_release(plan);
    fini(&f);
}

static void plan_lives_until_its_last_reference_goes(void **state)
{
    struct fixture f;
    struct encode_plan *plan;

    (void)state;
    items_make(&f);
    plan = plan_all(&f, ENCODE_REPLICA_DEFAULT);
    assert_ptr_equal(encode_plan_retain(plan), plan);
    encode_plan_release(plan);
    encode_delete(&f.out, plan, &txn, 2, ROW(T("1"), NUL, NUL, NUL));
    assert_true(f.out.len > 0);
    encode_plan_release(plan);
    encode_plan_release(NULL);
    fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshot_row_is_an_insert_without_transaction),
        cmocka_unit_test(snapshot_end_has_64_bit_ids_as_strings),
        cmocka_unit_test(insert_carries_lsn_txids_and_position),
        cmocka_unit_test(update_sends_key_and_changed_columns),
        cmocka_unit_test(full_update_sends_the_row_and_the_old_values),
        cmocka_unit_test(update_of_nothing_selected_writes_nothing),
        cmocka_unit_test(unchanged_toasted_value_is_the_old_one),
        cmocka_unit_test(delete_sends_the_key_or_in_full_mode_the_row),
        cmocka_unit_test(composite_key_follows_the_index_order),
        cmocka_unit_test(without_primary_key_every_column_is_key),
        cmocka_unit_test(key_text_doubles_slashes_and_escapes_for_json_only),
        cmocka_unit_test(exotic_names_are_quoted_as_in_sql),
        cmocka_unit_test(final_message_can_be_marked_last),
        cmocka_unit_test(a_char_above_ascii_is_octal_as_newer_versions_write_it),
        cmocka_unit_test(full_buffer_is_reported_and_not_overrun),
        cmocka_unit_test(plan_lives_until_its_last_reference_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
