/* How often one subject may ask: a token bucket each, in a bounded table. Any thread. */
#ifndef COULOMB_SERVER_GATE_RATE_H
#define COULOMB_SERVER_GATE_RATE_H

#include "base/slice.h"

struct rate;

/* per_second > 0: as many requests in the long run, twice as many at once. At most max_subjects are
 * remembered; the one heard of least recently is forgotten for a new one, and so begins anew. */
struct rate *rate_new(unsigned per_second, size_t max_subjects);
void rate_free(struct rate *rate);
/* 0: go on. Else the milliseconds after which one more request would be let through. */
int64_t rate_take(struct rate *rate, struct slice subject, int64_t now_ms);

#endif
