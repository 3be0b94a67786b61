/* Admission control (shape-protocol.md 8.2): two counters with limits, any thread. */
#ifndef COULOMB_SERVER_HTTP_ADMISSION_H
#define COULOMB_SERVER_HTTP_ADMISSION_H

#include <stdatomic.h>

#include "server/obs/obs.h"

enum permit { PERMIT_NONE, PERMIT_INITIAL, PERMIT_EXISTING };

struct admission {
    atomic_uint held[3]; /* by enum permit */
    unsigned limit[3];
    struct obs *obs;
};

void admission_init(struct admission *a, unsigned max_initial, unsigned max_existing,
                    struct obs *obs);
bool admission_enter(struct admission *a, enum permit which);
void admission_leave(struct admission *a, enum permit which);
/* Trades an initial permit for an existing one; keeps it when that class is full. */
enum permit admission_swap(struct admission *a, enum permit held);

#endif
