/* Who waits for which shape on a loop, and how a notification reaches them.
 *
 * shapes calls waits_notify on the sequencer's thread, once per armed (shape, loop); that
 * becomes a task of the loop, which resumes the shape's requests. A request that goes on
 * waiting arms the watch anew before it looks at the shape.
 *
 * Where many wait they are resumed in turns, between which the loop serves whoever else has
 * something to say. A request that is due is in the notice's list; it may leave that for other
 * reasons (its client, its deadline, another notice), and joins its shape's list again when it
 * then goes on waiting. */
#include "server/http/stage.h"

#include <stdlib.h>

#include "base/assert.h"

#define RESUMED_IN_A_TURN 128

struct notice {
    struct evloop_task task;
    struct http_loop *loop;
    struct shape *shape; /* retained; NULL: the service */
    struct list due;     /* of what waited for it: not resumed yet */
    bool taken;          /* who is due has been determined */
};

bool waits_join(struct http_loop *loop, struct shape_request *r)
{
    uint64_t key = (uint64_t)(uintptr_t)r->shape;

    if (r->wait)
        return true;
    struct shape_wait *wait = map_get_u64(&loop->waits, key);
    if (!wait) {
        wait = malloc(sizeof *wait);
        if (!wait)
            return false;
        list_init(&wait->requests);
        if (map_put_u64(&loop->waits, key, wait, NULL) != 0) {
            free(wait);
            return false;
        }
        wait->shape = shape_retain(r->shape);
    }
    r->wait = wait;
    list_remove(&r->wait_link);
    list_push(&wait->requests, &r->wait_link);
    return true;
}

static void wait_free_if_empty(struct http_loop *loop, struct shape_wait *wait)
{
    if (!list_empty(&wait->requests))
        return;
    map_del_u64(&loop->waits, (uint64_t)(uintptr_t)wait->shape);
    shape_release(wait->shape);
    free(wait);
}

void waits_leave(struct shape_request *r)
{
    struct shape_wait *wait = r->wait;

    list_remove(&r->wait_link);
    r->wait = NULL;
    if (wait)
        wait_free_if_empty(r->loop, wait);
}

/* Each request is in `due` until it is resumed, without a wait of its own. */
static void resume(struct list *due, size_t most)
{
    for (size_t i = 0; i < most && !list_empty(due); i++)
        shape_request_resume(LIST_ENTRY(list_pop(due), struct shape_request, wait_link));
}

static void resume_service(struct list *due, size_t most)
{
    for (size_t i = 0; i < most && !list_empty(due); i++)
        shape_request_resume(
            LIST_ENTRY(list_pop(due), struct shape_request, service_link));
}

static void take_waiters(struct http_loop *loop, struct shape_wait *wait,
                         struct list *due)
{
    while (!list_empty(&wait->requests)) {
        struct shape_request *r =
            LIST_ENTRY(wait->requests.next, struct shape_request, wait_link);

        list_remove(&r->wait_link);
        r->wait = NULL;
        list_push(due, &r->wait_link);
    }
    wait_free_if_empty(loop, wait);
}

static void take_service(struct http_loop *loop, struct list *due)
{
    while (!list_empty(&loop->service_waits))
        list_push(due, list_pop(&loop->service_waits));
}

void waits_run_all(struct http_loop *loop)
{
    struct list due;
    struct slice key;
    void *value;

    list_init(&due);
    for (size_t it = 0; map_next(&loop->waits, &it, &key, &value); it = 0)
        take_waiters(loop, value, &due);
    resume(&due, SIZE_MAX);
    take_service(loop, &due);
    resume_service(&due, SIZE_MAX);
}

static void take_due(struct notice *n)
{
    struct shape_wait *wait;

    list_init(&n->due);
    n->taken = true;
    if (!n->shape) {
        take_service(n->loop, &n->due);
        return;
    }
    wait = map_get_u64(&n->loop->waits, (uint64_t)(uintptr_t)n->shape);
    if (wait)
        take_waiters(n->loop, wait, &n->due);
}

static void run_notice(struct evloop_task *task)
{
    struct notice *n = LIST_ENTRY(task, struct notice, task);

    if (!n->taken)
        take_due(n);
    if (n->shape)
        resume(&n->due, RESUMED_IN_A_TURN);
    else
        resume_service(&n->due, RESUMED_IN_A_TURN);
    if (!list_empty(&n->due) && evloop_post(n->loop->ev, &n->task) == 0)
        return;
    /* Once the loop is closed there are no requests any more. */
    ASSERT(list_empty(&n->due));
    if (n->shape)
        shape_release(n->shape);
    free(n);
}

void waits_notify(void *ctx, struct shape *shape)
{
    struct http_loop *loop = ctx;
    struct notice *n = malloc(sizeof *n);

    if (!n) {
        if (!atomic_exchange(&loop->wake_all_posted, true) &&
            evloop_post(loop->ev, &loop->wake_all) != 0)
            atomic_store(&loop->wake_all_posted, false);
        return;
    }
    *n = (struct notice){.task.run = run_notice, .loop = loop};
    n->shape = shape ? shape_retain(shape) : NULL;
    if (evloop_post(loop->ev, &n->task) != 0) {
        if (n->shape)
            shape_release(n->shape);
        free(n);
    }
}
