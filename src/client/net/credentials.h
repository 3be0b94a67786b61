/* Who asks: headers and query parameters that prove it, shared by everything of a client that goes
 * to the same place (streams, writes), renewed once however many requests were refused.
 *
 *   none ──want──▶ renewing ──answer──▶ held ──refused, or expired, and wanted──▶ renewing
 *                     │
 *                     └──failed: everybody who waits is told──▶ none
 *
 * Owner's thread. Reference-counted. */
#ifndef COULOMB_CLIENT_NET_CREDENTIALS_H
#define COULOMB_CLIENT_NET_CREDENTIALS_H

#include "client/net/net.h"

struct credentials;
struct coulomb_credentials;

struct credentials_options {
    /* Makes new ones: calls credentials_add_header() and credentials_add_param() and returns 0, or
     * returns COULOMB_PENDING and calls credentials_answer() later, having added them, or returns
     * a negative code. Called in coulomb_poll() and never while an earlier call is unanswered.
     * refused: a server said 401 or 403 to the ones before. */
    int (*renew)(struct credentials *cr, bool refused, void *arg);
    void (*drop)(void *arg); /* arg is not needed any more; may be NULL */
    void *arg;
    bool
        each_request; /* ask again for every request (cheap ones) instead of keeping them */
    unsigned refusals_max; /* in a row, without a request that worked; 0: 3 */
};

/* Copies the options. One reference. */
int credentials_new(coulomb_client *c, const struct credentials_options *options,
                    struct credentials **out);
struct credentials *credentials_retain(struct credentials *cr);
void credentials_release(struct credentials *cr); /* NULL is fine */

/* Inside renew, or before credentials_answer(). Copied. A name that is there is replaced. */
int credentials_add_header(struct credentials *cr, const char *name, const char *value);
int credentials_add_param(struct credentials *cr, const char *name, const char *value);
/* The client's clock at which they are no longer good; they are renewed when wanted after that. */
void credentials_expire_at(struct credentials *cr, int64_t deadline_ms);
/* Answers a pending renew: 0, or a negative code with a sentence (may be NULL). Exactly once. */
void credentials_answer(struct credentials *cr, int code, const char *message);

/* Those that are held are not used any more; new ones that are being made are. */
void credentials_invalidate(struct credentials *cr);
/* The same thing under its public name (coulomb/credentials.h). */
static inline struct credentials *credentials_inner(struct coulomb_credentials *cr)
{
    return (struct credentials *)(void *)cr;
}

/* What one request uses: borrowed until the next call into credentials. generation names them to
 * the functions below. */
struct credentials_set {
    const struct net_header *headers;
    size_t header_count;
    const struct net_header *params;
    size_t param_count;
    uint64_t generation;
};

/* Somebody who waits; embedded, so that waiting never fails. */
struct credentials_waiter {
    struct list link;
    /* Called in a poll, once: code 0, or why there are none (e lives for the call). */
    void (*ready)(struct credentials_waiter *w, int code, const coulomb_error *e);
};

void credentials_waiter_init(struct credentials_waiter *w);
/* 0: *set is filled in. COULOMB_PENDING: w is called later; then ask again. */
int credentials_want(struct credentials *cr, struct credentials_waiter *w,
                     struct credentials_set *set);
void credentials_cancel(struct credentials_waiter *w); /* also one that does not wait */
/* A server said 401 or 403 to that generation. True: ask again, a renewal is (or was) due. False:
 * that happened too often in a row, to all or to this asker, and the refusal stands; later requests begin
 * afresh. *mine counts the asker's own refusals, and is 0 again when it is answered otherwise: what others
 * are granted does not help who is forbidden. */
bool credentials_refused(struct credentials *cr, uint64_t generation, unsigned *mine);
/* A request with them was answered otherwise. */
void credentials_worked(struct credentials *cr, uint64_t generation);

#endif
