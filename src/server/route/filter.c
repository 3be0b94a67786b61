/* From a clause to postings.
 *
 * A plan is a list of drafts: where a posting goes and what has to be verified when it is
 * found. An AND is planned through the one of its terms that promises the fewest candidates
 * now, and all other terms are verified, each by a program of its own, so that terms which
 * many clauses share are evaluated once per row. An OR is planned through all of its branches;
 * if one of them can't be indexed the clause is verified on every row. IN is a posting for
 * each of its values. */
#include <stdlib.h>
#include <xxhash.h>

#include "base/assert.h"
#include "server/route/index.h"

#define TEXT_MAX (64u << 20)
/* Candidates that are counted before a list counts as long. */
#define COUNT_MAX 64

enum cost {
    COST_NEVER = 0,
    COST_RANGE = 16,        /* a guess: how many ranges will hold a value */
    COST_HALF_RANGE = 4096, /* half of all rows */
    COST_LIST = 24,         /* IS NULL, booleans: few values, many rows */
    COST_PREFIX = 20,       /* less a byte's worth for each byte */
    COST_NONE = 1 << 30     /* not indexed */
};

/* What has to be true besides: the innermost first. */
struct need {
    const struct sql_expr *expr;
    const struct need *next;
};

struct draft {
    enum place place;
    const struct sql_cond *cond;
    const struct sql_value *value; /* EQUAL, ELEMENT, PREFIX */
    const struct need *needs;
    bool hashed;
    struct draft *next;
};

struct plan {
    struct group *group;
    struct arena *arena;
    struct draft *drafts;
    size_t count;
    bool failed;
};

/* --- Names --- */

struct route_name route_name_of(const struct group *g, const struct sql_expr *expr)
{
    struct buf text;
    buf_init(&text, TEXT_MAX);
    sql_expr_print(expr, g->table, &text);
    XXH128_hash_t h = XXH3_128bits_withSeed(text.ptr, text.len, g->seed);
    /* 0, 0: no memory */
    struct route_name name = {text.failed ? 0 : h.low64 | 1, text.failed ? 0 : h.high64};
    buf_fini(&text);
    return name;
}

/* --- Programs --- */

static struct program *program_get(struct group *g, const struct sql_expr *expr,
                                   struct err *err)
{
    struct route_name name = route_name_of(g, expr);
    struct program *p = name.low == 0 ? NULL : name_set_find(&g->programs, name);
    if (p != NULL) {
        p->refs++;
        return p;
    }
    p = name.low == 0 ? NULL : calloc(1, sizeof *p);
    if (p == NULL) {
        err_set(err, ERR_MEMORY, "no memory for a where clause");
        return NULL;
    }
    p->name = name;
    p->refs = 1;
    if (sql_program_new(expr, g->table, &p->code, err) < 0) {
        free(p);
        return NULL;
    }
    if (name_set_put(&g->programs, &p->name) < 0) {
        err_set(err, ERR_MEMORY, "no memory for a where clause");
        sql_program_free(p->code);
        free(p);
        return NULL;
    }
    return p;
}

static void program_put(struct group *g, struct program *p)
{
    if (--p->refs > 0)
        return;
    name_set_remove(&g->programs, &p->name);
    sql_program_free(p->code);
    free(p);
}

/* --- What a term costs --- */

static int count_list(const struct posting *p)
{
    int n = 0;
    for (; p != NULL && n < COUNT_MAX; p = p->next)
        n++;
    return n;
}

static int cost_key(const struct plan *plan, const struct key_table *t,
                    struct sql_type type, const struct sql_value *v)
{
    uint64_t key = group_key(plan->group, type, v);
    return 1 +
           count_list(key_table_find(t, key, type, route_is_integer(type) ? NULL : v));
}

/* The value of a containment that the fewest ask for. */
static const struct sql_value *rarest(const struct plan *plan,
                                      const struct sql_cond *cond, int *cost)
{
    const struct column *c = plan->group->columns[cond->column];
    const struct sql_value *best = &cond->values[0];
    *cost = c == NULL ? 1 : COST_NONE;
    for (size_t i = 0; c != NULL && i < cond->value_count; i++) {
        int at = cost_key(plan, &c->elements, cond->type, &cond->values[i]);
        if (at < *cost) {
            *cost = at;
            best = &cond->values[i];
        }
    }
    return best;
}

static int cost_in(const struct plan *plan, const struct sql_cond *cond)
{
    const struct column *c = plan->group->columns[cond->column];
    int sum = 0;
    for (size_t i = 0; i < cond->value_count && sum < COST_HALF_RANGE; i++)
        sum += c == NULL ? 1 : cost_key(plan, &c->equal, cond->type, &cond->values[i]);
    return sum;
}

static int cost_list(const struct plan *plan, const struct sql_cond *cond)
{
    const struct column *c = plan->group->columns[cond->column];
    const struct posting *head = NULL;
    if (c != NULL)
        head = cond->kind == SQL_COND_NULL   ? c->is_null
               : cond->kind == SQL_COND_TRUE ? c->is_true
                                             : c->is_false;
    return COST_LIST + count_list(head);
}

// NOLINTNEXTLINE(misc-no-recursion): at most SQL_EXPR_DEPTH_MAX levels
static int cost_of(const struct plan *plan, const struct sql_cond *cond)
{
    int cost = COST_NONE;
    switch (cond->kind) {
    case SQL_COND_NEVER:
        return COST_NEVER;
    case SQL_COND_AND:
        for (size_t i = 0; i < cond->child_count; i++) {
            int at = cost_of(plan, &cond->children[i]);
            cost = at < cost ? at : cost;
        }
        return cost;
    case SQL_COND_OR:
        cost = 0;
        for (size_t i = 0; i < cond->child_count && cost < COST_NONE; i++)
            cost += cost_of(plan, &cond->children[i]);
        return cost < COST_NONE ? cost : COST_NONE;
    case SQL_COND_IN:
        return cost_in(plan, cond);
    case SQL_COND_MEMBER:
    case SQL_COND_CONTAINS:
        rarest(plan, cond, &cost);
        return cost;
    case SQL_COND_NULL:
    case SQL_COND_TRUE:
    case SQL_COND_FALSE:
        return cost_list(plan, cond);
    case SQL_COND_RANGE:
        return cond->low != NULL && cond->high != NULL ? COST_RANGE : COST_HALF_RANGE;
    case SQL_COND_PREFIX:
        return cond->values[0].s.len >= COST_PREFIX
                   ? 1
                   : COST_PREFIX - (int)cond->values[0].s.len;
    case SQL_COND_ALWAYS:
    case SQL_COND_OTHER:
        return COST_NONE;
    }
    return COST_NONE;
}

/* --- Drafts --- */

static const struct need *need(struct plan *plan, const struct sql_expr *expr,
                               const struct need *rest)
{
    struct need *n = arena_alloc(plan->arena, sizeof *n);
    if (n == NULL) {
        plan->failed = true;
        return rest;
    }
    *n = (struct need){expr, rest};
    return n;
}

static void draft(struct plan *plan, enum place place, const struct sql_cond *cond,
                  const struct sql_value *value, const struct need *needs)
{
    struct draft *d = arena_zalloc(plan->arena, sizeof *d);
    if (d == NULL) {
        plan->failed = true;
        return;
    }
    d->place = place;
    d->cond = cond;
    d->value = value;
    d->needs = needs;
    d->next = plan->drafts;
    plan->drafts = d;
    plan->count++;
}

/* Values whose memory can't be copied are found by their hash and verified. */
static bool must_verify(const struct sql_cond *cond)
{
    bool bytes = !cond->type.array &&
                 (cond->type.base == SQL_TEXT || cond->type.base == SQL_VARCHAR ||
                  cond->type.base == SQL_NAME || cond->type.base == SQL_BPCHAR ||
                  cond->type.base == SQL_BYTEA || cond->type.base == SQL_ENUM);
    return !bytes && !route_is_plain(cond->type);
}

static void plan_leaf(struct plan *plan, const struct sql_cond *cond,
                      const struct need *needs)
{
    int cost;
    switch ((int)cond->kind) {
    case SQL_COND_IN:
        if (must_verify(cond))
            needs = need(plan, cond->expr, needs);
        for (size_t i = 0; i < cond->value_count && !plan->failed; i++)
            draft(plan, PLACE_EQUAL, cond, &cond->values[i], needs);
        break;
    case SQL_COND_MEMBER:
    case SQL_COND_CONTAINS:
        if (must_verify(cond) || cond->value_count > 1)
            needs = need(plan, cond->expr, needs);
        draft(plan, PLACE_ELEMENT, cond, rarest(plan, cond, &cost), needs);
        break;
    case SQL_COND_NULL:
        draft(plan, PLACE_NULL, cond, NULL, needs);
        break;
    case SQL_COND_TRUE:
        draft(plan, PLACE_TRUE, cond, NULL, needs);
        break;
    case SQL_COND_FALSE:
        draft(plan, PLACE_FALSE, cond, NULL, needs);
        break;
    case SQL_COND_RANGE:
        draft(plan, PLACE_RANGE, cond, NULL, needs);
        break;
    case SQL_COND_PREFIX:
        needs = need(plan, cond->expr, needs);
        draft(plan, PLACE_PREFIX, cond, &cond->values[0], needs);
        break;
    default:
        break; /* NEVER: in no row */
    }
}

/* A range may be several terms of the AND in one, and then has no expression of its own. */
static bool has_other_range(const struct sql_cond *cond, const struct sql_cond *chosen)
{
    for (size_t i = 0; i < cond->child_count; i++) {
        if (cond->children[i].kind == SQL_COND_RANGE && &cond->children[i] != chosen)
            return true;
    }
    return false;
}

static const struct sql_cond *cheapest(const struct plan *plan,
                                       const struct sql_cond *cond)
{
    const struct sql_cond *best = &cond->children[0];
    int least = cost_of(plan, best);
    for (size_t i = 1; i < cond->child_count; i++) {
        int cost = cost_of(plan, &cond->children[i]);
        if (cost < least) {
            least = cost;
            best = &cond->children[i];
        }
    }
    return best;
}

/* What is left to verify of an AND reached through one of its terms. */
static const struct need *and_needs(struct plan *plan, const struct sql_cond *cond,
                                    const struct sql_cond *chosen,
                                    const struct need *needs)
{
    if (has_other_range(cond, chosen))
        return need(plan, cond->expr, needs);
    for (size_t i = cond->child_count; i-- > 0;) {
        if (&cond->children[i] != chosen && cond->children[i].kind != SQL_COND_ALWAYS)
            needs = need(plan, cond->children[i].expr, needs);
    }
    return needs;
}

/* For a condition whose cost is less than COST_NONE. */
// NOLINTNEXTLINE(misc-no-recursion): at most SQL_EXPR_DEPTH_MAX levels
static void plan_cond(struct plan *plan, const struct sql_cond *cond,
                      const struct need *needs)
{
    if (cond->kind == SQL_COND_AND) {
        const struct sql_cond *chosen = cheapest(plan, cond);
        plan_cond(plan, chosen, and_needs(plan, cond, chosen, needs));
    } else if (cond->kind == SQL_COND_OR) {
        for (size_t i = 0; i < cond->child_count && !plan->failed; i++)
            plan_cond(plan, &cond->children[i], needs);
    } else {
        plan_leaf(plan, cond, needs);
    }
}

static void plan_make(struct plan *plan, const struct sql_cond *cond)
{
    if (cost_of(plan, cond) < COST_NONE) {
        plan_cond(plan, cond, NULL);
        return;
    }
    const struct need *needs = NULL;
    if (cond->kind == SQL_COND_AND)
        needs = and_needs(plan, cond, NULL, NULL);
    else if (cond->kind != SQL_COND_ALWAYS)
        needs = need(plan, cond->expr, NULL);
    draft(plan, PLACE_SCAN, cond, NULL, needs);
}

/* --- Postings --- */

static size_t needs_count(const struct need *n)
{
    size_t count = 0;
    for (; n != NULL; n = n->next)
        count++;
    return count;
}

static void extra_free(struct group *g, struct posting *p)
{
    if (p->extra == NULL)
        return;
    for (uint32_t i = 0; i < p->extra->program_count; i++)
        program_put(g, p->extra->programs[i]);
    range_free(p->extra->range);
    free(p->extra);
    p->extra = NULL;
}

/* Whether the value points to bytes that have to be kept. */
static size_t value_bytes(const struct draft *d)
{
    if (d->value == NULL || d->place == PLACE_PREFIX || must_verify(d->cond) ||
        route_is_plain(d->cond->type))
        return 0;
    return d->value->s.len;
}

static void extra_value(struct extra *x, const struct draft *d, size_t programs)
{
    size_t bytes = value_bytes(d);
    x->hashed = d->place == PLACE_PREFIX || must_verify(d->cond);
    x->value = d->value == NULL ? (struct sql_value){0} : *d->value;
    if (d->place == PLACE_PREFIX && x->value.s.len > ROUTE_PREFIX_MAX)
        x->value.s.len = ROUTE_PREFIX_MAX;
    if (bytes > 0 && d->value != NULL) {
        char *at = (char *)&x->programs[programs];
        memcpy(at, d->value->s.ptr, bytes);
        x->value.s.ptr = at;
    }
}

static int extra_new(struct group *g, const struct draft *d, struct posting *p,
                     struct err *err)
{
    size_t count = needs_count(d->needs);
    bool keyed = d->value != NULL &&
                 (d->place == PLACE_PREFIX || !route_is_integer(d->cond->type));
    if (count == 0 && !keyed && d->place != PLACE_RANGE)
        return 0;
    struct extra *x =
        calloc(1, sizeof *x + count * sizeof(struct program *) + value_bytes(d));
    if (x == NULL)
        return err_set(err, ERR_MEMORY, "no memory for a where clause");
    p->extra = x;
    p->verified = count > 0;
    extra_value(x, d, count);
    if (d->place == PLACE_RANGE && range_new(d->cond, &x->range) < 0)
        return err_set(err, ERR_MEMORY, "no memory for a where clause");
    for (const struct need *n = d->needs; n != NULL; n = n->next) {
        struct program *program = program_get(g, n->expr, err);
        if (program == NULL)
            return err->code;
        x->programs[x->program_count++] = program;
    }
    return 0;
}

/* Made and in the index, or neither. */
static int posting_make(struct group *g, const struct draft *d, struct posting *p,
                        struct err *err)
{
    struct sql_type type = d->cond->type;
    p->place = (uint8_t)d->place;
    p->column = (uint16_t)d->cond->column;
    int rc = extra_new(g, d, p, err);
    if (d->place == PLACE_PREFIX) {
        type = (struct sql_type){.base = SQL_TEXT, .typmod = -1};
        if (rc == 0)
            p->key = group_key(g, type, &p->extra->value);
    } else if (d->value != NULL) {
        p->key = group_key(g, type, d->value);
    }
    if (rc == 0 && posting_put(g, p, type) < 0)
        rc = err_set(err, ERR_MEMORY, "no memory for a where clause");
    if (rc < 0) {
        extra_free(g, p);
        p->place = PLACE_NONE;
        return rc;
    }
    if (d->place == PLACE_PREFIX)
        p->extra->value.s.ptr = NULL; /* its length is all that is kept */
    return 0;
}

static void postings_take(struct group *g, struct route_filter *f)
{
    for (uint32_t i = 0; i < f->posting_count; i++) {
        if (f->postings[i].place != PLACE_NONE)
            posting_take(g, &f->postings[i]);
        extra_free(g, &f->postings[i]);
    }
}

/* --- Filters --- */

static int filter_make(struct plan *plan, struct route_name name,
                       struct route_filter **out, struct err *err)
{
    struct group *g = plan->group;
    struct route_filter *f = calloc(1, sizeof *f + plan->count * sizeof(struct posting));
    if (f == NULL || plan->count > UINT32_MAX) {
        free(f);
        return err_set(err, ERR_MEMORY, "no memory for a where clause");
    }
    f->name = name;
    f->group = g;
    f->refs = 1;
    f->posting_count = (uint32_t)plan->count;
    int rc = name_set_put(&g->filters, &f->name);
    if (rc < 0) {
        free(f);
        return err_set(err, rc, "no memory for a where clause");
    }
    uint32_t i = 0;
    for (const struct draft *d = plan->drafts; rc == 0 && d != NULL; d = d->next, i++) {
        f->postings[i].index = i;
        rc = posting_make(g, d, &f->postings[i], err);
    }
    g->filter_count++;
    if (rc < 0) {
        filter_free(f);
        return rc;
    }
    *out = f;
    return 0;
}

int filter_new(struct group *g, const struct sql_expr *expr, struct route_name name,
               struct arena *scratch, struct route_filter **out, struct err *err)
{
    struct err why = {0}; /* callers may give none */
    const struct sql_cond *cond;
    struct plan plan = {.group = g, .arena = scratch};
    int rc = sql_cond_make(expr, g->table, scratch, &cond, &why);
    if (rc == 0) {
        plan_make(&plan, cond);
        if (plan.failed)
            rc = err_set(&why, ERR_MEMORY, "no memory for a where clause");
    }
    if (rc == 0)
        rc = filter_make(&plan, name, out, &why);
    if (rc == 0) {
        sql_expr_columns(expr, g->reads);
        g->relation = NULL; /* what it lacks is looked up again */
    } else if (err != NULL) {
        *err = why;
    }
    return rc;
}

void filter_free(struct route_filter *f)
{
    struct group *g = f->group;
    ASSERT(f->entries == NULL);
    postings_take(g, f);
    name_set_remove(&g->filters, &f->name);
    g->filter_count--;
    free(f);
}
