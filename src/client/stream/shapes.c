/*
 * The memory of shapes: a list, newest first. It is looked at once for each request, and has at most a
 * few hundred entries.
 */

#include "client/stream/shapes.h"

struct entry {
    struct list link;
    struct blob key;
    struct blob expired; /* a handle; ptr NULL: none */
    struct blob cursor;  /* ptr NULL: not up to date lately */
    int64_t up_to_date_ms;
};

struct shapes {
    struct list entries;
    size_t count;
};

static void entry_free(coulomb_client *c, struct entry *e)
{
    list_remove(&e->link);
    c->shapes->count--;
    blob_fini(c->heap, &e->key);
    blob_fini(c->heap, &e->expired);
    blob_fini(c->heap, &e->cursor);
    heap_free(c->heap, e, sizeof(*e));
}

static void shapes_free(coulomb_client *c)
{
    while (!list_empty(&c->shapes->entries))
        entry_free(c, LIST_ENTRY(c->shapes->entries.next, struct entry, link));
    heap_free(c->heap, c->shapes, sizeof(*c->shapes));
    c->shapes = NULL;
}

/* Makes it the first. */
static struct entry *find(coulomb_client *c, struct slice key)
{
    if (!c->shapes)
        return NULL;
    for (struct list *l = c->shapes->entries.next; l != &c->shapes->entries;
         l = l->next) {
        struct entry *e = LIST_ENTRY(l, struct entry, link);

        if (slice_eq(key, slice_make(e->key.ptr, e->key.len))) {
            list_remove(&e->link);
            e->link.prev = &c->shapes->entries;
            e->link.next = c->shapes->entries.next;
            e->link.next->prev = &e->link;
            c->shapes->entries.next = &e->link;
            return e;
        }
    }
    return NULL;
}

static struct entry *make(coulomb_client *c, struct slice key)
{
    struct entry *e = find(c, key);

    if (e)
        return e;
    if (!c->shapes) {
        c->shapes = heap_zalloc(c->heap, sizeof(*c->shapes));
        if (!c->shapes)
            return NULL;
        list_init(&c->shapes->entries);
        c->shapes_free = shapes_free;
    }
    e = heap_zalloc(c->heap, sizeof(*e));
    if (!e || blob_set(c->heap, &e->key, key.ptr, key.len) != COULOMB_OK) {
        heap_free(c->heap, e, sizeof(*e));
        return NULL;
    }
    list_init(&e->link);
    list_push(&c->shapes->entries, &e->link);
    c->shapes->count++;
    find(c, key);
    if (c->shapes->count > SHAPES_MAX)
        entry_free(c, LIST_ENTRY(c->shapes->entries.prev, struct entry, link));
    return e;
}

const char *shapes_expired(coulomb_client *c, struct slice key)
{
    struct entry *e = find(c, key);

    return e ? e->expired.ptr : NULL;
}

void shapes_mark_expired(coulomb_client *c, struct slice key, struct slice handle)
{
    struct entry *e = make(c, key);

    if (e && blob_set(c->heap, &e->expired, handle.ptr, handle.len) != COULOMB_OK)
        blob_fini(c->heap, &e->expired);
}

void shapes_forget(coulomb_client *c, struct slice key)
{
    struct entry *e = find(c, key);

    if (e)
        entry_free(c, e);
}

const char *shapes_cursor(coulomb_client *c, struct slice key)
{
    struct entry *e = find(c, key);

    if (!e || !e->cursor.ptr || client_now(c) - e->up_to_date_ms >= SHAPES_REPLAY_MS)
        return NULL;
    return e->cursor.len > 0 ? e->cursor.ptr : NULL;
}

void shapes_up_to_date(coulomb_client *c, struct slice key, struct slice cursor)
{
    struct entry *e = make(c, key);

    if (!e)
        return;
    if (blob_set(c->heap, &e->cursor, cursor.ptr ? cursor.ptr : "", cursor.len) !=
        COULOMB_OK)
        blob_fini(c->heap, &e->cursor);
    e->up_to_date_ms = client_now(c);
}
