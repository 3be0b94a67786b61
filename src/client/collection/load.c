/*
 * What subscriptions ask for: their first rows, more rows, pages. Each is a sub_load, which gives the
 * rows that are there and, of an on-demand collection, has the adapter load them.
 *
 * Rows are given in a task of their own, after the subscription has caught up with the batches that
 * wait, so that what it hears of a row is in the order in which it happened. Then the adapter is
 * asked; what it loads comes as changes.
 *
 * After a truncate a subscription holds all changes back, asks for everything again, and hears of all
 * at once when that is there: so nobody sees an empty screen between. "There" is: answered, and what
 * was committed by then applied.
 */

#include "client/collection/collection.h"

#include <string.h>

static void loading_event(struct coulomb_collection *coll, size_t count)
{
    coulomb_event event = {.type = COULOMB_EVENT_LOADING_SUBSET, .count = count};

    event_emit(coll, &event);
}

static bool is_open(enum load_state state)
{
    return state == LOAD_DUE || state == LOAD_AWAITED;
}

/* The one place where a load changes its state. */
static void load_enter(struct sub_load *load, enum load_state to)
{
    struct coulomb_sub *sub = load->sub;
    struct coulomb_collection *coll = sub->coll;
    size_t opens = is_open(to);
    size_t closes = is_open(load->state);
    size_t awaits = to == LOAD_AWAITED;
    size_t awaited = load->state == LOAD_AWAITED;

    load->state = to;
    sub->open_loads = sub->open_loads + opens - closes;
    coll->loads = coll->loads + opens - closes;
    sub->awaited = sub->awaited + awaits - awaited;
    coll->loads_awaited = coll->loads_awaited + awaits - awaited;
    if (awaits != awaited && coll->loads_awaited == awaits)
        loading_event(coll, awaits);
    task_queue(&sub->flush_task);
}

static struct sub_load *find_load(struct coulomb_sub *sub, coulomb_token token)
{
    for (struct list *l = sub->loads.next; l != &sub->loads; l = l->next) {
        struct sub_load *load = LIST_ENTRY(l, struct sub_load, reg.link);

        if (load->reg.token == token)
            return load;
    }
    return NULL;
}

/* --- The adapter ------------------------------------------------------------------------------ */

static void load_done(void *what, int code, const char *message)
{
    struct sub_load *load = what;
    struct coulomb_sub *sub = load->sub;
    coulomb_client *c = sub->coll->client;

    if (code != COULOMB_OK) {
        error_set(&sub->error, code < 0 ? code : COULOMB_E_FAILED, "%s",
                  message && message[0] != '\0' ? message : coulomb_error_text(code));
        client_log(c, COULOMB_LOG_WARNING,
                   "event=subset.failed collection=\"%s\" code=%d reason=\"%s\"",
                   sub->coll->id, sub->error.code, sub->error.message);
    }
    load_enter(load, LOAD_DONE);
}

static int load_run(struct task *t)
{
    struct sub_load *load = LIST_ENTRY(t, struct sub_load, load_task);
    struct coulomb_sub *sub = load->sub;
    struct coulomb_collection *coll = sub->coll;
    coulomb_token token = load->reg.token;
    struct coulomb_completion *done;
    int code;

    /* In error nothing can be loaded; it is tried again when the collection recovers. */
    if (!coll->session || coll->status == COULOMB_ERROR) {
        load_enter(load, LOAD_NONE);
        return COULOMB_OK;
    }
    done = completion_new(coll->client, load, load_done, &load->answer);
    if (!done)
        return COULOMB_E_MEMORY;
    load->held_by_adapter = true;
    collection_hold(coll);
    sub->busy++;
    code = coll->adapter.load_subset(coll->session, &load->subset, done,
                                     coll->options.adapter_arg);
    if (code != COULOMB_PENDING)
        coulomb_complete(done, code, NULL);
    sub->busy--;
    load = find_load(sub, token); /* unless the adapter ended it */
    if (load && load->state == LOAD_DUE)
        load_enter(load, LOAD_AWAITED);
    if (sub->dead && sub->busy == 0)
        sub_free(sub);
    collection_drop(coll);
    return COULOMB_OK;
}

static void load_ask(struct sub_load *load)
{
    const struct coulomb_collection *coll = load->sub->coll;

    if (!coll->has_adapter || !coll->options.on_demand)
        return;
    /* An answer to an earlier question is none to this one. */
    completion_forget(&load->answer);
    load_enter(load, LOAD_DUE);
    task_queue(&load->load_task);
}

/* --- Rows that are there ------------------------------------------------------------------------ */

/* Whether it wants the row and has it not: 1, 0, COULOMB_E_MEMORY. */
static int wants_more(struct coulomb_sub *sub, const struct coulomb_row *row)
{
    coulomb_key key = row_key(row);
    uint32_t hash = coll_hash(sub->coll, key);

    if (ktab_get(&sub->sent, key, hash))
        return 0;
    return sub_matches(sub, row, visible_get(sub->coll, key, hash).meta);
}

static int request_rows(struct sub_load *load, struct coulomb_row ***rows, size_t *count,
                        size_t *cap)
{
    struct coulomb_sub *sub = load->sub;
    coulomb_snapshot_options o = {.where = load->where ? load->where : sub->where,
                                  .order = load->order,
                                  .order_count = load->order_count,
                                  .limit = load->limit};
    size_t n = 0;
    bool out_of_memory = false;
    bool indexed;
    int code;

    if (!o.where) {
        o.where_fn = sub->where_fn;
        o.where_arg = sub->where_arg;
    }
    code = snapshot_rows(sub->coll, &o, rows, count, cap, &indexed);
    for (size_t i = 0; code == COULOMB_OK && i < *count; i++) {
        struct coulomb_row *row = (*rows)[i];
        int yes = sub->wants_rows ? 1 : wants_more(sub, row);

        /* Without memory all stay, to be released; the caller begins again. */
        if (yes != 0)
            (*rows)[n++] = row;
        else
            row_release(row);
        out_of_memory = out_of_memory || yes < 0;
    }
    *count = n;
    return out_of_memory ? client_no_memory(sub->coll->client) : code;
}

/* The adapter's offset and last key are those of before the page. */
static int give_page(struct sub_load *load, struct coulomb_row *const *rows, size_t count)
{
    struct coulomb_sub *sub = load->sub;
    struct heap *h = sub->coll->heap;
    struct blob bytes = {NULL, 0};
    struct blob old_bytes = sub->last_key_bytes;
    coulomb_key old = sub->last_key;
    coulomb_key last = old;
    int code = key_copy(h, old, &load->last_key, &load->cursor.last_key);

    if (code == COULOMB_OK && count > 0)
        code = key_copy(h, row_key(rows[count - 1]), &bytes, &last);
    if (code != COULOMB_OK)
        return code;
    if (!load->has_offset)
        load->subset.offset = sub->sent.live;
    if (count > 0) {
        sub->last_key = last;
        sub->last_key_bytes = bytes;
    }
    code = sub_give_rows(sub, rows, count, true);
    if (code < 0 && count > 0) {
        sub->last_key = old;
        sub->last_key_bytes = old_bytes;
        blob_fini(h, &bytes);
    } else if (count > 0) {
        blob_fini(h, &old_bytes);
    }
    return code;
}

static int give_request(struct sub_load *load, struct coulomb_row *const *rows,
                        size_t count)
{
    struct coulomb_sub *sub = load->sub;
    bool always = !sub->wants_rows || sub->coll->status == COULOMB_READY;

    return sub_give_rows(sub, rows, count, always);
}

static int rows_run(struct task *t)
{
    struct sub_load *load = LIST_ENTRY(t, struct sub_load, rows_task);
    struct coulomb_sub *sub = load->sub;
    struct coulomb_collection *coll = sub->coll;
    struct heap *h = coll->heap;
    coulomb_token token = load->reg.token;
    struct coulomb_row **rows = NULL;
    size_t count = 0;
    size_t cap = 0;
    int code = sub->wants_rows ? COULOMB_OK : sub_catch_up(sub);

    if (code != COULOMB_OK)
        return code < 0 ? code : COULOMB_OK;
    load = find_load(sub, token);
    if (!load)
        return COULOMB_OK;
    collection_hold(coll);
    code = load->page ? page_rows(load, &rows, &count, &cap)
                      : request_rows(load, &rows, &count, &cap);
    if (code == COULOMB_E_NO_INDEX) {
        sub->error = coll->client->error; /* it was removed since the call */
        code = COULOMB_OK;
    }
    if (code == COULOMB_OK)
        code =
            load->page ? give_page(load, rows, count) : give_request(load, rows, count);
    for (size_t i = 0; i < count; i++)
        row_release(rows[i]);
    heap_free(h, rows, cap * sizeof(struct coulomb_row *));
    collection_drop(coll);
    return code < 0 ? code : COULOMB_OK;
}

/* --- Making and ending ---------------------------------------------------------------------------- */

static void load_free(struct sub_load *load)
{
    struct coulomb_collection *coll = load->sub->coll;
    struct heap *h = coll->heap;

    task_cancel(&load->rows_task);
    task_cancel(&load->load_task);
    completion_forget(&load->answer);
    coulomb_expr_free(load->where);
    coulomb_expr_free(load->asked);
    coulomb_expr_free(load->where_from);
    coulomb_expr_free(load->where_current);
    blob_fini(h, &load->last_key);
    pool_fini(&load->pool);
    heap_free(h, load, sizeof(*load));
}

static void load_end(struct sub_load *load)
{
    struct coulomb_collection *coll = load->sub->coll;

    registration_remove(coll->client, &load->reg);
    load_enter(load, LOAD_NONE);
    if (load->held_by_adapter && coll->session && coll->adapter.unload_subset)
        coll->adapter.unload_subset(coll->session, &load->subset,
                                    coll->options.adapter_arg);
    load_free(load);
}

static void load_drop(struct registration *r)
{
    load_end(LIST_ENTRY(r, struct sub_load, reg));
}

void loads_forget(struct coulomb_sub *sub)
{
    for (struct list *l = sub->loads.next; l != &sub->loads; l = l->next) {
        struct sub_load *load = LIST_ENTRY(l, struct sub_load, reg.link);

        load_enter(load, LOAD_NONE);
        task_cancel(&load->rows_task);
        task_cancel(&load->load_task);
        completion_forget(&load->answer);
    }
    task_cancel(&sub->flush_task);
}

void loads_end(struct coulomb_sub *sub)
{
    while (!list_empty(&sub->loads))
        load_end(LIST_ENTRY(sub->loads.next, struct sub_load, reg.link));
    task_cancel(&sub->flush_task);
}

static int copy_order(struct sub_load *load, const coulomb_order *order, size_t count)
{
    int columns[ORDER_COLUMNS_MAX];
    struct coulomb_collection *coll = load->sub->coll;
    int code = order_columns(coll, order, count, columns);

    if (code != COULOMB_OK || count == 0)
        return code;
    load->order = pool_alloc(&load->pool, count * sizeof(*load->order));
    if (!load->order)
        return client_no_memory(coll->client);
    load->order_count = count;
    for (size_t i = 0; i < count; i++) {
        load->order[i] = order[i];
        load->order[i].column = coll->layout->columns[columns[i]].name;
    }
    return COULOMB_OK;
}

/* The subscription's condition and the request's. */
static int join_where(struct sub_load *load, const coulomb_expr *where)
{
    struct coulomb_sub *sub = load->sub;

    if (!where)
        return COULOMB_OK;
    load->where = expr_copy(where);
    if (load->where && sub->where)
        load->where = coulomb_and(expr_copy(sub->where), load->where);
    return load->where ? COULOMB_OK : sub->coll->client->error.code;
}

static int load_new(struct coulomb_sub *sub, const coulomb_request_options *o,
                    struct sub_load **out)
{
    coulomb_client *c = sub->coll->client;
    struct sub_load *load = heap_zalloc(c->heap, sizeof(*load));
    const struct coulomb_expr *where;
    int code;

    if (!load)
        return client_no_memory(c);
    load->sub = sub;
    load->limit = o->limit;
    load->reg.drop = load_drop;
    pool_init(&load->pool, c->heap);
    task_init(&load->rows_task, c, rows_run);
    task_init(&load->load_task, c, load_run);
    code = copy_order(load, o->order, o->order_count);
    if (code == COULOMB_OK)
        code = join_where(load, o->where);
    where = load->where ? load->where : sub->where;
    if (code == COULOMB_OK && where)
        code = expr_server_part(where, &load->asked);
    if (code != COULOMB_OK) {
        load_free(load);
        return code;
    }
    load->subset = (coulomb_subset){.where = load->asked,
                                    .order = load->order,
                                    .order_count = load->order_count,
                                    .limit = load->limit};
    *out = load;
    return COULOMB_OK;
}

static void load_begin(struct sub_load *load, coulomb_token *token)
{
    struct coulomb_sub *sub = load->sub;

    registration_add(sub->coll->client, &load->reg, &sub->loads, token);
    task_queue(&load->rows_task);
    load_ask(load);
}

int load_initial(struct coulomb_sub *sub, const coulomb_sub_options *o)
{
    coulomb_request_options r = {
        .order = o->order, .order_count = o->order_count, .limit = o->limit};
    struct sub_load *load;
    int code = load_new(sub, &r, &load);

    if (code == COULOMB_OK)
        registration_add(sub->coll->client, &load->reg, &sub->loads, NULL);
    return code;
}

void loads_begin(struct coulomb_sub *sub)
{
    for (struct list *l = sub->loads.next; l != &sub->loads; l = l->next) {
        struct sub_load *load = LIST_ENTRY(l, struct sub_load, reg.link);

        task_queue(&load->rows_task);
        load_ask(load);
    }
}

/* --- Truncates and sessions ----------------------------------------------------------------------- */

int flush_run(struct task *t)
{
    struct coulomb_sub *sub = LIST_ENTRY(t, struct coulomb_sub, flush_task);
    struct coulomb_collection *coll = sub->coll;
    bool loading = sub->awaited > 0;
    int code = COULOMB_OK;

    if (sub->buffering && sub->open_loads == 0 && !(coll->session && sync_waits(coll))) {
        code = sub_catch_up(sub);
        if (code == COULOMB_OK)
            code = sub_give_held(sub);
    }
    if (code == COULOMB_OK && loading != sub->told_loading) {
        sub->told_loading = loading;
        if (sub->on_loading) {
            sub->busy++;
            sub->on_loading(sub, loading, sub->arg);
            sub->busy--;
            if (sub->dead && sub->busy == 0)
                sub_free(sub);
        }
    }
    return code < 0 ? code : COULOMB_OK;
}

void subs_truncated(struct coulomb_collection *coll)
{
    for (struct list *l = coll->subs.next; l != &coll->subs; l = l->next) {
        struct coulomb_sub *sub = LIST_ENTRY(l, struct coulomb_sub, link);

        sub->last_key.type = COULOMB_KEY_NONE;
        for (struct list *k = sub->loads.next; k != &sub->loads; k = k->next) {
            struct sub_load *load = LIST_ENTRY(k, struct sub_load, reg.link);

            if (load->held_by_adapter) {
                sub->buffering = true;
                load_ask(load);
            }
        }
    }
}

void subs_started(struct coulomb_collection *coll)
{
    for (struct list *l = coll->subs.next; l != &coll->subs; l = l->next) {
        struct coulomb_sub *sub = LIST_ENTRY(l, struct coulomb_sub, link);

        for (struct list *k = sub->loads.next; k != &sub->loads; k = k->next) {
            struct sub_load *load = LIST_ENTRY(k, struct sub_load, reg.link);

            if (load->state == LOAD_NONE)
                load_ask(load);
        }
    }
}

void subs_stopped(struct coulomb_collection *coll)
{
    for (struct list *l = coll->subs.next; l != &coll->subs; l = l->next) {
        struct coulomb_sub *sub = LIST_ENTRY(l, struct coulomb_sub, link);

        sub->last_key.type = COULOMB_KEY_NONE;
        for (struct list *k = sub->loads.next; k != &sub->loads; k = k->next) {
            struct sub_load *load = LIST_ENTRY(k, struct sub_load, reg.link);

            completion_forget(&load->answer);
            task_cancel(&load->load_task);
            load->held_by_adapter = false;
            load_enter(load, LOAD_NONE);
        }
    }
}

void subs_synced(struct coulomb_collection *coll)
{
    for (struct list *l = coll->subs.next; l != &coll->subs; l = l->next) {
        struct coulomb_sub *sub = LIST_ENTRY(l, struct coulomb_sub, link);

        if (sub->buffering)
            task_queue(&sub->flush_task);
    }
}

/* --- The API --------------------------------------------------------------------------------------- */

static int check_request(coulomb_sub *sub, const coulomb_request_options *o)
{
    struct coulomb_collection *coll = sub->coll;
    coulomb_client *c = coll->client;

    if (sub->dead || list_empty(&sub->link))
        return client_fail(c, COULOMB_E_ARGUMENT, "the subscription has ended");
    if (!sub->tracks)
        return client_fail(c, COULOMB_E_COLLECTION_OPERATION,
                           "a subscription that gets every row asks for no more; make it "
                           "with COULOMB_INITIAL_NONE");
    if (o->where && o->where->layout != coll->layout)
        return client_fail(c, COULOMB_E_ARGUMENT,
                           "the condition is of another collection");
    if (o->limit > 0 && o->order_count == 0)
        return client_fail(c, COULOMB_E_LIMIT_NEEDS_ORDER, "a limit needs an order");
    return collection_wake(coll);
}

int coulomb_sub_request(coulomb_sub *sub, const coulomb_request_options *options,
                        coulomb_token *token)
{
    coulomb_client *c = sub->coll->client;
    coulomb_request_options o;
    struct sub_load *load;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = options_read(c, &o, sizeof(o), options, "coulomb_sub_request");
    if (code == COULOMB_OK)
        code = check_request(sub, &o);
    if (code == COULOMB_OK)
        code = index_auto(sub->coll, o.where);
    if (code == COULOMB_OK)
        code = load_new(sub, &o, &load);
    if (code == COULOMB_OK)
        load_begin(load, token);
    return code;
}

int coulomb_sub_page(coulomb_sub *sub, const coulomb_page_options *options,
                     coulomb_token *token)
{
    coulomb_client *c = sub->coll->client;
    coulomb_page_options o;
    coulomb_request_options r;
    struct sub_load *load;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = options_read(c, &o, sizeof(o), options, "coulomb_sub_page");
    if (code != COULOMB_OK)
        return code;
    r = (coulomb_request_options){
        .order = o.order, .order_count = o.order_count, .limit = o.limit};
    code = check_request(sub, &r);
    if (code == COULOMB_OK && (o.limit == 0 || o.order_count == 0))
        code = client_fail(c, COULOMB_E_ARGUMENT, "a page needs an order and a limit");
    if (code != COULOMB_OK)
        return code;
    code = load_new(sub, &r, &load);
    if (code != COULOMB_OK)
        return code;
    code = page_prepare(load, &o);
    if (code == COULOMB_OK)
        load_begin(load, token);
    else
        load_free(load);
    return code;
}

int coulomb_sub_loading(const coulomb_sub *sub)
{
    return sub->open_loads > 0;
}

const coulomb_error *coulomb_sub_error(const coulomb_sub *sub)
{
    return &sub->error;
}

int coulomb_loading_subset(const coulomb_collection *coll)
{
    return coll->loads > 0;
}
