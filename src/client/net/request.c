/*
 * One request: curl's handle, its callbacks, what its end means.
 *
 * curl gives header lines one by one, of every answer on the way: of interim ones (1xx) and of
 * redirects too. The head is whole at the blank line of an answer that is neither; lines after that
 * are trailers, which nobody needs.
 */

#include "client/net/internal.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/clock.h"

#define CONNECT_TIMEOUT_MS 10000
#define HEAD_TIMEOUT_MS    60000
#define IDLE_TIMEOUT_MS    60000
#define BODY_BYTES_MAX     (16u * 1024 * 1024)
#define HEAD_BYTES_MAX     (256u * 1024) /* curl itself takes 300 KiB at most */
#define DEAD_MS            30000u
#define REDIRECTS_MAX      5L
#define URL_BYTES_MAX      (8u * 1024 * 1024)

static void *take_memory(struct net_request *r, void *ptr, size_t n)
{
    return r->allocator.realloc_fn(ptr, n > 0 ? n : 1, r->allocator.arg);
}

static void give_memory(struct net_request *r, void *ptr)
{
    if (ptr)
        r->allocator.free_fn(ptr, r->allocator.arg);
}

/* --- The head ------------------------------------------------------------------------------- */

int net_head_status(const struct net_head *h)
{
    return h->status;
}

struct slice net_head_get(const struct net_head *h, const char *name)
{
    struct slice found = slice_make(NULL, 0);

    for (size_t at = 0; at < h->len;) {
        const char *n = h->text + at;
        const char *value = n + strlen(n) + 1;

        if (strcasecmp(n, name) == 0)
            found = slice_of(value);
        at = (size_t)(value - h->text) + strlen(value) + 1;
    }
    return found;
}

static size_t fail(struct net_request *r, enum net_end end, const char *detail)
{
    r->failing = true;
    r->end = end;
    r->why = detail; /* curl will put words of its own into r->detail */
    return 0;        /* which it takes for an error of the callback */
}

/* Of fewer bytes than the text has when the head grew over its maximum or memory is out. */
static bool head_put(struct net_request *r, struct slice s)
{
    struct net_head *h = &r->head;

    if (h->cap - h->len <= s.len) {
        size_t cap = (h->len + s.len + 1) * 2;
        char *fresh = take_memory(r, h->text, cap < 1024 ? 1024 : cap);

        if (!fresh)
            return false;
        h->text = fresh;
        h->cap = cap < 1024 ? 1024 : cap;
    }
    for (size_t i = 0; i < s.len; i++)
        h->text[h->len++] = s.ptr[i] != '\0' ? s.ptr[i] : ' ';
    h->text[h->len++] = '\0';
    return true;
}

/* "HTTP/1.1 200 OK", "HTTP/2 200": the number behind the first blank. */
static int status_of(struct slice line)
{
    const char *blank = memchr(line.ptr, ' ', line.len);
    int status = 0;

    if (!blank)
        return 0;
    for (const char *p = blank + 1; p < line.ptr + line.len && *p >= '0' && *p <= '9';
         p++)
        status = status > 99 ? 0 : status * 10 + (*p - '0');
    return status;
}

static bool is_redirect(const struct net_request *r)
{
    int status = r->head.status;

    return r->follows && net_head_get(&r->head, "location").ptr &&
           (status == 301 || status == 302 || status == 303 || status == 307 ||
            status == 308);
}

static int64_t after(int64_t wait_ms)
{
    return wait_ms < 0 ? INT64_MAX : clock_mono_ms() + wait_ms;
}

static bool verdict_ends(struct net_request *r, enum net_verdict v)
{
    if (v == NET_REFUSE)
        fail(r, NET_REFUSED, "");
    else if (v == NET_FAIL)
        fail(r, NET_NO_MEMORY, "");
    return v == NET_REFUSE || v == NET_FAIL;
}

static bool head_whole(struct net_request *r)
{
    if (r->head.status < 200 || is_redirect(r))
        return true;
    r->head_done = true;
    r->deadline_ms = after(r->idle_timeout_ms);
    return !verdict_ends(r, r->callbacks.head(&r->head, r->arg));
}

static size_t on_header(char *bytes, size_t size, size_t count, void *arg)
{
    struct net_request *r = arg;
    size_t n = size * count;
    struct slice line = slice_trim(slice_make(bytes, n));
    const char *colon;

    if (r->head_done)
        return n;
    if (line.len == 0)
        return head_whole(r) ? n : 0;
    if (line.len > 5 && memcmp(line.ptr, "HTTP/", 5) == 0) {
        r->head.len = 0;
        r->head.status = status_of(line);
        return n;
    }
    colon = memchr(line.ptr, ':', line.len);
    if (!colon || bytes[0] == ' ' || bytes[0] == '\t')
        return n; /* folded lines are obsolete, and nothing of ours folds */
    if (r->head.len + line.len + 2 > r->head_bytes_max)
        return fail(r, NET_TOO_LARGE, "the answer's head is over its maximum");
    if (!head_put(r, slice_trim(slice_make(line.ptr, (size_t)(colon - line.ptr)))) ||
        !head_put(r, slice_trim(slice_make(colon + 1,
                                           line.len - (size_t)(colon + 1 - line.ptr)))))
        return fail(r, NET_NO_MEMORY, "");
    return n;
}

/* --- The body --------------------------------------------------------------------------------- */

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct net_request *r = arg;
    size_t n = size * count;
    enum net_verdict v;

    if (r->failing) /* libcurl goes on after a failure within curl_easy_pause() */
        return 0;
    if (!r->head_done || n == 0)
        return n;
    if (n > r->body_bytes_max - r->body_seen)
        return fail(r, NET_TOO_LARGE, "the answer's body is over its maximum");
    v = r->callbacks.body(slice_make(bytes, n), r->arg);
    if (verdict_ends(r, v))
        return 0;
    if (v == NET_PAUSE) {
        r->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    r->body_seen += n;
    r->deadline_ms = after(r->idle_timeout_ms);
    return n;
}

static enum net_end end_of(const struct net_request *r, CURLcode code)
{
    curl_off_t sent = 0;

    switch ((int)code) {
    case CURLE_OK:
        return r->head_done ? NET_DONE : NET_BROKEN;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
        return NET_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT:
        curl_easy_getinfo(r->easy, CURLINFO_PRETRANSFER_TIME_T, &sent);
        return sent > 0 ? NET_TIMEOUT : NET_UNREACHABLE;
    case CURLE_OUT_OF_MEMORY:
        return NET_NO_MEMORY;
    default:
        return NET_BROKEN;
    }
}

void request_say(struct net_request *r, const char *detail)
{
    size_t n = strlen(detail);

    n = n < sizeof(r->detail) ? n : sizeof(r->detail) - 1;
    memmove(r->detail, detail, n);
    r->detail[n] = '\0';
}

enum net_end request_outcome(struct net_request *r, CURLcode code)
{
    if (r->failing)
        request_say(r, r->why);
    else if (code == CURLE_OK)
        request_say(r, r->head_done ? "" : "no answer came");
    else if (r->detail[0] == '\0')
        request_say(r, curl_easy_strerror(code));
    return r->failing ? r->end : end_of(r, code);
}

/* --- Set-up ------------------------------------------------------------------------------------- */

static const char *method_name(enum net_method m)
{
    static const char *const names[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"};

    return names[m];
}

/* A line break in a header would make two of it. */
static bool header_is_sound(const struct net_header *h)
{
    return h->name && h->value && h->name[0] != '\0' && !strpbrk(h->name, "\r\n: \t") &&
           !strpbrk(h->value, "\r\n");
}

static int put_headers(struct net_request *r, const struct net_options *o,
                       const char **detail)
{
    for (size_t i = 0; i < o->header_count; i++) {
        const struct net_header *h = &o->headers[i];
        struct curl_slist *longer;
        struct buf line;

        if (!header_is_sound(h)) {
            *detail = "a header's name or value has characters that headers can't have";
            return COULOMB_E_ARGUMENT;
        }
        buf_init_from(&line, SIZE_MAX / 4, &r->net->client->heap->shared);
        buf_puts(&line, h->name);
        /* "name:" alone would have curl leave the header out. */
        buf_puts(&line, h->value[0] != '\0' ? ": " : ";");
        buf_puts(&line, h->value);
        buf_putc(&line, '\0');
        longer = line.failed ? NULL : curl_slist_append(r->headers, line.ptr);
        buf_fini(&line);
        if (!longer)
            return COULOMB_E_MEMORY;
        r->headers = longer;
    }
    return COULOMB_OK;
}

/* curl would else ask "100-continue" for larger bodies and wait a second for the answer. */
static int put_body(struct net_request *r, const struct net_options *o)
{
    struct curl_slist *longer;

    if (o->method == NET_GET || o->method == NET_HEAD)
        return COULOMB_OK;
    r->body = take_memory(r, NULL, o->body_bytes);
    if (!r->body)
        return COULOMB_E_MEMORY;
    if (o->body_bytes > 0)
        memcpy(r->body, o->body, o->body_bytes);
    longer = curl_slist_append(r->headers, "Expect:");
    if (!longer)
        return COULOMB_E_MEMORY;
    r->headers = longer;
    curl_easy_setopt(r->easy, CURLOPT_POSTFIELDS, r->body);
    curl_easy_setopt(r->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)o->body_bytes);
    curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, method_name(o->method));
    return COULOMB_OK;
}

/* A connection whose other end is gone without a word is noticed: while something waits to be
 * acknowledged by the first, else by the probes of keep-alive. For HTTP/2 nothing else would, since
 * giving up a request leaves its connection to the next. */
static int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
    (void)arg;
    (void)purpose;
#ifdef TCP_USER_TIMEOUT
    unsigned ms = DEAD_MS;

    /* Where it is not to be had, things take longer. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
#else
    (void)fd;
#endif
    return CURL_SOCKOPT_OK;
}

static void put_behaviour(struct net_request *r, const struct net_options *o)
{
    CURL *e = r->easy;
    bool tls = strncasecmp(o->url, "https:", 6) == 0;

    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http,https");
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, r->follows ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
    curl_easy_setopt(e, CURLOPT_NOBODY, o->method == NET_HEAD ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    /* Rather one connection for many streams, where it can hold them. */
    curl_easy_setopt(e, CURLOPT_PIPEWAIT, tls ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, o->once ? 1L : 0L);
    if (!o->uncompressed)
        curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, 30L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, 10L);
    curl_easy_setopt(e, CURLOPT_SOCKOPTFUNCTION, on_socket);
#if LIBCURL_VERSION_NUM >= 0x075700
    /* Giving up while a name is looked up does not wait for the resolver. */
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
#endif
    curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(
        e, CURLOPT_CONNECTTIMEOUT_MS,
        (long)(o->connect_timeout_ms > 0 ? o->connect_timeout_ms : CONNECT_TIMEOUT_MS));
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS,
                     (long)(o->total_timeout_ms > 0 ? o->total_timeout_ms : 0));
}

static int put_all(struct net_request *r, const struct net_options *o,
                   const char **detail)
{
    CURL *e = r->easy;
    int code = put_headers(r, o, detail);

    if (code == COULOMB_OK)
        code = put_body(r, o);
    if (code != COULOMB_OK)
        return code;
    put_behaviour(r, o);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, r->headers);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, r);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(e, CURLOPT_PRIVATE, r);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, r->detail);
    if (curl_easy_setopt(e, CURLOPT_URL, o->url) != CURLE_OK ||
        curl_easy_setopt(e, CURLOPT_USERAGENT, "libcoulomb") != CURLE_OK ||
        (o->ca_file && curl_easy_setopt(e, CURLOPT_CAINFO, o->ca_file) != CURLE_OK))
        return COULOMB_E_MEMORY;
    return COULOMB_OK;
}

/* What curl would only find out later, and say less clearly. */
static const char *url_fault(const char *url)
{
    if (!url || url[0] == '\0')
        return "there is no URL";
    if (strlen(url) > URL_BYTES_MAX)
        return "the URL is longer than 8 MiB";
    if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)
        return "the URL does not begin with http:// or https://";
    for (const char *p = url; *p; p++) {
        if ((unsigned char)*p <= ' ' || *p == 0x7f)
            return "the URL has blanks or control characters, which must be escaped";
    }
    return NULL;
}

static size_t or_else(size_t given, size_t otherwise)
{
    return given > 0 ? given : otherwise;
}

static int64_t or_default(int64_t given_ms, int64_t otherwise_ms)
{
    return given_ms != 0 ? given_ms : otherwise_ms;
}

int request_new(struct net *n, const struct net_options *o,
                const struct net_callbacks *callbacks, void *arg,
                struct net_request **out, const char **detail)
{
    const char *unused;
    struct net_request *r;
    int code = COULOMB_E_MEMORY;

    detail = detail ? detail : &unused;
    *detail = url_fault(o->url);
    if (*detail)
        return COULOMB_E_ARGUMENT;
    r = heap_shared(n->client->heap, NULL, sizeof(*r));
    if (!r)
        return COULOMB_E_MEMORY;
    *r = (struct net_request){
        .net = n,
        .allocator = n->client->heap->allocator,
        .callbacks = *callbacks,
        .arg = arg,
        .follows = o->method == NET_GET || o->method == NET_HEAD,
        .body_bytes_max = or_else(o->body_bytes_max, BODY_BYTES_MAX),
        .head_bytes_max = or_else(o->head_bytes_max, HEAD_BYTES_MAX),
        .head_timeout_ms = or_default(o->head_timeout_ms, HEAD_TIMEOUT_MS),
        .idle_timeout_ms = or_default(o->idle_timeout_ms, IDLE_TIMEOUT_MS)};
    atomic_init(&r->refs, 2);
    list_init(&r->inbox);
    list_init(&r->running);
    r->easy = curl_easy_init();
    if (r->easy)
        code = put_all(r, o, detail);
    if (code != COULOMB_OK) {
        request_close(r);
        give_memory(r, r->head.text);
        give_memory(r, r);
        return code;
    }
    *out = r;
    return COULOMB_OK;
}

void request_close(struct net_request *r)
{
    if (r->easy)
        curl_easy_cleanup(r->easy);
    curl_slist_free_all(r->headers);
    give_memory(r, r->body);
    r->easy = NULL;
    r->headers = NULL;
    r->body = NULL;
}

void net_request_release(struct net_request *r)
{
    if (!r || atomic_fetch_sub(&r->refs, 1) > 1)
        return;
    give_memory(r, r->head.text);
    give_memory(r, r);
}
