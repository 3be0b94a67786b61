/* Query strings and identifiers as text: splitting, percent-decoding, quoting rules. */
#ifndef COULOMB_SERVER_HTTP_QUERY_H
#define COULOMB_SERVER_HTTP_QUERY_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

struct query_pair {
    struct slice key;
    struct slice value; /* empty without '=' */
};

/* Cuts the next pair off *rest, decoded ('+' is a blank, a malformed %xx stands for itself).
 * 1, 0 at the end, ERR_INVALID (not UTF-8), ERR_MEMORY. Empty pairs are left out. */
int query_next(struct slice *rest, struct arena *arena, struct query_pair *out);

/* Where a raw target's path ends and its query begins (behind the '?'). */
void query_split_target(struct slice target, struct slice *path, struct slice *query);

/* A raw path, percent-decoded, without empty segments and trailing slashes: "//v1/%73hape/"
 * gives "/v1/shape". Segments are decoded after splitting; "." and ".." are ordinary. false
 * when it does not fit or a segment holds a decoded '/' or NUL. */
bool query_normalise_path(struct slice path, char *out, size_t size);

/* The query with the values of secrets replaced by "redacted", for logs. */
void query_redact(struct slice query, struct buf *out);

#endif
