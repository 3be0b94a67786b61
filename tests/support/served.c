#include "support/served.h"

#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define SETTINGS_MAX     32
#define READY_TIMEOUT_MS 60000
#define STEP_MS          20

struct served {
    char dir[64];
    char log[80];
    char url[64];
    char database[256];
    const char *settings[SETTINGS_MAX];
    int port; /* 0: any */
    pid_t pid;
};

static int remove_entry(const char *path, const struct stat *st, int type,
                        struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static _Noreturn void give_up(const struct served *s, const char *why)
{
    char line[512];
    FILE *log = fopen(s->log, "r");

    fprintf(stderr, "served: %s\n", why);
    while (log && fgets(line, sizeof(line), log))
        fprintf(stderr, "served: | %s", line);
    if (log)
        fclose(log);
    if (s->pid > 0)
        kill(s->pid, SIGKILL);
    exit(1);
}

/* The server of the build that this test program is of. */
static void find_binary(char out[PATH_MAX])
{
    const char *named = getenv("COULOMB_BIN");
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 32);
    char *slash;

    if (named) {
        snprintf(out, PATH_MAX, "%s", named);
        return;
    }
    out[n > 0 ? n : 0] = '\0';
    for (int i = 0; i < 2 && (slash = strrchr(out, '/')) != NULL; i++)
        *slash = '\0';
    size_t len = strlen(out);
    snprintf(out + len, PATH_MAX - len, "/coulomb");
}

static _Noreturn void become_server(const struct served *s)
{
    static const char *const inherited[] = {
        "PATH",          "HOME",         "TMPDIR",      "ASAN_OPTIONS",
        "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"};
    char binary[PATH_MAX];
    char text[16 + SETTINGS_MAX][512];
    char *env[16 + SETTINGS_MAX + 1];
    size_t n = 0;
    FILE *log = freopen(s->log, "a", stdout);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    find_binary(binary);
    for (size_t i = 0; i < sizeof(inherited) / sizeof(inherited[0]); i++) {
        const char *value = getenv(inherited[i]);

        if (value)
            snprintf(text[n++], sizeof(text[0]), "%s=%s", inherited[i], value);
    }
    snprintf(text[n++], sizeof(text[0]), "DATABASE_URL=%s", s->database);
    snprintf(text[n++], sizeof(text[0]), "ELECTRIC_STORAGE_DIR=%s", s->dir);
    snprintf(text[n++], sizeof(text[0]), "ELECTRIC_PORT=%d", s->port);
    snprintf(text[n++], sizeof(text[0]), "COULOMB_LISTEN=127.0.0.1");
    snprintf(text[n++], sizeof(text[0]), "ELECTRIC_INSECURE=true");
    for (size_t i = 0; s->settings[i]; i++)
        snprintf(text[n++], sizeof(text[0]), "%s", s->settings[i]);
    for (size_t i = 0; i < n; i++)
        env[i] = text[i];
    env[n] = NULL;
    if (log && dup2(fileno(log), STDERR_FILENO) >= 0)
        execve(binary, (char *[]){binary, (char[]){"serve"}, NULL}, env);
    _exit(127);
}

/* The port of the last time it began to listen; 0: not yet. Counts what came before. */
static int listening(const struct served *s, long from)
{
    char line[1024];
    FILE *log = fopen(s->log, "r");
    int port = 0;

    if (!log)
        return 0;
    if (fseek(log, from, SEEK_SET) == 0) {
        while (fgets(line, sizeof(line), log)) {
            const char *at = strstr(line, "event=http.listening");

            at = at ? strstr(at, "port=") : NULL;
            if (at)
                port = (int)strtol(at + 5, NULL, 10);
        }
    }
    fclose(log);
    return port;
}

static long log_size(const struct served *s)
{
    FILE *log = fopen(s->log, "r");
    long size = 0;

    if (log && fseek(log, 0, SEEK_END) == 0)
        size = ftell(log);
    if (log)
        fclose(log);
    return size;
}

void served_start(struct served *s)
{
    int64_t end = clock_mono_ms() + READY_TIMEOUT_MS;
    long from = log_size(s);
    int port = 0;

    fflush(NULL);
    s->pid = fork();
    if (s->pid < 0)
        give_up(s, "no process");
    if (s->pid == 0)
        become_server(s);
    while (port == 0) {
        if (waitpid(s->pid, NULL, WNOHANG) == s->pid)
            give_up(s, "the server ended before it listened");
        if (clock_mono_ms() > end)
            give_up(s, "the server does not listen");
        clock_sleep_ms(STEP_MS);
        port = listening(s, from);
    }
    s->port = port;
    snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%d/v1/shape", port);
}

struct served *served_new(const char *database_url, const char *const *settings)
{
    struct served *s = calloc(1, sizeof(*s));
    const char *tmp = getenv("TMPDIR");

    if (!s)
        abort();
    snprintf(s->dir, sizeof(s->dir), "%.40s/coulomb-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(s->dir))
        give_up(s, "no temporary folder");
    snprintf(s->log, sizeof(s->log), "%s/log", s->dir);
    snprintf(s->database, sizeof(s->database), "%s", database_url);
    for (size_t i = 0; settings && settings[i] && i + 1 < SETTINGS_MAX; i++)
        s->settings[i] = settings[i];
    served_start(s);
    return s;
}

static void end(struct served *s, int signal)
{
    if (s->pid <= 0)
        return;
    kill(s->pid, signal);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

void served_kill(struct served *s)
{
    end(s, SIGKILL);
}

void served_free(struct served *s)
{
    end(s, SIGTERM);
    nftw(s->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(s);
}

const char *served_shape_url(const struct served *s)
{
    return s->url;
}
