/*
 * Inside a json column, by JSON Pointer. The column is parsed into sql/'s tree, one container of
 * it is changed, and the tree is printed again: edits cost the document's size, which a draft
 * written by a person's action can afford, and the result has Postgres's normal form.
 *
 * Members of a container that changes are copied into a fresh array in the arena, never edited in
 * place.
 */

#include "client/value/draft.h"

#include <string.h>

#include "client/value/pointer.h"
#include "sql/jsonb.h"

struct path {
    struct arena arena;
    struct jsonb_node root;
    struct jsonb_node *parent; /* NULL: the pointer is "" */
    struct slice last;         /* unescaped */
};

/* The place of a member among its siblings, which lie ordered; or where it would be. */
static bool find_member(const struct jsonb_node *object, struct slice key, size_t *index)
{
    for (size_t i = 0; i < object->count; i++) {
        struct slice k = object->items[i].key;
        int order = (k.len > key.len) - (k.len < key.len);

        if (order == 0 && k.len > 0)
            order = memcmp(k.ptr, key.ptr, k.len);
        if (order >= 0) {
            *index = i;
            return order == 0;
        }
    }
    *index = object->count;
    return false;
}

static struct jsonb_node *child_of(struct jsonb_node *node, struct slice token)
{
    size_t i;

    if (node->kind == JSONB_OBJECT)
        return find_member(node, token, &i) ? &node->items[i] : NULL;
    if (node->kind == JSONB_ARRAY && pointer_index(token, node->count, &i) &&
        i < node->count)
        return &node->items[i];
    return NULL;
}

static int bad_path(struct coulomb_draft *d, const char *column, const char *pointer)
{
    return client_fail(d->client, COULOMB_E_PATH, "column %s has nothing at \"%s\"",
                       column, pointer ? pointer : "(NULL)");
}

/* Parses the column and walks to the container of what the pointer names. */
static int path_open(struct path *p, struct coulomb_draft *d, int column,
                     const char *pointer)
{
    const coulomb_value *v = &d->values[column];
    const char *name = d->layout->columns[column].name;
    struct slice text = SLICE_LIT("{}");
    struct jsonb_node *node = &p->root;
    struct pointer way;
    struct err err;
    int code;

    if (d->layout->columns[column].type != COULOMB_JSON)
        return client_fail(d->client, COULOMB_E_TYPE, "column %s is %s, not json", name,
                           coulomb_type_name(d->layout->columns[column].type));
    if (v->type == COULOMB_JSON)
        text = value_slice(v);
    if (jsonb_parse(text, &p->arena, &p->root, &err) != 0)
        return client_no_memory(d->client); /* rows hold only json that parses */
    code = pointer_parse(pointer, &d->pool, &way);
    if (code != COULOMB_OK)
        return code == COULOMB_E_MEMORY ? client_no_memory(d->client)
                                        : bad_path(d, name, pointer);
    p->parent = NULL;
    for (size_t i = 0; i < way.count; i++) {
        if (p->parent)
            node = child_of(p->parent, p->last);
        if (!node || jsonb_scalar(node))
            return bad_path(d, name, pointer);
        p->parent = node;
        p->last = way.tokens[i];
    }
    return COULOMB_OK;
}

/* A container's items with room for one more. */
static struct jsonb_node *items_copy(struct arena *arena, const struct jsonb_node *node)
{
    struct jsonb_node *items = arena_calloc(arena, node->count + 1, sizeof(*items));

    if (items && node->count > 0)
        memcpy(items, node->items, node->count * sizeof(*items));
    return items;
}

static int node_put(struct path *p, const struct jsonb_node *value, bool *found)
{
    struct jsonb_node *to = p->parent;
    struct jsonb_node *items;
    size_t i = 0;
    bool there;

    *found = true;
    if (!to) {
        p->root = *value;
        return COULOMB_OK;
    }
    if (to->kind == JSONB_OBJECT) {
        there = find_member(to, p->last, &i);
    } else {
        *found = pointer_index(p->last, to->count, &i);
        there = i < to->count;
    }
    if (!*found)
        return COULOMB_OK;
    items = items_copy(&p->arena, to);
    if (!items)
        return COULOMB_E_MEMORY;
    if (!there) {
        memmove(items + i + 1, items + i, (to->count - i) * sizeof(*items));
        to->count++;
    }
    items[i] = *value;
    items[i].key = to->kind == JSONB_OBJECT ? p->last : (struct slice){NULL, 0};
    to->items = items;
    return COULOMB_OK;
}

static int node_remove(struct path *p, bool *found)
{
    struct jsonb_node *from = p->parent;
    struct jsonb_node *items;
    struct jsonb_node *node = from ? child_of(from, p->last) : NULL;
    size_t i;

    *found = node != NULL;
    if (!node)
        return COULOMB_OK;
    i = (size_t)(node - from->items);
    items = items_copy(&p->arena, from);
    if (!items)
        return COULOMB_E_MEMORY;
    memmove(items + i, items + i + 1, (from->count - i - 1) * sizeof(*items));
    from->items = items;
    from->count--;
    return COULOMB_OK;
}

static int path_write(struct path *p, struct coulomb_draft *d, int column)
{
    struct buf b;
    coulomb_value v;
    int code;

    buf_init_from(&b, VALUE_BYTES_MAX, &d->client->heap->mem);
    jsonb_print(&p->root, &b);
    v = coulomb_bytes_of(COULOMB_JSON, b.ptr, b.len);
    code = b.failed ? client_no_memory(d->client) : draft_put(d, (size_t)column, &v);
    buf_fini(&b);
    return code;
}

int coulomb_draft_json_set(coulomb_draft *d, const char *column, const char *pointer,
                           const char *json)
{
    struct path p;
    struct jsonb_node value;
    struct err err;
    bool found = true;
    int i = draft_column(d, column);
    int code;

    if (i < 0)
        return i;
    memset(&p, 0, sizeof(p));
    arena_init_from(&p.arena, VALUE_BYTES_MAX, &d->client->heap->mem);
    code = path_open(&p, d, i, pointer);
    if (code == COULOMB_OK) {
        code = jsonb_parse(slice_of(json), &p.arena, &value, &err);
        if (code != 0)
            code = client_fail(d->client, value_code(code), "column %s: %s", column,
                               err.message);
    }
    if (code == COULOMB_OK && node_put(&p, &value, &found) != COULOMB_OK)
        code = client_no_memory(d->client);
    if (code == COULOMB_OK && !found)
        code = bad_path(d, column, pointer);
    if (code == COULOMB_OK)
        code = path_write(&p, d, i);
    arena_fini(&p.arena);
    return code;
}

int coulomb_draft_json_unset(coulomb_draft *d, const char *column, const char *pointer)
{
    struct path p;
    bool found = true;
    int i = draft_column(d, column);
    int code;

    if (i < 0)
        return i;
    memset(&p, 0, sizeof(p));
    arena_init_from(&p.arena, VALUE_BYTES_MAX, &d->client->heap->mem);
    code = path_open(&p, d, i, pointer);
    if (code == COULOMB_OK && node_remove(&p, &found) != COULOMB_OK)
        code = client_no_memory(d->client);
    if (code == COULOMB_OK && !found)
        code = bad_path(d, column, pointer);
    if (code == COULOMB_OK)
        code = path_write(&p, d, i);
    arena_fini(&p.arena);
    return code;
}
