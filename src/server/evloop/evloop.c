/* See evloop.h. The loop itself: its life, tasks, deadlines. */
#include "server/evloop/evloop.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "server/evloop/parts.h"

#define LOOK_MS 250

/* --- The loop --- */

static void run_tasks(struct evloop *loop)
{
    struct mail *mail = mailbox_take(&loop->mailbox);

    while (mail) {
        struct evloop_task *task = LIST_ENTRY(mail, struct evloop_task, mail);

        mail = mail->next;
        task->run(task);
    }
}

static void on_mail(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    run_tasks(arg);
}

static int is_of_loop(const struct event_base *base, const struct event *event, void *arg)
{
    struct evloop **loop = arg;

    (void)base;
    if (event_get_callback(event) != on_mail)
        return 0;
    *loop = event_get_callback_arg(event);
    return 1;
}

struct evloop *evloop_of(struct event_base *base)
{
    struct evloop *loop = NULL;

    event_base_foreach_event(base, is_of_loop, &loop);
    return loop;
}

/* Runs before anything is read from the connections: right behind the callback that accepted
 * them. */
static void on_adopt(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    conn_adopt_all(arg);
}

static int init_events(struct evloop *loop)
{
    struct event_config *ec;

    memory_init();
    ec = event_config_new();
    if (ec) {
        event_config_set_flag(ec, EVENT_BASE_FLAG_NOLOCK);
        /* evhttp stops reading when it has a request, and watch() goes on: to the kernel that
         * is one change, or none. The one descriptor that is a copy, for which the flag is not
         * safe, is the listener's: it is closed together with the other copies. */
        event_config_set_flag(ec, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
        loop->base = event_base_new_with_config(ec);
        event_config_free(ec);
    }
    if (!loop->base)
        return ERR_IO;
    loop->mail_event =
        event_new(loop->base, loop->mailbox.fd, EV_READ | EV_PERSIST, on_mail, loop);
    loop->adopt = event_new(loop->base, -1, 0, on_adopt, loop);
    if (reply_init(loop) != 0 || !loop->mail_event || !loop->adopt ||
        event_add(loop->mail_event, NULL) != 0 ||
        evtimer_queue_init(&loop->looks, loop, LOOK_MS, conn_look) != 0 ||
        evtimer_queue_init(&loop->receiving, loop, loop->config.read_timeout_ms,
                           conn_overdue) != 0)
        return ERR_IO;
    return 0;
}

int evloop_new(const struct evloop_config *config, struct evloop **out, struct err *err)
{
    struct evloop *loop = calloc(1, sizeof *loop);

    if (!loop)
        return err_set(err, ERR_MEMORY, "out of memory for an event loop");
    loop->config = *config;
    map_init(&loop->conns);
    list_init(&loop->accepted);
    list_init(&loop->requests);
    if (mailbox_init(&loop->mailbox, SIZE_MAX) != 0) {
        free(loop);
        return err_errno(err, ERR_IO, errno, "no event descriptor for an event loop");
    }
    if (init_events(loop) != 0) {
        evloop_free(loop);
        return err_set(err, ERR_IO, "an event loop could not be made");
    }
    *out = loop;
    return 0;
}

void evloop_free(struct evloop *loop)
{
    if (!loop)
        return;
    ASSERT(loop->listener_count == 0 && list_empty(&loop->requests));
    evtimer_queue_fini(&loop->looks);
    evtimer_queue_fini(&loop->receiving);
    reply_fini(loop);
    if (loop->adopt)
        event_free(loop->adopt);
    if (loop->mail_event)
        event_free(loop->mail_event);
    if (loop->base)
        event_base_free(loop->base);
    ASSERT(loop->conns.len == 0);
    map_fini(&loop->conns);
    mailbox_fini(&loop->mailbox);
    free(loop);
}

void evloop_run(struct evloop *loop)
{
    event_base_dispatch(loop->base);
}

void evloop_break(struct evloop *loop)
{
    event_base_loopbreak(loop->base);
}

size_t evloop_open_requests(const struct evloop *loop)
{
    return loop->request_count;
}

int evloop_post(struct evloop *loop, struct evloop_task *task)
{
    return mailbox_send(&loop->mailbox, &task->mail, true);
}

void evloop_close(struct evloop *loop)
{
    conn_adopt_all(loop);
    while (!list_empty(&loop->requests))
        evreq_abort(LIST_ENTRY(loop->requests.next, struct evreq, link));
    evloop_stop_listening(loop);
    for (unsigned i = 0; i < loop->listener_count; i++)
        evhttp_free(loop->listeners[i].http);
    loop->listener_count = 0;
    mailbox_close(&loop->mailbox);
    run_tasks(loop);
}

/* --- Deadlines --- */

static void timer_arm(struct evtimer_queue *q)
{
    if (list_empty(&q->entries))
        return;
    const struct evtimer_entry *first =
        LIST_ENTRY(q->entries.next, struct evtimer_entry, link);
    int64_t wait_ms = first->at_ms - clock_mono_ms();
    struct timeval tv = timeval_of(wait_ms > 0 ? wait_ms : 0);

    event_add(q->event, &tv);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct evtimer_queue *q = arg;
    int64_t now = clock_mono_ms();

    (void)fd;
    (void)what;
    while (!list_empty(&q->entries)) {
        struct evtimer_entry *entry =
            LIST_ENTRY(q->entries.next, struct evtimer_entry, link);

        if (entry->at_ms > now)
            break;
        list_remove(&entry->link);
        q->fn(entry);
    }
    timer_arm(q);
}

int evtimer_queue_init(struct evtimer_queue *q, struct evloop *loop, int64_t wait_ms,
                       evtimer_fn *fn)
{
    q->loop = loop;
    q->fn = fn;
    q->wait_ms = wait_ms;
    list_init(&q->entries);
    q->event = event_new(loop->base, -1, 0, on_timer, q);
    return q->event ? 0 : ERR_MEMORY;
}

void evtimer_queue_fini(struct evtimer_queue *q)
{
    if (q->event)
        event_free(q->event);
    q->event = NULL;
}

void evtimer_start(struct evtimer_queue *q, struct evtimer_entry *entry)
{
    bool first = list_empty(&q->entries);

    entry->at_ms = clock_mono_ms() + q->wait_ms;
    list_push(&q->entries, &entry->link);
    /* When the first entry goes the event stays set: it fires once for nothing and is set
     * anew, which is cheaper than moving it with every request. */
    if (first && !event_pending(q->event, EV_TIMEOUT, NULL))
        timer_arm(q);
}

void evtimer_stop(struct evtimer_entry *entry)
{
    list_remove(&entry->link);
}
