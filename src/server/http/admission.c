#include "server/http/admission.h"

void admission_init(struct admission *a, unsigned max_initial, unsigned max_existing,
                    struct obs *obs)
{
    for (unsigned i = 0; i < 3; i++)
        atomic_init(&a->held[i], 0);
    a->limit[PERMIT_NONE] = 0;
    a->limit[PERMIT_INITIAL] = max_initial;
    a->limit[PERMIT_EXISTING] = max_existing;
    a->obs = obs;
}

static enum obs_gauge gauge_of(enum permit which)
{
    return which == PERMIT_INITIAL ? OBS_G_REQUESTS_INITIAL : OBS_G_REQUESTS_EXISTING;
}

bool admission_enter(struct admission *a, enum permit which)
{
    unsigned held = atomic_load(&a->held[which]);

    /* Never above the limit, not even for a moment: that would refuse others. */
    do {
        if (held >= a->limit[which])
            return false;
    } while (!atomic_compare_exchange_weak(&a->held[which], &held, held + 1));
    obs_add(a->obs, gauge_of(which), 1);
    return true;
}

void admission_leave(struct admission *a, enum permit which)
{
    if (which == PERMIT_NONE)
        return;
    atomic_fetch_sub(&a->held[which], 1);
    obs_add(a->obs, gauge_of(which), -1);
}

enum permit admission_swap(struct admission *a, enum permit held)
{
    if (held != PERMIT_INITIAL || !admission_enter(a, PERMIT_EXISTING))
        return held;
    admission_leave(a, held);
    return PERMIT_EXISTING;
}
