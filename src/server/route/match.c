/* One row against a group's index.
 *
 * Each indexed column is read once and looked up in what is indexed of it; each posting found
 * is verified by its programs, whose verdicts are kept for the row, so that a sub-expression
 * that many filters share is evaluated once. What a program can't decide makes its filter fail
 * on the row, unless another of the posting's programs is not true (whatever their order: the
 * plan's is not the clause's), or another of the filter's postings says that the row is in. So
 * a filter fails only where evaluating its clause would. */
#include <stdlib.h>

#include "base/prefetch.h"
#include "server/route/index.h"

#define EXPECT_AHEAD 4 /* programs: some hundred nanoseconds */

struct probe {
    struct match *m;
    struct group *g;
    enum filter_state side;
};

/* --- What was found --- */

static int found_add(struct match *m, struct route_filter *f, const struct err *failed)
{
    size_t at = m->found_len;
    if (at == m->found_cap) {
        size_t cap = at == 0 ? 16 : at * 2;
        struct route_filter **found = realloc(m->found, cap * sizeof(*found));
        if (found == NULL)
            return ERR_MEMORY;
        m->found = found;
        const struct err **reasons = realloc(m->reasons, cap * sizeof(*reasons));
        if (reasons == NULL)
            return ERR_MEMORY;
        m->reasons = reasons;
        m->found_cap = cap;
    }
    m->found[at] = f;
    m->reasons[at] = failed;
    m->found_len = at + 1;
    return 0;
}

static int note(struct match *m, struct route_filter *f, unsigned state,
                const struct err *failed)
{
    if ((f->state & FILTER_FOUND) == 0) {
        if (found_add(m, f, failed) < 0)
            return ERR_MEMORY;
    } else if (failed != NULL && (f->state & state) == 0) {
        for (size_t i = m->found_len; i-- > 0;) { /* rare: an error */
            if (m->found[i] == f)
                m->reasons[i] = failed;
        }
    }
    f->state = (uint8_t)(f->state | FILTER_FOUND | state);
    return 0;
}

static const struct err *keep_reason(struct match *m, const struct err *err)
{
    struct err *kept = arena_alloc(m->arena, sizeof *kept);
    if (kept != NULL)
        *kept = *err;
    return kept;
}

/* --- Verifying --- */

/* ERR_MEMORY when it is that, and not the row, that made it fail. */
static int program_run(struct probe *pr, struct program *p)
{
    if (p->row == pr->m->row)
        return 0;
    struct err err;
    p->verdict = sql_program_run(p->code, &pr->g->row, &err);
    p->failed = NULL;
    if (p->verdict == SQL_IS_ERROR) {
        p->failed = err.code == ERR_MEMORY ? NULL : keep_reason(pr->m, &err);
        if (p->failed == NULL)
            return ERR_MEMORY;
    }
    p->row = pr->m->row;
    return 0;
}

static int verify(void *ctx, struct posting *p)
{
    struct probe *pr = ctx;
    struct route_filter *f = posting_filter(p);
    if ((f->state & pr->side) != 0)
        return 0;
    const struct err *failed = NULL;
    size_t count = p->verified ? p->extra->program_count : 0;
    for (size_t i = 0; i < count; i++) {
        struct program *program = p->extra->programs[i];
        if (program_run(pr, program) < 0)
            return ERR_MEMORY;
        if (program->verdict == SQL_IS_ERROR)
            failed = program->failed;
        else if (program->verdict != SQL_IS_TRUE)
            return 0;
    }
    if (failed != NULL)
        return note(pr->m, f, pr->side * FILTER_FAILED, failed);
    return note(pr->m, f, pr->side, NULL);
}

static int verify_list(struct probe *pr, struct posting *p)
{
    int rc = 0;
    for (; rc == 0 && p != NULL; p = p->next)
        rc = verify(pr, p);
    return rc;
}

/* --- Looking up --- */

static int probe_table(struct probe *pr, const struct key_table *t, struct sql_type type,
                       const struct sql_value *v)
{
    if (t->len == 0)
        return 0;
    const struct sql_value *value = route_is_integer(type) ? NULL : v;
    uint64_t key = group_key(pr->g, type, v);
    return verify_list(pr, key_table_find(t, key, type, value));
}

static int probe_elements(struct probe *pr, const struct column *c,
                          const struct sql_array *array)
{
    struct sql_type type = c->type;
    type.array = false;
    const struct sql_value *items = sql_array_items(array);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sql_array_count(array); i++) {
        if (!items[i].null)
            rc = probe_table(pr, &c->elements, type, &items[i]);
    }
    return rc;
}

static int probe_prefixes(struct probe *pr, const struct column *c, struct slice text)
{
    struct sql_type type = {.base = SQL_TEXT, .typmod = -1};
    int rc = 0;
    for (size_t n = 1; rc == 0 && n <= ROUTE_PREFIX_MAX && n <= text.len; n++) {
        struct sql_value prefix = {.s = slice_make(text.ptr, n)};
        if (c->prefix_lengths[n] > 0)
            rc = probe_table(pr, &c->prefixes, type, &prefix);
    }
    return rc;
}

static int probe_value(struct probe *pr, struct column *c, const struct sql_value *v)
{
    int rc = probe_table(pr, &c->equal, c->type, v);
    if (rc == 0 && c->elements.len > 0)
        rc = probe_elements(pr, c, v->array);
    if (rc == 0 && c->prefixes.len > 0)
        rc = probe_prefixes(pr, c, v->s);
    if (rc == 0 && c->ranges != NULL) {
        struct range_found found = {verify, pr};
        rc = range_stab(c->ranges, c->type, v, &found);
    }
    if (rc == 0 && c->type.base == SQL_BOOL && !c->type.array)
        rc = verify_list(pr, v->b ? c->is_true : c->is_false);
    return rc;
}

static bool posts_in(const struct route_filter *f, size_t column)
{
    for (uint32_t i = 0; i < f->posting_count; i++) {
        if (f->postings[i].place != PLACE_SCAN && f->postings[i].column == column)
            return true;
    }
    return false;
}

/* All filters, or those found by a column (not SIZE_MAX), can't be decided. */
static int fail_filters(struct probe *pr, size_t column, const struct err *err)
{
    const struct err *kept = keep_reason(pr->m, err);
    if (kept == NULL)
        return ERR_MEMORY;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < pr->g->filters.cap; i++) {
        struct route_filter *f = (void *)pr->g->filters.slots[i];
        if (f != NULL && (column == SIZE_MAX || posts_in(f, column)))
            rc = note(pr->m, f, pr->side * FILTER_FAILED, kept);
    }
    return rc;
}

static int probe_column(struct probe *pr, struct column *c)
{
    if (c->postings == 0)
        return 0;
    struct group *g = pr->g;
    if (g->values[g->order[c->number]].kind != VALUE_TEXT)
        return verify_list(pr, c->is_null);
    if (c->equal.len + c->elements.len + c->prefixes.len == 0 && c->ranges == NULL &&
        c->is_true == NULL && c->is_false == NULL)
        return 0; /* IS NULL does not ask for the value */
    struct err err;
    const struct sql_value *v = sql_row_value(&g->row, c->number, &err);
    if (v == NULL)
        return err.code == ERR_MEMORY ? ERR_MEMORY : fail_filters(pr, c->number, &err);
    return probe_value(pr, c, v);
}

/* --- What no index helps to find --- */

/* Each program lies elsewhere in memory: it is asked for a few ahead. */
static void expect(const struct group *g, size_t i)
{
    if (i + 2 * EXPECT_AHEAD < g->scan_len)
        PREFETCH(g->scan[i + 2 * EXPECT_AHEAD].first);
    if (i + EXPECT_AHEAD < g->scan_len && g->scan[i + EXPECT_AHEAD].first != NULL)
        sql_program_expect(g->scan[i + EXPECT_AHEAD].first->code);
}

static int scan(struct probe *pr)
{
    const struct group *g = pr->g;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < g->scan_len; i++) {
        struct program *first = g->scan[i].first;
        expect(g, i);
        if (first != NULL && program_run(pr, first) < 0)
            return ERR_MEMORY;
        if (first == NULL || first->verdict == SQL_IS_TRUE ||
            first->verdict == SQL_IS_ERROR)
            rc = verify(pr, g->scan[i].posting);
    }
    return rc;
}

/* --- The row --- */

void group_map(struct group *g, const struct decode_relation *relation)
{
    g->relation = relation;
    g->lacking = SIZE_MAX;
    for (size_t i = g->table->count; i-- > 0;) {
        g->order[i] = UINT16_MAX;
        for (uint16_t j = 0; j < relation->column_count; j++) {
            if (slice_eq(g->table->columns[i].name, relation->columns[j].name))
                g->order[i] = j;
        }
        if (g->reads[i] && g->order[i] == UINT16_MAX)
            g->lacking = i;
    }
}

int match_row(struct match *m, struct group *g, const struct value *values,
              enum filter_state side)
{
    struct probe pr = {m, g, side};
    if (g->lacking != SIZE_MAX) {
        struct slice name = g->table->columns[g->lacking].name;
        struct err err;
        err_set(&err, ERR_UNSUPPORTED,
                "the stream does not carry the column %.*s, which the where clause needs",
                (int)name.len, name.ptr);
        return fail_filters(&pr, SIZE_MAX, &err);
    }
    m->row++;
    g->values = values;
    sql_row_begin(&g->row);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < g->active_count; i++)
        rc = probe_column(&pr, g->columns[g->active[i]]);
    return rc == 0 ? scan(&pr) : rc;
}
