/*
 * Fields. There are few, so they are looked for one by one.
 */

#include "client/net/fields.h"

#include <string.h>

static void free_at(struct heap *h, struct net_fields *f, size_t i)
{
    heap_free_str(h, (char *)(uintptr_t)f->items[i].name);
    heap_free_str(h, (char *)(uintptr_t)f->items[i].value);
}

void net_fields_clear(struct heap *h, struct net_fields *f)
{
    while (f->count > 0)
        free_at(h, f, --f->count);
}

void net_fields_fini(struct heap *h, struct net_fields *f)
{
    net_fields_clear(h, f);
    heap_free(h, f->items, f->cap * sizeof(*f->items));
    *f = (struct net_fields){0};
}

static size_t find(const struct net_fields *f, const char *name)
{
    size_t i = 0;

    while (i < f->count && strcmp(f->items[i].name, name) != 0)
        i++;
    return i;
}

const char *net_fields_get(const struct net_fields *f, const char *name)
{
    size_t i = find(f, name);

    return i < f->count ? f->items[i].value : NULL;
}

static int add(struct heap *h, struct net_fields *f, const char *name, char *value)
{
    void *items = f->items;
    char *n = heap_strdup(h, name);

    if (!n || heap_grow(h, &items, &f->cap, f->count + 1, sizeof(*f->items)) != 0) {
        heap_free_str(h, n);
        return COULOMB_E_MEMORY;
    }
    f->items = items;
    f->items[f->count++] = (struct net_header){n, value};
    return COULOMB_OK;
}

int net_fields_set(struct heap *h, struct net_fields *f, const char *name,
                   const char *value)
{
    size_t i = find(f, name);
    char *copy;

    if (!value) {
        if (i < f->count) {
            free_at(h, f, i);
            f->items[i] = f->items[--f->count];
        }
        return COULOMB_OK;
    }
    copy = heap_strdup(h, value);
    if (!copy)
        return COULOMB_E_MEMORY;
    if (i < f->count) {
        heap_free_str(h, (char *)(uintptr_t)f->items[i].value);
        f->items[i].value = copy;
        return COULOMB_OK;
    }
    if (add(h, f, name, copy) != COULOMB_OK) {
        heap_free_str(h, copy);
        return COULOMB_E_MEMORY;
    }
    return COULOMB_OK;
}
