/* Questions to the catalog and the sequencer. The answer comes on another thread, becomes a
 * task of the loop, and finds its request alive: a request whose client has left in the
 * meantime stays until then (shape_request.asking). */
#include "server/http/stage.h"

#include <stdlib.h>

enum answer_kind { ANSWER_TABLE, ANSWER_SHAPE, ANSWER_REMOVED };

struct answer {
    struct evloop_task task;
    struct shape_request *request;
    enum answer_kind kind;
    struct table *table;
    struct shape *shape;
    bool failed;
    struct err err;
};

static void answer_free(struct answer *a)
{
    if (a->table)
        table_release(a->table);
    if (a->shape)
        shape_release(a->shape);
    free(a);
}

static void run_answer(struct evloop_task *task)
{
    struct answer *a = LIST_ENTRY(task, struct answer, task);
    struct shape_request *r = a->request;
    const struct err *err = a->failed ? &a->err : NULL;

    r->asking = false;
    if (!r->req)
        shape_request_reap(r);
    else if (a->kind == ANSWER_TABLE)
        shape_request_table(r, a->table, err);
    else if (a->kind == ANSWER_SHAPE)
        shape_request_shape(r, a->shape, err);
    else
        shape_request_removed(r, err);
    answer_free(a);
}

/* On the other thread. */
static void send(struct answer *a, const struct err *err)
{
    if (err) {
        a->failed = true;
        a->err = *err;
    }
    if (evloop_post(a->request->loop->ev, &a->task) != 0) {
        /* The loop has ended, and with it every request's connection. */
        a->request->asking = false;
        shape_request_reap(a->request);
        answer_free(a);
    }
}

static void on_table(void *ctx, struct table *table, const struct err *err)
{
    struct answer *a = ctx;

    a->table = table ? table_retain(table) : NULL;
    send(a, err);
}

static void on_shape(void *ctx, struct shape *shape, const struct err *err)
{
    struct answer *a = ctx;

    a->shape = shape ? shape_retain(shape) : NULL;
    send(a, err);
}

static struct answer *answer_new(struct shape_request *r, enum answer_kind kind)
{
    struct answer *a = calloc(1, sizeof *a);

    if (!a)
        return NULL;
    a->task.run = run_answer;
    a->request = r;
    a->kind = kind;
    shape_request_enter(r, REQUEST_ASKING);
    r->asking = true;
    return a;
}

int answer_ask_table(struct shape_request *r)
{
    struct answer *a = answer_new(r, ANSWER_TABLE);

    if (!a)
        return ERR_MEMORY;
    catalog_find(r->loop->http->config.catalog, r->params->table.schema,
                 r->params->table.name, on_table, a);
    return 0;
}

int answer_ask_shape(struct shape_request *r)
{
    struct answer *a = answer_new(r, ANSWER_SHAPE);

    if (!a)
        return ERR_MEMORY;
    shapes_get(r->loop->http->config.shapes, r->def, r->where, on_shape, a);
    return 0;
}

int answer_ask_removal(struct shape_request *r)
{
    struct answer *a = answer_new(r, ANSWER_REMOVED);

    if (!a)
        return ERR_MEMORY;
    shapes_remove(r->loop->http->config.shapes, r->shape, OBS_SHAPE_DELETED, on_shape, a);
    return 0;
}
