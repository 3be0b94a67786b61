/* Table definitions, the schema header and the cache against a real Postgres. The
 * expected headers are those of a recorded Electric 1.7 (golden/types.json, keys.json,
 * identifiers.json), in attribute order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "server/catalog/catalog.h"
#include "support/pgcluster.h"
#include "json/json.h"

static struct pgcluster *cluster;
static struct pg_config *pg;
static PGconn *conn;

static void run(const char *sql)
{
    struct err err;
    if (pg_exec(conn, sql, NULL, &err))
        fail_msg("%s", err.message);
}

static struct table *read_named(const char *schema, const char *name)
{
    struct table *t = NULL;
    struct err err;
    if (catalog_read_table(conn, slice_of(schema), slice_of(name), &t, &err))
        fail_msg("%s", err.message);
    return t;
}

static void check_schema(const char *name, const char *expected)
{
    struct table *t = read_named("public", name);
    uint16_t all[64];
    struct buf out;
    for (uint16_t i = 0; i < t->column_count; i++)
        all[i] = i;
    buf_init(&out, 100000);
    table_put_schema(&out, t, all, t->column_count);
    buf_putc(&out, '\0');
    assert_string_equal(out.ptr, expected);
    buf_fini(&out);
    table_release(t);
}

static void test_scalar_types(void **state)
{
    (void)state;
    run("create table t_scalars(id int primary key, b bool, i8 int8, f4 float4, n "
        "numeric, "
        "n2 numeric(10,3), n3 numeric(3,-2), tx text, vc varchar(10), ch char(5), ch1 "
        "\"char\", "
        "nm name, by bytea, js json, bt bit(3), vb varbit(8), mo money, oid oid)");
    check_schema(
        "t_scalars",
        "{\"id\":{\"type\":\"int4\",\"not_null\":true,\"pk_index\":0},"
        "\"b\":{\"type\":\"bool\"},\"i8\":{\"type\":\"int8\"},"
        "\"f4\":{\"type\":\"float4\"},\"n\":{\"type\":\"numeric\"},"
        "\"n2\":{\"type\":\"numeric\",\"precision\":10,\"scale\":3},"
        "\"n3\":{\"type\":\"numeric\",\"precision\":3,\"scale\":-2},"
        "\"tx\":{\"type\":\"text\"},\"vc\":{\"type\":\"varchar\",\"max_length\":10},"
        "\"ch\":{\"type\":\"bpchar\",\"length\":5},\"ch1\":{\"type\":\"char\"},"
        "\"nm\":{\"type\":\"name\"},\"by\":{\"type\":\"bytea\"},"
        "\"js\":{\"type\":\"json\"},\"bt\":{\"type\":\"bit\",\"length\":3},"
        "\"vb\":{\"type\":\"varbit\",\"length\":8},\"mo\":{\"type\":\"money\"},"
        "\"oid\":{\"type\":\"oid\"}}");
}

static void test_time_types(void **state)
{
    (void)state;
    run("create table t_times(id int primary key, d date, t time, t3 time(3), ts0 "
        "timestamp(0), "
        "tsz3 timestamptz(3), iv interval, iv2 interval day to second, iv3 interval(2), "
        "iv4 interval month, iv5 interval hour to second(1), ts timestamp(2)[])");
    check_schema(
        "t_times",
        "{\"id\":{\"type\":\"int4\",\"not_null\":true,\"pk_index\":0},"
        "\"d\":{\"type\":\"date\"},\"t\":{\"type\":\"time\"},"
        "\"t3\":{\"type\":\"time\",\"precision\":3},"
        "\"ts0\":{\"type\":\"timestamp\",\"type_mod\":0},"
        "\"tsz3\":{\"type\":\"timestamptz\",\"precision\":3},"
        "\"iv\":{\"type\":\"interval\"},"
        "\"iv2\":{\"type\":\"interval\",\"fields\":\"DAY TO SECOND\"},"
        "\"iv3\":{\"type\":\"interval\",\"precision\":2},"
        "\"iv4\":{\"type\":\"interval\",\"fields\":\"MONTH\"},"
        "\"iv5\":{\"type\":\"interval\",\"fields\":\"HOUR TO SECOND\",\"precision\":1},"
        "\"ts\":{\"type\":\"timestamp\",\"precision\":2,\"dims\":1}}");
}

static void test_arrays_domains_and_other_types(void **state)
{
    (void)state;
    run("create type t_enum as enum ('sad'); create domain t_domtext as varchar(20);"
        "create domain t_domarr as varchar(5)[]; create schema odd;"
        "create type odd.varchar as enum ('x');"
        "create table t_arrays(id int primary key, i int[], i2 int[][], vc varchar(5)[], "
        "ch char(3)[], n numeric(6,2)[], e t_enum[], d t_domtext, da t_domarr, "
        "das t_domarr[], p point[], mine odd.varchar, mr int4multirange)");
    check_schema(
        "t_arrays",
        "{\"id\":{\"type\":\"int4\",\"not_null\":true,\"pk_index\":0},"
        "\"i\":{\"type\":\"int4\",\"dims\":1},\"i2\":{\"type\":\"int4\",\"dims\":2},"
        "\"vc\":{\"type\":\"varchar\",\"max_length\":5,\"dims\":1},"
        "\"ch\":{\"type\":\"bpchar\",\"length\":3,\"dims\":1},"
        "\"n\":{\"type\":\"numeric\",\"precision\":6,\"scale\":2,\"dims\":1},"
        "\"e\":{\"type\":\"t_enum\",\"dims\":1},\"d\":{\"type\":\"t_domtext\"},"
        "\"da\":{\"type\":\"t_domarr\"},\"das\":{\"type\":\"t_domarr\",\"dims\":1},"
        "\"p\":{\"type\":\"point\",\"dims\":1},\"mine\":{\"type\":\"varchar\"},"
        "\"mr\":{\"type\":\"int4multirange\"}}");
    run("create table t_ctas as select id, i as a, vc as b from t_arrays");
    check_schema("t_ctas", "{\"id\":{\"type\":\"int4\"},\"a\":{\"type\":\"_int4\"},"
                           "\"b\":{\"type\":\"_varchar\",\"type_mod\":9}}");
}

static void test_keys_follow_the_index_order_without_included_columns(void **state)
{
    (void)state;
    run("create table t_key(v text, a int, b text, c int, primary key (c, a) include "
        "(b))");
    check_schema("t_key", "{\"v\":{\"type\":\"text\"},"
                          "\"a\":{\"type\":\"int4\",\"not_null\":true,\"pk_index\":1},"
                          "\"b\":{\"type\":\"text\"},"
                          "\"c\":{\"type\":\"int4\",\"not_null\":true,\"pk_index\":0}}");
    struct table *t = read_named("public", "t_key");
    assert_true(t->has_pk);
    assert_int_equal(t->pk_count, 2);
    assert_int_equal(t->pk[0], 3);
    assert_int_equal(t->pk[1], 1);
    table_release(t);
}

static void test_without_a_key_all_columns_act_as_one(void **state)
{
    (void)state;
    run("create table t_nokey(a int, gone int, b int unique not null);"
        "alter table t_nokey drop column gone");
    check_schema(
        "t_nokey",
        "{\"a\":{\"type\":\"int4\"},\"b\":{\"type\":\"int4\",\"not_null\":true}}");
    struct table *t = read_named("public", "t_nokey");
    assert_false(t->has_pk);
    assert_int_equal(t->pk_count, 2);
    assert_int_equal(t->pk[0], 0);
    assert_int_equal(t->pk[1], 1);
    assert_int_equal(t->columns[1].attnum, 3);
    assert_int_equal(t->columns[1].pk_index, -1);
    table_release(t);
}

static void test_generated_columns_are_marked(void **state)
{
    (void)state;
    run("create table t_gen(id int primary key, a int default 7, "
        "b int generated always as (a * 2) stored, c bigint generated always as "
        "identity)");
    struct table *t = read_named("public", "t_gen");
    assert_false(t->columns[1].generated);
    assert_true(t->columns[2].generated);
    assert_false(t->columns[3].generated);
    table_release(t);
}

static const struct sql_column *clause_column(const struct table *t, const char *name)
{
    int at = table_column_index(t, slice_of(name));
    assert_true(at >= 0);
    const struct sql_column *c = &table_sql(t)->columns[at];
    assert_true(slice_eq(c->name, slice_of(name)));
    return c;
}

static void check_type(const struct table *t, const char *name, enum sql_base base,
                       bool array, int32_t typmod)
{
    const struct sql_column *c = clause_column(t, name);
    if (c->type.base != base || c->type.array != array || c->type.typmod != typmod)
        fail_msg("%s: base %d, array %d, typmod %d", name, (int)c->type.base,
                 c->type.array, (int)c->type.typmod);
}

static void test_clauses_see_what_is_beneath_domains_and_enums(void **state)
{
    (void)state;
    run("create schema s; create type s.mood as enum ('ok', 'it''s \"so\", {so}', '');"
        "create type nil as enum (); create domain d1 as varchar(3);"
        "create domain d2 as d1; create domain dm as s.mood; create domain dma as "
        "s.mood[];"
        "create domain da as numeric(4,2)[]; create table t_where(i int8, n "
        "numeric(4,2), "
        "a timestamptz[], v varchar(3), d d2, da da, m s.mood, ma s.mood[], dm dm, "
        "dma dma, nil nil, das d1[], p point, iv int2vector)");
    struct table *t = read_named("public", "t_where");
    assert_int_equal(table_sql(t)->count, t->column_count);
    check_type(t, "i", SQL_INT8, false, -1);
    check_type(t, "n", SQL_NUMERIC, false, ((4 << 16) | 2) + 4);
    check_type(t, "a", SQL_TIMESTAMPTZ, true, -1);
    check_type(t, "v", SQL_VARCHAR, false, 7);
    check_type(t, "d", SQL_VARCHAR, false, 7);
    check_type(t, "da", SQL_NUMERIC, true, ((4 << 16) | 2) + 4);
    check_type(t, "m", SQL_ENUM, false, -1);
    check_type(t, "ma", SQL_ENUM, true, -1);
    check_type(t, "dm", SQL_ENUM, false, -1);
    check_type(t, "dma", SQL_ENUM, true, -1);
    check_type(t, "nil", SQL_ENUM, false, -1);
    check_type(t, "das", SQL_OTHER, false, -1);
    check_type(t, "p", SQL_OTHER, false, -1);
    check_type(t, "iv", SQL_OTHER, false, -1);
    const struct sql_column *m = clause_column(t, "dma");
    assert_int_equal(m->type.oid, m->enumeration->oid);
    assert_int_equal(m->type.oid, clause_column(t, "m")->type.oid);
    assert_true(slice_eq(m->enumeration->schema, SLICE_LIT("s")));
    assert_true(slice_eq(m->enumeration->name, SLICE_LIT("mood")));
    assert_int_equal(m->enumeration->label_count, 3);
    assert_true(slice_eq(m->enumeration->labels[1], SLICE_LIT("it's \"so\", {so}")));
    assert_int_equal(m->enumeration->labels[2].len, 0);
    assert_int_equal(clause_column(t, "nil")->enumeration->label_count, 0);
    assert_null(clause_column(t, "i")->enumeration);
    struct table *copy = table_copy(t);
    assert_true(table_same(t, copy));
    check_type(copy, "dma", SQL_ENUM, true, -1);
    table_release(t);
    assert_true(
        slice_eq(clause_column(copy, "m")->enumeration->labels[0], SLICE_LIT("ok")));
    run("alter type s.mood add value 'new' before 'ok'");
    t = read_named("public", "t_where");
    assert_true(table_same(copy, t));
    assert_true(table_same(t, copy));
    table_release(t);
    run("alter type s.mood rename value 'ok' to 'fine'");
    t = read_named("public", "t_where");
    assert_false(table_same(copy, t));
    assert_false(table_same(t, copy));
    table_release(t);
    table_release(copy);
}

static void test_clauses_see_collations(void **state)
{
    (void)state;
    PGconn *main_conn = conn;
    run("create database with_libc template template0 lc_collate 'C.UTF-8' "
        "lc_ctype 'C.UTF-8' encoding 'UTF8'");
    run("create table t_collated(id int)");
    struct table *t = read_named("public", "t_collated");
    assert_int_equal(table_sql(t)->collation, SQL_COLLATION_C);
    table_release(t);
    char url[200];
    snprintf(url, sizeof(url), "host=127.0.0.1 port=%d user=postgres dbname=with_libc",
             pgcluster_port(cluster));
    conn = PQconnectdb(url);
    run("create collation loose (provider = icu, locale = 'und', deterministic = false);"
        "create domain dc as text collate \"C\";"
        "create table t_collations(i int, d text, c text collate \"C\", "
        "p varchar collate \"POSIX\", u text collate \"und-x-icu\", l text collate "
        "loose, "
        "a text[] collate \"C\", dc dc, n name)");
    t = read_named("public", "t_collations");
    assert_int_equal(table_sql(t)->collation, SQL_COLLATION_DETERMINISTIC);
    assert_int_equal(clause_column(t, "i")->collation, SQL_COLLATION_DEFAULT);
    assert_int_equal(clause_column(t, "d")->collation, SQL_COLLATION_DEFAULT);
    assert_int_equal(clause_column(t, "c")->collation, SQL_COLLATION_C);
    assert_int_equal(clause_column(t, "p")->collation, SQL_COLLATION_C);
    assert_int_equal(clause_column(t, "u")->collation, SQL_COLLATION_DETERMINISTIC);
    assert_int_equal(clause_column(t, "l")->collation, SQL_COLLATION_OTHER);
    assert_int_equal(clause_column(t, "a")->collation, SQL_COLLATION_C);
    assert_int_equal(clause_column(t, "dc")->collation, SQL_COLLATION_C);
    assert_int_equal(clause_column(t, "n")->collation, SQL_COLLATION_C);
    assert_int_equal(clause_column(t, "c")->collation_oid, 950);
    assert_int_not_equal(clause_column(t, "p")->collation_oid, 950);
    run("alter table t_collations alter c type text collate \"POSIX\"");
    struct table *after = read_named("public", "t_collations");
    assert_false(table_same(t, after));
    table_release(t);
    table_release(after);
    PQfinish(conn);
    conn = main_conn;
}

static void test_exotic_names_stay_on_one_header_line(void **state)
{
    (void)state;
    run("create table \"we\"\"ird \n t\"(\"a\"\"b\" int, \"new\nline\t\x7f\x01\" int, "
        "\"\xc3\xbcn\xc3\xaf\" int)");
    check_schema("we\"ird \n t", "{\"a\\\"b\":{\"type\":\"int4\"},"
                                 "\"new\\nline\\t\\u007f\\u0001\":{\"type\":\"int4\"},"
                                 "\"\xc3\xbcn\xc3\xaf\":{\"type\":\"int4\"}}");
    struct table *t = read_named("public", "we\"ird \n t");
    struct buf out;
    buf_init(&out, 200);
    table_put_name(&out, t);
    buf_putc(&out, '\0');
    assert_string_equal(out.ptr, "\"public\".\"we\"\"ird \n t\"");
    buf_fini(&out);
    assert_int_equal(table_column_index(t, SLICE_LIT("a\"b")), 0);
    assert_int_equal(table_column_index(t, SLICE_LIT("A\"b")), -1);
    table_release(t);
}

static void expect_unknown(struct slice schema, struct slice name)
{
    struct table *t = NULL;
    struct err err;
    assert_int_equal(catalog_read_table(conn, schema, name, &t, &err), ERR_NOT_FOUND);
    assert_null(t);
}

static void test_only_tables_with_columns_are_known(void **state)
{
    (void)state;
    run("create table t_zero(); create view t_view as select 1 as a; create sequence "
        "t_seq;"
        "create materialized view t_mat as select 1 as a");
    expect_unknown(SLICE_LIT("public"), SLICE_LIT("t_zero"));
    expect_unknown(SLICE_LIT("public"), SLICE_LIT("t_view"));
    expect_unknown(SLICE_LIT("public"), SLICE_LIT("t_seq"));
    expect_unknown(SLICE_LIT("public"), SLICE_LIT("t_mat"));
    expect_unknown(SLICE_LIT("public"), SLICE_LIT("nothere"));
    expect_unknown(SLICE_LIT("pg_catalog"), SLICE_LIT("pg_class"));
    expect_unknown(SLICE_LIT("information_schema"), SLICE_LIT("sql_features"));
    expect_unknown(SLICE_LIT("public"), SLICE_LIT("t_key\0x"));
    expect_unknown(SLICE_LIT("public"), SLICE_LIT("\xff\xfe"));
    expect_unknown(SLICE_LIT(""), SLICE_LIT("t_key"));
    expect_unknown(SLICE_LIT("public"), SLICE_LIT("T_KEY"));
}

static void test_descendants_of_every_depth_are_listed(void **state)
{
    (void)state;
    run("create table p(id int, k int, primary key (id, k)) partition by list (k);"
        "create table p1 partition of p for values in (1) partition by range (id);"
        "create table p1a partition of p1 for values from (0) to (10);"
        "create table p2 partition of p for values in (2);"
        "create table base(id int); create table derived(x int) inherits (base)");
    struct table *t = read_named("public", "p");
    assert_int_equal(t->kind, 'p');
    assert_false(t->is_partition);
    assert_int_equal(t->child_count, 3);
    for (uint32_t i = 1; i < 3; i++)
        assert_true(t->children[i - 1] < t->children[i]);
    table_release(t);
    t = read_named("public", "p1a");
    assert_int_equal(t->kind, 'r');
    assert_true(t->is_partition);
    assert_int_equal(t->child_count, 0);
    assert_int_equal(t->replica_identity, 'd');
    table_release(t);
    t = read_named("public", "base");
    assert_int_equal(t->child_count, 1);
    table_release(t);
}

static void test_reading_by_oid_gives_the_same(void **state)
{
    (void)state;
    struct table *a = read_named("public", "t_key");
    struct table *b = NULL;
    assert_int_equal(catalog_read_table_oid(conn, a->oid, &b, NULL), 0);
    assert_true(table_same(a, b));
    table_release(b);
    run("alter table t_key alter column v type varchar(9)");
    assert_int_equal(catalog_read_table_oid(conn, a->oid, &b, NULL), 0);
    assert_false(table_same(a, b));
    table_release(b);
    table_release(a);
    assert_int_equal(catalog_read_table_oid(conn, 1, &b, NULL), ERR_NOT_FOUND);
    assert_null(b);
}

/* --- The cache --- */

struct answers {
    pthread_mutex_t lock;
    unsigned count;
    unsigned tables;
    int code;
    uint16_t columns;
};

static void found(void *ctx, struct table *table, const struct err *err)
{
    struct answers *a = ctx;
    pthread_mutex_lock(&a->lock);
    a->count++;
    a->tables += table != NULL;
    a->columns = table ? table->column_count : 0;
    a->code = err ? err->code : 0;
    pthread_mutex_unlock(&a->lock);
}

static void await(struct answers *a, unsigned count)
{
    int64_t until = clock_mono_ms() + 20000;
    for (;;) {
        pthread_mutex_lock(&a->lock);
        unsigned now = a->count;
        pthread_mutex_unlock(&a->lock);
        if (now >= count || clock_mono_ms() > until)
            break;
        clock_sleep_ms(2);
    }
    assert_int_equal(a->count, count);
}

static void answers_init(struct answers *a)
{
    memset(a, 0, sizeof(*a));
    pthread_mutex_init(&a->lock, NULL);
}

static struct pool *make_pool(const struct pg_config *config, unsigned queued)
{
    struct pool *pool = NULL;
    const struct pool_config settings = {.pg = config,
                                         .name = "catalog",
                                         .max_connections = 1,
                                         .max_queued = queued,
                                         .connect_timeout_ms = 5000};
    assert_int_equal(pool_new(&settings, &pool, NULL), 0);
    return pool;
}

static const struct slice public = {"public", 6};

static void test_cached_entries_answer_for_a_second(void **state)
{
    (void)state;
    const struct slice name = SLICE_LIT("c_one");
    struct answers a;
    struct catalog *c = NULL;
    answers_init(&a);
    run("create table c_one(id int primary key)");
    struct pool *pool = make_pool(pg, 100);
    assert_int_equal(catalog_new(pool, &c), 0);
    assert_null(catalog_cached(c, public, name));
    catalog_find(c, public, name, found, &a);
    await(&a, 1);
    assert_int_equal(a.tables, 1);
    struct table *t = catalog_cached(c, public, name);
    assert_non_null(t);
    table_release(t);
    catalog_forget(c, public, name);
    assert_null(catalog_cached(c, public, name));
    catalog_find(c, public, name, found, &a);
    await(&a, 2);
    clock_sleep_ms(1050);
    assert_null(catalog_cached(c, public, name));
    catalog_find(c, public, name, found, &a);
    await(&a, 3);
    catalog_forget_all(c);
    assert_null(catalog_cached(c, public, name));
    pool_free(pool);
    catalog_free(c);
}

/* Asking takes Postgres a tenth of a second: one that is known is taken, if the table names it. */
static void test_letters_that_are_known_are_not_asked_for(void **state)
{
    (void)state;
    struct table *read = NULL, *t;
    struct case_map *other = NULL, *own = NULL;
    struct answers a;
    struct catalog *c = NULL;
    struct buf text;
    run("create table c_letters(id int primary key)");
    assert_int_equal(
        catalog_read_table(conn, public, SLICE_LIT("c_letters"), &read, NULL), 0);
    buf_init(&text, 1 << 16);
    buf_put_slice(&text, read->case_map_id);
    buf_puts(&text, "\n65 97 65\n");
    assert_int_equal(case_map_parse(buf_slice(&text), &own, NULL), 0);
    assert_int_equal(case_map_parse(SLICE_LIT("another\n"), &other, NULL), 0);
    struct pool *pool = make_pool(pg, 100);
    assert_int_equal(catalog_new(pool, &c), 0);
    for (int i = 0; i < 2; i++) {
        answers_init(&a);
        catalog_know_case_map(c, i == 0 ? other : own);
        catalog_forget(c, public, SLICE_LIT("c_letters"));
        catalog_find(c, public, SLICE_LIT("c_letters"), found, &a);
        await(&a, 1);
        t = catalog_cached(c, public, SLICE_LIT("c_letters"));
        assert_non_null(t);
        assert_non_null(t->case_map);
        assert_int_equal(t->case_map == own, i == 1);
        table_release(t);
    }
    pool_free(pool);
    catalog_free(c);
    case_map_release(own);
    case_map_release(other);
    table_release(read);
    buf_fini(&text);
}

static void block_until_cancelled(void *ctx, PGconn *worker, const struct err *why)
{
    (void)ctx;
    (void)why;
    if (worker)
        pg_exec(worker, "SELECT pg_sleep(0.5)", NULL, NULL);
}

static void test_questions_for_one_name_share_a_query(void **state)
{
    (void)state;
    struct answers a;
    struct catalog *c = NULL;
    answers_init(&a);
    /* A queue of two: the blocking job and one lookup. Lookups of their own would be
     * refused. */
    struct pool *pool = make_pool(pg, 2);
    assert_int_equal(catalog_new(pool, &c), 0);
    assert_int_equal(pool_submit(pool, block_until_cancelled, NULL), 0);
    for (int i = 0; i < 50; i++)
        catalog_find(c, public, SLICE_LIT("c_one"), found, &a);
    assert_int_equal(a.count, 0);
    await(&a, 50);
    assert_int_equal(a.tables, 50);
    pool_free(pool);
    catalog_free(c);
}

static void test_forgetting_during_a_lookup_makes_later_ones_ask_again(void **state)
{
    (void)state;
    const struct slice name = SLICE_LIT("c_two");
    struct answers early;
    struct answers late;
    struct catalog *c = NULL;
    answers_init(&early);
    answers_init(&late);
    run("create table c_two(id int primary key)");
    struct pool *pool = make_pool(pg, 100);
    assert_int_equal(catalog_new(pool, &c), 0);
    assert_int_equal(pool_submit(pool, block_until_cancelled, NULL), 0);
    catalog_find(c, public, name, found, &early);
    catalog_forget(c, public, name);
    assert_int_equal(pool_submit(pool, block_until_cancelled, NULL), 0);
    await(&early, 1);
    assert_null(catalog_cached(c, public, name));
    run("alter table c_two add column v int");
    catalog_find(c, public, name, found, &late);
    await(&late, 1);
    assert_int_equal(early.columns, 1);
    assert_int_equal(late.columns, 2);
    pool_free(pool);
    catalog_free(c);
}

static void test_unknown_tables_and_an_unreachable_server_are_told_apart(void **state)
{
    (void)state;
    struct answers a;
    struct catalog *c = NULL;
    struct pg_config *nowhere = NULL;
    const struct pg_options options = {.url = "postgres://u@127.0.0.1:1/d"};
    answers_init(&a);
    struct pool *pool = make_pool(pg, 100);
    assert_int_equal(catalog_new(pool, &c), 0);
    catalog_find(c, public, SLICE_LIT("nothere"), found, &a);
    await(&a, 1);
    assert_int_equal(a.code, ERR_NOT_FOUND);
    catalog_find(c, public, SLICE_LIT(""), found, &a);
    assert_int_equal(a.count, 2);
    pool_free(pool);
    catalog_free(c);
    assert_int_equal(pg_config_new(&options, &nowhere, NULL), 0);
    pool = make_pool(nowhere, 100);
    assert_int_equal(catalog_new(pool, &c), 0);
    catalog_find(c, public, SLICE_LIT("c_one"), found, &a);
    await(&a, 3);
    assert_int_equal(a.code, ERR_RETRY);
    pool_free(pool);
    catalog_free(c);
    pg_config_free(nowhere);
}

static int setup(void **state)
{
    (void)state;
    cluster = pgcluster_new(NULL);
    const struct pg_options options = {.url = pgcluster_url(cluster)};
    return pg_config_new(&options, &pg, NULL) ||
           pg_connect(pg, PG_QUERY, 5000, -1, &conn, NULL);
}

static int teardown(void **state)
{
    (void)state;
    PQfinish(conn);
    pg_config_free(pg);
    pgcluster_free(cluster);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalar_types),
        cmocka_unit_test(test_time_types),
        cmocka_unit_test(test_arrays_domains_and_other_types),
        cmocka_unit_test(test_keys_follow_the_index_order_without_included_columns),
        cmocka_unit_test(test_without_a_key_all_columns_act_as_one),
        cmocka_unit_test(test_generated_columns_are_marked),
        cmocka_unit_test(test_clauses_see_what_is_beneath_domains_and_enums),
        cmocka_unit_test(test_clauses_see_collations),
        cmocka_unit_test(test_exotic_names_stay_on_one_header_line),
        cmocka_unit_test(test_only_tables_with_columns_are_known),
        cmocka_unit_test(test_descendants_of_every_depth_are_listed),
        cmocka_unit_test(test_reading_by_oid_gives_the_same),
        cmocka_unit_test(test_cached_entries_answer_for_a_second),
        cmocka_unit_test(test_letters_that_are_known_are_not_asked_for),
        cmocka_unit_test(test_questions_for_one_name_share_a_query),
        cmocka_unit_test(test_forgetting_during_a_lookup_makes_later_ones_ask_again),
        cmocka_unit_test(test_unknown_tables_and_an_unreachable_server_are_told_apart),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
