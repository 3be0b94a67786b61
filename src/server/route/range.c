/* Which ranges hold a value? A B-tree of ranges in the order in which they begin; each node knows
 * of each of its children where the last range below ends. A search enters the children whose
 * first range begins before the value and whose last ends behind it. So finding costs the depth,
 * and a path for each hit; ranges that don't hold the value cost nothing. Adding and removing
 * cost the depth.
 *
 * What a search compares are keys of 64 bits, next to each other in a node, since at 100,000
 * ranges the misses of the cache are all its time: one for each level of a binary tree, and here
 * few. A node has a range itself only by way of its posting, read where keys are equal and don't
 * tell (never for integers, whose ranges are closed ones of keys), and where it is hit.
 *
 * Siblings that fit into one node with room to spare are joined, so of two neighbours the fuller
 * has more than a third.
 *
 * (A segment tree would need the end points beforehand; two sorted lists cost what lies on
 * one side of the value; a treap was five times as slow with 100,000 ranges.) */
#include <stdlib.h>

#include "base/assert.h"
#include "server/route/index.h"

#define NODE_MAX 32
/* Two siblings with no more than this together become one. */
#define JOIN_MAX 24
/* Of 2^32 ranges with the fewest in each node; a search is as deep. */
#define DEPTH_MAX 16

union item {
    struct posting *posting; /* of a leaf */
    struct range_node *child;
};

struct ends {
    const struct range *first; /* of those below */
    const struct range *last;  /* the one that ends last */
};

struct range_node {
    uint64_t begins[NODE_MAX]; /* low keys: of a posting's range, of a child's first */
    uint64_t ends[NODE_MAX];   /* high keys likewise, of a child's last */
    union item items[NODE_MAX];
    uint16_t count;
    bool leaf;
    struct ends of[]; /* what the keys are of: not in a leaf */
};

/* --- Order --- */

static int by_value(struct sql_type type, uint64_t a_key, const struct sql_value *a,
                    uint64_t b_key, const struct sql_value *b)
{
    if (a_key != b_key)
        return a_key < b_key ? -1 : 1;
    return route_is_integer(type) ? 0 : sql_value_cmp(type, a, b);
}

/* No two ranges are equal. */
static int by_place(struct sql_type type, const struct range *a, const struct range *b)
{
    int order = (int)b->low_missing - (int)a->low_missing;
    if (order == 0 && !a->low_missing)
        order = by_value(type, a->low_key, &a->values[0], b->low_key, &b->values[0]);
    if (order == 0)
        order = (int)a->low_open - (int)b->low_open;
    if (order != 0)
        return order;
    uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    return x < y ? -1 : x > y;
}

static int by_end(struct sql_type type, const struct range *a, const struct range *b)
{
    if (a->high_missing || b->high_missing)
        return (int)a->high_missing - (int)b->high_missing;
    int order = by_value(type, a->high_key, &a->values[1], b->high_key, &b->values[1]);
    return order != 0 ? order : (int)b->high_open - (int)a->high_open;
}

/* --- Nodes --- */

static const struct range *first_of(const struct range_node *n, size_t i)
{
    return n->leaf ? n->items[i].posting->extra->range : n->of[i].first;
}

static const struct range *last_of(const struct range_node *n, size_t i)
{
    return n->leaf ? n->items[i].posting->extra->range : n->of[i].last;
}

static struct range_node *node_new(bool leaf)
{
    size_t size = sizeof(struct range_node);
    struct range_node *n = malloc(leaf ? size : size + NODE_MAX * sizeof(struct ends));
    if (n != NULL) {
        n->count = 0;
        n->leaf = leaf;
    }
    return n;
}

/* Items of one kind of node, which may be one and the same. The counts are the caller's. */
static void node_move(struct range_node *to, size_t at, const struct range_node *from,
                      size_t first, size_t count)
{
    memmove(&to->begins[at], &from->begins[first], count * sizeof(uint64_t));
    memmove(&to->ends[at], &from->ends[first], count * sizeof(uint64_t));
    memmove(&to->items[at], &from->items[first], count * sizeof(union item));
    if (!to->leaf)
        memmove(&to->of[at], &from->of[first], count * sizeof(struct ends));
}

/* The keys of an item, after a change of it or below it. */
static void node_refresh(struct sql_type type, struct range_node *n, size_t i)
{
    if (n->leaf) {
        const struct range *r = n->items[i].posting->extra->range;
        n->begins[i] = r->low_key;
        n->ends[i] = r->high_key;
        return;
    }
    const struct range_node *child = n->items[i].child;
    size_t last = 0;
    for (size_t j = 1; j < child->count; j++) {
        if (child->ends[j] > child->ends[last] ||
            (child->ends[j] == child->ends[last] && !route_is_integer(type) &&
             by_end(type, last_of(child, j), last_of(child, last)) > 0))
            last = j;
    }
    n->begins[i] = child->begins[0];
    n->ends[i] = child->ends[last];
    n->of[i] = (struct ends){first_of(child, 0), last_of(child, last)};
}

static void node_put(struct sql_type type, struct range_node *n, size_t at,
                     union item item)
{
    node_move(n, at + 1, n, at, n->count - at);
    n->items[at] = item;
    n->count++;
    node_refresh(type, n, at);
}

static void node_take(struct range_node *n, size_t at)
{
    n->count--;
    node_move(n, at, n, at + 1, n->count - at);
}

/* How many items begin with r or before it. */
static size_t node_upper(struct sql_type type, const struct range_node *n,
                         const struct range *r)
{
    size_t low = 0, high = n->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        bool before = n->begins[middle] != r->low_key
                          ? n->begins[middle] < r->low_key
                          : by_place(type, first_of(n, middle), r) <= 0;
        low = before ? middle + 1 : low;
        high = before ? high : middle;
    }
    return low;
}

/* --- Adding and removing --- */

/* From the root down to where r is or goes. */
struct path {
    struct range_node *nodes[DEPTH_MAX];
    size_t at[DEPTH_MAX]; /* the item that leads on; of the leaf the place behind r */
    size_t depth;
};

static void find_path(struct range_node *root, struct sql_type type,
                      const struct range *r, struct path *path)
{
    struct range_node *n = root;
    path->depth = 0;
    for (;;) {
        ASSERT(path->depth < DEPTH_MAX);
        size_t upper = node_upper(type, n, r);
        path->nodes[path->depth] = n;
        path->at[path->depth++] = n->leaf || upper == 0 ? upper : upper - 1;
        if (n->leaf)
            return;
        n = n->items[upper == 0 ? 0 : upper - 1].child;
    }
}

/* The nodes that putting an item at the path's end will need, the leaf first: nothing can fail
 * behind that. ERR_MEMORY. */
static int make_spares(const struct path *path, struct range_node **spares)
{
    size_t count = 0;
    while (count < path->depth && path->nodes[path->depth - 1 - count]->count == NODE_MAX)
        count++;
    count += count == path->depth; /* a new root */
    for (size_t i = 0; i < count; i++) {
        spares[i] = node_new(i == 0);
        if (spares[i] != NULL)
            continue;
        while (i-- > 0)
            free(spares[i]);
        return ERR_MEMORY;
    }
    return 0;
}

/* The upper half goes to an empty node, and the item to where it belongs. What is put behind all
 * others goes there alone, so that ranges that come in order leave full nodes. */
static void node_split(struct sql_type type, struct range_node *n,
                       struct range_node *right, size_t at, union item item)
{
    size_t keep = at == NODE_MAX ? NODE_MAX : NODE_MAX / 2;
    node_move(right, 0, n, keep, NODE_MAX - keep);
    right->count = (uint16_t)(NODE_MAX - keep);
    n->count = (uint16_t)keep;
    if (at > keep || keep == NODE_MAX)
        node_put(type, right, at - keep, item);
    else
        node_put(type, n, at, item);
}

int range_put(struct range_node **root, struct sql_type type, struct posting *p)
{
    struct path path;
    struct range_node *spares[DEPTH_MAX + 1];
    if (*root == NULL) {
        *root = node_new(true);
        if (*root == NULL)
            return ERR_MEMORY;
    }
    find_path(*root, type, p->extra->range, &path);
    if (make_spares(&path, spares) < 0)
        return ERR_MEMORY;
    union item item = {.posting = p};
    struct range_node **spare = spares;
    size_t level = path.depth;
    size_t at = path.at[level - 1];
    while (level-- > 0 && path.nodes[level]->count == NODE_MAX) {
        node_split(type, path.nodes[level], *spare, at, item);
        item.child = *spare++;
        if (level == 0) {
            *root = *spare;
            node_put(type, *root, 0, (union item){.child = path.nodes[0]});
            node_put(type, *root, 1, item);
            return 0;
        }
        node_refresh(type, path.nodes[level - 1], path.at[level - 1]);
        at = path.at[level - 1] + 1;
    }
    node_put(type, path.nodes[level], at, item);
    while (level-- > 0)
        node_refresh(type, path.nodes[level], path.at[level]);
    return 0;
}

/* Child i and the next become one, if they are small. */
static void join_next(struct sql_type type, struct range_node *n, size_t i)
{
    if (i + 1 >= n->count)
        return;
    struct range_node *left = n->items[i].child;
    struct range_node *right = n->items[i + 1].child;
    if (left->count + right->count > JOIN_MAX)
        return;
    node_move(left, left->count, right, 0, right->count);
    left->count = (uint16_t)(left->count + right->count);
    free(right);
    node_take(n, i + 1);
    node_refresh(type, n, i);
}

void range_remove(struct range_node **root, struct sql_type type, struct posting *p)
{
    struct path path;
    find_path(*root, type, p->extra->range, &path);
    size_t level = path.depth - 1;
    ASSERT(path.at[level] > 0 &&
           path.nodes[level]->items[path.at[level] - 1].posting == p);
    node_take(path.nodes[level], path.at[level] - 1);
    while (level-- > 0) {
        struct range_node *n = path.nodes[level];
        size_t i = path.at[level];
        if (n->items[i].child->count == 0) {
            free(n->items[i].child);
            node_take(n, i);
            continue;
        }
        node_refresh(type, n, i);
        join_next(type, n, i);
        if (i > 0)
            join_next(type, n, i - 1);
    }
    while (*root != NULL && (*root)->count < 2 &&
           ((*root)->count == 0 || !(*root)->leaf)) {
        struct range_node *old = *root;
        *root = old->count == 0 ? NULL : old->items[0].child;
        free(old);
    }
}

/* --- Finding --- */

/* A value looked for. */
struct stab {
    struct sql_type type;
    const struct sql_value *at;
    uint64_t key;
    bool integer; /* equal keys are equal values, and all ranges are closed */
    const struct range_found *found;
};

/* For equal keys. */
static bool begins_before(const struct stab *s, const struct range *r)
{
    if (r->low_missing)
        return true;
    int order = sql_value_cmp(s->type, &r->values[0], s->at);
    return order < 0 || (order == 0 && !r->low_open);
}

static bool ends_behind(const struct stab *s, const struct range *r)
{
    if (r->high_missing)
        return true;
    int order = sql_value_cmp(s->type, &r->values[1], s->at);
    return order > 0 || (order == 0 && !r->high_open);
}

/* How many items begin before the value, or with it. */
static size_t count_begun(const struct stab *s, const struct range_node *n)
{
    size_t low = 0, high = n->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        bool before = n->begins[middle] != s->key
                          ? n->begins[middle] < s->key
                          : s->integer || begins_before(s, first_of(n, middle));
        low = before ? middle + 1 : low;
        high = before ? high : middle;
    }
    return low;
}

// NOLINTNEXTLINE(misc-no-recursion): at most DEPTH_MAX levels
static int stab(const struct stab *s, const struct range_node *n)
{
    size_t begun = count_begun(s, n);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < begun; i++) {
        if (n->ends[i] < s->key ||
            (n->ends[i] == s->key && !s->integer && !ends_behind(s, last_of(n, i))))
            continue;
        rc = n->leaf ? s->found->hit(s->found->ctx, n->items[i].posting)
                     : stab(s, n->items[i].child);
    }
    return rc;
}

int range_stab(const struct range_node *root, struct sql_type type,
               const struct sql_value *at, const struct range_found *found)
{
    struct stab s = {type, at, sql_value_sort_key(type, at), route_is_integer(type),
                     found};
    return stab(&s, root);
}

/* --- Ranges --- */

/* The value as its own memory has it, by way of its text where it points to some. */
static int copy_value(struct range *r, struct sql_type type, const struct sql_value *from,
                      struct sql_value *to)
{
    *to = *from;
    if (route_is_plain(type))
        return 0;
    if (r->arena == NULL) {
        r->arena = malloc(sizeof *r->arena);
        if (r->arena == NULL)
            return ERR_MEMORY;
        arena_init(r->arena, ROUTE_ARENA_MAX);
    }
    struct buf text;
    buf_init(&text, ROUTE_ARENA_MAX);
    sql_value_out(type, from, &text);
    char *copy = text.failed ? NULL : arena_dup(r->arena, buf_slice(&text));
    struct slice s = slice_make(copy, text.len);
    int rc = copy == NULL ? ERR_MEMORY : sql_value_in(type, s, r->arena, to, NULL);
    buf_fini(&text);
    return rc;
}

/* Of integers the keys say all: open ends are the next keys. Where there is none, and the range
 * is empty, low is behind high. */
static void set_integer_keys(struct range *r, const struct sql_cond *cond)
{
    if (cond->low != NULL)
        r->low_key = sql_value_sort_key(cond->type, cond->low);
    if (cond->high != NULL)
        r->high_key = sql_value_sort_key(cond->type, cond->high);
    bool empty = (cond->low_open && r->low_key == UINT64_MAX) ||
                 (cond->high_open && r->high_key == 0);
    r->low_key = empty ? UINT64_MAX : r->low_key + cond->low_open;
    r->high_key = empty ? 0 : r->high_key - cond->high_open;
}

static int set_ends(struct range *r, const struct sql_cond *cond)
{
    int rc = 0;
    r->low_missing = cond->low == NULL;
    r->low_open = cond->low_open;
    r->high_missing = cond->high == NULL;
    r->high_open = cond->high_open;
    if (cond->low != NULL) {
        r->low_key = sql_value_sort_key(cond->type, cond->low);
        rc = copy_value(r, cond->type, cond->low, &r->values[0]);
    }
    if (rc == 0 && cond->high != NULL) {
        r->high_key = sql_value_sort_key(cond->type, cond->high);
        rc = copy_value(r, cond->type, cond->high, &r->values[1]);
    }
    return rc;
}

int range_new(const struct sql_cond *cond, struct range **out)
{
    bool integer = route_is_integer(cond->type);
    struct range *r = calloc(1, sizeof *r + (integer ? 0 : 2 * sizeof(struct sql_value)));
    if (r == NULL)
        return ERR_MEMORY;
    r->high_key = UINT64_MAX;
    if (integer) {
        set_integer_keys(r, cond);
    } else if (set_ends(r, cond) < 0) {
        range_free(r);
        return ERR_MEMORY;
    }
    *out = r;
    return 0;
}

void range_free(struct range *r)
{
    if (r == NULL)
        return;
    if (r->arena != NULL) {
        arena_fini(r->arena);
        free(r->arena);
    }
    free(r);
}
