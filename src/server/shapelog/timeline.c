/* See timeline.h. Simple: what is in the logs that exist was visible; what a removed shape
 * showed is not remembered. */
#include "server/shapelog/timeline.h"

#include <inttypes.h>
#include <stdio.h>

#include "server/shapelog/internal.h"

static void take_highest(void *ctx, struct shapelog_shape *shape, struct slice definition)
{
    uint64_t *highest = ctx;
    struct offset at = shapelog_committed(shape);

    (void)definition;
    if (at.tx > *highest)
        *highest = at.tx;
}

uint64_t shapelog_visible_lsn(struct shapelog *log)
{
    uint64_t highest = 0;

    shapelog_each(log, take_highest, &highest);
    return highest;
}

int shapelog_origin_follow(struct shapelog *log, uint32_t timeline, struct err *err)
{
    char text[16];
    int rc;

    snprintf(text, sizeof(text), "%" PRIu32, timeline);
    pthread_mutex_lock(&log->meta_lock);
    rc = shapelog_meta_put(log->meta, "origin.timeline", text, err);
    pthread_mutex_unlock(&log->meta_lock);
    if (rc == 0)
        log->origin.timeline = timeline;
    return rc;
}
