/*
 * What callers of net share: retry-after, backoff, escaping, what of a URL may be shown.
 */

#include <curl/curl.h>
#include <string.h>
#include <time.h>

#include "client/net/net.h"

#define RETRY_AFTER_MAX_MS 3600000
#define BACKOFF_INITIAL_MS 1000
#define BACKOFF_MAX_MS     32000
#define BACKOFF_FACTOR     2.0

static int64_t clamp_wait(int64_t ms)
{
    if (ms < 0)
        return 0;
    return ms < RETRY_AFTER_MAX_MS ? ms : RETRY_AFTER_MAX_MS;
}

int64_t net_retry_after_ms(struct slice value, int64_t wall_us)
{
    char text[64];
    uint64_t seconds;
    time_t when;

    if (value.len == 0 || value.len >= sizeof(text))
        return 0;
    if (slice_to_u64(value, &seconds))
        return seconds < RETRY_AFTER_MAX_MS / 1000 ? (int64_t)seconds * 1000
                                                   : RETRY_AFTER_MAX_MS;
    memcpy(text, value.ptr, value.len);
    text[value.len] = '\0';
    when = curl_getdate(text, NULL);
    if (when == -1)
        return 0;
    return clamp_wait(((int64_t)when - wall_us / 1000000) * 1000);
}

int64_t net_backoff_ms(const struct net_backoff *b, unsigned attempt, double random,
                       int64_t retry_after_ms)
{
    double factor = b->factor >= 1 ? b->factor : BACKOFF_FACTOR;
    double max = b->max_ms > 0 ? (double)b->max_ms : BACKOFF_MAX_MS;
    double top = b->initial_ms > 0 ? (double)b->initial_ms : BACKOFF_INITIAL_MS;
    int64_t wait;

    for (unsigned i = 1; i < attempt && top < max; i++)
        top *= factor;
    wait = (int64_t)((top < max ? top : max) * random);
    return wait > retry_after_ms ? wait : retry_after_ms;
}

void net_put_escaped(struct buf *out, struct slice s)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];

        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
            c == '-' || c == '.' || c == '_' || c == '~') {
            buf_putc(out, (char)c);
        } else {
            buf_putc(out, '%');
            buf_putc(out, hex[c >> 4]);
            buf_putc(out, hex[c & 15]);
        }
    }
}

struct slice net_url_shown(const char *url, char *buf, size_t cap)
{
    const char *host = strstr(url, "://");
    size_t scheme = host ? (size_t)(host + 3 - url) : 0;
    size_t end = strcspn(url, "?#");
    size_t slash = scheme + strcspn(url + scheme, "/?#");
    size_t from = scheme;
    size_t n = 0;

    for (size_t i = scheme; i < slash; i++) {
        if (url[i] == '@')
            from = i + 1;
    }
    for (size_t i = 0; i < end && n + 1 < cap; i++) {
        if (i < scheme || i >= from)
            buf[n++] = url[i];
    }
    if (cap > 0)
        buf[n] = '\0';
    return slice_make(buf, n);
}
