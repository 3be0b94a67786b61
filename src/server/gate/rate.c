/* See rate.h. A bucket is kept as the time at which it will be full (the "generic cell rate
 * algorithm"): one number, no timer. */
#include "server/gate/rate.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/map.h"

#define BURST_MS 2000

struct bucket {
    struct list link;
    int64_t
        full_at_us; /* in micros: up to a million requests a second can be told apart */
    char subject[];
};

struct rate {
    pthread_mutex_t lock;
    struct map buckets;
    struct list used; /* last: heard of most recently */
    size_t max_subjects;
    int64_t step_us;
};

struct rate *rate_new(unsigned per_second, size_t max_subjects)
{
    struct rate *rate = calloc(1, sizeof *rate);

    if (!rate)
        return NULL;
    pthread_mutex_init(&rate->lock, NULL);
    map_init(&rate->buckets);
    list_init(&rate->used);
    rate->max_subjects = max_subjects;
    rate->step_us = 1000000 / per_second > 0 ? 1000000 / per_second : 1;
    return rate;
}

/* Under the lock. */
static void drop_first(struct rate *rate)
{
    struct bucket *b = LIST_ENTRY(list_pop(&rate->used), struct bucket, link);

    map_del(&rate->buckets, slice_of(b->subject));
    free(b);
}

void rate_free(struct rate *rate)
{
    if (!rate)
        return;
    while (!list_empty(&rate->used))
        drop_first(rate);
    map_fini(&rate->buckets);
    pthread_mutex_destroy(&rate->lock);
    free(rate);
}

/* Under the lock; NULL: out of memory. The subject holds no NUL. */
static struct bucket *find(struct rate *rate, struct slice subject)
{
    struct bucket *b = map_get(&rate->buckets, subject);

    if (b) {
        list_remove(&b->link);
        list_push(&rate->used, &b->link);
        return b;
    }
    while (rate->buckets.len >= rate->max_subjects)
        drop_first(rate);
    b = calloc(1, sizeof *b + subject.len + 1);
    if (!b)
        return NULL;
    if (subject.len > 0)
        memcpy(b->subject, subject.ptr, subject.len);
    list_init(&b->link);
    if (map_put(&rate->buckets, slice_of(b->subject), b, NULL) != 0) {
        free(b);
        return NULL;
    }
    list_push(&rate->used, &b->link);
    return b;
}

int64_t rate_take(struct rate *rate, struct slice subject, int64_t now_ms)
{
    int64_t now_us = now_ms * 1000;
    int64_t wait_us = 0;

    pthread_mutex_lock(&rate->lock);
    struct bucket *b = find(rate, subject);
    if (b) {
        int64_t from_us = b->full_at_us > now_us ? b->full_at_us : now_us;

        wait_us = from_us + rate->step_us - now_us - (int64_t)BURST_MS * 1000;
        if (wait_us <= 0)
            b->full_at_us = from_us + rate->step_us;
    }
    pthread_mutex_unlock(&rate->lock);
    return wait_us > 0 ? wait_us / 1000 + 1 : 0;
}
