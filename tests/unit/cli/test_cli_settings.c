/* Settings: every kind of value, names, what wins, and that secrets are never repeated. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/settings.h"

#define ARGS_MAX 8

static int read_flags(struct settings *s, struct err *err, char **args)
{
    int count = 0;
    int at = 0;
    int rc = 0;
    while (args[count])
        count++;
    settings_init(s);
    while (rc == 0 && at < count)
        rc = settings_read_flag(s, args, count, &at, err);
    return rc;
}

#define FLAGS(s, err, ...) read_flags((s), (err), (char *[ARGS_MAX]){__VA_ARGS__, NULL})

static int read_env(struct settings *s, struct err *err, char **env)
{
    settings_init(s);
    return settings_read_env(s, env, err);
}

#define ENV(s, err, ...) read_env((s), (err), (char *[ARGS_MAX]){__VA_ARGS__, NULL})

static void assert_refused(int rc, const struct err *err, const char *name,
                           const char *why)
{
    assert_int_equal(rc, ERR_INVALID);
    if (!strstr(err->message, name) || !strstr(err->message, why))
        fail_msg("\"%s\" should hold \"%s\" and \"%s\"", err->message, name, why);
}

static void defaults_are_those_of_the_specification(void **state)
{
    (void)state;
    struct settings s;
    settings_init(&s);
    const struct setting_value *v = s.values;
    assert_int_equal(v[SETTING_PORT].v.number, 3000);
    assert_int_equal(v[SETTING_DB_POOL_SIZE].v.number, 20);
    assert_int_equal(v[SETTING_LONG_POLL_TIMEOUT].v.ms, 20000);
    assert_int_equal(v[SETTING_CACHE_MAX_AGE].v.number, 60);
    assert_int_equal(v[SETTING_CACHE_STALE_AGE].v.number, 300);
    assert_int_equal(v[SETTING_CHUNK_BYTES].v.number, 10485760);
    assert_int_equal(v[SETTING_MAX_CONCURRENT_REQUESTS].v.limits.initial, 300);
    assert_int_equal(v[SETTING_MAX_CONCURRENT_REQUESTS].v.limits.existing, 10000);
    assert_int_equal(v[SETTING_TCP_SEND_TIMEOUT].v.ms, 30000);
    assert_int_equal(v[SETTING_TCP_READ_TIMEOUT].v.ms, 60000);
    assert_int_equal(v[SETTING_LOG_LEVEL].v.level, LOG_INFO);
    assert_string_equal(v[SETTING_STREAM_ID].text, "default");
    assert_string_equal(v[SETTING_STORAGE_DIR].text, "./persistent");
    assert_false(v[SETTING_INSECURE].v.flag);
    assert_null(v[SETTING_SECRET].text);
}

static void every_default_is_of_its_kind_and_range(void **state)
{
    (void)state;
    for (int i = 0; i < SETTING_COUNT; i++) {
        const struct setting_info *info = setting_info((enum setting_id)i);
        char flag[80] = "--";
        char value[128];
        struct settings s;
        struct err err = {0};
        if (!info->fallback)
            continue;
        memcpy(flag + 2, info->flag, strlen(info->flag) + 1);
        memcpy(value, info->fallback, strlen(info->fallback) + 1);
        if (FLAGS(&s, &err, flag, value) != 0)
            fail_msg("%s", err.message);
    }
}

/* ELECTRIC_MAX_SHAPES is --max-shapes: nobody has to look a flag up. */
static void flags_are_named_after_the_environment(void **state)
{
    (void)state;
    for (int i = 0; i < SETTING_COUNT; i++) {
        const struct setting_info *info = setting_info((enum setting_id)i);
        const char *env = info->env;
        if (strncmp(env, "ELECTRIC_", 9) == 0)
            env += 9;
        else if (strncmp(env, "COULOMB_", 8) == 0)
            env += 8;
        assert_int_equal(strlen(env), strlen(info->flag));
        for (size_t k = 0; env[k]; k++)
            assert_int_equal(info->flag[k], env[k] == '_' ? '-' : env[k] | 0x20);
    }
}

static void durations_have_optional_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } right[] = {{"20000", 20000}, {"0", 0},          {"250ms", 250}, {"250 msec", 250},
                 {"20s", 20000},   {"20 sec", 20000}, {"2m", 120000}, {"2min", 120000},
                 {"1.5s", 1500},   {"0.5 min", 30000}};
    static const char *const wrong[] = {"",   "s",  "-1",  "1h",  "1.2.3",
                                        ".5", "5.", "1e3", "1s2", "99999999999999999999"};
    int64_t ms = -1;
    for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
        assert_true(setting_parse_duration(slice_of(right[i].text), &ms));
        assert_int_equal(ms, right[i].ms);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        if (setting_parse_duration(slice_of(wrong[i]), &ms))
            fail_msg("\"%s\" was taken", wrong[i]);
}

static void sizes_are_decimal_or_binary(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t size_bytes;
    } right[] = {{"10485760", 10485760}, {"1KB", 1000},        {"1KiB", 1024},
                 {"10MB", 10000000},     {"10 MiB", 10485760}, {"1GB", 1000000000},
                 {"1GiB", 1073741824},   {"0.5MiB", 524288},   {"7B", 7}};
    static const char *const wrong[] = {"", "MB", "1TB", "-1", "1 M", "ten"};
    uint64_t size = 0;
    for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
        assert_true(setting_parse_size(slice_of(right[i].text), &size));
        assert_int_equal(size, right[i].size_bytes);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        if (setting_parse_size(slice_of(wrong[i]), &size))
            fail_msg("\"%s\" was taken", wrong[i]);
}

static void limits_are_json(void **state)
{
    (void)state;
    struct setting_limits limits;
    const char *why;
    assert_true(setting_parse_limits("{\"initial\":5,\"existing\":7}", &limits, &why));
    assert_int_equal(limits.initial, 5);
    assert_int_equal(limits.existing, 7);
    assert_true(setting_parse_limits("{\"existing\": 7}", &limits, &why));
    assert_int_equal(limits.initial, 300);
    static const char *const wrong[] = {"",
                                        "300",
                                        "[]",
                                        "{",
                                        "{\"initial\":0}",
                                        "{\"initial\":-5}",
                                        "{\"initial\":1.5}",
                                        "{\"initial\":\"5\"}",
                                        "{\"inital\":5}",
                                        "{\"initial\":1,\"initial\":2}",
                                        "{\"initial\":99999999999}"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        if (setting_parse_limits(wrong[i], &limits, &why))
            fail_msg("\"%s\" was taken", wrong[i]);
    assert_int_equal(limits.existing, 7);
}

static void flags_take_their_value_behind_a_blank_or_an_equals_sign(void **state)
{
    (void)state;
    struct settings s;
    struct err err = {0};
    assert_int_equal(FLAGS(&s, &err, "--port", "0", "--insecure", "--storage-dir=/x=y"),
                     0);
    assert_int_equal(s.values[SETTING_PORT].v.number, 0);
    assert_true(s.values[SETTING_INSECURE].v.flag);
    assert_string_equal(s.values[SETTING_STORAGE_DIR].text, "/x=y");
    assert_int_equal(FLAGS(&s, &err, "--insecure", "0", "--port", "5"), 0);
    assert_false(s.values[SETTING_INSECURE].v.flag);
    assert_int_equal(FLAGS(&s, &err, "--insecure=false"), 0);
    assert_false(s.values[SETTING_INSECURE].v.flag);
    assert_refused(FLAGS(&s, &err, "--port"), &err, "--port", "needs a value");
    assert_refused(FLAGS(&s, &err, "--port="), &err, "--port", "needs a value");
    assert_int_equal(FLAGS(&s, &err, "serve"), ERR_NOT_FOUND);
    assert_int_equal(FLAGS(&s, &err, "--"), ERR_NOT_FOUND);
}

static void a_flag_wins_over_the_environment(void **state)
{
    (void)state;
    struct settings s;
    struct err err = {0};
    assert_int_equal(FLAGS(&s, &err, "--port", "4000"), 0);
    char *env[] = {"ELECTRIC_PORT=5000", "ELECTRIC_DB_POOL_SIZE=7", NULL};
    assert_int_equal(settings_read_env(&s, env, &err), 0);
    assert_int_equal(s.values[SETTING_PORT].v.number, 4000);
    assert_int_equal(s.values[SETTING_DB_POOL_SIZE].v.number, 7);
}

static void the_newer_of_two_names_wins_in_any_order(void **state)
{
    (void)state;
    struct settings s;
    struct err err = {0};
    assert_int_equal(
        ENV(&s, &err, "ELECTRIC_MAX_SHAPES=5", "ELECTRIC_EXPERIMENTAL_MAX_SHAPES=9"), 0);
    assert_int_equal(s.values[SETTING_MAX_SHAPES].v.number, 5);
    assert_int_equal(
        ENV(&s, &err, "ELECTRIC_EXPERIMENTAL_MAX_SHAPES=9", "ELECTRIC_MAX_SHAPES=5"), 0);
    assert_int_equal(s.values[SETTING_MAX_SHAPES].v.number, 5);
    assert_int_equal(ENV(&s, &err, "ELECTRIC_EXPERIMENTAL_MAX_SHAPES=9"), 0);
    assert_int_equal(s.values[SETTING_MAX_SHAPES].v.number, 9);
}

static void an_empty_variable_counts_as_not_set(void **state)
{
    (void)state;
    struct settings s;
    struct err err = {0};
    assert_int_equal(
        ENV(&s, &err, "ELECTRIC_SECRET=", "ELECTRIC_PORT=", "ELECTRIC_PROT="), 0);
    assert_null(s.values[SETTING_SECRET].text);
    assert_int_equal(s.values[SETTING_PORT].v.number, 3000);
}

static void unknown_names_are_refused_with_the_nearest_one(void **state)
{
    (void)state;
    struct settings s;
    struct err err = {0};
    assert_refused(FLAGS(&s, &err, "--prot", "1"), &err, "--prot",
                   "did you mean --port?");
    assert_refused(ENV(&s, &err, "ELECTRIC_STORAGE_DIRR=/x"), &err,
                   "ELECTRIC_STORAGE_DIRR", "did you mean ELECTRIC_STORAGE_DIR?");
    assert_refused(ENV(&s, &err, "COULOMB_TEAPOT=short"), &err, "COULOMB_TEAPOT",
                   "no such setting");
    assert_null(strstr(err.message, "short"));
    assert_int_equal(ENV(&s, &err, "PATH=/bin", "ELECTRICAL=1", "COULOMBS=1"), 0);
}

static void names_without_effect_are_accepted(void **state)
{
    (void)state;
    struct settings s;
    struct err err = {0};
    assert_int_equal(ENV(&s, &err, "ELECTRIC_CONSUMER_PARTITIONS=4",
                         "ELECTRIC_TWEAKS_ANYTHING=1",
                         "ELECTRIC_SHAPE_HIBERNATE_AFTER=30s", "ELECTRIC_DATABASE_ID=x",
                         "ELECTRIC_PORT_3000_TCP_ADDR=10.0.0.1"),
                     0);
    assert_int_equal(ENV(&s, &err, "ELECTRIC_TWEAKS_SCHEMA_RECONCILER_PERIOD=5s"), 0);
    assert_int_equal(s.values[SETTING_SCHEMA_RECONCILER_PERIOD].v.ms, 5000);
}

static void values_of_the_wrong_kind_are_refused_by_name(void **state)
{
    (void)state;
    struct settings s;
    struct err err = {0};
    assert_refused(ENV(&s, &err, "ELECTRIC_PORT=65536"), &err, "ELECTRIC_PORT=65536",
                   "65535");
    assert_refused(FLAGS(&s, &err, "--port", "http"), &err, "--port http", "a port");
    assert_refused(ENV(&s, &err, "ELECTRIC_PORT=tcp://10.0.0.1:3000"), &err,
                   "ELECTRIC_PORT", "enableServiceLinks");
    assert_refused(FLAGS(&s, &err, "--insecure=yes"), &err, "--insecure yes",
                   "true, false");
    assert_refused(FLAGS(&s, &err, "--db-pool-size", "1"), &err, "--db-pool-size 1",
                   "from 2 to 1000");
    assert_refused(FLAGS(&s, &err, "--long-poll-timeout", "2h"), &err,
                   "--long-poll-timeout 2h", "msec");
    assert_refused(FLAGS(&s, &err, "--long-poll-timeout", "100m"), &err,
                   "--long-poll-timeout", "3600000 ms");
    assert_refused(FLAGS(&s, &err, "--log-level", "loud"), &err, "--log-level loud",
                   "debug");
    assert_refused(FLAGS(&s, &err, "--listen", "localhost"), &err, "--listen localhost",
                   "address");
    assert_refused(ENV(&s, &err, "ELECTRIC_STORAGE=FILE"), &err, "ELECTRIC_STORAGE=FILE",
                   "FAST_FILE");
    assert_refused(ENV(&s, &err, "ELECTRIC_MAX_CONCURRENT_REQUESTS=300"), &err,
                   "ELECTRIC_MAX_CONCURRENT_REQUESTS=300", "JSON object");
}

static void secrets_are_never_shown(void **state)
{
    (void)state;
    struct setting_value secret = {.name = "--secret", .text = "hunter2"};
    struct setting_value url = {.name = "DATABASE_URL",
                                .text = "postgresql://u:hunter2@h/d"};
    struct buf out;
    buf_init(&out, 1024);
    setting_put_given(&out, SETTING_SECRET, &secret);
    setting_put_given(&out, SETTING_DATABASE_URL, &url);
    setting_put_given(&out, SETTING_POOLED_DATABASE_URL, &url);
    assert_null(memmem(out.ptr, out.len, "hunter2", 7));
    buf_fini(&out);
}

static void long_values_are_cut_at_a_character(void **state)
{
    (void)state;
    char value[400];
    char flag[] = "--log-level";
    struct settings s;
    struct err err = {0};
    memset(value, 'a', sizeof(value));
    memcpy(value + 79, "\xc3\xa4", 2);
    value[sizeof(value) - 1] = '\0';
    assert_refused(FLAGS(&s, &err, flag, value), &err, "--log-level aaa",
                   "...: it must be");
    assert_true(slice_is_utf8(slice_of(err.message)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_specification),
        cmocka_unit_test(every_default_is_of_its_kind_and_range),
        cmocka_unit_test(flags_are_named_after_the_environment),
        cmocka_unit_test(durations_have_optional_units),
        cmocka_unit_test(sizes_are_decimal_or_binary),
        cmocka_unit_test(limits_are_json),
        cmocka_unit_test(flags_take_their_value_behind_a_blank_or_an_equals_sign),
        cmocka_unit_test(a_flag_wins_over_the_environment),
        cmocka_unit_test(the_newer_of_two_names_wins_in_any_order),
        cmocka_unit_test(an_empty_variable_counts_as_not_set),
        cmocka_unit_test(unknown_names_are_refused_with_the_nearest_one),
        cmocka_unit_test(names_without_effect_are_accepted),
        cmocka_unit_test(values_of_the_wrong_kind_are_refused_by_name),
        cmocka_unit_test(secrets_are_never_shown),
        cmocka_unit_test(long_values_are_cut_at_a_character),
    };
    return cmocka_run_group_tests_name("cli settings", tests, NULL, NULL);
}
