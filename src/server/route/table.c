/* Hash tables of the index: open addressing with linear probing, keys inline, deletion by
 * moving back what follows (no tombstones), at most 3/4 full.
 *
 * A slot of a key table is a key and the first of the postings that have it, which are a list
 * through the postings themselves: adding one to a key that is there takes no memory, and a
 * key with one posting costs its slot. Keys that hash alike but whose values differ have
 * slots of their own. */
#include <stdlib.h>

#include "server/route/index.h"

#define CAP_FIRST 8

static size_t home_of(uint64_t key, size_t cap)
{
    uint64_t x = key * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(x ^ x >> 32) & (cap - 1);
}

static bool is_full(size_t len, size_t cap)
{
    return len + 1 > cap / 4 * 3;
}

/* --- Lists --- */

void list_put(struct posting **head, struct posting *p)
{
    p->prev = NULL;
    p->next = *head;
    if (p->next != NULL)
        p->next->prev = p;
    *head = p;
}

void list_take(struct posting **head, struct posting *p)
{
    if (p->prev != NULL)
        p->prev->next = p->next;
    else
        *head = p->next;
    if (p->next != NULL)
        p->next->prev = p->prev;
}

/* --- Postings by key --- */

int key_table_reserve(struct key_table *t)
{
    if (!is_full(t->len, t->cap))
        return 0;
    size_t cap = t->cap == 0 ? CAP_FIRST : t->cap * 2;
    struct key_slot *slots = calloc(cap, sizeof *slots);
    if (slots == NULL)
        return ERR_MEMORY;
    for (size_t i = 0; i < t->cap; i++) {
        if (t->slots[i].head == NULL)
            continue;
        size_t at = home_of(t->slots[i].key, cap);
        while (slots[at].head != NULL)
            at = (at + 1) & (cap - 1);
        slots[at] = t->slots[i];
    }
    free(t->slots);
    t->slots = slots;
    t->cap = cap;
    return 0;
}

static bool same_value(const struct posting *p, struct sql_type type,
                       const struct sql_value *value)
{
    if (value == NULL || p->extra == NULL || p->extra->hashed)
        return true;
    return sql_value_cmp(type, &p->extra->value, value) == 0;
}

/* The key's slot, or the empty one where it would be. */
static struct key_slot *key_slot(const struct key_table *t, uint64_t key,
                                 struct sql_type type, const struct sql_value *value)
{
    size_t at = home_of(key, t->cap);
    while (t->slots[at].head != NULL) {
        if (t->slots[at].key == key && same_value(t->slots[at].head, type, value))
            break;
        at = (at + 1) & (t->cap - 1);
    }
    return &t->slots[at];
}

struct posting *key_table_find(const struct key_table *t, uint64_t key,
                               struct sql_type type, const struct sql_value *value)
{
    return t->len == 0 ? NULL : key_slot(t, key, type, value)->head;
}

void key_table_put(struct key_table *t, struct sql_type type, struct posting *p)
{
    bool has_value = p->extra != NULL && !p->extra->hashed && !route_is_integer(type);
    const struct sql_value *value = has_value ? &p->extra->value : NULL;
    struct key_slot *slot = key_slot(t, p->key, type, value);
    t->len += slot->head == NULL;
    slot->key = p->key;
    list_put(&slot->head, p);
}

static void key_table_close_gap(struct key_table *t, size_t gap)
{
    size_t mask = t->cap - 1;
    t->slots[gap].head = NULL;
    for (size_t at = (gap + 1) & mask; t->slots[at].head != NULL; at = (at + 1) & mask) {
        size_t home = home_of(t->slots[at].key, t->cap);
        if (((at - home) & mask) < ((at - gap) & mask))
            continue;
        t->slots[gap] = t->slots[at];
        t->slots[at].head = NULL;
        gap = at;
    }
}

void key_table_remove(struct key_table *t, struct posting *p)
{
    if (p->prev != NULL) {
        list_take(NULL, p);
        return;
    }
    size_t at = home_of(p->key, t->cap);
    while (t->slots[at].head != p)
        at = (at + 1) & (t->cap - 1);
    list_take(&t->slots[at].head, p);
    if (t->slots[at].head != NULL)
        return;
    key_table_close_gap(t, at);
    t->len--;
    if (t->len == 0)
        key_table_fini(t);
}

void key_table_fini(struct key_table *t)
{
    free(t->slots);
    *t = (struct key_table){0};
}

/* --- Things by name --- */

static bool same_name(struct route_name a, struct route_name b)
{
    return a.low == b.low && a.high == b.high;
}

static size_t name_slot(struct route_name *const *slots, size_t cap,
                        struct route_name name)
{
    size_t at = home_of(name.low, cap);
    while (slots[at] != NULL && !same_name(*slots[at], name))
        at = (at + 1) & (cap - 1);
    return at;
}

void *name_set_find(const struct name_set *set, struct route_name name)
{
    return set->len == 0 ? NULL : set->slots[name_slot(set->slots, set->cap, name)];
}

int name_set_put(struct name_set *set, struct route_name *item)
{
    if (is_full(set->len, set->cap)) {
        size_t cap = set->cap == 0 ? CAP_FIRST : set->cap * 2;
        struct route_name **slots = calloc(cap, sizeof(*slots));
        if (slots == NULL)
            return ERR_MEMORY;
        for (size_t i = 0; i < set->cap; i++) {
            if (set->slots[i] != NULL)
                slots[name_slot(slots, cap, *set->slots[i])] = set->slots[i];
        }
        free(set->slots);
        set->slots = slots;
        set->cap = cap;
    }
    set->slots[name_slot(set->slots, set->cap, *item)] = item;
    set->len++;
    return 0;
}

void name_set_remove(struct name_set *set, const struct route_name *item)
{
    size_t mask = set->cap - 1;
    size_t gap = name_slot(set->slots, set->cap, *item);
    set->slots[gap] = NULL;
    set->len--;
    for (size_t at = (gap + 1) & mask; set->slots[at] != NULL; at = (at + 1) & mask) {
        size_t home = home_of(set->slots[at]->low, set->cap);
        if (((at - home) & mask) < ((at - gap) & mask))
            continue;
        set->slots[gap] = set->slots[at];
        set->slots[at] = NULL;
        gap = at;
    }
}

void name_set_fini(struct name_set *set)
{
    free(set->slots);
    *set = (struct name_set){0};
}
