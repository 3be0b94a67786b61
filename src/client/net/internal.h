/* Internal to net: the thread and its requests. */
#ifndef COULOMB_CLIENT_NET_INTERNAL_H
#define COULOMB_CLIENT_NET_INTERNAL_H

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "client/net/net.h"

struct net_head {
    int status;
    char *text; /* "name\0value\0" … */
    size_t len;
    size_t cap;
};

/* A request is in the inbox when somebody wants something of it, and in running between start and
 * end. One reference is its maker's, one the thread's until the end. */
struct net_request {
    struct net *net;
    coulomb_allocator allocator; /* it may outlive the client */
    atomic_uint refs;
    struct list inbox; /* under net->mutex, like the four below */
    bool start;
    bool resume;
    bool cancel;
    bool ended;
    /* The I/O thread's, once started. */
    struct list running;
    CURL *easy;
    struct curl_slist *headers;
    void *body;
    struct net_callbacks callbacks;
    void *arg;
    struct net_head head;
    bool head_done;
    bool paused;
    bool follows; /* redirects */
    bool failing; /* a callback of ours ended it, as `end` and `why` say */
    enum net_end end;
    const char *why;
    size_t body_seen;
    size_t body_bytes_max;
    size_t head_bytes_max;
    int64_t head_timeout_ms;
    int64_t idle_timeout_ms;
    int64_t deadline_ms; /* of the head, or of the next byte of body */
    char detail[CURL_ERROR_SIZE];
};

struct net {
    coulomb_client *client;
    CURLM *multi; /* the I/O thread's; others only wake it */
    pthread_t thread;
    pthread_mutex_t mutex;
    struct list inbox;
    bool stopping;
    bool woke;
    /* The I/O thread's. */
    struct list running;
    int64_t asleep_us; /* how long the machine had slept, when last asked */
};

/* request.c */

/* curl's handle with everything set. 0, COULOMB_E_MEMORY, COULOMB_E_ARGUMENT with *detail. */
int request_new(struct net *n, const struct net_options *o,
                const struct net_callbacks *callbacks, void *arg,
                struct net_request **out, const char **detail);
/* The transfer is over in curl's eyes: what that means. */
enum net_end request_outcome(struct net_request *r, CURLcode code);
/* Sets the detail that the end is told with. */
void request_say(struct net_request *r, const char *detail);
/* Frees what only the transfer needs; the head stays. */
void request_close(struct net_request *r);

#endif
