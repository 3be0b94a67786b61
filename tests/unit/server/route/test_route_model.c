/* Random filters come and go; the hits of random changes equal a linear scan that evaluates each
 * clause whole. ROUTE_SEED and ROUTE_STEPS choose others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "clauses.h"

#define ENTRIES 300

struct entry {
    struct route_entry route;
    bool in;
    bool filtered;
    struct arena arena;
    struct sql_program *program;
    char text[4096];
    const struct route_hit *hit;
};

struct model {
    struct route *route;
    struct random random;
    struct entry *entries;
    size_t errors;
    size_t hits;
};

/* --- The truth --- */

static bool value_get(void *ctx, size_t column, struct slice *text)
{
    const struct value *row = ctx;
    const struct value *v = &row[in_stream(column)];
    *text = slice_make(v->ptr, v->len);
    return v->kind == VALUE_TEXT;
}

static enum sql_verdict evaluate(const struct entry *e, const struct value *values,
                                 struct arena *arena)
{
    struct sql_value read[COLUMNS];
    unsigned char states[COLUMNS];
    struct value copy[COLUMNS + 1];
    struct err err;
    if (values == NULL)
        return SQL_IS_FALSE;
    if (!e->filtered)
        return SQL_IS_TRUE;
    memcpy(copy, values, sizeof copy);
    struct sql_row row = {&table, value_get, copy, arena, read, states};
    sql_row_begin(&row);
    return sql_program_run(e->program, &row, &err);
}

/* Where the whole clause raises an error the index may still have seen that a term in front of
 * the error is not true, as Postgres does among the terms of a WHERE. */
static void check_side(struct model *m, const struct entry *e, enum sql_verdict truth,
                       bool in, bool failed)
{
    if (truth == SQL_IS_ERROR) {
        m->errors += failed;
        return;
    }
    if (!failed && in != (truth == SQL_IS_TRUE))
        fail_msg("%s: the index says %d, evaluation %d", e->text, in, (int)truth);
}

static void check_entry(struct model *m, const struct entry *e,
                        const struct txn_change *change, struct arena *arena)
{
    enum sql_verdict old = evaluate(e, change->old, arena);
    enum sql_verdict row = evaluate(e, change->row, arena);
    bool failed = e->hit != NULL && e->hit->failed != NULL;
    check_side(m, e, old, e->hit != NULL && e->hit->old_in, failed);
    check_side(m, e, row, e->hit != NULL && e->hit->new_in, failed);
    if (failed && old != SQL_IS_ERROR && row != SQL_IS_ERROR)
        fail_msg("%s: %s", e->text, e->hit->failed->message);
    if (e->hit != NULL && !failed)
        assert_true(e->hit->old_in || e->hit->new_in);
}

static void check_change(struct model *m)
{
    struct value rows[2][COLUMNS + 1];
    struct arena arena;
    random_row(&m->random, rows[0]);
    random_row(&m->random, rows[1]);
    unsigned kind = pick(&m->random, 4);
    struct txn_change change = {.op = kind == 0   ? TXN_INSERT
                                      : kind == 1 ? TXN_DELETE
                                                  : TXN_UPDATE,
                                .relation = &relation,
                                .old = kind == 0 ? NULL : rows[0],
                                .row = kind == 1 ? NULL : rows[1]};
    const struct route_hit *hits;
    size_t count;
    arena_init(&arena, (size_t)64 << 20);
    assert_int_equal(route_match(m->route, &change, &hits, &count), 0);
    for (size_t i = 0; i < ENTRIES; i++)
        m->entries[i].hit = NULL;
    for (size_t i = 0; i < count; i++) {
        struct entry *e = (struct entry *)(void *)hits[i].entry;
        assert_true(e->in);
        assert_null(e->hit);
        e->hit = &hits[i];
    }
    for (size_t i = 0; i < ENTRIES; i++) {
        if (m->entries[i].in)
            check_entry(m, &m->entries[i], &change, &arena);
    }
    m->hits += count;
    arena_fini(&arena);
}

/* --- Coming and going --- */

static void entry_remove(struct model *m, struct entry *e)
{
    route_remove(m->route, &e->route);
    route_filter_release(m->route, e->route.filter);
    sql_program_free(e->program);
    e->program = NULL;
    e->in = false;
}

static void entry_add(struct model *m, struct entry *e)
{
    struct buf text;
    struct err err = {0};
    const struct sql_expr *expr;
    buf_init(&text, sizeof e->text - 1);
    random_clause(&m->random, pick(&m->random, 4), &text);
    if (text.failed)
        buf_reset(&text, 0);
    *e = (struct entry){.route.oid = OID, .filtered = text.len > 0 && !text.failed};
    if (e->filtered) {
        snprintf(e->text, sizeof e->text, "%.*s", (int)text.len, text.ptr);
        arena_init(&e->arena, (size_t)16 << 20);
        if (sql_where_parse(slice_of(e->text), &table, NULL, &e->arena, &expr, &err) < 0)
            fail_msg("%s: %s", e->text, err.message);
        assert_int_equal(sql_program_new(expr, &table, &e->program, &err), 0);
        assert_int_equal(
            route_filter_get(m->route, OID, expr, &table, &e->route.filter, &err), 0);
        arena_fini(&e->arena);
    }
    assert_int_equal(route_add(m->route, &e->route), 0);
    e->in = true;
    buf_fini(&text);
}

static unsigned setting(const char *name, unsigned fallback)
{
    const char *text = getenv(name);
    return text == NULL ? fallback : (unsigned)strtoul(text, NULL, 10);
}

static void hits_equal_evaluation(void **state)
{
    (void)state;
    relation_set_up();
    struct model m = {.route = route_new(), .random = {setting("ROUTE_SEED", 7)}};
    m.entries = calloc(ENTRIES, sizeof *m.entries);
    unsigned steps = setting("ROUTE_STEPS", 20000);
    for (unsigned step = 0; step < steps; step++) {
        /* Now and then all of them go, so that every structure is seen empty. */
        bool filling = step % 4000 < 3400;
        struct entry *e = &m.entries[pick(&m.random, ENTRIES)];
        if (e->in && (!filling || pick(&m.random, 2) == 0))
            entry_remove(&m, e);
        else if (!e->in && filling)
            entry_add(&m, e);
        if (step % 4 == 0)
            check_change(&m);
    }
    for (size_t i = 0; i < ENTRIES; i++) {
        if (m.entries[i].in)
            entry_remove(&m, &m.entries[i]);
    }
    assert_true(m.hits > steps);
    assert_true(m.errors > 0);
    free(m.entries);
    route_free(m.route);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hits_equal_evaluation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
