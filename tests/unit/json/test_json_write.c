/* The writer: every byte, every position, limits to the byte, doubtful bytes. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/err.h"
#include "json/json.h"

/* The plain truth: one byte at a time. */
static size_t naive_escape(const char *in, size_t n, char *out)
{
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)in[i];
        static const char bytes[] = "\"\\\b\f\n\r\t";
        const char *found = c ? strchr(bytes, c) : NULL;

        if (found) {
            out[len++] = '\\';
            out[len++] = "\"\\bfnrt"[found - bytes];
        } else if (c < 0x20) {
            len += (size_t)snprintf(out + len, 7, "\\u%04x", c);
        } else {
            out[len++] = in[i];
        }
    }
    return len;
}

static void assert_writes(struct slice in, const char *expected)
{
    struct buf out;

    buf_init(&out, 1000);
    json_put_string(&out, in);
    assert_int_equal(out.failed, 0);
    assert_int_equal(out.len, strlen(expected));
    assert_memory_equal(out.ptr, expected, out.len);
    buf_fini(&out);
}

static void strings_get_quotes_and_short_escapes(void **state)
{
    (void)state;
    assert_writes(SLICE_LIT(""), "\"\"");
    assert_writes(slice_of(NULL), "\"\"");
    assert_writes(SLICE_LIT("plain"), "\"plain\"");
    assert_writes(SLICE_LIT("\"\\/\b\f\n\r\t"), "\"\\\"\\\\/\\b\\f\\n\\r\\t\"");
    assert_writes(SLICE_LIT("\0\x01\x1f\x7f"), "\"\\u0000\\u0001\\u001f\x7f\"");
    assert_writes(SLICE_LIT("caf\xC3\xA9 \xF0\x9F\x98\x80 \xE2\x80\xA8"),
                  "\"caf\xC3\xA9 \xF0\x9F\x98\x80 \xE2\x80\xA8\"");
}

/* Heap copies of the exact length, so that a sanitizer sees a scan beyond the end. */
static void check_exact(const char *in, size_t n)
{
    char expected[6 * 80 + 2];
    char *copy = malloc(n ? n : 1);
    size_t len = 0;
    struct buf out;

    assert_non_null(copy);
    memcpy(copy, in, n);
    expected[len++] = '"';
    len += naive_escape(in, n, expected + len);
    expected[len++] = '"';
    buf_init(&out, len); /* exactly enough */
    json_put_string(&out, slice_make(copy, n));
    assert_int_equal(out.failed, 0);
    assert_int_equal(out.len, len);
    assert_memory_equal(out.ptr, expected, len);
    buf_fini(&out);
    buf_init(&out, len - 2);
    json_put_escaped(&out, slice_make(copy, n));
    assert_int_equal(out.failed, 0);
    assert_int_equal(out.len, len - 2);
    assert_memory_equal(out.len ? out.ptr : "", expected + 1, out.len);
    buf_fini(&out);
    buf_init(&out, len - 1); /* one too few */
    json_put_string(&out, slice_make(copy, n));
    assert_int_equal(out.failed, ERR_LIMIT);
    buf_fini(&out);
    free(copy);
}

static void every_byte_at_every_position_matches_the_naive_way(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 40; n++) {
        for (size_t at = 0; at < n; at++) {
            for (unsigned c = 0; c < 256; c += c < 0x24 || c == 0x5B ? 1 : 7) {
                char text[40];

                memset(text, 'a', sizeof(text));
                text[at] = (char)(unsigned char)c;
                check_exact(text, n);
            }
        }
    }
}

static void dense_escapes_match_the_naive_way(void **state)
{
    uint32_t rng = 1;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        static const char alphabet[] = "ab\"\\\n\x01\x7F\x80\xFF ";
        char text[80];

        for (size_t i = 0; i < sizeof(text); i++) {
            rng = rng * 1664525u + 1013904223u;
            text[i] = alphabet[(rng >> 16) % (sizeof(alphabet) - 1)];
        }
        check_exact(text, (rng >> 8) % (sizeof(text) + 1));
    }
}

static void strings_append_behind_what_is_there(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, 100);
    buf_puts(&out, "{");
    json_put_string(&out, SLICE_LIT("a\nb"));
    buf_puts(&out, ":");
    json_put_string(&out, SLICE_LIT("c"));
    json_put_escaped(&out, SLICE_LIT("\"d"));
    assert_int_equal(out.len, strlen("{\"a\\nb\":\"c\"\\\"d"));
    assert_memory_equal(out.ptr, "{\"a\\nb\":\"c\"\\\"d", out.len);
    buf_fini(&out);
}

static void a_failed_buffer_is_left_alone(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, 3);
    buf_puts(&out, "abcd");
    json_put_string(&out, SLICE_LIT(""));
    json_put_escaped(&out, SLICE_LIT("x"));
    json_put_untrusted(&out, SLICE_LIT("x"));
    assert_int_equal(out.failed, ERR_LIMIT);
    assert_int_equal(out.len, 0);
    buf_fini(&out);
}

static void assert_untrusted(struct slice in, const char *expected)
{
    struct buf out;

    buf_init(&out, 1000);
    json_put_untrusted(&out, in);
    assert_int_equal(out.failed, 0);
    assert_int_equal(out.len, strlen(expected));
    assert_memory_equal(out.ptr, expected, out.len);
    buf_fini(&out);
}

static void doubtful_bytes_become_replacement_characters(void **state)
{
    (void)state;
    assert_untrusted(SLICE_LIT(""), "\"\"");
    assert_untrusted(SLICE_LIT("caf\xC3\xA9\n"), "\"caf\xC3\xA9\\n\"");
    assert_untrusted(SLICE_LIT("\xFF"), "\"\xEF\xBF\xBD\"");
    assert_untrusted(SLICE_LIT("a\xE2\x82"), "\"a\xEF\xBF\xBD\xEF\xBF\xBD\"");
    assert_untrusted(SLICE_LIT("\xE2\x82\"z"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\\\"z\"");
    assert_untrusted(SLICE_LIT("\xED\xA0\x80"),
                     "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_get_quotes_and_short_escapes),
        cmocka_unit_test(every_byte_at_every_position_matches_the_naive_way),
        cmocka_unit_test(dense_escapes_match_the_naive_way),
        cmocka_unit_test(strings_append_behind_what_is_there),
        cmocka_unit_test(a_failed_buffer_is_left_alone),
        cmocka_unit_test(doubtful_bytes_become_replacement_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
