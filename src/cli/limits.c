/* {"initial":300,"existing":10000}: how many requests are served at a time. Either member
 * may be left out and keeps its default then. */
#include "cli/settings.h"
#include "json/json.h"

#define LIMIT_MOST 1000000

/* What is wrong with the text; NULL: nothing. */
static const char *read_limits(struct json_reader *r, struct setting_limits *out)
{
    static const char not_limits[] =
        "it must be a JSON object with the members \"initial\" and \"existing\"";
    bool seen_initial = false;
    bool seen_existing = false;
    enum json_event event;
    if (json_next(r) != JSON_OBJECT_BEGIN)
        return not_limits;
    while ((event = json_next(r)) == JSON_NAME) {
        bool initial = slice_eq(r->text, slice_of("initial"));
        bool *seen = initial ? &seen_initial : &seen_existing;
        uint64_t n;
        if ((!initial && !slice_eq(r->text, slice_of("existing"))) || *seen)
            return not_limits;
        if (json_next(r) != JSON_NUMBER || !slice_to_u64(r->text, &n) || n < 1 ||
            n > LIMIT_MOST)
            return "its values must be whole numbers from 1 to 1000000";
        *(initial ? &out->initial : &out->existing) = (unsigned)n;
        *seen = true;
    }
    return event == JSON_OBJECT_END && json_next(r) == JSON_END ? NULL : not_limits;
}

bool setting_parse_limits(const char *text, struct setting_limits *out, const char **why)
{
    struct setting_limits limits = {300, 10000};
    struct json_reader r;
    json_reader_init(&r, slice_of(text));
    const char *wrong = read_limits(&r, &limits);
    json_reader_fini(&r);
    if (wrong) {
        *why = wrong;
        return false;
    }
    *out = limits;
    return true;
}
