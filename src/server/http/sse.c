/* Event streams (shape-protocol.md 4.9): the same parts as a JSON body, message by message as
 * "data: <message>\n\n", with an up-to-date whenever the log's end is reached. The stream stays
 * open until sse_timeout or until the shape goes. */
#include "server/http/stage.h"

#include <errno.h>
#include <unistd.h>

#define READ_BYTES (32u * 1024)

/* Framing adds at most 8 bytes to a message of at least 2. */
#define EVENTS_MAX_BYTES (8u * HTTP_STREAM_BUDGET_BYTES)

void sse_split(struct sse_splitter *s, struct slice part, struct buf *out)
{
    size_t begin = 0;

    for (size_t i = 0; i < part.len; i++) {
        char c = part.ptr[i];

        if (s->in_string) {
            if (s->escaped)
                s->escaped = false;
            else if (c == '\\')
                s->escaped = true;
            else if (c == '"')
                s->in_string = false;
        } else if (c == '"') {
            s->in_string = true;
        } else if (c == '{' || c == '[') {
            if (s->depth++ == 0) { /* what lies between messages is left out */
                begin = i;
                buf_puts(out, "data: ");
            }
        } else if ((c == '}' || c == ']') && s->depth > 0 && --s->depth == 0) {
            buf_put(out, part.ptr + begin, i + 1 - begin);
            buf_puts(out, "\n\n");
        }
    }
    if (s->depth > 0)
        buf_put(out, part.ptr + begin, part.len - begin);
}

static int split_file(struct shape_request *r, const struct shapelog_piece *piece,
                      size_t max, struct buf *out)
{
    char bytes[READ_BYTES];
    size_t want = piece->len < max ? piece->len : max;

    want = want < sizeof bytes ? want : sizeof bytes;
    ssize_t n;
    do
        n = pread(piece->fd, bytes, want, (off_t)piece->file_pos);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return ERR_IO;
    sse_split(&r->splitter, slice_make(bytes, (size_t)n), out);
    r->position += (size_t)n;
    return 0;
}

enum part_result { PART_MORE, PART_WAIT, PART_CAUGHT_UP };

/* The part under way has ended: the next one. */
static int next_part(struct shape_request *r, enum part_result *result)
{
    if (r->found.part != SHAPELOG_NOTHING)
        r->after = r->found.end;
    r->position = 0;
    r->splitter = (struct sse_splitter){.depth = 0};
    int rc = shapelog_locate(shape_log(r->shape), r->after, &r->found, NULL);
    if (rc != 0)
        return rc;
    *result = PART_MORE;
    if (r->found.part == SHAPELOG_NOTHING)
        *result = PART_CAUGHT_UP;
    else if (r->found.part == SHAPELOG_PENDING)
        *result = PART_WAIT;
    if (*result == PART_WAIT) /* asked again from the same place */
        r->found = (struct shapelog_found){.part = SHAPELOG_NOTHING, .end = r->after};
    return 0;
}

static int take(struct shape_request *r, struct buf *out, enum part_result *result)
{
    struct shapelog_piece piece;
    bool growing;
    int rc = stream_read(r, &piece, &growing);

    *result = PART_MORE;
    if (rc != 0)
        return rc;
    if (piece.len == 0) {
        shapelog_piece_release(&piece);
        if (!growing)
            return next_part(r, result);
        *result = PART_WAIT;
        return 0;
    }
    size_t room = HTTP_STREAM_BUDGET_BYTES - out->len;
    r->unsettled = true;
    if (piece.mem) {
        size_t n = piece.len < room ? piece.len : room;

        sse_split(&r->splitter, slice_make(piece.mem, n), out);
        r->position += n;
    } else {
        rc = split_file(r, &piece, room, out);
    }
    shapelog_piece_release(&piece);
    return rc;
}

/* As many events as fit the budget. */
static int collect(struct shape_request *r, struct buf *out)
{
    enum part_result result = PART_MORE;
    char control[RESPOND_UP_TO_DATE_MAX];

    while (result == PART_MORE && out->len < HTTP_STREAM_BUDGET_BYTES) {
        int rc = take(r, out, &result);

        if (rc != 0)
            return rc;
    }
    if (result == PART_CAUGHT_UP && r->unsettled) {
        r->unsettled = false;
        buf_puts(out, "data: ");
        buf_put(out, control, respond_up_to_date(r->after.tx, control));
        buf_puts(out, "\n\n");
    }
    return out->failed;
}

static void on_drained(void *ctx)
{
    sse_resume(ctx);
}

static void finish(struct shape_request *r)
{
    shape_request_enter(r, REQUEST_ANSWERED);
    evreq_end(r->req);
}

/* True when something was sent, or the stream is over. */
static bool send(struct shape_request *r)
{
    struct buf out;

    buf_init(&out, EVENTS_MAX_BYTES);
    int rc = collect(r, &out);
    if (rc != 0) {
        buf_fini(&out);
        evreq_abort(r->req);
        return true;
    }
    bool any = out.len > 0 || !r->opened; /* the head at least */
    r->opened = true;
    if (any) {
        shape_request_enter(r, REQUEST_SSE_STREAMING);
        evreq_put(r->req, buf_slice(&out));
        evreq_flush(r->req, on_drained, r);
    }
    buf_fini(&out);
    return any;
}

void sse_resume(struct shape_request *r)
{
    for (bool armed = false;; armed = true) {
        bool gone = shape_state(r->shape) == SHAPE_GONE;

        if (shape_request_expired(r)) { /* no change that came later is shown */
            if (r->unsettled)
                evreq_abort(r->req);
            else
                finish(r);
            return;
        }
        if (send(r))
            return;
        if (gone || r->closing) {
            if (r->unsettled) /* amid a part that will not come to its end */
                evreq_abort(r->req);
            else
                finish(r);
            return;
        }
        shape_request_enter(r, REQUEST_SSE);
        if (armed)
            return;
        if (!shape_request_watch(r)) {
            finish(r);
            return;
        }
    }
}

void sse_begin(struct shape_request *r)
{
    if (evreq_method(r->req) == EVREQ_HEAD) {
        shape_request_enter(r, REQUEST_ANSWERED);
        evreq_start(r->req, 200);
        evreq_end(r->req);
        return;
    }
    shape_request_enter(r, REQUEST_SSE_STREAMING);
    r->position = 0;
    r->closing = r->loop->stopping;
    evtimer_start(&r->loop->sse_end, &r->end_timer);
    evreq_start(r->req, 200);
    sse_resume(r);
}

void sse_beat(struct shape_request *r)
{
    if (shape_request_expired(r)) {
        sse_close(r);
        return;
    }
    shape_request_enter(r, REQUEST_SSE_STREAMING);
    evreq_put(r->req, SLICE_LIT(": keep-alive\n\n"));
    evreq_flush(r->req, on_drained, r);
}

void sse_close(struct shape_request *r)
{
    if (r->state == REQUEST_SSE)
        finish(r);
    else
        r->closing = true;
}
