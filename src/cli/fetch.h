/* A tiny HTTP/1.1 GET, for asking a server how it is. */
#ifndef COULOMB_CLI_FETCH_H
#define COULOMB_CLI_FETCH_H

#include "base/buf.h"
#include "base/err.h"

/* GETs url ("http://host:port" and a path) with `path` appended into *body (initialised
 * by the caller, whose maximum bounds it) and *status. All of it within timeout_ms,
 * resolving the name aside. ERR_INVALID for a URL that is none; ERR_IO with a sentence
 * when it can't be reached or does not answer in HTTP. */
int fetch_get(const char *url, const char *path, int timeout_ms, int *status,
              struct buf *body, struct err *err);

#endif
