/* The filter index alone: CPU per change, per shape made and gone, and bytes, from one shape to a
 * million. Prints lines "route.figure value unit". Wants no server.
 *
 * Clauses are parsed once for each kind; the others are its tree with other constants, since
 * parsing a million of them would be most of the time. */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/assert.h"
#include "server/route/route.h"
#include "sql/expr_tree.h"

#define OID     1
#define CHANGES 200000

enum { ID, A, T, COLUMNS };

static const struct sql_column columns[COLUMNS] = {
    {.name = {"id", 2}, .type = {.base = SQL_INT8, .typmod = -1}},
    {.name = {"a", 1}, .type = {.base = SQL_INT8, .typmod = -1}},
    {.name = {"t", 1}, .type = {.base = SQL_TEXT, .typmod = -1}},
};
static const struct sql_table table = {columns, COLUMNS, SQL_COLLATION_C, NULL};
static struct decode_column stream[COLUMNS] = {
    {.name = {"id", 2}}, {.name = {"a", 1}}, {.name = {"t", 1}}};
static const struct decode_relation relation = {
    .oid = OID, .column_count = COLUMNS, .columns = stream};

struct shapes {
    struct route *route;
    struct route_entry *entries;
    size_t count;
    double us_to_add;
    double bytes;
};

static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static const struct sql_expr *parse(const char *text, struct arena *arena)
{
    const struct sql_expr *expr;
    struct err err = {0};
    if (sql_where_parse(slice_of(text), &table, NULL, arena, &expr, &err) < 0) {
        fprintf(stderr, "%s: %s\n", text, err.message);
        exit(1);
    }
    return expr;
}

/* The tree with its integers 1 and 2 replaced by the first and the second given. */
// NOLINTNEXTLINE(misc-no-recursion): as deep as the clauses below
static struct sql_expr *with_integers(const struct sql_expr *from, struct arena *arena,
                                      const int64_t *integers)
{
    struct sql_expr *e = arena_alloc(arena, sizeof *e);
    ASSERT(e != NULL);
    *e = *from;
    if (e->kind == EXPR_CONST) {
        e->value.i = integers[e->value.i == 1 ? 0 : 1];
        e->text = slice_of(arena_printf(arena, "%" PRId64, e->value.i));
    }
    e->args = arena_calloc(arena, e->count + 1, sizeof(*e->args));
    ASSERT(e->args != NULL);
    for (size_t i = 0; i < e->count; i++)
        e->args[i] = with_integers(from->args[i], arena, integers);
    return e;
}

static void add(struct shapes *s, size_t i, const struct sql_expr *expr)
{
    struct err err = {0};
    s->entries[i] = (struct route_entry){.oid = OID};
    if (route_filter_get(s->route, OID, expr, &table, &s->entries[i].filter, &err) < 0 ||
        route_add(s->route, &s->entries[i]) < 0) {
        fprintf(stderr, "shape %zu: %s\n", i, err.message);
        exit(1);
    }
}

static struct shapes shapes_new(size_t count)
{
    struct shapes s = {.route = route_new(), .count = count};
    s.entries = calloc(count, sizeof *s.entries);
    ASSERT(s.route != NULL && s.entries != NULL);
    return s;
}

/* A clause with integers step * i, and `width` more where it has two. */
static struct shapes shapes_of(const char *clause, size_t count, int64_t step,
                               int64_t width)
{
    struct arena template;
    struct arena arena;
    struct shapes s = shapes_new(count);
    arena_init(&template, (size_t)1 << 20);
    arena_init(&arena, (size_t)1 << 20);
    const struct sql_expr *expr = parse(clause, &template);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    double begun = cpu_us();
    for (size_t i = 0; i < count; i++) {
        const int64_t values[] = {step * (int64_t)i, step * (int64_t)i + width};
        arena_reset(&arena);
        add(&s, i, with_integers(expr, &arena, values));
    }
    s.us_to_add = (cpu_us() - begun) / (double)count;
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    s.bytes = (double)(after - before) / (double)count;
    arena_fini(&template);
    arena_fini(&arena);
    return s;
}

/* µs to take a shape away. */
static double shapes_free(struct shapes *s)
{
    double begun = cpu_us();
    for (size_t i = 0; i < s->count; i++) {
        route_remove(s->route, &s->entries[i]);
        route_filter_release(s->route, s->entries[i].filter);
    }
    double us = (cpu_us() - begun) / (double)s->count;
    route_free(s->route);
    free(s->entries);
    return us;
}

/* µs for a change, of a row that one shape has. */
static double match(const struct shapes *s, int64_t step, int64_t within, size_t changes)
{
    uint64_t random = 42;
    char text[32];
    struct value row[COLUMNS] = {{"1", 1, VALUE_TEXT},
                                 {text, 0, VALUE_TEXT},
                                 {"the quick brown fox jumps", 25, VALUE_TEXT}};
    struct txn_change change = {.op = TXN_INSERT, .relation = &relation, .row = row};
    double spent = 0;
    size_t found = 0;
    for (size_t i = 0; i < changes; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        int64_t at = (int64_t)((random >> 33) % s->count) * step + within;
        row[A].len = (uint32_t)snprintf(text, sizeof text, "%" PRId64, at);
        const struct route_hit *hits;
        size_t count;
        if (i % 1000 == 0)
            spent -= cpu_us();
        if (route_match(s->route, &change, &hits, &count) < 0)
            exit(1);
        found += count;
        if (i % 1000 == 999)
            spent += cpu_us();
    }
    if (found != changes)
        fprintf(stderr, "route: %zu hits of %zu changes\n", found, changes);
    return spent / (double)changes;
}

static void equality(void)
{
    static const struct {
        size_t count;
        const char *name;
    } sizes[] = {
        {1, "1"}, {100, "100"}, {10000, "10k"}, {100000, "100k"}, {1000000, "1m"}};
    double at_10k = 0, at_1m = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct shapes s = shapes_of("a = 1", sizes[i].count, 7, 0);
        match(&s, 7, 0, CHANGES / 10);
        double us = match(&s, 7, 0, CHANGES);
        printf("route.us_at_%s %.3f us\n", sizes[i].name, us);
        at_10k = sizes[i].count == 10000 ? us : at_10k;
        at_1m = us;
        printf("route.add_us_at_%s %.2f us\n", sizes[i].name, s.us_to_add);
        if (sizes[i].count >= 10000)
            printf("route.index_bytes_at_%s %.0f bytes\n", sizes[i].name, s.bytes);
        printf("route.remove_us_at_%s %.2f us\n", sizes[i].name, shapes_free(&s));
    }
    printf("route.flatness %.2f ratio\n", at_1m / at_10k);
}

static void ranges(void)
{
    double us[2];
    for (size_t i = 0; i < 2; i++) {
        struct shapes s = shapes_of("a BETWEEN 1 AND 2", i == 0 ? 1000 : 100000, 10, 5);
        match(&s, 10, 3, CHANGES / 10);
        us[i] = match(&s, 10, 3, CHANGES);
        printf("route.range_us_at_%s %.3f us\n", i == 0 ? "1k" : "100k", us[i]);
        printf("route.range_bytes_at_%s %.0f bytes\n", i == 0 ? "1k" : "100k", s.bytes);
        shapes_free(&s);
    }
    printf("route.range_flatness %.2f ratio\n", us[1] / us[0]);
}

static void unindexed(void)
{
    enum { SHAPES = 10000, ROWS = 200 };
    struct shapes s = shapes_new(SHAPES);
    struct arena arena;
    struct value row[COLUMNS] = {{"1", 1, VALUE_TEXT},
                                 {"2", 1, VALUE_TEXT},
                                 {"the quick brown fox jumps", 25, VALUE_TEXT}};
    struct txn_change change = {.op = TXN_INSERT, .relation = &relation, .row = row};
    const struct route_hit *hits;
    size_t count;
    arena_init(&arena, (size_t)1 << 20);
    for (size_t i = 0; i < SHAPES; i++) {
        char text[64];
        snprintf(text, sizeof text, "t ILIKE '%%word%zu%%'", i);
        arena_reset(&arena);
        add(&s, i, parse(text, &arena));
    }
    double begun = cpu_us();
    for (size_t i = 0; i < ROWS; i++) {
        if (route_match(s.route, &change, &hits, &count) < 0)
            exit(1);
    }
    printf("route.evals_per_s %.0f evaluations/s\n",
           (double)SHAPES * ROWS / (cpu_us() - begun) * 1e6);
    arena_fini(&arena);
    shapes_free(&s);
}

int main(void)
{
    equality();
    ranges();
    unindexed();
    return 0;
}
