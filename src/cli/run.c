/* Signals and the life of one server.
 *
 * SIGTERM and SIGINT stay blocked in all threads; one thread waits for them. The first
 * makes a thread that stops the server, while the waiting goes on: the second ends the
 * process at once, so that a server that hangs in its shutdown still obeys. Both threads
 * are joined before the server is freed. Rejected: signalfd in an event loop, since the
 * server's loops belong to it. */
#include "cli/run.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#define EXIT_BY_SIGNAL 128

struct watch {
    struct server *server;
    const struct log *log;
    atomic_bool over; /* server_run has returned */
    bool stopping;    /* the stopper exists; the watching thread's */
    pthread_t stopper;
};

static void signals_of_interest(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
}

static void raise_open_files(const struct log *log)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_event(log, LOG_WARNING, "files.limit_kept",
                  LOG_TEXT("reason", "the limit of open files could not be raised"));
}

void run_prepare(const struct log *log)
{
    sigset_t set;
    signals_of_interest(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_open_files(log);
}

void run_reset_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    signal(SIGPIPE, SIG_DFL);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static void *stop_server(void *arg)
{
    struct watch *w = arg;
    server_stop(w->server);
    return NULL;
}

static void on_signal(struct watch *w, int number)
{
    if (w->stopping)
        _exit(EXIT_BY_SIGNAL + number);
    log_event(w->log, LOG_INFO, "server.stopping",
              LOG_TEXT("signal", number == SIGINT ? "SIGINT" : "SIGTERM"));
    w->stopping = pthread_create(&w->stopper, NULL, stop_server, w) == 0;
    if (!w->stopping) {
        log_event(w->log, LOG_ERROR, "server.not_stopped",
                  LOG_TEXT("reason", "no thread could be made: ending at once"));
        _exit(EXIT_BY_SIGNAL + number);
    }
}

static void *watch_signals(void *arg)
{
    struct watch *w = arg;
    sigset_t set;
    signals_of_interest(&set);
    int number;
    while (sigwait(&set, &number) == 0 && !atomic_load(&w->over))
        on_signal(w, number);
    return NULL;
}

/* Serves with the watching thread beside it. */
static int serve(struct watch *w, struct err *err)
{
    pthread_t watcher;
    if (pthread_create(&watcher, NULL, watch_signals, w) != 0)
        return err_set(err, ERR_MEMORY, "no thread could be made to wait for signals");
    int rc = server_run(w->server, err);
    atomic_store(&w->over, true);
    /* It is blocked, and awaited there.
     * NOLINTNEXTLINE(bugprone-bad-signal-to-kill-thread,cert-pos44-c) */
    pthread_kill(watcher, SIGTERM);
    pthread_join(watcher, NULL);
    if (w->stopping)
        pthread_join(w->stopper, NULL);
    return rc;
}

int run_server(const struct run *run, struct err *err)
{
    struct watch w = {.log = run->config->log};
    int rc = server_new(run->config, &w.server, err);
    if (rc < 0)
        return rc;
    if (run->started)
        run->started(run->ctx, server_port(w.server));
    rc = serve(&w, err);
    server_free(w.server);
    if (w.stopping && (rc == 0 || rc == ERR_CANCELLED)) {
        log_write(w.log, LOG_INFO, "server.stopped", NULL, 0);
        return 0;
    }
    return rc;
}
