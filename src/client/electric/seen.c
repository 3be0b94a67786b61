#include "client/electric/seen.h"

#include <stdlib.h>
#include <string.h>

#include "client/loop/heap.h"

void seen_init(struct seen *s, struct heap *h)
{
    memset(s, 0, sizeof(*s));
    s->heap = h;
}

/* --- Rings ------------------------------------------------------------------------------------- */

static size_t ring_place(const struct txid_ring *r, size_t i)
{
    size_t at = r->first + i;

    return at < r->cap ? at : at - r->cap;
}

static uint32_t ring_at(const struct txid_ring *r, size_t i)
{
    return r->items[ring_place(r, i)];
}

/* Room for n more, or as many as there may be. */
static int ring_reserve(struct heap *h, struct txid_ring *r, size_t n)
{
    size_t want = r->count + n;
    size_t cap = r->cap > 0 ? r->cap : 16;
    uint32_t *items;

    if (want > SEEN_TXIDS_MAX)
        want = SEEN_TXIDS_MAX;
    if (want <= r->cap)
        return COULOMB_OK;
    while (cap < want)
        cap *= 2;
    items = heap_alloc(h, cap * sizeof(*items));
    if (!items)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < r->count; i++)
        items[i] = ring_at(r, i);
    heap_free(h, r->items, r->cap * sizeof(*r->items));
    r->items = items;
    r->cap = cap;
    r->first = 0;
    return COULOMB_OK;
}

/* With room reserved; the oldest goes when there is none. */
static void ring_push(struct txid_ring *r, uint32_t txid)
{
    if (r->cap == 0)
        return; /* nobody reserved any */
    if (r->count > 0 && ring_at(r, r->count - 1) == txid)
        return;
    if (r->count == r->cap)
        r->first = ring_place(r, 1);
    else
        r->count++;
    r->items[ring_place(r, r->count - 1)] = txid;
}

static bool ring_has(const struct txid_ring *r, uint32_t txid)
{
    for (size_t i = 0; i < r->count; i++) {
        if (ring_at(r, i) == txid)
            return true;
    }
    return false;
}

/* The oldest, the caller's now. */
static struct view views_pop(struct view_ring *r)
{
    struct view view = r->items[r->first];

    r->first = (r->first + 1) % SEEN_VIEWS_MAX;
    r->count--;
    return view;
}

/* Takes the view. *dropped is one that had to go. */
static bool views_push(struct view_ring *r, struct view *view, struct view *dropped)
{
    bool full = r->count == SEEN_VIEWS_MAX;

    if (full)
        *dropped = views_pop(r);
    r->items[(r->first + r->count++) % SEEN_VIEWS_MAX] = *view;
    memset(view, 0, sizeof(*view));
    return full;
}

static bool views_see(const struct view_ring *r, uint64_t txid)
{
    for (size_t i = 0; i < r->count; i++) {
        if (view_sees(&r->items[(r->first + i) % SEEN_VIEWS_MAX], txid))
            return true;
    }
    return false;
}

static void views_fini(struct heap *h, struct view_ring *r)
{
    for (size_t i = 0; i < r->count; i++)
        view_fini(h, &r->items[(r->first + i) % SEEN_VIEWS_MAX]);
    r->count = 0;
}

/* --- What was seen ------------------------------------------------------------------------------- */

void seen_fini(struct seen *s)
{
    heap_free(s->heap, s->txids.items, s->txids.cap * sizeof(*s->txids.items));
    heap_free(s->heap, s->staged.items, s->staged.cap * sizeof(*s->staged.items));
    views_fini(s->heap, &s->views);
    views_fini(s->heap, &s->staged_views);
    views_fini(s->heap, &s->held);
    seen_init(s, s->heap);
}

int seen_stage(struct seen *s, const uint64_t *txids, size_t count)
{
    if (count == 0)
        return COULOMB_OK;
    if (ring_reserve(s->heap, &s->staged, count) != COULOMB_OK)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < count; i++)
        ring_push(&s->staged, (uint32_t)txids[i]);
    return COULOMB_OK;
}

static void take_view(struct seen *s, struct view_ring *ring, struct view *view,
                      uint64_t *horizon)
{
    struct view dropped;

    if (!views_push(ring, view, &dropped))
        return;
    if (dropped.xmin > *horizon)
        *horizon = dropped.xmin;
    view_fini(s->heap, &dropped);
}

int seen_stage_view(struct seen *s, const struct stream_snapshot *view)
{
    struct view copy;

    if (view_copy(s->heap, &copy, view) != COULOMB_OK)
        return COULOMB_E_MEMORY;
    take_view(s, &s->staged_views, &copy, &s->staged_horizon);
    return COULOMB_OK;
}

int seen_reserve(struct seen *s)
{
    return ring_reserve(s->heap, &s->txids, s->staged.count);
}

/* By a position, or by a transaction that began after the view. */
static bool is_passed(const struct seen *s, const struct view *view, uint64_t lsn)
{
    bool past = lsn >= view->lsn;

    for (size_t i = 0; i < s->staged.count && !past; i++)
        past = view_is_past(view, ring_at(&s->staged, i));
    return past;
}

static void count_view(struct seen *s, struct view *view)
{
    take_view(s, &s->views, view, &s->horizon);
}

static void hold_view(struct seen *s, struct view *view)
{
    struct view dropped;

    if (views_push(&s->held, view, &dropped))
        count_view(s, &dropped);
}

void seen_release(struct seen *s)
{
    while (s->held.count > 0) {
        struct view view = views_pop(&s->held);

        count_view(s, &view);
    }
}

static void release_passed(struct seen *s, uint64_t lsn)
{
    for (size_t n = s->held.count; n > 0; n--) {
        struct view view = views_pop(&s->held);

        if (is_passed(s, &view, lsn))
            count_view(s, &view);
        else
            hold_view(s, &view);
    }
}

void seen_commit(struct seen *s, uint64_t lsn)
{
    release_passed(s, lsn);
    for (size_t i = 0; i < s->staged.count; i++)
        ring_push(&s->txids, ring_at(&s->staged, i));
    s->staged.count = s->staged.first = 0;
    while (s->staged_views.count > 0) {
        struct view view = views_pop(&s->staged_views);

        if (lsn >= view.lsn)
            count_view(s, &view);
        else
            hold_view(s, &view);
    }
    if (s->staged_horizon > s->horizon)
        s->horizon = s->staged_horizon;
}

int seen_add(struct seen *s, const struct seen *other)
{
    int code = ring_reserve(s->heap, &s->txids, other->staged.count);

    for (size_t i = 0; code == COULOMB_OK && i < other->staged.count; i++)
        ring_push(&s->txids, ring_at(&other->staged, i));
    return code;
}

/* A 32-bit number is widened by the newest view. */
static bool below_horizon(const struct seen *s, uint64_t txid)
{
    const struct view_ring *r = &s->views;

    return s->horizon > 0 && r->count > 0 &&
           view_widen(&r->items[(r->first + r->count - 1) % SEEN_VIEWS_MAX], txid) <
               s->horizon;
}

bool seen_has(const struct seen *s, uint64_t txid)
{
    return ring_has(&s->txids, (uint32_t)txid) || views_see(&s->views, txid) ||
           below_horizon(s, txid);
}

bool seen_has_staged(const struct seen *s, uint64_t txid)
{
    return ring_has(&s->staged, (uint32_t)txid);
}

bool seen_is_held(const struct seen *s, uint64_t txid)
{
    return views_see(&s->held, txid);
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

int seen_list(const struct seen *s, uint32_t **out, size_t *count)
{
    uint32_t *list;
    size_t n = 0;

    *out = NULL;
    *count = 0;
    if (s->txids.count == 0)
        return COULOMB_OK;
    list = heap_alloc(s->heap, s->txids.count * sizeof(*list));
    if (!list)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < s->txids.count; i++)
        list[i] = ring_at(&s->txids, i);
    qsort(list, s->txids.count, sizeof(*list), by_number);
    for (size_t i = 0; i < s->txids.count; i++) {
        if (n == 0 || list[n - 1] != list[i])
            list[n++] = list[i];
    }
    *out = list;
    *count = n;
    return COULOMB_OK;
}
