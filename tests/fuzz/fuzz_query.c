/* fuzz: server/http */
/*
 * A query string and, behind the first NUL, a POST body: through splitting, merging, every rule
 * of the parameters and the error body. Whatever comes in, a refusal must be valid UTF-8.
 */
#include <stdint.h>
#include <stdlib.h>

#include "server/http/body.h"
#include "server/http/query.h"
#include "server/http/respond.h"
#include "server/http/subset_params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct table *model(void)
{
    static struct table_column columns[] = {
        {.name = {"id", 2}, .type_name = {"int4", 4}, .type_oid = 23, .not_null = true},
        {.name = {"v", 1}, .type_name = {"text", 4}, .type_oid = 25, .pk_index = -1},
        {.name = {"g", 1},
         .type_name = {"int4", 4},
         .type_oid = 23,
         .pk_index = -1,
         .generated = true}};
    static uint16_t pk[] = {0};
    static const struct table table = {.schema = {"public", 6},
                                       .name = {"t", 1},
                                       .has_pk = true,
                                       .column_count = 3,
                                       .pk_count = 1,
                                       .columns = columns,
                                       .pk = pk};

    static struct table *made;

    if (!made)
        made = table_copy(&table);
    if (!made)
        abort();
    return made;
}

static void refuse(const struct param_errors *errors)
{
    struct buf text;

    buf_init(&text, 64u * 1024 * 1024);
    respond_put_invalid(&text, errors);
    if (errors->count == 0 || (!text.failed && !slice_is_utf8(buf_slice(&text))))
        abort();
    buf_fini(&text);
}

static void check(const struct params *params, struct arena *arena)
{
    struct shape_params shape;
    struct selection selection;
    struct param_errors errors = {.count = 0};

    if (params_check(params, PARAMS_DELETE, arena, &shape, &errors) == ERR_INVALID)
        refuse(&errors);
    int rc = params_check(params, PARAMS_READ, arena, &shape, &errors);
    if (rc == 0)
        rc = params_check_table(&shape, model(), arena, &selection, &errors);
    if (rc == 0) {
        struct shape_where *where = NULL;

        rc = params_check_where(&shape, model(), arena, &where, &errors);
        shape_where_release(where);
    }
    if (rc == 0 && shape.subset) {
        struct subset_clauses clauses;

        rc = subset_params_resolve(&shape, model(), &selection, arena, &clauses, &errors);
    }
    if (rc == ERR_INVALID)
        refuse(&errors);
    else if (rc == 0 && (selection.count == 0 || selection.count > 3))
        abort();
    if (rc == 0 && params_table_missing(&shape, arena, &errors) == ERR_INVALID)
        refuse(&errors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = size ? (const char *)data : "";
    const char *nul = memchr(text, '\0', size);
    size_t query_len = nul ? (size_t)(nul - text) : size;
    struct slice query = slice_make(text, query_len);
    struct arena arena;
    struct buf redacted;
    char path[256];
    const char *reply;

    arena_init(&arena, 64u * 1024 * 1024);
    buf_init(&redacted, 64u * 1024 * 1024);
    query_redact(query, &redacted);
    query_normalise_path(query, path, sizeof path);
    struct params *params = arena_zalloc(&arena, sizeof *params);
    int rc = params ? params_add_query(params, &arena, query) : ERR_MEMORY;
    if (rc == 0 && nul)
        rc =
            body_merge(slice_make(nul + 1, size - query_len - 1), params, &arena, &reply);
    if (rc == 0)
        check(params, &arena);
    buf_fini(&redacted);
    arena_fini(&arena);
    return 0;
}
