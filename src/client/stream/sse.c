/*
 * Event streams. Lines are gathered as they come, fields are taken off them, a blank line ends the
 * event.
 */

#include "client/stream/sse.h"

#include <string.h>

#define KEEP_BYTES 65536

void sse_init(struct sse *s, size_t max_bytes, const struct mem *mem)
{
    memset(s, 0, sizeof(*s));
    buf_init_from(&s->line, max_bytes, mem);
    buf_init_from(&s->data, max_bytes, mem);
}

void sse_fini(struct sse *s)
{
    buf_fini(&s->line);
    buf_fini(&s->data);
}

/* One whole line that is not blank. */
static void take_line(struct sse *s, struct slice line)
{
    static const char name[] = "data";
    const char *colon = memchr(line.ptr, ':', line.len);
    size_t n = colon ? (size_t)(colon - line.ptr) : line.len;
    struct slice value = slice_make(line.ptr + line.len, 0);

    if (n != sizeof(name) - 1 || memcmp(line.ptr, name, n) != 0)
        return;
    if (colon)
        value = slice_make(colon + 1, line.len - n - 1);
    if (value.len > 0 && value.ptr[0] == ' ')
        value = slice_make(value.ptr + 1, value.len - 1);
    if (s->has_data)
        buf_putc(&s->data, '\n');
    buf_put_slice(&s->data, value);
    s->has_data = true;
}

static void skip_bom(struct sse *s)
{
    static const char bom[] = "\xEF\xBB\xBF";

    if (!s->begun && s->line.len >= 3 && memcmp(s->line.ptr, bom, 3) == 0)
        buf_consume(&s->line, 3);
    s->begun = true;
}

/* At the end of a line. True: that ended an event with data. */
static bool end_line(struct sse *s)
{
    bool blank;

    skip_bom(s);
    blank = s->line.len == 0;
    if (!blank)
        take_line(s, buf_slice(&s->line));
    if (!s->line.failed)
        buf_reset(&s->line, KEEP_BYTES);
    return blank && s->has_data && !s->data.failed;
}

static size_t line_length(struct slice s)
{
    const char *lf = memchr(s.ptr, '\n', s.len);
    size_t n = lf ? (size_t)(lf - s.ptr) : s.len;
    const char *cr = memchr(s.ptr, '\r', n);

    return cr ? (size_t)(cr - s.ptr) : n;
}

bool sse_next(struct sse *s, struct slice *input, struct slice *data)
{
    if (s->given) {
        s->given = s->has_data = false;
        buf_reset(&s->data, KEEP_BYTES);
    }
    while (input->len > 0 && !s->line.failed && !s->data.failed) {
        size_t n;
        char end;

        if (s->after_cr && input->ptr[0] == '\n') {
            *input = slice_make(input->ptr + 1, input->len - 1);
            s->after_cr = false;
            continue;
        }
        s->after_cr = false;
        n = line_length(*input);
        buf_put_slice(&s->line, slice_make(input->ptr, n));
        if (n == input->len) {
            *input = slice_make(input->ptr + n, 0);
            return false;
        }
        end = input->ptr[n];
        s->after_cr = end == '\r';
        *input = slice_make(input->ptr + n + 1, input->len - n - 1);
        if (end_line(s)) {
            *data = buf_slice(&s->data);
            s->given = true;
            return true;
        }
    }
    return false;
}
