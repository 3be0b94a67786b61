/* Bodies of writes: what they become, digit for digit, and where they are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/buf.h"
#include "server/write/statement.h"

static const struct write_limits limits = {3, 2};

static int parse(const char *body, struct arena *arena, struct write_batch *out,
                 struct err *err)
{
    arena_init(arena, 1024u * 1024);
    return write_batch_parse(slice_of(body), &limits, arena, out, err);
}

static void a_transaction_is_read_whole(void **state)
{
    static const char body[] =
        " {\"id\":\"a\\u0062\",\"mutations\":[{\"op\":\"update\",\"table\":\"s.t\","
        "\"key\":{\"id\":1},\"values\":{\"n\": 1.50e+1 ,\"j\":{\"a\":[1, 2]},\"x\":null,"
        "\"b\":true,\"t\":\"q\\\"\\u00e4\"},\"expect\":{\"n\":-0},\"if_missing\":"
        "\"ignore\"}]} ";
    struct write_batch batch;
    struct arena arena;
    struct err err = {0};

    (void)state;
    assert_int_equal(parse(body, &arena, &batch, &err), 0);
    assert_int_equal(batch.count, 1);
    assert_false(batch.is_list);
    const struct write_transaction *t = &batch.transactions[0];
    assert_true(slice_eq(t->id, SLICE_LIT("ab")));
    assert_true(slice_eq(t->raw, slice_trim(slice_of(body))));
    const struct write_mutation *m = &t->mutations[0];
    assert_int_equal(m->op, WRITE_UPDATE);
    assert_true(m->ignore_missing);
    assert_true(slice_eq(m->schema, SLICE_LIT("s")) &&
                slice_eq(m->table, SLICE_LIT("t")));
    assert_int_equal(m->values.count, 5);
    assert_true(slice_eq(m->values.items[0].text, SLICE_LIT("1.50e+1")));
    assert_true(slice_eq(m->values.items[1].raw, SLICE_LIT("{\"a\":[1, 2]}")));
    assert_int_equal(m->values.items[2].kind, WRITE_NULL);
    assert_true(slice_eq(m->values.items[3].text, SLICE_LIT("true")));
    assert_true(slice_eq(m->values.items[4].text, SLICE_LIT("q\"\xc3\xa4")));
    assert_true(slice_eq(m->values.items[4].raw, SLICE_LIT("\"q\\\"\\u00e4\"")));
    assert_true(slice_eq(m->expect.items[0].text, SLICE_LIT("-0")));
    arena_fini(&arena);
}

static void lists_keep_each_one_s_text(void **state)
{
    struct write_batch batch;
    struct arena arena;
    struct err err = {0};

    (void)state;
    assert_int_equal(
        parse(
            "{\"transactions\":[{\"id\":\"1\",\"mutations\":[{\"op\":\"insert\","
            "\"table\":\"t\",\"values\":{\"a\":1}}]}, {\"mutations\":[{\"op\":\"delete\","
            "\"table\":\"t\",\"key\":{\"a\":1}}]}]}",
            &arena, &batch, &err),
        0);
    assert_int_equal(batch.count, 2);
    assert_true(batch.is_list);
    assert_true(slice_eq(batch.transactions[1].raw,
                         SLICE_LIT("{\"mutations\":[{\"op\":\"delete\",\"table\":\"t\","
                                   "\"key\":{\"a\":1}}]}")));
    assert_int_equal(batch.transactions[1].id.len, 0);
    arena_fini(&arena);
}

static void limits_are_told(void **state)
{
    static const char one[] = "{\"op\":\"insert\",\"table\":\"t\",\"values\":{\"a\":1}}";
    struct write_batch batch;
    struct arena arena;
    struct err err = {0};
    struct buf body;

    (void)state;
    buf_init(&body, 65536);
    buf_printf(&body, "{\"mutations\":[%s,%s,%s,%s]}", one, one, one, one);
    buf_putc(&body, '\0');
    assert_int_equal(parse(body.ptr, &arena, &batch, &err), ERR_LIMIT);
    arena_fini(&arena);
    buf_reset(&body, 65536);
    buf_printf(&body, "[{\"mutations\":[%s]},{\"mutations\":[%s]},{\"mutations\":[%s]}]",
               one, one, one);
    buf_putc(&body, '\0');
    assert_int_equal(parse(body.ptr, &arena, &batch, &err), ERR_LIMIT);
    arena_fini(&arena);
    buf_fini(&body);
}

static void arrays_become_postgres_s(void **state)
{
    static const struct {
        const char *json;
        bool elements;
        const char *text;
    } cases[] = {
        {"[]", false, "{}"},
        {"[1, 2.0,null , true]", false, "{1,2.0,NULL,true}"},
        {"[\"a b\",\"q\\\"\",\"b\\\\\",\"NULL\",\"\"]", false,
         "{\"a b\",\"q\\\"\",\"b\\\\\",\"NULL\",\"\"}"},
        {"[[1,2],[3,4]]", false, "{{1,2},{3,4}}"},
        {"[[[]]]", false, "{{{}}}"},
        {"[{\"a\": 1},[2],\"x\",null]", true,
         "{\"{\\\"a\\\": 1}\",\"[2]\",\"\\\"x\\\"\",NULL}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = {0};
        struct buf out;

        buf_init(&out, 4096);
        assert_int_equal(
            write_put_array(slice_of(cases[i].json), cases[i].elements, &out, &err), 0);
        buf_putc(&out, '\0');
        assert_string_equal(out.ptr, cases[i].text);
        buf_fini(&out);
    }
    struct buf out;
    struct err err = {0};
    buf_init(&out, 4096);
    assert_int_equal(write_put_array(SLICE_LIT("[{}]"), false, &out, &err), ERR_INVALID);
    buf_fini(&out);
}

static void changes_become_one_transaction(void **state)
{
    static const struct slice columns[] = {{"id", 2}, {"title", 5}, {"write_id", 8}};
    static const char body[] =
        "[{\"id\":\"1\",\"changes\":[{\"operation\":\"insert\",\"write_id\":\"w\","
        "\"value\":{\"id\":1,\"title\":\"x\",\"other\":2}},{\"operation\":\"delete\","
        "\"value\":{\"id\":2}}]},{\"id\":\"2\",\"changes\":[{\"operation\":\"update\","
        "\"value\":{\"id\":3,\"title\":null},\"write_id\":\"v\"}]}]";
    struct write_transaction t;
    struct arena arena;
    struct err err = {0};

    (void)state;
    arena_init(&arena, 65536);
    assert_int_equal(write_changes_parse(slice_of(body), SLICE_LIT("todos"), columns, 3,
                                         &limits, &arena, &t, &err),
                     0);
    assert_int_equal(t.count, 3);
    assert_int_equal(t.mutations[0].values.count, 3);
    assert_true(slice_eq(t.mutations[0].values.items[2].text, SLICE_LIT("w")));
    assert_int_equal(t.mutations[1].op, WRITE_DELETE);
    assert_true(t.mutations[1].ignore_missing);
    assert_int_equal(t.mutations[2].values.count, 2); /* without the key */
    assert_int_equal(t.mutations[2].values.items[0].kind, WRITE_NULL);
    assert_int_equal(t.mutations[2].key.count, 1);
    arena_fini(&arena);
}

/* --- SQL --- */

static struct table *model(void)
{
    static struct table_column columns[] = {
        {.name = {"id", 2}, .type_oid = 23, .not_null = true},
        {.name = {"we\"ird", 6}, .type_oid = 25, .pk_index = -1},
        {.name = {"j", 1}, .type_oid = 3802, .pk_index = -1},
        {.name = {"p", 1}, .type_oid = 600, .pk_index = -1}};
    static uint16_t pk[] = {0};
    static const struct table table = {.schema = {"public", 6},
                                       .name = {"t", 1},
                                       .has_pk = true,
                                       .column_count = 4,
                                       .pk_count = 1,
                                       .columns = columns,
                                       .pk = pk};
    return table_copy(&table);
}

static const char *sql_of(struct write_job *job, const char *mutation,
                          struct write_statement *s)
{
    struct table *table = model();
    struct write_batch batch;
    struct err err = {0};
    struct buf body;

    buf_init(&body, 65536);
    buf_printf(&body, "{\"mutations\":[%s]}", mutation);
    char *text = arena_dup(&job->arena, buf_slice(&body));
    buf_fini(&body);
    assert_int_equal(
        write_batch_parse(slice_of(text), &limits, &job->arena, &batch, &err), 0);
    int rc = write_statement_mutation(job, batch.transactions[0].mutations, 0, table, s);
    table_release(table);
    return rc == 0 ? s->sql : write_failure_info(job->result.failure)->code;
}

static void names_are_quoted_and_values_are_parameters(void **state)
{
    static const struct {
        const char *mutation, *sql;
    } cases[] = {
        {"{\"op\":\"insert\",\"table\":\"t\",\"values\":{\"id\":1,\"we\\\"ird\":\"'; "
         "--\"}}",
         "INSERT INTO \"public\".\"t\" (\"id\", \"we\"\"ird\") VALUES ($1, $2)"},
        {"{\"op\":\"upsert\",\"table\":\"t\",\"values\":{\"id\":1,\"j\":2}}",
         "INSERT INTO \"public\".\"t\" (\"id\", \"j\") VALUES ($1, $2) ON CONFLICT "
         "(\"id\") DO "
         "UPDATE SET \"j\" = EXCLUDED.\"j\""},
        {"{\"op\":\"upsert\",\"table\":\"t\",\"values\":{\"id\":1}}",
         "INSERT INTO \"public\".\"t\" (\"id\") VALUES ($1) ON CONFLICT (\"id\") DO "
         "NOTHING"},
        {"{\"op\":\"update\",\"table\":\"t\",\"key\":{\"id\":1},\"values\":{\"j\":null},"
         "\"expect\":{\"p\":\"(1,2)\"}}",
         "WITH m AS (UPDATE \"public\".\"t\" SET \"j\" = $1 WHERE \"id\" = $2 AND "
         "\"p\"::text "
         "IS NOT DISTINCT FROM $3::text RETURNING 1) SELECT coulomb.written(count(*)) "
         "FROM m"},
        {"{\"op\":\"delete\",\"table\":\"t\",\"key\":{\"id\":1},\"if_missing\":"
         "\"ignore\"}",
         "DELETE FROM \"public\".\"t\" WHERE \"id\" = $1"},
        {"{\"op\":\"insert\",\"table\":\"t\",\"values\":{\"nope\":1}}", "forbidden"},
        {"{\"op\":\"delete\",\"table\":\"t\",\"key\":{\"j\":1}}", "invalid_request"},
        {"{\"op\":\"upsert\",\"table\":\"t\",\"values\":{\"j\":1}}", "invalid_request"},
        {"{\"op\":\"insert\",\"table\":\"t\",\"values\":{\"we\\\"ird\":{}}}",
         "invalid_value"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct write_job *job = write_job_new();
        struct write_statement s;

        assert_string_equal(sql_of(job, cases[i].mutation, &s), cases[i].sql);
        write_job_free(job);
    }
    struct write_job *job = write_job_new();
    struct write_statement s;
    sql_of(job, "{\"op\":\"insert\",\"table\":\"t\",\"values\":{\"id\":1,\"j\":\"x\"}}",
           &s);
    assert_string_equal(s.values[0], "1");
    assert_string_equal(s.values[1], "\"x\""); /* JSON stays JSON */
    assert_int_equal(s.types[1], 3802);
    write_job_free(job);
}

static void states_have_their_codes(void **state)
{
    int status;

    (void)state;
    assert_int_equal(write_failure_of_sqlstate("23505", &status), WRITE_FAILED_UNIQUE);
    assert_int_equal(status, 409);
    assert_int_equal(write_failure_of_sqlstate("22P02", &status), WRITE_FAILED_VALUE);
    assert_int_equal(write_failure_of_sqlstate("PT418", &status), WRITE_FAILED_REJECTED);
    assert_int_equal(status, 418);
    assert_int_equal(write_failure_of_sqlstate("PT4x8", &status), WRITE_FAILED_INTERNAL);
    assert_int_equal(write_failure_of_sqlstate("PT500", &status), WRITE_FAILED_INTERNAL);
    assert_int_equal(write_failure_of_sqlstate("", &status), WRITE_FAILED_INTERNAL);
    assert_int_equal(status, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transaction_is_read_whole),
        cmocka_unit_test(lists_keep_each_one_s_text),
        cmocka_unit_test(limits_are_told),
        cmocka_unit_test(arrays_become_postgres_s),
        cmocka_unit_test(changes_become_one_transaction),
        cmocka_unit_test(names_are_quoted_and_values_are_parameters),
        cmocka_unit_test(states_have_their_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
