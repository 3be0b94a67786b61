/* HTTP for the client library: one background thread per client over libcurl's multi interface.
 *
 * Two ways to use it:
 *
 * - net_call(): a request whose whole answer comes to the owner's thread, in coulomb_poll(). What
 *   the gatekeeper client and the write transport need.
 * - net_start(): the answer's parts come to callbacks on the I/O thread as they arrive. What a
 *   stream needs.
 *
 * HTTP/2 where TLS offers it, compression unless refused, connections are kept and shared. Up to
 * five redirects are followed for GET and HEAD, never from https to http; `authorization` and
 * `cookie` stay behind when the host changes. Only http and https. libcurl's usual environment
 * applies (https_proxy, no_proxy).
 *
 * The host process: the I/O thread blocks every signal, and libcurl is told to use none
 * (CURLOPT_NOSIGNAL); curl_global_init() is called (it counts, and is thread safe since 7.84),
 * curl_global_cleanup() never, since the host may use libcurl, too. libcurl's own memory comes from
 * malloc, all else from the client's allocator, which is called on the I/O thread too. After a
 * fork() only the parent may use its clients.
 *
 * No URL's query, no header and no body is ever logged. */
#ifndef COULOMB_CLIENT_NET_NET_H
#define COULOMB_CLIENT_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "client/loop/loop.h"

struct net;
struct net_request;
struct net_call;

/* The client's I/O thread; the first call starts it, coulomb_client_close() ends it. Owner's thread.
 * COULOMB_E_MEMORY, COULOMB_E_IO (no thread could be had). */
int client_net(coulomb_client *c, struct net **out);

/* The machine slept, or changed its network: what runs ends with NET_SLEPT, and no connection is used
 * again. On Linux a sleep is noticed without; hosts elsewhere call it. Any thread. */
void net_woke(struct net *n);

/* --- Requests ----------------------------------------------------------------------------- */

enum net_method { NET_GET, NET_POST, NET_PUT, NET_PATCH, NET_DELETE, NET_HEAD };

struct net_header {
    const char *name;
    const char *value;
};

/* Zero is every field's default. Everything is copied. */
struct net_options {
    enum net_method method;
    const char *url; /* absolute, http or https, escaped */
    const struct net_header *headers;
    size_t header_count;
    const void *body; /* of POST, PUT, PATCH, DELETE; give it a content-type header */
    size_t body_bytes;
    int64_t connect_timeout_ms; /* name, TCP and TLS; 0: 10 s */
    int64_t head_timeout_ms; /* from the start to the answer's head; 0: 60 s; <0: none */
    int64_t idle_timeout_ms; /* without a byte of body, not counted while paused; 0: 60 s;
                                   <0: none */
    int64_t total_timeout_ms; /* 0: none */
    size_t body_bytes_max;    /* of the answer, uncompressed; 0: 16 MiB */
    size_t head_bytes_max;    /* of its head; 0: 256 KiB */
    bool uncompressed;        /* asks for identity */
    bool
        once; /* never sent twice: libcurl repeats what a kept connection lost, so on a new one */
    const char *ca_file; /* PEM certificates to trust instead of the system's; NULL */
};

/* How a request ended. */
enum net_end {
    NET_DONE,        /* an answer, of whatever status, came whole */
    NET_UNREACHABLE, /* name, connection or TLS failed: nothing was sent */
    NET_BROKEN,  /* the connection broke, or what came is not HTTP; it may have arrived */
    NET_TIMEOUT, /* one of the timeouts; it may have arrived */
    NET_TOO_LARGE, /* head or body over its maximum */
    NET_REFUSED,   /* a callback did not want it */
    NET_CANCELLED,
    NET_SLEPT,    /* the machine slept meanwhile: the connection is not to be trusted */
    NET_NO_MEMORY /* here */
};

/* "done", "unreachable" …, for messages and logs. */
const char *net_end_name(enum net_end end);

/* An answer's status and headers. */
struct net_head;
int net_head_status(const struct net_head *h);
/* The last header of that name, whatever its case, trimmed; .ptr NULL when there is none (an empty
 * one has a ptr). Lives as long as the head. */
struct slice net_head_get(const struct net_head *h, const char *name);

enum net_verdict {
    NET_GO_ON,
    NET_PAUSE,  /* body only: keep these bytes, they come again after net_resume() */
    NET_REFUSE, /* ends it: NET_REFUSED */
    NET_FAIL    /* ends it: NET_NO_MEMORY */
};

/* Called on the I/O thread, in this order: head once (not at all when none came), body any number
 * of times, end exactly once, after which nothing follows. detail is a sentence about what went
 * wrong, "" when nothing did; it may name the host, never the query. */
struct net_callbacks {
    enum net_verdict (*head)(const struct net_head *head, void *arg);
    enum net_verdict (*body)(struct slice bytes, void *arg);
    void (*end)(enum net_end end, const char *detail, void *arg);
};

/* Starts a request. Any thread. *out is the caller's reference, set before any callback runs.
 * COULOMB_E_MEMORY; COULOMB_E_ARGUMENT for a URL that is none (*detail, when given, says why, a
 * constant); no callback follows then. */
int net_start(struct net *n, const struct net_options *options,
              const struct net_callbacks *callbacks, void *arg, struct net_request **out,
              const char **detail);
/* After NET_PAUSE. Any thread. */
void net_resume(struct net_request *r);
/* end(NET_CANCELLED) follows soon, unless it has ended otherwise. Any thread. */
void net_cancel(struct net_request *r);
/* Gives the reference back; a request that runs goes on. Any thread. NULL is fine. */
void net_request_release(struct net_request *r);

/* --- Whole answers on the owner's thread --------------------------------------------------- */

struct net_answer {
    enum net_end end;
    int status;                  /* 0 when no head came */
    const struct net_head *head; /* NULL when none came */
    struct slice
        body; /* whole only when end is NET_DONE; terminated by a NUL behind it */
    const char *detail; /* what went wrong */
};

/* Everything is borrowed for the call. */
typedef void net_answer_fn(const struct net_answer *answer, void *arg);

/* Sends a request and calls fn exactly once, in coulomb_poll(), unless it was cancelled or the client
 * closed before. Owner's thread. *out (may be NULL) is valid until then. Errors as net_start, in
 * coulomb_last_error(). */
int net_call(coulomb_client *c, const struct net_options *options, net_answer_fn *fn,
             void *arg, struct net_call **out);
/* No call follows. Owner's thread. The request may have been, or be, carried out. */
void net_call_cancel(struct net_call *call);

/* --- What callers share --------------------------------------------------------------------- */

/* How long a `retry-after` asks to wait, in ms: seconds, or an HTTP date against wall_us
 * (microseconds of 1970); at most an hour; 0 when there is none or it makes no sense. */
int64_t net_retry_after_ms(struct slice value, int64_t wall_us);
/* Appends s percent-encoded: all but letters, digits, "-", ".", "_" and "~". */
void net_put_escaped(struct buf *out, struct slice s);
/* The URL without query, fragment, user and password: for logs and messages. */
struct slice net_url_shown(const char *url, char *buf, size_t cap);

/* Full-jitter backoff: the n-th wait is random below initial * factor^(n-1), capped, and never below
 * what the server asked for. */
struct net_backoff {
    int64_t initial_ms; /* 0: 1,000 */
    int64_t max_ms;     /* 0: 32,000 */
    double factor;      /* 0: 2 */
};

/* attempt counts from 1; random is in [0, 1). */
int64_t net_backoff_ms(const struct net_backoff *b, unsigned attempt, double random,
                       int64_t retry_after_ms);

#endif
