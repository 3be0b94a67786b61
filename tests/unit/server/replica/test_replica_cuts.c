/* The connection cut at many places of the stream: nothing is lost, skipped or
 * acknowledged early. Between replica and Postgres stands a proxy that closes both sides
 * after so many bytes from the server; each connection gets further than the one before.
 */
#include "probe.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "support/pgcluster.h"

#define CUT_STEP_BYTES 977
#define LAST_ID        3000

struct proxy {
    pthread_t thread;
    int listener;
    int port;
    int target_port;
    unsigned cuts;
    atomic_bool stop;
    atomic_bool transparent; /* cut no more */
};

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port)};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* Passes on what from has; the number of bytes, or 0 when either side is done. */
static size_t pass_on(int from, int to, size_t most)
{
    char bytes[4096];
    ssize_t n = recv(from, bytes, most < sizeof(bytes) ? most : sizeof(bytes), 0);

    if (n <= 0 || send(to, bytes, (size_t)n, MSG_NOSIGNAL) != n)
        return 0;
    return (size_t)n;
}

static void forward(struct proxy *x, int client, int server)
{
    size_t left = ++x->cuts * CUT_STEP_BYTES;

    while (!x->stop && left > 0) {
        struct pollfd fds[2] = {{.fd = client, .events = POLLIN},
                                {.fd = server, .events = POLLIN}};
        size_t n;

        poll(fds, 2, 50);
        if (fds[0].revents && pass_on(client, server, SIZE_MAX) == 0)
            return;
        if (!fds[1].revents)
            continue;
        n = pass_on(server, client, x->transparent ? SIZE_MAX : left);
        if (n == 0)
            return;
        left -= x->transparent ? 0 : n;
    }
}

static void *run_proxy(void *arg)
{
    struct proxy *x = arg;
    const struct sockaddr_in target = loopback(x->target_port);

    while (!x->stop) {
        struct pollfd fd = {.fd = x->listener, .events = POLLIN};
        int client;
        int server;

        if (poll(&fd, 1, 50) <= 0)
            continue;
        client = accept(x->listener, NULL, NULL);
        server = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(server, (const struct sockaddr *)&target, sizeof(target)) == 0)
            forward(x, client, server);
        close(client);
        close(server);
    }
    return NULL;
}

static void start_proxy(struct proxy *x, int target_port)
{
    struct sockaddr_in address = loopback(0);
    socklen_t len = sizeof(address);

    memset(x, 0, sizeof(*x));
    x->target_port = target_port;
    x->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(x->listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(x->listener, (struct sockaddr *)&address, &len), 0);
    assert_int_equal(listen(x->listener, 8), 0);
    x->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&x->thread, NULL, run_proxy, x), 0);
}

static void stop_proxy(struct proxy *x)
{
    x->stop = true;
    pthread_join(x->thread, NULL);
    close(x->listener);
}

static void a_connection_cut_anywhere_loses_and_skips_nothing(void **state)
{
    struct pgcluster *c = pgcluster_new(NULL);
    struct proxy proxy;
    struct probe p;
    char url[256];

    (void)state;
    probe_sql(pgcluster_url(c), "CREATE TABLE item (id int, body text)", NULL, 0);
    probe_sql(pgcluster_url(c), "CREATE PUBLICATION cuts FOR TABLE item", NULL, 0);
    probe_sql(pgcluster_url(c),
              "SELECT pg_create_logical_replication_slot('cuts', 'pgoutput')", NULL, 0);
    /* Transactions of 1 to 60 rows. */
    for (int id = 1, n = 1; id <= LAST_ID; id += n, n = n % 60 + 1) {
        char sql[256];
        int to = id + n - 1 < LAST_ID ? id + n - 1 : LAST_ID;

        snprintf(sql, sizeof(sql),
                 "INSERT INTO item SELECT n, repeat('x', n %% 90) FROM "
                 "generate_series(%d, %d) "
                 "n",
                 id, to);
        probe_sql(pgcluster_url(c), sql, NULL, 0);
    }
    start_proxy(&proxy, pgcluster_port(c));
    snprintf(url, sizeof(url),
             "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=disable", proxy.port);
    probe_init(&p, url, "cuts");
    p.report_soon = true;
    probe_start(&p);
    /* Attaching alone takes some of the first cuts; give the rest 30 s. */
    PROBE_WAIT(&p, p.lost_count >= 20 || p.committed == LAST_ID);
    assert_true(p.lost_count >= 5);
    proxy.transparent = true;
    PROBE_WAIT(&p, p.committed == LAST_ID);
    assert_false(p.attached.slot_created);
    assert_int_equal(probe_stop(&p), 0);
    for (int i = 0; i < LAST_ID; i++)
        assert_int_equal(p.ids[i], i + 1);
    probe_fini(&p);
    stop_proxy(&proxy);
    pgcluster_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_cut_anywhere_loses_and_skips_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
