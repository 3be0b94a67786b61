/* Collecting parameters and the rules that need no table; see params.h. */
#include "server/http/params.h"

#include "server/http/query.h"
#include "server/http/subset_params.h"

/* Keys nested deeper, or malformed brackets, have no meaning here. */
#define NESTED_TOO_DEEP '['

enum param params_find(struct slice name)
{
#define PARAM_NAME(id, name) name,
    static const char *const names[PARAM_COUNT] = {PARAMS(PARAM_NAME)};

    for (unsigned i = 0; i < PARAM_COUNT; i++)
        if (slice_eq(name, slice_of(names[i])))
            return (enum param)i;
    return PARAM_COUNT;
}

static bool is_blank(struct slice text)
{
    return slice_trim(text).len == 0;
}

bool params_add_item(struct param_value *value, struct arena *arena,
                     struct param_item item)
{
    struct param_item *copy = arena_alloc(arena, sizeof *copy);

    if (!copy)
        return false;
    *copy = item;
    copy->next = NULL;
    if (value->last)
        value->last->next = copy;
    else
        value->items = copy;
    value->last = copy;
    return true;
}

/* Where a name of the query belongs; false: nowhere. */
static bool find_value(struct params *p, struct slice name, struct param_value **out)
{
    const struct slice prefix = SLICE_LIT("subset__");
    enum param which = params_find(name);
    enum subset_param member;

    if (which != PARAM_COUNT) {
        *out = &p->values[which];
        return true;
    }
    if (name.len < prefix.len || memcmp(name.ptr, prefix.ptr, prefix.len) != 0)
        return false;
    p->subset = true;
    member = subset_params_find(slice_make(name.ptr + prefix.len, name.len - prefix.len));
    if (member == SUBSET_PARAM_COUNT)
        return false;
    *out = &p->subset_values[member];
    return true;
}

/* name[], name[key] */
static int add_bracketed(struct param_value *value, struct arena *arena,
                         struct slice inside, struct slice text)
{
    enum param_kind kind = inside.len == 0 ? PARAM_LIST : PARAM_MAP;
    bool nested = memchr(inside.ptr, NESTED_TOO_DEEP, inside.len) != NULL;
    struct param_item item = {.key = inside, .value = text, .is_text = !nested};

    if (value->kind != kind)
        *value = (struct param_value){.kind = kind};
    for (struct param_item *i = value->items; kind == PARAM_MAP && i; i = i->next) {
        if (slice_eq(i->key, inside)) {
            i->value = text;
            return 0;
        }
    }
    return params_add_item(value, arena, item) ? 0 : ERR_MEMORY;
}

int params_add_query(struct params *p, struct arena *arena, struct slice query)
{
    struct query_pair pair;
    int rc;

    while ((rc = query_next(&query, arena, &pair)) > 0) {
        const char *open = memchr(pair.key.ptr, '[', pair.key.len);
        bool bracketed = open && pair.key.ptr[pair.key.len - 1] == ']';
        size_t n = bracketed ? (size_t)(open - pair.key.ptr) : pair.key.len;
        struct param_value *value;

        if (!find_value(p, slice_make(pair.key.ptr, n), &value))
            continue;
        if (!bracketed) {
            *value = (struct param_value){.kind = PARAM_TEXT, .text = pair.value};
            continue;
        }
        rc = add_bracketed(value, arena, slice_make(open + 1, pair.key.len - n - 2),
                           pair.value);
        if (rc != 0)
            return rc;
    }
    return rc;
}

/* --- Rules --- */

static void add_error(struct param_errors *errors, const char *field, const char *text)
{
    if (errors->count < PARAM_ERRORS_MAX)
        errors->items[errors->count++] =
            (struct param_error){.field = field, .text = text};
}

/* The text of a parameter that must be one: empty when absent or blank. */
static struct slice text_of(const struct params *p, enum param which, const char *field,
                            struct param_errors *errors)
{
    const struct param_value *value = &p->values[which];

    if (value->kind == PARAM_TEXT && !is_blank(value->text))
        return value->text;
    if (value->kind != PARAM_ABSENT && value->kind != PARAM_TEXT)
        add_error(errors, field, "is invalid");
    return slice_make("", 0);
}

static bool is_text(const struct param_value *value)
{
    return value->kind == PARAM_TEXT || value->kind == PARAM_BARE;
}

/* true, false, 1, 0; -1 when it is none of them. */
static int strict_flag(struct slice text)
{
    if (slice_eq(text, SLICE_LIT("true")) || slice_eq(text, SLICE_LIT("1")))
        return 1;
    if (slice_eq(text, SLICE_LIT("false")) || slice_eq(text, SLICE_LIT("0")))
        return 0;
    return -1;
}

static bool strict(const struct params *p, enum param which, const char *field,
                   struct param_errors *errors)
{
    const struct param_value *value = &p->values[which];

    if (value->kind == PARAM_ABSENT ||
        (value->kind == PARAM_TEXT && is_blank(value->text)))
        return false;
    int flag = is_text(value) ? strict_flag(value->text) : -1;
    if (flag < 0)
        add_error(errors, field, "is invalid");
    return flag == 1;
}

/* Any value but the literal "false" is true. */
static bool loose(const struct params *p, enum param which, const char *field,
                  struct param_errors *errors)
{
    const struct param_value *value = &p->values[which];

    if (value->kind == PARAM_ABSENT)
        return false;
    if (!is_text(value)) {
        add_error(errors, field, "is invalid");
        return false;
    }
    return !slice_eq(value->text, SLICE_LIT("false"));
}

/* Values in the order of their keys, which must be 1, 2, … each once. *error (a constant) tells
 * what is wrong with them. ERR_MEMORY. */
static int order_params(const struct param_value *value, struct arena *arena,
                        struct sql_params *out, const char **error)
{
    size_t count = 0;

    *error = NULL;
    for (const struct param_item *i = value->items; i; i = i->next) {
        uint64_t n;

        if (!slice_to_u64(i->key, &n))
            *error = "Parameters can only use numbers as keys";
        count++;
    }
    struct slice *values = arena_calloc(arena, count + 1, sizeof *values);
    bool *given = arena_calloc(arena, count + 1, sizeof *given);
    if (!values || !given)
        return ERR_MEMORY;
    for (const struct param_item *i = value->items; !*error && i; i = i->next) {
        uint64_t n = 0;

        slice_to_u64(i->key, &n);
        if (n < 1 || n > count || i->key.ptr[0] == '0' || given[n]) {
            *error = "Parameters must be numbered sequentially, starting from 1";
        } else {
            given[n] = true;
            values[n - 1] = i->value;
        }
    }
    *out = (struct sql_params){values, count};
    return 0;
}

static int cast_params(const struct params *p, struct arena *arena,
                       struct shape_params *out, struct param_errors *errors)
{
    const struct param_value *value = &p->values[PARAM_PARAMS];

    if (value->kind == PARAM_ABSENT ||
        (value->kind == PARAM_TEXT && is_blank(value->text)))
        return 0;
    bool valid = value->kind == PARAM_MAP;
    for (const struct param_item *i = value->items; i; i = i->next)
        valid = valid && i->is_text;
    if (!valid)
        add_error(errors, "params", "is invalid");
    else
        return order_params(value, arena, &out->params, &out->params_error);
    return 0;
}

static void cast_enums(const struct params *p, struct shape_params *out,
                       struct param_errors *errors)
{
    struct slice log = text_of(p, PARAM_LOG, "log", errors);
    struct slice replica = text_of(p, PARAM_REPLICA, "replica", errors);

    out->log_mode = SHAPE_LOG_FULL;
    if (slice_eq(log, SLICE_LIT("changes_only")))
        out->log_mode = SHAPE_LOG_CHANGES_ONLY;
    else if (log.len > 0 && !slice_eq(log, SLICE_LIT("full")))
        add_error(errors, "log", "is invalid");
    out->replica = ENCODE_REPLICA_DEFAULT;
    if (slice_eq(replica, SLICE_LIT("full")))
        out->replica = ENCODE_REPLICA_FULL;
    else if (replica.len > 0 && !slice_eq(replica, SLICE_LIT("default")))
        add_error(errors, "replica", "is invalid");
}

static void cast_flags(const struct params *p, enum params_use use,
                       struct shape_params *out, struct param_errors *errors)
{
    out->live = use == PARAMS_DELETE ? strict(p, PARAM_LIVE, "live", errors)
                                     : loose(p, PARAM_LIVE, "live", errors);
    if (p->values[PARAM_LIVE_SSE].kind != PARAM_ABSENT)
        out->sse = loose(p, PARAM_LIVE_SSE, "live_sse", errors);
    else
        out->sse = strict(p, PARAM_OLD_LIVE_SSE, "live_sse", errors);
    strict(p, PARAM_COMPACTION, "experimental_compaction", errors);
}

/* A list of columns must be text, or a list of texts. */
static void cast_list(const struct params *p, enum param which, const char *field,
                      struct param_errors *errors)
{
    const struct param_value *value = &p->values[which];
    bool valid = value->kind != PARAM_BARE && value->kind != PARAM_MAP;

    for (const struct param_item *i = value->items; i; i = i->next)
        valid = valid && i->is_text;
    if (!valid)
        add_error(errors, field, "is invalid");
}

static int parse_list(const struct param_value *value, struct arena *arena,
                      const char *field, bool *present, struct ident_list *out,
                      struct param_errors *errors)
{
    const char *error = NULL;
    bool parsed = true;

    *present = false;
    *out = (struct ident_list){NULL, 0};
    if (value->kind == PARAM_TEXT && !is_blank(value->text)) {
        *present = true;
        parsed = ident_list_parse(value->text, arena, out, &error);
    }
    for (const struct param_item *i = value->items; parsed && i; i = i->next) {
        *present = true;
        parsed = ident_list_add(i->value, arena, out, &error);
    }
    if (parsed)
        return 0;
    if (!error)
        return ERR_MEMORY;
    add_error(errors, field, error);
    return ERR_INVALID;
}

static int check_offset(const struct params *p, struct shape_params *out,
                        struct param_errors *errors)
{
    const struct param_value *value = &p->values[PARAM_OFFSET];

    if (value->kind == PARAM_ABSENT || is_blank(value->text)) {
        add_error(errors, "offset", "can't be blank");
        return ERR_INVALID;
    }
    out->offset_kind = OFFSET_KIND_AT;
    if (slice_eq(value->text, SLICE_LIT("now"))) {
        out->offset_kind = OFFSET_KIND_NOW;
    } else if (!offset_parse(value->text, &out->offset)) {
        add_error(errors, "offset", "has invalid format");
        return ERR_INVALID;
    }
    return 0;
}

static int check_live(const struct shape_params *out, struct param_errors *errors)
{
    bool now = out->offset_kind == OFFSET_KIND_NOW;
    bool start = !now && out->offset.before_all;

    if (!now && !start && out->handle.len == 0)
        add_error(errors, "handle", "can't be blank when offset != -1");
    else if (out->live && start)
        add_error(errors, "live", "can't be true when offset == -1");
    else if (out->live && now)
        add_error(errors, "live", "can't be true when offset is 'now'");
    else if (out->sse && !out->live)
        add_error(errors, "live_sse", "can't be true unless live is also true");
    return errors->count ? ERR_INVALID : 0;
}

static int check_names(const struct params *p, struct slice table, struct arena *arena,
                       struct shape_params *out, struct param_errors *errors)
{
    const char *error = NULL;
    int rc = parse_list(&p->values[PARAM_COLUMNS], arena, "columns", &out->has_columns,
                        &out->columns, errors);

    if (rc == 0)
        rc = parse_list(&p->values[PARAM_QUERYABLE], arena, "queryable_columns",
                        &out->has_queryable, &out->queryable, errors);
    if (rc != 0)
        return rc;
    if (ident_relation_parse(table, arena, &out->table, &error))
        return 0;
    if (!error)
        return ERR_MEMORY;
    add_error(errors, "table", error);
    return ERR_INVALID;
}

int params_check(const struct params *p, enum params_use use, struct arena *arena,
                 struct shape_params *out, struct param_errors *errors)
{
    int rc;

    *out = (struct shape_params){.offset = OFFSET_BEFORE_ALL};
    errors->count = 0;
    struct slice table = text_of(p, PARAM_TABLE, "table", errors);
    out->where = text_of(p, PARAM_WHERE, "where", errors);
    out->handle = text_of(p, PARAM_HANDLE, "handle", errors);
    out->cursor = p->values[PARAM_CURSOR].text;
    if (use == PARAMS_READ)
        text_of(p, PARAM_OFFSET, "offset", errors);
    cast_enums(p, out, errors);
    cast_flags(p, use, out, errors);
    if (cast_params(p, arena, out, errors) != 0)
        return ERR_MEMORY;
    cast_list(p, PARAM_COLUMNS, "columns", errors);
    cast_list(p, PARAM_QUERYABLE, "queryable_columns", errors);
    if (use == PARAMS_READ) {
        rc = subset_params_check(p, arena, &out->subset, errors);
        if (rc != 0)
            return rc;
    }
    if (errors->count > 0)
        return ERR_INVALID;

    out->has_table = table.len > 0;
    if (use == PARAMS_READ) {
        rc = check_offset(p, out, errors);
        if (rc == 0)
            rc = check_live(out, errors);
        if (rc != 0)
            return rc;
        if (!out->has_table)
            add_error(errors, "table", "can't be blank");
    } else if (!out->has_table && out->handle.len == 0) {
        add_error(errors, "handle", "can't be blank when shape definition is missing");
    }
    if (errors->count > 0)
        return ERR_INVALID;
    return out->has_table ? check_names(p, table, arena, out, errors) : 0;
}
