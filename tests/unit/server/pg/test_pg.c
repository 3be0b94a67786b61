/* Connection strings, and what failures mean. No database. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "server/pg/config.h"

#define SECRET "s3kr1t"

static int make(const char *url, const char *ca, struct pg_config **out, struct err *err)
{
    const struct pg_options options = {.url = url, .ca_file = ca};
    err_clear(err);
    return pg_config_new(&options, out, err);
}

static void test_refused_urls_say_why_and_never_the_password(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        const char *says;
    } cases[] = {
        {"", "must begin with postgresql://"},
        {"mysql://u:" SECRET "@h/d", "must begin with postgresql://"},
        {"postgres://u:" SECRET "%zz@h/d", "'%'"},
        {"postgres://u:" SECRET "%00@h/d", "NUL"},
        {"postgres://u:" SECRET "%", "'%'"},
        {"postgres://u:a" SECRET "@" SECRET "@h/d", "%40"},
        {"postgres://u:a/" SECRET "@h/d", "%2F"},
        {"postgres://u: " SECRET "@h/d", "blank"},
        {"postgres://u:" SECRET "\n@h/d", "blank"},
        {"postgres://u:" SECRET "@[::1/d", "malformed"},
        {"postgres://u:" SECRET, "names no user"},
        {"postgres://:" SECRET "@h/d", "names no user"},
        {"postgres://u:" SECRET "@h:99999/d", "1 to 65535"},
        {"postgres://u:" SECRET "@h:0/d", "1 to 65535"},
        {"postgres://u:" SECRET "@h:x/d", "1 to 65535"},
        {"postgres://u:" SECRET "@h/d?sslmode=verify-full", "verify"},
        {"postgres://u:" SECRET "@h/d?sslmode=verify-ca", "verify"},
        {"postgres://u:" SECRET "@h/d?sslmode=maybe",
         "disable, allow, prefer or require"},
        {"postgres://u:" SECRET "@h/d?replication=database", "\"replication\""},
        {"postgres://u:" SECRET "@h/d?replication=true", "\"replication\""},
        {"postgres://u:" SECRET "@h/d?sslmod=require", "unknown option \"sslmod\""},
        {"postgres://u:" SECRET "@h/d?sslmode", "without a name or a value"},
        {"postgres://u:" SECRET "@h/d?service=x", "service"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pg_config *config = NULL;
        struct err err;
        assert_int_equal(make(cases[i].url, NULL, &config, &err), ERR_INVALID);
        assert_null(config);
        if (!strstr(err.message, cases[i].says))
            fail_msg("%s: %s", cases[i].url, err.message);
        assert_null(strstr(err.message, SECRET));
    }
}

static void check(const char *url, const char *keyword, const char *value)
{
    struct pg_config *config = NULL;
    struct err err;
    if (make(url, NULL, &config, &err))
        fail_msg("%s: %s", url, err.message);
    const char *found = pg_config_value(config, keyword);
    if (!value)
        assert_null(found);
    else if (!found || strcmp(found, value) != 0)
        fail_msg("%s: %s is %s", url, keyword, found ? found : "(none)");
    pg_config_free(config);
}

static void test_urls_are_decoded_and_completed(void **state)
{
    (void)state;
    check("postgresql://u%40x:p%2F%3A%40%25@h/my%20db", "user", "u@x");
    check("postgresql://u%40x:p%2F%3A%40%25@h/my%20db", "password", "p/:@%");
    check("postgresql://u%40x:p%2F%3A%40%25@h/my%20db", "dbname", "my db");
    check("postgres://amy@h", "dbname", "amy");
    check("postgres://amy@h/", "dbname", "amy");
    check("postgres://u@h/d", "sslmode", "prefer");
    check("postgres://u@h/d?sslmode=require", "sslmode", "require");
    check("postgres://u@h/d", "client_encoding", "UTF8");
    check("postgres://u@h/d?client_encoding=LATIN1", "client_encoding", "UTF8");
    check("postgres://u@h/d", "application_name", "coulomb");
    check("postgres://u@h/d?application_name=mine", "application_name", "mine");
    check("postgres://u@h/d", "keepalives", "1");
    check("postgres://u@h/d", "replication", NULL);
    check("postgres://u@[::1]:6000/d", "host", "::1");
    check("postgres://u@a,b:7000/d", "host", "a,b");
    check("postgres://u:p:q@h/d", "password", "p:q");
}

static void test_description_has_no_password(void **state)
{
    (void)state;
    struct pg_config *config = NULL;
    struct err err;
    assert_int_equal(make("postgres://u:" SECRET "@h:6543/d", NULL, &config, &err), 0);
    assert_string_equal(pg_config_describe(config), "u@h:6543/d");
    assert_string_equal(pg_config_database(config), "d");
    pg_config_free(config);
    assert_int_equal(make("postgres://u@h", NULL, &config, &err), 0);
    assert_string_equal(pg_config_describe(config), "u@h:5432/u");
    pg_config_free(config);
}

static void test_ca_file_demands_a_verified_server(void **state)
{
    (void)state;
    struct pg_config *config = NULL;
    struct err err;
    char path[] = "/tmp/coulomb-ca-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(make("postgres://u@h/d?sslmode=disable", path, &config, &err),
                     ERR_INVALID);
    assert_non_null(strstr(err.message, "sslmode=disable"));
    assert_int_equal(make("postgres://u@h/d?sslmode=prefer", path, &config, &err), 0);
    assert_string_equal(pg_config_value(config, "sslmode"), "verify-full");
    assert_string_equal(pg_config_value(config, "sslrootcert"), path);
    pg_config_free(config);
    unlink(path);
    assert_int_equal(make("postgres://u@h/d", path, &config, &err), ERR_INVALID);
    assert_non_null(strstr(err.message, path));
}

static void test_sqlstates_are_classified(void **state)
{
    (void)state;
    static const struct {
        const char *sqlstate;
        int code;
    } cases[] = {{"", ERR_DB},         {"08006", ERR_RETRY}, {"57P01", ERR_RETRY},
                 {"57P02", ERR_RETRY}, {"57P03", ERR_RETRY}, {"57P04", ERR_FATAL},
                 {"53300", ERR_RETRY}, {"53400", ERR_FATAL}, {"28P01", ERR_FATAL},
                 {"28000", ERR_FATAL}, {"3D000", ERR_FATAL}, {"42501", ERR_DB},
                 {"42P01", ERR_DB},    {"22012", ERR_DB},    {"40P01", ERR_RETRY},
                 {"55P03", ERR_RETRY}, {"57014", ERR_DB},    {"XX000", ERR_DB}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(pg_classify(cases[i].sqlstate), cases[i].code);
}

static void test_identifiers_are_quoted(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 100);
    pg_put_ident(&out, "a\"b\"\" c");
    pg_put_ident(&out, "");
    buf_putc(&out, '\0');
    assert_string_equal(out.ptr, "\"a\"\"b\"\"\"\" c\"\"\"");
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_urls_say_why_and_never_the_password),
        cmocka_unit_test(test_urls_are_decoded_and_completed),
        cmocka_unit_test(test_description_has_no_password),
        cmocka_unit_test(test_ca_file_demands_a_verified_server),
        cmocka_unit_test(test_sqlstates_are_classified),
        cmocka_unit_test(test_identifiers_are_quoted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
