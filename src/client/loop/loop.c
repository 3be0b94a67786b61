/*
 * The loop. The app's thread calls the API, which changes state and leaves tasks; coulomb_poll()
 * runs them. What is queued while a poll runs waits for the next one, so that a poll ends. Tasks
 * and timers are embedded in the objects that they are about: queueing needs no memory, and an
 * object that goes away takes its task along.
 *
 * Timers are a list by deadline: there are few (one for each idle collection or paced function).
 * The descriptor is a pipe, made when it is first asked for; a host that only polls pays nothing.
 */

#define LOOP_DEFINES_FAILURES
#include "client/loop/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define SCRATCH_MAX_BYTES      (256u * 1024 * 1024)
#define QUEUED_CHANGES_DEFAULT 16000000u
#define TX_MUTATIONS_DEFAULT   10000000u
#define OPTIONS_SIZE_MAX       4096u

static int64_t system_clock(void *arg)
{
    (void)arg;
    return clock_mono_ms();
}

static int read_client_options(const coulomb_client_options *given,
                               coulomb_client_options *ours)
{
    memset(ours, 0, sizeof(*ours));
    if (!given)
        return COULOMB_OK;
    if (given->size < sizeof(size_t) || given->size > OPTIONS_SIZE_MAX)
        return COULOMB_E_ARGUMENT;
    memcpy(ours, given, given->size < sizeof(*ours) ? given->size : sizeof(*ours));
    if (ours->allocator.realloc_fn && !ours->allocator.free_fn)
        return COULOMB_E_ARGUMENT;
    return COULOMB_OK;
}

static void client_init(coulomb_client *c, struct heap *h,
                        const coulomb_client_options *o)
{
    *c = (coulomb_client){.heap = h, .refs = 1, .owner = pthread_self()};
    c->clock = o->clock ? o->clock : system_clock;
    c->clock_arg = o->clock_arg;
    c->log = o->log;
    c->log_arg = o->log_arg;
    c->queued_changes_max =
        o->queued_changes_max > 0 ? o->queued_changes_max : QUEUED_CHANGES_DEFAULT;
    c->tx_mutations_max =
        o->tx_mutations_max > 0 ? o->tx_mutations_max : TX_MUTATIONS_DEFAULT;
    c->compat = (o->flags & COULOMB_COMPAT_TANSTACK) != 0;
    c->seed = (uint64_t)(uintptr_t)c ^ (uint64_t)clock_mono_us() << 20;
    list_init(&c->tasks);
    list_init(&c->timers);
    list_init(&c->registrations);
    list_init(&c->collections);
    list_init(&c->transactions);
    list_init(&c->paced);
    list_init(&c->batches);
    list_init(&c->servers);
    arena_init_from(&c->scratch, SCRATCH_MAX_BYTES, &h->mem);
    c->posts_end = &c->posts;
    c->fds[0] = c->fds[1] = -1;
}

int client_new(const coulomb_client_options *options, coulomb_client **out)
{
    coulomb_client_options o;
    struct heap *h;
    coulomb_client *c = NULL;
    int code = read_client_options(options, &o);

    if (code != COULOMB_OK || !out)
        return COULOMB_E_ARGUMENT;
    h = heap_new(&o.allocator);
    if (!h)
        return COULOMB_E_MEMORY;
    c = heap_alloc(h, sizeof(*c));
    if (!c)
        goto fail;
    client_init(c, h, &o);
    c->issues.client = c;
    c->issues.items = heap_alloc(h, ISSUES_MAX * sizeof(struct issue));
    if (!c->issues.items)
        goto fail;
    if (pthread_mutex_init(&c->mutex, NULL) != 0)
        goto fail;
    *out = c;
    return COULOMB_OK;
fail:
    if (c)
        heap_free(h, c->issues.items, ISSUES_MAX * sizeof(struct issue));
    heap_free(h, c, sizeof(*c));
    heap_release(h);
    return COULOMB_E_MEMORY;
}

void client_retain(coulomb_client *c)
{
    c->refs++;
}

void client_release(coulomb_client *c)
{
    struct heap *h = c->heap;

    if (--c->refs > 0)
        return;
    while (c->posts) {
        struct post *p = c->posts;

        c->posts = p->next;
        if (p->embedded)
            p->fn(NULL, p->arg);
        else
            heap_shared_free(h, p);
    }
    if (c->shapes)
        c->shapes_free(c);
    if (c->fds[0] >= 0) {
        close(c->fds[0]);
        close(c->fds[1]);
    }
    pthread_mutex_destroy(&c->mutex);
    arena_fini(&c->scratch);
    heap_free(h, c->issues.items, ISSUES_MAX * sizeof(struct issue));
    heap_free(h, c, sizeof(*c));
    heap_release(h);
}

int64_t client_now(const coulomb_client *c)
{
    return c->clock(c->clock_arg);
}

/* --- Errors and log ----------------------------------------------------------------------- */

static int error_vset(coulomb_error *e, int code, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

static int error_vset(coulomb_error *e, int code, const char *format, va_list args)
{
    e->code = code;
    e->key[0] = e->column[0] = '\0';
    if (vsnprintf(e->message, sizeof(e->message), format, args) < 0)
        e->message[0] = '\0';
    return code;
}

int error_set(coulomb_error *e, int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    error_vset(e, code, format, args);
    va_end(args);
    return code;
}

int client_fail(coulomb_client *c, int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    error_vset(&c->error, code, format, args);
    va_end(args);
    return code;
}

int client_no_memory(coulomb_client *c)
{
    return client_fail(c, COULOMB_E_MEMORY, "%s", coulomb_error_text(COULOMB_E_MEMORY));
}

int client_poison(coulomb_client *c, const char *what, const char *file, int line)
{
    c->poisoned = true;
    client_log(c, COULOMB_LOG_ERROR, "event=client.poisoned check=\"%s\" at=%s:%d", what,
               file, line);
    return client_fail(c, COULOMB_E_POISONED,
                       "a bug was found in this client: %s at %s:%d", what, file, line);
}

int client_enter(coulomb_client *c)
{
    if (!pthread_equal(c->owner, pthread_self()))
        return COULOMB_E_THREAD; /* the error struct is the owner's */
    if (c->closed)
        return client_fail(c, COULOMB_E_CLOSED, "the client was closed");
    if (c->poisoned)
        return COULOMB_E_POISONED;
    if (c->locked > 0)
        return client_fail(
            c, COULOMB_E_REENTRY,
            "a key, order, where or draft function may not call the client");
    return COULOMB_OK;
}

void client_log(const coulomb_client *c, int level, const char *format, ...)
{
    char line[512];
    va_list args;

    if (!c->log)
        return;
    va_start(args, format);
    if (vsnprintf(line, sizeof(line), format, args) >= 0)
        c->log(level, line, c->log_arg);
    va_end(args);
}

int options_read(coulomb_client *c, void *ours, size_t size, const void *given,
                 const char *what)
{
    size_t n;

    memset(ours, 0, size);
    if (!given)
        return COULOMB_OK;
    memcpy(&n, given, sizeof(n));
    if (n < sizeof(n) || n > OPTIONS_SIZE_MAX)
        return client_fail(c, COULOMB_E_ARGUMENT,
                           "%s: the options' size is %zu; coulomb_options_init sets it",
                           what, n);
    memcpy(ours, given, n < size ? n : size);
    return COULOMB_OK;
}

/* --- Tasks, timers, registrations ------------------------------------------------------------ */

void client_wake(coulomb_client *c)
{
    pthread_mutex_lock(&c->mutex);
    if (!c->signalled) {
        c->signalled = true;
        /* A full pipe is readable, too; nothing else can be done about a failure here. */
        if (c->fds[1] >= 0 && write(c->fds[1], "", 1) < 0)
            c->signalled = errno == EAGAIN;
    }
    pthread_mutex_unlock(&c->mutex);
}

void task_init(struct task *t, coulomb_client *c, int (*run)(struct task *t))
{
    list_init(&t->link);
    t->run = run;
    t->client = c;
}

void task_queue(struct task *t)
{
    if (!list_empty(&t->link) || t->client->closed)
        return;
    list_push(&t->client->tasks, &t->link);
    client_wake(t->client);
}

void task_cancel(struct task *t)
{
    list_remove(&t->link);
}

void timer_init(struct timer *t, coulomb_client *c, void (*fire)(struct timer *t))
{
    list_init(&t->link);
    t->fire = fire;
    t->client = c;
    t->deadline_ms = 0;
}

void timer_set(struct timer *t, int64_t deadline_ms)
{
    struct list *at;

    list_remove(&t->link);
    if (t->client->closed)
        return;
    t->deadline_ms = deadline_ms;
    /* Behind those of the same time: timers fire in the order in which they were set. */
    for (at = t->client->timers.prev; at != &t->client->timers; at = at->prev) {
        if (LIST_ENTRY(at, struct timer, link)->deadline_ms <= deadline_ms)
            break;
    }
    t->link.prev = at;
    t->link.next = at->next;
    at->next->prev = &t->link;
    at->next = &t->link;
}

void timer_cancel(struct timer *t)
{
    list_remove(&t->link);
}

bool timer_is_set(const struct timer *t)
{
    return !list_empty(&t->link);
}

int64_t timer_after(const coulomb_client *c, int64_t wait_ms)
{
    int64_t now = client_now(c);

    if (wait_ms < 0)
        wait_ms = 0;
    return now > INT64_MAX - wait_ms ? INT64_MAX : now + wait_ms;
}

void registration_add(coulomb_client *c, struct registration *r, struct list *owner,
                      coulomb_token *token)
{
    list_init(&r->link);
    list_init(&r->all);
    r->token = ++c->last_token;
    list_push(owner, &r->link);
    list_push(&c->registrations, &r->all);
    c->registration_count++;
    if (token)
        *token = r->token;
}

void registration_remove(coulomb_client *c, struct registration *r)
{
    list_remove(&r->link);
    list_remove(&r->all);
    c->registration_count--;
}

void coulomb_off(coulomb_client *c, coulomb_token token)
{
    /* Newest first: those that come and go are at the end. */
    for (struct list *l = c->registrations.prev; l != &c->registrations; l = l->prev) {
        struct registration *r = LIST_ENTRY(l, struct registration, all);

        if (r->token == token) {
            r->drop(r);
            return;
        }
    }
}

/* --- The poll ------------------------------------------------------------------------------- */

/* The mutex is held. */
static void append_post(coulomb_client *c, struct post *p)
{
    p->next = NULL;
    *c->posts_end = p;
    c->posts_end = &p->next;
}

int coulomb_post(coulomb_client *c, void (*fn)(coulomb_client *c, void *arg), void *arg)
{
    struct post *p = heap_shared(c->heap, NULL, sizeof(*p));

    if (!p)
        return COULOMB_E_MEMORY;
    *p = (struct post){.fn = fn, .arg = arg};
    pthread_mutex_lock(&c->mutex);
    append_post(c, p);
    pthread_mutex_unlock(&c->mutex);
    client_wake(c);
    return COULOMB_OK;
}

void client_post(coulomb_client *c, struct post *p)
{
    pthread_mutex_lock(&c->mutex);
    if (!p->queued) {
        p->embedded = p->queued = true;
        append_post(c, p);
    }
    pthread_mutex_unlock(&c->mutex);
    client_wake(c);
}

static struct post *take_posts(coulomb_client *c)
{
    struct post *all;
    char drain[16];

    pthread_mutex_lock(&c->mutex);
    all = c->posts;
    c->posts = NULL;
    c->posts_end = &c->posts;
    if (c->signalled && c->fds[0] >= 0 && read(c->fds[0], drain, sizeof(drain)) < 0 &&
        errno != EAGAIN)
        client_log(c, COULOMB_LOG_ERROR, "event=client.drain error=%d", errno);
    c->signalled = false;
    pthread_mutex_unlock(&c->mutex);
    return all;
}

/* The client closes: they are told once nothing that they belong to is used any more. */
static void put_back(coulomb_client *c, struct post *all)
{
    struct post **end = &all;

    while (*end)
        end = &(*end)->next;
    pthread_mutex_lock(&c->mutex);
    *end = c->posts;
    if (!c->posts)
        c->posts_end = end;
    c->posts = all;
    pthread_mutex_unlock(&c->mutex);
}

static int run_posts(coulomb_client *c)
{
    struct post *all = take_posts(c);
    int ran = 0;

    while (all && !c->closing) {
        struct post *p = all;

        all = p->next;
        if (p->embedded) {
            /* From here on it may be queued again; its owner may free it. */
            pthread_mutex_lock(&c->mutex);
            p->queued = false;
            pthread_mutex_unlock(&c->mutex);
            p->fn(c, p->arg);
            ran++;
            continue;
        }
        p->fn(c, p->arg);
        ran++;
        heap_shared_free(c->heap, p);
    }
    if (all)
        put_back(c, all);
    return ran;
}

/* Moves all of from behind to. */
static void list_splice(struct list *to, struct list *from)
{
    while (!list_empty(from))
        list_push(to, list_pop(from));
}

static int run_tasks(coulomb_client *c)
{
    struct list due;
    int ran = 0;

    list_init(&due);
    list_splice(&due, &c->tasks);
    while (!list_empty(&due) && !c->closing && !c->poisoned) {
        struct task *t = LIST_ENTRY(list_pop(&due), struct task, link);

        if (t->run(t) == COULOMB_E_MEMORY) {
            list_remove(&t->link); /* should it have queued itself */
            /* It goes on where it stopped, before what came later. */
            struct list first;

            list_init(&first);
            list_push(&first, &t->link);
            list_splice(&first, &due);
            list_splice(&first, &c->tasks);
            list_splice(&c->tasks, &first);
            client_wake(c);
            return client_no_memory(c);
        }
        ran++;
    }
    list_splice(&c->tasks, &due);
    return ran;
}

static int run_timers(coulomb_client *c)
{
    int64_t now = client_now(c);
    int ran = 0;

    while (!list_empty(&c->timers) && !c->closing && !c->poisoned) {
        struct timer *t = LIST_ENTRY(c->timers.next, struct timer, link);

        if (t->deadline_ms > now)
            break;
        list_remove(&t->link);
        t->fire(t);
        ran++;
    }
    return ran;
}

int coulomb_poll(coulomb_client *c)
{
    int (*const steps[])(coulomb_client *) = {run_posts, run_tasks, run_timers,
                                              c->deliver};
    int ran = 0;
    int code = client_enter(c);

    if (code != COULOMB_OK)
        return code;
    if (c->polling)
        return client_fail(c, COULOMB_E_REENTRY,
                           "coulomb_poll inside one of its callbacks");
    c->polling = true;
    /* What waits to be told is told even when memory is out: a full queue would else stay full. */
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        int more = 0;

        if (!c->closing && !c->poisoned && (code >= 0 || steps[i] == c->deliver))
            more = steps[i](c);
        ran += more > 0 ? more : 0;
        if (code >= 0 && more < 0)
            code = more;
    }
    c->polling = false;
    if (c->closing) {
        c->closing = false;
        c->close(c);
        return ran;
    }
    if (c->poisoned)
        return COULOMB_E_POISONED;
    if (code < 0)
        client_wake(c);
    return code < 0 ? code : ran;
}

int coulomb_pending(const coulomb_client *client)
{
    coulomb_client *c = (coulomb_client *)(uintptr_t)client; /* for its lock */
    bool posted;

    if (c->closed)
        return 0;
    pthread_mutex_lock(&c->mutex);
    posted = c->signalled || c->posts;
    pthread_mutex_unlock(&c->mutex);
    if (posted || !list_empty(&c->tasks) || !list_empty(&c->batches))
        return 1;
    return coulomb_next_deadline(c) <= client_now(c);
}

int64_t coulomb_next_deadline(const coulomb_client *c)
{
    if (c->closed || list_empty(&c->timers))
        return INT64_MAX;
    return LIST_ENTRY(c->timers.next, struct timer, link)->deadline_ms;
}

int coulomb_fd(coulomb_client *c)
{
    int code = client_enter(c);

    if (code != COULOMB_OK)
        return code;
    pthread_mutex_lock(&c->mutex);
    if (c->fds[0] < 0) {
        if (pipe2(c->fds, O_CLOEXEC | O_NONBLOCK) != 0) {
            c->fds[0] = c->fds[1] = -1;
            code = COULOMB_E_IO;
        } else if (c->signalled && write(c->fds[1], "", 1) < 0) {
            code = COULOMB_E_IO;
        }
    }
    pthread_mutex_unlock(&c->mutex);
    if (code != COULOMB_OK)
        return client_fail(c, code, "no descriptor could be made");
    return c->fds[0];
}

const coulomb_error *coulomb_last_error(const coulomb_client *c)
{
    return &c->error;
}
