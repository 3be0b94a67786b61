/* The head of an answer as text: status line, headers, and what they say of the body's end. */
#ifndef COULOMB_SERVER_EVLOOP_HEAD_H
#define COULOMB_SERVER_EVLOOP_HEAD_H

#include "base/buf.h"

#define HEAD_LINE_MAX  64
#define HEAD_CHUNK_MAX 20

struct head_kind {
    unsigned char major; /* of the request's HTTP version */
    unsigned char minor;
    bool closing; /* the connection ends behind the answer */
    bool keeping; /* "connection: keep-alive", unless it is closing */
    bool chunked;
    int64_t length; /* content-length; negative: none */
};

/* The text of a moment, made once a second. */
struct head_date {
    int64_t at_s;
    char text[64];
};

/* "Thu, 01 Jan 1970 00:00:00 GMT", whatever the locale; now_s since the Unix epoch. */
struct slice head_date_now(struct head_date *date, int64_t now_s);

/* The status line, into out; returns its length. */
size_t head_begin(const struct head_kind *kind, int status, char out[HEAD_LINE_MAX]);
/* One header. Nothing when the value has a line end in it, which would begin another. */
void head_add(struct buf *out, struct slice name, struct slice value);
/* The headers that follow from the kind, and the empty line. */
void head_end(struct buf *out, const struct head_kind *kind, struct slice date);
/* The line before a chunk of len bytes; returns its length. */
size_t head_chunk(size_t len, char out[HEAD_CHUNK_MAX]);

#endif
