/* The splitter: every array cut anywhere gives the same elements. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "json/json.h"

/* The elements, each with a bar behind it, when the text comes in pieces of n. */
static bool split(const char *text, size_t piece, struct buf *out)
{
    struct json_splitter s;
    size_t len = strlen(text);
    bool ok = true;

    buf_reset(out, SIZE_MAX);
    json_splitter_init(&s, 1000);
    for (size_t at = 0; ok && at < len; at += piece) {
        struct slice in = slice_make(text + at, len - at < piece ? len - at : piece);
        struct slice element;
        enum json_split got;

        while ((got = json_split(&s, &in, &element)) == JSON_SPLIT_ELEMENT) {
            buf_put_slice(out, element);
            buf_putc(out, '|');
        }
        ok = got != JSON_SPLIT_ERROR;
        if (ok)
            assert_int_equal(in.len, 0);
        else
            assert_non_null(s.error);
    }
    ok = ok && json_split_complete(&s);
    json_splitter_fini(&s);
    return ok;
}

static void expect(const char *text, const char *elements)
{
    struct buf out;

    buf_init(&out, 100000);
    for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
        bool ok = split(text, piece, &out);

        if (ok != (elements != NULL))
            fail_msg("%s in pieces of %zu", text, piece);
        if (ok && !slice_eq(buf_slice(&out), slice_of(elements)))
            fail_msg("%s in pieces of %zu: %.*s", text, piece, (int)out.len, out.ptr);
    }
    buf_fini(&out);
}

static void elements_wherever_the_pieces_end(void **state)
{
    (void)state;
    expect("", "");
    expect("  ", "");
    expect("[]", "");
    expect(" [ ] \n", "");
    expect("[{}]", "{}|");
    expect("[{\"a\":[1,{\"b\":2}]} ,\n{\"c\":\"],}\\\\\\\"[{\"}]",
           "{\"a\":[1,{\"b\":2}]}|{\"c\":\"],}\\\\\\\"[{\"}|");
    expect("[\"a\",1,null,[],\"\\\"\"]", "\"a\"|1|null|[]|\"\\\"\"|");
    expect("[\"0123456789012345678901234567890123456789\"]",
           "\"0123456789012345678901234567890123456789\"|");
}

static void what_is_no_array(void **state)
{
    (void)state;
    expect("{}", NULL);
    expect("[", NULL);
    expect("[{}", NULL);
    expect("[{},]", NULL);
    expect("[,{}]", NULL);
    expect("[{}{}]", NULL);
    expect("[{}]x", NULL);
    expect("[{}][", NULL);
    expect("[\"a", NULL);
    expect("<html>", NULL);
}

static void an_element_over_the_maximum(void **state)
{
    struct json_splitter s;
    struct slice in = SLICE_LIT("[\"0123456789");
    struct slice element;

    (void)state;
    json_splitter_init(&s, 8);
    assert_int_equal(json_split(&s, &in, &element), JSON_SPLIT_ERROR);
    assert_string_equal(s.error, "too large");
    in = SLICE_LIT("\"]");
    assert_int_equal(json_split(&s, &in, &element), JSON_SPLIT_ERROR);
    json_splitter_fini(&s);
}

static void a_reader_passes_over_what_is_known(void **state)
{
    struct json_reader r;

    (void)state;
    json_reader_init(&r, SLICE_LIT("{\"a\": {\"x\":1},\"b\":2}"));
    assert_false(json_pass(&r, SLICE_LIT("{")));
    assert_int_equal(json_next(&r), JSON_OBJECT_BEGIN);
    assert_int_equal(json_next(&r), JSON_NAME);
    assert_false(json_pass(&r, SLICE_LIT(":{\"x\":1}")));
    assert_true(slice_eq(json_rest(&r), SLICE_LIT(": {\"x\":1},\"b\":2}")));
    assert_true(json_pass(&r, SLICE_LIT(": {\"x\":1}")));
    assert_int_equal(json_next(&r), JSON_NAME);
    assert_true(slice_eq(r.text, SLICE_LIT("b")));
    assert_false(json_pass(&r, SLICE_LIT(":2}   ")));
    assert_int_equal(json_next(&r), JSON_NUMBER);
    assert_int_equal(json_next(&r), JSON_OBJECT_END);
    assert_int_equal(json_next(&r), JSON_END);
    json_reader_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_wherever_the_pieces_end),
        cmocka_unit_test(what_is_no_array),
        cmocka_unit_test(an_element_over_the_maximum),
        cmocka_unit_test(a_reader_passes_over_what_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
