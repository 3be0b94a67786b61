/* Entries by relation: a map from OID to a dense array, removal by swapping the last one
 * in. Each entry knows its place, so that both directions take constant time. Beside the array
 * each entry is in a list of those with the same filter, or of those without one; the filters
 * are in the groups of their relation (index.h). */
#include "server/route/route.h"

#include <stdlib.h>
#include <sys/random.h>

#include "base/assert.h"
#include "base/map.h"
#include "server/route/index.h"

struct relation_entries {
    uint32_t oid;
    struct route_entry **items;
    size_t len;
    size_t cap;
    struct route_entry *unfiltered;
    struct group *groups;
};

struct route {
    struct map by_oid; /* OID -> struct relation_entries */
    uint32_t last_oid; /* the relation of the newest match: changes come in runs */
    struct relation_entries *last;
    uint64_t seed;
    struct arena arena; /* of a match, or of making a filter */
    struct match match;
    struct route_hit *hits;
    size_t hits_len;
    size_t hits_cap;
};

/* --- Relations --- */

struct route *route_new(void)
{
    struct route *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    map_init(&r->by_oid);
    arena_init(&r->arena, ROUTE_ARENA_MAX);
    r->match.arena = &r->arena;
    if (getrandom(&r->seed, sizeof r->seed, GRND_NONBLOCK) != (ssize_t)sizeof r->seed)
        r->seed = (uint64_t)(uintptr_t)r;
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
    arena_fini(&r->arena);
    free(r->match.found);
    free(r->match.reasons);
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
    if (list == NULL || map_put_u64(&r->by_oid, oid, list, NULL) < 0) {
        free(list);
        return NULL;
    }
    list->oid = oid;
    r->last = NULL;
    return list;
}

static void route_forget_if_empty(struct route *r, struct relation_entries *list)
{
    if (list->len > 0 || list->groups != NULL)
        return;
    map_del_u64(&r->by_oid, list->oid);
    relation_entries_free(list);
    r->last = NULL;
}

/* --- Filters --- */

static struct group *group_find_or_make(struct route *r, struct relation_entries *list,
                                        const struct sql_table *table)
{
    for (struct group *g = list->groups; g != NULL; g = g->next) {
        if (g->table == table)
            return g;
    }
    struct group *g = group_new(list->oid, table, r->seed, &r->arena);
    if (g != NULL) {
        g->next = list->groups;
        list->groups = g;
    }
    return g;
}

static void group_forget_if_empty(struct route *r, struct relation_entries *list,
                                  struct group *group)
{
    if (group == NULL || group->filter_count > 0)
        return;
    struct group **at = &list->groups;
    while (*at != group)
        at = &(*at)->next;
    *at = group->next;
    group_free(group);
    route_forget_if_empty(r, list);
}

int route_filter_get(struct route *r, uint32_t oid, const struct sql_expr *expr,
                     const struct sql_table *table, struct route_filter **out,
                     struct err *err)
{
    struct relation_entries *list = route_find_or_make(r, oid);
    struct group *g = list == NULL ? NULL : group_find_or_make(r, list, table);
    struct route_name name = {0, 0};
    if (g != NULL)
        name = route_name_of(g, expr);
    int rc = 0;
    *out = NULL;
    if (name.low == 0)
        rc = err_set(err, ERR_MEMORY, "no memory for a where clause");
    else
        *out = name_set_find(&g->filters, name);
    if (*out != NULL) {
        (*out)->refs++;
        return 0;
    }
    arena_reset(&r->arena);
    if (rc == 0)
        rc = filter_new(g, expr, name, &r->arena, out, err);
    if (rc < 0 && g != NULL)
        group_forget_if_empty(r, list, g);
    else if (rc < 0 && list != NULL)
        route_forget_if_empty(r, list);
    return rc;
}

void route_filter_release(struct route *r, struct route_filter *filter)
{
    if (filter == NULL || --filter->refs > 0)
        return;
    struct group *g = filter->group;
    filter_free(filter);
    group_forget_if_empty(r, route_find(r, g->oid), g);
}

/* --- Entries --- */

static void entry_link(struct route_entry **head, struct route_entry *entry)
{
    entry->next = *head;
    entry->prev = head;
    if (entry->next != NULL)
        entry->next->prev = &entry->next;
    *head = entry;
}

static void entry_unlink(struct route_entry *entry)
{
    *entry->prev = entry->next;
    if (entry->next != NULL)
        entry->next->prev = entry->prev;
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
            route_forget_if_empty(r, list);
            return ERR_MEMORY;
        }
        list->items = items;
        list->cap = cap;
    }
    ASSERT(entry->filter == NULL || entry->filter->group->oid == entry->oid);
    entry_link(entry->filter == NULL ? &list->unfiltered : &entry->filter->entries,
               entry);
    entry->slot = (uint32_t)list->len;
    list->items[list->len++] = entry;
    return 0;
}

void route_remove(struct route *r, struct route_entry *entry)
{
    struct relation_entries *list = route_find(r, entry->oid);
    ASSERT(list != NULL && entry->slot < list->len && list->items[entry->slot] == entry);
    entry_unlink(entry);
    struct route_entry *moved = list->items[--list->len];
    list->items[entry->slot] = moved;
    moved->slot = entry->slot;
    route_forget_if_empty(r, list);
}

struct route_entry *const *route_entries(const struct route *r, uint32_t oid,
                                         size_t *count)
{
    const struct relation_entries *list = route_find(r, oid);
    *count = list == NULL ? 0 : list->len;
    return list == NULL ? NULL : list->items;
}

/* --- Matching --- */

void route_relation_changed(struct route *r, uint32_t oid)
{
    struct relation_entries *list = route_find(r, oid);
    for (struct group *g = list == NULL ? NULL : list->groups; g != NULL; g = g->next)
        g->relation = NULL;
}

static int add_hits(struct route *r, struct route_entry *entry, struct route_hit hit)
{
    for (; entry != NULL; entry = entry->next) {
        if (r->hits_len == r->hits_cap) {
            size_t cap = r->hits_cap == 0 ? 16 : r->hits_cap * 2;
            struct route_hit *hits = realloc(r->hits, cap * sizeof *hits);
            if (hits == NULL)
                return ERR_MEMORY;
            r->hits = hits;
            r->hits_cap = cap;
        }
        hit.entry = entry;
        r->hits[r->hits_len++] = hit;
    }
    return 0;
}

static int match_group(struct route *r, struct group *g, const struct txn_change *change)
{
    if (g->relation != change->relation)
        group_map(g, change->relation);
    int rc = 0;
    if (change->old != NULL)
        rc = match_row(&r->match, g, change->old, FILTER_OLD);
    if (rc == 0 && change->row != NULL)
        rc = match_row(&r->match, g, change->row, FILTER_NEW);
    return rc;
}

/* Filters found become their entries' hits, and forget the match. */
static int settle(struct route *r, int rc)
{
    for (size_t i = 0; i < r->match.found_len; i++) {
        struct route_filter *f = r->match.found[i];
        struct route_hit hit = {.old_in = (f->state & FILTER_OLD) != 0,
                                .new_in = (f->state & FILTER_NEW) != 0};
        unsigned state = f->state;
        if ((state / FILTER_FAILED & ~state & (FILTER_OLD | FILTER_NEW)) != 0)
            hit = (struct route_hit){.failed = r->match.reasons[i]};
        f->state = 0;
        if (rc == 0)
            rc = add_hits(r, f->entries, hit);
    }
    r->match.found_len = 0;
    return rc;
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
    r->hits_len = 0;
    if (r->last == NULL)
        return 0;
    arena_reset(&r->arena);
    struct route_hit whole = {.old_in = change->old != NULL,
                              .new_in = change->row != NULL};
    int rc = add_hits(r, r->last->unfiltered, whole);
    for (struct group *g = r->last->groups; rc == 0 && g != NULL; g = g->next)
        rc = match_group(r, g, change);
    rc = settle(r, rc);
    if (rc < 0)
        return rc;
    *hits = r->hits_len == 0 ? NULL : r->hits;
    *count = r->hits_len;
    return 0;
}
