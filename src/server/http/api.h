/* What api.c, api_shape.c and api_write.c share: one call of the gatekeeper's and the write path's routes. */
#ifndef COULOMB_SERVER_HTTP_API_H
#define COULOMB_SERVER_HTTP_API_H

#include "server/http/stage.h"

#define API_ANSWER_MAX_BYTES  (32u * 1024 * 1024)
#define API_SEGMENT_MAX_BYTES 512

enum api_kind {
    API_EXCHANGE,
    API_GATEKEEPER,
    API_SHAPE,
    API_PROXY,
    API_TRANSACTIONS,
    API_RPC,
    API_ROUTE,
    API_WRONG_METHOD
};

struct api_match {
    enum api_kind kind;
    struct slice rest; /* behind the prefix: a table, a function */
    const struct route *route;
};

struct api_call {
    struct evloop_task task;
    struct http_loop *loop;
    struct evreq *req; /* NULL: the client has left */
    struct api_match match;
    bool away;
    struct token *token; /* NULL: nobody is signed in */
    char path[API_SEGMENT_MAX_BYTES * 2];

    /* EXCHANGE, GATEKEEPER, and ROUTE to a shape */
    enum gate_decision decision;
    struct err err;
    json_t *request;
    json_t *grant;
    struct slice query; /* the request's own */

    /* Writes */
    struct write_job *job;
    struct arena arena; /* of the batch */
    struct write_batch batch;
    size_t done;        /* transactions of it */
    struct buf answers; /* theirs, in a list */
};

/* Takes the token. NULL: answered. */
struct api_call *api_call_new(struct http_loop *loop, struct evreq *req,
                              const struct api_match *m, const char *path,
                              struct token *token);
/* Frees a call whose request has ended and that is not away. */
void api_call_free(struct api_call *call);
/* Answers, and empties the body; may free the call. */
void api_reply(struct api_call *call, int status, struct buf *body);
/* Answers {"success":false,…} and counts it. */
void api_refuse(struct http_loop *loop, struct evreq *req, enum obs_refusal reason,
                int status, const char *code, const char *message);

/* What could not be decided: err is told to the log, to the client no more than whether to retry. */
void api_refuse_failed(struct http_loop *loop, struct evreq *req, const char *table,
                       const struct err *err);
/* Has `ask` run on a thread of the gatekeeper's pool, which ends with api_asked, and then, on the
 * call's loop, `decided`: that clears `away`, and frees the call if its client has left. */
void api_ask(struct api_call *call, pool_job_fn *ask,
             void (*decided)(struct evloop_task *task));
void api_asked(struct api_call *call);

/* api_shape.c: ROUTE to a shape. Takes the token. */
void api_shape(struct http_loop *loop, struct evreq *req, const struct api_match *m,
               const char *path, struct slice query, struct token *token);

/* api_write.c: TRANSACTIONS, RPC, and ROUTE but for shapes. */
void api_write(struct api_call *call);

#endif
