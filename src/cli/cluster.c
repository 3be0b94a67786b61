/* The private cluster.
 *
 *   DIR/            0700 (as root: owned by the user postgres, who must enter it)
 *       lock        held by the program that uses the folder
 *       password    of the superuser, 0600
 *       data/       the cluster
 *       postgres.log
 *       .s.PGSQL.*  the socket
 *
 * Problem: Postgres refuses to run as root, survives a parent that is killed, and its
 * pid file survives a machine that is. Approach: children become the user postgres; the
 * kernel tells Postgres to shut down when the thread that started it ends; a lock says
 * whether the folder is in use, so a Postgres found running in an unlocked folder is an
 * orphan and can be stopped. A pid file whose process is another program is stale;
 * Postgres itself removes it. Rejected: pg_ctl, which starts a daemon that nobody owns;
 * the authentication method trust, which would make every user of the machine and every
 * program a superuser, able to run commands as the owner. */
#include "cli/cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "cli/process.h"

#define DIR_MAX         (PATH_MAX - 64)
#define PASSWORD_BYTES  16
#define FIRST_PORT      54320
#define PORT_TRIES      200
#define START_TRIES     5
#define READY_MS        60000
#define STEP_MS         20
#define FAST_STOP_MS    8000
#define HARD_STOP_MS    5000
#define SOCKET_PATH_MAX 90
#define PID_LINES       8
#define REMOVE_FDS      16

struct cluster {
    const struct log *log;
    char dir[DIR_MAX];
    char bin[PATH_MAX];
    char data[PATH_MAX];
    char log_path[PATH_MAX];
    char password[2 * PASSWORD_BYTES + 1];
    int lock; /* -1: none */
    bool as_user;
    uid_t uid;
    gid_t gid;
    unsigned port;
    pid_t server; /* 0: not running */
    bool is_new;
    unsigned left_pid;
};

/* --- The folder --- */

static int find_user(struct cluster *c, struct err *err)
{
    c->as_user = geteuid() == 0;
    if (!c->as_user)
        return 0;
    /* Before any other thread. */
    const struct passwd *user = getpwnam("postgres"); // cppcheck-suppress getpwnamCalled
    if (!user)
        return err_set(
            err, ERR_NOT_FOUND,
            "Postgres does not run as root, and there is no user \"postgres\" to "
            "run it as. Install Postgres, make that user, or run as a plain user");
    c->uid = user->pw_uid;
    c->gid = user->pw_gid;
    return 0;
}

/* mkdir -p; the parents get mode 0755. */
static int make_dirs(const char *path, struct err *err)
{
    char partial[PATH_MAX];
    for (const char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        size_t len = slash ? (size_t)(slash - path) : strlen(path);
        snprintf(partial, sizeof(partial), "%.*s", (int)len, path);
        if (mkdir(partial, slash ? 0755 : 0700) != 0 && errno != EEXIST)
            return err_errno(err, ERR_IO, errno, "the folder %s can't be made", partial);
        if (!slash)
            return 0;
    }
}

/* The other user can't reach what lies in a closed folder such as /root. */
static int check_reachable(const struct cluster *c, struct err *err)
{
    char partial[PATH_MAX];
    struct stat st;
    for (const char *slash = strchr(c->dir + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        snprintf(partial, sizeof(partial), "%.*s", (int)(slash - c->dir), c->dir);
        if (stat(partial, &st) != 0)
            return err_errno(err, ERR_IO, errno, "%s can't be looked at", partial);
        bool own = st.st_uid == c->uid && (st.st_mode & S_IXUSR);
        bool group = st.st_gid == c->gid && (st.st_mode & S_IXGRP);
        if (!own && !group && !(st.st_mode & S_IXOTH))
            return err_set(
                err, ERR_INVALID,
                "as root Postgres runs as the user postgres, who can't enter %s. "
                "Use --data-dir with a folder elsewhere, such as "
                "/var/lib/coulomb-dev",
                partial);
    }
    return 0;
}

static int make_folder(struct cluster *c, struct err *err)
{
    struct stat st;
    bool there = stat(c->dir, &st) == 0;
    if (there && !S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "%s is not a folder", c->dir);
    int rc = there ? 0 : make_dirs(c->dir, err);
    if (rc == 0 && c->as_user)
        rc = check_reachable(c, err);
    if (rc == 0 && c->as_user && chown(c->dir, c->uid, c->gid) != 0)
        rc = err_errno(err, ERR_IO, errno, "%s can't be given to the user postgres",
                       c->dir);
    return rc;
}

static int take_lock(struct cluster *c, struct err *err)
{
    char path[PATH_MAX];
    char pid[24] = "";
    snprintf(path, sizeof(path), "%s/lock", c->dir);
    c->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (c->lock < 0)
        return err_errno(err, ERR_IO, errno, "%s can't be written", path);
    if (flock(c->lock, LOCK_EX | LOCK_NB) != 0) {
        ssize_t n = read(c->lock, pid, sizeof(pid) - 1);
        pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
        return err_set(
            err, ERR_EXISTS,
            "%s is in use by another coulomb dev (process %s). Stop that one, or "
            "use another --data-dir",
            c->dir, pid);
    }
    int len = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    if (ftruncate(c->lock, 0) != 0 || pwrite(c->lock, pid, (size_t)len, 0) != len)
        return err_errno(err, ERR_IO, errno, "%s can't be written", path);
    return 0;
}

/* --- The password --- */

static void make_password(struct cluster *c, const unsigned char *bytes)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < PASSWORD_BYTES; i++) {
        c->password[2 * i] = digits[bytes[i] >> 4];
        c->password[2 * i + 1] = digits[bytes[i] & 15];
    }
    c->password[2 * PASSWORD_BYTES] = '\0';
}

static int write_password(struct cluster *c, const char *path, struct err *err)
{
    unsigned char bytes[PASSWORD_BYTES];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return err_errno(err, ERR_IO, errno, "no random bytes for a password");
    make_password(c, bytes);
    (void)unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t len = strlen(c->password);
    bool ok = fd >= 0 && write(fd, c->password, len) == (ssize_t)len && fsync(fd) == 0 &&
              (!c->as_user || fchown(fd, c->uid, c->gid) == 0);
    int problem = errno;
    if (fd >= 0)
        close(fd);
    return ok ? 0 : err_errno(err, ERR_IO, problem, "%s can't be written", path);
}

static int read_password(struct cluster *c, const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, c->password, sizeof(c->password) - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n == 2 * PASSWORD_BYTES)
        return 0;
    return err_set(
        err, ERR_CORRUPT,
        "%s, the password of the cluster beside it, can't be read. Remove %s to "
        "begin anew (its data are lost then)",
        path, c->dir);
}

/* --- Making it --- */

static int run_initdb(struct cluster *c, const char *into, const char *password_path,
                      struct err *err)
{
    char program[PATH_MAX + 16];
    char pwfile[PATH_MAX + 16];
    snprintf(program, sizeof(program), "%s/initdb", c->bin);
    snprintf(pwfile, sizeof(pwfile), "--pwfile=%s", password_path);
    const char *args[] = {program,         "-D",   into, "-U",   "postgres",   "-A",
                          "scram-sha-256", pwfile, "-E", "UTF8", "--locale=C", NULL};
    struct process_options options = {args,   c->dir, c->log_path, c->as_user,
                                      c->uid, c->gid, SIGKILL};
    pid_t pid;
    int rc = process_start(&options, &pid, err);
    rc = rc ? rc : process_wait(pid, -1, "initdb", err);
    if (rc && err)
        err_set(err, rc, "the cluster could not be made: %s; see %s", err->message,
                c->log_path);
    return rc;
}

/* The cluster's files are of one major version. */
static int check_version(const struct cluster *c, struct err *err)
{
    char path[PATH_MAX + 32];
    char made[16] = "";
    snprintf(path, sizeof(path), "%s/PG_VERSION", c->data);
    FILE *file = fopen(path, "r");
    if (!file || !fgets(made, sizeof(made), file))
        made[0] = '\0';
    if (file)
        fclose(file);
    made[strcspn(made, "\n")] = '\0';
    char wanted[PATH_MAX + 32];
    snprintf(wanted, sizeof(wanted), "/usr/lib/postgresql/%s/bin", made);
    if (strncmp(c->bin, "/usr/lib/postgresql/", 20) != 0 || strcmp(c->bin, wanted) == 0)
        return 0;
    return err_set(
        err, ERR_INVALID,
        "%s was made by Postgres %s, and the newest one here is in %s. Use "
        "another --data-dir, or remove it to begin anew (its data are lost then)",
        c->data, made, c->bin);
}

static int remove_entry(const char *path, const struct stat *st, int type,
                        struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* initdb cleans up after itself when it fails, not when it is killed: it works beside,
 * and what is called data is whole. */
static int make_cluster(struct cluster *c, struct err *err)
{
    char password[PATH_MAX];
    char half[PATH_MAX];
    snprintf(password, sizeof(password), "%s/password", c->dir);
    snprintf(half, sizeof(half), "%s/data.half-made", c->dir);
    if (access(c->data, F_OK) == 0) {
        int rc = check_version(c, err);
        return rc ? rc : read_password(c, password, err);
    }
    c->is_new = true;
    if (access(half, F_OK) == 0 &&
        nftw(half, remove_entry, REMOVE_FDS, FTW_DEPTH | FTW_PHYS) != 0)
        return err_errno(err, ERR_IO, errno, "%s can't be removed", half);
    int rc = write_password(c, password, err);
    rc = rc ? rc : run_initdb(c, half, password, err);
    if (rc == 0 && rename(half, c->data) != 0)
        rc = err_errno(err, ERR_IO, errno, "%s can't be renamed", half);
    return rc;
}

/* --- One that was left behind --- */

/* The pid in the first line of postmaster.pid, 0 when there is none; *ready: it accepts
 * sessions. */
static pid_t read_pid_file(const struct cluster *c, bool *ready)
{
    char path[PATH_MAX + 32];
    char line[PATH_MAX];
    long pid = 0;
    *ready = false;
    snprintf(path, sizeof(path), "%s/postmaster.pid", c->data);
    FILE *file = fopen(path, "r");
    for (int n = 1; file && n <= PID_LINES && fgets(line, sizeof(line), file); n++) {
        if (n == 1)
            pid = strtol(line, NULL, 10);
        *ready = n == PID_LINES && strncmp(line, "ready", 5) == 0;
    }
    if (file)
        fclose(file);
    return pid > 1 ? (pid_t)pid : 0;
}

/* That process is a Postgres that works in our data folder. */
static bool is_ours(const struct cluster *c, pid_t pid)
{
    char link[64];
    char real[PATH_MAX];
    char target[PATH_MAX];
    snprintf(link, sizeof(link), "/proc/%ld/cwd", (long)pid);
    ssize_t n = readlink(link, target, sizeof(target) - 1);
    if (n <= 0 || !realpath(c->data, real))
        return false;
    target[n] = '\0';
    return strcmp(target, real) == 0;
}

static bool gone_within(const struct cluster *c, pid_t pid, int timeout_ms)
{
    for (int waited = 0; is_ours(c, pid); waited += STEP_MS) {
        if (waited >= timeout_ms)
            return false;
        clock_sleep_ms(STEP_MS);
    }
    return true;
}

static int stop_left_behind(struct cluster *c, struct err *err)
{
    bool ready;
    pid_t pid = read_pid_file(c, &ready);
    if (pid == 0 || !is_ours(c, pid))
        return 0;
    log_event(c->log, LOG_WARNING, "dev.postgres_left_behind", LOG_I64("pid", pid));
    c->left_pid = (unsigned)pid;
    if (kill(pid, SIGINT) == 0 && gone_within(c, pid, FAST_STOP_MS))
        return 0;
    if (kill(pid, SIGQUIT) == 0 && gone_within(c, pid, HARD_STOP_MS))
        return 0;
    return is_ours(c, pid)
               ? err_set(err, ERR_EXISTS,
                         "a Postgres that an earlier run left behind (process "
                         "%ld) uses %s and does not stop. Stop it yourself",
                         (long)pid, c->data)
               : 0;
}

/* --- Starting and stopping --- */

static bool port_is_free(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port)};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
              bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* The same one at each start if it can be had. */
static unsigned free_port(unsigned from)
{
    for (unsigned port = from; port < from + PORT_TRIES; port++)
        if (port_is_free(port))
            return port;
    return 0;
}

static int spawn_server(struct cluster *c, struct err *err)
{
    char program[PATH_MAX + 16];
    char port[32];
    char sockets[PATH_MAX + 32];
    snprintf(program, sizeof(program), "%s/postgres", c->bin);
    snprintf(port, sizeof(port), "port=%u", c->port);
    /* A socket's path has 107 bytes at the most. */
    snprintf(sockets, sizeof(sockets), "unix_socket_directories=%s",
             strlen(c->dir) <= SOCKET_PATH_MAX ? c->dir : "");
    const char *args[] = {program,
                          "-D",
                          c->data,
                          "-c",
                          port,
                          "-c",
                          sockets,
                          "-c",
                          "listen_addresses=127.0.0.1",
                          "-c",
                          "wal_level=logical",
                          "-c",
                          "fsync=on",
                          "-c",
                          "max_connections=60",
                          "-c",
                          "shared_buffers=32MB",
                          "-c",
                          "max_slot_wal_keep_size=2GB",
                          "-c",
                          "logging_collector=off",
                          "-c",
                          "log_line_prefix=%m [%p] ",
                          NULL};
    struct process_options options = {args,   c->dir, c->log_path, c->as_user,
                                      c->uid, c->gid, SIGINT};
    return process_start(&options, &c->server, err);
}

/* ERR_RETRY when it ended before it was ready (the port may have been taken). */
static int wait_until_ready(struct cluster *c, struct err *err)
{
    for (int waited = 0; waited < READY_MS; waited += STEP_MS) {
        bool ready;
        struct err end = {0};
        if (read_pid_file(c, &ready) == c->server && ready)
            return 0;
        int rc = process_wait(c->server, 0, "postgres", &end);
        if (rc != ERR_RETRY) {
            c->server = 0;
            return err_set(err, ERR_RETRY, "Postgres did not start: %s; see %s",
                           rc ? end.message : "it ended", c->log_path);
        }
        clock_sleep_ms(STEP_MS);
    }
    return err_set(err, ERR_IO, "Postgres was not ready within a minute; see %s",
                   c->log_path);
}

static int start(struct cluster *c, struct err *err)
{
    int rc = ERR_RETRY;
    unsigned port = FIRST_PORT;
    for (int i = 0; i < START_TRIES && rc == ERR_RETRY; i++) {
        c->port = free_port(port);
        if (c->port == 0)
            return err_set(err, ERR_IO, "no port from %u on is free for Postgres", port);
        port = c->port + 1;
        rc = spawn_server(c, err);
        rc = rc ? rc : wait_until_ready(c, err);
    }
    return rc;
}

static void stop(struct cluster *c)
{
    struct err err = {0};
    if (c->server == 0)
        return;
    kill(c->server, SIGINT);
    if (process_wait(c->server, FAST_STOP_MS, "postgres", &err) == ERR_RETRY) {
        kill(c->server, SIGQUIT);
        if (process_wait(c->server, HARD_STOP_MS, "postgres", &err) == ERR_RETRY)
            log_event(c->log, LOG_ERROR, "dev.postgres_not_stopped",
                      LOG_I64("pid", c->server));
    }
    c->server = 0;
}

/* --- The interface --- */

static int prepare(struct cluster *c, const struct cluster_options *options,
                   struct err *err)
{
    if (options->dir[0] != '/' || strlen(options->dir) >= DIR_MAX)
        return err_set(err, ERR_INVALID, "%.200s is no absolute path of a usable length",
                       options->dir);
    snprintf(c->dir, sizeof(c->dir), "%s", options->dir);
    snprintf(c->data, sizeof(c->data), "%s/data", c->dir);
    snprintf(c->log_path, sizeof(c->log_path), "%s/postgres.log", c->dir);
    if (options->bin_dir)
        snprintf(c->bin, sizeof(c->bin), "%s", options->bin_dir);
    int rc = options->bin_dir ? 0 : cluster_find_programs(c->bin, sizeof(c->bin), err);
    rc = rc ? rc : find_user(c, err);
    rc = rc ? rc : make_folder(c, err);
    return rc ? rc : take_lock(c, err);
}

int cluster_open(const struct cluster_options *options, struct cluster **out,
                 struct err *err)
{
    *out = NULL;
    struct cluster *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ERR_MEMORY, "no memory for the cluster");
    c->lock = -1;
    c->log = options->log;
    int rc = prepare(c, options, err);
    rc = rc ? rc : stop_left_behind(c, err);
    rc = rc ? rc : make_cluster(c, err);
    rc = rc ? rc : start(c, err);
    if (rc) {
        cluster_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

static char *put_url(const struct cluster *c, const char *before, const char *database)
{
    struct buf text;
    buf_init(&text, PATH_MAX + 256);
    buf_printf(&text, "%spostgresql://postgres:%s@127.0.0.1:%u/%s", before, c->password,
               c->port, database);
    return buf_take(&text, NULL);
}

char *cluster_url(const struct cluster *c, const char *database)
{
    return put_url(c, "", database);
}

char *cluster_psql(const struct cluster *c, const char *database)
{
    char before[PATH_MAX + 16] = "psql ";
    if (access("/usr/bin/psql", X_OK) != 0 && access("/usr/local/bin/psql", X_OK) != 0)
        snprintf(before, sizeof(before), "%s/psql ", c->bin);
    return put_url(c, before, database);
}

bool cluster_is_new(const struct cluster *c)
{
    return c->is_new;
}

unsigned cluster_left_pid(const struct cluster *c)
{
    return c->left_pid;
}

unsigned cluster_port(const struct cluster *c)
{
    return c->port;
}

const char *cluster_log_path(const struct cluster *c)
{
    return c->log_path;
}

bool cluster_ended(const struct cluster *c)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)c->server, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == c->server;
}

void cluster_close(struct cluster *c)
{
    if (!c)
        return;
    stop(c);
    if (c->lock >= 0)
        close(c->lock);
    explicit_bzero(c->password, sizeof(c->password));
    free(c);
}
