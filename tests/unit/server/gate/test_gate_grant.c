/* Grants, sources and policies: forms, canonical text, what is filled in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>

#include "server/gate/policy.h"

/* The canonical text, or what is wrong behind a '!'. Freed by the caller. */
static char *normal(const char *text)
{
    json_t *in = json_loads(text, JSON_DECODE_ANY, NULL);
    json_t *out = NULL;
    struct err err = {0};
    struct buf b;

    buf_init(&b, 65536);
    if (grant_normalise(in, &out, &err) == 0)
        grant_print(out, &b);
    else
        buf_printf(&b, "!%s", err.message);
    json_decref(in);
    json_decref(out);
    return buf_take(&b, NULL);
}

#define IS(in, wanted)                                                                   \
    do {                                                                                 \
        char *text_ = normal(in);                                                        \
        assert_string_equal(text_, wanted);                                              \
        free(text_);                                                                     \
    } while (0)

static void equal_grants_have_one_text(void **state)
{
    (void)state;
    IS("{\"table\":\"t\"}", "{\"table\":\"t\"}");
    IS("{\"columns\":[\"b\",\"a\",\"b\"],\"params\":{\"2\":true,\"1\":\"x\"},"
       "\"where\":\"a = $1 AND b = $2\",\"table\":\"t\"}",
       "{\"table\":\"t\",\"where\":\"a = $1 AND b = $2\",\"params\":[\"x\",\"true\"],"
       "\"columns\":[\"a\",\"b\"]}");
    IS("{\"table\":\"t\",\"where\":null,\"params\":[],\"columns\":null}",
       "{\"table\":\"t\"}");
    IS("{\"table\":\"t\",\"params\":[1,-2.5,false]}",
       "{\"table\":\"t\",\"params\":[\"1\",\"-2.5\",\"false\"]}");
}

static void what_is_no_grant_is_refused(void **state)
{
    static const char *const wrong[] = {"7",
                                        "[]",
                                        "{}",
                                        "{\"table\":7}",
                                        "{\"table\":\"\"}",
                                        "{\"table\":\"t\",\"where\":7}",
                                        "{\"table\":\"t\",\"where\":\"\"}",
                                        "{\"table\":\"t\",\"params\":\"x\"}",
                                        "{\"table\":\"t\",\"params\":[null]}",
                                        "{\"table\":\"t\",\"params\":{\"0\":\"x\"}}",
                                        "{\"table\":\"t\",\"params\":[[1]]}",
                                        "{\"table\":\"t\",\"columns\":[]}",
                                        "{\"table\":\"t\",\"columns\":\"a,b\"}",
                                        "{\"table\":\"t\",\"columns\":[7]}",
                                        "{\"table\":\"t\",\"colums\":[\"a\"]}"};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *text = normal(wrong[i]);

        if (text[0] != '!')
            fail_msg("%s was taken for %s", wrong[i], text);
        free(text);
    }
}

static void sources_find_their_values(void **state)
{
    json_t *claims = json_loads("{\"sub\":\"a\",\"org\":{\"id\":7}}", 0, NULL);
    json_t *deep = json_string("claims.org.id");
    json_t *none = json_string("claims.org.name");
    json_t *literal = json_loads("{\"value\":null}", 0, NULL);
    const struct source_values values = {.claims = claims};
    static const char *const wrong[] = {"claims",    "claims.",   "sub",   "env.HOME",
                                        "claims..x", "claims.a.", "body.x"};
    struct err err = {0};

    (void)state;
    assert_int_equal(json_integer_value(source_value(deep, &values)), 7);
    assert_null(source_value(none, &values));
    assert_true(json_is_null(source_value(literal, &values)));
    assert_int_equal(source_check(deep, SOURCE_CLAIMS, &err), 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        json_t *s = json_string(wrong[i]);

        assert_int_equal(source_check(s, SOURCE_CLAIMS, &err), ERR_INVALID);
        json_decref(s);
    }
    json_decref(claims);
    json_decref(deep);
    json_decref(none);
    json_decref(literal);
}

static const char policy_text[] =
    "{\"tables\":{\"t\":{\"where\":\"o = $1 AND c = $2\","
    "\"params\":[\"claims.sub\",\"params.c\"],\"columns\":[\"id\"]},"
    "\"u\":{\"row_security\":\"ignore\"}}}";

static char *fill(const struct policy *policy, const char *table, const char *claims,
                  const char *params)
{
    json_t *c = json_loads(claims, 0, NULL);
    json_t *p = json_loads(params, 0, NULL);
    const struct source_values values = {.claims = c, .params = p};
    json_t *out = NULL;
    struct err err = {0};
    struct buf b;
    int rc = policy_fill_template(policy_find(policy, table), table, &values, &out, &err);

    buf_init(&b, 65536);
    if (rc == 0)
        grant_print(out, &b);
    else
        buf_printf(&b, "%d", rc);
    json_decref(c);
    json_decref(p);
    json_decref(out);
    return buf_take(&b, NULL);
}

static void policies_fill_parameters_in(void **state)
{
    struct policy *policy = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(policy_new(slice_of(policy_text), &policy, &err), 0);
    static const struct {
        const char *table, *claims, *params, *grant;
    } cases[] = {
        {"t", "{\"sub\":\"a' OR true --\"}", "{\"c\":9}",
         "{\"table\":\"t\",\"where\":\"o = $1 AND c = $2\","
         "\"params\":[\"a' OR true --\",\"9\"],\"columns\":[\"id\"]}"},
        {"t", "{\"sub\":\"a\"}", "{}", "{\"table\":\"t\",\"where\":\"false\"}"},
        {"t", "{\"sub\":\"a\"}", "{\"c\":[1]}", "{\"table\":\"t\",\"where\":\"false\"}"},
        {"t", "{}", "{\"c\":1}", "-6"}, /* ERR_NOT_FOUND: a claim is missing */
        {"t", "{\"sub\":{\"x\":1}}", "{\"c\":1}", "-6"},
        {"u", "{}", "{}", "{\"table\":\"u\"}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *got = fill(policy, cases[i].table, cases[i].claims, cases[i].params);

        assert_string_equal(got, cases[i].grant);
        free(got);
    }
    assert_null(policy_find(policy, "v"));
    assert_true(policy_ignores_row_security(policy_find(policy, "u")));
    assert_false(policy_ignores_row_security(policy_find(policy, "t")));
    policy_free(policy);
}

static void policies_that_make_no_sense_are_refused(void **state)
{
    static const char *const wrong[] = {"",
                                        "{",
                                        "[]",
                                        "{}",
                                        "{\"tables\":[]}",
                                        "{\"tables\":{\"t\":7}}",
                                        "{\"tables\":{\"t\":{\"were\":\"x\"}}}",
                                        "{\"tables\":{\"t\":{\"where\":7}}}",
                                        "{\"tables\":{\"t\":{\"params\":[\"body.x\"]}}}",
                                        "{\"tables\":{\"t\":{\"params\":[\"x\"]}}}",
                                        "{\"tables\":{\"t\":{\"columns\":[]}}}",
                                        "{\"tables\":{\"t\":{}},\"tables\":{}}"};
    struct policy *policy = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct err err = {0};

        assert_int_equal(policy_new(slice_of(wrong[i]), &policy, &err), ERR_INVALID);
        assert_null(policy);
        assert_true(err.message[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_grants_have_one_text),
        cmocka_unit_test(what_is_no_grant_is_refused),
        cmocka_unit_test(sources_find_their_values),
        cmocka_unit_test(policies_fill_parameters_in),
        cmocka_unit_test(policies_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
