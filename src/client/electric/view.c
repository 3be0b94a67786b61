#include "client/electric/view.h"

#include <string.h>

#include "client/loop/heap.h"

#define HALF  ((uint64_t)1 << 31)
#define WHOLE ((uint64_t)1 << 32)

int view_copy(struct heap *h, struct view *v, const struct stream_snapshot *from)
{
    *v = (struct view){.xmin = from->xmin,
                       .xmax = from->xmax,
                       .lsn = from->has_lsn ? from->database_lsn : 0};
    if (from->xip_count == 0)
        return COULOMB_OK;
    v->xip = heap_alloc(h, from->xip_count * sizeof(*v->xip));
    if (!v->xip)
        return COULOMB_E_MEMORY;
    memcpy(v->xip, from->xip, from->xip_count * sizeof(*v->xip));
    v->xip_count = from->xip_count;
    return COULOMB_OK;
}

void view_fini(struct heap *h, struct view *v)
{
    heap_free(h, v->xip, v->xip_count * sizeof(*v->xip));
    memset(v, 0, sizeof(*v));
}

uint64_t view_widen(const struct view *v, uint64_t txid)
{
    uint64_t full;

    if (txid >= WHOLE)
        return txid;
    full = (v->xmax & ~(WHOLE - 1)) | txid;
    if (full > v->xmax && full - v->xmax > HALF && full >= WHOLE)
        full -= WHOLE;
    else if (full < v->xmax && v->xmax - full > HALF)
        full += WHOLE;
    return full;
}

bool view_sees(const struct view *v, uint64_t txid)
{
    uint64_t full = view_widen(v, txid);

    if (full < v->xmin)
        return true;
    if (full >= v->xmax)
        return false;
    for (size_t i = 0; i < v->xip_count; i++) {
        if (v->xip[i] == full)
            return false;
    }
    return true;
}

bool view_sees_all(const struct view *v, const uint64_t *txids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!view_sees(v, txids[i]))
            return false;
    }
    return count > 0;
}

bool view_is_past(const struct view *v, uint64_t txid)
{
    return view_widen(v, txid) >= v->xmax;
}
