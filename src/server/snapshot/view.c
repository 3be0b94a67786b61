/*
 * What a snapshot holds.
 *
 * Postgres tells a snapshot's bounds as 64-bit transaction ids, the stream tells 32 bits.
 * The whole id is rebuilt as the one nearest to xmax that ends in those bits: live ids
 * span less than 2^31, so there is exactly one candidate. Comparing only the low 32 bits
 * with xip by plain equality would take an in-progress transaction for a visible one, and
 * lose it, as soon as ids have passed 2^32 (shape-protocol.md 5.4).
 */

#include "server/snapshot/snapshot.h"

#include <stdlib.h>

/* The 64-bit id of xid next to near. False when that would be below zero, which means
 * that it is an id of the future. */
static bool widen(uint32_t xid, uint64_t near, uint64_t *out)
{
    uint32_t ahead = xid - (uint32_t)near;
    uint32_t behind = (uint32_t)near - xid;

    if (ahead < UINT32_C(0x80000000)) {
        *out = near + ahead;
        return true;
    }
    *out = near - behind;
    return behind <= near;
}

static bool in_progress(const struct snapshot_view *view, uint64_t xid)
{
    size_t low = 0;
    size_t high = view->xip_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (view->xip[middle] < xid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < view->xip_count && view->xip[low] == xid;
}

bool snapshot_sees(const struct snapshot_view *view, uint32_t xid)
{
    uint64_t wide;

    if (!widen(xid, view->xmax, &wide) || wide >= view->xmax)
        return false;
    return wide < view->xmin || !in_progress(view, wide);
}

/* Cuts the text before the separator off *rest; false when there is none. */
static bool take(struct slice *rest, char separator, struct slice *out)
{
    const char *at = rest->len ? memchr(rest->ptr, separator, rest->len) : NULL;

    if (!at)
        return false;
    *out = slice_make(rest->ptr, (size_t)(at - rest->ptr));
    *rest = slice_make(at + 1, rest->len - out->len - 1);
    return true;
}

static size_t count_items(struct slice list)
{
    size_t n = list.len > 0;

    for (size_t i = 0; i < list.len; i++)
        n += list.ptr[i] == ',';
    return n;
}

/* Fills xip from "a,b,c": ascending, within [xmin, xmax). */
static bool parse_xip(struct slice list, struct snapshot_view *view)
{
    uint64_t least = view->xmin;

    for (size_t i = 0; i < view->xip_count; i++) {
        struct slice item = list;
        uint64_t xid;

        if (i + 1 < view->xip_count)
            take(&list, ',', &item);
        if (!slice_to_u64(item, &xid) || xid < least || xid >= view->xmax)
            return false;
        view->xip[i] = least = xid;
    }
    return true;
}

int snapshot_view_parse(struct slice text, struct snapshot_view *out, struct err *err)
{
    struct slice rest = text;
    struct slice xmin;
    struct slice xmax;

    *out = (struct snapshot_view){0};
    if (!take(&rest, ':', &xmin) || !take(&rest, ':', &xmax) ||
        !slice_to_u64(xmin, &out->xmin) || !slice_to_u64(xmax, &out->xmax) ||
        out->xmin > out->xmax)
        goto invalid;
    out->xip_count = count_items(rest);
    if (out->xip_count > SNAPSHOT_XIP_MAX) {
        int code = err_set(err, ERR_LIMIT,
                           "the snapshot has %zu transactions in progress, more than %d",
                           out->xip_count, SNAPSHOT_XIP_MAX);

        *out = (struct snapshot_view){0};
        return code;
    }
    if (out->xip_count > 0) {
        out->xip = calloc(out->xip_count, sizeof(*out->xip));
        if (!out->xip) {
            *out = (struct snapshot_view){0};
            return err_set(err, ERR_MEMORY,
                           "out of memory for a snapshot's transactions");
        }
    }
    if (parse_xip(rest, out))
        return 0;
invalid:
    snapshot_view_fini(out);
    return err_set(err, ERR_INVALID,
                   "a snapshot reads xmin:xmax:xip,… with ascending ids, not \"%.*s\"",
                   (int)(text.len < 100 ? text.len : 100), text.len ? text.ptr : "");
}

void snapshot_view_fini(struct snapshot_view *view)
{
    free(view->xip);
    *view = (struct snapshot_view){0};
}
