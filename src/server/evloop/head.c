/* See head.h. */
#include "server/evloop/head.h"

#include <stdio.h>
#include <time.h>

#include "server/evloop/status.h"

struct slice head_date_now(struct head_date *date, int64_t now_s)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t at = (time_t)now_s;
    struct tm t;

    if ((date->at_s != now_s || date->text[0] == '\0') && gmtime_r(&at, &t)) {
        date->at_s = now_s;
        snprintf(date->text, sizeof date->text, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
                 days + 3 * t.tm_wday, t.tm_mday % 100, months + 3 * t.tm_mon,
                 (t.tm_year + 1900) % 10000, t.tm_hour % 100, t.tm_min % 100,
                 t.tm_sec % 100);
    }
    return slice_of(date->text);
}

size_t head_begin(const struct head_kind *kind, int status, char out[HEAD_LINE_MAX])
{
    int n = snprintf(out, HEAD_LINE_MAX, "HTTP/%u.%u %d %s\r\n", kind->major, kind->minor,
                     status, status_reason(status));

    return n > 0 && n < HEAD_LINE_MAX ? (size_t)n : 0;
}

void head_add(struct buf *out, struct slice name, struct slice value)
{
    if (value.len > 0 &&
        (memchr(value.ptr, '\r', value.len) || memchr(value.ptr, '\n', value.len)))
        return;
    buf_put_slice(out, name);
    buf_put(out, ": ", 2);
    buf_put_slice(out, value);
    buf_put(out, "\r\n", 2);
}

void head_end(struct buf *out, const struct head_kind *kind, struct slice date)
{
    bool old = kind->major == 1 && kind->minor == 0;

    if (kind->length >= 0) {
        buf_puts(out, "content-length: ");
        buf_put_u64(out, (uint64_t)kind->length);
        buf_put(out, "\r\n", 2);
    }
    if (kind->chunked)
        buf_puts(out, "transfer-encoding: chunked\r\n");
    if (kind->closing)
        buf_puts(out, "connection: close\r\n");
    else if (kind->keeping || old)
        buf_puts(out, "connection: keep-alive\r\n");
    head_add(out, SLICE_LIT("date"), date);
    buf_put(out, "\r\n", 2);
}

size_t head_chunk(size_t len, char out[HEAD_CHUNK_MAX])
{
    int n = snprintf(out, HEAD_CHUNK_MAX, "%zx\r\n", len);

    return n > 0 && n < HEAD_CHUNK_MAX ? (size_t)n : 0;
}
