/* {"initial":300,"existing":10000}: how many requests are served at a time. Either member
 * may be left out and keeps its default then. (A file of its own, since jansson.h and
 * json/json.h define the same names.) */
#include <jansson.h>

#include "cli/settings.h"

#define LIMIT_MOST 1000000

static bool take(const json_t *value, unsigned *out, const char **why)
{
    if (!json_is_integer(value) || json_integer_value(value) < 1 ||
        json_integer_value(value) > LIMIT_MOST) {
        *why = "its values must be whole numbers from 1 to 1000000";
        return false;
    }
    *out = (unsigned)json_integer_value(value);
    return true;
}

bool setting_parse_limits(const char *text, struct setting_limits *out, const char **why)
{
    json_error_t detail;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &detail);
    struct setting_limits limits = {300, 10000};
    const char *key;
    json_t *value;
    bool ok = json_is_object(root);
    *why = "it must be a JSON object with the members \"initial\" and \"existing\"";
    json_object_foreach(root, key, value)
    {
        if (!ok)
            break;
        if (strcmp(key, "initial") == 0)
            ok = take(value, &limits.initial, why);
        else if (strcmp(key, "existing") == 0)
            ok = take(value, &limits.existing, why);
        else
            ok = false;
    }
    json_decref(root);
    if (ok)
        *out = limits;
    return ok;
}
