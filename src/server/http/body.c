/* See body.h.
 *
 * With a member "subset" all other members override query parameters. Without it some names
 * belong to a subset, which may be known only at the end; so the first pass looks for it. */
#include "server/http/body.h"

#include "server/http/subset_params.h"
#include "json/json.h"

static int syntax_error(const struct json_reader *r, struct slice body,
                        struct arena *arena, const char **reply)
{
    struct buf text;

    buf_init(&text, 4096);
    buf_puts(&text, "{\"error\":\"Invalid JSON in request body\",\"details\":\"");
    if (r->error_pos >= body.len) {
        buf_printf(&text, "unexpected end of input at position %zu", body.len);
    } else {
        unsigned char c = (unsigned char)body.ptr[r->error_pos];

        buf_printf(&text, "unexpected byte at position %zu: 0x%02X", r->error_pos, c);
        if (c >= 0x20 && c < 0x7f) {
            buf_puts(&text, " (\\\"");
            json_put_escaped(&text, slice_make(body.ptr + r->error_pos, 1));
            buf_puts(&text, "\\\")");
        }
    }
    buf_puts(&text, "\"}");
    *reply = text.failed ? NULL : arena_dup(arena, buf_slice(&text));
    buf_fini(&text);
    return *reply ? ERR_INVALID : ERR_MEMORY;
}

static bool copy_text(struct arena *arena, struct slice text, struct slice *out)
{
    char *copy = arena_dup(arena, text);

    *out = slice_make(copy, text.len);
    return copy != NULL;
}

static bool is_begin(enum json_event event)
{
    return event == JSON_OBJECT_BEGIN || event == JSON_ARRAY_BEGIN;
}

/* The members of an object or array, as items. ERR_INVALID: bad JSON. */
static int read_items(struct json_reader *r, enum json_event begin, struct arena *arena,
                      struct param_value *out)
{
    enum json_event end = begin == JSON_OBJECT_BEGIN ? JSON_OBJECT_END : JSON_ARRAY_END;

    for (;;) {
        struct param_item item = {.is_text = false};
        enum json_event event = json_next(r);

        if (event == end)
            return 0;
        if (event == JSON_NAME) {
            if (!copy_text(arena, r->text, &item.key))
                return ERR_MEMORY;
            event = json_next(r);
        }
        if (event == JSON_ERROR || event == JSON_END)
            return ERR_INVALID;
        if (event == JSON_STRING) {
            item.is_text = true;
            if (!copy_text(arena, r->text, &item.value))
                return ERR_MEMORY;
        } else if (is_begin(event) && !json_skip(r, event)) {
            return ERR_INVALID;
        }
        if (!params_add_item(out, arena, item))
            return ERR_MEMORY;
    }
}

static int read_value(struct json_reader *r, enum json_event event, struct arena *arena,
                      struct param_value *out)
{
    *out = (struct param_value){.kind = PARAM_ABSENT};
    if (event == JSON_NULL)
        return 0;
    if (is_begin(event)) {
        out->kind = event == JSON_OBJECT_BEGIN ? PARAM_MAP : PARAM_LIST;
        return read_items(r, event, arena, out);
    }
    out->kind = event == JSON_STRING ? PARAM_TEXT : PARAM_BARE;
    if (event == JSON_TRUE)
        out->text = SLICE_LIT("true");
    else if (event == JSON_FALSE)
        out->text = SLICE_LIT("false");
    else if (!copy_text(arena, r->text, &out->text))
        return ERR_MEMORY;
    return 0;
}

/* The value of a subset's member, from its first event on. */
static int read_subset_value(struct json_reader *r, enum json_event event,
                             enum subset_param which, struct arena *arena,
                             struct params *params)
{
    struct param_value *value = &params->subset_values[which];

    if (which == SUBSET_PARAMS && event == JSON_OBJECT_BEGIN)
        return subset_params_read_values(r, arena, value);
    return read_value(r, event, arena, value);
}

/* The object of the member "subset", behind its brace. */
static int read_subset(struct json_reader *r, struct arena *arena, struct params *params)
{
    for (;;) {
        enum json_event event = json_next(r);
        enum subset_param which;
        int rc = 0;

        if (event == JSON_OBJECT_END)
            return 0;
        if (event != JSON_NAME)
            return ERR_INVALID;
        which = subset_params_find(r->text);
        event = json_next(r);
        if (event == JSON_ERROR || event == JSON_END)
            return ERR_INVALID;
        if (which != SUBSET_PARAM_COUNT)
            rc = read_subset_value(r, event, which, arena, params);
        else if (is_begin(event) && !json_skip(r, event))
            rc = ERR_INVALID;
        if (rc != 0)
            return rc;
    }
}

/* What a member of the body is. */
struct member {
    bool is_subset; /* "subset" */
    enum param which;
    enum subset_param flat; /* of a subset that has no object */
};

static struct member find_member(struct slice name, bool has_subset,
                                 struct params *params)
{
    struct member m = {slice_eq(name, SLICE_LIT("subset")), PARAM_COUNT,
                       SUBSET_PARAM_COUNT};

    if (has_subset || !subset_params_is_member(name)) {
        m.which = params_find(name);
    } else {
        m.flat = subset_params_find(name);
        params->subset = true;
    }
    return m;
}

static int read_member(struct json_reader *r, enum json_event event, struct member m,
                       struct arena *arena, struct params *params)
{
    if (m.is_subset) {
        params->subset |= event == JSON_OBJECT_BEGIN;
        params->subset_invalid = event != JSON_OBJECT_BEGIN && event != JSON_NULL;
        if (event == JSON_OBJECT_BEGIN)
            return read_subset(r, arena, params);
    }
    if (m.which != PARAM_COUNT)
        return read_value(r, event, arena, &params->values[m.which]);
    if (m.flat != SUBSET_PARAM_COUNT)
        return read_subset_value(r, event, m.flat, arena, params);
    return is_begin(event) && !json_skip(r, event) ? ERR_INVALID : 0;
}

/* One pass over the object's members; params NULL: only looks for "subset". */
static int read_members(struct json_reader *r, struct params *params, bool *has_subset,
                        struct arena *arena)
{
    for (;;) {
        enum json_event event = json_next(r);
        struct member m = {.is_subset = slice_eq(r->text, SLICE_LIT("subset"))};
        int rc = 0;

        if (event == JSON_OBJECT_END)
            return json_next(r) == JSON_END ? 0 : ERR_INVALID;
        if (event != JSON_NAME)
            return ERR_INVALID;
        if (params)
            m = find_member(r->text, *has_subset, params);
        event = json_next(r);
        if (event == JSON_ERROR || event == JSON_END)
            return ERR_INVALID;
        *has_subset |= m.is_subset && event == JSON_OBJECT_BEGIN;
        if (params)
            rc = read_member(r, event, m, arena, params);
        else if (is_begin(event) && !json_skip(r, event))
            rc = ERR_INVALID;
        if (rc != 0)
            return rc;
    }
}

static int pass(struct slice body, struct params *params, bool *has_subset,
                struct arena *arena, const char **reply)
{
    struct json_reader r;
    int rc;

    json_reader_init(&r, body);
    enum json_event event = json_next(&r);
    bool object = event == JSON_OBJECT_BEGIN;
    if (object) {
        rc = read_members(&r, params, has_subset, arena);
    } else {
        /* Well-formed text of another kind is told apart from bad text. */
        bool valid = event != JSON_ERROR && event != JSON_END &&
                     (!is_begin(event) || json_skip(&r, event)) &&
                     json_next(&r) == JSON_END;

        rc = ERR_INVALID;
        if (valid)
            *reply = "{\"error\":\"Request body must be a JSON object\"}";
    }
    if (rc == ERR_INVALID && !*reply)
        rc = syntax_error(&r, body, arena, reply);
    json_reader_fini(&r);
    return rc;
}

int body_merge(struct slice body, struct params *params, struct arena *arena,
               const char **reply)
{
    bool has_subset = false;

    *reply = NULL;
    if (body.len == 0)
        return 0;
    int rc = pass(body, NULL, &has_subset, arena, reply);
    if (rc != 0)
        return rc;
    return pass(body, params, &has_subset, arena, reply);
}
