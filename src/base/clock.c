/*
 * Clocks. clock_gettime of these two clocks can't fail on a system we run on; if it does,
 * time has no meaning and the process stops.
 */

#include "base/clock.h"

#include <errno.h>
#include <time.h>

#include "base/assert.h"

static int64_t read_us(clockid_t clock)
{
    struct timespec ts;

    ASSERT(clock_gettime(clock, &ts) == 0);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}

int64_t clock_wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

void clock_sleep_ms(int64_t ms)
{
    clock_sleep_us(ms * 1000);
}

void clock_sleep_us(int64_t us)
{
    struct timespec left;

    if (us <= 0)
        return;
    left.tv_sec = (time_t)(us / 1000000);
    left.tv_nsec = (long)(us % 1000000) * 1000;
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
        continue;
}
