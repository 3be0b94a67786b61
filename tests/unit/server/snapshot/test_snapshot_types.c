/* The text of every type: the snapshot's equals the stream's, and is the one that the
 * protocol names (shape-protocol.md 4.6). The same row is read by snapshot_run and from a
 * slot of the output plugin, and both are made into the same message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/catalog/catalog.h"
#include "server/snapshot/snapshot.h"
#include "support/pgcluster.h"

/* Declared type, value as SQL, text (NULL: only equality is asked for). */
static const struct sample {
    const char *type;
    const char *value;
    const char *text;
} samples[] = {
    {"int2", "-5", "-5"},
    {"int4", "'2147483647'", "2147483647"},
    {"int8", "'9223372036854775807'", "9223372036854775807"},
    {"float4", "'1.1'", "1.1"},
    {"float4", "'-0'", "-0"},
    {"float8", "'4.5'", "4.5"},
    {"float8", "'0.1'::float8 + '0.2'", "0.30000000000000004"},
    {"float8", "'NaN'", "NaN"},
    {"float8", "'-Infinity'", "-Infinity"},
    {"float8", "'1e300'", "1e+300"},
    {"numeric", "'12345678901234567890.1234567890'", "12345678901234567890.1234567890"},
    {"numeric(10,2)", "1.5", "1.50"},
    {"numeric", "'NaN'", "NaN"},
    {"numeric", "'Infinity'", "Infinity"},
    {"bool", "true", "t"},
    {"bool", "false", "f"},
    {"text", "E'a\\tb\\nc\\\\d\"e/f'", "a\tb\nc\\d\"e/f"},
    {"text", "''", ""},
    {"text", "E'\\\\N'", "\\N"},
    {"text", "E'\\b\\f\\r\\x0b\\x01\\x7f'", "\b\f\r\v\x01\x7f"},
    {"text", "U&'\\00fc\\+01F600'", "\xc3\xbc\xf0\x9f\x98\x80"},
    {"varchar(5)", "'ab '", "ab "},
    {"char(4)", "'ab'", "ab  "},
    {"\"char\"", "'x'", "x"},
    {"name", "'a name'", "a name"},
    {"mood", "'so so'", "so so"},
    {"positive", "7", "7"},
    {"pair", "ROW(1.1, 2.2)", "(1.1,2.2)"},
    {"pair", "ROW(NULL, NULL)", "(,)"},
    {"bytea", "'\\x0001ff'", "\\x0001ff"},
    {"bytea", "''", "\\x"},
    {"json", "'{\"a\":  1, \"a\":2}'", "{\"a\":  1, \"a\":2}"},
    {"jsonb", "'{\"b\":[1,  null],\"a\":\"x\"}'", "{\"a\": \"x\", \"b\": [1, null]}"},
    {"jsonpath", "'$.a[*]'", NULL},
    {"xml", "'<a>b</a>'", "<a>b</a>"},
    {"uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
     "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
    {"date", "'2024-01-31'", "2024-01-31"},
    {"date", "'0044-03-15 BC'", "0044-03-15 BC"},
    {"date", "'infinity'", "infinity"},
    {"time", "'12:00'", "12:00:00"},
    {"time(3)", "'12:00:00.12345'", "12:00:00.123"},
    {"timetz", "'12:00:00.5+02'", "12:00:00.5+02"},
    {"timestamp", "'2024-01-31 12:00:00.5'", "2024-01-31 12:00:00.5"},
    {"timestamptz", "'2024-01-31 12:00+02'", "2024-01-31 10:00:00+00"},
    {"timestamptz", "'-infinity'", "-infinity"},
    {"interval", "'1 day 2 hours'", "P1DT2H"},
    {"interval", "'0'", "PT0S"},
    {"interval", "'-10 mons -3 days +04:05:06'", "P-10M-3DT4H5M6S"},
    {"interval", "'-0.5 s'", "PT-0.5S"},
    {"inet", "'1.2.3.4'", "1.2.3.4"},
    {"inet", "'::1'", "::1"},
    {"inet", "'10.0.0.1/8'", "10.0.0.1/8"},
    {"cidr", "'10.0.0.0/8'", "10.0.0.0/8"},
    {"macaddr", "'08:00:2B:01:02:03'", "08:00:2b:01:02:03"},
    {"macaddr8", "'08:00:2b:01:02:03:04:05'", NULL},
    {"money", "1000", "$1,000.00"},
    {"int4range", "'[1,5)'", "[1,5)"},
    {"tstzrange", "'[2024-01-01 00:00+00,)'", "[\"2024-01-01 00:00:00+00\",)"},
    {"int4multirange", "'{[1,3),[5,7)}'", "{[1,3),[5,7)}"},
    {"point", "'(1,2)'", "(1,2)"},
    {"box", "'(1,2),(3,4)'", "(3,4),(1,2)"},
    {"line", "'{1,2,3}'", NULL},
    {"lseg", "'[(1,2),(3,4)]'", NULL},
    {"path", "'((1,2),(3,4))'", NULL},
    {"polygon", "'((1,2),(3,4),(5,6))'", NULL},
    {"circle", "'<(1,2),3>'", NULL},
    {"bit(5)", "B'10101'", "10101"},
    {"varbit", "B'101'", "101"},
    {"oid", "'4294967295'", "4294967295"},
    {"regclass", "'pg_class'", "pg_class"},
    {"xid8", "'18446744073709551615'", "18446744073709551615"},
    {"pg_lsn", "'16/B374D848'", "16/B374D848"},
    {"tsvector", "'b a:1'", "'a':1 'b'"},
    {"tsquery", "'a & b'", "'a' & 'b'"},
    {"int4[]", "'{1,NULL,3}'", "{1,NULL,3}"},
    {"int4[]", "'[2:3]={7,8}'", "[2:3]={7,8}"},
    {"int4[]", "'{{1,2},{3,4}}'", "{{1,2},{3,4}}"},
    {"text[]", "ARRAY['a b', 'c\"d', E'e\\\\f', '', NULL, 'NULL', E'g\\th']",
     "{\"a b\",\"c\\\"d\",\"e\\\\f\",\"\",NULL,\"NULL\",\"g\th\"}"},
    {"bool[]", "'{t,f}'", "{t,f}"},
    {"float8[]", "'{NaN,Infinity,1.5}'", "{NaN,Infinity,1.5}"},
    {"inet[]", "'{1.2.3.4,::1}'", "{1.2.3.4,::1}"},
    {"bytea[]", "ARRAY['\\x00'::bytea]", "{\"\\\\x00\"}"},
    {"timestamptz[]", "'{2024-01-31 12:00+02}'", "{\"2024-01-31 10:00:00+00\"}"},
    {"interval[]", "'{1 day}'", "{P1D}"},
    {"mood[]", "'{so so}'", "{\"so so\"}"},
    {"pair[]", "ARRAY[ROW(1, NULL)::pair]", "{\"(1,)\"}"},
    {"int4", "NULL", NULL},
};

#define SAMPLE_COUNT (sizeof(samples) / sizeof(samples[0]))

struct fixture {
    struct pgcluster *cluster;
    PGconn *conn;
    struct table *table;
    struct encode_plan *plan;
    uint16_t *selected;
    char *snapshot;
    uint64_t wal_lsn;
};

static void sql(PGconn *conn, const char *text)
{
    struct err err = {0};

    if (pg_exec(conn, text, NULL, &err) != 0)
        fail_msg("%s: %s", text, err.message);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->cluster = pgcluster_new(NULL);
    f->conn = PQconnectdb(pgcluster_url(f->cluster));
    assert_int_equal(PQstatus(f->conn), CONNECTION_OK);
    sql(f->conn, "SET client_encoding = 'UTF8'");
    sql(f->conn, "CREATE TYPE mood AS ENUM ('so so', 'fine');"
                 "CREATE DOMAIN positive AS int CHECK (VALUE > 0);"
                 "CREATE TYPE pair AS (a float8, b float8);"
                 "CREATE PUBLICATION p FOR ALL TABLES");
    *state = f;
    return 0;
}

static void forget_shape(struct fixture *f)
{
    encode_plan_release(f->plan);
    table_release(f->table);
    free(f->selected);
    free(f->snapshot);
    f->plan = NULL;
    f->table = NULL;
    f->selected = NULL;
    f->snapshot = NULL;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    forget_shape(f);
    PQfinish(f->conn);
    pgcluster_free(f->cluster);
    free(f);
    return 0;
}

/* A shape of all columns. */
static void shape_of(struct fixture *f, const char *name)
{
    struct err err = {0};

    forget_shape(f);
    if (catalog_read_table(f->conn, SLICE_LIT("public"), slice_of(name), &f->table,
                           &err) != 0)
        fail_msg("%s", err.message);
    f->selected = calloc(f->table->column_count, sizeof(*f->selected));
    assert_non_null(f->selected);
    for (uint16_t i = 0; i < f->table->column_count; i++)
        f->selected[i] = i;
    f->plan = encode_plan_new(f->table, f->selected, f->table->column_count,
                              ENCODE_REPLICA_DEFAULT);
    assert_non_null(f->plan);
}

/* The snapshot's message of the only row. */

static int take_subscribe(void *ctx, struct err *err)
{
    (void)ctx;
    (void)err;
    return 0;
}

static int take_joined(void *ctx, const struct snapshot_view *view, struct err *err)
{
    struct fixture *f = ctx;

    (void)err;
    f->wal_lsn = view->wal_lsn;
    return 0;
}

static int take_row(void *ctx, struct slice json, struct err *err)
{
    struct fixture *f = ctx;

    (void)err;
    assert_null(f->snapshot);
    f->snapshot = slice_dup(json);
    return 0;
}

static int take_flush(void *ctx, struct err *err)
{
    (void)ctx;
    (void)err;
    return 0;
}

static int take_end(void *ctx, struct slice json, const struct snapshot_view *view,
                    struct err *err)
{
    (void)ctx;
    (void)json;
    (void)view;
    (void)err;
    return 0;
}

static bool take_cancelled(void *ctx)
{
    (void)ctx;
    return false;
}

static void read_snapshot(struct fixture *f)
{
    const struct snapshot_request request = {
        .table = f->table,
        .plan = f->plan,
        .selected = f->selected,
        .selected_count = f->table->column_count,
        .first_row_timeout_ms = 30000,
    };
    const struct snapshot_sink sink = {
        .ctx = f,
        .subscribe = take_subscribe,
        .joined = take_joined,
        .row = take_row,
        .flush = take_flush,
        .end = take_end,
        .cancelled = take_cancelled,
    };
    struct err err = {0};

    if (snapshot_run(f->conn, &request, &sink, &err) != 0)
        fail_msg("%s", err.message);
    assert_non_null(f->snapshot);
}

/* The stream's values: the tuple of an Insert message,
 * 'I' oid:32 'N' count:16 { 'n' | 't' len:32 bytes }. */

static uint32_t be32(const char *at)
{
    const unsigned char *b = (const unsigned char *)at;

    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static size_t parse_tuple(const char *at, const char *end, struct value *row)
{
    size_t count = be32(at - 2) & 0xffff;

    at += 2;
    for (size_t i = 0; i < count; i++) {
        char kind = *at++;

        row[i] = (struct value){NULL, 0, VALUE_NULL};
        if (kind == 'n')
            continue;
        assert_int_equal(kind, 't');
        row[i] = (struct value){at + 4, be32(at), VALUE_TEXT};
        at += 4 + row[i].len;
    }
    assert_ptr_equal(at, end);
    return count;
}

/* Reads the slot; row points into the result, which the caller clears. */
static PGresult *read_slot(struct fixture *f, struct value *row, size_t *count)
{
    PGresult *result;

    sql(f->conn, pg_display_settings);
    result = PQexecParams(
        f->conn,
        "SELECT data FROM pg_logical_slot_get_binary_changes('s', NULL, NULL,"
        " 'proto_version', '1', 'publication_names', 'p')",
        0, NULL, NULL, NULL, NULL, 1);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s", PQerrorMessage(f->conn));
    *count = 0;
    for (int i = 0; i < PQntuples(result); i++) {
        const char *frame = PQgetvalue(result, i, 0);

        if (frame[0] != 'I')
            continue;
        assert_int_equal(*count, 0);
        assert_int_equal(frame[5], 'N');
        *count = parse_tuple(frame + 6, frame + PQgetlength(result, i, 0), row);
    }
    /* What the settings were is nobody's business: the snapshot brings its own. */
    sql(f->conn, "RESET ALL; SET client_encoding = 'UTF8'; SET DateStyle = 'SQL, MDY';"
                 "SET extra_float_digits = -3; SET IntervalStyle = 'sql_standard';"
                 "SET bytea_output = 'escape'; SET TimeZone = 'Asia/Tokyo'");
    return result;
}

static void expect_same_message(struct fixture *f, const struct value *row)
{
    struct buf message;

    buf_init(&message, 1 << 20);
    encode_snapshot_row(&message, f->plan, row);
    buf_putc(&message, '\0');
    assert_int_equal(message.failed, 0);
    assert_string_equal(f->snapshot, message.ptr);
    buf_fini(&message);
}

static void make_table(struct fixture *f)
{
    struct buf text;

    buf_init(&text, 1 << 20);
    buf_puts(&text, "CREATE TABLE types (id int PRIMARY KEY");
    for (size_t i = 0; i < SAMPLE_COUNT; i++)
        buf_printf(&text, ", c%zu %s", i, samples[i].type);
    buf_puts(&text, "); ALTER TABLE types REPLICA IDENTITY FULL");
    buf_putc(&text, '\0');
    sql(f->conn, text.ptr);
    buf_reset(&text, SIZE_MAX);
    buf_puts(&text, "INSERT INTO types VALUES (1");
    for (size_t i = 0; i < SAMPLE_COUNT; i++)
        buf_printf(&text, ", %s", samples[i].value);
    buf_puts(&text, ")");
    buf_putc(&text, '\0');
    sql(f->conn, "SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    sql(f->conn, text.ptr);
    buf_fini(&text);
}

static void every_type_reads_the_same_in_snapshot_and_stream(void **state)
{
    struct fixture *f = *state;
    struct value row[SAMPLE_COUNT + 1];
    PGresult *result;
    size_t count;

    make_table(f);
    result = read_slot(f, row, &count);
    assert_int_equal(count, SAMPLE_COUNT + 1);
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        struct value v = row[i + 1];

        if (samples[i].text &&
            !slice_eq(slice_make(v.ptr, v.len), slice_of(samples[i].text)))
            fail_msg("%s %s: \"%.*s\", not \"%s\"", samples[i].type, samples[i].value,
                     (int)v.len, v.ptr, samples[i].text);
    }
    shape_of(f, "types");
    read_snapshot(f);
    expect_same_message(f, row);
    PQclear(result);
    sql(f->conn, "SELECT pg_drop_replication_slot('s')");
}

static void keys_of_every_kind_read_the_same_in_snapshot_and_stream(void **state)
{
    struct fixture *f = *state;
    struct value row[16];
    PGresult *result;
    size_t count;

    sql(f->conn, "CREATE TABLE keys (v text, b bool, c char(4), i inet, ts timestamptz,"
                 " n numeric(10,2), d float8, y bytea, iv interval, s text, u uuid,"
                 " PRIMARY KEY (s, b, c, i, ts, n, d, y, iv, u))");
    sql(f->conn, "SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    sql(f->conn,
        "INSERT INTO keys VALUES ('v', true, 'ab', '1.2.3.4', '2024-01-01 12:00+02',"
        " 1.5, 0.1, '\\x00ff', '1 day', E'a/b\\\\\"\\n', "
        " 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11')");
    result = read_slot(f, row, &count);
    assert_int_equal(count, 11);
    shape_of(f, "keys");
    read_snapshot(f);
    expect_same_message(f, row);
    assert_non_null(strstr(
        f->snapshot, "{\"key\":\"\\\"public\\\".\\\"keys\\\"/\\\"a//b\\\\\\\"\\n\\\"/"
                     "\\\"t\\\"/\\\"ab  \\\"/\\\"1.2.3.4\\\"/"
                     "\\\"2024-01-01 10:00:00+00\\\"/\\\"1.50\\\"/\\\"0.1\\\"/"
                     "\\\"\\\\x00ff\\\"/\\\"P1D\\\"/"));
    PQclear(result);
    sql(f->conn, "SELECT pg_drop_replication_slot('s')");
}

/* The view's WAL position bounds what it can hold. */
static void position_of_the_view_lies_before_later_commits(void **state)
{
    struct fixture *f = *state;
    PGresult *result = NULL;
    uint64_t before = 0;
    uint64_t after = 0;

    sql(f->conn, "CREATE TABLE one (id int); INSERT INTO one VALUES (1)");
    shape_of(f, "one");
    assert_int_equal(
        pg_exec(f->conn, "SELECT pg_current_wal_insert_lsn() - '0/0'", &result, NULL), 0);
    assert_true(slice_to_u64(slice_of(PQgetvalue(result, 0, 0)), &before));
    PQclear(result);
    read_snapshot(f);
    sql(f->conn, "INSERT INTO one VALUES (2)");
    assert_int_equal(
        pg_exec(f->conn, "SELECT pg_current_wal_insert_lsn() - '0/0'", &result, NULL), 0);
    assert_true(slice_to_u64(slice_of(PQgetvalue(result, 0, 0)), &after));
    PQclear(result);
    assert_in_range(f->wal_lsn, before, after - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_reads_the_same_in_snapshot_and_stream),
        cmocka_unit_test(keys_of_every_kind_read_the_same_in_snapshot_and_stream),
        cmocka_unit_test(position_of_the_view_lies_before_later_commits),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
