/* A subset's parameters: how query and body are merged, and each rule that needs no table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "server/http/body.h"
#include "server/http/respond.h"
#include "server/http/subset_params.h"

struct outcome {
    struct arena arena;
    struct shape_params shape;
    struct buf text; /* "-": no subset, its members, or the errors' JSON */
};

static void put_errors(struct outcome *o, const struct param_errors *errors)
{
    struct buf json;

    buf_init(&json, 4096);
    respond_put_invalid(&json, errors);
    buf_put_slice(&o->text, buf_slice(&json));
    buf_fini(&json);
}

static void put_subset(struct outcome *o)
{
    const struct subset_params *s = o->shape.subset;

    buf_printf(&o->text, "[%.*s]", (int)s->where.len, s->where.ptr);
    for (size_t i = 0; i < s->values.count; i++)
        buf_printf(&o->text, " $%zu=%.*s", i + 1, (int)s->values.values[i].len,
                   s->values.values[i].ptr);
    if (s->order_by.len > 0)
        buf_printf(&o->text, " by %.*s", (int)s->order_by.len, s->order_by.ptr);
    if (s->has_limit)
        buf_printf(&o->text, " limit %lld", (long long)s->limit);
    if (s->offset > 0)
        buf_printf(&o->text, " offset %lld", (long long)s->offset);
}

static void run(struct outcome *o, const char *query, const char *body)
{
    struct params params;
    struct param_errors errors = {.count = 0};
    const char *reply = NULL;
    int rc;

    memset(o, 0, sizeof *o);
    memset(&params, 0, sizeof params);
    arena_init(&o->arena, 1u << 20);
    buf_init(&o->text, 1u << 16);
    assert_int_equal(params_add_query(&params, &o->arena, slice_of(query)), 0);
    rc = body ? body_merge(slice_of(body), &params, &o->arena, &reply) : 0;
    if (rc == ERR_INVALID) {
        buf_puts(&o->text, reply);
        return;
    }
    assert_int_equal(rc, 0);
    rc = params_check(&params, PARAMS_READ, &o->arena, &o->shape, &errors);
    assert_int_equal(rc, errors.count ? ERR_INVALID : 0);
    if (rc != 0)
        put_errors(o, &errors);
    else if (!o->shape.subset)
        buf_putc(&o->text, '-');
    else if (o->shape.subset->errors.count > 0)
        put_errors(o, &o->shape.subset->errors);
    else
        put_subset(o);
}

static void check(const char *query, const char *body, const char *expected)
{
    char whole[512];
    struct outcome o;

    snprintf(whole, sizeof whole, "table=t&offset=-1%s", query);
    run(&o, whole, body);
    buf_putc(&o.text, '\0');
    if (strcmp(o.text.ptr, expected) != 0)
        fail_msg("%s %s: %s instead of %s", query, body ? body : "", o.text.ptr,
                 expected);
    buf_fini(&o.text);
    arena_fini(&o.arena);
}

#define INVALID(errors)     "{\"message\":\"Invalid request\",\"errors\":{" errors "}}"
#define SUBSET(field, text) INVALID("\"subset\":{\"" field "\":[\"" text "\"]}")
#define KEYS                SUBSET("params", "Parameters can only use numbers as keys")
#define NUMBERED                                                                         \
    SUBSET("params", "Parameters must be numbered sequentially, starting from 1")
#define ORDER SUBSET("order_by", "order_by is required when limit or offset is present")

static void any_name_of_a_subset_asks_for_one(void **state)
{
    (void)state;
    check("", NULL, "-");
    check("&subset_where=x&subset=1&sub__where=1", NULL, "-");
    check("&subset__foo=1", NULL, "[]");
    check("&subset__=", NULL, "[]");
    check("&subset__where=", NULL, "[]");
    check("&subset__where=%20&subset__limit=&subset__order_by=", NULL, "[]");
    check("&subset__where_expr={}&subset__where=n=1", NULL, "[n=1]");
    check("&subset__order_by_expr[a]=x", NULL, "[]");
    check("&subset__where=a&subset__where=b", NULL, "[b]");
}

static void kinds_of_values(void **state)
{
    (void)state;
    check("&subset__where[]=a", NULL, SUBSET("where", "is invalid"));
    check("&subset__order_by[x]=a", NULL, SUBSET("order_by", "is invalid"));
    check("&subset__limit[]=1", NULL, SUBSET("limit", "is invalid"));
    check("", "{\"where\":5}", SUBSET("where", "is invalid"));
    check("", "{\"where\":true}", SUBSET("where", "is invalid"));
    check("", "{\"order_by\":[\"n\"]}", SUBSET("order_by", "is invalid"));
    check("", "{\"where\":null,\"limit\":null}", "[]");
    check("", "{\"limit\":\"x\",\"where\":{}}",
          INVALID("\"subset\":{\"where\":[\"is invalid\"],\"limit\":[\"is invalid\"]}"));
    check("&replica=x&subset__limit=x", NULL, INVALID("\"replica\":[\"is invalid\"]"));
    check("", "{\"subset\":\"x\"}", INVALID("\"subset\":[\"is invalid\"]"));
    check("", "{\"subset\":[]}", INVALID("\"subset\":[\"is invalid\"]"));
}

static void numbers(void **state)
{
    (void)state;
    check("&subset__limit=2", NULL, ORDER);
    check("&subset__offset=2", NULL, ORDER);
    check("&subset__offset=0", NULL, ORDER);
    check("", "{\"limit\":1,\"order_by\":\" \"}", ORDER);
#define BY "&subset__order_by=id"
    check(BY "&subset__limit=0", NULL, SUBSET("limit", "must be greater than 0"));
    check(BY "&subset__limit=-1", NULL, SUBSET("limit", "must be greater than 0"));
    check("&subset__limit=0", NULL, SUBSET("limit", "must be greater than 0"));
    check(BY "&subset__limit=x", NULL, SUBSET("limit", "is invalid"));
    check(BY "&subset__limit=1.5", NULL, SUBSET("limit", "is invalid"));
    check(BY "&subset__limit=%201", NULL, SUBSET("limit", "is invalid"));
    check(BY "&subset__limit=9223372036854775808", NULL, SUBSET("limit", "is invalid"));
    check(BY "&subset__offset=-1", NULL,
          SUBSET("offset", "must be greater than or equal to 0"));
    check(BY "&subset__limit=9223372036854775807&subset__offset=3", NULL,
          "[] by id limit 9223372036854775807 offset 3");
    check(BY "&subset__offset=0", NULL, "[] by id");
#undef BY
    check("", "{\"order_by\":\"n\",\"limit\":\"2\",\"offset\":1}",
          "[] by n limit 2 offset 1");
    check("", "{\"order_by\":\"n\",\"limit\":2.0}", SUBSET("limit", "is invalid"));
    check("", "{\"order_by\":\"n\",\"limit\":true}", SUBSET("limit", "is invalid"));
}

static void values_are_texts(void **state)
{
    (void)state;
#define P "&subset__params="
    check(P "{\"2\":\"b\",\"1\":\"a\"}", NULL, "[] $1=a $2=b");
    check(P "{\"1\":2,\"2\":1e3,\"3\":true,\"4\":false,\"5\":null}", NULL,
          "[] $1=2 $2=1e3 $3=true $4=false $5=");
    check(P "{\"1\":[1,{\"a\":\"]\"}],\"2\":{\"b\":1}}", NULL,
          "[] $1=[1,{\"a\":\"]\"}] $2={\"b\":1}");
    check(P "{\"1\":\"a\",\"1\":\"b\"}", NULL, "[] $1=b");
    check(P "{\"1\":\"a\",\"1\":\"b\",\"4\":\"c\",\"4\":\"d\"}", NULL, NUMBERED);
    check(P "{}", NULL, "[]");
    check(P, NULL, "[]");
    check(P "x", NULL, SUBSET("params", "params must be valid JSON"));
    check(P "{\"1\":\"a\"", NULL, SUBSET("params", "params must be valid JSON"));
    check(P "{\"1\":\"a\"}}", NULL, SUBSET("params", "params must be valid JSON"));
    check(P "[1", NULL, SUBSET("params", "params must be valid JSON"));
    check(P "[1]", NULL, SUBSET("params", "params must be a JSON object"));
    check(P "\"s\"", NULL, SUBSET("params", "params must be a JSON object"));
    check(P "null", NULL, SUBSET("params", "params must be a JSON object"));
    check(P "{\"a\":\"1\"}", NULL, KEYS);
    check(P "{\"2\":\"1\"}", NULL, NUMBERED);
    check(P "{\"0\":\"1\"}", NULL, NUMBERED);
    check(P "{\"01\":\"1\"}", NULL, NUMBERED);
    check(P "{\"18446744073709551617\":\"1\"}", NULL, KEYS);
#undef P
    check("&subset__params[1]=a&subset__params[2]=b", NULL, "[] $1=a $2=b");
    check("&subset__params[1][x]=a", NULL, SUBSET("params", "is invalid"));
    check("&subset__params[]=a", NULL, SUBSET("params", "is invalid"));
    check("", "{\"params\":{\"1\":2}}", "[] $1=2");
    check("", "{\"params\":\"{\\\"1\\\":\\\"2\\\"}\"}", "[] $1=2");
    check("", "{\"params\":[1]}", SUBSET("params", "is invalid"));
    check("", "{\"params\":7}", SUBSET("params", "is invalid"));
    check("", "{\"params\":{\"1\":[}}",
          "{\"error\":\"Invalid JSON in request body\",\"details\":\"unexpected byte at "
          "position 16: 0x7D (\\\"}\\\")\"}");
}

static void bodies_go_over_the_query(void **state)
{
    (void)state;
    check("&subset__where=q", "{\"order_by\":\"n\",\"limit\":1}", "[q] by n limit 1");
    check("&subset__where=q", "{\"subset\":{\"order_by\":\"n\"}}", "[q] by n");
    check("&subset__where=q", "{\"where\":\"b\"}", "[b]");
    check("&subset__where=q", "{\"subset\":{\"where\":null}}", "[]");
    check("", "{\"subset\":{}}", "[]");
    check("", "{\"subset\":{\"x\":[{}],\"where\":\"a\",\"y\":1}}", "[a]");
    check("", "{\"subset\":null}", "-");
    check("", "{\"foo\":\"bar\"}", "-");
    check("", "{\"columns\":\"id\"}", "-");
    check("", "{\"where_expr\":{\"x\":1}}", "[]");
    check("", "{\"order_by_expr\":[1],\"foo\":1}", "[]");
    check("", "{\"where\":\"n = 1\",\"foo\":{\"where\":1}}", "[n = 1]");
}

static void a_shape_keeps_what_is_its_own(void **state)
{
    struct outcome o;

    (void)state;
    run(&o, "table=t&offset=-1", "{\"where\":\"a\",\"subset\":{\"where\":\"b\"}}");
    assert_true(o.shape.subset && slice_eq(o.shape.subset->where, SLICE_LIT("b")));
    assert_true(slice_eq(o.shape.where, SLICE_LIT("a")));
    buf_fini(&o.text);
    arena_fini(&o.arena);
    run(&o, "table=t&offset=-1", "{\"subset\":{},\"offset\":\"now\",\"params\":{}}");
    assert_int_equal(o.shape.offset_kind, OFFSET_KIND_NOW);
    assert_int_equal(o.shape.subset->offset, 0);
    buf_fini(&o.text);
    arena_fini(&o.arena);
}

/* The offset of a flat body is the subset's; that the shape's is missing is told first. */
static void late_rules_come_late(void **state)
{
    struct outcome o;

    (void)state;
    run(&o, "", "{\"table\":\"t\",\"offset\":\"0_inf\"}");
    buf_putc(&o.text, '\0');
    assert_string_equal(o.text.ptr, INVALID("\"offset\":[\"can't be blank\"]"));
    buf_fini(&o.text);
    arena_fini(&o.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_name_of_a_subset_asks_for_one),
        cmocka_unit_test(kinds_of_values),
        cmocka_unit_test(numbers),
        cmocka_unit_test(values_are_texts),
        cmocka_unit_test(bodies_go_over_the_query),
        cmocka_unit_test(a_shape_keeps_what_is_its_own),
        cmocka_unit_test(late_rules_come_late),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
