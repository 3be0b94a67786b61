/* A stored definition read while there is no memory: that is not damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

/* The faults come before what they hit. */
/* clang-format off */
#include "support/alloc_faults.h"

#include "server/shape/def_parse.c" // NOLINT(bugprone-suspicious-include)
/* clang-format on */

#include "base/buf.h"

static int parse_def(struct slice text, struct shape_def **out, struct err *err)
{
    struct shape_def_reader reader;
    shape_def_reader_init(&reader, NULL);
    int rc = shape_def_read(&reader, text, out, err);
    shape_def_reader_fini(&reader);
    return rc;
}

static void want_of_memory_is_not_called_damage(void **state)
{
    (void)state;
    struct slice text = SLICE_LIT(
        "{\"version\":2,\"collation\":2,\"oid\":7,\"schema\":\"public\",\"name\":\"t\","
        "\"kind\":\"r\","
        "\"has_pk\":true,\"columns\":[{\"name\":\"id\",\"type\":\"int4\",\"type_oid\":23,"
        "\"typmod\":-1,\"dims\":0,\"attnum\":1,\"pk\":0,\"not_null\":true},"
        "{\"name\":\"m\",\"type\":\"mood\",\"type_oid\":900,\"typmod\":-1,\"dims\":0,"
        "\"attnum\":2,\"pk\":-1,\"not_null\":false,\"enum\":{\"oid\":900,\"schema\":"
        "\"s\",\"name\":\"mood\",\"labels\":[\"sad\",\"ok\"]}}],"
        "\"pk\":[0],\"children\":[],\"selected\":[0],\"all\":true,"
        "\"replica\":\"default\",\"log\":\"full\",\"where\":\"(m = 'sad')\","
        "\"where_columns\":[1]}");
    struct shape_def *back = NULL;
    size_t n = 0;
    while (back == NULL) {
        struct err err = {0};
        alloc_fail_nth(++n);
        int rc = parse_def(text, &back, &err);
        assert_int_equal(rc, back == NULL ? ERR_MEMORY : 0);
    }
    alloc_fail_nth(0);
    assert_true(n > 30); /* jansson's own are among them */
    shape_def_release(back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(want_of_memory_is_not_called_damage),
    };
    return cmocka_run_group_tests_name("server/shape/def faults", tests, NULL, NULL);
}
