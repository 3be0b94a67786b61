/* The reader: events, the grammar, what is malformed and where, depth, lack of memory. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>

#include "json/json.h"

/* The events of a text in one letter each; strings and numbers with their text. An error
 * ends it as !<position>. The input is a heap copy of its exact length, for the
 * sanitizers. */
static void describe(struct slice input, char *out, size_t size)
{
    static const char letters[] = "$!{}[]nsdtfz";
    char *copy = slice_dup(input);
    struct json_reader r;
    enum json_event event;
    size_t len = 0;

    assert_non_null(copy);
    copy = realloc(copy, input.len ? input.len : 1);
    assert_non_null(copy);
    json_reader_init(&r, slice_make(copy, input.len));
    do {
        event = json_next(&r);
        len += (size_t)snprintf(out + len, size - len, "%c", letters[event]);
        if (event == JSON_NAME || event == JSON_STRING || event == JSON_NUMBER)
            len += (size_t)snprintf(out + len, size - len, "<%.*s>", (int)r.text.len,
                                    r.text.len ? r.text.ptr : "");
        if (event == JSON_ERROR) {
            assert_non_null(r.error);
            len += (size_t)snprintf(out + len, size - len, "%zu", r.error_pos);
        }
        assert_true(len < size);
    } while (event != JSON_END && event != JSON_ERROR);
    assert_int_equal(json_next(&r), event); /* for ever */
    json_reader_fini(&r);
    free(copy);
}

static void check(struct slice input, const char *expected)
{
    char got[2048];

    describe(input, got, sizeof(got));
    if (strcmp(got, expected) != 0)
        fail_msg("%.*s: %s instead of %s", (int)input.len, input.ptr, got, expected);
}

#define CHECK(literal, expected) check(SLICE_LIT(literal), (expected))

static void every_kind_of_value_is_an_event(void **state)
{
    (void)state;
    CHECK("null", "z$");
    CHECK(" true ", "t$");
    CHECK("\tfalse\r\n", "f$");
    CHECK("\"\"", "s<>$");
    CHECK("12", "d<12>$");
    CHECK("{}", "{}$");
    CHECK("[ ]", "[]$");
    CHECK("{\"a\":1,\"b\":[true,null,{}],\"a\":\"x\"}", "{n<a>d<1>n<b>[tz{}]n<a>s<x>}$");
    CHECK(" { \"a\" : [ 1 , 2 ] , \"\" : { } } ", "{n<a>[d<1>d<2>]n<>{}}$");
}

static void numbers_follow_the_grammar(void **state)
{
    static const char *const good[] = {
        "0",   "-0",   "7",     "-12",     "1.5",   "0.001",
        "1e3", "1E+3", "1e-03", "-0.0e00", "1.0E9", "123456789012345678901234567890"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char expected[64];

        snprintf(expected, sizeof(expected), "d<%s>$", good[i]);
        check(slice_of(good[i]), expected);
    }
    CHECK("01", "d<0>!1");
    CHECK("-", "!1");
    CHECK("-x", "!1");
    CHECK("+1", "!0");
    CHECK(".5", "!0");
    CHECK("1.", "!2");
    CHECK("1.x", "!2");
    CHECK("1e", "!2");
    CHECK("1e+", "!3");
    CHECK("1e+x", "!3");
    CHECK("-00", "d<-0>!2");
    CHECK("0x10", "d<0>!1");
    CHECK("NaN", "!0");
    CHECK("-Infinity", "!1");
    CHECK("1 2", "d<1>!2");
}

static void escapes_are_undone(void **state)
{
    (void)state;
    CHECK("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "s<\"\\/\b\f\n\r\t>$");
    CHECK("\"\\u0041\\u00e9\\u20AC\"", "s<A\xC3\xA9\xE2\x82\xAC>$");
    CHECK("\"\\u007f\\u0080\\u07ff\\u0800\\uffff\"",
          "s<\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF>$");
    CHECK("\"x\\ud83d\\ude00y\"", "s<x\xF0\x9F\x98\x80y>$");
    CHECK("\"\\uD800\\uDC00\\uDBFF\\uDFFF\"", "s<\xF0\x90\x80\x80\xF4\x8F\xBF\xBF>$");
    CHECK("{\"\\u0061b\":\"\\n\"}", "{n<ab>s<\n>}$");
    CHECK("\"\\x\"", "!2");
    CHECK("\"\\", "!2");
    CHECK("\"\\u", "!3");
    CHECK("\"\\u12\"", "!5");
    CHECK("\"\\u12g4\"", "!5");
    CHECK("\"\\U0041\"", "!2");
}

static void an_escaped_nul_is_a_byte_of_the_text(void **state)
{
    struct json_reader r;

    (void)state;
    json_reader_init(&r, SLICE_LIT("\"a\\u0000b\""));
    assert_int_equal(json_next(&r), JSON_STRING);
    assert_true(slice_eq(r.text, SLICE_LIT("a\0b")));
    json_reader_fini(&r);
}

static void lone_surrogates_are_refused_at_their_escape(void **state)
{
    (void)state;
    CHECK("\"\\ud83d\"", "!1");
    CHECK("\"ab\\ude00\"", "!3");
    CHECK("\"\\ude00\\ud83d\"", "!1");
    CHECK("\"\\ud83dx\"", "!1");
    CHECK("\"\\ud83d\\n\"", "!1");
    CHECK("\"\\ud83d\\ud83d\\ude00\"", "!1");
    CHECK("\"\\ud83d\\u0041\"", "!1");
    CHECK("\"\\ud83d\\u00", "!11");
    CHECK("\"\\ud83d", "!7");
    CHECK("\"\\ud83d\\", "!8");
}

static void strings_must_be_utf8_without_control_bytes(void **state)
{
    (void)state;
    CHECK("\"caf\xC3\xA9\"", "s<caf\xC3\xA9>$");
    CHECK("\"\x7F\"", "s<\x7F>$");
    CHECK("\"ab\xFF\"", "!3");
    CHECK("\"\xC0\xAF\"", "!1");
    CHECK("\"\xED\xA0\x80\"", "!1");
    CHECK("\"\xE2\x82\"", "!1");
    CHECK("\"\xE2\x82", "!1");
    CHECK("\"\\n\xFF\"", "!3");
    CHECK("\"a\nb\"", "!2");
    CHECK("\"a\0b\"", "!2");
    CHECK("\"\x1F\"", "!1");
}

static void the_positions_the_server_reports(void **state)
{
    (void)state;
    CHECK("{", "{!1");
    CHECK("  ", "!2");
    CHECK("", "!0");
    CHECK("{\"a\":1}x", "{n<a>d<1>}!7");
    CHECK("where=id%3D1", "!0");
    CHECK("{\"table\":\"t\"", "{n<table>s<t>!12");
}

static void malformed_structure_is_found_where_it_is(void **state)
{
    (void)state;
    CHECK("[1,]", "[d<1>!3");
    CHECK("[,1]", "[!1");
    CHECK("[1 2]", "[d<1>!3");
    CHECK("[1}", "[d<1>!2");
    CHECK("[}", "[!1");
    CHECK("{]", "{!1");
    CHECK("{\"a\":1]", "{n<a>d<1>!6");
    CHECK("{\"a\":1,}", "{n<a>d<1>!7");
    CHECK("{,}", "{!1");
    CHECK("{a:1}", "{!1");
    CHECK("{1:1}", "{!1");
    CHECK("{\"a\"}", "{n<a>!4");
    CHECK("{\"a\" 1}", "{n<a>!5");
    CHECK("{\"a\":}", "{n<a>!5");
    CHECK("{\"a\":", "{n<a>!5");
    CHECK("{\"a\"", "{n<a>!4");
    CHECK("{\"a", "{!3");
    CHECK("[", "[!1");
    CHECK("[1", "[d<1>!2");
    CHECK("[1,", "[d<1>!3");
    CHECK("]", "!0");
    CHECK("}", "!0");
    CHECK(",", "!0");
    CHECK("{}{}", "{}!2");
    CHECK("nul", "!3");
    CHECK("nulx", "!3");
    CHECK("nullx", "z!4");
    CHECK("True", "!0");
    CHECK("'a'", "!0");
    CHECK("[1]/**/", "[d<1>]!3");
    CHECK("\xEF\xBB\xBF{}", "!0");
    CHECK("\0", "!0");
    CHECK("1\0", "d<1>!1");
    CHECK("\f1", "!0");
    CHECK("\xC2\xA0"
          "1",
          "!0");
}

static void the_depth_limit_is_exact(void **state)
{
    char text[2 * JSON_DEPTH_MAX + 2];
    struct json_reader r;

    (void)state;
    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    json_reader_init(&r, slice_make(text, sizeof(text) - 2));
    for (int i = 0; i < 2 * JSON_DEPTH_MAX; i++)
        assert_int_equal(json_next(&r),
                         i < JSON_DEPTH_MAX ? JSON_ARRAY_BEGIN : JSON_ARRAY_END);
    assert_int_equal(json_next(&r), JSON_END);
    json_reader_fini(&r);

    memset(text, '[', JSON_DEPTH_MAX + 1);
    json_reader_init(&r, slice_make(text, sizeof(text)));
    for (int i = 0; i < JSON_DEPTH_MAX; i++)
        assert_int_equal(json_next(&r), JSON_ARRAY_BEGIN);
    assert_int_equal(json_next(&r), JSON_ERROR);
    assert_string_equal(r.error, "nested too deeply");
    assert_int_equal(r.error_pos, JSON_DEPTH_MAX);
    json_reader_fini(&r);
}

static void errors_say_what_is_wrong(void **state)
{
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {{"[", "unexpected end of input"},
                 {"x", "unexpected byte"},
                 {"\"\xFF\"", "malformed UTF-8"},
                 {"\"\\udc00\"", "unpaired surrogate escape"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct json_reader r;

        json_reader_init(&r, slice_of(cases[i].text));
        while (json_next(&r) != JSON_ERROR)
            continue;
        assert_string_equal(r.error, cases[i].error);
        json_reader_fini(&r);
    }
}

static void plain_strings_are_borrowed_from_the_input(void **state)
{
    static const char text[] = "[\"abc\",\"d\\n\",\"ef\"]";
    struct json_reader r;

    (void)state;
    json_reader_init(&r, slice_of(text));
    assert_int_equal(json_next(&r), JSON_ARRAY_BEGIN);
    assert_int_equal(json_next(&r), JSON_STRING);
    assert_ptr_equal(r.text.ptr, text + 2);
    assert_int_equal(json_next(&r), JSON_STRING);
    assert_true(slice_eq(r.text, SLICE_LIT("d\n")));
    assert_int_equal(json_next(&r), JSON_STRING);
    assert_true(slice_eq(r.text, SLICE_LIT("ef")));
    json_reader_fini(&r);
}

static void a_value_is_skipped_whole(void **state)
{
    struct json_reader r;

    (void)state;
    json_reader_init(
        &r, SLICE_LIT("{\"a\":{\"b\":[1,{\"c\":[]}]},\"d\":5,\"e\":[[],2],\"f\":3}"));
    assert_int_equal(json_next(&r), JSON_OBJECT_BEGIN);
    assert_int_equal(json_next(&r), JSON_NAME);
    assert_true(json_skip(&r, JSON_NAME));
    assert_int_equal(json_next(&r), JSON_NAME);
    assert_true(json_skip(&r, JSON_NAME));
    assert_int_equal(json_next(&r), JSON_NAME);
    assert_int_equal(json_next(&r), JSON_ARRAY_BEGIN);
    assert_true(json_skip(&r, JSON_ARRAY_BEGIN));
    assert_int_equal(json_next(&r), JSON_NAME);
    assert_true(slice_eq(r.text, SLICE_LIT("f")));
    assert_int_equal(json_next(&r), JSON_NUMBER);
    assert_true(json_skip(&r, JSON_NUMBER));
    assert_int_equal(json_next(&r), JSON_OBJECT_END);
    assert_int_equal(json_next(&r), JSON_END);
    json_reader_fini(&r);

    json_reader_init(&r, SLICE_LIT("[[1,[2,x]]]"));
    assert_int_equal(json_next(&r), JSON_ARRAY_BEGIN);
    assert_false(json_skip(&r, JSON_ARRAY_BEGIN));
    assert_int_equal(r.error_pos, 7);
    json_reader_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value_is_an_event),
        cmocka_unit_test(numbers_follow_the_grammar),
        cmocka_unit_test(escapes_are_undone),
        cmocka_unit_test(an_escaped_nul_is_a_byte_of_the_text),
        cmocka_unit_test(lone_surrogates_are_refused_at_their_escape),
        cmocka_unit_test(strings_must_be_utf8_without_control_bytes),
        cmocka_unit_test(the_positions_the_server_reports),
        cmocka_unit_test(malformed_structure_is_found_where_it_is),
        cmocka_unit_test(the_depth_limit_is_exact),
        cmocka_unit_test(errors_say_what_is_wrong),
        cmocka_unit_test(plain_strings_are_borrowed_from_the_input),
        cmocka_unit_test(a_value_is_skipped_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
