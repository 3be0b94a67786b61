/* See grant.h. */
#include "server/gate/grant.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A scalar as the text that stands for it in Postgres; owned, NULL when it is none. */
static json_t *scalar_text(const json_t *value)
{
    char *text;
    json_t *out;

    if (json_is_string(value))
        return json_string(json_string_value(value));
    if (json_is_boolean(value))
        return json_string(json_is_true(value) ? "true" : "false");
    if (!json_is_number(value))
        return NULL;
    text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    out = text ? json_string(text) : NULL;
    free(text);
    return out;
}

/* Parameter n (from 1) of an array or an object. */
static const json_t *param_at(const json_t *params, size_t n)
{
    char key[16];

    if (json_is_array(params))
        return json_array_get(params, n - 1);
    snprintf(key, sizeof key, "%zu", n);
    return json_object_get(params, key);
}

static int read_params(const json_t *params, json_t *out, struct err *err)
{
    size_t count =
        json_is_array(params) ? json_array_size(params) : json_object_size(params);

    if (!params || json_is_null(params) || (count == 0 && json_is_object(params)))
        return 0;
    if (!json_is_array(params) && !json_is_object(params))
        return err_set(err, ERR_INVALID,
                       "its \"params\" are neither a list nor an object");
    if (count > GRANT_PARAMS_MAX)
        return err_set(err, ERR_INVALID, "it has more than %u parameters",
                       GRANT_PARAMS_MAX);
    json_t *list = json_array();
    for (size_t n = 1; n <= count; n++) {
        json_t *text = scalar_text(param_at(params, n));

        if (!text || json_array_append_new(list, text) != 0) {
            json_decref(list);
            return err_set(err, ERR_INVALID,
                           "its parameter %zu is not a text, a number or a boolean", n);
        }
    }
    if (count == 0)
        json_decref(list);
    else if (json_object_set_new(out, "params", list) != 0)
        return err_set(err, ERR_MEMORY, "no memory for a grant");
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int add_columns(const char **names, size_t count, json_t *out, struct err *err)
{
    json_t *list = json_array();
    int failed = 0;

    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || strcmp(names[i], names[i - 1]) != 0)
            failed |= json_array_append_new(list, json_string(names[i]));
    failed |= json_object_set_new(out, "columns", list);
    return failed ? err_set(err, ERR_MEMORY, "no memory for a grant") : 0;
}

static int read_columns(const json_t *columns, json_t *out, struct err *err)
{
    size_t count = json_array_size(columns);
    int rc = 0;

    if (!columns || json_is_null(columns))
        return 0;
    if (!json_is_array(columns) || count == 0 || count > GRANT_COLUMNS_MAX)
        return err_set(err, ERR_INVALID,
                       "its \"columns\" are not a list of 1 to %u names",
                       GRANT_COLUMNS_MAX);
    const char **names = calloc(count, sizeof *names);
    if (!names)
        return err_set(err, ERR_MEMORY, "no memory for a grant");
    for (size_t i = 0; i < count; i++) {
        names[i] = json_string_value(json_array_get(columns, i));
        if (!names[i] || names[i][0] == '\0')
            rc = err_set(err, ERR_INVALID,
                         "its \"columns\" hold something that is no name");
    }
    rc = rc ? rc : add_columns(names, count, out, err);
    free(names);
    return rc;
}

static int read_where(const json_t *where, json_t *out, struct err *err)
{
    if (!where || json_is_null(where))
        return 0;
    if (!json_is_string(where) || json_string_length(where) == 0)
        return err_set(err, ERR_INVALID, "its \"where\" is not a clause");
    if (json_string_length(where) > GRANT_WHERE_MAX)
        return err_set(err, ERR_INVALID, "its \"where\" is longer than %u bytes",
                       GRANT_WHERE_MAX);
    if (json_object_set_new(out, "where", json_string(json_string_value(where))) != 0)
        return err_set(err, ERR_MEMORY, "no memory for a grant");
    return 0;
}

static int check_names(const json_t *in, struct err *err)
{
    static const char *const known[] = {"table", "where", "params", "columns"};
    const char *name;
    json_t *value;

    /* The object is not changed. NOLINTNEXTLINE(cppcoreguidelines-pro-type-cast-away) */
    json_object_foreach((json_t *)(uintptr_t)in, name, value)
    {
        size_t i = 0;

        while (i < sizeof known / sizeof known[0] && strcmp(name, known[i]) != 0)
            i++;
        if (i == sizeof known / sizeof known[0])
            return err_set(err, ERR_INVALID,
                           "it has a member \"%.40s\"; it may have \"table\", \"where\", "
                           "\"params\" and \"columns\"",
                           name);
    }
    return 0;
}

int grant_normalise(const json_t *in, json_t **out, struct err *err)
{
    const json_t *table = json_object_get(in, "table");

    *out = NULL;
    if (!json_is_object(in))
        return err_set(err, ERR_INVALID, "it is no JSON object");
    if (!json_is_string(table) || json_string_length(table) == 0 ||
        json_string_length(table) > GRANT_TABLE_MAX)
        return err_set(err, ERR_INVALID, "its \"table\" is no name of a table");
    int rc = check_names(in, err);
    if (rc != 0)
        return rc;
    json_t *grant = json_object();
    if (json_object_set_new(grant, "table", json_string(json_string_value(table))) != 0)
        rc = err_set(err, ERR_MEMORY, "no memory for a grant");
    rc = rc ? rc : read_where(json_object_get(in, "where"), grant, err);
    rc = rc ? rc : read_params(json_object_get(in, "params"), grant, err);
    rc = rc ? rc : read_columns(json_object_get(in, "columns"), grant, err);
    if (rc != 0)
        json_decref(grant);
    else
        *out = grant;
    return rc;
}

static bool all_strings(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!json_is_string(json_array_get(list, i)))
            return false;
    return !list || json_is_array(list);
}

int grant_read(const json_t *in, struct grant *out)
{
    const json_t *where = json_object_get(in, "where");

    *out = (struct grant){.table = json_string_value(json_object_get(in, "table")),
                          .where = json_string_value(where),
                          .params = json_object_get(in, "params"),
                          .columns = json_object_get(in, "columns")};
    return out->table && (!where || out->where) && all_strings(out->params) &&
                   all_strings(out->columns)
               ? 0
               : ERR_INVALID;
}

void grant_print(const json_t *grant, struct buf *out)
{
    /* Members are in the order in which grant_normalise has put them. */
    char *text = json_dumps(grant, JSON_COMPACT);

    if (text)
        buf_puts(out, text);
    else
        out->failed = ERR_MEMORY;
    free(text);
}

json_t *grant_of_nothing(const char *table)
{
    return json_pack("{s:s,s:s}", "table", table, "where", "false");
}
