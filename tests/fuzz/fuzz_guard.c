/* fuzz: server/http */
/*
 * A guarded request's target and, behind the first NUL, its body: whatever they say, table, rows and
 * columns are the grant's afterwards, in every form in which a parameter can be given. The path goes
 * through normalising and matching, the body also through the exchange's reader.
 */
#include <stdint.h>
#include <stdlib.h>

#include "server/http/body.h"
#include "server/http/query.h"
#include "server/http/stage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct grant *grant(json_t **owner)
{
    static struct policy *policy;
    static struct grant made;
    static const char text[] =
        "{\"tables\":{\"app.t\":{\"where\":\"o = $1\",\"params\":[{\"value\":\"me\"}],"
        "\"columns\":[\"id\",\"v\\\"w\"]}}}";
    static json_t *kept;
    const struct source_values none = {.claims = NULL};

    if (!policy && (policy_new(SLICE_LIT(text), &policy, NULL) != 0 ||
                    policy_fill_template(policy_find(policy, "app.t"), "app.t", &none,
                                         &kept, NULL) != 0 ||
                    grant_read(kept, &made) != 0))
        abort();
    *owner = kept;
    return &made;
}

static bool is_text(const struct param_value *v, const char *text)
{
    return v->kind == PARAM_TEXT && slice_eq(v->text, slice_of(text));
}

static bool is_columns(const struct param_value *v)
{
    return v->kind == PARAM_LIST && v->items && v->items->next && !v->items->next->next &&
           slice_eq(v->items->value, SLICE_LIT("\"id\"")) &&
           slice_eq(v->items->next->value, SLICE_LIT("\"v\"\"w\""));
}

static void check(const struct params *p)
{
    const struct param_value *params = &p->values[PARAM_PARAMS];

    if (!is_text(&p->values[PARAM_TABLE], "app.t") ||
        !is_text(&p->values[PARAM_WHERE], "o = $1") || params->kind != PARAM_MAP ||
        !params->items || params->items->next ||
        !slice_eq(params->items->value, SLICE_LIT("me")) ||
        !is_columns(&p->values[PARAM_COLUMNS]) ||
        !is_columns(&p->values[PARAM_QUERYABLE]))
        abort();
}

static void guard(struct slice query, struct slice body, bool exact)
{
    json_t *owner;
    const struct guard g = {grant(&owner), 0, 0, exact};
    const char *reply;
    struct arena arena;

    arena_init(&arena, 64u * 1024 * 1024);
    struct params *params = arena_zalloc(&arena, sizeof *params);
    int rc = params ? params_add_query(params, &arena, query) : ERR_MEMORY;
    if (rc == 0 && body.len > 0)
        rc = body_merge(body, params, &arena, &reply);
    if (rc == 0)
        rc = guard_apply(&g, params, &arena);
    if (rc == 0)
        check(params);
    else if (rc != ERR_MEMORY && rc != ERR_INVALID && rc != ERR_NOT_FOUND)
        abort();
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = size ? (const char *)data : "";
    const char *nul = memchr(text, '\0', size);
    size_t len = nul ? (size_t)(nul - text) : size;
    struct slice body = nul ? slice_make(nul + 1, size - len - 1) : slice_make("", 0);
    struct slice path;
    struct slice query;
    char normal[256];
    json_t *request = NULL;
    struct err err = {0};

    query_split_target(slice_make(text, len), &path, &query);
    if (query_normalise_path(path, normal, sizeof normal) &&
        (normal[0] != '/' || strstr(normal, "//")))
        abort();
    guard(query, body, false);
    guard(query, body, true);
    if (gate_read_request(body, slice_make("", 0), &request, &err) == 0 &&
        !gate_request_table(request))
        abort();
    gate_json_free(request);
    return 0;
}
