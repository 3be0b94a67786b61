/* Routes: matching of paths, and what a request becomes by them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/write/route.h"

static const char text[] =
    "{\"routes\":["
    "{\"method\":\"GET\",\"path\":\"/todos\",\"shape\":{\"table\":\"todos\"}},"
    "{\"method\":\"POST\",\"path\":\"/todos\",\"id\":\"body.w\",\"required\":[\"id\"],"
    " \"insert\":{\"table\":\"app.todos\",\"values\":{\"id\":\"body.id\",\"t\":\"body."
    "t\","
    " \"done\":{\"value\":false}}}},"
    "{\"method\":\"PUT\",\"path\":\"/lists/:list/todos/"
    ":id\",\"auth\":\"none\",\"update\":"
    " {\"table\":\"todos\",\"key\":{\"id\":\"path.id\"},\"values\":{\"list\":\"path."
    "list\","
    " \"t\":\"body.t\"}}},"
    "{\"method\":\"POST\",\"path\":\"/f/:x\",\"function\":{\"name\":\"app.f\"}}]}";

static const struct write_limits limits = {10, 1};

static struct routes *read_routes(void)
{
    struct routes *routes = NULL;
    struct err err = {0};

    if (routes_new(slice_of(text), true, &routes, &err) != 0)
        fail_msg("%s", err.message);
    return routes;
}

static void paths_match_segment_by_segment(void **state)
{
    struct routes *routes = read_routes();
    bool known;

    (void)state;
    const struct route *r =
        routes_match(routes, SLICE_LIT("GET"), SLICE_LIT("/todos"), &known);
    assert_non_null(r);
    assert_int_equal(route_kind(r), ROUTE_SHAPE);
    assert_true(route_needs_token(r));
    assert_null(routes_match(routes, SLICE_LIT("PUT"), SLICE_LIT("/todos"), &known));
    assert_true(known);
    static const char *const unknown[] = {
        "/",  "/todo", "/todos/1", "/Todos", "/lists/1/todos", "/lists/1/todos/2/3",
        "/f", "/f/"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_null(routes_match(routes, SLICE_LIT("PUT"), slice_of(unknown[i]), &known));
        assert_false(known);
    }
    r = routes_match(routes, SLICE_LIT("PUT"), SLICE_LIT("/lists/a b/todos/7"), &known);
    assert_non_null(r);
    assert_false(route_needs_token(r));
    routes_free(routes);
}

static struct write_job *fill(const struct routes *routes, const char *method,
                              const char *path, const char *body)
{
    struct write_job *job = write_job_new();
    bool known;
    const struct route *r =
        routes_match(routes, slice_of(method), slice_of(path), &known);

    assert_non_null(r);
    (void)route_fill(r, slice_of(path), slice_of(body), NULL, &limits, job);
    return job;
}

static void requests_become_mutations(void **state)
{
    struct routes *routes = read_routes();
    struct write_job *job =
        fill(routes, "POST", "/todos", "{\"id\":1.50,\"w\":\"w1\",\"x\":9}");
    const struct write_mutation *m = job->transaction->mutations;

    (void)state;
    assert_true(slice_eq(job->id, SLICE_LIT("w1")));
    assert_true(slice_eq(m->schema, SLICE_LIT("app")));
    assert_int_equal(m->values.count, 2); /* what is not in the body is left out */
    assert_true(slice_eq(m->values.items[0].text, SLICE_LIT("1.50")));
    assert_true(slice_eq(m->values.items[1].text, SLICE_LIT("false")));
    write_job_free(job);

    job = fill(routes, "PUT", "/lists/a \"b/todos/7", "{\"t\":null}");
    m = job->transaction->mutations;
    assert_true(slice_eq(m->key.items[0].text, SLICE_LIT("7")));
    assert_true(slice_eq(m->values.items[0].text, SLICE_LIT("a \"b")));
    assert_true(slice_eq(m->values.items[0].raw, SLICE_LIT("\"a \\\"b\"")));
    assert_int_equal(m->values.items[1].kind, WRITE_NULL);
    write_job_free(job);

    job = fill(routes, "POST", "/f/p", "{\"x\":\"from the body\",\"y\":[1]}");
    assert_int_equal(job->call->args.count, 2); /* the path goes before the body */
    assert_true(slice_eq(job->call->args.items[0].text, SLICE_LIT("p")));
    write_job_free(job);
    routes_free(routes);
}

static void bodies_that_do_not_do_are_refused(void **state)
{
    static const char *const wrong[] = {
        "", "{}", "[]", "{\"id\":null}", "{", "{\"id\":1,\"id\":2}"};
    struct routes *routes = read_routes();

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct write_job *job = fill(routes, "POST", "/todos", wrong[i]);

        assert_int_equal(job->result.failure, WRITE_FAILED_INVALID);
        write_job_free(job);
    }
    struct write_job *job = fill(routes, "PUT", "/lists/\xff/todos/1", "{}");
    assert_int_equal(job->result.failure, WRITE_FAILED_INVALID);
    write_job_free(job);
    routes_free(routes);
}

static void files_that_make_no_sense_are_refused(void **state)
{
    static const char *const wrong[] = {
        "",
        "{}",
        "{\"routes\":{}}",
        "{\"routes\":[7]}",
        "{\"routes\":[{\"method\":\"POST\",\"path\":\"/x\"}]}",
        "{\"routes\":[{\"method\":\"POST\",\"path\":\"/"
        "shape\",\"function\":{\"name\":\"f\"}}]}",
        "{\"routes\":[{\"method\":\"POST\",\"path\":\"/x/"
        "\",\"function\":{\"name\":\"f\"}}]}",
        "{\"routes\":[{\"method\":\"POST\",\"path\":\"/"
        ":\",\"function\":{\"name\":\"f\"}}]}",
        "{\"routes\":[{\"method\":\"POST\",\"path\":\"/x\",\"function\":{}}]}",
        "{\"routes\":[{\"method\":\"POST\",\"path\":\"/"
        "x\",\"insert\":{\"table\":\"t\"}}]}",
        "{\"routes\":[{\"method\":\"POST\",\"path\":\"/x\",\"update\":{\"table\":\"t\","
        "\"values\":{\"a\":\"body.a\"}}}]}",
        "{\"routes\":[{\"method\":\"POST\",\"path\":\"/"
        "x\",\"changes\":{\"table\":\"t\"}}]}"};
    struct routes *routes = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct err err = {0};

        assert_int_equal(routes_new(slice_of(wrong[i]), true, &routes, &err),
                         ERR_INVALID);
        assert_true(err.message[0] != '\0');
        assert_null(routes);
    }
    struct err err = {0};
    assert_int_equal(routes_new(slice_of(text), false, &routes, &err), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_match_segment_by_segment),
        cmocka_unit_test(requests_become_mutations),
        cmocka_unit_test(bodies_that_do_not_do_are_refused),
        cmocka_unit_test(files_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
