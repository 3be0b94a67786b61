/*
 * Opening a collection that the adapter feeds, and what the app may ask it. Texts of the options are
 * copied: each session makes a stream of them.
 */

#include <string.h>

#include "client/electric/electric.h"
#include "json/json.h"

static void electric_free(struct coulomb_collection *coll);

struct electric *electric_of(const struct coulomb_collection *coll)
{
    if (coll->kind_free == electric_free)
        return coll->kind;
    client_fail(coll->client, COULOMB_E_COLLECTION_OPERATION,
                "%s is not fed by a shape; make it with coulomb_electric_collection_open",
                coll->id);
    return NULL;
}

/* --- Options -------------------------------------------------------------------------------------- */

/* In the pool; NULL stays NULL. *failed is set when there is no memory. */
static const char *keep(struct pool *p, const char *text, bool *failed)
{
    size_t n = text ? strlen(text) + 1 : 0;
    char *copy = text ? pool_alloc(p, n) : NULL;

    if (text && !copy)
        *failed = true;
    if (copy)
        memcpy(copy, text, n);
    return copy;
}

static const char *const *keep_list(struct pool *p, const char *const *items,
                                    size_t count, bool *failed)
{
    const char **copy = pool_alloc(p, (count + 1) * sizeof(*copy));

    if (!copy)
        *failed = true;
    for (size_t i = 0; copy && i < count; i++)
        copy[i] = keep(p, items[i], failed);
    return copy;
}

static void keep_pairs(struct electric *e, const coulomb_electric_options *o,
                       bool *failed)
{
    struct pool *p = &e->pool;

    e->extra = pool_alloc(p, (o->extra_count + 1) * sizeof(*e->extra));
    e->fixed_headers = pool_alloc(p, (o->header_count + 1) * sizeof(*e->fixed_headers));
    if (!e->extra || !e->fixed_headers) {
        *failed = true;
        return;
    }
    for (size_t i = 0; i < o->extra_count; i++)
        e->extra[i] = (struct stream_param){keep(p, o->extra[i].name, failed),
                                            keep(p, o->extra[i].value, failed)};
    for (size_t i = 0; i < o->header_count; i++)
        e->fixed_headers[i] = (struct net_header){keep(p, o->headers[i].name, failed),
                                                  keep(p, o->headers[i].value, failed)};
}

static int keep_options(struct electric *e, const coulomb_electric_options *o)
{
    struct pool *p = &e->pool;
    bool failed = false;

    e->options = *o;
    memset(&e->options.collection, 0, sizeof(e->options.collection));
    e->options.extra = e->options.headers = NULL;
    e->options.url = keep(p, o->url, &failed);
    e->options.table = keep(p, o->table, &failed);
    e->options.where = keep(p, o->where, &failed);
    e->options.offset = keep(p, o->offset, &failed);
    e->options.handle = keep(p, o->handle, &failed);
    e->options.ca_file = keep(p, o->ca_file, &failed);
    e->options.params = keep_list(p, o->params, o->param_count, &failed);
    e->options.columns = keep_list(p, o->columns, o->column_count, &failed);
    e->options.key_columns = NULL;
    keep_pairs(e, o, &failed);
    e->whole_rows =
        o->replica_full || (o->mode == COULOMB_ON_DEMAND && !o->partial_updates);
    return failed ? client_no_memory(e->client) : COULOMB_OK;
}

static bool known_offset(const char *offset)
{
    return strcmp(offset, "-1") == 0 || strcmp(offset, "now") == 0;
}

static int check_options(coulomb_client *c, const coulomb_electric_options *o)
{
    const coulomb_collection_options *co = &o->collection;
    int keys =
        (co->key_column != NULL) + (co->get_key != NULL) + (o->key_columns != NULL);

    if (o->mode > COULOMB_PROGRESSIVE)
        return client_fail(c, COULOMB_E_ARGUMENT,
                           "mode %d; there is eager, on demand, "
                           "progressive",
                           (int)o->mode);
    if (!o->url || !o->url[0])
        return client_fail(c, COULOMB_E_MISSING_URL,
                           "a shape needs a url, say http://127.0.0.1:3000/v1/shape");
    if (o->offset && !known_offset(o->offset) && !o->handle)
        return client_fail(c, COULOMB_E_MISSING_HANDLE,
                           "the offset %.40s needs the handle of its shape", o->offset);
    if (keys == 0 || (o->key_columns && o->key_column_count == 0))
        return client_fail(c, COULOMB_E_GET_KEY_REQUIRED,
                           "a collection needs key_column, key_columns or get_key");
    if (keys > 1)
        return client_fail(c, COULOMB_E_COLLECTION_CONFIG,
                           "of key_column, key_columns and get_key one may be given");
    return COULOMB_OK;
}

/* --- Keys ------------------------------------------------------------------------------------------- */

/* Text that is cut at its end. */
struct cut {
    char *buf;
    size_t cap;
    size_t len; /* of the whole */
};

static void cut_put(struct cut *c, char byte)
{
    if (c->len + 1 < c->cap)
        c->buf[c->len] = byte;
    c->len++;
}

/* One value; without memory, since key functions can't say that there is none. */
static int put_key_part(struct cut *out, const coulomb_value *v)
{
    char few[128];
    struct slice text = {few, 0};
    int code = COULOMB_OK;

    if (v->type == COULOMB_NULL || v->type == COULOMB_ABSENT) {
        cut_put(out, '_');
        return COULOMB_OK;
    }
    if (v->type == COULOMB_BYTES || v->type == COULOMB_ARRAY)
        return COULOMB_E_TYPE;
    if (value_is_bytes(v->type))
        text = value_slice(v);
    else
        code = coulomb_value_print(v, few, sizeof(few), &text.len);
    cut_put(out, '"');
    for (size_t i = 0; code == COULOMB_OK && i < text.len; i++) {
        if (text.ptr[i] == '/')
            cut_put(out, '/');
        cut_put(out, text.ptr[i]);
    }
    cut_put(out, '"');
    return code;
}

int coulomb_electric_key(const coulomb_value *values, size_t count, char *buf, size_t cap,
                         size_t *len)
{
    struct cut out = {buf, cap, 0};
    int code = COULOMB_OK;

    for (size_t i = 0; i < count && code == COULOMB_OK; i++) {
        if (i > 0)
            cut_put(&out, '/');
        code = put_key_part(&out, &values[i]);
    }
    if (cap > 0)
        buf[out.len < cap ? out.len : cap - 1] = '\0';
    if (len)
        *len = out.len;
    return code;
}

/* The key of several columns; a row without one of them has none. */
static coulomb_key key_of_columns(const coulomb_row *row, void *arg)
{
    struct electric *e = arg;
    coulomb_key none = {.type = COULOMB_KEY_NONE};
    size_t len = 0;

    for (size_t k = 0; k < e->key_count; k++) {
        e->key_values[k] = row_at(row, (size_t)e->keys[k]);
        if (e->key_values[k].type == COULOMB_ABSENT)
            return none;
    }
    if (coulomb_electric_key(e->key_values, e->key_count, e->key_text,
                             COULOMB_KEY_MAX + 2, &len) != COULOMB_OK)
        return none;
    /* One that is too long is cut, and refused for its length. */
    return coulomb_key_textn(e->key_text,
                             len <= COULOMB_KEY_MAX ? len : COULOMB_KEY_MAX + 1);
}

static int find_keys(struct electric *e, const coulomb_electric_options *o)
{
    const char *const *names = o->key_columns;
    const struct layout *l = e->coll->layout;
    size_t count =
        o->key_columns ? o->key_column_count : o->collection.key_column != NULL;

    if (!names)
        names = &o->collection.key_column;
    e->keys = pool_alloc(&e->pool, (count + 1) * sizeof(*e->keys));
    e->key_values = pool_alloc(&e->pool, (count + 1) * sizeof(*e->key_values));
    e->key_text = o->key_columns ? pool_alloc(&e->pool, COULOMB_KEY_MAX + 2) : NULL;
    if (!e->keys || !e->key_values || (o->key_columns && !e->key_text))
        return client_no_memory(e->client);
    for (size_t k = 0; k < count; k++) {
        e->keys[k] = names[k] ? layout_find(l, names[k]) : -1;
        if (e->keys[k] < 0)
            return client_fail(e->client, COULOMB_E_COLUMN,
                               "the key's column %s is not among the columns of %s",
                               names[k] ? names[k] : "(NULL)", e->coll->id);
        if (l->columns[e->keys[k]].type == COULOMB_BYTES ||
            l->columns[e->keys[k]].type == COULOMB_ARRAY)
            return client_fail(
                e->client, COULOMB_E_COLLECTION_CONFIG,
                "the key's column %s is of bytes or an array, which are no "
                "part of a key",
                names[k]);
    }
    e->key_count = count;
    return COULOMB_OK;
}

/* --- Metadata for others ------------------------------------------------------------------------------ */

/* Where a row that is inserted here will go. */
static int insert_meta(coulomb_blob *out, void *arg)
{
    struct electric *e = arg;
    struct buf text;
    int code;

    if (!e->table.ptr)
        return COULOMB_OK;
    buf_init_from(&text, SIZE_MAX / 4, &e->heap->mem);
    buf_puts(&text, "{\"relation\":[");
    json_put_untrusted(&text, e->schema.len > 0 ? slice_make(e->schema.ptr, e->schema.len)
                                                : SLICE_LIT("public"));
    buf_putc(&text, ',');
    json_put_untrusted(&text, slice_make(e->table.ptr, e->table.len));
    buf_puts(&text, "]}");
    code = text.failed ? COULOMB_E_MEMORY : coulomb_blob_set(out, text.ptr, text.len);
    buf_fini(&text);
    return code;
}

/* What the next session would begin from, or this one is at. */
static const struct resume *current_resume(const struct electric *e)
{
    return e->resume.known ? &e->resume : &e->imported;
}

static int export_meta(coulomb_blob *out, void *arg)
{
    const struct electric *e = arg;
    struct buf text;
    int code;

    if (!current_resume(e)->known && seen_count(&e->seen) == 0)
        return COULOMB_OK;
    buf_init_from(&text, SIZE_MAX / 4, &e->heap->mem);
    code = export_print(current_resume(e), &e->seen, &text);
    if (code == COULOMB_OK)
        code = coulomb_blob_set(out, text.ptr, text.len);
    buf_fini(&text);
    return code;
}

static int import_meta(const void *meta, size_t len, void *arg)
{
    struct electric *e = arg;
    struct resume r;
    int code = export_parse(e->heap, slice_make(meta, len), &r, &e->seen);

    if (code != COULOMB_OK)
        return code;
    resume_fini(e->heap, &e->imported);
    e->imported = r;
    return COULOMB_OK;
}

static int merge_meta(const void *current, size_t current_len, const void *incoming,
                      size_t incoming_len, coulomb_blob *out, void *arg)
{
    const struct electric *e = arg;
    const struct resume none = {0};
    const struct resume *newer;
    struct resume a = {0};
    struct resume b = {0};
    struct seen seen;
    struct buf text;
    int code;

    seen_init(&seen, e->heap);
    buf_init_from(&text, SIZE_MAX / 4, &e->heap->mem);
    code = export_parse(e->heap, slice_make(current, current_len), &a, &seen);
    if (code == COULOMB_OK)
        code = export_parse(e->heap, slice_make(incoming, incoming_len), &b, &seen);
    newer = resume_newer(&a, &b);
    if (code == COULOMB_OK)
        code = export_print(newer ? newer : &none, &seen, &text);
    if (code == COULOMB_OK)
        code = coulomb_blob_set(out, text.ptr, text.len);
    buf_fini(&text);
    resume_fini(e->heap, &a);
    resume_fini(e->heap, &b);
    seen_fini(&seen);
    return code;
}

/* --- Coming and going ----------------------------------------------------------------------------------- */

static void setting_free(struct electric *e, struct setting *s)
{
    list_remove(&s->link);
    heap_free_str(e->heap, s->name);
    heap_free_str(e->heap, s->value);
    heap_free(e->heap, s, sizeof(*s));
}

static void settings_clear(struct electric *e, struct list *l)
{
    while (!list_empty(l))
        setting_free(e, LIST_ENTRY(l->next, struct setting, link));
}

static void electric_fini(struct electric *e)
{
    struct heap *h = e->heap;

    settings_clear(e, &e->params);
    settings_clear(e, &e->headers);
    resume_fini(h, &e->imported);
    credentials_release((struct credentials *)e->options.credentials);
    pool_fini(&e->pool);
    heap_free(h, e, sizeof(*e));
}

static void electric_free(struct coulomb_collection *coll)
{
    struct electric *e = coll->kind;

    await_free(e);
    seen_fini(&e->seen);
    coll->kind = NULL;
    electric_fini(e);
}

static void electric_init(struct electric *e, coulomb_client *c)
{
    e->client = c;
    e->heap = c->heap;
    pool_init(&e->pool, c->heap);
    list_init(&e->params);
    list_init(&e->headers);
    list_init(&e->waiters);
    list_init(&e->asks);
    list_init(&e->loads);
    list_init(&e->loaded);
    seen_init(&e->seen, c->heap);
    task_init(&e->begin_task, c, begin_task_run);
    task_init(&e->load_task, c, load_task_run);
    timer_init(&e->load_timer, c, load_timer_fired);
    timer_init(&e->ask_timer, c, ask_timer_fired);
}

/* The collection has it from now on. */
static void attach(struct electric *e, coulomb_collection *coll)
{
    e->coll = coll;
    tags_init(&e->tags, coll);
    known_init(&e->known, coll);
    coll->kind = e;
    coll->kind_free = electric_free;
    coll->adapter = (coulomb_adapter){.size = sizeof(coulomb_adapter),
                                      .start = electric_start,
                                      .stop = electric_stop,
                                      .load_subset = load_subset,
                                      .unload_subset = unload_subset,
                                      .insert_meta = insert_meta,
                                      .export_meta = export_meta,
                                      .import_meta = import_meta,
                                      .merge_meta = merge_meta};
    coll->has_adapter = true;
    coll->options.adapter_arg = e;
}

static int open_collection(struct electric *e, const coulomb_electric_options *o,
                           coulomb_collection **out)
{
    coulomb_collection_options co = o->collection;
    int code;

    co.on_demand = o->mode != COULOMB_EAGER;
    co.full_updates = 0;
    if (o->key_columns) {
        co.get_key = key_of_columns;
        co.get_key_arg = e;
    }
    code = collection_make(e->client, &co, out);
    if (code == COULOMB_OK)
        attach(e, *out);
    return code;
}

int coulomb_electric_collection_open(coulomb_client *c,
                                     const coulomb_electric_options *options,
                                     coulomb_collection **out)
{
    coulomb_electric_options o;
    coulomb_collection *coll;
    struct electric *e;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code =
            options_read(c, &o, sizeof(o), options, "coulomb_electric_collection_open");
    if (code == COULOMB_OK)
        code = check_options(c, &o);
    if (code != COULOMB_OK)
        return code;
    e = heap_zalloc(c->heap, sizeof(*e));
    if (!e)
        return client_no_memory(c);
    electric_init(e, c);
    code = keep_options(e, &o);
    if (code == COULOMB_OK)
        code = open_collection(e, &o, &coll);
    if (code != COULOMB_OK) {
        e->options.credentials = NULL;
        electric_fini(e);
        return code;
    }
    if (o.credentials)
        credentials_retain((struct credentials *)o.credentials);
    code = find_keys(e, &o);
    if (code == COULOMB_OK && o.collection.start_sync)
        code = collection_wake(coll);
    if (code != COULOMB_OK) {
        coulomb_collection_release(coll);
        return code;
    }
    *out = coll;
    return COULOMB_OK;
}

/* --- What may be asked ------------------------------------------------------------------------------------ */

int electric_enter(const coulomb_collection *coll, struct electric **e)
{
    int code = client_enter(coll->client);

    if (code != COULOMB_OK)
        return code;
    *e = electric_of(coll);
    return *e ? COULOMB_OK : COULOMB_E_COLLECTION_OPERATION;
}

/* NULL: no memory. */
static struct setting *setting_new(struct electric *e, const char *name,
                                   const char *value)
{
    struct setting *s = heap_zalloc(e->heap, sizeof(*s));

    if (!s)
        return NULL;
    list_init(&s->link);
    s->name = heap_strdup(e->heap, name);
    s->value = value ? heap_strdup(e->heap, value) : NULL;
    if (s->name && (s->value || !value))
        return s;
    setting_free(e, s);
    return NULL;
}

/* In place of an earlier setting of the name. */
static void put_setting(struct electric *e, struct list *l, struct setting *fresh)
{
    for (struct list *at = l->next; at != l;) {
        struct setting *s = LIST_ENTRY(at, struct setting, link);

        at = at->next;
        if (strcmp(s->name, fresh->name) == 0)
            setting_free(e, s);
    }
    list_push(l, &fresh->link);
}

static int set(coulomb_collection *coll, const char *name, const char *value, bool header)
{
    struct electric *e;
    struct setting *s;
    int code = electric_enter(coll, &e);

    if (code == COULOMB_OK && (!name || !name[0]))
        code = client_fail(coll->client, COULOMB_E_ARGUMENT, "a name is needed");
    if (code != COULOMB_OK)
        return code;
    s = setting_new(e, name, value);
    if (!s)
        return client_no_memory(e->client);
    if (e->stream)
        code = header ? shape_stream_set_header(e->stream, name, value)
                      : shape_stream_set_param(e->stream, name, value);
    if (code == COULOMB_OK)
        put_setting(e, header ? &e->headers : &e->params, s);
    else
        setting_free(e, s);
    return code;
}

int coulomb_electric_set_param(coulomb_collection *coll, const char *name,
                               const char *value)
{
    return set(coll, name, value, false);
}

int coulomb_electric_set_header(coulomb_collection *coll, const char *name,
                                const char *value)
{
    return set(coll, name, value, true);
}

static coulomb_str str_of(const struct blob *b)
{
    return (coulomb_str){b->ptr ? b->ptr : "", b->len};
}

int coulomb_electric_state_get(const coulomb_collection *coll,
                               coulomb_electric_state *state)
{
    coulomb_electric_state now = {.size = state->size};
    struct electric *e;
    struct stream_state st;
    int code = electric_enter(coll, &e);

    if (code != COULOMB_OK)
        return code;
    now.handle = now.offset = now.schema = now.table = (coulomb_str){"", 0};
    now.error = &e->no_error;
    if (e->stream) {
        shape_stream_state(e->stream, &st);
        now.started = 1;
        now.connected = st.connected;
        now.up_to_date = st.up_to_date;
        now.paused = st.phase == STREAM_PAUSED;
        now.failed = st.phase == STREAM_FAILED;
        now.live_sse = st.live_sse;
        now.handle = st.handle.ptr ? st.handle : now.handle;
        now.offset = st.offset.ptr ? st.offset : now.offset;
        now.last_synced_us = st.last_synced_us;
        now.has_lsn = e->lsn > 0;
        now.lsn = e->lsn;
        now.schema = str_of(&e->schema);
        now.table = str_of(&e->table);
        now.error =
            e->failure.code != COULOMB_OK ? &e->failure : shape_stream_error(e->stream);
    }
    memcpy(state, &now, state->size < sizeof(now) ? state->size : sizeof(now));
    return COULOMB_OK;
}

int coulomb_electric_pause(coulomb_collection *coll)
{
    struct electric *e;
    int code = electric_enter(coll, &e);

    if (code == COULOMB_OK && e->stream)
        shape_stream_pause(e->stream);
    return code;
}

int coulomb_electric_resume(coulomb_collection *coll)
{
    struct electric *e;
    int code = electric_enter(coll, &e);

    if (code == COULOMB_OK && e->stream)
        shape_stream_resume(e->stream);
    return code;
}
