/* What is asked of the gatekeeper, and what it answers, as JSON. */
#include "server/gate/internal.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_DEPTH_MAX 32

/* Flags of a nesting that a reader of ours would take, too. */
static bool too_deep(struct slice body)
{
    unsigned depth = 0;
    bool text = false;

    for (size_t i = 0; i < body.len; i++) {
        char c = body.ptr[i];

        if (text && c == '\\')
            i++;
        else if (c == '"')
            text = !text;
        else if (!text && (c == '{' || c == '['))
            depth++;
        else if (!text && (c == '}' || c == ']') && depth > 0)
            depth--;
        if (depth > REQUEST_DEPTH_MAX)
            return true;
    }
    return false;
}

int gate_read_request(struct slice body, struct slice table, json_t **out,
                      struct err *err)
{
    static const char *const names[] = {"params", "where", "columns", "namespace"};
    json_t *in = NULL;
    json_error_t why;

    *out = NULL;
    if (too_deep(body))
        return err_set(err, ERR_INVALID, "the body is nested too deep");
    if (body.len > 0)
        in = json_loadb(body.ptr, body.len, JSON_REJECT_DUPLICATES, &why);
    if ((body.len > 0 || table.len == 0) && !json_is_object(in)) {
        json_decref(in);
        return err_set(err, ERR_INVALID,
                       "the body must be a JSON object such as {\"table\": \"todos\", "
                       "\"params\": {}}");
    }
    json_t *name = table.len > 0 ? json_stringn(table.ptr, table.len)
                                 : json_incref(json_object_get(in, "table"));
    json_t *request = json_object();
    bool valid = json_is_string(name) && json_string_length(name) > 0 &&
                 json_string_length(name) <= GRANT_TABLE_MAX;
    int failed = json_object_set_new(request, "table", name ? name : json_null());
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *value = json_object_get(in, names[i]);

        if (value)
            failed |= json_object_set(request, names[i], value);
    }
    json_decref(in);
    if (valid && !failed) {
        *out = request;
        return 0;
    }
    json_decref(request);
    return err_set(err, ERR_INVALID, "\"table\" must be the name of a table");
}

void gate_json_free(json_t *json)
{
    json_decref(json);
}

const char *gate_request_table(const json_t *request)
{
    return json_string_value(json_object_get(request, "table"));
}

int gate_print_exchange(const char *token, struct buf *out)
{
    buf_puts(out, "{\"token\":\"");
    buf_puts(out, token); /* base64url and dots */
    buf_puts(out, "\"}");
    return out->failed;
}

int gate_print_gatekeeper(const json_t *grant, const char *token, const char *url,
                          struct buf *out)
{
    json_t *answer = json_pack(
        "{s:s,s:O*,s:O*,s:O*,s:O*}", "url", url, "table", json_object_get(grant, "table"),
        "where", json_object_get(grant, "where"), "params",
        json_object_get(grant, "params"), "columns", json_object_get(grant, "columns"));
    json_t *bearer = json_sprintf("Bearer %s", token);
    json_t *headers = json_pack("{s:o}", "Authorization", bearer);
    int failed = json_object_set_new(answer, "headers", headers);
    char *text = failed ? NULL : json_dumps(answer, JSON_COMPACT);

    if (text)
        buf_puts(out, text);
    free(text);
    json_decref(answer);
    return text ? out->failed : ERR_MEMORY;
}

/* --- Canonical parts of a grant, for who can't read the JSON --- */

size_t grant_param_count(const struct grant *grant)
{
    return json_array_size(grant->params);
}

const char *grant_param(const struct grant *grant, size_t i)
{
    return json_string_value(json_array_get(grant->params, i));
}

size_t grant_column_count(const struct grant *grant)
{
    return json_array_size(grant->columns);
}

const char *grant_column(const struct grant *grant, size_t i)
{
    return json_string_value(json_array_get(grant->columns, i));
}
