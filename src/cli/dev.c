/* `coulomb dev`: a private Postgres, the demo, the server, in one process.
 *
 * Looks at flags only: a DATABASE_URL or secret in the environment belongs to something
 * else. Listens on 127.0.0.1 without a secret. The order of the end is that of the start
 * reversed: the server lets go of Postgres before Postgres is stopped. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/cluster.h"
#include "cli/config.h"
#include "cli/demo.h"
#include "cli/fetch.h"
#include "cli/run.h"

#define FIRST_PORT    3000
#define PORT_TRIES    100
#define READY_MS      60000
#define WATCH_STEP_MS 50

struct dev {
    struct settings settings;
    const char *data_dir; /* NULL: the default */
    const char *page_dir;
    struct log log;
    char dir[PATH_MAX];
    char page[PATH_MAX];
    char shapes[PATH_MAX + 16];
    struct demo demo;
    struct http_extra extra;
    struct server_config config;
    struct cluster *cluster;
    char *url;
    char *psql;
    char secret[33]; /* "" unless the gatekeeper is on */
    uint16_t port;
    bool watching;
    pthread_t watcher;
    atomic_bool over; /* the server has stopped */
    atomic_bool postgres_ended;
};

/* --- Arguments --- */

static bool takes_text(const char *arg, const char *name, char **args, int count, int *at,
                       const char **out)
{
    size_t len = strlen(name);
    if (strncmp(arg, name, len) != 0 || (arg[len] != '\0' && arg[len] != '='))
        return false;
    (*at)++;
    if (arg[len] == '=')
        *out = arg + len + 1;
    else
        *out = *at < count ? args[(*at)++] : "";
    return true;
}

/* What dev decides itself. */
static int check_own(const struct settings *s, struct err *err)
{
    static const enum setting_id own[] = {
        SETTING_DATABASE_URL,     SETTING_POOLED_DATABASE_URL,
        SETTING_DATABASE_CA_FILE, SETTING_STORAGE_DIR,
        SETTING_SECRET,           SETTING_LISTEN,
        SETTING_LISTEN_ON_IPV6};
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (s->values[own[i]].source != SETTING_DEFAULT)
            return err_set(
                err, ERR_INVALID,
                "%s: `coulomb dev` decides this itself; use `coulomb serve` for "
                "a database of yours",
                s->values[own[i]].name);
    return 0;
}

static int read_args(struct dev *d, int count, char **args, struct err *err)
{
    settings_init(&d->settings);
    for (int at = 0; at < count;) {
        const char *arg = args[at];
        if (takes_text(arg, "--data-dir", args, count, &at, &d->data_dir) ||
            takes_text(arg, "--page-dir", args, count, &at, &d->page_dir))
            continue;
        int rc = settings_read_flag(&d->settings, args, count, &at, err);
        if (rc == ERR_NOT_FOUND)
            return err_set(
                err, ERR_INVALID,
                "%.80s: `coulomb dev` takes flags only; `coulomb help dev` lists "
                "them",
                arg);
        if (rc < 0)
            return rc;
    }
    if ((d->data_dir && !*d->data_dir) || (d->page_dir && !*d->page_dir))
        return err_set(err, ERR_INVALID, "--data-dir and --page-dir need a folder");
    return check_own(&d->settings, err);
}

/* Absolute, since Postgres is started from within it. */
static int find_dir(struct dev *d, struct err *err)
{
    char here[PATH_MAX];
    if (!d->data_dir)
        return cluster_default_dir(geteuid() == 0, getenv("HOME"),
                                   getenv("XDG_DATA_HOME"), d->dir, sizeof(d->dir), err);
    if (!getcwd(here, sizeof(here)))
        return err_errno(err, ERR_IO, errno, "the current folder is not known");
    bool absolute = d->data_dir[0] == '/';
    int len = snprintf(d->dir, sizeof(d->dir), "%s%s%s", absolute ? "" : here,
                       absolute ? "" : "/", d->data_dir);
    if (len < 0 || (size_t)len >= sizeof(d->dir))
        return err_set(err, ERR_INVALID, "--data-dir: the path is too long");
    while (len > 1 && d->dir[len - 1] == '/')
        d->dir[--len] = '\0';
    return 0;
}

/* --- The port --- */

static bool port_is_free(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port)};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
              bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
              listen(fd, 1) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* A port that was asked for is taken or refused; 3000 gives way to the next free one. */
static uint16_t choose_port(const struct settings *s)
{
    if (s->values[SETTING_PORT].source != SETTING_DEFAULT)
        return (uint16_t)s->values[SETTING_PORT].v.number;
    for (unsigned port = FIRST_PORT; port < FIRST_PORT + PORT_TRIES; port++)
        if (port_is_free(port))
            return (uint16_t)port;
    return 0;
}

/* --- Telling --- */

static void tell_done(const struct dev *d)
{
    unsigned left = cluster_left_pid(d->cluster);
    if (left)
        printf("Stopped a Postgres that an earlier run had left behind (process %u).\n",
               left);
    printf("%s a Postgres cluster in %s\n", cluster_is_new(d->cluster) ? "Made" : "Found",
           d->dir);
    printf("  and started it on 127.0.0.1:%u; its log is %s\n", cluster_port(d->cluster),
           cluster_log_path(d->cluster));
    printf("%s the database \"" DEMO_DATABASE "\" with the table todos.\n",
           cluster_is_new(d->cluster) ? "Made" : "Kept");
    if (d->secret[0])
        printf("Serving its shapes on http://127.0.0.1:%u, through the gatekeeper; "
               "/v1/shape and the\n  page, which reads it, need ?secret=%s\n",
               d->port, d->secret);
    else
        printf("Serving its shapes on http://127.0.0.1:%u (loopback only, no secret).\n",
               d->port);
    if (!demo_has_client(d->page))
        printf("\nThe demo page needs its npm package, which is not installed:\n"
               "  (cd %s && npm ci)\n",
               d->page);
    fflush(stdout);
}

static void tell_what_to_try(const struct dev *d)
{
    const char *secret = d->secret[0] ? "secret=" : "";
    printf(
        "\nThree things to try:\n"
        "\n"
        "  1. Open this page in two tabs, and change the list in one of them:\n"
        "\n"
        "       http://127.0.0.1:%u" DEMO_PATH "%s%s%s\n"
        "\n"
        "  2. Change a row in Postgres while you watch them:\n"
        "\n"
        "       %s -c \"UPDATE todos SET done = NOT done WHERE id = 1\"\n"
        "\n"
        "  3. Read the shape that the page follows (in the browser, or with curl -i):\n"
        "\n"
        "       http://127.0.0.1:%u/v1/shape?table=todos&offset=-1%s%s%s\n"
        "\n"
        "Ctrl-C stops the server and its Postgres. The data stay.\n\n",
        d->port, d->secret[0] ? "?" : "", secret, d->secret, d->psql, d->port,
        d->secret[0] ? "&" : "", secret, d->secret);
    fflush(stdout);
}

static bool is_active(const char *url)
{
    struct buf body;
    int status = 0;
    buf_init(&body, 4096);
    int rc = fetch_get(url, "/v1/health", 1000, &status, &body, NULL);
    buf_fini(&body);
    return rc == 0 && status == 200;
}

/* What can be tried is told when it works. */
static void announce(const struct dev *d)
{
    char url[64];
    char page[96];
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", d->port);
    snprintf(page, sizeof(page), "%s" DEMO_PATH, url);
    int64_t deadline_ms = clock_mono_ms() + READY_MS;
    while (!is_active(url)) {
        if (atomic_load(&d->over))
            return;
        if (clock_mono_ms() > deadline_ms) {
            log_event(&d->log, LOG_WARNING, "dev.not_ready",
                      LOG_TEXT("reason", "the server is not active after a minute"));
            return;
        }
        clock_sleep_ms(WATCH_STEP_MS);
    }
    tell_what_to_try(d);
    log_event(&d->log, LOG_INFO, "dev.ready", LOG_TEXT("url", page));
}

/* Beside the server: without its Postgres there is nothing to serve. */
static void *watch(void *arg)
{
    struct dev *d = arg;
    announce(d);
    while (!atomic_load(&d->over)) {
        if (cluster_ended(d->cluster)) {
            atomic_store(&d->postgres_ended, true);
            kill(getpid(), SIGTERM);
            return NULL;
        }
        clock_sleep_ms(WATCH_STEP_MS);
    }
    return NULL;
}

static void on_started(void *ctx, uint16_t port)
{
    struct dev *d = ctx;
    d->port = port;
    tell_done(d);
    d->watching = pthread_create(&d->watcher, NULL, watch, d) == 0;
}

/* --- The run --- */

static int set(struct settings *s, const char *flag, const char *value, struct err *err)
{
    char name[64];
    snprintf(name, sizeof(name), "%s", flag);
    char *copy;
    memcpy(&copy, &value, sizeof(copy));
    char *const args[] = {name, copy};
    int at = 0;
    return settings_read_flag(s, args, 2, &at, err);
}

static bool has_gatekeeper(const struct settings *s)
{
    return s->values[SETTING_AUTH_SECRET].text || s->values[SETTING_AUTH_KEY_FILE].text ||
           s->values[SETTING_AUTH_JWKS_URL].text;
}

/* Open to everyone on this machine; with the gatekeeper on, which is then tried, by a secret of
 * this run's own. */
static int choose_secret(struct dev *d, struct err *err)
{
    uint64_t random[2];
    if (!has_gatekeeper(&d->settings))
        return set(&d->settings, "--insecure", "true", err);
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return err_set(err, ERR_IO, "no random bytes for a secret");
    snprintf(d->secret, sizeof(d->secret), "%016" PRIx64 "%016" PRIx64, random[0],
             random[1]);
    return set(&d->settings, "--secret", d->secret, err);
}

static int configure(struct dev *d, struct err *err)
{
    struct settings *s = &d->settings;
    snprintf(d->shapes, sizeof(d->shapes), "%s/shapes", d->dir);
    int rc = set(s, "--database-url", d->url, err);
    rc = rc ? rc : set(s, "--storage-dir", d->shapes, err);
    rc = rc ? rc : choose_secret(d, err);
    rc = rc ? rc : set(s, "--listen", "127.0.0.1", err);
    rc = rc ? rc : config_build(s, &d->config, err);
    if (rc)
        return rc;
    d->demo = (struct demo){d->page, &d->log};
    d->extra = demo_routes(&d->demo);
    d->config.port = choose_port(s);
    d->config.log = &d->log;
    d->config.extra = &d->extra;
    return 0;
}

static int open_database(struct dev *d, struct err *err)
{
    struct cluster_options options = {.dir = d->dir, .log = &d->log};
    printf("Starting Postgres ...\n");
    fflush(stdout);
    int rc = cluster_open(&options, &d->cluster, err);
    if (rc)
        return rc;
    char *maintenance = cluster_url(d->cluster, "postgres");
    d->url = cluster_url(d->cluster, DEMO_DATABASE);
    d->psql = cluster_psql(d->cluster, DEMO_DATABASE);
    if (!maintenance || !d->url || !d->psql)
        rc = err_set(err, ERR_MEMORY, "no memory for the database's address");
    rc = rc ? rc : demo_create(maintenance, d->url, err);
    free(maintenance);
    return rc;
}

static int run(struct dev *d, struct err *err)
{
    int rc = open_database(d, err);
    rc = rc ? rc : configure(d, err);
    struct run run = {.config = &d->config, .started = on_started, .ctx = d};
    rc = rc ? rc : run_server(&run, err);
    atomic_store(&d->over, true);
    if (d->watching)
        pthread_join(d->watcher, NULL);
    if (rc == 0 && atomic_load(&d->postgres_ended))
        rc = err_set(err, ERR_IO, "Postgres has ended by itself; its log %s says why",
                     cluster_log_path(d->cluster));
    cluster_close(d->cluster);
    free(d->url);
    free(d->psql);
    return rc;
}

int cli_dev(int count, char **args, char **env)
{
    (void)env;
    if (cli_wants_help(count, args))
        return cli_print_help("dev");
    struct err err = {0};
    struct dev *d = calloc(1, sizeof(*d));
    if (!d)
        return cli_fail(CLI_FAIL, &(struct err){.message = "no memory"});
    int rc = read_args(d, count, args, &err);
    rc = rc ? rc : find_dir(d, &err);
    rc = rc ? rc : demo_find_page(d->page_dir, d->page, sizeof(d->page), &err);
    int code = rc ? CLI_USAGE : CLI_OK;
    if (rc == 0) {
        d->log =
            (struct log){STDERR_FILENO, d->settings.values[SETTING_LOG_LEVEL].v.level};
        run_prepare(&d->log);
        rc = run(d, &err);
        code = rc == 0 ? CLI_OK : CLI_FAIL;
    }
    free(d);
    return rc ? cli_fail(code, &err) : code;
}
