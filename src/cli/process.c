/* fork and exec with nothing inherited that could surprise: no PG* variables, no blocked
 * signals, no terminal's process group. */
#include "cli/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/run.h"

#define STEP_MS      10
#define CANNOT_BEGIN 126
#define CANNOT_EXEC  127

static bool redirect(const char *log_path)
{
    int in = open("/dev/null", O_RDONLY);
    int out = open(log_path, O_WRONLY | O_APPEND);
    return in >= 0 && out >= 0 && dup2(in, STDIN_FILENO) >= 0 &&
           dup2(out, STDOUT_FILENO) >= 0 && dup2(out, STDERR_FILENO) >= 0;
}

static bool become(const struct process_options *o)
{
    return !o->as_user ||
           (setgroups(0, NULL) == 0 && setgid(o->gid) == 0 && setuid(o->uid) == 0);
}

/* In the child: does not return. */
static _Noreturn void begin(const struct process_options *o, char *const *args,
                            char *const *env, pid_t parent)
{
    run_reset_signals();
    umask(077);
    setsid();
    if (!redirect(o->log_path) || !become(o) || chdir(o->dir) != 0)
        _exit(CANNOT_BEGIN);
    /* After setuid, which clears it; the parent may be gone already. */
    if (o->end_signal &&
        (prctl(PR_SET_PDEATHSIG, o->end_signal) != 0 || getppid() != parent))
        _exit(CANNOT_BEGIN);
    execve(args[0], args, env);
    _exit(CANNOT_EXEC);
}

int process_start(const struct process_options *options, pid_t *out, struct err *err)
{
    char home[4096 + 8];
    if ((size_t)snprintf(home, sizeof(home), "HOME=%s", options->dir) >= sizeof(home))
        return err_set(err, ERR_LIMIT, "the path %.80s... is too long", options->dir);
    char path[] = "PATH=/usr/local/bin:/usr/bin:/bin";
    char locale[] = "LC_ALL=C";
    char *const env[] = {path, locale, home, NULL};
    char *const *args;
    /* execve's prototype lacks a const that it keeps. */
    memcpy(&args, &options->args, sizeof(args));

    /* Made here, so that a child under another user need not be able to. */
    int log = open(options->log_path,
                   O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log < 0)
        return err_errno(err, ERR_IO, errno, "%s can't be written", options->log_path);
    if (options->as_user && fchown(log, options->uid, options->gid) != 0) {
        close(log);
        return err_errno(err, ERR_IO, errno, "%s can't be given to its user",
                         options->log_path);
    }
    close(log);
    fflush(NULL);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        return err_errno(err, ERR_IO, errno, "no process could be started");
    if (pid == 0)
        begin(options, args, env, parent);
    *out = pid;
    return 0;
}

static int ended(int status, const char *name, struct err *err)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT_EXEC)
        return err_set(err, ERR_IO, "%s could not be executed", name);
    if (WIFEXITED(status))
        return err_set(err, ERR_IO, "%s ended with status %d", name, WEXITSTATUS(status));
    return err_set(err, ERR_IO, "%s was ended by signal %d", name, WTERMSIG(status));
}

int process_wait(pid_t pid, int timeout_ms, const char *name, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + timeout_ms;
    int status = 0;
    for (;;) {
        pid_t got = waitpid(pid, &status, timeout_ms < 0 ? 0 : WNOHANG);
        if (got == pid)
            return ended(status, name, err);
        if (got < 0 && errno != EINTR)
            return err_errno(err, ERR_IO, errno, "%s can't be waited for", name);
        if (timeout_ms >= 0 && clock_mono_ms() >= deadline_ms)
            return err_set(err, ERR_RETRY, "%s still runs after %d ms", name, timeout_ms);
        if (timeout_ms >= 0)
            clock_sleep_ms(STEP_MS);
    }
}
