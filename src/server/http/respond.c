/* See respond.h. */
#include "server/http/respond.h"

#include <stdio.h>

#include "json/json.h"

/* 2024-10-09T00:00:00Z: cursors count from here. */
#define CURSOR_EPOCH_S      1728432000
#define CURSOR_JUMP_MAX_S   3600
#define PLAIN_CACHE_CONTROL "max-age=0, private, must-revalidate"

static bool is_read(const struct evreq *req)
{
    return evreq_method(req) == EVREQ_GET || evreq_method(req) == EVREQ_HEAD;
}

static void add_base(const struct respond_config *config, struct evreq *req,
                     const char *methods, uint64_t request_id)
{
    static const char digits[] = "0123456789abcdef";
    struct slice origin = evreq_header(req, "origin");
    char id[17] = {0};

    for (unsigned i = 0; i < 16; i++)
        id[i] = digits[request_id >> (60 - 4 * i) & 15];
    evreq_add_header(req, "electric-server", config->server);
    evreq_add_header(req, "x-request-id", id);
    evreq_add_header(req, "access-control-allow-origin", origin.len ? origin.ptr : "*");
    evreq_add_header(req, "access-control-expose-headers",
                     "electric-cursor,electric-handle,electric-has-data,electric-offset,"
                     "electric-schema,electric-up-to-date,electric-internal-known-error,"
                     "retry-after");
    evreq_add_header(req, "access-control-allow-methods", methods);
}

static void add_shape_base(const void *config, struct evreq *req, uint64_t request_id)
{
    add_base(config, req, "GET, POST, HEAD, DELETE, OPTIONS", request_id);
}

static void add_other_base(const void *config, struct evreq *req, uint64_t request_id)
{
    add_base(config, req, "GET, HEAD", request_id);
}

static void add_api_base(const void *config, struct evreq *req, uint64_t request_id)
{
    add_base(config, req, "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS", request_id);
}

void respond_base(struct evreq *req, const struct respond_config *config,
                  enum respond_route route, uint64_t request_id)
{
    evreq_on_head(req,
                  route == RESPOND_SHAPE ? add_shape_base
                  : route == RESPOND_API ? add_api_base
                                         : add_other_base,
                  config, request_id);
}

void respond_guarded(struct evreq *req)
{
    evreq_set_flag(req);
}

/* A shared cache must not show one origin what was allowed to another. */
void respond_vary(struct evreq *req)
{
    static const char *const vary[2][2] = {
        {"accept-encoding", "accept-encoding, authorization"},
        {"accept-encoding, origin", "accept-encoding, origin, authorization"}};

    evreq_add_header(req, "vary",
                     vary[evreq_header(req, "origin").len > 0][evreq_flag(req)]);
}

void respond_plain(struct evreq *req, int status, const char *content_type,
                   struct slice body)
{
    respond_vary(req);
    evreq_add_header(req, "cache-control",
                     evreq_flag(req) ? "no-store" : PLAIN_CACHE_CONTROL);
    if (content_type)
        evreq_add_header(req, "content-type", content_type);
    evreq_reply(req, status, body);
}

void respond_put_refusal(struct buf *out, const char *code, const char *message)
{
    buf_printf(out, "{\"success\":false,\"code\":\"%s\",\"message\":", code);
    json_put_untrusted(out, slice_of(message));
    buf_putc(out, '}');
}

void respond_unauthorized(struct evreq *req, const char *description, struct slice body)
{
    char challenge[256] = "Bearer realm=\"coulomb\"";

    if (description)
        snprintf(challenge, sizeof challenge,
                 "Bearer realm=\"coulomb\", error=\"invalid_token\", "
                 "error_description=\"%s\"",
                 description);
    evreq_add_header(req, "www-authenticate", challenge);
    respond_plain(req, 401, RESPOND_JSON, body);
}

void respond_allowed_headers(struct slice asked, struct buf *out)
{
    static const char *const allowed[] = {"content-type",  "if-none-match",
                                          "traceparent",   "cache-control",
                                          "authorization", "idempotency-key"};

    while (asked.len > 0) {
        const char *comma = memchr(asked.ptr, ',', asked.len);
        size_t len = comma ? (size_t)(comma - asked.ptr) : asked.len;
        struct slice name = slice_trim(slice_make(asked.ptr, len));

        asked = comma ? slice_make(comma + 1, asked.len - len - 1) : slice_make("", 0);
        for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++) {
            if (!slice_eq_nocase(name, slice_of(allowed[i])))
                continue;
            if (out->len > 0)
                buf_puts(out, ", ");
            buf_put_slice(out, name);
            break;
        }
    }
}

void respond_options(struct evreq *req)
{
    struct slice asked = evreq_header(req, "access-control-request-headers");
    struct buf allowed;

    buf_init(&allowed, 4096);
    respond_allowed_headers(asked, &allowed);
    if (allowed.len > 0 && !allowed.failed) {
        buf_putc(&allowed, '\0');
        if (!allowed.failed)
            evreq_add_header(req, "access-control-allow-headers", allowed.ptr);
    }
    buf_fini(&allowed);
    evreq_add_header(req, "access-control-max-age", "86400");
    evreq_keep_alive(req);
    evreq_reply_empty(req, 204);
}

/* --- Errors --- */

void respond_error(struct evreq *req, const struct respond_error *error)
{
    respond_vary(req);
    evreq_add_header(req, "content-type", RESPOND_JSON);
    evreq_add_header(req, "cache-control", is_read(req) ? "no-store" : "no-cache");
    if (is_read(req) || error->known)
        evreq_add_header(req, "surrogate-control", "no-store");
    if (error->retry_after_s > 0) {
        char seconds[16];

        snprintf(seconds, sizeof seconds, "%d", error->retry_after_s);
        evreq_add_header(req, "retry-after", seconds);
    }
    if (error->known)
        evreq_add_header(req, "electric-internal-known-error", "true");
    evreq_reply(req, error->status, error->body);
}

/* The members of one object of errors; returns how many there are. */
static unsigned put_errors(struct buf *out, const struct param_errors *errors,
                           bool in_subset)
{
    unsigned count = 0;

    for (unsigned i = 0; i < errors->count; i++) {
        const struct param_error *e = &errors->items[i];

        if (e->in_subset != in_subset)
            continue;
        if (count++ > 0)
            buf_putc(out, ',');
        json_put_string(out, slice_of(e->field));
        buf_puts(out, e->bare ? ":" : ":[");
        json_put_untrusted(out, slice_of(e->text));
        if (!e->bare)
            buf_putc(out, ']');
    }
    return count;
}

void respond_put_invalid(struct buf *out, const struct param_errors *errors)
{
    buf_puts(out, "{\"message\":\"Invalid request\",\"errors\":{");
    unsigned flat = put_errors(out, errors, false);
    if (flat < errors->count) {
        buf_puts(out, flat > 0 ? ",\"subset\":{" : "\"subset\":{");
        put_errors(out, errors, true);
        buf_putc(out, '}');
    }
    buf_puts(out, "}}");
}

void respond_put_message(struct buf *out, struct slice message)
{
    buf_puts(out, "{\"message\":");
    json_put_untrusted(out, message);
    buf_putc(out, '}');
}

void respond_refetch(struct evreq *req, const char *handle)
{
    char etag[RESPOND_ETAG_MAX];

    respond_vary(req);
    evreq_add_header(req, "content-type", RESPOND_JSON);
    if (handle) {
        snprintf(etag, sizeof etag, "\"%s::\"", handle);
        evreq_add_header(req, "electric-handle", handle);
        evreq_add_header(req, "etag", etag);
    }
    evreq_add_header(req, "cache-control",
                     !is_read(req) || evreq_flag(req) ? "no-cache"
                     : handle ? "public, max-age=60, must-revalidate"
                              : "public, max-age=1, must-revalidate");
    evreq_reply(req, 409, SLICE_LIT("[{\"headers\":{\"control\":\"must-refetch\"}}]"));
}

/* --- The log --- */

size_t respond_etag(const struct respond_log *answer, char out[RESPOND_ETAG_MAX])
{
    char requested[OFFSET_TEXT_MAX] = "now";
    char end[OFFSET_TEXT_MAX];

    if (answer->kind != RESPOND_NOW)
        offset_print(answer->requested, requested);
    offset_print(answer->end, end);
    int n = snprintf(out, RESPOND_ETAG_MAX, "%s:%s:%s", answer->handle, requested, end);
    return n > 0 && n < RESPOND_ETAG_MAX ? (size_t)n : 0;
}

bool respond_etag_matches(struct slice if_none_match, struct slice etag)
{
    while (if_none_match.len > 0) {
        const char *comma = memchr(if_none_match.ptr, ',', if_none_match.len);
        size_t len = comma ? (size_t)(comma - if_none_match.ptr) : if_none_match.len;
        struct slice one = slice_trim(slice_make(if_none_match.ptr, len));

        if_none_match = comma ? slice_make(comma + 1, if_none_match.len - len - 1)
                              : slice_make("", 0);
        while (one.len > 0 && one.ptr[0] == '"')
            one = slice_make(one.ptr + 1, one.len - 1);
        while (one.len > 0 && one.ptr[one.len - 1] == '"')
            one.len--;
        if (slice_eq(one, etag))
            return true;
    }
    return false;
}

/* Neither fresh nor stale beyond its life. */
static void put_limited(const struct respond_config *config,
                        const struct respond_log *answer, char *out, size_t size)
{
    static const unsigned first_s[] = {604800, 2629746};
    bool live = answer->kind == RESPOND_LIVE || answer->kind == RESPOND_SSE;
    bool first = answer->kind == RESPOND_FIRST;
    int64_t fresh_s = first ? first_s[0] : live ? 5 : (int64_t)config->cache_max_age_s;
    int64_t stale_s = first ? first_s[1] : live ? 5 : (int64_t)config->cache_stale_age_s;
    int64_t life_s = answer->life_s > 0 ? answer->life_s : 0;

    fresh_s = fresh_s < life_s ? fresh_s : life_s;
    stale_s = stale_s < life_s - fresh_s ? stale_s : life_s - fresh_s;
    snprintf(out, size, "public, max-age=%lld, stale-while-revalidate=%lld",
             (long long)fresh_s, (long long)stale_s);
}

static void put_cache_control(const struct respond_config *config,
                              const struct respond_log *answer, char *out, size_t size)
{
    long long sse_s = (long long)config->sse_timeout_ms / 1000 - 1;

    if (answer->limited) {
        put_limited(config, answer, out, size);
        return;
    }

    switch (answer->kind) {
    case RESPOND_FIRST:
        snprintf(out, size,
                 "public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746");
        return;
    case RESPOND_CATCH_UP:
    case RESPOND_NOW:
        snprintf(out, size, "public, max-age=%u, stale-while-revalidate=%u",
                 config->cache_max_age_s, config->cache_stale_age_s);
        return;
    case RESPOND_LIVE:
        snprintf(out, size, "public, max-age=5, stale-while-revalidate=5");
        return;
    case RESPOND_SSE:
        snprintf(out, size, "public, max-age=%lld", sse_s > 1 ? sse_s : 1);
        return;
    }
}

static void add_etag(struct evreq *req, const struct respond_log *answer)
{
    char etag[RESPOND_ETAG_MAX];
    char quoted[RESPOND_ETAG_MAX + 32];

    respond_etag(answer, etag);
    if (answer->control_only)
        snprintf(quoted, sizeof quoted, "\"%s:%llu\"", etag,
                 (unsigned long long)answer->unique);
    else
        snprintf(quoted, sizeof quoted, "\"%s\"", etag);
    evreq_add_header(req, "etag", quoted);
}

void respond_log_headers(struct evreq *req, const struct respond_config *config,
                         const struct respond_log *answer)
{
    bool live = answer->kind == RESPOND_LIVE || answer->kind == RESPOND_SSE;
    char text[128];

    respond_vary(req);
    evreq_add_header(req, "content-type",
                     answer->kind == RESPOND_SSE ? "text/event-stream" : RESPOND_JSON);
    put_cache_control(config, answer, text, sizeof text);
    evreq_add_header(req, "cache-control", is_read(req) ? text : "no-cache");
    add_etag(req, answer);
    evreq_add_header(req, "electric-handle", answer->handle);
    offset_print(answer->end, text);
    evreq_add_header(req, "electric-offset", text);
    evreq_add_header(req, "electric-has-data", answer->has_data ? "true" : "false");
    if (answer->up_to_date)
        evreq_add_header(req, "electric-up-to-date", "");
    if (!live && !answer->not_modified)
        evreq_add_header(req, "electric-schema", answer->schema);
    if (live) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)answer->cursor);
        evreq_add_header(req, "electric-cursor", text);
    }
    if (answer->kind == RESPOND_SSE && !answer->not_modified)
        evreq_keep_alive(req);
}

void respond_subset_headers(struct evreq *req, const char *handle, const char *schema,
                            struct offset offset)
{
    char text[OFFSET_TEXT_MAX];

    respond_vary(req);
    evreq_add_header(req, "content-type", RESPOND_JSON);
    evreq_add_header(req, "cache-control", "no-cache");
    evreq_add_header(req, "electric-snapshot", "true");
    evreq_add_header(req, "electric-handle", handle);
    offset_print(offset, text);
    evreq_add_header(req, "electric-offset", text);
    if (schema)
        evreq_add_header(req, "electric-schema", schema);
}

size_t respond_up_to_date(uint64_t lsn, char out[RESPOND_UP_TO_DATE_MAX])
{
    int n = snprintf(out, RESPOND_UP_TO_DATE_MAX,
                     "{\"headers\":{\"control\":\"up-to-date\","
                     "\"global_last_seen_lsn\":\"%llu\"}}",
                     (unsigned long long)lsn);

    return n > 0 ? (size_t)n : 0;
}

uint64_t respond_cursor(int64_t timeout_ms, int64_t now_s, struct slice previous,
                        uint64_t random)
{
    int64_t interval = timeout_ms / 1000;
    int64_t since = now_s - CURSOR_EPOCH_S;
    int64_t sent;

    if (interval <= 0)
        return 0;
    if (since < 0)
        since = 0;
    int64_t next = (since + interval - 1) / interval * interval;
    if (slice_to_i64(previous, &sent) && sent >= next &&
        sent <= INT64_MAX - CURSOR_JUMP_MAX_S)
        return (uint64_t)sent + 1 + random % CURSOR_JUMP_MAX_S;
    return (uint64_t)next;
}
