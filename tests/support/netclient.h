/* A client that reads from a server: an allocator that other threads may use, counts what is live and
 * can fail; a poll that waits for what it is asked to see. Header only. */
#ifndef COULOMB_TESTS_SUPPORT_NETCLIENT_H
#define COULOMB_TESTS_SUPPORT_NETCLIENT_H

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "coulomb/client.h"

#define OK(call) assert_int_equal((call), COULOMB_OK)

struct net_heap {
    atomic_size_t live;
    atomic_size_t calls;
    size_t fail_at; /* set while nothing runs; 0: none */
    atomic_bool failed;
};

static inline void *net_heap_realloc(void *ptr, size_t size, void *arg)
{
    struct net_heap *h = arg;
    void *fresh;

    if (atomic_fetch_add(&h->calls, 1) + 1 == h->fail_at) {
        atomic_store(&h->failed, true);
        return NULL;
    }
    fresh = realloc(ptr, size);
    if (!ptr && fresh)
        atomic_fetch_add(&h->live, 1);
    return fresh;
}

static inline void net_heap_free(void *ptr, void *arg)
{
    struct net_heap *h = arg;

    if (ptr)
        atomic_fetch_sub(&h->live, 1);
    free(ptr);
}

/* The client's clock stands still unless a test moves it, so that timers fire when it says. */
static inline int64_t net_clock(void *arg)
{
    return *(int64_t *)arg;
}

static inline int net_client_open(struct net_heap *h, int64_t *now_ms, coulomb_client **c)
{
    coulomb_client_options o;

    coulomb_options_init(&o, sizeof(o));
    o.allocator = (coulomb_allocator){net_heap_realloc, net_heap_free, h};
    if (now_ms) {
        o.clock = net_clock;
        o.clock_arg = now_ms;
    }
    return coulomb_client_open(&o, c);
}

/* Polls until seen(arg); the test fails after 20 s. */
static inline void poll_until(coulomb_client *c, bool (*seen)(void *arg), void *arg)
{
    int64_t end = clock_mono_ms() + 20000;

    for (;;) {
        struct pollfd p = {.fd = coulomb_fd(c), .events = POLLIN};
        int ran = coulomb_poll(c);

        if (ran < 0 && ran != COULOMB_E_MEMORY)
            fail_msg("poll: %d", ran);
        if (seen(arg))
            return;
        if (clock_mono_ms() > end)
            fail_msg("what the test waits for did not come");
        if (!coulomb_pending(c))
            poll(&p, 1, 20);
    }
}

#endif
