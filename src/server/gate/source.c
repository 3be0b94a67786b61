/* See source.h. */
#include "server/gate/source.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/slice.h"

#define DOTS_MAX 8

static const struct {
    enum source_kind kind;
    struct slice prefix;
} kinds[] = {{SOURCE_CLAIMS, {"claims.", 7}},
             {SOURCE_PARAMS, {"params.", 7}},
             {SOURCE_BODY, {"body.", 5}},
             {SOURCE_PATH, {"path.", 5}}};

#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

/* The kind's index and what stands behind its prefix; KIND_COUNT: none. */
static size_t split(const char *text, const char **rest)
{
    size_t i = 0;

    while (i < KIND_COUNT && strncmp(text, kinds[i].prefix.ptr, kinds[i].prefix.len) != 0)
        i++;
    *rest = i < KIND_COUNT ? text + kinds[i].prefix.len : text;
    return i;
}

unsigned source_kind(const json_t *source)
{
    const char *rest;
    size_t i =
        json_is_string(source) ? split(json_string_value(source), &rest) : KIND_COUNT;

    return i < KIND_COUNT ? kinds[i].kind : 0;
}

static bool is_path(const char *text)
{
    size_t dots = 0;

    for (const char *p = text; *p; p++) {
        if (*p == '.' && (p == text || p[1] == '.' || p[1] == '\0' || ++dots > DOTS_MAX))
            return false;
    }
    return text[0] != '\0';
}

int source_check(const json_t *source, unsigned allowed, struct err *err)
{
    const char *rest;

    if (json_is_object(source) && json_object_size(source) == 1 &&
        json_object_get(source, "value"))
        return 0;
    if (!json_is_string(source))
        return err_set(err, ERR_INVALID,
                       "a source is a text such as \"claims.sub\", or {\"value\": ...}");
    const char *text = json_string_value(source);
    size_t i = split(text, &rest);
    if (i < KIND_COUNT && (kinds[i].kind & allowed) && is_path(rest))
        return 0;
    return err_set(
        err, ERR_INVALID,
        "\"%.60s\" is no source that can be used here: it is one of%s%s%s%s, or "
        "{\"value\": ...}",
        text, allowed & SOURCE_CLAIMS ? " claims.NAME" : "",
        allowed & SOURCE_PARAMS ? " params.NAME" : "",
        allowed & SOURCE_BODY ? " body.NAME" : "",
        allowed & SOURCE_PATH ? " path.NAME" : "");
}

static const json_t *object_of(enum source_kind kind, const struct source_values *values)
{
    switch (kind) {
    case SOURCE_CLAIMS:
        return values->claims;
    case SOURCE_PARAMS:
        return values->params;
    case SOURCE_BODY:
        return values->body;
    case SOURCE_PATH:
        return values->path;
    }
    return NULL;
}

int source_check_members(const json_t *object, const char *const *known, struct err *err)
{
    void *it = json_object_iter((json_t *)(uintptr_t)object);

    for (; it; it = json_object_iter_next((json_t *)(uintptr_t)object, it)) {
        char names[200] = "";
        size_t len = 0;
        size_t i = 0;

        while (known[i] && strcmp(known[i], json_object_iter_key(it)) != 0)
            i++;
        if (known[i])
            continue;
        for (i = 0; known[i] && len < sizeof names; i++)
            len += (size_t)snprintf(names + len, sizeof names - len, "%s\"%s\"",
                                    i ? ", " : "", known[i]);
        return err_set(err, ERR_INVALID,
                       "\"%.40s\" means nothing here; what may be given: %s",
                       json_object_iter_key(it), names);
    }
    return 0;
}

const json_t *source_value(const json_t *source, const struct source_values *values)
{
    const char *rest;

    if (json_is_object(source))
        return json_object_get(source, "value");
    size_t i = split(json_string_value(source), &rest);
    if (i == KIND_COUNT)
        return NULL;
    const json_t *at = object_of(kinds[i].kind, values);
    while (at && *rest) {
        size_t len = strcspn(rest, ".");

        at = json_object_getn(at, rest, len);
        rest += rest[len] == '.' ? len + 1 : len;
    }
    return at;
}
