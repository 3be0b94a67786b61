/* The HTTP stage: shapes over the wire (shape-protocol.md 1–4, 8.2–8.4).
 *
 * A number of event loops, each on a thread of its own, share the listening port
 * (server/evloop). */
#ifndef COULOMB_SERVER_HTTP_HTTP_H
#define COULOMB_SERVER_HTTP_HTTP_H

#include "server/catalog/catalog.h"
#include "server/gate/gate.h"
#include "server/obs/obs.h"
#include "server/shape/shapes.h"
#include "server/write/route.h"
#include "server/write/writer.h"

struct http_config {
    const struct log *log;
    struct obs *obs;
    struct shapes *shapes;
    struct catalog *catalog;
    struct pool *snapshot_pool; /* subsets are read there */
    int first_row_timeout_ms;   /* of a subset */
    int64_t subset_wait_ms; /* so long altogether a subset's query waits for its client */
    const char *listen_address; /* "0.0.0.0", "::", "127.0.0.1" */
    uint16_t port;              /* 0: any free one */
    uint16_t metrics_port;      /* 0: no metrics listener unless metrics_enabled */
    bool metrics_enabled;
    unsigned threads;
    const char *secret; /* NULL: insecure mode */
    bool allow_delete;  /* ELECTRIC_ENABLE_INTEGRATION_TESTING */
    int64_t long_poll_timeout_ms;
    int64_t sse_timeout_ms;   /* 60000 */
    int64_t sse_keepalive_ms; /* 21000 */
    int64_t ready_timeout_ms; /* 5000 */
    unsigned cache_max_age_s;
    unsigned cache_stale_age_s;
    unsigned max_initial_requests;
    unsigned max_existing_requests;
    int64_t send_timeout_ms; /* a client that takes nothing for so long is dropped */
    int64_t read_timeout_ms; /* for all of a request; also idle between two */
    const char *version;     /* electric-server: ElectricSQL/<version> */
    /* The gatekeeper and the write path; NULL: they are off. */
    struct gate *gate;
    struct pool *gate_pool; /* where it asks the database */
    struct writer *writer;  /* NULL: nothing can be written */
    struct routes *routes;  /* NULL: none */
    const char *rpc_schema; /* NULL: no functions can be called */
    const char *public_url; /* NULL: as the Host header says */
    bool gate_issues;       /* shape tokens are issued and accepted */
    size_t write_max_bytes; /* of a body */
    size_t write_max_mutations;
    /* Routes of the wiring (`coulomb dev`'s page and its API); may be NULL. */
    const struct http_extra *extra;
};

/* An additional route, for what `matches` takes (paths come normalised: single slashes, none at
 * the end). The handler runs on a pool worker, may block, and answers by filling the response. */
struct http_extra_request {
    const char *method;
    const char *path;
    struct slice query;
    struct slice body;
    /* Headers: the first of each name, ptr NULL when there is none. A writing route must look
     * at them, since any web page can send requests to a loopback address. */
    struct slice content_type;
    struct slice origin;
    struct slice host;
};

struct http_extra_response {
    int status;
    const char *content_type; /* constant */
    struct buf body;
};

struct http_extra {
    void *ctx;
    struct pool *pool; /* where handlers run */
    bool (*matches)(void *ctx, const char *method, const char *path);
    void (*handle)(void *ctx, PGconn *conn, const struct http_extra_request *request,
                   struct http_extra_response *response);
};

struct http;

/* Binds and starts the threads; the sequencer need not run yet. ERR_IO with the port and the
 * reason. */
int http_start(const struct http_config *config, struct http **out, struct err *err);
uint16_t http_port(const struct http *h);
uint16_t http_metrics_port(const struct http *h);
/* Ends within timeout_ms: stops accepting, answers waiting live requests (up-to-date), lets
 * bodies in flight finish as long as there is time, closes, joins the threads. */
void http_stop(struct http *h, int64_t timeout_ms);
/* Calls http_stop. After the sequencer's thread has ended and the catalog's pool was freed: both
 * may still call back until then. */
void http_free(struct http *h);

#endif
