/* See policy.h. */
#include "server/gate/policy.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct policy {
    json_t *root;
    const json_t *tables;
};

bool policy_ignores_row_security(const json_t *entry)
{
    const char *word = json_string_value(json_object_get(entry, "row_security"));

    return word && strcmp(word, "ignore") == 0;
}

int policy_check_template(const json_t *entry, const char *const *members,
                          unsigned sources, struct err *err)
{
    const json_t *where = json_object_get(entry, "where");
    const json_t *params = json_object_get(entry, "params");
    const json_t *columns = json_object_get(entry, "columns");

    const json_t *row_security = json_object_get(entry, "row_security");

    if (!json_is_object(entry))
        return err_set(err, ERR_INVALID, "it is no object");
    if (source_check_members(entry, members, err) != 0)
        return ERR_INVALID;
    if (row_security && !policy_ignores_row_security(entry))
        return err_set(err, ERR_INVALID, "its \"row_security\" can only be \"ignore\"");
    if (where && (!json_is_string(where) || json_string_length(where) == 0 ||
                  json_string_length(where) > GRANT_WHERE_MAX))
        return err_set(err, ERR_INVALID, "its \"where\" is no clause");
    if (columns && (!json_is_array(columns) || json_array_size(columns) == 0))
        return err_set(err, ERR_INVALID, "its \"columns\" are no list of names");
    if (params && (!json_is_array(params) || json_array_size(params) > GRANT_PARAMS_MAX))
        return err_set(err, ERR_INVALID, "its \"params\" are no list of sources");
    for (size_t i = 0; i < json_array_size(params); i++) {
        int rc = source_check(json_array_get(params, i), sources, err);

        if (rc != 0)
            return rc;
    }
    return 0;
}

static int check(const struct policy *policy, struct err *err)
{
    static const char *const members[] = {"where", "params", "columns", "row_security",
                                          NULL};
    void *it = json_object_iter((json_t *)(uintptr_t)policy->tables);

    if (!json_is_object(policy->tables))
        return err_set(err, ERR_INVALID, "{\"tables\": {...}} is expected");
    for (; it; it = json_object_iter_next((json_t *)(uintptr_t)policy->tables, it)) {
        const char *table = json_object_iter_key(it);
        const json_t *entry = json_object_iter_value(it);
        struct err why = {0};

        if (policy_check_template(entry, members, SOURCE_CLAIMS | SOURCE_PARAMS, &why) !=
            0)
            return err_set(err, ERR_INVALID, "table \"%.60s\": %s", table, why.message);
    }
    return 0;
}

int policy_new(struct slice text, struct policy **out, struct err *err)
{
    struct policy *policy = calloc(1, sizeof *policy);
    json_error_t where;
    int rc;

    *out = NULL;
    if (!policy)
        return err_set(err, ERR_MEMORY, "no memory for the policy");
    policy->root = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &where);
    policy->tables = json_object_get(policy->root, "tables");
    if (!policy->root)
        rc = err_set(err, ERR_INVALID, "line %d: %s", where.line, where.text);
    else
        rc = check(policy, err);
    if (rc != 0)
        policy_free(policy);
    else
        *out = policy;
    return rc;
}

void policy_free(struct policy *policy)
{
    if (!policy)
        return;
    json_decref(policy->root);
    free(policy);
}

const json_t *policy_find(const struct policy *policy, const char *table)
{
    return json_object_get(policy->tables, table);
}

/* A value that can be a parameter. */
static bool is_scalar(const json_t *value)
{
    return json_is_string(value) || json_is_number(value) || json_is_boolean(value);
}

int policy_fill_template(const json_t *entry, const char *table,
                         const struct source_values *values, json_t **out,
                         struct err *err)
{
    const json_t *sources = json_object_get(entry, "params");
    json_t *params = json_array();
    json_t *columns = json_object_get(entry, "columns");
    json_t *where = json_object_get(entry, "where");
    bool nothing = false;
    int rc = 0;

    *out = NULL;
    for (size_t i = 0; rc == 0 && !nothing && i < json_array_size(sources); i++) {
        const json_t *source = json_array_get(sources, i);
        const json_t *value = source_value(source, values);

        if (is_scalar(value))
            rc = json_array_append(params, (json_t *)(uintptr_t)value) ? ERR_MEMORY : 0;
        else if (source_kind(source) == SOURCE_CLAIMS)
            rc = err_set(err, ERR_NOT_FOUND, "the token lacks a claim that is needed");
        else
            nothing = true;
    }
    if (rc == 0 && nothing) {
        *out = grant_of_nothing(table);
        rc = *out ? 0 : ERR_MEMORY;
    } else if (rc == 0) {
        json_t *grant = json_pack("{s:s,s:O*,s:O,s:O*}", "table", table, "where", where,
                                  "params", params, "columns", columns);
        rc = grant ? grant_normalise(grant, out, err) : ERR_MEMORY;
        json_decref(grant);
    }
    json_decref(params);
    return rc == ERR_MEMORY ? err_set(err, rc, "no memory for a grant") : rc;
}
