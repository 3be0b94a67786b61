/* Parameters: each row of the table of errors, and the spellings that pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "server/http/body.h"
#include "server/http/query.h"
#include "server/http/respond.h"
#include "server/http/subset_params.h"

static struct table_column items_columns[] = {
    {.name = {"id", 2}, .type_name = {"int4", 4}, .type_oid = 23, .not_null = true},
    {.name = {"title", 5}, .type_name = {"text", 4}, .type_oid = 25, .pk_index = -1},
    {.name = {"n", 1}, .type_name = {"int4", 4}, .type_oid = 23, .pk_index = -1}};
static uint16_t items_pk[] = {0};
static const struct table items = {.schema = {"public", 6},
                                   .name = {"v_items", 7},
                                   .has_pk = true,
                                   .column_count = 3,
                                   .pk_count = 1,
                                   .columns = items_columns,
                                   .pk = items_pk};

static struct table_column two_columns[] = {{.name = {"a", 1}, .pk_index = 1},
                                            {.name = {"b", 1}, .pk_index = 0},
                                            {.name = {"c", 1}, .pk_index = -1}};
static uint16_t two_pk[] = {1, 0};
static const struct table two = {
    .column_count = 3, .pk_count = 2, .columns = two_columns, .pk = two_pk};

static struct table_column gen_columns[] = {
    {.name = {"id", 2}, .pk_index = 0},
    {.name = {"a", 1}, .pk_index = -1},
    {.name = {"b", 1}, .type_oid = 23, .pk_index = -1, .generated = true}};
static const struct table gen = {
    .column_count = 3, .pk_count = 1, .columns = gen_columns, .pk = items_pk};

struct outcome {
    struct arena arena;
    struct shape_params shape;
    struct selection selection;
    char errors[2048]; /* field: text; field: text */
};

static void run(struct outcome *o, enum params_use use, const char *query,
                const struct table *model)
{
    struct table *table = model ? table_copy(model) : NULL;
    struct shape_where *where = NULL;
    struct subset_clauses clauses;
    struct params params;
    struct param_errors errors = {.count = 0};

    memset(&params, 0, sizeof params);
    arena_init(&o->arena, 1u << 20);
    o->errors[0] = '\0';
    int rc = params_add_query(&params, &o->arena, slice_of(query));
    assert_int_equal(rc, 0);
    rc = params_check(&params, use, &o->arena, &o->shape, &errors);
    if (rc == 0 && table)
        rc = params_check_table(&o->shape, table, &o->arena, &o->selection, &errors);
    if (rc == 0 && table)
        rc = params_check_where(&o->shape, table, &o->arena, &where, &errors);
    if (rc == 0 && table && o->shape.subset)
        rc = subset_params_resolve(&o->shape, table, &o->selection, &o->arena, &clauses,
                                   &errors);
    shape_where_release(where);
    table_release(table);
    assert_int_equal(rc, errors.count ? ERR_INVALID : 0);
    for (unsigned i = 0; i < errors.count; i++) {
        size_t n = strlen(o->errors);
        snprintf(o->errors + n, sizeof o->errors - n, "%s%s: %s", i ? "; " : "",
                 errors.items[i].field, errors.items[i].text);
    }
}

struct row {
    const char *query;
    const char *errors; /* "" for none */
};

static void check_rows(const struct row *rows, size_t count, const char *prefix,
                       const struct table *table)
{
    for (size_t i = 0; i < count; i++) {
        struct outcome o;
        char query[512];

        snprintf(query, sizeof query, "%s%s", prefix, rows[i].query);
        run(&o, PARAMS_READ, query, table);
        if (strcmp(o.errors, rows[i].errors) != 0)
            fprintf(stderr, "for %s\n", query);
        assert_string_equal(o.errors, rows[i].errors);
        arena_fini(&o.arena);
    }
}

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define SPECIAL     "Invalid unquoted identifier contains special characters: "
#define ZERO        "Invalid zero-length delimited identifier"
#define LONG        "Identifier is too long (max length is 63)"
#define X64         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static void offsets_and_handles(void **state)
{
    static const struct row rows[] = {
        {"table=t", "offset: can't be blank"},
        {"table=t&offset=", "offset: can't be blank"},
        {"table=t&offset=%20%20", "offset: can't be blank"},
        {"table=t&offset=10&handle=1", "offset: has invalid format"},
        {"table=t&offset=1_2_3&handle=1", "offset: has invalid format"},
        {"table=t&offset=0_0%20&handle=1", "offset: has invalid format"},
        {"table=t&offset=-5_0&handle=1", "offset: has invalid format"},
        {"table=t&offset=10_32.1&handle=1", "offset: has invalid format"},
        {"table=t&offset=NOW&handle=1", "offset: has invalid format"},
        {"table=t&offset=-1_inf&handle=1", "offset: has invalid format"},
        {"table=t&offset=18446744073709551616_0&handle=1", ""},
        {"table=t&offset=-1_0", ""},
        {"table=t&offset=%2B1_0&handle=1", ""},
        {"table=t&offset=01_00&handle=1", ""},
        {"table=t&offset=0_0", "handle: can't be blank when offset != -1"},
        {"table=t&offset=0_0&handle=", "handle: can't be blank when offset != -1"},
        {"table=t&offset=-1&live=true", "live: can't be true when offset == -1"},
        {"table=t&offset=-1&live=", "live: can't be true when offset == -1"},
        {"table=t&offset=-1&live=FALSE", "live: can't be true when offset == -1"},
        {"table=t&offset=-1&live=false", ""},
        {"table=t&offset=now&live=true", "live: can't be true when offset is 'now'"},
        {"table=t&offset=-1&live_sse=",
         "live_sse: can't be true unless live is also true"},
        {"table=t&offset=-1&live_sse=false", ""},
        {"table=t&offset=-1&experimental_live_sse=true",
         "live_sse: can't be true unless live is also true"},
        {"table=t&offset=-1&experimental_live_sse=yes", "live_sse: is invalid"},
        {"table=t&offset=-1&experimental_live_sse=false", ""},
        {"offset=-1", "table: can't be blank"},
        {"offset=-1&table=%20", "table: can't be blank"},
    };

    (void)state;
    check_rows(rows, COUNT(rows), "", NULL);
}

static void names_of_tables(void **state)
{
    static const struct row rows[] = {
        {"%22%22", "table: " ZERO},
        {"foo.", "table: " ZERO},
        {".foo", "table: " ZERO},
        {".", "table: " ZERO},
        {"public.%22%22", "table: " ZERO},
        {"foo%20bar", "table: " SPECIAL "foo bar"},
        {"foo-bar", "table: " SPECIAL "foo-bar"},
        {"%22foo%22bar%22", "table: Invalid identifier with unescaped quote: foo\"bar"},
        {"%22foo", "table: " SPECIAL "\"foo"},
        {"foo%22", "table: " SPECIAL "foo\""},
        {"a.b.c", "table: Invalid relation identifier, too many delimiters: a.b.c"},
        {"%22a%22.%22b%22.%22c%22",
         "table: Invalid relation identifier, too many delimiters: \"a\".\"b\".\"c\""},
        {X64, "table: " LONG},
        {"%22" X64 "%22", "table: " LONG},
        {"public." X64, "table: " LONG},
        {"1abc", "table: " SPECIAL "1abc"},
        {"%20v", "table: " SPECIAL " v"},
        {"%22v%22.", "table: " ZERO},
        {"v,", "table: " SPECIAL "v,"},
        {"foo$bar", ""},
        {"%C3%BCber", ""},
        {"%22a.b%22.%22c%22", ""},
    };
    struct outcome o;

    (void)state;
    check_rows(rows, COUNT(rows), "offset=-1&table=", NULL);
    run(&o, PARAMS_READ, "offset=-1&table=My_Table", NULL);
    assert_string_equal(o.shape.table.schema.ptr, "public");
    assert_true(slice_eq(o.shape.table.name, SLICE_LIT("my_table")));
    arena_fini(&o.arena);
    run(&o, PARAMS_READ, "offset=-1&table=%22A.b%22.%22q%22%22Q%22", NULL);
    assert_true(slice_eq(o.shape.table.schema, SLICE_LIT("A.b")));
    assert_true(slice_eq(o.shape.table.name, SLICE_LIT("q\"Q")));
    arena_fini(&o.arena);
}

#define MISSING                                                                          \
    "columns: The list of columns must include all primary key columns, missing: "
#define UNKNOWN "columns: The following columns are not found on the table: "

static void columns_against_the_table(void **state)
{
    static const struct row rows[] = {
        {"&columns=", ""},
        {"&columns=id,", "columns: " ZERO},
        {"&columns=id,,title", "columns: " ZERO},
        {"&columns=id,%20title", "columns: " SPECIAL " title"},
        {"&columns=%22id%22,%22title%22", ""},
        {"&columns=id,%22fo%22o%22", "columns: " SPECIAL "id,\"fo\"o\""},
        {"&columns=" X64, "columns: " LONG},
        {"&columns=ID,Title", ""},
        {"&columns=id,id,title", UNKNOWN "id"},
        {"&columns=title", MISSING "id"},
        {"&columns=id,nope,%22Nope%202%22", UNKNOWN "nope, Nope 2"},
        {"&columns=nope", MISSING "id"},
        {"&columns[]=id&columns[]=title", ""},
        {"&columns[a]=id", "columns: is invalid"},
        {"&queryable_columns=%20", ""},
        {"&queryable_columns=title",
         "queryable_columns: The list of queryable columns must include all primary key "
         "columns, missing: id"},
        {"&queryable_columns=id,nope", "queryable_columns: The following queryable "
                                       "columns are not found on the table: nope"},
        {"&queryable_columns=id,title&columns=id,n", UNKNOWN "n"},
        {"&queryable_columns=id,title&columns=id", ""},
        {"&queryable_columns=id,%22ti", "queryable_columns: " SPECIAL "id,\"ti"},
    };
    static const struct row two_rows[] = {{"&columns=c", MISSING "b, a"},
                                          {"&columns=a,c", MISSING "b"},
                                          {"&columns=c,a,b", ""}};
    static const struct row gen_rows[] = {
        {"", "columns: The following columns are generated and cannot be included in the "
             "shape: b. You can exclude them from the shape by explicitly listing which "
             "columns to fetch in the 'columns' query param"},
        {"&columns=id,a", ""},
        {"&queryable_columns=id,a", ""},
        {"&columns=id,b", "columns: The following columns are generated and cannot be "
                          "included in the shape: b"},
        {"&columns=id&where=b%3D1",
         "where: The following columns are generated and cannot "
         "be used in the where clause: b"}};
    struct outcome o;

    (void)state;
    check_rows(rows, COUNT(rows), "table=v_items&offset=-1", &items);
    check_rows(two_rows, COUNT(two_rows), "table=two&offset=-1", &two);
    check_rows(gen_rows, COUNT(gen_rows), "table=gen&offset=-1", &gen);
    run(&o, PARAMS_READ, "table=v_items&offset=-1&columns=n,id", &items);
    assert_false(o.selection.all);
    assert_int_equal(o.selection.count, 2);
    assert_int_equal(o.selection.columns[0], 0);
    assert_int_equal(o.selection.columns[1], 2);
    arena_fini(&o.arena);
    run(&o, PARAMS_READ, "table=v_items&offset=-1", &items);
    assert_true(o.selection.all);
    assert_int_equal(o.selection.count, 3);
    arena_fini(&o.arena);
}

#define KEYS     "params: Parameters can only use numbers as keys"
#define NUMBERED "params: Parameters must be numbered sequentially, starting from 1"

static void enumerated_values_and_params(void **state)
{
    static const struct row rows[] = {
        {"&replica=FULL", "replica: is invalid"},
        {"&replica=full", ""},
        {"&replica=", ""},
        {"&log=x", "log: is invalid"},
        {"&log=changes_only", ""},
        {"&experimental_compaction=x", "experimental_compaction: is invalid"},
        {"&experimental_compaction=1", ""},
        {"&params=1", "params: is invalid"},
        {"&params[]=1", "params: is invalid"},
        {"&params[1][x]=1", "params: is invalid"},
        {"&params[a]=1", KEYS},
        {"&params[2]=1", NUMBERED},
        {"&params[0]=1", NUMBERED},
        {"&params[1]=a&params[3]=b", NUMBERED},
        {"&params[2]=b&params[1]=", ""},
        {"&params[a]=1&columns=nope", MISSING "id"},
        {"&where=%20", ""},
        {"&where[a]=1", "where: is invalid"},
        {"&where=id%3D1", ""},
        {"&where=id%3D$1&params[1]=7", ""},
        {"&where=id%3D$1&params[1]=x",
         "where: At location 3: invalid syntax for type int4: x"},
        {"&where=id%3D$2&params[1]=7",
         "where: At location 3: parameter $2 was not provided"},
        {"&where=nope%3D1", "where: At location 0: unknown reference nope"},
        {"&where=id", "where: WHERE clause must return a boolean"},
        {"&where=nope&params[a]=1", KEYS},
        {"&where=nope&columns=n", MISSING "id"},
        {"&where=nope&subset__limit=1", "where: At location 0: unknown reference nope"},
        {"&where=title%3D''&columns=id&queryable_columns=id", ""},
        {"&subset__where=nope%3D1", "where: At location 0: unknown reference nope"},
        {"&subset__where=n", "where: WHERE clause must return a boolean"},
        {"&subset__where=n=$1&subset__params={\"1\":2}", ""},
        {"&subset__where=n=$1", "where: At location 2: parameter $1 was not provided"},
        {"&subset__where=n=$1&params[1]=1",
         "where: At location 2: parameter $1 was not provided"},
        {"&subset__where=id%20in%20(select%201)",
         "where: Subqueries are not allowed in subsets"},
        {"&subset__where=n=1&columns=id", ""},
        {"&subset__where=n=1&queryable_columns=id,title",
         "where: At location 0: unknown reference n"},
        {"&subset__where=title=''&queryable_columns=id,title&columns=id", ""},
        {"&subset__order_by=n&queryable_columns=id",
         "order_by: At location 18: unknown reference n"},
        {"&subset__order_by=2&columns=id",
         "order_by: At location 18: ORDER BY position 2 is not in select list"},
        {"&subset__order_by=2&columns=id,n&subset__limit=3", ""},
        {"&subset__order_by=n,&subset__where=nope%3D1",
         "where: At location 0: unknown reference nope"},
        {"&subset__limit=1&columns=nope", MISSING "id"},
        {"&unknown=1&cache-buster=x&expired_handle=y", ""},
        {"&offset=now", ""},
        {"&x=%zz&&&y", ""},
    };
    static const struct row order[] = {
        {"", "offset: can't be blank"},
        {"table=foo%20bar", "offset: can't be blank"},
        {"offset=x&live=true", "offset: has invalid format"},
        {"table=v_items&offset=x&replica=y&log=z",
         "log: is invalid; replica: is invalid"},
        {"table=v_items&offset=-1&live=true&replica=x", "replica: is invalid"},
        {"table=nope&offset=0_0", "handle: can't be blank when offset != -1"},
        {"table=v_items&offset=-1&live_sse=true&live=false&columns=nope",
         "live_sse: can't be true unless live is also true"},
        {"table[]=v_items&offset=-1", "table: is invalid"},
    };

    (void)state;
    check_rows(rows, COUNT(rows), "table=v_items&offset=-1", &items);
    check_rows(order, COUNT(order), "", &items);
}

static void deletion_looks_at_less(void **state)
{
    struct outcome o;

    (void)state;
    run(&o, PARAMS_DELETE, "table=t&offset=x&live=true", NULL);
    assert_string_equal(o.errors, "");
    arena_fini(&o.arena);
    run(&o, PARAMS_DELETE, "table=t&live=x", NULL);
    assert_string_equal(o.errors, "live: is invalid");
    arena_fini(&o.arena);
    run(&o, PARAMS_DELETE, "offset=-1", NULL);
    assert_string_equal(o.errors,
                        "handle: can't be blank when shape definition is missing");
    arena_fini(&o.arena);
    run(&o, PARAMS_DELETE, "handle=1-1", NULL);
    assert_string_equal(o.errors, "");
    assert_false(o.shape.has_table);
    arena_fini(&o.arena);
}

static void bodies_override_the_query(void **state)
{
    struct params params;
    struct arena arena;
    const char *reply = NULL;

    (void)state;
    memset(&params, 0, sizeof params);
    arena_init(&arena, 1u << 20);
    assert_int_equal(params_add_query(&params, &arena, SLICE_LIT("table=a&offset=-1")),
                     0);
    struct slice body =
        SLICE_LIT("{\"table\":\"b\",\"columns\":[\"x\",\"y\"],\"live\":true,"
                  "\"offset\":\"7_0\",\"unknown\":{\"a\":[1]}}");
    assert_int_equal(body_merge(body, &params, &arena, &reply), 0);
    assert_true(slice_eq(params.values[PARAM_TABLE].text, SLICE_LIT("b")));
    assert_true(
        slice_eq(params.values[PARAM_OFFSET].text, SLICE_LIT("-1"))); /* a subset's */
    assert_int_equal(params.values[PARAM_COLUMNS].kind, PARAM_LIST);
    assert_int_equal(params.values[PARAM_LIVE].kind, PARAM_BARE);
    assert_true(params.subset);
    body = SLICE_LIT("{\"offset\":\"7_0\",\"where\":5,\"subset\":{}}");
    assert_int_equal(body_merge(body, &params, &arena, &reply), 0);
    assert_true(slice_eq(params.values[PARAM_OFFSET].text, SLICE_LIT("7_0")));
    assert_int_equal(params.values[PARAM_WHERE].kind, PARAM_BARE);
    arena_fini(&arena);
}

/* In a body a key can come twice, which its sum must not hide. */
static void parameters_given_twice_are_refused(void **state)
{
    struct arena arena;
    struct params params = {.subset = false};
    struct shape_params shape;
    struct param_errors errors;
    const char *reply = NULL;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_int_equal(
        params_add_query(&params, &arena, SLICE_LIT("table=a&offset=-1&where=id%3D$1")),
        0);
    struct slice body = SLICE_LIT("{\"subset\":{},\"params\":{\"1\":\"1\",\"1\":\"2\","
                                  "\"4\":\"3\",\"4\":\"4\"}}");
    assert_int_equal(body_merge(body, &params, &arena, &reply), 0);
    assert_int_equal(params_check(&params, PARAMS_READ, &arena, &shape, &errors), 0);
    assert_non_null(shape.params_error);
    arena_fini(&arena);
}

static void secrets_are_redacted(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, 4096);
    query_redact(SLICE_LIT("table=t&secret=a&API_KEY=b&%70assword=c&token&x=secret"
                           "&secret[]=d&secret%5Bx][y]=e&secrets=f"),
                 &out);
    buf_putc(&out, '\0');
    assert_string_equal(out.ptr,
                        "table=t&secret=redacted&API_KEY=redacted&%70assword=redacted"
                        "&token=redacted&x=secret&secret[]=redacted"
                        "&secret%5Bx][y]=redacted&secrets=f");
    buf_fini(&out);
}

static void cursors_escape_what_was_sent(void **state)
{
    const int64_t epoch = 1728432000;

    (void)state;
    assert_int_equal(respond_cursor(20000, epoch + 1, SLICE_LIT(""), 5), 20);
    assert_int_equal(respond_cursor(20000, epoch + 20, SLICE_LIT("abc"), 5), 20);
    assert_int_equal(respond_cursor(20000, epoch + 21, SLICE_LIT("12.5"), 5), 40);
    assert_int_equal(respond_cursor(20000, epoch + 21, SLICE_LIT("39"), 5), 40);
    assert_int_equal(respond_cursor(20000, epoch + 21, SLICE_LIT("40"), 5), 46);
    assert_int_equal(respond_cursor(20000, epoch + 21, SLICE_LIT("+40"), 3599), 3640);
    assert_int_equal(respond_cursor(0, epoch + 21, SLICE_LIT("40"), 5), 0);
    assert_int_equal(
        respond_cursor(20000, epoch + 21, SLICE_LIT("9223372036854775807"), 5), 40);
}

static void etags_are_compared_bare(void **state)
{
    struct slice etag = SLICE_LIT("1-1:-1:0_0");

    (void)state;
    assert_true(respond_etag_matches(SLICE_LIT("\"1-1:-1:0_0\""), etag));
    assert_true(respond_etag_matches(SLICE_LIT("1-1:-1:0_0"), etag));
    assert_true(respond_etag_matches(SLICE_LIT("\"x\", \"1-1:-1:0_0\" ,y"), etag));
    assert_false(respond_etag_matches(SLICE_LIT("W/\"1-1:-1:0_0\""), etag));
    assert_false(respond_etag_matches(SLICE_LIT("*"), etag));
    assert_false(respond_etag_matches(SLICE_LIT(""), etag));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offsets_and_handles),
        cmocka_unit_test(names_of_tables),
        cmocka_unit_test(columns_against_the_table),
        cmocka_unit_test(enumerated_values_and_params),
        cmocka_unit_test(deletion_looks_at_less),
        cmocka_unit_test(bodies_override_the_query),
        cmocka_unit_test(parameters_given_twice_are_refused),
        cmocka_unit_test(secrets_are_redacted),
        cmocka_unit_test(cursors_escape_what_was_sent),
        cmocka_unit_test(etags_are_compared_bare),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
