/* Headers and bodies of answers (shape-protocol.md 2). */
#ifndef COULOMB_SERVER_HTTP_RESPOND_H
#define COULOMB_SERVER_HTTP_RESPOND_H

#include "base/offset.h"
#include "server/evloop/evloop.h"
#include "server/http/params.h"

#define RESPOND_JSON "application/json; charset=utf-8"
/* handle, two offsets and a number, quoted */
#define RESPOND_ETAG_MAX (64 + 2 * OFFSET_TEXT_MAX + 32)

struct respond_config {
    const char *server; /* electric-server */
    unsigned cache_max_age_s;
    unsigned cache_stale_age_s;
    int64_t long_poll_timeout_ms;
    int64_t sse_timeout_ms;
};

enum respond_route { RESPOND_SHAPE, RESPOND_OTHER, RESPOND_API };

/* Promises the headers that every answer has, CORS included, to whatever answers the request.
 * request_id: 64 random bits. */
void respond_base(struct evreq *req, const struct respond_config *config,
                  enum respond_route route, uint64_t request_id);

/* The answers depend on who asks: caches are told so, and keep nothing that respond_log_headers does
 * not say. Before any answer is made. */
void respond_guarded(struct evreq *req);
/* What the answer depends on beside its URL; answers that are not made here call it. */
void respond_vary(struct evreq *req);

/* --- Plain answers --- */

/* Root, 404, 401 and the like; content_type may be NULL. */
void respond_plain(struct evreq *req, int status, const char *content_type,
                   struct slice body);
/* {"success":false,"code":…,"message":…} */
void respond_put_refusal(struct buf *out, const char *code, const char *message);
/* 401 with a challenge (RFC 6750, 3); description NULL: no token was sent. */
void respond_unauthorized(struct evreq *req, const char *description, struct slice body);
/* The preflight of the shape route. */
void respond_options(struct evreq *req);
/* True when each of the comma-separated names may be allowed; writes those that may. */
void respond_allowed_headers(struct slice asked, struct buf *out);

/* --- Errors of the shape route --- */

struct respond_error {
    int status;
    struct slice body; /* JSON */
    int retry_after_s; /* 0: none */
    bool known;        /* electric-internal-known-error */
};

void respond_error(struct evreq *req, const struct respond_error *error);
/* {"message":"Invalid request","errors":{…}} */
void respond_put_invalid(struct buf *out, const struct param_errors *errors);
/* {"message":<message>} */
void respond_put_message(struct buf *out, struct slice message);
/* 409; handle NULL: not known. */
void respond_refetch(struct evreq *req, const char *handle);

/* --- The log --- */

enum respond_class {
    RESPOND_FIRST,    /* offset=-1 */
    RESPOND_CATCH_UP, /* other non-live */
    RESPOND_NOW,
    RESPOND_LIVE,
    RESPOND_SSE
};

struct respond_log {
    enum respond_class kind;
    const char *handle;
    const char *schema; /* sent with non-live answers */
    struct offset requested;
    struct offset end; /* electric-offset */
    bool up_to_date;
    bool has_data;
    bool not_modified;
    uint64_t cursor; /* live */
    uint64_t unique; /* of a control-only answer */
    bool control_only;
    bool limited; /* no cache may keep it longer than */
    int64_t life_s;
};

/* The headers of a 200 or 304; the caller sends the body. */
void respond_log_headers(struct evreq *req, const struct respond_config *config,
                         const struct respond_log *answer);
/* The headers of a subset's 200; schema may be NULL. */
void respond_subset_headers(struct evreq *req, const char *handle, const char *schema,
                            struct offset offset);
/* The three-part ETag without its quotes; returns its length. */
size_t respond_etag(const struct respond_log *answer, char out[RESPOND_ETAG_MAX]);
/* Whether an If-None-Match header lists it. */
bool respond_etag_matches(struct slice if_none_match, struct slice etag);
/* {"headers":{"control":"up-to-date","global_last_seen_lsn":"<lsn>"}}; returns its length. */
#define RESPOND_UP_TO_DATE_MAX 96
size_t respond_up_to_date(uint64_t lsn, char out[RESPOND_UP_TO_DATE_MAX]);
/* 2.4; now_s since the Unix epoch, random: any 64 bits. */
uint64_t respond_cursor(int64_t timeout_ms, int64_t now_s, struct slice previous,
                        uint64_t random);

#endif
