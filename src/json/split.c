/*
 * The splitter: where do the elements of an array end, of which only a piece is there?
 *
 *   before ──[──▶ first ──element──▶ after ──,──▶ next ──element──▶ after ──]──▶ closed
 *                   └──────]──────────────────────────────────────────────────────▲
 *
 * Within an element brackets are counted, not matched: the reader that gets its text does that. An
 * element that is no object and no array ends before the comma or bracket behind it.
 */

#include "json/json.h"

#include "base/err.h"
#include "json/scan.h"

enum split_state {
    BEFORE, /* nothing but blanks so far */
    FIRST,  /* behind the bracket: an element or the end */
    NEXT,   /* behind a comma: an element */
    INSIDE, /* of an element */
    AFTER,  /* an element: a comma or the end */
    CLOSED,
    BROKEN
};

void json_splitter_init_from(struct json_splitter *s, size_t max_bytes,
                             const struct mem *mem)
{
    memset(s, 0, sizeof(*s));
    buf_init_from(&s->pending, max_bytes, mem);
    s->state = BEFORE;
}

void json_splitter_init(struct json_splitter *s, size_t max_bytes)
{
    json_splitter_init_from(s, max_bytes, NULL);
}

void json_splitter_fini(struct json_splitter *s)
{
    buf_fini(&s->pending);
}

static enum json_split broken(struct json_splitter *s, const char *why)
{
    s->state = BROKEN;
    s->error = why;
    return JSON_SPLIT_ERROR;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* The end of the element in these bytes, or n when it is not there. *done: it is. */
static size_t find_end(struct json_splitter *s, const char *p, size_t n, bool *done)
{
    size_t i = 0;

    while (i < n) {
        char c;

        if (s->in_string && !s->escaped)
            i += json_clean_run(slice_make(p + i, n - i));
        if (i == n)
            break;
        c = p[i];
        if (s->in_string) {
            if (s->escaped)
                s->escaped = false;
            else if (c == '\\')
                s->escaped = true;
            else if (c == '"')
                s->in_string = false;
            i++;
            continue;
        }
        if (s->depth == 0 && (c == ',' || c == ']')) {
            *done = true;
            return i;
        }
        i++;
        if (c == '"')
            s->in_string = true;
        else if (c == '{' || c == '[')
            s->depth++;
        else if ((c == '}' || c == ']') && s->depth > 0 && --s->depth == 0) {
            *done = true;
            return i;
        }
    }
    return n;
}

static enum json_split inside(struct json_splitter *s, struct slice *input,
                              struct slice *element)
{
    bool done = false;
    size_t n = find_end(s, input->ptr, input->len, &done);
    struct slice part = slice_make(input->ptr, n);

    *input = slice_make(input->ptr + n, input->len - n);
    if (done && s->pending.len == 0) {
        *element = part;
    } else {
        buf_put_slice(&s->pending, part);
        if (s->pending.failed)
            return broken(s,
                          s->pending.failed == ERR_LIMIT ? "too large" : "out of memory");
        *element = buf_slice(&s->pending);
    }
    if (!done)
        return JSON_SPLIT_MORE;
    s->state = AFTER;
    return JSON_SPLIT_ELEMENT;
}

/* One byte between elements. */
static void between(struct json_splitter *s, char c)
{
    switch (s->state) {
    case BEFORE:
        if (c == '[')
            s->state = FIRST;
        else
            broken(s, "not an array");
        break;
    case AFTER:
        if (c == ',')
            s->state = NEXT;
        else if (c == ']')
            s->state = CLOSED;
        else
            broken(s, "a comma or the end of the array is missing");
        break;
    default:
        broken(s, "bytes behind the array");
        break;
    }
}

enum json_split json_split(struct json_splitter *s, struct slice *input,
                           struct slice *element)
{
    if (s->state == AFTER)
        buf_reset(&s->pending, 64 * 1024);
    while (s->state != INSIDE && s->state != BROKEN && input->len > 0) {
        char c = input->ptr[0];
        bool element_begins = s->state == FIRST || s->state == NEXT;

        if (!is_blank(c) && s->state == FIRST && c == ']') {
            s->state = CLOSED;
        } else if (!is_blank(c) && element_begins) {
            if (c == ',' || c == ']')
                return broken(s, "an element is missing");
            s->state = INSIDE;
            break;
        } else if (!is_blank(c)) {
            between(s, c);
        }
        *input = slice_make(input->ptr + 1, input->len - 1);
    }
    if (s->state == BROKEN)
        return JSON_SPLIT_ERROR;
    if (s->state == INSIDE)
        return inside(s, input, element);
    return s->state == CLOSED ? JSON_SPLIT_END : JSON_SPLIT_MORE;
}

bool json_split_complete(const struct json_splitter *s)
{
    return s->state == CLOSED || s->state == BEFORE;
}
