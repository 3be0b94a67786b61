/* Runs a server until a signal ends it: what `coulomb serve` and `coulomb dev` share. */
#ifndef COULOMB_CLI_RUN_H
#define COULOMB_CLI_RUN_H

#include "server/server.h"

/* Once, first thing in a command that serves, while there is one thread: blocks SIGTERM
 * and SIGINT, ignores SIGPIPE, raises the limit of open files to what is allowed. */
void run_prepare(const struct log *log);
/* In a child between fork and exec: gives it default signal handling back. */
void run_reset_signals(void);

struct run {
    const struct server_config *config;
    /* Called when the port is bound, before serving; NULL: not. */
    void (*started)(void *ctx, uint16_t port);
    void *ctx;
};

/* Makes the server and serves until SIGTERM or SIGINT (a second one ends the process at
 * once). 0 after a signal, else an ERR_ code with err filled. The calling thread works.
 */
int run_server(const struct run *run, struct err *err);

#endif
