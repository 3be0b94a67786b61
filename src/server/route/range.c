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

static uint64_t key_of_bytes(const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    uint64_t key = 0;
    for (size_t i = 0; i < 8; i++)
        key = key << 8 | (i < len ? p[i] : 0u);
    return key;
}

static uint64_t key_of_float(double f)
{
    const uint64_t sign = UINT64_C(1) << 63;
    uint64_t bits;
    double plain = f == 0 ? 0 : f; /* -0 is 0 */
    memcpy(&bits, &plain, sizeof bits);
    if (f != f)
        return UINT64_MAX;
    return (bits & sign) != 0 ? ~bits : bits | sign;
}

/* What is less never has the greater key. */
static uint64_t order_key(struct sql_type type, const struct sql_value *v)
{
    if (route_is_integer(type))
        return (uint64_t)v->i ^ UINT64_C(1) << 63;
    if (type.array)
        return 0;
    switch ((int)type.base) {
    case SQL_FLOAT4:
    case SQL_FLOAT8:
        return key_of_float(v->f);
    case SQL_TEXT:
    case SQL_VARCHAR:
    case SQL_NAME:
    case SQL_BYTEA:
        return key_of_bytes(v->s.ptr, v->s.len);
    case SQL_UUID:
        return key_of_bytes(v->uuid, sizeof v->uuid);
    default:
        return 0;
    }
}

static int by_value(struct sql_type type, uint64_t a_key, const struct sql_value *a,
                    uint64_t b_key, const struct sql_value *b)
{
    if (a_key != b_key)
        return a_key < b_key ? -1 : 1;
    return route_is_integer(type) ? 0 : sql_value_cmp(type, a, b);
}

/* No two nodes are equal. */
static int by_place(struct sql_type type, const struct range *a, const struct range *b)
{
    int order = (int)b->low_missing - (int)a->low_missing;
    if (order == 0 && !a->low_missing)
        order = by_value(type, a->low_key, &a->low_value, b->low_key, &b->low_value);
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
    int order = by_value(type, a->high_key, &a->high_value, b->high_key, &b->high_value);
    return order != 0 ? order : (int)b->high_open - (int)a->high_open;
}

/* A value looked for. */
struct stab {
    struct sql_type type;
    const struct sql_value *at;
    uint64_t key;
    const struct range_found *found;
};

static bool begins_before(const struct stab *s, const struct range *n)
{
    if (n->low_missing)
        return true;
    int order = by_value(s->type, n->low_key, &n->low_value, s->key, s->at);
    return order < 0 || (order == 0 && !n->low_open);
}

static bool ends_behind(const struct stab *s, const struct range *n)
{
    if (n->high_missing)
        return true;
    int order = by_value(s->type, n->high_key, &n->high_value, s->key, s->at);
    return order > 0 || (order == 0 && !n->high_open);
}

static bool subtree_ends_behind(const struct stab *s, const struct range *n)
{
    return n->last_key > s->key || (n->last_key == s->key && ends_behind(s, n->last_of));
}

/* --- The treap --- */

static void refresh(struct sql_type type, struct range *n)
{
    n->last_of = n;
    if (n->left != NULL && by_end(type, n->left->last_of, n->last_of) > 0)
        n->last_of = n->left->last_of;
    if (n->right != NULL && by_end(type, n->right->last_of, n->last_of) > 0)
        n->last_of = n->right->last_of;
    n->left_key = n->left == NULL ? 0 : n->left->last_key;
    n->last_key = n->last_of->high_missing ? UINT64_MAX : n->last_of->high_key;
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
static int stab(const struct stab *s, const struct range *n)
{
    int rc = 0;
    while (rc == 0 && n != NULL && subtree_ends_behind(s, n)) {
        if (n->left_key >= s->key)
            rc = stab(s, n->left);
        if (rc < 0 || !begins_before(s, n))
            break;
        if (ends_behind(s, n))
            rc = s->found->hit(s->found->ctx, n->posting);
        n = n->right;
    }
    return rc;
}

int range_stab(struct range *root, struct sql_type type, const struct sql_value *at,
               const struct range_found *found)
{
    struct stab s = {type, at, order_key(type, at), found};
    return stab(&s, root);
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
    struct range *n = malloc(sizeof *n);
    if (n == NULL)
        return ERR_MEMORY;
    *n = (struct range){.priority = priority};
    n->low_missing = cond->low == NULL;
    n->low_open = cond->low_open;
    n->high_missing = cond->high == NULL;
    n->high_open = cond->high_open;
    int rc = 0;
    if (cond->low != NULL) {
        n->low_key = order_key(cond->type, cond->low);
        rc = copy_value(n, cond->type, cond->low, &n->low_value);
    }
    if (rc == 0 && cond->high != NULL) {
        n->high_key = order_key(cond->type, cond->high);
        rc = copy_value(n, cond->type, cond->high, &n->high_value);
    }
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
