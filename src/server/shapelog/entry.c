/* Entries that point into segments, in as few bytes as they need. The same form is used for a
 * shape's tail in memory, for its copy in meta.sqlite, and within the journal's frames:
 *
 *   entry := flags and difference of tx: one number, difference << 2 | flags, when the zigzagged
 *            difference is small, else two, DELTA_FOLLOWS << 2 | flags and the difference
 *            zigzag(op - (same tx ? base.op : 0))
 *            zigzag(addr - base.addr)
 *            len
 *
 * base is the entry before, with the address behind its message. */
#include <stdlib.h>

#include "server/shapelog/internal.h"

#define TAIL_BEGIN_BYTES 24u

#define DELTA_INLINE_MAX 29u
#define DELTA_FOLLOWS    30u

static size_t put_tx(char *to, uint64_t delta, uint32_t flags)
{
    bool follows = delta > DELTA_INLINE_MAX;
    size_t n = varint_put(to, (follows ? DELTA_FOLLOWS : delta) << 2 | flags);

    return follows ? n + varint_put(to + n, delta) : n;
}

size_t shapelog_entry_put(char *to, struct entry_base *base, const struct entry *e)
{
    size_t n = put_tx(to, varint_zigzag(base->tx, e->tx), e->flags);

    n += varint_put(to + n, varint_zigzag(base->tx == e->tx ? base->op : 0, e->op));
    n += varint_put(to + n, varint_zigzag(base->addr, e->addr));
    n += varint_put(to + n, e->len);
    *base = (struct entry_base){e->tx, e->op, e->addr + e->len};
    return n;
}

bool shapelog_entry_get(struct varint_reader *r, struct entry_base *base,
                        struct entry *out)
{
    uint64_t first, delta, op, addr, len;

    if (r->failed || r->at == r->end)
        return false;
    first = varint_get(r);
    delta = first >> 2;
    if (delta == DELTA_FOLLOWS)
        delta = varint_get(r);
    op = varint_get(r);
    addr = varint_get(r);
    len = varint_get(r);
    if (first >> 2 > DELTA_FOLLOWS || len > MESSAGE_MAX_BYTES)
        r->failed = true;
    if (r->failed)
        return false;
    out->flags = (uint32_t)first & ENTRY_FLAGS;
    out->tx = varint_unzigzag(base->tx, delta);
    out->op = varint_unzigzag(base->tx == out->tx ? base->op : 0, op);
    out->addr = varint_unzigzag(base->addr, addr);
    out->len = (uint32_t)len;
    *base = (struct entry_base){out->tx, out->op, out->addr + out->len};
    return true;
}

int shapelog_tail_put(struct tail *tail, const struct entry *e)
{
    if (tail->cap - tail->len < ENTRY_MAX_BYTES) {
        uint32_t cap = tail->cap ? tail->cap * 2 : TAIL_BEGIN_BYTES + ENTRY_MAX_BYTES;
        char *grown = cap > tail->cap ? realloc(tail->bytes, cap) : NULL;

        if (!grown)
            return ERR_MEMORY;
        tail->bytes = grown;
        tail->cap = cap;
    }
    tail->len += (uint32_t)shapelog_entry_put(tail->bytes + tail->len, &tail->base, e);
    return 0;
}

void shapelog_tail_clear(struct tail *tail)
{
    free(tail->bytes);
    *tail = (struct tail){.bytes = NULL};
}

void shapelog_entries_walk(struct tail_walk *walk, struct slice entries,
                           struct mark begin)
{
    *walk = (struct tail_walk){
        .reader = varint_reader_make(entries),
        .before = begin,
        .after = begin,
    };
}

void shapelog_tail_walk(struct tail_walk *walk, const struct tail *tail,
                        struct mark begin)
{
    shapelog_entries_walk(walk, slice_make(tail->bytes, tail->len), begin);
}

bool shapelog_tail_next(struct tail_walk *walk)
{
    if (!shapelog_entry_get(&walk->reader, &walk->base, &walk->entry))
        return false;
    walk->before = walk->after;
    walk->after = mark_after(walk->before, &walk->entry);
    return true;
}
