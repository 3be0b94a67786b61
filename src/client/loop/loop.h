/* The client as a loop: tasks, timers, posts, registrations, the last error. Internal; the modules
 * above hang their objects into its lists. One thread, but for posts. */
#ifndef COULOMB_CLIENT_LOOP_LOOP_H
#define COULOMB_CLIENT_LOOP_LOOP_H

#include <pthread.h>
#include <stdbool.h>

#include "base/arena.h"
#include "base/list.h"
#include "client/loop/heap.h"

/* Work for the next poll, embedded in what it is about, so that queueing can't fail. run returns
 * COULOMB_E_MEMORY to be run again in a later poll. */
struct task {
    struct list link;
    int (*run)(struct task *t);
    coulomb_client *client;
};

/* Embedded likewise. */
struct timer {
    struct list link; /* in client.timers, by deadline */
    int64_t deadline_ms;
    void (*fire)(struct timer *t);
    coulomb_client *client;
};

/* What a token stands for: in its owner's list and in the client's. */
struct registration {
    struct list link; /* of the owner */
    struct list all;  /* of the client */
    coulomb_token token;
    void (*drop)(struct registration *r); /* takes it out and frees it */
};

struct post {
    struct post *next;
    void (*fn)(coulomb_client *c, void *arg);
    void *arg;
    bool embedded; /* client_post's: its owner's memory */
    bool queued;   /* of those, under the client's mutex */
};

struct issue {
    char column[64];
    char message[192];
};

#define ISSUES_MAX 64

struct coulomb_issues {
    coulomb_client *client;
    struct issue *items; /* of ISSUES_MAX */
    size_t count;
};

/* Owner: the app's thread. Lifetime: refs counts the handles that may still be used, and one for
 * being open.
 *
 *   open ──coulomb_client_close──▶ closed ──last handle──▶ freed
 *    └──a bug is found──▶ poisoned ──close──▶ closed */
struct coulomb_client {
    struct heap *heap;
    size_t refs;
    bool closed;
    bool closing; /* close was called in a poll */
    bool poisoned;
    bool polling;
    unsigned locked; /* a functional argument is running */
    pthread_t owner;
    coulomb_clock_fn clock;
    void *clock_arg;
    coulomb_log_fn log;
    void *log_arg;
    size_t queued_changes_max;
    size_t tx_mutations_max;
    bool compat;   /* COULOMB_COMPAT_TANSTACK */
    uint64_t seed; /* of hashes */

    struct list tasks;
    struct list timers;
    struct list registrations;
    coulomb_token last_token;

    /* Of the modules above. */
    struct list collections;
    struct list transactions;
    struct list paced;
    struct list batches; /* changes that wait for the poll */
    size_t queued_changes;
    uint64_t last_batch;
    uint64_t last_id;
    struct coulomb_tx *ambient; /* top of the stack */
    struct net *net;            /* NULL until something reads from a server */
    void (*net_close)(coulomb_client *c);
    struct shapes *shapes; /* what streams remember of shapes; NULL likewise */
    void (*shapes_free)(coulomb_client *c);
    struct list servers; /* of server/ */
    void (*servers_close)(coulomb_client *c);
    size_t collection_count;
    size_t tx_count;
    size_t sub_count;
    size_t registration_count;
    int (*deliver)(coulomb_client *c); /* hands out batches */
    void (*close)(coulomb_client *c);  /* coulomb_client_close */
    void (*tx_hold)(struct coulomb_tx *tx, bool hold);
    void (*tx_progress)(struct coulomb_tx *tx); /* a mutation's state changed */

    struct arena scratch; /* of parsers, reset by each call */
    coulomb_error error;
    struct coulomb_issues issues;

    pthread_mutex_t mutex; /* of what follows: other threads post */
    struct post *posts;
    struct post **posts_end;
    int fds[2]; /* -1 until coulomb_fd */
    bool signalled;
};

/* Everything but what the modules above put in. */
int client_new(const coulomb_client_options *options, coulomb_client **out);
/* The one way to fail: fills the last error, returns code. */
int client_fail(coulomb_client *c, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int client_no_memory(coulomb_client *c);
/* Fills an error that is not the client's. */
int error_set(coulomb_error *e, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Every public function that changes something begins with it: thread, closed, poisoned, locked. */
int client_enter(coulomb_client *c);
/* A bug: the client is good for nothing any more. Returns COULOMB_E_POISONED. */
int client_poison(coulomb_client *c, const char *what, const char *file, int line);
#define CLIENT_CHECK(c, condition)                                                       \
    ((condition) ? 0 : client_poison((c), #condition, __FILE__, __LINE__))

/* What clang's analyzer can't see for itself: these return their code, and so not 0. */
#if defined(__clang_analyzer__) && !defined(LOOP_DEFINES_FAILURES)
#define client_fail(c, code, ...) (client_fail((c), (code), __VA_ARGS__), (code))
#define error_set(e, code, ...)   (error_set((e), (code), __VA_ARGS__), (code))
#define client_no_memory(c)       (client_no_memory(c), COULOMB_E_MEMORY)
#endif

void client_retain(coulomb_client *c);
void client_release(coulomb_client *c);
int64_t client_now(const coulomb_client *c);
void client_log(const coulomb_client *c, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Makes the descriptor readable. */
void client_wake(coulomb_client *c);

/* coulomb_post for what has its post embedded, so that it can't fail: queued once, however often.
 * Any thread, until the client is closed. When the client is gone first, fn gets NULL for it, and
 * only gives up what it holds. */
void client_post(coulomb_client *c, struct post *p);

void task_init(struct task *t, coulomb_client *c, int (*run)(struct task *t));
void task_queue(struct task *t);  /* once, however often */
void task_cancel(struct task *t); /* also one that is not queued */
void timer_init(struct timer *t, coulomb_client *c, void (*fire)(struct timer *t));
void timer_set(struct timer *t, int64_t deadline_ms); /* moves it when set */
void timer_cancel(struct timer *t);
bool timer_is_set(const struct timer *t);
/* now + wait, without overflow. */
int64_t timer_after(const coulomb_client *c, int64_t wait_ms);

void registration_add(coulomb_client *c, struct registration *r, struct list *owner,
                      coulomb_token *token);
/* Takes it out of its lists. */
void registration_remove(coulomb_client *c, struct registration *r);

/* Reads an options struct of any version into one of ours. COULOMB_E_ARGUMENT. */
int options_read(coulomb_client *c, void *ours, size_t size, const void *given,
                 const char *what);

#endif
