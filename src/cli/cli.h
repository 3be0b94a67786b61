/* The commands of `coulomb`. Each gets the arguments behind its name and gives the exit
 * code: 0 fine, 1 it failed, 2 the settings or arguments are wrong. */
#ifndef COULOMB_CLI_CLI_H
#define COULOMB_CLI_CLI_H

#include "base/err.h"

#define CLI_OK    0
#define CLI_FAIL  1
#define CLI_USAGE 2

/* X(name, function, one line) */
#define CLI_COMMANDS(X)                                                                  \
    X(serve, cli_serve, "sync a Postgres database to clients over HTTP")                 \
    X(dev, cli_dev, "a private Postgres, the server and a live demo page, in one")       \
    X(status, cli_status, "ask a running server how it is")                              \
    X(tail, cli_tail, "print a shape, live")                                             \
    X(put, cli_put, "insert a row as an app does, and print each state")                 \
    X(patch, cli_patch, "the same for an update")                                        \
    X(delete, cli_delete, "the same for a delete")                                       \
    X(token, cli_token, "exchange a user's token for one that reads a shape")            \
    X(help, cli_help, "this, or more about a command")

#define X(name, function, line) int function(int count, char **args, char **env);
CLI_COMMANDS(X)
#undef X

int cli_main(int argc, char **argv, char **env);
/* Prints the sentence of err to stderr behind "coulomb: "; gives code back. */
int cli_fail(int code, const struct err *err);
/* The argument asks for help: "--help" or "-h". */
int cli_wants_help(int count, char **args);
/* Prints a command's help to stdout and gives CLI_OK. */
int cli_print_help(const char *command);

#endif
