/* Writer and reader together: what is written is read back, whatever the bytes. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/alloc_faults.h"

/* The buffer's allocations, for both: the only ones there are. */
#include "base/buf.c" // NOLINT(bugprone-suspicious-include)

#include "json/json.h"

static uint64_t next_random(uint64_t *s)
{
    uint64_t z = *s += 0x9E3779B97F4A7C15u;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static void assert_reads_back(const struct buf *text, struct slice expected)
{
    struct json_reader r;

    assert_int_equal(text->failed, 0);
    json_reader_init(&r, buf_slice(text));
    assert_int_equal(json_next(&r), JSON_STRING);
    assert_true(slice_eq(r.text, expected));
    assert_int_equal(json_next(&r), JSON_END);
    json_reader_fini(&r);
}

/* n random characters of all lengths, the odd ones among them more often. */
static size_t random_utf8(uint64_t *rng, char *out, size_t n)
{
    static const char *const pieces[] = {"\"",
                                         "\\",
                                         "\n",
                                         "\x01",
                                         "\x1F",
                                         "/",
                                         "\x7F",
                                         "\xC2\x80",
                                         "\xED\x9F\xBF",
                                         "\xEF\xBF\xBF",
                                         "\xF0\x9F\x98\x80",
                                         "\xF4\x8F\xBF\xBF"};
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        uint64_t dice = next_random(rng);

        if (dice % 4 == 0) {
            const char *piece =
                pieces[(dice >> 8) % (sizeof(pieces) / sizeof(pieces[0]))];

            memcpy(out + len, piece, strlen(piece));
            len += strlen(piece);
        } else {
            out[len++] = (char)((dice >> 8) % 128);
        }
    }
    return len;
}

static void any_utf8_comes_back_the_same(void **state)
{
    uint64_t rng = 3;
    struct buf text;

    (void)state;
    buf_init(&text, 100000);
    for (int round = 0; round < 20000; round++) {
        char in[4 * 100];
        size_t n = random_utf8(&rng, in, next_random(&rng) % 100);

        buf_reset(&text, SIZE_MAX);
        json_put_string(&text, slice_make(in, n));
        assert_reads_back(&text, slice_make(in, n));
    }
    buf_fini(&text);
}

/* Length of the character at the beginning: the shortest well-formed one; 0 for none. */
static size_t character_length(struct slice in)
{
    for (size_t n = 1; n <= 4 && n <= in.len; n++) {
        if (slice_is_utf8(slice_make(in.ptr, n)))
            return n;
    }
    return 0;
}

/* Every byte outside of well-formed UTF-8 as U+FFFD. */
static size_t replaced(struct slice in, char *out)
{
    size_t len = 0;

    while (in.len > 0) {
        size_t n = character_length(in);

        memcpy(out + len, n ? in.ptr : "\xEF\xBF\xBD", n ? n : 3);
        len += n ? n : 3;
        n = n ? n : 1;
        in.ptr += n;
        in.len -= n;
    }
    return len;
}

static void any_bytes_come_back_replaced(void **state)
{
    uint64_t rng = 4;
    struct buf text;

    (void)state;
    buf_init(&text, 100000);
    for (int round = 0; round < 20000; round++) {
        char in[64];
        char expected[3 * sizeof(in)];
        size_t n = next_random(&rng) % (sizeof(in) + 1);

        for (size_t i = 0; i < n; i++) {
            uint64_t dice = next_random(&rng);

            /* Half of them from where lead and continuation bytes are. */
            in[i] =
                (char)(unsigned char)(dice % 2 ? dice >> 8 : 0x80 | (dice >> 8 & 0x7F));
        }
        buf_reset(&text, SIZE_MAX);
        json_put_untrusted(&text, slice_make(in, n));
        assert_reads_back(&text,
                          slice_make(expected, replaced(slice_make(in, n), expected)));
    }
    buf_fini(&text);
}

/* Every beginning of a good text is cut short exactly there, or in the middle of a
 * number. */
static void every_truncation_is_an_error_at_its_end(void **state)
{
    static const char text[] =
        "{\"a\\u00e9\":[1.5e3,true,\"\\ud83d\\ude00\",null],\"b\":{}}";

    (void)state;
    for (size_t n = 0; n < sizeof(text) - 1; n++) {
        struct json_reader r;
        enum json_event event;

        json_reader_init(&r, slice_make(text, n));
        while ((event = json_next(&r)) != JSON_ERROR)
            assert_int_not_equal(event, JSON_END);
        assert_int_equal(r.error_pos, n);
        assert_string_equal(r.error, "unexpected end of input");
        json_reader_fini(&r);
    }
}

static void lack_of_memory_is_an_error_of_both(void **state)
{
    struct json_reader r;
    struct buf out;

    (void)state;
    json_reader_init(&r, SLICE_LIT("[\"abc\",\"a\\nb\"]"));
    alloc_fail_nth(1);
    assert_int_equal(json_next(&r), JSON_ARRAY_BEGIN);
    assert_int_equal(json_next(&r), JSON_STRING); /* needs none */
    assert_int_equal(json_next(&r), JSON_ERROR);
    assert_string_equal(r.error, "out of memory");
    assert_int_equal(json_next(&r), JSON_ERROR);
    json_reader_fini(&r);

    for (size_t nth = 1; nth <= 3; nth++) {
        char text[200];

        memset(text, '\n', sizeof(text));
        buf_init(&out, 10000);
        alloc_fail_nth(nth);
        for (int i = 0; i < 3; i++)
            json_put_string(&out, slice_make(text, sizeof(text)));
        assert_int_equal(out.failed, ERR_MEMORY);
        buf_fini(&out);
    }
    alloc_fail_nth(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_utf8_comes_back_the_same),
        cmocka_unit_test(any_bytes_come_back_replaced),
        cmocka_unit_test(every_truncation_is_an_error_at_its_end),
        cmocka_unit_test(lack_of_memory_is_an_error_of_both),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
