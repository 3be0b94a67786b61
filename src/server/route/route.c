/* Entries by relation: a map from OID to a dense array, removal by swapping the last one
 * in. Each entry knows its place, so that both directions take constant time. */
#include "server/route/route.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/map.h"

struct relation_entries {
    struct route_entry **items;
    size_t len;
    size_t cap;
};

struct route {
    struct map by_oid; /* OID -> struct relation_entries */
    uint32_t last_oid; /* the relation of the newest match: changes come in runs */
    struct relation_entries *last;
    struct route_hit *hits;
    size_t hits_cap;
};

struct route *route_new(void)
{
    struct route *r = calloc(1, sizeof *r);
    if (r != NULL)
        map_init(&r->by_oid);
    return r;
}

static void relation_entries_free(struct relation_entries *list)
{
    if (list == NULL)
        return;
    free(list->items);
    free(list);
}

void route_free(struct route *r)
{
    if (r == NULL)
        return;
    ASSERT(r->by_oid.len == 0);
    map_fini(&r->by_oid);
    free(r->hits);
    free(r);
}

static struct relation_entries *route_find(const struct route *r, uint32_t oid)
{
    return map_get_u64(&r->by_oid, oid);
}

static struct relation_entries *route_find_or_make(struct route *r, uint32_t oid)
{
    struct relation_entries *list = route_find(r, oid);
    if (list != NULL)
        return list;
    list = calloc(1, sizeof *list);
    if (list != NULL && map_put_u64(&r->by_oid, oid, list, NULL) < 0) {
        free(list);
        return NULL;
    }
    r->last = NULL;
    return list;
}

static void route_forget_if_empty(struct route *r, uint32_t oid,
                                  struct relation_entries *list)
{
    if (list->len > 0)
        return;
    map_del_u64(&r->by_oid, oid);
    relation_entries_free(list);
    r->last = NULL;
}

int route_add(struct route *r, struct route_entry *entry)
{
    struct relation_entries *list = route_find_or_make(r, entry->oid);
    if (list == NULL)
        return ERR_MEMORY;
    if (list->len == list->cap) {
        size_t cap = list->cap == 0 ? 4 : list->cap * 2;
        struct route_entry **items =
            cap > UINT32_MAX ? NULL : realloc(list->items, cap * sizeof(*items));
        if (items == NULL) {
            route_forget_if_empty(r, entry->oid, list);
            return ERR_MEMORY;
        }
        list->items = items;
        list->cap = cap;
    }
    entry->slot = (uint32_t)list->len;
    list->items[list->len++] = entry;
    return 0;
}

void route_remove(struct route *r, struct route_entry *entry)
{
    struct relation_entries *list = route_find(r, entry->oid);
    ASSERT(list != NULL && entry->slot < list->len && list->items[entry->slot] == entry);
    struct route_entry *moved = list->items[--list->len];
    list->items[entry->slot] = moved;
    moved->slot = entry->slot;
    route_forget_if_empty(r, entry->oid, list);
}

struct route_entry *const *route_entries(const struct route *r, uint32_t oid,
                                         size_t *count)
{
    const struct relation_entries *list = route_find(r, oid);
    *count = list == NULL ? 0 : list->len;
    return list == NULL ? NULL : list->items;
}

static int route_reserve_hits(struct route *r, size_t n)
{
    if (n <= r->hits_cap)
        return 0;
    struct route_hit *hits = realloc(r->hits, n * 2 * sizeof *hits);
    if (hits == NULL)
        return ERR_MEMORY;
    r->hits = hits;
    r->hits_cap = n * 2;
    return 0;
}

int route_match(struct route *r, const struct txn_change *change,
                const struct route_hit **hits, size_t *count)
{
    uint32_t oid = change->relation->oid;
    if (r->last == NULL || r->last_oid != oid) {
        r->last = route_find(r, oid);
        r->last_oid = oid;
    }
    *hits = NULL;
    *count = 0;
    if (r->last == NULL)
        return 0;
    if (route_reserve_hits(r, r->last->len) < 0)
        return ERR_MEMORY;
    for (size_t i = 0; i < r->last->len; i++) {
        r->hits[i] = (struct route_hit){
            .entry = r->last->items[i],
            .old_in = change->old != NULL,
            .new_in = change->row != NULL,
        };
    }
    *hits = r->hits;
    *count = r->last->len;
    return 0;
}
