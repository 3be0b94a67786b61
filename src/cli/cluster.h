/* A private Postgres cluster in a folder, for `coulomb dev`: made once, started and
 * stopped with the program, on 127.0.0.1 and a socket in its folder, behind a random
 * password. */
#ifndef COULOMB_CLI_CLUSTER_H
#define COULOMB_CLI_CLUSTER_H

#include <stdbool.h>

#include "base/err.h"
#include "base/log.h"

struct cluster;

struct cluster_options {
    const char *dir;     /* absolute; made when missing (its parents too) */
    const char *bin_dir; /* NULL: found by cluster_find_programs */
    const struct log *log;
};

/* The folder of initdb and postgres: the newest below /usr/lib/postgresql, else what
 * pg_config in PATH says, else PATH itself. ERR_NOT_FOUND with what to install; a server
 * older than 14 does not count. */
int cluster_find_programs(char *out, size_t room, struct err *err);
/* Where a user's cluster lives by default. home and xdg_data_home as in the environment
 * (NULL: not set). */
int cluster_default_dir(bool root, const char *home, const char *xdg_data_home, char *out,
                        size_t room, struct err *err);

/* Makes the cluster unless it is there, and starts it. One that a killed run left behind
 * is stopped first. The calling thread must live as long as the cluster: Postgres ends
 * with it. ERR_EXISTS when another program uses the folder. */
int cluster_open(const struct cluster_options *options, struct cluster **out,
                 struct err *err);
/* A connection string of its superuser for that database. Caller frees; NULL without
 * memory. */
char *cluster_url(const struct cluster *c, const char *database);
/* A psql command line of the same, as a person would type it. Caller frees. */
char *cluster_psql(const struct cluster *c, const char *database);
bool cluster_is_new(const struct cluster *c); /* made by this cluster_open */
unsigned
cluster_left_pid(const struct cluster *c); /* stopped before the start; 0: none */
unsigned cluster_port(const struct cluster *c);
const char *cluster_log_path(const struct cluster *c);
/* Postgres is gone though nobody stopped it. Any thread, before cluster_close. */
bool cluster_ended(const struct cluster *c);
/* Fast shutdown, then the hard one. NULL is allowed. */
void cluster_close(struct cluster *c);

#endif
