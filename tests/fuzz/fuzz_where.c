/* fuzz: sql base */
/*
 * A where-clause from text to bytecode, over a row. The input is cut at NULs:
 *   the clause, $1, $2, and the row's columns as text (a missing one is NULL)
 *
 * What is accepted must print as text that is accepted and prints the same; the program of both
 * must give one verdict; and conditions for an index that claim to be exact must agree with it.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "sql/expr.h"

#define ARENA_MAX ((size_t)64 << 20)
#define COLUMNS   12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COLUMN(name_, base_)                                                             \
    {                                                                                    \
        .name = {name_, sizeof(name_) - 1}, .type = {.base = (base_), .typmod = -1 }     \
    }

static const struct sql_column columns[COLUMNS] = {
    COLUMN("i", SQL_INT4),
    COLUMN("n", SQL_NUMERIC),
    COLUMN("f", SQL_FLOAT8),
    COLUMN("b", SQL_BOOL),
    {.name = {"t", 1},
     .type = {.base = SQL_TEXT, .typmod = -1},
     .collation = SQL_COLLATION_C,
     .collation_oid = 950},
    COLUMN("ch", SQL_BPCHAR),
    COLUMN("ts", SQL_TIMESTAMP),
    COLUMN("iv", SQL_INTERVAL),
    {.name = {"ia", 2}, .type = {.base = SQL_INT4, .array = true, .typmod = -1}},
    COLUMN("by", SQL_BYTEA),
    COLUMN("j", SQL_JSONB),
    COLUMN("d", SQL_DATE)};
static struct sql_table table = {columns, COLUMNS, SQL_COLLATION_DETERMINISTIC, NULL};

struct input {
    struct slice rest;
    struct slice cells[COLUMNS];
    bool has[COLUMNS];
};

static bool next(struct input *in, struct slice *out)
{
    const char *end;

    if (in->rest.len == 0)
        return false;
    end = memchr(in->rest.ptr, 0, in->rest.len);
    out->ptr = in->rest.ptr;
    out->len = end ? (size_t)(end - in->rest.ptr) : in->rest.len;
    in->rest.ptr += out->len + (end != NULL);
    in->rest.len -= out->len + (end != NULL);
    return true;
}

static bool get(void *ctx, size_t column, struct slice *text)
{
    struct input *in = ctx;

    *text = in->cells[column];
    return in->has[column];
}

static enum sql_verdict evaluate(const struct sql_expr *e, struct input *in)
{
    struct sql_value values[COLUMNS];
    unsigned char states[COLUMNS];
    struct arena arena;
    struct sql_row row = {&table, get, in, &arena, values, states};
    struct sql_program *program;
    enum sql_verdict v = SQL_IS_ERROR;
    struct err err;

    arena_init(&arena, ARENA_MAX);
    sql_row_begin(&row);
    if (sql_program_new(e, &table, &program, &err) == 0) {
        v = sql_program_run(program, &row, &err);
        sql_program_free(program);
    }
    arena_fini(&arena);
    return v;
}

static void check_print(const struct sql_expr *e, struct arena *arena, struct input *in)
{
    struct buf text, again;
    const struct sql_expr *second;
    struct err err;

    buf_init(&text, ARENA_MAX);
    buf_init(&again, ARENA_MAX);
    sql_expr_print(e, &table, &text);
    if (!text.failed && text.len <= SQL_WHERE_MAX_BYTES) {
        int rc = sql_where_parse(buf_slice(&text), &table, NULL, arena, &second, &err);

        ASSERT(rc == 0 || rc == ERR_MEMORY || strstr(err.message, "too complex"));
        if (rc == 0) {
            sql_expr_print(second, &table, &again);
            ASSERT(again.failed || slice_eq(buf_slice(&text), buf_slice(&again)));
            ASSERT(evaluate(e, in) == evaluate(second, in));
        }
    }
    buf_fini(&text);
    buf_fini(&again);
}

static void check_conditions(const struct sql_expr *e, struct arena *arena)
{
    const struct sql_cond *c;

    if (sql_cond_make(e, &table, arena, &c, NULL) == 0)
        ASSERT(c->kind != SQL_COND_OTHER || !c->exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {.rest = {(const char *)data, size}};
    struct slice clause = {"", 0};
    struct slice values[2];
    struct sql_params params = {values, 0};
    const struct sql_expr *e;
    struct arena arena;
    struct err err;

    if (!table.letters) {
        static const struct sql_letter letters[] = {
            {'I', 0x131, 'I'}, {0xE9, 0xE9, 0xC9}, {0xC9, 0xE9, 0xC9}};

        table.letters = sql_letters_new(letters, sizeof(letters) / sizeof(letters[0]));
    }
    (void)next(&in, &clause);
    while (params.count < 2 && next(&in, &values[params.count]))
        params.count++;
    for (size_t i = 0; i < COLUMNS; i++)
        in.has[i] = next(&in, &in.cells[i]);
    arena_init(&arena, ARENA_MAX);
    if (sql_where_parse(clause, &table, &params, &arena, &e, &err) == 0) {
        check_print(e, &arena, &in);
        check_conditions(e, &arena);
    } else {
        ASSERT(slice_is_utf8(slice_of(err.message)) || !slice_is_utf8(clause));
    }
    arena_fini(&arena);
    return 0;
}
