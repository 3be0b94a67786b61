/* See subset_params.h. */
#include "server/http/subset_params.h"

#define IS_INVALID "is invalid"

enum subset_param subset_params_find(struct slice name)
{
#define SUBSET_PARAM_NAME(id, name) name,
    static const char *const names[SUBSET_PARAM_COUNT] = {
        SUBSET_PARAMS(SUBSET_PARAM_NAME)};

    for (unsigned i = 0; i < SUBSET_PARAM_COUNT; i++)
        if (slice_eq(name, slice_of(names[i])))
            return (enum subset_param)i;
    return SUBSET_PARAM_COUNT;
}

bool subset_params_is_member(struct slice name)
{
    return subset_params_find(name) != SUBSET_PARAM_COUNT ||
           slice_eq(name, SLICE_LIT("where_expr")) ||
           slice_eq(name, SLICE_LIT("order_by_expr"));
}

static bool is_blank(const struct param_value *value)
{
    return value->kind == PARAM_ABSENT ||
           (value->kind == PARAM_TEXT && slice_trim(value->text).len == 0);
}

static void add_error(struct param_errors *errors, const char *field, const char *text)
{
    if (errors->count < PARAM_ERRORS_MAX)
        errors->items[errors->count++] =
            (struct param_error){.field = field, .text = text, .in_subset = true};
}

/* --- The values of $1, $2, … --- */

static bool copy(struct arena *arena, struct slice text, struct slice *out)
{
    *out = slice_make(arena_dup(arena, text), text.len);
    return out->ptr != NULL;
}

/* One member's value. ERR_INVALID: bad JSON. */
static int read_value(struct json_reader *r, struct arena *arena, struct slice *out)
{
    enum json_event event = json_next(r);
    size_t begin = r->pos - 1; /* where a list or an object has its bracket */

    switch (event) {
    case JSON_STRING:
    case JSON_NUMBER:
        return copy(arena, r->text, out) ? 0 : ERR_MEMORY;
    case JSON_TRUE:
        *out = SLICE_LIT("true");
        return 0;
    case JSON_FALSE:
        *out = SLICE_LIT("false");
        return 0;
    case JSON_NULL:
        *out = SLICE_LIT("");
        return 0;
    case JSON_OBJECT_BEGIN:
    case JSON_ARRAY_BEGIN:
        if (!json_skip(r, event))
            return ERR_INVALID;
        return copy(arena, slice_make(r->input.ptr + begin, r->pos - begin), out)
                   ? 0
                   : ERR_MEMORY;
    case JSON_END:
    case JSON_ERROR:
    case JSON_OBJECT_END:
    case JSON_ARRAY_END:
    case JSON_NAME:
        break;
    }
    return ERR_INVALID;
}

int subset_params_read_values(struct json_reader *r, struct arena *arena,
                              struct param_value *out)
{
    *out = (struct param_value){.kind = PARAM_MAP};
    for (;;) {
        struct param_item item = {.is_text = true};
        enum json_event event = json_next(r);

        if (event == JSON_OBJECT_END)
            return 0;
        if (event != JSON_NAME)
            return ERR_INVALID;
        if (!copy(arena, r->text, &item.key))
            return ERR_MEMORY;
        int rc = read_value(r, arena, &item.value);
        if (rc != 0)
            return rc;
        if (!params_add_item(out, arena, item))
            return ERR_MEMORY;
    }
}

/* A text that is to be an object. Sets *error, or *out. */
static int read_text(struct slice text, struct arena *arena, struct param_value *out,
                     const char **error)
{
    struct json_reader r;
    int rc;

    json_reader_init(&r, text);
    enum json_event event = json_next(&r);
    bool begins = event == JSON_OBJECT_BEGIN || event == JSON_ARRAY_BEGIN;
    if (event == JSON_OBJECT_BEGIN)
        rc = subset_params_read_values(&r, arena, out);
    else
        rc = event == JSON_ERROR || (begins && !json_skip(&r, event)) ? ERR_INVALID : 0;
    if (rc == 0 && json_next(&r) != JSON_END)
        rc = ERR_INVALID;
    json_reader_fini(&r);
    if (rc == ERR_INVALID)
        *error = "params must be valid JSON";
    else if (rc == 0 && event != JSON_OBJECT_BEGIN)
        *error = "params must be a JSON object";
    return rc == ERR_MEMORY ? rc : 0;
}

/* Puts values at their places; of a key that is there twice the last counts. */
static int order_values(const struct param_value *map, struct arena *arena,
                        struct sql_params *out, const char **error)
{
    size_t given = 0;
    size_t distinct = 0;

    for (const struct param_item *i = map->items; i; i = i->next)
        given++;
    struct slice *values = arena_calloc(arena, given + 1, sizeof *values);
    if (!values)
        return ERR_MEMORY;
    for (const struct param_item *i = map->items; i; i = i->next) {
        uint64_t n;

        if (!slice_to_u64(i->key, &n)) {
            *error = "Parameters can only use numbers as keys";
            return 0;
        }
        if (n >= 1 && n <= given && i->key.ptr[0] != '0') {
            distinct += values[n - 1].ptr == NULL;
            values[n - 1] = i->value;
        } else {
            *error = "Parameters must be numbered sequentially, starting from 1";
        }
    }
    for (size_t i = 0; i < distinct; i++)
        if (!values[i].ptr)
            *error = "Parameters must be numbered sequentially, starting from 1";
    *out = (struct sql_params){values, *error ? 0 : distinct};
    return 0;
}

static bool is_map_of_texts(const struct param_value *value)
{
    for (const struct param_item *i = value->items; i; i = i->next)
        if (!i->is_text)
            return false;
    return value->kind == PARAM_MAP;
}

static int check_values(const struct param_value *given, struct arena *arena,
                        struct subset_params *s)
{
    struct param_value map = *given;
    const char *error = NULL;
    int rc = 0;

    if (is_blank(given))
        return 0;
    if (given->kind == PARAM_TEXT) {
        rc = read_text(given->text, arena, &map, &error);
    } else if (!is_map_of_texts(given)) {
        error = IS_INVALID;
    }
    if (rc == 0 && !error)
        rc = order_values(&map, arena, &s->values, &error);
    if (error)
        add_error(&s->errors, "params", error);
    return rc;
}

/* --- The rest --- */

static struct slice check_text(const struct param_value *given, const char *field,
                               struct param_errors *errors)
{
    if (is_blank(given))
        return slice_make("", 0);
    if (given->kind == PARAM_TEXT)
        return given->text;
    add_error(errors, field, IS_INVALID);
    return slice_make("", 0);
}

/* False when there is none. */
static bool check_number(const struct param_value *given, const char *field,
                         struct param_errors *errors, int64_t *out)
{
    bool is_text = given->kind == PARAM_TEXT || given->kind == PARAM_BARE;

    *out = 0;
    if (is_blank(given))
        return false;
    if (!is_text || !slice_to_i64(given->text, out))
        add_error(errors, field, IS_INVALID);
    return true;
}

static void check_ranges(struct subset_params *s, bool has_offset)
{
    if (s->errors.count > 0)
        return;
    if (s->has_limit && s->limit <= 0)
        add_error(&s->errors, "limit", "must be greater than 0");
    if (s->offset < 0)
        add_error(&s->errors, "offset", "must be greater than or equal to 0");
    if (s->errors.count == 0 && (s->has_limit || has_offset) && s->order_by.len == 0)
        add_error(&s->errors, "order_by",
                  "order_by is required when limit or offset is present");
}

int subset_params_check(const struct params *p, struct arena *arena,
                        const struct subset_params **out, struct param_errors *errors)
{
    const struct param_value *given = p->subset_values;
    struct subset_params *s;

    *out = NULL;
    if (p->subset_invalid) {
        if (errors->count < PARAM_ERRORS_MAX)
            errors->items[errors->count++] =
                (struct param_error){.field = "subset", .text = IS_INVALID};
        return 0;
    }
    if (!p->subset)
        return 0;
    s = arena_zalloc(arena, sizeof *s);
    if (!s)
        return ERR_MEMORY;
    struct param_errors *wrong = &s->errors;
    s->where = check_text(&given[SUBSET_WHERE], "where", wrong);
    s->order_by = check_text(&given[SUBSET_ORDER_BY], "order_by", wrong);
    s->has_limit = check_number(&given[SUBSET_LIMIT], "limit", wrong, &s->limit);
    bool has_offset = check_number(&given[SUBSET_OFFSET], "offset", wrong, &s->offset);
    int rc = check_values(&given[SUBSET_PARAMS], arena, s);
    check_ranges(s, has_offset);
    *out = s;
    return rc;
}
