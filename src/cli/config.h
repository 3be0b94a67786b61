/* Settings to the server's configuration. */
#ifndef COULOMB_CLI_CONFIG_H
#define COULOMB_CLI_CONFIG_H

#include "cli/settings.h"
#include "server/server.h"

/* What clients are told in electric-server: the version whose protocol this is. */
#define CONFIG_PROTOCOL_VERSION "1.7.12"

/* Fills *out, which borrows from s; log and extra are the caller's to set. ERR_INVALID
 * with a sentence when settings contradict each other or one that is required is missing.
 */
int config_build(const struct settings *s, struct server_config *out, struct err *err);

#endif
