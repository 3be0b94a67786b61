/* How a timeline came about, as Postgres writes it down. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/replica/internal.h"

static int parse(const char *text, uint32_t timeline, struct replica_switch **out,
                 size_t *count)
{
    struct err err = {.code = 0};
    int rc = history_parse(slice_of(text), timeline, out, count, &err);

    assert_int_equal(err.code, rc);
    return rc;
}

static void lines_are_read_with_their_comments_and_blanks(void **state)
{
    struct replica_switch *list;
    size_t count;

    (void)state;
    assert_int_equal(parse("1\t0/3000148\tno recovery target specified\n"
                           "\n# a comment 9\t9/9\n  \n"
                           "3 16/B374D848  before 2026-01-01 00:00:00+00\n",
                           4, &list, &count),
                     0);
    assert_int_equal(count, 2);
    assert_int_equal(list[0].timeline, 1);
    assert_int_equal(list[0].lsn, 0x3000148);
    assert_int_equal(list[1].timeline, 3);
    assert_true(list[1].lsn == 0x16B374D848);
    free(list);
    assert_int_equal(parse("1\tffffffff/FFFFFFFF", 2, &list, &count), 0);
    assert_true(list[0].lsn == UINT64_MAX);
    free(list);
}

static void what_makes_no_sense_is_refused(void **state)
{
    static const char *const wrong[] = {
        "",
        "# nothing\n",
        "1\n",
        "1\t\n",
        "1\t0\n",
        "1\t0/\n",
        "1\t/5\n",
        "1\t0/5x\n",
        "1\t0/123456789\n",
        "1 000000000/1\n",
        "0\t0/5\n",
        "-1\t0/5\n",
        "x\t0/5\n",
        "4294967296\t0/5\n",
        "1 0/5 first\n1 0/6 again\n",
        "2 0/5 later\n1 0/6 earlier\n",
        "1 0/6 later\n2 0/5 earlier\n",
        "5\t0/5\tits own\n",
        "6\t0/5\ta later one\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct replica_switch *list;
        size_t count;

        if (parse(wrong[i], 5, &list, &count) != ERR_CORRUPT)
            fail_msg("taken: %s", wrong[i]);
        assert_null(list);
        assert_int_equal(count, 0);
    }
}

static void a_history_has_a_maximum(void **state)
{
    char text[5001];
    struct replica_switch *list;
    size_t count;

    (void)state;
    memset(text, '\n', 5000);
    text[5000] = '\0';
    assert_int_equal(parse(text, 5, &list, &count), ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_read_with_their_comments_and_blanks),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(a_history_has_a_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
