/* A coulomb server under test, for C tests that need the real thing: the binary of the same build, on a
 * random loopback port, with a storage folder of its own. It dies with the test process. When a step
 * fails the test program ends with exit code 1 and the server's log. */
#ifndef COULOMB_TESTS_SUPPORT_SERVED_H
#define COULOMB_TESTS_SUPPORT_SERVED_H

struct served;

/* settings are "NAME=value", NULL-terminated, on top of insecure mode; NULL for none. */
struct served *served_new(const char *database_url, const char *const *settings);
/* Ends it and removes its folder. */
void served_free(struct served *s);
/* kill -9; then again on the same port and storage. */
void served_kill(struct served *s);
void served_start(struct served *s);
/* http://127.0.0.1:PORT/v1/shape */
const char *served_shape_url(const struct served *s);

#endif
