/* fuzz: sql */
/* Values and functions of sql/. The first two bytes choose a type or a row of the catalog,
 * the rest is text: of the value, or of the arguments, one a line.
 *
 * What is read and printed has to read back as an equal value with the same hash and the
 * same text; no bytes may do worse than fail. */

#include <stdlib.h>

#include "base/assert.h"
#include "sql/types.h"

#define ARENA_MAX_BYTES (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void value(struct sql_type type, struct slice text)
{
    struct arena arena;
    struct buf first;
    struct buf second;
    struct sql_value a;
    struct sql_value b;

    arena_init(&arena, ARENA_MAX_BYTES);
    buf_init(&first, ARENA_MAX_BYTES);
    buf_init(&second, ARENA_MAX_BYTES);
    if (sql_value_in(type, text, &arena, &a, NULL) == 0) {
        sql_value_out(type, &a, &first);
        if (!first.failed &&
            sql_value_in(type, buf_slice(&first), &arena, &b, NULL) == 0) {
            ASSERT(sql_value_cmp(type, &a, &b) == 0);
            ASSERT(sql_value_hash(type, &a, 1) == sql_value_hash(type, &b, 1));
            sql_value_out(type, &b, &second);
            ASSERT(second.failed || slice_eq(buf_slice(&first), buf_slice(&second)));
        }
    }
    buf_fini(&second);
    buf_fini(&first);
    arena_fini(&arena);
}

static struct slice take_line(struct slice *s)
{
    const char *end = s->len > 0 ? memchr(s->ptr, '\n', s->len) : NULL;
    struct slice line = slice_make(s->ptr, end ? (size_t)(end - s->ptr) : s->len);

    *s = end ? slice_make(end + 1, s->len - line.len - 1) : slice_make(NULL, 0);
    return line;
}

static void function(const struct sql_function *f, enum sql_base element,
                     struct slice text)
{
    struct arena arena;
    struct err err;
    struct sql_type types[SQL_ARGS_MAX];
    struct sql_value args[SQL_ARGS_MAX];
    struct sql_value out;
    struct sql_call call = {&arena, &err, types, f->count, NULL};
    bool good = true;

    arena_init(&arena, ARENA_MAX_BYTES);
    for (size_t i = 0; good && i < f->count; i++) {
        types[i] = f->args[i];
        if (types[i].base == SQL_UNKNOWN)
            types[i].base = element;
        good = sql_value_in(types[i], take_line(&text), &arena, &args[i], &err) == 0;
    }
    if (good)
        (void)f->fn(&call, args, &out);
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t count;
    const struct sql_function *functions = sql_functions(&count);
    size_t which;
    char *copy;
    struct slice text;

    if (size < 2)
        return 0;
    which = (size_t)data[0] << 8 | data[1];
    copy = malloc(size > 2 ? size - 2 : 1);
    ASSERT(copy);
    if (size > 2)
        memcpy(copy, data + 2, size - 2);
    text = slice_make(copy, size - 2);
    if (which < (size_t)2 * SQL_BASES)
        value((struct sql_type){.base = (enum sql_base)(which / 2),
                                .array = which % 2 != 0,
                                .typmod = -1},
              text);
    else
        function(&functions[which % count],
                 (enum sql_base)(SQL_BOOL + which / count % (SQL_OTHER - SQL_BOOL)),
                 text);
    free(copy);
    return 0;
}
