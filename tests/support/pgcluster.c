#include "support/pgcluster.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGS_MAX         64
#define INSTALL_DIR      "/usr/lib/postgresql"
#define START_TRIES      5
#define READY_TIMEOUT_MS 60000
#define STEP_MS          20

struct pgcluster {
    char bin[PATH_MAX / 2];
    char dir[64];
    char data[80];
    char log[80];
    char url[128];
    int port;
    int version;
    pid_t server; /* 0 when stopped */
    bool as_user; /* we are root: children become the user below */
    uid_t uid;
    gid_t gid;
};

static int remove_entry(const char *path, const struct stat *st, int type,
                        struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static _Noreturn void give_up(const struct pgcluster *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static _Noreturn void give_up(const struct pgcluster *c, const char *format, ...)
{
    va_list args;
    char line[512];
    FILE *log;

    fputs("pgcluster: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    log = c && c->log[0] ? fopen(c->log, "r") : NULL;
    while (log && fgets(line, sizeof(line), log))
        fprintf(stderr, "pgcluster: | %s", line);
    if (log)
        fclose(log);
    if (c && c->dir[0])
        nftw(c->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    exit(1);
}

/* The installed version with the highest number. */
static void find_programs(struct pgcluster *c)
{
    const char *chosen = getenv("COULOMB_TEST_PG_BIN");
    long best = 0;
    char program[PATH_MAX];

    if (chosen) {
        snprintf(c->bin, sizeof(c->bin), "%s", chosen);
    } else {
        DIR *dir = opendir(INSTALL_DIR);
        const struct dirent *entry;

        while (dir && (entry = readdir(dir)) != NULL) {
            long version = strtol(entry->d_name, NULL, 10);

            snprintf(program, sizeof(program), INSTALL_DIR "/%s/bin/initdb",
                     entry->d_name);
            if (version > best && access(program, X_OK) == 0)
                best = version;
        }
        if (dir)
            closedir(dir);
        snprintf(c->bin, sizeof(c->bin), INSTALL_DIR "/%ld/bin", best);
    }
    snprintf(program, sizeof(program), "%s/postgres", c->bin);
    if (access(program, X_OK) != 0)
        give_up(NULL,
                "no Postgres server programs in %s: install postgresql, or set "
                "COULOMB_TEST_PG_BIN",
                c->bin);
}

static void find_user(struct pgcluster *c)
{
    const struct passwd *user;

    c->as_user = geteuid() == 0;
    if (!c->as_user)
        return;
    user = getpwnam("postgres");
    if (!user)
        give_up(NULL,
                "running as root, and there is no user postgres to run the server as");
    c->uid = user->pw_uid;
    c->gid = user->pw_gid;
}

static _Noreturn void run_child(const struct pgcluster *c, char *const *args)
{
    int in = open("/dev/null", O_RDONLY);
    int out = open(c->log, O_WRONLY | O_APPEND | O_CREAT, 0666);

    if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        _exit(126);
    if (c->as_user &&
        (setgroups(0, NULL) != 0 || setgid(c->gid) != 0 || setuid(c->uid) != 0))
        _exit(126);
    if (chdir(c->dir) != 0)
        _exit(126);
    /* After setuid, which clears it. */
    prctl(PR_SET_PDEATHSIG, SIGQUIT);
    execv(args[0], args);
    _exit(127);
}

static pid_t spawn(const struct pgcluster *c, char *const *args)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid < 0)
        give_up(c, "fork: %s", strerror(errno));
    if (pid == 0)
        run_child(c, args);
    return pid;
}

static int wait_for(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static void run_initdb(struct pgcluster *c)
{
    char program[PATH_MAX];
    char *args[] = {program,
                    (char[]){"-D"},
                    c->data,
                    (char[]){"-U"},
                    (char[]){"postgres"},
                    (char[]){"-A"},
                    (char[]){"trust"},
                    (char[]){"-E"},
                    (char[]){"UTF8"},
                    (char[]){"--locale=C"},
                    (char[]){"--no-sync"},
                    NULL};

    snprintf(program, sizeof(program), "%s/initdb", c->bin);
    if (wait_for(spawn(c, args)) != 0)
        give_up(c, "initdb failed");
}

static void read_version(struct pgcluster *c)
{
    char path[PATH_MAX];
    char text[16] = "";
    FILE *file;

    snprintf(path, sizeof(path), "%s/PG_VERSION", c->data);
    file = fopen(path, "r");
    if (!file || !fgets(text, sizeof(text), file))
        give_up(c, "%s: cannot be read", path);
    fclose(file);
    c->version = (int)strtol(text, NULL, 10);
}

/* A port that nothing listens on now. */
static int free_port(const struct pgcluster *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        give_up(c, "no free port: %s", strerror(errno));
    close(fd);
    return ntohs(address.sin_port);
}

/* True once the server accepts sessions: postmaster.pid says "ready" on its eighth line.
 */
static bool is_ready(const struct pgcluster *c)
{
    char path[PATH_MAX];
    char line[256];
    bool ready = false;
    FILE *file;

    snprintf(path, sizeof(path), "%s/postmaster.pid", c->data);
    file = fopen(path, "r");
    if (!file)
        return false;
    for (int n = 1; fgets(line, sizeof(line), file); n++)
        ready = n == 8 && strncmp(line, "ready", 5) == 0;
    fclose(file);
    return ready;
}

static bool try_start(struct pgcluster *c, const char *const *settings)
{
    static const char *const always[] = {"wal_level=logical",
                                         "fsync=off",
                                         "shared_buffers=16MB",
                                         "max_connections=30",
                                         "max_wal_senders=8",
                                         "max_replication_slots=8",
                                         "autovacuum=off",
                                         "jit=off",
                                         "listen_addresses=127.0.0.1",
                                         "max_worker_processes=1",
                                         "bgwriter_delay=10s",
                                         "max_wal_size=256MB",
                                         "logging_collector=off",
                                         "log_line_prefix=%m ",
                                         NULL};
    char flag[] = "-c";
    char program[PATH_MAX];
    char port[32];
    char socket_dir[128];
    char *args[ARGS_MAX] = {program, (char[]){"-D"}, c->data};
    size_t n = 3;

    snprintf(program, sizeof(program), "%s/postgres", c->bin);
    snprintf(port, sizeof(port), "port=%d", c->port);
    snprintf(socket_dir, sizeof(socket_dir), "unix_socket_directories=%s", c->dir);
    args[n++] = flag;
    args[n++] = port;
    args[n++] = flag;
    args[n++] = socket_dir;
    for (int list = 0; list < 2; list++) {
        for (const char *const *s = list ? settings : always; s && *s; s++) {
            if (n + 3 > ARGS_MAX)
                give_up(c, "too many settings");
            args[n++] = flag;
            args[n++] = (char *)(uintptr_t)*s;
        }
    }
    args[n] = NULL;
    c->server = spawn(c, args);
    for (int waited = 0; waited < READY_TIMEOUT_MS; waited += STEP_MS) {
        if (waitpid(c->server, NULL, WNOHANG) == c->server) {
            c->server = 0;
            return false;
        }
        if (is_ready(c))
            return true;
        usleep(STEP_MS * 1000);
    }
    give_up(c, "the server did not get ready");
}

void pgcluster_start(struct pgcluster *c, const char *const *settings)
{
    if (!try_start(c, settings))
        give_up(c, "the server did not start");
}

struct pgcluster *pgcluster_new(const char *const *settings)
{
    struct pgcluster *c = calloc(1, sizeof(*c));
    bool started = false;

    if (!c)
        give_up(NULL, "out of memory");
    find_programs(c);
    find_user(c);
    snprintf(c->dir, sizeof(c->dir), "/tmp/coulomb-pg-XXXXXX");
    if (!mkdtemp(c->dir) || (c->as_user && chown(c->dir, c->uid, c->gid) != 0))
        give_up(NULL, "%s: %s", c->dir, strerror(errno));
    snprintf(c->data, sizeof(c->data), "%s/data", c->dir);
    snprintf(c->log, sizeof(c->log), "%s/log", c->dir);
    run_initdb(c);
    read_version(c);
    /* Another process may take the port first: then try the next. */
    for (int i = 0; i < START_TRIES && !started; i++) {
        c->port = free_port(c);
        started = try_start(c, settings);
    }
    if (!started)
        give_up(c, "the server did not start");
    snprintf(c->url, sizeof(c->url),
             "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=disable", c->port);
    return c;
}

static void stop(struct pgcluster *c, int signal_number)
{
    if (!c->server)
        return;
    kill(c->server, signal_number);
    wait_for(c->server);
    c->server = 0;
}

void pgcluster_stop_fast(struct pgcluster *c)
{
    stop(c, SIGINT);
}

void pgcluster_stop_immediate(struct pgcluster *c)
{
    stop(c, SIGQUIT);
}

void pgcluster_free(struct pgcluster *c)
{
    if (!c)
        return;
    pgcluster_stop_immediate(c);
    nftw(c->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(c);
}

const char *pgcluster_url(const struct pgcluster *c)
{
    return c->url;
}

int pgcluster_port(const struct pgcluster *c)
{
    return c->port;
}

const char *pgcluster_data(const struct pgcluster *c)
{
    return c->data;
}

int pgcluster_version(const struct pgcluster *c)
{
    return c->version;
}
