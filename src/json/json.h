/* JSON text: escaping writer and a pull reader. RFC 8259. */
#ifndef COULOMB_JSON_JSON_H
#define COULOMB_JSON_JSON_H

#include "base/buf.h"

/* Appends s as a JSON string with its quotes. s is UTF-8 from Postgres and copied as is,
 * with the quote, the backslash and bytes below 0x20 escaped. Fast path: runs without
 * such bytes are copied whole (SSE2/NEON where present). */
void json_put_string(struct buf *out, struct slice s);
/* The same without the quotes. */
void json_put_escaped(struct buf *out, struct slice s);
/* json_put_string for bytes of doubtful origin (a query string): every byte that is not
 * part of well-formed UTF-8 becomes U+FFFD. */
void json_put_untrusted(struct buf *out, struct slice s);

/* A pull reader over a complete text, which it borrows. Depth is bounded (JSON_DEPTH_MAX
 * levels are read, one more is an error), nothing recurses. Strings must be well-formed
 * UTF-8 and escaped surrogates must come in pairs, so .text of a NAME or STRING is UTF-8;
 * it may hold NUL (from \u0000). Names may repeat: what that means is the caller's
 * matter. JSON_END and JSON_ERROR repeat for ever.
 *
 * error_pos counts bytes from 0. It is input.len when the text ends too early, else the
 * offending byte; for an unpaired surrogate the backslash of its escape. */
#define JSON_DEPTH_MAX 64

enum json_event {
    JSON_END,   /* the text is over and was well formed */
    JSON_ERROR, /* see json_reader.error */
    JSON_OBJECT_BEGIN,
    JSON_OBJECT_END,
    JSON_ARRAY_BEGIN,
    JSON_ARRAY_END,
    JSON_NAME, /* a member's name: in .text */
    JSON_STRING,
    JSON_NUMBER, /* .text is its literal */
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL
};

struct json_reader {
    struct slice input;
    size_t pos;
    struct slice text;  /* of NAME, STRING (unescaped), NUMBER; until the next call */
    struct buf scratch; /* holds unescaped text */
    const char *error;  /* what is wrong: a constant sentence */
    size_t error_pos;   /* byte position of the fault */
    unsigned depth;
    unsigned char stack[JSON_DEPTH_MAX];
    int state;
};

void json_reader_init(struct json_reader *r, struct slice input);
/* With scratch from mem (NULL: malloc). */
void json_reader_init_from(struct json_reader *r, struct slice input,
                           const struct mem *mem);
void json_reader_fini(struct json_reader *r);
enum json_event json_next(struct json_reader *r);
/* After a BEGIN event or NAME: skips the value whole; false on error. After another value
 * nothing is left to skip. */
bool json_skip(struct json_reader *r, enum json_event event);
/* After NAME: the input from here on (a colon, a value …) as far as it goes. */
struct slice json_rest(const struct json_reader *r);
/* After NAME: when the input goes on with exactly these bytes, a colon and one whole value that some
 * reader has read before, passes over them. */
bool json_pass(struct json_reader *r, struct slice known);

/* Cuts an array that arrives in pieces into its elements' texts, which a reader then reads: it
 * balances brackets and knows strings, no more. An element that lies within one piece is given out
 * in place. */
enum json_split {
    JSON_SPLIT_MORE,    /* the piece is used up */
    JSON_SPLIT_ELEMENT, /* *element: valid until the next call */
    JSON_SPLIT_END,     /* the array is closed; of the rest only blanks are allowed */
    JSON_SPLIT_ERROR    /* see json_splitter.error; for ever */
};

struct json_splitter {
    struct buf pending; /* the beginning of an element from earlier pieces */
    const char
        *error; /* a constant sentence; "out of memory" and "too large" are possible */
    int state;
    unsigned depth; /* within the element */
    bool in_string;
    bool escaped;
};

/* max_bytes: of one element. */
void json_splitter_init(struct json_splitter *s, size_t max_bytes);
/* With memory from mem (NULL: malloc). */
void json_splitter_init_from(struct json_splitter *s, size_t max_bytes,
                             const struct mem *mem);
void json_splitter_fini(struct json_splitter *s);
/* Takes from the front of *input what it gives out or keeps. */
enum json_split json_split(struct json_splitter *s, struct slice *input,
                           struct slice *element);
/* At the end of the input: whether it was a whole array, or nothing but blanks. */
bool json_split_complete(const struct json_splitter *s);

#endif
