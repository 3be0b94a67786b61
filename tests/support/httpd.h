/* An HTTP server that answers what the test scripted, byte for byte, on a random loopback port. Raw
 * sockets, one thread for each connection: so that it can also answer wrongly.
 *
 * Replies wait in a queue. A request takes the first that matches its target (or body); without one
 * it waits, as a long poll does, until one is pushed, the client goes away or the server ends. */
#ifndef COULOMB_TESTS_SUPPORT_HTTPD_H
#define COULOMB_TESTS_SUPPORT_HTTPD_H

#include <stdbool.h>
#include <stddef.h>

struct httpd;

enum httpd_after {
    HTTPD_KEEP,  /* the connection takes its next request */
    HTTPD_CLOSE, /* an orderly end */
    HTTPD_RESET, /* RST */
    HTTPD_HOLD   /* the answer goes on: by replies whose match is HTTPD_MORE */
};

#define HTTPD_MORE "\x01more"

struct httpd *httpd_new(void);
/* Ends connections and threads. */
void httpd_free(struct httpd *h);
int httpd_port(const struct httpd *h);
/* "http://127.0.0.1:PORT". */
const char *httpd_url(const struct httpd *h);

/* match: a part of the request's target or body, or HTTPD_MORE; NULL: any request. Sends bytes in
 * pieces of piece (0: at once). Copies. */
void httpd_push(struct httpd *h, const char *match, const char *bytes, size_t n,
                enum httpd_after after, size_t piece);
/* An answer with status, these headers ("name: value\r\n…", may be ""), and a body with its length. */
void httpd_reply(struct httpd *h, const char *match, int status, const char *headers,
                 const char *body);

/* How many requests came, and the n-th (from 0) as it was: request line, headers, blank line, body.
 * Waits for it, at most 20 s, then the test fails. The text lives as long as the server. */
size_t httpd_count(struct httpd *h);
const char *httpd_request(struct httpd *h, size_t n);
/* Replies that nobody took. */
size_t httpd_left(struct httpd *h);
/* Connections that were accepted so far. */
size_t httpd_connections(struct httpd *h);
/* Waits until that many of them have ended. */
void httpd_wait_ended(struct httpd *h, size_t n);

#endif
