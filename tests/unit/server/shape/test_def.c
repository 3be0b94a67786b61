/* Definitions: identity, the durable form and back, and whether a table still serves
 * them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/shape/def.h"
#include "server/shape/where.h"

static int parse_def(struct slice text, struct shape_def **out, struct err *err)
{
    struct shape_def_reader reader;
    shape_def_reader_init(&reader, NULL);
    int rc = shape_def_read(&reader, text, out, err);
    shape_def_reader_fini(&reader);
    return rc;
}

static struct table_column columns[3];
static uint16_t pk[1];

static struct table *make_table(void)
{
    columns[0] = (struct table_column){.name = SLICE_LIT("id"),
                                       .type_name = SLICE_LIT("int4"),
                                       .type_oid = 23,
                                       .typmod = -1,
                                       .attnum = 1,
                                       .pk_index = 0,
                                       .not_null = true};
    columns[1] = (struct table_column){.name = SLICE_LIT("we\"ird\nname"),
                                       .type_name = SLICE_LIT("varchar"),
                                       .type_oid = 1043,
                                       .typmod = 9,
                                       .attnum = 3,
                                       .pk_index = -1};
    columns[2] = (struct table_column){.name = SLICE_LIT("tags"),
                                       .type_name = SLICE_LIT("text"),
                                       .type_oid = 1009,
                                       .typmod = -1,
                                       .dims = 1,
                                       .attnum = 4,
                                       .pk_index = -1};
    pk[0] = 0;
    static uint32_t children[2] = {77, 99};
    struct table model = {.oid = 1234,
                          .schema = SLICE_LIT("public"),
                          .name = SLICE_LIT("T"),
                          .kind = 'p',
                          .replica_identity = 'f',
                          .has_pk = true,
                          .column_count = 3,
                          .pk_count = 1,
                          .columns = columns,
                          .pk = pk,
                          .children = children,
                          .child_count = 2};
    struct table *t = table_copy(&model);
    assert_non_null(t);
    return t;
}

static struct shape_def *make(struct table *t, const uint16_t *selected, size_t count,
                              enum encode_replica replica, enum shape_log_mode mode)
{
    struct shape_spec spec = {.table = t,
                              .selected = selected,
                              .selected_count = count,
                              .replica = replica,
                              .log_mode = mode};
    struct shape_def *def = NULL;
    assert_int_equal(shape_def_new(&spec, &def, NULL), 0);
    return def;
}

static bool same(const struct shape_def *a, const struct shape_def *b)
{
    return slice_eq(shape_def_identity(a), shape_def_identity(b));
}

static void what_makes_a_definition_the_same(void **state)
{
    (void)state;
    struct table *t = make_table();
    uint16_t all[] = {0, 1, 2}, reordered[] = {2, 0}, sorted[] = {0, 2};
    struct shape_def *defs[] = {
        make(t, NULL, 0, ENCODE_REPLICA_DEFAULT, SHAPE_LOG_FULL),
        make(t, all, 3, ENCODE_REPLICA_DEFAULT, SHAPE_LOG_FULL),
        make(t, sorted, 2, ENCODE_REPLICA_DEFAULT, SHAPE_LOG_FULL),
        make(t, NULL, 0, ENCODE_REPLICA_FULL, SHAPE_LOG_FULL),
        make(t, NULL, 0, ENCODE_REPLICA_DEFAULT, SHAPE_LOG_CHANGES_ONLY),
    };
    size_t n = sizeof defs / sizeof(defs[0]);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++)
            assert_int_equal(same(defs[i], defs[j]), i == j);
    }
    struct shape_def *other =
        make(t, reordered, 2, ENCODE_REPLICA_DEFAULT, SHAPE_LOG_FULL);
    assert_true(same(other, defs[2])); /* the list's order is no difference */
    shape_def_release(other);
    for (size_t i = 0; i < n; i++)
        shape_def_release(defs[i]);
    table_release(t);
}

static void the_durable_form_comes_back_whole(void **state)
{
    (void)state;
    struct table *t = make_table();
    uint16_t some[] = {0, 2};
    for (int i = 0; i < 8; i++) {
        struct shape_def *def =
            make(t, (i & 1) ? some : NULL, 2, (enum encode_replica)(i >> 1 & 1),
                 (enum shape_log_mode)(i >> 2));
        struct buf text;
        buf_init(&text, 1 << 20);
        assert_int_equal(shape_def_print(def, &text), 0);
        struct shape_def *back = NULL;
        struct err err;
        assert_int_equal(parse_def(buf_slice(&text), &back, &err), 0);
        assert_true(same(def, back));
        assert_string_equal(def->columns->schema_header, back->columns->schema_header);
        assert_true(table_same(def->table, back->table));
        assert_int_equal(back->table->child_count, 2);
        assert_int_equal(back->table->children[1], 99);
        assert_true(shape_def_fits(back, t, NULL));
        shape_def_release(back);
        shape_def_release(def);
        buf_fini(&text);
    }
    table_release(t);
}

/* A clause over the first column. */
static struct shape_def *make_with(struct table *t, const char *where, bool maps_case)
{
    static const uint16_t reads[] = {0};
    struct shape_spec spec = {.table = t,
                              .replica = ENCODE_REPLICA_FULL,
                              .where = slice_of(where),
                              .where_columns = reads,
                              .where_count = 1,
                              .maps_case = maps_case};
    struct shape_def *def = NULL;
    assert_int_equal(shape_def_new(&spec, &def, NULL), 0);
    return def;
}

static void many_that_differ_in_their_clause_share_columns(void **state)
{
    (void)state;
    struct table *t = make_table();
    struct shape_def *defs[] = {make_with(t, "id = 1", false),
                                make_with(t, "id = 2", false),
                                make(t, NULL, 0, ENCODE_REPLICA_FULL, SHAPE_LOG_FULL),
                                make(t, NULL, 0, ENCODE_REPLICA_DEFAULT, SHAPE_LOG_FULL),
                                make_with(t, "\"where\":", false)};
    struct shape_columns *shared = NULL;
    struct shape_def_reader reader;
    shape_def_reader_init(&reader, NULL);
    for (size_t i = 0; i < sizeof defs / sizeof defs[0]; i++) {
        struct shape_def *back = NULL;
        struct buf text;
        buf_init(&text, 1 << 20);
        assert_int_equal(shape_def_print(defs[i], &text), 0);
        assert_int_equal(shape_def_read(&reader, buf_slice(&text), &back, NULL), 0);
        assert_true(same(defs[i], back));
        assert_int_equal(defs[i]->where_count, back->where_count);
        if (i == 1)
            assert_ptr_equal(back->columns, shared);
        else
            assert_ptr_not_equal(back->columns, shared);
        shared = back->columns;
        for (size_t len = 0; len < text.len; len++) {
            struct shape_def *cut = NULL;
            assert_int_equal(
                shape_def_read(&reader, slice_make(text.ptr, len), &cut, NULL),
                ERR_CORRUPT);
            assert_null(cut);
        }
        shape_def_release(back);
        shape_def_release(defs[i]);
        buf_fini(&text);
    }
    shape_def_reader_fini(&reader);
    table_release(t);
}

static void a_clause_that_maps_case_needs_the_same_letters(void **state)
{
    (void)state;
    struct case_map *map = NULL, *other = NULL;
    assert_int_equal(case_map_parse(SLICE_LIT("glibc 1\n65 97 65\n"), &map, NULL), 0);
    assert_int_equal(case_map_parse(SLICE_LIT("glibc 2\n"), &other, NULL), 0);
    struct table *plain = make_table();
    struct table model = *plain;
    model.case_map_id = case_map_id(map);
    struct table *t = table_copy(&model);
    table_set_case_map(t, map);
    struct buf text;
    buf_init(&text, 1 << 20);
    for (int maps_case = 0; maps_case < 2; maps_case++) {
        struct shape_def *def = make_with(t, "x", maps_case), *back = NULL;
        struct case_map *const stored[] = {map, other, NULL};
        buf_reset(&text, SIZE_MAX);
        assert_int_equal(shape_def_print(def, &text), 0);
        for (int i = 0; i < 3; i++) {
            struct shape_def_reader reader;
            shape_def_reader_init(&reader, stored[i]);
            assert_int_equal(shape_def_read(&reader, buf_slice(&text), &back, NULL),
                             maps_case && i > 0 ? ERR_CORRUPT : 0);
            shape_def_reader_fini(&reader);
            if (back != NULL) {
                assert_ptr_equal(back->table->case_map, i == 0 ? map : NULL);
                assert_int_equal(back->maps_case, maps_case);
            }
            shape_def_release(back);
            back = NULL;
        }
        /* Another version of the library may map another way. */
        assert_int_equal(shape_def_fits(def, plain, NULL), !maps_case);
        assert_true(shape_def_fits(def, t, NULL));
        shape_def_release(def);
    }
    buf_fini(&text);
    table_release(t);
    table_release(plain);
    case_map_release(map);
    case_map_release(other);
}

static void a_damaged_durable_form_is_refused(void **state)
{
    (void)state;
    struct table *t = make_table();
    struct shape_def *def = make(t, NULL, 0, ENCODE_REPLICA_DEFAULT, SHAPE_LOG_FULL);
    struct buf text;
    buf_init(&text, 1 << 20);
    shape_def_print(def, &text);
    for (size_t len = 0; len < text.len; len++) {
        struct shape_def *back = NULL;
        struct err err;
        assert_int_equal(parse_def(slice_make(text.ptr, len), &back, &err), ERR_CORRUPT);
        assert_null(back);
    }
    buf_fini(&text);
    shape_def_release(def);
    table_release(t);
}

static struct table *altered(struct table *t, void (*change)(struct table *))
{
    struct table *now = table_copy(t);
    change(now);
    return now;
}

static void change_oid(struct table *t)
{
    t->oid++;
}
static void change_type(struct table *t)
{
    t->columns[1].type_oid = 25;
}
static void change_length(struct table *t)
{
    t->columns[1].typmod = 12;
}
static void change_null(struct table *t)
{
    t->columns[1].not_null = true;
}
static void lose_column(struct table *t)
{
    t->columns[1].name.len = 2;
}
static void lose_key(struct table *t)
{
    t->has_pk = false;
}
static void hide_last(struct table *t)
{
    t->column_count = 2;
}

static void which_changes_end_a_shape(void **state)
{
    (void)state;
    struct table *t = make_table();
    uint16_t without_second[] = {0, 2};
    struct shape_def *all = make(t, NULL, 0, ENCODE_REPLICA_DEFAULT, SHAPE_LOG_FULL);
    struct shape_def *some =
        make(t, without_second, 2, ENCODE_REPLICA_DEFAULT, SHAPE_LOG_FULL);
    static const struct {
        void (*change)(struct table *);
        bool ends_all, ends_some;
    } cases[] = {
        {change_oid, true, true},     {change_type, true, false},
        {change_length, true, false}, {change_null, false, false},
        {lose_column, true, false},   {lose_key, true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof(cases[0]); i++) {
        struct table *now = altered(t, cases[i].change);
        struct buf why;
        buf_init(&why, 256);
        assert_int_equal(shape_def_fits(all, now, &why), !cases[i].ends_all);
        assert_int_equal(why.len > 0, cases[i].ends_all);
        assert_int_equal(shape_def_fits(some, now, NULL), !cases[i].ends_some);
        buf_fini(&why);
        table_release(now);
    }
    uint16_t first_two[] = {0, 1};
    struct shape_def *two = make(t, first_two, 2, ENCODE_REPLICA_DEFAULT, SHAPE_LOG_FULL);
    struct table *fewer = altered(t, hide_last);
    assert_true(shape_def_fits(two, fewer, NULL)); /* an unselected column may go */
    assert_false(shape_def_fits(all, fewer, NULL));
    fewer->column_count = 3; /* what the copy owns is freed whole */
    table_release(fewer);
    shape_def_release(two);
    shape_def_release(some);
    shape_def_release(all);
    table_release(t);
}

static void a_relaxed_definition_is_the_same_shape_with_another_header(void **state)
{
    (void)state;
    struct table *t = make_table();
    t->columns[1].not_null = true;
    struct shape_def *def = make(t, NULL, 0, ENCODE_REPLICA_DEFAULT, SHAPE_LOG_FULL);
    uint16_t second = 1;
    struct shape_def *relaxed = NULL;
    assert_int_equal(shape_def_relaxed(def, &second, 1, &relaxed, NULL), 0);
    assert_true(same(def, relaxed));
    assert_string_not_equal(def->columns->schema_header, relaxed->columns->schema_header);
    assert_true(def->table->columns[1].not_null);
    assert_false(relaxed->table->columns[1].not_null);
    shape_def_release(relaxed);
    shape_def_release(def);
    table_release(t);
}

/* Relaxed and with a partition more, stored and read back: all of it is kept. */
static void a_definition_with_other_children_is_the_same_shape(void **state)
{
    (void)state;
    struct table *t = make_table();
    t->columns[1].not_null = true;
    struct shape_def *def = make(t, NULL, 0, ENCODE_REPLICA_DEFAULT, SHAPE_LOG_FULL);
    uint16_t second = 1;
    uint32_t children[] = {77, 99, 101};
    struct shape_def *relaxed = NULL, *wider = NULL, *again = NULL;
    assert_int_equal(shape_def_relaxed(def, &second, 1, &relaxed, NULL), 0);
    assert_int_equal(shape_def_with_children(relaxed, children, 3, &wider, NULL), 0);
    assert_true(same(def, wider));
    assert_string_equal(relaxed->columns->schema_header, wider->columns->schema_header);
    struct buf text;
    buf_init(&text, SHAPE_DEF_TEXT_MAX);
    assert_int_equal(shape_def_print(wider, &text), 0);
    assert_int_equal(parse_def(buf_slice(&text), &again, NULL), 0);
    assert_true(same(def, again));
    assert_string_equal(relaxed->columns->schema_header, again->columns->schema_header);
    assert_int_equal(again->table->child_count, 3);
    assert_memory_equal(again->table->children, children, sizeof children);
    assert_int_equal(def->table->child_count, 2);
    buf_fini(&text);
    shape_def_release(again);
    shape_def_release(wider);
    shape_def_release(relaxed);
    shape_def_release(def);
    table_release(t);
}

/* --- With a clause --- */

static const struct slice labels[] = {{"sad", 3}, {"it's \"ok\"", 9}};
static const struct sql_enum mood = {.oid = 900,
                                     .schema = {"s", 1},
                                     .name = {"mood", 4},
                                     .labels = labels,
                                     .label_count = 2};

static struct table *make_moody_table(void)
{
    struct table *plain = make_table();
    struct table model = *plain;
    columns[0] = plain->columns[0];
    columns[1] = (struct table_column){.name = SLICE_LIT("m"),
                                       .type_name = SLICE_LIT("dmood"),
                                       .type_oid = 901,
                                       .typmod = -1,
                                       .attnum = 2,
                                       .pk_index = -1,
                                       .base_oid = 900,
                                       .base_typmod = -1,
                                       .enum_type = &mood};
    columns[2] = (struct table_column){.name = SLICE_LIT("c"),
                                       .type_name = SLICE_LIT("text"),
                                       .type_oid = 25,
                                       .typmod = -1,
                                       .attnum = 3,
                                       .pk_index = -1,
                                       .collation = SQL_COLLATION_C,
                                       .collation_oid = 950};
    model.columns = columns;
    model.collation = SQL_COLLATION_DETERMINISTIC;
    struct table *t = table_copy(&model);
    assert_non_null(t);
    table_release(plain);
    return t;
}

static struct shape_def *make_where(struct table *t, const char *text, const char *param)
{
    const struct slice value = slice_of(param);
    const struct sql_params params = {&value, param != NULL ? 1 : 0};
    struct shape_where *where = NULL;
    struct err err = {0};
    if (shape_where_parse(t, slice_of(text), &params, &where, &err) != 0)
        fail_msg("%s: %s", text, err.message);
    uint16_t id = 0;
    struct shape_spec spec = {.table = t,
                              .selected = &id,
                              .selected_count = 1,
                              .where = where->text,
                              .where_columns = where->columns,
                              .where_count = where->column_count};
    struct shape_def *def = NULL;
    assert_int_equal(shape_def_new(&spec, &def, NULL), 0);
    assert_true(slice_eq(def->where, where->text));
    shape_where_release(where);
    return def;
}

static void equal_clauses_are_the_same_definition(void **state)
{
    (void)state;
    struct table *t = make_moody_table();
    uint16_t id = 0;
    struct shape_def *a = make_where(t, "m = 'sad' AND c > 'a'", NULL);
    struct shape_def *b = make_where(t, "(\"c\">$1) and M='sad'", "a");
    struct shape_def *other = make_where(t, "m = 'sad' AND c > 'b'", NULL);
    struct shape_def *none = make(t, &id, 1, ENCODE_REPLICA_DEFAULT, SHAPE_LOG_FULL);
    assert_true(same(a, b));
    assert_false(same(a, other));
    assert_false(same(a, none));
    assert_int_equal(a->where_count, 2);
    assert_int_equal(a->where_columns[0], 1);
    assert_int_equal(a->where_columns[1], 2);
    assert_int_equal(none->where.len, 0);
    shape_def_release(none);
    shape_def_release(other);
    shape_def_release(b);
    shape_def_release(a);
    table_release(t);
}

static void a_clause_comes_back_and_means_the_same(void **state)
{
    (void)state;
    struct table *t = make_moody_table();
    struct shape_def *def = make_where(t, "m <> 'it''s \"ok\"' OR c LIKE 'x%'", NULL);
    struct shape_def *back = NULL, *wider = NULL;
    uint32_t children[] = {77, 99, 101};
    struct buf text;
    buf_init(&text, 1 << 20);
    assert_int_equal(shape_def_with_children(def, children, 3, &wider, NULL), 0);
    assert_true(same(def, wider));
    assert_int_equal(shape_def_print(wider, &text), 0);
    assert_int_equal(parse_def(buf_slice(&text), &back, NULL), 0);
    assert_true(same(def, back));
    assert_true(table_same(t, back->table));
    assert_true(shape_def_fits(back, t, NULL));
    assert_int_equal(back->where_count, 2);
    struct shape_where *where = NULL;
    assert_int_equal(shape_where_reparse(back->table, back->where, &where, NULL), 0);
    assert_true(slice_eq(where->text, def->where));
    shape_where_release(where);
    for (size_t len = 0; len < text.len; len++) {
        struct shape_def *cut = NULL;
        assert_int_equal(parse_def(slice_make(text.ptr, len), &cut, NULL), ERR_CORRUPT);
    }
    buf_fini(&text);
    shape_def_release(back);
    shape_def_release(wider);
    shape_def_release(def);
    table_release(t);
}

static void the_form_of_before_clauses_is_read(void **state)
{
    (void)state;
    static const char old[] =
        "{\"version\":1,\"oid\":7,\"schema\":\"public\",\"name\":\"t\",\"kind\":\"r\","
        "\"partition\":false,\"has_pk\":true,\"columns\":[{\"name\":\"id\",\"type\":"
        "\"int4\",\"type_oid\":23,\"typmod\":-1,\"dims\":0,\"attnum\":1,\"pk\":0,"
        "\"not_null\":true,\"generated\":false}],\"pk\":[0],\"children\":[],\"all\":true,"
        "\"selected\":[0],\"replica\":\"default\",\"log\":\"full\"}";
    struct shape_def *def = NULL;
    assert_int_equal(parse_def(slice_of(old), &def, NULL), 0);
    assert_int_equal(def->where.len, 0);
    assert_int_equal(table_sql(def->table)->columns[0].type.base, SQL_INT4);
    shape_def_release(def);
}

static void change_collation(struct table *t)
{
    t->columns[2].collation_oid = 951;
}
static void change_base(struct table *t)
{
    t->columns[1].base_oid = 23;
}
static void change_text(struct table *t)
{
    t->columns[2].type_oid = 1043;
}

static void what_a_clause_reads_must_stay_as_it_is(void **state)
{
    (void)state;
    struct table *t = make_moody_table();
    struct shape_def *reads_c = make_where(t, "c > 'a'", NULL);
    struct shape_def *reads_m = make_where(t, "m = 'sad'", NULL);
    static const struct {
        void (*change)(struct table *);
        bool ends_c, ends_m;
    } cases[] = {
        {change_collation, true, false},
        {change_base, false, true},
        {change_text, true, false},
        {change_null, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof(cases[0]); i++) {
        struct table *now = altered(t, cases[i].change);
        assert_int_equal(shape_def_fits(reads_c, now, NULL), !cases[i].ends_c);
        assert_int_equal(shape_def_fits(reads_m, now, NULL), !cases[i].ends_m);
        table_release(now);
    }
    shape_def_release(reads_m);
    shape_def_release(reads_c);
    table_release(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_makes_a_definition_the_same),
        cmocka_unit_test(the_durable_form_comes_back_whole),
        cmocka_unit_test(a_damaged_durable_form_is_refused),
        cmocka_unit_test(many_that_differ_in_their_clause_share_columns),
        cmocka_unit_test(a_clause_that_maps_case_needs_the_same_letters),
        cmocka_unit_test(which_changes_end_a_shape),
        cmocka_unit_test(a_relaxed_definition_is_the_same_shape_with_another_header),
        cmocka_unit_test(a_definition_with_other_children_is_the_same_shape),
        cmocka_unit_test(equal_clauses_are_the_same_definition),
        cmocka_unit_test(a_clause_comes_back_and_means_the_same),
        cmocka_unit_test(the_form_of_before_clauses_is_read),
        cmocka_unit_test(what_a_clause_reads_must_stay_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
