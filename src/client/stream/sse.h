/* Server-sent events: the framing of an event stream (WHATWG HTML 9.2). Internal.
 *
 *   stream = [ BOM ] *event
 *   event  = *( comment / field ) blank-line
 *   line ends: LF, CR, or CR LF
 *
 * Only `data` matters here; other fields and comments keep the connection alive. */
#ifndef COULOMB_CLIENT_STREAM_SSE_H
#define COULOMB_CLIENT_STREAM_SSE_H

#include <stdbool.h>

#include "base/buf.h"

struct sse {
    struct buf line;
    struct buf data;
    bool has_data;
    bool given;    /* data was given out */
    bool after_cr; /* a LF that comes next belongs to the CR */
    bool begun;    /* past a BOM */
};

/* max_bytes: of one event. Memory from mem, NULL: malloc. */
void sse_init(struct sse *s, size_t max_bytes, const struct mem *mem);
void sse_fini(struct sse *s);
/* Takes bytes off the front of *input up to the end of an event with data: true, and *data has it,
 * until the next call. False: all is taken and no event is complete, or s->line.failed or
 * s->data.failed say why it can't be. */
bool sse_next(struct sse *s, struct slice *input, struct slice *data);

#endif
