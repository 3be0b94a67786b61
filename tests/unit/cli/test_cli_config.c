/* Settings together: what they make of the server's configuration, what contradicts, and
 * that docs/settings.md is what the table says. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/config.h"

#define ARGS_MAX 16
#define URL      "DATABASE_URL=postgresql://me:hunter2@db.example:5433/app"

static int build(struct settings *s, struct server_config *c, struct err *err, char **env)
{
    settings_init(s);
    int rc = settings_read_env(s, env, err);
    return rc ? rc : config_build(s, c, err);
}

#define BUILD(...) build(&settings, &config, &err, (char *[ARGS_MAX]){__VA_ARGS__, NULL})

static struct settings settings;
static struct server_config config;
static struct err err;

static void assert_refused(int rc, const char *name, const char *why)
{
    assert_int_equal(rc, ERR_INVALID);
    if (!strstr(err.message, name) || !strstr(err.message, why))
        fail_msg("\"%s\" should hold \"%s\" and \"%s\"", err.message, name, why);
    assert_null(strstr(err.message, "hunter2"));
}

static void the_least_settings_make_a_whole_configuration(void **state)
{
    (void)state;
    assert_int_equal(BUILD(URL, "ELECTRIC_INSECURE=true"), 0);
    assert_string_equal(config.version, "1.7.12");
    assert_string_equal(config.database_url, &URL[sizeof("DATABASE_URL")]);
    assert_null(config.pooled_database_url);
    assert_null(config.secret);
    assert_string_equal(config.listen_address, "0.0.0.0");
    assert_int_equal(config.port, 3000);
    assert_false(config.metrics_enabled);
    assert_int_equal(config.pool_size, 20);
    assert_int_equal(config.reconcile_period_ms, 60000);
    assert_int_equal(config.max_shapes, 0);
    assert_false(config.storage_in_memory);
    assert_in_range(config.http_threads, 2, 4);
}

static void each_setting_arrives_where_it_belongs(void **state)
{
    (void)state;
    assert_int_equal(BUILD(URL, "ELECTRIC_SECRET=hunter2", "ELECTRIC_LISTEN_ON_IPV6=1",
                           "ELECTRIC_PROMETHEUS_PORT=0", "COULOMB_HTTP_THREADS=9",
                           "ELECTRIC_STORAGE=MEMORY", "ELECTRIC_PERSISTENT_STATE=MEMORY",
                           "ELECTRIC_ENABLE_INTEGRATION_TESTING=true",
                           "ELECTRIC_TWEAKS_PUBLICATION_REFRESH_PERIOD=5s",
                           "ELECTRIC_TWEAKS_SCHEMA_RECONCILER_PERIOD=3s",
                           "CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN=true",
                           "ELECTRIC_TEMPORARY_REPLICATION_SLOT_USE_RANDOM_NAME=true"),
                     0);
    assert_string_equal(config.secret, "hunter2");
    assert_string_equal(config.listen_address, "::");
    assert_true(config.metrics_enabled);
    assert_int_equal(config.metrics_port, 0);
    assert_int_equal(config.http_threads, 9);
    assert_true(config.storage_in_memory);
    assert_true(config.allow_delete);
    assert_int_equal(config.reconcile_period_ms, 3000);
    assert_true(config.temporary_slot);
    assert_true(config.temporary_slot_random_name);
}

static void a_secret_or_its_absence_must_be_chosen(void **state)
{
    (void)state;
    assert_refused(BUILD(URL), "ELECTRIC_SECRET", "ELECTRIC_INSECURE=true");
    assert_refused(BUILD(URL, "ELECTRIC_SECRET=hunter2", "ELECTRIC_INSECURE=true"),
                   "ELECTRIC_SECRET and ELECTRIC_INSECURE", "contradict");
    assert_refused(BUILD(URL, "ELECTRIC_SECRET=", "ELECTRIC_INSECURE=false"),
                   "ELECTRIC_SECRET", "nobody");
}

static void the_database_is_required_and_its_url_checked(void **state)
{
    (void)state;
    char insecure[] = "ELECTRIC_INSECURE=true";
    assert_refused(BUILD(insecure), "DATABASE_URL", "not set");
    assert_refused(BUILD(insecure, "DATABASE_URL=mysql://me:hunter2@h/d"), "DATABASE_URL",
                   "postgresql://");
    assert_refused(BUILD(insecure, "DATABASE_URL=postgresql://me:hun@hunter2@h/d"),
                   "DATABASE_URL", "%40");
    assert_refused(
        BUILD(insecure, "DATABASE_URL=postgresql://me:hunter2@h/d?sslmode=verify-full"),
        "DATABASE_URL", "sslmode");
    assert_refused(
        BUILD(insecure, "DATABASE_URL=postgresql://me:hunter2@h/d?replication=database"),
        "DATABASE_URL", "replication");
    assert_refused(BUILD(insecure, URL, "ELECTRIC_POOLED_DATABASE_URL=nonsense:hunter2"),
                   "ELECTRIC_POOLED_DATABASE_URL", "postgresql://");
}

static void a_certificate_must_be_readable_and_used(void **state)
{
    (void)state;
    char path[] = "/tmp/coulomb-ca-XXXXXX";
    char variable[96];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    snprintf(variable, sizeof(variable), "ELECTRIC_DATABASE_CA_CERTIFICATE_FILE=%s",
             path);
    assert_refused(BUILD("ELECTRIC_INSECURE=true", variable,
                         "DATABASE_URL=postgresql://me:hunter2@h/d?sslmode=disable"),
                   "DATABASE_URL", "sslmode=disable");
    close(fd);
    unlink(path);
    assert_refused(BUILD("ELECTRIC_INSECURE=true", URL, variable),
                   "ELECTRIC_DATABASE_CA_CERTIFICATE_FILE", "can't be read");
}

static void slots_and_storage_must_fit_together(void **state)
{
    (void)state;
    char insecure[] = "ELECTRIC_INSECURE=true";
    assert_refused(
        BUILD(insecure, URL, "ELECTRIC_TEMPORARY_REPLICATION_SLOT_USE_RANDOM_NAME=true"),
        "ELECTRIC_TEMPORARY_REPLICATION_SLOT_USE_RANDOM_NAME",
        "CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN");
    assert_refused(BUILD(insecure, URL, "ELECTRIC_REPLICATION_STREAM_ID=Main-1"),
                   "ELECTRIC_REPLICATION_STREAM_ID=Main-1", "a-z");
    assert_refused(
        BUILD(insecure, URL,
              "ELECTRIC_REPLICATION_STREAM_ID=a123456789b123456789c123456789d1234567891"),
        "ELECTRIC_REPLICATION_STREAM_ID", "40");
    assert_refused(BUILD(insecure, URL, "ELECTRIC_PERSISTENT_STATE=MEMORY"),
                   "ELECTRIC_PERSISTENT_STATE", "ELECTRIC_STORAGE=MEMORY");
}

static void addresses_and_ports_must_not_clash(void **state)
{
    (void)state;
    char insecure[] = "ELECTRIC_INSECURE=true";
    assert_refused(
        BUILD(insecure, URL, "ELECTRIC_LISTEN_ON_IPV6=true", "COULOMB_LISTEN=127.0.0.1"),
        "COULOMB_LISTEN", "IPv6");
    assert_refused(BUILD(insecure, URL, "ELECTRIC_PROMETHEUS_PORT=3000"),
                   "ELECTRIC_PROMETHEUS_PORT", "of their own");
    assert_int_equal(
        BUILD(insecure, URL, "ELECTRIC_PROMETHEUS_PORT=0", "ELECTRIC_PORT=0"), 0);
    assert_int_equal(
        BUILD(insecure, URL, "ELECTRIC_LISTEN_ON_IPV6=true", "COULOMB_LISTEN=::1"), 0);
    assert_string_equal(config.listen_address, "::1");
}

static void the_settings_page_is_what_the_table_says(void **state)
{
    (void)state;
    struct buf now;
    buf_init(&now, 1 << 20);
    settings_put_markdown(&now);
    FILE *file = fopen("docs/settings.md", "r");
    assert_non_null(file);
    char *page = malloc(now.len + 1);
    assert_non_null(page);
    size_t n = fread(page, 1, now.len + 1, file);
    fclose(file);
    if (n != now.len || memcmp(page, now.ptr, n) != 0)
        fail_msg("docs/settings.md is old: coulomb help settings --markdown "
                 ">docs/settings.md");
    free(page);
    buf_fini(&now);
}

static void the_manual_names_every_command(void **state)
{
    (void)state;
    char page[32768];
    FILE *file = fopen("docs/coulomb.1", "r");
    assert_non_null(file);
    size_t n = fread(page, 1, sizeof(page) - 1, file);
    page[n] = '\0';
    fclose(file);
    static const char *const words[] = {".SS coulomb serve", ".SS coulomb dev",
                                        ".SS coulomb status", ".SS coulomb help"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (!strstr(page, words[i]))
            fail_msg("docs/coulomb.1 lacks \"%s\"", words[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_settings_make_a_whole_configuration),
        cmocka_unit_test(each_setting_arrives_where_it_belongs),
        cmocka_unit_test(a_secret_or_its_absence_must_be_chosen),
        cmocka_unit_test(the_database_is_required_and_its_url_checked),
        cmocka_unit_test(a_certificate_must_be_readable_and_used),
        cmocka_unit_test(slots_and_storage_must_fit_together),
        cmocka_unit_test(addresses_and_ports_must_not_clash),
        cmocka_unit_test(the_settings_page_is_what_the_table_says),
        cmocka_unit_test(the_manual_names_every_command),
    };
    return cmocka_run_group_tests_name("cli config", tests, NULL, NULL);
}
