/* A throwaway Postgres cluster in a temporary directory, on a random loopback port.
 *
 * Postgres refuses to run as root; then the cluster belongs to the user `postgres`. It
 * dies with the test process (the kernel sends it SIGQUIT). The newest installed version
 * is used, or the one whose programs COULOMB_TEST_PG_BIN names. Without any, or when a
 * step fails, the test program ends with exit code 1 and the reason: a test must not pass
 * for want of a database. */
#ifndef COULOMB_TESTS_SUPPORT_PGCLUSTER_H
#define COULOMB_TESTS_SUPPORT_PGCLUSTER_H

struct pgcluster;

/* Settings are "name=value", NULL-terminated, on top of logical WAL and a quiet, small
 * server; NULL for none. Superuser `postgres`, trusted on loopback; database `postgres`.
 */
struct pgcluster *pgcluster_new(const char *const *settings);
/* Stops the server and removes the directory. */
void pgcluster_free(struct pgcluster *c);

/* Starts after a stop, with other settings (NULL: none); same port, same data. */
void pgcluster_start(struct pgcluster *c, const char *const *settings);
/* Waits until the server has ended. "fast" is an orderly end; "immediate" is a crash. */
void pgcluster_stop_fast(struct pgcluster *c);
void pgcluster_stop_immediate(struct pgcluster *c);

/* postgresql://postgres@127.0.0.1:PORT/postgres?sslmode=disable */
const char *pgcluster_url(const struct pgcluster *c);
int pgcluster_port(const struct pgcluster *c);
/* The data directory (postgresql.conf, pg_hba.conf). */
const char *pgcluster_data(const struct pgcluster *c);
/* The major version, such as 15. */
int pgcluster_version(const struct pgcluster *c);

#endif
