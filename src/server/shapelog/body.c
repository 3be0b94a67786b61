/* Small bodies, shared: the clients that wait at the same place of a shape all read the
 * same few bytes, so the last range that was built is kept for each shape and handed out
 * by reference. All shapes together keep BODY_CACHE_BYTES; the oldest go first. */
#include "server/shapelog/internal.h"

#include <stdlib.h>

#include "base/assert.h"

void shapelog_bodies_init(struct bodies *bodies)
{
    pthread_mutex_init(&bodies->lock, NULL);
    list_init(&bodies->order);
    bodies->bytes = 0;
}

void shapelog_bodies_fini(struct bodies *bodies)
{
    pthread_mutex_destroy(&bodies->lock);
}

struct body *shapelog_body_new(uint64_t pos, size_t len)
{
    struct body *body = malloc(sizeof(*body) + len);

    if (!body)
        return NULL;
    atomic_init(&body->hold.refs, 1);
    body->hold.kind = HOLD_BODY;
    body->pos = pos;
    body->len = len;
    list_init(&body->link);
    body->slot = NULL;
    return body;
}

struct body *shapelog_body_find(struct bodies *bodies, struct body **slot, uint64_t pos,
                                size_t len)
{
    struct body *body;

    pthread_mutex_lock(&bodies->lock);
    body = *slot;
    if (body && (body->pos != pos || body->len != len))
        body = NULL;
    if (body)
        atomic_fetch_add(&body->hold.refs, 1);
    pthread_mutex_unlock(&bodies->lock);
    return body;
}

/* Takes the body out of the cache; the caller drops the cache's reference, unlocked. */
static void evict(struct bodies *bodies, struct body *body, struct list *gone)
{
    ASSERT(body->slot != NULL);
    bodies->bytes -= body->len;
    *body->slot = NULL;
    body->slot = NULL;
    list_remove(&body->link);
    list_push(gone, &body->link);
}

static void drop_all(struct list *gone)
{
    while (!list_empty(gone)) {
        struct body *body = LIST_ENTRY(gone->next, struct body, link);

        list_remove(&body->link);
        shapelog_hold_put(&body->hold);
    }
}

void shapelog_body_keep(struct bodies *bodies, struct body **slot, struct body *body)
{
    struct list gone;

    list_init(&gone);
    pthread_mutex_lock(&bodies->lock);
    if (*slot)
        evict(bodies, *slot, &gone);
    while (bodies->bytes + body->len > BODY_CACHE_BYTES && !list_empty(&bodies->order))
        evict(bodies, LIST_ENTRY(bodies->order.next, struct body, link), &gone);
    atomic_fetch_add(&body->hold.refs, 1);
    body->slot = slot;
    *slot = body;
    bodies->bytes += body->len;
    list_push(&bodies->order, &body->link);
    pthread_mutex_unlock(&bodies->lock);
    drop_all(&gone);
}

void shapelog_bodies_forget(struct bodies *bodies, struct body **slot)
{
    struct list gone;

    list_init(&gone);
    pthread_mutex_lock(&bodies->lock);
    if (*slot)
        evict(bodies, *slot, &gone);
    pthread_mutex_unlock(&bodies->lock);
    drop_all(&gone);
}

void shapelog_hold_put(struct hold *hold)
{
    switch (hold->kind) {
    case HOLD_FILE:
        shapelog_file_put(LIST_ENTRY(hold, struct file, hold));
        break;
    case HOLD_SEGMENT:
        shapelog_segment_put(LIST_ENTRY(hold, struct segment, hold));
        break;
    case HOLD_BODY:
        if (atomic_fetch_sub(&hold->refs, 1) == 1)
            free(LIST_ENTRY(hold, struct body, hold));
        break;
    }
}

void shapelog_piece_release(struct shapelog_piece *piece)
{
    if (piece->hold)
        shapelog_hold_put(piece->hold);
    *piece = (struct shapelog_piece){.fd = -1};
}
