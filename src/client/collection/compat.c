/*
 * COULOMB_COMPAT_TANSTACK: the order in which TanStack DB reads a collection. Rows that are synced come
 * in the collection's order; then those that are only optimistic, however they would be ordered: what
 * is kept of completed transactions, then the rest as they were made.
 */

#include "client/collection/collection.h"

#include <stdlib.h>

struct unsynced {
    uint64_t tx;    /* 0: kept */
    uint64_t place; /* among those */
    struct coulomb_row *row;
};

static bool is_synced(const struct coulomb_collection *coll,
                      const struct coulomb_row *row)
{
    coulomb_key key = row_key(row);

    return ktab_get(&coll->synced, key, coll_hash(coll, key)) != NULL;
}

static void place_of(const struct local *l, uint64_t kept, struct unsynced *to)
{
    to->tx = 0;
    to->place = kept;
    for (struct list *at = l->mutations.next; !l->has_kept && at != &l->mutations;
         at = at->next) {
        const struct mutation *m = LIST_ENTRY(at, struct mutation, in_key);

        if (m->optimistic) {
            to->tx = m->order;
            to->place = m->place;
            return;
        }
    }
}

static int by_place(const void *a, const void *b)
{
    const struct unsynced *x = a;
    const struct unsynced *y = b;

    if (x->tx != y->tx)
        return x->tx > y->tx ? 1 : -1;
    return (x->place > y->place) - (x->place < y->place);
}

static size_t unsynced_rows(struct coulomb_collection *coll, struct unsynced *items)
{
    struct kent *ent;
    size_t it = 0;
    size_t n = 0;

    while ((ent = ktab_next(&coll->locals, &it)) != NULL) {
        const struct local *l = ent->item;
        uint64_t kept = 0;

        if (!local_overlay(l, &items[n].row) || !items[n].row ||
            is_synced(coll, items[n].row))
            continue;
        for (struct list *at = coll->kept.next; l->has_kept && at != &l->kept_link;
             at = at->next)
            kept++;
        place_of(l, kept, &items[n++]);
    }
    qsort(items, n, sizeof(*items), by_place);
    return n;
}

int compat_rows(struct coulomb_collection *coll, struct coulomb_row **rows, size_t *count)
{
    const struct sorted *order = order_get(coll);
    size_t bytes = (coll->locals.live + 1) * sizeof(struct unsynced);
    struct unsynced *items = order ? heap_alloc(coll->heap, bytes) : NULL;
    struct place at = {0, 0};
    struct coulomb_row *row;
    size_t n;

    if (!items)
        return client_no_memory(coll->client);
    while ((row = sorted_next(order, &at)) != NULL) {
        if (is_synced(coll, row))
            rows[(*count)++] = row;
    }
    n = unsynced_rows(coll, items);
    for (size_t i = 0; i < n; i++)
        rows[(*count)++] = items[i].row;
    heap_free(coll->heap, items, bytes);
    return COULOMB_OK;
}
