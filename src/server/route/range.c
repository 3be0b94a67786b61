/* Which ranges hold a value? An interval tree: a treap ordered by where ranges begin, each node
 * knowing where the last of its subtree ends. Finding costs the depth, and a path for each
 * hit; ranges that don't hold the value cost nothing. Adding and removing cost the depth,
 * which is logarithmic whatever the order of insertion, since priorities are random.
 *
 * (A segment tree would need the end points beforehand; two sorted lists cost what lies on
 * one side of the value.) */
#include <stdlib.h>

#include "base/assert.h"
#include "server/route/index.h"

/* --- Order --- */

static int by_low(struct sql_type type, const struct range *a, const struct range *b)
{
    if (!a->has_low || !b->has_low)
        return (int)a->has_low - (int)b->has_low;
    int order = sql_value_cmp(type, &a->low, &b->low);
    return order != 0 ? order : (int)a->low_open - (int)b->low_open;
}

/* No two nodes are equal. */
static int by_place(struct sql_type type, const struct range *a, const struct range *b)
{
    int order = by_low(type, a, b);
    if (order != 0)
        return order;
    uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    return x < y ? -1 : x > y;
}

static int by_end(struct sql_type type, const struct range_end *a,
                  const struct range_end *b)
{
    if (a->missing || b->missing)
        return (int)a->missing - (int)b->missing;
    int order = sql_value_cmp(type, &a->at, &b->at);
    return order != 0 ? order : (int)b->open - (int)a->open;
}

static bool begins_before(struct sql_type type, const struct range *n,
                          const struct sql_value *at)
{
    if (!n->has_low)
        return true;
    int order = sql_value_cmp(type, &n->low, at);
    return order < 0 || (order == 0 && !n->low_open);
}

static bool ends_behind(struct sql_type type, const struct range_end *end,
                        const struct sql_value *at)
{
    if (end->missing)
        return true;
    int order = sql_value_cmp(type, &end->at, at);
    return order > 0 || (order == 0 && !end->open);
}

/* --- The treap --- */

static void refresh(struct sql_type type, struct range *n)
{
    n->last = n->high;
    if (n->left != NULL && by_end(type, &n->left->last, &n->last) > 0)
        n->last = n->left->last;
    if (n->right != NULL && by_end(type, &n->right->last, &n->last) > 0)
        n->last = n->right->last;
}

/* What lies before n and what behind it. */
// NOLINTNEXTLINE(misc-no-recursion): as deep as the treap, whose shape is random
static void split(struct sql_type type, struct range *root, const struct range *n,
                  struct range **before, struct range **behind)
{
    if (root == NULL) {
        *before = *behind = NULL;
        return;
    }
    if (by_place(type, root, n) < 0) {
        split(type, root->right, n, &root->right, behind);
        *before = root;
    } else {
        split(type, root->left, n, before, &root->left);
        *behind = root;
    }
    refresh(type, root);
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the treap, whose shape is random
static struct range *join(struct sql_type type, struct range *a, struct range *b)
{
    if (a == NULL || b == NULL)
        return a != NULL ? a : b;
    struct range *top = a->priority > b->priority ? a : b;
    if (top == a)
        a->right = join(type, a->right, b);
    else
        b->left = join(type, a, b->left);
    refresh(type, top);
    return top;
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the treap, whose shape is random
void range_put(struct range **root, struct sql_type type, struct range *n)
{
    struct range *top = *root;
    if (top == NULL || top->priority < n->priority) {
        split(type, top, n, &n->left, &n->right);
        *root = n;
        refresh(type, n);
        return;
    }
    range_put(by_place(type, n, top) < 0 ? &top->left : &top->right, type, n);
    refresh(type, top);
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the treap, whose shape is random
void range_remove(struct range **root, struct sql_type type, struct range *n)
{
    struct range *top = *root;
    ASSERT(top != NULL);
    if (top == n) {
        *root = join(type, n->left, n->right);
        return;
    }
    range_remove(by_place(type, n, top) < 0 ? &top->left : &top->right, type, n);
    refresh(type, top);
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the treap, whose shape is random
int range_stab(struct range *n, struct sql_type type, const struct sql_value *at,
               const struct range_found *found)
{
    int rc = 0;
    while (rc == 0 && n != NULL && ends_behind(type, &n->last, at)) {
        rc = range_stab(n->left, type, at, found);
        if (rc < 0 || !begins_before(type, n, at))
            break;
        if (ends_behind(type, &n->high, at))
            rc = found->hit(found->ctx, n->posting);
        n = n->right;
    }
    return rc;
}

/* --- Nodes --- */

/* The value as its own memory has it, by way of its text where it points to some. */
static int copy_value(struct range *n, struct sql_type type, const struct sql_value *from,
                      struct sql_value *to)
{
    *to = *from;
    if (route_is_plain(type))
        return 0;
    if (n->arena == NULL) {
        n->arena = malloc(sizeof *n->arena);
        if (n->arena == NULL)
            return ERR_MEMORY;
        arena_init(n->arena, ROUTE_ARENA_MAX);
    }
    struct buf text;
    buf_init(&text, ROUTE_ARENA_MAX);
    sql_value_out(type, from, &text);
    char *copy = text.failed ? NULL : arena_dup(n->arena, buf_slice(&text));
    struct slice s = slice_make(copy, text.len);
    int rc = copy == NULL ? ERR_MEMORY : sql_value_in(type, s, n->arena, to, NULL);
    buf_fini(&text);
    return rc;
}

int range_new(const struct sql_cond *cond, uint64_t priority, struct range **out)
{
    struct range *n = calloc(1, sizeof *n);
    if (n == NULL)
        return ERR_MEMORY;
    n->priority = priority;
    n->has_low = cond->low != NULL;
    n->high.missing = cond->high == NULL;
    n->low_open = cond->low_open;
    n->high.open = cond->high_open;
    int rc = 0;
    if (n->has_low)
        rc = copy_value(n, cond->type, cond->low, &n->low);
    if (rc == 0 && !n->high.missing)
        rc = copy_value(n, cond->type, cond->high, &n->high.at);
    if (rc < 0) {
        range_free(n);
        return ERR_MEMORY;
    }
    *out = n;
    return 0;
}

void range_free(struct range *n)
{
    if (n == NULL)
        return;
    if (n->arena != NULL) {
        arena_fini(n->arena);
        free(n->arena);
    }
    free(n);
}
