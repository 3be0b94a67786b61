/*
 * The state of a stream. Transitions take their memory first, so that one that fails has changed
 * nothing.
 */

#include "client/stream/state.h"

#include <string.h>

#include "base/offset.h"

#define EVENTS_MIN_MS     1000 /* a connection that ends sooner was cut by something */
#define EVENTS_SHORT_MAX  3
#define EVENTS_SILENT_MAX 2

static void move_blob(struct heap *h, struct blob *to, struct blob *from)
{
    blob_fini(h, to);
    *to = *from;
    *from = (struct blob){NULL, 0};
}

static int set_text(struct heap *h, struct blob *b, const char *text)
{
    return text ? blob_set(h, b, text, strlen(text)) : COULOMB_OK;
}

int state_init(struct sync_state *st, struct heap *h, const char *offset,
               const char *handle, const char *cursor)
{
    *st = (struct sync_state){.heap = h};
    if (set_text(h, &st->offset, offset) != COULOMB_OK ||
        set_text(h, &st->handle, handle) != COULOMB_OK ||
        set_text(h, &st->cursor, cursor ? cursor : "") != COULOMB_OK) {
        state_fini(st);
        return COULOMB_E_MEMORY;
    }
    return COULOMB_OK;
}

void state_fini(struct sync_state *st)
{
    blob_fini(st->heap, &st->handle);
    blob_fini(st->heap, &st->offset);
    blob_fini(st->heap, &st->cursor);
    blob_fini(st->heap, &st->replay_cursor);
    schema_release(st->schema);
    st->schema = NULL;
}

int state_refetch(struct sync_state *st, struct slice handle)
{
    static const char start[] = "-1";
    struct blob fresh[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};

    if ((handle.ptr &&
         blob_set(st->heap, &fresh[0], handle.ptr, handle.len) != COULOMB_OK) ||
        blob_set(st->heap, &fresh[1], start, strlen(start)) != COULOMB_OK ||
        blob_set(st->heap, &fresh[2], "", 0) != COULOMB_OK) {
        for (size_t i = 0; i < 3; i++)
            blob_fini(st->heap, &fresh[i]);
        return COULOMB_E_MEMORY;
    }
    move_blob(st->heap, &st->handle, &fresh[0]);
    move_blob(st->heap, &st->offset, &fresh[1]);
    move_blob(st->heap, &st->cursor, &fresh[2]);
    blob_fini(st->heap, &st->replay_cursor);
    schema_release(st->schema);
    st->schema = NULL;
    st->mode = SYNC_INITIAL;
    st->stale_tries = 0;
    st->has_lsn = st->loose = false;
    st->last_lsn = st->last_op = 0;
    return COULOMB_OK;
}

/* The new text in *out, or none when the old one stays. */
static int prepare(struct sync_state *st, const char *text, const struct blob *old,
                   struct blob *out)
{
    *out = (struct blob){NULL, 0};
    if (!text || (old->ptr && strcmp(text, old->ptr) == 0))
        return COULOMB_OK;
    return set_text(st->heap, out, text);
}

int state_accept(struct sync_state *st, const struct answer *a, bool events)
{
    struct blob handle;
    struct blob offset = {NULL, 0};
    struct blob cursor = {NULL, 0};
    int code = prepare(st, a->handle, &st->handle, &handle);

    if (code == COULOMB_OK && !events)
        code = prepare(st, a->offset, &st->offset, &offset);
    if (code == COULOMB_OK)
        code = prepare(st, a->cursor, &st->cursor, &cursor);
    if (code != COULOMB_OK) {
        blob_fini(st->heap, &handle);
        blob_fini(st->heap, &offset);
        return code;
    }
    if (handle.ptr)
        move_blob(st->heap, &st->handle, &handle);
    if (offset.ptr)
        move_blob(st->heap, &st->offset, &offset);
    if (cursor.ptr)
        move_blob(st->heap, &st->cursor, &cursor);
    if (!st->schema)
        st->schema = schema_retain(a->schema);
    if (!events && a->offset)
        st->loose = false;
    st->stale_tries = 0;
    if (st->mode == SYNC_INITIAL || st->mode == SYNC_STALE_RETRY)
        st->mode = SYNC_SYNCING;
    return COULOMB_OK;
}

/* "<lsn>_0" when that is further than where we are: it may be a position within the transaction that
 * the last answer ended at, and "0_0" before the end of the snapshot. */
static int move_to_lsn(struct sync_state *st, uint64_t lsn)
{
    struct offset to = {.tx = lsn};
    struct offset from;
    char text[OFFSET_TEXT_MAX];
    size_t n;

    if (offset_parse(slice_make(st->offset.ptr, st->offset.len), &from) &&
        offset_cmp(to, from) <= 0)
        return COULOMB_OK;
    n = offset_print(to, text);
    if (blob_set(st->heap, &st->offset, text, n) != COULOMB_OK)
        return COULOMB_E_MEMORY;
    st->loose = true;
    return COULOMB_OK;
}

int state_up_to_date(struct sync_state *st, bool events, bool has_lsn, uint64_t lsn,
                     int64_t now_us)
{
    int code = events && has_lsn ? move_to_lsn(st, lsn) : COULOMB_OK;

    if (code != COULOMB_OK)
        return code;
    if (has_lsn) {
        st->has_lsn = true;
        st->lsn = lsn;
    }
    st->mode = SYNC_LIVE;
    st->last_synced_us = now_us;
    blob_fini(st->heap, &st->replay_cursor);
    return COULOMB_OK;
}

bool state_is_replay(const struct sync_state *st, const struct answer *a, bool events)
{
    /* Only what the answer says itself: one without a cursor is no cache's copy of a live one. */
    return st->mode == SYNC_REPLAYING && !events && st->replay_cursor.ptr && a->cursor &&
           strcmp(st->replay_cursor.ptr, a->cursor) == 0;
}

bool state_seen(struct sync_state *st, const struct stream_message *m)
{
    const struct stream_headers *h = m->headers;
    bool seen;

    if (!stream_is_change(m) || !h->has_lsn || !h->has_position)
        return false;
    seen = h->lsn < st->last_lsn ||
           (h->lsn == st->last_lsn && h->op_position <= st->last_op);
    if (st->loose && seen)
        return true;
    st->last_lsn = h->lsn;
    st->last_op = h->op_position;
    return false;
}

bool state_events_silent(struct sync_state *st)
{
    if (++st->silent_events >= EVENTS_SILENT_MAX)
        st->no_events = true;
    return st->no_events;
}

bool state_events_closed(struct sync_state *st, int64_t lasted_ms)
{
    if (lasted_ms >= EVENTS_MIN_MS) {
        st->short_events = 0;
        return false;
    }
    if (++st->short_events >= EVENTS_SHORT_MAX)
        st->no_events = true;
    return true;
}
