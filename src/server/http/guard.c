/* A shape request that a grant speaks for: table, rows and columns are the grant's.
 *
 * What the request says of them is not compared or merged but dropped, wherever it stood (query,
 * body, brackets, repeated names), since all of that ends in the same few values, which are
 * replaced here, after everything was read. `queryable_columns` becomes the granted columns, so that
 * clauses and orders of subsets can't ask about others. Everything else is the client's. */
#include "server/http/stage.h"

#include <stdio.h>

#include "server/http/query.h"

static void drop(struct params *p, enum param which)
{
    p->values[which] = (struct param_value){.kind = PARAM_ABSENT};
}

static bool set_text(struct params *p, enum param which, const char *text,
                     struct arena *arena)
{
    char *copy = arena_dup(arena, slice_of(text));

    p->values[which] = (struct param_value){.kind = PARAM_TEXT, .text = slice_of(copy)};
    return copy != NULL;
}

/* A name as a request would write it: quoted. */
static bool add_column(struct param_value *value, const char *name, struct arena *arena)
{
    char *quoted = arena_alloc(arena, 2 * strlen(name) + 3);
    size_t n = 0;

    if (!quoted)
        return false;
    quoted[n++] = '"';
    for (const char *c = name; *c; c++) {
        if (*c == '"')
            quoted[n++] = '"';
        quoted[n++] = *c;
    }
    quoted[n++] = '"';
    return params_add_item(
        value, arena,
        (struct param_item){.value = slice_make(quoted, n), .is_text = true});
}

static bool set_columns(struct params *p, const struct grant *grant, struct arena *arena)
{
    struct param_value columns = {.kind = PARAM_LIST};
    struct param_value queryable = {.kind = PARAM_LIST};

    for (size_t i = 0; i < grant_column_count(grant); i++)
        if (!add_column(&columns, grant_column(grant, i), arena) ||
            !add_column(&queryable, grant_column(grant, i), arena))
            return false;
    p->values[PARAM_COLUMNS] = columns;
    p->values[PARAM_QUERYABLE] = queryable;
    return true;
}

static bool set_params(struct params *p, const struct grant *grant, struct arena *arena)
{
    struct param_value map = {.kind = PARAM_MAP};

    for (size_t i = 0; i < grant_param_count(grant); i++) {
        char *key = arena_printf(arena, "%zu", i + 1);
        char *value = arena_dup(arena, slice_of(grant_param(grant, i)));

        if (!key || !value ||
            !params_add_item(&map, arena,
                             (struct param_item){.key = slice_of(key),
                                                 .value = slice_of(value),
                                                 .is_text = true}))
            return false;
    }
    p->values[PARAM_PARAMS] = map;
    return true;
}

static int replace(const struct grant *grant, struct params *p, struct arena *arena)
{
    drop(p, PARAM_WHERE);
    drop(p, PARAM_PARAMS);
    drop(p, PARAM_COLUMNS);
    drop(p, PARAM_QUERYABLE);
    drop(p, PARAM_SECRET);
    drop(p, PARAM_API_SECRET);
    bool done = set_text(p, PARAM_TABLE, grant->table, arena);
    if (grant->where)
        done = done && set_text(p, PARAM_WHERE, grant->where, arena);
    if (grant_param_count(grant) > 0)
        done = done && set_params(p, grant, arena);
    if (grant_column_count(grant) > 0)
        done = done && set_columns(p, grant, arena);
    return done ? 0 : ERR_MEMORY;
}

/* --- The same as the request itself says --- */

static bool same_table(const struct params *p, const struct grant *grant,
                       struct arena *arena)
{
    struct ident_relation asked;
    struct ident_relation granted;
    const char *error;

    return ident_relation_parse(p->values[PARAM_TABLE].text, arena, &asked, &error) &&
           ident_relation_parse(slice_of(grant->table), arena, &granted, &error) &&
           slice_eq(asked.schema, granted.schema) && slice_eq(asked.name, granted.name);
}

static bool same_where(const struct params *p, const struct grant *grant)
{
    const struct param_value *where = &p->values[PARAM_WHERE];

    if (where->kind != PARAM_ABSENT && where->kind != PARAM_TEXT)
        return false;
    return slice_eq(where->text, slice_of(grant->where ? grant->where : ""));
}

static bool same_params(const struct params *p, const struct grant *grant)
{
    const struct param_value *value = &p->values[PARAM_PARAMS];
    size_t count = 0;

    for (const struct param_item *i = value->items; i; i = i->next) {
        uint64_t n;

        if (value->kind != PARAM_MAP || !slice_to_u64(i->key, &n) || n == 0 ||
            n > grant_param_count(grant) ||
            !slice_eq(i->value, slice_of(grant_param(grant, n - 1))))
            return false;
        count++;
    }
    return count == grant_param_count(grant);
}

static bool read_columns(const struct param_value *value, struct arena *arena,
                         struct ident_list *out)
{
    const char *error;

    *out = (struct ident_list){NULL, 0};
    if (value->kind == PARAM_TEXT)
        return ident_list_parse(value->text, arena, out, &error);
    for (const struct param_item *i = value->items; i; i = i->next)
        if (!i->is_text || !ident_list_add(i->value, arena, out, &error))
            return false;
    return value->kind == PARAM_ABSENT || value->kind == PARAM_LIST;
}

static bool same_columns(const struct params *p, const struct grant *grant,
                         struct arena *arena)
{
    struct ident_list list;

    if (!read_columns(&p->values[PARAM_COLUMNS], arena, &list) ||
        list.count != grant_column_count(grant))
        return false;
    for (size_t i = 0; i < list.count; i++) {
        size_t at = 0;

        while (at < list.count &&
               !slice_eq(list.names[at], slice_of(grant_column(grant, i))))
            at++;
        if (at == list.count)
            return false;
    }
    return true;
}

int guard_apply(const struct guard *guard, struct params *params, struct arena *arena)
{
    const struct grant *grant = guard->grant;

    if (guard->exact && params->values[PARAM_TABLE].kind != PARAM_TEXT)
        return ERR_NOT_FOUND;
    if (guard->exact &&
        !(same_table(params, grant, arena) && same_where(params, grant) &&
          same_params(params, grant) && same_columns(params, grant, arena)))
        return ERR_INVALID;
    return replace(grant, params, arena);
}

void guard_expired(struct shape_request *r)
{
    struct buf body;

    buf_init(&body, 1024);
    respond_put_refusal(&body, "expired", token_refusal_text(TOKEN_REFUSED_EXPIRED));
    shape_request_enter(r, REQUEST_ANSWERED);
    obs_refused(r->loop->http->config.obs, OBS_REFUSED_TOKEN);
    respond_unauthorized(r->req, token_refusal_text(TOKEN_REFUSED_EXPIRED),
                         buf_slice(&body));
    buf_fini(&body);
}
