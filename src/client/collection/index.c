/*
 * Indexes over the visible rows: ordered by a column's value and then the key, or hashed. They are
 * derived: when memory is out while one is updated it is thrown away and made anew with its next
 * use, so that an edit never fails for an index.
 */

#include "client/collection/index.h"

#include <stdio.h>
#include <string.h>

#define UNREAD_MIN 1000

/* --- Order ---------------------------------------------------------------------------------- */

/* What the index has of the row, in the row or in the client's scratch. */
static int index_value(const struct coulomb_index *ix, const struct coulomb_row *row,
                       coulomb_value *out)
{
    return field_at(row, (size_t)ix->column, ix->pointer, &ix->coll->client->scratch,
                    out);
}

static int by_column(const struct coulomb_row *a, const struct coulomb_row *b, void *arg)
{
    struct coulomb_index *ix = arg;
    int order = 0;

    if (a == b)
        return 0;
    if (ix->column >= 0) {
        struct arena *arena = &ix->coll->client->scratch;
        coulomb_value x;
        coulomb_value y;

        arena_reset(arena);
        if (index_value(ix, a, &x) != COULOMB_OK ||
            index_value(ix, b, &y) != COULOMB_OK ||
            value_compare(&x, &y, arena, &order) != COULOMB_OK)
            ix->failed = true;
    } else if (ix->coll->options.compare) {
        ix->coll->client->locked++;
        order = ix->coll->options.compare(a, b, ix->coll->options.compare_arg);
        ix->coll->client->locked--;
    }
    return order != 0 ? order : coulomb_key_compare(row_key(a), row_key(b));
}

bool bound_before(const struct coulomb_row *row, void *arg)
{
    struct bound *b = arg;
    struct arena *arena = &b->ix->coll->client->scratch;
    coulomb_value v;
    int order = 0;

    arena_reset(arena);
    if (index_value(b->ix, row, &v) != COULOMB_OK ||
        value_compare(&v, b->value, arena, &order) != COULOMB_OK)
        b->failed = true;
    return b->after ? order <= 0 : order < 0;
}

/* --- Hash ------------------------------------------------------------------------------------ */

static int hash_of(struct coulomb_index *ix, const struct coulomb_row *row,
                   uint64_t *hash)
{
    struct arena *arena = &ix->coll->client->scratch;
    coulomb_value v;
    int code;

    arena_reset(arena);
    code = index_value(ix, row, &v);
    return code == COULOMB_OK ? value_hash(&v, ix->coll->client->seed, arena, hash)
                              : code;
}

static void hash_place(struct hash_slot *slots, size_t mask, struct hash_slot item)
{
    size_t i = item.hash & mask;

    while (slots[i].row)
        i = (i + 1) & mask;
    slots[i] = item;
}

static int hash_grow(struct coulomb_index *ix)
{
    size_t count = ix->slot_count > 0 ? ix->slot_count : 16;
    struct hash_slot *slots;

    while (ix->slot_used + 1 > count / 4 * 3)
        count *= 2;
    if (count == ix->slot_count)
        return COULOMB_OK;
    slots = heap_zalloc(ix->coll->heap, count * sizeof(*slots));
    if (!slots)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < ix->slot_count; i++) {
        if (ix->slots[i].row)
            hash_place(slots, count - 1, ix->slots[i]);
    }
    heap_free(ix->coll->heap, ix->slots, ix->slot_count * sizeof(*slots));
    ix->slots = slots;
    ix->slot_count = count;
    return COULOMB_OK;
}

static int hash_insert(struct coulomb_index *ix, struct coulomb_row *row)
{
    struct hash_slot item = {.row = row};
    int code = hash_of(ix, row, &item.hash);

    if (code == COULOMB_OK)
        code = hash_grow(ix);
    if (code != COULOMB_OK)
        return code;
    hash_place(ix->slots, ix->slot_count - 1, item);
    ix->slot_used++;
    return COULOMB_OK;
}

static bool hash_remove(struct coulomb_index *ix, struct coulomb_row *row)
{
    size_t mask = ix->slot_count - 1;
    uint64_t hash;
    size_t i;

    if (ix->slot_count == 0 || hash_of(ix, row, &hash) != COULOMB_OK)
        return false;
    for (i = hash & mask; ix->slots[i].row != row; i = (i + 1) & mask) {
        if (!ix->slots[i].row)
            return false;
    }
    for (size_t next = (i + 1) & mask; ix->slots[next].row; next = (next + 1) & mask) {
        size_t home = ix->slots[next].hash & mask;

        if (((next - home) & mask) >= ((next - i) & mask)) {
            ix->slots[i] = ix->slots[next];
            i = next;
        }
    }
    ix->slots[i].row = NULL;
    ix->slot_used--;
    return true;
}

/* --- One index --------------------------------------------------------------------------------- */

static void index_clear(struct coulomb_index *ix)
{
    sorted_fini(&ix->sorted);
    heap_free(ix->coll->heap, ix->slots, ix->slot_count * sizeof(*ix->slots));
    ix->slots = NULL;
    ix->slot_count = ix->slot_used = 0;
}

static void index_spoil(struct coulomb_index *ix)
{
    index_clear(ix);
    ix->failed = false;
    ix->stale = true;
}

static int index_insert(struct coulomb_index *ix, struct coulomb_row *row)
{
    int code = ix->type == COULOMB_INDEX_HASH ? hash_insert(ix, row)
                                              : sorted_insert(&ix->sorted, row);

    return ix->failed ? COULOMB_E_MEMORY : code;
}

static void index_update(struct coulomb_index *ix, struct coulomb_row *old,
                         struct coulomb_row *fresh)
{
    bool fine = true;

    if (ix->stale)
        return;
    if (old && fresh && ix->type == COULOMB_INDEX_ORDERED &&
        by_column(old, fresh, ix) == 0 && !ix->failed) {
        fine = sorted_replace(&ix->sorted, old, fresh);
    } else {
        if (old)
            fine = ix->type == COULOMB_INDEX_HASH ? hash_remove(ix, old)
                                                  : sorted_remove(&ix->sorted, old);
        if (fine && fresh)
            fine = index_insert(ix, fresh) == COULOMB_OK;
    }
    if (!fine || ix->failed)
        index_spoil(ix);
}

static int fill(struct coulomb_index *ix)
{
    struct coulomb_collection *coll = ix->coll;
    struct kent *ent;
    size_t it = 0;
    int code = COULOMB_OK;

    while (code == COULOMB_OK && (ent = ktab_next(&coll->synced, &it)) != NULL) {
        struct coulomb_row *over;
        const struct local *l = coll->locals.live > 0
                                    ? local_find(coll, row_key(ent->item), ent->hash)
                                    : NULL;

        if (!l || !local_overlay(l, &over))
            code = index_insert(ix, ent->item);
    }
    it = 0;
    while (code == COULOMB_OK && (ent = ktab_next(&coll->locals, &it)) != NULL) {
        struct coulomb_row *over;

        if (local_overlay(ent->item, &over) && over)
            code = index_insert(ix, over);
    }
    return code;
}

int index_fresh(struct coulomb_index *ix)
{
    if (!ix->stale)
        return COULOMB_OK;
    index_clear(ix);
    ix->stale = false;
    if (fill(ix) == COULOMB_OK)
        return COULOMB_OK;
    index_spoil(ix);
    return client_no_memory(ix->coll->client);
}

static void index_free(struct coulomb_index *ix)
{
    struct heap *h = ix->coll->heap;

    index_clear(ix);
    list_remove(&ix->link);
    pool_fini(&ix->pool);
    heap_free(h, ix, sizeof(*ix));
}

/* "column/pointer:type", in the index's pool. */
static int index_sign(struct coulomb_index *ix)
{
    const char *column =
        ix->column >= 0 ? ix->coll->layout->columns[ix->column].name : "";
    const char *pointer = ix->pointer ? ix->pointer->text : "";
    const char *type = ix->type == COULOMB_INDEX_HASH ? "hash" : "ordered";
    size_t n = strlen(column) + strlen(pointer) + strlen(type) + 2;

    ix->signature = pool_alloc(&ix->pool, n);
    if (!ix->signature)
        return client_no_memory(ix->coll->client);
    snprintf(ix->signature, n, "%s%s:%s", column, pointer, type);
    return COULOMB_OK;
}

/* pointer NULL: of the column itself. Errors are set. */
static int index_make(struct coulomb_collection *coll, int column, const char *pointer,
                      coulomb_index_type type, struct coulomb_index **out)
{
    struct coulomb_index *ix = heap_zalloc(coll->heap, sizeof(*ix));
    struct pointer *p;
    int code = COULOMB_OK;

    if (!ix)
        return client_no_memory(coll->client);
    ix->coll = coll;
    ix->type = type;
    ix->column = column;
    ix->stale = true;
    list_init(&ix->link);
    pool_init(&ix->pool, coll->heap);
    sorted_init(&ix->sorted, coll->heap, by_column, ix);
    if (pointer) {
        p = pool_alloc(&ix->pool, sizeof(*p));
        code = p ? json_column(coll, coll->layout->columns[column].name, pointer,
                               &ix->pool, p)
                 : client_no_memory(coll->client);
        ix->pointer = p;
    }
    if (code == COULOMB_OK)
        code = index_sign(ix);
    if (code == COULOMB_OK)
        code = index_fresh(ix);
    if (code == COULOMB_OK)
        *out = ix;
    else
        index_free(ix);
    return code;
}

/* --- A collection's ---------------------------------------------------------------------------- */

void indexes_update(struct coulomb_collection *coll, struct coulomb_row *old,
                    struct coulomb_row *fresh)
{
    if (coll->order) {
        /* A list that is kept up to date and never read costs more than making it anew. */
        if (!coll->order->stale && ++coll->order->unread > coll->visible / 8 + UNREAD_MIN)
            index_spoil(coll->order);
        index_update(coll->order, old, fresh);
    }
    for (struct list *l = coll->indexes.next; l != &coll->indexes; l = l->next)
        index_update(LIST_ENTRY(l, struct coulomb_index, link), old, fresh);
}

void indexes_reset(struct coulomb_collection *coll)
{
    if (coll->order)
        index_spoil(coll->order);
    for (struct list *l = coll->indexes.next; l != &coll->indexes; l = l->next)
        index_spoil(LIST_ENTRY(l, struct coulomb_index, link));
}

void indexes_free(struct coulomb_collection *coll)
{
    if (coll->order)
        index_free(coll->order);
    coll->order = NULL;
    while (!list_empty(&coll->indexes))
        index_free(LIST_ENTRY(coll->indexes.next, struct coulomb_index, link));
    coll->index_count = 0;
}

struct sorted *order_at_hand(struct coulomb_collection *coll)
{
    return coll->order && !coll->order->stale ? &coll->order->sorted : NULL;
}

struct sorted *order_get(struct coulomb_collection *coll)
{
    if (!coll->order &&
        index_make(coll, -1, NULL, COULOMB_INDEX_ORDERED, &coll->order) != COULOMB_OK)
        return NULL;
    if (index_fresh(coll->order) != COULOMB_OK)
        return NULL;
    coll->order->unread = 0;
    return &coll->order->sorted;
}

static void index_event(struct coulomb_index *ix, coulomb_event_type type)
{
    coulomb_event event = {.type = type, .index = ix->signature};

    event_emit(ix->coll, &event);
}

struct coulomb_index *index_ordered(struct coulomb_collection *coll, int column,
                                    int *code)
{
    *code = COULOMB_OK;
    for (struct list *l = coll->indexes.next; l != &coll->indexes; l = l->next) {
        struct coulomb_index *ix = LIST_ENTRY(l, struct coulomb_index, link);

        if (ix->column == column && !ix->pointer && ix->type == COULOMB_INDEX_ORDERED) {
            *code = index_fresh(ix);
            return *code == COULOMB_OK ? ix : NULL;
        }
    }
    return NULL;
}

int index_add(coulomb_collection *coll, const char *column, const char *pointer,
              coulomb_index_type type, coulomb_index **out)
{
    coulomb_client *c = coll->client;
    struct coulomb_index *ix;
    int i = layout_find(coll->layout, column);
    int code = client_enter(c);

    if (code != COULOMB_OK)
        return code;
    if (i < 0)
        return client_fail(c, COULOMB_E_COLUMN, "%s has no column %s", coll->id,
                           column ? column : "(NULL)");
    if (type != COULOMB_INDEX_ORDERED && type != COULOMB_INDEX_HASH)
        return client_fail(c, COULOMB_E_COLLECTION_CONFIG, "%d is no type of index",
                           (int)type);
    code = index_make(coll, i, pointer, type, &ix);
    if (code != COULOMB_OK)
        return code;
    list_push(&coll->indexes, &ix->link);
    coll->index_count++;
    index_event(ix, COULOMB_EVENT_INDEX_ADDED);
    if (out)
        *out = ix;
    return COULOMB_OK;
}

int coulomb_index_new(coulomb_collection *coll, const char *column,
                      coulomb_index_type type, coulomb_index **out)
{
    return index_add(coll, column, NULL, type, out);
}

int coulomb_index_new_json(coulomb_collection *coll, const char *column,
                           const char *pointer, coulomb_index_type type,
                           coulomb_index **out)
{
    return index_add(coll, column, pointer ? pointer : "(NULL)", type, out);
}

void coulomb_index_remove(coulomb_index *index)
{
    if (!index)
        return;
    index_event(index, COULOMB_EVENT_INDEX_REMOVED);
    index->coll->index_count--;
    index_free(index);
}

const char *coulomb_index_signature(const coulomb_index *index)
{
    return index->signature;
}

size_t coulomb_index_count(const coulomb_collection *coll)
{
    return coll->index_count;
}

coulomb_index *coulomb_index_at(const coulomb_collection *coll, size_t i)
{
    for (struct list *l = coll->indexes.next; l != &coll->indexes; l = l->next) {
        if (i-- == 0)
            return LIST_ENTRY(l, struct coulomb_index, link);
    }
    return NULL;
}
