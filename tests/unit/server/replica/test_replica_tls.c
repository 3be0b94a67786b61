/* Over TLS a readable socket and readable bytes are two things: nothing may lie in wait.
 */
#include "probe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "support/pgcluster.h"

static struct pgcluster *cluster(void **state)
{
    return *(struct pgcluster **)state;
}

/* A self-signed certificate in the data directory, owned by whom the server runs as. */
static void make_certificate(const struct pgcluster *c)
{
    char certificate[256];
    char key[256];
    struct stat owner;
    int status = 0;
    pid_t pid;

    snprintf(certificate, sizeof(certificate), "%s/server.crt", pgcluster_data(c));
    snprintf(key, sizeof(key), "%s/server.key", pgcluster_data(c));
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);

        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execlp("openssl", "openssl", "req", "-new", "-x509", "-days", "2", "-nodes",
               "-batch", "-subj", "/CN=localhost", "-newkey", "rsa:2048", "-out",
               certificate, "-keyout", key, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status != 0)
        fail_msg("openssl could not make a certificate: install openssl");
    assert_int_equal(stat(pgcluster_data(c), &owner), 0);
    assert_int_equal(chmod(key, 0600), 0);
    assert_int_equal(chown(key, owner.st_uid, owner.st_gid), 0);
}

static int start_cluster(void **state)
{
    struct pgcluster *c = pgcluster_new(NULL);

    probe_sql(pgcluster_url(c), "CREATE TABLE item (id int, body text)", NULL, 0);
    make_certificate(c);
    pgcluster_stop_fast(c);
    pgcluster_start(c, (const char *const[]){"ssl=on", NULL});
    *state = c;
    return 0;
}

static int stop_cluster(void **state)
{
    pgcluster_free(cluster(state));
    return 0;
}

static void frames_of_all_sizes_arrive_without_delay_over_tls(void **state)
{
    const char *plain = pgcluster_url(cluster(state));
    char url[256];
    struct probe p;

    probe_sql(plain, "CREATE PUBLICATION tls FOR TABLE item", NULL, 0);
    snprintf(url, sizeof(url),
             "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=require",
             pgcluster_port(cluster(state)));
    probe_init(&p, url, "tls");
    probe_start(&p);
    PROBE_WAIT(&p, p.state == REPLICA_STREAMING);
    assert_int_equal(probe_number(plain, "SELECT count(*) FROM pg_stat_ssl JOIN "
                                         "pg_stat_replication USING (pid) WHERE ssl"),
                     1);
    for (int i = 1; i <= 60; i++) {
        int64_t begun_ms = clock_mono_ms();
        char sql[256];

        /* Around the sizes of libpq's buffer and of a TLS record. */
        snprintf(sql, sizeof(sql),
                 "INSERT INTO item SELECT %d, string_agg(md5(n::text), '') FROM "
                 "generate_series(1, %d) n",
                 i, i * 37);
        probe_sql(plain, sql, NULL, 0);
        PROBE_WAIT(&p, p.committed == (size_t)i);
        assert_true(clock_mono_ms() - begun_ms < 2000);
    }
    probe_sql(plain,
              "INSERT INTO item SELECT n, repeat('x', n % 500) FROM "
              "generate_series(61, 10000) n",
              NULL, 0);
    PROBE_WAIT(&p, p.committed == 10000);
    assert_int_equal(probe_stop(&p), 0);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(p.ids[i], i + 1);
    assert_int_equal(p.lost_count, 1);
    probe_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_of_all_sizes_arrive_without_delay_over_tls),
    };

    return cmocka_run_group_tests(tests, start_cluster, stop_cluster);
}
