/* Errors: filling, wrapping, cutting, names. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "base/err.h"
#include "base/slice.h"

static void set_fills_everything_and_returns_the_code(void **state)
{
    struct err err = {.code = 1, .http_status = 500, .sqlstate = "42P01"};

    (void)state;
    assert_int_equal(err_set(&err, ERR_INVALID, "port %d is taken", 3000), ERR_INVALID);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(err.http_status, 0);
    assert_string_equal(err.sqlstate, "");
    assert_string_equal(err.message, "port 3000 is taken");
    err_clear(&err);
    assert_int_equal(err.code, 0);
    assert_string_equal(err.message, "");
}

static void no_struct_is_fine_everywhere(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_IO, "%s", "x"), ERR_IO);
    assert_int_equal(err_errno(NULL, ERR_IO, ENOENT, "%s", "x"), ERR_IO);
    err_clear(NULL);
}

static void errno_text_follows_the_message(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(err_errno(&err, ERR_IO, ENOENT, "opening %s", "a.db"), ERR_IO);
    assert_string_equal(err.message, "opening a.db: No such file or directory");
}

static void wrapping_its_own_message_works(void **state)
{
    struct err err;

    (void)state;
    err_set(&err, ERR_RETRY, "connection refused");
    assert_int_equal(err_set(&err, err.code, "replication: %s", err.message), ERR_RETRY);
    assert_string_equal(err.message, "replication: connection refused");
    err_errno(&err, ERR_IO, EPERM, "%s", err.message);
    assert_string_equal(err.message,
                        "replication: connection refused: Operation not permitted");
}

static void long_messages_are_cut_between_characters(void **state)
{
    char text[2000];
    struct err err;

    (void)state;
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    err_set(&err, ERR_INVALID, "%s", text);
    assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
    /* Four-byte characters, at every phase against the end of the message. */
    for (size_t phase = 0; phase < 4; phase++) {
        memset(text, 'x', phase);
        for (size_t i = phase; i + 5 < sizeof(text); i += 4)
            memcpy(text + i, "\xF0\x9F\x98\x80", 4);
        err_set(&err, ERR_INVALID, "%s", text);
        assert_true(strlen(err.message) >= sizeof(err.message) - 4);
        assert_true(slice_is_utf8(slice_of(err.message)));
        err_errno(&err, ERR_INVALID, EINTR, "%s", text);
        assert_true(slice_is_utf8(slice_of(err.message)));
    }
}

static void every_code_has_a_name(void **state)
{
    (void)state;
    for (int code = ERR_UNSUPPORTED; code <= ERR_NONE; code++)
        assert_string_not_equal(err_name(code), "unknown");
    assert_string_equal(err_name(ERR_NONE), "none");
    assert_string_equal(err_name(ERR_RETRY), "retry");
    assert_string_equal(err_name(ERR_DB), "db");
    assert_string_equal(err_name(ERR_UNSUPPORTED), "unsupported");
    assert_string_equal(err_name(ERR_UNSUPPORTED - 1), "unknown");
    assert_string_equal(err_name(1), "unknown");
    assert_string_equal(err_name(-2147483647 - 1), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_fills_everything_and_returns_the_code),
        cmocka_unit_test(no_struct_is_fine_everywhere),
        cmocka_unit_test(errno_text_follows_the_message),
        cmocka_unit_test(wrapping_its_own_message_works),
        cmocka_unit_test(long_messages_are_cut_between_characters),
        cmocka_unit_test(every_code_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
