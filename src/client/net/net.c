/*
 * The I/O thread. It runs libcurl's multi interface and nothing else may touch that, but for
 * curl_multi_wakeup. Others put requests, with what they want of them, into an inbox under a mutex
 * that is never held across a callback.
 *
 * Timeouts of head and body are watched here and not by curl, which knows seconds only; the number
 * of requests is small, so looking at each in every turn is nothing.
 */

#include "client/net/internal.h"

#include <signal.h>
#include <time.h>

#include "base/clock.h"

#define WAIT_MAX_MS   60000
#define WATCH_MS      5000 /* how often sleep is looked for while something runs */
#define SLEPT_MIN_US  4000000
#define DETAIL_SILENT "no answer came in time"

const char *net_end_name(enum net_end end)
{
    static const char *const names[] = {"done",      "unreachable", "broken",
                                        "timeout",   "too_large",   "refused",
                                        "cancelled", "slept",       "no_memory"};

    return names[end];
}

/* --- The thread --------------------------------------------------------------------------------- */

static void finish(struct net *n, struct net_request *r, enum net_end end)
{
    if (!list_empty(&r->running)) {
        curl_multi_remove_handle(n->multi, r->easy);
        list_remove(&r->running);
    }
    request_close(r);
    pthread_mutex_lock(&n->mutex);
    r->ended = true;
    list_remove(&r->inbox);
    pthread_mutex_unlock(&n->mutex);
    r->callbacks.end(end, end == NET_DONE ? "" : r->detail, r->arg);
    net_request_release(r);
}

static void finish_with(struct net *n, struct net_request *r, enum net_end end,
                        const char *detail)
{
    request_say(r, detail);
    finish(n, r, end);
}

static void begin(struct net *n, struct net_request *r)
{
    if (curl_multi_add_handle(n->multi, r->easy) != CURLM_OK) {
        finish_with(n, r, NET_NO_MEMORY, "");
        return;
    }
    list_push(&n->running, &r->running);
    r->deadline_ms =
        r->head_timeout_ms < 0 ? INT64_MAX : clock_mono_ms() + r->head_timeout_ms;
}

static void go_on(struct net *n, struct net_request *r)
{
    if (!r->paused)
        return;
    r->paused = false;
    if (r->idle_timeout_ms >= 0)
        r->deadline_ms = clock_mono_ms() + r->idle_timeout_ms;
    if (curl_easy_pause(r->easy, CURLPAUSE_CONT) != CURLE_OK)
        finish(n, r, request_outcome(r, CURLE_WRITE_ERROR));
}

/* What others want, one request at a time: a callback may well want more. */
static void read_inbox(struct net *n)
{
    for (;;) {
        struct net_request *r = NULL;
        bool start = false;
        bool cancel = false;

        pthread_mutex_lock(&n->mutex);
        if (!list_empty(&n->inbox)) {
            r = LIST_ENTRY(list_pop(&n->inbox), struct net_request, inbox);
            start = r->start;
            cancel = r->cancel;
            r->start = r->resume = false;
        }
        pthread_mutex_unlock(&n->mutex);
        if (!r)
            return;
        if (cancel)
            finish_with(n, r, NET_CANCELLED, "");
        else if (start)
            begin(n, r);
        else
            go_on(n, r);
    }
}

static void reap(struct net *n)
{
    int left;
    CURLMsg *m;

    while ((m = curl_multi_info_read(n->multi, &left))) {
        struct net_request *r = NULL;
        CURLcode code = m->data.result;

        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
        finish(n, r, request_outcome(r, code));
    }
}

/* Ends those that are too late; the time to the next deadline. */
static int64_t watch(struct net *n)
{
    int64_t now = clock_mono_ms();
    int64_t next = now + (list_empty(&n->running) ? WAIT_MAX_MS : WATCH_MS);

    for (struct list *l = n->running.next; l != &n->running;) {
        struct net_request *r = LIST_ENTRY(l, struct net_request, running);

        l = l->next;
        if (r->paused)
            continue;
        if (r->deadline_ms <= now)
            finish_with(n, r, NET_TIMEOUT, DETAIL_SILENT);
        else if (r->deadline_ms < next)
            next = r->deadline_ms;
    }
    return next - now;
}

static void finish_all(struct net *n, enum net_end end)
{
    while (!list_empty(&n->running))
        finish_with(n, LIST_ENTRY(n->running.next, struct net_request, running), end,
                    end == NET_SLEPT ? "the machine slept" : "");
}

/* How long the machine has slept since it was started. */
static int64_t asleep_us(void)
{
#ifdef CLOCK_BOOTTIME
    struct timespec boot;

    if (clock_gettime(CLOCK_BOOTTIME, &boot) == 0)
        return (int64_t)boot.tv_sec * 1000000 + boot.tv_nsec / 1000 - clock_mono_us();
#endif
    return 0;
}

/* Connections did not outlive a sleep, though they may look as if: none is used again. */
static void look_for_sleep(struct net *n)
{
    int64_t now = asleep_us();
    CURLM *fresh;
    bool woke;

    pthread_mutex_lock(&n->mutex);
    woke = n->woke || now - n->asleep_us > SLEPT_MIN_US;
    n->woke = false;
    pthread_mutex_unlock(&n->mutex);
    n->asleep_us = now;
    if (!woke)
        return;
    finish_all(n, NET_SLEPT);
    fresh = curl_multi_init();
    if (!fresh)
        return;
    /* Those who wake it hold the mutex. Who woke the old one meanwhile meant this one. */
    pthread_mutex_lock(&n->mutex);
    curl_multi_cleanup(n->multi);
    n->multi = fresh;
    curl_multi_wakeup(n->multi);
    pthread_mutex_unlock(&n->mutex);
}

static bool is_stopping(struct net *n)
{
    bool stopping;

    pthread_mutex_lock(&n->mutex);
    stopping = n->stopping;
    pthread_mutex_unlock(&n->mutex);
    return stopping;
}

static void *run(void *arg)
{
    struct net *n = arg;

    n->asleep_us = asleep_us();
    while (!is_stopping(n)) {
        int running;

        read_inbox(n);
        curl_multi_perform(n->multi, &running);
        reap(n);
        look_for_sleep(n);
        curl_multi_poll(n->multi, NULL, 0, (int)watch(n), NULL);
    }
    finish_all(n, NET_CANCELLED);
    for (;;) {
        struct net_request *r = NULL;

        pthread_mutex_lock(&n->mutex);
        if (!list_empty(&n->inbox))
            r = LIST_ENTRY(list_pop(&n->inbox), struct net_request, inbox);
        pthread_mutex_unlock(&n->mutex);
        if (!r)
            break;
        finish_with(n, r, NET_CANCELLED, "");
    }
    return NULL;
}

/* --- From other threads --------------------------------------------------------------------------- */

static void tell(struct net_request *r, bool *want)
{
    struct net *n = r->net;

    pthread_mutex_lock(&n->mutex);
    if (!r->ended) {
        *want = true;
        if (list_empty(&r->inbox))
            list_push(&n->inbox, &r->inbox);
        curl_multi_wakeup(n->multi);
    }
    pthread_mutex_unlock(&n->mutex);
}

int net_start(struct net *n, const struct net_options *options,
              const struct net_callbacks *callbacks, void *arg, struct net_request **out,
              const char **detail)
{
    int code = request_new(n, options, callbacks, arg, out, detail);

    if (code == COULOMB_OK)
        tell(*out, &(*out)->start);
    return code;
}

void net_resume(struct net_request *r)
{
    tell(r, &r->resume);
}

void net_cancel(struct net_request *r)
{
    tell(r, &r->cancel);
}

void net_woke(struct net *n)
{
    pthread_mutex_lock(&n->mutex);
    n->woke = true;
    curl_multi_wakeup(n->multi);
    pthread_mutex_unlock(&n->mutex);
}

/* --- Making and ending ---------------------------------------------------------------------------- */

static void close_net(coulomb_client *c)
{
    struct net *n = c->net;

    pthread_mutex_lock(&n->mutex);
    n->stopping = true;
    curl_multi_wakeup(n->multi);
    pthread_mutex_unlock(&n->mutex);
    pthread_join(n->thread, NULL);
    curl_multi_cleanup(n->multi);
    pthread_mutex_destroy(&n->mutex);
    heap_free(c->heap, n, sizeof(*n));
    c->net = NULL;
}

/* A host's signals are for its own threads. */
static bool spawn(struct net *n)
{
    sigset_t all;
    sigset_t before;
    bool made;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    made = pthread_create(&n->thread, NULL, run, n) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return made;
}

int client_net(coulomb_client *c, struct net **out)
{
    struct net *n = c->net;

    *out = n;
    if (n)
        return COULOMB_OK;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return client_no_memory(c);
    n = heap_alloc(c->heap, sizeof(*n));
    if (!n)
        return client_no_memory(c);
    *n = (struct net){.client = c, .multi = curl_multi_init()};
    list_init(&n->inbox);
    list_init(&n->running);
    if (!n->multi || pthread_mutex_init(&n->mutex, NULL) != 0)
        goto no_memory;
    if (!spawn(n)) {
        pthread_mutex_destroy(&n->mutex);
        curl_multi_cleanup(n->multi);
        heap_free(c->heap, n, sizeof(*n));
        return client_fail(c, COULOMB_E_IO, "no thread could be made for the network");
    }
    c->net = n;
    c->net_close = close_net;
    *out = n;
    return COULOMB_OK;
no_memory:
    if (n->multi)
        curl_multi_cleanup(n->multi);
    heap_free(c->heap, n, sizeof(*n));
    return client_no_memory(c);
}
