/* The body of a JSON answer: "[", the located part in pieces, the control message, "]".
 *
 * Pieces of files are handed to the kernel, pieces of memory are referenced, at most
 * HTTP_STREAM_BUDGET_BYTES of them before the client has taken the last ones. A chunk that the
 * snapshot is still writing is followed as it grows; when its shape goes meanwhile, the
 * connection is closed in the middle, since a complete array would pass for the whole. */
#include "server/http/stage.h"

#include <stdlib.h>

enum fill_result { FILL_SENT, FILL_NOTHING_YET };

int stream_read(struct shape_request *r, struct shapelog_piece *piece, bool *growing)
{
    struct shapelog_shape *log = shape_log(r->shape);
    enum shapelog_growth growth = SHAPELOG_CLOSED;
    int rc = 0;

    *piece = (struct shapelog_piece){.len = 0};
    if (r->found.part == SHAPELOG_LOG)
        rc = shapelog_read_log(log, &r->found, r->position, piece, NULL);
    else if (r->found.part == SHAPELOG_SNAPSHOT)
        rc = shapelog_read_snapshot(log, r->found.chunk, r->position, piece, &growth,
                                    NULL);
    *growing = growth == SHAPELOG_GROWING;
    return rc;
}

static void release_piece(void *arg)
{
    struct shapelog_piece *piece = arg;

    shapelog_piece_release(piece);
    free(piece);
}

static bool put_piece(struct shape_request *r, struct shapelog_piece *piece)
{
    struct shapelog_piece *copy = malloc(sizeof *copy);

    if (!copy) {
        shapelog_piece_release(piece);
        return false;
    }
    *copy = *piece;
    r->position += piece->len;
    if (copy->mem)
        evreq_put_ref(r->req, slice_make(copy->mem, copy->len), release_piece, copy);
    else
        evreq_put_file(r->req, copy->fd, copy->file_pos, copy->len, release_piece, copy);
    return true;
}

static void end(struct shape_request *r)
{
    char control[RESPOND_UP_TO_DATE_MAX];

    if (r->up_to_date) {
        if (r->position > 0)
            evreq_put(r->req, SLICE_LIT(","));
        evreq_put(r->req, slice_make(control, respond_up_to_date(r->lsn, control)));
    }
    evreq_put(r->req, SLICE_LIT("]"));
    shape_request_enter(r, REQUEST_ANSWERED);
    evreq_end(r->req);
}

static void on_drained(void *ctx)
{
    stream_resume(ctx);
}

/* After FILL_SENT the request may be finished. */
static enum fill_result fill(struct shape_request *r)
{
    size_t in_memory = 0;
    bool put = !r->opened;
    bool growing;
    struct shapelog_piece piece;

    if (!r->opened)
        evreq_put(r->req, SLICE_LIT("["));
    r->opened = true;
    do {
        bool failed = stream_read(r, &piece, &growing) != 0;

        if (!failed && piece.len > 0) {
            in_memory += piece.mem ? piece.len : 0;
            put = true;
            failed = !put_piece(r, &piece);
        } else if (!failed) {
            shapelog_piece_release(&piece);
        }
        if (failed) {
            evreq_abort(r->req);
            return FILL_SENT;
        }
    } while (piece.len > 0 && in_memory < HTTP_STREAM_BUDGET_BYTES);
    if (piece.len == 0 && !growing) {
        end(r);
        return FILL_SENT;
    }
    if (!put)
        return FILL_NOTHING_YET;
    shape_request_enter(r, REQUEST_STREAMING);
    evreq_flush(r->req, on_drained, r);
    return FILL_SENT;
}

void stream_resume(struct shape_request *r)
{
    for (bool armed = false;; armed = true) {
        bool gone = shape_state(r->shape) == SHAPE_GONE;

        if (fill(r) == FILL_SENT)
            return;
        shape_request_enter(r, REQUEST_TAIL);
        if (gone || (!armed && !shape_request_watch(r))) {
            evreq_abort(r->req);
            return;
        }
        if (armed)
            return;
    }
}

void stream_begin(struct shape_request *r)
{
    bool head = evreq_method(r->req) == EVREQ_HEAD;

    shape_request_enter(r, head ? REQUEST_ANSWERED : REQUEST_STREAMING);
    evreq_start(r->req, 200);
    if (head)
        evreq_end(r->req);
    else
        stream_resume(r);
}
