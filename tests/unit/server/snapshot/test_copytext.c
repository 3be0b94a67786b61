/* The COPY text parser, case by case. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "server/snapshot/copytext.h"

#define FIELDS_MAX 4

static const uint16_t in_order[FIELDS_MAX] = {0, 1, 2, 3};

/* Parses a copy that is exactly as long as the line; the values point into it. */
static char *parse(const char *line, size_t len, size_t count, struct value *row, int *rc,
                   struct err *err)
{
    char *copy = malloc(len ? len : 1);

    assert_non_null(copy);
    memcpy(copy, line, len);
    *rc = copytext_parse(copy, len, in_order, count, row, err);
    return copy;
}

static void check_field(const char *escaped, const char *text, size_t len)
{
    struct value row[FIELDS_MAX];
    int rc;
    char *line = parse(escaped, strlen(escaped), 1, row, &rc, NULL);

    assert_int_equal(rc, 0);
    assert_int_equal(row[0].kind, VALUE_TEXT);
    assert_int_equal(row[0].len, len);
    assert_memory_equal(row[0].ptr, text, len);
    free(line);
}

#define FIELD(escaped, text) check_field(escaped, text, sizeof(text) - 1)

static void plain_text_is_taken_as_is(void **state)
{
    (void)state;
    FIELD("abc\n", "abc");
    FIELD("abc", "abc");
    FIELD("\n", "");
    FIELD("", "");
    FIELD("\xc3\xbc/\"'\n", "\xc3\xbc/\"'");
    FIELD("N\n", "N");
}

static void escapes_stand_for_their_bytes(void **state)
{
    (void)state;
    FIELD("\\b\\f\\n\\r\\t\\v\\\\\n", "\b\f\n\r\t\v\\");
    FIELD("a\\\\b\n", "a\\b");
    FIELD("\\\\\\\\N\n", "\\\\N");
    FIELD("\\\\x00ff\n", "\\x00ff"); /* bytea */
    FIELD("\\q\\\"\n", "q\"");
    FIELD("\\.\n", ".");
    FIELD("one\\ntwo\\nthree\n", "one\ntwo\nthree");
}

static void octal_and_hex_escapes_are_understood(void **state)
{
    (void)state;
    FIELD("\\101\\60\n", "A0");
    FIELD("\\1018\n", "A8");
    FIELD("\\1011\n", "A1");
    FIELD("\\08\n", "\0"
                    "8");
    FIELD("\\x41\\x4g\n", "A\x04g");
    FIELD("\\x41B\n", "AB");
    FIELD("\\xg\\x\n", "xgx");
    FIELD("\\x", "x");
    FIELD("\\X41\n", "X41");
}

static void null_is_exactly_its_marker(void **state)
{
    struct value row[FIELDS_MAX];
    char *line;
    int rc;

    (void)state;
    line = parse("\\N\t\\N\t\\N\n", 9, 3, row, &rc, NULL);
    assert_int_equal(rc, 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(row[i].kind, VALUE_NULL);
    free(line);
    line = parse("\\N", 2, 1, row, &rc, NULL);
    assert_int_equal(rc, 0);
    assert_int_equal(row[0].kind, VALUE_NULL);
    free(line);
    FIELD("\\\\N\n", "\\N");
    FIELD("\\NULL\n", "NULL");
    FIELD("a\\N\n", "aN");
}

static void fields_go_to_their_columns(void **state)
{
    const uint16_t columns[] = {1, 3};
    struct value row[FIELDS_MAX] = {0};
    char line[] = "a\\tb\t\\\\\n";

    (void)state;
    assert_int_equal(copytext_parse(line, sizeof(line) - 1, columns, 2, row, NULL), 0);
    assert_null(row[0].ptr);
    assert_null(row[2].ptr);
    assert_int_equal(row[1].len, 3);
    assert_memory_equal(row[1].ptr, "a\tb", 3);
    assert_int_equal(row[3].len, 1);
    assert_memory_equal(row[3].ptr, "\\", 1);
}

static void raw_tab_behind_a_backslash_is_text(void **state)
{
    (void)state;
    FIELD("a\\\tb\n", "a\tb");
}

static void empty_fields_at_both_ends_count(void **state)
{
    struct value row[FIELDS_MAX];
    int rc;
    char *line = parse("\t\tx\t\n", 5, 4, row, &rc, NULL);

    (void)state;
    assert_int_equal(rc, 0);
    assert_int_equal(row[0].len, 0);
    assert_int_equal(row[1].len, 0);
    assert_int_equal(row[2].len, 1);
    assert_int_equal(row[3].len, 0);
    free(line);
}

static void wrong_number_of_fields_is_an_error(void **state)
{
    struct value row[FIELDS_MAX];
    struct err err;
    int rc;

    (void)state;
    free(parse("a\tb\n", 4, 3, row, &rc, &err));
    assert_int_equal(rc, ERR_CORRUPT);
    assert_string_equal(err.message, "a line of COPY data ends after 2 fields of 3");
    free(parse("a\tb\n", 4, 1, row, &rc, &err));
    assert_int_equal(rc, ERR_CORRUPT);
    assert_string_equal(err.message, "a line of COPY data has more than 1 fields");
    free(parse("", 0, 2, row, &rc, &err));
    assert_int_equal(rc, ERR_CORRUPT);
}

static void cut_off_escape_is_an_error(void **state)
{
    struct value row[FIELDS_MAX];
    struct err err;
    int rc;

    (void)state;
    free(parse("a\tb\\", 4, 2, row, &rc, &err));
    assert_int_equal(rc, ERR_CORRUPT);
    assert_string_equal(err.message,
                        "a line of COPY data ends within an escape, in field 2 of 2");
    free(parse("\\\n", 2, 1, row, &rc, &err));
    assert_int_equal(rc, ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_text_is_taken_as_is),
        cmocka_unit_test(escapes_stand_for_their_bytes),
        cmocka_unit_test(octal_and_hex_escapes_are_understood),
        cmocka_unit_test(null_is_exactly_its_marker),
        cmocka_unit_test(fields_go_to_their_columns),
        cmocka_unit_test(raw_tab_behind_a_backslash_is_text),
        cmocka_unit_test(empty_fields_at_both_ends_count),
        cmocka_unit_test(wrong_number_of_fields_is_an_error),
        cmocka_unit_test(cut_off_escape_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
