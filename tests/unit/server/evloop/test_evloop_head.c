/* Heads of answers as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "server/evloop/head.h"

static void expect_text(struct buf *b, const char *text)
{
    buf_putc(b, '\0');
    assert_int_equal(b->failed, 0);
    assert_string_equal(b->ptr, text);
    buf_reset(b, 0);
}

static void expect_end(const struct head_kind *kind, const char *text)
{
    struct buf b;

    buf_init(&b, 1024);
    head_end(&b, kind, SLICE_LIT("D"));
    expect_text(&b, text);
    buf_fini(&b);
}

static void a_line_end_in_a_value_begins_no_header(void **state)
{
    static const char *const values[] = {"a\r\nb: c", "a\nb: c", "a\rb", "\r", "a\r\n b"};
    struct buf b;

    (void)state;
    buf_init(&b, 1024);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        head_add(&b, SLICE_LIT("x"), slice_of(values[i]));
    head_add(&b, SLICE_LIT("y"), SLICE_LIT("1, 2"));
    head_add(&b, SLICE_LIT("z"), slice_make(NULL, 0));
    expect_text(&b, "y: 1, 2\r\nz: \r\n");
    buf_fini(&b);
}

static void the_end_says_how_the_body_ends(void **state)
{
    (void)state;
    expect_end(&(struct head_kind){.major = 1, .minor = 1, .length = 0},
               "content-length: 0\r\ndate: D\r\n\r\n");
    expect_end(&(struct head_kind){.major = 1, .minor = 1, .length = -1},
               "date: D\r\n\r\n");
    expect_end(&(struct head_kind){.major = 1, .minor = 1, .chunked = true, .length = -1},
               "transfer-encoding: chunked\r\ndate: D\r\n\r\n");
    expect_end(
        &(struct head_kind){
            .major = 1, .minor = 1, .closing = true, .keeping = true, .length = 12},
        "content-length: 12\r\nconnection: close\r\ndate: D\r\n\r\n");
    expect_end(&(struct head_kind){.major = 1, .minor = 1, .keeping = true, .length = 1},
               "content-length: 1\r\nconnection: keep-alive\r\ndate: D\r\n\r\n");
    /* Who is kept open with HTTP/1.0 must be told. */
    expect_end(&(struct head_kind){.major = 1, .minor = 0, .length = 1},
               "content-length: 1\r\nconnection: keep-alive\r\ndate: D\r\n\r\n");
    expect_end(&(struct head_kind){.major = 1, .minor = 0, .closing = true, .length = -1},
               "connection: close\r\ndate: D\r\n\r\n");
}

static void lines_are_as_http_has_them(void **state)
{
    const struct head_kind kind = {.major = 1, .minor = 1};
    char line[HEAD_LINE_MAX];
    char chunk[HEAD_CHUNK_MAX];

    (void)state;
    line[head_begin(&kind, 414, line)] = '\0';
    assert_string_equal(line, "HTTP/1.1 414 Request-URI Too Long\r\n");
    line[head_begin(&kind, 299, line)] = '\0';
    assert_string_equal(line, "HTTP/1.1 299 Status\r\n");
    chunk[head_chunk(255, chunk)] = '\0';
    assert_string_equal(chunk, "ff\r\n");
    assert_int_equal(head_chunk(SIZE_MAX, chunk), 18);
}

static void a_date_is_made_once_a_second(void **state)
{
    static const struct {
        int64_t at_s;
        const char *text;
    } cases[] = {{0, "Thu, 01 Jan 1970 00:00:00 GMT"},
                 {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},
                 {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
                 {4102444799, "Thu, 31 Dec 2099 23:59:59 GMT"}};
    struct head_date date = {.at_s = 0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(head_date_now(&date, cases[i].at_s).ptr, cases[i].text);
    date.text[0] = '?';
    assert_int_equal(head_date_now(&date, 4102444799).ptr[0], '?');
    assert_int_equal(head_date_now(&date, 4102444800).ptr[0], 'F');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_end_in_a_value_begins_no_header),
        cmocka_unit_test(the_end_says_how_the_body_ends),
        cmocka_unit_test(lines_are_as_http_has_them),
        cmocka_unit_test(a_date_is_made_once_a_second),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
