/* Where a request begins, and whether everyone on the way agrees where a request ends. evhttp takes the first of several
 * Content-Length headers, knows no transfer coding but "chunked", and passes over names that it
 * doesn't know, such as "Content-Length ". A proxy in front that reads them otherwise would
 * take the rest of one client's body for the next client's request. */
#ifndef COULOMB_SERVER_EVLOOP_FRAMING_H
#define COULOMB_SERVER_EVLOOP_FRAMING_H

#include "base/slice.h"

struct framing {
    unsigned lengths;
    unsigned codings;
    bool bad;
};

/* Once for every header, beginning with a zeroed struct. */
void framing_see(struct framing *f, struct slice name, struct slice value);
/* After all headers: false means 400, and to close the connection. */
bool framing_fine(const struct framing *f);

/* The length of the empty line that the bytes before a request line begin with, or 0 (RFC 9112
 * 2.2: some clients end a body with one). */
size_t framing_empty_line(struct slice bytes);

#endif
