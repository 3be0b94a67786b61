/* The parts of `coulomb dev`: a real private cluster, its demo table, the page's files and
 * the page's writes. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <ftw.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cluster.h"
#include "cli/demo.h"
#include "cli/process.h"

static char root[] = "/tmp/coulomb-dev-test-XXXXXX";
static char dir[64];
static struct cluster *cluster;
static PGconn *conn;

static int remove_entry(const char *path, const struct stat *st, int type,
                        struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int open_cluster(struct cluster **out, struct err *err)
{
    struct cluster_options options = {.dir = dir};
    return cluster_open(&options, out, err);
}

static int set_up(void **state)
{
    (void)state;
    struct err err = {0};
    if (!mkdtemp(root) || chmod(root, 0755) != 0)
        return -1;
    snprintf(dir, sizeof(dir), "%s/deep/data", root);
    if (open_cluster(&cluster, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    PQfinish(conn);
    cluster_close(cluster);
    return nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* A new session in the demo's database. */
static void connect_demo(void)
{
    char *url = cluster_url(cluster, DEMO_DATABASE);
    PQfinish(conn);
    conn = PQconnectdb(url);
    free(url);
    assert_int_equal(PQstatus(conn), CONNECTION_OK);
}

static void create_demo(void)
{
    struct err err = {0};
    char *maintenance = cluster_url(cluster, "postgres");
    char *url = cluster_url(cluster, DEMO_DATABASE);
    if (demo_create(maintenance, url, &err) != 0)
        fail_msg("%s", err.message);
    free(maintenance);
    free(url);
    connect_demo();
}

static void assert_query(const char *sql, const char *expected)
{
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    assert_string_equal(PQgetvalue(result, 0, 0), expected);
    PQclear(result);
}

static void the_cluster_is_new_and_fit_for_replication(void **state)
{
    (void)state;
    assert_true(cluster_is_new(cluster));
    assert_int_equal(cluster_left_pid(cluster), 0);
    create_demo();
    assert_query("SHOW wal_level", "logical");
    assert_query("SHOW fsync", "on");
    assert_query("SHOW listen_addresses", "127.0.0.1");
    assert_query("SELECT count(*) >= 5 FROM todos", "t");
}

static void its_files_are_for_its_user_only(void **state)
{
    (void)state;
    struct stat st;
    char path[128];
    snprintf(path, sizeof(path), "%s/password", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
}

static void nobody_gets_in_without_the_password(void **state)
{
    (void)state;
    char url[128];
    snprintf(url, sizeof(url), "postgresql://postgres:wrong@127.0.0.1:%u/postgres",
             cluster_port(cluster));
    PGconn *other = PQconnectdb(url);
    assert_int_equal(PQstatus(other), CONNECTION_BAD);
    PQfinish(other);
}

static void a_folder_in_use_is_refused(void **state)
{
    (void)state;
    struct cluster *second;
    struct err err = {0};
    assert_int_equal(open_cluster(&second, &err), ERR_EXISTS);
    assert_null(second);
    assert_non_null(strstr(err.message, "another coulomb dev"));
    assert_non_null(strstr(err.message, "--data-dir"));
}

static void rows_stay_between_runs(void **state)
{
    (void)state;
    struct err err = {0};
    create_demo();
    PQclear(PQexec(conn, "DELETE FROM todos WHERE id > 1"));
    PQfinish(conn);
    conn = NULL;
    cluster_close(cluster);
    cluster = NULL;
    assert_int_equal(open_cluster(&cluster, &err), 0);
    assert_false(cluster_is_new(cluster));
    assert_int_equal(cluster_left_pid(cluster), 0);
    create_demo();
    assert_query("SELECT count(*) FROM todos", "1");
}

/* Postgres ends with the program that started it, and one that did not is stopped. */
static void a_program_that_is_killed_leaves_a_folder_that_opens(void **state)
{
    (void)state;
    struct err err = {0};
    PQfinish(conn);
    conn = NULL;
    cluster_close(cluster);
    cluster = NULL;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        struct cluster *theirs;
        char answer = open_cluster(&theirs, &err) == 0 ? 'y' : 'n';
        if (write(fds[1], &answer, 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    char answer = 0;
    assert_int_equal(read(fds[0], &answer, 1), 1);
    assert_int_equal(answer, 'y');
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(fds[0]);
    close(fds[1]);
    if (open_cluster(&cluster, &err) != 0)
        fail_msg("%s", err.message);
    connect_demo();
    assert_query("SELECT 1", "1");
}

/* A Postgres that runs in the folder without anyone who holds its lock. */
static void a_postgres_left_behind_is_stopped_first(void **state)
{
    (void)state;
    struct err err = {0};
    char bin[256];
    char program[300];
    char data[96];
    char log[96];
    char sockets[128];
    struct stat st;
    PQfinish(conn);
    conn = NULL;
    cluster_close(cluster);
    cluster = NULL;
    assert_int_equal(cluster_find_programs(bin, sizeof(bin), &err), 0);
    snprintf(program, sizeof(program), "%s/postgres", bin);
    snprintf(data, sizeof(data), "%s/data", dir);
    snprintf(sockets, sizeof(sockets), "unix_socket_directories=%s", dir);
    snprintf(log, sizeof(log), "%s/postgres.log", dir);
    assert_int_equal(stat(data, &st), 0);
    const char *args[] = {program, "-D",    data, "-c",         "listen_addresses=",
                          "-c",    sockets, "-c", "port=54999", NULL};
    struct process_options options = {.args = args,
                                      .dir = dir,
                                      .log_path = log,
                                      .as_user = geteuid() == 0,
                                      .uid = st.st_uid,
                                      .gid = st.st_gid};
    pid_t orphan;
    char pid_file[128];
    snprintf(pid_file, sizeof(pid_file), "%s/postmaster.pid", data);
    assert_int_equal(process_start(&options, &orphan, &err), 0);
    for (int i = 0; i < 500 && access(pid_file, F_OK) != 0; i++)
        usleep(10000);
    usleep(300000);
    if (open_cluster(&cluster, &err) != 0)
        fail_msg("%s", err.message);
    assert_int_equal(cluster_left_pid(cluster), orphan);
    assert_int_equal(process_wait(orphan, 1000, "orphan", &err), 0);
    connect_demo();
    assert_query("SELECT 1", "1");
}

static void a_default_folder_is_found_or_asked_for(void **state)
{
    (void)state;
    char out[64];
    struct err err = {0};
    assert_int_equal(cluster_default_dir(true, "/root", NULL, out, sizeof(out), &err), 0);
    assert_string_equal(out, "/var/lib/coulomb-dev");
    assert_int_equal(cluster_default_dir(false, "/home/a", NULL, out, sizeof(out), &err),
                     0);
    assert_string_equal(out, "/home/a/.local/share/coulomb-dev");
    assert_int_equal(cluster_default_dir(false, "/home/a", "/x", out, sizeof(out), &err),
                     0);
    assert_string_equal(out, "/x/coulomb-dev");
    assert_int_equal(cluster_default_dir(false, NULL, NULL, out, sizeof(out), &err),
                     ERR_INVALID);
    assert_non_null(strstr(err.message, "--data-dir"));
    assert_int_equal(cluster_default_dir(false, "/home/a", NULL, out, 8, &err),
                     ERR_LIMIT);
}

/* --- The page --- */

static int page_status(const char *path, const char **content_type, size_t *len)
{
    struct demo demo = {.page_dir = "web/demo"};
    struct http_extra_response response = {0};
    buf_init(&response.body, 1 << 24);
    demo_page_get(&demo, path, &response);
    *content_type = response.content_type;
    *len = response.body.len;
    buf_fini(&response.body);
    return response.status;
}

static void the_page_s_files_have_their_types(void **state)
{
    (void)state;
    const char *type;
    size_t len;
    assert_int_equal(page_status("/demo", &type, &len), 200);
    assert_string_equal(type, "text/html; charset=utf-8");
    assert_true(len > 100);
    assert_int_equal(page_status("/demo/demo.css", &type, &len), 200);
    assert_string_equal(type, "text/css; charset=utf-8");
    assert_int_equal(page_status("/demo/demo.js", &type, &len), 200);
    assert_string_equal(type, "text/javascript; charset=utf-8");
}

static void nothing_but_the_page_s_files_is_served(void **state)
{
    (void)state;
    static const char *const paths[] = {"/demo/package.json",    "/demo/.npmrc",
                                        "/demo/../../README.md", "/demo/demo.js/",
                                        "/demo/./demo.js",       "/demo//demo.js",
                                        "/demo/node_modules/",   "/demo/api/todos"};
    const char *type;
    size_t len;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        if (page_status(paths[i], &type, &len) != 404)
            fail_msg("%s is served", paths[i]);
}

/* --- Its writes --- */

struct call {
    const char *method;
    const char *path;
    const char *body;
    const char *content_type;
    const char *origin;
    const char *host;
};

static int call_api(const struct call *c, PGconn *on, char *text, size_t room)
{
    struct http_extra_request request = {.method = c->method,
                                         .path = c->path,
                                         .body = slice_of(c->body),
                                         .content_type = slice_of(c->content_type),
                                         .origin = slice_of(c->origin),
                                         .host = slice_of(c->host)};
    struct http_extra_response response = {0};
    buf_init(&response.body, 65536);
    demo_api_call(on, &request, &response);
    assert_string_equal(response.content_type, "application/json");
    snprintf(text, room, "%.*s", (int)response.body.len, response.body.ptr);
    buf_fini(&response.body);
    return response.status;
}

static void assert_api(const char *method, const char *path, const char *body, int status,
                       const char *says)
{
    struct call c = {method, path, body, "application/json", NULL, "127.0.0.1:3000"};
    char text[2048];
    int got = call_api(&c, conn, text, sizeof(text));
    if (got != status || !strstr(text, says))
        fail_msg("%s %s %s: %d %s", method, path, body, got, text);
}

static void writes_arrive_and_tell_their_transaction(void **state)
{
    (void)state;
    create_demo();
    PQclear(PQexec(conn, "TRUNCATE todos RESTART IDENTITY"));
    assert_api("POST", "/demo/api/todos", "{\"text\":\"  \\u00e4 'quoted'; --  \"}", 200,
               "{\"success\":true,\"txid\":");
    assert_query("SELECT text || done FROM todos WHERE id = 1", "ä 'quoted'; --false");
    assert_query("SELECT (SELECT xmin::text FROM todos) <> '0'", "t");
    assert_api("PUT", "/demo/api/todos/1", "{\"done\":true}", 200, "\"txid\":");
    assert_query("SELECT text || done FROM todos WHERE id = 1", "ä 'quoted'; --true");
    assert_api("PUT", "/demo/api/todos/1", "{\"text\":\"b\",\"done\":false}", 200,
               "\"txid\":");
    assert_query("SELECT text || done FROM todos WHERE id = 1", "bfalse");
    assert_api("DELETE", "/demo/api/todos/1", "", 200, "\"txid\":");
    assert_query("SELECT count(*) FROM todos", "0");
    assert_api("DELETE", "/demo/api/todos/1", "", 404, "no todo 1");
}

static void writes_that_make_no_sense_are_refused_with_a_reason(void **state)
{
    (void)state;
    create_demo();
    assert_api("POST", "/demo/api/todos", "", 400, "JSON");
    assert_api("POST", "/demo/api/todos", "[]", 400, "JSON object");
    assert_api("POST", "/demo/api/todos", "{\"text\":\"a\"", 400, "well-formed");
    assert_api("POST", "/demo/api/todos", "{\"text\":\"a\"} x", 400, "well-formed");
    assert_api("POST", "/demo/api/todos", "{}", 400, "needs a");
    assert_api("POST", "/demo/api/todos", "{\"text\":\"  \"}", 400, "1 to 500");
    assert_api("POST", "/demo/api/todos", "{\"text\":5}", 400, "must be a string");
    assert_api("POST", "/demo/api/todos", "{\"text\":\"a\\u0000b\"}", 400, "U+0000");
    assert_api("POST", "/demo/api/todos", "{\"text\":\"a\",\"id\":1}", 400, "only");
    assert_api("PUT", "/demo/api/todos/1", "{}", 400, "neither");
    assert_api("PUT", "/demo/api/todos/1", "{\"done\":\"yes\"}", 400, "true or false");
    assert_api("PUT", "/demo/api/todos/x", "{\"done\":true}", 404, "PUT");
    assert_api("PUT", "/demo/api/todos/99999999999999999999", "{\"done\":true}", 404,
               "PUT");
    assert_api("DELETE", "/demo/api/todos", "", 404, "DELETE");
}

static void only_the_demo_s_own_page_may_write(void **state)
{
    (void)state;
    static const struct allowed {
        const char *content_type;
        const char *origin;
        const char *host;
        bool yes;
    } cases[] = {
        {"application/json", NULL, "127.0.0.1:3000", true},
        {"application/json; charset=utf-8", "http://localhost:3000", "localhost:3000",
         true},
        {"application/json", "http://[::1]:3000", "[::1]:3000", true},
        {"text/plain", NULL, "127.0.0.1:3000", false},
        {NULL, NULL, "127.0.0.1:3000", false},
        {"application/x-www-form-urlencoded", "http://127.0.0.1:3000", "127.0.0.1:3000",
         false},
        {"application/json", "http://evil.example", "127.0.0.1:3000", false},
        {"application/json", "http://127.0.0.1:3001", "127.0.0.1:3000", false},
        {"application/json", "null", "127.0.0.1:3000", false},
        {"application/json", "https://127.0.0.1:3000", "127.0.0.1:3000", false},
        {"application/json", "http://evil.example:3000", "evil.example:3000", false},
        {"application/json", NULL, "127.0.0.1.evil.example", false},
        {"application/json", NULL, NULL, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *why = NULL;
        struct http_extra_request request = {.method = "POST",
                                             .path = "/demo/api/todos",
                                             .content_type =
                                                 slice_of(cases[i].content_type),
                                             .origin = slice_of(cases[i].origin),
                                             .host = slice_of(cases[i].host)};
        if (demo_api_allowed(&request, &why) != cases[i].yes)
            fail_msg("case %zu", i);
    }
}

static void without_a_database_a_write_says_so(void **state)
{
    (void)state;
    struct call c = {"POST", "/demo/api/todos", "{\"text\":\"a\"}", "application/json",
                     NULL,   "localhost:3000"};
    char text[512];
    assert_int_equal(call_api(&c, NULL, text, sizeof(text)), 503);
    assert_non_null(strstr(text, "can't be reached"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cluster_is_new_and_fit_for_replication),
        cmocka_unit_test(its_files_are_for_its_user_only),
        cmocka_unit_test(nobody_gets_in_without_the_password),
        cmocka_unit_test(a_folder_in_use_is_refused),
        cmocka_unit_test(rows_stay_between_runs),
        cmocka_unit_test(a_program_that_is_killed_leaves_a_folder_that_opens),
        cmocka_unit_test(a_postgres_left_behind_is_stopped_first),
        cmocka_unit_test(a_default_folder_is_found_or_asked_for),
        cmocka_unit_test(the_page_s_files_have_their_types),
        cmocka_unit_test(nothing_but_the_page_s_files_is_served),
        cmocka_unit_test(writes_arrive_and_tell_their_transaction),
        cmocka_unit_test(writes_that_make_no_sense_are_refused_with_a_reason),
        cmocka_unit_test(only_the_demo_s_own_page_may_write),
        cmocka_unit_test(without_a_database_a_write_says_so),
    };
    return cmocka_run_group_tests_name("cli dev", tests, set_up, tear_down);
}
