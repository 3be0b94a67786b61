/* Log lines: quoting, cutting, levels, one write per event. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"

/* What log_write sends, read back through a pipe (a line always fits one). */
struct capture {
    struct log log;
    int read_fd;
    char text[8192];
};

static void capture_init(struct capture *c, enum log_level level)
{
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    c->read_fd = fds[0];
    c->log.fd = fds[1];
    c->log.level = level;
}

static const char *capture_text(struct capture *c)
{
    size_t len = 0;
    ssize_t n;

    close(c->log.fd);
    while ((n = read(c->read_fd, c->text + len, sizeof(c->text) - 1 - len)) > 0)
        len += (size_t)n;
    c->text[len] = '\0';
    close(c->read_fd);
    return c->text;
}

/* Behind the event's name, without the newline. */
static const char *fields_of(struct capture *c)
{
    char *text = strstr(capture_text(c), " event=");
    char *end = strchr(text, '\n');

    assert_non_null(end);
    *end = '\0';
    assert_int_equal(end[1], '\0');
    return strchr(text + 1, ' ');
}

static void assert_written(struct slice value, const char *expected)
{
    struct capture c;

    capture_init(&c, LOG_DEBUG);
    log_event(&c.log, LOG_INFO, "e", LOG_SLICE("k", value));
    assert_string_equal(fields_of(&c) + 3, expected);
}

static void a_line_has_time_level_event_and_fields(void **state)
{
    struct capture c;
    const char *text;
    int y, mo, d, h, mi, s, ms, end = 0;

    (void)state;
    capture_init(&c, LOG_DEBUG);
    log_event(&c.log, LOG_WARNING, "replica.connected", LOG_TEXT("slot", "electric"),
              LOG_U64("lsn", UINT64_MAX), LOG_I64("lag", INT64_MIN),
              LOG_TEXT("none", NULL));
    text = capture_text(&c);
    assert_int_equal(sscanf(text, "ts=%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", &y, &mo, &d, &h,
                            &mi, &s, &ms, &end),
                     7);
    assert_int_equal(end, strlen("ts=2026-01-31T12:00:00.123Z "));
    assert_true(y >= 2024 && mo >= 1 && mo <= 12 && s <= 60);
    assert_string_equal(text + end, "level=warning event=replica.connected slot=electric "
                                    "lsn=18446744073709551615 lag=-9223372036854775808 "
                                    "none=\"\"\n");
}

static void plain_values_stay_bare_and_others_are_quoted(void **state)
{
    (void)state;
    assert_written(SLICE_LIT("plain-1.2:/x"), "plain-1.2:/x");
    assert_written(SLICE_LIT("caf\xC3\xA9"), "caf\xC3\xA9");
    assert_written(SLICE_LIT(""), "\"\"");
    assert_written(SLICE_LIT("two words"), "\"two words\"");
    assert_written(SLICE_LIT("a=b"), "\"a=b\"");
    assert_written(SLICE_LIT("say \"hi\""), "\"say \\\"hi\\\"\"");
    assert_written(SLICE_LIT("c:\\x"), "\"c:\\\\x\"");
}

static void nothing_forges_a_line_or_drives_a_terminal(void **state)
{
    (void)state;
    assert_written(SLICE_LIT("x\nts=0 level=error"), "\"x\\nts=0 level=error\"");
    assert_written(SLICE_LIT("\r\t\0z"), "\"\\r\\t\\u0000z\"");
    assert_written(SLICE_LIT("\x1B[31m"), "\"\\u001b[31m\"");
    assert_written(SLICE_LIT("\x7F"), "\"\\u007f\"");
    assert_written(SLICE_LIT("\xC2\x9B"), "\"\\u009b\"");
    assert_written(SLICE_LIT("\xC2\xA0"), "\xC2\xA0");
    assert_written(SLICE_LIT("a\xFF\xED\xA0\x80"),
                   "\"a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

static void long_values_are_cut_at_one_kib_between_characters(void **state)
{
    char value[5000];
    struct capture c;
    const char *text;

    (void)state;
    for (size_t i = 0; i < sizeof(value); i += 2)
        memcpy(value + i, "\xC3\xA9", 2);
    capture_init(&c, LOG_DEBUG);
    log_event(&c.log, LOG_INFO, "e", LOG_SLICE("k", slice_make(value, sizeof(value))),
              LOG_U64("after", 1));
    text = fields_of(&c);
    assert_true(slice_is_utf8(slice_of(text)));
    assert_non_null(strstr(text, "\xA9... after=1"));
    assert_in_range(strlen(text), 1000, 1024 + strlen(" k= after=1"));
    /* Escapes count as they are written. */
    memset(value, '\x01', sizeof(value));
    capture_init(&c, LOG_DEBUG);
    log_event(&c.log, LOG_INFO, "e", LOG_SLICE("k", slice_make(value, sizeof(value))));
    text = fields_of(&c);
    assert_in_range(strlen(text), 1000, 1024 + strlen(" k=\"\""));
    assert_non_null(strstr(text, "\\u0001...\""));
}

static void fields_beyond_the_line_are_left_out_whole(void **state)
{
    char value[1000];
    struct log_field fields[6];
    struct capture c;
    const char *text;

    (void)state;
    memset(value, 'v', sizeof(value));
    for (size_t i = 0; i < 6; i++)
        fields[i] = LOG_SLICE("k", slice_make(value, sizeof(value)));
    capture_init(&c, LOG_DEBUG);
    log_write(&c.log, LOG_INFO, "e", fields, 6);
    text = capture_text(&c);
    assert_true(strlen(text) <= 4096);
    assert_string_equal(text + strlen(text) - strlen("vvv cut=true\n"), "vvv cut=true\n");
}

static void an_event_without_fields_is_a_line(void **state)
{
    struct capture c;

    (void)state;
    capture_init(&c, LOG_DEBUG);
    log_write(&c.log, LOG_ERROR, "server.stopped", NULL, 0);
    assert_non_null(strstr(capture_text(&c), "level=error event=server.stopped\n"));
}

static void events_below_the_level_and_without_a_log_are_dropped(void **state)
{
    struct capture c;

    (void)state;
    capture_init(&c, LOG_WARNING);
    log_event(&c.log, LOG_INFO, "e", LOG_U64("n", 1));
    log_event(NULL, LOG_ERROR, "e", LOG_U64("n", 1));
    assert_string_equal(capture_text(&c), "");
}

static void a_dead_descriptor_is_survived_and_errno_kept(void **state)
{
    const struct log log = {.fd = -1, .level = LOG_DEBUG};

    (void)state;
    errno = EAGAIN;
    log_event(&log, LOG_ERROR, "e", LOG_U64("n", 1));
    assert_int_equal(errno, EAGAIN);
}

#define THREADS         4
#define LINES           200
#define SHORT_READ_SIZE 8192

static void *write_lines(void *arg)
{
    const struct log *log = arg;
    char value[900];

    memset(value, 'v', sizeof(value));
    for (int i = 0; i < LINES; i++)
        log_event(log, LOG_INFO, "e", LOG_SLICE("k", slice_make(value, sizeof(value))));
    return NULL;
}

static void lines_of_several_threads_stay_whole(void **state)
{
    pthread_t threads[THREADS];
    struct capture c;
    size_t lines = 0;
    size_t column = 0;
    size_t width = 0;
    char bytes[SHORT_READ_SIZE];
    ssize_t n;

    (void)state;
    capture_init(&c, LOG_DEBUG);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &c.log), 0);
    while (lines < (size_t)THREADS * LINES &&
           (n = read(c.read_fd, bytes, sizeof(bytes))) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            column++;
            if (bytes[i] != '\n')
                continue;
            width = width ? width : column;
            assert_int_equal(column, width);
            lines++;
            column = 0;
        }
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(lines, THREADS * LINES);
    assert_string_equal(capture_text(&c), "");
}

static void levels_are_read_by_name(void **state)
{
    enum log_level level = LOG_ERROR;

    (void)state;
    assert_true(log_level_parse(SLICE_LIT("debug"), &level) && level == LOG_DEBUG);
    assert_true(log_level_parse(SLICE_LIT("info"), &level) && level == LOG_INFO);
    assert_true(log_level_parse(SLICE_LIT("warn"), &level) && level == LOG_WARNING);
    assert_true(log_level_parse(SLICE_LIT("warning"), &level) && level == LOG_WARNING);
    assert_true(log_level_parse(SLICE_LIT("error"), &level) && level == LOG_ERROR);
    assert_false(log_level_parse(SLICE_LIT(""), &level));
    assert_false(log_level_parse(SLICE_LIT("INFO"), &level));
    assert_false(log_level_parse(SLICE_LIT("infos"), &level));
    assert_int_equal(level, LOG_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_level_event_and_fields),
        cmocka_unit_test(plain_values_stay_bare_and_others_are_quoted),
        cmocka_unit_test(nothing_forges_a_line_or_drives_a_terminal),
        cmocka_unit_test(long_values_are_cut_at_one_kib_between_characters),
        cmocka_unit_test(fields_beyond_the_line_are_left_out_whole),
        cmocka_unit_test(an_event_without_fields_is_a_line),
        cmocka_unit_test(events_below_the_level_and_without_a_log_are_dropped),
        cmocka_unit_test(a_dead_descriptor_is_survived_and_errno_kept),
        cmocka_unit_test(lines_of_several_threads_stay_whole),
        cmocka_unit_test(levels_are_read_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
