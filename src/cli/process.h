/* Child processes of `coulomb dev`: started without a shell, as another user when asked.
 */
#ifndef COULOMB_CLI_PROCESS_H
#define COULOMB_CLI_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

struct process_options {
    const char *const *args; /* the program's path first, NULL at the end */
    const char *dir;         /* where it runs and where HOME is */
    const char *log_path;    /* takes what it prints; appended to */
    bool as_user;            /* become uid, gid */
    uid_t uid;
    gid_t gid;
    int end_signal; /* sent to it when the calling thread ends; 0: none */
};

/* A session of its own (Ctrl-C is not for it), a plain environment, default signals. */
int process_start(const struct process_options *options, pid_t *out, struct err *err);
/* 0 when it ended well within timeout_ms (-1: any time), ERR_RETRY when it still runs,
 * ERR_IO with its way to end otherwise. */
int process_wait(pid_t pid, int timeout_ms, const char *name, struct err *err);

#endif
